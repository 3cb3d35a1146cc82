//! Vector operations in Cranelift's IR, with what it lacks for a lane width put together from what it has.

use super::bits;
use super::body::{Accumulate, Accumulator, Carry, Reg, System, VectorBody, VectorOp};
use super::builder::LoopBuilder;
use crate::analyse::Reduce;
use crate::ir::{BinaryOp, CompareOp, UnaryOp};
use crate::plan::induction::Step;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{ConstantData, Endianness, InstBuilder, MemFlagsData, Type, Value, types};

/// Cranelift's type for lanes of `lane` bytes.
pub(super) const fn lanes(lane: u8) -> Type {
    match lane {
        1 => types::I8X16,
        2 => types::I16X8,
        4 => types::I32X4,
        _ => types::I64X2,
    }
}

/// The same bits as other lanes.
pub(super) fn view(b: &mut LoopBuilder<'_>, value: Value, lane: u8) -> Value {
    let ty = lanes(lane);
    if b.func.dfg.value_type(value) == ty {
        value
    } else {
        b.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), value)
    }
}

/// A literal in every lane.
pub(super) fn splat(b: &mut LoopBuilder<'_>, value: u64, lane: u8) -> Value {
    let bytes: Vec<u8> = value.to_le_bytes()[..usize::from(lane)].repeat(16 / usize::from(lane));
    let constant = b.func.dfg.constants.insert(ConstantData::from(bytes));
    b.ins().vconst(lanes(lane), constant)
}

fn count(b: &mut LoopBuilder<'_>, bits: u64) -> Value {
    b.ins().iconst(types::I32, bits as i64)
}

pub(super) fn shl(b: &mut LoopBuilder<'_>, x: Value, bits: u64) -> Value {
    let bits = count(b, bits);
    b.ins().ishl(x, bits)
}

pub(super) fn shr(b: &mut LoopBuilder<'_>, x: Value, bits: u64) -> Value {
    let bits = count(b, bits);
    b.ins().ushr(x, bits)
}

pub(super) fn shuffle(b: &mut LoopBuilder<'_>, x: Value, y: Value, mask: [u8; 16]) -> Value {
    if x == y && b.x86 {
        // With AVX-512 Cranelift would take the two-source permutation, which is three operations on many
        // cores.
        let mask = b.func.dfg.constants.insert(ConstantData::from(mask.map(|i| i % 16).to_vec()));
        let mask = b.ins().vconst(types::I8X16, mask);
        let x = view(b, x, 1);
        return b.ins().x86_pshufb(x, mask);
    }
    let (x, y) = (view(b, x, 1), view(b, y, 1));
    let mask = b.func.dfg.immediates.push(ConstantData::from(mask.to_vec()));
    b.ins().shuffle(x, y, mask)
}

/// One operation on lanes of `lane` bytes; `values` are those of all instructions before. Leaves (the chunk,
/// invariants) and what passes from chunk to chunk are made by the loop builder and give `None`.
pub(super) fn op(
    b: &mut LoopBuilder<'_>,
    body: &VectorBody,
    op: VectorOp,
    lane: u8,
    values: &[Value],
) -> Option<Value> {
    let raw = |reg: Reg| values[reg.0 as usize];
    Some(match op {
        VectorOp::Chunk | VectorOp::Splat(_) | VectorOp::Invariant(_) => return None,
        VectorOp::Phase(_) | VectorOp::Offset { .. } | VectorOp::Induction(_) => return None,
        VectorOp::Previous { .. } | VectorOp::Running { .. } => return None,
        VectorOp::Slide { before, of } => previous(b, raw(before), raw(of), lane),
        VectorOp::Later { of, carry } => later(b, &body.carries[carry as usize], raw(of)),
        VectorOp::Lookup(table, index) => bits::lookup(b, &body.tables[table as usize], raw(index)),
        VectorOp::Unary(op, a) => unary(b, op, raw(a), lane),
        VectorOp::Binary(
            op @ (BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar | BinaryOp::Rotl),
            x,
            counts,
        ) if body.splat(counts).is_none() => bits::shift(b, op, raw(x), raw(counts), lane),
        VectorOp::Binary(op, x, y) => {
            let shift = body.splat(y);
            binary(b, op, raw(x), raw(y), shift, lane)
        }
        VectorOp::Compare(op, x, y) => {
            let (x, y) = (view(b, raw(x), lane), view(b, raw(y), lane));
            compare(b, op, x, y, lane)
        }
        VectorOp::Select(cond, then, otherwise) => {
            let (cond, then) = (view(b, raw(cond), lane), view(b, raw(then), lane));
            let otherwise = view(b, raw(otherwise), lane);
            b.ins().bitselect(cond, then, otherwise)
        }
        VectorOp::Extend { from, high, signed } => {
            let from = view(b, raw(from), lane / 2);
            match (high, signed) {
                (false, false) => b.ins().uwiden_low(from),
                (true, false) => b.ins().uwiden_high(from),
                (false, true) => b.ins().swiden_low(from),
                (true, true) => b.ins().swiden_high(from),
            }
        }
        VectorOp::Narrow(x, y) => {
            let lane = usize::from(lane);
            // Byte `i` of the result belongs to lane `i / lane`, whose source lane is twice as wide.
            let mask = std::array::from_fn(|i| (i / lane * 2 * lane + i % lane) as u8);
            shuffle(b, raw(x), raw(y), mask)
        }
    })
}

