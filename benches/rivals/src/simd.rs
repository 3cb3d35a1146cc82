//! Passes and fused loops over vectors of any width: what AVX2 and AVX-512 have in common.
//!
//! Everything here is inlined into functions that enable the features (`avx2.rs`, `avx512.rs`), so the
//! vectors stay in registers. Loops count and index by hand: iterator adaptors would be compiled without
//! those features.

#![allow(clippy::needless_range_loop, reason = "plain loops keep vectors in registers")]

use crate::{MAX_SUMS, Sums, fold};

/// A width of vectors.
///
/// # Safety of all methods
/// The machine has the features; pointers are readable or writable for the bytes that the method names.
pub(crate) trait Simd: Copy {
    /// A vector.
    type V: Copy;
    /// Its bytes.
    const BYTES: usize;

    unsafe fn zero() -> Self::V;
    unsafe fn splat(word: u32) -> Self::V;
    unsafe fn load(from: *const u8) -> Self::V;
    /// The first `len` bytes, 1 to `BYTES`, then zeros.
    unsafe fn load_part(from: *const u8, len: usize) -> Self::V;
    unsafe fn store(to: *mut u8, v: Self::V);
    /// Past the caches; `to` is a multiple of `BYTES`.
    unsafe fn stream(to: *mut u8, v: Self::V);
    /// The first `len` bytes, 1 to `BYTES`.
    unsafe fn store_part(to: *mut u8, v: Self::V, len: usize);
    /// Zero from byte `len` on, 1 to `BYTES`.
    unsafe fn clear_part(v: Self::V, len: usize) -> Self::V;
    /// Zero before byte `len`, 0 to `BYTES`.
    unsafe fn clear_first(v: Self::V, len: usize) -> Self::V;
    unsafe fn swap32(v: Self::V) -> Self::V;
    unsafe fn xor(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn add64(a: Self::V, b: Self::V) -> Self::V;
    /// `a - b * 2^32` in 64-bit lanes.
    unsafe fn sub_high(a: Self::V, b: Self::V) -> Self::V;
    /// 64-bit lanes shifted right by 32.
    unsafe fn high(v: Self::V) -> Self::V;
    /// The sum of the 64-bit lanes.
    unsafe fn reduce64(v: Self::V) -> u64;
}

/// One's complement sums of 16-bit words, in vectors.
pub(crate) trait Acc<S: Simd>: Copy {
    /// Vectors added before `flush` must be called.
    const LIMIT: usize = usize::MAX;

    unsafe fn zero() -> Self;
    unsafe fn add(&mut self, v: S::V);
    /// Makes room for as many vectors again.
    #[inline(always)]
    unsafe fn flush(&mut self) {}
    /// Both have been flushed.
    unsafe fn merge(&mut self, other: Self);
    /// The folded sum of big-endian words.
    unsafe fn total(self) -> u16;
}

/// On 64-bit lanes `s1 += x; s2 += x >> 32`: at the end `s1 - (s2 << 32)` is the sum of the low halves, exact
/// for fewer than 2^32 vectors. Three instructions a vector and no constant.
#[derive(Clone, Copy)]
pub(crate) struct Halves<S: Simd> {
    s1: S::V,
    s2: S::V,
}

impl<S: Simd> Acc<S> for Halves<S> {
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: as this function.
        unsafe { Halves { s1: S::zero(), s2: S::zero() } }
    }

    #[inline(always)]
    unsafe fn add(&mut self, v: S::V) {
        // SAFETY: as this function.
        unsafe {
            self.s1 = S::add64(self.s1, v);
            self.s2 = S::add64(self.s2, S::high(v));
        }
    }

    #[inline(always)]
    unsafe fn merge(&mut self, other: Self) {
        // SAFETY: as this function.
        unsafe {
            self.s1 = S::add64(self.s1, other.s1);
            self.s2 = S::add64(self.s2, other.s2);
        }
    }

    #[inline(always)]
    unsafe fn total(self) -> u16 {
        // SAFETY: as this function.
        let sum = unsafe { S::reduce64(S::add64(S::sub_high(self.s1, self.s2), self.s2)) };
        fold(sum).to_be()
    }
}

