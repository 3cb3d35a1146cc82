//! What a ring was told of once, so that the kernel does not look it up again for each read: the memory of
//! caches, whose pages it locks then, and files that much is read from.
//!
//! Memory is registered in parts, each when a block in it is read for the first time: a cache takes memory as
//! it needs it, and a big one would take seconds at once. Where something cannot be registered (an old
//! kernel), reads go on without; where not all can (a limit of locked memory), by the number of what is, and
//! the others without.
//!
//! A server has several caches: one for each site, and while the last requests of replaced sites end, those
//! of these. The ring keeps none: it hears when one is gone ([`Lasting`](super::Lasting)), and takes its
//! parts out of the table then.

#![allow(unsafe_code, reason = "the kernel keeps the pages of what is registered")]

use super::lasting::RingBell;
use super::{BlockSource, ReadOrder};
use crate::cache::file_cache::FileCache;
use io_uring::IoUring;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::{Arc, Weak};

/// Bytes that are registered at once, unless the ring's table would not hold all of a cache then.
const PART_BYTES: usize = 2 << 20;

/// Parts that a ring's table holds, of all caches together; what finds no place is read to without.
const MAX_PARTS: u16 = 1 << 14;

/// Caches of which parts are registered. Further ones are read to without.
const MAX_MEMORIES: usize = 32;

/// Parts that are let go of in one turn: some 50 µs each, in which the loop serves nobody.
const PARTS_A_TURN: usize = 8;

/// Files that a ring's table holds. Further ones are looked up.
const MAX_FILES: u32 = 32;

/// Tables of one ring.
pub(super) struct Registered {
    memories: RingTable<Memories>,
    files: RingTable<Vec<Option<KnownFile>>>,
    bell: Arc<RingBell>,
    counts: RingCounts,
}

/// What became of what a ring is told of once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounts {
    /// Reads from a registered file to registered memory so far.
    pub reads: u64,
    /// Reads from a registered file to other memory so far.
    pub reads_elsewhere: u64,
    /// Parts of caches that are registered now.
    pub parts: usize,
    /// Parts so far that the kernel did not want to have registered.
    pub refused: u64,
}

/// A table in the kernel.
enum RingTable<T> {
    Untried,
    Known(T),
    Impossible,
}

impl<T> RingTable<T> {
    /// What is in it, if there can be one.
    fn or_begin(&mut self, begin: impl FnOnce() -> io::Result<T>) -> Option<&mut T> {
        if matches!(self, RingTable::Untried) {
            *self = begin().map_or(RingTable::Impossible, RingTable::Known);
        }
        self.known()
    }

    fn known(&mut self) -> Option<&mut T> {
        if let RingTable::Known(known) = self { Some(known) } else { None }
    }
}

/// A file by its number. While there is a `Weak`, no other source has its address.
#[derive(Clone)]
struct KnownFile {
    source: Weak<dyn BlockSource>,
    is_direct: bool,
}

/// Parts of caches by their numbers.
#[derive(Default)]
struct Memories {
    known: Vec<KnownMemory>,
    /// Numbers that are free, and the first that none had so far.
    free: Vec<u16>,
    fresh: u16,
    /// Parts whose caches are gone.
    ended: Vec<u16>,
    /// No further part is tried, until something is let go of: a refusal takes the time of locking one, and
    /// there is one for each miss outside those that are known.
    is_refused: bool,
}

/// The memory of one cache.
struct KnownMemory {
    cache: Weak<FileCache>,
    addresses: Range<usize>,
    part_bytes: usize,
    /// Of its parts.
    numbers: Vec<Option<u16>>,
}

impl Registered {
    /// Nothing yet. `bell` wakes the loop.
    ///
    /// # Errors
    /// If there are no descriptors.
    pub(super) fn new(bell: BorrowedFd<'_>) -> io::Result<Registered> {
        let bell = Arc::new(RingBell::new(bell)?);
        let counts = RingCounts::default();
        Ok(Registered { memories: RingTable::Untried, files: RingTable::Untried, bell, counts })
    }

    /// Nothing is to be registered from now on.
    pub(super) fn stop(&mut self) {
        (self.memories, self.files) = (RingTable::Impossible, RingTable::Impossible);
    }

    /// The number of the part of registered memory that all of `room` lies in, if it does.
    pub(super) fn part_of(&mut self, ring: &IoUring, order: &ReadOrder, room: Range<usize>) -> Option<u16> {
        // Else there need not be a table.
        order.cache().memory()?;
        let begin =
            || ring.submitter().register_buffers_sparse(MAX_PARTS.into()).map(|()| Memories::default());
        let memories = self.memories.or_begin(begin)?;
        let at = memories.of(order.cache(), &self.bell)?;
        memories.part(at, ring, room, &mut self.counts)
    }

    /// The number of the file of an order, if it has one.
    pub(super) fn file_of(&mut self, ring: &IoUring, order: &ReadOrder) -> Option<u32> {
        let (source, is_direct) = (order.source(), order.is_direct());
        let lasting = source.lasting()?;
        let begin =
            || ring.submitter().register_files_sparse(MAX_FILES).map(|()| vec![None; MAX_FILES as usize]);
        let known = self.files.or_begin(begin)?;
        let is_it = |known: &Option<KnownFile>| {
            known.as_ref().is_some_and(|known| {
                ptr::addr_eq(known.source.as_ptr(), Arc::as_ptr(source)) && known.is_direct == is_direct
            })
        };
        let number = known.iter().position(is_it).or_else(|| {
            let free = known.iter().position(Option::is_none)?;
            put_file(ring, free, order.file().as_raw_fd()).ok()?;
            lasting.tell(&self.bell);
            known[free] = Some(KnownFile { source: Arc::downgrade(source), is_direct });
            Some(free)
        })?;
        u32::try_from(number).ok()
    }

