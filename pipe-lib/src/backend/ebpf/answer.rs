//! A handler's answer in eBPF: the frame that is answered becomes it, where it lies.
//!
//! Fields are written over the frame's first bytes, for which it is made longer if need be, and in the end it
//! is cut to the answer's length. As everywhere, jumps lead forward only.

use super::insn::{BpfAlu, BpfInsn, BpfJump, BpfOperand, BpfRegister, FRAME};
use super::lower::{DATA, DATA_END, R0, R1, R4, StepLowering};
use super::places::ValuePlace;
use super::{CONTEXT_AT, PADDED_AT};
use crate::handler::{Answer, AnswerField, HandlerError, Verdict};
use crate::ir::{Endian, Value};

/// The number of `bpf_xdp_adjust_tail`.
const ADJUST_TAIL: i32 = 65;

/// Registers that a call overwrites, though they keep values.
const OVERWRITTEN: [BpfRegister; 2] = [BpfRegister(2), BpfRegister(3)];

/// Where they are meanwhile: a copy of a frame is not needed any more.
const SAVED_AT: i16 = PADDED_AT;
/// Bytes of the frame that is answered.
const FRAME_BYTES_AT: i16 = SAVED_AT + 16;
/// Bytes of the frame once it has room for all fields.
const ROOM_AT: i16 = SAVED_AT + 24;

/// Code that makes the answer, with all values where they are kept. In the end `r0` is the verdict: that it
/// is answered; that it passes, if there is no room for the answer; that it is dropped, if it cannot be cut.
pub(super) fn answer(lowering: &StepLowering<'_>, plan: &Answer) -> Result<Vec<BpfInsn>, HandlerError> {
    let mut code = Vec::new();
    let own = StepLowering { line: lowering.line, places: lowering.places, code: &mut code };
    let number = BpfOperand::Immediate;
    let register = BpfOperand::Register;
    let verdict = |verdict: Verdict| BpfInsn::Alu64(BpfAlu::Mov, R0, number(verdict as i32));
    let head = plan.head_bytes as i32;

    let saved = saved(&own, plan);
    own.code.extend(saved.iter().map(|(register, at)| BpfInsn::Store(8, FRAME, *at, *register)));
    own.code.extend(bounds());
    own.code.push(BpfInsn::Store(8, FRAME, FRAME_BYTES_AT, R4));
    let mut grow = vec![
        BpfInsn::Load(8, R1, FRAME, CONTEXT_AT),
        BpfInsn::Alu64(BpfAlu::Mov, BpfRegister(2), number(head)),
        BpfInsn::Alu64(BpfAlu::Sub, BpfRegister(2), register(R4)),
        BpfInsn::Call(ADJUST_TAIL),
    ];
    let again = bounds();
    let mut filled = fields(&own, plan)?;
    let mut cut = cut(&own, plan);
    // Where the code for want of room begins, counted from behind the two jumps to it.
    let ends = [verdict(Verdict::Answer), BpfInsn::Jump(BpfJump::Always, R0, number(0), 1)];
    let beyond_check = slots(&filled) + slots(&cut) + slots(&ends);
    let check = [
        BpfInsn::Store(8, FRAME, ROOM_AT, R4),
        BpfInsn::Alu64(BpfAlu::Mov, R1, register(DATA)),
        BpfInsn::Alu64(BpfAlu::Add, R1, number(head)),
        BpfInsn::Jump(BpfJump::Greater, R1, register(DATA_END), beyond_check),
    ];
    let beyond_grow = slots(&again) + slots(&check) + beyond_check;
    grow.push(BpfInsn::Jump(BpfJump::NotEqual, R0, number(0), beyond_grow));
    grow.extend(again);
    own.code.push(BpfInsn::Jump(BpfJump::Greater, R4, number(head - 1), slots(&grow)));
    own.code.append(&mut grow);
    own.code.extend(check);
    own.code.append(&mut filled);
    own.code.append(&mut cut);
    own.code.extend(ends);
    own.code.push(verdict(Verdict::Pass));
    Ok(code)
}

/// What is kept in registers that calls overwrite, and where it is put.
fn saved(lowering: &StepLowering<'_>, plan: &Answer) -> Vec<(BpfRegister, i16)> {
    let is_kept = |register: &BpfRegister| {
        plan.values().any(|value| lowering.places[value.0 as usize] == ValuePlace::Register(*register))
    };
    let places = [SAVED_AT, SAVED_AT + 8];
    OVERWRITTEN.into_iter().zip(places).filter(|(register, _)| is_kept(register)).collect()
}

