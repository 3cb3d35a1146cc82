//! Executable memory: written while it is not executable, executable when it is no longer writable, unmapped with the
//! last handle.

use memmap2::{Mmap, MmapMut};

use super::asm::Image;

/// The signature of the code of a pass: `(states, pos, src, dst, len)`.
type Entry = unsafe extern "sysv64" fn(*mut u64, u64, *const u8, *mut u8, usize);

/// Functions in pages of their own.
pub(super) struct Code {
    map: Mmap,
    entries: Vec<usize>,
    /// Offset and length of each function's instructions, for people.
    extents: Vec<(usize, usize)>,
}

impl Code {
    /// Puts functions one behind another into fresh pages. They are position independent, and each starts at a multiple
    /// of 64 bytes.
    pub(super) fn new(images: &[Image]) -> std::io::Result<Code> {
        let len = images.iter().map(|image| image.bytes.len().next_multiple_of(64)).sum::<usize>();
        let mut map = MmapMut::map_anon(len.max(1))?;
        let mut entries = Vec::with_capacity(images.len());
        let mut extents = Vec::with_capacity(images.len());
        let mut at = 0;
        for image in images {
            map[at..at + image.bytes.len()].copy_from_slice(&image.bytes);
            entries.push(at + image.entry);
            extents.push((at + image.entry, image.bytes.len() - image.entry));
            at += image.bytes.len().next_multiple_of(64);
        }
        Ok(Code { map: map.make_exec()?, entries, extents })
    }

    /// Calls function `index`.
    ///
    /// # Safety
    /// The image at `index` is a function of the signature above whose contract the arguments keep (see
    /// `backend::PassCode`).
    pub(super) unsafe fn call(
        &self,
        index: usize,
        states: *mut u64,
        pos: u64,
        src: *const u8,
        dst: *mut u8,
        len: usize,
    ) {
        let address = self.map[self.entries[index]..].as_ptr();
        // SAFETY: the entry is the first instruction of a function that was assembled for this signature, in memory
        // that is executable as long as `self` lives.
        unsafe {
            let entry = std::mem::transmute::<*const u8, Entry>(address);
            entry(states, pos, src, dst, len);
        }
    }

    /// The instructions of function `index`, and the address of the first one relative to the image.
    pub(super) fn instructions(&self, index: usize) -> (u64, &[u8]) {
        let (start, len) = self.extents[index];
        (start as u64, &self.map[start..start + len])
    }

    /// Where function `index` is in memory.
    pub(super) fn address(&self, index: usize) -> usize {
        self.map.as_ptr() as usize + self.entries[index]
    }
}
