//! Shifts and rotations, by a constant and by a count in each lane.

use iced_x86::Code;

use super::Lane;
use crate::backend::native::isa::Isa;
use crate::backend::native::vcode::{Builder, VReg};

impl Builder {
    // Shifts by a constant less than the lane's width.

    pub(crate) fn shl(&mut self, lane: Lane, a: VReg, count: u32) -> VReg {
        let z = [
            Code::EVEX_Vpsllw_zmm_k1z_zmmm512_imm8,
            Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8,
            Code::EVEX_Vpsllq_zmm_k1z_zmmm512b64_imm8,
        ];
        let y = [Code::VEX_Vpsllw_ymm_ymm_imm8, Code::VEX_Vpslld_ymm_ymm_imm8, Code::VEX_Vpsllq_ymm_ymm_imm8];
        match (lane, count) {
            (_, 0) => a,
            (_, 1) => self.add(lane, a, a),
            (Lane::B, _) => {
                let wide = self.shl(Lane::W, a, count);
                self.and_imm(Lane::B, wide, 0xff << count & 0xff)
            }
            _ => self.shift_code(self.pick(z[lane as usize - 1], y[lane as usize - 1]), a, count),
        }
    }

    pub(crate) fn shr(&mut self, lane: Lane, a: VReg, count: u32) -> VReg {
        let z = [
            Code::EVEX_Vpsrlw_zmm_k1z_zmmm512_imm8,
            Code::EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8,
            Code::EVEX_Vpsrlq_zmm_k1z_zmmm512b64_imm8,
        ];
        let y = [Code::VEX_Vpsrlw_ymm_ymm_imm8, Code::VEX_Vpsrld_ymm_ymm_imm8, Code::VEX_Vpsrlq_ymm_ymm_imm8];
        match (lane, count) {
            (_, 0) => a,
            (Lane::B, _) => {
                let wide = self.shr(Lane::W, a, count);
                self.and_imm(Lane::B, wide, 0xff >> count)
            }
            _ => self.shift_code(self.pick(z[lane as usize - 1], y[lane as usize - 1]), a, count),
        }
    }

    pub(crate) fn sar(&mut self, lane: Lane, a: VReg, count: u32) -> VReg {
        let sign_fill = |b: &mut Builder, a: VReg| {
            let down = b.shr(lane, a, count);
            let sign = b.splat(lane, 1 << (lane.bits() - 1 - count));
            let flipped = b.xor(down, sign);
            b.sub(lane, flipped, sign)
        };
        match (lane, self.isa) {
            (_, _) if count == 0 => a,
            (Lane::B, _) => sign_fill(self, a),
            (Lane::W, _) => {
                let code = self.pick(Code::EVEX_Vpsraw_zmm_k1z_zmmm512_imm8, Code::VEX_Vpsraw_ymm_ymm_imm8);
                self.shift_code(code, a, count)
            }
            (Lane::D, _) => {
                let code =
                    self.pick(Code::EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpsrad_ymm_ymm_imm8);
                self.shift_code(code, a, count)
            }
            (Lane::Q, Isa::Avx512) => self.shift_code(Code::EVEX_Vpsraq_zmm_k1z_zmmm512b64_imm8, a, count),
            (Lane::Q, Isa::Avx2) => sign_fill(self, a),
        }
    }

    pub(crate) fn rotl(&mut self, lane: Lane, a: VReg, count: u32) -> VReg {
        let z = [Code::EVEX_Vprold_zmm_k1z_zmmm512b32_imm8, Code::EVEX_Vprolq_zmm_k1z_zmmm512b64_imm8];
        match (lane, self.isa) {
            (_, _) if count == 0 => a,
            (Lane::D | Lane::Q, Isa::Avx512) => self.shift_code(z[lane as usize - 2], a, count),
            (Lane::W, _) if count == 8 => self.bswap(Lane::W, a),
            _ => {
                let left = self.shl(lane, a, count);
                let right = self.shr(lane, a, lane.bits() - count);
                self.or(left, right)
            }
        }
    }

    // Shifts by a count in each lane, less than the lane's width.

