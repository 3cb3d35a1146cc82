//! The code of a pass after rewrites that rest on the values of its states.
//!
//! What is compiled computes some of the states; the others are derived from them, as long as all start from
//! related values. That is checked on every call. Where it does not hold (imported values gave two equal taps
//! different sums), the stages run as they were written: that code is made when it is first needed, and kept.

use super::Wanted;
use crate::analyse::Analysed;
use crate::backend::{Listed, PassCode, Striped};
use crate::drive::BLOCK;
use crate::ends::{LayoutSink, LayoutSource, Sink as _, Source as _};
use crate::ir::{Layout, Stripe};
use crate::plan::rewrite::Rewritten;
use smallvec::SmallVec;
use std::mem::MaybeUninit;
use std::sync::{Arc, OnceLock};

/// States on the stack of a run; more are allocated.
type States = SmallVec<[u64; 32]>;

/// Rewritten code, and a way to do without it.
pub(crate) struct Guarded {
    code: Box<dyn PassCode>,
    rewritten: Arc<Rewritten>,
    states: usize,
    as_written: OnceLock<Box<dyn PassCode>>,
    stages: Box<[Analysed]>,
    wanted: Wanted,
}

impl Guarded {
    /// `code` for what `stages` were rewritten to; `wanted` is the backend that compiles them as they are,
    /// should that be needed.
    pub(crate) fn new(
        code: Box<dyn PassCode>,
        rewritten: Arc<Rewritten>,
        stages: Box<[Analysed]>,
        wanted: Wanted,
    ) -> Guarded {
        let states = stages.iter().map(|pipe| pipe.states.len()).sum();
        Guarded { code, rewritten, states, as_written: OnceLock::new(), stages, wanted }
    }
}

impl Guarded {
    /// Calls `run` with code that may run from these states, and with where that code has its own.
    ///
    /// # Safety
    /// `states` are those of the pass, not used by anyone else meanwhile.
    #[inline(always)]
    unsafe fn with(&self, states: *mut u64, run: impl FnOnce(Choice<'_>, *mut u64)) {
        let all: &mut [u64] = if self.states == 0 {
            &mut []
        } else {
            // SAFETY: one initialised word for each state, as the caller promises.
            unsafe { std::slice::from_raw_parts_mut(states, self.states) }
        };
        if !self.rewritten.holds(all) {
            let code = self.as_written.get_or_init(|| super::as_written(&self.stages, self.wanted));
            return run(Choice::AsWritten(&**code), states);
        }
        let kept = &self.rewritten.kept;
        let mut states: States = kept.iter().map(|kept| kept.start(all[kept.state])).collect();
        run(Choice::Rewritten(&*self.code), states.as_mut_ptr());
        for (kept, value) in kept.iter().zip(&states) {
            all[kept.state] = kept.finish(all[kept.state], *value);
        }
        for link in &self.rewritten.links {
            all[link.state] = link.value(all[link.from]);
        }
    }
}

/// Code for the very stages of a pass or for what they were rewritten to, under the same contract.
#[derive(Clone, Copy)]
enum Choice<'a> {
    Rewritten(&'a dyn PassCode),
    AsWritten(&'a dyn PassCode),
}

impl<'a> Choice<'a> {
    fn code(self) -> &'a dyn PassCode {
        match self {
            Choice::Rewritten(code) | Choice::AsWritten(code) => code,
        }
    }
}

impl PassCode for Guarded {
    fn functions(&self) -> Vec<Listed<'_>> {
        self.code.functions()
    }

    fn is_serial(&self) -> bool {
        self.code.is_serial()
    }

    unsafe fn run(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        // SAFETY: code for the stages of the pass with its states; the rest is the caller's promise.
        unsafe { self.with(states, |choice, states| choice.code().run(states, pos, src, dst, len)) }
    }

    unsafe fn run_streaming(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        // SAFETY: as for `run`.
        unsafe { self.with(states, |choice, states| choice.code().run_streaming(states, pos, src, dst, len)) }
    }

