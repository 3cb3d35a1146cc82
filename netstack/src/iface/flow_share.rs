//! Several stacks with one address, a core each: which of them a flow, or a frame, belongs to.
//!
//! The answer depends on the peer's address and both ports only, with a key of the server's, so that every
//! stack gives the same one without asking another; and it is some dozens of steps that a classic BPF program
//! has, too, so that the kernel can give each frame to the right one at once. What has no ports (echo,
//! fragments) is the first one's; ARP and neighbour discovery is for all, who each keep a table of
//! neighbours.

use std::net::IpAddr;

use crate::tuple::FourTuple;
use crate::wire::{EtherType, Protocol, ethernet, icmpv4, ipv4, ipv6};

/// Odd numbers with bits all over (those of xxHash).
const MULTIPLIERS: [u32; 3] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d];
const SHIFTS: [u32; 2] = [15, 13];

/// Which flows are one stack's, of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowShare {
    index: u32,
    count: u32,
    key: u32,
}

impl Default for FlowShare {
    fn default() -> FlowShare {
        FlowShare::WHOLE
    }
}

/// Who gets a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// The one with that number.
    One(u32),
    /// Everyone.
    All,
}

impl FlowShare {
    /// There is one stack, and all flows are its own.
    pub const WHOLE: FlowShare = FlowShare { index: 0, count: 1, key: 0 };

    /// The shares of `count` stacks (one at least) that have the same `key`, which no peer should know.
    pub fn of(count: u32, key: u32) -> impl Iterator<Item = FlowShare> {
        let count = count.max(1);
        (0..count).map(move |index| FlowShare { index, count, key })
    }

    /// Whose share it is.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// How many stacks there are.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether it is the one who speaks for all: answers ARP, and echo.
    pub const fn is_first(&self) -> bool {
        self.index == 0
    }

    /// Whether the flow is this share's.
    pub fn has(&self, tuple: &FourTuple) -> bool {
        self.count == 1 || self.owner(tuple) == self.index
    }

    /// Whose the flow is.
    pub fn owner(&self, tuple: &FourTuple) -> u32 {
        self.owner_of(
            tuple.remote_addr(),
            u32::from(tuple.remote_port()) << 16 | u32::from(tuple.local_port()),
        )
    }

    /// Whose a flow is, of the first bytes of its TCP or UDP header as they arrive.
    pub(crate) fn owner_of_datagram(&self, remote: IpAddr, datagram: &[u8]) -> Option<u32> {
        Some(self.owner_of(remote, u32::from_be_bytes(*datagram.first_chunk()?)))
    }

