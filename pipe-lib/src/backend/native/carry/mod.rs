//! What a loop carries from word to word: one file a kind of state, one life for all of them.
//!
//! ```text
//!     new                 takes registers, imports the state
//!     clear_copies        in front of the unrolled loop: its other copies' registers
//!     begin_unrolled      the same, where the imported state has a place among the copies
//!         step            takes the words of one vector, into the registers of one copy
//!     merge_copies        behind it: all copies in the first one
//!     step                the remainder, as the first copy; or `no_remainder`
//!     finish              lanes together with the imported state, which is written back
//! ```
//!
//! A *copy* is one vector's share of the unrolled loop's body; copies that have registers of their own do not
//! wait for each other.

mod counter;
pub(super) mod crc;
pub(super) mod crc_beside;
mod crc_reduce;
mod crc_residue;
mod delay;
mod field;
pub(super) mod induction;
pub(super) mod iterated_sums;
pub(super) mod lagged;
pub(super) mod linear;
mod pair;
pub(super) mod reduction;
mod scan;
pub(super) mod sums;

use super::abi::Round;
use super::lanes::Lane;
use super::lower::BodyLowering;
use super::vcode::{Builder, VReg};
use crate::ir::{StateId, Ty};
use crate::plan::induction::Step;
use crate::plan::stage::{StateForm, VectorStage};
use crc_beside::Beside;

/// Which part of the stream a vector is.
#[derive(Clone, Copy, Debug)]
pub(super) enum LoopPart {
    /// A whole vector: number `copy` of the `distance` that an iteration takes.
    Whole { copy: usize, distance: usize },
    /// The last one, in part.
    Remainder { masking: Option<Masking>, round: Round },
}

impl LoopPart {
    pub(super) const fn is_whole(self) -> bool {
        matches!(self, LoopPart::Whole { .. })
    }

    pub(super) const fn copy(self) -> usize {
        match self {
            LoopPart::Whole { copy, .. } => copy,
            LoopPart::Remainder { .. } => 0,
        }
    }

    /// Which words count, if not all do.
    pub(super) const fn masking(self) -> Option<Masking> {
        match self {
            LoopPart::Whole { .. } => None,
            LoopPart::Remainder { masking, .. } => masking,
        }
    }
}

/// Which words of the last vector count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Masking {
    /// A condition on the stage's words.
    pub(super) active: VReg,
    /// Words that do not count are zero in the bytes that the stage reads.
    pub(super) zero_beyond: bool,
}

/// When a state takes its step in the body of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Before anything is computed: the body reads it.
    Before,
    /// Between what depends on no state and what does.
    Between,
    /// When everything has been computed.
    After,
}

/// What the frame has to know of a state to place the loops around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    pub(super) due: Due,
    /// Its step in the remainder takes which words count ([`LoopPart::masking`]).
    pub(super) masked: bool,
    /// The remainder's step brings the lanes together, so that there is something to do without one, too.
    pub(super) ends_in_remainder: bool,
    /// Its end reads how long the remainder is, which those of others may overwrite.
    pub(super) ends_first: bool,
    /// It reads from the destination what the stages before have made.
    pub(super) reads_back: bool,
}

impl Traits {
    /// Of partial results that add up in any order.
    pub(super) const UNORDERED: Traits = Traits {
        due: Due::After,
        masked: true,
        ends_in_remainder: false,
        ends_first: false,
        reads_back: false,
    };

    /// For what depends on the position of each word, and corrects for it where the loop is entered.
    pub(super) const ORDERED: Traits = Traits { masked: false, ..Traits::UNORDERED };
}

/// One state, or several that are carried together.
pub(super) trait LoopCarried: Send + Sync {
    fn traits(&self) -> Traits;

    /// In front of the unrolled loop: registers of copies other than the first, which hold nothing yet.
    fn clear_copies(&self, _b: &mut Builder) {}

    /// In front of the unrolled loop, which is entered at copy number rax: the imported state comes before
    /// that copy's vector. Changes r9.
    fn begin_unrolled(&self, _b: &mut Builder) {}

