//! Loops with CRC32C in them for 256-bit vectors: carry-less multiplication of 128 or 256 bits, beside the
//! `crc32` instruction or alone.
//!
//! A stretch of the stream that the `crc32` instruction has taken from a register of zero comes to 32 bits,
//! which the CRC's definition adds to the four bytes that follow. So a group of vectors is `C` that only
//! scalar registers read, then `V` that are folded, the first of them with those 32 bits added: both units
//! work at once, and what a group costs more is a move and an exclusive or. No chain of `crc32` is longer
//! than its group.

#![allow(clippy::needless_range_loop, reason = "plain loops keep vectors in registers")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "blocks within a function stand under its one safety comment"
)]

use crate::avx2::{Avx2, mask_after};
use crate::crc::{Shape, factor128, factors, fold128, rest, sums};
use crate::simd::{Acc, Halves, Simd, unknown};
use crate::{Allowed, Fused, Step, Sums, Variant};
use core::arch::x86_64::*;

/// Factors that move 128 bits by so many pieces of 128 bits.
static BY_PIECES: [[i64; 2]; 16] = {
    let mut all = [[0; 2]; 16];
    let mut i = 0;
    while i < all.len() {
        all[i] = factors(128 * i as u32);
        i += 1;
    }
    all
};

/// Adler-32 of whole vectors: the sum of the bytes, that sum before each vector, and the bytes by their
/// distance from the vector's end.
#[derive(Clone, Copy)]
struct Adler {
    sum: __m256i,
    before: __m256i,
    weighted: __m256i,
}

impl Adler {
    const MODULUS: u64 = 65521;

    #[inline(always)]
    unsafe fn add(&mut self, v: __m256i, weights: __m256i) {
        // SAFETY: as this function.
        unsafe {
            self.before = _mm256_add_epi64(self.before, self.sum);
            self.sum = _mm256_add_epi64(self.sum, _mm256_sad_epu8(v, _mm256_setzero_si256()));
            let pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(v, weights), _mm256_set1_epi16(1));
            self.weighted = _mm256_add_epi32(self.weighted, pairs);
        }
    }

    /// Adds `bytes` that have been gathered to `value`, whose halves are below the modulus.
    #[inline(always)]
    unsafe fn onto(self, value: u32, bytes: usize) -> u32 {
        // SAFETY: as this function.
        unsafe {
            let low = _mm256_set1_epi64x(0xffff_ffff);
            let weighted = _mm256_add_epi64(_mm256_and_si256(self.weighted, low), Avx2::high(self.weighted));
            let (a, b) = (u64::from(value & 0xffff), u64::from(value >> 16));
            let sum = Avx2::reduce64(self.sum);
            let more = 32 * (Avx2::reduce64(self.before) % Self::MODULUS) + Avx2::reduce64(weighted);
            let b = (b + a * (bytes as u64 % Self::MODULUS) + more) % Self::MODULUS;
            ((b as u32) << 16) | ((a + sum) % Self::MODULUS) as u32
        }
    }
}

/// What goes with each vector.
#[derive(Clone, Copy)]
struct Work {
    sum: Halves<Avx2>,
    adler: Adler,
    key: __m256i,
    weights: __m256i,
}

impl Work {
    /// A vector of the stream becomes one of the destination; summed is what `part` lets through, if not all.
    #[inline(always)]
    unsafe fn step<const SHAPE: u8>(&mut self, mut v: __m256i, part: Option<__m256i>) -> __m256i {
        // SAFETY: as this function.
        unsafe {
            let counted = |v| part.map_or(v, |part| _mm256_and_si256(v, part));
            if SHAPE & Shape::SUM != 0 {
                self.sum.add(counted(v));
            }
            if SHAPE & Shape::XOR != 0 {
                v = Avx2::xor(v, self.key);
            }
            if SHAPE & Shape::SWAP != 0 {
                v = Avx2::swap32(v);
            }
            if SHAPE & Shape::ADLER != 0 && part.is_none() {
                self.adler.add(v, self.weights);
            }
            v
        }
    }
}

