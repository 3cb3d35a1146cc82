//! A message as a list of slices of immutable buffers.

use super::shared::Shared;
use smallvec::SmallVec;
use std::ops::Range;

/// A part of a filled buffer.
#[derive(Clone, Debug)]
pub struct Slice {
    buffer: Shared,
    range: Range<usize>,
}

impl Slice {
    /// The part `range` of `buffer`; `None` if the buffer does not have it.
    pub fn new(buffer: Shared, range: Range<usize>) -> Option<Slice> {
        buffer.get(range.clone())?;
        Some(Slice { buffer, range })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The buffer that it is a part of.
    pub fn buffer(&self) -> &Shared {
        &self.buffer
    }

    /// Keeps the first `len` bytes, or all if there are not as many.
    pub fn truncate(&mut self, len: usize) {
        self.range.end = self.range.end.min(self.range.start.saturating_add(len));
    }

    /// A part of the part, within its length.
    pub fn part(&self, range: Range<usize>) -> Slice {
        let range = self.range.start + range.start..self.range.start + range.end;
        Slice { buffer: self.buffer.clone(), range }
    }
}

impl From<Shared> for Slice {
    /// All of it.
    fn from(buffer: Shared) -> Slice {
        let range = 0..buffer.len();
        Slice { buffer, range }
    }
}

/// Slices one after the other. Cutting and joining copies no bytes.
#[derive(Clone, Debug, Default)]
pub struct Aggregate {
    /// None is empty.
    slices: SmallVec<[Slice; 2]>,
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
        if !slice.is_empty() {
            self.len += slice.len();
            self.slices.push(slice);
        }
    }

    /// Puts a slice in front.
    pub fn prepend(&mut self, slice: Slice) {
        if !slice.is_empty() {
            self.len += slice.len();
            self.slices.insert(0, slice);
        }
    }

    /// Appends another aggregate's slices.
    pub fn append(&mut self, other: Aggregate) {
        self.len += other.len;
        self.slices.extend(other.slices);
    }

    /// Takes the first `len` bytes off (all, if there are not as many), whose buffers are let go of as far as
    /// nothing else refers to them.
    pub fn split_to(&mut self, len: usize) -> Aggregate {
        let mut front = Aggregate::new();
        let mut left = len;
        let mut whole = 0;
        for slice in &mut self.slices {
            if slice.len() > left {
                front.push(slice.part(0..left));
                slice.range.start += left;
                break;
            }
            left -= slice.len();
            whole += 1;
        }
        let tail = front.slices;
        front.slices = self.slices.drain(..whole).chain(tail).collect();
        front.len = front.slices.iter().map(Slice::len).sum();
        self.len -= front.len;
        front
    }

    /// The bytes `range` as an aggregate of its own; `None` if there are not as many.
    pub fn part(&self, range: Range<usize>) -> Option<Aggregate> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        let mut part = Aggregate::new();
        self.overlaps(range, |slice, within| {
            part.push(slice.part(within));
            true
        });
        Some(part)
    }

    /// Calls `f` with each slice that has bytes in `range`, and which of its own, until it says no.
    pub(crate) fn overlaps<'a>(
        &'a self,
        range: Range<usize>,
        mut f: impl FnMut(&'a Slice, Range<usize>) -> bool,
    ) {
        let mut start = 0;
        for slice in &self.slices {
            let len = slice.len();
            let from = range.start.saturating_sub(start).min(len);
            let to = range.end.saturating_sub(start).min(len);
            if from < to && !f(slice, from..to) {
                return;
            }
            start += len;
        }
    }
}

impl From<Slice> for Aggregate {
    /// Of this slice alone.
    fn from(slice: Slice) -> Aggregate {
        let mut aggregate = Aggregate::new();
        aggregate.push(slice);
        aggregate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Pool;
    use crate::payload::Pieces;
    use proptest::prelude::*;

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
        ) {
            let pool = Pool::new(64, 8);
            let whole = aggregate(&pool, &parts);
            let bytes: Vec<u8> = parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
            prop_assert_eq!(flat(&whole), bytes.clone());
            let (a, b) = (cut.0.index(bytes.len() + 1), cut.1.index(bytes.len() + 1));
            let (from, to) = (a.min(b), a.max(b));
            let part = whole.part(from..to).unwrap();
            prop_assert_eq!(flat(&part), &bytes[from..to]);
            let mut pieces = Pieces::new();
            let given = whole.pieces(from, to - from + 7, &mut pieces);
            let expected = &bytes[from..bytes.len().min(to + 7)];
            prop_assert_eq!(given, expected.len());
            let flat_pieces: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes).copied().collect();
            prop_assert_eq!(&flat_pieces[..], expected);
            for piece in &pieces {
                prop_assert!(piece.hold.unwrap().offset_of(piece.bytes).is_some(), "held by its own buffer");
            }
            let mut back = whole.clone();
            let front = back.split_to(from);
            prop_assert_eq!((flat(&front), flat(&back)), (bytes[..from].to_vec(), bytes[from..].to_vec()));
            prop_assert_eq!((front.len(), back.len()), (from, bytes.len() - from));
            let mut joined = front;
            joined.append(part);
            joined.append(whole.part(to..bytes.len()).unwrap());
            prop_assert_eq!(flat(&joined), bytes.clone());
            joined.prepend(Slice::from(Shared::from(vec![1, 2])));
            prop_assert_eq!(&flat(&joined)[..2], &[1, 2]);
            prop_assert_eq!(joined.len(), bytes.len() + 2);
            prop_assert!(whole.part(0..bytes.len() + 1).is_none());
            drop(pieces);
            drop((whole, joined, back));
            prop_assert_eq!(pool.in_use(), 0, "all buffers are back");
        }
    }

    #[test]
    fn a_slice_lies_within_its_buffer() {
        let buffer = Pool::new(8, 1).take().unwrap().freeze();
        assert!(Slice::new(buffer.clone(), 0..8).is_some());
        assert!(Slice::new(buffer.clone(), 0..9).is_none());
        assert!(Slice::new(buffer.clone(), 9..9).is_none());
        let mut slice = Slice::new(buffer, 2..8).unwrap();
        for (len, left) in [(7, 6), (usize::MAX, 6), (4, 4), (0, 0)] {
            slice.truncate(len);
            assert_eq!(slice.len(), left);
        }
    }
}
