//! One operation on every lane of a vector: the instruction where the processor has it, an expansion where it has not.
//!
//! Lanes are 1, 2, 4 or 8 bytes wide and unsigned unless a name says otherwise. Conditions are masks on AVX-512 (bit `i`
//! is lane `i`; bits beyond the last lane may be anything) and vectors of all ones and zeros on AVX2.
//!
//! The file is long because it is a table: an entry an operation, both instruction sets side by side in each, so that an
//! expansion and the instruction it stands for are read together.

use iced_x86::Code;

use super::isa::{Features, Isa};
use super::vcode::{Builder, Kind, Opd, VReg, Width};

/// Width of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Lane {
    B,
    W,
    D,
    Q,
}

impl Lane {
    pub(super) const ALL: [Lane; 4] = [Lane::B, Lane::W, Lane::D, Lane::Q];

    /// The lane of that many bytes (1, 2, 4 or 8).
    pub(super) fn of_bytes(bytes: usize) -> Lane {
        Lane::ALL[bytes.trailing_zeros() as usize & 3]
    }

    pub(super) const fn bytes(self) -> usize {
        1 << self as usize
    }

    pub(super) const fn bits(self) -> u32 {
        8 << self as u32
    }

    /// All ones.
    pub(super) const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
}

/// A comparison that both instruction sets reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cmp {
    Eq,
    Ne,
    Ltu,
    Leu,
    Lts,
    Les,
}

