//! How each state of a stage is kept in a loop over vectors: from its class to registers.
//!
//! What a state is has been proved in [`crate::analyse`]; this is only about what the code can do with it, and says why it
//! cannot where it cannot.

use super::carry::induction::Step;
use super::carry::iterated_sums;
use super::carry::linear::{self, System};
use super::carry::sums::Second;
use crate::analyse::gf2::Crc;
use crate::analyse::{Analysed, Class, Linear, Reduce, StateFacts, bounds};
use crate::ir::{BinaryOp, ConvertOp, Op, Pipe, StateId, Ty, UnaryOp, Value, eval};
use std::cell::OnceCell;

/// An associative and commutative operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Add,
    Addc,
    Xor,
    And,
    Or,
    Min,
    Max,
    Smin,
    Smax,
}

impl Fold {
    fn of(op: Reduce) -> Option<Fold> {
        Some(match op {
            Reduce::Add => Fold::Add,
            Reduce::Addc => Fold::Addc,
            Reduce::Xor => Fold::Xor,
            Reduce::And => Fold::And,
            Reduce::Or => Fold::Or,
            Reduce::Min => Fold::Min,
            Reduce::Max => Fold::Max,
            Reduce::Smin => Fold::Smin,
            Reduce::Smax => Fold::Smax,
            Reduce::Addmod(_) | Reduce::Addsat(_) => return None,
        })
    }
}

/// What one word adds to a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addend {
    pub(super) value: Value,
    /// The word counts only where this condition has that value.
    pub(super) only_if: Option<(Value, bool)>,
    /// The value is subtracted.
    pub(super) negated: bool,
}

/// How a state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keeping {
    /// It never changes.
    Constant,
    /// Partial results in lanes, combined at the end.
    Reduction(Fold, Vec<Addend>),
    /// A CRC of the bytes of a value.
    Crc(Crc, Value),
    /// A linear recurrence, alone or together with others: the first of them has the system and what a word adds to each.
    Linear(System, Vec<Value>),
    /// Sums, sums of those and so on: the first state has the system and the value that a word adds to all.
    IteratedSums(System, Value),
    /// Part of the [`Keeping::Linear`] or [`Keeping::IteratedSums`] of an earlier state.
    Member,
    /// The sum of a value's numbers modulo a constant (0: two to the type's width), or with the carry around the end; the
    /// value has the word's type, and the sum of the sums may be kept by another state.
    Sum { modulus: u64, end_around: bool, word: Value, second: Option<Second> },
    /// Part of that state's [`Keeping::Sum`].
    SumOfSums,
    /// The value that the previous word computed.
    Delay(Value),
    /// It depends only on itself.
    Induction(Step),
    /// A running reduction, of which the body reads every step: the contribution of a word, which goes
    /// by no states but those carried before this one.
    Scan(Fold, Value),
}

/// What is known of a pipe before its code is made.
pub(super) struct Study<'a> {
    pub(super) pipe: &'a Pipe,
    /// For each state, how it is kept.
    pub(super) keeping: Vec<Keeping>,
    /// The states that pass from word to word, each after those that it is computed from.
    pub(super) order: Vec<usize>,
    /// For each value of the body: its number, if it is the same for every word of every stream.
    pub(super) constants: Vec<Option<u64>>,
    /// For each value of the body: how big it gets; found when it is asked for.
    pub(super) most: OnceCell<Vec<u64>>,
    /// For each value of the body: whether the vector code needs it.
    pub(super) needed: Vec<bool>,
    /// For each value of the body: whether it depends on a state that changes.
    pub(super) late: Vec<bool>,
    /// For each value of the body: the bytes after which it repeats itself, if it depends on nothing but the offset in the
    /// stream; a power of two, no more than [`MAX_PERIOD`].
    pub(super) periods: Vec<Option<usize>>,
}

