//! UDP for applications (RFC 768, RFC 1122 section 4.1): sockets bound to a port, or to a peer as well;
//! datagrams in by [`Application::datagram`], out from buffers that are gathered, in fragments where they are
//! longer than the link takes.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use runtime::buffer::{Aggregate, Slice};
use runtime::payload::{Piece, Pieces};
use runtime::time::Instant;

use super::groups::GROUP_HOPS;
use super::queue::{Control, Udp};
use super::{Application, ConnectError, EPHEMERAL, Stack};
use crate::iface::ipv6::is_unicast;
use crate::transmission::{ChecksumRequest, Offload, Payload, RxChecksum, Transmission};
use crate::tuple::FourTuple;
use crate::wire::{Error, EthernetAddress, Protocol, checksum, ethernet, icmpv4, icmpv6, ipv4, ipv6, udp};

/// Datagrams that wait to be sent at most, and their bytes.
const MAX_OUTGOING: usize = 1024;
const MAX_OUTGOING_BYTES: usize = 4 << 20;

/// Datagrams in one that the device takes apart: what Linux takes (`UDP_MAX_SEGMENTS` of older kernels).
const MAX_SEGMENTS: usize = 64;

/// "Nobody listens there" is said so often a second at most, whoever asks.
const REFUSALS_A_SECOND: u32 = 100;

/// A socket of a stack's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpSocket {
    /// `None`: at the first of our addresses of each family.
    local: Option<IpAddr>,
    port: u16,
    /// Of one that is connected.
    remote: Option<SocketAddr>,
}

impl UdpSocket {
    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The address of ours that it is at; `None`: the first of each family.
    pub const fn local(&self) -> Option<IpAddr> {
        self.local
    }

    /// The one peer that it speaks to, if it is connected.
    pub const fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }
}

/// Why there is no socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindError {
    /// The port is taken, or all are, or it is 0.
    PortInUse,
    /// Not one of our addresses.
    NotOurs,
    /// The peer cannot be spoken to.
    Peer(ConnectError),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::PortInUse => {
                f.write_str("the port is taken: give another, from 1 on, or none for any")
            }
            BindError::NotOurs => f.write_str("not an address of this stack"),
            BindError::Peer(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for BindError {}

/// Why a datagram is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The socket is closed.
    Closed,
    /// It is connected to another peer, or the peer's address and port are not those of one host or a group,
    /// or of a family that is not spoken, or 255.255.255.255 and the socket sends no broadcasts
    /// ([`Stack::join_group`]). Without that right what is for all hosts of one network is taken and not
    /// sent: what our networks are may have changed when it goes out.
    BadAddress,
    /// Longer than a datagram can be.
    TooLong,
    /// So much waits already that this would be lost: try again when some has gone out.
    Full,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Closed => "the socket is closed",
            SendError::BadAddress => "not an address and port that the socket speaks to",
            SendError::TooLong => "the datagram is too long: 65,507 bytes are the most",
            SendError::Full => "too many datagrams wait to be sent",
        })
    }
}

impl core::error::Error for SendError {}

/// The sockets of a stack, and what they have to send.
#[derive(Debug)]
pub struct Datagrams {
    sockets: HashSet<UdpSocket>,
    /// Those that may send to everybody on the link.
    broadcasters: Vec<UdpSocket>,
    outgoing: VecDeque<Udp>,
    outgoing_bytes: usize,
    speaks_ipv6: bool,
    refusals: u32,
    refusals_since: Instant,
}

impl Datagrams {
    pub(super) fn new(speaks_ipv6: bool) -> Datagrams {
        Datagrams {
            sockets: HashSet::new(),
            broadcasters: Vec::new(),
            outgoing: VecDeque::new(),
            outgoing_bytes: 0,
            speaks_ipv6,
            refusals: 0,
            refusals_since: Instant::ZERO,
        }
    }

