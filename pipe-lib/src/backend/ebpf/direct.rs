//! A handler as machine code of this process: its eBPF instructions one by one, each one or two of x86-64.
//! They are straight-line and their values have places already, so there is nothing left to choose.
//!
//! ```text
//!   r0  r1  r2  r3 r4 r5  r6 (frame) r8  r9   r10 (stack)
//!   rax rcx rdx r8 r9 r10 rdi        r11 rbx  rsp + 512
//! ```
//!
//! `rsi` points to where results go. Counts of shifts are in `r1`, which is where x86-64 wants them.

use super::insn::{BpfAlu, BpfInsn, BpfOperand, BpfRegister, FRAME};
use super::lower::{R0, R1, StepLowering};
use super::places;
use crate::code::CodeMemory;
use crate::handler::StraightLine;
use crate::ir::Value;
use std::fmt;

/// Bytes of stack that values may have.
const STACK_BYTES: i32 = 512;

const RAX: u8 = 0;
const RSP: u8 = 4;
const RESULTS: u8 = 6;

/// Machine code that gives the results of a handler.
pub(crate) struct HandlerCode {
    code: CodeMemory,
    /// Bytes of a frame that it reads, and values that it may write.
    prefix_bytes: usize,
    values: usize,
}

impl HandlerCode {
    /// Code that computes `results` of the line; `None` if a step has no instructions, or the machine gives
    /// no memory for code: then it is interpreted.
    pub(crate) fn new(line: &StraightLine, results: &[Value]) -> Option<HandlerCode> {
        let places = places::places(line, results, 0)?;
        let mut insns = Vec::new();
        let mut lowering = StepLowering { line, places: &places, code: &mut insns };
        for (index, step) in line.steps.iter().enumerate() {
            lowering.step(Value(index as u32), *step).ok()?;
        }
        let mut code = vec![0x53]; // push rbx
        operate_immediate(&mut code, 5, RSP, STACK_BYTES);
        for insn in std::mem::take(lowering.code) {
            translate(&mut code, insn)?;
        }
        for result in results {
            lowering.fetch(R0, *result);
            for insn in std::mem::take(lowering.code) {
                translate(&mut code, insn)?;
            }
            memory(&mut code, true, &[0x89], RAX, RESULTS, 8 * result.0 as i32);
        }
        operate_immediate(&mut code, 0, RSP, STACK_BYTES);
        code.extend([0x5b, 0xc3]); // pop rbx; ret
        let code = CodeMemory::new(&code).ok()?;
        Some(HandlerCode { code, prefix_bytes: line.prefix_bytes(), values: line.steps.len() })
    }

    /// Puts the results for a frame in their places among `values`, of which there are as many as steps; the
    /// rest is as it was.
    ///
    /// # Panics
    /// If the frame is shorter than what is looked at.
    pub(crate) fn run(&self, frame: &[u8], values: &mut Vec<u64>) {
        assert!(frame.len() >= self.prefix_bytes);
        values.resize(self.values, 0);
        // SAFETY: the code is that of a function of this type, which reads `prefix_bytes` from the first
        // pointer and writes to places below `values` behind the second; both are there. It keeps what its
        // caller wants kept.
        unsafe {
            let run: unsafe extern "sysv64" fn(*const u8, *mut u64) =
                std::mem::transmute(self.code.address(0));
            run(frame.as_ptr(), values.as_mut_ptr());
        }
    }
}

impl fmt::Debug for HandlerCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandlerCode({} bytes)", self.code.bytes().len())
    }
}

/// Which register is which.
fn register(bpf: BpfRegister) -> Option<u8> {
    Some(match bpf.0 {
        0 => RAX,
        1 => 1,
        2 => 2,
        3 => 8,
        4 => 9,
        5 => 10,
        6 => 7,
        8 => 11,
        9 => 3,
        _ => return None,
    })
}

