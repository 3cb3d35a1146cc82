//! A pass as one loop over vectors, decided on before there is any code: the stages, the target, and how many
//! vectors an iteration takes. A generator emits it as it is, or says that its registers do not suffice.

use super::Refusal;
use super::stage::{StateForm, VectorStage};
use super::target::{LaneOps, Target};
use crate::analyse::gf2::Crc;
use crate::analyse::{Analysed, Reduce};
use crate::ir::{CrcOp, Endian, Op, Pipe, Ty, Value};

/// Vectors in one iteration of the main loop, most first: fewer where the registers do not suffice.
pub(crate) const UNROLLS: [usize; 4] = [8, 4, 2, 1];

/// Vectors in one iteration where the `crc32` instruction takes all but the last of them and that one is
/// folded, in two halves: the processors in question do one instruction of 8 bytes a cycle, and one
/// carry-less product in two, so 64 bytes and the four products of 32 take as long.
pub(crate) const CRC_GROUP: usize = 3;

/// Most machine instructions of a function before registers: a compile must not take seconds whatever the
/// program.
pub(crate) const MAX_ITEMS: usize = 200_000;

/// Most instructions of a plan, which counts some too few: no code is better for being longer than the caches
/// of instructions, and passes over blocks cost less than a function that is given up.
const MAX_PLANNED: usize = 50_000;

/// Mask registers that may be kept around the loops: one is never free, and one is for what the loop
/// computes.
pub(crate) const MAX_MASKS: usize = 6;

/// What a generator makes a loop of.
#[derive(Clone, Debug)]
pub(crate) struct WidePlan {
    pub(crate) target: Target,
    /// In stream order.
    pub(crate) stages: Vec<VectorStage>,
    /// Vectors in one iteration of the main loop: one of [`UNROLLS`], or [`CRC_GROUP`].
    pub(crate) unroll: usize,
    /// Sets of accumulators for them, of states that one addition a vector is enough for: no more than
    /// `unroll`, and a power of two as well.
    pub(crate) sets: usize,
    pub(crate) edges: Edges,
    /// A CRC of which an instruction makes a part.
    pub(crate) shared: Option<SharedCrc>,
}

/// What comes before and behind the loop over whole vectors, where source and destination have no holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edges {
    /// A stretch of no more than a vector is what is left otherwise, even a whole one: masks reach so far.
    pub(crate) takes_whole: bool,
    /// Of long stretches, as much first as takes the destination to a whole vector.
    pub(crate) aligns: bool,
    /// What is left is the last whole vector of the stretch once more, and stretches of up to two vectors
    /// have no loop: where there are no masks by the byte, words are only added up, and nothing depends on
    /// where they are.
    pub(crate) overlaps: bool,
    /// No state keeps the loop from being entered in the middle of an iteration; see
    /// [`Edges::enters_within`].
    pub(crate) enters_anywhere: bool,
}

/// The CRC-32C that is made by the `crc32` instruction beside carry-less products, where vectors are narrow
/// and both work at once: of bytes that stay where they are. The instruction has one register for its sum: it
/// works for one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SharedCrc {
    /// Among the pass's stages.
    pub(crate) stage: usize,
    /// Among the stage's states.
    pub(crate) state: usize,
    /// The bytes have been changed, so they are read from the destination.
    pub(crate) reads_back: bool,
    /// Most vectors of a group, of which one is folded.
    most: usize,
}

impl SharedCrc {
    /// The first such state. With vectors of 512 bits multiplication alone is hardly slower.
    fn of(stages: &[VectorStage], target: &Target) -> Option<SharedCrc> {
        if target.masks || !target.crcs {
            return None;
        }
        let changes = stages.iter().rposition(|stage| stage.pipe.out.is_some());
        let behind = changes.map_or(0, |at| at + 1);
        let found = stages.iter().enumerate().skip(behind).find_map(|(at, stage)| {
            let takes = |form: &StateForm| {
                matches!(form, StateForm::Crc(crc, value) if is_crc_instruction(&stage.pipe, *crc, *value))
            };
            Some((at, stage.forms.iter().position(takes)?))
        });
        let (stage, state) = found?;
        // A product of 256 bits takes no longer than one of 128.
        let most = if target.clmul64 { 2 } else { CRC_GROUP };
        Some(SharedCrc { stage, state, reads_back: changes.is_some(), most })
    }

    /// Vectors of a group, if an iteration of so many has whole groups.
    pub(crate) fn group(self, unroll: usize) -> Option<usize> {
        let group = self.most.min(unroll);
        (group > 1 && unroll.is_multiple_of(group)).then_some(group)
    }
}

/// Whether there is an instruction that makes that CRC of a stage's words as they are.
fn is_crc_instruction(pipe: &Pipe, crc: Crc, operand: Value) -> bool {
    let in_order = pipe.input.endian == Endian::Little && pipe.body.inst(operand).op == Op::In;
    in_order && crc == Crc::from(CrcOp::Crc32c)
}

impl Edges {
    pub(crate) fn of(stages: &[VectorStage], target: &Target) -> Edges {
        let any = |is: &dyn Fn(&VectorStage) -> bool| stages.iter().any(is);
        let ordered = any(&|stage| stage.forms.iter().any(StateForm::is_ordered));
        // What was loaded for the place at which a stretch begins would not do for another one.
        let anywhere = !ordered && !any(&|stage| stage.keeps_patterns(target));
        Edges {
            takes_whole: target.masks && !ordered,
            aligns: target.masks && anywhere,
            overlaps: !target.masks && anywhere && !any(&VectorStage::reads_pos),
            enters_anywhere: !any(&|stage| !stage.forms.iter().all(StateForm::enters_anywhere)),
        }
    }

