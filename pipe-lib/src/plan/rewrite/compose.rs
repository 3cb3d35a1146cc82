//! Two neighbours without states as one stage.

use super::{StageDraft, Work};
use crate::analyse::rewrite::{Rewriter, live};
use crate::ir::{BinaryOp, ConvertOp, Endian, Gauge, Op, Pipe, Tail, UnaryOp, Value};
use std::sync::Arc;

/// Most instructions and tables of two stages that are composed. A composed stage is tried again with the
/// next one, so without a limit the work grows with the square of a long pass, and the result could be longer
/// than any pipe that a program may write. A list of `n` stages is done after at most `2 n` attempts.
const LONGEST: usize = 2048;

impl Work {
    /// Neighbours whose bodies are shorter together than apart: swaps that cancel, masks and keys that meet.
    pub(super) fn compose(&mut self) {
        let mut at = 0;
        while at + 1 < self.drafts.len() {
            let (a, b) = (&self.drafts[at], &self.drafts[at + 1]);
            let Some(pipe) = composed(a, b) else {
                at += 1;
                continue;
            };
            self.notes.push(format!("`{}` and `{}` are one stage of fewer operations", a.name, b.name));
            let name = format!("{} | {}", a.name, b.name);
            let draft = StageDraft::new(name, Arc::new(pipe), a.window, Vec::new());
            self.drafts.splice(at..at + 2, [draft]);
            // It may go with what came before.
            at = at.saturating_sub(1);
        }
    }
}

/// `b` after `a`, if that is legal and shorter.
fn composed(a: &StageDraft, b: &StageDraft) -> Option<Pipe> {
    let (first, second) = (&a.pipe, &b.pipe);
    let alike = first.states.is_empty()
        && second.states.is_empty()
        && first.word_bytes() == second.word_bytes()
        && a.window == b.window
        && size(first) + size(second) <= LONGEST;
    let (Some(first_out), Some(second_out), true) = (first.out, second.out, alike) else { return None };
    let tail = tail(first, second)?;
    let mut rewriter = Rewriter::new(&[]);
    let raw = rewriter.push(Op::In, first.input.ty);
    let between = raw_result(&mut rewriter, first, first_out, raw);
    let out = raw_result(&mut rewriter, second, second_out, between);
    let (block, tables) = rewriter.finish();
    let (body, roots) = live(&block, &[out]);
    // The word read is counted in both.
    if body.insts.len() + 1 >= length(first) + length(second) {
        return None;
    }
    let raw = Gauge::new(first.input.ty, Endian::Little);
    Some(Pipe {
        name: format!("{}_{}", first.name, second.name),
        input: raw,
        output: raw,
        tail,
        tables,
        out: roots.first().copied(),
        body,
        ..Pipe::clone(first)
    })
}

/// What `pipe` makes of a word, both as raw bytes: the byte orders of its gauges become instructions, which
/// cancel.
fn raw_result(rewriter: &mut Rewriter, pipe: &Pipe, out: Value, raw: Value) -> Value {
    let in_order = |rewriter: &mut Rewriter, endian: Endian, value: Value| match endian {
        Endian::Big => rewriter.unary(UnaryOp::Bswap, value),
        Endian::Little => value,
    };
    let tables = rewriter.add_tables(&pipe.tables);
    let word = in_order(rewriter, pipe.input.endian, raw);
    let map = rewriter.splice(&pipe.body, tables, |_, inst| (inst.op == Op::In).then_some(word));
    in_order(rewriter, pipe.output.endian, map[out.0 as usize])
}

/// What of a stage costs work.
fn size(pipe: &Pipe) -> usize {
    pipe.body.insts.len() + pipe.tables.len()
}

/// Instructions of a stage by itself.
fn length(pipe: &Pipe) -> usize {
    let mut rewriter = Rewriter::new(&[]);
    let raw = rewriter.push(Op::In, pipe.input.ty);
    let roots: Vec<Value> =
        pipe.out.map(|out| raw_result(&mut rewriter, pipe, out, raw)).into_iter().collect();
    live(rewriter.block(), &roots).0.insts.len()
}

