//! CRCs of any width up to 64 bits by carry-less multiplication, in the same loop as everything else.
//!
//! The accumulators of the unrolled loop, 128-bit lane by lane, hold a polynomial that is congruent to the message so far
//! modulo the CRC's polynomial; the imported state is part of it from the start (times `x^-n`, so that no first block
//! has to be told apart). A turn multiplies every lane by a power of `x`, modulo P, and adds the new bytes. The rest is
//! moved to the end of a vector of zeros and added after a multiplication by `x^(8 rest)` from a table. At the end the
//! lanes are brought together and `R x^n mod P` is the new state (Barrett's reduction with polynomials).
//!
//! In a reflected CRC bit 0 of byte 0 has the highest degree: a 128-bit lane as loaded has bit `i` for `x^(127 - i)`, and a
//! product of two 64-bit numbers comes out one degree too low, which the constants make good. For the other kind the
//! bytes of each lane are reversed, and bit `i` is `x^i`.

use iced_x86::{Code, Register};

use super::asm;
use super::frame::STATES;
use super::gf2::Crc;
use super::isa::{Features, Isa};
use super::vcode::{Builder, Kind, Mem, Opd, VReg, Width};

/// Start of the scratch area below the stack pointer, in bytes.
const SCRATCH: i32 = -128;

/// The accumulators of one CRC state.
pub(super) struct CrcLanes {
    crc: Crc,
    acc: Vec<VReg>,
    /// The CRC is the one with an instruction of its own.
    castagnoli: bool,
}

impl CrcLanes {
    /// Takes registers and imports the state.
    pub(super) fn new(b: &mut Builder, crc: Crc, slots: usize, slot: i32) -> Result<CrcLanes, String> {
        let able = match b.isa {
            Isa::Avx512 => b.features.has(Features::VPCLMUL),
            Isa::Avx2 => b.features.has(Features::PCLMUL),
        };
        if !able {
            return Err("a CRC without carry-less multiplication".into());
        }
        let acc: Vec<VReg> = (0..slots).map(|_| b.pinned_vector()).collect();
        let lanes =
            CrcLanes { crc, acc, castagnoli: crc == Crc { bits: 32, poly: 0x1edc_6f41, reflected: true } };
        // The state times x^-n, in the last lane.
        let inverse = if crc.reflected { lanes.constant(-65) } else { lanes.constant(-i64::from(crc.bits)) };
        b.raw(asm::rm(Code::Mov_r64_rm64, Register::RAX, STATES, Register::None, slot));
        let state = from_rax(b);
        let factor = b.bytes_of(|i| inverse.to_le_bytes()[i % 8]);
        let product = b.vector_of(
            Width::X,
            match b.isa {
                Isa::Avx512 => Code::EVEX_Vpclmulqdq_xmm_xmm_xmmm128_imm8,
                Isa::Avx2 => Code::VEX_Vpclmulqdq_xmm_xmm_xmmm128_imm8,
            },
            &[Opd::Reg(state, Width::X), Opd::Reg(factor, Width::X), Opd::Imm(0)],
        );
        let full = b.full();
        let (code, srcs) = match b.isa {
            // Lane 3 from lane 0, the others from lane 1, which is zero.
            Isa::Avx512 => (
                Code::EVEX_Vshufi64x2_zmm_k1z_zmm_zmmm512b64_imm8,
                vec![Opd::Reg(product, full), Opd::Reg(product, full), Opd::Imm(0x15)],
            ),
            Isa::Avx2 => (Code::VEX_Vpermq_ymm_ymmm256_imm8, vec![Opd::Reg(product, full), Opd::Imm(0x4e)]),
        };
        let placed = b.vector(code, &srcs);
        b.assign(lanes.acc[0], placed);
        Ok(lanes)
    }

    /// `x^exponent` as a 64-bit factor: reflected if the CRC is.
    fn constant(&self, exponent: i64) -> u64 {
        let power = self.crc.power(exponent);
        if self.crc.reflected { power.reverse_bits() } else { power }
    }

    /// The factors of the lower and upper half of a lane that move it by `bits`.
    fn factors(&self, bits: i64) -> [u64; 2] {
        if self.crc.reflected {
            [self.constant(bits + 63), self.constant(bits - 1)]
        } else {
            [self.constant(bits), self.constant(bits + 64)]
        }
    }

