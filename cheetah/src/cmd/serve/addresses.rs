//! Addresses of our own TCP/IP, as options give them: what cannot work is refused with what would.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, Debug)]
pub(in crate::cmd) struct Network(pub(in crate::cmd) Ipv4Addr, pub(in crate::cmd) u8);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let (addr, prefix_len) =
            text.split_once('/').ok_or("give an address and a prefix, as in 10.9.0.2/24")?;
        let addr = addr.parse().map_err(|_| format!("`{addr}` is no IPv4 address"))?;
        match prefix_len.parse() {
            Ok(prefix_len @ 0..=32) => Ok(Network(addr, prefix_len)),
            _ => Err(format!("`{prefix_len}` is no prefix length: 0 to 32")),
        }
    }
}

/// Where our own address comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum OwnAddress {
    Given(Network),
    /// From a DHCP server of the network.
    Dhcp,
}

impl FromStr for OwnAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<OwnAddress, String> {
        if text == "dhcp" {
            return Ok(OwnAddress::Dhcp);
        }
        text.parse().map(OwnAddress::Given).map_err(|why| format!("{why} (or dhcp)"))
    }
}

impl OwnAddress {
    /// The address, zero while nobody knows it, with its prefix.
    pub(super) fn network(self) -> Network {
        match self {
            OwnAddress::Given(network) => network,
            OwnAddress::Dhcp => Network(Ipv4Addr::UNSPECIFIED, 32),
        }
    }
}

/// The same in IPv6.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network6(pub(super) Ipv6Addr, pub(super) u8);

impl FromStr for Network6 {
    type Err = String;

    fn from_str(text: &str) -> Result<Network6, String> {
        let (addr, prefix_len) =
            text.split_once('/').ok_or("give an address and a prefix, as in fd00::2/64")?;
        let addr: Ipv6Addr = addr.parse().map_err(|_| format!("`{addr}` is no IPv6 address"))?;
        if addr.is_multicast()
            || addr.is_unspecified()
            || addr.is_loopback()
            || addr.to_ipv4_mapped().is_some()
        {
            return Err(format!("`{addr}` is not the address of one host"));
        }
        match prefix_len.parse() {
            Ok(prefix_len @ 0..=128) => Ok(Network6(addr, prefix_len)),
            _ => Err(format!("`{prefix_len}` is no prefix length: 0 to 128")),
        }
    }
}

/// A further address of ours, of either family.
pub(super) fn further_addr(text: &str) -> Result<(IpAddr, u8), String> {
    if text.contains(':') {
        let network: Network6 = text.parse()?;
        return Ok((network.0.into(), network.1));
    }
    let network: Network = text.parse()?;
    match network.refusal(None, None) {
        None => Ok((network.0.into(), network.1)),
        Some(why) => Err(why),
    }
}

/// Where our own address in IPv6 comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum OwnAddress6 {
    Given(Network6),
    /// From a router of the network.
    Auto,
}

impl FromStr for OwnAddress6 {
    type Err = String;

    fn from_str(text: &str) -> Result<OwnAddress6, String> {
        if text == "auto" {
            return Ok(OwnAddress6::Auto);
        }
        text.parse().map(OwnAddress6::Given).map_err(|why| format!("{why} (or auto)"))
    }
}

impl Network {
    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.1)).unwrap_or(0)
    }

    /// Whether `other` may be the address of a host in this network.
    fn has_host(self, other: Ipv4Addr) -> bool {
        let (other, mask) = (other.to_bits(), self.mask());
        let within = other & mask == self.0.to_bits() & mask;
        // Networks of two addresses have neither broadcasts nor a name (RFC 3021), and one of one has itself.
        within && (self.1 > 30 || (other & !mask != 0 && other | mask != u32::MAX))
    }

    /// Why we cannot be `self` beside these, if so.
    pub(super) fn refusal(self, gateway: Option<Ipv4Addr>, host: Option<Ipv4Addr>) -> Option<String> {
        let Network(addr, prefix_len) = self;
        if addr.is_multicast() || addr.is_unspecified() || addr.is_loopback() || addr.is_broadcast() {
            return Some(format!("--addr {addr}: this is not the address of one host on a network"));
        }
        if !self.has_host(addr) {
            return Some(format!(
                "--addr {addr}/{prefix_len}: this is the network itself or its broadcast address; give one between"
            ));
        }
        for (option, other) in [("--gateway", gateway), ("--host-addr", host)] {
            let Some(other) = other else { continue };
            if other == addr {
                return Some(format!("{option} {other}: this is our own address; give the other end's"));
            }
            if !self.has_host(other) {
                return Some(format!(
                    "{option} {other}: no host of our network {addr}/{prefix_len} has this address"
                ));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused() {
        for (network, gateway, host, expected) in [
            ("10.9.0.1/24", "", "", ""),
            ("10.9.0.1/24", "10.9.0.254", "10.9.0.2", ""),
            ("10.9.0.0/31", "10.9.0.1", "10.9.0.1", ""),
            ("10.9.0.7/32", "", "", ""),
            ("10.9.0.255/24", "", "", "broadcast"),
            ("10.9.0.0/24", "", "", "network itself"),
            ("10.9.0.255/23", "", "", ""),
            ("224.0.0.1/24", "", "", "not the address of one host"),
            ("127.0.0.1/8", "", "", "not the address of one host"),
            ("0.0.0.0/0", "", "", "not the address of one host"),
            ("255.255.255.255/32", "", "", "not the address of one host"),
            ("10.9.0.1/24", "10.8.0.1", "", "--gateway 10.8.0.1: no host"),
            ("10.9.0.1/24", "10.9.0.255", "", "--gateway 10.9.0.255: no host"),
            ("10.9.0.1/24", "10.9.0.1", "", "--gateway 10.9.0.1: this is our own"),
            ("10.9.0.1/24", "", "10.9.0.1", "--host-addr 10.9.0.1: this is our own"),
            ("10.9.0.1/24", "", "10.9.1.2", "--host-addr 10.9.1.2: no host"),
            ("10.9.0.1/0", "8.8.8.8", "", ""),
        ] {
            let parse = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
            let refusal = network.parse::<Network>().unwrap().refusal(parse(gateway), parse(host));
            let refusal = refusal.unwrap_or_default();
            assert!(
                refusal.contains(expected) && refusal.is_empty() == expected.is_empty(),
                "{network}: {refusal}"
            );
        }
    }
}