/// The rule for leftover bytes that both together follow, if there is one.
fn tail(first: &Pipe, second: &Pipe) -> Option<Tail> {
    let passes = |pipe: &Pipe| matches!(pipe.tail, Tail::Pass | Tail::Zero);
    match (first.tail, second.tail) {
        // No leftover bytes ever come.
        _ if first.word_bytes() == 1 => Some(first.tail),
        (Tail::Reject, _) | (_, Tail::Reject) => Some(Tail::Reject),
        _ if passes(first) && passes(second) => Some(Tail::Pass),
        // The second stage pads what the first wrote with zeros; composed, it sees what the first made of its
        // own zero padding.
        (Tail::Partial, Tail::Partial) if causal(second) => Some(Tail::Partial),
        _ => None,
    }
}

/// Whether no byte written depends on a byte that comes later in the word.
fn causal(pipe: &Pipe) -> bool {
    let Some(out) = pipe.out else { return true };
    if pipe.is_wide() {
        return false;
    }
    let size = pipe.word_bytes();
    let place = |endian: Endian, byte: usize| if endian == Endian::Big { size - 1 - byte } else { byte };
    let sources = sources(pipe);
    sources[out.0 as usize].iter().enumerate().take(size).all(|(byte, from)| {
        let to = place(pipe.output.endian, byte);
        (0..size).filter(|byte| from >> byte & 1 == 1).all(|byte| place(pipe.input.endian, byte) <= to)
    })
}

/// For each value and each of its bytes, the bytes of the word on which it may depend, as a set of bits.
fn sources(pipe: &Pipe) -> Vec<[u8; 8]> {
    let body = &pipe.body;
    let mut all: Vec<[u8; 8]> = Vec::with_capacity(body.insts.len());
    for inst in &body.insts {
        let get = |value: Value| all[value.0 as usize];
        let size = inst.ty.bytes();
        let count = |value: Value| match body.inst(value).op {
            Op::Const(count) if count % 8 == 0 => Some((count % u64::from(inst.ty.bits()) / 8) as usize),
            _ => None,
        };
        let moved = |a: Value, from: &dyn Fn(usize) -> Option<usize>| {
            let a = get(a);
            std::array::from_fn(|byte| from(byte).filter(|from| *from < size).map_or(0, |from| a[from]))
        };
        let everything = inst.op.operands().flat_map(get).fold(0, |all, byte| all | byte);
        let union = |a: [u8; 8], b: [u8; 8]| std::array::from_fn(|byte| a[byte] | b[byte]);
        let bytes = match inst.op {
            Op::In => std::array::from_fn(|byte| if byte < size { 1 << byte } else { 0 }),
            Op::Const(_) | Op::Pos | Op::Param(_) | Op::State(_) => [0; 8],
            Op::Unary(UnaryOp::Not, a) => get(a),
            Op::Unary(UnaryOp::Bswap, a) => moved(a, &|byte| (size - 1).checked_sub(byte)),
            Op::Binary(BinaryOp::And | BinaryOp::Or | BinaryOp::Xor, a, b) => union(get(a), get(b)),
            Op::Binary(BinaryOp::Shl, a, c) if let Some(count) = count(c) => {
                moved(a, &|byte| byte.checked_sub(count))
            }
            Op::Binary(BinaryOp::Shr, a, c) if let Some(count) = count(c) => {
                moved(a, &|byte| Some(byte + count))
            }
            Op::Convert(ConvertOp::Zext | ConvertOp::Trunc, a) => {
                let a = get(a);
                std::array::from_fn(|byte| if byte < size { a[byte] } else { 0 })
            }
            Op::Select { cond, then, otherwise } => {
                let cond = get(cond).iter().fold(0, |all, byte| all | byte);
                union(union(get(then), get(otherwise)), [cond; 8])
            }
            _ => [everything; 8],
        };
        all.push(bytes);
    }
    all
}
