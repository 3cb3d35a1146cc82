//! Sockets over a stack that has a thread of its own: for applications that are not written as
//! [`crate::application`]s. What they do by threads is in [`crate::blocking`], what by tasks in
//! `crate::futures` (feature `futures`); here is what both stand on.
//!
//! ```text
//!   TcpStream, TcpListener, UdpChannel            any thread
//!        │  ▲
//!        ▼  │  Duplex, Accepting, Mailbox: shared, each under a lock, with who waits for it
//!        │  │
//!   Inbox: what is to be looked at, and a call that ends the driver's wait
//!        │  │
//!        ▼  │
//!   Sockets (Application) ── Driver ── device     the network's thread
//! ```
//!
//! Both directions are bounded ([`SocketLimits`]): a reader that does not read shuts the window, a writer
//! that is faster than the peer waits. Bytes are copied once each way between the application's memory and
//! ours; who cannot afford that is an [`crate::application::Application`].
//!
//! A connection whose last handle is dropped is closed as the kernel does it: what was written still goes out
//! and is followed by FIN; if there was something left to read, the peer gets RST. A network whose last
//! handle is gone ends its thread when its connections are over, after [`SocketLimits::linger`] at the
//! latest; a program that ends with `main` waits for that by [`Network::finish`].

mod accepting;
mod duplex;
mod handles;
mod mailbox;
mod network;
mod outgoing;
#[cfg(test)]
mod tests;
mod wait;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runtime::payload::{PayloadSource, Pieces};
use runtime::time::Instant;
use slab::Slab;

use crate::application::{Application, CloseReason, Datagrams, Key, Pcb, Stream, UdpSocket};
use crate::stack::{ConnectError, SendError, Stack};

pub(crate) use accepting::Accepting;
pub(crate) use duplex::Duplex;
use duplex::Spare;
pub(crate) use handles::Patience;
pub use handles::{TcpListener, TcpStream, UdpChannel};
pub(crate) use mailbox::Mailbox;
pub use network::Network;
use network::{Inbox, Order};
use outgoing::Outgoing;
pub(crate) use wait::{Answer, block};

/// What sockets hold at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketLimits {
    /// Bytes of a connection that have come and are not read: its receive window at most, if
    /// [`crate::tcp::Config::max_window`] is not less. At least 1. A window begins with 64 KiB, and grows
    /// with what the application reads.
    pub receive_bytes: usize,
    /// Bytes by which the windows of all connections together may grow beyond those 64 KiB each.
    pub grown_bytes: usize,
    /// Bytes of a connection that are written and not acknowledged. At least 1.
    pub send_bytes: usize,
    /// Connections of a listener that wait to be accepted; beyond, clients are refused.
    pub backlog: usize,
    /// Bytes of datagrams of one socket, each way, with 64 for each.
    pub datagram_bytes: usize,
    /// How long a connection that nobody has any more may go on without its peer taking anything.
    pub linger: Duration,
}

impl Default for SocketLimits {
    fn default() -> SocketLimits {
        SocketLimits {
            receive_bytes: 4_000_000,
            grown_bytes: 256 << 20,
            send_bytes: 4_000_000,
            backlog: 1024,
            datagram_bytes: 1 << 20,
            linger: Duration::from_secs(60),
        }
    }
}

/// Why a socket is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Of a connection.
    Closed(CloseReason),
    /// It did not begin.
    NotBegun(ConnectError),
    /// The stack's thread has ended.
    Gone,
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the network has ended")
}

impl Ending {
    pub(crate) fn error(self) -> io::Error {
        use io::ErrorKind;
        let (kind, why) = match self {
            Ending::Gone => return gone(),
            Ending::NotBegun(error) => {
                let kind = match error {
                    ConnectError::NoRoute | ConnectError::Ipv6 => ErrorKind::NetworkUnreachable,
                    ConnectError::AddressRefused => ErrorKind::AddrNotAvailable,
                    ConnectError::PortInUse | ConnectError::NotKept => ErrorKind::AddrInUse,
                    ConnectError::BadAddress => ErrorKind::InvalidInput,
                };
                return io::Error::new(kind, error);
            }
            Ending::Closed(reason) => match reason {
                CloseReason::Finished => (ErrorKind::BrokenPipe, "both sides have closed the connection"),
                CloseReason::Reset => (ErrorKind::ConnectionReset, "the peer has reset the connection"),
                CloseReason::Refused => (ErrorKind::ConnectionRefused, "nobody listens there"),
                CloseReason::TimedOut => (ErrorKind::TimedOut, "the peer does not answer any more"),
                CloseReason::AddressLost => {
                    (ErrorKind::AddrNotAvailable, "this host has lost the address that the connection was of")
                }
                CloseReason::Unreachable => (ErrorKind::HostUnreachable, "the peer cannot be reached"),
                CloseReason::Aborted | CloseReason::PayloadLost => {
                    (ErrorKind::ConnectionAborted, "the connection was reset by this side")
                }
            },
        };
        io::Error::new(kind, why)
    }
}

