//! When to report which groups we listen to (RFC 3810 sections 6.1 and 6.2): when they are joined, once more
//! a little later in case that was lost, and when a router asks, at a time of our own choosing within the one
//! that it gives.

use std::time::Duration;

use runtime::time::Instant;

use crate::wire::mld::ReportReason;

/// Section 9.1: how often a change is reported.
pub(crate) const ROBUSTNESS: u8 = 2;

/// Section 9.11: how long after the first report the second follows, at most.
pub(crate) const UNSOLICITED: Duration = Duration::from_secs(1);

/// Reports that are due.
#[derive(Debug)]
pub(crate) struct MulticastReports {
    /// How often the groups are still to be reported as joined, and when next.
    joins: u8,
    join_at: Instant,
    /// When to answer.
    answer_at: Option<Instant>,
}

impl MulticastReports {
    /// The groups are joined now.
    pub(crate) fn new() -> MulticastReports {
        MulticastReports { joins: ROBUSTNESS, join_at: Instant::ZERO, answer_at: None }
    }

    /// A router asks, and waits that long; `random` is one. An answer that is due earlier will do.
    pub(crate) fn asked(&mut self, now: Instant, max_delay: Duration, random: u64) {
        let at = now + part_of(max_delay, random);
        self.answer_at = Some(self.answer_at.map_or(at, |before| before.min(at)));
    }

    /// When [`MulticastReports::poll`] has something.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let join_at = (self.joins > 0).then_some(self.join_at);
        [join_at, self.answer_at].into_iter().flatten().min()
    }

    /// A report that is due; `random` is one.
    pub(crate) fn poll(&mut self, now: Instant, random: u64) -> Option<ReportReason> {
        if self.joins > 0 && self.join_at <= now {
            self.joins -= 1;
            self.join_at = now + part_of(UNSOLICITED, random);
            return Some(ReportReason::Joined);
        }
        self.answer_at.take_if(|at| *at <= now).map(|_| ReportReason::Asked)
    }
}

/// A part of `whole`, by a random number.
pub(crate) fn part_of(whole: Duration, random: u64) -> Duration {
    let ms = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % ms.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_is_reported_twice_and_questions_once_however_many() {
        let at = Instant::from_millis;
        let mut reports = MulticastReports::new();
        assert_eq!(reports.poll(at(5), 700), Some(ReportReason::Joined));
        assert_eq!(reports.poll(at(5), 0), None);
        assert_eq!(reports.poll_timeout(), Some(at(705)));
        assert_eq!(reports.poll(at(705), 0), Some(ReportReason::Joined));
        assert_eq!(reports.poll_timeout(), None);
        reports.asked(at(1000), Duration::from_secs(10), 4000);
        reports.asked(at(1100), Duration::from_secs(1), 1000);
        reports.asked(at(1200), Duration::from_secs(10), 9999);
        assert_eq!(reports.poll(at(2099), 0), None);
        assert_eq!(reports.poll(at(2100), 0), Some(ReportReason::Asked));
        assert_eq!((reports.poll(at(20_000), 0), reports.poll_timeout()), (None, None));
    }
}
