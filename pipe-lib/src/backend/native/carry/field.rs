//! Polynomials over GF(2^128) as GHASH has them, `y = y h + x` with a factor that is imported.
//!
//! Every lane of 128 bits is a polynomial of its own in the power of `h` that skips the words in between, as
//! in [`super::linear`]. Of an iteration's vectors each is multiplied by the power that is due until its end,
//! the products are added as they are, and brought to 128 bits once (aggregated reduction, Gueron and
//! Kounavis, 2010):
//!
//! ```text
//!     4 lanes, vectors v0 .. v3:    y = y h^16 + v0 h^12 + v1 h^8 + v2 h^4 + v3
//!     together:                     y0 h^3 + y1 h^2 + y2 h + y3
//! ```
//!
//! The imported number is the last lane's first value: it comes before the word of lane 0 as that lane's word
//! before would. Powers are kept times `x`, since the carry-less product of numbers whose most significant
//! bit is `x^0` is one place short; they are computed in front of the loops.

use super::{LoopCarried, LoopPart, Traits};
use crate::backend::native::abi::{Round, STATES, round_remainder};
use crate::backend::native::isa::{Features, Isa};
use crate::backend::native::lanes::Lane;
use crate::backend::native::lanes::whole::at;
use crate::backend::native::lower::BodyLowering;
use crate::backend::native::vcode::{Builder, Mem, VReg};
use crate::ir::{Pipe, Value};

/// Bytes of a word.
const WORD: usize = 16;

/// Sums of products of 128 bits, in three parts that overlap by half.
#[derive(Clone, Copy)]
struct Products {
    low: VReg,
    middle: VReg,
    high: VReg,
}

/// Where a number is kept that is multiplied by.
#[derive(Clone, Copy)]
enum PowerPlace {
    Reg(VReg),
    /// On the stack, where registers are few: it is overwritten at the end.
    Slot(Mem),
}

/// The registers of one such state.
pub(super) struct FieldState {
    operand: Value,
    /// In each lane its polynomial, the last vector not multiplied yet.
    acc: VReg,
    /// `h` to the power of a vector's words, and that to the powers 2, 3, ...; in every lane.
    powers: Vec<PowerPlace>,
    /// `h` to the number of words from a lane on, where there are registers enough to keep it.
    weights: Option<VReg>,
    /// Where `h` is.
    factor: i32,
    /// What the vectors of this iteration have come to so far.
    pending: Option<Products>,
    /// Where the state is.
    offset: i32,
}

impl FieldState {
    /// Takes registers and imports the state and the factor, which are at these places.
    pub(super) fn new(
        b: &mut Builder,
        pipe: &Pipe,
        operand: Value,
        copies: usize,
        [offset, factor]: [i32; 2],
    ) -> FieldState {
        debug_assert_eq!(pipe.word_bytes(), WORD);
        let lanes = b.vector_bytes() / WORD;
        let acc = b.pinned_vector();
        let state = b.load_block(at(STATES, offset));
        let state = only(b, state, lanes - 1);
        b.assign(acc, state);
        // h, h^2 .. h^lanes, then the powers of that.
        let h = b.load_block(at(STATES, factor));
        let mut single = vec![times_x(b, h)];
        for n in 2..=lanes {
            let next = power(b, &single, n);
            single.push(next);
        }
        let weights = (b.isa == Isa::Avx512).then(|| {
            let mut weights = only(b, single[lanes - 1], 0);
            for lane in 1..lanes {
                let own = only(b, single[lanes - 1 - lane], lane);
                weights = b.or(weights, own);
            }
            let pinned = b.pinned_vector();
            b.assign(pinned, weights);
            pinned
        });
        let mut vectors = vec![single[lanes - 1]];
        for n in 2..=copies {
            let next = power(b, &vectors, n);
            vectors.push(next);
        }
        let powers = vectors.into_iter().map(|power| {
            if narrow(b) {
                let slot = b.slot();
                b.store(slot, power);
                return PowerPlace::Slot(slot);
            }
            let pinned = b.pinned_vector();
            b.assign(pinned, power);
            PowerPlace::Reg(pinned)
        });
        FieldState { operand, acc, powers: powers.collect(), weights, factor, pending: None, offset }
    }

