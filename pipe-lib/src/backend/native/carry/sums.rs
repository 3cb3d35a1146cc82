//! Sums of words and sums of those sums, modulo a constant: Adler-32, Fletcher's checksums and their kin.
//!
//! `a += x; b += a`. After words `x_1 .. x_n` with the sum S the states are `a + S` and
//! `b + n a + sum (n - i) x_i + S`, without that last S where `b` takes `a` before the word. In pseudo-code,
//! for iterations of `u` words:
//!
//! ```text
//!     for each iteration:
//!         P += S                                  the sum before this iteration
//!         S += x_1 + ... + x_u
//!         W += (u - 1) x_1 + ... + 1 x_(u-1)      each word times the number of words behind it
//!     b = b + n a + u P + W + S;  a = a + S       once, modulo the constant
//! ```
//!
//! All sums are exact, so the modulus comes in once, at the end.
//!
//! Where there are dot products of bytes, one instruction adds four bytes times their weights to a 32-bit
//! lane; words of two bytes are then two planes, their lower and their upper bytes. Weights are less than
//! 128, so that two vectors of bytes can share the registers and P is updated once for both. Otherwise S and
//! P are kept in 64-bit lanes.

use iced_x86::{Code, Register};

use super::{LoopCarried, LoopPart, StatePlace, Traits};
use crate::backend::native::abi::{STATES, round_remainder};
use crate::backend::native::asm;
use crate::backend::native::isa::Isa;
use crate::backend::native::lanes::Lane;
use crate::backend::native::lower::BodyLowering;
use crate::backend::native::vcode::{Builder, VReg};
use crate::ir::{Tail, Ty, Value};
use crate::plan::stage::Second;

/// Registers of a pair of sums, or of one.
pub(super) struct SumLanes {
    word: Lane,
    ty: Ty,
    /// 0 for two to the power of the type's width.
    modulus: u64,
    tail: Tail,
    /// Whether a number of which something has been added is never 0 but the modulus: one's complement.
    end_around: bool,
    /// Whether there is a sum of sums.
    second: bool,
    /// Whether that has a word's sum with the word itself, or as it was before.
    includes_word: bool,
    /// By dot products of bytes.
    dots: bool,
    /// Copies of the main loop after which the first registers are added to again.
    turn: usize,
    /// Copies of a turn that share registers.
    group: usize,
    /// For each group, a set for each plane.
    groups: Vec<Vec<Plane>>,
    /// What the main loop and the rest contribute to the sum of sums, in 64-bit lanes.
    settled: VReg,
    /// The value of a word.
    operand: Value,
    /// Where the sum and the sum of sums are, from the start of the states.
    offsets: [i32; 2],
}

/// The registers S, P and W.
#[derive(Clone, Copy)]
struct Plane {
    sum: VReg,
    prefix: VReg,
    weighted: VReg,
}

/// Bytes of a call in which no lane overflows, for words of that lane and vectors of that many bytes.
pub(in crate::backend::native) fn longest_call(word: Lane, vector_bytes: usize) -> usize {
    match word {
        // A call with `t` iterations of `g` vectors in a group adds up to 1020 g t^2 / 2 to a lane of P,
        // which has 32 bits; with a single vector an iteration that is 2900 of them.
        Lane::B => vector_bytes << 11,
        // Without dot products: at most 32768 (31 + 30) a vector in a lane of W.
        Lane::W => 1 << 16,
        // n^2 / 2 words of 32 bits in 64-bit numbers.
        _ => 1 << 17,
    }
}

