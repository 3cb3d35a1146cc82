//! What the owner of a log decides of its writing: when contents leave memory ([`WriteBack`]), when what was
//! changed is made durable ([`Flush`]), and where the next segment goes ([`Allocation`]). Each has a default
//! in every method.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What is in memory only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of contents.
    pub bytes: u64,
    /// Paths that were changed.
    pub changes: usize,
}

/// Decides when contents are written ahead of their commit, so that they are in memory no more. They are in
/// nobody's tree until then, and gone if it does not come. Each time makes a segment, of which a log has 2046
/// at most: when that is near, contents stay in memory until the commit.
pub trait WriteBack: fmt::Debug + Send + Sync {
    /// Whether what is held is to be written now; asked after each change that brought contents.
    fn is_due(&self, held: &Held) -> bool {
        held.bytes > 32 << 20
    }
}

/// What waits to be made durable, by who asked for it and waits, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many changes.
    pub changes: usize,
    /// Bytes of contents that they have.
    pub bytes: u64,
    /// How long the first of them has waited, since it was ordered.
    pub since: Duration,
}

/// Decides how long changes wait for others, to share one commit with them.
pub trait Flush: fmt::Debug + Send + Sync {
    /// How much longer to wait for another change, if there is none at hand; `None` if what there is is to be
    /// made durable now. Asked before each commit, and again whenever another change has come.
    fn wait(&self, _waiting: &Waiting) -> Option<Duration> {
        None
    }
}

/// Room where no segment is, and nobody reads one that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where it begins: a multiple of the block's size.
    pub offset: u64,
    /// Bytes; of the last one, which ends with the disk, more than any segment has.
    pub len: u64,
}

/// Decides where segments go.
pub trait Allocation: fmt::Debug + Send + Sync {
    /// Which of `gaps`, that stand in the order of their offsets and are each long enough, gets a segment of
    /// `len` bytes. A number that there is not means the last.
    fn choose(&self, _gaps: &[Gap], _len: u64) -> usize {
        0
    }
}

/// As every method has it: contents of 32 MiB are written, nothing waits for others, and the first gap is
/// taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsItComes;

impl WriteBack for AsItComes {}
impl Flush for AsItComes {}
impl Allocation for AsItComes {}

/// How a log is written.
#[derive(Clone, Debug)]
pub struct Policies {
    /// When contents leave memory.
    pub write_back: Arc<dyn WriteBack>,
    /// Where they go.
    pub allocation: Arc<dyn Allocation>,
}

impl Default for Policies {
    fn default() -> Policies {
        Policies { write_back: Arc::new(AsItComes), allocation: Arc::new(AsItComes) }
    }
}
