//! Random well-typed pipelines, and the judgement of every backend and every way to run by the oracle.
//!
//! Used by the tests and by `pipec fuzz`; not by anything that serves. Everything follows from a seed, so a failure is
//! reproduced by its seed alone.

pub mod generate;
pub mod judge;
pub mod rng;

pub use generate::Generator;
pub use judge::{Failure, Judge};
pub use rng::Rng;

use crate::backend::Backend;

/// A fuzz target: the bytes decide on a pipeline, a stream and the ways to run it.
///
/// # Panics
/// If a backend does not agree with the oracle.
pub fn fuzz_composition(bytes: &[u8]) {
    let mut rng = Rng::from_tape(bytes);
    let composition = Generator::new(&mut rng).composition();
    let backends = [Backend::Interp, Backend::Cranelift, Backend::Native];
    let result = Judge::new(composition.clone(), &backends).and_then(|judge| {
        let len = rng.between(0, 255) * rng.between(1, 4);
        judge.judge(&mut rng, len)
    });
    if let Err(failure) = result {
        panic!("{failure}\n{composition:#?}");
    }
}