    /// Sends `payload` from `socket` to `to`: by the next calls of [`Stack::poll_transmit`], or never, as
    /// datagrams go.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&mut self, socket: UdpSocket, to: SocketAddr, payload: Aggregate) -> Result<(), SendError> {
        self.send_segments(socket, to, payload, 0)
    }

    /// Sends `payload` as datagrams of `segment` bytes each but the last, 64 at most: with devices that can
    /// take them apart ([`crate::transmission::Capabilities::datagrams`]) one transmission. As one, if
    /// `segment` is 0.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_segments(
        &mut self,
        socket: UdpSocket,
        to: SocketAddr,
        payload: Aggregate,
        segment: u16,
    ) -> Result<(), SendError> {
        if !self.sockets.contains(&socket) {
            return Err(SendError::Closed);
        }
        let may_broadcast = self.broadcasters.contains(&socket);
        let is_spoken = match to.ip() {
            IpAddr::V4(addr) => may_broadcast || !addr.is_broadcast(),
            IpAddr::V6(addr) => self.speaks_ipv6 && (is_unicast(addr) || addr.is_multicast()),
        };
        let is_other = socket.local.is_some_and(|local| local.is_ipv4() != to.is_ipv4())
            || socket.remote.is_some_and(|remote| remote != to);
        if !is_spoken || is_other || to.port() == 0 {
            return Err(SendError::BadAddress);
        }
        let segment = if payload.len() > usize::from(segment) { segment } else { 0 };
        let is_many = segment > 0 && payload.len().div_ceil(usize::from(segment)) > MAX_SEGMENTS;
        if payload.len() > udp::MAX_PAYLOAD_LEN || is_many {
            return Err(SendError::TooLong);
        }
        if self.outgoing.len() >= MAX_OUTGOING || self.outgoing_bytes + payload.len() > MAX_OUTGOING_BYTES {
            return Err(SendError::Full);
        }
        self.outgoing_bytes += payload.len();
        let (from, src_port) = (socket.local, socket.port);
        self.outgoing.push_back(Udp {
            from,
            src_port,
            to,
            may_broadcast,
            payload,
            segment,
            sent: 0,
            ident: 0,
        });
        Ok(())
    }

    /// Datagrams that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.outgoing.len()
    }

    /// The next datagram, or several in one if each has at most `max_segment` bytes.
    pub(super) fn next(&mut self, max_segment: u16) -> Option<Udp> {
        let mut udp = self.outgoing.pop_front()?;
        if udp.segment > max_segment {
            let payload = udp.payload.split_to(usize::from(udp.segment));
            let rest = Udp { payload: udp.payload, ..udp };
            udp = Udp { payload, segment: 0, ..rest };
            if !rest.payload.is_empty() {
                self.outgoing.push_front(rest);
            }
        }
        self.outgoing_bytes -= udp.payload.len();
        Some(udp)
    }

    /// Who gets what comes from `remote` to `port` of `local`, which `is_first` of its family: who is
    /// connected to it, or else who is bound; at that address, or else at the first.
    fn receiver(
        &self,
        (local, port): (IpAddr, u16),
        is_first: bool,
        remote: SocketAddr,
    ) -> Option<UdpSocket> {
        let places = [Some(Some(local)), is_first.then_some(None)];
        let candidates = [Some(remote), None].into_iter().flat_map(|remote| {
            places.into_iter().flatten().map(move |local| UdpSocket { local, port, remote })
        });
        candidates.into_iter().find(|socket| self.sockets.contains(socket))
    }

    pub(super) fn is_open(&self, socket: UdpSocket) -> bool {
        self.sockets.contains(&socket)
    }

    /// Whether `socket` may send to everybody on the link.
    pub(super) fn allow_broadcasts(&mut self, socket: UdpSocket, allowed: bool) {
        self.broadcasters.retain(|other| *other != socket);
        if allowed {
            self.broadcasters.push(socket);
        }
    }

    /// Whether somebody may be told once more that nobody listens.
    fn may_refuse(&mut self, now: Instant) -> bool {
        if now.saturating_since(self.refusals_since).as_secs() >= 1 {
            (self.refusals, self.refusals_since) = (0, now);
        }
        self.refusals += 1;
        self.refusals <= REFUSALS_A_SECOND
    }
}

