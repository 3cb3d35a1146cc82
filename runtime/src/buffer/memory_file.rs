//! Memory that the kernel can send from where it lies: a file in memory, filled once, then sealed, and mapped
//! for reading.
//!
//! A seal (memfd_create(2), fcntl(2) `F_ADD_SEALS`) cannot be taken back: from then on nobody can write to
//! the file or change its length, not even this process. So what `sendfile` has handed to the network by
//! reference stays what it was until the last copy was acknowledged, whatever happens to the buffer
//! meanwhile.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use memmap2::{Mmap, MmapMut, MmapOptions};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// A sealed file in memory, and its bytes.
pub(super) struct MemoryFile {
    map: Mmap,
    file: File,
}

impl MemoryFile {
    /// A file of `len` bytes, not 0, which `fill` writes.
    ///
    /// # Errors
    /// If the system has no memory or no descriptor for it, and what `fill` says.
    pub(super) fn new(len: usize, fill: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<MemoryFile> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(memfd_create(c"buffer", flags)?);
        file.set_len(len as u64)?;
        // SAFETY: nobody else has the file, so nobody changes its bytes or its length while it is mapped.
        let mut map: MmapMut = unsafe { MmapOptions::new().len(len).map_mut(&file)? };
        fill(&mut map)?;
        // A file that is mapped for writing cannot be sealed.
        drop(map);
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        // SAFETY: the seals keep bytes and length as they are for as long as the file exists.
        let map = unsafe { MmapOptions::new().len(len).map_copy_read_only(&file)? };
        Ok(MemoryFile { map, file })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::super::Shared;
    use super::*;

    #[test]
    fn a_file_has_the_bytes_and_nobody_changes_them() {
        let shared = Shared::in_memory_file(10_000, |bytes| {
            bytes.iter_mut().zip(0..).for_each(|(byte, i)| *byte = (i % 251) as u8);
            Ok(())
        })
        .unwrap();
        assert!(shared.iter().enumerate().all(|(i, &byte)| byte == (i % 251) as u8));
        let (file, at) = shared.file_of(&shared[300..400]).unwrap();
        assert_eq!(at, 300);
        let file = File::from(file.try_clone_to_owned().unwrap());
        let mut read = [0; 100];
        file.read_exact_at(&mut read, at).unwrap();
        assert_eq!(read, shared[300..400]);
        assert!(file.write_at(b"x", 0).is_err(), "sealed");
        assert!(file.set_len(5).is_err() && file.set_len(20_000).is_err(), "sealed");
        // SAFETY: never read or written, since it must fail.
        assert!(unsafe { MmapMut::map_mut(&file) }.is_err(), "sealed");
        assert!(shared.file_of(&[0; 8]).is_none());
        assert!(shared.thaw().is_err(), "not to be filled again");
        assert!(Shared::from(vec![1]).file_of(&[]).is_none());
    }

    #[test]
    fn what_cannot_be_filled_is_no_buffer() {
        let refused = Shared::in_memory_file(16, |_| Err(io::ErrorKind::UnexpectedEof.into()));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(Shared::in_memory_file(0, |_| Ok(())).unwrap().len(), 0);
    }
}
