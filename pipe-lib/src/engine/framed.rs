//! Runs of an engine with frames at its ends: window by window, the fields between.

use super::Prepared;
use crate::drive::Progress;
use crate::error::RunError;
use crate::framing::{Exports, FramePlan, Results};
use crate::run::Run;

/// What a framed run reads and writes.
#[derive(Clone, Copy)]
struct Ends<'a> {
    source: Option<&'a FramePlan>,
    sink: Option<&'a FramePlan>,
    /// The buffer with the data and, if there is a frame, its fields; null for zeros.
    src: *const u8,
    /// Likewise; null for reading only.
    dst: *mut u8,
    /// Bytes of the stream.
    len: usize,
}

/// Where byte `at` of the stream lies.
fn place(plan: Option<&FramePlan>, at: usize) -> usize {
    plan.map_or(at, |plan| plan.frame.offset(at as u64) as usize)
}

impl Ends<'_> {
    /// The end of the stretch from `at` on that no frame cuts.
    fn boundary(&self, at: usize) -> usize {
        let ends = self.source.iter().chain(&self.sink).map(|plan| plan.boundary(at as u64));
        ends.min().map_or(self.len, |end| usize::try_from(end).map_or(self.len, |end| end.min(self.len)))
    }

    /// Takes back what was written of the stream from offset `from` up to `to`.
    ///
    /// # Safety
    /// `dst` is writable for it.
    unsafe fn wipe(&self, from: usize, to: usize) {
        if !self.dst.is_null() && from < to {
            let (from, to) = (place(self.sink, from), place(self.sink, to - 1) + 1);
            // SAFETY: the caller's promise.
            unsafe { self.dst.add(from).write_bytes(0, to - from) };
        }
    }
}

impl<'e> Prepared<'e> {
    fn frames(self) -> (Option<&'e FramePlan>, Option<&'e FramePlan>) {
        (self.program.source_frame.as_ref(), self.program.sink_frame.as_ref())
    }

    /// Refuses a use that does not go with frames.
    pub(super) fn refuse_frames(self, what: &'static str) -> Result<(), RunError> {
        let (source, sink) = self.frames();
        source.or(sink).map_or(Ok(()), |plan| Err(plan.refuse(what)))
    }

    /// Bytes of the stream in a source of `have` bytes, if a run takes so many.
    fn framed_stream(self, have: usize) -> Result<usize, RunError> {
        let (source, sink) = self.frames();
        let len = source.map_or(Ok(have), |plan| plan.stream_len(have))?;
        if let Some(plan) = sink {
            plan.check_whole(len as u64)?;
        }
        self.program.check_length(len as u64)?;
        Ok(len)
    }

    /// Bytes that the destination needs.
    fn framed_room(self, len: usize) -> Result<usize, RunError> {
        let sink = self.frames().1;
        sink.map_or(Some(len), |plan| plan.framed_len(len)).ok_or(RunError::TooLong)
    }

