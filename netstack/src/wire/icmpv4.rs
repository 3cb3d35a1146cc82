//! ICMP for IPv4 (RFC 792): echo, destination unreachable with the next hop's MTU (RFC 1191), time exceeded.
//! The rest is [`Error::Unsupported`].

use super::{Error, checksum, get_u16, put_u16};

/// Length of the header in bytes; the same for all messages that we speak.
pub const HEADER_LEN: usize = 8;

mod field {
    pub(super) const TYPE: usize = 0;
    pub(super) const CODE: usize = 1;
    pub(super) const CHECKSUM: usize = 2;
    pub(super) const IDENT: usize = 4;
    pub(super) const SEQUENCE: usize = 6;
    pub(super) const NEXT_HOP_MTU: usize = 6;
    pub(super) const PAYLOAD: usize = 8;
}

const ECHO_REPLY: u8 = 0;
const DESTINATION_UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;

/// Code of destination unreachable: nobody listens at the port.
pub const CODE_PORT_UNREACHABLE: u8 = 3;

/// Code of destination unreachable: fragmentation needed and don't-fragment set.
pub const CODE_FRAGMENTATION_NEEDED: u8 = 4;

/// Code of time exceeded: not all fragments of a datagram came in time.
pub const CODE_REASSEMBLY_TIME: u8 = 1;

/// A buffer read or written as an ICMP message.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Wraps a buffer without looking. Accessors panic if it is shorter than [`HEADER_LEN`].
    pub const fn new_unchecked(buffer: T) -> Packet<T> {
        Packet { buffer }
    }

    /// Wraps a buffer that holds at least a header.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn new_checked(buffer: T) -> Result<Packet<T>, Error> {
        if buffer.as_ref().len() < HEADER_LEN { Err(Error::Truncated) } else { Ok(Packet { buffer }) }
    }

    /// Message type.
    pub fn message_type(&self) -> u8 {
        self.buffer.as_ref()[field::TYPE]
    }

    /// Message code.
    pub fn code(&self) -> u8 {
        self.buffer.as_ref()[field::CODE]
    }

    /// Checksum of the whole message.
    pub fn checksum(&self) -> u16 {
        get_u16(self.buffer.as_ref(), field::CHECKSUM)
    }

    /// Whether the checksum holds over the whole buffer.
    pub fn verify_checksum(&self) -> bool {
        checksum::sum(self.buffer.as_ref()) == 0xffff
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized> Packet<&'a T> {
    /// What follows the header: the echoed data, or the header of the packet that is reported.
    pub fn payload(&self) -> &'a [u8] {
        &self.buffer.as_ref()[field::PAYLOAD..]
    }
}

/// An ICMP message.
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
        /// The next hop's MTU in bytes when `code` is [`CODE_FRAGMENTATION_NEEDED`]; else zero.
        next_hop_mtu: u16,
        /// The packet's IP header and at least eight bytes of its payload. Not validated.
        original: &'a [u8],
    },
    /// A packet's hop limit, or its time for reassembly, ran out.
    TimeExceeded {
        /// Which of the two.
        code: u8,
        /// The packet's IP header and at least eight bytes of its payload. Not validated.
        original: &'a [u8],
    },
}

impl<'a> Repr<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Error::Checksum`], [`Error::Unsupported`].
    pub fn parse<T: AsRef<[u8]> + ?Sized>(packet: &Packet<&'a T>) -> Result<Repr<'a>, Error> {
        if !packet.verify_checksum() {
            return Err(Error::Checksum);
        }
        let bytes = packet.buffer.as_ref();
        let (ident, sequence) = (get_u16(bytes, field::IDENT), get_u16(bytes, field::SEQUENCE));
        let code = packet.code();
        match packet.message_type() {
            ECHO_REQUEST if code == 0 => Ok(Repr::EchoRequest { ident, sequence, data: packet.payload() }),
            ECHO_REPLY if code == 0 => Ok(Repr::EchoReply { ident, sequence, data: packet.payload() }),
            DESTINATION_UNREACHABLE => {
                let mtu =
                    if code == CODE_FRAGMENTATION_NEEDED { get_u16(bytes, field::NEXT_HOP_MTU) } else { 0 };
                Ok(Repr::DestinationUnreachable { code, next_hop_mtu: mtu, original: packet.payload() })
            }
            TIME_EXCEEDED => Ok(Repr::TimeExceeded { code, original: packet.payload() }),
            _ => Err(Error::Unsupported),
        }
    }

    /// Length of the message in bytes.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN + self.payload().len()
    }

    /// What follows the header.
    pub const fn payload(&self) -> &'a [u8] {
        match *self {
            Repr::EchoRequest { data, .. } | Repr::EchoReply { data, .. } => data,
            Repr::DestinationUnreachable { original, .. } | Repr::TimeExceeded { original, .. } => original,
        }
    }

    /// Writes the message with its checksum into a buffer of at least [`Repr::buffer_len`] bytes.
    pub fn emit<T: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut Packet<T>) {
        let (message_type, code, word1, word2) = match *self {
            Repr::EchoRequest { ident, sequence, .. } => (ECHO_REQUEST, 0, ident, sequence),
            Repr::EchoReply { ident, sequence, .. } => (ECHO_REPLY, 0, ident, sequence),
            Repr::DestinationUnreachable { code, next_hop_mtu, .. } => {
                (DESTINATION_UNREACHABLE, code, 0, next_hop_mtu)
            }
            Repr::TimeExceeded { code, .. } => (TIME_EXCEEDED, code, 0, 0),
        };
        let len = self.buffer_len();
        let bytes = &mut packet.buffer.as_mut()[..len];
        bytes[field::TYPE] = message_type;
        bytes[field::CODE] = code;
        put_u16(bytes, field::CHECKSUM, 0);
        put_u16(bytes, field::IDENT, word1);
        put_u16(bytes, field::SEQUENCE, word2);
        bytes[field::PAYLOAD..].copy_from_slice(self.payload());
        let sum = checksum::sum(bytes);
        put_u16(bytes, field::CHECKSUM, !sum);
    }
}
