//! Classes that hold as long as a state stays below a bound, as all do that are reduced modulo `m` at every word, and
//! counters that stop at a limit.
//!
//! `s + x >= m ? s + x - m : s + x` is a sum modulo `m` for `s < m`, and nothing of the kind for an `s` beyond, which an import
//! may bring. So the bound is an *assumption*: it holds for the initial value, and the new value keeps it if the old one
//! did; whoever relies on it has to look at what a stretch starts from.

use super::analyse_within;
use crate::analyse::{Class, PipeFacts, Reduce, StateFacts, bounds};
use crate::ir::{BinaryOp, CompareOp, Op, Pipe, State, StateId, StateInit};

/// Facts under assumptions, which whoever relies on them looks at before.
#[derive(Clone, Debug)]
pub struct Assumed {
    /// What holds then.
    pub facts: PipeFacts,
    /// States, and the numbers that they are assumed to be below.
    pub below: Vec<(StateId, u64)>,
}

impl Assumed {
    /// The class of a state under the assumptions, with what is looked at, if it is another one than `known` without them.
    pub fn better(&self, state: usize, known: &StateFacts) -> Option<String> {
        let class = &self.facts.states.get(state)?.class;
        if *class.name() == *known.class.name() {
            return None;
        }
        let bounds = self.below.iter().map(|(state, bound)| (state.0 as usize, bound));
        Some(match bounds.into_iter().find(|(of, _)| *of == state) {
            Some((_, bound)) => {
                format!("{class}, as long as it starts below {bound}, which each call looks at")
            }
            None => format!("{class}, as long as the states that it goes by start below their bounds"),
        })
    }
}

/// Instructions of the longest body that is analysed again, how many bounds are tried, and how often a pipe is analysed
/// for all of them.
const LONGEST: usize = 256;
const CANDIDATES: usize = 8;
const ROUNDS: usize = 24;

/// Better classes for `pipe`, whose `facts` hold whatever the states, if assumptions give any.
pub fn assume(pipe: &Pipe, facts: &PipeFacts) -> Option<Assumed> {
    if serial(facts) == 0 || pipe.body.insts.len() > LONGEST {
        return None;
    }
    let mut rounds = ROUNDS;
    let mut below = vec![None; pipe.states.len()];
    let mut best: Option<PipeFacts> = None;
    // Each bound is for the states that have none yet.
    for m in candidates(pipe) {
        let before = best.as_ref().unwrap_or(facts);
        if serial(before) == 0 {
            break;
        }
        let starts_below = |(state, below): (&State, &Option<u64>)| match state.init {
            StateInit::Const(value) => below.is_none() && value < m && m <= state.ty.mask(),
            StateInit::Param(_) => false,
        };
        let all: Vec<bool> = pipe.states.iter().zip(&below).map(starts_below).collect();
        let mut search = Search { pipe, m, below: &below, rounds: &mut rounds };
        let Some(found) = search.closed(all).filter(|found| serial(&found.1) < serial(before)) else {
            continue;
        };
        let (assumed, better) = search.fewest(before, found);
        for (state, _) in assumed.iter().enumerate().filter(|(_, assumed)| **assumed) {
            below[state] = Some(m);
        }
        best = Some(better);
    }
    let states = (0..).map(StateId).zip(below);
    best.map(|facts| Assumed { facts, below: states.filter_map(|(state, m)| Some((state, m?))).collect() })
}

fn serial(facts: &PipeFacts) -> usize {
    facts.states.iter().filter(|state| matches!(state.class, Class::Serial { .. })).count()
}

/// Whether all states have the same kinds of classes.
fn alike(a: &PipeFacts, b: &PipeFacts) -> bool {
    a.states.iter().zip(&b.states).all(|(a, b)| a.class.name() == b.class.name())
}

/// The states that are assumed to be below a bound, and what holds then.
type Found = (Vec<bool>, PipeFacts);

