//! Network devices: whatever frames come from and go to, behind one small trait.
//!
//! ```text
//!   stack -> Transmission -> [Pcap tracer] -> [Fault] -> [Layout: emulated NIC buffer] -> Tap | Ring | Xdp | Packet | Wire
//! ```
//!
//! A device takes a [`Transmission`] (headers, payload pieces, what is left to do) and does with it the best
//! it can: a TAP device with offloads writes the pieces as they stand, one system call for up to 64 KB of TCP
//! payload; a device without has them put into a frame by a [`frame::FrameBuilder`], copied and summed in one
//! engine run. Devices stack: a tracer, a fault injector and an emulated network adapter wrap any other.
//!
//! A device does no protocol and keeps no time: `now` is an argument for those that emulate delay or write
//! time stamps.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use runtime::stats::work::{Quantity, count};
use runtime::time::Instant;

use crate::transmission::{Capabilities, RxChecksum, Transmission};
use crate::wire::EthernetAddress;

pub mod frame;
pub mod sole;
pub mod vlan;
mod vnet;

pub mod packet;
pub mod ring;
pub mod tap;
pub mod wire;
pub mod xdp;

pub mod fault;
pub mod layout;

pub mod pcap;

/// A frame that a device received, borrowed from the device until the next call.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// From the Ethernet header on, without frame check sequence. With receive offloads up to 64 KB.
    pub bytes: &'a [u8],
    /// What the device knows of the TCP checksum.
    pub checksum: RxChecksum,
}

/// Counters since a device was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames received; a merged super-frame counts once.
    pub rx_frames: u64,
    /// Bytes in them.
    pub rx_bytes: u64,
    /// Frames received but of no use: cut short, or dropped on purpose.
    pub rx_dropped: u64,
    /// Transmissions sent; a super-segment counts once.
    pub tx_frames: u64,
    /// Bytes in them.
    pub tx_bytes: u64,
    /// Transmissions that the device did not take: for TCP, lost on the wire.
    pub tx_dropped: u64,
}

impl Stats {
    /// Adds another device's counters.
    pub fn add(&mut self, other: &Stats) {
        self.rx_frames += other.rx_frames;
        self.rx_bytes += other.rx_bytes;
        self.rx_dropped += other.rx_dropped;
        self.tx_frames += other.tx_frames;
        self.tx_bytes += other.tx_bytes;
        self.tx_dropped += other.tx_dropped;
    }

    fn received(&mut self, bytes: usize) {
        count(Quantity::FramesReceived, 1);
        self.rx_frames += 1;
        self.rx_bytes += bytes as u64;
    }

    fn transmitted(&mut self, bytes: usize) {
        count(Quantity::FramesSent, 1);
        self.tx_frames += 1;
        self.tx_bytes += bytes as u64;
    }
}

/// Why a transmission did not go out, other than by being lost as on a wire.
#[derive(Debug)]
#[non_exhaustive]
pub enum TransmitError {
    /// Its payload cannot be read: the file behind a mapping was cut, or its disk has failed. Nothing of it
    /// was sent. Who sends it again meets the same, so the connection that it is of has to end; others are
    /// not concerned.
    PayloadUnreadable,
    /// The device is of no use any more.
    Device(io::Error),
}

impl fmt::Display for TransmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransmitError::PayloadUnreadable => f.write_str("the payload cannot be read"),
            TransmitError::Device(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for TransmitError {}

/// The kernel could not read what it was told to send, or the device has failed.
impl From<io::Error> for TransmitError {
    fn from(error: io::Error) -> TransmitError {
        if error.raw_os_error() == Some(libc::EFAULT) {
            TransmitError::PayloadUnreadable
        } else {
            TransmitError::Device(error)
        }
    }
}

/// A source and sink of Ethernet frames.
pub trait Device: fmt::Debug {
    /// What may be left to the device.
    fn capabilities(&self) -> Capabilities;

    /// Longest IPv4 packet that one frame carries, in bytes.
    fn mtu(&self) -> u16;

    /// An Ethernet address that a stack on this device may call its own.
    fn hardware_addr(&self) -> EthernetAddress;

    /// The descriptor to poll for arrival, if the device has one.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Whether [`Device::transmit`] would find room now. When not, poll the descriptor for writing.
    fn can_transmit(&mut self) -> bool {
        true
    }

    /// Sends. A device that is congested drops and counts, as a wire would.
    ///
    /// # Errors
    /// [`TransmitError::PayloadUnreadable`] is the transmission's fault, and the device goes on;
    /// [`TransmitError::Device`] only what makes the device useless: the interface is gone.
    fn transmit(&mut self, now: Instant, transmission: &Transmission<'_>) -> Result<(), TransmitError>;

    /// The next frame, if one has arrived.
    ///
    /// # Errors
    /// Only what makes the device useless.
    fn receive(&mut self, now: Instant) -> io::Result<Option<Received<'_>>>;

    /// Hands over what [`Device::transmit`] may have kept back to send at once. Call when the burst is over.
    ///
    /// # Errors
    /// As for [`Device::transmit`].
    fn flush(&mut self, now: Instant) -> io::Result<()> {
        let _ = now;
        Ok(())
    }

    /// When something will arrive that the descriptor does not tell of: frames that an emulation delays.
    fn next_arrival(&self) -> Option<Instant> {
        None
    }

    /// Counters.
    fn stats(&self) -> Stats;
}

impl<D: Device + ?Sized> Device for Box<D> {
    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    fn mtu(&self) -> u16 {
        (**self).mtu()
    }

    fn hardware_addr(&self) -> EthernetAddress {
        (**self).hardware_addr()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        (**self).descriptor()
    }

    fn can_transmit(&mut self) -> bool {
        (**self).can_transmit()
    }

    fn transmit(&mut self, now: Instant, transmission: &Transmission<'_>) -> Result<(), TransmitError> {
        (**self).transmit(now, transmission)
    }

    fn receive(&mut self, now: Instant) -> io::Result<Option<Received<'_>>> {
        (**self).receive(now)
    }

    fn flush(&mut self, now: Instant) -> io::Result<()> {
        (**self).flush(now)
    }

    fn next_arrival(&self) -> Option<Instant> {
        (**self).next_arrival()
    }

    fn stats(&self) -> Stats {
        (**self).stats()
    }
}

/// Whether an error of a device's `transmit` or `receive` is over with the frame that met it: the queue was
/// full, or the interface refused that frame.
fn is_transient(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    error.kind() == io::ErrorKind::WouldBlock
        || code == Some(libc::ENOBUFS)
        || code == Some(libc::ENOMEM)
        || code == Some(libc::EINVAL)
        || code == Some(libc::EMSGSIZE)
}

/// A locally administered unicast address from random bits.
fn random_hardware_addr() -> io::Result<EthernetAddress> {
    let mut bytes = [0u8; 6];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    bytes[0] = bytes[0] & 0xfc | 0x02;
    Ok(EthernetAddress(bytes))
}

#[cfg(test)]
mod tests;
