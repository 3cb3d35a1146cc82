//! IPv6 headers (RFC 8200). Extension headers are skipped on input, within bounds; written are only those of
//! fragments, and the one that asks routers to look.

use std::net::Ipv6Addr;

use super::{Error, Protocol, get_u16, get_u32, put_u16, put_u32};

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 40;

/// The least MTU of a link (section 5).
pub const MIN_MTU: u16 = 1280;

/// Length of a fragment header, in bytes (section 4.5).
pub const FRAGMENT_LEN: usize = 8;

/// Next header: a fragment header.
pub const NEXT_FRAGMENT: u8 = extension::FRAGMENT;

/// Next header: options for every router.
pub const NEXT_HOP_BY_HOP: u8 = extension::HOP_BY_HOP;

/// The hop-by-hop options of an ICMPv6 message that routers shall look at: router alert (RFC 2711), and
/// padding.
pub const ROUTER_ALERT: [u8; 8] = [58, 0, 5, 2, 0, 0, 1, 0];

const ICMPV6: u8 = 58;

/// Extension headers that a packet may have; nobody has reason for more.
const MAX_EXTENSIONS: usize = 8;

mod field {
    use std::ops::Range;

    pub(super) const VERSION_CLASS_FLOW: usize = 0;
    pub(super) const PAYLOAD_LEN: usize = 4;
    pub(super) const NEXT_HEADER: usize = 6;
    pub(super) const HOP_LIMIT: usize = 7;
    pub(super) const SOURCE: Range<usize> = 8..24;
    pub(super) const DESTINATION: Range<usize> = 24..40;
}

/// Extension headers, by number (section 4.1, RFC 4302).
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
}

