//! AF_XDP sockets: frames exchanged with one queue of an interface through memory that both sides map (Linux
//! `Documentation/networking/af_xdp.rst`).
//!
//! ```text
//!   chunks:   | 0 | 1 | .. to receive into .. | 0 0 0 | 1 1 1 | .. rooms to send from .. |   4 KB each
//!
//!   to the kernel:   fill (empty chunks)                     transmit (chunks of frames to send)
//!   from the kernel: receive (chunks of arrived frames)      completion (chunks that are sent)
//! ```
//!
//! A chunk belongs to the kernel from when its address is in a ring to the kernel until it comes back in one
//! from there. A frame that one chunk does not hold goes in several, all but the last of which say that it
//! continues (multi-buffer, Linux 6.6): those that we send lie side by side, those that arrive have room
//! before them and are put together.
//!
//! The rings are ours, not a crate's: `xdp` brings the rings with packets, slabs and interfaces
//! of its own and no program; `xsk-rs` stands on C libraries. What would remain to write, programs and maps,
//! is most of it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use self::arrivals::Arrivals;
use self::rings::{Mapping, SharedRing};
use self::slots::Slots;
use super::set_int_option;

mod arrivals;
mod gather;
mod rings;
mod slots;
#[cfg(test)]
mod tests;

/// Bytes of a chunk: what the kernel takes without huge pages.
pub const CHUNK_LEN: usize = 4096;

/// What the kernel keeps before what it puts into a chunk (`XDP_PACKET_HEADROOM`).
const RECEIVE_HEADROOM: usize = 256;

/// Longest frame that is received in one chunk.
pub const MAX_SINGLE_LEN: usize = CHUNK_LEN - RECEIVE_HEADROOM;

/// Bytes that may be under way to the interface: more than there are chunks to send from.
const SEND_BUFFER_LEN: i32 = 16 << 20;

/// Where the chunk of an address begins.
fn chunk_of(addr: u64) -> u64 {
    addr & !(CHUNK_LEN as u64 - 1)
}

/// How many frames one call may send; older kernels do not have the option, and send 32.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// What a socket is to have.
#[derive(Clone, Copy, Debug)]
pub struct XskOptions {
    /// Chunks to receive into, a power of two.
    pub received: usize,
    /// Chunks to send from, a power of two.
    pub sent: usize,
    /// The kernel copies frames, as it has to where its generic hook runs the program; without, it does so if
    /// the driver cannot do better.
    pub copy: bool,
    /// Bytes of the longest frame that is sent, if frames may take several chunks.
    pub several: Option<usize>,
}

/// A queue of an interface.
#[derive(Debug)]
pub struct XskSocket {
    // Rings and chunks are unmapped first.
    arrivals: Arrivals,
    slots: Slots,
    memory: Mapping,
    socket: OwnedFd,
    several: bool,
}

