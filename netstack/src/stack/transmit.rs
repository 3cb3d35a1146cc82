//! Transmissions out: headers in a small buffer, payload by reference, and what the device is asked to do.

use std::net::{IpAddr, Ipv4Addr};

use runtime::payload::{Maker, PayloadSource as _, Piece, Pieces};
use runtime::stats::work::{Quantity, count as count_work};
use runtime::time::Instant;
use runtime::transfer::OnesSum;

use super::queue::{Control, Icmp, Icmpv6};
use super::{Application, Features, Stack, Stats};
use crate::dhcp;
use crate::iface::arp_cache::{Hop, Lookup};
use crate::iface::groups::group_hardware;
use crate::tcp::Pcb;
use crate::tcp::segment::Outgoing;
use crate::transmission::{Capabilities, ChecksumRequest, Offload, Payload, Transmission};
use crate::tuple::FourTuple;
use crate::wire::{
    EtherType, EthernetAddress, Protocol, arp, checksum, ethernet, igmp, ipv4, ipv6, tcp, udp,
};

/// Where the payload of IPv4 and of IPv6 begins.
const IPV4_END: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN;
const IPV6_END: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN;

const MAX_HEADERS: usize = IPV6_END + tcp::MAX_HEADER_LEN;

/// Largest payload of a super-segment: the IPv4 length field counts headers too, and the kernel's merged
/// packets end there.
const MAX_SUPER_PAYLOAD: u32 = (ipv4::MAX_PACKET_LEN - ipv6::HEADER_LEN - tcp::MAX_HEADER_LEN) as u32;

/// As many bytes without a known sum are summed where they lie, if that makes the sum of all known.
const SUMMED_IN_PLACE: usize = 512;

/// RFC 1122 section 3.2.1.7 asks for enough; 64 is everyone's number.
const TTL: u8 = 64;

