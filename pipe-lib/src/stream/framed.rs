//! Streams with frames at their ends: fields are taken out of what comes, and put into what goes.
//!
//! What may be the foot of a last window waits until more of the stream is there. Output waits where the head
//! of its window is known only when the window ends, and, if windows are held back, until all fields of its
//! window were found to be good.

use super::device::Out;
use super::{OutputMode, Stream};
use crate::error::RunError;
use crate::framing::{Exports, FramePlan, Results};
use crate::program::Program;
use crate::run::Run;
use smallvec::SmallVec;
use std::sync::Arc;

/// What a stream knows of its frames.
#[derive(Clone, Default)]
pub(super) struct Framed {
    /// Bytes that came, fields and all.
    pub(super) raw: u64,
    /// The fields of the source's window that is under way, and its bytes of data that the passes have taken.
    head: SmallVec<[u8; 32]>,
    /// Its last bytes, which may be its foot.
    tail: SmallVec<[u8; 32]>,
    data: u64,
    /// Number of that window.
    index: u64,
    /// The sink's window that is under way: whether its head was made, its bytes of data, its number.
    is_open: bool,
    put: u64,
    put_index: u64,
    /// Where that window begins in `pending`.
    begins: usize,
    /// Output that waits.
    pending: Vec<u8>,
    /// Bytes of it in windows of the source that are good, and in windows of the sink that are complete.
    good: usize,
    complete: usize,
    pub(super) hold_back: bool,
    /// What the stream ended with.
    error: Option<RunError>,
}

/// Where output goes.
struct Destination<'o> {
    /// Nobody wants any if there is none.
    out: Option<&'o mut [u8]>,
    written: usize,
}

impl Framed {
    /// Bytes that came and were given to nobody yet, of the stream or of its fields.
    pub(super) fn held(&self) -> usize {
        self.pending.len() + self.tail.len()
    }

    /// Bytes that may be data when `len` more have come.
    pub(super) fn coming(&self, len: usize) -> Option<u64> {
        (self.tail.len() as u64).checked_add(len as u64)
    }
}

/// Whether output waits for more than its words.
fn waits(framed: &Framed, program: &Program) -> bool {
    (framed.hold_back && program.source_frame.is_some())
        || program.sink_frame.as_ref().is_some_and(|plan| plan.late_head)
}

impl Stream {
    /// Bytes of output that a stream of `len` bytes comes to at most, fields included.
    pub(super) fn framed_bound(&self, len: u64) -> Option<u64> {
        match &self.engine.program.sink_frame {
            Some(plan) => plan.frame.framed_len(len),
            None => Some(len),
        }
    }

    /// [`Stream::push`], or without `out` [`Stream::push_read_only`], between frames.
    pub(super) fn push_framed(&mut self, chunk: &[u8], out: Option<&mut [u8]>) -> Result<usize, RunError> {
        let framed = self.framed.as_ref().expect("a stream with frames");
        if let Some(error) = &framed.error {
            return Err(error.clone());
        }
        if let Some(out) = &out {
            let needed = self.room(chunk.len()).ok_or(RunError::TooLong)?;
            if out.len() < needed {
                return Err(RunError::ShortDestination { needed, have: out.len() });
            }
        }
        self.output = match (self.output, &out) {
            (_, Some(_)) => OutputMode::Wanted,
            (OutputMode::Undecided, None) => OutputMode::Unwanted,
            (mode, None) => mode,
        };
        let mut target = Destination { out, written: 0 };
        let taken = self.take(chunk, &mut target);
        self.release(&mut target);
        self.written += target.written as u64;
        taken.inspect_err(|error| self.framed_mut().error = Some(error.clone()))?;
        Ok(target.written)
    }

    fn framed_mut(&mut self) -> &mut Framed {
        self.framed.as_mut().expect("a stream with frames")
    }

