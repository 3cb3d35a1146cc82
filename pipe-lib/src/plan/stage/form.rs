//! The form in which a loop over vectors keeps each state, from its class; a generator's
//! [`Target`](crate::plan::target::Target) says which of them it has.

use super::halves::Halves;
use super::sums;
use crate::analyse::gf2::Crc;
use crate::analyse::{Class, Linear, Reduce, StateFacts, bounds};
use crate::ir::{BinaryOp, Block, ConvertOp, Op, Pipe, StateId, Ty, UnaryOp, Value};
use crate::plan::induction::Step;

/// How the words come together in a running reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) fold: Reduce,
    /// The bits of each result that are kept, if not all are: sums modulo a power of two.
    pub(crate) kept: Option<u64>,
    /// The contribution of a word, which depends on no states but those carried before this one.
    pub(crate) operand: Value,
}

impl Running {
    fn of(op: Reduce, ty: Ty, operand: Value) -> Option<Running> {
        Some(match op {
            Reduce::Addmod(m) if m.is_power_of_two() && m <= ty.mask() => {
                Running { fold: Reduce::Add, kept: Some(m - 1), operand }
            }
            Reduce::Addmod(_) => return None,
            fold => Running { fold, kept: None, operand },
        })
    }
}

/// What one word adds to a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addend {
    pub(crate) value: Value,
    /// The word counts only where this condition has that value.
    pub(crate) only_if: Option<(Value, bool)>,
    /// The value is subtracted.
    pub(crate) negated: bool,
}

/// How a state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StateForm {
    /// It never changes.
    Constant,
    /// Partial results in lanes, combined at the end.
    Reduction(Reduce, Vec<Addend>),
    /// A CRC of the bytes of a value.
    Crc(Crc, Value),
    /// A linear recurrence, alone or together with others: the first of them has the system and what a word
    /// adds to each.
    Linear(LinearSystem, Vec<Value>),
    /// Sums, sums of those and so on: the first state has the system and the value that a word adds to all.
    IteratedSums(LinearSystem, Value),
    /// With the next state a number in GF(2^128): `state * factor + value`, for a factor that is held by two
    /// states, of which the first has the lower half.
    Field(StateId, Value),
    /// Part of the [`StateForm::Linear`], [`StateForm::IteratedSums`] or [`StateForm::Field`] of an earlier
    /// state, or of a [`StateForm::Lagged`].
    Member,
    /// The sum of a value's numbers modulo a constant (0: two to the type's width), or with the carry around
    /// the end; the value is no wider than the word, and the sum of the sums may be kept by another state.
    Sum { modulus: u64, end_around: bool, word: Value, second: Option<Second> },
    /// Part of that state's [`StateForm::Sum`].
    SumOfSums,
    /// The value that the previous word computed.
    Delay(Value),
    /// It depends only on itself.
    Induction(Step),
    /// A running reduction, of which the body reads every step.
    Scan(Running),
    /// Running reductions that take turns: this state and the others, which have the results of the words
    /// before.
    Lagged(Running, Vec<usize>),
}

impl StateForm {
    /// Whether it is no [`StateForm::Sum`], or one of whole words, modulo a number of 32 bits at most.
    pub(super) fn is_of_words(&self, pipe: &Pipe) -> bool {
        let StateForm::Sum { modulus, word, .. } = self else { return true };
        pipe.body.ty(*word) == pipe.input.ty && pipe.input.ty != Ty::U64 && *modulus < 1 << 32
    }

    /// Whether it matters where in the stream a word is.
    pub(crate) const fn is_ordered(&self) -> bool {
        !matches!(
            self,
            StateForm::Constant | StateForm::Reduction(..) | StateForm::Member | StateForm::SumOfSums
        )
    }

    /// Whether an unrolled loop may be entered at any copy: it does not matter which copy a vector meets, or
    /// what is imported is corrected for those that are skipped.
    pub(crate) const fn enters_anywhere(&self) -> bool {
        match self {
            StateForm::Linear(system, _) => system.has_inverse(),
            StateForm::Field(..) => false,
            _ => true,
        }
    }
}

/// A linear recurrence of one state or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinearSystem {
    /// 0 for two to the power of the type's width.
    pub(crate) modulus: u64,
    /// Row after row.
    pub(crate) matrix: Vec<u64>,
    /// What each value that a word adds is no more than, one a state.
    pub(crate) most: Vec<u64>,
    /// The states, by their indices in the stage.
    pub(crate) states: Vec<usize>,
    /// How a word's halves are what is added to two states.
    pub(crate) halves: Option<Halves>,
}

impl LinearSystem {
    /// Whether it is a single factor that has an inverse modulo two to the type's width.
    pub(crate) const fn has_inverse(&self) -> bool {
        self.modulus == 0 && self.states.len() == 1 && self.matrix.as_slice()[0] & 1 == 1
    }
}

/// What gives 1 times an odd number, modulo 2^64.
pub(crate) fn inverse(odd: u64) -> u64 {
    // Each step doubles the number of bits that are right; of an odd number by itself three are.
    (0..5).fold(odd, |near, _| near.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(near))))
}

