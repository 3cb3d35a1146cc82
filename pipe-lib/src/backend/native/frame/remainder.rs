//! What is left of a stretch: less than a vector, under masks, with each stage's tail rule.

use crate::ir::Tail;
use iced_x86::{Code, Register};

use super::{DST, FunctionFrame, LoopPart, REMAINDER, SRC, Stores};
use std::sync::Arc;

use crate::backend::native::abi::{Round, round_remainder};
use crate::backend::native::asm;
use crate::backend::native::carry::Masking;
use crate::backend::native::isa::Isa;
use crate::backend::native::lanes::Lane;
use crate::backend::native::vcode::{CodeItem, Mem, Operand, RegKind, VReg, Width};

impl FunctionFrame<'_> {
    /// What is left: less than a vector.
    pub(super) fn remainder(&mut self) -> Result<(), String> {
        self.b.clear_cse();
        let mut chunk = match self.shape.source {
            Some(runs) if self.shape.isa == Isa::Avx2 => self.gather_part(runs),
            Some(runs) => self.gather_remainder(runs),
            None => self.load_remainder(),
        };
        let mut clean = true;
        for index in 0..self.stages.len() {
            let pipe = Arc::clone(&self.stages[index].plan.pipe);
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
            let masked = stage.carried.iter().any(|(_, carried)| carried.traits().masked);
            let active = masked.then(|| self.counting(round, Lane::of_bytes(word)));
            let zero_beyond = clean && pipe.tail != Tail::Pass;
            let before = chunk;
            let masking = active.map(|active| Masking { active, zero_beyond });
            chunk = self.stage(index, chunk, 0, LoopPart::Remainder { masking, round })?;
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
            Stores::Plain | Stores::Streamable => self.store_remainder(chunk),
            Stores::Striped(runs) if self.shape.isa == Isa::Avx2 => self.scatter_part(runs, chunk),
            Stores::Striped(runs) => self.scatter_remainder(runs, chunk),
        }
        Ok(())
    }

    /// The condition, on lanes of `lane`, of the part of the remainder that counts. Costs nothing if nobody
    /// uses it.
    pub(super) fn counting(&mut self, round: Round, lane: Lane) -> VReg {
        let (word, up) = match round {
            Round::Down(word) => (word, false),
            Round::Up(word) => (word, word > 1),
        };
        let key = (word as u32) << 8 | (lane as u32) << 1 | u32::from(up);
        if let Some(known) = self.b.memo(key) {
            return known;
        }
        let kind = if self.shape.isa == Isa::Avx512 { RegKind::Mask } else { RegKind::Vector };
        let counting = self.b.undefined(kind);
        let (rax, eax, r9) = (Register::RAX, Register::EAX, Register::R9);
        let first = self.b.items.len();
        let count = if word > 1 {
            round_remainder(&mut self.b, round);
            rax
        } else {
            REMAINDER
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
                let operands = [Operand::Reg(counting, Width::K), Operand::Gpr(r9)];
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
                let table = Operand::Mem(Mem::Pool { entry, disp: 32 });
                self.b.push(Code::Lea_r64_m, &[Operand::Gpr(r9), table], None, None, None, false);
                let at = Operand::Mem(Mem::Base { base: r9, index: rax, scale: 1, disp: 0 });
                let operands = [Operand::Reg(counting, Width::Y), at];
                self.b.push(Code::VEX_Vmovdqu_ymm_ymmm256, &operands, Some(counting), None, None, false);
            }
        }
        self.b.set_memo(key, counting);
        counting
    }

    /// The items from `first` on serve to define `what` and nothing else.
    fn only_for(&mut self, what: VReg, first: usize) {
        for item in &mut self.b.items[first..] {
            if let CodeItem::Scalar(inst) = *item {
                *item = CodeItem::ScalarFor(inst, what);
            }
        }
    }

    /// The remainder of the source, zeros behind it.
    fn load_remainder(&mut self) -> VReg {
        match self.shape.isa {
            Isa::Avx512 => {
                let real = self.counting(Round::Down(1), Lane::B);
                let from = Mem::Base { base: SRC, index: Register::None, scale: 1, disp: 0 };
                let code = Code::EVEX_Vmovdqu8_zmm_k1z_zmmm512;
                self.b.masked(code, real, None, &[Operand::Mem(from)])
            }
            Isa::Avx2 => self.load_part(),
        }
    }

    fn store_remainder(&mut self, chunk: VReg) {
        match self.shape.isa {
            Isa::Avx512 => {
                let real = self.counting(Round::Down(1), Lane::B);
                let to = Mem::Base { base: SRC, index: DST, scale: 1, disp: 0 };
                let operands = [Operand::Mem(to), Operand::Reg(chunk, Width::Z)];
                let code = Code::EVEX_Vmovdqu8_zmmm512_k1z_zmm;
                self.b.push(code, &operands, None, None, Some(real), false);
            }
            Isa::Avx2 => self.store_part(chunk),
        }
    }
}
