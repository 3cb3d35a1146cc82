//! States that have a better class as long as they are no more than a number of bits holds.
//!
//! A register may be wider than what is kept in it: a CRC of 24 bits in 32, say, whose top bit is taken by a
//! shift alone. The shift gives one bit as long as the register holds no more than 24 bits. The state's new
//! values never do, nor does what it starts with; an imported value may. So the class is not the state's, but
//! loops may rest on it that look at the state before they run (`plan::rewrite`), and a program that masks
//! the register before it reads it has the class for every value.

use super::gf2::Padding;
use super::{Class, Linear, PipeFacts, analyse, bounds, map_of};
use crate::ir::{BinaryOp, Block, CompareOp, Op, Pipe, StateId, StateInit, Value};

/// A pipe that is the same for a state up to a number.
pub(crate) struct Capped {
    /// What the state is no more than; it starts and stays so.
    pub(crate) most: u64,
    /// The pipe, which reads no more of the state than that.
    pub(crate) pipe: Pipe,
    /// What was proved of it.
    pub(crate) facts: PipeFacts,
}

/// For each state of `pipe`, of which these are the facts, what it is up to a number, as a phrase.
pub fn hints(pipe: &Pipe, facts: &PipeFacts) -> Vec<Option<String>> {
    (0..pipe.states.len())
        .map(|state| {
            let Capped { most, facts, .. } = capped(pipe, facts, state)?;
            let (name, class) = (&pipe.states[state].name, &facts.states[state].class);
            Some(format!(
                "up to {most:#x}, as it starts and stays, it is {class}; `and {name}, {name}, {most:#x}` before it \
                 is read makes it so for what is imported, too"
            ))
        })
        .collect()
}

/// The pipe, of which these are the facts, with a bound of a state that it is serial without.
pub(crate) fn capped(pipe: &Pipe, facts: &PipeFacts, index: usize) -> Option<Capped> {
    let state = &pipe.states[index];
    let is_serial = matches!(facts.states[index].class, Class::Serial { .. });
    if !is_serial || !state.ty.is_integer() || facts.body.insts.len() > MAX_INSTS {
        return None;
    }
    let StateInit::Const(first) = state.init else { return None };
    let from = (64 - first.leading_zeros()).max(1);
    let normal = facts.normal(pipe);
    widths(&facts.body).filter(|bits| (from..state.ty.bits()).contains(bits)).find_map(|bits| {
        let most = u64::MAX >> (64 - bits);
        let pipe = cut_down(&normal, index, most);
        // To prove all there is to it takes longer than to see that the bits are no sums of bits.
        map_of(&pipe, StateId(index as u32), pipe.next[index])?;
        let facts = analyse(&pipe);
        let stays = match &facts.states[index].class {
            Class::Serial { .. } => return None,
            Class::Linear(Linear::Crc { crc, .. }) => {
                crc.bits == bits && matches!(crc.padding, Padding::Dropped(_))
            }
            _ => false,
        };
        let stays = stays || {
            let all: Vec<u64> = pipe.states.iter().map(|state| state.ty.mask()).collect();
            bounds::most(&facts.body, &facts.tables, &all)[facts.next[index].0 as usize] <= most
        };
        stays.then_some(Capped { most, pipe, facts })
    })
}

/// Instructions of the longest body that is tried.
const MAX_INSTS: usize = 512;

/// Most widths that are tried.
const MAX_WIDTHS: usize = 8;

/// The numbers of bits that the literals of a body speak of, fewest first: what is compared, masked or
/// shifted down to see whether the highest bit is set says which one that is.
fn widths(body: &Block) -> impl Iterator<Item = u32> + use<> {
    let literal = |value: Value| body.literal(value);
    let mut found = 0u64;
    for inst in &body.insts {
        match inst.op {
            Op::Binary(BinaryOp::Shr, _, count) => {
                // Of the bit below or of all that is beyond.
                found |= literal(count).map_or(0, |count| 3 << (count & 63));
            }
            Op::Binary(BinaryOp::And, a, b)
            | Op::Compare(CompareOp::Ltu | CompareOp::Leu, a, b)
            | Op::Compare(CompareOp::Eq | CompareOp::Ne, a, b) => {
                // A mask of so many bits, or the bit above them.
                let lengths =
                    [a, b].into_iter().filter_map(literal).map(|number| 64 - number.leading_zeros());
                found |= lengths
                    .fold(0, |found, bits| found | 1u64.unbounded_shl(bits) | 1u64 << (bits.max(1) - 1));
            }
            _ => {}
        }
    }
    (1..64).filter(move |bits| found >> bits & 1 == 1).take(MAX_WIDTHS)
}

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
