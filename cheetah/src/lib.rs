//! The Cheetah HTTP server: static sites, packed into images or as they lie in a folder, sent over the
//! kernel's sockets or over our own TCP/IP.
//!
//! Modules in the order in which data flow through them: [`transport`] brings bytes to a [`channel`], which
//! opens and seals them where they are to be secret ([`tls`]), between it and a [`conn`]ection, which parses
//! them by [`http`], and [`answer`]s from a [`store`]: a [`site`] whose heads were made when it was packed,
//! or another, by the [`rules`] that it has. A [`body`] gives the bytes as they are sent; [`service`] is what
//! all connections of one thread share, [`server`] what all threads share; which of several sites a request
//! is for, [`hosts`] says. What clients put goes by [`upload`] to the disk; images come from a [`depot`],
//! where they were published. `cmd/` of the binary is the command line.

#![forbid(unsafe_code)]

pub mod accelerator;
pub mod http;
pub mod live;
pub mod programs;
pub mod rules;
pub mod site;
pub mod store;

pub mod answer;
mod answerers;
pub mod body;
pub mod channel;
mod clock;
pub mod conn;
pub mod hosts;
pub mod http2;
pub mod latency;
mod protocol;
pub mod reading;
mod response;
pub mod service;
pub mod tls;
pub mod upload;

pub mod access_log;
pub mod acme;
pub mod admin;
pub mod depot;
pub mod report;
mod scrub;
pub mod server;
pub mod swamp;
pub mod testing;
pub mod transport;
