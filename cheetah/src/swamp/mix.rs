//! What of several things is asked for next.

use fastrand::Rng;

/// Proportions.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// The sums of the shares up to each, the last one 1.
    sums: Vec<f64>,
}

impl Mix {
    /// Each of `n`, not 0, as often as every other.
    pub fn even(n: usize) -> Mix {
        Mix::zipf(n, 0.0)
    }

    /// The i-th of `n`, not 0, counted from 1, in proportion to `1 / i^exponent`: as pages of a site are, with an exponent
    /// of some 0.7 to 1 (Breslau et al., "Web Caching and Zipf-like Distributions", 1999).
    pub fn zipf(n: usize, exponent: f64) -> Mix {
        let shares = (1..=n).map(|i| (i as f64).powf(-exponent));
        Mix::weighted(shares)
    }

    fn weighted(shares: impl Iterator<Item = f64>) -> Mix {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = shares
            .map(|share| {
                sum += share;
                sum
            })
            .collect();
        sums.iter_mut().for_each(|part| *part /= sum);
        Mix { sums }
    }

    /// The next one.
    pub(super) fn next(&self, rng: &mut Rng) -> usize {
        if self.sums.len() < 2 {
            return 0;
        }
        let at = rng.f64();
        self.sums.partition_point(|&sum| sum <= at).min(self.sums.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_as_told() {
        let mut rng = Rng::with_seed(7);
        for (mix, expected) in [(Mix::even(4), [0.25; 4]), (Mix::zipf(4, 1.0), [0.48, 0.24, 0.16, 0.12])] {
            let mut counts = [0.0f64; 4];
            (0..100_000).for_each(|_| counts[mix.next(&mut rng)] += 1e-5);
            for (count, expected) in counts.into_iter().zip(expected) {
                assert!((count - expected).abs() < 0.01, "{counts:?}");
            }
        }
    }
}
