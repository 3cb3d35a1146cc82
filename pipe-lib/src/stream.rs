//! Streams that arrive in chunks: resumable at any byte, also in the middle of a word, a stripe or an access.

mod device;
mod framed;

use crate::drive::{Progress, STAGING, Staging};
use crate::ends::{Piece, PieceCursor, Sink};
use crate::engine::Engine;
use crate::error::RunError;
use crate::run::{Imports, Run};
use device::{Device, DeviceChunk, Extent, Out};
use framed::Framed;
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// A stream under way through an engine.
///
/// A pipeline that writes can give a word only when all of its bytes are there, so up to a few bytes are held
/// back between chunks: [`Stream::push`] says how many it wrote, and [`Stream::finish`] gives the last ones.
/// A pipeline that modifies nothing and has no layouts holds nothing back.
///
/// # Layouts
///
/// A pipeline that starts from a layout takes the device's buffer in chunks, cut anywhere: in the middle of a
/// word, a stripe, a hole. With a width of access, the bytes of an access that a chunk ends within wait for
/// the others; those of one that never becomes whole are dropped at the end, as a run over the whole buffer
/// drops them. All accesses that lie in a chunk as a whole are made as wide as the layout says, so they have
/// to be aligned there.
///
/// A pipeline that ends in a layout writes each time to the next window of the device's buffer, which begins
/// [`Stream::sink_offset`] bytes behind its start. So this fills a buffer of [`Engine::written_len`] bytes:
///
/// ```
/// # use pipe_lib::Library;
/// let library = Library::standard();
/// let engine = library.pipeline("crc32c -> lance")?.compile()?; // 16 bytes, then a hole of 16
/// let (mut buffer, mut at) = ([0xff; 64], 0);
/// let mut stream = engine.stream();
/// for chunk in [&b"ten bytes "[..], b"and nine "] {
///     at += stream.push(chunk, &mut buffer[at..])?;
/// }
/// let end = stream.finish_into(&mut buffer[at..])?;
/// assert_eq!(end.written, 16 + 16 + 3);
/// assert_eq!(buffer[..16], *b"ten bytes and ni");
/// assert_eq!(buffer[16..35], *b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xffne ");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A window begins right behind the last byte that was written; a hole that follows is at the start of the
/// next one and is not touched. With a width of access only whole accesses are made: the bytes of the last
/// one wait in the stream, and windows are aligned where the buffer is. A `fixed` layout has no buffer but a
/// register: its window is the register, the same every time, and nothing is ever behind.
/// [`Stream::finish_into`] makes the last access and the padding.
#[derive(Clone)]
#[must_use = "a stream does nothing until it is given bytes"]
pub struct Stream {
    engine: Engine,
    progress: Progress,
    read: u64,
    written: u64,
    hold: Hold,
    /// The ends, if one is a device's buffer.
    device: Option<Box<Device>>,
    /// The same, if one has a frame.
    framed: Option<Box<Framed>>,
    output: OutputMode,
}

/// What the chunks so far were pushed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutputMode {
    /// There were none.
    Undecided,
    Wanted,
    /// All were read only.
    Unwanted,
}

/// Bytes that wait for the rest of their word.
#[derive(Clone)]
enum Hold {
    /// A single pass (or none): fewer than 16 bytes.
    Word { bytes: [u8; 16], len: usize },
    /// Several passes: each may wait at a place of its own.
    Staged { area: Box<[u8]>, staging: Staging },
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("engine", &self.engine)
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

/// The end of a stream.
#[derive(Clone, Debug)]
pub struct StreamEnd {
    /// Exports, and the bytes read and written in all, those of [`StreamEnd::rest`] included.
    pub run: Run<'static>,
    rest: SmallVec<[u8; 16]>,
}

impl StreamEnd {
    /// The last bytes of the output, held back until now. With a layout at the end, what is left of the
    /// device's buffer, holes as zeros. Nothing after [`Stream::finish_into`], which has written them.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }
}

impl std::ops::Deref for StreamEnd {
    type Target = Run<'static>;

