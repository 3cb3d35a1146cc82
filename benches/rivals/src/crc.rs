//! Loops fused by hand with CRC32C in them, by carry-less multiplication.
//!
//! A vector of the stream is a polynomial; folding multiplies what has been gathered by `x^n` modulo the CRC's polynomial
//! and adds the vector `n` bits further on (Gopal and others, "Fast CRC Computation Using PCLMULQDQ Instruction"). In the
//! bit-reflected order a product of two 64-bit halves stands one bit too high, hence `x^(n - 1)` for the half that comes
//! last and `x^(n + 63)` for the other. The last 128 bits go through the `crc32` instruction.

#![allow(clippy::needless_range_loop, reason = "plain loops keep vectors in registers")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "blocks within a function stand under its one safety comment"
)]

use crate::avx2::Avx2;
use crate::avx512::{Avx512, Vnni};
use crate::simd::{Acc, Halves, Simd, unknown};
use crate::{Fused, MAX_SUMS, Step, Sums, Variant};
use core::arch::x86_64::*;

/// `x^(n - 1)` modulo the polynomial of CRC32C, bit-reflected, as the upper half of a 64-bit factor.
const fn power(n: u32) -> i64 {
    // The inverse of x: times x it is 1, which is 0x8000_0000.
    let mut value = 0x05ec_76f1u32;
    let mut i = 0;
    while i < n {
        value = (value >> 1) ^ (0x82f6_3b78 & (value & 1).wrapping_neg());
        i += 1;
    }
    ((value as u64) << 32) as i64
}

/// Factors that move 128 bits by `bits`: for the half that comes first in the stream, and the other.
const fn factors(bits: u32) -> [i64; 2] {
    [power(bits + 64), power(bits)]
}

/// For so many vectors of 512 bits.
static BY_VECTORS: [[i64; 2]; 16] = {
    let mut all = [[0; 2]; 16];
    let mut i = 0;
    while i < all.len() {
        all[i] = factors(512 * i as u32);
        i += 1;
    }
    all
};

/// What takes the lanes of a vector to the end of the so many 32-bit words that follow it.
static TO_THE_END: [[[i64; 2]; 4]; 16] = {
    let mut all = [[[0; 2]; 4]; 16];
    let mut i = 0;
    while i < 64 {
        all[i / 4][i % 4] = factors(128 * (3 - i as u32 % 4) + 32 * (i as u32 / 4));
        i += 1;
    }
    all
};

/// The stages around the CRC: the sum of the source, and the swap before the CRC.
struct Shape;

impl Shape {
    const SUM: u8 = 1;
    const SWAP: u8 = 2;

    fn of(steps: &[Step]) -> Option<u8> {
        match steps {
            [Step::Crc32c] => Some(0),
            [Step::Inet, Step::Crc32c] => Some(Shape::SUM),
            [Step::Inet, Step::Swap32, Step::Crc32c] => Some(Shape::SUM | Shape::SWAP),
            _ => None,
        }
    }
}

fn sums<const SHAPE: u8>(sum: u16, crc: u64) -> Sums {
    let mut sums = [0; MAX_SUMS];
    let mut n = 0;
    if SHAPE & Shape::SUM != 0 {
        sums[0] = u32::from(sum);
        n = 1;
    }
    sums[n] = !(crc as u32);
    sums
}

/// The register after the last bytes, fewer than a vector, that stand at `at`.
#[inline]
#[target_feature(enable = "sse4.2")]
fn rest(mut crc: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
    }
    for &byte in rest {
        crc = u64::from(_mm_crc32_u8(crc as u32, byte));
    }
    crc
}

// All need the features of the loop that they are inlined into, and no other: an intrinsic of a feature that the loop does
// not enable is a call, and every vector goes through memory.

#[inline(always)]
unsafe fn factor(pair: &[i64; 2]) -> __m512i {
    // SAFETY: as this function.
    unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(pair.as_ptr().cast())) }
}

/// The factors of each lane to the end of the words that follow.
#[inline(always)]
unsafe fn lanes(words: usize) -> __m512i {
    // SAFETY: as this function; 64 bytes are there.
    unsafe { Avx512::load(TO_THE_END[words].as_ptr().cast()) }
}

/// `v` moved by the factors `k`, plus `next`.
#[inline(always)]
unsafe fn fold(v: __m512i, next: __m512i, k: __m512i) -> __m512i {
    // SAFETY: as this function.
    unsafe {
        let (first, second) = (_mm512_clmulepi64_epi128::<0>(v, k), _mm512_clmulepi64_epi128::<0x11>(v, k));
        _mm512_ternarylogic_epi64::<0x96>(first, second, next)
    }
}

