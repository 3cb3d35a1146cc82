//! AF_XDP sockets: frames exchanged with one queue of an interface through memory that both sides map (Linux
//! `Documentation/networking/af_xdp.rst`).
//!
//! ```text
//!   frames:   | 0 | 1 | .. receive .. | .. transmit .. |        4 KB each, one mapping
//!
//!   to the kernel:   fill (empty frames to receive into)     transmit (frames to send)
//!   from the kernel: receive (frames that have arrived)      completion (frames that are sent)
//! ```
//!
//! A frame belongs to the kernel from when its address is in a ring to the kernel until it comes back in one
//! from there. The rings are ours, not a crate's: `xdp` brings the rings with packets, slabs and interfaces
//! of its own and no program; `xsk-rs` stands on C libraries. What would remain to write, programs and maps,
//! is most of it.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::set_int_option;

/// Bytes of a frame's room: what the kernel takes without huge pages.
const FRAME_LEN: usize = 4096;

/// What the kernel keeps before each frame that arrives (`XDP_PACKET_HEADROOM`).
const RECEIVE_HEADROOM: usize = 256;

/// Longest frame that can be received.
pub const MAX_FRAME_LEN: usize = FRAME_LEN - RECEIVE_HEADROOM;

/// Bytes that may be under way to the interface: more than there are frames to send from.
const SEND_BUFFER_LEN: i32 = 16 << 20;

/// How many frames one call may send; older kernels do not have the option, and send 32.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// A queue of an interface.
#[derive(Debug)]
pub struct XskSocket {
    // Rings and frames are unmapped first.
    fill: SharedRing<u64>,
    completion: SharedRing<u64>,
    receive: SharedRing<libc::xdp_desc>,
    transmit: SharedRing<libc::xdp_desc>,
    frames: Mapping,
    socket: OwnedFd,
    /// The frame lent out, given back to the kernel on the next call.
    lent: Option<u64>,
    /// Frames to send from.
    free: Vec<u64>,
    /// Frames handed to the transmit ring since the last [`XskSocket::kick`].
    pending: usize,
}