    /// Takes the fields out of a chunk and gives the rest to the passes.
    fn take(&mut self, chunk: &[u8], target: &mut Destination<'_>) -> Result<(), RunError> {
        self.framed_mut().raw += chunk.len() as u64;
        let program = Arc::clone(&self.engine.program);
        let Some(plan) = &program.source_frame else {
            self.give(&program, chunk, target);
            return Ok(());
        };
        let mut rest = chunk;
        loop {
            let framed = self.framed_mut();
            let missing = (plan.head - framed.head.len()).min(rest.len());
            framed.head.extend_from_slice(&rest[..missing]);
            rest = &rest[missing..];
            if rest.is_empty() {
                return Ok(());
            }
            // Of what is here, all but what may be the foot is data.
            let here = framed.tail.len() + rest.len();
            let left = usize::try_from(plan.window - framed.data).unwrap_or(usize::MAX);
            let data = here.saturating_sub(plan.foot).min(left);
            let from_tail = data.min(framed.tail.len());
            framed.data += data as u64;
            if from_tail > 0 {
                let waited: SmallVec<[u8; 32]> = framed.tail.drain(..from_tail).collect();
                self.give(&program, &waited, target);
            }
            let (now, after) = rest.split_at(data - from_tail);
            self.give(&program, now, target);
            let framed = self.framed_mut();
            let foot = (plan.foot - framed.tail.len()).min(after.len());
            framed.tail.extend_from_slice(&after[..foot]);
            rest = &after[foot..];
            if framed.data == plan.window && framed.tail.len() == plan.foot {
                self.compare(&program, plan)?;
            }
        }
    }

    /// Data, to the passes and behind them to the target, cut where the sink's windows end.
    fn give(&mut self, program: &Program, data: &[u8], target: &mut Destination<'_>) {
        let mut rest = data;
        while !rest.is_empty() {
            let n = match &program.sink_frame {
                Some(plan) => {
                    self.open(program, plan, target);
                    let left = plan.window - self.framed_mut().put;
                    rest.len().min(usize::try_from(left).unwrap_or(usize::MAX))
                }
                None => rest.len(),
            };
            let (now, after) = rest.split_at(n);
            rest = after;
            self.run_to(program, now, target);
            if let Some(plan) = &program.sink_frame {
                let framed = self.framed_mut();
                framed.put += n as u64;
                if framed.put == plan.window {
                    self.close(program, plan, target);
                }
            }
        }
    }

    /// Runs the passes over a stretch of data.
    fn run_to(&mut self, program: &Program, data: &[u8], target: &mut Destination<'_>) {
        let room = self.waiting() + data.len();
        let waits = waits(self.framed_mut(), program);
        match &mut target.out {
            None => {
                self.feed(data, None);
            }
            Some(_) if waits => {
                let mut pending = std::mem::take(&mut self.framed_mut().pending);
                let start = pending.len();
                pending.resize(start + room, 0);
                let written = self.feed(data, Some(&mut pending[start..]));
                pending.truncate(start + written);
                self.framed_mut().pending = pending;
            }
            Some(out) => target.written += self.feed(data, Some(&mut out[target.written..])),
        }
    }

    /// Begins a window of the sink, if none is under way.
    fn open(&mut self, program: &Program, plan: &FramePlan, target: &mut Destination<'_>) {
        if std::mem::replace(&mut self.framed_mut().is_open, true) {
            return;
        }
        let framed = self.framed.as_mut().expect("a stream with frames");
        let waits = waits(framed, program);
        framed.begins = framed.pending.len();
        let head = match &mut target.out {
            None => return,
            Some(_) if waits => {
                framed.pending.resize(framed.begins + plan.head, 0);
                &mut framed.pending[framed.begins..]
            }
            Some(out) => {
                target.written += plan.head;
                &mut out[target.written - plan.head..target.written]
            }
        };
        // What is written too early, and wrong, is written once more when the window ends.
        let exports = Exports::Registers(program);
        let registers = &self.progress.registers;
        let results = Results { index: framed.put_index, length: 0, registers, exports };
        plan.write(Some(head), None, results);
    }

    /// Ends a window of the sink.
    fn close(&mut self, program: &Program, plan: &FramePlan, target: &mut Destination<'_>) {
        let framed = self.framed.as_mut().expect("a stream with frames");
        let exports = Exports::Taken(program, &self.progress);
        let (index, length) = (framed.put_index, framed.put);
        let results = Results { index, length, registers: &self.progress.registers, exports };
        let waits = waits(framed, program);
        match &mut target.out {
            None => {}
            Some(_) if waits => {
                let ends = framed.pending.len();
                framed.pending.resize(ends + plan.foot, 0);
                let (before, foot) = framed.pending.split_at_mut(ends);
                // A head that tells nothing of what follows was right when it was written, and may have gone
                // out since.
                let begins = framed.begins;
                let head = plan.late_head.then(|| &mut before[begins..begins + plan.head]);
                plan.write(head, Some(foot), results);
                framed.complete = framed.pending.len();
            }
            Some(out) => {
                let at = target.written;
                plan.write(None, Some(&mut out[at..at + plan.foot]), results);
                target.written += plan.foot;
            }
        }
        (framed.is_open, framed.put) = (false, 0);
        framed.put_index += 1;
    }

