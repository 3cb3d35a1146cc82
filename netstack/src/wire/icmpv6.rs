//! ICMP for IPv6 (RFC 4443): echo, destination unreachable, packet too big; and of neighbour discovery (RFC
//! 4861) who has an address. The rest is [`Error::Unsupported`].

use std::net::Ipv6Addr;

use super::{Error, EthernetAddress, Protocol, checksum, get_u16, get_u32, put_u16, put_u32};

/// Length of the header in bytes; the same for all messages that we speak.
pub const HEADER_LEN: usize = 8;

/// Hop limit of neighbour discovery: what was forwarded has less, and does not count (RFC 4861 section 7.1).
pub const NEIGHBOR_HOP_LIMIT: u8 = 255;

mod field {
    use std::ops::Range;

    pub(super) const TYPE: usize = 0;
    pub(super) const CODE: usize = 1;
    pub(super) const CHECKSUM: usize = 2;
    pub(super) const IDENT: usize = 4;
    pub(super) const MTU: usize = 4;
    pub(super) const FLAGS: usize = 4;
    pub(super) const SEQUENCE: usize = 6;
    pub(super) const TARGET: Range<usize> = 8..24;
}

const DESTINATION_UNREACHABLE: u8 = 1;
const PACKET_TOO_BIG: u8 = 2;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;

/// Source link-layer address, and target link-layer address (RFC 4861 section 4.6.1).
const OPTION_SOURCE: u8 = 1;
const OPTION_TARGET: u8 = 2;
/// With an Ethernet address in it.
const OPTION_LEN: usize = 8;

const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Code of destination unreachable: nobody listens at the port.
pub const CODE_PORT_UNREACHABLE: u8 = 4;

/// Codes of destination unreachable that say so for good: administrator's ban, port.
pub const HARD_CODES: [u8; 2] = [1, 4];

/// An ICMPv6 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repr<'a> {
    /// Please send the same back.
    EchoRequest {
        /// Identifier of the asker.
        ident: u16,
        /// Which of the asker's requests.
        sequence: u16,
        /// To be returned.
        data: &'a [u8],
    },
    /// The same back.
    EchoReply {
        /// From the request.
        ident: u16,
        /// From the request.
        sequence: u16,
        /// From the request.
        data: &'a [u8],
    },
    /// A packet could not be delivered.
    DestinationUnreachable {
        /// Why.
        code: u8,
        /// The packet, as much of it as fits. Not validated.
        original: &'a [u8],
    },
    /// A packet was longer than the next link takes.
    PacketTooBig {
        /// The next link's MTU in bytes.
        mtu: u32,
        /// The packet, as much of it as fits. Not validated.
        original: &'a [u8],
    },
    /// Who has the address?
    NeighborSolicitation {
        /// The address.
        target: Ipv6Addr,
        /// Who asks.
        source: Option<EthernetAddress>,
    },
    /// I have it.
    NeighborAdvertisement {
        /// The address.
        target: Ipv6Addr,
        /// In answer to a question.
        solicited: bool,
        /// What is known of it already is to be replaced.
        replace: bool,
        /// Who has it.
        hardware_addr: Option<EthernetAddress>,
    },
}

/// Puts the checksum, in whose place there are zeros, into a message.
pub(super) fn put_sum(bytes: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) {
    let pseudo = checksum::pseudo_header(src, dst, Protocol::Icmpv6, bytes.len() as u32);
    let sum = checksum::add(pseudo, checksum::sum(bytes));
    put_u16(bytes, field::CHECKSUM, !sum);
}

