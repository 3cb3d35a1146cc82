//! All stages of a pass as one straight-line block: one for a loop word, one for the bytes that are left
//! over.
//!
//! Both blocks read the raw bytes of the stream as one little-endian number (`Op::In`, of the gauge's type)
//! and give the raw bytes to be written in the same form, so that no target needs to know of gauges. Narrower
//! stages are replicated in stream order, and state threads through the replicas.

use crate::analyse::rewrite::{Rewriter, live};
use crate::ir::{BinaryOp, Block, CompareOp, Endian, Op, Pipe, StateId, Table, Tail, Ty, UnaryOp, Value};
use std::ops::Deref;

/// Straight-line code of a whole pass. States are flattened in (stage, state) order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fused {
    /// Bytes of the loop word.
    pub(crate) gauge: usize,
    /// `Op::In` is the raw loop word, `Op::State(i)` flat state `i`, `Op::Pos` the offset of the loop word.
    pub(crate) block: Block,
    /// Tables of all stages, as `block` refers to them.
    pub(crate) tables: Vec<Table>,
    /// New values of the flat states.
    pub(crate) next: Vec<Value>,
    /// The raw loop word to be written; `None` when it is the one read.
    pub(crate) out: Option<Value>,
}

/// The block of one whole loop word of `gauge` bytes.
pub(crate) fn word(stages: &[impl Deref<Target = Pipe>], gauge: usize) -> Fused {
    Fuser::new(stages, gauge).run(stages, None)
}

/// The block of the last `0 < t <= gauge` bytes. `Op::In` is the raw word with zeros after the `t` bytes, and
/// `t` itself is read as one more state, `Op::State(n)` of type `u64`, after the `n` states of the pass. Only
/// the first `t` bytes of the result mean anything. For `t = gauge` it computes the same as [`word`].
pub(crate) fn tail(stages: &[impl Deref<Target = Pipe>], gauge: usize) -> Fused {
    let count = stages.iter().map(|pipe| pipe.states.len()).sum::<usize>();
    Fuser::new(stages, gauge).run(stages, Some(StateId(count as u32)))
}

/// The stream's current loop word: as one number, or as replicas of a narrower word, or both.
struct Current {
    whole: Option<Value>,
    pieces: Option<(Ty, Vec<Value>)>,
}

struct Fuser {
    rewriter: Rewriter,
    ty: Ty,
    states: Vec<Value>,
    current: Current,
}

impl Fuser {
    fn new(stages: &[impl Deref<Target = Pipe>], gauge: usize) -> Fuser {
        let ty = Ty::from_bytes(gauge).unwrap_or(Ty::U64);
        let mut rewriter = Rewriter::new(&[]);
        let whole = rewriter.push(Op::In, ty);
        let types = stages.iter().flat_map(|pipe| &pipe.states).map(|state| state.ty);
        let states =
            types.enumerate().map(|(i, ty)| rewriter.push(Op::State(StateId(i as u32)), ty)).collect();
        Fuser { rewriter, ty, states, current: Current { whole: Some(whole), pieces: None } }
    }

    fn run(mut self, stages: &[impl Deref<Target = Pipe>], t: Option<StateId>) -> Fused {
        let t = t.map(|t| self.rewriter.push(Op::State(t), Ty::U64));
        let first = self.whole();
        let mut base = 0;
        for pipe in stages {
            self.stage(pipe, base, t);
            base += pipe.states.len();
            if let Some(t) = t {
                self.mask(t);
            }
        }
        let out = Some(self.whole()).filter(|out| *out != first);
        let mut roots = self.states.clone();
        roots.extend(out);
        let (block, tables) = self.rewriter.finish();
        let (block, mut roots) = live(&block, &roots);
        let out = out.and_then(|_| roots.pop());
        Fused { gauge: self.ty.bytes(), block, tables, next: roots, out }
    }