fn unary(b: &mut LoopBuilder<'_>, op: UnaryOp, a: Value, lane: u8) -> Value {
    let a = view(b, a, lane);
    match op {
        UnaryOp::Neg => b.ins().ineg(a),
        UnaryOp::Not => b.ins().bnot(a),
        UnaryOp::Bswap => bswap(b, a, lane),
        UnaryOp::Bitrev => {
            // Bits within bytes by halving swaps, then the bytes.
            let mut x = view(b, a, 8);
            for (bits, low) in
                [(1, 0x5555_5555_5555_5555), (2, 0x3333_3333_3333_3333), (4, 0x0f0f_0f0f_0f0f_0f0f)]
            {
                let mask = splat(b, low, 8);
                let down = shr(b, x, bits);
                let down = b.ins().band(down, mask);
                let up = b.ins().band(x, mask);
                let up = shl(b, up, bits);
                x = b.ins().bor(up, down);
            }
            bswap(b, x, lane)
        }
        UnaryOp::Popcnt => {
            let bytes = view(b, a, 1);
            let bits = b.ins().popcnt(bytes);
            lane_sums(b, bits, 1, lane, false)
        }
        UnaryOp::Clz => bits::leading_zeros(b, a, lane),
        UnaryOp::Ctz => bits::trailing_zeros(b, a, lane),
    }
}

fn bswap(b: &mut LoopBuilder<'_>, a: Value, lane: u8) -> Value {
    if lane == 1 {
        return view(b, a, 1);
    }
    let mask = std::array::from_fn(|i| i as u8 ^ (lane - 1));
    shuffle(b, a, a, mask)
}

/// Sums of neighbouring unsigned lanes of `lane` bytes, in lanes of twice the width. `small` promises that
/// the lanes are below half of their range, which some machines sum faster.
fn pair_sums(b: &mut LoopBuilder<'_>, x: Value, lane: u8, small: bool) -> Value {
    match lane {
        1 => {
            let x = view(b, x, 1);
            let (low, high) = (b.ins().uwiden_low(x), b.ins().uwiden_high(x));
            b.ins().iadd_pairwise(low, high)
        }
        2 if small => {
            let x = view(b, x, 2);
            let (low, high) = (b.ins().swiden_low(x), b.ins().swiden_high(x));
            b.ins().iadd_pairwise(low, high)
        }
        _ => {
            let wide = view(b, x, lane * 2);
            let bits = u64::from(lane) * 8;
            let mask = splat(b, (1 << bits) - 1, lane * 2);
            let low = b.ins().band(wide, mask);
            let high = shr(b, wide, bits);
            b.ins().iadd(low, high)
        }
    }
}

/// Sums of all unsigned lanes of `lane` bytes within each lane of `to` bytes.
pub(super) fn lane_sums(
    b: &mut LoopBuilder<'_>,
    mut x: Value,
    mut lane: u8,
    to: u8,
    mut small: bool,
) -> Value {
    while lane < to {
        x = pair_sums(b, x, lane, small);
        small |= lane == 1;
        lane *= 2;
    }
    view(b, x, to.max(lane))
}

