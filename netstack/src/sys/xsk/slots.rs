//! What is sent by a socket: rooms for whole frames, each of so many chunks side by side that the longest
//! fits. So a frame is written in one visit, and only its descriptors are several.

use super::rings::{Mapping, SharedRing};
use super::{CHUNK_LEN, chunk_of};

/// Rooms to send from, in the memory behind the chunks to receive into.
#[derive(Debug)]
pub(super) struct Slots {
    transmit: SharedRing<libc::xdp_desc>,
    completion: SharedRing<u64>,
    /// Where the first one is.
    start: u64,
    /// Chunks of a room.
    chunks: usize,
    free: Vec<u32>,
    /// Of each room: chunks that have not come back.
    under_way: Vec<u8>,
    /// Frames handed over since they were counted last.
    pending: usize,
}

impl Slots {
    /// Rooms of `chunks` chunks from `start` on; as many as `entries`, which each ring has, suffice for.
    pub(super) fn new(
        transmit: SharedRing<libc::xdp_desc>,
        completion: SharedRing<u64>,
        start: u64,
        chunks: u8,
        entries: usize,
    ) -> Slots {
        let chunks = usize::from(chunks.max(1));
        let rooms = (entries / chunks) as u32;
        Slots {
            transmit,
            completion,
            start,
            chunks,
            free: (0..rooms).collect(),
            under_way: vec![0; rooms as usize],
            pending: 0,
        }
    }

    /// Whether there is a room to send from.
    pub(super) fn can_transmit(&mut self) -> bool {
        if self.free.is_empty() {
            self.reclaim();
        }
        !self.free.is_empty() && self.transmit.has_room(self.chunks)
    }

    /// Fills a free room: `fill` gives how long the frame is; `None` or a length that is none leaves it free.
    /// Returns whether there was one and it was filled.
    pub(super) fn transmit(
        &mut self,
        memory: &mut Mapping,
        fill: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        if !self.can_transmit() {
            return false;
        }
        let Some(room) = self.free.pop() else { return false };
        let room_len = self.chunks * CHUNK_LEN;
        let at = self.start + u64::from(room) * room_len as u64;
        // SAFETY: no chunk of a free room is in a ring, so it is ours alone; `&mut` makes the access unique.
        let bytes = unsafe { memory.bytes_mut(at as usize, room_len) };
        let len = fill(bytes).filter(|len| (1..=room_len).contains(len));
        let Some(len) = len else {
            self.free.push(room);
            return false;
        };
        let pieces = len.div_ceil(CHUNK_LEN);
        self.under_way[room as usize] = pieces as u8;
        self.transmit.push((0..pieces).map(|piece| {
            let begin = piece * CHUNK_LEN;
            let is_last = piece + 1 == pieces;
            libc::xdp_desc {
                addr: at + begin as u64,
                len: (len - begin).min(CHUNK_LEN) as u32,
                options: if is_last { 0 } else { libc::XDP_PKT_CONTD },
            }
        }));
        self.pending += 1;
        true
    }

    /// Frames handed over since [`Slots::begin_send`].
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    pub(super) fn begin_send(&mut self) {
        self.pending = 0;
    }

    /// Whether the kernel has to be called for what is there.
    pub(super) fn wants_call(&self) -> bool {
        self.transmit.needs_wakeup() && !self.transmit.is_taken()
    }

    /// How far the kernel has got.
    pub(super) fn taken(&self) -> u32 {
        self.transmit.taken()
    }

    /// Takes back what has been sent: a room is free when all its chunks are.
    fn reclaim(&mut self) {
        while let Some(addr) = self.completion.pop() {
            let Some(from_start) = chunk_of(addr).checked_sub(self.start) else { continue };
            let room = from_start / (self.chunks * CHUNK_LEN) as u64;
            let Some(left) = usize::try_from(room).ok().and_then(|room| self.under_way.get_mut(room)) else {
                continue;
            };
            match *left {
                0 => continue,
                1 => self.free.push(room as u32),
                _ => {}
            }
            *left -= 1;
        }
    }
}
