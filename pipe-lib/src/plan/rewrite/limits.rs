//! Sums that stop at a limit as sums without one: `min(min(s + x, l) + y, l) = min(s + x + y, l)` for `s <= l`, so a stretch
//! may add up all that it has and look at the limit once, at its end.
//!
//! What is compiled is a sum of 64 bits from zero, which no stretch of [`MAX_CALL_BYTES`] can overflow.

use crate::analyse::rewrite::live;
use crate::analyse::{Class, PipeFacts, Reduce, bounds};
use crate::backend::MAX_CALL_BYTES;
use crate::ir::{BinaryOp, Block, Op, Pipe, StateId, Ty, Value};

/// Most that a word may add.
const MOST: u64 = u64::MAX / MAX_CALL_BYTES as u64;

/// The pipe, of which these are the facts, with plain sums in the place of those that stop at a limit; and which those are.
pub(super) fn lifted(pipe: &Pipe, facts: &PipeFacts) -> Option<(Pipe, Vec<(usize, u64)>)> {
    let all: Vec<u64> = pipe.states.iter().map(|state| state.ty.mask()).collect();
    let mut most = Vec::new();
    let mut found = Vec::new();
    let mut lifted = facts.normal(pipe);
    for (state, known) in facts.states.iter().enumerate() {
        let Class::Reduction { op: Reduce::Addsat(limit), operand } = known.class else { continue };
        if most.is_empty() {
            most = bounds::most(&facts.body, &facts.tables, &all);
        }
        if most[operand.0 as usize] > MOST {
            continue;
        }
        let sum = lifted.body.push(Op::State(StateId(state as u32)), Ty::U64);
        lifted.next[state] = lifted.body.push(Op::Binary(BinaryOp::Add, sum, operand), Ty::U64);
        lifted.states[state].ty = Ty::U64;
        found.push((state, limit));
    }
    if found.is_empty() {
        return None;
    }
    let roots: Vec<Value> = lifted.next.iter().copied().chain(lifted.out).collect();
    let (body, roots) = live(&lifted.body, &roots);
    let (next, out) = roots.split_at(lifted.next.len());
    lifted.next = next.to_vec();
    lifted.out = out.first().copied();
    lifted.body = body;
    // Exports are computed from the states of the pass.
    lifted.finish = Block::default();
    lifted.exports = Vec::new();
    Some((lifted, found))
}
