//! Greedy dual size with frequency (Cherkasova, 1998): a block's worth is how often it was asked for over how
//! many frames its file takes, above a level that rises to the worth of what is given up, so that old merits
//! fade. A request is served from memory only if all blocks of its file are, so a frame of a small file is
//! worth more than one of a large file.

use std::collections::BTreeSet;

use super::{FrameId, Policy, Told};

/// Worth is counted in parts of a request, so that whole numbers do.
const REQUEST: u64 = 1 << 20;

/// Gives up the block that is worth least.
#[derive(Clone, Debug, Default)]
pub struct Gdsf {
    /// By worth, and of equals the one whose worth is older first.
    order: BTreeSet<(u64, u64, FrameId)>,
    frames: Vec<Option<Merit>>,
    level: u64,
    clock: u64,
}

#[derive(Clone, Copy, Debug)]
struct Merit {
    worth: u64,
    since: u64,
    uses: u64,
    owner_frames: u64,
}

impl Gdsf {
    /// For a cache of any size; nothing is filled yet.
    pub fn new() -> Gdsf {
        Gdsf::default()
    }

    fn place(&mut self, frame: FrameId, uses: u64, owner_frames: u64) {
        self.clock += 1;
        let worth = self.level.saturating_add(uses.saturating_mul(REQUEST) / owner_frames.max(1));
        self.frames[frame.index()] = Some(Merit { worth, since: self.clock, uses, owner_frames });
        self.order.insert((worth, self.clock, frame));
    }

    fn take(&mut self, frame: FrameId) -> Option<Merit> {
        let merit = self.frames.get_mut(frame.index())?.take()?;
        self.order.remove(&(merit.worth, merit.since, frame));
        Some(merit)
    }
}

impl Policy for Gdsf {
    fn filled(&mut self, frame: FrameId, told: &Told) {
        if self.frames.len() <= frame.index() {
            self.frames.resize(frame.index() + 1, None);
        }
        self.take(frame);
        self.place(frame, 1, told.owner_frames.max(told.frames));
    }

    fn used(&mut self, frame: FrameId) {
        if let Some(merit) = self.take(frame) {
            self.place(frame, merit.uses + 1, merit.owner_frames);
        }
    }

    fn victim(&mut self, may_go: &mut dyn FnMut(FrameId) -> bool) -> Option<FrameId> {
        let (worth, _, frame) = self.order.iter().copied().find(|&(_, _, frame)| may_go(frame))?;
        self.take(frame);
        self.level = self.level.max(worth);
        Some(frame)
    }
}