/// `G` groups a turn, of `C` vectors for `crc32` and `V` for multiplication, 256 bits at once if `W`. The
/// sums go on from `begin`, the register of a CRC and an Adler-32, and are given as the sum, the register and
/// Adler-32.
///
/// # Safety
/// The machine has AVX2, SSE4.2, PCLMULQDQ, and VPCLMULQDQ if `W`; `to` is writable for as many bytes as
/// `src` has, or nothing is written, since the shape says so.
#[inline(always)]
unsafe fn mixed<const SHAPE: u8, const W: bool, const C: usize, const V: usize, const G: usize>(
    src: &[u8],
    to: *mut u8,
    key: u32,
    begin: (u32, u32),
) -> (u16, u32, u32) {
    const VECTOR: usize = 32;
    // Each lane of `weighted` gains at most 4 * 255 * 32 a vector.
    const FLUSH: usize = 16_384;
    let turn = VECTOR * (C + V) * G;
    let len = src.len();
    let (from, to) = (unknown(src.as_ptr().cast_mut()).cast_const(), unknown(to));
    let is_read_only = SHAPE & Shape::READ != 0;
    let written = if is_read_only { from } else { to.cast_const() };
    // SAFETY: the features are enabled; every access lies below `len`, by the loops' conditions.
    unsafe {
        let store = |to, v| {
            if !is_read_only {
                Avx2::store(to, v);
            }
        };
        let zero = Avx2::zero();
        let empty = Adler { sum: zero, before: zero, weighted: zero };
        let weights = _mm256_setr_epi8(
            32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8,
            7, 6, 5, 4, 3, 2, 1,
        );
        let key = Avx2::splat(key.to_be());
        let mut work = Work { sum: Halves::zero(), adler: empty, key, weights };
        let (mut at, mut adler, mut adler_to) = (0, begin.1, 0);
        let mut state = u64::from(begin.0);
        let mut narrow = [[[_mm_setzero_si128(); 2]; V]; G];
        let mut wide = [[zero; V]; G];
        let by_turn = factor128(const { &factors((8 * VECTOR * (C + V) * G) as u32) });
        let by_turn_wide = _mm256_broadcastsi128_si256(by_turn);
        while at + turn <= len {
            for g in 0..G {
                for _ in 0..C {
                    let v = work.step::<SHAPE>(Avx2::load(from.add(at)), None);
                    store(to.wrapping_add(at), v);
                    at += VECTOR;
                }
                for i in 0..4 * C {
                    let word = written.add(at - VECTOR * C + 8 * i).cast::<u64>().read_unaligned();
                    state = _mm_crc32_u64(state, word);
                }
                for i in 0..V {
                    let mut v = work.step::<SHAPE>(Avx2::load(from.add(at)), None);
                    store(to.wrapping_add(at), v);
                    if i == 0 && (C > 0 || (g == 0 && at == 0)) {
                        v = Avx2::xor(v, _mm256_zextsi128_si256(_mm_cvtsi64_si128(state as i64)));
                        state = 0;
                    }
                    at += VECTOR;
                    if SHAPE & Shape::NO_CRC != 0 {
                        continue;
                    }
                    if W {
                        let acc = wide[g][i];
                        let first = _mm256_clmulepi64_epi128::<0>(acc, by_turn_wide);
                        let second = _mm256_clmulepi64_epi128::<0x11>(acc, by_turn_wide);
                        wide[g][i] = Avx2::xor(Avx2::xor(first, v), second);
                    } else {
                        let [low, high] = narrow[g][i];
                        narrow[g][i] = [
                            fold128(low, _mm256_castsi256_si128(v), by_turn),
                            fold128(high, _mm256_extracti128_si256::<1>(v), by_turn),
                        ];
                    }
                }
            }
            if SHAPE & Shape::ADLER != 0 && at - adler_to >= VECTOR * FLUSH {
                adler = work.adler.onto(adler, at - adler_to);
                (work.adler, adler_to) = (empty, at);
            }
        }
        if at > 0 && SHAPE & Shape::NO_CRC == 0 {
            let mut all = _mm_setzero_si128();
            for g in 0..G {
                for i in 0..V {
                    let pieces = if W {
                        [_mm256_castsi256_si128(wide[g][i]), _mm256_extracti128_si256::<1>(wide[g][i])]
                    } else {
                        narrow[g][i]
                    };
                    for (half, piece) in pieces.into_iter().enumerate() {
                        let index = 2 * (g * (C + V) + C + i) + half;
                        let distance = 2 * (C + V) * G - 1 - index;
                        all = if distance == 0 {
                            _mm_xor_si128(all, piece)
                        } else {
                            fold128(piece, all, factor128(&BY_PIECES[distance]))
                        };
                    }
                }
            }
            state = _mm_crc32_u64(0, _mm_cvtsi128_si64(all) as u64);
            state = _mm_crc32_u64(state, _mm_extract_epi64::<1>(all) as u64);
        }
        let done = at;
        while at + VECTOR <= len {
            store(to.wrapping_add(at), work.step::<SHAPE>(Avx2::load(from.add(at)), None));
            at += VECTOR;
        }
        adler = work.adler.onto(adler, at - adler_to);
        if at < len {
            if len >= VECTOR {
                // The last whole vector, of which the first part was done already.
                let last = len - VECTOR;
                let v = work.step::<SHAPE>(Avx2::load(from.add(last)), Some(mask_after(VECTOR - (len - at))));
                store(to.wrapping_add(last), v);
            } else {
                let part = len - at;
                let v = work.step::<SHAPE>(Avx2::load_part(from.add(at), part), Some(_mm256_set1_epi8(-1)));
                // Zeros beyond the end have become the key, and are not stored.
                if !is_read_only {
                    Avx2::store_part(to.add(at), v, part);
                }
            }
        }
        let written = std::slice::from_raw_parts(written, len);
        if SHAPE & Shape::NO_CRC == 0 {
            state = rest(state, &written[done..]);
        }
        if SHAPE & Shape::ADLER != 0 {
            // Fewer than 32 bytes: nothing overflows.
            let (mut a, mut b) = (adler & 0xffff, adler >> 16);
            for &byte in &written[at..] {
                a += u32::from(byte);
                b += a;
            }
            adler = ((b % Adler::MODULUS as u32) << 16) | (a % Adler::MODULUS as u32);
        }
        (work.sum.total(), state as u32, adler)
    }
}

