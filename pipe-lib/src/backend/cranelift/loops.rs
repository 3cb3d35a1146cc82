//! The two functions of a pass: the loop over whole words, and the straight-line code for the last bytes.
//!
//! ```text
//! words:  head      constants, invariant states, positional lanes, accumulators at their neutral values
//!         x4        while 64 bytes are left: four chunks, each with its own accumulators
//!         x1        while 16 bytes are left: one chunk, the first copy's accumulators
//!         merged    partial results to memory (the caller combines them with the states)
//!         scalar    while bytes are left: one loop word, states in registers; left out where the words after the last
//!                   chunk go through the other function
//! ```

use super::VECTOR_BYTES;
use super::body::{Accumulator, Carry, LaneLoop, VectorBody, VectorOp};
use super::builder::LoopBuilder;
use super::leaves::{ChunkPlace, first_carries, invariants, is_long, offsets, position};
use super::scalar::{self, ConstantTables, scalar_type};
use super::vector::{self, accumulate, merge, previous, running, splat, sums, view};
use crate::ir::{Op, StateId, Ty};
use crate::plan::scalar::Fused;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, Function, InstBuilder, MemFlagsData, Signature, Type, UserFuncName, Value,
    types,
};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

pub(super) fn memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

fn signature(isa: &OwnedTargetIsa, params: &[Type], returns: &[Type]) -> Signature {
    let mut signature = Signature::new(isa.default_call_conv());
    signature.params.extend(params.iter().map(|ty| AbiParam::new(*ty)));
    signature.returns.extend(returns.iter().map(|ty| AbiParam::new(*ty)));
    signature
}

fn args(values: &[Value]) -> Vec<BlockArg> {
    values.iter().map(|value| BlockArg::Value(*value)).collect()
}

/// A block whose parameters have the types of `values`.
fn block_like(b: &mut FunctionBuilder<'_>, values: &[Value]) -> Block {
    let block = b.create_block();
    for value in values {
        let ty = b.func.dfg.value_type(*value);
        b.append_block_param(block, ty);
    }
    block
}

/// Makes `block` current and gives its parameters.
fn enter(b: &mut FunctionBuilder<'_>, block: Block) -> Vec<Value> {
    b.switch_to_block(block);
    b.block_params(block).to_vec()
}

/// `fn(states, pos, src, dst, step, len, partials)`: runs over `len` bytes of whole loop words. `step` is all
/// ones, or zero to store everything at `dst` itself (up to 64 bytes) because nothing is to be kept. Without
/// a `word`, `len` is a multiple of a chunk.
pub(super) fn build(
    isa: &OwnedTargetIsa,
    frontend: &mut FunctionBuilderContext,
    word: Option<&Fused>,
    vector: Option<&LaneLoop>,
    tables: &mut ConstantTables,
) -> Result<Function, String> {
    let signature = signature(isa, &[types::I64; 7], &[]);
    let mut func = Function::with_name_signature(UserFuncName::user(0, 0), signature);
    let mut b = LoopBuilder::new(&mut func, frontend, &**isa);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    let params = enter(&mut b, entry);
    let [states, pos, src, dst, step, len, partials] = params[..] else {
        return Err("seven parameters".into());
    };
    let end = b.ins().iadd(src, len);
    let frame = LoopFrame { states, pos, start: src, step, len, end, partials };
    let mut at = LoopCursor { src, dst };
    if let Some(vector) = vector {
        at = vector_loops(&mut b, vector, tables, frame, at)?;
    }
    match word {
        Some(word) => scalar_loop(&mut b, word, tables, frame, at)?,
        None => {
            b.ins().return_(&[]);
        }
    }
    b.finish(&**isa);
    Ok(func)
}

/// `fn(states, pos, raw, t) -> raw`: the last `t` bytes, or one whole word.
pub(super) fn build_tail(
    isa: &OwnedTargetIsa,
    frontend: &mut FunctionBuilderContext,
    tail: &Fused,
    tables: &mut ConstantTables,
) -> Result<Function, String> {
    let signature = signature(isa, &[types::I64; 4], &[types::I64]);
    let mut func = Function::with_name_signature(UserFuncName::user(0, 1), signature);
    let mut b = LoopBuilder::new(&mut func, frontend, &**isa);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    let params = enter(&mut b, entry);
    let [states, pos, raw, t] = params[..] else { return Err("four parameters".into()) };
    let ty = Ty::from_bytes(tail.gauge).unwrap_or(Ty::U64);
    let values = scalar::block(&mut b, &tail.block, &tail.tables, tables, |b, op| match op {
        Op::State(StateId(state)) if state as usize == tail.next.len() => t,
        Op::State(StateId(state)) => load_state(b, tail, states, state as usize),
        Op::Pos => pos,
        _ => narrowed(b, raw, ty),
    })?;
    store_states(&mut b, tail, states, &values);
    let out = match tail.out {
        Some(out) => widened(&mut b, values[out.0 as usize]),
        None => raw,
    };
    b.ins().return_(&[out]);
    b.finish(&**isa);
    Ok(func)
}

