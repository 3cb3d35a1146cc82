//! Loops fused by hand with CRC32C in them, by carry-less multiplication.
//!
//! A vector of the stream is a polynomial; folding multiplies what has been gathered by `x^n` modulo the
//! CRC's polynomial and adds the vector `n` bits further on (Gopal and others, "Fast CRC Computation Using
//! PCLMULQDQ Instruction"). In the bit-reflected order a product of two 64-bit halves stands one bit too
//! high, hence `x^(n - 1)` for the half that comes last and `x^(n + 63)` for the other. The last 128 bits go
//! through the `crc32` instruction.

#![allow(clippy::needless_range_loop, reason = "plain loops keep vectors in registers")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "blocks within a function stand under its one safety comment"
)]

use crate::avx512::{Avx512, Vnni};
use crate::simd::{Acc, Halves, Simd, unknown};
use crate::{Allowed, Fused, MAX_SUMS, Step, Sums, Variant};
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
pub(crate) const fn factors(bits: u32) -> [i64; 2] {
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

/// The stages around the CRC: the sum of the source, exclusive or and swap before the CRC, Adler-32 after it.
pub(crate) struct Shape;

impl Shape {
    pub(crate) const SUM: u8 = 1;
    pub(crate) const SWAP: u8 = 2;
    pub(crate) const XOR: u8 = 4;
    pub(crate) const ADLER: u8 = 8;
    pub(crate) const FIVE: u8 = 15;
    /// Nothing is written.
    pub(crate) const READ: u8 = 16;
    /// Only the others.
    pub(crate) const NO_CRC: u8 = 32;

    pub(crate) fn of(steps: &[Step]) -> Option<u8> {
        match steps {
            [Step::Crc32c] => Some(0),
            [Step::Inet, Step::Crc32c] => Some(Shape::SUM),
            [Step::Inet, Step::Swap32, Step::Crc32c] => Some(Shape::SUM | Shape::SWAP),
            [Step::Inet, Step::Xor32(_), Step::Swap32, Step::Crc32c, Step::Adler32] => Some(Shape::FIVE),
            _ => None,
        }
    }
}

/// Of a CRC's register before the final complement.
pub(crate) fn sums<const SHAPE: u8>(sum: u16, crc: u64, adler: u32) -> Sums {
    let mut sums = [0; MAX_SUMS];
    let mut n = 0;
    if SHAPE & Shape::SUM != 0 {
        sums[0] = u32::from(sum);
        n = 1;
    }
    sums[n] = !(crc as u32);
    if SHAPE & Shape::ADLER != 0 {
        sums[n + 1] = adler;
    }
    sums
}

/// The register after the last bytes, fewer than a vector, that stand at `at`.
#[inline]
#[target_feature(enable = "sse4.2")]
pub(crate) fn rest(mut crc: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
    }
    for &byte in rest {
        crc = u64::from(_mm_crc32_u8(crc as u32, byte));
    }
    crc
}

// All need the features of the loop that they are inlined into, and no other: an intrinsic of a feature that
// the loop does not enable is a call, and every vector goes through memory.

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

/// Sum, exclusive or, and swap.
#[inline(always)]
unsafe fn change<const SHAPE: u8, A: Acc<Avx512>>(mut v: __m512i, key: __m512i, sum: &mut A) -> __m512i {
    // SAFETY: as this function.
    unsafe {
        if SHAPE & Shape::SUM != 0 {
            sum.add(v);
        }
        if SHAPE & Shape::XOR != 0 {
            v = Avx512::xor(v, key);
        }
        if SHAPE & Shape::SWAP != 0 { Avx512::swap32(v) } else { v }
    }
}

/// Adler-32 of vectors: the sum of the bytes, that sum before each vector, and the bytes by their distance
/// from the vector's end.
#[derive(Clone, Copy)]
struct Adler {
    sum: __m512i,
    before: __m512i,
    weighted: __m512i,
}

impl Adler {
    const MODULUS: u64 = 65521;
    /// Vectors after which `weighted` is full: each of its lanes gains at most 4 * 255 * 64 a vector.
    const FLUSH: usize = 32_768;

