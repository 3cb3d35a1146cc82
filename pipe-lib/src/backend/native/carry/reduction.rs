//! Reductions: partial results in the lanes of registers of their own, one set for each copy of the unrolled
//! loop or for several of them, combined with the imported state at the end.

mod finish;

pub(in crate::backend::native) use finish::ones_sums;

use crate::analyse::Reduce;
use crate::ir::{BinaryOp, ConvertOp, Op, Ty};
use iced_x86::{Code, Register};
use std::ops::Range;

use super::{LoopCarried, LoopPart, Masking, StatePlace, Traits};
use crate::backend::native::isa::Isa;
use crate::backend::native::lanes::Lane;
use crate::backend::native::lower::BodyLowering;
use crate::backend::native::vcode::{Builder, Operand, VReg, Width};
use crate::plan::stage::{Addend, VectorStage};

/// Most addends of a call that [`SumForm::Dots`] takes, of all words together. Those of every other 32-bit
/// lane are summed in 32 bits: that is half of them, and [`UNPAIRED`] at most.
const MAX_DOTS: usize = (1 << 17) - 2 * UNPAIRED;

/// What the first and the last vector, of which not every word need count, have in one half alone.
const UNPAIRED: usize = 32 * MAX_ADDENDS;

/// Most addends of a word.
const MAX_ADDENDS: usize = 64;

// A state is added at the end, too.
const _: () = assert!((MAX_DOTS as u64 / 2 + UNPAIRED as u64) * 0xffff + 0xffff <= u32::MAX as u64);

/// Whether the state can be summed by [`SumForm::Dots`]: addends in lanes of 16 bits, and few of them.
fn suits_dots(word: Lane, ty: Ty, fold: Reduce, addends: usize) -> bool {
    fold == Reduce::Addc && ty == Ty::U16 && word <= Lane::W && addends <= MAX_ADDENDS
}

/// Bytes of a call in which no partial result overflows, a multiple of every vector; `None` if none ever
/// does.
pub(in crate::backend::native) fn longest_call(
    word: Lane,
    ty: Ty,
    fold: Reduce,
    addends: usize,
) -> Option<usize> {
    suits_dots(word, ty, fold, addends).then(|| MAX_DOTS / addends.next_power_of_two() * word.bytes())
}

/// Where the partial results of one state are.
pub(in crate::backend::native) struct ReductionLanes {
    ty: Ty,
    fold: Reduce,
    /// What each word contributes.
    addends: Vec<Addend>,
    form: SumForm,
    /// The partial results are of byte-swapped words; decided by the first addend.
    swapped: Option<bool>,
    /// Where the state is, from the start of the states.
    offset: i32,
}

enum SumForm {
    /// Sums of narrower lanes in 64-bit lanes, exact: `total` of the whole lanes, `high` of their upper
    /// halves, so that `total - (high << 32) + high` is the sum of all 32-bit halves. For one's complement
    /// sums of any width up to 32 bits (2^32 = 1 modulo 2^w - 1) and for sums of 32-bit numbers.
    Halves { total: Vec<VReg>, high: Vec<VReg> },
    /// Sums of the lower and of the upper bytes of 16-bit words in 32-bit lanes, by dot products with 1 and
    /// 0: two instructions where [`SumForm::Halves`] needs three.
    Dots { low: Vec<VReg>, high: Vec<VReg> },
    /// Sums of bytes in 64-bit lanes.
    Bytes { total: Vec<VReg> },
    /// The operation itself in lanes of the state's type.
    Lanes { lane: Lane, partial: Vec<VReg> },
    /// A condition in a mask register; one for all copies, since there are few of them and they are quick.
    Mask { partial: VReg, lanes: usize },
}

