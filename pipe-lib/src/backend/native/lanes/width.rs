//! Between lane widths.

use iced_x86::Code;

use super::Lane;
use crate::backend::native::isa::{Features, Isa};
use crate::backend::native::vcode::{Builder, Operand, VReg, Width};

impl Builder {
    /// Lanes of `from` as lanes of `to`, wider: one vector becomes several, in the order of the lanes.
    pub(crate) fn widen(&mut self, signed: bool, from: Lane, to: Lane, a: VReg) -> Vec<VReg> {
        let parts = to.bytes() / from.bytes();
        let piece = self.vector_bytes() / parts;
        let z = |zx, sx| if signed { sx } else { zx };
        let code = match (self.isa, from, to) {
            (Isa::Avx512, Lane::B, Lane::W) => {
                z(Code::EVEX_Vpmovzxbw_zmm_k1z_ymmm256, Code::EVEX_Vpmovsxbw_zmm_k1z_ymmm256)
            }
            (Isa::Avx512, Lane::B, Lane::D) => {
                z(Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128, Code::EVEX_Vpmovsxbd_zmm_k1z_xmmm128)
            }
            (Isa::Avx512, Lane::B, _) => {
                z(Code::EVEX_Vpmovzxbq_zmm_k1z_xmmm64, Code::EVEX_Vpmovsxbq_zmm_k1z_xmmm64)
            }
            (Isa::Avx512, Lane::W, Lane::D) => {
                z(Code::EVEX_Vpmovzxwd_zmm_k1z_ymmm256, Code::EVEX_Vpmovsxwd_zmm_k1z_ymmm256)
            }
            (Isa::Avx512, Lane::W, _) => {
                z(Code::EVEX_Vpmovzxwq_zmm_k1z_xmmm128, Code::EVEX_Vpmovsxwq_zmm_k1z_xmmm128)
            }
            (Isa::Avx512, _, _) => {
                z(Code::EVEX_Vpmovzxdq_zmm_k1z_ymmm256, Code::EVEX_Vpmovsxdq_zmm_k1z_ymmm256)
            }
            (Isa::Avx2, Lane::B, Lane::W) => {
                z(Code::VEX_Vpmovzxbw_ymm_xmmm128, Code::VEX_Vpmovsxbw_ymm_xmmm128)
            }
            (Isa::Avx2, Lane::B, Lane::D) => {
                z(Code::VEX_Vpmovzxbd_ymm_xmmm64, Code::VEX_Vpmovsxbd_ymm_xmmm64)
            }
            (Isa::Avx2, Lane::B, _) => z(Code::VEX_Vpmovzxbq_ymm_xmmm32, Code::VEX_Vpmovsxbq_ymm_xmmm32),
            (Isa::Avx2, Lane::W, Lane::D) => {
                z(Code::VEX_Vpmovzxwd_ymm_xmmm128, Code::VEX_Vpmovsxwd_ymm_xmmm128)
            }
            (Isa::Avx2, Lane::W, _) => z(Code::VEX_Vpmovzxwq_ymm_xmmm64, Code::VEX_Vpmovsxwq_ymm_xmmm64),
            (Isa::Avx2, _, _) => z(Code::VEX_Vpmovzxdq_ymm_xmmm128, Code::VEX_Vpmovsxdq_ymm_xmmm128),
        };
        (0..parts)
            .map(|part| {
                let (source, width) = self.piece(a, part * piece, piece);
                self.vector(code, &[Operand::Reg(source, width)])
            })
            .collect()
    }

    /// The `len` bytes at `at`, moved to the bottom of a narrower register.
    fn piece(&mut self, a: VReg, at: usize, len: usize) -> (VReg, Width) {
        let full = self.full();
        if len == 32 {
            if at == 0 {
                return (a, Width::Y);
            }
            let upper = self.vector_of(
                Width::Y,
                Code::EVEX_Vextracti64x4_ymmm256_k1z_zmm_imm8,
                &[Operand::Reg(a, full), Operand::Imm(1)],
            );
            return (upper, Width::Y);
        }
        let quarter = at / 16;
        let low = if quarter == 0 {
            a
        } else {
            let code = self
                .pick(Code::EVEX_Vextracti32x4_xmmm128_k1z_zmm_imm8, Code::VEX_Vextracti128_xmmm128_ymm_imm8);
            self.vector_of(Width::X, code, &[Operand::Reg(a, full), Operand::Imm(quarter as u8)])
        };
        let within = at % 16 / 4;
        if within == 0 {
            return (low, Width::X);
        }
        let code = self.pick(Code::EVEX_Vpshufd_xmm_k1z_xmmm128b32_imm8, Code::VEX_Vpshufd_xmm_xmmm128_imm8);
        // Double words `within` and `within + 1` to the bottom.
        let imm = (within | ((within + 1) & 3) << 2) as u8;
        (self.vector_of(Width::X, code, &[Operand::Reg(low, Width::X), Operand::Imm(imm)]), Width::X)
    }

