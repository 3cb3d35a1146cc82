//! Loads from a striped buffer, see [`StripeMap`]: run by run, since a hole is not to be read.
//!
//! `SRC` advances by the bytes of the stream as in every loop; the run at `SRC` is at `FROM + scale * SRC` in
//! memory. `FROM` is in the register that the length came in, which is recovered at the end.

use super::runs::VECTOR;
use super::{END, FunctionFrame, LEN, REMAINDER, SRC, StripeMap};
use crate::backend::native::asm;
use crate::backend::native::isa::Isa;
use crate::backend::native::vcode::{Builder, Mem, Operand, RegKind, VReg, Width};
use crate::plan::stage::inverse;
use iced_x86::{Code, Register};

/// What is to be added to `scale * SRC`.
const FROM: Register = LEN;

impl FunctionFrame<'_> {
    /// Before the loops, with `SRC` the buffer's address and `END` as if it were contiguous.
    pub(super) fn enter_gather(&mut self, runs: StripeMap) {
        self.b.raw(asm::rr(Code::Mov_r64_rm64, FROM, SRC));
        self.b.raw(asm::ri(Code::Shl_rm64_imm8, FROM, runs.scale.trailing_zeros() as i32));
        self.b.raw(asm::r(Code::Neg_rm64, FROM));
        self.b.raw(asm::rr(Code::Add_r64_rm64, FROM, SRC));
    }

    /// Behind the loops: `LEN` again. `FROM` is `1 - scale` times the buffer's address; the factor is odd, so
    /// it has an inverse modulo 2^64.
    pub(super) fn leave_gather(&mut self, runs: StripeMap) {
        let factor = 1u64.wrapping_sub(runs.scale as u64);
        self.b.raw(asm::mov_imm(Register::RAX, inverse(factor)));
        self.b.raw(asm::rr(Code::Imul_r64_rm64, FROM, Register::RAX));
        self.b.raw(asm::r(Code::Neg_rm64, FROM));
        self.b.raw(asm::rr(Code::Add_r64_rm64, FROM, END));
    }

    /// A whole vector of the stream, `disp` bytes behind where `SRC` stands.
    pub(super) fn gather(&mut self, runs: StripeMap, disp: i32) -> VReg {
        if self.shape.isa == Isa::Avx2 {
            return self.gather_narrow(runs, disp);
        }
        let from = |at: i32| {
            let disp = runs.scale as i32 * (disp + at);
            Operand::Mem(Mem::Base { base: FROM, index: SRC, scale: runs.scale as u8, disp })
        };
        let b = &mut self.b;
        let quarters = Code::EVEX_Vinserti32x4_zmm_k1z_zmm_xmmm128_imm8;
        match runs.run {
            64 => b.fresh(RegKind::Vector, Width::Z, Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512, &[from(0)]),
            32 => {
                let lower =
                    b.fresh(RegKind::Vector, Width::Y, Code::EVEX_Vmovdqu64_ymm_k1z_ymmm256, &[from(0)]);
                let upper = Code::EVEX_Vinserti64x4_zmm_k1z_zmm_ymmm256_imm8;
                b.fresh(
                    RegKind::Vector,
                    Width::Z,
                    upper,
                    &[Operand::Reg(lower, Width::Z), from(32), Operand::Imm(1)],
                )
            }
            16 => {
                let first =
                    b.fresh(RegKind::Vector, Width::X, Code::EVEX_Vmovdqu64_xmm_k1z_xmmm128, &[from(0)]);
                (1..4).fold(first, |chunk, quarter| {
                    let operands =
                        [Operand::Reg(chunk, Width::Z), from(16 * quarter), Operand::Imm(quarter as u8)];
                    b.fresh(RegKind::Vector, Width::Z, quarters, &operands)
                })
            }
            _ => {
                let mut quarter = |quarter: i32| {
                    let at = 16 * quarter;
                    let lower = b.fresh(RegKind::Vector, Width::X, Code::EVEX_Vmovq_xmm_xmmm64, &[from(at)]);
                    let operands = [Operand::Reg(lower, Width::X), from(at + 8)];
                    b.fresh(RegKind::Vector, Width::X, Code::EVEX_Vmovhps_xmm_xmm_m64, &operands)
                };
                let parts = [quarter(0), quarter(1), quarter(2), quarter(3)];
                (1..4).fold(parts[0], |chunk, quarter| {
                    let part = Operand::Reg(parts[quarter], Width::X);
                    b.fresh(
                        RegKind::Vector,
                        Width::Z,
                        quarters,
                        &[Operand::Reg(chunk, Width::Z), part, Operand::Imm(quarter as u8)],
                    )
                })
            }
        }
    }

    /// The same for vectors of 256 bits.
    fn gather_narrow(&mut self, runs: StripeMap, disp: i32) -> VReg {
        let from = |at: i32| {
            let disp = runs.scale as i32 * (disp + at);
            Operand::Mem(Mem::Base { base: FROM, index: SRC, scale: runs.scale as u8, disp })
        };
        let b = &mut self.b;
        if runs.run == 32 {
            return b.fresh(RegKind::Vector, Width::Y, Code::VEX_Vmovdqu_ymm_ymmm256, &[from(0)]);
        }
        let half = |b: &mut Builder, at: i32| {
            if runs.run == 16 {
                return b.fresh(RegKind::Vector, Width::X, Code::VEX_Vmovdqu_xmm_xmmm128, &[from(at)]);
            }
            let lower = b.fresh(RegKind::Vector, Width::X, Code::VEX_Vmovq_xmm_xmmm64, &[from(at)]);
            let operands = [Operand::Reg(lower, Width::X), from(at + 8)];
            b.fresh(RegKind::Vector, Width::X, Code::VEX_Vmovhps_xmm_xmm_m64, &operands)
        };
        let lower = half(b, 0);
        let upper = if runs.run == 16 { from(16) } else { Operand::Reg(half(b, 16), Width::X) };
        let operands = [Operand::Reg(lower, Width::Y), upper, Operand::Imm(1)];
        b.fresh(RegKind::Vector, Width::Y, Code::VEX_Vinserti128_ymm_ymm_xmmm128_imm8, &operands)
    }

    /// The remainder, with zeros behind it: what is in 64 bytes of the source is loaded under a mask and
    /// moved into place by a permutation.
    pub(super) fn gather_remainder(&mut self, runs: StripeMap) -> VReg {
        let (rax, r9) = (Register::RAX, Register::R9);
        let mut chunk: Option<VReg> = None;
        for load in 0..VECTOR / runs.bytes() {
            self.b.raw(asm::ri(Code::Mov_rm64_imm32, r9, -1));
            self.b.raw(asm::rrr(Code::VEX_Bzhi_r64_rm64_r64, r9, r9, REMAINDER));
            if load > 0 {
                self.b.raw(asm::ri(Code::Shr_rm64_imm8, r9, (load * runs.bytes()) as i32));
            }
            self.b.raw(asm::mov_imm(rax, runs.pattern()));
            self.b.raw(asm::rrr(Code::VEX_Pdep_r64_r64_rm64, r9, r9, rax));
            let mask = self.b.fresh(RegKind::Mask, Width::K, Code::VEX_Kmovq_kr_r64, &[Operand::Gpr(r9)]);
            let disp = (load * runs.distance()) as i32;
            let from = Mem::Base { base: FROM, index: SRC, scale: runs.scale as u8, disp };
            let mut part =
                self.b.masked(Code::EVEX_Vmovdqu8_zmm_k1z_zmmm512, mask, None, &[Operand::Mem(from)]);
            if runs.bytes() < VECTOR {
                let places = self.b.constant(runs.places(load));
                let permute = Code::EVEX_Vpermq_zmm_k1z_zmm_zmmm512b64;
                part =
                    self.b.vector(permute, &[Operand::Reg(places, Width::Z), Operand::Reg(part, Width::Z)]);
            }
            chunk = Some(match chunk {
                None => part,
                Some(chunk) => {
                    let or = Code::EVEX_Vporq_zmm_k1z_zmm_zmmm512b64;
                    self.b.vector(or, &[Operand::Reg(chunk, Width::Z), Operand::Reg(part, Width::Z)])
                }
            });
        }
        chunk.expect("a vector is at least one load")
    }
}
