//! Checks that a pipe is well formed: every backend relies on it and none checks again.
//!
//! `check` makes only well-formed pipes of source text; the builder and hand-made IR go through here. This is
//! no type checker for people: it names the instruction, not a place in a source file.

use super::op::{BinaryOp, ConvertOp, Inst, Op, StateId, UnaryOp, Value, WideBinary, WideUnary};
use super::pipe::{Block, Pipe, StateInit};
use super::types::Ty;
use crate::digest::DigestKind;
use std::fmt;

/// Longest block, in instructions: bounds what composing and compiling may cost.
pub const MAX_INSTS: usize = 65_536;
/// Longest table, in elements.
pub const MAX_TABLE: usize = 65_536;

/// What is wrong with a pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyError {
    /// The pipe's name.
    pub pipe: String,
    /// Where and what, as a phrase: "body %3: add of u16 gives u32".
    pub what: String,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pipe `{}` is malformed: {}", self.pipe, self.what)
    }
}

impl core::error::Error for VerifyError {}

/// Checks every rule that the IR's documentation states.
pub fn verify(pipe: &Pipe) -> Result<(), VerifyError> {
    verify_pipe(pipe).map_err(|what| VerifyError { pipe: pipe.name.clone(), what })
}

fn verify_pipe(pipe: &Pipe) -> Result<(), String> {
    if !pipe.input.ty.is_integer() || !pipe.output.ty.is_integer() {
        return Err("a gauge is an integer type".into());
    }
    if pipe.input.bytes() != pipe.output.bytes() {
        return Err(format!("words of {} bytes in and {} out", pipe.input.bytes(), pipe.output.bytes()));
    }
    let types = pipe.states.iter().map(|state| state.ty);
    let types = types.chain(pipe.params.iter().map(|param| param.ty));
    if types.chain(pipe.tables.iter().map(|table| table.ty)).any(|ty| ty == Ty::U128) {
        return Err("a register, parameter or table of 128 bits".into());
    }
    for state in &pipe.states {
        match state.init {
            StateInit::Const(value) if value & !state.ty.mask() != 0 => {
                return Err(format!("state `{}` starts outside of {}", state.name, state.ty));
            }
            StateInit::Param(id) if pipe.params.get(id.0 as usize).is_none_or(|p| p.ty != state.ty) => {
                return Err(format!("state `{}` starts from a parameter of another type", state.name));
            }
            _ => {}
        }
    }
    for table in &pipe.tables {
        let len = table.values.len();
        if !len.is_power_of_two() || len > MAX_TABLE || !table.ty.is_integer() {
            return Err(format!("table `{}` of {len} {} elements", table.name, table.ty));
        }
        if table.values.iter().any(|value| value & !table.ty.mask() != 0) {
            return Err(format!("table `{}` has an element outside of {}", table.name, table.ty));
        }
    }
    verify_block(pipe, &pipe.body, true).map_err(|what| format!("body {what}"))?;
    verify_block(pipe, &pipe.finish, false).map_err(|what| format!("finish {what}"))?;
    let body_ty = |value: Value| pipe.body.insts.get(value.0 as usize).map(|inst| inst.ty);
    if let Some(out) = pipe.out
        && body_ty(out) != Some(pipe.output.ty)
    {
        return Err("`out` is not a body value of the output's type".into());
    }
    if pipe.next.len() != pipe.states.len() {
        return Err(format!("{} new values for {} states", pipe.next.len(), pipe.states.len()));
    }
    for (state, &next) in pipe.states.iter().zip(&pipe.next) {
        if body_ty(next) != Some(state.ty) {
            return Err(format!("the new value of `{}` is not a body value of its type", state.name));
        }
    }
    for (index, state) in pipe.states.iter().enumerate().filter(|(_, state)| state.secret) {
        if pipe.body.inst(pipe.next[index]).op != Op::State(StateId(index as u32)) {
            return Err(format!("secret state `{}` changes", state.name));
        }
        if state.init != StateInit::Const(0) {
            return Err(format!("secret state `{}` is in the code", state.name));
        }
    }
    if let Some(kind) = pipe.digest {
        verify_digest(pipe, kind)?;
    }
    for export in &pipe.exports {
        if pipe.finish.insts.get(export.value.0 as usize).is_some_and(|inst| inst.ty == Ty::U128) {
            return Err(format!("export `{}` has 128 bits", export.name));
        }
        if pipe.finish.insts.get(export.value.0 as usize).is_none() {
            return Err(format!("export `{}` has no value", export.name));
        }
    }
    Ok(())
}

