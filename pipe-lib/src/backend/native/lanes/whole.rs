//! Whole vectors: from and to memory and general registers, sums of all lanes, products without carry of
//! 128-bit lanes.

use iced_x86::{Code, Register};

use super::Lane;
use crate::backend::native::abi::SCRATCH;
use crate::backend::native::asm;
use crate::backend::native::isa::{Features, Isa};
use crate::backend::native::vcode::{Builder, Mem, Operand, RegKind, VReg, Width};

/// `[base + disp]`.
pub(in crate::backend::native) const fn at(base: Register, disp: i32) -> Mem {
    indexed(base, Register::None, 1, disp)
}

/// `[base + index * scale + disp]`.
pub(in crate::backend::native) const fn indexed(
    base: Register,
    index: Register,
    scale: u8,
    disp: i32,
) -> Mem {
    Mem::Base { base, index, scale, disp }
}

impl Builder {
    /// A whole vector from memory.
    pub(in crate::backend::native) fn load(&mut self, from: Mem) -> VReg {
        let full = self.full();
        self.fresh(RegKind::Vector, full, self.load_code(), &[Operand::Mem(from)])
    }

    /// What loads a whole vector, or copies one.
    pub(in crate::backend::native) fn load_code(&self) -> Code {
        self.pick(Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512, Code::VEX_Vmovdqu_ymm_ymmm256)
    }

    /// A whole vector to memory.
    pub(in crate::backend::native) fn store(&mut self, to: Mem, vector: VReg) {
        let code = self.pick(Code::EVEX_Vmovdqu64_zmmm512_k1z_zmm, Code::VEX_Vmovdqu_ymmm256_ymm);
        let full = self.full();
        self.push(code, &[Operand::Mem(to), Operand::Reg(vector, full)], None, None, None, false);
    }

    /// A copy of a register that may be written to while the copy is in use.
    pub(in crate::backend::native) fn copy_of(&mut self, vector: VReg) -> VReg {
        let full = self.full();
        self.fresh(RegKind::Vector, full, self.load_code(), &[Operand::Reg(vector, full)])
    }

    /// A number from memory in every lane.
    pub(in crate::backend::native) fn load_broadcast(&mut self, lane: Lane, from: Mem) -> VReg {
        let full = self.full();
        self.fresh(RegKind::Vector, full, broadcast(self.isa, lane), &[Operand::Mem(from)])
    }

    /// 16 bytes from memory in every lane of as many.
    pub(in crate::backend::native) fn load_block(&mut self, from: Mem) -> VReg {
        let full = self.full();
        let code = self.pick(Code::EVEX_Vbroadcasti32x4_zmm_k1z_m128, Code::VEX_Vbroadcasti128_ymm_m128);
        let block = self.fresh(RegKind::Vector, full, code, &[Operand::Mem(from)]);
        if self.isa == Isa::Avx2 {
            self.note_halves(block, [block; 2]);
        }
        block
    }

    /// An operation on lanes of 128 bits that vectors of 256 have not: on their halves.
    pub(in crate::backend::native) fn by_blocks(
        &mut self,
        a: VReg,
        b: VReg,
        operation: impl Fn(&mut Builder, VReg, VReg) -> VReg,
    ) -> VReg {
        let ([a0, a1], [b0, b1]) = (self.blocks_of(a), self.blocks_of(b));
        let halves = [operation(self, a0, b0), operation(self, a1, b1)];
        self.joined_blocks(halves)
    }

    /// The halves of a vector of 256 bits.
    fn blocks_of(&mut self, whole: VReg) -> [VReg; 2] {
        self.halves_of(whole).unwrap_or_else(|| {
            let operands = [Operand::Reg(whole, Width::Y), Operand::Imm(1)];
            let upper = self.vector_of(Width::X, Code::VEX_Vextracti128_xmmm128_ymm_imm8, &operands);
            [whole, upper]
        })
    }

