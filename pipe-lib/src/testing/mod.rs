//! Random well-typed pipelines, and the judgement of every backend and every way to run by the oracle.
//!
//! Used by the tests, by `pipec fuzz` and by the targets of coverage-guided fuzzing; not by anything that
//! serves. Everything follows from a seed or from bytes, which reproduce a failure.

mod blocks;
mod draft;
mod fuzz;
pub mod generate;
mod induction;
mod joint;
pub mod judge;
pub mod rng;
mod shapes;
pub mod shrink;
mod ways;

pub use fuzz::{fuzz_composition, fuzz_program, fuzz_source};
pub use generate::Generator;
pub use judge::{Failure, Judge};
pub use rng::Rng;

use crate::compose::Composition;
use crate::features::Features;
use crate::options::Backend;
use crate::options::CompileOptions;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Lengths tried for each pipeline of a long run, and ways to run each: a few of many, for more pipelines a
/// second.
const LENGTHS: usize = 4;
const WAYS: usize = 3;

/// Judges the pipeline of a seed on `backends`, fused, and on one of them as separate passes; now and then on
/// the native one as on a processor with fewer instructions, and word after word. A seed gives the same
/// pipeline and streams everywhere, though.
///
/// # Errors
/// The pipeline and how a backend differs from the oracle; a panic is a difference, too.
pub fn judge_seed(seed: u64, backends: &[Backend]) -> Result<(), Box<(Composition, Failure)>> {
    let mut rng = Rng::new(seed);
    let composition = Generator::new(&mut rng).composition();
    let mut options: Vec<CompileOptions> = backends.iter().map(|&backend| backend.into()).collect();
    if composition.stages.len() > 1 && !backends.is_empty() {
        let backend = *rng.pick(backends);
        options.push(CompileOptions { backend, separate_passes: true, features: None, serial: false });
    }
    let (fewer, features) = (rng.chance(1, 3), fewer_features(&mut rng));
    if fewer && backends.contains(&Backend::Native) {
        options.push(CompileOptions {
            backend: Backend::Native,
            separate_passes: false,
            features,
            serial: false,
        });
    }
    let serial = rng.chance(1, 6);
    if serial && backends.contains(&Backend::Cranelift) {
        options.push(CompileOptions { serial: true, ..CompileOptions::from(Backend::Cranelift) });
    }
    let judged = catch_unwind(AssertUnwindSafe(|| {
        let judge = Judge::with_options(composition.clone(), options.iter().cloned())?;
        for _ in 0..LENGTHS {
            let len = match rng.below(64) {
                0 => rng.between(3000, 10_000),
                1..12 => rng.between(0, 20),
                _ => rng.between(0, 300),
            };
            judge.judge_some(&mut rng, len, WAYS)?;
        }
        Ok(())
    }));
    let failure = match judged {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(failure)) => failure,
        Err(_) => {
            let options = options.swap_remove(0);
            Failure { options, how: "any".to_owned(), len: 0, what: "panicked".to_owned() }
        }
    };
    Err(Box::new((composition, failure)))
}

/// Some of what this processor has.
fn fewer_features(rng: &mut Rng) -> Option<Features> {
    let mut names = "avx2".to_owned();
    for name in ["avx512", "vbmi", "bitalg", "vpopcntdq", "gfni", "vnni", "pclmul", "vpclmul"] {
        if rng.chance(1, 2) && Features::named(name).is_ok() {
            names = format!("{names},{name}");
        }
    }
    Features::named(&names).ok()
}
