//! Our TCP against another's (`smoltcp`) over a wire in memory that loses, doubles, reorders, delays and
//! changes frames: every byte that is delivered is right, and everything is delivered, whoever opens, whoever
//! closes first, with both congestion controls. Whatever happens depends on the seed, which is printed if it
//! goes wrong: `HOSTILE_SEED=N cargo test -p netstack --test hostile one_seed -- --ignored`.

mod support;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use netstack::application::{CloseReason, Key};
use netstack::device::fault::Random;
use netstack::stack::{Config, Stack};
use netstack::tcp::{Algorithm, EcnUse};
use netstack::transmission::{Capabilities, RxChecksum, Transmission};
use netstack::wire::EthernetAddress;
use runtime::time::Instant;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp as smol;
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use support::{TestApp, TestStream, byte_at};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OUR_HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const THEIR_HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 2];
const PORT: u16 = 80;

/// No connection takes so long, whatever is lost.
const LIMIT: Instant = Instant::from_millis(3_600_000);

/// What we send carries this tag, what smoltcp sends the other of the pair.
const OUR_TAG: u32 = 6;
const THEIR_TAG: u32 = OUR_TAG ^ 1;

#[test]
fn two_hundred_seeds() {
    (0..200).for_each(run);
}

#[test]
#[ignore = "minutes"]
fn ten_thousand_seeds() {
    (0..10_000).for_each(run);
}

#[test]
#[ignore = "runs the seed that HOSTILE_SEED says"]
fn one_seed() {
    if let Ok(seed) = std::env::var("HOSTILE_SEED") {
        run(seed.parse().expect("a number"));
    }
}

/// Numbers of a seed.
struct Numbers(Random);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// Of every order of magnitude as often.
    fn magnitude(&mut self, bits: u64) -> u64 {
        let top = 1 << self.below(bits + 1);
        self.below(top)
    }
}

/// How bad the wire is, each per mille.
struct Faults {
    lost: u64,
    doubled: u64,
    late: u64,
    changed: u64,
    delay_us: u64,
}

/// Both directions: frames by when they arrive, and for whom.
struct Wire {
    random: Numbers,
    faults: Faults,
    frames: BTreeMap<(u64, u64), (bool, Vec<u8>)>,
    number: u64,
}

impl Wire {
    fn send(&mut self, now_us: u64, to_us: bool, frame: Vec<u8>) {
        // ARP has no checksum: who changes it lies for a minute, which is another test's matter.
        let is_ip = frame.get(12..14) == Some(&[8, 0]);
        let copies = 1 + u64::from(self.random.chance(self.faults.doubled));
        for _ in 0..copies {
            // Nor is it lost: who is not found after three questions is unreachable, and rightly so.
            if is_ip && self.random.chance(self.faults.lost) {
                continue;
            }
            let mut frame = frame.clone();
            if is_ip && self.random.chance(self.faults.changed) {
                let at = self.random.below(frame.len() as u64) as usize;
                frame[at] ^= 1 << self.random.below(8);
            }
            let mut delay = self.faults.delay_us;
            if self.random.chance(self.faults.late) {
                delay += self.random.below(4 * delay + 1000);
            }
            self.number += 1;
            self.frames.insert((now_us + delay, self.number), (to_us, frame));
        }
    }

    fn arrived(&mut self, now_us: u64) -> Option<(bool, Vec<u8>)> {
        let entry = self.frames.first_entry()?;
        (entry.key().0 <= now_us).then(|| entry.remove())
    }
}

/// What smoltcp has instead of an adapter.
struct Port {
    arrived: Vec<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    mtu: usize,
}

struct Arrived(Vec<u8>);
struct Slot<'a>(&'a mut Vec<Vec<u8>>);

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl phy::TxToken for Slot<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut frame = vec![0; len];
        let result = fill(&mut frame);
        self.0.push(frame);
        result
    }
}

impl phy::Device for Port {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Slot<'a>;

    fn receive(&mut self, _now: SmolInstant) -> Option<(Arrived, Slot<'_>)> {
        if self.arrived.is_empty() {
            return None;
        }
        Some((Arrived(self.arrived.remove(0)), Slot(&mut self.sent)))
    }

