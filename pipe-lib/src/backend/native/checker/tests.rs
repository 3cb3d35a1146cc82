//! Allocations broken on purpose: whatever is wrong with one instruction of a function, the checker sees it.

use super::{Trace, check, number};
use crate::Library;
use crate::analyse::Analysed;
use crate::backend::native::frame::{self, FunctionShape};
use crate::backend::native::vcode::{Builder, CodeItem, MachInst, Mem, Operand, RegKind, VReg};
use crate::backend::native::{regalloc, targets};
use crate::features::machines;
use crate::plan::wide::WidePlan;
use crate::testing::Rng;
use iced_x86::{Code, Instruction, OpKind, Register};
use std::collections::BTreeMap;

/// Sums, choices, scans, CRCs, products, gathers; in few registers and in many.
const PIPELINES: [&str; 8] = [
    "inet_cksum | byteswap32 | xor32(key=0xdeadbeef)",
    "crc32c | rot13 | newline_count",
    "adler32 | undelta8",
    "fletcher64 | delta32",
    "min_max_u8 | count_byte(b=7) | crc64_nvme",
    "paletted",
    "hashed | crc32 | inet_cksum",
    // More constants than registers, most of them in the loop.
    "inet_cksum | xor32(key=7) | byteswap32 | crc32c | adler32",
];

const MORE: &str = "
    table palette: u32 = [ 3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4, 3, 3, 8, 3, 2, 7, 9, 5 ]
    pipe paletted : u32le tail pass { state s: u32; in x; and i, x, 31; lookup y, palette, i; add s, s, y; out y; export s }
    pipe hashed : u8 { state h: u32 = 7; in x; zext w, x; mul h, h, 31; add h, h, w; export h }
";

/// The functions of [`PIPELINES`], before and after allocation.
fn functions() -> Vec<(String, Builder, Trace)> {
    let mut library = Library::standard();
    library.load("more.pipe", MORE).unwrap();
    let sets = [machines::AVX512_VPCLMUL, machines::AVX2_VPCLMUL];
    let mut functions = Vec::new();
    for text in PIPELINES {
        let pipeline = library.pipeline(text).unwrap();
        let stages = Analysed::all(pipeline.composition().stages.iter().map(|stage| &stage.pipe));
        for features in sets {
            let Ok(plan) = WidePlan::new(&stages, &targets(features)) else { continue };
            let features = plan.target.features;
            for unroll in [2, 1] {
                let isa = features.isa().unwrap();
                let sets = plan.sets.min(unroll);
                let shape = FunctionShape { unroll, sets, ..FunctionShape::of(&plan, isa) };
                let Ok(code) = frame::virtual_code(&plan.stages, shape) else { continue };
                let Ok(trace) = regalloc::traced(&code) else { continue };
                functions.push((format!("{text}, {isa:?}, {unroll}"), code, trace));
            }
        }
    }
    functions
}

/// One way to break the code of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// A source is a register that nobody wrote.
    UnwrittenSource,
    /// A source is the register of what was computed last.
    OtherSource,
    /// The result goes to another register.
    OtherResult,
    /// The result goes to the register of a value that is used further on.
    Clobbered,
    /// A source is read, or the result written, in another width.
    OtherWidth,
    /// The old value of the destination was not brought there.
    OldValueMissing,
    /// What is added to load a constant or to copy a register is added where nobody asked for it.
    StrayLoad,
    /// A constant comes from another place of the pool.
    OtherConstant,
    /// Another mask, or none.
    OtherMask,
    /// Lanes under the mask are zeroed rather than kept, or the other way round.
    OtherMasking,
    /// Another place in memory.
    OtherMemory,
    /// Another number in the instruction.
    OtherNumber,
    /// The instruction is not there.
    LeftOut,
    /// A gather whose result lies in the register of its indices.
    SharedWithSource,
}

const FAULTS: [Fault; 14] = [
    Fault::UnwrittenSource,
    Fault::OtherSource,
    Fault::OtherResult,
    Fault::Clobbered,
    Fault::OtherWidth,
    Fault::OldValueMissing,
    Fault::StrayLoad,
    Fault::OtherConstant,
    Fault::OtherMask,
    Fault::OtherMasking,
    Fault::OtherMemory,
    Fault::OtherNumber,
    Fault::LeftOut,
    Fault::SharedWithSource,
];

