//! A segment: an image in a window of the log, and one file in it.

use super::superblock::Place;
use crate::device::{FileDevice, RangeLock};
use crate::format::BadImage;
use crate::format::layout::BLOCK_BYTES;
use crate::format::sums::crc32c;
use crate::fs::{Image, Inode, InodeId, OpenError, OpenOptions};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// What a segment says of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// It is the tree.
    Packed,
    /// Its journal says what changed.
    Changes,
    /// It has contents that journals refer to.
    Contents,
}

impl SegmentKind {
    pub(super) const fn code(self) -> u32 {
        match self {
            SegmentKind::Packed => 1,
            SegmentKind::Changes => 2,
            SegmentKind::Contents => 3,
        }
    }

    pub(super) const fn of(code: u32) -> Option<SegmentKind> {
        match code {
            1 => Some(SegmentKind::Packed),
            2 => Some(SegmentKind::Changes),
            3 => Some(SegmentKind::Contents),
            _ => None,
        }
    }
}

/// Name of the journal in a segment of changes. Contents have digits, which sort before it.
pub(super) const JOURNAL: &[u8] = b"journal";

/// A segment that is open.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Its lock on the log's file goes with it.
    pub(super) image: Arc<Image>,
}

impl Segment {
    /// Opens the segment at `place` of a log, and keeps its bytes from being used again.
    pub(super) fn open(
        file: &Arc<File>,
        place: &Place,
        pin: Option<RangeLock>,
        options: &OpenOptions,
    ) -> Result<Arc<Segment>, OpenError> {
        let name = |mut bad: BadImage| {
            bad.what = format!("segment {} at {}, {}", place.number, place.offset, bad.what);
            bad
        };
        let mut first = [0; BLOCK_BYTES as usize];
        if place.len >= BLOCK_BYTES {
            file.read_exact_at(&mut first, place.offset)?;
        }
        let found = crc32c(0, &first);
        if found != place.crc {
            let expected = format!("CRC32C {:#010x}", place.crc);
            let bad = BadImage::new(0, "first block", expected, format!("{found:#010x}"));
            return Err(name(bad).into());
        }
        let device = FileDevice::window(Arc::clone(file), place.offset, place.len, pin);
        match Image::from_device(device, options) {
            Ok(image) => Ok(Arc::new(Segment { number: place.number, image: Arc::new(image) })),
            Err(OpenError::Bad(bad)) => Err(name(bad).into()),
            Err(error) => Err(error),
        }
    }

    /// A plain image as the only segment of a log.
    pub(super) fn whole(image: Image) -> Arc<Segment> {
        Arc::new(Segment { number: 0, image: Arc::new(image) })
    }
}

/// The contents of one file of a segment.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub(super) segment: Arc<Segment>,
    pub(super) id: InodeId,
}

impl Blob {
    pub(super) fn inode(&self) -> Inode<'_> {
        self.segment.image.inode(self.id)
    }
}
