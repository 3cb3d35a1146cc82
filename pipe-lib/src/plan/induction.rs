//! Inductions, states that depend only on themselves: what a word makes of one, what so many words do, and
//! what two steps one after the other are.

use crate::analyse::gf2::BitMap;
use crate::analyse::map_of;
use crate::ir::{BinaryOp, Block, ModOp, Op, Pipe, StateId, Ty, UnaryOp, Value};

/// Instructions of the longest body of which a state of one byte is looked at number by number.
const MAX_TABLED_INSTS: usize = 64;

/// What so many words make of a state. A number of steps of one kind is a step of that kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// `factor * s + term`, wrapping.
    Affine {
        /// Of the state.
        factor: u64,
        /// Added to it.
        term: u64,
    },
    /// Rotated, then some bits turned.
    Rotate {
        /// Bits to the left.
        left: u32,
        /// The bits that are turned.
        flip: u64,
    },
    /// `(s + term) mod modulus`.
    Addmod {
        /// Below the modulus.
        term: u64,
        /// Not 0.
        modulus: u64,
    },
    /// Bits that are sums of bits: shift registers with feedback.
    Bits(AffineBits),
    /// Of a byte: entry `s`.
    Table(Vec<u8>),
}

/// An affine map over GF(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AffineBits {
    /// What each bit adds to that.
    pub(crate) map: BitMap,
    /// What zero becomes.
    pub(crate) zero: u64,
}

impl AffineBits {
    /// The map `f`, which is affine, on `bits` bits.
    pub(crate) fn new(bits: u32, f: impl Fn(u64) -> u64) -> AffineBits {
        let zero = f(0);
        AffineBits { map: BitMap { columns: (0..bits).map(|bit| f(1 << bit) ^ zero).collect() }, zero }
    }

    fn identity(&self) -> AffineBits {
        AffineBits { map: BitMap::identity(self.map.columns.len()), zero: 0 }
    }

    pub(crate) fn apply(&self, x: u64) -> u64 {
        self.map.apply(x) ^ self.zero
    }

    /// This map, then another one.
    fn then(&self, next: &AffineBits) -> AffineBits {
        AffineBits { map: next.map.after(&self.map), zero: next.apply(self.zero) }
    }

    /// This map 0, 1, 2, ... times, `count` of them.
    pub(crate) fn powers(&self, count: usize) -> Vec<AffineBits> {
        std::iter::successors(Some(self.identity()), |power| Some(power.then(self))).take(count).collect()
    }

    /// This map so many times.
    pub(crate) fn power(&self, mut times: u64) -> AffineBits {
        let (mut power, mut square) = (self.identity(), self.clone());
        while times > 0 {
            if times & 1 == 1 {
                power = power.then(&square);
            }
            times >>= 1;
            if times > 0 {
                square = square.then(&square);
            }
        }
        power
    }
}

/// Widest states that are taken bit by bit: each bit takes some operations, for as many vectors as a state is
/// wider than a word.
const MAX_BITS: u32 = 32;

impl Step {
    /// One word's step of `state`, if its new value is a function of its old one that has a form here. `eval`
    /// gives the new value for an old one; `constants` are those of the body.
    pub(crate) fn of(
        pipe: &Pipe,
        constants: &[Option<u64>],
        state: StateId,
        eval: impl Fn(u64) -> Option<u64>,
    ) -> Option<Step> {
        let (body, next) = (&pipe.body, pipe.next[state.0 as usize]);
        if let Some(step) = Step::by_shape(pipe, constants, state) {
            return Some(step);
        }
        let ty = body.ty(next);
        if ty.is_integer()
            && ty.bits() <= MAX_BITS
            && let Some(zero) = eval(0)
            && let Some(map) = map_of(pipe, state, next)
        {
            return Some(Step::Bits(AffineBits { map, zero }));
        }
        let tabled = ty == Ty::U8 && body.insts.len() <= MAX_TABLED_INSTS;
        let entries = || (0..256).map(|old| eval(old).map(|new| new as u8)).collect::<Option<Vec<u8>>>();
        tabled.then(entries)?.map(Step::Table)
    }

    /// The same of what it is made of alone.
    pub(crate) fn by_shape(pipe: &Pipe, constants: &[Option<u64>], state: StateId) -> Option<Step> {
        shape(&pipe.body, constants, pipe.next[state.0 as usize], state, 16)
    }

    /// This step, then another one; `None` if together they have no form.
    pub(crate) fn then(&self, next: &Step, ty: Ty) -> Option<Step> {
        let mask = ty.mask();
        Some(match (self, next) {
            (nothing, next) if nothing.is_nothing(ty) => next.clone(),
            (Step::Affine { factor, term }, Step::Affine { factor: by, term: more }) => Step::Affine {
                factor: factor.wrapping_mul(*by) & mask,
                term: term.wrapping_mul(*by).wrapping_add(*more) & mask,
            },
            // All bits turned is -1 - s.
            (Step::Affine { .. }, Step::Rotate { left: 0, flip }) if *flip == mask => {
                return self.then(&Step::Affine { factor: mask, term: mask }, ty);
            }
            (Step::Rotate { left, flip }, Step::Rotate { left: by, flip: other }) => {
                Step::Rotate { left: (left + by) % ty.bits(), flip: rotated(*flip, *by, ty) ^ other }
            }
            (Step::Addmod { term, modulus }, Step::Addmod { term: more, modulus: other })
                if modulus == other =>
            {
                let sum = u128::from(*term) + u128::from(*more);
                Step::Addmod { term: (sum % u128::from(*modulus)) as u64, modulus: *modulus }
            }
            (Step::Bits(first), Step::Bits(second)) => Step::Bits(first.then(second)),
            (Step::Table(first), Step::Table(second)) => {
                Step::Table(first.iter().map(|at| second[usize::from(*at)]).collect())
            }
            _ => return None,
        })
    }

