//! Classes that hold as long as a state stays below a bound, as all do that are reduced modulo `m` at every word.
//!
//! `s + x >= m ? s + x - m : s + x` is a sum modulo `m` for `s < m`, and nothing of the kind for an `s` beyond, which an import
//! may bring. So the bound is an *assumption*: it holds for the initial value, and the new value keeps it if the old one
//! did; whoever relies on it has to look at what a stretch starts from.

use super::analyse_within;
use crate::analyse::{Class, PipeFacts, bounds};
use crate::ir::{CompareOp, Op, Pipe, State, StateId, StateInit};

/// Facts under assumptions.
#[derive(Clone, Debug)]
pub(crate) struct Assumed {
    pub(crate) facts: PipeFacts,
    /// States, and the numbers that they are assumed to be below.
    pub(crate) below: Vec<(StateId, u64)>,
}

/// Instructions of the longest body that is analysed again, how many bounds are tried, and how often a pipe is analysed
/// for all of them.
const LONGEST: usize = 256;
const CANDIDATES: usize = 4;
const ROUNDS: usize = 24;

/// Better classes for `pipe`, whose `facts` hold whatever the states, if assumptions give any.
pub(crate) fn assume(pipe: &Pipe, facts: &PipeFacts) -> Option<Assumed> {
    if serial(facts) == 0 || pipe.body.insts.len() > LONGEST {
        return None;
    }
    let mut rounds = ROUNDS;
    candidates(pipe).into_iter().find_map(|m| {
        let starts_below = |state: &State| match state.init {
            StateInit::Const(value) => value < m && m <= state.ty.mask(),
            StateInit::Param(_) => false,
        };
        let all: Vec<bool> = pipe.states.iter().map(starts_below).collect();
        let mut search = Search { pipe, m, rounds: &mut rounds };
        let found = search.closed(all)?;
        (serial(&found.1) < serial(facts)).then(|| search.fewest(facts, found))
    })
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
    /// How often the pipe may be analysed yet.
    rounds: &'a mut usize,
}

impl Search<'_> {
    /// The most of the states `assumed` that stay below the bound if all of them are; `None` if that is still open when
    /// there are no more rounds.
    fn closed(&mut self, mut assumed: Vec<bool>) -> Option<Found> {
        while assumed.contains(&true) {
            *self.rounds = self.rounds.checked_sub(1)?;
            let states = self.pipe.states.iter().zip(&assumed);
            let most: Vec<u64> =
                states.map(|(state, assumed)| if *assumed { self.m - 1 } else { state.ty.mask() }).collect();
            let facts = analyse_within(self.pipe, &most);
            let bounds = bounds::most(&facts.body, &facts.tables, &most);
            let kept: Vec<bool> = (assumed.iter().zip(&facts.next))
                .map(|(assumed, next)| *assumed && bounds[next.0 as usize] < self.m)
                .collect();
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
    fn fewest(&mut self, before: &PipeFacts, mut found: Found) -> Assumed {
        let is_serial = |facts: &PipeFacts, at: usize| matches!(facts.states[at].class, Class::Serial { .. });
        // The sums themselves, which is mostly all.
        let better: Vec<bool> = (0..found.0.len())
            .map(|at| found.0[at] && is_serial(before, at) && !is_serial(&found.1, at))
            .collect();
        if better == found.0 {
            return self.assumed(found);
        }
        if let Some(fewer) = self.closed(better).filter(|fewer| alike(&fewer.1, &found.1)) {
            return self.assumed(fewer);
        }
        for at in 0..found.0.len() {
            let mut without = found.0.clone();
            if std::mem::take(&mut without[at])
                && let Some(fewer) = self.closed(without).filter(|fewer| alike(&fewer.1, &found.1))
            {
                found = fewer;
            }
        }
        self.assumed(found)
    }

    fn assumed(&self, (assumed, facts): Found) -> Assumed {
        let states = (0..).map(StateId).zip(assumed).filter(|(_, assumed)| *assumed);
        Assumed { facts, below: states.map(|(state, _)| (state, self.m)).collect() }
    }
}

/// The literals with which something is compared.
fn candidates(pipe: &Pipe) -> Vec<u64> {
    let body = &pipe.body;
    let mut found = Vec::new();
    for inst in &body.insts {
        let numbers = match inst.op {
            Op::Compare(CompareOp::Ltu | CompareOp::Leu, a, b) => [Some(a), Some(b)],
            Op::Modular(_, _, _, m) => [Some(m), None],
            _ => [None; 2],
        };
        for value in numbers.into_iter().flatten() {
            if let Op::Const(c) = body.inst(value).op {
                // `t < m`, `t <= m - 1`
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
