//! Runs of an engine with frames at its ends: window by window, the fields between.

use super::Prepared;
use crate::backend::{self, MAX_CALL_BYTES};
use crate::drive::Progress;
use crate::error::RunError;
use crate::framing::{Exports, FramePlan, Results};
use crate::run::{Run, WindowList, WindowLists};

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
        if let Some(sink) = sink {
            sink.check_whole(len as u64)?;
        }
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
        // SAFETY: the caller's promise.
        if let Some(outcome) = unsafe { self.window_calls(ends, places) } {
            return outcome;
        }
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
            // SAFETY: the caller's promise; the stream has come as far as `end`.
            unsafe { self.between_windows(ends, places, end, last, &progress) }?;
            if last {
                break;
            }
            start = end;
        }
        let written = if ends.dst.is_null() { 0 } else { ends.len };
        Ok(self.outcome_of(progress, ends.len, written))
    }

    /// Compares and writes the fields of the windows that end at `end`.
    ///
    /// # Safety
    /// As for [`Prepared::windows`], whose passes have got as far as `end`.
    unsafe fn between_windows(
        self,
        ends: Ends<'_>,
        places: (Option<&FramePlan>, Option<&FramePlan>),
        end: usize,
        last: bool,
        progress: &Progress,
    ) -> Result<(), RunError> {
        let program = self.program;
        let complete = |plan: &&FramePlan| last || (end as u64).is_multiple_of(plan.window);
        let (registers, exports) = (&*progress.registers, Exports::Taken(program, progress));
        if let Some(plan) = ends.source.filter(complete)
            && let Some((index, length)) = plan.window_before(end as u64)
        {
            let results = Results { index, length, registers, exports };
            let start = end - length as usize;
            // SAFETY: the fields stand around the window's data.
            unsafe { self.compare(ends, places.1, plan, start, results) }?;
        }
        if let Some(plan) = ends.sink.filter(complete)
            && let Some((index, length)) = plan.window_before(end as u64)
        {
            let results = Results { index, length, registers, exports };
            let data = place(ends.sink, end - length as usize);
            // SAFETY: the fields stand around the window's data.
            unsafe { write(ends.dst.wrapping_add(data), plan, results) };
        }
        Ok(())
    }

    /// Compares the fields around a window of the source, whose data begin at `start`; what the sink got of a
    /// bad one is taken back.
    ///
    /// # Safety
    /// The fields stand around the window's data, and the sink has that data where `to` puts it.
    unsafe fn compare(
        self,
        ends: Ends<'_>,
        to: Option<&FramePlan>,
        plan: &FramePlan,
        start: usize,
        results: Results<'_>,
    ) -> Result<(), RunError> {
        let (index, length) = (results.index, results.length);
        let data = ends.src.wrapping_add(place(ends.source, start));
        // SAFETY: the caller's promise.
        let checked = unsafe {
            let head = std::slice::from_raw_parts(data.sub(plan.head), plan.head);
            let foot = std::slice::from_raw_parts(data.add(length as usize), plan.foot);
            plan.check(head, foot, results)
        };
        checked.map_err(|wrong| {
            if !std::ptr::eq(ends.src, ends.dst) || self.program.modifies {
                // SAFETY: the caller's promise.
                unsafe { Ends { sink: to, ..ends }.wipe(start, start + length as usize) };
            }
            plan.mismatch(&wrong, index, length)
        })
    }

    /// [`Prepared::windows`] where each window is one call of the code of one pass: that all stages have it,
    /// and the frame alone cuts the stream. `None`, with nothing done, if it is not so.
    ///
    /// # Safety
    /// As there.
    unsafe fn window_calls(
        self,
        ends: Ends<'_>,
        places: (Option<&FramePlan>, Option<&FramePlan>),
    ) -> Option<Result<Run<'e>, RunError>> {
        let program = self.program;
        let plan = match (ends.source, ends.sink) {
            (Some(plan), None) | (None, Some(plan)) => plan,
            _ => return None,
        };
        let [pass] = &*program.passes else { return None };
        let [window] = &*pass.windows else { return None };
        let all = window.stages.len() == program.composition.stages.len() && pass.digest.is_none();
        let wanted = window.bytes == plan.window && plan.window <= MAX_CALL_BYTES as u64;
        if !all || !wanted || ends.src.is_null() || (ends.dst.is_null() && program.modifies) {
            return None;
        }
        let size = plan.window as usize;
        let in_place = std::ptr::eq(ends.src, ends.dst);
        let reads_only = ends.dst.is_null() || (in_place && !pass.modifies);
        let streams = ends.len >= program.streaming_from;
        let entry = pass.code.entry().filter(|entry| !reads_only && !streams && size <= entry.longest);
        let mut registers = self.initial.clone();
        // Parameters of the frame stand behind the registers of the stages.
        let states = program.composition.stages.iter().map(|stage| stage.pipe.states.len()).sum::<usize>();
        let count = plan.frame.windows(ends.len as u64) as usize;
        let room = Run::room_for_windows(program, count);
        let mut windows = WindowLists::new();
        if room.is_none() {
            windows.extend(program.exports.iter().map(|_| WindowList::with_capacity(count)));
        }
        let (head, step) = (plan.head, size + plan.head + plan.foot);
        let at_end = |framed: Option<&FramePlan>| framed.map_or((0, size), |_| (head, step));
        let ((from_head, from_step), (to_head, to_step)) = (at_end(places.0), at_end(places.1));
        let (mut from, mut to) = (ends.src.wrapping_add(from_head), ends.dst.wrapping_add(to_head));
        for index in 0..count {
            let start = index * size;
            let n = size.min(ends.len - start);
            let dst = if reads_only { std::ptr::null_mut() } else { to };
            // SAFETY: the caller's promise; `n` bytes of data lie at both ends, and the registers are the
            // pass's.
            unsafe {
                let states = registers.as_mut_ptr();
                match entry {
                    Some(entry) => (entry.function)(states, 0, from, dst, n),
                    None if streams => pass.code.run_streaming(states, 0, from, dst, n),
                    None => pass.code.run(states, 0, from, dst, n),
                }
            }
            match room {
                Some(first) => {
                    for (number, expr) in program.export_exprs.iter().enumerate() {
                        registers[first + number * count + index] = expr.value(&registers);
                    }
                }
                None => {
                    for (list, expr) in windows.iter_mut().zip(&program.export_exprs) {
                        list.push(expr.value(&registers));
                    }
                }
            }
            let results = Results {
                index: index as u64,
                length: n as u64,
                registers: &registers,
                exports: Exports::Registers(program),
            };
            // SAFETY: the fields stand around the window's data.
            unsafe {
                if ends.sink.is_some() {
                    write(to, plan, results);
                } else if let Err(error) = self.compare(ends, places.1, plan, start, results) {
                    return Some(Err(error));
                }
            }
            registers[..states].copy_from_slice(&self.initial[..states]);
            (from, to) = (from.wrapping_add(from_step), to.wrapping_add(to_step));
        }
        if streams {
            backend::settle();
        }
        let written = if ends.dst.is_null() { 0 } else { ends.len };
        Some(Ok(match room {
            Some(_) => Run::of_windows(program, ends.len, written, registers, count),
            None => Run::new(program, ends.len, written, registers, windows),
        }))
    }
}

/// Writes the fields around a window whose data begin at `data`.
///
/// # Safety
/// They stand there, and are writable.
#[inline]
unsafe fn write(data: *mut u8, plan: &FramePlan, results: Results<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        let head = std::slice::from_raw_parts_mut(data.sub(plan.head), plan.head);
        let foot = std::slice::from_raw_parts_mut(data.add(results.length as usize), plan.foot);
        plan.write(Some(head), Some(foot), results);
    }
}
