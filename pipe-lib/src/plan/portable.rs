//! A pass as code for any machine with 128-bit vectors, or none: a loop over vectors where all stages have
//! one, the fused word for what that leaves, and the tail.

use super::Refusal;
use super::scalar::{self, Fused};
use super::stage::{StateForm, VectorStage};
use super::target::Target;
use crate::analyse::Analysed;
use crate::ir::{BinaryOp, Op};

/// Bytes of a portable vector.
pub(crate) const VECTOR_BYTES: usize = 16;

/// Most operations of a loop word, or of an iteration over vectors: register allocation takes longer than in
/// proportion, and a compile must not take seconds whatever the program.
pub(crate) const MAX_WEIGHT: usize = 20_000;

/// Most instructions of a loop word before anything is simplified.
const MAX_RAW: usize = 100_000;

/// Most registers of partial results of a pass.
pub(crate) const MAX_PARTIALS: usize = 32;

/// Vectors an iteration, at most.
pub(crate) const UNROLL: usize = 4;

/// States that may pass from word to word in one stage: each takes a register for the whole loop.
const MAX_CARRIED: usize = 6;

/// What a pass is before there is code.
#[derive(Debug)]
pub(crate) struct PortablePlan {
    /// Bytes of the loop word.
    pub(crate) gauge: usize,
    pub(crate) word: Fused,
    pub(crate) tail: Fused,
    /// The stages of a loop over vectors, or why it is word after word.
    pub(crate) vector: Result<Vec<VectorStage>, String>,
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
            vector: if serial { Err("as was asked for".to_owned()) } else { vector_stages(stages, target) },
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

/// The stages in vectors of a target, if all have a form in them.
pub(crate) fn vector_stages(
    stages: &[Analysed],
    target: Option<&Target>,
) -> Result<Vec<VectorStage>, String> {
    let Some(target) = target else { return Err("this machine's vectors are not used".into()) };
    if stages.iter().any(|pipe| pipe.is_wide()) {
        return Err("values of 128 bits".into());
    }
    let mut planned = Vec::with_capacity(stages.len());
    let mut size = 0;
    for stage in stages {
        let stage = VectorStage::of(stage, target.lanes)?;
        stage.check(target)?;
        let added_up = |form: &&StateForm| {
            matches!(
                form,
                StateForm::Constant | StateForm::Reduction(..) | StateForm::Sum { second: None, .. }
            )
        };
        let carried = stage.forms.len() - stage.forms.iter().filter(added_up).count();
        if carried > MAX_CARRIED {
            return Err(format!("more than {MAX_CARRIED} states that pass from word to word"));
        }
        size += stage.size();
        planned.push(stage);
    }
    if size * (UNROLL + 1) > MAX_WEIGHT {
        return Err(format!(
            "{size} vector operations an iteration (the limit is {MAX_WEIGHT} with all copies)"
        ));
    }
    Ok(planned)
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
