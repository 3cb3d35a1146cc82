//! What the machine allows at best, from what was measured on it: the cost of each step in vector
//! instructions, and the fastest bare copy of the size.

use crate::cases::Case;
use rivals::Step;
#[cfg(target_arch = "x86_64")]
pub use rivals::limits::{Limits, NarrowLimits};

/// Elsewhere nothing is known.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy, Debug)]
pub enum Limits {}

/// Elsewhere nothing is known.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy, Debug)]
pub enum NarrowLimits {}

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

/// The same of AVX2 with products of 128 bits, by the best ways known there.
///
/// Of a CRC-32C as many bytes go through the `crc32` instruction as keep it and the products busy for equally
/// long: both rates add up.
#[cfg(target_arch = "x86_64")]
pub fn compute_narrow(case: &Case, limits: &NarrowLimits) -> Bound {
    const VECTOR: f64 = 32.0;
    let (by_instruction, by_products) = (8.0 * limits.crcs, 16.0 / 2.0 * limits.products);
    let folded = by_products / (by_instruction + by_products);
    let (mut stores, mut shuffles, mut all, mut crc) = (1.0, 0.0, 0.0, 0.0);
    for step in case.steps {
        match step {
            // Two additions and a shift.
            Step::Inet => all += 3.0,
            // Of a vector that is folded four products, and for each half two exclusive ors; the upper half
            // is taken out, and what the instruction gave goes from its register to the first half.
            Step::Crc32c => {
                all += folded * (4.0 * limits.adds_a_product + 7.0);
                crc = VECTOR / (by_instruction + by_products);
            }
            // The sum of the bytes, their weighted sum in two steps, and three additions.
            Step::Adler32 => all += 6.0,
            Step::Swap32 => {
                shuffles += 1.0;
                all += 1.0;
            }
            Step::Xor32(_) => all += 1.0,
            Step::Stripe => stores += 1.0,
        }
    }
    let candidates = [
        (stores / limits.stores, format!("{stores} stores a vector, {:.2} a cycle", limits.stores)),
        (shuffles / limits.shuffles, format!("{shuffles} shuffles a vector, {:.2} a cycle", limits.shuffles)),
        (all / limits.adds, format!("work of {all:.1} additions a vector, {:.2} a cycle", limits.adds)),
        (
            crc,
            format!(
                "8 bytes for each of {:.2} `crc32` a cycle, and 8 for each of {:.2} products",
                limits.crcs, limits.products
            ),
        ),
    ];
    let longest = candidates.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
    let (cycles, why) = longest.unwrap_or((1.0, String::new()));
    let gbps = VECTOR * limits.clock_ghz / cycles;
    Bound { gbps, why: format!("{why}: {gbps:.0} GB/s at {:.2} GHz", limits.clock_ghz) }
}

/// No limits, no bound.
#[cfg(not(target_arch = "x86_64"))]
pub fn compute_narrow(_: &Case, limits: &NarrowLimits) -> Bound {
    match *limits {}
}

/// No limits, no bound.
#[cfg(not(target_arch = "x86_64"))]
pub fn compute(_: &Case, limits: &Limits) -> Bound {
    match *limits {}
}

/// The lower of the compute bound and of the fastest bare copy measured at this size.
pub fn of(
    case: &Case,
    limits: Option<&Limits>,
    narrow: Option<&NarrowLimits>,
    fastest_copy_gbps: Option<f64>,
) -> Option<Bound> {
    let copy = fastest_copy_gbps
        .map(|gbps| Bound { gbps, why: format!("memory: the fastest bare copy reaches {gbps:.1} GB/s") });
    let compute = limits.map(|limits| compute(case, limits));
    let narrow = narrow.map(|limits| compute_narrow(case, limits));
    [copy, compute, narrow].into_iter().flatten().min_by(|a, b| a.gbps.total_cmp(&b.gbps))
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
        assert_eq!(of(case, Some(&limits), None, Some(5.0)).unwrap().gbps, 5.0);
        assert_eq!(of(case, Some(&limits), None, Some(500.0)).unwrap().gbps, 64.0);
        assert_eq!(of(case, None, None, None), None);
    }

    #[test]
    fn the_instruction_and_the_products_add_up() {
        let limits = NarrowLimits {
            clock_ghz: 1.0,
            adds: 4.0,
            shuffles: 2.0,
            products: 0.5,
            adds_a_product: 3.0,
            crcs: 1.0,
            stores: 1.0,
        };
        let gbps = |name: &str| compute_narrow(Case::named(name).unwrap(), &limits).gbps;
        assert_eq!(gbps("checksum"), 32.0);
        // Six additions' worth in a cycle and a half.
        assert!((gbps("checksum+byteswap") - 32.0).abs() < 1e-9);
        assert!((gbps("crc32c") - 12.0).abs() < 1e-9);
        // A third is folded: 19 additions' worth for each of those vectors, and 11 for every one.
        assert!((gbps("five pipes") - 32.0 / ((11.0 + 19.0 / 3.0) / 4.0)).abs() < 1e-9);
    }
}