/// The application above the stack: all sockets of a network.
pub struct Sockets {
    inbox: Arc<Inbox>,
    limits: SocketLimits,
    spare: Arc<Spare>,
    /// The stack knows how large windows may be.
    is_set_up: bool,
    connections: Slab<Record>,
    listeners: HashMap<u16, Arc<Accepting>>,
    mailboxes: HashMap<UdpSocket, Arc<Mailbox>>,
    /// Those of which datagrams found no room in the stack.
    waiting: Vec<UdpSocket>,
    /// Of these, those that nobody has any more.
    closing: Vec<UdpSocket>,
    /// All is to be over by then: nothing begins any more.
    until: Option<Instant>,
}

/// A connection: TCP's half, and the bytes.
#[derive(Debug)]
struct Record {
    pcb: Pcb,
    stream: SocketStream,
}

/// A connection's bytes on the side of the stack's thread.
#[derive(Debug)]
pub struct SocketStream {
    duplex: Arc<Duplex>,
    out: Outgoing,
    acknowledged: u64,
    is_finished: bool,
    is_aborted: bool,
    is_dropped: bool,
    /// How long a connection may do nothing once it is dropped, and when that is over.
    linger: Duration,
    linger_until: Option<Instant>,
    /// What was acknowledged when that began.
    linger_mark: u64,
}

impl Sockets {
    /// None yet.
    fn new(inbox: Arc<Inbox>, limits: SocketLimits, spare: Arc<Spare>) -> Sockets {
        Sockets {
            inbox,
            limits,
            spare,
            is_set_up: false,
            connections: Slab::new(),
            listeners: HashMap::new(),
            mailboxes: HashMap::new(),
            waiting: Vec::new(),
            closing: Vec::new(),
            until: None,
        }
    }

    /// Connections that are not over.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Whether nothing is left that somebody may wait for.
    fn is_idle(&self) -> bool {
        self.connections.is_empty() && self.waiting.is_empty()
    }

    fn keep(&mut self, pcb: Pcb, duplex: Arc<Duplex>, is_open: bool) -> Option<Key> {
        let entry = self.connections.vacant_entry();
        let key = u32::try_from(entry.key()).ok().map(Key)?;
        duplex.attach(key, pcb.local(), pcb.remote(), is_open);
        let stream = SocketStream {
            duplex,
            out: Outgoing::default(),
            acknowledged: 0,
            is_finished: false,
            is_aborted: false,
            is_dropped: false,
            linger: self.limits.linger,
            linger_until: None,
            linger_mark: 0,
        };
        entry.insert(Record { pcb, stream });
        Some(key)
    }

    /// Does what was asked for meanwhile; due in each turn before the stack's work, for who turns it
    /// ([`Network::apart`]).
    pub fn obey(&mut self, now: Instant, stack: &mut Stack) {
        if !std::mem::replace(&mut self.is_set_up, true) {
            stack.limit_windows(u32::try_from(self.limits.receive_bytes.max(1)).unwrap_or(u32::MAX));
        }
        let (orders, ends_within) = self.inbox.take();
        for order in orders {
            match order {
                Order::Look(duplex) => self.look(now, &duplex, stack),
                Order::Send(socket) => self.has_datagrams_of(socket),
                Order::Call(call) => call(now, stack, self),
            }
        }
        if self.until.is_none()
            && let Some(limit) = ends_within
        {
            self.until = Some(now + limit);
            for port in self.listeners.keys() {
                stack.unlisten(*port);
            }
        }
        self.send_datagrams(stack);
    }

    /// Whether [`Sockets::obey`] has something to do at once, without being asked: the stack has room again
    /// for what found none.
    pub fn has_more(&self, stack: &Stack) -> bool {
        !self.waiting.is_empty() && !stack.has_datagrams()
    }

    fn look(&mut self, now: Instant, duplex: &Duplex, stack: &mut Stack) {
        let look = duplex.look();
        let Some(key) = look.key else { return };
        let Some(record) = self.connections.get_mut(key.0 as usize) else { return };
        let stream = &mut record.stream;
        look.blocks.into_iter().for_each(|block| stream.out.push(block));
        stream.is_finished = look.is_finished;
        stream.is_aborted |= look.is_aborted;
        if look.is_dropped && !std::mem::replace(&mut stream.is_dropped, true) {
            stream.linger_until = Some(now + stream.linger);
            stream.linger_mark = stream.acknowledged;
        }
        stack.wake(key);
    }

    fn has_datagrams_of(&mut self, socket: UdpSocket) {
        if !self.waiting.contains(&socket) {
            self.waiting.push(socket);
        }
    }

