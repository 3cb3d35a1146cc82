//! TCP headers (RFC 9293 section 3.1) and the options of use today: maximum segment size (RFC 9293 section
//! 3.2), window scale and timestamps (RFC 7323), SACK-permitted and SACK blocks (RFC 2018).
//!
//! Sequence numbers are plain `u32` here; their arithmetic belongs to the protocol, not to the format.

use std::fmt;
use std::net::IpAddr;
use std::ops::{BitOr, BitOrAssign};

use super::{Error, Protocol, checksum, get_u16, get_u32, put_u16, put_u32};

/// Length of a header without options, in bytes.
pub const HEADER_LEN: usize = 20;

/// Longest header, in bytes.
pub const MAX_HEADER_LEN: usize = 60;

/// What the timestamps option takes, its padding included (RFC 7323 appendix A), in bytes.
pub const TIMESTAMPS_LEN: u16 = 12;

/// Offset of the checksum field in the header, for devices that compute it.
pub const CHECKSUM_OFFSET: usize = 16;

/// Greatest useful shift of the window scale option; greater ones mean this one (RFC 7323 section 2.3).
pub const MAX_WINDOW_SCALE: u8 = 14;

mod field {
    pub(super) const SOURCE_PORT: usize = 0;
    pub(super) const DESTINATION_PORT: usize = 2;
    pub(super) const SEQUENCE: usize = 4;
    pub(super) const ACKNOWLEDGMENT: usize = 8;
    pub(super) const DATA_OFFSET: usize = 12;
    pub(super) const FLAGS: usize = 13;
    pub(super) const WINDOW: usize = 14;
    pub(super) const CHECKSUM: usize = super::CHECKSUM_OFFSET;
    pub(super) const URGENT: usize = 18;
    pub(super) const OPTIONS: usize = 20;
}

mod option {
    pub(super) const END: u8 = 0;
    pub(super) const NO_OPERATION: u8 = 1;
    pub(super) const MSS: u8 = 2;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const SACK: u8 = 5;
    pub(super) const TIMESTAMPS: u8 = 8;
    pub(super) const FAST_OPEN: u8 = 34;
}

/// Control bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// None set.
    pub const NONE: Flags = Flags(0);
    /// No more data from the sender.
    pub const FIN: Flags = Flags(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Flags = Flags(0x02);
    /// Reset the connection.
    pub const RST: Flags = Flags(0x04);
    /// Push.
    pub const PSH: Flags = Flags(0x08);
    /// The acknowledgment field counts.
    pub const ACK: Flags = Flags(0x10);
    /// The urgent field counts.
    pub const URG: Flags = Flags(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Flags = Flags(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Flags = Flags(0x80);

    /// Whether all bits of `other` are set.
    #[inline]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    #[inline]
    pub const fn intersects(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    /// These bits and those of `other`; `|` in constants.
    #[inline]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// These bits without those of `other`.
    #[inline]
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// FIN set?
    #[inline]
    pub const fn fin(self) -> bool {
        self.contains(Flags::FIN)
    }

    /// SYN set?
    #[inline]
    pub const fn syn(self) -> bool {
        self.contains(Flags::SYN)
    }

    /// RST set?
    #[inline]
    pub const fn rst(self) -> bool {
        self.contains(Flags::RST)
    }

    /// ACK set?
    #[inline]
    pub const fn ack(self) -> bool {
        self.contains(Flags::ACK)
    }

    /// PSH set?
    #[inline]
    pub const fn psh(self) -> bool {
        self.contains(Flags::PSH)
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, rhs: Flags) -> Flags {
        self.with(rhs)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, rhs: Flags) {
        *self = self.with(rhs);
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        let mut separator = "";
        for (bit, name) in names.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{separator}{name}")?;
                separator = "|";
            }
        }
        if separator.is_empty() { f.write_str("-") } else { Ok(()) }
    }
}

/// The timestamps option (RFC 7323 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the latest TSval received; meaningful only with ACK set.
    pub echo_reply: u32,
}

