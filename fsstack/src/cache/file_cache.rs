//! The blocks of many files in one bounded memory, for all threads of a server.

use super::misses::{MissPolicy, Missed, ReadGroups};
use super::policy::{AnyPolicy, Hint, PolicyName};
use super::reads::{Block, BlockOutcome, BlockRead, BlockReader, BlockSource, Lasting, ReadOrder, Room};
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

/// A block that is wanted of a file, or of an image that has several in it. Blocks are counted in what is
/// called `file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What it is read from.
    pub file: FileNumber,
    /// The block.
    pub index: u64,
    /// The first block behind what is wanted together with it.
    pub group_end: u64,
    /// Whom it is wanted for, by a number within `file`.
    pub owner: u64,
    /// Length of that in bytes.
    pub owner_bytes: u64,
    /// The first block behind it, as far as it lies together.
    pub owner_end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BlockId {
    file: FileNumber,
    index: u64,
}

/// Blocks by file and place. Whoever looks for a block that is not there has it read ([`BlockReader`]), and
/// others who look for it meanwhile wait for that.
pub struct FileCache {
    state: Mutex<State>,
    next_number: AtomicU64,
    bytes: u64,
    misses: Box<dyn MissPolicy>,
    /// What all its frames lie in, if that is one piece.
    memory: Option<Arc<SharedMemory>>,
    lasting: Lasting,
}

struct State {
    cache: BlockCache<AnyPolicy, BlockId>,
    under_way: HashMap<BlockId, BlockRead>,
}