/// That a message's checksum is right, with the addresses of its packet (RFC 4443 section 2.3).
pub(super) fn check_sum(bytes: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<(), Error> {
    let pseudo = checksum::pseudo_header(src, dst, Protocol::Icmpv6, bytes.len() as u32);
    match checksum::add(pseudo, checksum::sum(bytes)) {
        0xffff => Ok(()),
        _ => Err(Error::Checksum),
    }
}

impl<'a> Repr<'a> {
    /// Reads a message from the payload of a packet with these addresses.
    ///
    /// # Errors
    /// [`Error`], each of them.
    pub fn parse(bytes: &'a [u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<Repr<'a>, Error> {
        if bytes.len() < HEADER_LEN {
            return Err(Error::Truncated);
        }
        check_sum(bytes, src, dst)?;
        let (code, rest) = (bytes[field::CODE], &bytes[HEADER_LEN..]);
        let (ident, sequence) = (get_u16(bytes, field::IDENT), get_u16(bytes, field::SEQUENCE));
        match bytes[field::TYPE] {
            ECHO_REQUEST if code == 0 => Ok(Repr::EchoRequest { ident, sequence, data: rest }),
            ECHO_REPLY if code == 0 => Ok(Repr::EchoReply { ident, sequence, data: rest }),
            DESTINATION_UNREACHABLE => Ok(Repr::DestinationUnreachable { code, original: rest }),
            PACKET_TOO_BIG => Ok(Repr::PacketTooBig { mtu: get_u32(bytes, field::MTU), original: rest }),
            NEIGHBOR_SOLICITATION if code == 0 => {
                let (target, source) = neighbor(bytes, OPTION_SOURCE)?;
                Ok(Repr::NeighborSolicitation { target, source })
            }
            NEIGHBOR_ADVERTISEMENT if code == 0 => {
                let (target, hardware_addr) = neighbor(bytes, OPTION_TARGET)?;
                let flags = bytes[field::FLAGS];
                let (solicited, replace) = (flags & SOLICITED != 0, flags & OVERRIDE != 0);
                Ok(Repr::NeighborAdvertisement { target, solicited, replace, hardware_addr })
            }
            _ => Err(Error::Unsupported),
        }
    }

    /// Length of the message in bytes.
    pub const fn buffer_len(&self) -> usize {
        match self {
            Repr::EchoRequest { data, .. } | Repr::EchoReply { data, .. } => HEADER_LEN + data.len(),
            Repr::DestinationUnreachable { original, .. } | Repr::PacketTooBig { original, .. } => {
                HEADER_LEN + original.len()
            }
            Repr::NeighborSolicitation { source: None, .. }
            | Repr::NeighborAdvertisement { hardware_addr: None, .. } => field::TARGET.end,
            Repr::NeighborSolicitation { .. } | Repr::NeighborAdvertisement { .. } => {
                field::TARGET.end + OPTION_LEN
            }
        }
    }

    /// Writes the message for a packet with these addresses into a buffer of [`Repr::buffer_len`] bytes.
    pub fn emit(&self, src: Ipv6Addr, dst: Ipv6Addr, bytes: &mut [u8]) {
        bytes[..HEADER_LEN].fill(0);
        let kind = match *self {
            Repr::EchoRequest { ident, sequence, data } | Repr::EchoReply { ident, sequence, data } => {
                put_u16(bytes, field::IDENT, ident);
                put_u16(bytes, field::SEQUENCE, sequence);
                bytes[HEADER_LEN..].copy_from_slice(data);
                if matches!(self, Repr::EchoRequest { .. }) { ECHO_REQUEST } else { ECHO_REPLY }
            }
            Repr::DestinationUnreachable { code, original } => {
                bytes[field::CODE] = code;
                bytes[HEADER_LEN..].copy_from_slice(original);
                DESTINATION_UNREACHABLE
            }
            Repr::PacketTooBig { mtu, original } => {
                put_u32(bytes, field::MTU, mtu);
                bytes[HEADER_LEN..].copy_from_slice(original);
                PACKET_TOO_BIG
            }
            Repr::NeighborSolicitation { target, source } => {
                put_neighbor(bytes, target, OPTION_SOURCE, source);
                NEIGHBOR_SOLICITATION
            }
            Repr::NeighborAdvertisement { target, solicited, replace, hardware_addr } => {
                put_neighbor(bytes, target, OPTION_TARGET, hardware_addr);
                bytes[field::FLAGS] =
                    if solicited { SOLICITED } else { 0 } | if replace { OVERRIDE } else { 0 };
                NEIGHBOR_ADVERTISEMENT
            }
        };
        bytes[field::TYPE] = kind;
        put_sum(bytes, src, dst);
    }
}

/// Target and, if there is one of that kind, the hardware address in the options (RFC 4861 section 7.1).
fn neighbor(bytes: &[u8], kind: u8) -> Result<(Ipv6Addr, Option<EthernetAddress>), Error> {
    let mut octets = [0; 16];
    octets.copy_from_slice(bytes.get(field::TARGET).ok_or(Error::Truncated)?);
    let target = Ipv6Addr::from(octets);
    if target.is_multicast() {
        return Err(Error::Malformed);
    }
    let mut options = &bytes[field::TARGET.end..];
    let mut found = None;
    while let [option, len, rest @ ..] = options {
        let len = 8 * usize::from(*len);
        if len == 0 || len > options.len() {
            return Err(Error::Malformed);
        }
        if *option == kind && len == OPTION_LEN {
            found = rest.first_chunk().map(|bytes| EthernetAddress(*bytes));
        }
        options = &options[len..];
    }
    Ok((target, found))
}

fn put_neighbor(bytes: &mut [u8], target: Ipv6Addr, kind: u8, hardware_addr: Option<EthernetAddress>) {
    bytes[field::TARGET].copy_from_slice(&target.octets());
    if let Some(EthernetAddress(addr)) = hardware_addr {
        let option = &mut bytes[field::TARGET.end..];
        option[..2].copy_from_slice(&[kind, 1]);
        option[2..OPTION_LEN].copy_from_slice(&addr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    const HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);

    #[test]
    fn every_message_survives_the_wire_and_no_changed_byte_does() {
        let messages = [
            Repr::EchoRequest { ident: 7, sequence: 8, data: b"odd" },
            Repr::EchoReply { ident: 7, sequence: 8, data: b"" },
            Repr::DestinationUnreachable { code: 4, original: b"packet" },
            Repr::PacketTooBig { mtu: 1400, original: b"packet" },
            Repr::NeighborSolicitation { target: B, source: Some(HARDWARE) },
            Repr::NeighborSolicitation { target: B, source: None },
            Repr::NeighborAdvertisement {
                target: B,
                solicited: true,
                replace: false,
                hardware_addr: Some(HARDWARE),
            },
        ];
        for message in messages {
            let mut bytes = vec![0xaa; message.buffer_len()];
            message.emit(A, B, &mut bytes);
            assert_eq!(Repr::parse(&bytes, A, B), Ok(message));
            assert_eq!(Repr::parse(&bytes, A, A), Err(Error::Checksum));
            for at in 0..bytes.len() {
                bytes[at] ^= 1;
                assert_eq!(Repr::parse(&bytes, A, B), Err(Error::Checksum));
                bytes[at] ^= 1;
            }
        }
    }

    #[test]
    fn options_without_length_end_nothing_in_a_loop() {
        let message = Repr::NeighborSolicitation { target: B, source: Some(HARDWARE) };
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(A, B, &mut bytes);
        for len in [0, 2, 255] {
            bytes[25] = len;
            assert_eq!(neighbor(&bytes, OPTION_SOURCE), Err(Error::Malformed));
        }
        assert_eq!(neighbor(&bytes[..23], OPTION_SOURCE), Err(Error::Truncated));
    }
}
