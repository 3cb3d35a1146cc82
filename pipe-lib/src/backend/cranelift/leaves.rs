//! What a vector loop begins with: constants, states in lanes, positional values; and which of it depends on
//! where a chunk is.

use super::VECTOR_BYTES;
use super::body::{Carry, VectorBody, VectorOp};
use super::builder::LoopBuilder;
use super::loops::{LoopFrame, memory, narrowed, widened};
use super::scalar::{ConstantTables, scalar_type};
use super::vector::{self, splat, view};
use crate::ir::Ty;
use crate::plan::induction::Step;
use crate::plan::portable::UNROLL;
use cranelift_codegen::ir::{ConstantData, InstBuilder, Value, types};

/// Whether a positional value goes on changing from chunk to chunk, and is loaded for each.
pub(super) fn is_long(body: &VectorBody, phase: u32) -> bool {
    body.phases[phase as usize].bytes.len() > VECTOR_BYTES
}

/// Where a chunk is.
#[derive(Clone, Copy)]
pub(super) struct ChunkPlace {
    /// The offset in the stream of the turn's first chunk, if anything asks for it.
    pub(super) pos: Option<Value>,
    /// The chunk's number in the turn.
    pub(super) copy: usize,
}

/// The offset in the stream of the byte at `src`, if the body asks for it.
pub(super) fn position(
    b: &mut LoopBuilder<'_>,
    body: &VectorBody,
    frame: LoopFrame,
    src: Value,
) -> Option<Value> {
    let asks = |op: &VectorOp| match *op {
        VectorOp::Offset { .. } => true,
        VectorOp::Phase(phase) => is_long(body, phase),
        _ => false,
    };
    body.insts.iter().any(|inst| asks(&inst.op)).then(|| {
        let origin = b.ins().isub(frame.pos, frame.start);
        b.ins().iadd(origin, src)
    })
}

/// The offsets of the words in a register: see [`VectorOp::Offset`].
pub(super) fn offsets(
    b: &mut LoopBuilder<'_>,
    place: ChunkPlace,
    nth: u8,
    word: u8,
    lane: u8,
) -> Option<Value> {
    let ty = Ty::from_bytes(usize::from(lane)).unwrap_or(Ty::U64);
    let first = narrowed(b, place.pos?, ty);
    let first = b.ins().splat(vector::lanes(lane), first);
    let count = VECTOR_BYTES / usize::from(lane);
    let offsets =
        (0..count).map(|i| place.copy * VECTOR_BYTES + (usize::from(nth) * count + i) * usize::from(word));
    let bytes: Vec<u8> = offsets
        .flat_map(|offset| (offset as u64).to_le_bytes().into_iter().take(usize::from(lane)))
        .collect();
    let offsets = b.func.dfg.constants.insert(ConstantData::from(bytes));
    let offsets = b.ins().vconst(vector::lanes(lane), offsets);
    Some(b.ins().iadd(first, offsets))
}

/// What does not change from chunk to chunk, computed once; `None` for the rest.
pub(super) fn invariants(
    b: &mut LoopBuilder<'_>,
    body: &VectorBody,
    tables: &mut ConstantTables,
    frame: LoopFrame,
) -> Vec<Option<Value>> {
    let mut invariant = Vec::with_capacity(body.insts.len());
    for inst in &body.insts {
        invariant.push(match inst.op {
            VectorOp::Splat(value) => Some(splat(b, value, inst.lane)),
            VectorOp::Invariant(state) => Some(invariant_lanes(b, frame, state, inst.lane)),
            VectorOp::Phase(phase) => {
                let period = &body.phases[phase as usize].bytes;
                let all = period.len() + UNROLL * VECTOR_BYTES;
                let table = period.iter().copied().cycle().take(all).collect();
                let address = tables.keep(table);
                let base = address.value(b);
                Some(if is_long(body, phase) {
                    base
                } else {
                    let phase = b.ins().band_imm_u(frame.pos, period.len() as i64 - 1);
                    let from = b.ins().iadd(base, phase);
                    b.ins().load(vector::lanes(inst.lane), memory(), from, 0)
                })
            }
            _ => None,
        });
    }
    invariant
}

