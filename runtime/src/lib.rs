//! What the servers are made of: buffers, payload sources, timers, event loop, transfer engines.

pub mod time;
pub mod timer_wheel;

pub mod event_loop;
pub mod poller;
pub mod ring;
pub mod sockets;

pub mod buffer;
pub mod payload;
pub mod transfer;

pub mod stats;

pub mod wiping;
