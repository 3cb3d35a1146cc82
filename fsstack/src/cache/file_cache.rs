//! The blocks of many files in one bounded memory, for all threads of a server.

use super::policy::{AnyPolicy, Hint, PolicyName};
use super::reads::{Block, BlockOutcome, BlockRead, BlockReader, BlockSource, ReadOrder, Room};
use super::{Asker, BlockCache, Fill, Lookup, Stats};
use runtime::buffer::{Pool, Shared, SharedMemory};
use runtime::stats::work::{Quantity, count};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most blocks of a reading, and most of the cache that they may take, as its part.
const RUN_BLOCKS: u64 = 128;
const RUN_PART: u64 = 4;

/// Bytes of a block. A small page is one, and 64 of them, which one system call sends, are a megabyte.
const BLOCK_BYTES: usize = 16 * 1024;

/// What one version of a file is called: two that differ have different numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileNumber(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BlockId {
    file: FileNumber,
    index: u64,
}

/// Blocks by file and place. Whoever looks for a block that is not there has it read ([`BlockReader`]), and others who look
/// for it meanwhile wait for that.
pub struct FileCache {
    state: Mutex<State>,
    next_number: AtomicU64,
    /// A file of more bytes than this pushes out too much: its blocks are told to be wanted once.
    once_bytes: u64,
}

struct State {
    cache: BlockCache<AnyPolicy, BlockId>,
    under_way: HashMap<BlockId, BlockRead>,
}

impl State {
    /// Frames for the blocks behind `id` that are not there, up to block `run_end`, or one that is there or is being read.
    fn missing(
        &mut self,
        id: BlockId,
        run_end: u64,
        asker: Asker,
        is_queued: bool,
    ) -> Vec<(BlockRead, Fill<BlockId>)> {
        let most = RUN_BLOCKS.min(self.cache.frames() / RUN_PART);
        let end = run_end.min(id.index.saturating_add(most));
        let mut missing = Vec::new();
        for index in id.index + 1..end {
            let id = BlockId { file: id.file, index };
            if self.cache.contains(id) {
                break;
            }
            let Lookup::Missing(fill) = self.cache.lookup_for(id, asker) else { break };
            let read = BlockRead::new(id, is_queued);
            self.under_way.insert(id, read.clone());
            missing.push((read, fill));
        }
        missing
    }
}

impl FileCache {
    /// A cache of `bytes`, but at least one block, that gives up what [`PolicyName::default`] says.
    pub fn new(bytes: u64) -> FileCache {
        FileCache::with_policy(bytes, PolicyName::default())
    }

    /// A cache of `bytes`, but at least one block, with a policy that has a name.
    pub fn with_policy(bytes: u64, policy: PolicyName) -> FileCache {
        FileCache::with(bytes, |frames| policy.policy(frames))
    }

    /// A cache of `bytes`, but at least one block, with the application's own policy, made for so many frames.
    pub fn with(bytes: u64, policy: impl FnOnce(u32) -> AnyPolicy) -> FileCache {
        let frames = FileCache::frames(bytes);
        FileCache::of(BlockCache::new(BLOCK_BYTES, frames, policy(frames)), frames)
    }

    /// As [`FileCache::with_policy`], in memory that devices can write to directly ([`crate::OpenOptions::direct`]).
    ///
    /// # Errors
    /// If the system has no such memory.
    pub fn aligned(bytes: u64, policy: PolicyName) -> io::Result<FileCache> {
        let frames = FileCache::frames(bytes);
        let (regions, _) = SharedMemory::create(BLOCK_BYTES, frames as usize)?;
        let pool = Pool::of_regions(regions);
        Ok(FileCache::of(BlockCache::of_pool(pool, frames, policy.policy(frames)), frames))
    }

    fn frames(bytes: u64) -> u32 {
        u32::try_from(bytes / BLOCK_BYTES as u64).unwrap_or(u32::MAX).max(1)
    }

    fn of(cache: BlockCache<AnyPolicy, BlockId>, frames: u32) -> FileCache {
        FileCache {
            state: Mutex::new(State { cache, under_way: HashMap::new() }),
            once_bytes: u64::from(frames).saturating_mul(BLOCK_BYTES as u64) / 2,
            next_number: AtomicU64::new(0),
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(&self) -> usize {
        BLOCK_BYTES
    }

    /// A number that no file has.
    pub fn number(&self) -> FileNumber {
        FileNumber(self.next_number.fetch_add(1, Ordering::Relaxed))
    }

    /// Block `index` of `file`. If it is not there, it is read from `source`, by `reader`, to a frame, or if all frames are held
    /// by who sends from them, to memory that nobody else gets. The policy is told that it is wanted for the file `owner` of
    /// `owner_bytes`, which lies in `file` or is the same. In the same reading come those behind it that are not there and lie
    /// before block `run_end`.
    pub fn read(
        self: &Arc<Self>,
        (file, index, run_end): (FileNumber, u64, u64),
        (owner, owner_bytes): (u64, u64),
        source: &Arc<dyn BlockSource>,
        reader: &BlockReader,
    ) -> Block {
        let hint = if owner_bytes > self.once_bytes { Hint::Once } else { Hint::None };
        let asker = Asker { owner, owner_bytes, hint };
        let id = BlockId { file, index };
        if let Some(known) = reader.known(id) {
            return known;
        }
        let mut state = self.lock();
        let room = match state.cache.lookup_for(id, asker) {
            Lookup::Ready(block) => {
                count(Quantity::BlocksFound, 1);
                return Block::Here(BlockOutcome::Sound(block));
            }
            Lookup::Missing(fill) => Some(fill),
            Lookup::Pending => {
                let under_way = state.under_way.get(&id).cloned();
                match under_way {
                    // Who waits must not do so for a queue: it might be this very thread's to turn.
                    Some(read) if !(reader.waits() && read.is_queued()) => {
                        drop(state);
                        return reader.share(&read);
                    }
                    _ => None,
                }
            }
            Lookup::Full => None,
        };
        let read = BlockRead::new(id, !reader.waits());
        let room = match room {
            Some(fill) => {
                state.under_way.insert(id, read.clone());
                Room::Frame(fill)
            }
            None => Room::Own(vec![0; BLOCK_BYTES].into()),
        };
        let is_kept = matches!(room, Room::Frame(_));
        let behind = if is_kept { state.missing(id, run_end, asker, !reader.waits()) } else { Vec::new() };
        drop(state);
        count(Quantity::BlocksRead, 1 + behind.len());
        match ReadOrder::new(Arc::clone(self), Arc::clone(source), index, read.clone(), room) {
            Some(mut order) => {
                behind.into_iter().for_each(|(read, fill)| order.extend(read, Room::Frame(fill)));
                reader.order(&read, order)
            }
            None => {
                behind.into_iter().for_each(|(_, fill)| self.abandon(fill));
                Block::Here(read.wait())
            }
        }
    }

    /// Takes what was read to a frame.
    pub(super) fn complete(&self, fill: Fill<BlockId>) -> Shared {
        let mut state = self.lock();
        state.under_way.remove(&fill.block());
        state.cache.complete(fill)
    }

    /// Takes a frame back that nothing was read to.
    pub(super) fn abandon(&self, fill: Fill<BlockId>) {
        let mut state = self.lock();
        state.under_way.remove(&fill.block());
        state.cache.abandon(fill);
    }

    /// What became of look-ups so far.
    pub fn stats(&self) -> Stats {
        self.lock().cache.stats()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for FileCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileCache").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
