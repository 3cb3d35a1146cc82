//! Stores to a striped buffer: runs of the stream with holes between them, as in `layout lance { data 16 gap 16 }`.
//!
//! Where a run and its hole are together two, four or eight times as long as the run, the place of the run at `src + x` is
//! `dst + scale * x`: the addressing mode does all the arithmetic, and the loops around need not know of holes.

use crate::ir::Stripe;
use iced_x86::{Code, Register};

use super::{DST, Frame, REST, SRC};
use crate::backend::native::asm;
use crate::backend::native::isa::Isa;
use crate::backend::native::vcode::{Builder, Kind, Mem, Opd, VReg, Width};

/// A striped buffer that the loops store to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::native) struct Scatter {
    /// Bytes of a run.
    run: usize,
    /// How many runs would fill a run and its hole.
    scale: usize,
}

/// Bytes of a vector: this is for AVX-512 alone, whose masks are by the byte.
const VECTOR: usize = 64;

impl Scatter {
    /// The stripe, if it is one that an addressing mode reaches.
    pub(in crate::backend::native) fn of(stripe: Stripe, isa: Isa) -> Option<Scatter> {
        let (run, period) = (stripe.data as usize, stripe.data as usize + stripe.gap as usize);
        let fits = matches!(run, 8 | 16 | 32 | 64) && period.is_multiple_of(run);
        (fits && isa == Isa::Avx512 && matches!(period / run, 2 | 4 | 8))
            .then(|| Scatter { run, scale: period / run })
    }

    /// Bytes of a run and its hole.
    fn period(self) -> usize {
        self.run * self.scale
    }

    /// Bytes of the stream that one masked store takes.
    fn bytes(self) -> usize {
        if self.period() <= VECTOR { VECTOR / self.scale } else { self.run }
    }

    /// Bytes of the destination from one masked store to the next.
    fn distance(self) -> usize {
        self.bytes() * self.scale
    }

    /// The bytes of a masked store that are no hole.
    fn pattern(self) -> u64 {
        let run = u64::MAX >> (64 - self.run);
        let starts = (0..self.distance().min(VECTOR)).step_by(self.period());
        starts.fold(0, |pattern, start| pattern | run << start)
    }

    /// For each quadword of a masked store, which one of the vector goes there.
    fn order(self, store: usize) -> Vec<u8> {
        let mut next = (store * self.bytes() / 8) as u64;
        let quadwords = (0..VECTOR).step_by(8).map(|byte| {
            let is_data = self.pattern() >> byte & 1;
            next += is_data;
            (next - is_data) * is_data
        });
        quadwords.flat_map(u64::to_le_bytes).collect()
    }
}