    fn deref(&self) -> &Run<'static> {
        &self.run
    }
}

impl Engine {
    /// A stream that starts from the registers' initial values.
    pub fn stream(&self) -> Stream {
        Stream::new(self, &self.program.initial)
    }

    /// A stream that starts from imports.
    pub fn stream_with(&self, imports: &Imports) -> Result<Stream, RunError> {
        let _ = self.with(imports)?;
        Ok(Stream::new(self, &imports.registers))
    }
}

impl Stream {
    fn new(engine: &Engine, initial: &crate::registers::Registers) -> Stream {
        let device = Device::new(engine.composition());
        let hold = if engine.program.passes.len() <= 1 && device.is_none() {
            Hold::Word { bytes: [0; 16], len: 0 }
        } else {
            Hold::Staged { area: vec![0; STAGING].into(), staging: Staging::default() }
        };
        let progress = Progress::new(&engine.program, initial);
        Stream {
            engine: engine.clone(),
            progress,
            read: 0,
            written: 0,
            hold,
            device,
            framed: engine.program.has_frames().then(Box::default),
            output: OutputMode::Undecided,
        }
    }

    /// Holds each window of a frame at the start back until all its fields were found to hold what they
    /// should: nothing of a bad window is given out. A window is in memory for so long; one that is as long
    /// as the stream, to the end. To be said before the first chunk. Without a frame at the start, nothing
    /// changes.
    pub fn hold_back(mut self) -> Stream {
        if let Some(framed) = &mut self.framed {
            framed.hold_back = true;
        }
        self
    }

    /// Bytes held back: of those of the stream that were taken in, how many have not been given out yet. With
    /// frames, output that waits counts, fields and all, and what may be fields.
    pub fn held(&self) -> usize {
        if let Some(framed) = &self.framed {
            return framed.held() + self.waiting();
        }
        (self.read - self.written) as usize
    }

    /// Bytes of the stream pushed so far; with a layout at the start those of whole accesses, without holes.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Bytes of the source that are behind, holes counted: with a layout, where in the device's buffer the
    /// next chunk begins. A `fixed` layout is always read at its start.
    pub fn source_offset(&self) -> u64 {
        if let Some(framed) = &self.framed {
            return framed.raw;
        }
        match (&self.device, &self.engine.composition().source) {
            (Some(device), Some(_)) => device.source_offset(),
            _ => self.read,
        }
    }

    /// Bytes of the output that are behind, holes counted: with a layout, where in the device's buffer the
    /// next `out` begins. A `fixed` layout is always written at its start.
    pub fn sink_offset(&self) -> u64 {
        match (&self.device, &self.engine.composition().sink) {
            (Some(device), Some(layout)) => device.sink_offset(layout),
            _ => self.written,
        }
    }

    /// Bytes that `out` needs for a chunk of `len` bytes; `None` if so many cannot be addressed, or
    /// [`Stream::push`] takes no such chunk (from a register). With frames, a chunk may give fewer.
    pub fn room(&self, len: usize) -> Option<usize> {
        if let Some(framed) = &self.framed {
            let bound = self.framed_bound(self.read.checked_add(framed.coming(len)?)?)?;
            return usize::try_from(bound - self.written).ok();
        }
        self.room_of(self.step_len(Extent::Buffer(len))?)
    }

    /// The same for [`Stream::push_raw`], whose `len` bytes are those of the stream: without the holes of a
    /// source.
    pub fn room_raw(&self, len: usize) -> Option<usize> {
        if self.framed.is_some() {
            return None;
        }
        self.room_of(self.step_len(Extent::Stream(len))?)
    }