impl State {
    /// Frames for the blocks behind `first` that are not there, up to block `read_end`, or one that is there
    /// or is being read. Those before `unit_end` are one unit of replacement with it.
    fn missing(
        &mut self,
        first: &mut Fill<BlockId>,
        (read_end, unit_end): (u64, u64),
        asker: Asker,
        is_queued: bool,
    ) -> Vec<(BlockRead, Fill<BlockId>)> {
        let BlockId { file, index } = first.block();
        let most = RUN_BLOCKS.min(self.cache.frames() / RUN_PART);
        let end = read_end.min(index.saturating_add(most));
        let mut missing = Vec::new();
        for index in index + 1..end {
            let id = BlockId { file, index };
            if self.cache.contains(id) {
                break;
            }
            let Lookup::Missing(mut fill) = self.cache.lookup_for(id, asker) else { break };
            if index < unit_end {
                self.cache.join(first, &mut fill);
            }
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

    /// A cache of `bytes`, but at least one block, with the application's own policy, made for so many
    /// frames.
    pub fn with(bytes: u64, policy: impl FnOnce(u32) -> AnyPolicy) -> FileCache {
        let frames = FileCache::frames(bytes);
        FileCache::of(BlockCache::new(BLOCK_BYTES, frames, policy(frames)), frames)
    }

    /// As [`FileCache::with_policy`], in memory that devices can write to directly
    /// ([`crate::OpenOptions::direct`]).
    ///
    /// # Errors
    /// If the system has no such memory.
    pub fn aligned(bytes: u64, policy: PolicyName) -> io::Result<FileCache> {
        let frames = FileCache::frames(bytes);
        let (regions, _) = SharedMemory::create(BLOCK_BYTES, frames as usize)?;
        let memory = regions.first().map(|region| Arc::clone(region.memory()));
        let pool = Pool::of_regions(regions);
        let cache = FileCache::of(BlockCache::of_pool(pool, frames, policy.policy(frames)), frames);
        Ok(FileCache { memory, ..cache })
    }

    fn frames(bytes: u64) -> u32 {
        u32::try_from(bytes / BLOCK_BYTES as u64).unwrap_or(u32::MAX).max(1)
    }

    fn of(cache: BlockCache<AnyPolicy, BlockId>, frames: u32) -> FileCache {
        FileCache {
            state: Mutex::new(State { cache, under_way: HashMap::new() }),
            bytes: u64::from(frames).saturating_mul(BLOCK_BYTES as u64),
            next_number: AtomicU64::new(0),
            misses: Box::new(ReadGroups),
            memory: None,
            lasting: Lasting::default(),
        }
    }

    /// What all frames of an [`FileCache::aligned`] cache lie in.
    pub(super) fn memory(&self) -> Option<&Arc<SharedMemory>> {
        self.memory.as_ref()
    }

    /// By which rings hear of its end.
    pub(super) fn lasting(&self) -> &Lasting {
        &self.lasting
    }

    /// The same, which reads beside a missing block what `misses` says.
    #[must_use]
    pub fn with_misses(self, misses: impl MissPolicy + 'static) -> FileCache {
        FileCache { misses: Box::new(misses), ..self }
    }

    /// Bytes of a block.
    pub const fn block_bytes(&self) -> usize {
        BLOCK_BYTES
    }

    /// A number that no file has.
    pub fn number(&self) -> FileNumber {
        FileNumber(self.next_number.fetch_add(1, Ordering::Relaxed))
    }

    /// A block. If it is not there, it is read from `source`, by `reader`, to a frame, or if all frames are
    /// held by who sends from them, to memory that nobody else gets. In the same reading come those behind it
    /// that are not there, as far as the policy for misses says.
    pub fn read(
        self: &Arc<Self>,
        wanted: &Wanted,
        source: &Arc<dyn BlockSource>,
        reader: &BlockReader,
    ) -> Block {
        let Wanted { file, index, group_end, owner, owner_bytes, owner_end } = *wanted;
        let hint = Hint::of(owner_bytes, self.bytes);
        let asker = Asker { owner, owner_bytes, hint };
        let id = BlockId { file, index };
        if let Some(known) = reader.known(id) {
            return known;
        }
        let mut state = self.lock();
        let fill = match state.cache.lookup_for(id, asker) {
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
        let (room, behind) = match fill {
            Some(mut fill) => {
                state.under_way.insert(id, read.clone());
                let missed = Missed { index, group_end, owner_end };
                let ends = (self.misses.read_end(&missed), self.misses.unit_end(&missed));
                let behind = state.missing(&mut fill, ends, asker, !reader.waits());
                (Room::Frame(fill), behind)
            }
            None => (Room::Own(vec![0; BLOCK_BYTES].into()), Vec::new()),
        };
        drop(state);
        count(Quantity::BlocksRead, 1 + behind.len());
        match ReadOrder::new(Arc::clone(self), Arc::clone(source), index, read.clone(), room) {
            Some(mut order) => {
                behind.into_iter().for_each(|(read, fill)| order.extend(read, Room::Frame(fill)));
                reader.order(&read, order)
            }
            None => {
                for (read, fill) in behind {
                    // Others may wait for it already.
                    self.abandon(fill);
                    let error = io::Error::other("its reading was given up");
                    read.end(BlockOutcome::Failed(Arc::new(error)));
                }
                Block::Here(read.wait())
            }
        }
    }

    /// Takes a block that was just written, if it is not there and a frame can be had: who asks for it reads
    /// nothing. In what is left of the frame are zeros.
    pub(crate) fn keep(&self, file: FileNumber, index: u64, (owner, owner_bytes): (u64, u64), bytes: &[u8]) {
        let asker = Asker { owner, owner_bytes, hint: Hint::of(owner_bytes, self.bytes) };
        let id = BlockId { file, index };
        let mut state = self.lock();
        if state.cache.contains(id) {
            return;
        }
        let Lookup::Missing(mut fill) = state.cache.lookup_for(id, asker) else { return };
        // Nobody else has the frame until it is full.
        drop(state);
        let bytes = &bytes[..bytes.len().min(BLOCK_BYTES)];
        fill.buffer_to_fill()[..bytes.len()].copy_from_slice(bytes);
        fill.zero_behind(bytes.len(), bytes.len());
        self.lock().cache.complete(fill);
    }

    /// So many bytes may be taken to it at once without asking: others would have to go for more.
    pub(crate) fn is_small(&self, bytes: u64) -> bool {
        bytes <= self.bytes / RUN_PART
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
        f.debug_struct("FileCache")
            .field("stats", &self.stats())
            .field("misses", &self.misses)
            .finish_non_exhaustive()
    }
}
