//! A block cache with the application's own policy, and one for all threads and files of a server.
//!
//! For files and images that are not wholly in memory, and whose owner knows better than the kernel what will
//! be wanted. A look-up never waits: it gives the block, or a [`Fill`] that says what to read and where to
//! put it; whoever reads it (in place, in a helper thread, by io_uring) hands the fill back. Two look-ups of
//! a missing block give one fill.
//!
//! Blocks are buffers of [`runtime::buffer`]: the network sends from them, and a frame whose block is held
//! for a retransmission is not given up. [`FileCache`] is what a server uses of it: blocks by file, read for
//! whoever needs one first, while the loop goes on ([`reads`]).

mod file_cache;
mod frame;
pub mod misses;
pub mod policy;
pub mod reads;
mod unit;

#[cfg(test)]
mod tests;

pub use file_cache::{FileCache, FileNumber, Wanted};
pub use reads::{BlockPart, BlockReader, BlockSource, ComingPart};

use crate::device::Device;
use frame::{Frame, FrameState};
use policy::{FrameId, Hint, Policy, Told};
use runtime::buffer::{Buffer, Pool, Shared};
use rustc_hash::FxHashMap;
use std::hash::{Hash, Hasher};
use std::io;
use unit::{UnitId, Units};

/// Frames of one block each, and the policy that says which one to give up. Blocks are called by `K`: their
/// number on one device, or whatever names one.
#[derive(Debug)]
pub struct BlockCache<P, K = u64> {
    pool: Pool,
    frames: Vec<Frame<K>>,
    /// Which frame holds, or will hold, a block. What blocks are called by is no choice of who asks for them
    /// from outside.
    by_block: FxHashMap<K, FrameId>,
    /// Frames that hold nothing.
    free: Vec<FrameId>,
    /// Frames whose blocks were read together.
    units: Units,
    policy: P,
    stats: Stats,
}

/// Who asks for a block: what a policy is told of it beside its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The file that the block is wanted for.
    pub owner: u64,
    /// Length of that file in bytes.
    pub owner_bytes: u64,
    /// What is known of the use.
    pub hint: Hint,
}

impl Asker {
    /// Somebody of whom nothing is known.
    pub const NOBODY: Asker = Asker { owner: 0, owner_bytes: 0, hint: Hint::None };
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
    /// Blocks that were given up for others.
    pub given_up: u64,
}

/// The answer to a look-up.
#[derive(Debug)]
pub enum Lookup<K = u64> {
    /// The block. While a clone of it lives, its frame is pinned.
    Ready(Shared),
    /// Not there: read it and hand the fill to [`BlockCache::complete`].
    Missing(Fill<K>),
    /// Not there, and somebody else has the fill.
    Pending,
    /// Not there, and no frame can be given up: ask again when a block was dropped or a fill completed.
    Full,
}

/// The duty to read a block. Must go back by [`BlockCache::complete`] or [`BlockCache::abandon`].
#[derive(Debug)]
#[must_use = "a fill that is not handed back keeps its frame for ever"]
pub struct Fill<K = u64> {
    frame: FrameId,
    block: K,
    told: Told,
    unit: Option<UnitId>,
    buffer: Buffer,
    /// Bytes of the buffer, from its beginning, in which another block may still be.
    left: usize,
    /// Bytes behind which nothing but zeros will be.
    filled: usize,
}

impl<K: Copy> Fill<K> {
    /// The block's name: if that is its number, it starts at this times the block size.
    pub fn block(&self) -> K {
        self.block
    }

    /// Where its bytes go. What is not written stays zero.
    pub fn buffer(&mut self) -> &mut [u8] {
        let left = std::mem::take(&mut self.left);
        self.buffer[..left].fill(0);
        self.filled = self.buffer.len();
        &mut self.buffer
    }

    /// The same for who writes the whole block, or has what is behind it zeroed ([`Fill::zero_behind`]): now
    /// another block may be in it.
    fn buffer_to_fill(&mut self) -> &mut [u8] {
        self.filled = self.buffer.len();
        &mut self.buffer
    }

