//! Sums of words and sums of those sums, modulo a constant: Adler-32, Fletcher's checksums and their kin.
//!
//! For words `x_1 .. x_n` the two states become `a + sum x_i` and `b + n a + sum (n - i + 1) x_i`. The loop keeps, in
//! 64-bit lanes, the sum S of the words and the sum P of what S was before each turn, and the weighted sums W within a
//! turn; all are exact, so the modulus comes in once, at the end. How long a call may be so that nothing overflows
//! is [`longest_call`].

use crate::ir::{Tail, Ty};
use iced_x86::{Code, Register};

use super::asm;
use super::frame::STATES;
use super::isa::Isa;
use super::lanes::Lane;
use super::vcode::{Builder, Kind, Mem, Opd, VReg, Width};

/// Start of the scratch area below the stack pointer, in bytes.
const SCRATCH: i32 = -128;

/// Registers of a pair of sums, or of one.
pub(super) struct Sums {
    word: Lane,
    ty: Ty,
    /// 0 for two to the power of the type's width.
    modulus: u64,
    tail: Tail,
    /// Whether there is a sum of sums.
    second: bool,
    /// A set for each slot.
    slots: Vec<Slot>,
    /// What the main loop and the rest contribute to the sum of sums, in 64-bit lanes.
    settled: VReg,
}

#[derive(Clone, Copy)]
struct Slot {
    sum: VReg,
    prefix: VReg,
    weighted: VReg,
}

/// Bytes of a call in which no lane overflows, for words of that lane.
pub(super) fn longest_call(word: Lane) -> usize {
    match word {
        // Weighted sums in 32-bit lanes: at most 255 (64 + 63 + 62 + 61) a vector.
        Lane::B => 1 << 22,
        // At most 65535 (32 + 31) a vector.
        Lane::W => 1 << 16,
        // n^2 / 2 words of 32 bits in 64-bit numbers.
        _ => 1 << 17,
    }
}

impl Sums {
    pub(super) fn new(
        b: &mut Builder,
        word: Lane,
        ty: Ty,
        modulus: u64,
        second: bool,
        tail: Tail,
        slots: usize,
    ) -> Sums {
        let mut pinned = |wanted: bool, other: Option<VReg>| match other {
            Some(other) if !wanted => other,
            _ => b.pinned_vector(),
        };
        let slots: Vec<Slot> = (0..slots)
            .map(|_| {
                let sum = pinned(true, None);
                Slot { sum, prefix: pinned(second, Some(sum)), weighted: pinned(second, Some(sum)) }
            })
            .collect();
        let settled = pinned(second, Some(slots[0].sum));
        let zero = b.splat(Lane::B, 0);
        for slot in &slots {
            [slot.sum, slot.prefix, slot.weighted].into_iter().for_each(|register| b.assign(register, zero));
        }
        b.assign(settled, zero);
        Sums { word, ty, modulus, tail, second, slots, settled }
    }

    fn lanes(&self, b: &Builder) -> u64 {
        (b.vector_bytes() / self.word.bytes()) as u64
    }

    /// Takes the words of one vector.
    pub(super) fn add(&self, b: &mut Builder, slot: usize, words: VReg) {
        let slot = self.slots[slot];
        if self.second {
            let next = b.add(Lane::Q, slot.prefix, slot.sum);
            b.assign(slot.prefix, next);
        }
        self.add_words(b, slot, words);
    }

    fn add_words(&self, b: &mut Builder, slot: Slot, words: VReg) {
        let sums = self.sums(b, words);
        let next = b.add(Lane::Q, slot.sum, sums);
        b.assign(slot.sum, next);
        if self.second {
            let weighted = self.weighted(b, words);
            let lane = self.weighted_lane();
            let next = b.add(lane, slot.weighted, weighted);
            b.assign(slot.weighted, next);
        }
    }

    /// Sums of neighbouring words in 64-bit lanes.
    fn sums(&self, b: &mut Builder, words: VReg) -> VReg {
        match self.word {
            Lane::B => b.sum_bytes(words),
            Lane::W => {
                let low = b.and_imm(Lane::D, words, 0xffff);
                let high = b.shr(Lane::D, words, 16);
                let pairs = b.add(Lane::D, low, high);
                halves_added(b, pairs)
            }
            _ => halves_added(b, words),
        }
    }

    fn weighted_lane(&self) -> Lane {
        if self.word == Lane::D { Lane::Q } else { Lane::D }
    }