#[target_feature(enable = "avx2,pclmulqdq,sse4.2")]
unsafe fn narrow<const SHAPE: u8, const C: usize, const V: usize, const G: usize>(
    src: &[u8],
    dst: &mut [u8],
    key: u32,
) -> Sums {
    assert!(dst.len() >= src.len(), "as long as the source");
    // SAFETY: the features are enabled.
    let (sum, crc, adler) =
        unsafe { mixed::<SHAPE, false, C, V, G>(src, dst.as_mut_ptr(), key, (u32::MAX, 1)) };
    sums::<SHAPE>(sum, u64::from(crc), adler)
}

#[target_feature(enable = "avx2,pclmulqdq,vpclmulqdq,sse4.2")]
unsafe fn wide<const SHAPE: u8, const C: usize, const V: usize, const G: usize>(
    src: &[u8],
    dst: &mut [u8],
    key: u32,
) -> Sums {
    assert!(dst.len() >= src.len(), "as long as the source");
    // SAFETY: the features are enabled.
    let (sum, crc, adler) =
        unsafe { mixed::<SHAPE, true, C, V, G>(src, dst.as_mut_ptr(), key, (u32::MAX, 1)) };
    sums::<SHAPE>(sum, u64::from(crc), adler)
}

/// A function for the shape's value, from one for each.
macro_rules! choose {
    ($shape:expr, $function:ident; $c:literal, $v:literal, $g:literal) => {{
        const BOTH: u8 = Shape::SUM | Shape::SWAP;
        // SAFETY (all): handed out only where the features were found.
        let run: Fused = match $shape {
            Shape::SUM => |src, dst, key| unsafe { $function::<{ Shape::SUM }, $c, $v, $g>(src, dst, key) },
            BOTH => |src, dst, key| unsafe { $function::<BOTH, $c, $v, $g>(src, dst, key) },
            Shape::FIVE => |src, dst, key| unsafe { $function::<{ Shape::FIVE }, $c, $v, $g>(src, dst, key) },
            _ => |src, dst, key| unsafe { $function::<0, $c, $v, $g>(src, dst, key) },
        };
        run
    }};
}

