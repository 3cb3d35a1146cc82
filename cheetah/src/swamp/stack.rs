//! Over our own TCP/IP: the same herd, its connections' blocks in a slab, requests sent from where they lie.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use netstack::application::{Application, CloseReason, Key, Pcb, Stream};
use netstack::device::Device;
use netstack::driver::{self, Driver};
use netstack::sharing::Sharing;
use netstack::stack::{AddressDetection, Stack};
use runtime::payload::{PayloadSource, Piece, Pieces};
use runtime::time::Instant;
use slab::Slab;

use super::conversation::Conversation;
use super::exchange::Asked;
use super::herd::{Asker, Herd};
use super::kernel::CpuWatch;
use super::ledger::{Failure, Ledger};
use super::secure::{Secrecy, Secure};
use super::target::Targets;
use super::{Options, Tell, lacks};

/// How often it is looked for answers that take too long, and progress is told.
const SWEEP: Duration = Duration::from_millis(100);

/// Where we are.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Our address and the prefix length of its network.
    pub addr: (Ipv4Addr, u8),
    /// The way out of that network.
    pub gateway: Option<Ipv4Addr>,
}

/// As [`super::run_on_kernel`], over `device`. Of several threads with one address each has its part of what
/// they share, from which it takes the ports that it asks from.
///
/// # Errors
/// If the device is of no use (any more), or the server is not to be reached from these addresses.
pub fn run<D: Device>(
    device: D,
    sharing: Option<Sharing>,
    addresses: Addresses,
    options: &Options,
    tell: Tell<'_>,
) -> io::Result<Ledger> {
    let (addr, prefix_len) = addresses.addr;
    let mut config = driver::config(&device, addr, prefix_len)?;
    config.gateway = addresses.gateway;
    config.share = sharing.as_ref().map(Sharing::share).unwrap_or_default();
    if !config.share.is_first() {
        config.address_detection = AddressDetection::None;
    }
    let app = Swarm {
        clients: Slab::new(),
        herd: Herd::new(options.clone(), Instant::ZERO),
        now: Instant::ZERO,
        vacated: Vec::new(),
        opened: Vec::new(),
        unreachable: false,
        told: false,
    };
    let mut driver = Driver::new(device, Stack::new(config), app)?;
    sharing.map_or(Ok(()), |sharing| driver.share(sharing))?;
    let began = driver.events().clock().now();
    driver.app_mut().herd = Herd::new(options.clone(), began);
    let mut watch = CpuWatch::default();
    let mut sweep_at = Instant::ZERO;
    loop {
        let now = driver.events().clock().now();
        let (stack, app) = driver.parts();
        app.now = now;
        watch.look(now, &mut app.herd);
        if app.herd.is_over(now) {
            break;
        }
        if app.unreachable {
            return Err(lacks(
                "the server does not answer to ARP, or there is no way to it from this address",
            ));
        }
        for key in std::mem::take(&mut app.vacated) {
            app.herd.gone(key);
        }
        while let Some((asker, asked)) = app.herd.next(now) {
            match asker {
                Asker::Idle(key) => {
                    app.ask(key, asked);
                    stack.wake(Key(key));
                }
                Asker::New => connect(now, stack, app, asked)?,
            }
        }
        if now >= sweep_at {
            sweep_at = now + SWEEP;
            for key in app.late() {
                stack.abort(now, Key(key), app);
            }
            tell(now.saturating_since(began));
        }
        let deadline = app.herd.deadline(now).min(sweep_at);
        driver.wait(Some(deadline))?;
        driver.app_mut().now = driver.events().clock().now();
        driver.work()?;
    }
    let now = driver.events().clock().now();
    let (_, _, app) = driver.into_parts();
    Ok(app.herd.finish(now))
}