    /// Whether every state, or for [`Step::Addmod`] every one below the modulus, stays as it is.
    pub(crate) fn is_nothing(&self, ty: Ty) -> bool {
        match self {
            Step::Affine { factor, term } => factor & ty.mask() == 1 && *term == 0,
            Step::Rotate { left, flip } => left % ty.bits() == 0 && *flip == 0,
            // One such step reduces what an import may have brought.
            Step::Addmod { .. } => false,
            Step::Bits(bits) => bits.map.is_identity() && bits.zero == 0,
            Step::Table(entries) => entries.iter().enumerate().all(|(at, entry)| at == usize::from(*entry)),
        }
    }

    pub(crate) fn nothing(&self) -> Step {
        match self {
            Step::Affine { .. } => Step::Affine { factor: 1, term: 0 },
            Step::Rotate { .. } => Step::Rotate { left: 0, flip: 0 },
            Step::Addmod { modulus, .. } => Step::Addmod { term: 0, modulus: *modulus },
            Step::Bits(bits) => Step::Bits(bits.identity()),
            Step::Table(_) => Step::Table((0..=255).collect()),
        }
    }

    /// What 0, 1, 2, ... words make of it, `count` of them.
    pub(crate) fn powers(&self, count: usize, ty: Ty) -> Vec<Step> {
        let grown = |before: &Step| Some(before.then(self, ty).unwrap_or_else(|| before.clone()));
        std::iter::successors(Some(self.nothing()), grown).take(count).collect()
    }

    /// What `words` words make of it.
    pub(crate) fn times(&self, mut words: usize, ty: Ty) -> Step {
        let (mut power, mut square) = (self.nothing(), self.clone());
        while words > 0 {
            let both = |first: &Step, second: &Step| first.then(second, ty).unwrap_or_else(|| first.clone());
            if words % 2 == 1 {
                power = both(&power, &square);
            }
            square = both(&square, &square);
            words /= 2;
        }
        power
    }
}

fn rotated(value: u64, left: u32, ty: Ty) -> u64 {
    let left = left % ty.bits();
    if left == 0 { value } else { (value << left | value >> (ty.bits() - left)) & ty.mask() }
}

/// The step to `value`, found by what it is made of.
fn shape(body: &Block, constants: &[Option<u64>], value: Value, state: StateId, depth: u32) -> Option<Step> {
    let inst = body.inst(value);
    let ty = inst.ty;
    let constant = |value: Value| constants[value.0 as usize];
    let before = |value: Value| shape(body, constants, value, state, depth.checked_sub(1)?);
    let affine = |factor: u64, term: u64| Step::Affine { factor: factor & ty.mask(), term: term & ty.mask() };
    let (from, step) = match inst.op {
        Op::State(own) if own == state => return Some(affine(1, 0)),
        Op::Unary(UnaryOp::Not, a) => (a, Step::Rotate { left: 0, flip: ty.mask() }),
        Op::Unary(UnaryOp::Neg, a) => (a, affine(u64::MAX, 0)),
        Op::Modular(ModOp::Addmod, a, other, m) => {
            let modulus = constant(m)?;
            let (from, term) = constant(other).map(|c| (a, c)).or(constant(a).map(|c| (other, c)))?;
            match modulus {
                0 => (from, affine(1, term)),
                _ => (from, Step::Addmod { term: term % modulus, modulus }),
            }
        }
        Op::Binary(op, a, other) => match (constant(a), constant(other)) {
            (None, Some(c)) => {
                let step = match op {
                    BinaryOp::Add => affine(1, c),
                    BinaryOp::Sub => affine(1, c.wrapping_neg()),
                    BinaryOp::Mul => affine(c, 0),
                    BinaryOp::Shl => affine(1 << (c % u64::from(ty.bits())), 0),
                    BinaryOp::Xor => Step::Rotate { left: 0, flip: c },
                    BinaryOp::Rotl => Step::Rotate { left: (c % u64::from(ty.bits())) as u32, flip: 0 },
                    BinaryOp::Rotr => {
                        let bits = u64::from(ty.bits());
                        Step::Rotate { left: ((bits - c % bits) % bits) as u32, flip: 0 }
                    }
                    _ => return None,
                };
                (a, step)
            }
            (Some(c), None) => {
                let step = match op {
                    BinaryOp::Add => affine(1, c),
                    BinaryOp::Sub => affine(u64::MAX, c),
                    BinaryOp::Mul => affine(c, 0),
                    BinaryOp::Xor => Step::Rotate { left: 0, flip: c },
                    _ => return None,
                };
                (other, step)
            }
            _ => return None,
        },
        _ => return None,
    };
    // Sums of conditions are no sums of numbers.
    if ty == Ty::Bool && !matches!(step, Step::Rotate { .. }) {
        return None;
    }
    before(from)?.then(&step, ty)
}
