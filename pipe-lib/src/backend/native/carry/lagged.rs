//! Running reductions with a lag of `k` words: `k` of them that take turns.
//!
//! Within a vector, each step adds what is `k`, then `2 k`, `4 k` words before, so that the results of all
//! turns are computed at once. From vector to vector, each word takes the last result of its turn. For
//! `k = 3` and eight words a vector:
//!
//! ```text
//!     words                a  b  c  d    e    f    g      h
//!     3 words before       .  .  .  a    b    c    d      e
//!     6 words before       .  .  .  .    .    .    a      b
//!     results              a  b  c  a+d  b+e  c+f  a+d+g  b+e+h
//!     last turns, from     f' g' h' f'   g'   h'   f'     g'      of the vector before
//! ```
//!
//! ```text
//!     for each vector:
//!         for d = k, 2 k, 4 k, ... while d < words:   v = v op (v moved up by d words, neutral values below)
//!         v = v op last[word mod k]                   of the vector before
//!         last = the last k words of v
//! ```

use iced_x86::{Code, Register};

use super::delay::{Last, write_state};
use super::scan::{join, turn, turned};
use super::{Due, LoopCarried, LoopPart, Traits};
use crate::backend::native::abi::{SCRATCH, STATES, round_remainder};
use crate::backend::native::isa::Isa;
use crate::backend::native::lanes::Lane;
use crate::backend::native::lanes::whole::at;
use crate::backend::native::lower::{BodyLowering, Val};
use crate::backend::native::vcode::{Builder, Operand, VReg};
use crate::ir::{Op, StateId, Value};
use crate::plan::stage::Running;

/// The last results, and by what the next ones come of them.
pub(super) struct Lagged {
    /// The states, youngest first, and where each is, from the start of the states.
    states: Vec<(StateId, i32)>,
    running: Running,
    /// What the youngest state is after a word.
    next: Value,
    /// The last results, the youngest in the last lane.
    last: Last,
}

impl Lagged {
    /// Takes a register and imports the states.
    pub(super) fn new(
        b: &mut Builder,
        lane: Lane,
        running: Running,
        states: Vec<(StateId, i32)>,
        next: Value,
    ) -> Lagged {
        let reg = b.pinned_vector();
        // The oldest first, since each is written with zeros above it.
        for (age, (_, offset)) in states.iter().enumerate().rev() {
            b.load_quad_to(Register::RAX, STATES, *offset);
            b.store_quad(Register::RSP, place(b, lane, age), Register::RAX);
        }
        let imported = b.load(at(Register::RSP, SCRATCH));
        b.assign(reg, imported);
        Lagged { states, running, next, last: Last { lane, reg } }
    }

    fn lag_bytes(&self) -> usize {
        self.states.len() * self.last.lane.bytes()
    }

    /// The results after each word, from what the words contribute.
    fn results(&self, b: &mut Builder, words: VReg) -> VReg {
        let lane = self.last.lane;
        let (fold, turned) = turned(self.running.fold, lane);
        let mut running = turn(b, lane, turned, words);
        let mut distance = self.lag_bytes();
        if b.isa == Isa::Avx2 {
            // Within each half one shuffle a step; then the lower half's results, turn by turn, are combined
            // with the upper half.
            while distance < 16 {
                let moved = b.moved_up_in_lanes(running, distance);
                running = join(b, fold, lane, running, moved);
                distance *= 2;
            }
            let lower = b.moved_up(running, 16);
            let turns = b.bytes_of(|i| self.turn(i % 16));
            let lower = b.shuffle_bytes(lower, turns);
            running = join(b, fold, lane, running, lower);
        } else {
            while distance < b.vector_bytes() {
                let moved = b.moved_up(running, distance);
                running = join(b, fold, lane, running, moved);
                distance *= 2;
            }
        }
        let running = turn(b, lane, turned, running);
        let before = self.turns(b);
        let results = join(b, self.running.fold, lane, running, before);
        match self.running.kept {
            Some(kept) => b.and_imm(lane, results, kept),
            None => results,
        }
    }

    /// For each word, the last result of its turn.
    fn turns(&self, b: &mut Builder) -> VReg {
        let last = Operand::Reg(self.last.reg, b.full());
        // The last 128 bits everywhere, then those of each turn.
        let end = match b.isa {
            Isa::Avx512 => {
                b.vector(Code::EVEX_Vshufi64x2_zmm_k1z_zmm_zmmm512b64_imm8, &[last, last, Operand::Imm(0xff)])
            }
            Isa::Avx2 => b.vector(Code::VEX_Vpermq_ymm_ymmm256_imm8, &[last, Operand::Imm(0xee)]),
        };
        let turns = b.bytes_of(|i| self.turn(i));
        b.shuffle_bytes(end, turns)
    }

    /// For a byte so many behind 128 bits of results, where among those the last one of its turn is.
    fn turn(&self, behind: usize) -> u8 {
        let (bytes, lag) = (self.last.lane.bytes(), self.lag_bytes());
        (16 - lag + behind / bytes * bytes % lag + behind % bytes) as u8
    }
}

/// Where the state of that age is in the scratch area when the last results are there.
fn place(b: &Builder, lane: Lane, age: usize) -> i32 {
    SCRATCH + b.vector_bytes() as i32 - ((age + 1) * lane.bytes()) as i32
}

impl LoopCarried for Lagged {
    fn traits(&self) -> Traits {
        Traits { due: Due::Between, ..Traits::ORDERED }
    }

    fn step(&mut self, body: &mut BodyLowering<'_>, part: LoopPart) -> Result<(), String> {
        body.compute(self.running.operand)?;
        let words = body.int(self.running.operand)?[0];
        let results = self.results(body.b, words);
        let plan = body.plan;
        for (age, (state, _)) in self.states.iter().enumerate() {
            let reads = |(value, inst): (Value, crate::ir::Inst)| {
                inst.op == Op::State(*state) && plan.needed[value.0 as usize]
            };
            if plan.pipe.body.iter().any(reads) {
                let before = self.last.before_by(body.b, results, (age + 1) * self.last.lane.bytes());
                body.give_state(*state, Val::Int(vec![before]));
            }
        }
        body.give(self.next, results);
        let last = match part {
            // The results are read on.
            LoopPart::Whole { .. } => body.b.copy_of(results),
            LoopPart::Remainder { round, .. } => {
                round_remainder(body.b, round);
                body.b.shift_in(self.last.reg, results)
            }
        };
        body.b.assign(self.last.reg, last);
        Ok(())
    }

    fn finish(&self, b: &mut Builder) {
        b.store(at(Register::RSP, SCRATCH), self.last.reg);
        for (age, (_, offset)) in self.states.iter().enumerate() {
            write_state(b, self.last.lane, place(b, self.last.lane, age), *offset);
        }
    }

    fn description(&self) -> String {
        format!("the last {} results, in a register", self.states.len())
    }
}
