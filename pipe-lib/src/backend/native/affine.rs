//! States that go by each other, `s = M s + x` with a constant matrix, and hashes modulo a number: in lanes.
//!
//! As in [`super::horner`], every lane of a slot is a system of its own, by the power of M that skips the words in between;
//! at the end each is multiplied by the power for the words behind it, and all are added. The imported states are the last
//! lane's first value. What is left at the end of a stretch is multiplied by the powers that are due, from tables, with
//! zeros for what is not there.
//!
//! Modulo `m < 2^31` numbers are kept in lanes of 64 bits, below 2^32: with `c' = floor(c 2^32 / m)` the number
//! `c v - floor(c' v / 2^32) m` is less than `2 m` and congruent to `c v` (Shoup's multiplication by a constant). Bounds are
//! followed while the code is made, so that numbers are brought below `m` only where they must be.

use crate::analyse::Linear;
use crate::ir::{Tail, Ty};
use iced_x86::{Code, Register};

use super::frame::STATES;
use super::isa::Isa;
use super::lanes::Lane;
use super::slide::lea_pool;
use super::sums;
use super::vcode::{Builder, Kind, Mem, Opd, VReg};
use super::{asm, carried};

/// Moduli are less than this.
pub(super) const MODULI: u64 = 1 << 31;

/// Numbers of a modulus are no more than this, in lanes of 64 bits.
pub(super) const MOST: u64 = u32::MAX as u64;

/// A system: what the code is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct System {
    /// 0 for two to the power of the type's width.
    pub(super) modulus: u64,
    /// Row after row.
    pub(super) matrix: Vec<u64>,
    /// What each value that a word adds is no more than, one a state.
    pub(super) most: Vec<u64>,
    /// The states, by their indices in the stage.
    pub(super) states: Vec<usize>,
}

/// A vector of numbers, each no more than `most` (of no meaning where arithmetic wraps).
#[derive(Clone, Copy)]
struct Number {
    reg: VReg,
    most: u64,
}

/// A factor, the same or another one in each lane.
#[derive(Clone, Copy)]
enum Factor {
    Splat(u64),
    /// The factor, and modulo a number [`shoup`] of it.
    Lanes(VReg, Option<VReg>),
}

/// The registers of one system.
pub(super) struct Affine {
    system: System,
    ty: Ty,
    tail: Tail,
    word: Lane,
    /// Of the states, and of the vectors that a vector of words becomes.
    lane: Lane,
    /// For each slot and state, a register for each of these vectors.
    acc: Vec<Vec<Vec<VReg>>>,
    /// What the rest contributes, one a state.
    rest: Vec<VReg>,
    /// Where the states are, from the start of the states.
    slots: Vec<i32>,
}

impl Affine {
    /// Takes registers and imports the states.
    pub(super) fn new(
        b: &mut Builder,
        word: Lane,
        ty: Ty,
        tail: Tail,
        system: &System,
        unroll: usize,
        slots: Vec<i32>,
    ) -> Affine {
        let lane = if system.modulus == 0 { Lane::of_bytes(ty.bytes()).max(word) } else { Lane::Q };
        let parts = lane.bytes() / word.bytes();
        let side = slots.len();
        let mut pinned = |count: usize| (0..count).map(|_| b.pinned_vector()).collect::<Vec<VReg>>();
        let acc: Vec<Vec<Vec<VReg>>> =
            (0..unroll).map(|_| (0..side).map(|_| pinned(parts)).collect()).collect();
        let rest = pinned(side);
        let zero = b.splat(Lane::B, 0);
        acc[0].iter().flatten().chain(&rest).for_each(|reg| b.assign(*reg, zero));
        let affine = Affine { system: system.clone(), ty, tail, word, lane, acc, rest, slots };
        affine.import(b, 0);
        affine
    }

    /// What there is of it during the loop, in words.
    pub(super) fn in_words(&self) -> String {
        let registers: usize = self.acc.iter().flatten().map(Vec::len).sum();
        let states = self.slots.len();
        format!(
            "{states} in each lane of {} bits, the imported in the last, {registers} registers",
            self.lane.bits()
        )
    }

