//! What a stage demands of a target: operations that not every one has, and about how much code and how many
//! registers.

use super::{StateForm, VectorStage};
use crate::ir::{BinaryOp, Inst, ModOp, Op, State, Ty, UnaryOp, Value, WideBinary, WideUnary};
use crate::plan::induction::Step;
use crate::plan::target::Target;

/// Most conditional subtractions that reduce a number in 64-bit lanes, which have no upper half of a product.
pub(crate) const MAX_SUBTRACTIONS: u32 = 8;

impl VectorStage {
    /// Refuses what the target has no code for; the error is a phrase.
    pub(crate) fn check(&self, target: &Target) -> Result<(), String> {
        if self.pipe.is_wide() {
            return self.check_blocks(target);
        }
        for (form, state) in self.forms.iter().zip(&self.pipe.states) {
            match form {
                StateForm::Crc(..) if !target.crcs => {
                    return Err("a CRC without carry-less multiplication".to_owned());
                }
                StateForm::Delay(_) | StateForm::Scan(..) if state.ty.bytes() > self.pipe.word_bytes() => {
                    return Err(format!("a state of type {} carried from word to word", state.ty));
                }
                _ => {}
            }
        }
        let computed = |(value, _): &(Value, _)| {
            let index = value.0 as usize;
            self.needed[index] && self.constants[index].is_none() && self.periods[index].is_none()
        };
        for (value, inst) in self.pipe.body.iter().filter(computed) {
            match inst.op {
                Op::Binary(BinaryOp::Clmul | BinaryOp::Clmulh, ..)
                    if self.lane_bits(inst.ty) == 64 && !target.clmul64 =>
                {
                    return Err("64-bit carry-less multiplication on this processor".to_owned());
                }
                Op::Modular(op, a, b, m) => match self.constants[m.0 as usize] {
                    None => return Err("arithmetic modulo a number that is not constant".to_owned()),
                    Some(modulus) if !self.has_modular(op, inst.ty, [a, b], modulus) => {
                        return Err(format!("`{}` of {} modulo {modulus}", op.name(), inst.ty));
                    }
                    Some(_) => {}
                },
                Op::Lookup(..) if inst.ty == Ty::Bool => return Err("a look-up of bool".to_owned()),
                Op::Crc(..) => {
                    return Err("a CRC step whose accumulator is not a state of its own".to_owned());
                }
                Op::Param(_) => return Err(format!("an unbound parameter, v{}", value.0)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The same of words of 128 bits, in which narrower values have the lowest bits.
    fn check_blocks(&self, target: &Target) -> Result<(), String> {
        if self.pipe.input.ty != Ty::U128 {
            return Err("values of 128 bits in narrower words".to_owned());
        }
        let has_lanes = |ty: Ty| matches!(ty, Ty::U32 | Ty::U64);
        for (form, state) in self.forms.iter().zip(&self.pipe.states) {
            match form {
                StateForm::Constant | StateForm::Member if has_lanes(state.ty) => {}
                StateForm::Induction(Step::Affine { factor: 1, .. }) if has_lanes(state.ty) => {}
                StateForm::Field(..) if target.clmul128 => {}
                _ => return Err(format!("state `{}` beside values of 128 bits", state.name)),
            }
        }
        for (value, inst) in self.pipe.body.iter() {
            let index = value.0 as usize;
            if !self.needed[index] || self.constants[index].is_some() {
                continue;
            }
            let bytes = |count: Value| self.constants[count.0 as usize].is_some_and(|count| count % 8 == 0);
            let fits = match inst.op {
                Op::In => true,
                Op::State(_) => has_lanes(inst.ty),
                Op::Unary(UnaryOp::Bswap, _) => has_lanes(inst.ty),
                Op::Binary(
                    BinaryOp::Add | BinaryOp::Sub | BinaryOp::And | BinaryOp::Or | BinaryOp::Xor,
                    ..,
                ) => has_lanes(inst.ty),
                Op::WideUnary(WideUnary::Trunc, _) => has_lanes(inst.ty),
                Op::WideUnary(..) => true,
                Op::WideBinary(WideBinary::Shl | WideBinary::Shr, _, count) => bytes(count),
                Op::WideBinary(op, ..) => match op {
                    WideBinary::Pair | WideBinary::And | WideBinary::Or | WideBinary::Xor => true,
                    WideBinary::Aesenc
                    | WideBinary::Aesenclast
                    | WideBinary::Aesdec
                    | WideBinary::Aesdeclast => target.aes,
                    _ => false,
                },
                _ => false,
            };
            if !fits || self.periods[index].is_some() {
                return Err(format!(
                    "`{}` in lanes of 128 bits on this processor",
                    self.pipe.op_text(inst.op)
                ));
            }
        }
        Ok(())
    }

    /// Bits of the lanes in which values of a type stand.
    fn lane_bits(&self, ty: Ty) -> u32 {
        8 * ty.bytes().max(self.pipe.word_bytes()) as u32
    }

    /// Whether a sum or a product modulo a constant has a form in lanes.
    fn has_modular(&self, op: ModOp, ty: Ty, [a, b]: [Value; 2], modulus: u64) -> bool {
        if modulus == 0 || modulus.is_power_of_two() {
            return true;
        }
        let bits = self.lane_bits(ty);
        let mask = u128::from(u64::MAX >> (64 - bits));
        let (most_a, most_b) = (u128::from(self.most(a)), u128::from(self.most(b)));
        let reduces = |most: u128| reduces(bits, most, modulus);
        match op {
            ModOp::Addmod if most_a + most_b <= mask => reduces(most_a + most_b),
            ModOp::Addmod => {
                let sum = 2 * (u128::from(modulus) - 1);
                let fits = u128::from(modulus) <= mask / 2 + 1;
                reduces(most_a) && reduces(most_b) && (!fits || reduces(sum))
            }
            ModOp::Mulmod => {
                let constant = |value: Value| self.constants[value.0 as usize];
                let (number, factor) = match (constant(b), constant(a)) {
                    (Some(factor), _) => (most_a, Some(u128::from(factor % modulus))),
                    (_, Some(factor)) => (most_b, Some(u128::from(factor % modulus))),
                    _ => (most_a, None),
                };
                let most = number * factor.unwrap_or(most_b);
                let by_quotient = factor.is_some() && matches!(bits, 16 | 32);
                if most <= mask {
                    reduces(most)
                } else {
                    by_quotient && u128::from(modulus) <= mask / 2 || bits < 32
                }
            }
        }
    }

    /// At least so many machine instructions are what one vector takes.
    pub(crate) fn size(&self) -> usize {
        let word = self.pipe.word_bytes();
        let of = |(value, inst): (Value, Inst)| {
            let index = value.0 as usize;
            if !self.needed[index] || self.constants[index].is_some() || self.periods[index].is_some() {
                return 0;
            }
            let parts = (inst.ty.bytes() / word).max(1);
            let each = match inst.op {
                Op::In | Op::State(_) | Op::Param(_) | Op::Const(_) | Op::Convert(..) => 0,
                Op::Binary(BinaryOp::Clmul | BinaryOp::Clmulh, ..) if self.lane_bits(inst.ty) < 64 => {
                    4 * self.lane_bits(inst.ty) as usize
                }
                Op::Modular(..) => 4,
                _ => 1,
            };
            parts * each
        };
        self.pipe.body.iter().map(of).sum()
    }

    /// At least so many registers are taken for the whole loop, with `sets` sets of accumulators.
    pub(crate) fn registers(&self, target: &Target, sets: usize) -> usize {
        if self.pipe.is_wide() {
            let held = self.forms.iter().filter(|form| **form == StateForm::Constant).count();
            let others =
                self.forms.iter().filter(|form| !matches!(form, StateForm::Constant | StateForm::Member));
            // Two states in one register, or both in memory.
            return others.count() + if target.masks { held / 2 } else { 0 };
        }
        let of = |(form, state): (&StateForm, &State)| match form {
            StateForm::Reduction(..) if state.ty == Ty::Bool && target.masks => 0,
            StateForm::Reduction(..) => sets,
            StateForm::Linear(system, _) => system.states.len(),
            StateForm::IteratedSums(system, _) => system.states.len() + 1,
            StateForm::Constant
            | StateForm::Delay(_)
            | StateForm::Induction(_)
            | StateForm::Scan(..)
            | StateForm::Lagged(..)
                if state.ty != Ty::Bool =>
            {
                1
            }
            StateForm::Crc(..) | StateForm::Sum { .. } => 1,
            StateForm::Field(..) => 1,
            _ => 0,
        };
        let patterns = self.patterns().filter(|ty| *ty != Ty::Bool || !target.masks);
        let patterns: usize = patterns.map(|ty| (ty.bytes() / self.pipe.word_bytes()).max(1)).sum();
        self.forms.iter().zip(&self.pipe.states).map(of).sum::<usize>() + patterns
    }

    /// At least so many mask registers are taken for the whole loop.
    pub(crate) fn masks(&self, target: &Target) -> usize {
        self.patterns().filter(|ty| *ty == Ty::Bool && target.masks).count()
    }

    /// The types of the values that are loaded ready-made.
    fn patterns(&self) -> impl Iterator<Item = Ty> {
        let body = &self.pipe.body;
        let is_pattern = |value: &Value| {
            let index = value.0 as usize;
            self.needed[index] && self.periods[index].is_some()
        };
        body.iter().filter(move |(value, _)| is_pattern(value)).map(|(_, inst)| inst.ty)
    }
}

/// Whether a number that is no more than `most` is reduced modulo `modulus` in lanes of so many bits.
fn reduces(bits: u32, most: u128, modulus: u64) -> bool {
    let quotient = most / u128::from(modulus);
    bits < 64 || 128 - quotient.leading_zeros() <= MAX_SUBTRACTIONS
}