    fn factor_vector(&self, b: &mut Builder, bits: i64) -> VReg {
        let [low, high] = self.factors(bits);
        b.bytes_of(|i| if i % 16 < 8 { low.to_le_bytes()[i % 8] } else { high.to_le_bytes()[i % 8] })
    }

    /// In front of the unrolled loop: what was imported belongs to the last slot.
    pub(super) fn enter(&self, b: &mut Builder) {
        let Some(last) = self.acc[1..].last() else { return };
        b.assign(*last, self.acc[0]);
        let zero = b.splat(super::lanes::Lane::B, 0);
        for acc in &self.acc[..self.acc.len() - 1] {
            b.assign(*acc, zero);
        }
    }

    /// Behind it: all slots in the first one.
    pub(super) fn leave(&self, b: &mut Builder) {
        let vector_bits = b.vector_bytes() as i64 * 8;
        let mut sum = *self.acc.last().unwrap_or(&self.acc[0]);
        for (slot, acc) in self.acc.iter().enumerate().take(self.acc.len() - 1) {
            let factor = self.factor_vector(b, vector_bits * (self.acc.len() - 1 - slot) as i64);
            let (even, odd) = products(b, *acc, factor);
            let moved = b.xor(even, odd);
            sum = b.xor(sum, moved);
        }
        b.assign(self.acc[0], sum);
    }

    /// Takes the bytes of one vector, in the order of the stream, into a slot; `distance` is the number of vectors from
    /// one turn to the next.
    pub(super) fn add(&self, b: &mut Builder, slot: usize, distance: usize, bytes: VReg) {
        let factor = self.factor_vector(b, (b.vector_bytes() * 8 * distance) as i64);
        let bytes = self.oriented(b, bytes);
        self.step(b, slot, factor, bytes);
    }

    /// Takes the first r11 bytes of a vector (rounded: rax).
    pub(super) fn add_rest(&self, b: &mut Builder, bytes: VReg) {
        let vector = b.vector_bytes() as i32;
        let full = b.full();
        let (store, load) = match b.isa {
            Isa::Avx512 => (Code::EVEX_Vmovdqu64_zmmm512_k1z_zmm, Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512),
            Isa::Avx2 => (Code::VEX_Vmovdqu_ymmm256_ymm, Code::VEX_Vmovdqu_ymm_ymmm256),
        };
        let at = |disp, index| Opd::Mem(Mem::Base { base: Register::RSP, index, scale: 1, disp });
        // Zeros in front: the bytes move to the end of the vector.
        let zero = b.splat(super::lanes::Lane::B, 0);
        b.push(store, &[at(SCRATCH, Register::None), Opd::Reg(zero, full)], None, None, None, false);
        b.push(
            store,
            &[at(SCRATCH + vector, Register::None), Opd::Reg(bytes, full)],
            None,
            None,
            None,
            false,
        );
        let moved = b.fresh(Kind::Vector, full, load, &[at(SCRATCH, Register::RAX)]);
        let moved = self.oriented(b, moved);
        let table = (0..vector as i64 + 1)
            .flat_map(|rest| self.factors(8 * rest))
            .flat_map(u64::to_le_bytes)
            .collect::<Vec<u8>>();
        let entry = b.table(table);
        b.raw(asm::ri(Code::Shl_rm32_imm8, Register::EAX, 4));
        let table = Opd::Mem(Mem::Pool { entry, disp: 0 });
        b.push(Code::Lea_r64_m, &[Opd::Gpr(Register::R9), table], None, None, None, false);
        let from = Mem::Base { base: Register::R9, index: Register::RAX, scale: 1, disp: 0 };
        let code = match b.isa {
            Isa::Avx512 => Code::EVEX_Vbroadcasti32x4_zmm_k1z_m128,
            Isa::Avx2 => Code::VEX_Vbroadcasti128_ymm_m128,
        };
        let factor = b.fresh(Kind::Vector, full, code, &[Opd::Mem(from)]);
        self.step(b, 0, factor, moved);
    }

