//! 512-bit vectors. Sums by VNNI: `vpdpbusd` adds four bytes times weights to a 32-bit lane, so even and odd
//! bytes of a vector cost one instruction each and nothing else. A lane gains at most 510 a step, which is
//! why a pass takes at most 1 GiB at once.

#![allow(clippy::needless_range_loop, reason = "plain loops keep vectors in registers; see `total`")]

use super::{Fused, MAX_SUMS, Passes, Sums, fold, hand_fused_index};
use core::arch::x86_64::*;

/// Calls a function of this module from a table that is handed out only on machines that have its features.
macro_rules! trusted {
    ($call:expr) => {
        // SAFETY: the features were found; slices are readable or writable for their lengths and do not
        // overlap in part.
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

/// Accumulators of the even and the odd bytes.
#[derive(Clone, Copy)]
struct Acc {
    even: __m512i,
    odd: __m512i,
}

impl Acc {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn zero() -> Acc {
        Acc { even: _mm512_setzero_si512(), odd: _mm512_setzero_si512() }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn add(&mut self, v: __m512i) {
        self.even = _mm512_dpbusd_epi32(self.even, v, _mm512_set1_epi32(0x0001_0001));
        self.odd = _mm512_dpbusd_epi32(self.odd, v, _mm512_set1_epi32(0x0100_0100));
    }
}

/// The sums of neighbouring 32-bit lanes, in 64 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn widen(v: __m512i) -> __m512i {
    let low = _mm512_and_si512(v, _mm512_set1_epi64(0xffff_ffff));
    _mm512_add_epi64(low, _mm512_srli_epi64::<32>(v))
}

/// The plain sum of big-endian words: even bytes are the high ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn total(accs: &[Acc]) -> u64 {
    // Plain loops here and below: an iterator adaptor or `array::map` is compiled without this function's features,
    // and the vectors would go through memory.
    let (mut even, mut odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for acc in accs {
        even = _mm512_add_epi64(even, widen(acc.even));
        odd = _mm512_add_epi64(odd, widen(acc.odd));
    }
    ((_mm512_reduce_add_epi64(even) as u64) << 8) + _mm512_reduce_add_epi64(odd) as u64
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn inet(bytes: &[u8]) -> u64 {
    let mut accs = [Acc::zero(); 4];
    let (blocks, rest) = bytes.as_chunks::<256>();
    for block in blocks {
        for i in 0..4 {
            // SAFETY: 64 bytes from `64 * i` on lie within the block.
            accs[i].add(unsafe { _mm512_loadu_si512(block.as_ptr().add(64 * i).cast()) });
        }
    }
    // Always the first accumulator: a computed index would keep all of them in memory, in the loop above too.
    for chunk in rest.chunks(64) {
        // SAFETY: the mask has a bit for each byte of the chunk and no other.
        accs[0].add(unsafe { _mm512_maskz_loadu_epi8(mask(chunk.len()), chunk.as_ptr().cast()) });
    }
    total(&accs)
}

/// A bit for each of the first `len` bytes, 1 to 64.
#[inline]
fn mask(len: usize) -> u64 {
    u64::MAX >> (64 - len)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn swap_order() -> __m512i {
    _mm512_broadcast_i32x4(_mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12))
}

/// One step from `src` to `dst`, which may be the same.
///
/// # Safety
/// The machine has the features; `src` is readable and `dst` writable for `len` bytes; they do not overlap in
/// part.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn map<const SWAP: bool, const XOR: bool>(src: *const u8, dst: *mut u8, len: usize, key: u32) {
    let (order, key) = (swap_order(), _mm512_set1_epi32(key.to_be() as i32));
    let step = |v: __m512i| {
        let v = if SWAP { _mm512_shuffle_epi8(v, order) } else { v };
        if XOR { _mm512_xor_si512(v, key) } else { v }
    };
    let mut at = 0;
    // SAFETY: every access lies below `len`, by the loops' conditions and the mask.
    unsafe {
        while at + 256 <= len {
            for i in 0..4 {
                let v = _mm512_loadu_si512(src.add(at + 64 * i).cast());
                _mm512_storeu_si512(dst.add(at + 64 * i).cast(), step(v));
            }
            at += 256;
        }
        while at < len {
            let mask = mask((len - at).min(64));
            let v = _mm512_maskz_loadu_epi8(mask, src.add(at).cast());
            _mm512_mask_storeu_epi8(dst.add(at).cast(), mask, step(v));
            at += 64;
        }
    }
}

/// Sum before, swap, xor, sum after, in one loop of four vectors a turn.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn fused_loop<const SUM: bool, const SWAP: bool, const XOR: bool, const AFTER: bool>(
    src: &[u8],
    dst: &mut [u8],
    key: u32,
) -> Sums {
    let (order, key) = (swap_order(), _mm512_set1_epi32(key.to_be() as i32));
    let step = |v: __m512i| {
        let v = if SWAP { _mm512_shuffle_epi8(v, order) } else { v };
        if XOR { _mm512_xor_si512(v, key) } else { v }
    };
    let (mut before, mut after) = ([Acc::zero(); 4], [Acc::zero(); 4]);
    let len = src.len().min(dst.len());
    let (src, dst) = (src.as_ptr(), dst.as_mut_ptr());
    let mut at = 0;
    // SAFETY: every access lies below `len`, by the loops' conditions and the mask.
    unsafe {
        while at + 256 <= len {
            for i in 0..4 {
                let v = _mm512_loadu_si512(src.add(at + 64 * i).cast());
                if SUM {
                    before[i].add(v);
                }
                let v = step(v);
                if AFTER {
                    after[i].add(v);
                }
                _mm512_storeu_si512(dst.add(at + 64 * i).cast(), v);
            }
            at += 256;
        }
        while at < len {
            let mask = mask((len - at).min(64));
            let v = _mm512_maskz_loadu_epi8(mask, src.add(at).cast());
            if SUM {
                before[0].add(v);
            }
            // Bytes beyond the end become the key: not to be summed.
            let v = _mm512_maskz_mov_epi8(mask, step(v));
            if AFTER {
                after[0].add(v);
            }
            _mm512_mask_storeu_epi8(dst.add(at).cast(), mask, v);
            at += 64;
        }
    }
    let mut sums = [0; MAX_SUMS];
    if SUM {
        sums[0] = u32::from(fold(total(&before)));
    }
    if AFTER {
        sums[1] = u32::from(fold(total(&after)));
    }
    sums
}

/// The loops of [`super::HAND_FUSED`]. At most 1 GiB at once.
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
