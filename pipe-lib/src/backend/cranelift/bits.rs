//! Counts of bits, shifts by a vector of counts and look-ups in small tables. None is an instruction of
//! 128-bit vectors everywhere: they are made of shuffles of 16-entry tables, products and comparisons.

use super::builder::LoopBuilder;
use super::vector::{lane_sums, lanes, shr, shuffle, splat, view};
use crate::ir::BinaryOp;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{ConstantData, InstBuilder, Value};

/// A constant of any bytes.
fn constant(b: &mut LoopBuilder<'_>, bytes: [u8; 16], lane: u8) -> Value {
    let bytes = b.func.dfg.constants.insert(ConstantData::from(bytes.to_vec()));
    b.ins().vconst(lanes(lane), bytes)
}

/// For each byte of `index` the entry of `table`, whose length is a power of two up to 256; indices are in
/// range.
fn small_lookup(b: &mut LoopBuilder<'_>, table: [u8; 16], index: Value) -> Value {
    let table = constant(b, table, 1);
    if b.x86 { b.ins().x86_pshufb(table, index) } else { b.ins().swizzle(table, index) }
}

/// For each byte of `index` the entry of `table`, which has a power of two of them, at most 256; indices are
/// in range.
pub(super) fn lookup(b: &mut LoopBuilder<'_>, table: &[u8], index: Value) -> Value {
    let mut index = view(b, index, 1);
    let mut entries: Option<Value> = None;
    for (i, part) in table.chunks(16).enumerate() {
        if i > 0 {
            let sixteen = splat(b, 16, 1);
            index = b.ins().isub(index, sixteen);
        }
        let part: [u8; 16] = std::array::from_fn(|i| part[i % part.len()]);
        // A part answers for its own indices alone.
        let own = if table.len() > 16 && b.x86 {
            let beyond = splat(b, 0x70, 1);
            b.ins().uadd_sat(index, beyond)
        } else {
            index
        };
        let found = small_lookup(b, part, own);
        entries = Some(match entries {
            None => found,
            Some(entries) => b.ins().bor(entries, found),
        });
    }
    entries.unwrap_or(index)
}

/// Zeros above the highest bit of each lane.
pub(super) fn leading_zeros(b: &mut LoopBuilder<'_>, x: Value, lane: u8) -> Value {
    let zeros: [u8; 16] = std::array::from_fn(|nibble| (nibble as u8).leading_zeros() as u8 - 4);
    let x = view(b, x, 1);
    let mask = splat(b, 0x0f, 1);
    let high = shr(b, x, 4);
    let low = b.ins().band(x, mask);
    let none = splat(b, 0, 1);
    let is_zero = b.ins().icmp(IntCC::Equal, high, none);
    let (high, low) = (small_lookup(b, zeros, high), small_lookup(b, zeros, low));
    let low = b.ins().band(low, is_zero);
    let mut count = b.ins().iadd(high, low);
    let mut width = 1;
    while width < lane {
        // The upper half's, and the lower one's if the upper one is all zeros.
        let bits = u64::from(width) * 8;
        width *= 2;
        count = view(b, count, width);
        let high = shr(b, count, bits);
        let mask = splat(b, (1 << bits) - 1, width);
        let low = b.ins().band(count, mask);
        let all = splat(b, bits, width);
        let is_zero = b.ins().icmp(IntCC::Equal, high, all);
        let low = b.ins().band(low, is_zero);
        count = b.ins().iadd(high, low);
    }
    count
}

/// Zeros below the lowest bit of each lane: the ones of `!x & (x - 1)`.
pub(super) fn trailing_zeros(b: &mut LoopBuilder<'_>, x: Value, lane: u8) -> Value {
    let x = view(b, x, lane);
    let one = splat(b, 1, lane);
    let less = b.ins().isub(x, one);
    let zeros = b.ins().bnot(x);
    let below = b.ins().band(less, zeros);
    let below = view(b, below, 1);
    let ones = b.ins().popcnt(below);
    lane_sums(b, ones, 1, lane, false)
}

