//! The end of a reduction: partial results brought together with the imported state.

use crate::ir::Ty;
use iced_x86::{Code, Register};

use super::{ReductionLanes, SumForm, combine};
use crate::analyse::Reduce;
use crate::backend::native::abi::STATES;
use crate::backend::native::asm;
use crate::backend::native::isa::Isa;
use crate::backend::native::lanes::Lane;
use crate::backend::native::lanes::whole::at;
use crate::backend::native::vcode::{Builder, Mem, Operand, VReg, Width};

impl ReductionLanes {
    /// Combines everything with the imported state in `[states + offset]` and writes it back.
    pub(super) fn finish_at(&self, b: &mut Builder, offset: i32) {
        let (rax, r9) = (Register::RAX, Register::R9);
        match &self.form {
            SumForm::Mask { partial, lanes } => {
                b.push(
                    Code::VEX_Kmovq_r64_kr,
                    &[Operand::Gpr(rax), Operand::Reg(*partial, Width::K)],
                    None,
                    None,
                    None,
                    false,
                );
                self.finish_cond(b, *lanes, 1, offset);
            }
            SumForm::Lanes { lane, partial } if self.ty == Ty::Bool => {
                let all = partial[0];
                b.push(
                    Code::VEX_Vpmovmskb_r32_ymm,
                    &[Operand::Gpr(Register::EAX), Operand::Reg(all, Width::Y)],
                    None,
                    None,
                    None,
                    false,
                );
                self.finish_cond(b, b.vector_bytes(), lane.bytes(), offset);
            }
            SumForm::Halves { .. } => {
                let Some(both) = self.halves_of_lanes(b) else { return };
                let sum = b.across(both, Lane::Q, |b, x, y| b.add(Lane::Q, x, y));
                b.quad_to(Register::RAX, sum);
                if self.fold == Reduce::Addc {
                    self.finish_addc(b, offset);
                } else {
                    self.finish_exact(b, offset);
                }
            }
            SumForm::Dots { low, high } => {
                self.finish_dots(b, low[0], high[0], offset);
            }
            SumForm::Bytes { total } => {
                let sum = b.across(total[0], Lane::Q, |b, x, y| b.add(Lane::Q, x, y));
                b.quad_to(Register::RAX, sum);
                self.finish_exact(b, offset);
            }
            SumForm::Lanes { lane, partial } => {
                let all = b.across(partial[0], *lane, |b, x, y| combine(b, self.fold, self.ty, *lane, x, y));
                b.quad_to(Register::RAX, all);
                if self.swapped == Some(true) {
                    swap_rax(b, self.ty);
                }
                truncate(b, self.ty, rax);
                b.load_quad_to(r9, STATES, offset);
                match self.fold {
                    Reduce::Add | Reduce::Addmod(_) => b.raw(asm::rr(Code::Add_r64_rm64, rax, r9)),
                    Reduce::Addc => {
                        b.raw(asm::rr(Code::Add_r64_rm64, rax, r9));
                        b.raw(asm::ri(Code::Adc_rm64_imm8, rax, 0));
                    }
                    Reduce::Adds => add_saturating(b, self.ty),
                    Reduce::Xor => b.raw(asm::rr(Code::Xor_r64_rm64, rax, r9)),
                    Reduce::And => b.raw(asm::rr(Code::And_r64_rm64, rax, r9)),
                    Reduce::Or => b.raw(asm::rr(Code::Or_r64_rm64, rax, r9)),
                    Reduce::Min | Reduce::Max => {
                        b.raw(asm::rr(Code::Cmp_r64_rm64, r9, rax));
                        let code = match self.fold {
                            Reduce::Min => Code::Cmovb_r64_rm64,
                            _ => Code::Cmova_r64_rm64,
                        };
                        b.raw(asm::rr(code, rax, r9));
                    }
                    Reduce::Smin | Reduce::Smax => {
                        sign_extend(b, self.ty, rax);
                        sign_extend(b, self.ty, r9);
                        b.raw(asm::rr(Code::Cmp_r64_rm64, r9, rax));
                        let code = match self.fold {
                            Reduce::Smin => Code::Cmovl_r64_rm64,
                            _ => Code::Cmovg_r64_rm64,
                        };
                        b.raw(asm::rr(code, rax, r9));
                    }
                }
                store(b, self.ty, offset);
            }
        }
    }

