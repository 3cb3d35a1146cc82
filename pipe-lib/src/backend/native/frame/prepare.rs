//! Registers for what is carried around the loops, set before the first of them.

use crate::ir::{Ty, Value};
use iced_x86::{Code, Register};

use super::{Frame, POS, Round, STATES};
use crate::backend::native::affine::Affine;
use crate::backend::native::asm;
use crate::backend::native::carried::{Carried, broadcast};
use crate::backend::native::crc::CrcLanes;
use crate::backend::native::horner::Horner;
use crate::backend::native::isa::Isa;
use crate::backend::native::lanes::{Cmp, Lane};
use crate::backend::native::lower::{StateVal, Val};
use crate::backend::native::onward::Onward;
use crate::backend::native::reduce::Accumulator;
use crate::backend::native::strategy::{Keeping, Study};
use crate::backend::native::sums::Sums;
use crate::backend::native::vcode::{Builder, Kind, Mem, Opd};

impl Frame<'_> {
    /// Emits all of it, in stream order of the stages.
    pub(super) fn prepare(&mut self) -> Result<(), String> {
        let busy = self.stages.len() > 2;
        for stage in &mut self.stages {
            let pipe = stage.study.pipe;
            let word = Lane::of_bytes(pipe.word_bytes());
            for (index, state) in pipe.states.iter().enumerate() {
                let slot = 8 * (stage.first_state + index) as i32;
                match &stage.study.keeping[index] {
                    Keeping::Constant => {
                        let value = constant_state(&mut self.b, state.ty, word, slot);
                        stage.states.push(StateVal::Value(value));
                        stage.accumulators.push(None);
                    }
                    Keeping::Reduction(fold, addends) => {
                        stage.states.push(StateVal::None);
                        let accumulator = Accumulator::new(
                            &mut self.b,
                            stage.study,
                            state.ty,
                            *fold,
                            addends,
                            self.shape.unroll,
                        );
                        accumulator.start(&mut self.b);
                        stage.accumulators.push(Some(accumulator));
                    }
                    Keeping::Crc(crc, value) => {
                        let lane = Lane::of_bytes(pipe.body.ty(*value).bytes());
                        let slots = self.shape.unroll;
                        let lanes = CrcLanes::new(&mut self.b, *crc, word, lane, pipe.tail, slots, slot)?;
                        stage.crcs.push((index, *value, lanes));
                        stage.states.push(StateVal::None);
                        stage.accumulators.push(None);
                    }
                    Keeping::Hash { factor, operand } => {
                        let slots = self.shape.unroll;
                        let hash = Horner::new(&mut self.b, word, state.ty, *factor, slots, slot);
                        stage.hashes.push((index, *operand, hash));
                        stage.states.push(StateVal::None);
                        stage.accumulators.push(None);
                    }
                    Keeping::System(system, operands) => {
                        let at = |state: &usize| 8 * (stage.first_state + state) as i32;
                        let affine = Affine::new(
                            &mut self.b,
                            word,
                            state.ty,
                            pipe.tail,
                            system,
                            self.shape.unroll,
                            system.states.iter().map(at).collect(),
                        );
                        stage.systems.push((operands.clone(), affine));
                        stage.states.push(StateVal::None);
                        stage.accumulators.push(None);
                    }
                    Keeping::Member => {
                        stage.states.push(StateVal::None);
                        stage.accumulators.push(None);
                    }
                    Keeping::Sum { modulus, end_around, word: value, second } => {
                        let other = second.map_or(index, |second| second.state.0 as usize);
                        let sums = Sums::new(
                            &mut self.b,
                            word,
                            state.ty.max(pipe.states[other].ty),
                            (*modulus, *end_around),
                            *second,
                            pipe.tail,
                            self.shape.unroll,
                            // Other stages fill the time that vectors one after the other take.
                            busy,
                        );
                        stage.sums.push((index, other, *value, sums));
                        stage.states.push(StateVal::None);
                        stage.accumulators.push(None);
                    }
                    Keeping::SumOfSums => {
                        stage.states.push(StateVal::None);
                        stage.accumulators.push(None);
                    }
                    Keeping::Onward(step) => {
                        let round = Round::of(pipe.tail, pipe.word_bytes());
                        let onward = Onward::new(&mut self.b, word, state.ty, step, round, slot);
                        stage.onward.push((index, onward));
                        stage.states.push(StateVal::None);
                        stage.accumulators.push(None);
                    }
                    Keeping::Delay(_) | Keeping::Scan(..) => {
                        let fits = state.ty.bytes() <= pipe.word_bytes();
                        if !fits {
                            return Err(format!("a state of type {} carried from word to word", state.ty));
                        }
                        let carried = match &stage.study.keeping[index] {
                            Keeping::Scan(fold, _) => Carried::running(&mut self.b, word, *fold, slot),
                            _ => Carried::delay(&mut self.b, word, slot),
                        };
                        stage.carried.push((index, carried));
                        stage.states.push(StateVal::None);
                        stage.accumulators.push(None);
                    }
                }
            }
            let order = &stage.study.order;
            stage.carried.sort_by_key(|(state, _)| order.iter().position(|at| at == state));
            for (value, inst) in pipe.body.iter() {
                let index = value.0 as usize;
                let period = stage.study.periods[index].filter(|_| stage.study.needed[index]);
                // Each pattern keeps a register; with too many of them there is no code, so why evaluate on.
                let pinned = |of: Kind| self.b.kinds.iter().filter(|kind| **kind == of).count();
                let (vectors, masks) = (pinned(Kind::PinnedVector), pinned(Kind::PinnedMask));
                if period.is_some() && (vectors >= self.b.isa.registers() || masks >= MASKS) {
                    return Err("more positional patterns than registers".to_owned());
                }
                let pattern = period.map(|period| pattern(&mut self.b, stage.study, value, inst.ty, period));
                stage.given.push(pattern);
            }
        }
        Ok(())
    }
}

