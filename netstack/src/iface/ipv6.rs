//! What an interface is in IPv6: its addresses, the prefix of its link, the way out, and its neighbours (RFC
//! 4291, 4861).
//!
//! The neighbours are kept as those of ARP are ([`crate::iface::arp_cache`]): asked for, believed for a
//! while, asked again. Addresses are given, or had from a router and asked for before they are used
//! ([`crate::iface::autoconf`]).

use std::net::Ipv6Addr;

use smallvec::SmallVec;

use crate::iface::arp_cache::ArpCache;
use crate::iface::autoconf::Autoconf;
use crate::iface::mld::MulticastReports;
use crate::wire::EthernetAddress;

/// Addresses of a stack in IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Config {
    /// Our address.
    pub addr: Ipv6Addr,
    /// Length of the on-link prefix, 0 to 128.
    pub prefix_len: u8,
    /// Where everything off-link goes: on the link, or link-local.
    pub gateway: Option<Ipv6Addr>,
}

/// The interface.
#[derive(Debug)]
pub(crate) struct Ipv6Interface {
    config: Ipv6Config,
    /// Other addresses of ours, with the lengths of their links' prefixes.
    others: Vec<(Ipv6Addr, u8)>,
    link_local: Ipv6Addr,
    /// Groups that sockets listen to.
    joined: Vec<Ipv6Addr>,
    pub(crate) neighbors: ArpCache<Ipv6Addr>,
    pub(crate) reports: MulticastReports,
    /// Where addresses are not given.
    pub(crate) autoconf: Option<Autoconf>,
}

impl Ipv6Interface {
    pub(crate) fn new(config: Ipv6Config, hardware_addr: EthernetAddress) -> Ipv6Interface {
        let (link_local, neighbors) = (link_local(hardware_addr), ArpCache::default());
        let (others, joined, reports) = (Vec::new(), Vec::new(), MulticastReports::new());
        Ipv6Interface { config, others, link_local, joined, neighbors, reports, autoconf: None }
    }

    /// One whose addresses are had from a router; `random` is another for each host.
    pub(crate) fn autoconfigured(hardware_addr: EthernetAddress, random: u64) -> Ipv6Interface {
        let config = Ipv6Config { addr: Ipv6Addr::UNSPECIFIED, prefix_len: 128, gateway: None };
        let mut own = Ipv6Interface::new(config, hardware_addr);
        own.autoconf = Some(Autoconf::new(own.link_local, random));
        own
    }

    /// Another address of ours, whose first `prefix_len` bits are the link's, too.
    pub(crate) fn add_address(&mut self, addr: Ipv6Addr, prefix_len: u8) {
        self.others.push((addr, prefix_len));
    }

    /// Whether `addr` is one of those.
    pub(crate) fn is_other(&self, addr: Ipv6Addr) -> bool {
        self.others.iter().any(|(other, _)| *other == addr)
    }

    /// Which of our addresses speaks to `next_hop`: the one in its network, of several the one in the
    /// smallest, or else the first (RFC 6724 in spirit).
    pub(crate) fn source_for(&self, next_hop: Ipv6Addr) -> Ipv6Addr {
        let all = self.others.iter().copied().chain([(self.config.addr, self.config.prefix_len)]);
        let near = all.filter(|&(addr, len)| has_prefix(next_hop, addr, len)).max_by_key(|&(_, len)| len);
        near.map_or(self.config.addr, |(addr, _)| addr)
    }

    /// Takes over what is configured by now. Whether our address is another.
    pub(crate) fn reconfigure(&mut self) -> bool {
        let Some(autoconf) = &self.autoconf else { return false };
        let addr = autoconf.addr().unwrap_or(Ipv6Addr::UNSPECIFIED);
        let before = self.config.addr;
        self.config = Ipv6Config { addr, prefix_len: autoconf.prefix_len(), gateway: autoconf.router() };
        self.neighbors.forget_hops();
        before != addr
    }

    /// The address that we speak from; unspecified while there is none.
    pub(crate) fn addr(&self) -> Ipv6Addr {
        self.config.addr
    }

    fn has_link_local(&self) -> bool {
        self.autoconf.as_ref().is_none_or(Autoconf::is_link_local_assigned)
    }

