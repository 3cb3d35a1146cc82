//! Composition: instances of pipes in stream order, between two layouts. Nothing is fused yet: this is what the
//! interpreter runs and what the planner starts from.

use crate::ir::{Layout, Pipe};
use std::num::NonZeroU64;
use std::sync::Arc;

/// One instance of a pipe in a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stage {
    /// Instance name, unique in the composition; prefix of its exports and states (`name.register`).
    pub name: String,
    /// The pipe, all parameters bound (no `Op::Param`, no `StateInit::Param`, `params` empty).
    pub pipe: Arc<Pipe>,
    /// Bytes after which state, phase and tail rule start anew, and each export gains an entry.
    pub window: Option<NonZeroU64>,
}

/// Stages from left to right, with the device rules at either end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Composition {
    /// In stream order; may be empty (a plain copy).
    pub stages: Vec<Stage>,
    /// Rules of the buffer that is read; `None` for contiguous memory.
    pub source: Option<Arc<Layout>>,
    /// Rules of the buffer that is written; `None` for contiguous memory.
    pub sink: Option<Arc<Layout>>,
}
