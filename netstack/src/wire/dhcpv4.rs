//! Messages of DHCP for IPv4 (RFC 2131 section 2, options of RFC 2132), as much of them as a client of
//! addresses needs. Options that we do not know are passed over; those that overflow into the fields of files
//! and names (option 52) are not looked for.
//!
//! By hand, since the crate for it brings half a resolver of names with it.

use std::net::Ipv4Addr;

use super::{Error, EthernetAddress, get_u32, put_u16, put_u32};

/// Port of clients.
pub const CLIENT_PORT: u16 = 68;
/// Port of servers.
pub const SERVER_PORT: u16 = 67;

/// Length of what [`DhcpMessage::emit`] writes: what the oldest relays want at least.
pub const MESSAGE_LEN: usize = 300;

mod field {
    use std::ops::Range;

    pub(super) const OPERATION: usize = 0;
    pub(super) const HARDWARE_TYPE: usize = 1;
    pub(super) const HARDWARE_LEN: usize = 2;
    pub(super) const TRANSACTION: usize = 4;
    pub(super) const SECONDS: usize = 8;
    pub(super) const CLIENT_ADDR: Range<usize> = 12..16;
    pub(super) const YOUR_ADDR: Range<usize> = 16..20;
    pub(super) const HARDWARE_ADDR: Range<usize> = 28..34;
    pub(super) const COOKIE: Range<usize> = 236..240;
}

mod option {
    pub(super) const PAD: u8 = 0;
    pub(super) const SUBNET_MASK: u8 = 1;
    pub(super) const ROUTER: u8 = 3;
    pub(super) const REQUESTED_ADDR: u8 = 50;
    pub(super) const LEASE_TIME: u8 = 51;
    pub(super) const MESSAGE_TYPE: u8 = 53;
    pub(super) const SERVER: u8 = 54;
    pub(super) const PARAMETERS: u8 = 55;
    pub(super) const MAX_SIZE: u8 = 57;
    pub(super) const RENEWAL_TIME: u8 = 58;
    pub(super) const REBINDING_TIME: u8 = 59;
    pub(super) const CLIENT_IDENT: u8 = 61;
    pub(super) const END: u8 = 255;
}

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ETHERNET: u8 = 1;
const MAGIC_COOKIE: [u8; 4] = [99, 130, 83, 99];

/// Longest message that we take.
const MAX_SIZE: u16 = 1472;

/// What a message is (RFC 2132 section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DhcpKind {
    /// A client looks for servers.
    Discover = 1,
    /// A server has an address.
    Offer = 2,
    /// A client wants it, or keep it.
    Request = 3,
    /// A client has found it in use.
    Decline = 4,
    /// It is the client's.
    Ack = 5,
    /// It is not.
    Nak = 6,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DhcpMessage {
    /// What it is.
    pub kind: DhcpKind,
    /// The client's number for the exchange.
    pub transaction: u32,
    /// Seconds since the client began.
    pub seconds: u16,
    /// The client.
    pub hardware_addr: EthernetAddress,
    /// The address that the client has, or zero.
    pub client_addr: Ipv4Addr,
    /// The address that the server gives, or zero.
    pub your_addr: Ipv4Addr,
    /// The address that the client wants.
    pub requested: Option<Ipv4Addr>,
    /// The server.
    pub server: Option<Ipv4Addr>,
    /// Length of the network's prefix; of a mask with holes none.
    pub prefix_len: Option<u8>,
    /// The first way out.
    pub router: Option<Ipv4Addr>,
    /// How long the address may be kept, in seconds; `u32::MAX`: for ever.
    pub lease_s: Option<u32>,
    /// When to ask the server again, and when all servers, in seconds (T1 and T2).
    pub renewal_s: Option<u32>,
    /// See there.
    pub rebinding_s: Option<u32>,
}

impl DhcpMessage {
    /// A client's message of that kind, with nothing in it.
    pub const fn new(kind: DhcpKind, transaction: u32, hardware_addr: EthernetAddress) -> DhcpMessage {
        DhcpMessage {
            kind,
            transaction,
            seconds: 0,
            hardware_addr,
            client_addr: Ipv4Addr::UNSPECIFIED,
            your_addr: Ipv4Addr::UNSPECIFIED,
            requested: None,
            server: None,
            prefix_len: None,
            router: None,
            lease_s: None,
            renewal_s: None,
            rebinding_s: None,
        }
    }

