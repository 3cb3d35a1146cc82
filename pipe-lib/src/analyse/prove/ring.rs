//! The proof that an update is affine in the ring of numbers modulo M: `next = (factor * s + next(0, x)) mod M`.
//!
//! M is the modulus of the `addmod` or `mulmod` that gives the new value, or `2^k` where its low `k` bits are kept (by
//! `and`, or by the width of the state). Each value on the way is shown to be *congruent* to `factor * s + c`, where no state
//! takes part in `c`; what wraps at its own width must wrap at a multiple of M or be shown not to wrap at all. The new
//! value is then equal to that, being less than M.

use super::Budget;
use crate::ir::{BinaryOp, Block, ConvertOp, ModOp, Op, StateId, Ty, UnaryOp, Value};

/// `next = (factor * s + next with s = 0) mod modulus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Affine {
    /// 0 stands for 2 to the state's width.
    pub(super) modulus: u64,
    pub(super) factor: u64,
}

/// Whether (and how) `next` is affine in `state`; `most` bounds each value, `free` says of each that no changing state takes
/// part in it.
pub(super) fn affine(
    block: &Block,
    most: &[u64],
    free: &dyn Fn(Value) -> bool,
    state: StateId,
    next: Value,
    budget: &mut Budget,
) -> Option<Affine> {
    let ty = block.ty(next);
    if !ty.is_integer() {
        return None;
    }
    let modulus = modulus(block, next);
    budget.spend(next.0 + 1)?;
    let ring = Ring { block, most, free, state, modulus };
    let mut reached = vec![false; next.0 as usize + 1];
    reached[next.0 as usize] = true;
    for at in (0..=next.0).rev().filter(|at| !free(Value(*at))) {
        if reached[at as usize] {
            block.inst(Value(at)).op.operands().for_each(|operand| reached[operand.0 as usize] = true);
        }
    }
    let mut known: Vec<Option<Term>> = vec![None; next.0 as usize + 1];
    for at in 0..=next.0 {
        if reached[at as usize] {
            budget.spend(8)?;
            known[at as usize] = ring.term(Value(at), &known);
        }
    }
    let term = known.pop().flatten()?;
    let full = 1u128 << ty.bits();
    (u128::from(term.most) < modulus && modulus <= full).then(|| Affine {
        modulus: if modulus == full { 0 } else { modulus as u64 },
        factor: (u128::from(term.factor) % modulus) as u64,
    })
}

/// The number modulo which the new value is kept.
fn modulus(block: &Block, next: Value) -> u128 {
    let literal = |v: Value| match block.inst(v).op {
        Op::Const(c) => Some(c),
        _ => None,
    };
    let mut at = next;
    loop {
        at = match block.inst(at).op {
            Op::Convert(ConvertOp::Zext | ConvertOp::Trunc, a) => a,
            // Both arms have to agree; one of them tells.
            Op::Select { then, otherwise, .. } => match block.inst(then).op {
                Op::State(_) => otherwise,
                _ => then,
            },
            Op::Modular(_, _, _, m) => match literal(m) {
                Some(m) if m != 0 => return u128::from(m),
                _ => break,
            },
            Op::Binary(BinaryOp::And, _, mask) => match literal(mask) {
                Some(mask) if mask & mask.wrapping_add(1) == 0 => return u128::from(mask) + 1,
                _ => break,
            },
            _ => break,
        }
    }
    1 << block.ty(next).bits()
}

/// A value that is congruent to `factor * s` plus something in which `s` takes no part.
#[derive(Clone, Copy, Debug)]
struct Term {
    /// Modulo M; 0 where the state takes no part.
    factor: u64,
    /// The value is no more than this.
    most: u64,
}

struct Ring<'a> {
    block: &'a Block,
    /// What each value is no more than.
    most: &'a [u64],
    free: &'a dyn Fn(Value) -> bool,
    state: StateId,
    modulus: u128,
}

