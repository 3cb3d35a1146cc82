//! The group management protocol of IPv4, version 3 (RFC 3376), as much as a host needs that takes what
//! anybody sends to a group: a router's question, of any version, and the report that names groups. Switches
//! that pass groups only where somebody listens read the reports.

use std::net::Ipv4Addr;

use super::mld::ReportReason;
use super::{Error, checksum, put_u16};

/// Its number among the protocols.
pub const PROTOCOL: u8 = 2;

/// Whom reports are for: all routers that understand this version (section 4.2.14).
pub const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);

/// All hosts: where routers ask (section 4.1.12); nobody reports that group.
pub const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// The option by which routers look at a packet that is not for them (RFC 2113).
pub const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];

const QUERY: u8 = 0x11;
const REPORT: u8 = 0x22;

/// A question of versions 1 and 2, and from which length on it is one of version 3.
const QUERY_LEN: usize = 8;
const QUERY_V3_LEN: usize = 12;

const REPORT_HEADER_LEN: usize = 8;
/// A group's record, without sources.
const RECORD_LEN: usize = 8;

/// How long routers of version 1 wait, who do not say so (RFC 2236 section 4).
const MAX_DELAY_V1_MS: u32 = 10_000;

/// A router asks who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupQuery {
    /// To which group; unspecified: to any.
    pub group: Ipv4Addr,
    /// Answers are to be spread over this time, in milliseconds.
    pub max_delay_ms: u32,
}

impl GroupQuery {
    /// Reads the payload of a packet, if it is one.
    ///
    /// # Errors
    /// [`Error`], each of them; [`Error::Unsupported`] for other messages.
    pub fn parse(bytes: &[u8]) -> Result<GroupQuery, Error> {
        let &[kind, code, _, _, a, b, c, d, ..] = bytes else { return Err(Error::Truncated) };
        if kind != QUERY {
            return Err(Error::Unsupported);
        }
        // Section 7.1: lengths between the versions' are of none.
        if bytes.len() > QUERY_LEN && bytes.len() < QUERY_V3_LEN {
            return Err(Error::Malformed);
        }
        if checksum::sum(bytes) != 0xffff {
            return Err(Error::Checksum);
        }
        let is_v3 = bytes.len() >= QUERY_V3_LEN;
        let code = u32::from(code);
        let max_delay_ms = match code {
            0 if !is_v3 => MAX_DELAY_V1_MS,
            // Section 4.1.1: a number of floating point.
            128.. if is_v3 => ((code & 0xf | 0x10) << ((code >> 4 & 7) + 3)) * 100,
            tenths => tenths * 100,
        };
        Ok(GroupQuery { group: Ipv4Addr::new(a, b, c, d), max_delay_ms })
    }
}

/// A report of `groups`, finished, for a packet to [`ALL_ROUTERS`].
pub fn report(reason: ReportReason, groups: &[Ipv4Addr]) -> Box<[u8]> {
    let mut bytes = vec![0; REPORT_HEADER_LEN + RECORD_LEN * groups.len()].into_boxed_slice();
    bytes[0] = REPORT;
    put_u16(&mut bytes, 6, groups.len() as u16);
    for (record, group) in bytes[REPORT_HEADER_LEN..].chunks_exact_mut(RECORD_LEN).zip(groups) {
        record[0] = reason as u8;
        record[4..].copy_from_slice(&group.octets());
    }
    let sum = checksum::sum(&bytes);
    put_u16(&mut bytes, 2, !sum);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

    fn query(code: u8, group: Ipv4Addr, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        (bytes[0], bytes[1]) = (QUERY, code);
        bytes[4..8].copy_from_slice(&group.octets());
        if let Some(interval) = bytes.get_mut(9) {
            *interval = 125;
        }
        let sum = checksum::sum(&bytes);
        put_u16(&mut bytes, 2, !sum);
        bytes
    }

    #[test]
    fn delays_are_read_in_all_versions() {
        for (code, len, max_delay_ms) in [
            (0, 8, 10_000),
            (100, 8, 10_000),
            (255, 8, 25_500),
            (0, 12, 0),
            (100, 12, 10_000),
            (0x80, 12, 12_800),
            (0xff, 16, 3_174_400),
        ] {
            let parsed = GroupQuery::parse(&query(code, GROUP, len));
            assert_eq!(parsed, Ok(GroupQuery { group: GROUP, max_delay_ms }), "{code:#x} {len}");
        }
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let good = query(10, GROUP, 12);
        for len in 0..12 {
            assert!(GroupQuery::parse(&good[..len]).is_err(), "{len}");
        }
        for at in 0..12 {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(GroupQuery::parse(&bad).is_err(), "{at}");
        }
        assert!(GroupQuery::parse(&report(ReportReason::Asked, &[GROUP])).is_err());
    }

    #[test]
    fn a_report_is_as_in_section_4_2() {
        let report = report(ReportReason::Left, &[GROUP, Ipv4Addr::new(224, 0, 0, 251)]);
        assert_eq!((report[0], &report[4..8]), (0x22, &[0, 0, 0, 2][..]));
        assert_eq!(&report[8..], &[3, 0, 0, 0, 239, 1, 2, 3, 3, 0, 0, 0, 224, 0, 0, 251]);
        assert_eq!(checksum::sum(&report), 0xffff);
    }
}
