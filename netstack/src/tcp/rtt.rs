//! Round-trip time and the retransmission time-out, RFC 6298.
//!
//! Rules are numbered as there. Times are kept in nanoseconds; a `u64` of them lasts for centuries.

use std::time::Duration;

use crate::tcp::Config;

/// SRTT, RTTVAR and RTO of one connection.
#[derive(Clone, Debug)]
pub(crate) struct RttEstimator {
    /// Smoothed round-trip time; zero until the first sample.
    srtt_ns: u64,
    /// Its mean deviation.
    rttvar_ns: u64,
    /// RTO before backing off.
    base_rto_ns: u64,
    /// How often the RTO was doubled.
    backoff: u8,
}

impl RttEstimator {
    /// Rule 2.1: before any sample the RTO is the configured first one.
    pub(crate) fn new(config: &Config) -> RttEstimator {
        RttEstimator { srtt_ns: 0, rttvar_ns: 0, base_rto_ns: nanos(config.initial_rto), backoff: 0 }
    }

    /// Takes in one sample, which must not stem from a retransmitted segment (Karn, section 3), and ends backing off.
    pub(crate) fn sample(&mut self, rtt: Duration, config: &Config) {
        // Anything above a minute is a clock or a peer gone wrong; it must not freeze the connection.
        let rtt_ns = nanos(rtt).clamp(1, nanos(config.max_rto));
        if self.srtt_ns == 0 {
            // Rule 2.2
            self.srtt_ns = rtt_ns;
            self.rttvar_ns = rtt_ns / 2;
        } else {
            // Rule 2.3: beta = 1/4, alpha = 1/8; RTTVAR first, from the old SRTT
            let deviation = self.srtt_ns.abs_diff(rtt_ns);
            self.rttvar_ns = self.rttvar_ns - self.rttvar_ns / 4 + deviation / 4;
            self.srtt_ns = (self.srtt_ns - self.srtt_ns / 8 + rtt_ns / 8).max(1);
        }
        // Rules 2.4 and 2.5, with a clock so fine that G vanishes beside the minimum
        let rto_ns = self.srtt_ns + (4 * self.rttvar_ns).max(1_000_000);
        self.base_rto_ns = rto_ns.clamp(nanos(config.min_rto), nanos(config.max_rto));
        self.backoff = 0;
    }

    /// Rule 5.5: doubles the RTO, up to the configured largest. Stays doubled until the next sample (Karn's algorithm):
    /// were it undone by an ACK of retransmitted data, a path slower than the RTO would never be measured.
    pub(crate) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// Rule 5.7: a SYN was retransmitted and no sample taken, so begin data transmission with 3 s at least.
    pub(crate) fn syn_was_retransmitted(&mut self) {
        if self.srtt_ns == 0 {
            self.base_rto_ns = self.base_rto_ns.max(3_000_000_000);
            self.backoff = 0;
        }
    }

    /// The time-out to arm now.
    pub(crate) fn rto(&self, config: &Config) -> Duration {
        let backed_off = self.base_rto_ns.saturating_mul(1u64 << self.backoff.min(20));
        Duration::from_nanos(backed_off.min(nanos(config.max_rto)))
    }

    /// Smoothed round-trip time, once there is one.
    pub(crate) fn srtt(&self) -> Option<Duration> {
        (self.srtt_ns != 0).then(|| Duration::from_nanos(self.srtt_ns))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
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
