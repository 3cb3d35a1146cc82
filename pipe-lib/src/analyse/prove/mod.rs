//! The proof of a state's class, from the dataflow of its new value.
//!
//! [`super::rewrite`] brings the body to a normal form first. Then each state is classified by itself: a
//! chain of one associative operation ([`chain`]), an affine map in a ring ([`ring`]), a linear map over
//! GF(2) ([`bits`]). States that depend on each other are classified together ([`system`]). Last comes who
//! reads whom ([`deps`]): a state whose running value something else reads is a scan at best.
//!
//! All of it is proof: where no rule applies, the state gets no better class. The work is bounded by
//! [`Budget`], which counts instructions visited, not time, so that the answer is the same everywhere.

mod bits;
mod chain;
mod deps;
mod field;
mod lag;
mod ring;
mod system;

use super::bounds;
use super::class::{Class, Linear, PipeFacts, Reduce, StateFacts};
use super::gf2::Crc;
use super::rewrite::{self, Rewriter};
use crate::ir::{BinaryOp, Block, ConvertOp, ModOp, Op, Pipe, StateId, Table, Value};
pub(crate) use bits::map_of;
use chain::{Chain, ChainLink};
use deps::{Deps, autonomous_states, delays, dependences};

/// What the proofs for one pipe may cost, in steps of about a nanosecond.
struct Budget(u32);

impl Budget {
    const PIPE: Budget = Budget(1 << 23);
    /// For classifying one state again.
    const STATE: Budget = Budget(1 << 19);

    /// Takes `steps` off; `None` when there are no more.
    fn spend(&mut self, steps: u32) -> Option<()> {
        self.0 = self.0.checked_sub(steps)?;
        Some(())
    }
}

