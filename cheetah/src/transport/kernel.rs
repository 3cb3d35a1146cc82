//! The kernel's sockets: one thread, one epoll, edge-triggered.
//!
//! A request costs one `recv` and one `sendmsg` that points into the image; long stretches of it go by reference, with
//! `sendfile` (`send`). Nothing is allocated for it: connections and
//! their buffers are recycled. A connection is taken when its first request is there (`TCP_DEFER_ACCEPT`) and read at once;
//! with the event loop it is registered when it has to be waited for, which a connection of one request never has: accept,
//! receive, send, close. The request is acknowledged by the answer, and the last bytes of a connection are sent with
//! `MSG_MORE`, so that the FIN of the `close` or `shutdown` right behind them is on the same segment. Out of descriptors, or
//! at the bound of connections, the loop stops accepting until one has ended; the rest wait in the listener's queue.
//! Time-outs stand in a timer wheel, one a connection that is waited for.

mod send;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use runtime::event_loop::EventLoop;
use runtime::payload::PayloadSource;
use runtime::poller::{Event, Interest, Token, Trigger};
use runtime::sockets;
use runtime::stats::work::{Quantity, Work, count};
use runtime::time::Instant;
use runtime::timer_wheel::{TimerId, TimerWheel};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType, acceptfrom_with, bind, getsockname, listen,
    recv, shutdown, socket_with, sockopt,
};
use slab::Slab;

use super::control::{self, Order, Orders, Shared};
use crate::channel::Channel;
use crate::programs::Programs;
use crate::report::Report;
use crate::service::{Options, Service};
use crate::transport::unix_now;

/// Bytes of a `sendmsg` and of all writes of a connection before others get their turn.
const TURN_BYTES: usize = 1 << 20;

/// Requests read at once.
const READ_BYTES: usize = 64 * 1024;

/// Connections taken, and served as far as they go, before others get their turn.
const ACCEPT_BATCH: usize = 64;

/// Connections that may wait to be taken; the system cuts this down to its own limit.
const MAX_BACKLOG: i32 = 65_535;

/// Whoever connects and asks nothing for so many seconds is taken then: Linux counts in repeated SYN-ACKs.
const DEFER_TIME: Duration = Duration::from_secs(1);

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

/// A bound, listening socket. Connections wait in its queue until a loop takes them.
///
/// # Errors
/// Whatever the system says: address in use, no permission.
pub fn listener(addr: SocketAddr, shared_port: bool, options: &Options) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if shared_port {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    // Responses leave whole anyhow; waiting for more would only delay the last segment. Connections inherit it.
    sockopt::set_tcp_nodelay(&socket, true)?;
    // A pointer into the stream, not a byte beside it (RFC 6093 section 3.1), as on our own TCP/IP. Inherited, too.
    sockopt::set_socket_oobinline(&socket, true)?;
    bind(&socket, &addr)?;
    if options.deferred_accept {
        sockets::defer_accept(&socket, DEFER_TIME)?;
    }
    listen(&socket, MAX_BACKLOG)?;
    if options.packet_merging {
        // What has just come is acknowledged by the answer, from a connection's first request on. Inherited if said after
        // `listen`, which forgets what was said before.
        sockopt::set_tcp_quickack(&socket, false)?;
    }
    Ok(socket)
}

/// A listening socket that another has made, as one of ours: it may be of the file system.
///
/// # Errors
/// If it does not listen, or whatever the system says.
pub fn adopt(socket: impl AsFd, options: &Options) -> io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(socket, 0)?;
    if sockopt::socket_type(&socket)? != SocketType::STREAM || !sockopt::socket_acceptconn(&socket)? {
        let why = "the socket that was handed over does not listen for connections (ListenStream=)";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    rustix::io::ioctl_fionbio(&socket, true)?;
    if SocketAddr::try_from(getsockname(&socket)?).is_ok() {
        sockopt::set_tcp_nodelay(&socket, true)?;
        sockopt::set_socket_oobinline(&socket, true)?;
        if options.deferred_accept {
            sockets::defer_accept(&socket, DEFER_TIME)?;
        }
        sockopt::set_tcp_quickack(&socket, !options.packet_merging)?;
    }
    Ok(socket)
}

