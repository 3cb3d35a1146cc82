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

    /// Bytes by accesses as wide as `T`, an unsigned integer: what is left of the last one, whole ones, and of one more as
    /// much as is asked for.
    ///
    /// # Safety
    /// That of [`Source::take`]; the whole of the last access is readable, too, and the buffer aligned to accesses.
    unsafe fn take_by_access<T: Copy>(&mut self, mut to: *mut u8, mut len: usize) {
        let width = size_of::<T>();
        // SAFETY: never more than `len` bytes in all are written, and `left` of the last access are there.
        unsafe {
            let first = self.left.min(len);
            to.copy_from_nonoverlapping(self.word.as_ptr().add(width - self.left), first);
            self.left -= first;
            (to, len) = (to.add(first), len - first);
            while len >= width {
                let from = access(self.layout, self.at, self.base).cast::<T>();
                let stretch = contiguous(self.layout, self.at).min(len);
                let step = usize::from(!self.layout.fixed);
                for index in 0..stretch / width {
                    to.cast::<T>().add(index).write_unaligned(from.add(index * step).read_volatile());
                }
                let done = stretch / width * width;
                self.at += done as u64;
                (to, len) = (to.add(done), len - done);
            }
            if len > 0 {
                let from = access(self.layout, self.at, self.base).cast::<T>();
                self.word.as_mut_ptr().cast::<T>().write_unaligned(from.read_volatile());
                self.at += width as u64;
                to.copy_from_nonoverlapping(self.word.as_ptr(), len);
                self.left = width - len;
            }
        }
    }
}

