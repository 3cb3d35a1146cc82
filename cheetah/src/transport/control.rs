//! Orders to a running loop: a socket that becomes readable, and what they mean.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::hosts::Hosts;
use crate::report::Report;
use crate::service::Service;

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Finish what was begun, take nothing new, return.
    Drain,
    /// Take up the sites that [`Shared::hosts`] now gives.
    Reload,
    /// Go on in the file that has the access log's name now.
    ReopenLog,
    /// Answer with the counters so far.
    Report,
}

/// What all loops of a server share.
#[derive(Debug)]
pub struct Shared {
    hosts: Mutex<Arc<Hosts>>,
    reports: Mutex<Reports>,
    answered: Condvar,
    /// Held by who asks: answers are for one at a time.
    asking: Mutex<()>,
    draining: AtomicBool,
}

#[derive(Debug, Default)]
struct Reports {
    /// Of the loops that have ended, and of threads beside them.
    ended: Report,
    /// Of those that have answered since they were last asked.
    answers: Vec<Report>,
}

impl Shared {
    /// Shares `hosts`.
    pub fn new(hosts: Arc<Hosts>) -> Shared {
        Shared {
            hosts: Mutex::new(hosts),
            reports: Mutex::default(),
            answered: Condvar::new(),
            asking: Mutex::new(()),
            draining: AtomicBool::new(false),
        }
    }

    /// The sites to serve.
    pub fn hosts(&self) -> Arc<Hosts> {
        Arc::clone(&self.hosts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the sites; loops take them up at [`Order::Reload`].
    pub fn set_hosts(&self, hosts: Arc<Hosts>) {
        *self.hosts.lock().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    /// A loop's answer to [`Order::Report`].
    pub fn answer(&self, report: Report) {
        self.reports().answers.push(report);
        self.answered.notify_all();
    }

    /// Adds the counters of a loop that has ended, or what a thread beside the loops has done.
    pub fn end(&self, report: &Report) {
        self.reports().ended.add(report);
    }

    /// Forgets earlier answers, gives the order by `ask`, and adds up what `loops` loops answer. One that
    /// does not within `patience`, because it is ending, is left out until it has ended.
    pub fn collect(&self, loops: usize, patience: Duration, ask: impl FnOnce()) -> Report {
        let _turn = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        self.reports().answers.clear();
        ask();
        let waiting = |reports: &mut Reports| reports.answers.len() < loops;
        let reports = self.answered.wait_timeout_while(self.reports(), patience, waiting);
        let (mut reports, _) = reports.unwrap_or_else(PoisonError::into_inner);
        let mut sum = reports.ended.clone();
        reports.answers.drain(..).for_each(|answer| sum.add(&answer));
        sum
    }

    /// Tells that loops are ordered to finish.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether they are.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The counters of all loops that have ended.
    pub fn ended(&self) -> Report {
        self.reports().ended.clone()
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes up what [`Order::Reload`] is about.
pub(super) fn take_up(service: &mut Service, shared: &Shared) {
    if let Err(error) = service.take_up(shared.hosts()) {
        tracing::error!("a host has no access log: {error}");
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
    /// Another one to the same loop.
    ///
    /// # Errors
    /// If the system has no more descriptors.
    pub fn try_clone(&self) -> io::Result<Commander> {
        Ok(Commander { socket: self.socket.try_clone()? })
    }

    /// Gives an order. A loop that has ended hears nothing, which is no error.
    pub fn give(&self, order: Order) {
        let byte = match order {
            Order::Drain => b'd',
            Order::Reload => b'r',
            Order::ReopenLog => b'l',
            Order::Report => b'c',
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
            Ok(1) if byte[0] == b'l' => Some(Order::ReopenLog),
            Ok(1) if byte[0] == b'c' => Some(Order::Report),
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
