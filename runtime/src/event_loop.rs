//! One thread, many descriptors, one clock.
//!
//! A turn of the loop waits until a descriptor is ready, a deadline has come or another thread calls, and
//! reads the clock once: everything that happens in the turn happens at [`EventLoop::now`]. The loop
//! dispatches nothing. Its owner looks at the events, calls its protocols with that time, and asks for the
//! next turn; so the same protocols run in a simulator that has neither.

use crate::poller::{Epoll, Event, Interest, Poller, Registrar, Token, Trigger};
use crate::stats::work::{Quantity, count};
use crate::time::{Clock, Instant};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The loop's own token; never seen by the owner.
const WAKE: Token = Token(u64::MAX);

/// An event loop over a [`Poller`].
#[derive(Debug)]
pub struct EventLoop<P = Epoll> {
    poller: P,
    clock: Clock,
    now: Instant,
    events: Vec<Event>,
    wake: Arc<Wake>,
}

#[derive(Debug)]
struct Wake {
    fd: OwnedFd,
    /// Set from the call to the end of the wait it ends: further calls cost one atomic operation, not a
    /// system call.
    called: AtomicBool,
}

/// Ends a wait of the loop from another thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker {
    wake: Arc<Wake>,
}

impl EventLoop<Epoll> {
    /// A loop over epoll.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn new() -> io::Result<EventLoop<Epoll>> {
        EventLoop::with_poller(Epoll::new()?)
    }

    /// Who registers descriptors of its own with the loop, under tokens that the owner hands on to it.
    /// `u64::MAX` is the loop's own.
    pub fn registrar(&self) -> Registrar {
        self.poller.registrar()
    }
}

impl AsFd for EventLoop<Epoll> {
    /// Can be read when a turn would have events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

impl<P: Poller> EventLoop<P> {
    /// A loop over `poller`, whose token `u64::MAX` is the loop's own.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn with_poller(poller: P) -> io::Result<EventLoop<P>> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        poller.add(fd.as_fd(), WAKE, Interest::READ, Trigger::Level)?;
        let clock = Clock::new();
        let wake = Arc::new(Wake { fd, called: AtomicBool::new(false) });
        Ok(EventLoop { poller, now: clock.now(), clock, events: Vec::new(), wake })
    }