    /// A vector of these halves; nobody needs it who asks for them again.
    fn joined_blocks(&mut self, halves: [VReg; 2]) -> VReg {
        let [lower, upper] = halves;
        let operands = [Operand::Reg(lower, Width::Y), Operand::Reg(upper, Width::X), Operand::Imm(1)];
        let whole = self.vector_of(Width::Y, Code::VEX_Vinserti128_ymm_ymm_xmmm128_imm8, &operands);
        self.note_halves(whole, halves);
        whole
    }

    /// The lowest 16 bytes to memory.
    pub(in crate::backend::native) fn store_block(&mut self, to: Mem, vector: VReg) {
        let code = self.pick(Code::EVEX_Vmovdqu64_xmmm128_k1z_xmm, Code::VEX_Vmovdqu_xmmm128_xmm);
        self.push(code, &[Operand::Mem(to), Operand::Reg(vector, Width::X)], None, None, None, false);
    }

    /// The lowest 64 bits from memory, zeros above.
    pub(in crate::backend::native) fn load_quad(&mut self, from: Mem) -> VReg {
        let code = self.pick(Code::EVEX_Vmovq_xmm_xmmm64, Code::VEX_Vmovq_xmm_xmmm64);
        self.fresh(RegKind::Vector, Width::X, code, &[Operand::Mem(from)])
    }

    /// 16 bytes from memory, zeros above.
    pub(in crate::backend::native) fn load_half(&mut self, from: Mem) -> VReg {
        let code = self.pick(Code::EVEX_Vmovdqu64_xmm_k1z_xmmm128, Code::VEX_Vmovdqu_xmm_xmmm128);
        self.fresh(RegKind::Vector, Width::X, code, &[Operand::Mem(from)])
    }

    /// The lowest 64 bits of a vector, and behind them 64 bits from memory.
    pub(in crate::backend::native) fn load_upper_quad(&mut self, lower: VReg, from: Mem) -> VReg {
        let code = self.pick(Code::EVEX_Vmovhps_xmm_xmm_m64, Code::VEX_Vmovhps_xmm_xmm_m64);
        let operands = [Operand::Reg(lower, Width::X), Operand::Mem(from)];
        self.fresh(RegKind::Vector, Width::X, code, &operands)
    }

    /// The upper half of the lowest 128 bits to memory.
    pub(in crate::backend::native) fn store_upper_quad(&mut self, to: Mem, vector: VReg) {
        let code = self.pick(Code::EVEX_Vmovhps_m64_xmm, Code::VEX_Vmovhps_m64_xmm);
        self.push(code, &[Operand::Mem(to), Operand::Reg(vector, Width::X)], None, None, None, false);
    }

    /// A general register in every lane of 64 bits.
    pub(in crate::backend::native) fn broadcast_quad(&mut self, from: Register) -> VReg {
        match self.isa {
            Isa::Avx512 => self.fresh(
                RegKind::Vector,
                Width::Z,
                Code::EVEX_Vpbroadcastq_zmm_k1z_r64,
                &[Operand::Gpr(from)],
            ),
            Isa::Avx2 => {
                let low =
                    self.fresh(RegKind::Vector, Width::X, Code::VEX_Vmovq_xmm_rm64, &[Operand::Gpr(from)]);
                self.vector(Code::VEX_Vpbroadcastq_ymm_xmmm64, &[Operand::Reg(low, Width::X)])
            }
        }
    }

    /// The lowest 64 bits to a general register.
    pub(in crate::backend::native) fn quad_to(&mut self, register: Register, vector: VReg) {
        let code = self.pick(Code::EVEX_Vmovq_rm64_xmm, Code::VEX_Vmovq_rm64_xmm);
        self.push(code, &[Operand::Gpr(register), Operand::Reg(vector, Width::X)], None, None, None, false);
    }

    /// The upper half of the lowest 128 bits to a general register.
    pub(in crate::backend::native) fn upper_quad_to(&mut self, register: Register, vector: VReg) {
        let code = self.pick(Code::EVEX_Vpextrq_rm64_xmm_imm8, Code::VEX_Vpextrq_rm64_xmm_imm8);
        let operands = [Operand::Gpr(register), Operand::Reg(vector, Width::X), Operand::Imm(1)];
        self.push(code, &operands, None, None, None, false);
    }

