//! Polynomials over GF(2) modulo a CRC's polynomial, and the proof that a plain-instruction update is a CRC step.
//!
//! The proof is exact: every bit of the new state is expressed as a sum (exclusive or) of bits of the old state and of the
//! word. If each of them is such a sum, the update is a linear map; it is a CRC when that map is the one that the
//! polynomial read off it gives.

use crate::ir::{BinaryOp, CompareOp, ConvertOp, Op, Pipe, StateId, UnaryOp, Value, eval};

/// A CRC without initial and final complements: width, polynomial, and whether the least significant bit comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crc {
    /// 8 to 64.
    pub(super) bits: u32,
    /// Bit `i` is the coefficient of `x^i`; that of `x^bits` is left out. Bit 0 is set, so that `x` has an inverse.
    pub(super) poly: u64,
    pub(super) reflected: bool,
}

impl Crc {
    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// `a * x`.
    fn times_x(self, a: u64) -> u64 {
        let carry = a >> (self.bits - 1) & 1;
        (a << 1 & self.mask()) ^ if carry == 1 { self.poly } else { 0 }
    }

    /// `a / x`.
    fn over_x(self, a: u64) -> u64 {
        if a & 1 == 0 { a >> 1 } else { (a ^ self.poly) >> 1 | 1 << (self.bits - 1) }
    }

    fn times(self, a: u64, b: u64) -> u64 {
        (0..self.bits).rev().fold(0, |sum, bit| self.times_x(sum) ^ if b >> bit & 1 == 1 { a } else { 0 })
    }

    /// `x^exponent`; negative exponents too.
    pub(super) fn power(self, exponent: i64) -> u64 {
        let mut square = if exponent < 0 { self.over_x(1) } else { self.times_x(1) };
        let mut left = exponent.unsigned_abs();
        let mut result = 1;
        while left > 0 {
            if left & 1 == 1 {
                result = self.times(result, square);
            }
            square = self.times(square, square);
            left >>= 1;
        }
        result
    }

    /// `floor(x^(64 + bits) / P)` without its leading term `x^64`.
    pub(super) fn barrett(self) -> u64 {
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
    pub(super) fn step(self, state: u64) -> u64 {
        if self.reflected {
            let poly = self.poly.reverse_bits() >> (64 - self.bits);
            (state >> 1) ^ if state & 1 == 1 { poly } else { 0 }
        } else {
            self.times_x(state)
        }
    }
}

/// A bit as a sum of bits of the state, of the word, and perhaps one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    state: u64,
    word: u64,
    one: bool,
}

impl Sum {
    const fn constant(one: bool) -> Sum {
        Sum { state: 0, word: 0, one }
    }

    fn plus(self, other: Sum) -> Sum {
        Sum { state: self.state ^ other.state, word: self.word ^ other.word, one: self.one ^ other.one }
    }

    fn as_constant(self) -> Option<bool> {
        (self.state == 0 && self.word == 0).then_some(self.one)
    }

    fn times(self, other: Sum) -> Option<Sum> {
        match (self.as_constant(), other.as_constant()) {
            (Some(one), _) => Some(if one { other } else { Sum::default() }),
            (_, Some(one)) => Some(if one { self } else { Sum::default() }),
            _ => None,
        }
    }
}

/// The bits of a value, least significant first.
type Bits = Vec<Sum>;

fn number(value: u64, bits: u32) -> Bits {
    (0..bits).map(|bit| Sum::constant(value >> bit & 1 == 1)).collect()
}

fn known(bits: &[Sum]) -> Option<u64> {
    bits.iter()
        .enumerate()
        .try_fold(0, |value, (bit, sum)| Some(value | u64::from(sum.as_constant()?) << bit))
}

fn plus(a: &[Sum], b: &[Sum]) -> Bits {
    a.iter().zip(b).map(|(a, b)| a.plus(*b)).collect()
}

/// The linear map with these images of the basis, applied: `images[i]` is what bit `i` becomes.
fn apply(bits: &[Sum], images: &[u64], width: u32) -> Bits {
    let mut result = number(0, width);
    for (bit, image) in bits.iter().zip(images) {
        for (position, sum) in result.iter_mut().enumerate() {
            if image >> position & 1 == 1 {
                *sum = sum.plus(*bit);
            }
        }
    }
    result
}

