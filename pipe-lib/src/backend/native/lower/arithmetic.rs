//! Operations on numbers of a type that may be narrower than its lane.

use super::{BodyLowering, Val};
use crate::backend::native::lanes::{Cmp, Lane};
use crate::backend::native::vcode::VReg;
use crate::ir::{BinaryOp, CompareOp, Ty, UnaryOp, Value};

impl BodyLowering<'_> {
    /// Clears what is above the type in a lane wider than it.
    fn fit(&mut self, ty: Ty, lane: Lane, a: VReg) -> VReg {
        if ty.bits() < lane.bits() { self.b.and_imm(lane, a, ty.mask()) } else { a }
    }

    pub(crate) fn unary(&mut self, op: UnaryOp, ty: Ty, lane: Lane, a: VReg) -> VReg {
        let spare = lane.bits() - ty.bits();
        match op {
            UnaryOp::Neg => {
                let negated = self.b.neg(lane, a);
                self.fit(ty, lane, negated)
            }
            UnaryOp::Not => {
                let ones = self.b.splat(lane, ty.mask());
                self.bitwise(BinaryOp::Xor, lane, a, ones)
            }
            UnaryOp::Bswap => {
                let swapped = self.b.bswap(lane, a);
                self.b.shr(lane, swapped, spare)
            }
            UnaryOp::Bitrev => {
                let reversed = self.b.bitrev(lane, a);
                self.b.shr(lane, reversed, spare)
            }
            UnaryOp::Popcnt => self.b.popcnt(lane, a),
            UnaryOp::Clz => {
                let zeros = self.b.clz(lane, a);
                if spare == 0 {
                    return zeros;
                }
                let spare = self.b.splat(lane, u64::from(spare));
                self.b.sub(lane, zeros, spare)
            }
            UnaryOp::Ctz => {
                if spare == 0 {
                    return self.b.ctz(lane, a);
                }
                let stop = self.b.splat(lane, 1 << ty.bits());
                let stopped = self.b.or(a, stop);
                self.b.ctz(lane, stopped)
            }
        }
    }

    /// And, or, xor: a swap of bytes moves behind them, where it often meets another one.
    fn bitwise(&mut self, op: BinaryOp, lane: Lane, a: VReg, b: VReg) -> VReg {
        let movable = |body: &Self, x: VReg| {
            body.b.swap_of(lane.bytes(), x).is_some() || body.b.constant_bytes(x).is_some()
        };
        let worth = self.b.swap_of(lane.bytes(), a).is_some() || self.b.swap_of(lane.bytes(), b).is_some();
        if worth && movable(self, a) && movable(self, b) {
            let (a, b) = (self.b.bswap(lane, a), self.b.bswap(lane, b));
            let result = self.bitwise(op, lane, a, b);
            return self.b.bswap(lane, result);
        }
        match op {
            BinaryOp::And => self.b.and(a, b),
            BinaryOp::Or => self.b.or(a, b),
            _ => self.b.xor(a, b),
        }
    }

    /// `count` is the second operand where it is a constant.
    pub(super) fn binary(
        &mut self,
        op: BinaryOp,
        ty: Ty,
        lane: Lane,
        a: VReg,
        b: VReg,
        count: Option<u64>,
    ) -> Result<VReg, String> {
        let bits = ty.bits();
        let spare = lane.bits() - bits;
        let count = count.map(|count| (count % u64::from(bits)) as u32);
        let result = match op {
            BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => return Ok(self.bitwise(op, lane, a, b)),
            BinaryOp::Add => self.b.add(lane, a, b),
            BinaryOp::Sub => self.b.sub(lane, a, b),
            BinaryOp::Mul => self.b.mul(lane, a, b),
            BinaryOp::Shl => match count {
                Some(count) => self.b.shl(lane, a, count),
                None => {
                    let count = self.b.and_imm(lane, b, u64::from(bits - 1));
                    self.b.shl_by(lane, a, count)
                }
            },
            BinaryOp::Shr => match count {
                Some(count) => return Ok(self.b.shr(lane, a, count)),
                None => {
                    let count = self.b.and_imm(lane, b, u64::from(bits - 1));
                    return Ok(self.b.shr_by(lane, a, count));
                }
            },
            BinaryOp::Sar => {
                let up = self.b.shl(lane, a, spare);
                let shifted = match count {
                    Some(count) => self.b.sar(lane, up, count),
                    None => {
                        let count = self.b.and_imm(lane, b, u64::from(bits - 1));
                        self.b.sar_by(lane, up, count)
                    }
                };
                return Ok(self.b.shr(lane, shifted, spare));
            }
            BinaryOp::Rotl | BinaryOp::Rotr => {
                let left = op == BinaryOp::Rotl;
                match count {
                    Some(count) => {
                        let count = if left { count } else { (bits - count) % bits };
                        self.rotate(ty, lane, a, count)
                    }
                    None => {
                        let count = if left { b } else { self.b.neg(lane, b) };
                        let count = self.b.and_imm(lane, count, u64::from(bits - 1));
                        if spare == 0 {
                            return Ok(self.b.rotl_by(lane, a, count));
                        }
                        let up = self.b.shl_by(lane, a, count);
                        let width = self.b.splat(lane, u64::from(bits));
                        let back = self.b.sub(lane, width, count);
                        let down = self.b.shr_by(lane, a, back);
                        self.b.or(up, down)
                    }
                }
            }
            BinaryOp::Min => return Ok(self.b.min_max(lane, false, false, a, b)),
            BinaryOp::Max => return Ok(self.b.min_max(lane, false, true, a, b)),
            BinaryOp::Smin | BinaryOp::Smax => {
                let (a, b) = (self.b.shl(lane, a, spare), self.b.shl(lane, b, spare));
                let chosen = self.b.min_max(lane, true, op == BinaryOp::Smax, a, b);
                return Ok(self.b.shr(lane, chosen, spare));
            }
            BinaryOp::Addc if spare == 0 => return Ok(self.b.addc(lane, a, b)),
            BinaryOp::Addc => {
                let sum = self.b.add(lane, a, b);
                let carry = self.b.shr(lane, sum, bits);
                let low = self.b.and_imm(lane, sum, ty.mask());
                return Ok(self.b.add(lane, low, carry));
            }
            BinaryOp::Adds | BinaryOp::Subs | BinaryOp::Sadds | BinaryOp::Ssubs => {
                // A narrow number at the top of its lane stops where the lane does.
                let (a, b) = (self.b.shl(lane, a, spare), self.b.shl(lane, b, spare));
                let result = self.b.saturating(op, lane, a, b);
                return Ok(self.b.shr(lane, result, spare));
            }
            BinaryOp::Clmul | BinaryOp::Clmulh => {
                let high = op == BinaryOp::Clmulh;
                let product = self.b.clmul(lane, high && spare == 0, a, b);
                let product = product.ok_or("64-bit carry-less multiplication on this processor")?;
                // The whole product of a narrow type fits in the lane.
                if high && spare > 0 { self.b.shr(lane, product, bits) } else { product }
            }
        };
        Ok(self.fit(ty, lane, result))
    }

    fn rotate(&mut self, ty: Ty, lane: Lane, a: VReg, count: u32) -> VReg {
        if ty.bits() == lane.bits() || count == 0 {
            return self.b.rotl(lane, a, count);
        }
        let up = self.b.shl(lane, a, count);
        let down = self.b.shr(lane, a, ty.bits() - count);
        self.b.or(up, down)
    }

    pub(super) fn compare(&mut self, op: CompareOp, a: Value, b: Value) -> Result<Val, String> {
        let ty = self.ty(a);
        if ty == Ty::Bool {
            let (a, b) = (self.cond(a)?, self.cond(b)?);
            let differ = self.b.cond_xor(a, b);
            return Ok(Val::Cond(match op {
                CompareOp::Eq => self.b.cond_not(differ),
                CompareOp::Ne => differ,
                _ => return Err(format!("`{}` of bool", op.name())),
            }));
        }
        let lane = self.lane(ty);
        let spare = lane.bits() - ty.bits();
        let (cmp, signed) = match op {
            CompareOp::Eq => (Cmp::Eq, false),
            CompareOp::Ne => (Cmp::Ne, false),
            CompareOp::Ltu => (Cmp::Ltu, false),
            CompareOp::Leu => (Cmp::Leu, false),
            CompareOp::Lts => (Cmp::Lts, true),
            CompareOp::Les => (Cmp::Les, true),
        };
        let (left, right) = (self.int(a)?, self.int(b)?);
        let mut parts = Vec::with_capacity(left.len());
        for (mut a, mut b) in left.into_iter().zip(right) {
            if signed {
                (a, b) = (self.b.shl(lane, a, spare), self.b.shl(lane, b, spare));
            }
            if matches!(cmp, Cmp::Eq | Cmp::Ne) && self.b.swap_of(lane.bytes(), a).is_some() {
                let other = self.b.swap_of(lane.bytes(), b).is_some() || self.b.constant_bytes(b).is_some();
                if other {
                    (a, b) = (self.b.bswap(lane, a), self.b.bswap(lane, b));
                }
            }
            parts.push(self.b.compare(lane, cmp, a, b));
        }
        Ok(Val::Cond(self.b.join_cond(lane, self.word, &parts)))
    }
}
