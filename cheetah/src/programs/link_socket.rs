//! The socket of a link that has one request at a time: what it is ready for, what waits to be written, and
//! since when nobody has done anything.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use runtime::buffer::Aggregate;
use runtime::time::Instant;
use rustix::net::sockopt;

use super::link::{self, Begun, Exchange, Read, Tools};
use super::route::Limits;

/// A connection without a request is kept so long.
const IDLE: Duration = Duration::from_secs(60);

/// What nobody waits for, and is only kept, may take so many times as long as the other end may be silent.
const UNATTENDED: u32 = 4;

/// The socket, and the request that is under way on it.
#[derive(Debug)]
pub(super) struct LinkSocket {
    fd: OwnedFd,
    is_connecting: bool,
    readable: bool,
    writable: bool,
    pub(super) out: Aggregate,
    pub(super) exchange: Option<Exchange>,
    /// When the other end or the client last did something about the request, or there was none any more.
    pub(super) active: Instant,
    /// When the request was given.
    began: Instant,
    /// The other end was not read, for the client was behind, or buffers were with clients.
    held_back: bool,
    /// Requests that were answered.
    pub(super) served: u64,
}

impl LinkSocket {
    /// Of a connection that was begun.
    pub(super) fn new(begun: Begun, now: Instant) -> LinkSocket {
        LinkSocket {
            fd: begun.socket,
            is_connecting: begun.is_pending,
            readable: !begun.is_pending,
            writable: !begun.is_pending,
            out: Aggregate::new(),
            exchange: None,
            active: now,
            began: now,
            held_back: false,
            served: 0,
        }
    }

    /// Takes a request, whose bytes are in [`LinkSocket::out`].
    pub(super) fn begin(&mut self, exchange: Exchange, now: Instant) {
        self.exchange = Some(exchange);
        (self.active, self.began) = (now, now);
    }

    pub(super) fn on_ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// Whether nobody waits for the response any more.
    pub(super) fn is_gone(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.output.is_gone())
    }

    /// Goes on connecting and writing. Whether the other end still reads: what it said before it closed is
    /// read first.
    ///
    /// # Errors
    /// If it cannot be connected to.
    pub(super) fn write(&mut self) -> Result<bool, String> {
        if self.is_connecting && self.writable {
            match sockopt::socket_error(&self.fd) {
                Ok(Ok(())) => self.is_connecting = false,
                Ok(Err(error)) | Err(error) => return Err(format!("it cannot be connected to: {error}")),
            }
        }
        if !self.is_connecting && self.writable && !self.out.is_empty() {
            match link::write(&self.fd, &mut self.out) {
                Ok(writable) => self.writable = writable,
                Err(_) => {
                    (self.out, self.readable) = (Aggregate::new(), true);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Bytes or the end, if there is something to read and room for it.
    pub(super) fn read(&mut self, tools: &mut Tools) -> Option<Read> {
        if !self.readable || self.is_connecting {
            return None;
        }
        self.held_back = self.exchange.as_ref().is_some_and(|exchange| !exchange.output.has_room());
        if self.held_back {
            return None;
        }
        match tools.read(&self.fd) {
            Read::Nothing => self.readable = false,
            // It is not the other end that is silent.
            Read::NoBuffer => (self.held_back, self.active) = (true, tools.now),
            read => return Some(read),
        }
        None
    }

    pub(super) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        match &self.exchange {
            None => Some(self.active + IDLE),
            Some(_) if self.held_back => None,
            Some(_) if self.is_connecting => Some(self.active + limits.connect_timeout),
            Some(_) => Some(self.active + limits.timeout),
        }
    }

    /// Whether what nobody waits for has had its time: one that speaks without end, a little at a time, is
    /// never silent.
    pub(super) fn is_endless(&self, tools: &Tools) -> bool {
        let until = self.began + tools.limits.timeout * UNATTENDED;
        tools.now >= until && self.exchange.as_ref().is_some_and(|exchange| exchange.output.is_unattended())
    }

    /// Whether the other end, or the connection, has had its time.
    pub(super) fn is_silent(&self, tools: &Tools) -> bool {
        self.deadline(&tools.limits).is_some_and(|deadline| tools.now >= deadline)
    }
}

impl AsFd for LinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
