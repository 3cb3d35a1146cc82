//! The Internet checksum (RFC 1071) in the form the other modules need it.
//!
//! Everything here speaks of *sums*: the one's complement sum of big-endian 16-bit words, folded to 16 bits
//! and **not** complemented, an odd last byte padded with zero. Sums of adjacent parts add up as long as each
//! part but the last has an even length; [`at_offset`] handles the other case. The checksum that goes on the
//! wire is the complement.
//!
//! Payload that is copied anyway is summed by the transfer engine in the same loop; this code is for headers
//! and for verifying what came in.

use std::net::IpAddr;

use super::Protocol;

/// The sum of `bytes`. Zero only if all bytes are zero.
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    // Sums may be taken in the machine's byte order and swapped once at the end (RFC 1071 section 2 B). Eight
    // lanes of 32-bit words in 64-bit accumulators: no carry is ever lost, and the loop vectorises.
    let mut total = 0u64;
    let mut rest = bytes;
    // Headers are shorter: what it takes to add up eight lanes is more than what they save.
    if bytes.len() >= 64 {
        let mut lanes = [0u64; 8];
        let mut blocks = bytes.chunks_exact(32);
        for block in &mut blocks {
            for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(4)) {
                *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
            }
        }
        for lane in lanes {
            total += u64::from(fold64(lane));
        }
        rest = blocks.remainder();
    }
    let mut words = rest.chunks_exact(4);
    for word in &mut words {
        total += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0; 4];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    total += u64::from(u32::from_ne_bytes(last));
    u16::from_be(fold64(total))
}

/// Adds two sums, end-around carry. Never maps two operands of which one is nonzero to zero.
#[inline]
pub const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

/// What the sum of a part contributes to the whole when the part starts `offset` bytes into it: at an odd
/// offset its bytes sit in the other halves of the words.
#[inline]
pub const fn at_offset(sum: u16, offset: usize) -> u16 {
    if offset % 2 == 1 { sum.swap_bytes() } else { sum }
}

/// The sum of pieces that follow each other, each of any length.
pub fn sum_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u16 {
    let mut offset = 0;
    let mut total = 0;
    for piece in pieces {
        total = add(total, at_offset(sum(piece), offset));
        offset = (offset + piece.len()) % 2;
    }
    total
}

/// The sum of the pseudo-header over IPv4 (RFC 9293 section 3.1) or IPv6 (RFC 8200 section 8.1); `length` is
/// that of the upper layer's header and its payload in bytes.
#[inline]
pub fn pseudo_header(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, protocol: Protocol, length: u32) -> u16 {
    pseudo_header_of(addresses(src, dst), protocol, length)
}

/// What two addresses add to such a sum, not folded.
#[inline]
pub(crate) fn addresses(src: impl Into<IpAddr>, dst: impl Into<IpAddr>) -> u64 {
    words(src.into()) + words(dst.into())
}

/// The same, where the addresses are added up already.
#[inline]
pub(crate) const fn pseudo_header_of(addresses: u64, protocol: Protocol, length: u32) -> u16 {
    fold64(addresses + protocol.number() as u64 + length as u64)
}

/// The sum of an address' 32-bit words.
#[inline]
fn words(addr: IpAddr) -> u64 {
    match addr {
        IpAddr::V4(addr) => u64::from(addr.to_bits()),
        IpAddr::V6(addr) => {
            let bits = addr.to_bits();
            (0..4).map(|word| u64::from((bits >> (32 * word)) as u32)).sum()
        }
    }
}

/// Folds a sum of 16-, 32- or 48-bit words to 16 bits.
#[inline]
pub const fn fold64(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}