    /// One stage over all its replicas; with `t`, over those that have bytes.
    fn stage(&mut self, pipe: &Pipe, base: usize, t: Option<Value>) {
        let ty = pipe.input.ty;
        let word = ty.bytes();
        let before = self.pieces(ty);
        let tables = self.rewriter.add_tables(&pipe.tables);
        let mut after = Vec::with_capacity(before.len());
        for (i, raw) in before.into_iter().enumerate() {
            let offset = i * word;
            let mut x = raw;
            if pipe.input.endian == Endian::Big {
                x = self.rewriter.unary(UnaryOp::Bswap, x);
            }
            let states = self.states.clone();
            let map = self.rewriter.splice(&pipe.body, tables, |rewriter, inst| match inst.op {
                Op::In => Some(x),
                Op::State(state) => Some(states[base + state.0 as usize]),
                Op::Pos => {
                    let pos = rewriter.push(Op::Pos, Ty::U64);
                    let offset = rewriter.constant(offset as u64, Ty::U64);
                    Some(rewriter.binary(BinaryOp::Add, pos, offset))
                }
                _ => None,
            });
            let rename = |value: Value| map[value.0 as usize];
            let runs = t.map(|t| Activity::new(&mut self.rewriter, t, offset, word, pipe.tail));
            for (state, value) in pipe.next.iter().enumerate() {
                let old = self.states[base + state];
                let new = rename(*value);
                self.states[base + state] = match &runs {
                    Some(runs) => self.rewriter.select(runs.computes, new, old),
                    None => new,
                };
            }
            after.push(match pipe.out {
                None => raw,
                Some(out) => {
                    let mut y = rename(out);
                    if pipe.output.endian == Endian::Big {
                        y = self.rewriter.unary(UnaryOp::Bswap, y);
                    }
                    match &runs {
                        Some(runs) => self.rewriter.select(runs.writes, y, raw),
                        None => y,
                    }
                }
            });
        }
        if pipe.out.is_some() {
            self.current = Current { whole: None, pieces: Some((ty, after)) };
        }
    }

    /// Clears the bytes after the first `t`: the next stage pads with zeros, not with what this one computed
    /// there.
    fn mask(&mut self, t: Value) {
        let whole = self.whole();
        if matches!(self.rewriter.block().inst(whole).op, Op::In) {
            return;
        }
        // `t` is not 0, so no count is the width.
        let three = self.rewriter.constant(3, Ty::U64);
        let width = self.rewriter.constant(64, Ty::U64);
        let ones = self.rewriter.constant(u64::MAX, Ty::U64);
        let bits = self.rewriter.binary(BinaryOp::Shl, t, three);
        let above = self.rewriter.binary(BinaryOp::Sub, width, bits);
        let mask = self.rewriter.binary(BinaryOp::Shr, ones, above);
        let mask = self.rewriter.resize(mask, self.ty);
        let whole = self.rewriter.binary(BinaryOp::And, whole, mask);
        self.current = Current { whole: Some(whole), pieces: None };
    }

    fn whole(&mut self) -> Value {
        if let Some(whole) = self.current.whole {
            return whole;
        }
        let (ty, pieces) = self.current.pieces.clone().unwrap_or((self.ty, Vec::new()));
        let mut whole = self.rewriter.constant(0, self.ty);
        for (i, piece) in pieces.into_iter().enumerate() {
            let wide = self.rewriter.resize(piece, self.ty);
            let count = self.rewriter.constant((i * 8 * ty.bytes()) as u64, self.ty);
            let placed = self.rewriter.binary(BinaryOp::Shl, wide, count);
            whole = self.rewriter.binary(BinaryOp::Or, whole, placed);
        }
        self.current.whole = Some(whole);
        whole
    }

    fn pieces(&mut self, ty: Ty) -> Vec<Value> {
        if let Some((have, pieces)) = &self.current.pieces
            && *have == ty
        {
            return pieces.clone();
        }
        let whole = self.whole();
        let pieces: Vec<Value> = (0..self.ty.bytes() / ty.bytes())
            .map(|i| {
                let count = self.rewriter.constant((i * 8 * ty.bytes()) as u64, self.ty);
                let shifted = self.rewriter.binary(BinaryOp::Shr, whole, count);
                self.rewriter.resize(shifted, ty)
            })
            .collect();
        self.current.pieces = Some((ty, pieces.clone()));
        pieces
    }
}

/// Which parts of a stage happen for the replica at `offset` when only `t` bytes are there.
struct Activity {
    /// The body runs and the states change.
    computes: Value,
    /// The result is written (else the bytes that were read).
    writes: Value,
}

impl Activity {
    fn new(rewriter: &mut Rewriter, t: Value, offset: usize, word: usize, tail: Tail) -> Activity {
        let mut at_least = |bytes: usize| {
            let bytes = rewriter.constant(bytes as u64, Ty::U64);
            rewriter.compare(CompareOp::Leu, bytes, t)
        };
        let whole = at_least(offset + word);
        match tail {
            // `Reject` never sees a part of a word: the driver refuses such a length.
            Tail::Reject | Tail::Pass => Activity { computes: whole, writes: whole },
            Tail::Zero => Activity { computes: at_least(offset + 1), writes: whole },
            Tail::Partial => {
                let any = at_least(offset + 1);
                Activity { computes: any, writes: any }
            }
        }
    }
}
