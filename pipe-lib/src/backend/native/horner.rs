//! Polynomial hashes: `h = h K + x`, modulo two to the state's width.
//!
//! Every lane of a slot is a hash of its own, by a power of K that skips the words in between; at the end each is multiplied
//! by the power for the words behind it, and all are added. The imported state is the last lane's first value. What is
//! left at the end of a stretch is multiplied by the powers that are due, from a table, with zeros for what is not there.

use crate::ir::Ty;
use iced_x86::{Code, Register};

use super::frame::STATES;
use super::isa::Isa;
use super::lanes::Lane;
use super::slide::lea_pool;
use super::sums;
use super::vcode::{Builder, Kind, Mem, Opd, VReg};
use super::{asm, carried};

/// The registers of one hash.
pub(super) struct Horner {
    ty: Ty,
    factor: u64,
    word_bytes: usize,
    /// Of the state, and of the vectors that a vector of words becomes.
    lane: Lane,
    /// For each slot, a register for each of these vectors.
    acc: Vec<Vec<VReg>>,
    /// What the rest contributes.
    tail: VReg,
    /// Where the state is, from the start of the states.
    slot: i32,
}

impl Horner {
    /// Takes registers and imports the state.
    pub(super) fn new(b: &mut Builder, word: Lane, ty: Ty, factor: u64, slots: usize, slot: i32) -> Horner {
        let lane = Lane::of_bytes(ty.bytes()).max(word);
        let parts = lane.bytes() / word.bytes();
        let acc: Vec<Vec<VReg>> =
            (0..slots).map(|_| (0..parts).map(|_| b.pinned_vector()).collect()).collect();
        let tail = b.pinned_vector();
        let zero = b.splat(Lane::B, 0);
        acc[0].iter().chain([&tail]).for_each(|reg| b.assign(*reg, zero));
        let horner = Horner { ty, factor, word_bytes: word.bytes(), lane, acc, tail, slot };
        let state = horner.state(b);
        b.assign(horner.acc[0][parts - 1], state);
        horner
    }

    /// What there is of it during the loop, in words.
    pub(super) fn in_words(&self) -> String {
        let registers: usize = self.acc.iter().map(Vec::len).sum();
        format!(
            "a hash in each lane of {} bits, the imported one in the last, {registers} registers",
            self.lane.bits()
        )
    }

    /// The state in the last lane, zeros in the others.
    fn state(&self, b: &mut Builder) -> VReg {
        let from = Opd::Mem(Mem::Base { base: STATES, index: Register::None, scale: 1, disp: self.slot });
        let full = b.full();
        let state = b.fresh(Kind::Vector, full, carried::broadcast(b.isa, self.lane), &[from]);
        let lanes = b.vector_bytes() / self.lane.bytes();
        let last = b.lanes_of(self.lane, |i| if i as usize + 1 == lanes { self.lane.mask() } else { 0 });
        b.and(state, last)
    }

    /// Whether the unrolled loop may be entered at any slot: the factor has an inverse.
    pub(super) fn enters_anywhere(&self) -> bool {
        self.factor & 1 == 1
    }

    /// In front of the unrolled loop, which is entered at slot number rax: what was imported comes before that slot's
    /// vector, but it is the last slot that takes it in. Changes r9.
    pub(super) fn enter(&self, b: &mut Builder) {
        let Some((last, others)) = self.acc.split_last().filter(|(_, others)| !others.is_empty()) else {
            return;
        };
        let zero = b.splat(Lane::B, 0);
        others.iter().chain([last]).flatten().for_each(|acc| b.assign(*acc, zero));
        let mut state = self.state(b);
        if self.enters_anywhere() {
            let skipped = inverse(self.factor).wrapping_pow(self.words(b) as u32);
            let factors =
                (0..self.acc.len() as u32).flat_map(|slot| skipped.wrapping_pow(slot).to_le_bytes());
            let factors = b.table(factors.collect());
            lea_pool(b, Register::R9, factors);
            let (full, code) = (b.full(), carried::broadcast(b.isa, self.lane));
            let from = Mem::Base { base: Register::R9, index: Register::RAX, scale: 8, disp: 0 };
            let factor = b.fresh(Kind::Vector, full, code, &[Opd::Mem(from)]);
            state = b.mul(self.lane, state, factor);
        }
        last.last().into_iter().for_each(|acc| b.assign(*acc, state));
    }