impl Source for LayoutSource<'_> {
    unsafe fn take(&mut self, to: *mut u8, len: usize) {
        if let Some(width) = self.layout.store {
            // SAFETY: as the caller's; that accesses are aligned was checked.
            return unsafe {
                match width {
                    1 => self.take_by_access::<u8>(to, len),
                    2 => self.take_by_access::<u16>(to, len),
                    4 => self.take_by_access::<u32>(to, len),
                    _ => self.take_by_access::<u64>(to, len),
                }
            };
        }
        let (base, stripe) = (self.base, self.layout.stripe);
        let copy = |from: usize, at: usize, n: usize| {
            // SAFETY: `n` bytes at offset `from` belong to the source, and `at + n <= len`.
            unsafe { std::ptr::copy_nonoverlapping(base.wrapping_add(from), to.add(at), n) };
        };
        let mut done = to_stripe(stripe, self.at).min(len);
        for_each_stretch(stripe, self.at, done, copy);
        if let Some((stripe, count)) = whole_stripes(stripe, len - done) {
            let (data, period) = (stripe.data as usize, stripe.data as usize + stripe.gap as usize);
            let from = base.wrapping_add(stripe.offset(self.at + done as u64) as usize);
            // SAFETY: `count` stripes from there on belong to the source, and `done + count * data <= len`.
            done += data * unsafe { copy_usual_blocks(data, from, period, to.add(done), data, count) };
        }
        for_each_stretch(stripe, self.at + done as u64, len - done, |from, at, n| copy(from, done + at, n));
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

    /// The sink after the first `at` bytes of the stream: as many whole accesses, if it has a width of access.
    pub(crate) fn after(layout: &'a Layout, base: *mut u8, at: usize) -> LayoutSink<'a> {
        LayoutSink { at: at as u64, ..LayoutSink::new(layout, base) }
    }

    /// Bytes by accesses as wide as `T`, an unsigned integer: the rest of one that is not complete, whole ones; what is over
    /// waits for more.
    ///
    /// # Safety
    /// That of [`Sink::put`]; the buffer is aligned to accesses.
    unsafe fn put_by_access<T: Copy>(&mut self, mut from: *const u8, mut len: usize) {
        let width = size_of::<T>();
        // SAFETY: never more than `len` bytes in all are read, and fewer than `width` held; accesses lie in the buffer,
        // which takes whole ones.
        unsafe {
            if self.held > 0 {
                let more = (width - self.held).min(len);
                self.word.as_mut_ptr().add(self.held).copy_from_nonoverlapping(from, more);
                (from, len) = (from.add(more), len - more);
                self.held += more;
                self.at += more as u64;
                if self.held == width {
                    let to = access(self.layout, self.at - width as u64, self.base).cast_mut().cast::<T>();
                    to.write_volatile(self.word.as_ptr().cast::<T>().read_unaligned());
                    self.held = 0;
                }
            }
            while len >= width {
                let to = access(self.layout, self.at, self.base).cast_mut().cast::<T>();
                let stretch = contiguous(self.layout, self.at).min(len);
                let step = usize::from(!self.layout.fixed);
                for index in 0..stretch / width {
                    to.add(index * step).write_volatile(from.cast::<T>().add(index).read_unaligned());
                }
                let done = stretch / width * width;
                self.at += done as u64;
                (from, len) = (from.add(done), len - done);
            }
            if len > 0 {
                self.word.as_mut_ptr().copy_from_nonoverlapping(from, len);
                self.held = len;
                self.at += len as u64;
            }
        }
    }
}

impl Sink for LayoutSink<'_> {
    unsafe fn put(&mut self, from: *const u8, len: usize) {
        if let Some(width) = self.layout.store {
            // SAFETY: as the caller's; that accesses are aligned was checked.
            return unsafe {
                match width {
                    1 => self.put_by_access::<u8>(from, len),
                    2 => self.put_by_access::<u16>(from, len),
                    4 => self.put_by_access::<u32>(from, len),
                    _ => self.put_by_access::<u64>(from, len),
                }
            };
        }
        let (base, stripe) = (self.base, self.layout.stripe);
        let copy = |to: usize, at: usize, n: usize| {
            // SAFETY: `n` bytes at offset `to` belong to the sink, and `at + n <= len`.
            unsafe { std::ptr::copy_nonoverlapping(from.add(at), base.wrapping_add(to), n) };
        };
        let mut done = to_stripe(stripe, self.at).min(len);
        for_each_stretch(stripe, self.at, done, copy);
        if let Some((stripe, count)) = whole_stripes(stripe, len - done) {
            let (data, period) = (stripe.data as usize, stripe.data as usize + stripe.gap as usize);
            let to = base.wrapping_add(stripe.offset(self.at + done as u64) as usize);
            // SAFETY: `count` stripes from there on belong to the sink, and `done + count * data <= len`.
            done += data * unsafe { copy_usual_blocks(data, from.add(done), data, to, period, count) };
        }
        for_each_stretch(stripe, self.at + done as u64, len - done, |to, at, n| copy(to, done + at, n));
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

/// Copies `count` whole blocks of `data` bytes, `N` to `2 * N`, that begin `from_period` and `to_period` bytes from one to
/// the next: the first and the last `N` bytes of each, which may overlap. That is what a striped buffer costs beyond the
/// loop over the stream, so it must not cost a call or a branch a stripe.
///
/// # Safety
/// All blocks are readable and writable, and lie apart.
unsafe fn copy_blocks<const N: usize>(
    data: usize,
    mut from: *const u8,
    from_period: usize,
    mut to: *mut u8,
    to_period: usize,
    count: usize,
) {
    let last = data - N;
    for _ in 0..count {
        // SAFETY: the caller's promise; `wrapping_add` because the pointer behind the last block may be out of bounds.
        unsafe {
            std::ptr::copy_nonoverlapping(from, to, N);
            if last > 0 {
                std::ptr::copy_nonoverlapping(from.add(last), to.add(last), N);
            }
        }
        from = from.wrapping_add(from_period);
        to = to.wrapping_add(to_period);
    }
}

/// [`copy_blocks`] for the stripes that devices have. Returns how many blocks were copied: `count`, or 0 for long ones.
///
/// # Safety
/// That of [`copy_blocks`].
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
            1 => copy_blocks::<1>(data, from, from_period, to, to_period, count),
            2..4 => copy_blocks::<2>(data, from, from_period, to, to_period, count),
            4..8 => copy_blocks::<4>(data, from, from_period, to, to_period, count),
            8..16 => copy_blocks::<8>(data, from, from_period, to, to_period, count),
            16..32 => copy_blocks::<16>(data, from, from_period, to, to_period, count),
            32..64 => copy_blocks::<32>(data, from, from_period, to, to_period, count),
            64..=128 => copy_blocks::<64>(data, from, from_period, to, to_period, count),
            _ => return 0,
        }
    }
    count
}

/// Bytes from `at` to where the next stripe begins.
fn to_stripe(stripe: Option<Stripe>, at: u64) -> usize {
    stripe.map_or(0, |stripe| (at.next_multiple_of(u64::from(stripe.data)) - at) as usize)
}

/// Whole stripes in the next `len` bytes of the stream, from where one begins.
fn whole_stripes(stripe: Option<Stripe>, len: usize) -> Option<(Stripe, usize)> {
    let stripe = stripe?;
    let count = len / stripe.data as usize;
    (count > 0).then_some((stripe, count))
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

/// The place of byte `at` of the stream, where an access begins.
fn access(layout: &Layout, at: u64, base: *const u8) -> *const u8 {
    let offset = match (layout.fixed, layout.stripe) {
        (true, _) => 0,
        (false, Some(stripe)) => stripe.offset(at),
        (false, None) => at,
    };
    base.wrapping_add(offset as usize)
}

/// Bytes from `at` on that lie together, or all go to one place.
fn contiguous(layout: &Layout, at: u64) -> usize {
    layout.stripe.map_or(usize::MAX, |stripe| (u64::from(stripe.data) - at % u64::from(stripe.data)) as usize)
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

#[cfg(test)]
mod tests;
