//! Rewrites across the stages of a pass.
//!
//! Each keeps what the pass computes, to the bit, for every length and every split; `docs/rewrites.md` states
//! each with its condition and the reason why it holds. They change what is compiled, never what a program
//! sees: registers and exports keep their names and values, since every state of the pass has its place in
//! what the code is handed, whether the code computes it or it is derived from another.
//!
//! Two taps with one sum have one value only while they start from one value, and imported values may differ.
//! So whatever rests on the states' values is a condition that is checked on every call
//! ([`Rewritten::holds`]); where it fails, the stages run as they were written.

mod compose;
mod shift_register;
mod taps;

use crate::analyse::capped::{Capped, capped};
use crate::analyse::{Analysed, Facts, PipeFacts, analyse};
use crate::compose::Stage;
use crate::ir::{Op, Pipe, StateInit, Ty, UnaryOp, eval};
use crate::plan::target::Targets;
use shift_register::{RegisterPiece, SplitRegister};
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
    pub(crate) links: Vec<StateLink>,
    /// States of the pass that have to start within a bound, within which they stay.
    pub(crate) caps: Vec<StateCap>,
    /// What was done, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// What a compiled state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Number of the state in the pass.
    pub(crate) state: usize,
    pub(crate) part: StatePart,
}

/// How a compiled state stands for a state of the pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatePart {
    /// It is the state.
    Whole,
    /// It is a part of the state.
    Piece(RegisterPiece),
}

impl Kept {
    /// Where the compiled state starts, when the state of the pass is `state`.
    pub(crate) fn start(self, state: u64) -> u64 {
        match self.part {
            StatePart::Whole => state,
            StatePart::Piece(piece) => piece.of(state),
        }
    }

    /// The state of the pass after a stretch that left the compiled state at `value`.
    pub(crate) fn finish(self, state: u64, value: u64) -> u64 {
        match self.part {
            StatePart::Whole => value,
            StatePart::Piece(piece) => piece.put(state, value),
        }
    }
}

/// A state that is never more than a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateCap {
    pub(crate) state: usize,
    pub(crate) most: u64,
}

/// A state that always has the value of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateLink {
    /// The state that is not computed.
    pub(crate) state: usize,
    /// The one that it follows from.
    pub(crate) from: usize,
    /// With its bytes in the other order, as of a 16-bit word; otherwise as it is.
    pub(crate) swapped: bool,
}

impl StateLink {
    pub(crate) fn value(self, from: u64) -> u64 {
        if self.swapped { eval::unary(UnaryOp::Bswap, Ty::U16, from) } else { from }
    }
}

impl Rewritten {
    /// Whether the states of what is compiled are those of `stages`, in their order: then it may run in their
    /// place.
    pub(crate) fn is_in_place(&self, stages: &[Analysed]) -> bool {
        let states: usize = stages.iter().map(|pipe| pipe.states.len()).sum();
        self.caps.is_empty()
            && self.kept.iter().copied().eq((0..states).map(|state| Kept { state, part: StatePart::Whole }))
    }

    /// Whether what is compiled may run from these states.
    pub(crate) fn holds(&self, states: &[u64]) -> bool {
        self.links.iter().all(|link| states[link.state] == link.value(states[link.from]))
            && self.caps.iter().all(|cap| states[cap.state] <= cap.most)
    }
}

/// A stage on the way.
#[derive(Clone, Debug)]
struct StageDraft {
    name: String,
    pipe: Arc<Pipe>,
    window: Option<NonZeroU64>,
    /// Numbers of its states in the pass.
    states: Vec<usize>,
    /// What was proved of `pipe`, shared by its instances; independent of the byte order of what it reads.
    facts: Facts,
}

impl StageDraft {
    fn new(name: String, pipe: Arc<Pipe>, window: Option<NonZeroU64>, states: Vec<usize>) -> StageDraft {
        StageDraft { name, pipe, window, states, facts: Facts::default() }
    }

    fn facts(&self) -> &PipeFacts {
        self.facts.get_or_init(|| analyse(&self.pipe))
    }

    /// Whether its states start from the same values as `other`'s; if `swapped`, with their bytes in the
    /// other order.
    fn starts_as(&self, other: &StageDraft, swapped: bool) -> bool {
        let start = |pipe: &Pipe, at: usize| match pipe.states[at].init {
            StateInit::Const(value) => Some(value),
            StateInit::Param(_) => None,
        };
        (0..self.pipe.states.len()).all(|at| {
            let from = start(&other.pipe, at);
            let expected = from.map(|from| StateLink { state: 0, from: 0, swapped }.value(from));
            start(&self.pipe, at).is_some_and(|own| expected == Some(own))
        })
    }
}

