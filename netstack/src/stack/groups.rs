//! Datagrams from one to many: groups (RFC 1112, RFC 3376, RFC 3810) and broadcasts (RFC 1122 section
//! 3.3.6), of sockets of UDP that ask for them. What comes for a group goes to each socket of that port that
//! listens to it; nobody is told that nobody listens. What goes to a group stays on the link.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use runtime::time::Instant;
use smallvec::SmallVec;

use super::queue::{Control, Icmpv6};
use super::{Application, Stack, UdpSocket};
use crate::iface::groups::group_hardware;
use crate::iface::ipv6::multicast_hardware;
use crate::transmission::{Offload, Payload, RxChecksum, Transmission};
use crate::tuple::FourTuple;
use crate::wire::{Error, EthernetAddress, Protocol, ethernet, igmp, ipv4, mld, udp};
use runtime::payload::Piece;

/// Hops of what is sent to a group (RFC 1112 section 6.1): none beyond the link.
pub(super) const GROUP_HOPS: u8 = 1;

/// Why a socket listens to no group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupError {
    /// The socket is closed.
    Closed,
    /// Neither a group nor 255.255.255.255; or one of IPv6 that stays within a host (RFC 4291 section 2.7).
    NotAGroup,
    /// The stack has no address in IPv6 ([`super::Config::ipv6`]).
    Ipv6,
    /// All sockets together listen to as many groups as they may: 32.
    TooMany,
    /// Several stacks have the address ([`crate::sharing`]): what is sent to a group comes to one of them,
    /// whichever that is.
    Shared,
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GroupError::Closed => "the socket is closed",
            GroupError::NotAGroup => {
                "not the address of a group: give one, or 255.255.255.255 for broadcasts"
            }
            GroupError::Ipv6 => "the stack has no IPv6 address: give it one, or join a group of IPv4",
            GroupError::TooMany => "too many groups are listened to already",
            GroupError::Shared => "stacks that share an address listen to no groups: use one stack",
        })
    }
}

impl core::error::Error for GroupError {}

/// Whether it is a group of which there are members on other hosts.
fn is_of_a_link(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group.is_multicast(),
        IpAddr::V6(group) => group.is_multicast() && group.segments()[0] & 0xf > 1,
    }
}

impl Stack {
    /// Lets `socket` hear what is sent to `group` and its port, as well as what is for it alone. With
    /// 255.255.255.255 it hears broadcasts and may send them, to that address or to that of all hosts in a
    /// network of ours; groups may be sent to by any socket.
    ///
    /// # Errors
    /// [`GroupError`].
    pub fn join_group(&mut self, socket: UdpSocket, group: IpAddr) -> Result<(), GroupError> {
        if !self.datagrams.is_open(socket) {
            return Err(GroupError::Closed);
        }
        if !is_of_a_link(group) && group != Ipv4Addr::BROADCAST {
            return Err(GroupError::NotAGroup);
        }
        if group.is_ipv6() && self.ipv6.is_none() {
            return Err(GroupError::Ipv6);
        }
        if self.config.share.count() > 1 {
            return Err(GroupError::Shared);
        }
        if !self.groups.join(group, socket) {
            return Err(GroupError::TooMany);
        }
        match (group, &mut self.ipv6) {
            (IpAddr::V6(group), Some(own)) => own.join(group),
            (IpAddr::V4(Ipv4Addr::BROADCAST), _) => self.datagrams.allow_broadcasts(socket, true),
            _ => {}
        }
        Ok(())
    }

    /// Lets `socket` hear no more of `group`; whether it did.
    pub fn leave_group(&mut self, socket: UdpSocket, group: IpAddr) -> bool {
        let did = self.groups.leave(group, socket);
        if let (IpAddr::V6(addr), Some(own)) = (group, &mut self.ipv6)
            && !self.groups.has(group)
        {
            own.leave(addr);
            if own.is_our_group(addr) {
                // That of an address of ours.
                self.groups.keep(group);
            }
        }
        if group == Ipv4Addr::BROADCAST {
            self.datagrams.allow_broadcasts(socket, false);
        }
        did
    }

    /// The socket is closed.
    pub(super) fn leave_groups(&mut self, socket: UdpSocket) {
        for group in self.groups.groups_of(socket) {
            self.leave_group(socket, group);
        }
    }

    /// Where a frame to many goes; `None` if `addr` is one host's.
    pub(super) fn many_hardware(&self, addr: IpAddr) -> Option<EthernetAddress> {
        match addr {
            IpAddr::V4(addr) if addr.is_multicast() => Some(group_hardware(addr)),
            IpAddr::V4(addr) => self.routes.is_broadcast(addr).then_some(EthernetAddress::BROADCAST),
            IpAddr::V6(addr) => addr.is_multicast().then(|| multicast_hardware(addr)),
        }
    }

    /// Whether anybody here wants frames of IPv4 that are for many.
    pub(super) fn hears_many(&self, dst: EthernetAddress) -> bool {
        if dst.is_broadcast() {
            return self.groups.has(Ipv4Addr::BROADCAST.into());
        }
        dst.is_multicast() && self.groups.hears(dst)
    }

