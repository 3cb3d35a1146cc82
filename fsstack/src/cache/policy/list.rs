//! A doubly linked list of frames by their numbers: what most policies keep. Every step takes constant time.

use super::FrameId;

const NIL: u32 = u32::MAX;

/// Frames from the oldest to the newest; each is in it once at most.
#[derive(Clone, Debug)]
pub(super) struct FrameList {
    /// Neighbours of each frame that is in: the older and the newer one.
    links: Vec<Option<(u32, u32)>>,
    oldest: u32,
    newest: u32,
    len: usize,
}

impl Default for FrameList {
    fn default() -> FrameList {
        FrameList { links: Vec::new(), oldest: NIL, newest: NIL, len: 0 }
    }
}

impl FrameList {
    /// Puts a frame at the newest end, wherever it was.
    pub(super) fn push_newest(&mut self, frame: FrameId) {
        self.remove(frame);
        let older = self.newest;
        if self.links.len() <= frame.index() {
            self.links.resize(frame.index() + 1, None);
        }
        self.links[frame.index()] = Some((older, NIL));
        match self.links.get_mut(older as usize) {
            Some(Some(link)) => link.1 = frame.0,
            _ => self.oldest = frame.0,
        }
        self.newest = frame.0;
        self.len += 1;
    }

    /// Takes a frame out, and says whether it was in.
    pub(super) fn remove(&mut self, frame: FrameId) -> bool {
        let Some((older, newer)) = self.links.get_mut(frame.index()).and_then(Option::take) else {
            return false;
        };
        match self.links.get_mut(older as usize) {
            Some(Some(link)) => link.1 = newer,
            _ => self.oldest = newer,
        }
        match self.links.get_mut(newer as usize) {
            Some(Some(link)) => link.0 = older,
            _ => self.newest = older,
        }
        self.len -= 1;
        true
    }

    /// How many are in.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The one that is in longest.
    pub(super) fn oldest(&self) -> Option<FrameId> {
        (self.oldest != NIL).then_some(FrameId(self.oldest))
    }

    /// The one that came after `frame`.
    pub(super) fn newer(&self, frame: FrameId) -> Option<FrameId> {
        let (_, newer) = self.links.get(frame.index()).copied().flatten()?;
        (newer != NIL).then_some(FrameId(newer))
    }
}