    /// Reads a server's message.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Malformed`]; [`Error::Unsupported`] for what is none of a server's to a
    /// client on Ethernet.
    pub fn parse(bytes: &[u8]) -> Result<DhcpMessage, Error> {
        if bytes.len() < field::COOKIE.end {
            return Err(Error::Truncated);
        }
        let is_reply = bytes[field::OPERATION] == REPLY;
        let is_ethernet = bytes[field::HARDWARE_TYPE] == ETHERNET && bytes[field::HARDWARE_LEN] == 6;
        if !is_reply || !is_ethernet || bytes[field::COOKIE] != MAGIC_COOKIE {
            return Err(Error::Unsupported);
        }
        let mut hardware_addr = EthernetAddress::default();
        hardware_addr.0.copy_from_slice(&bytes[field::HARDWARE_ADDR]);
        // Of no kind yet.
        let mut message =
            DhcpMessage::new(DhcpKind::Discover, get_u32(bytes, field::TRANSACTION), hardware_addr);
        message.client_addr = addr(&bytes[field::CLIENT_ADDR]).ok_or(Error::Truncated)?;
        message.your_addr = addr(&bytes[field::YOUR_ADDR]).ok_or(Error::Truncated)?;
        let mut kind = None;
        let mut options = &bytes[field::COOKIE.end..];
        while let Some((&code, rest)) = options.split_first() {
            match code {
                option::PAD => options = rest,
                option::END => break,
                code => {
                    let (&len, rest) = rest.split_first().ok_or(Error::Malformed)?;
                    let data = rest.get(..usize::from(len)).ok_or(Error::Malformed)?;
                    if code == option::MESSAGE_TYPE {
                        kind = Some(data);
                    }
                    message.take_option(code, data);
                    options = &rest[data.len()..];
                }
            }
        }
        message.kind = match kind {
            Some([2]) => DhcpKind::Offer,
            Some([5]) => DhcpKind::Ack,
            Some([6]) => DhcpKind::Nak,
            Some(_) => return Err(Error::Unsupported),
            None => return Err(Error::Malformed),
        };
        Ok(message)
    }

    /// An option of a wrong length is none.
    fn take_option(&mut self, code: u8, data: &[u8]) {
        let number = |data: &[u8]| (data.len() == 4).then(|| get_u32(data, 0));
        match code {
            option::SUBNET_MASK => {
                self.prefix_len = number(data)
                    .filter(|mask| mask.leading_ones() + mask.trailing_zeros() >= 32)
                    .map(|mask| mask.leading_ones() as u8);
            }
            option::ROUTER => self.router = data.first_chunk::<4>().and_then(|first| addr(first)),
            option::LEASE_TIME => self.lease_s = number(data),
            option::RENEWAL_TIME => self.renewal_s = number(data),
            option::REBINDING_TIME => self.rebinding_s = number(data),
            option::SERVER => self.server = addr(data),
            _ => {}
        }
    }

    /// Writes a client's message.
    pub fn emit(&self) -> [u8; MESSAGE_LEN] {
        let mut bytes = [0; MESSAGE_LEN];
        bytes[field::OPERATION] = REQUEST;
        bytes[field::HARDWARE_TYPE] = ETHERNET;
        bytes[field::HARDWARE_LEN] = 6;
        put_u32(&mut bytes, field::TRANSACTION, self.transaction);
        put_u16(&mut bytes, field::SECONDS, self.seconds);
        bytes[field::CLIENT_ADDR].copy_from_slice(&self.client_addr.octets());
        bytes[field::HARDWARE_ADDR].copy_from_slice(&self.hardware_addr.0);
        bytes[field::COOKIE].copy_from_slice(&MAGIC_COOKIE);
        let mut at = field::COOKIE.end;
        let mut put = |code: u8, data: &[u8]| {
            bytes[at] = code;
            bytes[at + 1] = data.len() as u8;
            bytes[at + 2..at + 2 + data.len()].copy_from_slice(data);
            at += 2 + data.len();
        };
        put(option::MESSAGE_TYPE, &[self.kind as u8]);
        // Not the hardware address alone, as clients of the kernel's own address may say on the same
        // interface.
        let [a, b, c, d, e, f] = self.hardware_addr.0;
        put(option::CLIENT_IDENT, &[0, b'n', b'e', b't', b's', b't', b'a', b'c', b'k', a, b, c, d, e, f]);
        if let Some(requested) = self.requested {
            put(option::REQUESTED_ADDR, &requested.octets());
        }
        if let Some(server) = self.server {
            put(option::SERVER, &server.octets());
        }
        if matches!(self.kind, DhcpKind::Discover | DhcpKind::Request) {
            put(option::MAX_SIZE, &MAX_SIZE.to_be_bytes());
            put(
                option::PARAMETERS,
                &[
                    option::SUBNET_MASK,
                    option::ROUTER,
                    option::LEASE_TIME,
                    option::SERVER,
                    option::RENEWAL_TIME,
                    option::REBINDING_TIME,
                ],
            );
        }
        bytes[at] = option::END;
        bytes
    }
}

