//! What a program spells out though the language has an instruction for it: a warning names that one.
//!
//! The analysis proves what instructions say, not every way to write them: a rotation, a byte swap, a sum
//! modulo a number or a saturating one runs in vectors where it is written as such. So the patterns here are
//! few and plain.

use crate::ir::{BinaryOp, Block, CompareOp, ConvertOp, ModOp, Op, Ty, Value};

/// Instructions whose results are better written otherwise: what each is, and what to write.
pub(super) fn written_by_hand(block: &Block) -> Vec<(Value, &'static str, String)> {
    let look = ByHand { block };
    let bytes = look.bytes();
    let found = |(value, _)| {
        look.byte_swap(value, &bytes)
            .or_else(|| look.rotation(value))
            .or_else(|| look.sum_modulo(value))
            .or_else(|| look.end_around(value))
            .or_else(|| look.saturation(value))
            .map(|(what, write)| (value, what, write))
    };
    block.iter().filter_map(found).collect()
}

/// What something is, and what to write for it.
type Found = Option<(&'static str, String)>;

/// For each byte of a value, from the lowest: a byte of another value, or zero.
type Bytes = [Option<(Value, u8)>; 8];

struct ByHand<'a> {
    block: &'a Block,
}

impl ByHand<'_> {
    fn op(&self, value: Value) -> Op {
        self.block.inst(value).op
    }

    fn literal(&self, value: Value) -> Option<u64> {
        self.block.literal(value)
    }

    /// Whether both are one value, or the same literal.
    fn same(&self, a: Value, b: Value) -> bool {
        a == b || self.literal(a).is_some() && self.literal(a) == self.literal(b)
    }

    /// `a op b`, if `value` is that.
    fn binary(&self, op: BinaryOp, value: Value) -> Option<(Value, Value)> {
        match self.op(value) {
            Op::Binary(found, a, b) if found == op => Some((a, b)),
            _ => None,
        }
    }

    fn converted(&self, op: ConvertOp, value: Value) -> Option<Value> {
        match self.op(value) {
            Op::Convert(found, a) if found == op => Some(a),
            _ => None,
        }
    }

    /// Where each byte of each value comes from, through shifts by whole bytes, masks of them, and what puts
    /// them together.
    fn bytes(&self) -> Vec<Bytes> {
        let mut all: Vec<Bytes> = Vec::with_capacity(self.block.insts.len());
        for (value, inst) in self.block.iter() {
            let size = inst.ty.bytes();
            let of = |value: Value| all[value.0 as usize];
            let whole = |count: Value| match self.literal(count)? % u64::from(inst.ty.bits()) {
                count if count % 8 == 0 => Some(count as usize / 8),
                _ => None,
            };
            let moved = |a: Value, from: &dyn Fn(usize) -> Option<usize>| {
                let at = |byte: usize| from(byte).filter(|from| *from < size).and_then(|from| of(a)[from]);
                Some(std::array::from_fn(|byte| if byte < size { at(byte) } else { None }))
            };
            let found = match inst.op {
                Op::Const(0) => Some([None; 8]),
                Op::Binary(BinaryOp::Shl, a, n) => {
                    whole(n).and_then(|n| moved(a, &|byte| byte.checked_sub(n)))
                }
                Op::Binary(BinaryOp::Shr, a, n) => whole(n).and_then(|n| moved(a, &|byte| Some(byte + n))),
                Op::Binary(BinaryOp::Rotl, a, n) => {
                    whole(n).and_then(|n| moved(a, &|byte| Some((byte + size - n) % size)))
                }
                Op::Binary(BinaryOp::Rotr, a, n) => {
                    whole(n).and_then(|n| moved(a, &|byte| Some((byte + n) % size)))
                }
                Op::Binary(BinaryOp::And, a, b) => [(a, b), (b, a)].into_iter().find_map(|(a, mask)| {
                    let mask = self.literal(mask)?.to_le_bytes();
                    let kept = |byte: usize| (mask[byte] == 0xff).then_some(byte);
                    mask.iter().all(|byte| matches!(byte, 0 | 0xff)).then(|| moved(a, &kept))?
                }),
                Op::Binary(BinaryOp::Or | BinaryOp::Xor | BinaryOp::Add, a, b) => {
                    let (a, b) = (of(a), of(b));
                    let apart = a.iter().zip(b).all(|(a, b)| a.is_none() || b.is_none());
                    apart.then(|| std::array::from_fn(|byte| a[byte].or(b[byte])))
                }
                Op::Convert(ConvertOp::Zext, a) if self.block.ty(a).is_integer() => Some(of(a)),
                Op::Convert(ConvertOp::Trunc, a) if inst.ty.is_integer() => moved(a, &Some),
                _ => None,
            };
            let itself = |byte: usize| (byte < size).then_some((value, byte as u8));
            all.push(found.unwrap_or_else(|| std::array::from_fn(itself)));
        }
        all
    }

    /// All bytes of a value of the same type, in the other order.
    fn byte_swap(&self, value: Value, bytes: &[Bytes]) -> Found {
        let ty = self.block.ty(value);
        let size = ty.bytes();
        let bytes = &bytes[value.0 as usize];
        let (of, _) = bytes[0].filter(|_| ty > Ty::U8)?;
        let swapped = (0..size).all(|byte| bytes[byte] == Some((of, (size - 1 - byte) as u8)));
        (swapped && self.block.ty(of) == ty).then(|| ("a byte swap", "`bswap d, a`".to_owned()))
    }

    /// `a << n | a >> w - n`; the two halves may be added, too.
    fn rotation(&self, value: Value) -> Found {
        let Op::Binary(BinaryOp::Or | BinaryOp::Xor | BinaryOp::Add, a, b) = self.op(value) else {
            return None;
        };
        let width = u64::from(self.block.ty(value).bits());
        [(a, b), (b, a)].into_iter().find_map(|(up, down)| {
            let (x, n) = self.binary(BinaryOp::Shl, up)?;
            let (y, m) = self.binary(BinaryOp::Shr, down)?;
            let rest = |n: Value, m: Value| {
                self.binary(BinaryOp::Sub, m)
                    .is_some_and(|(w, of)| self.literal(w).is_some_and(|w| w % width == 0) && of == n)
            };
            let write = match (self.literal(n), self.literal(m)) {
                (Some(n), Some(m)) if n > 0 && n.checked_add(m) == Some(width) => format!("`rotl d, a, {n}`"),
                _ if rest(n, m) => "`rotl d, a, n`".to_owned(),
                _ if rest(m, n) => "`rotr d, a, n`".to_owned(),
                _ => return None,
            };
            self.same(x, y).then_some(("a rotation", write))
        })
    }

    /// A choice by comparing: `a < b ? then : otherwise`, or by `a <= b`.
    fn choice(&self, value: Value) -> Option<(CompareOp, [Value; 2], [Value; 2])> {
        let Op::Select { cond, then, otherwise } = self.op(value) else { return None };
        let Op::Compare(op, a, b) = self.op(cond) else { return None };
        Some(match op {
            // Not b < a.
            CompareOp::Leu => (CompareOp::Ltu, [b, a], [otherwise, then]),
            op => (op, [a, b], [then, otherwise]),
        })
    }

    /// `t = a + b; t < m ? t : t - m`.
    fn sum_modulo(&self, value: Value) -> Found {
        let found = Some(("a sum modulo a number, of terms below it", "`addmod d, a, b, m`".to_owned()));
        let is_sum = |t: Value| self.binary(BinaryOp::Add, t).is_some();
        // `(a + b) mod m` in two steps.
        if let Op::Modular(ModOp::Addmod, t, zero, _) = self.op(value)
            && self.literal(zero) == Some(0)
            && is_sum(t)
        {
            return found;
        }
        let (CompareOp::Ltu, [low, high], arms) = self.choice(value)? else { return None };
        // m - 1 < t says the same as m <= t.
        let less = |a: Value, m: Value| match (self.literal(a), self.literal(m)) {
            (Some(a), Some(m)) => a == m || a.checked_add(1) == Some(m),
            _ => a == m,
        };
        let fits = |t: Value, below: Value, kept: Value, reduced: Value| {
            let by = match self.op(reduced) {
                Op::Binary(BinaryOp::Sub, of, m) if of == t => Some(m),
                _ => None,
            };
            kept == t && by.is_some_and(|m| less(below, m)) && is_sum(t)
        };
        found.filter(|_| fits(low, high, arms[0], arms[1]) || fits(high, low, arms[1], arms[0]))
    }

    /// `t = a + b; (t mod 2^w) + (t >> w)` in a type of more than `w` bits.
    fn end_around(&self, value: Value) -> Found {
        let (a, b) = self.binary(BinaryOp::Add, value)?;
        [(a, b), (b, a)].into_iter().find_map(|(low, high)| {
            let (t, width) = self.binary(BinaryOp::Shr, high)?;
            let (x, mask) = self.binary(BinaryOp::And, low)?;
            let width = self.literal(width)?;
            let ty = Ty::INTEGERS.into_iter().find(|ty| u64::from(ty.bits()) == width)?;
            let fits =
                x == t && self.literal(mask) == Some(ty.mask()) && self.binary(BinaryOp::Add, t).is_some();
            fits.then(|| ("a sum with its carry added at the other end", format!("`addc d, a, b` on `{ty}`")))
        })
    }

    fn saturation(&self, value: Value) -> Found {
        let ty = self.block.ty(value);
        if !ty.is_integer() {
            return None;
        }
        let most = |value: Value| self.literal(value) == Some(ty.mask());
        let sum = Some(("a sum that stops at the largest number", "`adds d, a, b`".to_owned()));
        let difference = Some(("a difference that stops at zero", "`subs d, a, b`".to_owned()));
        if let Some((op, [low, high], [then, otherwise])) = self.choice(value) {
            let is_sum = |t: Value, term: Value| {
                self.binary(BinaryOp::Add, t).is_some_and(|(a, b)| self.same(a, term) || self.same(b, term))
            };
            let is_difference = |d: Value, a: Value, b: Value| {
                self.binary(BinaryOp::Sub, d).is_some_and(|(x, y)| self.same(x, a) && self.same(y, b))
            };
            let one_more = |t: Value, s: Value| {
                let one = |value: Value| self.literal(value) == Some(1);
                self.binary(BinaryOp::Add, t).is_some_and(|(a, b)| a == s && one(b) || b == s && one(a))
            };
            let full = |kept: Value, s: Value, more: Value| (kept == s || most(kept)) && one_more(more, s);
            return match op {
                // The carry out: the sum is less than a term.
                CompareOp::Ltu if most(then) && otherwise == low && is_sum(low, high) => sum,
                CompareOp::Ltu if self.literal(then) == Some(0) && is_difference(otherwise, low, high) => {
                    difference
                }
                CompareOp::Ltu if self.literal(otherwise) == Some(0) && is_difference(then, high, low) => {
                    difference
                }
                // One more, unless there is no more.
                CompareOp::Ltu if most(high) && full(otherwise, low, then) => sum,
                CompareOp::Eq if most(high) && full(then, low, otherwise) => sum,
                CompareOp::Ne if most(high) && full(otherwise, low, then) => sum,
                _ => None,
            };
        }
        if let Some((a, b)) = self.binary(BinaryOp::Sub, value) {
            let least =
                self.binary(BinaryOp::Min, b).is_some_and(|(x, y)| self.same(x, a) || self.same(y, a));
            let above =
                self.binary(BinaryOp::Max, a).is_some_and(|(x, y)| self.same(x, b) || self.same(y, b));
            return if least || above { difference } else { None };
        }
        // Computed in a wider type, and cut down to this one.
        let wide = self.converted(ConvertOp::Trunc, value)?;
        let bound = |op: BinaryOp, value: Value, to: u64| {
            let (a, b) = self.binary(op, value)?;
            let to = Some(to & self.block.ty(value).mask());
            if self.literal(b) == to { Some(a) } else { (self.literal(a) == to).then_some(b) }
        };
        let extended = |op: ConvertOp, value: Value| {
            let narrow = |value: Value| self.converted(op, value).is_some_and(|of| self.block.ty(of) <= ty);
            let constant = |value: Value| self.literal(value).is_some_and(|c| c <= ty.mask() >> 1);
            let term = |value: Value| narrow(value) || constant(value);
            let Op::Binary(BinaryOp::Add | BinaryOp::Sub, a, b) = self.op(value) else { return false };
            term(a) && term(b) && (narrow(a) || narrow(b))
        };
        if let Some(exact) = bound(BinaryOp::Min, wide, ty.mask())
            && self.binary(BinaryOp::Add, exact).is_some()
            && extended(ConvertOp::Zext, exact)
        {
            return sum;
        }
        let (least, largest) = (!(ty.mask() >> 1), ty.mask() >> 1);
        let clamped = bound(BinaryOp::Smin, wide, largest)
            .and_then(|inner| bound(BinaryOp::Smax, inner, least))
            .or_else(|| {
                bound(BinaryOp::Smax, wide, least).and_then(|inner| bound(BinaryOp::Smin, inner, largest))
            });
        clamped.filter(|exact| extended(ConvertOp::Sext, *exact)).map(|exact| {
            let name = if self.binary(BinaryOp::Add, exact).is_some() { "sadds" } else { "ssubs" };
            ("a result that stops at the ends of its signed type", format!("`{name} d, a, b`"))
        })
    }
}
