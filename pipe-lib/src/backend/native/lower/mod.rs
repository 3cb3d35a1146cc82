//! A stage's body on all the words of one vector at once.
//!
//! A value of type `t` in a stage of `w`-byte words is in lanes of `max(t, w)` bytes: one vector where `t` is
//! no wider than the word, `t / w` of them where it is, in the order of the words. A value narrower than its
//! lane is kept zero extended. A `bool` is one condition on `w`-byte lanes.

mod arithmetic;
mod blocks;
mod convert;
mod modular;

use crate::ir::{BinaryOp, ConvertOp, Endian, Op, StateId, Ty, UnaryOp, Value};

use crate::backend::native::abi::POS;
use crate::backend::native::lanes::{Cmp, Lane};
use crate::backend::native::vcode::{Builder, VReg};
use crate::plan::stage::VectorStage;

/// Most operations, one from the other, of which [`BodyLowering::low_bits`] leaves out what clears bits.
const MAX_UNCLEARED: u32 = 4;

/// A value of the body.
#[derive(Clone, Debug)]
pub(super) enum Val {
    /// Vectors in the order of the words.
    Int(Vec<VReg>),
    /// One condition.
    Cond(VReg),
}

/// What the states of a stage look like to its body.
pub(super) enum StateVal {
    /// Not available: the body must not read it.
    None,
    /// The same in every word.
    Value(Val),
    /// The same in every word of 128 bits: so many bytes from the start of the states.
    Held(i32),
}

/// One stage on one vector.
pub(super) struct BodyLowering<'a> {
    pub(super) b: &'a mut Builder,
    pub(super) plan: &'a VectorStage,
    /// The bytes of the stream, as they are.
    pub(super) chunk: VReg,
    /// Bytes between the position in the stream that the code keeps and this vector.
    pub(super) offset: i32,
    pub(super) states: &'a [StateVal],
    values: Vec<Option<Val>>,
    word: Lane,
}

