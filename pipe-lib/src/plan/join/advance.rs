//! Fast-forwarding states that do not depend on the stream: `n` words on, in far fewer than `n` steps.
//!
//! Together, the new values of such states are a function of the old ones alone. If that function is affine,
//! over the integers modulo a power of two (counters, linear congruential generators) or over the bits
//! (rotations, shift registers), its `n`th power takes `log n` squarings. Anything else must return to where
//! it was after a few words (counters modulo a number, keys of a few bytes), or be forgotten (copies of the
//! offset).

use super::matrix::AffineNumbers;
use crate::analyse::PipeFacts;
use crate::ir::{BinaryOp, Block, Op, Pipe, Table, Ty, UnaryOp, Value};
use crate::plan::induction::AffineBits;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

/// Most words of the search for a period, and most values that it keeps.
const MAX_SEARCH: usize = 8192;
const MAX_KEPT: usize = 1 << 19;

/// Most bits that are fast-forwarded as bits.
const MAX_BITS: u32 = 64;

/// The positional states of a stage.
#[derive(Clone, Debug)]
pub(super) struct Advance {
    /// Indices in the stage.
    states: Vec<usize>,
    types: Vec<Ty>,
    block: Block,
    tables: Vec<Table>,
    /// New values of `states`, in `block`.
    next: Vec<Value>,
    word: u64,
    form: AdvanceForm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AdvanceForm {
    /// Forgotten after as many words as there are states.
    Forgotten,
    /// Affine over the integers.
    Numbers,
    /// Affine over the bits.
    Bits,
    /// To be seen.
    Unknown,
}

/// The values of positional states before one word after the other, until they come round.
///
/// All parts of a stream start from one such list, so that nothing is stepped through twice.
#[derive(Debug, Default)]
pub(crate) struct Orbit {
    seen: Vec<Rc<[u64]>>,
    places: HashMap<Rc<[u64]>, usize>,
    /// The place that comes after the last one.
    back: Option<usize>,
}

impl Orbit {
    fn push(&mut self, values: Rc<[u64]>) {
        let place = self.seen.len();
        match self.places.entry(values) {
            Entry::Occupied(known) => self.back = Some(*known.get()),
            Entry::Vacant(free) => {
                self.seen.push(Rc::clone(free.key()));
                free.insert(place);
            }
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Words that this thread stepped through.
    pub(crate) static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl Advance {
    /// For the states of these indices, which are positional.
    pub(super) fn new(facts: &PipeFacts, pipe: &Pipe, states: Vec<usize>) -> Result<Advance, &'static str> {
        let next: Vec<Value> = states.iter().map(|state| facts.next[*state]).collect();
        let types: Vec<Ty> = states.iter().map(|state| pipe.states[*state].ty).collect();
        let mut advance = Advance {
            states,
            types,
            block: facts.body.clone(),
            tables: facts.tables.clone(),
            next,
            word: pipe.word_bytes() as u64,
            form: AdvanceForm::Unknown,
        };
        // Numbers are of 64 bits here.
        if advance.depends(|op| matches!(op, Op::WideUnary(..) | Op::WideBinary(..))) {
            return Err("a state goes by values of 128 bits");
        }
        let reads_pos = advance.depends(|op| *op == Op::Pos);
        advance.form = if advance.is_forgotten() {
            AdvanceForm::Forgotten
        } else if reads_pos {
            return Err("a state depends on the offset and on what it was before");
        } else if advance.is_affine(numbers) {
            AdvanceForm::Numbers
        } else if advance.is_affine(bits) && advance.types.iter().map(|ty| ty.bits()).sum::<u32>() <= MAX_BITS
        {
            AdvanceForm::Bits
        } else {
            AdvanceForm::Unknown
        };
        Ok(advance)
    }

    /// Takes all of the stage's `states` from before the first word to before word `n`. `orbit` is what
    /// earlier calls from the same states have visited.
    pub(super) fn run(&self, states: &mut [u64], n: u64, orbit: &mut Orbit) -> Result<(), String> {
        match self.form {
            AdvanceForm::Forgotten => {
                for word in n.saturating_sub(self.states.len() as u64)..n {
                    self.step(states, word * self.word);
                }
            }
            AdvanceForm::Numbers => {
                let images = self.images(states, self.states.len(), |unit, vector| vector[unit] = 1);
                let map = AffineNumbers::new(&images[0], &images[1..]);
                let after = map.power_apply(n, &self.taken(states));
                for ((index, ty), value) in self.states.iter().zip(&self.types).zip(after) {
                    states[*index] = value & ty.mask();
                }
            }
            AdvanceForm::Bits => self.run_bits(states, n),
            AdvanceForm::Unknown => {
                let at = self.follow(states, n, orbit)?;
                for (index, value) in self.states.iter().zip(&*orbit.seen[at]) {
                    states[*index] = *value;
                }
            }
        }
        Ok(())
    }

    /// Where in `orbit` word `n` is, after as many more steps as that takes.
    fn follow(&self, states: &mut [u64], n: u64, orbit: &mut Orbit) -> Result<usize, String> {
        if orbit.seen.is_empty() {
            orbit.push(self.taken(states).into());
        }
        let most = (MAX_KEPT / self.states.len().max(1)).min(MAX_SEARCH);
        while orbit.back.is_none() && orbit.seen.len() as u64 <= n {
            if orbit.seen.len() >= most {
                return Err(format!("a state that does not come round within {most} words"));
            }
            for (index, value) in
                self.states.iter().zip(orbit.seen.last().into_iter().flat_map(|last| &**last))
            {
                states[*index] = *value;
            }
            self.step(states, 0);
            orbit.push(self.taken(states).into());
        }
        let len = orbit.seen.len() as u64;
        Ok(match orbit.back {
            Some(back) if n >= len => back as u64 + (n - len) % (len - back as u64),
            _ => n,
        } as usize)
    }

    /// All states as one number of so many bits.
    fn run_bits(&self, states: &mut [u64], n: u64) {
        let places: Vec<(usize, u32)> = (self.types.iter().enumerate())
            .flat_map(|(state, ty)| (0..ty.bits()).map(move |bit| (state, bit)))
            .collect();
        let packed = |vector: &[u64]| {
            places
                .iter()
                .enumerate()
                .fold(0u64, |sum, (at, (state, bit))| sum | (vector[*state] >> bit & 1) << at)
        };
        let images = self.images(states, places.len(), |unit, vector| {
            let (state, bit) = places[unit];
            vector[state] |= 1 << bit;
        });
        let constant = packed(&images[0]);
        let linear = |bit: usize| packed(&images[bit + 1]) ^ constant;
        let columns: Vec<u64> = (0..places.len()).map(linear).collect();
        let map = AffineBits::new(places.len() as u32, |x| {
            let chosen = columns.iter().enumerate().filter(|(bit, _)| x >> bit & 1 == 1);
            chosen.fold(constant, |sum, (_, column)| sum ^ column)
        });
        let after = map.power(n).apply(packed(&self.taken(states)));
        for index in &self.states {
            states[*index] = 0;
        }
        for (at, (state, bit)) in places.iter().enumerate() {
            states[self.states[*state]] |= (after >> at & 1) << bit;
        }
    }

    fn taken(&self, states: &[u64]) -> Vec<u64> {
        self.states.iter().map(|index| states[*index]).collect()
    }

    /// What one word makes of the origin and of each unit, the other states being as in `states`.
    fn images(&self, states: &[u64], units: usize, set: impl Fn(usize, &mut [u64])) -> Vec<Vec<u64>> {
        (0..=units)
            .map(|image| {
                let mut vector = vec![0; self.states.len()];
                if image > 0 {
                    set(image - 1, &mut vector);
                }
                let mut states = states.to_vec();
                for (index, value) in self.states.iter().zip(vector) {
                    states[*index] = value;
                }
                self.step(&mut states, 0);
                self.taken(&states)
            })
            .collect()
    }

    /// One word at offset `pos`.
    fn step(&self, states: &mut [u64], pos: u64) {
        #[cfg(test)]
        STEPS.set(STEPS.get() + 1);
        let values = self.block.evaluate(&self.tables, |leaf| match leaf {
            Op::State(state) => states[state.0 as usize],
            Op::Pos => pos,
            // The word: nothing that counts here depends on it.
            _ => 0,
        });
        for (index, next) in self.states.iter().zip(&self.next) {
            states[*index] = values[next.0 as usize];
        }
    }

    fn contains(&self, state: crate::ir::StateId) -> bool {
        self.states.contains(&(state.0 as usize))
    }

    /// Whether some new value depends on an instruction that `leaf` holds of.
    fn depends(&self, leaf: impl Fn(&Op) -> bool) -> bool {
        let known = self.dependences(&leaf);
        self.next.iter().any(|next| known[next.0 as usize])
    }

    fn dependences(&self, leaf: &dyn Fn(&Op) -> bool) -> Vec<bool> {
        let mut known: Vec<bool> = Vec::with_capacity(self.block.insts.len());
        for (_, inst) in self.block.iter() {
            known.push(leaf(&inst.op) || inst.op.operands().any(|operand| known[operand.0 as usize]));
        }
        known
    }

    /// Whether no state depends, through others or not, on itself.
    fn is_forgotten(&self) -> bool {
        let mut left: Vec<usize> = (0..self.states.len()).collect();
        // A state that no other one needs goes; if there is none, some depend on one another in a ring.
        while !left.is_empty() {
            let before = left.len();
            let needed = |state: usize| {
                let known = self
                    .dependences(&|op| matches!(op, Op::State(id) if id.0 as usize == self.states[state]));
                left.iter().any(|other| known[self.next[*other].0 as usize])
            };
            let kept: Vec<usize> = left.iter().copied().filter(|state| needed(*state)).collect();
            left = kept;
            if left.len() == before {
                return false;
            }
        }
        true
    }

    /// Whether all new values are affine. `rule` says whether an operation is affine if some of its operands
    /// are affine and not constant.
    fn is_affine(&self, rule: fn(&Op, &dyn Fn(Value) -> bool) -> bool) -> bool {
        // `None` is a value that depends on the states in another way; false is one that does not depend on
        // them.
        let mut known: Vec<Option<bool>> = Vec::with_capacity(self.block.insts.len());
        for (_, inst) in self.block.iter() {
            let varies = |value: Value| known[value.0 as usize] == Some(true);
            let kind = match inst.op {
                Op::State(state) => Some(self.contains(state)),
                op if op.operands().any(|operand| known[operand.0 as usize].is_none()) => None,
                op if !op.operands().any(varies) => Some(false),
                op => rule(&op, &varies).then_some(true),
            };
            known.push(kind);
        }
        self.next.iter().all(|next| known[next.0 as usize].is_some())
    }
}

/// Modulo `2^width`, which truncation keeps.
fn numbers(op: &Op, varies: &dyn Fn(Value) -> bool) -> bool {
    match *op {
        Op::Binary(BinaryOp::Add | BinaryOp::Sub, ..) | Op::Unary(UnaryOp::Neg | UnaryOp::Not, _) => true,
        Op::Binary(BinaryOp::Mul, a, b) => !varies(a) || !varies(b),
        Op::Binary(BinaryOp::Shl, _, count) => !varies(count),
        Op::Convert(crate::ir::ConvertOp::Trunc, _) => true,
        Op::Select { cond, .. } => !varies(cond),
        _ => false,
    }
}

/// Bit by bit.
fn bits(op: &Op, varies: &dyn Fn(Value) -> bool) -> bool {
    use BinaryOp as B;
    match *op {
        Op::Binary(B::Xor, ..) | Op::Convert(..) | Op::Crc(..) => true,
        Op::Unary(UnaryOp::Not | UnaryOp::Bswap | UnaryOp::Bitrev, _) => true,
        Op::Binary(B::And | B::Or, a, b) => !varies(a) || !varies(b),
        Op::Binary(B::Shl | B::Shr | B::Sar | B::Rotl | B::Rotr, _, count) => !varies(count),
        Op::Select { cond, .. } => !varies(cond),
        _ => false,
    }
}
