//! The kernel's sockets: one thread, one epoll, edge-triggered.
//!
//! A request costs one `recv` and one `sendmsg` that points into the image; long stretches of it go by
//! reference, with `sendfile` (`send`). Nothing is allocated for it: connections and their buffers are
//! recycled. A connection is taken when its first request is there (`TCP_DEFER_ACCEPT`) and read at once;
//! with the event loop it is registered when it has to be waited for, which a connection of one request never
//! has: accept, receive, send, close. The request is acknowledged by the answer, and the last bytes of a
//! connection are sent with `MSG_MORE`, so that the FIN of the `close` or `shutdown` right behind them is on
//! the same segment. Out of descriptors, or at the bound of connections, the loop stops accepting until one
//! has ended; the rest wait in the listener's queue. Time-outs stand in a timer wheel, one a connection that
//! is waited for.

mod by_ring;
mod connection;
mod listen;
mod send;

pub use listen::{adopt, listener, local_addr};

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use runtime::event_loop::EventLoop;
use runtime::payload::PayloadSource;
use runtime::poller::{Event, Interest, Token, Trigger};
use runtime::ring::SocketRing;
use runtime::stats::work::{Quantity, Work, count};
use runtime::time::Instant;
use runtime::timer_wheel::TimerWheel;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with, sockopt};
use slab::Slab;

use super::control::{self, Order, Orders, Shared};
use crate::channel::Channel;
use crate::clock::unix_now;
use crate::programs::Programs;
use crate::report::Report;
use crate::service::Service;
use by_ring::ByRing;
use connection::{Calls, Connection, Over, Turn};

/// Bytes of a `sendmsg` and of all writes of a connection before others get their turn.
const TURN_BYTES: usize = 1 << 20;

/// Requests read at once.
const READ_BYTES: usize = 64 * 1024;

/// Connections taken, and served as far as they go, before others get their turn.
const ACCEPT_BATCH: usize = 64;

/// Connections that may wait to be taken; the system cuts this down to its own limit.
const MAX_BACKLOG: i32 = 65_535;

/// Ended connections kept for their buffers.
const MAX_SPARE: usize = 1024;

/// Out of descriptors, accepting is tried again this often: others of the process may have given some back.
const STALL_RETRY: Duration = Duration::from_millis(500);

/// A lasting lack of descriptors is complained of this often.
const STALL_REPORTS: Duration = Duration::from_secs(10);

// Tokens of connections are their numbers, which never get that far; `u64::MAX` is the loop's own.
const LISTENER: Token = Token(u64::MAX - 1);
const ORDERS: Token = Token(u64::MAX - 2);
const TLS_LISTENER: Token = Token(u64::MAX - 3);

/// How the system calls of connections are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketCalls {
    /// By io_uring, those of many connections as one.
    Uring,
    /// One by one, where epoll says that something can be done.
    Epoll,
}

impl SocketCalls {
    /// By io_uring, if there is one; or else by epoll, which the log says once.
    pub fn best() -> SocketCalls {
        static BEST: LazyLock<SocketCalls> = LazyLock::new(|| match SocketCalls::probe() {
            Ok(()) => SocketCalls::Uring,
            Err(error) => {
                tracing::warn!("there is no io_uring for sockets ({error}): by epoll");
                SocketCalls::Epoll
            }
        });
        *BEST
    }

    /// Whether io_uring can be used.
    ///
    /// # Errors
    /// Why not.
    pub fn probe() -> io::Result<()> {
        // In a thread of its own: the end of a ring interrupts the calls of the thread that made it.
        thread::spawn(SocketRing::probe).join().unwrap_or(Err(io::ErrorKind::Other.into()))
    }
}

/// One event loop.
#[derive(Debug)]
pub struct Worker {
    events: EventLoop,
    /// What makes the calls of connections, if not they themselves.
    by_ring: Option<ByRing>,
    listener: Option<OwnedFd>,
    /// Whose connections are secured.
    tls_listener: Option<OwnedFd>,
    /// More connections may wait: others had to have their turn, or there is no descriptor for them, or as
    /// many as allowed are here. The time is when to look again even if none ends.
    accept_again: Option<Instant>,
    /// When that was last complained of.
    stall_reported: Option<Instant>,
    orders: Orders,
    shared: Arc<Shared>,
    service: Service,
    connections: Slab<Connection>,
    /// One timer a connection, by its number: at its deadline or before, since a deadline that moves away is
    /// only looked up when the old one has come.
    timers: TimerWheel<usize>,
    spare: Vec<Channel>,
    /// Connections that used up their turn.
    ready: VecDeque<usize>,
    read_buffer: Box<[u8]>,
    /// How long draining may take.
    drain_limit: Duration,
    drain_until: Option<Instant>,
}