#[cfg(test)]
thread_local! {
    /// How often this thread analysed a pipe.
    pub(crate) static ANALYSES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Classifies a pipe whose parameters are bound (unbound ones count as constants).
pub fn analyse(pipe: &Pipe) -> PipeFacts {
    let mut facts = prove(pipe);
    if let Some((kind, _, value)) = pipe.digest_states() {
        let why = format!("{}, by another crate", kind.title());
        for state in &mut facts.states[value] {
            state.class = Class::Serial { why: why.clone() };
        }
    }
    facts
}

fn prove(pipe: &Pipe) -> PipeFacts {
    #[cfg(test)]
    ANALYSES.set(ANALYSES.get() + 1);
    let most: &Vec<u64> = &pipe.states.iter().map(|state| state.ty.mask()).collect();
    let (mut rewriter, map) = bounds::normal_form(pipe, most);
    let rename = |value: Value| map[value.0 as usize];
    let next: Vec<Value> = pipe.next.iter().copied().map(rename).collect();
    let out = pipe
        .out
        .map(rename)
        .filter(|out| !(pipe.input == pipe.output && matches!(rewriter.block().inst(*out).op, Op::In)));

    let is_state =
        |block: &Block, value: Value, state: usize| block.inst(value).op == Op::State(StateId(state as u32));
    let held: Vec<bool> = next.iter().enumerate().map(|(s, v)| is_state(rewriter.block(), *v, s)).collect();
    let deps = dependences(rewriter.block(), &held);
    let dep = |value: Value| &deps[value.0 as usize];
    // What the proofs append is computed from values without states, or with those that are resolved.
    let invariant = |value: Value| deps.get(value.0 as usize).is_none_or(Deps::stateless);

    let autonomous = autonomous_states(&next, &deps);
    // Shapes, each state by itself.
    let mut classifier = Classifier {
        tables: bits::TableMaps::new(&pipe.tables),
        pipe_tables: &pipe.tables,
        states: most,
        most: bounds::most(rewriter.block(), &pipe.tables, most),
        rewriter: &mut rewriter,
        budget: Budget::PIPE,
    };
    let mut shapes: Vec<UpdateForm> =
        held.iter().map(|held| if *held { UpdateForm::Invariant } else { UpdateForm::Other }).collect();
    let mut recent: Vec<Option<u32>> = vec![None; next.len()];
    let delays = loop {
        let delays = delays(&next, &deps, recent.clone());
        // States known without all of the words before: what is summed may depend on them.
        let known = |state: usize| autonomous[state] || delays[state].is_some();
        for (state, value) in next.iter().enumerate() {
            if !matches!(shapes[state], UpdateForm::Other | UpdateForm::Sum { .. }) || delays[state].is_some()
            {
                continue;
            }
            let resolved = |value: Value| {
                deps.get(value.0 as usize)
                    .is_none_or(|deps| deps.iter().all(|other| other != state && known(other)))
            };
            let others = || dep(*value).iter().filter(|other| *other != state);
            let self_only = dep(*value).has(state) && others().all(known);
            let shape = classifier.shape(&resolved, self_only, StateId(state as u32), *value);
            shapes[state] = match shape {
                // A delay of a delay adds up. A value that depends on the position is not a function of the
                // last words alone.
                UpdateForm::Recent(words) => {
                    let before = others().try_fold(0, |most, other| Some(most.max(delays[other]?)));
                    recent[state] = before.map(|before| words.saturating_add(before));
                    recent[state].map_or(UpdateForm::Other, UpdateForm::Recent)
                }
                shape => shape,
            };
        }
        // What depends on a state that turned out to be one of the last few words may be known now, too.
        if recent.iter().zip(&delays).all(|(recent, known)| recent.is_none() || known.is_some()) {
            break delays;
        }
    };
    let Classifier { most: most_of_values, mut budget, .. } = classifier;

    // Then who reads whom: the output, or the new value of another state.
    let observed = |state: usize| -> Option<String> {
        if out.is_some_and(|out| dep(out).has(state)) {
            return Some("the output depends on it".into());
        }
        let other = (0..next.len()).find(|other| *other != state && dep(next[*other]).has(state))?;
        Some(format!("`{}` depends on it", pipe.states[other].name))
    };

    let mut states: Vec<StateFacts> = Vec::with_capacity(next.len());
    for (state, shape) in shapes.iter().enumerate() {
        let class = match shape {
            UpdateForm::Invariant => Class::Invariant,
            UpdateForm::Reduce(op, operand) => match observed(state) {
                None => Class::Reduction { op: *op, operand: *operand },
                Some(_) if autonomous[state] => Class::Positional,
                Some(_) => Class::Scan { op: *op, operand: *operand },
            },
            // A literal that absorbs what was there before.
            UpdateForm::Other
                if absorbing(rewriter.block(), next[state]).is_some() && observed(state).is_none() =>
            {
                let op = absorbing(rewriter.block(), next[state]).unwrap_or(Reduce::And);
                Class::Reduction { op, operand: next[state] }
            }
            // A new value that reads no states is known from the word's position alone: that is a delay, too,
            // but cheaper to keep.
            _ if autonomous[state] && !invariant(next[state]) => Class::Positional,
            UpdateForm::Linear(linear) => match observed(state) {
                None => Class::Linear(linear.clone()),
                Some(why) => match linear.vanishes_after(pipe.states[state].ty) {
                    Some(words) => Class::Delay { words },
                    None => Class::Serial { why: format!("{linear}, but {why}") },
                },
            },
            UpdateForm::Recent(words) => Class::Delay { words: *words },
            UpdateForm::Sum { op, term } => sum_of_sums(*op, *term, &shapes, &next, rewriter.block())
                .filter(|_| observed(state).is_none())
                .unwrap_or_else(|| Class::Serial { why: why_serial(pipe, state, dep(next[state])) }),
            UpdateForm::Other => match delays[state] {
                Some(words) => Class::Delay { words },
                None => Class::Serial { why: why_serial(pipe, state, dep(next[state])) },
            },
        };
        states.push(StateFacts { class, observed: observed(state) });
    }

    let resolved = |value: Value| {
        let known = |state: usize| autonomous[state] || delays[state].is_some();
        deps.get(value.0 as usize).is_none_or(|deps| deps.iter().all(known))
    };
    lag::name_lags(&mut rewriter, &next, &resolved, &mut states, &mut budget);
    let together = system::BodyFacts {
        rewriter: &mut rewriter,
        tables: &pipe.tables,
        bounds: most,
        most: &most_of_values,
        resolved: &resolved,
        deps: &deps,
        next: &next,
        out,
    };
    together.name_systems(&mut states, &mut budget);

    field::name_fields(rewriter.block(), (&next, out), &held, &deps, &resolved, &mut states);

    let positional = out.is_some_and(|out| dep(out).pos || dep(out).iter().any(|s| autonomous[s]))
        || next.iter().enumerate().any(|(s, v)| dep(*v).pos && !autonomous[s])
        || states.iter().any(|state| {
            matches!(&state.class, Class::Reduction { operand, .. }
            if deps.get(operand.0 as usize).is_some_and(|deps| deps.pos))
        });
    let (block, tables) = rewriter.finish();
    let mut roots: Vec<Value> = next.clone();
    roots.extend(out);
    roots.extend(states.iter_mut().filter_map(|state| operand_of(&mut state.class).copied()));
    let (body, roots) = rewrite::live(&block, &roots);
    let mut roots = roots.into_iter();
    let next: Vec<Value> = roots.by_ref().take(next.len()).collect();
    let out = out.and_then(|_| roots.next());
    for state in &mut states {
        if let Some(operand) = operand_of(&mut state.class)
            && let Some(renamed) = roots.next()
        {
            *operand = renamed;
        }
    }
    PipeFacts { body, tables, out, next, states, positional }
}

fn operand_of(class: &mut Class) -> Option<&mut Value> {
    match class {
        Class::Reduction { operand, .. }
        | Class::Scan { operand, .. }
        | Class::Lagged { operand, .. }
        | Class::Linear(
            Linear::Crc { operand, .. }
            | Linear::Affine { operand, .. }
            | Linear::Bits { operand, .. }
            | Linear::System { operand, .. }
            | Linear::Field { operand, .. },
        ) => Some(operand),
        _ => None,
    }
}

fn why_serial(pipe: &Pipe, state: usize, deps: &Deps) -> String {
    let others: Vec<String> = deps
        .iter()
        .filter(|other| *other != state)
        .map(|other| format!("`{}`", pipe.states[other].name))
        .collect();
    if deps.has(state) && others.is_empty() && shifts_words(pipe, state) {
        "it is a register of the words before: results are told apart in a state for each of them, as \
         `undelta_rgb` has them"
            .into()
    } else if deps.has(state) && others.is_empty() {
        "each new value is computed from the one before by more than one associative operation".into()
    } else if deps.has(state) {
        format!("each new value depends on the one before and on {}", others.join(", "))
    } else {
        format!("it depends on {}, which depends on it", others.join(", "))
    }
}

/// Whether a state is moved on by whole words, of which it holds several.
fn shifts_words(pipe: &Pipe, state: usize) -> bool {
    let (body, word) = (&pipe.body, u64::from(pipe.input.ty.bits()));
    let is_literal = |value: Value| body.inst(value).op == Op::Const(word);
    pipe.states[state].ty.bits() > pipe.input.ty.bits()
        && body.iter().any(|(_, inst)| match inst.op {
            Op::Binary(BinaryOp::Shl | BinaryOp::Shr, of, by) => {
                body.inst(of).op == Op::State(StateId(state as u32)) && is_literal(by)
            }
            _ => false,
        })
}

/// What the expression of a state's new value looks like.
enum UpdateForm {
    Invariant,
    Reduce(Reduce, Value),
    Linear(Linear),
    /// A function of so many last words, though it is computed from its old value.
    Recent(u32),
    /// The old value plus something that depends on states.
    Sum {
        op: Reduce,
        term: Value,
    },
    Other,
}

/// What the proofs of forms need.
struct Classifier<'a> {
    rewriter: &'a mut Rewriter,
    tables: bits::TableMaps<'a>,
    pipe_tables: &'a [Table],
    /// What each state is no more than.
    states: &'a [u64],
    /// What each value is no more than.
    most: Vec<u64>,
    budget: Budget,
}