    /// Registers a descriptor. Tokens need not be distinct, but `u64::MAX` is the loop's own.
    ///
    /// # Errors
    /// As [`Poller::add`]; [`io::ErrorKind::InvalidInput`] for the loop's own token.
    pub fn add(&self, fd: &impl AsFd, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if token == WAKE {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        count(Quantity::OtherCalls, 1);
        self.poller.add(fd.as_fd(), token, interest, trigger)
    }

    /// Changes what a registered descriptor waits for.
    ///
    /// # Errors
    /// As [`Poller::modify`]; [`io::ErrorKind::InvalidInput`] for the loop's own token.
    pub fn modify(
        &self,
        fd: &impl AsFd,
        token: Token,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        if token == WAKE {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        count(Quantity::OtherCalls, 1);
        self.poller.modify(fd.as_fd(), token, interest, trigger)
    }

    /// Forgets a descriptor.
    ///
    /// # Errors
    /// As [`Poller::remove`].
    pub fn remove(&self, fd: &impl AsFd) -> io::Result<()> {
        count(Quantity::OtherCalls, 1);
        self.poller.remove(fd.as_fd())
    }

    /// Waits until something is ready, `deadline` has come (never, if `None`) or a [`Waker`] calls, and gives
    /// what is ready: perhaps nothing. A deadline that has passed only looks.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn turn(&mut self, deadline: Option<Instant>) -> io::Result<&[Event]> {
        let timeout = deadline.map(|deadline| deadline.saturating_since(self.clock.now()));
        count(Quantity::CallsToWait, 1);
        self.poller.wait(&mut self.events, timeout)?;
        self.now = self.clock.now();
        if let Some(i) = self.events.iter().position(|event| event.token == WAKE) {
            self.events.remove(i);
            match rustix::io::read(&self.wake.fd, &mut [0; 8]) {
                Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            // Cleared after the counter is read, never before: a call in between would leave the flag set and
            // the counter empty, and no later call would be heard. As it is, that call is heard by this turn:
            // what its thread did before is visible from here on.
            self.wake.called.swap(false, Ordering::AcqRel);
        }
        Ok(&self.events)
    }

    /// Reads the clock: for an owner who waits for something else, which waits for the loop as for a
    /// descriptor.
    pub fn read_clock(&mut self) {
        self.now = self.clock.now();
    }

    /// The time at which the last turn's wait ended.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The clock that the loop reads, for who must know the time within a turn.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// A handle by which other threads end a wait.
    pub fn waker(&self) -> Waker {
        Waker { wake: Arc::clone(&self.wake) }
    }
}

impl AsFd for Waker {
    /// An eventfd: counting it up ends the wait, too.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.fd.as_fd()
    }
}

impl Waker {
    /// Ends the current wait of the loop, or the next. Calls before the loop has seen the first are one.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn wake(&self) -> io::Result<()> {
        if self.wake.called.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        match rustix::io::write(&self.wake.fd, &1u64.to_ne_bytes()) {
            // A full counter ends the wait as well.
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn tokens(events: &[Event]) -> Vec<u64> {
        let mut tokens: Vec<u64> = events.iter().map(|event| event.token.0).collect();
        tokens.sort_unstable();
        tokens
    }

    #[test]
    fn level_tells_until_read_and_edge_tells_once() -> io::Result<()> {
        let mut event_loop = EventLoop::new()?;
        let (mut level_near, mut level_far) = UnixStream::pair()?;
        let (edge_near, mut edge_far) = UnixStream::pair()?;
        event_loop.add(&level_near, Token(1), Interest::READ, Trigger::Level)?;
        event_loop.add(&edge_near, Token(2), Interest::READ, Trigger::Edge)?;
        let soon = Some(Instant::ZERO);
        assert!(event_loop.turn(soon)?.is_empty());
        level_far.write_all(b"x")?;
        edge_far.write_all(b"x")?;
        assert_eq!(tokens(event_loop.turn(None)?), [1, 2]);
        assert_eq!(tokens(event_loop.turn(soon)?), [1]);
        level_near.read_exact(&mut [0])?;
        assert!(event_loop.turn(soon)?.is_empty());
        edge_far.write_all(b"y")?;
        assert_eq!(tokens(event_loop.turn(soon)?), [2]);
        drop(level_far);
        let events = event_loop.turn(soon)?;
        assert!(events.len() == 1 && events[0].closed && events[0].readable);
        event_loop.remove(&level_near)?;
        assert!(event_loop.turn(soon)?.is_empty());
        Ok(())
    }

    #[test]
    fn interest_is_changed_in_place() -> io::Result<()> {
        let mut event_loop = EventLoop::new()?;
        let (near, _far) = UnixStream::pair()?;
        event_loop.add(&near, Token(1), Interest::READ, Trigger::Level)?;
        assert!(event_loop.turn(Some(Instant::ZERO))?.is_empty());
        event_loop.modify(&near, Token(7), Interest::BOTH, Trigger::Level)?;
        let events = event_loop.turn(Some(Instant::ZERO))?;
        let room = Event { token: Token(7), readable: false, writable: true, closed: false, urgent: false };
        assert_eq!(events, [room]);
        assert_eq!(
            event_loop.modify(&near, WAKE, Interest::NONE, Trigger::Level).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        Ok(())
    }

    #[test]
    fn a_deadline_is_never_missed_by_waking_early() -> io::Result<()> {
        let mut event_loop = EventLoop::new()?;
        let deadline = event_loop.clock().now() + Duration::from_micros(2300);
        assert!(event_loop.turn(Some(deadline))?.is_empty());
        assert!(event_loop.now() >= deadline);
        Ok(())
    }

    #[test]
    fn no_call_from_another_thread_is_lost() -> io::Result<()> {
        use std::sync::atomic::AtomicU64;
        const CALLS: u64 = 20_000;
        let mut event_loop = EventLoop::new()?;
        let waker = event_loop.waker();
        let done = Arc::new(AtomicU64::new(0));
        let thread = std::thread::spawn({
            let done = Arc::clone(&done);
            move || -> io::Result<()> {
                for _ in 0..CALLS {
                    done.fetch_add(1, Ordering::Relaxed);
                    waker.wake()?;
                }
                Ok(())
            }
        });
        // Each turn may hear many calls, but after the last one a turn must end.
        while done.load(Ordering::Relaxed) < CALLS {
            let patience = event_loop.clock().now() + Duration::from_secs(20);
            event_loop.turn(Some(patience))?;
            assert!(event_loop.now() < patience, "deaf after {} calls", done.load(Ordering::Relaxed));
        }
        thread.join().unwrap()
    }
}
