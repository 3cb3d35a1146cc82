//! The loops over whole vectors.

use iced_x86::{Code, Register};

use super::{DST, END, FunctionFrame, LEN, LIMIT, POS, REMAINDER, SRC, Stores};
use crate::backend::native::asm;
use crate::backend::native::carry::crc_beside::{Beside, Memory};
use crate::backend::native::vcode::{CodeItem, CodeLabel, Mem, Operand};

/// Fewest bytes of a stretch whose destination is aligned: below, aligning costs more than it saves.
const ALIGNED_FROM: i32 = 2048;

impl FunctionFrame<'_> {
    /// All whole vectors; then, or if there is none, on to `remainder`, which is bound next. With `short`, a
    /// stretch of no more than one vector goes there at once, with its bytes in [`REMAINDER`].
    pub(super) fn iterations(
        &mut self,
        remainder: CodeLabel,
        short: Option<CodeLabel>,
    ) -> Result<(), String> {
        if !self.enters_within() {
            return self.iterations_then_singles(remainder);
        }
        let vector = self.b.vector_bytes() as i32;
        let len = self.length();
        if let Some(short) = short {
            // A stretch of no more than one vector is done under a mask, even a whole one or none: the other
            // copies need not be cleared and merged for nothing.
            self.b.raw(asm::rr(Code::Mov_r64_rm64, REMAINDER, len));
            self.b.raw(asm::ri(Code::Cmp_rm64_imm8, len, vector));
            self.b.jump(Code::Jbe_rel32_64, short);
        } else {
            self.b.raw(asm::ri(Code::Cmp_rm64_imm8, len, vector));
            self.b.jump(Code::Jb_rel32_64, remainder);
        }
        self.align()?;
        self.iterations_from_within()
    }

    /// Whether the unrolled loop is entered at the copy from which whole iterations are left.
    pub(super) fn enters_within(&self) -> bool {
        self.shape.edges.enters_within(self.shape.unroll, self.beside().is_some())
    }

    /// How the copies of an iteration share a CRC, if the plan has one that is shared and this function reads
    /// where its bytes lie when a few vectors more have gone by.
    pub(super) fn beside(&self) -> Option<Beside> {
        let shared = self.shape.shared?;
        let (memory, is_there) = match shared.reads_back {
            false => (Memory::Source, self.shape.source.is_none()),
            true => (Memory::Destination, self.shape.stores == Stores::Plain),
        };
        let group = shared.group(self.shape.unroll).filter(|_| is_there)?;
        Some(Beside { memory, group })
    }

    /// Whether the destination of long stretches is aligned to a vector.
    pub(super) fn aligns(&self) -> bool {
        self.shape.edges.aligns && self.shape.stores == Stores::Plain && self.is_contiguous()
    }

    /// Whether neither source nor destination have holes.
    pub(super) fn is_contiguous(&self) -> bool {
        self.shape.source.is_none() && !matches!(self.shape.stores, Stores::Striped(_))
    }

    /// A store across two cache lines takes twice as long. So of a long stretch the first bytes are done
    /// under a mask, up to a whole vector of the destination, if a word begins there.
    fn align(&mut self) -> Result<(), String> {
        if !self.aligns() {
            return Ok(());
        }
        let (eax, remainder) = (Register::EAX, REMAINDER.full_register32());
        let gauge = self.stages.iter().map(|stage| stage.plan.pipe.word_bytes()).max().unwrap_or(1);
        let aligned = self.b.new_label();
        self.b.raw(asm::ri(Code::Cmp_rm64_imm32, LEN, ALIGNED_FROM));
        self.b.jump(Code::Jb_rel32_64, aligned);
        self.b.raw(asm::rm(Code::Lea_r32_m, eax, SRC, DST, 0));
        self.b.raw(asm::r(Code::Neg_rm32, eax));
        self.b.raw(asm::ri(Code::And_rm32_imm8, eax, self.b.vector_bytes() as i32 - 1));
        self.b.jump(Code::Je_rel32_64, aligned);
        if gauge > 1 {
            self.b.raw(asm::ri(Code::Test_rm32_imm32, eax, gauge as i32 - 1));
            self.b.jump(Code::Jne_rel32_64, aligned);
        }
        self.b.raw(asm::rr(Code::Mov_r32_rm32, remainder, eax));
        self.remainder()?;
        self.b.raw(asm::rr(Code::Add_r64_rm64, SRC, REMAINDER));
        self.b.raw(asm::rr(Code::Sub_r64_rm64, LEN, REMAINDER));
        if self.reads_pos {
            self.b.raw(asm::rr(Code::Add_r64_rm64, POS, REMAINDER));
        }
        self.b.bind(aligned);
        Ok(())
    }

    /// Where the bytes that are left are counted: in rax, if their register has something else to hold.
    fn length(&mut self) -> Register {
        if self.shape.source.is_none() {
            return LEN;
        }
        self.b.raw(asm::rr(Code::Mov_r64_rm64, Register::RAX, END));
        self.b.raw(asm::rr(Code::Sub_r64_rm64, Register::RAX, SRC));
        Register::RAX
    }

    /// Duff's device: one loop, entered in its middle, so that no second loop has to take what whole
    /// iterations leave.
    ///
    /// ```text
    ///     n = whole vectors;  U = copies
    ///     entry = (U - n mod U) mod U
    ///     src, dst -= entry * vector                  as if the skipped copies had run
    ///     goto copy[entry]
    ///     loop:
    ///         copy[0]: ...   copy[1]: ...   ...   copy[U - 1]: ...
    ///         src, dst += U * vector
    ///         if src < end: goto loop
    /// ```
    ///
    /// Example, U = 4, n = 6: entered at copy 2, then 2 + 4 vectors. Needs states that do not depend on the
    /// copy a vector meets, or that correct for the skipped copies (`begin_unrolled`). Only the remainder is
    /// left then; but a stretch of few vectors has to merge as many accumulators as a long one.
    fn iterations_from_within(&mut self) -> Result<(), String> {
        let vector = self.b.vector_bytes() as i32;
        let unroll = self.shape.unroll;
        let iteration = vector * unroll as i32;
        let (rax, eax) = (Register::RAX, Register::EAX);
        self.each_carried(|carried, b| carried.clear_copies(b));
        let copies: Vec<CodeLabel> = (0..unroll).map(|_| self.b.new_label()).collect();
        if unroll > 1 {
            // rax: bytes of the copies to skip.
            let len = self.length();
            // The complement of one vector fewer: `-n` is `!(n - 1)`, in vectors.
            self.b.raw(asm::rm(Code::Lea_r32_m, eax, len, Register::None, -vector));
            self.b.raw(asm::r(Code::Not_rm32, eax));
            self.b.raw(asm::ri(Code::And_rm32_imm32, eax, iteration - vector));
            self.b.raw(asm::rr(Code::Sub_r64_rm64, SRC, rax));
            if self.reads_pos {
                self.b.raw(asm::rr(Code::Sub_r64_rm64, POS, rax));
            }
            self.b.raw(asm::ri(Code::Shr_rm32_imm8, eax, vector.trailing_zeros() as i32));
            self.each_carried(|carried, b| carried.begin_unrolled(b));
            let entry = self.b.jump_table(copies.clone());
            let table = Operand::Mem(Mem::Pool { entry, disp: 0 });
            self.b.push(Code::Lea_r64_m, &[Operand::Gpr(REMAINDER), table], None, None, None, false);
            let mut load = asm::rm(Code::Movsxd_r64_rm32, rax, REMAINDER, rax, 0);
            load.set_memory_index_scale(4);
            self.b.raw(load);
            self.b.raw(asm::rr(Code::Add_r64_rm64, rax, REMAINDER));
        }
        self.b.raw(asm::rm(Code::Lea_r64_m, LIMIT, END, Register::None, -iteration));
        self.b.items.push(CodeItem::EnterLoop);
        if unroll > 1 {
            self.b.raw(asm::r(Code::Jmp_rm64, rax));
        }
        self.b.items.push(CodeItem::Weight(64));
        self.b.items.push(CodeItem::Align);
        for (copy, label) in copies.iter().enumerate() {
            self.b.bind(*label);
            self.vector(copy, unroll)?;
        }
        self.advance(iteration);
        self.b.raw(asm::rr(Code::Cmp_r64_rm64, SRC, LIMIT));
        self.b.jump(Code::Jbe_rel32_64, copies[0]);
        self.b.items.extend([CodeItem::LeaveLoop, CodeItem::Weight(1)]);
        self.b.clear_cse();
        self.each_carried(|carried, b| carried.merge_copies(b));
        Ok(())
    }

    /// Where whole iterations have to come first: a loop over several vectors, then one over single vectors.
    fn iterations_then_singles(&mut self, remainder: CodeLabel) -> Result<(), String> {
        let vector = self.b.vector_bytes() as i32;
        let unroll = self.shape.unroll;
        let iteration = vector * unroll as i32;
        let single = self.b.new_label();
        if unroll > 1 {
            let len = self.length();
            self.b.raw(asm::ri(Code::Cmp_rm64_imm32, len, iteration));
            self.b.jump(Code::Jb_rel32_64, single);
            self.each_carried(|carried, b| carried.clear_copies(b));
            self.b.raw(asm::rr(Code::Xor_r32_rm32, Register::EAX, Register::EAX));
            self.each_carried(|carried, b| carried.begin_unrolled(b));
            self.b.raw(asm::rm(Code::Lea_r64_m, LIMIT, END, Register::None, -iteration));
            self.b.items.extend([CodeItem::EnterLoop, CodeItem::Weight(64), CodeItem::Align]);
            let head = self.b.new_label();
            self.b.bind(head);
            for copy in 0..unroll {
                self.vector(copy, unroll)?;
            }
            self.advance(iteration);
            self.b.raw(asm::rr(Code::Cmp_r64_rm64, SRC, LIMIT));
            self.b.jump(Code::Jbe_rel32_64, head);
            self.b.items.extend([CodeItem::LeaveLoop, CodeItem::Weight(1)]);
            self.b.clear_cse();
            self.each_carried(|carried, b| carried.merge_copies(b));
        }
        self.b.items.push(CodeItem::Weight(if unroll > 1 { 4 } else { 64 }));
        if unroll == 1 {
            self.b.items.push(CodeItem::Align);
        }
        self.b.bind(single);
        self.b.raw(asm::rm(Code::Lea_r64_m, Register::RAX, SRC, Register::None, vector));
        self.b.raw(asm::rr(Code::Cmp_r64_rm64, Register::RAX, END));
        self.b.jump(Code::Ja_rel32_64, remainder);
        self.vector(0, 1)?;
        self.advance(vector);
        self.b.jump(Code::Jmp_rel32_64, single);
        self.b.items.push(CodeItem::Weight(1));
        Ok(())
    }

    fn advance(&mut self, bytes: i32) {
        self.b.raw(asm::ri(Code::Add_rm64_imm32, SRC, bytes));
        if self.reads_pos {
            self.b.raw(asm::ri(Code::Add_rm64_imm32, POS, bytes));
        }
    }
}