fn connect(now: Instant, stack: &mut Stack, app: &mut Swarm, asked: Asked) -> io::Result<()> {
    let targets = Arc::clone(&app.herd.options.targets);
    let secrecy = app.herd.options.secrecy.as_ref();
    let secure = secrecy.map(Secrecy::connect).transpose().map_err(io::Error::other)?;
    let is_made = secure.is_some() || app.herd.options.http2.is_some();
    let bytes = is_made.then(Vec::new);
    let mut requests =
        Requests { targets, queue: VecDeque::new(), bytes, secure, end: 0, is_finished: false };
    let remote = app.herd.options.addr;
    let entry = app.clients.vacant_entry();
    let key = u32::try_from(entry.key()).map_err(io::Error::other)?;
    let mut conversation = app.herd.greet(now, key, asked);
    requests.take(&mut conversation);
    let kept = |pcb: Pcb| {
        entry.insert((pcb, Client { conversation, requests, is_given_up: false }));
        Some(Key(key))
    };
    stack.connect(now, None, remote, kept).map_err(|error| lacks(&format!("no connection: {error:?}")))?;
    if now >= app.herd.counts_from() {
        app.herd.ledger.connections += 1;
    }
    Ok(())
}

struct Swarm {
    clients: Slab<(Pcb, Client)>,
    herd: Herd,
    now: Instant,
    /// Connections that are gone, or of no use to the herd any more.
    vacated: Vec<u32>,
    /// What was in records.
    opened: Vec<u8>,
    unreachable: bool,
    /// That TLS fails was told.
    told: bool,
}

struct Client {
    conversation: Conversation,
    requests: Requests,
    /// Another has its place with the herd; this one only ends.
    is_given_up: bool,
}

/// What has been said and is not acknowledged, as a stream of bytes.
struct Requests {
    targets: Arc<Targets>,
    /// Requests that are sent from where they lie, and where in the stream each begins: of HTTP/1.1 in the
    /// clear.
    queue: VecDeque<(u64, usize)>,
    /// Of all else, the bytes.
    bytes: Option<Vec<u8>>,
    secure: Option<Secure>,
    end: u64,
    is_finished: bool,
}

impl Requests {
    /// Takes what the conversation has to say, and TLS.
    fn take(&mut self, conversation: &mut Conversation) {
        let plain = conversation.unsent(&self.targets);
        let len = plain.len();
        let Some(bytes) = &mut self.bytes else {
            if let Conversation::One(exchange) = conversation
                && len > 0
                && let Some(target) = exchange.target()
            {
                self.queue.push_back((self.end, target));
                self.end += len as u64;
                exchange.handed_over(len);
            }
            return;
        };
        let before = bytes.len();
        match &mut self.secure {
            Some(secure) => {
                secure.say(plain);
                // Writing to memory does not fail.
                let _ = secure.flush(bytes);
            }
            None => bytes.extend_from_slice(plain),
        }
        self.end += (bytes.len() - before) as u64;
        conversation.handed_over(len);
    }

    /// Bytes that were taken and have not arrived.
    fn held(&self) -> usize {
        self.bytes.as_ref().map_or(0, Vec::len) + self.secure.as_ref().map_or(0, Secure::held)
    }
}

/// A connection with what all have in common.
struct View<'a> {
    key: u32,
    client: &'a mut Client,
    herd: &'a mut Herd,
    vacated: &'a mut Vec<u32>,
    opened: &'a mut Vec<u8>,
    told: &'a mut bool,
    now: Instant,
}

impl Swarm {
    fn ask(&mut self, key: u32, asked: Asked) {
        let now = self.now;
        if let Some((_, client)) = self.clients.get_mut(key as usize) {
            client.conversation.ask(now, asked, &self.herd.options.targets);
            client.requests.take(&mut client.conversation);
        }
    }

    /// Who waits for too long.
    fn late(&self) -> Vec<u32> {
        let is_late = |client: &Client| self.herd.has_late(self.now, &client.conversation);
        self.clients.iter().filter(|(_, (_, client))| is_late(client)).map(|(key, _)| key as u32).collect()
    }
}

impl View<'_> {
    /// The connection ends; the herd may have another.
    fn give_up(&mut self) {
        self.client.requests.is_finished = true;
        if !std::mem::replace(&mut self.client.is_given_up, true) {
            self.vacated.push(self.key);
        }
    }
}

