//! What is left of a stretch: less than a vector, under masks, with each stage's tail rule.

use crate::ir::Tail;
use iced_x86::{Code, Register};

use super::{DST, Frame, Part, REST, SRC, Stores};
use crate::backend::native::asm;
use crate::backend::native::isa::Isa;
use crate::backend::native::lanes::Lane;
use crate::backend::native::reduce::Masking;
use crate::backend::native::strategy::Keeping;
use crate::backend::native::vcode::{Builder, Item, Kind, Mem, Opd, VReg, Width};

/// How many of the rest's bytes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::native) enum Round {
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

impl Frame<'_> {
    /// What is left: less than a vector.
    pub(super) fn rest(&mut self) -> Result<(), String> {
        self.b.forget();
        let mut chunk = match self.shape.source {
            Some(runs) => self.gather_rest(runs),
            None => self.load_rest(),
        };
        let mut clean = true;
        for index in 0..self.stages.len() {
            let pipe = self.stages[index].study.pipe;
            let word = pipe.word_bytes();
            if word > 1 && !clean && matches!(pipe.tail, Tail::Zero | Tail::Partial) {
                // Earlier stages may have left anything behind the end.
                let real = self.counting(Round::Down(1), Lane::B);
                let zero = self.b.splat(Lane::B, 0);
                chunk = self.b.select(Lane::B, real, chunk, zero);
                clean = true;
            }
            let round = Round::of(pipe.tail, word);
            let stage = &self.stages[index];
            let scans = stage.study.keeping.iter().any(|keeping| matches!(keeping, Keeping::Scan(..)));
            let reduces = scans || stage.accumulators.iter().any(Option::is_some);
            let active = reduces.then(|| self.counting(round, Lane::of_bytes(word)));
            let zero_beyond = clean && pipe.tail != Tail::Pass;
            let before = chunk;
            let masking = active.map(|active| Masking { active, zero_beyond });
            chunk = self.stage(index, 0, 0, chunk, Part::Rest { masking, round })?;
            if pipe.out.is_some() {
                clean = false;
                if word > 1 && matches!(pipe.tail, Tail::Zero | Tail::Pass) {
                    let whole = self.counting(Round::Down(word), Lane::B);
                    chunk = self.b.select(Lane::B, whole, chunk, before);
                }
            }
        }
        match self.shape.stores {
            Stores::None => {}
            Stores::Plain => self.store_rest(chunk),
            Stores::Striped(runs) => self.scatter_rest(runs, chunk),
        }
        Ok(())
    }

    /// The condition, on lanes of `lane`, of the part of the rest that counts. Costs nothing if nobody uses it.
    fn counting(&mut self, round: Round, lane: Lane) -> VReg {
        let (word, up) = match round {
            Round::Down(word) => (word, false),
            Round::Up(word) => (word, word > 1),
        };
        let key = (word as u32) << 8 | (lane as u32) << 1 | u32::from(up);
        if let Some(known) = self.b.remembered(key) {
            return known;
        }
        let kind = if self.shape.isa == Isa::Avx512 { Kind::Mask } else { Kind::Vector };
        let counting = self.b.undefined(kind);
        let (rax, eax, r9) = (Register::RAX, Register::EAX, Register::R9);
        let first = self.b.items.len();
        let count = if word > 1 {
            round_rest(&mut self.b, round);
            rax
        } else {
            REST
        };
        match self.shape.isa {
            Isa::Avx512 => {
                let lane_shift = lane.bytes().trailing_zeros();
                if lane_shift > 0 {
                    self.b.raw(asm::ri(Code::Shr_rm32_imm8, eax, lane_shift as i32));
                }
                self.b.raw(asm::ri(Code::Mov_rm64_imm32, r9, -1));
                self.b.raw(asm::rrr(Code::VEX_Bzhi_r64_rm64_r64, r9, r9, count));
                self.only_for(counting, first);
                let operands = [Opd::Reg(counting, Width::K), Opd::Gpr(r9)];
                self.b.push(Code::VEX_Kmovq_kr_r64, &operands, Some(counting), None, None, false);
            }
            Isa::Avx2 => {
                if count != rax {
                    self.b.raw(asm::rr(Code::Mov_r32_rm32, eax, count.full_register32()));
                }
                self.b.raw(asm::r(Code::Neg_rm64, rax));
                self.only_for(counting, first);
                let mut bytes = vec![0xff; 32];
                bytes.extend([0; 32]);
                let entry = self.b.table(bytes);
                let table = Opd::Mem(Mem::Pool { entry, disp: 32 });
                self.b.push(Code::Lea_r64_m, &[Opd::Gpr(r9), table], None, None, None, false);
                let at = Opd::Mem(Mem::Base { base: r9, index: rax, scale: 1, disp: 0 });
                let operands = [Opd::Reg(counting, Width::Y), at];
                self.b.push(Code::VEX_Vmovdqu_ymm_ymmm256, &operands, Some(counting), None, None, false);
            }
        }
        self.b.remember(key, counting);
        counting
    }

    /// The items from `first` on serve to define `what` and nothing else.
    fn only_for(&mut self, what: VReg, first: usize) {
        for item in &mut self.b.items[first..] {
            if let Item::Raw(inst) = *item {
                *item = Item::RawFor(inst, what);
            }
        }
    }

    /// The rest of the source, zeros behind it.
    fn load_rest(&mut self) -> VReg {
        match self.shape.isa {
            Isa::Avx512 => {
                let real = self.counting(Round::Down(1), Lane::B);
                let from = Mem::Base { base: SRC, index: Register::None, scale: 1, disp: 0 };
                let code = Code::EVEX_Vmovdqu8_zmm_k1z_zmmm512;
                self.b.masked(code, real, None, &[Opd::Mem(from)])
            }
            Isa::Avx2 => {
                let zero = self.b.splat(Lane::B, 0);
                let buffer = Mem::Base { base: Register::RSP, index: Register::None, scale: 1, disp: -32 };
                let store = Code::VEX_Vmovdqu_ymmm256_ymm;
                self.b.push(store, &[Opd::Mem(buffer), Opd::Reg(zero, Width::Y)], None, None, None, false);
                self.copy_rest((SRC, Register::R9, 0), (Register::RSP, Register::R9, -32));
                let load = Code::VEX_Vmovdqu_ymm_ymmm256;
                self.b.fresh(Kind::Vector, Width::Y, load, &[Opd::Mem(buffer)])
            }
        }
    }

    fn store_rest(&mut self, chunk: VReg) {
        match self.shape.isa {
            Isa::Avx512 => {
                let real = self.counting(Round::Down(1), Lane::B);
                let to = Mem::Base { base: SRC, index: DST, scale: 1, disp: 0 };
                let operands = [Opd::Mem(to), Opd::Reg(chunk, Width::Z)];
                let code = Code::EVEX_Vmovdqu8_zmmm512_k1z_zmm;
                self.b.push(code, &operands, None, None, Some(real), false);
            }
            Isa::Avx2 => {
                let buffer = Mem::Base { base: Register::RSP, index: Register::None, scale: 1, disp: -32 };
                let store = Code::VEX_Vmovdqu_ymmm256_ymm;
                self.b.push(store, &[Opd::Mem(buffer), Opd::Reg(chunk, Width::Y)], None, None, None, false);
                // The destination's address, for once: the rest is the last thing that is written.
                self.b.raw(asm::rr(Code::Add_r64_rm64, DST, SRC));
                self.copy_rest((Register::RSP, Register::R9, -32), (DST, Register::R9, 0));
            }
        }
    }

    /// Copies r11 < 32 bytes: 16, 8, 4, 2 and 1, as its bits say. r9 counts.
    fn copy_rest(&mut self, from: (Register, Register, i32), to: (Register, Register, i32)) {
        self.b.raw(asm::rr(Code::Xor_r32_rm32, Register::R9D, Register::R9D));
        let steps = [
            (16, Code::VEX_Vmovdqu_xmm_xmmm128, Code::VEX_Vmovdqu_xmmm128_xmm, Register::XMM0),
            (8, Code::Mov_r64_rm64, Code::Mov_rm64_r64, Register::RAX),
            (4, Code::Mov_r32_rm32, Code::Mov_rm32_r32, Register::EAX),
            (2, Code::Movzx_r32_rm16, Code::Mov_rm16_r16, Register::EAX),
            (1, Code::Movzx_r32_rm8, Code::Mov_rm8_r8, Register::EAX),
        ];
        for (bytes, load, store, through) in steps {
            let skip = self.b.new_label();
            self.b.raw(asm::ri(Code::Test_rm32_imm32, Register::R11D, bytes));
            self.b.items.push(Item::Jump(Code::Je_rel32_64, skip));
            if bytes == 16 {
                // Through a register of the allocator's choice: others hold accumulators.
                let mem = Mem::Base { base: from.0, index: from.1, scale: 1, disp: from.2 };
                let value = self.b.fresh(Kind::Vector, Width::X, load, &[Opd::Mem(mem)]);
                let mem = Mem::Base { base: to.0, index: to.1, scale: 1, disp: to.2 };
                self.b.push(store, &[Opd::Mem(mem), Opd::Reg(value, Width::X)], None, None, None, false);
            } else {
                self.b.raw(asm::rm(load, through, from.0, from.1, from.2));
                let part = match bytes {
                    2 => Register::AX,
                    1 => Register::AL,
                    _ => through,
                };
                self.b.raw(asm::mr(store, to.0, to.1, to.2, part));
            }
            self.b.raw(asm::ri(Code::Add_rm64_imm8, Register::R9, bytes));
            self.b.items.push(Item::Bind(skip));
        }
    }
}

/// rax: how many bytes of the rest count.
pub(in crate::backend::native) fn round_rest(b: &mut Builder, round: Round) {
    let eax = Register::EAX;
    b.raw(asm::rr(Code::Mov_r32_rm32, eax, Register::R11D));
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
