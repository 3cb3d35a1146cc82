//! The same connections by io_uring: one call tells the kernel what all of them send, and hears what has come
//! for all of them.
//!
//! ```text
//!   events ──▶ turns of connections ──▶ a batch of sends ──▶ what became of them ──▶ their next turns ──▶ wait
//!                                       └──────────── one call, with closes and new waits ───────────┘
//! ```
//!
//! A connection without anything to do has a receive under way that goes on for ever, and no buffer. Where
//! much comes at once (content of a PUT), or more than the connection takes just then, that receive is
//! cancelled: then the loop waits until there is something to read, and reads into the buffer that all share.
//! Long stretches that go by reference (`sendfile`, which io_uring does not have) are written where they
//! stand, too. Everything but connections is the event loop's, as ever: the ring waits for that as for one of
//! them.
//!
//! A socket is closed, and its number given away, when nothing is under way for it any more.

use std::io;
use std::os::fd::AsFd;

use runtime::event_loop::EventLoop;
use runtime::poller::{Interest, Token, Trigger};
use runtime::ring::{ReceivedBytes, RingEvent, Sent, SocketRing};
use runtime::stats::work::{Quantity, count};
use runtime::time::Instant;
use rustix::io::Errno;

use super::connection::{Calls, Connection};
use super::{SocketCalls, Worker};
use crate::channel::Channel;
use crate::service::Service;

/// The event loop's number; connections never get that far.
const LOOP: u32 = u32::MAX;

/// What a worker has for it.
#[derive(Debug)]
pub(super) struct ByRing {
    ring: SocketRing,
    /// Connections that have something to send.
    sending: Vec<u32>,
    /// Of a batch: whose sends it has, with how many bytes; who sends alone. Kept for their memory.
    batched: Vec<(u32, usize)>,
    alone: Vec<u32>,
    /// The event loop is waited for.
    awaits_loop: bool,
}

/// What is under way for a connection, and what came of it that is not used yet.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Bytes are received as they come.
    receives: bool,
    /// It is waited for that there are some.
    awaits_bytes: bool,
    /// All that is being ended.
    cancels: bool,
    /// Much comes: no receives, until a response has gone out.
    is_bulk: bool,
    /// It waits for a batch.
    sends: bool,
    /// The connection is over, but something is under way.
    pub(super) is_over: bool,
    /// Bytes that have come before receiving ended, for which there was no room: what comes in one go, 132 KB
    /// at most.
    held: Vec<u8>,
}

impl Intake {
    /// Whether bytes wait that have come.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    fn is_under_way(&self) -> bool {
        self.receives || self.awaits_bytes
    }
}

impl ByRing {
    /// A ring, if that is how calls are made, and there can be one.
    pub(super) fn new(calls: SocketCalls) -> Option<ByRing> {
        if calls == SocketCalls::Epoll {
            return None;
        }
        match SocketRing::new() {
            Ok(ring) => Some(ByRing {
                ring,
                sending: Vec::new(),
                batched: Vec::new(),
                alone: Vec::new(),
                awaits_loop: false,
            }),
            Err(error) => {
                tracing::warn!("no io_uring for the sockets of a loop ({error}): by epoll");
                None
            }
        }
    }

    /// Whether something is to be sent.
    pub(super) fn has_work(&self) -> bool {
        !self.sending.is_empty()
    }

    /// Has what `key` has sent with the next batch.
    pub(super) fn send_soon(&mut self, key: usize, connection: &mut Connection) {
        if !std::mem::replace(&mut connection.intake.sends, true) {
            self.sending.push(key as u32);
        }
    }

