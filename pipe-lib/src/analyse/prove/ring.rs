//! The proof that an update is affine in the ring of numbers modulo M:
//! `next = (factor * s + next(0, x)) mod M`, for one state or for a few that depend on each other.
//!
//! M is the modulus of the `addmod` or `mulmod` that gives the new value, or `2^k` where its low `k` bits are
//! kept (by `and`, or by the width of the state). Each value on the way is shown to be *congruent* to
//! `factor * s + c`, where `c` reads no state. A value that wraps at its own width must wrap at a multiple of
//! M, or be shown not to wrap at all. The new value then equals that number, being less than M.

use super::Budget;
use crate::analyse::bounds;
use crate::analyse::rewrite::Rewriter;
use crate::ir::{BinaryOp, Block, ConvertOp, ModOp, Op, StateId, Table, Ty, UnaryOp, Value};

/// `next = (factor * s + next with s = 0) mod modulus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Affine {
    /// 0 stands for 2 to the state's width.
    pub(super) modulus: u64,
    pub(super) factor: u64,
}

/// Sums that [`Congruent`] looks at for one state.
pub(super) const MAX_SUMS: u32 = 64;

/// Most states that are classified together.
const MOST: usize = 4;

/// `next[i] = (sum over j of matrix[i][j] * s[j] + next[i] with all states 0) mod modulus`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RingSystem {
    /// 0 stands for 2 to the states' width.
    pub(super) modulus: u64,
    /// Row after row.
    pub(super) matrix: Vec<u64>,
}

/// Whether (and how) the new values of `states` are affine in all of them together, [`MOST`] at most;
/// arguments as for [`affine`].
pub(super) fn system(
    block: &Block,
    most: &[u64],
    invariant: &dyn Fn(Value) -> bool,
    states: &[StateId],
    next: &[Value],
    budget: &mut Budget,
) -> Option<RingSystem> {
    let ty = block.ty(*next.first()?);
    if states.len() > MOST || !ty.is_integer() || next.iter().any(|value| block.ty(*value) != ty) {
        return None;
    }
    // All have to be kept modulo the least.
    let modulus = next.iter().map(|value| modulus(block, *value)).min()?;
    let mut matrix = Vec::with_capacity(states.len() * states.len());
    for value in next {
        let row = row(block, most, invariant, states, modulus, *value, budget)?;
        matrix.extend_from_slice(&row[..states.len()]);
    }
    Some(RingSystem { modulus: if modulus == 1 << ty.bits() { 0 } else { modulus as u64 }, matrix })
}

/// Whether (and how) `next` is affine in `state`. `most` bounds each value; `invariant(v)` holds if `v` reads
/// no changing state.
pub(super) fn affine(
    block: &Block,
    most: &[u64],
    invariant: &dyn Fn(Value) -> bool,
    state: StateId,
    next: Value,
    budget: &mut Budget,
) -> Option<Affine> {
    let ty = block.ty(next);
    if !ty.is_integer() {
        return None;
    }
    let modulus = modulus(block, next);
    let [factor, ..] = row(block, most, invariant, &[state], modulus, next, budget)?;
    Some(Affine { modulus: if modulus == 1 << ty.bits() { 0 } else { modulus as u64 }, factor })
}

/// The factors of `states` in `next`, which is less than `modulus`.
fn row(
    block: &Block,
    most: &[u64],
    invariant: &dyn Fn(Value) -> bool,
    states: &[StateId],
    modulus: u128,
    next: Value,
    budget: &mut Budget,
) -> Option<[u64; MOST]> {
    budget.spend(next.0 + 1)?;
    let ring = Ring { block, most, invariant, states, modulus };
    let mut reached = vec![false; next.0 as usize + 1];
    reached[next.0 as usize] = true;
    for at in (0..=next.0).rev().filter(|at| !invariant(Value(*at))) {
        if reached[at as usize] {
            block.inst(Value(at)).op.operands().for_each(|operand| reached[operand.0 as usize] = true);
        }
    }
    let mut known: Vec<Option<AffineTerm>> = vec![None; next.0 as usize + 1];
    for at in 0..=next.0 {
        if reached[at as usize] {
            budget.spend(8)?;
            known[at as usize] = ring.term(Value(at), &known);
        }
    }
    let term = known.pop().flatten()?;
    (u128::from(term.most) < modulus && modulus <= 1 << block.ty(next).bits()).then_some(term.factors)
}