    /// The low halves of the lanes of two vectors, in the order of the lanes: lanes of half of `from`.
    fn narrow_pair(&mut self, from: Lane, a: VReg, b: VReg) -> VReg {
        match (self.isa, from) {
            (Isa::Avx512, Lane::Q) => {
                let index = self.lanes_of(Lane::D, |i| 2 * i);
                self.tied(Code::EVEX_Vpermt2d_zmm_k1z_zmm_zmmm512b32, a, &[self.v(index), self.v(b)])
            }
            (Isa::Avx512, Lane::D) => {
                let index = self.lanes_of(Lane::W, |i| 2 * i);
                self.tied(Code::EVEX_Vpermt2w_zmm_k1z_zmm_zmmm512, a, &[self.v(index), self.v(b)])
            }
            (Isa::Avx512, _) if self.features.has(Features::VBMI) => {
                let index = self.lanes_of(Lane::B, |i| 2 * i);
                self.tied(Code::EVEX_Vpermt2b_zmm_k1z_zmm_zmmm512, a, &[self.v(index), self.v(b)])
            }
            (Isa::Avx512, _) => {
                let low = self.vector_of(Width::Y, Code::EVEX_Vpmovwb_ymmm256_k1z_zmm, &[self.v(a)]);
                let high = self.vector_of(Width::Y, Code::EVEX_Vpmovwb_ymmm256_k1z_zmm, &[self.v(b)]);
                self.vector(
                    Code::EVEX_Vinserti64x4_zmm_k1z_zmm_ymmm256_imm8,
                    &[self.v(low), Operand::Reg(high, Width::Y), Operand::Imm(1)],
                )
            }
            (Isa::Avx2, _) => {
                let mixed = match from {
                    Lane::Q => self.vector(
                        Code::VEX_Vshufps_ymm_ymm_ymmm256_imm8,
                        &[self.v(a), self.v(b), Operand::Imm(0x88)],
                    ),
                    Lane::D => {
                        let (a, b) = (self.and_imm(Lane::D, a, 0xffff), self.and_imm(Lane::D, b, 0xffff));
                        self.binary_code(Code::VEX_Vpackusdw_ymm_ymm_ymmm256, a, b)
                    }
                    _ => {
                        let (a, b) = (self.and_imm(Lane::W, a, 0xff), self.and_imm(Lane::W, b, 0xff));
                        self.binary_code(Code::VEX_Vpackuswb_ymm_ymm_ymmm256, a, b)
                    }
                };
                self.vector(Code::VEX_Vpermq_ymm_ymmm256_imm8, &[self.v(mixed), Operand::Imm(0xd8)])
            }
        }
    }

    /// Lanes of `from` cut to lanes of `to`, narrower: several vectors become fewer.
    pub(crate) fn narrow(&mut self, from: Lane, to: Lane, parts: &[VReg]) -> Vec<VReg> {
        let mut parts = parts.to_vec();
        let mut lane = from;
        while lane > to {
            parts = parts.chunks(2).map(|pair| self.narrow_pair(lane, pair[0], pair[1])).collect();
            lane = Lane::of_bytes(lane.bytes() / 2);
        }
        parts
    }

    /// A condition on lanes of `from` as conditions on lanes of `to`, wider.
    pub(crate) fn split_cond(&mut self, from: Lane, to: Lane, cond: VReg) -> Vec<VReg> {
        if from == to {
            return vec![cond];
        }
        match self.isa {
            Isa::Avx512 => {
                let parts = to.bytes() / from.bytes();
                let lanes = 64 / to.bytes();
                (0..parts)
                    .map(|part| {
                        if part == 0 {
                            return cond;
                        }
                        let srcs = [Operand::Reg(cond, Width::K), Operand::Imm((part * lanes) as u8)];
                        self.mask(Code::VEX_Kshiftrq_kr_kr_imm8, &srcs)
                    })
                    .collect()
            }
            Isa::Avx2 => self.widen(true, from, to, cond),
        }
    }

    /// The inverse of [`Builder::split_cond`].
    pub(crate) fn join_cond(&mut self, from: Lane, to: Lane, parts: &[VReg]) -> VReg {
        match self.isa {
            Isa::Avx512 => {
                let mut parts = parts.to_vec();
                let mut lanes = 64 / from.bytes();
                while parts.len() > 1 {
                    let code = match lanes {
                        8 => Code::VEX_Kunpckbw_kr_kr_kr,
                        16 => Code::VEX_Kunpckwd_kr_kr_kr,
                        _ => Code::VEX_Kunpckdq_kr_kr_kr,
                    };
                    parts = parts.chunks(2).map(|pair| self.mask_code(code, pair[1], pair[0])).collect();
                    lanes *= 2;
                }
                parts[0]
            }
            Isa::Avx2 => self.narrow(from, to, parts)[0],
        }
    }
}
