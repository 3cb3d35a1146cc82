//! Least recently used first, by a doubly linked list of frames: constant time for every use.

use super::{FrameId, Policy};

const NIL: u32 = u32::MAX;

/// Gives up the block that has not been asked for longest.
#[derive(Clone, Debug)]
pub struct Lru {
    /// Neighbours of each frame: towards the least and towards the most recently used.
    links: Vec<Option<(u32, u32)>>,
    least: u32,
    most: u32,
}

impl Default for Lru {
    fn default() -> Lru {
        Lru { links: Vec::new(), least: NIL, most: NIL }
    }
}

impl Lru {
    /// For a cache of any size; nothing is filled yet.
    pub fn new() -> Lru {
        Lru::default()
    }

    fn unlink(&mut self, frame: u32) {
        let Some((older, newer)) = self.links.get_mut(frame as usize).and_then(Option::take) else { return };
        match self.links.get_mut(older as usize) {
            Some(Some(link)) => link.1 = newer,
            _ => self.least = newer,
        }
        match self.links.get_mut(newer as usize) {
            Some(Some(link)) => link.0 = older,
            _ => self.most = older,
        }
    }

    fn push(&mut self, frame: u32) {
        if self.links.len() <= frame as usize {
            self.links.resize(frame as usize + 1, None);
        }
        match self.links.get_mut(self.most as usize) {
            Some(Some(link)) => link.1 = frame,
            _ => self.least = frame,
        }
        self.links[frame as usize] = Some((self.most, NIL));
        self.most = frame;
    }
}

impl Policy for Lru {
    fn filled(&mut self, frame: FrameId) {
        self.used(frame);
    }

    fn used(&mut self, frame: FrameId) {
        self.unlink(frame.0);
        self.push(frame.0);
    }

    fn victim(&mut self, may_go: &mut dyn FnMut(FrameId) -> bool) -> Option<FrameId> {
        let mut at = self.least;
        while let Some(Some((_, newer))) = self.links.get(at as usize) {
            let newer = *newer;
            if may_go(FrameId(at)) {
                self.unlink(at);
                return Some(FrameId(at));
            }
            at = newer;
        }
        None
    }
}
