//! UDP headers (RFC 768; over IPv6 RFC 8200 section 8.1).

use std::net::IpAddr;

use super::{Error, Protocol, checksum, get_u16, put_u16};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;

/// Longest payload that one datagram carries, in bytes: the length of an IPv4 packet counts both headers.
pub const MAX_PAYLOAD_LEN: usize = 65_535 - 20 - HEADER_LEN;

/// Place of the checksum field.
pub const CHECKSUM_OFFSET: usize = 6;

mod field {
    pub(super) const SRC_PORT: usize = 0;
    pub(super) const DST_PORT: usize = 2;
    pub(super) const LENGTH: usize = 4;
    pub(super) const CHECKSUM: usize = 6;
}

/// A UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source port; zero if no answer is wanted.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Length of the payload in bytes, at most [`MAX_PAYLOAD_LEN`].
    pub payload_len: usize,
}

impl Repr {
    /// Reads a header and gives what follows it, to the length that it says. The checksum is looked at unless
    /// it `is_known` to hold.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Malformed`]; [`Error::Checksum`] also for none over IPv6.
    pub fn parse(bytes: &[u8], src: IpAddr, dst: IpAddr, is_known: bool) -> Result<(Repr, &[u8]), Error> {
        if bytes.len() < HEADER_LEN {
            return Err(Error::Truncated);
        }
        let len = usize::from(get_u16(bytes, field::LENGTH));
        if len < HEADER_LEN {
            return Err(Error::Malformed);
        }
        let datagram = bytes.get(..len).ok_or(Error::Truncated)?;
        let has_sum = get_u16(bytes, field::CHECKSUM) != 0;
        if !is_known && (has_sum || src.is_ipv6()) {
            let pseudo = checksum::pseudo_header(src, dst, Protocol::Udp, len as u32);
            if !has_sum || checksum::add(pseudo, checksum::sum(datagram)) != 0xffff {
                return Err(Error::Checksum);
            }
        }
        let repr = Repr {
            src_port: get_u16(bytes, field::SRC_PORT),
            dst_port: get_u16(bytes, field::DST_PORT),
            payload_len: len - HEADER_LEN,
        };
        Ok((repr, &datagram[HEADER_LEN..]))
    }

    /// Writes the header of a payload with that `sum`, as [`checksum`] has it.
    pub fn emit(&self, header: &mut [u8; HEADER_LEN], src: IpAddr, dst: IpAddr, sum: u16) {
        let len = HEADER_LEN + self.payload_len;
        put_u16(header, field::SRC_PORT, self.src_port);
        put_u16(header, field::DST_PORT, self.dst_port);
        put_u16(header, field::LENGTH, u16::try_from(len).unwrap_or(u16::MAX));
        put_u16(header, field::CHECKSUM, 0);
        let pseudo = checksum::pseudo_header(src, dst, Protocol::Udp, len as u32);
        let sum = checksum::add(checksum::add(pseudo, checksum::sum(header)), sum);
        // Zero would say that there is none.
        put_u16(header, field::CHECKSUM, if sum == 0xffff { 0xffff } else { !sum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> [(IpAddr, IpAddr); 2] {
        let v6 = |last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last]);
        [([192, 0, 2, 1].into(), [192, 0, 2, 2].into()), (v6(1), v6(2))]
    }

    fn datagram(src: IpAddr, dst: IpAddr, payload: &[u8]) -> Vec<u8> {
        let mut header = [0; HEADER_LEN];
        let repr = Repr { src_port: 53, dst_port: 1024, payload_len: payload.len() };
        repr.emit(&mut header, src, dst, checksum::sum(payload));
        [&header, payload].concat()
    }

    #[test]
    fn what_is_written_is_read_and_each_flipped_bit_is_found() {
        for (src, dst) in pairs() {
            for len in [0, 1, 2, 33] {
                let payload: Vec<u8> = (0..len).map(|i: u8| i.wrapping_mul(37)).collect();
                let bytes = datagram(src, dst, &payload);
                let padded = [&bytes[..], &[9; 3]].concat();
                let (repr, got) = Repr::parse(&padded, src, dst, false).unwrap();
                assert_eq!((repr.src_port, repr.dst_port, got), (53, 1024, &payload[..]));
                for bit in 0..8 * bytes.len() {
                    let mut damaged = bytes.clone();
                    damaged[bit / 8] ^= 1 << (bit % 8);
                    assert!(Repr::parse(&damaged, src, dst, false).is_err(), "bit {bit}");
                }
                for cut in 0..bytes.len() {
                    assert!(Repr::parse(&bytes[..cut], src, dst, true).is_err());
                }
            }
        }
    }

    /// RFC 768: all zeros mean that there is no checksum, so a sum of zero goes as all ones; RFC 8200: over
    /// IPv6 there is one.
    #[test]
    fn a_checksum_of_zero_is_none() {
        let [(src, dst), (src6, dst6)] = pairs();
        let mut plain = datagram(src, dst, b"no sum");
        plain[CHECKSUM_OFFSET..HEADER_LEN].fill(0);
        assert!(Repr::parse(&plain, src, dst, false).is_ok());
        assert_eq!(Repr::parse(&plain, src6, dst6, false), Err(Error::Checksum));
        // Two bytes that make up for all the rest.
        let sum = get_u16(&datagram(src, dst, &[0, 0]), CHECKSUM_OFFSET);
        let bytes = datagram(src, dst, &sum.to_be_bytes());
        assert_eq!(get_u16(&bytes, CHECKSUM_OFFSET), 0xffff);
        assert!(Repr::parse(&bytes, src, dst, false).is_ok());
    }
}
