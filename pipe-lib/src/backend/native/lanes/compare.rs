//! Minimum, maximum, comparisons, choices and what is made of conditions.

use iced_x86::Code;

use super::{Cmp, Lane};
use crate::backend::native::isa::Isa;
use crate::backend::native::vcode::{Builder, Operand, VReg, Width};

impl Builder {
    pub(crate) fn min_max(&mut self, lane: Lane, signed: bool, max: bool, a: VReg, b: VReg) -> VReg {
        let index = usize::from(signed) * 2 + usize::from(max);
        let code = match (self.isa, lane) {
            (Isa::Avx512, Lane::B) => [
                Code::EVEX_Vpminub_zmm_k1z_zmm_zmmm512,
                Code::EVEX_Vpmaxub_zmm_k1z_zmm_zmmm512,
                Code::EVEX_Vpminsb_zmm_k1z_zmm_zmmm512,
                Code::EVEX_Vpmaxsb_zmm_k1z_zmm_zmmm512,
            ],
            (Isa::Avx512, Lane::W) => [
                Code::EVEX_Vpminuw_zmm_k1z_zmm_zmmm512,
                Code::EVEX_Vpmaxuw_zmm_k1z_zmm_zmmm512,
                Code::EVEX_Vpminsw_zmm_k1z_zmm_zmmm512,
                Code::EVEX_Vpmaxsw_zmm_k1z_zmm_zmmm512,
            ],
            (Isa::Avx512, Lane::D) => [
                Code::EVEX_Vpminud_zmm_k1z_zmm_zmmm512b32,
                Code::EVEX_Vpmaxud_zmm_k1z_zmm_zmmm512b32,
                Code::EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32,
                Code::EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32,
            ],
            (Isa::Avx512, Lane::Q) => [
                Code::EVEX_Vpminuq_zmm_k1z_zmm_zmmm512b64,
                Code::EVEX_Vpmaxuq_zmm_k1z_zmm_zmmm512b64,
                Code::EVEX_Vpminsq_zmm_k1z_zmm_zmmm512b64,
                Code::EVEX_Vpmaxsq_zmm_k1z_zmm_zmmm512b64,
            ],
            (Isa::Avx2, Lane::B) => [
                Code::VEX_Vpminub_ymm_ymm_ymmm256,
                Code::VEX_Vpmaxub_ymm_ymm_ymmm256,
                Code::VEX_Vpminsb_ymm_ymm_ymmm256,
                Code::VEX_Vpmaxsb_ymm_ymm_ymmm256,
            ],
            (Isa::Avx2, Lane::W) => [
                Code::VEX_Vpminuw_ymm_ymm_ymmm256,
                Code::VEX_Vpmaxuw_ymm_ymm_ymmm256,
                Code::VEX_Vpminsw_ymm_ymm_ymmm256,
                Code::VEX_Vpmaxsw_ymm_ymm_ymmm256,
            ],
            (Isa::Avx2, Lane::D) => [
                Code::VEX_Vpminud_ymm_ymm_ymmm256,
                Code::VEX_Vpmaxud_ymm_ymm_ymmm256,
                Code::VEX_Vpminsd_ymm_ymm_ymmm256,
                Code::VEX_Vpmaxsd_ymm_ymm_ymmm256,
            ],
            (Isa::Avx2, Lane::Q) => {
                let less = self.compare(lane, if signed { Cmp::Lts } else { Cmp::Ltu }, a, b);
                return if max { self.select(lane, less, b, a) } else { self.select(lane, less, a, b) };
            }
        }[index];
        self.commutative(code, a, b)
    }

    pub(crate) fn compare(&mut self, lane: Lane, cmp: Cmp, a: VReg, b: VReg) -> VReg {
        match self.isa {
            Isa::Avx512 => {
                let (signed, predicate) = match cmp {
                    Cmp::Eq => (false, 0),
                    Cmp::Ne => (false, 4),
                    Cmp::Ltu => (false, 1),
                    Cmp::Leu => (false, 2),
                    Cmp::Lts => (true, 1),
                    Cmp::Les => (true, 2),
                };
                let code = match (lane, signed) {
                    (Lane::B, false) => Code::EVEX_Vpcmpub_kr_k1_zmm_zmmm512_imm8,
                    (Lane::W, false) => Code::EVEX_Vpcmpuw_kr_k1_zmm_zmmm512_imm8,
                    (Lane::D, false) => Code::EVEX_Vpcmpud_kr_k1_zmm_zmmm512b32_imm8,
                    (Lane::Q, false) => Code::EVEX_Vpcmpuq_kr_k1_zmm_zmmm512b64_imm8,
                    (Lane::B, true) => Code::EVEX_Vpcmpb_kr_k1_zmm_zmmm512_imm8,
                    (Lane::W, true) => Code::EVEX_Vpcmpw_kr_k1_zmm_zmmm512_imm8,
                    (Lane::D, true) => Code::EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8,
                    (Lane::Q, true) => Code::EVEX_Vpcmpq_kr_k1_zmm_zmmm512b64_imm8,
                };
                self.mask(code, &[self.v(a), self.v(b), Operand::Imm(predicate)])
            }
            Isa::Avx2 => match cmp {
                Cmp::Eq => {
                    let code = [
                        Code::VEX_Vpcmpeqb_ymm_ymm_ymmm256,
                        Code::VEX_Vpcmpeqw_ymm_ymm_ymmm256,
                        Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256,
                        Code::VEX_Vpcmpeqq_ymm_ymm_ymmm256,
                    ][lane as usize];
                    self.commutative(code, a, b)
                }
                Cmp::Ne => {
                    let equal = self.compare(lane, Cmp::Eq, a, b);
                    self.not(equal)
                }
                Cmp::Lts => {
                    let code = [
                        Code::VEX_Vpcmpgtb_ymm_ymm_ymmm256,
                        Code::VEX_Vpcmpgtw_ymm_ymm_ymmm256,
                        Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256,
                        Code::VEX_Vpcmpgtq_ymm_ymm_ymmm256,
                    ][lane as usize];
                    self.binary_code(code, b, a)
                }
                Cmp::Les => {
                    let greater = self.compare(lane, Cmp::Lts, b, a);
                    self.not(greater)
                }
                Cmp::Leu if lane != Lane::Q => {
                    let low = self.min_max(lane, false, false, a, b);
                    self.compare(lane, Cmp::Eq, low, a)
                }
                Cmp::Leu => {
                    let greater = self.compare(lane, Cmp::Ltu, b, a);
                    self.not(greater)
                }
                Cmp::Ltu => {
                    let sign = self.splat(lane, 1 << (lane.bits() - 1));
                    let (a, b) = (self.xor(a, sign), self.xor(b, sign));
                    self.compare(lane, Cmp::Lts, a, b)
                }
            },
        }
    }