    /// Waits until something has happened to a connection, `events` have some, or `deadline` has come.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn wait(&mut self, events: &mut EventLoop, deadline: Option<Instant>) -> io::Result<()> {
        if !std::mem::replace(&mut self.awaits_loop, true) {
            self.ring.await_readable(events.as_fd(), LOOP)?;
        }
        self.ring.wait(deadline.map(|deadline| deadline.saturating_since(events.clock().now())))?;
        events.read_clock();
        Ok(())
    }

    /// Sees to it that what the connection waits for is told.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub(super) fn listen_to(
        &mut self,
        key: usize,
        connection: &mut Connection,
        service: &Service,
        events: &EventLoop,
    ) -> io::Result<()> {
        let (token, key) = (Token(key as u64), key as u32);
        let is_deaf =
            connection.readable || connection.intake.holds() || connection.has_ended || !connection.listens();
        let room = connection.conn.window(service);
        let lacks_room = !connection.writable && connection.has_unsent();
        let Connection { socket, intake, hears_of, .. } = connection;
        if lacks_room && *hears_of == Interest::NONE {
            // By the event loop, once for all times: what io_uring waits for comes with a peer's FIN as well,
            // again and again.
            events.add(socket, token, Interest::WRITE, Trigger::Edge)?;
            *hears_of = Interest::WRITE;
        }
        if intake.cancels {
            // What is to be waited for next is seen when that is over.
            return Ok(());
        }
        if !is_deaf && room > 0 && !intake.receives && !intake.awaits_bytes {
            let bulk = intake.is_bulk;
            (intake.receives, intake.awaits_bytes) = (!bulk, bulk);
            match bulk {
                true => self.ring.await_readable(socket.as_fd(), key)?,
                false => self.ring.keep_receiving(socket.as_fd(), key)?,
            }
        }
        Ok(())
    }

    /// Ends what is under way for the connection. Whether there is nothing.
    pub(super) fn end(&mut self, key: usize, connection: &mut Connection) -> bool {
        let intake = &mut connection.intake;
        if std::mem::take(&mut intake.sends) {
            self.sending.retain(|&other| other != key as u32);
        }
        if intake.is_under_way() && !std::mem::replace(&mut intake.cancels, true) {
            // Without it the socket would be open until its peer does something.
            let _ = self.ring.cancel(connection.socket.as_fd());
        }
        !intake.is_under_way()
    }

    /// Closes a socket for which nothing is under way: with the next call, or `now`, if others wait for its
    /// descriptor.
    pub(super) fn close(&mut self, connection: Connection, now: bool) -> Channel {
        let Connection { socket, conn, .. } = connection;
        if now {
            count(Quantity::OtherCalls, 1);
            drop(socket);
        } else {
            // If not by the ring, it is closed here.
            let _ = self.ring.close(socket);
        }
        conn
    }
}

impl Connection {
    /// Hands on bytes that were held. How many there were.
    pub(super) fn take_held(&mut self, service: &mut Service) -> usize {
        let mut held = std::mem::take(&mut self.intake.held);
        let n = held.len().min(self.conn.window(service));
        self.take(service, &held[..n]);
        if n < held.len() {
            held.drain(..n);
            self.intake.held = held;
        }
        n
    }

    /// Takes what the ring has received.
    fn receive(&mut self, service: &mut Service, bytes: &ReceivedBytes) {
        self.intake.is_bulk |= bytes.is_full();
        if !self.intake.holds() && bytes.len() <= self.conn.window(service) {
            self.take(service, bytes);
        } else {
            self.intake.held.extend_from_slice(bytes);
            self.intake.is_bulk = true;
        }
    }
}

