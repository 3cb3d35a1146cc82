//! What stands at a path: a directory, a file that lies whole in one segment, one in runs, or what is
//! neither.

use super::posix::Special;
use super::segment::Blob;
use crate::cache::{BlockPart, BlockReader};
use crate::format::sums::KnownSums;
use crate::fs::ReadError;
use crate::image::build::Mtime;
use rpds::RedBlackTreeMapSync;
use runtime::buffer::{Shared, Slice};
use std::ops::Bound;
use std::sync::Arc;

/// Longest file. Offsets stay far from the end of 63 bits, which is where those of the system end.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 62;

/// A file's new contents in memory.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    parts: Vec<Slice>,
    len: u64,
    sums: Option<Arc<KnownSums>>,
}

impl Contents {
    /// Nothing.
    pub fn new() -> Contents {
        Contents::default()
    }

    /// Appends bytes.
    pub fn push(&mut self, part: Slice) {
        if !part.is_empty() {
            self.len += part.len() as u64;
            self.parts.push(part);
            self.sums = None;
        }
    }

    /// Tells the sums of what is there, which were made on the way: they are taken as they are, and nobody
    /// makes them again.
    #[must_use]
    pub fn with_sums(mut self, sums: KnownSums) -> Contents {
        self.sums = (sums.len == self.len).then(|| Arc::new(sums));
        self
    }

    /// The bytes, piece by piece.
    pub fn parts(&self) -> &[Slice] {
        &self.parts
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl From<Vec<u8>> for Contents {
    fn from(bytes: Vec<u8>) -> Contents {
        let mut contents = Contents::new();
        contents.push(Slice::from(Shared::from(bytes)));
        contents
    }
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Directory(Mtime),
    /// Contents, time and application area are those of a file of a segment.
    Whole(Blob),
    Runs(Arc<Runs>),
    Special(Mtime, Special),
}

/// A file of pieces that lie in several places. What no run covers is zeros.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    pub(super) size: u64,
    pub(super) mtime: Mtime,
    pub(super) app: Arc<[u8]>,
    /// By where they begin in the file. They do not overlap, and end within it.
    pub(super) map: RedBlackTreeMapSync<u64, Run>,
    /// Of the contents, if they are known.
    pub(super) sums: Option<Arc<KnownSums>>,
}

#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) len: u64,
    pub(super) source: Source,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    /// From an offset in a file of a segment.
    Stored(Blob, u64),
    /// Not written yet.
    Memory(Slice),
}

impl Run {
    /// Without its first `skip` bytes and what is behind `len` bytes.
    fn part(&self, skip: u64, len: u64) -> Run {
        let source = match &self.source {
            Source::Stored(blob, at) => Source::Stored(blob.clone(), at + skip),
            Source::Memory(slice) => {
                // Of memory: fits `usize`.
                let part = slice.part(skip as usize..(skip + len) as usize);
                Source::Memory(part)
            }
        };
        Run { len, source }
    }
}

impl Node {
    pub(super) fn is_directory(&self) -> bool {
        matches!(self, Node::Directory(_))
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self, Node::Whole(_) | Node::Runs(_))
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            Node::Directory(_) => 0,
            Node::Special(_, special) => special.size(),
            Node::Whole(blob) => blob.inode().size(),
            Node::Runs(runs) => runs.size,
        }
    }

    pub(super) fn mtime(&self) -> Mtime {
        match self {
            Node::Directory(mtime) | Node::Special(mtime, _) => *mtime,
            Node::Whole(blob) => blob.inode().mtime(),
            Node::Runs(runs) => runs.mtime,
        }
    }

    pub(super) fn app(&self) -> Result<&[u8], ReadError> {
        match self {
            Node::Directory(_) | Node::Special(..) => Ok(&[]),
            Node::Whole(blob) => blob.inode().app(),
            Node::Runs(runs) => Ok(&runs.app),
        }
    }

    /// The same file in runs, to be changed; `None` for what is no file.
    pub(super) fn to_runs(&self) -> Option<Runs> {
        match self {
            Node::Directory(_) | Node::Special(..) => None,
            Node::Runs(runs) => Some((**runs).clone()),
            Node::Whole(blob) => {
                let (size, mtime) = (blob.inode().size(), blob.inode().mtime());
                let mut map = RedBlackTreeMapSync::new_sync();
                if size > 0 {
                    map.insert_mut(0, Run { len: size, source: Source::Stored(blob.clone(), 0) });
                }
                Some(Runs { size, mtime, app: Arc::new([]), map, sums: None })
            }
        }
    }

    /// Bytes from `offset` on, at most `len`, as many as lie together.
    pub(super) fn fetch_by(
        &self,
        offset: u64,
        len: usize,
        reader: &BlockReader,
    ) -> Result<BlockPart, ReadError> {
        match self {
            Node::Directory(_) => Err(ReadError::IsDirectory),
            Node::Special(..) => Err(ReadError::NoContents),
            Node::Whole(blob) => blob.inode().fetch_by(offset, len, reader),
            Node::Runs(runs) => runs.fetch_by(offset, len, reader),
        }
    }

    /// The same, and waits for the device.
    pub(super) fn fetch(&self, offset: u64, len: usize) -> Result<Slice, ReadError> {
        Ok(self.fetch_by(offset, len, &BlockReader::in_place())?.here()?)
    }
}

