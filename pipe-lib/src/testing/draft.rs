//! A pipe half done: random instructions over the values that there are.

use super::rng::Rng;
use crate::ir::builder::PipeBuilder;
use crate::ir::{
    BinaryOp, CompareOp, ConvertOp, CrcOp, ModOp, ParamId, StateId, TableId, Ty, UnaryOp, Value,
};

/// A pipe half done.
pub(super) struct PipeDraft<'r> {
    pub(super) b: PipeBuilder,
    pub(super) rng: &'r mut Rng,
    /// Values of the current block that may serve as operands.
    pub(super) values: Vec<Value>,
    table: Option<TableId>,
    params: Vec<(ParamId, Ty)>,
}

impl<'r> PipeDraft<'r> {
    pub(super) fn new(b: PipeBuilder, rng: &'r mut Rng) -> PipeDraft<'r> {
        PipeDraft { b, rng, values: Vec::new(), table: None, params: Vec::new() }
    }

    /// Parameters and a table, now and then.
    pub(super) fn declare(&mut self) {
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

    pub(super) fn any_ty(&mut self) -> Ty {
        if self.rng.chance(1, 8) { Ty::Bool } else { *self.rng.pick(&Ty::INTEGERS) }
    }

    pub(super) fn any_state(&mut self, number: usize) -> StateId {
        let ty = self.any_ty();
        self.b.state(&format!("s{number}"), ty, self.rng.edge() & ty.mask())
    }

    pub(super) fn state_ty(&mut self, state: StateId) -> Ty {
        // Reading costs an instruction that nobody uses: a dead value for the backends to leave out.
        let value = self.b.read(state);
        self.b.ty(value)
    }

    /// Exports, some computed at the end.
    pub(super) fn finish_block(&mut self, states: &[StateId]) {
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
    pub(super) fn code(&mut self, most: usize) {
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
    pub(super) fn value(&mut self, ty: Ty) -> Value {
        if !self.values.is_empty() && self.rng.chance(5, 6) {
            // Mostly a late one: long chains of dependence.
            let at = self.rng.below(self.values.len()).max(self.rng.below(self.values.len()));
            let value = self.values[at];
            return self.convert(value, ty);
        }
        self.literal(ty)
    }

    pub(super) fn convert(&mut self, value: Value, ty: Ty) -> Value {
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
