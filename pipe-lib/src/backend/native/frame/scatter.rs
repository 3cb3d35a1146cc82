//! Stores to a striped buffer, see [`StripeMap`].

use super::runs::VECTOR;
use super::{DST, FunctionFrame, REMAINDER, SRC, StripeMap};
use crate::backend::native::asm;
use crate::backend::native::isa::Isa;
use crate::backend::native::vcode::{Builder, Mem, Operand, RegKind, VReg, Width};
use iced_x86::{Code, Register};

impl FunctionFrame<'_> {
    /// Before the loops, with `DST` the buffer's address: leaves in it what is to be added to `scale * SRC`.
    pub(super) fn enter_scatter(&mut self, runs: StripeMap) {
        let rax = Register::RAX;
        self.b.raw(asm::rr(Code::Mov_r64_rm64, rax, SRC));
        self.b.raw(asm::ri(Code::Shl_rm64_imm8, rax, runs.scale.trailing_zeros() as i32));
        self.b.raw(asm::rr(Code::Sub_r64_rm64, DST, rax));
    }

    /// Stores a whole vector of the stream, `disp` bytes behind `SRC`: run by run, since stores as long as a
    /// vector would cross the ends of cache lines in a buffer that is aligned to its runs only.
    pub(super) fn scatter(&mut self, runs: StripeMap, disp: i32, chunk: VReg) {
        let to = |at: usize| {
            let disp = runs.scale as i32 * (disp + at as i32);
            Operand::Mem(Mem::Base { base: DST, index: SRC, scale: runs.scale as u8, disp })
        };
        let b = &mut self.b;
        let store =
            |b: &mut Builder, code, operands: &[Operand]| b.push(code, operands, None, None, None, false);
        if b.isa == Isa::Avx2 {
            if runs.run == 32 {
                return store(b, Code::VEX_Vmovdqu_ymmm256_ymm, &[to(0), Operand::Reg(chunk, Width::Y)]);
            }
            let extract = Code::VEX_Vextracti128_xmmm128_ymm_imm8;
            let upper = [Operand::Reg(chunk, Width::Y), Operand::Imm(1)];
            if runs.run == 16 {
                store(b, Code::VEX_Vmovdqu_xmmm128_xmm, &[to(0), Operand::Reg(chunk, Width::X)]);
                return store(b, extract, &[to(16), upper[0], upper[1]]);
            }
            let upper = b.vector_of(Width::X, extract, &upper);
            for (half, at) in [(chunk, 0), (upper, 16)] {
                store(b, Code::VEX_Vmovq_xmmm64_xmm, &[to(at), Operand::Reg(half, Width::X)]);
                store(b, Code::VEX_Vmovhps_m64_xmm, &[to(at + 8), Operand::Reg(half, Width::X)]);
            }
            return;
        }
        match runs.run {
            64 => store(b, Code::EVEX_Vmovdqu64_zmmm512_k1z_zmm, &[to(0), Operand::Reg(chunk, Width::Z)]),
            32 => {
                store(b, Code::EVEX_Vmovdqu64_ymmm256_k1z_ymm, &[to(0), Operand::Reg(chunk, Width::Y)]);
                let upper = Code::EVEX_Vextracti64x4_ymmm256_k1z_zmm_imm8;
                store(b, upper, &[to(32), Operand::Reg(chunk, Width::Z), Operand::Imm(1)]);
            }
            16 => {
                store(b, Code::EVEX_Vmovdqu64_xmmm128_k1z_xmm, &[to(0), Operand::Reg(chunk, Width::X)]);
                for quarter in 1..4 {
                    let extract = Code::EVEX_Vextracti32x4_xmmm128_k1z_zmm_imm8;
                    let from = [Operand::Reg(chunk, Width::Z), Operand::Imm(quarter)];
                    store(b, extract, &[to(16 * usize::from(quarter)), from[0], from[1]]);
                }
            }
            _ => {
                for quarter in 0..4 {
                    let mut part = chunk;
                    if quarter > 0 {
                        let extract = Code::EVEX_Vextracti32x4_xmmm128_k1z_zmm_imm8;
                        let from = [Operand::Reg(chunk, Width::Z), Operand::Imm(quarter)];
                        part = b.vector_of(Width::X, extract, &from);
                    }
                    let at = 16 * usize::from(quarter);
                    for (code, at) in
                        [(Code::EVEX_Vmovq_xmmm64_xmm, at), (Code::EVEX_Vmovhps_m64_xmm, at + 8)]
                    {
                        let operands = [to(at), Operand::Reg(part, Width::X)];
                        store(b, code, &operands);
                    }
                }
            }
        }
    }

    /// Stores the remainder: what goes into 64 bytes of the destination is moved into place by a permutation
    /// and stored under a mask.
    pub(super) fn scatter_remainder(&mut self, runs: StripeMap, chunk: VReg) {
        let (rax, r9) = (Register::RAX, Register::R9);
        for store in 0..VECTOR / runs.bytes() {
            self.b.raw(asm::ri(Code::Mov_rm64_imm32, r9, -1));
            self.b.raw(asm::rrr(Code::VEX_Bzhi_r64_rm64_r64, r9, r9, REMAINDER));
            if store > 0 {
                let before = (store * runs.bytes()) as i32;
                self.b.raw(asm::ri(Code::Shr_rm64_imm8, r9, before));
            }
            // The bytes that there are, in order, to the places of the pattern.
            self.b.raw(asm::mov_imm(rax, runs.pattern()));
            self.b.raw(asm::rrr(Code::VEX_Pdep_r64_r64_rm64, r9, r9, rax));
            let mask = self.b.fresh(RegKind::Mask, Width::K, Code::VEX_Kmovq_kr_r64, &[Operand::Gpr(r9)]);
            let order = self.b.constant(runs.order(store));
            let permute = Code::EVEX_Vpermq_zmm_k1z_zmm_zmmm512b64;
            let placed =
                self.b.vector(permute, &[Operand::Reg(order, Width::Z), Operand::Reg(chunk, Width::Z)]);
            let disp = (store * runs.distance()) as i32;
            let to = Mem::Base { base: DST, index: SRC, scale: runs.scale as u8, disp };
            let operands = [Operand::Mem(to), Operand::Reg(placed, Width::Z)];
            self.b.push(Code::EVEX_Vmovdqu8_zmmm512_k1z_zmm, &operands, None, None, Some(mask), false);
        }
    }
}
