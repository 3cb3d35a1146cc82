//! What each instruction means on numbers: the one definition that the interpreter runs and constant folding
//! uses.
//!
//! Values are `u64`s masked to their type (`bool` is 0 or 1); so are the results. On 128 bits they are
//! `u128`s.

use super::op::{BinaryOp, CompareOp, ConvertOp, CrcOp, ModOp, Op, UnaryOp, Value, WideBinary, WideUnary};
use super::pipe::Table;
use super::types::Ty;
use crate::wide;

/// What `op`, with a result of type `ty`, makes of the numbers `value` of its operands. `None` for what is
/// given from outside (`in`, states, parameters, `pos`) and for operations on 128 bits.
#[inline]
pub(crate) fn apply(
    op: Op,
    ty: Ty,
    tables: &[Table],
    type_of: impl Fn(Value) -> Ty,
    value: impl Fn(Value) -> u64,
) -> Option<u64> {
    Some(match op {
        Op::In | Op::State(_) | Op::Param(_) | Op::Pos | Op::WideUnary(..) | Op::WideBinary(..) => {
            return None;
        }
        Op::Const(number) => number,
        Op::Unary(op, a) => unary(op, ty, value(a)),
        Op::Binary(op, a, b) => binary(op, ty, value(a), value(b)),
        Op::Compare(op, a, b) => compare(op, type_of(a), value(a), value(b)),
        Op::Select { cond, then, otherwise } => value(if value(cond) & 1 == 1 { then } else { otherwise }),
        Op::Modular(op, a, b, m) => modular(op, ty, value(a), value(b), value(m)),
        Op::Convert(op, a) => convert(op, type_of(a), ty, value(a)),
        Op::Lookup(table, index) => {
            let values = &tables.get(table.0 as usize)?.values;
            *values.get(value(index) as usize & values.len().checked_sub(1)?)?
        }
        Op::Crc(op, acc, x) => crc(op, type_of(x), value(acc), value(x)),
    })
}

/// `op d, a` of or to 128 bits, with a result of type `ty`.
pub fn wide_unary(op: WideUnary, ty: Ty, a: u128) -> u128 {
    wide::unary(op, ty, a)
}

/// `op d, a, b` to 128 bits.
pub fn wide_binary(op: WideBinary, a: u128, b: u128) -> u128 {
    wide::binary(op, a, b)
}

/// The value as a signed number of its type's width.
fn signed(ty: Ty, a: u64) -> i64 {
    let shift = 64 - ty.bits();
    ((a << shift) as i64) >> shift
}

/// `op d, a`, all of type `ty`.
pub fn unary(op: UnaryOp, ty: Ty, a: u64) -> u64 {
    let bits = ty.bits();
    let result = match op {
        UnaryOp::Neg => a.wrapping_neg(),
        UnaryOp::Not => !a,
        UnaryOp::Bswap => a.swap_bytes() >> (64 - 8 * ty.bytes() as u32),
        UnaryOp::Bitrev => a.reverse_bits() >> (64 - bits),
        UnaryOp::Popcnt => u64::from(a.count_ones()),
        UnaryOp::Clz => u64::from(a.leading_zeros() - (64 - bits)),
        UnaryOp::Ctz => u64::from(a.trailing_zeros().min(bits)),
    };
    result & ty.mask()
}

/// `op d, a, b`, all of type `ty`.
pub fn binary(op: BinaryOp, ty: Ty, a: u64, b: u64) -> u64 {
    let bits = ty.bits();
    let count = (b % u64::from(bits)) as u32;
    let result = match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Sub => a.wrapping_sub(b),
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::And => a & b,
        BinaryOp::Or => a | b,
        BinaryOp::Xor => a ^ b,
        BinaryOp::Shl => a << count,
        BinaryOp::Shr => a >> count,
        BinaryOp::Sar => (signed(ty, a) >> count) as u64,
        BinaryOp::Rotl => rotate_left(bits, a, count),
        BinaryOp::Rotr => rotate_left(bits, a, (bits - count) % bits),
        BinaryOp::Min => a.min(b),
        BinaryOp::Max => a.max(b),
        BinaryOp::Smin => signed(ty, a).min(signed(ty, b)) as u64,
        BinaryOp::Smax => signed(ty, a).max(signed(ty, b)) as u64,
        BinaryOp::Addc => {
            let wide = u128::from(a) + u128::from(b);
            (wide as u64).wrapping_add((wide >> bits) as u64)
        }
        BinaryOp::Adds => a.saturating_add(b).min(ty.mask()),
        BinaryOp::Subs => a.saturating_sub(b),
        BinaryOp::Sadds => within(ty, i128::from(signed(ty, a)) + i128::from(signed(ty, b))),
        BinaryOp::Ssubs => within(ty, i128::from(signed(ty, a)) - i128::from(signed(ty, b))),
        BinaryOp::Clmul => clmul(a, b) as u64,
        BinaryOp::Clmulh => (clmul(a, b) >> bits) as u64,
    };
    result & ty.mask()
}

/// The signed number of type `ty` that is nearest to `exact`.
fn within(ty: Ty, exact: i128) -> u64 {
    let most = i128::from(ty.mask() >> 1);
    exact.clamp(-most - 1, most) as u64
}

fn rotate_left(bits: u32, a: u64, count: u32) -> u64 {
    if count == 0 { a } else { (a << count) | (a >> (bits - count)) }
}