fn translate(code: &mut Vec<u8>, insn: BpfInsn) -> Option<()> {
    match insn {
        BpfInsn::Alu64(BpfAlu::Neg, to, _) => registers(code, true, &[0xf7], 3, register(to)?),
        BpfInsn::Alu64(op, to, BpfOperand::Register(from)) => {
            let (to, from) = (register(to)?, register(from)?);
            match op {
                BpfAlu::Mul => registers(code, true, &[0x0f, 0xaf], to, from),
                BpfAlu::Lsh | BpfAlu::Rsh | BpfAlu::Arsh if Some(from) == register(R1) => {
                    registers(code, true, &[0xd3], shift(op), to);
                }
                _ => registers(code, true, &[opcode(op)?], from, to),
            }
        }
        BpfInsn::Alu64(op, to, BpfOperand::Immediate(value)) => {
            let to = register(to)?;
            match op {
                BpfAlu::Mov => {
                    registers(code, true, &[0xc7], 0, to);
                    code.extend(value.to_le_bytes());
                }
                BpfAlu::Mul => {
                    registers(code, true, &[0x69], to, to);
                    code.extend(value.to_le_bytes());
                }
                BpfAlu::Lsh | BpfAlu::Rsh | BpfAlu::Arsh => {
                    registers(code, true, &[0xc1], shift(op), to);
                    code.push(value as u8);
                }
                // The number of the operation is in the opcode of its form with two registers.
                _ => operate_immediate(code, opcode(op)? >> 3, to, value),
            }
        }
        BpfInsn::Truncate32(to, from) => registers(code, false, &[0x89], register(from)?, register(to)?),
        BpfInsn::ToBigEndian(to, bits) => {
            let to = register(to)?;
            if bits == 16 {
                // ror to16, 8
                code.push(0x66);
                registers(code, false, &[0xc1], 1, to);
                code.push(8);
                registers(code, false, &[0x0f, 0xb7], to, to);
            } else {
                prefix(code, bits == 64, 0, to);
                code.extend([0x0f, 0xc8 + (to & 7)]);
            }
        }
        BpfInsn::Load64(to, value) => {
            let to = register(to)?;
            prefix(code, true, 0, to);
            code.push(0xb8 + (to & 7));
            code.extend(value.to_le_bytes());
        }
        BpfInsn::Load(bytes, to, base, offset) => {
            let (base, offset) = place(base, offset)?;
            let opcode: &[u8] = match bytes {
                1 => &[0x0f, 0xb6],
                2 => &[0x0f, 0xb7],
                _ => &[0x8b],
            };
            memory(code, bytes == 8, opcode, register(to)?, base, offset);
        }
        BpfInsn::Store(8, base, offset, from) => {
            let (base, offset) = place(base, offset)?;
            memory(code, true, &[0x89], register(from)?, base, offset);
        }
        _ => return None,
    }
    Some(())
}

/// Where in memory something is.
fn place(base: BpfRegister, offset: i16) -> Option<(u8, i32)> {
    if base == FRAME {
        Some((RSP, STACK_BYTES + i32::from(offset)))
    } else {
        Some((register(base)?, offset.into()))
    }
}

/// The opcode of an operation that writes its second register.
fn opcode(op: BpfAlu) -> Option<u8> {
    Some(match op {
        BpfAlu::Add => 0x01,
        BpfAlu::Or => 0x09,
        BpfAlu::And => 0x21,
        BpfAlu::Sub => 0x29,
        BpfAlu::Xor => 0x31,
        BpfAlu::Mov => 0x89,
        _ => return None,
    })
}

/// The number of a shift among those that share an opcode.
fn shift(op: BpfAlu) -> u8 {
    match op {
        BpfAlu::Lsh => 4,
        BpfAlu::Rsh => 5,
        _ => 7,
    }
}

/// A prefix, where one is needed: of 64 bits, and the high bits of both registers.
fn prefix(code: &mut Vec<u8>, wide: bool, register: u8, other: u8) {
    let prefix = 0x40 | u8::from(wide) << 3 | register >> 3 << 2 | other >> 3;
    if prefix != 0x40 {
        code.push(prefix);
    }
}

/// An instruction on two registers; the second is the one that x86-64 calls r/m.
fn registers(code: &mut Vec<u8>, wide: bool, opcode: &[u8], register: u8, other: u8) {
    prefix(code, wide, register, other);
    code.extend(opcode);
    code.push(0xc0 | (register & 7) << 3 | other & 7);
}

/// An instruction on a register and memory.
fn memory(code: &mut Vec<u8>, wide: bool, opcode: &[u8], register: u8, base: u8, offset: i32) {
    prefix(code, wide, register, base);
    code.extend(opcode);
    code.push(0x80 | (register & 7) << 3 | base & 7);
    if base & 7 == RSP {
        code.push(0x24);
    }
    code.extend(offset.to_le_bytes());
}

/// `to op= value`, of the operations that share opcode 0x81.
fn operate_immediate(code: &mut Vec<u8>, number: u8, to: u8, value: i32) {
    registers(code, true, &[0x81], number, to);
    code.extend(value.to_le_bytes());
}
