//! Upper bounds: none is exceeded, and those that proofs need are met.

use super::{classes, facts};
use crate::analyse::bounds::most;
use crate::ir::{
    BinaryOp, Block, CompareOp, ConvertOp, ModOp, Op, StateId, Table, TableId, Ty, UnaryOp, Value, eval,
};

/// Bounds that two states have in turn.
const BOUNDS: [u64; 9] = [0, 1, 2, 3, 0x0f, 0x10, 0x7f, 0x80, 0xff];

/// A block of two states and `op` on them, whose operands are values 0 and 1; `literal` makes the second one
/// that number.
fn block(op: Op, ty: Ty, literal: Option<u64>) -> Block {
    let mut block = Block::default();
    block.push(Op::State(StateId(0)), Ty::U8);
    block.push(literal.map_or(Op::State(StateId(1)), Op::Const), Ty::U8);
    block.push(op, ty);
    block
}

fn bound(block: &Block, states: [u64; 2]) -> u64 {
    most(block, &[], &states)[block.insts.len() - 1]
}

/// The greatest result for numbers up to `a` and up to `b`.
fn greatest(a: u64, b: impl Iterator<Item = u64> + Clone, f: impl Fn(u64, u64) -> u64) -> u64 {
    (0..=a).flat_map(|x| b.clone().map(move |y| (x, y))).map(|(x, y)| f(x, y)).max().unwrap_or(0)
}

/// Operations whose bound is the greatest result, unless a result may wrap.
fn is_exact(op: BinaryOp, wraps: bool) -> bool {
    use BinaryOp as B;
    match op {
        B::Min | B::Max | B::Adds | B::Subs => true,
        B::Add | B::Addc | B::Mul => !wraps,
        _ => false,
    }
}

#[test]
fn of_two_numbers() {
    for &op in BinaryOp::ALL {
        let block = block(Op::Binary(op, Value(0), Value(1)), Ty::U8, None);
        for a in BOUNDS {
            for b in BOUNDS {
                let greatest = greatest(a, 0..=b, |x, y| eval::binary(op, Ty::U8, x, y));
                let bound = bound(&block, [a, b]);
                assert!(greatest <= bound, "{op:?} of {a:#x} and {b:#x}: {greatest:#x} beyond {bound:#x}");
                let wraps = if op == BinaryOp::Mul { a * b > 0xff } else { a + b > 0xff };
                if is_exact(op, wraps) {
                    assert_eq!(bound, greatest, "{op:?} of {a:#x} and {b:#x}");
                }
            }
        }
    }
    // Bits: as many as the longer one has, or the shorter one where both have to be set.
    let of = |op, a, b| bound(&block(Op::Binary(op, Value(0), Value(1)), Ty::U8, None), [a, b]);
    assert_eq!(
        [of(BinaryOp::And, 5, 0x31), of(BinaryOp::Or, 5, 0x31), of(BinaryOp::Xor, 0x10, 3)],
        [5, 0x3f, 0x1f]
    );
    assert_eq!(
        [of(BinaryOp::Or, 0, 0), of(BinaryOp::Shr, 0x55, 7), of(BinaryOp::Shl, 1, 1)],
        [0, 0x55, 0xff]
    );
}

#[test]
fn of_shifts_by_literals() {
    for op in [BinaryOp::Shl, BinaryOp::Shr, BinaryOp::Sar, BinaryOp::Rotl] {
        for count in [0, 1, 4, 7, 8, 9, 15, 16] {
            let block = block(Op::Binary(op, Value(0), Value(1)), Ty::U8, Some(count));
            for a in BOUNDS {
                let greatest = greatest(a, count..=count, |x, y| eval::binary(op, Ty::U8, x, y));
                let bound = bound(&block, [a, 0]);
                assert!(greatest <= bound, "{op:?} of {a:#x} by {count}");
                let keeps_all = a << (count % 8) <= 0xff;
                if op == BinaryOp::Shr || op == BinaryOp::Shl && keeps_all {
                    assert_eq!(bound, greatest, "{op:?} of {a:#x} by {count}");
                }
            }
        }
    }
}

