//! A load generator: asks a server for files over many connections at once, over the kernel's sockets or our
//! own TCP/IP, and tells how long the answers took.
//!
//! ```text
//!   closed loop   each connection asks, waits for the whole answer, asks again: as much as the server can do. What an answer
//!                 took is counted from when it was asked for, so a server that stalls is asked less while it does.
//!   open loop     requests fall due at a rate, whoever waits; what an answer took is counted from when its request was due.
//!                 A stall counts for all who would have come meanwhile (Tene's "coordinated omission" does not arise).
//! ```
//!
//! `herd` knows when what is asked for, and `ledger` what came of it; a `conversation` is what is said on a
//! connection, without a socket: an `exchange` of one request and its `reply`, or by HTTP/2 several that are
//! `multiplexed`; `kernel` and `stack` carry the bytes.

mod conversation;
mod exchange;
mod herd;
mod kernel;
mod ledger;
mod mix;
mod multiplexed;
mod plot;
mod replay;
mod reply;
mod secure;
mod stack;
mod target;
mod timetable;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

pub use kernel::run as run_on_kernel;
pub use ledger::{Failure, Ledger, Second};
pub use mix::Mix;
pub use plot::svg;
pub use replay::Replay;
pub use secure::{Secrecy, Trust};
pub use stack::{Addresses, run as run_on_stack};
pub use target::{Target, Targets, Url};
pub use timetable::Timetable;

/// How a server is asked.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub addr: SocketAddr,
    /// By HTTPS.
    pub secrecy: Option<Secrecy>,
    /// By HTTP/2, with so many requests at once on a connection; by HTTP/1.1 without. What is asked for, and
    /// how in secret, has to be made for it.
    pub http2: Option<NonZeroUsize>,
    /// What it is asked for.
    pub targets: Arc<Targets>,
    /// In which proportions.
    pub mix: Mix,
    /// Connections at once.
    pub connections: usize,
    /// Requests a second, of all connections together; as many as come without.
    pub rate: Option<f64>,
    /// Requests fall due at random, as from many people who know nothing of each other (a Poisson process),
    /// not evenly.
    pub random_arrivals: bool,
    /// When requests fall due, instead of at a rate.
    pub timetable: Option<Timetable>,
    /// A connection for many requests, or for each its own.
    pub keep: bool,
    /// Compare the bytes of each answer with those that came first.
    pub verify: bool,
    /// Not counted, at the beginning.
    pub warm_up: Duration,
    /// Counted.
    pub duration: Duration,
    /// An answer that takes longer is a failure, and its connection is given up.
    pub patience: Duration,
    /// What random choices begin with.
    pub seed: u64,
}

impl Options {
    /// Ten seconds of a closed loop of 32 connections.
    pub fn new(addr: SocketAddr, targets: Arc<Targets>) -> Options {
        Options {
            addr,
            secrecy: None,
            http2: None,
            mix: Mix::even(targets.len()),
            targets,
            connections: 32,
            rate: None,
            random_arrivals: false,
            timetable: None,
            keep: true,
            verify: false,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            patience: Duration::from_secs(10),
            seed: 1,
        }
    }

    /// Requests that a connection has under way at once, at most.
    pub(crate) fn streams(&self) -> usize {
        self.http2.map_or(1, NonZeroUsize::get)
    }

    /// A thread's share of it, of `threads`.
    #[must_use]
    pub fn share(&self, thread: usize, threads: usize) -> Options {
        let connections = self.connections / threads + usize::from(thread < self.connections % threads);
        Options {
            connections,
            rate: self.rate.map(|rate| rate / threads as f64),
            seed: self.seed.wrapping_add(thread as u64),
            // What a moment is for goes with it.
            mix: match self.timetable {
                Some(_) => self.mix.alternate(thread, threads),
                None => self.mix.share(thread, threads),
            },
            timetable: self.timetable.as_ref().map(|table| table.share(thread, threads)),
            ..self.clone()
        }
    }
}

/// What is told while it goes on: how much of the time is over.
pub type Tell<'a> = &'a mut dyn FnMut(Duration);

/// An error of ours, not of the server.
pub(crate) fn lacks(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}
