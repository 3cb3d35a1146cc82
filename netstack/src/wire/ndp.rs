//! Router solicitations and advertisements (RFC 4861 sections 4.1, 4.2), with the options that a host
//! configures itself by: of the prefixes those that say that addresses are to be made from them.

use std::net::Ipv6Addr;

use smallvec::SmallVec;

use super::{Error, EthernetAddress, get_u16, get_u32, icmpv6};

/// All routers of the link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;

const SOLICITATION_LEN: usize = 8;
const ADVERTISEMENT_LEN: usize = 16;

const OPTION_SOURCE: u8 = 1;
const OPTION_PREFIX: u8 = 3;

const PREFIX_LEN: usize = 32;
const FLAG_ON_LINK: u8 = 0x80;
const FLAG_AUTONOMOUS: u8 = 0x40;

/// A router tells of itself and of the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterAdvertisement {
    /// For how long it is a way out, in seconds; zero: it is none.
    pub router_lifetime_s: u16,
    /// What addresses may be made of; no more than there is room for in the packet.
    pub prefixes: SmallVec<[PrefixInformation; 2]>,
    /// Its hardware address.
    pub source: Option<EthernetAddress>,
}

/// A prefix of the link (section 4.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixInformation {
    /// The prefix, zeros behind it.
    pub prefix: Ipv6Addr,
    /// Its length.
    pub len: u8,
    /// All that has it is on the link.
    pub on_link: bool,
    /// How long addresses of it are good, and how long they are the ones to prefer, in seconds; `u32::MAX`:
    /// for ever.
    pub valid_s: u32,
    /// See there.
    pub preferred_s: u32,
}

impl RouterAdvertisement {
    /// Reads the payload of a packet with these addresses, if it is one.
    ///
    /// # Errors
    /// [`Error`], each of them; [`Error::Unsupported`] for other messages.
    pub fn parse(bytes: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<RouterAdvertisement, Error> {
        if bytes.first() != Some(&ADVERTISEMENT) {
            return Err(Error::Unsupported);
        }
        if bytes.len() < ADVERTISEMENT_LEN {
            return Err(Error::Truncated);
        }
        icmpv6::check_sum(bytes, src, dst)?;
        // Section 6.1.2.
        if bytes[1] != 0 || !src.is_unicast_link_local() {
            return Err(Error::Malformed);
        }
        let (router_lifetime_s, prefixes) = (get_u16(bytes, 6), SmallVec::new());
        let mut advertisement = RouterAdvertisement { router_lifetime_s, prefixes, source: None };
        let mut options = &bytes[ADVERTISEMENT_LEN..];
        while let [kind, len, ..] = *options {
            let len = 8 * usize::from(len);
            let option = options.get(..len).filter(|_| len > 0).ok_or(Error::Malformed)?;
            match kind {
                OPTION_SOURCE if len == 8 => {
                    advertisement.source = option[2..].first_chunk().map(|bytes| EthernetAddress(*bytes));
                }
                OPTION_PREFIX if len == PREFIX_LEN => {
                    advertisement.prefixes.extend(PrefixInformation::parse(option));
                }
                _ => {}
            }
            options = &options[len..];
        }
        Ok(advertisement)
    }
}

impl PrefixInformation {
    /// One that addresses are to be made from, and can be (RFC 4862 section 5.5.3 a to c).
    fn parse(option: &[u8]) -> Option<PrefixInformation> {
        let mut octets = [0; 16];
        octets.copy_from_slice(&option[16..32]);
        let (len, flags) = (option[2], option[3]);
        let mask = u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0);
        let prefix = Ipv6Addr::from_bits(u128::from_be_bytes(octets) & mask);
        let (valid_s, preferred_s) = (get_u32(option, 4), get_u32(option, 8));
        let is_usable = flags & FLAG_AUTONOMOUS != 0
            && len <= 128
            && preferred_s <= valid_s
            && !prefix.is_multicast()
            && !prefix.is_unicast_link_local();
        let on_link = flags & FLAG_ON_LINK != 0;
        is_usable.then_some(PrefixInformation { prefix, len, on_link, valid_s, preferred_s })
    }
}

