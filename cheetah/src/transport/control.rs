//! Orders to a running loop: a socket that becomes readable, and what they mean.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use netstack::device;

use crate::service::Stats;
use crate::site::Site;

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Finish what was begun, take nothing new, return.
    Drain,
    /// Take up the site that [`Shared::site`] now gives.
    Reload,
}

/// What all loops of a server share.
#[derive(Debug)]
pub struct Shared {
    site: Mutex<Arc<Site>>,
    stats: Mutex<Stats>,
    device_stats: Mutex<device::Stats>,
}

impl Shared {
    /// Shares `site`.
    pub fn new(site: Arc<Site>) -> Shared {
        Shared { site: Mutex::new(site), stats: Mutex::default(), device_stats: Mutex::default() }
    }

    /// The site to serve.
    pub fn site(&self) -> Arc<Site> {
        Arc::clone(&self.site.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the site; loops take it up at [`Order::Reload`].
    pub fn set_site(&self, site: Arc<Site>) {
        *self.site.lock().unwrap_or_else(PoisonError::into_inner) = site;
    }

    /// Adds the counters of a loop that has ended.
    pub fn add_stats(&self, stats: &Stats) {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).add(stats);
    }

    /// Adds the counters of a device whose loop has ended.
    pub fn add_device_stats(&self, stats: &device::Stats) {
        let mut sum = self.device_stats.lock().unwrap_or_else(PoisonError::into_inner);
        super::stack::add_device_stats(&mut sum, stats);
    }

    /// The counters of the devices of all loops that have ended.
    pub fn device_stats(&self) -> device::Stats {
        *self.device_stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters of all loops that have ended.
    pub fn stats(&self) -> Stats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The end that gives orders.
#[derive(Debug)]
pub struct Commander {
    socket: UnixStream,
}

/// The end that a loop polls.
#[derive(Debug)]
pub struct Orders {
    socket: UnixStream,
}

/// Both ends.
///
/// # Errors
/// If the system has no more descriptors.
pub fn pair() -> io::Result<(Commander, Orders)> {
    let (ours, theirs) = UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    Ok((Commander { socket: ours }, Orders { socket: theirs }))
}

impl Commander {
    /// Gives an order. A loop that has ended hears nothing, which is no error.
    pub fn give(&self, order: Order) {
        let byte = match order {
            Order::Drain => b'd',
            Order::Reload => b'r',
        };
        let _ = (&self.socket).write_all(&[byte]);
    }
}

impl Orders {
    /// The next order, if there is one. A commander that is gone orders to drain.
    pub fn next(&self) -> Option<Order> {
        let mut byte = [0];
        match (&self.socket).read(&mut byte) {
            Ok(1) if byte[0] == b'r' => Some(Order::Reload),
            Ok(_) => Some(Order::Drain),
            Err(_) => None,
        }
    }
}

impl AsFd for Orders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
