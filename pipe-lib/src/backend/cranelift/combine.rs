//! From a register of partial results to the state: the end of every vector loop.

use super::body::{Accumulate, Accumulator};
use crate::analyse::Reduce;
use crate::ir::{Ty, UnaryOp, eval};
use crate::plan::join::residue;

/// The state after `partial` is taken in: the accumulator's registers, one after the other, with unrolled
/// copies already merged.
pub(crate) fn combine(acc: &Accumulator, state: u64, partial: &[u8]) -> u64 {
    match acc.form {
        Accumulate::Lanes => lanes(acc, state, partial),
        Accumulate::Sum { .. } => {
            let total = total(acc.lane, partial);
            add_total(acc, state, total)
        }
    }
}

/// The sum and the sum of sums after `chunks` chunks of `words` words each, from the registers `a`, `b` and
/// `w` of a [`Carry::Sums`](super::body::Carry::Sums).
///
/// Let `a0` and `b0` be the states before, and `N = chunks * words`. Every word adds the sum so far to `b`,
/// so `a0` counts `N` times. What earlier chunks summed to counts once for each word of a chunk
/// (`words * b`). Within a chunk, `w` has the weights.
pub(crate) fn sums(
    op: Reduce,
    ty: Ty,
    [a0, b0]: [u64; 2],
    partial: &[u8],
    chunks: u64,
    words: u64,
) -> [u64; 2] {
    let third = partial.len() / 3;
    let sum = |part: usize| -> u128 {
        let (lanes, _) = partial[part * third..(part + 1) * third].as_chunks::<8>();
        lanes.iter().map(|lane| u128::from(u64::from_le_bytes(*lane))).sum()
    };
    let (a, b, w) = (sum(0), sum(1), sum(2));
    let before = match op {
        // Only residues matter; reducing first keeps the product small.
        Reduce::Addmod(m) => u128::from(a0 % m),
        _ => u128::from(a0),
    };
    let n = u128::from(chunks * words);
    let total_a = u128::from(a0) + a;
    let total_b = u128::from(b0) + n * before + u128::from(words) * b + w;
    match op {
        Reduce::Addmod(m) => [rest(total_a, m), rest(total_b, m)],
        Reduce::Addc => [residue(ty, total_a), residue(ty, total_b)],
        _ => [total_a as u64 & ty.mask(), total_b as u64 & ty.mask()],
    }
}

/// Takes a sum of all operands into the state.
pub(crate) fn add_total(acc: &Accumulator, state: u64, total: u128) -> u64 {
    match acc.op {
        Reduce::Addc => {
            let mut sum = residue(acc.ty, total);
            if acc.swapped {
                sum = eval::unary(UnaryOp::Bswap, acc.ty, sum);
            }
            acc.op.apply(acc.ty, state, sum)
        }
        Reduce::Addmod(m) => rest(u128::from(state) + total, m),
        Reduce::Adds => (u128::from(state) + total).min(u128::from(acc.ty.mask())) as u64,
        _ => state.wrapping_add(total as u64) & acc.ty.mask(),
    }
}

/// `x mod m`. Numbers of more than 64 bits are rare and slow to divide.
fn rest(x: u128, m: u64) -> u64 {
    match u64::try_from(x) {
        Ok(x) => x % m,
        Err(_) => (x % u128::from(m)) as u64,
    }
}

fn lanes(acc: &Accumulator, state: u64, partial: &[u8]) -> u64 {
    match acc.lane {
        1 => partial.iter().fold(state, |state, lane| step(acc, state, u64::from(*lane))),
        2 => lanes_of(acc, state, partial, |lane| u64::from(u16::from_le_bytes(lane))),
        4 => lanes_of(acc, state, partial, |lane| u64::from(u32::from_le_bytes(lane))),
        _ => lanes_of(acc, state, partial, u64::from_le_bytes),
    }
}

fn lanes_of<const N: usize>(
    acc: &Accumulator,
    state: u64,
    partial: &[u8],
    number: impl Fn([u8; N]) -> u64,
) -> u64 {
    partial.as_chunks::<N>().0.iter().fold(state, |state, lane| step(acc, state, number(*lane)))
}

/// The state with one more lane. What there is to choose is the same for all lanes of a register.
#[inline(always)]
fn step(acc: &Accumulator, state: u64, lane: u64) -> u64 {
    let mask = acc.ty.mask();
    match acc.op {
        Reduce::Add => state.wrapping_add(lane) & mask,
        Reduce::Xor => (state ^ lane) & mask,
        Reduce::Or => (state | lane) & mask,
        Reduce::And => state & lane,
        Reduce::Min => state.min(lane & mask),
        Reduce::Max => state.max(lane & mask),
        op => op.apply(acc.ty, state, lane & mask),
    }
}

/// The sum of all lanes from the pair `s1`, `s2` of 64-bit accumulators.
///
/// With operands of up to 32 bits, `s1` may wrap. It is the sum of the low halves plus `2^32` times the sum
/// of the high ones, which is `s2`. So `s1 - (s2 << 32)` is exactly the sum of the low halves, which is less
/// than 2^64 for fewer than 2^32 steps.
fn total(lane: u8, partial: &[u8]) -> u128 {
    let (s1, s2) = partial.split_at(partial.len() / 2);
    let mut total = 0u128;
    for (s1, s2) in s1.as_chunks::<8>().0.iter().zip(s2.as_chunks::<8>().0) {
        let (s1, s2) = (u64::from_le_bytes(*s1), u64::from_le_bytes(*s2));
        total += if lane == 8 {
            u128::from(s1) + (u128::from(s2) << 32)
        } else {
            u128::from(s1.wrapping_sub(s2 << 32)) + u128::from(s2)
        };
    }
    total
}
