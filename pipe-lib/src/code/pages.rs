//! The operating system's part: pages, and what may be done to them.
//!
//! Here are the only calls that change it, and none asks for memory that is writable and executable.

use std::io;
use std::ops::Range;
use std::ptr::NonNull;

/// Pages in a row, writable at first; unmapped on drop.
#[derive(Debug)]
pub(super) struct Pages {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: an address range of the process; who writes to which part is the owner's business.
unsafe impl Send for Pages {}
// SAFETY: as above; nothing here reads or writes the memory.
unsafe impl Sync for Pages {}

impl Pages {
    /// `len` bytes, whole pages, of zeros that take up no memory before they are written.
    pub(super) fn map(len: usize) -> io::Result<Pages> {
        let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, where the system likes, disturbs no other.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, rights, kind, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Pages { base, len })
    }

    /// Bytes of a page.
    pub(super) fn page_bytes() -> usize {
        // SAFETY: asks for a constant.
        usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
    }

    /// The address of the first byte.
    pub(super) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Makes the bytes of `range` executable, and no longer writable.
    pub(super) fn seal(&self, range: &Range<usize>) -> io::Result<()> {
        self.protect(range, libc::PROT_READ | libc::PROT_EXEC)
    }

    /// Makes the bytes of `range` writable, and no longer executable; what they held goes back to the system.
    pub(super) fn open(&self, range: &Range<usize>) -> io::Result<()> {
        self.protect(range, libc::PROT_READ | libc::PROT_WRITE)?;
        self.forget(range);
        Ok(())
    }

    /// Makes the bytes of `range` inaccessible for good; what they held goes back to the system.
    pub(super) fn close(&self, range: &Range<usize>) -> io::Result<()> {
        self.protect(range, libc::PROT_NONE)?;
        self.forget(range);
        Ok(())
    }

    fn protect(&self, range: &Range<usize>, rights: libc::c_int) -> io::Result<()> {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: within this mapping. Nobody uses the range in a way that it will not allow: that is what
        // owning it means.
        let failed = unsafe { libc::mprotect(self.base().add(range.start).cast(), range.len(), rights) };
        if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Failure would only mean that the memory stays in use.
    fn forget(&self, range: &Range<usize>) {
        // SAFETY: as above; nobody needs what the range holds.
        unsafe { libc::madvise(self.base().add(range.start).cast(), range.len(), libc::MADV_DONTNEED) };
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's, and its owner is done with it.
        unsafe { libc::munmap(self.base().cast(), self.len) };
    }
}
