//! The one kind of bytes: buffers that are filled once and then immutable, and messages that refer to parts
//! of them.
//!
//! After IO-Lite (Pai, Druschel, Zwaenepoel, 1999): since a buffer does not change once it is shared,
//! everyone may refer to it without copying, and a message is a list of slices. A buffer has an identity, and
//! a generation that is new with each filling: together they name its bytes for good, so whatever was
//! computed of them (a checksum) can be kept by who computed it, and nobody else need know.
//!
//! Memory comes from a bounded [`Pool`], which uses it again (its own, or [`SharedMemory`], which another
//! process reads), from a sealed file in memory, which the kernel can send from without a copy
//! ([`Shared::in_memory_file`]), or from an owner of any kind ([`Shared::from_owner`]: a vector, a mapped
//! file). Buffers may be shared between threads.

mod aggregate;
mod memory;
mod memory_file;
mod pool;
mod shared;

pub use aggregate::{Aggregate, Slice};
pub use memory::{Region, SharedMemory};
pub use pool::{Buffer, Pool};
pub use shared::{Name, Shared};
