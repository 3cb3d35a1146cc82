//! A mapping for each piece of code: for systems that [`super::arena`] does not know.

use memmap2::{Mmap, MmapMut};
use std::io;

/// Executable pages that hold somebody's code; unmapped on drop.
#[derive(Debug)]
pub(super) struct Slot(Mmap);

/// A copy of `bytes` in executable pages.
pub(super) fn store(bytes: &[u8], publish: fn(&[u8])) -> io::Result<Slot> {
    let mut map = MmapMut::map_anon(bytes.len().max(1))?;
    map[..bytes.len()].copy_from_slice(bytes);
    publish(&map[..bytes.len()]);
    Ok(Slot(map.make_exec()?))
}

/// What is unmapped may be mapped again: that is for the system to decide.
#[cfg_attr(test, expect(dead_code, reason = "the arena's is used where there is one"))]
// Only the native backend tells `perf` of its code.
#[cfg(target_arch = "x86_64")]
pub(super) fn keep_addresses() {}

impl Slot {
    /// The address of the first byte.
    pub(super) fn base(&self) -> *const u8 {
        self.0.as_ptr()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn holds_what_it_was_given() {
        let slot = super::store(&[0xc3, 0x90], |_| {}).unwrap();
        // SAFETY: two bytes that live as long as `slot`.
        assert_eq!(unsafe { std::slice::from_raw_parts(slot.base(), 2) }, [0xc3, 0x90]);
    }
}
