//! Round-trip time and the retransmission time-out, RFC 6298.
//!
//! Rules are numbered as there. Times are kept in sixteenths of a microsecond, of which 32 bits are four and
//! a half minutes: longer ones count as that.

use std::time::Duration;

use crate::tcp::Config;

/// SRTT, RTTVAR and RTO of one connection.
#[derive(Clone, Debug)]
pub(crate) struct RttEstimator {
    /// Smoothed round-trip time; zero until the first sample.
    srtt: u32,
    /// Its mean deviation.
    rttvar: u32,
    /// RTO before backing off.
    base_rto: u32,
    /// How often the RTO was doubled.
    backoff: u8,
}

impl RttEstimator {
    /// Rule 2.1: before any sample the RTO is the configured first one.
    pub(crate) fn new(config: &Config) -> RttEstimator {
        RttEstimator { srtt: 0, rttvar: 0, base_rto: units(config.initial_rto), backoff: 0 }
    }

    /// Takes in one sample, which must not stem from a retransmitted segment (Karn, section 3), and ends
    /// backing off.
    pub(crate) fn sample(&mut self, rtt: Duration, config: &Config) {
        // Anything above a minute is a clock or a peer gone wrong; it must not freeze the connection.
        let rtt = units(rtt).clamp(1, units(config.max_rto).max(1));
        if self.srtt == 0 {
            // Rule 2.2
            self.srtt = rtt;
            self.rttvar = rtt / 2;
        } else {
            // Rule 2.3: beta = 1/4, alpha = 1/8; RTTVAR first, from the old SRTT
            let deviation = self.srtt.abs_diff(rtt);
            self.rttvar = self.rttvar - self.rttvar / 4 + deviation / 4;
            self.srtt = (self.srtt - self.srtt / 8 + rtt / 8).max(1);
        }
        // Rules 2.4 and 2.5, with a clock so fine that G vanishes beside the minimum
        let rto = self.srtt.saturating_add(self.rttvar.saturating_mul(4).max(UNITS_PER_MS));
        self.base_rto = rto.max(units(config.min_rto)).min(units(config.max_rto));
        self.backoff = 0;
    }

    /// Rule 5.5: doubles the RTO, up to the configured largest. Stays doubled until the next sample (Karn's
    /// algorithm): were it undone by an ACK of retransmitted data, a path slower than the RTO would never be
    /// measured.
    pub(crate) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// Rule 5.7: a SYN was retransmitted and no sample taken, so begin data transmission with 3 s at least.
    pub(crate) fn syn_was_retransmitted(&mut self) {
        if self.srtt == 0 {
            self.base_rto = self.base_rto.max(3_000 * UNITS_PER_MS);
            self.backoff = 0;
        }
    }

    /// The time-out to arm now.
    pub(crate) fn rto(&self, config: &Config) -> Duration {
        let backed_off = u64::from(self.base_rto) << self.backoff.min(20);
        duration(u32::try_from(backed_off).unwrap_or(u32::MAX)).min(config.max_rto)
    }

    /// Smoothed round-trip time, once there is one.
    pub(crate) fn srtt(&self) -> Option<Duration> {
        (self.srtt != 0).then(|| duration(self.srtt))
    }
}

/// Units of a millisecond.
const UNITS_PER_MS: u32 = 16_000;

fn units(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos() * 2 / 125).unwrap_or(u32::MAX)
}

fn duration(units: u32) -> Duration {
    Duration::from_nanos(u64::from(units) * 125 / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn first_sample_sets_srtt_and_half_of_it_as_variance() {
        let config = Config::default();
        let mut rtt = RttEstimator::new(&config);
        assert_eq!(rtt.rto(&config), ms(1000));
        assert_eq!(rtt.srtt(), None);
        rtt.sample(ms(100), &config);
        assert_eq!(rtt.srtt(), Some(ms(100)));
        assert_eq!(rtt.rto(&config), ms(300), "SRTT + 4 * SRTT/2");
    }

    #[test]
    fn later_samples_follow_rule_2_3() {
        let config = Config::default();
        let mut rtt = RttEstimator::new(&config);
        rtt.sample(ms(100), &config);
        rtt.sample(ms(200), &config);
        // RTTVAR = 3/4 * 50 + 1/4 * 100 = 62.5 ms, SRTT = 7/8 * 100 + 1/8 * 200 = 112.5 ms
        assert_eq!(rtt.srtt(), Some(Duration::from_micros(112_500)));
        assert_eq!(rtt.rto(&config), Duration::from_micros(112_500 + 4 * 62_500));
    }

    #[test]
    fn back_off_doubles_to_the_limit_and_a_sample_ends_it() {
        let config = Config::default();
        let mut rtt = RttEstimator::new(&config);
        rtt.back_off();
        assert_eq!(rtt.rto(&config), ms(2000));
        for _ in 0..200 {
            rtt.back_off();
        }
        assert_eq!(rtt.rto(&config), config.max_rto);
        rtt.sample(ms(1), &config);
        assert_eq!(rtt.rto(&config), config.min_rto, "rule 2.4 with our minimum");
    }

    #[test]
    fn absurd_samples_stay_in_bounds() {
        let config = Config::default();
        let mut rtt = RttEstimator::new(&config);
        rtt.sample(Duration::MAX, &config);
        assert!(rtt.rto(&config) <= config.max_rto);
        for _ in 0..100 {
            rtt.sample(Duration::ZERO, &config);
        }
        assert_eq!(rtt.rto(&config), config.min_rto);
    }
}