    fn longest_striped(&self, end: Striped) -> Option<usize> {
        self.code.longest_striped(end)
    }

    unsafe fn run_striped(
        &self,
        end: Striped,
        states: *mut u64,
        pos: u64,
        src: *const u8,
        dst: *mut u8,
        len: usize,
    ) {
        // SAFETY: as above; the rewritten code was asked how much it takes at most.
        unsafe {
            self.with(states, |choice, states| match (choice, self.wanted.stripes.at(end)) {
                (Choice::AsWritten(code), Some(stripe)) => {
                    striped_by_any(code, end, stripe, (states, pos, src, dst, len));
                }
                (Choice::Rewritten(code) | Choice::AsWritten(code), _) => {
                    code.run_striped(end, states, pos, src, dst, len);
                }
            });
        }
    }
}

/// What a call of generated code is given.
type Call = (*mut u64, u64, *const u8, *mut u8, usize);

/// [`PassCode::run_striped`] of code that may take less at a time, or was not made for stripes at all: then
/// through blocks.
///
/// # Safety
/// The contract of [`PassCode::run_striped`].
unsafe fn striped_by_any(
    code: &dyn PassCode,
    end: Striped,
    stripe: Stripe,
    (states, pos, src, dst, len): Call,
) {
    let layout = Layout {
        name: String::new(),
        doc: String::new(),
        stripe: Some(stripe),
        store: None,
        fixed: false,
        pad: 0,
    };
    let (mut source, mut sink) = (LayoutSource::new(&layout, src), LayoutSink::new(&layout, dst));
    let mut block = [const { MaybeUninit::<u8>::uninit() }; BLOCK];
    let block = block.as_mut_ptr().cast::<u8>();
    let longest = code.longest_striped(end);
    let mut at = 0;
    while at < len {
        let n = (len - at).min(longest.unwrap_or(BLOCK));
        let (here, place) = (pos + at as u64, stripe.offset(at as u64) as usize);
        // SAFETY: `n` bytes are left at both ends, and a stripe begins there, since what code takes at most
        // is whole vectors; the block has room for them.
        unsafe {
            match (end, longest) {
                (Striped::Source, Some(_)) => {
                    code.run_striped(end, states, here, src.wrapping_add(place), dst.add(at), n);
                }
                (Striped::Sink, Some(_)) => {
                    code.run_striped(end, states, here, src.add(at), dst.wrapping_add(place), n);
                }
                (Striped::Source, None) => {
                    source.take(block, n);
                    code.run(states, here, block, dst.add(at), n);
                }
                (Striped::Sink, None) => {
                    code.run(states, here, src.add(at), block, n);
                    sink.put(block, n);
                }
            }
        }
        at += n;
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::Striped;
    use crate::features::Features;
    use crate::testing::{Judge, Rng};
    use crate::{Backend, CompileOptions, Library};

    #[test]
    fn striped_buffers_are_reached_through_rewritten_passes_and_without_the_condition() {
        let mut rng = Rng::new(41);
        let cases = [
            ("inet_cksum as a | inet_cksum as b -> lance", Striped::Sink),
            ("lance -> inet_cksum as a | inet_cksum as b | byteswap32", Striped::Source),
        ];
        for (text, end) in cases {
            let pipeline = Library::standard().pipeline(text).unwrap();
            let all = Features::detected();
            let options = [all, all.without(Features::AVX512)].map(|features| CompileOptions {
                backend: Backend::Auto,
                features: Some(features),
                ..CompileOptions::default()
            });
            let judge = Judge::with_options(pipeline.composition().clone(), options).unwrap();
            for (options, engine) in judge.engines() {
                let longest = engine.program.passes[0].code.longest_striped(end);
                let is_native = options.features.is_some_and(|features| features.has(Features::AVX2));
                assert_eq!(longest.is_some(), is_native, "{text}");
            }
            // Some of the imports give the two sums different values.
            for round in 0..60 {
                judge
                    .judge(&mut rng, 4 * (round * round + round % 3))
                    .unwrap_or_else(|failure| panic!("{text}: {failure}"));
            }
        }
    }
}
