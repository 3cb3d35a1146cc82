//! Sums, sums of those, sums of these again: ZFS's fletcher4 and its kin.
//!
//! The states are a linear recurrence `s = M s + x e` whose matrix has ones on its diagonal and nothing
//! above. So M^n is a polynomial in n, `M^n = sum C(n, j) (M - 1)^j`, and no lane has to multiply, as those
//! of [`super::linear`] do. Each lane runs the plainest recurrence of that kind over its own words, whatever
//! M is, in additions alone:
//!
//! ```text
//!     for each vector of the copy, in every lane:
//!         a += x;  b += a;  c += b;  d += c
//!     at the end:
//!         for each lane, r words before the end:      state += T(r) (a, b, c, d)
//!         state += M^n (the imported states)
//! ```
//!
//! After v words of a lane, the sum of order j is the sum of `C(v - 1 - i + j, j) x_i`, for j of 0, 1, 2, 3.
//! What M makes of the same words, k apart in the stream and r before its end, is the sum of
//! `M^(k (v - 1 - i) + r) e x_i`. That is a combination of these four with constant vectors (the columns of
//! T), since the powers of M^k are polynomials of the same degree.

use iced_x86::{Code, Register};

use super::{LoopCarried, LoopPart, Traits, sums};
use crate::analyse;
use crate::backend::native::abi::{LEN, Round, STATES, round_remainder};
use crate::backend::native::asm;
use crate::backend::native::lanes::Lane;
use crate::backend::native::lower::BodyLowering;
use crate::backend::native::vcode::{Builder, VReg};
use crate::ir::{Pipe, Ty, Value};
use crate::plan::stage::{LinearSystem, narrow};

/// The registers of the sums.
pub(super) struct IteratedSums {
    system: LinearSystem,
    /// What is added, of the word's type.
    operand: Value,
    ty: Ty,
    round: Round,
    word: Lane,
    /// Of the states: the word's, or twice as wide. Then there are two parts, the even words and the odd
    /// ones.
    lane: Lane,
    /// For each order of the sums a register a part.
    acc: Vec<Vec<VReg>>,
    /// The words of the remainder, moved to the end of a vector, a register a part.
    remainder: Vec<VReg>,
    /// Where the states are, from the start of the states.
    offsets: Vec<i32>,
}

impl IteratedSums {
    /// Takes registers; `operand` is what a word adds to each.
    pub(super) fn new(
        b: &mut Builder,
        pipe: &Pipe,
        system: &LinearSystem,
        operand: Value,
        offsets: Vec<i32>,
    ) -> IteratedSums {
        let (word, ty) = (Lane::of_bytes(pipe.word_bytes()), pipe.states[system.states[0]].ty);
        let lane = Lane::of_bytes(ty.bytes());
        let parts = lane.bytes() / word.bytes();
        let mut pinned = |count: usize| (0..count).map(|_| b.pinned_vector()).collect::<Vec<VReg>>();
        let acc: Vec<Vec<VReg>> = offsets.iter().map(|_| pinned(parts)).collect();
        let remainder = pinned(parts);
        let zero = b.splat(Lane::B, 0);
        acc.iter().flatten().chain(&remainder).for_each(|reg| b.assign(*reg, zero));
        let operand = if lane == word { operand } else { narrow(pipe, operand).unwrap_or(operand) };
        let (system, round) = (system.clone(), Round::of(pipe.tail, word.bytes()));
        IteratedSums { system, operand, ty, round, word, lane, acc, remainder, offsets }
    }

    fn side(&self) -> usize {
        self.offsets.len()
    }

    fn parts(&self) -> usize {
        self.lane.bytes() / self.word.bytes()
    }

    /// A vector of words in the lanes of the states.
    fn split(&self, b: &mut Builder, words: VReg) -> Vec<VReg> {
        if self.parts() == 1 {
            return vec![words];
        }
        vec![b.and_imm(self.lane, words, self.word.mask()), b.shr(self.lane, words, self.word.bits())]
    }

    /// How many words of a vector are behind that lane's.
    fn behind(&self, b: &Builder, part: usize, lane: u64) -> usize {
        b.vector_bytes() / self.word.bytes() - 1 - (lane as usize * self.parts() + part)
    }

    /// The matrix, so many times, of a vector.
    fn moved(&self, words: usize, vector: &[u64]) -> Vec<u64> {
        analyse::Linear::power_of(0, &self.system.matrix, self.ty, words as u64, vector)
    }

