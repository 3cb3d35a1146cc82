//! Sums that stop at a limit, and states that go by each other.

use super::draft::Draft;
use crate::ir::{BinaryOp, CompareOp, ConvertOp, ModOp, StateId, Ty, Value};

/// Moduli that a system's states are kept below.
const MODULI: [u64; 6] = [251, 255, 65521, 1_000_003, 0x7fff_ffff, 0xffff_fffb];

impl Draft<'_> {
    /// A sum, or a counter of words, up to a limit; now and then one that only looks like it.
    pub(super) fn limited(&mut self, word: Ty) {
        let counters = self.rng.between(1, 2);
        let mut states = Vec::new();
        let x = self.b.input();
        for number in 0..counters {
            let ty = *self.rng.pick(&Ty::INTEGERS);
            let limit = match self.rng.below(4) {
                0 => ty.mask(),
                1 => self.rng.below(300) as u64 & ty.mask(),
                2 => self.rng.edge() & ty.mask(),
                _ => self.rng.between(1, 100) as u64,
            };
            let init = if self.rng.chance(1, 6) { self.rng.edge() & ty.mask() } else { limit / 3 };
            let state = self.b.state(&format!("s{number}"), ty, init);
            let old = self.b.read(state);
            let (other, one, zero) = (self.value(word), self.b.literal(ty, 1), self.b.literal(ty, 0));
            let cond = self.b.compare(*self.rng.pick(CompareOp::ALL), x, other);
            let step = match self.rng.below(4) {
                0 if word.bits() <= ty.bits() => self.widened(x, ty),
                1 => self.b.select(cond, one, zero),
                2 => self.b.literal(ty, 3),
                _ => self.b.convert(ConvertOp::Zext, cond, ty),
            };
            let new = self.stopped(ty, old, step, one, limit);
            let new = if self.rng.chance(1, 3) { self.b.select(cond, new, old) } else { new };
            self.b.set(state, new);
            states.push(state);
        }
        if self.rng.chance(1, 8) {
            let out = self.value(word);
            self.b.output(out);
        }
        self.finish_block(&states);
    }

    /// `old + step`, or one more, up to the limit.
    fn stopped(&mut self, ty: Ty, old: Value, step: Value, one: Value, limit: u64) -> Value {
        let stop = self.b.literal(ty, limit);
        let sum = self.b.binary(BinaryOp::Add, old, step);
        match self.rng.below(8) {
            0 => self.b.binary(BinaryOp::Min, sum, stop),
            1 => {
                let fits = self.b.compare(CompareOp::Leu, sum, stop);
                self.b.select(fits, sum, stop)
            }
            2 => {
                let ones = self.b.literal(ty, ty.mask());
                let wraps = self.b.compare(CompareOp::Ltu, sum, old);
                self.b.select(wraps, ones, sum)
            }
            3 => {
                let full = self.b.compare(CompareOp::Eq, old, stop);
                let more = self.b.binary(BinaryOp::Add, old, one);
                self.b.select(full, old, more)
            }
            4 => {
                let room = self.b.binary(BinaryOp::Sub, stop, old);
                let step = self.b.binary(BinaryOp::Min, step, room);
                self.b.binary(BinaryOp::Add, old, step)
            }
            5 => {
                let below = self.b.compare(CompareOp::Ltu, old, stop);
                let bit = self.b.convert(ConvertOp::Zext, below, ty);
                self.b.binary(BinaryOp::Add, old, bit)
            }
            6 if ty != Ty::U64 => {
                let wide = if ty == Ty::U8 { Ty::U16 } else { Ty::U64 };
                let (a, b) = (self.widened(old, wide), self.widened(step, wide));
                let sum = self.b.binary(BinaryOp::Add, a, b);
                let stop = self.b.literal(wide, limit);
                let sum = self.b.binary(BinaryOp::Min, sum, stop);
                self.b.convert(ConvertOp::Trunc, sum, ty)
            }
            _ => {
                let first = self.b.binary(BinaryOp::Min, sum, stop);
                let sum = self.b.binary(BinaryOp::Add, first, one);
                self.b.binary(BinaryOp::Min, sum, stop)
            }
        }
    }

    /// Two to four states of one type, each affine in all of them, wrapping or modulo a constant.
    pub(super) fn system(&mut self, word: Ty) {
        let wider: Vec<Ty> = Ty::INTEGERS.into_iter().filter(|ty| *ty >= word).collect();
        let ty = *self.rng.pick(&wider);
        let modulus = self.rng.chance(1, 3).then(|| *self.rng.pick(&MODULI) & ty.mask());
        let count = self.rng.between(2, 4);
        let mut states: Vec<StateId> = Vec::new();
        for number in 0..count {
            states.push(self.b.state(&format!("s{number}"), ty, self.rng.edge() & ty.mask()));
        }
        let x = self.b.input();
        let x = self.widened(x, ty);
        let mut values: Vec<Value> = states.iter().map(|&state| self.b.read(state)).collect();
        for (at, &state) in states.iter().enumerate() {
            let mut sum = if self.rng.chance(2, 3) { x } else { self.b.literal(ty, self.rng.edge()) };
            for (number, &value) in values.clone().iter().enumerate() {
                let factor = match self.rng.below(5) {
                    0 | 1 if number != at => continue,
                    0..4 => 1,
                    _ => self.rng.edge() & ty.mask(),
                };
                let factor_value = self.b.literal(ty, factor);
                sum = match modulus {
                    Some(modulus) => {
                        let modulus = self.b.literal(ty, modulus);
                        let product = match factor {
                            1 => value,
                            _ => self.b.modular(ModOp::Mulmod, value, factor_value, modulus),
                        };
                        self.b.modular(ModOp::Addmod, sum, product, modulus)
                    }
                    None => {
                        let product = self.b.binary(BinaryOp::Mul, value, factor_value);
                        let op = *self.rng.pick(&[BinaryOp::Add, BinaryOp::Add, BinaryOp::Sub]);
                        self.b.binary(op, sum, product)
                    }
                };
            }
            self.b.set(state, sum);
            // Those after it go by the old value or by the new one.
            if self.rng.chance(1, 2) {
                values[at] = sum;
            }
        }
        self.finish_block(&states);
    }

    fn widened(&mut self, value: Value, ty: Ty) -> Value {
        if self.b.ty(value) == ty { value } else { self.b.convert(ConvertOp::Zext, value, ty) }
    }
}
