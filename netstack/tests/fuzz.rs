//! Whatever comes in as a frame: no panic, no unbounded memory. Random bytes, and valid conversations with
//! mutated, spliced and repeated packets. Short here; `NETSTACK_FUZZ_FRAMES` asks for more,
//! `NETSTACK_FUZZ_SEED` for another.

mod support;

use std::net::Ipv4Addr;

use netstack::stack::{Config, Stack};
use netstack::transmission::{Capabilities, RxChecksum};
use netstack::wire::tcp::{Flags, Options, Packet, Repr, Timestamps};
use netstack::wire::{EtherType, EthernetAddress, Protocol, arp, checksum, ethernet, icmpv4, ipv4};
use runtime::time::Instant;
use support::{TestApp, TestStream};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OUR_HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Near a number that matters, or anywhere.
    fn near(&mut self, base: u32) -> u32 {
        match self.below(8) {
            0 => self.next() as u32,
            1 => base.wrapping_add(self.below(100_000) as u32),
            2 => base.wrapping_sub(self.below(3000) as u32),
            _ => base.wrapping_add(self.below(4) as u32).wrapping_sub(1),
        }
    }
}

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// The evil peer's knowledge: our last segment's numbers per port.
#[derive(Clone, Copy, Default)]
struct Seen {
    seq: u32,
    ack: u32,
}

struct Target {
    now: Instant,
    stack: Stack,
    app: TestApp,
    seen: Vec<Seen>,
}

const PORTS: usize = 8;

impl Target {
    fn new() -> Target {
        let mut config = Config::new(OUR_HARDWARE, OURS, 24, [3; 16]);
        config.backlog = 16;
        config.time_wait_capacity = 16;
        config.reassembly_bytes = 100_000;
        config.tcp.reassembly_bytes = 30_000;
        let mut stack = Stack::new(config);
        stack.listen(80).expect("a fresh stack");
        let mut count = 0;
        let mut app = TestApp::new(move |_| {
            count += 1;
            let mut stream = TestStream::new(1, [0, 1, 100, 50_000][count % 4]);
            stream.finish_after_peer = count % 3 == 0;
            stream.window = [0, 10, 5000, 1 << 20][count / 4 % 4];
            (count % 50 != 0).then_some(stream)
        });
        app.forget_closed = true;
        Target { now: Instant::from_millis(1), stack, app, seen: vec![Seen::default(); PORTS] }
    }

    fn frame(&mut self, frame: &[u8], random: &mut Random) {
        let checksum = if random.one_in(10) { RxChecksum::Partial } else { RxChecksum::Unknown };
        self.stack.handle_frame(self.now, frame, checksum, &mut self.app);
        self.settle(random);
    }

    fn settle(&mut self, random: &mut Random) {
        let device = if random.one_in(2) {
            Capabilities::default()
        } else {
            Capabilities { checksum: true, segmentation: Some(65_536), gather: true, datagrams: false }
        };
        let seen = &mut self.seen;
        for _ in 0..random.below(20) {
            let emit = |transmission: &netstack::transmission::Transmission<'_>| {
                let sum = transmission.payload_to_vec().len();
                assert_eq!(sum, transmission.payload_len);
                assert!(transmission.len() <= 65_535 + 14);
                if transmission.headers.len() >= 54
                    && let Ok(packet) = Packet::new_checked(&transmission.headers[34..])
                {
                    let port = usize::from(packet.dst_port()) % PORTS;
                    seen[port] = Seen { seq: packet.seq_number(), ack: packet.ack_number() };
                }
            };
            if self.stack.poll_transmit(self.now, &device, &mut self.app, emit).is_none() {
                break;
            }
        }
        if random.one_in(20) {
            let ms = [1, 50, 300, 5000, 100_000][random.below(5) as usize];
            self.now = self.now + std::time::Duration::from_millis(ms);
            self.stack.handle_timeout(self.now, &mut self.app);
        }
        while self.stack.poll_event().is_some() {}
        assert!(self.stack.half_open() <= 16);
        assert!(self.stack.in_time_wait() <= 16);
        assert!(self.stack.reassembly_bytes() <= 100_000 + 30_000);
        assert_eq!(self.stack.connections(), self.app.records.len());
        assert!(self.stack.timers() <= self.stack.connections() + self.stack.half_open());
    }

    /// A segment that may well be meant: numbers near those last seen.
    fn segment(&self, random: &mut Random) -> Vec<u8> {
        let port = random.below(PORTS as u64) as usize;
        let seen = self.seen[port];
        let flags = match random.below(10) {
            0 => random.next() as u8,
            1 | 2 => Flags::SYN.0,
            3 => Flags::FIN.with(Flags::ACK).0,
            4 if random.one_in(4) => Flags::RST.0,
            _ => Flags::ACK.0,
        };
        let mut options = Options::NONE;
        if flags & Flags::SYN.0 != 0 {
            options.mss = Some(random.next() as u16);
            options.window_scale = Some(random.below(15) as u8);
            options.sack_permitted = random.one_in(2);
        }
        if random.one_in(3) {
            let value = random.near(self.now.as_millis() as u32);
            options.timestamps = Some(Timestamps { value, echo_reply: random.near(0) });
        }
        for _ in 0..random.below(4) {
            let left = random.near(seen.seq);
            options.sack.push(left, left.wrapping_add(random.below(5000) as u32));
        }
        let len = [0, 0, 1, 100, 1460][random.below(5) as usize];
        let repr = Repr {
            src_port: (8000 + port) as u16,
            dst_port: if random.one_in(30) { 81 } else { 80 },
            seq_number: random.near(seen.ack),
            ack_number: random.near(seen.seq),
            flags: Flags(flags),
            window: random.next() as u16 >> random.below(16),
            options,
        };
        let header_len = repr.header_len();
        let mut payload = vec![0; header_len + len];
        for byte in &mut payload[header_len..] {
            *byte = random.next() as u8;
        }
        let sum = checksum::sum(&payload[header_len..]);
        let mut packet = Packet::new_unchecked(&mut payload[..]);
        repr.emit(&mut packet);
        let peer = peer(port);
        packet.fill_checksum(peer, OURS, sum, len);
        ip_frame(peer, Protocol::Tcp, &payload)
    }
}

