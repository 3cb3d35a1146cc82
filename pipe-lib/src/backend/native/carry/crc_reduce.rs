//! From a CRC's accumulators at the end, 128 bits, to the CRC's state: Barrett's reduction with polynomials.
//!
//! The polynomial P is taken times a power of `x` that makes its degree 64. For `A = H x^64 + L` the state is
//! `A x^64 mod P`: with `U = H (x^128 mod P) + L x^64 = V x^64 + W` and
//! `q = floor(V floor(x^128 / P) / x^64)` it is the lower half of `U + q P`. In the reflected order a product
//! comes out one degree too low; the constants are divided by `x` to correct it. Where that loses the last
//! coefficient, it is one that cannot matter, except for P of full width. A remainder narrower than its
//! register is moved to its place in it, and the other bits are zero.

use iced_x86::{Code, Register};

use crate::analyse::gf2::{Crc, Padding};
use crate::backend::native::asm;
use crate::backend::native::isa::Isa;
use crate::backend::native::vcode::{Builder, Operand, VReg, Width};

/// The state that the lowest lane of `all` stands for, to rax. Changes r9.
pub(super) fn state(b: &mut Builder, crc: Crc, all: VReg) {
    let (rax, r9) = (Register::RAX, Register::R9);
    if crc == Crc::whole(32, 0x1edc_6f41, true) {
        // CRC-32C has an instruction.
        b.quad_to(r9, all);
        b.raw(asm::rr(Code::Xor_r32_rm32, Register::EAX, Register::EAX));
        b.raw(asm::rr(Code::Crc32_r64_rm64, rax, r9));
        b.upper_quad_to(r9, all);
        b.raw(asm::rr(Code::Crc32_r64_rm64, rax, r9));
        return;
    }
    let padding = 64 - crc.bits;
    let poly = crc.poly << padding;
    if crc.reflected {
        let power = crc.power(63 + i64::from(crc.bits)) << padding;
        let factors = [power, 1 << 63 | crc.barrett() >> 1, 1 << 63 | poly >> 1].map(u64::reverse_bits);
        let [power, quotient, poly] = factors.map(|factor| b.bytes_of(|i| factor.to_le_bytes()[i % 8]));
        let product = b.clmul_halves(Width::X, all, power, 0x00);
        let lower = shift_lane(b, all, false);
        let u = b.xor(product, lower);
        let q = b.clmul_halves(Width::X, u, quotient, 0x00);
        let product = b.clmul_halves(Width::X, q, poly, 0x00);
        let mut result = b.xor(product, u);
        if padding == 0 {
            // The last coefficient of P, which the division by x has lost.
            let q = shift_lane(b, q, true);
            result = b.xor(result, q);
        }
        b.upper_quad_to(rax, result);
    } else {
        let power = crc.power(64 + i64::from(crc.bits)) << padding;
        let [power, quotient, poly] =
            [power, crc.barrett(), poly].map(|factor| b.bytes_of(|i| factor.to_le_bytes()[i % 8]));
        let product = b.clmul_halves(Width::X, all, power, 0x01);
        let lower = shift_lane(b, all, true);
        let u = b.xor(product, lower);
        let product = b.clmul_halves(Width::X, u, quotient, 0x01);
        // The quotient's leading term.
        let q = b.xor(product, u);
        let product = b.clmul_halves(Width::X, q, poly, 0x01);
        let result = b.xor(product, u);
        b.quad_to(rax, result);
        let shift = match crc.padding {
            Padding::Message(below) => padding - below,
            Padding::Dropped(_) => padding,
        };
        if shift > 0 {
            b.raw(asm::ri(Code::Shr_rm64_imm8, rax, shift as i32));
        }
    }
}

/// One half of each lane in the other's place, zero in its own: the lower one moves up, or the upper one
/// down.
fn shift_lane(b: &mut Builder, a: VReg, up: bool) -> VReg {
    let code = match (b.isa, up) {
        (Isa::Avx512, true) => Code::EVEX_Vpslldq_xmm_xmmm128_imm8,
        (Isa::Avx512, false) => Code::EVEX_Vpsrldq_xmm_xmmm128_imm8,
        (Isa::Avx2, true) => Code::VEX_Vpslldq_xmm_xmm_imm8,
        (Isa::Avx2, false) => Code::VEX_Vpsrldq_xmm_xmm_imm8,
    };
    b.vector_of(Width::X, code, &[Operand::Reg(a, Width::X), Operand::Imm(8)])
}