    /// The block has so many bytes. At most `written` were written to the buffer, and what is there of them
    /// and of another block behind these is made zero: of small blocks in a row nothing.
    fn zero_behind(&mut self, block: usize, written: usize) {
        let end = self.left.max(written).min(self.buffer.len());
        if let Some(behind) = self.buffer.get_mut(block..end) {
            behind.fill(0);
        }
        (self.left, self.filled) = (block, block);
    }
}

impl<P: Policy, K: Copy + Eq + Hash> BlockCache<P, K> {
    /// A cache of `frames` frames of `block_bytes` bytes, whose memory is taken as it is needed.
    ///
    /// # Panics
    /// If there is no frame, or a block has no bytes.
    pub fn new(block_bytes: usize, frames: u32, policy: P) -> BlockCache<P, K> {
        BlockCache::of_pool(Pool::new(block_bytes, frames as usize), frames, policy)
    }

    /// A cache of `frames` frames, whose memory is that of `pool`.
    ///
    /// # Panics
    /// If there is no frame, or a block has no bytes.
    pub fn of_pool(pool: Pool, frames: u32, policy: P) -> BlockCache<P, K> {
        assert!(
            frames > 0 && pool.buffer_bytes() > 0,
            "a cache holds at least one block of at least one byte"
        );
        BlockCache {
            pool,
            frames: (0..frames).map(|_| Frame::new()).collect(),
            by_block: FxHashMap::default(),
            free: (0..frames).rev().map(FrameId).collect(),
            units: Units::default(),
            policy,
            stats: Stats::default(),
        }
    }

    /// Looks for a block, for nobody of whom anything is known.
    pub fn lookup(&mut self, block: K) -> Lookup<K> {
        self.lookup_for(block, Asker::NOBODY)
    }

    /// Looks for a block, for `asker`.
    pub fn lookup_for(&mut self, block: K, asker: Asker) -> Lookup<K> {
        if let Some(&id) = self.by_block.get(&block) {
            return match &self.frames[id.index()].state {
                FrameState::Filled(bytes) => {
                    self.stats.hits += 1;
                    let found = bytes.clone();
                    let known = self.frames[id.index()].unit.and_then(|unit| self.units.leader(unit));
                    self.policy.used(known.unwrap_or(id));
                    Lookup::Ready(found)
                }
                FrameState::Empty | FrameState::Filling => {
                    self.stats.waits += 1;
                    Lookup::Pending
                }
            };
        }
        let Some((frame, buffer, left)) = self.make_room() else {
            self.stats.refusals += 1;
            return Lookup::Full;
        };
        self.stats.misses += 1;
        self.frames[frame.index()] = Frame { block: Some(block), state: FrameState::Filling, ..Frame::new() };
        self.by_block.insert(block, frame);
        let Asker { owner, owner_bytes, hint } = asker;
        let owner_frames = owner_bytes.div_ceil(self.block_bytes() as u64).max(1);
        let told = Told { block: name_of(&block), owner, owner_frames, frames: 1, hint };
        Lookup::Missing(Fill { frame, block, told, unit: None, filled: buffer.len(), buffer, left })
    }

    /// Two fills are of one group: it is one unit of replacement, of which the policy is told as of the
    /// first.
    pub fn join(&mut self, first: &mut Fill<K>, other: &mut Fill<K>) {
        if other.unit.is_some() {
            return;
        }
        let unit = *first.unit.get_or_insert_with(|| self.units.begin(first.frame, first.told));
        self.units.join(unit, other.frame);
        other.unit = Some(unit);
        for frame in [first.frame, other.frame] {
            self.frames[frame.index()].unit = Some(unit);
        }
    }

    /// Takes a block that was read, and gives it.
    pub fn complete(&mut self, fill: Fill<K>) -> Shared {
        let Fill { frame, buffer, told, unit, filled, .. } = fill;
        let block = buffer.freeze();
        let at = &mut self.frames[frame.index()];
        (at.state, at.filled) = (FrameState::Filled(block.clone()), filled);
        let told = match unit {
            Some(unit) => self.units.lead(unit, frame),
            None => Some(told),
        };
        if let Some(told) = told {
            self.policy.filled(frame, &told);
        }
        block
    }