    /// Takes vector number `copy` of the `distance` that an iteration has.
    fn add(&mut self, b: &mut Builder, copy: usize, distance: usize, words: VReg) {
        if copy == 0 {
            let mut all = products(b, self.acc, self.powers[distance - 1], None);
            if narrow(b) {
                // What it was is used up.
                b.assign(self.acc, all.low);
                all.low = self.acc;
            }
            self.pending = Some(all);
        }
        let left = distance - 1 - copy;
        if left > 0 {
            let mut all = products(b, words, self.powers[left - 1], self.pending);
            if narrow(b) {
                b.assign(self.acc, all.low);
                all.low = self.acc;
            }
            self.pending = Some(all);
        } else if let Some(all) = self.pending.take() {
            let moved = reduced(b, all);
            let sum = b.xor(moved, words);
            b.assign(self.acc, sum);
        }
    }

    /// `h` to the number of words from a lane on.
    fn weights(&self, b: &mut Builder) -> VReg {
        self.weights.unwrap_or_else(|| {
            // Of two lanes the upper one has the last word.
            debug_assert_eq!(b.vector_bytes(), 2 * WORD);
            let h = b.load_block(at(STATES, self.factor));
            let one = times_x(b, h);
            let first = match self.powers[0] {
                PowerPlace::Reg(reg) => reg,
                PowerPlace::Slot(slot) => b.load(slot),
            };
            let (lower, upper) = (only(b, first, 0), only(b, one, 1));
            b.or(lower, upper)
        })
    }
}

impl LoopCarried for FieldState {
    fn traits(&self) -> Traits {
        Traits { ends_in_remainder: true, ..Traits::ORDERED }
    }

    fn step(&mut self, body: &mut BodyLowering<'_>, part: LoopPart) -> Result<(), String> {
        let mut words = body.int(self.operand)?[0];
        let b = &mut *body.b;
        match part {
            LoopPart::Whole { copy, distance } => self.add(b, copy, distance, words),
            LoopPart::Remainder { round, .. } => {
                let lanes = b.vector_bytes() / WORD;
                let mut before = b.splat(Lane::B, 0);
                let weights = self.weights(b);
                let last = behind(b, weights);
                match round {
                    // At least one word: what was before goes with it.
                    Round::Up(_) => {
                        let moved = weighted(b, self.acc, weights);
                        let moved = only(b, moved, 0);
                        words = b.xor(words, moved);
                    }
                    // Fewer than a vector has: there is room for one more.
                    Round::Down(_) => {
                        let all = weighted(b, self.acc, last);
                        before = only(b, all, lanes - 1);
                    }
                }
                round_remainder(b, round);
                let moved = b.shift_in(before, words);
                let sum = weighted(b, moved, last);
                b.assign(self.acc, sum);
            }
        }
        body.b.check_size()
    }

    fn no_remainder(&self, b: &mut Builder) {
        let weights = self.weights(b);
        let last = behind(b, weights);
        let sum = weighted(b, self.acc, last);
        b.assign(self.acc, sum);
    }

    fn finish(&self, b: &mut Builder) {
        b.store_block(at(STATES, self.offset), self.acc);
        let zero = b.splat(Lane::B, 0);
        for power in &self.powers {
            if let PowerPlace::Slot(slot) = power {
                b.store(*slot, zero);
            }
        }
    }

    fn description(&self) -> String {
        let what = match self.powers[0] {
            PowerPlace::Reg(_) => "registers of powers",
            PowerPlace::Slot(_) => "powers in memory",
        };
        let count = self.powers.len() + usize::from(self.weights.is_some());
        format!("a polynomial in each lane of 128 bits, and {count} {what}")
    }
}

