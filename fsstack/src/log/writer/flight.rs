//! Commits: what is written, and how it counts. One may be on its way to the disk while changes go on, on top
//! of it.
//!
//! ```text
//!   prepare ── segment written ──▶ Flight: flush, superblock, flush ──▶ end ── the tree lies in the segment
//!     changes of now ──────────────────────────────────────────────────────▶ those of the next commit
//! ```

use super::super::commit::{self, Changes, SegmentBuilder};
use super::super::error::LogError;
use super::super::generation::Generation;
use super::super::moved::Moved;
use super::super::node::Node;
use super::super::segment::{Segment, SegmentKind};
use super::super::superblock::{MAX_SEGMENTS, Place, Superblock};
use super::super::tree::Tree;
use super::Log;
use super::segments::sealing;
use crate::device::{Sealed, Sealer, SealingBlock};
use crate::image::build::BuildError;
use std::collections::HashSet;
use std::sync::{Arc, Weak};

/// A commit whose segment is written, and that no superblock names yet.
pub(super) struct Flight {
    superblock: Superblock,
    /// What it makes durable; contents are in memory as they were.
    tree: Tree,
    /// The same; they are in the segment.
    lies: Tree,
    /// What stands where once the segment counts.
    replaced: Vec<(Arc<[u8]>, Node)>,
    /// The segment, and those that were staged before.
    place: Place,
    segment: Arc<Segment>,
    staged: Vec<(Place, Arc<Segment>)>,
    /// The last change of it.
    change: u64,
    memory_bytes: u64,
}

impl Flight {
    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The last change of it.
    pub(super) fn change(&self) -> u64 {
        self.change
    }

    /// Of the segments that are not named yet.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.staged.iter().map(|(place, _)| place).chain(std::iter::once(&self.place))
    }
}

impl Log {
    /// Writes what changed, or with `going` all that is not as it was packed, and without those segments.
    pub(super) fn commit(&mut self, going: Option<HashSet<u64>>) -> Result<u64, LogError> {
        let flight = self.prepare(going)?;
        let sealed = sealing(&flight.superblock).write(&mut *self.device);
        self.end(flight, sealed)?;
        Ok(self.superblock.generation)
    }

    /// The same, and waits for nothing, unless the system has no descriptor for who rings when it is done.
    pub(super) fn begin_commit(&mut self, going: Option<HashSet<u64>>) -> Result<(), LogError> {
        if self.sealer.is_none() {
            self.sealer = Sealer::new().ok();
        }
        let flight = self.prepare(going)?;
        let block = SealingBlock { _lock: self.writer.clone(), ..sealing(&flight.superblock) };
        match &mut self.sealer {
            Some(sealer) => {
                let going = sealer.begin(&mut *self.device, block);
                self.flight = Some((going, flight));
                Ok(())
            }
            None => {
                let sealed = block.write(&mut *self.device);
                self.end(flight, sealed)
            }
        }
    }

    /// Ends the commit that is on its way, if one is and it is over.
    pub(super) fn look_at_flight(&mut self) -> Result<(), LogError> {
        let (Some((going, flight)), Some(sealer)) = (self.flight.take(), &mut self.sealer) else {
            return Ok(());
        };
        match sealer.look(going) {
            Ok(sealed) => self.end(flight, sealed),
            Err(going) => {
                self.flight = Some((going, flight));
                Ok(())
            }
        }
    }

    /// Ends the commit that is on its way, if one is, for which it waits.
    pub(super) fn wait_for_flight(&mut self) -> Result<(), LogError> {
        let (Some((going, flight)), Some(sealer)) = (self.flight.take(), &mut self.sealer) else {
            return Ok(());
        };
        let sealed = sealer.wait(going);
        self.end(flight, sealed)
    }

