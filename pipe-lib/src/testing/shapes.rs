//! Pipes in the shape of a class: what a user would write to get it, and what looks like it and is not.

use super::draft::PipeDraft;
use crate::ir::{BinaryOp, CompareOp, ConvertOp, CrcOp, ModOp, StateId, Ty, UnaryOp, Value};

/// The two-operand instructions that reduce: associative and commutative.
const REDUCTIONS: [BinaryOp; 10] = [
    BinaryOp::Addc,
    BinaryOp::Adds,
    BinaryOp::Add,
    BinaryOp::Xor,
    BinaryOp::Or,
    BinaryOp::And,
    BinaryOp::Min,
    BinaryOp::Max,
    BinaryOp::Smin,
    BinaryOp::Smax,
];

/// Moduli that checksums and hashes use, and some at which arithmetic goes wrong.
const MODULI: [u64; 9] = [65521, 65535, 255, 251, 1, 0, 0xffff_ffff, 0xffff_fffb, 0x1fff_ffff_ffff_ffff];

impl PipeDraft<'_> {
    /// Any code over any states.
    pub(super) fn anything(&mut self, word: Ty) {
        let states: Vec<StateId> = (0..self.rng.below(4)).map(|number| self.any_state(number)).collect();
        let x = self.b.input();
        self.values.push(x);
        for &state in &states {
            let value = self.b.read(state);
            self.values.push(value);
        }
        if self.rng.chance(1, 4) {
            let pos = self.b.pos();
            self.values.push(pos);
        }
        self.code(14);
        for &state in &states {
            let ty = self.state_ty(state);
            let value = self.value(ty);
            self.b.set(state, value);
        }
        if self.rng.chance(2, 3) {
            let out = self.value(word);
            self.b.output(out);
        }
        self.finish_block(&states);
    }

    /// A map without state.
    pub(super) fn map(&mut self, word: Ty) {
        let x = self.b.input();
        self.values.push(x);
        if self.rng.chance(1, 4) {
            let pos = self.b.pos();
            self.values.push(pos);
        }
        self.code(8);
        let out = self.value(word);
        self.b.output(out);
    }

    /// Reductions of something computed from the word alone.
    pub(super) fn reductions(&mut self, word: Ty) {
        let states: Vec<StateId> = (0..self.rng.between(1, 3)).map(|number| self.any_state(number)).collect();
        let x = self.b.input();
        self.values.push(x);
        if self.rng.chance(1, 8) {
            let pos = self.b.pos();
            self.values.push(pos);
        }
        if self.rng.chance(1, 2) {
            self.code(5);
        }
        for &state in &states {
            let ty = self.state_ty(state);
            let (value, old) = (self.value(ty), self.b.read(state));
            let op = match ty {
                Ty::Bool => *self.rng.pick(&[BinaryOp::Xor, BinaryOp::Or, BinaryOp::And]),
                _ => *self.rng.pick(&REDUCTIONS),
            };
            let (a, b) = if self.rng.chance(1, 2) { (old, value) } else { (value, old) };
            let new = self.b.binary(op, a, b);
            self.b.set(state, new);
        }
        if self.rng.chance(1, 3) {
            let out = self.value(word);
            self.b.output(out);
        }
        self.finish_block(&states);
    }

    /// A CRC of the word (or of something computed from it), as a tap or beside a map.
    pub(super) fn crc_instruction(&mut self) {
        let state = self.b.state("crc", Ty::U32, self.rng.edge() & Ty::U32.mask());
        let (x, old) = (self.b.input(), self.b.read(state));
        let op = *self.rng.pick(CrcOp::ALL);
        let new = self.b.crc(op, old, x);
        self.b.set(state, new);
        if self.rng.chance(1, 3) {
            let out = self.b.unary(UnaryOp::Not, x);
            self.b.output(out);
        }
        self.finish_block(&[state]);
    }

    /// Words before this one take part: delta, edge detection, a delay line.
    pub(super) fn delay(&mut self, word: Ty) {
        let depth = *self.rng.pick(&[1, 1, 1, 2, 3, 8]);
        let line: Vec<StateId> = (0..depth).map(|number| self.state_of(number, word)).collect();
        let x = self.b.input();
        let line_values: Vec<Value> = line.iter().map(|&state| self.b.read(state)).collect();
        let mut before = x;
        for (&state, &old) in line.iter().zip(&line_values) {
            self.b.set(state, before);
            before = old;
        }
        self.values.push(x);
        self.values.extend(line_values);
        self.code(3);
        let op = *self.rng.pick(&[BinaryOp::Sub, BinaryOp::Xor, BinaryOp::Max, BinaryOp::Add]);
        let mixed = self.b.binary(op, x, before);
        let out = if self.rng.chance(1, 2) { mixed } else { self.value(word) };
        self.b.output(out);
        self.finish_block(&line);
    }

    /// The last results take turns, as the colours of pixels do: a delay line of what it gives itself.
    pub(super) fn turns(&mut self, word: Ty) {
        let depth = *self.rng.pick(&[2, 2, 3, 3, 4, 6, 8, 16]);
        let line: Vec<StateId> = (0..depth).map(|number| self.state_of(number, word)).collect();
        let x = self.b.input();
        self.values.push(x);
        if self.rng.chance(1, 4) {
            self.code(2);
        }
        let operand = if self.rng.chance(2, 3) { x } else { self.value(word) };
        let olds: Vec<Value> = line.iter().map(|&state| self.b.read(state)).collect();
        let op = match self.rng.chance(1, 8) {
            true => BinaryOp::Sub,
            false => *self.rng.pick(&REDUCTIONS),
        };
        let result = self.b.binary(op, olds[depth - 1], operand);
        for (at, &state) in line.iter().enumerate() {
            let next = if at == 0 { result } else { olds[at - 1] };
            self.b.set(state, next);
        }
        self.values.extend([result, olds[self.rng.below(depth)]]);
        let out = if self.rng.chance(2, 3) { result } else { self.value(word) };
        self.b.output(out);
        self.finish_block(&line);
    }

    /// What is counted, or kept, where a condition on the word holds.
    pub(super) fn where_it_holds(&mut self, word: Ty) {
        let ty = self.integer();
        let state = self.state_of(0, ty);
        let (x, old) = (self.b.input(), self.b.read(state));
        self.values.push(x);
        if self.rng.chance(1, 3) {
            self.code(3);
        }
        let (a, b) = (self.value(word), self.value(word));
        let a = if self.rng.chance(2, 3) { x } else { a };
        let cond = self.b.compare(*self.rng.pick(CompareOp::ALL), a, b);
        let step = match self.rng.below(3) {
            0 => self.b.convert(ConvertOp::Zext, cond, ty),
            1 => self.b.convert(ConvertOp::Sext, cond, ty),
            _ => self.value(ty),
        };
        let op = *self.rng.pick(&[BinaryOp::Add, BinaryOp::Add, BinaryOp::Sub, BinaryOp::Xor, BinaryOp::Max]);
        let stepped = self.b.binary(op, old, step);
        let new = match self.rng.below(3) {
            0 => stepped,
            1 => self.b.select(cond, stepped, old),
            _ => self.b.select(cond, step, old),
        };
        self.b.set(state, new);
        if self.rng.chance(1, 3) {
            let out = self.value(word);
            self.b.output(out);
        }
        self.finish_block(&[state]);
    }

    /// The output is the reduction so far: prefix sum, running maximum.
    pub(super) fn scan(&mut self, word: Ty) {
        let state = self.b.state("sum", word, self.rng.edge() & word.mask());
        let (x, old) = (self.b.input(), self.b.read(state));
        let new = self.b.binary(*self.rng.pick(&REDUCTIONS), old, x);
        self.b.set(state, new);
        let out = if self.rng.chance(1, 2) { new } else { old };
        self.b.output(out);
        self.finish_block(&[state]);
    }

    /// Sums of sums, as in Fletcher's and Adler's checksums: wrapping, one's complement or modulo a constant,
    /// of two to four orders, the inner one with this word or before it.
    pub(super) fn sums_of_sums(&mut self, word: Ty) {
        let wider: Vec<Ty> = Ty::INTEGERS.into_iter().filter(|ty| *ty >= word).collect();
        let ty = *self.rng.pick(&wider);
        let orders = *self.rng.pick(&[2, 2, 2, 3, 4]);
        let states: Vec<StateId> = (0..orders).map(|number| self.state_of(number, ty)).collect();
        let modulus = match self.rng.below(3) {
            0 => Some(*self.rng.pick(&MODULI) & ty.mask()),
            1 => Some(self.rng.edge() & ty.mask()),
            _ => None,
        };
        let op = *self.rng.pick(&[BinaryOp::Add, BinaryOp::Add, BinaryOp::Addc, BinaryOp::Xor]);
        let x = self.b.input();
        self.values.push(x);
        if self.rng.chance(1, 4) {
            self.code(3);
        }
        let mut summand = match self.rng.chance(3, 4) {
            true => self.zext(x, ty),
            false => self.value(ty),
        };
        for &state in &states {
            let old = self.b.read(state);
            let new = match modulus {
                Some(modulus) => {
                    let modulus = self.b.literal(ty, modulus);
                    self.b.modular(ModOp::Addmod, old, summand, modulus)
                }
                None => self.b.binary(op, old, summand),
            };
            self.b.set(state, new);
            summand = if self.rng.chance(4, 5) { new } else { old };
        }
        self.finish_block(&states);
    }

    /// `h = h * k + x`, FNV's `(h ^ x) * k`, or the same modulo a constant.
    pub(super) fn polynomial(&mut self, word: Ty) {
        let wider: Vec<Ty> = Ty::INTEGERS.into_iter().filter(|ty| *ty >= word).collect();
        let ty = *self.rng.pick(&wider);
        let state = self.state_of(0, ty);
        let (x, old) = (self.b.input(), self.b.read(state));
        let x = self.zext(x, ty);
        let factor = match self.rng.below(3) {
            0 => *self.rng.pick(&[31, 33, 257, 0x0100_0193, 0x100_0000_01b3]),
            _ => self.rng.edge(),
        };
        let factor = self.b.literal(ty, factor & ty.mask());
        let new = match self.rng.below(4) {
            0 => {
                let modulus = self.b.literal(ty, *self.rng.pick(&MODULI) & ty.mask());
                let product = self.b.modular(ModOp::Mulmod, old, factor, modulus);
                self.b.modular(ModOp::Addmod, product, x, modulus)
            }
            1 => {
                let mixed = self.b.binary(BinaryOp::Xor, old, x);
                self.b.binary(BinaryOp::Mul, mixed, factor)
            }
            _ => {
                let product = self.b.binary(BinaryOp::Mul, old, factor);
                let op = *self.rng.pick(&[BinaryOp::Add, BinaryOp::Sub, BinaryOp::Xor]);
                self.b.binary(op, product, x)
            }
        };
        self.b.set(state, new);
        self.finish_block(&[state]);
    }

    /// A CRC of any polynomial, a bit at a time, from either end; as a tap or beside a map.
    pub(super) fn crc_by_bits(&mut self, word: Ty) {
        let wider: Vec<Ty> = Ty::INTEGERS.into_iter().filter(|ty| *ty >= word).collect();
        let ty = *self.rng.pick(&wider);
        let state = self.state_of(0, ty);
        let (x, old) = (self.b.input(), self.b.read(state));
        let poly = self.b.literal(ty, self.rng.next_u64() & ty.mask());
        let one = self.b.literal(ty, 1);
        let top = self.b.literal(ty, u64::from(ty.bits()) - 1);
        let reflected = self.rng.chance(1, 2);
        let mut wide = self.zext(x, ty);
        if !reflected {
            let up = self.b.literal(ty, u64::from(ty.bits() - word.bits()));
            wide = self.b.binary(BinaryOp::Shl, wide, up);
        }
        let mut crc = self.b.binary(BinaryOp::Xor, old, wide);
        for _ in 0..word.bits() {
            let (mask, shifted) = if reflected {
                let low = self.b.binary(BinaryOp::And, crc, one);
                (self.b.unary(UnaryOp::Neg, low), self.b.binary(BinaryOp::Shr, crc, one))
            } else {
                (self.b.binary(BinaryOp::Sar, crc, top), self.b.binary(BinaryOp::Shl, crc, one))
            };
            let taps = self.b.binary(BinaryOp::And, mask, poly);
            crc = self.b.binary(BinaryOp::Xor, shifted, taps);
        }
        self.b.set(state, crc);
        self.output_inverse(x, word);
        self.finish_block(&[state]);
    }

    /// A CRC by a table of 256 remainders, now and then with one that is wrong: then it is none.
    pub(super) fn crc_by_table(&mut self, word: Ty) {
        let ty = *self.rng.pick(&Ty::INTEGERS);
        let poly = self.rng.next_u64() & ty.mask();
        let mut table: Vec<u64> = (0..256)
            .map(|byte| (0..8).fold(byte, |crc: u64, _| crc >> 1 ^ if crc & 1 == 1 { poly } else { 0 }))
            .map(|crc| crc & ty.mask())
            .collect();
        if self.rng.chance(1, 4) {
            table[self.rng.below(256)] ^= 1 << self.rng.below(ty.bits() as usize);
        }
        let table = self.b.table("remainders", ty, &table);
        let state = self.state_of(0, ty);
        let (x, old) = (self.b.input(), self.b.read(state));
        let (mut crc, mut rest) = (old, x);
        for _ in 0..word.bits() / 8 {
            let (low, byte) = (self.convert_low(crc), self.convert_low(rest));
            let index = self.b.binary(BinaryOp::Xor, low, byte);
            let remainder = self.b.lookup(table, index);
            crc = match ty {
                Ty::U8 => remainder,
                _ => {
                    let eight = self.b.literal(ty, 8);
                    let shifted = self.b.binary(BinaryOp::Shr, crc, eight);
                    self.b.binary(BinaryOp::Xor, shifted, remainder)
                }
            };
            if word != Ty::U8 {
                let eight = self.b.literal(word, 8);
                rest = self.b.binary(BinaryOp::Shr, rest, eight);
            }
        }
        self.b.set(state, crc);
        self.output_inverse(x, word);
        self.finish_block(&[state]);
    }

    /// States that advance by xors, shifts and products with constants over GF(2): scramblers, parities,
    /// LFSRs.
    pub(super) fn linear_map(&mut self, word: Ty) {
        let states: Vec<StateId> =
            (0..self.rng.between(1, 2)).map(|number| self.state_of(number, word)).collect();
        let x = self.b.input();
        let mut values: Vec<Value> = vec![x];
        values.extend(states.iter().map(|&state| self.b.read(state)));
        for _ in 0..self.rng.between(1, 8) {
            let (a, b) = (*self.rng.pick(&values), *self.rng.pick(&values));
            let shift = self.rng.below(word.bits() as usize) as u64;
            let shift = self.b.literal(word, shift);
            let constant = self.b.literal(word, self.rng.edge() & word.mask());
            let new = match self.rng.below(9) {
                0..4 => self.b.binary(BinaryOp::Xor, a, b),
                4 => self.b.binary(BinaryOp::Shl, a, shift),
                5 => self.b.binary(*self.rng.pick(&[BinaryOp::Shr, BinaryOp::Rotl, BinaryOp::Sar]), a, shift),
                6 => self.b.binary(*self.rng.pick(&[BinaryOp::Clmul, BinaryOp::Clmulh]), a, constant),
                7 => self.b.binary(BinaryOp::And, a, constant),
                _ => self.b.unary(*self.rng.pick(&[UnaryOp::Bswap, UnaryOp::Bitrev, UnaryOp::Not]), a),
            };
            values.push(new);
        }
        for &state in &states {
            let next = values[values.len() - 1 - self.rng.below(3).min(values.len() - 1)];
            self.b.set(state, next);
        }
        if self.rng.chance(1, 2) {
            self.b.output(values[values.len() - 1]);
        }
        self.finish_block(&states);
    }

    fn integer(&mut self) -> Ty {
        *self.rng.pick(&Ty::INTEGERS)
    }

    fn state_of(&mut self, number: usize, ty: Ty) -> StateId {
        self.b.state(&format!("s{number}"), ty, self.rng.edge() & ty.mask())
    }

    fn zext(&mut self, value: Value, ty: Ty) -> Value {
        if self.b.ty(value) == ty { value } else { self.b.convert(ConvertOp::Zext, value, ty) }
    }

    fn convert_low(&mut self, value: Value) -> Value {
        if self.b.ty(value) == Ty::U8 { value } else { self.b.convert(ConvertOp::Trunc, value, Ty::U8) }
    }

    fn output_inverse(&mut self, x: Value, word: Ty) {
        if self.rng.chance(1, 4) {
            let out = self.b.unary(UnaryOp::Not, x);
            debug_assert_eq!(self.b.ty(out), word);
            self.b.output(out);
        }
    }
}
