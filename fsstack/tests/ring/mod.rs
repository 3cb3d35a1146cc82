//! A ring that a test looks at, and blocks that it reads past the kernel's cache.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use fsstack::cache::policy::PolicyName;
use fsstack::cache::reads::{
    Block, BlockOutcome, BlockRead, Damage, Lasting, ReadOrder, ReadQueue, RingCounts, UringQueue,
};
use fsstack::cache::{BlockReader, BlockSource, FileCache, FileNumber, Wanted};
use fsstack::device::FileDevice;
use rustix::event::EventfdFlags;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

pub const BLOCK: usize = 16 << 10;

/// Bytes in which mistaken places are seen.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 23) as u8).collect()
}

/// A file that is read past the kernel's cache; its last block may be a short one.
#[derive(Debug)]
pub struct PastCache {
    file: File,
    pub direct: File,
    len: usize,
    lasting: Lasting,
}

impl PastCache {
    /// `None`, said in a line, if its file system has no such reads.
    pub fn open(path: &Path) -> Option<Arc<PastCache>> {
        let file = File::open(path).unwrap();
        let len = file.metadata().unwrap().len() as usize;
        match FileDevice::new(file.try_clone().unwrap()).open_direct() {
            Ok(direct) => Some(Arc::new(PastCache { file, direct, len, lasting: Lasting::default() })),
            Err(error) => {
                eprintln!("skipped: no O_DIRECT at {}: {error}", path.display());
                None
            }
        }
    }
}

impl BlockSource for PastCache {
    fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn direct_file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.direct.as_fd())
    }

    fn lasting(&self) -> Option<&Lasting> {
        Some(&self.lasting)
    }

    fn place(&self, index: u64) -> io::Result<(u64, usize)> {
        let start = index as usize * BLOCK;
        Ok((start as u64, BLOCK.min(self.len - start)))
    }

    fn check(&self, _index: u64, _bytes: &[u8]) -> io::Result<Vec<Damage>> {
        Ok(Vec::new())
    }
}

/// A queue that is a loop's and a test's.
#[derive(Clone, Debug)]
struct Watched(Arc<Mutex<UringQueue>>);

impl ReadQueue for Watched {
    fn submit(&mut self, order: ReadOrder) {
        self.0.lock().unwrap().submit(order);
    }

    fn turn(&mut self) {
        self.0.lock().unwrap().turn();
    }

    fn has_work(&self) -> bool {
        self.0.lock().unwrap().has_work()
    }
}

struct Nobody;

impl Wake for Nobody {
    fn wake(self: Arc<Self>) {}
}

/// The ring of a loop that does nothing else.
pub struct WatchedRing {
    queue: Watched,
    pub reader: BlockReader,
    pub bell: OwnedFd,
}

impl WatchedRing {
    /// `None`, said in a line, if there is no io_uring.
    pub fn new() -> Option<WatchedRing> {
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let queue = match UringQueue::new(bell.as_fd()) {
            Ok(queue) => Watched(Arc::new(Mutex::new(queue))),
            Err(error) => {
                eprintln!("skipped: there is no io_uring here: {error}");
                return None;
            }
        };
        let reader = BlockReader::queued(Box::new(queue.clone()), |_| Waker::from(Arc::new(Nobody)));
        Some(WatchedRing { queue, reader, bell })
    }

    pub fn counts(&self) -> RingCounts {
        self.queue.0.lock().unwrap().counts()
    }

    /// Begins to read a block, which must not be there, together with those up to another.
    pub fn begin(&self, cache: &FileCacheOf, index: u64, group_end: u64) -> BlockRead {
        self.reader.begin(0, Vec::new());
        let FileCacheOf { cache, file, source } = cache;
        let (owner_bytes, owner_end) = (BLOCK as u64, 0);
        let wanted = Wanted { file: *file, index, group_end, owner: 0, owner_bytes, owner_end };
        let block = cache.read(&wanted, source, &self.reader);
        drop(self.reader.end());
        match block {
            Block::Coming(read) => read,
            Block::Here(outcome) => panic!("{outcome:?}"),
        }
    }

    /// Whether its loop, asleep since it had nothing to do, is woken.
    pub fn is_woken(&self) -> bool {
        let timeout = rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 };
        let mut bells = [rustix::event::PollFd::new(&self.bell, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut bells, Some(&timeout)).unwrap() == 1
    }

    /// Turns until there is nothing to do, as a loop does that falls asleep then.
    pub fn fall_asleep(&self) {
        self.reader.turn();
        while self.reader.has_work() {
            self.reader.turn();
        }
        while rustix::io::read(&self.bell, &mut [0; 8]).is_ok() {}
    }

    /// Reads blocks all at once, and compares them with what `bytes` has there and zeros.
    pub fn read(&self, cache: &FileCacheOf, indices: impl IntoIterator<Item = u64>, bytes: &[u8]) {
        let begun: Vec<_> =
            indices.into_iter().map(|index| (index, self.begin(cache, index, index + 1))).collect();
        for (index, read) in begun {
            let outcome = loop {
                match read.outcome() {
                    Some(outcome) => break outcome,
                    None => self.reader.turn(),
                }
            };
            let block = outcome.slice(0..BLOCK).unwrap();
            let wanted = bytes.chunks(BLOCK).nth(index as usize).unwrap();
            assert!(block.bytes().starts_with(wanted), "other bytes");
            assert!(block.bytes()[wanted.len()..].iter().all(|byte| *byte == 0), "bytes of another block");
        }
    }
}

/// A cache of a file's own, as a site has one.
#[derive(Clone)]
pub struct FileCacheOf {
    pub cache: Arc<FileCache>,
    pub file: FileNumber,
    pub source: Arc<dyn BlockSource>,
}

impl FileCacheOf {
    pub fn new(source: Arc<dyn BlockSource>, blocks: usize) -> FileCacheOf {
        let cache = Arc::new(FileCache::aligned((blocks * BLOCK) as u64, PolicyName::default()).unwrap());
        FileCacheOf { file: cache.number(), cache, source }
    }

    /// A block that is there.
    pub fn known(&self, index: u64) -> Option<BlockOutcome> {
        let (group_end, owner_bytes) = (index + 1, BLOCK as u64);
        let wanted = Wanted { file: self.file, index, group_end, owner: 0, owner_bytes, owner_end: 0 };
        let misses = self.cache.stats().misses;
        let block = self.cache.read(&wanted, &self.source, &BlockReader::in_place());
        match block {
            Block::Here(outcome) if self.cache.stats().misses == misses => Some(outcome),
            Block::Here(_) | Block::Coming(_) => None,
        }
    }
}

/// Held by who counts on what it may lock: the system counts that of a user's rings together.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the kernel locks so many bytes for this thread, as a ring that has them registered.
#[allow(unsafe_code, reason = "the kernel is told an address")]
pub fn may_register(bytes: usize) -> bool {
    let memory = vec![1_u8; bytes];
    let Ok(ring) = io_uring::IoUring::new(1) else { return false };
    let part = |part: &[u8]| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
    let parts: Vec<_> = memory.chunks(2 << 20).map(part).collect();
    // SAFETY: nothing is read to it, and the ring goes before the memory.
    let registered = unsafe { ring.submitter().register_buffers(&parts) };
    // A ring that goes lets go of it later.
    registered.and_then(|()| ring.submitter().unregister_buffers()).is_ok()
}
