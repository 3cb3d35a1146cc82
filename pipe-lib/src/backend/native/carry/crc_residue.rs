//! What is left in a CRC's register of the bits that were imported beside its remainder.
//!
//! A register of a CRC modulo P that has `z` more bits at the end where the message enters is one of a CRC
//! modulo `x^z P` (see [`Padding`]). Its state is known from two remainders. Modulo P it is what the loop
//! computes, where the powers of `x` have inverses. Modulo `x^z` it is the imported state, shifted by the
//! bits of the message: nothing, once the message is as long as `z`. So only after a shorter one, a few
//! words, something has to be added, a multiple of P: `E P` with `E = (state P^-1) mod x^z`.

use iced_x86::{Code, Register};

use crate::analyse::gf2::{Crc, Padding};
use crate::backend::native::abi::STATES;
use crate::backend::native::asm;
use crate::backend::native::isa::Isa;
use crate::backend::native::vcode::{Builder, Operand, RegKind, VReg, Width};

/// Where the number of words of a call is kept.
pub(super) const WORDS: Register = Register::R11;

/// Adds it to the state in rax, where [`WORDS`] words of `value_bits` bits were not enough to clear the
/// register; the imported state is still in its place. Changes r9 and [`WORDS`].
pub(super) fn add_left(b: &mut Builder, crc: Crc, value_bits: u32, offset: i32) {
    let Padding::Message(padding) = crc.padding else { return };
    if padding <= value_bits {
        return;
    }
    let (rax, r9) = (Register::RAX, Register::R9);
    let clear = b.new_label();
    b.raw(asm::ri(Code::Cmp_rm64_imm8, WORDS, padding.div_ceil(value_bits) as i32));
    b.jump(Code::Jae_rel32_64, clear);
    b.raw(asm::ri(Code::Shl_rm64_imm8, WORDS, value_bits.trailing_zeros() as i32));
    b.load_quad_to(r9, STATES, offset);
    let poly = crc.poly | 1 << crc.bits;
    let inverse = inverse(poly, padding);
    if crc.reflected {
        // The highest degree that is kept is at bit 64 - z, that of a product's upper half one below.
        b.raw(asm::rrr(Code::VEX_Shrx_r64_rm64_r64, r9, r9, WORDS));
        b.raw(asm::ri(Code::Shr_rm64_imm8, r9, crc.bits as i32));
        b.raw(asm::ri(Code::Shl_rm64_imm8, r9, (64 - padding) as i32));
        let quotient = product(b, r9, inverse.reverse_bits());
        b.upper_quad_to(r9, quotient);
        b.raw(asm::ri(Code::Shr_rm64_imm8, r9, (63 - padding) as i32));
        let left = product(b, r9, poly.reverse_bits() >> (63 - crc.bits));
        b.quad_to(r9, left);
    } else {
        let keep = |b: &mut Builder| {
            b.raw(asm::ri(Code::Shl_rm64_imm8, r9, (64 - padding) as i32));
            b.raw(asm::ri(Code::Shr_rm64_imm8, r9, (64 - padding) as i32));
        };
        b.raw(asm::rrr(Code::VEX_Shlx_r64_rm64_r64, r9, r9, WORDS));
        keep(b);
        let quotient = product(b, r9, inverse);
        b.quad_to(r9, quotient);
        keep(b);
        let left = product(b, r9, poly);
        b.quad_to(r9, left);
    }
    b.raw(asm::rr(Code::Xor_r64_rm64, rax, r9));
    b.bind(clear);
}

/// The inverse of a polynomial whose lowest coefficient is one, modulo `x^count`.
fn inverse(poly: u64, count: u32) -> u64 {
    let mut left = 1u64;
    (0..count).fold(0, |inverse, degree| {
        // What is left to come to one: each term of the inverse takes the lowest coefficient away.
        let term = left >> degree & 1;
        left ^= if term == 1 { poly << degree } else { 0 };
        inverse | term << degree
    })
}

/// The carry-less product of a general register and a constant.
fn product(b: &mut Builder, a: Register, factor: u64) -> VReg {
    let code = match b.isa {
        Isa::Avx512 => Code::EVEX_Vmovq_xmm_rm64,
        Isa::Avx2 => Code::VEX_Vmovq_xmm_rm64,
    };
    let a = b.fresh(RegKind::Vector, Width::X, code, &[Operand::Gpr(a)]);
    let factor = b.bytes_of(|i| factor.to_le_bytes()[i % 8]);
    b.clmul_halves(Width::X, a, factor, 0)
}

#[cfg(test)]
mod tests {
    use super::inverse;

    #[test]
    fn inverses_of_polynomials() {
        for (poly, count) in [(0x1edc_6f41, 32), (0x05, 3), (0x1864_cfb1, 63), (1, 17)] {
            let inverse = inverse(poly, count);
            let product =
                (0..count).fold(0, |sum, bit| sum ^ if inverse >> bit & 1 == 1 { poly << bit } else { 0 });
            assert_eq!(product & (u64::MAX >> (64 - count)), 1, "{poly:x} {count}");
        }
    }
}