fn peer(port: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 2 + port as u8)
}

fn ip_frame(src_addr: Ipv4Addr, protocol: Protocol, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 34 + payload.len()];
    let header =
        ethernet::Repr { src_addr: support::STRANGER, dst_addr: OUR_HARDWARE, ethertype: EtherType::Ipv4 };
    header.emit(&mut ethernet::Frame::new_unchecked(&mut frame[..]));
    let ip = ipv4::Repr {
        src_addr,
        dst_addr: OURS,
        protocol,
        payload_len: payload.len(),
        ttl: 64,
        ident: 0,
        ecn: 0,
    };
    ip.emit(&mut ipv4::Packet::new_unchecked(&mut frame[14..]));
    frame[34..].copy_from_slice(payload);
    frame
}

fn arp_frame(random: &mut Random) -> Vec<u8> {
    let mut frame = vec![0; 42];
    let header = ethernet::Repr {
        src_addr: support::STRANGER,
        dst_addr: if random.one_in(2) { OUR_HARDWARE } else { EthernetAddress::BROADCAST },
        ethertype: EtherType::Arp,
    };
    header.emit(&mut ethernet::Frame::new_unchecked(&mut frame[..]));
    let packet = arp::Repr {
        operation: if random.one_in(2) { arp::Operation::Request } else { arp::Operation::Reply },
        sender_hardware: support::STRANGER,
        sender_protocol: Ipv4Addr::new(10, 0, 0, random.below(20) as u8),
        target_hardware: OUR_HARDWARE,
        target_protocol: if random.one_in(2) { OURS } else { Ipv4Addr::from_bits(random.next() as u32) },
    };
    packet.emit(&mut arp::Packet::new_unchecked(&mut frame[14..]));
    frame
}

fn mutate(frame: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        if frame.is_empty() {
            return;
        }
        let at = random.below(frame.len() as u64) as usize;
        match random.below(4) {
            0 => frame[at] ^= 1 << random.below(8),
            1 => frame[at] = random.next() as u8,
            2 => frame.truncate(at),
            _ => frame.insert(at, random.next() as u8),
        }
    }
}

#[test]
fn random_frames() {
    let mut random = Random(env("NETSTACK_FUZZ_SEED", 1) | 1);
    let mut target = Target::new();
    for _ in 0..env("NETSTACK_FUZZ_FRAMES", 30_000) {
        let mut frame: Vec<u8> = (0..random.below(120)).map(|_| random.next() as u8).collect();
        if frame.len() > 34 && !random.one_in(4) {
            // Past the first checks.
            frame[..6].copy_from_slice(&OUR_HARDWARE.0);
            frame[12..14].copy_from_slice(if random.one_in(3) { &[8, 6] } else { &[8, 0] });
            frame[14] = 0x40 | (5 + random.below(3) as u8);
        }
        target.frame(&frame, &mut random);
    }
}

#[test]
fn evil_peers() {
    let seed = env("NETSTACK_FUZZ_SEED", 1);
    println!("seed {seed}");
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut target = Target::new();
    let mut accepted = 0;
    for round in 0..env("NETSTACK_FUZZ_FRAMES", 150_000) {
        if round % 20_000 == 0 {
            accepted += target.stack.stats().accepted;
            target = Target::new();
            for port in 0..PORTS {
                target.stack.add_neighbor(target.now, peer(port), support::STRANGER);
            }
        }
        let mut frame = match random.below(40) {
            0 => arp_frame(&mut random),
            1 => {
                let echo = icmpv4::Repr::EchoRequest { ident: 1, sequence: 2, data: &[7; 50] };
                let mut message = vec![0; echo.buffer_len()];
                echo.emit(&mut icmpv4::Packet::new_unchecked(&mut message[..]));
                ip_frame(peer(0), Protocol::Icmp, &message)
            }
            _ => target.segment(&mut random),
        };
        if random.one_in(20) {
            mutate(&mut frame, &mut random);
        }
        target.frame(&frame, &mut random);
    }
    accepted += target.stack.stats().accepted;
    // The evil peers know enough to get in: the states behind the handshake are fuzzed too.
    assert!(accepted > 100, "{accepted} connections accepted");
}
