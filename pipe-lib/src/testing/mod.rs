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
