//! Inductions, states that depend only on themselves: counters, toggles, keys that rotate.
//!
//! One register has what the state is before each word of a vector. It goes over to the next vector by as
//! many steps at once as there are words in between, and what the state is at the words of a wider type's
//! further registers is as many steps from it again, so that nothing waits for the word before.

use iced_x86::{Code, Register};

use super::{Due, LoopCarried, LoopPart, Traits};
use crate::backend::native::abi::{Round, SCRATCH, STATES, round_remainder};
use crate::backend::native::asm;
use crate::backend::native::lanes::whole::at;
use crate::backend::native::lanes::{Cmp, Lane};
use crate::backend::native::lower::{BodyLowering, Val};
use crate::backend::native::vcode::{Builder, Mem, Operand, VReg};
use crate::ir::{Pipe, StateId, Ty};
use crate::plan::induction::{AffineBits, Step};

/// The step of every lane; a state that [`Step::Addmod`] is for is below the modulus.
fn apply(step: &Step, b: &mut Builder, lane: Lane, ty: Ty, old: VReg) -> VReg {
    if step.is_nothing(ty) {
        return old;
    }
    let fits = ty.bits() == lane.bits();
    match step {
        Step::Affine { factor, term } => {
            let mut new = old;
            if *factor != 1 {
                let factor = b.splat(lane, *factor);
                new = b.mul(lane, new, factor);
            }
            if *term != 0 {
                let term = b.splat(lane, *term);
                new = b.add(lane, new, term);
            }
            if fits { new } else { b.and_imm(lane, new, ty.mask()) }
        }
        Step::Rotate { left, flip } => {
            let turned = match left % ty.bits() {
                0 => old,
                left if fits => b.rotl(lane, old, left),
                left => {
                    let up = b.shl(lane, old, left);
                    let down = b.shr(lane, old, ty.bits() - left);
                    let both = b.or(up, down);
                    b.and_imm(lane, both, ty.mask())
                }
            };
            if *flip == 0 {
                return turned;
            }
            let flip = b.splat(lane, *flip);
            b.xor(turned, flip)
        }
        Step::Addmod { term, modulus } => {
            let (term, short) = (b.splat(lane, *term), b.splat(lane, modulus - term));
            add_below(b, lane, old, term, short)
        }
        Step::Bits(map) => maps_of_bits(b, lane, (old, ty), std::slice::from_ref(map))[0],
        Step::Table(entries) => {
            let entries: Vec<u64> = entries.iter().map(|entry| u64::from(*entry)).collect();
            let new = b.lookup_bytes(&entries, old);
            if fits { new } else { b.and_imm(lane, new, 0xff) }
        }
    }
}

/// The maps of a number of type `ty` that is in every lane, another one in each.
fn maps_of_one(b: &mut Builder, lane: Lane, (base, ty): (VReg, Ty), maps: &[AffineBits]) -> VReg {
    let mut sum = b.lanes_of(lane, |i| maps[i as usize].zero);
    // What is in every lane is in every wider lane, too.
    let wide = lane.max(Lane::D);
    for bit in 0..ty.bits() {
        let up = b.shl(wide, base, lane.bits() - 1 - bit);
        let set = b.sar(wide, up, wide.bits() - 1);
        let column = b.lanes_of(lane, |i| maps[i as usize].map.columns[bit as usize]);
        let term = b.and(set, column);
        sum = b.xor(sum, term);
    }
    sum
}

/// Several maps of the numbers of type `ty` in lanes, bit after bit so that few values wait.
fn maps_of_bits(b: &mut Builder, lane: Lane, (old, ty): (VReg, Ty), maps: &[AffineBits]) -> Vec<VReg> {
    if lane == Lane::B {
        return maps.iter().map(|map| b.affine_bytes(old, |byte| map.apply(byte))).collect();
    }
    let mut sums: Vec<VReg> = maps.iter().map(|map| b.splat(lane, map.zero)).collect();
    for bit in 0..ty.bits() {
        let up = b.shl(lane, old, lane.bits() - 1 - bit);
        let set = b.sar(lane, up, lane.bits() - 1);
        for (sum, map) in sums.iter_mut().zip(maps) {
            let column = map.map.columns[bit as usize];
            if column != 0 {
                let column = b.splat(lane, column);
                let term = b.and(set, column);
                *sum = b.xor(*sum, term);
            }
        }
    }
    sums
}

