//! Partial results into states, as code: what [`crate::backend::cranelift::combine`] does in a process.

use crate::analyse::Reduce;
use crate::backend::cranelift::VECTOR_BYTES;
use crate::backend::cranelift::body::{Accumulate, Accumulator, Carry, VectorBody};
use crate::backend::cranelift::loops::memory;
use crate::backend::cranelift::scalar::scalar_type;
use crate::ir::Ty;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

/// Whether there is code for all of it here: not for sums of sums, linear recurrences, signed extremes and
/// sums modulo a number.
pub(super) fn is_simple(body: &VectorBody) -> bool {
    let simple = |acc: &Accumulator| match acc.op {
        Reduce::Add | Reduce::Addc => true,
        Reduce::Xor | Reduce::Or | Reduce::And | Reduce::Min | Reduce::Max => acc.form == Accumulate::Lanes,
        _ => false,
    };
    body.accumulators.iter().all(simple)
        && !body.carries.iter().any(|carry| matches!(carry, Carry::Sums { .. } | Carry::System { .. }))
}

/// Takes the registers at `partials` into the states.
pub(super) fn take(b: &mut FunctionBuilder<'_>, body: &VectorBody, states: Value, partials: Value) {
    let mut at = 0;
    for acc in &body.accumulators {
        let state = b.ins().load(types::I64, memory(), states, 8 * acc.state as i32);
        let value = match acc.form {
            Accumulate::Lanes => lanes(b, acc, state, partials, at),
            Accumulate::Sum { .. } => sum(b, acc, state, partials, at),
        };
        b.ins().store(memory(), value, states, 8 * acc.state as i32);
        at += acc.registers() * VECTOR_BYTES;
    }
    for carry in &body.carries {
        let lane_at = |b: &mut FunctionBuilder<'_>, offset: usize, lane: u8| {
            load(b, partials, at + offset, usize::from(lane))
        };
        let put = |b: &mut FunctionBuilder<'_>, state: u32, value: Value| {
            b.ins().store(memory(), value, states, 8 * state as i32);
        };
        match *carry {
            Carry::Previous { state, lane, .. } => {
                let last = lane_at(b, VECTOR_BYTES - usize::from(lane), lane);
                put(b, state, last);
            }
            Carry::Running { ref states, ty, lane, .. } => {
                // The oldest first.
                let lanes = VECTOR_BYTES / usize::from(lane);
                for (nth, state) in states.iter().rev().enumerate().take(lanes) {
                    let value = lane_at(b, nth * usize::from(lane), lane);
                    let value = masked(b, value, ty);
                    put(b, *state, value);
                }
            }
            Carry::Induction { state, ty, lane, .. } => {
                let first = lane_at(b, 0, lane);
                let first = masked(b, first, ty);
                put(b, state, first);
            }
            Carry::Sums { .. } | Carry::System { .. } => {}
        }
        at += carry.registers() * VECTOR_BYTES;
    }
}

fn load(b: &mut FunctionBuilder<'_>, from: Value, offset: usize, bytes: usize) -> Value {
    let ty = scalar_type(Ty::from_bytes(bytes).unwrap_or(Ty::U64));
    let value = b.ins().load(ty, memory(), from, offset as i32);
    if ty == types::I64 { value } else { b.ins().uextend(types::I64, value) }
}

fn masked(b: &mut FunctionBuilder<'_>, value: Value, ty: Ty) -> Value {
    if ty == Ty::U64 { value } else { b.ins().band_imm_u(value, ty.mask() as i64) }
}

