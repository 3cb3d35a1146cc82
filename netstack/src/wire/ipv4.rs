//! IPv4 headers (RFC 791). Options are skipped on input and never written. What is sent may not be fragmented
//! on its way, which TCP needs not by its maximum segment size; what we fragment ourselves says so by
//! [`Packet::set_fragment`].

use std::net::Ipv4Addr;

use super::{Error, checksum, get_u16, get_u32, put_u16};

/// The bits of RFC 3168 section 5 of a packet that routers may mark.
pub const ECN_ECT_0: u8 = 2;

/// The same of one that they have marked: congestion experienced.
pub const ECN_CE: u8 = 3;

/// Length of a header without options, in bytes; the only kind that we send.
pub const HEADER_LEN: usize = 20;

/// Longest packet: what the 16-bit length field can say.
pub const MAX_PACKET_LEN: usize = 65_535;

mod field {
    pub(super) const VERSION_IHL: usize = 0;
    pub(super) const DSCP_ECN: usize = 1;
    pub(super) const TOTAL_LEN: usize = 2;
    pub(super) const IDENT: usize = 4;
    pub(super) const FLAGS_FRAGMENT: usize = 6;
    pub(super) const TTL: usize = 8;
    pub(super) const PROTOCOL: usize = 9;
    pub(super) const CHECKSUM: usize = 10;
    pub(super) const SOURCE: usize = 12;
    pub(super) const DESTINATION: usize = 16;
}

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// What an IP packet of either version carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// ICMP, 1.
    Icmp,
    /// TCP, 6.
    Tcp,
    /// UDP, 17.
    Udp,
    /// ICMP for IPv6, 58.
    Icmpv6,
    /// Anything else.
    Other(u8),
}

impl From<u8> for Protocol {
    #[inline]
    fn from(value: u8) -> Protocol {
        match value {
            1 => Protocol::Icmp,
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            58 => Protocol::Icmpv6,
            other => Protocol::Other(other),
        }
    }
}

impl From<Protocol> for u8 {
    #[inline]
    fn from(value: Protocol) -> u8 {
        value.number()
    }
}

impl Protocol {
    /// As headers have it.
    #[inline]
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Icmp => 1,
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Icmpv6 => 58,
            Protocol::Other(other) => other,
        }
    }
}

