//! The four numbers that name a connection, from this end's point of view.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

/// Local and remote address and port (RFC 9293 section 3.3.1: the connection's socket pair), of either
/// family.
///
/// Both addresses are of the same family. Those of IPv4 are kept as IPv6 writes them (RFC 4291 section
/// 2.5.5.2), so that a tuple is small and compares as bytes; such addresses are never valid on an IPv6 wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FourTuple {
    local_addr: Ipv6Addr,
    remote_addr: Ipv6Addr,
    local_port: u16,
    remote_port: u16,
}

impl FourTuple {
    /// The pair of two socket addresses of one family.
    pub const fn new(local: SocketAddr, remote: SocketAddr) -> FourTuple {
        debug_assert!(local.is_ipv4() == remote.is_ipv4());
        FourTuple {
            local_addr: widen(local.ip()),
            remote_addr: widen(remote.ip()),
            local_port: local.port(),
            remote_port: remote.port(),
        }
    }

    /// The pair of two socket addresses of IPv4.
    pub const fn ipv4(local: SocketAddrV4, remote: SocketAddrV4) -> FourTuple {
        FourTuple::new(SocketAddr::V4(local), SocketAddr::V4(remote))
    }

    /// Our end.
    pub const fn local(&self) -> SocketAddr {
        SocketAddr::new(self.local_addr.to_canonical(), self.local_port)
    }

    /// The peer's end.
    pub const fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote_addr.to_canonical(), self.remote_port)
    }

    /// Our port.
    #[inline]
    pub const fn local_port(&self) -> u16 {
        self.local_port
    }

    /// The peer's port.
    #[inline]
    pub const fn remote_port(&self) -> u16 {
        self.remote_port
    }

    /// Our address.
    #[inline]
    pub const fn local_addr(&self) -> IpAddr {
        self.local_addr.to_canonical()
    }

    /// The peer's address.
    #[inline]
    pub const fn remote_addr(&self) -> IpAddr {
        self.remote_addr.to_canonical()
    }

    /// Both addresses, ours first, if they are of IPv4.
    #[inline]
    pub const fn ipv4_addrs(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        match (narrow(self.local_addr), narrow(self.remote_addr)) {
            (Some(local), Some(remote)) => Some((local, remote)),
            _ => None,
        }
    }

    /// Both addresses, ours first, as IPv6 writes them.
    #[inline]
    pub(crate) const fn wide_addrs(&self) -> (Ipv6Addr, Ipv6Addr) {
        (self.local_addr, self.remote_addr)
    }

    /// What the addresses add to a pseudo-header's sum, not folded.
    #[inline]
    pub(crate) const fn addresses_sum(&self) -> u64 {
        if let (Some(local), Some(remote)) = (narrow(self.local_addr), narrow(self.remote_addr)) {
            return local.to_bits() as u64 + remote.to_bits() as u64;
        }
        words(self.local_addr) + words(self.remote_addr)
    }

    /// Whether the addresses are of IPv4.
    #[inline]
    pub(crate) const fn is_ipv4(&self) -> bool {
        narrow(self.local_addr).is_some()
    }

    /// Length of the IP and TCP headers of a segment without options, in bytes.
    #[inline]
    pub(crate) const fn headers_len(&self) -> u16 {
        if self.ipv4_addrs().is_some() { 40 } else { 60 }
    }

    /// All that tells tuples apart, as bytes: for tables and keyed hashes. Of IPv4 without what its addresses
    /// share.
    #[inline]
    pub(crate) fn bytes(&self) -> TupleBytes {
        let ports = (u32::from(self.local_port) << 16 | u32::from(self.remote_port)).to_be_bytes();
        if let Some((local, remote)) = self.ipv4_addrs() {
            let mut bytes = [0; 12];
            bytes[..4].copy_from_slice(&ports);
            bytes[4..8].copy_from_slice(&local.octets());
            bytes[8..].copy_from_slice(&remote.octets());
            return TupleBytes::V4(Bytes(bytes));
        }
        let mut bytes = [0; 36];
        bytes[..4].copy_from_slice(&ports);
        bytes[4..20].copy_from_slice(&self.local_addr.octets());
        bytes[20..].copy_from_slice(&self.remote_addr.octets());
        TupleBytes::V6(Bytes(bytes))
    }
}

/// A tuple as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TupleBytes {
    /// Ports and addresses of IPv4.
    V4(Bytes<12>),
    /// Ports and addresses of IPv6.
    V6(Bytes<36>),
}

impl TupleBytes {
    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            TupleBytes::V4(bytes) => &bytes.0,
            TupleBytes::V6(bytes) => &bytes.0,
        }
    }
}

/// Bytes that hash in one run, without their length, which is the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes<const N: usize>([u8; N]);

impl<const N: usize> Hash for Bytes<N> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl fmt::Debug for FourTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}", self.local(), self.remote())
    }
}

const fn widen(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

const fn words(addr: Ipv6Addr) -> u64 {
    let bits = addr.to_bits();
    let (high, low) = ((bits >> 64) as u64, bits as u64);
    (high >> 32) + (high & 0xffff_ffff) + (low >> 32) + (low & 0xffff_ffff)
}

/// The address of IPv4 that this is one of, by one comparison: it is asked for each segment.
#[inline]
const fn narrow(addr: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = addr.to_bits();
    if bits >> 32 == 0xffff { Some(Ipv4Addr::from_bits(bits as u32)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Protocol, checksum};

    #[test]
    fn both_families_come_back_as_they_went_in() {
        for (local, remote) in [("10.0.0.1:80", "192.0.2.7:5000"), ("[2001:db8::1]:80", "[fe80::2]:5000")] {
            let pair: (SocketAddr, SocketAddr) = (local.parse().unwrap(), remote.parse().unwrap());
            let tuple = FourTuple::new(pair.0, pair.1);
            assert_eq!((tuple.local(), tuple.remote()), pair);
            assert_eq!((tuple.local_port(), tuple.remote_port()), (80, 5000));
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let sum = checksum::pseudo_header_of(tuple.addresses_sum(), protocol, 1480);
                assert_eq!(sum, checksum::pseudo_header(pair.0.ip(), pair.1.ip(), protocol, 1480));
            }
            assert_eq!(tuple.ipv4_addrs().is_some(), pair.0.is_ipv4());
            assert_eq!(format!("{tuple:?}"), format!("{local} - {remote}"));
        }
        assert_eq!(size_of::<FourTuple>(), 36);
    }

    #[test]
    fn the_bytes_hold_all_that_differs() {
        let bytes = |local: &str, remote: &str| {
            let tuple = FourTuple::new(local.parse().unwrap(), remote.parse().unwrap());
            tuple.bytes().as_slice().to_vec()
        };
        let all = [
            bytes("10.0.0.1:80", "10.0.0.2:5000"),
            bytes("10.0.0.1:81", "10.0.0.2:5000"),
            bytes("10.0.0.1:80", "10.0.0.2:5001"),
            bytes("10.0.0.3:80", "10.0.0.2:5000"),
            bytes("10.0.0.1:80", "10.0.0.3:5000"),
            bytes("[::1]:80", "[::2]:5000"),
            bytes("[::1]:80", "[::3]:5000"),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(!all[..i].contains(one), "{one:?}");
            assert_eq!(one.len(), if i < 5 { 12 } else { 36 });
        }
    }
}
