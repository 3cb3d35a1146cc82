//! IPv6 in: neighbour discovery (RFC 4861), echo, and what routers report of our own packets (RFC 4443, 8201).
//!
//! Reports are believed as those of ICMP are ([`super::icmp`]).

use std::net::{Ipv6Addr, SocketAddr};

use runtime::time::Instant;

use super::queue::{Control, Icmpv6};
use super::udp::quoted_ports;
use super::{Application, Stack};
use crate::iface::ipv6::{self as interface, is_unicast, multicast_hardware, solicited_node};
use crate::tcp::seq::SeqNumber;
use crate::transmission::RxChecksum;
use crate::tuple::FourTuple;
use crate::wire::{EthernetAddress, Protocol, icmpv6, ipv4, ipv6};

/// RFC 8200 section 8.1 leaves it to us; 64 is everyone's number.
pub(super) const HOP_LIMIT: u8 = 64;

impl Stack {
    /// Whether the packet was of use; so below.
    pub(super) fn ipv6_input<A: Application>(
        &mut self,
        now: Instant,
        bytes: &[u8],
        checksum: RxChecksum,
        app: &mut A,
    ) -> bool {
        let Some(own) = &self.ipv6 else { return false };
        let Ok(packet) = ipv6::Packet::new_checked(bytes) else { return false };
        let (src, dst) = (packet.src_addr(), packet.dst_addr());
        let (for_us, for_group) = (own.is_ours(dst), own.is_our_group(dst));
        // RFC 4291 section 2.7: no group as source. From no address at all come only questions for an address.
        if !(for_us || for_group) || own.is_ours(src) || !(is_unicast(src) || src.is_unspecified()) {
            return false;
        }
        match packet.payload() {
            Ok((Protocol::Tcp, segment)) if for_us && is_unicast(src) => {
                let is_congested = packet.ecn() == ipv4::ECN_CE;
                self.tcp_input(now, (src.into(), dst.into()), segment, checksum, is_congested, app)
            }
            Ok((Protocol::Udp, datagram)) if for_us && is_unicast(src) => {
                self.udp_input6(now, bytes, (src, dst), datagram, checksum, app)
            }
            Ok((Protocol::Icmpv6, message)) => {
                self.icmpv6_input(now, src, dst, packet.hop_limit(), message, app)
            }
            _ => false,
        }
    }

    fn icmpv6_input<A: Application>(
        &mut self,
        now: Instant,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        hop_limit: u8,
        bytes: &[u8],
        app: &mut A,
    ) -> bool {
        let Ok(message) = icmpv6::Repr::parse(bytes, src, dst) else { return false };
        // RFC 4861 section 7.1: what was forwarded is forged.
        let is_near = hop_limit == icmpv6::NEIGHBOR_HOP_LIMIT;
        match message {
            // RFC 4443 section 4.2: from the address that was asked; one of ours, if it was a group.
            icmpv6::Repr::EchoRequest { ident, sequence, data } if is_unicast(src) => {
                let reply = icmpv6::Repr::EchoReply { ident, sequence, data };
                let from = if dst.is_multicast() { None } else { Some(dst) };
                self.send_icmpv6(from, src, None, &reply);
                true
            }
            icmpv6::Repr::NeighborSolicitation { target, source } if is_near => {
                self.solicited(now, src, dst, target, source)
            }
            icmpv6::Repr::NeighborAdvertisement { target, hardware_addr, .. } if is_near => {
                // Without the option the sender says only that it still is where it was asked.
                let Some(hardware_addr) = hardware_addr else { return false };
                self.learn6(now, target, hardware_addr, false)
            }
            icmpv6::Repr::PacketTooBig { mtu, original } => {
                let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
                self.quoted_segment6(original)
                    .is_some_and(|(tuple, seq)| self.path_reported(now, tuple, seq, Some(mtu), false, app))
            }
            icmpv6::Repr::DestinationUnreachable { code, original } => {
                let is_hard = icmpv6::HARD_CODES.contains(&code);
                if let Some((port, to)) = self.quoted_datagram6(original) {
                    return is_hard && self.datagram_reported(now, port, to, app);
                }
                self.quoted_segment6(original)
                    .is_some_and(|(tuple, seq)| self.path_reported(now, tuple, seq, None, is_hard, app))
            }
            _ => false,
        }
    }

