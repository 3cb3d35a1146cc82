//! Sums and products modulo a constant, of words that do not depend on each other.
//!
//! Known bounds of a number decide. A few conditional subtractions reduce it, `min(x, x - k)` each, or the
//! quotient is estimated by the upper half of a product (Barrett; with a constant factor Shoup), which is one
//! too few at most.

use iced_x86::Code;

use super::BodyLowering;
use crate::backend::native::isa::Isa;
use crate::backend::native::lanes::{Cmp, Lane};
use crate::backend::native::vcode::{Builder, VReg};
use crate::ir::{BinaryOp, ModOp, Ty, Value};
use crate::plan::stage::MAX_SUBTRACTIONS;

impl BodyLowering<'_> {
    pub(super) fn modular(
        &mut self,
        op: ModOp,
        ty: Ty,
        lane: Lane,
        a: Value,
        b: Value,
        m: Value,
    ) -> Result<Vec<VReg>, String> {
        let modulus = self.constant(m).ok_or("arithmetic modulo a number that is not constant")?;
        let (left, right) = (self.int(a)?, self.int(b)?);
        let each = left.into_iter().zip(right);
        if modulus == 0 || modulus.is_power_of_two() {
            let plain = match op {
                ModOp::Addmod => BinaryOp::Add,
                ModOp::Mulmod => BinaryOp::Mul,
            };
            let part = |(a, b): (VReg, VReg)| {
                let result = self.binary(plain, ty, lane, a, b, None)?;
                Ok(if modulus == 0 { result } else { self.b.and_imm(lane, result, modulus - 1) })
            };
            return each.map(part).collect();
        }
        let (most_a, most_b) = (self.plan.most(a), self.plan.most(b));
        match op {
            ModOp::Addmod => each
                .map(|(a, b)| {
                    let (a, b) = ((a, most_a), (b, most_b));
                    addmod(self.b, lane, a, b, modulus).ok_or_else(|| refused(op, ty, modulus))
                })
                .collect(),
            ModOp::Mulmod => {
                let (factor, other) = (self.constant(b), self.constant(a));
                each.map(|(a, b)| {
                    let product = match (factor, other) {
                        (Some(factor), _) => self.times(lane, a, most_a, factor % modulus, modulus),
                        (_, Some(factor)) => self.times(lane, b, most_b, factor % modulus, modulus),
                        _ => self.product(lane, (a, most_a), (b, most_b), modulus),
                    };
                    product.ok_or_else(|| refused(op, ty, modulus))
                })
                .collect()
            }
        }
    }

    /// `number * factor mod modulus`, for a factor below the modulus.
    fn times(&mut self, lane: Lane, number: VReg, most: u64, factor: u64, modulus: u64) -> Option<VReg> {
        let fits = u128::from(most) * u128::from(factor) <= u128::from(lane.mask());
        if !fits && matches!(lane, Lane::W | Lane::D) && modulus <= lane.mask() / 2 {
            // The quotient by Shoup: what is left is below twice the modulus, whatever has wrapped.
            let b = &mut *self.b;
            let scaled = (factor << lane.bits()) / modulus;
            let quotient = upper_half(b, lane, number, scaled)?;
            let (factor, by) = (b.splat(lane, factor), b.splat(lane, modulus));
            let (product, whole) = (b.mul(lane, number, factor), b.mul(lane, quotient, by));
            let left = b.sub(lane, product, whole);
            return reduced(b, lane, left, 2 * modulus - 1, modulus);
        }
        let splat = self.b.splat(lane, factor);
        self.product(lane, (number, most), (splat, factor), modulus)
    }

    /// `x * y mod modulus`.
    fn product(
        &mut self,
        lane: Lane,
        (x, most_x): (VReg, u64),
        (y, most_y): (VReg, u64),
        modulus: u64,
    ) -> Option<VReg> {
        let most = u128::from(most_x) * u128::from(most_y);
        if most <= u128::from(lane.mask()) {
            let product = self.b.mul(lane, x, y);
            return reduced(self.b, lane, product, most as u64, modulus);
        }
        // In lanes that the product fits.
        let wide = match lane {
            Lane::B => Lane::W,
            Lane::W => Lane::D,
            _ => return None,
        };
        let (xs, ys) = (self.b.widen(false, lane, wide, x), self.b.widen(false, lane, wide, y));
        let mut parts = Vec::with_capacity(xs.len());
        for (x, y) in xs.into_iter().zip(ys) {
            let product = self.b.mul(wide, x, y);
            parts.push(reduced(self.b, wide, product, most as u64, modulus)?);
        }
        self.b.narrow(wide, lane, &parts).first().copied()
    }
}