impl Worker {
    /// A loop that accepts from `listener`.
    ///
    /// # Errors
    /// If the system has no more descriptors.
    pub fn new(
        calls: SocketCalls,
        listener: OwnedFd,
        orders: Orders,
        shared: Arc<Shared>,
        mut service: Service,
        drain_limit: Duration,
    ) -> io::Result<Worker> {
        let events = EventLoop::new()?;
        events.add(&listener, LISTENER, Interest::READ, Trigger::Edge)?;
        events.add(&orders, ORDERS, Interest::READ, Trigger::Level)?;
        service.attach(events.registrar(), events.waker())?;
        Ok(Worker {
            timers: TimerWheel::new(events.now()),
            events,
            by_ring: ByRing::new(calls),
            listener: Some(listener),
            tls_listener: None,
            accept_again: None,
            stall_reported: None,
            orders,
            shared,
            service,
            connections: Slab::new(),
            spare: Vec::new(),
            ready: VecDeque::new(),
            read_buffer: vec![0; READ_BYTES].into(),
            drain_limit,
            drain_until: None,
        })
    }

    /// Accepts from `listener`, too: connections that are to be secured ([`Service::secure`]).
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn listen_tls(&mut self, listener: OwnedFd) -> io::Result<()> {
        self.events.add(&listener, TLS_LISTENER, Interest::READ, Trigger::Edge)?;
        self.tls_listener = Some(listener);
        Ok(())
    }

    /// Serves until ordered to drain and nothing is left to do.
    ///
    /// # Errors
    /// If waiting for events fails, which leaves nothing to be done.
    pub fn run(mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::new();
        loop {
            self.wait(&mut events)?;
            let now = self.events.now();
            self.service.set_time(now, unix_now());
            if self.turn_ring() {
                events.extend_from_slice(self.events.turn(Some(Instant::ZERO))?);
            }
            for event in &events {
                match event.token {
                    LISTENER | TLS_LISTENER => self.accept(),
                    ORDERS => self.obey(),
                    token if Programs::owns(token) => self.service.on_program(event),
                    Token(key) => self.on_event(key as usize, event),
                }
            }
            self.service.turn_programs();
            self.service.turn_reads();
            for key in self.service.wakes.take() {
                let connection = self.connections.get_mut(key as usize);
                if let Some(connection) = connection.filter(|c| !c.intake.is_over) {
                    connection.conn.resume(&mut self.service);
                    self.drive(key as usize);
                }
            }
            for _ in 0..self.ready.len() {
                let Some(key) = self.ready.pop_front() else { break };
                // It may have been closed meanwhile, and its number given away.
                if self.connections.get_mut(key).is_some_and(|c| std::mem::take(&mut c.queued)) {
                    self.drive(key);
                }
            }
            while let Some((_, key)) = self.timers.expire(now) {
                self.on_timer(key);
            }
            if self.accept_again.is_some_and(|retry| now >= retry) {
                self.accept();
            }
            if self.is_drained(now) {
                break;
            }
        }
        for (_, connection) in &mut self.connections {
            connection.conn.retire(&mut self.service);
        }
        self.service.logs.flush();
        self.service.stats.closed += self.connections.len() as u64;
        // As long as there is a socket for each of its numbers.
        self.by_ring = None;
        self.connections.clear();
        self.shared.end(&self.report());
        Ok(())
    }

    fn wait(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        if self.service.latency.is_due() {
            self.service.latency.end_turn(self.events.clock().now());
        }
        self.service.turn_reads();
        self.send_batch()?;
        let has_sends = self.by_ring.as_ref().is_some_and(ByRing::has_work);
        let busy = has_sends || !self.ready.is_empty() || self.service.has_work();
        if !busy {
            self.service.logs.flush();
        }
        let deadline = if busy {
            Some(Instant::ZERO)
        } else {
            let programs = self.service.programs_deadline();
            [self.timers.next_expiry(), self.accept_again, self.drain_until, programs]
                .into_iter()
                .flatten()
                .min()
        };
        events.clear();
        match &mut self.by_ring {
            Some(by_ring) => by_ring.wait(&mut self.events, deadline)?,
            None => events.extend_from_slice(self.events.turn(deadline)?),
        }
        Ok(())
    }

    fn accept(&mut self) {
        self.accept_again = None;
        let more = self.accept_batch(false);
        if self.accept_batch(true) || more {
            self.accept_again = Some(self.events.now());
        }
    }