    /// The address of a table of the pool.
    pub(in crate::backend::native) fn lea_pool(&mut self, register: Register, entry: u32) {
        let operands = [Operand::Gpr(register), Operand::Mem(Mem::Pool { entry, disp: 0 })];
        self.push(Code::Lea_r64_m, &operands, None, None, None, false);
    }

    /// Adds to each 32-bit lane of the pinned `sums` the products of four bytes of `bytes` and of `weights`.
    pub(in crate::backend::native) fn add_dots(&mut self, sums: VReg, bytes: VReg, weights: VReg) {
        let code = self.pick(Code::EVEX_Vpdpbusd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpdpbusd_ymm_ymm_ymmm256);
        let full = self.full();
        let operands = [sums, bytes, weights].map(|reg| Operand::Reg(reg, full));
        self.push(code, &operands, Some(sums), Some(sums), None, false);
    }

    /// Whether [`Builder::add_dots`] is there at the width in use.
    pub(in crate::backend::native) fn has_dots(&self) -> bool {
        self.features.has(match self.isa {
            Isa::Avx512 => Features::VNNI,
            Isa::Avx2 => Features::AVX_VNNI,
        })
    }

    /// The two 32-bit halves of each 64-bit lane, added.
    pub(in crate::backend::native) fn halves_added(&mut self, a: VReg) -> VReg {
        let low = self.and_imm(Lane::Q, a, 0xffff_ffff);
        let high = self.shr(Lane::Q, a, 32);
        self.add(Lane::Q, low, high)
    }

    /// The lower or the upper 64 bits of each 128-bit lane, first of `a`, then of `b`.
    pub(in crate::backend::native) fn interleaved_quads(&mut self, upper: bool, a: VReg, b: VReg) -> VReg {
        let (z, y) = match upper {
            false => (Code::EVEX_Vpunpcklqdq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpunpcklqdq_ymm_ymm_ymmm256),
            true => (Code::EVEX_Vpunpckhqdq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpunpckhqdq_ymm_ymm_ymmm256),
        };
        let code = self.pick(z, y);
        self.vector(code, &[Operand::Reg(a, self.full()), Operand::Reg(b, self.full())])
    }

    /// Combines the lanes of one vector; the result is in lane 0.
    pub(in crate::backend::native) fn across(
        &mut self,
        vector: VReg,
        lane: Lane,
        f: impl Fn(&mut Builder, VReg, VReg) -> VReg,
    ) -> VReg {
        let mut all = vector;
        let mut distance = self.vector_bytes() / 2;
        while distance >= lane.bytes() {
            let other = self.exchange(all, distance);
            all = f(self, all, other);
            distance /= 2;
        }
        all
    }

    /// The sum of the lanes to a general register, whose upper bits may be anything.
    pub(in crate::backend::native) fn total(&mut self, lane: Lane, vector: VReg, register: Register) {
        let all = self.across(vector, lane, |b, x, y| b.add(lane, x, y));
        self.quad_to(register, all);
    }

    /// Each 128-bit lane moved up by so many bytes, fewer than it has; zeros enter.
    pub(in crate::backend::native) fn moved_up_in_lanes(&mut self, x: VReg, bytes: usize) -> VReg {
        let swapped = [2, 4, 8].into_iter().find_map(|lane| Some((lane, self.swap_of(lane, x)?)));
        if let Some((lane, original)) = swapped {
            // One shuffle for both.
            let from = |i: usize| i.checked_sub(bytes).map_or(0x80, |from| (from ^ (lane - 1)) as u8);
            let control = self.bytes_of(|i| from(i % 16));
            return self.shuffle_bytes(original, control);
        }
        let code = self.pick(Code::EVEX_Vpslldq_zmm_zmmm512_imm8, Code::VEX_Vpslldq_ymm_ymm_imm8);
        let operands = [Operand::Reg(x, self.full()), Operand::Imm(bytes as u8)];
        self.vector(code, &operands)
    }

