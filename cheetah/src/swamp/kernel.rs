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

use super::conversation::Conversation;
use super::exchange::Asked;
use super::herd::{Asker, Herd};
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
            swarm.on_event(event.token.0 as u32);
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
    conversation: Conversation,
    /// There is somebody at the other end, who has heard something.
    is_up: bool,
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
                self.herd.record(now, asked, Err(Failure::Connect));
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
        let conversation = self.herd.greet(now, key as u32, asked);
        entry.insert(Client { socket, secure, conversation, is_up: false });
        Ok(())
    }

    fn ask(&mut self, key: u32, asked: Asked) {
        let now = self.now();
        let Some(client) = self.clients.get_mut(key as usize) else { return };
        client.conversation.ask(now, asked, &self.herd.options.targets);
        // What goes wrong shows when it is read, or as a lack of an answer.
        let _ = send_rest(client, &self.herd);
    }

    fn on_event(&mut self, key: u32) {
        loop {
            let Some(client) = self.clients.get_mut(key as usize) else { return };
            match send_rest(client, &self.herd) {
                Ok(()) => {}
                Err(Errno::AGAIN | Errno::NOTCONN) => return,
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
                    let (_, standing) = self.herd.on_bytes(now, key, &mut client.conversation, bytes);
                    if standing.is_over {
                        self.close(key);
                        return;
                    }
                    // What goes wrong shows when it is read, or as a lack of an answer.
                    let _ = send_rest(client, &self.herd);
                    // A short read has emptied the socket; what comes raises an event.
                    if n < self.buffer.len() {
                        return;
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => return self.lost(key),
            }
        }
    }

    /// The connection has ended by itself.
    fn lost(&mut self, key: u32) {
        let now = self.now();
        let Some(client) = self.clients.get_mut(key as usize) else { return };
        let failure = (!client.is_up).then_some(Failure::Connect);
        if failure.is_some() {
            self.herd.rest(now);
        }
        self.herd.on_end(now, &mut client.conversation, failure);
        self.close(key);
    }

    fn close(&mut self, key: u32) {
        self.clients.remove(key as usize);
        self.herd.gone(key);
    }

    /// Gives up who waits for too long.
    fn sweep(&mut self, now: Instant) {
        let is_late = |client: &Client| self.herd.has_late(now, &client.conversation);
        let late: Vec<usize> = self.clients.iter().filter(|(_, c)| is_late(c)).map(|(key, _)| key).collect();
        for key in late {
            self.herd.on_end(now, &mut self.clients[key].conversation, Some(Failure::Late));
            self.close(key as u32);
        }
    }
}

/// Sends what is left of what is to be said.
fn send_rest(client: &mut Client, herd: &Herd) -> Result<(), Errno> {
    let Client { socket, secure, conversation, is_up } = client;
    let targets = &herd.options.targets;
    if let Some(secure) = secure {
        let plain = conversation.unsent(targets);
        let len = plain.len();
        secure.say(plain);
        conversation.handed_over(len);
        let sent = secure.flush(&mut Socket(socket));
        sent.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        *is_up = secure.is_up();
        return Ok(());
    }
    loop {
        let plain = conversation.unsent(targets);
        if plain.is_empty() {
            return Ok(());
        }
        match send(&*socket, plain, SendFlags::NOSIGNAL) {
            Ok(n) => {
                conversation.handed_over(n);
                *is_up = true;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
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
