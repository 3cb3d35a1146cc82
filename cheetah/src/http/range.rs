//! Byte ranges (RFC 9110 section 14): one range of one representation.
//!
//! A request for several ranges is answered with the whole representation, which section 14.2 allows ("A server MAY
//! ignore the Range header field") and which costs nobody a multipart body.

use std::ops::Range;

/// What a `Range` field asks of a representation of known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The field is malformed, in another unit, or asks for several ranges: answer as if it were absent.
    Whole,
    /// These bytes (end exclusive, not empty, within the representation).
    Part(Range<u64>),
    /// A well-formed range of which not one byte exists: 416.
    Unsatisfiable,
}

/// Reads the field value `field` for a representation of `len` bytes. Numbers beyond 64 bits count as "past the end".
pub fn select(field: &[u8], len: u64) -> Selection {
    match parse(field) {
        None => Selection::Whole,
        Some(Spec::From(first)) if first < len => Selection::Part(first..len),
        Some(Spec::FromTo(first, last)) if first < len => Selection::Part(first..last.min(len - 1) + 1),
        Some(Spec::Last(count)) if count > 0 && len > 0 => Selection::Part(len.saturating_sub(count)..len),
        Some(_) => Selection::Unsatisfiable,
    }
}

enum Spec {
    /// `bytes=5-`
    From(u64),
    /// `bytes=5-9`, the last one inclusive as written.
    FromTo(u64, u64),
    /// `bytes=-5`
    Last(u64),
}

fn parse(field: &[u8]) -> Option<Spec> {
    let field = field.trim_ascii();
    let (unit, set) = field.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    // The list rule lets empty elements and blanks stand around the one range.
    let mut ranges = set.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|range| !range.is_empty());
    let range = ranges.next()?;
    if ranges.next().is_some() {
        return None;
    }
    let dash = range.iter().position(|&b| b == b'-')?;
    let (first, last) = (&range[..dash], &range[dash + 1..]);
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => Some(Spec::Last(number(last)?)),
        (false, true) => Some(Spec::From(number(first)?)),
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::FromTo(first, last))
        }
    }
}

/// A decimal number, saturating: what is too big for a `u64` is past the end of anything we serve.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0u64, |n, &d| n.saturating_mul(10).saturating_add(u64::from(d - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::Selection::*;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table() {
        for (field, len, expected) in [
            ("bytes=0-499", 10_000, Part(0..500)),
            ("bytes=500-999", 10_000, Part(500..1000)),
            ("bytes=-500", 10_000, Part(9500..10_000)),
            ("bytes=9500-", 10_000, Part(9500..10_000)),
            ("BYTES=0-0", 1, Part(0..1)),
            ("bytes= 1-2 ", 10, Part(1..3)),
            ("bytes=,1-2,", 10, Part(1..3)),
            ("bytes=0-99999999999999999999999", 10, Part(0..10)),
            ("bytes=-99999999999999999999999", 10, Part(0..10)),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-12", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-5", 0, Unsatisfiable),
            ("bytes=0-0,-1", 10, Whole),
            ("bytes=5-4", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=1-+2", 10, Whole),
            ("bytes=1--2", 10, Whole),
            ("bytes 1-2", 10, Whole),
            ("lines=1-2", 10, Whole),
            ("", 10, Whole),
        ] {
            assert_eq!(select(field.as_bytes(), len), expected, "{field} of {len}");
        }
    }

    proptest! {
        /// Against the set of byte positions, counted one by one.
        #[test]
        fn agrees_with_counting(first in 0u64..40, last in 0u64..40, len in 0u64..40) {
            let wanted = |p: &dyn Fn(u64) -> bool| (0..len).filter(|&i| p(i)).collect::<Vec<_>>();
            let got = |field: String| match select(field.as_bytes(), len) {
                Whole => None,
                Part(range) => Some(range.collect::<Vec<_>>()),
                Unsatisfiable => Some(vec![]),
            };
            prop_assert_eq!(got(format!("bytes={first}-")), Some(wanted(&|i| i >= first)));
            prop_assert_eq!(got(format!("bytes=-{last}")), Some(wanted(&|i| i + last >= len)));
            let closed = got(format!("bytes={first}-{last}"));
            prop_assert_eq!(closed, (first <= last).then(|| wanted(&|i| first <= i && i <= last)));
        }

        #[test]
        fn nonsense_stays_in_bounds(field in proptest::collection::vec(any::<u8>(), 0..40), len: u64) {
            if let Part(range) = select(&field, len) {
                prop_assert!(range.start < range.end && range.end <= len);
            }
        }

        #[test]
        fn near_misses_stay_in_bounds(field in "bytes=[0-9 ,-]{0,24}", len in 0u64..200) {
            if let Part(range) = select(field.as_bytes(), len) {
                prop_assert!(range.start < range.end && range.end <= len);
            }
        }
    }
}