    /// Takes back a fill that could not be done: the next look-up of the block starts anew.
    pub fn abandon(&mut self, fill: Fill<K>) {
        let Fill { frame, block, unit, .. } = fill;
        if let Some(unit) = unit {
            self.units.leave(unit, frame);
        }
        self.frames[frame.index()] = Frame::new();
        self.by_block.remove(&block);
        self.free.push(frame);
    }

    /// What became of look-ups so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Whether a block is there, or is being read: no look-up, of which the policy is told.
    pub fn contains(&self, block: K) -> bool {
        self.by_block.contains_key(&block)
    }

    /// Number of frames.
    pub fn frames(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> usize {
        self.pool.buffer_bytes()
    }

    /// A frame that holds nothing, if need be by giving one up; its memory, and how much of it may be other
    /// than zero.
    fn make_room(&mut self) -> Option<(FrameId, Buffer, usize)> {
        let Some(id) = self.free.pop() else { return self.give_up() };
        let buffer = self.pool.take();
        if buffer.is_none() {
            // Somebody still has the memory that was this frame's.
            self.free.push(id);
        }
        buffer.map(|buffer| (id, buffer, self.block_bytes()))
    }

    /// Gives up what the policy says, and gives a frame of it with its memory; the others, if there are, are
    /// free then.
    fn give_up(&mut self) -> Option<(FrameId, Buffer, usize)> {
        let (frames, units) = (&self.frames, &self.units);
        let may_go = |id: FrameId| frames[id.index()].is_evictable();
        let victim = self.policy.victim(&mut |id| match frames[id.index()].unit {
            Some(unit) => units.frames(unit).iter().any(|&id| may_go(id)),
            None => may_go(id),
        })?;
        let mut given = None;
        for id in self.give_up_with(victim) {
            let frame = std::mem::replace(&mut self.frames[id.index()], Frame::new());
            if let Some(block) = frame.block {
                self.by_block.remove(&block);
                self.stats.given_up += 1;
            }
            let thawed = match frame.state {
                // Evictable means that nobody else has it, so its memory can be used again. Should a policy
                // name a frame that it was told not to, the reader keeps the memory, and the frame waits for
                // it.
                FrameState::Filled(block) => block.thaw().ok(),
                FrameState::Empty | FrameState::Filling => None,
            };
            match thawed {
                Some(buffer) if given.is_none() => given = Some((id, buffer, frame.filled)),
                _ => self.free.push(id),
            }
        }
        given
    }

    /// The frames that go with `victim`. Of a unit those that nobody holds; the policy is told of the others
    /// anew.
    fn give_up_with(&mut self, victim: FrameId) -> Vec<FrameId> {
        let Some(unit) = self.frames[victim.index()].unit else { return vec![victim] };
        let held: Vec<FrameId> = self.units.frames(unit).to_vec();
        let frames = &self.frames;
        let gone = self.units.give_up(unit, |id| frames[id.index()].is_evictable());
        let filled = |id: &&FrameId| matches!(frames[id.index()].state, FrameState::Filled(_));
        let next = held.iter().filter(|id| !gone.contains(id)).find(filled);
        if let Some(&next) = next
            && let Some(told) = self.units.lead(unit, next)
        {
            self.policy.filled(next, &told);
        }
        gone
    }
}

/// One number for a block's name, the same whenever it is asked for.
fn name_of(block: &impl Hash) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    block.hash(&mut hasher);
    hasher.finish()
}

impl<P: Policy> BlockCache<P> {
    /// Looks for a block and reads it from `device` if need be: for who may wait.
    ///
    /// # Errors
    /// What the device says; [`io::ErrorKind::WouldBlock`] if no frame can be given up, or somebody else is
    /// reading the block.
    pub fn read_through(&mut self, block: u64, device: &dyn Device) -> io::Result<Shared> {
        let mut fill = match self.lookup(block) {
            Lookup::Ready(block) => return Ok(block),
            Lookup::Missing(fill) => fill,
            Lookup::Pending | Lookup::Full => return Err(io::ErrorKind::WouldBlock.into()),
        };
        match read_block(device, block, self.block_bytes(), fill.buffer()) {
            Ok(()) => Ok(self.complete(fill)),
            Err(error) => {
                self.abandon(fill);
                Err(error)
            }
        }
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