    /// [`Prepared::run`] between frames.
    pub(super) fn run_framed(self, src: &[u8], dst: &mut [u8]) -> Result<Run<'e>, RunError> {
        let len = self.framed_stream(src.len())?;
        let needed = self.framed_room(len)?;
        if dst.len() < needed {
            return Err(RunError::ShortDestination { needed, have: dst.len() });
        }
        let (source, sink) = self.frames();
        let ends = Ends { source, sink, src: src.as_ptr(), dst: dst.as_mut_ptr(), len };
        // SAFETY: both have the bytes that were found to be needed; slices do not overlap.
        let mut run = unsafe { self.between(ends) }?;
        run.written = needed;
        Ok(run)
    }

    /// [`Prepared::run_in_place`]: the buffer is the framed one, whichever end the frame is at.
    pub(super) fn run_framed_in_place(self, buf: &mut [u8]) -> Result<Run<'e>, RunError> {
        let (source, sink) = self.frames();
        if let (Some(one), Some(other)) = (source, sink)
            && !one.frame.same_places(&other.frame)
        {
            return Err(other.refuse("running in place, from a frame with other places"));
        }
        let plan = source.or(sink);
        let len = plan.map_or(Ok(buf.len()), |plan| plan.stream_len(buf.len()))?;
        self.program.check_length(len as u64)?;
        let ptr = buf.as_mut_ptr();
        // Where only one end has a frame, data stay in its places at the other end, too.
        let ends = Ends { source, sink, src: ptr, dst: ptr, len };
        // SAFETY: the buffer has the stream's bytes and the fields, and is the same at both ends.
        let mut run = unsafe { self.in_places(ends, plan) }?;
        run.written = buf.len();
        Ok(run)
    }

    /// [`Prepared::run_read_only`]: fields at the start are compared, those at the end left out.
    pub(super) fn run_framed_read_only(self, src: &[u8]) -> Result<Run<'e>, RunError> {
        let len = self.framed_stream(src.len())?;
        let source = self.frames().0;
        let ends = Ends { source, sink: None, src: src.as_ptr(), dst: std::ptr::null_mut(), len };
        // SAFETY: `src` has the stream's bytes and the fields.
        unsafe { self.between(ends) }
    }

    /// [`Prepared::run_write_only`]: a stream of zeros, no fields taken out.
    pub(super) fn run_framed_write_only(self, len: usize, dst: &mut [u8]) -> Result<Run<'e>, RunError> {
        let sink = self.frames().1;
        if let Some(plan) = sink {
            plan.check_whole(len as u64)?;
        }
        self.program.check_length(len as u64)?;
        let needed = self.framed_room(len)?;
        if dst.len() < needed {
            return Err(RunError::ShortDestination { needed, have: dst.len() });
        }
        let ends = Ends { source: None, sink, src: std::ptr::null(), dst: dst.as_mut_ptr(), len };
        // SAFETY: `dst` has the bytes that were found to be needed.
        let mut run = unsafe { self.between(ends) }?;
        (run.read, run.written) = (0, needed);
        Ok(run)
    }

    /// [`Prepared::run_raw`]: `len` bytes of the stream; the same address at both ends is in place.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn run_framed_raw(
        self,
        src: *const u8,
        len: usize,
        dst: *mut u8,
    ) -> Result<Run<'e>, RunError> {
        let (source, sink) = self.frames();
        let extent = source.map_or(Some(len), |plan| plan.framed_len(len)).ok_or(RunError::TooLong)?;
        self.framed_stream(extent)?;
        let written = if dst.is_null() { 0 } else { self.framed_room(len)? };
        // SAFETY: the caller's promise, for each of the slices.
        unsafe {
            if std::ptr::eq(src, dst) && !dst.is_null() {
                let buffer = if extent.max(written) == 0 { 0 } else { extent.max(written) };
                return self.run_framed_in_place(std::slice::from_raw_parts_mut(dst, buffer));
            }
            let (from, to) = (src as usize, dst as usize);
            let apart = from.saturating_add(extent) <= to || to.saturating_add(written) <= from;
            if !apart && written != 0 && extent != 0 {
                return Err(RunError::Overlap);
            }
            let ends = Ends { source, sink: sink.filter(|_| !dst.is_null()), src, dst, len };
            let mut run = self.between(ends)?;
            run.written = written;
            Ok(run)
        }
    }

    /// # Safety
    /// The ends have the stream's bytes and the fields, and do not overlap.
    unsafe fn between(self, ends: Ends<'_>) -> Result<Run<'e>, RunError> {
        let places = (ends.source, ends.sink);
        // SAFETY: the caller's promise.
        unsafe { self.windows(ends, places) }
    }

    /// # Safety
    /// The ends are one buffer, with the stream's bytes and the fields as `plan` puts them.
    unsafe fn in_places(self, ends: Ends<'_>, plan: Option<&FramePlan>) -> Result<Run<'e>, RunError> {
        // SAFETY: the caller's promise.
        unsafe { self.windows(ends, (plan, plan)) }
    }

    /// Window by window: the passes from where the data lie at one end to where they lie at the other, as
    /// `places` has them; then fields are compared, and written.
    ///
    /// # Safety
    /// The ends have the stream's bytes and the fields there, and are the same or do not overlap.
    unsafe fn windows(
        self,
        ends: Ends<'_>,
        places: (Option<&FramePlan>, Option<&FramePlan>),
    ) -> Result<Run<'e>, RunError> {
        let program = self.program;
        let mut progress = Progress::new(program, self.initial).of_transfer(program, ends.len);
        let mut start = 0;
        loop {
            let end = ends.boundary(start);
            let (last, n) = (end == ends.len, end - start);
            let to = match ends.dst.is_null() {
                true => ends.dst,
                false => ends.dst.wrapping_add(place(places.1, start)),
            };
            // SAFETY: `n` bytes of data lie at both ends between fields; words end with windows, so that all
            // passes have got as far as `start`.
            unsafe {
                if ends.src.is_null() {
                    progress.zeros(program, to, start as u64, n, last);
                } else {
                    let from = ends.src.wrapping_add(place(places.0, start));
                    progress.part(program, from, to, start as u64, n, last);
                }
            }
            if last {
                progress.finish(program);
            }
            let complete = |plan: &&FramePlan| last || (end as u64).is_multiple_of(plan.window);
            if let Some(plan) = ends.source.filter(complete)
                && let Some((index, length)) = plan.window_before(end as u64)
            {
                let results = Results {
                    index,
                    length,
                    registers: &progress.registers,
                    exports: Exports::Taken(program, &progress),
                };
                let data = place(ends.source, end - length as usize);
                // SAFETY: the fields stand around the window's data.
                let checked = unsafe {
                    let head = std::slice::from_raw_parts(ends.src.add(data - plan.head), plan.head);
                    let foot = std::slice::from_raw_parts(ends.src.add(data + length as usize), plan.foot);
                    plan.check(head, foot, results)
                };
                if let Err(wrong) = checked {
                    if !std::ptr::eq(ends.src, ends.dst) || program.modifies {
                        let places = Ends { sink: places.1, ..ends };
                        // SAFETY: what was written of this window.
                        unsafe { places.wipe(end - length as usize, end) };
                    }
                    return Err(plan.mismatch(&wrong, index, length));
                }
            }
            if let Some(plan) = ends.sink.filter(complete)
                && let Some((index, length)) = plan.window_before(end as u64)
            {
                let results = Results {
                    index,
                    length,
                    registers: &progress.registers,
                    exports: Exports::Taken(program, &progress),
                };
                let data = place(ends.sink, end - length as usize);
                // SAFETY: the fields stand around the window's data.
                unsafe {
                    let head = std::slice::from_raw_parts_mut(ends.dst.add(data - plan.head), plan.head);
                    let foot = ends.dst.add(data + length as usize);
                    let foot = std::slice::from_raw_parts_mut(foot, plan.foot);
                    plan.write(Some(head), Some(foot), results);
                }
            }
            if last {
                break;
            }
            start = end;
        }
        let written = if ends.dst.is_null() { 0 } else { ends.len };
        Ok(self.outcome_of(progress, ends.len, written))
    }
}
