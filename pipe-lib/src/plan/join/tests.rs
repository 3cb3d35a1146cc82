//! The maps' powers against applying them again and again; the runs in parts are tested where they are run.

use super::matrix::AffineNumbers;
use crate::plan::induction::AffineBits;
use crate::testing::Rng;

#[test]
fn powers_of_maps_over_bits() {
    let mut rng = Rng::new(1);
    for bits in [1, 8, 33, 64] {
        let mask = u64::MAX >> (64 - bits);
        let columns: Vec<u64> = (0..bits).map(|_| rng.next_u64() & mask).collect();
        let zero = rng.next_u64() & mask;
        let f = |x: u64| {
            let chosen = columns.iter().enumerate().filter(|(bit, _)| x >> bit & 1 == 1);
            chosen.fold(zero, |sum, (_, column)| sum ^ column)
        };
        let map = AffineBits::new(bits, f);
        let start = rng.next_u64() & mask;
        let mut x = start;
        for n in 0..100 {
            assert_eq!(map.power(n).apply(start), x, "{bits} bits, {n} times");
            x = f(x);
        }
    }
}

#[test]
fn powers_of_maps_over_numbers() {
    let mut rng = Rng::new(2);
    for side in 0..4 {
        let factors: Vec<Vec<u64>> = (0..side).map(|_| (0..side).map(|_| rng.edge()).collect()).collect();
        let constant: Vec<u64> = (0..side).map(|_| rng.edge()).collect();
        let f = |x: &[u64]| -> Vec<u64> {
            let row = |row: usize| {
                let products = x.iter().zip(&factors[row]).map(|(x, factor)| x.wrapping_mul(*factor));
                products.fold(constant[row], u64::wrapping_add)
            };
            (0..side).map(row).collect()
        };
        let unit = |i: usize| f(&(0..side).map(|j| u64::from(i == j)).collect::<Vec<u64>>());
        let map = AffineNumbers::new(&f(&vec![0; side]), &(0..side).map(unit).collect::<Vec<_>>());
        let start: Vec<u64> = (0..side).map(|_| rng.next_u64()).collect();
        let mut x = start.clone();
        for n in 0..100 {
            assert_eq!(map.power_apply(n, &start), x, "{side} numbers, {n} times");
            x = f(&x);
        }
    }
}
