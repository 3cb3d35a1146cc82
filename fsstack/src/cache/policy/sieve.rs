//! SIEVE (Zhang, Yang, Yue, Vigfusson, Rashmi, 2024): one queue in the order of arrival and a hand that goes
//! from the oldest to the newest. A use sets a bit; the hand clears bits, moves nothing, and gives up the
//! first block whose bit is clear. What was used stays where it is, and the hand goes on from there, so
//! newcomers that are never used again go first.

use super::list::FrameList;
use super::{FrameId, Policy, Told};

/// Gives up the oldest block that was not asked for again.
#[derive(Clone, Debug, Default)]
pub struct Sieve {
    list: FrameList,
    used: Vec<bool>,
    /// Where it goes on; at the oldest if there is none.
    hand: Option<FrameId>,
}

impl Sieve {
    /// For a cache of any size; nothing is filled yet.
    pub fn new() -> Sieve {
        Sieve::default()
    }
}

impl Policy for Sieve {
    fn filled(&mut self, frame: FrameId, _: &Told) {
        if self.used.len() <= frame.index() {
            self.used.resize(frame.index() + 1, false);
        }
        self.used[frame.index()] = false;
        self.list.push_newest(frame);
    }

    fn used(&mut self, frame: FrameId) {
        if let Some(used) = self.used.get_mut(frame.index()) {
            *used = true;
        }
    }

    fn victim(&mut self, may_go: &mut dyn FnMut(FrameId) -> bool) -> Option<FrameId> {
        // Twice round: the first may only clear bits.
        for _ in 0..2 * self.list.len() {
            let at = self.hand.or(self.list.oldest())?;
            self.hand = self.list.newer(at);
            let used = &mut self.used[at.index()];
            if *used {
                *used = false;
            } else if may_go(at) {
                self.list.remove(at);
                return Some(at);
            }
        }
        None
    }
}
