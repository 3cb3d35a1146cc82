//! 256-bit vectors.

use crate::Variant;
use crate::simd::shape::{OVERLAP, has_sum};
use crate::simd::{Acc, Halves, Simd};
use crate::tables::{self, enable};
use core::arch::x86_64::*;

/// AVX2.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// Ones, then zeros: a window into it is the mask of a part of a vector.
static MASK: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
unsafe fn mask(words: usize) -> __m256i {
    // SAFETY: at most 8 words, so the window lies within the table; the feature is there.
    unsafe { _mm256_loadu_si256(MASK.as_ptr().add(8 - words).cast()) }
}

/// Zeros, then ones: a window into it keeps the bytes of a vector that come after the first ones.
static AFTER: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut i = 32;
    while i < 64 {
        bytes[i] = 0xff;
        i += 1;
    }
    bytes
};

/// Ones in all bytes but the first `len`, at most 32.
#[inline(always)]
pub(crate) unsafe fn mask_after(len: usize) -> __m256i {
    // SAFETY: at most 32 bytes, so the window lies within the table; the feature is there.
    unsafe { _mm256_loadu_si256(AFTER.as_ptr().add(32 - len).cast()) }
}

// SAFETY (all blocks): the caller has checked that the machine has the feature, and the pointers; see the
// trait.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Simd for Avx2 {
    type V = __m256i;
    const BYTES: usize = 32;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn splat(word: u32) -> __m256i {
        unsafe { _mm256_set1_epi32(word as i32) }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_part(from: *const u8, len: usize) -> __m256i {
        unsafe {
            if len.is_multiple_of(4) {
                return _mm256_maskload_epi32(from.cast(), mask(len / 4));
            }
            let mut bytes = [0u8; 32];
            from.copy_to_nonoverlapping(bytes.as_mut_ptr(), len);
            Self::load(bytes.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn store(to: *mut u8, v: __m256i) {
        unsafe { _mm256_storeu_si256(to.cast(), v) }
    }

    #[inline(always)]
    unsafe fn stream(to: *mut u8, v: __m256i) {
        unsafe { _mm256_stream_si256(to.cast(), v) }
    }

    #[inline(always)]
    unsafe fn store_part(to: *mut u8, v: __m256i, len: usize) {
        unsafe {
            if len.is_multiple_of(4) {
                return _mm256_maskstore_epi32(to.cast(), mask(len / 4), v);
            }
            let mut bytes = [0u8; 32];
            Self::store(bytes.as_mut_ptr(), v);
            to.copy_from_nonoverlapping(bytes.as_ptr(), len);
        }
    }

    #[inline(always)]
    unsafe fn clear_part(v: __m256i, len: usize) -> __m256i {
        unsafe {
            let mut bytes = [0u8; 32];
            Self::store_part(bytes.as_mut_ptr(), v, len);
            Self::load(bytes.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn clear_first(v: __m256i, len: usize) -> __m256i {
        unsafe { _mm256_and_si256(v, mask_after(len)) }
    }

    #[inline(always)]
    unsafe fn swap32(v: __m256i) -> __m256i {
        unsafe {
            let order = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
            _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(order))
        }
    }

    #[inline(always)]
    unsafe fn xor(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_xor_si256(a, b) }
    }

    #[inline(always)]
    unsafe fn add64(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi64(a, b) }
    }

    #[inline(always)]
    unsafe fn sub_high(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_sub_epi64(a, _mm256_slli_epi64::<32>(b)) }
    }

    #[inline(always)]
    unsafe fn high(v: __m256i) -> __m256i {
        unsafe { _mm256_srli_epi64::<32>(v) }
    }

    #[inline(always)]
    unsafe fn reduce64(v: __m256i) -> u64 {
        unsafe {
            let half = _mm_add_epi64(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
            (_mm_cvtsi128_si64(half) as u64).wrapping_add(_mm_extract_epi64::<1>(half) as u64)
        }
    }
}

/// Even and odd bytes masked apart, summed by `vpsadbw`: no shift between lanes, but twice the instructions.
#[derive(Clone, Copy)]
struct Sad {
    even: __m256i,
    odd: __m256i,
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as for the vectors")]
impl Acc<Avx2> for Sad {
    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Sad { even: Avx2::zero(), odd: Avx2::zero() } }
    }

    #[inline(always)]
    unsafe fn add(&mut self, v: __m256i) {
        unsafe {
            let even = _mm256_and_si256(v, _mm256_set1_epi16(0x00ff));
            self.even = _mm256_add_epi64(self.even, _mm256_sad_epu8(even, Avx2::zero()));
            self.odd = _mm256_add_epi64(self.odd, _mm256_sad_epu8(_mm256_srli_epi16::<8>(v), Avx2::zero()));
        }
    }

    #[inline(always)]
    unsafe fn merge(&mut self, other: Self) {
        unsafe {
            self.even = _mm256_add_epi64(self.even, other.even);
            self.odd = _mm256_add_epi64(self.odd, other.odd);
        }
    }

    #[inline(always)]
    unsafe fn total(self) -> u16 {
        unsafe { crate::fold((Avx2::reduce64(self.even) << 8) + Avx2::reduce64(self.odd)) }
    }
}

enable!("avx2", Avx2, Halves<Avx2>, 4);

/// The loops of a shape, the usual best first.
pub(crate) fn fused(shape: u8) -> Vec<Variant> {
    let overlap = shape | OVERLAP;
    let all = if has_sum(shape) {
        vec![
            ("S1/S2 x4, overlapping end", tables::fused::<Avx2, Halves<Avx2>, 4>(overlap)),
            ("S1/S2 x2, overlapping end", tables::fused::<Avx2, Halves<Avx2>, 2>(overlap)),
            ("S1/S2 x4", tables::fused::<Avx2, Halves<Avx2>, 4>(shape)),
            ("S1/S2 x8", tables::fused::<Avx2, Halves<Avx2>, 8>(shape)),
            ("vpsadbw x4", tables::fused::<Avx2, Sad, 4>(overlap)),
        ]
    } else {
        vec![
            ("x4, overlapping end", tables::fused::<Avx2, Halves<Avx2>, 4>(overlap)),
            ("x2, overlapping end", tables::fused::<Avx2, Halves<Avx2>, 2>(overlap)),
            ("x4", tables::fused::<Avx2, Halves<Avx2>, 4>(shape)),
            ("x8", tables::fused::<Avx2, Halves<Avx2>, 8>(overlap)),
        ]
    };
    all.into_iter().filter_map(|(name, run)| Some(Variant { name, run: run? })).collect()
}
