//! Two stacks over the in-memory wire, driven event by event in simulated time: whatever happens depends on
//! the seed only.

#![allow(dead_code)] // each test binary uses its part
#![allow(unreachable_pub)]

use std::net::Ipv4Addr;

use netstack::application::{Application, CloseReason, Key, Stream};
use netstack::device::wire::{self, WireDevice};
use netstack::device::{Device, TransmitError};
use netstack::stack::{Config, Stack};
use netstack::tcp::Pcb;
use netstack::transmission::Transmission;
use netstack::wire::EthernetAddress;
use runtime::payload::{PayloadSource, Piece, Pieces};
use runtime::time::Instant;

pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub const PORT: u16 = 80;

/// The byte at `offset` of every stream that carries `tag`: differs from its neighbours and between streams.
pub fn byte_at(tag: u32, offset: u64) -> u8 {
    let x = (offset ^ (u64::from(tag) << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x >> 56) as u8
}

/// Sends `len` bytes, expects as many as `expect` says, notes everything that happens.
#[derive(Debug)]
pub struct TestStream {
    pub tag: u32,
    /// What is still unacknowledged, from `base` on: generated in blocks as TCP asks, dropped as it is
    /// acknowledged.
    data: Vec<u8>,
    base: u64,
    /// Bytes to send in all, and whether the stream ends there.
    pub len: u64,
    pub finish: bool,
    /// Do not finish before the peer did.
    pub finish_after_peer: bool,
    pub received: u64,
    pub wrong_bytes: u64,
    pub peer_finished: bool,
    pub established: bool,
    pub acknowledged: u64,
    pub window: usize,
    pub timeouts: u32,
    pub deadline: Option<Instant>,
    pub abort: bool,
    pub stopped_reading: bool,
    /// Where the first part of what is sent ends, if it has parts.
    pub head: u64,
    pub echo: bool,
    /// Where what is at hand ends, if that is not `len`. More comes by [`TestStream::fetch`].
    pub resident: Option<u64>,
    /// Take bytes before they are verified; which those are now, and how often such were taken, and
    /// forgotten.
    pub places: bool,
    pub placed: Option<(usize, usize)>,
    pub placed_taken: u64,
    pub placed_forgotten: u64,
    /// Where urgent data end, in bytes received, and how often that was told.
    pub urgent_end: u64,
    pub urgent_told: u64,
    /// The largest offset just past what was given.
    pub given: std::cell::Cell<u64>,
    /// How often less was given than asked for.
    pub short_answers: std::cell::Cell<u64>,
}

impl TestStream {
    pub fn new(tag: u32, len: u64) -> TestStream {
        TestStream {
            tag,
            data: (0..len).map(|offset| byte_at(tag, offset)).collect(),
            base: 0,
            len,
            finish: true,
            finish_after_peer: false,
            received: 0,
            wrong_bytes: 0,
            peer_finished: false,
            established: false,
            acknowledged: 0,
            window: 1 << 20,
            timeouts: 0,
            deadline: None,
            abort: false,
            stopped_reading: false,
            head: 0,
            echo: false,
            resident: None,
            places: false,
            placed: None,
            placed_taken: 0,
            placed_forgotten: 0,
            urgent_end: 0,
            urgent_told: 0,
            given: std::cell::Cell::new(0),
            short_answers: std::cell::Cell::new(0),
        }
    }

    /// Gets `by` more bytes to hand.
    pub fn fetch(&mut self, by: u64) {
        self.resident = self.resident.map(|resident| (resident + by).min(self.len));
    }

    /// More to send than planned.
    pub fn extend(&mut self, by: u64) {
        let tag = self.tag;
        self.data.extend((self.len..self.len + by).map(|offset| byte_at(tag, offset)));
        self.len += by;
    }
}

impl PayloadSource for TestStream {
    fn end(&self) -> u64 {
        self.len
    }

    fn is_finished(&self) -> bool {
        self.finish && (self.peer_finished || !self.finish_after_peer)
    }

    fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>) -> usize {
        assert!(offset >= self.acknowledged, "asked for what was acknowledged");
        assert!(offset + len as u64 <= self.len, "asked for what is not there");
        let at_hand = self.resident.unwrap_or(self.len).saturating_sub(offset);
        let asked = len;
        let len = asked.min(at_hand as usize);
        self.short_answers.set(self.short_answers.get() + u64::from(len < asked));
        self.given.set(self.given.get().max(offset + len as u64));
        let start = (offset - self.base) as usize;
        // Odd pieces, so that checksums meet odd offsets.
        let cut = len.min(7);
        for bytes in [&self.data[start..start + cut], &self.data[start + cut..start + len]] {
            if !bytes.is_empty() {
                out.push(Piece::new(bytes));
            }
        }
        len
    }

    fn acknowledged(&mut self, offset: u64) {
        assert!(offset >= self.acknowledged && offset <= self.len);
        self.acknowledged = offset;
    }
}

