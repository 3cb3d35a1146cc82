//! Memory that two processes share: a file without a name (memfd_create(2)), sealed.
//!
//! Whoever makes it writes it; whoever gets its descriptor reads it. The seals are what lets the reader trust
//! the writer no further than the bytes: the length can never change, so no access faults, and nobody maps it
//! for writing later. The bytes themselves may change at any time, by the writer's fault or malice: they are
//! payload, never anything that decides.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate, memfd_create,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// What the reader insists on.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// The file system of memory files whose pages are always there; those of huge pages may not be.
const TMPFS: i64 = 0x0102_1994;

/// A mapping of such a file.
#[derive(Debug)]
pub struct SharedMemory {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping stays where it is until it is dropped, and is only reached through what is said below.
unsafe impl Send for SharedMemory {}
// SAFETY: as above; a shared reference only reads.
unsafe impl Sync for SharedMemory {}

/// A part of a mapping for writing. No two overlap.
#[derive(Debug)]
pub struct Region {
    memory: Arc<SharedMemory>,
    range: Range<usize>,
}

impl SharedMemory {
    /// New memory in `count` parts of `bytes` each, for this process to write, and the descriptor by which
    /// another may read them.
    ///
    /// # Errors
    /// If the system has no memory, or knows no such files; [`io::ErrorKind::InvalidInput`] for no bytes at
    /// all.
    pub fn create(bytes: usize, count: usize) -> io::Result<(Vec<Region>, OwnedFd)> {
        let len = bytes.checked_mul(count).filter(|len| *len > 0).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = memfd_create("shared-buffers", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, len as u64)?;
        let memory = SharedMemory::map(fd.as_fd(), len, ProtFlags::READ | ProtFlags::WRITE)?;
        // Before Linux 5.1 there is no such seal, and a reader that would write could.
        let _ = fcntl_add_seals(&fd, SealFlags::FUTURE_WRITE);
        fcntl_add_seals(&fd, SEALS | SealFlags::SEAL)?;
        let memory = Arc::new(memory);
        let region = |i: usize| Region { memory: Arc::clone(&memory), range: i * bytes..(i + 1) * bytes };
        Ok(((0..count).map(region).collect(), fd))
    }

    /// Another process's memory, to read. Of at most `max` bytes.
    ///
    /// # Errors
    /// If it is longer or empty, is no memory file of ordinary pages, or could still shrink.
    pub fn of_other(fd: BorrowedFd<'_>, max: usize) -> io::Result<SharedMemory> {
        let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        // Only memory files have seals.
        let seals = fcntl_get_seals(fd)?;
        if !seals.contains(SEALS) {
            return refuse("the memory is not sealed: add F_SEAL_SHRINK and F_SEAL_GROW");
        }
        if fstatfs(fd)?.f_type as i64 != TMPFS {
            return refuse("the memory is not of ordinary pages");
        }
        match usize::try_from(fstat(fd)?.st_size) {
            Ok(len) if (1..=max).contains(&len) => SharedMemory::map(fd, len, ProtFlags::READ),
            _ => refuse("the memory is empty, or too long"),
        }
    }

    fn map(fd: BorrowedFd<'_>, len: usize, access: ProtFlags) -> io::Result<SharedMemory> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that is there.
        let start = unsafe { mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, fd, 0)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(SharedMemory { start, len })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes; never so.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it lies in this process.
    pub fn addresses(&self) -> Range<usize> {
        let start = self.start.as_ptr().addr();
        start..start + self.len
    }

    /// The bytes `range`; `None` if there are not as many.
    pub fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        // SAFETY: within the mapping, which lives as long as `self` and can be read to its end, for the file
        // cannot shrink. Another process may write meanwhile, as it may with any mapped file: the bytes go to
        // system calls and loops that take whatever they find, and are never what decides where those read or
        // write.
        Some(unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(range.start), range.len()) })
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nothing refers to it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

impl Region {
    /// The memory that it is a part of.
    pub fn memory(&self) -> &Arc<SharedMemory> {
        &self.memory
    }