impl<'a> BodyLowering<'a> {
    pub(super) fn new(
        b: &'a mut Builder,
        plan: &'a VectorStage,
        chunk: VReg,
        offset: i32,
        states: &'a [StateVal],
        values: Vec<Option<Val>>,
    ) -> BodyLowering<'a> {
        let word = Lane::of_bytes(plan.pipe.word_bytes());
        BodyLowering { b, plan, chunk, offset, states, values, word }
    }

    /// Computes every value that is needed: those that depend on no state that changes, or the others.
    pub(super) fn run(&mut self, late: bool) -> Result<(), String> {
        for index in 0..self.values.len() {
            let wanted = self.plan.late[index] == late
                && self.plan.needed[index]
                && self.plan.constants[index].is_none();
            if wanted && self.values[index].is_none() {
                // A single operation may take hundreds of instructions, and a stage may have thousands of
                // them.
                self.b.check_size()?;
                let value = self.value(Value(index as u32))?;
                self.values[index] = value;
            }
        }
        Ok(())
    }

    /// Computes a value and what it is computed from, as far as that has not been done.
    pub(super) fn compute(&mut self, value: Value) -> Result<(), String> {
        let missing = |body: &Self, value: &Value| {
            body.values[value.0 as usize].is_none() && body.constant(*value).is_none()
        };
        let body = &self.plan.pipe.body;
        let (mut found, mut at) = (Vec::from_iter(Some(value).filter(|value| missing(self, value))), 0);
        while let Some(value) = found.get(at).copied() {
            let more = body.inst(value).op.operands().filter(|value| missing(self, value));
            let more: Vec<Value> = more.filter(|value| !found.contains(value)).collect();
            found.extend(more);
            at += 1;
        }
        // Operands come before what is computed from them.
        found.sort_unstable_by_key(|value| value.0);
        for value in found {
            self.b.check_size()?;
            self.values[value.0 as usize] = self.value(value)?;
        }
        Ok(())
    }

    /// Sets a value that is computed elsewhere.
    pub(super) fn give(&mut self, value: Value, vector: VReg) {
        self.values[value.0 as usize] = Some(Val::Int(vec![vector]));
    }

    /// Sets what a state is before each word, wherever the body reads it.
    pub(super) fn give_state(&mut self, state: StateId, before: Val) {
        let plan = self.plan;
        for (value, inst) in plan.pipe.body.iter() {
            if inst.op == Op::State(state) {
                self.values[value.0 as usize] = Some(before.clone());
            }
        }
    }

    /// A value that the next word finds, as numbers: of a `bool`, 0 and 1.
    pub(super) fn carried(&mut self, value: Value) -> Result<VReg, String> {
        if self.ty(value) != Ty::Bool {
            return Ok(self.int(value)?[0]);
        }
        let cond = self.cond(value)?;
        let (one, zero) = (self.b.splat(self.word, 1), self.b.splat(Lane::B, 0));
        Ok(self.b.select(self.word, cond, one, zero))
    }

    /// Sets what a state was before each word from such numbers.
    pub(super) fn give_carried(&mut self, state: StateId, before: VReg) {
        let before = if self.plan.pipe.states[state.0 as usize].ty == Ty::Bool {
            let zero = self.b.splat(Lane::B, 0);
            Val::Cond(self.b.compare(self.word, Cmp::Ne, before, zero))
        } else {
            Val::Int(vec![before])
        };
        self.give_state(state, before);
    }

    /// The lane in which values of a type stand.
    pub(super) fn lane(&self, ty: Ty) -> Lane {
        Lane::of_bytes(ty.bytes()).max(self.word)
    }

    /// The word's lane.
    pub(super) fn word(&self) -> Lane {
        self.word
    }

    fn parts_of(&self, lane: Lane) -> usize {
        lane.bytes() / self.word.bytes()
    }

    fn ty(&self, value: Value) -> Ty {
        self.plan.pipe.body.ty(value)
    }

    pub(super) fn constant(&self, value: Value) -> Option<u64> {
        self.plan.constants[value.0 as usize]
    }

    /// The vectors of an integer.
    pub(super) fn int(&mut self, value: Value) -> Result<Vec<VReg>, String> {
        if let Some(number) = self.constant(value) {
            if self.of_blocks() {
                return Ok(vec![self.block_constant(number)]);
            }
            let lane = self.lane(self.ty(value));
            let reg = self.b.splat(lane, number);
            return Ok(vec![reg; self.parts_of(lane)]);
        }
        match &self.values[value.0 as usize] {
            Some(Val::Int(parts)) => Ok(parts.clone()),
            _ => Err("a value that is not kept in vectors".into()),
        }
    }

    /// The vectors of an integer of whose lanes only the bits of its type count: what would clear the others
    /// is left out.
    pub(super) fn low_bits(&mut self, value: Value) -> Result<Vec<VReg>, String> {
        self.low_bits_within(value, MAX_UNCLEARED)
    }

    fn low_bits_within(&mut self, value: Value, depth: u32) -> Result<Vec<VReg>, String> {
        let inst = self.plan.pipe.body.inst(value);
        let lane = self.lane(inst.ty);
        let has_more = inst.ty.bits() < lane.bits() && self.constant(value).is_none();
        let is_computed = self.plan.periods[value.0 as usize].is_none();
        match inst.op {
            _ if depth == 0 || !has_more || !is_computed => self.int(value),
            Op::Convert(ConvertOp::Trunc, a) if self.lane(self.ty(a)) == lane => {
                self.low_bits_within(a, depth - 1)
            }
            Op::Binary(op @ (BinaryOp::Add | BinaryOp::Sub), a, b) => {
                let a = self.low_bits_within(a, depth - 1)?;
                let b = self.low_bits_within(b, depth - 1)?;
                let sum = |(a, b)| match op {
                    BinaryOp::Add => self.b.add(lane, a, b),
                    _ => self.b.sub(lane, a, b),
                };
                Ok(a.into_iter().zip(b).map(sum).collect())
            }
            _ => self.int(value),
        }
    }

    /// The condition of a `bool`.
    pub(super) fn cond(&mut self, value: Value) -> Result<VReg, String> {
        if let Some(number) = self.constant(value) {
            return Ok(self.b.cond_constant(number != 0));
        }
        match &self.values[value.0 as usize] {
            Some(Val::Cond(cond)) => Ok(*cond),
            _ => Err("a condition that is not kept in vectors".into()),
        }
    }

    /// The bytes that the stage writes.
    pub(super) fn out(&mut self, value: Value) -> Result<VReg, String> {
        let reg = self.int(value)?[0];
        Ok(match self.plan.pipe.output.endian {
            Endian::Little => reg,
            Endian::Big if self.of_blocks() => self.b.blocks_swapped(reg),
            Endian::Big => self.b.bswap(self.word, reg),
        })
    }

    fn value(&mut self, value: Value) -> Result<Option<Val>, String> {
        if self.of_blocks() {
            return self.block_value(value);
        }
        let inst = self.plan.pipe.body.inst(value);
        let lane = self.lane(inst.ty);
        let result = match inst.op {
            Op::Const(_) => return Ok(None),
            Op::Param(_) => return Err("an unbound parameter".into()),
            Op::In => Val::Int(vec![match self.plan.pipe.input.endian {
                Endian::Little => self.chunk,
                Endian::Big => self.b.bswap(self.word, self.chunk),
            }]),
            Op::State(state) => match &self.states[state.0 as usize] {
                StateVal::Value(value) => value.clone(),
                StateVal::None | StateVal::Held(_) => {
                    return Err("a state that is not known while the loop runs".into());
                }
            },
            Op::Pos => Val::Int(self.pos()),
            Op::Unary(UnaryOp::Not, a) if inst.ty == Ty::Bool => {
                let a = self.cond(a)?;
                Val::Cond(self.b.cond_not(a))
            }
            Op::Unary(op, a) => {
                let parts = self.int(a)?;
                Val::Int(parts.into_iter().map(|a| self.unary(op, inst.ty, lane, a)).collect())
            }
            Op::Binary(op, a, b) if inst.ty == Ty::Bool => {
                let (a, b) = (self.cond(a)?, self.cond(b)?);
                Val::Cond(match op {
                    BinaryOp::And => self.b.cond_and(a, b),
                    BinaryOp::Or => self.b.cond_or(a, b),
                    BinaryOp::Xor => self.b.cond_xor(a, b),
                    _ => return Err(format!("`{}` of bool", op.name())),
                })
            }
            Op::Binary(op, a, b) => {
                let count = self.constant(b);
                let (left, right) = (self.int(a)?, self.int(b)?);
                let mut parts = Vec::with_capacity(left.len());
                for (a, b) in left.into_iter().zip(right) {
                    parts.push(self.binary(op, inst.ty, lane, a, b, count)?);
                }
                Val::Int(parts)
            }
            Op::Compare(op, a, b) => self.compare(op, a, b)?,
            Op::Select { cond, then, otherwise } if inst.ty == Ty::Bool => {
                let (cond, then, otherwise) = (self.cond(cond)?, self.cond(then)?, self.cond(otherwise)?);
                let differ = self.b.cond_xor(then, otherwise);
                let chosen = self.b.cond_and(differ, cond);
                Val::Cond(self.b.cond_xor(chosen, otherwise))
            }
            Op::Select { cond, then, otherwise } => {
                let (cond, then, otherwise) = (self.cond(cond)?, self.int(then)?, self.int(otherwise)?);
                let conds = self.b.split_cond(self.word, lane, cond);
                let each = conds.into_iter().zip(then.into_iter().zip(otherwise));
                Val::Int(
                    each.map(|(cond, (then, otherwise))| self.b.select(lane, cond, then, otherwise))
                        .collect(),
                )
            }
            Op::Modular(op, a, b, m) => Val::Int(self.modular(op, inst.ty, lane, a, b, m)?),
            Op::Convert(op, a) => self.convert(op, a, inst.ty)?,
            Op::Lookup(table, index) => Val::Int(self.lookup(table.0 as usize, index, inst.ty)?),
            Op::WideUnary(..) | Op::WideBinary(..) => return Err("128 bits of narrower words".into()),
            Op::Crc(..) => return Err("a CRC step whose accumulator is not a state of its own".into()),
        };
        Ok(Some(result))
    }

    /// The offset of each word in the stream.
    fn pos(&mut self) -> Vec<VReg> {
        let base = self.b.broadcast_quad(POS);
        let (word, offset) = (self.word.bytes() as u64, self.offset as u64);
        let lanes = self.b.vector_bytes() as u64 / 8;
        (0..self.parts_of(Lane::Q) as u64)
            .map(|part| {
                let step = self.b.lanes_of(Lane::Q, |i| offset + (part * lanes + i) * word);
                self.b.add(Lane::Q, base, step)
            })
            .collect()
    }
}
