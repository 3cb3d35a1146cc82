//! The four numbers that name a connection, from this end's point of view.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Local and remote address and port (RFC 9293 section 3.3.1: the connection's socket pair).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FourTuple {
    /// Our address.
    pub local_addr: Ipv4Addr,
    /// The peer's address.
    pub remote_addr: Ipv4Addr,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

impl FourTuple {
    /// The pair of two socket addresses.
    pub const fn new(local: SocketAddrV4, remote: SocketAddrV4) -> FourTuple {
        FourTuple {
            local_addr: *local.ip(),
            remote_addr: *remote.ip(),
            local_port: local.port(),
            remote_port: remote.port(),
        }
    }

    /// Our end.
    pub const fn local(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.local_addr, self.local_port)
    }

    /// The peer's end.
    pub const fn remote(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.remote_addr, self.remote_port)
    }

    /// The twelve bytes that keyed hashes run over.
    pub const fn to_bytes(&self) -> [u8; 12] {
        let (l, r) = (self.local_addr.octets(), self.remote_addr.octets());
        let (lp, rp) = (self.local_port.to_be_bytes(), self.remote_port.to_be_bytes());
        [l[0], l[1], l[2], l[3], r[0], r[1], r[2], r[3], lp[0], lp[1], rp[0], rp[1]]
    }
}