    /// The states in the last lane of a slot's registers, zeros in the others.
    fn import(&self, b: &mut Builder, slot: usize) {
        for (state, &at) in self.slots.iter().enumerate() {
            let from = Opd::Mem(Mem::Base { base: STATES, index: Register::None, scale: 1, disp: at });
            let full = b.full();
            let loaded = b.fresh(Kind::Vector, full, carried::broadcast(b.isa, self.lane), &[from]);
            let lanes = b.vector_bytes() / self.lane.bytes();
            let last = b.lanes_of(self.lane, |i| if i as usize + 1 == lanes { self.lane.mask() } else { 0 });
            let mut value = b.and(loaded, last);
            if self.system.modulus != 0 {
                // Anything may have been imported.
                let low = b.and_imm(Lane::Q, value, MOST);
                let mut sum = self.times(b, Factor::Splat(1), Number { reg: low, most: MOST });
                if self.ty == Ty::U64 {
                    let high = b.shr(Lane::Q, value, 32);
                    let factor = Factor::Splat((1 << 32) % self.system.modulus);
                    let high = self.times(b, factor, Number { reg: high, most: MOST });
                    sum = self.sum(b, sum, high);
                }
                value = self.reduced(b, sum).reg;
            }
            if let Some(last) = self.acc[slot][state].last() {
                b.assign(*last, value);
            }
        }
    }

    /// In front of the unrolled loop, which is entered at its first slot: what was imported comes before the last slot's
    /// vector.
    pub(super) fn enter(&self, b: &mut Builder) {
        if self.acc.len() < 2 {
            return;
        }
        let zero = b.splat(Lane::B, 0);
        self.acc.iter().flatten().flatten().for_each(|acc| b.assign(*acc, zero));
        self.import(b, self.acc.len() - 1);
    }

    /// Behind it: all slots in the first one.
    pub(super) fn leave(&self, b: &mut Builder) {
        let (words, slots) = (self.words(b), self.acc.len());
        for part in 0..self.parts() {
            let mut sums = self.loaded(&self.acc[slots - 1], part);
            for slot in 0..slots - 1 {
                let numbers = self.loaded(&self.acc[slot], part);
                let matrix = self.power(words * (slots - 1 - slot));
                for (row, sum) in sums.iter_mut().enumerate() {
                    let moved = self.product(b, &self.splats(&matrix, row), &numbers);
                    *sum = moved.map_or(*sum, |moved| self.sum(b, *sum, moved));
                }
            }
            self.stored(b, &self.acc[0], part, &sums);
        }
    }

    /// Takes the words of one vector, what they add to each state; `distance` vectors make a turn.
    pub(super) fn add(&self, b: &mut Builder, slot: usize, distance: usize, words: &[Vec<VReg>]) {
        let matrix = self.power(self.words(b) * distance);
        let words: Vec<Vec<VReg>> = words.iter().map(|words| self.wide(b, words)).collect();
        #[allow(clippy::needless_range_loop, reason = "a part of the vectors of each state")]
        for part in 0..self.parts() {
            let numbers = self.loaded(&self.acc[slot], part);
            let next: Vec<Number> = (0..self.side())
                .map(|row| {
                    let added = Number { reg: words[row][part], most: self.system.most[row] };
                    let moved = self.product(b, &self.splats(&matrix, row), &numbers);
                    match moved {
                        Some(moved) => self.sum(b, moved, added),
                        None => {
                            // The words themselves may be needed after this; see [`Builder::assign`].
                            let zero = b.splat(Lane::B, 0);
                            Number { reg: b.add(self.lane, added.reg, zero), ..added }
                        }
                    }
                })
                .collect();
            self.stored(b, &self.acc[slot], part, &next);
        }
    }

