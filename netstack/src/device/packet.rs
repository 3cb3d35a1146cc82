//! AF_PACKET by way of `pnet`: a system call or two a frame and no offloads, but it runs on any interface of
//! the machine. The portable baseline that faster devices are measured against.
//!
//! The kernel keeps its own stack on the interface, so it must not own the address that we answer for, or it
//! would reset our connections.
//!
//! **Partial checksums.** A peer on this machine (the far end of a veth pair, a container) leaves checksums
//! to a network adapter that is not there: its frames arrive here with only the pseudo-header's sum in the
//! checksum field, and up to 64 KB long. This device cannot see the kernel's note of that, so such segments
//! fail verification and are dropped, as they must be, since nothing tells them from damaged ones. Switch the
//! *peer's* offloads off: [`crate::sys::link::set_tx_offload`], or `ethtool -K PEER tx off tso off gso off`.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use pnet_datalink::{self as datalink, Channel, DataLinkReceiver, DataLinkSender, MacAddr, NetworkInterface};
use runtime::stats::work::{Quantity, count};
use runtime::time::Instant;
use runtime::transfer::Transfer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::frame::FrameBuilder;
use super::sole::SoleHearer;
use super::vlan::{self, TaggedHeaders, VlanId};
use super::{Device, Received, Stats, TransmitError, is_transient};
use crate::iface::flow_share::FlowShare;
use crate::sys::{link, packet};
use crate::transmission::{Capabilities, RxChecksum, Transmission};
use crate::wire::{EthernetAddress, ethernet, ipv4};

/// Room for the longest frame: `pnet` cuts longer ones without a word, and its default of 4,096 bytes is too
/// little for jumbo frames and merged ones.
const FRAME_BUFFER_LEN: usize = ethernet::HEADER_LEN + 4 + ipv4::MAX_PACKET_LEN;

/// Socket buffers: a few milliseconds of a fast sender's frames.
const SOCKET_BUFFER_LEN: usize = 8 << 20;

/// An interface of the machine as a [`Device`].
pub struct PacketDevice {
    sender: Box<dyn DataLinkSender>,
    receiver: Box<dyn DataLinkReceiver>,
    /// The same socket as in the two above, to poll.
    socket: OwnedFd,
    name: String,
    mtu: u16,
    hardware_addr: EthernetAddress,
    vlan: Option<VlanId>,
    builder: FrameBuilder,
    /// The send buffer was full when last written to.
    is_full: bool,
    stats: Stats,
    sole: SoleHearer,
}

impl PacketDevice {
    /// Opens the Ethernet interface `name`, which must be up.
    ///
    /// # Errors
    /// `ENODEV` if there is none; needs `CAP_NET_RAW`; [`io::ErrorKind::InvalidInput`] if it is no Ethernet
    /// interface.
    pub fn open(name: &str) -> io::Result<PacketDevice> {
        PacketDevice::open_in(name, None)
    }

    /// The same, to send and receive frames of that network alone; without, those without a tag. No frame of
    /// another gets in from the first on.
    ///
    /// # Errors
    /// As [`PacketDevice::open`].
    pub fn open_in(name: &str, vlan: Option<VlanId>) -> io::Result<PacketDevice> {
        let interface = link::get(name)?;
        let Some(hardware_addr) = interface.hardware_addr.filter(|address| address.is_unicast()) else {
            let text = format!("{name} is no Ethernet interface");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        let socket = packet::open()?;
        packet::set_buffers(&socket, SOCKET_BUFFER_LEN)?;
        packet::set_filter(socket.as_fd(), &vlan::classic_program(vlan))?;
        packet::hear_groups(socket.as_fd(), interface.index)?;
        let config = datalink::Config {
            write_buffer_size: FRAME_BUFFER_LEN,
            read_buffer_size: FRAME_BUFFER_LEN,
            // Zero makes pnet's own poll() return at once.
            read_timeout: Some(Duration::ZERO),
            write_timeout: Some(Duration::ZERO),
            promiscuous: false,
            socket_fd: Some(socket.try_clone()?.into_raw_fd()),
            ..datalink::Config::default()
        };
        let [a, b, c, d, e, f] = hardware_addr.0;
        let network_interface = NetworkInterface {
            name: name.to_owned(),
            description: String::new(),
            index: interface.index,
            mac: Some(MacAddr(a, b, c, d, e, f)),
            ips: Vec::new(),
            flags: 0,
        };
        let Channel::Ethernet(sender, receiver) = datalink::channel(&network_interface, config)? else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        Ok(PacketDevice {
            sender,
            receiver,
            socket,
            name: name.to_owned(),
            mtu: u16::try_from(interface.mtu).unwrap_or(u16::MAX),
            hardware_addr,
            vlan,
            builder: FrameBuilder::fused()?,
            is_full: false,
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
        packet::join_group(self.socket.as_fd(), number, &share.classic_program())
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
}

impl std::fmt::Debug for PacketDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PacketDevice")
            .field("name", &self.name)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl Device for PacketDevice {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn hardware_addr(&self) -> EthernetAddress {
        self.hardware_addr
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn can_transmit(&mut self) -> bool {
        if self.is_full {
            let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
            self.is_full = !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(n) if n > 0);
        }
        !self.is_full
    }

    fn transmit(&mut self, _now: Instant, transmission: &Transmission<'_>) -> Result<(), TransmitError> {
        // `pnet` waits for room with a call of its own before each of these.
        count(Quantity::CallsToSend, 2);
        count(Quantity::BytesSent, transmission.payload_len);
        let mut headers = TaggedHeaders::new();
        let transmission =
            &self.vlan.map_or(*transmission, |id| vlan::tagged(id, transmission, &mut headers));
        let frame = self.builder.build(&[], transmission);
        match self.sender.send_to(frame, None) {
            Some(Ok(())) => {
                self.stats.transmitted(frame.len());
                Ok(())
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::TimedOut || is_transient(&error) => {
                self.is_full = true;
                self.stats.tx_dropped += 1;
                Ok(())
            }
            Some(Err(error)) if error.raw_os_error() == Some(libc::ENETDOWN) => {
                self.stats.tx_dropped += 1;
                Ok(())
            }
            Some(Err(error)) => Err(error.into()),
            None => {
                self.stats.tx_dropped += 1;
                Ok(())
            }
        }
    }

    fn receive(&mut self, _now: Instant) -> io::Result<Option<Received<'_>>> {
        count(Quantity::CallsToReceive, 2);
        match self.receiver.next() {
            Ok(bytes) => {
                self.stats.received(bytes.len());
                Ok(Some(Received { bytes, checksum: RxChecksum::Unknown }))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
                Ok(None)
            }
            // Reported once when the interface goes down; it may come up again.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn stats(&self) -> Stats {
        self.stats
    }
}
