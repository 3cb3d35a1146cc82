//! HyStart++ (RFC 9406): leaves the first slow start before it overflows the path, because round trips grow.
//!
//! ```text
//!   slow start --a round's least RTT grew by an eighth (4 to 16 ms)--> conservative slow start, a quarter as steep
//!        ^                                                                    |
//!        '---------- it shrank again: the growth was chance ------------------+--5 rounds--> congestion avoidance
//! ```

use crate::tcp::congestion::Acked;
use crate::tcp::seq::SeqNumber;

/// MIN_RTT_THRESH and MAX_RTT_THRESH.
const THRESHOLD_US: std::ops::RangeInclusive<u32> = 4_000..=16_000;
/// MIN_RTT_DIVISOR.
const DIVISOR: u32 = 8;
/// N_RTT_SAMPLE.
const SAMPLES: u8 = 8;
/// CSS_GROWTH_DIVISOR.
const CONSERVATIVE_DIVISOR: u32 = 4;
/// CSS_ROUNDS.
const CONSERVATIVE_ROUNDS: u8 = 5;
/// L, for senders that do not pace: as many segments does an ACK open the window by at most.
const LIMIT_SEGMENTS: u32 = 8;

/// No sample yet.
const NONE: u32 = u32::MAX;

/// A connection's first slow start.
#[derive(Clone, Debug)]
pub(super) struct HyStart {
    /// windowEnd: the round is over when this is acknowledged.
    round_end: SeqNumber,
    /// lastRoundMinRTT and currentRoundMinRTT, in microseconds.
    last_min_us: u32,
    min_us: u32,
    /// cssBaselineMinRtt; none outside of conservative slow start.
    baseline_us: u32,
    /// rttSampleCount.
    samples: u8,
    /// Rounds begun in conservative slow start.
    rounds: u8,
    has_begun: bool,
}

/// What slow start makes of an ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// The window grows by that many bytes.
    Bytes(u32),
    /// Slow start is over: the window is large enough for this path.
    Over,
}

/// The same without HyStart++, for all slow starts but the first: RFC 3465 with RFC 9406's limit.
pub(super) fn plain_growth(bytes: u32, smss: u16) -> u32 {
    bytes.min(LIMIT_SEGMENTS * u32::from(smss))
}

impl HyStart {
    pub(super) fn new() -> HyStart {
        HyStart {
            round_end: SeqNumber(0),
            last_min_us: NONE,
            min_us: NONE,
            baseline_us: NONE,
            samples: 0,
            rounds: 0,
            has_begun: false,
        }
    }

    /// An ACK in the first slow start (section 4.2).
    pub(super) fn acknowledged(&mut self, ack: &Acked, smss: u16) -> Growth {
        if !self.has_begun || ack.una.ge(self.round_end) {
            self.has_begun = true;
            self.round_end = ack.max;
            self.last_min_us = std::mem::replace(&mut self.min_us, NONE);
            self.samples = 0;
            if self.baseline_us != NONE {
                self.rounds += 1;
                if self.rounds > CONSERVATIVE_ROUNDS {
                    return Growth::Over;
                }
            }
        }
        if let Some(rtt_us) = ack.rtt_us {
            self.min_us = self.min_us.min(rtt_us);
            self.samples = self.samples.saturating_add(1);
        }
        let bytes = plain_growth(ack.bytes, smss);
        if self.samples >= SAMPLES {
            if self.baseline_us != NONE {
                if self.min_us < self.baseline_us {
                    self.baseline_us = NONE;
                }
            } else if self.last_min_us != NONE {
                let threshold =
                    (self.last_min_us / DIVISOR).clamp(*THRESHOLD_US.start(), *THRESHOLD_US.end());
                if self.min_us >= self.last_min_us.saturating_add(threshold) {
                    self.baseline_us = self.min_us;
                    self.rounds = 1;
                }
            }
        }
        Growth::Bytes(if self.baseline_us == NONE { bytes } else { bytes / CONSERVATIVE_DIVISOR })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::time::Instant;

    /// Rounds of `acks` ACKs, a segment each, all with the same round trip; how much each round opened the
    /// window.
    fn rounds(hystart: &mut HyStart, at: &mut u32, rtts_ms: &[u32], acks: u32) -> Vec<Option<u32>> {
        let mut grown = Vec::new();
        for rtt_ms in rtts_ms {
            let (start, mut sum) = (*at, Some(0));
            for _ in 0..acks {
                *at += 1000;
                let ack = Acked {
                    now: Instant::ZERO,
                    bytes: 1000,
                    rtt_us: Some(rtt_ms * 1000),
                    srtt_us: rtt_ms * 1000,
                    una: SeqNumber(*at),
                    max: SeqNumber(start + (acks + 1) * 1000),
                };
                sum = match hystart.acknowledged(&ack, 1000) {
                    Growth::Bytes(bytes) => sum.map(|sum| sum + bytes),
                    Growth::Over => None,
                };
            }
            grown.push(sum);
        }
        grown
    }

    #[test]
    fn steady_round_trips_double_the_window_for_ever() {
        let (mut hystart, mut at) = (HyStart::new(), 0);
        assert_eq!(rounds(&mut hystart, &mut at, &[20; 12], 10), [Some(10_000); 12]);
    }

    #[test]
    fn growing_round_trips_slow_it_and_end_it_after_five_rounds() {
        let (mut hystart, mut at) = (HyStart::new(), 0);
        // 20 ms and an eighth are 22.5 ms, but less than 4 ms more is noise.
        let grown = rounds(&mut hystart, &mut at, &[20, 23, 23, 28, 28, 28, 28, 28, 28], 10);
        assert_eq!(grown[..3], [Some(10_000); 3]);
        // From its eighth sample on at a quarter.
        assert_eq!(grown[3], Some(7_000 + 3 * 250));
        assert_eq!(grown[4..8], [Some(2_500); 4]);
        assert_eq!(grown[8], None, "the sixth round since");
    }

    #[test]
    fn round_trips_that_shrink_again_resume_slow_start() {
        let (mut hystart, mut at) = (HyStart::new(), 0);
        let grown = rounds(&mut hystart, &mut at, &[20, 30, 20, 20], 10);
        assert_eq!(grown[2], Some(7 * 250 + 3_000));
        assert_eq!(grown[3], Some(10_000));
    }

    #[test]
    fn fewer_than_eight_samples_tell_nothing() {
        let (mut hystart, mut at) = (HyStart::new(), 0);
        assert_eq!(rounds(&mut hystart, &mut at, &[20, 90, 20, 500], 7), [Some(7_000); 4]);
    }
}
