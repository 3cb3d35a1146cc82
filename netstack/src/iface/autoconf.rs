//! Addresses of IPv6 that nobody gave us (RFC 4862): one of the link, made from the hardware address; one of
//! the prefix that a router tells of; the way out. And whether an address is ours alone (section 5.4), which
//! is asked before it is used.
//!
//! ```text
//!   link-local: Tentative --a second of silence--> Assigned --> routers are asked, three times
//!   global:     (an advertisement) --> Tentative --a second of silence--> Assigned --not renewed--> gone
//!                                          '-- somebody else has it, or wants it too --> Duplicate: never used
//! ```
//!
//! One prefix and one router at a time: of several the first that is of use, while they last. The machine
//! sends nothing itself: it says what to send, and when.

use std::net::Ipv6Addr;
use std::time::Duration;

use runtime::time::Instant;

use crate::wire::ndp::{PrefixInformation, RouterAdvertisement};

/// MAX_RTR_SOLICITATION_DELAY (RFC 4861 section 10), before the first packet of all.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// RetransTimer: how long a probe waits for an objection. One probe is sent (DupAddrDetectTransmits).
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// MAX_RTR_SOLICITATIONS and RTR_SOLICITATION_INTERVAL.
const SOLICITATIONS: u8 = 3;
const SOLICITATION_WAIT: Duration = Duration::from_secs(4);