/// The carry-less product: polynomials over GF(2).
fn clmul(a: u64, b: u64) -> u128 {
    (0..64).filter(|bit| b >> bit & 1 == 1).fold(0, |acc, bit| acc ^ (u128::from(a) << bit))
}

/// `op d, a, b` with operands of type `ty`; the result is `bool`.
pub fn compare(op: CompareOp, ty: Ty, a: u64, b: u64) -> u64 {
    u64::from(match op {
        CompareOp::Eq => a == b,
        CompareOp::Ne => a != b,
        CompareOp::Ltu => a < b,
        CompareOp::Leu => a <= b,
        CompareOp::Lts => signed(ty, a) < signed(ty, b),
        CompareOp::Les => signed(ty, a) <= signed(ty, b),
    })
}

/// `op d, a, b, m`, all of type `ty`; `m = 0` stands for 2^width.
pub fn modular(op: ModOp, ty: Ty, a: u64, b: u64, m: u64) -> u64 {
    let exact = match op {
        ModOp::Addmod => u128::from(a) + u128::from(b),
        ModOp::Mulmod => u128::from(a) * u128::from(b),
    };
    let modulus = if m == 0 { 1u128 << ty.bits() } else { u128::from(m) };
    (exact % modulus) as u64
}

/// `op d, a` from type `from` to type `to`.
pub fn convert(op: ConvertOp, from: Ty, to: Ty, a: u64) -> u64 {
    let result = match op {
        ConvertOp::Zext | ConvertOp::Trunc => a,
        ConvertOp::Sext => signed(from, a) as u64,
    };
    result & to.mask()
}

/// `op d, acc, x` with `x` of type `ty`: its bytes from least to most significant.
pub fn crc(op: CrcOp, ty: Ty, acc: u64, x: u64) -> u64 {
    let poly = op.reflected_poly();
    let step = |acc: u32, byte: u8| {
        (0..8).fold(acc ^ u32::from(byte), |acc, _| (acc >> 1) ^ (poly & 0u32.wrapping_sub(acc & 1)))
    };
    u64::from(x.to_le_bytes()[..ty.bytes()].iter().fold(acc as u32, |acc, byte| step(acc, *byte)))
}

#[cfg(test)]
mod tests {
    use super::super::op::TableId;
    use super::*;

    /// Operands of which no two may change places, with types that are not the result's where they may
    /// differ: who looks instructions up by `apply` shares it with the oracle.
    #[test]
    fn each_operation_takes_its_operands_in_their_places() {
        let [a, b, c] = [0, 1, 2].map(Value);
        let select = |cond| Op::Select { cond, then: b, otherwise: c };
        let cases = [
            (Op::Const(7), Ty::U8, [Ty::U8; 3], [1, 2, 3], 7),
            (Op::Unary(UnaryOp::Neg, a), Ty::U16, [Ty::U16; 3], [1, 2, 3], 0xffff),
            (Op::Binary(BinaryOp::Sub, a, b), Ty::U8, [Ty::U8; 3], [3, 5, 0], 0xfe),
            (Op::Binary(BinaryOp::Sub, b, a), Ty::U8, [Ty::U8; 3], [3, 5, 0], 2),
            // Signed by the operands' type, in which 0x80 is the least number; in 16 bits it is not.
            (Op::Compare(CompareOp::Lts, a, b), Ty::Bool, [Ty::U8; 3], [0x80, 1, 0], 1),
            (Op::Compare(CompareOp::Lts, a, b), Ty::Bool, [Ty::U16; 3], [0x80, 1, 0], 0),
            (select(a), Ty::U8, [Ty::Bool, Ty::U8, Ty::U8], [1, 5, 9], 5),
            (select(a), Ty::U8, [Ty::Bool, Ty::U8, Ty::U8], [0, 5, 9], 9),
            (Op::Modular(ModOp::Addmod, a, b, c), Ty::U8, [Ty::U8; 3], [200, 100, 7], 300 % 7),
            (Op::Modular(ModOp::Mulmod, c, a, b), Ty::U8, [Ty::U8; 3], [200, 7, 100], 20_000 % 7),
            (Op::Convert(ConvertOp::Sext, a), Ty::U32, [Ty::U8; 3], [0x80, 0, 0], 0xffff_ff80),
            (Op::Convert(ConvertOp::Trunc, a), Ty::U8, [Ty::U32; 3], [0x1234, 0, 0], 0x34),
            // Of the index as many low bits as the table has places.
            (Op::Lookup(TableId(0), b), Ty::U16, [Ty::U8; 3], [0, 6, 0], 30),
            // A word of two bytes, from the state that CRCs of ones begin with: of "12" it is what zlib says.
            (
                Op::Crc(CrcOp::Crc32, a, b),
                Ty::U32,
                [Ty::U32, Ty::U16, Ty::U8],
                [0xffff_ffff, 0x3231, 0],
                !0x4f53_44cd & 0xffff_ffff,
            ),
        ];
        let table = Table { name: "t".into(), ty: Ty::U16, values: [10, 20, 30, 40].into() };
        for (op, ty, types, values, expected) in cases {
            let found = apply(
                op,
                ty,
                std::slice::from_ref(&table),
                |value| types[value.0 as usize],
                |value| values[value.0 as usize],
            );
            assert_eq!(found, Some(expected), "{op:?} of {values:?}");
        }
        for given in [Op::In, Op::Pos] {
            assert_eq!(apply(given, Ty::U8, &[], |_| Ty::U8, |_| 1), None);
        }
    }
}