    /// Neighbouring words times their weights, the first word's being the number of words in a vector, added.
    fn weighted(&self, b: &mut Builder, words: VReg) -> VReg {
        let lanes = self.lanes(b);
        let maddwd = match b.isa {
            Isa::Avx512 => Code::EVEX_Vpmaddwd_zmm_k1z_zmm_zmmm512,
            Isa::Avx2 => Code::VEX_Vpmaddwd_ymm_ymm_ymmm256,
        };
        match self.word {
            Lane::B => {
                let weights = b.lanes_of(Lane::B, |i| lanes - i);
                let code = match b.isa {
                    Isa::Avx512 => Code::EVEX_Vpmaddubsw_zmm_k1z_zmm_zmmm512,
                    Isa::Avx2 => Code::VEX_Vpmaddubsw_ymm_ymm_ymmm256,
                };
                let pairs = b.binary_code(code, words, weights);
                let ones = b.splat(Lane::W, 1);
                b.binary_code(maddwd, pairs, ones)
            }
            Lane::W => {
                // The instruction takes signed words: shifted down by 2^15, and made good afterwards.
                let weights = b.lanes_of(Lane::W, |i| lanes - i);
                let sign = b.splat(Lane::W, 0x8000);
                let signed = b.xor(words, sign);
                let pairs = b.binary_code(maddwd, signed, weights);
                let lost = b.lanes_of(Lane::D, |i| 0x8000 * ((lanes - 2 * i) + (lanes - 2 * i - 1)));
                b.add(Lane::D, pairs, lost)
            }
            _ => {
                let even = b.lanes_of(Lane::Q, |i| lanes - 2 * i);
                let odd = b.lanes_of(Lane::Q, |i| lanes - 2 * i - 1);
                let even = b.mul_wide(words, even);
                let high = b.shr(Lane::Q, words, 32);
                let odd = b.mul_wide(high, odd);
                b.add(Lane::Q, even, odd)
            }
        }
    }

    fn weighted_in_quads(&self, b: &mut Builder, weighted: VReg) -> VReg {
        if self.weighted_lane() == Lane::D { halves_added(b, weighted) } else { weighted }
    }

    /// Behind the unrolled loop: everything in the first slot.
    pub(super) fn leave(&self, b: &mut Builder) {
        let slots = self.slots.len() as u64;
        if self.second {
            let lanes = self.lanes(b);
            let mut settled = self.settled;
            for (index, slot) in self.slots.iter().enumerate() {
                let weighted = self.weighted_in_quads(b, slot.weighted);
                settled = b.add(Lane::Q, settled, weighted);
                let turns = b.shl(Lane::Q, slot.prefix, (slots * lanes).trailing_zeros());
                settled = b.add(Lane::Q, settled, turns);
                // The words of the later slots of a turn count once more for each.
                for _ in index as u64 + 1..slots {
                    let once = b.shl(Lane::Q, slot.sum, lanes.trailing_zeros());
                    settled = b.add(Lane::Q, settled, once);
                }
            }
            b.assign(self.settled, settled);
            let zero = b.splat(Lane::B, 0);
            b.assign(self.slots[0].prefix, zero);
            b.assign(self.slots[0].weighted, zero);
        }
        let mut sum = self.slots[0].sum;
        for slot in &self.slots[1..] {
            sum = b.add(Lane::Q, sum, slot.sum);
        }
        b.assign(self.slots[0].sum, sum);
    }

    /// Takes the words in the first rax bytes of a vector.
    pub(super) fn add_rest(&self, b: &mut Builder, words: VReg) {
        let vector = b.vector_bytes() as i32;
        let full = b.full();
        let (store, load) = match b.isa {
            Isa::Avx512 => (Code::EVEX_Vmovdqu64_zmmm512_k1z_zmm, Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512),
            Isa::Avx2 => (Code::VEX_Vmovdqu_ymmm256_ymm, Code::VEX_Vmovdqu_ymm_ymmm256),
        };
        // Zeros in front: the last word has the weight one.
        let at = |disp, index| Opd::Mem(Mem::Base { base: Register::RSP, index, scale: 1, disp });
        let zero = b.splat(Lane::B, 0);
        b.push(store, &[at(SCRATCH, Register::None), Opd::Reg(zero, full)], None, None, None, false);
        b.push(
            store,
            &[at(SCRATCH + vector, Register::None), Opd::Reg(words, full)],
            None,
            None,
            None,
            false,
        );
        let moved = b.fresh(Kind::Vector, full, load, &[at(SCRATCH, Register::RAX)]);
        let slot = self.slots[0];
        if self.second {
            b.raw(asm::ri(Code::Shr_rm32_imm8, Register::EAX, self.word.bytes().trailing_zeros() as i32));
            let count = match b.isa {
                Isa::Avx512 => {
                    let rax = Opd::Gpr(Register::RAX);
                    b.fresh(Kind::Vector, full, Code::EVEX_Vpbroadcastq_zmm_k1z_r64, &[rax])
                }
                Isa::Avx2 => {
                    let rax = Opd::Gpr(Register::RAX);
                    let low = b.fresh(Kind::Vector, Width::X, Code::VEX_Vmovq_xmm_rm64, &[rax]);
                    b.vector(Code::VEX_Vpbroadcastq_ymm_xmmm64, &[Opd::Reg(low, Width::X)])
                }
            };
            let before = b.mul(Lane::Q, slot.sum, count);
            let next = b.add(Lane::Q, self.settled, before);
            b.assign(self.settled, next);
        }
        self.add_words(b, slot, moved);
    }