fn addr(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A server's answer to `request`, with these options behind the message type.
    pub(crate) fn answer(
        request: &DhcpMessage,
        kind: DhcpKind,
        your_addr: Ipv4Addr,
        options: &[u8],
    ) -> Vec<u8> {
        let mut bytes = request.emit()[..field::COOKIE.end].to_vec();
        bytes[field::OPERATION] = REPLY;
        bytes[field::YOUR_ADDR].copy_from_slice(&your_addr.octets());
        bytes.extend([option::MESSAGE_TYPE, 1, kind as u8]);
        bytes.extend(options);
        bytes.push(option::END);
        bytes
    }

    fn request() -> DhcpMessage {
        DhcpMessage::new(DhcpKind::Request, 0x1234_5678, EthernetAddress([2, 0, 0, 0, 0, 7]))
    }

    #[test]
    fn answers_are_read() {
        let your_addr = Ipv4Addr::new(10, 0, 0, 50);
        let mut options = vec![0, 0, 1, 4, 255, 255, 240, 0, 3, 8, 10, 0, 0, 1, 10, 0, 0, 2];
        options.extend([51, 4, 0, 0, 14, 16, 58, 4, 0, 0, 7, 8, 59, 4, 0, 0, 12, 78, 54, 4, 10, 0, 0, 3]);
        options.extend([26, 2, 5, 220, 12, 3, b'a', b'b', b'c']);
        let message = DhcpMessage::parse(&answer(&request(), DhcpKind::Ack, your_addr, &options));
        let expected = DhcpMessage {
            kind: DhcpKind::Ack,
            your_addr,
            server: Some(Ipv4Addr::new(10, 0, 0, 3)),
            prefix_len: Some(20),
            router: Some(Ipv4Addr::new(10, 0, 0, 1)),
            lease_s: Some(3600),
            renewal_s: Some(1800),
            rebinding_s: Some(3150),
            ..request()
        };
        assert_eq!(message, Ok(expected));
    }

    #[test]
    fn what_lies_or_is_cut_short_does_no_harm() {
        let options = [1, 4, 255, 0, 255, 0, 51, 3, 1, 2, 3, 3, 0, 54, 4, 10, 0, 0, 3];
        let good = answer(&request(), DhcpKind::Offer, Ipv4Addr::new(10, 0, 0, 50), &options);
        let message = DhcpMessage::parse(&good).expect("a message");
        assert_eq!((message.prefix_len, message.lease_s, message.router), (None, None, None));
        assert_eq!(message.server, Some(Ipv4Addr::new(10, 0, 0, 3)));
        for len in 0..good.len() {
            let _ = DhcpMessage::parse(&good[..len]);
        }
        for len in [0, 100, 239] {
            assert_eq!(DhcpMessage::parse(&good[..len]), Err(Error::Truncated));
        }
        assert_eq!(DhcpMessage::parse(&good[..240]), Err(Error::Malformed), "of no kind");
        let mut longer = good.clone();
        let at = longer.len() - 6;
        longer[at] = 200;
        assert_eq!(DhcpMessage::parse(&longer), Err(Error::Malformed), "an option beyond the end");
        assert_eq!(DhcpMessage::parse(&request().emit()), Err(Error::Unsupported), "a client's");
    }
}