/// Masks that may be kept around the loops: one is never free, and one is for what the loop computes.
const MASKS: usize = 6;

/// Registers with what a positional value is for each word of a vector, from the place in its period at which the stretch
/// begins.
fn pattern(b: &mut Builder, study: &Study<'_>, value: Value, ty: Ty, period: usize) -> Val {
    let word = study.pipe.word_bytes();
    let lane = Lane::of_bytes(ty.bytes().max(word));
    let vector = b.vector_bytes();
    let numbers = study.pattern(value, (vector + period) / word);
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
    b.push(Code::Lea_r64_m, &[Opd::Gpr(r9), Opd::Mem(Mem::Pool { entry, disp: 0 })], None, None, None, false);
    let code = match b.isa {
        Isa::Avx512 => Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512,
        Isa::Avx2 => Code::VEX_Vmovdqu_ymm_ymmm256,
    };
    let full = b.full();
    if ty == Ty::Bool {
        let from = Mem::Base { base: r9, index: rax, scale: 1, disp: 0 };
        let numbers = b.fresh(Kind::Vector, full, code, &[Opd::Mem(from)]);
        let zero = b.splat(Lane::B, 0);
        let set = b.compare(lane, Cmp::Ne, numbers, zero);
        let pinned = if b.is_mask(set) { b.pinned_mask() } else { b.pinned_vector() };
        b.assign(pinned, set);
        return Val::Cond(pinned);
    }
    let parts = (0..lane.bytes() / word).map(|part| {
        let from = Mem::Base { base: r9, index: rax, scale: 1, disp: (part * vector) as i32 };
        let pinned = b.pinned_vector();
        b.push(code, &[Opd::Reg(pinned, full), Opd::Mem(from)], Some(pinned), None, None, false);
        pinned
    });
    Val::Int(parts.collect())
}

/// A state that never changes, in every lane.
fn constant_state(b: &mut Builder, ty: Ty, word: Lane, slot: i32) -> Val {
    let from = Opd::Mem(Mem::Base { base: STATES, index: Register::None, scale: 1, disp: slot });
    let lane = Lane::of_bytes(ty.bytes()).max(word);
    let code = broadcast(b.isa, lane);
    let full = b.full();
    let loaded = b.fresh(Kind::Vector, full, code, &[from]);
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
