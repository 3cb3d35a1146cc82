//! Portable code in the form that rustc vectorises best, for the build's target and for functions with more
//! features.

use crate::simd::shape::{AFTER, SUM, SWAP, XOR};
use crate::{Fused, Isa, MAX_SUMS, Passes, Sums, fold};

pub(crate) const PASSES: Passes = Passes {
    inet,
    swap32,
    swap32_in_place,
    xor32,
    xor32_in_place,
    crc32c: crate::libraries::crc32c_more,
    adler32: crate::libraries::adler32_more,
};

/// Words summed before 32-bit lanes could overflow: in each, sums of the words modulo 2^32 and of their upper
/// halves.
const BLOCK: usize = 1 << 14;

/// Remainders of a byte followed by so many zero bytes, for CRC32C.
static CRC32C: [[u32; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut at = 0;
    while at < 8 * 256 {
        let (zeros, byte) = (at / 256, at % 256);
        // The first table bit by bit, each other from the one before.
        let mut crc = if zeros == 0 { byte as u32 } else { tables[zeros - 1][byte] };
        if zeros == 0 {
            let mut bit = 0;
            while bit < 8 {
                crc = crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
                bit += 1;
            }
        } else {
            crc = crc >> 8 ^ tables[0][(crc & 0xff) as usize];
        }
        tables[zeros][byte] = crc;
        at += 1;
    }
    tables
};

/// The register of CRC32C after more bytes, by eight tables: eight bytes a step.
pub(crate) fn crc32c(mut register: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mixed = u64::from_le_bytes(*word) ^ u64::from(register);
        let bytes = mixed.to_le_bytes();
        register = (0..8).fold(0, |sum, at| sum ^ CRC32C[7 - at][usize::from(bytes[at])]);
    }
    rest.iter().fold(register, |crc, byte| crc >> 8 ^ CRC32C[0][usize::from(crc as u8 ^ byte)])
}

/// Adler-32 after more bytes: as many at once as its second sum has room for.
pub(crate) fn adler32(value: u32, bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (value & 0xffff, value >> 16);
    for some in bytes.chunks(5552) {
        for byte in some {
            a += u32::from(*byte);
            b += a;
        }
        (a, b) = (a % 65521, b % 65521);
    }
    b << 16 | a
}

fn inet(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total = 0;
    for block in words.chunks(BLOCK) {
        let (mut low, mut high) = (0u32, 0u32);
        for word in block {
            low += u32::from_ne_bytes(*word) & 0xffff;
            high += u32::from_ne_bytes(*word) >> 16;
        }
        total += u64::from(low) + u64::from(high);
    }
    let (words, rest) = rest.as_chunks::<2>();
    let tail: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    fold(u64::from(fold(total).to_be()) + tail + rest.first().map_or(0, |&byte| u64::from(byte) << 8))
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

/// A fused loop: sum before, swap, xor, sum after, word by word, in blocks whose sums fit 32 bits.
#[inline(always)]
fn fused_loop<const SHAPE: u8>(src: &[u8], dst: &mut [u8], key: u32) -> Sums {
    let (mut before, mut after) = (0u64, 0u64);
    let (from, to) = (src.as_chunks::<4>().0, dst.as_chunks_mut::<4>().0);
    for (from, to) in from.chunks(BLOCK).zip(to.chunks_mut(BLOCK)) {
        let (mut low, mut high, mut low_after, mut high_after) = (0u32, 0u32, 0u32, 0u32);
        for (from, to) in from.iter().zip(to) {
            let mut word = u32::from_ne_bytes(*from);
            if SHAPE & SUM != 0 {
                low += word & 0xffff;
                high += word >> 16;
            }
            if SHAPE & SWAP != 0 {
                word = word.swap_bytes();
            }
            if SHAPE & XOR != 0 {
                word ^= key.to_be();
            }
            if SHAPE & AFTER != 0 {
                low_after += word & 0xffff;
                high_after += word >> 16;
            }
            *to = word.to_ne_bytes();
        }
        before += u64::from(low) + u64::from(high);
        after += u64::from(low_after) + u64::from(high_after);
    }
    let mut sums = [0; MAX_SUMS];
    sums[0] = u32::from(fold(before).to_be());
    sums[1] = u32::from(fold(after).to_be());
    sums
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<const SHAPE: u8>(src: &[u8], dst: &mut [u8], key: u32) -> Sums {
    fused_loop::<SHAPE>(src, dst, key)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn avx512<const SHAPE: u8>(src: &[u8], dst: &mut [u8], key: u32) -> Sums {
    fused_loop::<SHAPE>(src, dst, key)
}

/// The loop of a shape as rustc compiles it with these features, which the machine must have.
#[allow(unused_unsafe, reason = "the portable loop is safe to call anywhere")]
pub(crate) fn fused(shape: u8, isa: Isa) -> Option<Fused> {
    macro_rules! choose {
        ($function:ident; $($shape:expr),+) => {
            match shape {
                $(
                    s if s == $shape => Some(|src, dst, key| {
                        // SAFETY: the caller has found the features.
                        unsafe { $function::<{ $shape }>(src, dst, key) }
                    }),
                )+
                _ => None,
            }
        };
        ($function:ident) => {
            choose!($function; SUM, SUM | SWAP, SUM | XOR, SWAP | XOR, SUM | SWAP | XOR, SUM | XOR | AFTER)
        };
    }
    match isa {
        Isa::Portable => choose!(fused_loop),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => choose!(avx2),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => choose!(avx512),
        #[cfg(not(target_arch = "x86_64"))]
        _ => None,
    }
}