impl Classifier<'_> {
    /// Classifies `next`, the new value of state `id`. `invariant(v)`: `v` reads no state that changes, or
    /// only states already resolved. `self_only`: `id` is the only unresolved state that `next` reads.
    fn shape(
        &mut self,
        invariant: &dyn Fn(Value) -> bool,
        self_only: bool,
        id: StateId,
        next: Value,
    ) -> UpdateForm {
        let link = Chain::new(self.rewriter, invariant, id, &mut self.budget).follow(next);
        if let Some(ChainLink::Step(op, operand)) = link {
            return UpdateForm::Reduce(op, operand);
        }
        if !self_only {
            return sum(self.rewriter, id, next);
        }
        match alone(self.rewriter, &mut self.tables, &self.most, invariant, id, next, &mut self.budget) {
            UpdateForm::Linear(Linear::Affine { modulus, factor, operand }) if modulus != 0 => {
                let mut congruent = ring::Congruent {
                    rewriter: self.rewriter,
                    tables: self.pipe_tables,
                    states: self.states,
                    most: self.most.clone(),
                    steps: ring::MAX_SUMS,
                };
                let operand = congruent.to(operand, modulus);
                UpdateForm::Linear(Linear::Affine { modulus, factor, operand })
            }
            shape => shape,
        }
    }
}

