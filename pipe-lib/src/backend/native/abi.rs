//! What a generated function keeps where, and how much of the bytes at its end counts.
//!
//! `fn(states: rdi, pos: rsi, src: rdx, dst: rcx, len: r8)`; rax and r9 are scratch, below the stack pointer
//! is the red zone.

use iced_x86::{Code, Register};

use super::asm;
use super::vcode::Builder;
use crate::ir::Tail;

/// The block of states, eight bytes each.
pub(super) const STATES: Register = Register::RDI;
/// The offset in the stream of what [`SRC`] points to.
pub(super) const POS: Register = Register::RSI;
pub(super) const SRC: Register = Register::RDX;
/// The destination; in the loops what is to be added to [`SRC`] to get there.
pub(super) const DST: Register = Register::RCX;
pub(super) const LEN: Register = Register::R8;
/// Where the last iteration of the unrolled loop may begin.
pub(super) const LIMIT: Register = Register::R9;
/// The end of the source.
pub(super) const END: Register = Register::R10;
/// The bytes that are left behind the last whole vector.
pub(super) const REMAINDER: Register = Register::R11;

/// Start of the scratch area below the stack pointer, in bytes.
pub(super) const SCRATCH: i32 = -128;

/// How many of the remainder's bytes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// Whole words of that many bytes.
    Down(usize),
    /// Started words.
    Up(usize),
}

impl Round {
    /// What a stage of such words does with one that has only begun.
    pub(super) const fn of(tail: Tail, word: usize) -> Round {
        match tail {
            Tail::Zero | Tail::Partial => Round::Up(word),
            Tail::Pass | Tail::Reject => Round::Down(word),
        }
    }
}

/// rax: how many bytes of the remainder count.
pub(super) fn round_remainder(b: &mut Builder, round: Round) {
    let eax = Register::EAX;
    b.raw(asm::rr(Code::Mov_r32_rm32, eax, REMAINDER.full_register32()));
    let (word, up) = match round {
        Round::Down(word) => (word, false),
        Round::Up(word) => (word, true),
    };
    if word > 1 {
        if up {
            b.raw(asm::ri(Code::Add_rm32_imm8, eax, word as i32 - 1));
        }
        b.raw(asm::ri(Code::And_rm32_imm8, eax, -(word as i32)));
    }
}
