//! Linear recurrences `s = M s + x` with a constant matrix, over numbers that wrap or modulo a number:
//! polynomial hashes, where M is one factor, hashes modulo a prime, and states that depend on each other.
//!
//! Every lane of a copy is a recurrence of its own, by the power of M that skips the words in between:
//!
//! ```text
//!     words of 4 lanes, 2 copies:   x0 x1 x2 x3 | x4 x5 x6 x7 | x8 ...
//!     copy 0, lane 0:               s = M^8 s + x0, then M^8 s + x8, ...
//!     copy 1, lane 3:               s = M^8 s + x7, ...
//!     together, after x7:           sum of M^(7 - i) times what has x_i
//! ```
//!
//! At the end each lane is multiplied by the power for the words behind it, and all are added. The imported
//! states are the last lane's first value: they precede the word of lane 0, as that lane's previous word
//! would. In the remainder each word is multiplied by its power, from a table that has zeros for words that
//! are not there.
//!
//! Where the loop is entered in the middle of an iteration, the imported value has to come before another
//! copy than the one that takes it in. A single odd factor has an inverse modulo two to the width, whose
//! powers correct for that.
//!
//! Modulo `m < 2^31` numbers are kept in lanes of 64 bits, below 2^32: with `c' = floor(c 2^32 / m)` the
//! number `c v - floor(c' v / 2^32) m` is less than `2 m` and congruent to `c v` (Shoup's multiplication by a
//! constant). Bounds are tracked while the code is made, so that numbers are reduced below `m` only where
//! they must be.

use iced_x86::{Code, Register};

use super::pair::{PairedLanes, times};
use super::{LoopCarried, LoopPart, Traits, sums};
use crate::analyse;
use crate::backend::native::abi::{LEN, Round, STATES, round_remainder};
use crate::backend::native::asm;
use crate::backend::native::lanes::Lane;
use crate::backend::native::lanes::whole::{at, indexed};
use crate::backend::native::lower::BodyLowering;
use crate::backend::native::vcode::{Builder, VReg};
use crate::ir::{Pipe, Ty, Value};
use crate::plan::stage::{LinearSystem, MAX_NUMBER, inverse};

/// A vector of numbers, each no more than `most` (of no meaning where arithmetic wraps).
#[derive(Clone, Copy)]
pub(super) struct BoundedLanes {
    pub(super) reg: VReg,
    pub(super) most: u64,
}

/// A factor, the same or another one in each lane.
#[derive(Clone, Copy)]
enum Factor {
    Splat(u64),
    /// The factor, and modulo a number [`shoup`] of it.
    Lanes(VReg, Option<VReg>),
}

/// The registers of one recurrence.
pub(super) struct LinearLanes {
    system: LinearSystem,
    /// What a word adds to each state.
    operands: Vec<Value>,
    ty: Ty,
    /// How much of the remainder counts.
    round: Round,
    word: Lane,
    /// Of the states, and of the vectors that a vector of words becomes.
    lane: Lane,
    /// For each copy and state, a register for each of these vectors.
    acc: Vec<Vec<Vec<VReg>>>,
    /// The copies of the unrolled loop, if both states are in one register there.
    paired: Option<PairedLanes>,
    /// What the remainder contributes, one a state; zero before it.
    remainder: Vec<VReg>,
    /// Where the states are, from the start of the states.
    offsets: Vec<i32>,
}

impl LinearLanes {
    /// Takes registers and imports the states.
    pub(super) fn new(
        b: &mut Builder,
        pipe: &Pipe,
        system: &LinearSystem,
        operands: &[Value],
        copies: usize,
        offsets: Vec<i32>,
    ) -> LinearLanes {
        let (word, ty) = (Lane::of_bytes(pipe.word_bytes()), pipe.states[system.states[0]].ty);
        let lane = if system.modulus == 0 { Lane::of_bytes(ty.bytes()).max(word) } else { Lane::Q };
        let parts = lane.bytes() / word.bytes();
        let side = offsets.len();
        let mut pinned = |count: usize| (0..count).map(|_| b.pinned_vector()).collect::<Vec<VReg>>();
        let halves = system.halves.filter(|_| copies >= side);
        let single = if halves.is_some() { 1 } else { copies };
        let acc: Vec<Vec<Vec<VReg>>> =
            (0..single).map(|_| (0..side).map(|_| pinned(parts)).collect()).collect();
        let paired = halves.map(|halves| PairedLanes { halves, acc: pinned(copies) });
        // What is left comes when the copies have been merged: registers of theirs are free then.
        let remainder = match (&paired, acc.get(1)) {
            (Some(paired), _) => paired.acc[..side].to_vec(),
            (None, Some(second)) => second.iter().map(|parts| parts[0]).collect(),
            (None, None) => pinned(side),
        };
        let zero = b.splat(Lane::B, 0);
        acc[0].iter().flatten().chain(&remainder).for_each(|reg| b.assign(*reg, zero));
        let round = Round::of(pipe.tail, word.bytes());
        let (system, operands) = (system.clone(), operands.to_vec());
        let linear = LinearLanes { system, operands, ty, round, word, lane, acc, paired, remainder, offsets };
        let imported = linear.imported(b, None);
        linear.take_in(b, 0, &imported);
        linear
    }

