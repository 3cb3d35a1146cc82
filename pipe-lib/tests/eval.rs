//! The meaning of each instruction, against the standard library's integers at every width and against
//! published values.

use pipe_lib::ir::{BinaryOp, CompareOp, ConvertOp, CrcOp, ModOp, Ty, UnaryOp, eval};
use pipe_lib::testing::Rng;

/// Checks all instructions of one width on pairs of numbers that tend to lie at the edges.
macro_rules! width {
    ($name:ident, $ty:expr, $unsigned:ty, $signed:ty, $wide:ty) => {
        #[test]
        fn $name() {
            let ty = $ty;
            let bits = <$unsigned>::BITS;
            let mut rng = Rng::new(u64::from(bits));
            for _ in 0..20_000 {
                let (a, b, m) = (rng.edge() as $unsigned, rng.edge() as $unsigned, rng.edge() as $unsigned);
                let (x, y) = (u64::from(a), u64::from(b));
                let count = (y % u64::from(bits)) as u32;
                let binary = |op: BinaryOp| match op {
                    BinaryOp::Add => a.wrapping_add(b),
                    BinaryOp::Sub => a.wrapping_sub(b),
                    BinaryOp::Mul => a.wrapping_mul(b),
                    BinaryOp::And => a & b,
                    BinaryOp::Or => a | b,
                    BinaryOp::Xor => a ^ b,
                    BinaryOp::Shl => a << count,
                    BinaryOp::Shr => a >> count,
                    BinaryOp::Sar => ((a as $signed) >> count) as $unsigned,
                    BinaryOp::Rotl => a.rotate_left(count),
                    BinaryOp::Rotr => a.rotate_right(count),
                    BinaryOp::Min => a.min(b),
                    BinaryOp::Max => a.max(b),
                    BinaryOp::Smin => (a as $signed).min(b as $signed) as $unsigned,
                    BinaryOp::Smax => (a as $signed).max(b as $signed) as $unsigned,
                    BinaryOp::Addc => match a.overflowing_add(b) {
                        (sum, true) => sum + 1,
                        (sum, false) => sum,
                    },
                    BinaryOp::Adds => a.saturating_add(b),
                    BinaryOp::Subs => a.saturating_sub(b),
                    BinaryOp::Sadds => (a as $signed).saturating_add(b as $signed) as $unsigned,
                    BinaryOp::Ssubs => (a as $signed).saturating_sub(b as $signed) as $unsigned,
                    BinaryOp::Clmul | BinaryOp::Clmulh => {
                        let mut product: $wide = 0;
                        for bit in 0..bits {
                            if (b >> bit) & 1 == 1 {
                                product ^= <$wide>::from(a) << bit;
                            }
                        }
                        let shift = if op == BinaryOp::Clmul { 0 } else { bits };
                        (product >> shift) as $unsigned
                    }
                };
                for &op in BinaryOp::ALL {
                    let expected = u64::from(binary(op));
                    assert_eq!(eval::binary(op, ty, x, y), expected, "{} {a:#x}, {b:#x}", op.name());
                }
                for &op in UnaryOp::ALL {
                    let expected = match op {
                        UnaryOp::Neg => a.wrapping_neg(),
                        UnaryOp::Not => !a,
                        UnaryOp::Bswap => a.swap_bytes(),
                        UnaryOp::Bitrev => a.reverse_bits(),
                        UnaryOp::Popcnt => a.count_ones() as $unsigned,
                        UnaryOp::Clz => a.leading_zeros() as $unsigned,
                        UnaryOp::Ctz => a.trailing_zeros() as $unsigned,
                    };
                    assert_eq!(eval::unary(op, ty, x), u64::from(expected), "{} {a:#x}", op.name());
                }
                for &op in CompareOp::ALL {
                    let expected = match op {
                        CompareOp::Eq => a == b,
                        CompareOp::Ne => a != b,
                        CompareOp::Ltu => a < b,
                        CompareOp::Leu => a <= b,
                        CompareOp::Lts => (a as $signed) < (b as $signed),
                        CompareOp::Les => (a as $signed) <= (b as $signed),
                    };
                    assert_eq!(
                        eval::compare(op, ty, x, y),
                        u64::from(expected),
                        "{} {a:#x}, {b:#x}",
                        op.name()
                    );
                }
                let modulus = if m == 0 { 1u128 << bits } else { u128::from(m) };
                let sum = (u128::from(a) + u128::from(b)) % modulus;
                let product = (u128::from(a) * u128::from(b)) % modulus;
                assert_eq!(u128::from(eval::modular(ModOp::Addmod, ty, x, y, u64::from(m))), sum);
                assert_eq!(u128::from(eval::modular(ModOp::Mulmod, ty, x, y, u64::from(m))), product);
                for to in Ty::INTEGERS {
                    if to > ty {
                        assert_eq!(eval::convert(ConvertOp::Zext, ty, to, x), x);
                        let extended = i64::from(a as $signed) as u64 & to.mask();
                        assert_eq!(eval::convert(ConvertOp::Sext, ty, to, x), extended);
                    } else if to < ty {
                        assert_eq!(eval::convert(ConvertOp::Trunc, ty, to, x), x & to.mask());
                    }
                }
            }
        }
    };
}