    /// Bytes of output when `len` more of the stream are there.
    fn room_of(&self, len: usize) -> Option<usize> {
        match (&self.device, &self.engine.composition().sink) {
            (Some(device), Some(layout)) => device.room(layout, self.read.checked_add(len as u64)?),
            _ => self.waiting().checked_add(len),
        }
    }

    /// Bytes that [`Stream::finish_into`] needs: what is held back and, with a layout, the rest of the last
    /// access and the padding. `None` if so many cannot be addressed.
    pub fn room_at_end(&self) -> Option<usize> {
        match (&self.device, &self.engine.composition().sink) {
            _ if self.output == OutputMode::Unwanted => Some(0),
            _ if self.framed.is_some() => usize::try_from(self.framed_bound(self.read)? - self.written).ok(),
            (Some(device), Some(layout)) => device.room(layout, Device::padded(layout, self.read)?),
            _ => Some(self.held()),
        }
    }

    /// Takes the next bytes of the stream and writes what is ready to the start of `out`, which has room for
    /// [`Stream::held`] bytes and the chunk. Gives the number of bytes written.
    ///
    /// With a layout at the start, the chunk is the next part of the device's buffer; with one at the end,
    /// `out` is the next window of the device's buffer, and what is given is by how much the one after that
    /// begins behind it (for a `fixed` layout, 0). In general, `out` has room for [`Stream::room`] bytes.
    ///
    /// Errors: a short `out`; a chunk or an `out` that is not aligned as its layout demands; a chunk from a
    /// `fixed` layout (see [`Stream::push_raw`]); an output that does not begin at the start of the stream,
    /// with a layout at the end. On an error nothing was written and the stream is where it was before; but
    /// after [`RunError::Mismatch`], the first bytes of `out`, by which [`Stream::sink_offset`] has grown,
    /// are of the stream before it, and every further chunk is refused with the same error.
    pub fn push(&mut self, chunk: &[u8], out: &mut [u8]) -> Result<usize, RunError> {
        if self.framed.is_some() {
            return self.push_framed(chunk, Some(out));
        }
        if self.device.is_some() {
            let out = Out { ptr: out.as_mut_ptr(), len: out.len(), is_memory: false };
            // SAFETY: slices are readable and writable, and do not overlap.
            return unsafe { self.push_device(DeviceChunk::of(chunk), Some(out)) };
        }
        let needed = self.waiting().checked_add(chunk.len()).ok_or(RunError::TooLong)?;
        if out.len() < needed {
            return Err(RunError::ShortDestination { needed, have: out.len() });
        }
        self.output = OutputMode::Wanted;
        let written = self.feed(chunk, Some(out));
        self.written = self.read - self.waiting() as u64;
        Ok(written)
    }

