//! Executable memory: bytes of machine code in pages that are never writable and executable at the same time.
//!
//! Code is written once, to pages that cannot be executed yet, stays as it is as long as its owner lives, and
//! goes when the last one drops it: [`arena`] has the pages, `slots` says which are free, `pages` asks the
//! system. This module does not call what it holds; who does answers for the bytes.

#[cfg(unix)]
mod arena;
#[cfg(any(not(unix), test))]
mod mapping;
#[cfg(unix)]
mod pages;
#[cfg(unix)]
mod slots;

#[cfg(unix)]
use arena as memory;
#[cfg(not(unix))]
use mapping as memory;
use smallvec::SmallVec;
use std::io;

/// Machine code that is being written, piece by piece, and cannot be executed yet. Its memory is given back
/// on drop.
#[derive(Debug)]
pub(crate) struct CodeDraft {
    pages: memory::CodeDraft,
    pieces: Pieces,
}

/// Finished machine code: pieces in the order in which room was asked for.
#[derive(Debug)]
pub(crate) struct CodeMemory {
    pieces: Pieces,
    /// Given back on drop.
    _pages: memory::Sealed,
}

/// Of a pass: the loop, its end, and a stub; the native backend has one piece for all.
type Pieces = SmallVec<[CodePiece; 3]>;

#[derive(Clone, Copy, Debug)]
struct CodePiece {
    base: *mut u8,
    len: usize,
}

// SAFETY: an address; who reads or writes there has the pages that it is in.
unsafe impl Send for CodePiece {}
// SAFETY: as above.
unsafe impl Sync for CodePiece {}

impl CodeDraft {
    /// Without memory yet.
    pub(crate) fn new() -> CodeDraft {
        CodeDraft { pages: memory::CodeDraft::new(), pieces: Pieces::new() }
    }

    /// Room for a piece of `len` bytes at a multiple of `align`, writable until the draft is sealed or
    /// dropped.
    ///
    /// # Errors
    /// What the operating system answers when it has no memory; an `align` that is no power of two, or more
    /// than a page.
    pub(crate) fn room(&mut self, len: usize, align: usize) -> io::Result<*mut u8> {
        let base = self.pages.room(len, align)?;
        self.pieces.push(CodePiece { base, len });
        Ok(base)
    }

    /// The finished code. What was written must not be written to any more.
    ///
    /// # Errors
    /// What the operating system answers when it forbids executable pages.
    pub(crate) fn seal(self) -> io::Result<CodeMemory> {
        Ok(CodeMemory { pieces: self.pieces, _pages: self.pages.seal(publish)? })
    }
}

impl CodeMemory {
    /// One piece: a copy of `bytes`, which must not depend on where they lie.
    ///
    /// # Errors
    /// What the operating system answers when it has no memory, or forbids executable pages.
    // Only the native backend has its code in one piece.
    #[cfg(any(native, test))]
    pub(crate) fn new(bytes: &[u8]) -> io::Result<CodeMemory> {
        let mut draft = CodeDraft::new();
        let base = draft.room(bytes.len(), 1)?;
        // SAFETY: room for so many bytes, which nobody else knows of.
        unsafe { base.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        draft.seal()
    }

    /// The address of the byte at `offset` in the first piece; its end for offsets beyond it.
    #[cfg(any(native, test))]
    pub(crate) fn address(&self, offset: usize) -> *const u8 {
        let bytes = self.bytes();
        bytes[offset.min(bytes.len())..].as_ptr()
    }

    /// The first piece, for listings.
    #[cfg(any(native, test))]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.piece(0)
    }

    /// The piece of that number; nothing for numbers that were not asked room for.
    pub(crate) fn piece(&self, number: usize) -> &[u8] {
        match self.pieces.get(number) {
            // SAFETY: bytes of the pages, to which nobody writes as long as `self` lives.
            Some(piece) => unsafe { std::slice::from_raw_parts(piece.base, piece.len) },
            None => &[],
        }
    }
}

/// From now on the address of code that was freed is not used again, so that whoever noted what was there
/// stays right. Costs address space, and some time for each piece of code.
// Only the native backend tells `perf` of its code.
#[cfg(native)]
pub(crate) fn keep_addresses() {
    memory::keep_addresses();
}

/// Makes freshly written code visible to instruction fetches, where that does not happen by itself: the data
/// caches are written back, then the instruction caches forget the lines, as *Arm Architecture Reference
/// Manual* B2.4.4 prescribes. Other processors may have executed other code at the same address: before they
/// execute anything more, they drop what they have fetched.
#[cfg(target_arch = "aarch64")]
fn publish(code: &[u8]) {
    use std::arch::asm;
    let range = code.as_ptr_range();
    let (start, end) = (range.start as usize, range.end as usize);
    let cache_type: usize;
    // SAFETY: reads a register that Linux lets every program read.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) cache_type, options(nomem, nostack, preserves_flags)) };
    let line = |log2_words: usize| 4usize << (log2_words & 15);
    for address in (start & !(line(cache_type >> 16) - 1)..end).step_by(line(cache_type >> 16)) {
        // SAFETY: cache maintenance of a line with readable memory changes no value.
        unsafe { asm!("dc cvau, {}", in(reg) address, options(nostack, preserves_flags)) };
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    for address in (start & !(line(cache_type) - 1)..end).step_by(line(cache_type)) {
        // SAFETY: as above.
        unsafe { asm!("ic ivau, {}", in(reg) address, options(nostack, preserves_flags)) };
    }
    // SAFETY: barriers.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
    #[cfg(target_os = "linux")]
    {
        // `linux/membarrier.h`: register for it, and do it: an `isb` on every core that runs this process.
        const SYNC_CORE: libc::c_int = 1 << 5;
        for command in [SYNC_CORE << 1, SYNC_CORE] {
            // SAFETY: touches no memory; a kernel that does not know it refuses.
            unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
        }
    }
}

/// This processor's instruction fetches see what was written.
#[cfg(not(target_arch = "aarch64"))]
fn publish(_code: &[u8]) {}

#[cfg(test)]
mod tests {
    use super::CodeMemory;

    #[test]
    fn holds_what_it_was_given() {
        let code = CodeMemory::new(&[0xc3, 0x90]).unwrap();
        assert_eq!(code.bytes(), [0xc3, 0x90]);
        assert_eq!(code.address(1) as usize - code.address(0) as usize, 1);
    }

    #[test]
    fn pages_are_not_writable() {
        let code = CodeMemory::new(&[0xc3]).unwrap();
        let address = code.address(0) as usize;
        let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
        let line = maps.lines().find(|line| {
            let (from, rest) = line.split_once('-').unwrap();
            let to = rest.split(' ').next().unwrap();
            (usize::from_str_radix(from, 16).unwrap()..usize::from_str_radix(to, 16).unwrap())
                .contains(&address)
        });
        let rights = line.unwrap().split(' ').nth(1).unwrap();
        assert_eq!(&rights[..3], "r-x");
    }
}
