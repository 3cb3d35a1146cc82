//! Wire formats: bytes to numbers and back, nothing else.
//!
//! Each module has the same shape: a private `field` module with the offsets, a `Packet<T: AsRef<[u8]>>` (for
//! Ethernet `Frame`) whose accessors read and write single fields, and a `Repr`, the validated meaning of a
//! header, with `parse` and `emit`. `new_checked` proves every length field against the buffer once; after it
//! no accessor can panic. `new_unchecked` is for buffers that we are about to fill ourselves.
//!
//! Not here: state, addresses' meaning, reassembly, anything that remembers more than one packet.

use std::fmt;

pub mod checksum;

pub mod arp;
pub mod dhcpv4;
pub mod ethernet;
pub mod icmpv4;
pub mod icmpv6;
pub mod igmp;
pub mod ipv4;
pub mod ipv6;
pub mod mld;
pub mod ndp;
pub mod tcp;
pub mod udp;

pub use ethernet::{EtherType, EthernetAddress};
pub use ipv4::Protocol;

/// Why bytes are not the packet that they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The buffer ends before the header, or before the length that the header gives.
    Truncated,
    /// A field holds a value that the format forbids.
    Malformed,
    /// The checksum does not hold.
    Checksum,
    /// Well-formed, but a kind that this library does not speak (e.g. ARP for other than Ethernet and IPv4).
    Unsupported,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Truncated => "packet is cut short",
            Error::Malformed => "packet is malformed",
            Error::Checksum => "packet has a wrong checksum",
            Error::Unsupported => "packet is of an unsupported kind",
        })
    }
}

impl core::error::Error for Error {}

/// Reads a big-endian 16-bit field. The caller has checked that the field lies in the buffer.
#[inline]
fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Reads a big-endian 32-bit field. The caller has checked that the field lies in the buffer.
#[inline]
fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline]
fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[inline]
fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}