/// RFC 4862 section 5.5.3 e: who forges advertisements cannot end an address sooner.
const TWO_HOURS: Duration = Duration::from_secs(7200);

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AutoconfAction {
    /// Ask, from no address, who has this one.
    Probe(Ipv6Addr),
    /// Ask routers to tell of themselves.
    Solicit,
    /// What [`Autoconf::addr`], [`Autoconf::prefix_len`] or [`Autoconf::router`] say has changed.
    Changed,
    /// Another host has this address.
    Refused(Ipv6Addr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// To be asked for at this time.
    New(Instant),
    /// Asked for; nobody has objected so far.
    Tentative(Instant),
    Assigned,
    Duplicate,
}

#[derive(Clone, Copy, Debug)]
struct Global {
    addr: Ipv6Addr,
    prefix: PrefixInformation,
    standing: Standing,
    valid_until: Option<Instant>,
}

/// The state of an interface.
#[derive(Clone, Debug)]
pub(crate) struct Autoconf {
    link_local: (Ipv6Addr, Standing),
    global: Option<Global>,
    router: Option<(Ipv6Addr, Instant)>,
    solicitations: u8,
    solicit_at: Instant,
    /// Told at the next poll.
    changed: bool,
    refused: Option<Ipv6Addr>,
}

impl Autoconf {
    /// Begins with the first poll; `random` is another for each host.
    pub(crate) fn new(link_local: Ipv6Addr, random: u64) -> Autoconf {
        let delay = Duration::from_millis(random % FIRST_DELAY.as_millis() as u64);
        Autoconf {
            link_local: (link_local, Standing::New(Instant::ZERO + delay)),
            global: None,
            router: None,
            solicitations: SOLICITATIONS,
            solicit_at: Instant::ZERO,
            changed: false,
            refused: None,
        }
    }

    /// Our address, once it is ours.
    pub(crate) fn addr(&self) -> Option<Ipv6Addr> {
        self.global.filter(|global| global.standing == Standing::Assigned).map(|global| global.addr)
    }

    /// The address that is ours, or may become so.
    pub(crate) fn candidate(&self) -> Option<Ipv6Addr> {
        self.global.map(|global| global.addr)
    }

    /// How much of it the others of the link have, too; all of it if nobody says that they are on the link.
    pub(crate) fn prefix_len(&self) -> u8 {
        self.global.filter(|global| global.prefix.on_link).map_or(128, |global| global.prefix.len)
    }

    /// The way out.
    pub(crate) fn router(&self) -> Option<Ipv6Addr> {
        self.router.map(|(addr, _)| addr)
    }

    /// Whether the address of the link is ours.
    pub(crate) fn is_link_local_assigned(&self) -> bool {
        self.link_local.1 == Standing::Assigned
    }

    /// Whether `addr` may become ours: who has it objects.
    pub(crate) fn is_tentative(&self, addr: Ipv6Addr) -> bool {
        let is_asked_for = |standing| matches!(standing, Standing::New(_) | Standing::Tentative(_));
        (self.link_local.0 == addr && is_asked_for(self.link_local.1))
            || self.global.is_some_and(|global| global.addr == addr && is_asked_for(global.standing))
    }

    /// Another host has `addr`, or wants it too (section 5.4.3, 5.4.4). Whether it is one that we have asked
    /// for.
    pub(crate) fn claimed(&mut self, addr: Ipv6Addr) -> bool {
        if !self.is_tentative(addr) {
            return false;
        }
        self.refused = Some(addr);
        if self.link_local.0 == addr {
            self.link_local.1 = Standing::Duplicate;
        }
        if let Some(global) = self.global.as_mut().filter(|global| global.addr == addr) {
            global.standing = Standing::Duplicate;
        }
        true
    }

    /// A router at `from` tells of itself.
    pub(crate) fn advertised(&mut self, now: Instant, from: Ipv6Addr, told: &RouterAdvertisement) {
        if !self.is_link_local_assigned() {
            return;
        }
        let lifetime = Duration::from_secs(told.router_lifetime_s.into());
        if !lifetime.is_zero() {
            // RFC 4861 section 6.3.7: only who is a way out has answered.
            self.solicitations = 0;
        }
        let is_ours = self.router.is_none_or(|(router, _)| router == from);
        let before = self.router();
        if lifetime.is_zero() && is_ours {
            self.router = None;
        } else if is_ours {
            self.router = Some((from, now + lifetime));
        }
        self.changed |= before != self.router();
        for &prefix in &told.prefixes {
            self.prefix_told(now, prefix);
        }
    }

    fn prefix_told(&mut self, now: Instant, told: PrefixInformation) {
        let valid = Duration::from_secs(told.valid_s.into());
        let until = (told.valid_s != u32::MAX).then(|| now + valid);
        match &mut self.global {
            Some(global) if global.prefix.prefix == told.prefix && global.prefix.len == told.len => {
                // Section 5.5.3 e.
                let left = global.valid_until.map(|until| until.saturating_since(now));
                let is_longer = until.is_none() || left.is_some_and(|left| valid > left);
                if valid > TWO_HOURS || is_longer {
                    global.valid_until = until;
                } else if left.is_none_or(|left| left > TWO_HOURS) {
                    global.valid_until = Some(now + TWO_HOURS);
                }
                self.changed |= global.prefix.on_link != told.on_link;
                global.prefix = told;
            }
            Some(_) => {}
            // The rest of the address has 64 bits (RFC 2464 section 4). A deprecated one is not begun with
            // (RFC 4862 section 5.5.4).
            None if told.len == 64 && told.valid_s > 0 && told.preferred_s > 0 => {
                let ours = self.link_local.0.to_bits() & u128::from(u64::MAX);
                let addr = Ipv6Addr::from_bits(told.prefix.to_bits() | ours);
                let standing = Standing::New(now);
                self.global = Some(Global { addr, prefix: told, standing, valid_until: until });
            }
            None => {}
        }
    }

    /// When [`Autoconf::poll`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.changed || self.refused.is_some() {
            return Some(Instant::ZERO);
        }
        let of = |standing: Standing| match standing {
            Standing::New(at) | Standing::Tentative(at) => Some(at),
            Standing::Assigned | Standing::Duplicate => None,
        };
        let solicit_at = (self.is_link_local_assigned() && self.solicitations > 0).then_some(self.solicit_at);
        [
            of(self.link_local.1),
            self.global.and_then(|global| of(global.standing)),
            self.global.and_then(|global| global.valid_until),
            self.router.map(|(_, until)| until),
            solicit_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What to do at `now`; call until `None`.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<AutoconfAction> {
        if let Some(addr) = self.refused.take() {
            return Some(AutoconfAction::Refused(addr));
        }
        if self.router.is_some_and(|(_, until)| until <= now) {
            self.router = None;
            self.changed = true;
        }
        if self.global.is_some_and(|global| global.valid_until.is_some_and(|until| until <= now)) {
            self.global = None;
            self.changed = true;
            // Perhaps there is another prefix by now.
            (self.solicitations, self.solicit_at) = (SOLICITATIONS, now);
        }
        if let Some(action) = ask(now, self.link_local.0, &mut self.link_local.1) {
            self.solicit_at = now;
            return Some(action);
        }
        if let Some(global) = &mut self.global
            && let Some(action) = ask(now, global.addr, &mut global.standing)
        {
            return Some(action);
        }
        if self.is_link_local_assigned() && self.solicitations > 0 && self.solicit_at <= now {
            self.solicitations -= 1;
            self.solicit_at = now + SOLICITATION_WAIT;
            return Some(AutoconfAction::Solicit);
        }
        std::mem::take(&mut self.changed).then_some(AutoconfAction::Changed)
    }
}

/// The next step of finding out whether `addr` is ours alone.
fn ask(now: Instant, addr: Ipv6Addr, standing: &mut Standing) -> Option<AutoconfAction> {
    match *standing {
        Standing::New(at) if at <= now => {
            *standing = Standing::Tentative(now + PROBE_WAIT);
            Some(AutoconfAction::Probe(addr))
        }
        Standing::Tentative(until) if until <= now => {
            *standing = Standing::Assigned;
            Some(AutoconfAction::Changed)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(1000 * seconds)
    }

    fn told(prefix: &str, valid_s: u32, router_lifetime_s: u16) -> RouterAdvertisement {
        let (prefix, len, on_link, preferred_s) = (ip(prefix), 64, true, valid_s);
        let prefixes =
            [PrefixInformation { prefix, len, on_link, valid_s, preferred_s }].into_iter().collect();
        RouterAdvertisement { router_lifetime_s, prefixes, source: None }
    }

    fn until(machine: &mut Autoconf, end: Instant) -> Vec<(u64, AutoconfAction)> {
        let mut actions = Vec::new();
        while let Some(due) = machine.poll_timeout().filter(|&due| due <= end) {
            let before = actions.len();
            while let Some(action) = machine.poll(due) {
                actions.push((due.as_millis(), action));
            }
            assert!(machine.poll_timeout().is_none_or(|next| next > due), "{before} {actions:?}");
        }
        actions
    }

    const OURS: &str = "fe80::ff:feaa:bbcc";

    #[test]
    fn a_link_local_address_is_asked_for_then_routers_three_times() {
        let mut machine = Autoconf::new(ip(OURS), 400);
        let actions = until(&mut machine, at(100));
        let expected = [
            (400, AutoconfAction::Probe(ip(OURS))),
            (1400, AutoconfAction::Changed),
            (1400, AutoconfAction::Solicit),
            (5400, AutoconfAction::Solicit),
            (9400, AutoconfAction::Solicit),
        ];
        assert_eq!(actions, expected);
    }

    fn configured() -> Autoconf {
        let mut machine = Autoconf::new(ip(OURS), 0);
        until(&mut machine, at(2));
        machine.advertised(at(2), ip("fe80::1"), &told("2001:db8::", 10_000, 1800));
        assert_eq!(
            (machine.addr(), machine.router()),
            (None, Some(ip("fe80::1"))),
            "not before it is asked for"
        );
        until(&mut machine, at(4));
        assert_eq!(machine.addr(), Some(ip("2001:db8::ff:feaa:bbcc")));
        assert_eq!(machine.prefix_len(), 64);
        machine
    }

    #[test]
    fn addresses_and_routers_last_as_long_as_they_are_told_of() {
        let mut machine = configured();
        until(&mut machine, at(1801));
        assert_eq!(machine.router(), Some(ip("fe80::1")));
        until(&mut machine, at(1802));
        assert_eq!(machine.router(), None);
        // Told of again, for longer; another prefix and another router meanwhile are not needed.
        machine.advertised(at(5000), ip("fe80::1"), &told("2001:db8::", 20_000, 1800));
        machine.advertised(at(5001), ip("fe80::2"), &told("2001:db8:1::", 20_000, 1800));
        until(&mut machine, at(6000));
        assert_eq!(
            (machine.addr(), machine.router()),
            (Some(ip("2001:db8::ff:feaa:bbcc")), Some(ip("fe80::1")))
        );
        // A router that stops being one.
        machine.advertised(
            at(6000),
            ip("fe80::1"),
            &RouterAdvertisement { router_lifetime_s: 0, prefixes: Default::default(), source: None },
        );
        assert_eq!(machine.router(), None);
        assert!(machine.addr().is_some());
        let actions = until(&mut machine, at(25_000));
        assert_eq!(machine.addr(), None);
        assert_eq!(actions.last(), Some(&(25_000_000, AutoconfAction::Changed)), "{actions:?}");
    }

    /// Of the prefixes of one message, the first that an address can be made of and that is not deprecated;
    /// the one in use is found again wherever it stands.
    #[test]
    fn a_prefix_of_no_use_hides_none_that_is() {
        let mut machine = Autoconf::new(ip(OURS), 0);
        until(&mut machine, at(2));
        let mut message = told("2001:db8::", 10_000, 1800);
        let usable = message.prefixes[0];
        let other = |prefix: &str| PrefixInformation { prefix: ip(prefix), ..usable };
        message.prefixes = [
            PrefixInformation { len: 48, ..other("2001:db8:1::") },
            PrefixInformation { valid_s: 0, preferred_s: 0, ..other("2001:db8:2::") },
            PrefixInformation { preferred_s: 0, ..other("2001:db8:3::") },
            usable,
            other("2001:db8:4::"),
        ]
        .into_iter()
        .collect();
        machine.advertised(at(2), ip("fe80::1"), &message);
        until(&mut machine, at(4));
        assert_eq!(machine.addr(), Some(ip("2001:db8::ff:feaa:bbcc")));
        machine.advertised(at(9000), ip("fe80::1"), &message);
        until(&mut machine, at(18_999));
        assert_eq!(machine.addr(), Some(ip("2001:db8::ff:feaa:bbcc")), "renewed");
    }

    /// RFC 4861 section 6.3.7.
    #[test]
    fn who_is_no_way_out_does_not_end_the_asking() {
        let mut machine = Autoconf::new(ip(OURS), 0);
        until(&mut machine, at(2));
        machine.advertised(at(2), ip("fe80::1"), &told("2001:db8::", 10_000, 0));
        let solicitations = until(&mut machine, at(100)).into_iter();
        assert_eq!(solicitations.filter(|(_, action)| *action == AutoconfAction::Solicit).count(), 2);
    }

    /// Section 5.5.3 e.
    #[test]
    fn a_forged_short_lifetime_leaves_two_hours() {
        let mut machine = configured();
        machine.advertised(at(10), ip("fe80::666"), &told("2001:db8::", 1, 0));
        until(&mut machine, at(10 + 7199));
        assert!(machine.addr().is_some());
        // Of which nothing can be taken off.
        machine.advertised(at(5000), ip("fe80::666"), &told("2001:db8::", 0, 0));
        until(&mut machine, at(10 + 7199));
        assert!(machine.addr().is_some());
        until(&mut machine, at(10 + 7200));
        assert_eq!(machine.addr(), None);
    }

    #[test]
    fn an_address_of_another_is_never_used() {
        let mut machine = Autoconf::new(ip(OURS), 0);
        assert_eq!(machine.poll(at(1)), Some(AutoconfAction::Probe(ip(OURS))));
        machine.claimed(ip("fe80::9"));
        assert!(machine.is_tentative(ip(OURS)));
        machine.claimed(ip(OURS));
        assert_eq!(until(&mut machine, at(100)), [(0, AutoconfAction::Refused(ip(OURS)))]);
        machine.advertised(at(2), ip("fe80::1"), &told("2001:db8::", 1000, 1800));
        assert_eq!((machine.addr(), machine.router()), (None, None));

        let mut machine = Autoconf::new(ip(OURS), 0);
        until(&mut machine, at(2));
        machine.advertised(at(2), ip("fe80::1"), &told("2001:db8::", 1000, 1800));
        until(&mut machine, at(2));
        machine.claimed(ip("2001:db8::ff:feaa:bbcc"));
        until(&mut machine, at(10));
        assert_eq!((machine.addr(), machine.is_link_local_assigned()), (None, true));
        // What is ours is defended by an answer, not given up.
        let mut machine = configured();
        machine.claimed(ip("2001:db8::ff:feaa:bbcc"));
        assert!(machine.addr().is_some());
    }
}