impl SumLanes {
    #[allow(clippy::too_many_arguments, reason = "all that is known of the states")]
    pub(super) fn new(
        b: &mut Builder,
        word: Lane,
        ty: Ty,
        (modulus, end_around): (u64, bool),
        second: Option<Second>,
        operand: Value,
        tail: Tail,
        place: StatePlace,
        offsets: [i32; 2],
    ) -> SumLanes {
        let StatePlace { busy, .. } = place;
        let includes_word = second.is_none_or(|second| second.includes_word);
        let second = second.is_some();
        let dots = matches!(word, Lane::B | Lane::W) && b.has_dots();
        let planes = if dots { word.bytes() } else { 1 };
        let unroll = if dots { place.unroll } else { place.sets };
        // Sharing saves additions and lengthens the chain from turn to turn.
        let group = if dots && second && busy && unroll.is_multiple_of(2) { 2 } else { 1 };
        let mut pinned = |wanted: bool, other: Option<VReg>| match other {
            Some(other) if !wanted => other,
            _ => b.pinned_vector(),
        };
        let groups: Vec<Vec<Plane>> = (0..unroll / group)
            .map(|_| {
                (0..planes)
                    .map(|_| {
                        let sum = pinned(true, None);
                        Plane { sum, prefix: pinned(second, Some(sum)), weighted: pinned(second, Some(sum)) }
                    })
                    .collect()
            })
            .collect();
        let settled = pinned(second, Some(groups[0][0].sum));
        let zero = b.splat(Lane::B, 0);
        for plane in groups.iter().flatten() {
            [plane.sum, plane.prefix, plane.weighted].into_iter().for_each(|reg| b.assign(reg, zero));
        }
        b.assign(settled, zero);
        SumLanes {
            word,
            ty,
            modulus,
            end_around,
            tail,
            second,
            includes_word,
            dots,
            turn: unroll,
            group,
            groups,
            settled,
            operand,
            offsets,
        }
    }

    /// The lanes of S and P.
    fn lane(&self) -> Lane {
        if self.dots { Lane::D } else { Lane::Q }
    }

    /// Words of a vector.
    fn lanes(&self, b: &Builder) -> u64 {
        (b.vector_bytes() / self.word.bytes()) as u64
    }

    /// Takes the words of one vector; `distance` vectors make an iteration.
    fn add(&self, b: &mut Builder, copy: usize, distance: usize, words: VReg) {
        let group = self.group.min(distance);
        if self.second && copy.is_multiple_of(group) {
            for plane in &self.groups[copy / group] {
                let next = b.add(self.lane(), plane.prefix, plane.sum);
                b.assign(plane.prefix, next);
            }
        }
        self.add_vector(b, copy / group, copy % group, group, words);
    }

    /// Takes the vector number `place` of the `of` ones that share a group's registers.
    fn add_vector(&self, b: &mut Builder, group: usize, place: usize, of: usize, words: VReg) {
        for (number, plane) in self.groups[group].iter().enumerate() {
            if self.dots {
                self.add_dots(b, plane, number, place, of, words);
            } else {
                self.add_plain(b, plane, words);
            }
        }
    }

    fn add_dots(&self, b: &mut Builder, plane: &Plane, number: usize, place: usize, of: usize, words: VReg) {
        let bytes = self.word.bytes();
        // Swapped words are taken as they were, their bytes from the other side.
        let (words, byte) = match b.swap_of(bytes, words) {
            Some(before) => (before, bytes - 1 - number),
            None => (words, number),
        };
        let lanes = self.lanes(b) as usize;
        let weights = |weight: &dyn Fn(usize) -> usize, b: &mut Builder| {
            b.bytes_of(|i| if i % bytes == byte { weight(place * lanes + i / bytes) as u8 } else { 0 })
        };
        let ones = weights(&|_| 1, b);
        b.add_dots(plane.sum, words, ones);
        if self.second {
            let behind = weights(&|i| of * lanes - 1 - i, b);
            b.add_dots(plane.weighted, words, behind);
        }
    }

    fn add_plain(&self, b: &mut Builder, plane: &Plane, words: VReg) {
        let sums = match self.word {
            Lane::B => b.sum_bytes(words),
            Lane::W => {
                let low = b.and_imm(Lane::D, words, 0xffff);
                let high = b.shr(Lane::D, words, 16);
                let pairs = b.add(Lane::D, low, high);
                b.halves_added(pairs)
            }
            _ => b.halves_added(words),
        };
        let next = b.add(Lane::Q, plane.sum, sums);
        b.assign(plane.sum, next);
        if self.second {
            let weighted = self.weighted(b, words);
            let lane = if self.word == Lane::D { Lane::Q } else { Lane::D };
            let next = b.add(lane, plane.weighted, weighted);
            b.assign(plane.weighted, next);
        }
    }

