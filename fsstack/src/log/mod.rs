//! An image that changes: a file of sealed segments, each an image of its own, and two superblocks that take turns in naming
//! them (`docs/log-format.md`).
//!
//! ```text
//!   Log (one writer)    changes in memory ── sync ──▶ segment, flush, superblock, flush ──▶ Generation n + 1
//!   Generation          what readers have: a tree that never changes, whose segments stay as long as it does
//! ```
//!
//! [`Generation::open`] reads logs and plain images alike. [`Log`] writes: changes are done in memory and wait for nothing;
//! [`Log::sync`] makes all of them durable at once, or none.

mod commit;
mod error;
mod generation;
mod journal;
mod node;
mod pack;
mod segment;
mod space;
mod superblock;
mod tree;
mod usage;
mod writer;

pub use error::{ChangeError, LogError};
pub use generation::{Checked, Entry, Generation, OpenFile};
pub use node::Contents;
pub use segment::SegmentKind;
pub use usage::Usage;
pub use writer::{Log, Receipt};

/// Whether a file that begins with these bytes is a log.
pub fn is_log(first: &[u8]) -> bool {
    first.starts_with(&superblock::MAGIC)
}