#[test]
fn of_one_number() {
    for &op in UnaryOp::ALL {
        let block = block(Op::Unary(op, Value(0)), Ty::U8, None);
        for a in BOUNDS {
            let greatest = greatest(a, 0..=0, |x, _| eval::unary(op, Ty::U8, x));
            assert!(greatest <= bound(&block, [a, 0]), "{op:?} of {a:#x}");
        }
        if matches!(op, UnaryOp::Popcnt | UnaryOp::Clz | UnaryOp::Ctz) {
            assert_eq!(bound(&block, [0xff, 0]), 8, "{op:?}");
        }
    }
    for ty in [Ty::U8, Ty::U16, Ty::U64] {
        for a in BOUNDS {
            assert_eq!(bound(&block(Op::Convert(ConvertOp::Zext, Value(0)), ty, None), [a, 0]), a);
            let signed = bound(&block(Op::Convert(ConvertOp::Sext, Value(0)), ty, None), [a, 0]);
            assert!(greatest(a, 0..=0, |x, _| eval::convert(ConvertOp::Sext, Ty::U8, ty, x)) <= signed);
        }
    }
    // Cut: as it was where it fits, all there is where it does not.
    for (most_of, expected) in [(0x31, 0x31), (0xff, 0xff), (0x100, 0xff), (0x131, 0xff)] {
        let mut wide = Block::default();
        wide.push(Op::State(StateId(0)), Ty::U16);
        wide.push(Op::Convert(ConvertOp::Trunc, Value(0)), Ty::U8);
        assert_eq!(most(&wide, &[], &[most_of])[1], expected);
    }
    // A state without a bound, and one beyond its type's.
    let unbounded = block(Op::Unary(UnaryOp::Not, Value(0)), Ty::U8, None);
    assert_eq!(most(&unbounded, &[], &[])[..2], [0xff, 0xff]);
    assert_eq!(most(&unbounded, &[], &[0x1ff, 7])[..2], [0xff, 7]);
}

#[test]
fn of_choices_and_moduli_and_tables() {
    let mut choice = block(Op::Compare(CompareOp::Ltu, Value(0), Value(1)), Ty::Bool, None);
    choice.push(Op::Select { cond: Value(2), then: Value(0), otherwise: Value(1) }, Ty::U8);
    assert_eq!([bound(&choice, [3, 9]), bound(&choice, [9, 3])], [9, 9]);

    let modular = |op, m: Option<u64>| {
        let mut block = Block::default();
        block.push(Op::State(StateId(0)), Ty::U8);
        block.push(m.map_or(Op::In, Op::Const), Ty::U8);
        block.push(Op::Modular(op, Value(0), Value(0), Value(1)), Ty::U8);
        bound(&block, [0xff, 0])
    };
    for op in [ModOp::Addmod, ModOp::Mulmod] {
        let found = [Some(1), Some(2), Some(251), Some(0), None].map(|m| modular(op, m));
        assert_eq!(found, [0, 1, 250, 0xff, 0xff], "{op:?}");
    }

    let table = |length: usize| Table {
        name: "t".into(),
        ty: Ty::U8,
        values: (0..length as u64).map(|at| at % 100).collect(),
    };
    let mut look = Block::default();
    look.push(Op::State(StateId(0)), Ty::U16);
    look.push(Op::Lookup(TableId(0), Value(0)), Ty::U8);
    for (length, expected) in [(4, 3), (256, 99), (512, 0xff)] {
        assert_eq!(most(&look, &[table(length)], &[0xffff])[1], expected, "{length} entries");
    }
}

/// Sums modulo a number by other names, and what has to stay as it is since a sum may wrap.
#[test]
fn sums_modulo_a_number_have_one_form() {
    let reduction = ["reduction by addmod 251"];
    for body in [
        // Of a sum that does not wrap.
        "u8 { state a: u16 = 1; in x; zext w, x; addmod a, a, 0, 251; add t, a, w; addmod a, t, 0, 251; export a }",
        "u8 { state a: u16 = 1; in x; zext w, x; addmod a, a, 0, 251; add t, w, a; addmod a, 0, t, 251; export a }",
        // In twice the width, and cut.
        "u8 { state a: u8; in x; zext.u16 w, x; zext.u16 b, a; addmod b, b, w, 251; trunc a, b; export a }",
        "u8 { state a: u8; in x; zext.u64 w, x; zext.u64 b, a; addmod b, b, w, 251; trunc a, b; export a }",
    ] {
        classes(body, &reduction);
    }
    // The literal is in the wide type.
    classes(
        "u8 { state a: u8; in x; zext.u16 b, a; addmod b, b, 200, 251; trunc a, b; export a }",
        &["reduction by addmod 251"],
    );
    // The sum wraps before it is reduced; the modulus does not fit the narrow type; the operand does not.
    for body in [
        "u8 { state a: u8 = 1; in x; add t, a, x; addmod a, t, 0, 251; export a }",
        "u8 { state a: u8; in x; zext.u16 w, x; zext.u16 b, a; addmod b, b, w, 257; trunc a, b; export a }",
        "u16le { state a: u8; in x; zext.u16 b, a; addmod b, b, x, 251; trunc a, b; addmod a, a, 0, 7; export a }",
    ] {
        let (found, _) = facts(body);
        assert!(
            !found.states[0].class.to_string().starts_with("reduction"),
            "{body}: {}",
            found.states[0].class
        );
    }
}
