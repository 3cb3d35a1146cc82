//! The protocol control block of one connection (RFC 9293 section 3.3.1), kept by the application in its own record.

use std::net::SocketAddrV4;

use crate::tuple::FourTuple;

/// One connection's protocol state. It owns no payload: what it sends stays with the application's
/// [`runtime::payload::PayloadSource`] until it is acknowledged.
#[derive(Debug)]
pub struct Pcb {
    tuple: FourTuple,
}

impl Pcb {
    /// Addresses and ports.
    pub fn tuple(&self) -> &FourTuple {
        &self.tuple
    }

    /// Our end.
    pub fn local(&self) -> SocketAddrV4 {
        self.tuple.local()
    }

    /// The peer's end.
    pub fn remote(&self) -> SocketAddrV4 {
        self.tuple.remote()
    }
}
