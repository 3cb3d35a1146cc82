//! Counters and sums that stop at a limit: the proof that `next = min(s + x, limit)`, however it is spelled.
//!
//! Over numbers from 0 to the limit, addition that stops there is associative and commutative, with 0 as its neutral
//! element. What a program writes are a minimum, a comparison of the sum with the limit, of the state with the limit (for
//! steps of one), of the step with the room that is left, or the carry out of an addition. Each value on the way is
//! brought into one of the forms of [`Term`]; all numbers that are added are kept in 64 bits, where none wraps.

use super::Budget;
use crate::analyse::bounds;
use crate::analyse::rewrite::Rewriter;
use crate::ir::{BinaryOp, CompareOp, ConvertOp, Op, StateId, Table, Ty, UnaryOp, Value};

/// `next = min(s + operand, limit)` for every `s` that is considered, none of which is beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Saturating {
    pub(super) limit: u64,
    /// Of 64 bits.
    pub(super) operand: Value,
}

/// Most choices on the way into a number that is added.
const WIDEN_DEPTH: u32 = 6;

/// What a value is, seen from a `base`: the state, or a value on the way that is [`Term::Capped`] itself.
#[derive(Clone, Copy, Debug)]
enum Term {
    /// `base + more`, modulo two to the width unless `exact`.
    Sum { base: Value, more: Value, exact: bool },
    /// `min(base + more, limit)`, and `base <= limit`.
    Capped { base: Value, more: Value, limit: u64 },
    /// `limit - base`, and `base <= limit`.
    Room { base: Value, limit: u64 },
    /// `min(more, limit - base)`, and `base <= limit`.
    Step { base: Value, more: Value, limit: u64 },
    /// Of type `bool`.
    Fits(Fits),
    /// Ones where that holds, zeros elsewhere.
    Mask(Fits),
}

/// `base + by <= limit`, and `and`; or that this does not hold.
#[derive(Clone, Copy, Debug)]
struct Fits {
    base: Value,
    by: Value,
    limit: u64,
    and: Option<Value>,
    negated: bool,
}

/// What is looked at.
pub(super) struct Search<'a> {
    pub(super) rewriter: &'a mut Rewriter,
    pub(super) tables: &'a [Table],
    /// What each state is no more than.
    pub(super) states: &'a [u64],
    /// What each value is no more than.
    pub(super) most: Vec<u64>,
    /// Whether no changing state takes part in a value.
    pub(super) free: &'a dyn Fn(Value) -> bool,
}