pub(super) fn narrowed(b: &mut FunctionBuilder<'_>, raw: Value, ty: Ty) -> Value {
    if ty == Ty::U64 { raw } else { b.ins().ireduce(scalar_type(ty), raw) }
}

pub(super) fn widened(b: &mut FunctionBuilder<'_>, value: Value) -> Value {
    if b.func.dfg.value_type(value) == types::I64 { value } else { b.ins().uextend(types::I64, value) }
}

fn load_state(b: &mut FunctionBuilder<'_>, fused: &Fused, states: Value, index: usize) -> Value {
    let raw = b.ins().load(types::I64, memory(), states, 8 * index as i32);
    narrowed(b, raw, fused.block.ty(fused.next[index]))
}

/// Writes the states that changed.
fn store_states(b: &mut FunctionBuilder<'_>, fused: &Fused, states: Value, values: &[Value]) {
    for (index, next) in fused.next.iter().enumerate() {
        if !is_invariant(fused, index) {
            let wide = widened(b, values[next.0 as usize]);
            b.ins().store(memory(), wide, states, 8 * index as i32);
        }
    }
}

/// Whether state `index` leaves as it came.
fn is_invariant(fused: &Fused, index: usize) -> bool {
    fused.block.inst(fused.next[index]).op == Op::State(StateId(index as u32))
}

/// Values that stay the same all through the function.
#[derive(Clone, Copy)]
pub(super) struct LoopFrame {
    pub(super) states: Value,
    pub(super) pos: Value,
    pub(super) start: Value,
    pub(super) step: Value,
    pub(super) len: Value,
    pub(super) end: Value,
    pub(super) partials: Value,
}

/// Where the loop stands.
#[derive(Clone, Copy)]
struct LoopCursor {
    src: Value,
    dst: Value,
}

/// The vector loops; gives where they stop.
fn vector_loops(
    b: &mut LoopBuilder<'_>,
    LaneLoop { body, unroll }: &LaneLoop,
    tables: &mut ConstantTables,
    frame: LoopFrame,
    start: LoopCursor,
) -> Result<LoopCursor, String> {
    let per_copy: usize = body.accumulators.iter().map(Accumulator::registers).sum();
    let invariant = invariants(b, body, tables, frame);
    let mut first = vec![start.src, start.dst];
    for acc in &body.accumulators {
        let lane = if acc.registers() == 2 { 8 } else { acc.lane };
        let value = splat(b, acc.identity(), lane);
        first.extend(std::iter::repeat_n(value, acc.registers()));
    }
    // What passes from chunk to chunk comes last.
    first.extend(first_carries(b, body, frame));

    let joined = block_like(b, &first);
    let single = block_like(b, &first);
    let merged = block_like(b, &first);
    let narrow = VECTOR_BYTES as i64;
    let limit = b.ins().iadd_imm_s(frame.end, -narrow);
    let step = b.ins().band_imm_u(frame.step, narrow);
    match *unroll {
        1 => {
            b.ins().jump(joined, &args(&first));
        }
        copies => unrolled_loop(b, body, &invariant, frame, &first, joined, copies)?,
    }

    // Single chunks.
    let params = enter(b, joined);
    let room = b.ins().isub(frame.end, params[0]);
    let more = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, room, narrow);
    b.ins().brif(more, single, &args(&params), merged, &args(&params));

    let params = enter(b, single);
    let (accs, carries) = params[2..].split_at(per_copy);
    let (mut accs, mut carries) = (accs.to_vec(), carries.to_vec());
    let chunk = b.ins().load(types::I8X16, memory(), params[0], 0);
    let place = ChunkPlace { pos: position(b, body, frame, params[0]), copy: 0 };
    let out = turn(b, body, &invariant, place, chunk, &mut accs, &mut carries)?;
    b.ins().store(memory(), out, params[1], 0);
    let mut back = vec![b.ins().iadd_imm_s(params[0], narrow), b.ins().iadd(params[1], step)];
    let again = b.ins().icmp(IntCC::UnsignedLessThanOrEqual, back[0], limit);
    back.extend(&accs);
    back.extend(&carries);
    b.ins().brif(again, single, &args(&back), merged, &args(&back));

    let params = enter(b, merged);
    for (i, register) in params[2..].iter().enumerate() {
        b.ins().store(memory(), *register, frame.partials, (i * VECTOR_BYTES) as i32);
    }
    Ok(LoopCursor { src: params[0], dst: params[1] })
}

