//! The order of instructions in a loop whose chains are longer than the processor looks ahead: rounds of AES
//! take four cycles each, and ten to fourteen of them with all that follows are a quarter of the instructions
//! that it holds at once. Of everything shorter the processor finds an order itself, and what was lowered
//! first stays first.
//!
//! ```text
//!     as lowered                    ordered                       pipelined
//!     copy 0: A A A store B B       A A A A of 0, 1, 2, 3         A of 0 .. 3, nothing else
//!     copy 1: A A A store B B       A A A A, stores               loop: A A B A A B ..   B of the iteration
//!     ...                           B B B B B B B B               B of the last one        before
//! ```
//!
//! [`list`] orders a straight line of instructions by what each waits for and by how many registers there
//! are; [`pipeline`] takes a loop apart into what it stores and what it makes of that.
//!
//! With vectors of 512 bits the order is as it was lowered: no processor that has them was there to measure
//! it, and theirs look further ahead.

mod list;
mod pipeline;
#[cfg(test)]
mod tests;

use iced_x86::{Code, Register};
use std::collections::{HashMap, HashSet};

use super::isa::Isa;
use super::vcode::{Builder, CodeItem, LoopOrder, MachInst, Mem, Operand, RegKind, VReg};

/// Most instructions of an iteration that is put in order: the time goes with the square and more. AES-GCM
/// has 120 to 280, which take 1 and 4 ms.
const MAX_LENGTH: usize = 400;

/// An instruction of a straight line.
#[derive(Clone, Copy, Debug)]
struct LineInst {
    inst: MachInst,
    /// Whether the mark that it stores a vector of the stream stands behind it.
    streamed: bool,
}

/// Where a loop over whole iterations is among the items.
struct LoopPlace {
    /// Of [`CodeItem::EnterLoop`].
    enter: usize,
    /// First and behind the last item of the iteration.
    body: std::ops::Range<usize>,
    /// Of [`CodeItem::LeaveLoop`]; between are the advance, the comparison and the jump back.
    leave: usize,
}

/// Whether there is anything to put in order: most functions have no such chain, and are not to wait.
pub(super) fn has_long_chains(b: &Builder) -> bool {
    b.isa == Isa::Avx2 && b.items.iter().any(|item| matches!(item, CodeItem::Inst(inst) if is_round(inst)))
}

/// Puts the loop over whole iterations in order if its chains are long. `reads_back`: whether what was stored
/// may be read again soon. Whether anything has changed.
pub(super) fn order(b: &mut Builder, reads_back: bool) -> bool {
    let Some(place) = LoopPlace::of(&b.items) else { return false };
    let Some(line) = line(&b.items[place.body.clone()]) else { return false };
    let line = without_copies(b, computed_once(b, line));
    let line = used(b, line);
    if line.len() > MAX_LENGTH || !line.iter().any(|entry| is_round(&entry.inst)) {
        return false;
    }
    if reads_back && pipeline::pipeline(b, &place, &line) {
        b.order = LoopOrder::Pipelined;
        return true;
    }
    let apart = pipeline::apart(b, &line).and_then(|apart| list::ordered(b, &apart));
    let Some(line) = apart.or_else(|| list::ordered(b, &line)) else { return false };
    b.items.splice(place.body, items(&line));
    b.order = LoopOrder::Ordered;
    true
}

impl LoopPlace {
    /// The first loop, if it has one entry and is a straight line of at least two vectors.
    fn of(all: &[CodeItem]) -> Option<LoopPlace> {
        let enter = all.iter().position(|item| matches!(item, CodeItem::EnterLoop))?;
        let leave = enter + all[enter..].iter().position(|item| matches!(item, CodeItem::LeaveLoop))?;
        let bound = enter + all[enter..leave].iter().position(|item| matches!(item, CodeItem::Bind(_)))?;
        let CodeItem::Bind(head) = all[bound] else { return None };
        let of_line = |item: &CodeItem| matches!(item, CodeItem::Inst(_) | CodeItem::Streamed);
        let body = bound + 1..bound + 1 + all[bound + 1..leave].iter().position(|item| !of_line(item))?;
        let (back, between) = all[body.end..leave].split_last()?;
        let closes = matches!(back, CodeItem::Jump(_, label) if *label == head)
            && between.iter().all(|item| matches!(item, CodeItem::Scalar(_)));
        closes.then_some(LoopPlace { enter, body, leave })
    }
}

