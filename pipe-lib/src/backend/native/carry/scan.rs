//! Running reductions whose every step the body reads: computed for a whole vector from what does not depend
//! on them, with the result so far carried from vector to vector in every lane of a register.

use iced_x86::{Code, Register};

use super::delay::Last;
use super::{Due, LoopCarried, LoopPart, Traits};
use crate::analyse::Reduce;
use crate::backend::native::asm;
use crate::backend::native::isa::{Features, Isa};
use crate::backend::native::lanes::Lane;
use crate::backend::native::lower::{BodyLowering, Val};
use crate::backend::native::vcode::{Builder, Operand, VReg, Width};
use crate::ir::{BinaryOp, StateId, Value};
use crate::plan::stage::Running;

/// A running reduction.
pub(super) struct Scan {
    state: StateId,
    /// What a word contributes, and what the state is after it.
    operand: Value,
    next: Value,
    fold: Reduce,
    /// The bits of each result that are kept.
    kept: Option<u64>,
    /// Masks for the steps across a vector.
    masks: Vec<VReg>,
    /// The result so far, in every lane.
    last: Last,
    offset: i32,
}

impl Scan {
    /// Takes registers and imports the state; `next` is what it is after a word.
    pub(super) fn new(
        b: &mut Builder,
        lane: Lane,
        running: Running,
        state: usize,
        next: Value,
        offset: i32,
    ) -> Scan {
        let Running { fold, kept, operand } = running;
        let last = Last::new(b, lane, offset);
        let numbers = match b.isa {
            Isa::Avx2 => Vec::new(),
            Isa::Avx512 if sums_bytes(b, lane, fold) => {
                // Of each quad as many bytes as there are quads before it.
                vec![(0..64).filter(|i| i % 8 < i / 8).fold(0, |mask, i| mask | 1u64 << i)]
            }
            Isa::Avx512 => {
                let elements = 16 / permuted(b, lane).bytes();
                let of = |wanted: fn(usize) -> bool| {
                    (0..4 * elements)
                        .filter(|element| wanted(element / elements))
                        .fold(0, |mask, element| mask | 1u64 << element)
                };
                vec![of(|lane| lane % 2 == 1), of(|lane| lane >= 2)]
            }
        };
        let mut masks = Vec::with_capacity(numbers.len());
        for number in numbers {
            let mask = b.pinned_mask();
            b.raw(asm::mov_imm(Register::RAX, number));
            let operands = [Operand::Reg(mask, Width::K), Operand::Gpr(Register::RAX)];
            b.push(Code::VEX_Kmovq_kr_r64, &operands, Some(mask), None, None, false);
            masks.push(mask);
        }
        Scan { state: StateId(state as u32), operand, next, fold, kept, masks, last, offset }
    }

    /// The running reduction after each word, given what the words contribute and which of them are there.
    /// The register then holds the last one in every lane.
    fn scan(&self, b: &mut Builder, words: VReg, active: Option<VReg>) -> VReg {
        let lane = self.last.lane;
        let (fold, turned) = turned(self.fold, lane);
        let mut running = turn(b, lane, turned, words);
        if let Some(active) = active {
            let zero = b.splat(Lane::B, 0);
            running = b.select(lane, active, running, zero);
        }
        // Within 64 bits by shifts, which have a port to themselves.
        let mut distance = lane.bits();
        while distance < 64 {
            let moved = b.shl(Lane::Q, running, distance);
            running = join(b, fold, lane, running, moved);
            distance *= 2;
        }
        running = self.scan_quads(b, fold, running);
        let running = turn(b, lane, turned, running);
        let mut result = join(b, self.fold, lane, running, self.last.reg);
        if let Some(kept) = self.kept {
            result = b.and_imm(lane, result, kept);
        }
        // From vector to vector it takes this one operation and a permutation.
        let next = match b.isa {
            Isa::Avx512 => spread(b, lane, result, |_| 3, None),
            Isa::Avx2 => {
                let ends = ends(b, lane, result);
                let code = Code::VEX_Vpermq_ymm_ymmm256_imm8;
                b.vector_of(Width::Y, code, &[Operand::Reg(ends, Width::Y), Operand::Imm(0xee)])
            }
        };
        b.assign(self.last.reg, next);
        result
    }

    /// The running reduction, given that within each 64 bits.
    fn scan_quads(&self, b: &mut Builder, fold: Reduce, mut running: VReg) -> VReg {
        let (lane, full) = (self.last.lane, b.full());
        let bytes = lane.bytes();
        let v = |reg| Operand::Reg(reg, full);
        if let [before] = self.masks[..] {
            // Sums of bytes: the last bytes of the quads before each, added by one instruction.
            let index = b.bytes_of(|i| (8 * (i % 8) + 7) as u8);
            let code = Code::EVEX_Vpermb_zmm_k1z_zmm_zmmm512;
            let quads = b.masked(code, before, None, &[v(index), v(running)]);
            let sums = b.sum_bytes(quads);
            let everywhere = b.bytes_of(|i| (i % 16 / 8 * 8) as u8);
            let sums = b.shuffle_bytes(sums, everywhere);
            return b.add(lane, running, sums);
        }
        // Upper halves of the 128-bit lanes: what the lower half came to.
        let control = b.bytes_of(|i| if i % 16 < 8 { 0x80 } else { (8 - bytes + i % bytes) as u8 });
        let lower = b.shuffle_bytes(running, control);
        running = join(b, fold, lane, running, lower);
        if let [odd, upper] = self.masks[..] {
            let before = spread(b, lane, running, |to| to & 2, Some(odd));
            running = join(b, fold, lane, running, before);
            let before = spread(b, lane, running, |_| 1, Some(upper));
            return join(b, fold, lane, running, before);
        }
        let ends = ends(b, lane, running);
        let code = Code::VEX_Vperm2i128_ymm_ymm_ymmm256_imm8;
        let before = b.vector(code, &[v(ends), v(ends), Operand::Imm(0x08)]);
        join(b, fold, lane, running, before)
    }
}

