//! Frames in: Ethernet, ARP, IPv4 (IPv6 is in `ipv6`), ICMP, UDP (in `udp`), and TCP to the connection, the
//! backlog, TIME-WAIT or a listener.

use std::net::{IpAddr, SocketAddr};

use runtime::time::Instant;

use super::queue::Control;
use super::{Application, Event, FastOpenConfig, Key, Stack};
use crate::iface::acd::Claim;
use crate::iface::reassembly::{Added, DatagramId, Fragment};
use crate::tcp::fast_open;
use crate::tcp::isn::Secret;
use crate::tcp::listener::{self, Answer, HalfOpen};
use crate::tcp::pcb::{Agreed, Pcb};
use crate::tcp::segment::Segment;
use crate::tcp::seq::SeqNumber;
use crate::tcp::state::{State, closed, synchronized};
use crate::tcp::syn_cookie;
use crate::tcp::time_wait;
use crate::tcp::{CloseReason, Stream};
use crate::transmission::RxChecksum;
use crate::tuple::FourTuple;
use crate::wire::tcp::{FastOpen, Flags};
use crate::wire::{EtherType, EthernetAddress, Protocol, arp, ethernet, igmp, ipv4, ipv6, tcp};

/// Datagrams of others that wait to be passed on.
const MAX_STRAYS: usize = 16;

/// Text below this is not worth finding its connection twice for.
const PLACED_MIN: usize = 256;

/// How far a new initial sequence number lies after the old connection's last, when the clock alone would not
/// bring it there (RFC 9293 section 3.6.1).
const REOPEN_STEP: u32 = 64_000;

impl Stack {
    /// Takes in one frame (from the Ethernet header on, without FCS). Whatever it holds, no panic and no
    /// unbounded work comes of it; what is not for us is ignored.
    pub fn handle_frame<A: Application>(
        &mut self,
        now: Instant,
        frame: &[u8],
        checksum: RxChecksum,
        app: &mut A,
    ) {
        if !self.ethernet_input(now, frame, checksum, app) {
            self.stats.ignored += 1;
        }
    }

    /// Whether the frame was of use; so below.
    fn ethernet_input<A: Application>(
        &mut self,
        now: Instant,
        bytes: &[u8],
        checksum: RxChecksum,
        app: &mut A,
    ) -> bool {
        let Ok(frame) = ethernet::Frame::new_checked(bytes) else { return false };
        let dst = frame.dst_addr();
        let for_us = dst == self.config.hardware_addr;
        // A frame from our own address is our own, heard back.
        let for_group = dst.is_multicast() && self.ipv6.as_ref().is_some_and(|own| own.hears(dst));
        let for_many = dst.is_multicast() && self.hears_many(dst);
        if !(for_us || dst.is_broadcast() || for_group || for_many)
            || frame.src_addr() == self.config.hardware_addr
        {
            return false;
        }
        match frame.ethertype() {
            EtherType::Ipv4 if for_us || for_many || (dst.is_broadcast() && self.dhcp.is_some()) => {
                self.ipv4_input(now, frame.payload(), checksum, for_us, app)
            }
            EtherType::Ipv6 if for_us || for_group => self.ipv6_input(now, frame.payload(), checksum, app),
            EtherType::Arp => self.arp_input(now, frame.payload()),
            _ => false,
        }
    }

