//! Streams from and to device's buffers: how far each buffer is behind, accesses under way, and the room that
//! is needed.
//!
//! What `push` is given is a window of the device's buffer, from where the one before it stopped; so the base
//! that the ends count from lies before it, by as much as is behind.

use super::{Hold, OutputMode, Stream};
use crate::compose::Composition;
use crate::ends::{self, Access, LayoutSink, LayoutSource, Piece, PieceCursor, Sink, Source};
use crate::error::RunError;
use crate::ir::Layout;
use crate::program::Program;

/// Both ends of a stream of which one at least is a device's buffer.
#[derive(Clone, Debug, Default)]
pub(super) struct Device {
    from: Access,
    /// Bytes of the source's buffer that are behind; 0 for a register.
    from_offset: u64,
    /// The first bytes of an access that a chunk ended within, up to `from_offset`.
    part: [u8; 8],
    part_len: usize,
    to: Access,
}

/// What is pushed.
#[derive(Clone, Copy)]
pub(super) struct DeviceChunk {
    pub(super) ptr: *const u8,
    pub(super) extent: Extent,
}

impl DeviceChunk {
    pub(super) fn of(bytes: &[u8]) -> DeviceChunk {
        DeviceChunk { ptr: bytes.as_ptr(), extent: Extent::Buffer(bytes.len()) }
    }
}

/// How much is pushed.
#[derive(Clone, Copy)]
pub(super) enum Extent {
    /// Bytes of the source's buffer.
    Buffer(usize),
    /// Bytes of the stream.
    Stream(usize),
}

/// Where the output goes.
#[derive(Clone, Copy)]
pub(super) struct Out {
    pub(super) ptr: *mut u8,
    pub(super) len: usize,
    /// Memory that shows what the device's buffer would look like, rather than the device's.
    pub(super) is_memory: bool,
}

impl Device {
    pub(super) fn new(composition: &Composition) -> Option<Box<Device>> {
        (composition.source.is_some() || composition.sink.is_some()).then(Box::default)
    }

    /// Bytes of the source's buffer behind, and of those of the stream that have reached the sink.
    pub(super) fn source_offset(&self) -> u64 {
        self.from_offset
    }

    /// Bytes of the stream that have reached the sink's buffer: whole accesses.
    pub(super) fn stored(&self) -> u64 {
        self.to.at - self.to.held as u64
    }

    /// Bytes of the sink's buffer behind; 0 for a register.
    pub(super) fn sink_offset(&self, layout: &Layout) -> u64 {
        // It was found that the place can be addressed before anything was stored there.
        if layout.fixed { 0 } else { ends::extent(layout, self.stored()).unwrap_or(u64::MAX) }
    }

    /// Bytes of the sink's buffer, from where it is not behind, that are needed so that the stream can reach
    /// `total` bytes.
    pub(super) fn room(&self, layout: &Layout, total: u64) -> Option<usize> {
        let stored = self.stored();
        let total = total - total % u64::from(layout.store.unwrap_or(1));
        if total <= stored {
            return Some(0);
        }
        let bytes = ends::extent(layout, total)? - self.sink_offset(layout);
        usize::try_from(bytes).ok().filter(|&bytes| bytes <= isize::MAX as usize)
    }

    /// Bytes of the stream, padding and the last access included, that a sink has taken in the end.
    pub(super) fn padded(layout: &Layout, len: u64) -> Option<u64> {
        len.max(layout.pad).checked_next_multiple_of(u64::from(layout.store.unwrap_or(1)))
    }

    /// The window of the sink's buffer that `out` is.
    pub(super) fn sink<'a>(&self, layout: &'a Layout, out: Out) -> LayoutSink<'a> {
        let base = out.ptr.wrapping_sub(self.sink_offset(layout) as usize);
        let sink = LayoutSink::resumed(layout, base, self.to);
        if out.is_memory { sink.in_memory() } else { sink }
    }
}

/// What a push comes to, found before the first byte moves.
struct PushStep<'a> {
    chunk: *const u8,
    source: Option<SourceSpan<'a>>,
    /// Bytes of the stream.
    len: usize,
}

impl PushStep<'_> {
    /// Bytes of the chunk where it lies.
    fn extent(&self, device: &Device) -> usize {
        match &self.source {
            Some(window) if window.layout.fixed => usize::from(window.layout.store.unwrap_or(1)),
            Some(window) => (window.end - device.from_offset) as usize,
            None => self.len,
        }
    }
}

/// The part of the source's buffer that a push takes.
struct SourceSpan<'a> {
    layout: &'a Layout,
    /// Offsets in the buffer: of the first access that begins here, and behind the last one that ends here.
    accesses: (u64, u64),
    /// Bytes of an access that began earlier, and of one that ends later.
    head: usize,
    tail: usize,
    /// Where the next window begins.
    end: u64,
    /// Bytes of the stream in the whole accesses, those left over from the one before included.
    whole: usize,
}

