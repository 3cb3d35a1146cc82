//! TCP/IP as a library: sans-IO core, wire formats, devices.
//!
//! Data flow through the modules in this order: a frame comes in by [`stack`], is parsed ([`wire`]),
//! demultiplexed and handed to [`tcp`], which calls the [`application`]; what the application has to send
//! leaves as a [`transmission`].

pub mod tuple;
pub mod wire;

pub mod iface;

pub mod dhcp;

pub mod application;
pub mod stack;
pub mod tcp;
pub mod transmission;

pub mod sums;
pub mod sys;

pub mod device;

pub mod handler;

pub mod sharing;

pub mod driver;

pub mod buffered;
pub mod connections;
pub mod send_buffer;
pub mod with_datagrams;

pub mod sockets;

pub mod blocking;
#[cfg(feature = "futures")]
pub mod futures;