impl Worker {
    /// Lets connections go on that something has happened to. Whether the event loop has something.
    pub(super) fn turn_ring(&mut self) -> bool {
        while let Some(event) = self.by_ring.as_mut().and_then(|by_ring| by_ring.ring.next_event()) {
            match event {
                RingEvent::Readable { key: LOOP } => {
                    if let Some(by_ring) = &mut self.by_ring {
                        by_ring.awaits_loop = false;
                    }
                }
                RingEvent::Readable { key } => self.on_ring(key, |connection, _| {
                    connection.intake.awaits_bytes = false;
                    connection.readable = true;
                    true
                }),
                RingEvent::Received { key, bytes, goes_on } => self.on_ring(key, |connection, service| {
                    connection.intake.receives = goes_on;
                    match bytes {
                        _ if connection.intake.is_over => {}
                        Ok(Some(bytes)) => connection.receive(service, &bytes),
                        // Read once more, behind what is held.
                        Ok(None) if connection.intake.holds() => connection.readable = true,
                        Ok(None) => connection.end(service),
                        Err(Errno::NOBUFS | Errno::CANCELED | Errno::INTR) => {}
                        Err(_) => return false,
                    }
                    true
                }),
            }
        }
        self.by_ring.as_ref().is_some_and(|by_ring| !by_ring.awaits_loop)
    }

    /// Something of a connection has ended, which `note` takes note of; it goes on, or is closed if that says
    /// no.
    fn on_ring(&mut self, key: u32, note: impl FnOnce(&mut Connection, &mut Service) -> bool) {
        let key = key as usize;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_sound = note(connection, &mut self.service);
        let intake = &mut connection.intake;
        let was_cancelled = intake.cancels && !intake.is_under_way();
        intake.cancels &= !was_cancelled;
        if intake.is_over {
            if was_cancelled {
                self.close(key);
            }
            return;
        }
        if intake.is_bulk && intake.receives && !std::mem::replace(&mut intake.cancels, true) {
            let cancelled =
                self.by_ring.as_mut().map(|by_ring| by_ring.ring.cancel(connection.socket.as_fd()));
            if cancelled.is_some_and(|cancelled| cancelled.is_err()) {
                return self.close(key);
            }
        }
        if is_sound { self.drive(key) } else { self.close(key) }
    }

    /// Sends what connections have to send, all together, and lets them go on.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn send_batch(&mut self) -> io::Result<()> {
        let Some(by_ring) = self.by_ring.as_mut().filter(|by_ring| by_ring.has_work()) else { return Ok(()) };
        let ByRing { ring, sending, batched, alone, .. } = by_ring;
        batched.clear();
        alone.clear();
        let mut batch = ring.batch();
        for key in sending.drain(..) {
            let Some(connection) = self.connections.get(key as usize) else { continue };
            match connection.add_to(&mut batch, &self.service) {
                Some((bytes, more)) => {
                    batch.end(batched.len() as u32, connection.socket.as_fd(), more);
                    batched.push((key, bytes));
                }
                None => {
                    batch.forget();
                    alone.push(key);
                }
            }
        }
        if !batch.is_empty() {
            batch.send()?;
        }
        let (batched, alone) = (std::mem::take(batched), std::mem::take(alone));
        for &key in batched.iter().map(|(key, _)| key).chain(&alone) {
            if let Some(connection) = self.connections.get_mut(key as usize) {
                connection.intake.sends = false;
            }
        }
        for i in 0..batched.len() {
            let sent = self.by_ring.as_ref().and_then(|by_ring| by_ring.ring.sent().get(i).copied());
            let Some(Sent { key: number, result }) = sent else { break };
            let Some(&(key, asked)) = batched.get(number as usize) else { continue };
            self.on_sent(key as usize, asked, result);
        }
        for &key in &alone {
            self.drive_by(key as usize, Calls::Own);
        }
        if let Some(by_ring) = &mut self.by_ring {
            (by_ring.batched, by_ring.alone) = (batched, alone);
        }
        Ok(())
    }

    /// Of `asked` bytes, a connection's socket has taken some.
    fn on_sent(&mut self, key: usize, asked: usize, result: Result<usize, Errno>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match result {
            Ok(n) => {
                count(Quantity::BytesReferenced, n);
                connection.wrote(&mut self.service, n, asked);
                connection.intake.is_bulk &= connection.has_unsent();
            }
            Err(Errno::AGAIN) => connection.writable = false,
            Err(Errno::INTR) => {}
            Err(_) => return self.close(key),
        }
        self.drive(key);
    }
}