/// The address that a socket is bound to; 0.0.0.0:0 of one in the file system.
///
/// # Errors
/// Whatever the system says.
pub fn local_addr(socket: impl AsFd) -> io::Result<SocketAddr> {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    Ok(SocketAddr::try_from(getsockname(socket)?).unwrap_or(nowhere))
}

/// One event loop.
#[derive(Debug)]
pub struct Worker {
    events: EventLoop,
    listener: Option<OwnedFd>,
    /// Whose connections are secured.
    tls_listener: Option<OwnedFd>,
    /// More connections may wait: others had to have their turn, or there is no descriptor for them, or as many as allowed
    /// are here. The time is when to look again even if none ends.
    accept_again: Option<Instant>,
    /// When that was last complained of.
    stall_reported: Option<Instant>,
    orders: Orders,
    shared: Arc<Shared>,
    service: Service,
    connections: Slab<Connection>,
    /// One timer a connection, by its number: at its deadline or before, since a deadline that moves away is only
    /// looked up when the old one has come.
    timers: TimerWheel<usize>,
    spare: Vec<Channel>,
    /// Connections that used up their turn.
    ready: VecDeque<usize>,
    read_buffer: Box<[u8]>,
    /// How long draining may take.
    drain_limit: Duration,
    drain_until: Option<Instant>,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    conn: Channel,
    readable: bool,
    writable: bool,
    /// What raises an event. Nothing, until there is something to wait for; room to write once there was none, for most
    /// connections never lack it.
    hears_of: Interest,
    /// The peer's FIN is in the socket, perhaps behind data.
    end_pending: bool,
    /// Urgent data has come: a read ends at its mark, whatever lies behind it.
    has_mark: bool,
    /// What comes is acknowledged whether there is an answer or not.
    acknowledges: bool,
    /// Our FIN is sent.
    shut_down: bool,
    queued: bool,
    timer: Option<(TimerId, Instant)>,
    /// What is to be written next is not resident: the connection will be woken.
    starved: bool,
}

/// What is to become of a connection after its turn.
enum Turn {
    /// Nothing to do until an event comes.
    Wait,
    /// It could go on, but others are waiting.
    Again,
}

/// The connection is to be closed.
struct Over;

impl Worker {
    /// A loop that accepts from `listener`.
    ///
    /// # Errors
    /// If the system has no more descriptors.
    pub fn new(
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
                if let Some(connection) = self.connections.get_mut(key as usize) {
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
        self.connections.clear();
        self.shared.end(&self.report());
        Ok(())
    }

    fn wait(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        if self.service.latency.is_due() {
            self.service.latency.end_turn(self.events.clock().now());
        }
        self.service.turn_reads();
        let busy = !self.ready.is_empty() || self.service.has_work();
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
        let ready = self.events.turn(deadline)?;
        events.clear();
        events.extend_from_slice(ready);
        Ok(())
    }

    fn accept(&mut self) {
        self.accept_again = None;
        let more = self.accept_batch(false);
        if self.accept_batch(true) || more {
            self.accept_again = Some(self.events.now());
        }
    }

    /// Takes connections from a listener's queue and serves them as far as they go. Whether more may wait that could be
    /// taken at once.
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
                // Most likely there is no descriptor left: go on when a connection closes, and look now and then.
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
        entry.insert(Connection {
            socket,
            conn,
            readable: true,
            writable: true,
            hears_of: Interest::NONE,
            end_pending: false,
            has_mark: false,
            acknowledges: !self.service.options.packet_merging,
            shut_down: false,
            queued: false,
            timer: None,
            starved: false,
        });
        if self.service.options.deferred_accept {
            self.drive(key);
        } else if self.listen_to(key) {
            // Its first request raises an event, if it is there already, too; a look now would mostly come too early.
            self.set_timer(key);
        }
    }

