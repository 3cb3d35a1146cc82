//! A block cache with the application's own policy.
//!
//! For images larger than memory on devices that the kernel should not cache for us (direct IO), or whose
//! owner knows better than the kernel what will be wanted. A look-up never waits: it gives the block, or a
//! [`Fill`] that says what to read and where to put it; whoever reads it (in place, in a helper thread, by
//! io_uring) hands the fill back. Two look-ups of a missing block give one fill.
//!
//! [`crate::fs::Image`] reads by copy or by mapping and does not use this yet; the seam is
//! [`crate::device::Device`] below and [`Block`] above.

mod frame;
pub mod policy;

#[cfg(test)]
mod tests;

pub use frame::Block;

use crate::device::Device;
use frame::{Frame, FrameState};
use policy::{FrameId, Policy};
use std::collections::HashMap;
use std::io;

/// Frames of one block each, and the policy that says which one to give up.
#[derive(Debug)]
pub struct BlockCache<P> {
    block_bytes: usize,
    frames: Vec<Frame>,
    /// Which frame holds, or will hold, a block.
    by_block: HashMap<u64, FrameId>,
    /// Frames that hold nothing.
    free: Vec<FrameId>,
    policy: P,
    stats: Stats,
}

/// What became of look-ups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The block was there.
    pub hits: u64,
    /// It has to be read.
    pub misses: u64,
    /// Somebody is reading it already.
    pub waits: u64,
    /// No frame could be had: all are pinned or being filled.
    pub refusals: u64,
}

/// The answer to a look-up.
#[derive(Debug)]
pub enum Lookup {
    /// The block. While a clone of it lives, its frame is pinned.
    Ready(Block),
    /// Not there: read it and hand the fill to [`BlockCache::complete`].
    Missing(Fill),
    /// Not there, and somebody else has the fill.
    Pending,
    /// Not there, and no frame can be given up: ask again when a block was dropped or a fill completed.
    Full,
}

/// The duty to read a block. Must go back by [`BlockCache::complete`] or [`BlockCache::abandon`].
#[derive(Debug)]
#[must_use = "a fill that is not handed back keeps its frame for ever"]
pub struct Fill {
    frame: FrameId,
    block: u64,
    buffer: Box<[u8]>,
}

impl Fill {
    /// Number of the block: it starts at this times the block size.
    pub fn block(&self) -> u64 {
        self.block
    }

    /// Where its bytes go. What lies beyond the end of the device stays zero.
    pub fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl<P: Policy> BlockCache<P> {
    /// A cache of `frames` frames of `block_bytes` bytes, all memory taken now.
    ///
    /// # Panics
    /// If there is no frame, or a block has no bytes.
    pub fn new(block_bytes: usize, frames: u32, policy: P) -> BlockCache<P> {
        assert!(frames > 0 && block_bytes > 0, "a cache holds at least one block of at least one byte");
        BlockCache {
            block_bytes,
            frames: (0..frames).map(|_| Frame::new(block_bytes)).collect(),
            by_block: HashMap::with_capacity(frames as usize),
            free: (0..frames).rev().map(FrameId).collect(),
            policy,
            stats: Stats::default(),
        }
    }

    /// Looks for a block.
    pub fn lookup(&mut self, block: u64) -> Lookup {
        if let Some(&id) = self.by_block.get(&block) {
            return match &self.frames[id.index()].state {
                FrameState::Filled(bytes) => {
                    self.stats.hits += 1;
                    let found = bytes.clone();
                    self.policy.used(id);
                    Lookup::Ready(found)
                }
                FrameState::Empty(_) | FrameState::Filling => {
                    self.stats.waits += 1;
                    Lookup::Pending
                }
            };
        }
        let Some((frame, buffer)) = self.make_room() else {
            self.stats.refusals += 1;
            return Lookup::Full;
        };
        self.stats.misses += 1;
        self.frames[frame.index()].block = block;
        self.by_block.insert(block, frame);
        Lookup::Missing(Fill { frame, block, buffer })
    }

    /// Takes a block that was read, and gives it.
    pub fn complete(&mut self, fill: Fill) -> Block {
        let Fill { frame, buffer, .. } = fill;
        let block = Block::new(buffer);
        self.frames[frame.index()].state = FrameState::Filled(block.clone());
        self.policy.filled(frame);
        block
    }

    /// Takes back a fill that could not be done: the next look-up of the block starts anew.
    pub fn abandon(&mut self, fill: Fill) {
        let Fill { frame, block, buffer } = fill;
        self.frames[frame.index()].state = FrameState::Empty(buffer);
        self.by_block.remove(&block);
        self.free.push(frame);
    }

    /// Looks for a block and reads it from `device` if need be: for who may wait.
    ///
    /// # Errors
    /// What the device says; [`io::ErrorKind::WouldBlock`] if no frame can be given up, or somebody else is
    /// reading the block.
    pub fn read_through(&mut self, block: u64, device: &dyn Device) -> io::Result<Block> {
        let mut fill = match self.lookup(block) {
            Lookup::Ready(block) => return Ok(block),
            Lookup::Missing(fill) => fill,
            Lookup::Pending | Lookup::Full => return Err(io::ErrorKind::WouldBlock.into()),
        };
        match read_block(device, block, self.block_bytes, fill.buffer()) {
            Ok(()) => Ok(self.complete(fill)),
            Err(error) => {
                self.abandon(fill);
                Err(error)
            }
        }
    }

    /// What became of look-ups so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// A frame that holds nothing, if need be by giving one up, now marked as being filled; and its memory,
    /// all zero.
    fn make_room(&mut self) -> Option<(FrameId, Box<[u8]>)> {
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let frames = &self.frames;
                let victim = self.policy.victim(&mut |id| frames[id.index()].is_evictable())?;
                self.by_block.remove(&self.frames[victim.index()].block);
                victim
            }
        };
        let frame = &mut self.frames[id.index()];
        let mut buffer = match std::mem::replace(&mut frame.state, FrameState::Filling) {
            FrameState::Empty(buffer) => buffer,
            // Evictable means that nobody else has it, so its memory can be used again. Should a policy name
            // a frame that it was told not to, the reader keeps the old bytes and the frame gets new memory.
            FrameState::Filled(block) => block.reclaim().unwrap_or_else(|| vec![0; self.block_bytes].into()),
            FrameState::Filling => vec![0; self.block_bytes].into(),
        };
        buffer.fill(0);
        Some((id, buffer))
    }
}

/// Reads block number `block`, or what the device has of it.
fn read_block(device: &dyn Device, block: u64, block_bytes: usize, buffer: &mut [u8]) -> io::Result<()> {
    let start = block.checked_mul(block_bytes as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
    let rest = device.len_bytes()?.checked_sub(start).filter(|&rest| rest > 0);
    let rest = rest.ok_or(io::ErrorKind::UnexpectedEof)?;
    let len = usize::try_from(rest).unwrap_or(usize::MAX).min(block_bytes);
    device.read_at(start, &mut buffer[..len])
}
