//! Arithmetic of which only the low bits are used is done on the low bits: fewer registers for the same
//! words.

use crate::analyse::rewrite::Rewriter;
use crate::ir::keyed_map::KeyedMap;
use crate::ir::{BinaryOp, Block, ConvertOp, Op, Table, Ty, UnaryOp, Value};

/// Bound of the search below one truncation.
const DEPTH: u32 = 12;

/// The block with its truncations moved towards the leaves, its tables and the new names of `roots`. The
/// values in `whole` stay as they are.
pub(super) fn narrow(
    block: &Block,
    tables: &[Table],
    roots: &[Value],
    whole: &[Value],
) -> (Block, Vec<Table>, Vec<Value>) {
    let mut narrower = Narrower { to: Rewriter::new(tables), known: KeyedMap::default(), whole: Vec::new() };
    let mut map: Vec<Value> = Vec::with_capacity(block.insts.len());
    for (value, inst) in block.iter() {
        let op = inst.op.map_operands(|v| map[v.0 as usize]);
        let new = match op {
            Op::Convert(ConvertOp::Trunc, a) if inst.ty != Ty::Bool => narrower.low(a, inst.ty, DEPTH),
            op => narrower.to.push(op, inst.ty),
        };
        if whole.contains(&value) {
            narrower.whole.push(new);
        }
        map.push(new);
    }
    let (block, tables) = narrower.to.finish();
    (block, tables, roots.iter().map(|root| map[root.0 as usize]).collect())
}

struct Narrower {
    to: Rewriter,
    known: KeyedMap<(Value, Ty), Value>,
    whole: Vec<Value>,
}

impl Narrower {
    /// The low bits of `value`, as many as `ty` has.
    fn low(&mut self, value: Value, ty: Ty, depth: u32) -> Value {
        let inst = self.to.block().inst(value);
        if inst.ty.bits() <= ty.bits() || depth == 0 || self.whole.contains(&value) {
            return self.to.resize(value, ty);
        }
        if let Some(known) = self.known.get(&(value, ty)) {
            return *known;
        }
        let depth = depth - 1;
        let new = match inst.op {
            Op::Const(c) => self.to.constant(c & ty.mask(), ty),
            Op::Binary(op, a, b) if keeps_low_bits(op) => {
                let (a, b) = (self.low(a, ty, depth), self.low(b, ty, depth));
                self.to.binary(op, a, b)
            }
            Op::Unary(op @ (UnaryOp::Neg | UnaryOp::Not), a) => {
                let a = self.low(a, ty, depth);
                self.to.unary(op, a)
            }
            Op::Convert(ConvertOp::Zext | ConvertOp::Trunc, a)
                if self.to.block().ty(a) != Ty::Bool && self.to.block().ty(a).bits() >= ty.bits() =>
            {
                self.low(a, ty, depth)
            }
            Op::Convert(ConvertOp::Zext, a) => self.to.resize(a, ty),
            Op::Select { cond, then, otherwise } => {
                let (then, otherwise) = (self.low(then, ty, depth), self.low(otherwise, ty, depth));
                self.to.select(cond, then, otherwise)
            }
            _ => self.to.resize(value, ty),
        };
        self.known.insert((value, ty), new);
        new
    }
}

/// Whether the low bits of the result are a function of as many low bits of the operands.
pub(super) const fn keeps_low_bits(op: BinaryOp) -> bool {
    use BinaryOp as B;
    matches!(op, B::Add | B::Sub | B::Mul | B::And | B::Or | B::Xor)
}