    /// RFC 826's algorithm, with RFC 5227 for our own address.
    fn arp_input(&mut self, now: Instant, bytes: &[u8]) -> bool {
        let Ok(packet) = arp::Packet::new_checked(bytes) else { return false };
        let Ok(arp) = arp::Repr::parse(&packet) else { return false };
        if self.config.ipv4_addr.is_unspecified() {
            return false;
        }
        let for_us = self.routes.is_ours(arp.target_protocol);
        let is_probe = for_us && arp.sender_protocol.is_unspecified();
        let is_claim = self.routes.is_ours(arp.sender_protocol);
        if self.config.share.is_first() && (is_claim || is_probe) {
            let hardware_addr = arp.sender_hardware;
            let addr = if is_claim { arp.sender_protocol } else { arp.target_protocol };
            match self.detector_of(addr).claimed(now, is_probe) {
                // Whoever repeats the claim must neither fill the log nor make us fill the link.
                Claim::Ignored => {}
                Claim::Defend => {
                    self.queues.push(Control::ArpAnnouncement(addr));
                    self.event(Event::AddressConflict { addr, hardware_addr });
                }
                Claim::Refused => self.event(Event::AddressRefused { addr, hardware_addr }),
            }
        }
        let asked = if for_us { arp.target_protocol } else { self.config.ipv4_addr };
        if is_claim || !self.detector_of(asked).is_usable() {
            return false;
        }
        if self.routes.is_on_link(arp.sender_protocol)
            && self.arp.learn(now, arp.sender_protocol, arp.sender_hardware, for_us)
        {
            self.queues.resolved(arp.sender_protocol.into());
        }
        let asks_us = for_us && arp.operation == arp::Operation::Request;
        if asks_us && self.config.share.is_first() && arp.sender_hardware.is_unicast() {
            self.queues.push(Control::ArpReply {
                own: arp.target_protocol,
                addr: arp.sender_protocol,
                to: arp.sender_hardware,
            });
        }
        true
    }

    fn ipv4_input<A: Application>(
        &mut self,
        now: Instant,
        bytes: &[u8],
        checksum: RxChecksum,
        is_for_one: bool,
        app: &mut A,
    ) -> bool {
        let Ok(packet) = ipv4::Packet::new_checked(bytes) else { return false };
        let Ok(ip) = ipv4::Repr::parse(&packet) else {
            self.stats.bad_checksums += 1;
            return false;
        };
        if !packet.is_fragment() && self.dhcp_input(now, &ip, packet.payload(), checksum, app) {
            return true;
        }
        // RFC 1122 section 3.2.1.3: no group or nonsense as source; we are no router.
        if !self.may_use_address() {
            return false;
        }
        if !is_for_one {
            if u8::from(ip.protocol) == igmp::PROTOCOL {
                return self.igmp_input(now, ip.src_addr, packet.payload());
            }
            if !self.is_for_group4(&ip) {
                return false;
            }
        } else if !self.routes.is_ours(ip.dst_addr)
            || !self.detector_of(ip.dst_addr).is_usable()
            || self.routes.is_ours(ip.src_addr)
            || !self.routes.is_unicast(ip.src_addr)
        {
            return false;
        }
        if packet.is_fragment() {
            return self.fragment_input(now, bytes, &packet, &ip, app);
        }
        self.datagram_input(now, &ip, packet.payload(), checksum, app)
    }

    /// A part of a datagram; the whole, if it is the last one that was missing.
    fn fragment_input<A: Application>(
        &mut self,
        now: Instant,
        bytes: &[u8],
        packet: &ipv4::Packet<&[u8]>,
        ip: &ipv4::Repr,
        app: &mut A,
    ) -> bool {
        if !matches!(ip.protocol, Protocol::Tcp | Protocol::Icmp | Protocol::Udp) {
            return false;
        }
        self.stats.fragments_in += 1;
        let offset = packet.fragment_offset();
        // What was for many is nothing to complain of (RFC 1122 section 3.2.2).
        let is_ours = self.routes.is_ours(ip.dst_addr);
        let is_quotable = is_ours && offset == 0 && packet.header_len() == ipv4::HEADER_LEN;
        let id = DatagramId {
            src: ip.src_addr.into(),
            dst: ip.dst_addr.into(),
            protocol: ip.protocol.into(),
            ident: ip.ident.into(),
        };
        let fragment = Fragment {
            id,
            offset,
            more: packet.more_fragments(),
            payload: packet.payload(),
            quote: bytes.first_chunk().copied().filter(|_| is_quotable),
        };
        match self.fragments.add(now, &fragment) {
            Added::Kept => true,
            Added::Dropped => {
                self.stats.fragments_dropped += 1;
                false
            }
            Added::Complete(payload) => {
                self.stats.reassembled += 1;
                let ip = ipv4::Repr { payload_len: payload.len(), ..*ip };
                if self.is_anothers((ip.src_addr.into(), ip.dst_addr.into()), ip.protocol, ip.ecn, &payload) {
                    return true;
                }
                // What a device knows of checksums, it knows of frames.
                self.datagram_input(now, &ip, &payload, RxChecksum::Unknown, app)
            }
        }
    }

