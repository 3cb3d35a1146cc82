//! The class of every state: how its value at one word depends on the words before.
//!
//! The class decides what a loop may do. A *reduction* may be computed as any number of partial results that
//! are combined at the end, so it runs in vector lanes; a *serial* state has to be carried from word to word.

use super::gf2::{BitMap, Crc};
use crate::ir::{BinaryOp, Block, ModOp, Pipe, StateId, Table, Ty, Value};
use std::fmt;

/// An associative and commutative operation with a neutral element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduce {
    /// Wrapping addition.
    Add,
    /// Exclusive or.
    Xor,
    /// Bitwise or.
    Or,
    /// Bitwise and.
    And,
    /// Unsigned minimum.
    Min,
    /// Unsigned maximum.
    Max,
    /// Signed minimum.
    Smin,
    /// Signed maximum.
    Smax,
    /// One's complement addition.
    Addc,
    /// Unsigned addition that stops at the largest number.
    Adds,
    /// Addition modulo a constant, which is not 0.
    Addmod(u64),
}

impl Reduce {
    /// The value that changes nothing, for a state of type `ty`.
    ///
    /// For [`Reduce::Addmod`] this is 0 only for operands that are reduced already.
    pub const fn identity(self, ty: Ty) -> u64 {
        let sign = 1 << (ty.bits() - 1);
        match self {
            Reduce::Add
            | Reduce::Xor
            | Reduce::Or
            | Reduce::Max
            | Reduce::Addc
            | Reduce::Adds
            | Reduce::Addmod(_) => 0,
            Reduce::And | Reduce::Min => ty.mask(),
            Reduce::Smin => sign - 1,
            Reduce::Smax => sign,
        }
    }

    /// The value that any other combined with it gives, for a state of type `ty`.
    pub(super) const fn absorbing(self, ty: Ty) -> Option<u64> {
        let sign = 1 << (ty.bits() - 1);
        match self {
            Reduce::And | Reduce::Min => Some(0),
            Reduce::Or | Reduce::Max | Reduce::Adds => Some(ty.mask()),
            Reduce::Smin => Some(sign),
            Reduce::Smax => Some(sign - 1),
            Reduce::Add | Reduce::Xor | Reduce::Addc | Reduce::Addmod(_) => None,
        }
    }

    /// The binary instruction, except for [`Reduce::Addmod`].
    pub const fn binary(self) -> Option<BinaryOp> {
        Some(match self {
            Reduce::Add => BinaryOp::Add,
            Reduce::Xor => BinaryOp::Xor,
            Reduce::Or => BinaryOp::Or,
            Reduce::And => BinaryOp::And,
            Reduce::Min => BinaryOp::Min,
            Reduce::Max => BinaryOp::Max,
            Reduce::Smin => BinaryOp::Smin,
            Reduce::Smax => BinaryOp::Smax,
            Reduce::Addc => BinaryOp::Addc,
            Reduce::Adds => BinaryOp::Adds,
            Reduce::Addmod(_) => return None,
        })
    }

    pub(super) const fn of(op: BinaryOp) -> Option<Reduce> {
        Some(match op {
            BinaryOp::Add => Reduce::Add,
            BinaryOp::Xor => Reduce::Xor,
            BinaryOp::Or => Reduce::Or,
            BinaryOp::And => Reduce::And,
            BinaryOp::Min => Reduce::Min,
            BinaryOp::Max => Reduce::Max,
            BinaryOp::Smin => Reduce::Smin,
            BinaryOp::Smax => Reduce::Smax,
            BinaryOp::Addc => Reduce::Addc,
            BinaryOp::Adds => Reduce::Adds,
            _ => return None,
        })
    }

    /// `a op b` on values of type `ty`.
    pub fn apply(self, ty: Ty, a: u64, b: u64) -> u64 {
        match (self.binary(), self) {
            (Some(op), _) => crate::ir::eval::binary(op, ty, a, b),
            (None, Reduce::Addmod(m)) => crate::ir::eval::modular(ModOp::Addmod, ty, a, b, m),
            (None, _) => a,
        }
    }
}

