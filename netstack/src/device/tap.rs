//! The TAP device: the kernel at the other end of the cable, with the offloads of its virtio-net header.
//!
//! With offloads on, a super-segment of up to 64 KB of payload goes out in one `writev` of header, headers
//! and payload pieces, with checksum and segmentation left to the kernel (which, being the receiver, does
//! neither); and the kernel's own super-segments come in whole, with unfinished checksums. With offloads off,
//! both directions are plain frames of at most the MTU with finished checksums.
//!
//! Linux `Documentation/networking/tuntap.rst`; header fields as in the virtio specification 1.2, section
//! 5.1.6.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use runtime::payload::Piece;
use runtime::stats::work::{Quantity, count};
use runtime::time::Instant;
use runtime::transfer::Transfer;
use smallvec::SmallVec;

use super::frame::FrameBuilder;
use super::vlan::{self, TaggedHeaders, VlanId};
use super::vnet::VnetHeader;
use super::{Device, Received, Stats, TransmitError, is_transient, random_hardware_addr};
use crate::sys::{link, tun};
use crate::transmission::{Capabilities, Payload, RxChecksum, Transmission};
use crate::wire::{EthernetAddress, ethernet, ipv4};

/// Largest payload of a super-segment, in bytes: what an IPv4 packet holds beside the longest headers.
const MAX_SEGMENTATION: u32 = (ipv4::MAX_PACKET_LEN - 20 - 60) as u32;

/// Longest frame the kernel may hand over: a super-segment in one IPv4 packet, a VLAN tag to spare.
const MAX_FRAME_LEN: usize = ethernet::HEADER_LEN + 4 + ipv4::MAX_PACKET_LEN;

/// A TAP device as a [`Device`].
#[derive(Debug)]
pub struct TapDevice {
    tap: tun::Tap,
    offload: bool,
    /// The kernel knows super-datagrams of UDP.
    datagrams: bool,
    mtu: u16,
    hardware_addr: EthernetAddress,
    vlan: Option<VlanId>,
    rx: Vec<u8>,
    builder: FrameBuilder,
    stats: Stats,
}

impl TapDevice {
    /// Creates a TAP device, or attaches to the existing one of that name. The interface is left as it is:
    /// the caller gives the kernel's side an address and sets it up ([`link`]), before or after.
    ///
    /// # Errors
    /// As [`tun::Tap::open`].
    pub fn open(name: Option<&str>, offload: bool) -> io::Result<TapDevice> {
        TapDevice::of(tun::Tap::open(name)?, offload, random_hardware_addr()?)
    }

    /// The same as one of several queues of the device, for stacks with one address ([`crate::sharing`]):
    /// they have the same Ethernet address, that of the first, who has none yet.
    ///
    /// # Errors
    /// As [`tun::Tap::open_queue`].
    pub fn open_queue(
        name: Option<&str>,
        offload: bool,
        hardware_addr: Option<EthernetAddress>,
    ) -> io::Result<TapDevice> {
        let hardware_addr = hardware_addr.map_or_else(random_hardware_addr, Ok)?;
        TapDevice::of(tun::Tap::open_queue(name)?, offload, hardware_addr)
    }

    fn of(tap: tun::Tap, offload: bool, hardware_addr: EthernetAddress) -> io::Result<TapDevice> {
        let datagrams = tap.set_receive_offload(offload)?;
        let mtu = u16::try_from(link::get(tap.name())?.mtu).unwrap_or(u16::MAX);
        Ok(TapDevice {
            tap,
            offload,
            datagrams,
            mtu,
            hardware_addr,
            vlan: None,
            rx: vec![0; tun::VNET_HEADER_LEN + MAX_FRAME_LEN],
            builder: FrameBuilder::fused()?,
            stats: Stats::default(),
        })
    }

    /// Puts payload into frames by `transfer` instead of the default, a fused copy and Internet checksum. It
    /// must obey no layout.
    pub fn set_transfer(&mut self, transfer: Transfer) {
        self.builder = FrameBuilder::with_transfer(transfer);
    }