impl Runs {
    pub(super) fn of(contents: Contents, mtime: Mtime, app: Arc<[u8]>) -> Runs {
        let (size, sums) = (contents.len, contents.sums);
        let mut runs = Runs { size, mtime, app, map: RedBlackTreeMapSync::new_sync(), sums };
        let mut at = 0;
        for part in contents.parts {
            let len = part.len() as u64;
            runs.map.insert_mut(at, Run { len, source: Source::Memory(part) });
            at += len;
        }
        runs
    }

    /// Lays a run over what is there. Gives the bytes of memory that are needed no more.
    pub(super) fn lay(&mut self, at: u64, run: Run) -> u64 {
        let end = at + run.len;
        let freed = self.clear(at, end);
        self.size = self.size.max(end);
        if run.len > 0 {
            self.map.insert_mut(at, run);
        }
        freed
    }

    /// Makes it that long, by zeros if it was shorter. Gives the bytes of memory that are needed no more.
    pub(super) fn truncate(&mut self, size: u64) -> u64 {
        let freed = if size < self.size { self.clear(size, self.size) } else { 0 };
        self.size = size;
        freed
    }

    /// Takes away what lies from `at` to `end`.
    fn clear(&mut self, at: u64, end: u64) -> u64 {
        if at >= end {
            return 0;
        }
        let mut freed = 0;
        let before = self.before(at).map(|(start, run)| (start, run.clone()));
        if let Some((start, run)) = before
            && start + run.len > at
        {
            // It reaches into the place, and perhaps beyond.
            self.map.insert_mut(start, run.part(0, at - start));
            if start + run.len > end {
                let skip = end - start;
                self.map.insert_mut(end, run.part(skip, run.len - skip));
            }
            if matches!(run.source, Source::Memory(_)) {
                freed += (start + run.len).min(end) - at;
            }
        }
        let within: Vec<(u64, Run)> =
            self.map.range(at..end).map(|(start, run)| (*start, run.clone())).collect();
        for (start, run) in within {
            self.map.remove_mut(&start);
            if start + run.len > end {
                let skip = end - start;
                self.map.insert_mut(end, run.part(skip, run.len - skip));
            }
            if matches!(run.source, Source::Memory(_)) {
                freed += (start + run.len).min(end) - start;
            }
        }
        freed
    }

    /// The last run that begins before `at`.
    fn before(&self, at: u64) -> Option<(u64, &Run)> {
        self.map.range((Bound::Unbounded, Bound::Excluded(at))).next_back().map(|(start, run)| (*start, run))
    }

    fn fetch_by(&self, offset: u64, len: usize, reader: &BlockReader) -> Result<BlockPart, ReadError> {
        let left = self.size.saturating_sub(offset).min(len as u64);
        if left == 0 {
            return Ok(BlockPart::Here(Slice::from(Shared::from(Vec::new()))));
        }
        let here = self.map.range(..=offset).next_back().filter(|(start, run)| *start + run.len > offset);
        if let Some((start, run)) = here {
            let skip = offset - start;
            let len = left.min(run.len - skip);
            return match &run.source {
                Source::Stored(blob, at) => {
                    let len = usize::try_from(len).unwrap_or(usize::MAX);
                    blob.inode().fetch_by(at + skip, len, reader)
                }
                Source::Memory(slice) => {
                    Ok(BlockPart::Here(slice.part(skip as usize..(skip + len) as usize)))
                }
            };
        }
        /// Zeros are given so many at a time.
        const ZEROS: u64 = 64 << 10;
        let next = self.map.range((Bound::Excluded(offset), Bound::Unbounded)).next();
        let gap = next.map_or(left, |(start, _)| left.min(start - offset));
        Ok(BlockPart::Here(Slice::from(Shared::from(vec![0; gap.min(ZEROS) as usize]))))
    }

    /// Bytes of it that are in memory only.
    pub(super) fn memory_bytes(&self) -> u64 {
        let in_memory = self.map.values().filter(|run| matches!(run.source, Source::Memory(_)));
        in_memory.map(|run| run.len).sum()
    }
}
