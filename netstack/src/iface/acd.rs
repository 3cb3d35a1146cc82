//! Whether our IPv4 address is ours alone: address conflict detection, RFC 5227.
//!
//! ```text
//!   (start) --0 to 1 s--> Probing --3 probes, 1 to 2 s apart, and 2 s of silence--> Announcing --2, 2 s apart--> Settled
//!                            |                                                          |  ^                       |  ^
//!                            '-- anybody claims it, or probes for it too --> Refused    '--'-- claimed: defend ----'--'
//! ```
//!
//! The address is used from the first announcement on; a refused one never. It is defended for as long as the
//! stack lives (section 2.4 (c): who serves at an address gives it up under no circumstances), but no oftener
//! than once in ten seconds. The machine sends nothing itself: it says what to send, and when.

use std::time::Duration;

use runtime::time::Instant;

/// PROBE_WAIT: the first probe goes out at a random moment within this.
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// PROBE_NUM.
const PROBES: u8 = 3;
/// PROBE_MIN; with up to [`PROBE_WAIT`] more it is PROBE_MAX.
const PROBE_MIN: Duration = Duration::from_secs(1);
/// ANNOUNCE_WAIT.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
/// ANNOUNCE_NUM.
const ANNOUNCEMENTS: u8 = 2;
/// ANNOUNCE_INTERVAL.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// DEFEND_INTERVAL.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// What a stack does about its IPv4 address before it uses it. Whatever it is, the address is defended later
/// on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressDetection {
    /// Nothing: for links where nobody else can be.
    #[default]
    None,
    /// It is announced, and used at once (RFC 5227 section 2.3 alone, as systems do with addresses set by
    /// hand).
    Announce,
    /// It is asked for first, for 5 to 7 seconds in which nothing is sent or taken in (RFC 5227 section 2.1).
    /// If it is taken, the stack does not use it: [`crate::stack::Event::AddressRefused`].
    Probe,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Broadcast a request for our address that does not say whose.
    Probe,
    /// Broadcast a request for our address that says that it is ours.
    Announce,
    /// The address was refused: whatever waits to be sent waits in vain.
    GiveUp,
}

/// What a claim to our address means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is not ours to use.
    Refused,
    /// It is ours: announce it, and tell the operator.
    Defend,
    /// It is ours, and that was said lately.
    Ignored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Probing { sent: u8 },
    Announcing { sent: u8 },
    Settled,
    Refused,
}

/// The state of one address.
#[derive(Clone, Debug)]
pub(crate) struct Detector {
    phase: Phase,
    due: Option<Instant>,
    /// The first call of `poll` tells the time to begin from.
    has_begun: bool,
    /// Until when it is not defended again.
    defended_until: Option<Instant>,
    random: u64,
}

impl Detector {
    /// Begins with the first [`Detector::poll`], which is due at once. `random` need not be secret, but
    /// another for each host, so that hosts that start together do not probe together.
    pub(crate) fn new(detection: AddressDetection, random: u64) -> Detector {
        let phase = match detection {
            AddressDetection::None => Phase::Settled,
            AddressDetection::Announce => Phase::Announcing { sent: 0 },
            AddressDetection::Probe => Phase::Probing { sent: 0 },
        };
        let due = (phase != Phase::Settled).then_some(Instant::ZERO);
        Detector { phase, due, has_begun: false, defended_until: None, random }
    }

    /// Whether the address may be used.
    pub(crate) fn is_usable(&self) -> bool {
        matches!(self.phase, Phase::Announcing { .. } | Phase::Settled)
    }

    /// Whether it belongs to another host.
    pub(crate) fn is_refused(&self) -> bool {
        self.phase == Phase::Refused
    }