    /// Takes connections from a listener's queue and serves them as far as they go. Whether more may wait
    /// that could be taken at once.
    fn accept_batch(&mut self, secured: bool) -> bool {
        for _ in 0..ACCEPT_BATCH {
            let listener = if secured { &self.tls_listener } else { &self.listener };
            let Some(listener) = listener else { return false };
            if self.connections.len() >= self.service.options.max_connections {
                self.stall("as many connections as allowed are open");
                return false;
            }
            count(Quantity::CallsToReceive, 1);
            match acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok((socket, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    self.adopt(socket, peer, secured);
                }
                Err(Errno::AGAIN) => return false,
                // The peer gave up while it waited, or a signal came.
                Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::PERM) => {}
                // Most likely there is no descriptor left: go on when a connection closes, and look now and
                // then.
                Err(error) => {
                    self.stall(&error.to_string());
                    return false;
                }
            }
        }
        true
    }

    fn stall(&mut self, why: &str) {
        let now = self.events.now();
        self.accept_again = Some(now + STALL_RETRY);
        if self.stall_reported.is_none_or(|reported| now >= reported + STALL_REPORTS) {
            self.stall_reported = Some(now);
            tracing::warn!(connections = self.connections.len(), "accepting pauses: {why}");
        }
    }

    fn adopt(&mut self, socket: OwnedFd, peer: Option<SocketAddr>, secured: bool) {
        let mut conn = match self.spare.pop() {
            Some(mut conn) => {
                conn.reset(&mut self.service, peer, secured);
                conn
            }
            None => Channel::new(&mut self.service, peer, secured),
        };
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        // As many as there can be descriptors.
        conn.set_key(key as u32);
        entry.insert(Connection::new(socket, conn, &self.service));
        // The last ones, before draining, may have asked already, too: they are told good-bye next.
        if self.service.options.deferred_accept || self.drain_until.is_some() {
            self.drive(key);
            return;
        }
        if let Some(connection) = self.connections.get_mut(key).filter(|_| self.by_ring.is_some()) {
            connection.readable = false;
        }
        if self.listen_to(key) {
            // Its first request raises an event, if it is there already, too; a look now would mostly come
            // too early.
            self.set_timer(key);
        }
    }

    /// Sees to it that what the connection waits for raises an event: if it came meanwhile, at once.
    /// Otherwise the connection is closed.
    fn listen_to(&mut self, key: usize) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        if let Some(by_ring) = &mut self.by_ring {
            if let Err(error) = by_ring.listen_to(key, connection, &self.service, &self.events) {
                tracing::error!("a connection cannot be waited for: {error}");
                self.close(key);
                return false;
            }
            return true;
        }
        let (token, socket) = (Token(key as u64), &connection.socket);
        let wanted = match (connection.hears_of, connection.writable) {
            (Interest::BOTH, _) | (Interest::READ, true) => return true,
            (_, true) => Interest::READ,
            (_, false) => Interest::BOTH,
        };
        let told = match connection.hears_of {
            Interest::NONE => self.events.add(socket, token, wanted, Trigger::Edge),
            _ => self.events.modify(socket, token, wanted, Trigger::Edge),
        };
        if let Err(error) = told {
            tracing::error!("a connection cannot be waited for: {error}");
            self.close(key);
            return false;
        }
        connection.hears_of = wanted;
        true
    }

    fn on_event(&mut self, key: usize, event: &Event) {
        // An event may be left over from a socket that was closed in this very batch; then a look at the
        // connection that got its number finds nothing to do.
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.writable |= event.writable;
        if self.by_ring.is_some() {
            // Of bytes the ring tells.
            return self.drive(key);
        }
        connection.readable |= event.readable;
        connection.end_pending |= event.closed;
        connection.has_mark |= event.urgent;
        self.drive(key);
    }

    fn drive(&mut self, key: usize) {
        self.drive_by(key, if self.by_ring.is_some() { Calls::Batched } else { Calls::Own });
    }

    fn drive_by(&mut self, key: usize, calls: Calls) {
        let Some(connection) = self.connections.get_mut(key).filter(|c| !c.intake.is_over) else { return };
        connection.starved = false;
        let turn = connection.turn(&mut self.service, &mut self.read_buffer, calls);
        match turn {
            Ok(turn) => {
                match (turn, &mut self.by_ring) {
                    (Turn::Send, Some(by_ring)) => by_ring.send_soon(key, connection),
                    (Turn::Again, _) if !std::mem::replace(&mut connection.queued, true) => {
                        self.ready.push_back(key);
                    }
                    _ => {}
                }
                if self.listen_to(key) {
                    self.set_timer(key);
                }
            }
            Err(Over) => self.close(key),
        }
    }

    /// Sees to it that the connection's timer fires no later than its deadline. In the usual case, a deadline
    /// that has moved away with the last request, nothing is touched.
    fn set_timer(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(deadline) = connection.conn.deadline(&self.service) else { return };
        match connection.timer {
            Some((_, at)) if at <= deadline => {}
            Some((id, _)) if self.timers.reschedule(id, deadline) => connection.timer = Some((id, deadline)),
            _ => connection.timer = Some((self.timers.schedule(deadline, key), deadline)),
        }
    }

    /// The connection's timer has fired: its deadline has come, or has moved away meanwhile.
    fn on_timer(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.timer = None;
        if connection.conn.on_timeout(&mut self.service) {
            if connection.conn.is_aborted() {
                // Nobody takes what the socket still holds: a reset frees it, where a close would leave it to
                // the kernel's time-outs. Should this fail, that is what happens.
                let _ = sockopt::set_socket_linger(&connection.socket, Some(Duration::ZERO));
            }
            self.drive(key);
        } else {
            self.set_timer(key);
        }
    }

    fn close(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if let Some((id, _)) = connection.timer.take() {
            self.timers.cancel(id);
        }
        if let Some(by_ring) = &mut self.by_ring
            && !by_ring.end(key, connection)
        {
            // Once that is over.
            connection.intake.is_over = true;
            return;
        }
        let connection = self.connections.remove(key);
        let mut conn = match &mut self.by_ring {
            // Accepting, which comes before the next call of the ring, would not find its descriptor free.
            Some(by_ring) => by_ring.close(connection, self.accept_again.is_some()),
            None => {
                count(Quantity::OtherCalls, 1);
                let Connection { socket, conn, .. } = connection;
                drop(socket);
                conn
            }
        };
        self.service.stats.closed += 1;
        // Let go of the site that its responses were of.
        conn.retire(&mut self.service);
        if !self.service.options.pcb_pool {
            drop(conn);
        } else if self.spare.len() < MAX_SPARE.min(self.connections.len().max(64)) {
            self.spare.push(conn);
        } else {
            // After a rush, what it left behind goes one by one.
            self.spare.pop();
        }
        if self.accept_again.is_some() {
            // Looked at in the next turn: accepting here would nest as deep as connections come and go.
            self.accept_again = Some(self.events.now());
        }
    }

    fn obey(&mut self) {
        while let Some(order) = self.orders.next() {
            match order {
                Order::Reload => control::take_up(&mut self.service, &self.shared),
                Order::ReopenLog => self.service.logs.reopen(),
                Order::Report => self.shared.answer(self.report()),
                Order::Drain if self.drain_until.is_some() => break,
                Order::Drain => {
                    self.drain_until = Some(self.events.now() + self.drain_limit);
                    // Whoever has asked already is served.
                    for _ in 0..=MAX_BACKLOG as usize / ACCEPT_BATCH {
                        if !(self.accept_batch(false) | self.accept_batch(true)) {
                            break;
                        }
                    }
                    self.hear_ring();
                    (self.listener, self.tls_listener, self.accept_again) = (None, None, None);
                    self.service.draining = true;
                    let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
                    for key in keys {
                        // First what has come already; then, if it asked for nothing, good-bye.
                        self.drive(key);
                        if let Some(connection) = self.connections.get_mut(key) {
                            connection.conn.drain(&mut self.service);
                            self.drive(key);
                        }
                    }
                    break;
                }
            }
        }
    }

    /// Hears what has come for connections, also for those that the ring was not told of yet.
    fn hear_ring(&mut self) {
        // The first call tells it of them, the second asks for what it found.
        for _ in 0..2 {
            let Some(by_ring) = &mut self.by_ring else { return };
            if by_ring.wait(&mut self.events, Some(Instant::ZERO)).is_err() {
                // The loop's own wait will say so.
                return;
            }
            self.turn_ring();
        }
    }

    fn report(&self) -> Report {
        let unsent = |(_, connection): (usize, &Connection)| {
            connection.conn.end() - connection.conn.acknowledged_end()
        };
        Report {
            stats: self.service.stats.clone(),
            latency: self.service.latency.clone(),
            work: Work::of_this_thread(),
            open: self.connections.len() as u64,
            held_bytes: self.connections.iter().map(unsent).sum(),
            cache: self.service.programs.as_ref().and_then(|programs| programs.cache()),
            ..Report::default()
        }
    }

    fn is_drained(&self, now: Instant) -> bool {
        self.drain_until.is_some_and(|until| self.connections.is_empty() || now >= until)
    }
}
