//! Rewrites across the stages of a pass.
//!
//! Each keeps what the pass computes, to the bit, for every length and every split; `docs/rewrites.md` states each with its
//! condition and the reason why it holds. They change what is compiled, never what a program sees: registers and exports
//! keep their names and values, since every state of the pass has its place in what the code is handed, whether the code
//! computes it or it follows from another.
//!
//! Two taps with one sum have one value only while they start from one value, and an import may give them different ones.
//! So what rests on the states' values is a condition that is looked at on every call ([`Rewritten::holds`]); where it
//! fails, the stages run as they were written.

mod compose;
mod history;
mod limits;
mod low;
mod taps;

use crate::analyse::{Analysed, Class, Facts, PipeFacts, Reduce, analyse, assume};
use crate::compose::Stage;
use crate::ir::{BinaryOp, ConvertOp, Op, Pipe, StateInit, Ty, UnaryOp, eval};
use history::Piece;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

/// A pass after the rewrites. States are numbered as in the pass, flattened in (stage, state) order.
#[derive(Clone, Debug)]
pub(crate) struct Rewritten {
    /// What is compiled, in stream order.
    pub(crate) stages: Vec<Analysed>,
    /// For each state of `stages`, flattened, what it is of the pass.
    pub(crate) kept: Vec<Kept>,
    /// The other states.
    pub(crate) links: Vec<Link>,
    /// States of the pass, and the numbers that they have to be below.
    pub(crate) below: Vec<(usize, u64)>,
    /// What was done, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// What a compiled state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Number of the state in the pass.
    pub(crate) state: usize,
    pub(crate) part: Part,
}

/// How a compiled state stands for a state of the pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// It is the state.
    Whole,
    /// It starts at zero; what it comes to is added to the state, up to this limit.
    Sum(u64),
    /// It is a part of the state.
    Piece(Piece),
}

impl Kept {
    /// Where the compiled state starts, when the state of the pass is `state`.
    pub(crate) fn start(self, state: u64) -> u64 {
        match self.part {
            Part::Whole => state,
            Part::Sum(_) => 0,
            Part::Piece(piece) => piece.of(state),
        }
    }

    /// The state of the pass after a stretch that left the compiled state at `value`.
    pub(crate) fn finish(self, state: u64, value: u64) -> u64 {
        match self.part {
            Part::Whole => value,
            Part::Sum(limit) => state.saturating_add(value).min(limit),
            Part::Piece(piece) => piece.put(state, value),
        }
    }
}

/// A state that always has the value of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The state that is not computed.
    pub(crate) state: usize,
    /// The one that it follows from.
    pub(crate) from: usize,
    /// With its bytes in the other order, as of a 16-bit word; otherwise as it is.
    pub(crate) swapped: bool,
}

impl Link {
    pub(crate) fn value(self, from: u64) -> u64 {
        if self.swapped { eval::unary(UnaryOp::Bswap, Ty::U16, from) } else { from }
    }
}

impl Rewritten {
    /// Whether what is compiled may run in place of `stages`, its states where theirs are.
    pub(crate) fn is_unconditional(&self, stages: &[Analysed]) -> bool {
        let states = stages.iter().map(|pipe| pipe.states.len()).sum();
        self.links.is_empty() && self.below.is_empty() && self.in_place(states)
    }

    /// Whether the states of what is compiled are the `states` of the pass, in their order.
    pub(crate) fn in_place(&self, states: usize) -> bool {
        self.kept.iter().copied().eq((0..states).map(|state| Kept { state, part: Part::Whole }))
    }

    /// Whether what is compiled may run from these states.
    pub(crate) fn holds(&self, states: &[u64]) -> bool {
        self.below.iter().all(|&(state, bound)| states[state] < bound)
            && self.links.iter().all(|link| states[link.state] == link.value(states[link.from]))
    }
}

/// A stage on the way.
#[derive(Clone, Debug)]
struct Draft {
    name: String,
    pipe: Arc<Pipe>,
    window: Option<NonZeroU64>,
    /// Numbers of its states in the pass.
    states: Vec<usize>,
    /// What was proved of `pipe`, shared by its instances; the byte order of what it reads plays no part in it.
    facts: Facts,
}

impl Draft {
    fn new(name: String, pipe: Arc<Pipe>, window: Option<NonZeroU64>, states: Vec<usize>) -> Draft {
        Draft { name, pipe, window, states, facts: Facts::default() }
    }

