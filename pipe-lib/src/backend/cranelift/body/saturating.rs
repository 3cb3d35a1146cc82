//! Additions and subtractions that stop at the ends of a type: machines have them for lanes of 8 and 16 bits.

use super::VectorOp;
use super::lanes::StageLowering;
use super::lower::Group;
use crate::ir::{BinaryOp, CompareOp, Ty};

impl StageLowering<'_> {
    /// `a op b` on numbers of type `ty`, where `op` is one of `adds`, `subs`, `sadds`, `ssubs`.
    pub(super) fn saturating(&mut self, op: BinaryOp, ty: Ty, a: &Group, b: &Group) -> Group {
        use BinaryOp as B;
        let lane = a.lane;
        if (ty.bytes() as u8) < lane {
            return self.saturating_narrow(op, ty, a, b);
        }
        if lane <= 2 {
            return self.map2(a, b, |to, a, b| to.binary(op, a, b, lane));
        }
        let all = self.to.splat(u64::MAX, lane);
        let most = self.to.splat(ty.mask() >> 1, lane);
        let zero = self.to.splat(0, lane);
        self.map2(a, b, |to, a, b| match op {
            // What there is room for is added, what there is is subtracted.
            B::Adds => {
                let room = to.binary(B::Xor, a, all, lane);
                let fits = to.binary(B::Min, b, room, lane);
                to.binary(B::Add, a, fits, lane)
            }
            B::Subs => {
                let less = to.binary(B::Min, a, b, lane);
                to.binary(B::Sub, a, less, lane)
            }
            // A sum has overflowed if its sign differs from both terms'; a difference, if its sign differs
            // from the first one's and that from the second's.
            _ => {
                let plain = to.binary(if op == B::Sadds { B::Add } else { B::Sub }, a, b, lane);
                let one = to.binary(B::Xor, plain, a, lane);
                let other = to.binary(B::Xor, if op == B::Sadds { plain } else { a }, b, lane);
                let signs = to.binary(B::And, one, other, lane);
                let over = to.emit(VectorOp::Compare(CompareOp::Lts, signs, zero), lane);
                // Where the first term is negative, the smallest number: the complement of the largest.
                let negative = to.emit(VectorOp::Compare(CompareOp::Lts, a, zero), lane);
                let end = to.binary(B::Xor, negative, most, lane);
                to.emit(VectorOp::Select(over, end, plain), lane)
            }
        })
    }

    /// In lanes of twice the type's width or more, where sums and differences are exact.
    fn saturating_narrow(&mut self, op: BinaryOp, ty: Ty, a: &Group, b: &Group) -> Group {
        use BinaryOp as B;
        let lane = a.lane;
        match op {
            B::Adds => {
                let most = self.to.splat(ty.mask(), lane);
                self.map2(a, b, |to, a, b| {
                    let sum = to.binary(B::Add, a, b, lane);
                    to.binary(B::Min, sum, most, lane)
                })
            }
            B::Subs => self.map2(a, b, |to, a, b| {
                let less = to.binary(B::Min, a, b, lane);
                to.binary(B::Sub, a, less, lane)
            }),
            _ => {
                let (a, b) = (self.signed(a.clone(), ty), self.signed(b.clone(), ty));
                let most = self.to.splat(ty.mask() >> 1, lane);
                let least = self.to.splat(!(ty.mask() >> 1), lane);
                let group = self.map2(&a, &b, |to, a, b| {
                    let exact = to.binary(if op == B::Sadds { B::Add } else { B::Sub }, a, b, lane);
                    let bounded = to.binary(B::Smin, exact, most, lane);
                    to.binary(B::Smax, bounded, least, lane)
                });
                self.fitted(group, ty)
            }
        }
    }
}