    /// Whether it ends by [`finish_ones_sums`].
    pub(super) fn is_ones_sum(&self) -> bool {
        matches!(self.form, SumForm::Halves { .. }) && self.fold == Reduce::Addc && self.ty == Ty::U16
    }

    /// The sum of all 32-bit halves in each 64-bit lane of the partial results.
    fn halves_of_lanes(&self, b: &mut Builder) -> Option<VReg> {
        let SumForm::Halves { total, high } = &self.form else { return None };
        let up = b.shl(Lane::Q, high[0], 32);
        let low = b.sub(Lane::Q, total[0], up);
        Some(b.add(Lane::Q, low, high[0]))
    }

    /// rax holds the sum of all words: adds the state.
    fn finish_exact(&self, b: &mut Builder, offset: i32) {
        if self.fold == Reduce::Adds {
            b.load_quad_to(Register::R9, STATES, offset);
            add_saturating(b, self.ty);
        } else {
            b.raw(asm::rm(Code::Add_r64_rm64, Register::RAX, STATES, Register::None, offset));
        }
        store(b, self.ty, offset);
    }

    /// Two sums of 32 bits are left at last, of every other lane each, with room for the state; see
    /// [`super::longest_call`].
    fn finish_dots(&self, b: &mut Builder, low: VReg, high: VReg, offset: i32) {
        let full = b.full();
        // The upper bytes count 256 times; of swapped words the lower ones do, modulo 2^16 - 1.
        let (once, often) = if self.swapped == Some(true) { (high, low) } else { (low, high) };
        let often = b.shl(Lane::D, often, 8);
        let mut sums = b.add(Lane::D, often, once);
        let add = |b: &mut Builder, width, x, y| {
            let code = match (b.isa, width) {
                (Isa::Avx512, Width::Y) => Code::EVEX_Vpaddd_ymm_k1z_ymm_ymmm256b32,
                (Isa::Avx512, _) => Code::EVEX_Vpaddd_xmm_k1z_xmm_xmmm128b32,
                (Isa::Avx2, _) => Code::VEX_Vpaddd_xmm_xmm_xmmm128,
            };
            b.vector_of(width, code, &[Operand::Reg(x, width), Operand::Reg(y, width)])
        };
        if b.isa == Isa::Avx512 {
            let code = Code::EVEX_Vextracti64x4_ymmm256_k1z_zmm_imm8;
            let upper = b.vector_of(Width::Y, code, &[Operand::Reg(sums, full), Operand::Imm(1)]);
            sums = add(b, Width::Y, sums, upper);
        }
        let (extract, shuffle) = match b.isa {
            Isa::Avx512 => {
                (Code::EVEX_Vextracti32x4_xmmm128_k1z_ymm_imm8, Code::EVEX_Vpshufd_xmm_k1z_xmmm128b32_imm8)
            }
            Isa::Avx2 => (Code::VEX_Vextracti128_xmmm128_ymm_imm8, Code::VEX_Vpshufd_xmm_xmmm128_imm8),
        };
        let upper = b.vector_of(Width::X, extract, &[Operand::Reg(sums, Width::Y), Operand::Imm(1)]);
        let sums = add(b, Width::X, sums, upper);
        let upper = b.vector_of(Width::X, shuffle, &[Operand::Reg(sums, Width::X), Operand::Imm(0x4e)]);
        let sums = add(b, Width::X, sums, upper);
        b.quad_to(Register::RAX, sums);
        b.raw(asm::rm(Code::Add_r64_rm64, Register::RAX, STATES, Register::None, offset));
        fold_to_16(b);
        b.store_quad(STATES, offset, Register::RAX);
    }

    /// rax holds the sum of all 32-bit halves: add the state, fold to its width.
    fn finish_addc(&self, b: &mut Builder, offset: i32) {
        let (rax, eax) = (Register::RAX, Register::EAX);
        b.raw(asm::rm(Code::Add_r64_rm64, rax, STATES, Register::None, offset));
        match self.ty.bits() {
            32 => fold_to_32(b),
            _ => {
                fold_to_16(b);
                let r9d = Register::R9D;
                for _ in 0..2 {
                    b.raw(asm::rr(Code::Movzx_r32_rm8, r9d, Register::AL));
                    b.raw(asm::ri(Code::Shr_rm32_imm8, eax, 8));
                    b.raw(asm::rr(Code::Add_r32_rm32, eax, r9d));
                }
            }
        }
        b.store_quad(STATES, offset, rax);
    }

