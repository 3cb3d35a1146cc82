//! Pacing: what the window allows goes out over the round trip, not at once, so that a queue on the path need
//! not hold it. The pace is that of Linux: the window by the smoothed round trip, twice as fast in slow
//! start, and a fifth faster otherwise, so that it is the window that limits in the end.
//!
//! ```text
//!   window   |#########|                     as a burst
//!   paced    |##|  |##|  |##|  |##|          a quantum, then a timer until it has left at the pace
//! ```
//!
//! A quantum is what the pace lets go in a millisecond, and two segments at least: one timer a millisecond at
//! most, and on paths whose round trip is shorter none at all. What starts from nothing in flight has the
//! initial window at once, as a connection has that knows nothing of its path: an answer of that size waits
//! for no timer.

use runtime::time::Instant;

use crate::tcp::Config;
use crate::tcp::pcb::Pcb;
use crate::tcp::send_records::Micros;
use crate::tcp::timers::Timer;

/// How far what was sent may be ahead of its pace, or behind it by a timer that was late, in microseconds.
const QUANTUM_US: u32 = 1000;

/// What a connection's pace has come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pacer {
    /// When all that was sent has left at the pace. Without meaning while nothing is in flight.
    through: Micros,
    /// Bytes that go without it: of what began with nothing in flight.
    free: u16,
}

/// Bytes in a time: the window, times two or a fifth more, in a round trip.
#[derive(Clone, Copy, Debug)]
struct Pace {
    bytes: u64,
    us: u64,
}

impl Pace {
    fn new(window: u32, srtt_us: u32, is_slow_start: bool) -> Pace {
        let fifths = if is_slow_start { 10 } else { 6 };
        Pace { bytes: u64::from(window.max(1)) * fifths, us: u64::from(srtt_us.max(1)) * 5 }
    }

    fn us_of(self, bytes: u32) -> u32 {
        let us = u64::from(bytes).saturating_mul(self.us) / self.bytes;
        u32::try_from(us).unwrap_or(u32::MAX).min(1 << 30)
    }

    fn bytes_in(self, us: u32) -> u32 {
        u32::try_from(u64::from(us) * self.bytes / self.us).unwrap_or(u32::MAX)
    }
}

impl Pcb {
    /// How many bytes may go now; of a longer segment so many. Zero: none, until [`Pcb::wait_for_pace`]'s
    /// timer.
    pub(crate) fn pace_room(&self, now: Instant, config: &Config) -> u32 {
        if self.snd.max == self.snd.una {
            return u32::MAX;
        }
        let Some(pace) = self.pace(config) else { return u32::MAX };
        let pacer = self.outstanding.get().map(|held| held.pacer).unwrap_or_default();
        let ahead_us = pacer.through.since(Micros::of(now));
        let free = u32::from(pacer.free);
        if free == 0 && (ahead_us >= QUANTUM_US || self.timers.is_set(Timer::Pacing)) {
            return 0;
        }
        let smss = u32::from(self.timestamps.smss(self.snd.mss));
        pace.bytes_in(QUANTUM_US.saturating_sub(ahead_us)).max(free).max(2 * smss)
    }

    /// Something could go, were it not for the pace.
    pub(crate) fn wait_for_pace(&mut self, now: Instant) {
        if !self.timers.is_set(Timer::Pacing) {
            let through = self.outstanding.get().map(|held| held.pacer.through);
            let ahead_us = through.map_or(0, |through| through.since(Micros::of(now)));
            self.timers.set(now, Timer::Pacing, now + std::time::Duration::from_micros(ahead_us.into()));
        }
    }

    /// `bytes` go out now, `from_nothing` if nothing is in flight.
    pub(crate) fn paced(&mut self, now: Instant, bytes: u32, from_nothing: bool, config: &Config) {
        if !config.pacing {
            return;
        }
        let (pace, now) = (self.pace(config), Micros::of(now));
        let smss = self.timestamps.smss(self.snd.mss);
        let Some(held) = self.outstanding.get_mut() else { return };
        let pacer = &mut held.pacer;
        if from_nothing {
            self.timers.stop(Timer::Pacing);
            let first = u32::from(smss) * u32::from(config.initial_window_segments);
            *pacer = Pacer { through: now, free: first.min(u16::MAX.into()) as u16 };
        }
        let Some(pace) = pace else {
            // The time must not fall half a circle behind.
            pacer.through = now;
            return;
        };
        let free = u32::from(pacer.free).min(bytes);
        pacer.free -= free as u16;
        // A timer that was late, or a window that was full, makes up for a quantum and no more.
        let earliest = Micros(now.0.wrapping_sub(QUANTUM_US));
        let from = if earliest.gt(pacer.through) { earliest } else { pacer.through };
        pacer.through = Micros(from.0.wrapping_add(pace.us_of(bytes - free)));
    }

    fn pace(&self, config: &Config) -> Option<Pace> {
        let srtt_us = self.srtt_us();
        (config.pacing && srtt_us > 0)
            .then(|| Pace::new(self.congestion.window(), srtt_us, self.congestion.is_in_slow_start()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_takes_half_a_round_trip_in_slow_start_and_five_sixths_later() {
        assert_eq!(Pace::new(100_000, 20_000, true).us_of(100_000), 10_000);
        assert_eq!(Pace::new(100_000, 20_000, false).us_of(100_000), 16_666);
        assert_eq!(Pace::new(100_000, 20_000, true).bytes_in(1000), 10_000);
    }

    #[test]
    fn absurd_windows_and_round_trips_stay_in_bounds() {
        for (window, srtt_us) in [(0, 0), (1, u32::MAX), (u32::MAX, 1), (u32::MAX, u32::MAX)] {
            for is_slow_start in [false, true] {
                let pace = Pace::new(window, srtt_us, is_slow_start);
                assert!(pace.us_of(u32::MAX) <= 1 << 30);
                pace.bytes_in(QUANTUM_US);
            }
        }
    }
}
