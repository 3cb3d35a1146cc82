//! Where the next segment goes: the first gap between those that anybody needs.

use super::superblock::FIRST_SEGMENT;
use crate::device::RangeLock;
use crate::format::layout::{BLOCK_BYTES, align_up};
use std::fs::File;
use std::io;

/// The first place of `len` bytes that none of `taken` (offset and end of each, in any order) touches, and no other opening of
/// the file has a lock on.
pub(super) fn find(file: &File, taken: &mut [(u64, u64)], len: u64) -> io::Result<u64> {
    taken.sort_unstable();
    let mut at = FIRST_SEGMENT;
    let mut rest = taken.iter().copied();
    let mut next = rest.next();
    loop {
        let end = at.checked_add(len).ok_or(io::ErrorKind::FileTooLarge)?;
        if let Some((start, taken_end)) = next
            && start < end
        {
            at = at.max(align_up(taken_end, BLOCK_BYTES).ok_or(io::ErrorKind::FileTooLarge)?);
            next = rest.next();
            continue;
        }
        match RangeLock::held_by_others(file, at, len) {
            Ok(None) => return Ok(at),
            Ok(Some(end)) => at = align_up(end, BLOCK_BYTES).ok_or(io::ErrorKind::FileTooLarge)?,
            // Without locks nobody is asked.
            Err(error) if error.raw_os_error() == Some(libc::ENOLCK) => return Ok(at),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const BASE: u64 = FIRST_SEGMENT;

    #[test]
    fn the_first_gap_that_nobody_holds_is_taken() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || Arc::new(File::options().read(true).write(true).open(file.path()).unwrap());
        let (writer, reader) = (open(), open());
        let find =
            |len| find(&writer, &mut [(BASE + 32768, BASE + 36864), (BASE, BASE + 4096)], len).unwrap();
        assert_eq!((find(4096), find(28672), find(28673)), (BASE + 4096, BASE + 4096, BASE + 36864));
        let lock = RangeLock::shared(&reader, BASE + 8192, 4096).unwrap();
        assert!(lock.is_some());
        assert_eq!((find(4096), find(8192)), (BASE + 4096, BASE + 12288));
        drop(lock);
        assert_eq!(find(8192), BASE + 4096);
    }
}
