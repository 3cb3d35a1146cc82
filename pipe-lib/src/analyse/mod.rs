//! What the compiler proves of a pipe: the class of each state, whether the stream is modified, legal
//! rewrites.
//!
//! Everything here reads the dataflow alone; names play no part. No IO, no `unsafe`.

#![forbid(unsafe_code)]

mod analysed;
pub(crate) mod attributes;
pub(crate) mod bounds;
pub(crate) mod capped;
mod class;
pub(crate) mod gf2;
mod prove;
pub(crate) mod rewrite;

pub(crate) use analysed::{Analysed, Facts};
pub use capped::hints;
pub use class::{Class, Linear, PipeFacts, Reduce, StateFacts};
pub use gf2::{BitMap, Crc, Padding};
#[cfg(test)]
pub(crate) use prove::ANALYSES;
pub use prove::analyse;
pub(crate) use prove::map_of;

#[cfg(test)]
mod tests;
