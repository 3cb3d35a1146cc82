//! The proof that an update is linear over GF(2), and which CRC it is.
//!
//! Exact, by symbolic evaluation. Every bit of the new state is written as a sum (exclusive or) of bits of
//! the old state, bits of one other value (the *symbol*, usually the word), perhaps the constant one, and
//! perhaps something unknown that reads no state. Nothing is sampled: an instruction for whose bits there is
//! no rule ends the search.
//!
//! The sums over the state's bits are the columns of a matrix M, so `next(s, x) = M s + next(0, x)`. The
//! update is a CRC when there is neither an unknown nor a one, and M and the symbol's part are those that the
//! polynomial read off them gives.

use super::Budget;
use crate::analyse::gf2::{BitMap, Crc, Padding};
use crate::ir::{BinaryOp, Block, CompareOp, ConvertOp, Op, Pipe, StateId, Table, UnaryOp, Value, eval};

/// An update that is linear in the state.
pub(super) struct LinearUpdate {
    pub(super) map: BitMap,
    /// The CRC that it is, and of which value.
    pub(super) crc: Option<(Crc, Value)>,
}

/// A bit as a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    /// Bits of the state.
    state: u64,
    /// Bits of the symbol.
    symbol: u64,
    one: bool,
    /// Something else in which the state takes no part.
    unknown: bool,
}

impl Sum {
    const ZERO: Sum = Sum::constant(false);
    const UNKNOWN: Sum = Sum { unknown: true, ..Sum::ZERO };

    const fn constant(one: bool) -> Sum {
        Sum { state: 0, symbol: 0, one, unknown: false }
    }

    const fn plus(self, other: Sum) -> Sum {
        Sum {
            state: self.state ^ other.state,
            symbol: self.symbol ^ other.symbol,
            one: self.one ^ other.one,
            unknown: self.unknown | other.unknown,
        }
    }

    fn as_constant(self) -> Option<bool> {
        (self.state == 0 && self.symbol == 0 && !self.unknown).then_some(self.one)
    }

    /// The product, which is a sum where one factor is known or the state takes part in neither.
    fn times(self, other: Sum) -> Option<Sum> {
        match (self.as_constant(), other.as_constant()) {
            (Some(one), _) => Some(if one { other } else { Sum::ZERO }),
            (_, Some(one)) => Some(if one { self } else { Sum::ZERO }),
            _ => (self.state == 0 && other.state == 0).then_some(Sum::UNKNOWN),
        }
    }
}

/// The bits of a value, least significant first.
type Bits = Vec<Sum>;

fn number(value: u64, bits: u32) -> Bits {
    (0..bits).map(|bit| Sum::constant(value >> bit & 1 == 1)).collect()
}

fn known(bits: &[Sum]) -> Option<u64> {
    bits.iter()
        .enumerate()
        .try_fold(0, |value, (bit, sum)| Some(value | u64::from(sum.as_constant()?) << bit))
}

fn plus(a: &[Sum], b: &[Sum]) -> Bits {
    a.iter().zip(b).map(|(a, b)| a.plus(*b)).collect()
}

/// The linear map with these images of the basis, applied: `images[i]` is what bit `i` becomes.
fn apply(bits: &[Sum], images: &[u64], width: u32) -> Bits {
    let mut result = number(0, width);
    for (bit, image) in bits.iter().zip(images).filter(|(bit, _)| **bit != Sum::ZERO) {
        for (position, sum) in result.iter_mut().enumerate() {
            if image >> position & 1 == 1 {
                *sum = sum.plus(*bit);
            }
        }
    }
    result
}

/// The tables of a pipe as affine maps over GF(2), looked at once.
pub(super) struct TableMaps<'a> {
    tables: &'a [Table],
    images: Vec<Option<Option<Vec<u64>>>>,
}

