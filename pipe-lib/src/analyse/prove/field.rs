//! Polynomials over GF(2^128): two states of 64 bits that are the halves of one number, which each word
//! multiplies by a number that is held and adds to.

use super::deps::Deps;
use crate::analyse::class::{Class, Linear, StateFacts};
use crate::ir::{Block, Op, StateId, Value, WideBinary, WideUnary};

/// Gives pairs of serial states the class of a number in the field where they are one. `resolved` says of a
/// value that no state takes part but those that are known without all of the words before.
pub(super) fn name_fields(
    block: &Block,
    (next, out): (&[Value], Option<Value>),
    held: &[bool],
    deps: &[Deps],
    resolved: &dyn Fn(Value) -> bool,
    states: &mut [StateFacts],
) {
    for low in 0..next.len() {
        let serial = |state: usize| matches!(states[state].class, Class::Serial { .. });
        let Op::WideUnary(WideUnary::Trunc, whole) = block.inst(next[low]).op else { continue };
        let upper = Op::WideUnary(WideUnary::High, whole);
        let high = next.iter().position(|next| block.inst(*next).op == upper);
        let Some(high) = high.filter(|high| serial(low) && serial(*high)) else { continue };
        let own = [low, high].map(|state| StateId(state as u32));
        let Some((factor, operand)) = step(block, whole, own, held) else { continue };
        let looks =
            |value: Value| deps.get(value.0 as usize).is_some_and(|deps| deps.has(low) || deps.has(high));
        let others = (0..next.len()).filter(|other| ![low, high].contains(other)).map(|other| next[other]);
        if !resolved(operand) || others.chain(out).any(looks) {
            continue;
        }
        for state in [low, high] {
            states[state].class = Class::Linear(Linear::Field { states: own, factor, operand });
        }
    }
}

/// The factor and what is added, if `whole` is `own * factor xor operand`.
fn step(block: &Block, whole: Value, own: [StateId; 2], held: &[bool]) -> Option<([StateId; 2], Value)> {
    let Op::WideBinary(WideBinary::Xor, a, b) = block.inst(whole).op else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(product, operand)| {
        let Op::WideBinary(WideBinary::Gfmul128, x, y) = block.inst(product).op else { return None };
        [(x, y), (y, x)].into_iter().find_map(|(state, factor)| {
            let factor = pair_of_states(block, factor)?;
            let is_held = |state: StateId| held[state.0 as usize];
            let fits = pair_of_states(block, state)? == own && factor.into_iter().all(is_held);
            fits.then_some((factor, operand))
        })
    })
}

/// The states that are the lower and the upper half of a value.
fn pair_of_states(block: &Block, value: Value) -> Option<[StateId; 2]> {
    let Op::WideBinary(WideBinary::Pair, high, low) = block.inst(value).op else { return None };
    match (block.inst(low).op, block.inst(high).op) {
        (Op::State(low), Op::State(high)) => Some([low, high]),
        _ => None,
    }
}
