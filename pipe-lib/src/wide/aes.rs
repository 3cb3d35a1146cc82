//! Rounds of AES (FIPS 197) on a block as a number, first byte least significant; the key schedule.
//!
//! Without the processor's instructions `SubBytes` is computed, not looked up: inversion in GF(2^8) of
//! sixteen bytes at once, as a power, in a time that depends on nothing.

/// A block encrypted with the round keys of [`expand_key`].
pub(crate) fn encrypt(keys: &[u128], block: u128) -> u128 {
    let [first, inner @ .., last] = keys else { return block };
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("aes") {
        // SAFETY: the processor has the instructions.
        return unsafe { encrypted_by_instruction((*first, inner, *last), block) };
    }
    let block = inner.iter().fold(block ^ first, |block, key| computed(AesRound::Encrypt, block, *key));
    computed(AesRound::EncryptLast, block, *last)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "aes")]
fn encrypted_by_instruction((first, inner, last): (u128, &[u128], u128), block: u128) -> u128 {
    let block = inner.iter().fold(block ^ first, |block, key| by_instruction(AesRound::Encrypt, block, *key));
    by_instruction(AesRound::EncryptLast, block, last)
}

/// Which round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AesRound {
    Encrypt,
    EncryptLast,
    Decrypt,
    DecryptLast,
}

/// One round, round key included.
pub(super) fn round(round: AesRound, block: u128, key: u128) -> u128 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("aes") {
        // SAFETY: the processor has the instructions.
        return unsafe { by_instruction(round, block, key) };
    }
    computed(round, block, key)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "aes")]
#[inline]
fn by_instruction(round: AesRound, block: u128, key: u128) -> u128 {
    use std::arch::x86_64::*;
    let wide = |x: u128| _mm_set_epi64x((x >> 64) as i64, x as i64);
    let (block, key) = (wide(block), wide(key));
    let result = match round {
        AesRound::Encrypt => _mm_aesenc_si128(block, key),
        AesRound::EncryptLast => _mm_aesenclast_si128(block, key),
        AesRound::Decrypt => _mm_aesdec_si128(block, key),
        AesRound::DecryptLast => _mm_aesdeclast_si128(block, key),
    };
    let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(result, result)) as u64;
    u128::from(high) << 64 | u128::from(_mm_cvtsi128_si64(result) as u64)
}

fn computed(round: AesRound, block: u128, key: u128) -> u128 {
    let moved = match round {
        AesRound::Encrypt | AesRound::EncryptLast => substituted(shifted(block, 1)),
        AesRound::Decrypt | AesRound::DecryptLast => unsubstituted(shifted(block, 3)),
    };
    let mixed = match round {
        AesRound::Encrypt => mixed(moved),
        AesRound::Decrypt => unmixed(moved),
        AesRound::EncryptLast | AesRound::DecryptLast => moved,
    };
    mixed ^ key
}

/// That byte in each of sixteen.
const fn each(byte: u8) -> u128 {
    u128::MAX / 255 * byte as u128
}

/// `ShiftRows`: byte `r` of each column comes from `by * r` columns on. By 3 it is undone.
fn shifted(block: u128, by: usize) -> u128 {
    let bytes = block.to_le_bytes();
    u128::from_le_bytes(std::array::from_fn(|at| bytes[(at + 4 * by * (at % 4)) % 16]))
}

/// Each byte times `x` in GF(2^8), modulo `x^8 + x^4 + x^3 + x + 1`.
fn doubled(bytes: u128) -> u128 {
    let leaving = bytes >> 7 & each(1);
    ((bytes & each(0x7f)) << 1) ^ (leaving * 0x1b)
}

/// Products in GF(2^8), byte by byte.
fn products(a: u128, b: u128) -> u128 {
    let (mut sum, mut a) = (0, a);
    for bit in 0..8 {
        let set = (b >> bit & each(1)) * 0xff;
        sum ^= a & set;
        a = doubled(a);
    }
    sum
}

/// Inverses in GF(2^8), 0 of 0: the 254th powers.
fn inverses(bytes: u128) -> u128 {
    // 254 is seven ones and a zero in binary.
    let mut power = bytes;
    for _ in 0..6 {
        power = products(products(power, power), bytes);
    }
    products(power, power)
}

/// Each byte rotated left.
fn turned(bytes: u128, by: u32) -> u128 {
    (bytes & each(0xff >> by)) << by | bytes >> (8 - by) & each((1 << by) - 1)
}

