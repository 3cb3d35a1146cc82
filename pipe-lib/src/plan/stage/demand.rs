//! What a stage demands of a target: operations that not every one has, and about how much code and how many
//! registers.

use super::{LinearSystem, OffsetBits, Running, StateForm, VectorStage, offset_bits};
use crate::analyse::Reduce;
use crate::ir::{BinaryOp, Inst, ModOp, Op, State, Ty, UnaryOp, Value, WideBinary, WideUnary};
use crate::plan::induction::Step;
use crate::plan::target::{LaneOps, StateKinds, Systems, Target};

/// Most conditional subtractions that reduce a number in 64-bit lanes, which have no upper half of a product.
pub(crate) const MAX_SUBTRACTIONS: u32 = 8;

/// Most multiples of a modulus that are subtracted from a number in [`LaneOps::Common`].
pub(crate) const MAX_MULTIPLES: u64 = 3;

/// Most entries of a table of bytes in [`LaneOps::Common`].
pub(crate) const MAX_BYTE_ENTRIES: usize = 256;

/// Most entries of a table of wider numbers there, each of which is put together from its bytes.
pub(crate) const MAX_WIDE_ENTRIES: usize = 16;

/// Most times that a running state may be wider than the word, where states may be. Beyond, the registers of
/// one vector follow one after the other for so long that the scalar loop is faster.
const MAX_WIDENING: usize = 4;

/// Most registers of a linear recurrence where it has one for each vector of numbers; so many states at most.
pub(crate) const MAX_SYSTEM: usize = 8;

/// Most bytes of running reductions that take turns: their last results are in one lane of 128 bits.
const MAX_TURNS: usize = 16;