/// A function that is being broken.
struct Attack<'a> {
    b: &'a Builder,
    trace: &'a Trace,
    /// Vector registers that no instruction names.
    unused: Option<Register>,
}

impl Attack<'_> {
    /// The virtual instruction that the one at `at` is the code of, if it is what was asked for and not
    /// added.
    fn asked_for(&self, at: usize) -> Option<&MachInst> {
        let (item, _) = self.trace.insts[at];
        let is_last = self.trace.insts.get(at + 1).is_none_or(|(next, _)| *next != item);
        match &self.b.items[item] {
            CodeItem::Inst(inst) if is_last => Some(inst),
            _ => None,
        }
    }

    fn is_constant(&self, reg: VReg) -> bool {
        matches!(self.b.kinds[reg.0 as usize], RegKind::Const(_))
    }

    /// Positions of vectors that the instruction at `at` reads, with whose they are.
    fn sources(&self, at: usize) -> Vec<(usize, VReg)> {
        let Some(inst) = self.asked_for(at) else { return Vec::new() };
        let out = &self.trace.insts[at].1;
        let first = usize::from(inst.def.is_some());
        let vector = |position: &usize| number(out.op_register(*position as u32)).is_some_and(|n| n < 32);
        let whose = |position: usize| match inst.ops[position] {
            Operand::Reg(reg, _) => Some((position, reg)),
            _ => None,
        };
        (first..4).filter(vector).filter_map(whose).collect()
    }

    /// The trace with the instruction at `at` broken in that way; `None` if it cannot be, or would be no
    /// fault.
    fn broken(&self, fault: Fault, at: usize, rng: &mut Rng) -> Option<Trace> {
        let inst = self.asked_for(at)?;
        let mut trace = self.trace.clone();
        let before = at.checked_sub(1).map(|before| self.trace.insts[before]);
        let out = &mut trace.insts[at].1;
        let sources = self.sources(at);
        let is_vector = |register: Register| number(register).is_some_and(|number| number < 32);
        match fault {
            Fault::UnwrittenSource => {
                let (position, _) = *sources.first()?;
                let register = as_wide(self.unused?, out.op_register(position as u32));
                out.set_op_register(position as u32, register);
            }
            Fault::OtherSource => {
                // Not what was copied or loaded for this very instruction, which may be the same value.
                if sources.is_empty() {
                    return None;
                }
                let (position, reg) = *rng.pick(&sources);
                let (item, last) = before.filter(|(item, _)| *item != self.trace.insts[at].0)?;
                let CodeItem::Inst(other) = self.b.items[item] else { return None };
                let differs = other.def.is_some_and(|def| def != reg) && is_vector(last.op0_register());
                let register = as_wide(last.op0_register(), out.op_register(position as u32));
                if !differs || register == out.op_register(position as u32) {
                    return None;
                }
                out.set_op_register(position as u32, register);
            }
            Fault::OtherResult => {
                inst.def?;
                let register =
                    as_wide(self.unused.filter(|_| is_vector(out.op0_register()))?, out.op0_register());
                out.set_op0_register(register);
            }
            Fault::Clobbered => {
                inst.def?;
                let next = self.sources(at + 1);
                let (position, reg) = *next.first()?;
                let register = self.trace.insts[at + 1].1.op_register(position as u32);
                if inst.def == Some(reg) || !is_vector(out.op0_register()) {
                    return None;
                }
                out.set_op0_register(as_wide(register, out.op0_register()));
            }
            Fault::OtherWidth => {
                let position = (0..4).find(|at| is_vector(out.op_register(*at)))?;
                let register = out.op_register(position);
                let narrow = regalloc::register(super::Width::X, number(register)? as u8);
                let wide = regalloc::register(super::Width::Y, number(register)? as u8);
                out.set_op_register(position, if narrow == register { wide } else { narrow });
            }
            Fault::OldValueMissing => {
                inst.tied?;
                let added = before.filter(|(item, _)| *item == self.trace.insts[at].0)?.1;
                if added.op0_register() != out.op0_register().full_register() {
                    return None;
                }
                trace.insts.remove(at - 1);
            }
            Fault::StrayLoad => {
                let (position, reg) = *sources.first()?;
                let register = out.op_register(position as u32);
                let item = trace.insts[at].0;
                let load = self.trace.insts.iter().map(|(_, inst)| inst).find(|inst| {
                    let is_load = matches!(
                        inst.code(),
                        Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512 | Code::VEX_Vmovdqu_ymm_ymmm256
                    );
                    is_load && inst.memory_base() == Register::RIP
                })?;
                if self.is_constant(reg) {
                    return None;
                }
                let mut load = *load;
                load.set_op0_register(as_wide(register, load.op0_register()));
                trace.insts.insert(at, (item, load));
            }
            Fault::OtherConstant => {
                let memory = (0..out.op_count()).any(|at| out.op_kind(at) == OpKind::Memory);
                if !memory || out.memory_base() != Register::RIP {
                    return None;
                }
                out.set_memory_displacement64(out.memory_displacement64() + 64);
            }
            Fault::OtherMask => {
                inst.mask?;
                let register = match out.op_mask() {
                    Register::K7 => Register::None,
                    _ => Register::K7,
                };
                out.set_op_mask(register);
            }
            Fault::OtherMasking => {
                inst.mask?;
                out.set_zeroing_masking(!out.zeroing_masking());
            }
            Fault::OtherMemory => {
                let is_place = |op: &Operand| matches!(op, Operand::Mem(Mem::Base { .. }));
                inst.ops.iter().find(|op| is_place(op))?;
                out.set_memory_displacement64(out.memory_displacement64().wrapping_add(1));
            }
            Fault::OtherNumber => {
                let imm = inst.ops.iter().position(|op| matches!(op, Operand::Imm(_)))?;
                debug_assert_eq!(out.op_kind(imm as u32), OpKind::Immediate8);
                out.set_immediate8(out.immediate8() ^ 1);
            }
            Fault::LeftOut => {
                trace.insts.remove(at);
                // What was added for it goes with it.
                let item = self.trace.insts[at].0;
                trace.insts.retain(|(of, _)| *of != item);
            }
            Fault::SharedWithSource => {
                let index = out.memory_index();
                if !inst.early_clobber || !is_vector(index) {
                    return None;
                }
                out.set_op0_register(as_wide(index, out.op0_register()));
            }
        }
        Some(trace)
    }
}

