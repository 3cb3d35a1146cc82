//! A pass as code for any machine with 128-bit vectors, or none: a loop over vectors where all stages have
//! one, the fused word for what that leaves, and the tail.

use super::Refusal;
use super::scalar::{self, Fused};
use super::target::Target;
use super::vector::{self, Accumulator, Carry, VectorBody, VectorOp};
use crate::analyse::Analysed;
use crate::ir::{BinaryOp, Op, UnaryOp};

/// Bytes of a portable vector.
pub(crate) const VECTOR_BYTES: usize = 16;

/// Most operations of a loop word: register allocation takes longer than in proportion, and a compile must
/// not take seconds whatever the program.
const MAX_WEIGHT: usize = 20_000;

/// Most instructions of a loop word before anything is simplified.
const MAX_RAW: usize = 100_000;

/// Most registers of partial results of a pass.
pub(crate) const MAX_PARTIALS: usize = 32;

/// Chunks a turn, at most.
pub(crate) const UNROLL: usize = 4;

/// Registers for the accumulators of a turn; the others are for what a chunk computes.
const ACCUMULATOR_REGISTERS: usize = 12;

/// What a pass is before there is code.
#[derive(Debug)]
pub(crate) struct PortablePlan {
    /// Bytes of the loop word.
    pub(crate) gauge: usize,
    pub(crate) word: Fused,
    pub(crate) tail: Fused,
    /// Why it is word after word, if it is.
    pub(crate) vector: Result<VectorLoop, String>,
}

/// A loop over vectors.
#[derive(Debug)]
pub(crate) struct VectorLoop {
    pub(crate) body: VectorBody,
    /// Chunks a turn.
    pub(crate) unroll: usize,
}

impl PortablePlan {
    /// The plan for the stages of a pass; `serial`, without vectors.
    pub(crate) fn new(
        stages: &[Analysed],
        target: Option<&Target>,
        serial: bool,
    ) -> Result<PortablePlan, Refusal> {
        if let Some(pipe) = stages.iter().find(|pipe| pipe.is_wide()) {
            return Err(format!("the values of 128 bits of pipe `{}`", pipe.name).into());
        }
        let gauge = stages.iter().map(|pipe| pipe.word_bytes()).max().unwrap_or(1);
        let raw: usize =
            stages.iter().map(|pipe| pipe.body.insts.len() * (gauge / pipe.word_bytes()).max(1)).sum();
        if raw > MAX_RAW {
            return Err(format!("{raw} instructions in one loop word (the limit is {MAX_RAW})").into());
        }
        let plan = PortablePlan {
            gauge,
            word: scalar::word(stages, gauge),
            tail: scalar::tail(stages, gauge),
            vector: if serial { Err("as was asked for".to_owned()) } else { vector_loop(stages, target) },
        };
        let size = weight(&plan.word) + weight(&plan.tail);
        if size > MAX_WEIGHT {
            return Err(format!("{size} operations in one loop word (the limit is {MAX_WEIGHT})").into());
        }
        Ok(plan)
    }

    /// Whether words that are left after the last whole chunk are done one by one, as incomplete ones are.
    pub(crate) fn by_chunks(&self) -> bool {
        self.gauge > 1 && self.vector.is_ok()
    }
}

/// The loop over vectors, if all stages have a form in it.
pub(crate) fn vector_loop(stages: &[Analysed], target: Option<&Target>) -> Result<VectorLoop, String> {
    if target.is_none() {
        return Err("this machine's vectors are not used".into());
    }
    let body = vector::lower(stages)?;
    let carried = body.carries.iter().map(Carry::registers).sum::<usize>();
    let partials = body.accumulators.iter().map(Accumulator::registers).sum::<usize>();
    if partials + carried > MAX_PARTIALS {
        return Err(format!("{} registers of partial results", partials + carried));
    }
    let mut unroll = UNROLL;
    while unroll > 1 && partials * unroll + carried > ACCUMULATOR_REGISTERS {
        unroll /= 2;
    }
    let size = body.insts.len() * (unroll + 1);
    if size > MAX_WEIGHT {
        return Err(format!("{size} vector operations (the limit is {MAX_WEIGHT})"));
    }
    check(&body)?;
    Ok(VectorLoop { body, unroll })
}

/// Refuses what portable vectors have no form for, and what the scalar loop does as fast.
fn check(body: &VectorBody) -> Result<(), String> {
    use BinaryOp as B;
    let has_shift = |op, lane| lane < 4 || (lane == 4 && op == B::Shl);
    for inst in &body.insts {
        match inst.op {
            VectorOp::Unary(op @ (UnaryOp::Clz | UnaryOp::Ctz), _) if inst.lane == 8 => {
                return Err(format!("`{}` of 64-bit lanes", op.name()));
            }
            VectorOp::Binary(op @ (B::Addc | B::Clmul | B::Clmulh | B::Rotr), ..) => {
                return Err(format!("`{}` in lanes", op.name()));
            }
            VectorOp::Binary(op @ (B::Shl | B::Shr | B::Sar | B::Rotl), _, count)
                if body.splat(count).is_none() && !has_shift(op, inst.lane) =>
            {
                return Err(format!("`{}` of {}-bit lanes by a count that varies", op.name(), 8 * inst.lane));
            }
            _ => {}
        }
    }
    Ok(())
}

/// About the number of instructions that a block takes.
fn weight(fused: &Fused) -> usize {
    let cost = |op: &Op| match op {
        Op::Binary(BinaryOp::Clmul | BinaryOp::Clmulh, ..) => 256,
        Op::Crc(..) => 40,
        Op::Modular(..) => 24,
        _ => 1,
    };
    fused.block.insts.iter().map(|inst| cost(&inst.op)).sum()
}
