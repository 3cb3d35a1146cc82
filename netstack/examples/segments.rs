//! What making a segment costs, where nothing is read but its headers: a server with streams of known sums
//! and a client that acknowledges, both in memory, no device. Prints nanoseconds of `Stack::poll_transmit` a
//! segment; under `valgrind --tool=callgrind` that function's inclusive cost by the number of segments is the
//! count of instructions. Beside them any number of connections may be idle: what they take is in bytes that
//! the server's stack has allocated for them, and what they cost those that are busy is in the time of
//! `Stack::handle_frame`, which looks connections up, for each acknowledgement.
//!
//!   segments [SEGMENTS] [CONNECTIONS] [NEIGHBORS] [1: paced] [IDLE]

use std::alloc::System;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant as Clock};

use netstack::application::{Key, Stream};
use netstack::connections::Connections;
use netstack::stack::{Config, Stack};
use netstack::tcp::Pcb;
use netstack::transmission::{Capabilities, RxChecksum, Transmission};
use netstack::wire::EthernetAddress;
use runtime::payload::{PayloadSource, Piece, Pieces};
use runtime::time::Instant;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 128, 1);
/// Of the first host whose connections are idle.
const IDLE: Ipv4Addr = Ipv4Addr::new(10, 0, 64, 1);
const PORT: u16 = 80;

/// Of those that are idle.
const QUIET_PORT: u16 = 81;
/// So many a host has.
const IDLE_EACH: usize = 25_000;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that are allocated now, by all threads.
fn allocated() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// Bytes that are allocated meanwhile and not given back.
fn taken_by(work: impl FnOnce()) -> isize {
    let before = allocated();
    work();
    allocated() - before
}

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
        let accept: fn(&Pcb) -> Option<Zeros> = match end {
            0 => |_| None,
            _ => |pcb| Some(Zeros(if pcb.local().port() == PORT { 1 << 50 } else { 0 })),
        };
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

    /// Takes what the other has sent; how long that took.
    fn take(&mut self, now: Instant, from: &mut Host) -> u64 {
        let began = Clock::now();
        for frame in from.frames.drain(..) {
            self.stack.handle_frame(now, &frame, RxChecksum::Valid, &mut self.app);
            from.spare.push(frame);
        }
        if self.stack.poll_timeout().is_some_and(|at| at <= now) {
            self.stack.handle_timeout(now, &mut self.app);
        }
        began.elapsed().as_nanos() as u64
    }

    fn connect(&mut self, now: Instant, port: u16) {
        let app = &mut self.app;
        let keep = |pcb| -> Option<Key> { app.insert(pcb, Zeros(0)) };
        self.stack.connect(now, None, SocketAddr::from((SERVER, port)), keep).expect("a free port");
    }
}

/// Has the server hold so many idle connections; the bytes that it has allocated for them.
fn hold(server: &mut Host, now: &mut Instant, idle: usize) -> isize {
    let mut bytes = 0;
    for host in 0..idle.div_ceil(IDLE_EACH) {
        let addr = Ipv4Addr::from_bits(IDLE.to_bits() + host as u32);
        let mut other = Host::new(addr, 0, false);
        other.stack.add_neighbor(*now, SERVER, hardware_addr(SERVER));
        server.stack.add_neighbor(*now, addr, hardware_addr(addr));
        let mut left = IDLE_EACH.min(idle - host * IDLE_EACH);
        while left > 0 {
            let some = left.min(100);
            (0..some).for_each(|_| other.connect(*now, QUIET_PORT));
            left -= some;
            for _ in 0..3 {
                other.send(*now, usize::MAX);
                bytes += taken_by(|| {
                    server.take(*now, &mut other);
                });
                server.send(*now, usize::MAX);
                other.take(*now, server);
                *now = *now + Duration::from_millis(1);
            }
        }
    }
    bytes
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
    let idle = arguments.next().unwrap_or(0);
    let mut now = Instant::from_millis(1);
    let (mut server, mut client) = (Host::new(SERVER, 1, paced), Host::new(CLIENT, 0, paced));
    client.stack.add_neighbor(now, SERVER, hardware_addr(SERVER));
    server.stack.listen(PORT).expect("a fresh stack");
    for other in 0..neighbors as u32 {
        let addr = Ipv4Addr::from_bits(CLIENT.to_bits() + other);
        server.stack.add_neighbor(now, addr, hardware_addr(addr));
    }
    server.stack.listen(QUIET_PORT).expect("another port");
    let bytes = hold(&mut server, &mut now, idle);
    (0..connections).for_each(|_| client.connect(now, PORT));
    let (mut sent, mut acknowledged, mut nanos, mut looked_up) = (0, 0, 0, 0);
    while sent < segments {
        let (some, took) = server.send(now, 4096);
        sent += some;
        nanos += took;
        client.take(now, &mut server);
        acknowledged += client.send(now, usize::MAX).0;
        looked_up += server.take(now, &mut client);
        now = now + Duration::from_micros(500);
    }
    println!(
        "{:.1} ns a segment, {sent} segments, {connections} connections, {neighbors} neighbours",
        nanos as f64 / sent as f64
    );
    println!("{:.1} ns an acknowledgement, of {acknowledged}", looked_up as f64 / acknowledged as f64);
    if idle > 0 {
        println!("{:.1} bytes an idle connection, of {idle}", bytes as f64 / idle as f64);
    }
}
