//! Legal rewrites of straight-line code: constant folding, identities, common subexpressions, dead code.
//!
//! Every rule keeps the value of every root for every input; a property test compares the block before and
//! after. Rules whose reason is not plain state it.

use crate::ir::keyed_map::KeyedMap;
use crate::ir::{
    BinaryOp, Block, CompareOp, ConvertOp, Inst, Op, StateId, Table, TableId, Ty, UnaryOp, Value, eval,
};

/// How deep into bitwise logic a byte swap is pushed: expressions may share parts, so the search needs a
/// bound.
const UNSWAP_DEPTH: u32 = 4;

/// Builds a block in which no value is computed twice and nothing constant is computed at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rewriter {
    block: Block,
    known: KeyedMap<Inst, Value>,
    tables: Vec<Table>,
}

impl Rewriter {
    /// An empty block; `tables` are what its `lookup`s refer to.
    pub(crate) fn new(tables: &[Table]) -> Rewriter {
        Rewriter { tables: tables.to_vec(), ..Rewriter::default() }
    }

    /// Adds the tables of one more pipe and gives the number by which its indices move.
    pub(crate) fn add_tables(&mut self, tables: &[Table]) -> u32 {
        let base = self.tables.len() as u32;
        self.tables.extend_from_slice(tables);
        base
    }

    /// What was built, with its tables.
    pub(crate) fn finish(self) -> (Block, Vec<Table>) {
        (self.block, self.tables)
    }

    /// The block so far.
    pub(crate) fn block(&self) -> &Block {
        &self.block
    }

    /// A literal.
    pub(crate) fn constant(&mut self, value: u64, ty: Ty) -> Value {
        self.intern(Op::Const(value & ty.mask()), ty)
    }

    /// A unary operation.
    pub(crate) fn unary(&mut self, op: UnaryOp, a: Value) -> Value {
        self.push(Op::Unary(op, a), self.block.ty(a))
    }

