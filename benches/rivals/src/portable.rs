//! Portable code in the form that rustc vectorises best.

use super::{Fused, MAX_SUMS, Passes, Sums, fold, hand_fused_index};

pub(crate) const PASSES: Passes = Passes { inet, swap32, swap32_in_place, xor32, xor32_in_place };

fn inet(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    // Halves of native words: in which order they are added does not matter, and the bytes are swapped once
    // at the end.
    let (mut low, mut high) = (0u64, 0u64);
    for word in words {
        let word = u32::from_ne_bytes(*word);
        low += u64::from(word & 0xffff);
        high += u64::from(word >> 16);
    }
    let sum = fold(low + high).to_be();
    let (words, rest) = rest.as_chunks::<2>();
    let tail: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    u64::from(sum) + tail + rest.first().map_or(0, |&byte| u64::from(byte) << 8)
}

fn swap32(src: &[u8], dst: &mut [u8]) {
    for (from, to) in src.as_chunks::<4>().0.iter().zip(dst.as_chunks_mut::<4>().0) {
        *to = u32::from_ne_bytes(*from).swap_bytes().to_ne_bytes();
    }
}

fn swap32_in_place(dst: &mut [u8]) {
    for word in dst.as_chunks_mut::<4>().0 {
        *word = u32::from_ne_bytes(*word).swap_bytes().to_ne_bytes();
    }
}

fn xor32(src: &[u8], dst: &mut [u8], key: u32) {
    for (from, to) in src.as_chunks::<4>().0.iter().zip(dst.as_chunks_mut::<4>().0) {
        *to = (u32::from_ne_bytes(*from) ^ key.to_be()).to_ne_bytes();
    }
}

fn xor32_in_place(dst: &mut [u8], key: u32) {
    for word in dst.as_chunks_mut::<4>().0 {
        *word = (u32::from_ne_bytes(*word) ^ key.to_be()).to_ne_bytes();
    }
}

/// One word of a fused loop: sum before, swap, xor, sum after.
#[inline(always)]
pub(crate) fn fused_loop<const SUM: bool, const SWAP: bool, const XOR: bool, const AFTER: bool>(
    src: &[u8],
    dst: &mut [u8],
    key: u32,
) -> Sums {
    let (mut before, mut after) = ([0u64; 2], [0u64; 2]);
    for (from, to) in src.as_chunks::<4>().0.iter().zip(dst.as_chunks_mut::<4>().0) {
        let mut word = u32::from_ne_bytes(*from);
        if SUM {
            before[0] += u64::from(word & 0xffff);
            before[1] += u64::from(word >> 16);
        }
        if SWAP {
            word = word.swap_bytes();
        }
        if XOR {
            word ^= key.to_be();
        }
        if AFTER {
            after[0] += u64::from(word & 0xffff);
            after[1] += u64::from(word >> 16);
        }
        *to = word.to_ne_bytes();
    }
    let sum = |halves: [u64; 2]| u32::from(fold(halves[0] + halves[1]).to_be());
    let mut sums = [0; MAX_SUMS];
    sums[0] = sum(before);
    sums[1] = sum(after);
    sums
}

/// The loops of [`super::HAND_FUSED`], as rustc vectorises them for the build's target.
pub(crate) fn fused(steps: &[super::Step]) -> Option<Fused> {
    let loops: [Fused; 6] = [
        fused_loop::<true, false, false, false>,
        fused_loop::<true, true, false, false>,
        fused_loop::<true, false, true, false>,
        fused_loop::<true, true, true, false>,
        fused_loop::<false, true, true, false>,
        fused_loop::<true, false, true, true>,
    ];
    hand_fused_index(steps).map(|i| loops[i])
}
