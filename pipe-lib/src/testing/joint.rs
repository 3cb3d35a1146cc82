//! Sums that stop at the end of their type, and states that go by each other.

use super::draft::PipeDraft;
use crate::ir::{BinaryOp, CompareOp, ConvertOp, ModOp, StateId, Ty, Value};

/// Moduli that a system's states are kept below.
const MODULI: [u64; 6] = [251, 255, 65521, 1_000_003, 0x7fff_ffff, 0xffff_fffb];

impl PipeDraft<'_> {
    /// Sums and counters of words that stop at the end of their type, or above it by a minimum.
    pub(super) fn limited(&mut self, word: Ty) {
        let x = self.b.input();
        let mut states = Vec::new();
        for number in 0..self.rng.between(1, 2) {
            let ty = *self.rng.pick(&Ty::INTEGERS);
            let starts = [0, self.rng.edge(), !(self.rng.below(1000) as u64)];
            let init = *self.rng.pick(&starts) & ty.mask();
            let state = self.b.state(&format!("s{number}"), ty, init);
            let (old, other) = (self.b.read(state), self.value(word));
            let cond = self.b.compare(*self.rng.pick(CompareOp::ALL), x, other);
            let step = match self.rng.below(4) {
                0 if word.bits() <= ty.bits() => self.widened(x, ty),
                1 => self.b.literal(ty, 3),
                2 => self.value(ty),
                _ => self.b.convert(ConvertOp::Zext, cond, ty),
            };
            use BinaryOp as B;
            let op = *self.rng.pick(&[B::Adds, B::Adds, B::Adds, B::Subs, B::Sadds, B::Ssubs]);
            let mut new = self.b.binary(op, old, step);
            if self.rng.chance(1, 8) {
                let limit = self.b.literal(ty, self.rng.edge());
                new = self.b.binary(B::Min, new, limit);
            }
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
