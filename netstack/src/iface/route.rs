//! Where a packet goes next (RFC 1122 section 3.3.1): straight to its destination on the same link, or to a
//! gateway.
//!
//! One interface, so a route is a prefix and a gateway; longest prefix wins. No redirects: they are ignored.
//! Several addresses make several networks on the link.

use std::fmt;
use std::net::Ipv4Addr;

/// An address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    addr: Ipv4Addr,
    len: u8,
}

impl Prefix {
    /// Everything.
    pub const DEFAULT: Prefix = Prefix { addr: Ipv4Addr::UNSPECIFIED, len: 0 };

    /// The first `len` bits of `addr`; more than 32 count as 32.
    pub const fn new(addr: Ipv4Addr, len: u8) -> Prefix {
        let len = if len > 32 { 32 } else { len };
        Prefix { addr: Ipv4Addr::from_bits(addr.to_bits() & Prefix::mask(len)), len }
    }

    /// Bits that are fixed, 0 to 32.
    pub const fn len(self) -> u8 {
        self.len
    }

    /// Whether the prefix covers all addresses.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether `addr` has the prefix.
    #[inline]
    pub const fn contains(self, addr: Ipv4Addr) -> bool {
        addr.to_bits() & Prefix::mask(self.len) == self.addr.to_bits()
    }

    /// The prefix' directed broadcast address; `None` where there is none (RFC 3021: /31 and /32).
    pub const fn broadcast(self) -> Option<Ipv4Addr> {
        if self.len >= 31 {
            return None;
        }
        Some(Ipv4Addr::from_bits(self.addr.to_bits() | !Prefix::mask(self.len)))
    }

    /// Whether `addr` names the network itself (all host bits zero), an old form of broadcast (RFC 1122
    /// section 3.3.6).
    pub const fn is_network(self, addr: Ipv4Addr) -> bool {
        self.len < 31 && addr.to_bits() == self.addr.to_bits()
    }