impl Ring<'_> {
    fn literal(&self, value: Value) -> Option<u64> {
        match self.block.inst(value).op {
            Op::Const(c) => Some(c),
            _ => None,
        }
    }

    /// Whether wrapping at the type's width keeps the residue.
    fn wraps(&self, ty: Ty) -> bool {
        (1u128 << ty.bits()).is_multiple_of(self.modulus)
    }

    fn reduced(&self, factor: u128) -> u64 {
        (factor % self.modulus) as u64
    }

    fn term(&self, value: Value, known: &[Option<Term>]) -> Option<Term> {
        let inst = self.block.inst(value);
        let mask = inst.ty.mask();
        if (self.free)(value) {
            return Some(Term { factor: 0, most: self.most[value.0 as usize] });
        }
        let get = |value: Value| known[value.0 as usize];
        // A sum or product that does not wrap, or wraps where it may.
        let fits = |most: u128| {
            (most <= u128::from(mask) || self.wraps(inst.ty)).then(|| most.min(u128::from(mask)) as u64)
        };
        match inst.op {
            Op::State(id) => (id == self.state)
                .then(|| Term { factor: self.reduced(1), most: self.most[value.0 as usize] }),
            Op::Convert(ConvertOp::Zext, a) => get(a),
            Op::Convert(ConvertOp::Trunc, a) => {
                let a = get(a)?;
                Some(Term { most: fits(u128::from(a.most))?, ..a })
            }
            Op::Unary(UnaryOp::Neg | UnaryOp::Not, a) if self.wraps(inst.ty) => {
                let factor = self.reduced(self.modulus - u128::from(get(a)?.factor));
                Some(Term { factor, most: mask })
            }
            Op::Binary(BinaryOp::Add, a, b) => {
                let (a, b) = (get(a)?, get(b)?);
                let most = fits(u128::from(a.most) + u128::from(b.most))?;
                Some(Term { factor: self.reduced(u128::from(a.factor) + u128::from(b.factor)), most })
            }
            Op::Binary(BinaryOp::Sub, a, b) if self.wraps(inst.ty) => {
                let (a, b) = (get(a)?, get(b)?);
                let negated = self.modulus - u128::from(b.factor);
                Some(Term { factor: self.reduced(u128::from(a.factor) + negated), most: mask })
            }
            Op::Binary(op @ (BinaryOp::Mul | BinaryOp::Shl), a, b) => {
                let factor = match op {
                    BinaryOp::Mul => self.literal(b)?,
                    _ => 1 << (self.literal(b)? % u64::from(inst.ty.bits())),
                };
                let a = get(a)?;
                let most = fits(u128::from(a.most) * u128::from(factor))?;
                Some(Term { factor: self.times(a.factor, factor), most })
            }
            Op::Binary(BinaryOp::And, a, b) => {
                let low = self.literal(b)?;
                let kept = u128::from(low) + 1;
                let a = get(a)?;
                let same = kept.is_power_of_two()
                    && (kept.is_multiple_of(self.modulus) || u128::from(a.most) < kept);
                same.then(|| Term { most: a.most.min(low), ..a })
            }
            Op::Modular(op, a, b, m) => {
                let m = match self.literal(m)? {
                    0 => 1u128 << inst.ty.bits(),
                    m => u128::from(m),
                };
                if !m.is_multiple_of(self.modulus) {
                    return None;
                }
                let most = (m - 1) as u64;
                let factor = match op {
                    ModOp::Addmod => {
                        let (a, b) = (get(a)?, get(b)?);
                        self.reduced(u128::from(a.factor) + u128::from(b.factor))
                    }
                    ModOp::Mulmod => self.times(get(a)?.factor, self.literal(b)?),
                };
                Some(Term { factor, most })
            }
            Op::Select { cond, then, otherwise } if (self.free)(cond) => {
                let (a, b) = (get(then)?, get(otherwise)?);
                (a.factor == b.factor).then(|| Term { most: a.most.max(b.most), ..a })
            }
            _ => None,
        }
    }

    fn times(&self, a: u64, b: u64) -> u64 {
        self.reduced(u128::from(a) * (u128::from(b) % self.modulus))
    }
}
