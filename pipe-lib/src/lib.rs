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
mod error;
mod features;
mod options;

pub mod library;

pub mod analyse;

// The portable vector form is what only Cranelift's loops are made from.
#[cfg_attr(not(feature = "cranelift"), allow(dead_code))]
pub mod plan;

pub mod backend;

mod code;
mod select;

mod drive;
mod ends;
pub mod engine;
mod export;
mod program;
mod registers;
pub mod run;
pub mod stream;

pub mod cache;
pub mod inspect;
pub mod pipeline;

pub use cache::EngineCache;
pub use compose::{Composer, Composition};
pub use diagnostic::Diagnostics;
pub use engine::{Engine, Prepared};
pub use error::{CompileError, RunError, Unsupported};
pub use features::{FeatureError, Features};
pub use library::Library;
pub use options::{Backend, CompileOptions};
pub use pipeline::Pipeline;
pub use program::{ExportInfo, RegisterInfo};
pub use run::{ExportValue, Imports, Run};
pub use stream::Stream;

pub mod testing;
