//! A pipe in IR: its gauges, registers and two straight-line blocks (one a word, one at the end).

use super::eval;
use super::op::{Inst, Op, StateId, Value};
use super::types::{Gauge, Tail, Ty};
use crate::digest::DigestKind;
use std::sync::Arc;

/// A persistent register: imported before a run, exported after.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Name within the pipe.
    pub name: String,
    /// Integer type or `bool`.
    pub ty: Ty,
    /// Value at the start of a stream (and of every window).
    pub init: StateInit,
    /// What is imported is a key: it never changes, and nobody is shown it. See [`Pipe::holds_secrets`].
    pub secret: bool,
}

/// Where a state starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateInit {
    /// A constant, masked to the type.
    Const(u64),
    /// The value of a parameter of the same type.
    Param(super::op::ParamId),
}

/// A parameter: bound when the pipeline is composed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Param {
    /// Name within the pipe.
    pub name: String,
    /// Integer type or `bool`.
    pub ty: Ty,
    /// Value when the pipeline does not give one.
    pub default: Option<u64>,
}

/// A constant table for `lookup`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    /// Name in the source.
    pub name: String,
    /// Type of the elements.
    pub ty: Ty,
    /// The elements, masked to the type; the length is a power of two, at most 65,536.
    pub values: Arc<[u64]>,
}

/// Straight-line code: every operand is defined by an earlier instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Block {
    /// Instructions; the index is the [`Value`].
    pub insts: Vec<Inst>,
}

impl Block {
    /// The instruction that defines `value`.
    pub fn inst(&self, value: Value) -> Inst {
        self.insts[value.0 as usize]
    }

    /// The type of `value`.
    pub fn ty(&self, value: Value) -> Ty {
        self.inst(value).ty
    }

    /// Appends an instruction and names its result.
    pub fn push(&mut self, op: Op, ty: Ty) -> Value {
        self.insts.push(Inst { op, ty });
        Value((self.insts.len() - 1) as u32)
    }

    /// All instructions with their names, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Value, Inst)> + '_ {
        self.insts.iter().enumerate().map(|(i, inst)| (Value(i as u32), *inst))
    }

    /// The number that `value` is, if it is a literal.
    pub(crate) fn literal(&self, value: Value) -> Option<u64> {
        match self.inst(value).op {
            Op::Const(number) => Some(number),
            _ => None,
        }
    }

    /// The numbers of all instructions, none of which may have 128 bits; `leaf` gives those that come from
    /// outside.
    pub(crate) fn evaluate(&self, tables: &[Table], leaf: impl Fn(Op) -> u64) -> Vec<u64> {
        let mut values: Vec<u64> = Vec::with_capacity(self.insts.len());
        for inst in &self.insts {
            let known = eval::apply(inst.op, inst.ty, tables, |v| self.ty(v), |v| values[v.0 as usize]);
            values.push(known.unwrap_or_else(|| leaf(inst.op)));
        }
        values
    }

    /// For each instruction, whether one of `roots` is computed from it.
    pub(crate) fn needed(&self, roots: impl IntoIterator<Item = Value>) -> Vec<bool> {
        let mut needed = vec![false; self.insts.len()];
        roots.into_iter().for_each(|root| needed[root.0 as usize] = true);
        for (at, inst) in self.insts.iter().enumerate().rev() {
            if needed[at] {
                inst.op.operands().for_each(|operand| needed[operand.0 as usize] = true);
            }
        }
        needed
    }

    /// Whether `value` is computed from what `state` had before the word.
    pub(crate) fn depends_on(&self, value: Value, state: StateId) -> bool {
        let mut known = vec![false; value.0 as usize + 1];
        for (v, inst) in self.iter().take(value.0 as usize + 1) {
            known[v.0 as usize] =
                inst.op == Op::State(state) || inst.op.operands().any(|operand| known[operand.0 as usize]);
        }
        known[value.0 as usize]
    }
}

/// A value given to the outside once, when a stream or window ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Export {
    /// Name within the pipe; the pipeline's export is `instance.name`.
    pub name: String,
    /// Defined in [`Pipe::finish`].
    pub value: Value,
}

/// What the author declared of a pipe and the analysis has to prove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Declared {
    /// The words may come in any order.
    pub commutative: bool,
    /// The stream is passed on unchanged.
    pub nomod: bool,
}

/// A pipe: what one stage does to a stream of words.
///
/// For each word the `body` runs once; `next[i]` is the new value of state `i` and `out`, if any, the word
/// written. A pipe without `out` passes its input on unchanged. When the stream (or window) ends, `finish`
/// runs once on the final states and gives the exports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pipe {
    /// Name in the library.
    pub name: String,
    /// Documentation comment, without the slashes.
    pub doc: String,
    /// How words are read.
    pub input: Gauge,
    /// How words are written; the same size as `input`.
    pub output: Gauge,
    /// What happens to leftover bytes.
    pub tail: Tail,
    /// Declared attributes.
    pub declared: Declared,
    /// Persistent registers.
    pub states: Vec<State>,
    /// Parameters.
    pub params: Vec<Param>,
    /// Constant tables.
    pub tables: Vec<Table>,
    /// Code run once a word.
    pub body: Block,
    /// The word written, defined in `body`, of type `output.ty`.
    pub out: Option<Value>,
    /// New value of each state, defined in `body`; as long as `states`.
    pub next: Vec<Value>,
    /// Code run once at the end; `Op::State` is the final value, `Op::In` and `Op::Pos` do not occur.
    pub finish: Block,
    /// Exports, in the order of the source.
    pub exports: Vec<Export>,
    /// A digest of another crate, which no instruction computes: the driver feeds it, and puts its value into
    /// states.
    pub digest: Option<DigestKind>,
}

impl Pipe {
    /// Bytes of one word.
    pub fn word_bytes(&self) -> usize {
        self.input.bytes()
    }

    /// Whether a state is secret: registers of a run are then zeroed when they are given up.
    pub fn holds_secrets(&self) -> bool {
        self.states.iter().any(|state| state.secret)
    }

    /// Whether words or values have 128 bits.
    pub fn is_wide(&self) -> bool {
        let wide = |block: &Block| {
            block
                .insts
                .iter()
                .any(|inst| inst.ty == Ty::U128 || matches!(inst.op, Op::WideUnary(..) | Op::WideBinary(..)))
        };
        self.input.ty == Ty::U128 || wide(&self.body) || wide(&self.finish)
    }

    /// Whether the stream passes unchanged because there is no `out` at all.
    pub fn is_tap(&self) -> bool {
        self.out.is_none()
    }
}
