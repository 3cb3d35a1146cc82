//! What a chunk makes of each state: partial results that any order will do for, and registers that one chunk
//! leaves to the next.

use super::lanes::StageLowering;
use super::lower::Group;
use super::{Accumulate, Accumulator, Carry, Reg, VectorOp};
use crate::analyse::Reduce;
use crate::analyse::rewrite::Rewriter;
use crate::ir::{BinaryOp, CompareOp, ConvertOp, Op, StateId, Ty, UnaryOp, Value};
use crate::plan::induction::Step;
use crate::plan::stage::{Addend, NARROW_DEPTH, Running};

/// A state that passes from word to word, before lowering.
pub(super) struct Ordered {
    /// Index in the stage.
    pub(super) state: usize,
    /// Its new value.
    pub(super) next: Value,
    /// If it is a running reduction.
    pub(super) running: Option<Running>,
    /// The states that have its last results, this one first.
    pub(super) turns: Vec<usize>,
}

impl Ordered {
    pub(super) fn plain(state: usize, next: Value) -> Ordered {
        Ordered { state, next, running: None, turns: vec![state] }
    }

    pub(super) fn running(
        state: usize,
        next: Value,
        running: &Running,
        rename: impl Fn(Value) -> Value,
    ) -> Ordered {
        let running = Running { operand: rename(running.operand), ..*running };
        Ordered { running: Some(running), ..Ordered::plain(state, next) }
    }

    /// The values that it is made of, in order.
    pub(super) fn values(&self) -> impl Iterator<Item = Value> + use<> {
        [Some(self.next), self.running.map(|running| running.operand)].into_iter().flatten()
    }
}

/// A sum and its sum of sums, before lowering. States by index in the stage.
pub(super) struct SumPair {
    pub(super) state: usize,
    pub(super) sum_of_sums: usize,
    pub(super) op: Reduce,
    pub(super) includes_word: bool,
    /// What each word contributes to the sum, no wider than the word.
    pub(super) term: Value,
}

/// A reduction before lowering.
pub(super) struct ReductionTerm {
    pub(super) state: u32,
    pub(super) ty: Ty,
    pub(super) op: Reduce,
    pub(super) form: Accumulate,
    pub(super) swapped: bool,
    pub(super) operand: Value,
}

impl ReductionTerm {
    pub(super) fn new(
        rewriter: &mut Rewriter,
        state: u32,
        ty: Ty,
        op: Reduce,
        mut operand: Value,
        word: Ty,
    ) -> ReductionTerm {
        let mut swapped = false;
        let form = match op {
            Reduce::Addc => {
                if let Op::Unary(UnaryOp::Bswap, raw) = rewriter.block().inst(operand).op
                    && ty == Ty::U16
                {
                    swapped = true;
                    operand = raw;
                }
                match narrowed(rewriter, operand, word, NARROW_DEPTH) {
                    Some(narrow) if ty.bits() > word.bits() => {
                        operand = narrow;
                        Accumulate::Sum { exact: true }
                    }
                    _ => Accumulate::Sum { exact: false },
                }
            }
            Reduce::Add | Reduce::Adds | Reduce::Addmod(_) => {
                match narrowed(rewriter, operand, word, NARROW_DEPTH) {
                    Some(narrow) if ty.bits() > word.bits() => {
                        operand = narrow;
                        Accumulate::Sum { exact: true }
                    }
                    _ if op == Reduce::Add => Accumulate::Lanes,
                    _ => Accumulate::Sum { exact: true },
                }
            }
            _ => Accumulate::Lanes,
        };
        ReductionTerm { state, ty, op, form, swapped, operand }
    }
}

/// All that a word adds to a reduction, as one value: here, to widen a sum costs less than two sums.
pub(super) fn added(
    rewriter: &mut Rewriter,
    op: Reduce,
    addends: &[Addend],
    rename: impl Fn(Value) -> Value,
) -> Value {
    let mut sum: Option<Value> = None;
    for Addend { value, only_if, negated } in addends {
        let mut value = rename(*value);
        if *negated {
            value = rewriter.unary(UnaryOp::Neg, value);
        }
        if let Some((cond, holds)) = only_if {
            let ty = rewriter.block().ty(value);
            let neutral = rewriter.constant(op.identity(ty), ty);
            let (then, otherwise) = if *holds { (value, neutral) } else { (neutral, value) };
            value = rewriter.select(rename(*cond), then, otherwise);
        }
        sum = Some(match (sum, op.binary()) {
            (Some(sum), Some(op)) => rewriter.binary(op, sum, value),
            _ => value,
        });
    }
    sum.unwrap_or_else(|| rewriter.constant(0, Ty::U8))
}

