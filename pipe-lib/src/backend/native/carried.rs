//! States whose value at each word the body reads: the value of the word before, and running reductions.
//!
//! Both are computed for a whole vector from what does not depend on them, with one register carried from vector to
//! vector: the last values themselves, or the running result in every lane.

use crate::ir::Ty;
use iced_x86::{Code, Register};

use super::asm;
use super::frame::STATES;
use super::isa::{Features, Isa};
use super::lanes::Lane;
use super::strategy::Fold;
use super::vcode::{Builder, Kind, Mem, Opd, VReg, Width};

/// Start of the scratch area below the stack pointer, in bytes.
const SCRATCH: i32 = -128;

/// The register carried for one state.
pub(super) struct Carried {
    lane: Lane,
    ty: Ty,
    last: VReg,
}

impl Carried {
    /// Takes a register and imports the state into every lane of it.
    pub(super) fn new(b: &mut Builder, lane: Lane, ty: Ty, slot: i32) -> Carried {
        let last = b.pinned_vector();
        let from = Opd::Mem(Mem::Base { base: STATES, index: Register::None, scale: 1, disp: slot });
        let code = broadcast(b.isa, lane);
        let full = b.full();
        let value = b.fresh(Kind::Vector, full, code, &[from]);
        b.assign(last, value);
        Carried { lane, ty, last }
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
        let full = b.full();
        let (store, load) = moves(b.isa);
        let at = |disp, index| Opd::Mem(Mem::Base { base: Register::RSP, index, scale: 1, disp });
        let vector = b.vector_bytes() as i32;
        b.push(store, &[at(SCRATCH, Register::None), Opd::Reg(self.last, full)], None, None, None, false);
        b.push(
            store,
            &[at(SCRATCH + vector, Register::None), Opd::Reg(values, full)],
            None,
            None,
            None,
            false,
        );
        let moved = b.fresh(Kind::Vector, full, load, &[at(SCRATCH, Register::RAX)]);
        b.assign(self.last, moved);
    }

    /// The running reduction after each word, given what the words contribute (the neutral 0 where there is no word);
    /// the register then holds the last one in every lane.
    pub(super) fn scan(&self, b: &mut Builder, fold: Fold, words: VReg) -> VReg {
        let full = b.full();
        let v = |reg| Opd::Reg(reg, full);
        let lane = self.lane;
        // Within each 128 bits: sums of 2, 4, 8, 16 neighbours, zeros coming in.
        let shift = match b.isa {
            Isa::Avx512 => Code::EVEX_Vpslldq_zmm_zmmm512_imm8,
            Isa::Avx2 => Code::VEX_Vpslldq_ymm_ymm_imm8,
        };
        let mut running = words;
        let mut distance = lane.bytes();
        while distance < 16 {
            let moved = b.vector(shift, &[v(running), Opd::Imm(distance as u8)]);
            running = join(b, fold, lane, running, moved);
            distance *= 2;
        }
        // The last of each 128 bits, for those behind it.
        let spread = b.bytes_of(|i| (16 - lane.bytes() + i % lane.bytes()) as u8);
        let ends = b.shuffle_bytes(running, spread);
        let zero = b.splat(Lane::B, 0);
        let running = match b.isa {
            Isa::Avx512 => {
                let code = Code::EVEX_Valignq_zmm_k1z_zmm_zmmm512b64_imm8;
                let one = b.vector(code, &[v(ends), v(zero), Opd::Imm(6)]);
                let two = b.vector(code, &[v(one), v(zero), Opd::Imm(6)]);
                let three = b.vector(code, &[v(two), v(zero), Opd::Imm(6)]);
                let nearer = join(b, fold, lane, one, two);
                let earlier = join(b, fold, lane, nearer, three);
                join(b, fold, lane, running, earlier)
            }
            Isa::Avx2 => {
                // The lower half's end in the upper half.
                let code = Code::VEX_Vperm2i128_ymm_ymm_ymmm256_imm8;
                let earlier = b.vector(code, &[v(ends), v(ends), Opd::Imm(0x08)]);
                join(b, fold, lane, running, earlier)
            }
        };
        let result = join(b, fold, lane, running, self.last);
        // The chain from vector to vector is one operation: the total is known without it.
        let total = last_lane(b, lane, running);
        let next = join(b, fold, lane, self.last, total);
        // `result` has read the old one already.
        b.assign(self.last, next);
        result
    }

    /// The register before [`Carried::scan`] replaces it, for [`Carried::before`].
    pub(super) fn copy(&self, b: &mut Builder) -> Carried {
        let full = b.full();
        let (_, load) = moves(b.isa);
        let last = b.fresh(Kind::Vector, full, load, &[Opd::Reg(self.last, full)]);
        Carried { lane: self.lane, ty: self.ty, last }
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

fn moves(isa: Isa) -> (Code, Code) {
    match isa {
        Isa::Avx512 => (Code::EVEX_Vmovdqu64_zmmm512_k1z_zmm, Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512),
        Isa::Avx2 => (Code::VEX_Vmovdqu_ymmm256_ymm, Code::VEX_Vmovdqu_ymm_ymmm256),
    }
}

fn broadcast(isa: Isa, lane: Lane) -> Code {
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
        Fold::Max => b.min_max(lane, false, true, x, y),
        _ => b.add(lane, x, y),
    }
}

/// The last lane in every lane.
fn last_lane(b: &mut Builder, lane: Lane, vector: VReg) -> VReg {
    let full = b.full();
    let spread = b.bytes_of(|i| (16 - lane.bytes() + i % lane.bytes()) as u8);
    let ends = b.shuffle_bytes(vector, spread);
    match b.isa {
        Isa::Avx512 if lane == Lane::B && b.features.has(Features::VBMI) => {
            let index = b.splat(Lane::B, 63);
            b.vector(Code::EVEX_Vpermb_zmm_k1z_zmm_zmmm512, &[Opd::Reg(index, full), Opd::Reg(vector, full)])
        }
        Isa::Avx512 => {
            let ends = Opd::Reg(ends, full);
            b.vector(Code::EVEX_Vshufi64x2_zmm_k1z_zmm_zmmm512b64_imm8, &[ends, ends, Opd::Imm(0xff)])
        }
        Isa::Avx2 => {
            b.vector_of(Width::Y, Code::VEX_Vpermq_ymm_ymmm256_imm8, &[Opd::Reg(ends, full), Opd::Imm(0xee)])
        }
    }
}