    fn facts(&self) -> &PipeFacts {
        self.facts.get_or_init(|| analyse(&self.pipe))
    }

    /// Whether its states start from the same values as `other`'s, if `swapped` with their bytes in the other order.
    fn starts_as(&self, other: &Draft, swapped: bool) -> bool {
        let start = |pipe: &Pipe, at: usize| match pipe.states[at].init {
            StateInit::Const(value) => Some(value),
            StateInit::Param(_) => None,
        };
        (0..self.pipe.states.len()).all(|at| {
            let from = start(&other.pipe, at);
            let expected = from.map(|from| Link { state: 0, from: 0, swapped }.value(from));
            start(&self.pipe, at).is_some_and(|own| expected == Some(own))
        })
    }
}

/// Rewrites the stages of a pass; `None` if there is nothing to gain.
pub(crate) fn rewrite<'a>(stages: impl Iterator<Item = (&'a Stage, &'a Analysed)>) -> Option<Rewritten> {
    let mut drafts = Vec::new();
    let mut count = 0;
    for (stage, analysed) in stages {
        let states = stage.pipe.states.len();
        let numbers = (count..count + states).collect();
        let mut draft = Draft::new(stage.name.clone(), Arc::clone(&stage.pipe), stage.window, numbers);
        draft.facts = analysed.shared_facts();
        drafts.push(draft);
        count += states;
    }
    let mut work = Work { drafts, links: Vec::new(), below: Vec::new(), notes: Vec::new() };
    work.name_sums();
    work.cross_swaps();
    work.compose();
    work.drop_idle();
    work.merge_taps();
    let kept = work.replace_states();
    if work.notes.is_empty() {
        return None;
    }
    Some(Rewritten {
        kept,
        stages: work.drafts.into_iter().map(|draft| Analysed::with(draft.pipe, draft.facts)).collect(),
        links: work.links,
        below: work.below,
        notes: work.notes,
    })
}

struct Work {
    drafts: Vec<Draft>,
    links: Vec<Link>,
    below: Vec<(usize, u64)>,
    notes: Vec<String>,
}

impl Work {
    /// Sums that are reduced by comparing and subtracting get the instruction that says so, as long as they are below the
    /// modulus; of those that stop at a limit it is known, as long as they are not beyond.
    fn name_sums(&mut self) {
        // Instances of one pipe are looked at once.
        let mut known = HashMap::new();
        for draft in &mut self.drafts {
            let body = &draft.pipe.body;
            let compares = body.insts.iter().any(|inst| {
                matches!(inst.op, Op::Compare(..) | Op::Modular(..) | Op::Binary(BinaryOp::Min, ..))
            });
            if draft.states.is_empty() || !compares {
                continue;
            }
            let found = known.entry(Arc::as_ptr(&draft.pipe)).or_insert_with(|| {
                let assumed = assume(&draft.pipe, draft.facts())?;
                let pipe = Arc::new(assumed.facts.normal(&draft.pipe));
                // Not every class is seen in what is written without the bounds.
                let facts = Facts::default();
                let _ = facts.set(assumed.facts);
                Some((pipe, assumed.below, facts))
            });
            let Some((pipe, below, facts)) = found else { continue };
            let states = draft.states.clone();
            *draft = Draft::new(draft.name.clone(), Arc::clone(pipe), draft.window, states);
            draft.facts = Arc::clone(facts);
            for &(state, bound) in below.iter() {
                self.below.push((draft.states[state.0 as usize], bound));
                let name = &draft.pipe.states[state.0 as usize].name;
                let is = match &draft.facts().states[state.0 as usize].class {
                    Class::Reduction { op: Reduce::Addsat(limit), .. } => format!("a sum up to {limit}"),
                    Class::Reduction { op: Reduce::Addmod(m), .. }
                    | Class::Scan { op: Reduce::Addmod(m), .. } => {
                        format!("a sum modulo {m}")
                    }
                    class => class.to_string(),
                };
                self.notes.push(format!(
                    "`{}.{name}` is {is} as long as it is below {bound}, which is looked at first",
                    draft.name
                ));
            }
        }
    }

