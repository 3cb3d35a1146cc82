//! A handler's answer in eBPF: the frame that is answered becomes it, where it lies.
//!
//! If it is shorter than its answer it is made longer, fields are written over its first bytes, and in the
//! end it is cut to the answer's length. As everywhere, jumps lead forward only.

use super::insn::{BpfAlu, BpfInsn, BpfJump, BpfOperand, BpfRegister, FRAME};
use super::lower::{DATA, DATA_END, R0, R1, R4, StepLowering};
use super::places::ValuePlace;
use super::{CONTEXT_AT, PADDED_AT};
use crate::handler::{Answer, AnswerField, HandlerError, Verdict};
use crate::ir::{Endian, Value};

/// The number of `bpf_xdp_adjust_tail`.
const ADJUST_TAIL: i32 = 65;

/// Bytes of the longest store, less one: as many may be written behind an answer's end.
const SLACK: i32 = 7;

/// Registers that a call overwrites, though they keep values, and where these are meanwhile: a copy of a
/// frame is not needed any more.
const OVERWRITTEN: [(BpfRegister, i16); 2] = [(BpfRegister(2), PADDED_AT), (BpfRegister(3), PADDED_AT + 8)];

/// The answer's length.
const LENGTH_AT: i16 = PADDED_AT + 16;

/// Code that makes the answer, with all values where they are kept. In the end `r0` is the verdict: that it
/// is answered; that it passes, if there is no room for the answer; that it is dropped, if it cannot be cut.
pub(super) fn answer(lowering: &StepLowering<'_>, plan: &Answer) -> Result<Vec<BpfInsn>, HandlerError> {
    let kept: Vec<_> = OVERWRITTEN
        .into_iter()
        .filter(|(register, _)| {
            plan.values().any(|value| lowering.places[value.0 as usize] == ValuePlace::Register(*register))
        })
        .collect();
    let verdict = |verdict| BpfInsn::Alu64(BpfAlu::Mov, R0, number(verdict as i32));
    let pass = [verdict(Verdict::Pass)];
    let answered = [verdict(Verdict::Answer), jump(&pass)];
    let cut = cut(slots(&answered) + slots(&pass));
    let mut written: Vec<BpfInsn> =
        kept.iter().map(|(register, at)| BpfInsn::Load(8, *register, FRAME, *at)).collect();
    written.extend(fields(lowering, plan)?);
    let end = slots(&written) + slots(&cut) + slots(&answered);

    let mut code: Vec<BpfInsn> =
        kept.iter().map(|(register, at)| BpfInsn::Store(8, FRAME, *at, *register)).collect();
    code.extend(bounds());
    code.extend(length(lowering, plan));
    code.extend(grow(plan.head_bytes as i32, end));
    code.extend(written);
    code.extend(cut);
    code.extend(answered);
    code.extend(pass);
    Ok(code)
}

fn number(value: i32) -> BpfOperand {
    BpfOperand::Immediate(value)
}