/// Numbers that are congruent to others, with less to compute.
pub(super) struct Congruent<'a> {
    pub(super) rewriter: &'a mut Rewriter,
    pub(super) tables: &'a [Table],
    /// What each state is no more than.
    pub(super) states: &'a [u64],
    /// What each value so far is no more than.
    pub(super) most: Vec<u64>,
    /// Sums that may still be visited: they may share their parts.
    pub(super) steps: u32,
}

impl Congruent<'_> {
    /// A number congruent to `value` modulo `modulus`, which is not 0: a value that is reduced only to be
    /// added again need not be.
    pub(super) fn to(&mut self, value: Value, modulus: u64) -> Value {
        let inst = self.rewriter.block().inst(value);
        let Op::Modular(ModOp::Addmod, a, b, m) = inst.op else { return value };
        let reduces = self.rewriter.as_const(m).is_some_and(|m| m != 0 && m.is_multiple_of(modulus));
        let Some(steps) = self.steps.checked_sub(1).filter(|_| reduces) else { return value };
        self.steps = steps;
        match (self.rewriter.as_const(a), self.rewriter.as_const(b)) {
            (Some(0), _) => self.to(b, modulus),
            (_, Some(0)) => self.to(a, modulus),
            _ => {
                let (a, b) = (self.to(a, modulus), self.to(b, modulus));
                bounds::extend(&mut self.most, self.rewriter.block(), self.tables, self.states);
                let sum = self.most[a.0 as usize].checked_add(self.most[b.0 as usize]);
                match sum {
                    Some(sum) if sum <= inst.ty.mask() => self.rewriter.binary(BinaryOp::Add, a, b),
                    _ => value,
                }
            }
        }
    }
}

/// The number modulo which the new value is kept.
fn modulus(block: &Block, next: Value) -> u128 {
    let mut at = next;
    loop {
        at = match block.inst(at).op {
            Op::Convert(ConvertOp::Zext | ConvertOp::Trunc, a) => a,
            // Both arms have to agree; one of them tells.
            Op::Select { then, otherwise, .. } => match block.inst(then).op {
                Op::State(_) => otherwise,
                _ => then,
            },
            Op::Modular(_, _, _, m) => match block.literal(m) {
                Some(m) if m != 0 => return u128::from(m),
                _ => break,
            },
            Op::Binary(BinaryOp::And, _, mask) => match block.literal(mask) {
                Some(mask) if mask & mask.wrapping_add(1) == 0 => return u128::from(mask) + 1,
                _ => break,
            },
            _ => break,
        }
    }
    1 << block.ty(next).bits()
}

/// A value that is congruent to the sum of `factors[i] * states[i]` plus something that reads no state.
#[derive(Clone, Copy, Debug)]
struct AffineTerm {
    /// Modulo M; 0 where the state takes no part.
    factors: [u64; MOST],
    /// The value is no more than this.
    most: u64,
}

struct Ring<'a> {
    block: &'a Block,
    /// What each value is no more than.
    most: &'a [u64],
    invariant: &'a dyn Fn(Value) -> bool,
    states: &'a [StateId],
    modulus: u128,
}