/// The new value of `state` in terms of its old value and of the word, if it is a sum of their bits.
fn next_bits(pipe: &Pipe, state: StateId) -> Option<Bits> {
    let body = &pipe.body;
    let next = pipe.next[state.0 as usize];
    let mut values: Vec<Option<Bits>> = Vec::with_capacity(next.0 as usize + 1);
    for inst in &body.insts[..=next.0 as usize] {
        let get = |value: Value| values[value.0 as usize].as_deref();
        let width = inst.ty.bits();
        let bits = (|| -> Option<Bits> {
            Some(match inst.op {
                Op::In => (0..width).map(|bit| Sum { word: 1 << bit, ..Sum::default() }).collect(),
                Op::State(id) if id == state => {
                    (0..width).map(|bit| Sum { state: 1 << bit, ..Sum::default() }).collect()
                }
                Op::Const(value) => number(value, width),
                Op::State(_) | Op::Param(_) | Op::Pos | Op::Modular(..) => return None,
                Op::Unary(op, a) => unary(op, get(a)?)?,
                Op::Binary(op, a, b) => binary(op, get(a)?, get(b)?)?,
                Op::Compare(op, a, b) => {
                    // One bit against a constant.
                    let (a, b) = (get(a)?, known(get(b)?)?);
                    let single = a[1..].iter().all(|sum| *sum == Sum::default());
                    match op {
                        CompareOp::Ne if single && b <= 1 => vec![a[0].plus(Sum::constant(b == 1))],
                        CompareOp::Eq if single && b <= 1 => vec![a[0].plus(Sum::constant(b == 0))],
                        // The sign.
                        CompareOp::Lts if b == 0 => vec![*a.last()?],
                        _ => return None,
                    }
                }
                Op::Select { cond, then, otherwise } => {
                    let cond = get(cond)?[0];
                    let (then, otherwise) = (get(then)?, get(otherwise)?);
                    let differ = plus(then, otherwise);
                    let chosen: Option<Bits> = differ.iter().map(|sum| sum.times(cond)).collect();
                    plus(&chosen?, otherwise)
                }
                Op::Convert(op, a) => {
                    let a = get(a)?;
                    let fill = if op == ConvertOp::Sext { *a.last()? } else { Sum::default() };
                    (0..width as usize).map(|bit| a.get(bit).copied().unwrap_or(fill)).collect()
                }
                Op::Lookup(table, index) => {
                    let values = &pipe.tables[table.0 as usize].values;
                    let used = values.len().trailing_zeros() as usize;
                    let index = get(index)?;
                    let images: Vec<u64> = (0..used).map(|bit| values[1 << bit] ^ values[0]).collect();
                    let linear = values.iter().enumerate().all(|(i, value)| {
                        let sum = images.iter().enumerate().filter(|(bit, _)| i >> bit & 1 == 1);
                        *value == sum.fold(values[0], |sum, (_, image)| sum ^ image)
                    });
                    if !linear {
                        return None;
                    }
                    let reached = &index[..used.min(index.len())];
                    plus(&apply(reached, &images, width), &number(values[0], width))
                }
                Op::Crc(op, acc, x) => {
                    let (acc_bits, x_bits) = (get(acc)?, get(x)?);
                    let ty = body.ty(x);
                    let from_acc: Vec<u64> = (0..32).map(|bit| eval::crc(op, ty, 1 << bit, 0)).collect();
                    let from_x: Vec<u64> = (0..ty.bits()).map(|bit| eval::crc(op, ty, 0, 1 << bit)).collect();
                    plus(&apply(acc_bits, &from_acc, 32), &apply(x_bits, &from_x, 32))
                }
            })
        })();
        values.push(bits);
    }
    values.pop().flatten()
}

fn unary(op: UnaryOp, a: &[Sum]) -> Option<Bits> {
    Some(match op {
        UnaryOp::Not => plus(a, &vec![Sum::constant(true); a.len()]),
        UnaryOp::Bitrev => a.iter().rev().copied().collect(),
        UnaryOp::Bswap => a.chunks(8).rev().flatten().copied().collect(),
        // Of one bit: all ones or zero.
        UnaryOp::Neg if a[1..].iter().all(|sum| *sum == Sum::default()) => vec![a[0]; a.len()],
        _ => return None,
    })
}

