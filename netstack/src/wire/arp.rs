//! ARP for IPv4 over Ethernet (RFC 826). Other hardware or protocol types are [`Error::Unsupported`].

use std::net::Ipv4Addr;

use super::{Error, EthernetAddress, get_u16, get_u32, put_u16, put_u32};

/// Length of an ARP packet for Ethernet and IPv4, in bytes.
pub const PACKET_LEN: usize = 28;

mod field {
    use std::ops::Range;

    pub(super) const HARDWARE_TYPE: usize = 0;
    pub(super) const PROTOCOL_TYPE: usize = 2;
    pub(super) const HARDWARE_LEN: usize = 4;
    pub(super) const PROTOCOL_LEN: usize = 5;
    pub(super) const OPERATION: usize = 6;
    pub(super) const SENDER_HARDWARE: Range<usize> = 8..14;
    pub(super) const SENDER_PROTOCOL: usize = 14;
    pub(super) const TARGET_HARDWARE: Range<usize> = 18..24;
    pub(super) const TARGET_PROTOCOL: usize = 24;
}

const HARDWARE_ETHERNET: u16 = 1;
const PROTOCOL_IPV4: u16 = 0x0800;

/// What an ARP packet asks or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// A buffer read or written as an ARP packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Wraps a buffer without looking. Accessors panic if it is shorter than [`PACKET_LEN`].
    pub const fn new_unchecked(buffer: T) -> Packet<T> {
        Packet { buffer }
    }

    /// Wraps a buffer long enough for Ethernet and IPv4 addresses; padding may follow.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn new_checked(buffer: T) -> Result<Packet<T>, Error> {
        if buffer.as_ref().len() < PACKET_LEN { Err(Error::Truncated) } else { Ok(Packet { buffer }) }
    }

    /// Hardware address space; 1 is Ethernet.
    pub fn hardware_type(&self) -> u16 {
        get_u16(self.buffer.as_ref(), field::HARDWARE_TYPE)
    }

    /// Protocol address space, an EtherType.
    pub fn protocol_type(&self) -> u16 {
        get_u16(self.buffer.as_ref(), field::PROTOCOL_TYPE)
    }

    /// Bytes in a hardware address.
    pub fn hardware_len(&self) -> u8 {
        self.buffer.as_ref()[field::HARDWARE_LEN]
    }

    /// Bytes in a protocol address.
    pub fn protocol_len(&self) -> u8 {
        self.buffer.as_ref()[field::PROTOCOL_LEN]
    }

    /// The operation's number; 1 is a request, 2 a reply.
    pub fn operation(&self) -> u16 {
        get_u16(self.buffer.as_ref(), field::OPERATION)
    }

    /// Sender's hardware address.
    pub fn sender_hardware(&self) -> EthernetAddress {
        hardware(&self.buffer.as_ref()[field::SENDER_HARDWARE])
    }

    /// Sender's protocol address.
    pub fn sender_protocol(&self) -> Ipv4Addr {
        get_u32(self.buffer.as_ref(), field::SENDER_PROTOCOL).into()
    }

    /// Target's hardware address; meaningless in a request.
    pub fn target_hardware(&self) -> EthernetAddress {
        hardware(&self.buffer.as_ref()[field::TARGET_HARDWARE])
    }

    /// Target's protocol address.
    pub fn target_protocol(&self) -> Ipv4Addr {
        get_u32(self.buffer.as_ref(), field::TARGET_PROTOCOL).into()
    }
}

fn hardware(bytes: &[u8]) -> EthernetAddress {
    let mut address = [0; 6];
    address.copy_from_slice(bytes);
    EthernetAddress(address)
}

/// An ARP packet for Ethernet and IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Request or reply.
    pub operation: Operation,
    /// Sender's hardware address.
    pub sender_hardware: EthernetAddress,
    /// Sender's protocol address; unspecified in a probe (RFC 5227).
    pub sender_protocol: Ipv4Addr,
    /// Target's hardware address; zero in a request.
    pub target_hardware: EthernetAddress,
    /// Target's protocol address.
    pub target_protocol: Ipv4Addr,
}

impl Repr {
    /// Length of the packet in bytes.
    pub const fn packet_len(&self) -> usize {
        PACKET_LEN
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless it is a request or reply for Ethernet and IPv4.
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Result<Repr, Error> {
        if packet.hardware_type() != HARDWARE_ETHERNET
            || packet.protocol_type() != PROTOCOL_IPV4
            || packet.hardware_len() != 6
            || packet.protocol_len() != 4
        {
            return Err(Error::Unsupported);
        }
        let operation = match packet.operation() {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(Error::Unsupported),
        };
        Ok(Repr {
            operation,
            sender_hardware: packet.sender_hardware(),
            sender_protocol: packet.sender_protocol(),
            target_hardware: packet.target_hardware(),
            target_protocol: packet.target_protocol(),
        })
    }

    /// Writes the packet.
    pub fn emit<T: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut Packet<T>) {
        let bytes = packet.buffer.as_mut();
        put_u16(bytes, field::HARDWARE_TYPE, HARDWARE_ETHERNET);
        put_u16(bytes, field::PROTOCOL_TYPE, PROTOCOL_IPV4);
        bytes[field::HARDWARE_LEN] = 6;
        bytes[field::PROTOCOL_LEN] = 4;
        let operation = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        put_u16(bytes, field::OPERATION, operation);
        bytes[field::SENDER_HARDWARE].copy_from_slice(&self.sender_hardware.0);
        put_u32(bytes, field::SENDER_PROTOCOL, self.sender_protocol.to_bits());
        bytes[field::TARGET_HARDWARE].copy_from_slice(&self.target_hardware.0);
        put_u32(bytes, field::TARGET_PROTOCOL, self.target_protocol.to_bits());
    }
}