impl LoopCarried for Scan {
    fn traits(&self) -> Traits {
        Traits { due: Due::Between, masked: true, ..Traits::ORDERED }
    }

    fn step(&mut self, body: &mut BodyLowering<'_>, part: LoopPart) -> Result<(), String> {
        body.compute(self.operand)?;
        let words = body.int(self.operand)?[0];
        // The register as it is now, for who reads the state before each word.
        let old = Last { reg: body.b.copy_of(self.last.reg), ..self.last };
        let running = self.scan(body.b, words, part.masking().map(|masking| masking.active));
        let before = old.before(body.b, running);
        body.give_state(self.state, Val::Int(vec![before]));
        body.give(self.next, running);
        Ok(())
    }

    fn finish(&self, b: &mut Builder) {
        self.last.finish(b, self.offset);
    }

    fn description(&self) -> String {
        "the result so far, in a register".to_owned()
    }
}

/// An operation whose neutral element is 0, and the bits of words and results to be turned for it.
pub(super) fn turned(fold: Reduce, lane: Lane) -> (Reduce, u64) {
    let all = lane.mask();
    let sign = all ^ all >> 1;
    match fold {
        Reduce::And => (Reduce::Or, all),
        Reduce::Min => (Reduce::Max, all),
        Reduce::Smax => (Reduce::Max, sign),
        Reduce::Smin => (Reduce::Max, all ^ sign),
        fold => (fold, 0),
    }
}

/// The words with those bits turned, on the way there or back.
pub(super) fn turn(b: &mut Builder, lane: Lane, turned: u64, words: VReg) -> VReg {
    if turned == 0 {
        return words;
    }
    let turned = b.splat(lane, turned);
    b.xor(words, turned)
}

pub(super) fn join(b: &mut Builder, fold: Reduce, lane: Lane, x: VReg, y: VReg) -> VReg {
    match fold {
        Reduce::Xor => b.xor(x, y),
        Reduce::Or => b.or(x, y),
        Reduce::And => b.and(x, y),
        Reduce::Min | Reduce::Max => b.min_max(lane, false, fold == Reduce::Max, x, y),
        Reduce::Smin | Reduce::Smax => b.min_max(lane, true, fold == Reduce::Smax, x, y),
        // The target has no others: see `StateKinds::around`.
        Reduce::Add | Reduce::Addc | Reduce::Addmod(_) => b.add(lane, x, y),
        Reduce::Adds => b.saturating(BinaryOp::Adds, lane, x, y),
    }
}

/// Whether a running sum of bytes has a shorter way.
fn sums_bytes(b: &Builder, lane: Lane, fold: Reduce) -> bool {
    lane == Lane::B && fold == Reduce::Add && b.features.has(Features::VBMI)
}

/// The elements that [`spread`] moves.
fn permuted(b: &Builder, lane: Lane) -> Lane {
    if lane == Lane::B && !b.features.has(Features::VBMI) { Lane::Q } else { lane }
}

/// In each word of each 128-bit lane the last word of the 128-bit lane that `from` names; zero where the mask
/// is not set.
fn spread(
    b: &mut Builder,
    lane: Lane,
    vector: VReg,
    from: impl Fn(usize) -> usize,
    mask: Option<VReg>,
) -> VReg {
    let by = permuted(b, lane);
    let vector = if by == lane { vector } else { ends(b, lane, vector) };
    let elements = 16 / by.bytes();
    let index = b.lanes_of(by, |i| (from(i as usize / elements) * elements + elements - 1) as u64);
    let code = match by {
        Lane::B => Code::EVEX_Vpermb_zmm_k1z_zmm_zmmm512,
        Lane::W => Code::EVEX_Vpermw_zmm_k1z_zmm_zmmm512,
        Lane::D => Code::EVEX_Vpermd_zmm_k1z_zmm_zmmm512b32,
        Lane::Q => Code::EVEX_Vpermq_zmm_k1z_zmm_zmmm512b64,
    };
    let operands = [index, vector].map(|reg| Operand::Reg(reg, Width::Z));
    match mask {
        Some(mask) => b.masked(code, mask, None, &operands),
        None => b.vector(code, &operands),
    }
}

/// The last word of each 128-bit lane in every word of it.
fn ends(b: &mut Builder, lane: Lane, vector: VReg) -> VReg {
    let spread = b.bytes_of(|i| (16 - lane.bytes() + i % lane.bytes()) as u8);
    b.shuffle_bytes(vector, spread)
}
