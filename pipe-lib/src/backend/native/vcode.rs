//! Machine instructions on virtual registers: what the lowering writes and the register allocator reads.
//!
//! One [`MachInst`] is one x86-64 instruction. Temporaries are in SSA form and live across no label that is
//! jumped back to (across one that is reached from above alone they may, as in remainders with AVX2), so the
//! whole function is one list; what is carried around a loop (accumulators, constants, positional vectors) is
//! *pinned*: it has a register of its own for the whole function and may be written many times. General
//! registers are assigned by hand (see `frame`).

use crate::ir::keyed_map::KeyedMap;
use crate::plan::wide::MAX_ITEMS;
use iced_x86::{Code, Register};
use std::hash::{Hash, Hasher};

use super::isa::{Features, Isa};

/// A virtual register: a vector or a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct VReg(pub(super) u32);

/// What stands behind a virtual register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RegKind {
    /// A vector, defined once.
    Vector,
    /// A mask (AVX-512 only), defined once.
    Mask,
    /// A constant: lives in a register if one is left over, else comes from the pool where it is used.
    Const(u32),
    /// A vector with a register of its own.
    PinnedVector,
    /// A mask with a register of its own.
    PinnedMask,
}

/// The width at which an operand is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Width {
    X,
    Y,
    Z,
    /// A mask register.
    K,
}

/// A label; bound once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CodeLabel(pub(super) u32);

/// A memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mem {
    /// `[base + index * scale + disp]`; `index` may be `Register::None`.
    Base { base: Register, index: Register, scale: u8, disp: i32 },
    /// `[base + vector * scale]`, for gathers.
    Vsib { base: Register, index: VReg, width: Width, scale: u8 },
    /// An entry of the constant pool, and an offset in it.
    Pool { entry: u32, disp: u32 },
}

/// An operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    None,
    Reg(VReg, Width),
    Gpr(Register),
    Imm(u8),
    Mem(Mem),
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MachInst {
    pub(super) code: Code,
    pub(super) ops: [Operand; 4],
    /// The register that operand 0 defines.
    pub(super) def: Option<VReg>,
    /// What operand 0 holds before: for instructions that read their destination.
    pub(super) tied: Option<VReg>,
    /// The mask register that governs the instruction.
    pub(super) mask: Option<VReg>,
    /// Masked lanes become zero rather than keep what was there.
    pub(super) zeroing: bool,
    /// The destination must differ from every source (gathers).
    pub(super) early_clobber: bool,
}

/// A number an operand: an equal instruction is looked for whenever a pure one is written.
impl Hash for Operand {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(match *self {
            Operand::None => 0,
            Operand::Reg(reg, width) => 1 | (width as u64) << 8 | u64::from(reg.0) << 32,
            Operand::Gpr(gpr) => 2 | (gpr as u64) << 8,
            Operand::Imm(imm) => 3 | u64::from(imm) << 8,
            Operand::Mem(Mem::Base { base, index, scale, disp }) => {
                let registers = (base as u64) << 8 | (index as u64) << 16;
                4 | registers | u64::from(scale) << 24 | u64::from(disp as u32) << 32
            }
            Operand::Mem(Mem::Vsib { base, index, width, scale }) => {
                let place = (base as u64) << 8 | (width as u64) << 16;
                5 | place | u64::from(scale) << 24 | u64::from(index.0) << 32
            }
            Operand::Mem(Mem::Pool { entry, disp }) => 6 | u64::from(disp) << 8 | u64::from(entry) << 32,
        });
    }
}

/// Of what tells pure instructions from each other; what these define is not yet known then.
impl Hash for MachInst {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let number = |reg: Option<VReg>| reg.map_or(0, |reg| u64::from(reg.0) + 1);
        state.write_u64(self.code as u64 | u64::from(self.zeroing) << 16);
        self.ops[1..].iter().for_each(|op| op.hash(state));
        state.write_u64(number(self.tied) | number(self.mask) << 32);
    }
}

