//! The code of a pass after rewrites that rest on the values of its states.
//!
//! What is compiled computes some of the states; the others follow from them, as long as all start as they would have come
//! out. That is looked at on every call. Where it does not hold (an import gave two equal taps different sums), the stages run
//! as they were written: that code is made when it is needed first, and kept.

use super::{Entry, PassCode, Target};
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

impl Guarded {
    /// Does `run` with the code that fits how the states start, and the states it has.
    ///
    /// # Safety
    /// `states` are the pass's, as the contract of [`PassCode`] says; `run` may be called with the stages' code of either
    /// kind and its states.
    unsafe fn with_code(&self, states: *mut u64, run: impl Fn(&dyn PassCode, *mut u64)) {
        let all: &mut [u64] = if self.states == 0 {
            &mut []
        } else {
            // SAFETY: the contract gives one initialised word for each state, not used by anyone else meanwhile.
            unsafe { std::slice::from_raw_parts_mut(states, self.states) }
        };
        if !self.rewritten.holds(all) {
            let code = self.as_written.get_or_init(|| super::as_written(&self.stages, self.target));
            return run(&**code, states);
        }
        if self.in_place {
            return run(&*self.code, states);
        }
        let mut kept: States = self.rewritten.kept.iter().map(|&state| all[state]).collect();
        run(&*self.code, kept.as_mut_ptr());
        for (&state, value) in self.rewritten.kept.iter().zip(&kept) {
            all[state] = *value;
        }
        for link in &self.rewritten.links {
            all[link.state] = link.value(all[link.from]);
        }
    }
}

impl PassCode for Guarded {
    unsafe fn run(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        // SAFETY: code for the stages of the pass under the same contract, with one word for each of its states.
        unsafe { self.with_code(states, |code, states| code.run(states, pos, src, dst, len)) }
    }

    unsafe fn run_streaming(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        // SAFETY: as for `run`.
        unsafe { self.with_code(states, |code, states| code.run_streaming(states, pos, src, dst, len)) }
    }

    fn admits(&self, states: &[u64]) -> bool {
        self.rewritten.holds(states)
    }

    fn entry(&self) -> Option<Entry> {
        self.code.entry().filter(|_| self.in_place)
    }

    fn striped(&self) -> Option<Entry> {
        self.code.striped().filter(|_| self.in_place)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Backend, Library};

    /// A sum reduced by comparing, which is one modulo 65521 as long as it starts below that: to memory and to stripes, of
    /// lengths that are called directly and of others.
    #[test]
    fn direct_calls_are_for_states_that_the_rewrites_hold_for() {
        let mut library = Library::standard();
        let text = "pipe p : u8 { state a: u32 = 1; in x; zext.u32 w, x
            add t, a, w; ltu c, t, 65521; sub u, t, 65521; sel a, c, t, u; export a }";
        library.load("sum.pipe", text).unwrap_or_else(|errors| panic!("{errors:?}"));
        // The last one computes two of its three sums.
        for (text, in_place) in
            [("p", true), ("p -> lance", true), ("p | xor8(key=7) | p as q | p as r", false)]
        {
            let pipeline = library.pipeline(text).unwrap();
            let engine = |backend: Backend| pipeline.compile_with(&backend.into()).unwrap();
            let (engine, oracle) = (engine(Backend::Auto), engine(Backend::Interp));
            if engine.backend() == Backend::Native {
                let code = &engine.inner.passes[0].code;
                assert!(code.admits(&[65520; 3]) && !code.admits(&[65521; 3]), "{text}");
                assert_eq!(code.entry().is_some(), in_place, "{text}");
            }
            for first in [None, Some(65520), Some(65521), Some(u64::from(u32::MAX))] {
                for len in [0, 1, 63, 64, 65, 1000] {
                    let src: Vec<u8> = (0..len).map(|at| (at * 7 % 256) as u8 | 0x80).collect();
                    let outcome = |engine: &crate::Engine| {
                        let mut imports = engine.imports();
                        let names: Vec<String> =
                            engine.registers().iter().map(|register| register.name.clone()).collect();
                        if let Some(first) = first {
                            names.iter().for_each(|name| imports.set(name, first).unwrap());
                        }
                        let mut dst = vec![0; engine.written_len(len).unwrap()];
                        let run = match first {
                            None => engine.run(&src, &mut dst).unwrap(),
                            Some(_) => engine.run_with(&imports, &src, &mut dst).unwrap(),
                        };
                        let values: Vec<u64> = names.iter().map(|name| run.register(name).unwrap()).collect();
                        (values, dst)
                    };
                    assert_eq!(outcome(&engine), outcome(&oracle), "{text}, {len} bytes from {first:?}");
                }
            }
        }
    }
}
