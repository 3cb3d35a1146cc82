//! The seam between a transport and everything that has bytes.
//!
//! The transport owns no payload and keeps no retransmission copy: it asks the source for `[offset, offset + len)`
//! whenever it (re)transmits, and tells it what was acknowledged. Offsets count bytes of the stream from its start.

use smallvec::SmallVec;

/// A contiguous piece of payload.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// The bytes. Not empty.
    pub bytes: &'a [u8],
    /// The one's complement sum of `bytes` as big-endian 16-bit words from their start, the odd last byte padded with
    /// zero (RFC 1071, not complemented), if the source has it at hand.
    pub sum: Option<u16>,
}

/// The pieces of one transmission, without allocation in the usual case (a header, a body, a trailer).
pub type Pieces<'a> = SmallVec<[Piece<'a>; 4]>;

/// A stream of bytes that can be asked for any part not yet acknowledged, again and again.
pub trait PayloadSource {
    /// Offset just past the last byte that can be had now. Never shrinks.
    fn end(&self) -> u64;

    /// Whether no byte will ever follow `end()`: the transport sends its FIN with the last data.
    fn is_finished(&self) -> bool;

    /// Appends the bytes `[offset, offset + len)` to `out`, as few pieces as possible. The caller asks only for parts
    /// that lie between what it reported as acknowledged and `end()`.
    fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>);

    /// Everything before `offset` has reached the peer and is never asked for again.
    fn acknowledged(&mut self, offset: u64);
}

impl<S: PayloadSource + ?Sized> PayloadSource for &mut S {
    fn end(&self) -> u64 {
        (**self).end()
    }

    fn is_finished(&self) -> bool {
        (**self).is_finished()
    }

    fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>) {
        (**self).pieces(offset, len, out);
    }

    fn acknowledged(&mut self, offset: u64) {
        (**self).acknowledged(offset);
    }
}