/// Rewrites the stages of a pass for some of the `targets`; `None` if there is nothing to gain.
pub(crate) fn rewrite<'a>(
    stages: impl Iterator<Item = (&'a Stage, &'a Analysed)>,
    targets: &Targets,
) -> Option<Rewritten> {
    let mut drafts = Vec::new();
    let mut count = 0;
    for (stage, analysed) in stages {
        let states = stage.pipe.states.len();
        let numbers = (count..count + states).collect();
        let mut draft = StageDraft::new(stage.name.clone(), Arc::clone(&stage.pipe), stage.window, numbers);
        draft.facts = analysed.shared_facts();
        drafts.push(draft);
        count += states;
    }
    let mut work = Work { drafts, links: Vec::new(), caps: Vec::new(), notes: Vec::new() };
    work.cross_swaps();
    work.compose();
    work.drop_idle();
    work.merge_taps();
    work.cap_states(targets);
    let kept = work.replace_states(targets);
    if work.notes.is_empty() {
        return None;
    }
    Some(Rewritten {
        kept,
        stages: work.drafts.into_iter().map(|draft| Analysed::with(draft.pipe, draft.facts)).collect(),
        links: work.links,
        caps: work.caps,
        notes: work.notes,
    })
}

struct Work {
    drafts: Vec<StageDraft>,
    links: Vec<StateLink>,
    caps: Vec<StateCap>,
    notes: Vec<String>,
}

impl Work {
    /// States that are serial but for what they are up to a number become that.
    fn cap_states(&mut self, targets: &Targets) {
        for draft in &mut self.drafts {
            let Some(CappedPipe { pipe, caps }) = cap(&draft.pipe, draft.facts(), targets) else { continue };
            for &(state, most) in &caps {
                let (name, class) = (&draft.pipe.states[state].name, &pipe.facts().states[state].class);
                self.notes.push(format!("`{}.{name}` up to {most:#x} is {class}", draft.name));
                self.caps.push(StateCap { state: draft.states[state], most });
            }
            draft.pipe = Arc::clone(pipe.pipe());
            draft.facts = pipe.shared_facts();
        }
    }

    /// Registers that words are shifted through become the words. Gives what the states are then.
    fn replace_states(&mut self, targets: &Targets) -> Vec<Kept> {
        let mut all = Vec::new();
        for draft in &mut self.drafts {
            let mut kept: Vec<Kept> =
                draft.states.iter().map(|&state| Kept { state, part: StatePart::Whole }).collect();
            let names: Vec<&str> = draft.pipe.states.iter().map(|state| state.name.as_str()).collect();
            let has_states = !draft.states.is_empty();
            let split =
                has_states.then(|| shift_register::split(&draft.pipe, draft.facts(), targets)).flatten();
            let Some(SplitRegister { pipe, parts }) = split else {
                all.append(&mut kept);
                continue;
            };
            for &(state, part) in &parts {
                let name = names[state];
                self.notes.extend(match part {
                    StatePart::Whole => None,
                    StatePart::Piece(RegisterPiece { shift, ty }) => Some(format!(
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

/// What is compiled for a pipe in a pass of its own; `None` if that is the pipe.
pub(crate) fn alone(pipe: &Analysed, targets: &Targets) -> Option<Analysed> {
    let capped = cap(pipe.pipe(), pipe.facts(), targets).map(|capped| capped.pipe);
    let pipe = capped.as_ref().unwrap_or(pipe);
    let split = shift_register::split(pipe, pipe.facts(), targets);
    split.map(|split| Analysed::new(Arc::new(split.pipe))).or(capped)
}

/// A pipe that rests on bounds of its states.
struct CappedPipe {
    pipe: Analysed,
    /// The states and what each is no more than.
    caps: Vec<(usize, u64)>,
}

/// The pipe, of which these are the facts, for states within bounds, if a loop over several words at once
/// comes of it.
fn cap(pipe: &Arc<Pipe>, facts: &PipeFacts, targets: &Targets) -> Option<CappedPipe> {
    let mut caps = Vec::new();
    let mut found: Option<Analysed> = None;
    for state in 0..pipe.states.len() {
        let (pipe, facts) = match &found {
            Some(found) => (found.pipe(), found.facts()),
            None => (pipe, facts),
        };
        if let Some(Capped { most, pipe, facts }) = capped(pipe, facts, state) {
            caps.push((state, most));
            found = Some(Analysed::with(Arc::new(pipe), Arc::new(facts.into())));
        }
    }
    let pipe = found.filter(|pipe| targets.run_wide(pipe))?;
    Some(CappedPipe { pipe, caps })
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