    /// Takes the words in the first rax bytes of a vector, what they add to each state. Changes rax and r9.
    pub(super) fn add_rest(&self, b: &mut Builder, words: &[Vec<VReg>]) {
        let (count, side, bytes) = (self.words(b), self.side(), self.lane.bytes());
        let words: Vec<Vec<VReg>> = words.iter().map(|words| self.wide(b, words)).collect();
        let scale = bytes.trailing_zeros() - self.word.bytes().trailing_zeros();
        if scale > 0 {
            b.raw(asm::ri(Code::Shl_rm32_imm8, Register::EAX, scale as i32));
        }
        let powers: Vec<Vec<u64>> = (0..=count).map(|n| self.power(n)).collect();
        // As many powers as there are words, for what was before them.
        let broadcast = carried::broadcast(b.isa, self.lane);
        let rising: Vec<Option<Factor>> = (0..side * side)
            .map(|entry| {
                let numbers: Vec<u64> = powers.iter().map(|matrix| matrix[entry]).collect();
                let from = Mem::Base { base: Register::R9, index: Register::RAX, scale: 1, disp: 0 };
                self.factor(b, &numbers, broadcast, from, false)
            })
            .collect();
        for part in 0..self.parts() {
            let numbers = self.loaded(&self.acc[0], part);
            let zero = b.splat(Lane::B, 0);
            let next: Vec<Number> = (0..side)
                .map(|row| {
                    let moved = self.product(b, &rising[row * side..][..side], &numbers);
                    moved.unwrap_or(Number { reg: zero, most: 0 })
                })
                .collect();
            self.stored(b, &self.acc[0], part, &next);
        }
        // The powers down to the last word's, and zeros behind it.
        let load = match b.isa {
            Isa::Avx512 => Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512,
            Isa::Avx2 => Code::VEX_Vmovdqu_ymm_ymmm256,
        };
        for row in 0..side {
            let mut sum = Number { reg: self.rest[row], most: 0 };
            #[allow(clippy::needless_range_loop, reason = "a part of the vectors of each state")]
            for part in 0..self.parts() {
                let disp = (count * bytes + part * b.vector_bytes()) as i32;
                let from = Mem::Base { base: Register::R9, index: Register::None, scale: 1, disp };
                let numbers: Vec<Number> = (0..side)
                    .map(|state| Number { reg: words[state][part], most: self.system.most[state] })
                    .collect();
                let falling: Vec<Option<Factor>> = (0..side)
                    .map(|column| {
                        let entry = row * side + column;
                        let number = |i: usize| if i < count { powers[count - 1 - i][entry] } else { 0 };
                        let numbers: Vec<u64> = (0..2 * count).map(number).collect();
                        self.factor(b, &numbers, load, from, true)
                    })
                    .collect();
                if let Some(weighted) = self.product(b, &falling, &numbers) {
                    sum = self.sum(b, sum, weighted);
                }
            }
            let sum = self.reduced(b, sum);
            b.assign(self.rest[row], sum.reg);
        }
    }

    /// Brings all together and writes the states.
    pub(super) fn finish(&self, b: &mut Builder) {
        let (count, side, lanes) = (self.words(b), self.side(), b.vector_bytes() / self.lane.bytes());
        let none = b.new_label();
        let modulus = self.system.modulus;
        if modulus != 0 {
            // Without a word nothing is reduced either.
            let round = match self.tail {
                Tail::Zero | Tail::Partial => 1,
                Tail::Pass | Tail::Reject => self.word.bytes(),
            };
            b.raw(asm::ri(Code::Cmp_rm64_imm8, Register::R8, round as i32));
            b.jump(Code::Jb_rel32_64, none);
        }
        let powers: Vec<Vec<u64>> = (0..count).map(|n| self.power(n)).collect();
        for row in 0..side {
            let mut all = Number { reg: self.rest[row], most: modulus };
            for part in 0..self.parts() {
                let numbers = self.loaded(&self.acc[0], part);
                let weights: Vec<Option<Factor>> = (0..side)
                    .map(|column| {
                        let number =
                            |i: u64| powers[count - 1 - part * lanes - i as usize][row * side + column];
                        if (0..lanes as u64).all(|i| number(i) == 0) {
                            return None;
                        }
                        let factor = b.lanes_of(self.lane, number);
                        let quotient =
                            (modulus != 0).then(|| b.lanes_of(self.lane, |i| shoup(number(i), modulus)));
                        Some(Factor::Lanes(factor, quotient))
                    })
                    .collect();
                if let Some(weighted) = self.product(b, &weights, &numbers) {
                    all = self.sum(b, all, weighted);
                }
            }
            if modulus == 0 {
                sums::total(b, self.lane, all.reg, Register::RDX);
            } else {
                // A few numbers of 32 bits.
                let (rax, r9) = (Register::RAX, Register::R9);
                sums::total(b, Lane::Q, all.reg, rax);
                b.raw(asm::mov_imm(r9, modulus));
                b.raw(asm::rr(Code::Xor_r32_rm32, Register::EDX, Register::EDX));
                b.raw(asm::r(Code::Div_rm64, r9));
            }
            sums::store(b, self.ty, self.slots[row]);
        }
        b.bind(none);
    }

