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
}