    #[inline(always)]
    unsafe fn zero() -> Adler {
        // SAFETY: as this function.
        unsafe { Adler { sum: Avx512::zero(), before: Avx512::zero(), weighted: Avx512::zero() } }
    }

    #[inline(always)]
    unsafe fn add<const SHAPE: u8>(&mut self, v: __m512i) {
        if SHAPE & Shape::ADLER == 0 {
            return;
        }
        // SAFETY: as this function; 64 bytes are there.
        unsafe {
            self.before = _mm512_add_epi64(self.before, self.sum);
            self.sum = _mm512_add_epi64(self.sum, _mm512_sad_epu8(v, Avx512::zero()));
            self.weighted = _mm512_dpbusd_epi32(self.weighted, v, Avx512::load(WEIGHTS.as_ptr()));
        }
    }

    /// `value`, with halves below the modulus, after the `bytes` more that have been gathered.
    #[inline(always)]
    unsafe fn onto<const SHAPE: u8>(self, value: u32, bytes: usize) -> u32 {
        if SHAPE & Shape::ADLER == 0 {
            return value;
        }
        // SAFETY: as this function.
        unsafe {
            let low = _mm512_set1_epi64(0xffff_ffff);
            let weighted =
                _mm512_add_epi64(_mm512_and_si512(self.weighted, low), Avx512::high(self.weighted));
            let (a, b) = (u64::from(value & 0xffff), u64::from(value >> 16));
            let sum = Avx512::reduce64(self.sum);
            let more = 64 * (Avx512::reduce64(self.before) % Self::MODULUS) + Avx512::reduce64(weighted);
            let b = (b + a * (bytes as u64 % Self::MODULUS) + more) % Self::MODULUS;
            ((b as u32) << 16) | ((a + sum) % Self::MODULUS) as u32
        }
    }
}

/// Distance of each byte of a vector from its end.
static WEIGHTS: [u8; 64] = {
    let mut weights = [0; 64];
    let mut i = 0;
    while i < 64 {
        weights[i] = 64 - i as u8;
        i += 1;
    }
    weights
};

/// A vector of the stream, summed, changed, stored.
#[inline(always)]
unsafe fn vector<const SHAPE: u8, A: Acc<Avx512>>(
    from: *const u8,
    to: *mut u8,
    key: __m512i,
    sum: &mut A,
    adler: &mut Adler,
) -> __m512i {
    // SAFETY: as this function; 64 bytes are readable and writable.
    unsafe {
        let v = change::<SHAPE, A>(Avx512::load(from), key, sum);
        Avx512::store(to, v);
        adler.add::<SHAPE>(v);
        v
    }
}

#[inline(always)]
pub(crate) unsafe fn factor128(pair: &[i64; 2]) -> __m128i {
    // SAFETY: as this function.
    unsafe { _mm_loadu_si128(pair.as_ptr().cast()) }
}

#[inline(always)]
pub(crate) unsafe fn fold128(v: __m128i, next: __m128i, k: __m128i) -> __m128i {
    // SAFETY: as this function.
    unsafe {
        let (first, second) = (_mm_clmulepi64_si128::<0>(v, k), _mm_clmulepi64_si128::<0x11>(v, k));
        _mm_xor_si128(_mm_xor_si128(first, second), next)
    }
}