    /// Sees to it that what the connection waits for raises an event: if it came meanwhile, at once. Otherwise the connection
    /// is closed.
    fn listen_to(&mut self, key: usize) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
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
        // An event may be left over from a socket that was closed in this very batch; then a look at the connection that
        // got its number finds nothing to do.
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.readable |= event.readable;
        connection.writable |= event.writable;
        connection.end_pending |= event.closed;
        connection.has_mark |= event.urgent;
        self.drive(key);
    }

    fn drive(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.starved = false;
        let turn = connection.turn(&mut self.service, &mut self.read_buffer);
        match turn {
            Ok(turn) => {
                if matches!(turn, Turn::Again) && !std::mem::replace(&mut connection.queued, true) {
                    self.ready.push_back(key);
                }
                if self.listen_to(key) {
                    self.set_timer(key);
                }
            }
            Err(Over) => self.close(key),
        }
    }

    /// Sees to it that the connection's timer fires no later than its deadline. In the usual case, a deadline that has
    /// moved away with the last request, nothing is touched.
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
                // Nobody takes what the socket still holds: a reset frees it, where a close would leave it to the
                // kernel's time-outs. Should this fail, that is what happens.
                let _ = sockopt::set_socket_linger(&connection.socket, Some(Duration::ZERO));
            }
            self.drive(key);
        } else {
            self.set_timer(key);
        }
    }

    fn close(&mut self, key: usize) {
        let Connection { socket, mut conn, timer, .. } = self.connections.remove(key);
        drop(socket);
        count(Quantity::OtherCalls, 1);
        if let Some((id, _)) = timer {
            self.timers.cancel(id);
        }
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
                    // Whoever has asked already is served.
                    for _ in 0..=MAX_BACKLOG as usize / ACCEPT_BATCH {
                        if !(self.accept_batch(false) | self.accept_batch(true)) {
                            break;
                        }
                    }
                    (self.listener, self.tls_listener, self.accept_again) = (None, None, None);
                    self.service.draining = true;
                    self.drain_until = Some(self.events.now() + self.drain_limit);
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

impl Connection {
    /// Writes and reads until neither gets further, or others should have their turn.
    fn turn(&mut self, service: &mut Service, read_buffer: &mut [u8]) -> Result<Turn, Over> {
        let mut left = TURN_BYTES;
        loop {
            if self.conn.is_aborted() {
                return Err(Over);
            }
            let unsent = self.conn.end() > self.conn.acknowledged_end();
            if unsent && self.writable && !self.starved {
                left = left.saturating_sub(self.write(service)?);
            } else if self.conn.is_finished() && !unsent && !self.conn.lingers() {
                return Err(Over);
            } else if self.conn.is_finished() && !unsent && !self.shut_down {
                // The peer may still be sending: our end first, and what it sends is thrown away until it has seen that.
                count(Quantity::CallsToSend, 1);
                shutdown(&self.socket, Shutdown::Write).map_err(|_| Over)?;
                self.shut_down = true;
            } else if self.readable && self.conn.window(service) > 0 {
                // However little came, it was a call.
                left = left.saturating_sub(self.read(service, read_buffer)?.max(1024));
            } else {
                return Ok(Turn::Wait);
            }
            if left == 0 {
                return Ok(Turn::Again);
            }
        }
    }

    /// Bytes read; 0 when there were none, or none will follow.
    fn read(&mut self, service: &mut Service, buffer: &mut [u8]) -> Result<usize, Over> {
        let len = buffer.len().min(self.conn.window(service));
        let buffer = &mut buffer[..len];
        count(Quantity::CallsToReceive, 1);
        match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => {
                self.readable = false;
                self.conn.on_end(service);
                Ok(0)
            }
            Ok((n, _)) => {
                // A short read has emptied the socket: the next bytes raise an event, only a FIN that was announced
                // already does not.
                self.readable = n == len || self.end_pending || self.has_mark;
                self.conn.on_bytes(service, &buffer[..n]);
                if !self.acknowledges && self.conn.end() == self.conn.acknowledged_end() {
                    // The peer may wait for that before it sends the rest of its request (Nagle's algorithm). If this
                    // fails, it waits a little.
                    self.acknowledges = true;
                    count(Quantity::OtherCalls, 1);
                    let _ = sockopt::set_tcp_quickack(&self.socket, true);
                }
                Ok(n)
            }
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(0)
            }
            Err(Errno::INTR) => Ok(0),
            Err(_) => Err(Over),
        }
    }
}
