//! Where the next segment goes: a gap between those that anybody needs, chosen by the log's owner.

use super::policy::{Allocation, Gap};
use super::superblock::FIRST_SEGMENT;
use crate::device::RangeLock;
use crate::format::layout::{BLOCK_BYTES, align_up};
use std::fs::File;
use std::io;

/// A place of `len` bytes that none of `taken` (offset and end of each, in any order) touches, and no other
/// opening of the file has a lock on: the one that `allocation` chooses.
pub(super) fn find(
    file: &File,
    taken: &mut [(u64, u64)],
    len: u64,
    allocation: &dyn Allocation,
) -> io::Result<u64> {
    let mut gaps = gaps(taken);
    loop {
        gaps.retain(|gap| gap.len >= len);
        let last = gaps.len().checked_sub(1).ok_or(io::ErrorKind::FileTooLarge)?;
        let chosen = allocation.choose(&gaps, len).min(last);
        let Gap { offset, len: room } = gaps[chosen];
        match RangeLock::held_by_others(file, offset, len) {
            Ok(None) => return Ok(offset),
            Ok(Some(end)) => {
                // What is read there ends within, or beyond; without locks that end it goes on for ever.
                let skip = aligned(end)?.saturating_sub(offset).max(BLOCK_BYTES);
                gaps[chosen] = Gap { offset: offset.saturating_add(skip), len: room.saturating_sub(skip) };
            }
            // Without locks nobody is asked.
            Err(error) if error.raw_os_error() == Some(libc::ENOLCK) => return Ok(offset),
            Err(error) => return Err(error),
        }
    }
}

/// What is free, in the order of the offsets.
fn gaps(taken: &mut [(u64, u64)]) -> Vec<Gap> {
    taken.sort_unstable();
    let mut gaps = Vec::new();
    let mut at = FIRST_SEGMENT;
    for &(start, end) in taken.iter() {
        if start > at {
            gaps.push(Gap { offset: at, len: start - at });
        }
        // Behind a segment that ends with the numbers there is nothing.
        at = at.max(align_up(end, BLOCK_BYTES).unwrap_or(u64::MAX));
    }
    gaps.push(Gap { offset: at, len: u64::MAX - at });
    gaps
}

fn aligned(end: u64) -> io::Result<u64> {
    align_up(end, BLOCK_BYTES).ok_or(io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests {
    use super::super::policy::AsItComes;
    use super::*;
    use std::sync::Arc;

    const BASE: u64 = FIRST_SEGMENT;

    /// Beside two segments of a block, with seven blocks between.
    fn place(file: &File, len: u64, allocation: &dyn Allocation) -> u64 {
        find(file, &mut [(BASE + 32768, BASE + 36864), (BASE, BASE + 4096)], len, allocation).unwrap()
    }

    #[test]
    fn the_owner_chooses_among_what_is_long_enough() {
        /// Never where anything was.
        #[derive(Debug)]
        struct AtTheEnd;
        impl Allocation for AtTheEnd {
            fn choose(&self, gaps: &[Gap], _len: u64) -> usize {
                assert!(gaps.is_sorted_by_key(|gap| gap.offset));
                usize::MAX
            }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(file.path()).unwrap();
        let (writer, reader) = (open(), Arc::new(open()));
        assert_eq!(place(&writer, 4096, &AtTheEnd), BASE + 36864);
        let lock = RangeLock::shared(&reader, BASE + 36864, 4097).unwrap();
        assert!(lock.is_some());
        assert_eq!(place(&writer, 4096, &AtTheEnd), BASE + 36864 + 8192);
    }

    #[test]
    fn the_first_gap_that_nobody_holds_is_taken() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || Arc::new(File::options().read(true).write(true).open(file.path()).unwrap());
        let (writer, reader) = (open(), open());
        let find = |len| place(&writer, len, &AsItComes);
        assert_eq!((find(4096), find(28672), find(28673)), (BASE + 4096, BASE + 4096, BASE + 36864));
        let lock = RangeLock::shared(&reader, BASE + 8192, 4096).unwrap();
        assert!(lock.is_some());
        assert_eq!((find(4096), find(8192)), (BASE + 4096, BASE + 12288));
        drop(lock);
        assert_eq!(find(8192), BASE + 4096);
    }
}
