//! Whether allocated code still says what the virtual code said: a replay of both, as regalloc2's checker
//! does it.
//!
//! [`Trace`] has the instructions that the allocator gave to the encoder, and for which item of the function.
//! The replay keeps for every physical register the virtual one whose value it holds, by what the
//! instructions before wrote, not by what the allocator thinks. Then each instruction must find each virtual
//! register that it names where its physical operand is, and every memory operand as the function has it.
//! Where ways meet, a register holds what it holds on all of them. Of a loop, what holds at its head is
//! what has a register of its own for the whole function (temporaries are forgotten there), and each jump
//! back must bring all of that with it.
//!
//! Debug builds check every function that they make.

#[cfg(test)]
mod tests;

use super::isa::Isa;
use super::regalloc::register;
use super::vcode::{Builder, CodeItem, CodeLabel, MachInst, Mem, Operand, RegKind, VReg, Width};
use iced_x86::{Code, Instruction, OpKind, Register};
use std::collections::{HashMap, HashSet};

/// The instructions of a function, as they were given to the encoder.
#[derive(Clone, Default)]
pub(super) struct Trace {
    /// Index of the item that an instruction belongs to.
    pub(super) insts: Vec<(usize, Instruction)>,
    /// Offsets of the entries of the pool.
    pub(super) pool: Vec<u64>,
}

/// Vector registers 0 to 31, then mask registers.
const REGISTERS: usize = 40;

/// The number of a vector or mask register, whatever part of it is named.
fn number(register: Register) -> Option<usize> {
    let register = register as u32;
    let within = |first: Register, count: u32| {
        register.checked_sub(first as u32).filter(|at| *at < count).map(|at| at as usize)
    };
    within(Register::XMM0, 32)
        .or_else(|| within(Register::YMM0, 32))
        .or_else(|| within(Register::ZMM0, 32))
        .or_else(|| within(Register::K0, 8).map(|at| at + 32))
}

/// The number of a register that is named as wide as that.
fn named(found: Register, width: Width) -> Result<usize, String> {
    let is = |at: &usize| found == register(width, (at % 32) as u8);
    number(found).filter(is).ok_or_else(|| format!("{found:?}, where a register of width {width:?} belongs"))
}

/// Whose value a register holds.
type Held = [Option<VReg>; REGISTERS];

struct Replay<'a> {
    b: &'a Builder,
    trace: &'a Trace,
    held: Held,
    /// Whether the item before goes on to this one.
    falls_through: bool,
    /// What jumps to labels further on bring with them.
    arriving: HashMap<CodeLabel, Held>,
    /// Labels that are jumped to from further on, or from a table.
    heads: HashSet<CodeLabel>,
    /// What those that are bound already rely on.
    relied_on: HashMap<CodeLabel, Held>,
    /// Where a pinned value or a constant with a register is, and nothing else.
    reserved: HashMap<usize, VReg>,
    /// The same when the loop was entered: its constants belong nowhere when it is left.
    before_loop: HashMap<usize, VReg>,
    /// Results for which an instruction on general registers was left out: nobody may define them.
    left_out: HashSet<VReg>,
}

/// Checks a function that was allocated.
///
/// # Errors
/// What does not hold: a mistake of the allocator.
pub(super) fn check(b: &Builder, trace: &Trace) -> Result<(), String> {
    let mut replay = Replay {
        b,
        trace,
        held: [None; REGISTERS],
        falls_through: true,
        arriving: HashMap::new(),
        heads: heads(b),
        relied_on: HashMap::new(),
        reserved: HashMap::new(),
        before_loop: HashMap::new(),
        left_out: HashSet::new(),
    };
    let mut from = 0;
    for (index, item) in b.items.iter().enumerate() {
        let count = trace.insts[from..].iter().take_while(|(of, _)| *of == index).count();
        let insts = &trace.insts[from..from + count];
        from += count;
        replay.item(item, insts).map_err(|what| {
            let insts: Vec<_> = insts.iter().map(|(_, inst)| inst.code()).collect();
            format!("item {index}, {item:?}, as {insts:?}: {what}")
        })?;
    }
    if from == trace.insts.len() { Ok(()) } else { Err("instructions out of order".to_owned()) }
}

/// What holds on both of two ways.
fn both(one: Held, other: Held) -> Held {
    std::array::from_fn(|at| one[at].filter(|reg| other[at] == Some(*reg)))
}

