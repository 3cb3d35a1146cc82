//! Buffers that are read and written by a device's rules: stripes, accesses of one width, registers.
//!
//! Both ends go on where an earlier one stopped, in the middle of a stripe or of an access, so that streams
//! can come in parts.

use super::{Sink, Source};
use crate::error::RunError;
use crate::ir::{Layout, Stripe};

/// How far an end has got in the stream: what the next one over the same device goes on from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Access {
    /// Bytes of the stream behind, those of the access under way included.
    pub(crate) at: u64,
    /// The access under way: at the start what a sink has of it, at the end what nobody has asked a source
    /// for yet.
    word: [u8; 8],
    /// Bytes of that; always 0 without a width of access.
    pub(crate) held: usize,
}

/// A buffer read by a device's rules.
#[derive(Debug)]
pub(crate) struct LayoutSource<'a> {
    layout: &'a Layout,
    base: *const u8,
    access: Access,
    /// Of the first byte that has not been read.
    spot: Spot,
}

impl<'a> LayoutSource<'a> {
    pub(crate) fn new(layout: &'a Layout, base: *const u8) -> LayoutSource<'a> {
        LayoutSource::resumed(layout, base, Access::default())
    }

    /// The source that goes on from where another one stopped. `base` is where the first byte of the whole
    /// buffer would be.
    pub(crate) fn resumed(layout: &'a Layout, base: *const u8, access: Access) -> LayoutSource<'a> {
        LayoutSource { layout, base, access, spot: Spot::of(layout, access.at) }
    }

    /// What the next source goes on from.
    pub(crate) fn access(&self) -> Access {
        self.access
    }

    /// Bytes by accesses as wide as `T`, an unsigned integer: what is left of the last one, whole ones, and
    /// of one more as much as is asked for.
    ///
    /// # Safety
    /// That of [`Source::take`]; the whole of the last access is readable, too, and the buffer aligned to
    /// accesses.
    unsafe fn take_by_access<T: Copy>(&mut self, mut to: *mut u8, mut len: usize) {
        let width = size_of::<T>();
        // SAFETY: never more than `len` bytes in all are written, and `left` of the last access are there.
        unsafe {
            let first = self.access.held.min(len);
            to.copy_from_nonoverlapping(self.access.word.as_ptr().add(width - self.access.held), first);
            self.access.held -= first;
            (to, len) = (to.add(first), len - first);
            while len >= width {
                let (offset, stretch) = self.spot.stretch(self.layout);
                let from = self.base.wrapping_add(offset).cast::<T>();
                let (count, step) = (stretch.min(len) / width, usize::from(!self.layout.fixed));
                for index in 0..count {
                    to.cast::<T>().add(index).write_unaligned(from.add(index * step).read_volatile());
                }
                let done = count * width;
                self.spot.advance(done);
                self.access.at += done as u64;
                (to, len) = (to.add(done), len - done);
            }
            if len > 0 {
                let from = self.base.wrapping_add(self.spot.stretch(self.layout).0).cast::<T>();
                self.access.word.as_mut_ptr().cast::<T>().write_unaligned(from.read_volatile());
                self.spot.advance(width);
                self.access.at += width as u64;
                to.copy_from_nonoverlapping(self.access.word.as_ptr(), len);
                self.access.held = width - len;
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
        let base = self.base;
        let copy = |from: usize, at: usize, n: usize| {
            // SAFETY: `n` bytes at offset `from` belong to the source, and `at + n <= len`.
            unsafe { std::ptr::copy_nonoverlapping(base.wrapping_add(from), to.add(at), n) };
        };
        let copy_stripes = |stripe: Stripe, from: usize, at: usize, count: usize| {
            let (data, period) = (stripe.data as usize, stripe.data as usize + stripe.gap as usize);
            // SAFETY: `count` stripes from there on belong to the source, and `at + count * data <= len`.
            unsafe { copy_usual_blocks(data, base.wrapping_add(from), period, to.add(at), data, count) }
        };
        self.spot.walk(self.layout, len, copy, copy_stripes);
        self.access.at += len as u64;
    }
}

/// A buffer written by a device's rules.
#[derive(Debug)]
pub(crate) struct LayoutSink<'a> {
    layout: &'a Layout,
    base: *mut u8,
    access: Access,
    /// Of the first byte that has not been written: where the access under way goes.
    spot: Spot,
    /// The buffer is a picture of the device's in memory: it need not be aligned.
    is_memory: bool,
}

impl<'a> LayoutSink<'a> {
    pub(crate) fn new(layout: &'a Layout, base: *mut u8) -> LayoutSink<'a> {
        LayoutSink::resumed(layout, base, Access::default())
    }

    /// The sink that goes on from where another one stopped. `base` is where the first byte of the whole
    /// buffer would be.
    pub(crate) fn resumed(layout: &'a Layout, base: *mut u8, access: Access) -> LayoutSink<'a> {
        let spot = Spot::of(layout, access.at - access.held as u64);
        LayoutSink { layout, base, access, spot, is_memory: false }
    }

    /// The same on memory that shows what the device's buffer would look like: accesses are whole, but need
    /// no alignment.
    pub(crate) fn in_memory(self) -> LayoutSink<'a> {
        LayoutSink { is_memory: true, ..self }
    }

    /// What the next sink goes on from.
    pub(crate) fn access(&self) -> Access {
        self.access
    }

    /// The sink after the first `at` bytes of the stream: as many whole accesses, if it has a width of
    /// access.
    pub(crate) fn after(layout: &'a Layout, base: *mut u8, at: usize) -> LayoutSink<'a> {
        LayoutSink::resumed(layout, base, Access { at: at as u64, ..Access::default() })
    }

    /// Bytes by accesses as wide as `T`, an unsigned integer or an array of bytes: the rest of one that is
    /// not complete, whole ones; what is over waits for more.
    ///
    /// # Safety
    /// That of [`Sink::put`]; the buffer is aligned to `T`.
    unsafe fn put_by_access<T: Copy>(&mut self, mut from: *const u8, mut len: usize) {
        let width = size_of::<T>();
        // SAFETY: never more than `len` bytes in all are read, and fewer than `width` held; accesses lie in
        // the buffer, which takes whole ones.
        unsafe {
            if self.access.held > 0 {
                let more = (width - self.access.held).min(len);
                self.access.word.as_mut_ptr().add(self.access.held).copy_from_nonoverlapping(from, more);
                (from, len) = (from.add(more), len - more);
                self.access.held += more;
                self.access.at += more as u64;
                if self.access.held == width {
                    let to = self.base.wrapping_add(self.spot.stretch(self.layout).0).cast::<T>();
                    to.write_volatile(self.access.word.as_ptr().cast::<T>().read_unaligned());
                    self.spot.advance(width);
                    self.access.held = 0;
                }
            }
            while len >= width {
                let (offset, stretch) = self.spot.stretch(self.layout);
                let to = self.base.wrapping_add(offset).cast::<T>();
                let (count, step) = (stretch.min(len) / width, usize::from(!self.layout.fixed));
                for index in 0..count {
                    to.add(index * step).write_volatile(from.cast::<T>().add(index).read_unaligned());
                }
                let done = count * width;
                self.spot.advance(done);
                self.access.at += done as u64;
                (from, len) = (from.add(done), len - done);
            }
            if len > 0 {
                self.access.word.as_mut_ptr().copy_from_nonoverlapping(from, len);
                self.access.held = len;
                self.access.at += len as u64;
            }
        }
    }
}

impl Sink for LayoutSink<'_> {
    unsafe fn put(&mut self, from: *const u8, len: usize) {
        if let Some(width) = self.layout.store {
            // SAFETY: as the caller's; that accesses are aligned, where they have to be, was checked.
            return unsafe {
                match width {
                    // As wide, but of alignment 1.
                    2 if self.is_memory => self.put_by_access::<[u8; 2]>(from, len),
                    4 if self.is_memory => self.put_by_access::<[u8; 4]>(from, len),
                    8 if self.is_memory => self.put_by_access::<[u8; 8]>(from, len),
                    1 => self.put_by_access::<u8>(from, len),
                    2 => self.put_by_access::<u16>(from, len),
                    4 => self.put_by_access::<u32>(from, len),
                    _ => self.put_by_access::<u64>(from, len),
                }
            };
        }
        let base = self.base;
        let copy = |to: usize, at: usize, n: usize| {
            // SAFETY: `n` bytes at offset `to` belong to the sink, and `at + n <= len`.
            unsafe { std::ptr::copy_nonoverlapping(from.add(at), base.wrapping_add(to), n) };
        };
        let copy_stripes = |stripe: Stripe, to: usize, at: usize, count: usize| {
            let (data, period) = (stripe.data as usize, stripe.data as usize + stripe.gap as usize);
            // SAFETY: `count` stripes from there on belong to the sink, and `at + count * data <= len`.
            unsafe { copy_usual_blocks(data, from.add(at), data, base.wrapping_add(to), period, count) }
        };
        self.spot.walk(self.layout, len, copy, copy_stripes);
        self.access.at += len as u64;
    }

    unsafe fn end(&mut self) {
        let zero = [0; 64];
        while self.access.at < self.layout.pad {
            let n = (self.layout.pad - self.access.at).min(zero.len() as u64) as usize;
            // SAFETY: the driver has checked that the buffer takes the padding.
            unsafe { self.put(zero.as_ptr(), n) };
        }
        if self.access.held != 0 {
            let missing = usize::from(self.layout.store.unwrap_or(1)) - self.access.held;
            // SAFETY: the driver has checked that the buffer takes the last access as a whole.
            unsafe { self.put(zero.as_ptr(), missing) };
        }
    }
}

/// Copies `count` whole blocks of `data` bytes, `N` to `2 * N`, that begin `from_period` and `to_period`
/// bytes from one to the next: the first and the last `N` bytes of each, which may overlap. That is what a
/// striped buffer costs beyond the loop over the stream, so it must not cost a call or a branch a stripe.
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
        // SAFETY: the caller's promise; `wrapping_add` because the pointer behind the last block may be out
        // of bounds.
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

/// [`copy_blocks`] for the stripes that devices have. Returns how many blocks were copied: `count`, or 0 for
/// long ones.
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

/// Where in a buffer an end stands: kept from step to step, since finding it anew takes divisions, each as
/// long as a short transfer.
#[derive(Clone, Copy, Debug)]
struct Spot {
    offset: usize,
    /// Bytes from there on that lie together. Where a stripe ends it is 0, and the hole is still to come:
    /// there need not be a next stripe.
    room: usize,
}

impl Spot {
    /// Where byte `at` of the stream lies, or byte `at - 1` ends.
    fn of(layout: &Layout, at: u64) -> Spot {
        match layout.stripe {
            _ if layout.fixed => Spot { offset: 0, room: usize::MAX },
            None => Spot { offset: at as usize, room: usize::MAX },
            Some(stripe) if at == 0 => Spot { offset: 0, room: stripe.data as usize },
            Some(stripe) => {
                let (data, last) = (u64::from(stripe.data), at - 1);
                let into = last % data + 1;
                let start = (last / data).wrapping_mul(data + u64::from(stripe.gap));
                Spot { offset: start.wrapping_add(into) as usize, room: (data - into) as usize }
            }
        }
    }

    /// Offset of the next byte, and how many lie together from there on.
    fn stretch(&mut self, layout: &Layout) -> (usize, usize) {
        match layout.stripe {
            // What moves on without an end are bytes of one place, or of all memory.
            None if layout.fixed => (0, usize::MAX),
            None => (self.offset, usize::MAX),
            Some(stripe) => {
                if self.room == 0 {
                    self.offset = self.offset.wrapping_add(stripe.gap as usize);
                    self.room = stripe.data as usize;
                }
                (self.offset, self.room)
            }
        }
    }

    /// Goes on within a stretch.
    fn advance(&mut self, bytes: usize) {
        self.offset = self.offset.wrapping_add(bytes);
        self.room = self.room.wrapping_sub(bytes);
    }

    /// Goes on by `len` bytes. Calls `copy(offset in the buffer, offset in the bytes, count)` for stretches,
    /// and `copy_stripes(stripe, offset in the buffer, offset in the bytes, stripes)` for whole stripes,
    /// which gives how many it has copied: all or none.
    #[inline(always)]
    fn walk(
        &mut self,
        layout: &Layout,
        len: usize,
        mut copy: impl FnMut(usize, usize, usize),
        copy_stripes: impl FnOnce(Stripe, usize, usize, usize) -> usize,
    ) {
        let Some(stripe) = layout.stripe else {
            copy(self.offset, 0, len);
            return self.advance(len);
        };
        let (data, gap) = (stripe.data as usize, stripe.gap as usize);
        let mut done = 0;
        if self.room != 0 && self.room != data {
            done = self.room.min(len);
            copy(self.offset, 0, done);
            self.advance(done);
        }
        // Here a stripe begins, or nothing is left.
        let count = (len - done) / data;
        if count > 0 {
            let copied = copy_stripes(stripe, self.stretch(layout).0, done, count);
            done += copied * data;
            if copied > 0 {
                self.offset = self.offset.wrapping_add(copied.wrapping_mul(data + gap).wrapping_sub(gap));
                self.room = 0;
            }
        }
        while done < len {
            let (offset, room) = self.stretch(layout);
            let n = room.min(len - done);
            copy(offset, done, n);
            self.advance(n);
            done += n;
        }
    }
}

/// Bytes of a device's buffer that a stream of `len` bytes takes up as sink: up to the last one that belongs
/// to the transfer, padding and the last whole access included. `None` if that cannot be addressed.
pub(crate) fn sink_len(layout: &Layout, len: usize) -> Option<usize> {
    let store = u64::from(layout.store.unwrap_or(1));
    addressable(extent(layout, (len as u64).max(layout.pad).checked_next_multiple_of(store)?)?)
}

/// The same for a source: no padding, but the last access is a whole one.
pub(crate) fn source_len(layout: &Layout, len: usize) -> Option<usize> {
    addressable(extent(layout, (len as u64).checked_next_multiple_of(u64::from(layout.store.unwrap_or(1)))?)?)
}

fn addressable(bytes: u64) -> Option<usize> {
    usize::try_from(bytes).ok().filter(|&bytes| bytes <= isize::MAX as usize)
}

/// Buffer offset just behind byte `bytes - 1` of the stream; `None` beyond 2^64.
pub(crate) fn extent(layout: &Layout, bytes: u64) -> Option<u64> {
    match (layout.fixed, layout.stripe) {
        _ if bytes == 0 => Some(0),
        (true, _) => Some(u64::from(layout.store.unwrap_or(1))),
        (false, None) => Some(bytes),
        (false, Some(stripe)) => {
            let period = u64::from(stripe.data) + u64::from(stripe.gap);
            let last = bytes - 1;
            let start = (last / u64::from(stripe.data)).checked_mul(period)?;
            start.checked_add(last % u64::from(stripe.data) + 1)
        }
    }
}

/// Bytes of the stream that a source buffer of `len` bytes holds.
pub(crate) fn stream_len(layout: &Layout, len: usize) -> usize {
    // No more than there are bytes of the buffer.
    stream_bytes(layout, len as u64) as usize
}

/// The same of the first `len` bytes of a buffer that may come in parts.
pub(crate) fn stream_bytes(layout: &Layout, len: u64) -> u64 {
    let Some(stripe) = layout.stripe else { return len };
    let data = u64::from(stripe.data);
    let period = data + u64::from(stripe.gap);
    len / period * data + (len % period).min(data)
}

/// Refuses an address that is no multiple of the width of access. An empty buffer is never accessed: it may
/// be anywhere.
pub(crate) fn check_alignment(layout: &Layout, address: *const u8, bytes: usize) -> Result<(), RunError> {
    let store = usize::from(layout.store.unwrap_or(1));
    if bytes == 0 || (address as usize).is_multiple_of(store) {
        Ok(())
    } else {
        Err(RunError::Misaligned { layout: layout.name.clone(), store })
    }
}