width!(instructions_on_u8, Ty::U8, u8, i8, u16);
width!(instructions_on_u16, Ty::U16, u16, i16, u32);
width!(instructions_on_u32, Ty::U32, u32, i32, u64);
width!(instructions_on_u64, Ty::U64, u64, i64, u128);

#[test]
fn instructions_on_bool() {
    for a in [0, 1] {
        assert_eq!(eval::unary(UnaryOp::Not, Ty::Bool, a), 1 - a);
        assert_eq!(eval::convert(ConvertOp::Zext, Ty::Bool, Ty::U16, a), a);
        assert_eq!(eval::convert(ConvertOp::Sext, Ty::Bool, Ty::U16, a), a * 0xffff);
        assert_eq!(eval::convert(ConvertOp::Trunc, Ty::U32, Ty::Bool, 0xfffe + a), a);
        for b in [0, 1] {
            assert_eq!(eval::binary(BinaryOp::And, Ty::Bool, a, b), a & b);
            assert_eq!(eval::binary(BinaryOp::Or, Ty::Bool, a, b), a | b);
            assert_eq!(eval::binary(BinaryOp::Xor, Ty::Bool, a, b), a ^ b);
        }
    }
}

/// RFC 1071: adding never makes zero of what is not zero.
#[test]
fn ones_complement_sums_are_zero_only_for_zeros() {
    for a in 0..=255 {
        for b in 0..=255 {
            let sum = eval::binary(BinaryOp::Addc, Ty::U8, a, b);
            assert_eq!(sum == 0, a == 0 && b == 0);
            assert_eq!(sum % 255, (a + b) % 255);
        }
    }
}

/// The check values of the CRC catalogue, a byte and several bytes at a time.
#[test]
fn crcs_have_their_check_values() {
    for (op, check) in [(CrcOp::Crc32, 0xcbf4_3926), (CrcOp::Crc32c, 0xe306_9283)] {
        let bytes = b"123456789";
        let crc = bytes.iter().fold(0xffff_ffff, |acc, &x| eval::crc(op, Ty::U8, acc, u64::from(x)));
        assert_eq!(crc ^ 0xffff_ffff, check);
        let eight = u64::from_le_bytes([b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'8']);
        let crc = eval::crc(op, Ty::U8, eval::crc(op, Ty::U64, 0xffff_ffff, eight), u64::from(b'9'));
        assert_eq!(crc ^ 0xffff_ffff, check);
        let four = u64::from(u32::from_le_bytes(*b"1234"));
        let two = |a, b| u64::from(u16::from_le_bytes([a, b]));
        let crc = eval::crc(op, Ty::U32, 0xffff_ffff, four);
        let crc = eval::crc(op, Ty::U16, eval::crc(op, Ty::U16, crc, two(b'5', b'6')), two(b'7', b'8'));
        assert_eq!(eval::crc(op, Ty::U8, crc, u64::from(b'9')) ^ 0xffff_ffff, check);
    }
}
