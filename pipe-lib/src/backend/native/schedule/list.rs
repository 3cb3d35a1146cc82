//! Instructions of a straight line in the order of a machine that issues a few a cycle: from the last to the
//! first, chains before what fills the time between, no more registers live than there are.
//!
//! From its end, since what is loaded is then placed in front of who needs it, and takes a register no
//! longer. The machine is a model: what it knows are the operations that chains are made of.

use iced_x86::Register;
use std::collections::HashMap;

use super::{LineInst, define, is_product, is_round, is_temporary, loads_state, reads, rename};
use crate::backend::native::abi::{DST, SRC, STATES};
use crate::backend::native::vcode::{Builder, MachInst, Mem, Operand, RegKind, VReg, Width};

/// Instructions a cycle.
const WIDTH: usize = 4;

/// What an instruction occupies beside its place in a cycle: AMD's Zen 3, which does two rounds a cycle and a
/// product every second one, at 128 and at 256 bits; others with AVX2 differ by a cycle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Any,
    Round,
    Product,
}

impl Unit {
    fn of(inst: &MachInst) -> Unit {
        if is_round(inst) {
            Unit::Round
        } else if is_product(inst) {
            Unit::Product
        } else {
            Unit::Any
        }
    }

    /// Cycles until what depends on it may begin. A load has no one to wait for, and is done ahead.
    const fn latency(self) -> usize {
        match self {
            Unit::Any => 1,
            Unit::Round | Unit::Product => 4,
        }
    }
}

/// A range of the stream's memory.
struct StreamAccess {
    stores: bool,
    start: i32,
    end: i32,
}

impl StreamAccess {
    fn of(inst: &MachInst) -> Option<StreamAccess> {
        let disp = inst.ops.iter().find_map(|op| match op {
            Operand::Mem(Mem::Base { base, disp, .. }) if *base == SRC => Some(*disp),
            _ => None,
        })?;
        let bytes = |op: &Operand| match op {
            Operand::Reg(_, Width::X) => 16,
            Operand::Reg(_, Width::Y) => 32,
            _ => 0,
        };
        // Of operands of different widths memory is no wider than the widest.
        let bytes = inst.ops.iter().map(bytes).max().unwrap_or(0);
        let stores = matches!(inst.ops[0], Operand::Mem(_));
        Some(StreamAccess { stores, start: disp, end: disp + bytes })
    }

    /// Whether one has to stay behind the other: source and destination are the same bytes or have none in
    /// common.
    fn depends(&self, other: &StreamAccess) -> bool {
        (self.stores || other.stores) && self.start < other.end && other.start < self.end
    }
}

/// Whether all that an instruction does is known here: memory of the stream at fixed places, states and slots
/// that no loop writes, constants.
pub(super) fn is_understood(inst: &MachInst) -> bool {
    let known = |op: &Operand| match *op {
        Operand::Mem(Mem::Base { base, index, scale, .. }) => {
            (base == STATES || base == Register::RSP) && index == Register::None && inst.def.is_some()
                || base == SRC && (index == Register::None || index == DST && scale == 1)
        }
        Operand::Mem(Mem::Vsib { .. }) | Operand::Gpr(_) => false,
        Operand::Reg(_, width) => matches!(width, Width::X | Width::Y),
        Operand::Mem(Mem::Pool { .. }) | Operand::None | Operand::Imm(_) => true,
    };
    // Of a store the first operand is memory.
    let writes = inst.def.is_some() || matches!(inst.ops[0], Operand::Mem(Mem::Base { .. }));
    writes && inst.mask.is_none() && inst.ops.iter().all(known)
}

/// What waits for what.
struct OrderGraph {
    /// Of each instruction those that come before it, and how many cycles.
    before: Vec<Vec<(usize, usize)>>,
    /// How many come after it.
    after: Vec<usize>,
    /// Cycles from the beginning to its own.
    depth: Vec<usize>,
    /// Whether it is a round, or a round needs it.
    in_chain: Vec<bool>,
}