impl Ring<'_> {
    /// Whether wrapping at the type's width keeps the residue.
    fn wraps(&self, ty: Ty) -> bool {
        (1u128 << ty.bits()).is_multiple_of(self.modulus)
    }

    fn reduced(&self, factor: u128) -> u64 {
        (factor % self.modulus) as u64
    }

    fn term(&self, value: Value, known: &[Option<AffineTerm>]) -> Option<AffineTerm> {
        let inst = self.block.inst(value);
        let mask = inst.ty.mask();
        if (self.invariant)(value) {
            return Some(AffineTerm { factors: [0; MOST], most: self.most[value.0 as usize] });
        }
        let get = |value: Value| known[value.0 as usize];
        // A sum or product that does not wrap, or wraps where it may.
        let fits = |most: u128| {
            (most <= u128::from(mask) || self.wraps(inst.ty)).then(|| most.min(u128::from(mask)) as u64)
        };
        match inst.op {
            Op::State(id) => {
                let mut factors = [0; MOST];
                let own = self.states.iter().position(|state| *state == id)?;
                factors[own] = self.reduced(1);
                Some(AffineTerm { factors, most: self.most[value.0 as usize] })
            }
            Op::Convert(ConvertOp::Zext, a) => get(a),
            Op::Convert(ConvertOp::Trunc, a) => {
                let a = get(a)?;
                Some(AffineTerm { most: fits(u128::from(a.most))?, ..a })
            }
            Op::Unary(UnaryOp::Neg | UnaryOp::Not, a) if self.wraps(inst.ty) => {
                let factors = get(a)?.factors.map(|factor| self.reduced(self.modulus - u128::from(factor)));
                Some(AffineTerm { factors, most: mask })
            }
            Op::Binary(BinaryOp::Add, a, b) => {
                let (a, b) = (get(a)?, get(b)?);
                let most = fits(u128::from(a.most) + u128::from(b.most))?;
                Some(AffineTerm { factors: self.sum(a, b), most })
            }
            // Numbers beside each other, of which one has fewer bits than a word: a register that whole words
            // are shifted through is a delay, which is better.
            Op::Binary(BinaryOp::Or | BinaryOp::Xor, a, b) if self.apart(a, b) || self.apart(b, a) => {
                let (a, b) = (get(a)?, get(b)?);
                let most = fits(u128::from(a.most) + u128::from(b.most))?;
                Some(AffineTerm { factors: self.sum(a, b), most })
            }
            Op::Binary(BinaryOp::Sub, a, b) if self.wraps(inst.ty) => {
                let (a, b) = (get(a)?, get(b)?);
                let negated = b.factors.map(|factor| self.reduced(self.modulus - u128::from(factor)));
                Some(AffineTerm { factors: self.sum(a, AffineTerm { factors: negated, ..b }), most: mask })
            }
            Op::Binary(op @ (BinaryOp::Mul | BinaryOp::Shl), a, b) => {
                let factor = match op {
                    BinaryOp::Mul => self.block.literal(b)?,
                    _ => 1 << (self.block.literal(b)? % u64::from(inst.ty.bits())),
                };
                let a = get(a)?;
                let most = fits(u128::from(a.most) * u128::from(factor))?;
                Some(AffineTerm { factors: self.times(a, factor), most })
            }
            Op::Binary(BinaryOp::And, a, b) => {
                let low = self.block.literal(b)?;
                let kept = u128::from(low) + 1;
                let a = get(a)?;
                let same = kept.is_power_of_two()
                    && (kept.is_multiple_of(self.modulus) || u128::from(a.most) < kept);
                same.then_some(AffineTerm { factors: a.factors, most: a.most.min(low) })
            }
            Op::Modular(op, a, b, m) => {
                let m = match self.block.literal(m)? {
                    0 => 1u128 << inst.ty.bits(),
                    m => u128::from(m),
                };
                if !m.is_multiple_of(self.modulus) {
                    return None;
                }
                let most = (m - 1) as u64;
                let factors = match op {
                    ModOp::Addmod => self.sum(get(a)?, get(b)?),
                    ModOp::Mulmod => self.times(get(a)?, self.block.literal(b)?),
                };
                Some(AffineTerm { factors, most })
            }
            Op::Select { cond, then, otherwise } if (self.invariant)(cond) => {
                let (a, b) = (get(then)?, get(otherwise)?);
                (a.factors == b.factors)
                    .then_some(AffineTerm { factors: a.factors, most: a.most.max(b.most) })
            }
            _ => None,
        }
    }

    /// Whether `high` has no bit where `low` may have one, of which there are fewer than 8.
    fn apart(&self, high: Value, low: Value) -> bool {
        let Op::Binary(BinaryOp::Shl, _, count) = self.block.inst(high).op else { return false };
        let most = self.most[low.0 as usize];
        self.block.literal(count).is_some_and(|count| count < 8 && most >> count == 0)
    }

    fn sum(&self, a: AffineTerm, b: AffineTerm) -> [u64; MOST] {
        std::array::from_fn(|at| self.reduced(u128::from(a.factors[at]) + u128::from(b.factors[at])))
    }

    fn times(&self, a: AffineTerm, b: u64) -> [u64; MOST] {
        a.factors.map(|factor| self.reduced(u128::from(factor) * (u128::from(b) % self.modulus)))
    }
}