impl fmt::Display for Reduce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.binary(), self) {
            (Some(op), _) => f.write_str(op.name()),
            (None, Reduce::Addmod(m)) => write!(f, "addmod {m}"),
            (None, _) => Ok(()),
        }
    }
}

/// How a state's value at one word depends on the words before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// Never changes: the value it was imported with, known before the loop.
    Invariant,
    /// Depends on earlier values of itself and of other positional states, not on the stream.
    Positional,
    /// Partial results may be formed over any parts of the stream and combined in any order.
    Reduction {
        /// By what the words are combined.
        op: Reduce,
        /// What each word contributes, in [`PipeFacts::body`]. It reads no state that changes, other than
        /// delays and positional ones.
        operand: Value,
    },
    /// Combinable when the length of the later part is known.
    Linear(Linear),
    /// A function of the last `words` words alone.
    Delay {
        /// How many words back.
        words: u32,
    },
    /// A reduction that the output (or another state) looks at as it grows.
    Scan {
        /// By what the words are combined.
        op: Reduce,
        /// What each word contributes.
        operand: Value,
    },
    /// One of `k` running reductions that take turns: each result depends on the one `k` words before, where
    /// `k` is the number of states.
    Lagged {
        /// By what a word is combined with the result of its turn.
        op: Reduce,
        /// What each word contributes.
        operand: Value,
        /// All of them, the one with the last result first.
        states: Box<[StateId]>,
    },
    /// Anything else.
    Serial {
        /// What stood in the way of a better class, as a phrase.
        why: String,
    },
}

/// The kinds of linear state that are recognised. What a word contributes reads no state that changes, other
/// than delays.
///
/// In all but [`Linear::SumOfSums`] the new value is a fixed linear map of the old one, plus (in a ring, or
/// by exclusive or) what the word contributes. So the state after `n` words is the map's `n`th power applied
/// to the state before them, plus the state that the same words give from zero: see [`Linear::join`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linear {
    /// A remainder over GF(2), however it is written.
    Crc {
        /// Width, polynomial, order of bits.
        crc: Crc,
        /// The value whose bytes it takes in with each word; free of states.
        operand: Value,
    },
    /// `next = (factor * state + operand) mod modulus`: polynomial hashes, linear congruences.
    Affine {
        /// 0 stands for 2 to the state's width.
        modulus: u64,
        /// Neither 1 (that would be a reduction) nor dependent on the stream.
        factor: u64,
        /// What each word contributes, modulo the modulus; free of states.
        operand: Value,
    },
    /// `next = map(state) xor operand` with a linear map over GF(2) that is no CRC's.
    Bits {
        /// What becomes of the state's bits.
        map: BitMap,
        /// What each word contributes; free of states.
        operand: Value,
    },
    /// `next = state + r` (wrapping, end-around or modulo a constant), where `r` is a reduction by the same
    /// addition: a sum of sums, as in Fletcher's and Adler's checksums.
    SumOfSums {
        /// By what the words are combined.
        op: Reduce,
        /// The state that is summed.
        of: StateId,
        /// Whether the summed state's value includes this word already.
        includes_word: bool,
    },
    /// States that depend on each other:
    /// `next[i] = (sum over j of matrix[i][j] * states[j] + operand) mod modulus`, where `i` is the state
    /// that has this class.
    System {
        /// 0 stands for 2 to the states' width.
        modulus: u64,
        /// All of them, ascending; they have one type.
        states: Box<[StateId]>,
        /// Row after row, as many of each as there are states.
        matrix: Box<[u64]>,
        /// What each word contributes to this state, modulo the modulus; free of states.
        operand: Value,
    },
    /// Two states of 64 bits that are one number in GF(2^128), as GHASH has it:
    /// `next = state * factor xor operand`.
    Field {
        /// The lower and the upper half.
        states: [StateId; 2],
        /// The states that hold the factor, which never change: its lower and its upper half.
        factor: [StateId; 2],
        /// What each word contributes, of 128 bits; free of states.
        operand: Value,
    },
}