    /// The address that we speak from to routers: that of the link, or none yet.
    pub(crate) fn addr_for_reports(&self) -> Ipv6Addr {
        if self.has_link_local() { self.link_local } else { Ipv6Addr::UNSPECIFIED }
    }

    /// The address that we speak from to anybody: that of the link while there is no other.
    pub(crate) fn source(&self) -> Option<Ipv6Addr> {
        [self.addr(), self.addr_for_reports()].into_iter().find(|addr| !addr.is_unspecified())
    }

    /// Whether packets to `addr` are for us alone.
    pub(crate) fn is_ours(&self, addr: Ipv6Addr) -> bool {
        !addr.is_unspecified()
            && (addr == self.config.addr
                || (addr == self.link_local && self.has_link_local())
                || self.is_other(addr))
    }

    /// Whether we have asked for `addr`, or are about to, and may not use it yet.
    pub(crate) fn is_tentative(&self, addr: Ipv6Addr) -> bool {
        self.autoconf.as_ref().is_some_and(|autoconf| autoconf.is_tentative(addr))
    }

    /// A socket listens to `group` from now on, the first one.
    pub(crate) fn join(&mut self, group: Ipv6Addr) {
        if group != ALL_NODES && !self.joined.contains(&group) {
            self.joined.push(group);
        }
    }

    /// No socket listens to it any more.
    pub(crate) fn leave(&mut self, group: Ipv6Addr) {
        self.joined.retain(|other| *other != group);
    }

    /// The groups that we are in, but for all nodes, which nobody reports: those of our addresses, of those
    /// that may become ours (RFC 4291 section 2.8, RFC 4862 section 5.4.2), and of sockets.
    pub(crate) fn groups(&self) -> SmallVec<[Ipv6Addr; 3]> {
        let candidate = self.autoconf.as_ref().and_then(Autoconf::candidate);
        let addrs = [Some(self.config.addr), candidate, Some(self.link_local)];
        let addrs = addrs.into_iter().flatten().chain(self.others.iter().map(|(addr, _)| *addr));
        let mut groups: SmallVec<[Ipv6Addr; 3]> = SmallVec::new();
        let of_addrs = addrs.filter(|addr| !addr.is_unspecified()).map(solicited_node);
        for group in of_addrs.chain(self.joined.iter().copied()) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        groups
    }

    /// Whether `addr` is a group that we are in.
    pub(crate) fn is_our_group(&self, addr: Ipv6Addr) -> bool {
        addr == ALL_NODES || self.groups().contains(&addr)
    }

    /// Whether frames to `addr` may be for a group that we are in.
    pub(crate) fn hears(&self, addr: EthernetAddress) -> bool {
        multicast_hardware(ALL_NODES) == addr
            || self.groups().into_iter().any(|group| multicast_hardware(group) == addr)
    }

    /// Whether `addr` is on our link.
    pub(crate) fn is_on_link(&self, addr: Ipv6Addr) -> bool {
        addr.is_unicast_link_local()
            || has_prefix(addr, self.config.addr, self.config.prefix_len)
            || self.others.iter().any(|&(other, len)| has_prefix(addr, other, len))
    }

    /// The address on the link that a packet to `dst` is handed to.
    pub(crate) fn next_hop(&self, dst: Ipv6Addr) -> Option<Ipv6Addr> {
        if !is_unicast(dst) || self.is_ours(dst) {
            return None;
        }
        if self.is_on_link(dst) {
            return Some(dst);
        }
        self.config.gateway.filter(|&gateway| is_unicast(gateway) && self.is_on_link(gateway))
    }
}

/// Whether both begin with the same `len` bits.
fn has_prefix(addr: Ipv6Addr, other: Ipv6Addr, len: u8) -> bool {
    let shift = 128 - u32::from(len.min(128));
    (addr.to_bits() ^ other.to_bits()).checked_shr(shift).unwrap_or(0) == 0
}

