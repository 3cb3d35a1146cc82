//! Against a reassembly that keeps a flag for each byte, and floods of hostile fragments.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn id(ident: u32) -> DatagramId {
    let addr = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    DatagramId { src: addr(2), dst: addr(1), protocol: 1, ident }
}

fn fragment(ident: u32, offset: usize, more: bool, payload: &[u8]) -> Fragment<'_> {
    Fragment { id: id(ident), offset, more, payload, quote: (offset == 0).then_some([ident as u8; QUOTED]) }
}

/// What the datagram with this number holds at each offset.
fn content(ident: u32, range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ ident as usize) as u8).collect()
}

/// The plainest reassembly of one datagram.
#[derive(Default)]
struct Naive {
    bytes: Vec<Option<u8>>,
    total: Option<usize>,
    dead: bool,
}

impl Naive {
    fn add(&mut self, fragment: &Fragment<'_>) -> Added {
        let range = fragment.offset..fragment.offset + fragment.payload.len();
        if self.dead || range.is_empty() || (fragment.more && range.len() % 8 != 0) || range.end > MAX_LEN {
            return Added::Dropped;
        }
        let contradicts = match self.total {
            Some(total) => range.end > total || (range.end == total) == fragment.more,
            None => !fragment.more && range.end < self.bytes.len(),
        };
        if self.bytes.len() < range.end {
            self.bytes.resize(range.end, None);
        }
        let old = &mut self.bytes[range.clone()];
        if !contradicts && old.iter().zip(fragment.payload).all(|(old, new)| *old == Some(*new)) {
            return Added::Dropped;
        }
        if contradicts || old.iter().any(Option::is_some) {
            self.dead = true;
            return Added::Dropped;
        }
        old.iter_mut().zip(fragment.payload).for_each(|(old, new)| *old = Some(*new));
        if !fragment.more {
            self.total = Some(range.end);
        }
        match self.bytes.iter().copied().collect::<Option<Vec<u8>>>() {
            Some(all) if self.total == Some(all.len()) => Added::Complete(all),
            _ => Added::Kept,
        }
    }
}

/// Whole datagrams, each cut at random, all fragments shuffled and some doubled.
fn cut_datagrams() -> impl Strategy<Value = Vec<(u32, std::ops::Range<usize>, bool)>> {
    let one = (1usize..3000, prop::collection::vec(1usize..40, 1..12));
    prop::collection::vec(one, 1..4)
        .prop_map(|datagrams| {
            let mut all = Vec::new();
            for (ident, (len, steps)) in datagrams.into_iter().enumerate() {
                let (mut at, mut steps) = (0, steps.into_iter().cycle());
                while at < len {
                    let end = len.min(at + 8 * steps.next().unwrap());
                    all.push((ident as u32, at..end, end < len));
                    at = end;
                }
            }
            all
        })
        .prop_flat_map(|all| {
            let copies = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
            (Just(all), copies)
        })
        .prop_map(|(mut all, copies)| {
            for copy in copies {
                all.push(copy.get(&all).clone());
            }
            all
        })
        .prop_shuffle()
}

