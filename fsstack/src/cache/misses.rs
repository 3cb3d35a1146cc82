//! What is read beside a block that is not there: the application's choice.
//!
//! One reading brings several blocks for little more than the price of one. Whoever packed an image may have
//! said what is wanted together ([`ReadGroups`]); of files that are read from front to back the next blocks
//! are ([`ReadAhead`]).

use std::fmt;

/// A block that was wanted and is not there. Blocks are counted in the file or image that it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The block.
    pub index: u64,
    /// The first block behind what is wanted together with it, by who packed it; at most `index + 1` if
    /// nothing is.
    pub group_end: u64,
    /// The first block behind what lies together of the file that it is wanted for.
    pub owner_end: u64,
}

/// Decides what to read beside.
pub trait MissPolicy: fmt::Debug + Send + Sync {
    /// The first block that is not to be read with this one. Reading ends earlier at one that is there, or
    /// where it would take too much of the cache.
    fn read_end(&self, missed: &Missed) -> u64;

    /// The first block behind those that are one unit of replacement with this one.
    fn unit_end(&self, missed: &Missed) -> u64 {
        missed.group_end
    }
}

/// What was packed together is read together.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadGroups;

impl MissPolicy for ReadGroups {
    fn read_end(&self, missed: &Missed) -> u64 {
        missed.group_end
    }
}

/// So many blocks of the same file, too.
#[derive(Clone, Copy, Debug)]
pub struct ReadAhead(pub u64);

impl MissPolicy for ReadAhead {
    fn read_end(&self, missed: &Missed) -> u64 {
        let ahead = missed.index.saturating_add(1).saturating_add(self.0).min(missed.owner_end);
        missed.group_end.max(ahead)
    }
}