    fn side(&self) -> usize {
        self.slots.len()
    }

    fn parts(&self) -> usize {
        self.lane.bytes() / self.word.bytes()
    }

    /// Words of a vector.
    fn words(&self, b: &Builder) -> usize {
        b.vector_bytes() / self.word.bytes()
    }

    /// The matrix to that power.
    fn power(&self, exponent: usize) -> Vec<u64> {
        let side = self.side();
        let mut power = vec![0; side * side];
        for column in 0..side {
            let unit: Vec<u64> = (0..side).map(|row| u64::from(row == column)).collect();
            let System { modulus, matrix, .. } = &self.system;
            let image = Linear::power_of(*modulus, matrix, self.ty, exponent as u64, &unit);
            image.into_iter().enumerate().for_each(|(row, entry)| power[row * side + column] = entry);
        }
        power
    }

    fn splats(&self, matrix: &[u64], row: usize) -> Vec<Option<Factor>> {
        let side = self.side();
        matrix[row * side..][..side]
            .iter()
            .map(|entry| (*entry != 0).then_some(Factor::Splat(*entry)))
            .collect()
    }

    /// Factors from a table of `numbers`, loaded by `code` from an address that goes by r9, where the table begins; less rax if
    /// that is the end of what counts. `None` if all are zero. Changes r9.
    fn factor(&self, b: &mut Builder, numbers: &[u64], code: Code, from: Mem, less: bool) -> Option<Factor> {
        if numbers.iter().all(|number| *number == 0) {
            return None;
        }
        let modulus = self.system.modulus;
        let load = |b: &mut Builder, f: &dyn Fn(u64) -> u64| {
            let bytes = self.lane.bytes();
            let table = numbers.iter().flat_map(|number| f(*number).to_le_bytes().into_iter().take(bytes));
            let table = b.table(table.collect());
            lea_pool(b, Register::R9, table);
            if less {
                b.raw(asm::rr(Code::Sub_r64_rm64, Register::R9, Register::RAX));
            }
            let full = b.full();
            b.fresh(Kind::Vector, full, code, &[Opd::Mem(from)])
        };
        let factor = load(b, &|number| number);
        let quotient = (modulus != 0).then(|| load(b, &|number| shoup(number, modulus)));
        Some(Factor::Lanes(factor, quotient))
    }

    /// Vectors of words in the lanes of the states.
    fn wide(&self, b: &mut Builder, words: &[VReg]) -> Vec<VReg> {
        let from = Lane::of_bytes(self.word.bytes() * words.len());
        if from == self.lane {
            return words.to_vec();
        }
        words.iter().flat_map(|words| b.widen(false, from, self.lane, *words)).collect()
    }

    fn loaded(&self, registers: &[Vec<VReg>], part: usize) -> Vec<Number> {
        let most = self.kept();
        registers.iter().map(|state| Number { reg: state[part], most }).collect()
    }

