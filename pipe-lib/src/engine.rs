//! An engine: a composition made runnable, and the ways to run it.
//!
//! Everything that can be refused is refused here, before the first byte is written; `drive` then moves bytes.

use crate::backend::{self, Backend, Unsupported, interp};
use crate::compose::{ComposeError, Composition};
use crate::drive::{PassRun, Progress, Window};
use crate::ends::{self, Cursor, LayoutSink, LayoutSource, Pieces, Sink, Source, Zeros};
use crate::ir::{Layout, Op, StateInit, Tail};
use crate::plan::Pass;
use crate::run::{ExportInfo, Handle, Imports, RegisterInfo, Registers, Run, RunError};
use smallvec::SmallVec;
use std::fmt;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

/// How to compile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CompileOptions {
    /// Where the code comes from.
    pub backend: Backend,
    /// Runs every stage as a pass of its own over L1-sized blocks, instead of fusing them into one loop: what fusion is
    /// compared with.
    pub separate_passes: bool,
}

impl From<Backend> for CompileOptions {
    fn from(backend: Backend) -> CompileOptions {
        CompileOptions { backend, ..CompileOptions::default() }
    }
}

/// Why a pipeline could not be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// The composition breaks a rule.
    Compose(ComposeError),
    /// The backend asked for does not take the pipeline.
    Unsupported(Unsupported),
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::Compose(error) => error.fmt(f),
            CompileError::Unsupported(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CompileError {}

impl From<ComposeError> for CompileError {
    fn from(error: ComposeError) -> CompileError {
        CompileError::Compose(error)
    }
}

impl From<Unsupported> for CompileError {
    fn from(error: Unsupported) -> CompileError {
        CompileError::Unsupported(error)
    }
}

/// A pipeline ready to run. Cheap to clone, shared between threads; its code is freed with the last handle.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

/// What an engine knows of its pipeline.
pub(crate) struct Inner {
    composition: Arc<Composition>,
    backend: Backend,
    pub(crate) passes: Box<[PassRun]>,
    /// Registers of all stages, pass by pass, before the first word.
    pub(crate) initial: Registers,
    /// Place of each stage's first register.
    stage_base: Box<[usize]>,
    pub(crate) exports: Box<[ExportInfo]>,
    pub(crate) registers: Box<[RegisterInfo]>,
    /// Bytes of the largest word of a stage without window that rejects leftover bytes; 1 if there is none.
    reject_word: usize,
    /// Whether some stage with a window rejects leftover bytes.
    rejects_windows: bool,
    /// Whether some stage has a window.
    pub(crate) windowed: bool,
    /// Whether some stage writes words.
    pub(crate) modifies: bool,
    /// One pass, no window, no layout: a run is one call for whole words and at most one for the rest.
    is_plain: bool,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages: Vec<&str> = self.composition.stages.iter().map(|stage| stage.name.as_str()).collect();
        f.debug_struct("Engine")
            .field("stages", &stages)
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Inner {
    pub(crate) fn stage_registers(&self, stage: usize) -> Range<usize> {
        let base = self.stage_base[stage];
        base..base + self.composition.stages[stage].pipe.states.len()
    }

    pub(crate) fn export_value(&self, export: &ExportInfo, registers: &Registers) -> u64 {
        let pipe = &self.composition.stages[export.stage].pipe;
        interp::export_value(pipe, export.export, &registers[self.stage_registers(export.stage)])
    }

    /// Refuses a stream whose length a tail rule rejects; names the first stage that does.
    #[inline]
    pub(crate) fn check_length(&self, len: u64) -> Result<(), RunError> {
        if len & (self.reject_word as u64 - 1) == 0 && !self.rejects_windows {
            Ok(())
        } else {
            self.rejects(len)
        }
    }

    #[cold]
    fn rejects(&self, len: u64) -> Result<(), RunError> {
        for stage in self.composition.stages.iter().filter(|stage| stage.pipe.tail == Tail::Reject) {
            let word = stage.pipe.word_bytes() as u64;
            let window = stage.window.map_or(u64::MAX, NonZeroU64::get);
            let in_whole_windows = if len >= window { window % word } else { 0 };
            let leftover = if in_whole_windows != 0 { in_whole_windows } else { len % window % word };
            if leftover != 0 {
                return Err(RunError::leftover(stage, leftover as usize));
            }
        }
        Ok(())
    }

    pub(crate) fn has_layouts(&self) -> bool {
        self.composition.source.is_some() || self.composition.sink.is_some()
    }

    /// Refuses a use that does not go with layouts, naming one.
    pub(crate) fn refuse_layouts(&self, what: &'static str) -> Result<(), RunError> {
        match self.composition.source.as_ref().or(self.composition.sink.as_ref()) {
            Some(layout) => Err(RunError::Layout { layout: layout.name.clone(), what }),
            None => Ok(()),
        }
    }
}

impl Engine {
    /// Compiles a composition, without looking into a cache.
    pub fn compile(composition: Arc<Composition>, options: &CompileOptions) -> Result<Engine, CompileError> {
        composition.validate()?;
        let (plan, code) = backend::generate_all(&composition, options.backend, options.separate_passes)?;
        let mut builder = InnerBuilder::new(&composition);
        let mut backend = None;
        for (pass, (from, code)) in plan.passes.iter().zip(code) {
            // With code from several backends, the engine is as fast as the slowest: report that one.
            let rank = |backend: Backend| Backend::ALL.iter().position(|&b| b == backend);
            backend = Some(backend.map_or(from, |known| if rank(from) < rank(known) { from } else { known }));
            builder.pass(pass, code);
        }
        // Without stages there is no code at all, only a copy.
        let backend = backend.unwrap_or(options.backend);
        Ok(Engine { inner: Arc::new(builder.finish(Arc::clone(&composition), backend)) })
    }

    /// What the engine was made from.
    pub fn composition(&self) -> &Composition {
        &self.inner.composition
    }

    /// Where the code comes from; never `Auto`, except for a plain copy, which needs none.
    pub fn backend(&self) -> Backend {
        self.inner.backend
    }

    /// Number of passes over the data (in L1-sized blocks if more than one).
    pub fn passes(&self) -> usize {
        self.inner.passes.len()
    }

    /// Bytes of one loop word: the least common multiple of the stages' words.
    pub fn gauge(&self) -> usize {
        self.inner.composition.gauge()
    }

    /// Names and types of what a run exports, in stream order.
    pub fn exports(&self) -> &[ExportInfo] {
        &self.inner.exports
    }

    /// Number of an export for [`Run::value`], by its name `instance.name`.
    pub fn export_index(&self, name: &str) -> Option<usize> {
        self.inner.exports.iter().position(|export| export.name == name)
    }

    /// Names and types of the registers that [`Imports`] can set.
    pub fn registers(&self) -> &[RegisterInfo] {
        &self.inner.registers
    }

    /// Bytes that a stream of `len` bytes takes up in the destination: `len` itself, or what the layout at the end makes
    /// of it. `None` if that cannot be addressed.
    pub fn written_len(&self, len: usize) -> Option<usize> {
        self.inner.composition.sink.as_ref().map_or(Some(len), |layout| ends::sink_len(layout, len))
    }

    /// Bytes of the source buffer that a stream of `len` bytes is read from.
    pub fn source_len(&self, len: usize) -> Option<usize> {
        self.inner.composition.source.as_ref().map_or(Some(len), |layout| ends::source_len(layout, len))
    }

    /// Bytes of the stream that a source buffer of `len` bytes holds.
    pub fn stream_len(&self, len: usize) -> usize {
        self.inner.composition.source.as_ref().map_or(len, |layout| ends::stream_len(layout, len))
    }

    /// Whether a stream of `len` bytes is one that all tail rules take.
    pub fn check_length(&self, len: u64) -> Result<(), RunError> {
        self.inner.check_length(len)
    }

    /// Runs with `imports` in place of the registers' initial values.
    pub fn with<'e>(&'e self, imports: &'e Imports) -> Result<Prepared<'e>, RunError> {
        if !Arc::ptr_eq(&imports.engine, &self.inner) {
            return Err(RunError::ForeignImports);
        }
        Ok(Prepared { inner: &self.inner, initial: &imports.registers })
    }

    fn prepared(&self) -> Prepared<'_> {
        Prepared { inner: &self.inner, initial: &self.inner.initial }
    }

    /// Copies `src` to the start of `dst` through the pipeline. `dst` has at least [`Engine::written_len`] bytes.
    #[inline]
    pub fn run(&self, src: &[u8], dst: &mut [u8]) -> Result<Run<'_>, RunError> {
        self.prepared().run(src, dst)
    }

    /// [`Engine::run`] with imports.
    pub fn run_with<'e>(
        &'e self,
        imports: &'e Imports,
        src: &[u8],
        dst: &mut [u8],
    ) -> Result<Run<'e>, RunError> {
        self.with(imports)?.run(src, dst)
    }

    /// Runs over `buf` in place.
    pub fn run_in_place(&self, buf: &mut [u8]) -> Result<Run<'_>, RunError> {
        self.prepared().run_in_place(buf)
    }

    /// Runs over `src` for the exports alone.
    pub fn run_read_only(&self, src: &[u8]) -> Result<Run<'_>, RunError> {
        self.prepared().run_read_only(src)
    }

    /// Writes what the pipeline makes of a stream of `len` zero bytes.
    pub fn run_write_only(&self, len: usize, dst: &mut [u8]) -> Result<Run<'_>, RunError> {
        self.prepared().run_write_only(len, dst)
    }

    /// Gathers the stream from pieces and scatters it over pieces, of any length each; see [`Prepared::run_vectored`].
    pub fn run_vectored(&self, src: &[&[u8]], dst: &mut [&mut [u8]]) -> Result<Run<'_>, RunError> {
        self.prepared().run_vectored(src, dst)
    }

    /// [`Engine::run_read_only`] over a stream that lies in pieces.
    pub fn run_vectored_read_only(&self, src: &[&[u8]]) -> Result<Run<'_>, RunError> {
        self.prepared().run_vectored_read_only(src)
    }

    /// [`Engine::run_in_place`] over a stream that lies in pieces.
    pub fn run_vectored_in_place(&self, pieces: &mut [&mut [u8]]) -> Result<Run<'_>, RunError> {
        self.prepared().run_vectored_in_place(pieces)
    }

    /// [`Engine::run`] on addresses; see [`Prepared::run_raw`].
    ///
    /// # Safety
    /// That of [`Prepared::run_raw`].
    pub unsafe fn run_raw(&self, src: *const u8, len: usize, dst: *mut u8) -> Result<Run<'_>, RunError> {
        // SAFETY: the caller's promise.
        unsafe { self.prepared().run_raw(src, len, dst) }
    }
}

