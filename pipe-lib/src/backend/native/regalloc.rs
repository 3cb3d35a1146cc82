//! Real registers for a function, and its encoding: a linear scan in one sweep.
//!
//! ```text
//!     for each instruction, last to first:            the last use of every temporary;
//!         drop it if nobody uses what it defines      the most temporaries live at once
//!     pin accumulators; give the registers left over the peak to the constants used most in loops
//!     for each loop: give those left over its own peak to its constants, as long as it lasts
//!     for each instruction, first to last:
//!         operands that are constants without a register: a memory operand, or loaded into a temporary
//!         free the registers of temporaries used for the last time here (unless `early_clobber`)
//!         take a register for what is defined; encode
//! ```
//!
//! Temporaries live across no label that is jumped back to, which is why one forward sweep is enough.
//! Constants are the only thing that can be rematerialised, and the only thing that ever has to be.

use super::encoding::takes_memory;
use iced_x86::{Code, Instruction, OpKind, Register};

use super::asm::{Assembler, Image, set_memory};
#[cfg(debug_assertions)]
use super::checker::Trace;
use super::isa::Isa;
use super::vcode::{Builder, CodeItem, LoopOrder, MachInst, Mem, Operand, RegKind, VReg, Width};

/// Why there is no code.
#[derive(Debug)]
pub(super) enum AllocFailure {
    /// More values live at once than there are registers.
    OutOfRegisters,
    /// The encoder refused an instruction: a mistake of the lowering.
    Encoding(String),
}

const NONE: u32 = u32::MAX;

/// The first of the registers that only AVX-512 has. A function that uses none of them leaves nothing in the
/// upper registers that instructions on narrower ones would have to wait for, and so nothing to clear at its
/// end.
const UPPER_HALF: u8 = 16;

/// Allocates and encodes.
pub(super) fn assemble(b: &Builder) -> Result<Image, AllocFailure> {
    let emitter = emitted(b)?;
    #[cfg(debug_assertions)]
    let emitter = checked(b, emitter);
    let mut image = emitter.asm.finish(&b.jump_tables).map_err(AllocFailure::Encoding)?;
    image.reads_back = b.order == LoopOrder::Pipelined;
    Ok(image)
}

#[cfg(debug_assertions)]
fn checked<'b>(b: &Builder, mut emitter: Emitter<'b>) -> Emitter<'b> {
    if let Err(what) = super::checker::check(b, emitter.traced()) {
        panic!("registers were given out wrongly: {what}");
    }
    emitter
}

/// What [`super::checker`] is given.
#[cfg(all(test, debug_assertions))]
pub(super) fn traced(b: &Builder) -> Result<Trace, AllocFailure> {
    Ok(emitted(b)?.traced().clone())
}

