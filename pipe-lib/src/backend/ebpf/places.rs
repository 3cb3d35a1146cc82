//! Where values are while they are needed: in four registers, then on the stack. Straight-line code needs no
//! more than to know where each value is used last.

use super::insn::BpfRegister;
use crate::handler::StraightLine;
use crate::ir::Value;

/// A register, or so many bytes below the end of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValuePlace {
    Register(BpfRegister),
    Stack(i16),
    /// Nobody keeps it: a number, which stands in the code, or a value without use.
    Nowhere,
}

/// Registers that outlive a step; the others are data, its end, and scratch.
const KEEPING: [u8; 4] = [2, 3, 8, 9];

/// Bytes of stack.
const STACK_BYTES: i16 = 512;

/// The place of each value; `None` where the stack does not suffice, of which the topmost `taken` bytes are.
/// `results` are used after all steps.
pub(super) fn places(line: &StraightLine, results: &[Value], taken: i16) -> Option<Vec<ValuePlace>> {
    let steps = &line.steps;
    let mut last_use: Vec<usize> = (0..steps.len()).collect();
    for (index, step) in steps.iter().enumerate() {
        step.operands().for_each(|operand| last_use[operand.0 as usize] = index);
    }
    results.iter().for_each(|result| last_use[result.0 as usize] = usize::MAX);
    let mut free: Vec<ValuePlace> =
        KEEPING.iter().rev().map(|number| ValuePlace::Register(BpfRegister(*number))).collect();
    let mut deepest = taken;
    let mut places = vec![ValuePlace::Nowhere; steps.len()];
    for (index, step) in steps.iter().enumerate() {
        // Operands are read before the result is written, so their places may be the result's.
        let mut ended: Vec<Value> =
            step.operands().filter(|operand| last_use[operand.0 as usize] == index).collect();
        ended.dedup();
        for operand in ended {
            let place = places[operand.0 as usize];
            if place != ValuePlace::Nowhere && !free.contains(&place) {
                free.push(place);
            }
        }
        if step.constant().is_some() || last_use[index] == index {
            continue;
        }
        // Registers first.
        let at = free.iter().rposition(|place| matches!(place, ValuePlace::Register(_)));
        let at = at.or(free.len().checked_sub(1));
        places[index] = match at {
            Some(at) => free.remove(at),
            None => {
                deepest += 8;
                ValuePlace::Stack(-deepest)
            }
        };
    }
    (deepest <= STACK_BYTES).then_some(places)
}