/// An engine with the registers that a run starts from.
#[derive(Clone, Copy, Debug)]
pub struct Prepared<'e> {
    inner: &'e Inner,
    initial: &'e Registers,
}

impl<'e> Prepared<'e> {
    /// Copies `src` to the start of `dst` through the pipeline.
    ///
    /// With a layout at the start, `src` is the device's buffer and the stream what it holds. Errors: a short `dst`, a
    /// length that a tail rule rejects, a buffer that is not aligned as its layout demands.
    #[inline]
    pub fn run(self, src: &[u8], dst: &mut [u8]) -> Result<Run<'e>, RunError> {
        if self.inner.is_plain && src.len() <= dst.len() {
            self.inner.check_length(src.len() as u64)?;
            // SAFETY: `src` is readable and `dst` writable for `src.len()` bytes; a shared and an exclusive slice do
            // not overlap.
            return Ok(unsafe { self.plain(src.as_ptr(), dst.as_mut_ptr(), src.len()) });
        }
        let source = self.source_of(src)?;
        self.inner.check_length(source.len as u64)?;
        let written = self.fit(source.len, dst.len(), dst.as_ptr())?;
        // SAFETY: the lengths were checked; slices do not overlap.
        unsafe { self.transfer(source, dst.as_mut_ptr(), written) }
    }

    /// Runs over `buf` in place. Layouts at either end are refused.
    pub fn run_in_place(self, buf: &mut [u8]) -> Result<Run<'e>, RunError> {
        self.inner.refuse_layouts("running in place")?;
        self.inner.check_length(buf.len() as u64)?;
        let ptr = buf.as_mut_ptr();
        // SAFETY: `buf` is readable and writable; source and destination are the same.
        Ok(unsafe { self.contiguous(ptr, ptr, buf.len()) })
    }

    /// Runs over `src` for the exports alone; a layout at the end is ignored.
    pub fn run_read_only(self, src: &[u8]) -> Result<Run<'e>, RunError> {
        let source = self.source_of(src)?;
        self.inner.check_length(source.len as u64)?;
        // SAFETY: `src` is readable for what `source_of` found in it.
        unsafe { self.transfer(source, std::ptr::null_mut(), 0) }
    }

    /// Writes to `dst` what the pipeline makes of a stream of `len` zero bytes; a layout at the start is ignored.
    pub fn run_write_only(self, len: usize, dst: &mut [u8]) -> Result<Run<'e>, RunError> {
        self.inner.check_length(len as u64)?;
        let written = self.fit(len, dst.len(), dst.as_ptr())?;
        let run = match &self.inner.composition.sink {
            // SAFETY: `dst` was found to be large enough.
            Some(layout) => unsafe {
                self.staged(&mut Zeros, Some(&mut LayoutSink::new(layout, dst.as_mut_ptr())), len)
            },
            // SAFETY: as above.
            None => unsafe {
                let to = ends::Piece { ptr: dst.as_mut_ptr(), len };
                self.staged(&mut Zeros, Some(&mut Cursor::new([to])), len)
            },
        };
        Ok(Run { read: 0, written, ..run })
    }

    /// Gathers the stream from the pieces of `src`, in order, and scatters it over the pieces of `dst`, which may be cut
    /// anywhere, in the middle of a word as well. The pieces of `dst` have in sum at least as many bytes as those of
    /// `src`. A layout takes one buffer: that side is then a list of one piece.
    pub fn run_vectored(self, src: &[&[u8]], dst: &mut [&mut [u8]]) -> Result<Run<'e>, RunError> {
        if let ([src], [dst]) = (src, &mut *dst) {
            return self.run(src, dst);
        }
        let composition = &self.inner.composition;
        let layout =
            |layout: &Layout| RunError::Layout { layout: layout.name.clone(), what: "a list of pieces" };
        if composition.source.is_none() && composition.sink.is_none() {
            let len = sum(src.iter().map(|piece| piece.len()))?;
            let have = sum(dst.iter().map(|piece| piece.len()))?;
            self.inner.check_length(len as u64)?;
            if have < len {
                return Err(RunError::ShortDestination { needed: len, have });
            }
            // SAFETY: the lengths were checked; slices do not overlap.
            return Ok(unsafe { self.pieces(Cursor::new(src), Some(&mut Cursor::new(dst)), len) });
        }
        // One side at least is a device's buffer, the other a list.
        let (len, mut layout_source, mut cursor_source);
        let source: &mut dyn Source = match (&composition.source, src) {
            (None, _) => {
                len = sum(src.iter().map(|piece| piece.len()))?;
                cursor_source = Cursor::new(src);
                &mut cursor_source
            }
            (Some(rules), [src]) => {
                len = self.source_of(src)?.len;
                layout_source = LayoutSource::new(rules, src.as_ptr());
                &mut layout_source
            }
            (Some(rules), _) => return Err(layout(rules)),
        };
        self.inner.check_length(len as u64)?;
        let (written, mut layout_sink, mut cursor_sink);
        let sink: &mut dyn Sink = match (&composition.sink, &mut *dst) {
            (None, dst) => {
                let have = sum(dst.iter().map(|piece| piece.len()))?;
                if have < len {
                    return Err(RunError::ShortDestination { needed: len, have });
                }
                written = len;
                cursor_sink = Cursor::new(dst);
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
        let run = unsafe { self.staged(source, Some(sink), len) };
        Ok(Run { read: len, written, ..run })
    }

    /// Runs over a stream that lies in pieces for the exports alone. A layout at the start is refused, one at the end
    /// ignored.
    pub fn run_vectored_read_only(self, src: &[&[u8]]) -> Result<Run<'e>, RunError> {
        if let [src] = src {
            return self.run_read_only(src);
        }
        if let Some(layout) = &self.inner.composition.source {
            return Err(RunError::Layout { layout: layout.name.clone(), what: "a list of pieces" });
        }
        let len = sum(src.iter().map(|piece| piece.len()))?;
        self.inner.check_length(len as u64)?;
        // SAFETY: the source has `len` bytes; there is no sink.
        Ok(unsafe { self.pieces(Cursor::new(src), None::<&mut Cursor<[ends::Piece; 0]>>, len) })
    }

    /// Runs in place over a stream that lies in pieces. Layouts at either end are refused.
    pub fn run_vectored_in_place(self, pieces: &mut [&mut [u8]]) -> Result<Run<'e>, RunError> {
        self.inner.refuse_layouts("running in place")?;
        let len = sum(pieces.iter().map(|piece| piece.len()))?;
        self.inner.check_length(len as u64)?;
        let list: SmallVec<[ends::Piece; 8]> = pieces
            .iter_mut()
            .map(|piece| ends::Piece { ptr: piece.as_mut_ptr(), len: piece.len() })
            .collect();
        // SAFETY: both ends are the same pieces, which are disjoint.
        Ok(unsafe { self.pieces(Cursor::new(&list[..]), Some(&mut Cursor::new(&list[..])), len) })
    }

    /// Runs over a stream of `len` bytes at `src` to `dst`, as one would call it from C. `dst` null is reading only,
    /// `dst == src` in place; anything else that overlaps is refused. With a layout, the address is that of the device's
    /// buffer; here, and only here, the source may be a `fixed` one.
    ///
    /// # Safety
    /// `src` is readable for [`Engine::source_len`]`(len)` bytes, and a `dst` that is not null is writable for
    /// [`Engine::written_len`]`(len)` bytes; nothing else accesses them meanwhile.
    pub unsafe fn run_raw(self, src: *const u8, len: usize, dst: *mut u8) -> Result<Run<'e>, RunError> {
        let composition = &self.inner.composition;
        self.inner.check_length(len as u64)?;
        let extent = match &composition.source {
            Some(layout) => ends::source_len(layout, len).ok_or(RunError::TooLong)?,
            None => len,
        };
        if let Some(layout) = &composition.source {
            check_alignment(layout, src)?;
        }
        let written = if dst.is_null() { 0 } else { self.fit(len, usize::MAX, dst)? };
        let (from, to) = (src as usize, dst as usize);
        let apart = from.saturating_add(extent) <= to || to.saturating_add(written) <= from;
        let in_place = from == to && !self.inner.has_layouts();
        if !dst.is_null() && written != 0 && extent != 0 && !apart && !in_place {
            return Err(RunError::Overlap);
        }
        // SAFETY: the caller's promise; overlap was checked.
        unsafe { self.transfer(Origin { ptr: src, len }, dst, written) }
    }

    /// The stream that a source buffer holds.
    fn source_of(self, src: &[u8]) -> Result<Origin, RunError> {
        let Some(layout) = &self.inner.composition.source else {
            return Ok(Origin { ptr: src.as_ptr(), len: src.len() });
        };
        if layout.fixed {
            let what = "reading a buffer (give the device's address and a length instead)";
            return Err(RunError::Layout { layout: layout.name.clone(), what });
        }
        check_alignment(layout, src.as_ptr())?;
        let len = ends::stream_len(layout, src.len());
        // Only whole accesses can be made.
        Ok(Origin { ptr: src.as_ptr(), len: len - len % usize::from(layout.store.unwrap_or(1)) })
    }

    /// Bytes that the destination needs, if it has them and is aligned as its layout demands.
    fn fit(self, len: usize, have: usize, dst: *const u8) -> Result<usize, RunError> {
        let needed = match &self.inner.composition.sink {
            None => len,
            Some(layout) => {
                check_alignment(layout, dst)?;
                ends::sink_len(layout, len).ok_or(RunError::TooLong)?
            }
        };
        if needed <= have { Ok(needed) } else { Err(RunError::ShortDestination { needed, have }) }
    }

    /// # Safety
    /// The source holds the stream and `dst`, unless null, takes the `written` bytes it needs; no partial overlap.
    unsafe fn transfer(self, source: Origin, dst: *mut u8, written: usize) -> Result<Run<'e>, RunError> {
        let Origin { ptr: src, len } = source;
        let composition = &self.inner.composition;
        let is_memory =
            |layout: &&Arc<Layout>| layout.stripe.is_none() && layout.store.is_none() && !layout.fixed;
        let from = composition.source.as_ref().filter(|layout| !is_memory(layout));
        let to = composition.sink.as_ref().filter(|layout| !is_memory(layout) && !dst.is_null());
        if from.is_none() && to.is_none() {
            // SAFETY: the caller's promise; what is written beyond the stream is padding.
            let run = unsafe {
                let run = self.contiguous(src, dst, len);
                if written > len {
                    dst.add(len).write_bytes(0, written - len);
                }
                run
            };
            return Ok(Run { written, ..run });
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
                memory_source = Cursor::new(from_memory);
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
                memory_sink = Cursor::new(to_memory);
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
        let pass = &self.inner.passes[0];
        let mut registers = Registers::from_slice(self.initial);
        let whole = len & !(pass.gauge - 1);
        // SAFETY: there is one pass, whose registers are all of them; the rest is the caller's promise.
        unsafe {
            let states = registers.as_mut_ptr();
            let mut at = 0;
            while at < whole {
                let n = (whole - at).min(backend::MAX_CALL_BYTES);
                let to = if dst.is_null() { dst } else { dst.add(at) };
                pass.code.words(states, at as u64, src.add(at), to, n);
                at += n;
            }
            if whole < len {
                let to = if dst.is_null() { dst } else { dst.add(whole) };
                pass.code.tail(states, whole as u64, src.add(whole), to, len - whole);
            }
        }
        let written = if dst.is_null() { 0 } else { len };
        Run { read: len, written, engine: Handle::Borrowed(self.inner), registers, windows: Vec::new() }
    }

    /// # Safety
    /// [`Progress::contiguous`]'s conditions.
    unsafe fn contiguous(self, src: *const u8, dst: *mut u8, len: usize) -> Run<'e> {
        if self.inner.is_plain {
            let in_place_tap = std::ptr::eq(src, dst) && !self.inner.modifies;
            let to = if in_place_tap { std::ptr::null_mut() } else { dst };
            // SAFETY: the caller's promise.
            let run = unsafe { self.plain(src, to, len) };
            return Run { written: if dst.is_null() { 0 } else { len }, ..run };
        }
        let mut progress = Progress::new(self.inner, self.initial);
        // SAFETY: the caller's promise.
        unsafe { progress.contiguous(self.inner, src, dst, len) };
        self.outcome(progress, len, if dst.is_null() { 0 } else { len })
    }

    /// # Safety
    /// [`Progress::staged`]'s conditions.
    unsafe fn staged(self, source: &mut dyn Source, sink: Option<&mut dyn Sink>, len: usize) -> Run<'e> {
        let mut progress = Progress::new(self.inner, self.initial);
        let written = if sink.is_some() { len } else { 0 };
        // SAFETY: the caller's promise.
        unsafe { progress.staged(self.inner, source, sink, len) };
        self.outcome(progress, len, written)
    }

    /// # Safety
    /// Both ends have `len` bytes, and are the same or do not overlap.
    unsafe fn pieces<S: Pieces, D: Pieces>(
        self,
        mut source: Cursor<S>,
        sink: Option<&mut Cursor<D>>,
        len: usize,
    ) -> Run<'e> {
        let mut progress = Progress::new(self.inner, self.initial);
        let written = if sink.is_some() { len } else { 0 };
        // SAFETY: the caller's promise.
        unsafe {
            if self.inner.passes.len() == 1 {
                progress.pieces(self.inner, &mut source, sink, len, true);
            } else {
                progress.staged(self.inner, &mut source, sink.map(|sink| sink as &mut dyn Sink), len);
            }
        }
        self.outcome(progress, len, written)
    }

    fn outcome(self, mut progress: Progress, read: usize, written: usize) -> Run<'e> {
        progress.finish(self.inner);
        let Progress { registers, windows, .. } = progress;
        Run { read, written, engine: Handle::Borrowed(self.inner), registers, windows }
    }
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