    /// Which group, if any, a packet to `addr` is for.
    fn group_of(&self, addr: IpAddr) -> Option<IpAddr> {
        let group = match addr {
            IpAddr::V4(addr) if self.routes.is_broadcast(addr) => Ipv4Addr::BROADCAST.into(),
            addr => addr,
        };
        self.groups.has(group).then_some(group)
    }

    /// A router asks for our groups; whether that concerns us.
    pub(super) fn igmp_input(&mut self, now: Instant, src: Ipv4Addr, bytes: &[u8]) -> bool {
        // A switch that asks has no address (RFC 4541 section 2.1.1).
        let may_ask = self.routes.is_unicast(src) || src.is_unspecified();
        let Some(query) = igmp::GroupQuery::parse(bytes).ok().filter(|_| may_ask) else { return false };
        let max_delay = Duration::from_millis(query.max_delay_ms.into());
        let random = self.random_of(src.into(), now);
        self.groups.asked(now, query.group, max_delay, random)
    }

    /// Whether a packet of IPv4 in a frame for many is for a group that somebody listens to.
    pub(super) fn is_for_group4(&self, ip: &ipv4::Repr) -> bool {
        // RFC 1122 section 3.2.1.3: what comes from no host, or from us, is nonsense.
        ip.protocol == Protocol::Udp
            && self.routes.is_unicast(ip.src_addr)
            && !self.routes.is_ours(ip.src_addr)
            && self.group_of(ip.dst_addr.into()).is_some()
    }

    /// A datagram for a group: to each that listens. Whether anybody does.
    pub(super) fn udp_to_many<A: Application>(
        &mut self,
        now: Instant,
        (src, dst): (IpAddr, IpAddr),
        bytes: &[u8],
        checksum: RxChecksum,
        app: &mut A,
    ) -> bool {
        let Some(group) = self.group_of(dst) else { return false };
        let (header, payload) = match udp::Repr::parse(bytes, src, dst, checksum != RxChecksum::Unknown) {
            Ok(parts) => parts,
            Err(error) => {
                self.stats.bad_checksums += u64::from(error == Error::Checksum);
                return false;
            }
        };
        let from = SocketAddr::new(src, header.src_port);
        let listens = |socket: &UdpSocket| {
            socket.port() == header.dst_port && socket.remote().is_none_or(|remote| remote == from)
        };
        let sockets: SmallVec<[UdpSocket; 4]> = self.groups.members(group).filter(listens).collect();
        for &socket in &sockets {
            self.deliver(now, socket, from, payload, checksum, app);
        }
        !sockets.is_empty()
    }

    /// Reports what was joined and left, and answers routers of IPv4, if that is due.
    pub(super) fn report_memberships(&mut self, now: Instant) {
        while self.groups.poll_timeout().is_some_and(|at| at <= now) {
            let random = self.random_of(self.config.ipv4_addr.into(), now);
            let Some((reason, groups)) = self.groups.poll(now, random) else { break };
            let of_ipv4: SmallVec<[Ipv4Addr; 4]> = groups
                .iter()
                .filter_map(|group| match group {
                    IpAddr::V4(group) => Some(*group),
                    IpAddr::V6(_) => None,
                })
                .collect();
            if !of_ipv4.is_empty() {
                self.queues.push(Control::Igmp(igmp::report(reason, &of_ipv4)));
            }
            for group in &groups {
                let (IpAddr::V6(group), Some(own)) = (group, &self.ipv6) else { continue };
                let (src, to) = (own.addr_for_reports(), mld::ALL_ROUTERS);
                self.queues.push(Control::Icmpv6(Icmpv6 {
                    router_alert: true,
                    hop_limit: mld::HOP_LIMIT,
                    hardware_addr: Some(multicast_hardware(to)),
                    ..Icmpv6::new(src, to, mld::report(reason, &[*group], src))
                }));
            }
        }
    }

    fn random_of(&self, addr: IpAddr, now: Instant) -> u64 {
        let pair = FourTuple::new(SocketAddr::new(addr, 0), SocketAddr::new(addr, 0));
        self.secret.hash(&pair, now.as_nanos() as u32)
    }

    /// A report of IPv4: with the option that routers look for (RFC 3376 section 4).
    pub(super) fn transmit_igmp<R>(
        &mut self,
        report: &[u8],
        to: EthernetAddress,
        emit: impl FnOnce(&Transmission<'_>) -> R,
    ) -> R {
        const BARE: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN;
        let mut headers = [0; BARE + igmp::ROUTER_ALERT.len()];
        let own = if self.may_use_address() { self.config.ipv4_addr } else { Ipv4Addr::UNSPECIFIED };
        let payload_len = igmp::ROUTER_ALERT.len() + report.len();
        let addrs = (own, igmp::ALL_ROUTERS);
        self.ipv4_headers(&mut headers, to, addrs, igmp::PROTOCOL.into(), payload_len, 0);
        headers[BARE..].copy_from_slice(&igmp::ROUTER_ALERT);
        let mut packet = ipv4::Packet::new_unchecked(&mut headers[ethernet::HEADER_LEN..]);
        packet.set_ttl(GROUP_HOPS);
        packet.set_header_len(ipv4::HEADER_LEN + igmp::ROUTER_ALERT.len());
        emit(&Transmission {
            headers: &headers,
            payload: Payload::Pieces(&[Piece::new(report)]),
            payload_len: report.len(),
            tcp_start: None,
            offload: Offload::default(),
        })
    }
}
