//! A message as a list of slices of immutable buffers.

use super::pool::Shared;
use crate::payload::{Piece, Pieces};
use crate::transfer::OnesSum;
use smallvec::SmallVec;
use std::cell::Cell;
use std::ops::Range;

/// A part of a filled buffer, with its checksum once somebody has asked for it.
#[derive(Clone, Debug)]
pub struct Slice {
    buffer: Shared,
    range: Range<usize>,
    sum: Cell<Option<u16>>,
}

impl Slice {
    /// The part `range` of `buffer`; `None` if the buffer does not have it.
    pub fn new(buffer: Shared, range: Range<usize>) -> Option<Slice> {
        buffer.get(range.clone())?;
        Some(Slice { buffer, range, sum: Cell::new(None) })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }

    /// The one's complement sum of the bytes (RFC 1071, not complemented): made by `make` the first time,
    /// then remembered, since the bytes do not change.
    pub fn sum(&self, make: impl FnOnce(&[u8]) -> u16) -> u16 {
        let sum = self.sum.get().unwrap_or_else(|| make(self.bytes()));
        self.sum.set(Some(sum));
        sum
    }

    /// A part of the part. It knows its sum only if it is the whole.
    fn part(&self, range: Range<usize>) -> Slice {
        let sum = if range == (0..self.range.len()) { self.sum.get() } else { None };
        let range = self.range.start + range.start..self.range.start + range.end;
        Slice { buffer: self.buffer.clone(), range, sum: Cell::new(sum) }
    }
}

/// Slices one after the other. Cutting and joining copies no bytes.
#[derive(Clone, Debug, Default)]
pub struct Aggregate {
    /// None is empty.
    slices: SmallVec<[Slice; 4]>,
    len: usize,
}

impl Aggregate {
    /// Of nothing.
    pub fn new() -> Aggregate {
        Aggregate::default()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slices, in order; none is empty.
    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }

    /// Appends a slice.
    pub fn push(&mut self, slice: Slice) {
        if !slice.range.is_empty() {
            self.len += slice.range.len();
            self.slices.push(slice);
        }
    }

    /// Appends another aggregate's slices.
    pub fn append(&mut self, other: Aggregate) {
        self.len += other.len;
        self.slices.extend(other.slices);
    }

    /// The bytes `range` as an aggregate of its own; `None` if there are not as many.
    pub fn part(&self, range: Range<usize>) -> Option<Aggregate> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        let mut part = Aggregate::new();
        self.overlaps(range, |slice, within| part.push(slice.part(within)));
        Some(part)
    }

    /// Appends the bytes `[offset, offset + len)` to `out`, with the sums of slices that have theirs and are
    /// in it whole; what lies beyond the end is left out.
    pub fn pieces<'a>(&'a self, offset: usize, len: usize, out: &mut Pieces<'a>) {
        let end = offset.saturating_add(len).min(self.len);
        self.overlaps(offset.min(end)..end, |slice, within| {
            let sum = if within.len() == slice.range.len() { slice.sum.get() } else { None };
            out.push(Piece { bytes: &slice.bytes()[within], sum });
        });
    }

    /// The one's complement sum of all bytes; slices whose sum is known are not read.
    pub fn sum(&self, make: impl Fn(&[u8]) -> u16) -> u16 {
        let mut sum = OnesSum::new();
        for slice in &self.slices {
            sum.append(slice.sum(&make), slice.range.len());
        }
        sum.value()
    }

    /// Calls `f` with each slice that has bytes in `range`, and which of its own.
    fn overlaps<'a>(&'a self, range: Range<usize>, mut f: impl FnMut(&'a Slice, Range<usize>)) {
        let mut start = 0;
        for slice in &self.slices {
            let len = slice.range.len();
            let from = range.start.saturating_sub(start).min(len);
            let to = range.end.saturating_sub(start).min(len);
            if from < to {
                f(slice, from..to);
            }
            start += len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Pool;
    use proptest::prelude::*;

    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = OnesSum::new();
        bytes.iter().for_each(|&byte| sum.append(u16::from(byte) << 8, 1));
        sum.value()
    }

    fn aggregate(pool: &Pool, parts: &[(Vec<u8>, usize)]) -> Aggregate {
        let mut aggregate = Aggregate::new();
        for (bytes, lead) in parts {
            let mut buffer = pool.take().unwrap();
            buffer[*lead..lead + bytes.len()].copy_from_slice(bytes);
            aggregate.push(Slice::new(buffer.freeze(), *lead..lead + bytes.len()).unwrap());
        }
        aggregate
    }

    fn flat(aggregate: &Aggregate) -> Vec<u8> {
        aggregate.slices().iter().flat_map(Slice::bytes).copied().collect()
    }

    proptest! {
        #[test]
        fn cutting_and_joining_is_cutting_and_joining_bytes(
            parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..30), 0usize..30), 0..8),
            cut in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
            summed in any::<bool>(),
        ) {
            let pool = Pool::new(64, 8);
            let whole = aggregate(&pool, &parts);
            let bytes: Vec<u8> = parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
            prop_assert_eq!(flat(&whole), bytes.clone());
            if summed {
                prop_assert_eq!(whole.sum(reference), reference(&bytes));
                prop_assert_eq!(whole.sum(|_| unreachable!("all sums are known")), reference(&bytes));
            }
            let (a, b) = (cut.0.index(bytes.len() + 1), cut.1.index(bytes.len() + 1));
            let (from, to) = (a.min(b), a.max(b));
            let part = whole.part(from..to).unwrap();
            prop_assert_eq!(flat(&part), &bytes[from..to]);
            prop_assert_eq!(part.sum(reference), reference(&bytes[from..to]), "no stale sums");
            let mut pieces = Pieces::new();
            whole.pieces(from, to - from + 7, &mut pieces);
            let mut sum = OnesSum::new();
            for piece in &pieces {
                prop_assert_eq!(piece.sum.unwrap_or(reference(piece.bytes)), reference(piece.bytes));
                sum.append(reference(piece.bytes), piece.bytes.len());
            }
            prop_assert_eq!(sum.value(), reference(&bytes[from..bytes.len().min(to + 7)]));
            let mut joined = whole.part(0..from).unwrap();
            joined.append(part);
            joined.append(whole.part(to..bytes.len()).unwrap());
            prop_assert_eq!(flat(&joined), bytes.clone());
            prop_assert!(whole.part(0..bytes.len() + 1).is_none());
            drop(pieces);
            drop((whole, joined));
            prop_assert_eq!(pool.in_use(), 0, "all buffers are back");
        }
    }

    #[test]
    fn a_slice_lies_within_its_buffer() {
        let buffer = Pool::new(8, 1).take().unwrap().freeze();
        assert!(Slice::new(buffer.clone(), 0..8).is_some());
        assert!(Slice::new(buffer.clone(), 0..9).is_none());
        assert!(Slice::new(buffer, 9..9).is_none());
    }
}