/// The instructions of a straight line; `None` if it touches memory in ways that are not looked through.
fn line(items: &[CodeItem]) -> Option<Vec<LineInst>> {
    let mut line: Vec<LineInst> = Vec::with_capacity(items.len());
    for item in items {
        match item {
            CodeItem::Inst(inst) => line.push(LineInst { inst: *inst, streamed: false }),
            CodeItem::Streamed => line.last_mut()?.streamed = true,
            _ => return None,
        }
    }
    line.iter().all(|entry| list::is_understood(&entry.inst)).then_some(line)
}

fn items(line: &[LineInst]) -> impl Iterator<Item = CodeItem> {
    line.iter().flat_map(|entry| {
        std::iter::once(CodeItem::Inst(entry.inst)).chain(entry.streamed.then_some(CodeItem::Streamed))
    })
}

/// What copies of an iteration all compute from the same: states that are loaded, sums of such.
fn computed_once(b: &Builder, line: Vec<LineInst>) -> Vec<LineInst> {
    let mut known: HashMap<(Code, [Operand; 4]), VReg> = HashMap::new();
    let mut same: HashMap<VReg, VReg> = HashMap::new();
    let mut left = Vec::with_capacity(line.len());
    for mut entry in line {
        rename(&mut entry.inst, |reg| same.get(&reg).copied());
        if let Some(def) = entry.inst.def.filter(|_| is_pure(b, &entry.inst)) {
            let mut key = entry.inst.ops;
            key[0] = Operand::None;
            if let Some(first) = known.get(&(entry.inst.code, key)) {
                same.insert(def, *first);
                continue;
            }
            known.insert((entry.inst.code, key), def);
        }
        left.push(entry);
    }
    left
}

/// Whether it always gives the same: of registers that are set once and memory that no loop writes.
fn is_pure(b: &Builder, inst: &MachInst) -> bool {
    let is_fixed = |op: &Operand| match op {
        Operand::Mem(Mem::Base { base, .. }) => *base == super::abi::STATES || *base == Register::RSP,
        Operand::Mem(Mem::Pool { .. }) | Operand::Imm(_) | Operand::None => true,
        Operand::Reg(reg, _) => {
            !matches!(b.kinds[reg.0 as usize], RegKind::PinnedVector | RegKind::PinnedMask)
        }
        Operand::Mem(Mem::Vsib { .. }) | Operand::Gpr(_) => false,
    };
    let is_plain = inst.tied.is_none() && inst.mask.is_none() && !inst.early_clobber;
    is_plain && inst.ops[1..].iter().all(is_fixed) && inst.def.is_some_and(|def| is_temporary(b, def))
}

/// What a register holds step by step in registers of their own where copies of it were made (counters), so
/// that it is set once, at the end, and whoever read a copy reads what was copied.
fn without_copies(b: &mut Builder, mut line: Vec<LineInst>) -> Vec<LineInst> {
    let copied = |inst: &MachInst| match inst.ops {
        [Operand::Reg(..), Operand::Reg(from, _), Operand::None, Operand::None]
            if inst.code == Code::VEX_Vmovdqu_ymm_ymmm256 =>
        {
            Some(from)
        }
        _ => None,
    };
    let mut candidates: Vec<VReg> = line.iter().filter_map(|entry| copied(&entry.inst)).collect();
    candidates.retain(|from| b.kinds[from.0 as usize] == RegKind::PinnedVector);
    candidates.sort_unstable();
    candidates.dedup();
    for pinned in candidates {
        let Some(last) = line.iter().rposition(|entry| entry.inst.def == Some(pinned)) else { continue };
        let alone = |entry: &LineInst| {
            reads(&entry.inst).all(|reg| reg == pinned || b.kinds[reg.0 as usize] != RegKind::PinnedVector)
        };
        // It moves behind the stores.
        let is_of_stream = line[last]
            .inst
            .ops
            .iter()
            .any(|op| matches!(op, Operand::Mem(Mem::Base { base: super::abi::SRC, .. })));
        let is_read_behind = line[last + 1..].iter().any(|entry| reads(&entry.inst).any(|reg| reg == pinned));
        if is_read_behind || is_of_stream || !alone(&line[last]) || line[last].inst.tied.is_some() {
            continue;
        }
        let end = line.remove(last);
        let mut now = pinned;
        let mut names: HashMap<VReg, VReg> = HashMap::new();
        let mut left = Vec::with_capacity(line.len());
        for mut entry in line.into_iter().chain([end]) {
            rename(&mut entry.inst, |reg| if reg == pinned { Some(now) } else { names.get(&reg).copied() });
            if let (Some(from), Some(def)) = (copied(&entry.inst), entry.inst.def)
                && from == now
                && is_temporary(b, def)
            {
                names.insert(def, now);
                continue;
            }
            if entry.inst.def == Some(pinned) {
                now = b.undefined(RegKind::Vector);
                define(&mut entry.inst, now);
            }
            left.push(entry);
        }
        // The one that was last.
        if let Some(end) = left.last_mut() {
            define(&mut end.inst, pinned);
        }
        line = left;
    }
    line
}

