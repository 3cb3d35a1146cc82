//! Bytes and bits within a lane: shuffles, swaps, reversals, counts.

use iced_x86::Code;

use super::Lane;
use crate::backend::native::isa::{Features, Isa};
use crate::backend::native::vcode::{Builder, Operand, VReg};

impl Builder {
    pub(crate) fn shuffle_bytes(&mut self, a: VReg, control: VReg) -> VReg {
        let code = self.pick(Code::EVEX_Vpshufb_zmm_k1z_zmm_zmmm512, Code::VEX_Vpshufb_ymm_ymm_ymmm256);
        self.binary_code(code, a, control)
    }

    pub(crate) fn bswap(&mut self, lane: Lane, a: VReg) -> VReg {
        if lane == Lane::B {
            return a;
        }
        if let Some(original) = self.swap_of(lane.bytes(), a) {
            return original;
        }
        if let Some(bytes) = self.constant_bytes(a) {
            let swapped = bytes.chunks(lane.bytes()).flat_map(|c| c.iter().rev().copied()).collect();
            return self.constant(swapped);
        }
        let control =
            self.computed([1, lane as u64, 0], |b| b.bytes_of(|i| ((i % 16) ^ (lane.bytes() - 1)) as u8));
        let result = self.shuffle_bytes(a, control);
        self.note_swap(lane.bytes(), result, a);
        result
    }

    pub(crate) fn bitrev(&mut self, lane: Lane, a: VReg) -> VReg {
        let in_bytes = self.affine_bytes(a, |byte| u64::from((byte as u8).reverse_bits()));
        self.bswap(lane, in_bytes)
    }

    /// A map of each byte that is affine over GF(2).
    pub(crate) fn affine_bytes(&mut self, a: VReg, map: impl Fn(u64) -> u64) -> VReg {
        let zero = map(0);
        if self.features.has(Features::GFNI) {
            // The byte of the matrix that is bit `i`'s of the result comes from its other end.
            let entry = |(i, bit): (u32, u32)| ((map(1 << bit) ^ zero) >> i & 1) << (8 * (7 - i) + bit);
            let entries = (0..8).flat_map(|i| (0..8).map(move |bit| (i, bit)));
            let matrix = entries.map(entry).fold(0, |sum, entry| sum | entry);
            let matrix = self.splat(Lane::Q, matrix);
            let code = self.pick(
                Code::EVEX_Vgf2p8affineqb_zmm_k1z_zmm_zmmm512b64_imm8,
                Code::VEX_Vgf2p8affineqb_ymm_ymm_ymmm256_imm8,
            );
            return self.vector(code, &[self.v(a), self.v(matrix), Operand::Imm(zero as u8)]);
        }
        let low = self.bytes_of(|i| map(i as u64 & 15) as u8);
        let high = self.bytes_of(|i| (map((i as u64 & 15) << 4) ^ zero) as u8);
        let (low, high) = self.nibbles(a, low, high);
        self.xor(low, high)
    }

    /// Looks up the low nibble of each byte in `low` and the high one in `high`.
    fn nibbles(&mut self, a: VReg, low: VReg, high: VReg) -> (VReg, VReg) {
        let low_nibble = self.and_imm(Lane::B, a, 0x0f);
        let high_nibble = self.shr(Lane::W, a, 4);
        let high_nibble = self.and_imm(Lane::B, high_nibble, 0x0f);
        (self.shuffle_bytes(low, low_nibble), self.shuffle_bytes(high, high_nibble))
    }

    pub(crate) fn popcnt(&mut self, lane: Lane, a: VReg) -> VReg {
        let has = match lane {
            Lane::B | Lane::W => self.features.has(Features::BITALG),
            Lane::D | Lane::Q => self.features.has(Features::VPOPCNTDQ),
        };
        if self.isa == Isa::Avx512 && has {
            let code = [
                Code::EVEX_Vpopcntb_zmm_k1z_zmmm512,
                Code::EVEX_Vpopcntw_zmm_k1z_zmmm512,
                Code::EVEX_Vpopcntd_zmm_k1z_zmmm512b32,
                Code::EVEX_Vpopcntq_zmm_k1z_zmmm512b64,
            ][lane as usize];
            return self.vector(code, &[self.v(a)]);
        }
        let counts = self.bytes_of(|i| (i as u8 & 15).count_ones() as u8);
        let (low, high) = self.nibbles(a, counts, counts);
        let bytes = self.add(Lane::B, low, high);
        match lane {
            Lane::B => bytes,
            Lane::W => self.add_byte_pairs(bytes),
            Lane::D => {
                let words = self.add_byte_pairs(bytes);
                let ones = self.splat(Lane::W, 1);
                let code =
                    self.pick(Code::EVEX_Vpmaddwd_zmm_k1z_zmm_zmmm512, Code::VEX_Vpmaddwd_ymm_ymm_ymmm256);
                self.binary_code(code, words, ones)
            }
            Lane::Q => self.sum_bytes(bytes),
        }
    }

    fn add_byte_pairs(&mut self, bytes: VReg) -> VReg {
        let ones = self.splat(Lane::B, 1);
        let code = self.pick(Code::EVEX_Vpmaddubsw_zmm_k1z_zmm_zmmm512, Code::VEX_Vpmaddubsw_ymm_ymm_ymmm256);
        self.binary_code(code, bytes, ones)
    }

    /// The sum of the eight bytes of each 64-bit lane.
    pub(crate) fn sum_bytes(&mut self, bytes: VReg) -> VReg {
        let zero = self.splat(Lane::B, 0);
        let code = self.pick(Code::EVEX_Vpsadbw_zmm_zmm_zmmm512, Code::VEX_Vpsadbw_ymm_ymm_ymmm256);
        self.binary_code(code, bytes, zero)
    }

    pub(crate) fn clz(&mut self, lane: Lane, a: VReg) -> VReg {
        match (lane, self.isa) {
            (Lane::D, Isa::Avx512) => self.vector(Code::EVEX_Vplzcntd_zmm_k1z_zmmm512b32, &[self.v(a)]),
            (Lane::Q, Isa::Avx512) => self.vector(Code::EVEX_Vplzcntq_zmm_k1z_zmmm512b64, &[self.v(a)]),
            _ => {
                // Every bit below the highest one becomes one; what stays zero is leading.
                let mut smeared = a;
                let mut step = 1;
                while step < lane.bits() {
                    let down = self.shr(lane, smeared, step);
                    smeared = self.or(smeared, down);
                    step *= 2;
                }
                let leading = self.not(smeared);
                self.popcnt(lane, leading)
            }
        }
    }

    pub(crate) fn ctz(&mut self, lane: Lane, a: VReg) -> VReg {
        let ones = self.splat(Lane::B, 0xff);
        let below = self.add(lane, a, ones);
        let trailing = self.and_not_first(a, below);
        self.popcnt(lane, trailing)
    }
}