/// A buffer read or written as an IPv4 packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Wraps a buffer without looking. Accessors panic if it is shorter than [`HEADER_LEN`].
    #[inline]
    pub const fn new_unchecked(buffer: T) -> Packet<T> {
        Packet { buffer }
    }

    /// Wraps a buffer whose version, header length and total length hold. Bytes after the total length are
    /// link-layer padding and ignored.
    ///
    /// # Errors
    /// [`Error::Truncated`] or [`Error::Malformed`].
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Packet<T>, Error> {
        let packet = Packet { buffer };
        let len = packet.buffer.as_ref().len();
        if len < HEADER_LEN {
            return Err(Error::Truncated);
        }
        if packet.version() != 4
            || packet.header_len() < HEADER_LEN
            || packet.total_len() < packet.header_len()
        {
            return Err(Error::Malformed);
        }
        if packet.total_len() > len {
            return Err(Error::Truncated);
        }
        Ok(packet)
    }

    /// IP version; 4.
    #[inline]
    pub fn version(&self) -> u8 {
        self.buffer.as_ref()[field::VERSION_IHL] >> 4
    }

    /// Length of the header with its options, in bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.buffer.as_ref()[field::VERSION_IHL] & 0x0f) * 4
    }

    /// Differentiated services code point.
    pub fn dscp(&self) -> u8 {
        self.buffer.as_ref()[field::DSCP_ECN] >> 2
    }

    /// Explicit congestion notification, two bits (RFC 3168).
    pub fn ecn(&self) -> u8 {
        self.buffer.as_ref()[field::DSCP_ECN] & 3
    }

    /// Length of header and payload in bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(get_u16(self.buffer.as_ref(), field::TOTAL_LEN))
    }

    /// Identification of a datagram's fragments.
    pub fn ident(&self) -> u16 {
        get_u16(self.buffer.as_ref(), field::IDENT)
    }

    /// Whether routers must not fragment the packet.
    pub fn dont_fragment(&self) -> bool {
        get_u16(self.buffer.as_ref(), field::FLAGS_FRAGMENT) & DONT_FRAGMENT != 0
    }

    /// Whether this is a part of a larger datagram.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        get_u16(self.buffer.as_ref(), field::FLAGS_FRAGMENT) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }

    /// Whether more fragments of the datagram follow this one.
    pub fn more_fragments(&self) -> bool {
        get_u16(self.buffer.as_ref(), field::FLAGS_FRAGMENT) & MORE_FRAGMENTS != 0
    }

    /// Where in the datagram's payload this fragment's lies, in bytes.
    pub fn fragment_offset(&self) -> usize {
        usize::from(get_u16(self.buffer.as_ref(), field::FLAGS_FRAGMENT) & FRAGMENT_OFFSET) * 8
    }

    /// Remaining hops.
    pub fn ttl(&self) -> u8 {
        self.buffer.as_ref()[field::TTL]
    }

    /// What the payload is.
    #[inline]
    pub fn protocol(&self) -> Protocol {
        self.buffer.as_ref()[field::PROTOCOL].into()
    }

    /// Header checksum.
    pub fn checksum(&self) -> u16 {
        get_u16(self.buffer.as_ref(), field::CHECKSUM)
    }

    /// Source address.
    #[inline]
    pub fn src_addr(&self) -> Ipv4Addr {
        get_u32(self.buffer.as_ref(), field::SOURCE).into()
    }

    /// Destination address.
    #[inline]
    pub fn dst_addr(&self) -> Ipv4Addr {
        get_u32(self.buffer.as_ref(), field::DESTINATION).into()
    }

    /// Whether the header checksum holds.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        checksum::sum(&self.buffer.as_ref()[..self.header_len()]) == 0xffff
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized> Packet<&'a T> {
    /// The bytes between the header and the total length.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        &self.buffer.as_ref()[self.header_len()..self.total_len()]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the length of header and payload, keeping the checksum right (RFC 1624): for segments that are
    /// cut from a prototype header.
    pub fn set_total_len(&mut self, len: u16) {
        let old = get_u16(self.buffer.as_ref(), field::TOTAL_LEN);
        self.update(field::TOTAL_LEN, old, len);
    }

    /// Sets the identification, keeping the checksum right (RFC 1624).
    pub fn set_ident(&mut self, ident: u16) {
        let old = self.ident();
        self.update(field::IDENT, old, ident);
    }

    /// Sets the remaining hops, keeping the checksum right (RFC 1624).
    pub fn set_ttl(&mut self, ttl: u8) {
        let old = get_u16(self.buffer.as_ref(), field::TTL);
        self.update(field::TTL, old, old & 0xff | u16::from(ttl) << 8);
    }

    /// Sets the length of the header, in bytes, for options that are there already, and sums it anew.
    pub fn set_header_len(&mut self, len: usize) {
        debug_assert!(len.is_multiple_of(4) && (HEADER_LEN..=60).contains(&len));
        self.buffer.as_mut()[field::VERSION_IHL] = 0x40 | (len / 4) as u8;
        self.fill_checksum();
    }

    /// Sets the two bits of explicit congestion notification, keeping the checksum right (RFC 1624).
    pub fn set_ecn(&mut self, ecn: u8) {
        let old = get_u16(self.buffer.as_ref(), field::VERSION_IHL);
        self.update(field::VERSION_IHL, old, old & !3 | u16::from(ecn & 3));
    }

    /// Makes it a fragment: its payload lies at `offset` (in bytes, a multiple of 8) in a datagram's, and
    /// more follow it or not. The checksum stays right (RFC 1624).
    pub fn set_fragment(&mut self, offset: usize, more: bool) {
        debug_assert!(offset.is_multiple_of(8) && offset / 8 <= usize::from(FRAGMENT_OFFSET));
        let old = get_u16(self.buffer.as_ref(), field::FLAGS_FRAGMENT);
        let flags = if more { MORE_FRAGMENTS } else { 0 };
        self.update(field::FLAGS_FRAGMENT, old, flags | (offset / 8) as u16 & FRAGMENT_OFFSET);
    }

    /// Computes and writes the header checksum.
    #[inline]
    pub fn fill_checksum(&mut self) {
        let header_len = self.header_len();
        let bytes = self.buffer.as_mut();
        put_u16(bytes, field::CHECKSUM, 0);
        let sum = checksum::sum(&bytes[..header_len]);
        put_u16(bytes, field::CHECKSUM, !sum);
    }

    /// Everything after the header.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let header_len = self.header_len();
        &mut self.buffer.as_mut()[header_len..]
    }

    /// Replaces a header word and updates the checksum by RFC 1624's equation 3: HC' = ~(~HC + ~m + m').
    fn update(&mut self, at: usize, old: u16, new: u16) {
        let sum = checksum::add(checksum::add(!self.checksum(), !old), new);
        let bytes = self.buffer.as_mut();
        put_u16(bytes, at, new);
        put_u16(bytes, field::CHECKSUM, !sum);
    }
}