/// Whether registers are so few that the sum of an iteration is where the number was, and powers are in
/// memory.
fn narrow(b: &Builder) -> bool {
    b.isa == Isa::Avx2 && b.features.has(Features::VPCLMUL)
}

/// `h` to the number of words behind a lane, of `h` to that from it on.
fn behind(b: &mut Builder, weights: VReg) -> VReg {
    let one = polynomial(b);
    b.blocks_moved_on(weights, one)
}

/// One lane of 128 bits, zeros elsewhere.
fn only(b: &mut Builder, x: VReg, lane: usize) -> VReg {
    let own = b.lanes_of(Lane::Q, |i| if i as usize / 2 == lane { u64::MAX } else { 0 });
    b.and(x, own)
}

/// `x^128 + x^7 + x^2 + x + 1` with `x^0` on top and `x^128` left out, times `x`: also what 1 times `x` is.
fn polynomial(b: &mut Builder) -> VReg {
    b.lanes_of(Lane::Q, |i| if i % 2 == 0 { 1 } else { 0xc2 << 56 })
}

/// Each number times `x`: one bit up, and what leaves comes back.
fn times_x(b: &mut Builder, a: VReg) -> VReg {
    let doubled = b.shl(Lane::Q, a, 1);
    let carried = b.shr(Lane::Q, a, 63);
    let carried = b.moved_up_in_lanes(carried, 8);
    let top = b.chosen_in_lanes(a, 0xff);
    let leaves = b.sar(Lane::D, top, 31);
    let polynomial = polynomial(b);
    let back = b.and(leaves, polynomial);
    b.xor3(doubled, carried, back)
}

/// Power number `n` from those before it.
fn power(b: &mut Builder, powers: &[VReg], n: usize) -> VReg {
    let (x, y) = (powers[n / 2 - 1], powers[n - n / 2 - 1]);
    let all = products(b, x, PowerPlace::Reg(y), None);
    reduced(b, all)
}

/// Products lane by lane, added to `sums`.
fn products(b: &mut Builder, x: VReg, y: PowerPlace, sums: Option<Products>) -> Products {
    let full = b.full();
    let product = |b: &mut Builder, halves| match y {
        PowerPlace::Reg(y) => b.clmul_halves(full, x, y, halves),
        PowerPlace::Slot(slot) => b.clmul_halves_by(x, slot, halves),
    };
    let high = product(b, 0x11);
    let (one, other) = (product(b, 0x01), product(b, 0x10));
    let (middle, high) = match sums {
        None => (b.xor(one, other), high),
        Some(sums) => (b.xor3(sums.middle, one, other), b.xor(sums.high, high)),
    };
    // Last, so that it may take the place of what was multiplied.
    let low = product(b, 0x00);
    let low = sums.map_or(low, |sums| b.xor(sums.low, low));
    Products { low, middle, high }
}

/// What they are in the field.
fn reduced(b: &mut Builder, all: Products) -> VReg {
    let full = b.full();
    let polynomial = polynomial(b);
    let mut fold = |low: VReg, high: VReg| {
        let product = b.clmul_halves(full, low, polynomial, 0x10);
        let swapped = b.chosen_in_lanes(low, 0x4e);
        b.xor3(high, product, swapped)
    };
    let middle = fold(all.low, all.middle);
    fold(middle, all.high)
}

/// The sum of all lanes, each times its weight, in every lane.
fn weighted(b: &mut Builder, x: VReg, weights: VReg) -> VReg {
    let mut all = products(b, x, PowerPlace::Reg(weights), None);
    for part in [&mut all.low, &mut all.middle, &mut all.high] {
        let mut distance = b.vector_bytes() / 2;
        while distance >= WORD {
            let other = b.exchange(*part, distance);
            *part = b.xor(*part, other);
            distance /= 2;
        }
    }
    reduced(b, all)
}