/// One step from `src` to `dst`, which may be the same.
///
/// # Safety
/// The machine has the features; `src` is readable and `dst` writable for `len` bytes; they do not overlap in
/// part.
#[inline(always)]
pub(crate) unsafe fn map<S: Simd, const SWAP: bool>(src: *const u8, dst: *mut u8, len: usize, key: u32) {
    // SAFETY: every access lies below `len`, by the loops' conditions.
    unsafe {
        let key = S::splat(key.to_be());
        let mut at = 0;
        while at + 4 * S::BYTES <= len {
            for i in 0..4 {
                let v = S::load(src.add(at + S::BYTES * i));
                S::store(dst.add(at + S::BYTES * i), if SWAP { S::swap32(v) } else { S::xor(v, key) });
            }
            at += 4 * S::BYTES;
        }
        while at < len {
            let part = (len - at).min(S::BYTES);
            let v = S::load_part(src.add(at), part);
            S::store_part(dst.add(at), if SWAP { S::swap32(v) } else { S::xor(v, key) }, part);
            at += part;
        }
    }
}

/// The folded sum of big-endian words, with `U` accumulators.
///
/// # Safety
/// The machine has the features.
#[inline(always)]
pub(crate) unsafe fn inet<S: Simd, A: Acc<S>, const U: usize>(bytes: &[u8]) -> u16 {
    const { assert!(A::LIMIT == usize::MAX, "no flush here") };
    // SAFETY: every access lies within `bytes`, by the loops' conditions.
    unsafe {
        let mut accs = [A::zero(); U];
        let (from, len) = (bytes.as_ptr(), bytes.len());
        let mut at = 0;
        while at + U * S::BYTES <= len {
            for i in 0..U {
                accs[i].add(S::load(from.add(at + S::BYTES * i)));
            }
            at += U * S::BYTES;
        }
        for i in 0..U {
            if at + S::BYTES > len {
                break;
            }
            accs[i].add(S::load(from.add(at)));
            at += S::BYTES;
        }
        let mut acc = accs[0];
        if at > S::BYTES {
            for i in 1..U {
                acc.merge(accs[i]);
            }
        }
        if at < len {
            acc.add(S::load_part(from.add(at), len - at));
        }
        acc.total()
    }
}

/// The same pointer, of which the compiler no longer knows that nothing is written there by another. Else it
/// would take a loop that sums and stores what it has loaded apart, into `memcpy` and a loop that sums: two
/// passes.
#[inline(always)]
pub(crate) fn unknown(mut pointer: *mut u8) -> *mut u8 {
    // SAFETY: there is no instruction in it.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) pointer, options(nostack, preserves_flags)) };
    pointer
}

/// What a fused loop does, as bits of a constant.
pub(crate) mod shape {
    /// Sum of the source.
    pub(crate) const SUM: u8 = 1;
    /// Swap the bytes of 32-bit words.
    pub(crate) const SWAP: u8 = 2;
    /// Exclusive or with a key.
    pub(crate) const XOR: u8 = 4;
    /// Sum of the destination.
    pub(crate) const AFTER: u8 = 8;
    /// Stores past the caches, where the destination is aligned.
    pub(crate) const STREAM: u8 = 16;
    /// What is left over is the end of a whole vector, whose first bytes were done already: no store under a
    /// mask, which takes a dozen cycles on some processors. Not in place.
    pub(crate) const OVERLAP: u8 = 32;

    /// Whether it matters how sums are made.
    pub(crate) const fn has_sum(shape: u8) -> bool {
        shape & (SUM | AFTER) != 0
    }
}