/// `old + term` modulo a modulus of which `term` is `short`, for an `old` below it; in numbers that no sum
/// leaves.
fn add_below(b: &mut Builder, lane: Lane, old: VReg, term: VReg, short: VReg) -> VReg {
    let below = b.compare(lane, Cmp::Ltu, old, short);
    let (sum, less) = (b.add(lane, old, term), b.sub(lane, old, short));
    b.select(lane, below, sum, less)
}

/// The register of one state.
pub(super) struct Induction {
    lane: Lane,
    word: Lane,
    ty: Ty,
    state: StateId,
    step: Step,
    /// The state before each word, as many as have room in one vector; of a `bool`, whether it is set.
    first: VReg,
    /// Of [`Step::Addmod`], how much more the first word finds: an import may bring what is beyond the
    /// modulus.
    extra: Option<VReg>,
    /// How much of the rest counts.
    round: Round,
    offset: i32,
}

impl Induction {
    /// Takes a register and sets it from the state that is imported. Changes r9.
    pub(super) fn new(b: &mut Builder, pipe: &Pipe, state: usize, step: &Step, offset: i32) -> Induction {
        let (word, ty) = (Lane::of_bytes(pipe.word_bytes()), pipe.states[state].ty);
        let round = Round::of(pipe.tail, pipe.word_bytes());
        let lane = Lane::of_bytes(ty.bytes()).max(word);
        let count = b.vector_bytes() / lane.bytes();
        let base = b.load_broadcast(lane, at(STATES, offset));
        let powers = match step {
            Step::Bits(_) | Step::Table(_) => Vec::new(),
            _ => step.powers(count, ty),
        };
        let fits = ty.bits() == lane.bits();
        let mut extra = None;
        let states = match step {
            Step::Affine { factor, .. } => {
                let part = |of: fn(&Step) -> u64| move |i: u64, powers: &[Step]| of(&powers[i as usize]);
                let factor_of = part(|step| if let Step::Affine { factor, .. } = step { *factor } else { 1 });
                let term_of = part(|step| if let Step::Affine { term, .. } = step { *term } else { 0 });
                let mut states = base;
                if *factor != 1 {
                    let factors = b.lanes_of(lane, |i| factor_of(i, &powers));
                    states = b.mul(lane, states, factors);
                }
                let terms = b.lanes_of(lane, |i| term_of(i, &powers));
                states = b.add(lane, states, terms);
                if fits { states } else { b.and_imm(lane, states, ty.mask()) }
            }
            Step::Rotate { left, .. } => {
                let left_of = |step: &Step| if let Step::Rotate { left, .. } = step { *left } else { 0 };
                let flip_of = |step: &Step| if let Step::Rotate { flip, .. } = step { *flip } else { 0 };
                let mut states = base;
                if *left != 0 {
                    let counts = b.lanes_of(lane, |i| u64::from(left_of(&powers[i as usize])));
                    states = if fits {
                        b.rotl_by(lane, states, counts)
                    } else {
                        let up = b.shl_by(lane, states, counts);
                        let back = b.lanes_of(lane, |i| u64::from(ty.bits() - left_of(&powers[i as usize])));
                        let down = b.shr_by(lane, states, back);
                        let both = b.or(up, down);
                        b.and_imm(lane, both, ty.mask())
                    };
                }
                let flips = b.lanes_of(lane, |i| flip_of(&powers[i as usize]));
                b.xor(states, flips)
            }
            Step::Addmod { modulus, .. } => {
                let (rax, rdx, r9) = (Register::RAX, Register::RDX, Register::R9);
                let entry = b.table(modulus.to_le_bytes().to_vec());
                b.raw(asm::rr(Code::Mov_r64_rm64, r9, rdx));
                b.load_quad_to(rax, STATES, offset);
                b.raw(asm::rr(Code::Xor_r32_rm32, Register::EDX, Register::EDX));
                let divisor = Operand::Mem(Mem::Pool { entry, disp: 0 });
                b.push(Code::Div_rm64, &[divisor], None, None, None, false);
                b.store_quad(Register::RSP, SCRATCH, rdx);
                b.raw(asm::rr(Code::Mov_r64_rm64, rdx, r9));
                let reduced = b.load_broadcast(lane, at(Register::RSP, SCRATCH));
                let term_of = |step: &Step| if let Step::Addmod { term, .. } = step { *term } else { 0 };
                let terms = b.lanes_of(lane, |i| term_of(&powers[i as usize]));
                let shorts = b.lanes_of(lane, |i| modulus - term_of(&powers[i as usize]));
                let pinned = b.pinned_vector();
                let own = b.lanes_of(lane, |i| if i == 0 { lane.mask() } else { 0 });
                let beyond = b.sub(lane, base, reduced);
                let beyond = b.and(beyond, own);
                b.assign(pinned, beyond);
                extra = Some(pinned);
                add_below(b, lane, reduced, terms, shorts)
            }
            Step::Bits(map) => maps_of_one(b, lane, (base, ty), &map.powers(count)),
            Step::Table(_) => {
                let mut states = base;
                let zero = b.splat(Lane::B, 0);
                for bit in 0..count.trailing_zeros() {
                    let later = apply(&step.times(1 << bit, ty), b, lane, ty, states);
                    let those = b.lanes_of(lane, |i| i >> bit & 1);
                    let those = b.compare(lane, Cmp::Ne, those, zero);
                    states = b.select(lane, those, later, states);
                }
                states
            }
        };
        let first = if ty == Ty::Bool {
            let zero = b.splat(Lane::B, 0);
            let set = b.compare(lane, Cmp::Ne, states, zero);
            let first = if b.is_mask(set) { b.pinned_mask() } else { b.pinned_vector() };
            b.assign(first, set);
            first
        } else {
            let first = b.pinned_vector();
            b.assign(first, states);
            first
        };
        let step = step.clone();
        Induction { lane, word, ty, state: StateId(state as u32), step, first, extra, round, offset }
    }