impl Stream for TestStream {
    fn established(&mut self, _now: Instant) {
        assert!(!self.established);
        self.established = true;
    }

    fn receive(&mut self, _now: Instant, bytes: &[u8]) -> usize {
        assert!(!self.peer_finished, "data after FIN");
        let taken = bytes.len().min(self.window);
        if let Some(placed) = self.placed.take() {
            assert_eq!(placed, (bytes.as_ptr() as usize, bytes.len()), "what was placed is what is received");
            self.placed_taken += 1;
        }
        // The peer's tag is ours with the lowest bit flipped.
        let tag = self.tag ^ 1;
        for (at, &byte) in bytes[..taken].iter().enumerate() {
            self.wrong_bytes += u64::from(byte != byte_at(tag, self.received + at as u64));
        }
        self.received += taken as u64;
        if self.echo {
            self.extend(taken as u64);
        }
        taken
    }

    fn urgent(&mut self, _now: Instant, bytes: u32) {
        let end = self.received + u64::from(bytes);
        assert!(end > self.urgent_end.max(self.received), "told of what is known");
        self.urgent_end = end;
        self.urgent_told += 1;
    }

    fn place(&mut self, bytes: &[u8]) -> Option<u16> {
        assert_eq!(self.placed, None, "one at a time");
        if !self.places {
            return None;
        }
        self.placed = Some((bytes.as_ptr() as usize, bytes.len()));
        Some(netstack::wire::checksum::sum(bytes))
    }

    fn forget_placed(&mut self) {
        self.placed_forgotten += u64::from(self.placed.take().is_some());
    }

    fn window(&self) -> usize {
        self.window
    }

    fn receive_finished(&mut self, _now: Instant) {
        assert!(!self.peer_finished, "two FINs");
        self.peer_finished = true;
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn timeout(&mut self, _now: Instant) {
        self.timeouts += 1;
        self.deadline = None;
    }

    fn part_end(&self, offset: u64) -> Option<u64> {
        (offset < self.head).then_some(self.head)
    }

    fn reads_no_more(&self) -> bool {
        self.stopped_reading
    }

    fn is_aborted(&self) -> bool {
        self.abort
    }
}

pub struct Record {
    pub pcb: Pcb,
    pub stream: TestStream,
}

/// What a server gives to each connection that comes in.
pub type MakeStream = Box<dyn FnMut(&Pcb) -> Option<TestStream>>;

/// An application that keeps its connections in a slab.
pub struct TestApp {
    pub records: slab::Slab<Record>,
    pub make: MakeStream,
    /// Of those that are over: why, and the stream as it was.
    pub closed: Vec<(CloseReason, TestStream)>,
    /// Only count the closed ones.
    pub forget_closed: bool,
    pub closed_count: u64,
    pub closed_badly: u64,
}

impl TestApp {
    pub fn new(make: impl FnMut(&Pcb) -> Option<TestStream> + 'static) -> TestApp {
        TestApp {
            records: slab::Slab::new(),
            make: Box::new(make),
            closed: Vec::new(),
            forget_closed: false,
            closed_count: 0,
            closed_badly: 0,
        }
    }

    pub fn keep(&mut self, pcb: Pcb, stream: TestStream) -> Option<Key> {
        Some(Key(self.records.insert(Record { pcb, stream }) as u32))
    }
}

impl Application for TestApp {
    type Stream<'a> = &'a mut TestStream;

    fn accept(&mut self, _now: Instant, pcb: Pcb) -> Option<Key> {
        let stream = (self.make)(&pcb)?;
        self.keep(pcb, stream)
    }

    fn connection(&mut self, key: Key) -> Option<(&mut Pcb, &mut TestStream)> {
        let record = self.records.get_mut(key.0 as usize)?;
        Some((&mut record.pcb, &mut record.stream))
    }

