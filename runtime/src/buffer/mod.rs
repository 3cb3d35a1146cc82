//! Buffers: a pool of fixed-size ones, and aggregates that refer to parts of them.
//!
//! After IO-Lite (Pai, Druschel, Zwaenepoel, 1999): a buffer is filled once and then immutable, so that
//! everyone may refer to it without copying; a message is a list of slices; and since the bytes of a slice
//! never change, neither does its checksum, which is kept with it. A pool and its buffers belong to one
//! thread.

mod aggregate;
mod pool;

pub use aggregate::{Aggregate, Slice};
pub use pool::{Buffer, Pool, Shared};