    /// Each 128-bit lane moved down by so many bytes, fewer than it has; zeros enter.
    pub(in crate::backend::native) fn moved_down_in_lanes(&mut self, x: VReg, bytes: usize) -> VReg {
        let code = self.pick(Code::EVEX_Vpsrldq_zmm_zmmm512_imm8, Code::VEX_Vpsrldq_ymm_ymm_imm8);
        let operands = [Operand::Reg(x, self.full()), Operand::Imm(bytes as u8)];
        self.vector(code, &operands)
    }

    /// The bytes of each 128-bit lane in the other order.
    pub(in crate::backend::native) fn blocks_swapped(&mut self, x: VReg) -> VReg {
        let reverse = self.bytes_of(|i| 15 - (i % 16) as u8);
        self.shuffle_bytes(x, reverse)
    }

    /// 32-bit lanes of each 128-bit lane, each chosen by two bits of `which`.
    pub(in crate::backend::native) fn chosen_in_lanes(&mut self, x: VReg, which: u8) -> VReg {
        let code = self.pick(Code::EVEX_Vpshufd_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpshufd_ymm_ymmm256_imm8);
        let operands = [Operand::Reg(x, self.full()), Operand::Imm(which)];
        self.vector(code, &operands)
    }

    /// All lanes of 128 bits but the first, and behind them the first of `last`.
    pub(in crate::backend::native) fn blocks_moved_on(&mut self, x: VReg, last: VReg) -> VReg {
        let (x, last) = (Operand::Reg(x, self.full()), Operand::Reg(last, self.full()));
        match self.isa {
            Isa::Avx512 => {
                self.vector(Code::EVEX_Valignq_zmm_k1z_zmm_zmmm512b64_imm8, &[last, x, Operand::Imm(2)])
            }
            Isa::Avx2 => {
                self.vector(Code::VEX_Vperm2i128_ymm_ymm_ymmm256_imm8, &[x, last, Operand::Imm(0x21)])
            }
        }
    }

    /// The whole vector moved up by so many bytes, fewer than it has; zeros enter.
    pub(in crate::backend::native) fn moved_up(&mut self, x: VReg, bytes: usize) -> VReg {
        let v = |b: &Builder, reg| Operand::Reg(reg, b.full());
        if self.isa == Isa::Avx2 {
            let code = Code::VEX_Vperm2i128_ymm_ymm_ymmm256_imm8;
            let lower = self.vector(code, &[v(self, x), v(self, x), Operand::Imm(0x08)]);
            return match bytes {
                0..16 => {
                    let code = Code::VEX_Vpalignr_ymm_ymm_ymmm256_imm8;
                    self.vector(code, &[v(self, x), v(self, lower), Operand::Imm(16 - bytes as u8)])
                }
                16 => lower,
                _ => self.moved_up_in_lanes(lower, bytes - 16),
            };
        }
        let zero = self.splat(Lane::B, 0);
        let quads = |b: &mut Builder, quads: usize| match quads {
            0 => x,
            8 => zero,
            _ => {
                let code = Code::EVEX_Valignq_zmm_k1z_zmm_zmmm512b64_imm8;
                b.vector(code, &[v(b, x), v(b, zero), Operand::Imm(8 - quads as u8)])
            }
        };
        if bytes.is_multiple_of(8) {
            return quads(self, bytes / 8);
        }
        if bytes.is_multiple_of(4) {
            let code = Code::EVEX_Valignd_zmm_k1z_zmm_zmmm512b32_imm8;
            return self.vector(code, &[v(self, x), v(self, zero), Operand::Imm(16 - bytes as u8 / 4)]);
        }
        // By whole 128-bit lanes, and by one more: the bytes are in two neighbours.
        let (upper, lower) = (quads(self, bytes / 16 * 2), quads(self, bytes / 16 * 2 + 2));
        let code = Code::EVEX_Vpalignr_zmm_k1z_zmm_zmmm512_imm8;
        self.vector(code, &[v(self, upper), v(self, lower), Operand::Imm(16 - (bytes % 16) as u8)])
    }