    /// When [`Detector::poll`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// What to do at `now`, if anything is due; once a call.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Action> {
        self.due.filter(|&due| due <= now)?;
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        match &mut self.phase {
            Phase::Probing { sent: 0 } if is_first => {
                let wait = self.random_wait();
                self.due = Some(now + wait);
                None
            }
            Phase::Probing { sent: PROBES } => {
                self.phase = Phase::Announcing { sent: 1 };
                self.due = Some(now + ANNOUNCE_INTERVAL);
                Some(Action::Announce)
            }
            Phase::Probing { sent } => {
                *sent += 1;
                let is_last = *sent == PROBES;
                let wait = if is_last { ANNOUNCE_WAIT } else { PROBE_MIN + self.random_wait() };
                self.due = Some(now + wait);
                Some(Action::Probe)
            }
            Phase::Announcing { sent } => {
                *sent += 1;
                let is_last = *sent >= ANNOUNCEMENTS;
                self.due = (!is_last).then(|| now + ANNOUNCE_INTERVAL);
                if is_last {
                    self.phase = Phase::Settled;
                }
                Some(Action::Announce)
            }
            Phase::Settled => {
                self.due = None;
                None
            }
            Phase::Refused => {
                self.due = None;
                Some(Action::GiveUp)
            }
        }
    }

    /// Another host says that it has our address or, with `is_probe`, asks whether it may.
    pub(crate) fn claimed(&mut self, now: Instant, is_probe: bool) -> Claim {
        match self.phase {
            Phase::Probing { .. } => {
                // Section 2.1.1: both who has it and who wants it too.
                self.phase = Phase::Refused;
                self.due = Some(now);
                Claim::Refused
            }
            // A probe is answered like any request.
            Phase::Announcing { .. } | Phase::Settled if is_probe => Claim::Ignored,
            Phase::Announcing { .. } | Phase::Settled
                if self.defended_until.is_none_or(|until| now >= until) =>
            {
                self.defended_until = Some(now + DEFEND_INTERVAL);
                Claim::Defend
            }
            _ => Claim::Ignored,
        }
    }

    /// Up to [`PROBE_WAIT`], in steps of a millisecond: an LCG's upper bits are random enough to keep hosts
    /// apart.
    fn random_wait(&mut self) -> Duration {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis((self.random >> 33) % (PROBE_WAIT.as_millis() as u64 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is done until nothing is due any more, and when.
    fn run(detector: &mut Detector, start: Instant) -> Vec<(Duration, Action)> {
        let (mut done, mut now) = (Vec::new(), start);
        while let Some(due) = detector.poll_timeout() {
            now = now.max(due);
            done.extend(detector.poll(now).map(|action| (now.saturating_since(start), action)));
        }
        done
    }

    #[test]
    fn probes_and_announcements_keep_the_times_of_rfc_5227_section_1_1() {
        for random in 0..1000 {
            let mut detector = Detector::new(AddressDetection::Probe, random);
            assert!(!detector.is_usable());
            let done = run(&mut detector, Instant::from_millis(77));
            let actions: Vec<Action> = done.iter().map(|&(_, action)| action).collect();
            assert_eq!(
                actions,
                [Action::Probe, Action::Probe, Action::Probe, Action::Announce, Action::Announce]
            );
            let seconds = |from: Duration, to: Duration| (to - from).as_secs_f64();
            let at: Vec<Duration> = done.iter().map(|&(at, _)| at).collect();
            assert!(at[0] <= Duration::from_secs(1));
            assert!((1.0..=2.0).contains(&seconds(at[0], at[1])));
            assert!((1.0..=2.0).contains(&seconds(at[1], at[2])));
            assert_eq!((at[3] - at[2], at[4] - at[3]), (ANNOUNCE_WAIT, ANNOUNCE_INTERVAL));
            assert!(detector.is_usable());
        }
    }

    #[test]
    fn a_claim_while_probing_refuses_for_good() {
        for is_probe in [false, true] {
            let mut detector = Detector::new(AddressDetection::Probe, 5);
            let mut now = Instant::from_millis(1);
            while detector.poll(now) != Some(Action::Probe) {
                now = detector.poll_timeout().expect("it goes on");
            }
            assert_eq!(detector.claimed(now, is_probe), Claim::Refused);
            assert_eq!(run(&mut detector, now), [(Duration::ZERO, Action::GiveUp)]);
            assert!(detector.is_refused() && !detector.is_usable());
            assert_eq!(detector.claimed(now, false), Claim::Ignored);
        }
    }

    #[test]
    fn later_claims_are_answered_once_in_ten_seconds() {
        let mut detector = Detector::new(AddressDetection::Announce, 5);
        let start = Instant::from_millis(1);
        assert!(detector.is_usable(), "it is used at once");
        assert_eq!(run(&mut detector, start).len(), 2);
        assert_eq!(detector.claimed(start, true), Claim::Ignored, "a probe is no claim");
        assert_eq!(detector.claimed(start, false), Claim::Defend);
        assert_eq!(detector.claimed(start + Duration::from_millis(9_999), false), Claim::Ignored);
        assert_eq!(detector.claimed(start + Duration::from_secs(10), false), Claim::Defend);
    }
}
