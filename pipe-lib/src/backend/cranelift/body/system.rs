//! Linear recurrences, one state or several: each lane has what its words make of the states, and a chunk
//! moves all of them on by as many words as it has.
//!
//! ```text
//!     A = 0, but the imported states in the last lane
//!     for each chunk of n words:   A = M^n A + x
//!     states = sum of M^(n-1-i) A[i] over the chunk's words i
//! ```

use super::lanes::StageLowering;
use super::{Carry, System};
use crate::ir::Value;
use crate::plan::stage::{LinearSystem, MAX_SYSTEM};

/// A system before lowering, with what a word adds to each of its states.
pub(super) struct SystemTerm<'a> {
    pub(super) system: &'a LinearSystem,
    pub(super) operands: Vec<Value>,
}

impl StageLowering<'_> {
    pub(super) fn system(&mut self, term: &SystemTerm<'_>) -> Result<(), String> {
        let ty = self.state_types[term.system.states[0]];
        let lane = self.lane(ty);
        let mut of = Vec::new();
        for operand in &term.operands {
            of.extend(self.lower(*operand)?.regs);
        }
        let states = term.system.states.iter().map(|state| self.base + *state as u32).collect();
        let system = System { states, ty, lane, parts: lane / self.word, matrix: term.system.matrix.clone() };
        self.carry(Carry::System { system, of });
        Ok(())
    }
}

impl System {
    /// Registers that pass from chunk to chunk: for each state, its parts.
    pub(crate) const fn registers(&self) -> usize {
        self.states.len() * self.parts as usize
    }

    /// Words of a chunk of so many bytes.
    pub(crate) fn words(&self, chunk: usize) -> usize {
        chunk / usize::from(self.lane) * usize::from(self.parts)
    }

    /// What so many words make of the states, row after row.
    pub(crate) fn power(&self, words: usize) -> Vec<u64> {
        let side = self.states.len();
        let mut power: Vec<u64> = (0..side * side).map(|at| u64::from(at / side == at % side)).collect();
        for _ in 0..words {
            let entry = |at: usize| {
                let products = (0..side)
                    .map(|k| self.matrix[at / side * side + k].wrapping_mul(power[k * side + at % side]));
                products.fold(0, u64::wrapping_add) & self.ty.mask()
            };
            power = (0..side * side).map(entry).collect();
        }
        power
    }

    /// The states after the last chunk, given the registers' bytes; zeros behind them.
    pub(crate) fn finish(&self, partial: &[u8]) -> [u64; MAX_SYSTEM] {
        let (side, lane) = (self.states.len(), usize::from(self.lane));
        let of_state = partial.len() / side;
        let number = |state: usize, word: usize| {
            let at = state * of_state + word * lane;
            let mut bytes = [0; 8];
            bytes[..lane].copy_from_slice(&partial[at..at + lane]);
            u64::from_le_bytes(bytes)
        };
        let mut sums = [0u64; MAX_SYSTEM];
        for word in 0..of_state / lane {
            let before = sums;
            for (state, sum) in sums[..side].iter_mut().enumerate() {
                let row = &self.matrix[state * side..][..side];
                let products = row.iter().zip(before).map(|(factor, of)| factor.wrapping_mul(of));
                *sum = products.fold(number(state, word), u64::wrapping_add) & self.ty.mask();
            }
        }
        sums
    }
}
