//! Multicast listener discovery, version 2 (RFC 3810), as much as a host needs whose groups are those of its
//! own addresses: a router's question, and the report that names groups. Switches that pass groups only where
//! somebody listens read the reports.

use std::net::Ipv6Addr;

use super::{Error, get_u16, icmpv6, put_u16};

/// Whom reports are for: all routers that understand this version (section 5.2.14).
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// Hop limit of questions and reports: they concern the link (section 5).
pub const HOP_LIMIT: u8 = 1;

const QUERY: u8 = 130;
const REPORT: u8 = 143;

/// Header of a question, and the length of one of version 1.
const QUERY_LEN: usize = 24;
/// From which length on it is one of version 2.
const QUERY_V2_LEN: usize = 28;

const REPORT_HEADER_LEN: usize = 8;
/// A group's record, without sources.
const RECORD_LEN: usize = 20;

/// Why a group is named (section 5.2.12; the numbers are also those of RFC 3376 section 4.2.12): without
/// sources that are left out, so from everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReportReason {
    /// It was asked for: `MODE_IS_EXCLUDE`.
    Asked = 2,
    /// Nobody listens any more: `CHANGE_TO_INCLUDE_MODE`.
    Left = 3,
    /// It is new: `CHANGE_TO_EXCLUDE_MODE`.
    Joined = 4,
}

/// A router asks who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerQuery {
    /// To which group; unspecified: to any.
    pub group: Ipv6Addr,
    /// Answers are to be spread over this time, in milliseconds.
    pub max_delay_ms: u32,
}

impl ListenerQuery {
    /// Reads the payload of a packet with these addresses, if it is one.
    ///
    /// # Errors
    /// [`Error`], each of them; [`Error::Unsupported`] for other messages.
    pub fn parse(bytes: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<ListenerQuery, Error> {
        if bytes.first() != Some(&QUERY) {
            return Err(Error::Unsupported);
        }
        // Section 8.1: lengths between the two versions' are of none.
        if bytes.len() < QUERY_LEN || (bytes.len() > QUERY_LEN && bytes.len() < QUERY_V2_LEN) {
            return Err(Error::Truncated);
        }
        icmpv6::check_sum(bytes, src, dst)?;
        let code = u32::from(get_u16(bytes, 4));
        // Section 5.1.3: beyond 15 bits a number of floating point. In version 1 it is a plain number.
        let is_plain = code < 0x8000 || bytes.len() == QUERY_LEN;
        let max_delay_ms = if is_plain { code } else { (code & 0xfff | 0x1000) << ((code >> 12 & 7) + 3) };
        let mut octets = [0; 16];
        octets.copy_from_slice(&bytes[8..24]);
        Ok(ListenerQuery { group: octets.into(), max_delay_ms })
    }
}

/// A report that we listen to `groups`, finished, for a packet from `src` to [`ALL_ROUTERS`].
pub fn report(reason: ReportReason, groups: &[Ipv6Addr], src: Ipv6Addr) -> Box<[u8]> {
    let mut bytes = vec![0; REPORT_HEADER_LEN + RECORD_LEN * groups.len()].into_boxed_slice();
    bytes[0] = REPORT;
    put_u16(&mut bytes, 6, groups.len() as u16);
    for (record, group) in bytes[REPORT_HEADER_LEN..].chunks_exact_mut(RECORD_LEN).zip(groups) {
        record[0] = reason as u8;
        record[4..].copy_from_slice(&group.octets());
    }
    icmpv6::put_sum(&mut bytes, src, ALL_ROUTERS);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

    fn query(code: u16, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        bytes[0] = QUERY;
        put_u16(&mut bytes, 4, code);
        icmpv6::put_sum(&mut bytes, ROUTER, ALL_NODES);
        bytes
    }

    #[test]
    fn delays_are_read_in_both_versions() {
        for (code, len, delay) in
            [(10_000, 28, 10_000), (0x8000, 28, 32_768), (0xffff, 28, 8_387_584), (0xffff, 24, 65_535)]
        {
            let parsed = ListenerQuery::parse(&query(code, len), ROUTER, ALL_NODES);
            assert_eq!(
                parsed,
                Ok(ListenerQuery { group: Ipv6Addr::UNSPECIFIED, max_delay_ms: delay }),
                "{code:#x}"
            );
        }
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let good = query(10, 28);
        for len in (0..24).chain(25..28) {
            let short = &good[..len];
            assert!(ListenerQuery::parse(short, ROUTER, ALL_NODES).is_err(), "{len}");
        }
        for at in 0..28 {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(ListenerQuery::parse(&bad, ROUTER, ALL_NODES).is_err(), "{at}");
        }
    }

    #[test]
    fn a_report_is_as_in_section_5_2() {
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
        let report = report(ReportReason::Joined, &[group], ROUTER);
        assert_eq!((report[0], report[1], &report[4..8]), (143, 0, &[0, 0, 0, 1][..]));
        assert_eq!(&report[8..12], &[4, 0, 0, 0]);
        assert_eq!(&report[12..], &group.octets());
        assert_eq!(icmpv6::check_sum(&report, ROUTER, ALL_ROUTERS), Ok(()));
    }
}