impl ReductionLanes {
    /// Takes registers, and sets those of the first copy to the operation's identity.
    pub(super) fn new(
        b: &mut Builder,
        plan: &VectorStage,
        ty: Ty,
        fold: Reduce,
        addends: &[Addend],
        place: StatePlace,
        offset: i32,
    ) -> ReductionLanes {
        debug_assert!(!matches!(fold, Reduce::Addmod(_)), "this generator's target has no residues");
        let word = Lane::of_bytes(plan.pipe.word_bytes());
        let lane = Lane::of_bytes(ty.bytes()).max(word);
        let sets = if is_quick(fold, ty) { place.sets } else { place.unroll };
        let form = if ty == Ty::Bool && b.isa == Isa::Avx512 {
            SumForm::Mask { partial: b.pinned_mask(), lanes: b.vector_bytes() / word.bytes() }
        } else {
            match fold {
                _ if suits_dots(word, ty, fold, addends.len()) && b.has_dots() => {
                    SumForm::Dots { low: pinned(b, place.unroll), high: pinned(b, place.unroll) }
                }
                Reduce::Addc if ty != Ty::U64 => {
                    SumForm::Halves { total: pinned(b, sets), high: pinned(b, sets) }
                }
                Reduce::Add | Reduce::Adds
                    if addends.iter().all(|addend| widened(plan, addend).is_some()) =>
                {
                    match addends.iter().filter_map(|addend| widened(plan, addend)).max() {
                        Some(Lane::B) => SumForm::Bytes { total: pinned(b, sets) },
                        _ => SumForm::Halves { total: pinned(b, sets), high: pinned(b, sets) },
                    }
                }
                _ => SumForm::Lanes { lane, partial: pinned(b, sets) },
            }
        };
        let accumulator = ReductionLanes { ty, fold, addends: addends.to_vec(), form, swapped: None, offset };
        accumulator.start(b);
        accumulator
    }

    /// The set that a copy adds to.
    fn set(&self, copy: usize) -> usize {
        self.registers().next().map_or(0, |registers| copy % registers.len())
    }

    /// Sets the first copy to the operation's identity.
    fn start(&self, b: &mut Builder) {
        if let SumForm::Mask { partial, .. } = self.form {
            let code = match self.fold {
                Reduce::And => Code::VEX_Kxnorq_kr_kr_kr,
                _ => Code::VEX_Kxorq_kr_kr_kr,
            };
            let k0 = Operand::Gpr(Register::K0);
            b.push(code, &[Operand::Reg(partial, Width::K), k0, k0], Some(partial), None, None, false);
        }
        self.clear(b, 0..1);
    }

    fn clear(&self, b: &mut Builder, copies: Range<usize>) {
        let identity = match self.form {
            SumForm::Lanes { lane, .. } => identity(b, self.fold, self.ty, lane),
            _ => b.splat(Lane::B, 0),
        };
        for registers in self.registers() {
            for register in registers.iter().take(copies.end).skip(copies.start) {
                b.assign(*register, identity);
            }
        }
    }

    /// Combines several copies' registers, in pairs.
    fn together(&self, b: &mut Builder, registers: &[VReg]) -> VReg {
        let mut level = registers.to_vec();
        while level.len() > 1 {
            level = level
                .chunks(2)
                .map(|pair| if let [x, y] = pair { self.join(b, *x, *y) } else { pair[0] })
                .collect();
        }
        level[0]
    }

    fn join(&self, b: &mut Builder, x: VReg, y: VReg) -> VReg {
        match self.form {
            SumForm::Halves { .. } | SumForm::Bytes { .. } => b.add(Lane::Q, x, y),
            SumForm::Dots { .. } => b.add(Lane::D, x, y),
            SumForm::Lanes { .. } if self.ty == Ty::Bool => match self.fold {
                Reduce::And => b.and(x, y),
                Reduce::Or => b.or(x, y),
                _ => b.xor(x, y),
            },
            SumForm::Lanes { lane, .. } => combine(b, self.fold, self.ty, lane, x, y),
            SumForm::Mask { .. } => x,
        }
    }

    /// The vector registers, by what they hold: for each, one a copy.
    fn registers(&self) -> impl Iterator<Item = &[VReg]> {
        let (one, other): (&[VReg], &[VReg]) = match &self.form {
            SumForm::Halves { total, high } => (total, high),
            SumForm::Dots { low, high } => (low, high),
            SumForm::Bytes { total } => (total, &[]),
            SumForm::Lanes { partial, .. } => (partial, &[]),
            SumForm::Mask { .. } => (&[], &[]),
        };
        [one, other].into_iter().filter(|registers| !registers.is_empty())
    }

