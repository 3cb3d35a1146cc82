//! What arrives by a socket: empty chunks to the kernel, filled ones from it, several of them a frame where
//! one does not hold it.

use super::gather::{Gather, Gathered};
use super::rings::{Mapping, SharedRing};
use super::{CHUNK_LEN, chunk_of};

/// Chunks that the kernel puts frames into: the first ones of the memory.
#[derive(Debug)]
pub(super) struct Arrivals {
    fill: SharedRing<u64>,
    receive: SharedRing<libc::xdp_desc>,
    /// Bytes of those chunks together.
    end: u64,
    /// The chunk lent out, given back to the kernel on the next call.
    lent: Option<u64>,
    /// Chunks were given back since the kernel was asked whether it waits for them.
    given: bool,
    gather: Gather,
    /// Frames that were of no use.
    useless: u64,
}

impl Arrivals {
    /// All chunks are given to the kernel.
    pub(super) fn new(
        mut fill: SharedRing<u64>,
        receive: SharedRing<libc::xdp_desc>,
        chunks: usize,
    ) -> Arrivals {
        fill.push((0..chunks).map(|chunk| (chunk * CHUNK_LEN) as u64));
        let end = (chunks * CHUNK_LEN) as u64;
        Arrivals { fill, receive, end, lent: None, given: false, gather: Gather::default(), useless: 0 }
    }

    /// Whether something has arrived.
    pub(super) fn has_arrived(&self) -> bool {
        !self.receive.is_empty()
    }

    /// Gives the chunk that is lent out back. Whether the kernel has to be woken: a driver that takes chunks
    /// itself may have stopped for want of empty ones.
    pub(super) fn give_back(&mut self) -> bool {
        if let Some(chunk) = self.lent.take() {
            self.give(chunk);
        }
        std::mem::take(&mut self.given) && self.fill.needs_wakeup()
    }

    fn give(&mut self, chunk: u64) {
        // An address outside of them is ignored.
        if chunk < self.end && self.fill.has_room(1) {
            self.fill.push([chunk].into_iter());
            self.given = true;
        }
    }

    /// The next frame that is whole, lent until [`Arrivals::give_back`], which comes before the next call.
    /// One in several chunks is put together, and its chunks go back at once.
    pub(super) fn next<'a>(&'a mut self, memory: &'a Mapping) -> Option<&'a [u8]> {
        debug_assert!(self.lent.is_none());
        loop {
            let descriptor = self.receive.pop()?;
            let continues = descriptor.options & libc::XDP_PKT_CONTD != 0;
            let chunk = chunk_of(descriptor.addr);
            // The frame ends in its chunk: what lies behind may be the kernel's.
            let until = (descriptor.addr - chunk) + u64::from(descriptor.len);
            let is_sound = chunk < self.end && until <= CHUNK_LEN as u64;
            let len = if is_sound { descriptor.len as usize } else { 0 };
            // SAFETY: a chunk in the receive ring's entries that was just taken out is in no ring, so it is
            // ours until it is given back, which takes `&mut self`.
            let bytes = unsafe { memory.bytes(descriptor.addr as usize, len) };
            if !continues && !self.gather.is_inside() && is_sound {
                self.lent = Some(chunk);
                return Some(bytes);
            }
            let gathered = self.gather.take(bytes, continues);
            self.give(chunk);
            match gathered {
                Gathered::Part => {}
                Gathered::Useless => self.useless += 1,
                Gathered::Whole => return Some(self.gather.frame()),
            }
        }
    }

    /// Frames that arrived and were of no use.
    pub(super) fn useless(&self) -> u64 {
        self.useless
    }
}