    /// Puts a datagram aside that belongs to another stack, as only its ports tell, which fragments but the
    /// first do not have.
    pub(super) fn is_anothers(
        &mut self,
        (src, dst): (IpAddr, IpAddr),
        protocol: Protocol,
        ecn: u8,
        payload: &[u8],
    ) -> bool {
        let share = self.config.share;
        let owner = share.owner_of_datagram(src, payload);
        if share.count() == 1
            || !matches!(protocol, Protocol::Tcp | Protocol::Udp)
            || owner.is_none_or(|owner| owner == share.index())
        {
            return false;
        }
        if self.strays.len() < MAX_STRAYS {
            let own = self.config.hardware_addr;
            let payload_len = payload.len();
            let (ethertype, ip_len) = match src {
                IpAddr::V4(_) => (EtherType::Ipv4, ipv4::HEADER_LEN),
                IpAddr::V6(_) => (EtherType::Ipv6, ipv6::HEADER_LEN),
            };
            let header = ethernet::Repr { src_addr: EthernetAddress([0; 6]), dst_addr: own, ethertype };
            let mut frame = vec![0; ethernet::HEADER_LEN + ip_len];
            header.emit(&mut ethernet::Frame::new_unchecked(&mut frame[..]));
            let packet = &mut frame[ethernet::HEADER_LEN..];
            match (src, dst) {
                (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
                    let (ttl, ident) = (64, 0);
                    ipv4::Repr { src_addr, dst_addr, protocol, payload_len, ttl, ident, ecn }
                        .emit(&mut ipv4::Packet::new_unchecked(packet));
                }
                (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
                    let mut packet = ipv6::Packet::new_unchecked(packet);
                    ipv6::Repr { src_addr, dst_addr, protocol, payload_len, hop_limit: 64 }.emit(&mut packet);
                    packet.set_ecn(ecn);
                }
                _ => return true,
            }
            frame.extend_from_slice(payload);
            self.strays.push_back(frame);
        }
        true
    }

    /// A frame put together here that belongs to another stack.
    pub(crate) fn next_stray(&mut self) -> Option<Vec<u8>> {
        self.strays.pop_front()
    }

    fn datagram_input<A: Application>(
        &mut self,
        now: Instant,
        ip: &ipv4::Repr,
        payload: &[u8],
        checksum: RxChecksum,
        app: &mut A,
    ) -> bool {
        match ip.protocol {
            _ if !self.routes.is_ours(ip.dst_addr) => {
                let addrs = (ip.src_addr.into(), ip.dst_addr.into());
                ip.protocol == Protocol::Udp && self.udp_to_many(now, addrs, payload, checksum, app)
            }
            Protocol::Tcp => {
                let addrs = (ip.src_addr.into(), ip.dst_addr.into());
                self.tcp_input(now, addrs, payload, checksum, ip.ecn == ipv4::ECN_CE, app)
            }
            Protocol::Icmp => self.icmp_input(now, (ip.src_addr, ip.dst_addr), payload, app),
            Protocol::Udp => self.udp_input4(now, ip, payload, checksum, app),
            _ => false,
        }
    }

    pub(super) fn tcp_input<A: Application>(
        &mut self,
        now: Instant,
        (src, dst): (IpAddr, IpAddr),
        bytes: &[u8],
        checksum: RxChecksum,
        is_congested: bool,
        app: &mut A,
    ) -> bool {
        let Ok(packet) = tcp::Packet::new_checked(bytes) else { return false };
        if checksum == RxChecksum::Unknown {
            let placed = self.place(src, dst, &packet, app);
            let payload = placed.map(|(_, sum)| sum);
            let holds = packet.verify_checksum_with(src, dst, payload);
            if let Some((key, _)) = placed {
                // Whatever becomes of it: what was placed and not received is forgotten.
                let taken = holds && {
                    self.stats.payload_placed += packet.payload().len() as u64;
                    self.tcp_input(now, (src, dst), bytes, RxChecksum::Valid, is_congested, app)
                };
                if let Some((_, mut stream)) = app.connection(key) {
                    stream.forget_placed();
                }
                self.stats.bad_checksums += u64::from(!holds);
                return taken;
            }
            if !holds {
                self.stats.bad_checksums += 1;
                return false;
            }
        }
        let Ok(header) = tcp::Repr::parse(&packet) else { return false };
        let tuple =
            FourTuple::new(SocketAddr::new(dst, header.dst_port), SocketAddr::new(src, header.src_port));
        let segment = Segment::new(&header, packet.urgent_pointer(), packet.payload(), is_congested);
        self.stats.segments_in += 1;
        if let Some(&key) = self.demux.get(&tuple)
            && self.connection_input(now, &tuple, key, &segment, app)
        {
            return true;
        }
        self.no_connection_input(now, tuple, &segment, app);
        true
    }

