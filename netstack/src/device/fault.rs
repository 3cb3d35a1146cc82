//! Bad links: drops, duplicates, corruption and reordering, in front of any device, decided by a seed so that
//! a failure can be had again.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use runtime::payload::Piece;
use runtime::time::Instant;

use super::{Device, Received, Stats, TransmitError};
use crate::transmission::{Capabilities, Offload, Payload, RxChecksum, Transmission};
use crate::wire::EthernetAddress;

/// How often what goes wrong: probabilities for each frame, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// The frame is lost.
    pub drop: f64,
    /// The frame comes twice.
    pub duplicate: f64,
    /// One bit of the frame is wrong. Where the checksum was left to the device, which would have seen the
    /// bit's change as damage of the frame check sequence, the frame is lost instead.
    pub corrupt: f64,
    /// The frame is held back for [`Faults::reorder_delay`], and others overtake it.
    pub reorder: f64,
    /// How long.
    pub reorder_delay: Duration,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Faults = Faults {
        drop: 0.0,
        duplicate: 0.0,
        corrupt: 0.0,
        reorder: 0.0,
        reorder_delay: Duration::from_millis(2),
    };

    /// What befalls the next frame of `len` bytes.
    pub(super) fn decide(&self, random: &mut Random, len: usize) -> Verdict {
        // Every frame takes the same number of draws, so that one probability's change leaves other choices
        // alone.
        let draws = [(); 4].map(|()| random.unit());
        let bit = random.below(len as u64 * 8);
        Verdict {
            drop: draws[0] < self.drop,
            duplicate: draws[1] < self.duplicate,
            corrupt: (draws[2] < self.corrupt && len > 0).then_some(bit as usize),
            hold: draws[3] < self.reorder,
        }
    }
}

/// What befalls a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) drop: bool,
    pub(super) duplicate: bool,
    /// The bit to flip.
    pub(super) corrupt: Option<usize>,
    pub(super) hold: bool,
}

/// A small generator of random numbers for simulations (SplitMix64, Steele, Lea and Flood 2014). Not for
/// secrets.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of `seed`.
    pub const fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number, from 0 up to but without 1.
    pub const fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The next number, below `bound`; 0 if that is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }
}

/// A frame kept for later, with what is left to do for it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    header_len: usize,
    tcp_start: Option<u16>,
    offload: Offload,
}

impl Kept {
    pub(super) fn new(transmission: &Transmission<'_>) -> Kept {
        let mut bytes = transmission.headers.to_vec();
        bytes.extend(transmission.payload_to_vec());
        Kept {
            bytes,
            header_len: transmission.headers.len(),
            tcp_start: transmission.tcp_start,
            offload: transmission.offload,
        }
    }

    fn send<D: Device>(&self, now: Instant, device: &mut D) -> Result<(), TransmitError> {
        let (headers, payload) = self.bytes.split_at(self.header_len);
        let piece = [Piece::new(payload)];
        device.transmit(
            now,
            &Transmission {
                headers,
                payload: if payload.is_empty() { Payload::NONE } else { Payload::Pieces(&piece) },
                payload_len: payload.len(),
                tcp_start: self.tcp_start,
                offload: self.offload,
            },
        )
    }
}

/// A device behind a bad link. Faults befall both directions.
#[derive(Debug)]
pub struct FaultDevice<D> {
    inner: D,
    faults: Faults,
    random: Random,
    /// Held back on the way out, by rising time.
    outgoing: VecDeque<(Instant, Kept)>,
    /// Held back on the way in (or the copy of a duplicate), by rising time.
    incoming: VecDeque<(Instant, Vec<u8>, RxChecksum)>,
    rx: Vec<u8>,
    rx_dropped: u64,
    tx_dropped: u64,
}

impl<D: Device> FaultDevice<D> {
    /// Puts a bad link in front of `inner`. The same seed and the same frames meet the same fate.
    pub fn new(inner: D, faults: Faults, seed: u64) -> FaultDevice<D> {
        FaultDevice {
            inner,
            faults,
            random: Random::new(seed),
            outgoing: VecDeque::new(),
            incoming: VecDeque::new(),
            rx: Vec::new(),
            rx_dropped: 0,
            tx_dropped: 0,
        }
    }