    /// Neighbouring words times the number of words behind them in the vector, added.
    fn weighted(&self, b: &mut Builder, words: VReg) -> VReg {
        let last = self.lanes(b) - 1;
        let maddwd = match b.isa {
            Isa::Avx512 => Code::EVEX_Vpmaddwd_zmm_k1z_zmm_zmmm512,
            Isa::Avx2 => Code::VEX_Vpmaddwd_ymm_ymm_ymmm256,
        };
        match self.word {
            Lane::B => {
                let weights = b.lanes_of(Lane::B, |i| last - i);
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
                let weights = b.lanes_of(Lane::W, |i| last - i);
                let sign = b.splat(Lane::W, 0x8000);
                let signed = b.xor(words, sign);
                let pairs = b.binary_code(maddwd, signed, weights);
                let lost = b.lanes_of(Lane::D, |i| 0x8000 * ((last - 2 * i) + (last - 2 * i - 1)));
                b.add(Lane::D, pairs, lost)
            }
            _ => {
                let even = b.lanes_of(Lane::Q, |i| last - 2 * i);
                let odd = b.lanes_of(Lane::Q, |i| last - 2 * i - 1);
                let even = b.mul_wide(words, even);
                let high = b.shr(Lane::Q, words, 32);
                let odd = b.mul_wide(high, odd);
                b.add(Lane::Q, even, odd)
            }
        }
    }

    /// Takes the words in the first rax bytes of a vector.
    fn add_remainder(&self, b: &mut Builder, words: VReg) {
        // Behind the last word there is none: it goes to the end.
        let zero = b.splat(Lane::B, 0);
        let moved = b.shift_in(zero, words);
        if self.second {
            b.raw(asm::ri(Code::Shr_rm32_imm8, Register::EAX, self.word.bytes().trailing_zeros() as i32));
            let count = b.broadcast_quad(Register::RAX);
            let before = self.joined(b, &self.groups[0], |sums, b, plane| {
                let sum = sums.in_quads(b, plane.sum);
                // A lane of a call's sum of bytes or 16-bit words fits 32 bits.
                if sums.word == Lane::D { b.mul(Lane::Q, sum, count) } else { b.mul_wide(sum, count) }
            });
            let next = b.add(Lane::Q, self.settled, before);
            b.assign(self.settled, next);
        }
        // What was before these words has been counted: P stays as it is.
        self.add_vector(b, 0, 0, 1, moved);
    }

    /// What `f` makes of each plane, times what a byte of it stands for, added.
    fn joined(
        &self,
        b: &mut Builder,
        planes: &[Plane],
        f: impl Fn(&SumLanes, &mut Builder, &Plane) -> VReg,
    ) -> VReg {
        let mut all = f(self, b, &planes[0]);
        for (number, plane) in planes.iter().enumerate().skip(1) {
            let more = f(self, b, plane);
            let more = b.shl(Lane::Q, more, 8 * number as u32);
            all = b.add(Lane::Q, all, more);
        }
        all
    }

    /// S or P in 64-bit lanes.
    fn in_quads(&self, b: &mut Builder, sums: VReg) -> VReg {
        if self.dots { b.halves_added(sums) } else { sums }
    }

    fn weighted_in_quads(&self, b: &mut Builder, weighted: VReg) -> VReg {
        if self.word == Lane::D { weighted } else { b.halves_added(weighted) }
    }
}

impl LoopCarried for SumLanes {
    fn traits(&self) -> Traits {
        Traits::ORDERED
    }

    fn step(&mut self, body: &mut BodyLowering<'_>, part: LoopPart) -> Result<(), String> {
        let words = body.int(self.operand)?[0];
        match part {
            LoopPart::Whole { copy, distance } => {
                self.add(body.b, copy % self.turn, distance.min(self.turn), words);
            }
            LoopPart::Remainder { round, .. } => {
                round_remainder(body.b, round);
                self.add_remainder(body.b, words);
            }
        }
        Ok(())
    }

    /// Everything in the first group, as if it had been one vector.
    fn merge_copies(&self, b: &mut Builder) {
        let groups = self.groups.len() as u64;
        if self.second {
            let of_group = self.lanes(b) * self.group as u64;
            let mut settled = self.settled;
            for (index, planes) in self.groups.iter().enumerate() {
                let behind = self.joined(b, planes, |sums, b, plane| {
                    let weighted = sums.weighted_in_quads(b, plane.weighted);
                    let prefix = sums.in_quads(b, plane.prefix);
                    let turns = b.shl(Lane::Q, prefix, (groups * of_group).trailing_zeros());
                    let mut all = b.add(Lane::Q, weighted, turns);
                    // The later groups of a turn are behind its words.
                    let sum = sums.in_quads(b, plane.sum);
                    for _ in index as u64 + 1..groups {
                        let once = b.shl(Lane::Q, sum, of_group.trailing_zeros());
                        all = b.add(Lane::Q, all, once);
                    }
                    all
                });
                settled = b.add(Lane::Q, settled, behind);
            }
            b.assign(self.settled, settled);
            let zero = b.splat(Lane::B, 0);
            for plane in &self.groups[0] {
                b.assign(plane.prefix, zero);
                b.assign(plane.weighted, zero);
            }
        }
        let lane = self.lane();
        for (number, first) in self.groups[0].iter().enumerate() {
            let sum =
                self.groups[1..].iter().fold(first.sum, |sum, group| b.add(lane, sum, group[number].sum));
            b.assign(first.sum, sum);
        }
    }

