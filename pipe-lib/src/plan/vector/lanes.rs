//! One stage's block on the lanes of a chunk: values become groups of registers.

use super::lower::{Group, Lowering, Ordered, Sums, Term, mask};
use super::phase::{Positional, positional};
use super::{Accumulate, Accumulator, Carry, Reg, VectorOp};
use crate::analyse::Reduce;
use crate::ir::{BinaryOp, Block, CompareOp, ConvertOp, Op, Pipe, StateId, Table, Ty, UnaryOp, Value};
use std::collections::HashMap;

/// Lowering of one stage's block.
pub(super) struct Stage<'a> {
    pub(super) to: &'a mut Lowering,
    pub(super) block: &'a Block,
    pub(super) tables: &'a [Table],
    pub(super) base: u32,
    pub(super) chunk: Reg,
    /// Bytes of the stage's word: the narrowest lane.
    pub(super) word: u8,
    pub(super) state_types: Vec<Ty>,
    pub(super) done: HashMap<Value, Group>,
    pub(super) positional: Vec<Positional>,
    /// All values at the offsets 0, 1, 2, ... words, as far as they were asked for and depend on nothing else.
    pub(super) numbers: Vec<Vec<Option<u64>>>,
    /// What the words before decide: for a state its new value, for the new value of a scan the carry and its operand.
    pub(super) delayed: HashMap<StateId, (Value, u32)>,
    pub(super) running: HashMap<Value, (Value, u32)>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(
        to: &'a mut Lowering,
        block: &'a Block,
        tables: &'a [Table],
        pipe: &Pipe,
        base: u32,
        chunk: Reg,
    ) -> Stage<'a> {
        Stage {
            to,
            block,
            tables,
            base,
            chunk,
            word: pipe.input.bytes() as u8,
            state_types: pipe.states.iter().map(|state| state.ty).collect(),
            done: HashMap::new(),
            positional: positional(block),
            numbers: Vec::new(),
            delayed: HashMap::new(),
            running: HashMap::new(),
        }
    }

    /// Declares the states that pass from word to word, and makes sure that their new values are computed.
    pub(super) fn order(&mut self, states: &[Ordered]) -> Result<(), String> {
        for Ordered { state, next, scan } in states {
            let ty = self.state_types[*state];
            let flat = self.base + *state as u32;
            let lane = self.lane(ty);
            if lane != self.word || ty == Ty::Bool {
                return Err(format!("a {ty} that passes from word to word of {} bytes", self.word));
            }
            if let Some((op, operand)) = scan {
                let narrow = (ty.bytes() as u8) < lane;
                let signed = matches!(op, Reduce::Smin | Reduce::Smax | Reduce::Addc);
                if matches!(op, Reduce::Addmod(_)) || (narrow && signed) {
                    return Err(format!("a running {op} of {ty}"));
                }
                let carry = self.carry(Carry::Running { state: flat, ty, op: *op, lane });
                self.running.insert(*next, (*operand, carry));
            }
            // The register is known once the new value is lowered.
            let carry = self.carry(Carry::Previous { state: flat, lane, of: Reg(0) });
            self.delayed.insert(StateId(*state as u32), (*next, carry));
        }
        for Ordered { state, next, .. } in states {
            let group = self.lower(*next)?;
            let (_, carry) = self.delayed[&StateId(*state as u32)];
            if let (Carry::Previous { of, .. }, [reg]) =
                (&mut self.to.body.carries[carry as usize], &group.regs[..])
            {
                *of = *reg;
            }
        }
        Ok(())
    }

    fn carry(&mut self, carry: Carry) -> u32 {
        self.to.body.carries.push(carry);
        (self.to.body.carries.len() - 1) as u32
    }

    /// A sum and its sum of sums.
    pub(super) fn sum(&mut self, sums: &Sums) -> Result<(), String> {
        let group = self.lower(sums.term)?;
        let [of] = group.regs[..] else { return Err("a sum of sums of values wider than the word".into()) };
        if group.lane == 8 {
            return Err("a sum of sums of 64-bit words".into());
        }
        self.carry(Carry::Sums {
            sum: self.base + sums.state as u32,
            sum_of_sums: self.base + sums.sum_of_sums as u32,
            ty: self.state_types[sums.state],
            op: sums.op,
            lane: group.lane,
            includes_word: sums.includes_word,
            of,
        });
        Ok(())
    }

    pub(super) fn accumulate(&mut self, term: &Term, operand: Value) -> Result<(), String> {
        let group = self.lower(operand)?;
        let narrow =
            term.form == Accumulate::Lanes && term.ty.is_integer() && group.lane > term.ty.bytes() as u8;
        if narrow && matches!(term.op, Reduce::Smin | Reduce::Smax) {
            return Err(format!("{} of a type narrower than the word", term.op));
        }
        let acc = Accumulator {
            state: term.state,
            ty: term.ty,
            op: term.op,
            form: term.form,
            lane: group.lane,
            swapped: term.swapped,
            operands: group.regs,
        };
        self.to.body.accumulators.push(acc);
        Ok(())
    }

    /// The lane that a value of type `ty` has.
    pub(super) fn lane(&self, ty: Ty) -> u8 {
        self.word.max(ty.bytes() as u8)
    }

    fn splat(&mut self, value: u64, lane: u8) -> Group {
        let reg = self.to.splat(value, lane);
        Group { lane, regs: vec![reg; usize::from(lane / self.word)] }
    }

    pub(super) fn lower(&mut self, value: Value) -> Result<Group, String> {
        if let Some(group) = self.done.get(&value) {
            return Ok(group.clone());
        }
        // Operands come before their users, so a walk in order needs no recursion; only what `value` needs is lowered.
        let mut needed = vec![false; value.0 as usize + 1];
        needed[value.0 as usize] = true;
        for v in (0..=value.0).rev().map(Value) {
            let wanted = needed[v.0 as usize] && !self.done.contains_key(&v);
            if wanted && !self.positional[v.0 as usize].table_wanted() && !self.running.contains_key(&v) {
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

    fn operand(&self, value: Value) -> Group {
        self.done[&value].clone()
    }

    fn inst(&mut self, value: Value) -> Result<Group, String> {
        if self.positional[value.0 as usize].table_wanted() {
            return self.phase(value);
        }
        let inst = self.block.inst(value);
        let lane = self.lane(inst.ty);
        if let Some((operand, carry)) = self.running.get(&value).copied() {
            let [of] = self.lower(operand)?.regs[..] else {
                return Err("a running value of two registers".into());
            };
            let reg = self.to.emit(VectorOp::Running { of, carry }, lane);
            return Ok(self.fitted(Group { lane, regs: vec![reg] }, inst.ty));
        }
        match inst.op {
            Op::State(state) if self.delayed.contains_key(&state) => {
                // A chain of delays ends at something that does not look back.
                let (next, carry) = self.delayed[&state];
                let [of] = self.lower(next)?.regs[..] else { return Err("a delay of two registers".into()) };
                let reg = self.to.emit(VectorOp::Previous { of, carry }, lane);
                Ok(Group { lane, regs: vec![reg] })
            }
            Op::In => Ok(Group { lane: self.word, regs: vec![self.chunk] }),
            Op::Const(value) if inst.ty == Ty::Bool => {
                Ok(self.splat(0u64.wrapping_sub(value & 1), self.word))
            }
            Op::Const(value) => Ok(self.splat(value, lane)),
            Op::State(StateId(state)) => {
                if self.state_types[state as usize] == Ty::Bool {
                    return Err("a state of type bool that the loop reads".into());
                }
                let reg = self.to.emit(VectorOp::Held(self.base + state), lane);
                Ok(Group { lane, regs: vec![reg; usize::from(lane / self.word)] })
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
            Op::Convert(op, a) => self.convert(op, inst.ty, a),
            Op::Pos => Err("an offset that does not repeat within one register".into()),
            Op::Param(_) => Err("an unbound parameter".into()),
            Op::Modular(op, ..) => Err(format!("`{}` outside a reduction", op.name())),
            Op::Lookup(..) => Err("`lookup`".into()),
            Op::Crc(op, ..) => Err(format!("`{}` outside a remainder of its own", op.name())),
        }
    }

    fn map(&mut self, a: &Group, mut f: impl FnMut(&mut Lowering, Reg) -> Reg) -> Group {
        Group { lane: a.lane, regs: a.regs.iter().map(|reg| f(self.to, *reg)).collect() }
    }

    fn map2(&mut self, a: &Group, b: &Group, mut f: impl FnMut(&mut Lowering, Reg, Reg) -> Reg) -> Group {
        let regs = a.regs.iter().zip(&b.regs).map(|(a, b)| f(self.to, *a, *b)).collect();
        Group { lane: a.lane, regs }
    }

    /// Zeroes the bits above a type narrower than its lane.
    fn fitted(&mut self, group: Group, ty: Ty) -> Group {
        if ty.bytes() as u8 >= group.lane || ty == Ty::Bool {
            return group;
        }
        let bits = self.to.splat(ty.mask(), group.lane);
        let lane = group.lane;
        self.map(&group, |to, reg| to.binary(BinaryOp::And, reg, bits, lane))
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
            UnaryOp::Clz | UnaryOp::Ctz => Err(format!("`{}` in lanes", op.name())),
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
            B::Smin | B::Smax | B::Sar if narrow => {
                Err(format!("`{}` on a type narrower than the word", op.name()))
            }
            B::Smin | B::Smax => Ok(self.map2(&a, &b, |to, a, b| to.binary(op, a, b, lane))),
            B::Shl | B::Shr | B::Sar => {
                let count = count.ok_or_else(|| format!("`{}` by a count that varies", op.name()))?;
                let count = self.to.splat(count, lane);
                let group = self.map(&a, |to, a| to.binary(op, a, count, lane));
                Ok(self.fitted(group, ty))
            }
            B::Rotl | B::Rotr => {
                let count = count.ok_or_else(|| format!("`{}` by a count that varies", op.name()))?;
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
                // A carry made the sum smaller than an operand; a mask is -1, so subtracting it adds the carry.
                let sum = to.binary(B::Add, a, b, lane);
                let carry = to.emit(VectorOp::Compare(CompareOp::Ltu, sum, a), lane);
                to.binary(B::Sub, sum, carry, lane)
            })),
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
        } else if (ty.bytes() as u8) < lane && matches!(op, CompareOp::Lts | CompareOp::Les) {
            return Err(format!("`{}` on a type narrower than the word", op.name()));
        }
        if ty == Ty::Bool && !matches!(op, CompareOp::Eq | CompareOp::Ne) {
            return Err(format!("`{}` on bool", op.name()));
        }
        Ok(self.map2(&a, &b, |to, a, b| to.emit(VectorOp::Compare(op, a, b), lane)))
    }

    fn convert(&mut self, op: ConvertOp, ty: Ty, a: Value) -> Result<Group, String> {
        let from = self.block.ty(a);
        let mut group = self.operand(a);
        let lane = self.lane(ty);
        if ty == Ty::Bool {
            let one = self.to.splat(1, group.lane);
            let source = group.lane;
            return Ok(self.map(&group, |to, reg| {
                let bit = to.binary(BinaryOp::And, reg, one, source);
                to.emit(VectorOp::Compare(CompareOp::Eq, bit, one), source)
            }));
        }
        if from == Ty::Bool {
            let mask = self.resized(group, lane, true);
            let bits = if op == ConvertOp::Sext { ty.mask() } else { 1 };
            let bits = self.to.splat(bits, lane);
            return Ok(self.map(&mask, |to, reg| to.binary(BinaryOp::And, reg, bits, lane)));
        }
        if op == ConvertOp::Sext {
            if (from.bytes() as u8) < group.lane {
                // Up to the top of the lane and back, copying the sign.
                let source = group.lane;
                let count = self.to.splat(u64::from(source) * 8 - u64::from(from.bits()), source);
                group = self.map(&group, |to, reg| {
                    let up = to.binary(BinaryOp::Shl, reg, count, source);
                    to.binary(BinaryOp::Sar, up, count, source)
                });
            }
            let wide = self.resized(group, lane, true);
            return Ok(self.fitted(wide, ty));
        }
        let group = self.resized(group, lane, false);
        Ok(self.fitted(group, ty))
    }

    /// The same lanes at another width: extended by zeros or signs, or cut to their low parts.
    fn resized(&mut self, mut group: Group, lane: u8, signed: bool) -> Group {
        while group.lane < lane {
            let wide = group.lane * 2;
            let mut regs = Vec::with_capacity(group.regs.len() * 2);
            for from in &group.regs {
                for high in [false, true] {
                    // A chunk may be a literal of a stage with other lanes: that is no shortcut.
                    let inst = self.to.body.inst(*from);
                    regs.push(match inst.op {
                        VectorOp::Splat(value) if inst.lane == group.lane => {
                            let sign = value >> (8 * group.lane - 1) & 1 == 1;
                            let above = if signed && sign { mask(wide) & !mask(group.lane) } else { 0 };
                            self.to.splat(value | above, wide)
                        }
                        _ => self.to.emit(VectorOp::Extend { from: *from, high, signed }, wide),
                    });
                }
            }
            group = Group { lane: wide, regs };
        }
        while group.lane > lane {
            let half = group.lane / 2;
            let mut regs = Vec::with_capacity(group.regs.len() / 2);
            for pair in group.regs.chunks(2) {
                let last = pair[pair.len() - 1];
                let inst = self.to.body.inst(pair[0]);
                regs.push(match inst.op {
                    VectorOp::Splat(value) if last == pair[0] && inst.lane == group.lane => {
                        self.to.splat(value, half)
                    }
                    _ => self.to.emit(VectorOp::Narrow(pair[0], last), half),
                });
            }
            group = Group { lane: half, regs };
        }
        group
    }
}
