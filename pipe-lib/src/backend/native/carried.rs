//! States whose value at each word the body reads: the value of the word before, and running reductions.
//!
//! Both are computed for a whole vector from what does not depend on them, with one register carried from vector to
//! vector: the last values themselves, or the running result in every lane.

use iced_x86::{Code, Register};

use super::asm;
use super::frame::STATES;
use super::isa::{Features, Isa};
use super::lanes::Lane;
use super::slide::slide;
use super::strategy::Fold;
use super::vcode::{Builder, Kind, Mem, Opd, VReg, Width};

/// Start of the scratch area below the stack pointer, in bytes.
const SCRATCH: i32 = -128;

/// The register carried for one state.
pub(super) struct Carried {
    lane: Lane,
    /// Of a running reduction: the operation, and masks for its steps.
    fold: Fold,
    masks: Vec<VReg>,
    /// The last value in every lane, at least in the last one.
    last: VReg,
}

impl Carried {
    /// Takes a register and imports the state of a delay into every lane of it.
    pub(super) fn delay(b: &mut Builder, lane: Lane, slot: i32) -> Carried {
        let last = b.pinned_vector();
        let from = Opd::Mem(Mem::Base { base: STATES, index: Register::None, scale: 1, disp: slot });
        let code = broadcast(b.isa, lane);
        let full = b.full();
        let value = b.fresh(Kind::Vector, full, code, &[from]);
        b.assign(last, value);
        Carried { lane, fold: Fold::Add, masks: Vec::new(), last }
    }

    /// The same for a running reduction.
    pub(super) fn running(b: &mut Builder, lane: Lane, fold: Fold, slot: i32) -> Carried {
        let carried = Carried::delay(b, lane, slot);
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
            let operands = [Opd::Reg(mask, Width::K), Opd::Gpr(Register::RAX)];
            b.push(Code::VEX_Kmovq_kr_r64, &operands, Some(mask), None, None, false);
            masks.push(mask);
        }
        Carried { fold, masks, ..carried }
    }

    /// The values of the words before, given those of the words.
    pub(super) fn before(&self, b: &mut Builder, values: VReg) -> VReg {
        let v = |b: &Builder, reg| Opd::Reg(reg, b.full());
        let (values_op, last_op) = (v(b, values), v(b, self.last));
        let lane_bytes = self.lane.bytes() as u8;
        match (b.isa, self.lane) {
            (Isa::Avx512, Lane::Q) => {
                let code = Code::EVEX_Valignq_zmm_k1z_zmm_zmmm512b64_imm8;
                b.vector(code, &[values_op, last_op, Opd::Imm(7)])
            }
            (Isa::Avx512, Lane::D) => {
                let code = Code::EVEX_Valignd_zmm_k1z_zmm_zmmm512b32_imm8;
                b.vector(code, &[values_op, last_op, Opd::Imm(15)])
            }
            (Isa::Avx512, _) => {
                let code = Code::EVEX_Valignq_zmm_k1z_zmm_zmmm512b64_imm8;
                let quarters = b.vector(code, &[values_op, last_op, Opd::Imm(6)]);
                let quarters = v(b, quarters);
                let code = Code::EVEX_Vpalignr_zmm_k1z_zmm_zmmm512_imm8;
                b.vector(code, &[values_op, quarters, Opd::Imm(16 - lane_bytes)])
            }
            (Isa::Avx2, _) => {
                let code = Code::VEX_Vperm2i128_ymm_ymm_ymmm256_imm8;
                let halves = b.vector(code, &[last_op, values_op, Opd::Imm(0x21)]);
                let halves = v(b, halves);
                let code = Code::VEX_Vpalignr_ymm_ymm_ymmm256_imm8;
                b.vector(code, &[values_op, halves, Opd::Imm(16 - lane_bytes)])
            }
        }
    }

    /// The whole vector has been done: its last value is carried on.
    pub(super) fn advance(&self, b: &mut Builder, values: VReg) {
        b.assign(self.last, values);
    }

    /// Only the first rax bytes of the vector were words; perhaps none.
    pub(super) fn advance_rest(&self, b: &mut Builder, values: VReg) {
        let moved = slide(b, self.last, values);
        b.assign(self.last, moved);
    }

    /// The running reduction after each word, given what the words contribute and which of them there are; the register
    /// then holds the last one in every lane.
    pub(super) fn scan(&self, b: &mut Builder, words: VReg, active: Option<VReg>) -> VReg {
        let lane = self.lane;
        // An operation whose neutral element is 0, on words with some bits turned.
        let all = lane.mask();
        let sign = all ^ all >> 1;
        let (fold, turned) = match self.fold {
            Fold::And => (Fold::Or, all),
            Fold::Min => (Fold::Max, all),
            Fold::Smax => (Fold::Max, sign),
            Fold::Smin => (Fold::Max, all ^ sign),
            fold => (fold, 0),
        };
        let turn = |b: &mut Builder, words: VReg| match turned {
            0 => words,
            _ => {
                let turned = b.splat(lane, turned);
                b.xor(words, turned)
            }
        };
        let mut running = turn(b, words);
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
        let running = turn(b, running);
        let result = join(b, self.fold, lane, running, self.last);
        // From vector to vector it takes this one operation and a permutation.
        let next = match b.isa {
            Isa::Avx512 => spread(b, lane, result, |_| 3, None),
            Isa::Avx2 => {
                let ends = ends(b, lane, result);
                let code = Code::VEX_Vpermq_ymm_ymmm256_imm8;
                b.vector_of(Width::Y, code, &[Opd::Reg(ends, Width::Y), Opd::Imm(0xee)])
            }
        };
        b.assign(self.last, next);
        result
    }

    /// The running reduction, given that within each 64 bits.
    fn scan_quads(&self, b: &mut Builder, fold: Fold, mut running: VReg) -> VReg {
        let (lane, full) = (self.lane, b.full());
        let bytes = lane.bytes();
        let v = |reg| Opd::Reg(reg, full);
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
        let before = b.vector(code, &[v(ends), v(ends), Opd::Imm(0x08)]);
        join(b, fold, lane, running, before)
    }

    /// The register before [`Carried::scan`] replaces it, for [`Carried::before`].
    pub(super) fn copy(&self, b: &mut Builder) -> Carried {
        let full = b.full();
        let (_, load) = moves(b.isa);
        let last = b.fresh(Kind::Vector, full, load, &[Opd::Reg(self.last, full)]);
        Carried { lane: self.lane, fold: self.fold, masks: Vec::new(), last }
    }

    /// Writes the last lane to the state.
    pub(super) fn finish(&self, b: &mut Builder, slot: i32) {
        let full = b.full();
        let (store, _) = moves(b.isa);
        let buffer = Mem::Base { base: Register::RSP, index: Register::None, scale: 1, disp: SCRATCH };
        b.push(store, &[Opd::Mem(buffer), Opd::Reg(self.last, full)], None, None, None, false);
        let rax = Register::RAX;
        let end = SCRATCH + b.vector_bytes() as i32 - 8;
        b.raw(asm::rm(Code::Mov_r64_rm64, rax, Register::RSP, Register::None, end));
        let above = 64 - self.lane.bits() as i32;
        if above > 0 {
            b.raw(asm::ri(Code::Shr_rm64_imm8, rax, above));
        }
        b.raw(asm::mr(Code::Mov_rm64_r64, STATES, Register::None, slot, rax));
    }
}

