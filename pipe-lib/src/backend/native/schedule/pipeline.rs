//! A loop as a pipeline of two steps: what an iteration stores, and in the turn after that what it makes of
//! what it has stored (the hash of what was encrypted), which fills the time that the first step waits.
//!
//! ```text
//!     A                       the first iteration's
//!     loop:
//!         A of this one, B of the one before, in one order
//!     B                       the last iteration's
//! ```
//!
//! B reads what A has stored, where it was stored: no register is kept for it.

use iced_x86::{Code, Register};
use std::collections::{HashMap, HashSet};

use super::{LineInst, LoopPlace, define, is_temporary, items, list, reads, rename};
use crate::backend::native::abi::{DST, SRC};
use crate::backend::native::lanes::whole::indexed;
use crate::backend::native::vcode::{Builder, CodeItem, MachInst, Mem, Operand, RegKind, VReg, Width};

/// Makes the loop at that place, whose iteration is this line, such a pipeline, if it can be one. Whether it
/// could.
pub(super) fn pipeline(b: &mut Builder, place: &LoopPlace, line: &[LineInst]) -> bool {
    let Some(iteration) = advance(&b.items[place.body.end..place.leave]) else { return false };
    let kinds = b.kinds.len();
    let made = LoopHalves::of(b, line, Some(iteration)).and_then(|halves| {
        let both: Vec<LineInst> = halves.uses.iter().chain(&halves.stores).copied().collect();
        let first = list::ordered(b, &halves.stores)?;
        Some((list::ordered(b, &both)?, renewed(b, &first), renewed(b, &halves.uses)))
    });
    let Some((both, first, last)) = made else {
        b.kinds.truncate(kinds);
        return false;
    };
    let enter = b.items[place.enter..place.body.start].to_vec();
    let turn = b.items[place.body.end..place.leave].to_vec();
    let behind = b.new_label();
    let mut all = vec![CodeItem::EnterLoop];
    all.extend(items(&first));
    all.extend(turn[..turn.len() - 1].iter().copied());
    all.push(CodeItem::Jump(Code::Ja_rel32_64, behind));
    // The head: its weight, alignment and label.
    all.extend(enter[1..].iter().copied());
    all.extend(items(&both));
    all.extend(turn);
    all.extend([CodeItem::Bind(behind), CodeItem::Weight(1)]);
    all.extend(items(&last));
    b.items.splice(place.enter..place.leave, all);
    true
}

/// The line with its two steps apart, of one iteration: copies come mixed, each with both. `None` if it has
/// only one, or they cannot be told apart.
pub(super) fn apart(b: &mut Builder, line: &[LineInst]) -> Option<Vec<LineInst>> {
    let LoopHalves { stores, uses, reads_made } = LoopHalves::of(b, line, None)?;
    // What is made of the source comes before it may be overwritten.
    let of_source = uses.iter().any(|entry| is_load(&entry.inst));
    let (first, second) = match (of_source, reads_made) {
        // Neither can come first.
        (true, true) => return None,
        (true, false) => (uses, stores),
        (false, _) => (stores, uses),
    };
    Some(first.into_iter().chain(second).collect())
}

/// By how much an iteration goes on in the source; `None` if it advances anything else.
fn advance(turn: &[CodeItem]) -> Option<i32> {
    match turn {
        [CodeItem::Scalar(add), CodeItem::Scalar(compare), CodeItem::Jump(Code::Jbe_rel32_64, _)]
            if add.code() == Code::Add_rm64_imm32
                && add.op0_register() == SRC
                && compare.code() == Code::Cmp_r64_rm64 =>
        {
            i32::try_from(add.immediate(1) as i64).ok()
        }
        _ => None,
    }
}

/// The two steps of an iteration.
struct LoopHalves {
    stores: Vec<LineInst>,
    /// Of the iteration before, or of the same one.
    uses: Vec<LineInst>,
    /// The second reads registers of the first.
    reads_made: bool,
}

