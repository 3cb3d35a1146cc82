//! IPv6 in: fragments (RFC 8200), neighbour discovery (RFC 4861), questions for our groups (RFC 3810), echo,
//! and what routers report of our own packets (RFC 4443, 8201).
//!
//! Reports are believed as those of ICMP are ([`super::icmp`]).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use runtime::time::Instant;

use super::queue::{Control, Icmpv6};
use super::udp::quoted_ports;
use super::{Application, Event, Stack};
use crate::iface::autoconf::AutoconfAction;
use crate::iface::ipv6::{self as interface, is_unicast, multicast_hardware, solicited_node};
use crate::iface::reassembly::{Added, DatagramId, Fragment};
use crate::tcp::seq::SeqNumber;
use crate::transmission::RxChecksum;
use crate::tuple::FourTuple;
use crate::wire::{EthernetAddress, Protocol, icmpv6, ipv4, ipv6, mld, ndp};

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
        let for_us = own.is_ours(dst);
        let for_group = !for_us && dst.is_multicast() && own.is_our_group(dst);
        // RFC 4291 section 2.7: no group as source. From no address at all come only questions for an
        // address.
        if !(for_us || for_group) || own.is_ours(src) || !(is_unicast(src) || src.is_unspecified()) {
            return false;
        }
        match packet.content() {
            Ok(ipv6::Ipv6Content::Whole(protocol, payload)) => {
                self.packet6_input(now, &packet, (protocol, payload), checksum, app)
            }
            // RFC 8200 section 4.5 puts groups' together as well: where no socket listens, nobody has reason
            // to send us such.
            Ok(ipv6::Ipv6Content::Fragment(fragment))
                if is_unicast(src) && (for_us || self.groups.has(dst.into())) =>
            {
                self.fragment6_input(now, &packet, &fragment, app)
            }
            _ => false,
        }
    }

    /// What a packet carries, all of it; of one that came in fragments, `packet` is the last that came.
    fn packet6_input<A: Application>(
        &mut self,
        now: Instant,
        packet: &ipv6::Packet<&[u8]>,
        (protocol, payload): (Protocol, &[u8]),
        checksum: RxChecksum,
        app: &mut A,
    ) -> bool {
        let (src, dst) = (packet.src_addr(), packet.dst_addr());
        let is_for_one = !dst.is_multicast() && is_unicast(src);
        match protocol {
            Protocol::Tcp if is_for_one => {
                let is_congested = packet.ecn() == ipv4::ECN_CE;
                self.tcp_input(now, (src.into(), dst.into()), payload, checksum, is_congested, app)
            }
            Protocol::Udp if is_for_one => self.udp_input6(now, packet, payload, checksum, app),
            Protocol::Udp if is_unicast(src) => {
                self.udp_to_many(now, (src.into(), dst.into()), payload, checksum, app)
            }
            Protocol::Icmpv6 => self.icmpv6_input(now, src, dst, packet.hop_limit(), payload, app),
            _ => false,
        }
    }

    /// A part of a packet; the whole, if it is the last one that was missing.
    fn fragment6_input<A: Application>(
        &mut self,
        now: Instant,
        packet: &ipv6::Packet<&[u8]>,
        part: &ipv6::Ipv6Fragment<'_>,
        app: &mut A,
    ) -> bool {
        self.stats.fragments_in += 1;
        let id = DatagramId {
            src: packet.src_addr().into(),
            dst: packet.dst_addr().into(),
            // RFC 8200 would take the first one's and not compare; nobody sends others.
            protocol: part.next_header,
            ident: part.ident,
        };
        let (offset, more, payload) = (part.offset, part.more, part.payload);
        match self.fragments.add(now, &Fragment { id, offset, more, payload, quote: None }) {
            Added::Kept => true,
            Added::Dropped => {
                self.stats.fragments_dropped += 1;
                false
            }
            Added::Complete(bytes) => {
                self.stats.reassembled += 1;
                let Ok((protocol, payload)) = ipv6::reassembled(part.next_header, &bytes) else {
                    return false;
                };
                let (src_addr, dst_addr) = (packet.src_addr(), packet.dst_addr());
                if self.is_anothers((src_addr.into(), dst_addr.into()), protocol, packet.ecn(), payload) {
                    return true;
                }
                self.packet6_input(now, packet, (protocol, payload), RxChecksum::Unknown, app)
            }
        }
    }

    /// What a router asks of our groups (RFC 3810 section 6.2); whether it may ask.
    fn groups_asked(&mut self, now: Instant, src: Ipv6Addr, dst: Ipv6Addr, bytes: &[u8]) -> bool {
        let Ok(query) = mld::ListenerQuery::parse(bytes, src, dst) else { return false };
        let Some(own) = &mut self.ipv6 else { return false };
        let concerns_us = query.group.is_unspecified() || own.groups().contains(&query.group);
        if !src.is_unicast_link_local() || !concerns_us || !self.config.share.is_first() {
            return false;
        }
        let random =
            self.secret.hash(&FourTuple::new((src, 0).into(), (dst, 0).into()), now.as_nanos() as u32);
        own.reports.asked(now, Duration::from_millis(query.max_delay_ms.into()), random);
        true
    }

    /// Reports our groups, if that is due.
    pub(super) fn report_groups(&mut self, now: Instant) {
        let is_first = self.config.share.is_first();
        let Some(own) = &mut self.ipv6 else { return };
        if own.reports.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        let (src, to) = (own.addr_for_reports(), mld::ALL_ROUTERS);
        let random =
            self.secret.hash(&FourTuple::new((src, 0).into(), (to, 0).into()), now.as_nanos() as u32);
        while let Some(reason) = own.reports.poll(now, random) {
            if !is_first {
                continue;
            }
            self.queues.push(Control::Icmpv6(Icmpv6 {
                router_alert: true,
                hop_limit: mld::HOP_LIMIT,
                hardware_addr: Some(multicast_hardware(to)),
                ..Icmpv6::new(src, to, mld::report(reason, &own.groups(), src))
            }));
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
        if hop_limit == mld::HOP_LIMIT && self.groups_asked(now, src, dst, bytes) {
            return true;
        }
        // RFC 4861 section 7.1: what was forwarded is forged.
        let is_near = hop_limit == icmpv6::NEIGHBOR_HOP_LIMIT;
        if is_near && self.advertised(now, src, dst, bytes) {
            return true;
        }
        let Ok(message) = icmpv6::Repr::parse(bytes, src, dst) else { return false };
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
                if self.claimed6(target) {
                    return true;
                }
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
                if let Some((from, to)) = self.quoted_datagram6(original) {
                    return is_hard && self.datagram_reported(now, from, to, app);
                }
                self.quoted_segment6(original)
                    .is_some_and(|(tuple, seq)| self.path_reported(now, tuple, seq, None, is_hard, app))
            }
            _ => false,
        }
    }

    /// Somebody asks for an address of ours (RFC 4861 section 7.2.3 and 7.2.4); one without address yet wants
    /// it for itself, and is told so that all hear it.
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
        // RFC 4862 section 5.4.3: who asks from no address wants it, too; others are not answered yet.
        if own.is_tentative(target) {
            return is_anonymous && dst == solicited_node(target) && self.claimed6(target);
        }
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

    /// Somebody has an address that we have asked for. Whether we have.
    fn claimed6(&mut self, addr: Ipv6Addr) -> bool {
        let Some(autoconf) = self.ipv6.as_mut().and_then(|own| own.autoconf.as_mut()) else { return false };
        autoconf.claimed(addr)
    }

    /// A router tells of itself (RFC 4861 section 6.3.4), to who has its addresses from there.
    fn advertised(&mut self, now: Instant, src: Ipv6Addr, dst: Ipv6Addr, bytes: &[u8]) -> bool {
        let Ok(told) = ndp::RouterAdvertisement::parse(bytes, src, dst) else { return false };
        let Some(autoconf) = self.ipv6.as_mut().and_then(|own| own.autoconf.as_mut()) else { return false };
        autoconf.advertised(now, src, &told);
        if let Some(hardware_addr) = told.source {
            self.learn6(now, src, hardware_addr, false);
        }
        true
    }

    /// What is due for addresses that nobody gave us (RFC 4862).
    pub(super) fn poll_autoconf<A: Application>(&mut self, now: Instant, app: &mut A) {
        while let Some(own) = &mut self.ipv6
            && let Some(action) = own.autoconf.as_mut().and_then(|autoconf| autoconf.poll(now))
        {
            match action {
                AutoconfAction::Probe(addr) => {
                    let question = icmpv6::Repr::NeighborSolicitation { target: addr, source: None };
                    let group = solicited_node(addr);
                    let hardware_addr = Some(multicast_hardware(group));
                    self.send_icmpv6(Some(Ipv6Addr::UNSPECIFIED), group, hardware_addr, &question);
                }
                AutoconfAction::Solicit => {
                    let (src, to) = (own.addr_for_reports(), ndp::ALL_ROUTERS);
                    let message = ndp::solicitation(src, self.config.hardware_addr);
                    self.queues.push(Control::Icmpv6(Icmpv6 {
                        hop_limit: icmpv6::NEIGHBOR_HOP_LIMIT,
                        hardware_addr: Some(multicast_hardware(to)),
                        ..Icmpv6::new(src, to, message)
                    }));
                }
                AutoconfAction::Refused(addr) => self.event(Event::Ipv6Refused { addr }),
                AutoconfAction::Changed => {
                    if own.reconfigure() {
                        let addr = own.addr();
                        let addr = (!addr.is_unspecified()).then_some(addr);
                        self.event(Event::Ipv6Changed { addr });
                        self.close_connections(now, false, app);
                    }
                }
            }
        }
    }

    /// Our address in IPv6, if there is one.
    pub fn ipv6_addr(&self) -> Option<Ipv6Addr> {
        self.ipv6.as_ref().map(|own| own.addr()).filter(|addr| !addr.is_unspecified())
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

    /// Sends a message, from an address of ours if none is given (RFC 4861 section 7.1.1: a question that
    /// says where the answer goes never comes from no address); while there is none, nothing goes out.
    pub(super) fn send_icmpv6(
        &mut self,
        from: Option<Ipv6Addr>,
        to: Ipv6Addr,
        hardware_addr: Option<EthernetAddress>,
        message: &icmpv6::Repr<'_>,
    ) {
        let Some(own) = &self.ipv6 else { return };
        let Some(from) = from.or_else(|| own.source()) else { return };
        let mut bytes = vec![0; message.buffer_len()].into_boxed_slice();
        message.emit(from, to, &mut bytes);
        let is_echo = matches!(message, icmpv6::Repr::EchoReply { .. });
        let hop_limit = if is_echo { HOP_LIMIT } else { icmpv6::NEIGHBOR_HOP_LIMIT };
        self.queues.push(Control::Icmpv6(Icmpv6 {
            hardware_addr,
            hop_limit,
            ..Icmpv6::new(from, to, bytes)
        }));
    }

    /// A number for a packet that is sent in fragments, which nobody can tell beforehand (RFC 7739).
    pub(super) fn fragment_ident(&mut self, to: Ipv6Addr) -> u32 {
        self.fragmented = self.fragmented.wrapping_add(1);
        let pair = FourTuple::new((Ipv6Addr::UNSPECIFIED, 0).into(), (to, 0).into());
        self.secret.hash(&pair, self.fragmented) as u32
    }

    /// Of `rest` bytes that are still to be sent of `whole`, how many the next packet takes: all, if the link
    /// takes the whole at once; otherwise no more than every path of IPv6 does, since nobody tells us of a
    /// smaller one.
    pub(super) fn part6(&self, whole: usize, rest: usize) -> usize {
        if whole <= usize::from(self.config.mtu).saturating_sub(ipv6::HEADER_LEN) {
            return rest;
        }
        let room = usize::from(self.config.mtu.min(ipv6::MIN_MTU)) - ipv6::HEADER_LEN - ipv6::FRAGMENT_LEN;
        if rest > room { room & !7 } else { rest }
    }

    /// From where to whom a quoted datagram of ours went.
    fn quoted_datagram6(&self, original: &[u8]) -> Option<((IpAddr, u16), SocketAddr)> {
        let packet = ipv6::Packet::new_unchecked(original.get(..ipv6::HEADER_LEN)?);
        let is_ours = packet.version() == 6 && self.ipv6.as_ref()?.is_ours(packet.src_addr());
        let (mut next, mut rest) = (packet.next_header(), &original[ipv6::HEADER_LEN..]);
        if let (ipv6::NEXT_FRAGMENT, [after, _, 0, 0 | 1, _, _, _, _, first @ ..]) = (next, rest) {
            (next, rest) = (*after, first);
        }
        let (src, dst) = quoted_ports(rest)?;
        let to = SocketAddr::new(packet.dst_addr().into(), dst);
        let from = (packet.src_addr().into(), src);
        (is_ours && Protocol::from(next) == Protocol::Udp).then_some((from, to))
    }

    /// As [`Stack::quoted_segment`]: a packet of ours that is cut short.
    fn quoted_segment6(&self, original: &[u8]) -> Option<(FourTuple, SeqNumber)> {
        let own = self.ipv6.as_ref()?;
        let header = original.get(..ipv6::HEADER_LEN)?;
        let packet = ipv6::Packet::new_unchecked(header);
        // We send no extension headers with segments.
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