    /// Hands datagrams to the stack, as far as it has room.
    fn send_datagrams(&mut self, stack: &mut Stack) {
        let mailboxes = &self.mailboxes;
        self.waiting.retain(|socket| {
            let Some(mailbox) = mailboxes.get(socket) else { return false };
            let mut error = None;
            let all = mailbox.drain(|to, payload, segment| {
                match stack.datagrams().send_segments(*socket, to, payload.clone(), segment) {
                    Err(SendError::Full) => return false,
                    Err(_) => error = Some(io::ErrorKind::InvalidInput),
                    Ok(()) => {}
                }
                true
            });
            if let Some(error) = error {
                mailbox.failed(error);
            }
            !all
        });
        for socket in std::mem::take(&mut self.closing) {
            self.close_udp(stack, socket);
        }
    }

    /// Closes a socket once what it has written has gone to the stack.
    fn close_udp(&mut self, stack: &mut Stack, socket: UdpSocket) {
        if self.waiting.contains(&socket) {
            self.closing.push(socket);
            return;
        }
        stack.close_udp(socket);
        if let Some(mailbox) = self.mailboxes.remove(&socket) {
            mailbox.end(Ending::Gone);
        }
    }

    /// Lets go of all: nothing will become of it any more.
    fn end(&mut self) {
        drop(self.inbox.end());
        for (_, record) in self.connections.iter() {
            record.stream.duplex.end(Ending::Gone);
        }
        self.connections.clear();
        for listener in self.listeners.values() {
            listener.end().iter().for_each(|duplex| duplex.end(Ending::Gone));
        }
        self.mailboxes.values().for_each(|mailbox| mailbox.end(Ending::Gone));
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.end();
    }
}

impl Application for Sockets {
    type Stream<'a> = &'a mut SocketStream;

    fn accept(&mut self, _now: Instant, pcb: Pcb) -> Option<Key> {
        let listener = Arc::clone(self.listeners.get(&pcb.local().port())?);
        let duplex = Arc::new(Duplex::new(self.limits, Arc::clone(&self.spare)));
        let key = self.keep(pcb, Arc::clone(&duplex), true)?;
        if !listener.push(duplex) {
            self.connections.remove(key.0 as usize);
            return None;
        }
        Some(key)
    }

    fn connection(&mut self, key: Key) -> Option<(&mut Pcb, &mut SocketStream)> {
        let record = self.connections.get_mut(key.0 as usize)?;
        Some((&mut record.pcb, &mut record.stream))
    }

    fn closed(&mut self, _now: Instant, key: Key, reason: CloseReason) {
        if let Some(record) = self.connections.try_remove(key.0 as usize) {
            record.stream.duplex.end(Ending::Closed(reason));
        }
    }

    fn datagram(
        &mut self,
        _now: Instant,
        socket: UdpSocket,
        from: SocketAddr,
        bytes: &[u8],
        _out: &mut Datagrams,
    ) {
        if let Some(mailbox) = self.mailboxes.get(&socket) {
            mailbox.received(from, bytes);
        }
    }

    fn datagram_refused(&mut self, _now: Instant, socket: UdpSocket, _to: SocketAddr) {
        // One that is bound speaks to many, of whom anybody can say that another is not there.
        if socket.remote().is_some()
            && let Some(mailbox) = self.mailboxes.get(&socket)
        {
            mailbox.failed(io::ErrorKind::ConnectionRefused);
        }
    }
}

impl PayloadSource for SocketStream {
    fn end(&self) -> u64 {
        self.out.end()
    }

    fn is_finished(&self) -> bool {
        self.is_finished
    }

    fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>) -> usize {
        self.out.pieces(offset, len, out)
    }

    fn acknowledged(&mut self, offset: u64) {
        let len = usize::try_from(offset.saturating_sub(self.acknowledged)).unwrap_or(usize::MAX);
        self.acknowledged += len as u64;
        self.out.release(offset);
        if len > 0 {
            self.duplex.acknowledged(len);
        }
    }
}

impl Stream for SocketStream {
    fn established(&mut self, _now: Instant) {
        self.duplex.established();
    }

    fn receive(&mut self, _now: Instant, bytes: &[u8]) -> usize {
        let (taken, is_for_nobody) = self.duplex.received(bytes);
        self.is_aborted |= is_for_nobody;
        taken
    }

    fn window(&self) -> usize {
        self.duplex.window()
    }

    fn capacity(&self) -> usize {
        self.duplex.capacity()
    }

    fn receive_finished(&mut self, _now: Instant) {
        self.duplex.receive_finished();
    }

    fn reads_no_more(&self) -> bool {
        self.is_dropped
    }

    fn deadline(&self) -> Option<Instant> {
        self.linger_until
    }

    fn timeout(&mut self, now: Instant) {
        // Nobody is there to see that the peer has taken nothing for so long.
        self.is_aborted = self.linger_mark == self.acknowledged;
        (self.linger_until, self.linger_mark) = (Some(now + self.linger), self.acknowledged);
    }

    fn is_aborted(&self) -> bool {
        self.is_aborted
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets").field("connections", &self.connections.len()).finish_non_exhaustive()
    }
}