/// What stores a vector and what loads one.
pub(super) fn moves(isa: Isa) -> (Code, Code) {
    match isa {
        Isa::Avx512 => (Code::EVEX_Vmovdqu64_zmmm512_k1z_zmm, Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512),
        Isa::Avx2 => (Code::VEX_Vmovdqu_ymmm256_ymm, Code::VEX_Vmovdqu_ymm_ymmm256),
    }
}

/// What fills a vector with a number from memory.
pub(super) fn broadcast(isa: Isa, lane: Lane) -> Code {
    let codes = match isa {
        Isa::Avx512 => [
            Code::EVEX_Vpbroadcastb_zmm_k1z_xmmm8,
            Code::EVEX_Vpbroadcastw_zmm_k1z_xmmm16,
            Code::EVEX_Vpbroadcastd_zmm_k1z_xmmm32,
            Code::EVEX_Vpbroadcastq_zmm_k1z_xmmm64,
        ],
        Isa::Avx2 => [
            Code::VEX_Vpbroadcastb_ymm_xmmm8,
            Code::VEX_Vpbroadcastw_ymm_xmmm16,
            Code::VEX_Vpbroadcastd_ymm_xmmm32,
            Code::VEX_Vpbroadcastq_ymm_xmmm64,
        ],
    };
    codes[lane as usize]
}

fn join(b: &mut Builder, fold: Fold, lane: Lane, x: VReg, y: VReg) -> VReg {
    match fold {
        Fold::Xor => b.xor(x, y),
        Fold::Or => b.or(x, y),
        Fold::And => b.and(x, y),
        Fold::Min | Fold::Max => b.min_max(lane, false, fold == Fold::Max, x, y),
        Fold::Smin | Fold::Smax => b.min_max(lane, true, fold == Fold::Smax, x, y),
        Fold::Add | Fold::Addc => b.add(lane, x, y),
    }
}

/// Whether a running sum of bytes has a shorter way.
fn sums_bytes(b: &Builder, lane: Lane, fold: Fold) -> bool {
    lane == Lane::B && fold == Fold::Add && b.features.has(Features::VBMI)
}

/// The elements that [`spread`] moves.
fn permuted(b: &Builder, lane: Lane) -> Lane {
    if lane == Lane::B && !b.features.has(Features::VBMI) { Lane::Q } else { lane }
}

/// In each word of each 128-bit lane the last word of the 128-bit lane that `from` says; zero where the mask is not set.
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
    let operands = [index, vector].map(|reg| Opd::Reg(reg, Width::Z));
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