/// Moduli of systems are less than this.
pub(crate) const MAX_MODULUS: u64 = 1 << 31;

/// Numbers of a modulus are no more than this, in lanes of 64 bits.
pub(crate) const MAX_NUMBER: u64 = u32::MAX as u64;

/// A sum of sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Second {
    /// The state.
    pub(crate) state: StateId,
    /// Whether it has each word's sum with the word itself, or as it was before.
    pub(crate) includes_word: bool,
}

/// Bound of the search for a narrower form.
pub(crate) const NARROW_DEPTH: u32 = 8;

/// Whether there is a value of type `ty` with the same number where that is plain: zero extensions, small
/// literals, and choices between such.
fn is_narrow(body: &Block, value: Value, ty: Ty, depth: u32) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let inst = body.inst(value);
    let within = |value: Value| is_narrow(body, value, ty, depth);
    inst.ty.bits() <= ty.bits()
        || match inst.op {
            Op::Convert(ConvertOp::Zext, x) => within(x),
            Op::Const(c) => c <= ty.mask(),
            Op::Select { then, otherwise, .. } => within(then) && within(otherwise),
            _ => false,
        }
}

/// What is known of a stage when the forms of its states are chosen.
pub(super) struct Chooser<'a> {
    pub(super) pipe: &'a Pipe,
    pub(super) classes: &'a [StateFacts],
    pub(super) constants: &'a [Option<u64>],
    /// For each value, the states that change and that it depends on.
    pub(super) depends: &'a [u64],
    /// For each state, its step if it depends only on itself.
    pub(super) induction: &'a [Option<Step>],
    /// The states whose values at each word can be computed one after the other.
    pub(super) ordered: u64,
}

