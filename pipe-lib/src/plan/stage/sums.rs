//! Sums of sums of sums: systems whose matrix has ones on its diagonal and nothing above, which loops add up
//! without multiplying.

use super::form::LinearSystem;
use crate::ir::{ConvertOp, Op, Pipe, Value};

/// Most states: their binomials are computed by a division that is exact by nothing but a 2 and a 3.
const MAX_STATES: usize = 4;

/// What a word adds to each of the states of a system, if they are such sums and have a form in lanes.
pub(super) fn operand(pipe: &Pipe, system: &LinearSystem, operands: &[Value]) -> Option<Value> {
    let side = system.states.len();
    let triangular = system.matrix.iter().enumerate().all(|(at, entry)| match at / side {
        row if row < at % side => *entry == 0,
        row if row == at % side => *entry == 1,
        _ => true,
    });
    let operand = *operands.first()?;
    let alike = operands.iter().all(|other| *other == operand);
    let (word, lane) = (pipe.word_bytes(), pipe.states[system.states[0]].ty.bytes());
    let fits = lane == word || (narrow(pipe, operand).is_some() && lane == 2 * word);
    let few = (2..=MAX_STATES).contains(&side);
    (system.modulus == 0 && few && triangular && alike && fits).then_some(operand)
}

/// What a value zero-extends, if that has the word's type.
pub(crate) fn narrow(pipe: &Pipe, value: Value) -> Option<Value> {
    match pipe.body.inst(value).op {
        Op::Convert(ConvertOp::Zext, narrow) => Some(narrow).filter(|it| pipe.body.ty(*it) == pipe.input.ty),
        _ => None,
    }
}
