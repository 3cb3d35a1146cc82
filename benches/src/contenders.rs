//! Who takes part: our engines, and the rivals.

use crate::cases::{Case, KEY};
use crate::harness::{Body, Slots, timed};
use anyhow::Context;
use pipe_lib::Features;
use pipe_lib::{Backend, CompileOptions, Engine, ExportId, Library};
use rivals::libraries::{self, Alone};
use rivals::orc::Orc;
use rivals::{Allowed, Isa, Separate, Step, Sums, Variant};
use std::time::Duration;

/// One way of doing a case.
pub struct Contender {
    /// For people: `memcpy`, `separate`, `blocked 4K`, `hand AVX-512`, `cranelift`, ...
    pub name: String,
    /// Which variant it is, of several with this name.
    pub note: String,
    /// How.
    pub body: Box<dyn Body>,
    /// Whether it does the whole case, so that its result must be that of the others.
    pub is_complete: bool,
    /// Takes part from this size on.
    pub least: usize,
    /// Takes no part at odd addresses.
    pub needs_alignment: bool,
}

impl std::fmt::Debug for Contender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contender").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A pure copy: what any transfer costs at least.
pub const MEMCPY: &str = "memcpy";
/// A bare copy by hand.
pub const COPY: &str = "copy by hand";
/// The same, its stores past the caches.
pub const COPY_NT: &str = "copy by hand NT";
/// The best separate pass for each step.
pub const SEPARATE: &str = "separate";
/// The loop by hand with the widest vectors.
pub const HAND: &str = "hand AVX-512";
/// The loop by hand with vectors of 256 bits.
pub const HAND_AVX2: &str = "hand AVX2";
/// The same, its stores past the caches.
pub const STREAMING: &str = "hand AVX-512 NT";
/// Our own emitter.
pub const NATIVE: &str = "native";
/// The same, run for what it exports alone.
pub const NATIVE_READING: &str = "native, reading only";
/// Our own emitter, kept to the instructions that `hand AVX2` uses.
pub const NATIVE_AVX2: &str = "native AVX2";
/// From this size on stores past the caches can pay.
const LARGE: usize = 4 << 20;

impl Contender {
    fn new(name: impl Into<String>, run: impl Fn(&[u8], &mut [u8]) -> Sums + 'static) -> Contender {
        Contender {
            name: name.into(),
            note: String::new(),
            body: Box::new(run),
            is_complete: true,
            least: 0,
            needs_alignment: false,
        }
    }

    fn memcpy() -> Contender {
        let copy = |src: &[u8], dst: &mut [u8]| {
            dst[..src.len()].copy_from_slice(src);
            Sums::default()
        };
        Contender { is_complete: false, ..Contender::new(MEMCPY, copy) }
    }

    fn alone(library: Alone) -> Contender {
        let run = move |src: &[u8], _: &mut [u8]| {
            let mut sums = Sums::default();
            sums[0] = (library.run)(src);
            sums
        };
        Contender { is_complete: false, ..Contender::new(library.name, run) }
    }

    /// An engine, with what the summing steps came to.
    fn engine(name: &str, engine: Engine, exports: &[ExportId]) -> Contender {
        fn body<const N: usize>(engine: Engine, exports: &[ExportId]) -> Option<Box<dyn Body>> {
            Some(Box::new(Composed::<N> { engine, exports: exports.try_into().ok()? }))
        }
        let body = match exports.len() {
            0 => body::<0>(engine, exports),
            1 => body::<1>(engine, exports),
            2 => body::<2>(engine, exports),
            _ => body::<3>(engine, exports),
        };
        let body = body.unwrap_or_else(|| unreachable!("at most {} sums", rivals::MAX_SUMS));
        Contender { body, ..Contender::new(name, |_, _| Sums::default()) }
    }
}

/// An engine, run, and `N` exports read. Both are in the loop that is timed, as they are in a program of
/// one's own: where a rival is called through a pointer, so is the engine's code, and nothing stands between.
struct Composed<const N: usize> {
    engine: Engine,
    exports: [ExportId; N],
}