    /// Sends and receives frames of that network alone; without, those without a tag.
    pub fn set_vlan(&mut self, vlan: Option<VlanId>) {
        self.vlan = vlan;
    }

    /// Sets the interface's MTU, at both ends: 9,000 bytes make jumbo frames.
    ///
    /// # Errors
    /// `EINVAL` if the kernel does not allow so much or so little (68 to 65,521), `EPERM`.
    pub fn set_mtu(&mut self, mtu: u16) -> io::Result<()> {
        link::set_mtu(self.tap.name(), u32::from(mtu))?;
        self.mtu = mtu;
        Ok(())
    }

    /// Name of the kernel's interface.
    pub fn name(&self) -> &str {
        self.tap.name()
    }

    /// One vectored write: nothing is copied on our side.
    fn write_pieces(&self, transmission: &Transmission<'_>, pieces: &[Piece<'_>]) -> io::Result<()> {
        let vnet = VnetHeader::for_transmission(transmission).to_bytes();
        let mut slices: SmallVec<[IoSlice<'_>; 8]> = SmallVec::new();
        slices.push(IoSlice::new(&vnet));
        slices.push(IoSlice::new(transmission.headers));
        slices.extend(pieces.iter().map(|piece| IoSlice::new(piece.bytes)));
        rustix::io::writev(&self.tap, &slices)?;
        Ok(())
    }
}

impl Device for TapDevice {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            checksum: self.offload,
            segmentation: self.offload.then_some(MAX_SEGMENTATION),
            gather: self.offload,
            datagrams: self.datagrams,
        }
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn hardware_addr(&self) -> EthernetAddress {
        self.hardware_addr
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.tap.as_fd())
    }

    fn transmit(&mut self, _now: Instant, transmission: &Transmission<'_>) -> Result<(), TransmitError> {
        count(Quantity::CallsToSend, 1);
        count(Quantity::BytesSent, transmission.payload_len);
        let mut headers = TaggedHeaders::new();
        let transmission =
            &self.vlan.map_or(*transmission, |id| vlan::tagged(id, transmission, &mut headers));
        let is_finished = transmission.tcp_start.is_none() || transmission.offload.checksum.is_some();
        let result = match transmission.payload {
            Payload::Pieces(pieces) if is_finished => {
                count(Quantity::BytesReferenced, transmission.payload_len);
                self.write_pieces(transmission, pieces)
            }
            _ => {
                let header = VnetHeader::for_transmission(transmission).to_bytes();
                let frame = self.builder.build_for(&header, transmission);
                rustix::io::write(&self.tap, frame).map(drop).map_err(io::Error::from)
            }
        };
        match result {
            Ok(()) => self.stats.transmitted(transmission.len()),
            // EIO: the interface is not up (yet).
            Err(error) if is_transient(&error) || error.raw_os_error() == Some(libc::EIO) => {
                self.stats.tx_dropped += 1;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn receive(&mut self, _now: Instant) -> io::Result<Option<Received<'_>>> {
        loop {
            count(Quantity::CallsToReceive, 1);
            let len = match rustix::io::read(&self.tap, self.rx.as_mut_slice()) {
                Ok(len) => len,
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let Some(header) = self.rx[..len].first_chunk().map(VnetHeader::from_bytes) else {
                self.stats.rx_dropped += 1;
                continue;
            };
            let frame = &mut self.rx[tun::VNET_HEADER_LEN..len];
            let Some(start) = vlan::untag(self.vlan, frame).map(|frame| len - frame.len()) else {
                // Handed up as nothing, so that a flood of them ends in the caller's bound.
                self.stats.rx_dropped += 1;
                return Ok(Some(Received { bytes: &[], checksum: RxChecksum::Unknown }));
            };
            self.stats.received(len - start);
            return Ok(Some(Received { bytes: &self.rx[start..len], checksum: header.rx_checksum() }));
        }
    }

    fn stats(&self) -> Stats {
        self.stats
    }
}
