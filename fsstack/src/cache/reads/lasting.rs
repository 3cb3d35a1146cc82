//! What a ring is told of once, and how it hears that nobody reads from it any more: of a file that was
//! replaced it keeps the space, of a cache the memory, and its loop may be asleep.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A part of what much is read from: a [`BlockSource`](super::BlockSource) that has one is told to the rings
/// that read from it, once and for all, and they let go of it when this is dropped.
#[derive(Debug, Default)]
pub struct Lasting {
    told: Mutex<Vec<Weak<RingBell>>>,
}

impl Lasting {
    /// Has a ring hear of the end.
    pub(super) fn tell(&self, bell: &Arc<RingBell>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Rings that are gone.
        told.retain(|other| other.strong_count() > 0);
        if !told.iter().any(|other| ptr::eq(other.as_ptr(), Arc::as_ptr(bell))) {
            told.push(Arc::downgrade(bell));
        }
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        let told = self.told.get_mut().unwrap_or_else(PoisonError::into_inner);
        told.iter().filter_map(Weak::upgrade).for_each(|bell| bell.ring());
    }
}

/// Wakes the loop of a ring.
#[derive(Debug)]
pub(super) struct RingBell {
    /// An eventfd.
    fd: OwnedFd,
    was_rung: AtomicBool,
}

impl RingBell {
    pub(super) fn new(fd: BorrowedFd<'_>) -> io::Result<RingBell> {
        Ok(RingBell { fd: fd.try_clone_to_owned()?, was_rung: AtomicBool::new(false) })
    }

    fn ring(&self) {
        if !self.was_rung.swap(true, Ordering::AcqRel) {
            // A full counter wakes as well.
            let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
        }
    }

    pub(super) fn was_rung(&self) -> bool {
        self.was_rung.load(Ordering::Acquire)
    }

    /// Whether it was rung since this was asked last.
    pub(super) fn take(&self) -> bool {
        self.was_rung() && self.was_rung.swap(false, Ordering::AcqRel)
    }
}