impl Stream {
    /// What a push of `chunk` takes in; refuses a buffer that cannot be read so.
    fn step<'a>(
        &self,
        device: &Device,
        program: &'a Program,
        chunk: DeviceChunk,
    ) -> Result<PushStep<'a>, RunError> {
        let (Extent::Buffer(len) | Extent::Stream(len)) = chunk.extent;
        let Some(layout) = &program.composition.source else {
            return Ok(PushStep { chunk: chunk.ptr, source: None, len });
        };
        let store = u64::from(layout.store.unwrap_or(1));
        let misaligned = || RunError::Misaligned { layout: layout.name.clone(), store: store as usize };
        let at = device.from_offset;
        let window = match chunk.extent {
            Extent::Buffer(_) if layout.fixed => {
                let what = "reading a buffer (give the device's address and a length instead)";
                return Err(RunError::Layout { layout: layout.name.clone(), what });
            }
            Extent::Buffer(len) => {
                let end = at.checked_add(len as u64).ok_or(RunError::TooLong)?;
                // Stripes and holes are whole accesses, so that these are the same in the buffer and in the
                // stream.
                let first = at.next_multiple_of(store).min(end);
                let last = (end - end % store).max(first);
                // What lies in a hole is nobody's.
                let in_data = |from: u64, to: u64| {
                    if ends::stream_bytes(layout, to) > ends::stream_bytes(layout, from) {
                        (to - from) as usize
                    } else {
                        0
                    }
                };
                let whole = ends::stream_bytes(layout, last) - ends::stream_bytes(layout, first);
                SourceSpan {
                    layout,
                    accesses: (first, last),
                    head: in_data(at, first),
                    tail: in_data(last, end),
                    end,
                    whole: whole as usize + device.from.held,
                }
            }
            Extent::Stream(len) => {
                if device.part_len > 0 {
                    return Err(misaligned());
                }
                // All that the last access has not given yet comes first.
                let more = (len as u64).saturating_sub(device.from.held as u64);
                let behind =
                    device.from.at.checked_add(more).and_then(|at| at.checked_next_multiple_of(store));
                let end = match layout.fixed {
                    true => Some(0),
                    false if more == 0 => Some(at),
                    false => behind.and_then(|behind| ends::extent(layout, behind)),
                };
                let end = end.ok_or(RunError::TooLong)?;
                SourceSpan { layout, accesses: (at, end), head: 0, tail: 0, end, whole: len }
            }
        };
        let accessed = window.whole.saturating_sub(device.from.held);
        // Where the buffer would begin is as aligned as every access.
        let base = if layout.fixed { chunk.ptr } else { chunk.ptr.wrapping_sub(at as usize) };
        ends::check_alignment(layout, base, accessed)?;
        let completes = window.head > 0 && device.part_len + window.head == store as usize;
        let len = window.whole + if completes { store as usize } else { 0 };
        Ok(PushStep { chunk: chunk.ptr, source: Some(window), len })
    }

    /// Bytes of the stream that a chunk completes; `None` for one that is refused.
    pub(super) fn step_len(&self, extent: Extent) -> Option<usize> {
        let Some(device) = &self.device else {
            let (Extent::Buffer(len) | Extent::Stream(len)) = extent;
            return Some(len);
        };
        // Where the chunk would be if the buffer were aligned: only the bytes are counted.
        let ptr = std::ptr::null::<u8>().wrapping_add(device.from_offset as usize);
        self.step(device, &self.engine.program, DeviceChunk { ptr, extent }).ok().map(|step| step.len)
    }

    /// Takes a chunk through the pipeline to `out`, if any, and gives by how much the next one begins behind
    /// it.
    ///
    /// # Safety
    /// The chunk is readable; `out` is writable for its `len`, and they do not overlap.
    pub(super) unsafe fn push_device(
        &mut self,
        chunk: DeviceChunk,
        out: Option<Out>,
    ) -> Result<usize, RunError> {
        let engine = self.engine.clone();
        let program = &*engine.program;
        let Some(mut device) = self.device.take() else { return Ok(0) };
        // SAFETY: the caller's promise.
        let result = unsafe { self.push_with(&mut device, program, chunk, out) };
        self.device = Some(device);
        result
    }

    /// # Safety
    /// That of [`Stream::push_device`].
    unsafe fn push_with(
        &mut self,
        device: &mut Device,
        program: &Program,
        chunk: DeviceChunk,
        out: Option<Out>,
    ) -> Result<usize, RunError> {
        let step = self.step(device, program, chunk)?;
        let output = if out.is_some() { OutputMode::Wanted } else { OutputMode::Unwanted };
        if let Some(layout) = &program.composition.sink
            && self.output != OutputMode::Undecided
            && self.output != output
        {
            let what = "writing a part of a stream";
            return Err(RunError::Layout { layout: layout.name.clone(), what });
        }
        let read = self.read.checked_add(step.len as u64).ok_or(RunError::TooLong)?;
        let (before, needed) = match (&program.composition.sink, out) {
            (Some(layout), Some(out)) => {
                let needed = device.room(layout, read).ok_or(RunError::TooLong)?;
                if !out.is_memory {
                    ends::check_alignment(layout, out.ptr, needed)?;
                }
                if needed > out.len {
                    return Err(RunError::ShortDestination { needed, have: out.len });
                }
                (device.sink_offset(layout), needed)
            }
            (None, Some(out)) => {
                let needed = self.waiting().checked_add(step.len).ok_or(RunError::TooLong)?;
                if needed > out.len {
                    return Err(RunError::ShortDestination { needed, have: out.len });
                }
                (0, needed)
            }
            (_, None) => (0, 0),
        };
        if let (Extent::Stream(_), Some(out)) = (chunk.extent, out)
            && overlap(chunk.ptr, step.extent(device), out.ptr, needed)
        {
            return Err(RunError::Overlap);
        }
        if self.output != OutputMode::Wanted {
            self.output = output;
        }
        let ready = self.waiting() + step.len;
        let (mut layout_sink, mut memory_sink);
        // SAFETY: the chunk was found to hold what the step says, and `out` to have room for it.
        unsafe {
            match (&program.composition.sink, out) {
                (Some(layout), Some(out)) => {
                    layout_sink = device.sink(layout, out);
                    self.feed_step(device, program, step, Some(&mut layout_sink));
                    device.to = layout_sink.access();
                }
                (None, Some(out)) => {
                    memory_sink = PieceCursor::new([Piece { ptr: out.ptr, len: out.len }]);
                    self.feed_step(device, program, step, Some(&mut memory_sink));
                }
                (_, None) => self.feed_step(device, program, step, None),
            }
        }
        self.read = read;
        Ok(match (&program.composition.sink, out) {
            (_, None) => {
                self.written = read;
                0
            }
            (Some(layout), Some(_)) => {
                self.written = device.stored();
                (device.sink_offset(layout) - before) as usize
            }
            (None, Some(_)) => {
                self.written = read - self.waiting() as u64;
                ready - self.waiting()
            }
        })
    }

    /// # Safety
    /// The chunk is readable for what `step` found in it; the sink takes that and what is held back.
    unsafe fn feed_step(
        &mut self,
        device: &mut Device,
        program: &Program,
        step: PushStep<'_>,
        mut sink: Option<&mut dyn Sink>,
    ) {
        let PushStep { chunk, source, len } = step;
        let Hold::Staged { area, staging } = &mut self.hold else {
            debug_assert!(false, "streams with layouts are staged");
            return;
        };
        let (area, progress) = (area.as_mut_ptr(), &mut self.progress);
        let mut feed = |source: &mut dyn Source, len: usize| {
            if len > 0 {
                let sink = sink.as_mut().map(|sink| &mut **sink as &mut dyn Sink);
                // SAFETY: `area` has `STAGING` bytes, the source `len`; the rest is the caller's promise.
                unsafe { staging.feed(progress, program, area, source, sink, len, false) };
            }
        };
        let Some(window) = source else {
            return feed(&mut PieceCursor::new([Piece { ptr: chunk.cast_mut(), len }]), len);
        };
        let SourceSpan { layout, accesses: (first, last), head, tail, end, whole } = window;
        let store = usize::from(layout.store.unwrap_or(1));
        let at = device.from_offset;
        // SAFETY: head and tail are the ends of the chunk, and each part of one access.
        unsafe {
            device.part.as_mut_ptr().add(device.part_len).copy_from_nonoverlapping(chunk, head);
            device.part_len += head;
            if head > 0 && device.part_len == store {
                feed(&mut PieceCursor::new([Piece { ptr: device.part.as_mut_ptr(), len: store }]), store);
                device.from.at += store as u64;
                device.part_len = 0;
            }
            let base = if layout.fixed { chunk } else { chunk.wrapping_sub(at as usize) };
            let mut source = LayoutSource::resumed(layout, base, device.from);
            feed(&mut source, whole);
            device.from = source.access();
            if tail > 0 {
                let from = chunk.add((last - at) as usize);
                device.part.as_mut_ptr().copy_from_nonoverlapping(from, tail);
                device.part_len = tail;
            }
        }
        debug_assert!(layout.fixed || first <= last);
        device.from_offset = end;
    }
}

/// Whether two stretches of memory have bytes in common.
pub(super) fn overlap(a: *const u8, a_len: usize, b: *const u8, b_len: usize) -> bool {
    let (a, b) = (a as usize, b as usize);
    a_len > 0 && b_len > 0 && a < b.saturating_add(b_len) && b < a.saturating_add(a_len)
}
