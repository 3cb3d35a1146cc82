//! Server and client, each on a stack of its own, at the two ends of a wire in memory, in simulated time.
//!
//! The same stack, web server and connections as on a real device: only the frames and the time come from
//! elsewhere. Tests use it with bad wires, and the demonstration where no real device may be had.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use netstack::application::{Application, CloseReason, Key, Stream};
use netstack::device::wire::{self, WireDevice};
use netstack::device::{Device, Stats};
use netstack::stack::{Config, Features, Stack};
use netstack::tcp::Pcb;
use runtime::payload::{PayloadSource, Piece, Pieces};
use runtime::time::Instant;

use super::web::Web;
use crate::service::{Options, Service};
use crate::store::Store;

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const PORT: u16 = 80;

/// What a client got.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Everything that the server sent on the connection.
    pub received: Vec<u8>,
    /// How the connection ended for the client.
    pub reason: CloseReason,
    /// The server's device.
    pub device: Stats,
    /// Simulated time from the first frame to the last.
    pub elapsed: Duration,
}

/// Why a simulation gave no outcome.
#[derive(Debug)]
pub enum SimError {
    /// The client could not begin to connect.
    Connect(netstack::stack::ConnectError),
    /// Time is up, or nothing was under way and nothing was waited for. How many bytes had arrived.
    Stuck(usize),
    /// A device failed.
    Device(io::Error),
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SimError::Connect(error) => write!(f, "no connection: {error:?}"),
            SimError::Stuck(bytes) => write!(f, "nothing moves after {bytes} bytes"),
            SimError::Device(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SimError {}

impl From<io::Error> for SimError {
    fn from(error: io::Error) -> SimError {
        SimError::Device(error)
    }
}

/// Sends `requests` to a server of `site` on one connection, and waits until the server closes it: so the
/// last request should ask for that. What happens depends on the arguments only. `features` are the server's,
/// `limit` is in simulated time.
///
/// # Errors
/// See [`SimError`].
pub fn exchange(
    site: Arc<dyn Store>,
    options: Options,
    requests: Vec<u8>,
    wire: wire::Config,
    seed: u64,
    features: Features,
    limit: Duration,
) -> Result<Outcome, SimError> {
    let (server_end, client_end) = wire::pair(wire, seed);
    let mut now = Instant::from_millis(1);
    let mut server = Node::new(server_end, SERVER, seed, features, Web::new(Service::new(site, options)));
    // Port 80 of a stack that listens nowhere yet is free.
    let _ = server.stack.listen(PORT);
    let client = Client { pcb: None, link: Link::new(requests), reason: None };
    let mut client = Node::new(client_end, CLIENT, seed.wrapping_add(1), Features::default(), client);
    let app = &mut client.app;
    let keep = |pcb| {
        app.pcb = Some(pcb);
        Some(Key(0))
    };
    client.stack.connect(now, None, (SERVER, PORT).into(), keep).map_err(SimError::Connect)?;
    let end = now + limit;
    loop {
        server.app.service.set_time(now, now.as_millis() / 1000);
        while server.step(now)? | client.step(now)? {}
        if let Some(reason) = client.app.reason
            && server.app.is_idle()
        {
            return Ok(Outcome {
                received: client.app.link.received,
                reason,
                device: server.device.stats(),
                elapsed: now.saturating_since(Instant::from_millis(1)),
            });
        }
        let next = [server.next(), client.next()].into_iter().flatten().min();
        now = match next {
            // A timer may be early, but time must move.
            Some(next) if next <= end => next.max(now + Duration::from_nanos(1)),
            _ => return Err(SimError::Stuck(client.app.link.received.len())),
        };
    }
}

/// A stack with its device and application.
struct Node<A> {
    device: WireDevice,
    stack: Stack,
    app: A,
}

impl<A: Application> Node<A> {
    fn new(device: WireDevice, addr: Ipv4Addr, seed: u64, features: Features, app: A) -> Node<A> {
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&seed.to_le_bytes());
        let mut config = Config::new(device.hardware_addr(), addr, 24, secret);
        config.mtu = device.mtu();
        config.features = features;
        Node { device, stack: Stack::new(config), app }
    }

    /// Does all that can be done at `now`; whether anything was.
    fn step(&mut self, now: Instant) -> io::Result<bool> {
        let mut moved = false;
        while let Some(frame) = self.device.receive(now)? {
            self.stack.handle_frame(now, frame.bytes, frame.checksum, &mut self.app);
            moved = true;
        }
        if self.stack.poll_timeout().is_some_and(|due| due <= now) {
            self.stack.handle_timeout(now, &mut self.app);
        }
        let capabilities = self.device.capabilities();
        while self.device.can_transmit() {
            let device = &mut self.device;
            let sent = self.stack.poll_transmit(now, &capabilities, &mut self.app, |transmission| {
                device.transmit(now, transmission)
            });
            match sent {
                Some(sent) => sent.map_err(io::Error::other)?,
                None => break,
            }
            moved = true;
        }
        while self.stack.poll_event().is_some() {}
        Ok(moved)
    }

    fn next(&self) -> Option<Instant> {
        [self.stack.poll_timeout(), self.device.next_arrival()].into_iter().flatten().min()
    }
}

/// The application at the client's end: one connection.
struct Client {
    pcb: Option<Pcb>,
    link: Link,
    reason: Option<CloseReason>,
}

/// What the connection sends and has received.
struct Link {
    requests: Vec<u8>,
    received: Vec<u8>,
    ended: bool,
}

impl Link {
    fn new(requests: Vec<u8>) -> Link {
        Link { requests, received: Vec::new(), ended: false }
    }
}

impl Application for Client {
    type Stream<'a> = &'a mut Link;

    fn accept(&mut self, _now: Instant, _pcb: Pcb) -> Option<Key> {
        None
    }

    fn connection(&mut self, _key: Key) -> Option<(&mut Pcb, &mut Link)> {
        Some((self.pcb.as_mut()?, &mut self.link))
    }

    fn closed(&mut self, _now: Instant, _key: Key, reason: CloseReason) {
        self.pcb = None;
        self.reason = Some(reason);
    }
}

impl PayloadSource for Link {
    fn end(&self) -> u64 {
        self.requests.len() as u64
    }

    fn is_finished(&self) -> bool {
        self.ended
    }

    fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>) -> usize {
        let bytes =
            usize::try_from(offset).ok().and_then(|from| self.requests.get(from..)).unwrap_or_default();
        let bytes = &bytes[..len.min(bytes.len())];
        if !bytes.is_empty() {
            out.push(Piece::new(bytes));
        }
        bytes.len()
    }

    fn acknowledged(&mut self, _offset: u64) {}
}

impl Stream for Link {
    fn receive(&mut self, _now: Instant, bytes: &[u8]) -> usize {
        self.received.extend_from_slice(bytes);
        bytes.len()
    }

    fn window(&self) -> usize {
        256 * 1024
    }

    fn receive_finished(&mut self, _now: Instant) {
        self.ended = true;
    }
}
