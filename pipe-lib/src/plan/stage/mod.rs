//! A stage as a loop over vectors has it: how each of its states is kept, which of its values are constants
//! or patterns, and what of a [`Target`](crate::plan::target::Target) all that takes.
//!
//! What a state is has been proved in [`crate::analyse`]; this is about what comes of it in lanes, and says
//! why nothing does where nothing does.

mod demand;
mod form;
mod halves;
mod period;
mod sums;

use crate::analyse::{Analysed, Class, StateFacts, bounds};
use crate::ir::{Op, Pipe, StateId, Ty, Value, WideBinary};
use crate::plan::induction::Step;
use crate::plan::target::{LaneOps, Target};
pub(crate) use demand::{MAX_BYTE_ENTRIES, MAX_MULTIPLES, MAX_SUBTRACTIONS, MAX_SYSTEM, MAX_WIDE_ENTRIES};
use form::Chooser;
pub(crate) use form::{Addend, LinearSystem, MAX_NUMBER, NARROW_DEPTH, Running, Second, StateForm, inverse};
pub(crate) use halves::Halves;
pub(crate) use period::MAX_COMMON_PERIOD;
use period::periods;
pub(crate) use period::{OffsetBits, constants_of, offset_bits};
use std::sync::{Arc, OnceLock};
pub(crate) use sums::narrow;

/// A stage before its code is made.
#[derive(Clone, Debug)]
pub(crate) struct VectorStage {
    /// The pipe in normal form.
    pub(crate) pipe: Arc<Pipe>,
    /// For each state, how it is kept.
    pub(crate) forms: Vec<StateForm>,
    /// The states that pass from word to word, each after those that it is computed from.
    pub(crate) order: Vec<usize>,
    /// For each value of the body: its number, if it is the same for every word of every stream.
    pub(crate) constants: Vec<Option<u64>>,
    /// For each value of the body: how big it gets; found when it is asked for.
    most: OnceLock<Vec<u64>>,
    /// For each value of the body: whether the vector code needs it.
    pub(crate) needed: Vec<bool>,
    /// For each value of the body: whether it depends on a state that changes.
    pub(crate) late: Vec<bool>,
    /// For each value of the body: the bytes after which it repeats itself, if it depends on nothing but the
    /// offset in the stream; a power of two, at most 32 (256 with [`LaneOps::Common`]).
    pub(crate) periods: Vec<Option<usize>>,
}

