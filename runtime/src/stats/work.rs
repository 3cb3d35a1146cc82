//! What a thread has done with bytes and system calls: the claims "one copy" and "touched once", countable.
//!
//! Whoever moves payload counts it where it is moved: a transfer, a device, a socket. The counts belong to
//! the thread, so counting is an addition to memory that no other core looks at; another thread gets them by
//! asking the owner for a copy. They only grow, but for wrapping.

use std::cell::Cell;
use std::ops::Index;

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Quantity {
    /// Payload bytes given to a device or a socket; retransmitted ones again.
    BytesSent,
    /// Of what was sent: bytes copied from memory to memory by us, not by the kernel.
    BytesCopied,
    /// Bytes that a checksum was computed over by us.
    BytesSummed,
    /// Bytes of payload loaded by our code: once for a fused copy and sum, once for each separate pass.
    BytesTouched,
    /// Bytes handed over where they lie, by address, for the kernel to copy.
    BytesReferenced,
    /// Bytes that the kernel sends from where they lie: nobody copies them on this side.
    BytesByReference,
    /// Payload bytes whose checksum was known without looking at them.
    BytesOfKnownSum,
    /// Bytes of content encrypted, by us or for us.
    BytesSealed,
    /// Frames, or super-segments, given to a device.
    FramesSent,
    /// Frames, or super-segments, taken from a device.
    FramesReceived,
    /// System calls that wait for events.
    CallsToWait,
    /// System calls that bring bytes or connections.
    CallsToReceive,
    /// System calls that send bytes or the end of a stream.
    CallsToSend,
    /// Other system calls of a loop: registering, closing, opening and reading files.
    OtherCalls,
    /// Blocks of files that were wanted and in the cache.
    BlocksFound,
    /// Blocks of files that were wanted, and read for it.
    BlocksRead,
    /// Readings of blocks: one may bring several that lie behind each other.
    BlockReads,
    /// Of the blocks that were read, those whose reading the loop did not wait for.
    BlocksQueued,
    /// Reads of a block that were refused, for it does not have its checksum.
    BlocksDamaged,
    /// Bytes of images that were compared with their checksums beside serving.
    BytesScrubbed,
    /// Pages that did not have theirs.
    PagesFoundDamaged,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Quantity; 21] = [
        Quantity::BytesSent,
        Quantity::BytesCopied,
        Quantity::BytesSummed,
        Quantity::BytesTouched,
        Quantity::BytesReferenced,
        Quantity::BytesByReference,
        Quantity::BytesOfKnownSum,
        Quantity::BytesSealed,
        Quantity::FramesSent,
        Quantity::FramesReceived,
        Quantity::CallsToWait,
        Quantity::CallsToReceive,
        Quantity::CallsToSend,
        Quantity::OtherCalls,
        Quantity::BlocksFound,
        Quantity::BlocksRead,
        Quantity::BlockReads,
        Quantity::BlocksQueued,
        Quantity::BlocksDamaged,
        Quantity::BytesScrubbed,
        Quantity::PagesFoundDamaged,
    ];

    /// Its name, for people and programs: `bytes_copied`.
    pub const fn name(self) -> &'static str {
        match self {
            Quantity::BytesSent => "bytes_sent",
            Quantity::BytesCopied => "bytes_copied",
            Quantity::BytesSummed => "bytes_summed",
            Quantity::BytesTouched => "bytes_touched",
            Quantity::BytesReferenced => "bytes_referenced",
            Quantity::BytesByReference => "bytes_by_reference",
            Quantity::BytesOfKnownSum => "bytes_of_known_sum",
            Quantity::BytesSealed => "bytes_sealed",
            Quantity::FramesSent => "frames_sent",
            Quantity::FramesReceived => "frames_received",
            Quantity::CallsToWait => "calls_to_wait",
            Quantity::CallsToReceive => "calls_to_receive",
            Quantity::CallsToSend => "calls_to_send",
            Quantity::OtherCalls => "other_calls",
            Quantity::BlocksFound => "blocks_found",
            Quantity::BlocksRead => "blocks_read",
            Quantity::BlockReads => "block_reads",
            Quantity::BlocksQueued => "blocks_queued",
            Quantity::BlocksDamaged => "blocks_damaged",
            Quantity::BytesScrubbed => "bytes_scrubbed",
            Quantity::PagesFoundDamaged => "pages_found_damaged",
        }
    }
}

const QUANTITIES: usize = Quantity::ALL.len();

thread_local! {
    static DONE: [Cell<u64>; QUANTITIES] = const { [const { Cell::new(0) }; QUANTITIES] };
}

/// Adds `n` to a count of this thread.
#[inline]
pub fn count(quantity: Quantity, n: usize) {
    DONE.with(|done| {
        let cell = &done[quantity as usize];
        cell.set(cell.get().wrapping_add(n as u64));
    });
}

/// The counts of a thread, or of several, at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    counts: [u64; QUANTITIES],
}

impl Work {
    /// What the calling thread has done since it began.
    pub fn of_this_thread() -> Work {
        DONE.with(|done| Work { counts: std::array::from_fn(|i| done[i].get()) })
    }

    /// What was done between `earlier` and this.
    #[must_use]
    pub fn since(&self, earlier: &Work) -> Work {
        Work { counts: std::array::from_fn(|i| self.counts[i].wrapping_sub(earlier.counts[i])) }
    }

    /// Adds what another thread has done.
    pub fn add(&mut self, other: &Work) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum = sum.wrapping_add(count);
        }
    }

    /// All system calls.
    pub fn calls(&self) -> u64 {
        use Quantity::{CallsToReceive, CallsToSend, CallsToWait, OtherCalls};
        [CallsToWait, CallsToReceive, CallsToSend, OtherCalls].into_iter().map(|kind| self[kind]).sum()
    }
}

impl Index<Quantity> for Work {
    type Output = u64;

    fn index(&self, quantity: Quantity) -> &u64 {
        &self.counts[quantity as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_the_threads_own() {
        let before = Work::of_this_thread();
        count(Quantity::BytesCopied, 5);
        count(Quantity::BytesCopied, 7);
        count(Quantity::CallsToSend, 1);
        let other = std::thread::spawn(|| {
            count(Quantity::BytesCopied, 100);
            Work::of_this_thread()
        });
        let other = other.join().unwrap();
        let mut done = Work::of_this_thread().since(&before);
        assert_eq!((done[Quantity::BytesCopied], done.calls()), (12, 1));
        assert_eq!((other[Quantity::BytesCopied], other.calls()), (100, 0));
        done.add(&other);
        assert_eq!(done[Quantity::BytesCopied], 112);
    }

    #[test]
    fn every_quantity_has_its_place_and_name() {
        for (i, quantity) in Quantity::ALL.into_iter().enumerate() {
            assert_eq!(quantity as usize, i);
            assert!(Quantity::ALL[..i].iter().all(|other| other.name() != quantity.name()));
        }
    }
}
