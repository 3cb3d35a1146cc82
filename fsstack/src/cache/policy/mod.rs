//! Which frame to give up: the application's choice.
//!
//! A server knows what the kernel cannot: that a file is sent once from front to back, or that a page goes
//! with its pictures. A policy sees frames only, never bytes.

mod clock;
mod lru;

pub use clock::Clock;
pub use lru::Lru;

/// Number of a frame, from 0 to the cache's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameId(pub u32);

impl FrameId {
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Chooses the frame to give up.
pub trait Policy {
    /// A block was read into the frame.
    fn filled(&mut self, frame: FrameId);

    /// The frame's block was found by a look-up.
    fn used(&mut self, frame: FrameId);

    /// The frame to give up next, of those for which `may_go` holds; `None` if there is none. The frame
    /// counts as empty from here on, until it is filled again.
    fn victim(&mut self, may_go: &mut dyn FnMut(FrameId) -> bool) -> Option<FrameId>;
}
