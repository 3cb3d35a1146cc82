//! Memory that the kernel takes pieces of when bytes come, and not before: who is silent has none.

#![allow(unsafe_code, reason = "memory that the kernel writes to, and a ring of its pieces that it reads")]

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use memmap2::MmapMut;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

/// Pieces of one ring; a power of two.
const PIECES: u16 = 256;

/// Bytes of a piece: a head of a request is rarely longer, and what comes to one connection at once, up to 33
/// pieces before the kernel looks after others, stays little.
pub(super) const PIECE_BYTES: usize = 4096;

/// Entries of the kernel's ring, before the pieces.
const ENTRIES_BYTES: usize = PIECES as usize * size_of::<BufRingEntry>();

/// The only group of pieces that a ring has.
pub(super) const GROUP: u16 = 0;

/// The pieces of one ring.
pub(super) struct Provided {
    /// Entries, then pieces. Used by address only, for the kernel does so, too.
    start: *mut u8,
    /// Entries that were ever made; the kernel has a copy behind the first of them.
    tail: Cell<u16>,
    _map: MmapMut,
}

impl Provided {
    /// Gives pieces to the kernel.
    ///
    /// # Errors
    /// If there is no memory, or the kernel is older than Linux 5.19.
    pub(super) fn register(ring: &IoUring) -> io::Result<Rc<Provided>> {
        let mut map = MmapMut::map_anon(ENTRIES_BYTES + usize::from(PIECES) * PIECE_BYTES)?;
        let provided = Provided { start: map.as_mut_ptr(), tail: Cell::new(0), _map: map };
        // SAFETY: the entries begin a map, on a page then; they are unmapped after the ring is gone
        // (`SocketRing`'s `drop`).
        unsafe {
            let entries = provided.start.expose_provenance() as u64;
            ring.submitter().register_buf_ring_with_flags(entries, PIECES, GROUP, 0)?;
        }
        (0..PIECES).for_each(|id| provided.give(id));
        Ok(Rc::new(provided))
    }

    /// A piece that the kernel has put `len` bytes in.
    pub(super) fn taken(self: &Rc<Provided>, id: u16, len: usize) -> ReceivedBytes {
        assert!(id < PIECES && len <= PIECE_BYTES, "the kernel gives what it was given");
        ReceivedBytes { provided: Rc::clone(self), id, len }
    }

    fn piece(&self, id: u16) -> *mut u8 {
        debug_assert!(id < PIECES);
        // SAFETY: within the map.
        unsafe { self.start.add(ENTRIES_BYTES + usize::from(id) * PIECE_BYTES) }
    }

    /// Gives a piece to the kernel that nobody looks at.
    fn give(&self, id: u16) {
        let tail = self.tail.get();
        let entries = self.start.cast::<BufRingEntry>();
        // SAFETY: within the map, aligned; the kernel looks at an entry once the tail is behind it, and there
        // are no more pieces than entries, so it is done with what was there. The tail lies in bytes of the
        // first entry that are nobody's; it is read by the kernel alone.
        unsafe {
            let entry = &mut *entries.add(usize::from(tail % PIECES));
            entry.set_addr(self.piece(id).expose_provenance() as u64);
            entry.set_len(PIECE_BYTES as u32);
            entry.set_bid(id);
            let shown = &*BufRingEntry::tail(entries).cast::<AtomicU16>();
            shown.store(tail.wrapping_add(1), Ordering::Release);
        }
        self.tail.set(tail.wrapping_add(1));
    }
}

/// Bytes that have come, where the kernel has put them. Their memory is for others again once this is
/// dropped: soon.
pub struct ReceivedBytes {
    provided: Rc<Provided>,
    id: u16,
    len: usize,
}

impl ReceivedBytes {
    /// Whether there was no room for more: it may follow at once.
    pub fn is_full(&self) -> bool {
        self.len == PIECE_BYTES
    }
}

impl Deref for ReceivedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: within the map, written by the kernel before it said so, and not given back to it before
        // `drop`.
        unsafe { std::slice::from_raw_parts(self.provided.piece(self.id), self.len) }
    }
}

impl Drop for ReceivedBytes {
    fn drop(&mut self) {
        self.provided.give(self.id);
    }
}

impl fmt::Debug for ReceivedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedBytes").field("len", &self.len).finish_non_exhaustive()
    }
}