    /// rax holds one bit, or `group` equal bits, for each of the lanes.
    fn finish_cond(&self, b: &mut Builder, bits: usize, group: usize, offset: i32) {
        let (rax, r9) = (Register::RAX, Register::R9);
        let all = u64::MAX >> (64 - bits);
        b.raw(asm::mov_imm(r9, all));
        b.raw(asm::rr(Code::And_r64_rm64, rax, r9));
        match self.fold {
            Reduce::And => {
                b.raw(asm::rr(Code::Cmp_r64_rm64, rax, r9));
                b.raw(asm::r(Code::Sete_rm8, Register::AL));
            }
            Reduce::Or => {
                b.raw(asm::rr(Code::Test_rm64_r64, rax, rax));
                b.raw(asm::r(Code::Setne_rm8, Register::AL));
            }
            _ => {
                b.raw(asm::rr(Code::Popcnt_r64_rm64, rax, rax));
                b.raw(asm::ri(Code::Shr_rm32_imm8, Register::EAX, group.trailing_zeros() as i32));
                b.raw(asm::ri(Code::And_rm32_imm8, Register::EAX, 1));
            }
        }
        b.raw(asm::rr(Code::Movzx_r32_rm8, Register::EAX, Register::AL));
        let code = match self.fold {
            Reduce::And => Code::And_r64_rm64,
            Reduce::Or => Code::Or_r64_rm64,
            _ => Code::Xor_r64_rm64,
        };
        b.raw(asm::rm(code, rax, STATES, Register::None, offset));
        b.store_quad(STATES, offset, rax);
    }
}

/// The ends of one or two sums for which [`ReductionLanes::is_ones_sum`] holds, in the halves of a vector:
/// each instruction serves both, and nothing waits for general registers.
///
/// ```text
///     a0 a1 a2 a3, b0 b1 b2 b3        64-bit lanes, less than 2^64 - 2^32 each
///     a, b                            the sums of the lanes, and the states, as their words are swapped
///     a + (a turned by 32 bits)       upper half: the sum of the halves, modulo 2^32 - 1
///     the same by 16 bits             upper quarter: that of the quarters, modulo 2^16 - 1
/// ```
pub(in crate::backend::native) fn ones_sums(b: &mut Builder, sums: &[&ReductionLanes]) {
    let lanes: Vec<VReg> = sums.iter().filter_map(|sum| sum.halves_of_lanes(b)).collect();
    let mut all = match lanes[..] {
        [one] => {
            let other = b.exchange(one, 8);
            b.add(Lane::Q, one, other)
        }
        [one, other] => {
            let low = b.interleaved_quads(false, one, other);
            let high = b.interleaved_quads(true, one, other);
            b.add(Lane::Q, low, high)
        }
        _ => return debug_assert!(false, "one or two sums at a time"),
    };
    let mut distance = b.vector_bytes() / 2;
    while distance >= 16 {
        let other = b.exchange(all, distance);
        all = b.add(Lane::Q, all, other);
        distance /= 2;
    }
    // In each 64 bits two bytes that count, and zeros.
    let bytes = |b: &mut Builder, of: &dyn Fn(usize, bool) -> [u8; 2]| {
        let swapped: Vec<bool> = sums.iter().map(|sum| sum.swapped == Some(true)).collect();
        b.bytes_of(|at| {
            let (quad, byte) = (at / 8 % 2, at % 8);
            let two = swapped.get(quad).map(|swapped| of(8 * quad, *swapped));
            two.and_then(|two| two.get(byte).copied()).unwrap_or(0x80)
        })
    };
    let places: Vec<Mem> = sums.iter().map(|sum| at(STATES, sum.offset)).collect();
    let neighbours = matches!(sums, [one, other] if other.offset == one.offset + 8);
    let mut states = if neighbours { b.load_half(places[0]) } else { b.load_quad(places[0]) };
    for place in places.iter().skip(if neighbours { 2 } else { 1 }) {
        states = b.load_upper_quad(states, *place);
    }
    if sums.iter().any(|sum| sum.swapped == Some(true)) {
        // The state as the words are.
        let control = bytes(b, &|first, swapped| {
            let first = first as u8;
            if swapped { [first + 1, first] } else { [first, first + 1] }
        });
        states = b.shuffle_bytes(states, control);
    }
    all = b.add(Lane::Q, all, states);
    let turned = b.exchange(all, 4);
    all = b.add(Lane::Q, all, turned);
    let control = b.bytes_of(|at| ((at % 16) ^ 2) as u8);
    let turned = b.shuffle_bytes(all, control);
    all = b.add(Lane::D, all, turned);
    let control = bytes(b, &|first, swapped| {
        let last = first as u8 + 7;
        if swapped { [last, last - 1] } else { [last - 1, last] }
    });
    all = b.shuffle_bytes(all, control);
    if neighbours {
        return b.store_block(places[0], all);
    }
    // By way of a general register, which is where it is read next: four cycles less.
    b.quad_to(Register::RAX, all);
    b.store_quad(STATES, sums[0].offset, Register::RAX);
    for place in &places[1..] {
        b.store_upper_quad(*place, all);
    }
}

