//! Readiness by Linux's epoll(7).

use super::sys;
use super::{Event, Interest, Poller, Token, Trigger};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Events taken by one system call. More stay for the next.
const EVENTS_PER_WAIT: usize = 256;

/// An epoll instance.
pub struct Epoll {
    fd: Arc<OwnedFd>,
    ready: Vec<epoll::Event>,
    /// The system waits for whole milliseconds only: before Linux 5.11, or where a sandbox forbids the newer
    /// call.
    only_whole_ms: bool,
}

impl fmt::Debug for Epoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoll").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl Epoll {
    /// A new instance with nothing registered.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn new() -> io::Result<Epoll> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let fd = Arc::new(fd);
        Ok(Epoll { fd, ready: Vec::with_capacity(EVENTS_PER_WAIT), only_whole_ms: false })
    }
}

impl AsFd for Epoll {
    /// Can be read when something is ready.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Registers descriptors with an [`Epoll`] that another part of the program owns and waits on. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct Registrar {
    fd: Arc<OwnedFd>,
}

impl Registrar {
    /// As [`Poller::add`]; closing the descriptor removes it.
    ///
    /// # Errors
    /// As there.
    pub fn add(
        &self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        Ok(epoll::add(&self.fd, fd, epoll::EventData::new_u64(token.0), flags(interest, trigger))?)
    }
}

impl Epoll {
    /// Who registers more with this instance.
    pub fn registrar(&self) -> Registrar {
        Registrar { fd: Arc::clone(&self.fd) }
    }
}

impl Poller for Epoll {
    fn add(&self, fd: BorrowedFd<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        Ok(epoll::add(&self.fd, fd, epoll::EventData::new_u64(token.0), flags(interest, trigger))?)
    }

    fn modify(
        &self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        Ok(epoll::modify(&self.fd, fd, epoll::EventData::new_u64(token.0), flags(interest, trigger))?)
    }

    fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, fd)?)
    }

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        self.ready.clear();
        match self.fill(timeout) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        events.extend(self.ready.iter().map(|ready| {
            // The kernel's structure is packed: fields by value only.
            let (flags, data) = (ready.flags, ready.data);
            use epoll::EventFlags as F;
            Event {
                token: Token(data.u64()),
                readable: flags.intersects(F::IN | F::PRI | F::RDHUP | F::HUP | F::ERR),
                writable: flags.intersects(F::OUT | F::HUP | F::ERR),
                closed: flags.intersects(F::RDHUP | F::HUP | F::ERR),
                urgent: flags.intersects(F::PRI),
            }
        }));
        Ok(())
    }
}

impl Epoll {
    fn fill(&mut self, timeout: Option<Duration>) -> rustix::io::Result<usize> {
        // TCP's timers ask for tens of microseconds; beyond some milliseconds nobody cares.
        if let Some(short) = timeout.filter(|timeout| is_short(*timeout) && !self.only_whole_ms) {
            match sys::epoll_wait_exactly(self.fd.as_fd(), &mut self.ready, short) {
                Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => self.only_whole_ms = true,
                other => return other,
            }
        }
        let timeout = timeout.map(round_up);
        epoll::wait(&self.fd, spare_capacity(&mut self.ready), timeout.as_ref())
    }
}

/// Whether rounding to milliseconds would matter.
fn is_short(timeout: Duration) -> bool {
    timeout < Duration::from_millis(16) && !timeout.is_zero()
}

fn flags(interest: Interest, trigger: Trigger) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::empty();
    if interest.readable {
        flags |= epoll::EventFlags::IN | epoll::EventFlags::PRI | epoll::EventFlags::RDHUP;
    }
    if interest.writable {
        flags |= epoll::EventFlags::OUT;
    }
    if trigger == Trigger::Edge {
        flags |= epoll::EventFlags::ET;
    }
    flags
}

/// Whole milliseconds, which every kernel can wait for; up, so that a timer is due after the wait.
fn round_up(timeout: Duration) -> Timespec {
    let ms = timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i64;
    Timespec { tv_sec: ms / 1000, tv_nsec: (ms % 1000 * 1_000_000) as _ }
}
