//! What a ring was told of once, so that the kernel does not look it up again for each read: the memory of the cache, whose
//! pages it locks then, and files that much is read from.
//!
//! Memory is registered in parts, each when a block in it is read for the first time: a cache takes memory as it needs it, and
//! a big one would take seconds at once. Where something cannot be registered (an old kernel), reads go on without; where not
//! all can (a limit of locked memory), by the number of what is, and the others without.

#![allow(unsafe_code, reason = "the kernel keeps the address of what is registered")]

use super::{BlockSource, ReadOrder};
use io_uring::IoUring;
use runtime::buffer::SharedMemory;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::{Arc, Weak};

/// Bytes that are registered at once, unless the ring's table would not hold all of a cache then.
const PART_BYTES: usize = 2 << 20;

/// Parts that a ring's table holds.
const MOST_PARTS: usize = 1 << 14;

/// Files that a ring's table holds. Further ones are looked up.
const MOST_FILES: u32 = 32;

/// Tables of one ring.
#[derive(Default)]
pub(super) struct Registered {
    memory: Option<RegisteredMemory>,
    has_no_memory: bool,
    files: RegisteredFiles,
    counts: RingCounts,
}

/// What became of what a ring is told of once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounts {
    /// Reads from a registered file to registered memory so far.
    pub reads: u64,
    /// Parts of caches that are registered now.
    pub parts: usize,
    /// Parts so far that the kernel did not want to have registered.
    pub refused: u64,
}

/// The memory of one cache. It stays where it is as long as it is registered.
struct RegisteredMemory {
    memory: Arc<SharedMemory>,
    part_bytes: usize,
    is_known: Vec<bool>,
    /// No further part is tried: a refusal takes the time of locking one, and there is one for each further miss.
    is_refused: bool,
}

#[derive(Default)]
enum RegisteredFiles {
    #[default]
    Untried,
    /// By their numbers. Whether a file is still read from says its source.
    Known(Vec<Option<(Weak<dyn BlockSource>, bool)>>),
    Impossible,
}

impl Registered {
    /// Nothing is to be registered.
    pub(super) fn nothing() -> Registered {
        Registered { has_no_memory: true, files: RegisteredFiles::Impossible, ..Registered::default() }
    }

    /// The number of the part of registered memory that all of `room` lies in, if it does.
    pub(super) fn part_of(&mut self, ring: &IoUring, order: &ReadOrder, room: Range<usize>) -> Option<u16> {
        let memory = order.memory().filter(|_| !self.has_no_memory)?;
        if self.memory.as_ref().is_none_or(|known| !Arc::ptr_eq(&known.memory, memory)) {
            // One at a time: a server has one cache.
            if self.memory.is_some() {
                return None;
            }
            self.memory = RegisteredMemory::begin(ring, memory);
        }
        let counts = &mut self.counts;
        let part = self.memory.as_mut().and_then(|memory| memory.part(ring, room, counts));
        self.has_no_memory |= self.memory.is_none();
        part
    }

    /// The number of the file of an order, if it has one.
    pub(super) fn file_of(&mut self, ring: &IoUring, order: &ReadOrder) -> Option<u32> {
        let source = order.source();
        if !source.is_lasting() {
            return None;
        }
        if matches!(self.files, RegisteredFiles::Untried) {
            self.files = match ring.submitter().register_files_sparse(MOST_FILES) {
                Ok(()) => RegisteredFiles::Known(vec![None; MOST_FILES as usize]),
                Err(_) => RegisteredFiles::Impossible,
            };
        }
        let RegisteredFiles::Known(known) = &mut self.files else { return None };
        let is_it = |known: &Option<(Weak<dyn BlockSource>, bool)>| {
            // While there is a `Weak`, no other source has its address.
            known.as_ref().is_some_and(|(file, is_direct)| {
                ptr::addr_eq(file.as_ptr(), Arc::as_ptr(source)) && *is_direct == order.is_direct()
            })
        };
        let number = known.iter().position(is_it).or_else(|| {
            let free = known.iter().position(Option::is_none)?;
            put_file(ring, free, order.file().as_raw_fd()).ok()?;
            known[free] = Some((Arc::downgrade(source), order.is_direct()));
            Some(free)
        })?;
        u32::try_from(number).ok()
    }

    /// Lets go of what nobody reads any more: of files that are replaced the ring would keep the space.
    pub(super) fn let_go(&mut self, ring: &IoUring) {
        if let RegisteredFiles::Known(known) = &mut self.files {
            for (number, file) in known.iter_mut().enumerate() {
                if file.as_ref().is_some_and(|(file, _)| file.strong_count() == 0) {
                    // If it cannot be taken out, its number stays taken.
                    match put_file(ring, number, -1) {
                        Ok(()) => *file = None,
                        Err(_) => continue,
                    }
                }
            }
        }
        if self.memory.as_ref().is_some_and(|known| Arc::strong_count(&known.memory) == 1)
            && ring.submitter().unregister_buffers().is_ok()
        {
            self.memory = None;
            self.counts.parts = 0;
        }
    }

    /// A read goes by these numbers.
    pub(super) fn note(&mut self, part: Option<u16>, file: Option<u32>) {
        self.counts.reads += u64::from(part.is_some() && file.is_some());
    }

    pub(super) fn counts(&self) -> RingCounts {
        self.counts
    }
}

fn put_file(ring: &IoUring, number: usize, file: RawFd) -> std::io::Result<()> {
    let number = u32::try_from(number).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    ring.submitter().register_files_update(number, &[file]).map(drop)
}

impl RegisteredMemory {
    /// A table for all of it, with nothing in it yet.
    fn begin(ring: &IoUring, memory: &Arc<SharedMemory>) -> Option<RegisteredMemory> {
        let part_bytes = memory.len().div_ceil(MOST_PARTS).next_multiple_of(PART_BYTES);
        let parts = memory.len().div_ceil(part_bytes);
        ring.submitter().register_buffers_sparse(u32::try_from(parts).ok()?).ok()?;
        Some(RegisteredMemory {
            memory: Arc::clone(memory),
            part_bytes,
            is_known: vec![false; parts],
            is_refused: false,
        })
    }

    fn part(&mut self, ring: &IoUring, room: Range<usize>, counts: &mut RingCounts) -> Option<u16> {
        let addresses = self.memory.addresses();
        // Room beside the cache is none of it.
        let at = room.start.checked_sub(addresses.start).filter(|_| room.end <= addresses.end)?;
        let part = at / self.part_bytes;
        let start = addresses.start + part * self.part_bytes;
        let end = addresses.end.min(start + self.part_bytes);
        if room.end > end {
            return None;
        }
        if !*self.is_known.get(part)? {
            if self.is_refused {
                return None;
            }
            let whole = libc::iovec { iov_base: ptr::without_provenance_mut(start), iov_len: end - start };
            // SAFETY: part of a mapping that `self` keeps. It goes only when the table is given up, or with the ring, which
            // `UringQueue` has before this; the kernel writes to it only what a read says.
            let done = unsafe { ring.submitter().register_buffers_update(part as u32, &[whole], Some(&[0])) };
            self.is_refused = done.is_err();
            counts.refused += u64::from(self.is_refused);
            done.ok()?;
            counts.parts += 1;
            self.is_known[part] = true;
        }
        u16::try_from(part).ok()
    }
}
