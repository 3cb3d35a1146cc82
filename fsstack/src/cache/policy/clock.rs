//! Second chance (Corbató, 1968): a hand goes round the frames, takes the first whose bit is clear and clears
//! bits on its way. A use only sets a bit.

use super::{FrameId, Policy, Told};

/// Gives up a block that was not asked for since the hand last came by.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// `None` for a frame that holds nothing.
    used: Vec<Option<bool>>,
    hand: usize,
}

impl Clock {
    /// For a cache of any size; nothing is filled yet.
    pub fn new() -> Clock {
        Clock::default()
    }
}

impl Policy for Clock {
    fn filled(&mut self, frame: FrameId, _: &Told) {
        if self.used.len() <= frame.index() {
            self.used.resize(frame.index() + 1, None);
        }
        self.used[frame.index()] = Some(false);
    }

    fn used(&mut self, frame: FrameId) {
        if let Some(Some(used)) = self.used.get_mut(frame.index()) {
            *used = true;
        }
    }

    fn victim(&mut self, may_go: &mut dyn FnMut(FrameId) -> bool) -> Option<FrameId> {
        // Twice round: the first may only clear bits.
        for _ in 0..2 * self.used.len() {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.used.len();
            match &mut self.used[at] {
                Some(used @ true) => *used = false,
                Some(false) if may_go(FrameId(at as u32)) => {
                    self.used[at] = None;
                    return Some(FrameId(at as u32));
                }
                Some(false) | None => {}
            }
        }
        None
    }
}