impl<const N: usize> Composed<N> {
    #[inline(always)]
    fn transfer(&self, src: &[u8], dst: &mut [u8]) -> Sums {
        let run = self.engine.run(src, dst).expect("equal lengths, a multiple of the gauge");
        std::array::from_fn(|index| if index < N { run.value(self.exports[index]) as u32 } else { 0 })
    }
}

impl<const N: usize> Body for Composed<N> {
    fn run(&self, src: &[u8], dst: &mut [u8]) -> Sums {
        self.transfer(src, dst)
    }

    fn stretch(&self, slots: &mut Slots<'_>, repeats: u32) -> Duration {
        timed(slots, repeats, |src, dst| self.transfer(src, dst))
    }
}

/// What the rivals may use, so that they have what engines with these features have; without, all that there
/// is.
pub fn allowed(features: Option<Features>) -> Allowed {
    features.map_or_else(Allowed::here, |features| Allowed::only(features.names()))
}

/// Everyone who can do the case on this machine, or with `features` alone. Where a loop by hand is written in
/// several ways they have the same name, the usual best first.
///
/// # Errors
/// If the standard library does not have the case's pipes, or no backend takes them.
pub fn contenders(case: &Case, features: Option<Features>) -> anyhow::Result<Vec<Contender>> {
    let allowed = allowed(features);
    let mut list = vec![Contender::memcpy()];
    list.extend(copies(allowed));
    let separate = Separate::new(case.steps, allowed);
    for (name, block) in [(SEPARATE, rivals::MAX_LEN), ("blocked 4K", 4 << 10), ("blocked 16K", 16 << 10)] {
        let separate = separate.clone();
        list.push(Contender::new(name, move |src, dst| separate.blocked(src, dst, block)));
    }
    for (name, isa) in
        [("rustc SSE2", Isa::Portable), ("rustc AVX2", Isa::Avx2), ("rustc AVX-512", Isa::Avx512)]
    {
        if let Some(run) = rivals::by_rustc(case.steps, isa, allowed) {
            list.push(Contender::new(name, move |src, dst| run(src, dst, KEY)));
        }
    }
    for (name, isa) in [(HAND_AVX2, Isa::Avx2), (HAND, Isa::Avx512)] {
        for Variant { name: note, run } in rivals::by_hand(case.steps, isa, allowed) {
            let contender = Contender::new(name, move |src, dst| run(src, dst, KEY));
            list.push(Contender { note: note.into(), ..contender });
        }
    }
    if let Some(run) = rivals::streaming(case.steps, allowed) {
        list.push(Contender {
            least: LARGE,
            ..Contender::new(STREAMING, move |src, dst| run(src, dst, KEY))
        });
    }
    if let Some(orc) = Orc::new(case.steps) {
        let contender = Contender::new("Orc", move |src, dst| orc.run(src, dst, KEY));
        list.push(Contender { needs_alignment: true, ..contender });
    }
    let mut alone = Vec::new();
    for step in case.steps {
        alone.extend(match step {
            Step::Crc32c if case.steps.len() == 1 => {
                let narrow = if allowed.wide_clmul { Vec::new() } else { libraries::crc32c_narrow() };
                [libraries::crc32c(), narrow, libraries::crc32()].concat()
            }
            Step::Crc32c => libraries::crc32c(),
            Step::Adler32 => libraries::adler32(),
            Step::Inet if case.steps.len() == 1 => libraries::inet(),
            _ => Vec::new(),
        });
    }
    list.extend(alone.into_iter().map(Contender::alone));
    list.extend(engines(case, features)?);
    Ok(list)
}

