//! The generator of random pipelines.
//!
//! Half of the pipes are any straight-line code that type-checks; the others have the shape of a class that backends
//! treat specially (stateless maps, reductions, CRCs, delays, scans), with random arithmetic around it: pure chance
//! would make nearly every state serial.

use super::rng::Rng;
use crate::compose::{Composer, Composition};
use crate::ir::builder::PipeBuilder;
use crate::ir::{
    BinaryOp, CompareOp, ConvertOp, CrcOp, Endian, Gauge, Layout, ModOp, Pipe, StateId, Stripe, TableId,
    Tail, Ty, UnaryOp, Value,
};
use std::num::NonZeroU64;
use std::sync::Arc;

/// Makes pipes and pipelines from a sequence of random numbers.
#[derive(Debug)]
pub struct Generator<'a> {
    rng: &'a mut Rng,
}

/// The two-operand instructions that reduce: associative and commutative.
const REDUCTIONS: [BinaryOp; 8] = [
    BinaryOp::Addc,
    BinaryOp::Add,
    BinaryOp::Xor,
    BinaryOp::Or,
    BinaryOp::And,
    BinaryOp::Min,
    BinaryOp::Max,
    BinaryOp::Addc,
];

impl<'a> Generator<'a> {
    /// A generator that draws from `rng`.
    pub fn new(rng: &'a mut Rng) -> Generator<'a> {
        Generator { rng }
    }

    /// A pipeline of up to six stages, perhaps with windows and with layouts at its ends.
    pub fn composition(&mut self) -> Composition {
        let mut composer = Composer::new();
        let stages = *self.rng.pick(&[0, 1, 1, 1, 2, 2, 3, 3, 4, 6]);
        // A pipeline is mostly of one mind about windows, so that fusion is tested.
        let windows = self.rng.chance(1, 3);
        let common = self.window();
        for number in 0..stages {
            let pipe = Arc::new(self.pipe(&format!("p{number}")));
            let window = match windows {
                true if self.rng.chance(1, 2) => Some(common),
                true if self.rng.chance(1, 3) => Some(self.window()),
                _ => None,
            };
            let args: Vec<(&str, u64)> = pipe
                .params
                .iter()
                .map(|param| (param.name.as_str(), self.rng.edge() & param.ty.mask()))
                .collect();
            composer = composer.stage(&pipe, None, &args, window).expect("generated names are unique");
        }
        if self.rng.chance(1, 6) {
            composer = composer.source(Arc::new(self.layout(true)));
        }
        if self.rng.chance(1, 4) {
            composer = composer.sink(Arc::new(self.layout(false)));
        }
        composer.finish().expect("generated pipelines are well formed")
    }

    fn window(&mut self) -> NonZeroU64 {
        let bytes = match self.rng.below(4) {
            0 => self.rng.between(1, 12),
            1 => 8 * self.rng.between(1, 20),
            2 => *self.rng.pick(&[1460, 1448, 4096, 536]),
            _ => self.rng.between(1, 400),
        };
        NonZeroU64::new(bytes as u64).unwrap_or(NonZeroU64::MIN)
    }

    fn layout(&mut self, is_source: bool) -> Layout {
        let store = if self.rng.chance(1, 3) { Some(*self.rng.pick(&[1u8, 2, 4, 8])) } else { None };
        let fixed = !is_source && store.is_some() && self.rng.chance(1, 4);
        let unit = u32::from(store.unwrap_or(1));
        let stripe = if !fixed && self.rng.chance(3, 4) {
            let (data, gap) = (self.rng.between(1, 40) as u32, self.rng.below(20) as u32);
            Some(Stripe { data: data * unit, gap: gap * unit })
        } else {
            None
        };
        let pad = if !is_source && self.rng.chance(1, 3) { self.rng.between(1, 100) as u64 } else { 0 };
        Layout { name: "device".to_owned(), doc: String::new(), stripe, store, fixed, pad }
    }

    /// A well-formed pipe.
    pub fn pipe(&mut self, name: &str) -> Pipe {
        let ty = *self.rng.pick(&Ty::INTEGERS);
        let gauge = Gauge::new(ty, self.endian());
        let mut builder = PipeBuilder::new(name, gauge);
        builder.tail(*self.rng.pick(&[
            Tail::Zero,
            Tail::Zero,
            Tail::Partial,
            Tail::Partial,
            Tail::Pass,
            Tail::Reject,
        ]));
        let mut draft =
            Draft { b: builder, rng: self.rng, values: Vec::new(), table: None, params: Vec::new() };
        draft.declare();
        match draft.rng.below(10) {
            0..3 => draft.anything(ty),
            3..6 => draft.reductions(ty),
            6 => draft.crc(),
            7 => draft.delay(ty),
            8 => draft.scan(ty),
            _ => draft.map(ty),
        }
        if draft.rng.chance(1, 3) {
            let endian = if draft.rng.chance(1, 2) { Endian::Big } else { Endian::Little };
            draft.b.output_gauge(Gauge::new(ty, endian));
        }
        draft.b.finish().expect("generated pipes are well formed")
    }

    fn endian(&mut self) -> Endian {
        if self.rng.chance(1, 2) { Endian::Big } else { Endian::Little }
    }
}

/// A pipe half done.
struct Draft<'r> {
    b: PipeBuilder,
    rng: &'r mut Rng,
    /// Values of the current block that may serve as operands.
    values: Vec<Value>,
    table: Option<TableId>,
    params: Vec<(crate::ir::ParamId, Ty)>,
}

