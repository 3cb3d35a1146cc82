//! Sequence numbers: 32 bits, compared modulo 2^32 (RFC 9293 section 3.4).
//!
//! `a < b` holds when `b` lies in the half circle ahead of `a`. It is no total order, hence no `Ord`.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A TCP sequence number.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct SeqNumber(pub u32);

impl SeqNumber {
    /// Whether `self` comes before `other`.
    pub(crate) const fn lt(self, other: SeqNumber) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Whether `self` comes before `other` or is it.
    pub(crate) const fn le(self, other: SeqNumber) -> bool {
        (self.0.wrapping_sub(other.0) as i32) <= 0
    }

    /// Whether `self` comes after `other`.
    pub(crate) const fn gt(self, other: SeqNumber) -> bool {
        other.lt(self)
    }

    /// Whether `self` comes after `other` or is it.
    pub(crate) const fn ge(self, other: SeqNumber) -> bool {
        other.le(self)
    }

    /// Whether `self` lies in `[start, start + len)`.
    pub(crate) const fn in_window(self, start: SeqNumber, len: u32) -> bool {
        self.0.wrapping_sub(start.0) < len
    }

    /// The distance from `earlier` to `self`; zero if `earlier` is not earlier.
    pub(crate) const fn since(self, earlier: SeqNumber) -> u32 {
        let distance = self.0.wrapping_sub(earlier.0);
        if (distance as i32) < 0 { 0 } else { distance }
    }

    /// The later of the two.
    pub(crate) const fn max(self, other: SeqNumber) -> SeqNumber {
        if self.lt(other) { other } else { self }
    }

    /// The earlier of the two.
    pub(crate) const fn min(self, other: SeqNumber) -> SeqNumber {
        if other.lt(self) { other } else { self }
    }
}

impl Add<u32> for SeqNumber {
    type Output = SeqNumber;

    fn add(self, rhs: u32) -> SeqNumber {
        SeqNumber(self.0.wrapping_add(rhs))
    }
}

impl AddAssign<u32> for SeqNumber {
    fn add_assign(&mut self, rhs: u32) {
        *self = *self + rhs;
    }
}

impl Sub<u32> for SeqNumber {
    type Output = SeqNumber;

    fn sub(self, rhs: u32) -> SeqNumber {
        SeqNumber(self.0.wrapping_sub(rhs))
    }
}

/// The distance on the circle, modulo 2^32.
impl Sub<SeqNumber> for SeqNumber {
    type Output = u32;

    fn sub(self, rhs: SeqNumber) -> u32 {
        self.0.wrapping_sub(rhs.0)
    }
}

impl fmt::Debug for SeqNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for SeqNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::SeqNumber;

    #[test]
    fn comparison_goes_round_the_circle() {
        let near_end = SeqNumber(u32::MAX - 5);
        let wrapped = near_end + 10;
        assert_eq!(wrapped, SeqNumber(4));
        assert!(near_end.lt(wrapped) && near_end.le(wrapped) && wrapped.gt(near_end));
        assert!(!wrapped.lt(near_end));
        assert_eq!(wrapped - near_end, 10);
        assert_eq!(wrapped.since(near_end), 10);
        assert_eq!(near_end.since(wrapped), 0);
        assert_eq!(near_end.max(wrapped), wrapped);
        assert_eq!(near_end.min(wrapped), near_end);
    }

    #[test]
    fn window_membership_is_half_open() {
        let start = SeqNumber(u32::MAX - 1);
        assert!(start.in_window(start, 4));
        assert!((start + 3).in_window(start, 4));
        assert!(!(start + 4).in_window(start, 4));
        assert!(!(start - 1).in_window(start, 4));
        assert!(!start.in_window(start, 0));
    }
}