impl Stack {
    /// Makes the next transmission and hands it to `emit`, borrowed from the stack and the application.
    /// `None` when there is nothing to send now. What `emit` fails to send counts as lost on the wire: TCP
    /// recovers, so call this only when the device has room.
    pub fn poll_transmit<A: Application, R>(
        &mut self,
        now: Instant,
        device: &Capabilities,
        app: &mut A,
        emit: impl FnOnce(&Transmission<'_>) -> R,
    ) -> Option<R> {
        self.handle_woken(now, app);
        self.last_transmitted = None;
        while let Some(control) = self.queues.next_control() {
            if let Some((control, to)) = self.resolve_control(now, control) {
                return Some(self.transmit_control(now, control, to, device, emit));
            }
        }
        if !self.may_use_address() {
            return None;
        }
        let supers = device.datagrams && device.checksum && self.config.features.offload;
        // As much as goes into one packet of either family.
        let headers = (ipv6::HEADER_LEN + udp::HEADER_LEN) as u16;
        let max_segment = if supers { self.config.mtu.saturating_sub(headers) } else { 0 };
        while let Some(udp) = self.datagrams.next(max_segment) {
            if let Some((control, to)) = self.resolve_control(now, Control::Udp(udp)) {
                return Some(self.transmit_control(now, control, to, device, emit));
            }
        }
        let device = if self.config.features.offload { *device } else { Capabilities::default() };
        let segmentation =
            device.segmentation.filter(|_| device.checksum).map_or(0, |max| max.min(MAX_SUPER_PAYLOAD));
        while let Some(key) = self.queues.next_ready() {
            let Some((pcb, stream)) = app.connection(key) else { continue };
            if !pcb.link.queued {
                // The key has a new connection that is not in the queue.
                continue;
            }
            let to = match self.resolve_for(now, pcb) {
                Resolved::To(to) => to,
                Resolved::Wait(next_hop) => {
                    self.queues.wait(next_hop, key);
                    continue;
                }
                Resolved::Never => {
                    self.lost_before_the_wire(now, key, pcb);
                    continue;
                }
            };
            let sent_before = pcb.snd.max;
            let mut pieces = Pieces::new();
            let segment = pcb.poll_transmit(now, &stream, segmentation, &self.tcp, &mut pieces);
            let Some(segment) = segment else {
                pcb.link.queued = false;
                self.arm(now, key, pcb);
                continue;
            };
            self.queues.again(key);
            let tuple = pcb.tuple;
            count(&mut self.stats, &segment, segment.seq != sent_before);
            self.arm(now, key, pcb);
            self.last_transmitted = Some(key);
            let payload = match stream.maker() {
                Some(maker) if segment.len > 0 => Unsummed::Made(maker, segment.offset),
                _ => Unsummed::Pieces(&mut pieces),
            };
            return Some(self.transmit_segment(&tuple, to, &segment, payload, &device, emit));
        }
        None
    }

    fn transmit_control<R>(
        &mut self,
        _now: Instant,
        control: Control,
        to: EthernetAddress,
        device: &Capabilities,
        emit: impl FnOnce(&Transmission<'_>) -> R,
    ) -> R {
        match control {
            Control::Tcp { tuple, segment } => {
                count(&mut self.stats, &segment, false);
                self.transmit_segment(&tuple, to, &segment, Unsummed::Pieces(&mut []), device, emit)
            }
            Control::ArpRequest { addr, to: known } => {
                let target = known.unwrap_or_default();
                let own = self.source_for(addr);
                self.transmit_arp(self.arp(arp::Operation::Request, own, addr, target), to, emit)
            }
            Control::ArpProbe(own) => {
                let request = self.arp(arp::Operation::Request, own, own, EthernetAddress::default());
                self.transmit_arp(arp::Repr { sender_protocol: Ipv4Addr::UNSPECIFIED, ..request }, to, emit)
            }
            Control::ArpAnnouncement(own) => {
                let request = self.arp(arp::Operation::Request, own, own, EthernetAddress::default());
                self.transmit_arp(request, to, emit)
            }
            Control::ArpReply { own, addr, to } => {
                self.transmit_arp(self.arp(arp::Operation::Reply, own, addr, to), to, emit)
            }
            Control::Igmp(report) => self.transmit_igmp(&report, to, emit),
            Control::Icmp(icmp) => self.transmit_icmp(icmp, to, emit),
            Control::Dhcp(outgoing) => self.transmit_dhcp(&outgoing, to, emit),
            Control::Icmpv6(icmp) => self.transmit_icmpv6(icmp, to, emit),
            Control::Udp(udp) => self.transmit_udp(udp, to, emit),
        }
    }

    /// An ICMP message, or its next fragment (RFC 791 section 3.2).
    fn transmit_icmp<R>(
        &mut self,
        mut icmp: Icmp,
        to: EthernetAddress,
        emit: impl FnOnce(&Transmission<'_>) -> R,
    ) -> R {
        let room = usize::from(self.config.mtu).saturating_sub(ipv4::HEADER_LEN).max(8);
        let rest = icmp.message.len() - icmp.sent;
        let more = rest > room;
        let len = if more { room & !7 } else { rest };
        let mut headers = [0; IPV4_END];
        let from = icmp.from.unwrap_or(self.config.ipv4_addr);
        self.ipv4_headers(&mut headers, to, (from, icmp.to), Protocol::Icmp, len, 0);
        if more || icmp.sent > 0 {
            let mut packet = ipv4::Packet::new_unchecked(&mut headers[ethernet::HEADER_LEN..]);
            if icmp.sent == 0 {
                icmp.ident = packet.ident();
            }
            packet.set_ident(icmp.ident);
            packet.set_fragment(icmp.sent, more);
        }
        let payload = [Piece::new(&icmp.message[icmp.sent..icmp.sent + len])];
        let result = emit(&Transmission {
            headers: &headers,
            payload: Payload::Pieces(&payload),
            payload_len: len,
            tcp_start: None,
            offload: Offload::default(),
        });
        if more {
            icmp.sent += len;
            self.queues.go_on(Control::Icmp(icmp));
        }
        result
    }

    fn transmit_dhcp<R>(
        &mut self,
        outgoing: &dhcp::OutgoingMessage,
        to: EthernetAddress,
        emit: impl FnOnce(&Transmission<'_>) -> R,
    ) -> R {
        let (src_addr, datagram) = Self::dhcp_datagram(outgoing);
        let mut headers = [0; IPV4_END];
        let payload_len = datagram.len();
        self.ipv4_headers(&mut headers, to, (src_addr, outgoing.to), Protocol::Udp, payload_len, 0);
        emit(&Transmission {
            headers: &headers,
            payload: Payload::Pieces(&[Piece::new(&datagram)]),
            payload_len,
            tcp_start: None,
            offload: Offload::default(),
        })
    }

    fn transmit_icmpv6<R>(
        &mut self,
        mut icmp: Icmpv6,
        to: EthernetAddress,
        emit: impl FnOnce(&Transmission<'_>) -> R,
    ) -> R {
        let whole = icmp.message.len();
        let rest = whole - icmp.sent;
        let len = self.part6(whole, rest);
        let is_part = len < whole;
        if is_part && icmp.sent == 0 {
            icmp.ident = self.fragment_ident(icmp.to);
        }
        let fragment = ipv6::Ipv6Fragment {
            next_header: Protocol::Icmpv6.into(),
            ident: icmp.ident,
            offset: icmp.sent,
            more: len < rest,
            payload: &[],
        };
        let (protocol, extension): (Protocol, [u8; 8]) = if is_part {
            (ipv6::NEXT_FRAGMENT.into(), fragment.header())
        } else if icmp.router_alert {
            (ipv6::NEXT_HOP_BY_HOP.into(), ipv6::ROUTER_ALERT)
        } else {
            (Protocol::Icmpv6, [0; 8])
        };
        let extension_len = if protocol == Protocol::Icmpv6 { 0 } else { extension.len() };
        let mut headers = [0; IPV6_END + 8];
        let ip = ipv6::Repr {
            src_addr: icmp.from,
            dst_addr: icmp.to,
            protocol,
            payload_len: extension_len + len,
            hop_limit: icmp.hop_limit,
        };
        self.ipv6_headers(&mut headers, to, &ip);
        headers[IPV6_END..].copy_from_slice(&extension);
        let result = emit(&Transmission {
            headers: &headers[..IPV6_END + extension_len],
            payload: Payload::Pieces(&[Piece::new(&icmp.message[icmp.sent..icmp.sent + len])]),
            payload_len: len,
            tcp_start: None,
            offload: Offload::default(),
        });
        if len < rest {
            icmp.sent += len;
            self.queues.go_on(Control::Icmpv6(icmp));
        }
        result
    }

    /// A packet of ours, from our address `own`, about `addr`.
    fn arp(
        &self,
        operation: arp::Operation,
        own: Ipv4Addr,
        addr: Ipv4Addr,
        target_hardware: EthernetAddress,
    ) -> arp::Repr {
        arp::Repr {
            operation,
            sender_hardware: self.config.hardware_addr,
            sender_protocol: own,
            target_hardware,
            target_protocol: addr,
        }
    }

    fn transmit_arp<R>(
        &mut self,
        packet: arp::Repr,
        to: EthernetAddress,
        emit: impl FnOnce(&Transmission<'_>) -> R,
    ) -> R {
        let mut frame = [0; ethernet::HEADER_LEN + arp::PACKET_LEN];
        self.ethernet_header(&mut frame, to, EtherType::Arp);
        packet.emit(&mut arp::Packet::new_unchecked(&mut frame[ethernet::HEADER_LEN..]));
        emit(&Transmission {
            headers: &frame,
            payload: Payload::NONE,
            payload_len: 0,
            tcp_start: None,
            offload: Offload::default(),
        })
    }

    /// Writes the headers of a segment and decides who completes its checksum: the device; or nobody any
    /// more, when all sums are at hand; or whoever copies the payload into the frame, who sums then only what
    /// is not.
    fn transmit_segment<R>(
        &mut self,
        tuple: &FourTuple,
        to: EthernetAddress,
        segment: &Outgoing,
        mut payload: Unsummed<'_, '_>,
        device: &Capabilities,
        emit: impl FnOnce(&Transmission<'_>) -> R,
    ) -> R {
        let payload_len = segment.len as usize;
        let addresses = tuple.addresses_sum();
        let repr = tcp::Repr {
            src_port: tuple.local_port(),
            dst_port: tuple.remote_port(),
            seq_number: segment.seq.0,
            ack_number: segment.ack.0,
            flags: segment.flags,
            window: segment.window,
            options: segment.options,
        };
        let header_len = repr.header_len();
        let mut buffer = [0; MAX_HEADERS];
        let ip_payload_len = header_len + payload_len;
        let ecn = if segment.may_mark { ipv4::ECN_ECT_0 } else { 0 };
        let tcp_start = if let Some(addrs) = tuple.ipv4_addrs() {
            self.ipv4_headers(&mut buffer, to, addrs, Protocol::Tcp, ip_payload_len, ecn);
            if segment.may_fragment {
                ipv4::Packet::new_unchecked(&mut buffer[ethernet::HEADER_LEN..]).set_fragment(0, false);
            }
            IPV4_END
        } else {
            let (src_addr, dst_addr) = tuple.wide_addrs();
            let protocol = Protocol::Tcp;
            let ip = ipv6::Repr { src_addr, dst_addr, protocol, payload_len: ip_payload_len, hop_limit: TTL };
            self.ipv6_headers(&mut buffer, to, &ip);
            if segment.may_mark {
                ipv6::Packet::new_unchecked(&mut buffer[ethernet::HEADER_LEN..]).set_ecn(ecn);
            }
            IPV6_END
        };
        let headers = &mut buffer[..tcp_start + header_len];
        let mut packet = tcp::Packet::new_unchecked(&mut headers[tcp_start..]);
        repr.emit(&mut packet);

        let mut offload = Offload::default();
        let start = tcp_start as u16;
        let mut tcp_start = Some(start);
        if device.checksum && self.config.features.offload {
            packet.fill_partial_checksum_of(addresses, payload_len);
            offload.checksum = Some(ChecksumRequest { start, offset: tcp::CHECKSUM_OFFSET as u16 });
            if segment.len > u32::from(segment.mss) {
                offload.segment_size = Some(segment.mss);
            }
        } else if let Unsummed::Pieces(pieces) = &mut payload
            && let Some(sum) = self.known_sum(pieces)
        {
            packet.fill_checksum_of(addresses, sum, payload_len);
            tcp_start = None;
        } else {
            packet.fill_partial_checksum_of(addresses, payload_len);
        }
        let payload = match payload {
            Unsummed::Pieces(pieces) => Payload::Pieces(pieces),
            Unsummed::Made(maker, offset) => Payload::Made(maker, offset),
        };
        emit(&Transmission { headers, payload, payload_len, tcp_start, offload })
    }

    /// Finds out what can be known of the pieces' sums: stored, remembered, or else, of few bytes, made. The
    /// sum of all, if each is known then.
    fn known_sum(&mut self, pieces: &mut [Piece<'_>]) -> Option<u16> {
        let read = |bytes: &[u8]| {
            count_work(Quantity::BytesSummed, bytes.len());
            count_work(Quantity::BytesTouched, bytes.len());
            checksum::sum(bytes)
        };
        let Features { stored_sums, cached_sums, .. } = self.config.features;
        let mut unknown = 0;
        for piece in &mut *pieces {
            let len = piece.bytes.len();
            if !stored_sums {
                (piece.sum, piece.stored) = (None, None);
            }
            if piece.sum.is_some() {
                count_work(Quantity::BytesOfKnownSum, len);
            } else if let Some(stored) = piece.stored {
                let (sum, edges) = stored.sum(piece.bytes, read);
                piece.sum = Some(sum);
                count_work(Quantity::BytesOfKnownSum, len - edges);
            } else if cached_sums && let Some((sum, known)) = self.sums.sum(piece, read) {
                piece.sum = Some(sum);
                count_work(Quantity::BytesOfKnownSum, if known { len } else { 0 });
            } else {
                unknown += len;
            }
        }
        // A response's head before the stored sums of its body: reading it twice costs less than the loop
        // over the body.
        if unknown > 0 && unknown <= SUMMED_IN_PLACE && pieces.iter().any(|piece| piece.sum.is_some()) {
            for piece in pieces.iter_mut().filter(|piece| piece.sum.is_none()) {
                piece.sum = Some(read(piece.bytes));
            }
        }
        let mut sum = OnesSum::new();
        for piece in pieces.iter() {
            sum.append(piece.sum?, piece.bytes.len());
        }
        Some(sum.value())
    }

    pub(super) fn ipv6_headers(&self, headers: &mut [u8], to: EthernetAddress, ip: &ipv6::Repr) {
        self.ethernet_header(headers, to, EtherType::Ipv6);
        ip.emit(&mut ipv6::Packet::new_unchecked(&mut headers[ethernet::HEADER_LEN..]));
    }

    pub(super) fn ipv4_headers(
        &mut self,
        headers: &mut [u8],
        to: EthernetAddress,
        (src_addr, dst_addr): (Ipv4Addr, Ipv4Addr),
        protocol: Protocol,
        payload_len: usize,
        ecn: u8,
    ) {
        self.ethernet_header(headers, to, EtherType::Ipv4);
        // No two stacks with our address give the same.
        self.ip_ident = self.ip_ident.wrapping_add(self.config.share.count() as u16);
        let ip =
            ipv4::Repr { src_addr, dst_addr, protocol, payload_len, ttl: TTL, ident: self.ip_ident, ecn };
        ip.emit(&mut ipv4::Packet::new_unchecked(&mut headers[ethernet::HEADER_LEN..]));
    }

    fn ethernet_header(&self, headers: &mut [u8], dst_addr: EthernetAddress, ethertype: EtherType) {
        let header = ethernet::Repr { src_addr: self.config.hardware_addr, dst_addr, ethertype };
        header.emit(&mut ethernet::Frame::new_unchecked(headers));
    }

    /// The frame's destination for a packet of our own making. A packet that must wait is put aside.
    fn resolve_control(&mut self, now: Instant, control: Control) -> Option<(Control, EthernetAddress)> {
        let addr = match &control {
            Control::ArpRequest { to, .. } => {
                let to = to.unwrap_or(EthernetAddress::BROADCAST);
                return Some((control, to));
            }
            Control::ArpProbe(_) | Control::ArpAnnouncement(_) => {
                return Some((control, EthernetAddress::BROADCAST));
            }
            &Control::ArpReply { to, .. } => return Some((control, to)),
            Control::Tcp { tuple, .. } => tuple.remote_addr(),
            Control::Icmp(icmp) => icmp.to.into(),
            Control::Dhcp(outgoing) if outgoing.to.is_broadcast() => {
                return Some((control, EthernetAddress::BROADCAST));
            }
            Control::Dhcp(outgoing) => outgoing.to.into(),
            Control::Icmpv6(Icmpv6 { hardware_addr: Some(to), .. }) => {
                let to = *to;
                return Some((control, to));
            }
            Control::Icmpv6(icmp) => icmp.to.into(),
            Control::Igmp(_) => return Some((control, group_hardware(igmp::ALL_ROUTERS))),
            Control::Udp(udp) => {
                if !self.is_usable_source(udp.from, udp.to.ip()) {
                    return None;
                }
                if let Some(to) = self.many_hardware(udp.to.ip()) {
                    return (udp.may_broadcast || !to.is_broadcast()).then_some((control, to));
                }
                udp.to.ip()
            }
        };
        match self.resolve(now, addr).0 {
            Resolved::To(to) => Some((control, to)),
            Resolved::Wait(next_hop) => {
                self.queues.wait_control(next_hop, control);
                None
            }
            Resolved::Never => None,
        }
    }

    /// The frame's destination for a segment of the connection, which keeps where its next hop stands:
    /// neither routes nor neighbours are searched while both are what they were.
    #[inline]
    fn resolve_for(&mut self, now: Instant, pcb: &mut Pcb) -> Resolved {
        let found = if pcb.tuple.is_ipv4() {
            self.arp.find(now, pcb.snd.hop)
        } else {
            self.ipv6.as_mut().and_then(|own| own.neighbors.find(now, pcb.snd.hop))
        };
        if let Some(to) = found {
            return Resolved::To(to);
        }
        let (resolved, hop) = self.resolve(now, pcb.tuple.remote_addr());
        pcb.snd.hop = hop;
        resolved
    }

    fn resolve(&mut self, now: Instant, addr: IpAddr) -> (Resolved, Hop) {
        const NEVER: (Resolved, Hop) = (Resolved::Never, Hop::NONE);
        let (next_hop, (found, hop)) = match addr {
            IpAddr::V4(addr) => {
                let Some(next_hop) = self.routes.next_hop(addr) else { return NEVER };
                (next_hop.into(), self.arp.lookup_hop(now, next_hop))
            }
            IpAddr::V6(addr) => {
                let Some(own) = &mut self.ipv6 else { return NEVER };
                let Some(next_hop) = own.next_hop(addr) else { return NEVER };
                (next_hop.into(), own.neighbors.lookup_hop(now, next_hop))
            }
        };
        let resolved = match found {
            Lookup::Found(to) => Resolved::To(to),
            // The request goes out by handle_timeout, which is due at once now.
            Lookup::Pending => Resolved::Wait(next_hop),
            Lookup::Unreachable => Resolved::Never,
        };
        (resolved, hop)
    }
}

/// A segment's payload before its checksum was thought of.
enum Unsummed<'p, 'a> {
    Pieces(&'p mut [Piece<'a>]),
    Made(&'a dyn Maker, u64),
}

enum Resolved {
    To(EthernetAddress),
    /// For the hardware address of this next hop.
    Wait(IpAddr),
    Never,
}

fn count(stats: &mut Stats, segment: &Outgoing, again: bool) {
    stats.segments_out += 1;
    stats.payload_out += u64::from(segment.len);
    stats.resets_out += u64::from(segment.flags.rst());
    if again {
        stats.payload_retransmitted += u64::from(segment.len);
    }
}
