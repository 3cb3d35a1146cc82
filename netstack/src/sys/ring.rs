//! AF_PACKET rings: frames exchanged with the kernel through mapped memory (Linux
//! `Documentation/networking/packet_mmap.rst`), TPACKET_V2, with a virtio-net header before each frame.
//!
//! ```text
//!   slot of a ring:  | tpacket2_hdr .. | sockaddr_ll .. | virtio-net header | frame            |   (receive)
//!                    | tpacket2_hdr    | virtio-net header | frame                             |   (transmit)
//! ```
//!
//! The status word of a slot says whose it is; it is read with acquire and written with release ordering, and
//! between the two the slot's bytes belong to one side alone.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::packet;
use super::set_int_option;
use super::tun::VNET_HEADER_LEN;

/// Bytes of a slot to send from: a super-segment with its headers, in a power of two as the kernel wants it.
const TX_SLOT_LEN: usize = 128 << 10;

/// Bytes of a slot to receive into: most of what a server gets fits many times over, and so there can be
/// many. What does not fit waits in the socket.
const RX_SLOT_LEN: usize = 16 << 10;

/// Bytes that the kernel gives in one piece, at least a slot of either kind.
const BLOCK_LEN: usize = 128 << 10;

/// Bytes of frames that do not fit a slot, until they are fetched.
const SOCKET_BUFFER_LEN: i32 = 16 << 20;

/// Longest frame with its virtio-net header.
const MAX_FRAME_LEN: usize = VNET_HEADER_LEN + 64 + (64 << 10);

/// Where a frame to send, with its virtio-net header, begins in its slot.
const TX_DATA_OFFSET: usize = libc::TPACKET2_HDRLEN - size_of::<libc::sockaddr_ll>();

/// Frames of the interface, in both directions.
#[derive(Debug)]
pub struct PacketRings {
    rx: Ring,
    tx: Ring,
    /// The receive slot lent out, given back to the kernel on the next call.
    lent: bool,
    /// Slots filled since the last [`PacketRings::kick`].
    filled: usize,
    /// A frame that did not fit a slot.
    large: Vec<u8>,
}

/// A received frame.
#[derive(Clone, Copy, Debug)]
pub struct RingFrame<'a> {
    /// The virtio-net header.
    pub vnet_header: [u8; VNET_HEADER_LEN],
    /// From the Ethernet header on.
    pub bytes: &'a [u8],
    /// The frame was longer than a slot, and the socket had no room for it.
    pub is_cut: bool,
}

impl PacketRings {
    /// Rings of so many slots on the interface with that number, of 16 KB to receive into and of 128 KB to
    /// send from. What arrives is what `filter`, of classic BPF, keeps ([`packet::set_filter`]).
    ///
    /// # Errors
    /// Needs `CAP_NET_RAW`; `ENOMEM` if the kernel cannot have so much memory in one go.
    pub fn open(
        interface: u32,
        rx_slots: usize,
        tx_slots: usize,
        filter: &[(u16, u8, u8, u32)],
    ) -> io::Result<PacketRings> {
        // Two sockets: the kernel holds a socket's lock while it sends from its ring, and would stop
        // receiving.
        let protocol = libc::ETH_P_ALL as u16;
        let rx = Ring::open(interface, protocol, libc::PACKET_RX_RING, rx_slots, RX_SLOT_LEN, filter)?;
        let tx = Ring::open(interface, 0, libc::PACKET_TX_RING, tx_slots, TX_SLOT_LEN, filter)?;
        Ok(PacketRings { rx, tx, lent: false, filled: 0, large: vec![0; MAX_FRAME_LEN] })
    }

