//! Sums modulo a literal outside reductions, where a few subtractions reduce any number.

use super::VectorOp;
use super::lanes::StageLowering;
use super::lower::Group;
use crate::ir::{BinaryOp, CompareOp, ModOp, Op, Ty, Value};
use crate::plan::stage::MAX_MULTIPLES;

impl StageLowering<'_> {
    /// `(x + y) mod m`.
    pub(super) fn addmod(&mut self, ty: Ty, [x, y, m]: [Value; 3]) -> Result<Group, String> {
        let m = match self.block.inst(m).op {
            Op::Const(0) => return self.wrapping_sum(ty, x, y),
            // What wraps is a multiple of it.
            Op::Const(m) if m.is_power_of_two() => {
                let sum = self.wrapping_sum(ty, x, y)?;
                let kept = self.to.splat(m - 1, sum.lane);
                let lane = sum.lane;
                return Ok(self.map(&sum, |to, sum| to.binary(BinaryOp::And, sum, kept, lane)));
            }
            Op::Const(m) => m,
            _ => return Err("`addmod` by a modulus that is no literal".into()),
        };
        let (a, b) = (self.reduced(ty, x, m)?, self.reduced(ty, y, m)?);
        let lane = a.lane;
        let modulus = self.to.splat(m, lane);
        if (ty.bytes() as u8) < lane {
            // The sum is in the lane; one that is below the modulus wraps to something big.
            return Ok(self.map2(&a, &b, |to, a, b| {
                let sum = to.binary(BinaryOp::Add, a, b, lane);
                let less = to.binary(BinaryOp::Sub, sum, modulus, lane);
                to.binary(BinaryOp::Min, sum, less, lane)
            }));
        }
        Ok(self.map2(&a, &b, |to, a, b| {
            // `a - (m - b)`, and `m` more where that is below zero.
            let short = to.binary(BinaryOp::Sub, modulus, b, lane);
            let below = to.emit(VectorOp::Compare(CompareOp::Ltu, a, short), lane);
            let sum = to.binary(BinaryOp::Sub, a, short, lane);
            let more = to.binary(BinaryOp::And, below, modulus, lane);
            to.binary(BinaryOp::Add, sum, more, lane)
        }))
    }

    fn wrapping_sum(&mut self, ty: Ty, x: Value, y: Value) -> Result<Group, String> {
        let (a, b) = (self.operand(x), self.operand(y));
        let lane = a.lane;
        let sum = self.map2(&a, &b, |to, a, b| to.binary(BinaryOp::Add, a, b, lane));
        Ok(self.fitted(sum, ty))
    }

    /// `value mod m`.
    fn reduced(&mut self, ty: Ty, value: Value, m: u64) -> Result<Group, String> {
        let group = self.operand(value);
        let lane = group.lane;
        match self.block.inst(value).op {
            Op::Const(c) => {
                let reg = self.to.splat(c % m, lane);
                return Ok(self.map(&group, |_, _| reg));
            }
            // Below the modulus already.
            Op::Modular(ModOp::Addmod, _, _, by) if self.block.inst(by).op == Op::Const(m) => {
                return Ok(group);
            }
            _ => {}
        }
        let multiples = ty.mask() / m;
        if multiples > MAX_MULTIPLES {
            return Err(format!("`addmod` {m} of {ty}"));
        }
        let modulus = self.to.splat(m, lane);
        let mut group = group;
        for _ in 0..multiples {
            group = self.map(&group, |to, x| {
                let less = to.binary(BinaryOp::Sub, x, modulus, lane);
                to.binary(BinaryOp::Min, x, less, lane)
            });
        }
        Ok(group)
    }
}