    /// [`Stream::push`] onto the end of a vector. With a layout at the end, the vector gets what the device's
    /// buffer would show, holes as zeros, and need not be aligned; a `fixed` layout, which has no buffer, is
    /// refused.
    pub fn push_to(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<usize, RunError> {
        if let Some(layout) = self.engine.composition().sink.as_ref().filter(|layout| layout.fixed) {
            return Err(RunError::Layout { layout: layout.name.clone(), what: "writing to a vector" });
        }
        let (start, before) = (out.len(), self.written);
        let room = self.room(chunk.len()).ok_or(RunError::TooLong)?;
        out.try_reserve(room).map_err(|_| RunError::TooLong)?;
        out.resize(start + room, 0);
        let result = if self.device.is_some() {
            let out = Out { ptr: out[start..].as_mut_ptr(), len: room, is_memory: true };
            // SAFETY: the slices are readable and writable, and do not overlap.
            unsafe { self.push_device(DeviceChunk::of(chunk), Some(out)) }
        } else {
            self.push(chunk, &mut out[start..])
        };
        let written = match &result {
            Ok(written) => *written,
            Err(RunError::Mismatch(_)) => (self.written - before) as usize,
            Err(_) => 0,
        };
        out.truncate(start + written);
        result
    }

    /// Takes the next bytes of a stream whose output nobody wants. Such a stream is read only from start to
    /// end: after this, [`Stream::push`] would leave a gap, and needs room for up to a loop word more than
    /// [`Stream::held`] says. With a layout at the end, which is ignored, neither goes after the other.
    pub fn push_read_only(&mut self, chunk: &[u8]) -> Result<(), RunError> {
        if self.framed.is_some() {
            return self.push_framed(chunk, None).map(drop);
        }
        if self.device.is_some() {
            // SAFETY: a slice is readable.
            return unsafe { self.push_device(DeviceChunk::of(chunk), None) }.map(drop);
        }
        if self.output == OutputMode::Undecided {
            self.output = OutputMode::Unwanted;
        }
        self.feed(chunk, None);
        self.written = self.read;
        Ok(())
    }

    /// [`Stream::push`] on addresses, of the next `len` bytes of the *stream*; a null `dst` is
    /// [`Stream::push_read_only`]. With a layout at the start, `src` is the place in the device's buffer that
    /// is [`Stream::source_offset`] bytes behind its start, or the register of a `fixed` one, which only this
    /// can read. Only whole accesses are made: what a last one gives too much comes first in the next chunk.
    ///
    /// Errors beside those of `push`: `src` and `dst` overlap; the chunk before ended within an access.
    ///
    /// # Safety
    /// `src` is readable up to the last access that `len` bytes take, and a `dst` that is not null is
    /// writable for [`Stream::room_raw`] bytes; nothing else accesses them meanwhile.
    pub unsafe fn push_raw(&mut self, src: *const u8, len: usize, dst: *mut u8) -> Result<usize, RunError> {
        let program = &self.engine.program;
        if let Some(plan) = program.source_frame.as_ref().or(program.sink_frame.as_ref()) {
            return Err(plan.refuse("a chunk by its address (use `push`)"));
        }
        if self.device.is_some() {
            let chunk = DeviceChunk { ptr: src, extent: Extent::Stream(len) };
            let out = Out { ptr: dst, len: usize::MAX, is_memory: false };
            // SAFETY: the caller's promise; overlap is refused.
            return unsafe { self.push_device(chunk, (!dst.is_null()).then_some(out)) };
        }
        let needed = self.waiting().checked_add(len).ok_or(RunError::TooLong)?;
        // SAFETY: the caller's promise.
        let chunk = if len == 0 { &[] } else { unsafe { std::slice::from_raw_parts(src, len) } };
        if dst.is_null() {
            return self.push_read_only(chunk).map(|()| 0);
        }
        if device::overlap(src, len, dst, needed) {
            return Err(RunError::Overlap);
        }
        // SAFETY: the caller's promise; the two do not overlap.
        self.push(chunk, unsafe { std::slice::from_raw_parts_mut(dst, needed) })
    }

    /// Ends the stream: tail rules, last windows, exports. A length that a tail rule rejects is refused here,
    /// with the bytes already pushed written.
    ///
    /// With a layout at the end, [`StreamEnd::rest`] is what is left of the device's buffer, for whoever has
    /// it in memory; a register, and more of it than memory has room for, are refused.
    /// [`Stream::finish_into`] writes to the device.
    pub fn finish(self) -> Result<StreamEnd, RunError> {
        self.check_framed_end()?;
        let needed = self.room_at_end().ok_or(RunError::TooLong)?;
        let program = &*self.engine.program;
        program.check_length(self.read)?;
        if let Some(layout) = program.composition.sink.as_ref().filter(|layout| layout.fixed && needed > 0) {
            let what = "ending a stream without the device's address";
            return Err(RunError::Layout { layout: layout.name.clone(), what });
        }
        let mut rest: SmallVec<[u8; 16]> = SmallVec::new();
        rest.try_reserve(needed).map_err(|_| RunError::TooLong)?;
        rest.resize(needed, 0);
        if self.framed.is_some() {
            let run = self.finish_framed(&mut rest)?;
            return Ok(StreamEnd { run, rest });
        }
        let out = Out { ptr: rest.as_mut_ptr(), len: needed, is_memory: true };
        // SAFETY: `rest` has as many bytes as are needed.
        let run = unsafe { self.end(out) };
        Ok(StreamEnd { run, rest })
    }

    /// [`Stream::finish`] that writes the rest to the start of `out`: [`Stream::room_at_end`] bytes, to the
    /// next window of the device's buffer if there is a layout at the end. On an error nothing was written.
    pub fn finish_into(self, out: &mut [u8]) -> Result<StreamEnd, RunError> {
        self.check_framed_end()?;
        let needed = self.room_at_end().ok_or(RunError::TooLong)?;
        let program = &*self.engine.program;
        program.check_length(self.read)?;
        if let Some(layout) = &program.composition.sink {
            crate::ends::check_alignment(layout, out.as_ptr(), needed)?;
        }
        if out.len() < needed {
            return Err(RunError::ShortDestination { needed, have: out.len() });
        }
        if self.framed.is_some() {
            let run = self.finish_framed(&mut out[..needed])?;
            return Ok(StreamEnd { run, rest: SmallVec::new() });
        }
        let out = Out { ptr: out.as_mut_ptr(), len: needed, is_memory: false };
        // SAFETY: `out` has as many bytes as are needed, aligned as they have to be.
        let run = unsafe { self.end(out) };
        Ok(StreamEnd { run, rest: SmallVec::new() })
    }

    /// What is left goes to `out`, and the registers to the outcome.
    ///
    /// # Safety
    /// `out` is writable for as many bytes as [`Stream::room_at_end`] says, and aligned as a layout demands.
    unsafe fn end(mut self, out: Out) -> Run<'static> {
        let engine = self.engine.clone();
        let program = &*engine.program;
        let is_wanted = self.output != OutputMode::Unwanted;
        let held = if is_wanted { self.held() } else { 0 };
        let layout = program.composition.sink.as_ref().filter(|_| is_wanted);
        // SAFETY: the caller's promise.
        unsafe { self.flush(out, held, layout) };
        self.progress.finish(program);
        let written = match layout {
            _ if !is_wanted => 0,
            // Room for them was found, so they can be addressed.
            Some(layout) => {
                let padded = Device::padded(layout, self.read);
                padded.and_then(|padded| crate::ends::extent(layout, padded)).unwrap_or(u64::MAX)
            }
            None => self.written + held as u64,
        };
        self.outcome(written)
    }

