//! A bad cable between two interfaces: frames go from one to the other, late, and some not at all.
//!
//! `relay A B LOSS_PERCENT DELAY_MS SEED`: A is the server's side, B the client's. Which frames are lost
//! depends on what they are (the client's port, the direction, the place in the stream, how often it went
//! by), not on when they come: two servers that send the same bytes lose the same ones. Places are counted in
//! full segments, for one short segment early on (the kernel's sockets send such when a write ends) shifts
//! all that follow. TCP alone suffers. What is lost is told on standard error, a line each: `PORT
//! server|client syn|data|fin|ack FROM TO TIME`: offsets in the stream, and how often the same went by
//! before.
//!
//! For measurements with the kernel's TCP at either end where the kernel has no netem; both ends' offloads
//! must be off (`ethtool -K IF tx off tso off gso off gro off`).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use netstack::device::Device;
use netstack::device::fault::Random;
use netstack::device::packet::PacketDevice;
use netstack::transmission::{Offload, Payload, Transmission};
use netstack::wire::{ethernet, ipv4, tcp};
use runtime::event_loop::EventLoop;
use runtime::poller::{Interest, Token, Trigger};
use runtime::time::Instant;

/// Frames under way to one interface at most, as in a router's queue.
const QUEUE_LEN: usize = 1000;

/// Payload of a full segment at an MTU of 1,500 bytes, with timestamps: one such begins in each such stretch.
const STRETCH: u32 = 1448;

/// What a segment is, whoever sent it and whenever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name {
    /// The client's port.
    port: u16,
    from_server: bool,
    flags: u8,
    /// Where in the stream, SYN and FIN not counted.
    offset: u32,
    len: u32,
    /// What it acknowledges, if that is all it does.
    ack: u32,
}

/// The losses of all connections.
struct Losses {
    loss: f64,
    seed: u64,
    /// The first number that either side sent on a connection, by port and side.
    initial: HashMap<(u16, bool), u32>,
    seen: HashMap<Name, u32>,
}

impl Losses {
    /// Reads a frame; nothing if it is not of TCP.
    fn name(&mut self, frame: &[u8], from_server: bool) -> Option<Name> {
        let ethernet = ethernet::Frame::new_checked(frame).ok()?;
        if ethernet.ethertype() != ethernet::EtherType::Ipv4 {
            return None;
        }
        let packet = ipv4::Packet::new_checked(ethernet.payload()).ok()?;
        if packet.protocol() != ipv4::Protocol::Tcp {
            return None;
        }
        let segment = tcp::Packet::new_checked(packet.payload()).ok()?;
        let port = if from_server { segment.dst_port() } else { segment.src_port() };
        let flags = segment.flags();
        if flags.contains(tcp::Flags::SYN) {
            self.initial.insert((port, from_server), segment.seq_number().wrapping_add(1));
        }
        let initial = |side| self.initial.get(&(port, side)).copied().unwrap_or(0);
        let len = segment.payload().len() as u32;
        // PSH differs between implementations, and says nothing.
        let kinds = [tcp::Flags::SYN, tcp::Flags::FIN, tcp::Flags::RST];
        let flags = kinds.into_iter().filter(|&kind| flags.contains(kind)).fold(0, |all, kind| all | kind.0);
        let is_bare = len == 0 && flags == 0;
        Some(Name {
            port,
            from_server,
            flags,
            offset: if is_bare { 0 } else { segment.seq_number().wrapping_sub(initial(from_server)) },
            len,
            ack: if is_bare { segment.ack_number().wrapping_sub(initial(!from_server)) } else { 0 },
        })
    }

    /// Whether this frame is lost.
    fn decide(&mut self, frame: &[u8], from_server: bool) -> bool {
        let Some(name) = self.name(frame, from_server) else { return false };
        let times = self.seen.entry(name).or_insert(0);
        let Name { port, from_server, flags, offset, len, ack } = name;
        // A FIN may come with the last data or by itself.
        let stretch = u64::from(offset / STRETCH);
        let place = [u64::from(port), from_server.into(), stretch, (len > 0).into(), ack.into()];
        let hash = place.into_iter().chain([u64::from(*times)]).fold(self.seed, |hash, part| {
            Random::new(hash ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15)).next_u64()
        });
        let is_lost = Random::new(hash).unit() < self.loss;
        if is_lost {
            let side = if from_server { "server" } else { "client" };
            let kind = match flags {
                _ if tcp::Flags(flags).contains(tcp::Flags::SYN) => "syn",
                _ if len > 0 => "data",
                0 => "ack",
                _ => "fin",
            };
            let from = if kind == "ack" { ack } else { offset };
            eprintln!("{port} {side} {kind} {from} {} {times}", from.wrapping_add(len));
        }
        *times += 1;
        is_lost
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [a, b, loss, delay, seed] = &arguments[..] else {
        return Err("usage: relay SERVER_INTERFACE CLIENT_INTERFACE LOSS_PERCENT DELAY_MS SEED".into());
    };
    let loss: f64 = loss.parse::<f64>()? / 100.0;
    let delay = Duration::from_secs_f64(delay.parse::<f64>()? / 1000.0);
    let mut losses = Losses { loss, seed: seed.parse()?, initial: HashMap::new(), seen: HashMap::new() };
    let mut devices = [PacketDevice::open(a)?, PacketDevice::open(b)?];
    let mut under_way: [VecDeque<(Instant, Vec<u8>)>; 2] = Default::default();
    let mut events = EventLoop::new()?;
    for (number, device) in devices.iter().enumerate() {
        let descriptor = device.descriptor().ok_or("a packet device has a descriptor")?;
        events.add(&descriptor, Token(number as u64), Interest::READ, Trigger::Level)?;
    }
    loop {
        events.turn(under_way.iter().filter_map(|queue| queue.front()).map(|(at, _)| *at).min())?;
        let now = events.now();
        for from in 0..2 {
            while let Some(frame) = devices[from].receive(now)? {
                let queue = &mut under_way[1 - from];
                if !losses.decide(frame.bytes, from == 0) && queue.len() < QUEUE_LEN {
                    queue.push_back((now + delay, frame.bytes.to_vec()));
                }
            }
        }
        for (to, device) in devices.iter_mut().enumerate() {
            while under_way[to].front().is_some_and(|(at, _)| *at <= now) {
                let Some((_, frame)) = under_way[to].pop_front() else { break };
                device.transmit(
                    now,
                    &Transmission {
                        headers: &frame,
                        payload: Payload::NONE,
                        payload_len: 0,
                        tcp_start: None,
                        offload: Offload::default(),
                    },
                )?;
            }
        }
    }
}