impl Stack {
    /// A socket that gets what anybody sends to `port`, or to a free one, of the first of our addresses of
    /// each family.
    ///
    /// # Errors
    /// [`BindError::PortInUse`].
    pub fn bind_udp(&mut self, port: Option<u16>) -> Result<UdpSocket, BindError> {
        self.keep_udp(None, port, None)
    }

    /// The same of `local` alone, any address of ours, from which it also sends. It comes before one that is
    /// at the first addresses.
    ///
    /// # Errors
    /// [`BindError::PortInUse`], [`BindError::NotOurs`].
    pub fn bind_udp_at(&mut self, local: IpAddr, port: Option<u16>) -> Result<UdpSocket, BindError> {
        let is_ours = match local {
            IpAddr::V4(addr) => self.routes.is_ours(addr),
            IpAddr::V6(addr) => self.ipv6.as_ref().is_some_and(|own| own.is_ours(addr)),
        };
        if !is_ours {
            return Err(BindError::NotOurs);
        }
        self.keep_udp(Some(local), port, None)
    }

    /// A socket that speaks to `remote` alone, from `port` or a free one, and hears when nobody listens there
    /// ([`Application::datagram_refused`]).
    ///
    /// # Errors
    /// [`BindError`].
    pub fn connect_udp(&mut self, port: Option<u16>, remote: SocketAddr) -> Result<UdpSocket, BindError> {
        if remote.port() == 0 {
            return Err(BindError::Peer(ConnectError::BadAddress));
        }
        let local = match remote.ip() {
            IpAddr::V4(addr) => self.own_addr(addr).map(IpAddr::V4),
            IpAddr::V6(addr) => self.own_addr6(addr).map(IpAddr::V6),
        }
        .map_err(BindError::Peer)?;
        // The first may become another ([`super::Config::dhcp`]).
        let local = Some(local).filter(|local| !self.is_first_addr(*local));
        self.keep_udp(local, port, Some(remote))
    }