    /// Where in the memory it begins.
    pub fn offset(&self) -> usize {
        self.range.start
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.get(self.range.clone()).unwrap_or_default()
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: within the mapping, as `SharedMemory::create` cut it, and for writing; no other region
        // overlaps, of this one there is no other reference, and nothing else reads the writer's mapping.
        unsafe {
            std::slice::from_raw_parts_mut(self.memory.start.as_ptr().add(self.range.start), self.range.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Pool;

    #[test]
    fn what_one_writes_the_other_reads() {
        let (regions, fd) = SharedMemory::create(4096, 4).unwrap();
        let pool = Pool::of_regions(regions);
        let other = SharedMemory::of_other(fd.as_fd(), 1 << 20).unwrap();
        let mut buffers: Vec<_> = (0..4).map(|_| pool.take().unwrap()).collect();
        assert!(pool.take().is_none(), "all of it is in use");
        for (number, buffer) in buffers.iter_mut().enumerate() {
            buffer.fill(number as u8 + 1);
        }
        let shared: Vec<_> = buffers.into_iter().map(|buffer| buffer.freeze()).collect();
        for (number, buffer) in shared.iter().enumerate() {
            let at = buffer.region_offset().unwrap();
            assert_eq!(other.get(at..at + 4096).unwrap(), [number as u8 + 1; 4096]);
        }
        drop(shared);
        assert_eq!(pool.in_use(), 0);
        let again = pool.take().unwrap().freeze();
        assert!(again.name().generation > 1, "a new filling");
        assert!(other.get(0..16385).is_none() && other.get(16384..16384).is_some());
        assert!(other.get(std::ops::Range { start: 2, end: 1 }).is_none());
    }

    #[test]
    fn memory_that_could_shrink_is_refused() {
        let fd = memfd_create("x", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&fd, 8192).unwrap();
        let refused = |fd: &OwnedFd| SharedMemory::of_other(fd.as_fd(), 8192).unwrap_err().to_string();
        assert!(refused(&fd).contains("F_SEAL_SHRINK"));
        fcntl_add_seals(&fd, SealFlags::SHRINK).unwrap();
        assert!(refused(&fd).contains("F_SEAL_GROW"));
        fcntl_add_seals(&fd, SealFlags::GROW).unwrap();
        assert_eq!(SharedMemory::of_other(fd.as_fd(), 8192).unwrap().len(), 8192);
        assert!(SharedMemory::of_other(fd.as_fd(), 8191).is_err(), "too long");
        let empty = memfd_create("x", MemfdFlags::ALLOW_SEALING).unwrap();
        fcntl_add_seals(&empty, SEALS).unwrap();
        assert!(refused(&empty).contains("empty"));
        let file: OwnedFd = std::fs::File::open("/proc/self/exe").unwrap().into();
        assert!(SharedMemory::of_other(file.as_fd(), usize::MAX).is_err());
        if let Ok(huge) = memfd_create("x", MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB) {
            let _ = ftruncate(&huge, 2 << 20);
            fcntl_add_seals(&huge, SEALS).unwrap();
            assert!(SharedMemory::of_other(huge.as_fd(), usize::MAX).is_err(), "its pages may not be there");
        }
    }

    #[test]
    fn who_reads_cannot_write_and_nobody_shrinks() {
        let (_regions, fd) = SharedMemory::create(4096, 1).unwrap();
        assert!(ftruncate(&fd, 0).is_err() && ftruncate(&fd, 1 << 20).is_err());
        if fcntl_get_seals(&fd).unwrap().contains(SealFlags::FUTURE_WRITE) {
            assert!(SharedMemory::map(fd.as_fd(), 4096, ProtFlags::READ | ProtFlags::WRITE).is_err());
            assert!(rustix::io::pwrite(&fd, b"x", 0).is_err());
        }
    }

    #[test]
    fn places_come_back_however_the_last_references_go() {
        let (regions, _fd) = SharedMemory::create(64, 4).unwrap();
        let pool = Pool::of_regions(regions);
        for _ in 0..300 {
            let buffers: Vec<_> = (0..4).map(|_| pool.take().unwrap().freeze()).collect();
            let copies = buffers.clone();
            let other = std::thread::spawn(move || drop(copies));
            drop(buffers);
            other.join().unwrap();
            assert_eq!(pool.in_use(), 0);
        }
    }
}