/// Allocates, with every instruction given to the encoder.
fn emitted(b: &Builder) -> Result<Emitter<'_>, AllocFailure> {
    let liveness = Liveness::of(b);
    let registers = b.isa.registers();
    let (mut pinned_vectors, mut pinned_masks) = (0, 0);
    let mut home = vec![u8::MAX; b.kinds.len()];
    for (index, kind) in b.kinds.iter().enumerate() {
        match kind {
            RegKind::PinnedVector => {
                home[index] = pinned_vectors;
                pinned_vectors += 1;
            }
            RegKind::PinnedMask => {
                home[index] = pinned_masks + 1;
                pinned_masks += 1;
            }
            _ => {}
        }
        if usize::from(pinned_vectors) > registers || pinned_masks > 7 {
            return Err(AllocFailure::OutOfRegisters);
        }
    }
    let spare = registers
        .checked_sub(usize::from(pinned_vectors) + liveness.peak_vectors)
        .ok_or(AllocFailure::OutOfRegisters)?;
    if usize::from(pinned_masks) + liveness.peak_masks > 7 {
        return Err(AllocFailure::OutOfRegisters);
    }
    // Constants with a register: the most used ones.
    let mut wanted: Vec<(u32, u32)> = liveness
        .constant_uses
        .iter()
        .enumerate()
        .filter(|(_, uses)| **uses > 1)
        .map(|(reg, uses)| (*uses, reg as u32))
        .collect();
    wanted.sort_unstable_by_key(|(uses, reg)| (std::cmp::Reverse(*uses), *reg));
    wanted.truncate(spare);
    // What all need comes from the upper half, if that is enough.
    let needed = usize::from(pinned_vectors) + liveness.peak_vectors + wanted.len();
    let first = if registers == 32 && needed <= usize::from(UPPER_HALF) { UPPER_HALF } else { 0 };
    for (home, kind) in home.iter_mut().zip(&b.kinds) {
        if *kind == RegKind::PinnedVector {
            *home += first;
        }
    }
    let mut hoisted = Vec::with_capacity(wanted.len());
    for (_, reg) in wanted {
        home[reg as usize] = first + pinned_vectors;
        hoisted.push(VReg(reg));
        pinned_vectors += 1;
    }
    let below = |number: u8| ((1u64 << number) - 1) as u32;
    let mut emitter = Emitter {
        b,
        asm: Assembler::new(&b.pool, b.label_count()),
        home,
        free_vectors: below(registers as u8) & !below(first + pinned_vectors),
        free_masks: 0xfe & !((1u32 << (pinned_masks + 1)) - 1),
        is_upper: first > 0,
        liveness,
        #[cfg(debug_assertions)]
        trace: Trace::default(),
        #[cfg(debug_assertions)]
        item: 0,
    };
    emitter.run(&hoisted)?;
    Ok(emitter)
}

/// Last uses, and how many registers are needed at once.
struct Liveness {
    /// Index of the item that uses a temporary last; `NONE` if nothing does.
    last: Vec<u32>,
    /// Weighted number of uses of each constant.
    constant_uses: Vec<u32>,
    /// Whether an item's result is used, or it has another effect.
    needed: Vec<bool>,
    peak_vectors: usize,
    peak_masks: usize,
    /// Temporary vectors that an item needs at once, constants left out.
    live_vectors: Vec<u8>,
}

impl Liveness {
    fn of(b: &Builder) -> Liveness {
        let mut liveness = Liveness {
            last: vec![NONE; b.kinds.len()],
            constant_uses: vec![0; b.kinds.len()],
            needed: vec![true; b.items.len()],
            peak_vectors: 0,
            peak_masks: 0,
            live_vectors: vec![0; b.items.len()],
        };
        let mut weights = Vec::with_capacity(b.items.len());
        let mut weight = 1;
        for item in &b.items {
            if let CodeItem::Weight(new) = item {
                weight = *new;
            }
            weights.push(weight);
        }
        let (mut vectors, mut masks) = (0isize, 0isize);
        let shared = isize::from(b.order != LoopOrder::AsLowered);
        // Backwards, so that "used later" is known at the definition.
        for (index, item) in b.items.iter().enumerate().rev() {
            let CodeItem::Inst(inst) = item else { continue };
            let temp_def = inst.def.filter(|def| is_temp(b, *def));
            if temp_def.is_some_and(|def| liveness.last[def.0 as usize] == NONE) {
                liveness.needed[index] = false;
                continue;
            }
            let mut loads = 0;
            let before = (vectors, masks);
            for_each_use(inst, |reg| match b.kinds[reg.0 as usize] {
                RegKind::Vector if liveness.last[reg.0 as usize] == NONE => {
                    liveness.last[reg.0 as usize] = index as u32;
                    vectors += 1;
                }
                RegKind::Mask if liveness.last[reg.0 as usize] == NONE => {
                    liveness.last[reg.0 as usize] = index as u32;
                    masks += 1;
                }
                // Zero is made where it is copied.
                RegKind::Const(_) if temp_def.is_none() && is_copy(inst) && is_zero(b, reg) => {}
                RegKind::Const(_) => {
                    liveness.constant_uses[reg.0 as usize] += weights[index];
                    loads += 1;
                }
                _ => {}
            });
            // A destination shares a register with a source that ends here, unless it may not (which is
            // looked at where it decides, see `LoopOrder`); constants that have to be loaded for
            // this instruction are live together with its sources.
            let apart = isize::from(inst.early_clobber || inst.tied.is_some());
            let def_is_vector = temp_def.is_some_and(|def| b.kinds[def.0 as usize] == RegKind::Vector);
            let at = vectors + if def_is_vector { apart - shared } else { 0 };
            liveness.live_vectors[index] = at.max(before.0).min(isize::from(u8::MAX)) as u8;
            let at = at + loads;
            liveness.peak_vectors = liveness.peak_vectors.max(at.max(before.0) as usize);
            liveness.peak_masks = liveness.peak_masks.max(masks.max(before.1) as usize);
            match temp_def.map(|def| b.kinds[def.0 as usize]) {
                Some(RegKind::Vector) => vectors -= 1,
                Some(RegKind::Mask) => masks -= 1,
                _ => {}
            }
        }
        liveness
    }
}

