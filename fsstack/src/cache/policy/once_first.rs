//! What is told to be wanted once, before whatever another policy would give up: a reader of a file that
//! would fill the cache takes the place of its own blocks, and leaves all others where they are. An eighth of
//! the cache is for such blocks, in the order in which they came, so that several who read the same file, one
//! a little behind the other, read it once.

use super::list::FrameList;
use super::{FrameId, Hint, Policy, Told};

/// Another policy, which hears of a block that was to be wanted once only when it is wanted again.
#[derive(Clone, Debug)]
pub struct OnceFirst<P> {
    once: FrameList,
    /// Of the frames in that list.
    told: Vec<Option<Told>>,
    /// How many of them may be there while others have to go.
    most: usize,
    policy: P,
}

impl<P: Policy> OnceFirst<P> {
    /// In front of `policy`, for a cache of so many frames.
    pub fn new(frames: u32, policy: P) -> OnceFirst<P> {
        let most = (frames as usize / 8).max(1);
        OnceFirst { once: FrameList::default(), told: Vec::new(), most, policy }
    }

    fn give_up_once(&mut self, may_go: &mut dyn FnMut(FrameId) -> bool) -> Option<FrameId> {
        let mut at = self.once.oldest();
        while let Some(frame) = at {
            if may_go(frame) {
                self.once.remove(frame);
                self.told[frame.index()] = None;
                return Some(frame);
            }
            at = self.once.newer(frame);
        }
        None
    }
}

impl<P: Policy> Policy for OnceFirst<P> {
    fn filled(&mut self, frame: FrameId, told: &Told) {
        if told.hint != Hint::Once {
            return self.policy.filled(frame, told);
        }
        if self.told.len() <= frame.index() {
            self.told.resize(frame.index() + 1, None);
        }
        self.told[frame.index()] = Some(*told);
        self.once.push_newest(frame);
    }

    fn used(&mut self, frame: FrameId) {
        match self.told.get_mut(frame.index()).and_then(Option::take) {
            Some(told) => {
                self.once.remove(frame);
                self.policy.filled(frame, &Told { hint: Hint::None, ..told });
            }
            None => self.policy.used(frame),
        }
    }

    fn victim(&mut self, may_go: &mut dyn FnMut(FrameId) -> bool) -> Option<FrameId> {
        if self.once.len() >= self.most
            && let Some(frame) = self.give_up_once(may_go)
        {
            return Some(frame);
        }
        self.policy.victim(may_go).or_else(|| self.give_up_once(may_go))
    }
}