impl VectorStage {
    /// Refuses what the target has no code for; the error is a phrase.
    pub(crate) fn check(&self, target: &Target) -> Result<(), String> {
        if self.pipe.is_wide() {
            return self.check_blocks(target);
        }
        for state in 0..self.forms.len() {
            self.check_state(state, target).map_err(|what| {
                format!("state `{}` of pipe `{}` is {what}", self.pipe.states[state].name, self.pipe.name)
            })?;
        }
        let computed = |(value, _): &(Value, Inst)| {
            let index = value.0 as usize;
            self.needed[index] && self.constants[index].is_none() && self.periods[index].is_none()
        };
        let positional = match target.lanes {
            LaneOps::All => Vec::new(),
            LaneOps::Common => offset_bits(&self.pipe.body, &self.constants),
        };
        for (value, inst) in self.pipe.body.iter().filter(computed) {
            let bits = self.lane_bits(inst.ty);
            match inst.op {
                Op::Binary(BinaryOp::Clmul | BinaryOp::Clmulh, ..) if bits == 64 && !target.clmul64 => {
                    return Err("64-bit carry-less multiplication on this processor".to_owned());
                }
                _ if target.lanes == LaneOps::Common => self.check_common(inst, &positional)?,
                _ => {}
            }
            match inst.op {
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

    /// Refuses a state that the target does not carry; the error says what it is.
    fn check_state(&self, state: usize, target: &Target) -> Result<(), String> {
        let (kinds, pipe, ty) = (target.states, &*self.pipe, self.pipe.states[state].ty);
        let widened = ty.bytes().div_ceil(pipe.word_bytes());
        match &self.forms[state] {
            StateForm::Crc(..) if !target.crcs => Err("a CRC without carry-less multiplication".to_owned()),
            StateForm::Linear(system, _) if kinds.systems == Systems::Wrapping => {
                self.check_system(system, ty)
            }
            StateForm::IteratedSums(..) if kinds.systems == Systems::Wrapping => {
                Err("one of sums of sums, which take one instruction each word by word".to_owned())
            }
            StateForm::Reduction(op @ Reduce::Addmod(_), _) if !kinds.residues => {
                Err(format!("a sum by {op} of numbers that are no words"))
            }
            form @ StateForm::Sum { word, .. } if !kinds.residues => {
                let fits = self.constants[word.0 as usize].is_none() && form.is_of_words(pipe);
                if fits { Ok(()) } else { Err("a sum of numbers that are no words".to_owned()) }
            }
            StateForm::Sum { second: Some(_), .. } if pipe.input.ty == Ty::U64 => {
                Err("a sum of sums of 64-bit words".to_owned())
            }
            StateForm::Delay(_) if widened > 1 && !kinds.mixed => {
                Err(format!("a {ty} carried from word to word"))
            }
            StateForm::Scan(running) => self.check_running(ty, running, 1, kinds),
            StateForm::Lagged(running, states) => self.check_running(ty, running, states.len(), kinds),
            StateForm::Induction(_) if kinds.steps || self.settles(state) => Ok(()),
            StateForm::Induction(_) => match self.short_step(state) {
                None => Err("an induction whose step is no sum, product or rotation".to_owned()),
                // Products of 64 bits are many instructions.
                Some(Step::Affine { factor, .. }) if *factor != 1 && self.lane_bits(ty) == 64 => {
                    Err(format!("products of {ty} that follow from each other"))
                }
                Some(_) if widened > MAX_WIDENING => Err(format!("a {ty} that follows from itself")),
                Some(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Refuses linear recurrences that are no faster in lanes of 128 bits: with few words in a vector, and by
    /// products of 64 bits, which are many instructions.
    fn check_system(&self, system: &LinearSystem, ty: Ty) -> Result<(), String> {
        let widened = ty.bytes().div_ceil(self.pipe.word_bytes());
        let slow = self.lane_bits(ty) == 64 && widened < MAX_WIDENING;
        if system.modulus != 0 {
            return Err(format!("a linear recurrence modulo {}", system.modulus));
        }
        if ty == Ty::Bool || slow || system.states.len() * widened > MAX_SYSTEM {
            return Err(format!("a linear recurrence of {ty}"));
        }
        Ok(())
    }

    /// Refuses running reductions, so many that take turns.
    fn check_running(
        &self,
        ty: Ty,
        Running { fold, .. }: &Running,
        turns: usize,
        kinds: StateKinds,
    ) -> Result<(), String> {
        let word = self.pipe.word_bytes();
        let lane = ty.bytes().max(word);
        let of_lanes = matches!(fold, Reduce::Smin | Reduce::Smax | Reduce::Addc | Reduce::Adds);
        let fits = match ty {
            _ if ty == self.pipe.input.ty => true,
            Ty::Bool => kinds.mixed && matches!(fold, Reduce::And | Reduce::Or | Reduce::Xor),
            _ => kinds.mixed && lane / word <= MAX_WIDENING && !(of_lanes && ty.bytes() < lane),
        };
        if !fits || *fold == Reduce::Addc && !kinds.around || turns * lane > MAX_TURNS {
            return Err(format!("a running {fold} of {ty}"));
        }
        Ok(())
    }

    /// Refuses operations that are more than [`LaneOps::Common`]; `positional` says what depends on the
    /// offset in the stream alone.
    fn check_common(&self, inst: Inst, positional: &[Option<OffsetBits>]) -> Result<(), String> {
        use BinaryOp as B;
        let bits = self.lane_bits(inst.ty);
        let constant = |value: Value| self.constants[value.0 as usize];
        let fits = match inst.op {
            Op::Unary(UnaryOp::Clz | UnaryOp::Ctz, _) => bits < 64,
            Op::Binary(B::Clmul | B::Clmulh, ..) | Op::Modular(ModOp::Mulmod, ..) => false,
            // Each lane by a count of its own.
            Op::Binary(op @ (B::Shl | B::Shr | B::Sar | B::Rotl | B::Rotr), _, count) => {
                let few = bits == 32 || positional[count.0 as usize].is_some();
                constant(count).is_some() || bits < 32 || few && op == B::Shl
            }
            Op::Modular(ModOp::Addmod, a, b, m) => match constant(m) {
                Some(modulus) if modulus != 0 && !modulus.is_power_of_two() => {
                    let is_below = |value: Value| match self.pipe.body.inst(value).op {
                        Op::Modular(ModOp::Addmod, _, _, by) => constant(by) == Some(modulus),
                        _ => constant(value).is_some(),
                    };
                    [a, b].into_iter().all(is_below) || inst.ty.mask() / modulus <= MAX_MULTIPLES
                }
                _ => true,
            },
            Op::Lookup(table, index) if constant(index).is_none() => {
                let table = &self.pipe.tables[table.0 as usize];
                let most = if table.ty.bytes() == 1 { MAX_BYTE_ENTRIES } else { MAX_WIDE_ENTRIES };
                table.values.len() <= most
            }
            _ => true,
        };
        if fits { Ok(()) } else { Err(format!("`{}` in {bits}-bit lanes", self.pipe.op_text(inst.op))) }
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