/// Several chunks an iteration, each with its own accumulators, which start like those in `first`; then on to
/// `joined` with one set of them.
fn unrolled_loop(
    b: &mut LoopBuilder<'_>,
    body: &VectorBody,
    invariant: &[Option<Value>],
    frame: LoopFrame,
    first: &[Value],
    joined: Block,
    copies: usize,
) -> Result<(), String> {
    let per_copy: usize = body.accumulators.iter().map(Accumulator::registers).sum();
    let wide = (copies * VECTOR_BYTES) as i64;
    let (start, values) = first.split_at(2);
    let (accs, carries) = values.split_at(per_copy);
    let unrolled: Vec<Value> =
        start.iter().chain(accs.iter().cycle().take(copies * per_copy)).chain(carries).copied().collect();
    let main = block_like(b, &unrolled);
    let after_main = b.create_block();
    let limit = b.ins().iadd_imm_s(frame.end, -wide);
    let step = b.ins().band_imm_u(frame.step, wide);
    let enough = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, frame.len, wide);
    b.ins().brif(enough, main, &args(&unrolled), joined, &args(first));

    // All loads, then chunk after chunk.
    let params = enter(b, main);
    let (accs, carries) = params[2..].split_at(copies * per_copy);
    let (mut accs, mut carries) = (accs.to_vec(), carries.to_vec());
    let chunks: Vec<Value> = (0..copies)
        .map(|copy| b.ins().load(types::I8X16, memory(), params[0], (copy * VECTOR_BYTES) as i32))
        .collect();
    let pos = position(b, body, frame, params[0]);
    for (copy, chunk) in chunks.into_iter().enumerate() {
        let mine = &mut accs[copy * per_copy..(copy + 1) * per_copy];
        let out = turn(b, body, invariant, ChunkPlace { pos, copy }, chunk, mine, &mut carries)?;
        b.ins().store(memory(), out, params[1], (copy * VECTOR_BYTES) as i32);
    }
    let mut next = vec![b.ins().iadd_imm_s(params[0], wide), b.ins().iadd(params[1], step)];
    let again = b.ins().icmp(IntCC::UnsignedLessThanOrEqual, next[0], limit);
    let back: Vec<Value> = next.iter().chain(&accs).chain(&carries).copied().collect();
    b.ins().brif(again, main, &args(&back), after_main, &[]);

    // The copies into one.
    b.switch_to_block(after_main);
    let mut register = 0;
    for acc in &body.accumulators {
        for _ in 0..acc.registers() {
            let mut sum = accs[register];
            for copy in 1..copies {
                sum = merge(b, acc, sum, accs[copy * per_copy + register]);
            }
            next.push(sum);
            register += 1;
        }
    }
    next.extend(&carries);
    b.ins().jump(joined, &args(&next));
    Ok(())
}

