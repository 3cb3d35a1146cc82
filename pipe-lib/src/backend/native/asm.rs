//! From instructions to bytes: the pool in front, then the code, encoded once, with forward jumps patched.

use iced_x86::{Code, Encoder, Instruction, OpKind, Register};

use std::ops::Range;

use super::vcode::{CodeLabel, PoolBytes};

/// Machine code with its constants; position independent.
pub(super) struct Image {
    /// Pool, then code.
    pub(super) bytes: Vec<u8>,
    /// Offset of the first instruction.
    pub(super) entry: usize,
    /// Offsets of the stores that [`Image::streaming`] changes.
    streamed: Vec<usize>,
    /// Whether its loop reads what it has stored, so that it must not be changed so.
    pub(super) reads_back: bool,
}

impl Image {
    /// Appends to `code`, at a multiple of 64 bytes; gives where the instructions begin and end.
    pub(super) fn place(&self, code: &mut Vec<u8>) -> Range<usize> {
        code.resize(code.len().next_multiple_of(64), 0);
        let at = code.len();
        code.extend_from_slice(&self.bytes);
        at + self.entry..code.len()
    }

    /// The same code with whole vectors of the stream stored around the caches, to a destination that is
    /// aligned to a vector. The instruction for that has the same length and operands, so its bytes are
    /// patched in place.
    ///
    /// # Errors
    /// An instruction that is not the store expected: a mistake of the frame.
    pub(super) fn streaming(&self) -> Result<Image, String> {
        let mut bytes = self.bytes.clone();
        for &at in &self.streamed {
            // VMOVDQU is F3 0F 7F, in EVEX with W1 for lanes of 64 bits; VMOVNTDQ is 66 0F E7, W0. Of the
            // prefixes, W is bit 7 of the byte with `pp`, in its two lowest bits (Intel's manual, volume 2,
            // 2.3.5 and 2.7.1).
            let (prefix, opcode) = match bytes[at] {
                0x62 => (at + 2, at + 4),
                0xc4 => (at + 2, at + 3),
                0xc5 => (at + 1, at + 2),
                _ => return Err("a store of the stream without a vector prefix".to_owned()),
            };
            if bytes[prefix] & 3 != 2 || bytes[opcode] != 0x7f {
                return Err("a store of the stream that is no VMOVDQU".to_owned());
            }
            let kept = if bytes[at] == 0xc5 { 0xfc } else { 0x7c };
            bytes[prefix] = bytes[prefix] & kept | 1;
            bytes[opcode] = 0xe7;
        }
        Ok(Image { bytes, entry: self.entry, streamed: Vec::new(), reads_back: false })
    }
}

pub(super) struct Assembler {
    encoder: Encoder,
    pool: Vec<u8>,
    entries: Vec<usize>,
    offset: usize,
    /// Offset of the instruction encoded last.
    last: usize,
    bound: Vec<Option<usize>>,
    fixups: Vec<(usize, CodeLabel)>,
    streamed: Vec<usize>,
}

impl Assembler {
    /// Lays out the pool; vectors stand at multiples of 64 bytes.
    pub(super) fn new(pool: &[PoolBytes], labels: usize) -> Assembler {
        let mut bytes = Vec::with_capacity(pool.len() * 64);
        let mut entries = Vec::with_capacity(pool.len());
        for entry in pool {
            bytes.resize(bytes.len().next_multiple_of(64), 0);
            entries.push(bytes.len());
            bytes.extend_from_slice(entry);
        }
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        let mut encoder = Encoder::new(64);
        encoder.set_buffer(Vec::with_capacity(4096));
        Assembler {
            encoder,
            offset: bytes.len(),
            last: bytes.len(),
            pool: bytes,
            entries,
            bound: vec![None; labels],
            fixups: Vec::new(),
            streamed: Vec::new(),
        }
    }

    /// Offset of a pool entry from the start of the image.
    pub(super) fn pool_offset(&self, entry: u32) -> u64 {
        self.entries[entry as usize] as u64
    }

    pub(super) fn emit(&mut self, inst: &Instruction) -> Result<(), String> {
        self.last = self.offset;
        self.offset += self
            .encoder
            .encode(inst, self.offset as u64)
            .map_err(|error| format!("{:?}: {error}", inst.code()))?;
        Ok(())
    }

    /// Takes down that the instruction encoded last stores a whole vector of the stream.
    pub(super) fn streamed(&mut self) {
        self.streamed.push(self.last);
    }

    pub(super) fn bind(&mut self, label: CodeLabel) {
        self.bound[label.0 as usize] = Some(self.offset);
    }

