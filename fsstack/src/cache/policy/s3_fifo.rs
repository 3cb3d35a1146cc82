//! S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi, 2023): three queues in the order of arrival. What is new passes a
//! small one, a tenth of the cache; what was used there moves on to the main one, and of the rest only the
//! name is kept for a while (the ghost queue): what comes back by then goes to the main one at once. The main
//! queue gives a block another turn for each use, up to three.
//!
//! ```text
//!                 used twice and more                  used
//!   new ──▶ small ────────────────────▶ main ──┐◀────────────┐
//!             │ else                     ▲     └─────────────┘
//!             ▼                          │       │ else
//!           ghost (names) ───────────────┘       ▼ given up
//!                          asked for again
//! ```

use std::collections::{HashMap, VecDeque};

use super::list::FrameList;
use super::{FrameId, Policy, Told};

/// Turns that uses are worth.
const MAX_USES: u8 = 3;

/// Gives up early what is asked for once, whatever its number.
#[derive(Clone, Debug)]
pub struct S3Fifo {
    small: FrameList,
    main: FrameList,
    /// Names of what left the small queue, oldest first, each with the number of its leaving.
    ghost: VecDeque<(u64, u64)>,
    /// The last leaving of each name in the ghost queue.
    ghosts: HashMap<u64, u64>,
    leavings: u64,
    known: Vec<Known>,
    /// How many frames stand in the small queue, and how many are meant to.
    small_held: u64,
    small_frames: u64,
    ghost_names: usize,
}

/// What is known of a frame.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    block: u64,
    uses: u8,
    /// Frames that it stands for.
    frames: u64,
}

impl S3Fifo {
    /// For a cache of so many frames.
    pub fn new(frames: u32) -> S3Fifo {
        let small_frames = (frames / 10).max(1);
        S3Fifo {
            small: FrameList::default(),
            main: FrameList::default(),
            ghost: VecDeque::new(),
            ghosts: HashMap::new(),
            leavings: 0,
            known: Vec::new(),
            small_held: 0,
            small_frames: small_frames.into(),
            ghost_names: frames.saturating_sub(small_frames) as usize,
        }
    }

    fn remember(&mut self, block: u64) {
        self.leavings += 1;
        self.ghost.push_back((block, self.leavings));
        self.ghosts.insert(block, self.leavings);
        while self.ghosts.len() > self.ghost_names {
            let Some((block, leaving)) = self.ghost.pop_front() else { break };
            if self.ghosts.get(&block) == Some(&leaving) {
                self.ghosts.remove(&block);
            }
        }
        // Names that came back leave their places behind.
        if self.ghost.len() > 2 * self.ghost_names + 16 {
            let ghosts = &self.ghosts;
            self.ghost.retain(|(block, leaving)| ghosts.get(block) == Some(leaving));
        }
    }

    fn give_up_small(&mut self, may_go: &mut dyn FnMut(FrameId) -> bool) -> Option<FrameId> {
        for _ in 0..self.small.len() {
            let at = self.small.oldest()?;
            let known = &mut self.known[at.index()];
            let Known { block, uses, frames } = *known;
            if uses > 1 {
                known.uses = 0;
                self.small_held -= frames;
                self.small.remove(at);
                self.main.push_newest(at);
            } else if may_go(at) {
                self.small_held -= frames;
                self.small.remove(at);
                self.remember(block);
                return Some(at);
            } else {
                // It is being sent, so nobody knows yet whether it will be wanted again.
                self.small.push_newest(at);
            }
        }
        None
    }

    fn give_up_main(&mut self, may_go: &mut dyn FnMut(FrameId) -> bool) -> Option<FrameId> {
        for _ in 0..self.main.len() * (usize::from(MAX_USES) + 1) {
            let at = self.main.oldest()?;
            let known = &mut self.known[at.index()];
            if known.uses > 0 {
                known.uses -= 1;
            } else if may_go(at) {
                self.main.remove(at);
                return Some(at);
            }
            self.main.push_newest(at);
        }
        None
    }
}

impl Policy for S3Fifo {
    fn filled(&mut self, frame: FrameId, told: &Told) {
        if self.known.len() <= frame.index() {
            self.known.resize(frame.index() + 1, Known::default());
        }
        self.known[frame.index()] = Known { block: told.block, uses: 0, frames: told.frames };
        if self.ghosts.remove(&told.block).is_some() {
            self.main.push_newest(frame);
        } else {
            self.small_held += told.frames;
            self.small.push_newest(frame);
        }
    }

    fn used(&mut self, frame: FrameId) {
        if let Some(known) = self.known.get_mut(frame.index()) {
            known.uses = (known.uses + 1).min(MAX_USES);
        }
    }

    fn victim(&mut self, may_go: &mut dyn FnMut(FrameId) -> bool) -> Option<FrameId> {
        if self.small_held >= self.small_frames
            && let Some(frame) = self.give_up_small(may_go)
        {
            return Some(frame);
        }
        self.give_up_main(may_go).or_else(|| self.give_up_small(may_go))
    }
}