impl Linear {
    /// The states of a [`Linear::System`] of width `ty` after `words` words that contribute nothing:
    /// `matrix^words` times `before`.
    pub(crate) fn power_of(modulus: u64, matrix: &[u64], ty: Ty, words: u64, before: &[u64]) -> Vec<u64> {
        let side = before.len();
        let modulus = if modulus == 0 { 1u128 << ty.bits() } else { u128::from(modulus) };
        let times = |row: &[u64], column: &dyn Fn(usize) -> u64| {
            let terms =
                row.iter().enumerate().map(|(at, a)| u128::from(*a) * u128::from(column(at)) % modulus);
            (terms.sum::<u128>() % modulus) as u64
        };
        let mut square = matrix.to_vec();
        let mut vector: Vec<u64> = before.iter().map(|x| (u128::from(*x) % modulus) as u64).collect();
        let mut left = words;
        while left > 0 {
            if left & 1 == 1 {
                vector = square.chunks_exact(side).map(|row| times(row, &|at| vector[at])).collect();
            }
            let entry =
                |at: usize| times(&square[at / side * side..][..side], &|row| square[row * side + at % side]);
            square = (0..side * side).map(entry).collect();
            left >>= 1;
        }
        vector
    }

    /// The words after which nothing is left of the state before them, if there are so many.
    pub(crate) fn vanishes_after(&self, ty: Ty) -> Option<u32> {
        let Linear::Affine { modulus, factor, .. } = self else { return None };
        let modulus = if *modulus == 0 { 1u128 << ty.bits() } else { u128::from(*modulus) };
        let grown = |power: &u128| Some(power * u128::from(*factor) % modulus);
        let powers = std::iter::successors(Some(1 % modulus), grown).take(65);
        powers.zip(0..).find_map(|(power, words)| (power == 0).then_some(words))
    }

    /// The state after two neighbouring parts of a stream. `first` is the state after the first part, from
    /// whatever it started with; `second` is the state after the second part alone, from zero; `words` and
    /// `word_bytes` are the second part's.
    ///
    /// `None` for [`Linear::SumOfSums`], [`Linear::System`] and [`Linear::Field`], which need the other
    /// states as well.
    pub fn join(&self, ty: Ty, first: u64, second: u64, words: u64, word_bytes: u64) -> Option<u64> {
        if words == 0 {
            return Some(first);
        }
        match self {
            Linear::Crc { crc, .. } => Some(crc.advance(first, words.wrapping_mul(word_bytes)) ^ second),
            Linear::Affine { modulus, factor, .. } => {
                let modulus = if *modulus == 0 { 1u128 << ty.bits() } else { u128::from(*modulus) };
                let (mut power, mut square, mut left) = (1 % modulus, u128::from(*factor) % modulus, words);
                while left > 0 {
                    if left & 1 == 1 {
                        power = power * square % modulus;
                    }
                    square = square * square % modulus;
                    left >>= 1;
                }
                let moved = u128::from(first) % modulus * power % modulus;
                Some(((moved + u128::from(second)) % modulus) as u64)
            }
            Linear::Bits { map, .. } => Some(map.power(words).apply(first) ^ second),
            Linear::SumOfSums { .. } | Linear::System { .. } | Linear::Field { .. } => None,
        }
    }
}

impl fmt::Display for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Linear::Crc { crc, .. } => crc.fmt(f),
            Linear::Affine { modulus: 0, factor, .. } => write!(f, "{factor:#x} times the state, plus"),
            Linear::Affine { modulus, factor, .. } => {
                write!(f, "{factor:#x} times the state, plus, modulo {modulus}")
            }
            Linear::Bits { .. } => f.write_str("a map of bits over GF(2)"),
            Linear::SumOfSums { op, .. } => write!(f, "sum of sums by {op}"),
            Linear::Field { .. } => f.write_str("times a number in GF(2^128), plus"),
            Linear::System { modulus, states, .. } => {
                write!(f, "affine together with {} more", states.len() - 1)?;
                if *modulus == 0 { Ok(()) } else { write!(f, ", modulo {modulus}") }
            }
        }
    }
}

