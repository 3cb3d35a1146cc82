//! One step of a handler in eBPF, without a branch: comparisons and choices are made of borrows and masks.
//!
//! Values are kept as in the interpreter: numbers of 64 bits, zero above their type. `r0`, `r1`, `r4` and
//! `r5` are scratch: operands come in `r0` and `r1`, the result leaves in `r0`.

use super::insn::{BpfAlu, BpfInsn, BpfOperand, BpfRegister};
use crate::handler::{FrameSource, FrameStep, HandlerError, StraightLine, name};
use crate::ir::{BinaryOp, CompareOp, ConvertOp, Endian, Gauge, ModOp, Op, Ty, UnaryOp, Value};

pub(super) const R0: BpfRegister = BpfRegister(0);
pub(super) const R1: BpfRegister = BpfRegister(1);
pub(super) const R4: BpfRegister = BpfRegister(4);
pub(super) const R5: BpfRegister = BpfRegister(5);
/// The first byte of the frame.
pub(super) const DATA: BpfRegister = BpfRegister(6);
/// Behind its last one.
pub(super) const DATA_END: BpfRegister = BpfRegister(7);

/// Code that grows, and how it gets at values.
pub(super) struct StepLowering<'a> {
    pub(super) line: &'a StraightLine,
    pub(super) places: &'a [super::places::ValuePlace],
    pub(super) code: &'a mut Vec<BpfInsn>,
}

