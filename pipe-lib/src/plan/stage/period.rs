//! Values that are known before any word is read: constants, and what depends on the offset in the stream
//! alone.

use crate::ir::{BinaryOp, ConvertOp, Op, Pipe, StateId, UnaryOp, Value, eval};

/// Positional values with a longer period are computed from the offset.
pub(super) const MAX_PERIOD: usize = 32;

/// The values that depend on the low bits of the offset alone.
pub(super) fn periods(pipe: &Pipe, constants: &[Option<u64>]) -> Vec<Option<usize>> {
    /// What is known of a value that depends on the offset only.
    #[derive(Clone, Copy)]
    struct Low {
        /// Bit `i` depends on no bit of the offset above `i`.
        carries_up: bool,
        /// Number of low bits of the offset that decide the value.
        bits: u32,
    }
    let body = &pipe.body;
    let mut known: Vec<Option<Low>> = Vec::with_capacity(body.insts.len());
    for (value, inst) in body.iter() {
        if constants[value.0 as usize].is_some() {
            known.push(Some(Low { carries_up: true, bits: 0 }));
            continue;
        }
        let operands: Option<Vec<Low>> =
            inst.op.operands().map(|operand| known[operand.0 as usize]).collect();
        let low = match (inst.op, operands) {
            (Op::In | Op::State(_) | Op::Param(_) | Op::WideUnary(..) | Op::WideBinary(..), _)
            | (_, None) => None,
            (Op::Pos, _) => Some(Low { carries_up: true, bits: 64 }),
            (op, Some(operands)) => {
                let bits = operands.iter().map(|low| low.bits).max().unwrap_or(0);
                let all_up = operands.iter().all(|low| low.carries_up);
                let carries_up = all_up
                    && match op {
                        Op::Binary(BinaryOp::Shl, _, count) => constants[count.0 as usize].is_some(),
                        Op::Unary(UnaryOp::Not | UnaryOp::Neg, _)
                        | Op::Convert(ConvertOp::Zext | ConvertOp::Trunc, _) => true,
                        Op::Binary(op, ..) => matches!(
                            op,
                            BinaryOp::Add
                                | BinaryOp::Sub
                                | BinaryOp::Mul
                                | BinaryOp::And
                                | BinaryOp::Or
                                | BinaryOp::Xor
                        ),
                        _ => false,
                    };
                // Nothing above the top bit that is kept matters.
                let kept = match op {
                    Op::Binary(BinaryOp::And, a, b) => [a, b]
                        .iter()
                        .filter_map(|operand| constants[operand.0 as usize])
                        .map(|mask| 64 - mask.leading_zeros())
                        .min()
                        .unwrap_or(64),
                    _ => inst.ty.bits(),
                };
                Some(Low { carries_up, bits: if carries_up { bits.min(kept) } else { bits } })
            }
        };
        known.push(low);
    }
    let of = |(index, low): (usize, &Option<Low>)| {
        let low = (*low)?;
        let usable = constants[index].is_none() && low.bits <= MAX_PERIOD.trailing_zeros();
        usable.then(|| (1usize << low.bits).max(pipe.word_bytes()))
    };
    known.iter().enumerate().map(of).collect()
}

/// The values that are constants, computed; with an offset in the stream or the number in a state, also those
/// that depend on nothing else.
pub(super) fn constants_of(
    pipe: &Pipe,
    pos: Option<u64>,
    known_state: Option<(StateId, u64)>,
) -> Vec<Option<u64>> {
    let body = &pipe.body;
    let mut known: Vec<Option<u64>> = Vec::with_capacity(body.insts.len());
    for inst in &body.insts {
        let get = |value: Value| known[value.0 as usize];
        let folded = match inst.op {
            Op::Const(number) => Some(number),
            Op::State(state) => known_state.filter(|(known, _)| *known == state).map(|(_, number)| number),
            Op::In | Op::Param(_) => None,
            Op::WideUnary(..) | Op::WideBinary(..) => None,
            Op::Pos => pos,
            Op::Unary(op, a) => get(a).map(|a| eval::unary(op, inst.ty, a)),
            Op::Binary(op, a, b) => get(a).zip(get(b)).map(|(a, b)| eval::binary(op, inst.ty, a, b)),
            Op::Compare(op, a, b) => get(a).zip(get(b)).map(|(x, y)| eval::compare(op, body.ty(a), x, y)),
            Op::Select { cond, then, otherwise } => {
                get(cond).and_then(|cond| get(if cond != 0 { then } else { otherwise }))
            }
            Op::Modular(op, a, b, m) => {
                get(a).zip(get(b)).zip(get(m)).map(|((a, b), m)| eval::modular(op, inst.ty, a, b, m))
            }
            Op::Convert(op, a) => get(a).map(|x| eval::convert(op, body.ty(a), inst.ty, x)),
            Op::Lookup(table, index) => get(index).map(|index| {
                let values = &pipe.tables[table.0 as usize].values;
                values[(index % values.len() as u64) as usize]
            }),
            Op::Crc(op, acc, x) => get(acc).zip(get(x)).map(|(acc, v)| eval::crc(op, body.ty(x), acc, v)),
        };
        known.push(folded);
    }
    known
}
