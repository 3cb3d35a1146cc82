//! Checksums of what was sent, kept by the transport alone (S2, "Extensible Kernels are Leading OS Research
//! Astray", section 4, after IO-Lite): a filled buffer never changes, so the sum of any part of it is good as
//! long as the buffer has its name. No layer above knows.

use runtime::buffer::Name;
use runtime::payload::Piece;
use rustc_hash::FxHashMap;

/// Parts of buffers and their sums, bounded: half of the entries, those not used for the longest, go at once.
#[derive(Debug)]
pub struct SumCache {
    /// Entries of one half.
    half: usize,
    recent: FxHashMap<Part, u16>,
    older: FxHashMap<Part, u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Part {
    buffer: Name,
    start: usize,
    len: usize,
}

/// Parts remembered by a stack: at 1,448 bytes each some 90 MB of contents, in about 4 MB of memory once all
/// are used.
pub(crate) const CAPACITY: usize = 1 << 16;

impl SumCache {
    /// Remembers at most `capacity` sums.
    pub fn new(capacity: usize) -> SumCache {
        SumCache { half: (capacity / 2).max(1), recent: FxHashMap::default(), older: FxHashMap::default() }
    }

    /// The sum of a piece of a named buffer; made by `make` if it is not known, and whether it was. `None`
    /// for bytes that belong to no buffer.
    pub fn sum(&mut self, piece: &Piece<'_>, make: impl FnOnce(&[u8]) -> u16) -> Option<(u16, bool)> {
        let buffer = piece.hold?;
        let part =
            Part { buffer: buffer.name(), start: buffer.offset_of(piece.bytes)?, len: piece.bytes.len() };
        if let Some(&sum) = self.recent.get(&part) {
            return Some((sum, true));
        }
        let known = self.older.remove(&part);
        let sum = known.unwrap_or_else(|| make(piece.bytes));
        if self.recent.len() >= self.half {
            // Keeps the memory of both: no allocation once each has been full.
            std::mem::swap(&mut self.recent, &mut self.older);
            self.recent.clear();
        }
        self.recent.insert(part, sum);
        Some((sum, known.is_some()))
    }

    /// Sums remembered.
    pub fn len(&self) -> usize {
        self.recent.len() + self.older.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum;
    use proptest::prelude::*;
    use runtime::buffer::{Pool, Shared};

    fn piece<'a>(buffer: &'a Shared, from: usize, to: usize) -> Piece<'a> {
        Piece { hold: Some(buffer), ..Piece::new(&buffer[from..to]) }
    }

    #[test]
    fn a_buffer_filled_anew_has_other_sums() {
        let pool = Pool::new(64, 1);
        let mut cache = SumCache::new(8);
        for fill in 1..5u8 {
            let mut buffer = pool.take().unwrap();
            buffer.fill(fill);
            let buffer = buffer.freeze();
            let expected = checksum::sum(&[fill; 10]);
            assert_eq!(cache.sum(&piece(&buffer, 3, 13), checksum::sum), Some((expected, false)));
            assert_eq!(cache.sum(&piece(&buffer, 3, 13), |_| unreachable!()), Some((expected, true)));
        }
        assert_eq!(cache.sum(&Piece::new(&[1, 2]), checksum::sum), None, "whose bytes are these?");
    }

    proptest! {
        #[test]
        fn it_never_lies_and_never_grows(
            asks in prop::collection::vec((0usize..3, 0usize..40, 1usize..24), 1..200),
            capacity in 2usize..20,
        ) {
            let buffers: Vec<Shared> =
                (0..3u8).map(|b| Shared::from((0..64u8).map(|i| i ^ b << 6).collect::<Vec<u8>>())).collect();
            let mut cache = SumCache::new(capacity);
            for (buffer, from, len) in asks {
                let piece = piece(&buffers[buffer], from, from + len);
                let (sum, _) = cache.sum(&piece, checksum::sum).unwrap();
                prop_assert_eq!(sum, checksum::sum(piece.bytes));
                let again = cache.sum(&piece, |_| unreachable!("just asked"));
                prop_assert_eq!(again, Some((sum, true)));
                prop_assert!(cache.len() <= capacity.max(2));
            }
        }
    }
}