    /// The last bytes, as many as a vector has, of `before` followed by the first rax bytes of `bytes`.
    /// Changes r9.
    pub(in crate::backend::native) fn shift_in(&mut self, before: VReg, bytes: VReg) -> VReg {
        let (vector, full) = (self.vector_bytes() as i32, self.full());
        if self.isa == Isa::Avx512 && self.features.has(Features::VBMI) {
            let numbers = self.table((0..128).collect());
            self.lea_pool(Register::R9, numbers);
            let index = self.load(indexed(Register::R9, Register::RAX, 1, 0));
            let operands = [Operand::Reg(before, full), Operand::Reg(bytes, full)];
            return self.tied(Code::EVEX_Vpermi2b_zmm_k1z_zmm_zmmm512, index, &operands);
        }
        // Through memory: the load waits until both stores have left the pipeline.
        self.store(at(Register::RSP, SCRATCH), before);
        self.store(at(Register::RSP, SCRATCH + vector), bytes);
        self.load(indexed(Register::RSP, Register::RAX, 1, SCRATCH))
    }

    /// Carry-less products of halves of 128-bit lanes: bit 0 of `halves` chooses the half of `a`, bit 4 that
    /// of `factor`.
    pub(in crate::backend::native) fn clmul_halves(
        &mut self,
        width: Width,
        a: VReg,
        factor: VReg,
        halves: u8,
    ) -> VReg {
        if width == Width::Y && !self.features.has(Features::VPCLMUL) {
            return self.by_blocks(a, factor, |b, a, factor| b.clmul_halves(Width::X, a, factor, halves));
        }
        let code = match (self.isa, width) {
            (Isa::Avx512, Width::X) => Code::EVEX_Vpclmulqdq_xmm_xmm_xmmm128_imm8,
            (Isa::Avx512, _) => Code::EVEX_Vpclmulqdq_zmm_zmm_zmmm512_imm8,
            (Isa::Avx2, Width::X) => Code::VEX_Vpclmulqdq_xmm_xmm_xmmm128_imm8,
            (Isa::Avx2, _) => Code::VEX_Vpclmulqdq_ymm_ymm_ymmm256_imm8,
        };
        self.vector_of(
            width,
            code,
            &[Operand::Reg(a, width), Operand::Reg(factor, width), Operand::Imm(halves)],
        )
    }

    /// The same of whole vectors of 256 bits, by a factor in memory that nothing changes meanwhile.
    pub(in crate::backend::native) fn clmul_halves_by(&mut self, a: VReg, factor: Mem, halves: u8) -> VReg {
        debug_assert!(self.isa == Isa::Avx2 && self.features.has(Features::VPCLMUL));
        let code = Code::VEX_Vpclmulqdq_ymm_ymm_ymmm256_imm8;
        self.vector(code, &[Operand::Reg(a, Width::Y), Operand::Mem(factor), Operand::Imm(halves)])
    }

    /// `x ^ y ^ z`.
    pub(in crate::backend::native) fn xor3(&mut self, x: VReg, y: VReg, z: VReg) -> VReg {
        match self.isa {
            Isa::Avx512 => {
                let operands = [Operand::Reg(y, Width::Z), Operand::Reg(z, Width::Z), Operand::Imm(0x96)];
                self.tied(Code::EVEX_Vpternlogq_zmm_k1z_zmm_zmmm512b64_imm8, x, &operands)
            }
            Isa::Avx2 => {
                let both = self.xor(x, y);
                self.xor(both, z)
            }
        }
    }

    /// A raw store of a general register to `[base + disp]`.
    pub(in crate::backend::native) fn store_quad(&mut self, base: Register, disp: i32, from: Register) {
        self.raw(asm::mr(Code::Mov_rm64_r64, base, Register::None, disp, from));
    }

    /// A raw load of a general register from `[base + disp]`.
    pub(in crate::backend::native) fn load_quad_to(&mut self, to: Register, base: Register, disp: i32) {
        self.raw(asm::rm(Code::Mov_r64_rm64, to, base, Register::None, disp));
    }
}

/// What fills a vector with a number from memory.
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
