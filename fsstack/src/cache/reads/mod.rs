//! Reading what is not in the cache, while whoever wants it does something else.
//!
//! ```text
//!   FileCache::read ── there ──────────────────────────────────────────▶ Block::Here
//!        │ missing             the kernel has it (RWF_NOWAIT) ─────────▶ Block::Here
//!        ├── ReadOrder ──▶ ReadQueue ──▶ io_uring, or a few threads
//!        │                     └── done: checked, put in the cache, wakes who waits
//!        └── being read already, for another ──────────────────────────▶ Block::Coming
//! ```
//!
//! A [`BlockReader`] belongs to one event loop. Who asks for a block by it and gets [`Block::Coming`] is
//! woken when the block is there; asking again then goes on from there. What was read for a request is held
//! until [`BlockReader::end`], so a request that needs several blocks, one after the other, gets on however
//! small the cache is; and a failed read is an error of those who waited for it, once.
//!
//! A reader that is [`BlockReader::in_place`] reads itself, and waits: for tools, tests and servers without a
//! loop.

mod lasting;
mod order;
mod registered;
#[cfg(test)]
mod tests;
mod threads;
mod uring;

pub use lasting::Lasting;
pub use order::ReadOrder;
pub(super) use order::Room;
pub use registered::RingCounts;
pub use threads::ReadThreads;
pub use uring::UringQueue;

use super::file_cache::BlockId;
use crate::format::BadImage;
use runtime::buffer::{Shared, Slice};
use runtime::stats::work::{Quantity, count};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Where the blocks of one file come from.
pub trait BlockSource: fmt::Debug + Send + Sync {
    /// The file.
    fn file(&self) -> BorrowedFd<'_>;

    /// The same file opened with `O_DIRECT`, if it is to be read past the kernel's cache.
    fn direct_file(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Its [`Lasting`], if much will be read from it, so that it is worth telling a ring of it once and for
    /// all.
    fn lasting(&self) -> Option<&Lasting> {
        None
    }

    /// Where block `index` begins in the file, and how many bytes it has there.
    ///
    /// # Errors
    /// If there is no such block.
    fn place(&self, index: u64) -> io::Result<(u64, usize)>;

    /// What is wrong with the bytes of a block that were read, part by part.
    ///
    /// # Errors
    /// If nothing of it can be used.
    fn check(&self, index: u64, bytes: &[u8]) -> io::Result<Vec<Damage>>;

    /// Reads from the file, and waits for it. Gives how many bytes there were.
    ///
    /// # Errors
    /// Whatever the system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::pread(self.file(), buffer, offset)?)
    }
}

/// A part of a block that must not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which bytes of the block.
    pub within: Range<usize>,
    /// What is wrong.
    pub what: BadImage,
}

/// Reads blocks while somebody else does something.
pub trait ReadQueue: fmt::Debug {
    /// Takes an order, to be begun at the next [`ReadQueue::turn`] at the latest.
    fn submit(&mut self, order: ReadOrder);

    /// Begins what was submitted, and ends what is read. Does not wait.
    fn turn(&mut self);

    /// Whether a turn would get further now.
    fn has_work(&self) -> bool;
}

/// A block that was asked for.
#[derive(Debug)]
pub enum Block {
    /// It is there, or cannot be had.
    Here(BlockOutcome),
    /// It is being read. Who asked will be woken.
    Coming(BlockRead),
}

/// What became of reading a block.
#[derive(Clone, Debug)]
pub enum BlockOutcome {
    /// Its bytes, and zeros behind them.
    Sound(Shared),
    /// Its bytes, some of which are not what they should be.
    Damaged(Shared, Arc<[Damage]>),
    /// It cannot be read.
    Failed(Arc<io::Error>),
}