/// Positional values with a longer period are computed from the offset.
const MAX_PERIOD: usize = 32;

impl<'a> Study<'a> {
    /// Studies a stage. The error is a phrase: what stands in the way.
    pub(super) fn of(stage: &'a Analysed) -> Result<Study<'a>, String> {
        let pipe = stage.normal();
        let classes = &stage.facts().states;
        let body = &pipe.body;
        let constants = fold_constants(pipe, None, None);
        if pipe.states.len() > 64 {
            return Err("more than 64 states in one stage".into());
        }
        let induction = |(index, facts): (usize, &StateFacts)| {
            let class = &facts.class;
            let (id, next) = (StateId(index as u32), pipe.next[index]);
            let after = |old| fold_constants(pipe, None, Some((id, old)))[next.0 as usize];
            (*class == Class::Positional).then(|| Step::of(pipe, &constants, id, after)).flatten()
        };
        let induction: Vec<Option<Step>> = classes.iter().enumerate().map(induction).collect();
        // The states that change and that a value depends on, but for those that are known before the word.
        let mut depends = vec![0u64; body.insts.len()];
        for (value, inst) in body.iter() {
            depends[value.0 as usize] = match inst.op {
                Op::State(state) if classes[state.0 as usize].class == Class::Held => 0,
                Op::State(state) if induction[state.0 as usize].is_some() => 0,
                Op::State(state) => 1 << state.0,
                op => op.operands().fold(0, |set, operand| set | depends[operand.0 as usize]),
            };
        }
        // Those whose value at each word the body reads, each after those that it is computed from.
        let root = |(index, facts): (usize, &StateFacts)| match &facts.class {
            Class::Delay { .. } => Some(pipe.next[index]),
            Class::Positional if induction[index].is_none() => Some(pipe.next[index]),
            Class::Scan { operand, .. } => Some(*operand),
            _ => None,
        };
        let roots: Vec<Option<Value>> = classes.iter().enumerate().map(root).collect();
        let (mut ordered, mut order) = (0u64, Vec::new());
        loop {
            let next = roots.iter().enumerate().position(|(index, root)| {
                let known = root.is_some_and(|root| depends[root.0 as usize] & !ordered == 0);
                known && ordered >> index & 1 == 0
            });
            let Some(next) = next else { break };
            ordered |= 1 << next;
            order.push(next);
        }
        let view =
            View { pipe, classes, constants: &constants, depends: &depends, induction: &induction, ordered };
        let mut keeping = Vec::with_capacity(pipe.states.len());
        for (index, StateFacts { class, .. }) in classes.iter().enumerate() {
            keeping.push(view.keeping(StateId(index as u32)).ok_or_else(|| {
                format!("state `{}` of pipe `{}` is {class}", pipe.states[index].name, pipe.name)
            })?);
        }
        let roots = keeping.iter().flat_map(|keeping| match keeping {
            Keeping::Constant | Keeping::SumOfSums | Keeping::Member | Keeping::Induction(_) => Vec::new(),
            Keeping::Linear(_, values) => values.clone(),
            Keeping::Reduction(_, addends) => addends
                .iter()
                .flat_map(|addend| [Some(addend.value), addend.only_if.map(|(cond, _)| cond)])
                .flatten()
                .collect(),
            Keeping::Crc(_, value)
            | Keeping::Delay(value)
            | Keeping::Scan(_, value)
            | Keeping::IteratedSums(_, value)
            | Keeping::Sum { word: value, .. } => vec![*value],
        });
        let periods = periods(pipe, &constants);
        let given: Vec<Value> = pipe
            .next
            .iter()
            .zip(&keeping)
            .filter(|(_, k)| matches!(k, Keeping::Scan(..)))
            .map(|(next, _)| *next)
            .collect();
        let mut needed = vec![false; body.insts.len()];
        roots.chain(pipe.out).for_each(|root| needed[root.0 as usize] = true);
        for (index, inst) in body.insts.iter().enumerate().rev() {
            // What is loaded ready-made needs no operands.
            if needed[index] && periods[index].is_none() && !given.contains(&Value(index as u32)) {
                inst.op.operands().for_each(|operand| needed[operand.0 as usize] = true);
            }
        }
        let late = depends.iter().map(|set| *set != 0).collect();
        Ok(Study { pipe, keeping, order, constants, most: OnceCell::new(), needed, late, periods })
    }

    /// The value for each of `count` words from the start of a period.
    pub(super) fn pattern(&self, value: Value, count: usize) -> Vec<u64> {
        let word = self.pipe.word_bytes();
        let period = self.periods[value.0 as usize].unwrap_or(word);
        let once: Vec<u64> = (0..period / word)
            .map(|index| {
                let pos = Some((index * word) as u64);
                fold_constants(self.pipe, pos, None)[value.0 as usize].unwrap_or(0)
            })
            .collect();
        once.iter().copied().cycle().take(count).collect()
    }

    /// Whether the code needs the offset in the stream.
    pub(super) fn reads_pos(&self) -> bool {
        let needed = |value: Value| self.needed[value.0 as usize] && self.periods[value.0 as usize].is_none();
        self.pipe.body.iter().any(|(value, inst)| inst.op == Op::Pos && needed(value))
    }
}

/// The values that depend on the low bits of the offset alone.
fn periods(pipe: &Pipe, constants: &[Option<u64>]) -> Vec<Option<usize>> {
    /// What is known of a value that depends on the offset only.
    #[derive(Clone, Copy)]
    struct Low {
        /// Bit `i` depends on no bit of the offset above `i`.
        carries_up: bool,
        /// Number of low bits of the offset that decide the value.
        bits: u32,
    }
    let body = &pipe.body;
    let mut known: Vec<Option<Low>> = Vec::with_capacity(body.insts.len());
    for (value, inst) in body.iter() {
        if constants[value.0 as usize].is_some() {
            known.push(Some(Low { carries_up: true, bits: 0 }));
            continue;
        }
        let operands: Option<Vec<Low>> =
            inst.op.operands().map(|operand| known[operand.0 as usize]).collect();
        let low = match (inst.op, operands) {
            (Op::In | Op::State(_) | Op::Param(_), _) | (_, None) => None,
            (Op::Pos, _) => Some(Low { carries_up: true, bits: 64 }),
            (op, Some(operands)) => {
                let bits = operands.iter().map(|low| low.bits).max().unwrap_or(0);
                let all_up = operands.iter().all(|low| low.carries_up);
                let carries_up = all_up
                    && match op {
                        Op::Binary(BinaryOp::Shl, _, count) => constants[count.0 as usize].is_some(),
                        Op::Unary(UnaryOp::Not | UnaryOp::Neg, _)
                        | Op::Convert(ConvertOp::Zext | ConvertOp::Trunc, _) => true,
                        Op::Binary(op, ..) => matches!(
                            op,
                            BinaryOp::Add
                                | BinaryOp::Sub
                                | BinaryOp::Mul
                                | BinaryOp::And
                                | BinaryOp::Or
                                | BinaryOp::Xor
                        ),
                        _ => false,
                    };
                // Nothing above the top bit that is kept matters.
                let kept = match op {
                    Op::Binary(BinaryOp::And, a, b) => [a, b]
                        .iter()
                        .filter_map(|operand| constants[operand.0 as usize])
                        .map(|mask| 64 - mask.leading_zeros())
                        .min()
                        .unwrap_or(64),
                    _ => inst.ty.bits(),
                };
                Some(Low { carries_up, bits: if carries_up { bits.min(kept) } else { bits } })
            }
        };
        known.push(low);
    }
    let of = |(index, low): (usize, &Option<Low>)| {
        let low = (*low)?;
        let usable = constants[index].is_none() && low.bits <= MAX_PERIOD.trailing_zeros();
        usable.then(|| (1usize << low.bits).max(pipe.word_bytes()))
    };
    known.iter().enumerate().map(of).collect()
}

/// The values that are constants, computed; with an offset in the stream or the number in a state, also those that depend
/// on nothing else.
fn fold_constants(pipe: &Pipe, pos: Option<u64>, known_state: Option<(StateId, u64)>) -> Vec<Option<u64>> {
    let body = &pipe.body;
    let mut known: Vec<Option<u64>> = Vec::with_capacity(body.insts.len());
    for inst in &body.insts {
        let get = |value: Value| known[value.0 as usize];
        let folded = match inst.op {
            Op::Const(number) => Some(number),
            Op::State(state) => known_state.filter(|(known, _)| *known == state).map(|(_, number)| number),
            Op::In | Op::Param(_) => None,
            Op::Pos => pos,
            Op::Unary(op, a) => get(a).map(|a| eval::unary(op, inst.ty, a)),
            Op::Binary(op, a, b) => get(a).zip(get(b)).map(|(a, b)| eval::binary(op, inst.ty, a, b)),
            Op::Compare(op, a, b) => get(a).zip(get(b)).map(|(x, y)| eval::compare(op, body.ty(a), x, y)),
            Op::Select { cond, then, otherwise } => {
                get(cond).and_then(|cond| get(if cond != 0 { then } else { otherwise }))
            }
            Op::Modular(op, a, b, m) => {
                get(a).zip(get(b)).zip(get(m)).map(|((a, b), m)| eval::modular(op, inst.ty, a, b, m))
            }
            Op::Convert(op, a) => get(a).map(|x| eval::convert(op, body.ty(a), inst.ty, x)),
            Op::Lookup(table, index) => get(index).map(|index| {
                let values = &pipe.tables[table.0 as usize].values;
                values[(index % values.len() as u64) as usize]
            }),
            Op::Crc(op, acc, x) => get(acc).zip(get(x)).map(|(acc, v)| eval::crc(op, body.ty(x), acc, v)),
        };
        known.push(folded);
    }
    known
}

struct View<'a> {
    pipe: &'a Pipe,
    classes: &'a [StateFacts],
    constants: &'a [Option<u64>],
    /// For each value, the states that change and that it depends on.
    depends: &'a [u64],
    /// For each state, its step if it follows from itself alone.
    induction: &'a [Option<Step>],
    /// The states whose values at each word can be computed one after the other.
    ordered: u64,
}