/// Whether `addr` may be one host's address on a wire: no group, not zero, no loopback, no IPv4 address in
/// disguise.
pub(crate) fn is_unicast(addr: Ipv6Addr) -> bool {
    !addr.is_multicast() && !addr.is_unspecified() && !addr.is_loopback() && addr.to_ipv4_mapped().is_none()
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// RFC 4291 section 2.7.1: the group of all addresses that end alike.
pub(crate) fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = addr.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// RFC 2464 section 7.
pub(crate) fn multicast_hardware(group: Ipv6Addr) -> EthernetAddress {
    let [.., a, b, c, d] = group.octets();
    EthernetAddress([0x33, 0x33, a, b, c, d])
}

/// RFC 4291 section 2.5.6 and appendix A.
fn link_local(EthernetAddress([a, b, c, d, e, f]): EthernetAddress) -> Ipv6Addr {
    let word = |a, b| u16::from_be_bytes([a, b]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    fn interface(prefix_len: u8, gateway: Option<&str>) -> Ipv6Interface {
        let config = Ipv6Config { addr: ip("2001:db8::12:3456"), prefix_len, gateway: gateway.map(ip) };
        Ipv6Interface::new(config, EthernetAddress([2, 0, 0, 0xaa, 0xbb, 0xcc]))
    }

    #[test]
    fn addresses_and_groups_follow_rfc_4291() {
        let interface = interface(64, None);
        assert_eq!(interface.link_local, ip("fe80::ff:feaa:bbcc"));
        assert_eq!(solicited_node(interface.addr()), ip("ff02::1:ff12:3456"));
        assert!(interface.hears(EthernetAddress([0x33, 0x33, 0xff, 0x12, 0x34, 0x56])));
        assert!(interface.hears(EthernetAddress([0x33, 0x33, 0xff, 0xaa, 0xbb, 0xcc])));
        assert!(!interface.hears(EthernetAddress([0x33, 0x33, 0xff, 0x12, 0x34, 0x57])));
        assert!(interface.is_our_group(ip("ff02::1")) && !interface.is_our_group(ip("ff02::2")));
    }

    #[test]
    fn several_addresses_make_several_networks_and_groups() {
        let mut own = interface(64, None);
        own.add_address(ip("2001:db8:1::7"), 64);
        own.add_address(ip("2001:db8:1::12:3456"), 48);
        assert!(own.is_ours(ip("2001:db8:1::7")) && own.is_ours(ip("2001:db8::12:3456")));
        assert_eq!(own.groups().len(), 3, "two of the addresses end alike: {:?}", own.groups());
        assert!(own.hears(EthernetAddress([0x33, 0x33, 0xff, 0, 0, 7])));
        assert_eq!(own.next_hop(ip("2001:db8:1::7")), None);
        assert_eq!(own.next_hop(ip("2001:db8:1::8")), Some(ip("2001:db8:1::8")));
        assert_eq!(own.source_for(ip("2001:db8:1::8")), ip("2001:db8:1::7"));
        assert_eq!(own.source_for(ip("2001:db8:1:1::8")), ip("2001:db8:1::12:3456"));
        assert_eq!(own.source_for(ip("2001:db8::8")), own.addr());
        assert_eq!(own.source_for(ip("2002::8")), own.addr());
    }

    #[test]
    fn packets_go_to_the_link_or_the_gateway() {
        let near = interface(64, None);
        assert_eq!(near.next_hop(ip("2001:db8::9")), Some(ip("2001:db8::9")));
        assert_eq!(near.next_hop(ip("fe80::9")), Some(ip("fe80::9")));
        assert_eq!(near.next_hop(ip("2001:db8:0:1::9")), None);
        for gateway in ["fe80::1", "2001:db8::1"] {
            let out = interface(64, Some(gateway));
            assert_eq!(out.next_hop(ip("2001:db8:0:1::9")), Some(ip(gateway)));
        }
        assert_eq!(interface(64, Some("2001:db9::1")).next_hop(ip("::2")), None, "a gateway off the link");
        for prefix_len in [0, 128, 255] {
            let all = interface(prefix_len, None).next_hop(ip("2002::1")).is_some();
            assert_eq!(all, prefix_len == 0);
        }
        for nobody in ["::", "::1", "ff02::1", "::ffff:10.0.0.1", "2001:db8::12:3456"] {
            assert_eq!(interface(0, None).next_hop(ip(nobody)), None, "{nobody}");
        }
    }
}