    /// Behind it: all slots in the first one.
    pub(super) fn leave(&self, b: &mut Builder) {
        let words = self.words(b);
        for part in 0..self.acc[0].len() {
            let slots = self.acc.len();
            let mut sum = self.acc[slots - 1][part];
            for slot in 0..slots - 1 {
                let factor = self.power(b, words * (slots - 1 - slot));
                let moved = b.mul(self.lane, self.acc[slot][part], factor);
                sum = b.add(self.lane, sum, moved);
            }
            b.assign(self.acc[0][part], sum);
        }
    }

    /// Takes the words of one vector, extended to the state's lanes; `distance` vectors make a turn.
    pub(super) fn add(&self, b: &mut Builder, slot: usize, distance: usize, words: &[VReg]) {
        let factor = self.power(b, self.words(b) * distance);
        for (acc, words) in self.acc[slot].iter().zip(words) {
            let moved = b.mul(self.lane, *acc, factor);
            let next = b.add(self.lane, moved, *words);
            b.assign(*acc, next);
        }
    }

    /// Takes the words in the first rax bytes of a vector, extended.
    pub(super) fn add_rest(&self, b: &mut Builder, words: &[VReg]) {
        let (count, bytes) = (self.words(b), self.lane.bytes());
        let (rax, r9, full) = (Register::RAX, Register::R9, b.full());
        let table = |powers: &mut dyn Iterator<Item = u64>| -> Vec<u8> {
            powers.flat_map(|power| power.to_le_bytes().into_iter().take(bytes)).collect()
        };
        let scale = bytes.trailing_zeros() - self.word_bytes.trailing_zeros();
        if scale > 0 {
            b.raw(asm::ri(Code::Shl_rm32_imm8, Register::EAX, scale as i32));
        }
        // As many powers as there are words, for the lanes.
        let rising = b.table(table(&mut (0..=count).map(|n| self.raised(n))));
        lea_pool(b, r9, rising);
        let from = Opd::Mem(Mem::Base { base: r9, index: rax, scale: 1, disp: 0 });
        let factor = b.fresh(Kind::Vector, full, carried::broadcast(b.isa, self.lane), &[from]);
        for acc in &self.acc[0] {
            let moved = b.mul(self.lane, *acc, factor);
            b.assign(*acc, moved);
        }
        // The powers down to the last word's, and zeros behind it.
        let falling = (0..2 * count).map(|i| if i < count { self.raised(count - 1 - i) } else { 0 });
        let falling = b.table(table(&mut { falling }));
        lea_pool(b, r9, falling);
        b.raw(asm::rr(Code::Sub_r64_rm64, r9, rax));
        let load = match b.isa {
            Isa::Avx512 => Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512,
            Isa::Avx2 => Code::VEX_Vmovdqu_ymm_ymmm256,
        };
        let mut tail = self.tail;
        for (part, words) in words.iter().enumerate() {
            let disp = (count * bytes + part * b.vector_bytes()) as i32;
            let from = Opd::Mem(Mem::Base { base: r9, index: Register::None, scale: 1, disp });
            let weights = b.fresh(Kind::Vector, full, load, &[from]);
            let weighted = b.mul(self.lane, *words, weights);
            tail = b.add(self.lane, tail, weighted);
        }
        b.assign(self.tail, tail);
    }

    /// Brings all together and writes the state.
    pub(super) fn finish(&self, b: &mut Builder) {
        let (count, lanes) = (self.words(b), b.vector_bytes() / self.lane.bytes());
        let mut all = self.tail;
        for (part, acc) in self.acc[0].iter().enumerate() {
            let weights = b.lanes_of(self.lane, |i| self.raised(count - 1 - part * lanes - i as usize));
            let weighted = b.mul(self.lane, *acc, weights);
            all = b.add(self.lane, all, weighted);
        }
        sums::total(b, self.lane, all, Register::RDX);
        sums::store(b, self.ty, self.slot);
    }

    /// Words of a vector.
    fn words(&self, b: &Builder) -> usize {
        b.vector_bytes() / self.word_bytes
    }

    fn raised(&self, exponent: usize) -> u64 {
        self.factor.wrapping_pow(exponent as u32)
    }

    fn power(&self, b: &mut Builder, exponent: usize) -> VReg {
        b.splat(self.lane, self.raised(exponent))
    }
}

/// What gives 1 times an odd number, modulo 2^64.
fn inverse(odd: u64) -> u64 {
    // Each step doubles the number of bits that are right; of an odd number by itself three are.
    (0..5).fold(odd, |near, _| near.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(near))))
}
