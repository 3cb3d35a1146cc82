//! TCP/IP as a library: sans-IO core, wire formats, devices.

pub mod wire;
