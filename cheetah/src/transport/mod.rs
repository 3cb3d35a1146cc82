//! What carries connections: the kernel's sockets, or our own TCP/IP.
//!
//! A transport owns descriptors and clocks; [`crate::conn`] owns the protocol. Each runs one event-driven loop a thread.

pub mod control;
pub mod device;
pub mod kernel;
pub mod sim;
pub mod stack;
pub mod web;

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970; 0 before. The monotonic clock is the event loop's.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