    fn owner_of(&self, remote: IpAddr, ports: u32) -> u32 {
        let remote = match remote {
            IpAddr::V4(addr) => addr.to_bits(),
            IpAddr::V6(addr) => {
                let bits = addr.to_bits();
                (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
            }
        };
        let [first, second, third] = MULTIPLIERS;
        let mut hash = (remote ^ self.key).wrapping_mul(first).wrapping_add(ports.wrapping_mul(second));
        hash = (hash ^ hash >> SHIFTS[0]).wrapping_mul(third);
        (hash ^ hash >> SHIFTS[1]) % self.count
    }

    /// Who gets a frame that arrived here. What nobody can make sense of stays.
    pub fn recipient(&self, frame: &[u8]) -> Recipient {
        if self.count == 1 {
            return Recipient::One(self.index);
        }
        let Ok(frame) = ethernet::Frame::new_checked(frame) else { return Recipient::One(self.index) };
        let owner = match frame.ethertype() {
            EtherType::Arp => return Recipient::All,
            EtherType::Ipv4 => self.owner_of_ipv4(frame.payload()),
            EtherType::Ipv6 => match ipv6::Packet::new_checked(frame.payload()) {
                Ok(packet) => match packet.payload() {
                    Ok((Protocol::Icmpv6, [133..=137, ..])) => return Recipient::All,
                    Ok((Protocol::Icmpv6, [1..=4, _, _, _, _, _, _, _, original @ ..])) => {
                        self.owner_of_quoted6(original).or(Some(0))
                    }
                    Ok((Protocol::Tcp | Protocol::Udp, datagram)) => {
                        self.owner_of_datagram(packet.src_addr().into(), datagram)
                    }
                    _ => Some(0),
                },
                Err(_) => None,
            },
            _ => Some(0),
        };
        Recipient::One(owner.unwrap_or(self.index))
    }

    fn owner_of_ipv4(&self, bytes: &[u8]) -> Option<u32> {
        let packet = ipv4::Packet::new_checked(bytes).ok()?;
        if packet.is_fragment() {
            return Some(0);
        }
        match packet.protocol() {
            Protocol::Tcp | Protocol::Udp => {
                self.owner_of_datagram(packet.src_addr().into(), packet.payload())
            }
            Protocol::Icmp => {
                let message = icmpv4::Packet::new_checked(packet.payload()).ok()?;
                let is_report = matches!(message.message_type(), 3 | 4 | 11 | 12);
                let quoted = Some(message.payload()).filter(|_| is_report);
                Some(quoted.and_then(|original| self.owner_of_quoted4(original)).unwrap_or(0))
            }
            _ => Some(0),
        }
    }

    /// Whose a packet of ours is that a router quotes.
    fn owner_of_quoted4(&self, original: &[u8]) -> Option<u32> {
        let packet = ipv4::Packet::new_unchecked(original.get(..ipv4::HEADER_LEN)?);
        let ports: [u8; 4] = *original.get(packet.header_len()..)?.first_chunk()?;
        let has_ports = matches!(packet.protocol(), Protocol::Tcp | Protocol::Udp);
        has_ports.then(|| self.owner_of(packet.dst_addr().into(), u32::from_be_bytes(ports).rotate_left(16)))
    }

    fn owner_of_quoted6(&self, original: &[u8]) -> Option<u32> {
        let packet = ipv6::Packet::new_unchecked(original.get(..ipv6::HEADER_LEN)?);
        let ports: [u8; 4] = *original.get(ipv6::HEADER_LEN..)?.first_chunk()?;
        let has_ports = matches!(Protocol::from(packet.next_header()), Protocol::Tcp | Protocol::Udp);
        has_ports.then(|| self.owner_of(packet.dst_addr().into(), u32::from_be_bytes(ports).rotate_left(16)))
    }

    /// The owner of a frame's flow as a program of classic BPF for a group of packet sockets, but for the
    /// remainder by their number, which the kernel takes itself. What takes more than some loads to see is
    /// sent to the first, who passes it on.
    pub(crate) fn classic_program(&self) -> Vec<ClassicStep> {
        const LOAD: u16 = 0x20;
        const LOAD_HALF: u16 = 0x28;
        const LOAD_BYTE: u16 = 0x30;
        const LOAD_BEHIND: u16 = 0x40;
        const LOAD_KEPT: u16 = 0x60;
        const KEEP: u16 = 0x02;
        const HEADER_TO_INDEX: u16 = 0xb1;
        const KEPT_TO_INDEX: u16 = 0x61;
        const TO_INDEX: u16 = 0x07;
        const MULTIPLY: u16 = 0x24;
        const XOR: u16 = 0xa4;
        const SHIFT: u16 = 0x74;
        const ADD_INDEX: u16 = 0x0c;
        const XOR_INDEX: u16 = 0xac;
        const IF_EQUAL: u16 = 0x15;
        const IF_SET: u16 = 0x45;
        const GIVE: u16 = 0x16;
        const GIVE_CONSTANT: u16 = 0x06;
        /// Where the network header is, and the number of its protocol (`SKF_NET_OFF`, `SKF_AD_OFF`).
        const NET: u32 = 0xfff0_0000;
        const ETHERTYPE: u32 = 0xffff_f000;
        const V6: u8 = 12;
        const HASH: u8 = 28;
        const FIRST: u8 = 45;
        let [first, second, third] = MULTIPLIERS;
        let plain = |code: u16, k: u32| (code, 0, 0, k);
        // Jumps name the step that they go to.
        let mut steps = vec![
            plain(LOAD, ETHERTYPE),
            (IF_EQUAL, 2, V6, 0x0800),
            plain(LOAD_BYTE, NET + 9),
            (IF_EQUAL, 5, 4, 6),
            (IF_EQUAL, 5, FIRST, 17),
            plain(LOAD_HALF, NET + 6),
            (IF_SET, FIRST, 7, 0x3fff),
            plain(LOAD, NET + 12),
            plain(KEEP, 0),
            plain(HEADER_TO_INDEX, NET),
            plain(LOAD_BEHIND, NET),
            (IF_EQUAL, HASH, HASH, 0),
            (IF_EQUAL, 13, FIRST, 0x86dd),
            plain(LOAD_BYTE, NET + 6),
            (IF_EQUAL, 16, 15, 6),
            (IF_EQUAL, 16, FIRST, 17),
            plain(LOAD, NET + 8),
        ];
        for offset in [12, 16, 20] {
            steps.extend([plain(TO_INDEX, 0), plain(LOAD, NET + offset), plain(XOR_INDEX, 0)]);
        }
        steps.extend([
            plain(KEEP, 0),
            plain(LOAD, NET + 40),
            // The ports are here, and what is left of the address is kept.
            plain(MULTIPLY, second),
            plain(KEEP, 1),
            plain(LOAD_KEPT, 0),
            plain(XOR, self.key),
            plain(MULTIPLY, first),
            plain(KEPT_TO_INDEX, 1),
            plain(ADD_INDEX, 0),
            plain(KEEP, 0),
            plain(SHIFT, SHIFTS[0]),
            plain(KEPT_TO_INDEX, 0),
            plain(XOR_INDEX, 0),
            plain(MULTIPLY, third),
            plain(KEEP, 0),
            plain(SHIFT, SHIFTS[1]),
            plain(KEPT_TO_INDEX, 0),
            plain(XOR_INDEX, 0),
            plain(GIVE, 0),
            plain(GIVE_CONSTANT, 0),
        ]);
        for (at, (code, yes, no, _)) in (1u8..).zip(&mut steps) {
            if matches!(*code, IF_EQUAL | IF_SET) {
                (*yes, *no) = (*yes - at, *no - at);
            }
        }
        steps
    }
}

/// An instruction of classic BPF: code, jumps if true and false, constant.
pub(crate) type ClassicStep = (u16, u8, u8, u32);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn tuple(remote: &str) -> FourTuple {
        let remote: SocketAddr = remote.parse().unwrap();
        let local = if remote.is_ipv4() { "192.0.2.1:80" } else { "[2001:db8::1]:80" };
        FourTuple::new(local.parse().unwrap(), remote)
    }

