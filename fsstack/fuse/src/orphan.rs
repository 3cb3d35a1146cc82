//! Files that have no path any more, and are open still: as the system has them, they live until they are
//! closed.

use fsstack::ReadError;
use fsstack::format::mtime::Mtime;
use fsstack::log::{OpenFile, Posix};

/// Longest that such a file can become: it is in memory once it is written to.
const MAX_BYTES: u64 = 1 << 30;

/// A file without a path.
#[derive(Debug)]
pub(crate) struct Orphan {
    contents: OrphanContents,
    pub(crate) mtime: Mtime,
    pub(crate) posix: Posix,
}

#[derive(Debug)]
enum OrphanContents {
    /// As the image had it.
    Image(OpenFile),
    /// Its own, since it was written to.
    Memory(Vec<u8>),
}

impl Orphan {
    pub(crate) fn new(file: OpenFile, mtime: Mtime, posix: Posix) -> Orphan {
        Orphan { contents: OrphanContents::Image(file), mtime, posix }
    }

    pub(crate) fn size(&self) -> u64 {
        match &self.contents {
            OrphanContents::Image(file) => file.size(),
            OrphanContents::Memory(bytes) => bytes.len() as u64,
        }
    }

    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, ReadError> {
        match &self.contents {
            OrphanContents::Image(file) => gather(offset, len, |offset, len| file.fetch(offset, len)),
            OrphanContents::Memory(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes[from..from.saturating_add(len).min(bytes.len())].to_vec())
            }
        }
    }

    /// Makes it that long, and gives what is to be changed; `None` if it would be too long to hold.
    fn own(&mut self, size: u64) -> Result<Option<&mut Vec<u8>>, ReadError> {
        if size.max(self.size()) > MAX_BYTES {
            return Ok(None);
        }
        if let OrphanContents::Image(_) = self.contents {
            let bytes = self.read(0, self.size() as usize)?;
            self.contents = OrphanContents::Memory(bytes);
        }
        match &mut self.contents {
            OrphanContents::Memory(bytes) => Ok(Some(bytes)),
            OrphanContents::Image(_) => Ok(None),
        }
    }

    /// Whether it could be done.
    pub(crate) fn write(&mut self, offset: u64, new: &[u8]) -> Result<bool, ReadError> {
        let Some(end) = offset.checked_add(new.len() as u64) else { return Ok(false) };
        let Some(bytes) = self.own(end)? else { return Ok(false) };
        if bytes.len() < end as usize {
            bytes.resize(end as usize, 0);
        }
        bytes[offset as usize..end as usize].copy_from_slice(new);
        Ok(true)
    }

    /// Whether it could be done.
    pub(crate) fn truncate(&mut self, size: u64) -> Result<bool, ReadError> {
        let Some(bytes) = self.own(size)? else { return Ok(false) };
        bytes.resize(size as usize, 0);
        Ok(true)
    }
}

/// Up to `len` bytes from `offset` on, out of as many pieces as it takes; fewer only at the end.
pub(crate) fn gather(
    offset: u64,
    len: usize,
    fetch: impl Fn(u64, usize) -> Result<runtime::buffer::Slice, ReadError>,
) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let piece = fetch(offset + bytes.len() as u64, len - bytes.len())?;
        if piece.is_empty() {
            break;
        }
        bytes.extend_from_slice(piece.bytes());
    }
    Ok(bytes)
}
