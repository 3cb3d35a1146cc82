//! How long responses take, as the loop that gives them sees it.
//!
//! From the turn in which a request was read to the end of the turn in which the last byte of its response
//! was taken: on the kernel's sockets by the socket (of a secured connection by who seals), on our own TCP/IP
//! by the peer. So the clock is read once a turn, not once a request, and who waits for others in the same
//! turn waits as long as that turn.

use std::time::Duration;

use hdrhistogram::Histogram;
use runtime::time::Instant;

/// The longest that is told apart.
const MAX_US: u64 = 60_000_000;

/// Upper ends of what the counts are told by, in microseconds.
pub const BOUNDS_US: [u64; 17] = [
    50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// The latencies of responses, to two digits.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    counts: Histogram<u64>,
    sum_us: u64,
    /// When requests came whose responses were taken in this turn, and how many of them: most came in it.
    over: Vec<(Instant, u64)>,
}

impl Default for Latency {
    fn default() -> Latency {
        let counts = Histogram::new_with_bounds(1, MAX_US, 2).expect("these bounds are good ones");
        Latency { counts, sum_us: 0, over: Vec::new() }
    }
}

impl Latency {
    /// The response to a request that came then was taken in this turn.
    pub(crate) fn note(&mut self, began: Instant) {
        match self.over.last_mut() {
            Some((other, count)) if *other == began => *count += 1,
            _ => self.over.push((began, 1)),
        }
    }

    /// Whether [`Latency::end_turn`] has something to do: who reads the clock for it may save that.
    pub(crate) fn is_due(&self) -> bool {
        !self.over.is_empty()
    }

    /// The turn ends now.
    pub(crate) fn end_turn(&mut self, now: Instant) {
        for (began, count) in self.over.drain(..) {
            let took = now.saturating_since(began);
            let us = u64::try_from(took.as_micros()).unwrap_or(MAX_US).clamp(1, MAX_US);
            self.counts.saturating_record_n(us, count);
            self.sum_us += us * count;
        }
    }

    /// Adds another loop's.
    pub fn add(&mut self, other: &Latency) {
        // Both have the same bounds.
        let _ = self.counts.add(&other.counts);
        self.sum_us += other.sum_us;
    }

    /// How many responses.
    pub fn count(&self) -> u64 {
        self.counts.len()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us)
    }

    /// What that part of them did not take longer than, as 0.99.
    pub fn quantile(&self, part: f64) -> Duration {
        Duration::from_micros(self.counts.value_at_quantile(part))
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.counts.max())
    }

    /// How many ended up to each of [`BOUNDS_US`], but not up to the one before; the last are those beyond.
    pub fn buckets(&self) -> [u64; BOUNDS_US.len() + 1] {
        let mut buckets = [0; BOUNDS_US.len() + 1];
        for value in self.counts.iter_recorded() {
            let bucket = BOUNDS_US
                .partition_point(|&bound| bound < self.counts.lowest_equivalent(value.value_iterated_to()));
            buckets[bucket] += value.count_at_value();
        }
        buckets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_counted_when_the_turn_ends() {
        let at = |us: u64| Instant::ZERO + Duration::from_micros(us);
        let mut latency = Latency::default();
        for began in [1000, 900, 0, 0] {
            latency.note(at(began));
        }
        assert!(latency.is_due() && latency.count() == 0);
        latency.end_turn(at(1000));
        assert!(!latency.is_due());
        assert_eq!((latency.count(), latency.sum()), (4, Duration::from_micros(1 + 100 + 2 * 1000)));
        let mut both = latency.clone();
        latency.note(at(0));
        latency.end_turn(at(3_600_000_000));
        both.add(&latency);
        assert_eq!(both.count(), 9);
        let buckets = both.buckets();
        assert_eq!(buckets.iter().sum::<u64>(), 9);
        assert_eq!((buckets[0], buckets[1], buckets[4], buckets[17]), (2, 2, 4, 1));
        assert!(both.max() >= Duration::from_secs(60) && both.quantile(0.5) <= Duration::from_micros(1010));
        // Clocks that go back are no panic.
        latency.note(at(5));
        latency.end_turn(at(0));
    }
}
