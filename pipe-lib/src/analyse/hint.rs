//! What to write for a state to get a better class.
//!
//! A register may be wider than what is kept in it: a CRC of 24 bits in 32, say, whose top bit is taken by a
//! shift alone. The shift gives one bit as long as the register holds no more than 24 bits. The state's new
//! values never do, but an imported value may. A program that masks the register before it reads it says so
//! for every value, and then it is proved.

use super::gf2::Padding;
use super::{Class, Linear, PipeFacts, analyse, bounds};
use crate::ir::{BinaryOp, Block, Op, Pipe, StateId, StateInit, Value};

/// For each state of `pipe`, of which these are the facts, what to write, as a phrase.
pub fn hints(pipe: &Pipe, facts: &PipeFacts) -> Vec<Option<String>> {
    (0..pipe.states.len()).map(|state| hint(pipe, facts, state)).collect()
}

fn hint(pipe: &Pipe, facts: &PipeFacts, index: usize) -> Option<String> {
    let state = &pipe.states[index];
    if !matches!(facts.states[index].class, Class::Serial { .. }) || pipe.body.insts.len() > LONGEST {
        return None;
    }
    let StateInit::Const(first) = state.init else { return None };
    // From the fewest bits that it starts with.
    (64 - first.leading_zeros()..state.ty.bits()).filter(|bits| *bits > 0).find_map(|bits| {
        let mask = u64::MAX >> (64 - bits);
        let cut = cut_down(pipe, index, mask);
        let facts = analyse(&cut);
        let class = &facts.states[index].class;
        let stays = match class {
            Class::Serial { .. } => return None,
            Class::Linear(Linear::Crc { crc, .. }) => {
                crc.bits == bits && matches!(crc.padding, Padding::Dropped(_))
            }
            _ => false,
        };
        let stays = stays || {
            let all: Vec<u64> = pipe.states.iter().map(|state| state.ty.mask()).collect();
            bounds::most(&facts.body, &facts.tables, &all)[facts.next[index].0 as usize] <= mask
        };
        let name = &state.name;
        stays.then(|| format!("with `and {name}, {name}, {mask:#x}` before it is read, it is {class}"))
    })
}

/// Instructions of the longest body that is tried: it is analysed once for each width that a state may have.
const LONGEST: usize = 512;

/// The pipe with all that reads a state reading no more of it than `mask`.
fn cut_down(pipe: &Pipe, state: usize, mask: u64) -> Pipe {
    let mut body = Block::default();
    let mut map: Vec<Value> = Vec::with_capacity(pipe.body.insts.len());
    for inst in &pipe.body.insts {
        let mut value = body.push(inst.op.map_operands(|value| map[value.0 as usize]), inst.ty);
        if inst.op == Op::State(StateId(state as u32)) {
            let mask = body.push(Op::Const(mask), inst.ty);
            value = body.push(Op::Binary(BinaryOp::And, value, mask), inst.ty);
        }
        map.push(value);
    }
    let rename = |value: Value| map[value.0 as usize];
    Pipe {
        next: pipe.next.iter().copied().map(rename).collect(),
        out: pipe.out.map(rename),
        body,
        ..pipe.clone()
    }
}
