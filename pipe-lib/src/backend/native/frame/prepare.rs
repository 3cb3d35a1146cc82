//! Registers for what is carried around the loops, set before the first of them.

use crate::backend::Refusal;
use crate::ir::{Op, Ty, Value, WideBinary};
use iced_x86::{Code, Register};

use super::{FunctionFrame, StageCode};
use crate::backend::native::abi::{POS, STATES};
use crate::backend::native::asm;
use crate::backend::native::carry::{self, StatePlace};
use crate::backend::native::isa::Isa;
use crate::backend::native::lanes::whole::{at, indexed};
use crate::backend::native::lanes::{Cmp, Lane};
use crate::backend::native::lower::{StateVal, Val};
use crate::backend::native::vcode::{Builder, RegKind};
use crate::plan::stage::{StateForm, VectorStage};
use crate::plan::wide::MAX_MASKS;

impl FunctionFrame<'_> {
    /// Emits all of it, in stream order of the stages.
    pub(super) fn prepare(&mut self) -> Result<(), Refusal> {
        let busy = self.stages.len() > 2;
        let (shared, beside) = (self.shape.shared, self.beside());
        for (at_stage, stage) in self.stages.iter_mut().enumerate() {
            let pipe = &stage.plan.pipe;
            let word = Lane::of_bytes(pipe.word_bytes());
            let unroll = self.shape.unroll;
            let sets = self.shape.sets.min(unroll);
            let mut place = StatePlace { first_state: stage.first_state, unroll, sets, busy, beside };
            for (index, state) in pipe.states.iter().enumerate() {
                let mut value = StateVal::None;
                let is_shared = shared.is_some_and(|crc| (crc.stage, crc.state) == (at_stage, index));
                place.beside = beside.filter(|_| is_shared);
                if stage.plan.forms[index] == StateForm::Constant && pipe.input.ty == Ty::U128 {
                    value = StateVal::Held(8 * (stage.first_state + index) as i32);
                } else if stage.plan.forms[index] == StateForm::Constant {
                    let offset = 8 * (stage.first_state + index) as i32;
                    value = StateVal::Value(constant_state(&mut self.b, state.ty, word, offset));
                } else if let Some(carried) = carry::of(&mut self.b, stage.plan, index, place)? {
                    stage.carried.push((index, carried));
                }
                stage.states.push(value);
            }
            // States that come from the words before, each after those that it is computed from.
            let order = &stage.plan.order;
            stage.carried.sort_by_key(|(state, carried)| {
                (carried.traits().due, order.iter().position(|ordered| ordered == state))
            });
            for (value, inst) in pipe.body.iter() {
                let index = value.0 as usize;
                let period = stage.plan.periods[index].filter(|_| stage.plan.needed[index]);
                // Each pattern keeps a register; with too many of them there is no code, so why evaluate on.
                let pinned = |of: RegKind| self.b.kinds.iter().filter(|kind| **kind == of).count();
                let (vectors, masks) = (pinned(RegKind::PinnedVector), pinned(RegKind::PinnedMask));
                if period.is_some() && (vectors >= self.b.isa.registers() || masks >= MAX_MASKS) {
                    return Err(Refusal::OutOfRegisters);
                }
                let pattern = period.map(|period| pattern(&mut self.b, stage.plan, value, inst.ty, period));
                // Where there are few registers, a load costs less.
                let held = held_block(stage, inst.op)
                    .filter(|_| self.shape.isa == Isa::Avx512 && stage.plan.needed[index]);
                let held = held.map(|offset| {
                    let pinned = self.b.pinned_vector();
                    let loaded = self.b.load_block(at(STATES, offset));
                    self.b.assign(pinned, loaded);
                    Val::Int(vec![pinned])
                });
                stage.given.push(pattern.or(held));
            }
        }
        Ok(())
    }
}

/// Registers with a positional value for each word of a vector, from the point in its period at which the
/// stretch begins.
fn pattern(b: &mut Builder, plan: &VectorStage, value: Value, ty: Ty, period: usize) -> Val {
    let word = plan.pipe.word_bytes();
    let lane = Lane::of_bytes(ty.bytes().max(word));
    let vector = b.vector_bytes();
    let numbers = plan.pattern(value, (vector + period) / word);
    let bytes =
        numbers.iter().flat_map(|number| number.to_le_bytes().into_iter().take(lane.bytes())).collect();
    let entry = b.table(bytes);
    let (rax, r9) = (Register::RAX, Register::R9);
    b.raw(asm::rr(Code::Mov_r64_rm64, rax, POS));
    b.raw(asm::ri(Code::And_rm32_imm8, Register::EAX, period as i32 - 1));
    let scale = lane.bytes().trailing_zeros() as i32 - word.trailing_zeros() as i32;
    if scale > 0 {
        b.raw(asm::ri(Code::Shl_rm32_imm8, Register::EAX, scale));
    }
    b.lea_pool(r9, entry);
    if ty == Ty::Bool {
        let numbers = b.load(indexed(r9, rax, 1, 0));
        let zero = b.splat(Lane::B, 0);
        let set = b.compare(lane, Cmp::Ne, numbers, zero);
        let pinned = if b.is_mask(set) { b.pinned_mask() } else { b.pinned_vector() };
        b.assign(pinned, set);
        return Val::Cond(pinned);
    }
    let parts = (0..lane.bytes() / word).map(|part| {
        let pinned = b.pinned_vector();
        let loaded = b.load(indexed(r9, rax, 1, (part * vector) as i32));
        b.assign(pinned, loaded);
        pinned
    });
    Val::Int(parts.collect())
}

/// Where 128 bits are that two states hold, one after the other.
fn held_block(stage: &StageCode<'_>, op: Op) -> Option<i32> {
    let Op::WideBinary(WideBinary::Pair, high, low) = op else { return None };
    let held = |value: Value| match stage.plan.pipe.body.inst(value).op {
        Op::State(state) => match stage.states[state.0 as usize] {
            StateVal::Held(offset) => Some(offset),
            _ => None,
        },
        _ => None,
    };
    held(low).filter(|low| held(high) == Some(low + 8))
}

/// A state that never changes, in every lane.
fn constant_state(b: &mut Builder, ty: Ty, word: Lane, offset: i32) -> Val {
    let lane = Lane::of_bytes(ty.bytes()).max(word);
    let loaded = b.load_broadcast(lane, at(STATES, offset));
    if ty == Ty::Bool {
        let zero = b.splat(Lane::B, 0);
        let cond = match b.isa {
            Isa::Avx512 => b.compare(lane, Cmp::Ne, loaded, zero),
            Isa::Avx2 => b.sub(lane, zero, loaded),
        };
        let pinned = if b.is_mask(cond) { b.pinned_mask() } else { b.pinned_vector() };
        b.assign(pinned, cond);
        return Val::Cond(pinned);
    }
    let pinned = b.pinned_vector();
    b.assign(pinned, loaded);
    Val::Int(vec![pinned; lane.bytes() / word.bytes()])
}
