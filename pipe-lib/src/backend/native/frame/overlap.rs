//! What is left of a stretch, less than a vector, by the last whole vector of the stretch: with 256 bits,
//! whose masks are by the word of 32 bits and whose masked stores take long.
//!
//! ```text
//!     stretch     ........................................
//!     vectors     [      ][      ][      ][      ]
//!     the end                                 [      ]
//!                                             counted before, then new
//! ```
//!
//! Pipes make the same of the bytes that were there before; reductions leave these out. Stretches of more
//! than one vector and up to two are one vector from the start and that, with no loop at all.

use super::{DST, END, FunctionFrame, LEN, LoopPart, REMAINDER, Stores};
use crate::backend::native::abi::Round;
use crate::backend::native::asm;
use crate::backend::native::carry::Masking;
use crate::backend::native::lanes::whole::{at, indexed};
use crate::backend::native::vcode::CodeLabel;
use iced_x86::{Code, Register};

impl FunctionFrame<'_> {
    /// Whether what is left is done so.
    pub(super) fn overlaps(&self) -> bool {
        self.shape.edges.overlaps && self.is_contiguous()
    }

    /// On to `short` with a stretch of more than one vector and no more than two, if it may be done so.
    pub(super) fn enter_short(&mut self, short: CodeLabel) {
        let (vector, rax) = (self.b.vector_bytes() as i32, Register::RAX);
        let long = self.b.new_label();
        self.b.raw(asm::rm(Code::Lea_r64_m, rax, LEN, Register::None, -vector - 1));
        self.b.raw(asm::ri(Code::Cmp_rm64_imm8, rax, vector - 1));
        self.overlap_or(Code::Ja_rel32_64, Code::Jbe_rel32_64, LEN, short, long);
        self.b.bind(long);
    }

    /// The end of a stretch of which [`REMAINDER`] bytes are left, and of those that come to `short`. On to
    /// `masked` if the stretch is shorter than a vector, if what is left ends within a word, or if the last
    /// vector would be read from where it has been written already.
    pub(super) fn overlapping_end(&mut self, short: CodeLabel, masked: CodeLabel) -> Result<(), String> {
        let vector = self.b.vector_bytes() as i32;
        let end = self.b.new_label();
        self.b.raw(asm::ri(Code::Cmp_rm64_imm8, LEN, vector));
        self.overlap_or(Code::Jb_rel32_64, Code::Jae_rel32_64, REMAINDER, end, masked);
        self.b.jump(Code::Jmp_rel32_64, masked);
        self.b.bind(short);
        self.b.raw(asm::rm(Code::Lea_r64_m, REMAINDER, LEN, Register::None, -vector));
        self.vector(0, 1)?;
        self.b.bind(end);
        let counts = self.carried().any(|carried| carried.traits().masked);
        let masking = counts.then(|| {
            let bytes = self.b.vector_bytes();
            let entry = self.b.table([vec![0; bytes], vec![0xff; bytes]].concat());
            self.b.lea_pool(Register::R9, entry);
            let active = self.b.load(indexed(Register::R9, REMAINDER, 1, 0));
            Masking { active, zero_beyond: false }
        });
        let mut chunk = self.b.load(at(END, -vector));
        for index in 0..self.stages.len() {
            let pipe = &self.stages[index].plan.pipe;
            let round = Round::of(pipe.tail, pipe.word_bytes());
            chunk = self.stage(index, chunk, 0, LoopPart::Remainder { masking, round })?;
        }
        if self.shape.stores != Stores::None {
            self.b.store(indexed(END, DST, 1, -vector), chunk);
        }
        Ok(())
    }

    /// Behind a comparison: on to `overlap` if that is what `suits` jumps at (and `fails` does not), if
    /// that many `bytes` are whole words of every stage, and if the source is not changed in place; else on
    /// to `other` or what comes next.
    fn overlap_or(
        &mut self,
        mut fails: Code,
        mut suits: Code,
        bytes: Register,
        overlap: CodeLabel,
        other: CodeLabel,
    ) {
        let gauge = self.stages.iter().map(|stage| stage.plan.pipe.word_bytes()).max().unwrap_or(1);
        let modifies = self.stages.iter().any(|stage| stage.plan.pipe.out.is_some());
        let words = asm::ri(Code::Test_rm32_imm32, bytes.full_register32(), gauge as i32 - 1);
        let apart = asm::rr(Code::Test_rm64_r64, DST, DST);
        for (test, instruction, fails_then, suits_then) in [
            (gauge > 1, words, Code::Jne_rel32_64, Code::Je_rel32_64),
            (modifies && self.shape.stores != Stores::None, apart, Code::Je_rel32_64, Code::Jne_rel32_64),
        ] {
            if test {
                self.b.jump(fails, other);
                self.b.raw(instruction);
                (fails, suits) = (fails_then, suits_then);
            }
        }
        self.b.jump(suits, overlap);
    }
}