    /// The next frame received, lent until the next call.
    pub fn receive(&mut self) -> Option<RingFrame<'_>> {
        if self.lent {
            self.lent = false;
            self.rx.set_status(libc::TP_STATUS_KERNEL);
            self.rx.advance();
        }
        let status = self.rx.status();
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        self.lent = true;
        if status & libc::TP_STATUS_COPY != 0 {
            return Some(self.receive_large());
        }
        let slot = self.rx.slot();
        // struct tpacket2_hdr { u32 status, len, snaplen; u16 mac, net; .. }
        let word =
            |at: usize| u32::from_ne_bytes([slot[at], slot[at + 1], slot[at + 2], slot[at + 3]]) as usize;
        let (len, kept) = (word(4), word(8));
        let at = usize::from(u16::from_ne_bytes([slot[12], slot[13]]));
        // The kernel keeps to the slot; checked all the same, since slices cost nothing.
        let vnet_header =
            at.checked_sub(VNET_HEADER_LEN).and_then(|at| slot.get(at..)?.first_chunk().copied());
        let bytes = slot.get(at..at + kept).unwrap_or(&[]);
        Some(RingFrame { vnet_header: vnet_header.unwrap_or_default(), bytes, is_cut: kept < len })
    }

    /// The next frame of those that did not fit a slot: in their order, but that of two that arrived at once
    /// on two processors may be another than their slots', so the slot is not looked at.
    fn receive_large(&mut self) -> RingFrame<'_> {
        let (buffer, fd) = (self.large.as_mut_ptr().cast(), self.rx.socket.as_raw_fd());
        // SAFETY: pointer and length are the buffer's.
        let got = unsafe { libc::recv(fd, buffer, self.large.len(), libc::MSG_DONTWAIT) };
        let frame = usize::try_from(got).ok().and_then(|got| self.large.get(..got));
        match frame.and_then(|frame| frame.split_first_chunk()) {
            Some((vnet_header, bytes)) => RingFrame { vnet_header: *vnet_header, bytes, is_cut: false },
            None => RingFrame { vnet_header: [0; VNET_HEADER_LEN], bytes: &[], is_cut: true },
        }
    }

    /// Whether there is a free slot to send from.
    pub fn can_transmit(&self) -> bool {
        // A slot that the kernel refused is ours again.
        matches!(self.tx.status(), libc::TP_STATUS_AVAILABLE | libc::TP_STATUS_WRONG_FORMAT)
    }

    /// Fills the next free slot: `fill` writes virtio-net header and frame and gives their length together;
    /// `None` or too great a length leaves the slot free. Returns whether there was a slot and it was filled.
    /// It goes out with the next [`PacketRings::kick`].
    pub fn transmit(&mut self, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        if !self.can_transmit() {
            return false;
        }
        let slot = self.tx.slot_mut();
        let room = slot.len() - TX_DATA_OFFSET;
        let Some(len) = fill(&mut slot[TX_DATA_OFFSET..]).filter(|len| *len <= room) else { return false };
        slot[4..8].copy_from_slice(&(len as u32).to_ne_bytes());
        self.tx.set_status(libc::TP_STATUS_SEND_REQUEST);
        self.tx.advance();
        self.filled += 1;
        true
    }

    /// Slots filled and not yet sent.
    pub fn pending(&self) -> usize {
        self.filled
    }

    /// Has the kernel send all filled slots.
    ///
    /// # Errors
    /// From the kernel; `EAGAIN` and `ENOBUFS` mean that some wait for the next call.
    pub fn kick(&mut self) -> io::Result<()> {
        // A full ring may have some that an earlier call left.
        if self.filled == 0 && self.can_transmit() {
            return Ok(());
        }
        let fd = self.tx.socket.as_raw_fd();
        // SAFETY: sends nothing of ours: a null buffer of length zero only starts the ring.
        let result = unsafe { libc::send(fd, std::ptr::null(), 0, libc::MSG_DONTWAIT) };
        let failed = (result < 0).then(io::Error::last_os_error);
        match failed {
            Some(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) => Err(error),
            failed => {
                self.filled = 0;
                failed.map_or(Ok(()), Err)
            }
        }
    }

    /// The socket that is readable when frames have arrived.
    pub fn receive_socket(&self) -> BorrowedFd<'_> {
        self.rx.socket.as_fd()
    }
}