/// What the function consists of.
#[derive(Clone, Copy, Debug)]
pub(super) enum CodeItem {
    Inst(MachInst),
    /// An instruction on general registers only.
    Scalar(iced_x86::Instruction),
    /// The same, of use only to what defines that virtual register further on.
    ScalarFor(iced_x86::Instruction, VReg),
    /// A conditional or unconditional jump, with its `rel32` code.
    Jump(Code, CodeLabel),
    Bind(CodeLabel),
    /// Pads to 64 bytes: in front of a loop head.
    Align,
    /// Where the constants that got a register are loaded.
    LoadConstants,
    /// A loop begins, which is entered only from here: constants that got a register as long as it lasts are
    /// loaded.
    EnterLoop,
    /// The loop's last instruction has been.
    LeaveLoop,
    /// The instruction before stores a whole vector of the stream, which a big transfer does around the
    /// caches.
    Streamed,
    /// The upper parts of the vector registers are cleared for who uses the lower ones, if any was written.
    ClearUpper,
    /// From here on, uses of constants weigh this much.
    Weight(u32),
}

/// A constant of the pool: the bytes of a vector, or a longer table.
pub(super) type PoolBytes = Vec<u8>;

/// In which order the instructions of a function's loop stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoopOrder {
    AsLowered,
    /// Chosen by how many registers it takes, so these are counted exactly. Elsewhere one is left for
    /// destinations that could take the place of a source: without it other constants stay in registers and
    /// loops have other lengths, some for the better (1.36 of the speed) and some for the worse (0.8; Zen 3,
    /// busy).
    Ordered,
    /// The same, and an iteration reads what the one before has stored.
    Pipelined,
}

/// The function under construction.
pub(super) struct Builder {
    pub(super) isa: Isa,
    pub(super) features: Features,
    pub(super) items: Vec<CodeItem>,
    pub(super) order: LoopOrder,
    pub(super) kinds: Vec<RegKind>,
    pub(super) pool: Vec<PoolBytes>,
    /// Bytes of the stack that the function keeps.
    frame: i32,
    /// Entries of the pool that hold, as 32-bit numbers, how far labels are from the entry's start.
    pub(super) jump_tables: Vec<(u32, Vec<CodeLabel>)>,
    /// Bytes of all tables that were laid out, those that were there already included.
    #[cfg(test)]
    pub(super) laid_out: usize,
    labels: u32,
    known: KeyedMap<MachInst, VReg>,
    /// The constants among the entries of the pool.
    constants: KeyedMap<u32, VReg>,
    tables: KeyedMap<PoolBytes, u32>,
    /// Entries of tables of numbers: where the numbers are in memory, and the bytes of each in the pool.
    numbers: KeyedMap<(usize, usize), u32>,
    /// Constants by what they were computed from, where that is quicker to tell than their bytes.
    computed: KeyedMap<[u64; 3], VReg>,
    /// `(lane bytes, result) -> operand` of byte swaps, so that two of them cancel.
    swaps: KeyedMap<(usize, VReg), VReg>,
    /// Vectors of 256 bits that were put together from two of 128, which is left out where nobody asks for
    /// the whole.
    halves: KeyedMap<VReg, [VReg; 2]>,
    /// What else is worth computing once in a stretch, under a key of its maker's.
    remembered: KeyedMap<u32, VReg>,
}

impl Builder {
    pub(super) fn new(isa: Isa, features: Features) -> Builder {
        Builder {
            isa,
            features,
            items: Vec::with_capacity(256),
            kinds: Vec::with_capacity(256),
            order: LoopOrder::AsLowered,
            pool: Vec::new(),
            frame: 0,
            jump_tables: Vec::new(),
            #[cfg(test)]
            laid_out: 0,
            labels: 0,
            known: KeyedMap::default(),
            constants: KeyedMap::default(),
            tables: KeyedMap::default(),
            numbers: KeyedMap::default(),
            computed: KeyedMap::default(),
            swaps: KeyedMap::default(),
            halves: KeyedMap::default(),
            remembered: KeyedMap::default(),
        }
    }

    /// Bytes of a vector.
    pub(super) fn vector_bytes(&self) -> usize {
        self.isa.vector_bytes()
    }