impl PayloadSource for View<'_> {
    fn end(&self) -> u64 {
        self.client.requests.end
    }

    fn is_finished(&self) -> bool {
        self.client.requests.is_finished
    }

    fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>) -> usize {
        let requests = &self.client.requests;
        if let Some(bytes) = &requests.bytes {
            let from = bytes.len() - (requests.end - offset) as usize;
            let bytes = &bytes[from..][..len.min(bytes.len() - from)];
            if !bytes.is_empty() {
                out.push(Piece::new(bytes));
            }
            return bytes.len();
        }
        let mut given = 0;
        for &(start, target) in &requests.queue {
            let bytes = &requests.targets.get(target).request;
            let from = (offset + given as u64).saturating_sub(start).min(bytes.len() as u64) as usize;
            let to = bytes.len().min(from + (len - given));
            if from < to {
                out.push(Piece::new(&bytes[from..to]));
                given += to - from;
            }
        }
        given
    }

    fn acknowledged(&mut self, offset: u64) {
        let Requests { targets, queue, bytes, end, .. } = &mut self.client.requests;
        if let Some(bytes) = bytes {
            bytes.drain(..bytes.len() - (*end - offset) as usize);
        }
        while let Some(&(start, target)) = queue.front()
            && start + targets.get(target).request.len() as u64 <= offset
        {
            queue.pop_front();
        }
    }
}

impl Stream for View<'_> {
    fn receive(&mut self, _now: Instant, bytes: &[u8]) -> usize {
        if self.client.is_given_up {
            return bytes.len();
        }
        let Client { conversation, requests, .. } = &mut *self.client;
        conversation.still_held(requests.held());
        let mut plain = bytes;
        if let Some(secure) = &mut requests.secure {
            self.opened.clear();
            let result = secure.open(bytes, self.opened);
            if let Err(error) = result {
                if !std::mem::replace(self.told, true) {
                    tracing::error!("TLS fails: {error}");
                }
                // An alert, if that is what there is.
                requests.take(conversation);
                self.receive_finished(self.now);
                return bytes.len();
            }
            plain = &self.opened[..];
        }
        // Otherwise the handshake goes on, or tickets came.
        if !plain.is_empty() {
            let (_, standing) = self.herd.on_bytes(self.now, self.key, conversation, plain);
            if standing.is_over {
                self.give_up();
                return bytes.len();
            }
        }
        requests.take(conversation);
        bytes.len()
    }

    fn window(&self) -> usize {
        1 << 20
    }

    fn receive_finished(&mut self, _now: Instant) {
        if !self.client.is_given_up {
            self.herd.on_end(self.now, &mut self.client.conversation, None);
            self.give_up();
        }
    }
}

impl Application for Swarm {
    type Stream<'a> = View<'a>;

    fn accept(&mut self, _now: Instant, _pcb: Pcb) -> Option<Key> {
        None
    }

    fn connection(&mut self, key: Key) -> Option<(&mut Pcb, View<'_>)> {
        let Swarm { clients, herd, now, vacated, opened, told, .. } = self;
        let (pcb, client) = clients.get_mut(key.0 as usize)?;
        Some((pcb, View { key: key.0, client, herd, vacated, opened, told, now: *now }))
    }

    fn closed(&mut self, _now: Instant, key: Key, reason: CloseReason) {
        let Some((_, mut client)) = self.clients.try_remove(key.0 as usize) else { return };
        if client.is_given_up {
            return;
        }
        let failure = match reason {
            CloseReason::Refused | CloseReason::Unreachable => Failure::Connect,
            CloseReason::Aborted => Failure::Late,
            _ => Failure::Cut,
        };
        self.unreachable |= reason == CloseReason::Unreachable;
        if failure == Failure::Connect {
            self.herd.rest(self.now);
        }
        self.herd.on_end(self.now, &mut client.conversation, Some(failure));
        // Now, and not with the next turn: the key may be another's then.
        self.herd.gone(key.0);
    }
}
