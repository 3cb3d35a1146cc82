//! AF_XDP: an existing interface whose driver, or the kernel right behind it, hands us the frames that an XDP
//! program says are ours, and leaves the rest to the kernel (the exokernel's packet filter, made by
//! [`crate::handler::xdp::XdpFilter::to_sockets`]).
//!
//! Frames to send are built in the memory that the kernel or the driver reads, payload copied and summed in
//! one engine run; a burst of them is one system call. Frames that arrive are looked at where they were put.
//!
//! A frame that one chunk of that memory does not hold takes several, where the kernel knows such frames: so
//! packets have the interface's MTU. Those to send are written in one visit all the same; those that arrive
//! are put together.
//!
//! There are no offloads: frames are those of the wire, and checksums are ours. A *peer* on this machine (the
//! far end of a veth pair) must finish its own: nothing tells here that a sum is the pseudo-header's only, as
//! in [`super::packet`]. The kernel must not own our address, for it never hears of our connections.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use runtime::stats::work::{Quantity, count};
use runtime::time::Instant;
use runtime::transfer::Transfer;
use rustix::event::epoll;

use super::frame::FrameBuilder;
use super::{Device, Received, Stats, TransmitError};
use crate::handler::xdp::{XdpFilter, XdpHook};
use crate::sys::link;
use crate::sys::xsk::{CHUNK_LEN, MAX_SINGLE_LEN, XskOptions, XskSocket};
use crate::transmission::{Capabilities, RxChecksum, Transmission};
use crate::wire::{EthernetAddress, ethernet};

/// Chunks to receive into, of all queues together: 20 ms of a flood of 200,000 small frames a second.
const RX_CHUNKS: usize = 4096;

/// Chunks to receive into, of one queue at least.
const RX_CHUNKS_OF_QUEUE: usize = 256;

/// Chunks to send from: several bursts, of jumbo frames too. All are sent by the first queue.
const TX_CHUNKS: usize = 2048;

/// Frames of a burst, beyond which it is sent in parts.
const BURST: usize = 256;

/// When it is looked again whether there is room to send: a set of sockets is not told of as writable.
const ROOM_INTERVAL: Duration = Duration::from_millis(1);

/// An interface of the machine, by AF_XDP.
#[derive(Debug)]
pub struct XdpDevice {
    /// One for each queue that the interface receives by.
    queues: Vec<XskSocket>,
    /// The one that gave the last frame.
    last: usize,
    /// All of them, where there are several.
    set: Option<OwnedFd>,
    name: String,
    mtu: u16,
    interface_mtu: u32,
    hardware_addr: EthernetAddress,
    builder: FrameBuilder,
    zero_copy: bool,
    /// There was no room when it was looked for last, and when that was.
    is_full: bool,
    now: Instant,
    stats: Stats,
    /// Last, so that sockets are there as long as frames are sent to them.
    _filter: Arc<XdpFilter>,
}

impl XdpDevice {
    /// Opens the Ethernet interface `name`, which must be up, with a socket for each queue that the filter
    /// has room for. The filter, made for sockets and attached to the interface, stays as long as the device.
    ///
    /// # Errors
    /// `ENODEV` if there is none; needs `CAP_NET_RAW`; [`io::ErrorKind::InvalidInput`] if it is no Ethernet
    /// interface or the filter is not for sockets; `EBUSY` if another process has AF_XDP sockets on it.
    pub fn open(name: &str, filter: Arc<XdpFilter>) -> io::Result<XdpDevice> {
        XdpDevice::open_part(name, filter, 0, 1)
    }