    /// The device behind the link.
    pub fn get_ref(&self) -> &D {
        &self.inner
    }

    fn send_due(&mut self, now: Instant) -> io::Result<()> {
        while self.outgoing.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, kept)) = self.outgoing.pop_front() {
                match kept.send(now, &mut self.inner) {
                    Err(TransmitError::Device(error)) => return Err(error),
                    // It holds a copy of its payload.
                    Ok(()) | Err(TransmitError::PayloadUnreadable) => {}
                }
            }
        }
        Ok(())
    }
}

impl<D: Device> Device for FaultDevice<D> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn mtu(&self) -> u16 {
        self.inner.mtu()
    }

    fn hardware_addr(&self) -> EthernetAddress {
        self.inner.hardware_addr()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.descriptor()
    }

    fn can_transmit(&mut self) -> bool {
        self.inner.can_transmit()
    }

    fn transmit(&mut self, now: Instant, transmission: &Transmission<'_>) -> Result<(), TransmitError> {
        self.send_due(now)?;
        let verdict = self.faults.decide(&mut self.random, transmission.len());
        if verdict.drop || (verdict.corrupt.is_some() && transmission.offload.checksum.is_some()) {
            self.tx_dropped += 1;
            return Ok(());
        }
        if let Some(bit) = verdict.corrupt {
            // Finished first and damaged then, so that the damage shows.
            let mut builder = super::frame::FrameBuilder::new();
            let frame = builder.build(&[], transmission);
            frame[bit / 8] ^= 1 << (bit % 8);
            let damaged = Transmission {
                headers: frame,
                payload: Payload::NONE,
                payload_len: 0,
                tcp_start: None,
                offload: Offload::default(),
            };
            return self.inner.transmit(now, &damaged);
        }
        if verdict.hold {
            self.outgoing.push_back((now + self.faults.reorder_delay, Kept::new(transmission)));
            return Ok(());
        }
        if verdict.duplicate {
            self.inner.transmit(now, transmission)?;
        }
        self.inner.transmit(now, transmission)
    }

    fn receive(&mut self, now: Instant) -> io::Result<Option<Received<'_>>> {
        self.send_due(now)?;
        loop {
            if self.incoming.front().is_some_and(|(due, ..)| *due <= now)
                && let Some((_, bytes, checksum)) = self.incoming.pop_front()
            {
                self.rx = bytes;
                return Ok(Some(Received { bytes: &self.rx, checksum }));
            }
            let Some(received) = self.inner.receive(now)? else { return Ok(None) };
            let verdict = self.faults.decide(&mut self.random, received.bytes.len());
            // A kernel that left the checksum out would believe a damaged frame; a real link would have lost
            // it.
            let unprotected = received.checksum != RxChecksum::Unknown;
            if verdict.drop || (verdict.corrupt.is_some() && unprotected) {
                self.rx_dropped += 1;
                continue;
            }
            let checksum = received.checksum;
            let mut bytes = received.bytes.to_vec();
            if let Some(bit) = verdict.corrupt {
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            if verdict.duplicate {
                self.incoming.push_front((now, bytes.clone(), checksum));
            }
            if verdict.hold {
                self.incoming.push_back((now + self.faults.reorder_delay, bytes, checksum));
                continue;
            }
            self.rx = bytes;
            return Ok(Some(Received { bytes: &self.rx, checksum }));
        }
    }

    fn flush(&mut self, now: Instant) -> io::Result<()> {
        self.send_due(now)?;
        self.inner.flush(now)
    }

    fn next_arrival(&self) -> Option<Instant> {
        let outgoing = self.outgoing.front().map(|(due, _)| *due);
        let incoming = self.incoming.front().map(|(due, ..)| *due);
        [outgoing, incoming, self.inner.next_arrival()].into_iter().flatten().min()
    }

    fn stats(&self) -> Stats {
        let mut stats = self.inner.stats();
        stats.rx_dropped += self.rx_dropped;
        stats.tx_dropped += self.tx_dropped;
        stats
    }
}
