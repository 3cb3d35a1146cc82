//! Cutting a stream into parts that run at the same time: what a later part starts from, and how the states
//! after two neighbouring parts are joined.
//!
//! No part waits for the part before. So a later part starts from registers that are known without it. A
//! state that does not depend on the stream is fast-forwarded ([`advance`]); a delay is read off the words
//! before the cut; everything else starts from its neutral value and is joined when both parts are done. Each
//! rule follows from the state's class:
//!
//! | class | the later part starts from | after `a`, then `n` words that gave `b` |
//! |---|---|---|
//! | invariant | the same | the same |
//! | positional | the state `n` words on | `b` |
//! | delay | what the words before the cut leave | `b` |
//! | reduction | the neutral value | `a op b` |
//! | linear | 0 | `L^n a + b`, with `L` a word's effect on the state: see [`Linear::join`] |
//! | sum of sums | 0 | `a + n * (the sum in a) + b` |
//! | affine with others | 0 | `M^n a + b`, with the matrix `M` of all of them |
//!
//! A scan or serial state has to wait, unless its window ends at every cut.

mod advance;
mod matrix;

use crate::analyse::{Class, Linear, PipeFacts, Reduce, analyse};
use crate::ir::{Pipe, StateId, Tail, Ty, Value};
use advance::Advance;
pub(crate) use advance::Orbit;
#[cfg(test)]
pub(crate) use advance::STEPS;

/// How one state passes over a cut.
#[derive(Clone, Debug)]
enum Rule {
    Invariant,
    Positional,
    Delay,
    Reduce { op: Reduce, ty: Ty },
    Linear { map: Linear, ty: Ty, bytes: u64 },
    SumOfSums { op: Reduce, ty: Ty, of: usize },
    System { map: Linear, ty: Ty, place: usize },
}

/// How the states of one stage pass over a cut.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    states: Vec<Rule>,
    advance: Option<Advance>,
    /// Words after which the delays have forgotten what they started from.
    delay_words: u64,
    word: u64,
    tail: Tail,
}

impl Rules {
    /// The rules for a pipe whose parameters are bound, or the reason why some state has to wait for the
    /// words before it.
    pub(crate) fn new(pipe: &Pipe) -> Result<Rules, String> {
        if let Some(kind) = pipe.digest {
            return Err(format!("{} takes its bytes one after the other", kind.title()));
        }
        let facts = analyse(pipe);
        let rule = |(state, known): (usize, &crate::analyse::StateFacts)| {
            let ty = pipe.states[state].ty;
            let refuse = |why: &dyn std::fmt::Display| {
                Err(format!("state `{}` is {}: {why}", pipe.states[state].name, known.class.name()))
            };
            Ok(match &known.class {
                Class::Invariant => Rule::Invariant,
                Class::Positional => Rule::Positional,
                Class::Delay { .. } => Rule::Delay,
                Class::Reduction { op, .. } => Rule::Reduce { op: *op, ty },
                Class::Scan { op, .. } if only_summed(&facts, state) => Rule::Reduce { op: *op, ty },
                Class::Scan { .. } | Class::Lagged { .. } => return refuse(&"it is looked at as it grows"),
                Class::Linear(Linear::SumOfSums { op, of, .. }) => {
                    Rule::SumOfSums { op: *op, ty, of: of.0 as usize }
                }
                Class::Linear(map @ Linear::System { states, .. }) => {
                    let place = states.iter().position(|member| member.0 as usize == state).unwrap_or(0);
                    Rule::System { map: map.clone(), ty, place }
                }
                Class::Linear(Linear::Field { .. }) => {
                    return refuse(&"its parts are not brought together yet");
                }
                Class::Linear(map) => {
                    let bytes = match map {
                        Linear::Crc { operand, .. } => facts.body.ty(*operand).bytes(),
                        _ => pipe.word_bytes(),
                    };
                    Rule::Linear { map: map.clone(), ty, bytes: bytes as u64 }
                }
                Class::Serial { why } => return refuse(why),
            })
        };
        let mut states = facts.states.iter().enumerate().map(rule).collect::<Result<Vec<Rule>, String>>()?;
        let positional = positional(&facts);
        positional.iter().for_each(|state| states[*state] = Rule::Positional);
        let delay = |known: &crate::analyse::StateFacts| match known.class {
            Class::Delay { words } => u64::from(words),
            _ => 0,
        };
        let advance = match &positional[..] {
            [] => None,
            _ => Some(Advance::new(&facts, pipe, positional).map_err(str::to_owned)?),
        };
        Ok(Rules {
            advance,
            delay_words: facts.states.iter().map(delay).max().unwrap_or(0),
            word: pipe.word_bytes() as u64,
            tail: pipe.tail,
            states,
        })
    }

    /// Bytes after which the delays have forgotten what they started from.
    pub(crate) const fn delay_bytes(&self) -> u64 {
        self.delay_words * self.word
    }