/// Whether the instruction copies a whole vector register.
fn is_copy(inst: &MachInst) -> bool {
    matches!(inst.code, Code::EVEX_Vmovdqa64_zmm_k1z_zmmm512 | Code::VEX_Vmovdqa_ymm_ymmm256)
        && inst.mask.is_none()
        && matches!(inst.ops, [Operand::Reg(..), Operand::Reg(..), ..])
}

/// Whether the instruction copies the constant zero.
fn copies_zero(b: &Builder, inst: &MachInst) -> bool {
    is_copy(inst) && matches!(inst.ops[1], Operand::Reg(from, _) if is_zero(b, from))
}

/// Whether `reg` is the constant zero.
fn is_zero(b: &Builder, reg: VReg) -> bool {
    b.constant_bytes(reg).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
}

fn is_temp(b: &Builder, reg: VReg) -> bool {
    matches!(b.kinds[reg.0 as usize], RegKind::Vector | RegKind::Mask)
}

/// Every register that the instruction reads.
fn for_each_use(inst: &MachInst, mut f: impl FnMut(VReg)) {
    for (position, op) in inst.ops.iter().enumerate() {
        match op {
            Operand::Reg(reg, _) if !(position == 0 && inst.def == Some(*reg)) => f(*reg),
            Operand::Mem(Mem::Vsib { index, .. }) => f(*index),
            _ => {}
        }
    }
    inst.tied.into_iter().chain(inst.mask).for_each(f);
}

struct Emitter<'a> {
    b: &'a Builder,
    asm: Assembler,
    /// Number of the register of everything that has one now.
    home: Vec<u8>,
    free_vectors: u32,
    free_masks: u32,
    /// All vectors are in the upper half of the registers.
    is_upper: bool,
    liveness: Liveness,
    #[cfg(debug_assertions)]
    trace: Trace,
    /// Index of the item whose code is being emitted.
    #[cfg(debug_assertions)]
    item: usize,
}