/// Sum before, swap, xor, sum after, in one loop of `U` vectors a turn, each with accumulators of its own.
/// Whole vectors that are left have them too; the last bytes are done under a mask.
///
/// # Safety
/// The machine has the features.
#[inline(always)]
pub(crate) unsafe fn fused<S: Simd, A: Acc<S>, const SHAPE: u8, const U: usize>(
    src: &[u8],
    dst: &mut [u8],
    key: u32,
) -> Sums {
    let len = src.len().min(dst.len());
    let (src, dst) = (unknown(src.as_ptr().cast_mut()).cast_const(), unknown(dst.as_mut_ptr()));
    let streams = SHAPE & shape::STREAM != 0 && dst.addr().is_multiple_of(S::BYTES);
    // SAFETY: every access lies below `len`, by the loops' conditions.
    unsafe {
        let key = S::splat(key.to_be());
        let mut accs = [(A::zero(), A::zero()); U];
        let (mut at, mut until_flush) = (0, A::LIMIT);
        while at + U * S::BYTES <= len {
            for i in 0..U {
                let v = step::<S, A, SHAPE>(S::load(src.add(at + S::BYTES * i)), key, &mut accs[i], All);
                let to = dst.add(at + S::BYTES * i);
                if streams { S::stream(to, v) } else { S::store(to, v) }
            }
            at += U * S::BYTES;
            if A::LIMIT != usize::MAX {
                until_flush -= 1;
                if until_flush == 0 {
                    until_flush = A::LIMIT;
                    flush(&mut accs);
                }
            }
        }
        for i in 0..U {
            if at + S::BYTES > len {
                break;
            }
            let v = step::<S, A, SHAPE>(S::load(src.add(at)), key, &mut accs[i], All);
            S::store(dst.add(at), v);
            at += S::BYTES;
        }
        // Always the first accumulator: a computed index would keep all of them in memory, in the loop above
        // too.
        if at < len && SHAPE & shape::OVERLAP != 0 && len >= S::BYTES {
            let last = len - S::BYTES;
            let v = step::<S, A, SHAPE>(S::load(src.add(last)), key, &mut accs[0], After(at - last));
            S::store(dst.add(last), v);
        } else if at < len {
            let part = len - at;
            let v = step::<S, A, SHAPE>(S::load_part(src.add(at), part), key, &mut accs[0], First(part));
            S::store_part(dst.add(at), v, part);
        }
        if at > S::BYTES {
            flush(&mut accs);
            for i in 1..U {
                let (before, after) = accs[i];
                accs[0].0.merge(before);
                accs[0].1.merge(after);
            }
        }
        if streams {
            core::arch::x86_64::_mm_sfence();
        }
        let mut sums = [0; MAX_SUMS];
        if SHAPE & shape::SUM != 0 {
            sums[0] = u32::from(accs[0].0.total());
        }
        if SHAPE & shape::AFTER != 0 {
            sums[1] = u32::from(accs[0].1.total());
        }
        sums
    }
}

/// The bytes of a vector that are summed.
#[derive(Clone, Copy)]
enum Counted {
    All,
    /// So many; the others are zero.
    First(usize),
    /// Those after so many.
    After(usize),
}
use Counted::{After, All, First};

/// What a vector becomes.
///
/// # Safety
/// The machine has the features.
#[inline(always)]
unsafe fn step<S: Simd, A: Acc<S>, const SHAPE: u8>(
    mut v: S::V,
    key: S::V,
    acc: &mut (A, A),
    counted: Counted,
) -> S::V {
    // SAFETY: as this function.
    unsafe {
        if SHAPE & shape::SUM != 0 {
            acc.0.add(if let After(len) = counted { S::clear_first(v, len) } else { v });
        }
        if SHAPE & shape::SWAP != 0 {
            v = S::swap32(v);
        }
        if SHAPE & shape::XOR != 0 {
            v = S::xor(v, key);
        }
        if SHAPE & shape::AFTER != 0 {
            // Bytes beyond the end have become the key: not to be summed.
            acc.1.add(match counted {
                All => v,
                First(len) => S::clear_part(v, len),
                After(len) => S::clear_first(v, len),
            });
        }
        v
    }
}

#[inline(always)]
unsafe fn flush<S: Simd, A: Acc<S>, const U: usize>(accs: &mut [(A, A); U]) {
    for i in 0..U {
        // SAFETY: as this function.
        unsafe {
            accs[i].0.flush();
            accs[i].1.flush();
        }
    }
}