    /// Takes the words of one vector. Of the remainder it changes rax and r9.
    fn step(&mut self, body: &mut BodyLowering<'_>, part: LoopPart) -> Result<(), String>;

    /// Behind the unrolled loop: all copies in the first one.
    fn merge_copies(&self, _b: &mut Builder) {}

    /// Instead of the remainder's step, where there is none and [`Traits::ends_in_remainder`] says so.
    fn no_remainder(&self, _b: &mut Builder) {}

    /// Brings all together and writes the state back.
    fn finish(&self, b: &mut Builder);

    /// Instead of `finish`: two such sums end together, by [`reduction::ones_sums`].
    fn ones_sum(&self) -> Option<&reduction::ReductionLanes> {
        None
    }

    /// Where it is during the loop, for people to read.
    fn description(&self) -> String;

    /// Whether its partial results are of byte-swapped words.
    fn is_swapped(&self) -> bool {
        false
    }
}

/// A state's place among those of the function, and how many vectors an iteration takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatePlace {
    /// Of the first state of the stage.
    pub(super) first_state: usize,
    pub(super) unroll: usize,
    /// Sets of accumulators that these share in turn, where one set for all would be as fast.
    pub(super) sets: usize,
    /// Other stages fill the time that vectors one after the other take.
    pub(super) busy: bool,
    /// How an instruction makes a part of it, if it is that CRC.
    pub(super) beside: Option<Beside>,
}

impl StatePlace {
    /// Where a state of the stage is, in bytes from the start of the states.
    fn offset(self, state: usize) -> i32 {
        8 * (self.first_state + state) as i32
    }
}

/// Takes registers for a state of a stage and imports it; nothing for a state that does not change, or that
/// an earlier one carries along.
pub(super) fn of(
    b: &mut Builder,
    plan: &VectorStage,
    state: usize,
    place: StatePlace,
) -> Result<Option<Box<dyn LoopCarried>>, String> {
    let pipe = &*plan.pipe;
    let word = Lane::of_bytes(pipe.word_bytes());
    let ty = pipe.states[state].ty;
    let offset = place.offset(state);
    Ok(Some(match &plan.forms[state] {
        StateForm::Constant | StateForm::Member | StateForm::SumOfSums => return Ok(None),
        StateForm::Reduction(fold, addends) => {
            Box::new(reduction::ReductionLanes::new(b, plan, ty, *fold, addends, place, offset))
        }
        StateForm::Crc(crc, value) => {
            Box::new(crc::CrcLanes::new(b, pipe, (*crc, *value), place.unroll, place.beside, offset)?)
        }
        StateForm::Linear(system, operands) => {
            let offsets = system.states.iter().map(|state| place.offset(*state)).collect();
            Box::new(linear::LinearLanes::new(b, pipe, system, operands, place.unroll, offsets))
        }
        StateForm::IteratedSums(system, operand) => {
            let offsets = system.states.iter().map(|state| place.offset(*state)).collect();
            Box::new(iterated_sums::IteratedSums::new(b, pipe, system, *operand, offsets))
        }
        StateForm::Sum { modulus, end_around, word: value, second } => {
            let other = second.map_or(state, |second| second.state.0 as usize);
            Box::new(sums::SumLanes::new(
                b,
                word,
                ty.max(pipe.states[other].ty),
                (*modulus, *end_around),
                *second,
                *value,
                pipe.tail,
                place,
                [offset, place.offset(other)],
            ))
        }
        StateForm::Field(factor, operand) => {
            let places = [offset, place.offset(factor.0 as usize)];
            Box::new(field::FieldState::new(b, pipe, *operand, place.unroll, places))
        }
        StateForm::Induction(Step::Affine { factor: 1, term }) if pipe.input.ty == Ty::U128 => {
            Box::new(counter::Counter::new(b, pipe, state, *term, offset))
        }
        StateForm::Induction(step) => Box::new(induction::Induction::new(b, pipe, state, step, offset)),
        StateForm::Delay(value) => Box::new(delay::Delay::new(b, word, state, *value, offset)),
        StateForm::Scan(running) => {
            Box::new(scan::Scan::new(b, word, *running, state, pipe.next[state], offset))
        }
        StateForm::Lagged(running, states) => {
            let states = states.iter().map(|state| (StateId(*state as u32), place.offset(*state))).collect();
            Box::new(lagged::Lagged::new(b, word, *running, states, pipe.next[state]))
        }
    }))
}