impl Emitter<'_> {
    fn run(&mut self, hoisted: &[VReg]) -> Result<(), AllocFailure> {
        let mut in_loop = Vec::new();
        for (index, item) in self.b.items.iter().enumerate() {
            #[cfg(debug_assertions)]
            {
                self.item = index;
            }
            match item {
                CodeItem::Inst(inst) if self.liveness.needed[index] => self.inst(index as u32, inst)?,
                CodeItem::Inst(_) | CodeItem::Weight(_) => {}
                CodeItem::ClearUpper if self.is_upper => {}
                CodeItem::ClearUpper => {
                    let mut inst = Instruction::default();
                    inst.set_code(Code::VEX_Vzeroupper);
                    self.emit(&inst)?;
                }
                CodeItem::ScalarFor(_, what) if self.liveness.last[what.0 as usize] == NONE => {}
                CodeItem::Scalar(inst) | CodeItem::ScalarFor(inst, _) => self.emit(inst)?,
                CodeItem::Jump(code, label) => {
                    self.asm.jump(*code, *label).map_err(AllocFailure::Encoding)?
                }
                CodeItem::Bind(label) => self.asm.bind(*label),
                CodeItem::Align => self.asm.align(),
                CodeItem::Streamed => self.asm.streamed(),
                CodeItem::LoadConstants => {
                    for reg in hoisted {
                        self.load_constant(*reg, self.home[reg.0 as usize])?;
                    }
                }
                CodeItem::EnterLoop => {
                    in_loop = self.loop_constants(index);
                    for reg in &in_loop {
                        let number = self.take(RegKind::Vector)?;
                        self.home[reg.0 as usize] = number;
                        self.load_constant(*reg, number)?;
                    }
                }
                CodeItem::LeaveLoop => {
                    for reg in in_loop.drain(..) {
                        self.release(reg);
                        self.home[reg.0 as usize] = u8::MAX;
                    }
                }
            }
        }
        Ok(())
    }

    /// The constants that get a register in the loop that is entered at that item: those used most, as many
    /// as its temporaries leave registers.
    fn loop_constants(&self, entry: usize) -> Vec<VReg> {
        let items = &self.b.items[entry..];
        let length = items.iter().position(|item| matches!(item, CodeItem::LeaveLoop));
        let body = entry..entry + length.unwrap_or(0);
        let needed = body.filter_map(|index| match &self.b.items[index] {
            CodeItem::Inst(inst) if self.liveness.needed[index] => Some((index, inst)),
            _ => None,
        });
        let without_home = |reg: VReg| {
            matches!(self.b.kinds[reg.0 as usize], RegKind::Const(_)) && self.home[reg.0 as usize] == u8::MAX
        };
        // For each instruction that needs constants besides: temporaries, and the constants that it cannot
        // have as an operand in memory.
        let mut uses: Vec<(VReg, u32)> = Vec::new();
        let mut demands: Vec<(usize, Vec<VReg>)> = Vec::new();
        let mut peak = 0;
        for (index, inst) in needed {
            let live = usize::from(self.liveness.live_vectors[index]);
            peak = peak.max(live);
            let mut loaded = Vec::new();
            // Zero is made where it is copied.
            if inst.def.is_some_and(|def| !is_temp(self.b, def)) && copies_zero(self.b, inst) {
                continue;
            }
            for (position, op) in inst.ops.iter().enumerate() {
                let Operand::Reg(reg, _) = *op else { continue };
                if !without_home(reg) {
                    continue;
                }
                match uses.iter_mut().find(|(known, _)| *known == reg) {
                    Some((_, count)) => *count += 1,
                    None => uses.push((reg, 1)),
                }
                if !Self::folds(inst, position) {
                    loaded.push(reg);
                }
            }
            if !loaded.is_empty() {
                demands.push((live, loaded));
            }
        }
        uses.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let free = self.free_vectors.count_ones() as usize;
        let mut chosen: Vec<VReg> = uses.into_iter().map(|(reg, _)| reg).collect();
        chosen.truncate(free.saturating_sub(peak));
        let fits = |chosen: &[VReg]| {
            demands.iter().all(|(live, loaded)| {
                live + loaded.iter().filter(|reg| !chosen.contains(reg)).count() + chosen.len() <= free
            })
        };
        while !fits(&chosen) && chosen.pop().is_some() {}
        chosen
    }

    /// What was emitted, for [`super::checker`] to replay.
    #[cfg(debug_assertions)]
    fn traced(&mut self) -> &Trace {
        self.trace.pool = (0..self.b.pool.len() as u32).map(|entry| self.asm.pool_offset(entry)).collect();
        &self.trace
    }

    fn emit(&mut self, inst: &Instruction) -> Result<(), AllocFailure> {
        #[cfg(debug_assertions)]
        self.trace.insts.push((self.item, *inst));
        self.asm.emit(inst).map_err(AllocFailure::Encoding)
    }

    fn take(&mut self, kind: RegKind) -> Result<u8, AllocFailure> {
        let free = if kind == RegKind::Mask { &mut self.free_masks } else { &mut self.free_vectors };
        if *free == 0 {
            return Err(AllocFailure::OutOfRegisters);
        }
        let number = free.trailing_zeros() as u8;
        *free &= *free - 1;
        Ok(number)
    }

    fn release(&mut self, reg: VReg) {
        let bit = 1u32 << self.home[reg.0 as usize];
        if self.b.kinds[reg.0 as usize] == RegKind::Mask {
            self.free_masks |= bit;
        } else {
            self.free_vectors |= bit;
        }
    }

    fn load_constant(&mut self, reg: VReg, number: u8) -> Result<(), AllocFailure> {
        let RegKind::Const(entry) = self.b.kinds[reg.0 as usize] else { return Ok(()) };
        let bytes = &self.b.pool[entry as usize];
        let wide = self.b.isa == Isa::Avx512;
        let target = register(self.b.full(), number);
        let mut inst = Instruction::default();
        inst.set_op0_register(target);
        if bytes.iter().all(|byte| *byte == 0) {
            // Zero needs no load; the short form reaches the first registers and clears all of them.
            let low = register(Width::X, number);
            inst.set_code(if number >= 16 {
                Code::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32
            } else {
                Code::VEX_Vpxor_xmm_xmm_xmmm128
            });
            let all = if number >= 16 { target } else { low };
            inst.set_op0_register(all);
            inst.set_op1_register(all);
            inst.set_op2_register(all);
        } else {
            inst.set_code(if wide {
                Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512
            } else {
                Code::VEX_Vmovdqu_ymm_ymmm256
            });
            self.pool_operand(&mut inst, 1, entry, 0);
        }
        self.emit(&inst)
    }

    fn pool_operand(&self, inst: &mut Instruction, position: u32, entry: u32, disp: u32) {
        inst.set_op_kind(position, OpKind::Memory);
        inst.set_memory_base(Register::RIP);
        inst.set_memory_displ_size(8);
        inst.set_memory_displacement64(self.asm.pool_offset(entry) + u64::from(disp));
    }

    /// Whether operand `position` may be a memory operand: the last one that is no immediate, of an
    /// instruction whose encoding allows it.
    fn folds(inst: &MachInst, position: usize) -> bool {
        let last = inst.ops.iter().rposition(|op| !matches!(op, Operand::None | Operand::Imm(_)));
        let Operand::Reg(_, width) = inst.ops[position] else { return false };
        last == Some(position) && position > 0 && width != Width::K && takes_memory(inst.code)
    }

    fn inst(&mut self, index: u32, inst: &MachInst) -> Result<(), AllocFailure> {
        if is_copy(inst)
            && let (Some(to), Operand::Reg(from, _)) = (inst.def, inst.ops[1])
            && is_zero(self.b, from)
            && !is_temp(self.b, to)
        {
            return self.load_constant(from, self.home[to.0 as usize]);
        }
        let mut out = Instruction::default();
        out.set_code(inst.code);
        // Constants without a register: an operand in memory, or a temporary for this instruction.
        let mut borrowed: u32 = 0;
        let mut numbers = [u8::MAX; 4];
        let mut folded = [false; 4];
        for position in 0..4 {
            let Operand::Reg(reg, _) = inst.ops[position] else { continue };
            let RegKind::Const(_) = self.b.kinds[reg.0 as usize] else { continue };
            if self.home[reg.0 as usize] != u8::MAX {
                continue;
            }
            if Self::folds(inst, position) {
                folded[position] = true;
            } else {
                let number = self.take(RegKind::Vector)?;
                self.load_constant(reg, number)?;
                borrowed |= 1 << number;
                numbers[position] = number;
            }
        }
        for (position, op) in inst.ops.iter().enumerate().skip(usize::from(inst.def.is_some())) {
            match *op {
                Operand::None => {}
                Operand::Reg(reg, width) => {
                    if folded[position] {
                        let RegKind::Const(entry) = self.b.kinds[reg.0 as usize] else { continue };
                        self.pool_operand(&mut out, position as u32, entry, 0);
                    } else {
                        let number = match numbers[position] {
                            u8::MAX => self.home[reg.0 as usize],
                            number => number,
                        };
                        out.set_op_register(position as u32, register(width, number));
                    }
                }
                Operand::Gpr(gpr) => out.set_op_register(position as u32, gpr),
                Operand::Imm(imm) => {
                    out.set_op_kind(position as u32, OpKind::Immediate8);
                    out.set_immediate8(imm);
                }
                Operand::Mem(mem) => {
                    out.set_op_kind(position as u32, OpKind::Memory);
                    match mem {
                        Mem::Base { base, index, scale, disp } => {
                            set_memory(&mut out, base, index, scale, disp)
                        }
                        Mem::Vsib { base, index, width, scale } => {
                            set_memory(
                                &mut out,
                                base,
                                register(width, self.home[index.0 as usize]),
                                scale,
                                0,
                            );
                        }
                        Mem::Pool { entry, disp } => {
                            self.pool_operand(&mut out, position as u32, entry, disp)
                        }
                    }
                }
            }
        }
        if let Some(mask) = inst.mask {
            out.set_op_mask(register(Width::K, self.home[mask.0 as usize]));
            out.set_zeroing_masking(inst.zeroing);
        }
        // Where the old value of the destination comes from, if it is to be kept.
        let mut moved_from = None;
        let mut ending: [Option<VReg>; 6] = [None; 6];
        let mut count = 0;
        for_each_use(inst, |reg| {
            if is_temp(self.b, reg)
                && self.liveness.last[reg.0 as usize] == index
                && !ending[..count].contains(&Some(reg))
            {
                ending[count] = Some(reg);
                count += 1;
            }
        });
        if let Some(def) = inst.def {
            let Operand::Reg(_, width) = inst.ops[0] else {
                return Err(AllocFailure::Encoding("a definition without a register".into()));
            };
            if is_temp(self.b, def) {
                let kind = self.b.kinds[def.0 as usize];
                match inst.tied {
                    Some(old) if ending.contains(&Some(old)) && uses(inst, old) == 1 => {
                        // The old value ends here: its register becomes the result's.
                        self.home[def.0 as usize] = self.home[old.0 as usize];
                        ending.iter_mut().filter(|end| **end == Some(old)).for_each(|end| *end = None);
                    }
                    Some(old) => {
                        self.home[def.0 as usize] = self.take(kind)?;
                        moved_from = Some(old);
                    }
                    None if inst.early_clobber => self.home[def.0 as usize] = self.take(kind)?,
                    None => {
                        for end in &mut ending {
                            if let Some(reg) = end.take() {
                                self.release(reg);
                            }
                        }
                        self.free_vectors |= borrowed;
                        borrowed = 0;
                        self.home[def.0 as usize] = self.take(kind)?;
                    }
                }
            } else if let Some(old) = inst.tied.filter(|old| *old != def) {
                moved_from = Some(old);
            }
            out.set_op0_register(register(width, self.home[def.0 as usize]));
            if let Some(old) = moved_from {
                self.copy(def, old)?;
            }
        }
        for reg in ending.into_iter().flatten() {
            self.release(reg);
        }
        self.free_vectors |= borrowed;
        self.emit(&out)
    }

    /// Copies a whole vector register.
    fn copy(&mut self, to: VReg, from: VReg) -> Result<(), AllocFailure> {
        let number = self.home[to.0 as usize];
        if let RegKind::Const(_) = self.b.kinds[from.0 as usize]
            && self.home[from.0 as usize] == u8::MAX
        {
            return self.load_constant(from, number);
        }
        let mut inst = Instruction::default();
        let full = self.b.full();
        inst.set_code(match self.b.isa {
            Isa::Avx512 => Code::EVEX_Vmovdqa64_zmm_k1z_zmmm512,
            Isa::Avx2 => Code::VEX_Vmovdqa_ymm_ymmm256,
        });
        inst.set_op0_register(register(full, number));
        inst.set_op1_register(register(full, self.home[from.0 as usize]));
        self.emit(&inst)
    }
}

fn uses(inst: &MachInst, reg: VReg) -> usize {
    let mut count = 0;
    for_each_use(inst, |used| count += usize::from(used == reg));
    count
}

/// The register of that number at that width.
pub(super) fn register(width: Width, number: u8) -> Register {
    let first = match width {
        Width::X => Register::XMM0,
        Width::Y => Register::YMM0,
        Width::Z => Register::ZMM0,
        Width::K => Register::K0,
    };
    first + u32::from(number)
}