/// Sum and swap.
#[inline(always)]
unsafe fn change<const SHAPE: u8, A: Acc<Avx512>>(v: __m512i, sum: &mut A) -> __m512i {
    // SAFETY: as this function.
    unsafe {
        if SHAPE & Shape::SUM != 0 {
            sum.add(v);
        }
        if SHAPE & Shape::SWAP != 0 { Avx512::swap32(v) } else { v }
    }
}

/// A vector of the stream, summed, swapped, stored.
#[inline(always)]
unsafe fn vector<const SHAPE: u8, A: Acc<Avx512>>(from: *const u8, to: *mut u8, sum: &mut A) -> __m512i {
    // SAFETY: as this function; 64 bytes are readable and writable.
    unsafe {
        let v = change::<SHAPE, A>(Avx512::load(from), sum);
        Avx512::store(to, v);
        v
    }
}

#[inline(always)]
unsafe fn factor128(pair: &[i64; 2]) -> __m128i {
    // SAFETY: as this function.
    unsafe { _mm_loadu_si128(pair.as_ptr().cast()) }
}

#[inline(always)]
unsafe fn fold128(v: __m128i, next: __m128i, k: __m128i) -> __m128i {
    // SAFETY: as this function.
    unsafe {
        let (first, second) = (_mm_clmulepi64_si128::<0>(v, k), _mm_clmulepi64_si128::<0x11>(v, k));
        _mm_xor_si128(_mm_xor_si128(first, second), next)
    }
}

/// `U` vectors of 512 bits a turn. What the turns have gathered, the whole vectors that are left, and the last words are
/// each multiplied to where the stream ends, none after the other.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,vpclmulqdq,sse4.2")]
fn wide<const SHAPE: u8, A: Acc<Avx512>, const U: usize>(src: &[u8], dst: &mut [u8]) -> Sums {
    const { assert!(2 * U <= BY_VECTORS.len() && A::LIMIT == usize::MAX) };
    let len = src.len().min(dst.len());
    let (from, to) = (unknown(src.as_ptr().cast_mut()).cast_const(), unknown(dst.as_mut_ptr()));
    // SAFETY: the features are enabled; every access lies below `len`, by the loops' conditions and the mask.
    unsafe {
        let start = _mm512_zextsi128_si512(_mm_cvtsi32_si128(-1));
        let mut sum = [A::zero(); U];
        let (mut at, mut all) = (0, Avx512::zero());
        let rest = len / 64 % U;
        if len >= 64 * U {
            let mut crc = [Avx512::zero(); U];
            for i in 0..U {
                crc[i] = vector::<SHAPE, A>(from.add(64 * i), to.add(64 * i), &mut sum[i]);
            }
            crc[0] = Avx512::xor(crc[0], start);
            at = 64 * U;
            let by_turn = factor(const { &factors(512 * U as u32) });
            while at + 64 * U <= len {
                for i in 0..U {
                    let v = vector::<SHAPE, A>(from.add(at + 64 * i), to.add(at + 64 * i), &mut sum[i]);
                    crc[i] = fold(crc[i], v, by_turn);
                }
                at += 64 * U;
            }
            for i in 0..U {
                all = fold(crc[i], all, factor(&BY_VECTORS[U - 1 - i + rest]));
            }
        }
        for i in 0..U {
            if i >= rest {
                break;
            }
            let v = vector::<SHAPE, A>(from.add(at), to.add(at), &mut sum[i]);
            let v = if at == 0 { Avx512::xor(v, start) } else { v };
            all = fold(v, all, factor(&BY_VECTORS[rest - 1 - i]));
            at += 64;
        }
        // The last words at the end of a vector, zeros before them.
        let (words, mut last) = ((len - at) / 4, Avx512::zero());
        if words > 0 {
            let mask = u16::MAX << (16 - words);
            let v = _mm512_maskz_loadu_epi32(mask, from.add(at + 4 * words).wrapping_sub(64).cast());
            last = change::<SHAPE, A>(v, &mut sum[0]);
            _mm512_mask_storeu_epi32(to.add(at + 4 * words).wrapping_sub(64).cast(), mask, last);
            if at == 0 {
                last = Avx512::xor(last, _mm512_maskz_set1_epi32(1 << (16 - words), -1));
            }
        }
        let last = fold(last, Avx512::zero(), lanes(0));
        let ends = fold(all, last, lanes(words));
        let half = _mm256_xor_si256(_mm512_castsi512_si256(ends), _mm512_extracti64x4_epi64::<1>(ends));
        let end = _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
        let crc = _mm_crc32_u64(0, _mm_cvtsi128_si64(end) as u64);
        let crc = _mm_crc32_u64(crc, _mm_extract_epi64::<1>(end) as u64);
        if len > 64 {
            for i in 1..U {
                let other = sum[i];
                sum[0].merge(other);
            }
        }
        // The register of a stream without bytes is what it began with.
        sums::<SHAPE>(sum[0].total(), if len == 0 { u64::from(u32::MAX) } else { crc })
    }
}