/// `SubBytes`.
fn substituted(bytes: u128) -> u128 {
    let x = inverses(bytes);
    x ^ turned(x, 1) ^ turned(x, 2) ^ turned(x, 3) ^ turned(x, 4) ^ each(0x63)
}

/// `InvSubBytes`.
fn unsubstituted(bytes: u128) -> u128 {
    inverses(turned(bytes, 1) ^ turned(bytes, 3) ^ turned(bytes, 6) ^ each(0x05))
}

/// The bytes of each column moved up by `by` places.
fn columns_turned(block: u128, by: usize) -> u128 {
    let bytes = block.to_le_bytes();
    u128::from_le_bytes(std::array::from_fn(|at| bytes[at / 4 * 4 + (at + by) % 4]))
}

/// `MixColumns`: 2, 3, 1, 1.
fn mixed(block: u128) -> u128 {
    let next = columns_turned(block, 1);
    doubled(block) ^ doubled(next) ^ next ^ columns_turned(block, 2) ^ columns_turned(block, 3)
}

/// `InvMixColumns`: 14, 11, 13, 9.
fn unmixed(block: u128) -> u128 {
    let times = |by: usize, factor: u8| products(columns_turned(block, by), each(factor));
    times(0, 14) ^ times(1, 11) ^ times(2, 13) ^ times(3, 9)
}

/// The round keys of a key of 16 or 32 bytes (FIPS 197, 5.2): 11 or 15 of them. `None` for other lengths.
pub(crate) fn expand_key(key: &[u8]) -> Option<Vec<u128>> {
    let words = match key.len() {
        16 => 4,
        32 => 8,
        _ => return None,
    };
    let rounds = words + 6;
    let mut schedule: Vec<u32> = Vec::with_capacity(4 * (rounds + 1));
    schedule.extend(key.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])));
    let mut constant = 1;
    for at in words..4 * (rounds + 1) {
        let mut word = schedule[at - 1];
        if at % words == 0 {
            word = substituted(u128::from(word.rotate_right(8))) as u32 ^ constant;
            constant = doubled(u128::from(constant)) as u32;
        } else if words == 8 && at % words == 4 {
            word = substituted(u128::from(word)) as u32;
        }
        schedule.push(schedule[at - words] ^ word);
    }
    let block = |words: &[u32]| words.iter().rev().fold(0, |all, word| all << 32 | u128::from(*word));
    let keys = schedule.chunks_exact(4).map(block).collect();
    schedule.iter_mut().for_each(|word| *word = std::hint::black_box(0));
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::{AesRound, computed, expand_key, round};
    use crate::testing::rng::Rng;

    fn block(text: &str) -> u128 {
        u128::from_str_radix(text, 16).unwrap().swap_bytes()
    }

    /// FIPS 197, appendix C.1 and C.3.
    #[test]
    fn the_standard_s_examples() {
        let plain = block("00112233445566778899aabbccddeeff");
        let bytes: Vec<u8> = (0..32).collect();
        for (key, cipher) in [
            (&bytes[..16], "69c4e0d86a7b0430d8cdb78070b4c55a"),
            (&bytes[..], "8ea2b7ca516745bfeafc49904b496089"),
        ] {
            let keys = expand_key(key).unwrap();
            let (last, inner) = keys[1..].split_last().unwrap();
            for step in [round, computed] {
                let sealed = inner.iter().fold(plain ^ keys[0], |x, key| step(AesRound::Encrypt, x, *key));
                let sealed = step(AesRound::EncryptLast, sealed, *last);
                assert_eq!(sealed, block(cipher));
                // Backwards, by the equivalent inverse cipher: its inner keys go through `InvMixColumns`.
                let unmixed = |key: u128| super::unmixed(key);
                let opened = inner
                    .iter()
                    .rev()
                    .fold(sealed ^ last, |x, key| step(AesRound::Decrypt, x, unmixed(*key)));
                assert_eq!(step(AesRound::DecryptLast, opened, keys[0]), plain);
            }
        }
        assert_eq!(expand_key(&bytes[..24]), None);
    }

    #[test]
    fn computed_and_by_instruction_are_one() {
        let mut rng = Rng::new(0x0ae5);
        for _ in 0..200 {
            let mut number = || u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
            let (x, key) = (number(), number());
            for kind in [AesRound::Encrypt, AesRound::EncryptLast, AesRound::Decrypt, AesRound::DecryptLast] {
                assert_eq!(round(kind, x, key), computed(kind, x, key), "{kind:?}");
            }
        }
    }
}
