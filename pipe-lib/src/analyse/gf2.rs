//! Arithmetic of polynomials over GF(2) modulo a CRC's polynomial, and linear maps over GF(2).

use crate::ir::CrcOp;
use std::fmt;

/// A CRC without initial and final complements: width, polynomial, order of bits, place in the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Crc {
    /// Width of the remainder, at most 64; the state may be wider, see [`Padding`].
    pub bits: u32,
    /// Bit `i` is the coefficient of `x^i`; that of `x^bits` is left out. Bit 0 is set, so `x` has an
    /// inverse.
    pub poly: u64,
    /// The least significant bit of each byte comes first, and bit 0 of the state has the highest degree.
    pub reflected: bool,
    /// What the state's other bits are.
    pub padding: Padding,
}

/// The bits of a register that a remainder leaves over.
///
/// They are zero behind the first words in any case; what was imported may have them set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// Bits at the end where the message enters: above a reflected remainder, below another one, which then
    /// fills the upper end of its register. They act as bits of the message. The register is that of a CRC as
    /// wide as itself, whose polynomial is the other one times that power of `x`.
    Message(u32),
    /// So many above a remainder that is not reflected; a word drops them.
    Dropped(u32),
}

impl Padding {
    /// Their number.
    pub const fn bits(self) -> u32 {
        match self {
            Padding::Message(bits) | Padding::Dropped(bits) => bits,
        }
    }
}

impl From<CrcOp> for Crc {
    fn from(op: CrcOp) -> Crc {
        Crc::whole(32, u64::from(op.reflected_poly().reverse_bits()), true)
    }
}

impl fmt::Display for Crc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Crc { bits, poly, reflected, padding } = self;
        let digits = bits.div_ceil(4) as usize;
        write!(f, "{bits}-bit CRC, polynomial 0x{poly:0digits$x}")?;
        match (reflected, padding) {
            (true, _) => f.write_str(", reflected"),
            (false, Padding::Message(0) | Padding::Dropped(_)) => Ok(()),
            (false, Padding::Message(_)) => f.write_str(", at the upper end of its register"),
        }
    }
}

impl Crc {
    /// One that fills its register.
    pub const fn whole(bits: u32, poly: u64, reflected: bool) -> Crc {
        Crc { bits, poly, reflected, padding: Padding::Message(0) }
    }

    /// The CRC whose remainder fills all of the register that takes part. Its polynomial may be a multiple of
    /// `x`.
    fn of_register(self) -> Crc {
        match self.padding {
            Padding::Message(padding) => {
                Crc::whole(self.bits + padding, self.poly << padding, self.reflected)
            }
            Padding::Dropped(_) => Crc::whole(self.bits, self.poly, self.reflected),
        }
    }

    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// `a * x`.
    pub(crate) fn times_x(self, a: u64) -> u64 {
        let carry = a >> (self.bits - 1) & 1;
        (a << 1 & self.mask()) ^ if carry == 1 { self.poly } else { 0 }
    }

    /// `1 / x`: times `x` it is the polynomial and one more.
    fn over_x(self) -> u64 {
        self.poly >> 1 | 1 << (self.bits - 1)
    }

    /// `a * b`.
    pub(crate) fn times(self, a: u64, b: u64) -> u64 {
        (0..self.bits).rev().fold(0, |sum, bit| self.times_x(sum) ^ if b >> bit & 1 == 1 { a } else { 0 })
    }

    /// The instruction that computes this one.
    pub fn instruction(self) -> Option<CrcOp> {
        CrcOp::ALL.iter().copied().find(|op| Crc::from(*op) == self)
    }

    /// `x^exponent`; negative exponents too.
    pub(crate) fn power(self, exponent: i64) -> u64 {
        self.raised(if exponent < 0 { self.over_x() } else { self.times_x(1) }, exponent.unsigned_abs())
    }

    fn raised(self, mut square: u64, mut exponent: u64) -> u64 {
        let mut result = 1;
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = self.times(result, square);
            }
            square = self.times(square, square);
            exponent >>= 1;
        }
        result
    }

    /// `floor(x^(64 + bits) / P)` without its leading term `x^64`.
    pub(crate) fn barrett(self) -> u64 {
        // Long division: the remainder holds `bits` coefficients; each step gives one bit of the quotient.
        let (mut quotient, mut remainder) = (0u64, self.poly);
        for _ in 0..64 {
            let top = remainder >> (self.bits - 1) & 1;
            quotient = quotient << 1 | top;
            remainder = self.times_x(remainder);
        }
        quotient
    }

    /// One bit into the register, as a program does it.
    pub(crate) fn step(self, state: u64) -> u64 {
        if self.reflected {
            let poly = self.poly.reverse_bits() >> (64 - self.bits);
            (state >> 1) ^ if state & 1 == 1 { poly } else { 0 }
        } else {
            self.of_register().times_x(state)
        }
    }

    /// What bit `bit` of a word of `word_bits` bits contributes to a register that was zero.
    pub(crate) fn image(self, bit: u32, word_bits: u32) -> u64 {
        // The bit enters at the end of the register that has the highest degree; `steps` is the number of
        // bits that come later.
        let (entry, steps) =
            if self.reflected { (1, word_bits - bit) } else { (1 << (self.of_register().bits - 1), bit + 1) };
        (0..steps).fold(entry, |state, _| self.step(state))
    }

    /// The register after `bytes` bytes of zeros.
    pub fn advance(self, state: u64, bytes: u64) -> u64 {
        if bytes == 0 {
            return state;
        }
        let register = self.of_register();
        let power = register.raised(register.power(8), bytes);
        if self.reflected {
            let turn = |value: u64| value.reverse_bits() >> (64 - register.bits);
            turn(register.times(turn(state), power))
        } else {
            register.times(state & register.mask(), power)
        }
    }
}

