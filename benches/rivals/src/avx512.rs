//! 512-bit vectors, with masks for every rest.

use crate::Variant;
use crate::simd::shape::has_sum;
use crate::simd::{Acc, Halves, Simd};
use crate::tables::{self, enable};
use core::arch::x86_64::*;

/// AVX-512 F, BW and VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

/// A bit for each of the first `len` bytes, 1 to 64.
#[inline(always)]
pub(crate) fn mask(len: usize) -> u64 {
    u64::MAX >> (64 - len)
}

// SAFETY (all blocks): the caller has checked that the machine has the features, and the pointers; see the
// trait.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Simd for Avx512 {
    type V = __m512i;
    const BYTES: usize = 64;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn splat(word: u32) -> __m512i {
        unsafe { _mm512_set1_epi32(word as i32) }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_part(from: *const u8, len: usize) -> __m512i {
        unsafe { _mm512_maskz_loadu_epi8(mask(len), from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut u8, v: __m512i) {
        unsafe { _mm512_storeu_si512(to.cast(), v) }
    }

    #[inline(always)]
    unsafe fn stream(to: *mut u8, v: __m512i) {
        unsafe { _mm512_stream_si512(to.cast(), v) }
    }

    #[inline(always)]
    unsafe fn store_part(to: *mut u8, v: __m512i, len: usize) {
        unsafe { _mm512_mask_storeu_epi8(to.cast(), mask(len), v) }
    }

    #[inline(always)]
    unsafe fn clear_part(v: __m512i, len: usize) -> __m512i {
        unsafe { _mm512_maskz_mov_epi8(mask(len), v) }
    }

    #[inline(always)]
    unsafe fn clear_first(v: __m512i, len: usize) -> __m512i {
        unsafe { if len < 64 { _mm512_maskz_mov_epi8(u64::MAX << len, v) } else { Self::zero() } }
    }

    #[inline(always)]
    unsafe fn swap32(v: __m512i) -> __m512i {
        unsafe {
            let order = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
            _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(order))
        }
    }

    #[inline(always)]
    unsafe fn xor(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_xor_si512(a, b) }
    }

    #[inline(always)]
    unsafe fn add64(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi64(a, b) }
    }

    #[inline(always)]
    unsafe fn sub_high(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_sub_epi64(a, _mm512_slli_epi64::<32>(b)) }
    }

    #[inline(always)]
    unsafe fn high(v: __m512i) -> __m512i {
        unsafe { _mm512_srli_epi64::<32>(v) }
    }

    #[inline(always)]
    unsafe fn reduce64(v: __m512i) -> u64 {
        unsafe { _mm512_reduce_add_epi64(v) as u64 }
    }
}

/// `vpdpbusd` adds four bytes times weights to a 32-bit lane, so the even and the odd bytes of a vector cost
/// one instruction each. A lane gains at most 510 a vector: good for 8 million vectors, 512 MiB an
/// accumulator.
#[derive(Clone, Copy)]
pub(crate) struct Vnni {
    even: __m512i,
    odd: __m512i,
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as for the vectors")]
impl Acc<Avx512> for Vnni {
    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Vnni { even: Avx512::zero(), odd: Avx512::zero() } }
    }

    #[inline(always)]
    unsafe fn add(&mut self, v: __m512i) {
        unsafe {
            self.even = _mm512_dpbusd_epi32(self.even, v, _mm512_set1_epi32(0x0001_0001));
            self.odd = _mm512_dpbusd_epi32(self.odd, v, _mm512_set1_epi32(0x0100_0100));
        }
    }

    #[inline(always)]
    unsafe fn merge(&mut self, other: Self) {
        unsafe {
            self.even = _mm512_add_epi32(self.even, other.even);
            self.odd = _mm512_add_epi32(self.odd, other.odd);
        }
    }

    #[inline(always)]
    unsafe fn total(self) -> u16 {
        unsafe {
            // Pairs of lanes in 64 bits; even bytes are the high ones.
            let low = _mm512_set1_epi64(0xffff_ffff);
            let even = _mm512_add_epi64(_mm512_and_si512(self.even, low), Avx512::high(self.even));
            let odd = _mm512_add_epi64(_mm512_and_si512(self.odd, low), Avx512::high(self.odd));
            crate::fold(Avx512::reduce64(_mm512_add_epi64(_mm512_slli_epi64::<8>(even), odd)))
        }
    }
}

