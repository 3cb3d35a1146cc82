//! AF_PACKET rings with virtio-net headers: an existing interface with its offloads, without a system call
//! for each frame.
//!
//! Frames arrive in mapped memory; those to send are put into mapped memory, payload copied once from where
//! the application has it, and one system call a burst ([`Device::flush`]) sends them. Checksums and
//! segmentation are left to the interface: over a veth pair nobody does either, and a partial checksum from
//! the far end is known to be one. Without offloads frames are built in the slot itself, payload copied and
//! summed in one engine run.
//!
//! As with [`super::packet`], the kernel keeps its own stack on the interface and must not own our address.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use runtime::stats::work::{Quantity, count};
use runtime::time::Instant;
use runtime::transfer::Transfer;

use super::frame::FrameBuilder;
use super::sole::SoleHearer;
use super::vlan::{self, TaggedHeaders, VlanId};
use super::vnet::VnetHeader;
use super::{Device, Received, Stats, TransmitError};
use crate::iface::flow_share::FlowShare;
use crate::sys::tun::VNET_HEADER_LEN;
use crate::sys::{link, packet, ring};
use crate::transmission::{Capabilities, RxChecksum, Transmission};
use crate::wire::{EthernetAddress, ipv4};

/// Receive slots: 5 ms of a flood of 200,000 frames a second.
const RX_SLOTS: usize = 1024;

/// Transmit slots: more than a burst.
const TX_SLOTS: usize = 64;

/// Largest payload of a super-segment, in bytes.
const MAX_SEGMENTATION: u32 = (ipv4::MAX_PACKET_LEN - 20 - 60) as u32;

/// How often the interface is asked what it does, at most.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// An interface of the machine, by rings.
#[derive(Debug)]
pub struct RingDevice {
    rings: ring::PacketRings,
    name: String,
    /// Whether anything shall be left to the interface at all.
    offload: bool,
    /// What it does, and when it was asked last.
    features: link::TxFeatures,
    asked_at: Instant,
    mtu: u16,
    hardware_addr: EthernetAddress,
    vlan: Option<VlanId>,
    builder: FrameBuilder,
    stats: Stats,
    sole: SoleHearer,
}

impl RingDevice {
    /// Opens the Ethernet interface `name`, which must be up.
    ///
    /// # Errors
    /// `ENODEV` if there is none; needs `CAP_NET_RAW`; [`io::ErrorKind::InvalidInput`] if it is no Ethernet
    /// interface; `ENOMEM` if the kernel has no memory for the rings.
    pub fn open(name: &str, offload: bool) -> io::Result<RingDevice> {
        RingDevice::open_in(name, offload, None)
    }