macro_rules! binary_lanes {
    ($(#[$meta:meta])* $name:ident, z: [$($z:ident),*], y: [$($y:ident),*]) => {
        $(#[$meta])*
        pub(super) fn $name(&mut self, lane: Lane, a: VReg, b: VReg) -> VReg {
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
        pub(super) fn $name(&mut self, a: VReg, b: VReg) -> VReg {
            let code = match self.isa {
                Isa::Avx512 => Code::$z,
                Isa::Avx2 => Code::$y,
            };
            self.binary_code(code, a, b)
        }
    };
}

impl Builder {
    /// A constant with the same number in every lane.
    pub(super) fn splat(&mut self, lane: Lane, value: u64) -> VReg {
        let bytes = &value.to_le_bytes()[..lane.bytes()];
        let vector = bytes.iter().copied().cycle().take(self.vector_bytes()).collect();
        self.constant(vector)
    }

    /// A constant with `f(lane index)` in each lane.
    pub(super) fn lanes_of(&mut self, lane: Lane, f: impl Fn(u64) -> u64) -> VReg {
        let count = self.vector_bytes() / lane.bytes();
        let bytes = (0..count as u64)
            .flat_map(|i| f(i).to_le_bytes().into_iter().take(lane.bytes()).collect::<Vec<_>>())
            .collect();
        self.constant(bytes)
    }

    /// A constant whose byte `i` is `f(i)`.
    pub(super) fn bytes_of(&mut self, f: impl Fn(usize) -> u8) -> VReg {
        let bytes = (0..self.vector_bytes()).map(f).collect();
        self.constant(bytes)
    }

    fn v(&self, reg: VReg) -> Opd {
        Opd::Reg(reg, self.full())
    }

    pub(super) fn binary_code(&mut self, code: Code, a: VReg, b: VReg) -> VReg {
        self.vector(code, &[self.v(a), self.v(b)])
    }

    /// An instruction of two operands whose order does not matter: a constant goes last, where it may be in memory.
    fn commutative(&mut self, code: Code, a: VReg, b: VReg) -> VReg {
        let swap = self.constant_bytes(a).is_some() || (self.constant_bytes(b).is_none() && a > b);
        let (a, b) = if swap { (b, a) } else { (a, b) };
        self.binary_code(code, a, b)
    }

    fn shift_code(&mut self, code: Code, a: VReg, count: u32) -> VReg {
        self.vector(code, &[self.v(a), Opd::Imm(count as u8)])
    }

    fn pick(&self, z: Code, y: Code) -> Code {
        match self.isa {
            Isa::Avx512 => z,
            Isa::Avx2 => y,
        }
    }

    // Bitwise.

    pub(super) fn and(&mut self, a: VReg, b: VReg) -> VReg {
        let code = self.pick(Code::EVEX_Vpandq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpand_ymm_ymm_ymmm256);
        self.commutative(code, a, b)
    }

    pub(super) fn or(&mut self, a: VReg, b: VReg) -> VReg {
        let code = self.pick(Code::EVEX_Vporq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpor_ymm_ymm_ymmm256);
        self.commutative(code, a, b)
    }

    pub(super) fn xor(&mut self, a: VReg, b: VReg) -> VReg {
        let code = self.pick(Code::EVEX_Vpxorq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpxor_ymm_ymm_ymmm256);
        self.commutative(code, a, b)
    }

    binary_bits!(and_not_first, EVEX_Vpandnq_zmm_k1z_zmm_zmmm512b64, VEX_Vpandn_ymm_ymm_ymmm256);

    pub(super) fn not(&mut self, a: VReg) -> VReg {
        let ones = self.splat(Lane::B, 0xff);
        self.xor(a, ones)
    }

    /// `a & mask` in every lane.
    pub(super) fn and_imm(&mut self, lane: Lane, a: VReg, mask: u64) -> VReg {
        let mask = self.splat(lane, mask);
        self.and(a, mask)
    }

    // Arithmetic.

    pub(super) fn add(&mut self, lane: Lane, a: VReg, b: VReg) -> VReg {
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

    pub(super) fn neg(&mut self, lane: Lane, a: VReg) -> VReg {
        let zero = self.splat(Lane::B, 0);
        self.sub(lane, zero, a)
    }

    /// Low half of the product.
    pub(super) fn mul(&mut self, lane: Lane, a: VReg, b: VReg) -> VReg {
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
    pub(super) fn mul_wide(&mut self, a: VReg, b: VReg) -> VReg {
        let code = self.pick(Code::EVEX_Vpmuludq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpmuludq_ymm_ymm_ymmm256);
        self.commutative(code, a, b)
    }

    // Shifts by a constant less than the lane's width.

    pub(super) fn shl(&mut self, lane: Lane, a: VReg, count: u32) -> VReg {
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

    pub(super) fn shr(&mut self, lane: Lane, a: VReg, count: u32) -> VReg {
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

    pub(super) fn sar(&mut self, lane: Lane, a: VReg, count: u32) -> VReg {
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

    pub(super) fn rotl(&mut self, lane: Lane, a: VReg, count: u32) -> VReg {
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

    pub(super) fn shl_by(&mut self, lane: Lane, a: VReg, count: VReg) -> VReg {
        match (lane, self.isa) {
            (Lane::D, _) => self.binary_code(
                self.pick(Code::EVEX_Vpsllvd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpsllvd_ymm_ymm_ymmm256),
                a,
                count,
            ),
            (Lane::Q, _) => self.binary_code(
                self.pick(Code::EVEX_Vpsllvq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpsllvq_ymm_ymm_ymmm256),
                a,
                count,
            ),
            (Lane::W, Isa::Avx512) => self.binary_code(Code::EVEX_Vpsllvw_zmm_k1z_zmm_zmmm512, a, count),
            _ => self.by_halves(lane, a, count, Builder::shl_by),
        }
    }

    pub(super) fn shr_by(&mut self, lane: Lane, a: VReg, count: VReg) -> VReg {
        match (lane, self.isa) {
            (Lane::D, _) => self.binary_code(
                self.pick(Code::EVEX_Vpsrlvd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpsrlvd_ymm_ymm_ymmm256),
                a,
                count,
            ),
            (Lane::Q, _) => self.binary_code(
                self.pick(Code::EVEX_Vpsrlvq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpsrlvq_ymm_ymm_ymmm256),
                a,
                count,
            ),
            (Lane::W, Isa::Avx512) => self.binary_code(Code::EVEX_Vpsrlvw_zmm_k1z_zmm_zmmm512, a, count),
            _ => self.by_halves(lane, a, count, Builder::shr_by),
        }
    }

    pub(super) fn sar_by(&mut self, lane: Lane, a: VReg, count: VReg) -> VReg {
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

    pub(super) fn rotl_by(&mut self, lane: Lane, a: VReg, count: VReg) -> VReg {
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

    // Minimum, maximum, comparisons, choices.

    pub(super) fn min_max(&mut self, lane: Lane, signed: bool, max: bool, a: VReg, b: VReg) -> VReg {
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

    pub(super) fn compare(&mut self, lane: Lane, cmp: Cmp, a: VReg, b: VReg) -> VReg {
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
                self.mask(code, &[self.v(a), self.v(b), Opd::Imm(predicate)])
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
    pub(super) fn select(&mut self, lane: Lane, cond: VReg, then: VReg, otherwise: VReg) -> VReg {
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

    pub(super) fn cond_and(&mut self, a: VReg, b: VReg) -> VReg {
        match self.isa {
            Isa::Avx512 => self.mask_code(Code::VEX_Kandq_kr_kr_kr, a, b),
            Isa::Avx2 => self.and(a, b),
        }
    }

    pub(super) fn cond_or(&mut self, a: VReg, b: VReg) -> VReg {
        match self.isa {
            Isa::Avx512 => self.mask_code(Code::VEX_Korq_kr_kr_kr, a, b),
            Isa::Avx2 => self.or(a, b),
        }
    }

    pub(super) fn cond_xor(&mut self, a: VReg, b: VReg) -> VReg {
        match self.isa {
            Isa::Avx512 => self.mask_code(Code::VEX_Kxorq_kr_kr_kr, a, b),
            Isa::Avx2 => self.xor(a, b),
        }
    }

    pub(super) fn cond_not(&mut self, a: VReg) -> VReg {
        match self.isa {
            Isa::Avx512 => self.mask(Code::VEX_Knotq_kr_kr, &[Opd::Reg(a, Width::K)]),
            Isa::Avx2 => self.not(a),
        }
    }

    fn mask_code(&mut self, code: Code, a: VReg, b: VReg) -> VReg {
        self.mask(code, &[Opd::Reg(a, Width::K), Opd::Reg(b, Width::K)])
    }

    /// A condition that is the same in every lane.
    pub(super) fn cond_constant(&mut self, value: bool) -> VReg {
        match self.isa {
            Isa::Avx512 => {
                // The operands say nothing (`x xor x`): any mask register would do, and k0 is never allocated.
                let code = if value { Code::VEX_Kxnorq_kr_kr_kr } else { Code::VEX_Kxorq_kr_kr_kr };
                let k0 = Opd::Gpr(iced_x86::Register::K0);
                self.mask(code, &[k0, k0])
            }
            Isa::Avx2 => self.splat(Lane::B, if value { 0xff } else { 0 }),
        }
    }

    /// All ones in the lanes where the condition holds, zeros elsewhere.
    pub(super) fn cond_vector(&mut self, lane: Lane, cond: VReg) -> VReg {
        match self.isa {
            Isa::Avx512 => {
                let code = [
                    Code::EVEX_Vpmovm2b_zmm_kr,
                    Code::EVEX_Vpmovm2w_zmm_kr,
                    Code::EVEX_Vpmovm2d_zmm_kr,
                    Code::EVEX_Vpmovm2q_zmm_kr,
                ][lane as usize];
                self.vector(code, &[Opd::Reg(cond, Width::K)])
            }
            Isa::Avx2 => cond,
        }
    }

    // Bytes and bits within a lane.

    pub(super) fn shuffle_bytes(&mut self, a: VReg, control: VReg) -> VReg {
        let code = self.pick(Code::EVEX_Vpshufb_zmm_k1z_zmm_zmmm512, Code::VEX_Vpshufb_ymm_ymm_ymmm256);
        self.binary_code(code, a, control)
    }

    pub(super) fn bswap(&mut self, lane: Lane, a: VReg) -> VReg {
        if lane == Lane::B {
            return a;
        }
        if let Some(original) = self.swap_of(lane.bytes(), a) {
            return original;
        }
        if let Some(bytes) = self.constant_bytes(a) {
            let swapped = bytes.chunks(lane.bytes()).flat_map(|c| c.iter().rev().copied()).collect();
            return self.constant(swapped);
        }
        let control = self.bytes_of(|i| ((i % 16) ^ (lane.bytes() - 1)) as u8);
        let result = self.shuffle_bytes(a, control);
        self.note_swap(lane.bytes(), result, a);
        result
    }

    pub(super) fn bitrev(&mut self, lane: Lane, a: VReg) -> VReg {
        let in_bytes = if self.features.has(Features::GFNI) {
            let matrix = self.splat(Lane::Q, 0x8040_2010_0804_0201);
            let code = self.pick(
                Code::EVEX_Vgf2p8affineqb_zmm_k1z_zmm_zmmm512b64_imm8,
                Code::VEX_Vgf2p8affineqb_ymm_ymm_ymmm256_imm8,
            );
            self.vector(code, &[self.v(a), self.v(matrix), Opd::Imm(0)])
        } else {
            let low = self.bytes_of(|i| (i as u8 & 15).reverse_bits());
            let high = self.bytes_of(|i| (i as u8 & 15).reverse_bits() >> 4);
            let (low, high) = self.nibbles(a, low, high);
            self.or(low, high)
        };
        self.bswap(lane, in_bytes)
    }

    /// Looks up the low nibble of each byte in `low` and the high one in `high`.
    fn nibbles(&mut self, a: VReg, low: VReg, high: VReg) -> (VReg, VReg) {
        let low_nibble = self.and_imm(Lane::B, a, 0x0f);
        let high_nibble = self.shr(Lane::W, a, 4);
        let high_nibble = self.and_imm(Lane::B, high_nibble, 0x0f);
        (self.shuffle_bytes(low, low_nibble), self.shuffle_bytes(high, high_nibble))
    }

    pub(super) fn popcnt(&mut self, lane: Lane, a: VReg) -> VReg {
        let has = match lane {
            Lane::B | Lane::W => self.features.has(Features::BITALG),
            Lane::D | Lane::Q => self.features.has(Features::VPOPCNTDQ),
        };
        if self.isa == Isa::Avx512 && has {
            let code = [
                Code::EVEX_Vpopcntb_zmm_k1z_zmmm512,
                Code::EVEX_Vpopcntw_zmm_k1z_zmmm512,
                Code::EVEX_Vpopcntd_zmm_k1z_zmmm512b32,
                Code::EVEX_Vpopcntq_zmm_k1z_zmmm512b64,
            ][lane as usize];
            return self.vector(code, &[self.v(a)]);
        }
        let counts = self.bytes_of(|i| (i as u8 & 15).count_ones() as u8);
        let (low, high) = self.nibbles(a, counts, counts);
        let bytes = self.add(Lane::B, low, high);
        match lane {
            Lane::B => bytes,
            Lane::W => self.add_byte_pairs(bytes),
            Lane::D => {
                let words = self.add_byte_pairs(bytes);
                let ones = self.splat(Lane::W, 1);
                let code =
                    self.pick(Code::EVEX_Vpmaddwd_zmm_k1z_zmm_zmmm512, Code::VEX_Vpmaddwd_ymm_ymm_ymmm256);
                self.binary_code(code, words, ones)
            }
            Lane::Q => self.sum_bytes(bytes),
        }
    }

    fn add_byte_pairs(&mut self, bytes: VReg) -> VReg {
        let ones = self.splat(Lane::B, 1);
        let code = self.pick(Code::EVEX_Vpmaddubsw_zmm_k1z_zmm_zmmm512, Code::VEX_Vpmaddubsw_ymm_ymm_ymmm256);
        self.binary_code(code, bytes, ones)
    }

    /// The sum of the eight bytes of each 64-bit lane.
    pub(super) fn sum_bytes(&mut self, bytes: VReg) -> VReg {
        let zero = self.splat(Lane::B, 0);
        let code = self.pick(Code::EVEX_Vpsadbw_zmm_zmm_zmmm512, Code::VEX_Vpsadbw_ymm_ymm_ymmm256);
        self.binary_code(code, bytes, zero)
    }

    pub(super) fn clz(&mut self, lane: Lane, a: VReg) -> VReg {
        match (lane, self.isa) {
            (Lane::D, Isa::Avx512) => self.vector(Code::EVEX_Vplzcntd_zmm_k1z_zmmm512b32, &[self.v(a)]),
            (Lane::Q, Isa::Avx512) => self.vector(Code::EVEX_Vplzcntq_zmm_k1z_zmmm512b64, &[self.v(a)]),
            _ => {
                // Every bit below the highest one becomes one; what stays zero is leading.
                let mut smeared = a;
                let mut step = 1;
                while step < lane.bits() {
                    let down = self.shr(lane, smeared, step);
                    smeared = self.or(smeared, down);
                    step *= 2;
                }
                let leading = self.not(smeared);
                self.popcnt(lane, leading)
            }
        }
    }

    pub(super) fn ctz(&mut self, lane: Lane, a: VReg) -> VReg {
        let ones = self.splat(Lane::B, 0xff);
        let below = self.add(lane, a, ones);
        let trailing = self.and_not_first(a, below);
        self.popcnt(lane, trailing)
    }

    /// One's complement addition: the carry out is added back in.
    pub(super) fn addc(&mut self, lane: Lane, a: VReg, b: VReg) -> VReg {
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
    pub(super) fn clmul(&mut self, lane: Lane, high: bool, a: VReg, b: VReg) -> Option<VReg> {
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
            let even = self.vector(code, &[self.v(a), self.v(b), Opd::Imm(0x00)]);
            let odd = self.vector(code, &[self.v(a), self.v(b), Opd::Imm(0x11)]);
            let code = if high {
                self.pick(
                    Code::EVEX_Vpunpckhqdq_zmm_k1z_zmm_zmmm512b64,
                    Code::VEX_Vpunpckhqdq_ymm_ymm_ymmm256,
                )
            } else {
                self.pick(
                    Code::EVEX_Vpunpcklqdq_zmm_k1z_zmm_zmmm512b64,
                    Code::VEX_Vpunpcklqdq_ymm_ymm_ymmm256,
                )
            };
            return Some(self.binary_code(code, even, odd));
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

    // Between lane widths.

    /// Lanes of `from` as lanes of `to`, wider: one vector becomes several, in the order of the lanes.
    pub(super) fn widen(&mut self, signed: bool, from: Lane, to: Lane, a: VReg) -> Vec<VReg> {
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
                self.vector(code, &[Opd::Reg(source, width)])
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
                &[Opd::Reg(a, full), Opd::Imm(1)],
            );
            return (upper, Width::Y);
        }
        let quarter = at / 16;
        let low = if quarter == 0 {
            a
        } else {
            let code = self
                .pick(Code::EVEX_Vextracti32x4_xmmm128_k1z_zmm_imm8, Code::VEX_Vextracti128_xmmm128_ymm_imm8);
            self.vector_of(Width::X, code, &[Opd::Reg(a, full), Opd::Imm(quarter as u8)])
        };
        let within = at % 16 / 4;
        if within == 0 {
            return (low, Width::X);
        }
        let code = self.pick(Code::EVEX_Vpshufd_xmm_k1z_xmmm128b32_imm8, Code::VEX_Vpshufd_xmm_xmmm128_imm8);
        // Double words `within` and `within + 1` to the bottom.
        let imm = (within | ((within + 1) & 3) << 2) as u8;
        (self.vector_of(Width::X, code, &[Opd::Reg(low, Width::X), Opd::Imm(imm)]), Width::X)
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
                    &[self.v(low), Opd::Reg(high, Width::Y), Opd::Imm(1)],
                )
            }
            (Isa::Avx2, _) => {
                let mixed = match from {
                    Lane::Q => self.vector(
                        Code::VEX_Vshufps_ymm_ymm_ymmm256_imm8,
                        &[self.v(a), self.v(b), Opd::Imm(0x88)],
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
                self.vector(Code::VEX_Vpermq_ymm_ymmm256_imm8, &[self.v(mixed), Opd::Imm(0xd8)])
            }
        }
    }

    /// Lanes of `from` cut to lanes of `to`, narrower: several vectors become fewer.
    pub(super) fn narrow(&mut self, from: Lane, to: Lane, parts: &[VReg]) -> Vec<VReg> {
        let mut parts = parts.to_vec();
        let mut lane = from;
        while lane > to {
            parts = parts.chunks(2).map(|pair| self.narrow_pair(lane, pair[0], pair[1])).collect();
            lane = Lane::of_bytes(lane.bytes() / 2);
        }
        parts
    }

    /// A condition on lanes of `from` as conditions on lanes of `to`, wider.
    pub(super) fn split_cond(&mut self, from: Lane, to: Lane, cond: VReg) -> Vec<VReg> {
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
                        let srcs = [Opd::Reg(cond, Width::K), Opd::Imm((part * lanes) as u8)];
                        self.mask(Code::VEX_Kshiftrq_kr_kr_imm8, &srcs)
                    })
                    .collect()
            }
            Isa::Avx2 => self.widen(true, from, to, cond),
        }
    }

    /// The inverse of [`Builder::split_cond`].
    pub(super) fn join_cond(&mut self, from: Lane, to: Lane, parts: &[VReg]) -> VReg {
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

    // Whole vectors, for the end of the function.

    /// Every lane moved by `distance` bytes (half of the vector, a quarter, ... one), two ways at once: what a reduction
    /// combines the vector with.
    pub(super) fn exchange(&mut self, a: VReg, distance: usize) -> VReg {
        let v = self.v(a);
        match (self.isa, distance) {
            (_, 32) => {
                self.vector(Code::EVEX_Vshufi64x2_zmm_k1z_zmm_zmmm512b64_imm8, &[v, v, Opd::Imm(0x4e)])
            }
            (Isa::Avx512, 16) => {
                self.vector(Code::EVEX_Vshufi64x2_zmm_k1z_zmm_zmmm512b64_imm8, &[v, v, Opd::Imm(0xb1)])
            }
            (Isa::Avx2, 16) => self.vector(Code::VEX_Vpermq_ymm_ymmm256_imm8, &[v, Opd::Imm(0x4e)]),
            (_, 8 | 4) => {
                let code =
                    self.pick(Code::EVEX_Vpshufd_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpshufd_ymm_ymmm256_imm8);
                self.vector(code, &[v, Opd::Imm(if distance == 8 { 0x4e } else { 0xb1 })])
            }
            (_, 2) => {
                let left = self.shl(Lane::D, a, 16);
                let right = self.shr(Lane::D, a, 16);
                self.or(left, right)
            }
            (_, _) => {
                let left = self.shl(Lane::W, a, 8);
                let right = self.shr(Lane::W, a, 8);
                self.or(left, right)
            }
        }
    }

    /// All-ones masks for a gather: it clears the register that it is given.
    pub(super) fn gather_mask(&mut self) -> VReg {
        match self.isa {
            Isa::Avx512 => {
                let k0 = Opd::Gpr(iced_x86::Register::K0);
                self.fresh(Kind::Mask, Width::K, Code::VEX_Kxnorq_kr_kr_kr, &[k0, k0])
            }
            Isa::Avx2 => {
                let zero = self.splat(Lane::B, 0);
                let zero = self.v(zero);
                self.fresh(Kind::Vector, Width::Y, Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, &[zero, zero])
            }
        }
    }
}