fn check_alignment(layout: &Layout, address: *const u8) -> Result<(), RunError> {
    let store = usize::from(layout.store.unwrap_or(1));
    if (address as usize).is_multiple_of(store) {
        Ok(())
    } else {
        Err(RunError::Misaligned { layout: layout.name.clone(), store })
    }
}

/// Lays out the registers of an engine, pass by pass.
struct InnerBuilder<'a> {
    composition: &'a Composition,
    passes: Vec<PassRun>,
    initial: Registers,
    stage_base: Vec<usize>,
}

impl<'a> InnerBuilder<'a> {
    fn new(composition: &'a Composition) -> InnerBuilder<'a> {
        let stage_base = vec![0; composition.stages.len()];
        InnerBuilder { composition, passes: Vec::new(), initial: Registers::new(), stage_base }
    }

    fn pass(&mut self, pass: &Pass, code: Box<dyn backend::PassCode>) {
        let base = self.initial.len();
        let mut windows: SmallVec<[Window; 1]> = SmallVec::new();
        let mut pos_window = None;
        for &index in &pass.stages {
            let stage = &self.composition.stages[index];
            self.stage_base[index] = self.initial.len();
            self.initial.extend(stage.pipe.states.iter().map(|state| match state.init {
                StateInit::Const(value) => value,
                StateInit::Param(_) => 0,
            }));
            let reads_pos = stage.pipe.body.insts.iter().any(|inst| inst.op == Op::Pos);
            if let Some(bytes) = stage.window.map(NonZeroU64::get) {
                match windows.iter_mut().find(|window| window.bytes == bytes) {
                    Some(window) => window.stages.push(index),
                    None => windows.push(Window { bytes, stages: vec![index] }),
                }
                if reads_pos {
                    pos_window = Some(bytes);
                }
            }
        }
        let all_windowed = pass.stages(self.composition).all(|stage| stage.window.is_some());
        if windows.len() == 1 && all_windowed {
            pos_window = Some(windows[0].bytes);
        }
        self.passes.push(PassRun {
            code,
            gauge: pass.gauge,
            modifies: pass.modifies(self.composition),
            base,
            windows,
            pos_window,
        });
    }

    fn finish(self, composition: Arc<Composition>, backend: Backend) -> Inner {
        let mut exports = Vec::new();
        let mut registers = Vec::new();
        for (index, stage) in composition.stages.iter().enumerate() {
            for (number, export) in stage.pipe.exports.iter().enumerate() {
                exports.push(ExportInfo {
                    name: format!("{}.{}", stage.name, export.name),
                    ty: stage.pipe.finish.ty(export.value),
                    windowed: stage.window.is_some(),
                    stage: index,
                    export: number,
                });
            }
            for (number, state) in stage.pipe.states.iter().enumerate() {
                registers.push(RegisterInfo {
                    name: format!("{}.{}", stage.name, state.name),
                    ty: state.ty,
                    index: self.stage_base[index] + number,
                });
            }
        }
        let rejecting = || composition.stages.iter().filter(|stage| stage.pipe.tail == Tail::Reject);
        let rejecting_words =
            rejecting().filter(|stage| stage.window.is_none()).map(|stage| stage.pipe.word_bytes());
        let reject_word = rejecting_words.max().unwrap_or(1);
        let rejects_windows = rejecting().any(|stage| stage.window.is_some());
        let windowed = composition.stages.iter().any(|stage| stage.window.is_some());
        let layouts = composition.source.is_some() || composition.sink.is_some();
        Inner {
            backend,
            initial: self.initial,
            stage_base: self.stage_base.into(),
            exports: exports.into(),
            registers: registers.into(),
            reject_word,
            rejects_windows,
            windowed,
            modifies: composition.modifies(),
            is_plain: self.passes.len() == 1 && !windowed && !layouts,
            passes: self.passes.into(),
            composition,
        }
    }
}