    /// Has a segment's text copied to where it stays and summed in one loop, before it is verified, if it is
    /// next in order of a connection that takes it so: whose, and the sum.
    fn place<A: Application>(
        &self,
        src: IpAddr,
        dst: IpAddr,
        packet: &tcp::Packet<&[u8]>,
        app: &mut A,
    ) -> Option<(Key, u16)> {
        let text = packet.payload();
        let plain = Flags::ACK | Flags::PSH | Flags::FIN;
        if !self.config.features.placed_input
            || text.len() < PLACED_MIN
            || packet.flags().without(plain) != Flags(0)
        {
            return None;
        }
        let tuple =
            FourTuple::new(SocketAddr::new(dst, packet.dst_port()), SocketAddr::new(src, packet.src_port()));
        let &key = self.demux.get(&tuple)?;
        let (pcb, mut stream) = app.connection(key)?;
        let is_next = pcb.tuple == tuple
            && matches!(pcb.state, State::Established(_))
            && !pcb.link.early
            && pcb.rcv.nxt == SeqNumber(packet.seq_number())
            && pcb.rcv.adv.since(pcb.rcv.nxt) as usize >= text.len()
            && pcb.rcv.assembler.is_none();
        if !is_next {
            return None;
        }
        Some((key, stream.place(text)?))
    }

    /// A segment for a connection. False if the application does not know the connection any more.
    fn connection_input<A: Application>(
        &mut self,
        now: Instant,
        tuple: &FourTuple,
        key: Key,
        segment: &Segment<'_>,
        app: &mut A,
    ) -> bool {
        let Some((pcb, mut stream)) = app.connection(key) else {
            self.demux.remove(tuple);
            return false;
        };
        if pcb.tuple != *tuple {
            self.demux.remove(tuple);
            return false;
        }
        if pcb.link.in_time_wait {
            let answer = pcb.time_wait_record(now).segment_arrives(now, segment);
            drop(stream);
            self.time_wait_block_input(now, *tuple, key, segment, answer, app);
            return true;
        }
        if pcb.link.early
            && let Some(record) = self.backlog.get_mut(tuple)
        {
            match record.early_segment_arrives(now, segment, pcb.snd.max, &self.tcp) {
                None => {}
                Some(Answer::Complete(agreed)) => {
                    pcb.handshake_completed(&agreed, &self.tcp);
                    pcb.link.early = false;
                    self.drop_half_open(tuple);
                }
                Some(Answer::Send(answer)) => {
                    self.send_bare(*tuple, answer);
                    return true;
                }
                Some(_) => return true,
            }
        }
        let config =
            if self.reassembly_bytes < self.config.reassembly_bytes { &self.tcp } else { &self.tcp_in_order };
        let disposition = pcb.segment_arrives(now, segment, &mut stream, config);
        let closed = self.settle(now, key, pcb, &mut stream, disposition);
        drop(stream);
        if let Some(reason) = closed {
            app.closed(now, key, reason);
        }
        true
    }

    /// A segment for a connection in TIME-WAIT whose block was kept, and what it calls for.
    fn time_wait_block_input<A: Application>(
        &mut self,
        now: Instant,
        tuple: FourTuple,
        key: Key,
        segment: &Segment<'_>,
        answer: time_wait::Answer,
        app: &mut A,
    ) {
        match answer {
            time_wait::Answer::Nothing => {}
            time_wait::Answer::Send(answer) => self.send_bare(tuple, answer),
            time_wait::Answer::Restart(answer) => {
                self.send_bare(tuple, answer);
                if let Some((pcb, _)) = app.connection(key) {
                    pcb.enter_time_wait(now, now + self.config.time_wait);
                }
            }
            time_wait::Answer::Reopen { after } => {
                if let Some((pcb, _)) = app.connection(key) {
                    self.forget(pcb);
                }
                app.closed(now, key, CloseReason::Finished);
                self.listener_input(now, tuple, segment, Some(after), app);
            }
        }
    }

