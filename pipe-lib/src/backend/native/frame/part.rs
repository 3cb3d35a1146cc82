//! Parts of a vector in memory for AVX2, whose masks have 32-bit granularity and whose masked stores take a
//! dozen cycles on some processors: the last bytes of a stretch, contiguous or striped.
//!
//! Pieces of 2 to 32 bytes are copied by two moves of 2, 4, 8 or 16 bytes, of which the second ends where the
//! piece ends; both are loaded before one is stored.

use super::{DST, END, FunctionFrame, LEN, REMAINDER, SRC, StripeMap};
use crate::backend::native::abi::Round;
use crate::backend::native::asm;
use crate::backend::native::lanes::Lane;
use crate::backend::native::vcode::{CodeItem, Mem, Operand, RegKind, VReg, Width};
use iced_x86::{Code, Register};

/// Bytes of a vector, and of the stack below its pointer that serve as a buffer for one; behind it are places
/// for registers.
const VECTOR: i32 = 32;
const BUFFER: (Register, i32) = (Register::RSP, -VECTOR);
const SAVED_REMAINDER: i32 = -40;
const SAVED_END: i32 = -48;

/// Bytes of a page: memory can be read to the end of one of which a byte can be read.
const PAGE: i32 = 4096;

const RAX: Register = Register::RAX;
const R9: Register = Register::R9;