impl LoopHalves {
    /// With what the second step reads of the first loaded again: where it was stored `behind` bytes before,
    /// or else from the source, if it is the source's.
    fn of(b: &mut Builder, line: &[LineInst], behind: Option<i32>) -> Option<LoopHalves> {
        let is_stored = needed_by_stores(line);
        let count = is_stored.iter().filter(|is| **is).count();
        if count == 0 || count == line.len() {
            return None;
        }
        // A register that the loop carries is of one step.
        let mut of: HashMap<VReg, bool> = HashMap::new();
        let written: HashSet<VReg> = line.iter().filter_map(|entry| entry.inst.def).collect();
        for (entry, stored) in line.iter().zip(&is_stored) {
            let touched = reads(&entry.inst).chain(entry.inst.def);
            for reg in touched.filter(|reg| !is_temporary(b, *reg) && written.contains(reg)) {
                if *of.entry(reg).or_insert(*stored) != *stored {
                    return None;
                }
            }
        }
        let half = |stored: bool| {
            let of_half = line.iter().zip(&is_stored).filter(move |(_, is)| **is == stored);
            of_half.map(|(entry, _)| *entry)
        };
        let stores: Vec<LineInst> = half(true).collect();
        let places = stored_at(&stores);
        let made: HashSet<VReg> =
            stores.iter().filter_map(|entry| entry.inst.def).filter(|def| is_temporary(b, *def)).collect();
        let mut uses: Vec<LineInst> = Vec::new();
        let mut loaded: HashMap<VReg, VReg> = HashMap::new();
        let mut reads_made = false;
        for mut entry in half(false) {
            // What it loads itself may have been overwritten.
            if entry.inst.ops.iter().any(|op| matches!(op, Operand::Mem(Mem::Base { base: SRC, .. }))) {
                return None;
            }
            for reg in reads(&entry.inst).filter(|reg| made.contains(reg)) {
                if loaded.contains_key(&reg) {
                    continue;
                }
                let from = match behind {
                    Some(behind) => indexed(SRC, DST, 1, *places.get(&reg)? - behind),
                    None => {
                        let made = stores.iter().find(|entry| entry.inst.def == Some(reg))?;
                        match made.inst.ops[1] {
                            Operand::Mem(from) if is_load(&made.inst) => from,
                            _ => {
                                reads_made = true;
                                continue;
                            }
                        }
                    }
                };
                let again = b.undefined(RegKind::Vector);
                uses.push(load(again, from));
                loaded.insert(reg, again);
            }
            rename(&mut entry.inst, |reg| loaded.get(&reg).copied());
            uses.push(entry);
        }
        Some(LoopHalves { stores, uses, reads_made })
    }
}

/// Which instructions are needed for what is stored.
fn needed_by_stores(line: &[LineInst]) -> Vec<bool> {
    let mut needed: HashSet<VReg> = HashSet::new();
    let mut is_needed = vec![false; line.len()];
    // Once more for what the iteration before leaves in registers.
    for _ in 0..2 {
        for (entry, is) in line.iter().zip(&mut is_needed).rev() {
            *is |= entry.inst.def.is_none_or(|def| needed.contains(&def));
            if *is {
                needed.extend(reads(&entry.inst));
            }
        }
    }
    is_needed
}

/// Whole vectors that are stored, and where in the destination.
fn stored_at(line: &[LineInst]) -> HashMap<VReg, i32> {
    let stored = line.iter().filter_map(|entry| match entry.inst.ops {
        [Operand::Mem(Mem::Base { base, index, scale: 1, disp }), Operand::Reg(reg, Width::Y), ..]
            if base == SRC && index == DST && entry.inst.code == Code::VEX_Vmovdqu_ymmm256_ymm =>
        {
            Some((reg, disp))
        }
        _ => None,
    });
    stored.collect()
}

/// Whether it does no more than load a vector of the source.
fn is_load(inst: &MachInst) -> bool {
    let of_source = matches!(inst.ops[1], Operand::Mem(Mem::Base { base: SRC, index: Register::None, .. }));
    of_source && inst.code == Code::VEX_Vmovdqu_ymm_ymmm256
}

fn load(def: VReg, from: Mem) -> LineInst {
    let inst = MachInst {
        code: Code::VEX_Vmovdqu_ymm_ymmm256,
        ops: [Operand::Reg(def, Width::Y), Operand::Mem(from), Operand::None, Operand::None],
        def: Some(def),
        tied: None,
        mask: None,
        zeroing: false,
        early_clobber: false,
    };
    LineInst { inst, streamed: false }
}

/// The same with temporaries of its own.
fn renewed(b: &mut Builder, line: &[LineInst]) -> Vec<LineInst> {
    let mut names: HashMap<VReg, VReg> = HashMap::new();
    let renew = |entry: &LineInst| {
        let mut entry = *entry;
        rename(&mut entry.inst, |reg| names.get(&reg).copied());
        if let Some(def) = entry.inst.def.filter(|def| is_temporary(b, *def)) {
            let own = b.undefined(b.kinds[def.0 as usize]);
            names.insert(def, own);
            define(&mut entry.inst, own);
        }
        entry
    };
    line.iter().map(renew).collect()
}
