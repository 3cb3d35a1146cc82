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
    /// What was sent has left at its pace ([`crate::tcp::pacing`]).
    Pacing = 6,
}

impl Timer {
    /// All kinds, in the order in which they run when due together.
    pub(crate) const ALL: [Timer; 7] = [
        Timer::Retransmit,
        Timer::Persist,
        Timer::DelayedAck,
        Timer::KeepAlive,
        Timer::FinWait2,
        Timer::Application,
        Timer::Pacing,
    ];
}

/// A tick of the deadlines, and of the stack's timer wheel, is 2^16 ns, 66 microseconds: RACK's reordering
/// window is a quarter of a round trip, which on a local network is no more, and what it finds lost waits for
/// it.
pub(crate) const TICK_SHIFT: u32 = 16;

/// No deadline is set further off than this many ticks, a day and a half: it is then early, and whoever set
/// it looks again.
const FURTHEST: u64 = (i32::MAX as u64) - 1;

/// Not armed.
const NEVER: u32 = 0;

/// One deadline per [`Timer`]: ticks modulo 2^32, never [`NEVER`].
#[derive(Clone, Debug)]
pub(crate) struct Timers {
    deadlines: [u32; Timer::ALL.len()],
}

impl Default for Timers {
    fn default() -> Timers {
        Timers { deadlines: [NEVER; Timer::ALL.len()] }
    }
}

impl Timers {
    /// Arms a timer, replacing its deadline.
    pub(crate) fn set(&mut self, now: Instant, timer: Timer, at: Instant) {
        let (now, at) = (ticks(now), at.as_nanos().div_ceil(1 << TICK_SHIFT));
        let at = at.clamp(now.saturating_sub(FURTHEST), now + FURTHEST) as u32;
        self.deadlines[timer as usize] = if at == NEVER { 1 } else { at };
    }

    /// Disarms a timer.
    pub(crate) fn stop(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = NEVER;
    }

    /// Disarms all.
    pub(crate) fn stop_all(&mut self) {
        self.deadlines = [NEVER; Timer::ALL.len()];
    }

    /// Whether a timer is armed.
    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.deadlines[timer as usize] != NEVER
    }

    /// The earliest deadline.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let now = ticks(now);
        let armed = self.deadlines.iter().filter(|&&deadline| deadline != NEVER);
        let from_now = armed.map(|&deadline| deadline.wrapping_sub(now as u32) as i32).min()?;
        Some(Instant::from_nanos(now.saturating_add_signed(from_now.into()) << TICK_SHIFT))
    }

    /// Whether the timer is due at `now`; if so it is disarmed.
    pub(crate) fn expire(&mut self, timer: Timer, now: Instant) -> bool {
        let deadline = self.deadlines[timer as usize];
        let due = deadline != NEVER && deadline.wrapping_sub(ticks(now) as u32) as i32 <= 0;
        if due {
            self.stop(timer);
        }
        due
    }
}

/// The tick in which that is.
pub(crate) fn ticks(at: Instant) -> u64 {
    at.as_nanos() >> TICK_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a deadline is rounded up to.
    fn rounded(ms: u64) -> Option<Instant> {
        Some(Instant::from_nanos((ms * 1_000_000).div_ceil(1 << TICK_SHIFT) << TICK_SHIFT))
    }

    #[test]
    fn the_earliest_is_next_and_expires_once() {
        // Wherever the circle of ticks begins anew: at 2^32 of them, 78 hours.
        for start in [0, 281_474_900, 281_474_976 + 30, 10 * 281_474_976] {
            let at = |ms: u64| Instant::from_millis(start + ms);
            let mut timers = Timers::default();
            assert_eq!(timers.next(at(0)), None);
            timers.set(at(0), Timer::KeepAlive, at(50));
            timers.set(at(0), Timer::Retransmit, at(20));
            assert_eq!(timers.next(at(0)), rounded(start + 20));
            assert_eq!(timers.next(at(90)), rounded(start + 20), "late");
            assert!(!timers.expire(Timer::Retransmit, at(19)));
            assert!(timers.expire(Timer::Retransmit, at(21)));
            assert!(!timers.expire(Timer::Retransmit, at(30)));
            assert_eq!(timers.next(at(30)), rounded(start + 50));
            timers.stop_all();
            assert_eq!(timers.next(at(30)), None);
        }
    }

    #[test]
    fn what_is_years_off_comes_early_not_at_once() {
        let mut timers = Timers::default();
        timers.set(Instant::from_millis(5), Timer::Application, Instant::from_nanos(u64::MAX));
        let next = timers.next(Instant::from_millis(5)).unwrap();
        assert!(next > Instant::from_millis(24 * 3600 * 1000));
        assert!(!timers.expire(Timer::Application, Instant::from_millis(24 * 3600 * 1000)));
    }
}
