//! Reads by io_uring, a ring for each loop: begun while more are asked for, ended where the loop wakes up. A
//! block that goes to a frame of a cache in one piece ([`FileCache::aligned`]) is read to
//! registered memory, and all that lasts from registered files.
//!
//! [`FileCache::aligned`]: crate::cache::FileCache::aligned

#![allow(unsafe_code, reason = "the kernel writes to memory that a queue entry names")]

use super::registered::{Registered, RingCounts};
use super::{ReadOrder, ReadQueue};
use io_uring::{IoUring, Probe, opcode, types};
use runtime::stats::work::{Quantity, count};
use slab::Slab;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Reads that are under way at once; more wait their turn here.
const DEPTH: u32 = 128;

/// Reads at work that each one keeps from being told before the turn ends.
const AT_WORK: usize = 8;

/// Whether the kernel is told of reads while more may be asked for: a device should not stand still while
/// who asks thinks, nor each read cost a call.
fn is_worth_a_call(untold: usize, at_work: usize) -> bool {
    untold * AT_WORK > at_work
}

/// The ring of one loop.
pub struct UringQueue {
    /// Before the orders, of which the kernel fills the buffers as long as there is a ring.
    ring: IoUring,
    /// What the kernel has, by the number that it tells when it is done.
    under_way: ManuallyDrop<Slab<UnderWay>>,
    waiting: VecDeque<ReadOrder>,
    /// Of what is under way, entries that the kernel was not told of yet.
    untold: usize,
    registered: Registered,
}

/// What the kernel does.
struct UnderWay {
    order: ReadOrder,
    /// Of an order of several blocks, where they go: address and length, as an `iovec` has them.
    rooms: Box<[[usize; 2]]>,
}

/// Numbers by which the ring knows where a block goes, and where it comes from.
struct RingNumbers {
    part: Option<u16>,
    file: Option<u32>,
}

impl UringQueue {
    /// A ring that counts up the eventfd `bell` when something is read.
    ///
    /// # Errors
    /// If there is no io_uring here: an old kernel, or a container that forbids it.
    pub fn new(bell: BorrowedFd<'_>) -> io::Result<UringQueue> {
        // What is done is noted at the next system call, of which a loop makes one anyway, not by
        // interrupting it.
        let ring = IoUring::builder().setup_coop_taskrun().build(DEPTH);
        let ring = ring.or_else(|_| IoUring::new(DEPTH))?;
        ring.submitter().register_eventfd(bell.as_raw_fd())?;
        let under_way = ManuallyDrop::new(Slab::with_capacity(DEPTH as usize));
        let registered = Registered::new(bell)?;
        Ok(UringQueue { ring, under_way, waiting: VecDeque::new(), untold: 0, registered })
    }

    /// The same, which registers nothing: to measure what that is worth.
    #[must_use]
    pub fn without_registering(mut self) -> UringQueue {
        self.registered.stop();
        self
    }

    /// What became of what it was told of once.
    pub fn counts(&self) -> RingCounts {
        self.registered.counts()
    }