/// `U` vectors of 512 bits a turn. What the turns have gathered, the whole vectors that are left, and the
/// last words are each multiplied to where the stream ends, none after the other.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,vpclmulqdq,sse4.2")]
fn wide<const SHAPE: u8, A: Acc<Avx512>, const U: usize>(src: &[u8], dst: &mut [u8], key: u32) -> Sums {
    const { assert!(2 * U <= BY_VECTORS.len() && A::LIMIT == usize::MAX) };
    let len = src.len().min(dst.len());
    let (from, to) = (unknown(src.as_ptr().cast_mut()).cast_const(), unknown(dst.as_mut_ptr()));
    // SAFETY: the features are enabled; every access lies below `len`, by the loops' conditions and the mask.
    unsafe {
        let start = _mm512_zextsi128_si512(_mm_cvtsi32_si128(-1));
        let key = Avx512::splat(key.to_be());
        let mut sum = [A::zero(); U];
        let (mut adlers, mut adler, mut adler_to) = (Adler::zero(), 1, 0);
        let (mut at, mut all) = (0, Avx512::zero());
        let rest = len / 64 % U;
        if len >= 64 * U {
            let mut crc = [Avx512::zero(); U];
            for i in 0..U {
                crc[i] = vector::<SHAPE, A>(from.add(64 * i), to.add(64 * i), key, &mut sum[i], &mut adlers);
            }
            crc[0] = Avx512::xor(crc[0], start);
            at = 64 * U;
            let by_turn = factor(const { &factors(512 * U as u32) });
            while at + 64 * U <= len {
                for i in 0..U {
                    let (from, to) = (from.add(at + 64 * i), to.add(at + 64 * i));
                    let v = vector::<SHAPE, A>(from, to, key, &mut sum[i], &mut adlers);
                    crc[i] = fold(crc[i], v, by_turn);
                }
                at += 64 * U;
                if SHAPE & Shape::ADLER != 0 && at - adler_to >= 64 * Adler::FLUSH {
                    adler = adlers.onto::<SHAPE>(adler, at - adler_to);
                    (adlers, adler_to) = (Adler::zero(), at);
                }
            }
            for i in 0..U {
                all = fold(crc[i], all, factor(&BY_VECTORS[U - 1 - i + rest]));
            }
        }
        for i in 0..U {
            if i >= rest {
                break;
            }
            let v = vector::<SHAPE, A>(from.add(at), to.add(at), key, &mut sum[i], &mut adlers);
            let v = if at == 0 { Avx512::xor(v, start) } else { v };
            all = fold(v, all, factor(&BY_VECTORS[rest - 1 - i]));
            at += 64;
        }
        // The last words at the end of a vector, zeros before them.
        let (words, mut last) = ((len - at) / 4, Avx512::zero());
        if words > 0 {
            let mask = u16::MAX << (16 - words);
            let v = _mm512_maskz_loadu_epi32(mask, from.add(at + 4 * words).wrapping_sub(64).cast());
            // Zeros have become the key.
            last = _mm512_maskz_mov_epi32(mask, change::<SHAPE, A>(v, key, &mut sum[0]));
            _mm512_mask_storeu_epi32(to.add(at + 4 * words).wrapping_sub(64).cast(), mask, last);
            adler = adlers.onto::<SHAPE>(adler, at - adler_to);
            (adlers, adler_to) = (Adler::zero(), at);
            adlers.add::<SHAPE>(last);
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
        adler = adlers.onto::<SHAPE>(adler, len - adler_to);
        // The register of a stream without bytes is what it began with.
        sums::<SHAPE>(sum[0].total(), if len == 0 { u64::from(u32::MAX) } else { crc }, adler)
    }
}

/// A function for the shape's value, from one for each.
macro_rules! choose {
    ($shape:expr, $function:ident $(, $generic:ty)*; $($u:literal)?) => {{
        const SUM: u8 = Shape::SUM;
        const BOTH: u8 = Shape::SUM | Shape::SWAP;
        const FIVE: u8 = Shape::FIVE;
        // SAFETY: handed out only where the features were found.
        let run: Fused = match $shape {
            SUM => |src, dst, key| unsafe { $function::<SUM, $($generic,)* $($u)?>(src, dst, key) },
            BOTH => |src, dst, key| unsafe { $function::<BOTH, $($generic,)* $($u)?>(src, dst, key) },
            FIVE => |src, dst, key| unsafe { $function::<FIVE, $($generic,)* $($u)?>(src, dst, key) },
            _ => |src, dst, key| unsafe { $function::<0, $($generic,)* $($u)?>(src, dst, key) },
        };
        run
    }};
}

/// 512-bit loops for steps that end in a CRC, the usual best first.
pub(crate) fn avx512(steps: &[Step], allowed: Allowed) -> Vec<Variant> {
    let Some(shape) = Shape::of(steps).filter(|_| allowed.wide_clmul) else { return Vec::new() };
    vec![
        Variant { name: "vpdpbusd, fold x4", run: choose!(shape, wide, Vnni; 4) },
        Variant { name: "vpdpbusd, fold x8", run: choose!(shape, wide, Vnni; 8) },
        Variant { name: "S1/S2, fold x8", run: choose!(shape, wide, Halves<Avx512>; 8) },
    ]
}