/// An IPv4 header, options aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source address.
    pub src_addr: Ipv4Addr,
    /// Destination address.
    pub dst_addr: Ipv4Addr,
    /// What the payload is.
    pub protocol: Protocol,
    /// Length of the payload in bytes; at most [`MAX_PACKET_LEN`] - [`HEADER_LEN`].
    pub payload_len: usize,
    /// Remaining hops.
    pub ttl: u8,
    /// Identification; any value will do with the don't-fragment bit (RFC 6864), which [`Repr::emit`] always
    /// sets.
    pub ident: u16,
    /// Explicit congestion notification, two bits.
    pub ecn: u8,
}

impl Repr {
    /// Length of the header that [`Repr::emit`] writes, in bytes.
    pub const fn header_len(&self) -> usize {
        HEADER_LEN
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`Error::Checksum`] if the header checksum does not hold (checked always: it costs ten additions).
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Result<Repr, Error> {
        if !packet.verify_checksum() {
            return Err(Error::Checksum);
        }
        Ok(Repr {
            src_addr: packet.src_addr(),
            dst_addr: packet.dst_addr(),
            protocol: packet.protocol(),
            payload_len: packet.total_len() - packet.header_len(),
            ttl: packet.ttl(),
            ident: packet.ident(),
            ecn: packet.ecn(),
        })
    }

    /// Writes a header without options, with its checksum and the don't-fragment bit. A payload that is
    /// longer than a packet may be is a bug of the caller; the length field saturates.
    #[inline]
    pub fn emit<T: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut Packet<T>) {
        debug_assert!(self.payload_len <= MAX_PACKET_LEN - HEADER_LEN);
        let total_len = u16::try_from(HEADER_LEN + self.payload_len).unwrap_or(u16::MAX);
        // Whole words, which are summed before they are written: reading them back would wait for the stores.
        let words = [
            0x4500_0000 | u32::from(self.ecn & 3) << 16 | u32::from(total_len),
            u32::from(self.ident) << 16 | u32::from(DONT_FRAGMENT),
            u32::from(self.ttl) << 24 | u32::from(self.protocol.number()) << 16,
            self.src_addr.to_bits(),
            self.dst_addr.to_bits(),
        ];
        let sum = checksum::fold64(words.iter().map(|&word| u64::from(word)).sum());
        let bytes = &mut packet.buffer.as_mut()[..HEADER_LEN];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        put_u16(bytes, field::CHECKSUM, !sum);
    }
}