proptest! {
    /// Each datagram comes out whole, whatever the order. (And again, should copies of all its fragments
    /// follow.)
    #[test]
    fn datagrams_come_out_whole(fragments in cut_datagrams()) {
        let mut reassembly = Reassembly::new(1 << 20);
        let mut whole: HashMap<u32, Vec<u8>> = HashMap::new();
        for (ident, range, more) in &fragments {
            let payload = content(*ident, range.clone());
            let added = reassembly.add(Instant::ZERO, &fragment(*ident, range.start, *more, &payload));
            if let Added::Complete(bytes) = added
                && let Some(earlier) = whole.insert(*ident, bytes)
            {
                prop_assert_eq!(&earlier, &whole[ident]);
            }
        }
        for (ident, ..) in &fragments {
            let bytes = whole.get(ident).ok_or_else(|| TestCaseError::fail("it never came out"))?;
            prop_assert_eq!(bytes, &content(*ident, 0..bytes.len()));
        }
    }

    /// Overlaps, contradictions, copies: as the plain one decides.
    #[test]
    fn hostile_fragments_as_naive(
        fragments in prop::collection::vec((0u32..3, 0usize..12, 0usize..40, any::<bool>(), 0u8..8), 1..40)
    ) {
        let mut reassembly = Reassembly::new(1 << 20);
        let mut naive: HashMap<u32, Naive> = HashMap::new();
        for (ident, at, len, more, other) in fragments {
            let mut payload = content(ident, at * 8..at * 8 + len);
            if other == 0 && let Some(byte) = payload.first_mut() {
                *byte ^= 1;
            }
            let fragment = fragment(ident, at * 8, more, &payload);
            let expected = naive.entry(ident).or_default().add(&fragment);
            prop_assert_eq!(&reassembly.add(Instant::ZERO, &fragment), &expected, "{:?}", fragment);
            if let Added::Complete(_) = expected {
                naive.remove(&ident);
            }
        }
    }
}

#[test]
fn a_flood_is_bounded_in_bytes_datagrams_and_holes() {
    let capacity = 200_000;
    let mut reassembly = Reassembly::new(capacity);
    // The farthest fragments of many datagrams: eight bytes each that stand for 64 KB.
    for ident in 0..10_000 {
        reassembly.add(Instant::ZERO, &fragment(ident, 65_504, true, &[0; 8]));
        assert!(reassembly.bytes() <= capacity && reassembly.datagrams.len() <= MAX_DATAGRAMS);
    }
    // Every other eight bytes of one.
    let mut most = 0;
    for number in 0..4000 {
        reassembly.add(Instant::ZERO, &fragment(7, 16 * number, true, &[0; 8]));
        most = most.max(reassembly.datagrams.iter().map(|datagram| datagram.holes.len()).max().unwrap_or(0));
    }
    assert!(most <= MAX_HOLES, "{most} holes");
    // Small ones: the number is the bound.
    for ident in 0..10_000 {
        reassembly.add(Instant::ZERO, &fragment(ident, 0, true, &[0; 8]));
        assert!(reassembly.datagrams.len() <= MAX_DATAGRAMS);
    }
    // Longer than a packet may be (the ping of death), nothing, or no multiple of eight.
    let before = reassembly.bytes();
    for (offset, more, len) in [(65_512, false, 8), (0, true, 0), (16, false, 0), (0, true, 12)] {
        assert_eq!(reassembly.add(Instant::ZERO, &fragment(1, offset, more, &vec![0; len])), Added::Dropped);
    }
    assert_eq!(reassembly.bytes(), before);
    while reassembly.expire(Instant::from_millis(31_000)).is_some() {}
    assert_eq!((reassembly.bytes(), reassembly.datagrams.len()), (0, 0));
    assert_eq!(Reassembly::new(0).add(Instant::ZERO, &fragment(1, 0, true, &[0; 8])), Added::Dropped);
}

#[test]
fn what_never_comes_is_reported_if_the_beginning_has() {
    let mut reassembly = Reassembly::new(10_000);
    let at = Instant::from_millis;
    reassembly.add(at(0), &fragment(1, 8, false, &[1; 8]));
    reassembly.add(at(10), &fragment(2, 0, true, &[1; 8]));
    reassembly.add(at(20), &fragment(3, 0, true, &[1; 8]));
    reassembly.add(at(20), &fragment(3, 0, true, &[2; 8]));
    assert_eq!(reassembly.next_expiry(), Some(at(30_000)));
    assert_eq!(reassembly.expire(at(29_999)), None);
    assert_eq!(reassembly.expire(at(31_000)), Some(None), "without a beginning");
    assert_eq!(reassembly.expire(at(31_000)), Some(Some((id(2).src, [2; QUOTED]))));
    assert_eq!(reassembly.expire(at(31_000)), Some(None), "its fragments overlapped");
    assert_eq!(reassembly.expire(at(31_000)), None);
}
