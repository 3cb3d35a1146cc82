//! A wire in memory with a device at each end: a link with delay, rate and faults that does the same again
//! for the same seed. The simulator's link, and the last resort of a demonstration where no real device may
//! be had.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runtime::time::Instant;

use super::fault::{Faults, Random};
use super::frame::FrameBuilder;
use super::{Device, Received, Stats, TransmitError};
use crate::transmission::{Capabilities, RxChecksum, Transmission};
use crate::wire::EthernetAddress;

/// Properties of the link and of the devices at its ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Longest IPv4 packet, in bytes.
    pub mtu: u16,
    /// Time from one end to the other.
    pub delay: Duration,
    /// Random additional delay, up to this. Frames keep their order unless [`Faults::reorder`] says
    /// otherwise.
    pub jitter: Duration,
    /// Time that one byte takes, in nanoseconds; 0 for an infinitely fast link.
    pub ns_per_byte: u64,
    /// Frames under way in one direction at most; more are lost, as in a router's queue.
    pub queue_len: usize,
    /// What goes wrong, in both directions.
    pub faults: Faults,
    /// What the devices do by themselves. Frames with unfinished checksums arrive as [`RxChecksum::Partial`]
    /// and super-segments arrive whole, as over a TAP device.
    pub capabilities: Capabilities,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mtu: 1500,
            delay: Duration::from_micros(50),
            jitter: Duration::ZERO,
            ns_per_byte: 0,
            queue_len: 4096,
            faults: Faults::NONE,
            capabilities: Capabilities::default(),
        }
    }
}

#[derive(Debug)]
struct Frame {
    bytes: Vec<u8>,
    checksum: RxChecksum,
}

/// Frames under way in one direction, by time of arrival and then of departure.
#[derive(Debug, Default)]
struct Direction {
    frames: BTreeMap<(Instant, u64), Frame>,
    sent: u64,
    /// When the link has sent what it was given.
    busy_until: Instant,
    /// The latest arrival of a frame that keeps its order.
    last_arrival: Instant,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    random: Random,
    /// Indexed by the sending end.
    directions: [Direction; 2],
}

impl Shared {
    /// Puts a frame on the wire. Returns whether it got there.
    fn send(&mut self, now: Instant, from: usize, frame: Frame) -> bool {
        let Config { delay, jitter, ns_per_byte, queue_len, faults, .. } = self.config;
        let verdict = faults.decide(&mut self.random, frame.bytes.len());
        let jitter = Duration::from_nanos(self.random.below(jitter.as_nanos() as u64 + 1));
        let direction = &mut self.directions[from];
        if verdict.drop || direction.frames.len() >= queue_len {
            return false;
        }
        let mut frame = frame;
        if let Some(bit) = verdict.corrupt {
            if frame.checksum != RxChecksum::Unknown {
                return false;
            }
            frame.bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let start = direction.busy_until.max(now);
        direction.busy_until = start + Duration::from_nanos(ns_per_byte * frame.bytes.len() as u64);
        let mut arrival = (direction.busy_until + delay + jitter).max(direction.last_arrival);
        if verdict.hold {
            arrival = arrival + faults.reorder_delay;
        } else {
            direction.last_arrival = arrival;
        }
        if verdict.duplicate {
            let copy = Frame { bytes: frame.bytes.clone(), checksum: frame.checksum };
            direction.frames.insert((arrival, direction.sent), copy);
            direction.sent += 1;
        }
        direction.frames.insert((arrival, direction.sent), frame);
        direction.sent += 1;
        true
    }
}

/// One end of a wire.
#[derive(Debug)]
pub struct WireDevice {
    shared: Arc<Mutex<Shared>>,
    end: usize,
    capabilities: Capabilities,
    mtu: u16,
    builder: FrameBuilder,
    rx: Vec<u8>,
    stats: Stats,
}

/// A wire's two ends. What happens on it depends on `seed` and on what is sent when, on nothing else.
pub fn pair(config: Config, seed: u64) -> (WireDevice, WireDevice) {
    let directions = [Direction::default(), Direction::default()];
    let shared = Arc::new(Mutex::new(Shared { config, random: Random::new(seed), directions }));
    let end = |end| WireDevice {
        shared: Arc::clone(&shared),
        end,
        capabilities: config.capabilities,
        mtu: config.mtu,
        builder: FrameBuilder::new(),
        rx: Vec::new(),
        stats: Stats::default(),
    };
    (end(0), end(1))
}

impl WireDevice {
    /// Puts bytes on the wire as they are: for tests that play an evil neighbour.
    pub fn inject(&mut self, now: Instant, bytes: &[u8]) {
        let frame = Frame { bytes: bytes.to_vec(), checksum: RxChecksum::Unknown };
        let end = self.end;
        if !self.lock().send(now, end, frame) {
            self.stats.tx_dropped += 1;
        }
    }

    /// Changes what goes wrong from now on, in both directions.
    pub fn set_faults(&mut self, faults: Faults) {
        self.lock().config.faults = faults;
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for WireDevice {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn hardware_addr(&self) -> EthernetAddress {
        EthernetAddress([2, 0, 0, 0, 0, 1 + self.end as u8])
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn transmit(&mut self, now: Instant, transmission: &Transmission<'_>) -> Result<(), TransmitError> {
        let frame = if transmission.offload.checksum.is_some() {
            let mut bytes = transmission.headers.to_vec();
            bytes.extend(transmission.payload_to_vec());
            Frame { bytes, checksum: RxChecksum::Partial }
        } else {
            Frame { bytes: self.builder.build(&[], transmission).to_vec(), checksum: RxChecksum::Unknown }
        };
        let end = self.end;
        if self.lock().send(now, end, frame) {
            self.stats.transmitted(transmission.len());
        } else {
            self.stats.tx_dropped += 1;
        }
        Ok(())
    }

    fn receive(&mut self, now: Instant) -> io::Result<Option<Received<'_>>> {
        let frame = {
            let mut shared = self.lock();
            let direction = &mut shared.directions[1 - self.end];
            match direction.frames.first_entry() {
                Some(entry) if entry.key().0 <= now => entry.remove(),
                _ => return Ok(None),
            }
        };
        self.stats.received(frame.bytes.len());
        self.rx = frame.bytes;
        Ok(Some(Received { bytes: &self.rx, checksum: frame.checksum }))
    }

    fn next_arrival(&self) -> Option<Instant> {
        self.lock().directions[1 - self.end].frames.first_key_value().map(|((arrival, _), _)| *arrival)
    }

    fn stats(&self) -> Stats {
        self.stats
    }
}
