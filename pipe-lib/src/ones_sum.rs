//! Sums of stretches, put together (RFC 1071, section 2).

/// The one's complement sum of a stream that comes in stretches of any length, each summed on its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnesSum {
    sum: u16,
    /// Whether the next stretch starts in the middle of a word.
    odd: bool,
}

impl OnesSum {
    /// Of nothing.
    pub const fn new() -> OnesSum {
        OnesSum { sum: 0, odd: false }
    }

    /// Appends a stretch of `len` bytes whose own sum, from its first byte and its odd last byte padded by
    /// zero, is `sum`. At an odd offset its words straddle the stream's: the sum's bytes trade places.
    pub fn append(&mut self, sum: u16, len: usize) {
        let sum = if self.odd { sum.swap_bytes() } else { sum };
        let (total, carry) = self.sum.overflowing_add(sum);
        self.sum = total + u16::from(carry);
        self.odd ^= !len.is_multiple_of(2);
    }

    /// The sum so far: zero only if every byte was zero.
    pub const fn value(self) -> u16 {
        self.sum
    }
}
