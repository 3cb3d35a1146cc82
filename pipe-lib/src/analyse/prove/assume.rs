//! Classes that hold as long as a state stays below a bound, as all do that are reduced modulo `m` at every word.
//!
//! `s + x >= m ? s + x - m : s + x` is a sum modulo `m` for `s < m`, and nothing of the kind for an `s` beyond, which an import
//! may bring. So the bound is an *assumption*: it holds for the initial value, and the new value keeps it if the old one
//! did; whoever relies on it has to look at what a stretch starts from.

use super::analyse_within;
use crate::analyse::{Class, PipeFacts, bounds};
use crate::ir::{CompareOp, Op, Pipe, StateId, StateInit};

/// Facts under assumptions.
#[derive(Clone, Debug)]
pub(crate) struct Assumed {
    pub(crate) facts: PipeFacts,
    /// States, and the numbers that they are assumed to be below.
    pub(crate) below: Vec<(StateId, u64)>,
}

/// Instructions of the longest body that is analysed again, and how many bounds are tried.
const LONGEST: usize = 256;
const CANDIDATES: usize = 4;

/// Better classes for `pipe`, whose `facts` hold whatever the states, if assumptions give any.
pub(crate) fn assume(pipe: &Pipe, facts: &PipeFacts) -> Option<Assumed> {
    let serial = |facts: &PipeFacts| {
        facts.states.iter().filter(|state| matches!(state.class, Class::Serial { .. })).count()
    };
    let before = serial(facts);
    if before == 0 || pipe.body.insts.len() > LONGEST {
        return None;
    }
    candidates(pipe).into_iter().find_map(|m| {
        let starts_below = |at: usize| match pipe.states[at].init {
            StateInit::Const(value) => value < m && m <= pipe.states[at].ty.mask(),
            StateInit::Param(_) => false,
        };
        let mut most: Vec<u64> = pipe.states.iter().map(|state| state.ty.mask()).collect();
        let mut assumed: Vec<bool> = (0..most.len()).map(starts_below).collect();
        for _ in 0..=most.len() {
            for (at, most) in most.iter_mut().enumerate() {
                *most = if assumed[at] { m - 1 } else { pipe.states[at].ty.mask() };
            }
            let facts = analyse_within(pipe, &most);
            let bounds = bounds::most(&facts.body, &facts.tables, &most);
            let keeps = |at: usize| bounds[facts.next[at].0 as usize] < m;
            if let Some(broken) = (0..most.len()).find(|at| assumed[*at] && !keeps(*at)) {
                assumed[broken] = false;
                continue;
            }
            let below = (0..most.len()).filter(|at| assumed[*at]).map(|at| (StateId(at as u32), m)).collect();
            return (serial(&facts) < before).then_some(Assumed { facts, below });
        }
        None
    })
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