    /// The width of a whole vector.
    pub(super) fn full(&self) -> Width {
        match self.isa {
            Isa::Avx512 => Width::Z,
            Isa::Avx2 => Width::Y,
        }
    }

    fn register(&mut self, kind: RegKind) -> VReg {
        self.kinds.push(kind);
        VReg(self.kinds.len() as u32 - 1)
    }

    pub(super) fn pinned_vector(&mut self) -> VReg {
        self.register(RegKind::PinnedVector)
    }

    pub(super) fn pinned_mask(&mut self) -> VReg {
        self.register(RegKind::PinnedMask)
    }

    /// A place on the stack for a vector that loops read and do not write.
    pub(super) fn slot(&mut self) -> Mem {
        let disp = self.frame;
        self.frame += self.vector_bytes() as i32;
        Mem::Base { base: Register::RSP, index: Register::None, scale: 1, disp }
    }

    /// Bytes of all of them.
    pub(super) fn frame(&self) -> i32 {
        self.frame
    }

    pub(super) fn new_label(&mut self) -> CodeLabel {
        self.labels += 1;
        CodeLabel(self.labels - 1)
    }

    pub(super) fn label_count(&self) -> usize {
        self.labels as usize
    }

    pub(super) fn bind(&mut self, label: CodeLabel) {
        // What was computed before need not have been computed on every way here.
        self.clear_cse();
        self.items.push(CodeItem::Bind(label));
    }

    pub(super) fn jump(&mut self, code: Code, label: CodeLabel) {
        self.items.push(CodeItem::Jump(code, label));
    }

    pub(super) fn raw(&mut self, inst: iced_x86::Instruction) {
        self.items.push(CodeItem::Scalar(inst));
    }

    /// Fails once there are too many instructions. Call it often enough that those in between are few: they
    /// take memory and time even if all is given up in the end.
    pub(super) fn check_size(&self) -> Result<(), String> {
        if self.items.len() > MAX_ITEMS {
            return Err(format!("more than {MAX_ITEMS} machine instructions"));
        }
        Ok(())
    }

    /// No value computed so far is used again: the start of another slot or block.
    pub(super) fn clear_cse(&mut self) {
        self.known.clear();
        self.swaps.clear();
        self.halves.clear();
        self.remembered.clear();
    }

    /// A constant vector: as many bytes as a vector has.
    pub(super) fn constant(&mut self, bytes: PoolBytes) -> VReg {
        debug_assert_eq!(bytes.len(), self.vector_bytes());
        let entry = self.entry(bytes);
        if let Some(known) = self.constants.get(&entry) {
            return *known;
        }
        let reg = self.register(RegKind::Const(entry));
        self.constants.insert(entry, reg);
        reg
    }

    /// The constant that `make` gives; `key` tells what for, so that it is made once.
    pub(super) fn computed(&mut self, key: [u64; 3], make: impl FnOnce(&mut Builder) -> VReg) -> VReg {
        if let Some(known) = self.computed.get(&key) {
            return *known;
        }
        let constant = make(self);
        self.computed.insert(key, constant);
        constant
    }

    /// A table of the pool, of any length.
    pub(super) fn table(&mut self, bytes: PoolBytes) -> u32 {
        #[cfg(test)]
        {
            self.laid_out += bytes.len();
        }
        self.entry(bytes)
    }

    /// Where these bytes are in the pool.
    fn entry(&mut self, bytes: PoolBytes) -> u32 {
        if let Some(known) = self.tables.get(&bytes) {
            return *known;
        }
        let entry = self.pool.len() as u32;
        self.pool.push(bytes.clone());
        self.tables.insert(bytes, entry);
        entry
    }

    /// A table of `values` in `size` bytes each, laid out at its first use, since big ones may be used often.
    /// The values stay where they are as long as the builder lives.
    pub(super) fn table_of(&mut self, values: &[u64], size: usize) -> u32 {
        let key = (values.as_ptr().addr(), size);
        if let Some(known) = self.numbers.get(&key) {
            return *known;
        }
        let bytes = values.iter().flat_map(|value| value.to_le_bytes().into_iter().take(size)).collect();
        let entry = self.table(bytes);
        self.numbers.insert(key, entry);
        entry
    }