/// Vectors of 256 bits for sum, and of 128 bits for the CRC: AVX2 does not promise wider multiplication. 128 bytes a turn.
#[target_feature(enable = "avx2,pclmulqdq,sse4.2")]
fn narrow<const SHAPE: u8>(src: &[u8], dst: &mut [u8]) -> Sums {
    const TURN: usize = 128;
    let len = src.len().min(dst.len());
    let (from, to) = (unknown(src.as_ptr().cast_mut()).cast_const(), unknown(dst.as_mut_ptr()));
    let order = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
    // SAFETY: the features are enabled; every access lies below `len`, by the loops' conditions.
    unsafe {
        let mut sum = [Halves::<Avx2>::zero(); 4];
        let mut crc = [_mm_setzero_si128(); 8];
        let (mut at, mut state) = (0, u64::from(u32::MAX));
        let by_turn = factor128(const { &factors(8 * TURN as u32) });
        while at + TURN <= len {
            if SHAPE & Shape::SUM != 0 {
                for i in 0..4 {
                    sum[i].add(Avx2::load(from.add(at + 32 * i)));
                }
            }
            for i in 0..8 {
                let mut v = _mm_loadu_si128(from.add(at + 16 * i).cast());
                if SHAPE & Shape::SWAP != 0 {
                    v = _mm_shuffle_epi8(v, order);
                }
                _mm_storeu_si128(to.add(at + 16 * i).cast(), v);
                if at == 0 && i == 0 {
                    v = _mm_xor_si128(v, _mm_cvtsi32_si128(-1));
                }
                // In the first turn the accumulators are zero, and folding leaves them so.
                crc[i] = fold128(crc[i], v, by_turn);
            }
            at += TURN;
        }
        if at > 0 {
            state = 0;
            let by_one = factor128(const { &factors(128) });
            let mut all = crc[0];
            for i in 1..8 {
                all = fold128(all, crc[i], by_one);
            }
            state = _mm_crc32_u64(state, _mm_cvtsi128_si64(all) as u64);
            state = _mm_crc32_u64(state, _mm_extract_epi64::<1>(all) as u64);
        }
        for i in 1..4 {
            let other = sum[i];
            sum[0].merge(other);
        }
        while at < len {
            let part = (len - at).min(32);
            let mut v = Avx2::load_part(from.add(at), part);
            if SHAPE & Shape::SUM != 0 {
                sum[0].add(v);
            }
            if SHAPE & Shape::SWAP != 0 {
                v = Avx2::swap32(v);
            }
            Avx2::store_part(to.add(at), v, part);
            let mut bytes = [0u8; 32];
            Avx2::store(bytes.as_mut_ptr(), v);
            state = rest(state, &bytes[..part]);
            at += part;
        }
        sums::<SHAPE>(sum[0].total(), state)
    }
}

/// A function for the shape's value, from one for each.
macro_rules! choose {
    ($shape:expr, $function:ident $(, $generic:ty)*; $($u:literal)?) => {{
        const SUM: u8 = Shape::SUM;
        const BOTH: u8 = Shape::SUM | Shape::SWAP;
        // SAFETY: handed out only where the features were found.
        let run: Fused = match $shape {
            SUM => |src, dst, _| unsafe { $function::<SUM, $($generic,)* $($u)?>(src, dst) },
            BOTH => |src, dst, _| unsafe { $function::<BOTH, $($generic,)* $($u)?>(src, dst) },
            _ => |src, dst, _| unsafe { $function::<0, $($generic,)* $($u)?>(src, dst) },
        };
        run
    }};
}

/// 512-bit loops for steps that end in a CRC, the usual best first.
pub(crate) fn avx512(steps: &[Step]) -> Vec<Variant> {
    let Some(shape) = Shape::of(steps).filter(|_| is_x86_feature_detected!("vpclmulqdq")) else {
        return Vec::new();
    };
    vec![
        Variant { name: "vpdpbusd, fold x4", run: choose!(shape, wide, Vnni; 4) },
        Variant { name: "vpdpbusd, fold x8", run: choose!(shape, wide, Vnni; 8) },
        Variant { name: "S1/S2, fold x8", run: choose!(shape, wide, Halves<Avx512>; 8) },
    ]
}

/// 256-bit loops for the same.
pub(crate) fn avx2(steps: &[Step]) -> Vec<Variant> {
    let has_all = is_x86_feature_detected!("pclmulqdq") && is_x86_feature_detected!("sse4.2");
    let Some(shape) = Shape::of(steps).filter(|_| has_all) else { return Vec::new() };
    vec![Variant { name: "S1/S2, 128-bit fold x8", run: choose!(shape, narrow;) }]
}