    /// Writes the sum to `[states + first]`, the sum of sums to `[states + other]`.
    pub(super) fn finish(&self, b: &mut Builder, first: i32, other: i32) {
        let (rax, r9, r11) = (Register::RAX, Register::R9, Register::R11);
        let (rcx, rdx, len) = (Register::RCX, Register::RDX, Register::R8);
        // r11: the number of words.
        let shift = self.word.bytes().trailing_zeros() as i32;
        let round =
            if matches!(self.tail, Tail::Zero | Tail::Partial) { self.word.bytes() as i32 - 1 } else { 0 };
        b.raw(asm::rm(Code::Lea_r64_m, r11, len, Register::None, round));
        if shift > 0 {
            b.raw(asm::ri(Code::Shr_rm64_imm8, r11, shift));
        }
        let none = b.new_label();
        if self.modulus != 0 {
            // Without a word nothing is reduced either.
            b.raw(asm::rr(Code::Test_rm64_r64, r11, r11));
            b.jump(Code::Je_rel32_64, none);
            b.raw(asm::mov_imm(r9, self.modulus));
        }
        // What is in rax, modulo r9, comes out in rdx.
        let reduce = |b: &mut Builder| {
            if self.modulus == 0 {
                b.raw(asm::rr(Code::Mov_r64_rm64, rdx, rax));
            } else {
                b.raw(asm::rr(Code::Xor_r32_rm32, Register::EDX, Register::EDX));
                b.raw(asm::r(Code::Div_rm64, r9));
            }
        };
        let slot = self.slots[0];
        if self.second {
            b.raw(asm::rm(Code::Mov_r64_rm64, rax, STATES, Register::None, other));
            reduce(b);
            b.raw(asm::rr(Code::Mov_r64_rm64, rcx, rdx));
            b.raw(asm::rm(Code::Mov_r64_rm64, rax, STATES, Register::None, first));
            reduce(b);
            b.raw(asm::rr(Code::Imul_r64_rm64, r11, rdx));
            b.raw(asm::rr(Code::Add_r64_rm64, rcx, r11));
            let lanes = self.lanes(b);
            let weighted = self.weighted_in_quads(b, slot.weighted);
            let turns = b.shl(Lane::Q, slot.prefix, lanes.trailing_zeros());
            let all = b.add(Lane::Q, weighted, turns);
            let all = b.add(Lane::Q, all, self.settled);
            total(b, all, rax);
            b.raw(asm::rr(Code::Add_r64_rm64, rax, rcx));
            reduce(b);
            store(b, self.ty, other, rdx);
        }
        b.raw(asm::rm(Code::Mov_r64_rm64, rax, STATES, Register::None, first));
        reduce(b);
        b.raw(asm::rr(Code::Mov_r64_rm64, rcx, rdx));
        total(b, slot.sum, rax);
        b.raw(asm::rr(Code::Add_r64_rm64, rax, rcx));
        reduce(b);
        store(b, self.ty, first, rdx);
        b.bind(none);
    }
}

/// The two 32-bit halves of each 64-bit lane, added.
pub(super) fn halves_added(b: &mut Builder, a: VReg) -> VReg {
    let low = b.and_imm(Lane::Q, a, 0xffff_ffff);
    let high = b.shr(Lane::Q, a, 32);
    b.add(Lane::Q, low, high)
}

/// The sum of the 64-bit lanes.
fn total(b: &mut Builder, vector: VReg, register: Register) {
    let mut all = vector;
    let mut distance = b.vector_bytes() / 2;
    while distance >= 8 {
        let other = b.exchange(all, distance);
        all = b.add(Lane::Q, all, other);
        distance /= 2;
    }
    let code = match b.isa {
        Isa::Avx512 => Code::EVEX_Vmovq_rm64_xmm,
        Isa::Avx2 => Code::VEX_Vmovq_rm64_xmm,
    };
    b.push(code, &[Opd::Gpr(register), Opd::Reg(all, Width::X)], None, None, None, false);
}

/// Writes rdx, cut to the type.
fn store(b: &mut Builder, ty: Ty, slot: i32, rdx: Register) {
    let edx = Register::EDX;
    match ty {
        Ty::Bool | Ty::U8 => b.raw(asm::rr(Code::Movzx_r32_rm8, edx, Register::DL)),
        Ty::U16 => b.raw(asm::rr(Code::Movzx_r32_rm16, edx, Register::DX)),
        Ty::U32 => b.raw(asm::rr(Code::Mov_r32_rm32, edx, edx)),
        Ty::U64 => {}
    }
    b.raw(asm::mr(Code::Mov_rm64_r64, STATES, Register::None, slot, rdx));
}
