//! Byte ranges (RFC 9110 section 14): which parts of one representation a client wants.
//!
//! Ranges past the end are dropped; those that overlap, touch, or lie closer than the head of another part
//! would be long are joined (section 15.3.7.2). One that is left is sent alone, several as
//! `multipart/byteranges`.

use std::ops::Range;

use smallvec::SmallVec;

/// Elements that are looked at. A field of more is ignored, which section 14.2 allows: no client in earnest
/// sends one.
pub const MAX_RANGES: usize = 64;

/// A gap of fewer bytes costs less to send than the head of another part.
const MIN_GAP: u64 = 80;

/// The parts of a response, in the order in which they were asked for.
pub type Ranges = SmallVec<[Range<u64>; 4]>;

/// What a `Range` field asks of a representation of known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The field is malformed, in another unit, has too many ranges, or asks for the last bytes of nothing:
    /// answer as if it were absent.
    Whole,
    /// These bytes (end exclusive, not empty, within the representation).
    Part(Range<u64>),
    /// Two parts or more, each as one of [`Selection::Part`], no two of them closer than some 80 bytes.
    Parts(Ranges),
    /// A well-formed range of which not one byte exists: 416.
    Unsatisfiable,
}

/// Reads the field value `field` for a representation of `len` bytes. Numbers beyond 64 bits count as "past
/// the end". The work is bounded by the square of [`MAX_RANGES`].
pub fn select(field: &[u8], len: u64) -> Selection {
    let Some(specs) = range_set(field) else { return Selection::Whole };
    let mut parts = Ranges::new();
    let (mut ends_nothing, mut count) = (false, 0);
    for spec in specs {
        count += 1;
        if count > MAX_RANGES {
            return Selection::Whole;
        }
        // One malformed element makes the whole field say nothing.
        let Some(spec) = parse(spec) else { return Selection::Whole };
        match spec.of(len) {
            Some(next) => join(&mut parts, next),
            // The last bytes of an empty representation: satisfiable (section 14.1.2), and nothing to cut
            // out.
            None => ends_nothing |= len == 0 && matches!(spec, Spec::Last(1..)),
        }
    }
    match parts.as_slice() {
        [] if !ends_nothing && count > 0 => Selection::Unsatisfiable,
        [] => Selection::Whole,
        [part] => Selection::Part(part.clone()),
        _ => Selection::Parts(parts),
    }
}

/// Adds `next`, joined with all that lie close to it, in the place of the first of these.
fn join(parts: &mut Ranges, mut next: Range<u64>) {
    let is_near = |a: &Range<u64>, b: &Range<u64>| {
        a.start <= b.end.saturating_add(MIN_GAP) && b.start <= a.end.saturating_add(MIN_GAP)
    };
    let mut place = parts.len();
    // What was joined may be near to another.
    while let Some(at) = parts.iter().position(|part| is_near(part, &next)) {
        let near = parts.remove(at);
        next = near.start.min(next.start)..near.end.max(next.end);
        place = at.min(place);
    }
    parts.insert(place.min(parts.len()), next);
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

    fn several<const N: usize>(parts: [Range<u64>; N]) -> Selection {
        Parts(parts.into_iter().collect())
    }

    #[test]
    fn too_many_ranges_say_nothing() {
        let field = |count: usize| {
            let ranges: Vec<String> = (0..count).map(|i| format!("{}-{}", i * 200, i * 200)).collect();
            format!("bytes={}", ranges.join(","))
        };
        let Parts(parts) = select(field(MAX_RANGES).as_bytes(), 1 << 20) else { panic!() };
        assert_eq!(parts.len(), MAX_RANGES);
        assert_eq!(select(field(MAX_RANGES + 1).as_bytes(), 1 << 20), Whole);
    }

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
            ("bytes=0-0,-1", 10, Part(0..10)),
            ("bytes=0-0,-1", 10_000, several([0..1, 9999..10_000])),
            ("bytes=-1,0-0", 10_000, several([9999..10_000, 0..1])),
            ("bytes=0-9,90-99", 10_000, Part(0..100)),
            ("bytes=0-9,91-99", 10_000, several([0..10, 91..100])),
            ("bytes=0-9,500-509,300-309,200-499", 10_000, several([0..10, 200..510])),
            ("bytes=500-509,0-9,100-400,20000-", 10_000, several([500..510, 0..10, 100..401])),
            ("bytes=0-9,400-409,x", 10_000, Whole),
            ("bytes=0-4,20-24", 10, Part(0..5)),
            ("bytes=20-24,5-", 10, Part(5..10)),
            ("bytes=20-24,30-", 10, Unsatisfiable),
            ("bytes=,0-4,", 10, Part(0..5)),
            ("bytes=0-4,5-7", 10, Part(0..8)),
            ("bytes=5-7,0-5", 10, Part(0..8)),
            ("bytes=0-1,4-5,2-3", 10, Part(0..6)),
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

    fn is_within(selection: &Selection, len: u64) -> bool {
        let is_part = |part: &Range<u64>| part.start < part.end && part.end <= len;
        match selection {
            Part(part) => is_part(part),
            Parts(parts) => parts.len() > 1 && parts.iter().all(is_part),
            Whole | Unsatisfiable => true,
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
                Parts(parts) => Some(parts.into_iter().flatten().collect()),
                Unsatisfiable => Some(vec![]),
            };
            prop_assert_eq!(got(format!("bytes={first}-")), Some(wanted(&|i| i >= first)));
            let suffix = got(format!("bytes=-{last}"));
            // The last bytes of nothing are all of it.
            prop_assert_eq!(suffix, (len > 0 || last == 0).then(|| wanted(&|i| i + last >= len)));
            let closed = got(format!("bytes={first}-{last}"));
            prop_assert_eq!(closed, (first <= last).then(|| wanted(&|i| first <= i && i <= last)));
        }

        /// Against a set of positions with the short gaps filled: the same bytes, each once, in parts that
        /// lie apart.
        #[test]
        fn several_ranges_agree_with_counting(asked in proptest::collection::vec((0u64..1500, 0u64..120), 1..12),
                                              len in 0u64..1600) {
            let mut wanted = vec![false; 1700];
            for &(first, more) in &asked {
                wanted[first as usize..=(first + more) as usize].fill(true);
            }
            wanted.truncate(len as usize);
            let there: Vec<usize> = (0..wanted.len()).filter(|&i| wanted[i]).collect();
            for pair in there.windows(2) {
                if (pair[1] - pair[0] - 1) as u64 <= MIN_GAP {
                    wanted[pair[0]..pair[1]].fill(true);
                }
            }
            let field: Vec<String> = asked.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
            let parts = match select(format!("bytes={}", field.join(", ")).as_bytes(), len) {
                Unsatisfiable => Ranges::new(),
                Part(part) => Ranges::from_iter([part]),
                Parts(parts) => { prop_assert!(parts.len() > 1); parts }
                Whole => return Err(TestCaseError::fail("well-formed")),
            };
            let mut got = vec![false; wanted.len()];
            for range in parts {
                for at in range {
                    prop_assert!(!got[at as usize], "{at} twice");
                    got[at as usize] = true;
                }
            }
            prop_assert_eq!(got, wanted);
        }

        #[test]
        fn nonsense_stays_in_bounds(field in proptest::collection::vec(any::<u8>(), 0..40), len: u64) {
            prop_assert!(is_within(&select(&field, len), len));
        }

        #[test]
        fn near_misses_stay_in_bounds(field in "bytes=[0-9 ,-]{0,24}", len in 0u64..200) {
            prop_assert!(is_within(&select(field.as_bytes(), len), len));
        }
    }
}