    /// A segment for a half-open connection, one in TIME-WAIT, a listener, or nobody.
    fn no_connection_input<A: Application>(
        &mut self,
        now: Instant,
        tuple: FourTuple,
        segment: &Segment<'_>,
        app: &mut A,
    ) {
        if self.backlog.get_mut(&tuple).is_some_and(|record| record.early.is_some()) {
            // Its connection is gone without a word.
            self.drop_half_open(&tuple);
        }
        if let Some(half_open) = self.backlog.get_mut(&tuple) {
            let answer = half_open.segment_arrives(now, segment, &self.tcp);
            self.half_open_input(now, tuple, segment, answer, app);
            return;
        }
        let after = match self.time_wait.segment_arrives(now, &tuple, segment) {
            Some(time_wait::Answer::Nothing) => return,
            Some(time_wait::Answer::Send(answer) | time_wait::Answer::Restart(answer)) => {
                return self.send_bare(tuple, answer);
            }
            Some(time_wait::Answer::Reopen { after }) => Some(after),
            None => None,
        };
        self.listener_input(now, tuple, segment, after, app);
    }

    /// A segment for a listener, or nobody. `after` is where the sequence numbers of a former connection of
    /// the same pair ended.
    fn listener_input<A: Application>(
        &mut self,
        now: Instant,
        tuple: FourTuple,
        segment: &Segment<'_>,
        after: Option<SeqNumber>,
        app: &mut A,
    ) {
        if !self.ports.contains(&tuple.local_port()) && !self.places.contains(&tuple.local()) {
            // RFC 9293 section 3.10.7.1
            if let Some(reset) = closed::reset_for(segment) {
                self.send_bare(tuple, reset);
            }
            return;
        }
        if self.cookies_until.is_some_and(|until| now <= until)
            && let Some(agreed) =
                syn_cookie::check(now, &self.secret, &tuple, segment, self.link_mss(&tuple), &self.tcp)
        {
            return self.complete(now, tuple, &agreed, segment, app);
        }
        match listener::on_listen(segment) {
            Ok(()) => self.syn_input(now, tuple, segment, after, app),
            Err(Some(reset)) => self.send_bare(tuple, reset),
            Err(None) => {}
        }
    }

    /// A SYN for a listener.
    fn syn_input<A: Application>(
        &mut self,
        now: Instant,
        tuple: FourTuple,
        segment: &Segment<'_>,
        after: Option<SeqNumber>,
        app: &mut A,
    ) {
        if self.backlog.is_full() {
            let answer =
                syn_cookie::syn_ack(now, &self.secret, &tuple, segment, self.link_mss(&tuple), &self.tcp);
            self.cookies_sent += 1;
            self.cookies_until = Some(now + syn_cookie::LIFETIME);
            return self.send_bare(tuple, answer);
        }
        let mut iss = self.secret.initial_seq(&tuple, now);
        if let Some(last) = after
            && iss.le(last)
        {
            iss = last + REOPEN_STEP;
        }
        let ts_offset = self.secret.timestamp_offset(&tuple);
        let mut half_open = HalfOpen::new(now, segment, iss, ts_offset, self.link_mss(&tuple), &self.tcp);
        if let Some(config) = self.config.fast_open
            && let Some(option) = segment.options.fast_open
        {
            self.fast_open(now, tuple, segment, (option, config), &mut half_open, app);
        }
        let answer = half_open.syn_ack(now, &self.tcp);
        let number = self.backlog.insert(tuple, half_open);
        let id = self.half_open_wheel.schedule(now + self.tcp.initial_rto, (tuple, number));
        if let Some(half_open) = self.backlog.get_mut(&tuple) {
            half_open.timer = Some(id);
        }
        self.send_bare(tuple, answer);
    }