impl StepLowering<'_> {
    fn rr(&mut self, op: BpfAlu, to: BpfRegister, from: BpfRegister) {
        self.code.push(BpfInsn::Alu64(op, to, BpfOperand::Register(from)));
    }

    fn ri(&mut self, op: BpfAlu, to: BpfRegister, value: i32) {
        self.code.push(BpfInsn::Alu64(op, to, BpfOperand::Immediate(value)));
    }

    /// `to = value`.
    pub(super) fn fetch(&mut self, to: BpfRegister, value: Value) {
        use super::places::ValuePlace;
        if let Some(number) = self.line.step(value).constant() {
            match i32::try_from(number as i64) {
                Ok(number) => self.ri(BpfAlu::Mov, to, number),
                Err(_) => self.code.push(BpfInsn::Load64(to, number)),
            }
            return;
        }
        match self.places[value.0 as usize] {
            ValuePlace::Register(from) => self.rr(BpfAlu::Mov, to, from),
            ValuePlace::Stack(offset) => self.code.push(BpfInsn::Load(8, to, super::insn::FRAME, offset)),
            ValuePlace::Nowhere => debug_assert!(false, "v{} is nowhere", value.0),
        }
    }

    /// Puts `r0` where the value is kept.
    fn keep(&mut self, value: Value) {
        use super::places::ValuePlace;
        match self.places[value.0 as usize] {
            ValuePlace::Register(to) => self.rr(BpfAlu::Mov, to, R0),
            ValuePlace::Stack(offset) => self.code.push(BpfInsn::Store(8, super::insn::FRAME, offset, R0)),
            ValuePlace::Nowhere => {}
        }
    }

    /// `register mod 2^width`.
    fn mask(&mut self, register: BpfRegister, ty: Ty) {
        match ty {
            Ty::Bool => self.ri(BpfAlu::And, register, 1),
            Ty::U8 => self.ri(BpfAlu::And, register, 0xff),
            Ty::U16 => self.ri(BpfAlu::And, register, 0xffff),
            Ty::U32 => self.code.push(BpfInsn::Truncate32(register, register)),
            Ty::U64 | Ty::U128 => {}
        }
    }

    /// The same of what may be known to be 0 or all ones: of such a number the verifier, when it meets an
    /// `and` with a constant, looks at both cases by themselves, and at twice as many with each further one.
    fn mask_signs(&mut self, register: BpfRegister, ty: Ty) {
        let above = 64 - ty.bits() as i32;
        if above > 0 {
            self.ri(BpfAlu::Lsh, register, above);
            self.ri(BpfAlu::Rsh, register, above);
        }
    }

    /// Repeats the sign of a narrower number above it.
    fn sign_extend(&mut self, register: BpfRegister, ty: Ty) {
        let above = 64 - ty.bits() as i32;
        if above > 0 {
            self.ri(BpfAlu::Lsh, register, above);
            self.ri(BpfAlu::Arsh, register, above);
        }
    }

    /// `r5` = all ones if `r0 < r1`, else zero. Of numbers below 2^63, or signed ones of as many bits, the
    /// sign of the difference; of others, the borrow that it takes (Warren, Hacker's Delight, 2-13). `r4` is
    /// overwritten.
    fn less(&mut self, is_whole: bool) {
        self.rr(BpfAlu::Mov, R5, R0);
        self.rr(BpfAlu::Sub, R5, R1);
        if is_whole {
            self.rr(BpfAlu::Mov, R4, R0);
            self.rr(BpfAlu::Xor, R4, R1);
            self.ri(BpfAlu::Xor, R4, -1);
            self.rr(BpfAlu::And, R5, R4);
            self.rr(BpfAlu::Mov, R4, R0);
            self.ri(BpfAlu::Xor, R4, -1);
            self.rr(BpfAlu::And, R4, R1);
            self.rr(BpfAlu::Or, R5, R4);
        }
        self.ri(BpfAlu::Arsh, R5, 63);
    }

    /// The step, into its place.
    pub(super) fn step(&mut self, value: Value, step: FrameStep) -> Result<(), HandlerError> {
        match step.source {
            FrameSource::Load { offset, gauge } => self.load(offset, gauge),
            FrameSource::Compute(Op::Const(_)) => return Ok(()),
            FrameSource::Compute(op) => self.compute(op, step.ty)?,
        }
        self.keep(value);
        Ok(())
    }

    fn load(&mut self, offset: u16, gauge: Gauge) {
        self.code.push(BpfInsn::Load(gauge.bytes() as u8, R0, DATA, offset as i16));
        // The processors that run us are little-endian.
        if gauge.endian == Endian::Big && gauge.bytes() > 1 {
            self.code.push(BpfInsn::ToBigEndian(R0, gauge.ty.bits() as u8));
        }
    }

    fn compute(&mut self, op: Op, ty: Ty) -> Result<(), HandlerError> {
        let refuse = || {
            Err(HandlerError::new(format!(
                "eBPF has no instruction for `{}` of {ty}: compute it from others, or run the handler in the stack",
                name(op)
            )))
        };
        let operands: Vec<Value> = op.operands().collect();
        match op {
            Op::Unary(kind, a) => {
                self.fetch(R0, a);
                match kind {
                    UnaryOp::Neg => self.ri(BpfAlu::Neg, R0, 0),
                    UnaryOp::Not => self.ri(BpfAlu::Xor, R0, -1),
                    UnaryOp::Bswap if ty == Ty::U8 => {}
                    UnaryOp::Bswap => self.code.push(BpfInsn::ToBigEndian(R0, ty.bits() as u8)),
                    UnaryOp::Popcnt | UnaryOp::Bitrev | UnaryOp::Clz | UnaryOp::Ctz => return refuse(),
                }
                self.mask_signs(R0, ty);
            }
            Op::Binary(kind, a, b) => {
                self.fetch(R0, a);
                self.fetch(R1, b);
                if !self.binary(kind, ty) {
                    return refuse();
                }
            }
            Op::Compare(kind, a, b) => {
                let of = self.line.step(a).ty;
                let (a, b) = match kind {
                    // a <= b is not b < a.
                    CompareOp::Leu | CompareOp::Les => (b, a),
                    _ => (a, b),
                };
                self.fetch(R0, a);
                self.fetch(R1, b);
                self.compare(kind, of);
            }
            Op::Select { cond, then, otherwise } => {
                self.fetch(R5, cond);
                self.ri(BpfAlu::Neg, R5, 0);
                self.fetch(R0, then);
                self.fetch(R1, otherwise);
                self.rr(BpfAlu::Xor, R0, R1);
                self.rr(BpfAlu::And, R0, R5);
                self.rr(BpfAlu::Xor, R0, R1);
            }
            // Division by zero leaves the dividend, which is what modulo 2^width means.
            Op::Modular(kind, a, b, m) if ty.bits() <= 32 => {
                self.fetch(R0, a);
                self.fetch(R1, b);
                let op = if kind == ModOp::Addmod { BpfAlu::Add } else { BpfAlu::Mul };
                self.rr(op, R0, R1);
                self.fetch(R1, m);
                self.rr(BpfAlu::Mod, R0, R1);
                self.mask(R0, ty);
            }
            Op::Convert(kind, a) => {
                self.fetch(R0, a);
                if kind == ConvertOp::Sext {
                    self.sign_extend(R0, self.line.step(operands[0]).ty);
                }
                match kind {
                    ConvertOp::Zext => {}
                    ConvertOp::Sext => self.mask_signs(R0, ty),
                    ConvertOp::Trunc => self.mask(R0, ty),
                }
            }
            _ => return refuse(),
        }
        Ok(())
    }

    /// `r0 = r0 op r1`; false where there is no way.
    fn binary(&mut self, op: BinaryOp, ty: Ty) -> bool {
        let bits = ty.bits() as i32;
        match op {
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul => {
                let op = match op {
                    BinaryOp::Add => BpfAlu::Add,
                    BinaryOp::Sub => BpfAlu::Sub,
                    _ => BpfAlu::Mul,
                };
                self.rr(op, R0, R1);
                self.mask(R0, ty);
            }
            BinaryOp::And => self.rr(BpfAlu::And, R0, R1),
            BinaryOp::Or => self.rr(BpfAlu::Or, R0, R1),
            BinaryOp::Xor => self.rr(BpfAlu::Xor, R0, R1),
            BinaryOp::Shl | BinaryOp::Shr => {
                self.ri(BpfAlu::And, R1, bits - 1);
                self.rr(if op == BinaryOp::Shl { BpfAlu::Lsh } else { BpfAlu::Rsh }, R0, R1);
                self.mask(R0, ty);
            }
            BinaryOp::Sar => {
                self.ri(BpfAlu::And, R1, bits - 1);
                self.sign_extend(R0, ty);
                self.rr(BpfAlu::Arsh, R0, R1);
                self.mask(R0, ty);
            }
            BinaryOp::Rotl | BinaryOp::Rotr => {
                let (there, back) = if op == BinaryOp::Rotl {
                    (BpfAlu::Lsh, BpfAlu::Rsh)
                } else {
                    (BpfAlu::Rsh, BpfAlu::Lsh)
                };
                self.ri(BpfAlu::And, R1, bits - 1);
                self.rr(BpfAlu::Mov, R5, R0);
                self.rr(there, R0, R1);
                self.ri(BpfAlu::Neg, R1, 0);
                self.ri(BpfAlu::And, R1, bits - 1);
                self.rr(back, R5, R1);
                self.rr(BpfAlu::Or, R0, R5);
                self.mask(R0, ty);
            }
            BinaryOp::Min | BinaryOp::Max => self.smaller(op == BinaryOp::Min, ty == Ty::U64),
            BinaryOp::Smin | BinaryOp::Smax if ty != Ty::U64 => {
                self.sign_extend(R0, ty);
                self.sign_extend(R1, ty);
                self.smaller(op == BinaryOp::Smin, false);
                self.mask(R0, ty);
            }
            BinaryOp::Addc if ty == Ty::U64 => {
                self.rr(BpfAlu::Add, R0, R1);
                self.less(true);
                self.rr(BpfAlu::Sub, R0, R5);
            }
            BinaryOp::Addc => {
                self.rr(BpfAlu::Add, R0, R1);
                self.rr(BpfAlu::Mov, R1, R0);
                self.ri(BpfAlu::Rsh, R1, bits);
                self.rr(BpfAlu::Add, R0, R1);
                self.mask(R0, ty);
            }
            BinaryOp::Adds if ty == Ty::U64 => {
                self.rr(BpfAlu::Add, R0, R1);
                self.less(true);
                self.rr(BpfAlu::Or, R0, R5);
            }
            BinaryOp::Adds => {
                self.rr(BpfAlu::Add, R0, R1);
                // What went beyond the type, as all ones.
                self.rr(BpfAlu::Mov, R5, R0);
                self.ri(BpfAlu::Rsh, R5, bits);
                self.ri(BpfAlu::Neg, R5, 0);
                self.rr(BpfAlu::Or, R0, R5);
                self.mask(R0, ty);
            }
            BinaryOp::Subs => {
                self.less(ty == Ty::U64);
                self.ri(BpfAlu::Xor, R5, -1);
                self.rr(BpfAlu::Sub, R0, R1);
                self.rr(BpfAlu::And, R0, R5);
            }
            BinaryOp::Smin
            | BinaryOp::Smax
            | BinaryOp::Sadds
            | BinaryOp::Ssubs
            | BinaryOp::Clmul
            | BinaryOp::Clmulh => return false,
        }
        true
    }

    /// `r0` = the smaller, or the greater, of `r0` and `r1`.
    fn smaller(&mut self, wanted: bool, is_whole: bool) {
        self.less(is_whole);
        if !wanted {
            self.ri(BpfAlu::Xor, R5, -1);
        }
        self.rr(BpfAlu::Xor, R0, R1);
        self.rr(BpfAlu::And, R0, R5);
        self.rr(BpfAlu::Xor, R0, R1);
    }

    /// `r0` = whether `r0 op r1`, the operands exchanged for "less or equal".
    fn compare(&mut self, op: CompareOp, ty: Ty) {
        match op {
            CompareOp::Eq | CompareOp::Ne => {
                // A number and its negative have both a top bit of zero only where they are zero.
                self.rr(BpfAlu::Xor, R0, R1);
                self.rr(BpfAlu::Mov, R5, R0);
                self.ri(BpfAlu::Neg, R5, 0);
                self.rr(BpfAlu::Or, R0, R5);
                self.ri(BpfAlu::Rsh, R0, 63);
            }
            CompareOp::Ltu | CompareOp::Leu => self.less(ty == Ty::U64),
            CompareOp::Lts | CompareOp::Les if ty == Ty::U64 => {
                self.ri(BpfAlu::Mov, R5, 1);
                self.ri(BpfAlu::Lsh, R5, 63);
                self.rr(BpfAlu::Xor, R0, R5);
                self.rr(BpfAlu::Xor, R1, R5);
                self.less(true);
            }
            CompareOp::Lts | CompareOp::Les => {
                self.sign_extend(R0, ty);
                self.sign_extend(R1, ty);
                self.less(false);
            }
        }
        match op {
            CompareOp::Eq => self.ri(BpfAlu::Xor, R0, 1),
            CompareOp::Ne => {}
            CompareOp::Ltu | CompareOp::Lts => {
                self.rr(BpfAlu::Mov, R0, R5);
                self.ri(BpfAlu::Rsh, R0, 63);
            }
            CompareOp::Leu | CompareOp::Les => {
                self.rr(BpfAlu::Mov, R0, R5);
                self.ri(BpfAlu::Rsh, R0, 63);
                self.ri(BpfAlu::Xor, R0, 1);
            }
        }
    }
}