    /// A read goes by these numbers.
    pub(super) fn note(&mut self, part: Option<u16>, file: Option<u32>) {
        self.counts.reads += u64::from(part.is_some() && file.is_some());
        self.counts.reads_elsewhere += u64::from(part.is_none() && file.is_some());
    }

    pub(super) fn counts(&self) -> RingCounts {
        self.counts
    }

    /// Lets go of what nobody reads any more, of memory a bit at a time.
    pub(super) fn let_go(&mut self, ring: &IoUring) {
        if self.bell.take() {
            for (number, file) in self.files.known().into_iter().flatten().enumerate() {
                let is_ended = file.as_ref().is_some_and(|file| file.source.strong_count() == 0);
                // If it cannot be taken out, its number stays taken.
                if is_ended && put_file(ring, number, -1).is_ok() {
                    *file = None;
                }
            }
            if let Some(memories) = self.memories.known() {
                memories.end();
            }
        }
        if let Some(memories) = self.memories.known() {
            memories.take_out(ring, &mut self.counts);
        }
    }

    /// Whether there is something to let go of.
    pub(super) fn has_work(&self) -> bool {
        let has_ended = matches!(&self.memories, RingTable::Known(memories) if !memories.ended.is_empty());
        has_ended || self.bell.was_rung()
    }
}

fn put_file(ring: &IoUring, number: usize, file: RawFd) -> io::Result<()> {
    let number = u32::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
    ring.submitter().register_files_update(number, &[file]).map(drop)
}

impl Memories {
    /// Which of those that are known a cache's memory is, known from now on.
    fn of(&mut self, cache: &Arc<FileCache>, bell: &Arc<RingBell>) -> Option<usize> {
        let memory = cache.memory()?;
        let is_it = |known: &KnownMemory| ptr::eq(known.cache.as_ptr(), Arc::as_ptr(cache));
        if let Some(at) = self.known.iter().position(is_it) {
            return Some(at);
        }
        if self.known.len() == MAX_MEMORIES {
            return None;
        }
        let part_bytes = memory.len().div_ceil(MAX_PARTS.into()).next_multiple_of(PART_BYTES);
        let numbers = vec![None; memory.len().div_ceil(part_bytes)];
        cache.lasting().tell(bell);
        let (cache, addresses) = (Arc::downgrade(cache), memory.addresses());
        self.known.push(KnownMemory { cache, addresses, part_bytes, numbers });
        Some(self.known.len() - 1)
    }

    /// The number of the part that all of `room` lies in, of the memory at `at`.
    fn part(
        &mut self,
        at: usize,
        ring: &IoUring,
        room: Range<usize>,
        counts: &mut RingCounts,
    ) -> Option<u16> {
        let (part, addresses) = self.known[at].part_around(room)?;
        if let Some(number) = self.known[at].numbers[part] {
            return Some(number);
        }
        if self.is_refused {
            return None;
        }
        let number = self.free.pop().or_else(|| {
            let fresh = Some(self.fresh).filter(|&fresh| fresh < MAX_PARTS)?;
            self.fresh += 1;
            Some(fresh)
        })?;
        let start = ptr::without_provenance_mut(addresses.start);
        let whole = libc::iovec { iov_base: start, iov_len: addresses.end - addresses.start };
        match put_part(ring, number, whole) {
            Ok(()) => {
                counts.parts += 1;
                self.known[at].numbers[part] = Some(number);
                Some(number)
            }
            Err(_) => {
                counts.refused += 1;
                self.is_refused = true;
                self.free.push(number);
                None
            }
        }
    }

    /// Finds the parts whose caches are gone.
    fn end(&mut self) {
        for gone in self.known.extract_if(.., |known| known.cache.strong_count() == 0) {
            self.ended.extend(gone.numbers.into_iter().flatten());
            self.is_refused &= !self.ended.is_empty();
        }
    }

    /// Takes some of them out of the table.
    fn take_out(&mut self, ring: &IoUring, counts: &mut RingCounts) {
        if self.ended.is_empty() {
            return;
        }
        for number in self.ended.drain(self.ended.len().saturating_sub(PARTS_A_TURN)..) {
            // If it cannot be taken out, its number stays taken.
            if put_part(ring, number, libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }).is_ok() {
                self.free.push(number);
                counts.parts -= 1;
            }
        }
        self.is_refused &= !self.ended.is_empty();
    }
}

/// Has a number stand for `part`, or for nothing.
fn put_part(ring: &IoUring, number: u16, part: libc::iovec) -> io::Result<()> {
    // SAFETY: nothing, or memory of a cache that is there. The kernel keeps its pages, wherever they are
    // mapped, until the number is taken out or the ring goes, and writes to them only what a read says: such
    // reads are of orders, which have the cache.
    unsafe { ring.submitter().register_buffers_update(number.into(), &[part], Some(&[0])) }
}

impl KnownMemory {
    /// The part that all of `room` lies in, and where that is. Room beside the cache is in none.
    fn part_around(&self, room: Range<usize>) -> Option<(usize, Range<usize>)> {
        let Range { start, end } = self.addresses;
        let part = room.start.checked_sub(start).filter(|_| room.end <= end)? / self.part_bytes;
        let from = start + part * self.part_bytes;
        let to = end.min(from + self.part_bytes);
        (room.end <= to && part < self.numbers.len()).then_some((part, from..to))
    }
}
