//! The code of a pass after rewrites that rest on the values of its states.
//!
//! What is compiled computes some of the states; the others follow from them, as long as all start as they would have come
//! out. That is looked at on every call. Where it does not hold (an import gave two equal taps different sums), the stages run
//! as they were written: that code is made when it is needed first, and kept.

use super::{PassCode, Target};
use crate::ir::Pipe;
use crate::plan::rewrite::Rewritten;
use smallvec::SmallVec;
use std::sync::{Arc, OnceLock};

/// States on the stack of a run; more are allocated.
type States = SmallVec<[u64; 32]>;

/// Rewritten code, and a way to do without it.
pub(crate) struct Guarded {
    code: Box<dyn PassCode>,
    rewritten: Rewritten,
    /// Every state of the pass is in its place in the rewritten code.
    in_place: bool,
    states: usize,
    as_written: OnceLock<Box<dyn PassCode>>,
    stages: Box<[Arc<Pipe>]>,
    target: Target,
}

impl Guarded {
    /// `code` for what `stages` were rewritten to; `target` is asked for them as they are, should it come to that.
    pub(crate) fn new(
        code: Box<dyn PassCode>,
        rewritten: Rewritten,
        stages: Box<[Arc<Pipe>]>,
        target: Target,
    ) -> Guarded {
        let states = stages.iter().map(|pipe| pipe.states.len()).sum();
        let in_place = rewritten.kept.iter().copied().eq(0..states);
        Guarded { code, rewritten, in_place, states, as_written: OnceLock::new(), stages, target }
    }
}

impl PassCode for Guarded {
    unsafe fn run(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        let all: &mut [u64] = if self.states == 0 {
            &mut []
        } else {
            // SAFETY: the contract gives one initialised word for each state, not used by anyone else meanwhile.
            unsafe { std::slice::from_raw_parts_mut(states, self.states) }
        };
        if !self.rewritten.holds(all) {
            let code = self.as_written.get_or_init(|| super::as_written(&self.stages, self.target));
            // SAFETY: code for the very stages of the pass, under the same contract.
            return unsafe { code.run(states, pos, src, dst, len) };
        }
        if self.in_place {
            // SAFETY: the rewritten code has the states of the pass, in their order; the rest is the caller's promise.
            return unsafe { self.code.run(states, pos, src, dst, len) };
        }
        let mut kept: States = self.rewritten.kept.iter().map(|&state| all[state]).collect();
        // SAFETY: one word for each state of the rewritten stages; the rest is the caller's promise.
        unsafe { self.code.run(kept.as_mut_ptr(), pos, src, dst, len) };
        for (&state, value) in self.rewritten.kept.iter().zip(&kept) {
            all[state] = *value;
        }
        for link in &self.rewritten.links {
            all[link.state] = link.value(all[link.from]);
        }
    }
}