    fn transmit(&mut self, _now: SmolInstant) -> Option<Slot<'_>> {
        Some(Slot(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}

/// The other end: a socket, and what its application has done.
struct Peer {
    port: Port,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    sent: u64,
    received: u64,
    len: u64,
    /// Closes before it has heard the end of us.
    closes_first: bool,
    closed: bool,
}

impl Peer {
    fn new(random: &mut Numbers, mtu: usize, len: u64, closes_first: bool) -> Peer {
        let mut port = Port { arrived: Vec::new(), sent: Vec::new(), mtu };
        let hardware = HardwareAddress::Ethernet(smoltcp::wire::EthernetAddress(THEIR_HARDWARE));
        let mut config = smoltcp::iface::Config::new(hardware);
        config.random_seed = random.next();
        let mut interface = Interface::new(config, &mut port, SmolInstant::ZERO);
        interface.update_ip_addrs(|addrs| {
            addrs.push(IpCidr::new(IpAddress::Ipv4(THEIRS), 24)).expect("room");
        });
        let mut buffer = || {
            let len = 1024 << random.below(7);
            smol::SocketBuffer::new(vec![0; len])
        };
        let mut socket = smol::Socket::new(buffer(), buffer());
        socket.set_congestion_control(match random.below(3) {
            0 => smol::CongestionControl::None,
            1 => smol::CongestionControl::Reno,
            _ => smol::CongestionControl::Cubic,
        });
        socket.set_nagle_enabled(random.chance(500));
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let (sent, received) = (0, 0);
        Peer { port, interface, sockets, handle, sent, received, len, closes_first, closed: false }
    }

    /// Takes what arrived, and sends what there is room for.
    fn work(&mut self, now_us: u64) {
        let now = SmolInstant::from_micros(now_us as i64);
        self.interface.poll(now, &mut self.port, &mut self.sockets);
        let socket = self.sockets.get_mut::<smol::Socket<'_>>(self.handle);
        while socket.can_recv() {
            let received = self.received;
            let taken = socket.recv(|bytes| {
                for (at, &byte) in bytes.iter().enumerate() {
                    assert_eq!(byte, byte_at(OUR_TAG, received + at as u64), "byte {}", received + at as u64);
                }
                (bytes.len(), bytes.len())
            });
            self.received += taken.expect("it said so") as u64;
        }
        while socket.can_send() && self.sent < self.len {
            let (sent, len) = (self.sent, self.len);
            let given = socket.send(|room| {
                let count = room.len().min((len - sent) as usize);
                for (at, byte) in room[..count].iter_mut().enumerate() {
                    *byte = byte_at(THEIR_TAG, sent + at as u64);
                }
                (count, count)
            });
            self.sent += given.expect("it said so") as u64;
        }
        let peer_is_done = self.closes_first || !socket.may_recv();
        let is_open = !matches!(socket.state(), smol::State::Listen | smol::State::SynSent);
        if is_open && self.sent == self.len && peer_is_done && !self.closed && socket.may_send() {
            socket.close();
            self.closed = true;
        }
        self.interface.poll(now, &mut self.port, &mut self.sockets);
    }

    fn is_over(&self) -> bool {
        let socket = self.sockets.get::<smol::Socket<'_>>(self.handle);
        matches!(socket.state(), smol::State::Closed | smol::State::TimeWait)
    }
}

fn run(seed: u64) {
    // Tests run side by side: only this line and the panic's belong together.
    let _on_panic = SaySeed(seed);
    let mut random = Numbers(Random::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5eed));
    let scale = random.below(4);
    let faults = Faults {
        lost: random.below(40) * scale,
        doubled: random.below(30) * scale,
        late: random.below(60) * scale,
        changed: random.below(20) * scale,
        delay_us: random.magnitude(15),
    };
    let mtu = [1500, 1500, 1500, 1280, 576][random.below(5) as usize];
    let (our_len, their_len) = (random.magnitude(17), random.magnitude(17));
    let mut config = Config::new(OUR_HARDWARE, OURS, 24, *b"hostile runs\0\0\0\0");
    config.mtu = mtu;
    config.tcp.congestion = if seed.is_multiple_of(2) { Algorithm::NewReno } else { Algorithm::Cubic };
    config.tcp.ecn = if random.chance(500) { EcnUse::Active } else { EcnUse::Off };
    config.tcp.nagle = random.chance(300);
    config.tcp.max_window = 2048 << random.below(10);
    // Most windows begin smaller, and grow.
    config.tcp.usual_window = (config.tcp.max_window >> random.below(5)).max(2048);
    config.tcp.pacing = random.chance(700);
    // A handshake of which four in ten packets are lost must not be given up either.
    (config.tcp.max_syn_retransmissions, config.tcp.max_retransmissions) = (30, 60);
    let (we_open, they_close_first) = (random.chance(500), random.chance(500));

    let mut stack = Stack::new(config);
    stack.listen(PORT).expect("a fresh stack");
    let stream = move || {
        let mut stream = TestStream::new(OUR_TAG, our_len);
        stream.finish_after_peer = they_close_first;
        stream
    };
    let mut app = TestApp::new(move |_| Some(stream()));
    let mut peer = Peer::new(&mut random, usize::from(mtu), their_len, they_close_first);
    let socket = peer.sockets.get_mut::<smol::Socket<'_>>(peer.handle);
    let mut now = Instant::from_millis(1000);
    if we_open {
        socket.listen(PORT).expect("a fresh socket");
        let keep = |pcb| -> Option<Key> { app.keep(pcb, stream()) };
        stack.connect(now, None, (THEIRS, PORT).into(), keep).expect("a port");
    } else {
        let local = 49_152 + (seed % 1000) as u16;
        socket.connect(peer.interface.context(), (OURS, PORT), local).expect("a fresh socket");
    }
    let mut wire = Wire { random, faults, frames: BTreeMap::new(), number: 0 };
    while app.closed.is_empty() || !peer.is_over() {
        assert!(now < LIMIT, "not over: {:?}", app.records.iter().map(|(_, r)| &r.pcb).next());
        let now_us = now.as_nanos() / 1000;
        while let Some((to_us, frame)) = wire.arrived(now_us) {
            if to_us {
                stack.handle_frame(now, &frame, RxChecksum::Unknown, &mut app);
            } else {
                peer.port.arrived.push(frame);
            }
        }
        if stack.poll_timeout().is_some_and(|at| at <= now) {
            stack.handle_timeout(now, &mut app);
        }
        let device = Capabilities::default();
        while let Some(frame) = stack.poll_transmit(now, &device, &mut app, finished) {
            wire.send(now_us, false, frame);
        }
        peer.work(now_us);
        for frame in std::mem::take(&mut peer.port.sent) {
            wire.send(now_us, true, frame);
        }
        let theirs = peer.interface.poll_at(SmolInstant::from_micros(now_us as i64), &peer.sockets);
        let theirs = theirs.map(|at| Instant::from_nanos(at.total_micros().max(0) as u64 * 1000));
        let arrival = wire.frames.keys().next().map(|&(at, _)| Instant::from_nanos(at * 1000));
        let next = [stack.poll_timeout(), theirs, arrival].into_iter().flatten().min();
        // An entry of the timer wheel for later moves its hand only with time.
        if !app.closed.is_empty() && peer.is_over() {
            break;
        }
        let Some(next) = next else {
            let ours: Vec<_> = app.records.iter().map(|(_, record)| &record.pcb).collect();
            let theirs = peer.sockets.get::<smol::Socket<'_>>(peer.handle);
            let (state, sent, received) = (theirs.state(), peer.sent, peer.received);
            let over: Vec<_> = app.closed.iter().map(|(reason, _)| reason).collect();
            panic!(
                "nothing is waited for: ours {ours:#?} {over:?}, theirs {state}, {sent} sent, {received} received"
            );
        };
        now = next.max(now + Duration::from_micros(20));
    }
    let (reason, stream) = app.closed.first().expect("just seen");
    assert_eq!(*reason, CloseReason::Finished);
    assert_eq!((stream.received, stream.wrong_bytes), (their_len, 0));
    assert_eq!((stream.acknowledged, peer.received), (our_len, our_len));
    assert_eq!(stack.connections(), 0);
}

/// A transmission as a frame, with its checksum.
fn finished(transmission: &Transmission<'_>) -> Vec<u8> {
    netstack::device::frame::FrameBuilder::new().build(&[], transmission).to_vec()
}

/// Says which seed it was if the test ends by a panic.
struct SaySeed(u64);

impl Drop for SaySeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("hostile: seed {}", self.0);
        }
    }
}
