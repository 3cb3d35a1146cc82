//! Shared buffers as payload.

use std::ops::Range;

use super::{Piece, Pieces};
use crate::buffer::{Aggregate, Slice};

impl Slice {
    /// The bytes `range` of the part as payload, which must not be empty; what lies beyond the end is left
    /// out.
    pub fn piece(&self, range: Range<usize>) -> Piece<'_> {
        let end = range.end.min(self.len());
        Piece { hold: Some(self.buffer()), ..Piece::new(&self.bytes()[range.start.min(end)..end]) }
    }
}

impl Aggregate {
    /// Appends the bytes `[offset, offset + len)` to `out`, and gives how many that were; what lies beyond
    /// the end is left out.
    pub fn pieces<'a>(&'a self, offset: usize, len: usize, out: &mut Pieces<'a>) -> usize {
        let end = offset.saturating_add(len).min(self.len());
        let start = offset.min(end);
        self.overlaps(start..end, |slice, within| {
            out.push(slice.piece(within));
            true
        });
        end - start
    }
}