/// A shift, or a rotate to the left, of lanes of up to 32 bits by counts below the lane's bits.
pub(super) fn shift(b: &mut LoopBuilder<'_>, op: BinaryOp, x: Value, counts: Value, lane: u8) -> Value {
    let (x, counts) = (view(b, x, lane), view(b, counts, lane));
    let bits = u64::from(lane) * 8;
    match op {
        BinaryOp::Shl => {
            let power = power(b, counts, lane);
            product(b, x, power, lane)
        }
        BinaryOp::Shr => {
            // `x 2^(bits - 1 - n) / 2^(bits - 1)`.
            let most = splat(b, bits - 1, lane);
            let up = b.ins().bxor(counts, most);
            let power = power(b, up, lane);
            let halves = products(b, x, power, lane).map(|wide| shr(b, wide, bits - 1));
            joined(b, halves, lane)
        }
        BinaryOp::Sar => {
            // Of a negative number the complement is shifted.
            let zero = splat(b, 0, lane);
            let negative = b.ins().icmp(IntCC::SignedLessThan, x, zero);
            let x = b.ins().bxor(x, negative);
            let shifted = shift(b, BinaryOp::Shr, x, counts, lane);
            let shifted = view(b, shifted, lane);
            b.ins().bxor(shifted, negative)
        }
        _ => {
            // What goes out at the top comes in again at the bottom.
            let power = power(b, counts, lane);
            let low = splat(b, (1 << bits) - 1, 2 * lane);
            let halves = products(b, x, power, lane).map(|wide| {
                let out = shr(b, wide, bits);
                let both = b.ins().bor(wide, out);
                b.ins().band(both, low)
            });
            joined(b, halves, lane)
        }
    }
}

/// 2 to the power of each lane, which is below the lane's bits.
fn power(b: &mut LoopBuilder<'_>, counts: Value, lane: u8) -> Value {
    let powers: [u8; 16] = std::array::from_fn(|i| if i < 8 { 1 << i } else { 0 });
    // The count in all bytes of the lane; byte `k` is the power of what is beyond `8 k`.
    let spread = std::array::from_fn(|i| i as u8 / lane * lane);
    let mut index = if lane == 1 { counts } else { shuffle(b, counts, counts, spread) };
    if lane > 1 {
        let below = constant(b, std::array::from_fn(|i| i as u8 % lane * 8), 1);
        index = b.ins().isub(index, below);
    }
    if lane > 2 {
        // Counts of 16 and more would be taken for those without the upper bits.
        let most = splat(b, 15, 1);
        index = b.ins().umin(index, most);
    }
    let power = small_lookup(b, powers, index);
    view(b, power, lane)
}

fn product(b: &mut LoopBuilder<'_>, x: Value, y: Value, lane: u8) -> Value {
    if lane > 1 {
        return b.ins().imul(x, y);
    }
    let [low, high] = products(b, x, y, 1);
    let mask = splat(b, 0xff, 2);
    let (low, high) = (b.ins().band(low, mask), b.ins().band(high, mask));
    joined(b, [low, high], 1)
}

/// Products in lanes of twice the width: of the first half of the lanes, and of the second.
fn products(b: &mut LoopBuilder<'_>, x: Value, y: Value, lane: u8) -> [Value; 2] {
    debug_assert!(lane < 4);
    let (x_low, y_low) = (b.ins().uwiden_low(x), b.ins().uwiden_low(y));
    let (x_high, y_high) = (b.ins().uwiden_high(x), b.ins().uwiden_high(y));
    [b.ins().imul(x_low, y_low), b.ins().imul(x_high, y_high)]
}

/// The halves of [`products`], which fit lanes of `lane` bytes, in one register.
fn joined(b: &mut LoopBuilder<'_>, [low, high]: [Value; 2], lane: u8) -> Value {
    debug_assert!(lane < 4);
    b.ins().unarrow(low, high)
}