impl Frame<'_> {
    /// Before the loops, with `DST` the buffer's address: leaves in it what is to be added to `scale * SRC`.
    pub(super) fn enter_scatter(&mut self, scatter: Scatter) {
        let rax = Register::RAX;
        self.b.raw(asm::rr(Code::Mov_r64_rm64, rax, SRC));
        self.b.raw(asm::ri(Code::Shl_rm64_imm8, rax, scatter.scale.trailing_zeros() as i32));
        self.b.raw(asm::rr(Code::Sub_r64_rm64, DST, rax));
    }

    /// Stores a whole vector of the stream, `disp` bytes behind where `SRC` stands: run by run, since stores as long as a
    /// vector would cross the ends of cache lines in a buffer that is aligned to its runs only.
    pub(super) fn scatter(&mut self, scatter: Scatter, disp: i32, chunk: VReg) {
        let to = |at: usize| {
            let disp = scatter.scale as i32 * (disp + at as i32);
            Opd::Mem(Mem::Base { base: DST, index: SRC, scale: scatter.scale as u8, disp })
        };
        let b = &mut self.b;
        let store = |b: &mut Builder, code, operands: &[Opd]| b.push(code, operands, None, None, None, false);
        match scatter.run {
            64 => store(b, Code::EVEX_Vmovdqu64_zmmm512_k1z_zmm, &[to(0), Opd::Reg(chunk, Width::Z)]),
            32 => {
                store(b, Code::EVEX_Vmovdqu64_ymmm256_k1z_ymm, &[to(0), Opd::Reg(chunk, Width::Y)]);
                let upper = Code::EVEX_Vextracti64x4_ymmm256_k1z_zmm_imm8;
                store(b, upper, &[to(32), Opd::Reg(chunk, Width::Z), Opd::Imm(1)]);
            }
            16 => {
                store(b, Code::EVEX_Vmovdqu64_xmmm128_k1z_xmm, &[to(0), Opd::Reg(chunk, Width::X)]);
                for quarter in 1..4 {
                    let extract = Code::EVEX_Vextracti32x4_xmmm128_k1z_zmm_imm8;
                    let from = [Opd::Reg(chunk, Width::Z), Opd::Imm(quarter)];
                    store(b, extract, &[to(16 * usize::from(quarter)), from[0], from[1]]);
                }
            }
            _ => {
                for quarter in 0..4 {
                    let mut part = chunk;
                    if quarter > 0 {
                        let extract = Code::EVEX_Vextracti32x4_xmmm128_k1z_zmm_imm8;
                        let from = [Opd::Reg(chunk, Width::Z), Opd::Imm(quarter)];
                        part = b.vector_of(Width::X, extract, &from);
                    }
                    let at = 16 * usize::from(quarter);
                    for (code, at) in
                        [(Code::EVEX_Vmovq_xmmm64_xmm, at), (Code::EVEX_Vmovhps_m64_xmm, at + 8)]
                    {
                        let operands = [to(at), Opd::Reg(part, Width::X)];
                        store(b, code, &operands);
                    }
                }
            }
        }
    }

    /// Stores what is left: what goes into 64 bytes of the destination is moved into place by a permutation and stored
    /// under a mask.
    pub(super) fn scatter_rest(&mut self, scatter: Scatter, chunk: VReg) {
        let (rax, r9) = (Register::RAX, Register::R9);
        for store in 0..VECTOR / scatter.bytes() {
            self.b.raw(asm::ri(Code::Mov_rm64_imm32, r9, -1));
            self.b.raw(asm::rrr(Code::VEX_Bzhi_r64_rm64_r64, r9, r9, REST));
            if store > 0 {
                let before = (store * scatter.bytes()) as i32;
                self.b.raw(asm::ri(Code::Shr_rm64_imm8, r9, before));
            }
            // The bytes that there are, in order, to the places of the pattern.
            self.b.raw(asm::mov_imm(rax, scatter.pattern()));
            self.b.raw(asm::rrr(Code::VEX_Pdep_r64_r64_rm64, r9, r9, rax));
            let mask = self.b.fresh(Kind::Mask, Width::K, Code::VEX_Kmovq_kr_r64, &[Opd::Gpr(r9)]);
            let order = self.b.constant(scatter.order(store));
            let permute = Code::EVEX_Vpermq_zmm_k1z_zmm_zmmm512b64;
            let placed = self.b.vector(permute, &[Opd::Reg(order, Width::Z), Opd::Reg(chunk, Width::Z)]);
            let disp = (store * scatter.distance()) as i32;
            let to = Mem::Base { base: DST, index: SRC, scale: scatter.scale as u8, disp };
            let operands = [Opd::Mem(to), Opd::Reg(placed, Width::Z)];
            self.b.push(Code::EVEX_Vmovdqu8_zmmm512_k1z_zmm, &operands, None, None, Some(mask), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Scatter;
    use crate::backend::native::isa::Isa;
    use crate::ir::Stripe;

    #[test]
    fn where_the_bytes_go() {
        let of = |data, gap| Scatter::of(Stripe { data, gap }, Isa::Avx512);
        let lance = of(16, 16).unwrap();
        assert_eq!((lance.bytes(), lance.distance(), lance.pattern()), (32, 64, 0x0000_ffff_0000_ffff));
        let order: Vec<u8> = lance.order(1).into_iter().step_by(8).collect();
        assert_eq!(order, [4, 5, 0, 0, 6, 7, 0, 0]);
        let far = of(32, 224).unwrap();
        assert_eq!((far.bytes(), far.distance(), far.pattern()), (32, 256, 0xffff_ffff));
        let widest = of(64, 64).unwrap();
        assert_eq!((widest.bytes(), widest.distance(), widest.pattern()), (64, 128, u64::MAX));
        assert_eq!(widest.order(0).into_iter().step_by(8).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
        for (data, gap) in [(16, 0), (16, 8), (16, 32), (4, 4), (12, 12), (128, 128), (8, 120)] {
            assert_eq!(of(data, gap), None, "{data} {gap}");
        }
        assert_eq!(Scatter::of(Stripe { data: 16, gap: 16 }, Isa::Avx2), None);
    }
}