    fn shares(count: u32) -> Vec<FlowShare> {
        FlowShare::of(count, 0x1234_5678).collect()
    }

    /// An IPv4 packet with these bytes behind its header, in a frame.
    fn frame(remote: [u8; 4], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; ethernet::HEADER_LEN + ipv4::HEADER_LEN];
        bytes[12] = 8;
        let ip = ipv4::Repr {
            src_addr: remote.into(),
            dst_addr: [192, 0, 2, 1].into(),
            protocol: protocol.into(),
            payload_len: payload.len(),
            ttl: 64,
            ident: 1,
            ecn: 0,
        };
        ip.emit(&mut ipv4::Packet::new_unchecked(&mut bytes[ethernet::HEADER_LEN..]));
        bytes[20..22].copy_from_slice(&fragment.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Ports of one parity only, as Linux gives them to clients, and addresses in a row.
    #[test]
    fn flows_are_spread_evenly_and_each_has_one_owner() {
        for count in [1, 2, 3, 8] {
            let shares = shares(count);
            let mut flows = vec![0; count as usize];
            for port in (32768..40768).step_by(2) {
                for host in 1..4 {
                    for remote in [format!("192.0.2.{host}:{port}"), format!("[2001:db8::{host}]:{port}")] {
                        let tuple = tuple(&remote);
                        let owner = shares[0].owner(&tuple);
                        flows[owner as usize] += 1;
                        assert!(shares.iter().all(|share| share.has(&tuple) == (share.index() == owner)));
                    }
                }
            }
            let even = 24_000 / count;
            assert!(flows.iter().all(|flows| (even * 9 / 10..even * 11 / 10).contains(flows)), "{flows:?}");
        }
    }

    #[test]
    fn a_frame_goes_to_the_owner_of_its_flow() {
        let share = shares(8)[3];
        for port in 1000..1100u16 {
            let owner = share.owner(&tuple(&format!("198.51.100.7:{port}")));
            let mut header = [0; 20];
            header[..2].copy_from_slice(&port.to_be_bytes());
            header[3] = 80;
            for protocol in [6, 17] {
                let frame = frame([198, 51, 100, 7], protocol, 0x4000, &header);
                assert_eq!(share.recipient(&frame), Recipient::One(owner));
            }
            // What a router quotes of ours has both ends the other way round.
            let mut quoted =
                frame([192, 0, 2, 1], 6, 0, &[0, 80, header[0], header[1], 0, 0, 0, 0]).split_off(14);
            quoted[16..20].copy_from_slice(&[198, 51, 100, 7]);
            let report = [&[3, 4, 0, 0, 0, 0, 0, 0], &quoted[..]].concat();
            assert_eq!(share.recipient(&frame([203, 0, 113, 9], 1, 0, &report)), Recipient::One(owner));
        }
        let echo = [8, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(share.recipient(&frame([198, 51, 100, 7], 1, 0, &echo)), Recipient::One(0));
        let part = frame([198, 51, 100, 7], 6, 0x2000, &[1; 24]);
        assert_eq!(share.recipient(&part), Recipient::One(0), "a fragment");
        let mut arp = vec![0; 60];
        arp[12..14].copy_from_slice(&[8, 6]);
        assert_eq!(share.recipient(&arp), Recipient::All);
        for len in 0..14 {
            assert_eq!(share.recipient(&part[..len]), Recipient::One(3), "stays where it came");
        }
    }
}