/// The one's complement sum of rax's halves, in place of it: added to itself turned by half its width, a
/// number has it in its upper half. Changes r9.
fn fold_to_32(b: &mut Builder) {
    let (rax, r9) = (Register::RAX, Register::R9);
    b.raw(asm::rri(Code::VEX_Rorx_r64_rm64_imm8, r9, rax, 32));
    b.raw(asm::rr(Code::Add_r64_rm64, rax, r9));
    b.raw(asm::ri(Code::Shr_rm64_imm8, rax, 32));
}

/// The same once more.
fn fold_to_16(b: &mut Builder) {
    let (eax, r9d) = (Register::EAX, Register::R9D);
    fold_to_32(b);
    b.raw(asm::rri(Code::VEX_Rorx_r32_rm32_imm8, r9d, eax, 16));
    b.raw(asm::rr(Code::Add_r32_rm32, eax, r9d));
    b.raw(asm::ri(Code::Shr_rm32_imm8, eax, 16));
}

/// Adds r9 to rax, up to the largest number of the type.
fn add_saturating(b: &mut Builder, ty: Ty) {
    let (rax, r9) = (Register::RAX, Register::R9);
    b.raw(asm::rr(Code::Add_r64_rm64, rax, r9));
    b.raw(asm::rr(Code::Sbb_r64_rm64, r9, r9));
    b.raw(asm::rr(Code::Or_r64_rm64, rax, r9));
    if ty != Ty::U64 {
        b.raw(asm::mov_imm(r9, ty.mask()));
        b.raw(asm::rr(Code::Cmp_r64_rm64, rax, r9));
        b.raw(asm::rr(Code::Cmova_r64_rm64, rax, r9));
    }
}

/// Reverses the bytes of the number of type `ty` in rax.
fn swap_rax(b: &mut Builder, ty: Ty) {
    b.raw(asm::r(Code::Bswap_r64, Register::RAX));
    let shift = 64 - ty.bits() as i32;
    if shift > 0 {
        b.raw(asm::ri(Code::Shr_rm64_imm8, Register::RAX, shift));
    }
}

fn truncate(b: &mut Builder, ty: Ty, register: Register) {
    let (wide, narrow) = (register.full_register32(), register);
    match ty {
        Ty::Bool | Ty::U8 => b.raw(asm::rr(Code::Movzx_r32_rm8, wide, low8(narrow))),
        Ty::U16 => b.raw(asm::rr(Code::Movzx_r32_rm16, wide, low16(narrow))),
        Ty::U32 => b.raw(asm::rr(Code::Mov_r32_rm32, wide, wide)),
        Ty::U64 | Ty::U128 => {}
    }
}

fn sign_extend(b: &mut Builder, ty: Ty, register: Register) {
    match ty {
        Ty::Bool | Ty::U8 => b.raw(asm::rr(Code::Movsx_r64_rm8, register, low8(register))),
        Ty::U16 => b.raw(asm::rr(Code::Movsx_r64_rm16, register, low16(register))),
        Ty::U32 => b.raw(asm::rr(Code::Movsxd_r64_rm32, register, register.full_register32())),
        Ty::U64 | Ty::U128 => {}
    }
}

fn low8(register: Register) -> Register {
    if register == Register::RAX { Register::AL } else { Register::R9L }
}

fn low16(register: Register) -> Register {
    if register == Register::RAX { Register::AX } else { Register::R9W }
}

/// Writes rax, cut to the type, to the state.
fn store(b: &mut Builder, ty: Ty, offset: i32) {
    truncate(b, ty, Register::RAX);
    b.store_quad(STATES, offset, Register::RAX);
}