/// A solicitation of `source`, finished, for a packet from `src` to [`ALL_ROUTERS`].
pub fn solicitation(src: Ipv6Addr, source: EthernetAddress) -> Box<[u8]> {
    let mut bytes = vec![0; SOLICITATION_LEN + 8].into_boxed_slice();
    bytes[0] = SOLICITATION;
    bytes[SOLICITATION_LEN..SOLICITATION_LEN + 2].copy_from_slice(&[OPTION_SOURCE, 1]);
    bytes[SOLICITATION_LEN + 2..].copy_from_slice(&source.0);
    icmpv6::put_sum(&mut bytes, src, ALL_ROUTERS);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

    fn finished(mut bytes: Vec<u8>, src: Ipv6Addr) -> Vec<u8> {
        bytes[2..4].fill(0);
        icmpv6::put_sum(&mut bytes, src, ALL_NODES);
        bytes
    }

    fn advertisement(flags: u8, len: u8, valid_s: u32, preferred_s: u32, prefix: &str) -> Vec<u8> {
        let mut bytes = vec![ADVERTISEMENT, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([5, 1, 0, 0, 0, 0, 5, 220]);
        bytes.extend([OPTION_PREFIX, 4, len, flags]);
        bytes.extend(valid_s.to_be_bytes());
        bytes.extend(preferred_s.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(prefix.parse::<Ipv6Addr>().expect("an address").octets());
        bytes.extend([OPTION_SOURCE, 1, 2, 0, 0, 0, 0, 9]);
        finished(bytes, ROUTER)
    }

    #[test]
    fn an_advertisement_is_read() {
        let bytes = advertisement(0xc0, 64, 7200, 3600, "2001:db8:0:1::77");
        let parsed = RouterAdvertisement::parse(&bytes, ROUTER, ALL_NODES).expect("one");
        let prefix = "2001:db8:0:1::".parse().expect("an address");
        let expected = PrefixInformation { prefix, len: 64, on_link: true, valid_s: 7200, preferred_s: 3600 };
        assert_eq!((parsed.router_lifetime_s, &parsed.prefixes[..]), (1800, &[expected][..]));
        assert_eq!(parsed.source, Some(EthernetAddress([2, 0, 0, 0, 0, 9])));
    }

    #[test]
    fn prefixes_that_no_address_is_made_of_are_passed_over() {
        for (flags, len, valid, preferred, prefix) in [
            (0x80, 64, 7200, 3600, "2001:db8::"),
            (0xc0, 64, 3600, 7200, "2001:db8::"),
            (0xc0, 129, 7200, 3600, "2001:db8::"),
            (0xc0, 64, 7200, 3600, "fe80::"),
            (0xc0, 64, 7200, 3600, "ff02::"),
        ] {
            let bytes = advertisement(flags, len, valid, preferred, prefix);
            let parsed = RouterAdvertisement::parse(&bytes, ROUTER, ALL_NODES).expect("one");
            assert!(parsed.prefixes.is_empty(), "{flags:#x} {len} {prefix}");
        }
    }

    #[test]
    fn hostile_ones_are_refused() {
        let good = advertisement(0xc0, 64, 7200, 3600, "2001:db8::");
        let far: Ipv6Addr = "2001:db8::1".parse().expect("an address");
        let forged = finished(good.clone(), far);
        assert_eq!(RouterAdvertisement::parse(&forged, far, ALL_NODES), Err(Error::Malformed));
        for at in 0..good.len() {
            assert!(RouterAdvertisement::parse(&good[..at], ROUTER, ALL_NODES).is_err(), "cut at {at}");
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert!(RouterAdvertisement::parse(&bad, ROUTER, ALL_NODES).is_err(), "changed at {at}");
        }
        for len in [0, 9, 255] {
            let mut bad = good.clone();
            bad[17] = len;
            let bad = finished(bad, ROUTER);
            assert_eq!(RouterAdvertisement::parse(&bad, ROUTER, ALL_NODES), Err(Error::Malformed), "{len}");
        }
        assert_eq!(RouterAdvertisement::parse(&[], ROUTER, ALL_NODES), Err(Error::Unsupported));
    }
}
