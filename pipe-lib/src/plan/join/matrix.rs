//! Affine maps on vectors of numbers modulo 2^64; their powers by squaring.

/// An affine map on vectors of numbers modulo 2^64: the last coordinate is 1 and stays 1. Rows in order,
/// `side` each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AffineNumbers {
    side: usize,
    rows: Vec<u64>,
}

impl AffineNumbers {
    /// From what becomes of the origin and of the unit vectors, given one after the other.
    pub(super) fn new(origin: &[u64], units: &[Vec<u64>]) -> AffineNumbers {
        let side = origin.len() + 1;
        let mut rows = vec![0; side * side];
        for (row, constant) in origin.iter().enumerate() {
            for (column, unit) in units.iter().enumerate() {
                rows[row * side + column] = unit[row].wrapping_sub(*constant);
            }
            rows[row * side + side - 1] = *constant;
        }
        rows[side * side - 1] = 1;
        AffineNumbers { side, rows }
    }

    fn after(&self, first: &AffineNumbers) -> AffineNumbers {
        let side = self.side;
        let entry = |row: usize, column: usize| {
            let products =
                (0..side).map(|k| self.rows[row * side + k].wrapping_mul(first.rows[k * side + column]));
            products.fold(0, u64::wrapping_add)
        };
        AffineNumbers { side, rows: (0..side * side).map(|at| entry(at / side, at % side)).collect() }
    }

    /// The map applied `n` times to `x`.
    pub(super) fn power_apply(&self, mut n: u64, x: &[u64]) -> Vec<u64> {
        let mut vector: Vec<u64> = x.iter().copied().chain([1]).collect();
        let mut square = self.clone();
        while n != 0 {
            if n & 1 == 1 {
                let row = |row: &[u64]| {
                    row.iter().zip(&vector).fold(0u64, |sum, (a, b)| sum.wrapping_add(a.wrapping_mul(*b)))
                };
                vector = square.rows.chunks_exact(self.side).map(row).collect();
            }
            n >>= 1;
            if n != 0 {
                square = square.after(&square);
            }
        }
        vector.pop();
        vector
    }
}