/// What the first chunk finds in the registers that pass from chunk to chunk.
pub(super) fn first_carries(b: &mut LoopBuilder<'_>, body: &VectorBody, frame: LoopFrame) -> Vec<Value> {
    let mut registers = Vec::new();
    for carry in &body.carries {
        match *carry {
            Carry::Previous { state, lane, .. } => {
                let value = invariant_lanes(b, frame, state, lane);
                registers.push(view(b, value, 1));
            }
            Carry::Running { ref states, lane, .. } => {
                let value = match states[..] {
                    [state] => invariant_lanes(b, frame, state, lane),
                    _ => turns(b, frame, states, lane),
                };
                registers.push(view(b, value, 1));
            }
            Carry::Induction { state, ty, ref step, lane, .. } => {
                registers.push(first_values(b, frame, state, ty, step, lane));
            }
            Carry::Sums { .. } => {
                let zero = splat(b, 0, 8);
                registers.extend([zero; 3]);
            }
            Carry::System { ref system, .. } => {
                let zero = splat(b, 0, 1);
                for state in &system.states {
                    registers.extend(std::iter::repeat_n(zero, usize::from(system.parts) - 1));
                    let all = invariant_lanes(b, frame, *state, system.lane);
                    let last = 16 - system.lane;
                    let from = std::array::from_fn(|i| if i < usize::from(last) { i } else { 16 + i } as u8);
                    registers.push(vector::shuffle(b, zero, all, from));
                }
            }
        }
    }
    registers
}

/// The values of an induction at the first chunk's words, through the scratch area.
fn first_values(
    b: &mut LoopBuilder<'_>,
    frame: LoopFrame,
    state: u32,
    ty: Ty,
    step: &Step,
    lane: u8,
) -> Value {
    let raw = b.ins().load(types::I64, memory(), frame.states, 8 * state as i32);
    let mut value = narrowed(b, raw, ty);
    for at in (0..VECTOR_BYTES).step_by(usize::from(lane)) {
        let wide = widened(b, value);
        let wide = narrowed(b, wide, Ty::from_bytes(usize::from(lane)).unwrap_or(Ty::U64));
        b.ins().store(memory(), wide, frame.partials, at as i32);
        let literal = |b: &mut LoopBuilder<'_>, c: u64| b.ins().iconst(scalar_type(ty), c as i64);
        // Of other steps the plan has none.
        if let Step::Affine { factor, .. } = step
            && *factor != 1
        {
            let factor = literal(b, *factor);
            value = b.ins().imul(value, factor);
        }
        if let Step::Affine { term, .. } = step
            && *term != 0
        {
            let term = literal(b, *term);
            value = b.ins().iadd(value, term);
        }
        if let Step::Rotate { left, .. } = step
            && *left != 0
        {
            let left = literal(b, u64::from(*left));
            value = b.ins().rotl(value, left);
        }
        if let Step::Rotate { flip, .. } = step
            && *flip != 0
        {
            let flip = literal(b, *flip);
            value = b.ins().bxor(value, flip);
        }
    }
    b.ins().load(types::I8X16, memory(), frame.partials, 0)
}

/// The last result of each lane's turn, by way of the scratch area.
fn turns(b: &mut LoopBuilder<'_>, frame: LoopFrame, states: &[u32], lane: u8) -> Value {
    let ty = Ty::from_bytes(usize::from(lane)).unwrap_or(Ty::U64);
    for (word, at) in (0..VECTOR_BYTES).step_by(usize::from(lane)).enumerate() {
        // The first word's turn is the oldest one's.
        let state = states[states.len() - 1 - word % states.len()];
        let raw = b.ins().load(types::I64, memory(), frame.states, 8 * state as i32);
        let number = narrowed(b, raw, ty);
        b.ins().store(memory(), number, frame.partials, at as i32);
    }
    b.ins().load(types::I8X16, memory(), frame.partials, 0)
}

/// A state in every lane.
fn invariant_lanes(b: &mut LoopBuilder<'_>, frame: LoopFrame, state: u32, lane: u8) -> Value {
    let raw = b.ins().load(types::I64, memory(), frame.states, 8 * state as i32);
    let ty = Ty::from_bytes(usize::from(lane)).unwrap_or(Ty::U64);
    let scalar = narrowed(b, raw, ty);
    b.ins().splat(vector::lanes(lane), scalar)
}