/// Sequence ranges received out of order, at most four (RFC 2018 section 3): left edge, and right edge just
/// past the range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [(u32, u32); 4],
    len: u8,
}

impl SackBlocks {
    /// No block.
    pub const NONE: SackBlocks = SackBlocks { blocks: [(0, 0); 4], len: 0 };

    /// Appends a block. Returns whether there was room.
    pub fn push(&mut self, left: u32, right: u32) -> bool {
        match self.blocks.get_mut(usize::from(self.len)) {
            Some(slot) => {
                *slot = (left, right);
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// Keeps the first `len` blocks.
    pub fn truncate(&mut self, len: usize) {
        let len = len.min(self.as_slice().len());
        self.blocks[len..].fill((0, 0));
        self.len = len as u8;
    }

    /// The blocks in the order of the option.
    #[inline]
    pub fn as_slice(&self) -> &[(u32, u32)] {
        &self.blocks[..usize::from(self.len)]
    }

    /// Whether there is no block.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Length of the cookies that we make, in bytes (RFC 7413 section 4.1.1: 4 to 16).
pub const FAST_OPEN_COOKIE_LEN: usize = 8;

/// The Fast Open option (RFC 7413 section 4.1.1). In SYN segments only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastOpen {
    /// Asks for a cookie.
    Request,
    /// A cookie, given or brought back.
    Cookie([u8; FAST_OPEN_COOKIE_LEN]),
    /// A cookie of another length: none of ours. Never written.
    Foreign,
}

/// The options that we understand; each at most once, a repeated one overrides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Greatest payload that the sender of the option wants to receive, in bytes. In SYN segments only.
    pub mss: Option<u16>,
    /// Shift of the sender's windows, at most [`MAX_WINDOW_SCALE`]. In SYN segments only.
    pub window_scale: Option<u8>,
    /// SACK blocks are welcome. In SYN segments only.
    pub sack_permitted: bool,
    /// Received out of order.
    pub sack: SackBlocks,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// Fast Open. In SYN segments only.
    pub fast_open: Option<FastOpen>,
}

impl Options {
    /// No option.
    pub const NONE: Options = Options {
        mss: None,
        window_scale: None,
        sack_permitted: false,
        sack: SackBlocks::NONE,
        timestamps: None,
        fast_open: None,
    };

    /// Reads an option list. Unknown kinds are skipped by their length; known ones whose length is wrong are
    /// ignored. A length that leaves the list or could not advance ends it, what was read so far counts:
    /// hosts are known to send such lists, and the rest of the segment is protected by its checksum.
    #[inline]
    pub fn parse(mut bytes: &[u8]) -> Options {
        let mut options = Options::NONE;
        // The usual list of a data segment: two no-operations and timestamps (RFC 7323 appendix A).
        if let [1, 1, 8, 10, rest @ ..] = bytes
            && rest.len() == 8
        {
            options.timestamps = Some(Timestamps { value: get_u32(rest, 0), echo_reply: get_u32(rest, 4) });
            return options;
        }
        while let [kind, rest @ ..] = bytes {
            match *kind {
                option::END => break,
                option::NO_OPERATION => bytes = rest,
                kind => {
                    let Some(&len) = rest.first() else { break };
                    let len = usize::from(len);
                    if len < 2 || len > bytes.len() {
                        break;
                    }
                    options.parse_one(kind, &bytes[2..len]);
                    bytes = &bytes[len..];
                }
            }
        }
        options
    }

    fn parse_one(&mut self, kind: u8, data: &[u8]) {
        match (kind, data.len()) {
            (option::MSS, 2) => self.mss = Some(get_u16(data, 0)),
            (option::WINDOW_SCALE, 1) => self.window_scale = Some(data[0].min(MAX_WINDOW_SCALE)),
            (option::SACK_PERMITTED, 0) => self.sack_permitted = true,
            (option::SACK, 8 | 16 | 24 | 32) => {
                self.sack = SackBlocks::NONE;
                for block in data.chunks_exact(8) {
                    self.sack.push(get_u32(block, 0), get_u32(block, 4));
                }
            }
            (option::TIMESTAMPS, 8) => {
                self.timestamps = Some(Timestamps { value: get_u32(data, 0), echo_reply: get_u32(data, 4) });
            }
            (option::FAST_OPEN, 0) => self.fast_open = Some(FastOpen::Request),
            (option::FAST_OPEN, _) => {
                self.fast_open = Some(data.try_into().map_or(FastOpen::Foreign, FastOpen::Cookie));
            }
            _ => {}
        }
    }

    /// Whether there is nothing but timestamps, if those: all that most segments have.
    #[inline]
    fn is_plain(&self) -> bool {
        self.mss.is_none()
            && self.window_scale.is_none()
            && !self.sack_permitted
            && self.fast_open.is_none()
            && self.sack.is_empty()
    }

    /// SACK blocks that fit beside the other options.
    fn sack_room(&self) -> usize {
        let room = MAX_HEADER_LEN - HEADER_LEN - self.len_without_sack();
        self.sack.as_slice().len().min(room.saturating_sub(4) / 8)
    }

    fn len_without_sack(&self) -> usize {
        let mss = if self.mss.is_some() { 4 } else { 0 };
        let scale = if self.window_scale.is_some() { 4 } else { 0 };
        let timestamps = if self.timestamps.is_some() { usize::from(TIMESTAMPS_LEN) } else { 0 };
        // SACK-permitted takes the place of the no-operations before the timestamps.
        let permitted = if self.sack_permitted && self.timestamps.is_none() { 4 } else { 0 };
        let fast_open = match self.fast_open {
            Some(FastOpen::Request) => 4,
            Some(FastOpen::Cookie(_)) => 4 + FAST_OPEN_COOKIE_LEN,
            Some(FastOpen::Foreign) | None => 0,
        };
        mss + scale + timestamps + permitted + fast_open
    }

    /// Length that `Options::emit` writes: a multiple of four, at most 40. SACK blocks that would not fit are
    /// left out.
    #[inline]
    pub fn len(&self) -> usize {
        if self.is_plain() {
            return self.timestamps.map_or(0, |_| usize::from(TIMESTAMPS_LEN));
        }
        let blocks = self.sack_room();
        self.len_without_sack() + if blocks > 0 { 4 + 8 * blocks } else { 0 }
    }

    /// Whether there is no option to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the options, each aligned as in RFC 7323 appendix A. `bytes` has exactly [`Options::len`]
    /// bytes.
    #[inline]
    fn emit(&self, bytes: &mut [u8]) {
        if self.is_plain() {
            if let Some(Timestamps { value, echo_reply }) = self.timestamps {
                let [a, b, c, d] = value.to_be_bytes();
                let [e, f, g, h] = echo_reply.to_be_bytes();
                let nop = option::NO_OPERATION;
                bytes.copy_from_slice(&[nop, nop, option::TIMESTAMPS, 10, a, b, c, d, e, f, g, h]);
            }
            return;
        }
        self.emit_all(bytes);
    }

    fn emit_all(&self, bytes: &mut [u8]) {
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        if let Some(mss) = self.mss {
            put(&[option::MSS, 4]);
            put(&mss.to_be_bytes());
        }
        if let Some(scale) = self.window_scale {
            put(&[option::NO_OPERATION, option::WINDOW_SCALE, 3, scale]);
        }
        let permitted = [option::SACK_PERMITTED, 2];
        let filler = [option::NO_OPERATION; 2];
        match (self.sack_permitted, self.timestamps) {
            (permit, Some(timestamps)) => {
                put(if permit { &permitted } else { &filler });
                put(&[option::TIMESTAMPS, 10]);
                put(&timestamps.value.to_be_bytes());
                put(&timestamps.echo_reply.to_be_bytes());
            }
            (true, None) => {
                put(&filler);
                put(&permitted);
            }
            (false, None) => {}
        }
        match self.fast_open {
            Some(FastOpen::Request) => {
                put(&filler);
                put(&[option::FAST_OPEN, 2]);
            }
            Some(FastOpen::Cookie(cookie)) => {
                put(&filler);
                put(&[option::FAST_OPEN, 2 + FAST_OPEN_COOKIE_LEN as u8]);
                put(&cookie);
            }
            Some(FastOpen::Foreign) | None => {}
        }
        let blocks = self.sack_room();
        if blocks > 0 {
            put(&filler);
            put(&[option::SACK, 2 + 8 * blocks as u8]);
            for (left, right) in &self.sack.as_slice()[..blocks] {
                put(&left.to_be_bytes());
                put(&right.to_be_bytes());
            }
        }
    }
}

/// A buffer read or written as a TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Wraps a buffer without looking. Accessors panic if it is shorter than its header.
    #[inline]
    pub const fn new_unchecked(buffer: T) -> Packet<T> {
        Packet { buffer }
    }

    /// Wraps a buffer whose data offset holds.
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
        let header_len = packet.header_len();
        if header_len < HEADER_LEN {
            return Err(Error::Malformed);
        }
        if header_len > len {
            return Err(Error::Truncated);
        }
        Ok(packet)
    }

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        get_u16(self.buffer.as_ref(), field::SOURCE_PORT)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        get_u16(self.buffer.as_ref(), field::DESTINATION_PORT)
    }

    /// SEG.SEQ: sequence number of the first byte, or of the SYN.
    #[inline]
    pub fn seq_number(&self) -> u32 {
        get_u32(self.buffer.as_ref(), field::SEQUENCE)
    }

    /// SEG.ACK: next sequence number expected; counts only with the ACK bit.
    #[inline]
    pub fn ack_number(&self) -> u32 {
        get_u32(self.buffer.as_ref(), field::ACKNOWLEDGMENT)
    }

    /// Length of the header with its options, in bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.buffer.as_ref()[field::DATA_OFFSET] >> 4) * 4
    }

    /// Control bits.
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags(self.buffer.as_ref()[field::FLAGS])
    }

    /// SEG.WND, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        get_u16(self.buffer.as_ref(), field::WINDOW)
    }

    /// Checksum field.
    #[inline]
    pub fn checksum(&self) -> u16 {
        get_u16(self.buffer.as_ref(), field::CHECKSUM)
    }

    /// Urgent pointer.
    pub fn urgent_pointer(&self) -> u16 {
        get_u16(self.buffer.as_ref(), field::URGENT)
    }

    /// The options.
    #[inline]
    pub fn options(&self) -> Options {
        let header_len = self.header_len();
        if header_len == HEADER_LEN {
            return Options::NONE;
        }
        Options::parse(&self.buffer.as_ref()[field::OPTIONS..header_len])
    }

    /// Whether the checksum holds over the whole buffer and the pseudo-header. A zero field is no exemption
    /// in TCP.
    #[inline]
    pub fn verify_checksum(&self, src: impl Into<IpAddr>, dst: impl Into<IpAddr>) -> bool {
        self.verify_checksum_with(src, dst, None)
    }

    /// The same, where the payload's sum may be known already. (A header has a multiple of four bytes.)
    #[inline]
    pub fn verify_checksum_with(
        &self,
        src: impl Into<IpAddr>,
        dst: impl Into<IpAddr>,
        payload: Option<u16>,
    ) -> bool {
        let bytes = self.buffer.as_ref();
        let pseudo = checksum::pseudo_header(src, dst, Protocol::Tcp, bytes.len() as u32);
        let sum = match payload {
            Some(payload) => checksum::add(checksum::sum(&bytes[..self.header_len()]), payload),
            None => checksum::sum(bytes),
        };
        checksum::add(pseudo, sum) == 0xffff
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized> Packet<&'a T> {
    /// The bytes after the header.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        &self.buffer.as_ref()[self.header_len()..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the sequence number.
    #[inline]
    pub fn set_seq_number(&mut self, seq: u32) {
        put_u32(self.buffer.as_mut(), field::SEQUENCE, seq);
    }

    /// Sets the control bits.
    #[inline]
    pub fn set_flags(&mut self, flags: Flags) {
        self.buffer.as_mut()[field::FLAGS] = flags.0;
    }

    /// Sets the checksum field.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put_u16(self.buffer.as_mut(), field::CHECKSUM, checksum);
    }

    /// Computes and writes the checksum of a segment whose payload may lie elsewhere: `payload_sum` and
    /// `payload_len` are of the bytes that will follow this header. Bytes of the buffer after the header are
    /// not looked at.
    #[inline]
    pub fn fill_checksum(
        &mut self,
        src: impl Into<IpAddr>,
        dst: impl Into<IpAddr>,
        payload_sum: u16,
        payload_len: usize,
    ) {
        self.fill_checksum_of(checksum::addresses(src, dst), payload_sum, payload_len);
    }

    /// The same, where the addresses are added up already.
    #[inline]
    pub(crate) fn fill_checksum_of(&mut self, addresses: u64, payload_sum: u16, payload_len: usize) {
        let header_len = self.header_len();
        self.set_checksum(0);
        let header = checksum::sum(&self.buffer.as_ref()[..header_len]);
        let length = (header_len + payload_len) as u32;
        let pseudo = checksum::pseudo_header_of(addresses, Protocol::Tcp, length);
        // Header lengths are multiples of four, so the payload's words keep their places.
        self.set_checksum(!checksum::add(checksum::add(pseudo, header), payload_sum));
    }

    /// Writes what a device that completes checksums expects in the field: the sum of the pseudo-header, not
    /// complemented.
    #[inline]
    pub fn fill_partial_checksum(
        &mut self,
        src: impl Into<IpAddr>,
        dst: impl Into<IpAddr>,
        payload_len: usize,
    ) {
        self.fill_partial_checksum_of(checksum::addresses(src, dst), payload_len);
    }

    /// The same, where the addresses are added up already.
    #[inline]
    pub(crate) fn fill_partial_checksum_of(&mut self, addresses: u64, payload_len: usize) {
        let len = (self.header_len() + payload_len) as u32;
        self.set_checksum(checksum::pseudo_header_of(addresses, Protocol::Tcp, len));
    }
}