/// 256-bit loops for steps that end in a CRC, the usual best first.
pub(crate) fn loops(steps: &[Step], allowed: Allowed) -> Vec<Variant> {
    let Some(shape) = Shape::of(steps).filter(|_| allowed.clmul) else { return Vec::new() };
    let mut all = Vec::new();
    if allowed.wide_clmul {
        all.push(Variant { name: "1 crc32 : 1 256-bit fold, x8", run: choose!(shape, wide; 1, 1, 4) });
        all.push(Variant { name: "2 crc32 : 2 256-bit fold, x4", run: choose!(shape, wide; 2, 2, 1) });
        all.push(Variant { name: "256-bit fold x4", run: choose!(shape, wide; 0, 4, 1) });
        all.push(Variant { name: "256-bit fold x8", run: choose!(shape, wide; 0, 8, 1) });
    }
    all.push(Variant { name: "3 crc32 : 1 128-bit fold, x8", run: choose!(shape, narrow; 3, 1, 2) });
    all.push(Variant { name: "3 crc32 : 1 128-bit fold, x4", run: choose!(shape, narrow; 3, 1, 1) });
    all.push(Variant { name: "2 crc32 : 1 128-bit fold, x6", run: choose!(shape, narrow; 2, 1, 2) });
    all.push(Variant { name: "128-bit fold x8", run: choose!(shape, narrow; 0, 4, 1) });
    all
}

/// The CRC's register after more bytes, with 256-bit multiplication.
#[target_feature(enable = "avx2,pclmulqdq,vpclmulqdq,sse4.2")]
unsafe fn crc_wide(bytes: &[u8], register: u32) -> u32 {
    // SAFETY: the features are enabled; nothing is written.
    unsafe { mixed::<{ Shape::READ }, true, 1, 1, 4>(bytes, std::ptr::null_mut(), 0, (register, 1)).1 }
}

/// The same with multiplication of 128 bits.
#[target_feature(enable = "avx2,pclmulqdq,sse4.2")]
unsafe fn crc_narrow(bytes: &[u8], register: u32) -> u32 {
    // SAFETY: the features are enabled; nothing is written.
    unsafe { mixed::<{ Shape::READ }, false, 3, 1, 2>(bytes, std::ptr::null_mut(), 0, (register, 1)).1 }
}

/// The same with the `crc32` instruction alone.
#[target_feature(enable = "sse4.2")]
unsafe fn crc_scalar(bytes: &[u8], register: u32) -> u32 {
    rest(register.into(), bytes) as u32
}

/// Adler-32 after more bytes.
#[target_feature(enable = "avx2")]
unsafe fn adler(bytes: &[u8], value: u32) -> u32 {
    const SHAPE: u8 = Shape::READ | Shape::ADLER | Shape::NO_CRC;
    // SAFETY: the features are enabled; nothing is written.
    unsafe { mixed::<SHAPE, false, 0, 4, 1>(bytes, std::ptr::null_mut(), 0, (0, value)).2 }
}

/// A pass that only reads: the CRC's register, on a processor with AVX2.
pub(crate) fn crc_pass(allowed: Allowed) -> fn(u32, &[u8]) -> u32 {
    // SAFETY (all): handed out only where the features were found; what has AVX2 has SSE4.2.
    match () {
        () if allowed.wide_clmul => |register, bytes| unsafe { crc_wide(bytes, register) },
        () if allowed.clmul => |register, bytes| unsafe { crc_narrow(bytes, register) },
        () => |register, bytes| unsafe { crc_scalar(bytes, register) },
    }
}

/// A pass that only reads: Adler-32, on a processor with AVX2.
pub(crate) fn adler_pass() -> fn(u32, &[u8]) -> u32 {
    // SAFETY: handed out only where the features were found.
    |value, bytes| unsafe { adler(bytes, value) }
}
