//! What a client of HTTP/2 can do too much of, at little cost to itself, and how much is too much.
//!
//! Each kind has an allowance that fills up again with time: a burst, and so many a second. Beyond it the
//! connection ends with `ENHANCE_YOUR_CALM` (RFC 9113 section 10.5).

use runtime::time::Instant;

/// What there may be too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abuse {
    /// Streams begun and reset, by either side (CVE-2023-44487, CVE-2025-8671).
    Resets,
    /// `CONTINUATION` frames of one head, or bytes of it (CVE-2024-27316).
    Continuations,
    /// `SETTINGS` (CVE-2019-9515).
    Settings,
    /// `PING` (CVE-2019-9512).
    Pings,
    /// Frames of content without content (CVE-2019-9518).
    EmptyFrames,
    /// `WINDOW_UPDATE`, beyond what the bytes sent give reason for (CVE-2019-9511).
    WindowUpdates,
    /// `PRIORITY` and `PRIORITY_UPDATE` (CVE-2019-9513).
    Priorities,
    /// Frames of streams that are over, and of kinds that nobody knows.
    Useless,
}

impl Abuse {
    /// All of them, for counters.
    pub const ALL: [Abuse; 8] = [
        Abuse::Resets,
        Abuse::Continuations,
        Abuse::Settings,
        Abuse::Pings,
        Abuse::EmptyFrames,
        Abuse::WindowUpdates,
        Abuse::Priorities,
        Abuse::Useless,
    ];

    /// As counters have it.
    pub fn name(self) -> &'static str {
        match self {
            Abuse::Resets => "resets",
            Abuse::Continuations => "continuations",
            Abuse::Settings => "settings",
            Abuse::Pings => "pings",
            Abuse::EmptyFrames => "empty_frames",
            Abuse::WindowUpdates => "window_updates",
            Abuse::Priorities => "priorities",
            Abuse::Useless => "useless_frames",
        }
    }

    /// So many at once.
    pub fn burst(self) -> u32 {
        match self {
            Abuse::Resets => 500,
            // Of one head; see `http2`.
            Abuse::Continuations => 8,
            Abuse::Settings => 32,
            Abuse::Pings | Abuse::EmptyFrames => 128,
            Abuse::WindowUpdates => 4096,
            Abuse::Priorities | Abuse::Useless => 1024,
        }
    }

    /// So many a second in the long run.
    fn per_second(self) -> u32 {
        match self {
            Abuse::Continuations => 0,
            Abuse::Settings => 1,
            Abuse::Pings | Abuse::EmptyFrames => 16,
            Abuse::Resets => 33,
            Abuse::Priorities | Abuse::Useless => 64,
            Abuse::WindowUpdates => 256,
        }
    }
}

/// What is left of the allowances of one connection.
#[derive(Debug)]
pub struct Allowances {
    left: [u32; Abuse::ALL.len()],
    /// When they were last filled up.
    filled: Instant,
}

impl Allowances {
    /// All there is.
    pub fn new(now: Instant) -> Allowances {
        Allowances { left: Abuse::ALL.map(Abuse::burst), filled: now }
    }

    /// Takes one; whether there was one.
    #[must_use]
    pub fn spend(&mut self, abuse: Abuse, now: Instant) -> bool {
        let seconds = now.saturating_since(self.filled).as_secs();
        if seconds > 0 {
            self.filled = now;
            for (left, abuse) in self.left.iter_mut().zip(Abuse::ALL) {
                let more = u64::from(abuse.per_second()).saturating_mul(seconds);
                *left = left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(abuse.burst());
            }
        }
        let left = &mut self.left[abuse as usize];
        let is_left = *left > 0;
        *left = left.saturating_sub(1);
        is_left
    }

    /// There was reason for `more`.
    pub fn earn(&mut self, abuse: Abuse, more: u32) {
        let left = &mut self.left[abuse as usize];
        *left = left.saturating_add(more).min(abuse.burst());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn allowances_run_out_and_fill_up() {
        let start = Instant::from_millis(1000);
        let mut allowances = Allowances::new(start);
        for abuse in Abuse::ALL {
            let spent = (0..10_000).take_while(|_| allowances.spend(abuse, start)).count();
            assert_eq!(spent as u32, abuse.burst(), "{abuse:?}");
            assert!(!allowances.spend(abuse, start + Duration::from_millis(999)));
        }
        let later = start + Duration::from_secs(2);
        let spent = (0..10_000).take_while(|_| allowances.spend(Abuse::Pings, later)).count();
        assert_eq!(spent, 32);
        allowances.earn(Abuse::Pings, 3);
        let spent = (0..10_000).take_while(|_| allowances.spend(Abuse::Pings, later)).count();
        assert_eq!(spent, 3);
        allowances.earn(Abuse::Pings, u32::MAX);
        let much_later = later + Duration::from_secs(1 << 40);
        let spent = (0..10_000).take_while(|_| allowances.spend(Abuse::Resets, much_later)).count();
        assert_eq!(spent, 500);
    }
}
