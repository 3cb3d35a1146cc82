//! Commits of a log that is to take no more than so much room, whatever its files come to.

use std::collections::{HashMap, HashSet};

use super::super::error::LogError;
use super::super::node::{Node, Source};
use super::super::segment::SegmentKind;
use super::super::superblock::Place;
use super::super::tree::Tree;
use super::{Log, MAX_GATHERED_BYTES};

/// What a file takes in a segment beside contents, application area and sums: its inode, name, extent and
/// place in the index.
const FILE_BYTES: u64 = 160;

impl Log {
    /// As [`Log::sync`], of a log whose segments are to have no more than `most` bytes together. If they
    /// would have more, segments without anything live are left out, and what is left of those that are dead
    /// for a quarter at least is copied together, the emptiest first. That is enough where files take at most
    /// three quarters of `most`: who has more removes some before.
    ///
    /// # Errors
    /// As [`Log::sync`].
    pub fn sync_within(&mut self, most: u64) -> Result<u64, LogError> {
        self.settle();
        if self.is_lost {
            return Err(LogError::Lost);
        }
        let staged: u64 = self.staged.iter().map(|(place, _)| place.len).sum();
        let total = self.superblock.total_bytes() + staged + self.memory_bytes;
        if total <= most {
            return self.sync();
        }
        match self.choose_emptiest(total, most) {
            Some(going) => {
                self.commit(Some(going))?;
                self.tell_durable();
                Ok(self.superblock.generation)
            }
            None => self.sync(),
        }
    }

    /// Which segments are to be copied together so that `total` bytes become some less than `most`; `None` if
    /// nothing would be gained.
    fn choose_emptiest(&mut self, total: u64, most: u64) -> Option<HashSet<u64>> {
        self.unchecked_bytes = 0;
        let live = live_room(&self.tree);
        // A segment in which a file has but an empty run, or none of its contents, still has it.
        let live_of = |place: &Place| live.get(&place.number).map_or(0, |&bytes| bytes.max(1));
        let mut places: Vec<(u64, &Place)> =
            self.superblock.segments.iter().map(|place| (live_of(place), place)).collect();
        // By the part that is live.
        places.sort_by(|(live, place), (other_live, other)| {
            (u128::from(*live) * u128::from(other.len))
                .cmp(&(u128::from(*other_live) * u128::from(place.len)))
        });
        // Not again at the very next commit.
        let wanted = total.saturating_sub(most - most / 8);
        let (mut freed, mut room, mut going, mut dead) = (0, MAX_GATHERED_BYTES, HashSet::new(), false);
        for (live, place) in places {
            if freed >= wanted {
                break;
            }
            if live == 0 {
                (freed, dead) = (freed + place.len, true);
            } else if place.kind != SegmentKind::Packed && live <= room && live / 3 <= place.len / 4 {
                freed += place.len.saturating_sub(live);
                room -= live;
                going.insert(place.number);
            }
        }
        (dead || !going.is_empty()).then_some(going)
    }
}

/// About how much room the files of each segment would take in another one.
fn live_room(tree: &Tree) -> HashMap<u64, u64> {
    let mut live = HashMap::new();
    for (_, node) in tree.each_once() {
        match node {
            Node::Directory(_) | Node::Special(..) => {}
            Node::Whole(blob) => {
                let inode = blob.inode();
                let area = inode.app().map_or(0, |app| app.len() as u64);
                *live.entry(blob.segment.number).or_insert(0) +=
                    inode.size() + inode.size() / 128 + area + FILE_BYTES;
            }
            Node::Runs(runs) => {
                for run in runs.map.values() {
                    if let Source::Stored(blob, _) = &run.source {
                        *live.entry(blob.segment.number).or_insert(0) += run.len + run.len / 128;
                    }
                }
            }
        }
    }
    live
}