/// The driver feeds it bytes, and finds its key and puts its value where these states are.
fn verify_digest(pipe: &Pipe, kind: DigestKind) -> Result<(), String> {
    if !DigestKind::ALL.contains(&kind) {
        return Err(format!(
            "no digest `{}` in a build of pipe-lib without its feature `digests`",
            kind.name()
        ));
    }
    let states = kind.key_words() + kind.words();
    let value = pipe.exports.first().map(|export| export.value);
    let first = Op::State(StateId(kind.key_words() as u32));
    let is_one = pipe.exports.len() == 1
        && value
            .and_then(|value| pipe.finish.insts.get(value.0 as usize))
            .is_some_and(|inst| inst.op == first);
    if pipe.states.len() != states || pipe.states.iter().any(|state| state.ty != Ty::U64) {
        return Err(format!("a digest `{}` has {states} states of 64 bits", kind.name()));
    }
    if pipe.word_bytes() != 1 || pipe.out.is_some() || pipe.body.insts.iter().any(|inst| inst.op == Op::In) {
        return Err("a digest takes bytes and computes nothing".into());
    }
    if is_one { Ok(()) } else { Err("a digest exports its value alone".into()) }
}

fn verify_block(pipe: &Pipe, block: &Block, is_body: bool) -> Result<(), String> {
    if block.insts.len() > MAX_INSTS {
        return Err(format!("has {} instructions, more than {MAX_INSTS}", block.insts.len()));
    }
    let mut ins = 0;
    for (value, inst) in block.iter() {
        if inst.op.operands().any(|operand| operand >= value) {
            return Err(format!("%{}: an operand is not defined before", value.0));
        }
        if matches!(inst.op, Op::In) {
            ins += 1;
        }
        let fine = match inst.op {
            Op::In => is_body && ins == 1 && inst.ty == pipe.input.ty,
            Op::Pos => is_body && inst.ty == Ty::U64,
            Op::State(id) => pipe.states.get(id.0 as usize).is_some_and(|state| state.ty == inst.ty),
            Op::Param(id) => pipe.params.get(id.0 as usize).is_some_and(|param| param.ty == inst.ty),
            Op::Lookup(id, index) => {
                block.ty(index).is_integer()
                    && block.ty(index) != Ty::U128
                    && pipe.tables.get(id.0 as usize).is_some_and(|table| table.ty == inst.ty)
            }
            _ => types_fit(block, inst),
        };
        if !fine {
            return Err(format!("%{}: {:?} does not give {}", value.0, inst.op, inst.ty));
        }
    }
    Ok(())
}

fn types_fit(block: &Block, inst: Inst) -> bool {
    let ty = inst.ty;
    let is = |value: Value, ty: Ty| block.ty(value) == ty;
    let is_wide = |op: &Op| matches!(op, Op::WideUnary(..) | Op::WideBinary(..) | Op::Const(_));
    if !is_wide(&inst.op) && (ty == Ty::U128 || inst.op.operands().any(|operand| is(operand, Ty::U128))) {
        return false;
    }
    match inst.op {
        Op::In | Op::Pos | Op::State(_) | Op::Param(_) | Op::Lookup(..) => false,
        Op::Const(value) => value & !ty.mask() == 0,
        Op::Unary(op, a) => is(a, ty) && (ty.is_integer() || op == UnaryOp::Not),
        Op::Binary(op, a, b) => {
            let logical = matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor);
            is(a, ty) && is(b, ty) && (ty.is_integer() || logical)
        }
        Op::Compare(op, a, b) => {
            let equality = matches!(op, super::CompareOp::Eq | super::CompareOp::Ne);
            ty == Ty::Bool && is(b, block.ty(a)) && (block.ty(a).is_integer() || equality)
        }
        Op::Select { cond, then, otherwise } => is(cond, Ty::Bool) && is(then, ty) && is(otherwise, ty),
        Op::Modular(_, a, b, m) => ty.is_integer() && is(a, ty) && is(b, ty) && is(m, ty),
        Op::Convert(ConvertOp::Zext | ConvertOp::Sext, a) => ty.is_integer() && block.ty(a) < ty,
        Op::Convert(ConvertOp::Trunc, a) => block.ty(a).is_integer() && ty < block.ty(a),
        Op::WideUnary(op, a) => match op {
            WideUnary::Zext => ty == Ty::U128 && block.ty(a).is_integer() && block.ty(a) < ty,
            WideUnary::Trunc => is(a, Ty::U128) && ty.is_integer() && ty < Ty::U128,
            WideUnary::High => is(a, Ty::U128) && ty == Ty::U64,
            WideUnary::Not | WideUnary::Bswap => is(a, Ty::U128) && ty == Ty::U128,
        },
        Op::WideBinary(WideBinary::Pair, a, b) => is(a, Ty::U64) && is(b, Ty::U64) && ty == Ty::U128,
        Op::WideBinary(_, a, b) => is(a, Ty::U128) && is(b, Ty::U128) && ty == Ty::U128,
        Op::Crc(_, acc, x) => ty == Ty::U32 && is(acc, Ty::U32) && block.ty(x).is_integer(),
    }
}