/// Without what computes something that nobody reads.
fn used(b: &Builder, mut line: Vec<LineInst>) -> Vec<LineInst> {
    let mut read: HashSet<VReg> = HashSet::new();
    line.reverse();
    line.retain(|entry| {
        let is_used = entry.inst.def.is_none_or(|def| !is_temporary(b, def) || read.contains(&def));
        if is_used {
            read.extend(reads(&entry.inst));
        }
        is_used
    });
    line.reverse();
    line
}

/// Other registers for those that an instruction reads.
fn rename(inst: &mut MachInst, other: impl Fn(VReg) -> Option<VReg>) {
    let name = |reg: VReg| other(reg).unwrap_or(reg);
    let first = usize::from(inst.def.is_some());
    for op in &mut inst.ops[first..] {
        match op {
            Operand::Reg(reg, _) | Operand::Mem(Mem::Vsib { index: reg, .. }) => *reg = name(*reg),
            _ => {}
        }
    }
    inst.tied = inst.tied.map(name);
    inst.mask = inst.mask.map(name);
}

/// Another register for that which an instruction defines.
fn define(inst: &mut MachInst, other: VReg) {
    inst.def = Some(other);
    if let Operand::Reg(reg, _) = &mut inst.ops[0] {
        *reg = other;
    }
}

/// The registers that an instruction reads.
fn reads(inst: &MachInst) -> impl Iterator<Item = VReg> {
    let of_operand = |op: &Operand| match op {
        Operand::Reg(reg, _) | Operand::Mem(Mem::Vsib { index: reg, .. }) => Some(*reg),
        _ => None,
    };
    let first = usize::from(inst.def.is_some());
    inst.ops.into_iter().skip(first).filter_map(move |op| of_operand(&op)).chain(inst.tied).chain(inst.mask)
}

/// Whether it only loads from the states, which nothing in a loop writes.
fn loads_state(inst: &MachInst) -> bool {
    let from_states = |mem: &Mem| matches!(mem, Mem::Base { base, index: Register::None, .. } if *base == super::abi::STATES);
    let is_load =
        matches!(inst.ops, [Operand::Reg(..), Operand::Mem(mem), Operand::None, _] if from_states(&mem));
    is_load && inst.def.is_some() && inst.tied.is_none() && inst.mask.is_none()
}

/// Whether a register is changed in a loop by no more than its definition.
fn is_temporary(b: &Builder, reg: VReg) -> bool {
    matches!(b.kinds[reg.0 as usize], RegKind::Vector | RegKind::Mask)
}

/// Whether it is a round of AES.
fn is_round(inst: &MachInst) -> bool {
    use Code::*;
    matches!(
        inst.code,
        VEX_Vaesenc_ymm_ymm_ymmm256
            | VEX_Vaesenc_xmm_xmm_xmmm128
            | VEX_Vaesdec_ymm_ymm_ymmm256
            | VEX_Vaesdec_xmm_xmm_xmmm128
            | VEX_Vaesenclast_ymm_ymm_ymmm256
            | VEX_Vaesenclast_xmm_xmm_xmmm128
            | VEX_Vaesdeclast_ymm_ymm_ymmm256
            | VEX_Vaesdeclast_xmm_xmm_xmmm128
    )
}

/// Whether it is a carry-less product.
fn is_product(inst: &MachInst) -> bool {
    matches!(inst.code, Code::VEX_Vpclmulqdq_ymm_ymm_ymmm256_imm8 | Code::VEX_Vpclmulqdq_xmm_xmm_xmmm128_imm8)
}
