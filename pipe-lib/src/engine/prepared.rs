//! The ways to run an engine.
//!
//! Everything that can be refused is refused here, before the first byte is written; `drive` then moves
//! bytes.

use crate::backend::{self, Entry, Striped};
use crate::drive::{BLOCK, Progress};
use crate::ends::{self, LayoutSink, LayoutSource, PieceCursor, Pieces, Sink, Source, Zeros};
use crate::error::RunError;
use crate::ir::{Layout, Stripe};
use crate::program::Program;
use crate::registers::{FEW, PAIR, Registers};
use crate::run::{Run, WindowLists};
use smallvec::SmallVec;
use std::hint::cold_path;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// An engine with the registers that a run starts from.
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing runs until it is asked to"]
pub struct Prepared<'e> {
    pub(super) program: &'e Program,
    pub(super) initial: &'e Registers,
}

impl<'e> Prepared<'e> {
    /// With the registers that the pipes state.
    #[inline(always)]
    pub(super) fn of(program: &'e Program) -> Prepared<'e> {
        Prepared { program, initial: &program.initial }
    }

    /// With other registers.
    pub(super) fn new(program: &'e Program, initial: &'e Registers) -> Prepared<'e> {
        Prepared { program, initial }
    }

    /// Copies `src` to the start of `dst` through the pipeline.
    ///
    /// With a layout at the start, `src` is the device's buffer and the stream what it holds. Errors: a short
    /// `dst`, a length that a tail rule rejects, a buffer that is not aligned as its layout demands.
    #[inline(always)] // see `Run::value`
    pub fn run(self, src: &[u8], dst: &mut [u8]) -> Result<Run<'e>, RunError> {
        let (program, len) = (self.program, src.len());
        // Short transfers are called from here, with as little before and after as there can be.
        let direct = &program.direct;
        if len < direct.plain_below && len & direct.rejected == 0 && len <= dst.len() {
            // SAFETY: `src` is readable and `dst` writable for the bytes of the transfer, and they do not
            // overlap; the engine's one pass has all registers, which are no more than that, and no stage
            // rejects the length.
            let registers = unsafe { self.call::<PAIR>(direct.entry, src, dst.as_mut_ptr()) };
            return Ok(Run::direct(program, len, len, registers));
        }
        if direct.is_any && direct.takes(len) && len >= direct.shortest && direct.written(len) <= dst.len() {
            // That the other way may lie in a row.
            cold_path();
            // SAFETY: as above, and `dst` takes what goes to stripes.
            let registers = unsafe { self.call::<FEW>(direct.entry, src, dst.as_mut_ptr()) };
            return Ok(Run::direct(program, len, direct.written(len), registers));
        }
        // By way of a variable of its own: an outcome whose address is known elsewhere would have to be in
        // memory.
        let mut outcome = Err(RunError::TooLong);
        self.run_any(src, dst, &mut outcome);
        outcome
    }

    /// Calls code with the first `N` registers; gives them as they are then.
    ///
    /// # Safety
    /// There are no others, and `entry` is the code of the engine's one pass; see [`Entry`].
    #[inline(always)]
    unsafe fn call<const N: usize>(self, entry: Entry, src: &[u8], dst: *mut u8) -> [u64; FEW] {
        let mut registers = self.initial.few::<N>();
        // SAFETY: the caller's promise.
        unsafe { (entry.function)(registers.as_mut_ptr(), 0, src.as_ptr(), dst, src.len()) };
        settled(&registers)
    }

    /// [`Prepared::run`] for any engine and length. Not that it were seldom called: what is laid out in a row
    /// is to be the short transfer, to which a jump taken is a cycle.
    #[cold]
    #[inline(never)]
    fn run_any(self, src: &[u8], dst: &mut [u8], outcome: &mut Result<Run<'e>, RunError>) {
        *outcome = self.run_checked(src, dst);
    }

    fn run_checked(self, src: &[u8], dst: &mut [u8]) -> Result<Run<'e>, RunError> {
        if self.program.has_frames() {
            return self.run_framed(src, dst);
        }
        if self.program.is_plain && src.len() <= dst.len() {
            self.program.check_length(src.len() as u64)?;
            // SAFETY: `src` is readable and `dst` writable for `src.len()` bytes; a shared and an exclusive
            // slice do not overlap.
            return Ok(unsafe { self.plain(src.as_ptr(), dst.as_mut_ptr(), src.len()) });
        }
        let source = self.source_of(src)?;
        self.program.check_length(source.len as u64)?;
        let written = self.fit(source.len, dst.len(), dst.as_ptr())?;
        // SAFETY: the lengths were checked; slices do not overlap.
        unsafe { self.transfer(source, dst.as_mut_ptr(), written) }
    }

    /// Runs over `buf` in place. Layouts at either end are refused. With a frame, `buf` has its fields,
    /// whichever end it is at: data stay between them, and fields at the end are written, those at the start
    /// compared.
    pub fn run_in_place(self, buf: &mut [u8]) -> Result<Run<'e>, RunError> {
        if self.program.has_frames() {
            return self.run_framed_in_place(buf);
        }
        self.program.refuse_layouts("running in place")?;
        self.program.check_length(buf.len() as u64)?;
        let ptr = buf.as_mut_ptr();
        // SAFETY: `buf` is readable and writable; source and destination are the same.
        Ok(unsafe { self.contiguous(ptr, ptr, buf.len()) })
    }

    /// Runs over `src` for the exports alone; a layout at the end is ignored.
    #[inline(always)] // see `Run::value`
    pub fn run_read_only(self, src: &[u8]) -> Result<Run<'e>, RunError> {
        let (program, len) = (self.program, src.len());
        let direct = &program.reading;
        if len < direct.plain_below && len & direct.rejected == 0 {
            // SAFETY: `src` is readable, and the code for reading only ignores the destination; for the rest
            // see `run`.
            let registers = unsafe { self.call::<PAIR>(direct.entry, src, std::ptr::null_mut()) };
            return Ok(Run::direct(program, len, 0, registers));
        }
        let mut outcome = Err(RunError::TooLong);
        self.read_any(src, &mut outcome);
        outcome
    }

    /// [`Prepared::run_read_only`] for any engine and length.
    #[cold]
    #[inline(never)]
    fn read_any(self, src: &[u8], outcome: &mut Result<Run<'e>, RunError>) {
        *outcome = self.read_checked(src);
    }

    fn read_checked(self, src: &[u8]) -> Result<Run<'e>, RunError> {
        if self.program.has_frames() {
            return self.run_framed_read_only(src);
        }
        let source = self.source_of(src)?;
        self.program.check_length(source.len as u64)?;
        // SAFETY: `src` is readable for what `source_of` found in it.
        unsafe { self.transfer(source, std::ptr::null_mut(), 0) }
    }

    /// Writes to `dst` what the pipeline makes of a stream of `len` zero bytes; a layout at the start is
    /// ignored.
    pub fn run_write_only(self, len: usize, dst: &mut [u8]) -> Result<Run<'e>, RunError> {
        if self.program.has_frames() {
            return self.run_framed_write_only(len, dst);
        }
        self.program.check_length(len as u64)?;
        let written = self.fit(len, dst.len(), dst.as_ptr())?;
        let mut run = match &self.program.composition.sink {
            // SAFETY: `dst` was found to be large enough.
            Some(layout) => unsafe {
                self.staged(&mut Zeros, Some(&mut LayoutSink::new(layout, dst.as_mut_ptr())), len)
            },
            // SAFETY: as above.
            None => unsafe {
                let to = ends::Piece { ptr: dst.as_mut_ptr(), len };
                self.staged(&mut Zeros, Some(&mut PieceCursor::new([to])), len)
            },
        };
        run.read = 0;
        run.written = written;
        Ok(run)
    }

    /// Gathers the stream from the pieces of `src`, in order, and scatters it over the pieces of `dst`, which
    /// may be cut anywhere, in the middle of a word as well. The pieces of `dst` have in sum at least as many
    /// bytes as those of `src`. A layout takes one buffer: that side is then a list of one piece.
    pub fn run_vectored(self, src: &[&[u8]], dst: &mut [&mut [u8]]) -> Result<Run<'e>, RunError> {
        if let ([src], [dst]) = (src, &mut *dst) {
            return self.run(src, dst);
        }
        self.refuse_frames("a list of pieces")?;
        let composition = &self.program.composition;
        let layout =
            |layout: &Layout| RunError::Layout { layout: layout.name.clone(), what: "a list of pieces" };
        if composition.source.is_none() && composition.sink.is_none() {
            let len = sum(src.iter().map(|piece| piece.len()))?;
            let have = sum(dst.iter().map(|piece| piece.len()))?;
            self.program.check_length(len as u64)?;
            if have < len {
                return Err(RunError::ShortDestination { needed: len, have });
            }
            // SAFETY: the lengths were checked; slices do not overlap.
            return Ok(unsafe { self.pieces(PieceCursor::new(src), Some(&mut PieceCursor::new(dst)), len) });
        }
        // One side at least is a device's buffer, the other a list.
        let (len, mut layout_source, mut cursor_source);
        let source: &mut dyn Source = match (&composition.source, src) {
            (None, _) => {
                len = sum(src.iter().map(|piece| piece.len()))?;
                cursor_source = PieceCursor::new(src);
                &mut cursor_source
            }
            (Some(rules), [src]) => {
                len = self.source_of(src)?.len;
                layout_source = LayoutSource::new(rules, src.as_ptr());
                &mut layout_source
            }
            (Some(rules), _) => return Err(layout(rules)),
        };
        self.program.check_length(len as u64)?;
        let (written, mut layout_sink, mut cursor_sink);
        let sink: &mut dyn Sink = match (&composition.sink, &mut *dst) {
            (None, dst) => {
                let have = sum(dst.iter().map(|piece| piece.len()))?;
                if have < len {
                    return Err(RunError::ShortDestination { needed: len, have });
                }
                written = len;
                cursor_sink = PieceCursor::new(dst);
                &mut cursor_sink
            }
            (Some(rules), [dst]) => {
                written = self.fit(len, dst.len(), dst.as_ptr())?;
                layout_sink = LayoutSink::new(rules, dst.as_mut_ptr());
                &mut layout_sink
            }
            (Some(rules), _) => return Err(layout(rules)),
        };
        // SAFETY: both ends were found to have `len` bytes.
        let mut run = unsafe { self.staged(source, Some(sink), len) };
        run.written = written;
        Ok(run)
    }

    /// Runs over a stream that lies in pieces for the exports alone. A layout at the start is refused, one at
    /// the end ignored.
    pub fn run_vectored_read_only(self, src: &[&[u8]]) -> Result<Run<'e>, RunError> {
        if let [src] = src {
            return self.run_read_only(src);
        }
        self.refuse_frames("a list of pieces")?;
        if let Some(layout) = &self.program.composition.source {
            return Err(RunError::Layout { layout: layout.name.clone(), what: "a list of pieces" });
        }
        let len = sum(src.iter().map(|piece| piece.len()))?;
        self.program.check_length(len as u64)?;
        // SAFETY: the source has `len` bytes; there is no sink.
        Ok(unsafe { self.pieces(PieceCursor::new(src), None::<&mut PieceCursor<[ends::Piece; 0]>>, len) })
    }

    /// Runs in place over a stream that lies in pieces. Layouts at either end are refused.
    pub fn run_vectored_in_place(self, pieces: &mut [&mut [u8]]) -> Result<Run<'e>, RunError> {
        self.program.refuse_layouts("running in place")?;
        let len = sum(pieces.iter().map(|piece| piece.len()))?;
        self.program.check_length(len as u64)?;
        let list: SmallVec<[ends::Piece; 8]> = pieces
            .iter_mut()
            .map(|piece| ends::Piece { ptr: piece.as_mut_ptr(), len: piece.len() })
            .collect();
        // SAFETY: both ends are the same pieces, which are disjoint.
        Ok(unsafe { self.pieces(PieceCursor::new(&list[..]), Some(&mut PieceCursor::new(&list[..])), len) })
    }

    /// Runs over a stream of `len` bytes at `src` to `dst`, as one would call it from C. `dst` null is
    /// reading only, `dst == src` in place; anything else that overlaps is refused. With a layout, the
    /// address is that of the device's buffer; here, and only here, the source may be a `fixed` one.
    ///
    /// # Safety
    /// `src` is readable for [`source_len`](super::Engine::source_len)`(len)` bytes, and a `dst` that is not
    /// null is writable for [`written_len`](super::Engine::written_len)`(len)` bytes; nothing else accesses
    /// them meanwhile.
    pub unsafe fn run_raw(self, src: *const u8, len: usize, dst: *mut u8) -> Result<Run<'e>, RunError> {
        if self.program.has_frames() {
            // SAFETY: the caller's promise.
            return unsafe { self.run_framed_raw(src, len, dst) };
        }
        let composition = &self.program.composition;
        self.program.check_length(len as u64)?;
        let extent = match &composition.source {
            Some(layout) => ends::source_len(layout, len).ok_or(RunError::TooLong)?,
            None => len,
        };
        if let Some(layout) = &composition.source {
            ends::check_alignment(layout, src, extent)?;
        }
        let written = if dst.is_null() { 0 } else { self.fit(len, usize::MAX, dst)? };
        let (from, to) = (src as usize, dst as usize);
        let apart = from.saturating_add(extent) <= to || to.saturating_add(written) <= from;
        let in_place = from == to && !self.program.has_layouts();
        if !dst.is_null() && written != 0 && extent != 0 && !apart && !in_place {
            return Err(RunError::Overlap);
        }
        // SAFETY: the caller's promise; overlap was checked.
        unsafe { self.transfer(Origin { ptr: src, len }, dst, written) }
    }

    /// The stream that a source buffer holds.
    fn source_of(self, src: &[u8]) -> Result<Origin, RunError> {
        let Some(layout) = &self.program.composition.source else {
            return Ok(Origin { ptr: src.as_ptr(), len: src.len() });
        };
        if layout.fixed {
            let what = "reading a buffer (give the device's address and a length instead)";
            return Err(RunError::Layout { layout: layout.name.clone(), what });
        }
        ends::check_alignment(layout, src.as_ptr(), src.len())?;
        let len = ends::stream_len(layout, src.len());
        // Only whole accesses can be made.
        Ok(Origin { ptr: src.as_ptr(), len: len - len % usize::from(layout.store.unwrap_or(1)) })
    }

    /// Bytes that the destination needs, if it has them and is aligned as its layout demands.
    fn fit(self, len: usize, have: usize, dst: *const u8) -> Result<usize, RunError> {
        let needed = match &self.program.composition.sink {
            None => len,
            Some(layout) => {
                let needed = ends::sink_len(layout, len).ok_or(RunError::TooLong)?;
                ends::check_alignment(layout, dst, needed)?;
                needed
            }
        };
        if needed <= have { Ok(needed) } else { Err(RunError::ShortDestination { needed, have }) }
    }

    /// # Safety
    /// The source holds the stream and `dst`, unless null, takes the `written` bytes it needs; no partial
    /// overlap.
    unsafe fn transfer(self, source: Origin, dst: *mut u8, written: usize) -> Result<Run<'e>, RunError> {
        let Origin { ptr: src, len } = source;
        let composition = &self.program.composition;
        let is_memory =
            |layout: &&Arc<Layout>| layout.stripe.is_none() && layout.store.is_none() && !layout.fixed;
        let from = composition.source.as_ref().filter(|layout| !is_memory(layout));
        let to = composition.sink.as_ref().filter(|layout| !is_memory(layout) && !dst.is_null());
        if from.is_none() && to.is_none() {
            // SAFETY: the caller's promise; what is written beyond the stream is padding.
            let mut run = unsafe {
                let run = self.contiguous(src, dst, len);
                if written > len {
                    dst.add(len).write_bytes(0, written - len);
                }
                run
            };
            run.written = written;
            return Ok(run);
        }
        if self.program.is_one_call {
            // SAFETY: the caller's promise.
            let mut run = unsafe { self.one_call(from, to, src, dst, len) };
            if to.is_none() && written > len {
                // SAFETY: `dst` takes `written` bytes, of which the stream has filled `len`.
                unsafe { dst.add(len).write_bytes(0, written - len) };
            }
            run.written = written;
            return Ok(run);
        }
        let from_memory = [ends::Piece { ptr: src.cast_mut(), len }];
        let to_memory = [ends::Piece { ptr: dst, len: written }];
        let (mut layout_source, mut memory_source);
        let source: &mut dyn Source = match from {
            Some(layout) => {
                layout_source = LayoutSource::new(layout, src);
                &mut layout_source
            }
            None => {
                memory_source = PieceCursor::new(from_memory);
                &mut memory_source
            }
        };
        let (mut layout_sink, mut memory_sink);
        let sink: Option<&mut dyn Sink> = match to {
            Some(layout) => {
                layout_sink = LayoutSink::new(layout, dst);
                Some(&mut layout_sink)
            }
            None if dst.is_null() => None,
            None => {
                memory_sink = PieceCursor::new(to_memory);
                Some(&mut memory_sink)
            }
        };
        // SAFETY: the caller's promise.
        let mut run = unsafe { self.staged(source, sink, len) };
        if to.is_none() && written > len {
            // SAFETY: `dst` takes `written` bytes, of which the stream has filled `len`.
            unsafe { dst.add(len).write_bytes(0, written - len) };
        }
        run.written = written;
        Ok(run)
    }

    /// # Safety
    /// The engine is a plain one, and [`Progress::contiguous`]'s conditions hold.
    #[inline]
    unsafe fn plain(self, src: *const u8, dst: *mut u8, len: usize) -> Run<'e> {
        let pass = &self.program.passes[0];
        let mut registers = self.initial.clone();
        // SAFETY: there is one pass, whose registers are all of them; the rest is the caller's promise.
        unsafe {
            let states = registers.as_mut_ptr();
            let streams = len >= self.program.streaming_from;
            let mut at = 0;
            while at < len {
                let n = (len - at).min(backend::MAX_CALL_BYTES);
                let to = if dst.is_null() { dst } else { dst.add(at) };
                if streams {
                    pass.code.run_streaming(states, at as u64, src.add(at), to, n);
                } else {
                    pass.code.run(states, at as u64, src.add(at), to, n);
                }
                at += n;
            }
            if streams {
                backend::settle();
            }
        }
        let written = if dst.is_null() { 0 } else { len };
        Run::new(self.program, len, written, registers, WindowLists::new())
    }

    /// One pass from or to a device's buffer: by loops that reach the stripes themselves, if there are such.
    ///
    /// # Safety
    /// The engine has one pass and no windows. `src` holds `len` bytes by the rules of `from` and `dst`,
    /// unless null, takes them by those of `to`, padding included; without rules they are contiguous.
    unsafe fn one_call(
        self,
        from: Option<&Arc<Layout>>,
        to: Option<&Arc<Layout>>,
        src: *const u8,
        dst: *mut u8,
        len: usize,
    ) -> Run<'e> {
        let stripe = |layout: &Arc<Layout>| layout.stripe;
        match (from, to) {
            (None, Some(layout)) => {
                if let (Some(longest), Some(stripe)) = (self.program.to_stripes, stripe(layout)) {
                    // SAFETY: the caller's promise; the code was made for this stripe, and `dst` takes the
                    // padding as well.
                    unsafe {
                        let run = self.striped(Striped::Sink, longest, stripe, src, dst, len);
                        if layout.pad > len as u64 {
                            LayoutSink::after(layout, dst, len).end();
                        }
                        return run;
                    }
                }
            }
            (Some(layout), None) if !dst.is_null() => {
                if let (Some(longest), Some(stripe)) = (self.program.from_stripes, stripe(layout)) {
                    // SAFETY: the caller's promise; the code was made for this stripe.
                    return unsafe { self.striped(Striped::Source, longest, stripe, src, dst, len) };
                }
            }
            _ => {}
        }
        // SAFETY: the caller's promise.
        unsafe { self.blocks(from, to, src, dst, len) }
    }

    /// One pass that reaches a striped buffer itself.
    ///
    /// # Safety
    /// One end is contiguous, the other in stripes as `stripe` says, for which the code was made; `longest`
    /// is what it takes.
    unsafe fn striped(
        self,
        end: Striped,
        longest: usize,
        stripe: Stripe,
        src: *const u8,
        dst: *mut u8,
        len: usize,
    ) -> Run<'e> {
        let mut registers = self.initial.clone();
        let states = registers.as_mut_ptr();
        let pass = &self.program.passes[0];
        let mut at = 0;
        while at < len {
            let n = (len - at).min(longest);
            let place = if at == 0 { 0 } else { stripe.offset(at as u64) as usize };
            let (from, to) = match end {
                Striped::Source => (src.wrapping_add(place), dst.wrapping_add(at)),
                Striped::Sink => (src.wrapping_add(at), dst.wrapping_add(place)),
            };
            // SAFETY: a longest call is whole vectors, so a run begins at `at`; the rest is the caller's
            // promise.
            unsafe { pass.code.run_striped(end, states, at as u64, from, to, n) };
            at += n;
        }
        Run::new(self.program, len, len, registers, WindowLists::new())
    }

    /// One pass, block by block by way of the first-level cache, from a source that gives bytes in its own
    /// way, or to a sink that takes them so.
    ///
    /// # Safety
    /// As for [`Prepared::one_call`].
    unsafe fn blocks(
        self,
        from: Option<&Arc<Layout>>,
        to: Option<&Arc<Layout>>,
        src: *const u8,
        dst: *mut u8,
        len: usize,
    ) -> Run<'e> {
        let mut area = [const { MaybeUninit::<u8>::uninit() }; BLOCK];
        let area = area.as_mut_ptr().cast::<u8>();
        let mut registers = self.initial.clone();
        let states = registers.as_mut_ptr();
        let pass = &self.program.passes[0];
        let mut source = from.map(|layout| LayoutSource::new(layout, src));
        let mut sink = to.map(|layout| LayoutSink::new(layout, dst));
        let mut at = 0;
        // SAFETY: `n` bytes are left at both ends, the area has room for them, and blocks are whole words but
        // for the last; a pass writes all bytes of a destination that is not its source.
        unsafe {
            while at < len {
                let n = (len - at).min(BLOCK);
                let read = match &mut source {
                    Some(source) => {
                        source.take(area, n);
                        area.cast_const()
                    }
                    None => src.add(at),
                };
                let write = match &sink {
                    // In place and nothing to write: reading is enough.
                    Some(_) if source.is_some() && !pass.modifies => std::ptr::null_mut(),
                    Some(_) => area,
                    None if dst.is_null() => dst,
                    None => dst.add(at),
                };
                pass.code.run(states, at as u64, read, write, n);
                if let Some(sink) = &mut sink {
                    sink.put(area, n);
                }
                at += n;
            }
            if let Some(sink) = &mut sink {
                sink.end();
            }
        }
        Run::new(self.program, len, len, registers, WindowLists::new())
    }

    /// # Safety
    /// [`Progress::contiguous`]'s conditions.
    unsafe fn contiguous(self, src: *const u8, dst: *mut u8, len: usize) -> Run<'e> {
        if self.program.is_plain {
            let in_place_tap = std::ptr::eq(src, dst) && !self.program.modifies;
            let to = if in_place_tap { std::ptr::null_mut() } else { dst };
            // SAFETY: the caller's promise.
            let mut run = unsafe { self.plain(src, to, len) };
            run.written = if dst.is_null() { 0 } else { len };
            return run;
        }
        let mut progress = Progress::new(self.program, self.initial).of_transfer(self.program, len);
        // SAFETY: the caller's promise.
        unsafe { progress.contiguous(self.program, src, dst, len) };
        self.outcome(progress, len, if dst.is_null() { 0 } else { len })
    }

    /// # Safety
    /// [`Progress::staged`]'s conditions.
    unsafe fn staged(self, source: &mut dyn Source, sink: Option<&mut dyn Sink>, len: usize) -> Run<'e> {
        let mut progress = Progress::new(self.program, self.initial);
        let written = if sink.is_some() { len } else { 0 };
        // SAFETY: the caller's promise.
        unsafe { progress.staged(self.program, source, sink, len) };
        self.outcome(progress, len, written)
    }

    /// # Safety
    /// Both ends have `len` bytes, and are the same or do not overlap.
    unsafe fn pieces<S: Pieces, D: Pieces>(
        self,
        mut source: PieceCursor<S>,
        sink: Option<&mut PieceCursor<D>>,
        len: usize,
    ) -> Run<'e> {
        let mut progress = Progress::new(self.program, self.initial).of_transfer(self.program, len);
        let written = if sink.is_some() { len } else { 0 };
        // SAFETY: the caller's promise.
        unsafe {
            if self.program.passes.len() == 1 {
                progress.pieces(self.program, &mut source, sink, len, true);
            } else {
                progress.staged(self.program, &mut source, sink.map(|sink| sink as &mut dyn Sink), len);
            }
        }
        self.outcome(progress, len, written)
    }

    pub(super) fn outcome(self, mut progress: Progress, read: usize, written: usize) -> Run<'e> {
        progress.finish(self.program);
        self.outcome_of(progress, read, written)
    }

    /// The same of passes that were told of the end of the stream.
    pub(super) fn outcome_of(self, progress: Progress, read: usize, written: usize) -> Run<'e> {
        let Progress { registers, windows, .. } = progress;
        Run::new(self.program, read, written, registers, windows)
    }
}

/// The registers as generated code left them, read one by one: it wrote them so a moment ago, and a wider
/// load would wait until those stores have reached the cache, three times as long as a short transfer takes.
#[inline(always)]
fn settled<const N: usize>(registers: &[u64; N]) -> [u64; FEW] {
    let mut settled = [0; FEW];
    for (to, from) in settled.iter_mut().zip(registers) {
        // SAFETY: a valid reference; volatile only so that the loads are not made one.
        *to = unsafe { std::ptr::from_ref(from).read_volatile() };
    }
    settled
}

/// Bytes of a list of pieces.
fn sum(mut lens: impl Iterator<Item = usize>) -> Result<usize, RunError> {
    lens.try_fold(0usize, usize::checked_add).ok_or(RunError::TooLong)
}

/// A stream's source in memory or in a device's buffer: where, and how many bytes of stream.
#[derive(Clone, Copy)]
struct Origin {
    ptr: *const u8,
    len: usize,
}