    /// Whether the loop over whole vectors is entered at the copy from which whole iterations are left; else
    /// single vectors follow it. A group of vectors that share a CRC is whole or not begun.
    pub(crate) fn enters_within(self, unroll: usize, shares_crc: bool) -> bool {
        self.enters_anywhere && unroll.is_power_of_two() && !shares_crc
    }
}

impl WidePlan {
    /// The plan for the first of the `targets` that has all that the stages need.
    pub(crate) fn new(stages: &[Analysed], targets: &[Option<Target>]) -> Result<WidePlan, Refusal> {
        let stages =
            stages.iter().map(|stage| VectorStage::of(stage, LaneOps::All)).collect::<Result<Vec<_>, _>>()?;
        let mut refusal = Refusal::Cannot("neither AVX2 nor AVX-512 to use".to_owned());
        for (index, target) in targets.iter().flatten().enumerate() {
            match stages.iter().try_for_each(|stage| stage.check(target)) {
                Ok(()) => return WidePlan::on(*target, stages),
                Err(what) if index == 0 => refusal = what.into(),
                Err(_) => {}
            }
        }
        Err(refusal)
    }

    fn on(target: Target, stages: Vec<VectorStage>) -> Result<WidePlan, Refusal> {
        let edges = Edges::of(&stages, &target);
        let shared = SharedCrc::of(&stages, &target);
        let mut plan = WidePlan { target, stages, unroll: 4, sets: UNROLLS[0], edges, shared };
        if plan.waits_for_dots() {
            plan.unroll = 8;
        } else if shared.is_some() && !target.clmul64 {
            plan.unroll = CRC_GROUP;
        }
        if !target.masks {
            plan.sets = if plan.accumulators() > 1 || !plan.unroll.is_multiple_of(2) { 1 } else { 2 };
        }
        // The copies of an iteration, the remainder and what comes before or behind the iterations are a
        // vector each.
        let size = plan.size();
        while size * (plan.unroll + 2) > MAX_PLANNED {
            plan.unroll = plan.fewer().ok_or(Refusal::TooLong)?;
        }
        if plan.stages.iter().map(|stage| stage.masks(&target)).sum::<usize>() > MAX_MASKS {
            return Err(Refusal::OutOfRegisters);
        }
        // What is sure not to fit is not tried.
        while plan.registers() > target.registers {
            plan.unroll = plan.fewer().ok_or(Refusal::OutOfRegisters)?;
        }
        Ok(plan)
    }

    /// The next shorter iteration.
    fn fewer(&self) -> Option<usize> {
        UNROLLS.into_iter().find(|fewer| *fewer < self.unroll)
    }

    /// At least so many machine instructions are the stages on one vector.
    pub(crate) fn size(&self) -> usize {
        self.stages.iter().map(VectorStage::size).sum()
    }

    /// At least so many registers are taken for the whole of the loop.
    fn registers(&self) -> usize {
        let sets = self.sets.min(self.unroll);
        self.stages.iter().map(|stage| stage.registers(&self.target, sets)).sum()
    }

    /// States that are added to once a vector or more often.
    ///
    /// An addition takes a cycle, as storing a vector does, and only what waits for itself longer than all
    /// else takes needs a second set of accumulators. With 512 bits there are registers for as many sets as
    /// vectors, and dot products, which take longer; with 256 bits each set is two registers less for
    /// constants, and clearing it and bringing it together count in a short transfer.
    fn accumulators(&self) -> usize {
        let accumulates =
            |form: &&StateForm| matches!(form, StateForm::Reduction(..) | StateForm::Sum { .. });
        self.stages.iter().map(|stage| stage.forms.iter().filter(accumulates).count()).sum()
    }

    /// Whether a stage writes something.
    pub(crate) fn modifies(&self) -> bool {
        self.stages.iter().any(|stage| stage.pipe.out.is_some())
    }

    /// Bytes of the longest word of the stages.
    pub(crate) fn gauge(&self) -> usize {
        self.stages.iter().map(|stage| stage.pipe.word_bytes()).max().unwrap_or(1)
    }

    /// Whether the main loop has so little to do that four accumulators a state do not hide how long a dot
    /// product takes (six cycles): eight do.
    fn waits_for_dots(&self) -> bool {
        if !self.target.waits {
            return false;
        }
        let (mut dots, mut products, mut others) = (0, 0, 0);
        for stage in &self.stages {
            for (state, form) in stage.pipe.states.iter().zip(&stage.forms) {
                match form {
                    StateForm::Constant => {}
                    StateForm::Reduction(Reduce::Addc, addends) if state.ty == Ty::U16 => {
                        dots += 2 * addends.len();
                    }
                    // Multiplications take longer still.
                    StateForm::Linear(system, _) if system.modulus == 0 && system.states.len() == 1 => {
                        match state.ty.bytes() <= stage.pipe.word_bytes() {
                            true => products += 1,
                            false => return false,
                        }
                    }
                    _ => return false,
                }
            }
            let computes = |value: Value| {
                let free = matches!(stage.pipe.body.inst(value).op, Op::In | Op::State(_) | Op::Param(_));
                let index = value.0 as usize;
                !free && stage.needed[index] && stage.constants[index].is_none()
            };
            others += stage.pipe.body.iter().filter(|(value, _)| computes(*value)).count();
            others += usize::from(stage.pipe.out.is_some() && stage.pipe.input != stage.pipe.output);
        }
        match (dots, products, others) {
            // Latency is all there is to a hash; a sum alone is no faster for more accumulators, and ends
            // later.
            (0, 1, 0) => true,
            // Two ports: four operations of one vector keep them busy for long enough.
            _ => dots + products > 0 && others > 0 && dots + products + others <= 3,
        }
    }
}