impl VectorStage {
    /// The stage in vectors with such operations. The error is a phrase: what stands in the way.
    pub(crate) fn of(stage: &Analysed, lanes: LaneOps) -> Result<VectorStage, String> {
        let pipe = stage.normal();
        let classes = &stage.facts().states;
        let body = &pipe.body;
        let constants = constants_of(body, &pipe.tables, None, None);
        if pipe.states.len() > 64 {
            return Err("more than 64 states in one stage".into());
        }
        let induction = |(index, facts): (usize, &StateFacts)| {
            let class = &facts.class;
            let (id, next) = (StateId(index as u32), pipe.next[index]);
            let after = |old| constants_of(body, &pipe.tables, None, Some((id, old)))[next.0 as usize];
            (*class == Class::Positional).then(|| Step::of(pipe, &constants, id, after)).flatten()
        };
        let induction: Vec<Option<Step>> = classes.iter().enumerate().map(induction).collect();
        // The states that change and that a value depends on, but for those that are known before the word.
        let mut depends = vec![0u64; body.insts.len()];
        for (value, inst) in body.iter() {
            depends[value.0 as usize] = match inst.op {
                Op::State(state) if classes[state.0 as usize].class == Class::Invariant => 0,
                Op::State(state) if induction[state.0 as usize].is_some() => 0,
                Op::State(state) => 1 << state.0,
                op => op.operands().fold(0, |set, operand| set | depends[operand.0 as usize]),
            };
        }
        // Those whose value at each word the body reads, each after those that it is computed from.
        let root = |(index, facts): (usize, &StateFacts)| match &facts.class {
            Class::Delay { .. } => Some(pipe.next[index]),
            Class::Positional if induction[index].is_none() => Some(pipe.next[index]),
            Class::Scan { operand, .. } | Class::Lagged { operand, .. } => Some(*operand),
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
        let chooser = Chooser {
            pipe,
            classes,
            constants: &constants,
            depends: &depends,
            induction: &induction,
            ordered,
        };
        let mut forms = Vec::with_capacity(pipe.states.len());
        for (index, StateFacts { class, .. }) in classes.iter().enumerate() {
            forms.push(chooser.form(StateId(index as u32)).ok_or_else(|| {
                format!("state `{}` of pipe `{}` is {class}", pipe.states[index].name, pipe.name)
            })?);
        }
        let roots = forms.iter().flat_map(|form| match form {
            StateForm::Constant | StateForm::SumOfSums | StateForm::Member | StateForm::Induction(_) => {
                Vec::new()
            }
            StateForm::Linear(_, values) => values.clone(),
            StateForm::Reduction(_, addends) => addends
                .iter()
                .flat_map(|addend| [Some(addend.value), addend.only_if.map(|(cond, _)| cond)])
                .flatten()
                .collect(),
            StateForm::Crc(_, value)
            | StateForm::Field(_, value)
            | StateForm::Delay(value)
            | StateForm::Scan(Running { operand: value, .. })
            | StateForm::Lagged(Running { operand: value, .. }, _)
            | StateForm::IteratedSums(_, value)
            | StateForm::Sum { word: value, .. } => vec![*value],
        });
        let periods = periods(pipe, &constants, lanes);
        let given: Vec<Value> = pipe
            .next
            .iter()
            .zip(&forms)
            .filter(|(_, form)| matches!(form, StateForm::Scan(..) | StateForm::Lagged(..)))
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
        let pipe = Arc::clone(stage.shared_normal());
        Ok(VectorStage { pipe, forms, order, constants, most: OnceLock::new(), needed, late, periods })
    }

    /// The value for each of `count` words from the start of a period.
    pub(crate) fn pattern(&self, value: Value, count: usize) -> Vec<u64> {
        let word = self.pipe.word_bytes();
        let period = self.periods[value.0 as usize].unwrap_or(word);
        let once: Vec<u64> = (0..period / word)
            .map(|index| {
                let pos = Some((index * word) as u64);
                constants_of(&self.pipe.body, &self.pipe.tables, pos, None)[value.0 as usize].unwrap_or(0)
            })
            .collect();
        once.iter().copied().cycle().take(count).collect()
    }

    /// How big a value of the body gets.
    pub(crate) fn most(&self, value: Value) -> u64 {
        let pipe = &self.pipe;
        let all = || pipe.states.iter().map(|state| state.ty.mask()).collect::<Vec<u64>>();
        let most = self.most.get_or_init(|| bounds::most(&pipe.body, &pipe.tables, &all()));
        most[value.0 as usize]
    }

    /// The step of a state that depends on itself alone, if it is a product, a sum or a rotation.
    pub(crate) fn short_step(&self, state: usize) -> Option<&Step> {
        match &self.forms[state] {
            StateForm::Induction(step @ (Step::Affine { .. } | Step::Rotate { .. })) => Some(step),
            _ => None,
        }
    }

    /// Whether a state is the same from the second word on.
    pub(crate) fn settles(&self, state: usize) -> bool {
        let next = self.pipe.next[state];
        !self.pipe.body.depends_on(next, StateId(state as u32))
    }

    /// Whether the code keeps values in registers that it needs for each vector: patterns, and numbers of 128
    /// bits that never change, for which only the larger register files have room.
    pub(crate) fn keeps_patterns(&self, target: &Target) -> bool {
        let pipe = &self.pipe;
        let state = |value: Value| match pipe.body.inst(value).op {
            Op::State(state) if self.forms[state.0 as usize] == StateForm::Constant => Some(state.0),
            _ => None,
        };
        let held = |op: Op| match op {
            Op::WideBinary(WideBinary::Pair, high, low) if target.masks && pipe.input.ty == Ty::U128 => {
                state(low).is_some_and(|low| state(high) == Some(low + 1))
            }
            _ => false,
        };
        pipe.body.iter().any(|(value, inst)| {
            let index = value.0 as usize;
            self.needed[index] && (self.periods[index].is_some() || held(inst.op))
        })
    }

    /// Whether the code needs the offset in the stream.
    pub(crate) fn reads_pos(&self) -> bool {
        let needed = |value: Value| self.needed[value.0 as usize] && self.periods[value.0 as usize].is_none();
        self.pipe.body.iter().any(|(value, inst)| inst.op == Op::Pos && needed(value))
    }
}