    /// The registers and exports of a stream that has ended, and the bytes that were written.
    fn outcome(self, written: u64) -> Run<'static> {
        let Progress { registers, windows, .. } = self.progress;
        let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let program = Arc::clone(&self.engine.program);
        Run::shared(program, bytes(self.read), bytes(written), registers, windows)
    }

    /// What the passes hold back, `held` bytes of it wanted, goes to `out`, by the rules of a layout if there
    /// is one.
    ///
    /// # Safety
    /// `out` is writable for that and for the end of a layout, and aligned as one demands.
    unsafe fn flush(&mut self, out: Out, held: usize, layout: Option<&Arc<crate::ir::Layout>>) {
        let engine = self.engine.clone();
        let program = &*engine.program;
        // What the code of a pass needs even if nothing is wanted of it.
        let mut word = [0; 16];
        let to = if held == 0 {
            Piece { ptr: word.as_mut_ptr(), len: 16 }
        } else {
            Piece { ptr: out.ptr, len: out.len }
        };
        match (&mut self.hold, layout, &self.device) {
            (Hold::Word { bytes, len }, ..) => {
                let from = [Piece { ptr: bytes.as_mut_ptr(), len: *len }];
                if !program.passes.is_empty() {
                    let (mut source, mut sink) = (PieceCursor::new(from), PieceCursor::new([to]));
                    // SAFETY: `bytes` holds `len` bytes and the sink has room for them.
                    unsafe { self.progress.pieces(program, &mut source, Some(&mut sink), *len, true) };
                }
            }
            (Hold::Staged { area, staging }, Some(layout), Some(device)) => {
                let (mut source, mut sink) =
                    (PieceCursor::new([Piece { len: 0, ..to }]), device.sink(layout, out));
                let area = area.as_mut_ptr();
                // SAFETY: `area` has `STAGING` bytes; nothing is taken; the rest is the caller's promise.
                unsafe {
                    staging.feed(&mut self.progress, program, area, &mut source, Some(&mut sink), 0, true)
                };
            }
            (Hold::Staged { area, staging }, ..) => {
                let (mut source, mut sink) =
                    (PieceCursor::new([Piece { len: 0, ..to }]), PieceCursor::new([to]));
                let sink: Option<&mut dyn Sink> = if held != 0 { Some(&mut sink) } else { None };
                let area = area.as_mut_ptr();
                // SAFETY: `area` has `STAGING` bytes; nothing is taken, and the sink has room for what is
                // held back.
                unsafe { staging.feed(&mut self.progress, program, area, &mut source, sink, 0, true) };
            }
        }
    }

    /// Bytes of output that wait in the hold, whether or not somebody wanted them.
    fn waiting(&self) -> usize {
        match &self.hold {
            _ if !self.engine.program.modifies && !self.engine.program.has_layouts() => 0,
            Hold::Word { len, .. } => *len,
            Hold::Staged { staging, .. } => staging.held(),
        }
    }

    /// Runs the passes over what is held and the chunk. `out`, if any, has room for both; gives the bytes
    /// written to it.
    fn feed(&mut self, chunk: &[u8], out: Option<&mut [u8]>) -> usize {
        let program = &*self.engine.program;
        self.read += chunk.len() as u64;
        let out = match out {
            // What nobody modifies need not wait.
            Some(out) if !program.modifies => {
                out[..chunk.len()].copy_from_slice(chunk);
                None
            }
            out => out,
        };
        let passes_through = out.is_none();
        let chunk_piece = Piece { ptr: chunk.as_ptr().cast_mut(), len: chunk.len() };
        let out_piece = out.map(|out| Piece { ptr: out.as_mut_ptr(), len: out.len() });
        let written = match &mut self.hold {
            Hold::Word { .. } if program.passes.is_empty() => 0,
            Hold::Word { bytes, len } => {
                let mut word = *bytes;
                let total = *len + chunk.len();
                let mut source = PieceCursor::new([Piece { ptr: word.as_mut_ptr(), len: *len }, chunk_piece]);
                let mut sink = out_piece.map(|piece| PieceCursor::new([piece]));
                // SAFETY: the source has `total` bytes, and so has a sink; neither overlaps the other.
                let done = unsafe { self.progress.pieces(program, &mut source, sink.as_mut(), total, false) };
                let left = total - done;
                let mut rest = [0; 16];
                // SAFETY: fewer bytes than one loop word, so at most 15, are left in the source.
                unsafe { crate::ends::Source::take(&mut source, rest.as_mut_ptr(), left) };
                (*bytes, *len) = (rest, left);
                done
            }
            Hold::Staged { area, staging } => {
                let held = staging.held();
                let (mut source, mut sink) =
                    (PieceCursor::new([chunk_piece]), out_piece.map(|piece| PieceCursor::new([piece])));
                let sink = sink.as_mut().map(|sink| sink as &mut dyn Sink);
                let area = area.as_mut_ptr();
                // SAFETY: `area` has `STAGING` bytes, the source those of the chunk; a sink has room for all.
                unsafe {
                    staging.feed(&mut self.progress, program, area, &mut source, sink, chunk.len(), false)
                };
                held + chunk.len() - staging.held()
            }
        };
        if passes_through { chunk.len() } else { written }
    }
}
