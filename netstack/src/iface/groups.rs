//! Which groups somebody here listens to, and which of that has to be reported (RFC 3376 section 5, RFC 3810
//! section 6): that a group is joined or left, twice in case the first is lost; of IPv4 also what a router
//! asks (of IPv6 `iface::mld` has the questions, for hosts are in groups of their addresses' own).
//!
//! All hosts that hear broadcasts are the group of that address, which nobody reports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use runtime::time::Instant;
use smallvec::SmallVec;

use crate::iface::mld::{ROBUSTNESS, UNSOLICITED, part_of};
use crate::wire::mld::ReportReason;
use crate::wire::{EthernetAddress, igmp};

/// Memberships at most, of all sockets together: their groups fit one report.
pub(crate) const MAX_MEMBERSHIPS: usize = 32;

/// A group that was joined or left, and how often that is still to be reported, and when next.
#[derive(Clone, Copy, Debug)]
struct GroupChange {
    group: IpAddr,
    reason: ReportReason,
    left: u8,
    at: Instant,
}

/// Memberships of `M`, sockets.
#[derive(Debug)]
pub(crate) struct Memberships<M> {
    members: Vec<(IpAddr, M)>,
    changes: Vec<GroupChange>,
    /// When to answer a router of IPv4.
    answer_at: Option<Instant>,
}

impl<M> Default for Memberships<M> {
    fn default() -> Memberships<M> {
        Memberships { members: Vec::new(), changes: Vec::new(), answer_at: None }
    }
}

impl<M: Copy + PartialEq> Memberships<M> {
    /// `member` listens to `group`. Whether there was room.
    pub(crate) fn join(&mut self, group: IpAddr, member: M) -> bool {
        if self.members.contains(&(group, member)) {
            return true;
        }
        if self.members.len() >= MAX_MEMBERSHIPS {
            return false;
        }
        if !self.has(group) {
            self.changed(group, ReportReason::Joined);
        }
        self.members.push((group, member));
        true
    }

    /// The same no more. Whether it did.
    pub(crate) fn leave(&mut self, group: IpAddr, member: M) -> bool {
        let before = self.members.len();
        self.members.retain(|&other| other != (group, member));
        let did = self.members.len() != before;
        if did && !self.has(group) {
            self.changed(group, ReportReason::Left);
        }
        did
    }

    /// We are in `group` whoever listens to it: no router is told that we left.
    pub(crate) fn keep(&mut self, group: IpAddr) {
        self.changes.retain(|change| change.group != group || change.reason != ReportReason::Left);
    }

    /// What `member` listens to.
    pub(crate) fn groups_of(&self, member: M) -> SmallVec<[IpAddr; 4]> {
        self.members.iter().filter(|(_, other)| *other == member).map(|&(group, _)| group).collect()
    }

    /// Who listens to `group`.
    pub(crate) fn members(&self, group: IpAddr) -> impl Iterator<Item = M> {
        self.members.iter().filter(move |(other, _)| *other == group).map(|&(_, member)| member)
    }

    /// Whether anybody does.
    pub(crate) fn has(&self, group: IpAddr) -> bool {
        self.members.iter().any(|(other, _)| *other == group)
    }

    /// Whether frames to `addr` may be for a group of IPv4, or a router's question.
    pub(crate) fn hears(&self, addr: EthernetAddress) -> bool {
        let groups = self.members.iter().filter_map(|(group, _)| match group {
            IpAddr::V4(group) if group.is_multicast() => Some(group_hardware(*group)),
            _ => None,
        });
        let mut groups = groups.peekable();
        let may_be_asked = groups.peek().is_some() && addr == group_hardware(igmp::ALL_HOSTS);
        may_be_asked || groups.any(|own| own == addr)
    }

    /// A router asks about `group`, or about all if it is unspecified, and waits that long; `random` is one.
    /// An answer that is due earlier will do. Whether it concerns us.
    pub(crate) fn asked(&mut self, now: Instant, group: Ipv4Addr, max_delay: Duration, random: u64) -> bool {
        let groups = self.ipv4_groups();
        let concerns_us = if group.is_unspecified() { !groups.is_empty() } else { groups.contains(&group) };
        if concerns_us {
            let at = now + part_of(max_delay, random);
            self.answer_at = Some(self.answer_at.map_or(at, |before| before.min(at)));
        }
        concerns_us
    }

    /// When [`Memberships::poll`] has something.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.changes.iter().map(|change| change.at).chain(self.answer_at).min()
    }

    /// A report that is due, of groups of one family; `random` is one.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        random: u64,
    ) -> Option<(ReportReason, SmallVec<[IpAddr; 4]>)> {
        if let Some(at) = self.changes.iter().position(|change| change.at <= now) {
            let change = &mut self.changes[at];
            let (reason, group) = (change.reason, change.group);
            change.left -= 1;
            change.at = now + part_of(UNSOLICITED, random);
            if change.left == 0 {
                self.changes.remove(at);
            }
            return Some((reason, SmallVec::from_iter([group])));
        }
        self.answer_at.take_if(|at| *at <= now)?;
        let groups: SmallVec<_> = self.ipv4_groups().into_iter().map(IpAddr::V4).collect();
        (!groups.is_empty()).then_some((ReportReason::Asked, groups))
    }

    fn changed(&mut self, group: IpAddr, reason: ReportReason) {
        if !is_reported(group) {
            return;
        }
        self.changes.retain(|change| change.group != group);
        if self.changes.len() >= 2 * MAX_MEMBERSHIPS {
            // Who joins and leaves so fast has the oldest not repeated; routers ask.
            self.changes.remove(0);
        }
        self.changes.push(GroupChange { group, reason, left: ROBUSTNESS, at: Instant::ZERO });
    }

    /// Those of IPv4 that are reported, each once.
    fn ipv4_groups(&self) -> SmallVec<[Ipv4Addr; 4]> {
        let mut groups = SmallVec::new();
        for &(group, _) in &self.members {
            if let IpAddr::V4(group) = group
                && is_reported(group.into())
                && !groups.contains(&group)
            {
                groups.push(group);
            }
        }
        groups
    }
}

