//! The two ends of a transfer: lists of pieces, striped buffers, device registers.
//!
//! A [`Source`] gives the bytes of the stream in order, a [`Sink`] takes them. Lengths were checked before:
//! what is asked for is there.

mod layout;

pub(crate) use layout::{
    Access, LayoutSink, LayoutSource, check_alignment, extent, sink_len, source_len, stream_bytes, stream_len,
};

/// Where the stream comes from.
pub(crate) trait Source {
    /// The next bytes of the stream, if they can be read where they lie.
    fn stretch(&mut self) -> Option<Piece> {
        None
    }

    /// Passes over bytes that [`Source::stretch`] gave.
    fn skip(&mut self, _len: usize) {}

    /// Moves the next `len` bytes of the stream to `to`.
    ///
    /// # Safety
    /// At least `len` bytes are left, and `to` is writable for `len` bytes that are no part of the source.
    unsafe fn take(&mut self, to: *mut u8, len: usize);
}

/// Where the stream goes to.
pub(crate) trait Sink {
    /// Moves `len` bytes from `from` to the place of the next bytes of the stream.
    ///
    /// # Safety
    /// The sink has room for `len` more bytes, and `from` is readable for `len` bytes that are no part of the
    /// sink.
    unsafe fn put(&mut self, from: *const u8, len: usize);

    /// Called once after the last byte: padding, the rest of the last access.
    ///
    /// # Safety
    /// The sink has room for them.
    unsafe fn end(&mut self) {}
}

/// A piece of memory as the driver sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) ptr: *mut u8,
    pub(crate) len: usize,
}

/// A list of pieces that gives its next contiguous stretch. Empty pieces are skipped.
pub(crate) trait Pieces {
    /// The piece of that number, `None` behind the last one.
    fn piece(&mut self, index: usize) -> Option<Piece>;
}

impl Pieces for &[&[u8]] {
    fn piece(&mut self, index: usize) -> Option<Piece> {
        self.get(index).map(|piece| Piece { ptr: piece.as_ptr().cast_mut(), len: piece.len() })
    }
}

impl Pieces for &mut [&mut [u8]] {
    fn piece(&mut self, index: usize) -> Option<Piece> {
        self.get_mut(index).map(|piece| Piece { ptr: piece.as_mut_ptr(), len: piece.len() })
    }
}

impl Pieces for &[Piece] {
    fn piece(&mut self, index: usize) -> Option<Piece> {
        self.get(index).copied()
    }
}

impl<const N: usize> Pieces for [Piece; N] {
    fn piece(&mut self, index: usize) -> Option<Piece> {
        self.get(index).copied()
    }
}

/// A place in a list of pieces.
#[derive(Debug)]
pub(crate) struct PieceCursor<P> {
    pieces: P,
    index: usize,
    offset: usize,
}

impl<P: Pieces> PieceCursor<P> {
    pub(crate) fn new(pieces: P) -> PieceCursor<P> {
        PieceCursor { pieces, index: 0, offset: 0 }
    }

    /// The rest of the current piece; empty only behind the last one.
    pub(crate) fn stretch(&mut self) -> Piece {
        while let Some(piece) = self.pieces.piece(self.index) {
            if self.offset < piece.len {
                return Piece { ptr: piece.ptr.wrapping_add(self.offset), len: piece.len - self.offset };
            }
            self.index += 1;
            self.offset = 0;
        }
        Piece { ptr: std::ptr::null_mut(), len: 0 }
    }

    /// Goes on by `len` bytes within the current stretch.
    pub(crate) fn advance(&mut self, len: usize) {
        self.offset += len;
    }

    /// Calls `f(stretch, offset)` for stretches that make up the next `len` bytes.
    fn for_each(&mut self, len: usize, mut f: impl FnMut(Piece, usize)) {
        let mut at = 0;
        while at < len {
            let stretch = self.stretch();
            let n = stretch.len.min(len - at);
            if n == 0 {
                debug_assert!(false, "a list of pieces ended early");
                return;
            }
            f(Piece { len: n, ..stretch }, at);
            self.advance(n);
            at += n;
        }
    }
}

impl<P: Pieces> Source for PieceCursor<P> {
    fn stretch(&mut self) -> Option<Piece> {
        Some(PieceCursor::stretch(self))
    }

    fn skip(&mut self, len: usize) {
        self.advance(len);
    }

    unsafe fn take(&mut self, to: *mut u8, len: usize) {
        self.for_each(len, |piece, at| {
            // SAFETY: the piece is readable; `at + piece.len <= len` bytes of `to` are writable and lie
            // elsewhere.
            unsafe { std::ptr::copy_nonoverlapping(piece.ptr, to.add(at), piece.len) };
        });
    }
}

impl<P: Pieces> Sink for PieceCursor<P> {
    unsafe fn put(&mut self, from: *const u8, len: usize) {
        self.for_each(len, |piece, at| {
            // SAFETY: the piece is writable; `at + piece.len <= len` bytes of `from` are readable and lie
            // elsewhere.
            unsafe { std::ptr::copy_nonoverlapping(from.add(at), piece.ptr, piece.len) };
        });
    }
}

/// A stream of zero bytes: the source of a write-only run.
#[derive(Debug)]
pub(crate) struct Zeros;

impl Source for Zeros {
    unsafe fn take(&mut self, to: *mut u8, len: usize) {
        // SAFETY: `to` is writable for `len` bytes.
        unsafe { to.write_bytes(0, len) };
    }
}

#[cfg(test)]
mod tests;
