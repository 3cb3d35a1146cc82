//! Reductions by shape: the old value of a state reaches its new value through one associative and
//! commutative operation.

use super::Budget;
use crate::analyse::Reduce;
use crate::analyse::rewrite::Rewriter;
use crate::ir::{BinaryOp, CompareOp, ConvertOp, ModOp, Op, StateId, Ty, UnaryOp, Value};

/// The way of a state's old value to its new one.
pub(super) enum ChainLink {
    /// The old value itself.
    Unchanged,
    /// `op(old, operand)`.
    Step(Reduce, Value),
}

/// Steps from a state's old value to its new one. Both arms of a select are followed and may share parts, so
/// the search needs a bound; beyond it the state gets no better class.
const MAX_STEPS: u32 = 512;

/// The search for one state.
pub(super) struct Chain<'a> {
    rewriter: &'a mut Rewriter,
    invariant: &'a dyn Fn(Value) -> bool,
    state: StateId,
    /// Steps left.
    steps: u32,
}

impl<'a> Chain<'a> {
    /// `invariant(v)` holds if `v` reads no changing state, apart from states that are known without all of
    /// the words before.
    pub(super) fn new(
        rewriter: &'a mut Rewriter,
        invariant: &'a dyn Fn(Value) -> bool,
        state: StateId,
        budget: &mut Budget,
    ) -> Chain<'a> {
        let steps = if budget.spend(64 * MAX_STEPS).is_some() { MAX_STEPS } else { 0 };
        Chain { rewriter, invariant, state, steps }
    }

    fn invariant(&self, value: Value) -> bool {
        (self.invariant)(value)
    }

    pub(super) fn follow(&mut self, value: Value) -> Option<ChainLink> {
        self.steps = self.steps.checked_sub(1)?;
        let inst = self.rewriter.block().inst(value);
        match inst.op {
            Op::State(state) if state == self.state => Some(ChainLink::Unchanged),
            Op::Binary(BinaryOp::Sub, a, b) if self.invariant(b) => {
                let negated = self.rewriter.unary(UnaryOp::Neg, b);
                self.extend(a, Reduce::Add, negated)
            }
            Op::Binary(op, a, b) => {
                let op = Reduce::of(op)?;
                match (self.invariant(a), self.invariant(b)) {
                    (true, false) => self.extend(b, op, a),
                    (false, true) => self.extend(a, op, b),
                    _ => None,
                }
            }
            Op::Unary(UnaryOp::Not, a) => {
                let ones = self.rewriter.constant(u64::MAX, inst.ty);
                self.extend(a, Reduce::Xor, ones)
            }
            Op::Modular(ModOp::Addmod, a, b, m) => {
                let m = self.rewriter.as_const(m)?;
                let op = if m == 0 { Reduce::Add } else { Reduce::Addmod(m) };
                match (self.invariant(a), self.invariant(b)) {
                    (true, false) => self.extend(b, op, a),
                    (false, true) => self.extend(a, op, b),
                    _ => None,
                }
            }
            Op::Select { cond, then, otherwise } if self.invariant(cond) => {
                self.select(inst.ty, cond, then, otherwise)
            }
            Op::Select { cond, then, otherwise } => self.extremum(cond, then, otherwise),
            _ => None,
        }
    }

    /// `op(chain(inner), operand)`.
    fn extend(&mut self, inner: Value, op: Reduce, operand: Value) -> Option<ChainLink> {
        match self.follow(inner)? {
            ChainLink::Unchanged => Some(ChainLink::Step(op, operand)),
            ChainLink::Step(first, x) if first == op => {
                let both = match op {
                    Reduce::Addmod(m) => {
                        let ty = self.rewriter.block().ty(operand);
                        let m = self.rewriter.constant(m, ty);
                        self.rewriter.push(Op::Modular(ModOp::Addmod, x, operand, m), ty)
                    }
                    _ => self.rewriter.binary(op.binary()?, x, operand),
                };
                Some(ChainLink::Step(op, both))
            }
            ChainLink::Step(..) => None,
        }
    }

    /// `cond ? chain : chain` where the condition reads no state: the side not taken contributes the neutral
    /// element. Not for `addmod`, which reduces an imported value even when it adds 0.
    ///
    /// A literal that an operation gives whatever the state, as `and` gives 0, is a step of that operation.
    /// So a state that is reset under a condition is a reduction.
    fn select(&mut self, ty: Ty, cond: Value, then: Value, otherwise: Value) -> Option<ChainLink> {
        let (then, otherwise) = match (self.follow(then), self.follow(otherwise)) {
            (Some(then), None) => {
                let reset = self.reset(ty, otherwise, &then)?;
                (then, reset)
            }
            (None, Some(otherwise)) => (self.reset(ty, then, &otherwise)?, otherwise),
            (then, otherwise) => (then?, otherwise?),
        };
        let op = match (&then, &otherwise) {
            (ChainLink::Unchanged, ChainLink::Unchanged) => return Some(ChainLink::Unchanged),
            (ChainLink::Step(a, _), ChainLink::Step(b, _)) if a == b => *a,
            (ChainLink::Step(op, _), ChainLink::Unchanged)
            | (ChainLink::Unchanged, ChainLink::Step(op, _))
                if !matches!(op, Reduce::Addmod(_)) =>
            {
                *op
            }
            _ => return None,
        };
        let side = |link: ChainLink, rewriter: &mut Rewriter| match link {
            ChainLink::Step(_, operand) => operand,
            ChainLink::Unchanged => rewriter.constant(op.identity(ty), ty),
        };
        let then = side(then, self.rewriter);
        let otherwise = side(otherwise, self.rewriter);
        // What is counted is narrow, which a sum need not widen word by word.
        let operand = match (op, self.rewriter.as_const(then), self.rewriter.as_const(otherwise)) {
            (Reduce::Add, Some(1), Some(0)) if ty.is_integer() => {
                self.rewriter.push(Op::Convert(ConvertOp::Zext, cond), ty)
            }
            _ => self.rewriter.select(cond, then, otherwise),
        };
        Some(ChainLink::Step(op, operand))
    }

    /// A literal as a step of the operation of the `other` side, or of any if that leaves the state as it is.
    fn reset(&self, ty: Ty, literal: Value, other: &ChainLink) -> Option<ChainLink> {
        let number = self.rewriter.as_const(literal)?;
        let ops = match other {
            ChainLink::Step(op, _) => &[*op][..],
            ChainLink::Unchanged if ty == Ty::Bool => &[Reduce::And, Reduce::Or],
            ChainLink::Unchanged => &[Reduce::And, Reduce::Or, Reduce::Smin, Reduce::Smax],
        };
        let op = ops.iter().find(|op| op.absorbing(ty) == Some(number))?;
        Some(ChainLink::Step(*op, literal))
    }

    /// `s < x ? s : x` and its kin: a minimum or maximum written out.
    fn extremum(&mut self, cond: Value, then: Value, otherwise: Value) -> Option<ChainLink> {
        let Op::Compare(op, p, q) = self.rewriter.block().inst(cond).op else { return None };
        let picks_smaller = match (then == p && otherwise == q, then == q && otherwise == p) {
            (true, false) => true,
            (false, true) => false,
            _ => return None,
        };
        let op = match (op, picks_smaller) {
            (CompareOp::Ltu | CompareOp::Leu, true) => Reduce::Min,
            (CompareOp::Ltu | CompareOp::Leu, false) => Reduce::Max,
            (CompareOp::Lts | CompareOp::Les, true) => Reduce::Smin,
            (CompareOp::Lts | CompareOp::Les, false) => Reduce::Smax,
            _ => return None,
        };
        match (self.invariant(p), self.invariant(q)) {
            (true, false) => self.extend(q, op, p),
            (false, true) => self.extend(p, op, q),
            _ => None,
        }
    }
}