    fn closed(&mut self, _now: Instant, key: Key, reason: CloseReason) {
        let record = self.records.remove(key.0 as usize);
        self.closed_count += 1;
        let stream = &record.stream;
        let good =
            reason == CloseReason::Finished && stream.wrong_bytes == 0 && stream.acknowledged == stream.len;
        self.closed_badly += u64::from(!good);
        if !self.forget_closed {
            self.closed.push((reason, record.stream));
        }
    }
}

/// Whether the transmission with this number, from 0, is lost on the way.
pub type Lose = Box<dyn FnMut(u64, &Transmission<'_>) -> bool>;

pub struct Host {
    pub lose: Lose,
    pub sent: u64,
    /// Transmissions that the device cannot read.
    pub unreadable: Lose,
    pub stack: Stack,
    pub app: TestApp,
    pub device: WireDevice,
}

impl Host {
    fn new(device: WireDevice, addr: Ipv4Addr, adjust: &dyn Fn(&mut Config), app: TestApp) -> Host {
        let mut config = Config::new(device.hardware_addr(), addr, 24, [addr.octets()[3]; 16]);
        config.mtu = device.mtu();
        adjust(&mut config);
        Host {
            lose: Box::new(|_, _| false),
            sent: 0,
            unreadable: Box::new(|_, _| false),
            stack: Stack::new(config),
            app,
            device,
        }
    }

    pub fn connect(&mut self, now: Instant, stream: TestStream) -> Key {
        let remote = (SERVER, PORT).into();
        self.stack.connect(now, None, remote, |pcb| self.app.keep(pcb, stream)).expect("a free port")
    }

    pub fn step(&mut self, now: Instant) {
        while let Some(frame) = self.device.receive(now).expect("a wire does not fail") {
            self.stack.handle_frame(now, frame.bytes, frame.checksum, &mut self.app);
        }
        if self.stack.poll_timeout().is_some_and(|at| at <= now) {
            self.stack.handle_timeout(now, &mut self.app);
        }
        self.flush(now);
    }

    pub fn flush(&mut self, now: Instant) {
        let capabilities = self.device.capabilities();
        let mut sent = 0;
        while let Some(result) = self.stack.poll_transmit(now, &capabilities, &mut self.app, |t| {
            self.sent += 1;
            if (self.unreadable)(self.sent - 1, t) {
                return Err(TransmitError::PayloadUnreadable);
            }
            if (self.lose)(self.sent - 1, t) { Ok(()) } else { self.device.transmit(now, t) }
        }) {
            match result {
                Err(TransmitError::PayloadUnreadable) => self.stack.payload_unreadable(now, &mut self.app),
                result => result.expect("a wire does not fail"),
            }
            sent += 1;
            assert!(sent < 100_000, "it never stops sending");
        }
    }

    pub fn next(&self) -> Option<Instant> {
        let timeout = self.stack.poll_timeout();
        let arrival = self.device.next_arrival();
        timeout.into_iter().chain(arrival).min()
    }

    /// Nothing of any connection is left.
    pub fn assert_empty(&self) {
        assert_eq!(self.app.records.len(), 0, "records");
        assert_eq!(self.stack.connections(), 0, "demultiplexer");
        assert_eq!(self.stack.half_open(), 0, "backlog");
        assert_eq!(self.stack.timers(), 0, "timers");
        assert_eq!(self.stack.reassembly_bytes(), 0, "reassembly");
    }
}

/// A client, a server, and the wire.
pub struct Pair {
    pub now: Instant,
    pub client: Host,
    pub server: Host,
}

impl Pair {
    pub fn new(wire: wire::Config, seed: u64, adjust: &dyn Fn(&mut Config), server: TestApp) -> Pair {
        let (a, b) = wire::pair(wire, seed);
        let client = Host::new(a, CLIENT, adjust, TestApp::new(|_| None));
        let mut server = Host::new(b, SERVER, adjust, server);
        server.stack.listen(PORT).expect("a fresh stack");
        Pair { now: Instant::from_millis(1), client, server }
    }

    /// To the next event. False when nothing will ever happen again.
    pub fn step(&mut self) -> bool {
        self.client.step(self.now);
        self.server.step(self.now);
        // Steps at the same instant may have made work for the other.
        let Some(next) = self.client.next().into_iter().chain(self.server.next()).min() else { return false };
        self.now = next.max(self.now);
        true
    }

    /// Until `done`, or the time is up, or nothing happens any more.
    pub fn run_until(&mut self, limit: Instant, mut done: impl FnMut(&Pair) -> bool) -> bool {
        while !done(self) {
            if self.now > limit || !self.step() {
                return done(self);
            }
        }
        true
    }
}

/// Hardware address for hand-made frames.
pub const STRANGER: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 0x77]);
