//! Products without carries, and in GF(2^128) as GHASH has it (NIST SP 800-38D, 6.3).
//!
//! A block is a number whose most significant bit is the coefficient of `x^0`. Of numbers with their bits in
//! that order the carry-less product is that of the polynomials, one place too low; modulo
//! `x^128 + x^7 + x^2 + x + 1` it is brought to 128 bits by two products with 0xc2 << 56 (Gueron and
//! Kounavis, 2010).

/// The low 128 bits of the carry-less product.
pub(super) fn clmul_low(a: u128, b: u128) -> u128 {
    let (a, b) = ([a as u64, (a >> 64) as u64], [b as u64, (b >> 64) as u64]);
    clmul(a[0], b[0]) ^ (clmul(a[0], b[1]) ^ clmul(a[1], b[0])) << 64
}

/// The product in the field.
pub(super) fn product(a: u128, b: u128) -> u128 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("pclmulqdq") {
        // SAFETY: the processor has the instruction.
        return unsafe { product_by_instruction(a, b) };
    }
    product_by(a, b, computed)
}

/// The whole in one function that has the instruction: otherwise each part would be a call.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "pclmulqdq")]
fn product_by_instruction(a: u128, b: u128) -> u128 {
    product_by(a, b, |a, b| by_instruction(a, b))
}

#[inline(always)]
fn product_by(a: u128, b: u128, clmul: impl Fn(u64, u64) -> u128) -> u128 {
    // What the lower half of a number is in the upper one's place, beside that one.
    let folded = |x: u128| x.rotate_left(64) ^ clmul(x as u64, (POLYNOMIAL >> 64) as u64);
    // Times x: a place on, and what leaves at the end comes back.
    let b = b << 1 ^ (b >> 127).wrapping_neg() & POLYNOMIAL;
    let (a, b) = ([a as u64, (a >> 64) as u64], [b as u64, (b >> 64) as u64]);
    let low = clmul(a[0], b[0]);
    let middle = clmul(a[0], b[1]) ^ clmul(a[1], b[0]) ^ folded(low);
    clmul(a[1], b[1]) ^ folded(middle)
}

/// `x^128 + x^7 + x^2 + x + 1` in that order of bits, `x^128` left out, times `x`.
const POLYNOMIAL: u128 = 0xc2 << 120 | 1;

fn clmul(a: u64, b: u64) -> u128 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("pclmulqdq") {
        // SAFETY: the processor has the instruction.
        return unsafe { by_instruction(a, b) };
    }
    computed(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "pclmulqdq")]
#[inline]
fn by_instruction(a: u64, b: u64) -> u128 {
    use std::arch::x86_64::*;
    let product = _mm_clmulepi64_si128(_mm_cvtsi64_si128(a as i64), _mm_cvtsi64_si128(b as i64), 0);
    let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(product, product)) as u64;
    u128::from(high) << 64 | u128::from(_mm_cvtsi128_si64(product) as u64)
}

fn computed(a: u64, b: u64) -> u128 {
    (0..64).fold(0, |sum, bit| sum ^ (u128::from(a) << bit) & u128::from(b >> bit & 1).wrapping_neg())
}

#[cfg(test)]
mod tests {
    use super::{clmul, clmul_low, computed, product};
    use crate::testing::rng::Rng;

    /// Bit by bit, as the standard says it (algorithm 1).
    fn naive(x: u128, y: u128) -> u128 {
        let (mut z, mut v) = (0, y);
        for bit in (0..128).rev() {
            if x >> bit & 1 == 1 {
                z ^= v;
            }
            v = v >> 1 ^ if v & 1 == 1 { 0xe1 << 120 } else { 0 };
        }
        z
    }

    #[test]
    fn products_are_the_standard_s() {
        let mut rng = Rng::new(0x9a5);
        let one = 1 << 127;
        for _ in 0..500 {
            let mut number = || u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
            let (x, y) = (number(), number());
            assert_eq!(product(x, y), naive(x, y));
            assert_eq!(product(x, one), x);
            assert_eq!(product(0, y), 0);
            assert_eq!(clmul(x as u64, y as u64), computed(x as u64, y as u64));
            assert_eq!(clmul_low(x, 1 << 77), x << 77);
        }
    }
}