    /// Adds what the words of one vector contribute.
    fn add(
        &mut self,
        body: &mut BodyLowering<'_>,
        copy: usize,
        addend: &Addend,
        masking: Option<Masking>,
    ) -> Result<(), String> {
        let word = body.word();
        // The words that count: those of the stream, where the guard holds.
        let guard = match addend.only_if {
            None => None,
            Some((cond, true)) => Some(body.cond(cond)?),
            Some((cond, false)) => {
                let cond = body.cond(cond)?;
                Some(body.b.cond_not(cond))
            }
        };
        if let SumForm::Mask { partial, .. } = self.form {
            return self.add_cond(body, partial, addend, guard, masking);
        }
        if self.ty == Ty::Bool {
            let value = self.active_cond(body, addend, guard, masking)?;
            let SumForm::Lanes { partial, .. } = &self.form else { return Err("a condition's form".into()) };
            let partial = partial[copy];
            let next = match self.fold {
                Reduce::And => body.b.cond_and(partial, value),
                Reduce::Or => body.b.cond_or(partial, value),
                _ => body.b.cond_xor(partial, value),
            };
            body.b.assign(partial, next);
            return Ok(());
        }
        let source = match &self.form {
            SumForm::Bytes { .. } => widened_value(body, addend)?,
            SumForm::Halves { .. } if self.fold != Reduce::Addc => widened_value(body, addend)?,
            _ => {
                let lane = body.lane(self.ty);
                (lane, body.int(addend.value)?)
            }
        };
        let (lane, mut parts) = source;
        let swappable = self.ty.bytes() == lane.bytes()
            && matches!(self.fold, Reduce::Addc | Reduce::Xor | Reduce::And | Reduce::Or)
            // Swapping two bytes is a rotation, which a one's complement sum commutes with; four or eight are
            // not.
            && !(self.fold == Reduce::Addc && self.ty != Ty::U16);
        if swappable {
            let all_swapped = parts.iter().all(|part| body.b.swap_of(lane.bytes(), *part).is_some());
            if *self.swapped.get_or_insert(all_swapped) {
                parts.iter_mut().for_each(|part| *part = body.b.bswap(lane, *part));
            }
        }
        if addend.negated {
            for part in &mut parts {
                *part = body.unary(crate::ir::UnaryOp::Neg, self.ty, lane, *part);
            }
        }
        let zero_is_neutral = matches!(
            self.fold,
            Reduce::Add | Reduce::Addc | Reduce::Adds | Reduce::Xor | Reduce::Or | Reduce::Max
        );
        let active = match masking {
            // Nothing but the bytes themselves, which end in zeros.
            Some(masking)
                if masking.zero_beyond && zero_is_neutral && parts.iter().all(|part| *part == body.chunk) =>
            {
                guard
            }
            Some(masking) => both(body.b, guard, Some(masking.active)),
            None => guard,
        };
        if let Some(active) = active {
            let neutral = match &self.form {
                SumForm::Lanes { lane, .. } => identity(body.b, self.fold, self.ty, *lane),
                _ => body.b.splat(Lane::B, 0),
            };
            let conds = body.b.split_cond(word, lane, active);
            for (part, cond) in parts.iter_mut().zip(conds) {
                *part = body.b.select(lane, cond, *part, neutral);
            }
        }
        for part in parts {
            self.accumulate(body, copy, lane, part)?;
        }
        Ok(())
    }

    fn accumulate(
        &mut self,
        body: &mut BodyLowering<'_>,
        copy: usize,
        lane: Lane,
        part: VReg,
    ) -> Result<(), String> {
        match &self.form {
            SumForm::Halves { total, high } => {
                let (total, high) = (total[copy], high[copy]);
                let part = if self.fold != Reduce::Addc && lane == Lane::W {
                    // Pairs of 16-bit numbers first: their sum fits 32 bits.
                    let low = body.b.and_imm(Lane::D, part, 0xffff);
                    let up = body.b.shr(Lane::D, part, 16);
                    body.b.add(Lane::D, low, up)
                } else if self.fold != Reduce::Addc && lane == Lane::B {
                    body.b.sum_bytes(part)
                } else {
                    part
                };
                let next = body.b.add(Lane::Q, total, part);
                body.b.assign(total, next);
                let up = body.b.shr(Lane::Q, part, 32);
                let next = body.b.add(Lane::Q, high, up);
                body.b.assign(high, next);
            }
            SumForm::Dots { low, high } => {
                for (sums, place) in [(low[copy], 0), (high[copy], 1)] {
                    // Bytes 1 and 0, or 0 and 1.
                    let ones = body.b.splat(Lane::W, 1 << (8 * place));
                    body.b.add_dots(sums, part, ones);
                }
            }
            SumForm::Bytes { total } => {
                let total = total[copy];
                let sums = body.b.sum_bytes(part);
                let next = body.b.add(Lane::Q, total, sums);
                body.b.assign(total, next);
            }
            SumForm::Lanes { lane, partial } => {
                let (lane, partial) = (*lane, partial[copy]);
                let next = combine(body.b, self.fold, self.ty, lane, partial, part);
                body.b.assign(partial, next);
            }
            SumForm::Mask { .. } => return Err("a vector for a condition".into()),
        }
        Ok(())
    }

