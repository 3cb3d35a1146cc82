//! Two states beside each other in a lane, as the halves of a word lie there: `z = N z + word`, of which the
//! states are a matrix times `z` ([`Halves`]).
//!
//! ```text
//!     z                    z1 z0            two numbers of 32 bits in a lane of 64
//!     times the diagonal   d z1  a z0       of N = (a b, c d)
//!     halves exchanged     z0 z1
//!     times the others     c z0  b z1
//!     and the word         x1 x0
//! ```
//!
//! Two products of numbers of 32 bits, where a register a state takes four of 64.

use super::linear::BoundedLanes;
use crate::backend::native::lanes::Lane;
use crate::backend::native::vcode::{Builder, VReg};
use crate::ir::Ty;
use crate::plan::stage::Halves;

/// A register for each copy of the unrolled loop.
pub(super) struct PairedLanes {
    pub(super) halves: Halves,
    pub(super) acc: Vec<VReg>,
}

impl PairedLanes {
    /// What was imported comes before the last copy's words, the others hold nothing.
    pub(super) fn begin(&self, b: &mut Builder, low: VReg, high: VReg) {
        let low = b.and_imm(Lane::Q, low, u64::from(u32::MAX));
        let high = b.shl(Lane::Q, high, 32);
        let both = b.or(low, high);
        let zero = b.splat(Lane::B, 0);
        if let Some((last, others)) = self.acc.split_last() {
            others.iter().for_each(|acc| b.assign(*acc, zero));
            b.assign(*last, both);
        }
    }

    /// Takes the words of one vector; `matrix` is the system's to the power of an iteration's words.
    pub(super) fn add(&self, b: &mut Builder, copy: usize, matrix: &[u64], words: VReg) {
        let into = self.halves.inverse().map(u64::from);
        let matrix = times(Ty::U32, &into, &times(Ty::U32, matrix, &self.halves.matrix.map(u64::from)));
        let acc = self.acc[copy];
        let diagonal = b.lanes_of(Lane::D, |i| matrix[if i % 2 == 0 { 0 } else { 3 }]);
        let others = b.lanes_of(Lane::D, |i| matrix[if i % 2 == 0 { 1 } else { 2 }]);
        let own = b.mul(Lane::D, acc, diagonal);
        let exchanged = b.exchange(acc, 4);
        let other = b.mul(Lane::D, exchanged, others);
        let moved = b.add(Lane::D, own, other);
        let next = b.add(Lane::D, moved, words);
        b.assign(acc, next);
    }

    /// The two numbers of a copy in the lower halves of lanes of 64 bits.
    pub(super) fn numbers(&self, b: &mut Builder, copy: usize) -> [BoundedLanes; 2] {
        let low = self.acc[copy];
        [low, b.shr(Lane::Q, low, 32)].map(|reg| BoundedLanes { reg, most: 0 })
    }
}

/// The product of two matrices of two rows, modulo two to the type's width.
pub(super) fn times(ty: Ty, a: &[u64], b: &[u64]) -> [u64; 4] {
    [0, 1, 2, 3].map(|at| {
        let (row, column) = (at / 2, at % 2);
        let terms = [0, 1].map(|i| a[2 * row + i].wrapping_mul(b[2 * i + column]));
        terms[0].wrapping_add(terms[1]) & ty.mask()
    })
}