    /// Ends a window of the source: all of its bytes are there, and its exports are taken down.
    fn compare(&mut self, program: &Program, plan: &FramePlan) -> Result<(), RunError> {
        let framed = self.framed.as_mut().expect("a stream with frames");
        let exports = Exports::Taken(program, &self.progress);
        let (index, length) = (framed.index, framed.data);
        let results = Results { index, length, registers: &self.progress.registers, exports };
        let checked = plan.check(&framed.head, &framed.tail, results);
        checked.map_err(|wrong| plan.mismatch(&wrong, index, length))?;
        framed.head.clear();
        framed.tail.clear();
        framed.data = 0;
        framed.index += 1;
        framed.good = framed.pending.len();
        Ok(())
    }

    /// Gives out what has waited long enough.
    fn release(&mut self, target: &mut Destination<'_>) {
        let program = Arc::clone(&self.engine.program);
        let framed = self.framed_mut();
        let Some(out) = &mut target.out else { return };
        let mut ready = framed.pending.len();
        if framed.hold_back && program.source_frame.is_some() {
            ready = ready.min(framed.good);
        }
        if program.sink_frame.as_ref().is_some_and(|plan| plan.late_head) {
            ready = ready.min(framed.complete);
        }
        out[target.written..target.written + ready].copy_from_slice(&framed.pending[..ready]);
        target.written += ready;
        framed.pending.drain(..ready);
        framed.good = framed.good.saturating_sub(ready);
        framed.complete = framed.complete.saturating_sub(ready);
        framed.begins = framed.begins.saturating_sub(ready);
    }

    /// Refuses a stream that may not end here.
    pub(super) fn check_framed_end(&self) -> Result<(), RunError> {
        let Some(framed) = &self.framed else { return Ok(()) };
        if let Some(error) = &framed.error {
            return Err(error.clone());
        }
        let program = &self.engine.program;
        if let Some(plan) = &program.source_frame {
            let len = plan.frame.stream_len(framed.raw).map_err(|what| plan.wrong_length(what))?;
            plan.check_whole(len)?;
        }
        program.sink_frame.as_ref().map_or(Ok(()), |plan| plan.check_whole(self.read))
    }

    /// Ends a stream that may end: what the passes hold back, the last fields, and all that waits go to
    /// `out`, which has room for them.
    ///
    /// # Errors
    /// A last window that is bad: then nothing was written.
    pub(super) fn finish_framed(mut self, out: &mut [u8]) -> Result<Run<'static>, RunError> {
        let program = Arc::clone(&self.engine.program);
        let is_wanted = self.output != OutputMode::Unwanted;
        let mut target = Destination { out: is_wanted.then_some(out), written: 0 };
        if let Some(plan) = program.sink_frame.as_ref().filter(|plan| plan.frame.data.is_none()) {
            self.open(&program, plan, &mut target);
        }
        self.flush_to(&program, &mut target);
        self.progress.finish(&program);
        if let Some(plan) = &program.source_frame
            && (self.framed_mut().data > 0 || plan.frame.data.is_none())
            && let Err(error) = self.compare(&program, plan)
        {
            if let Some(out) = target.out {
                out.fill(0);
            }
            return Err(error);
        }
        if let Some(plan) = &program.sink_frame
            && self.framed_mut().is_open
        {
            self.close(&program, plan, &mut target);
        }
        let framed = self.framed_mut();
        (framed.good, framed.complete) = (framed.pending.len(), framed.pending.len());
        self.release(&mut target);
        let written = self.written + target.written as u64;
        Ok(self.outcome(written))
    }

    /// What the passes hold back, now that nothing follows.
    fn flush_to(&mut self, program: &Program, target: &mut Destination<'_>) {
        let room = self.waiting();
        let waits = waits(self.framed_mut(), program);
        match &mut target.out {
            None => self.flush_slice(&mut []),
            Some(_) if waits => {
                let mut pending = std::mem::take(&mut self.framed_mut().pending);
                let start = pending.len();
                pending.resize(start + room, 0);
                self.flush_slice(&mut pending[start..]);
                self.framed_mut().pending = pending;
            }
            Some(out) => {
                self.flush_slice(&mut out[target.written..target.written + room]);
                target.written += room;
            }
        }
    }

    fn flush_slice(&mut self, to: &mut [u8]) {
        let out = Out { ptr: to.as_mut_ptr(), len: to.len(), is_memory: true };
        // SAFETY: `to` has room for what is wanted of what the passes hold back: all of it, or nothing.
        unsafe { self.flush(out, to.len(), None) };
    }
}