    /// Vectors of the state's lanes for one vector of words.
    fn parts(&self) -> usize {
        self.lane.bytes() / self.word.bytes()
    }

    /// What the state is before the words of that part of a vector of words, given what it is before the
    /// first ones.
    fn part(&self, b: &mut Builder, first: VReg, part: usize) -> VReg {
        if part == 0 {
            return first;
        }
        let words = part * (b.vector_bytes() / self.lane.bytes());
        apply(&self.step.times(words, self.ty), b, self.lane, self.ty, first)
    }

    /// What the state is before each word; with `whole`, the register goes over to the next vector.
    fn states(&self, b: &mut Builder, whole: bool) -> Val {
        // As many words as a vector has are a multiple of four: two turns are none.
        if self.ty == Ty::Bool {
            return Val::Cond(self.first);
        }
        let full = b.full();
        let words = b.vector_bytes() / self.word.bytes();
        let step = self.step.times(words, self.ty);
        let moves_on = whole && !step.is_nothing(self.ty);
        let mut first = self.first;
        if moves_on {
            // Whoever looks at it does so after the register has gone over.
            first = b.copy_of(self.first);
        }
        let (mut parts, next) = self.parts_of(b, first, moves_on);
        parts[0] = self.with_extra(b, parts[0]);
        if moves_on {
            let next = next.unwrap_or_else(|| apply(&step, b, self.lane, self.ty, first));
            if parts.contains(&next) {
                let operands = [self.first, next].map(|reg| Operand::Reg(reg, full));
                b.push(b.load_code(), &operands, Some(self.first), None, None, false);
            } else {
                b.assign(self.first, next);
            }
        }
        if let Some(extra) = self.extra.filter(|_| whole) {
            let zero = b.splat(Lane::B, 0);
            b.assign(extra, zero);
        }
        Val::Int(parts)
    }

