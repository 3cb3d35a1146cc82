//! Over the kernel's sockets: one thread, one epoll, edge-triggered. A request costs a `send` and a `recv`,
//! and a share of a wait.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use runtime::event_loop::EventLoop;
use runtime::poller::{Interest, Token, Trigger};
use runtime::time::Instant;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with, sockopt,
};
use slab::Slab;

use super::exchange::{Exchange, Outcome};
use super::herd::{Asked, Asker, Herd};
use super::ledger::{Failure, Ledger};
use super::secure::{Secrecy, Secure};
use super::{Options, Tell};

/// Read at once.
const READ_BYTES: usize = 256 << 10;

/// How often it is looked for answers that take too long, and progress is told.
const SWEEP: Duration = Duration::from_millis(100);

/// Asks as `options` say and gives what came of it.
///
/// # Errors
/// If the system has no descriptors left for us.
pub fn run(options: &Options, tell: Tell<'_>) -> io::Result<Ledger> {
    let events = EventLoop::new()?;
    let herd = Herd::new(options.clone(), events.clock().now());
    let mut swarm = Swarm {
        events,
        clients: Slab::new(),
        herd,
        buffer: vec![0; READ_BYTES].into(),
        opened: Vec::new(),
        told: false,
    };
    let mut watch = CpuWatch::default();
    let mut ready = Vec::new();
    let mut sweep_at = Instant::ZERO;
    loop {
        let now = swarm.now();
        watch.look(now, &mut swarm.herd);
        if swarm.herd.is_over(now) {
            break;
        }
        while let Some((asker, asked)) = swarm.herd.next(now) {
            match asker {
                Asker::Idle(key) => swarm.ask(key, asked),
                Asker::New => swarm.connect(asked)?,
            }
        }
        if now >= sweep_at {
            sweep_at = now + SWEEP;
            swarm.sweep(now);
            tell(now.saturating_since(Instant::ZERO));
        }
        let deadline = swarm.herd.deadline(now).min(sweep_at);
        ready.clear();
        ready.extend_from_slice(swarm.events.turn(Some(deadline))?);
        for event in &ready {
            swarm.on_event(event.token.0 as u32)?;
        }
    }
    let now = swarm.now();
    Ok(swarm.herd.finish(now))
}

/// The thread's processor time while it is counted.
#[derive(Debug, Default)]
pub(super) struct CpuWatch {
    began: Option<Duration>,
    is_over: bool,
}

impl CpuWatch {
    pub(super) fn look(&mut self, now: Instant, herd: &mut Herd) {
        if self.is_over || now < herd.counts_from() {
            return;
        }
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let used = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
        let began = *self.began.get_or_insert(used);
        if now >= herd.until() {
            self.is_over = true;
            herd.ledger.cpu = used - began;
        }
    }
}

struct Swarm {
    events: EventLoop,
    clients: Slab<Client>,
    herd: Herd,
    buffer: Box<[u8]>,
    /// What was in records.
    opened: Vec<u8>,
    /// That TLS fails was told.
    told: bool,
}

struct Client {
    socket: OwnedFd,
    secure: Option<Box<Secure>>,
    exchange: Exchange,
    /// When it was last asked something.
    asked_at: Instant,
    /// Bytes of the request that have gone out.
    sent: usize,
    /// Answers that it has brought.
    answers: u64,
}

impl Swarm {
    fn now(&self) -> Instant {
        self.events.clock().now()
    }

