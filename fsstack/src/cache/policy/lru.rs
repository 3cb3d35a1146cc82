//! Least recently used first, by a list of frames: constant time for every use.

use super::list::FrameList;
use super::{FrameId, Policy, Told};

/// Gives up the block that has not been asked for longest.
#[derive(Clone, Debug, Default)]
pub struct Lru {
    list: FrameList,
}

impl Lru {
    /// For a cache of any size; nothing is filled yet.
    pub fn new() -> Lru {
        Lru::default()
    }
}

impl Policy for Lru {
    fn filled(&mut self, frame: FrameId, _: &Told) {
        self.list.push_newest(frame);
    }

    fn used(&mut self, frame: FrameId) {
        self.list.push_newest(frame);
    }

    fn victim(&mut self, may_go: &mut dyn FnMut(FrameId) -> bool) -> Option<FrameId> {
        let mut at = self.list.oldest();
        while let Some(frame) = at {
            if may_go(frame) {
                self.list.remove(frame);
                return Some(frame);
            }
            at = self.list.newer(frame);
        }
        None
    }
}