    /// The condition to add, such that it changes nothing where the word does not count.
    fn active_cond(
        &self,
        body: &mut BodyLowering<'_>,
        addend: &Addend,
        guard: Option<VReg>,
        masking: Option<Masking>,
    ) -> Result<VReg, String> {
        let value = body.cond(addend.value)?;
        let active = both(body.b, guard, masking.map(|masking| masking.active));
        Ok(match active {
            None => value,
            Some(active) if self.fold == Reduce::And => {
                let idle = body.b.cond_not(active);
                body.b.cond_or(value, idle)
            }
            Some(active) => body.b.cond_and(value, active),
        })
    }

    fn add_cond(
        &self,
        body: &mut BodyLowering<'_>,
        partial: VReg,
        addend: &Addend,
        guard: Option<VReg>,
        masking: Option<Masking>,
    ) -> Result<(), String> {
        let value = self.active_cond(body, addend, guard, masking)?;
        let code = match self.fold {
            Reduce::And => Code::VEX_Kandq_kr_kr_kr,
            Reduce::Or => Code::VEX_Korq_kr_kr_kr,
            Reduce::Xor => Code::VEX_Kxorq_kr_kr_kr,
            _ => return Err("arithmetic on bool".into()),
        };
        let operands =
            [Operand::Reg(partial, Width::K), Operand::Reg(partial, Width::K), Operand::Reg(value, Width::K)];
        body.b.push(code, &operands, Some(partial), None, None, false);
        Ok(())
    }
}

impl LoopCarried for ReductionLanes {
    fn traits(&self) -> Traits {
        Traits::UNORDERED
    }

    fn clear_copies(&self, b: &mut Builder) {
        self.clear(b, 1..usize::MAX);
    }

    fn step(&mut self, body: &mut BodyLowering<'_>, part: LoopPart) -> Result<(), String> {
        for at in 0..self.addends.len() {
            let addend = self.addends[at];
            self.add(body, self.set(part.copy()), &addend, part.masking())?;
            body.b.check_size()?;
        }
        Ok(())
    }

    fn merge_copies(&self, b: &mut Builder) {
        for registers in self.registers() {
            let all = self.together(b, registers);
            b.assign(registers[0], all);
        }
    }

    fn finish(&self, b: &mut Builder) {
        self.finish_at(b, self.offset);
    }

    fn ones_sum(&self) -> Option<&ReductionLanes> {
        self.is_ones_sum().then_some(self)
    }

    fn description(&self) -> String {
        let count: usize = self.registers().map(<[VReg]>::len).sum();
        match &self.form {
            SumForm::Halves { .. } => format!("sums of 32-bit halves in lanes of 64 bits, {count} registers"),
            SumForm::Dots { .. } => {
                format!("lower and upper bytes apart in lanes of 32 bits, by dot products, {count} registers")
            }
            SumForm::Bytes { .. } => format!("sums of bytes in lanes of 64 bits, {count} registers"),
            SumForm::Lanes { lane, .. } => {
                format!("partial results in lanes of {} bits, {count} registers", lane.bits())
            }
            SumForm::Mask { lanes, .. } => format!("{lanes} partial results in a mask register"),
        }
    }

    fn is_swapped(&self) -> bool {
        self.swapped == Some(true)
    }
}

fn pinned(b: &mut Builder, count: usize) -> Vec<VReg> {
    (0..count).map(|_| b.pinned_vector()).collect()
}