fn engines(case: &Case, features: Option<Features>) -> anyhow::Result<Vec<Contender>> {
    let pipeline = Library::standard()
        .pipeline(case.pipeline)
        .map_err(|errors| anyhow::anyhow!("the pipeline of `{}` does not compose: {errors:?}", case.name))?;
    let mut list = Vec::new();
    let mut all = vec![("cranelift", Backend::Cranelift, features), (NATIVE, Backend::Native, features)];
    // Not for this machine, or only what is compared anyway: not in the table either.
    if let (None, Ok(narrow)) = (features, Features::named("avx2,pclmul")) {
        all.insert(1, (NATIVE_AVX2, Backend::Native, Some(narrow)));
    }
    for (name, backend, features) in all {
        let options = CompileOptions::from(backend).features(features);
        let Ok(engine) = pipeline.compile_with(&options) else { continue };
        let index = |name: &&str| {
            engine.export_id(name).with_context(|| format!("`{}` has no export {name}", case.pipeline))
        };
        let exports = case.exports.iter().map(index).collect::<anyhow::Result<Vec<ExportId>>>()?;
        // What libraries do to a CRC, which write nothing.
        if let (NATIVE, [Step::Crc32c], &[crc]) = (name, case.steps, &exports[..]) {
            let engine = engine.clone();
            let run = move |src: &[u8], _: &mut [u8]| {
                let run = engine.run_read_only(src).expect("any length");
                std::array::from_fn(|index| if index == 0 { run.value(crc) as u32 } else { 0 })
            };
            list.push(Contender { is_complete: false, ..Contender::new(NATIVE_READING, run) });
        }
        list.push(Contender::engine(name, engine, &exports));
    }
    anyhow::ensure!(!list.is_empty(), "no backend takes `{}`", case.pipeline);
    Ok(list)
}

/// Copies by hand that do nothing else: with `memcpy`, what memory allows.
fn copies(allowed: Allowed) -> Vec<Contender> {
    let by_hand = rivals::by_hand(&[], allowed.isa, allowed).first().map(|variant| variant.run);
    [(COPY, by_hand, 0), (COPY_NT, rivals::streaming(&[], allowed), LARGE)]
        .into_iter()
        .filter_map(|(name, run, least)| {
            let run = run?;
            let copy = Contender::new(name, move |src, dst| run(src, dst, 0));
            Some(Contender { is_complete: false, least, ..copy })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::{CASES, SIX};

    /// Sets of features that this machine has, all of them first.
    fn sets() -> Vec<Option<Features>> {
        let less = ["avx512,vnni,pclmul", "avx2,pclmul,vpclmul", "avx2,pclmul", "avx2"];
        std::iter::once(None)
            .chain(less.iter().filter_map(|names| Features::named(names).ok().map(Some)))
            .collect()
    }

    #[test]
    fn all_contenders_of_a_case_agree() {
        for (case, features) in CASES.iter().flat_map(|case| sets().into_iter().map(move |set| (case, set))) {
            let list = contenders(case, features).unwrap();
            let complete = list.iter().filter(|contender| contender.is_complete);
            assert!(complete.clone().count() >= 4, "{}", case.name);
            for len in (0..700).step_by(4).chain([1460, 4096, 20_000, 100_004]) {
                let src: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8 ^ 0x80).collect();
                let mut expected = None;
                for contender in complete.clone() {
                    let mut dst = vec![0; case.written_len(len)];
                    let sums = contender.body.run(&src, &mut dst);
                    let expected = expected.get_or_insert_with(|| (dst.clone(), sums));
                    assert!(
                        *expected == (dst, sums),
                        "{}, {len} bytes: {} {} with {features:?}",
                        case.name,
                        contender.name,
                        contender.note
                    );
                }
            }
        }
    }

    #[test]
    fn the_cases_by_hand_have_all_rivals() {
        for (name, features) in
            SIX.iter().chain(&["five pipes"]).flat_map(|name| sets().into_iter().map(move |set| (name, set)))
        {
            let case = Case::named(name).unwrap();
            let list = contenders(case, features).unwrap();
            let allowed = allowed(features);
            let mut rivals = vec![MEMCPY, SEPARATE, NATIVE];
            // Five pipes contain a CRC.
            if allowed.isa >= Isa::Avx2 && (SIX.contains(name) || allowed.clmul) {
                rivals.push(HAND_AVX2);
            }
            if allowed.isa == Isa::Avx512 && (SIX.contains(name) || allowed.wide_clmul) {
                rivals.push(HAND);
            }
            if allowed.isa < Isa::Avx2 || !(SIX.contains(name) || allowed.clmul) {
                rivals.retain(|&rival| rival != NATIVE);
            }
            for rival in rivals {
                assert!(
                    list.iter().any(|contender| contender.name == rival),
                    "{name} lacks {rival}: {features:?}"
                );
            }
        }
    }
}
