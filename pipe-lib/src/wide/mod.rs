//! What instructions on 128 bits mean: numbers of twice a machine word, rounds of AES, products in GF(2^128).
//!
//! Operands may be keys. So nothing here looks anything up by an operand's bits or branches on them, and the
//! processor's own instructions are used where it has them.

mod aes;
mod field;

use crate::ir::{Ty, WideBinary, WideUnary};
pub(crate) use aes::{encrypt, expand_key};

/// `op d, a`, with a result of type `ty`.
pub(crate) fn unary(op: WideUnary, ty: Ty, a: u128) -> u128 {
    match op {
        WideUnary::Zext => a,
        WideUnary::Trunc if ty == Ty::U128 => a,
        WideUnary::Trunc => a & u128::from(ty.mask()),
        WideUnary::High => a >> 64,
        WideUnary::Not => !a,
        WideUnary::Bswap => a.swap_bytes(),
    }
}

/// `op d, a, b`.
pub(crate) fn binary(op: WideBinary, a: u128, b: u128) -> u128 {
    let count = (b % 128) as u32;
    match op {
        WideBinary::Pair => a << 64 | b,
        WideBinary::And => a & b,
        WideBinary::Or => a | b,
        WideBinary::Xor => a ^ b,
        WideBinary::Add => a.wrapping_add(b),
        WideBinary::Sub => a.wrapping_sub(b),
        WideBinary::Shl => a << count,
        WideBinary::Shr => a >> count,
        WideBinary::Clmul => field::clmul_low(a, b),
        WideBinary::Aesenc => aes::round(aes::AesRound::Encrypt, a, b),
        WideBinary::Aesenclast => aes::round(aes::AesRound::EncryptLast, a, b),
        WideBinary::Aesdec => aes::round(aes::AesRound::Decrypt, a, b),
        WideBinary::Aesdeclast => aes::round(aes::AesRound::DecryptLast, a, b),
        WideBinary::Gfmul128 => field::product(a, b),
    }
}