impl XskSocket {
    /// A socket on that queue of the interface with that number, with so many frames for each direction,
    /// powers of two. With `copy` the kernel copies frames, as it has to where its generic hook runs the
    /// program; without, it does so if the driver cannot do better. Frames come once the socket is in the map
    /// of an XDP program ([`super::bpf::SocketMap`]).
    ///
    /// # Errors
    /// Needs `CAP_NET_RAW`; `EBUSY` if the queue has a socket already; `ENOBUFS` where so much memory may not
    /// be locked.
    pub fn open(interface: u32, queue: u32, frames: [usize; 2], copy: bool) -> io::Result<XskSocket> {
        let [received, sent] = frames.map(|count| count.next_power_of_two());
        // SAFETY: socket(2) touches no memory of ours.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and is nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let fd = socket.as_fd();
        let frames = Mapping::anonymous((received + sent) * FRAME_LEN)?;
        let registration = libc::xdp_umem_reg {
            addr: frames.start.as_ptr() as u64,
            len: frames.len as u64,
            chunk_size: FRAME_LEN as u32,
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
        let mut opened = XskSocket {
            fill: SharedRing::map(fd, &offsets.fr, fill_at, received)?,
            completion: SharedRing::map(fd, &offsets.cr, completion_at, sent)?,
            receive: SharedRing::map(fd, &offsets.rx, libc::XDP_PGOFF_RX_RING, received)?,
            transmit: SharedRing::map(fd, &offsets.tx, libc::XDP_PGOFF_TX_RING, sent)?,
            frames,
            socket,
            lent: None,
            free: (received..received + sent).map(|frame| (frame * FRAME_LEN) as u64).collect(),
            pending: 0,
        };
        for frame in 0..received {
            opened.fill.push((frame * FRAME_LEN) as u64);
        }
        let copies = if copy { libc::XDP_COPY } else { 0 };
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: copies | libc::XDP_USE_NEED_WAKEUP,
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

    /// Whether a frame has arrived.
    pub fn has_arrived(&self) -> bool {
        !self.receive.is_empty()
    }

    /// Gives the frame that is lent out back to the kernel, to receive into.
    pub fn give_back(&mut self) {
        if let Some(frame) = self.lent.take() {
            self.fill.push(frame);
            // A driver that takes frames itself may have stopped for want of empty ones.
            if self.fill.needs_wakeup() {
                let (fd, flags) = (self.socket.as_raw_fd(), libc::MSG_DONTWAIT);
                // SAFETY: a null buffer of length zero only wakes the driver.
                unsafe { libc::recv(fd, std::ptr::null_mut(), 0, flags) };
            }
        }
    }

    /// The next frame received, lent until the next call.
    pub fn receive(&mut self) -> Option<&[u8]> {
        self.give_back();
        let descriptor = self.receive.pop()?;
        self.lent = Some(descriptor.addr & !(FRAME_LEN as u64 - 1));
        let at = descriptor.addr as usize;
        // SAFETY: the frame is in no ring, so it is ours, until `lent` gives it back, which takes `&mut
        // self`.
        Some(unsafe { self.frames.frame(at, descriptor.len as usize) })
    }

    /// Whether there is a frame to send from.
    pub fn can_transmit(&mut self) -> bool {
        if self.free.is_empty() {
            self.reclaim();
        }
        !self.free.is_empty() && self.transmit.has_room()
    }

    /// Fills a free frame: `fill` gives how long it is; `None` or too great a length leaves it free. Returns
    /// whether there was one and it was filled. It goes out with the next [`XskSocket::kick`].
    pub fn transmit(&mut self, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        if !self.can_transmit() {
            return false;
        }
        let Some(addr) = self.free.pop() else { return false };
        // SAFETY: the frame is in no ring and not lent, so it is ours alone; `&mut self` makes the access
        // unique.
        let frame = unsafe { self.frames.frame_mut(addr as usize) };
        match fill(frame) {
            Some(len) if len <= FRAME_LEN => {
                self.transmit.push(libc::xdp_desc { addr, len: len as u32, options: 0 });
                self.pending += 1;
                true
            }
            _ => {
                self.free.push(addr);
                false
            }
        }
    }

    /// Frames handed over since the last [`XskSocket::kick`].
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Has the kernel send what is in the transmit ring. How many calls that took.
    ///
    /// # Errors
    /// From the kernel: `EAGAIN` means that some wait for the next call, `ENETDOWN` that the interface is
    /// down.
    pub fn kick(&mut self) -> io::Result<usize> {
        self.pending = 0;
        let mut calls = 0;
        while self.transmit.needs_wakeup() && !self.transmit.is_taken() {
            let before = self.transmit.taken();
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
            let is_partial = error.raw_os_error() == Some(libc::EAGAIN) && self.transmit.taken() != before;
            if !is_partial {
                return Err(error);
            }
        }
        Ok(calls)
    }

    /// Takes back what has been sent.
    fn reclaim(&mut self) {
        while let Some(addr) = self.completion.pop() {
            self.free.push(addr & !(FRAME_LEN as u64 - 1));
        }
    }

    /// Whether the driver takes and gives frames where they lie.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn is_zero_copy(&self) -> io::Result<bool> {
        let options: libc::xdp_options = get_option(self.socket.as_fd(), libc::XDP_OPTIONS)?;
        Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
    }

    /// Frames that found no empty one to go into, or did not fit.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn dropped(&self) -> io::Result<u64> {
        let statistics: libc::xdp_statistics = get_option(self.socket.as_fd(), libc::XDP_STATISTICS)?;
        Ok(statistics.rx_dropped + statistics.rx_ring_full)
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

/// Memory that is ours and the kernel's.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone; it is no more tied to a thread than a `Vec` is.
unsafe impl Send for Mapping {}

impl Mapping {
    fn anonymous(len: usize) -> io::Result<Mapping> {
        Mapping::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE, -1, 0)
    }

    fn new(len: usize, flags: libc::c_int, fd: libc::c_int, at: libc::off_t) -> io::Result<Mapping> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, fd, at) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Mapping { start, len })
    }

    /// So many bytes from there on; none if they are not in it (the kernel keeps to the frames, but asking
    /// costs nothing).
    ///
    /// # Safety
    /// They must not be the kernel's.
    unsafe fn frame(&self, at: usize, len: usize) -> &[u8] {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return &[];
        }
        // SAFETY: they lie in the mapping, as was just seen; for who else has them, the caller vouches.
        unsafe { std::slice::from_raw_parts(self.start.add(at).as_ptr(), len) }
    }

    /// The frame that begins there; empty if none does.
    ///
    /// # Safety
    /// It must not be the kernel's.
    unsafe fn frame_mut(&mut self, at: usize) -> &mut [u8] {
        if at + FRAME_LEN > self.len {
            return &mut [];
        }
        // SAFETY: it lies in the mapping, as was just seen; for who else has it, the caller vouches.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at).as_ptr(), FRAME_LEN) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the very mapping that was made; no slice of it outlives the owner.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A ring of one producer and one consumer, one of which is the kernel. Both counters wrap at 2^32; an entry
/// belongs to the producer until its counter, stored with release ordering, says that it is filled.
#[derive(Debug)]
struct SharedRing<T> {
    map: Mapping,
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
    mask: u32,
    of: PhantomData<T>,
}

impl<T: Copy> SharedRing<T> {
    fn map(
        fd: BorrowedFd<'_>,
        offset: &libc::xdp_ring_offset,
        at: libc::off_t,
        entries: usize,
    ) -> io::Result<SharedRing<T>> {
        let [producer, consumer, flags, desc] =
            [offset.producer, offset.consumer, offset.flags, offset.desc].map(|offset| offset as usize);
        let len = desc + entries * size_of::<T>();
        let map = Mapping::new(len, libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), at)?;
        let is_sound = |offset: usize| offset.is_multiple_of(4) && offset + 4 <= len;
        if ![producer, consumer, flags].into_iter().all(is_sound) || !desc.is_multiple_of(align_of::<T>()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mask = entries as u32 - 1;
        Ok(SharedRing { map, producer, consumer, flags, entries: desc, mask, of: PhantomData })
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: the offset lies in the mapping and is aligned, as `map` has seen to; both sides touch the
        // word only by whole, aligned loads and stores.
        unsafe { self.map.start.add(at).cast::<AtomicU32>().as_ref() }
    }

    fn entry(&self, number: u32) -> *mut T {
        let offset = self.entries + (number & self.mask) as usize * size_of::<T>();
        // SAFETY: the mask keeps it within the entries, which lie in the mapping.
        unsafe { self.map.start.add(offset).cast::<T>().as_ptr() }
    }

    /// Of a ring to the kernel: whether an entry is free.
    fn has_room(&self) -> bool {
        let producer = self.word(self.producer).load(Ordering::Relaxed);
        producer.wrapping_sub(self.taken()) <= self.mask
    }

    /// Of a ring to the kernel: fills an entry. There is room, since there are as many entries as frames that
    /// go that way.
    fn push(&mut self, value: T) {
        debug_assert!(self.has_room());
        let producer = self.word(self.producer).load(Ordering::Relaxed);
        // SAFETY: the entry is ours, for the consumer has not been told of it yet.
        unsafe { self.entry(producer).write(value) };
        self.word(self.producer).store(producer.wrapping_add(1), Ordering::Release);
    }

    /// Of a ring to the kernel: how far it has got.
    fn taken(&self) -> u32 {
        self.word(self.consumer).load(Ordering::Acquire)
    }

    /// Of a ring to the kernel: whether it has taken all.
    fn is_taken(&self) -> bool {
        self.word(self.producer).load(Ordering::Relaxed) == self.taken()
    }

    /// Of a ring from the kernel: whether nothing is there.
    fn is_empty(&self) -> bool {
        self.word(self.consumer).load(Ordering::Relaxed) == self.word(self.producer).load(Ordering::Acquire)
    }

    /// Of a ring from the kernel: takes an entry.
    fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let consumer = self.word(self.consumer).load(Ordering::Relaxed);
        // SAFETY: the producer's counter has passed this entry, so it is filled, and ours until our counter
        // passes it.
        let value = unsafe { self.entry(consumer).read() };
        self.word(self.consumer).store(consumer.wrapping_add(1), Ordering::Release);
        Some(value)
    }

    /// Of a ring to the kernel: whether it looks only when it is called.
    fn needs_wakeup(&self) -> bool {
        self.word(self.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}
