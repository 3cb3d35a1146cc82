//! One stage's block on the lanes of a chunk: values become groups of registers.

use super::lower::{Group, Lowering};
use super::{Reg, VectorOp};
use crate::ir::{BinaryOp, Block, CompareOp, ConvertOp, ModOp, Op, Pipe, StateId, Table, Ty, UnaryOp, Value};
use crate::plan::stage::{OffsetBits, constants_of, offset_bits};
use std::collections::HashMap;

/// Lowering of one stage's block.
pub(super) struct StageLowering<'a> {
    pub(super) to: &'a mut Lowering,
    pub(super) block: &'a Block,
    pub(super) tables: &'a [Table],
    pub(super) base: u32,
    pub(super) chunk: Reg,
    /// Bytes of the stage's word: the narrowest lane.
    pub(super) word: u8,
    pub(super) state_types: Vec<Ty>,
    pub(super) done: HashMap<Value, Group>,
    /// For each value, whether it depends on the offset alone.
    pub(super) positional: Vec<Option<OffsetBits>>,
    /// All values at the offsets 0, 1, 2, ... words, as far as they were asked for and depend on nothing
    /// else.
    pub(super) numbers: Vec<Vec<Option<u64>>>,
    /// What the words before decide: for a state its new value; for the new value of a scan its operand,
    /// the carry and the bits that are kept, if not all are.
    pub(super) delayed: HashMap<StateId, (Value, u32)>,
    pub(super) running: HashMap<Value, (Value, u32, Option<u64>)>,
    /// The values of states that depend only on themselves.
    pub(super) inductions: HashMap<StateId, Group>,
}

