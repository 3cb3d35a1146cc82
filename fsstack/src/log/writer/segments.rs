//! The writer's segments on the device: where they go, how they get there, and the superblock that names
//! them.

use super::super::error::LogError;
use super::super::generation::{self, Generation};
use super::super::pack::Window;
use super::super::segment::{Segment, SegmentKind};
use super::super::space;
use super::super::superblock::{Place, Superblock};
use super::Log;
use crate::format::layout::BLOCK_BYTES;
use crate::format::sums::crc32c;
use crate::fs::OpenError;
use crate::image::build::{BuildOptions, Builder, Summary};
use std::sync::Arc;

impl Log {
    /// The superblock is there: from now on this is the last generation, and segments that were at `places`
    /// and that it does not name are for whoever still reads them.
    pub(super) fn next_generation(
        &mut self,
        places: Vec<Place>,
        make: impl FnOnce(&Superblock) -> Result<Generation, OpenError>,
    ) -> Result<(), LogError> {
        let before = std::mem::replace(&mut self.committed, make(&self.superblock)?);
        for (place, segment) in places.into_iter().zip(before.segments) {
            if !self.superblock.names(&place) {
                self.retired.push((place, Arc::downgrade(&segment.image)));
                self.dropped_segments += 1;
            }
        }
        Ok(())
    }

    /// Waits until all segments are there, and names them.
    pub(super) fn flip(&mut self, segments: Vec<Place>) -> Result<(), LogError> {
        let superblock = Superblock {
            generation: self.superblock.generation + 1,
            next_segment: self.next_segment,
            segments,
        };
        self.device.sync()?;
        let block = superblock.encode();
        let written = self.device.write_at(superblock.offset(), &block).and_then(|()| self.device.sync());
        self.written_bytes += block.len() as u64;
        if written.is_err() {
            self.is_lost = true;
            return Err(LogError::Lost);
        }
        self.superblock = superblock;
        Ok(())
    }

    /// What the next segment may not touch.
    pub(super) fn taken(&self) -> Vec<(u64, u64)> {
        let named = self.superblock.segments.iter().chain(self.staged.iter().map(|(place, _)| place));
        // Those that nobody reads any more are given back first.
        let read = self.retired.iter().map(|(place, _)| place);
        named.chain(read).map(|place| (place.offset, place.end())).collect()
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
        self.open_segment(Place { number: self.next_segment, offset, len, kind, crc })
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
        let staged: u64 = self.staged.iter().map(|(place, _)| place.len).sum();
        let options = generation::settle(&self.options, self.superblock.total_bytes() + staged + place.len);
        let segment = Segment::open(&self.file, &place, pin, &options)?;
        self.next_segment += 1;
        self.written_bytes += place.len;
        self.unchecked_bytes += place.len;
        Ok((place, segment))
    }
}
