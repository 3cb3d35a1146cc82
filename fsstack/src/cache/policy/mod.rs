//! Which block to give up: the application's choice.
//!
//! A server knows what the kernel cannot: that a file is sent once from front to back, how much of the cache
//! it would take, or that two blocks are parts of one page. A policy is told so, and never sees bytes.
//!
//! | name | gives up | hits, Zipf | and scans |
//! |---|---|---|---|
//! | [`Clock`] | what was not asked for since a hand last came by | 66.0 % | 41.1 % |
//! | [`Lru`] | what was not asked for longest | 64.9 % | 40.7 % |
//! | [`Sieve`] | the oldest that was not asked for again; a use moves nothing | 70.7 % | 47.1 % |
//! | [`S3Fifo`] | first what was asked for once, but if it had just been given up | 70.9 % | 47.5 % |
//! | [`Gdsf`] | what is asked for rarely, of files that take much of the cache | 68.9 % | 43.6 % |
//!
//! The hits are of a cache of a tenth of 5,000 blocks that are asked for by Zipf's law (exponent 1), and of
//! the same with a reader in between who goes through blocks that nobody wants again, a third of all accesses
//! (`policy/tests.rs`).
//!
//! One of one's own is [`Policy::filled`], [`Policy::victim`] and, if uses matter, [`Policy::used`].

mod clock;
mod gdsf;
mod list;
mod lru;
mod once_first;
mod s3_fifo;
mod sieve;

#[cfg(test)]
mod tests;

pub use clock::Clock;
pub use gdsf::Gdsf;
pub use lru::Lru;
pub use once_first::OnceFirst;
pub use s3_fifo::S3Fifo;
pub use sieve::Sieve;

/// Number of a frame, from 0 to the cache's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameId(pub u32);

impl FrameId {
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is known of the use of a block beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hint {
    /// Nothing.
    #[default]
    None,
    /// It will not be wanted again soon: part of a file so large that it would push out everything else.
    Once,
}

impl Hint {
    /// What is to be said of a file of that size in a cache of that size: one of more than half of it would
    /// push out too much.
    pub const fn of(owner: u64, cache: u64) -> Hint {
        if owner > cache / 2 { Hint::Once } else { Hint::None }
    }
}

/// What a policy is told of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The same for the same block, however often it comes and goes.
    pub block: u64,
    /// The file that it was first read for.
    pub owner: u64,
    /// Frames that all blocks of the owner would take; at least 1.
    pub owner_frames: u64,
    /// Frames that go and stay with this one, itself included: more than 1 where a page was read with what it
    /// embeds. The policy sees one of them, a use of any is a use of that.
    pub frames: u64,
    /// What its reader said.
    pub hint: Hint,
}

/// Chooses the frame to give up.
pub trait Policy {
    /// A block was read into the frame.
    fn filled(&mut self, frame: FrameId, told: &Told);

    /// The frame's block was found by a look-up.
    fn used(&mut self, frame: FrameId) {
        let _ = frame;
    }

    /// The frame to give up next, of those for which `may_go` holds; `None` if there is none. The frame
    /// counts as empty from here on, until it is filled again.
    fn victim(&mut self, may_go: &mut dyn FnMut(FrameId) -> bool) -> Option<FrameId>;
}

/// A policy chosen when the program runs.
pub type AnyPolicy = Box<dyn Policy + Send>;

impl Policy for AnyPolicy {
    fn filled(&mut self, frame: FrameId, told: &Told) {
        (**self).filled(frame, told);
    }

    fn used(&mut self, frame: FrameId) {
        (**self).used(frame);
    }

    fn victim(&mut self, may_go: &mut dyn FnMut(FrameId) -> bool) -> Option<FrameId> {
        (**self).victim(may_go)
    }
}

/// The policies that have a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyName {
    /// [`Clock`].
    Clock,
    /// [`Lru`].
    Lru,
    /// [`Sieve`].
    Sieve,
    /// [`S3Fifo`]: of the traces of `benches/record` it finds most, or but little less than what does.
    #[default]
    S3Fifo,
    /// [`Gdsf`].
    Gdsf,
}

impl PolicyName {
    /// All of them.
    pub const ALL: [PolicyName; 5] =
        [PolicyName::Clock, PolicyName::Lru, PolicyName::Sieve, PolicyName::S3Fifo, PolicyName::Gdsf];

    /// As it is written on a command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            PolicyName::Clock => "clock",
            PolicyName::Lru => "lru",
            PolicyName::Sieve => "sieve",
            PolicyName::S3Fifo => "s3-fifo",
            PolicyName::Gdsf => "gdsf",
        }
    }

    /// The policy, for a cache of so many frames, behind [`OnceFirst`].
    pub fn policy(self, frames: u32) -> AnyPolicy {
        match self {
            PolicyName::Clock => Box::new(OnceFirst::new(frames, Clock::new())),
            PolicyName::Lru => Box::new(OnceFirst::new(frames, Lru::new())),
            PolicyName::Sieve => Box::new(OnceFirst::new(frames, Sieve::new())),
            PolicyName::S3Fifo => Box::new(OnceFirst::new(frames, S3Fifo::new(frames))),
            PolicyName::Gdsf => Box::new(OnceFirst::new(frames, Gdsf::new())),
        }
    }
}