/// One direction.
#[derive(Debug)]
struct Ring {
    socket: OwnedFd,
    map: NonNull<u8>,
    slots: usize,
    slot_len: usize,
    /// The slot that is next to change hands.
    current: usize,
}

// SAFETY: the map belongs to this value alone; it is no more tied to a thread than a `Vec` is.
unsafe impl Send for Ring {}

impl Ring {
    fn open(
        interface: u32,
        protocol: u16,
        option: libc::c_int,
        slots: usize,
        slot_len: usize,
        filter: &[(u16, u8, u8, u32)],
    ) -> io::Result<Ring> {
        let slots = slots.max(1).next_multiple_of(BLOCK_LEN / slot_len);
        let socket = packet::open()?;
        let fd = socket.as_fd();
        packet::set_filter(fd, filter)?;
        set_int_option(
            fd,
            libc::SOL_PACKET,
            libc::PACKET_VERSION,
            libc::tpacket_versions::TPACKET_V2 as i32,
        )?;
        set_int_option(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        if option == libc::PACKET_TX_RING {
            // A frame that the kernel refuses is dropped, and does not stop the ring.
            set_int_option(fd, libc::SOL_PACKET, libc::PACKET_LOSS, 1)?;
        } else {
            set_int_option(fd, libc::SOL_PACKET, libc::PACKET_COPY_THRESH, 1)?;
            packet::hear_groups(fd, interface)?;
            // Not every user may have so much, and need not.
            let _ = set_int_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, SOCKET_BUFFER_LEN);
        }
        let request = libc::tpacket_req {
            tp_block_size: BLOCK_LEN as u32,
            tp_block_nr: (slots * slot_len / BLOCK_LEN) as u32,
            tp_frame_size: slot_len as u32,
            tp_frame_nr: slots as u32,
        };
        let len = size_of::<libc::tpacket_req>() as libc::socklen_t;
        // SAFETY: pointer and length describe `request`, which the kernel only reads.
        let result = unsafe {
            libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, option, (&raw const request).cast(), len)
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let bytes = slots * slot_len;
        // SAFETY: a new shared mapping of the socket's ring at an address of the kernel's choice.
        let map =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, prot, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = NonNull::new(map.cast()).ok_or(io::ErrorKind::InvalidData)?;
        let ring = Ring { socket, map, slots, slot_len, current: 0 };
        // SAFETY: `sockaddr_ll` is plain old data; all zero is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = interface as i32;
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: pointer and length describe `address`, which the kernel only reads.
        if unsafe { libc::bind(ring.socket.as_raw_fd(), (&raw const address).cast(), len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(ring)
    }

    fn status_word(&self) -> &AtomicU32 {
        // SAFETY: every slot begins with its status word, aligned as the map is to pages; the kernel changes
        // it only by whole, aligned stores.
        unsafe { self.map.add(self.current * self.slot_len).cast::<AtomicU32>().as_ref() }
    }

    fn status(&self) -> u32 {
        self.status_word().load(Ordering::Acquire)
    }

    fn set_status(&self, status: u32) {
        self.status_word().store(status, Ordering::Release);
    }

    /// The current slot. Only while its status says that it is ours.
    fn slot(&self) -> &[u8] {
        // SAFETY: `current < slots`, so the slot lies in the map; it is ours, so the kernel does not write to
        // it while the slice lives (giving it back takes `&mut self` of the owner).
        unsafe {
            std::slice::from_raw_parts(self.map.add(self.current * self.slot_len).as_ptr(), self.slot_len)
        }
    }

    /// The current slot, to be filled. Only while its status says that it is ours.
    fn slot_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `slot`; `&mut self` makes the access unique on our side.
        unsafe {
            std::slice::from_raw_parts_mut(self.map.add(self.current * self.slot_len).as_ptr(), self.slot_len)
        }
    }

    fn advance(&mut self) {
        self.current = (self.current + 1) % self.slots;
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the very mapping made in `open`; no slice of it outlives the owner.
        unsafe { libc::munmap(self.map.as_ptr().cast(), self.slots * self.slot_len) };
    }
}