    /// Sums that stop at a limit become plain ones, registers that words are shifted through the words, running sums of which
    /// the low bits are read running sums of those. Gives what the states are then.
    fn replace_states(&mut self) -> Vec<Kept> {
        let mut all = Vec::new();
        for draft in &mut self.drafts {
            let mut kept: Vec<Kept> =
                draft.states.iter().map(|&state| Kept { state, part: Part::Whole }).collect();
            let names: Vec<&str> = draft.pipe.states.iter().map(|state| state.name.as_str()).collect();
            let Some(Replaced { pipe, parts }) = replaced(&draft.pipe, || draft.facts().clone()) else {
                all.append(&mut kept);
                continue;
            };
            for &(state, part) in &parts {
                let name = names[state];
                self.notes.extend(match part {
                    Part::Whole => None,
                    Part::Sum(limit) => Some(format!(
                        "`{}.{name}` is summed up by itself, up to {limit} at the end of a stretch",
                        draft.name
                    )),
                    Part::Piece(Piece { shift, ty }) => Some(format!(
                        "bits {shift} to {} of `{}.{name}` are kept by themselves",
                        shift + ty.bits() - 1,
                        draft.name
                    )),
                });
            }
            let states = &draft.states;
            all.extend(parts.iter().map(|&(state, part)| Kept { state: states[state], part }));
            draft.pipe = Arc::new(pipe);
            draft.facts = Facts::default();
        }
        all
    }

    /// Stages without states that give back what they read.
    fn drop_idle(&mut self) {
        let notes = &mut self.notes;
        self.drafts.retain(|draft| {
            let idle = draft.states.is_empty() && (draft.pipe.is_tap() || draft.facts().nomod());
            if idle {
                notes.push(format!("`{}` changes nothing and keeps nothing: gone", draft.name));
            }
            !idle
        });
    }
}

/// What is compiled for a pipe in a pass of its own, under what is assumed of its states; `None` if that is the pipe.
pub(crate) fn alone(pipe: &Analysed) -> Option<Analysed> {
    let facts = pipe.facts();
    let assumed = assume(pipe, facts);
    let known = assumed.as_ref().map_or(facts, |assumed| &assumed.facts);
    let replaced = replaced(pipe, || known.clone()).map(|replaced| replaced.pipe);
    let alone = replaced.or_else(|| assumed.map(|assumed| assumed.facts.normal(pipe)))?;
    Some(Analysed::new(Arc::new(alone)))
}

/// A pipe with other states.
struct Replaced {
    pipe: Pipe,
    /// For each of its states, the one that it is of the pipe before, or the part of it.
    parts: Vec<(usize, Part)>,
}

/// Puts states in the place of those that stop at a limit, that words are shifted through or of which the low bits are read; `facts` are those
/// of `pipe`, asked for if there may be such.
fn replaced(pipe: &Pipe, facts: impl FnOnce() -> PipeFacts) -> Option<Replaced> {
    // Only comparing and choosing stops a sum, only shifts move words, and low bits are cut off.
    let looks = |op: &Op| {
        matches!(
            op,
            Op::Compare(..)
                | Op::Binary(BinaryOp::Min | BinaryOp::Sub | BinaryOp::Shl | BinaryOp::Shr, ..)
                | Op::Unary(..)
                | Op::Convert(ConvertOp::Trunc, _)
        )
    };
    if pipe.states.is_empty() || !pipe.body.insts.iter().any(|inst| looks(&inst.op)) {
        return None;
    }
    let facts = facts();
    let mut found = limits::lifted(pipe, &facts).map(|(pipe, limits)| {
        let mut parts: Vec<(usize, Part)> =
            (0..pipe.states.len()).map(|state| (state, Part::Whole)).collect();
        limits.into_iter().for_each(|(state, limit)| parts[state].1 = Part::Sum(limit));
        Replaced { pipe, parts }
    });
    for spread in [history::spread, low::spread] {
        let next = match &found {
            Some(before) => {
                let spread = spread(&before.pipe, &analyse(&before.pipe));
                spread.map(|spread| spread.replaced(&before.parts))
            }
            None => spread(pipe, &facts).map(|spread| spread.replaced(&[])),
        };
        found = next.or(found);
    }
    found
}

/// Whether a stage gives each word's bytes in the other order and does nothing else.
fn reverses_bytes(pipe: &Pipe) -> bool {
    let body = &pipe.body;
    let Some(out) = pipe.out.filter(|_| pipe.states.is_empty() && pipe.word_bytes() > 1) else {
        return false;
    };
    let turned = pipe.input.endian != pipe.output.endian;
    match body.inst(out).op {
        Op::In => turned,
        Op::Unary(UnaryOp::Bswap, x) => !turned && body.inst(x).op == Op::In,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
