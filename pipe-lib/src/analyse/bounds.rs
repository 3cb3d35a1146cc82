//! Upper bounds of values, and the simplifications that they allow.
//!
//! A bound holds for every word, and for every state within the bound that is given for it. Two rules rest on
//! bounds and bring sums modulo `m` to one form:
//!
//! * `(a + b) mod m` is `addmod a, b, m` where `a + b` does not wrap;
//! * a narrow `addmod` or `mulmod` widened and narrowed again is the narrow one where `m` fits the narrow
//!   type.

use super::rewrite::Rewriter;
use crate::ir::{BinaryOp, Block, ConvertOp, ModOp, Op, Pipe, Table, UnaryOp, Value};

/// For each value of `block` a number that it never exceeds, with states no more than `states` says.
pub(crate) fn most(block: &Block, tables: &[Table], states: &[u64]) -> Vec<u64> {
    let mut known = Vec::with_capacity(block.insts.len());
    extend(&mut known, block, tables, states);
    known
}

/// Bounds of the values that are not in `known` yet.
pub(super) fn extend(known: &mut Vec<u64>, block: &Block, tables: &[Table], states: &[u64]) {
    for (value, inst) in block.iter().skip(known.len()) {
        let mask = inst.ty.mask();
        let most = |value: Value| known[value.0 as usize];
        let literal = |value: Value| block.literal(value);
        let sum = |a: u64, b: u64| a.checked_add(b).filter(|sum| *sum <= mask).unwrap_or(mask);
        // All bits up to the highest one.
        let bits = |most: u64| u64::MAX.checked_shr(most.leading_zeros()).unwrap_or(0) & mask;
        let bound = match inst.op {
            Op::Const(c) => c,
            Op::State(state) => states.get(state.0 as usize).copied().unwrap_or(mask).min(mask),
            Op::Convert(ConvertOp::Zext, a) => most(a),
            Op::Convert(ConvertOp::Trunc, a) if most(a) <= mask => most(a),
            Op::Unary(UnaryOp::Popcnt | UnaryOp::Clz | UnaryOp::Ctz, _) => u64::from(inst.ty.bits()),
            Op::Binary(op, a, b) => match op {
                BinaryOp::And | BinaryOp::Min => most(a).min(most(b)),
                BinaryOp::Max => most(a).max(most(b)),
                BinaryOp::Or | BinaryOp::Xor => bits(most(a) | most(b)),
                BinaryOp::Add | BinaryOp::Addc => sum(most(a), most(b)),
                BinaryOp::Adds => most(a).saturating_add(most(b)).min(mask),
                BinaryOp::Subs => most(a),
                BinaryOp::Mul => {
                    most(a).checked_mul(most(b)).filter(|product| *product <= mask).unwrap_or(mask)
                }
                BinaryOp::Shr => match literal(b) {
                    Some(count) => most(a) >> (count % u64::from(inst.ty.bits())),
                    None => most(a),
                },
                BinaryOp::Shl => match literal(b) {
                    Some(count) => {
                        let count = count % u64::from(inst.ty.bits());
                        if most(a) <= mask >> count { most(a) << count } else { mask }
                    }
                    None => mask,
                },
                _ => mask,
            },
            Op::Select { then, otherwise, .. } => most(then).max(most(otherwise)),
            Op::Modular(_, _, _, m) => match literal(m) {
                Some(m) if m != 0 => (m - 1).min(mask),
                _ => mask,
            },
            Op::Lookup(table, _) => match tables.get(table.0 as usize) {
                // Big tables are not looked through for each of their uses.
                Some(table) if table.values.len() <= 256 => {
                    table.values.iter().copied().max().unwrap_or(mask)
                }
                _ => mask,
            },
            _ => mask,
        };
        debug_assert_eq!(known.len(), value.0 as usize);
        known.push(bound.min(mask));
    }
}

/// The pipe's body in normal form, sums modulo `m` by their name; states are no more than `states` says.
pub(super) fn normal_form(pipe: &Pipe, states: &[u64]) -> (Rewriter, Vec<Value>) {
    let mut rewriter = Rewriter::new(&pipe.tables);
    let mut bounds: Vec<u64> = Vec::new();
    let map = rewriter.splice(&pipe.body, 0, |_, _| None);
    // Most bodies have nothing of the kind, and are done.
    let has_moduli = rewriter.block().insts.iter().any(|inst| matches!(inst.op, Op::Modular(..)));
    if !has_moduli {
        return (rewriter, map);
    }
    let (first, tables) = rewriter.finish();
    let mut rewriter = Rewriter::new(&tables);
    let mut renamed: Vec<Value> = Vec::with_capacity(first.insts.len());
    for inst in &first.insts {
        let op = inst.op.map_operands(|v| renamed[v.0 as usize]);
        let mut value = rewriter.push(op, inst.ty);
        // A rule's result may be what the next one looks for.
        loop {
            extend(&mut bounds, rewriter.block(), &tables, states);
            match simpler(&mut rewriter, &bounds, value) {
                Some(better) if better != value => value = better,
                _ => break,
            }
        }
        renamed.push(value);
    }
    (rewriter, map.into_iter().map(|value| renamed[value.0 as usize]).collect())
}

fn simpler(rewriter: &mut Rewriter, bounds: &[u64], value: Value) -> Option<Value> {
    let block = rewriter.block();
    let inst = block.inst(value);
    let most = |value: Value| bounds[value.0 as usize];
    match inst.op {
        Op::Modular(ModOp::Addmod, t, zero, m)
            if block.literal(zero) == Some(0) && block.literal(m)? != 0 =>
        {
            let Op::Binary(BinaryOp::Add, a, b) = block.inst(t).op else { return None };
            let whole = most(a).checked_add(most(b)).is_some_and(|sum| sum <= inst.ty.mask());
            whole.then(|| rewriter.push(Op::Modular(ModOp::Addmod, a, b, m), inst.ty))
        }
        Op::Convert(ConvertOp::Trunc, wide) if inst.ty.is_integer() => {
            let Op::Modular(op, a, b, m) = block.inst(wide).op else { return None };
            let m = block.literal(m).filter(|m| *m != 0 && *m <= inst.ty.mask())?;
            let (a, b) = (rewriter.narrowed(a, inst.ty)?, rewriter.narrowed(b, inst.ty)?);
            let m = rewriter.constant(m, inst.ty);
            Some(rewriter.push(Op::Modular(op, a, b, m), inst.ty))
        }
        _ => None,
    }
}