/// One chunk through all stages: gives the chunk to be stored, as bytes.
fn turn(
    b: &mut LoopBuilder<'_>,
    body: &VectorBody,
    invariant: &[Option<Value>],
    place: ChunkPlace,
    chunk: Value,
    accs: &mut [Value],
    carries: &mut [Value],
) -> Result<Value, String> {
    // The place of each carry's first register.
    let places: Vec<usize> = body
        .carries
        .iter()
        .scan(0, |next, carry| {
            let place = *next;
            *next += carry.registers();
            Some(place)
        })
        .collect();
    let mut values: Vec<Value> = Vec::with_capacity(body.insts.len());
    for (inst, invariant) in body.insts.iter().zip(invariant) {
        let value = match (inst.op, invariant) {
            (VectorOp::Chunk, _) => Some(chunk),
            (VectorOp::Offset { nth, word }, _) => offsets(b, place, nth, word, inst.lane),
            (VectorOp::Induction(carry), _) => Some(carries[places[carry as usize]]),
            (VectorOp::Phase(phase), Some(table)) if is_long(body, phase) => {
                let period = body.phases[phase as usize].bytes.len() as i64;
                place.pos.map(|pos| {
                    let offset = b.ins().band_imm_u(pos, period - 1);
                    let from = b.ins().iadd(*table, offset);
                    let ty = vector::lanes(inst.lane);
                    b.ins().load(ty, memory(), from, (place.copy * VECTOR_BYTES) as i32)
                })
            }
            (_, Some(value)) => Some(*value),
            (VectorOp::Previous { of, carry }, _) => {
                let before = carries[places[carry as usize]];
                Some(previous(b, before, values[of.0 as usize], inst.lane))
            }
            (VectorOp::Running { of, carry }, _) => {
                let place = places[carry as usize];
                let (all, after) =
                    running(b, &body.carries[carry as usize], carries[place], values[of.0 as usize]);
                carries[place] = view(b, after, 1);
                Some(all)
            }
            (op, None) => vector::op(b, body, op, inst.lane, &values),
        };
        values.push(value.ok_or("a vector operation without code")?);
    }
    let mut rest = accs;
    for acc in &body.accumulators {
        let (mine, after) = rest.split_at_mut(acc.registers());
        rest = after;
        for operand in &acc.operands {
            accumulate(b, acc, mine, values[operand.0 as usize]);
        }
    }
    for (carry, place) in body.carries.iter().zip(&places) {
        match carry {
            Carry::Previous { of, .. } | Carry::Induction { of, .. } => {
                carries[*place] = view(b, values[of.0 as usize], 1);
            }
            Carry::Running { .. } => {}
            Carry::Sums { of, .. } => sums(b, carry, &mut carries[*place..place + 3], values[of.0 as usize]),
            Carry::System { system, of } => {
                let words: Vec<Value> = of.iter().map(|of| values[of.0 as usize]).collect();
                vector::system(b, system, &mut carries[*place..][..words.len()], &words);
            }
        }
    }
    let out = body.out.map_or(chunk, |out| values[out.0 as usize]);
    Ok(view(b, out, 1))
}

/// The scalar loop from `at` to the end, and the return.
fn scalar_loop(
    b: &mut FunctionBuilder<'_>,
    word: &Fused,
    tables: &mut ConstantTables,
    frame: LoopFrame,
    at: LoopCursor,
) -> Result<(), String> {
    let moving: Vec<usize> = (0..word.next.len()).filter(|index| !is_invariant(word, *index)).collect();
    let head = b.create_block();
    let store = b.create_block();
    let exit = b.create_block();
    let more = b.ins().icmp(IntCC::UnsignedLessThan, at.src, frame.end);
    b.ins().brif(more, head, &[], exit, &[]);

    b.switch_to_block(head);
    let mut states: Vec<Value> =
        (0..word.next.len()).map(|index| load_state(b, word, frame.states, index)).collect();
    let step = b.ins().band_imm_u(frame.step, word.gauge as i64);
    // The offset in the stream of the byte at `p` is `pos + (p - start)`.
    let origin = b.ins().isub(frame.pos, frame.start);
    let mut first = vec![at.src, at.dst];
    first.extend(moving.iter().map(|index| states[*index]));
    let body = block_like(b, &first);
    b.ins().jump(body, &args(&first));

    let params = enter(b, body);
    for (index, value) in moving.iter().zip(&params[2..]) {
        states[*index] = *value;
    }
    let ty = Ty::from_bytes(word.gauge).unwrap_or(Ty::U64);
    let raw = b.ins().load(scalar_type(ty), memory(), params[0], 0);
    let values = scalar::block(b, &word.block, &word.tables, tables, |b, op| match op {
        Op::State(StateId(state)) => states[state as usize],
        Op::Pos => b.ins().iadd(origin, params[0]),
        _ => raw,
    })?;
    let out = word.out.map_or(raw, |out| values[out.0 as usize]);
    b.ins().store(memory(), out, params[1], 0);
    let mut back = vec![b.ins().iadd_imm_s(params[0], word.gauge as i64), b.ins().iadd(params[1], step)];
    back.extend(moving.iter().map(|index| values[word.next[*index].0 as usize]));
    let again = b.ins().icmp(IntCC::UnsignedLessThan, back[0], frame.end);
    b.ins().brif(again, body, &args(&back), store, &[]);

    b.switch_to_block(store);
    store_states(b, word, frame.states, &values);
    b.ins().jump(exit, &[]);
    b.switch_to_block(exit);
    b.ins().return_(&[]);
    Ok(())
}