impl<'a> StageLowering<'a> {
    pub(super) fn new(
        to: &'a mut Lowering,
        block: &'a Block,
        tables: &'a [Table],
        pipe: &Pipe,
        base: u32,
        chunk: Reg,
    ) -> StageLowering<'a> {
        StageLowering {
            to,
            block,
            tables,
            base,
            chunk,
            word: pipe.input.bytes() as u8,
            state_types: pipe.states.iter().map(|state| state.ty).collect(),
            done: HashMap::new(),
            positional: offset_bits(block, &constants_of(block, tables, None, None)),
            numbers: Vec::new(),
            delayed: HashMap::new(),
            running: HashMap::new(),
            inductions: HashMap::new(),
        }
    }

    /// The lane that a value of type `ty` has.
    pub(super) fn lane(&self, ty: Ty) -> u8 {
        self.word.max(ty.bytes() as u8)
    }

    pub(super) fn splat(&mut self, value: u64, lane: u8) -> Group {
        let reg = self.to.splat(value, lane);
        Group { lane, regs: vec![reg; usize::from(lane / self.word)] }
    }

    pub(super) fn lower(&mut self, value: Value) -> Result<Group, String> {
        if let Some(group) = self.done.get(&value) {
            return Ok(group.clone());
        }
        // Operands come before their users, so a walk in order needs no recursion; only what `value` needs is
        // lowered.
        let mut needed = vec![false; value.0 as usize + 1];
        needed[value.0 as usize] = true;
        for v in (0..=value.0).rev().map(Value) {
            let wanted = needed[v.0 as usize] && !self.done.contains_key(&v);
            if wanted && !self.is_tabled(v) && !self.running.contains_key(&v) {
                self.block.inst(v).op.operands().for_each(|operand| needed[operand.0 as usize] = true);
            }
        }
        for v in (0..=value.0).map(Value) {
            if needed[v.0 as usize] && !self.done.contains_key(&v) {
                let group = self.inst(v)?;
                self.done.insert(v, group);
            }
        }
        Ok(self.done[&value].clone())
    }

    pub(super) fn operand(&self, value: Value) -> Group {
        self.done[&value].clone()
    }

    fn inst(&mut self, value: Value) -> Result<Group, String> {
        if self.is_tabled(value) {
            return self.phase(value);
        }
        let inst = self.block.inst(value);
        let lane = self.lane(inst.ty);
        if let Some((operand, carry, kept)) = self.running.get(&value).copied() {
            let operand = self.lower(operand)?;
            let operand = if inst.ty == Ty::Bool { self.bits(operand) } else { operand };
            let mut group = self.map(&operand, |to, of| to.emit_anew(VectorOp::Running { of, carry }, lane));
            if let Some(kept) = kept {
                let kept = self.to.splat(kept, lane);
                group = self.map(&group, |to, of| to.binary(BinaryOp::And, of, kept, lane));
            }
            return Ok(if inst.ty == Ty::Bool { self.masks(group) } else { self.fitted(group, inst.ty) });
        }
        match inst.op {
            Op::State(state) if self.delayed.contains_key(&state) => {
                // A chain of delays ends at something that does not look back.
                let (next, carry) = self.delayed[&state];
                let group = self.lower(next)?;
                let group = if inst.ty == Ty::Bool { self.bits(group) } else { group };
                let mut before = None;
                let group = self.map(&group, |to, of| {
                    to.emit(
                        match before.replace(of) {
                            None => VectorOp::Previous { of, carry },
                            Some(before) => VectorOp::Slide { before, of },
                        },
                        lane,
                    )
                });
                Ok(if inst.ty == Ty::Bool { self.masks(group) } else { group })
            }
            Op::State(state) if self.inductions.contains_key(&state) => Ok(self.inductions[&state].clone()),
            Op::In => Ok(Group { lane: self.word, regs: vec![self.chunk] }),
            Op::Const(value) if inst.ty == Ty::Bool => {
                Ok(self.splat(0u64.wrapping_sub(value & 1), self.word))
            }
            Op::Const(value) => Ok(self.splat(value, lane)),
            Op::State(StateId(state)) => {
                let reg = self.to.emit(VectorOp::Invariant(self.base + state), lane);
                let group = Group { lane, regs: vec![reg; usize::from(lane / self.word)] };
                Ok(if inst.ty == Ty::Bool { self.masks(group) } else { group })
            }
            Op::Unary(op, a) => self.unary(op, inst.ty, a),
            Op::Binary(op, a, b) => self.binary(op, inst.ty, a, b),
            Op::Compare(op, a, b) => self.compare(op, a, b),
            Op::Select { cond, then, otherwise } => {
                let then = self.operand(then);
                let otherwise = self.operand(otherwise);
                let cond = self.resized(self.operand(cond), then.lane, true);
                let otherwise =
                    if inst.ty == Ty::Bool { self.resized(otherwise, then.lane, true) } else { otherwise };
                let regs = (0..then.regs.len())
                    .map(|i| {
                        let op = VectorOp::Select(cond.regs[i], then.regs[i], otherwise.regs[i]);
                        self.to.emit(op, then.lane)
                    })
                    .collect();
                Ok(Group { lane: then.lane, regs })
            }
            Op::Convert(ConvertOp::Trunc, a) if inst.ty != Ty::Bool && self.block.inst(a).op == Op::Pos => {
                let group = self.offsets(lane);
                Ok(self.fitted(group, inst.ty))
            }
            Op::Convert(op, a) => self.convert(op, inst.ty, a),
            Op::Pos => Ok(self.offsets(lane)),
            Op::Param(_) => Err("an unbound parameter".into()),
            Op::Modular(ModOp::Addmod, x, y, m) => self.addmod(inst.ty, [x, y, m]),
            Op::Modular(op, ..) => Err(format!("`{}` outside a reduction", op.name())),
            Op::Lookup(table, index) => {
                let tables = self.tables;
                self.lookup(&tables[table.0 as usize], index)
            }
            Op::WideUnary(..) | Op::WideBinary(..) => Err("values of 128 bits".into()),
            Op::Crc(op, ..) => Err(format!("`{}` outside a remainder of its own", op.name())),
        }
    }

    /// The offsets of the chunk's words, in lanes.
    fn offsets(&mut self, lane: u8) -> Group {
        let word = self.word;
        let regs = (0..lane / word).map(|nth| self.to.emit(VectorOp::Offset { nth, word }, lane)).collect();
        Group { lane, regs }
    }

    pub(super) fn map(&mut self, a: &Group, mut f: impl FnMut(&mut Lowering, Reg) -> Reg) -> Group {
        Group { lane: a.lane, regs: a.regs.iter().map(|reg| f(self.to, *reg)).collect() }
    }

    pub(super) fn map2(
        &mut self,
        a: &Group,
        b: &Group,
        mut f: impl FnMut(&mut Lowering, Reg, Reg) -> Reg,
    ) -> Group {
        let regs = a.regs.iter().zip(&b.regs).map(|(a, b)| f(self.to, *a, *b)).collect();
        Group { lane: a.lane, regs }
    }

    fn unary(&mut self, op: UnaryOp, ty: Ty, a: Value) -> Result<Group, String> {
        let a = self.operand(a);
        let lane = a.lane;
        let narrow = ty != Ty::Bool && (ty.bytes() as u8) < lane;
        match op {
            UnaryOp::Neg | UnaryOp::Not => {
                let group = self.map(&a, |to, reg| to.emit(VectorOp::Unary(op, reg), lane));
                Ok(self.fitted(group, ty))
            }
            UnaryOp::Popcnt => Ok(self.map(&a, |to, reg| to.emit(VectorOp::Unary(op, reg), lane))),
            UnaryOp::Bswap | UnaryOp::Bitrev => {
                let group = self.map(&a, |to, reg| to.emit(VectorOp::Unary(op, reg), lane));
                if !narrow {
                    return Ok(group);
                }
                // The reversed value came out at the top of the wider lane.
                let count = self.to.splat(u64::from(lane) * 8 - u64::from(ty.bits()), lane);
                Ok(self.map(&group, |to, reg| to.binary(BinaryOp::Shr, reg, count, lane)))
            }
            UnaryOp::Clz => {
                let group = self.map(&a, |to, reg| to.emit(VectorOp::Unary(op, reg), lane));
                if !narrow {
                    return Ok(group);
                }
                // Without the zeros of the lane above the type.
                let above = self.to.splat(u64::from(lane) * 8 - u64::from(ty.bits()), lane);
                Ok(self.map(&group, |to, reg| to.binary(BinaryOp::Sub, reg, above, lane)))
            }
            UnaryOp::Ctz => {
                // There is a bit at the end of the type, if not before.
                let end = if narrow { self.to.splat(1 << ty.bits(), lane) } else { self.to.splat(0, lane) };
                Ok(self.map(&a, |to, reg| {
                    let ended = if narrow { to.binary(BinaryOp::Or, reg, end, lane) } else { reg };
                    to.emit(VectorOp::Unary(op, ended), lane)
                }))
            }
        }
    }

    fn binary(&mut self, op: BinaryOp, ty: Ty, a: Value, b: Value) -> Result<Group, String> {
        use BinaryOp as B;
        let count = match self.block.inst(b).op {
            Op::Const(count) => Some(count % u64::from(ty.bits())),
            _ => None,
        };
        let (a, mut b) = (self.operand(a), self.operand(b));
        let lane = a.lane;
        if ty == Ty::Bool {
            b = self.resized(b, lane, true);
            return Ok(self.map2(&a, &b, |to, a, b| to.binary(op, a, b, lane)));
        }
        let narrow = (ty.bytes() as u8) < lane;
        match op {
            B::And | B::Or | B::Xor | B::Min | B::Max => {
                Ok(self.map2(&a, &b, |to, a, b| to.binary(op, a, b, lane)))
            }
            B::Add | B::Sub | B::Mul => {
                let group = self.map2(&a, &b, |to, a, b| to.binary(op, a, b, lane));
                Ok(self.fitted(group, ty))
            }
            B::Smin | B::Smax => {
                let (a, b) = (self.signed(a, ty), self.signed(b, ty));
                let group = self.map2(&a, &b, |to, a, b| to.binary(op, a, b, lane));
                Ok(self.fitted(group, ty))
            }
            B::Shl | B::Shr | B::Sar => {
                let counts = self.counts(b, count, ty, lane);
                let a = if op == B::Sar { self.signed(a, ty) } else { a };
                let group = self.map2(&a, &counts, |to, a, count| to.binary(op, a, count, lane));
                Ok(self.fitted(group, ty))
            }
            B::Rotl | B::Rotr if count.is_none() => {
                let bits = self.to.splat(u64::from(ty.bits()), lane);
                let mut left = self.counts(b, count, ty, lane);
                if op == B::Rotr {
                    // A rotate to the other side, by what is left of the width.
                    let back = self.map(&left, |to, count| to.binary(B::Sub, bits, count, lane));
                    let below = self.to.splat(u64::from(ty.bits()) - 1, lane);
                    left = self.map(&back, |to, count| to.binary(B::And, count, below, lane));
                }
                if !narrow {
                    return Ok(self.map2(&a, &left, |to, a, count| to.binary(B::Rotl, a, count, lane)));
                }
                let group = self.map2(&a, &left, |to, a, up| {
                    let down = to.binary(B::Sub, bits, up, lane);
                    let high = to.binary(B::Shl, a, up, lane);
                    let low = to.binary(B::Shr, a, down, lane);
                    to.binary(B::Or, high, low, lane)
                });
                Ok(self.fitted(group, ty))
            }
            B::Rotl | B::Rotr => {
                let count = count.unwrap_or(0);
                let bits = u64::from(ty.bits());
                let left = if op == B::Rotl { count } else { (bits - count) % bits };
                if left == 0 {
                    return Ok(a);
                }
                if !narrow {
                    let count = self.to.splat(left, lane);
                    return Ok(self.map(&a, |to, a| to.binary(B::Rotl, a, count, lane)));
                }
                let (up, down) = (self.to.splat(left, lane), self.to.splat(bits - left, lane));
                let group = self.map(&a, |to, a| {
                    let high = to.binary(B::Shl, a, up, lane);
                    let low = to.binary(B::Shr, a, down, lane);
                    to.binary(B::Or, high, low, lane)
                });
                Ok(self.fitted(group, ty))
            }
            B::Addc if narrow => {
                // The carry is in the lane, above the type.
                let bits = self.to.splat(u64::from(ty.bits()), lane);
                let sum = self.map2(&a, &b, |to, a, b| {
                    let sum = to.binary(B::Add, a, b, lane);
                    let carry = to.binary(B::Shr, sum, bits, lane);
                    to.binary(B::Add, sum, carry, lane)
                });
                Ok(self.fitted(sum, ty))
            }
            B::Addc => Ok(self.map2(&a, &b, |to, a, b| {
                // A carry made the sum smaller than an operand; a mask is -1, so subtracting it adds the
                // carry.
                let sum = to.binary(B::Add, a, b, lane);
                let carry = to.emit(VectorOp::Compare(CompareOp::Ltu, sum, a), lane);
                to.binary(B::Sub, sum, carry, lane)
            })),
            B::Adds | B::Subs | B::Sadds | B::Ssubs => Ok(self.saturating(op, ty, &a, &b)),
            B::Clmul | B::Clmulh => Err(format!("`{}` in lanes", op.name())),
        }
    }

    fn compare(&mut self, op: CompareOp, a: Value, b: Value) -> Result<Group, String> {
        let ty = self.block.ty(a);
        let (a, mut b) = (self.operand(a), self.operand(b));
        let lane = a.lane;
        if ty == Ty::Bool {
            // Masks are 0 and -1.
            b = self.resized(b, lane, true);
        } else if matches!(op, CompareOp::Lts | CompareOp::Les) {
            let (a, b) = (self.signed(a, ty), self.signed(b, ty));
            return Ok(self.map2(&a, &b, |to, a, b| to.emit(VectorOp::Compare(op, a, b), lane)));
        }
        // As signed numbers of one bit and as unsigned ones, masks are ordered as what they stand for.
        Ok(self.map2(&a, &b, |to, a, b| to.emit(VectorOp::Compare(op, a, b), lane)))
    }
}