    /// A table of where labels are; see [`Builder::jump_tables`].
    pub(super) fn jump_table(&mut self, labels: Vec<CodeLabel>) -> u32 {
        let entry = self.pool.len() as u32;
        self.pool.push(vec![0; 4 * labels.len()]);
        self.jump_tables.push((entry, labels));
        entry
    }

    /// What is known under `key` in this stretch.
    pub(super) fn memo(&self, key: u32) -> Option<VReg> {
        self.remembered.get(&key).copied()
    }

    /// Lets the rest of this stretch know.
    pub(super) fn set_memo(&mut self, key: u32, value: VReg) {
        self.remembered.insert(key, value);
    }

    /// A mask or vector whose definition is pushed later, by [`Builder::push`].
    pub(super) fn undefined(&mut self, kind: RegKind) -> VReg {
        self.register(kind)
    }

    /// The bytes of `reg` if it is a constant.
    pub(super) fn constant_bytes(&self, reg: VReg) -> Option<&[u8]> {
        match self.kinds[reg.0 as usize] {
            RegKind::Const(entry) => Some(&self.pool[entry as usize]),
            _ => None,
        }
    }

    /// A pure instruction with a vector result of full width: an equal one in the same stretch is computed
    /// once.
    pub(super) fn vector(&mut self, code: Code, srcs: &[Operand]) -> VReg {
        self.pure(RegKind::Vector, self.full(), code, srcs, None, None, false)
    }

    /// The same with a result of width `width`.
    pub(super) fn vector_of(&mut self, width: Width, code: Code, srcs: &[Operand]) -> VReg {
        self.pure(RegKind::Vector, width, code, srcs, None, None, false)
    }

    /// A pure instruction that reads its destination.
    pub(super) fn tied(&mut self, code: Code, old: VReg, srcs: &[Operand]) -> VReg {
        self.pure(RegKind::Vector, self.full(), code, srcs, Some(old), None, false)
    }

    /// A pure instruction under a mask: other lanes keep `old`, or become zero without it.
    pub(super) fn masked(&mut self, code: Code, mask: VReg, old: Option<VReg>, srcs: &[Operand]) -> VReg {
        self.pure(RegKind::Vector, self.full(), code, srcs, old, Some(mask), old.is_none())
    }

    /// A blend: the mask chooses, nothing is kept or zeroed.
    pub(super) fn blend(&mut self, code: Code, mask: VReg, srcs: &[Operand]) -> VReg {
        self.pure(RegKind::Vector, self.full(), code, srcs, None, Some(mask), false)
    }

    /// A pure instruction whose result is a mask.
    pub(super) fn mask(&mut self, code: Code, srcs: &[Operand]) -> VReg {
        self.pure(RegKind::Mask, Width::K, code, srcs, None, None, false)
    }

    #[allow(clippy::too_many_arguments, reason = "the one place where an instruction is put together")]
    fn pure(
        &mut self,
        kind: RegKind,
        width: Width,
        code: Code,
        srcs: &[Operand],
        tied: Option<VReg>,
        mask: Option<VReg>,
        zeroing: bool,
    ) -> VReg {
        let mut ops = [Operand::None; 4];
        ops[1..=srcs.len()].copy_from_slice(srcs);
        let key = MachInst { code, ops, def: None, tied, mask, zeroing, early_clobber: false };
        // What reads a register that changes is never the same twice.
        let changes = |op: &Operand| matches!(op, Operand::Reg(reg, _) if self.is_pinned(*reg));
        let stable = !(srcs.iter().any(changes) || tied.is_some_and(|reg| self.is_pinned(reg)));
        if stable && let Some(known) = self.known.get(&key) {
            return *known;
        }
        let def = self.register(kind);
        let mut inst = key;
        inst.def = Some(def);
        inst.ops[0] = Operand::Reg(def, width);
        self.items.push(CodeItem::Inst(inst));
        if stable {
            self.known.insert(key, def);
        }
        def
    }