/// A state whose new value depends on no other one, and that is no chain.
fn alone(
    rewriter: &mut Rewriter,
    tables: &mut bits::TableMaps<'_>,
    most: &[u64],
    invariant: &dyn Fn(Value) -> bool,
    state: StateId,
    next: Value,
    budget: &mut Budget,
) -> UpdateForm {
    let inst = rewriter.block().inst(next);
    if let Op::Crc(op, acc, operand) = inst.op
        && rewriter.block().inst(acc).op == Op::State(state)
        && invariant(operand)
    {
        return UpdateForm::Linear(Linear::Crc { crc: Crc::from(op), operand });
    }
    if let Some(ring::Affine { modulus, factor }) =
        ring::affine(rewriter.block(), most, invariant, state, next, budget)
    {
        let operand = rewriter.at_zero(next, state);
        return match (factor, modulus) {
            (1, 0) => UpdateForm::Reduce(Reduce::Add, operand),
            (1, m) => UpdateForm::Reduce(Reduce::Addmod(m), operand),
            _ => UpdateForm::Linear(Linear::Affine { modulus, factor, operand }),
        };
    }
    let Some(bits::LinearUpdate { map, crc }) =
        bits::linear(rewriter.block(), tables, invariant, state, next, budget)
    else {
        return UpdateForm::Other;
    };
    // A short remainder may be back where it was after each word, which makes an exclusive or of it.
    if let Some((crc, operand)) = crc.filter(|_| !map.is_identity()) {
        return UpdateForm::Linear(Linear::Crc { crc, operand });
    }
    if let Some(words) = map.vanishes_after() {
        return UpdateForm::Recent(words);
    }
    let operand = rewriter.at_zero(next, state);
    if map.is_identity() {
        UpdateForm::Reduce(Reduce::Xor, operand)
    } else {
        UpdateForm::Linear(Linear::Bits { map, operand })
    }
}

/// The operation by which a literal gives itself whatever the other operand.
fn absorbing(block: &Block, value: Value) -> Option<Reduce> {
    let inst = block.inst(value);
    match inst.op {
        Op::Const(0) => Some(Reduce::And),
        Op::Const(c) if c == inst.ty.mask() => Some(Reduce::Or),
        _ => None,
    }
}

/// `state + term`, where other states take part in `term`.
fn sum(rewriter: &Rewriter, state: StateId, next: Value) -> UpdateForm {
    let block = rewriter.block();
    let own = |v: Value| block.inst(v).op == Op::State(state);
    let (op, a, b) = match block.inst(next).op {
        Op::Binary(BinaryOp::Add, a, b) => (Reduce::Add, a, b),
        Op::Binary(BinaryOp::Addc, a, b) => (Reduce::Addc, a, b),
        Op::Modular(ModOp::Addmod, a, b, m) => match rewriter.as_const(m) {
            Some(m) if m != 0 => (Reduce::Addmod(m), a, b),
            _ => (Reduce::Add, a, b),
        },
        _ => return UpdateForm::Other,
    };
    match (own(a), own(b)) {
        (true, false) => UpdateForm::Sum { op, term: b },
        (false, true) => UpdateForm::Sum { op, term: a },
        _ => UpdateForm::Other,
    }
}

fn sum_of_sums(
    op: Reduce,
    term: Value,
    shapes: &[UpdateForm],
    next: &[Value],
    block: &Block,
) -> Option<Class> {
    // Modulo a constant a number is the same in every width.
    let term = match (op, block.inst(term).op) {
        (Reduce::Addmod(_), Op::Convert(ConvertOp::Zext, narrow)) => narrow,
        _ => term,
    };
    (0..shapes.len()).find_map(|of| {
        let same = matches!(shapes[of], UpdateForm::Reduce(inner, _) if inner == op);
        let includes_word = term == next[of];
        let before = block.inst(term).op == Op::State(StateId(of as u32));
        (same && (includes_word || before)).then_some(Class::Linear(Linear::SumOfSums {
            op,
            of: StateId(of as u32),
            includes_word,
        }))
    })
}