    #[inline]
    const fn mask(len: u8) -> u32 {
        if len == 0 { 0 } else { u32::MAX << (32 - len as u32) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

/// The routes of one interface.
#[derive(Clone, Debug)]
pub struct Routes {
    addr: Ipv4Addr,
    link: Prefix,
    /// Other addresses of ours, and what is on the link because of them.
    others: Vec<(Ipv4Addr, Prefix)>,
    /// By falling prefix length, so that the first match is the longest.
    via: Vec<(Prefix, Ipv4Addr)>,
}

impl Routes {
    /// Only the link itself: `addr` is ours, its first `prefix_len` bits are the link's.
    pub const fn new(addr: Ipv4Addr, prefix_len: u8) -> Routes {
        Routes { addr, link: Prefix::new(addr, prefix_len), others: Vec::new(), via: Vec::new() }
    }

    /// Another address of ours, whose first `prefix_len` bits are the link's, too.
    pub fn add_address(&mut self, addr: Ipv4Addr, prefix_len: u8) {
        self.others.push((addr, Prefix::new(addr, prefix_len)));
    }

    /// Whether `addr` is ours.
    #[inline]
    pub fn is_ours(&self, addr: Ipv4Addr) -> bool {
        addr == self.addr || self.others.iter().any(|(other, _)| *other == addr)
    }

    /// Whether `addr` is on the link.
    #[inline]
    pub fn is_on_link(&self, addr: Ipv4Addr) -> bool {
        self.link.contains(addr) || self.others.iter().any(|(_, link)| link.contains(addr))
    }

    /// Which of our addresses speaks to `next_hop`: the one in its network, of several the one in the
    /// smallest, or else the first (RFC 1122 section 3.3.4.3).
    pub fn source_for(&self, next_hop: Ipv4Addr) -> Ipv4Addr {
        let all = self.others.iter().copied().chain([(self.addr, self.link)]);
        let near = all.filter(|(_, link)| link.contains(next_hop)).max_by_key(|(_, link)| link.len);
        near.map_or(self.addr, |(addr, _)| addr)
    }

    /// Sends what has `prefix` to `gateway`, in place of an earlier route for the same prefix. Returns
    /// whether the gateway is on the link, as it must be.
    pub fn add(&mut self, prefix: Prefix, gateway: Ipv4Addr) -> bool {
        if !self.is_on_link(gateway) || self.is_ours(gateway) {
            return false;
        }
        self.via.retain(|(other, _)| *other != prefix);
        let at = self.via.partition_point(|(other, _)| other.len >= prefix.len);
        self.via.insert(at, (prefix, gateway));
        true
    }

    /// The address on the link that a packet to `dst` is handed to; `None` if there is no way, or `dst` is
    /// nothing that one host can be reached by.
    #[inline]
    pub fn next_hop(&self, dst: Ipv4Addr) -> Option<Ipv4Addr> {
        if !self.is_unicast(dst) || self.is_ours(dst) {
            return None;
        }
        if self.is_on_link(dst) {
            return Some(dst);
        }
        self.via.iter().find(|(prefix, _)| prefix.contains(dst)).map(|(_, gateway)| *gateway)
    }

    /// Whether `addr` may be one host's address as seen from here: no group, no broadcast, not this network's
    /// name, no loopback, not zero (RFC 1122 section 3.2.1.3).
    #[inline]
    pub fn is_unicast(&self, addr: Ipv4Addr) -> bool {
        let first = addr.octets()[0];
        let mut links = std::iter::once(self.link).chain(self.others.iter().map(|(_, link)| *link));
        let may_be_one = |link: Prefix| Some(addr) != link.broadcast() && !link.is_network(addr);
        !(first >= 224 || first == 127 || first == 0) && links.all(may_be_one)
    }

    /// Whether `addr` is everybody's on our link: on any, or in a network of ours.
    pub fn is_broadcast(&self, addr: Ipv4Addr) -> bool {
        let mut links = std::iter::once(self.link).chain(self.others.iter().map(|(_, link)| *link));
        addr.is_broadcast() || links.any(|link| link.broadcast() == Some(addr))
    }

    /// Our address.
    pub const fn addr(&self) -> Ipv4Addr {
        self.addr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ip(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
        Ipv4Addr::new(a, b, c, d)
    }

    #[test]
    fn longest_prefix_wins() {
        let mut routes = Routes::new(ip(10, 0, 0, 2), 24);
        assert_eq!(routes.next_hop(ip(10, 0, 0, 9)), Some(ip(10, 0, 0, 9)));
        assert_eq!(routes.next_hop(ip(10, 0, 1, 9)), None);
        assert!(routes.add(Prefix::DEFAULT, ip(10, 0, 0, 1)));
        assert!(routes.add(Prefix::new(ip(10, 0, 1, 0), 24), ip(10, 0, 0, 3)));
        assert!(routes.add(Prefix::new(ip(10, 0, 0, 0), 8), ip(10, 0, 0, 4)));
        assert_eq!(routes.next_hop(ip(10, 0, 1, 9)), Some(ip(10, 0, 0, 3)));
        assert_eq!(routes.next_hop(ip(10, 9, 1, 9)), Some(ip(10, 0, 0, 4)));
        assert_eq!(routes.next_hop(ip(9, 9, 1, 9)), Some(ip(10, 0, 0, 1)));
        assert!(routes.add(Prefix::DEFAULT, ip(10, 0, 0, 7)));
        assert_eq!(routes.next_hop(ip(9, 9, 1, 9)), Some(ip(10, 0, 0, 7)));
        assert!(!routes.add(Prefix::DEFAULT, ip(11, 0, 0, 7)), "a gateway off the link");
    }

    #[test]
    fn several_addresses_make_several_networks() {
        let mut routes = Routes::new(ip(10, 0, 0, 2), 24);
        routes.add_address(ip(10, 0, 0, 3), 24);
        routes.add_address(ip(192, 0, 2, 9), 28);
        routes.add_address(ip(192, 0, 2, 70), 24);
        for ours in [ip(10, 0, 0, 2), ip(10, 0, 0, 3), ip(192, 0, 2, 9), ip(192, 0, 2, 70)] {
            assert!(routes.is_ours(ours));
            assert_eq!(routes.next_hop(ours), None, "{ours}");
        }
        assert_eq!(routes.next_hop(ip(192, 0, 2, 1)), Some(ip(192, 0, 2, 1)));
        for nobody in [ip(192, 0, 2, 255), ip(192, 0, 2, 15), ip(10, 0, 0, 255), ip(192, 0, 2, 0)] {
            assert_eq!(routes.next_hop(nobody), None, "{nobody}");
        }
        assert!(routes.add(Prefix::DEFAULT, ip(192, 0, 2, 1)), "a gateway in another network of ours");
        assert_eq!(routes.next_hop(ip(9, 9, 9, 9)), Some(ip(192, 0, 2, 1)));
        assert!(!routes.add(Prefix::DEFAULT, ip(192, 0, 2, 9)), "we are no gateway to ourselves");
        assert_eq!(routes.source_for(ip(192, 0, 2, 1)), ip(192, 0, 2, 9), "the smaller network");
        assert_eq!(routes.source_for(ip(192, 0, 2, 99)), ip(192, 0, 2, 70));
        assert_eq!(routes.source_for(ip(10, 0, 0, 99)), ip(10, 0, 0, 2), "the first of two");
        assert_eq!(routes.source_for(ip(9, 9, 9, 9)), ip(10, 0, 0, 2));
    }

    #[test]
    fn nobody_is_reached_by_group_addresses() {
        let mut routes = Routes::new(ip(10, 0, 0, 2), 24);
        routes.add(Prefix::DEFAULT, ip(10, 0, 0, 1));
        for dst in [
            ip(10, 0, 0, 255),
            ip(10, 0, 0, 0),
            ip(10, 0, 0, 2),
            ip(224, 0, 0, 1),
            Ipv4Addr::BROADCAST,
            ip(127, 0, 0, 1),
            ip(0, 1, 2, 3),
        ] {
            assert_eq!(routes.next_hop(dst), None, "{dst}");
        }
        // RFC 3021: both addresses of a /31 are hosts.
        let routes = Routes::new(ip(10, 0, 0, 2), 31);
        assert_eq!(routes.next_hop(ip(10, 0, 0, 3)), Some(ip(10, 0, 0, 3)));
        // A whole-Internet link has no broadcast trouble of its own, and no shift overflows.
        assert_eq!(Routes::new(ip(10, 0, 0, 2), 0).next_hop(ip(9, 9, 9, 9)), Some(ip(9, 9, 9, 9)));
    }
}