/// A buffer read or written as an IPv6 packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Wraps a buffer without looking. Accessors panic if it is shorter than [`HEADER_LEN`].
    pub const fn new_unchecked(buffer: T) -> Packet<T> {
        Packet { buffer }
    }

    /// Wraps a buffer that holds a header and as many bytes as it says; more may follow (padding).
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Malformed`] for another version.
    pub fn new_checked(buffer: T) -> Result<Packet<T>, Error> {
        let bytes = buffer.as_ref();
        if bytes.len() < HEADER_LEN {
            return Err(Error::Truncated);
        }
        let packet = Packet { buffer };
        if packet.version() != 6 {
            return Err(Error::Malformed);
        }
        if packet.buffer.as_ref().len() < HEADER_LEN + packet.payload_len() {
            return Err(Error::Truncated);
        }
        Ok(packet)
    }

    /// 6.
    pub fn version(&self) -> u8 {
        self.buffer.as_ref()[field::VERSION_CLASS_FLOW] >> 4
    }

    /// Explicit congestion notification, two bits (RFC 3168).
    pub fn ecn(&self) -> u8 {
        self.buffer.as_ref()[field::VERSION_CLASS_FLOW + 1] >> 4 & 3
    }

    /// Bytes after the header, extension headers included.
    pub fn payload_len(&self) -> usize {
        usize::from(get_u16(self.buffer.as_ref(), field::PAYLOAD_LEN))
    }

    /// What follows the header: an extension header or what the packet carries.
    pub fn next_header(&self) -> u8 {
        self.buffer.as_ref()[field::NEXT_HEADER]
    }

    /// Remaining hops; 255 only from the same link.
    pub fn hop_limit(&self) -> u8 {
        self.buffer.as_ref()[field::HOP_LIMIT]
    }

    /// Source address.
    pub fn src_addr(&self) -> Ipv6Addr {
        address(&self.buffer.as_ref()[field::SOURCE])
    }

    /// Destination address.
    pub fn dst_addr(&self) -> Ipv6Addr {
        address(&self.buffer.as_ref()[field::DESTINATION])
    }
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// This packet's header, as if it carried so many bytes of that kind at once.
    pub fn header_for(&self, protocol: Protocol, payload_len: usize) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        let (src_addr, dst_addr, hop_limit) = (self.src_addr(), self.dst_addr(), self.hop_limit());
        Repr { src_addr, dst_addr, protocol, payload_len, hop_limit }
            .emit(&mut Packet::new_unchecked(&mut header[..]));
        header
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized> Packet<&'a T> {
    /// What the packet carries, after all extension headers, and what kind it is of.
    ///
    /// # Errors
    /// [`Error::Truncated`] and [`Error::Malformed`] for extension headers that are, and for neighbour
    /// discovery behind a fragment's header; [`Error::Unsupported`] for fragments, for a route that goes on,
    /// and for options that must not be skipped by who does not know them (section 4.2).
    pub fn payload(&self) -> Result<(Protocol, &'a [u8]), Error> {
        match self.content()? {
            Ipv6Content::Whole(protocol, payload) => Ok((protocol, payload)),
            Ipv6Content::Fragment(_) => Err(Error::Unsupported),
        }
    }

    /// The same, or the part of it that this packet is.
    ///
    /// # Errors
    /// As for [`Packet::payload`], but for fragments.
    pub fn content(&self) -> Result<Ipv6Content<'a>, Error> {
        let rest = &self.buffer.as_ref()[HEADER_LEN..HEADER_LEN + self.payload_len()];
        walk(self.next_header(), rest, true)
    }
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6Content<'a> {
    /// All of it, and of what kind it is.
    Whole(Protocol, &'a [u8]),
    /// A part.
    Fragment(Ipv6Fragment<'a>),
}

/// A part of what a packet carried before it was cut up (section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Fragment<'a> {
    /// What the whole begins with: an extension header, or what it carries.
    pub next_header: u8,
    /// The sender's number for the whole.
    pub ident: u32,
    /// Where in it this lies, in bytes.
    pub offset: usize,
    /// Whether more follow.
    pub more: bool,
    /// This part.
    pub payload: &'a [u8],
}

impl Ipv6Fragment<'_> {
    /// The header of such a fragment.
    pub fn header(&self) -> [u8; FRAGMENT_LEN] {
        let mut header = [0; FRAGMENT_LEN];
        header[0] = self.next_header;
        let offset = u16::try_from(self.offset & !7).unwrap_or(0xfff8);
        put_u16(&mut header, 2, offset | u16::from(self.more));
        put_u32(&mut header, 4, self.ident);
        header
    }
}

/// What came in fragments, put together: what it carries. `next_header` is the fragments'.
///
/// # Errors
/// As for [`Packet::payload`]; fragments of fragments are [`Error::Malformed`].
pub fn reassembled(next_header: u8, bytes: &[u8]) -> Result<(Protocol, &[u8]), Error> {
    match walk(next_header, bytes, false)? {
        Ipv6Content::Whole(protocol, payload) => Ok((protocol, payload)),
        Ipv6Content::Fragment(_) => Err(Error::Malformed),
    }
}

/// Passes over the extension headers that `rest` begins with, the first of the kind `next`.
fn walk(mut next: u8, mut rest: &[u8], may_be_fragment: bool) -> Result<Ipv6Content<'_>, Error> {
    let mut was_fragment = !may_be_fragment;
    for number in 0..=MAX_EXTENSIONS {
        let len = match next {
            // Section 4.3: only as the first.
            extension::HOP_BY_HOP if number > 0 || !may_be_fragment => return Err(Error::Malformed),
            extension::FRAGMENT if !may_be_fragment => return Err(Error::Malformed),
            extension::FRAGMENT => FRAGMENT_LEN,
            extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION => {
                8 * (1 + usize::from(*rest.get(1).ok_or(Error::Truncated)?))
            }
            extension::AUTHENTICATION => 4 * (2 + usize::from(*rest.get(1).ok_or(Error::Truncated)?)),
            // Neighbour discovery and groups' reports never come in fragments, not in a lone one either (RFC
            // 6980 section 5): what does is forged.
            ICMPV6 if was_fragment && matches!(rest, [130..=137 | 143, ..]) => return Err(Error::Malformed),
            // "No next header" among them: nothing that we take.
            other => return Ok(Ipv6Content::Whole(other.into(), rest)),
        };
        let header = rest.get(..len).ok_or(Error::Truncated)?;
        match next {
            extension::ROUTING if header[3] != 0 => return Err(Error::Unsupported),
            extension::HOP_BY_HOP | extension::DESTINATION => check_options(&header[2..])?,
            extension::FRAGMENT => {
                was_fragment = true;
                let place = get_u16(header, 2);
                let (offset, more) = (usize::from(place & !7), place & 1 != 0);
                // One that is the whole is treated as such (RFC 6946).
                if offset > 0 || more {
                    let (next_header, ident, payload) = (header[0], get_u32(header, 4), &rest[len..]);
                    return Ok(Ipv6Content::Fragment(Ipv6Fragment {
                        next_header,
                        ident,
                        offset,
                        more,
                        payload,
                    }));
                }
            }
            _ => {}
        }
        (next, rest) = (header[0], &rest[len..]);
    }
    Err(Error::Malformed)
}

/// Section 4.2: an unknown option whose highest two bits are zero may be skipped.
fn check_options(mut options: &[u8]) -> Result<(), Error> {
    const PAD_1: u8 = 0;
    while let Some((&kind, rest)) = options.split_first() {
        options = if kind == PAD_1 {
            rest
        } else {
            let (&len, rest) = rest.split_first().ok_or(Error::Malformed)?;
            if kind >> 6 != 0 {
                return Err(Error::Unsupported);
            }
            rest.get(usize::from(len)..).ok_or(Error::Malformed)?
        };
    }
    Ok(())
}

fn address(bytes: &[u8]) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(bytes);
    octets.into()
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the two bits of explicit congestion notification.
    pub fn set_ecn(&mut self, ecn: u8) {
        let byte = &mut self.buffer.as_mut()[field::VERSION_CLASS_FLOW + 1];
        *byte = *byte & !0x30 | (ecn & 3) << 4;
    }
}

/// An IPv6 header without extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source address.
    pub src_addr: Ipv6Addr,
    /// Destination address.
    pub dst_addr: Ipv6Addr,
    /// What the payload is.
    pub protocol: Protocol,
    /// Length of the payload in bytes; at most 65,535.
    pub payload_len: usize,
    /// Remaining hops.
    pub hop_limit: u8,
}

impl Repr {
    /// Writes the header.
    #[inline]
    pub fn emit<T: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut Packet<T>) {
        let bytes = packet.buffer.as_mut();
        bytes[..4].copy_from_slice(&[0x60, 0, 0, 0]);
        put_u16(bytes, field::PAYLOAD_LEN, u16::try_from(self.payload_len).unwrap_or(u16::MAX));
        bytes[field::NEXT_HEADER] = self.protocol.into();
        bytes[field::HOP_LIMIT] = self.hop_limit;
        bytes[field::SOURCE].copy_from_slice(&self.src_addr.octets());
        bytes[field::DESTINATION].copy_from_slice(&self.dst_addr.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with these bytes after the header.
    fn packet(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN];
        Repr {
            src_addr: Ipv6Addr::LOCALHOST,
            dst_addr: Ipv6Addr::LOCALHOST,
            protocol: next.into(),
            payload_len: rest.len(),
            hop_limit: 64,
        }
        .emit(&mut Packet::new_unchecked(&mut bytes[..]));
        bytes.extend_from_slice(rest);
        bytes
    }

    fn payload(next: u8, rest: &[u8]) -> Result<(Protocol, Vec<u8>), Error> {
        let bytes = packet(next, rest);
        let packet = Packet::new_checked(&bytes[..]).expect("a packet");
        packet.payload().map(|(protocol, payload)| (protocol, payload.to_vec()))
    }

    #[test]
    fn extension_headers_are_skipped() {
        assert_eq!(payload(6, b"tcp"), Ok((Protocol::Tcp, b"tcp".to_vec())));
        // Hop-by-hop with PadN, destination options of 16 bytes with an option to skip, a route at its end,
        // AH of 12.
        let mut rest = vec![60, 0, 1, 4, 0, 0, 0, 0];
        rest.extend([43, 1, 0x1e, 2, 9, 9, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0]);
        rest.extend([51, 0, 0, 0, 0, 0, 0, 0]);
        rest.extend([6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        rest.extend(b"tcp");
        assert_eq!(payload(0, &rest), Ok((Protocol::Tcp, b"tcp".to_vec())));
    }

    #[test]
    fn what_must_not_be_skipped_is_not() {
        assert_eq!(payload(44, &[6, 0, 0, 1, 0, 0, 0, 1]), Err(Error::Unsupported), "a fragment");
        assert_eq!(payload(43, &[6, 0, 0, 1, 0, 0, 0, 0]), Err(Error::Unsupported), "a route that goes on");
        for kind in [0x40, 0x80, 0xc0] {
            assert_eq!(
                payload(60, &[6, 0, kind, 4, 0, 0, 0, 0]),
                Err(Error::Unsupported),
                "option {kind:#x}"
            );
        }
        // Hop-by-hop options that are not the first header.
        assert_eq!(payload(60, &[0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0]), Err(Error::Malformed));
    }

    #[test]
    fn fragments_are_told_from_wholes() {
        let fragment =
            Ipv6Fragment { next_header: 17, ident: 7, offset: 1232, more: true, payload: b"12345678" };
        let mut rest = fragment.header().to_vec();
        rest.extend(fragment.payload);
        let bytes = packet(44, &rest);
        let content = Packet::new_checked(&bytes[..]).expect("a packet").content();
        assert_eq!(content, Ok(Ipv6Content::Fragment(fragment)));
        // Behind options for routers, before those for the destination.
        let mut whole = [44, 0, 1, 4, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 7, 6, 0, 1, 4, 0, 0, 0, 0].to_vec();
        whole.extend(b"tcp");
        assert_eq!(payload(0, &whole), Ok((Protocol::Tcp, b"tcp".to_vec())), "an atomic fragment");
        assert_eq!(reassembled(60, &whole[16..]), Ok((Protocol::Tcp, &b"tcp"[..])));
        for (next, bytes) in [(0, &whole[..]), (44, &whole[8..])] {
            assert_eq!(reassembled(next, bytes), Err(Error::Malformed), "{next} within fragments");
        }
        assert_eq!(payload(44, &[6, 0, 0, 0, 0, 0, 0]), Err(Error::Truncated));
        // Neighbour discovery is never in fragments, be it in one alone; echoes may be.
        for (kind, is_refused) in
            [(128, false), (130, true), (134, true), (135, true), (137, true), (143, true)]
        {
            let message = [kind, 0, 0, 0];
            let alone = [&[58, 0, 0, 0, 0, 0, 0, 7][..], &message].concat();
            assert_eq!(payload(44, &alone) == Err(Error::Malformed), is_refused, "{kind}");
            assert_eq!(reassembled(58, &message) == Err(Error::Malformed), is_refused, "{kind} put together");
            assert!(payload(58, &message).is_ok(), "{kind} as it is");
        }
    }

    #[test]
    fn lengths_that_lie_are_found() {
        assert_eq!(payload(0, &[6, 1, 1, 4, 0, 0, 0, 0]), Err(Error::Truncated));
        assert_eq!(payload(0, &[6, 0, 1, 5, 0, 0, 0, 0]), Err(Error::Malformed));
        assert_eq!(payload(0, &[]), Err(Error::Truncated));
        let many: Vec<u8> = [60, 0, 1, 4, 0, 0, 0, 0].repeat(MAX_EXTENSIONS + 1);
        assert_eq!(payload(60, &many), Err(Error::Malformed));
        let bytes = packet(6, b"tcp");
        assert_eq!(Packet::new_checked(&bytes[..42]).err(), Some(Error::Truncated));
        assert_eq!(Packet::new_checked(&bytes[..39]).err(), Some(Error::Truncated));
    }
}
