//! The blocks of many files in one bounded memory, for all threads of a server.

use super::policy::{AnyPolicy, Hint, PolicyName};
use super::{Asker, BlockCache, Fill, Lookup, Stats};
use runtime::buffer::Shared;
use runtime::stats::work::{Quantity, count};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes of a block. A small page is one, and 64 of them, which one system call sends, are a megabyte.
const BLOCK_BYTES: usize = 16 * 1024;

/// What one version of a file is called: two that differ have different numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileNumber(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct BlockId {
    file: FileNumber,
    index: u64,
}

/// Blocks by file and place. Reading waits: whoever looks for a block that is not there reads it, and others who look for it
/// meanwhile wait for that.
pub struct FileCache {
    cache: Mutex<BlockCache<AnyPolicy, BlockId>>,
    /// A fill went back.
    filled: Condvar,
    next_number: AtomicU64,
    /// A file of more bytes than this pushes out too much: its blocks are told to be wanted once.
    once_bytes: u64,
}

/// A fill that goes back, whatever happens.
struct Reading<'a> {
    owner: &'a FileCache,
    fill: Option<Fill<BlockId>>,
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
        let frames = u32::try_from(bytes / BLOCK_BYTES as u64).unwrap_or(u32::MAX).max(1);
        FileCache {
            cache: Mutex::new(BlockCache::new(BLOCK_BYTES, frames, policy(frames))),
            once_bytes: u64::from(frames).saturating_mul(BLOCK_BYTES as u64) / 2,
            filled: Condvar::new(),
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

    /// Block `index` of `file`, which begins at this times the block size. If it is not there, `read` fills it from its start,
    /// over whatever was in the memory, and gives how many bytes it has written; the rest is zeros. If all frames are held by who sends from them, it is read into memory that nobody else gets. The policy is told that
    /// it is wanted for the file `owner` of `owner_bytes`, which lies in `file` or is the same.
    ///
    /// # Errors
    /// What `read` says. Then nothing is remembered.
    pub fn block(
        &self,
        file: FileNumber,
        index: u64,
        (owner, owner_bytes): (u64, u64),
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Shared> {
        let hint = if owner_bytes > self.once_bytes { Hint::Once } else { Hint::None };
        let asker = Asker { owner, owner_bytes, hint };
        let mut cache = self.lock();
        let fill = loop {
            match cache.lookup_for(BlockId { file, index }, asker) {
                Lookup::Ready(block) => {
                    count(Quantity::BlocksFound, 1);
                    return Ok(block);
                }
                Lookup::Missing(fill) => break Some(fill),
                Lookup::Pending => {
                    cache = self.filled.wait(cache).unwrap_or_else(PoisonError::into_inner);
                }
                Lookup::Full => break None,
            }
        };
        drop(cache);
        count(Quantity::BlocksRead, 1);
        let Some(fill) = fill else {
            let mut bytes = vec![0; BLOCK_BYTES];
            read(&mut bytes)?;
            return Ok(Shared::from(bytes));
        };
        let mut reading = Reading { owner: self, fill: Some(fill) };
        if let Some(fill) = &mut reading.fill {
            let buffer = fill.buffer_to_fill();
            let len = read(buffer)?;
            buffer[len..].fill(0);
        }
        reading.complete()
    }

    /// What became of look-ups so far.
    pub fn stats(&self) -> Stats {
        self.lock().stats()
    }

    fn lock(&self) -> MutexGuard<'_, BlockCache<AnyPolicy, BlockId>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading<'_> {
    fn complete(mut self) -> io::Result<Shared> {
        // There until now, whatever the type says.
        let fill = self.fill.take().ok_or(io::ErrorKind::Other)?;
        let block = self.owner.lock().complete(fill);
        self.owner.filled.notify_all();
        Ok(block)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if let Some(fill) = self.fill.take() {
            self.owner.lock().abandon(fill);
            self.owner.filled.notify_all();
        }
    }
}

impl fmt::Debug for FileCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileCache").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const ONE: (u64, u64) = (0, BLOCK_BYTES as u64);

    fn fill_with(byte: u8) -> impl FnOnce(&mut [u8]) -> io::Result<usize> {
        move |buffer| {
            buffer[..100].fill(byte);
            Ok(100)
        }
    }

    fn none(_: &mut [u8]) -> io::Result<usize> {
        panic!("it is there")
    }

    #[test]
    fn a_block_is_read_once_and_belongs_to_its_file() {
        let cache = FileCache::new(4 * BLOCK_BYTES as u64);
        let (a, b) = (cache.number(), cache.number());
        assert_eq!(cache.block(a, 0, ONE, fill_with(1)).unwrap()[..101], [&[1; 100][..], &[0]].concat());
        assert_eq!(cache.block(b, 0, ONE, fill_with(2)).unwrap()[0], 2);
        assert_eq!(cache.block(a, 1, ONE, fill_with(3)).unwrap()[0], 3);
        for (file, index, byte) in [(a, 0, 1), (b, 0, 2), (a, 1, 3)] {
            assert_eq!(cache.block(file, index, ONE, none).unwrap()[0], byte);
        }
        let Stats { hits, misses, .. } = cache.stats();
        assert_eq!((hits, misses), (3, 3));
    }

    #[test]
    fn nothing_of_another_block_is_behind_one() {
        let cache = FileCache::new(0);
        let file = cache.number();
        let all = |buffer: &mut [u8]| {
            buffer.fill(0xee);
            Ok(buffer.len())
        };
        assert!(cache.block(file, 0, ONE, all).unwrap().iter().all(|byte| *byte == 0xee));
        let next = cache.block(file, 1, ONE, fill_with(1)).unwrap();
        assert!(next[..100] == [1; 100] && next[100..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_cannot_be_read_is_asked_for_again() {
        let cache = FileCache::new(0);
        let file = cache.number();
        let error = cache.block(file, 0, ONE, |_| Err(io::ErrorKind::UnexpectedEof.into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(catch_unwind(AssertUnwindSafe(|| cache.block(file, 0, ONE, none))).is_err());
        assert_eq!(cache.block(file, 0, ONE, fill_with(5)).unwrap()[0], 5);
    }

    #[test]
    fn held_blocks_stay_and_others_are_read_beside_the_cache() {
        let cache = FileCache::new(2 * BLOCK_BYTES as u64);
        let file = cache.number();
        let held: Vec<Shared> =
            (0..5).map(|i| cache.block(file, i, ONE, fill_with(i as u8)).unwrap()).collect();
        assert!(held.iter().zip(0u8..).all(|(block, i)| block[..100] == [i; 100]));
        assert_eq!(cache.stats().refusals, 3);
        drop(held);
        assert_eq!(cache.block(file, 4, ONE, fill_with(9)).unwrap()[0], 9, "it was not kept");
    }

    #[test]
    fn who_looks_for_what_is_being_read_gets_the_same() {
        let cache = FileCache::new(1 << 20);
        let file = cache.number();
        let (began, wait_began) = std::sync::mpsc::channel();
        let names: Vec<_> = std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                let slow = |buffer: &mut [u8]| {
                    began.send(()).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    fill_with(7)(buffer)
                };
                cache.block(file, 0, ONE, slow).unwrap().name()
            });
            wait_began.recv().unwrap();
            let others: Vec<_> =
                (0..3).map(|_| scope.spawn(|| cache.block(file, 0, ONE, none).unwrap().name())).collect();
            others.into_iter().chain([first]).map(|thread| thread.join().unwrap()).collect()
        });
        assert!(names.iter().all(|name| *name == names[0]));
        assert_eq!(cache.stats().misses, 1);
    }
}