    fn stored(&self, b: &mut Builder, registers: &[Vec<VReg>], part: usize, numbers: &[Number]) {
        let numbers: Vec<VReg> = numbers
            .iter()
            .map(|number| if number.most > self.kept() { self.reduced(b, *number) } else { *number })
            .map(|number| number.reg)
            .collect();
        for (row, number) in numbers.iter().enumerate() {
            // What is assigned may be computed in its new place and then is nowhere else.
            let from = numbers[..row].iter().position(|other| other == number);
            b.assign(registers[row][part], from.map_or(*number, |other| registers[other][part]));
        }
    }

    /// What a number between words is no more than. A number that is multiplied next may be any.
    fn kept(&self) -> u64 {
        if self.side() == 1 { MOST } else { self.system.modulus }
    }

    /// The sum of factors times numbers; `None` if there is none.
    fn product(&self, b: &mut Builder, factors: &[Option<Factor>], numbers: &[Number]) -> Option<Number> {
        let mut sum: Option<Number> = None;
        for (factor, number) in factors.iter().zip(numbers) {
            let Some(factor) = factor else { continue };
            let product = self.times(b, *factor, *number);
            sum = Some(match sum {
                Some(sum) => self.sum(b, sum, product),
                None => product,
            });
        }
        sum
    }

    fn times(&self, b: &mut Builder, factor: Factor, number: Number) -> Number {
        let modulus = self.system.modulus;
        if modulus == 0 {
            let reg = match factor {
                Factor::Splat(1) => number.reg,
                Factor::Splat(factor) if factor.is_power_of_two() => {
                    b.shl(self.lane, number.reg, factor.trailing_zeros())
                }
                Factor::Splat(factor) => {
                    let factor = b.splat(self.lane, factor);
                    b.mul(self.lane, number.reg, factor)
                }
                Factor::Lanes(factor, _) => b.mul(self.lane, number.reg, factor),
            };
            return Number { reg, most: 0 };
        }
        if matches!(factor, Factor::Splat(1)) && number.most < 2 * modulus {
            return number;
        }
        let (factor, quotient) = match factor {
            Factor::Splat(factor) => {
                (b.splat(Lane::Q, factor), Some(b.splat(Lane::Q, shoup(factor, modulus))))
            }
            Factor::Lanes(factor, quotient) => (factor, quotient),
        };
        let product = b.mul_wide(number.reg, factor);
        let Some(quotient) = quotient else { return Number { reg: product, most: u64::MAX } };
        let quotient = b.mul_wide(number.reg, quotient);
        let quotient = b.shr(Lane::Q, quotient, 32);
        let modulus_in_lanes = b.splat(Lane::Q, modulus);
        let whole = b.mul_wide(quotient, modulus_in_lanes);
        Number { reg: b.sub(Lane::Q, product, whole), most: 2 * modulus - 1 }
    }

    fn sum(&self, b: &mut Builder, mut x: Number, mut y: Number) -> Number {
        if self.system.modulus == 0 {
            return Number { reg: b.add(self.lane, x.reg, y.reg), most: 0 };
        }
        // The bigger one first; a sum of two that are below the modulus always fits.
        for _ in 0..2 {
            if x.most + y.most > MOST {
                let bigger = if x.most >= y.most { &mut x } else { &mut y };
                *bigger = self.reduced(b, *bigger);
            }
        }
        Number { reg: b.add(self.lane, x.reg, y.reg), most: x.most + y.most }
    }

    /// The same modulo the modulus, below it.
    fn reduced(&self, b: &mut Builder, number: Number) -> Number {
        let modulus = self.system.modulus;
        if modulus == 0 || number.most < modulus {
            return number;
        }
        let number = self.times(b, Factor::Splat(1), number);
        // Below twice the modulus: what is too much, or has wrapped.
        let modulus_in_lanes = b.splat(Lane::Q, modulus);
        let less = b.sub(Lane::D, number.reg, modulus_in_lanes);
        Number { reg: b.min_max(Lane::D, false, false, number.reg, less), most: modulus - 1 }
    }
}

/// `floor(factor 2^32 / modulus)`.
fn shoup(factor: u64, modulus: u64) -> u64 {
    (factor << 32) / modulus
}