struct Search<'a> {
    pipe: &'a Pipe,
    m: u64,
    /// Bounds that hold already, one a state.
    below: &'a [Option<u64>],
    /// How often the pipe may be analysed yet.
    rounds: &'a mut usize,
}

impl Search<'_> {
    /// The most of the states `assumed` that stay below the bound if all of them are; `None` if that is still open when
    /// there are no more rounds.
    fn closed(&mut self, mut assumed: Vec<bool>) -> Option<Found> {
        while assumed.contains(&true) {
            *self.rounds = self.rounds.checked_sub(1)?;
            let states = self.pipe.states.iter().zip(self.below).zip(&assumed);
            let most: Vec<u64> = states
                .map(|((state, below), assumed)| match below {
                    Some(m) => m - 1,
                    None if *assumed => self.m - 1,
                    None => state.ty.mask(),
                })
                .collect();
            let facts = analyse_within(self.pipe, &most);
            let bounds = bounds::most(&facts.body, &facts.tables, &most);
            let stays = |state: usize| match facts.states[state].class {
                Class::Reduction { op: Reduce::Addsat(limit), .. }
                | Class::Scan { op: Reduce::Addsat(limit), .. } => limit < self.m,
                _ => bounds[facts.next[state].0 as usize] < self.m,
            };
            let kept: Vec<bool> =
                assumed.iter().enumerate().map(|(state, assumed)| *assumed && stays(state)).collect();
            if kept == assumed {
                return Some((assumed, facts));
            }
            // With fewer assumptions these do not stay below, either.
            assumed = kept;
        }
        None
    }

    /// What is found without the bounds that the classes do not rest on: an import beyond such a one (a key, say, that is
    /// only read) changes nothing.
    fn fewest(&mut self, before: &PipeFacts, mut found: Found) -> Found {
        let is_serial = |facts: &PipeFacts, at: usize| matches!(facts.states[at].class, Class::Serial { .. });
        // The sums themselves, which is mostly all.
        let better: Vec<bool> = (0..found.0.len())
            .map(|at| found.0[at] && is_serial(before, at) && !is_serial(&found.1, at))
            .collect();
        if better == found.0 {
            return found;
        }
        if let Some(fewer) = self.closed(better).filter(|fewer| alike(&fewer.1, &found.1)) {
            return fewer;
        }
        for at in 0..found.0.len() {
            let mut without = found.0.clone();
            if std::mem::take(&mut without[at])
                && let Some(fewer) = self.closed(without).filter(|fewer| alike(&fewer.1, &found.1))
            {
                found = fewer;
            }
        }
        found
    }
}

/// The literals with which something is compared, or that something is kept up to, if a state takes part in it.
fn candidates(pipe: &Pipe) -> Vec<u64> {
    let body = &pipe.body;
    let mut found = Vec::new();
    let mut stateful: Vec<bool> = Vec::with_capacity(body.insts.len());
    for inst in &body.insts {
        let depends = inst.op.operands().any(|operand| stateful[operand.0 as usize]);
        stateful.push(depends || matches!(inst.op, Op::State(_)));
        let numbers = match inst.op {
            _ if !depends => continue,
            Op::Compare(CompareOp::Ltu | CompareOp::Leu | CompareOp::Eq | CompareOp::Ne, a, b)
            | Op::Binary(BinaryOp::Min, a, b) => [Some(a), Some(b)],
            // `limit - s`
            Op::Binary(BinaryOp::Sub, a, _) => [Some(a), None],
            Op::Modular(_, _, _, m) => [Some(m), None],
            Op::Select { then, otherwise, .. } => [Some(then), Some(otherwise)],
            _ => continue,
        };
        for value in numbers.into_iter().flatten() {
            if let Op::Const(c) = body.inst(value).op {
                // `t < m`, `t <= m - 1`, `min(t, m - 1)`
                for m in [c, c.saturating_add(1)] {
                    if m > 1 && !found.contains(&m) && found.len() < CANDIDATES {
                        found.push(m);
                    }
                }
            }
        }
    }
    found
}
