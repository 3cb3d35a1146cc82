//! Words of 128 bits: ciphers by rounds, polynomials over GF(2^128), and whatever else there is of that
//! width.

use super::draft::PipeDraft;
use crate::ir::{BinaryOp, StateId, Ty, UnaryOp, Value, WideBinary, WideUnary};

impl PipeDraft<'_> {
    pub(super) fn blocks(&mut self) {
        let mut blocks = vec![self.b.input()];
        let keys: Vec<Value> = (0..self.rng.between(1, 3)).map(|number| self.key(number)).collect();
        blocks.extend(&keys);
        let mut exported = Vec::new();
        if self.rng.chance(1, 2) {
            let (counter, block) = self.counter();
            exported.push(counter);
            blocks.push(block);
        }
        for _ in 0..self.rng.between(1, 8) {
            let block = self.block_operation(&blocks);
            blocks.push(block);
        }
        for number in 0..self.rng.below(3) {
            exported.extend(self.gathered(number, &keys, &blocks));
        }
        if self.rng.chance(2, 3) {
            let out = self.late(&blocks);
            self.b.output(out);
        }
        self.finish_block(&exported);
    }

    /// Two states that are the halves of a number.
    fn halves(&mut self, name: &str) -> [StateId; 2] {
        ["low", "high"].map(|half| {
            let init = self.rng.edge();
            self.b.state(&format!("{name}_{half}"), Ty::U64, init)
        })
    }

    fn whole(&mut self, [low, high]: [StateId; 2]) -> Value {
        let (low, high) = (self.b.read(low), self.b.read(high));
        self.b.wide_binary(WideBinary::Pair, high, low)
    }

    fn set_halves(&mut self, [low, high]: [StateId; 2], whole: Value) {
        let lower = self.b.wide_unary(WideUnary::Trunc, whole, Ty::U64);
        let upper = self.b.wide_unary(WideUnary::High, whole, Ty::U64);
        self.b.set(low, lower);
        self.b.set(high, upper);
    }

    /// A number that does not change.
    fn key(&mut self, number: usize) -> Value {
        let halves = self.halves(&format!("k{number}"));
        self.whole(halves)
    }

    /// A counter, as a block of its own.
    fn counter(&mut self) -> (StateId, Value) {
        let init = self.rng.edge() & Ty::U32.mask();
        let counter = self.b.state("counter", Ty::U32, init);
        let old = self.b.read(counter);
        let one = self.b.literal(Ty::U32, 1);
        let new = self.b.binary(BinaryOp::Add, old, one);
        self.b.set(counter, new);
        let value = if self.rng.chance(1, 2) { self.b.unary(UnaryOp::Bswap, old) } else { old };
        let wide = self.b.wide_unary(WideUnary::Zext, value, Ty::U128);
        (counter, self.shifted(WideBinary::Shl, wide))
    }

    fn late(&mut self, blocks: &[Value]) -> Value {
        blocks[self.rng.below(blocks.len()).max(self.rng.below(blocks.len()))]
    }

    /// Shifted, mostly by whole bytes.
    fn shifted(&mut self, op: WideBinary, block: Value) -> Value {
        let bytes = 8 * self.rng.below(16) as u64;
        let count = if self.rng.chance(1, 6) { self.rng.below(140) as u64 } else { bytes };
        let count = self.b.literal(Ty::U128, count);
        self.b.wide_binary(op, block, count)
    }

    fn block_operation(&mut self, blocks: &[Value]) -> Value {
        use WideBinary as W;
        let (a, b) = (self.late(blocks), *self.rng.pick(blocks));
        match self.rng.below(12) {
            0..4 => {
                let op = *self.rng.pick(&[W::Aesenc, W::Aesenc, W::Aesenclast, W::Aesdec, W::Aesdeclast]);
                self.b.wide_binary(op, a, b)
            }
            4..8 => {
                let op = *self.rng.pick(&[W::Xor, W::Xor, W::And, W::Or]);
                self.b.wide_binary(op, a, b)
            }
            8 => self.b.wide_unary(*self.rng.pick(&[WideUnary::Not, WideUnary::Bswap]), a, Ty::U128),
            9 => {
                let op = *self.rng.pick(&[W::Shl, W::Shr]);
                self.shifted(op, a)
            }
            // What no loop has in vectors, now and then.
            10 if self.rng.chance(1, 3) => {
                let op = *self.rng.pick(&[W::Add, W::Sub, W::Clmul, W::Gfmul128]);
                self.b.wide_binary(op, a, b)
            }
            _ => {
                let upper = self.b.wide_unary(WideUnary::High, a, Ty::U64);
                let lower = self.b.wide_unary(WideUnary::Trunc, b, Ty::U64);
                self.b.wide_binary(WideBinary::Pair, lower, upper)
            }
        }
    }

    /// A state that takes in a block a word: a polynomial with a key for its factor, or a sum.
    fn gathered(&mut self, number: usize, keys: &[Value], blocks: &[Value]) -> [StateId; 2] {
        let halves = self.halves(&format!("y{number}"));
        let (old, block) = (self.whole(halves), self.late(blocks));
        let old = match self.rng.chance(2, 3) {
            true => {
                let key = *self.rng.pick(keys);
                self.b.wide_binary(WideBinary::Gfmul128, old, key)
            }
            false => old,
        };
        let new = self.b.wide_binary(WideBinary::Xor, old, block);
        self.set_halves(halves, new);
        halves
    }
}