impl OrderGraph {
    fn of(b: &Builder, line: &[LineInst]) -> OrderGraph {
        let mut before: Vec<Vec<(usize, usize)>> = vec![Vec::new(); line.len()];
        let mut defined: HashMap<VReg, usize> = HashMap::new();
        // Since it was defined, of registers that are defined more than once.
        let mut read: HashMap<VReg, Vec<usize>> = HashMap::new();
        let mut accesses: Vec<(usize, StreamAccess)> = Vec::new();
        for (index, entry) in line.iter().enumerate() {
            for reg in reads(&entry.inst) {
                if let Some(def) = defined.get(&reg) {
                    before[index].push((*def, Unit::of(&line[*def].inst).latency()));
                }
                if !is_temporary(b, reg) {
                    read.entry(reg).or_default().push(index);
                }
            }
            if let Some(def) = entry.inst.def {
                let readers = read.remove(&def).unwrap_or_default();
                let all =
                    readers.into_iter().filter(|reader| *reader != index).chain(defined.get(&def).copied());
                before[index].extend(all.map(|earlier| (earlier, 0)));
                defined.insert(def, index);
            }
            if let Some(access) = StreamAccess::of(&entry.inst) {
                let earlier = accesses.iter().filter(|(_, earlier)| earlier.depends(&access));
                before[index].extend(earlier.map(|(earlier, _)| (*earlier, 0)));
                accesses.push((index, access));
            }
        }
        let in_chain = line.iter().map(|entry| is_round(&entry.inst)).collect();
        let mut graph =
            OrderGraph { after: vec![0; line.len()], depth: vec![0; line.len()], before, in_chain };
        for index in 0..line.len() {
            let ends = graph.before[index].iter().map(|(earlier, cycles)| graph.depth[*earlier] + cycles);
            graph.depth[index] = ends.max().unwrap_or(0);
            for (earlier, _) in &graph.before[index] {
                graph.after[*earlier] += 1;
            }
        }
        for index in (0..line.len()).rev() {
            if graph.in_chain[index] {
                for (earlier, _) in &graph.before[index] {
                    graph.in_chain[*earlier] = true;
                }
            }
        }
        graph
    }

    /// Of several that may be placed next, the one with most of this is: chains do not wait; what fills the
    /// time between is in the order in which it was lowered, which takes few registers.
    fn urgency(&self, index: usize) -> (bool, usize, usize) {
        let in_chain = self.in_chain[index];
        (in_chain, if in_chain { self.depth[index] } else { 0 }, index)
    }
}

/// Registers that are live in front of what has been placed, and how many may be.
#[derive(Clone)]
struct Pressure<'a> {
    kinds: &'a [RegKind],
    /// Of each register whether it is live, and whether it may be loaded once more.
    live: Vec<bool>,
    again: &'a [bool],
    /// Those that are live and may be loaded once more.
    loaded: Vec<VReg>,
    count: usize,
    most: usize,
}

impl Pressure<'_> {
    fn is_live(&self, reg: VReg) -> bool {
        self.live[reg.0 as usize]
    }

    /// How many are live at most around the instruction, constants included.
    fn with(&self, inst: &MachInst) -> usize {
        let mut new: [Option<VReg>; 6] = [None; 6];
        let (mut count, mut constants) = (0, 0);
        for reg in reads(inst) {
            match self.kinds[reg.0 as usize] {
                RegKind::Vector if !self.is_live(reg) && !new[..count].contains(&Some(reg)) => {
                    new[count] = Some(reg);
                    count += 1;
                }
                RegKind::Const(_) => constants += 1,
                _ => {}
            }
        }
        let ends = usize::from(inst.def.is_some_and(|def| self.is_live(def)));
        let apart = usize::from(inst.tied.is_some() || inst.early_clobber);
        let front = self.count - ends + count;
        (front + constants + apart * ends).max(self.count)
    }

    fn end(&mut self, reg: VReg) {
        if std::mem::take(&mut self.live[reg.0 as usize]) {
            self.count -= 1;
            self.loaded.retain(|loaded| *loaded != reg);
        }
    }

    fn place(&mut self, inst: &MachInst) {
        if let Some(def) = inst.def {
            self.end(def);
        }
        for reg in reads(inst).filter(|reg| self.kinds[reg.0 as usize] == RegKind::Vector) {
            if !std::mem::replace(&mut self.live[reg.0 as usize], true) {
                self.count += 1;
                self.loaded.extend(self.again[reg.0 as usize].then_some(reg));
            }
        }
    }

    /// Whether the registers suffice for what is left, taken in the order in which it was lowered, with each
    /// state loaded where it is read.
    fn suffices(mut self, line: &[LineInst], mut is_left: impl FnMut(usize) -> bool) -> bool {
        (0..line.len()).rev().filter(|index| is_left(*index)).all(|index| {
            while let Some(reg) = self.loaded.last() {
                self.end(*reg);
            }
            let fits = self.with(&line[index].inst) <= self.most;
            self.place(&line[index].inst);
            fits
        })
    }
}