    /// A binary operation.
    pub(crate) fn binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        self.push(Op::Binary(op, a, b), self.block.ty(a))
    }

    /// A comparison.
    pub(crate) fn compare(&mut self, op: CompareOp, a: Value, b: Value) -> Value {
        self.push(Op::Compare(op, a, b), Ty::Bool)
    }

    /// `cond ? then : otherwise`.
    pub(crate) fn select(&mut self, cond: Value, then: Value, otherwise: Value) -> Value {
        self.push(Op::Select { cond, then, otherwise }, self.block.ty(then))
    }

    /// Zero extension or truncation to `ty`, whichever applies.
    pub(crate) fn resize(&mut self, a: Value, ty: Ty) -> Value {
        let from = self.block.ty(a);
        if from == ty {
            a
        } else if from.bits() < ty.bits() {
            self.push(Op::Convert(ConvertOp::Zext, a), ty)
        } else {
            self.push(Op::Convert(ConvertOp::Trunc, a), ty)
        }
    }

    /// Copies `block`, whose tables begin at `tables`. `place` decides what its leaves (`in`, states, `pos`)
    /// become. Gives the new name of every value.
    pub(crate) fn splice(
        &mut self,
        block: &Block,
        tables: u32,
        mut place: impl FnMut(&mut Rewriter, Inst) -> Option<Value>,
    ) -> Vec<Value> {
        let mut map: Vec<Value> = Vec::with_capacity(block.insts.len());
        for inst in &block.insts {
            let value = match place(self, *inst) {
                Some(value) => value,
                None => {
                    let op = match inst.op.map_operands(|v| map[v.0 as usize]) {
                        Op::Lookup(table, index) => Op::Lookup(TableId(table.0 + tables), index),
                        op => op,
                    };
                    self.push(op, inst.ty)
                }
            };
            map.push(value);
        }
        map
    }

    /// `value` with `state` at zero.
    pub(crate) fn at_zero(&mut self, value: Value, state: StateId) -> Value {
        let needed = self.block.needed([value]);
        let mut map: Vec<Value> = (0..=value.0).map(Value).collect();
        for at in (0..=value.0).filter(|at| needed[*at as usize]) {
            let inst = self.block.inst(Value(at));
            let renamed = inst.op.map_operands(|v| map[v.0 as usize]);
            map[at as usize] = match inst.op {
                Op::State(id) if id == state => self.constant(0, inst.ty),
                op if op == renamed => Value(at),
                _ => self.push(renamed, inst.ty),
            };
        }
        map[value.0 as usize]
    }

    /// Appends an operation unless its value is known already, in the simplest form that the rules find.
    pub(crate) fn push(&mut self, op: Op, ty: Ty) -> Value {
        let op = canonical(&self.block, op);
        if let Some(value) = self.fold(op, ty) {
            return self.constant(value, ty);
        }
        if let Some(value) = self.simplify(op, ty) {
            return value;
        }
        self.intern(op, ty)
    }

    fn intern(&mut self, op: Op, ty: Ty) -> Value {
        let inst = Inst { op, ty };
        if let Some(value) = self.known.get(&inst) {
            return *value;
        }
        let value = self.block.push(op, ty);
        self.known.insert(inst, value);
        value
    }

    /// The literal that `value` is, if it is one.
    pub(crate) fn as_const(&self, value: Value) -> Option<u64> {
        self.block.literal(value)
    }

    fn fold(&self, op: Op, ty: Ty) -> Option<u64> {
        if !op.operands().all(|operand| self.as_const(operand).is_some()) {
            return None;
        }
        let number = |operand| self.as_const(operand).unwrap_or(0);
        eval::apply(op, ty, &self.tables, |operand| self.block.ty(operand), number)
    }

    fn simplify(&mut self, op: Op, ty: Ty) -> Option<Value> {
        match op {
            Op::Unary(op, a) => self.simplify_unary(op, a, ty),
            Op::Binary(op, a, b) => self.simplify_binary(op, a, b, ty),
            Op::Compare(op, a, b) if a == b => Some(self.constant(
                u64::from(matches!(op, CompareOp::Eq | CompareOp::Leu | CompareOp::Les)),
                Ty::Bool,
            )),
            Op::Select { cond, then, otherwise } => {
                match (self.as_const(cond), self.as_const(then), self.as_const(otherwise)) {
                    (Some(c), ..) => Some(if c & 1 == 1 { then } else { otherwise }),
                    _ if then == otherwise => Some(then),
                    (_, Some(1), Some(0)) if ty == Ty::Bool => Some(cond),
                    (_, Some(0), Some(1)) if ty == Ty::Bool => Some(self.unary(UnaryOp::Not, cond)),
                    (_, Some(1), None) if ty == Ty::Bool => Some(self.binary(BinaryOp::Or, cond, otherwise)),
                    (_, None, Some(0)) if ty == Ty::Bool => Some(self.binary(BinaryOp::And, cond, then)),
                    _ => {
                        // `t = x + y; t < y ? t + 1 : t`, one's complement addition once more.
                        let (x, y) = self.carry_of(cond, otherwise)?;
                        let one = self.constant(1, ty);
                        let more = self.binary(BinaryOp::Add, otherwise, one);
                        (more == then).then(|| self.push(Op::Binary(BinaryOp::Addc, x, y), ty))
                    }
                }
            }
            Op::Convert(op, a) => match (op, self.block.inst(a)) {
                (ConvertOp::Zext, Inst { op: Op::Convert(ConvertOp::Zext, inner), .. }) => {
                    Some(self.push(Op::Convert(ConvertOp::Zext, inner), ty))
                }
                (ConvertOp::Trunc, Inst { op: Op::Convert(ConvertOp::Trunc, inner), .. }) => {
                    Some(self.push(Op::Convert(ConvertOp::Trunc, inner), ty))
                }
                (ConvertOp::Trunc, Inst { op: Op::Convert(ConvertOp::Zext, inner), .. }) => {
                    Some(self.resize(inner, ty))
                }
                _ if self.block.ty(a) == ty => Some(a),
                _ => None,
            },
            _ => None,
        }
    }

    fn simplify_unary(&mut self, op: UnaryOp, a: Value, ty: Ty) -> Option<Value> {
        if op == UnaryOp::Bswap && ty.bytes() == 1 {
            return Some(a);
        }
        let inner = self.block.inst(a).op;
        match (op, inner) {
            // Involutions.
            (UnaryOp::Neg | UnaryOp::Not | UnaryOp::Bswap | UnaryOp::Bitrev, Op::Unary(first, x))
                if first == op =>
            {
                Some(x)
            }
            (UnaryOp::Not, Op::Compare(compare, x, y)) => {
                let (compare, x, y) = negated(compare, x, y);
                Some(self.compare(compare, x, y))
            }
            // A byte swap moves bits without changing them, so it commutes with bitwise operations. Worth it
            // when it meets its own inverse or a literal there.
            (UnaryOp::Bswap, _) => self.unswapped(a, UNSWAP_DEPTH),
            _ => None,
        }
    }

    /// `bswap value` where that is free: `value` is a byte swap itself, a literal, or bitwise logic over such
    /// values.
    fn unswapped(&mut self, value: Value, depth: u32) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        match self.block.inst(value).op {
            Op::Unary(UnaryOp::Bswap, x) => Some(x),
            Op::Const(_) => Some(self.unary(UnaryOp::Bswap, value)),
            Op::Unary(UnaryOp::Not, x) => {
                let x = self.unswapped(x, depth)?;
                Some(self.unary(UnaryOp::Not, x))
            }
            Op::Binary(op @ (BinaryOp::And | BinaryOp::Or | BinaryOp::Xor), x, y) => {
                let (x, y) = (self.unswapped(x, depth)?, self.unswapped(y, depth)?);
                Some(self.binary(op, x, y))
            }
            _ => None,
        }
    }

    fn simplify_binary(&mut self, op: BinaryOp, a: Value, b: Value, ty: Ty) -> Option<Value> {
        use BinaryOp as B;
        let ones = ty.mask();
        if let Some(c) = self.as_const(b) {
            match (op, c) {
                (B::Add | B::Sub | B::Or | B::Xor | B::Addc | B::Max, 0) => return Some(a),
                (B::Adds | B::Subs | B::Sadds | B::Ssubs, 0) => return Some(a),
                (B::Mul | B::And | B::Min | B::Clmul, 0) => return Some(b),
                (B::And | B::Min, c) if c == ones => return Some(a),
                (B::Or | B::Max | B::Adds, c) if c == ones => return Some(b),
                (B::Subs, c) if c == ones => return Some(self.constant(0, ty)),
                (B::Mul | B::Clmul, 1) => return Some(a),
                (B::Xor, c) if c == ones => return Some(self.unary(UnaryOp::Not, a)),
                (B::Shl | B::Shr | B::Sar | B::Rotl | B::Rotr, c) => {
                    let bits = u64::from(ty.bits());
                    return match c % bits {
                        0 => Some(a),
                        8 if ty == Ty::U16 && matches!(op, B::Rotl | B::Rotr) => {
                            Some(self.unary(UnaryOp::Bswap, a))
                        }
                        reduced if reduced != c => {
                            let count = self.constant(reduced, ty);
                            Some(self.binary(op, a, count))
                        }
                        reduced if op == B::Rotr => {
                            let count = self.constant(bits - reduced, ty);
                            Some(self.binary(B::Rotl, a, count))
                        }
                        _ => None,
                    };
                }
                // Subtracting a literal is adding its negation: one form less for what follows.
                (B::Sub, c) => {
                    let negated = self.constant(c.wrapping_neg(), ty);
                    return Some(self.binary(B::Add, a, negated));
                }
                _ => {}
            }
            // (x op c1) op c2 = x op (c1 op c2) for associative operations.
            if associative(op)
                && let Op::Binary(inner, x, y) = self.block.inst(a).op
                && inner == op
                && self.as_const(y).is_some()
            {
                let c = self.binary(op, y, b);
                return Some(self.binary(op, x, c));
            }
        }
        if a == b {
            match op {
                B::And | B::Or | B::Min | B::Max | B::Smin | B::Smax => return Some(a),
                B::Sub | B::Subs | B::Ssubs | B::Xor => return Some(self.constant(0, ty)),
                _ => {}
            }
        }
        match op {
            B::Or | B::Add | B::Xor => {
                self.rotate(a, b, ty).or_else(|| if op == B::Add { self.end_around(a, b, ty) } else { None })
            }
            _ => None,
        }
    }

    /// `x << c | x >> (w - c)` is a rotate (the parts do not overlap, so `+` and `^` do as well as `|`).
    fn rotate(&mut self, a: Value, b: Value, ty: Ty) -> Option<Value> {
        let shift = |rewriter: &Rewriter, v: Value| match rewriter.block.inst(v).op {
            Op::Binary(op @ (BinaryOp::Shl | BinaryOp::Shr), x, c) => Some((op, x, rewriter.as_const(c)?)),
            _ => None,
        };
        let ((op_a, x, c), (op_b, y, d)) = (shift(self, a)?, shift(self, b)?);
        if x != y || op_a == op_b || c + d != u64::from(ty.bits()) {
            return None;
        }
        let count = self.constant(if op_a == BinaryOp::Shl { c } else { d }, ty);
        Some(self.binary(BinaryOp::Rotl, x, count))
    }

    /// One's complement addition written out: `t = x + y; t + zext(t < y)`, since `t < y` is the carry of
    /// `x + y`; or by halves of a sum in twice the width, `trunc(t) + trunc(t >> w)`.
    fn end_around(&mut self, a: Value, b: Value, ty: Ty) -> Option<Value> {
        for (sum, carry) in [(a, b), (b, a)] {
            if let Op::Convert(ConvertOp::Zext, bit) = self.block.inst(carry).op
                && let Some((x, y)) = self.carry_of(bit, sum)
            {
                return Some(self.push(Op::Binary(BinaryOp::Addc, x, y), ty));
            }
            if let Op::Convert(ConvertOp::Trunc, low) = self.block.inst(sum).op
                && let Op::Convert(ConvertOp::Trunc, high) = self.block.inst(carry).op
                && let Op::Binary(BinaryOp::Shr, shifted, count) = self.block.inst(high).op
                && shifted == low
                && self.as_const(count) == Some(u64::from(ty.bits()))
                && self.block.ty(low).bits() == 2 * ty.bits()
                && let Op::Binary(BinaryOp::Add, x, y) = self.block.inst(low).op
                && let (Some(x), Some(y)) = (self.narrowed(x, ty), self.narrowed(y, ty))
            {
                return Some(self.push(Op::Binary(BinaryOp::Addc, x, y), ty));
            }
        }
        None
    }

    /// The terms of `sum = x + y`, of which `bit` is the carry.
    fn carry_of(&self, bit: Value, sum: Value) -> Option<(Value, Value)> {
        let Op::Compare(CompareOp::Ltu, low, term) = self.block.inst(bit).op else { return None };
        let Op::Binary(BinaryOp::Add, x, y) = self.block.inst(sum).op else { return None };
        (low == sum && (term == x || term == y)).then_some((x, y))
    }

    /// The value of type `ty` that `value` extends by zeros.
    pub(super) fn narrowed(&mut self, value: Value, ty: Ty) -> Option<Value> {
        match self.block.inst(value).op {
            Op::Convert(ConvertOp::Zext, x) if self.block.ty(x).bits() <= ty.bits() => {
                Some(self.resize(x, ty))
            }
            Op::Const(c) if c <= ty.mask() => Some(self.constant(c, ty)),
            _ => None,
        }
    }
}