/// A linear map over GF(2) on the bits of a state: `columns[i]` is what bit `i` alone becomes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BitMap {
    /// One image a bit of the state.
    pub columns: Box<[u64]>,
}

impl BitMap {
    pub(crate) fn identity(bits: usize) -> BitMap {
        BitMap { columns: (0..bits).map(|bit| 1 << bit).collect() }
    }

    /// What `value` becomes.
    pub(crate) fn apply(&self, value: u64) -> u64 {
        let reached = self.columns.iter().enumerate().filter(|(bit, _)| value >> bit & 1 == 1);
        reached.fold(0, |sum, (_, column)| sum ^ column)
    }

    /// This map after `first`.
    pub(crate) fn after(&self, first: &BitMap) -> BitMap {
        BitMap { columns: first.columns.iter().map(|column| self.apply(*column)).collect() }
    }

    /// This map `times` times.
    pub(crate) fn power(&self, mut times: u64) -> BitMap {
        let (mut result, mut square) = (BitMap::identity(self.columns.len()), self.clone());
        while times > 0 {
            if times & 1 == 1 {
                result = square.after(&result);
            }
            square = square.after(&square);
            times >>= 1;
        }
        result
    }

    pub(crate) fn is_identity(&self) -> bool {
        self.columns.iter().enumerate().all(|(bit, column)| *column == 1 << bit)
    }

    /// The smallest power that is zero, if one is: after so many words nothing of the state is left.
    pub(crate) fn vanishes_after(&self) -> Option<u32> {
        let bits = self.columns.len() as u32;
        let zero = |map: &BitMap| map.columns.iter().all(|column| *column == 0);
        // A nilpotent map of n dimensions vanishes after n steps at the latest.
        if !zero(&self.power(u64::from(bits))) {
            return None;
        }
        (1..=bits).find(|times| zero(&self.power(u64::from(*times))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASTAGNOLI: Crc = Crc::whole(32, 0x1edc_6f41, true);

    #[test]
    fn powers_have_inverses() {
        for crc in [CASTAGNOLI, Crc::whole(8, 0x07, false), Crc::whole(64, 0xad93_d235_94c9_35a9, true)] {
            for exponent in [0, 1, 5, 63, 64, 65, 1000] {
                assert_eq!(crc.times(crc.power(exponent), crc.power(-exponent)), 1, "{crc:?} {exponent}");
                assert_eq!(crc.times_x(crc.power(exponent)), crc.power(exponent + 1));
            }
        }
    }

    #[test]
    fn instructions_are_known_by_their_polynomials() {
        assert_eq!(CASTAGNOLI.instruction(), Some(CrcOp::Crc32c));
        assert_eq!(Crc::whole(32, 0x04c1_1db7, true).instruction(), Some(CrcOp::Crc32));
        let others = [Crc::whole(32, 0x04c1_1db7, false), Crc::whole(16, 0x1021, true)];
        assert!(others.iter().all(|crc| crc.instruction().is_none()));
        let padded = Crc { bits: 24, poly: 0x86_4cfb, reflected: false, padding: Padding::Dropped(8) };
        assert_eq!((padded.padding.bits(), CASTAGNOLI.padding.bits()), (8, 0));
    }

    #[test]
    fn the_quotient_of_the_reduction_is_exact() {
        // x^96 = quotient * P + remainder, so quotient * P agrees with x^96 in the upper 64 coefficients.
        let crc = CASTAGNOLI;
        let quotient = u128::from(crc.barrett()) | 1 << 64;
        let poly = u128::from(crc.poly) | 1 << 32;
        let product =
            (0..=64).filter(|bit| quotient >> bit & 1 == 1).fold(0u128, |sum, bit| sum ^ poly << bit);
        assert_eq!(product >> 32, 1 << 64);
        assert_eq!(product as u32 as u64, crc.power(96));
    }

    #[test]
    fn a_register_moves_on_by_zero_bytes() {
        for crc in [
            CASTAGNOLI,
            Crc::whole(16, 0x8bb7, false),
            Crc::whole(64, 0xad93_d235_94c9_35a9, true),
            // In a wider register, at the end where bits enter: those beside the remainder are message.
            Crc { bits: 5, poly: 0x05, reflected: true, padding: Padding::Message(59) },
            Crc { bits: 24, poly: 0x86_4cfb, reflected: false, padding: Padding::Message(8) },
        ] {
            let register = crc.of_register();
            let start = 0x0123_4567_89ab_cdef & register.mask();
            for bytes in [0, 1, 2, 9, 1000] {
                let slow = (0..8 * bytes).fold(start, |state, _| crc.step(state));
                assert_eq!(crc.advance(start, bytes), slow, "{crc}, {bytes} bytes");
            }
            let map = BitMap { columns: (0..register.bits).map(|bit| crc.step(1 << bit)).collect() };
            assert_eq!(map.power(72).apply(start), crc.advance(start, 9));
            assert!(map.power(0).is_identity() && map.vanishes_after().is_none());
        }
        let dropping = Crc { bits: 24, poly: 0x86_4cfb, reflected: false, padding: Padding::Dropped(8) };
        let whole = Crc::whole(24, 0x86_4cfb, false);
        assert_eq!(dropping.advance(0xab01_0203, 9), whole.advance(0x01_0203, 9));
        assert_eq!(dropping.advance(0xab01_0203, 0), 0xab01_0203);
        let shift = BitMap { columns: (0..32).map(|bit| 1 << (bit + 8) & 0xffff_ffff).collect() };
        assert_eq!(shift.vanishes_after(), Some(4));
    }
}
