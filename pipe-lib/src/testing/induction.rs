//! Pipes in which states are known without all of the words before: counters, toggles, keys that rotate, the
//! last words; and reductions of what is computed from those.

use super::draft::PipeDraft;
use crate::ir::{BinaryOp, CompareOp, ConvertOp, ModOp, StateId, Ty, UnaryOp, Value};

impl PipeDraft<'_> {
    /// One state that follows from itself, perhaps one that keeps something of the last word, and reductions
    /// over both.
    pub(super) fn inductions(&mut self, word: Ty) {
        let x = self.b.input();
        self.values.push(x);
        let mut states = Vec::new();
        if self.rng.chance(3, 4) {
            let ty = *self.rng.pick(&[word, word, Ty::U8, Ty::U16, Ty::U32, Ty::U64, Ty::Bool]);
            let state = self.b.state("turn", ty, self.rng.edge() & ty.mask());
            let old = self.b.read(state);
            let new = self.step(ty, old);
            self.b.set(state, new);
            let seen = if self.rng.chance(1, 4) { new } else { old };
            self.values.push(seen);
            states.push(state);
        }
        if states.is_empty() || self.rng.chance(1, 2) {
            states.push(self.last_word(word, x));
        }
        self.code(3);
        if self.rng.chance(3, 4) {
            let ty = *self.rng.pick(&[word, Ty::U64, Ty::U32, Ty::U8, Ty::Bool]);
            let state = self.b.state("sum", ty, self.rng.edge() & ty.mask());
            let (value, old) = (self.value(ty), self.b.read(state));
            let ops =
                [BinaryOp::Add, BinaryOp::Xor, BinaryOp::Addc, BinaryOp::Adds, BinaryOp::Max, BinaryOp::Or];
            let op = if ty == Ty::Bool { BinaryOp::Or } else { *self.rng.pick(&ops) };
            let new = self.b.binary(op, old, value);
            self.b.set(state, new);
            states.push(state);
        }
        if self.rng.chance(2, 3) {
            let out = self.value(word);
            self.b.output(out);
        }
        self.finish_block(&states);
    }

    /// What a state that looks at nothing else becomes.
    fn step(&mut self, ty: Ty, old: Value) -> Value {
        if ty == Ty::Bool {
            return self.b.unary(UnaryOp::Not, old);
        }
        let number = self.b.literal(ty, self.rng.edge() & ty.mask());
        let turned = match self.rng.below(8) {
            0 | 1 => self.b.binary(BinaryOp::Add, old, number),
            2 => self.b.binary(BinaryOp::Sub, number, old),
            3 => self.b.binary(BinaryOp::Rotl, old, number),
            4 => self.b.binary(BinaryOp::Xor, old, number),
            5 => self.b.binary(BinaryOp::Mul, old, number),
            6 => {
                let modulus = self.b.literal(ty, self.rng.edge() & ty.mask());
                self.b.modular(ModOp::Addmod, old, number, modulus)
            }
            _ => {
                let one = self.b.literal(ty, 1);
                let shifted = self.b.binary(BinaryOp::Shr, old, one);
                self.b.binary(BinaryOp::Xor, shifted, number)
            }
        };
        if self.rng.chance(1, 3) {
            let number = self.b.literal(ty, self.rng.edge() & ty.mask());
            let op = *self.rng.pick(&[BinaryOp::Add, BinaryOp::Rotr, BinaryOp::Xor]);
            return self.b.binary(op, turned, number);
        }
        turned
    }

    /// The word before, or whether something held of it.
    fn last_word(&mut self, word: Ty, x: Value) -> StateId {
        let ty = *self.rng.pick(&[word, Ty::Bool]);
        let state = self.b.state("last", ty, self.rng.edge() & ty.mask());
        let old = self.b.read(state);
        let kept = if ty == Ty::Bool {
            let limit = self.b.literal(word, self.rng.edge() & word.mask());
            self.b.compare(*self.rng.pick(CompareOp::ALL), x, limit)
        } else {
            x
        };
        self.b.set(state, kept);
        self.values.push(old);
        if ty == Ty::Bool {
            let number = self.b.convert(ConvertOp::Zext, old, word);
            self.values.push(number);
        }
        state
    }
}