    /// The same, to send and receive frames of that network alone; without, those without a tag. No frame of
    /// another gets in from the first on.
    ///
    /// # Errors
    /// As [`RingDevice::open`].
    pub fn open_in(name: &str, offload: bool, vlan: Option<VlanId>) -> io::Result<RingDevice> {
        let interface = link::get(name)?;
        let Some(hardware_addr) = interface.hardware_addr.filter(|address| address.is_unicast()) else {
            let text = format!("{name} is no Ethernet interface");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        Ok(RingDevice {
            rings: ring::PacketRings::open(
                interface.index,
                RX_SLOTS,
                TX_SLOTS,
                &vlan::classic_program(vlan),
            )?,
            name: name.to_owned(),
            offload,
            features: link::tx_features(name)?,
            asked_at: Instant::ZERO,
            mtu: u16::try_from(interface.mtu).unwrap_or(u16::MAX),
            hardware_addr,
            vlan,
            builder: FrameBuilder::fused()?,
            stats: Stats::default(),
            sole: SoleHearer::default(),
        })
    }

    /// Has the interface's frames shared with the other devices in the group of that number, each of which
    /// gets the flows of its share. They join in the order of their shares, at once after they were opened.
    ///
    /// # Errors
    /// From the kernel.
    pub fn join_group(&self, number: u16, share: &FlowShare) -> io::Result<()> {
        packet::join_group(self.rings.receive_socket(), number, &share.classic_program())
    }

    /// Keeps the kernel's own protocols from what is for these addresses of ours, as long as the device is
    /// open ([`super::sole`]): those that the kernel does not have itself, of a device without a VLAN.
    /// Whether that is done now.
    ///
    /// # Errors
    /// As of [`SoleHearer::new`]; nothing has changed then.
    pub fn hear_alone(&mut self, addrs: &[IpAddr]) -> io::Result<bool> {
        self.sole = SoleHearer::on(&self.name, self.vlan.is_some(), addrs)?;
        Ok(self.sole.is_attached())
    }

    /// Puts payload into frames by `transfer` instead of the default, a fused copy and Internet checksum. It
    /// must obey no layout.
    pub fn set_transfer(&mut self, transfer: Transfer) {
        self.builder = FrameBuilder::with_transfer(transfer);
    }

    /// Name of the interface.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the interface does can be switched while it is in use, and what it no longer does, the kernel
    /// drops: with the queueing discipline passed over, nobody cuts a super-segment in its stead.
    fn ask_again(&mut self, now: Instant) {
        if self.offload && now.saturating_since(self.asked_at) >= ASK_INTERVAL {
            self.asked_at = now;
            // One that is gone is noticed by sending.
            self.features = link::tx_features(&self.name).unwrap_or_default();
        }
    }

    fn kick(&mut self) -> io::Result<()> {
        if self.rings.pending() > 0 {
            count(Quantity::CallsToSend, 1);
        }
        match self.rings.kick() {
            // Down: what was in the ring is lost, as on a pulled cable.
            Err(error) if super::is_transient(&error) || error.raw_os_error() == Some(libc::ENETDOWN) => {
                Ok(())
            }
            result => result,
        }
    }
}

impl Device for RingDevice {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            checksum: self.offload && self.features.checksum,
            segmentation: (self.offload && self.features.segmentation).then_some(MAX_SEGMENTATION),
            gather: true,
            datagrams: self.offload && self.features.checksum && self.features.datagrams,
        }
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn hardware_addr(&self) -> EthernetAddress {
        self.hardware_addr
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.rings.receive_socket())
    }

    fn can_transmit(&mut self) -> bool {
        // Slots come free by sending; what fails in sending is met again, and told, in `flush`.
        self.rings.can_transmit() || (self.kick().is_ok() && self.rings.can_transmit())
    }

    fn transmit(&mut self, _now: Instant, transmission: &Transmission<'_>) -> Result<(), TransmitError> {
        if !self.rings.can_transmit() {
            self.kick()?;
        }
        let mut headers = TaggedHeaders::new();
        let transmission =
            &self.vlan.map_or(*transmission, |id| vlan::tagged(id, transmission, &mut headers));
        let header = VnetHeader::for_transmission(transmission).to_bytes();
        let builder = &self.builder;
        let sent = self.rings.transmit(|slot| {
            let (head, frame) = slot.split_at_mut_checked(VNET_HEADER_LEN)?;
            head.copy_from_slice(&header);
            let frame = frame.get_mut(..transmission.len())?;
            builder.build_into(transmission, frame);
            Some(VNET_HEADER_LEN + frame.len())
        });
        if sent {
            count(Quantity::BytesSent, transmission.payload_len);
            self.stats.transmitted(transmission.len());
        } else {
            self.stats.tx_dropped += 1;
        }
        // A burst that would not fit is sent in parts.
        if self.rings.pending() >= TX_SLOTS / 2 { Ok(self.kick()?) } else { Ok(()) }
    }

    fn receive(&mut self, _now: Instant) -> io::Result<Option<Received<'_>>> {
        let Some(frame) = self.rings.receive() else { return Ok(None) };
        if frame.is_cut {
            self.stats.rx_dropped += 1;
            return Ok(Some(Received { bytes: &[], checksum: RxChecksum::Unknown }));
        }
        self.stats.received(frame.bytes.len());
        let checksum = VnetHeader::from_bytes(&frame.vnet_header).rx_checksum();
        Ok(Some(Received { bytes: frame.bytes, checksum }))
    }

    fn flush(&mut self, now: Instant) -> io::Result<()> {
        self.ask_again(now);
        self.kick()
    }

    fn stats(&self) -> Stats {
        self.stats
    }
}