    /// The same with a part of the queues only: the one of that index, of so many that stacks with one
    /// address share ([`crate::sharing`]).
    ///
    /// # Errors
    /// As [`XdpDevice::open`]; [`io::ErrorKind::InvalidInput`] if there are fewer queues than parts.
    pub fn open_part(
        name: &str,
        filter: Arc<XdpFilter>,
        index: usize,
        parts: usize,
    ) -> io::Result<XdpDevice> {
        let sockets = filter.sockets().ok_or(io::ErrorKind::InvalidInput)?;
        let copy = filter.hook() != Some(XdpHook::Driver);
        let interface = link::get(name)?;
        let Some(hardware_addr) = interface.hardware_addr.filter(|address| address.is_unicast()) else {
            let text = format!("{name} is no Ethernet interface");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        if (sockets.queues() as usize) < parts {
            let text = format!("{name} has {} queues only: give no more --workers", sockets.queues());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let received = (RX_CHUNKS / sockets.queues() as usize).max(RX_CHUNKS_OF_QUEUE);
        // Where frames are copied anyway, also for those that the kernel has put together from several. A
        // driver may take frames where they lie, but not in pieces: that is not given up for nothing.
        let longest = interface.mtu.min(u16::MAX.into()) as usize + ethernet::HEADER_LEN;
        let mut several = (copy || (filter.takes_pieces() && longest > MAX_SINGLE_LEN)).then_some(longest);
        let mut queues: Vec<XskSocket> = Vec::new();
        for queue in (0..sockets.queues()).skip(index).step_by(parts) {
            let is_first = queues.is_empty();
            let chunks = several.map_or(1, |longest| longest.div_ceil(CHUNK_LEN));
            let sent = if is_first { TX_CHUNKS } else { chunks };
            let options = XskOptions { received, sent, copy, several };
            let mut socket = XskSocket::open(interface.index, queue, options);
            let is_refused =
                |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP));
            if is_first && several.is_some() && socket.as_ref().is_err_and(is_refused) {
                several = None;
                socket = XskSocket::open(interface.index, queue, XskOptions { several, ..options });
            }
            let socket = socket?;
            sockets.insert(queue, socket.as_fd())?;
            queues.push(socket);
        }
        let set = if queues.len() > 1 { Some(set_of(&queues)?) } else { None };
        let zero_copy = queues.first().map(XskSocket::is_zero_copy).transpose()?.unwrap_or(false);
        let mtu = match several {
            Some(longest) => longest - ethernet::HEADER_LEN,
            None => longest.min(MAX_SINGLE_LEN) - ethernet::HEADER_LEN,
        };
        Ok(XdpDevice {
            queues,
            last: 0,
            set,
            name: name.to_owned(),
            mtu: mtu as u16,
            interface_mtu: interface.mtu,
            hardware_addr,
            builder: FrameBuilder::fused()?,
            zero_copy,
            is_full: false,
            now: Instant::ZERO,
            stats: Stats::default(),
            _filter: filter,
        })
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

    /// Whether the driver takes frames where they lie; else the kernel copies each once more.
    pub fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Whether packets are shorter than the interface's, since the kernel or the driver knows no frames of
    /// several chunks.
    pub fn is_cut_short(&self) -> bool {
        u32::from(self.mtu) < self.interface_mtu.min(u16::MAX.into())
    }

    /// Queues that frames arrive by.
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    fn kick(&mut self) -> io::Result<()> {
        let Some(queue) = self.queues.first_mut() else { return Ok(()) };
        match queue.kick() {
            Ok(calls) => {
                count(Quantity::CallsToSend, calls);
                Ok(())
            }
            // Down: what is in the ring waits until it is up again. Busy: until the next call.
            Err(error)
                if super::is_transient(&error)
                    || matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENETDOWN)) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// What is readable when one of them is.
fn set_of(queues: &[XskSocket]) -> io::Result<OwnedFd> {
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (queue, socket) in queues.iter().enumerate() {
        epoll::add(&set, socket, epoll::EventData::new_u64(queue as u64), epoll::EventFlags::IN)?;
    }
    Ok(set)
}

impl Device for XdpDevice {
    fn capabilities(&self) -> Capabilities {
        Capabilities { gather: true, ..Capabilities::default() }
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn hardware_addr(&self) -> EthernetAddress {
        self.hardware_addr
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.set {
            Some(set) => Some(set.as_fd()),
            None => self.queues.first().map(AsFd::as_fd),
        }
    }

    fn can_transmit(&mut self) -> bool {
        let has_room = |queues: &mut Vec<XskSocket>| queues.first_mut().is_some_and(XskSocket::can_transmit);
        // Frames come free by sending; what fails in sending is met again, and told, in `flush`.
        let room = has_room(&mut self.queues) || (self.kick().is_ok() && has_room(&mut self.queues));
        self.is_full = !room;
        room
    }

    fn transmit(&mut self, _now: Instant, transmission: &Transmission<'_>) -> Result<(), TransmitError> {
        let builder = &self.builder;
        let Some(queue) = self.queues.first_mut() else { return Ok(()) };
        let sent = queue.transmit(|frame| {
            let frame = frame.get_mut(..transmission.len())?;
            builder.build_into(transmission, frame);
            Some(frame.len())
        });
        if sent {
            count(Quantity::BytesSent, transmission.payload_len);
            self.stats.transmitted(transmission.len());
        } else {
            self.stats.tx_dropped += 1;
        }
        let is_burst = self.queues.first().is_some_and(|queue| queue.pending() >= BURST);
        if is_burst { Ok(self.kick()?) } else { Ok(()) }
    }

    fn receive(&mut self, _now: Instant) -> io::Result<Option<Received<'_>>> {
        if let Some(last) = self.queues.get_mut(self.last) {
            last.give_back();
        }
        // In turn, so that none starves the others.
        let count = self.queues.len();
        let in_turn = (1..=count).map(|step| (self.last + step) % count);
        let with_frame = in_turn.into_iter().find(|queue| self.queues[*queue].has_arrived());
        let Some(queue) = with_frame else { return Ok(None) };
        self.last = queue;
        let Some(bytes) = self.queues[queue].receive() else { return Ok(None) };
        self.stats.received(bytes.len());
        Ok(Some(Received { bytes, checksum: RxChecksum::Unknown }))
    }

    fn flush(&mut self, now: Instant) -> io::Result<()> {
        self.now = now;
        self.kick()
    }

    fn next_arrival(&self) -> Option<Instant> {
        (self.is_full && self.set.is_some()).then(|| self.now + ROOM_INTERVAL)
    }

    fn stats(&self) -> Stats {
        let dropped = self.queues.iter().filter_map(|queue| queue.dropped().ok()).sum::<u64>();
        Stats { rx_dropped: self.stats.rx_dropped + dropped, ..self.stats }
    }
}