    /// The sum of lanes times numbers, one for each part and number of words behind it, added to `all`.
    fn weigh(
        &self,
        b: &mut Builder,
        mut all: Option<VReg>,
        lanes: &[VReg],
        weight: impl Fn(usize) -> u64,
    ) -> Option<VReg> {
        let count = b.vector_bytes() / self.lane.bytes();
        for (part, lane) in lanes.iter().enumerate() {
            let weights: Vec<u64> =
                (0..count as u64).map(|i| weight(self.behind(b, part, i)) & self.lane.mask()).collect();
            if weights.iter().all(|weight| *weight == 0) {
                continue;
            }
            let mut product = *lane;
            if weights.iter().any(|weight| *weight != 1) {
                let weights = b.lanes_of(self.lane, |i| weights[i as usize]);
                product = b.mul(self.lane, *lane, weights);
            }
            all = Some(all.map_or(product, |all| b.add(self.lane, all, product)));
        }
        all
    }

    /// For each order of a lane's sums, what it contributes to the states, if no word is behind the lane's
    /// last one.
    fn combination(&self, stride: usize) -> Vec<Vec<u64>> {
        let side = self.side();
        let once = vec![1; side];
        let powers: Vec<Vec<u64>> = (0..side).map(|n| self.moved(stride * n, &once)).collect();
        // A sum of `count` vectors, times binomials of changing sign.
        let combined = |terms: &mut dyn Iterator<Item = (u64, usize, &Vec<u64>)>| {
            let mut sum = vec![0u64; side];
            for (factor, away, vector) in terms {
                let factor = if away % 2 == 0 { factor } else { factor.wrapping_neg() };
                sum.iter_mut()
                    .zip(vector)
                    .for_each(|(sum, x)| *sum = sum.wrapping_add(factor.wrapping_mul(*x)));
            }
            sum
        };
        // The polynomial by its differences at 0, and these by the sums' own.
        let differences: Vec<Vec<u64>> =
            (0..side).map(|m| combined(&mut (0..=m).map(|n| (binomial(m, n), m - n, &powers[n])))).collect();
        (0..side)
            .map(|i| combined(&mut (i..side).map(|m| (binomial(m, i), m - i, &differences[m]))))
            .collect()
    }

    /// The states in memory, moved by r11 words. Changes rax, rcx, rdx, r9 and r10.
    fn move_states(&self, b: &mut Builder) {
        let (rax, rdx, r9) = (Register::RAX, Register::RDX, Register::R9);
        let binomials = [Register::R11, Register::R10, Register::RCX];
        let side = self.side();
        // n (n - 1) / 2, and that times (n - 2) / 3, where a product by the inverse of 3 is exact.
        if side > 2 {
            b.raw(asm::rm(Code::Lea_r64_m, binomials[1], binomials[0], Register::None, -1));
            b.raw(asm::rr(Code::Imul_r64_rm64, binomials[1], binomials[0]));
            b.raw(asm::ri(Code::Shr_rm64_imm8, binomials[1], 1));
        }
        if side > 3 {
            b.raw(asm::rm(Code::Lea_r64_m, binomials[2], binomials[0], Register::None, -2));
            b.raw(asm::rr(Code::Imul_r64_rm64, binomials[2], binomials[1]));
            b.raw(asm::mov_imm(rax, 0xaaaa_aaaa_aaaa_aaab));
            b.raw(asm::rr(Code::Imul_r64_rm64, binomials[2], rax));
        }
        let powers = self.nilpotent_powers();
        // Each by those above it, which are still as they were.
        for row in (1..side).rev() {
            b.load_quad_to(rdx, STATES, self.offsets[row]);
            for column in 0..row {
                let mut is_first = true;
                for (power, binomial) in powers.iter().zip(binomials) {
                    let entry = power[row * side + column];
                    if entry == 0 {
                        continue;
                    }
                    let mut term = binomial;
                    if entry != 1 {
                        b.raw(asm::mov_imm(rax, entry));
                        b.raw(asm::rr(Code::Imul_r64_rm64, rax, binomial));
                        term = rax;
                    }
                    let code = if is_first { Code::Mov_r64_rm64 } else { Code::Add_r64_rm64 };
                    b.raw(asm::rr(code, r9, term));
                    is_first = false;
                }
                if !is_first {
                    b.raw(asm::rm(Code::Imul_r64_rm64, r9, STATES, Register::None, self.offsets[column]));
                    b.raw(asm::rr(Code::Add_r64_rm64, rdx, r9));
                }
            }
            sums::store(b, self.ty, self.offsets[row]);
        }
    }

