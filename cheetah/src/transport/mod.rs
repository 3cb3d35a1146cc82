//! What carries connections: the kernel's sockets, or our own TCP/IP.
//!
//! A transport owns descriptors and clocks; [`crate::conn`] owns the protocol. Each runs one event-driven
//! loop a thread.

pub mod control;
pub mod device;
pub mod kernel;
pub mod sim;
pub mod stack;
pub mod web;