    /// The imported states, times a factor, in the last lane of a vector each, and zeros in the others.
    fn imported(&self, b: &mut Builder, factor: Option<VReg>) -> Vec<VReg> {
        let lanes = b.vector_bytes() / self.lane.bytes();
        let import = |offset: &i32| {
            let loaded = b.load_broadcast(self.lane, at(STATES, *offset));
            let last = b.lanes_of(self.lane, |i| if i as usize + 1 == lanes { self.lane.mask() } else { 0 });
            let mut value = b.and(loaded, last);
            if self.system.modulus != 0 {
                // Anything may have been imported.
                let low = b.and_imm(Lane::Q, value, MAX_NUMBER);
                let mut sum = self.times(b, Factor::Splat(1), BoundedLanes { reg: low, most: MAX_NUMBER });
                if self.ty == Ty::U64 {
                    let high = b.shr(Lane::Q, value, 32);
                    let factor = Factor::Splat((1 << 32) % self.system.modulus);
                    let high = self.times(b, factor, BoundedLanes { reg: high, most: MAX_NUMBER });
                    sum = self.sum(b, sum, high);
                }
                value = self.reduced(b, sum).reg;
            }
            match factor {
                Some(factor) => b.mul(self.lane, value, factor),
                None => value,
            }
        };
        self.offsets.iter().map(import).collect()
    }

    /// What was imported comes before the copy's words.
    fn take_in(&self, b: &mut Builder, copy: usize, imported: &[VReg]) {
        for (parts, value) in self.acc[copy].iter().zip(imported) {
            if let Some(last) = parts.last() {
                b.assign(*last, *value);
            }
        }
    }

    /// Takes the words of one vector, what they add to each state; `distance` vectors make an iteration.
    fn add(&self, b: &mut Builder, copy: usize, distance: usize, words: &[Vec<VReg>]) {
        let matrix = self.power(self.words(b) * distance);
        #[allow(clippy::needless_range_loop, reason = "a part of the vectors of each state")]
        for part in 0..self.parts() {
            let numbers = self.loaded(&self.acc[copy], part);
            let next: Vec<BoundedLanes> = (0..self.side())
                .map(|row| {
                    let added = BoundedLanes { reg: words[row][part], most: self.system.most[row] };
                    let moved = self.product(b, &self.splats(&matrix, row), &numbers);
                    match moved {
                        Some(moved) => self.sum(b, moved, added),
                        None => {
                            // The words themselves may be needed after this; see [`Builder::assign`].
                            let zero = b.splat(Lane::B, 0);
                            BoundedLanes { reg: b.add(self.lane, added.reg, zero), ..added }
                        }
                    }
                })
                .collect();
            self.stored(b, &self.acc[copy], part, &next);
        }
    }

