//! States that are what the word before computed: one register with the last values themselves is carried
//! from vector to vector.

use iced_x86::{Code, Register};

use super::{Due, LoopCarried, LoopPart, Traits};
use crate::backend::native::abi::{SCRATCH, STATES, round_remainder};
use crate::backend::native::asm;
use crate::backend::native::isa::Isa;
use crate::backend::native::lanes::Lane;
use crate::backend::native::lanes::whole::at;
use crate::backend::native::lower::BodyLowering;
use crate::backend::native::vcode::{Builder, Operand, VReg};
use crate::ir::{StateId, Value};

/// The state, and the value that the next word finds in it.
pub(super) struct Delay {
    state: StateId,
    value: Value,
    last: Last,
    offset: i32,
}

impl Delay {
    /// Takes a register and imports the state.
    pub(super) fn new(b: &mut Builder, lane: Lane, state: usize, value: Value, offset: i32) -> Delay {
        Delay { state: StateId(state as u32), value, last: Last::new(b, lane, offset), offset }
    }
}

impl LoopCarried for Delay {
    fn traits(&self) -> Traits {
        Traits { due: Due::Between, ..Traits::ORDERED }
    }

    fn step(&mut self, body: &mut BodyLowering<'_>, part: LoopPart) -> Result<(), String> {
        body.compute(self.value)?;
        let values = body.carried(self.value)?;
        let before = self.last.before(body.b, values);
        body.give_carried(self.state, before);
        let last = match part {
            LoopPart::Whole { .. } => values,
            LoopPart::Remainder { round, .. } => {
                // Perhaps none of the words count.
                round_remainder(body.b, round);
                body.b.shift_in(self.last.reg, values)
            }
        };
        body.b.assign(self.last.reg, last);
        Ok(())
    }

    fn finish(&self, b: &mut Builder) {
        self.last.finish(b, self.offset);
    }

    fn description(&self) -> String {
        "what it was last, in a register".to_owned()
    }
}

/// A register whose last lane has what was last.
#[derive(Clone, Copy)]
pub(super) struct Last {
    pub(super) lane: Lane,
    pub(super) reg: VReg,
}

impl Last {
    /// Takes a register and imports the state into every lane of it.
    pub(super) fn new(b: &mut Builder, lane: Lane, offset: i32) -> Last {
        let reg = b.pinned_vector();
        let value = b.load_broadcast(lane, at(STATES, offset));
        b.assign(reg, value);
        Last { lane, reg }
    }

    /// The values of the words before, given those of the words.
    pub(super) fn before(self, b: &mut Builder, values: VReg) -> VReg {
        self.before_by(b, values, self.lane.bytes())
    }

    /// The values so many bytes before, 16 at most, given those of the words.
    pub(super) fn before_by(self, b: &mut Builder, values: VReg, bytes: usize) -> VReg {
        let v = |b: &Builder, reg| Operand::Reg(reg, b.full());
        let (values_op, last_op) = (v(b, values), v(b, self.reg));
        match b.isa {
            Isa::Avx512 if bytes.is_multiple_of(8) => {
                let code = Code::EVEX_Valignq_zmm_k1z_zmm_zmmm512b64_imm8;
                b.vector(code, &[values_op, last_op, Operand::Imm(8 - bytes as u8 / 8)])
            }
            Isa::Avx512 if bytes.is_multiple_of(4) => {
                let code = Code::EVEX_Valignd_zmm_k1z_zmm_zmmm512b32_imm8;
                b.vector(code, &[values_op, last_op, Operand::Imm(16 - bytes as u8 / 4)])
            }
            Isa::Avx512 => {
                let code = Code::EVEX_Valignq_zmm_k1z_zmm_zmmm512b64_imm8;
                let quarters = b.vector(code, &[values_op, last_op, Operand::Imm(6)]);
                let quarters = v(b, quarters);
                let code = Code::EVEX_Vpalignr_zmm_k1z_zmm_zmmm512_imm8;
                b.vector(code, &[values_op, quarters, Operand::Imm(16 - bytes as u8)])
            }
            Isa::Avx2 => {
                let code = Code::VEX_Vperm2i128_ymm_ymm_ymmm256_imm8;
                let halves = b.vector(code, &[last_op, values_op, Operand::Imm(0x21)]);
                if bytes == 16 {
                    return halves;
                }
                let halves = v(b, halves);
                let code = Code::VEX_Vpalignr_ymm_ymm_ymmm256_imm8;
                b.vector(code, &[values_op, halves, Operand::Imm(16 - bytes as u8)])
            }
        }
    }

    /// Writes the last lane to the state.
    pub(super) fn finish(self, b: &mut Builder, offset: i32) {
        b.store(at(Register::RSP, SCRATCH), self.reg);
        let end = SCRATCH + b.vector_bytes() as i32;
        write_state(b, self.lane, end - self.lane.bytes() as i32, offset);
    }
}

/// Writes a lane that is in memory at `place` from the stack's end to the state: the quad that ends with it,
/// shifted down.
pub(super) fn write_state(b: &mut Builder, lane: Lane, place: i32, offset: i32) {
    let rax = Register::RAX;
    b.load_quad_to(rax, Register::RSP, place + lane.bytes() as i32 - 8);
    let above = 64 - lane.bits() as i32;
    if above > 0 {
        b.raw(asm::ri(Code::Shr_rm64_imm8, rax, above));
    }
    b.store_quad(STATES, offset, rax);
}
