//! One operation on every lane of a vector: the instruction where the processor has it, otherwise an
//! expansion.
//!
//! Lanes are 1, 2, 4 or 8 bytes wide and unsigned unless a name says otherwise. Conditions are masks on
//! AVX-512 (bit `i` is lane `i`; bits beyond the last lane may be anything) and vectors of all ones and zeros
//! on AVX2.
//!
//! The files are tables: an entry an operation, both instruction sets side by side in each, so that an
//! expansion and the instruction it replaces are read together.

mod arithmetic;
mod bits;
mod compare;
mod shift;
pub(super) mod whole;
mod width;

use iced_x86::Code;

use super::isa::Isa;
use super::vcode::{Builder, Operand, RegKind, VReg, Width};

/// Width of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Lane {
    B,
    W,
    D,
    Q,
}

impl Lane {
    pub(super) const ALL: [Lane; 4] = [Lane::B, Lane::W, Lane::D, Lane::Q];

    /// The lane of that many bytes (1, 2, 4 or 8); words of 16 are two lanes of 8.
    pub(super) fn of_bytes(bytes: usize) -> Lane {
        Lane::ALL[(bytes.trailing_zeros() as usize).min(3)]
    }

    pub(super) const fn bytes(self) -> usize {
        1 << self as usize
    }

    pub(super) const fn bits(self) -> u32 {
        8 << self as u32
    }

    /// All ones.
    pub(super) const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
}

/// A comparison that both instruction sets reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cmp {
    Eq,
    Ne,
    Ltu,
    Leu,
    Lts,
    Les,
}

impl Builder {
    /// A constant with the same number in every lane.
    pub(super) fn splat(&mut self, lane: Lane, value: u64) -> VReg {
        self.computed([0, lane as u64, value & lane.mask()], |b| {
            let bytes = &value.to_le_bytes()[..lane.bytes()];
            b.constant(bytes.repeat(b.vector_bytes() / lane.bytes()))
        })
    }

    /// A constant with `f(lane index)` in each lane.
    pub(super) fn lanes_of(&mut self, lane: Lane, f: impl Fn(u64) -> u64) -> VReg {
        let count = self.vector_bytes() / lane.bytes();
        let bytes = (0..count as u64)
            .flat_map(|i| f(i).to_le_bytes().into_iter().take(lane.bytes()).collect::<Vec<_>>())
            .collect();
        self.constant(bytes)
    }

    /// A constant whose byte `i` is `f(i)`.
    pub(super) fn bytes_of(&mut self, f: impl Fn(usize) -> u8) -> VReg {
        let bytes = (0..self.vector_bytes()).map(f).collect();
        self.constant(bytes)
    }

    fn v(&self, reg: VReg) -> Operand {
        Operand::Reg(reg, self.full())
    }

    pub(super) fn binary_code(&mut self, code: Code, a: VReg, b: VReg) -> VReg {
        self.vector(code, &[self.v(a), self.v(b)])
    }

    /// An instruction of two operands whose order does not matter: a constant goes last, where it may be in
    /// memory.
    fn commutative(&mut self, code: Code, a: VReg, b: VReg) -> VReg {
        let swap = self.constant_bytes(a).is_some() || (self.constant_bytes(b).is_none() && a > b);
        let (a, b) = if swap { (b, a) } else { (a, b) };
        self.binary_code(code, a, b)
    }

    fn shift_code(&mut self, code: Code, a: VReg, count: u32) -> VReg {
        self.vector(code, &[self.v(a), Operand::Imm(count as u8)])
    }

    fn pick(&self, z: Code, y: Code) -> Code {
        match self.isa {
            Isa::Avx512 => z,
            Isa::Avx2 => y,
        }
    }

    // Whole vectors, for the end of the function.

    /// Every lane moved by `distance` bytes (half of the vector, a quarter, ... one), both ways at once: the
    /// operand with which a reduction combines the vector.
    pub(super) fn exchange(&mut self, a: VReg, distance: usize) -> VReg {
        let v = self.v(a);
        match (self.isa, distance) {
            (_, 32) => {
                self.vector(Code::EVEX_Vshufi64x2_zmm_k1z_zmm_zmmm512b64_imm8, &[v, v, Operand::Imm(0x4e)])
            }
            (Isa::Avx512, 16) => {
                self.vector(Code::EVEX_Vshufi64x2_zmm_k1z_zmm_zmmm512b64_imm8, &[v, v, Operand::Imm(0xb1)])
            }
            (Isa::Avx2, 16) => self.vector(Code::VEX_Vpermq_ymm_ymmm256_imm8, &[v, Operand::Imm(0x4e)]),
            (_, 8 | 4) => {
                let code =
                    self.pick(Code::EVEX_Vpshufd_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpshufd_ymm_ymmm256_imm8);
                self.vector(code, &[v, Operand::Imm(if distance == 8 { 0x4e } else { 0xb1 })])
            }
            (_, 2) => {
                let left = self.shl(Lane::D, a, 16);
                let right = self.shr(Lane::D, a, 16);
                self.or(left, right)
            }
            (_, _) => {
                let left = self.shl(Lane::W, a, 8);
                let right = self.shr(Lane::W, a, 8);
                self.or(left, right)
            }
        }
    }

    /// All-ones masks for a gather: it clears the register that it is given.
    pub(super) fn gather_mask(&mut self) -> VReg {
        match self.isa {
            Isa::Avx512 => {
                let k0 = Operand::Gpr(iced_x86::Register::K0);
                self.fresh(RegKind::Mask, Width::K, Code::VEX_Kxnorq_kr_kr_kr, &[k0, k0])
            }
            Isa::Avx2 => {
                let zero = self.splat(Lane::B, 0);
                let zero = self.v(zero);
                self.fresh(RegKind::Vector, Width::Y, Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, &[zero, zero])
            }
        }
    }
}
