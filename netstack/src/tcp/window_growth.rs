//! How large the receive window has to be: as much as the sender can have in flight, twice what was taken in
//! the last round trip (Fisk and Feng, *Dynamic Right-Sizing*, 2001; Linux and the BSDs do likewise). A
//! window that is smaller is what limits a fast, far sender; a larger one from the start is a promise to
//! everybody that few need kept.
//!
//! Only what the application took counts, so one that reads slowly gets no larger window. There is nothing to
//! measure for connections that send us requests: a record is made for the first full segment, and given up
//! if the round took little.

use crate::tcp::send_records::Micros;
use crate::tcp::seq::SeqNumber;

/// A round trip below this is taken for as long: timestamps tick once a millisecond.
const MIN_ROUND_US: u32 = 1000;

/// One connection's measurement.
#[derive(Debug)]
pub(crate) struct WindowGrowth {
    /// Largest window to announce, in bytes.
    limit: u32,
    /// RCV.NXT when the round began, and when that was.
    start: SeqNumber,
    since: Micros,
    /// The least age of an ACK of ours that was answered in this round; `u32::MAX` before any.
    round_trip_us: u32,
}

impl WindowGrowth {
    /// Begins a round at `nxt`.
    pub(crate) fn new(limit: u32, nxt: SeqNumber, now: Micros) -> WindowGrowth {
        WindowGrowth { limit, start: nxt, since: now, round_trip_us: u32::MAX }
    }

    /// Largest window to announce.
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// All up to `nxt` was taken by the application. `echo_age_us` is how old the ACK is that the sender had
    /// last when it sent this, by its timestamps; `srtt_us` what was measured of our own segments, for
    /// senders without. Whether the round is over and took so little that nothing has to be kept, `usual`
    /// being the window of all connections and `max` the largest.
    pub(crate) fn taken(
        &mut self,
        now: Micros,
        nxt: SeqNumber,
        echo_age_us: Option<u32>,
        srtt_us: Option<u32>,
        (usual, max): (u32, u32),
    ) -> bool {
        self.round_trip_us = self.round_trip_us.min(echo_age_us.unwrap_or(u32::MAX));
        let measured = Some(self.round_trip_us).filter(|&us| us != u32::MAX).or(srtt_us);
        let Some(round_us) = measured.map(|us| us.max(MIN_ROUND_US)) else { return false };
        if now.since(self.since) < round_us {
            return false;
        }
        let twice = (nxt - self.start).saturating_mul(2);
        self.limit = self.limit.max(twice.min(max));
        (self.start, self.since, self.round_trip_us) = (nxt, now, u32::MAX);
        self.limit <= usual && twice < usual / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: (u32, u32) = (1000, 10_000);

    #[test]
    fn a_window_taken_in_a_round_trip_doubles_it_up_to_the_bound() {
        let mut growth = WindowGrowth::new(1000, SeqNumber(u32::MAX - 500), Micros(0));
        let mut nxt = SeqNumber(u32::MAX - 500);
        let mut limits = Vec::new();
        for round in 1..=6 {
            let now = Micros(round * 50_000);
            nxt += growth.limit();
            assert!(!growth.taken(now, nxt, Some(50_000), None, BOUNDS));
            limits.push(growth.limit());
        }
        assert_eq!(limits, [2000, 4000, 8000, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn little_in_a_round_trip_changes_nothing_and_is_forgotten() {
        let mut growth = WindowGrowth::new(1000, SeqNumber(0), Micros(0));
        assert!(
            !growth.taken(Micros(40_000), SeqNumber(100), Some(50_000), None, BOUNDS),
            "the round goes on"
        );
        assert!(growth.taken(Micros(50_000), SeqNumber(200), Some(60_000), None, BOUNDS));
        assert_eq!(growth.limit(), 1000);
        // Without timestamps the round trip of our own segments counts, and without that there is no round.
        let mut growth = WindowGrowth::new(1000, SeqNumber(0), Micros(0));
        assert!(!growth.taken(Micros(80_000), SeqNumber(1000), None, None, BOUNDS));
        assert!(!growth.taken(Micros(80_000), SeqNumber(1000), None, Some(70_000), BOUNDS));
        assert_eq!(growth.limit(), 2000);
    }
}