/// Labels that are jumped to from further on, or from a table: what arrives there is not known at their
/// place.
fn heads(b: &Builder) -> HashSet<CodeLabel> {
    let mut heads: HashSet<CodeLabel> =
        b.jump_tables.iter().flat_map(|(_, labels)| labels.iter().copied()).collect();
    let mut bound = HashSet::new();
    for item in &b.items {
        match item {
            CodeItem::Bind(label) => {
                bound.insert(*label);
            }
            CodeItem::Jump(_, label) if bound.contains(label) => {
                heads.insert(*label);
            }
            _ => {}
        }
    }
    heads
}

impl Replay<'_> {
    fn bind(&mut self, label: CodeLabel) {
        self.held = match (self.falls_through, self.arriving.remove(&label)) {
            (true, Some(arriving)) => both(self.held, arriving),
            (false, Some(arriving)) => arriving,
            (_, None) => self.held,
        };
        self.falls_through = true;
        if self.heads.contains(&label) {
            let reserved = &self.reserved;
            self.held = std::array::from_fn(|at| self.held[at].filter(|reg| reserved.get(&at) == Some(reg)));
            self.relied_on.insert(label, self.held);
        }
    }

    /// What a jump brings to a label: no less than a loop's head relies on, or what is known there.
    fn jump(&mut self, label: CodeLabel) -> Result<(), String> {
        if let Some(head) = self.relied_on.get(&label) {
            return match (0..REGISTERS).find(|at| head[*at].is_some() && head[*at] != self.held[*at]) {
                Some(at) => Err(format!("jumps back with {:?} for {:?} in {at}", self.held[at], head[at])),
                None => Ok(()),
            };
        }
        let held = self.held;
        let meet = |known: &mut Held| *known = both(*known, held);
        self.arriving.entry(label).and_modify(meet).or_insert(held);
        Ok(())
    }

    fn item(&mut self, item: &CodeItem, insts: &[(usize, Instruction)]) -> Result<(), String> {
        match item {
            CodeItem::Inst(inst) => {
                let Some(((_, main), before)) = insts.split_last() else {
                    // Left out since nobody uses the result: whoever does finds nothing.
                    let is_temporary =
                        |reg: VReg| matches!(self.b.kinds[reg.0 as usize], RegKind::Vector | RegKind::Mask);
                    return match inst.def {
                        Some(def) if is_temporary(def) => Ok(()),
                        _ => Err("left out".to_owned()),
                    };
                };
                before.iter().try_for_each(|(_, inst)| self.help(inst))?;
                self.inst(inst, main)
            }
            // General registers are the frame's business; it must leave vectors alone.
            CodeItem::Scalar(raw) | CodeItem::ScalarFor(raw, _) => {
                match (item, insts) {
                    (_, [(_, inst)]) if inst == raw => {}
                    (CodeItem::ScalarFor(_, of), []) => {
                        self.left_out.insert(*of);
                        return Ok(());
                    }
                    _ => return Err("is not what the frame wrote".to_owned()),
                }
                if number(raw.op0_register()).is_some() {
                    return Err("writes a register that the allocator gives out".to_owned());
                }
                self.falls_through &= raw.code() != Code::Retnq;
                // A jump by a table may go to each of its labels.
                if raw.code() == Code::Jmp_rm64 {
                    let b = self.b;
                    let mut labels = b.jump_tables.iter().flat_map(|(_, labels)| labels);
                    labels.try_for_each(|label| self.jump(*label))?;
                    self.falls_through = false;
                }
                Ok(())
            }
            CodeItem::Bind(label) => {
                self.bind(*label);
                Ok(())
            }
            CodeItem::Jump(code, label) => {
                self.jump(*label)?;
                self.falls_through = *code != Code::Jmp_rel32_64;
                Ok(())
            }
            CodeItem::LoadConstants | CodeItem::EnterLoop => {
                if matches!(item, CodeItem::EnterLoop) {
                    self.before_loop = self.reserved.clone();
                }
                for (_, inst) in insts {
                    self.help(inst)?;
                    let at = number(inst.op0_register()).ok_or("a constant outside of a register")?;
                    self.reserve(at, self.held[at].ok_or("loads no constant")?)?;
                }
                Ok(())
            }
            CodeItem::LeaveLoop => {
                let is_pinned = |reg: VReg| {
                    matches!(self.b.kinds[reg.0 as usize], RegKind::PinnedVector | RegKind::PinnedMask)
                };
                self.reserved.retain(|at, reg| is_pinned(*reg) || self.before_loop.get(at) == Some(reg));
                Ok(())
            }
            // Whole registers are cleared or keep their lower halves: nothing is in them that is used further
            // on.
            CodeItem::ClearUpper => {
                self.held[..32].fill(None);
                Ok(())
            }
            CodeItem::Align | CodeItem::Streamed | CodeItem::Weight(_) => Ok(()),
        }
    }

    /// A register that belongs to one value for the whole function.
    fn reserve(&mut self, at: usize, reg: VReg) -> Result<(), String> {
        if let Some((other, _)) = self.reserved.iter().find(|(other, of)| **of == reg && **other != at) {
            return Err(format!("{reg:?} is in register {other} and in {at}"));
        }
        match self.reserved.insert(at, reg) {
            Some(other) if other != reg => Err(format!("register {at} is {other:?}'s and {reg:?}'s")),
            _ => Ok(()),
        }
    }

    fn write(&mut self, at: usize, reg: VReg) -> Result<(), String> {
        if matches!(self.b.kinds[reg.0 as usize], RegKind::PinnedVector | RegKind::PinnedMask) {
            self.reserve(at, reg)?;
        } else if let Some(owner) = self.reserved.get(&at).filter(|owner| **owner != reg) {
            return Err(format!("{reg:?} is written to register {at} of {owner:?}"));
        }
        if self.left_out.contains(&reg) {
            return Err(format!("what {reg:?} is made from was left out"));
        }
        // Copies of a value that changes are of the one before.
        self.held.iter_mut().filter(|held| **held == Some(reg)).for_each(|held| *held = None);
        self.held[at] = Some(reg);
        Ok(())
    }

    /// What the allocator adds: a constant is loaded or made, or a register copied. The register that it goes
    /// to holds the same value from then on; whether it may go there is seen when that is given a name.
    fn help(&mut self, inst: &Instruction) -> Result<(), String> {
        let to = number(inst.op0_register()).ok_or("an added instruction that writes no register")?;
        let is_copy =
            matches!(inst.code(), Code::EVEX_Vmovdqa64_zmm_k1z_zmmm512 | Code::VEX_Vmovdqa_ymm_ymmm256);
        let is_load =
            matches!(inst.code(), Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512 | Code::VEX_Vmovdqu_ymm_ymmm256);
        let is_zero =
            matches!(inst.code(), Code::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32 | Code::VEX_Vpxor_xmm_xmm_xmmm128);
        let value = if is_copy && inst.op1_kind() == OpKind::Register {
            number(inst.op1_register()).and_then(|from| self.held[from])
        } else if is_load && inst.memory_base() == Register::RIP {
            self.constant(|bytes, at| at == inst.memory_displacement64() && !bytes.is_empty())
        } else if is_zero
            && inst.op1_register() == inst.op2_register()
            && inst.op0_register() == inst.op1_register()
        {
            self.constant(|bytes, _| bytes.iter().all(|byte| *byte == 0))
        } else {
            return Err(format!("{:?} is not what an allocator adds", inst.code()));
        };
        self.held[to] = value;
        Ok(())
    }

    /// A constant whose bytes and place in the pool are such.
    fn constant(&self, is: impl Fn(&[u8], u64) -> bool) -> Option<VReg> {
        let found = self.b.kinds.iter().position(|kind| match kind {
            RegKind::Const(entry) => is(&self.b.pool[*entry as usize], self.trace.pool[*entry as usize]),
            _ => false,
        });
        found.map(|reg| VReg(reg as u32))
    }

    /// Whether `reg`'s value is in that register.
    fn holds(&self, at: usize, reg: VReg) -> bool {
        let bytes = |reg: VReg| match self.b.kinds[reg.0 as usize] {
            RegKind::Const(entry) => Some(&self.b.pool[entry as usize]),
            _ => None,
        };
        // Constants of the same bytes are the same value.
        self.held[at] == Some(reg)
            || self.held[at].is_some_and(|held| bytes(held).is_some() && bytes(held) == bytes(reg))
    }

    fn expect(&self, found: Register, reg: VReg, width: Width) -> Result<(), String> {
        let at = named(found, width)?;
        if self.holds(at, reg) {
            return Ok(());
        }
        Err(format!("{found:?} holds {:?}, not {reg:?}", self.held[at]))
    }

    fn inst(&mut self, inst: &MachInst, out: &Instruction) -> Result<(), String> {
        // Zero is made in place of a copy of it.
        if inst.code != out.code() {
            let (Some(to), Operand::Reg(from, _)) = (inst.def, inst.ops[1]) else {
                return Err(format!("{:?} became {:?}", inst.code, out.code()));
            };
            self.help(out)?;
            let at = number(out.op0_register()).ok_or("no register")?;
            if !self.holds(at, from) {
                return Err(format!("made {:?}, not {from:?}", self.held[at]));
            }
            return self.write(at, to);
        }
        for (position, op) in inst.ops.iter().enumerate() {
            let at = position as u32;
            match *op {
                Operand::None => {}
                Operand::Reg(..) if position == 0 && inst.def.is_some() => {}
                Operand::Reg(reg, _) if out.op_kind(at) == OpKind::Memory => self.expect_pool(reg, out)?,
                Operand::Reg(reg, width) => self.expect(out.op_register(at), reg, width)?,
                Operand::Gpr(gpr) if out.op_register(at) == gpr => {}
                Operand::Imm(imm) if out.immediate8() == imm => {}
                Operand::Mem(mem) if out.op_kind(at) == OpKind::Memory => self.expect_memory(mem, out)?,
                _ => return Err(format!("operand {position} is another one")),
            }
        }
        if let Some(mask) = inst.mask {
            self.expect(out.op_mask(), mask, Width::K)?;
            if out.zeroing_masking() != inst.zeroing {
                return Err("masked lanes become something else".to_owned());
            }
        } else if out.op_mask() != Register::None {
            return Err("a mask that nobody asked for".to_owned());
        }
        let Some(def) = inst.def else { return Ok(()) };
        let Operand::Reg(_, width) = inst.ops[0] else { return Err("defines no register".to_owned()) };
        let to = named(out.op0_register(), width)?;
        if let Some(old) = inst.tied
            && !self.holds(to, old)
        {
            return Err(format!("the old value of operand 0 is {:?}, not {old:?}", self.held[to]));
        }
        let sources = (1..4).filter(|at| inst.ops[*at] != Operand::None).map(|at| out.op_register(at as u32));
        let index = out.memory_index();
        if inst.early_clobber && sources.chain([index]).any(|source| number(source) == Some(to)) {
            return Err("a source shares the register of the result".to_owned());
        }
        self.write(to, def)
    }

    /// A constant as an operand in memory.
    fn expect_pool(&self, reg: VReg, out: &Instruction) -> Result<(), String> {
        let RegKind::Const(entry) = self.b.kinds[reg.0 as usize] else {
            return Err(format!("{reg:?} in memory"));
        };
        self.expect_entry(entry, 0, out)
    }

    fn expect_entry(&self, entry: u32, disp: u32, out: &Instruction) -> Result<(), String> {
        let at = self.trace.pool[entry as usize] + u64::from(disp);
        let is_there = out.memory_base() == Register::RIP && out.memory_displacement64() == at;
        let width = if self.b.isa == Isa::Avx512 { 64 } else { 32 };
        let fits = disp as usize <= self.b.pool[entry as usize].len().max(width);
        if is_there && fits { Ok(()) } else { Err(format!("not entry {entry} of the pool")) }
    }

    fn expect_memory(&self, mem: Mem, out: &Instruction) -> Result<(), String> {
        match mem {
            Mem::Base { base, index, scale, disp } => {
                let same = out.memory_base() == base
                    && out.memory_index() == index
                    && (index == Register::None || out.memory_index_scale() == u32::from(scale))
                    && out.memory_displacement64() == i64::from(disp) as u64;
                if same { Ok(()) } else { Err("another place in memory".to_owned()) }
            }
            Mem::Vsib { base, index, width, scale } => {
                if out.memory_base() != base || out.memory_index_scale() != u32::from(scale) {
                    return Err("gathers from another place".to_owned());
                }
                self.expect(out.memory_index(), index, width)
            }
            Mem::Pool { entry, disp } => self.expect_entry(entry, disp, out),
        }
    }
}