impl Search<'_> {
    /// The proof for `state`, whose new value is `next`.
    pub(super) fn find(mut self, state: StateId, next: Value, budget: &mut Budget) -> Option<Saturating> {
        if !self.rewriter.block().ty(next).is_integer() {
            return None;
        }
        let len = next.0 as usize + 1;
        budget.spend(len as u32)?;
        let mut reached = vec![false; len];
        reached[len - 1] = true;
        for at in (0..len).rev() {
            let value = Value(at as u32);
            if reached[at] && !(self.free)(value) {
                let operands = self.rewriter.block().inst(value).op.operands();
                operands.for_each(|operand| reached[operand.0 as usize] = true);
            }
        }
        let mut known: Vec<Option<Term>> = vec![None; len];
        let mut own = None;
        for at in (0..len).filter(|at| reached[*at]) {
            let value = Value(at as u32);
            if self.rewriter.block().inst(value).op == Op::State(state) {
                own = Some(value);
            }
            if !(self.free)(value) {
                budget.spend(64)?;
                known[at] = self.term(value, state, &known);
            }
        }
        // One step after the other, up to the same limit or first up to a higher one: all at once.
        let Some(Term::Capped { mut base, more: mut operand, limit }) = known[len - 1] else { return None };
        while Some(base) != own {
            let Some(Term::Capped { base: before, more, limit: higher }) = known[base.0 as usize] else {
                return None;
            };
            if higher < limit {
                return None;
            }
            operand = self.sum(operand, more)?;
            base = before;
        }
        let starts = self.states.get(state.0 as usize)?;
        (limit > 0 && *starts <= limit).then_some(Saturating { limit, operand })
    }

    fn term(&mut self, value: Value, state: StateId, known: &[Option<Term>]) -> Option<Term> {
        let inst = self.rewriter.block().inst(value);
        let get = |value: Value| known.get(value.0 as usize).copied().flatten();
        let mask = inst.ty.mask();
        match inst.op {
            Op::State(id) if id == state => Some(Term::Sum { base: value, more: self.zero(), exact: true }),
            Op::Convert(op, a) => match (op, get(a)?) {
                (ConvertOp::Zext, Term::Sum { base, more, exact: true }) => {
                    Some(Term::Sum { base, more, exact: true })
                }
                (ConvertOp::Zext, capped @ Term::Capped { .. }) => Some(capped),
                (ConvertOp::Trunc, capped @ Term::Capped { limit, .. }) => (limit <= mask).then_some(capped),
                (ConvertOp::Trunc, Term::Sum { base, more, exact }) => {
                    let whole = self.rewriter.block().ty(base).bits() <= inst.ty.bits();
                    let exact = exact && self.limit(base, known).checked_add(self.most(more))? <= mask;
                    (whole && inst.ty.is_integer()).then_some(Term::Sum { base, more, exact })
                }
                (ConvertOp::Zext, Term::Fits(fits)) if inst.ty.is_integer() => {
                    let one = self.one();
                    self.step(fits, one, known)
                }
                (ConvertOp::Sext, Term::Fits(fits)) if inst.ty.is_integer() => Some(Term::Mask(fits)),
                _ => None,
            },
            Op::Unary(UnaryOp::Not, a) => match get(a)? {
                Term::Fits(fits) => Some(Term::Fits(Fits { negated: !fits.negated, ..fits })),
                _ => {
                    let base = self.itself(a, known)?;
                    Some(Term::Room { base, limit: mask })
                }
            },
            Op::Unary(UnaryOp::Neg, a) => match self.rewriter.block().inst(a).op {
                Op::Convert(ConvertOp::Zext, bit) => match get(bit)? {
                    Term::Fits(fits) => Some(Term::Mask(fits)),
                    _ => None,
                },
                _ => None,
            },
            Op::Binary(op, a, b) => self.binary(op, inst.ty, a, b, known).or_else(|| {
                if matches!(op, BinaryOp::Sub) { None } else { self.binary(op, inst.ty, b, a, known) }
            }),
            Op::Compare(op, a, b) => self.compare(op, a, b, known).map(Term::Fits),
            Op::Select { cond, then, otherwise } if (self.free)(cond) => {
                self.either(cond, then, otherwise, known)
            }
            Op::Select { cond, then, otherwise } => {
                let Term::Fits(fits) = get(cond)? else { return None };
                let (yes, no) = if fits.negated { (otherwise, then) } else { (then, otherwise) };
                self.choice(Fits { negated: false, ..fits }, yes, no, known)
            }
            _ => None,
        }
    }

    fn binary(&mut self, op: BinaryOp, ty: Ty, a: Value, b: Value, known: &[Option<Term>]) -> Option<Term> {
        let get = |value: Value| known.get(value.0 as usize).copied().flatten();
        let free = |value: Value| (self.free)(value);
        match op {
            BinaryOp::Add if free(b) => {
                let (base, more, _) = self.seen(a, known)?;
                let b = self.wide(b, WIDEN_DEPTH);
                let more = self.sum(more, b)?;
                let exact = self.is_exact(base, more, ty, known);
                Some(Term::Sum { base, more, exact })
            }
            BinaryOp::Add => {
                let base = self.itself(a, known)?;
                match get(b)? {
                    Term::Step { base: of, more, limit } if of == base && limit <= ty.mask() => {
                        Some(Term::Capped { base, more, limit })
                    }
                    _ => None,
                }
            }
            BinaryOp::Sub => {
                let limit = self.rewriter.as_const(a)?;
                let base = self.itself(b, known)?;
                (self.limit(base, known) <= limit).then_some(Term::Room { base, limit })
            }
            BinaryOp::Min if free(b) => match (get(a)?, self.rewriter.as_const(b)) {
                (Term::Room { base, limit }, _) => {
                    let more = self.wide(b, WIDEN_DEPTH);
                    Some(Term::Step { base, more, limit })
                }
                (Term::Capped { base, more, limit }, Some(c)) => {
                    let limit = limit.min(c);
                    (self.limit(base, known) <= limit).then_some(Term::Capped { base, more, limit })
                }
                (Term::Sum { base, more, exact: true }, Some(limit)) => {
                    (self.limit(base, known) <= limit).then_some(Term::Capped { base, more, limit })
                }
                _ => None,
            },
            BinaryOp::Or if ty.is_integer() => match (get(a)?, get(b)?) {
                (
                    Term::Sum { base, more, .. },
                    Term::Mask(Fits { base: of, by, limit, and: None, negated: true }),
                ) => {
                    let carry = of == base && by == more && limit == ty.mask();
                    carry.then_some(Term::Capped { base, more, limit })
                }
                _ => None,
            },
            BinaryOp::And if ty.is_integer() && free(b) => match get(a)? {
                Term::Mask(fits) => {
                    let b = self.wide(b, WIDEN_DEPTH);
                    self.step(fits, b, known)
                }
                _ => None,
            },
            // Not both is one or the other not.
            BinaryOp::And | BinaryOp::Or if ty == Ty::Bool && free(b) => {
                let Term::Fits(fits) = get(a)? else { return None };
                let more = match (op, fits.negated) {
                    (BinaryOp::And, false) => b,
                    (BinaryOp::Or, true) => self.rewriter.unary(UnaryOp::Not, b),
                    _ => return None,
                };
                let and = match fits.and {
                    Some(and) => self.rewriter.binary(BinaryOp::And, and, more),
                    None => more,
                };
                Some(Term::Fits(Fits { and: Some(and), ..fits }))
            }
            _ => None,
        }
    }

    fn compare(&mut self, op: CompareOp, a: Value, b: Value, known: &[Option<Term>]) -> Option<Fits> {
        let get = |value: Value| known.get(value.0 as usize).copied().flatten();
        let mask = self.rewriter.block().ty(a).mask();
        // What is left.
        match (op, get(a), get(b)) {
            (CompareOp::Ltu, Some(Term::Room { base, limit }), None) if (self.free)(b) => {
                let by = self.wide(b, WIDEN_DEPTH);
                return Some(Fits { base, by, limit, and: None, negated: true });
            }
            (CompareOp::Leu, None, Some(Term::Room { base, limit })) if (self.free)(a) => {
                let by = self.wide(a, WIDEN_DEPTH);
                return Some(Fits { base, by, limit, and: None, negated: false });
            }
            (CompareOp::Ltu, None, Some(Term::Room { base, limit })) if (self.free)(a) => {
                let by = self.wide(a, WIDEN_DEPTH);
                return Some(Fits { base, by, limit: limit.checked_sub(1)?, and: None, negated: false });
            }
            _ => {}
        }
        // A carry: the sum is smaller than what was added.
        let (sum, part, negated) = match op {
            CompareOp::Ltu => (a, b, true),
            CompareOp::Leu => (b, a, false),
            _ => (a, b, false),
        };
        if matches!(op, CompareOp::Ltu | CompareOp::Leu)
            && let Some(Term::Sum { base, more, exact: false }) = get(sum)
            && self.most(more) <= mask
        {
            let by_base = self.itself(part, known) == Some(base);
            if by_base || ((self.free)(part) && self.wide(part, WIDEN_DEPTH) == more) {
                return Some(Fits { base, by: more, limit: mask, and: None, negated });
            }
        }
        // A limit: `base + by <= limit`, or not.
        let (value, op, c) = match (self.rewriter.as_const(a), self.rewriter.as_const(b)) {
            (None, Some(c)) => (a, op, c),
            (Some(c), None) => (b, op, c),
            _ => return None,
        };
        let literal_first = value == b;
        let (base, more, exact) = self.seen(value, known)?;
        let one = self.one();
        let is_base = more == self.zero();
        let (limit, negated) = match (op, literal_first) {
            (CompareOp::Eq | CompareOp::Ne, _) => {
                let is_full = op == CompareOp::Eq;
                if is_base && self.limit(base, known) <= c {
                    return Some(Fits { base, by: one, limit: c, and: None, negated: is_full });
                }
                // One more came to nothing.
                let wraps = more == one && !exact && c == 0 && self.limit(base, known) <= mask;
                return wraps.then_some(Fits { base, by: one, limit: mask, and: None, negated: is_full });
            }
            (CompareOp::Leu, false) => (c, false),
            (CompareOp::Ltu, false) => (c.checked_sub(1)?, false),
            (CompareOp::Ltu, true) => (c, true),
            (CompareOp::Leu, true) => (c.checked_sub(1)?, true),
            _ => return None,
        };
        if is_base {
            // Whether one more fits.
            return (limit < mask).then(|| Fits { base, by: one, limit: limit + 1, and: None, negated });
        }
        exact.then_some(Fits { base, by: more, limit, and: None, negated })
    }

    /// `fits ? yes : no`.
    fn choice(&mut self, fits: Fits, yes: Value, no: Value, known: &[Option<Term>]) -> Option<Term> {
        let Fits { base, by, limit, and, .. } = fits;
        let other = self.rewriter.as_const(no);
        if (self.free)(yes) {
            let more = self.wide(yes, WIDEN_DEPTH);
            if other == Some(0) {
                return self.step(fits, more, known);
            }
            let rest = known.get(no.0 as usize).copied().flatten();
            let is_step =
                matches!(rest, Some(Term::Room { base: of, limit: up }) if of == base && up == limit);
            return (is_step && and.is_none() && more == by).then_some(Term::Step { base, more, limit });
        }
        let (of, more, _) = self.seen(yes, known)?;
        // What fits must not wrap where it is computed.
        if of != base || limit > self.rewriter.block().ty(yes).mask() {
            return None;
        }
        // A sum that does not fit is at least one more than the limit.
        if and.is_none()
            && by == more
            && let Some(stop) = other
            && (stop == limit || limit.checked_add(1) == Some(stop))
            && self.limit(base, known) <= stop
        {
            return Some(Term::Capped { base, more, limit: stop });
        }
        // A step of one, unless the limit is reached.
        let stays = self.itself(no, known) == Some(base) || (and.is_none() && other == Some(limit));
        let Some(Term::Step { more, .. }) = self.step(fits, more, known).filter(|_| stays) else {
            return None;
        };
        Some(Term::Capped { base, more, limit })
    }

    /// `more` where one fits, 0 elsewhere: of numbers up to one, what still fits.
    fn step(&mut self, fits: Fits, more: Value, known: &[Option<Term>]) -> Option<Term> {
        let Fits { base, by, limit, and, negated } = fits;
        let ones = by == self.one() && self.most(more) <= 1 && self.limit(base, known) <= limit;
        if negated || !ones {
            return None;
        }
        let zero = self.zero();
        let more = and.map_or(more, |and| self.pick(and, more, zero));
        Some(Term::Step { base, more, limit })
    }

    /// `cond ? then : otherwise` with a condition that is free of states.
    fn either(&mut self, cond: Value, then: Value, otherwise: Value, known: &[Option<Term>]) -> Option<Term> {
        let get = |value: Value| known.get(value.0 as usize).copied().flatten();
        let zero = self.zero();
        let steps = |term: Option<Term>, value: Value, search: &Self| match term {
            Some(Term::Step { base, more, limit }) => Some((Some((base, limit)), more)),
            None if search.rewriter.as_const(value) == Some(0) => Some((None, zero)),
            _ => None,
        };
        if let (Some((one, a)), Some((two, b))) =
            (steps(get(then), then, self), steps(get(otherwise), otherwise, self))
        {
            let (base, limit) = one.or(two)?;
            let agree = [one, two].into_iter().flatten().all(|both| both == (base, limit));
            let more = self.pick(cond, a, b);
            return agree.then_some(Term::Step { base, more, limit });
        }
        for (this, other) in [(then, otherwise), (otherwise, then)] {
            let Some(Term::Capped { base, more, limit }) = get(this) else { continue };
            let more_of_other = match get(other) {
                Some(Term::Capped { base: of, more, limit: up }) if of == base && up == limit => more,
                _ if self.itself(other, known) == Some(base) && self.limit(base, known) <= limit => zero,
                _ => continue,
            };
            let (a, b) = if this == then { (more, more_of_other) } else { (more_of_other, more) };
            let more = self.pick(cond, a, b);
            return Some(Term::Capped { base, more, limit });
        }
        let ((base, a, exact), (of, b, also)) = (self.seen(then, known)?, self.seen(otherwise, known)?);
        let more = self.pick(cond, a, b);
        (base == of).then_some(Term::Sum { base, more, exact: exact && also })
    }

    /// `value` as `base + more`; whether that is exact.
    fn seen(&mut self, value: Value, known: &[Option<Term>]) -> Option<(Value, Value, bool)> {
        match known.get(value.0 as usize).copied().flatten()? {
            Term::Sum { base, more, exact } => Some((base, more, exact)),
            Term::Capped { .. } => Some((value, self.zero(), true)),
            _ => None,
        }
    }

    /// The base that `value` is itself, or is in a wider type.
    fn itself(&mut self, value: Value, known: &[Option<Term>]) -> Option<Value> {
        let zero = self.zero();
        self.seen(value, known).and_then(|(base, more, exact)| (more == zero && exact).then_some(base))
    }

    /// What a base is no more than.
    fn limit(&mut self, base: Value, known: &[Option<Term>]) -> u64 {
        let most = self.most(base);
        match known.get(base.0 as usize) {
            Some(Some(Term::Capped { limit, .. })) => most.min(*limit),
            _ => most,
        }
    }

    fn is_exact(&mut self, base: Value, more: Value, ty: Ty, known: &[Option<Term>]) -> bool {
        self.limit(base, known).checked_add(self.most(more)).is_some_and(|sum| sum <= ty.mask())
    }

    fn most(&mut self, value: Value) -> u64 {
        bounds::extend(&mut self.most, self.rewriter.block(), self.tables, self.states);
        self.most[value.0 as usize]
    }

    /// The sum of two numbers that are added, if it fits for certain.
    fn sum(&mut self, a: Value, b: Value) -> Option<Value> {
        self.most(a).checked_add(self.most(b))?;
        Some(self.rewriter.binary(BinaryOp::Add, a, b))
    }

    /// `cond ? then : otherwise`; 1 or 0 as the bit that it is.
    fn pick(&mut self, cond: Value, then: Value, otherwise: Value) -> Value {
        let bit = match (self.rewriter.as_const(then), self.rewriter.as_const(otherwise)) {
            (Some(1), Some(0)) => cond,
            (Some(0), Some(1)) => self.rewriter.unary(UnaryOp::Not, cond),
            _ => return self.rewriter.select(cond, then, otherwise),
        };
        self.rewriter.push(Op::Convert(ConvertOp::Zext, bit), Ty::U64)
    }

    fn zero(&mut self) -> Value {
        self.rewriter.constant(0, Ty::U64)
    }

    fn one(&mut self) -> Value {
        self.rewriter.constant(1, Ty::U64)
    }

    /// The number in 64 bits; choices between narrow numbers stay such.
    fn wide(&mut self, value: Value, depth: u32) -> Value {
        let inst = self.rewriter.block().inst(value);
        match inst.op {
            Op::Convert(ConvertOp::Zext, narrow) if self.rewriter.block().ty(narrow).is_integer() => {
                self.wide(narrow, depth)
            }
            Op::Convert(ConvertOp::Zext, bit) => {
                self.rewriter.push(Op::Convert(ConvertOp::Zext, bit), Ty::U64)
            }
            Op::Select { cond, then, otherwise } if depth > 0 => {
                let (then, otherwise) = (self.wide(then, depth - 1), self.wide(otherwise, depth - 1));
                self.pick(cond, then, otherwise)
            }
            _ => self.rewriter.resize(value, Ty::U64),
        }
    }
}
