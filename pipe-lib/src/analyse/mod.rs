//! What the compiler proves of a pipe: the class of each state, whether the stream is modified, legal rewrites.
//!
//! Everything here looks at dataflow alone; names play no part. No IO, no `unsafe`.

#![forbid(unsafe_code)]

mod analysed;
pub mod attributes;
pub(crate) mod bounds;
pub mod class;
pub mod gf2;
mod hint;
mod prove;
pub(crate) mod rewrite;

pub(crate) use analysed::{Analysed, Facts};
pub use class::{Class, Linear, PipeFacts, Reduce, StateFacts};
pub use hint::hints;
#[cfg(test)]
pub(crate) use prove::ANALYSES;
pub use prove::analyse;
pub(crate) use prove::map_of;

#[cfg(test)]
mod tests;