impl BlockOutcome {
    /// The bytes `range` of the block, or from its beginning up to the first that is damaged.
    ///
    /// # Errors
    /// If the first byte is damaged, or nothing could be read, or the block does not have that range.
    pub fn slice(self, range: Range<usize>) -> io::Result<Slice> {
        let (bytes, end) = match self {
            BlockOutcome::Sound(bytes) => (bytes, range.end),
            BlockOutcome::Damaged(bytes, damages) => {
                let first = damages.iter().find(|damage| range.start < damage.within.end);
                match first {
                    Some(damage) if damage.within.start <= range.start => {
                        count(Quantity::BlocksDamaged, 1);
                        return Err(io::Error::new(io::ErrorKind::InvalidData, damage.what.clone()));
                    }
                    Some(damage) => (bytes, range.end.min(damage.within.start)),
                    None => (bytes, range.end),
                }
            }
            BlockOutcome::Failed(error) => return Err(same_error(&error)),
        };
        Slice::new(bytes, range.start..end).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// An error once more, for another who has it.
fn same_error(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// The reading of a block, for all who wait for it. The block is held as long as this is.
#[derive(Clone, Debug)]
pub struct BlockRead {
    shared: Arc<Awaited>,
}

#[derive(Debug)]
struct Awaited {
    id: BlockId,
    /// By a queue: whose loop must not wait for it.
    is_queued: bool,
    progress: Mutex<Progress>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    outcome: Option<BlockOutcome>,
    wakers: Vec<Waker>,
}

impl BlockRead {
    pub(super) fn new(id: BlockId, is_queued: bool) -> BlockRead {
        let progress = Mutex::default();
        BlockRead { shared: Arc::new(Awaited { id, is_queued, progress, ended: Condvar::new() }) }
    }

    pub(super) fn id(&self) -> BlockId {
        self.shared.id
    }

    pub(super) fn is_queued(&self) -> bool {
        self.shared.is_queued
    }

    /// What became of it, if it has ended.
    pub fn outcome(&self) -> Option<BlockOutcome> {
        self.progress().outcome.clone()
    }

    fn has_ended(&self) -> bool {
        self.progress().outcome.is_some()
    }

    /// Waits for its end.
    pub(super) fn wait(&self) -> BlockOutcome {
        let mut progress = self.progress();
        loop {
            if let Some(outcome) = &progress.outcome {
                return outcome.clone();
            }
            progress = self.shared.ended.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has somebody woken at its end, unless that has come.
    fn wake_by(&self, waker: impl FnOnce() -> Waker) -> Option<BlockOutcome> {
        let mut progress = self.progress();
        if progress.outcome.is_none() {
            progress.wakers.push(waker());
        }
        progress.outcome.clone()
    }

    pub(super) fn end(&self, outcome: BlockOutcome) {
        let mut progress = self.progress();
        progress.outcome = Some(outcome);
        let wakers = std::mem::take(&mut progress.wakers);
        drop(progress);
        self.shared.ended.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.shared.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Part of a block, there or not yet.
#[derive(Debug)]
pub enum BlockPart {
    /// It is there.
    Here(Slice),
    /// It is being read. Who asked will be woken.
    Coming(ComingPart),
}

/// Part of a block that is being read.
#[derive(Debug)]
pub struct ComingPart {
    read: BlockRead,
    range: Range<usize>,
}

impl Block {
    /// The bytes `range` of the block.
    ///
    /// # Errors
    /// As [`BlockOutcome::slice`].
    pub fn part(self, range: Range<usize>) -> io::Result<BlockPart> {
        match self {
            Block::Here(outcome) => outcome.slice(range).map(BlockPart::Here),
            Block::Coming(read) => Ok(BlockPart::Coming(ComingPart { read, range })),
        }
    }
}

impl BlockPart {
    /// Its length; of what is being read, if all of it can be had.
    pub fn len(&self) -> usize {
        match self {
            BlockPart::Here(slice) => slice.len(),
            BlockPart::Coming(part) => part.range.len(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is there; [`io::ErrorKind::WouldBlock`] if it is still being read.
    ///
    /// # Errors
    /// As said.
    pub fn here(self) -> io::Result<Slice> {
        match self {
            BlockPart::Here(slice) => Ok(slice),
            BlockPart::Coming(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl ComingPart {
    /// Whether it is there, or cannot be had: asked for once more by a reader that has it
    /// ([`BlockReader::hold`]), it is said which.
    pub fn has_ended(&self) -> bool {
        self.read.has_ended()
    }
}

/// How one event loop reads blocks, and who asks just now.
pub struct BlockReader {
    queued: Option<Queued>,
    /// What was read, or is being read, for who asks.
    held: RefCell<Vec<BlockRead>>,
    /// Something was asked for that is being read.
    is_blocked: Cell<bool>,
}

struct Queued {
    queue: RefCell<Box<dyn ReadQueue + Send>>,
    waker_of: Box<dyn Fn(u32) -> Waker + Send>,
    key: Cell<u32>,
}

impl BlockReader {
    /// One that reads where it is asked, and waits.
    pub const fn in_place() -> BlockReader {
        BlockReader { queued: None, held: RefCell::new(Vec::new()), is_blocked: Cell::new(false) }
    }

    /// One that has `queue` read. Who is to be woken goes by a number, which `waker_of` knows.
    pub fn queued(
        queue: Box<dyn ReadQueue + Send>,
        waker_of: impl Fn(u32) -> Waker + Send + 'static,
    ) -> BlockReader {
        let queued =
            Queued { queue: RefCell::new(queue), waker_of: Box::new(waker_of), key: Cell::new(u32::MAX) };
        BlockReader { queued: Some(queued), ..BlockReader::in_place() }
    }

    /// Whether reads wait for the device.
    pub fn waits(&self) -> bool {
        self.queued.is_none()
    }

    /// From here on `key` asks, for whom `held` was read before.
    pub fn begin(&self, key: u32, held: Vec<BlockRead>) {
        if let Some(queued) = &self.queued {
            queued.key.set(key);
            self.held.replace(held);
            self.is_blocked.set(false);
        }
    }

    /// Whoever asks has asked for this before.
    pub fn hold(&self, part: ComingPart) {
        self.held.borrow_mut().push(part.read);
    }

    /// Whether something was asked for since [`BlockReader::begin`] that is being read.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    /// Nobody asks any more. Gives what was read for who asked, to go on with.
    pub fn end(&self) -> Vec<BlockRead> {
        if self.waits() { Vec::new() } else { self.held.take() }
    }

    /// Begins what was asked for, and ends what is read.
    pub fn turn(&self) {
        if let Some(queued) = &self.queued {
            queued.queue.borrow_mut().turn();
        }
    }

    /// Whether a turn would get further now.
    pub fn has_work(&self) -> bool {
        self.queued.as_ref().is_some_and(|queued| queued.queue.borrow().has_work())
    }

    /// A block that who asks has asked for before.
    pub(super) fn known(&self, id: BlockId) -> Option<Block> {
        let held = self.held.borrow();
        let read = held.iter().find(|read| read.id() == id)?;
        Some(match read.outcome() {
            Some(outcome) => Block::Here(outcome),
            None => {
                self.is_blocked.set(true);
                Block::Coming(read.clone())
            }
        })
    }

    /// A block that is being read for another.
    pub(super) fn share(&self, read: &BlockRead) -> Block {
        let Some(queued) = &self.queued else { return Block::Here(read.wait()) };
        match read.wake_by(|| (queued.waker_of)(queued.key.get())) {
            Some(outcome) => Block::Here(outcome),
            None => {
                self.held.borrow_mut().push(read.clone());
                self.is_blocked.set(true);
                Block::Coming(read.clone())
            }
        }
    }

    /// Has an order done, here or by the queue.
    pub(super) fn order(&self, read: &BlockRead, order: ReadOrder) -> Block {
        count(Quantity::BlockReads, 1);
        let Some(queued) = &self.queued else {
            order.read_here();
            return Block::Here(read.wait());
        };
        let Some(order) = order.try_now() else { return Block::Here(read.wait()) };
        count(Quantity::BlocksQueued, order.blocks());
        let block = self.share(read);
        queued.queue.borrow_mut().submit(order);
        block
    }
}

impl fmt::Debug for BlockReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockReader")
            .field("queue", &self.queued.as_ref().map(|queued| &queued.queue))
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