    /// Turns `states`, as they are before the first word, into those that a part starts from whose first byte
    /// is at offset `at`; delays are left alone. Refuses, with the reason, if that would take as long as
    /// running there. `orbit` is for one stage that always starts from these `states`.
    pub(crate) fn start(&self, states: &mut [u64], at: u64, orbit: &mut Orbit) -> Result<(), String> {
        if let Some(advance) = &self.advance {
            advance.run(states, at / self.word, orbit)?;
        }
        for (state, rule) in states.iter_mut().zip(&self.states) {
            match rule {
                Rule::Invariant | Rule::Positional | Rule::Delay => {}
                Rule::Reduce { op, ty } => *state = op.identity(*ty),
                Rule::Linear { .. } | Rule::SumOfSums { .. } | Rule::System { .. } => *state = 0,
            }
        }
        Ok(())
    }

    /// Copies the delays among `from` to `states`.
    pub(crate) fn take_delays(&self, states: &mut [u64], from: &[u64]) {
        for ((state, from), rule) in states.iter_mut().zip(from).zip(&self.states) {
            if matches!(rule, Rule::Delay) {
                *state = *from;
            }
        }
    }

    /// Turns `part`, the states that the part of `bytes` bytes gave, into the states after it, when `before`
    /// are those after all parts before it. Every part but the last consists of whole words, and of at least
    /// one.
    pub(crate) fn join(&self, before: &[u64], part: &mut [u64], bytes: u64) {
        let padded = !bytes.is_multiple_of(self.word) && matches!(self.tail, Tail::Zero | Tail::Partial);
        let words = bytes / self.word + u64::from(padded);
        for ((a, b), rule) in before.iter().copied().zip(part).zip(&self.states) {
            *b = match rule {
                Rule::Invariant | Rule::Positional | Rule::Delay => *b,
                Rule::Reduce { op, ty } => op.apply(*ty, a, *b),
                Rule::Linear { map, ty, bytes } => map.join(*ty, a, *b, words, *bytes).unwrap_or(*b),
                Rule::System { map: Linear::System { modulus, states, matrix, .. }, ty, place }
                    if words > 0 =>
                {
                    let all: Vec<u64> = states.iter().map(|member| before[member.0 as usize]).collect();
                    let moved = Linear::power_of(*modulus, matrix, *ty, words, &all)[*place];
                    let modulus = if *modulus == 0 { 1 << ty.bits() } else { u128::from(*modulus) };
                    ((u128::from(moved) + u128::from(*b)) % modulus) as u64
                }
                Rule::System { .. } => a,
                Rule::SumOfSums { op: Reduce::Addmod(m), of, .. } => {
                    let m = u128::from(*m);
                    let grown = u128::from(words) % m * (u128::from(before[*of]) % m) % m;
                    ((u128::from(a) + grown + u128::from(*b)) % m) as u64
                }
                Rule::SumOfSums { op: Reduce::Addc, ty, of } => {
                    let grown = u128::from(words) * u128::from(before[*of]);
                    residue(*ty, u128::from(a) + grown + u128::from(*b))
                }
                Rule::SumOfSums { ty, of, .. } => {
                    a.wrapping_add(words.wrapping_mul(before[*of])).wrapping_add(*b) & ty.mask()
                }
            };
        }
    }
}

/// The states that are forwarded together: the positional ones and those that they depend on, which do not
/// depend on the stream either, whatever other class they have.
fn positional(facts: &PipeFacts) -> Vec<usize> {
    let changes = |state: &usize| !matches!(facts.states[*state].class, Class::Invariant);
    let mut found: Vec<usize> = (0..facts.states.len())
        .filter(|state| matches!(facts.states[*state].class, Class::Positional))
        .collect();
    let mut next = 0;
    while let Some(&state) = found.get(next) {
        let goes_by = |other: &usize| facts.body.depends_on(facts.next[state], StateId(*other as u32));
        let more: Vec<usize> = (0..facts.states.len())
            .filter(|other| !found.contains(other) && changes(other) && goes_by(other))
            .collect();
        found.extend(more);
        next += 1;
    }
    found.sort_unstable();
    found
}

/// Whether nothing looks at `state` but sums of it.
fn only_summed(facts: &PipeFacts, state: usize) -> bool {
    let looks = |value: Value| facts.body.depends_on(value, StateId(state as u32));
    !facts.out.is_some_and(looks)
        && facts.states.iter().enumerate().filter(|(other, _)| *other != state).all(|(other, known)| {
            let sums =
                matches!(known.class, Class::Linear(Linear::SumOfSums { of, .. }) if of.0 as usize == state);
            sums || !looks(facts.next[other])
        })
}

#[cfg(test)]
mod tests;

/// Residue modulo `2^width - 1` in one's complement form: zero only for zero.
pub(crate) fn residue(ty: Ty, total: u128) -> u64 {
    // Modulo 2^64 - 1 first, a multiple of all the others; then no number is of two words.
    let (sum, carry) = (total as u64).overflowing_add((total >> 64) as u64);
    let mut total = sum + u64::from(carry);
    while total & !ty.mask() != 0 {
        total = (total & ty.mask()) + (total >> ty.bits());
    }
    total
}