fn refused(op: ModOp, ty: Ty, modulus: u64) -> String {
    format!("`{}` of {ty} modulo {modulus}", op.name())
}

/// `(x + y) mod modulus`.
fn addmod(
    b: &mut Builder,
    lane: Lane,
    (x, most_x): (VReg, u64),
    (y, most_y): (VReg, u64),
    modulus: u64,
) -> Option<VReg> {
    let most = u128::from(most_x) + u128::from(most_y);
    if most <= u128::from(lane.mask()) {
        let sum = b.add(lane, x, y);
        return reduced(b, lane, sum, most as u64, modulus);
    }
    let (x, y) = (reduced(b, lane, x, most_x, modulus)?, reduced(b, lane, y, most_y, modulus)?);
    if modulus <= lane.mask() / 2 + 1 {
        let sum = b.add(lane, x, y);
        return reduced(b, lane, sum, 2 * (modulus - 1), modulus);
    }
    let by = b.splat(lane, modulus);
    let short = b.sub(lane, by, y);
    let below = b.compare(lane, Cmp::Ltu, x, short);
    let (sum, less) = (b.add(lane, x, y), b.sub(lane, x, short));
    Some(b.select(lane, below, sum, less))
}

/// `number mod modulus`, for a number that is no more than `most`.
fn reduced(b: &mut Builder, lane: Lane, number: VReg, most: u64, modulus: u64) -> Option<VReg> {
    let steps = 64 - (most / modulus).leading_zeros();
    let estimated = match lane {
        Lane::B => false,
        Lane::W => steps > 2,
        Lane::D => steps > 6,
        Lane::Q if steps > MAX_SUBTRACTIONS => return None,
        Lane::Q => false,
    };
    if estimated {
        let quotient = upper_half(b, lane, number, (1 << lane.bits()) / modulus)?;
        let by = b.splat(lane, modulus);
        let whole = b.mul(lane, quotient, by);
        let left = b.sub(lane, number, whole);
        return reduced(b, lane, left, 2 * modulus - 1, modulus);
    }
    let mut left = number;
    for step in (0..steps).rev() {
        // Where it is too much, the difference wraps to something bigger.
        let multiple = b.splat(lane, modulus << step);
        let less = b.sub(lane, left, multiple);
        left = b.min_max(lane, false, false, left, less);
    }
    Some(left)
}

/// The upper half of each product of a lane of 16 or 32 bits with `factor`.
fn upper_half(b: &mut Builder, lane: Lane, number: VReg, factor: u64) -> Option<VReg> {
    match lane {
        Lane::W => {
            let factor = b.splat(lane, factor);
            let code = match b.isa {
                Isa::Avx512 => Code::EVEX_Vpmulhuw_zmm_k1z_zmm_zmmm512,
                Isa::Avx2 => Code::VEX_Vpmulhuw_ymm_ymm_ymmm256,
            };
            Some(b.binary_code(code, number, factor))
        }
        Lane::D => {
            let factor = b.splat(Lane::Q, factor);
            let even = b.mul_wide(number, factor);
            let even = b.shr(Lane::Q, even, 32);
            let odd = b.shr(Lane::Q, number, 32);
            let odd = b.mul_wide(odd, factor);
            let odd = b.and_imm(Lane::Q, odd, 0xffff_ffff_0000_0000);
            Some(b.or(even, odd))
        }
        _ => None,
    }
}
