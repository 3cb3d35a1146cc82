//! Bitwise operations, sums and products.

use iced_x86::Code;

use super::{Cmp, Lane};
use crate::backend::native::isa::{Features, Isa};
use crate::backend::native::vcode::{Builder, Operand, VReg};
use crate::ir::BinaryOp;

macro_rules! binary_lanes {
    ($(#[$meta:meta])* $name:ident, z: [$($z:ident),*], y: [$($y:ident),*]) => {
        $(#[$meta])*
        pub(crate) fn $name(&mut self, lane: Lane, a: VReg, b: VReg) -> VReg {
            let code = match self.isa {
                Isa::Avx512 => [$(Code::$z),*][lane as usize],
                Isa::Avx2 => [$(Code::$y),*][lane as usize],
            };
            self.binary_code(code, a, b)
        }
    };
}

macro_rules! binary_bits {
    ($name:ident, $z:ident, $y:ident) => {
        pub(crate) fn $name(&mut self, a: VReg, b: VReg) -> VReg {
            let code = match self.isa {
                Isa::Avx512 => Code::$z,
                Isa::Avx2 => Code::$y,
            };
            self.binary_code(code, a, b)
        }
    };
}

impl Builder {
    // Bitwise.

    pub(crate) fn and(&mut self, a: VReg, b: VReg) -> VReg {
        let code = self.pick(Code::EVEX_Vpandq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpand_ymm_ymm_ymmm256);
        self.commutative(code, a, b)
    }

    pub(crate) fn or(&mut self, a: VReg, b: VReg) -> VReg {
        let code = self.pick(Code::EVEX_Vporq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpor_ymm_ymm_ymmm256);
        self.commutative(code, a, b)
    }

    pub(crate) fn xor(&mut self, a: VReg, b: VReg) -> VReg {
        let code = self.pick(Code::EVEX_Vpxorq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpxor_ymm_ymm_ymmm256);
        self.commutative(code, a, b)
    }

    binary_bits!(and_not_first, EVEX_Vpandnq_zmm_k1z_zmm_zmmm512b64, VEX_Vpandn_ymm_ymm_ymmm256);

    pub(crate) fn not(&mut self, a: VReg) -> VReg {
        let ones = self.splat(Lane::B, 0xff);
        self.xor(a, ones)
    }

    /// `a & mask` in every lane.
    pub(crate) fn and_imm(&mut self, lane: Lane, a: VReg, mask: u64) -> VReg {
        let mask = self.splat(lane, mask);
        self.and(a, mask)
    }

    // Arithmetic.

    pub(crate) fn add(&mut self, lane: Lane, a: VReg, b: VReg) -> VReg {
        let code = match self.isa {
            Isa::Avx512 => [
                Code::EVEX_Vpaddb_zmm_k1z_zmm_zmmm512,
                Code::EVEX_Vpaddw_zmm_k1z_zmm_zmmm512,
                Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32,
                Code::EVEX_Vpaddq_zmm_k1z_zmm_zmmm512b64,
            ],
            Isa::Avx2 => [
                Code::VEX_Vpaddb_ymm_ymm_ymmm256,
                Code::VEX_Vpaddw_ymm_ymm_ymmm256,
                Code::VEX_Vpaddd_ymm_ymm_ymmm256,
                Code::VEX_Vpaddq_ymm_ymm_ymmm256,
            ],
        }[lane as usize];
        self.commutative(code, a, b)
    }

    binary_lanes!(sub,
        z: [EVEX_Vpsubb_zmm_k1z_zmm_zmmm512, EVEX_Vpsubw_zmm_k1z_zmm_zmmm512, EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32,
            EVEX_Vpsubq_zmm_k1z_zmm_zmmm512b64],
        y: [VEX_Vpsubb_ymm_ymm_ymmm256, VEX_Vpsubw_ymm_ymm_ymmm256, VEX_Vpsubd_ymm_ymm_ymmm256,
            VEX_Vpsubq_ymm_ymm_ymmm256]);

    /// Addition or subtraction that saturates: `op` is `adds`, `subs`, `sadds` or `ssubs`.
    pub(crate) fn saturating(&mut self, op: BinaryOp, lane: Lane, a: VReg, b: VReg) -> VReg {
        let wide = matches!(lane, Lane::D | Lane::Q);
        let code = match (op, lane, wide) {
            // What there is room for is added, what there is is subtracted.
            (BinaryOp::Adds, _, true) => {
                let room = self.not(a);
                let fits = self.min_max(lane, false, false, b, room);
                return self.add(lane, a, fits);
            }
            (BinaryOp::Subs, _, true) => {
                let less = self.min_max(lane, false, false, a, b);
                return self.sub(lane, a, less);
            }
            (_, _, true) => return self.saturating_signed(op, lane, a, b),
            (BinaryOp::Adds, Lane::B, _) => {
                self.pick(Code::EVEX_Vpaddusb_zmm_k1z_zmm_zmmm512, Code::VEX_Vpaddusb_ymm_ymm_ymmm256)
            }
            (BinaryOp::Adds, ..) => {
                self.pick(Code::EVEX_Vpaddusw_zmm_k1z_zmm_zmmm512, Code::VEX_Vpaddusw_ymm_ymm_ymmm256)
            }
            (BinaryOp::Subs, Lane::B, _) => {
                self.pick(Code::EVEX_Vpsubusb_zmm_k1z_zmm_zmmm512, Code::VEX_Vpsubusb_ymm_ymm_ymmm256)
            }
            (BinaryOp::Subs, ..) => {
                self.pick(Code::EVEX_Vpsubusw_zmm_k1z_zmm_zmmm512, Code::VEX_Vpsubusw_ymm_ymm_ymmm256)
            }
            (BinaryOp::Sadds, Lane::B, _) => {
                self.pick(Code::EVEX_Vpaddsb_zmm_k1z_zmm_zmmm512, Code::VEX_Vpaddsb_ymm_ymm_ymmm256)
            }
            (BinaryOp::Sadds, ..) => {
                self.pick(Code::EVEX_Vpaddsw_zmm_k1z_zmm_zmmm512, Code::VEX_Vpaddsw_ymm_ymm_ymmm256)
            }
            (_, Lane::B, _) => {
                self.pick(Code::EVEX_Vpsubsb_zmm_k1z_zmm_zmmm512, Code::VEX_Vpsubsb_ymm_ymm_ymmm256)
            }
            _ => self.pick(Code::EVEX_Vpsubsw_zmm_k1z_zmm_zmmm512, Code::VEX_Vpsubsw_ymm_ymm_ymmm256),
        };
        self.binary_code(code, a, b)
    }

    /// Where a sum's sign differs from both terms', or a difference's from the first one's, which differs
    /// from the second's, the end of the range that the first one is nearer to.
    fn saturating_signed(&mut self, op: BinaryOp, lane: Lane, a: VReg, b: VReg) -> VReg {
        let sum = op == BinaryOp::Sadds;
        let plain = if sum { self.add(lane, a, b) } else { self.sub(lane, a, b) };
        let one = self.xor(plain, a);
        let other = self.xor(if sum { plain } else { a }, b);
        let signs = self.and(one, other);
        let zero = self.splat(Lane::B, 0);
        let over = self.compare(lane, Cmp::Lts, signs, zero);
        let negative = self.sar(lane, a, lane.bits() - 1);
        let most = self.splat(lane, lane.mask() >> 1);
        let end = self.xor(negative, most);
        self.select(lane, over, end, plain)
    }

    pub(crate) fn neg(&mut self, lane: Lane, a: VReg) -> VReg {
        let zero = self.splat(Lane::B, 0);
        self.sub(lane, zero, a)
    }

    /// Low half of the product.
    pub(crate) fn mul(&mut self, lane: Lane, a: VReg, b: VReg) -> VReg {
        match lane {
            Lane::B => {
                // Even bytes as 16-bit words; the odd ones' products are born in place.
                let even = self.mul(Lane::W, a, b);
                let even = self.and_imm(Lane::W, even, 0x00ff);
                let high = self.shr(Lane::W, a, 8);
                let other = self.and_imm(Lane::W, b, 0xff00);
                let odd = self.mul(Lane::W, high, other);
                self.or(even, odd)
            }
            Lane::W => {
                let code =
                    self.pick(Code::EVEX_Vpmullw_zmm_k1z_zmm_zmmm512, Code::VEX_Vpmullw_ymm_ymm_ymmm256);
                self.commutative(code, a, b)
            }
            Lane::D => {
                let code =
                    self.pick(Code::EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpmulld_ymm_ymm_ymmm256);
                self.commutative(code, a, b)
            }
            Lane::Q if self.isa == Isa::Avx512 => {
                self.commutative(Code::EVEX_Vpmullq_zmm_k1z_zmm_zmmm512b64, a, b)
            }
            Lane::Q => {
                let (a_high, b_high) = (self.shr(Lane::Q, a, 32), self.shr(Lane::Q, b, 32));
                let cross = self.mul_wide(a_high, b);
                let other = self.mul_wide(a, b_high);
                let cross = self.add(Lane::Q, cross, other);
                let cross = self.shl(Lane::Q, cross, 32);
                let low = self.mul_wide(a, b);
                self.add(Lane::Q, low, cross)
            }
        }
    }

    /// 64-bit products of the low halves of 64-bit lanes.
    pub(crate) fn mul_wide(&mut self, a: VReg, b: VReg) -> VReg {
        let code = self.pick(Code::EVEX_Vpmuludq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpmuludq_ymm_ymm_ymmm256);
        self.commutative(code, a, b)
    }

    /// One's complement addition: the carry out is added back in.
    pub(crate) fn addc(&mut self, lane: Lane, a: VReg, b: VReg) -> VReg {
        let sum = self.add(lane, a, b);
        let carry = self.compare(lane, Cmp::Ltu, sum, a);
        match self.isa {
            Isa::Avx512 => {
                let ones = self.splat(Lane::B, 0xff);
                let code = [
                    Code::EVEX_Vpsubb_zmm_k1z_zmm_zmmm512,
                    Code::EVEX_Vpsubw_zmm_k1z_zmm_zmmm512,
                    Code::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32,
                    Code::EVEX_Vpsubq_zmm_k1z_zmm_zmmm512b64,
                ][lane as usize];
                self.masked(code, carry, Some(sum), &[self.v(sum), self.v(ones)])
            }
            Isa::Avx2 => self.sub(lane, sum, carry),
        }
    }

    /// The carry-less product's low or high half in every lane.
    pub(crate) fn clmul(&mut self, lane: Lane, high: bool, a: VReg, b: VReg) -> Option<VReg> {
        let wide = match self.isa {
            Isa::Avx512 => self.features.has(Features::VPCLMUL),
            Isa::Avx2 => self.features.has(Features::PCLMUL | Features::VPCLMUL),
        };
        if lane == Lane::Q {
            if !wide {
                return None;
            }
            let code = self
                .pick(Code::EVEX_Vpclmulqdq_zmm_zmm_zmmm512_imm8, Code::VEX_Vpclmulqdq_ymm_ymm_ymmm256_imm8);
            let even = self.vector(code, &[self.v(a), self.v(b), Operand::Imm(0x00)]);
            let odd = self.vector(code, &[self.v(a), self.v(b), Operand::Imm(0x11)]);
            return Some(self.interleaved_quads(high, even, odd));
        }
        // Bit by bit: `a` moved to the place of each one bit of `b`.
        let bits = lane.bits();
        let mut sum = None;
        for bit in u32::from(high)..bits {
            let moved = if high { self.shr(lane, a, bits - bit) } else { self.shl(lane, a, bit) };
            let top = self.shl(lane, b, bits - 1 - bit);
            let chosen = self.sar(lane, top, bits - 1);
            let term = self.and(moved, chosen);
            sum = Some(match sum {
                None => term,
                Some(sum) => self.xor(sum, term),
            });
        }
        sum
    }
}