/// A TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// SEG.SEQ.
    pub seq_number: u32,
    /// SEG.ACK; zero and meaningless without [`Flags::ACK`].
    pub ack_number: u32,
    /// Control bits.
    pub flags: Flags,
    /// SEG.WND, not scaled.
    pub window: u16,
    /// Options.
    pub options: Options,
}

impl Repr {
    /// Length of the header with its options, in bytes; a multiple of four.
    #[inline]
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// Reads a header. The checksum is verified apart ([`Packet::verify_checksum`]), since a device may have
    /// done so.
    ///
    /// # Errors
    /// [`Error::Malformed`] for port zero, which nobody can answer.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Result<Repr, Error> {
        if packet.src_port() == 0 || packet.dst_port() == 0 {
            return Err(Error::Malformed);
        }
        Ok(Repr {
            src_port: packet.src_port(),
            dst_port: packet.dst_port(),
            seq_number: packet.seq_number(),
            ack_number: packet.ack_number(),
            flags: packet.flags(),
            window: packet.window(),
            options: packet.options(),
        })
    }

    /// Writes the header with a zero checksum and urgent pointer; then call [`Packet::fill_checksum`] or
    /// [`Packet::fill_partial_checksum`]. The buffer has at least [`Repr::header_len`] bytes.
    #[inline]
    pub fn emit<T: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut Packet<T>) {
        let header_len = self.header_len();
        let bytes = &mut packet.buffer.as_mut()[..header_len];
        // Whole words: whoever sums them soon need not wait for the stores.
        let words = [
            u32::from(self.src_port) << 16 | u32::from(self.dst_port),
            self.seq_number,
            self.ack_number,
            (header_len as u32 / 4) << 28 | u32::from(self.flags.0) << 16 | u32::from(self.window),
            0,
        ];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        self.options.emit(&mut bytes[field::OPTIONS..header_len]);
    }
}
