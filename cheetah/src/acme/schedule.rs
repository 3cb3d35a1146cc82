//! When a certificate is renewed, and when it is tried again.

use std::time::Duration;

/// First wait after a failure, and longest.
const FIRST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(12 * 3600);

/// Seconds since 1970 from which on a certificate that is good from `from` to `until` is to be renewed: two
/// thirds of its life later, and up to a twentieth of it, by `chance` (0 to 1), so that not all come at once.
pub(super) fn due(from: i64, until: i64, chance: f64) -> i64 {
    let life = until.saturating_sub(from).max(0);
    // Of a life of 100 years even a float is exact to the second.
    let jitter = (life as f64 / 20.0 * chance.clamp(0.0, 1.0)) as i64;
    from.saturating_add(life / 3 * 2).saturating_add(jitter)
}

/// The same where the authority has another moment in mind: no later than with a tenth of its life left.
pub(super) fn last(from: i64, until: i64) -> i64 {
    until.saturating_sub(until.saturating_sub(from).max(0) / 10)
}

/// How long to wait after that many failures in a row: twice as long each time, and up to a quarter more by
/// `chance`.
pub(super) fn wait(failures: u32, chance: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_WAIT);
    doubled + doubled.mul_f64(chance.clamp(0.0, 1.0) / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_renewed_in_the_last_third_of_its_life() {
        const DAY: i64 = 86_400;
        assert_eq!(due(1000, 1000 + 90 * DAY, 0.0), 1000 + 60 * DAY);
        assert_eq!(due(1000, 1000 + 90 * DAY, 1.0), 1000 + 60 * DAY + 9 * DAY / 2);
        // One of six days, too; one that ends before it begins, at once.
        assert_eq!(due(0, 6 * DAY, 0.0), 4 * DAY);
        assert_eq!(due(1000, 0, 1.0), 1000);
        assert_eq!((last(0, 100), last(5, 0)), (90, 0));
        assert!(due(i64::MAX - 1, i64::MAX, 1.0) >= i64::MAX - 1);
    }

    #[test]
    fn failures_make_it_wait_longer_up_to_half_a_day() {
        assert_eq!(wait(1, 0.0), Duration::from_secs(60));
        assert_eq!(wait(2, 0.0), Duration::from_secs(120));
        assert_eq!(wait(2, 1.0), Duration::from_secs(150));
        assert_eq!(wait(100, 0.0), LONGEST_WAIT);
        assert!(wait(u32::MAX, 1.0) <= LONGEST_WAIT + LONGEST_WAIT / 4);
    }
}