    /// The bytes of each lane so that the products come out right.
    fn oriented(&self, b: &mut Builder, bytes: VReg) -> VReg {
        if self.crc.reflected {
            return bytes;
        }
        let reverse = b.bytes_of(|i| 15 - (i % 16) as u8);
        b.shuffle_bytes(bytes, reverse)
    }

    fn step(&self, b: &mut Builder, slot: usize, factor: VReg, bytes: VReg) {
        let acc = self.acc[slot];
        let (even, odd) = products(b, acc, factor);
        match b.isa {
            Isa::Avx512 => {
                b.assign(acc, odd);
                let operands = [
                    Opd::Reg(acc, Width::Z),
                    Opd::Reg(even, Width::Z),
                    Opd::Reg(bytes, Width::Z),
                    Opd::Imm(0x96),
                ];
                let code = Code::EVEX_Vpternlogq_zmm_k1z_zmm_zmmm512b64_imm8;
                b.push(code, &operands, Some(acc), Some(acc), None, false);
            }
            Isa::Avx2 => {
                let moved = b.xor(even, odd);
                let sum = b.xor(moved, bytes);
                b.assign(acc, sum);
            }
        }
    }

    /// Brings the lanes together and writes the state.
    pub(super) fn finish(&self, b: &mut Builder, slot: i32) {
        let lanes = b.vector_bytes() / 16;
        let factors: Vec<[u64; 2]> =
            (0..lanes).map(|lane| self.factors(128 * (lanes - 1 - lane) as i64)).collect();
        let factor = b.bytes_of(|i| {
            let lane = i / 16;
            if lane + 1 == lanes { 0 } else { factors[lane][i / 8 % 2].to_le_bytes()[i % 8] }
        });
        let (even, odd) = products(b, self.acc[0], factor);
        let moved = b.xor(even, odd);
        let last = b.bytes_of(|i| if i / 16 + 1 == lanes { 0xff } else { 0 });
        let last = b.and(self.acc[0], last);
        let mut all = b.xor(moved, last);
        let mut distance = b.vector_bytes() / 2;
        while distance >= 16 {
            let other = b.exchange(all, distance);
            all = b.xor(all, other);
            distance /= 2;
        }
        let (rax, r9, r11) = (Register::RAX, Register::R9, Register::R11);
        halves_to(b, all, rax, r9);
        if self.castagnoli {
            b.raw(asm::rr(Code::Xor_r32_rm32, Register::R11D, Register::R11D));
            b.raw(asm::rr(Code::Crc32_r64_rm64, r11, rax));
            b.raw(asm::rr(Code::Crc32_r64_rm64, r11, r9));
            b.raw(asm::mr(Code::Mov_rm64_r64, STATES, Register::None, slot, r11));
            return;
        }
        // H is the half of the higher degrees, L the other: T = L + floor(H K / x^64), q = T + floor(T mu / x^64),
        // and the result is (H K mod x^64) + (q P' mod x^64), all times x^(64 - n).
        let crc = self.crc;
        let orient = |value: u64| if crc.reflected { value.reverse_bits() } else { value };
        let k = orient(crc.power(64 + i64::from(crc.bits)) << (64 - crc.bits));
        let mu = orient(crc.barrett());
        let poly = orient(crc.poly << (64 - crc.bits));
        let (upper, lower) = if crc.reflected { (rax, r9) } else { (r9, rax) };
        // The source and the destination are done with.
        let (t, u) = (Register::RCX, Register::RDX);
        b.raw(asm::rr(Code::Mov_r64_rm64, t, lower));
        self.multiply(b, upper, k);
        // Upper half of the product in rax, lower half in r9.
        b.raw(asm::rr(Code::Mov_r64_rm64, u, r9));
        b.raw(asm::rr(Code::Xor_r64_rm64, t, rax));
        self.multiply(b, t, mu);
        b.raw(asm::rr(Code::Xor_r64_rm64, t, rax));
        self.multiply(b, t, poly);
        b.raw(asm::rr(Code::Xor_r64_rm64, r9, u));
        if !crc.reflected && crc.bits < 64 {
            b.raw(asm::ri(Code::Shr_rm64_imm8, r9, 64 - crc.bits as i32));
        }
        b.raw(asm::mr(Code::Mov_rm64_r64, STATES, Register::None, slot, r9));
    }

