//! What carries connections: the kernel's sockets, or our own TCP/IP.
//!
//! A transport owns descriptors and clocks; [`crate::conn`] owns the protocol. Each runs one event-driven loop a thread.

pub mod clock;
pub mod control;
pub mod kernel;