    /// Whether there can be one.
    ///
    /// # Errors
    /// As [`UringQueue::new`].
    pub fn probe() -> io::Result<()> {
        let bell = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
        let queue = UringQueue::new(std::os::fd::AsFd::as_fd(&bell))?;
        // Before Linux 5.6 there are rings without these.
        let mut known = Probe::new();
        queue.ring.submitter().register_probe(&mut known)?;
        let codes = [opcode::Read::CODE, opcode::Readv::CODE];
        match codes.iter().all(|code| known.is_supported(*code)) {
            true => Ok(()),
            false => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn push(&mut self, mut order: ReadOrder) {
        let known = self.registered_for(&mut order);
        let entry = self.under_way.vacant_entry();
        let key = entry.key() as u64;
        let UnderWay { order, rooms } = entry.insert(UnderWay { order, rooms: Box::default() });
        let file = types::Fd(order.file().as_raw_fd());
        let (offset, mut buffers) = order.rests();
        // A block, and all of an order together, are shorter than 4 GiB.
        let read = match (&mut buffers[..], known.part, known.file.map(types::Fixed)) {
            ([buffer], Some(part), known) => {
                let (to, len) = (buffer.as_mut_ptr(), buffer.len() as u32);
                let read = match known {
                    Some(file) => opcode::ReadFixed::new(file, to, len, part),
                    None => opcode::ReadFixed::new(file, to, len, part),
                };
                read.offset(offset).build()
            }
            ([buffer], None, known) => {
                let (to, len) = (buffer.as_mut_ptr(), buffer.len() as u32);
                let read = match known {
                    Some(file) => opcode::Read::new(file, to, len),
                    None => opcode::Read::new(file, to, len),
                };
                read.offset(offset).build()
            }
            (several, _, known) => {
                let place = |buffer: &mut &mut [u8]| [buffer.as_mut_ptr().expose_provenance(), buffer.len()];
                *rooms = several.iter_mut().map(place).collect();
                let (to, len) = (rooms.as_ptr().cast(), rooms.len() as u32);
                let read = match known {
                    Some(file) => opcode::Readv::new(file, to, len),
                    None => opcode::Readv::new(file, to, len),
                };
                read.offset(offset).build()
            }
        };
        drop(buffers);
        let entry = read.user_data(key);
        // SAFETY: the order owns the buffers, on the heap, and the file. With `rooms` it stays in
        // `under_way`, where nobody touches it, until the kernel says that it is done with it; and with the
        // ring itself as `drop` sees to.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        match pushed {
            Ok(()) => {
                self.untold += 1;
                // SAFETY: the only other view of the completion queue is `take_ended`'s, which is over.
                let ended = unsafe { self.ring.completion_shared().len() };
                let told = self.under_way.len() - self.untold;
                if is_worth_a_call(self.untold, told.saturating_sub(ended)) {
                    self.tell();
                }
            }
            // The ring has an entry for each that may be under way.
            Err(_) => drop(self.under_way.try_remove(key as usize)),
        }
    }

    /// What of an order is registered: memory if it is for one block.
    fn registered_for(&mut self, order: &mut ReadOrder) -> RingNumbers {
        let room = match &order.rests().1[..] {
            [buffer] => Some(buffer.as_ptr().addr()..buffer.as_ptr().addr() + buffer.len()),
            _ => None,
        };
        let part = room.and_then(|room| self.registered.part_of(&self.ring, order, room));
        let file = self.registered.file_of(&self.ring, order);
        self.registered.note(part, file);
        RingNumbers { part, file }
    }

    /// Tells the kernel what is to be begun.
    fn tell(&mut self) {
        if self.untold > 0 {
            count(Quantity::OtherCalls, 1);
            // What it does not take now is told again: `has_work`.
            if let Ok(taken) = self.ring.submit() {
                self.untold = self.untold.saturating_sub(taken);
            }
        }
    }

    /// Ends what is read; whether there was something.
    fn take_ended(&mut self) -> bool {
        let mut any = false;
        loop {
            let Some(ended) = self.ring.completion().next() else { return any };
            any = true;
            let Some(UnderWay { order, .. }) = self.under_way.try_remove(ended.user_data() as usize) else {
                continue;
            };
            let outcome = match ended.result() {
                n if n < 0 => Err(io::Error::from_raw_os_error(-n)),
                n => Ok(n as usize),
            };
            let rest = order.advance(outcome).or_else(|| self.waiting.pop_front());
            if let Some(next) = rest {
                self.push(next);
            }
        }
    }
}

impl ReadQueue for UringQueue {
    fn submit(&mut self, order: ReadOrder) {
        if self.under_way.len() < DEPTH as usize {
            self.push(order);
        } else {
            self.waiting.push_back(order);
        }
    }

    fn turn(&mut self) {
        loop {
            self.tell();
            // What was done at once may have made room for what waits.
            if !self.take_ended() || self.untold == 0 {
                break;
            }
        }
        self.registered.let_go(&self.ring);
    }

    fn has_work(&self) -> bool {
        // SAFETY: the only other view of the completion queue is `take_ended`'s, which is over.
        let has_ended = || unsafe { !self.ring.completion_shared().is_empty() };
        self.untold > 0 || self.registered.has_work() || has_ended()
    }
}

impl Drop for UringQueue {
    /// Waits for what is under way: until then the kernel writes to its buffers.
    fn drop(&mut self) {
        self.waiting.clear();
        while !self.under_way.is_empty() {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Then the buffers are never given up.
                Err(_) => return,
            }
            self.untold = 0;
            self.take_ended();
        }
        // SAFETY: not used again.
        unsafe { ManuallyDrop::drop(&mut self.under_way) };
    }
}

impl fmt::Debug for UringQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UringQueue")
            .field("under_way", &self.under_way.len())
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::is_worth_a_call;

    /// Calls for so many reads, asked for one after the other, and how many are told by the first few.
    fn calls(reads: usize, ended: impl Fn(usize) -> usize) -> Vec<usize> {
        let (mut told, mut untold, mut calls) = (0, 0, Vec::new());
        for _ in 0..reads {
            untold += 1;
            if is_worth_a_call(untold, told - ended(told)) {
                calls.push(untold);
                (told, untold) = (told + untold, 0);
            }
        }
        calls
    }

    #[test]
    fn many_reads_cost_few_calls() {
        let slow = calls(128, |_| 0);
        assert!(slow.starts_with(&[1; 8]) && slow[8] == 2, "{slow:?}");
        assert!(slow.len() < 32, "{} calls", slow.len());
        // Nothing is gained by waiting for more.
        assert_eq!(calls(20, |told| told), [1; 20]);
    }
}
