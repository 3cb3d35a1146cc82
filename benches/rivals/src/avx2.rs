//! 256-bit vectors. Sums by `vpsadbw`: even and odd bytes are masked apart and summed into 64-bit lanes,
//! which never overflow.

#![allow(clippy::needless_range_loop, reason = "plain loops keep vectors in registers; see `total`")]

use super::{Fused, MAX_SUMS, Passes, Sums, fold, hand_fused_index, portable};
use core::arch::x86_64::*;

/// Calls a function of this module from a table that is handed out only on machines that have its feature.
macro_rules! trusted {
    ($call:expr) => {
        // SAFETY: the feature was found; slices are readable or writable for their lengths and do not overlap
        // in part.
        unsafe { $call }
    };
}

pub(crate) const PASSES: Passes = Passes {
    inet: |bytes| trusted!(inet(bytes)),
    swap32: |src, dst| {
        trusted!(map::<true, false>(src.as_ptr(), dst.as_mut_ptr(), src.len().min(dst.len()), 0))
    },
    swap32_in_place: |dst| trusted!(map::<true, false>(dst.as_ptr(), dst.as_mut_ptr(), dst.len(), 0)),
    xor32: |src, dst, key| {
        trusted!(map::<false, true>(src.as_ptr(), dst.as_mut_ptr(), src.len().min(dst.len()), key))
    },
    xor32_in_place: |dst, key| trusted!(map::<false, true>(dst.as_ptr(), dst.as_mut_ptr(), dst.len(), key)),
};

/// Accumulators of the even and the odd bytes, in 64-bit lanes.
#[derive(Clone, Copy)]
struct Acc {
    even: __m256i,
    odd: __m256i,
}

impl Acc {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn zero() -> Acc {
        Acc { even: _mm256_setzero_si256(), odd: _mm256_setzero_si256() }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(&mut self, v: __m256i) {
        let zero = _mm256_setzero_si256();
        let even = _mm256_and_si256(v, _mm256_set1_epi16(0x00ff));
        self.even = _mm256_add_epi64(self.even, _mm256_sad_epu8(even, zero));
        self.odd = _mm256_add_epi64(self.odd, _mm256_sad_epu8(_mm256_srli_epi16::<8>(v), zero));
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn total(accs: &[Acc]) -> u64 {
    let wide = |v: __m256i| {
        let half = _mm_add_epi64(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
        (_mm_cvtsi128_si64(half) as u64).wrapping_add(_mm_extract_epi64::<1>(half) as u64)
    };
    // Plain loops here and below: an iterator adaptor or `array::map` is compiled without this function's features,
    // and the vectors would go through memory.
    let (mut even, mut odd) = (accs[0].even, accs[0].odd);
    for acc in &accs[1..] {
        even = _mm256_add_epi64(even, acc.even);
        odd = _mm256_add_epi64(odd, acc.odd);
    }
    (wide(even) << 8) + wide(odd)
}

#[target_feature(enable = "avx2")]
fn inet(bytes: &[u8]) -> u64 {
    let mut accs = [Acc::zero(); 4];
    let (blocks, rest) = bytes.as_chunks::<128>();
    for block in blocks {
        for i in 0..4 {
            // SAFETY: 32 bytes from `32 * i` on lie within the block.
            accs[i].add(unsafe { _mm256_loadu_si256(block.as_ptr().add(32 * i).cast()) });
        }
    }
    total(&accs) + (portable::PASSES.inet)(rest)
}

#[inline]
#[target_feature(enable = "avx2")]
fn swap_order() -> __m256i {
    _mm256_broadcastsi128_si256(_mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12))
}

/// One step from `src` to `dst`, which may be the same.
///
/// # Safety
/// The machine has the feature; `src` is readable and `dst` writable for `len` bytes, a multiple of 4; they
/// do not overlap in part.
#[target_feature(enable = "avx2")]
unsafe fn map<const SWAP: bool, const XOR: bool>(src: *const u8, dst: *mut u8, len: usize, key: u32) {
    let (order, keys) = (swap_order(), _mm256_set1_epi32(key.to_be() as i32));
    let step = |v: __m256i| {
        let v = if SWAP { _mm256_shuffle_epi8(v, order) } else { v };
        if XOR { _mm256_xor_si256(v, keys) } else { v }
    };
    let mut at = 0;
    // SAFETY: every access lies below `len`, by the loops' conditions.
    unsafe {
        while at + 128 <= len {
            for i in 0..4 {
                let v = _mm256_loadu_si256(src.add(at + 32 * i).cast());
                _mm256_storeu_si256(dst.add(at + 32 * i).cast(), step(v));
            }
            at += 128;
        }
        while at + 32 <= len {
            _mm256_storeu_si256(dst.add(at).cast(), step(_mm256_loadu_si256(src.add(at).cast())));
            at += 32;
        }
        while at + 4 <= len {
            let mut word = src.add(at).cast::<u32>().read_unaligned();
            if SWAP {
                word = word.swap_bytes();
            }
            if XOR {
                word ^= key.to_be();
            }
            dst.add(at).cast::<u32>().write_unaligned(word);
            at += 4;
        }
    }
}

/// Sum before, swap, xor, sum after, in one loop of four vectors a turn.
#[target_feature(enable = "avx2")]
fn fused_loop<const SUM: bool, const SWAP: bool, const XOR: bool, const AFTER: bool>(
    src: &[u8],
    dst: &mut [u8],
    key: u32,
) -> Sums {
    let (order, keys) = (swap_order(), _mm256_set1_epi32(key.to_be() as i32));
    let (mut before, mut after) = ([Acc::zero(); 4], [Acc::zero(); 4]);
    let (from, from_rest) = src.as_chunks::<128>();
    let (to, to_rest) = dst.as_chunks_mut::<128>();
    for (from, to) in from.iter().zip(to) {
        for i in 0..4 {
            // SAFETY: 32 bytes from `32 * i` on lie within the chunk.
            let mut v = unsafe { _mm256_loadu_si256(from.as_ptr().add(32 * i).cast()) };
            if SUM {
                before[i].add(v);
            }
            if SWAP {
                v = _mm256_shuffle_epi8(v, order);
            }
            if XOR {
                v = _mm256_xor_si256(v, keys);
            }
            if AFTER {
                after[i].add(v);
            }
            // SAFETY: as above.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().add(32 * i).cast(), v) };
        }
    }
    let [rest_before, rest_after] = portable::fused_loop::<SUM, SWAP, XOR, AFTER>(from_rest, to_rest, key);
    let mut sums = [0; MAX_SUMS];
    if SUM {
        sums[0] = u32::from(fold(total(&before) + u64::from(rest_before)));
    }
    if AFTER {
        sums[1] = u32::from(fold(total(&after) + u64::from(rest_after)));
    }
    sums
}

/// The loops of [`super::HAND_FUSED`].
pub(crate) fn fused(steps: &[super::Step]) -> Option<Fused> {
    let loops: [Fused; 6] = [
        |src, dst, key| trusted!(fused_loop::<true, false, false, false>(src, dst, key)),
        |src, dst, key| trusted!(fused_loop::<true, true, false, false>(src, dst, key)),
        |src, dst, key| trusted!(fused_loop::<true, false, true, false>(src, dst, key)),
        |src, dst, key| trusted!(fused_loop::<true, true, true, false>(src, dst, key)),
        |src, dst, key| trusted!(fused_loop::<false, true, true, false>(src, dst, key)),
        |src, dst, key| trusted!(fused_loop::<true, false, true, true>(src, dst, key)),
    ];
    hand_fused_index(steps).map(|i| loops[i])
}
