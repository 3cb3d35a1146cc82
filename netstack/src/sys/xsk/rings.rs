//! Memory and rings that a socket shares with the kernel.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Memory that is ours and the kernel's.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone; it is no more tied to a thread than a `Vec` is.
unsafe impl Send for Mapping {}

impl Mapping {
    pub(super) fn anonymous(len: usize) -> io::Result<Mapping> {
        Mapping::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE, -1, 0)
    }

    fn new(len: usize, flags: libc::c_int, fd: libc::c_int, at: libc::off_t) -> io::Result<Mapping> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, fd, at) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Mapping { start, len })
    }

    /// So many bytes from there on; none if they are not in it (the kernel keeps to the chunks, but asking
    /// costs nothing).
    ///
    /// # Safety
    /// They must not be the kernel's.
    pub(super) unsafe fn bytes(&self, at: usize, len: usize) -> &[u8] {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return &[];
        }
        // SAFETY: they lie in the mapping, as was just seen; for who else has them, the caller vouches.
        unsafe { std::slice::from_raw_parts(self.start.add(at).as_ptr(), len) }
    }

    /// The same, to be written.
    ///
    /// # Safety
    /// They must not be the kernel's.
    pub(super) unsafe fn bytes_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return &mut [];
        }
        // SAFETY: they lie in the mapping, as was just seen; for who else has them, the caller vouches.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at).as_ptr(), len) }
    }

    /// Where it begins, for the kernel, and its length.
    pub(super) fn place(&self) -> (u64, u64) {
        (self.start.as_ptr() as u64, self.len as u64)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the very mapping that was made; no slice of it outlives the owner.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A ring of one producer and one consumer, one of which is the kernel. Both counters wrap at 2^32; an entry
/// belongs to the producer until its counter, stored with release ordering, says that it is filled.
#[derive(Debug)]
pub(super) struct SharedRing<T> {
    map: Mapping,
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
    mask: u32,
    of: PhantomData<T>,
}

impl<T: Copy> SharedRing<T> {
    pub(super) fn map(
        fd: BorrowedFd<'_>,
        offset: &libc::xdp_ring_offset,
        at: libc::off_t,
        entries: usize,
    ) -> io::Result<SharedRing<T>> {
        let [producer, consumer, flags, desc] =
            [offset.producer, offset.consumer, offset.flags, offset.desc].map(|offset| offset as usize);
        let len = desc + entries * size_of::<T>();
        let map = Mapping::new(len, libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), at)?;
        let is_sound = |offset: usize| offset.is_multiple_of(4) && offset + 4 <= len;
        if ![producer, consumer, flags].into_iter().all(is_sound) || !desc.is_multiple_of(align_of::<T>()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mask = entries as u32 - 1;
        Ok(SharedRing { map, producer, consumer, flags, entries: desc, mask, of: PhantomData })
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: the offset lies in the mapping and is aligned, as `map` has seen to; both sides touch the
        // word only by whole, aligned loads and stores.
        unsafe { self.map.start.add(at).cast::<AtomicU32>().as_ref() }
    }

    fn entry(&self, number: u32) -> *mut T {
        let offset = self.entries + (number & self.mask) as usize * size_of::<T>();
        // SAFETY: the mask keeps it within the entries, which lie in the mapping.
        unsafe { self.map.start.add(offset).cast::<T>().as_ptr() }
    }

    /// Of a ring to the kernel: whether so many entries are free.
    pub(super) fn has_room(&self, entries: usize) -> bool {
        let producer = self.word(self.producer).load(Ordering::Relaxed);
        let filled = producer.wrapping_sub(self.taken());
        (self.mask as usize + 1).saturating_sub(filled as usize) >= entries
    }

    /// Of a ring to the kernel: fills entries, of which it learns at once. There is room, since there are as
    /// many entries as chunks that go that way.
    pub(super) fn push(&mut self, values: impl ExactSizeIterator<Item = T>) {
        debug_assert!(self.has_room(values.len()));
        let mut producer = self.word(self.producer).load(Ordering::Relaxed);
        for value in values {
            // SAFETY: the entry is ours, for the consumer has not been told of it yet.
            unsafe { self.entry(producer).write(value) };
            producer = producer.wrapping_add(1);
        }
        self.word(self.producer).store(producer, Ordering::Release);
    }

    /// Of a ring to the kernel: how far it has got.
    pub(super) fn taken(&self) -> u32 {
        self.word(self.consumer).load(Ordering::Acquire)
    }

    /// Of a ring to the kernel: whether it has taken all.
    pub(super) fn is_taken(&self) -> bool {
        self.word(self.producer).load(Ordering::Relaxed) == self.taken()
    }

    /// Of a ring from the kernel: whether nothing is there.
    pub(super) fn is_empty(&self) -> bool {
        self.word(self.consumer).load(Ordering::Relaxed) == self.word(self.producer).load(Ordering::Acquire)
    }

    /// Of a ring from the kernel: takes an entry.
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let consumer = self.word(self.consumer).load(Ordering::Relaxed);
        // SAFETY: the producer's counter has passed this entry, so it is filled, and ours until our counter
        // passes it.
        let value = unsafe { self.entry(consumer).read() };
        self.word(self.consumer).store(consumer.wrapping_add(1), Ordering::Release);
        Some(value)
    }

    /// Of a ring to the kernel: whether it looks only when it is called.
    pub(super) fn needs_wakeup(&self) -> bool {
        self.word(self.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// As the kernel says that it looks only when it is called.
    #[cfg(test)]
    pub(super) fn sleep(&self) {
        self.word(self.flags).store(libc::XDP_RING_NEED_WAKEUP, Ordering::Relaxed);
    }
}