/// The sum of 32-bit lanes modulo 2^32 by plain addition, and that of their uppermost bytes by `vpdpbusd`: as
/// many instructions, but one of them of another kind, which some cores like better. The bytes tell the sum
/// to less than 2^24 a vector, so up to 256 of them which of the numbers congruent modulo 2^32 it is.
#[derive(Clone, Copy)]
pub(crate) struct Mixed {
    low: __m512i,
    top: __m512i,
    /// Flushed, in 64-bit lanes.
    done: __m512i,
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as for the vectors")]
impl Mixed {
    /// The exact sums of the even lanes.
    #[inline(always)]
    unsafe fn exact(low: __m512i, top: __m512i) -> __m512i {
        unsafe {
            let word = _mm512_set1_epi64(0xffff_ffff);
            let least = _mm512_slli_epi64::<24>(_mm512_and_si512(top, word));
            let beyond = _mm512_and_si512(_mm512_sub_epi64(low, least), word);
            _mm512_add_epi64(least, beyond)
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as for the vectors")]
impl Acc<Avx512> for Mixed {
    // Less than 256: what a loop leaves over is added before the next flush, too.
    const LIMIT: usize = 240;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Mixed { low: Avx512::zero(), top: Avx512::zero(), done: Avx512::zero() } }
    }

    #[inline(always)]
    unsafe fn add(&mut self, v: __m512i) {
        unsafe {
            self.low = _mm512_add_epi32(self.low, v);
            self.top = _mm512_dpbusd_epi32(self.top, v, _mm512_set1_epi32(0x0100_0000));
        }
    }

    #[inline(always)]
    unsafe fn flush(&mut self) {
        unsafe {
            let even = Self::exact(self.low, self.top);
            let odd = Self::exact(Avx512::high(self.low), Avx512::high(self.top));
            self.done = _mm512_add_epi64(self.done, _mm512_add_epi64(even, odd));
            self.low = Avx512::zero();
            self.top = Avx512::zero();
        }
    }

    #[inline(always)]
    unsafe fn merge(&mut self, other: Self) {
        unsafe { self.done = _mm512_add_epi64(self.done, other.done) };
    }

    #[inline(always)]
    unsafe fn total(mut self) -> u16 {
        unsafe { self.flush() };
        crate::fold(unsafe { Avx512::reduce64(self.done) }).to_be()
    }
}

// With four accumulators a pass that only sums waits for the latency of `vpdpbusd`.
enable!("avx512f,avx512bw,avx512vnni", Avx512, Vnni, 8);

/// The loops of a shape, the usual best first.
pub(crate) fn fused(shape: u8) -> Vec<Variant> {
    let (x4, x8) = (tables::fused::<Avx512, Vnni, 4>(shape), tables::fused::<Avx512, Vnni, 8>(shape));
    let all = if has_sum(shape) {
        vec![
            ("vpdpbusd x4", x4),
            ("vpdpbusd x8", x8),
            ("vpaddd + vpdpbusd x4", tables::fused::<Avx512, Mixed, 4>(shape)),
            ("vpaddd + vpdpbusd x8", tables::fused::<Avx512, Mixed, 8>(shape)),
            ("S1/S2 x4", tables::fused::<Avx512, Halves<Avx512>, 4>(shape)),
            ("S1/S2 x8", tables::fused::<Avx512, Halves<Avx512>, 8>(shape)),
        ]
    } else {
        vec![("x4", x4), ("x8", x8)]
    };
    all.into_iter().filter_map(|(name, run)| Some(Variant { name, run: run? })).collect()
}
