//! Words of 128 bits: each value is one vector, with a value a word in each lane of 128 bits.
//!
//! Values of 32 and of 64 bits have the lowest bits of their lane, and zeros above: what maps zeros to zeros
//! may be done in lanes of their own width.

use super::{BodyLowering, StateVal, Val};
use crate::backend::native::abi::STATES;
use crate::backend::native::lanes::Lane;
use crate::backend::native::lanes::whole::at;
use crate::backend::native::vcode::{Builder, Operand, VReg, Width};
use crate::ir::{BinaryOp, Endian, Op, Ty, UnaryOp, Value, WideBinary, WideUnary};
use iced_x86::Code;

use crate::backend::native::isa::{Features, Isa};

impl Builder {
    /// That number in each lane of 128 bits.
    pub(in crate::backend::native) fn number_in_blocks(&mut self, number: u64) -> VReg {
        self.lanes_of(Lane::Q, |i| if i % 2 == 0 { number } else { 0 })
    }
}

impl BodyLowering<'_> {
    pub(super) fn of_blocks(&self) -> bool {
        self.plan.pipe.input.ty == Ty::U128
    }

    pub(super) fn block_constant(&mut self, number: u64) -> VReg {
        self.b.number_in_blocks(number)
    }

    pub(super) fn block_value(&mut self, value: Value) -> Result<Option<Val>, String> {
        let inst = self.plan.pipe.body.inst(value);
        let own = Lane::of_bytes(inst.ty.bytes());
        let result = match inst.op {
            Op::Const(_) => return Ok(None),
            Op::In => match self.plan.pipe.input.endian {
                Endian::Little => self.chunk,
                Endian::Big => self.b.blocks_swapped(self.chunk),
            },
            Op::State(state) => match &self.states[state.0 as usize] {
                StateVal::Value(value) => return Ok(Some(value.clone())),
                StateVal::Held(offset) => {
                    let everywhere = self.b.load_broadcast(Lane::Q, at(STATES, *offset));
                    let low = self.b.number_in_blocks(u64::MAX);
                    self.b.and(everywhere, low)
                }
                StateVal::None => return Err("a state that is not known while the loop runs".into()),
            },
            Op::Unary(UnaryOp::Bswap, a) => {
                let a = self.int(a)?[0];
                self.b.bswap(own, a)
            }
            Op::Binary(op, a, b) => {
                let (a, b) = (self.int(a)?[0], self.int(b)?[0]);
                match op {
                    BinaryOp::Add => self.b.add(own, a, b),
                    BinaryOp::Sub => self.b.sub(own, a, b),
                    BinaryOp::And => self.b.and(a, b),
                    BinaryOp::Or => self.b.or(a, b),
                    BinaryOp::Xor => self.b.xor(a, b),
                    _ => return Err(format!("`{}` in lanes of 128 bits", op.name())),
                }
            }
            Op::WideUnary(op, a) => {
                let a = self.int(a)?[0];
                match op {
                    WideUnary::Zext => a,
                    WideUnary::Trunc => {
                        let kept = self.b.number_in_blocks(inst.ty.mask());
                        self.b.and(a, kept)
                    }
                    WideUnary::High => self.b.moved_down_in_lanes(a, 8),
                    WideUnary::Not => {
                        let ones = self.b.splat(Lane::B, 0xff);
                        self.b.xor(a, ones)
                    }
                    WideUnary::Bswap => self.b.blocks_swapped(a),
                }
            }
            Op::WideBinary(WideBinary::Pair, high, low) => match self.held_pair(high, low) {
                Some(offset) => self.b.load_block(at(STATES, offset)),
                None => {
                    let (high, low) = (self.int(high)?[0], self.int(low)?[0]);
                    let high = self.b.moved_up_in_lanes(high, 8);
                    self.b.or(high, low)
                }
            },
            Op::WideBinary(op @ (WideBinary::Shl | WideBinary::Shr), a, count) => {
                let count = self.constant(count).ok_or("a shift of 128 bits by a number that varies")?;
                let (a, bytes) = (self.int(a)?[0], (count % 128 / 8) as usize);
                match op {
                    _ if bytes == 0 => a,
                    WideBinary::Shl => self.b.moved_up_in_lanes(a, bytes),
                    _ => self.b.moved_down_in_lanes(a, bytes),
                }
            }
            Op::WideBinary(op, a, b) => {
                let (a, b) = (self.int(a)?[0], self.int(b)?[0]);
                match op {
                    WideBinary::And => self.b.and(a, b),
                    WideBinary::Or => self.b.or(a, b),
                    WideBinary::Xor => self.b.xor(a, b),
                    op => self.b.aes(op, a, b)?,
                }
            }
            _ => return Err(format!("`{}` in lanes of 128 bits", self.plan.pipe.op_text(inst.op))),
        };
        Ok(Some(Val::Int(vec![result])))
    }

    /// Where 128 bits are, from the start of the states, that two held states have: the lower half first.
    fn held_pair(&self, high: Value, low: Value) -> Option<i32> {
        let held = |value: Value| match self.plan.pipe.body.inst(value).op {
            Op::State(state) => match self.states[state.0 as usize] {
                StateVal::Held(offset) => Some(offset),
                _ => None,
            },
            _ => None,
        };
        held(low).filter(|low| held(high) == Some(low + 8))
    }
}

impl Builder {
    /// A round of AES in each lane of 128 bits.
    fn aes(&mut self, op: WideBinary, block: VReg, key: VReg) -> Result<VReg, String> {
        let codes = match op {
            WideBinary::Aesenc => [
                Code::EVEX_Vaesenc_zmm_zmm_zmmm512,
                Code::VEX_Vaesenc_ymm_ymm_ymmm256,
                Code::VEX_Vaesenc_xmm_xmm_xmmm128,
            ],
            WideBinary::Aesenclast => [
                Code::EVEX_Vaesenclast_zmm_zmm_zmmm512,
                Code::VEX_Vaesenclast_ymm_ymm_ymmm256,
                Code::VEX_Vaesenclast_xmm_xmm_xmmm128,
            ],
            WideBinary::Aesdec => [
                Code::EVEX_Vaesdec_zmm_zmm_zmmm512,
                Code::VEX_Vaesdec_ymm_ymm_ymmm256,
                Code::VEX_Vaesdec_xmm_xmm_xmmm128,
            ],
            WideBinary::Aesdeclast => [
                Code::EVEX_Vaesdeclast_zmm_zmm_zmmm512,
                Code::VEX_Vaesdeclast_ymm_ymm_ymmm256,
                Code::VEX_Vaesdeclast_xmm_xmm_xmmm128,
            ],
            _ => return Err(format!("`{}` in lanes of 128 bits", op.name())),
        };
        if !self.features.has(Features::VAES) {
            return Ok(self.by_blocks(block, key, |b, block, key| {
                b.vector_of(Width::X, codes[2], &[Operand::Reg(block, Width::X), Operand::Reg(key, Width::X)])
            }));
        }
        let code = codes[usize::from(self.isa == Isa::Avx2)];
        let full = self.full();
        Ok(self.vector(code, &[Operand::Reg(block, full), Operand::Reg(key, full)]))
    }
}
