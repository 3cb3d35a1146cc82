//! Running reductions with a lag: `k` of them that take turns, word by word.
//!
//! `s1 = op(sk, x)`, and each of the others takes the value of the one before it: `s2 = s1`, `s3 = s2` up to
//! `sk`. So the states are the last `k` results, and each result depends on the one `k` words before: the
//! same colour of the pixel before, the left channel.

use super::Budget;
use super::chain::{Chain, ChainLink};
use crate::analyse::class::{Class, StateFacts};
use crate::analyse::rewrite::Rewriter;
use crate::ir::{Op, StateId, Value};

/// Longest lag: a register of 128 bits, in bytes.
pub(super) const MAX_LAG: usize = 16;

/// Gives serial states that are running reductions with a lag that class. `resolved(v)` holds if `v` reads no
/// state, apart from states that are known without all of the words before.
pub(super) fn name_lags(
    rewriter: &mut Rewriter,
    next: &[Value],
    resolved: &dyn Fn(Value) -> bool,
    states: &mut [StateFacts],
    budget: &mut Budget,
) {
    for first in 0..next.len() {
        if !matches!(states[first].class, Class::Serial { .. }) {
            continue;
        }
        let Some(line) = line(rewriter, next, first) else { continue };
        let Some(last) = line.last().copied() else { continue };
        let link = Chain::new(rewriter, resolved, last, budget).follow(next[first]);
        let Some(ChainLink::Step(op, operand)) = link else { continue };
        for state in &line {
            states[state.0 as usize].class = Class::Lagged { op, operand, states: line.clone() };
        }
    }
}

/// The states that pass on what `first` was, youngest first, if each of them is of its type and nothing else.
fn line(rewriter: &Rewriter, next: &[Value], first: usize) -> Option<Box<[StateId]>> {
    let block = rewriter.block();
    let ty = block.ty(next[first]);
    let mut line = vec![StateId(first as u32)];
    loop {
        let before = Op::State(*line.last()?);
        let after = (0..next.len()).find(|state| block.inst(next[*state]).op == before);
        let Some(after) = after.map(|state| StateId(state as u32)) else { break };
        if line.contains(&after) || line.len() == MAX_LAG {
            return None;
        }
        line.push(after);
    }
    (line.len() > 1 && ty.is_integer()).then(|| line.into())
}
