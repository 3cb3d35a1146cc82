//! What arrives at one of several stacks and belongs to another, on its way there.
//!
//! ```text
//!   queue 0 -> driver 0 -- FlowShare: mine  -> stack 0
//!                    \\
//!                     `--- another's ------> Inbox 1 -> driver 1 -> stack 1        (a copy; bounded; an eventfd wakes)
//!   queue 1 -> driver 1 ...
//! ```
//!
//! Kernel and adapters spread frames over queues by a hash of their own. Where they can be told to do so by
//! ours they are; where they learn from what we send (TAP) the first frames of a flow take the way from here;
//! where neither is so, half of them do.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::iface::flow_share::{FlowShare, Recipient};
use crate::transmission::RxChecksum;

/// Frames that wait for one driver, at most; more are lost, as in a device's queue.
const INBOX_FRAMES: usize = 1024;

/// A frame that another has received.
#[derive(Debug)]
pub(crate) struct PassedFrame {
    pub(crate) bytes: Box<[u8]>,
    pub(crate) checksum: RxChecksum,
}

/// Frames for one driver. Its descriptor is readable while there are some.
#[derive(Debug)]
struct Inbox {
    frames: Mutex<VecDeque<PassedFrame>>,
    has_some: AtomicBool,
    event: OwnedFd,
}

impl Inbox {
    fn new() -> io::Result<Inbox> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Inbox { frames: Mutex::default(), has_some: AtomicBool::new(false), event })
    }

    /// Whether there was room.
    fn put(&self, frame: PassedFrame) -> bool {
        let mut frames = self.lock();
        if frames.len() >= INBOX_FRAMES {
            return false;
        }
        frames.push_back(frame);
        if frames.len() == 1 {
            // A counter of 64 bits does not overflow by ones that are read.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
            self.has_some.store(true, Ordering::Release);
        }
        true
    }

    fn take(&self, into: &mut VecDeque<PassedFrame>) {
        if !self.has_some.load(Ordering::Acquire) {
            return;
        }
        let mut frames = self.lock();
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
        self.has_some.store(false, Ordering::Release);
        std::mem::swap(into, &mut frames);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<PassedFrame>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One driver's part of what several share: its flows, and the way to the others.
#[derive(Debug)]
pub struct Sharing {
    share: FlowShare,
    boxes: Arc<[Inbox]>,
    /// What was in the inbox.
    taken: VecDeque<PassedFrame>,
    /// Frames that were given to others, and those for which they had no room.
    passed: u64,
    lost: u64,
}

impl Sharing {
    /// The parts of `count` drivers, one at least, in the order of their numbers.
    ///
    /// # Errors
    /// If the system has no random bytes or no more descriptors.
    pub fn among(count: usize) -> io::Result<Vec<Sharing>> {
        let count = u32::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut key = [0; 4];
        rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty())?;
        let shares: Vec<FlowShare> = FlowShare::of(count, u32::from_ne_bytes(key)).collect();
        let boxes: Arc<[Inbox]> = shares.iter().map(|_| Inbox::new()).collect::<io::Result<_>>()?;
        let part =
            |share| Sharing { share, boxes: Arc::clone(&boxes), taken: VecDeque::new(), passed: 0, lost: 0 };
        Ok(shares.into_iter().map(part).collect())
    }

    /// Its flows.
    pub fn share(&self) -> FlowShare {
        self.share
    }

    /// Frames given to others so far.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Frames for others that were lost, for they had no room.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// What is readable while others have frames for this one.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.boxes[self.share.index() as usize].event.as_fd()
    }

    /// The next frame that another has received.
    pub(crate) fn next(&mut self) -> Option<PassedFrame> {
        if self.taken.is_empty() {
            self.boxes[self.share.index() as usize].take(&mut self.taken);
        }
        self.taken.pop_front()
    }

    /// Gives others what is theirs of a frame that has arrived here. Whether it is for this one, too.
    pub(crate) fn keeps(&mut self, frame: &[u8], checksum: RxChecksum) -> bool {
        let own = self.share.index();
        match self.share.recipient(frame) {
            Recipient::One(one) => one == own || !self.pass(one, frame, checksum),
            Recipient::All => {
                self.tell_all(frame, checksum);
                true
            }
        }
    }

    /// Gives all others a frame that has arrived here.
    pub(crate) fn tell_all(&mut self, frame: &[u8], checksum: RxChecksum) {
        let own = self.share.index();
        for other in (0..self.share.count()).filter(|other| *other != own) {
            self.pass(other, frame, checksum);
        }
    }

    /// Gives a frame to the one of that number, modulo how many there are, unless that is this one. Whether
    /// it is another's.
    pub(crate) fn pass(&mut self, to: u32, frame: &[u8], checksum: RxChecksum) -> bool {
        let to = to % self.share.count();
        if to == self.share.index() {
            return false;
        }
        let is_put = self.boxes[to as usize].put(PassedFrame { bytes: frame.into(), checksum });
        if is_put {
            self.passed += 1
        } else {
            self.lost += 1
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_readable(sharing: &Sharing) -> bool {
        let descriptor = sharing.descriptor();
        let mut fds = [PollFd::new(&descriptor, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn what_is_passed_arrives_in_order_and_wakes() {
        let mut all = Sharing::among(3).unwrap();
        for round in 0..3u8 {
            assert!(!is_readable(&all[1]) && all[1].next().is_none());
            assert!(all[0].pass(1, &[round], RxChecksum::Partial));
            assert!(all[2].pass(4, &[round, 9], RxChecksum::Unknown), "modulo three");
            assert!(is_readable(&all[1]) && !is_readable(&all[0]) && !is_readable(&all[2]));
            let first = all[1].next().unwrap();
            assert_eq!((&first.bytes[..], first.checksum), (&[round][..], RxChecksum::Partial));
            assert_eq!(&all[1].next().unwrap().bytes[..], [round, 9]);
        }
        assert!(!all[1].pass(1, &[1], RxChecksum::Unknown), "its own");
        assert_eq!((all[0].passed(), all[1].passed(), all[2].passed()), (3, 0, 3));
    }

    #[test]
    fn an_inbox_is_bounded() {
        let mut all = Sharing::among(2).unwrap();
        for _ in 0..INBOX_FRAMES + 5 {
            assert!(all[0].pass(1, &[0; 60], RxChecksum::Unknown));
        }
        assert_eq!((all[0].passed(), all[0].lost()), (INBOX_FRAMES as u64, 5));
        let taken = std::iter::from_fn(|| all[1].next()).count();
        assert_eq!(taken, INBOX_FRAMES);
        assert!(!is_readable(&all[1]));
        assert!(all[0].pass(1, &[0; 60], RxChecksum::Unknown) && is_readable(&all[1]), "and goes on");
    }

    /// A question for an address is everybody's; of what has an owner only one gets it.
    #[test]
    fn arp_is_for_all() {
        let mut all = Sharing::among(3).unwrap();
        let mut arp = [0; 60];
        arp[12..14].copy_from_slice(&[8, 6]);
        assert!(all[2].keeps(&arp, RxChecksum::Unknown));
        assert!(all[0].next().is_some() && all[1].next().is_some() && all[2].next().is_none());
        let mut other = [0; 60];
        other[12] = 0x12;
        assert!(!all[2].keeps(&other, RxChecksum::Unknown), "the first's, like all that has no ports");
        assert!(all[0].next().is_some() && all[1].next().is_none());
    }
}