    /// Powers 1, 2, ... of the matrix less the identity, all that are not zero.
    fn nilpotent_powers(&self) -> Vec<Vec<u64>> {
        let side = self.side();
        let mut less = self.system.matrix.clone();
        (0..side).for_each(|at| less[at * side + at] = 0);
        let times = |a: &[u64], at: usize| {
            let terms = (0..side).map(|k| a[at / side * side + k].wrapping_mul(less[k * side + at % side]));
            terms.fold(0, u64::wrapping_add)
        };
        let next = |power: &Vec<u64>| Some((0..side * side).map(|at| times(power, at)).collect());
        std::iter::successors(Some(less.clone()), next).take(side - 1).collect()
    }

    /// Adds lanes to a state in memory.
    fn add_to_state(&self, b: &mut Builder, row: usize, lanes: VReg) {
        b.total(self.lane, lanes, Register::RDX);
        b.raw(asm::rm(Code::Add_r64_rm64, Register::RDX, STATES, Register::None, self.offsets[row]));
        sums::store(b, self.ty, self.offsets[row]);
    }
}

impl LoopCarried for IteratedSums {
    fn traits(&self) -> Traits {
        Traits::ORDERED
    }

    fn step(&mut self, body: &mut BodyLowering<'_>, part: LoopPart) -> Result<(), String> {
        let words = body.int(self.operand)?[0];
        match part {
            // All copies share the registers: an addition a word is as quick as the words come.
            LoopPart::Whole { .. } => {
                for (part, words) in self.split(body.b, words).into_iter().enumerate() {
                    let mut added = words;
                    for sums in &self.acc {
                        let next = body.b.add(self.lane, sums[part], added);
                        body.b.assign(sums[part], next);
                        added = sums[part];
                    }
                }
            }
            LoopPart::Remainder { round, .. } => {
                // The last word goes to the end, where none is behind it.
                round_remainder(body.b, round);
                let zero = body.b.splat(Lane::B, 0);
                let words = body.b.shift_in(zero, words);
                for (register, lanes) in self.remainder.iter().zip(self.split(body.b, words)) {
                    body.b.assign(*register, lanes);
                }
            }
        }
        body.b.check_size()
    }

    fn finish(&self, b: &mut Builder) {
        let (r11, vector) = (Register::R11, b.vector_bytes() as i32);
        let shift = self.word.bytes().trailing_zeros() as i32;
        let words = |b: &mut Builder| {
            if shift > 0 {
                b.raw(asm::ri(Code::Shr_rm64_imm8, r11, shift));
            }
        };
        b.raw(asm::rr(Code::Mov_r64_rm64, r11, LEN));
        b.raw(asm::ri(Code::And_rm64_imm8, r11, -vector));
        words(b);
        self.move_states(b);
        let combination = self.combination(b.vector_bytes() / self.word.bytes());
        for row in 0..self.side() {
            let mut all = None;
            for (vector, sums) in combination.iter().zip(&self.acc) {
                all = self.weigh(b, all, sums, |behind| self.moved(behind, vector)[row]);
            }
            all.into_iter().for_each(|all| self.add_to_state(b, row, all));
        }
        let done = b.new_label();
        b.raw(asm::rr(Code::Mov_r64_rm64, r11, LEN));
        b.raw(asm::ri(Code::And_rm64_imm8, r11, vector - 1));
        b.jump(Code::Je_rel32_64, done);
        if let Round::Up(word) = self.round {
            b.raw(asm::ri(Code::Add_rm64_imm8, r11, word as i32 - 1));
        }
        words(b);
        self.move_states(b);
        let once = vec![1; self.side()];
        for row in 0..self.side() {
            let all = self.weigh(b, None, &self.remainder, |behind| self.moved(behind, &once)[row]);
            all.into_iter().for_each(|all| self.add_to_state(b, row, all));
        }
        b.bind(done);
    }

    fn description(&self) -> String {
        let (bits, sums) = (self.lane.bits(), self.side());
        let registers = (sums + 1) * self.parts();
        format!("sums of {sums} orders in lanes of {bits} bits, {registers} registers")
    }
}

fn binomial(n: usize, k: usize) -> u64 {
    (0..k).fold(1, |product, i| product * (n - i) as u64 / (i + 1) as u64)
}