impl Draft<'_> {
    /// Parameters and a table, now and then.
    fn declare(&mut self) {
        for number in 0..self.rng.below(6).saturating_sub(3) {
            let ty = self.any_ty();
            self.params.push((self.b.param(&format!("k{number}"), ty, None), ty));
        }
        if self.rng.chance(1, 6) {
            let ty = *self.rng.pick(&Ty::INTEGERS);
            let len = 1 << self.rng.below(9);
            let values: Vec<u64> = (0..len).map(|_| self.rng.next_u64() & ty.mask()).collect();
            self.table = Some(self.b.table("t", ty, &values));
        }
    }

    fn any_ty(&mut self) -> Ty {
        if self.rng.chance(1, 8) { Ty::Bool } else { *self.rng.pick(&Ty::INTEGERS) }
    }

    /// Any code over any states.
    fn anything(&mut self, word: Ty) {
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
    fn map(&mut self, word: Ty) {
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
    fn reductions(&mut self, word: Ty) {
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
    fn crc(&mut self) {
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

    /// The previous word takes part: delta, edge detection.
    fn delay(&mut self, word: Ty) {
        let state = self.b.state("last", word, self.rng.edge() & word.mask());
        let (x, old) = (self.b.input(), self.b.read(state));
        self.b.set(state, x);
        self.values.extend([x, old]);
        self.code(3);
        let op = *self.rng.pick(&[BinaryOp::Sub, BinaryOp::Xor, BinaryOp::Max, BinaryOp::Add]);
        let mixed = self.b.binary(op, x, old);
        let out = if self.rng.chance(1, 2) { mixed } else { self.value(word) };
        self.b.output(out);
        self.finish_block(&[state]);
    }

    /// The output is the reduction so far: prefix sum, running maximum.
    fn scan(&mut self, word: Ty) {
        let state = self.b.state("sum", word, self.rng.edge() & word.mask());
        let (x, old) = (self.b.input(), self.b.read(state));
        let new = self.b.binary(*self.rng.pick(&REDUCTIONS), old, x);
        self.b.set(state, new);
        let out = if self.rng.chance(1, 2) { new } else { old };
        self.b.output(out);
        self.finish_block(&[state]);
    }

    fn any_state(&mut self, number: usize) -> StateId {
        let ty = self.any_ty();
        self.b.state(&format!("s{number}"), ty, self.rng.edge() & ty.mask())
    }

    fn state_ty(&mut self, state: StateId) -> Ty {
        // Reading costs an instruction that nobody uses: a dead value for the backends to leave out.
        let value = self.b.read(state);
        self.b.ty(value)
    }

    /// Exports, some computed at the end.
    fn finish_block(&mut self, states: &[StateId]) {
        for (number, &state) in states.iter().enumerate() {
            self.b.export_state(&format!("e{number}"), state);
        }
        if self.rng.chance(1, 2) {
            self.b.at_end();
            self.values.clear();
            for &state in states {
                let value = self.b.read(state);
                self.values.push(value);
            }
            self.code(4);
            let ty = self.any_ty();
            let value = self.value(ty);
            self.b.export("folded", value);
        }
    }

    /// Up to `most` random instructions.
    fn code(&mut self, most: usize) {
        for _ in 0..self.rng.between(1, most) {
            let ty = *self.rng.pick(&Ty::INTEGERS);
            let value = self.instruction(ty);
            self.values.push(value);
        }
    }

    /// An instruction whose result is mostly of type `ty`.
    fn instruction(&mut self, ty: Ty) -> Value {
        match self.rng.below(16) {
            0 => {
                let a = self.value(ty);
                let op = *self.rng.pick(UnaryOp::ALL);
                self.b.unary(op, a)
            }
            1..8 => {
                let (a, b) = (self.value(ty), self.value(ty));
                let op = *self.rng.pick(BinaryOp::ALL);
                self.b.binary(op, a, b)
            }
            8 => {
                let (a, b) = (self.value(ty), self.value(ty));
                let op = *self.rng.pick(CompareOp::ALL);
                self.b.compare(op, a, b)
            }
            9 => {
                let (cond, a, b) = (self.value(Ty::Bool), self.value(ty), self.value(ty));
                self.b.select(cond, a, b)
            }
            10 => {
                let (a, b, m) = (self.value(ty), self.value(ty), self.value(ty));
                let op = *self.rng.pick(ModOp::ALL);
                self.b.modular(op, a, b, m)
            }
            11 => {
                let (acc, x) = (self.value(Ty::U32), self.value(ty));
                let op = *self.rng.pick(CrcOp::ALL);
                self.b.crc(op, acc, x)
            }
            12 => match self.table {
                Some(table) => {
                    let index = self.value(ty);
                    self.b.lookup(table, index)
                }
                None => self.literal(ty),
            },
            13 => match self.params.is_empty() {
                false => {
                    let (param, _) = *self.rng.pick(&self.params);
                    self.b.arg(param)
                }
                true => self.literal(ty),
            },
            _ => {
                let from = self.any_ty();
                let a = self.value(from);
                self.convert(a, ty)
            }
        }
    }

    fn literal(&mut self, ty: Ty) -> Value {
        let value = self.rng.edge();
        self.b.literal(ty, value)
    }

    /// Some value of type `ty`: one there is, one converted, or a literal.
    fn value(&mut self, ty: Ty) -> Value {
        if !self.values.is_empty() && self.rng.chance(5, 6) {
            // Mostly a late one: long chains of dependence.
            let at = self.rng.below(self.values.len()).max(self.rng.below(self.values.len()));
            let value = self.values[at];
            return self.convert(value, ty);
        }
        self.literal(ty)
    }

    fn convert(&mut self, value: Value, ty: Ty) -> Value {
        let from = self.b.ty(value);
        if from == ty {
            value
        } else if from < ty {
            let op = if self.rng.chance(1, 2) { ConvertOp::Zext } else { ConvertOp::Sext };
            self.b.convert(op, value, ty)
        } else {
            self.b.convert(ConvertOp::Trunc, value, ty)
        }
    }
}