    /// Writes the segment. Changes are counted anew from here on.
    fn prepare(&mut self, going: Option<HashSet<u64>>) -> Result<Flight, LogError> {
        let going = going.or_else(|| self.tells_all.then(HashSet::new));
        let packed_place =
            self.superblock.segments.first().filter(|place| place.kind == SegmentKind::Packed).copied();
        let live = going.as_ref().map(|_| commit::live_bytes(&self.tree));
        if let (true, Some(live)) = (cfg!(debug_assertions), &live) {
            let there = self.segment_numbers();
            assert!(live.keys().all(|number| there.contains(number)), "a file lies in a segment that went");
        }
        let whole_again = going.is_some();
        let going = going.unwrap_or_default();
        let stays = |number: u64| {
            live.as_ref().is_none_or(|live| live.contains_key(&number)) && !going.contains(&number)
        };
        let packed_place = packed_place.filter(|place| stays(place.number));
        let everything = whole_again.then(|| {
            let packed = packed_place.and_then(|_| self.committed.segments.first());
            Changes::between(packed.map(|segment| &**segment), &self.tree)
        });
        let changes = everything.as_ref().unwrap_or(&self.changes);
        let old: HashSet<u64> = self.superblock.segments.iter().map(|place| place.number).collect();

        let mut segments = Vec::new();
        for place in self.superblock.segments.iter().filter(|place| stays(place.number)) {
            let is_packed = packed_place.is_some_and(|packed| packed.number == place.number);
            let kind = if everything.is_some() && !is_packed { SegmentKind::Contents } else { place.kind };
            segments.push(Place { kind, ..*place });
        }
        segments.extend(self.staged.iter().map(|(place, _)| *place));
        if segments.len() + 1 > MAX_SEGMENTS {
            return Err(BuildError::Limit("2046 segments a log: compact it").into());
        }
        // Nothing is told to lie in a segment that goes, or that went without it.
        let kept = segments.iter().map(|place| place.number).collect();
        let mut builder = SegmentBuilder::new(self.next_segment, self.superblock.generation + 1)?;
        let journal = commit::tell((&self.tree, changes), &mut builder, &kept, &old)?;
        let (bytes, replacements) = builder.finish(Some(journal))?;
        let (place, segment) = self.write_segment(&bytes, SegmentKind::Changes)?;
        segments.push(place);
        // Here, as nothing may fail once it is on the disk.
        let (replaced, mut lies) = (replacements.nodes(&segment), self.tree.clone());
        for (path, now) in &replaced {
            lies.update(Arc::clone(path), now.clone())?;
        }
        self.changes = Changes::default();
        self.tells_all = false;
        Ok(Flight {
            superblock: self.superblock_of(segments),
            tree: self.tree.clone(),
            lies,
            replaced,
            place,
            segment,
            staged: std::mem::take(&mut self.staged),
            change: self.change,
            memory_bytes: std::mem::take(&mut self.memory_bytes),
        })
    }

    /// The superblock is there, or it is not.
    fn end(&mut self, flight: Flight, sealed: Sealed) -> Result<(), LogError> {
        let Flight { superblock, tree, lies, replaced, place, segment, mut staged, change, memory_bytes } =
            flight;
        if let Err(error) = self.take_sealed(&superblock, sealed, !staged.is_empty()) {
            // What was changed since is not told apart from what was to be told here.
            self.tells_all = true;
            self.memory_bytes += memory_bytes;
            staged.append(&mut self.staged);
            self.staged = staged;
            self.retired.push((place, Weak::new()));
            return Err(error);
        }
        let mut moved = Moved::default();
        for (path, now) in &replaced {
            if let Some(before) = tree.node(path) {
                moved.note(before, now);
            }
        }
        if self.changes.is_empty() {
            self.tree = lies.clone();
            self.memory_bytes = 0;
        } else {
            // By one name is told what the others may have outlived.
            let told = replaced.iter().flat_map(|(path, _)| tree.all_paths(path));
            let paths = told.chain(self.changes.changed.keys());
            moved.apply(paths, &mut self.tree);
            self.memory_bytes = self.changes.memory_bytes(&self.tree);
        }
        // The addresses that these had are in `moved`.
        drop((moved, replaced, tree));
        let places = std::mem::replace(&mut self.superblock, superblock).segments;
        let mut segments: Vec<Arc<Segment>> = (places.iter().zip(&self.committed.segments))
            .filter(|(place, _)| self.superblock.names(place))
            .map(|(_, segment)| Arc::clone(segment))
            .collect();
        segments.extend(staged.into_iter().map(|(_, segment)| segment));
        segments.push(segment);
        self.next_generation(places, |superblock| {
            let (number, is_packed) = (superblock.generation, superblock.begins_packed());
            Ok(Generation { number, tree: lies, segments, is_packed })
        })?;
        self.durable = change;
        // What is not given back now is later: the commit is done.
        let _ = self.reclaim();
        Ok(())
    }
}
