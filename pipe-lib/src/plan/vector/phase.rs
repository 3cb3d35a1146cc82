//! Values that depend on the offset in the stream alone and repeat within a register: tables instead of code.

use super::lanes::StageLowering;
use super::lower::Group;
use super::{Phase, VectorOp};
use crate::analyse::rewrite::evaluate;
use crate::ir::{BinaryOp, Block, ConvertOp, Op, Ty, UnaryOp, Value};

/// What is known of a value's dependence on the offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Positional {
    /// Depends on `pos` and on nothing else that varies.
    pub(super) alone: bool,
    /// A function of this many low bits of `pos`.
    pub(super) bits: u32,
    /// Its own low `k` bits are a function of the low `k` bits of `pos`, for every `k`.
    pub(super) closed: bool,
}

/// Tables of positional values in one pass: each costs a register, and time to compute.
const MAX_PHASES: usize = 8;

/// Longest period, in bytes as a power of two, that is put into a table.
const PHASE_BITS: u32 = 8;

pub(super) fn positional(block: &Block) -> Vec<Positional> {
    let mut known: Vec<Positional> = Vec::with_capacity(block.insts.len());
    for (_, inst) in block.iter() {
        let operands = || inst.op.operands().map(|operand| known[operand.0 as usize]);
        let bits = operands().map(|operand| operand.bits).max().unwrap_or(0);
        let alone = operands().all(|operand| operand.alone);
        let closed = operands().all(|operand| operand.closed);
        let literal = |value: Value| match block.inst(value).op {
            Op::Const(c) => Some(c),
            _ => None,
        };
        known.push(match inst.op {
            Op::Pos => Positional { alone: true, bits: 64, closed: true },
            Op::Const(_) => Positional { alone: true, bits: 0, closed: true },
            Op::In | Op::State(_) | Op::Param(_) => Positional { alone: false, bits: 0, closed: false },
            Op::Binary(BinaryOp::And, _, mask) if closed && literal(mask).is_some() => {
                let width = 64 - literal(mask).unwrap_or(u64::MAX).leading_zeros();
                Positional { alone, bits: bits.min(width), closed }
            }
            Op::Convert(ConvertOp::Trunc, _) if closed => {
                Positional { alone, bits: bits.min(inst.ty.bits()), closed }
            }
            Op::Binary(op, ..) => {
                use BinaryOp as B;
                let keeps = matches!(op, B::Add | B::Sub | B::Mul | B::And | B::Or | B::Xor);
                Positional { alone, bits, closed: closed && keeps }
            }
            Op::Unary(op, _) => {
                Positional { alone, bits, closed: closed && matches!(op, UnaryOp::Neg | UnaryOp::Not) }
            }
            Op::Convert(op, _) => Positional { alone, bits, closed: closed && op == ConvertOp::Zext },
            _ => Positional { alone, bits, closed: false },
        });
    }
    known
}

impl StageLowering<'_> {
    /// Whether a value's lanes come from a table: it depends on the offset alone and repeats soon.
    pub(super) fn is_tabled(&self, value: Value) -> bool {
        let Positional { alone, bits, .. } = self.positional[value.0 as usize];
        alone && bits > 0 && bits <= PHASE_BITS && self.lane(self.block.ty(value)) == self.word
    }

    /// The lanes of a value that [`StageLowering::is_tabled`].
    pub(super) fn phase(&mut self, value: Value) -> Result<Group, String> {
        let ty = self.block.ty(value);
        let lane = self.lane(ty);
        let period = (1usize << self.positional[value.0 as usize].bits).max(usize::from(lane));
        let mut bytes = Vec::with_capacity(period);
        for pos in (0..period as u64).step_by(usize::from(lane)) {
            let number =
                self.at(value, pos).ok_or("a positional value that cannot be computed beforehand")?;
            let number = if ty == Ty::Bool { 0u64.wrapping_sub(number) } else { number };
            bytes.extend_from_slice(&number.to_le_bytes()[..usize::from(lane)]);
        }
        let phases = &mut self.to.body.phases;
        let phase = Phase { bytes };
        let index = match phases.iter().position(|known| *known == phase) {
            Some(index) => index,
            None if phases.len() == MAX_PHASES => {
                return Err(format!("more than {MAX_PHASES} positional values"));
            }
            None => {
                phases.push(phase);
                phases.len() - 1
            }
        };
        let reg = self.to.emit(VectorOp::Phase(index as u32), lane);
        Ok(Group { lane, regs: vec![reg] })
    }

    /// The number that a value has at offset `pos` (a multiple of the word), if it depends on that alone.
    fn at(&mut self, value: Value, pos: u64) -> Option<u64> {
        let index = (pos / u64::from(self.word)) as usize;
        while self.numbers.len() <= index {
            let pos = self.numbers.len() as u64 * u64::from(self.word);
            let mut numbers: Vec<Option<u64>> = Vec::with_capacity(self.block.insts.len());
            for (_, inst) in self.block.iter() {
                let mut args = [Some(0); 3];
                let mut operand_ty = inst.ty;
                for (slot, operand) in args.iter_mut().zip(inst.op.operands()) {
                    *slot = numbers[operand.0 as usize];
                    operand_ty = self.block.ty(operand);
                }
                numbers.push(match (inst.op, args) {
                    (Op::Pos, _) => Some(pos),
                    (op, [Some(a), Some(b), Some(c)]) => {
                        evaluate(&op, inst.ty, operand_ty, [a, b, c], self.tables)
                    }
                    _ => None,
                });
            }
            self.numbers.push(numbers);
        }
        self.numbers[index][value.0 as usize]
    }
}