    /// A SYN asks for Fast Open (RFC 7413 section 4.2.2): for a cookie, or to begin at once, with its text.
    fn fast_open<A: Application>(
        &mut self,
        now: Instant,
        tuple: FourTuple,
        segment: &Segment<'_>,
        (option, config): (FastOpen, FastOpenConfig),
        half_open: &mut HalfOpen,
        app: &mut A,
    ) {
        let secret = Secret::new(config.key);
        let valid = match option {
            FastOpen::Cookie(cookie) => fast_open::check(&secret, now, &tuple, cookie),
            FastOpen::Request | FastOpen::Foreign => None,
        };
        if valid != Some(fast_open::CookieLifetime::Current) {
            half_open.cookie = Some(fast_open::cookie(&secret, now, &tuple));
        }
        if valid.is_none()
            || segment.payload.is_empty()
            || self.backlog.early() >= config.pending
            || self.demux.contains(&tuple)
        {
            return;
        }
        // The window of a SYN is not scaled.
        let agreed = half_open.agreed(now, segment.window.into(), &self.tcp);
        let pcb = Pcb::established(tuple, &Agreed { rtt: None, ..agreed }, now, &self.tcp);
        let Some(key) = app.accept(now, pcb) else { return };
        self.stats.accepted += 1;
        self.stats.fast_opened += 1;
        self.demux.insert(tuple, key);
        let Some((pcb, mut stream)) = app.connection(key) else { return };
        let text = Segment { seq: segment.seq + 1, flags: segment.flags.without(Flags::SYN), ..*segment };
        let disposition = synchronized::text_and_fin(pcb, now, &text, &mut stream, &self.tcp);
        half_open.early = Some(pcb.rcv.nxt - text.seq);
        pcb.link.early = true;
        pcb.acknowledged_by_syn_ack();
        let closed = self.settle(now, key, pcb, &mut stream, disposition);
        drop(stream);
        if let Some(reason) = closed {
            app.closed(now, key, reason);
        }
    }

    fn half_open_input<A: Application>(
        &mut self,
        now: Instant,
        tuple: FourTuple,
        segment: &Segment<'_>,
        answer: Answer,
        app: &mut A,
    ) {
        let agreed = match answer {
            Answer::Nothing => return,
            Answer::Send(answer) => return self.send_bare(tuple, answer),
            Answer::Challenge(answer) => {
                if self.challenges.may_send(now, &self.secret, &tuple) {
                    self.send_bare(tuple, answer);
                }
                return;
            }
            Answer::Drop => {
                self.drop_half_open(&tuple);
                return;
            }
            Answer::Complete(agreed) => agreed,
        };
        self.drop_half_open(&tuple);
        self.complete(now, tuple, &agreed, segment, app);
    }

    /// The handshake is complete: the application gets its PCB, and the PCB its first segment.
    fn complete<A: Application>(
        &mut self,
        now: Instant,
        tuple: FourTuple,
        agreed: &Agreed,
        segment: &Segment<'_>,
        app: &mut A,
    ) {
        let pcb = Pcb::established(tuple, agreed, now, &self.tcp);
        match app.accept(now, pcb) {
            Some(key) => {
                self.stats.accepted += 1;
                self.demux.insert(tuple, key);
                self.connection_input(now, &tuple, key, segment, app);
            }
            None => {
                if let Some(reset) = closed::reset_for(segment) {
                    self.send_bare(tuple, reset);
                }
            }
        }
    }

    pub(super) fn drop_half_open(&mut self, tuple: &FourTuple) {
        if let Some(half_open) = self.backlog.remove(tuple)
            && let Some(id) = half_open.timer
        {
            self.half_open_wheel.cancel(id);
        }
    }

    /// Takes the hardware address of a neighbour as known, as if it had been asked: for links where nobody
    /// answers, and tests.
    pub fn add_neighbor(&mut self, now: Instant, addr: impl Into<IpAddr>, hardware_addr: EthernetAddress) {
        let addr = addr.into();
        match addr {
            IpAddr::V4(addr) => self.arp.learn(now, addr, hardware_addr, true),
            IpAddr::V6(addr) => {
                self.ipv6.as_mut().is_some_and(|own| own.neighbors.learn(now, addr, hardware_addr, true))
            }
        };
        self.queues.resolved(addr);
    }
}
