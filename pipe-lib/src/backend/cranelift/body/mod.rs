//! All stages of a pass as one straight-line block over vector registers.
//!
//! Every pipe keeps the number of bytes, so one register full of stream (a *chunk*) goes in and one comes
//! out, and each stage works on the chunk in lanes of its own word's size. A value of a type wider than the
//! word takes several registers; one of a narrower type sits zero-extended in the word's lanes; a `bool` is a
//! lane of ones or zeros. Reductions contribute their operands to accumulators, of which a backend keeps one
//! set per unrolled copy.
//!
//! What each state is kept as, and that the target carries it, the plan has decided
//! ([`crate::plan::stage`]). Here is how: operations that Cranelift lacks for a lane are put together from
//! those that it has, and what takes more registers or instructions together than the plan counted is an
//! `Err`; the scalar block then does the pass.

mod carried;
mod lanes;
mod lower;
mod modular;
mod narrow;
mod phase;
mod saturating;
mod system;
mod tables;
mod widths;

use lower::lower;

use crate::analyse::Reduce;
use crate::ir::{BinaryOp, CompareOp, Ty, UnaryOp};
use crate::plan::induction::Step;
use crate::plan::portable::{MAX_PARTIALS, MAX_WEIGHT, PortablePlan, UNROLL};
use crate::plan::stage::VectorStage;

/// Registers for the accumulators of an iteration; the others are for what a chunk computes.
const ACCUMULATOR_REGISTERS: usize = 12;

/// The loop over vectors of a pass.
#[derive(Debug)]
pub(crate) struct LaneLoop {
    pub(crate) body: VectorBody,
    /// Chunks an iteration.
    pub(crate) unroll: usize,
}

impl LaneLoop {
    /// The loop of a plan that has one; where it turns out to take too much, the plan is without.
    pub(super) fn of(plan: &mut PortablePlan) -> Option<LaneLoop> {
        let made = LaneLoop::new(plan.vector.as_ref().ok()?);
        made.map_err(|why| plan.vector = Err(why)).ok()
    }

    fn new(stages: &[VectorStage]) -> Result<LaneLoop, String> {
        let body = lower(stages)?;
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
        Ok(LaneLoop { body, unroll })
    }
}

/// Names the result of a vector instruction: one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Reg(pub u32);

/// A vector operation, lane by lane unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum VectorOp {
    /// The chunk as read from memory.
    Chunk,
    /// A literal in every lane.
    Splat(u64),
    /// A state that the loop does not change, in every lane.
    Invariant(u32),
    /// Bytes that depend on the offset in the stream alone: the index of a [`VectorBody::phases`] entry.
    Phase(u32),
    /// The offset in the stream of each lane's word, modulo the lane.
    Offset {
        /// Which of the registers that the chunk's offsets take.
        nth: u8,
        /// Bytes of a word.
        word: u8,
    },
    /// The values of a state that depends only on itself: the register of a [`Carry::Induction`].
    Induction(u32),
    /// Each lane of such values as many words later as a register has lanes.
    Later {
        /// The values.
        of: Reg,
        /// Index of the [`VectorBody::carries`] entry, a [`Carry::Induction`].
        carry: u32,
    },
    /// For each lane, the table entry whose index is the lane's value; the table is one of
    /// [`VectorBody::tables`]. Lanes are below the table's length.
    Lookup(u32, Reg),
    /// Any.
    Unary(UnaryOp, Reg),
    /// Any but `addc`, `rotr` and carry-less products; saturating ones in lanes of 8 and 16 bits only. Counts
    /// of shifts and rotates are below the lane's bits.
    Binary(BinaryOp, Reg, Reg),
    /// Lanes of ones where it holds, of zeros elsewhere.
    Compare(CompareOp, Reg, Reg),
    /// Lane masks choose between the second and the third.
    Select(Reg, Reg, Reg),
    /// The low or high half of the lanes, in stream order, at twice the width.
    Extend {
        /// Lanes of half the width.
        from: Reg,
        /// The later half of the stream's words.
        high: bool,
        /// Copies of the sign bit enter (masks stay masks).
        signed: bool,
    },
    /// The low halves of all lanes of two registers, in stream order.
    Narrow(Reg, Reg),
    /// The lanes of `of` one word later: the first lane is the last one of the chunk before, or the state.
    Previous {
        /// What the state becomes at each word.
        of: Reg,
        /// Index of the [`VectorBody::carries`] entry.
        carry: u32,
    },
    /// The lanes of `of` one word later; the first lane is the last one of `before`.
    Slide {
        /// The register of the chunk before `of` in the stream.
        before: Reg,
        /// What is moved.
        of: Reg,
    },
    /// For each lane, the state combined with all operands up to that lane. Several registers of one carry
    /// come in stream order.
    Running {
        /// What each word contributes.
        of: Reg,
        /// Index of the [`VectorBody::carries`] entry, a [`Carry::Running`].
        carry: u32,
    },
}