    /// `register * factor`: the coefficients of `x^64` and above in rax, the others in r9.
    fn multiply(&self, b: &mut Builder, register: Register, factor: u64) {
        let (rax, r9) = (Register::RAX, Register::R9);
        b.raw(asm::rr(Code::Mov_r64_rm64, rax, register));
        let a = from_rax(b);
        let factor = b.bytes_of(|i| factor.to_le_bytes()[i % 8]);
        let code = match b.isa {
            Isa::Avx512 => Code::EVEX_Vpclmulqdq_xmm_xmm_xmmm128_imm8,
            Isa::Avx2 => Code::VEX_Vpclmulqdq_xmm_xmm_xmmm128_imm8,
        };
        let srcs = [Opd::Reg(a, Width::X), Opd::Reg(factor, Width::X), Opd::Imm(0)];
        let product = b.vector_of(Width::X, code, &srcs);
        if self.crc.reflected {
            // One degree too low: shifted by one bit, the lower half is that of the higher degrees.
            halves_to(b, product, rax, r9);
            b.raw(asm::rr(Code::Add_r64_rm64, rax, rax));
            b.raw(asm::rr(Code::Adc_r64_rm64, r9, r9));
        } else {
            halves_to(b, product, r9, rax);
        }
    }
}

/// The 128-bit products of the lower and of the upper halves of the lanes.
fn products(b: &mut Builder, a: VReg, factor: VReg) -> (VReg, VReg) {
    let full = b.full();
    let wide = match b.isa {
        Isa::Avx512 => Some(Code::EVEX_Vpclmulqdq_zmm_zmm_zmmm512_imm8),
        Isa::Avx2 => b.features.has(Features::VPCLMUL).then_some(Code::VEX_Vpclmulqdq_ymm_ymm_ymmm256_imm8),
    };
    let product = |b: &mut Builder, imm: u8| match wide {
        Some(code) => b.vector(code, &[Opd::Reg(a, full), Opd::Reg(factor, full), Opd::Imm(imm)]),
        None => {
            // 128 bits at a time.
            let code = Code::VEX_Vpclmulqdq_xmm_xmm_xmmm128_imm8;
            let x = |reg| Opd::Reg(reg, Width::X);
            let low = b.vector_of(Width::X, code, &[x(a), x(factor), Opd::Imm(imm)]);
            let extract = Code::VEX_Vextracti128_xmmm128_ymm_imm8;
            let a_high = b.vector_of(Width::X, extract, &[Opd::Reg(a, full), Opd::Imm(1)]);
            let factor_high = b.vector_of(Width::X, extract, &[Opd::Reg(factor, full), Opd::Imm(1)]);
            let high = b.vector_of(Width::X, code, &[x(a_high), x(factor_high), Opd::Imm(imm)]);
            let insert = Code::VEX_Vinserti128_ymm_ymm_xmmm128_imm8;
            b.vector(insert, &[Opd::Reg(low, full), x(high), Opd::Imm(1)])
        }
    };
    let even = product(b, 0x00);
    let odd = product(b, 0x11);
    (even, odd)
}

fn from_rax(b: &mut Builder) -> VReg {
    let code = match b.isa {
        Isa::Avx512 => Code::EVEX_Vmovq_xmm_rm64,
        Isa::Avx2 => Code::VEX_Vmovq_xmm_rm64,
    };
    b.fresh(Kind::Vector, Width::X, code, &[Opd::Gpr(Register::RAX)])
}

/// The two halves of the lowest lane to general registers.
fn halves_to(b: &mut Builder, vector: VReg, low: Register, high: Register) {
    let (mov, extract) = match b.isa {
        Isa::Avx512 => (Code::EVEX_Vmovq_rm64_xmm, Code::EVEX_Vpextrq_rm64_xmm_imm8),
        Isa::Avx2 => (Code::VEX_Vmovq_rm64_xmm, Code::VEX_Vpextrq_rm64_xmm_imm8),
    };
    let vector = Opd::Reg(vector, Width::X);
    b.push(extract, &[Opd::Gpr(high), vector, Opd::Imm(1)], None, None, None, false);
    b.push(mov, &[Opd::Gpr(low), vector], None, None, None, false);
}
