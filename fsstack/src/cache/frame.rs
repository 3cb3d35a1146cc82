//! A frame: the place of one block, and what is in it.

use super::unit::UnitId;
use runtime::buffer::Shared;

/// The place of one block.
#[derive(Debug)]
pub(super) struct Frame<K> {
    /// The block that it holds or will hold; meaningless when empty.
    pub(super) block: Option<K>,
    pub(super) state: FrameState,
    /// Bytes of the block that it holds: zeros are behind them.
    pub(super) filled: usize,
    /// What it was read with.
    pub(super) unit: Option<UnitId>,
}

/// What a frame holds.
#[derive(Debug)]
pub(super) enum FrameState {
    /// Nothing.
    Empty,
    /// Nothing yet: whoever reads has the memory.
    Filling,
    /// A block.
    Filled(Shared),
}

impl<K> Frame<K> {
    pub(super) fn new() -> Frame<K> {
        Frame { block: None, state: FrameState::Empty, filled: 0, unit: None }
    }

    /// Whether the cache alone has the block. Only the cache hands out blocks, and it is borrowed: if nobody
    /// has one now, nobody will.
    pub(super) fn is_evictable(&self) -> bool {
        matches!(&self.state, FrameState::Filled(block) if block.is_unique())
    }
}
