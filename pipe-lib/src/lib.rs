//! The pipe language and its run-time compiler: small data-manipulation steps fused into one machine-code loop.
//!
//! Modules stand in the order in which data flow through them.

pub mod diagnostic;
pub mod limits;
pub mod source;

pub mod syntax;

mod check;

pub mod ir;

pub mod compose;

pub mod library;

pub mod analyse;

pub mod plan;

pub mod backend;

mod code;

mod drive;
mod ends;
pub mod engine;
mod export;
mod registers;
pub mod run;
pub mod stream;

pub mod cache;
pub mod inspect;
pub mod pipeline;

pub use backend::Backend;
pub use cache::EngineCache;
pub use compose::{Composer, Composition};
pub use diagnostic::Diagnostics;
pub use engine::{CompileError, CompileOptions, Engine, Prepared};
pub use library::Library;
pub use pipeline::Pipeline;
pub use run::{ExportInfo, ExportValue, Imports, Run, RunError};
pub use stream::Stream;

pub mod testing;
