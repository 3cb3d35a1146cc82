//! What making a segment costs, where nothing is read but its headers: a server with streams of known sums
//! and a client that acknowledges, both in memory, no device. Prints nanoseconds of `Stack::poll_transmit` a
//! segment; under `valgrind --tool=callgrind` that function's inclusive cost by the number of segments is the
//! count of instructions.
//!
//!   segments [SEGMENTS] [CONNECTIONS] [NEIGHBORS] [1: paced]

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant as Clock;

use netstack::application::{Key, Stream};
use netstack::connections::Connections;
use netstack::stack::{Config, Stack};
use netstack::tcp::Pcb;
use netstack::transmission::{Capabilities, RxChecksum, Transmission};
use netstack::wire::EthernetAddress;
use runtime::payload::{PayloadSource, Piece, Pieces};
use runtime::time::Instant;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 128, 1);
const PORT: u16 = 80;

/// Zeros without end, whose sum is known; or nothing, from the client.
struct Zeros(u64);

static ZEROS: [u8; 65_536] = [0; 65_536];

impl PayloadSource for Zeros {
    fn end(&self) -> u64 {
        self.0
    }

    fn is_finished(&self) -> bool {
        false
    }

    fn pieces<'a>(&'a self, _offset: u64, len: usize, out: &mut Pieces<'a>) -> usize {
        out.push(Piece::with_sum(&ZEROS[..len], 0));
        len
    }

    fn acknowledged(&mut self, _offset: u64) {}
}

impl Stream for Zeros {
    fn receive(&mut self, _now: Instant, bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn window(&self) -> usize {
        1 << 20
    }
}

type App = Connections<Zeros, fn(&Pcb) -> Option<Zeros>>;

struct Host {
    stack: Stack,
    app: App,
    frames: Vec<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl Host {
    fn new(addr: Ipv4Addr, end: u64, paced: bool) -> Host {
        let accept: fn(&Pcb) -> Option<Zeros> = if end > 0 { |_| Some(Zeros(1 << 50)) } else { |_| None };
        let mut config = Config::new(hardware_addr(addr), addr, 16, [addr.octets()[3]; 16]);
        config.tcp.pacing = paced;
        let stack = Stack::new(config);
        Host { stack, app: Connections::new(accept), frames: Vec::new(), spare: Vec::new() }
    }

    /// Sends at most so many; how many it did, and how long that took.
    fn send(&mut self, now: Instant, most: usize) -> (usize, u64) {
        let Host { stack, app, frames, spare } = self;
        let mut sent = 0;
        let began = Clock::now();
        while sent < most
            && stack
                .poll_transmit(now, &Capabilities::default(), app, |transmission: &Transmission<'_>| {
                    let mut frame = spare.pop().unwrap_or_default();
                    frame.clear();
                    frame.extend_from_slice(transmission.headers);
                    frame.resize(transmission.len(), 0);
                    frames.push(black_box(frame));
                })
                .is_some()
        {
            sent += 1;
        }
        (sent, began.elapsed().as_nanos() as u64)
    }

    fn take(&mut self, now: Instant, from: &mut Host) {
        for frame in from.frames.drain(..) {
            self.stack.handle_frame(now, &frame, RxChecksum::Valid, &mut self.app);
            from.spare.push(frame);
        }
        if self.stack.poll_timeout().is_some_and(|at| at <= now) {
            self.stack.handle_timeout(now, &mut self.app);
        }
    }
}

fn hardware_addr(addr: Ipv4Addr) -> EthernetAddress {
    let [a, b, c, d] = addr.octets();
    EthernetAddress([2, 0, a, b, c, d])
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let segments = arguments.next().unwrap_or(2_000_000);
    let connections = arguments.next().unwrap_or(100);
    let neighbors = arguments.next().unwrap_or(1);
    let paced = arguments.next() == Some(1);
    let mut now = Instant::from_millis(1);
    let (mut server, mut client) = (Host::new(SERVER, 1, paced), Host::new(CLIENT, 0, paced));
    client.stack.add_neighbor(now, SERVER, hardware_addr(SERVER));
    server.stack.listen(PORT).expect("a fresh stack");
    for other in 0..neighbors as u32 {
        let addr = Ipv4Addr::from_bits(CLIENT.to_bits() + other);
        server.stack.add_neighbor(now, addr, hardware_addr(addr));
    }
    for _ in 0..connections {
        let app = &mut client.app;
        let keep = |pcb| -> Option<Key> { app.insert(pcb, Zeros(0)) };
        client.stack.connect(now, None, SocketAddr::from((SERVER, PORT)), keep).expect("a free port");
    }
    let (mut sent, mut nanos) = (0, 0);
    while sent < segments {
        let (some, took) = server.send(now, 4096);
        sent += some;
        nanos += took;
        client.take(now, &mut server);
        client.send(now, usize::MAX);
        server.take(now, &mut client);
        now = now + std::time::Duration::from_micros(500);
    }
    println!(
        "{:.1} ns a segment, {sent} segments, {connections} connections, {neighbors} neighbours",
        nanos as f64 / sent as f64
    );
}