impl Class {
    /// The class's name, as in the documentation.
    pub const fn name(&self) -> &'static str {
        match self {
            Class::Invariant => "invariant",
            Class::Positional => "positional",
            Class::Reduction { .. } => "reduction",
            Class::Linear(_) => "linear",
            Class::Delay { .. } => "delay",
            Class::Scan { .. } => "scan",
            Class::Lagged { .. } => "lagged",
            Class::Serial { .. } => "serial",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Class::Reduction { op, .. } | Class::Scan { op, .. } => write!(f, " by {op}"),
            Class::Linear(linear) => write!(f, " ({linear})"),
            Class::Delay { words } => write!(f, " of {words} word{}", if *words == 1 { "" } else { "s" }),
            Class::Lagged { op, states, .. } => {
                write!(f, " scan by {op}, with the result {} words before", states.len())
            }
            Class::Serial { why } => write!(f, ": {why}"),
            Class::Invariant | Class::Positional => Ok(()),
        }
    }
}

/// What is known of one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFacts {
    /// Its class.
    pub class: Class,
    /// Who looks at it before the stream is over, as a phrase: "the output depends on it".
    pub observed: Option<String>,
}

impl StateFacts {
    /// Why it has no better class, as a phrase; `None` where there is none, or the class itself says so.
    pub fn why_not_better(&self) -> Option<String> {
        Some(match &self.class {
            Class::Invariant | Class::Positional | Class::Reduction { .. } | Class::Serial { .. } => {
                return None;
            }
            Class::Scan { .. } => format!("no reduction: {}", self.observed.as_deref()?),
            Class::Lagged { states, .. } => {
                format!("no reduction: {} results take turns", states.len())
            }
            Class::Linear(_) => {
                "no reduction: what a word counts depends on how many come after it".to_owned()
            }
            Class::Delay { words: 1 } => "no reduction: the last word alone counts".to_owned(),
            Class::Delay { words } => format!("no reduction: the last {words} words alone count"),
        })
    }
}

/// What is known of a pipe.
#[derive(Clone, Debug)]
pub struct PipeFacts {
    /// The body in normal form, with the operands of reductions added.
    pub body: Block,
    /// Tables that `body` refers to.
    pub tables: Vec<Table>,
    /// The word written, in `body`; `None` when the stream passes unchanged, because the pipe has no `out` or
    /// provably writes what it read.
    pub out: Option<Value>,
    /// New values of the states, in `body`.
    pub next: Vec<Value>,
    /// One entry a state.
    pub states: Vec<StateFacts>,
    /// Whether the output depends on the offset in the stream (through `pos` or a positional state).
    pub positional: bool,
}

impl PipeFacts {
    /// `pipe`, whose facts these are, in normal form: the same pipe made of `body`, `tables`, `out` and
    /// `next`.
    pub(crate) fn normal(&self, pipe: &Pipe) -> Pipe {
        Pipe {
            name: pipe.name.clone(),
            doc: String::new(),
            body: self.body.clone(),
            tables: self.tables.clone(),
            out: self.out,
            next: self.next.clone(),
            states: pipe.states.clone(),
            params: pipe.params.clone(),
            finish: pipe.finish.clone(),
            exports: pipe.exports.clone(),
            ..*pipe
        }
    }

    /// Whether the stream passes unchanged.
    pub fn nomod(&self) -> bool {
        self.out.is_none()
    }

    /// Whether the words may come in any order: every state is a reduction or invariant, and nothing reads
    /// `pos`.
    pub fn commutative(&self) -> bool {
        !self.positional
            && self
                .states
                .iter()
                .all(|state| matches!(state.class, Class::Invariant | Class::Reduction { .. }))
    }

    /// Whether the states after parts of the stream can be combined for every state, so that a loop may work
    /// on several words at once.
    pub fn parallel(&self) -> bool {
        self.states.iter().all(|state| matches!(state.class, Class::Invariant | Class::Reduction { .. }))
    }
}
