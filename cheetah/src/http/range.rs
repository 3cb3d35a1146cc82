//! Byte ranges (RFC 9110 section 14): one range of one representation.
//!
//! Several ranges of which one is left, once those past the end are dropped and those that touch are joined, are
//! answered with that one (section 15.3.7.2). If more are left the whole representation is sent, which section 14.2
//! allows ("A server MAY ignore the Range header field").

use std::ops::Range;

/// What a `Range` field asks of a representation of known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The field is malformed, in another unit, asks for ranges that lie apart, or for the last bytes of nothing:
    /// answer as if it were absent.
    Whole,
    /// These bytes (end exclusive, not empty, within the representation).
    Part(Range<u64>),
    /// A well-formed range of which not one byte exists: 416.
    Unsatisfiable,
}

/// Reads the field value `field` for a representation of `len` bytes. Numbers beyond 64 bits count as "past the end".
pub fn select(field: &[u8], len: u64) -> Selection {
    let Some(specs) = range_set(field) else { return Selection::Whole };
    let mut part: Option<Range<u64>> = None;
    let (mut lie_apart, mut ends_nothing, mut is_empty) = (false, false, true);
    for spec in specs {
        is_empty = false;
        // One malformed element makes the whole field say nothing.
        let Some(spec) = parse(spec) else { return Selection::Whole };
        let Some(next) = spec.of(len) else {
            // The last bytes of an empty representation: satisfiable (section 14.1.2), and nothing to cut out.
            ends_nothing |= len == 0 && matches!(spec, Spec::Last(1..));
            continue;
        };
        part = match part {
            None => Some(next),
            Some(part) if next.start <= part.end && part.start <= next.end => {
                Some(part.start.min(next.start)..part.end.max(next.end))
            }
            Some(part) => {
                lie_apart = true;
                Some(part)
            }
        };
    }
    match part {
        Some(part) if !lie_apart => Selection::Part(part),
        None if !ends_nothing && !is_empty => Selection::Unsatisfiable,
        _ => Selection::Whole,
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

impl Spec {
    /// The bytes it names of a representation of `len` bytes, if there is one at least.
    fn of(&self, len: u64) -> Option<Range<u64>> {
        match *self {
            Spec::From(first) => (first < len).then_some(first..len),
            Spec::FromTo(first, last) => (first < len).then(|| first..last.min(len - 1) + 1),
            Spec::Last(count) => (count > 0 && len > 0).then(|| len.saturating_sub(count)..len),
        }
    }
}

/// The elements of a `Range` field in bytes; the list rule lets empty elements and blanks stand around them.
fn range_set(field: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let (unit, set) = field.trim_ascii().split_at_checked(6)?;
    let elements = set.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|range| !range.is_empty());
    unit.eq_ignore_ascii_case(b"bytes=").then_some(elements)
}

fn parse(range: &[u8]) -> Option<Spec> {
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
            ("bytes=-5", 0, Whole),
            ("bytes=-0", 0, Unsatisfiable),
            ("bytes=0-0,-1", 10, Whole),
            ("bytes=0-4,20-24", 10, Part(0..5)),
            ("bytes=20-24,5-", 10, Part(5..10)),
            ("bytes=20-24,30-", 10, Unsatisfiable),
            ("bytes=,0-4,", 10, Part(0..5)),
            ("bytes=0-4,5-7", 10, Part(0..8)),
            ("bytes=5-7,0-5", 10, Part(0..8)),
            ("bytes=0-1,4-5,2-3", 10, Whole),
            ("bytes=0-4,x", 10, Whole),
            ("bytes=0-4,7-6", 10, Whole),
            ("bytes=,", 10, Whole),
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
            let suffix = got(format!("bytes=-{last}"));
            // The last bytes of nothing are all of it.
            prop_assert_eq!(suffix, (len > 0 || last == 0).then(|| wanted(&|i| i + last >= len)));
            let closed = got(format!("bytes={first}-{last}"));
            prop_assert_eq!(closed, (first <= last).then(|| wanted(&|i| first <= i && i <= last)));
        }

        /// Two ranges: one part exactly if the bytes that exist of them are next to each other.
        #[test]
        fn two_ranges_agree_with_counting(a in 0u64..12, b in 0u64..12, c in 0u64..12, d in 0u64..12, len in 0u64..12) {
            prop_assume!(a <= b && c <= d);
            let wanted: Vec<u64> = (0..len).filter(|i| (a..=b).contains(i) || (c..=d).contains(i)).collect();
            let is_one = wanted.windows(2).all(|pair| pair[0] + 1 == pair[1]);
            match select(format!("bytes={a}-{b}, {c}-{d}").as_bytes(), len) {
                Whole => prop_assert!(!is_one),
                Unsatisfiable => prop_assert!(wanted.is_empty()),
                Part(part) => prop_assert_eq!(part.collect::<Vec<_>>(), wanted),
            }
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