impl Chooser<'_> {
    /// The form of a state, if there is one.
    pub(super) fn form(&self, state: StateId) -> Option<StateForm> {
        let pipe = self.pipe;
        let ty = pipe.states[state.0 as usize].ty;
        match &self.classes[state.0 as usize].class {
            Class::Invariant => Some(StateForm::Constant),
            Class::Reduction { op, operand } => {
                let sum = matches!(op, Reduce::Addmod(_)).then(|| self.sum(*op, ty, *operand, None));
                let partial = || StateForm::Reduction(*op, self.addends(*op, ty, *operand));
                Some(sum.flatten().unwrap_or_else(partial))
            }
            Class::Linear(Linear::Crc { crc, operand }) => Some(StateForm::Crc(*crc, *operand)),
            Class::Linear(Linear::Affine { modulus, factor, operand }) => {
                let matrix = vec![*factor];
                self.system(*modulus, matrix, vec![state.0 as usize], vec![*operand])
            }
            Class::Linear(Linear::System { states, .. }) if states[0] != state => Some(StateForm::Member),
            Class::Linear(Linear::System { modulus, states, matrix, .. }) => {
                let operand = |state: &StateId| match &self.classes[state.0 as usize].class {
                    Class::Linear(Linear::System { operand, .. }) => Some(*operand),
                    _ => None,
                };
                let operands = states.iter().map(operand).collect::<Option<Vec<Value>>>()?;
                let states = states.iter().map(|state| state.0 as usize).collect();
                self.system(*modulus, matrix.to_vec(), states, operands)
            }
            Class::Linear(Linear::Field { states, .. }) if states[0] != state => Some(StateForm::Member),
            Class::Linear(Linear::Field { states, factor, operand }) => {
                let in_rows = |pair: &[StateId; 2]| pair[0].0 + 1 == pair[1].0;
                let fits = in_rows(states) && in_rows(factor) && pipe.input.ty == Ty::U128;
                fits.then_some(StateForm::Field(factor[0], *operand))
            }
            Class::Linear(Linear::SumOfSums { of, .. }) => {
                (self.summed_by(*of)?.state == state).then_some(StateForm::SumOfSums)
            }
            Class::Positional if self.induction[state.0 as usize].is_some() => {
                self.induction[state.0 as usize].clone().map(StateForm::Induction)
            }
            // Known from the words before.
            Class::Delay { .. } | Class::Positional => {
                self.is_ordered(state).then_some(StateForm::Delay(pipe.next[state.0 as usize]))
            }
            Class::Scan { op, operand } => match (op, self.summed_by(state)) {
                (op, Some(second)) => self.sum(*op, ty, *operand, Some(second)),
                (op, _) if self.is_ordered(state) => Some(StateForm::Scan(Running::of(*op, ty, *operand)?)),
                _ => None,
            },
            Class::Lagged { states, .. } if states[0] != state => Some(StateForm::Member),
            Class::Lagged { op, operand, states } => {
                let running = Running::of(*op, ty, *operand)?;
                let all = states.iter().all(|state| self.is_ordered(*state));
                let states = states.iter().map(|state| state.0 as usize).collect();
                all.then_some(StateForm::Lagged(running, states))
            }
            Class::Linear(_) | Class::Serial { .. } => None,
        }
    }

    const fn is_ordered(&self, state: StateId) -> bool {
        self.ordered >> state.0 & 1 == 1
    }

    /// A system, if numbers of its modulus have a form in lanes.
    fn system(
        &self,
        modulus: u64,
        matrix: Vec<u64>,
        states: Vec<usize>,
        operands: Vec<Value>,
    ) -> Option<StateForm> {
        let mut most = vec![u64::MAX; states.len()];
        if modulus != 0 {
            let pipe = self.pipe;
            let all: Vec<u64> = pipe.states.iter().map(|state| state.ty.mask()).collect();
            let bounds = bounds::most(&pipe.body, &pipe.tables, &all);
            most = operands.iter().map(|operand| bounds[operand.0 as usize]).collect();
        }
        let fits = modulus < MAX_MODULUS && most.iter().all(|most| *most <= MAX_NUMBER);
        let mut system = LinearSystem { modulus, matrix, most, states, halves: None };
        system.halves = Halves::of(self.pipe, &system, &operands);
        if let Some(operand) = sums::operand(self.pipe, &system, &operands) {
            return Some(StateForm::IteratedSums(system, operand));
        }
        (modulus == 0 || fits).then_some(StateForm::Linear(system, operands))
    }

    /// The sum of the words' numbers by an addition; they have to be of the word's type.
    fn sum(&self, op: Reduce, ty: Ty, operand: Value, second: Option<Second>) -> Option<StateForm> {
        let pipe = self.pipe;
        let (modulus, end_around) = match op {
            Reduce::Add => (0, false),
            Reduce::Addmod(modulus) => (modulus, false),
            Reduce::Addc => (ty.mask(), true),
            _ => return None,
        };
        let word = match pipe.body.inst(operand).op {
            Op::Convert(ConvertOp::Zext, narrow) => narrow,
            _ => operand,
        };
        let narrow = is_narrow(&pipe.body, word, pipe.input.ty, NARROW_DEPTH);
        let form = StateForm::Sum { modulus, end_around, word, second };
        // Without a sum of sums any number has a form, as what a reduction adds.
        let fits = second.is_some() || self.constants[word.0 as usize].is_none() && form.is_of_words(pipe);
        (narrow && fits).then_some(form)
    }

    /// The state that sums `of` up after each word, or before, if that is all that looks at `of`.
    fn summed_by(&self, of: StateId) -> Option<Second> {
        let pipe = self.pipe;
        let Class::Scan { op, .. } = self.classes[of.0 as usize].class else { return None };
        let sums = |class: &Class| match class {
            Class::Linear(Linear::SumOfSums { op: by, of: sum, includes_word })
                if *by == op && *sum == of =>
            {
                Some(*includes_word)
            }
            _ => None,
        };
        let (second, includes_word) =
            self.classes.iter().enumerate().find_map(|(at, facts)| Some((at, sums(&facts.class)?)))?;
        // Modulo a constant, a number is the same in every width.
        let same_type = pipe.states[second].ty == pipe.states[of.0 as usize].ty;
        let fits = same_type || matches!(op, Reduce::Addmod(_));
        let bit = 1 << of.0;
        let others = (0..pipe.next.len()).filter(|other| *other != second && *other != of.0 as usize);
        let mut looks = others.map(|other| pipe.next[other]).chain(pipe.out);
        let alone = looks.all(|value| self.depends[value.0 as usize] & bit == 0);
        (fits && alone).then_some(Second { state: StateId(second as u32), includes_word })
    }

    /// What a word adds, in the form that is cheapest to add.
    fn addends(&self, fold: Reduce, ty: Ty, operand: Value) -> Vec<Addend> {
        let body = &self.pipe.body;
        let mut leaves = vec![operand];
        // Narrow numbers are summed without widening them, so each gets a sum of its own.
        let addition = match fold {
            Reduce::Add => Some(BinaryOp::Add),
            Reduce::Adds => Some(BinaryOp::Adds),
            _ => None,
        };
        if let Some(addition) = addition.filter(|_| ty.bits() > self.pipe.input.ty.bits()) {
            let mut at = 0;
            while at < leaves.len() && leaves.len() < MAX_ADDENDS {
                match body.inst(leaves[at]).op {
                    Op::Binary(op, a, b) if op == addition => {
                        leaves[at] = a;
                        leaves.push(b);
                    }
                    _ => at += 1,
                }
            }
        }
        let neutral = fold.identity(ty);
        let addend = |value: Value| {
            let is_neutral = |value: Value| self.constants[value.0 as usize] == Some(neutral);
            let (value, only_if) = match body.inst(value).op {
                Op::Select { cond, then, otherwise } if is_neutral(otherwise) => (then, Some((cond, true))),
                Op::Select { cond, then, otherwise } if is_neutral(then) => (otherwise, Some((cond, false))),
                _ => (value, None),
            };
            match body.inst(value).op {
                Op::Unary(UnaryOp::Neg, value) if fold == Reduce::Add => {
                    Addend { value, only_if, negated: true }
                }
                _ => Addend { value, only_if, negated: false },
            }
        };
        leaves.into_iter().map(addend).collect()
    }
}

/// Most values that a word adds to one sum, each by itself.
const MAX_ADDENDS: usize = 8;