fn binary(op: BinaryOp, a: &[Sum], b: &[Sum]) -> Option<Bits> {
    let width = a.len();
    let count = || known(b).map(|count| count as usize % width);
    Some(match op {
        BinaryOp::Xor => plus(a, b),
        BinaryOp::And => return a.iter().zip(b).map(|(a, b)| a.times(*b)).collect(),
        // Where never both are set, these are sums too.
        BinaryOp::Or | BinaryOp::Add
            if a.iter().zip(b).all(|(a, b)| *a == Sum::default() || *b == Sum::default()) =>
        {
            plus(a, b)
        }
        BinaryOp::Shl => {
            let count = count()?;
            (0..width).map(|bit| if bit < count { Sum::default() } else { a[bit - count] }).collect()
        }
        BinaryOp::Shr => {
            let count = count()?;
            (0..width).map(|bit| a.get(bit + count).copied().unwrap_or_default()).collect()
        }
        BinaryOp::Sar => {
            let count = count()?;
            (0..width).map(|bit| a[(bit + count).min(width - 1)]).collect()
        }
        BinaryOp::Rotl => {
            let count = count()?;
            (0..width).map(|bit| a[(bit + width - count) % width]).collect()
        }
        BinaryOp::Rotr => {
            let count = count()?;
            (0..width).map(|bit| a[(bit + count) % width]).collect()
        }
        _ => return None,
    })
}

/// The CRC that the update of `state` computes over the words, if it is one.
pub(super) fn recognise(pipe: &Pipe, state: StateId) -> Option<Crc> {
    let bits = pipe.states[state.0 as usize].ty.bits();
    let word_bits = pipe.input.ty.bits();
    if bits < 8 || word_bits > bits {
        return None;
    }
    let next = next_bits(pipe, state)?;
    let parity = |mask: u64| u64::from(mask.count_ones() & 1);
    if next.iter().any(|sum| sum.one) {
        return None;
    }
    let of_state = |value: u64| {
        next.iter().enumerate().fold(0, |image, (bit, sum)| image | parity(sum.state & value) << bit)
    };
    let of_word = |value: u64| {
        next.iter().enumerate().fold(0, |image, (bit, sum)| image | parity(sum.word & value) << bit)
    };
    [true, false].into_iter().find_map(|reflected| {
        // The bit that leaves the register last leaves the polynomial behind.
        let poly = if reflected {
            of_state(1 << (word_bits - 1)).reverse_bits() >> (64 - bits)
        } else {
            of_state(1 << (bits - word_bits))
        };
        let crc = Crc { bits, poly, reflected };
        let shifted = |value: u64| (0..word_bits).fold(value, |value, _| crc.step(value));
        let entry = if reflected { 0 } else { bits - word_bits };
        let holds = poly & 1 == 1
            && (0..bits).all(|bit| of_state(1 << bit) == shifted(1 << bit))
            && (0..word_bits).all(|bit| of_word(1 << bit) == shifted(1 << (bit + entry)));
        holds.then_some(crc)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASTAGNOLI: Crc = Crc { bits: 32, poly: 0x1edc_6f41, reflected: true };

    #[test]
    fn powers_have_inverses() {
        for crc in [
            CASTAGNOLI,
            Crc { bits: 8, poly: 0x07, reflected: false },
            Crc { bits: 64, poly: 0xad93_d235_94c9_35a9, reflected: true },
        ] {
            for exponent in [0, 1, 5, 63, 64, 65, 1000] {
                assert_eq!(crc.times(crc.power(exponent), crc.power(-exponent)), 1, "{crc:?} {exponent}");
                assert_eq!(crc.times_x(crc.power(exponent)), crc.power(exponent + 1));
            }
        }
    }

    #[test]
    fn the_quotient_of_the_reduction_is_exact() {
        // x^96 = quotient * P + remainder, so that quotient * P agrees with x^96 in the upper 64 coefficients.
        let crc = CASTAGNOLI;
        let quotient = u128::from(crc.barrett()) | 1 << 64;
        let poly = u128::from(crc.poly) | 1 << 32;
        let product =
            (0..=64).filter(|bit| quotient >> bit & 1 == 1).fold(0u128, |sum, bit| sum ^ poly << bit);
        assert_eq!(product >> 32, 1 << 64);
        assert_eq!(product as u32 as u64, crc.power(96));
    }
}