impl<'a> TableMaps<'a> {
    pub(super) fn new(tables: &'a [Table]) -> TableMaps<'a> {
        TableMaps { tables, images: vec![None; tables.len()] }
    }

    /// The element at 0, and what each bit of the index adds to it, if that is all there is to the table.
    fn affine(&mut self, table: usize) -> Option<(u64, &[u64])> {
        let values = &self.tables.get(table)?.values;
        let images = self.images[table].get_or_insert_with(|| {
            let images = (0..values.len().trailing_zeros()).map(|bit| values[1 << bit] ^ values[0]);
            let images: Vec<u64> = images.collect();
            // Each element by the one without its lowest index bit.
            let follows =
                |at: usize| values[at] == values[at & (at - 1)] ^ images[at.trailing_zeros() as usize];
            (1..values.len()).all(follows).then_some(images)
        });
        Some((*values.first()?, images.as_deref()?))
    }
}

/// The linear map over GF(2) from the bits of `state` to those of `next`, less what zero becomes, if `next`
/// is such a map and reads nothing but constants beside the state.
pub(crate) fn map_of(pipe: &Pipe, state: StateId, next: Value) -> Option<BitMap> {
    let mut depends: Vec<bool> = Vec::with_capacity(pipe.body.insts.len());
    for inst in &pipe.body.insts {
        let known = inst.op.operands().any(|operand| depends[operand.0 as usize]);
        depends.push(known || inst.op == Op::State(state));
    }
    let invariant = |value: Value| !depends[value.0 as usize];
    let (mut tables, mut budget) = (TableMaps::new(&pipe.tables), Budget::STATE);
    linear(&pipe.body, &mut tables, &invariant, state, next, &mut budget).map(|linear| linear.map)
}

/// Whether (and how) `next` is linear over GF(2) in `state`; `invariant(v)` holds if `v` reads no changing
/// state.
pub(super) fn linear(
    block: &Block,
    tables: &mut TableMaps<'_>,
    invariant: &dyn Fn(Value) -> bool,
    state: StateId,
    next: Value,
    budget: &mut Budget,
) -> Option<LinearUpdate> {
    let cone = cone(block, invariant, next, budget)?;
    let symbols = [symbol(block, &cone, moves_bits), symbol(block, &cone, |_| false)];
    let mut found = None;
    for (at, symbol) in symbols.into_iter().enumerate() {
        if at > 0 && (symbol.is_none() || symbol == symbols[0]) {
            break;
        }
        // A symbol whose zeros are not known may hide what the other one shows.
        let Some(update) = linear_by(block, tables, &cone, symbol, (state, next), budget) else { continue };
        if update.crc.is_some() {
            return Some(update);
        }
        found = found.or(Some(update));
    }
    found
}

/// The same with the bits of `symbol` told apart, of `next` as a function of `state`.
fn linear_by(
    block: &Block,
    tables: &mut TableMaps<'_>,
    cone: &Cone,
    symbol: Option<Value>,
    (state, next): (StateId, Value),
    budget: &mut Budget,
) -> Option<LinearUpdate> {
    let width = block.ty(next).bits();
    let mut values: Vec<Option<Bits>> = vec![None; next.0 as usize + 1];
    for &value in &cone.inner {
        budget.spend(64)?;
        let bits = evaluate(block, tables, &values, value, symbol, state, budget)?;
        values[value.0 as usize] = Some(bits);
    }
    let next = values.pop().flatten()?;
    let images = |part: fn(&Sum) -> u64, bits: u32| -> Vec<u64> {
        let image = |bit: u32| {
            next.iter().enumerate().fold(0, |image, (at, sum)| image | (part(sum) >> bit & 1) << at)
        };
        (0..bits).map(image).collect()
    };
    let map = BitMap { columns: images(|sum| sum.state, width).into() };
    let clean = next.iter().all(|sum| !sum.one && !sum.unknown);
    let crc = symbol.filter(|_| clean && width >= 8).and_then(|symbol| {
        let words = images(|sum| sum.symbol, block.ty(symbol).bits());
        Some((crc_of(&map, &words, width)?, symbol))
    });
    Some(LinearUpdate { map, crc })
}

/// The CRC whose step over a word is these maps: `words[i]` is what bit `i` of the word contributes to a
/// register of `width` bits.
fn crc_of(map: &BitMap, words: &[u64], width: u32) -> Option<Crc> {
    let word_bits = words.len() as u32;
    if word_bits < 8 {
        return None;
    }
    // The bit that comes last is stepped over once: the polynomial itself, at the end of the remainder.
    let (reflected, natural) = (*words.last()?, *words.first()?);
    let reached = map.columns.iter().chain(words).fold(0, |all, image| all | image);
    let length = |value: u64| 64 - value.leading_zeros();
    let from_above = || {
        let bits = length(reflected);
        let poly = reflected.reverse_bits().checked_shr(64 - bits)?;
        Some(Crc { bits, poly, reflected: true, padding: Padding::Message(width - bits) })
    };
    let from_below = || {
        let below = natural.trailing_zeros();
        let poly = natural.checked_shr(below)?;
        Some(Crc { bits: width - below, poly, reflected: false, padding: Padding::Message(below) })
    };
    let dropping = || {
        let bits = length(reached);
        (bits < width).then_some(Crc {
            bits,
            poly: natural,
            reflected: false,
            padding: Padding::Dropped(width - bits),
        })
    };
    [from_above(), from_below(), dropping()].into_iter().flatten().find(|crc| {
        let shifted = |value: u64| (0..word_bits).fold(value, |value, _| crc.step(value));
        let moved = |bit: u32| match crc.padding {
            Padding::Dropped(_) if bit >= crc.bits => 0,
            _ => shifted(1 << bit),
        };
        crc.poly & 1 == 1
            && (0..width).zip(&map.columns).all(|(bit, column)| *column == moved(bit))
            && (0..word_bits).zip(words).all(|(bit, image)| *image == crc.image(bit, word_bits))
    })
}

/// The values that a state takes part in on the way to `next`, ascending, and the others that they read.
struct Cone {
    inner: Vec<Value>,
    rim: Vec<Value>,
}

fn cone(block: &Block, invariant: &dyn Fn(Value) -> bool, next: Value, budget: &mut Budget) -> Option<Cone> {
    budget.spend(next.0 + 1)?;
    let mut reached = vec![false; next.0 as usize + 1];
    reached[next.0 as usize] = true;
    let (mut inner, mut rim) = (Vec::new(), Vec::new());
    for at in (0..=next.0).rev() {
        if !reached[at as usize] {
            continue;
        }
        if invariant(Value(at)) {
            rim.push(Value(at));
        } else {
            inner.push(Value(at));
            block.inst(Value(at)).op.operands().for_each(|operand| reached[operand.0 as usize] = true);
        }
    }
    inner.reverse();
    Some(Cone { inner, rim })
}

/// The one value whose bits make up the rim of the cone, if there is one, seen through changes of width and
/// the operations that `through` accepts.
fn symbol(block: &Block, cone: &Cone, through: fn(BinaryOp) -> bool) -> Option<Value> {
    let mut found = None;
    for value in &cone.rim {
        if let Some(root) = root(block, *value, through)
            && *found.get_or_insert(root) != root
        {
            return None;
        }
    }
    found
}

/// The value under moves of bits; `None` for a literal.
fn root(block: &Block, mut value: Value, through: fn(BinaryOp) -> bool) -> Option<Value> {
    let literal = |v: Value| matches!(block.inst(v).op, Op::Const(_));
    let deep = through(BinaryOp::Xor);
    loop {
        value = match block.inst(value).op {
            Op::Const(_) => return None,
            Op::Convert(_, a) => a,
            Op::Unary(UnaryOp::Not | UnaryOp::Bitrev | UnaryOp::Bswap, a) if deep => a,
            Op::Binary(op, a, b) if literal(b) && through(op) => a,
            _ => return Some(value),
        }
    }
}

/// Whether `op` with a literal on the right is a sum of bits for [`binary`].
const fn moves_bits(op: BinaryOp) -> bool {
    use BinaryOp as B;
    matches!(op, B::Xor | B::And | B::Or | B::Shl | B::Shr | B::Sar | B::Rotl | B::Rotr)
}

fn evaluate(
    block: &Block,
    tables: &mut TableMaps<'_>,
    values: &[Option<Bits>],
    value: Value,
    symbol: Option<Value>,
    state: StateId,
    budget: &mut Budget,
) -> Option<Bits> {
    let inst = block.inst(value);
    let width = inst.ty.bits();
    let mut operands: Vec<Bits> = Vec::with_capacity(3);
    for operand in inst.op.operands() {
        operands.push(match &values[operand.0 as usize] {
            Some(bits) => bits.clone(),
            None => outside(block, operand, symbol, budget)?,
        });
    }
    match (inst.op, &operands[..]) {
        (Op::State(id), _) => {
            (id == state).then(|| (0..width).map(|bit| Sum { state: 1 << bit, ..Sum::ZERO }).collect())
        }
        (Op::Unary(op, _), [a]) => unary(op, a),
        (Op::Binary(op, ..), [a, b]) => {
            if matches!(op, BinaryOp::Clmul | BinaryOp::Clmulh | BinaryOp::Mul) {
                budget.spend(4096)?;
            }
            binary(op, a, b)
        }
        (Op::Compare(op, ..), [a, b]) => compare(op, a, b).map(|bit| vec![bit]),
        (Op::Select { .. }, [cond, then, otherwise]) => {
            let chosen: Option<Bits> = plus(then, otherwise).iter().map(|sum| sum.times(cond[0])).collect();
            Some(plus(&chosen?, otherwise))
        }
        (Op::Convert(op, _), [a]) => {
            let fill = if op == ConvertOp::Sext { *a.last()? } else { Sum::ZERO };
            Some((0..width as usize).map(|bit| a.get(bit).copied().unwrap_or(fill)).collect())
        }
        (Op::Lookup(table, _), [index]) => {
            budget.spend(1024)?;
            let (first, images) = tables.affine(table.0 as usize)?;
            let reached = &index[..images.len().min(index.len())];
            Some(plus(&apply(reached, images, width), &number(first, width)))
        }
        (Op::Crc(op, _, x), [acc, bits]) => {
            budget.spend(4096)?;
            let ty = block.ty(x);
            let from_acc: Vec<u64> = (0..32).map(|bit| eval::crc(op, ty, 1 << bit, 0)).collect();
            let from_x: Vec<u64> = (0..ty.bits()).map(|bit| eval::crc(op, ty, 0, 1 << bit)).collect();
            Some(plus(&apply(acc, &from_acc, 32), &apply(bits, &from_x, 32)))
        }
        _ => None,
    }
}

/// A value that does not read the state: the bits of the symbol where it is a sum of them, otherwise unknown.
fn outside(block: &Block, value: Value, symbol: Option<Value>, budget: &mut Budget) -> Option<Bits> {
    let mut chain = Vec::new();
    let mut at = value;
    let width = |v: Value| block.ty(v).bits();
    let mut bits = loop {
        budget.spend(64)?;
        if Some(at) == symbol {
            break (0..width(at)).map(|bit| Sum { symbol: 1 << bit, ..Sum::ZERO }).collect();
        }
        chain.push(at);
        at = match block.inst(at).op {
            Op::Const(c) => break number(c, width(at)),
            Op::Convert(_, a) | Op::Unary(UnaryOp::Not | UnaryOp::Bitrev | UnaryOp::Bswap, a) => a,
            Op::Binary(op, a, b) if block.literal(b).is_some() && moves_bits(op) => a,
            _ => break vec![Sum::UNKNOWN; width(at) as usize],
        };
    };
    if Some(at) != symbol {
        chain.pop();
    }
    for value in chain.into_iter().rev() {
        let inst = block.inst(value);
        let width = inst.ty.bits();
        bits = match inst.op {
            Op::Unary(op, _) => unary(op, &bits)?,
            Op::Binary(op, _, b) => binary(op, &bits, &number(block.literal(b)?, width))?,
            Op::Convert(op, _) => {
                let fill = if op == ConvertOp::Sext { *bits.last()? } else { Sum::ZERO };
                (0..width as usize).map(|bit| bits.get(bit).copied().unwrap_or(fill)).collect()
            }
            _ => return None,
        };
    }
    Some(bits)
}

/// The only bit of a value that is not zero for certain; bit 0 if there is none.
fn single(bits: &[Sum]) -> Option<(usize, Sum)> {
    let mut set = bits.iter().enumerate().filter(|(_, sum)| **sum != Sum::ZERO);
    match (set.next(), set.next()) {
        (None, _) => Some((0, Sum::ZERO)),
        (Some((at, sum)), None) => Some((at, *sum)),
        _ => None,
    }
}

/// Tests of one bit: the only one that may be set, the highest one that may be, or the sign.
fn compare(op: CompareOp, a: &[Sum], b: &[Sum]) -> Option<Sum> {
    use CompareOp as C;
    let opposite = |sum: Sum| sum.plus(Sum::constant(true));
    if a.iter().chain(b).all(|sum| sum.state == 0) {
        return Some(Sum::UNKNOWN);
    }
    let top = a.len() - 1;
    let ones = u64::MAX >> (63 - top);
    // The bit that decides whether a value is less than what it stands for.
    let highest = |bits: &[Sum], number: u64| {
        let at = bits.iter().rposition(|sum| sum.as_constant() != Some(false))?;
        (number == 1 << at).then(|| bits[at])
    };
    match (known(a), known(b)) {
        (None, Some(b)) => match (op, b) {
            (C::Ltu, b) => highest(a, b).map(opposite),
            (C::Leu, b) => highest(a, b.checked_add(1)?).map(opposite),
            (C::Lts, 0) => Some(a[top]),
            (C::Les, b) if b == ones => Some(a[top]),
            (C::Eq | C::Ne, b) => {
                let (at, bit) = single(a)?;
                let is_set = match b {
                    0 => opposite(bit),
                    b if b == 1 << at => bit,
                    _ => Sum::ZERO,
                };
                Some(if op == C::Eq { is_set } else { opposite(is_set) })
            }
            _ => None,
        },
        (Some(a), None) => match (op, a) {
            (C::Ltu, 0) => single(b).map(|(_, bit)| bit),
            (C::Ltu, a) => highest(b, a.checked_add(1)?),
            (C::Leu, a) => highest(b, a),
            (C::Lts, a) if a == ones => Some(opposite(b[top])),
            (C::Les, 0) => Some(opposite(b[top])),
            (C::Eq | C::Ne, _) => compare(op, b, &number(a, b.len() as u32)),
            _ => None,
        },
        _ => None,
    }
}

fn unary(op: UnaryOp, a: &[Sum]) -> Option<Bits> {
    match op {
        UnaryOp::Not => Some(plus(a, &vec![Sum::constant(true); a.len()])),
        UnaryOp::Bitrev => Some(a.iter().rev().copied().collect()),
        UnaryOp::Bswap => Some(a.chunks(8).rev().flatten().copied().collect()),
        // Of one bit: ones from there up, or zero.
        UnaryOp::Neg => {
            let (at, bit) = single(a)?;
            Some((0..a.len()).map(|place| if place < at { Sum::ZERO } else { bit }).collect())
        }
        _ => None,
    }
}

fn binary(op: BinaryOp, a: &[Sum], b: &[Sum]) -> Option<Bits> {
    let width = a.len();
    let count = || known(b).map(|count| count as usize % width);
    // Where never both are set, a sum of numbers is one of bits.
    let apart = || a.iter().zip(b).all(|(a, b)| *a == Sum::ZERO || *b == Sum::ZERO);
    Some(match op {
        BinaryOp::Xor => plus(a, b),
        BinaryOp::And => return a.iter().zip(b).map(|(a, b)| a.times(*b)).collect(),
        // a | b = a + b + a b
        BinaryOp::Or => {
            return a.iter().zip(b).map(|(a, b)| Some(a.plus(*b).plus(a.times(*b)?))).collect();
        }
        BinaryOp::Add if apart() => plus(a, b),
        BinaryOp::Sub if known(a) == Some(0) => return unary(UnaryOp::Neg, b),
        // One bit times a number.
        BinaryOp::Mul => {
            let (bits, factor) = match (known(a), known(b)) {
                (_, Some(factor)) => (a, factor),
                (Some(factor), _) => (b, factor),
                _ => return None,
            };
            let (at, bit) = single(bits)?;
            let shifted = factor << at;
            (0..width).map(|place| if shifted >> place & 1 == 1 { bit } else { Sum::ZERO }).collect()
        }
        BinaryOp::Clmul | BinaryOp::Clmulh => {
            let (bits, factor) = match (known(a), known(b)) {
                (_, Some(factor)) => (a, factor),
                (Some(factor), _) => (b, factor),
                _ => return None,
            };
            let mut product = vec![Sum::ZERO; 2 * width];
            for place in (0..width).filter(|place| factor >> place & 1 == 1) {
                product[place..place + width]
                    .iter_mut()
                    .zip(bits)
                    .for_each(|(sum, bit)| *sum = sum.plus(*bit));
            }
            let from = if op == BinaryOp::Clmul { 0 } else { width };
            product[from..from + width].to_vec()
        }
        BinaryOp::Shl => {
            let count = count()?;
            (0..width).map(|bit| if bit < count { Sum::ZERO } else { a[bit - count] }).collect()
        }
        BinaryOp::Shr => {
            let count = count()?;
            (0..width).map(|bit| a.get(bit + count).copied().unwrap_or_default()).collect()
        }
        BinaryOp::Sar => {
            let count = count()?;
            (0..width).map(|bit| a[(bit + count).min(width - 1)]).collect()
        }
        BinaryOp::Rotl => {
            let count = count()?;
            (0..width).map(|bit| a[(bit + width - count) % width]).collect()
        }
        BinaryOp::Rotr => {
            let count = count()?;
            (0..width).map(|bit| a[(bit + count) % width]).collect()
        }
        _ => return None,
    })
}
