//! The native backend: x86-64 loops as wide as the processor has registers, emitted through `iced-x86`'s encoder.
//!
//! A pass becomes one function for stretches of any length: import of the states, a loop over several vectors, a loop
//! over one, one masked vector for what is left (with each stage's tail rule), combination and export of the states.
//!
//! What flows where:
//!
//! * [`isa`]: which instructions there are;
//! * `strategy`: how each state of a stage is kept in a vector loop (reduction, CRC, delay, ...), or why it cannot be;
//! * `lower`: a stage's block on the lanes of one vector, in terms of `lanes` (one operation on every lane, expanded where
//!   the processor has no such instruction), into `vcode` (machine instructions on virtual registers);
//! * `regalloc`: real registers for straight-line code, constants rematerialised from a pool;
//! * `frame`: the function around the loop bodies; `asm`: encoding, labels, alignment;
//! * `memory`: executable pages, never writable at the same time.
//!
//! What it cannot do it refuses with [`super::Unsupported`]: serial states and divisions stay with Cranelift.

mod isa;