    /// Whether it is where sockets are that are at no address in particular.
    fn is_first_addr(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => addr == self.config.ipv4_addr,
            IpAddr::V6(addr) => {
                self.ipv6.as_ref().is_some_and(|own| own.is_ours(addr) && !own.is_other(addr))
            }
        }
    }

    /// Whether datagrams may come from that address of ours: not while it is probed for, nor where another
    /// host has it.
    pub(super) fn is_usable_source(&mut self, addr: Option<IpAddr>, to: IpAddr) -> bool {
        match addr {
            Some(IpAddr::V4(addr)) => self.routes.is_ours(addr) && self.detector_of(addr).is_usable(),
            Some(IpAddr::V6(addr)) => self.ipv6.as_ref().is_some_and(|own| own.is_ours(addr)),
            // Before there is an address, nothing is sent from none (RFC 4291 section 2.5.2).
            None => to.is_ipv4() || self.ipv6.as_ref().is_some_and(|own| own.source().is_some()),
        }
    }

    fn keep_udp(
        &mut self,
        local: Option<IpAddr>,
        port: Option<u16>,
        remote: Option<SocketAddr>,
    ) -> Result<UdpSocket, BindError> {
        let is_free = |socket: &UdpSocket| !self.datagrams.sockets.contains(socket);
        let socket = match port {
            Some(port) => {
                Some(UdpSocket { local, port, remote }).filter(|socket| port != 0 && is_free(socket))
            }
            None => {
                // Of several stacks each has those whose answers come to it.
                let pair = |port, remote: SocketAddr| {
                    let any: IpAddr = match remote {
                        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                    };
                    FourTuple::new(SocketAddr::new(any, port), remote)
                };
                let is_ours = |port| remote.is_none_or(|remote| self.config.share.has(&pair(port, remote)));
                self.ephemeral = self.ephemeral.wrapping_add(1);
                let peer = remote.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
                let span = EPHEMERAL.end() - EPHEMERAL.start();
                // Which is next is nobody's to guess (RFC 5452 section 9.2).
                let start = self.secret.hash(&pair(self.ephemeral, peer), 4) as u16;
                (0..=span)
                    .map(|step| EPHEMERAL.start() + (start.wrapping_add(step) & span))
                    .map(|port| UdpSocket { local, port, remote })
                    .find(|socket| is_free(socket) && is_ours(socket.port))
            }
        };
        let socket = socket.ok_or(BindError::PortInUse)?;
        self.datagrams.sockets.insert(socket);
        Ok(socket)
    }

    /// Closes a socket. What it has sent and not gone out yet goes out. Whether it was open.
    pub fn close_udp(&mut self, socket: UdpSocket) -> bool {
        self.leave_groups(socket);
        self.datagrams.sockets.remove(&socket)
    }

    /// The sockets, to send by.
    pub fn datagrams(&mut self) -> &mut Datagrams {
        &mut self.datagrams
    }

    /// A datagram for us. Whether anybody wanted it; the error of one that nobody listens for is the caller's
    /// to tell.
    pub(super) fn udp_input<A: Application>(
        &mut self,
        now: Instant,
        (src, dst): (IpAddr, IpAddr),
        bytes: &[u8],
        checksum: RxChecksum,
        app: &mut A,
    ) -> UdpInput {
        let (header, payload) = match udp::Repr::parse(bytes, src, dst, checksum != RxChecksum::Unknown) {
            Ok(parts) => parts,
            Err(error) => {
                self.stats.bad_checksums += u64::from(error == Error::Checksum);
                return UdpInput::Useless;
            }
        };
        let from = SocketAddr::new(src, header.src_port);
        match self.datagrams.receiver((dst, header.dst_port), self.is_first_addr(dst), from) {
            Some(socket) => {
                self.deliver(now, socket, from, payload, checksum, app);
                UdpInput::Taken
            }
            None if self.datagrams.may_refuse(now) => UdpInput::Refused,
            None => UdpInput::Useless,
        }
    }

    /// A datagram's payload, or that of several in one frame, to `socket`.
    pub(super) fn deliver<A: Application>(
        &mut self,
        now: Instant,
        socket: UdpSocket,
        from: SocketAddr,
        payload: &[u8],
        checksum: RxChecksum,
        app: &mut A,
    ) {
        let whole = payload.len().max(1);
        let size = match checksum {
            RxChecksum::PartialDatagrams(size) => usize::from(size.get()),
            _ => whole,
        };
        for datagram in payload.chunks(size).chain(payload.is_empty().then_some(payload)) {
            self.stats.datagrams_in += 1;
            app.datagram(now, socket, from, datagram, &mut self.datagrams);
        }
    }

    /// The same over IPv4, from a packet with that header (RFC 1122 section 4.1.3.1).
    pub(super) fn udp_input4<A: Application>(
        &mut self,
        now: Instant,
        ip: &ipv4::Repr,
        bytes: &[u8],
        checksum: RxChecksum,
        app: &mut A,
    ) -> bool {
        match self.udp_input(now, (ip.src_addr.into(), ip.dst_addr.into()), bytes, checksum, app) {
            UdpInput::Taken => true,
            UdpInput::Useless => false,
            UdpInput::Refused => {
                let mut original = [0; ipv4::HEADER_LEN + udp::HEADER_LEN];
                ip.emit(&mut ipv4::Packet::new_unchecked(&mut original[..]));
                original[ipv4::HEADER_LEN..].copy_from_slice(&bytes[..udp::HEADER_LEN]);
                let (code, next_hop_mtu) = (icmpv4::CODE_PORT_UNREACHABLE, 0);
                let report = icmpv4::Repr::DestinationUnreachable { code, next_hop_mtu, original: &original };
                self.send_icmp_from(Some(ip.dst_addr), ip.src_addr, &report);
                false
            }
        }
    }

    /// The same over IPv6 (RFC 4443 section 3.1): with as much of the packet as need not be cut up.
    pub(super) fn udp_input6<A: Application>(
        &mut self,
        now: Instant,
        packet: &ipv6::Packet<&[u8]>,
        datagram: &[u8],
        checksum: RxChecksum,
        app: &mut A,
    ) -> bool {
        let (src, dst) = (packet.src_addr(), packet.dst_addr());
        match self.udp_input(now, (src.into(), dst.into()), datagram, checksum, app) {
            UdpInput::Taken => true,
            UdpInput::Useless => false,
            UdpInput::Refused => {
                let most = usize::from(ipv6::MIN_MTU) - ipv6::HEADER_LEN - icmpv6::HEADER_LEN;
                let mut original = packet.header_for(Protocol::Udp, datagram.len()).to_vec();
                original.extend_from_slice(&datagram[..datagram.len().min(most - ipv6::HEADER_LEN)]);
                let code = icmpv6::CODE_PORT_UNREACHABLE;
                let report = icmpv6::Repr::DestinationUnreachable { code, original: &original };
                self.send_icmpv6(Some(dst), src, None, &report);
                false
            }
        }
    }

    /// A router, or the peer, says that nobody gets what we sent from that port. Whether it is a socket's.
    pub(super) fn datagram_reported<A: Application>(
        &mut self,
        now: Instant,
        from: (IpAddr, u16),
        to: SocketAddr,
        app: &mut A,
    ) -> bool {
        let is_first = self.is_first_addr(from.0);
        let Some(socket) = self.datagrams.receiver(from, is_first, to) else { return false };
        app.datagram_refused(now, socket, to);
        true
    }

    /// The next fragment of a datagram, or all of it.
    pub(super) fn transmit_udp<R>(
        &mut self,
        mut udp: Udp,
        to: EthernetAddress,
        emit: impl FnOnce(&Transmission<'_>) -> R,
    ) -> R {
        let mut buffer = [0; ethernet::HEADER_LEN + ipv6::HEADER_LEN + ipv6::FRAGMENT_LEN + udp::HEADER_LEN];
        let whole = udp::HEADER_LEN + udp.payload.len();
        let (own4, own6) = match udp.from {
            Some(IpAddr::V4(addr)) => (addr, None),
            Some(IpAddr::V6(addr)) => (self.config.ipv4_addr, Some(addr)),
            None => (self.config.ipv4_addr, self.ipv6.as_ref().and_then(|own| own.source())),
        };
        let is_for_group = udp.to.ip().is_multicast();
        let rest = whole - udp.sent;
        let (src, len, mut ip_end): (IpAddr, usize, usize) = match (udp.to.ip(), own6) {
            (IpAddr::V6(_), Some(own)) => {
                (own.into(), self.part6(whole, rest), ethernet::HEADER_LEN + ipv6::HEADER_LEN)
            }
            _ => {
                let room = usize::from(self.config.mtu).saturating_sub(ipv4::HEADER_LEN).max(16);
                let len = if rest > room { room & !7 } else { rest };
                (own4.into(), len, ethernet::HEADER_LEN + ipv4::HEADER_LEN)
            }
        };
        // What the device takes apart goes whole.
        let len = if udp.segment > 0 { rest } else { len };
        let more = len < rest;
        match udp.to.ip() {
            IpAddr::V4(dst) => {
                self.ipv4_headers(&mut buffer, to, (own4, dst), Protocol::Udp, len, 0);
                let mut packet = ipv4::Packet::new_unchecked(&mut buffer[ethernet::HEADER_LEN..]);
                if udp.sent == 0 {
                    udp.ident = packet.ident().into();
                }
                packet.set_ident(udp.ident as u16);
                packet.set_fragment(udp.sent, more);
                if is_for_group {
                    packet.set_ttl(GROUP_HOPS);
                }
            }
            IpAddr::V6(dst_addr) => {
                let src_addr = own6.unwrap_or(Ipv6Addr::UNSPECIFIED);
                let hop_limit = if is_for_group { GROUP_HOPS } else { super::ipv6::HOP_LIMIT };
                let protocol = Protocol::Udp;
                let ip = ipv6::Repr { src_addr, dst_addr, protocol, payload_len: len, hop_limit };
                if len < whole {
                    if udp.sent == 0 {
                        udp.ident = self.fragment_ident(dst_addr);
                    }
                    let (ident, offset) = (udp.ident, udp.sent);
                    let next_header = Protocol::Udp.into();
                    let header =
                        ipv6::Ipv6Fragment { next_header, ident, offset, more, payload: &[] }.header();
                    let payload_len = ipv6::FRAGMENT_LEN + len;
                    let ip = ipv6::Repr { protocol: ipv6::NEXT_FRAGMENT.into(), payload_len, ..ip };
                    self.ipv6_headers(&mut buffer, to, &ip);
                    buffer[ip_end..ip_end + ipv6::FRAGMENT_LEN].copy_from_slice(&header);
                    ip_end += ipv6::FRAGMENT_LEN;
                } else {
                    self.ipv6_headers(&mut buffer, to, &ip);
                }
            }
        }
        // Of the datagram, without its header.
        let mut range = udp.sent..udp.sent + len;
        let mut offload = Offload::default();
        let mut headers = &buffer[..ip_end];
        if udp.sent == 0 {
            let sum = match udp.segment {
                0 => checksum::sum_pieces(udp.payload.slices().iter().map(Slice::bytes)),
                _ => 0,
            };
            let repr =
                udp::Repr { src_port: udp.src_port, dst_port: udp.to.port(), payload_len: udp.payload.len() };
            let mut header = [0; udp::HEADER_LEN];
            repr.emit(&mut header, src, udp.to.ip(), sum);
            if udp.segment > 0 {
                let len = whole as u32;
                let pseudo = checksum::pseudo_header(src, udp.to.ip(), Protocol::Udp, len);
                header[udp::CHECKSUM_OFFSET..].copy_from_slice(&pseudo.to_be_bytes());
                let start = ip_end as u16;
                offload.checksum = Some(ChecksumRequest { start, offset: udp::CHECKSUM_OFFSET as u16 });
                offload.segment_size = Some(udp.segment);
            }
            buffer[ip_end..ip_end + udp::HEADER_LEN].copy_from_slice(&header);
            headers = &buffer[..ip_end + udp::HEADER_LEN];
            range.start = udp::HEADER_LEN;
            self.stats.datagrams_out += match udp.segment {
                0 => 1,
                segment => udp.payload.len().div_ceil(usize::from(segment)) as u64,
            };
        }
        let payload_len = range.len();
        let part = udp.payload.part(range.start - udp::HEADER_LEN..range.end - udp::HEADER_LEN);
        let part = part.unwrap_or_default();
        let pieces: Pieces<'_> = part.slices().iter().map(|slice| Piece::new(slice.bytes())).collect();
        let payload = Payload::Pieces(&pieces);
        let result = emit(&Transmission { headers, payload, payload_len, tcp_start: None, offload });
        if more {
            udp.sent += len;
            self.queues.go_on(Control::Udp(udp));
        }
        result
    }
}

/// What became of a datagram.
pub(super) enum UdpInput {
    Taken,
    /// Nobody listens there, and may be told so.
    Refused,
    Useless,
}

/// The ports of a datagram that is quoted.
pub(super) fn quoted_ports(bytes: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *bytes.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}
