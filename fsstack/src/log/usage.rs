//! Where the space of a log is.

use super::commit;
use super::error::LogError;
use super::generation::{self, Generation};
use super::segment::{JOURNAL, Segment, SegmentKind};
use super::superblock::{FIRST_SEGMENT, Place, Superblock};
use crate::fs::OpenOptions;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Where the space of a log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Files of the tree, whatever names they have.
    pub files: u64,
    /// Bytes of the files of the tree.
    pub content_bytes: u64,
    /// Segments that the log consists of.
    pub segments: u64,
    /// Bytes of those segments.
    pub segment_bytes: u64,
    /// Bytes of contents in them that no file has any more: what `compact` would give back at least.
    pub dead_bytes: u64,
    /// Bytes between and behind the segments, holes included.
    pub free_bytes: u64,
    /// Length of the file.
    pub file_bytes: u64,
}

impl Usage {
    /// Where the space of the log at `path` is, whoever writes it. A plain image is a log of one segment.
    ///
    /// # Errors
    /// If it cannot be read or is not sound.
    pub fn of(path: &Path, options: &OpenOptions) -> Result<Usage, LogError> {
        let file = Arc::new(File::open(path)?);
        let file_bytes = generation::len_of(&file)?;
        if generation::is_log_file(&file)? {
            let (superblock, generation) = Generation::of_log(&file, options)?;
            return Ok(usage(&generation, &superblock, file_bytes));
        }
        let generation = Generation::open(path, options)?;
        let place = Place { number: 0, offset: 0, len: file_bytes, kind: SegmentKind::Packed, crc: 0 };
        Ok(usage(
            &generation,
            &Superblock { generation: 0, next_segment: 1, segments: vec![place] },
            file_bytes,
        ))
    }
}

pub(super) fn usage(generation: &Generation, superblock: &Superblock, file_bytes: u64) -> Usage {
    let live = commit::live_bytes(&generation.tree);
    let (mut files, mut content_bytes) = (0, 0);
    for (_, node) in generation.tree.each_once().filter(|(_, node)| !node.is_directory()) {
        files += 1;
        content_bytes += node.size();
    }
    let stored = |segment: &Arc<Segment>| {
        let all = segment.image.superblock().content_bytes;
        let journal = segment.image.lookup(JOURNAL).map_or(0, |inode| inode.size());
        let is_packed = superblock
            .segments
            .iter()
            .any(|place| place.number == segment.number && place.kind == SegmentKind::Packed);
        all - if is_packed { 0 } else { journal }
    };
    let dead = |segment: &Arc<Segment>| {
        stored(segment).saturating_sub(live.get(&segment.number).copied().unwrap_or(0))
    };
    let segment_bytes = superblock.total_bytes();
    Usage {
        files,
        content_bytes,
        segments: generation.segments.len() as u64,
        segment_bytes,
        dead_bytes: generation.segments.iter().map(dead).sum(),
        free_bytes: file_bytes.saturating_sub(segment_bytes).saturating_sub(FIRST_SEGMENT),
        file_bytes,
    }
}
