//! What a value depends on: the word, the offset in the stream, states.

use crate::ir::{Block, Op, Value};

/// What a value depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Deps {
    pub(super) input: bool,
    pub(super) pos: bool,
    /// One bit a state, 64 to a word.
    states: Vec<u64>,
}

impl Deps {
    fn union(&mut self, other: &Deps) {
        self.input |= other.input;
        self.pos |= other.pos;
        if self.states.len() < other.states.len() {
            self.states.resize(other.states.len(), 0);
        }
        self.states.iter_mut().zip(&other.states).for_each(|(a, b)| *a |= b);
    }

    fn set(&mut self, state: usize) {
        if self.states.len() <= state / 64 {
            self.states.resize(state / 64 + 1, 0);
        }
        self.states[state / 64] |= 1 << (state % 64);
    }

    pub(super) fn has(&self, state: usize) -> bool {
        self.states.get(state / 64).is_some_and(|word| word >> (state % 64) & 1 == 1)
    }

    /// Whether no state that changes takes part.
    pub(super) fn stateless(&self) -> bool {
        self.states.iter().all(|word| *word == 0)
    }

    /// The states, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let bits = |(at, word): (usize, &u64)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then_some(left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(64 * at + bit)
            })
        };
        self.states.iter().enumerate().flat_map(bits)
    }
}

/// Dependences of every value; those on states in `ignore` are left out.
pub(super) fn dependences(block: &Block, ignore: &[bool]) -> Vec<Deps> {
    let mut all: Vec<Deps> = Vec::with_capacity(block.insts.len());
    for (_, inst) in block.iter() {
        let mut deps = Deps::default();
        match inst.op {
            Op::In => deps.input = true,
            Op::Pos => deps.pos = true,
            Op::State(state) if !ignore[state.0 as usize] => deps.set(state.0 as usize),
            _ => {}
        }
        for operand in inst.op.operands() {
            deps.union(&all[operand.0 as usize]);
        }
        all.push(deps);
    }
    all
}

/// States whose new value depends, through any number of words, on states alone.
pub(super) fn autonomous_states(next: &[Value], deps: &[Deps]) -> Vec<bool> {
    let mut autonomous: Vec<bool> = next.iter().map(|v| !deps[v.0 as usize].input).collect();
    loop {
        let before = autonomous.clone();
        for (state, value) in next.iter().enumerate() {
            autonomous[state] &= deps[value.0 as usize].iter().all(|other| before[other]);
        }
        if autonomous == before {
            return autonomous;
        }
    }
}

/// For each state that is a function of the last `k` words alone, that `k`; of some it is `known`.
pub(super) fn delays(next: &[Value], deps: &[Deps], known: Vec<Option<u32>>) -> Vec<Option<u32>> {
    let mut delays = known.clone();
    // A chain of k delays is known after k rounds.
    for _ in 0..next.len() {
        let before = delays.clone();
        for (state, value) in next.iter().enumerate() {
            if known[state].is_some() {
                continue;
            }
            let deps = &deps[value.0 as usize];
            delays[state] = deps.iter().try_fold(1, |most, other| Some(most.max(before[other]? + 1)));
        }
        if delays == before {
            break;
        }
    }
    delays
}