    /// Takes the words in the first rax bytes of a vector, what they add to each state. Changes rax and r9.
    fn add_remainder(&self, b: &mut Builder, words: &[Vec<VReg>]) {
        let (count, side, bytes) = (self.words(b), self.side(), self.lane.bytes());
        let (rax, r9) = (Register::RAX, Register::R9);
        let scale = bytes.trailing_zeros() - self.word.bytes().trailing_zeros();
        if scale > 0 {
            b.raw(asm::ri(Code::Shl_rm32_imm8, Register::EAX, scale as i32));
        }
        let powers: Vec<Vec<u64>> = (0..=count).map(|n| self.power(n)).collect();
        // As many powers as there are words, for what was before them.
        let rising: Vec<Option<Factor>> = (0..side * side)
            .map(|entry| {
                let numbers: Vec<u64> = powers.iter().map(|matrix| matrix[entry]).collect();
                let quotients = self.table(b, &numbers)?;
                let mut load = |disp| b.load_broadcast(self.lane, indexed(r9, rax, 1, disp));
                Some(Factor::Lanes(load(0), quotients.map(load)))
            })
            .collect();
        for part in 0..self.parts() {
            let numbers = self.loaded(&self.acc[0], part);
            let zero = b.splat(Lane::B, 0);
            let next: Vec<BoundedLanes> = (0..side)
                .map(|row| {
                    let moved = self.product(b, &rising[row * side..][..side], &numbers);
                    moved.unwrap_or(BoundedLanes { reg: zero, most: 0 })
                })
                .collect();
            self.stored(b, &self.acc[0], part, &next);
        }
        // The powers down to the last word's, and zeros behind it: loaded from that far before the table's
        // middle.
        for row in 0..side {
            let mut sum = BoundedLanes { reg: self.remainder[row], most: 0 };
            for (column, words) in words.iter().enumerate() {
                let entry = row * side + column;
                let number = |i: usize| if i < count { powers[count - 1 - i][entry] } else { 0 };
                let numbers: Vec<u64> = (0..2 * count).map(number).collect();
                let Some(quotients) = self.table(b, &numbers) else { continue };
                b.raw(asm::rr(Code::Sub_r64_rm64, r9, rax));
                for (part, reg) in words.iter().enumerate() {
                    let middle = (count * bytes + part * b.vector_bytes()) as i32;
                    let mut load = |disp: i32| b.load(at(r9, middle + disp));
                    let factor = Factor::Lanes(load(0), quotients.map(load));
                    let weighted =
                        self.times(b, factor, BoundedLanes { reg: *reg, most: self.system.most[column] });
                    sum = self.sum(b, sum, weighted);
                }
            }
            let sum = self.reduced(b, sum);
            b.assign(self.remainder[row], sum.reg);
        }
    }

    /// r9: a table of `numbers` in the lanes' width; modulo a number, followed by [`shoup`] of each. Gives
    /// the distance in bytes between the two. `None`, and nothing done, if all are zero.
    fn table(&self, b: &mut Builder, numbers: &[u64]) -> Option<Option<i32>> {
        if numbers.iter().all(|number| *number == 0) {
            return None;
        }
        let (modulus, bytes) = (self.system.modulus, self.lane.bytes());
        let quotients = if modulus == 0 { &[] } else { numbers };
        let quotients = quotients.iter().map(|number| shoup(*number, modulus));
        let all = numbers.iter().copied().chain(quotients);
        let table = all.flat_map(|number| number.to_le_bytes().into_iter().take(bytes)).collect();
        let entry = b.table(table);
        b.lea_pool(Register::R9, entry);
        Some((modulus != 0).then_some((numbers.len() * bytes) as i32))
    }

    /// The states of all copies together, a register each.
    fn merge_paired(&self, b: &mut Builder, paired: &PairedLanes) {
        let (words, copies) = (self.words(b), paired.acc.len());
        let numbers: Vec<[BoundedLanes; 2]> = (0..copies).map(|copy| paired.numbers(b, copy)).collect();
        let merged = [0, 1].map(|row| {
            let mut sum: Option<BoundedLanes> = None;
            for (copy, numbers) in numbers.iter().enumerate() {
                let power = self.power(words * (copies - 1 - copy));
                let matrix = paired.halves.matrix.map(u64::from);
                let matrix = times(self.ty, &power, &matrix);
                let moved = self.product(b, &self.splats(&matrix, row), numbers);
                sum = match (sum, moved) {
                    (Some(sum), Some(moved)) => Some(self.sum(b, sum, moved)),
                    (sum, moved) => sum.or(moved),
                };
            }
            sum
        });
        let zero = b.splat(Lane::B, 0);
        let merged = merged.map(|sum| sum.unwrap_or(BoundedLanes { reg: zero, most: 0 }));
        self.stored(b, &self.acc[0], 0, &merged);
        self.clear_remainder(b);
    }

    fn clear_remainder(&self, b: &mut Builder) {
        let zero = b.splat(Lane::B, 0);
        self.remainder.iter().for_each(|reg| b.assign(*reg, zero));
    }

