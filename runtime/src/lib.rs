//! What the servers are made of: buffers, payload sources, timers, event loop, transfer engines.

pub mod payload;
pub mod time;