    /// Pads with long no-ops to a multiple of 64 bytes.
    pub(super) fn align(&mut self) {
        const NOP9: [u8; 9] = [0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];
        const NOPS: [&[u8]; 9] = [
            &[0x90],
            &[0x66, 0x90],
            &[0x0f, 0x1f, 0],
            &[0x0f, 0x1f, 0x40, 0],
            &[0x0f, 0x1f, 0x44, 0, 0],
            &[0x66, 0x0f, 0x1f, 0x44, 0, 0],
            &[0x0f, 0x1f, 0x80, 0, 0, 0, 0],
            &[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
            &NOP9,
        ];
        let mut rest = self.offset.next_multiple_of(64) - self.offset;
        self.offset += rest;
        while rest > 0 {
            let nop = NOPS[rest.min(9) - 1];
            nop.iter().for_each(|byte| self.encoder.write_u8(*byte));
            rest -= nop.len();
        }
    }

    /// A jump; `code` is a `rel32` form, and a backward jump within reach becomes short by itself.
    pub(super) fn jump(&mut self, code: Code, label: CodeLabel) -> Result<(), String> {
        let target = self.bound[label.0 as usize];
        let mut inst = Instruction::default();
        inst.set_code(code);
        if let Some(target) = target
            && self.offset - target < 120
        {
            inst.as_short_branch();
        }
        inst.set_op0_kind(OpKind::NearBranch64);
        inst.set_near_branch64(target.unwrap_or(self.offset) as u64);
        self.emit(&inst)?;
        if target.is_none() {
            self.fixups.push((self.offset, label));
        }
        Ok(())
    }

    /// `tables` are entries of the pool that hold distances to labels.
    pub(super) fn finish(mut self, tables: &[(u32, Vec<CodeLabel>)]) -> Result<Image, String> {
        let mut bytes = self.pool;
        for (entry, labels) in tables {
            let start = self.entries[*entry as usize];
            for (index, label) in labels.iter().enumerate() {
                let target = self.bound[label.0 as usize].ok_or("a label was never bound")?;
                let distance = (target - start) as i32;
                let at = start + 4 * index;
                bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
            }
        }
        let entry = bytes.len();
        bytes.append(&mut self.encoder.take_buffer());
        for (end, label) in self.fixups {
            let target = self.bound[label.0 as usize].ok_or("a label was never bound")?;
            let rel = (target as i64 - end as i64) as i32;
            bytes[end - 4..end].copy_from_slice(&rel.to_le_bytes());
        }
        Ok(Image { bytes, entry, streamed: self.streamed, reads_back: false })
    }
}

/// `op a, b` on general registers.
pub(super) fn rr(code: Code, a: Register, b: Register) -> Instruction {
    let mut inst = Instruction::default();
    inst.set_code(code);
    inst.set_op0_register(a);
    inst.set_op1_register(b);
    inst
}

/// `op a, b, c` on general registers.
pub(super) fn rrr(code: Code, a: Register, b: Register, c: Register) -> Instruction {
    let mut inst = rr(code, a, b);
    inst.set_op2_register(c);
    inst
}

/// `op a`.
pub(super) fn r(code: Code, a: Register) -> Instruction {
    let mut inst = Instruction::default();
    inst.set_code(code);
    inst.set_op0_register(a);
    inst
}

/// `op a, imm` with an 8-bit or sign-extended 32-bit immediate, as `code` says.
pub(super) fn ri(code: Code, a: Register, imm: i32) -> Instruction {
    // The operand's kind depends on the code; iced's own constructor knows it.
    Instruction::with2(code, a, imm).unwrap_or_default()
}

/// `op a, b, imm8`.
pub(super) fn rri(code: Code, a: Register, b: Register, imm: i32) -> Instruction {
    Instruction::with3(code, a, b, imm).unwrap_or_default()
}

/// `mov a, imm64`.
pub(super) fn mov_imm(a: Register, imm: u64) -> Instruction {
    Instruction::with2(Code::Mov_r64_imm64, a, imm).unwrap_or_default()
}

/// `op a, [base + index * scale + disp]`.
pub(super) fn rm(code: Code, a: Register, base: Register, index: Register, disp: i32) -> Instruction {
    let mut inst = Instruction::default();
    inst.set_code(code);
    inst.set_op0_register(a);
    inst.set_op1_kind(OpKind::Memory);
    set_memory(&mut inst, base, index, 1, disp);
    inst
}

/// `op [base + index + disp], a`.
pub(super) fn mr(code: Code, base: Register, index: Register, disp: i32, a: Register) -> Instruction {
    let mut inst = Instruction::default();
    inst.set_code(code);
    inst.set_op0_kind(OpKind::Memory);
    set_memory(&mut inst, base, index, 1, disp);
    inst.set_op1_register(a);
    inst
}

pub(super) fn set_memory(inst: &mut Instruction, base: Register, index: Register, scale: u8, disp: i32) {
    inst.set_memory_base(base);
    inst.set_memory_index(index);
    inst.set_memory_index_scale(u32::from(scale));
    inst.set_memory_displacement64(i64::from(disp) as u64);
    inst.set_memory_displ_size(if disp == 0 { 0 } else { 1 });
}