    /// Lets the last instruction, whose result is `value`, write the pinned register instead.
    pub(super) fn assign(&mut self, pinned: VReg, value: VReg) {
        if value == pinned {
            return;
        }
        // What was swapped is no longer what is there.
        self.swaps.retain(|_, operand| *operand != pinned);
        if !self.is_pinned(value)
            && let Some(CodeItem::Inst(last)) = self.items.last_mut()
            && last.def == Some(value)
            && let Operand::Reg(_, width) = last.ops[0]
            // What reads its destination first gets that moved there, over what the sources may still need.
            && (last.tied.is_none()
                || !last.ops[1..].iter().any(|op| matches!(op, Operand::Reg(reg, _) if *reg == pinned)))
        {
            last.def = Some(pinned);
            last.ops[0] = Operand::Reg(pinned, width);
            self.known.retain(|_, known| *known != value);
            return;
        }
        let full = self.full();
        let (code, width) = match (self.is_mask(value), self.isa) {
            (true, _) => (Code::VEX_Kmovq_kr_km64, Width::K),
            (false, Isa::Avx512) => (Code::EVEX_Vmovdqa64_zmm_k1z_zmmm512, full),
            (false, Isa::Avx2) => (Code::VEX_Vmovdqa_ymm_ymmm256, full),
        };
        self.push(
            code,
            &[Operand::Reg(pinned, width), Operand::Reg(value, width)],
            Some(pinned),
            None,
            None,
            false,
        );
    }

    fn is_pinned(&self, reg: VReg) -> bool {
        matches!(self.kinds[reg.0 as usize], RegKind::PinnedVector | RegKind::PinnedMask)
    }

    /// An instruction that must not be shared: it reads memory or a pinned register that changes. Operand 0
    /// is a new register of `kind`.
    pub(super) fn fresh(&mut self, kind: RegKind, width: Width, code: Code, srcs: &[Operand]) -> VReg {
        let def = self.register(kind);
        let mut ops = [Operand::None; 4];
        ops[0] = Operand::Reg(def, width);
        ops[1..=srcs.len()].copy_from_slice(srcs);
        self.push(code, &ops, Some(def), None, None, false);
        def
    }

    /// Any instruction.
    pub(super) fn push(
        &mut self,
        code: Code,
        operands: &[Operand],
        def: Option<VReg>,
        tied: Option<VReg>,
        mask: Option<VReg>,
        zeroing: bool,
    ) {
        let mut ops = [Operand::None; 4];
        ops[..operands.len()].copy_from_slice(operands);
        self.items.push(CodeItem::Inst(MachInst {
            code,
            ops,
            def,
            tied,
            mask,
            zeroing,
            early_clobber: false,
        }));
    }

    /// A gather, whose result shares no register with its operands.
    pub(super) fn gather(&mut self, code: Code, srcs: &[Operand], mask: Option<VReg>) -> VReg {
        let def = self.register(RegKind::Vector);
        let mut ops = [Operand::None; 4];
        ops[0] = Operand::Reg(def, self.full());
        ops[1..=srcs.len()].copy_from_slice(srcs);
        self.items.push(CodeItem::Inst(MachInst {
            code,
            ops,
            def: Some(def),
            tied: None,
            mask,
            zeroing: false,
            early_clobber: true,
        }));
        def
    }

    /// `whole` consists of these halves, the lower one first.
    pub(super) fn note_halves(&mut self, whole: VReg, halves: [VReg; 2]) {
        self.halves.insert(whole, halves);
    }

    pub(super) fn halves_of(&self, whole: VReg) -> Option<[VReg; 2]> {
        self.halves.get(&whole).copied()
    }

    pub(super) fn note_swap(&mut self, lane_bytes: usize, result: VReg, operand: VReg) {
        self.swaps.insert((lane_bytes, result), operand);
    }

    /// The `x` of `reg = bswap x`, for lanes of that many bytes.
    pub(super) fn swap_of(&self, lane_bytes: usize, reg: VReg) -> Option<VReg> {
        self.swaps.get(&(lane_bytes, reg)).copied()
    }

    pub(super) fn is_mask(&self, reg: VReg) -> bool {
        matches!(self.kinds[reg.0 as usize], RegKind::Mask | RegKind::PinnedMask)
    }
}