/// `DATA`, `DATA_END`, and in `r4` the bytes between.
fn bounds() -> [BpfInsn; 5] {
    [
        BpfInsn::Load(8, R1, FRAME, CONTEXT_AT),
        BpfInsn::Load(4, DATA, R1, 0),
        BpfInsn::Load(4, DATA_END, R1, 4),
        BpfInsn::Alu64(BpfAlu::Mov, R4, BpfOperand::Register(DATA_END)),
        BpfInsn::Alu64(BpfAlu::Sub, R4, BpfOperand::Register(DATA)),
    ]
}

/// The fields over the frame's first bytes.
fn fields(lowering: &StepLowering<'_>, plan: &Answer) -> Result<Vec<BpfInsn>, HandlerError> {
    let mut code: Vec<BpfInsn> = saved(lowering, plan)
        .into_iter()
        .map(|(register, at)| BpfInsn::Load(8, register, FRAME, at))
        .collect();
    let mut own = StepLowering { line: lowering.line, places: lowering.places, code: &mut code };
    let mut at = 0;
    for field in &plan.fields {
        match field {
            AnswerField::Keep(bytes) => at += *bytes as i16,
            AnswerField::Bytes(bytes) => {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let width = [8, 4, 2, 1].into_iter().find(|width| *width <= rest.len()).unwrap_or(1);
                    let mut word = [0; 8];
                    word[..width].copy_from_slice(&rest[..width]);
                    own.code.push(BpfInsn::Load64(R0, u64::from_le_bytes(word)));
                    own.code.push(BpfInsn::Store(width as u8, DATA, at, R0));
                    rest = &rest[width..];
                    at += width as i16;
                }
            }
            AnswerField::Number { gauge, value } => {
                let bytes = gauge.bytes();
                if bytes > 8 {
                    return Err(HandlerError::new(
                        "eBPF has no fields of 128 bits: put them in halves, or run the handler in the stack",
                    ));
                }
                own.fetch(R0, *value);
                if gauge.endian == Endian::Big && bytes > 1 {
                    own.code.push(BpfInsn::ToBigEndian(R0, gauge.ty.bits() as u8));
                }
                own.code.push(BpfInsn::Store(bytes as u8, DATA, at, R0));
                at += bytes as i16;
            }
        }
    }
    Ok(code)
}

/// Cuts the frame to the answer's length, which is not beyond it.
fn cut(lowering: &StepLowering<'_>, plan: &Answer) -> Vec<BpfInsn> {
    let mut code = Vec::new();
    let mut own = StepLowering { line: lowering.line, places: lowering.places, code: &mut code };
    match plan.length {
        Some(length) => own.fetch(R0, length),
        None => own.code.push(BpfInsn::Load(8, R0, FRAME, FRAME_BYTES_AT)),
    }
    let register = BpfOperand::Register;
    let number = BpfOperand::Immediate;
    code.extend([
        BpfInsn::Load(8, R4, FRAME, ROOM_AT),
        BpfInsn::Jump(BpfJump::GreaterOrEqual, R0, register(R4), 7),
        BpfInsn::Alu64(BpfAlu::Sub, R0, register(R4)),
        BpfInsn::Alu64(BpfAlu::Mov, BpfRegister(2), register(R0)),
        BpfInsn::Load(8, R1, FRAME, CONTEXT_AT),
        BpfInsn::Call(ADJUST_TAIL),
        BpfInsn::Jump(BpfJump::Equal, R0, number(0), 2),
        BpfInsn::Alu64(BpfAlu::Mov, R0, number(Verdict::Drop as i32)),
        // Over both other ends.
        BpfInsn::Jump(BpfJump::Always, R0, number(0), 3),
    ]);
    code
}

/// Slots of these, as a jump counts them.
pub(super) fn slots(code: &[BpfInsn]) -> i16 {
    code.iter().map(|insn| insn.slots() as i16).sum()
}

impl Answer {
    /// The values that it is made of.
    pub(super) fn values(&self) -> impl Iterator<Item = Value> + '_ {
        let of_field = |field: &AnswerField| match field {
            AnswerField::Number { value, .. } => Some(*value),
            AnswerField::Keep(_) | AnswerField::Bytes(_) => None,
        };
        self.fields.iter().filter_map(of_field).chain(self.length)
    }
}
