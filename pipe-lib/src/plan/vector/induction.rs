//! Inductions: states that depend only on themselves, such as counters and keys that rotate. Each register of
//! the chunk has the values at its words, and moves on to the next chunk by as many steps at once as there
//! are words in between.

use super::lanes::StageLowering;
use super::lower::Group;
use super::{Carry, Reg, VectorOp};
use crate::analyse::{Class, PipeFacts};
use crate::ir::{BinaryOp, Inst, Op, Pipe, StateId, Ty};
use crate::plan::induction::Step;

/// Most times that a state that passes from word to word may be wider than the word. Beyond, the registers of
/// one chunk follow one after the other for so long that the scalar loop is faster.
pub(super) const MAX_WIDENING: u8 = 4;

/// How `state` changes from word to word, if its new value is a function of its old one that has a form in
/// portable lanes.
pub(super) fn step(pipe: &Pipe, state: usize) -> Option<Step> {
    let constant = |inst: &Inst| match inst.op {
        Op::Const(c) => Some(c),
        _ => None,
    };
    let constants: Vec<Option<u64>> = pipe.body.insts.iter().map(constant).collect();
    let step = Step::by_shape(pipe, &constants, StateId(state as u32))?;
    matches!(step, Step::Affine { .. } | Step::Rotate { .. }).then_some(step)
}

/// Whether following `state` back through the states that its value is computed from ends in a cycle, beyond
/// those that a loop keeps in registers of their own.
pub(super) fn endless(pipe: &Pipe, facts: &PipeFacts, state: usize) -> bool {
    let count = facts.next.len();
    let ends = |state: usize| match &facts.states[state].class {
        Class::Invariant | Class::Reduction { .. } => true,
        Class::Positional => step(pipe, state).is_some(),
        _ => false,
    };
    // Every state that can be reached, breadth first.
    let (mut reached, mut at) = (vec![state], 0);
    while at < reached.len() {
        let looks_at = |other: &usize| {
            !ends(*other) && facts.body.depends_on(facts.next[reached[at]], StateId(*other as u32))
        };
        let found: Vec<usize> = (0..count).filter(looks_at).collect();
        if found.contains(&state)
            || found.iter().any(|other| !matches!(facts.states[*other].class, Class::Positional))
        {
            return true;
        }
        reached.extend(found.into_iter().filter(|other| !reached.contains(other)).collect::<Vec<_>>());
        at += 1;
    }
    false
}

impl StageLowering<'_> {
    /// Declares states that depend only on themselves; reading one then gives its values at the chunk's
    /// words.
    pub(super) fn declare_inductions(&mut self, states: &[(usize, Step)]) -> Result<(), String> {
        for (state, step) in states {
            let state = *state;
            let ty = self.state_types[state];
            let lane = self.lane(ty);
            let slow = matches!(step, Step::Affine { factor, .. } if *factor != 1) && lane == 8;
            if slow || lane / self.word > MAX_WIDENING {
                return Err(format!("a {ty} that follows from itself at words of {} bytes", self.word));
            }
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
        Ok(())
    }

    /// Lanes of 0 and 1 as masks.
    pub(super) fn masks(&mut self, bits: Group) -> Group {
        let zero = self.to.splat(0, bits.lane);
        let lane = bits.lane;
        self.map(&bits, |to, reg| to.emit(VectorOp::Compare(crate::ir::CompareOp::Ne, reg, zero), lane))
    }

    /// Masks of any width as words' lanes of 0 and 1.
    pub(super) fn bits(&mut self, masks: Group) -> Group {
        let masks = self.resized(masks, self.word, true);
        let one = self.to.splat(1, masks.lane);
        let lane = masks.lane;
        self.map(&masks, |to, reg| to.binary(BinaryOp::And, reg, one, lane))
    }
}
