//! Counters beside words of 128 bits: a number of 32 or 64 bits at the bottom of each lane of 128.

use iced_x86::{Code, Register};

use super::{Due, LoopCarried, LoopPart, Traits};
use crate::backend::native::abi::{Round, STATES, round_remainder};
use crate::backend::native::asm;
use crate::backend::native::lanes::Lane;
use crate::backend::native::lanes::whole::at;
use crate::backend::native::lower::{BodyLowering, Val};
use crate::backend::native::vcode::{Builder, VReg};
use crate::ir::{Pipe, StateId, Ty};

/// Bytes of a word.
const WORD: usize = 16;

/// The register of one counter.
pub(super) struct Counter {
    /// As wide as the number.
    lane: Lane,
    ty: Ty,
    state: StateId,
    /// What each word adds.
    term: u64,
    /// What it is before each word of a vector.
    first: VReg,
    /// How much of the rest counts.
    round: Round,
    offset: i32,
}

impl Counter {
    /// Takes a register and sets it from the state that is imported.
    pub(super) fn new(b: &mut Builder, pipe: &Pipe, state: usize, term: u64, offset: i32) -> Counter {
        let ty = pipe.states[state].ty;
        let lane = Lane::of_bytes(ty.bytes());
        let round = Round::of(pipe.tail, WORD);
        let first = b.pinned_vector();
        let counter = Counter { lane, ty, state: StateId(state as u32), term, first, round, offset };
        let base = b.load_broadcast(lane, at(STATES, offset));
        let own = counter.in_blocks(b, |_| lane.mask());
        let base = b.and(base, own);
        let steps = counter.in_blocks(b, |word| word.wrapping_mul(term));
        let states = b.add(lane, base, steps);
        b.assign(first, states);
        counter
    }

    /// `f(word)` at the bottom of each lane of 128 bits.
    fn in_blocks(&self, b: &mut Builder, f: impl Fn(u64) -> u64) -> VReg {
        let lanes = (WORD / self.lane.bytes()) as u64;
        b.lanes_of(self.lane, |i| if i % lanes == 0 { f(i / lanes) } else { 0 })
    }
}

impl LoopCarried for Counter {
    fn traits(&self) -> Traits {
        Traits { due: Due::Before, ends_first: true, ..Traits::ORDERED }
    }

    fn step(&mut self, body: &mut BodyLowering<'_>, part: LoopPart) -> Result<(), String> {
        let b = &mut *body.b;
        // Whoever looks at it does so after the register has gone over.
        let before = b.copy_of(self.first);
        if part.is_whole() {
            let words = (b.vector_bytes() / WORD) as u64;
            let step = self.in_blocks(b, |_| self.term.wrapping_mul(words));
            let next = b.add(self.lane, before, step);
            b.assign(self.first, next);
        }
        body.give_state(self.state, Val::Int(vec![before]));
        Ok(())
    }

    fn finish(&self, b: &mut Builder) {
        let (rax, r9) = (Register::RAX, Register::R9);
        round_remainder(b, self.round);
        b.raw(asm::ri(Code::Shr_rm32_imm8, Register::EAX, WORD.trailing_zeros() as i32));
        b.raw(asm::mov_imm(r9, self.term));
        b.raw(asm::rr(Code::Imul_r64_rm64, r9, rax));
        b.quad_to(rax, self.first);
        b.raw(asm::rr(Code::Add_r64_rm64, rax, r9));
        if self.ty == Ty::U32 {
            b.raw(asm::rr(Code::Mov_r32_rm32, Register::EAX, Register::EAX));
        }
        b.store_quad(STATES, self.offset, rax);
    }

    fn description(&self) -> String {
        format!("what it is before each word, {} bits in lanes of 128", self.ty.bits())
    }
}