    fn finish(&self, b: &mut Builder) {
        let [first, other] = self.offsets;
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
                // In one's complement what is not zero is a number from 1 to the modulus: one less is
                // divided.
                let less = Register::R10;
                if self.end_around {
                    b.raw(asm::rr(Code::Mov_r64_rm64, less, rax));
                    b.raw(asm::r(Code::Neg_rm64, less));
                    b.raw(asm::rr(Code::Sbb_r64_rm64, less, less));
                    b.raw(asm::rr(Code::Add_r64_rm64, rax, less));
                }
                b.raw(asm::rr(Code::Xor_r32_rm32, Register::EDX, Register::EDX));
                b.raw(asm::r(Code::Div_rm64, r9));
                if self.end_around {
                    b.raw(asm::rr(Code::Sub_r64_rm64, rdx, less));
                }
            }
        };
        // States of 32 bits and fewer, times the words of a call, stay far below 2^64 with all that is added.
        let small = self.ty.bits() <= 32 && self.word != Lane::D;
        let load = |b: &mut Builder, offset| {
            let into = if small { rdx } else { rax };
            b.load_quad_to(into, STATES, offset);
            if !small {
                reduce(b);
            }
        };
        let sum = self.joined(b, &self.groups[0], |sums, b, plane| sums.in_quads(b, plane.sum));
        if self.second {
            load(b, other);
            b.raw(asm::rr(Code::Mov_r64_rm64, rcx, rdx));
            load(b, first);
            b.raw(asm::rr(Code::Imul_r64_rm64, r11, rdx));
            b.raw(asm::rr(Code::Add_r64_rm64, rcx, r11));
            let lanes = self.lanes(b);
            let behind = self.joined(b, &self.groups[0], |sums, b, plane| {
                let weighted = sums.weighted_in_quads(b, plane.weighted);
                let prefix = sums.in_quads(b, plane.prefix);
                let turns = b.shl(Lane::Q, prefix, lanes.trailing_zeros());
                b.add(Lane::Q, weighted, turns)
            });
            let mut all = b.add(Lane::Q, behind, self.settled);
            if self.includes_word {
                all = b.add(Lane::Q, all, sum);
            }
            b.total(Lane::Q, all, rax);
            b.raw(asm::rr(Code::Add_r64_rm64, rax, rcx));
            reduce(b);
            store(b, self.ty, other);
        }
        load(b, first);
        b.raw(asm::rr(Code::Mov_r64_rm64, rcx, rdx));
        b.total(Lane::Q, sum, rax);
        b.raw(asm::rr(Code::Add_r64_rm64, rax, rcx));
        reduce(b);
        store(b, self.ty, first);
        b.bind(none);
    }

    fn description(&self) -> String {
        let planes: usize = self.groups.iter().map(Vec::len).sum();
        let registers = if self.second { 3 * planes } else { planes };
        let how = if self.dots { ", by dot products of bytes" } else { "" };
        let shared =
            if self.group > 1 { format!(", shared by {} vectors", self.group) } else { String::new() };
        let what = if self.second { "sum, sum of what it was, weighted sum" } else { "sum" };
        format!("{what} in lanes of {} bits{how}, {registers} registers{shared}", self.lane().bits())
    }
}

/// Writes rdx, cut to the type.
pub(super) fn store(b: &mut Builder, ty: Ty, offset: i32) {
    let (rdx, edx) = (Register::RDX, Register::EDX);
    match ty {
        Ty::Bool | Ty::U8 => b.raw(asm::rr(Code::Movzx_r32_rm8, edx, Register::DL)),
        Ty::U16 => b.raw(asm::rr(Code::Movzx_r32_rm16, edx, Register::DX)),
        Ty::U32 => b.raw(asm::rr(Code::Mov_r32_rm32, edx, edx)),
        Ty::U64 | Ty::U128 => {}
    }
    b.store_quad(STATES, offset, rdx);
}