/// Over that code.
fn jump(over: &[BpfInsn]) -> BpfInsn {
    BpfInsn::Jump(BpfJump::Always, R0, number(0), slots(over))
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

/// The answer's length in `r0`, and where it is kept: what the handler says, or the frame's, of which `r4` is
/// the length.
fn length(lowering: &StepLowering<'_>, plan: &Answer) -> Vec<BpfInsn> {
    let mut code = Vec::new();
    let mut own = StepLowering { line: lowering.line, places: lowering.places, code: &mut code };
    match plan.length {
        Some(length) => own.fetch(R0, length),
        None => own.code.push(BpfInsn::Alu64(BpfAlu::Mov, R0, BpfOperand::Register(R4))),
    }
    code.push(BpfInsn::Store(8, FRAME, LENGTH_AT, R0));
    code
}

/// Makes the frame as long as the answer, which is `r0`, and what a store may write beyond, but not longer
/// than all fields are. `end` is how far behind this the code lies for want of room.
fn grow(head: i32, end: i16) -> Vec<BpfInsn> {
    let register = BpfOperand::Register;
    let grow = [
        BpfInsn::Alu64(BpfAlu::Mov, BpfRegister(2), register(R0)),
        BpfInsn::Alu64(BpfAlu::Sub, BpfRegister(2), register(R4)),
        BpfInsn::Load(8, R1, FRAME, CONTEXT_AT),
        BpfInsn::Call(ADJUST_TAIL),
    ];
    let again = bounds();
    let whole = [BpfInsn::Alu64(BpfAlu::Mov, R0, number(head))];
    let mut code = vec![
        // The sum must not wrap.
        BpfInsn::Jump(BpfJump::Greater, R0, number(head), 2),
        BpfInsn::Alu64(BpfAlu::Add, R0, number(SLACK)),
        BpfInsn::Jump(BpfJump::Less, R0, number(head), slots(&whole)),
    ];
    code.extend(whole);
    code.push(BpfInsn::Jump(BpfJump::GreaterOrEqual, R4, register(R0), slots(&grow) + 1 + slots(&again)));
    code.extend(grow);
    code.push(BpfInsn::Jump(BpfJump::NotEqual, R0, number(0), slots(&again) + end));
    code.extend(again);
    code
}

/// The fields over the frame's first bytes, as far as it reaches.
fn fields(lowering: &StepLowering<'_>, plan: &Answer) -> Result<Vec<BpfInsn>, HandlerError> {
    let mut stores: Vec<Vec<BpfInsn>> = Vec::new();
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
                    stores.push(store(at, width, vec![BpfInsn::Load64(R0, u64::from_le_bytes(word))]));
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
                let mut code = Vec::new();
                let mut own = StepLowering { line: lowering.line, places: lowering.places, code: &mut code };
                own.fetch(R0, *value);
                if gauge.endian == Endian::Big && bytes > 1 {
                    code.push(BpfInsn::ToBigEndian(R0, gauge.ty.bits() as u8));
                }
                stores.push(store(at, bytes, code));
                at += bytes as i16;
            }
        }
    }
    // Each leads over all that follow, if the frame ends before it does.
    let mut left: i16 = stores.iter().map(|store| slots(store)).sum();
    for store in &mut stores {
        left -= slots(store);
        if let Some(BpfInsn::Jump(.., over)) = store.get_mut(2) {
            *over += left;
        }
    }
    Ok(stores.concat())
}

/// What `value` leaves in `r0`, at `at` of the frame, if it reaches so far; the jump of which this is decided
/// is the third instruction.
fn store(at: i16, width: usize, value: Vec<BpfInsn>) -> Vec<BpfInsn> {
    let stored = [BpfInsn::Store(width as u8, DATA, at, R0)];
    let beyond = slots(&value) + slots(&stored);
    let mut code = vec![
        BpfInsn::Alu64(BpfAlu::Mov, R1, BpfOperand::Register(DATA)),
        BpfInsn::Alu64(BpfAlu::Add, R1, number(i32::from(at) + width as i32)),
        BpfInsn::Jump(BpfJump::Greater, R1, BpfOperand::Register(DATA_END), beyond),
    ];
    code.extend(value);
    code.extend(stored);
    code
}

/// Cuts the frame to the answer's length, if it is longer. `ends` are the slots behind this.
fn cut(ends: i16) -> Vec<BpfInsn> {
    let register = BpfOperand::Register;
    let failed = [
        BpfInsn::Alu64(BpfAlu::Mov, R0, number(Verdict::Drop as i32)),
        BpfInsn::Jump(BpfJump::Always, R0, number(0), ends),
    ];
    let adjust = [
        BpfInsn::Alu64(BpfAlu::Sub, R0, register(R4)),
        BpfInsn::Alu64(BpfAlu::Mov, BpfRegister(2), register(R0)),
        BpfInsn::Load(8, R1, FRAME, CONTEXT_AT),
        BpfInsn::Call(ADJUST_TAIL),
        BpfInsn::Jump(BpfJump::Equal, R0, number(0), slots(&failed)),
    ];
    let mut code = vec![
        BpfInsn::Alu64(BpfAlu::Mov, R4, register(DATA_END)),
        BpfInsn::Alu64(BpfAlu::Sub, R4, register(DATA)),
        BpfInsn::Load(8, R0, FRAME, LENGTH_AT),
        BpfInsn::Jump(BpfJump::GreaterOrEqual, R0, register(R4), slots(&adjust) + slots(&failed)),
    ];
    code.extend(adjust);
    code.extend(failed);
    code
}

/// Slots of these, as a jump counts them.
pub(super) fn slots(code: &[BpfInsn]) -> i16 {
    code.iter().map(|insn| insn.slots() as i16).sum()
}

impl Answer {
    /// The values that it is made of.
    pub(crate) fn values(&self) -> impl Iterator<Item = Value> + '_ {
        let of_field = |field: &AnswerField| match field {
            AnswerField::Number { value, .. } => Some(*value),
            AnswerField::Keep(_) | AnswerField::Bytes(_) => None,
        };
        self.fields.iter().filter_map(of_field).chain(self.length)
    }
}