impl FunctionFrame<'_> {
    /// The remainder of the source, fewer bytes than a vector, with zeros behind it.
    ///
    /// A whole vector is loaded where it is in one page, and the bytes beyond the source are cleared; else
    /// the bytes are copied first. Changes rax and r9.
    pub(super) fn load_part(&mut self) -> VReg {
        let real = self.counting(Round::Down(1), Lane::B);
        let in_page = self.b.new_label();
        self.b.raw(asm::rr(Code::Mov_r64_rm64, R9, SRC));
        self.b.raw(asm::rr(Code::Mov_r32_rm32, Register::EAX, SRC.full_register32()));
        self.b.raw(asm::ri(Code::And_rm32_imm32, Register::EAX, PAGE - 1));
        self.b.raw(asm::ri(Code::Cmp_rm32_imm32, Register::EAX, PAGE - VECTOR));
        self.b.jump(Code::Jbe_rel32_64, in_page);
        self.copy_part((SRC, 0), BUFFER, VECTOR);
        self.b.raw(asm::rm(Code::Lea_r64_m, R9, BUFFER.0, Register::None, BUFFER.1));
        self.b.items.push(CodeItem::Bind(in_page));
        let from = Operand::Mem(Mem::Base { base: R9, index: Register::None, scale: 1, disp: 0 });
        let chunk = self.b.fresh(RegKind::Vector, Width::Y, Code::VEX_Vmovdqu_ymm_ymmm256, &[from]);
        self.b.and(chunk, real)
    }

    /// Stores the first bytes of a vector, as many as are left. It is the last store of a call: `DST` is
    /// changed, too.
    pub(super) fn store_part(&mut self, chunk: VReg) {
        self.store_in_buffer(chunk);
        self.b.raw(asm::rr(Code::Add_r64_rm64, DST, SRC));
        self.copy_part(BUFFER, (DST, 0), VECTOR);
    }

    /// The rest of a striped source, zeros behind it. Changes rax and r9.
    pub(super) fn gather_part(&mut self, runs: StripeMap) -> VReg {
        let zero = self.b.splat(Lane::B, 0);
        self.store_in_buffer(zero);
        self.b.raw(asm::mr(Code::Mov_rm64_r64, BUFFER.0, Register::None, SAVED_END, END));
        let mut lea = asm::rm(Code::Lea_r64_m, END, LEN, SRC, 0);
        lea.set_memory_index_scale(runs.scale as u32);
        self.b.raw(lea);
        let period = runs.period() as i32;
        self.each_run(runs, |at, run| ((END, at / run * period), (BUFFER.0, BUFFER.1 + at)));
        self.b.raw(asm::rm(Code::Mov_r64_rm64, END, BUFFER.0, Register::None, SAVED_END));
        let buffer =
            Operand::Mem(Mem::Base { base: BUFFER.0, index: Register::None, scale: 1, disp: BUFFER.1 });
        self.b.fresh(RegKind::Vector, Width::Y, Code::VEX_Vmovdqu_ymm_ymmm256, &[buffer])
    }

    /// Stores the first bytes of a vector to a striped buffer; changes `DST`, rax and r9.
    pub(super) fn scatter_part(&mut self, runs: StripeMap, chunk: VReg) {
        self.store_in_buffer(chunk);
        let mut lea = asm::rm(Code::Lea_r64_m, DST, DST, SRC, 0);
        lea.set_memory_index_scale(runs.scale as u32);
        self.b.raw(lea);
        let period = runs.period() as i32;
        self.each_run(runs, |at, run| ((BUFFER.0, BUFFER.1 + at), (DST, at / run * period)));
    }

    /// Copies the remainder run by run, between the places that `places` gives for a run that begins at some
    /// byte of a vector.
    fn each_run(&mut self, runs: StripeMap, places: impl Fn(i32, i32) -> ((Register, i32), (Register, i32))) {
        let (run, rest) = (runs.run as i32, REMAINDER.full_register32());
        let done = self.b.new_label();
        self.b.raw(asm::mr(Code::Mov_rm64_r64, BUFFER.0, Register::None, SAVED_REMAINDER, REMAINDER));
        for at in (0..VECTOR).step_by(runs.run) {
            let (from, to) = places(at, run);
            let partial = self.b.new_label();
            if at + run < VECTOR {
                self.b.raw(asm::ri(Code::Cmp_rm32_imm8, rest, run));
                self.b.jump(Code::Jb_rel32_64, partial);
                self.copy_whole(from, to, run);
                self.b.raw(asm::ri(Code::Sub_rm32_imm8, rest, run));
                let next = self.b.new_label();
                self.b.jump(Code::Jne_rel32_64, next);
                self.b.jump(Code::Jmp_rel32_64, done);
                self.b.items.push(CodeItem::Bind(partial));
                self.copy_part(from, to, run);
                self.b.jump(Code::Jmp_rel32_64, done);
                self.b.items.push(CodeItem::Bind(next));
            } else {
                // The last one of a vector that is no whole one.
                self.copy_part(from, to, run);
            }
        }
        self.b.items.push(CodeItem::Bind(done));
        self.b.raw(asm::rm(Code::Mov_r64_rm64, REMAINDER, BUFFER.0, Register::None, SAVED_REMAINDER));
    }

    /// Copies 8, 16 or 32 bytes.
    fn copy_whole(&mut self, from: (Register, i32), to: (Register, i32), bytes: i32) {
        self.copy_ends(from, to, bytes.min(16), Register::None);
        if bytes > 16 {
            self.copy_ends((from.0, from.1 + 16), (to.0, to.1 + 16), 16, Register::None);
        }
    }

    /// Copies as many bytes as [`REMAINDER`] says, 1 to `most` or up to `most - 1` of them. Changes rax and
    /// r9.
    fn copy_part(&mut self, from: (Register, i32), to: (Register, i32), most: i32) {
        let done = self.b.new_label();
        let rest = REMAINDER.full_register32();
        for bytes in [16, 8, 4, 2].into_iter().filter(|bytes| *bytes < most) {
            let fewer = self.b.new_label();
            self.b.raw(asm::ri(Code::Cmp_rm32_imm8, rest, bytes));
            self.b.jump(Code::Jb_rel32_64, fewer);
            self.copy_ends(from, to, bytes, REMAINDER);
            self.b.jump(Code::Jmp_rel32_64, done);
            self.b.items.push(CodeItem::Bind(fewer));
        }
        self.copy_ends(from, to, 1, Register::None);
        self.b.items.push(CodeItem::Bind(done));
    }

    /// Copies `bytes` bytes, and with a register of their number the last `bytes` of so many.
    fn copy_ends(&mut self, from: (Register, i32), to: (Register, i32), bytes: i32, count: Register) {
        let has_end = count != Register::None;
        if bytes == 16 {
            let (load, store) = (Code::VEX_Vmovdqu_xmm_xmmm128, Code::VEX_Vmovdqu_xmmm128_xmm);
            let at = |place: (Register, i32), index, back| {
                Operand::Mem(Mem::Base { base: place.0, index, scale: 1, disp: place.1 - back })
            };
            // Through registers of the allocator's choice: others hold accumulators.
            let first = self.b.fresh(RegKind::Vector, Width::X, load, &[at(from, Register::None, 0)]);
            let last = has_end.then(|| self.b.fresh(RegKind::Vector, Width::X, load, &[at(from, count, 16)]));
            let first = [at(to, Register::None, 0), Operand::Reg(first, Width::X)];
            self.b.push(store, &first, None, None, None, false);
            if let Some(last) = last {
                let last = [at(to, count, 16), Operand::Reg(last, Width::X)];
                self.b.push(store, &last, None, None, None, false);
            }
            return;
        }
        let (load, store, [first, last, first_part, last_part]) = match bytes {
            8 => (Code::Mov_r64_rm64, Code::Mov_rm64_r64, [RAX, R9, RAX, R9]),
            4 => (
                Code::Mov_r32_rm32,
                Code::Mov_rm32_r32,
                [Register::EAX, Register::R9D, Register::EAX, Register::R9D],
            ),
            2 => (
                Code::Movzx_r32_rm16,
                Code::Mov_rm16_r16,
                [Register::EAX, Register::R9D, Register::AX, Register::R9W],
            ),
            _ => (
                Code::Movzx_r32_rm8,
                Code::Mov_rm8_r8,
                [Register::EAX, Register::R9D, Register::AL, Register::R9L],
            ),
        };
        self.b.raw(asm::rm(load, first, from.0, Register::None, from.1));
        if has_end {
            self.b.raw(asm::rm(load, last, from.0, count, from.1 - bytes));
        }
        self.b.raw(asm::mr(store, to.0, Register::None, to.1, first_part));
        if has_end {
            self.b.raw(asm::mr(store, to.0, count, to.1 - bytes, last_part));
        }
    }

    fn store_in_buffer(&mut self, chunk: VReg) {
        let buffer =
            Operand::Mem(Mem::Base { base: BUFFER.0, index: Register::None, scale: 1, disp: BUFFER.1 });
        let operands = [buffer, Operand::Reg(chunk, Width::Y)];
        self.b.push(Code::VEX_Vmovdqu_ymmm256_ymm, &operands, None, None, None, false);
    }
}
