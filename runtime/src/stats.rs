//! Figures that a running server keeps of itself, cheap enough for every packet.
//!
//! A counter or histogram belongs to the thread that writes it. Others may read it at any time without
//! stopping the writer: they see every field whole, but different fields at slightly different times.

pub mod work;

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts events or bytes. One thread writes, any may read.
#[derive(Debug, Default)]
pub struct Counter {
    value: AtomicU64,
}

impl Counter {
    /// Zero.
    pub const fn new() -> Counter {
        Counter { value: AtomicU64::new(0) }
    }

    /// Adds `n`. Only one thread may do so: a load and a store are cheaper than a locked addition, and lose
    /// updates of others.
    pub fn add(&self, n: u64) {
        self.value.store(self.value.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// Significant bits that a histogram's bucket keeps: a relative error of at most 1/16.
const PRECISION_BITS: u32 = 4;
const SUB_BUCKETS: usize = 1 << PRECISION_BITS;
const BUCKETS: usize = (u64::BITS - PRECISION_BITS + 1) as usize * SUB_BUCKETS;

/// Distribution of values of any magnitude (latencies in ns, sizes in bytes), with a relative error of at
/// most 1/16.
///
/// Buckets are exact below 16, then sixteen to each power of two. One thread writes, any may read.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[Counter]>,
    count: Counter,
    sum: Counter,
    max: Counter,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

impl Histogram {
    /// Nothing recorded.
    pub fn new() -> Histogram {
        let buckets = (0..BUCKETS).map(|_| Counter::new()).collect();
        Histogram { buckets, count: Counter::new(), sum: Counter::new(), max: Counter::new() }
    }

    /// Records one value. Only one thread may do so.
    pub fn record(&self, value: u64) {
        self.buckets[bucket(value)].add(1);
        self.count.add(1);
        self.sum.add(value);
        let max = self.max.get();
        self.max.add(value.saturating_sub(max));
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// Sum of all values, modulo 2^64.
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }

    /// Largest value, exactly; 0 if none.
    pub fn max(&self) -> u64 {
        self.max.get()
    }

    /// The value that a share of `per_mille` thousandths of all values does not exceed: the upper bound of
    /// its bucket, and no more than the largest value. 0 if there are none.
    pub fn quantile(&self, per_mille: u32) -> u64 {
        let count: u64 = self.buckets.iter().map(Counter::get).sum();
        let rank = (u128::from(count) * u128::from(per_mille.min(1000))).div_ceil(1000).max(1) as u64;
        let mut seen = 0;
        for (i, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.get();
            if seen >= rank {
                return upper_bound(i).min(self.max());
            }
        }
        0
    }
}

/// The bucket of a value: its exponent, and the bits after the leading one.
fn bucket(value: u64) -> usize {
    if value < SUB_BUCKETS as u64 {
        return value as usize;
    }
    let exponent = u64::BITS - 1 - value.leading_zeros();
    let shift = exponent - PRECISION_BITS;
    (shift as usize + 1) * SUB_BUCKETS + ((value >> shift) as usize - SUB_BUCKETS)
}

/// The largest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    if bucket < SUB_BUCKETS {
        return bucket as u64;
    }
    let shift = (bucket / SUB_BUCKETS - 1) as u32;
    let leading = (SUB_BUCKETS + bucket % SUB_BUCKETS) as u64;
    (leading << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_tile_the_numbers() {
        for i in 0..BUCKETS {
            assert_eq!(bucket(upper_bound(i)), i);
            if i + 1 < BUCKETS {
                assert_eq!(bucket(upper_bound(i) + 1), i + 1);
            }
        }
        assert_eq!(upper_bound(BUCKETS - 1), u64::MAX);
    }

    #[test]
    fn an_empty_histogram_is_all_zero() {
        let histogram = Histogram::new();
        assert_eq!((histogram.count(), histogram.max(), histogram.quantile(500)), (0, 0, 0));
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_sixteenth(
            mut values in prop::collection::vec((0u32..64, any::<u64>()).prop_map(|(b, x)| x >> b), 1..200),
            per_mille in 0u32..=1000,
        ) {
            let histogram = Histogram::new();
            values.iter().for_each(|&value| histogram.record(value));
            values.sort_unstable();
            let rank = (values.len() * per_mille as usize).div_ceil(1000).max(1);
            let exact = values[rank - 1];
            let found = histogram.quantile(per_mille);
            prop_assert!(found >= exact && found - exact <= exact / 16, "{} for {}", found, exact);
            prop_assert_eq!(histogram.max(), *values.last().unwrap());
            prop_assert_eq!(histogram.count(), values.len() as u64);
        }
    }
}
