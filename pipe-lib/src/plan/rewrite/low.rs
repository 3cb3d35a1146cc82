//! Running sums that are wider than the words, of which only the low bits are looked at: those make a running sum by themselves,
//! of the words' width, and the whole is an ordinary sum.

use super::history::{Piece, Spread};
use crate::analyse::rewrite::{Rewriter, live};
use crate::analyse::{Analysed, Class, PipeFacts, Reduce};
use crate::ir::{Block, ConvertOp, Op, Pipe, State, StateId, Value};

/// The pipe, of which these are the facts, with the low bits as states of their own, if a loop over several words at once
/// comes of it.
pub(super) fn spread(pipe: &Pipe, facts: &PipeFacts) -> Option<Spread> {
    let word = pipe.input.ty;
    // What of low bits depends on low bits alone.
    let wide = |state: usize| match facts.states[state].class {
        Class::Scan { op: op @ (Reduce::Add | Reduce::Xor | Reduce::And | Reduce::Or), operand } => {
            let ty = pipe.states[state].ty;
            (ty.is_integer() && ty.bits() > word.bits()).then_some((op, operand))
        }
        _ => None,
    };
    let scans: Vec<Option<(Reduce, Value)>> = (0..pipe.states.len()).map(wide).collect();
    if scans.iter().all(Option::is_none) {
        return None;
    }
    let mut spread = facts.normal(pipe);
    let mut states: Vec<(usize, Option<Piece>)> = (0..pipe.states.len()).map(|state| (state, None)).collect();
    let mut lows: Vec<Option<StateId>> = vec![None; pipe.states.len()];
    for at in (0..pipe.states.len()).filter(|at| scans[*at].is_some()) {
        lows[at] = Some(StateId(spread.states.len() as u32));
        let whole = &pipe.states[at];
        spread.states.push(State { name: format!("{}_low", whole.name), ty: word, ..whole.clone() });
        states.push((at, Some(Piece { shift: 0, ty: word })));
    }
    let mut rewriter = Rewriter::new(&facts.tables);
    let mut map: Vec<Value> = Vec::with_capacity(facts.body.insts.len());
    let mut low_next: Vec<Option<Value>> = vec![None; pipe.states.len()];
    for inst in &facts.body.insts {
        let low = match inst.op {
            Op::Convert(ConvertOp::Trunc, whole) if inst.ty == word => {
                (0..scans.len()).find_map(|state| {
                    let (low, (op, operand)) = (lows[state]?, scans[state]?);
                    let before = facts.body.inst(whole).op == Op::State(StateId(state as u32));
                    if !before && facts.next[state] != whole {
                        return None;
                    }
                    let old = rewriter.push(Op::State(low), word);
                    if before {
                        return Some(old);
                    }
                    // The operand may come later in the block than what it is an operand of.
                    let operand = *map.get(operand.0 as usize)?;
                    let operand = rewriter.resize(operand, word);
                    let new = rewriter.binary(op.binary()?, old, operand);
                    low_next[state] = Some(new);
                    Some(new)
                })
            }
            _ => None,
        };
        let value = match low {
            Some(value) => value,
            None => rewriter.push(inst.op.map_operands(|value| map[value.0 as usize]), inst.ty),
        };
        map.push(value);
    }
    let mut next: Vec<Value> = facts.next.iter().map(|value| map[value.0 as usize]).collect();
    for (state, scan) in scans.iter().enumerate() {
        let (Some((op, operand)), Some(low)) = (scan, lows[state]) else { continue };
        next.push(match low_next[state] {
            Some(new) => new,
            None => {
                let operand = rewriter.resize(map[operand.0 as usize], word);
                let old = rewriter.push(Op::State(low), word);
                rewriter.binary(op.binary()?, old, operand)
            }
        });
    }
    let out = facts.out.map(|out| map[out.0 as usize]);
    let (block, tables) = rewriter.finish();
    let roots: Vec<Value> = next.iter().copied().chain(out).collect();
    let (body, roots) = live(&block, &roots);
    let (next, out) = roots.split_at(next.len());
    spread.next = next.to_vec();
    spread.out = out.first().copied();
    spread.body = body;
    spread.tables = tables;
    // Exports are computed from the states of the pass.
    spread.finish = Block::default();
    spread.exports = Vec::new();
    // It is of no use if something still looks at the whole.
    let looks = |value: Value, state: usize| spread.body.depends_on(value, StateId(state as u32));
    let seen = |state: usize| {
        let others = (0..spread.next.len()).filter(|other| *other != state).map(|other| spread.next[other]);
        others.chain(spread.out).any(|value| looks(value, state))
    };
    let alone = (0..scans.len()).all(|state| scans[state].is_none() || !seen(state));
    (alone && crate::plan::vector::lower(&[Analysed::new(spread.clone().into())]).is_ok())
        .then_some(Spread { pipe: spread, states })
}
