//! Values that are known before any word is read: constants, and what depends on the offset in the stream
//! alone.

use crate::ir::{BinaryOp, Block, ConvertOp, Op, Pipe, StateId, Table, UnaryOp, Value, eval};
use crate::plan::target::LaneOps;

/// Positional values with a longer period are computed from the offset.
pub(super) const MAX_PERIOD: usize = 32;

/// The same with [`LaneOps::Common`], where a load costs less than what it saves.
pub(crate) const MAX_COMMON_PERIOD: usize = 256;

/// What is known of a value that depends on nothing but the offset in the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OffsetBits {
    /// Bit `i` depends on no bit of the offset above `i`.
    carries_up: bool,
    /// Number of low bits of the offset that decide the value.
    pub(crate) bits: u32,
}

/// For each value of a body, whether it depends on the offset alone; `constants` are those of the body.
pub(crate) fn offset_bits(body: &Block, constants: &[Option<u64>]) -> Vec<Option<OffsetBits>> {
    let mut known: Vec<Option<OffsetBits>> = Vec::with_capacity(body.insts.len());
    for (value, inst) in body.iter() {
        if constants[value.0 as usize].is_some() {
            known.push(Some(OffsetBits { carries_up: true, bits: 0 }));
            continue;
        }
        let operands: Option<Vec<OffsetBits>> =
            inst.op.operands().map(|operand| known[operand.0 as usize]).collect();
        let low = match (inst.op, operands) {
            (Op::In | Op::State(_) | Op::Param(_) | Op::WideUnary(..) | Op::WideBinary(..), _)
            | (_, None) => None,
            (Op::Pos, _) => Some(OffsetBits { carries_up: true, bits: 64 }),
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
                Some(OffsetBits { carries_up, bits: if carries_up { bits.min(kept) } else { bits } })
            }
        };
        known.push(low);
    }
    known
}

/// For each value, the bytes after which it repeats itself, if it depends on the offset alone and does so
/// soon: those that are loaded ready-made. With [`LaneOps::Common`] what is wider than a word is computed all
/// the same.
pub(super) fn periods(pipe: &Pipe, constants: &[Option<u64>], lanes: LaneOps) -> Vec<Option<usize>> {
    let longest = match lanes {
        LaneOps::All => MAX_PERIOD,
        LaneOps::Common => MAX_COMMON_PERIOD,
    };
    let known = offset_bits(&pipe.body, constants);
    let of = |(index, low): (usize, &Option<OffsetBits>)| {
        let low = (*low)?;
        let fits = lanes == LaneOps::All || pipe.body.insts[index].ty.bytes() <= pipe.word_bytes();
        let usable = fits && constants[index].is_none() && low.bits <= longest.trailing_zeros();
        usable.then(|| (1usize << low.bits).max(pipe.word_bytes()))
    };
    known.iter().enumerate().map(of).collect()
}

/// The values that are constants, computed; with an offset in the stream or the number in a state, also those
/// that depend on nothing else.
pub(crate) fn constants_of(
    body: &Block,
    tables: &[Table],
    pos: Option<u64>,
    known_state: Option<(StateId, u64)>,
) -> Vec<Option<u64>> {
    let mut known: Vec<Option<u64>> = Vec::with_capacity(body.insts.len());
    for inst in &body.insts {
        let get = |value: Value| known[value.0 as usize];
        let folded = match inst.op {
            Op::State(state) => known_state.filter(|(known, _)| *known == state).map(|(_, number)| number),
            Op::Pos => pos,
            // The other one need not be known.
            Op::Select { cond, then, otherwise } => {
                get(cond).and_then(|cond| get(if cond != 0 { then } else { otherwise }))
            }
            op if op.operands().all(|operand| get(operand).is_some()) => {
                eval::apply(op, inst.ty, tables, |value| body.ty(value), |value| get(value).unwrap_or(0))
            }
            _ => None,
        };
        known.push(folded);
    }
    known
}