fn binary(b: &mut LoopBuilder<'_>, op: BinaryOp, x: Value, y: Value, shift: Option<u64>, lane: u8) -> Value {
    let bits = u64::from(lane) * 8;
    let shift = shift.unwrap_or(0) % bits;
    let (x, y) = (view(b, x, lane), view(b, y, lane));
    match op {
        BinaryOp::Add => b.ins().iadd(x, y),
        BinaryOp::Sub => b.ins().isub(x, y),
        BinaryOp::Mul if lane == 1 => multiply_bytes(b, x, y),
        BinaryOp::Mul => b.ins().imul(x, y),
        BinaryOp::And => b.ins().band(x, y),
        BinaryOp::Or => b.ins().bor(x, y),
        BinaryOp::Xor => b.ins().bxor(x, y),
        BinaryOp::Shl => shl(b, x, shift),
        BinaryOp::Shr => shr(b, x, shift),
        BinaryOp::Sar => {
            let bits = count(b, shift);
            b.ins().sshr(x, bits)
        }
        BinaryOp::Rotl if shift.is_multiple_of(8) => {
            // A rotate by bytes is a shuffle: byte `k` of a lane comes from byte `k - shift/8`.
            let width = usize::from(lane);
            let by = (shift / 8) as usize;
            let mask = std::array::from_fn(|i| (i / width * width + (i % width + width - by) % width) as u8);
            shuffle(b, x, x, mask)
        }
        BinaryOp::Rotl => {
            let up = shl(b, x, shift);
            let down = shr(b, x, bits - shift);
            b.ins().bor(up, down)
        }
        BinaryOp::Min | BinaryOp::Max | BinaryOp::Smin | BinaryOp::Smax if lane == 8 => {
            let first = match op {
                BinaryOp::Min => compare(b, CompareOp::Ltu, x, y, lane),
                BinaryOp::Max => compare(b, CompareOp::Ltu, y, x, lane),
                BinaryOp::Smin => compare(b, CompareOp::Lts, x, y, lane),
                _ => compare(b, CompareOp::Lts, y, x, lane),
            };
            b.ins().bitselect(first, x, y)
        }
        BinaryOp::Min => b.ins().umin(x, y),
        BinaryOp::Max => b.ins().umax(x, y),
        BinaryOp::Smin => b.ins().smin(x, y),
        BinaryOp::Smax => b.ins().smax(x, y),
        // What there is room for is added.
        BinaryOp::Adds if lane > 2 => {
            let room = b.ins().bnot(x);
            let fits = binary(b, BinaryOp::Min, y, room, None, lane);
            b.ins().iadd(x, fits)
        }
        BinaryOp::Adds => b.ins().uadd_sat(x, y),
        BinaryOp::Subs => b.ins().usub_sat(x, y),
        BinaryOp::Sadds => b.ins().sadd_sat(x, y),
        BinaryOp::Ssubs => b.ins().ssub_sat(x, y),
        // The plan refuses products without carries; the others are put together from what there is.
        BinaryOp::Addc | BinaryOp::Clmul | BinaryOp::Clmulh | BinaryOp::Rotr => {
            debug_assert!(false, "no vector operation is {op:?}");
            x
        }
    }
}

/// Products of bytes in 16-bit lanes: the even ones as they are, the odd ones shifted down and up again.
fn multiply_bytes(b: &mut LoopBuilder<'_>, x: Value, y: Value) -> Value {
    let (x, y) = (view(b, x, 2), view(b, y, 2));
    let low = splat(b, 0x00ff, 2);
    let even = b.ins().imul(x, y);
    let even = b.ins().band(even, low);
    let (x, y) = (shr(b, x, 8), shr(b, y, 8));
    let odd = b.ins().imul(x, y);
    let odd = shl(b, odd, 8);
    let both = b.ins().bor(even, odd);
    view(b, both, 1)
}

fn compare(b: &mut LoopBuilder<'_>, op: CompareOp, x: Value, y: Value, lane: u8) -> Value {
    let condition = match op {
        CompareOp::Eq => IntCC::Equal,
        CompareOp::Ne => IntCC::NotEqual,
        CompareOp::Ltu | CompareOp::Leu if lane == 8 => {
            // Unsigned order is signed order with the sign bits flipped; the machine compares signed only.
            let sign = splat(b, 1 << 63, 8);
            let (x, y) = (b.ins().bxor(x, sign), b.ins().bxor(y, sign));
            let signed = if op == CompareOp::Ltu { CompareOp::Lts } else { CompareOp::Les };
            return compare(b, signed, x, y, lane);
        }
        CompareOp::Ltu => IntCC::UnsignedLessThan,
        CompareOp::Leu => IntCC::UnsignedLessThanOrEqual,
        CompareOp::Lts => IntCC::SignedLessThan,
        CompareOp::Les => IntCC::SignedLessThanOrEqual,
    };
    b.ins().icmp(condition, x, y)
}

