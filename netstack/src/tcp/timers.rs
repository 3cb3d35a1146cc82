//! The timers of one connection: deadlines in a fixed array, one per kind.
//!
//! The stack arms one entry of its timer wheel per connection, at the earliest of these.

use runtime::time::Instant;

/// What a connection may be waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Timer {
    /// Retransmission of the earliest unacknowledged segment (RFC 6298), or of the SYN.
    Retransmit = 0,
    /// Probing a zero window (RFC 9293 section 3.8.6.1).
    Persist = 1,
    /// An ACK that waits for company (RFC 9293 section 3.8.6.3).
    DelayedAck = 2,
    /// Probing a silent peer (RFC 9293 section 3.8.4).
    KeepAlive = 3,
    /// FIN-WAIT-2 without a peer that closes; and TIME-WAIT, where that is a state of the PCB.
    FinWait2 = 4,
    /// The application's own deadline.
    Application = 5,
}

impl Timer {
    /// All kinds, in the order in which they run when due together.
    pub(crate) const ALL: [Timer; 6] = [
        Timer::Retransmit,
        Timer::Persist,
        Timer::DelayedAck,
        Timer::KeepAlive,
        Timer::FinWait2,
        Timer::Application,
    ];
}

const NEVER: u64 = u64::MAX;

/// One deadline per [`Timer`].
#[derive(Clone, Debug)]
pub(crate) struct Timers {
    deadlines_ns: [u64; Timer::ALL.len()],
}

impl Default for Timers {
    fn default() -> Timers {
        Timers { deadlines_ns: [NEVER; Timer::ALL.len()] }
    }
}

impl Timers {
    /// Arms a timer, replacing its deadline.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.deadlines_ns[timer as usize] = at.as_nanos();
    }

    /// Disarms a timer.
    pub(crate) fn stop(&mut self, timer: Timer) {
        self.deadlines_ns[timer as usize] = NEVER;
    }

    /// Disarms all.
    pub(crate) fn stop_all(&mut self) {
        self.deadlines_ns = [NEVER; Timer::ALL.len()];
    }

    /// Whether a timer is armed.
    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.deadlines_ns[timer as usize] != NEVER
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        let ns = self.deadlines_ns.iter().copied().min().unwrap_or(NEVER);
        (ns != NEVER).then(|| Instant::from_nanos(ns))
    }

    /// Whether the timer is due at `now`; if so it is disarmed.
    pub(crate) fn expire(&mut self, timer: Timer, now: Instant) -> bool {
        let due = self.deadlines_ns[timer as usize] <= now.as_nanos();
        if due {
            self.stop(timer);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_is_next_and_expires_once() {
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        timers.set(Timer::KeepAlive, Instant::from_millis(50));
        timers.set(Timer::Retransmit, Instant::from_millis(20));
        assert_eq!(timers.next(), Some(Instant::from_millis(20)));
        assert!(!timers.expire(Timer::Retransmit, Instant::from_millis(19)));
        assert!(timers.expire(Timer::Retransmit, Instant::from_millis(20)));
        assert!(!timers.expire(Timer::Retransmit, Instant::from_millis(30)));
        assert_eq!(timers.next(), Some(Instant::from_millis(50)));
        timers.stop_all();
        assert_eq!(timers.next(), None);
    }
}
