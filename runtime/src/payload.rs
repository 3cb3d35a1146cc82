//! The seam between a transport and everything that has bytes.
//!
//! The transport owns no payload and keeps no retransmission copy: it asks the source for `[offset, offset +
//! len)` whenever it (re)transmits, and tells it what was acknowledged. Offsets count bytes of the stream
//! from its start.
//!
//! ```text
//!    acknowledged      given before          resident          end
//!   ------|-----------------|-------------------|---------------|
//!   never asked again    pinned by the     can be given     known to come: asking
//!                        source: always    now              gives fewer bytes than
//!                        given again                        asked, and a wake later
//! ```
//!
//! A cache miss, a program that has not written yet and a file that is being read are all the same thing
//! here: a source that gives fewer bytes than it was asked for, and wakes the transport when there are more.

mod of_buffers;
mod stored_sums;

pub use stored_sums::StoredSums;

use std::fmt;

use smallvec::SmallVec;

use crate::buffer::Shared;

/// A contiguous piece of payload, and what its source knows of it.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// The bytes. Not empty.
    pub bytes: &'a [u8],
    /// The one's complement sum of `bytes` as big-endian 16-bit words from their start, the odd last byte
    /// padded with zero (RFC 1071, not complemented), if it is at hand.
    pub sum: Option<u16>,
    /// What to make `sum` from without reading all the bytes, for who needs it.
    pub stored: Option<StoredSums<'a>>,
    /// The buffer that `bytes` are a part of. A clone of it keeps them where they are: for a device that
    /// reads them after the call. Its identity and generation are what a cache of sums goes by.
    pub hold: Option<&'a Shared>,
}

impl<'a> Piece<'a> {
    /// Bytes of which nothing else is known.
    pub const fn new(bytes: &'a [u8]) -> Piece<'a> {
        Piece { bytes, sum: None, stored: None, hold: None }
    }

    /// Bytes with their sum.
    pub const fn with_sum(bytes: &'a [u8], sum: u16) -> Piece<'a> {
        Piece { sum: Some(sum), ..Piece::new(bytes) }
    }

    /// The first `len` bytes of the piece. A sum of the whole is not one of the part.
    pub fn first(self, len: usize) -> Piece<'a> {
        if len >= self.bytes.len() {
            return self;
        }
        Piece { bytes: &self.bytes[..len], sum: None, ..self }
    }
}

/// The pieces of one transmission, without allocation in the usual case (a header, a body, a trailer).
pub type Pieces<'a> = SmallVec<[Piece<'a>; 4]>;

/// Keeps the first `len` bytes.
pub fn truncate(pieces: &mut Pieces<'_>, len: usize) {
    let mut left = len;
    for i in 0..pieces.len() {
        if left == 0 {
            pieces.truncate(i);
            return;
        }
        pieces[i] = pieces[i].first(left);
        left -= pieces[i].bytes.len();
    }
}

/// Appends to `pieces` all that `each` shows to what it is given, and gives how many bytes that was.
pub fn gather<'a>(pieces: &mut Pieces<'a>, each: impl FnOnce(&mut dyn FnMut(Piece<'a>) -> bool)) -> usize {
    let mut given = 0;
    each(&mut |piece| {
        given += piece.bytes.len();
        pieces.push(piece);
        true
    });
    given
}

/// A stream of bytes that can be asked for any part not yet acknowledged, again and again.
pub trait PayloadSource {
    /// Offset just past the last byte that is known to come; not all before it need be resident. Never
    /// shrinks.
    fn end(&self) -> u64;

    /// Whether no byte will ever follow `end()`: the transport sends its FIN with the last data.
    fn is_finished(&self) -> bool;

    /// Appends the bytes from `offset` on to `out`, at most `len`, as few pieces as possible, and gives how
    /// many bytes that was. The caller asks only for parts that lie between what it reported as acknowledged
    /// and `end()`.
    ///
    /// Fewer than asked means that the rest is not resident: the source is getting it, and its owner wakes
    /// the transport (for our own TCP by `netstack::stack::Stack::wake`) when there is more. What was given
    /// once is resident until it is acknowledged, so that it can be sent again.
    fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>) -> usize;

    /// Everything before `offset` has reached the peer and is never asked for again.
    fn acknowledged(&mut self, offset: u64);

    /// Who makes the bytes where they are sent from, if they lie nowhere: then [`PayloadSource::pieces`] is
    /// not asked, and all bytes up to `end()` can be made now.
    fn maker(&self) -> Option<&dyn Maker> {
        None
    }
}

/// Makes a stream's bytes in the frame that they are sent in: what a response's content is sealed by.
pub trait Maker: fmt::Debug {
    /// Writes the bytes from `offset` on over all of `to`, as [`PayloadSource::pieces`] would give them, the
    /// same again whenever it is asked; gives their sum as in [`Piece::sum`], made in the same pass, if it is
    /// wanted.
    fn make(&self, offset: u64, to: &mut [u8], wants_sum: bool) -> Option<u16>;
}

impl<S: PayloadSource + ?Sized> PayloadSource for &mut S {
    fn end(&self) -> u64 {
        (**self).end()
    }

    fn is_finished(&self) -> bool {
        (**self).is_finished()
    }

    fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>) -> usize {
        (**self).pieces(offset, len, out)
    }

    fn acknowledged(&mut self, offset: u64) {
        (**self).acknowledged(offset);
    }

    fn maker(&self) -> Option<&dyn Maker> {
        (**self).maker()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_cut_anywhere() {
        let whole = b"abcdefg";
        for len in 0..9 {
            let mut pieces: Pieces<'_> = [&whole[..3], &whole[3..4], &whole[4..]]
                .into_iter()
                .map(|bytes| Piece::with_sum(bytes, 1))
                .collect();
            truncate(&mut pieces, len);
            let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes).copied().collect();
            assert_eq!(bytes, whole[..len.min(7)]);
            assert!(pieces.iter().all(|piece| !piece.bytes.is_empty()));
            let cut = pieces.iter().filter(|piece| piece.sum.is_none()).count();
            assert_eq!(
                cut,
                usize::from([1, 2, 5, 6].contains(&len)),
                "the sum of a whole is not that of a part"
            );
        }
    }
}
