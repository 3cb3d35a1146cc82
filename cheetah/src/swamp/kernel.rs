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
        let Some(client) = self.clients.get_mut(key as usize) else { return };
        // Whatever comes of it: the server may have said much before it closed, and may take nothing before
        // it is heard.
        let mut sent = send_rest(client, &self.herd);
        loop {
            let Some(client) = self.clients.get_mut(key as usize) else { return };
            match recv(&client.socket, &mut *self.buffer, RecvFlags::empty()) {
                Ok((0, _)) => return self.lost(key),
                Ok((n, _)) => {
                    let now = self.events.clock().now();
                    client.is_up |= client.secure.is_none();
                    let mut bytes = &self.buffer[..n];
                    if let Some(secure) = &mut client.secure {
                        self.opened.clear();
                        if let Err(error) = secure.open(bytes, &mut self.opened) {
                            if !std::mem::replace(&mut self.told, true) {
                                tracing::error!("TLS fails: {error}");
                            }
                            return self.lost(key);
                        }
                        bytes = &self.opened;
                    }
                    // Otherwise the handshake goes on, or tickets came.
                    if !bytes.is_empty() {
                        let (_, standing) = self.herd.on_bytes(now, key, &mut client.conversation, bytes);
                        if standing.is_over {
                            self.close(key);
                            return;
                        }
                    }
                    sent = send_rest(client, &self.herd);
                    // A short read has emptied the socket; what comes raises an event.
                    if n < self.buffer.len() && !is_broken(sent) {
                        return;
                    }
                }
                Err(Errno::AGAIN | Errno::NOTCONN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return self.lost(key),
            }
        }
        if is_broken(sent) {
            self.lost(key);
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

/// Whether more will never be sent.
fn is_broken(sent: Result<(), Errno>) -> bool {
    !matches!(sent, Ok(()) | Err(Errno::AGAIN | Errno::NOTCONN))
}

/// Sends what is left of what is to be said.
fn send_rest(client: &mut Client, herd: &Herd) -> Result<(), Errno> {
    let sent = send_all(client, herd);
    client.conversation.still_held(client.secure.as_ref().map_or(0, |secure| secure.held()));
    sent
}

fn send_all(client: &mut Client, herd: &Herd) -> Result<(), Errno> {
    let Client { socket, secure, conversation, is_up } = client;
    let targets = &herd.options.targets;
    if let Some(secure) = secure {
        let plain = conversation.unsent(targets);
        let len = plain.len();
        secure.say(plain);
        conversation.handed_over(len);
        *is_up = secure.is_up();
        let sent = secure.flush(&mut Socket(socket));
        return sent.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use super::super::{Targets, Url};
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    /// A client that has been asked for one thing and could not say so yet, and the server's end.
    fn swarm() -> (Swarm, UnixStream) {
        let url: Url = "http://127.0.0.1/".parse().unwrap();
        let targets = Arc::new(Targets::new(&url, &["/".into()], true).unwrap());
        let options = Options {
            connections: 1,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(3600),
            ..Options::new("127.0.0.1:80".parse().unwrap(), targets)
        };
        let events = EventLoop::new().unwrap();
        let herd = Herd::new(options, events.clock().now());
        let buffer = vec![0; READ_BYTES].into();
        let mut swarm = Swarm { events, clients: Slab::new(), herd, buffer, opened: Vec::new(), told: false };
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let now = swarm.now();
        let (_, asked) = swarm.herd.next(now).unwrap();
        let conversation = swarm.herd.greet(now, 0, asked);
        swarm.clients.insert(Client { socket: ours.into(), secure: None, conversation, is_up: false });
        (swarm, theirs)
    }

    /// A server that has answered and is gone takes nothing more, which is found out first.
    #[test]
    fn what_was_said_before_the_end_is_heard() {
        let (mut swarm, mut theirs) = swarm();
        theirs.write_all(ANSWER).unwrap();
        drop(theirs);
        swarm.on_event(0);
        let ledger = &swarm.herd.ledger;
        // The second request is of a kept connection that has ended: not a failure.
        assert_eq!((ledger.answers(), ledger.failed(), swarm.clients.len()), (1, 0, 0));
    }

    /// A server that takes nothing before it is heard is heard.
    #[test]
    fn who_cannot_send_listens() {
        let (mut swarm, mut theirs) = swarm();
        let mut stuffed = 0;
        while let Ok(n) = send(&swarm.clients[0].socket, &[0; 4096], SendFlags::NOSIGNAL) {
            stuffed += n;
        }
        theirs.write_all(ANSWER).unwrap();
        swarm.on_event(0);
        assert_eq!((swarm.herd.ledger.answers(), swarm.herd.ledger.failed()), (1, 0));
        // Then there is room, and what was to be said next is.
        theirs.read_exact(&mut vec![0; stuffed]).unwrap();
        swarm.on_event(0);
        let mut said = [0; 16];
        theirs.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"GET / HTTP/1.1\r\n");
        assert_eq!(swarm.clients.len(), 1);
    }
}