    /// What the state is before the words of each part of a vector; of bits, what it is before the next
    /// vector as well if it `moves_on`, since each bit is looked at for all of these at once.
    fn parts_of(&self, b: &mut Builder, first: VReg, moves_on: bool) -> (Vec<VReg>, Option<VReg>) {
        let Step::Bits(map) = &self.step else {
            return ((0..self.parts()).map(|part| self.part(b, first, part)).collect(), None);
        };
        let lanes = b.vector_bytes() / self.lane.bytes();
        let maps: Vec<AffineBits> =
            (1..self.parts() + usize::from(moves_on)).map(|part| map.power((part * lanes) as u64)).collect();
        let mut all = maps_of_bits(b, self.lane, (first, self.ty), &maps);
        let next = if moves_on { all.pop() } else { None };
        (std::iter::once(first).chain(all).collect(), next)
    }

    fn with_extra(&self, b: &mut Builder, first: VReg) -> VReg {
        self.extra.map_or(first, |extra| b.add(self.lane, first, extra))
    }
}

impl LoopCarried for Induction {
    fn traits(&self) -> Traits {
        Traits { due: Due::Before, ends_first: true, ..Traits::ORDERED }
    }

    fn step(&mut self, body: &mut BodyLowering<'_>, part: LoopPart) -> Result<(), String> {
        let states = self.states(body.b, part.is_whole());
        body.give_state(self.state, states);
        Ok(())
    }

    fn finish(&self, b: &mut Builder) {
        let (rax, eax, r9) = (Register::RAX, Register::EAX, Register::R9);
        round_remainder(b, self.round);
        if self.ty == Ty::Bool {
            // Set or not in turns.
            if self.step.is_nothing(self.ty) {
                return;
            }
            let shift = self.word.bytes().trailing_zeros() as i32;
            if shift > 0 {
                b.raw(asm::ri(Code::Shr_rm32_imm8, eax, shift));
            }
            b.raw(asm::ri(Code::And_rm32_imm8, eax, 1));
            b.raw(asm::mr(Code::Xor_rm64_r64, STATES, Register::None, self.offset, rax));
            return;
        }
        // The word after the remainder is in one of the parts, or the first one beyond.
        let wider = (self.lane.bytes() / self.word.bytes()).trailing_zeros() as i32;
        if wider > 0 {
            b.raw(asm::ri(Code::Shl_rm32_imm8, eax, wider));
        }
        let beyond = matches!(self.round, Round::Up(word) if word > 1);
        let vector = b.vector_bytes() as i32;
        let load = match self.lane {
            Lane::B => Code::Movzx_r32_rm8,
            Lane::W => Code::Movzx_r32_rm16,
            Lane::D => Code::Mov_r32_rm32,
            Lane::Q => Code::Mov_r64_rm64,
        };
        let to = if self.lane == Lane::Q { r9 } else { Register::R9D };
        let done = b.new_label();
        for part in (0..self.parts() + usize::from(beyond)).rev() {
            let begins = part as i32 * vector;
            let before = b.new_label();
            if part > 0 {
                b.raw(asm::ri(Code::Cmp_rm32_imm32, eax, begins));
                b.jump(Code::Jb_rel32_64, before);
            }
            let mut states = self.part(b, self.first, part);
            if part == 0 {
                states = self.with_extra(b, states);
            }
            b.store(at(Register::RSP, SCRATCH), states);
            b.raw(asm::rm(load, to, Register::RSP, rax, SCRATCH - begins));
            if part > 0 {
                b.jump(Code::Jmp_rel32_64, done);
            }
            b.bind(before);
        }
        b.bind(done);
        b.store_quad(STATES, self.offset, r9);
    }
    fn description(&self) -> String {
        let extra = if self.extra.is_some() { ", and what an import has beyond the modulus" } else { "" };
        format!("what it is before each word, in lanes of {} bits{extra}", self.lane.bits())
    }
}
