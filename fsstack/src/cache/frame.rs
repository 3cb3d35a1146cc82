//! A frame: memory for one block, and who uses it.

use std::ops::Deref;
use std::sync::Arc;

/// A block's bytes, pinned in the cache as long as this or a clone lives. Can be sent to other threads.
#[derive(Clone, Debug)]
pub struct Block {
    bytes: Arc<Box<[u8]>>,
}

impl Block {
    pub(super) fn new(bytes: Box<[u8]>) -> Block {
        Block { bytes: Arc::new(bytes) }
    }

    /// The memory, if nobody else has the block.
    pub(super) fn reclaim(self) -> Option<Box<[u8]>> {
        Arc::into_inner(self.bytes)
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Memory for one block.
#[derive(Debug)]
pub(super) struct Frame {
    /// The block that it holds or will hold; meaningless when empty.
    pub(super) block: u64,
    pub(super) state: FrameState,
}

/// What a frame holds.
#[derive(Debug)]
pub(super) enum FrameState {
    /// Nothing; the memory waits.
    Empty(Box<[u8]>),
    /// Nothing yet; the memory is with whoever reads.
    Filling,
    /// A block.
    Filled(Block),
}

impl Frame {
    pub(super) fn new(block_bytes: usize) -> Frame {
        Frame { block: 0, state: FrameState::Empty(vec![0; block_bytes].into()) }
    }

    /// Whether the cache alone has the block. Only the cache hands out blocks, and it is borrowed: if nobody
    /// has one now, nobody will.
    pub(super) fn is_evictable(&self) -> bool {
        matches!(&self.state, FrameState::Filled(block) if Arc::strong_count(&block.bytes) == 1)
    }
}