/// The line in its order; `None` if as it is it takes more registers than there are beside pinned ones.
///
/// Nothing is placed behind which the registers would not suffice for what is left as it was lowered, so
/// there is always something to place. Where that needs the register of a state, it is loaded once more.
pub(super) fn ordered(b: &mut Builder, line: &[LineInst]) -> Option<Vec<LineInst>> {
    let graph = OrderGraph::of(b, line);
    let mut line = line.to_vec();
    let pinned = b.kinds.iter().filter(|kind| **kind == RegKind::PinnedVector).count();
    let most = b.isa.registers().checked_sub(pinned)?;
    let mut again = vec![false; b.kinds.len()];
    for entry in line.iter().filter(|entry| loads_state(&entry.inst)) {
        again[entry.inst.def?.0 as usize] = true;
    }
    // Registers for what is loaded once more; few are used.
    let kinds = [&b.kinds[..], &vec![RegKind::Vector; 4 * line.len()]].concat();
    again.resize(kinds.len(), true);
    let live = vec![false; kinds.len()];
    let mut pressure = Pressure { kinds: &kinds, live, again: &again, loaded: Vec::new(), count: 0, most };
    if !pressure.clone().suffices(&line, |_| true) {
        return None;
    }
    let mut waiting = graph.after.clone();
    let mut is_placed = vec![false; line.len()];
    // Cycles from the end at which it may be placed.
    let mut from = vec![0; line.len()];
    let mut ready: Vec<usize> = (0..line.len()).filter(|index| waiting[*index] == 0).collect();
    let mut order = Vec::with_capacity(line.len());
    let (mut cycle, mut issued, mut rounds, mut next_product) = (0, 0, 0, 0);
    while !ready.is_empty() {
        let is_safe = |index: &usize| {
            let inst = &line[*index].inst;
            let mut then = pressure.clone();
            then.place(inst);
            pressure.with(inst) <= most && then.suffices(&line, |left| !is_placed[left] && left != *index)
        };
        let may = |index: &usize| {
            let unit = match Unit::of(&line[*index].inst) {
                Unit::Any => true,
                Unit::Round => rounds < 2,
                Unit::Product => next_product <= cycle,
            };
            unit && issued < WIDTH && from[*index] <= cycle
        };
        let mut candidates = ready.clone();
        candidates.sort_by_key(|index| std::cmp::Reverse(graph.urgency(*index)));
        let Some(chosen) = candidates.iter().copied().filter(may).find(is_safe) else {
            if candidates.iter().any(is_safe) {
                (cycle, issued, rounds) = (cycle + 1, 0, 0);
                continue;
            }
            let reg = *pressure.loaded.first()?;
            let load =
                line.iter().zip(&is_placed).position(|(entry, is)| !is && entry.inst.def == Some(reg))?;
            order.push(line[load]);
            pressure.end(reg);
            let other = b.undefined(RegKind::Vector);
            if other.0 as usize >= kinds.len() {
                return None;
            }
            for (entry, _) in line.iter_mut().zip(&is_placed).filter(|(_, is)| !**is) {
                rename(&mut entry.inst, |read| (read == reg).then_some(other));
            }
            define(&mut line[load].inst, other);
            continue;
        };
        let inst = &line[chosen].inst;
        issued += 1;
        match Unit::of(inst) {
            Unit::Any => {}
            Unit::Round => rounds += 1,
            Unit::Product => next_product = cycle + 2,
        }
        pressure.place(inst);
        is_placed[chosen] = true;
        ready.retain(|index| *index != chosen);
        order.push(line[chosen]);
        for (earlier, cycles) in &graph.before[chosen] {
            from[*earlier] = from[*earlier].max(cycle + cycles);
            waiting[*earlier] -= 1;
            if waiting[*earlier] == 0 {
                ready.push(*earlier);
            }
        }
    }
    order.reverse();
    Some(order)
}
