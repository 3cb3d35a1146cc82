//! Values that depend on the offset in the stream alone and repeat within a register: tables instead of code.

use super::lanes::StageLowering;
use super::lower::Group;
use super::{Phase, VectorOp};
use crate::ir::{Ty, Value};
use crate::plan::stage::{MAX_COMMON_PERIOD, constants_of};

/// Tables of positional values in one pass: each costs a register, and time to compute.
const MAX_PHASES: usize = 8;

impl StageLowering<'_> {
    /// Whether a value's lanes come from a table: it depends on the offset alone and repeats soon.
    pub(super) fn is_tabled(&self, value: Value) -> bool {
        let bits = self.positional[value.0 as usize].map_or(0, |low| low.bits);
        bits > 0 && bits <= MAX_COMMON_PERIOD.trailing_zeros() && self.lane(self.block.ty(value)) == self.word
    }

    /// The lanes of a value that [`StageLowering::is_tabled`].
    pub(super) fn phase(&mut self, value: Value) -> Result<Group, String> {
        let ty = self.block.ty(value);
        let lane = self.lane(ty);
        let bits = self.positional[value.0 as usize].map_or(0, |low| low.bits);
        let period = (1usize << bits).max(usize::from(lane));
        let mut bytes = Vec::with_capacity(period);
        for pos in (0..period as u64).step_by(usize::from(lane)) {
            let number =
                self.at(value, pos).ok_or("a positional value that cannot be computed beforehand")?;
            let number = if ty == Ty::Bool { 0u64.wrapping_sub(number) } else { number };
            bytes.extend_from_slice(&number.to_le_bytes()[..usize::from(lane)]);
        }
        let phases = &mut self.to.body.phases;
        let phase = Phase { bytes };
        let index = match phases.iter().position(|known| *known == phase) {
            Some(index) => index,
            None if phases.len() == MAX_PHASES => {
                return Err(format!("more than {MAX_PHASES} positional values"));
            }
            None => {
                phases.push(phase);
                phases.len() - 1
            }
        };
        let reg = self.to.emit(VectorOp::Phase(index as u32), lane);
        Ok(Group { lane, regs: vec![reg] })
    }

    /// The number that a value has at offset `pos` (a multiple of the word), if it depends on that alone.
    fn at(&mut self, value: Value, pos: u64) -> Option<u64> {
        let index = (pos / u64::from(self.word)) as usize;
        while self.numbers.len() <= index {
            let pos = self.numbers.len() as u64 * u64::from(self.word);
            self.numbers.push(constants_of(self.block, self.tables, Some(pos), None));
        }
        self.numbers[index][value.0 as usize]
    }
}
