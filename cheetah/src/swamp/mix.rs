//! What of several things is asked for next.

use std::sync::Arc;

use fastrand::Rng;

/// Proportions.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// The sums of the shares up to each, the last one 1.
    sums: Vec<f64>,
    /// Instead of proportions: which one when.
    order: Arc<[u32]>,
    /// Where in that we are.
    at: usize,
    /// What is ours of it, every so many.
    step: usize,
}

impl Mix {
    /// Each of `n`, not 0, as often as every other.
    pub fn even(n: usize) -> Mix {
        Mix::zipf(n, 0.0)
    }

    /// The i-th of `n`, not 0, counted from 1, in proportion to `1 / i^exponent`: as pages of a site are,
    /// with an exponent of some 0.7 to 1 (Breslau et al., "Web Caching and Zipf-like Distributions", 1999).
    pub fn zipf(n: usize, exponent: f64) -> Mix {
        let shares = (1..=n).map(|i| (i as f64).powf(-exponent));
        Mix::weighted(shares)
    }

    /// Those numbers in that order, and then again.
    pub fn in_order(order: &[u32]) -> Mix {
        Mix { sums: Vec::new(), order: order.into(), at: 0, step: 1 }
    }

    /// The same for one of several threads: an order is begun at another place by each.
    #[must_use]
    pub fn share(&self, thread: usize, threads: usize) -> Mix {
        Mix { at: self.order.len() * thread / threads, ..self.clone() }
    }

    /// The same where each has every `threads`th of an order.
    #[must_use]
    pub fn alternate(&self, thread: usize, threads: usize) -> Mix {
        Mix { at: thread % self.order.len().max(1), step: threads, ..self.clone() }
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
        Mix { sums, order: Arc::default(), at: 0, step: 1 }
    }

    /// The next one.
    pub(super) fn next(&mut self, rng: &mut Rng) -> usize {
        if let Some(&number) = self.order.get(self.at) {
            self.at = (self.at + self.step) % self.order.len();
            return number as usize;
        }
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
    fn an_order_is_kept_and_begun_again() {
        let mut rng = Rng::with_seed(7);
        let mut next = |mix: &mut Mix| (0..4).map(|_| mix.next(&mut rng)).collect::<Vec<_>>();
        let mix = Mix::in_order(&[5, 1, 1]);
        assert_eq!(next(&mut mix.clone()), [5, 1, 1, 5]);
        assert_eq!(next(&mut mix.share(1, 2)), [1, 1, 5, 1]);
        assert_eq!(next(&mut Mix::in_order(&[0, 1, 2, 3, 4]).alternate(1, 2)), [1, 3, 0, 2]);
    }

    #[test]
    fn shares_are_as_told() {
        let mut rng = Rng::with_seed(7);
        for (mut mix, expected) in [(Mix::even(4), [0.25; 4]), (Mix::zipf(4, 1.0), [0.48, 0.24, 0.16, 0.12])]
        {
            let mut counts = [0.0f64; 4];
            (0..100_000).for_each(|_| counts[mix.next(&mut rng)] += 1e-5);
            for (count, expected) in counts.into_iter().zip(expected) {
                assert!((count - expected).abs() < 0.01, "{counts:?}");
            }
        }
    }
}