impl View<'_> {
    fn keeping(&self, state: StateId) -> Option<Keeping> {
        let pipe = self.pipe;
        let ty = pipe.states[state.0 as usize].ty;
        match &self.classes[state.0 as usize].class {
            Class::Held => Some(Keeping::Constant),
            Class::Reduction { op: op @ Reduce::Addmod(_), operand } => self.sum(*op, ty, *operand, None),
            Class::Reduction { op, operand } => {
                let fold = Fold::of(*op)?;
                Some(Keeping::Reduction(fold, self.addends(fold, ty, *operand)))
            }
            Class::Linear(Linear::Crc { crc, operand }) => Some(Keeping::Crc(*crc, *operand)),
            Class::Linear(Linear::Affine { modulus, factor, operand }) => {
                let matrix = vec![*factor];
                self.system(*modulus, matrix, vec![state.0 as usize], vec![*operand])
            }
            Class::Linear(Linear::System { states, .. }) if states[0] != state => Some(Keeping::Member),
            Class::Linear(Linear::System { modulus, states, matrix, .. }) => {
                let operand = |state: &StateId| match &self.classes[state.0 as usize].class {
                    Class::Linear(Linear::System { operand, .. }) => Some(*operand),
                    _ => None,
                };
                let operands = states.iter().map(operand).collect::<Option<Vec<Value>>>()?;
                let states = states.iter().map(|state| state.0 as usize).collect();
                self.system(*modulus, matrix.to_vec(), states, operands)
            }
            Class::Linear(Linear::SumOfSums { of, .. }) => {
                (self.summed_by(*of)?.state == state).then_some(Keeping::SumOfSums)
            }
            Class::Positional if self.induction[state.0 as usize].is_some() => {
                self.induction[state.0 as usize].clone().map(Keeping::Induction)
            }
            // Known from the words before.
            Class::Delay { .. } | Class::Positional => {
                self.is_ordered(state).then_some(Keeping::Delay(pipe.next[state.0 as usize]))
            }
            Class::Scan { op, operand } => match (op, self.summed_by(state)) {
                (op, Some(second)) => self.sum(*op, ty, *operand, Some(second)),
                (op, _) if ty == pipe.input.ty && *op != Reduce::Addc && self.is_ordered(state) => {
                    Some(Keeping::Scan(Fold::of(*op)?, *operand))
                }
                _ => None,
            },
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
    ) -> Option<Keeping> {
        let mut most = vec![u64::MAX; states.len()];
        if modulus != 0 {
            let pipe = self.pipe;
            let all: Vec<u64> = pipe.states.iter().map(|state| state.ty.mask()).collect();
            let bounds = bounds::most(&pipe.body, &pipe.tables, &all);
            most = operands.iter().map(|operand| bounds[operand.0 as usize]).collect();
        }
        let fits = modulus < linear::MAX_MODULUS && most.iter().all(|most| *most <= linear::MAX_NUMBER);
        let system = System { modulus, matrix, most, states };
        if let Some(operand) = iterated_sums::operand(self.pipe, &system, &operands) {
            return Some(Keeping::IteratedSums(system, operand));
        }
        (modulus == 0 || fits).then_some(Keeping::Linear(system, operands))
    }

    /// The sum of the words' numbers by an addition; they have to be of the word's type.
    fn sum(&self, op: Reduce, ty: Ty, operand: Value, second: Option<Second>) -> Option<Keeping> {
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
        let of_words = self.constants[word.0 as usize].is_none()
            && pipe.body.ty(word) == pipe.input.ty
            && pipe.input.ty != Ty::U64
            && modulus < 1 << 32;
        of_words.then_some(Keeping::Sum { modulus, end_around, word, second })
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
    fn addends(&self, fold: Fold, ty: Ty, operand: Value) -> Vec<Addend> {
        let body = &self.pipe.body;
        let mut leaves = vec![operand];
        // Narrow numbers are summed without widening them, so each gets a sum of its own.
        if fold == Fold::Add && ty.bits() > self.pipe.input.ty.bits() {
            let mut at = 0;
            while at < leaves.len() && leaves.len() < MAX_ADDENDS {
                match body.inst(leaves[at]).op {
                    Op::Binary(BinaryOp::Add, a, b) => {
                        leaves[at] = a;
                        leaves.push(b);
                    }
                    _ => at += 1,
                }
            }
        }
        let neutral = match fold {
            Fold::Add | Fold::Addc | Fold::Xor | Fold::Or | Fold::Max => 0,
            Fold::And | Fold::Min => ty.mask(),
            Fold::Smin => ty.mask() >> 1,
            Fold::Smax => ty.mask() ^ ty.mask() >> 1,
        };
        let addend = |value: Value| {
            let is_neutral = |value: Value| self.constants[value.0 as usize] == Some(neutral);
            let (value, only_if) = match body.inst(value).op {
                Op::Select { cond, then, otherwise } if is_neutral(otherwise) => (then, Some((cond, true))),
                Op::Select { cond, then, otherwise } if is_neutral(then) => (otherwise, Some((cond, false))),
                _ => (value, None),
            };
            match body.inst(value).op {
                Op::Unary(UnaryOp::Neg, value) if fold == Fold::Add => {
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
