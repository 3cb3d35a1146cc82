//! A mapping for each piece of code: for systems that [`super::arena`] does not know.

use memmap2::{Mmap, MmapMut};
use std::io;

/// No system has smaller pages; the mapping's length is a multiple of it.
const PAGE_BYTES: usize = 4096;

/// Executable pages that hold somebody's code; unmapped on drop.
pub(super) type Sealed = Vec<Mmap>;

/// Mappings that are written, piece by piece, and cannot be executed yet; unmapped on drop.
#[derive(Debug)]
pub(super) struct CodeDraft {
    maps: Vec<MmapMut>,
    /// Bytes of the last one that are taken.
    used: usize,
}

impl CodeDraft {
    /// Without memory yet.
    pub(super) fn new() -> CodeDraft {
        CodeDraft { maps: Vec::new(), used: 0 }
    }

    /// Room for `size` bytes at a multiple of `align`, writable until the draft is sealed or dropped.
    ///
    /// # Errors
    /// What the operating system answers when it has no memory.
    pub(super) fn room(&mut self, size: usize, align: usize) -> io::Result<*mut u8> {
        if !align.is_power_of_two() || align > PAGE_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let start = self.used.next_multiple_of(align);
        let end = start.checked_add(size).ok_or(io::ErrorKind::OutOfMemory)?;
        if let Some(map) = self.maps.last_mut().filter(|map| end <= map.len()) {
            self.used = end;
            return Ok(map.as_mut_ptr().wrapping_add(start));
        }
        let mut map = MmapMut::map_anon(size.max(1).next_multiple_of(PAGE_BYTES))?;
        let base = map.as_mut_ptr();
        self.maps.push(map);
        self.used = size;
        Ok(base)
    }

    /// From here on the memory is executable and not writable; `publish` is shown what it holds before.
    ///
    /// # Errors
    /// What the operating system answers when it forbids executable pages.
    pub(super) fn seal(self, publish: fn(&[u8])) -> io::Result<Sealed> {
        let seal = |map: MmapMut| {
            publish(&map);
            map.make_exec()
        };
        self.maps.into_iter().map(seal).collect()
    }
}

/// What is unmapped may be mapped again: that is for the system to decide.
#[cfg_attr(test, expect(dead_code, reason = "the arena's is used where there is one"))]
// Only the native backend tells `perf` of its code.
#[cfg(native)]
pub(super) fn keep_addresses() {}

#[cfg(test)]
mod tests {
    use super::{CodeDraft, PAGE_BYTES};

    #[test]
    fn holds_what_it_was_given() {
        let mut draft = CodeDraft::new();
        let pieces = [(2, 1), (3, 16), (2 * PAGE_BYTES, 64), (5, 1)];
        let rooms = pieces.map(|(size, align)| (draft.room(size, align).unwrap(), size, align));
        for (byte, (base, size, align)) in (1..).zip(rooms) {
            assert_eq!(base.addr() % align, 0);
            // SAFETY: room for that, and nobody else's.
            unsafe { base.write_bytes(byte, size) };
        }
        let sealed = draft.seal(|_| {}).unwrap();
        assert_eq!(sealed.len(), 3, "the first two share a mapping");
        for (byte, (base, size, _)) in (1..).zip(rooms) {
            // SAFETY: the same bytes, which live as long as `sealed`.
            assert_eq!(unsafe { std::slice::from_raw_parts(base, size) }, vec![byte; size]);
        }
    }
}
