//! The two ends of a transfer: lists of pieces, striped buffers, device registers.
//!
//! A [`Source`] gives the bytes of the stream in order, a [`Sink`] takes them. Lengths were checked before: what is asked
//! for is there.

use crate::ir::{Layout, Stripe};

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
    /// The sink has room for `len` more bytes, and `from` is readable for `len` bytes that are no part of the sink.
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
pub(crate) struct Cursor<P> {
    pieces: P,
    index: usize,
    offset: usize,
}

impl<P: Pieces> Cursor<P> {
    pub(crate) fn new(pieces: P) -> Cursor<P> {
        Cursor { pieces, index: 0, offset: 0 }
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

impl<P: Pieces> Source for Cursor<P> {
    fn stretch(&mut self) -> Option<Piece> {
        Some(Cursor::stretch(self))
    }

    fn skip(&mut self, len: usize) {
        self.advance(len);
    }

    unsafe fn take(&mut self, to: *mut u8, len: usize) {
        self.for_each(len, |piece, at| {
            // SAFETY: the piece is readable; `at + piece.len <= len` bytes of `to` are writable and lie elsewhere.
            unsafe { std::ptr::copy_nonoverlapping(piece.ptr, to.add(at), piece.len) };
        });
    }
}

impl<P: Pieces> Sink for Cursor<P> {
    unsafe fn put(&mut self, from: *const u8, len: usize) {
        self.for_each(len, |piece, at| {
            // SAFETY: the piece is writable; `at + piece.len <= len` bytes of `from` are readable and lie elsewhere.
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

/// A buffer read by a device's rules.
#[derive(Debug)]
pub(crate) struct LayoutSource<'a> {
    layout: &'a Layout,
    base: *const u8,
    at: u64,
    /// Bytes of the last access that have not been asked for yet.
    word: [u8; 8],
    left: usize,
}

impl<'a> LayoutSource<'a> {
    pub(crate) fn new(layout: &'a Layout, base: *const u8) -> LayoutSource<'a> {
        LayoutSource { layout, base, at: 0, word: [0; 8], left: 0 }
    }

    /// One byte by accesses of the width that the device takes.
    ///
    /// # Safety
    /// That of [`Source::take`] with `len` 1; for a device with an access width, the whole access is readable.
    unsafe fn next_by_access(&mut self, store: usize) -> u8 {
        if self.left == 0 {
            let offset = match (self.layout.fixed, self.layout.stripe) {
                (true, _) => 0,
                (false, Some(stripe)) => stripe.offset(self.at),
                (false, None) => self.at,
            };
            // SAFETY: the caller vouches for the access; the driver has checked that it is aligned.
            self.word = unsafe { load(self.base.wrapping_add(offset as usize), store) };
            self.left = store;
            self.at += store as u64;
        }
        let byte = self.word[store - self.left];
        self.left -= 1;
        byte
    }
}

impl Source for LayoutSource<'_> {
    unsafe fn take(&mut self, to: *mut u8, len: usize) {
        if let Some(store) = self.layout.store {
            for i in 0..len {
                // SAFETY: as the caller's; `i < len`.
                unsafe { to.add(i).write(self.next_by_access(usize::from(store))) };
            }
            return;
        }
        let base = self.base;
        let mut done = 0;
        if let Some((stripe, count)) = whole_stripes(self.layout.stripe, self.at, len) {
            let (data, period) = (stripe.data as usize, stripe.data as usize + stripe.gap as usize);
            let from = base.wrapping_add(stripe.offset(self.at) as usize);
            // SAFETY: `count` stripes from `at` on belong to the source, and `count * data <= len`.
            done = data * unsafe { copy_usual_blocks(data, from, period, to, data, count) };
        }
        for_each_stretch(self.layout.stripe, self.at + done as u64, len - done, |offset, at, n| {
            // SAFETY: `n` bytes at `offset` belong to the source, and `done + at + n <= len`.
            unsafe { std::ptr::copy_nonoverlapping(base.wrapping_add(offset), to.add(done + at), n) };
        });
        self.at += len as u64;
    }
}

/// A buffer written by a device's rules.
#[derive(Debug)]
pub(crate) struct LayoutSink<'a> {
    layout: &'a Layout,
    base: *mut u8,
    /// Bytes of the stream put so far.
    at: u64,
    /// The bytes of an access that is not complete yet.
    word: [u8; 8],
    held: usize,
}

impl<'a> LayoutSink<'a> {
    pub(crate) fn new(layout: &'a Layout, base: *mut u8) -> LayoutSink<'a> {
        LayoutSink { layout, base, at: 0, word: [0; 8], held: 0 }
    }

    /// Collects bytes to accesses of the width that the device takes.
    ///
    /// # Safety
    /// That of [`Sink::put`] with `len` 1.
    unsafe fn put_by_access(&mut self, byte: u8, store: usize) {
        self.word[self.held] = byte;
        self.held += 1;
        self.at += 1;
        if self.held == store {
            let first = self.at - store as u64;
            let offset = match (self.layout.fixed, self.layout.stripe) {
                (true, _) => 0,
                (false, Some(stripe)) => stripe.offset(first),
                (false, None) => first,
            };
            // SAFETY: the driver has checked that the buffer takes the whole access and that it is aligned.
            unsafe { store_word(self.base.wrapping_add(offset as usize), self.word, store) };
            self.held = 0;
        }
    }
}

impl Sink for LayoutSink<'_> {
    unsafe fn put(&mut self, from: *const u8, len: usize) {
        if let Some(store) = self.layout.store {
            for i in 0..len {
                // SAFETY: as the caller's; `i < len`.
                unsafe { self.put_by_access(from.add(i).read(), usize::from(store)) };
            }
            return;
        }
        let base = self.base;
        let mut done = 0;
        if let Some((stripe, count)) = whole_stripes(self.layout.stripe, self.at, len) {
            let (data, period) = (stripe.data as usize, stripe.data as usize + stripe.gap as usize);
            let to = base.wrapping_add(stripe.offset(self.at) as usize);
            // SAFETY: `count` stripes from `at` on belong to the sink, and `count * data <= len`.
            done = data * unsafe { copy_usual_blocks(data, from, data, to, period, count) };
        }
        for_each_stretch(self.layout.stripe, self.at + done as u64, len - done, |offset, at, n| {
            // SAFETY: `n` bytes at `offset` belong to the sink, and `done + at + n <= len`.
            unsafe { std::ptr::copy_nonoverlapping(from.add(done + at), base.wrapping_add(offset), n) };
        });
        self.at += len as u64;
    }

    unsafe fn end(&mut self) {
        let zero = [0; 64];
        while self.at < self.layout.pad {
            let n = (self.layout.pad - self.at).min(zero.len() as u64) as usize;
            // SAFETY: the driver has checked that the buffer takes the padding.
            unsafe { self.put(zero.as_ptr(), n) };
        }
        while self.held != 0 {
            // SAFETY: the driver has checked that the buffer takes the last access as a whole.
            unsafe { self.put(zero.as_ptr(), 1) };
        }
    }
}

/// Copies `count` whole blocks of `N` bytes, `from_period` and `to_period` bytes from one to the next: what a striped
/// buffer costs beyond the loop over the stream, so it must not cost a call or a branch a stripe.
///
/// # Safety
/// All blocks are readable and writable, and lie apart.
unsafe fn copy_blocks<const N: usize>(
    mut from: *const u8,
    from_period: usize,
    mut to: *mut u8,
    to_period: usize,
    count: usize,
) {
    for _ in 0..count {
        // SAFETY: the caller's promise; `wrapping_add` because the pointer behind the last block may be out of bounds.
        unsafe { std::ptr::copy_nonoverlapping(from, to, N) };
        from = from.wrapping_add(from_period);
        to = to.wrapping_add(to_period);
    }
}

/// [`copy_blocks`] for the stripes that devices have. Returns how many blocks were copied: `count`, or 0 for other sizes.
///
/// # Safety
/// That of [`copy_blocks`] for blocks of `data` bytes.
unsafe fn copy_usual_blocks(
    data: usize,
    from: *const u8,
    from_period: usize,
    to: *mut u8,
    to_period: usize,
    count: usize,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        match data {
            2 => copy_blocks::<2>(from, from_period, to, to_period, count),
            4 => copy_blocks::<4>(from, from_period, to, to_period, count),
            8 => copy_blocks::<8>(from, from_period, to, to_period, count),
            16 => copy_blocks::<16>(from, from_period, to, to_period, count),
            32 => copy_blocks::<32>(from, from_period, to, to_period, count),
            64 => copy_blocks::<64>(from, from_period, to, to_period, count),
            _ => return 0,
        }
    }
    count
}

/// Whole stripes in the next `len` bytes of the stream from `at` on, if that is where one begins.
fn whole_stripes(stripe: Option<Stripe>, at: u64, len: usize) -> Option<(Stripe, usize)> {
    let stripe = stripe?;
    let count = len / stripe.data as usize;
    (at.is_multiple_of(u64::from(stripe.data)) && count > 0).then_some((stripe, count))
}

/// Calls `f(offset in the buffer, offset in the stretch, bytes)` for the contiguous parts of `[at, at + len)`.
fn for_each_stretch(stripe: Option<Stripe>, at: u64, len: usize, mut f: impl FnMut(usize, usize, usize)) {
    let Some(stripe) = stripe else {
        return f(at as usize, 0, len);
    };
    let data = stripe.data as usize;
    let mut offset = stripe.offset(at) as usize;
    let mut room = data - (at % u64::from(stripe.data)) as usize;
    let mut done = 0;
    while done < len {
        let n = room.min(len - done);
        f(offset, done, n);
        done += n;
        offset += n + stripe.gap as usize;
        room = data;
    }
}

/// One access of `store` bytes that the compiler neither merges, splits nor leaves out.
///
/// # Safety
/// `from` is readable for `store` bytes and aligned to them.
unsafe fn load(from: *const u8, store: usize) -> [u8; 8] {
    let mut word = [0; 8];
    // SAFETY: the caller vouches for the address and its alignment.
    unsafe {
        match store {
            1 => word[..1].copy_from_slice(&from.read_volatile().to_ne_bytes()),
            2 => word[..2].copy_from_slice(&from.cast::<u16>().read_volatile().to_ne_bytes()),
            4 => word[..4].copy_from_slice(&from.cast::<u32>().read_volatile().to_ne_bytes()),
            _ => word = from.cast::<u64>().read_volatile().to_ne_bytes(),
        }
    }
    word
}

/// One access of `store` bytes that the compiler neither merges, splits nor leaves out.
///
/// # Safety
/// `to` is writable for `store` bytes and aligned to them.
unsafe fn store_word(to: *mut u8, word: [u8; 8], store: usize) {
    let [a, b, c, d, ..] = word;
    // SAFETY: the caller vouches for the address and its alignment.
    unsafe {
        match store {
            1 => to.write_volatile(a),
            2 => to.cast::<u16>().write_volatile(u16::from_ne_bytes([a, b])),
            4 => to.cast::<u32>().write_volatile(u32::from_ne_bytes([a, b, c, d])),
            _ => to.cast::<u64>().write_volatile(u64::from_ne_bytes(word)),
        }
    }
}

/// Bytes of a device's buffer that a stream of `len` bytes takes up as sink: up to the last one that belongs to the
/// transfer, padding and the last whole access included. `None` if that cannot be addressed.
pub(crate) fn sink_len(layout: &Layout, len: usize) -> Option<usize> {
    let store = u64::from(layout.store.unwrap_or(1));
    let padded = (len as u64).max(layout.pad).checked_next_multiple_of(store)?;
    extent(layout, padded)
}

/// The same for a source: no padding, but the last access is a whole one.
pub(crate) fn source_len(layout: &Layout, len: usize) -> Option<usize> {
    extent(layout, (len as u64).checked_next_multiple_of(u64::from(layout.store.unwrap_or(1)))?)
}

/// Buffer offset just behind byte `bytes - 1` of the stream.
fn extent(layout: &Layout, bytes: u64) -> Option<usize> {
    let end = match (layout.fixed, layout.stripe) {
        _ if bytes == 0 => 0,
        (true, _) => u64::from(layout.store.unwrap_or(1)),
        (false, None) => bytes,
        (false, Some(stripe)) => {
            let period = u64::from(stripe.data) + u64::from(stripe.gap);
            let last = bytes - 1;
            let start = (last / u64::from(stripe.data)).checked_mul(period)?;
            start.checked_add(last % u64::from(stripe.data) + 1)?
        }
    };
    usize::try_from(end).ok().filter(|&end| end <= isize::MAX as usize)
}

/// Bytes of the stream that a source buffer of `len` bytes holds.
pub(crate) fn stream_len(layout: &Layout, len: usize) -> usize {
    let Some(stripe) = layout.stripe else { return len };
    let data = stripe.data as usize;
    let period = data + stripe.gap as usize;
    len / period * data + (len % period).min(data)
}