/// A value of type `ty` with the same number as `value`, if
/// `is_narrow` in `plan/stage`: summing narrow lanes takes fewer registers.
pub(super) fn narrowed(rewriter: &mut Rewriter, value: Value, ty: Ty, depth: u32) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let inst = rewriter.block().inst(value);
    if inst.ty.bits() <= ty.bits() {
        return None;
    }
    match inst.op {
        Op::Convert(ConvertOp::Zext, x) if rewriter.block().ty(x).bits() <= ty.bits() => {
            Some(rewriter.resize(x, ty))
        }
        Op::Convert(ConvertOp::Zext, x) => narrowed(rewriter, x, ty, depth),
        Op::Const(c) if c <= ty.mask() => Some(rewriter.constant(c, ty)),
        Op::Select { cond, then, otherwise } => {
            let then = narrowed(rewriter, then, ty, depth)?;
            let otherwise = narrowed(rewriter, otherwise, ty, depth)?;
            Some(rewriter.select(cond, then, otherwise))
        }
        _ => None,
    }
}

impl StageLowering<'_> {
    /// Declares the states that pass from word to word, and makes sure that their new values are computed.
    pub(super) fn order(&mut self, states: &[Ordered]) -> Result<(), String> {
        for Ordered { state, next, running, turns } in states {
            let ty = self.state_types[*state];
            let flat = self.base + *state as u32;
            let lane = self.lane(ty);
            if let Some(Running { fold, kept, operand }) = *running {
                let states = turns.iter().map(|state| self.base + *state as u32).collect();
                let carry = self.carry(Carry::Running { states, ty, op: fold, lane });
                self.running.insert(*next, (operand, carry, kept));
            }
            // The register is known once the new value is lowered.
            let carry = self.carry(Carry::Previous { state: flat, lane, of: Reg(0) });
            self.delayed.insert(StateId(*state as u32), (*next, carry));
        }
        for Ordered { state, next, .. } in states {
            let group = self.lower(*next)?;
            let group = if self.state_types[*state] == Ty::Bool { self.bits(group) } else { group };
            let (_, carry) = self.delayed[&StateId(*state as u32)];
            if let (Carry::Previous { of, .. }, Some(last)) =
                (&mut self.to.body.carries[carry as usize], group.regs.last())
            {
                *of = *last;
            }
        }
        Ok(())
    }

    pub(super) fn carry(&mut self, carry: Carry) -> u32 {
        self.to.body.carries.push(carry);
        (self.to.body.carries.len() - 1) as u32
    }

    /// A sum and its sum of sums.
    pub(super) fn sum(&mut self, sums: &SumPair) -> Result<(), String> {
        let group = self.lower(sums.term)?;
        let [of] = group.regs[..] else { return Err("a sum of sums of values wider than the word".into()) };
        self.carry(Carry::Sums {
            sum: self.base + sums.state as u32,
            sum_of_sums: self.base + sums.sum_of_sums as u32,
            ty: self.state_types[sums.state],
            op: sums.op,
            lane: group.lane,
            includes_word: sums.includes_word,
            of,
        });
        Ok(())
    }

    pub(super) fn accumulate(&mut self, term: &ReductionTerm) -> Result<(), String> {
        let mut group = self.lower(term.operand)?;
        if matches!(term.op, Reduce::Smin | Reduce::Smax) {
            group = self.signed(group, term.ty);
        }
        let acc = Accumulator {
            state: term.state,
            ty: term.ty,
            op: term.op,
            form: term.form,
            lane: group.lane,
            swapped: term.swapped,
            operands: group.regs,
        };
        self.to.body.accumulators.push(acc);
        Ok(())
    }

    /// Declares states that depend only on themselves: each register of the chunk has the values at its
    /// words, and moves on to the next chunk by as many steps at once as there are words in between.
    pub(super) fn declare_inductions(&mut self, states: &[(usize, Step)]) {
        for (state, step) in states {
            let state = *state;
            let ty = self.state_types[state];
            let lane = self.lane(ty);
            let flat = self.base + state as u32;
            let carry =
                self.carry(Carry::Induction { state: flat, ty, step: step.clone(), lane, of: Reg(0) });
            let mut reg = self.to.emit(VectorOp::Induction(carry), lane);
            let mut regs = Vec::new();
            for _ in 0..lane / self.word {
                regs.push(reg);
                let later = self.to.emit(VectorOp::Later { of: reg, carry }, lane);
                reg = self.fitted(Group { lane, regs: vec![later] }, ty).regs[0];
            }
            if let Carry::Induction { of, .. } = &mut self.to.body.carries[carry as usize] {
                *of = reg;
            }
            let group = Group { lane, regs };
            let group = if ty == Ty::Bool { self.masks(group) } else { group };
            self.inductions.insert(StateId(state as u32), group);
        }
    }

    /// Lanes of 0 and 1 as masks.
    pub(super) fn masks(&mut self, bits: Group) -> Group {
        let zero = self.to.splat(0, bits.lane);
        let lane = bits.lane;
        self.map(&bits, |to, reg| to.emit(VectorOp::Compare(CompareOp::Ne, reg, zero), lane))
    }

    /// Masks of any width as words' lanes of 0 and 1.
    pub(super) fn bits(&mut self, masks: Group) -> Group {
        let masks = self.resized(masks, self.word, true);
        let one = self.to.splat(1, masks.lane);
        let lane = masks.lane;
        self.map(&masks, |to, reg| to.binary(BinaryOp::And, reg, one, lane))
    }
}