    /// Somebody asks for an address of ours (RFC 4861 section 7.2.3 and 7.2.4); one without address yet wants it for
    /// itself, and is told so that all hear it.
    fn solicited(
        &mut self,
        now: Instant,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        target: Ipv6Addr,
        source: Option<EthernetAddress>,
    ) -> bool {
        let Some(own) = &self.ipv6 else { return false };
        let is_anonymous = src.is_unspecified();
        let is_wrong = is_anonymous && (source.is_some() || dst != solicited_node(target));
        if !own.is_ours(target) || is_wrong {
            return false;
        }
        let answer = icmpv6::Repr::NeighborAdvertisement {
            target,
            solicited: !is_anonymous,
            replace: true,
            hardware_addr: Some(self.config.hardware_addr),
        };
        let answers = self.config.share.is_first();
        if is_anonymous && answers {
            let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            self.send_icmpv6(Some(target), all, Some(multicast_hardware(all)), &answer);
        }
        if is_anonymous {
            return true;
        }
        if let Some(hardware_addr) = source {
            self.learn6(now, src, hardware_addr, true);
        }
        // Who gave no address of its own is asked for it first, like any neighbour.
        if answers {
            self.send_icmpv6(Some(target), src, source, &answer);
        }
        true
    }

    /// Takes in where a neighbour is. Whether it is one.
    fn learn6(&mut self, now: Instant, addr: Ipv6Addr, hardware_addr: EthernetAddress, asked: bool) -> bool {
        let Some(own) = &mut self.ipv6 else { return false };
        if !own.is_on_link(addr) || own.is_ours(addr) {
            return false;
        }
        if own.neighbors.learn(now, addr, hardware_addr, asked) {
            self.queues.resolved(addr.into());
        }
        true
    }

    /// Asks who has `addr`: all who might (RFC 4861 section 7.2.2), or the one who had it last.
    pub(super) fn solicit(&mut self, addr: Ipv6Addr, known: Option<EthernetAddress>) {
        let question =
            icmpv6::Repr::NeighborSolicitation { target: addr, source: Some(self.config.hardware_addr) };
        let (to, hardware_addr) = match known {
            Some(hardware_addr) => (addr, hardware_addr),
            None => (solicited_node(addr), multicast_hardware(solicited_node(addr))),
        };
        self.send_icmpv6(None, to, Some(hardware_addr), &question);
    }

    pub(super) fn send_icmpv6(
        &mut self,
        from: Option<Ipv6Addr>,
        to: Ipv6Addr,
        hardware_addr: Option<EthernetAddress>,
        message: &icmpv6::Repr<'_>,
    ) {
        let Some(own) = &self.ipv6 else { return };
        let from = from.unwrap_or(own.addr());
        let mut bytes = vec![0; message.buffer_len()].into_boxed_slice();
        if ipv6::HEADER_LEN + bytes.len() > usize::from(self.config.mtu) {
            // It came in fragments, which we do not put together, or over a link of a larger MTU.
            return;
        }
        message.emit(from, to, &mut bytes);
        let is_echo = matches!(message, icmpv6::Repr::EchoReply { .. });
        let hop_limit = if is_echo { HOP_LIMIT } else { icmpv6::NEIGHBOR_HOP_LIMIT };
        self.queues.push(Control::Icmpv6(Icmpv6 { from, to, hardware_addr, hop_limit, message: bytes }));
    }

    /// From which port to whom a quoted datagram of ours went.
    fn quoted_datagram6(&self, original: &[u8]) -> Option<(u16, SocketAddr)> {
        let packet = ipv6::Packet::new_unchecked(original.get(..ipv6::HEADER_LEN)?);
        let is_ours = packet.version() == 6 && self.ipv6.as_ref()?.is_ours(packet.src_addr());
        let (src, dst) = quoted_ports(&original[ipv6::HEADER_LEN..])?;
        let to = SocketAddr::new(packet.dst_addr().into(), dst);
        (is_ours && Protocol::from(packet.next_header()) == Protocol::Udp).then_some((src, to))
    }

    /// As [`Stack::quoted_segment`]: a packet of ours that is cut short.
    fn quoted_segment6(&self, original: &[u8]) -> Option<(FourTuple, SeqNumber)> {
        let own = self.ipv6.as_ref()?;
        let header = original.get(..ipv6::HEADER_LEN)?;
        let packet = ipv6::Packet::new_unchecked(header);
        // We send no extension headers.
        if packet.version() != 6
            || Protocol::from(packet.next_header()) != Protocol::Tcp
            || !own.is_ours(packet.src_addr())
            || !interface::is_unicast(packet.dst_addr())
        {
            return None;
        }
        let tcp: &[u8; 8] = original.get(ipv6::HEADER_LEN..ipv6::HEADER_LEN + 8)?.try_into().ok()?;
        let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let tuple = FourTuple::new(
            SocketAddr::new(packet.src_addr().into(), port(0)),
            SocketAddr::new(packet.dst_addr().into(), port(2)),
        );
        Some((tuple, SeqNumber(u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]))))
    }
}
