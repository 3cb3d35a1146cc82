//! Waiting for descriptors to become ready.
//!
//! A [`Poller`] tells which of many descriptors can be read or written. epoll is the one there is. What does
//! the work itself, and tells that it is done, is a [`crate::ring::SocketRing`]: it waits for a loop of this
//! as for a socket.

mod epoll;
mod sys;

pub use epoll::{Epoll, Registrar};

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Names a registered descriptor; chosen by who registers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Bytes, urgent ones among them, a connection or the end of the stream to be had.
    pub readable: bool,
    /// Room to write.
    pub writable: bool,
}

impl Interest {
    /// Neither: only errors and hang-ups are told.
    pub const NONE: Interest = Interest { readable: false, writable: false };
    /// Reading only.
    pub const READ: Interest = Interest { readable: true, writable: false };
    /// Writing only.
    pub const WRITE: Interest = Interest { readable: false, writable: true };
    /// Both.
    pub const BOTH: Interest = Interest { readable: true, writable: true };
}

/// When to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// At every wait, as long as the descriptor is ready.
    Level,
    /// Once each time that it becomes ready: then go on until it would block.
    Edge,
}

/// A descriptor that became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// As registered.
    pub token: Token,
    /// Reading will not block (it may give the end of the stream, or an error).
    pub readable: bool,
    /// Writing will not block.
    pub writable: bool,
    /// The peer has closed its direction, or both; or the descriptor has an error. Reading tells which.
    pub closed: bool,
    /// Out-of-band data has come: a read ends at its mark, even if there is more (tcp(7), "urgent").
    pub urgent: bool,
}

/// Tells which descriptors are ready.
pub trait Poller {
    /// Registers a descriptor. It must stay open until it is removed; closing it removes it too, unless it
    /// was duplicated.
    ///
    /// # Errors
    /// If it is registered already, or cannot be waited for (a regular file).
    fn add(&self, fd: BorrowedFd<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()>;

    /// Replaces token, interest and trigger of a registered descriptor; an edge that is pending is told
    /// again.
    ///
    /// # Errors
    /// If it is not registered.
    fn modify(
        &self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()>;

    /// Forgets a descriptor.
    ///
    /// # Errors
    /// If it is not registered.
    fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// Replaces `events` by what is ready, waiting up to `timeout` (for ever if `None`) until something is.
    /// An interrupted wait ends early with no events.
    ///
    /// # Errors
    /// Whatever the system says.
    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()>;
}