/// The register of the same number as `register`, as wide as `other`.
fn as_wide(register: Register, other: Register) -> Register {
    let first = if other >= Register::ZMM0 {
        Register::ZMM0
    } else if other >= Register::YMM0 {
        Register::YMM0
    } else {
        Register::XMM0
    };
    first + number(register).unwrap_or(0) as u32 % 32
}

#[test]
fn whatever_is_wrong_with_an_instruction_is_seen() {
    let mut rng = Rng::new(11);
    let mut seen: BTreeMap<Fault, usize> = BTreeMap::new();
    for (name, b, trace) in functions() {
        assert_eq!(check(&b, &trace), Ok(()), "{name}");
        let named = |inst: &Instruction| -> Vec<Register> {
            (0..inst.op_count()).map(|at| inst.op_register(at)).chain([inst.memory_index()]).collect()
        };
        let all: Vec<usize> =
            trace.insts.iter().flat_map(|(_, inst)| named(inst)).filter_map(number).collect();
        let count = if b.isa.registers() == 32 { 32 } else { 16 };
        let unused = (0..count).find(|at| !all.contains(at)).map(|at| Register::XMM0 + at as u32);
        let attack = Attack { b: &b, trace: &trace, unused };
        // Each instruction in few ways, which makes many of all; and in those that few instructions have.
        for at in 0..trace.insts.len() {
            let drawn = [(); 4].map(|()| *rng.pick(&FAULTS));
            for fault in drawn.into_iter().chain([Fault::SharedWithSource, Fault::OldValueMissing]) {
                let Some(broken) = attack.broken(fault, at, &mut rng) else { continue };
                assert!(
                    check(&b, &broken).is_err(),
                    "{name}: nobody sees {fault:?} at {at}: {:?} as {:?}",
                    b.items[trace.insts[at].0],
                    broken.insts.get(at).map(|(_, inst)| inst.code()),
                );
                *seen.entry(fault).or_default() += 1;
            }
        }
    }
    for fault in FAULTS {
        let least = if matches!(fault, Fault::SharedWithSource | Fault::OldValueMissing) { 3 } else { 20 };
        assert!(seen.get(&fault).is_some_and(|count| *count >= least), "{fault:?}: {seen:?}");
    }
}