    pub(crate) fn shl_by(&mut self, lane: Lane, a: VReg, count: VReg) -> VReg {
        let z = [
            Code::EVEX_Vpsllvw_zmm_k1z_zmm_zmmm512,
            Code::EVEX_Vpsllvd_zmm_k1z_zmm_zmmm512b32,
            Code::EVEX_Vpsllvq_zmm_k1z_zmm_zmmm512b64,
        ];
        let y = [Code::VEX_Vpsllvd_ymm_ymm_ymmm256, Code::VEX_Vpsllvq_ymm_ymm_ymmm256];
        match self.by_count(lane, z, y) {
            Some(code) => self.binary_code(code, a, count),
            None => self.by_halves(lane, a, count, Builder::shl_by),
        }
    }

    pub(crate) fn shr_by(&mut self, lane: Lane, a: VReg, count: VReg) -> VReg {
        let z = [
            Code::EVEX_Vpsrlvw_zmm_k1z_zmm_zmmm512,
            Code::EVEX_Vpsrlvd_zmm_k1z_zmm_zmmm512b32,
            Code::EVEX_Vpsrlvq_zmm_k1z_zmm_zmmm512b64,
        ];
        let y = [Code::VEX_Vpsrlvd_ymm_ymm_ymmm256, Code::VEX_Vpsrlvq_ymm_ymm_ymmm256];
        match self.by_count(lane, z, y) {
            Some(code) => self.binary_code(code, a, count),
            None => self.by_halves(lane, a, count, Builder::shr_by),
        }
    }

    /// Which of these the lane has: of words, double words and quads with AVX-512, of the last two with AVX2.
    fn by_count(&self, lane: Lane, z: [Code; 3], y: [Code; 2]) -> Option<Code> {
        match (self.isa, lane) {
            (_, Lane::B) | (Isa::Avx2, Lane::W) => None,
            (Isa::Avx512, _) => Some(z[lane as usize - 1]),
            (Isa::Avx2, _) => Some(y[lane as usize - 2]),
        }
    }

    pub(crate) fn sar_by(&mut self, lane: Lane, a: VReg, count: VReg) -> VReg {
        match (lane, self.isa) {
            (Lane::D, _) => self.binary_code(
                self.pick(Code::EVEX_Vpsravd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpsravd_ymm_ymm_ymmm256),
                a,
                count,
            ),
            (Lane::Q, Isa::Avx512) => self.binary_code(Code::EVEX_Vpsravq_zmm_k1z_zmm_zmmm512b64, a, count),
            (Lane::W, Isa::Avx512) => self.binary_code(Code::EVEX_Vpsravw_zmm_k1z_zmm_zmmm512, a, count),
            _ => {
                let down = self.shr_by(lane, a, count);
                let top = self.splat(lane, 1 << (lane.bits() - 1));
                let sign = self.shr_by(lane, top, count);
                let flipped = self.xor(down, sign);
                self.sub(lane, flipped, sign)
            }
        }
    }

    pub(crate) fn rotl_by(&mut self, lane: Lane, a: VReg, count: VReg) -> VReg {
        match (lane, self.isa) {
            (Lane::D, Isa::Avx512) => self.binary_code(Code::EVEX_Vprolvd_zmm_k1z_zmm_zmmm512b32, a, count),
            (Lane::Q, Isa::Avx512) => self.binary_code(Code::EVEX_Vprolvq_zmm_k1z_zmm_zmmm512b64, a, count),
            _ => {
                let left = self.shl_by(lane, a, count);
                let back = self.neg(lane, count);
                let back = self.and_imm(lane, back, u64::from(lane.bits() - 1));
                let right = self.shr_by(lane, a, back);
                self.or(left, right)
            }
        }
    }

    /// `f` on lanes of twice the width, even and odd ones apart, zero extended.
    fn by_halves(
        &mut self,
        lane: Lane,
        a: VReg,
        count: VReg,
        f: fn(&mut Builder, Lane, VReg, VReg) -> VReg,
    ) -> VReg {
        let wide = Lane::of_bytes(lane.bytes() * 2);
        let low = lane.mask();
        let (even_a, even_count) = (self.and_imm(wide, a, low), self.and_imm(wide, count, low));
        let even = f(self, wide, even_a, even_count);
        let even = self.and_imm(wide, even, low);
        let (odd_a, odd_count) = (self.shr(wide, a, lane.bits()), self.shr(wide, count, lane.bits()));
        let odd = f(self, wide, odd_a, odd_count);
        let odd = self.shl(wide, odd, lane.bits());
        self.or(even, odd)
    }
}