/// The lanes of `x` one later; the last one of `before` comes first.
pub(super) fn previous(b: &mut LoopBuilder<'_>, before: Value, x: Value, lane: u8) -> Value {
    shuffle(b, before, x, std::array::from_fn(|i| i as u8 + 16 - lane))
}

/// The lanes of a [`Carry::Induction`], as many words later as there are lanes.
fn later(b: &mut LoopBuilder<'_>, carry: &Carry, of: Value) -> Value {
    let Carry::Induction { ty, step, lane, .. } = carry else { return of };
    let (ty, lane) = (*ty, *lane);
    // What is above the type in the lane is cleared by an operation of its own.
    match step.times(16 / usize::from(lane), ty) {
        Step::Affine { factor, term } => {
            let of = if factor == 1 { of } else { literal(b, BinaryOp::Mul, of, factor, lane) };
            if term == 0 { of } else { literal(b, BinaryOp::Add, of, term, lane) }
        }
        Step::Rotate { left, flip } => {
            let of = match left {
                0 => of,
                left if ty.bits() == u32::from(lane) * 8 => {
                    let of = view(b, of, lane);
                    binary(b, BinaryOp::Rotl, of, of, Some(u64::from(left)), lane)
                }
                left => {
                    let of = view(b, of, lane);
                    let up = shl(b, of, u64::from(left));
                    let down = shr(b, of, u64::from(ty.bits() - left));
                    b.ins().bor(up, down)
                }
            };
            if flip == 0 { of } else { literal(b, BinaryOp::Xor, of, flip, lane) }
        }
        // The plan has no others.
        _ => of,
    }
}

/// `x op c` in lanes.
fn literal(b: &mut LoopBuilder<'_>, op: BinaryOp, x: Value, c: u64, lane: u8) -> Value {
    let c = splat(b, c, lane);
    binary(b, op, x, c, None, lane)
}

/// `carry` combined with the operands up to each lane, each with those of its turn; and `carry` after the
/// last lane.
///
/// The results within the register take a step for each doubling and depend on no other chunk; from chunk to
/// chunk there is one operation.
pub(super) fn running(b: &mut LoopBuilder<'_>, carry: &Carry, before: Value, of: Value) -> (Value, Value) {
    let Carry::Running { ty, op, lane, ref states } = *carry else { return (before, before) };
    let neutral = splat(b, op.identity(ty), lane);
    let mut x = view(b, of, lane);
    let turns = lane * states.len() as u8;
    let mut distance = turns;
    while distance < 16 {
        let moved = shuffle(b, neutral, x, std::array::from_fn(|i| i as u8 + 16 - distance));
        x = combined(b, op, x, moved, lane);
        distance *= 2;
    }
    if turns == lane {
        let last = std::array::from_fn(|i| 16 - lane + i as u8 % lane);
        let total = shuffle(b, x, x, last);
        let all = combined(b, op, before, x, lane);
        let after = combined(b, op, before, total, lane);
        return (all, after);
    }
    let all = combined(b, op, before, x, lane);
    let last = std::array::from_fn(|i| 16 - turns + i as u8 / lane * lane % turns + i as u8 % lane);
    let after = shuffle(b, all, all, last);
    (all, after)
}

/// `x op y` in lanes, one's complement addition included.
fn combined(b: &mut LoopBuilder<'_>, op: Reduce, x: Value, y: Value, lane: u8) -> Value {
    match op.binary() {
        Some(BinaryOp::Addc) | None => {
            let (x, y) = (view(b, x, lane), view(b, y, lane));
            let sum = b.ins().iadd(x, y);
            let carry = compare(b, CompareOp::Ltu, sum, x, lane);
            b.ins().isub(sum, carry)
        }
        Some(op) => binary(b, op, x, y, None, lane),
    }
}