/// A block reduced to what `roots` need, and the roots' new names.
pub(crate) fn live(block: &Block, roots: &[Value]) -> (Block, Vec<Value>) {
    let needed = block.needed(roots.iter().copied());
    let mut map = vec![Value(u32::MAX); block.insts.len()];
    let mut out = Block::default();
    for (value, inst) in block.iter() {
        if needed[value.0 as usize] {
            map[value.0 as usize] = out.push(inst.op.map_operands(|v| map[v.0 as usize]), inst.ty);
        }
    }
    (out, roots.iter().map(|root| map[root.0 as usize]).collect())
}

/// Whether `a op b = b op a`.
pub(crate) const fn commutative(op: BinaryOp) -> bool {
    use BinaryOp as B;
    !matches!(op, B::Sub | B::Subs | B::Ssubs | B::Shl | B::Shr | B::Sar | B::Rotl | B::Rotr)
}

const fn associative(op: BinaryOp) -> bool {
    use BinaryOp as B;
    matches!(
        op,
        B::Add | B::Mul | B::And | B::Or | B::Xor | B::Min | B::Max | B::Smin | B::Smax | B::Addc | B::Adds
    )
}

/// Literals to the right, otherwise the older value first, so that equal expressions look equal.
fn canonical(block: &Block, op: Op) -> Op {
    let literal = |v: Value| matches!(block.inst(v).op, Op::Const(_));
    let swap = |a: Value, b: Value| (literal(a), a) > (literal(b), b);
    match op {
        Op::Binary(op, a, b) if commutative(op) && swap(a, b) => Op::Binary(op, b, a),
        Op::Compare(op @ (CompareOp::Eq | CompareOp::Ne), a, b) if swap(a, b) => Op::Compare(op, b, a),
        Op::Modular(op, a, b, m) if swap(a, b) => Op::Modular(op, b, a, m),
        _ => op,
    }
}

/// The comparison that holds exactly when the given one does not.
fn negated(op: CompareOp, a: Value, b: Value) -> (CompareOp, Value, Value) {
    match op {
        CompareOp::Eq => (CompareOp::Ne, a, b),
        CompareOp::Ne => (CompareOp::Eq, a, b),
        CompareOp::Ltu => (CompareOp::Leu, b, a),
        CompareOp::Leu => (CompareOp::Ltu, b, a),
        CompareOp::Lts => (CompareOp::Les, b, a),
        CompareOp::Les => (CompareOp::Lts, b, a),
    }
}