    fn connect(&mut self, asked: Asked) -> io::Result<()> {
        let addr = self.herd.options.addr;
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        let now = self.now();
        match connect(&socket, &addr) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(_) => {
                let mut exchange = Exchange::default();
                exchange.ask(asked);
                self.herd.on_end(now, &mut exchange, Some(Failure::Connect));
                self.herd.rest(now);
                self.herd.gone(u32::MAX);
                return Ok(());
            }
        }
        if now >= self.herd.counts_from() {
            self.herd.ledger.connections += 1;
        }
        let secure = self.herd.options.secrecy.as_ref().map(Secrecy::connect).transpose();
        let secure = secure.map_err(io::Error::other)?.map(Box::new);
        let entry = self.clients.vacant_entry();
        let key = entry.key();
        self.events.add(&socket, Token(key as u64), Interest::BOTH, Trigger::Edge)?;
        let mut exchange = Exchange::default();
        exchange.ask(asked);
        entry.insert(Client { socket, secure, exchange, asked_at: now, sent: 0, answers: 0 });
        Ok(())
    }

    fn ask(&mut self, key: u32, asked: Asked) {
        let now = self.now();
        let Some(client) = self.clients.get_mut(key as usize) else { return };
        client.exchange.ask(asked);
        (client.asked_at, client.sent) = (now, 0);
        client.secure.iter_mut().for_each(|secure| secure.ask());
        // What goes wrong shows when it is read, or as a lack of an answer.
        let _ = send_rest(client, &self.herd);
    }

    fn on_event(&mut self, key: u32) -> io::Result<()> {
        loop {
            let Some(client) = self.clients.get_mut(key as usize) else { return Ok(()) };
            match send_rest(client, &self.herd) {
                Ok(()) => {}
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(()),
                Err(_) => return self.lost(key),
            }
            match recv(&client.socket, &mut *self.buffer, RecvFlags::empty()) {
                Ok((0, _)) => return self.lost(key),
                Ok((n, _)) => {
                    let now = self.events.clock().now();
                    let mut bytes = &self.buffer[..n];
                    if let Some(secure) = &mut client.secure {
                        self.opened.clear();
                        if let Err(error) = secure.open(bytes, &mut self.opened) {
                            if !std::mem::replace(&mut self.told, true) {
                                tracing::error!("TLS fails: {error}");
                            }
                            return self.lost(key);
                        }
                        if self.opened.is_empty() {
                            // The handshake goes on, or tickets came.
                            continue;
                        }
                        bytes = &self.opened;
                    }
                    if let Outcome::Over { keeps, .. } = self.herd.on_bytes(now, &mut client.exchange, bytes)
                    {
                        client.answers += 1;
                        if !keeps || !self.herd.options.keep {
                            self.close(key);
                            return Ok(());
                        }
                        match self.herd.again(now, key) {
                            Some(asked) => self.ask(key, asked),
                            None => return Ok(()),
                        }
                    }
                    // A short read has emptied the socket; what comes raises an event.
                    if n < self.buffer.len() {
                        return Ok(());
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => return self.lost(key),
            }
        }
    }

    /// The connection has ended by itself.
    fn lost(&mut self, key: u32) -> io::Result<()> {
        let now = self.now();
        let Some(client) = self.clients.get_mut(key as usize) else { return Ok(()) };
        let asked = client.exchange.asked();
        // The server may end a kept connection at any time, so also just when it is asked again: then another
        // is asked.
        if let Some(asked) = asked.filter(|_| client.answers > 0 && client.exchange.is_unanswered()) {
            self.clients.remove(key as usize);
            return self.connect(asked);
        }
        let was_none = client.answers == 0 && client.exchange.is_unanswered() && client.sent == 0;
        if was_none {
            self.herd.rest(now);
        }
        self.herd.on_end(now, &mut client.exchange, was_none.then_some(Failure::Connect));
        self.close(key);
        Ok(())
    }

    fn close(&mut self, key: u32) {
        self.clients.remove(key as usize);
        self.herd.gone(key);
    }

    /// Gives up who waits for too long.
    fn sweep(&mut self, now: Instant) {
        let is_late =
            |client: &Client| client.exchange.asked().is_some() && self.herd.is_late(now, client.asked_at);
        let late: Vec<usize> = self.clients.iter().filter(|(_, c)| is_late(c)).map(|(key, _)| key).collect();
        for key in late {
            self.herd.on_end(now, &mut self.clients[key].exchange, Some(Failure::Late));
            self.close(key as u32);
        }
    }
}

/// Sends what is left of the request.
fn send_rest(client: &mut Client, herd: &Herd) -> Result<(), Errno> {
    let asked = client.exchange.asked();
    let request = asked.map(|asked| &herd.options.targets.get(asked.target).request);
    if let Some(secure) = &mut client.secure {
        let sent = secure.send(&mut Socket(&client.socket), request.map(|request| &request[..]));
        if sent.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))? {
            client.sent = request.map_or(0, |request| request.len());
        }
        return Ok(());
    }
    let Some(request) = request else { return Ok(()) };
    while client.sent < request.len() {
        match send(&client.socket, &request[client.sent..], SendFlags::NOSIGNAL) {
            Ok(n) => client.sent += n,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

struct Socket<'a>(&'a OwnedFd);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
