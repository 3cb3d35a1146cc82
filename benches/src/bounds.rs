//! What the machine allows at best, from what was measured on it: the cost of each step in vector
//! instructions, and the fastest bare copy of the size.

use crate::cases::Case;
use rivals::Step;
#[cfg(target_arch = "x86_64")]
pub use rivals::limits::Limits;

/// Elsewhere nothing is known.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy, Debug)]
pub enum Limits {}

/// The fewest 512-bit instructions a vector of payload costs in a loop, by the best ways known for its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Byte shuffles and carry-less products: one unit of the two does them.
    pub one_unit: f64,
    /// All vector instructions, those included.
    pub all: f64,
    /// Stores.
    pub stores: f64,
}

impl Cost {
    /// Of a case's steps.
    pub fn of(steps: &[Step]) -> Cost {
        let mut cost = Cost { stores: 1.0, ..Cost::default() };
        for step in steps {
            let (one_unit, all) = match step {
                // `vpdpbusd` of the even bytes, and of the odd ones.
                Step::Inet => (0.0, 2.0),
                // Two products, and a three-way exclusive or.
                Step::Crc32c => (2.0, 3.0),
                // The sum, the weighted sum, and for every four vectors (signed weights have 256 values) the
                // sum of the sums before them.
                Step::Adler32 => (0.0, 2.25),
                Step::Swap32 => (1.0, 1.0),
                Step::Xor32(_) => (0.0, 1.0),
                Step::Stripe => (0.0, 0.0),
            };
            cost.one_unit += one_unit;
            cost.all += all;
            if *step == Step::Stripe {
                // Two cache lines for each one of payload.
                cost.stores += 1.0;
            }
        }
        cost
    }
}

/// An upper bound, and what sets it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Bound {
    /// Of payload.
    pub gbps: f64,
    /// For people.
    pub why: String,
}

/// The bound of a case for transfers that find code, source and destination in the nearest cache.
#[cfg(target_arch = "x86_64")]
pub fn compute(case: &Case, limits: &Limits) -> Bound {
    let cost = Cost::of(case.steps);
    let candidates = [
        (
            cost.stores / limits.stores,
            format!("{} stores a vector, {:.2} a cycle", cost.stores, limits.stores),
        ),
        (
            cost.one_unit / limits.shuffles.max(limits.multiplies),
            format!(
                "{} shuffles and products a vector, {:.2} a cycle",
                cost.one_unit,
                limits.shuffles.max(limits.multiplies)
            ),
        ),
        (
            cost.all / limits.adds,
            format!("{} vector instructions a vector, {:.2} a cycle", cost.all, limits.adds),
        ),
    ];
    let longest = candidates.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
    let (cycles, why) = longest.unwrap_or((1.0, String::new()));
    let gbps = 64.0 * limits.clock_ghz / cycles;
    Bound { gbps, why: format!("{why}: {gbps:.0} GB/s at {:.2} GHz", limits.clock_ghz) }
}

/// No limits, no bound.
#[cfg(not(target_arch = "x86_64"))]
pub fn compute(_: &Case, limits: &Limits) -> Bound {
    match *limits {}
}

/// The lower of the compute bound and of the fastest bare copy measured at this size.
pub fn of(case: &Case, limits: Option<&Limits>, fastest_copy_gbps: Option<f64>) -> Option<Bound> {
    let copy = fastest_copy_gbps
        .map(|gbps| Bound { gbps, why: format!("memory: the fastest bare copy reaches {gbps:.1} GB/s") });
    let compute = limits.map(|limits| compute(case, limits));
    [copy, compute].into_iter().flatten().min_by(|a, b| a.gbps.total_cmp(&b.gbps))
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn the_dearest_unit_sets_the_bound() {
        let limits = Limits {
            clock_ghz: 1.0,
            adds: 2.0,
            adds_from_memory: 2.0,
            shuffles: 1.0,
            dot_products: 2.0,
            multiplies: 1.0,
            loads: 2.0,
            stores: 1.0,
            copy_with_adds: [1.0; 7],
        };
        let gbps = |name: &str| compute(Case::named(name).unwrap(), &limits).gbps;
        assert_eq!(gbps("checksum"), 64.0);
        assert!((gbps("checksum+byteswap") - 64.0 / 1.5).abs() < 1e-9);
        assert!((gbps("crc32c") - 32.0).abs() < 1e-9);
        // A slow memory bounds everything, a fast one nothing.
        let case = Case::named("checksum").unwrap();
        assert_eq!(of(case, Some(&limits), Some(5.0)).unwrap().gbps, 5.0);
        assert_eq!(of(case, Some(&limits), Some(500.0)).unwrap().gbps, 64.0);
        assert_eq!(of(case, None, None), None);
    }
}