/// One chunk of a sum and its sum of sums: see [`Carry::Sums`].
pub(super) fn sums(b: &mut LoopBuilder<'_>, carry: &Carry, registers: &mut [Value], of: Value) {
    let Carry::Sums { lane, includes_word, .. } = *carry else { return };
    registers[1] = b.ins().iadd(registers[1], registers[0]);
    let x = lane_sums(b, of, lane, 8, false);
    registers[0] = b.ins().iadd(registers[0], x);
    let words = 16 / u64::from(lane);
    let weight = |i: u64| words - i - u64::from(!includes_word);
    let weighted = if lane == 1 && b.x86 {
        // Signed weights times unsigned bytes, added in pairs.
        let weights: Vec<u8> = (0..words).map(|i| weight(i) as u8).collect();
        let weights = b.func.dfg.constants.insert(ConstantData::from(weights));
        let weights = b.ins().vconst(types::I8X16, weights);
        let bytes = view(b, of, 1);
        b.ins().x86_pmaddubsw(weights, bytes)
    } else {
        // The even and the odd lanes, each in lanes of twice the width.
        let wide = lane * 2;
        let weights = |b: &mut LoopBuilder<'_>, first: u64| {
            let each = (first..words).step_by(2).map(|i| weight(i).to_le_bytes());
            let bytes: Vec<u8> = each.flat_map(|word| word.into_iter().take(usize::from(wide))).collect();
            let constant = b.func.dfg.constants.insert(ConstantData::from(bytes));
            b.ins().vconst(lanes(wide), constant)
        };
        let bits = u64::from(lane) * 8;
        let of = view(b, of, wide);
        let low = splat(b, (1 << bits) - 1, wide);
        let even = b.ins().band(of, low);
        let odd = shr(b, of, bits);
        let (even_weights, odd_weights) = (weights(b, 0), weights(b, 1));
        let even = b.ins().imul(even, even_weights);
        let odd = b.ins().imul(odd, odd_weights);
        b.ins().iadd(even, odd)
    };
    let weighted = lane_sums(b, weighted, lane * 2, 8, lane == 1);
    registers[2] = b.ins().iadd(registers[2], weighted);
}

/// One chunk of a linear recurrence: see [`Carry::System`].
pub(super) fn system(b: &mut LoopBuilder<'_>, system: &System, registers: &mut [Value], words: &[Value]) {
    let (side, parts, lane) = (system.states.len(), usize::from(system.parts), system.lane);
    let power = system.power(system.words(16));
    let before = registers.to_vec();
    for (at, register) in registers.iter_mut().enumerate() {
        let (state, part) = (at / parts, at % parts);
        let mut sum = view(b, words[at], lane);
        for of in 0..side {
            let old = view(b, before[of * parts + part], lane);
            sum = match power[state * side + of] {
                0 => sum,
                1 => b.ins().iadd(sum, old),
                factor if factor == system.ty.mask() => b.ins().isub(sum, old),
                factor => {
                    let product = match factor.is_power_of_two() {
                        true => shl(b, old, u64::from(factor.trailing_zeros())),
                        false => literal(b, BinaryOp::Mul, old, factor, lane),
                    };
                    b.ins().iadd(sum, product)
                }
            };
        }
        *register = view(b, sum, 1);
    }
}

/// Takes one operand into an accumulator's registers.
pub(super) fn accumulate(b: &mut LoopBuilder<'_>, acc: &Accumulator, regs: &mut [Value], operand: Value) {
    match acc.form {
        Accumulate::Lanes => regs[0] = merge(b, acc, regs[0], operand),
        Accumulate::Sum { exact } => {
            let v = if exact { lane_sums(b, operand, acc.lane, 4, false) } else { operand };
            let v = view(b, v, 8);
            let low = if acc.lane == 8 {
                let mask = splat(b, 0xffff_ffff, 8);
                b.ins().band(v, mask)
            } else {
                v
            };
            regs[0] = b.ins().iadd(regs[0], low);
            let high = shr(b, v, 32);
            regs[1] = b.ins().iadd(regs[1], high);
        }
    }
}

/// One register of partial results with another.
pub(super) fn merge(b: &mut LoopBuilder<'_>, acc: &Accumulator, x: Value, y: Value) -> Value {
    match (acc.form, acc.op.binary()) {
        (Accumulate::Lanes, Some(op)) if op != BinaryOp::Addc => binary(b, op, x, y, None, acc.lane),
        _ => {
            debug_assert!(
                acc.form != Accumulate::Lanes || acc.op != Reduce::Addc,
                "sums have a form of their own"
            );
            let (x, y) = (view(b, x, 8), view(b, y, 8));
            b.ins().iadd(x, y)
        }
    }
}
