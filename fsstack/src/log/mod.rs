//! An image that changes: a file of sealed segments, each an image of its own, and two superblocks that take
//! turns in naming them (`docs/log-format.md`).
//!
//! ```text
//!   Log (one writer)    changes in memory ── sync ──▶ segment, flush, superblock, flush ──▶ Generation n + 1
//!   Generation          what readers have: a tree that never changes, whose segments stay as long as it does
//! ```
//!
//! [`Generation::open`] reads logs and plain images alike. [`Log`] writes: changes are done in memory and
//! wait for nothing; [`Log::sync`] makes all of them durable at once, or none, and waits for the disk, as
//! [`Log::begin_sync`] does not. Its owner decides by [`policy`].

use crate::device::FileDevice;
use crate::fs::OpenError;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

mod commit;
mod error;
pub(crate) mod generation;
mod journal;
mod moved;
mod node;
mod pack;
pub mod policy;
mod posix;
mod segment;
mod space;
mod superblock;
mod tree;
mod usage;
mod writer;

pub use error::{ChangeError, LogError};
pub use generation::{Checked, Entry, Generation, OpenFile};
pub use node::Contents;
pub use posix::{MODE_BITS, Posix, Special, TARGET_MAX_BYTES};
pub use segment::SegmentKind;
pub use usage::Usage;
pub use writer::{Log, NotSynced, Progress, Receipt, Syncing};

/// What tells one state of an image from the next: which file has its name, and the generation of a log, or
/// when a plain one was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    file: (u64, u64),
    generation: u64,
    written: (i64, i64),
}

/// The stamp of the image at `path`: one look, however big it is.
///
/// # Errors
/// If it cannot be read, or is a log without a sound superblock.
pub fn stamp(path: &Path) -> Result<Stamp, OpenError> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    let (generation, written) = if generation::is_log_file(&file)? {
        (superblock::Superblock::load(&FileDevice::new(file))?.generation, (0, 0))
    } else {
        (0, (meta.mtime(), meta.mtime_nsec()))
    };
    Ok(Stamp { file: (meta.dev(), meta.ino()), generation, written })
}

/// The segments of the newest generation of a log; each is kept as long as its device is.
pub(crate) fn windows(file: &Arc<File>) -> Result<Vec<FileDevice>, OpenError> {
    let (superblock, pins) = generation::pinned(file)?;
    let segments = superblock.segments.iter().zip(pins);
    Ok(segments
        .map(|(place, pin)| FileDevice::window(Arc::clone(file), place.offset, place.len, pin))
        .collect())
}

/// Whether a file that begins with these bytes is a log.
pub fn is_log(first: &[u8]) -> bool {
    first.starts_with(&superblock::MAGIC)
}
