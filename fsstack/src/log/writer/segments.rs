//! The writer's segments on the device: where they go, how they get there, and the superblock that names
//! them.

use super::super::error::LogError;
use super::super::generation::{self, Generation};
use super::super::pack::Window;
use super::super::segment::{JOURNAL, Segment, SegmentKind};
use super::super::space;
use super::super::superblock::{Place, Superblock};
use super::Log;
use crate::device::{Sealed, SealingBlock};
use crate::format::layout::BLOCK_BYTES;
use crate::format::sums::crc32c;
use crate::fs::OpenError;
use crate::image::build::{BuildOptions, Builder, Summary};
use std::collections::HashSet;
use std::sync::Arc;

impl Log {
    /// The superblock is there: from now on this is the last generation, and segments that were at `places`
    /// and that it does not name are for whoever still reads them.
    pub(super) fn next_generation(
        &mut self,
        places: Vec<Place>,
        make: impl FnOnce(&Superblock) -> Result<Generation, OpenError>,
    ) -> Result<(), LogError> {
        let made = make(&self.superblock).inspect_err(|_| {
            // What is on the disk is not what is here.
            self.is_lost = true;
        })?;
        let before = std::mem::replace(&mut self.committed, made);
        for (place, segment) in places.into_iter().zip(before.segments) {
            if !self.superblock.names(&place) {
                self.retired.push((place, Arc::downgrade(&segment.image)));
                self.dropped_segments += 1;
            }
        }
        Ok(())
    }

    /// What names these segments.
    pub(super) fn superblock_of(&self, segments: Vec<Place>) -> Superblock {
        let (generation, next_segment) = (self.superblock.generation + 1, self.next_segment);
        Superblock { generation, next_segment, segments }
    }

    /// Waits until all segments are there, and names them.
    pub(super) fn flip(&mut self, segments: Vec<Place>) -> Result<(), LogError> {
        let superblock = self.superblock_of(segments);
        let sealed = sealing(&superblock).write(&mut *self.device);
        self.take_sealed(&superblock, sealed, !self.staged.is_empty())?;
        self.superblock = superblock;
        Ok(())
    }

    /// What a superblock's way to the device came to. `has_staged` says that contents are nowhere but in
    /// segments that were written before.
    pub(super) fn take_sealed(
        &mut self,
        superblock: &Superblock,
        sealed: Sealed,
        has_staged: bool,
    ) -> Result<(), LogError> {
        match sealed {
            Sealed::Done => {
                self.written_bytes += superblock.encoded_bytes();
                Ok(())
            }
            Sealed::NotFlushed(error) if !has_staged && self.staged.is_empty() => Err(error.into()),
            // Nothing is known of what was written since the last flush, and what the next one says of it is
            // not to be believed.
            Sealed::NotFlushed(_) | Sealed::Unknown => {
                self.is_lost = true;
                Err(LogError::Lost)
            }
        }
    }

    /// Numbers of all segments that there are: named, on their way, or staged.
    pub(super) fn segment_numbers(&self) -> HashSet<u64> {
        let begun = self.flight.iter().flat_map(|(_, flight)| flight.places());
        let staged = self.staged.iter().map(|(place, _)| place);
        self.superblock.segments.iter().chain(begun).chain(staged).map(|place| place.number).collect()
    }

    /// What the next segment may not touch.
    pub(super) fn taken(&self) -> Vec<(u64, u64)> {
        let named = self.superblock.segments.iter().chain(self.staged.iter().map(|(place, _)| place));
        let begun = self.flight.iter().flat_map(|(_, flight)| flight.places());
        // Those that nobody reads any more are given back first.
        let read = self.retired.iter().map(|(place, _)| place);
        named.chain(begun).chain(read).map(|place| (place.offset, place.end())).collect()
    }

    pub(super) fn write_segment(
        &mut self,
        bytes: &[u8],
        kind: SegmentKind,
    ) -> Result<(Place, Arc<Segment>), LogError> {
        let len = bytes.len() as u64;
        self.reclaim()?;
        let offset = space::find(&self.file, &mut self.taken(), len, &*self.policies.allocation)?;
        let crc = crc32c(0, &bytes[..BLOCK_BYTES as usize]);
        self.device.write_at(offset, bytes)?;
        let (place, segment) =
            self.open_segment(Place { number: self.next_segment, offset, len, kind, crc })?;
        // What was just put is asked for soon; from the disk nobody has read it yet.
        segment.image.keep(bytes, |inode| inode.path() != JOURNAL);
        Ok((place, segment))
    }

    /// Builds a segment of at most `room` bytes while it is written.
    pub(super) fn stream(
        &mut self,
        kind: SegmentKind,
        room: u64,
        build: impl FnOnce(&mut Builder<Window<'_>>) -> Result<(), LogError>,
    ) -> Result<(Arc<Segment>, Summary), LogError> {
        self.reclaim()?;
        let offset = space::find(&self.file, &mut self.taken(), room, &*self.policies.allocation)?;
        let generation = self.superblock.generation + 1;
        let window = Window::new(&mut *self.device, offset);
        let mut builder = Builder::new(window, &BuildOptions { generation, ..BuildOptions::default() })?;
        build(&mut builder)?;
        let (window, summary) = builder.finish()?;
        let crc = crc32c(0, window.first_block());
        let place = Place { number: self.next_segment, offset, len: summary.image_bytes, kind, crc };
        let (place, segment) = self.open_segment(place)?;
        self.staged.push((place, Arc::clone(&segment)));
        Ok((segment, summary))
    }

    pub(super) fn open_segment(&mut self, place: Place) -> Result<(Place, Arc<Segment>), LogError> {
        let pin = generation::pin(&self.file, &place)?;
        let staged = self.staged.iter().map(|(place, _)| place);
        let staged: u64 = staged
            .chain(self.flight.iter().flat_map(|(_, flight)| flight.places()))
            .map(|place| place.len)
            .sum();
        let options = generation::settle(&self.options, self.superblock.total_bytes() + staged + place.len);
        let segment = Segment::open(&self.file, &place, pin, &options)?;
        self.next_segment += 1;
        self.written_bytes += place.len;
        self.unchecked_bytes += place.len;
        Ok((place, segment))
    }
}

/// A superblock on its way to where it stands.
pub(super) fn sealing(superblock: &Superblock) -> SealingBlock {
    SealingBlock { offset: superblock.offset(), bytes: superblock.encode(), _lock: None }
}