impl XskSocket {
    /// A socket on that queue of the interface with that number. Frames come once the socket is in the map of
    /// an XDP program ([`super::bpf::SocketMap`]).
    ///
    /// # Errors
    /// Needs `CAP_NET_RAW`; `EBUSY` if the queue has a socket already; `ENOBUFS` where so much memory may not
    /// be locked; `EINVAL` or `EOPNOTSUPP` where frames of several chunks are not known.
    pub fn open(interface: u32, queue: u32, options: XskOptions) -> io::Result<XskSocket> {
        let [received, sent] = [options.received, options.sent].map(usize::next_power_of_two);
        // SAFETY: socket(2) touches no memory of ours.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and is nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let fd = socket.as_fd();
        let memory = Mapping::anonymous((received + sent) * CHUNK_LEN)?;
        let (addr, len) = memory.place();
        let registration = libc::xdp_umem_reg {
            addr,
            len,
            chunk_size: CHUNK_LEN as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        set_option(fd, libc::XDP_UMEM_REG, &registration)?;
        for (option, entries) in [
            (libc::XDP_UMEM_FILL_RING, received),
            (libc::XDP_UMEM_COMPLETION_RING, sent),
            (libc::XDP_RX_RING, received),
            (libc::XDP_TX_RING, sent),
        ] {
            set_int_option(fd, libc::SOL_XDP, option, entries as i32)?;
        }
        // Neither is needed, and not every kernel or every user may.
        let _ = set_int_option(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, sent as i32);
        let _ = set_int_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER_LEN);
        let offsets = offsets(fd)?;
        let fill_at = libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t;
        let completion_at = libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t;
        let fill = SharedRing::map(fd, &offsets.fr, fill_at, received)?;
        let completion = SharedRing::map(fd, &offsets.cr, completion_at, sent)?;
        let receive = SharedRing::map(fd, &offsets.rx, libc::XDP_PGOFF_RX_RING, received)?;
        let transmit = SharedRing::map(fd, &offsets.tx, libc::XDP_PGOFF_TX_RING, sent)?;
        let chunks = options.several.map_or(1, |longest| longest.div_ceil(CHUNK_LEN).min(sent));
        let chunks = u8::try_from(chunks).map_err(|_| io::ErrorKind::InvalidInput)?;
        let start = (received * CHUNK_LEN) as u64;
        let opened = XskSocket {
            arrivals: Arrivals::new(fill, receive, received),
            slots: Slots::new(transmit, completion, start, chunks, sent),
            memory,
            socket,
            several: options.several.is_some(),
        };
        let copies = if options.copy { libc::XDP_COPY } else { 0 };
        let several = if opened.several { libc::XDP_USE_SG } else { 0 };
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: copies | several | libc::XDP_USE_NEED_WAKEUP,
            sxdp_ifindex: interface,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
        // SAFETY: pointer and length describe `address`, which the kernel only reads.
        if unsafe { libc::bind(opened.socket.as_raw_fd(), (&raw const address).cast(), len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(opened)
    }

    /// Whether frames may take several chunks.
    pub fn takes_several(&self) -> bool {
        self.several
    }

    /// Whether something has arrived, a part of a frame at least.
    pub fn has_arrived(&self) -> bool {
        self.arrivals.has_arrived()
    }

    /// Gives the chunk that is lent out back to the kernel, to receive into.
    pub fn give_back(&mut self) {
        if self.arrivals.give_back() {
            let (fd, flags) = (self.socket.as_raw_fd(), libc::MSG_DONTWAIT);
            // SAFETY: a null buffer of length zero only wakes the driver.
            unsafe { libc::recv(fd, std::ptr::null_mut(), 0, flags) };
        }
    }

    /// The next frame received, lent until the next call.
    pub fn receive(&mut self) -> Option<&[u8]> {
        self.give_back();
        self.arrivals.next(&self.memory)
    }

    /// Whether there is room to send from.
    pub fn can_transmit(&mut self) -> bool {
        self.slots.can_transmit()
    }

    /// Fills a free room: `fill` gives how long the frame is; `None` or too great a length leaves it free.
    /// Returns whether there was one and it was filled. It goes out with the next [`XskSocket::kick`].
    pub fn transmit(&mut self, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        self.slots.transmit(&mut self.memory, fill)
    }

    /// Frames handed over since the last [`XskSocket::kick`].
    pub fn pending(&self) -> usize {
        self.slots.pending()
    }

    /// Has the kernel send what is in the transmit ring. How many calls that took.
    ///
    /// # Errors
    /// From the kernel: `EAGAIN` means that some wait for the next call, `ENETDOWN` that the interface is
    /// down.
    pub fn kick(&mut self) -> io::Result<usize> {
        self.slots.begin_send();
        let mut calls = 0;
        while self.slots.wants_call() {
            let before = self.slots.taken();
            calls += 1;
            let fd = self.socket.as_raw_fd();
            // SAFETY: sends nothing of ours: a null buffer of length zero only starts the ring.
            let result =
                unsafe { libc::sendto(fd, std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
            if result >= 0 {
                break;
            }
            let error = io::Error::last_os_error();
            // A call sends so many and no more; it is called again as long as it gets on.
            let is_partial = error.raw_os_error() == Some(libc::EAGAIN) && self.slots.taken() != before;
            if !is_partial {
                return Err(error);
            }
        }
        Ok(calls)
    }

    /// Whether the driver takes and gives frames where they lie.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn is_zero_copy(&self) -> io::Result<bool> {
        let options: libc::xdp_options = get_option(self.socket.as_fd(), libc::XDP_OPTIONS)?;
        Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
    }

    /// Frames that found no empty chunks to go into, did not fit, or whose descriptors were not sound.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn dropped(&self) -> io::Result<u64> {
        let statistics: libc::xdp_statistics = get_option(self.socket.as_fd(), libc::XDP_STATISTICS)?;
        Ok(statistics.rx_dropped + statistics.rx_ring_full + self.arrivals.useless())
    }
}

impl AsFd for XskSocket {
    /// Readable when frames have arrived, writable when the transmit ring is at most half full.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn set_option<T>(fd: BorrowedFd<'_>, option: libc::c_int, value: &T) -> io::Result<()> {
    let (pointer, len) = (std::ptr::from_ref(value), size_of::<T>() as libc::socklen_t);
    // SAFETY: pointer and length describe `value`, which the kernel only reads.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_XDP, option, pointer.cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// One of the C structures of numbers that AF_XDP's options are.
fn get_option<T: Copy>(fd: BorrowedFd<'_>, option: libc::c_int) -> io::Result<T> {
    // SAFETY: these structures are plain numbers; all zero is a valid value.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    let (fd, pointer) = (fd.as_raw_fd(), (&raw mut value).cast());
    // SAFETY: the kernel writes `len` bytes at most, which `value` has.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_XDP, option, pointer, &raw mut len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

fn offsets(fd: BorrowedFd<'_>) -> io::Result<libc::xdp_mmap_offsets> {
    let offsets: libc::xdp_mmap_offsets = get_option(fd, libc::XDP_MMAP_OFFSETS)?;
    // Kernels before 5.4 give shorter offsets, without flags, and know nothing of wakeups.
    let is_old = offsets.tx.flags == 0 || offsets.cr.flags == 0;
    if is_old { Err(io::ErrorKind::Unsupported.into()) } else { Ok(offsets) }
}
