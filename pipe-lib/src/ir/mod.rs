//! The typed intermediate representation: what `check` makes of source text and the builder makes from Rust.

#![forbid(unsafe_code)]

pub mod builder;
pub mod display;
pub mod eval;
pub mod frame;
pub(crate) mod keyed_map;
pub mod layout;
pub mod op;
pub mod pipe;
pub mod types;
pub mod verify;

pub use frame::{Field, Frame, Term};
pub use layout::{Layout, Stripe};
pub use op::{
    BinaryOp, CompareOp, ConvertOp, CrcOp, Inst, ModOp, Op, ParamId, StateId, TableId, UnaryOp, Value,
    WideBinary, WideUnary,
};
pub use pipe::{Block, Declared, Export, Param, Pipe, State, StateInit, Table};
pub use types::{Endian, Gauge, Tail, Ty};