/// The state with every lane.
fn lanes(b: &mut FunctionBuilder<'_>, acc: &Accumulator, state: Value, from: Value, at: usize) -> Value {
    let mut state = state;
    for offset in (0..VECTOR_BYTES).step_by(usize::from(acc.lane)) {
        let lane = load(b, from, at + offset, usize::from(acc.lane));
        let lane = masked(b, lane, acc.ty);
        state = match acc.op {
            Reduce::Xor => b.ins().bxor(state, lane),
            Reduce::Or => b.ins().bor(state, lane),
            Reduce::And => b.ins().band(state, lane),
            Reduce::Min | Reduce::Max => {
                let min = acc.op == Reduce::Min;
                let order = if min { IntCC::UnsignedLessThan } else { IntCC::UnsignedGreaterThan };
                let first = b.ins().icmp(order, state, lane);
                b.ins().select(first, state, lane)
            }
            Reduce::Addc => add_around(b, state, lane, acc.ty),
            _ => {
                let sum = b.ins().iadd(state, lane);
                masked(b, sum, acc.ty)
            }
        };
    }
    state
}

/// One's complement sum of two numbers of the type.
fn add_around(b: &mut FunctionBuilder<'_>, x: Value, y: Value, ty: Ty) -> Value {
    let sum = b.ins().iadd(x, y);
    if ty == Ty::U64 {
        let carry = b.ins().icmp(IntCC::UnsignedLessThan, sum, x);
        let carry = b.ins().uextend(types::I64, carry);
        return b.ins().iadd(sum, carry);
    }
    fold_once(b, sum, ty)
}

fn fold_once(b: &mut FunctionBuilder<'_>, value: Value, ty: Ty) -> Value {
    let (low, high) = (masked(b, value, ty), b.ins().ushr_imm_u(value, i64::from(ty.bits())));
    b.ins().iadd(low, high)
}

/// The state and the pair of 64-bit accumulators: see [`Accumulate::Sum`].
fn sum(b: &mut FunctionBuilder<'_>, acc: &Accumulator, state: Value, from: Value, at: usize) -> Value {
    let zero = b.ins().iconst(types::I64, 0);
    let (mut low, mut high) = (zero, zero);
    let add = |b: &mut FunctionBuilder<'_>, low: &mut Value, high: &mut Value, more: [Value; 2]| {
        let sum = b.ins().iadd(*low, more[0]);
        let carry = b.ins().icmp(IntCC::UnsignedLessThan, sum, more[0]);
        let carry = b.ins().uextend(types::I64, carry);
        let above = b.ins().iadd(*high, more[1]);
        (*low, *high) = (sum, b.ins().iadd(above, carry));
    };
    for offset in (0..VECTOR_BYTES).step_by(8) {
        let s1 = load(b, from, at + offset, 8);
        let s2 = load(b, from, at + VECTOR_BYTES + offset, 8);
        let moved = b.ins().ishl_imm_u(s2, 32);
        if acc.lane == 8 {
            let top = b.ins().ushr_imm_u(s2, 32);
            add(b, &mut low, &mut high, [s1, zero]);
            add(b, &mut low, &mut high, [moved, top]);
        } else {
            let halves = b.ins().isub(s1, moved);
            add(b, &mut low, &mut high, [halves, zero]);
            add(b, &mut low, &mut high, [s2, zero]);
        }
    }
    if acc.op == Reduce::Add {
        let sum = b.ins().iadd(state, low);
        return masked(b, sum, acc.ty);
    }
    // Modulo 2^64 - 1 first, a multiple of all the others.
    let mut total = add_around(b, low, high, Ty::U64);
    if acc.ty != Ty::U64 {
        // Each time as many bits fewer as the type has, until a carry is all that can be left.
        for _ in 0..=64 / acc.ty.bits() {
            total = fold_once(b, total, acc.ty);
        }
    }
    if acc.swapped && acc.ty.bytes() > 1 {
        let ty = scalar_type(acc.ty);
        let narrow = if ty == types::I64 { total } else { b.ins().ireduce(ty, total) };
        let swapped = b.ins().bswap(narrow);
        total = if ty == types::I64 { swapped } else { b.ins().uextend(types::I64, swapped) };
    }
    add_around(b, state, total, acc.ty)
}
