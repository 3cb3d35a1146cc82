//! Systems of two states of which a word's halves are what is added: SQLite's checksum of its log.

use super::form::{LinearSystem, inverse};
use crate::ir::{BinaryOp, ConvertOp, Op, Pipe, Ty, Value};

/// What a word adds to the two states of a system, modulo two to the width of its halves: a matrix times the
/// lower half and the upper one.
///
/// Two numbers that such a matrix makes the states of take the halves as they are, so that they lie beside
/// each other in a lane as the word does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Halves {
    /// The word.
    pub(crate) word: Value,
    /// Row after row; its determinant is odd.
    pub(crate) matrix: [u32; 4],
}

impl Halves {
    /// Of a system whose states are half as wide as a word of 64 bits.
    pub(super) fn of(pipe: &Pipe, system: &LinearSystem, operands: &[Value]) -> Option<Halves> {
        let is_half = |state: &usize| pipe.states[*state].ty == Ty::U32;
        let &[first, second] = operands else { return None };
        if system.modulus != 0 || pipe.input.ty != Ty::U64 || !system.states.iter().all(is_half) {
            return None;
        }
        let mut word = None;
        let mut forms: Vec<Option<[u32; 2]>> = Vec::with_capacity(pipe.body.insts.len());
        for (value, inst) in pipe.body.iter() {
            let form = match inst.op {
                Op::In => {
                    word = Some(value);
                    Some([1, 0])
                }
                op if matches!(inst.ty, Ty::U32 | Ty::U64) => form_of(pipe, op, &forms),
                _ => None,
            };
            forms.push(form);
        }
        let [a, b] = forms[first.0 as usize]?;
        let [c, d] = forms[second.0 as usize]?;
        let halves = Halves { word: word?, matrix: [a, b, c, d] };
        (halves.determinant() & 1 == 1).then_some(halves)
    }

    fn determinant(&self) -> u32 {
        let [a, b, c, d] = self.matrix;
        a.wrapping_mul(d).wrapping_sub(b.wrapping_mul(c))
    }

    /// The matrix that undoes this one.
    pub(crate) fn inverse(&self) -> [u32; 4] {
        let [a, b, c, d] = self.matrix;
        let inverse = inverse(self.determinant().into()) as u32;
        [d, b.wrapping_neg(), c.wrapping_neg(), a].map(|entry| entry.wrapping_mul(inverse))
    }
}

/// The lower 32 bits of an instruction's result as factors of the halves, from those of its operands.
fn form_of(pipe: &Pipe, op: Op, forms: &[Option<[u32; 2]>]) -> Option<[u32; 2]> {
    let form = |value: Value| forms[value.0 as usize];
    let number = |value: Value| pipe.body.literal(value);
    let times = |value: Value, factor: u32| Some(form(value)?.map(|entry| entry.wrapping_mul(factor)));
    match op {
        Op::Convert(ConvertOp::Trunc | ConvertOp::Zext, value) => form(value),
        Op::Binary(BinaryOp::Shr, value, count)
            if pipe.body.inst(value).op == Op::In && number(count) == Some(32) =>
        {
            Some([0, 1])
        }
        Op::Binary(BinaryOp::Shl, value, count) => times(value, 1u32.checked_shl(number(count)? as u32)?),
        Op::Binary(BinaryOp::Mul, value, factor) => times(value, number(factor)? as u32),
        Op::Binary(op @ (BinaryOp::Add | BinaryOp::Sub), a, b) => {
            let ([a, b], [c, d]) = (form(a)?, form(b)?);
            Some(match op {
                BinaryOp::Add => [a.wrapping_add(c), b.wrapping_add(d)],
                _ => [a.wrapping_sub(c), b.wrapping_sub(d)],
            })
        }
        _ => None,
    }
}
