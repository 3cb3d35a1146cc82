//! What a code generator can do, as data: all that a plan asks of it.

use crate::features::Features;

/// What the code generators at hand can do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Targets {
    /// Of the generator for this very processor, the best one first; none where it does not run.
    pub(crate) wide: [Option<Target>; 2],
    /// Of the portable one.
    pub(crate) portable: Option<Target>,
}

/// The vectors of one machine, as one generator uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The instructions that code may use.
    pub(crate) features: Features,
    /// Bytes of a vector.
    pub(crate) vector_bytes: usize,
    /// Vector registers.
    pub(crate) registers: usize,
    /// Whether CRCs are carried: by carry-less products as wide as the vectors, or in their halves.
    pub(crate) crcs: bool,
    /// Whether 64-bit lanes are multiplied without carries.
    pub(crate) clmul64: bool,
    /// Whether numbers of 128 bits are multiplied without carries: in every lane, or in the vectors' halves.
    pub(crate) clmul128: bool,
    /// Whether there are rounds of AES: in every lane of 128 bits, or in the vectors' halves.
    pub(crate) aes: bool,
    /// Whether conditions have registers of their own.
    pub(crate) masks: bool,
    /// Whether dot products of bytes are so fast that four accumulators wait for them.
    pub(crate) waits: bool,
    pub(crate) states: StateKinds,
    pub(crate) lanes: LaneOps,
}

/// The states that not every generator carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateKinds {
    /// Which hashes and systems of linear recurrences.
    pub(crate) systems: Systems,
    /// Inductions of any step: else sums, products and rotations alone.
    pub(crate) steps: bool,
    /// Sums of any numbers modulo a constant, and sums of sums of words of any type: else of whole words.
    pub(crate) residues: bool,
    /// Running sums with the carry around the end.
    pub(crate) around: bool,
    /// Running reductions of a type that is not the word's, and delays of a wider one.
    pub(crate) mixed: bool,
}

/// Linear recurrences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Systems {
    /// All that lanes have numbers for, sums of sums of sums by additions alone.
    All,
    /// Those that wrap, where lanes make up for what products take.
    Wrapping,
}

/// The operations in lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneOps {
    /// Every one of the language.
    All,
    /// What any machine has, or what is put together from few of those.
    Common,
}
