//! The pipe language and its run-time compiler: small data-manipulation steps fused into one machine-code
//! loop.
//!
//! Modules are in the order in which data flow through them.
//!
//! Features, the first three on by default:
//! * `native`: an x86-64 emitter of our own, for processors with AVX2;
//! * `cranelift`: portable machine code, for everything else and what `native` refuses (most of the time of a
//!   first build);
//! * `parallel`: `Engine::run_parallel` and its kin;
//! * `digests`: digests of other crates (SHA-2, BLAKE3, ..) as stages of a pipeline;
//! * `emit`: the module [`emit`](https://docs.rs/pipe-lib), object files for other programs;
//! * `cross`: such files for machines of another kind, too, which takes Cranelift's other code generator;
//! * `inspect`: the module [`inspect`](https://docs.rs/pipe-lib), which shows plans, dataflow and machine
//!   code;
//! * `testing`: random pipelines, and a judge that compares every backend with the oracle.
//!
//! Without `native` and `cranelift` everything is interpreted.

// A build without a feature has helpers that nobody calls; the build with all of them has none.
#![cfg_attr(
    not(all(
        native,
        feature = "cranelift",
        feature = "emit",
        feature = "parallel",
        feature = "inspect",
        feature = "testing"
    )),
    allow(dead_code, unused_imports)
)]

pub mod diagnostic;
pub mod limits;
pub mod source;

pub mod syntax;

mod check;

pub mod digest;
pub mod ir;
mod wide;

pub mod compose;
mod error;
mod features;
mod options;

pub mod library;

pub mod analyse;

mod plan;

mod outline;

mod backend;

#[cfg(any(native, feature = "cranelift"))]
mod code;
mod select;

mod drive;
mod ends;
pub mod engine;
mod export;
mod framing;
mod ones_sum;
mod program;
mod registers;
pub mod run;
pub mod stream;

pub mod aead;
pub mod cache;
#[cfg(feature = "emit")]
pub mod emit;
pub mod handler;
#[cfg(feature = "inspect")]
pub mod inspect;
pub mod pipeline;

pub use cache::EngineCache;
pub use compose::{Composer, Composition};
pub use diagnostic::Diagnostics;
pub use engine::{Engine, Prepared};
pub use error::{CompileError, Mismatch, RunError, Unsupported};
pub use features::{FeatureError, Features};
pub use library::Library;
pub use ones_sum::OnesSum;
pub use options::{Backend, CompileOptions};
pub use pipeline::Pipeline;
pub use program::{ExportId, ExportInfo, RegisterInfo};
pub use run::{ExportValue, Imports, Run};
pub use stream::Stream;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