fn both(b: &mut Builder, one: Option<VReg>, other: Option<VReg>) -> Option<VReg> {
    match (one, other) {
        (Some(one), Some(other)) => Some(b.cond_and(one, other)),
        (one, other) => one.or(other),
    }
}

/// Whether adding a vector to partial results takes no longer than the cycle that any vector takes.
fn is_quick(fold: Reduce, ty: Ty) -> bool {
    match fold {
        Reduce::Add | Reduce::Xor | Reduce::And | Reduce::Or => true,
        // In lanes of twice as many bits.
        Reduce::Addc => ty != Ty::U64,
        Reduce::Min | Reduce::Max => ty.bits() <= 32,
        Reduce::Adds | Reduce::Smin | Reduce::Smax | Reduce::Addmod(_) => false,
    }
}

/// The lane of a value that an addend of a sum zero-extends, if it does and nothing is lost by adding before
/// extending; a literal extends the word that it fits.
fn widened(plan: &VectorStage, addend: &Addend) -> Option<Lane> {
    if addend.negated {
        return None;
    }
    let body = &plan.pipe.body;
    let word = Lane::of_bytes(plan.pipe.word_bytes());
    if let Some(literal) = plan.constants[addend.value.0 as usize] {
        return (literal <= word.mask() && word < Lane::of_bytes(body.ty(addend.value).bytes()))
            .then_some(word);
    }
    let Op::Convert(ConvertOp::Zext, narrow) = body.inst(addend.value).op else { return None };
    let lane = Lane::of_bytes(body.ty(narrow).bytes()).max(word);
    (lane < Lane::of_bytes(body.ty(addend.value).bytes()).max(word)
        && plan.constants[narrow.0 as usize].is_none())
    .then_some(lane)
}

/// What a widened addend extends.
fn widened_value(body: &mut BodyLowering<'_>, addend: &Addend) -> Result<(Lane, Vec<VReg>), String> {
    if let Some(literal) = body.plan.constants[addend.value.0 as usize] {
        let word = body.word();
        return Ok((word, vec![body.b.splat(word, literal)]));
    }
    let Op::Convert(_, narrow) = body.plan.pipe.body.inst(addend.value).op else {
        return Err("an addend that is not extended".into());
    };
    let ty = body.plan.pipe.body.ty(narrow);
    let lane = body.lane(ty);
    if ty == Ty::Bool {
        let cond = body.cond(narrow)?;
        let (one, zero) = (body.b.splat(lane, 1), body.b.splat(Lane::B, 0));
        return Ok((lane, vec![body.b.select(lane, cond, one, zero)]));
    }
    Ok((lane, body.int(narrow)?))
}

/// The operation on partial results.
fn combine(b: &mut Builder, fold: Reduce, ty: Ty, lane: Lane, x: VReg, y: VReg) -> VReg {
    match fold {
        // Sums modulo a number are not kept in this form.
        Reduce::Add | Reduce::Addmod(_) => b.add(lane, x, y),
        Reduce::Addc => b.addc(lane, x, y),
        Reduce::Adds if ty.bits() == lane.bits() => b.saturating(BinaryOp::Adds, lane, x, y),
        Reduce::Adds => {
            let (sum, most) = (b.add(lane, x, y), b.splat(lane, ty.mask()));
            b.min_max(lane, false, false, sum, most)
        }
        Reduce::Xor => b.xor(x, y),
        Reduce::And => b.and(x, y),
        Reduce::Or => b.or(x, y),
        Reduce::Min => b.min_max(lane, false, false, x, y),
        Reduce::Max => b.min_max(lane, false, true, x, y),
        Reduce::Smin | Reduce::Smax => {
            let max = fold == Reduce::Smax;
            let spare = lane.bits() - ty.bits();
            if spare == 0 {
                return b.min_max(lane, true, max, x, y);
            }
            let (x, y) = (b.shl(lane, x, spare), b.shl(lane, y, spare));
            let chosen = b.min_max(lane, true, max, x, y);
            b.shr(lane, chosen, spare)
        }
    }
}

/// What changes nothing.
fn identity(b: &mut Builder, fold: Reduce, ty: Ty, lane: Lane) -> VReg {
    match fold.identity(ty) {
        0 => b.splat(Lane::B, 0),
        1 if ty == Ty::Bool => b.splat(Lane::B, 0xff),
        number => b.splat(lane, number),
    }
}