impl VectorOp {
    /// The operands, in order.
    pub(crate) fn operands(&self) -> impl Iterator<Item = Reg> + use<> {
        let (a, b, c) = match *self {
            VectorOp::Chunk
            | VectorOp::Splat(_)
            | VectorOp::Invariant(_)
            | VectorOp::Phase(_)
            | VectorOp::Offset { .. }
            | VectorOp::Induction(_) => (None, None, None),
            VectorOp::Unary(_, a)
            | VectorOp::Lookup(_, a)
            | VectorOp::Later { of: a, .. }
            | VectorOp::Extend { from: a, .. }
            | VectorOp::Previous { of: a, .. }
            | VectorOp::Running { of: a, .. } => (Some(a), None, None),
            VectorOp::Binary(_, a, b)
            | VectorOp::Compare(_, a, b)
            | VectorOp::Narrow(a, b)
            | VectorOp::Slide { before: a, of: b } => (Some(a), Some(b), None),
            VectorOp::Select(a, b, c) => (Some(a), Some(b), Some(c)),
        };
        [a, b, c].into_iter().flatten()
    }
    /// Whether the value follows from the offset at which a call begins.
    pub(crate) const fn invariant(&self) -> bool {
        matches!(self, VectorOp::Splat(_) | VectorOp::Invariant(_) | VectorOp::Phase(_))
    }
}

/// One vector instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct VectorInst {
    /// What is computed.
    pub(crate) op: VectorOp,
    /// Bytes of a lane of the result: 1, 2, 4 or 8.
    pub(crate) lane: u8,
}

/// How an accumulator takes its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Accumulate {
    /// Lane by lane with the operation itself; one register, lanes of the operands' width.
    Lanes,
    /// A sum of unsigned lanes in two registers of 64-bit lanes, `s1 += v` and `s2 += v >> 32`, where `v` is
    /// the operand (lanes up to 32 bits, first added in pairs up to 32-bit lanes when the sum must be
    /// `exact`), or `s1 += v & 0xffffffff` for lanes of 64 bits. Nothing is lost in 2^32 steps: see
    /// `combine`.
    Sum {
        /// The true sum is needed, not only its residue modulo `2^width - 1`.
        exact: bool,
    },
}

/// A reduction's place in the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accumulator {
    /// Flat index of the state.
    pub(crate) state: u32,
    /// The state's type.
    pub(crate) ty: Ty,
    /// The operation.
    pub(crate) op: Reduce,
    /// The form of the partial results.
    pub(crate) form: Accumulate,
    /// Bytes of an operand's lane.
    pub(crate) lane: u8,
    /// The partial result's bytes are to be swapped before it is added to the state: the sum of swapped words
    /// is the swapped sum (RFC 1071, section 2B), so the swap left the loop.
    pub(crate) swapped: bool,
    /// What each chunk contributes, all in the same way.
    pub(crate) operands: Vec<Reg>,
}

impl Accumulator {
    /// Registers of one set of partial results.
    pub(crate) const fn registers(&self) -> usize {
        match self.form {
            Accumulate::Lanes => 1,
            Accumulate::Sum { .. } => 2,
        }
    }

    /// The lane value that changes nothing.
    pub(crate) const fn identity(&self) -> u64 {
        match self.form {
            Accumulate::Sum { .. } => 0,
            Accumulate::Lanes => match self.ty {
                Ty::Bool => {
                    if matches!(self.op, Reduce::And) {
                        u64::MAX
                    } else {
                        0
                    }
                }
                // The smallest number has its sign in all of the lane.
                ty if matches!(self.op, Reduce::Smax) => u64::MAX << (ty.bits() - 1),
                ty => self.op.identity(ty),
            },
        }
    }
}