    fn side(&self) -> usize {
        self.offsets.len()
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
            let LinearSystem { modulus, matrix, .. } = &self.system;
            let image = analyse::Linear::power_of(*modulus, matrix, self.ty, exponent as u64, &unit);
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

    /// Vectors of words in the lanes of the states.
    fn wide(&self, b: &mut Builder, words: &[VReg]) -> Vec<VReg> {
        let from = Lane::of_bytes(self.word.bytes() * words.len());
        if from == self.lane {
            return words.to_vec();
        }
        words.iter().flat_map(|words| b.widen(false, from, self.lane, *words)).collect()
    }

    fn loaded(&self, registers: &[Vec<VReg>], part: usize) -> Vec<BoundedLanes> {
        let most = self.kept();
        registers.iter().map(|state| BoundedLanes { reg: state[part], most }).collect()
    }

    fn stored(&self, b: &mut Builder, registers: &[Vec<VReg>], part: usize, numbers: &[BoundedLanes]) {
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
        if self.side() == 1 { MAX_NUMBER } else { self.system.modulus }
    }

    /// The sum of factors times numbers; `None` if there is none.
    fn product(
        &self,
        b: &mut Builder,
        factors: &[Option<Factor>],
        numbers: &[BoundedLanes],
    ) -> Option<BoundedLanes> {
        let mut sum: Option<BoundedLanes> = None;
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

    fn times(&self, b: &mut Builder, factor: Factor, number: BoundedLanes) -> BoundedLanes {
        let modulus = self.system.modulus;
        if modulus == 0 {
            let reg = match factor {
                Factor::Splat(1) => number.reg,
                Factor::Splat(factor) if factor.is_power_of_two() => {
                    b.shl(self.lane, number.reg, factor.trailing_zeros())
                }
                Factor::Splat(factor) => {
                    let factor = b.splat(self.lane, factor);
                    self.low_product(b, number.reg, factor)
                }
                Factor::Lanes(factor, _) => self.low_product(b, number.reg, factor),
            };
            return BoundedLanes { reg, most: 0 };
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
        let Some(quotient) = quotient else { return BoundedLanes { reg: product, most: u64::MAX } };
        let quotient = b.mul_wide(number.reg, quotient);
        let quotient = b.shr(Lane::Q, quotient, 32);
        let modulus_in_lanes = b.splat(Lane::Q, modulus);
        let whole = b.mul_wide(quotient, modulus_in_lanes);
        BoundedLanes { reg: b.sub(Lane::Q, product, whole), most: 2 * modulus - 1 }
    }

    /// The product of lanes, as far as the type needs it. Of lanes of 64 bits with states of no more than 32,
    /// the product of the lower halves suffices, and is one instruction.
    fn low_product(&self, b: &mut Builder, x: VReg, y: VReg) -> VReg {
        if self.lane == Lane::Q && self.ty.bits() <= 32 { b.mul_wide(x, y) } else { b.mul(self.lane, x, y) }
    }

    fn sum(&self, b: &mut Builder, mut x: BoundedLanes, mut y: BoundedLanes) -> BoundedLanes {
        if self.system.modulus == 0 {
            return BoundedLanes { reg: b.add(self.lane, x.reg, y.reg), most: 0 };
        }
        // The bigger one first; a sum of two that are below the modulus always fits.
        for _ in 0..2 {
            if x.most + y.most > MAX_NUMBER {
                let bigger = if x.most >= y.most { &mut x } else { &mut y };
                *bigger = self.reduced(b, *bigger);
            }
        }
        BoundedLanes { reg: b.add(self.lane, x.reg, y.reg), most: x.most + y.most }
    }

    /// The same modulo the modulus, below it.
    fn reduced(&self, b: &mut Builder, number: BoundedLanes) -> BoundedLanes {
        let modulus = self.system.modulus;
        if modulus == 0 || number.most < modulus {
            return number;
        }
        let number = self.times(b, Factor::Splat(1), number);
        // Below twice the modulus: what is too much, or has wrapped.
        let modulus_in_lanes = b.splat(Lane::Q, modulus);
        let less = b.sub(Lane::D, number.reg, modulus_in_lanes);
        BoundedLanes { reg: b.min_max(Lane::D, false, false, number.reg, less), most: modulus - 1 }
    }
}

impl LoopCarried for LinearLanes {
    fn traits(&self) -> Traits {
        Traits::ORDERED
    }

    /// It is the last copy that takes in what was imported.
    fn begin_unrolled(&self, b: &mut Builder) {
        if let Some(paired) = &self.paired {
            let imported = self.imported(b, None);
            let numbers: Vec<BoundedLanes> =
                imported.iter().map(|reg| BoundedLanes { reg: *reg, most: 0 }).collect();
            let into = paired.halves.inverse().map(u64::from);
            let zero = b.splat(Lane::B, 0);
            let [low, high] = [0, 1].map(|row| {
                let sum = self.product(b, &self.splats(&into, row), &numbers);
                sum.map_or(zero, |sum| sum.reg)
            });
            paired.begin(b, low, high);
            return;
        }
        let last = self.acc.len() - 1;
        if last == 0 {
            return;
        }
        let zero = b.splat(Lane::B, 0);
        self.acc.iter().flatten().flatten().for_each(|acc| b.assign(*acc, zero));
        let mut factor = None;
        if self.system.has_inverse() {
            let skipped = inverse(self.system.matrix[0]).wrapping_pow(self.words(b) as u32);
            let factors = (0..=last as u32).flat_map(|copy| skipped.wrapping_pow(copy).to_le_bytes());
            let factors = b.table(factors.collect());
            b.lea_pool(Register::R9, factors);
            factor = Some(b.load_broadcast(self.lane, indexed(Register::R9, Register::RAX, 8, 0)));
        }
        let imported = self.imported(b, factor);
        self.take_in(b, last, &imported);
    }

    fn step(&mut self, body: &mut BodyLowering<'_>, part: LoopPart) -> Result<(), String> {
        if let (Some(paired), LoopPart::Whole { copy, distance: 2.. }) = (&self.paired, part) {
            let words = body.int(paired.halves.word)?[0];
            let matrix = self.power(self.words(body.b) * paired.acc.len());
            paired.add(body.b, copy, &matrix, words);
            return body.b.check_size();
        }
        // Where arithmetic wraps, so do the bits above those that count.
        let wraps = self.system.modulus == 0;
        let words = |value: &Value| if wraps { body.low_bits(*value) } else { body.int(*value) };
        let words = self.operands.iter().map(words).collect::<Result<Vec<_>, _>>()?;
        if let LoopPart::Remainder { round, .. } = part {
            round_remainder(body.b, round);
        }
        let words: Vec<Vec<VReg>> = words.iter().map(|words| self.wide(body.b, words)).collect();
        match part {
            LoopPart::Whole { copy, distance } => self.add(body.b, copy, distance, &words),
            LoopPart::Remainder { .. } => self.add_remainder(body.b, &words),
        }
        body.b.check_size()
    }

    fn merge_copies(&self, b: &mut Builder) {
        if let Some(paired) = &self.paired {
            self.merge_paired(b, paired);
            return;
        }
        let (words, copies) = (self.words(b), self.acc.len());
        for part in 0..self.parts() {
            let mut sums = self.loaded(&self.acc[copies - 1], part);
            for copy in 0..copies - 1 {
                let numbers = self.loaded(&self.acc[copy], part);
                let matrix = self.power(words * (copies - 1 - copy));
                for (row, sum) in sums.iter_mut().enumerate() {
                    let moved = self.product(b, &self.splats(&matrix, row), &numbers);
                    *sum = moved.map_or(*sum, |moved| self.sum(b, *sum, moved));
                }
            }
            self.stored(b, &self.acc[0], part, &sums);
        }
        if copies > 1 {
            self.clear_remainder(b);
        }
    }

    fn finish(&self, b: &mut Builder) {
        let (count, side, lanes) = (self.words(b), self.side(), b.vector_bytes() / self.lane.bytes());
        let none = b.new_label();
        let modulus = self.system.modulus;
        if modulus != 0 {
            // Without a word nothing is reduced either.
            let first = match self.round {
                Round::Up(_) => 1,
                Round::Down(word) => word,
            };
            b.raw(asm::ri(Code::Cmp_rm64_imm8, LEN, first as i32));
            b.jump(Code::Jb_rel32_64, none);
        }
        let powers: Vec<Vec<u64>> = (0..count).map(|n| self.power(n)).collect();
        for row in 0..side {
            let mut all = BoundedLanes { reg: self.remainder[row], most: modulus };
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
                b.total(self.lane, all.reg, Register::RDX);
            } else {
                // A few numbers of 32 bits.
                let (rax, r9) = (Register::RAX, Register::R9);
                b.total(Lane::Q, all.reg, rax);
                b.raw(asm::mov_imm(r9, modulus));
                b.raw(asm::rr(Code::Xor_r32_rm32, Register::EDX, Register::EDX));
                b.raw(asm::r(Code::Div_rm64, r9));
            }
            sums::store(b, self.ty, self.offsets[row]);
        }
        b.bind(none);
    }

    fn description(&self) -> String {
        if let Some(paired) = &self.paired {
            let registers = paired.acc.len();
            return format!("2 in the halves of each lane, the imported in the last, {registers} registers");
        }
        let registers: usize = self.acc.iter().flatten().map(Vec::len).sum();
        let bits = self.lane.bits();
        match self.side() {
            1 => format!(
                "a hash in each lane of {bits} bits, the imported one in the last, {registers} registers"
            ),
            states => {
                format!(
                    "{states} in each lane of {bits} bits, the imported in the last, {registers} registers"
                )
            }
        }
    }
}

/// `floor(factor 2^32 / modulus)`.
fn shoup(factor: u64, modulus: u64) -> u64 {
    (factor << 32) / modulus
}