/// Whether routers are told of the group: not of all hosts, nor of what stays within one (RFC 3376 section 5,
/// RFC 3810 section 6).
fn is_reported(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group.is_multicast() && group != igmp::ALL_HOSTS,
        IpAddr::V6(group) => {
            const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            group.is_multicast() && group != ALL_NODES && group.segments()[0] & 0xf > 1
        }
    }
}

/// RFC 1112 section 6.4.
pub(crate) fn group_hardware(group: Ipv4Addr) -> EthernetAddress {
    let [_, b, c, d] = group.octets();
    EthernetAddress([1, 0, 0x5e, b & 0x7f, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn report(groups: &mut Memberships<u8>, ms: u64) -> Option<(ReportReason, Vec<IpAddr>)> {
        groups.poll(at(ms), 700).map(|(reason, groups)| (reason, groups.to_vec()))
    }

    #[test]
    fn the_first_joins_the_last_leaves_and_each_is_said_twice() {
        let mut groups = Memberships::default();
        let group = ip("239.1.2.3");
        assert!(groups.join(group, 1) && groups.join(group, 2) && groups.join(group, 2));
        assert_eq!(report(&mut groups, 5), Some((ReportReason::Joined, vec![group])));
        assert_eq!((report(&mut groups, 5), groups.poll_timeout()), (None, Some(at(705))));
        assert_eq!(report(&mut groups, 705), Some((ReportReason::Joined, vec![group])));
        assert_eq!((report(&mut groups, 9000), groups.poll_timeout()), (None, None));
        assert!(groups.leave(group, 1) && !groups.leave(group, 1));
        assert_eq!((groups.has(group), groups.poll_timeout()), (true, None), "another still listens");
        assert!(groups.leave(group, 2));
        assert_eq!(report(&mut groups, 9000), Some((ReportReason::Left, vec![group])));
        // Joined again before that was said twice: what counts is what is so now.
        assert!(groups.join(group, 3));
        assert_eq!(report(&mut groups, 9001), Some((ReportReason::Joined, vec![group])));
        assert_eq!(report(&mut groups, 9701), Some((ReportReason::Joined, vec![group])));
        assert_eq!(groups.poll_timeout(), None);
    }

    #[test]
    fn questions_are_answered_once_however_many_and_of_groups_alone() {
        let mut groups = Memberships::default();
        assert!(!groups.asked(at(0), Ipv4Addr::UNSPECIFIED, Duration::from_secs(1), 0), "no group");
        for group in ["239.0.0.9", "224.0.0.1", "255.255.255.255", "ff02::1", "ff01::7", "ff02::fb"] {
            assert!(groups.join(ip(group), 0));
        }
        while groups.poll(at(0), 0).is_some() {}
        assert!(!groups.asked(at(0), Ipv4Addr::new(239, 0, 0, 8), Duration::from_secs(1), 0));
        assert!(groups.asked(at(0), Ipv4Addr::UNSPECIFIED, Duration::from_secs(10), 4000));
        assert!(groups.asked(at(0), Ipv4Addr::new(239, 0, 0, 9), Duration::from_secs(1), 500));
        assert_eq!(report(&mut groups, 499), None);
        assert_eq!(report(&mut groups, 500), Some((ReportReason::Asked, vec![ip("239.0.0.9")])));
        assert_eq!((report(&mut groups, 5000), groups.poll_timeout()), (None, None));
        assert!(groups.hears(group_hardware(Ipv4Addr::new(239, 0, 0, 9))));
        assert!(groups.hears(group_hardware(igmp::ALL_HOSTS)));
        assert!(!groups.hears(group_hardware(Ipv4Addr::new(239, 0, 0, 8))));
    }

    #[test]
    fn memberships_and_what_is_still_to_be_said_are_bounded() {
        let mut groups = Memberships::default();
        for n in 0..200u8 {
            let joined = groups.join(Ipv4Addr::new(239, 0, 0, n).into(), 0);
            assert_eq!(joined, usize::from(n) < MAX_MEMBERSHIPS);
        }
        for n in 0..200u8 {
            let group = Ipv4Addr::new(239, 1, 0, n).into();
            assert!(groups.leave(Ipv4Addr::new(239, 0, 0, 0).into(), 0) || n > 0);
            assert!(groups.join(group, 1) && groups.leave(group, 1));
            assert!(groups.changes.len() <= 2 * MAX_MEMBERSHIPS);
        }
        let mut said = 0;
        while groups.poll(at(100_000), 0).is_some() {
            said += 1;
        }
        assert!(said <= 4 * MAX_MEMBERSHIPS, "{said}");
    }
}