/// What passes from chunk to chunk, in their order: a register that one chunk leaves to the next.
///
/// Before the first chunk it holds the state, as said below; after the last one the state is read from it. A
/// loop that has any of these takes the chunks one after the other, though several may be in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Carry {
    /// The last lane is the state: what `of` was for the chunk before.
    Previous {
        /// Flat index of the state.
        state: u32,
        /// Bytes of a lane.
        lane: u8,
        /// What the state becomes at each word.
        of: Reg,
    },
    /// Every lane is the last result of its turn: the combination of all operands so far whose distance is a
    /// multiple of the number of turns. With one state, there is one turn.
    Running {
        /// Flat indices of the states, the one with the last result first.
        states: Vec<u32>,
        /// The state's type.
        ty: Ty,
        /// By what operands are combined.
        op: Reduce,
        /// Bytes of a lane.
        lane: u8,
    },
    /// The first lane is the state, the others are its values at the words after: a state that depends only
    /// on itself.
    Induction {
        /// Flat index of the state.
        state: u32,
        /// The state's type.
        ty: Ty,
        /// From word to word.
        step: Step,
        /// Bytes of a lane.
        lane: u8,
        /// What the chunk after finds in the register.
        of: Reg,
    },
    /// In each lane what its words make of the states; a chunk moves that on by all of its words, and adds
    /// its own. The last lane of the last part begins with the states.
    System {
        system: System,
        /// What each word adds, state by state, part by part.
        of: Vec<Reg>,
    },
    /// A sum and the sum of its values at every word: three registers of 64-bit lanes that start at zero. For
    /// each chunk `b += a`, then `a += x` and `w += weight * x`. The weight of lane `i` is the number of
    /// words of the chunk that come after word `i`, counting itself if `includes_word`. See
    /// `combine::sums`.
    Sums {
        /// Flat index of the sum.
        sum: u32,
        /// Flat index of the sum of sums.
        sum_of_sums: u32,
        /// The type of both.
        ty: Ty,
        /// [`Reduce::Add`], [`Reduce::Addc`] or [`Reduce::Addmod`].
        op: Reduce,
        /// Bytes of an operand's lane.
        lane: u8,
        /// Whether a word's own contribution is in the sum that is summed.
        includes_word: bool,
        /// What each word contributes to the sum.
        of: Reg,
    },
}

impl Carry {
    /// Registers that pass from chunk to chunk.
    pub(crate) const fn registers(&self) -> usize {
        match self {
            Carry::Previous { .. } | Carry::Running { .. } | Carry::Induction { .. } => 1,
            Carry::Sums { .. } => 3,
            Carry::System { system, .. } => system.registers(),
        }
    }

    /// The values outside the dependency of chunk on chunk that the carry reads by itself.
    fn of(&mut self) -> &mut [Reg] {
        match self {
            Carry::Previous { of, .. } | Carry::Sums { of, .. } | Carry::Induction { of, .. } => {
                std::slice::from_mut(of)
            }
            Carry::System { of, .. } => of,
            Carry::Running { .. } => &mut [],
        }
    }
}

/// A linear recurrence of one state or several, modulo two to the power of the type's width: see
/// [`Carry::System`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct System {
    /// Flat indices of the states.
    pub(crate) states: Vec<u32>,
    /// Their type.
    pub(crate) ty: Ty,
    /// Bytes of a lane.
    pub(crate) lane: u8,
    /// Registers that a chunk's numbers take.
    pub(crate) parts: u8,
    /// What a word makes of the states, row after row.
    pub(crate) matrix: Vec<u64>,
}

/// Lane values that repeat along the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phase {
    /// The bytes of one period, lane after lane, starting at offset 0; the length is a power of two.
    pub(crate) bytes: Vec<u8>,
}

/// Straight-line vector code of a whole pass.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct VectorBody {
    /// Instructions; the index is the [`Reg`].
    pub(crate) insts: Vec<VectorInst>,
    /// Tables of positional lanes.
    pub(crate) phases: Vec<Phase>,
    /// Tables of bytes, each of a power of two of them, at most 256.
    pub(crate) tables: Vec<Vec<u8>>,
    /// The chunk to be written; `None` when it is the one read.
    pub(crate) out: Option<Reg>,
    /// The reductions.
    pub(crate) accumulators: Vec<Accumulator>,
    /// States that pass from chunk to chunk.
    pub(crate) carries: Vec<Carry>,
}

impl VectorBody {
    /// The instruction that defines `reg`.
    pub(crate) fn inst(&self, reg: Reg) -> VectorInst {
        self.insts[reg.0 as usize]
    }

    /// The literal that `reg` holds in every lane, if it does.
    pub(crate) fn splat(&self, reg: Reg) -> Option<u64> {
        match self.inst(reg).op {
            VectorOp::Splat(value) => Some(value),
            _ => None,
        }
    }
}