    /// `cond ? then : otherwise` in every lane; `cond` is a condition of lanes of that width.
    pub(crate) fn select(&mut self, lane: Lane, cond: VReg, then: VReg, otherwise: VReg) -> VReg {
        if then == otherwise {
            return then;
        }
        match self.isa {
            Isa::Avx512 => {
                let z = [
                    Code::EVEX_Vmovdqu8_zmm_k1z_zmmm512,
                    Code::EVEX_Vmovdqu16_zmm_k1z_zmmm512,
                    Code::EVEX_Vmovdqu32_zmm_k1z_zmmm512,
                    Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512,
                ];
                if self.constant_bytes(otherwise).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0)) {
                    return self.masked(z[lane as usize], cond, None, &[self.v(then)]);
                }
                let code = [
                    Code::EVEX_Vpblendmb_zmm_k1z_zmm_zmmm512,
                    Code::EVEX_Vpblendmw_zmm_k1z_zmm_zmmm512,
                    Code::EVEX_Vpblendmd_zmm_k1z_zmm_zmmm512b32,
                    Code::EVEX_Vpblendmq_zmm_k1z_zmm_zmmm512b64,
                ][lane as usize];
                self.blend(code, cond, &[self.v(otherwise), self.v(then)])
            }
            Isa::Avx2 => {
                if self.constant_bytes(otherwise).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0)) {
                    return self.and(then, cond);
                }
                let srcs = [self.v(otherwise), self.v(then), self.v(cond)];
                self.vector(Code::VEX_Vpblendvb_ymm_ymm_ymmm256_ymm, &srcs)
            }
        }
    }

    // Conditions.

    pub(crate) fn cond_and(&mut self, a: VReg, b: VReg) -> VReg {
        match self.isa {
            Isa::Avx512 => self.mask_code(Code::VEX_Kandq_kr_kr_kr, a, b),
            Isa::Avx2 => self.and(a, b),
        }
    }

    pub(crate) fn cond_or(&mut self, a: VReg, b: VReg) -> VReg {
        match self.isa {
            Isa::Avx512 => self.mask_code(Code::VEX_Korq_kr_kr_kr, a, b),
            Isa::Avx2 => self.or(a, b),
        }
    }

    pub(crate) fn cond_xor(&mut self, a: VReg, b: VReg) -> VReg {
        match self.isa {
            Isa::Avx512 => self.mask_code(Code::VEX_Kxorq_kr_kr_kr, a, b),
            Isa::Avx2 => self.xor(a, b),
        }
    }

    pub(crate) fn cond_not(&mut self, a: VReg) -> VReg {
        match self.isa {
            Isa::Avx512 => self.mask(Code::VEX_Knotq_kr_kr, &[Operand::Reg(a, Width::K)]),
            Isa::Avx2 => self.not(a),
        }
    }

    pub(super) fn mask_code(&mut self, code: Code, a: VReg, b: VReg) -> VReg {
        self.mask(code, &[Operand::Reg(a, Width::K), Operand::Reg(b, Width::K)])
    }

    /// A condition that is the same in every lane.
    pub(crate) fn cond_constant(&mut self, value: bool) -> VReg {
        match self.isa {
            Isa::Avx512 => {
                // The operands do not matter (`x xor x`): any mask register would do, and k0 is never
                // allocated.
                let code = if value { Code::VEX_Kxnorq_kr_kr_kr } else { Code::VEX_Kxorq_kr_kr_kr };
                let k0 = Operand::Gpr(iced_x86::Register::K0);
                self.mask(code, &[k0, k0])
            }
            Isa::Avx2 => self.splat(Lane::B, if value { 0xff } else { 0 }),
        }
    }
}
