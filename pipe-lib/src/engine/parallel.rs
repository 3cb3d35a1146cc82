//! One transfer on several cores: the stream is cut into parts that run at the same time, each on a thread
//! that lives as long as the call, and the states of the parts are joined afterwards. The result is the same
//! to the bit as on one core.
//!
//! What may be cut, and why the joined states are right, is in [`crate::plan::join`]; here are the cuts and
//! the threads.

use super::{Engine, Prepared};
use crate::compose::Stage;
use crate::drive::Progress;
use crate::error::RunError;
use crate::plan::join::{Orbit, Rules};
use crate::program::Program;
use crate::registers::Registers;
use crate::run::Run;
use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};

/// Fewest bytes of a part: starting and joining a thread takes some fifty microseconds, in which a core moves
/// 1 MB.
pub(super) const LEAST_PART: usize = 2 << 20;

/// Parts begin at a multiple of this where the windows allow it, so that stores that were aligned stay
/// aligned.
pub(super) const CACHE_LINE: u64 = 64;

/// Most bytes that are read once more before a cut, to find what a delay holds there.
const MAX_WARM_UP: u64 = 64 << 10;

impl Engine {
    /// [`Engine::run`] on up to `threads` threads, the caller's included, with the same result to the bit.
    ///
    /// The stream is cut into as many parts, of at least 2 MiB each, at ends of windows. A stream that is too
    /// short, or a pipeline that [`Engine::serial_because`] gives a reason for, runs on the caller's thread
    /// alone.
    pub fn run_parallel(&self, src: &[u8], dst: &mut [u8], threads: usize) -> Result<Run<'_>, RunError> {
        self.prepared().run_parallel(src, dst, threads)
    }

    /// [`Engine::run_in_place`] on up to `threads` threads; see [`Engine::run_parallel`].
    pub fn run_parallel_in_place(&self, buf: &mut [u8], threads: usize) -> Result<Run<'_>, RunError> {
        self.prepared().run_parallel_in_place(buf, threads)
    }

    /// [`Engine::run_read_only`] on up to `threads` threads; see [`Engine::run_parallel`].
    pub fn run_parallel_read_only(&self, src: &[u8], threads: usize) -> Result<Run<'_>, RunError> {
        self.prepared().run_parallel_read_only(src, threads)
    }

    /// Why a stream of `len` bytes cannot be cut into parts that run at the same time, whatever the number of
    /// threads; `None` if it can.
    ///
    /// The reason is a state that every word needs from the word before, such as that of a scan or of a hash
    /// by multiplication and exclusive or; unless its window (`per N`) is shorter than the stream, so that
    /// there are places where it starts anew. Layouts are a reason, too.
    ///
    /// What depends on imports is not looked at: a counter beyond its limit, and a state that does not depend
    /// on the stream, has no closed form and does not repeat within some thousand words is only found when
    /// running, which is then on one thread.
    pub fn serial_because(&self, len: u64) -> Option<String> {
        self.program
            .refuse_layouts("running on several threads")
            .err()
            .map(|error| error.to_string())
            .or_else(|| self.program.rules(len).find_map(|rules| rules.as_ref().err().cloned()))
    }
}

impl<'e> Prepared<'e> {
    /// [`Prepared::run`] on up to `threads` threads; see [`Engine::run_parallel`].
    pub fn run_parallel(self, src: &[u8], dst: &mut [u8], threads: usize) -> Result<Run<'e>, RunError> {
        self.run_parts(src, dst, threads, LEAST_PART)
    }

    /// [`Prepared::run_in_place`] on up to `threads` threads; see [`Engine::run_parallel`].
    pub fn run_parallel_in_place(self, buf: &mut [u8], threads: usize) -> Result<Run<'e>, RunError> {
        self.run_parts_in_place(buf, threads, LEAST_PART)
    }

    /// [`Prepared::run_read_only`] on up to `threads` threads; see [`Engine::run_parallel`].
    pub fn run_parallel_read_only(self, src: &[u8], threads: usize) -> Result<Run<'e>, RunError> {
        self.run_parts_read_only(src, threads, LEAST_PART)
    }

    pub(crate) fn run_parts(
        self,
        src: &[u8],
        dst: &mut [u8],
        threads: usize,
        least: usize,
    ) -> Result<Run<'e>, RunError> {
        if self.program.has_ends() || dst.len() < src.len() {
            return self.run(src, dst);
        }
        self.program.check_length(src.len() as u64)?;
        // SAFETY: `src` is readable and `dst` writable for `src.len()` bytes; slices do not overlap.
        match unsafe { self.parts(src.as_ptr(), dst.as_mut_ptr(), src.len(), threads, least) } {
            Some(run) => Ok(run),
            None => self.run(src, dst),
        }
    }

    pub(crate) fn run_parts_in_place(
        self,
        buf: &mut [u8],
        threads: usize,
        least: usize,
    ) -> Result<Run<'e>, RunError> {
        if self.program.has_frames() {
            return self.run_in_place(buf);
        }
        self.program.refuse_layouts("running in place")?;
        self.program.check_length(buf.len() as u64)?;
        let ptr = buf.as_mut_ptr();
        // SAFETY: `buf` is readable and writable; source and destination are the same.
        match unsafe { self.parts(ptr, ptr, buf.len(), threads, least) } {
            Some(run) => Ok(run),
            None => self.run_in_place(buf),
        }
    }

    pub(crate) fn run_parts_read_only(
        self,
        src: &[u8],
        threads: usize,
        least: usize,
    ) -> Result<Run<'e>, RunError> {
        if self.program.has_ends() {
            return self.run_read_only(src);
        }
        self.program.check_length(src.len() as u64)?;
        // SAFETY: `src` is readable; nothing is written.
        match unsafe { self.parts(src.as_ptr(), std::ptr::null_mut(), src.len(), threads, least) } {
            Some(run) => Ok(run),
            None => self.run_read_only(src),
        }
    }

    /// Runs in parts; `None`, with nothing done yet, if one thread has to do it all.
    ///
    /// # Safety
    /// `src` is readable and a `dst` that is not null writable for `len` bytes; they do not overlap in part.
    /// There are no layouts, and the tail rules take `len`.
    unsafe fn parts(
        self,
        src: *const u8,
        dst: *mut u8,
        len: usize,
        threads: usize,
        least: usize,
    ) -> Option<Run<'e>> {
        let program = self.program;
        let cut = Cut { program, initial: self.initial, total: len as u64 };
        let bytes = usize::try_from(cut.part_bytes(threads, least as u64)?).ok()?;
        let mut parts = Vec::with_capacity(len.div_ceil(bytes));
        let mut orbits: Vec<Orbit> = cut.stages().map(|_| Orbit::default()).collect();
        for at in (0..len).step_by(bytes) {
            // SAFETY: the source is readable for `len` bytes, and nothing has been written yet.
            let registers = unsafe { cut.start(src, at as u64, &mut orbits) }?;
            let progress = Progress::resumed(program, registers, self.initial, at as u64);
            let progress = progress.of_transfer(program, len);
            let len = bytes.min(len - at);
            let dst = if dst.is_null() { dst } else { dst.wrapping_add(at) };
            parts.push(PartialRun { src: src.wrapping_add(at), dst, at: at as u64, len, progress });
        }
        let parts = run_all(program, parts, threads, len as u64);
        let written = if dst.is_null() { 0 } else { len };
        Some(self.outcome(cut.joined(parts)?, len, written))
    }
}

impl Program {
    /// The rules for each stage whose states pass over cuts in a stream of `len` bytes.
    fn rules(&self, len: u64) -> impl Iterator<Item = &Result<Rules, String>> {
        let stages = self.composition.stages.iter();
        let all = self.rules.get_or_init(|| {
            let rules =
                |stage: &Stage| Rules::new(&stage.pipe).map_err(|why| format!("`{}`: {why}", stage.name));
            stages.clone().map(rules).collect()
        });
        all.iter().zip(stages).filter(move |(_, stage)| !restarts(stage.window, len)).map(|(rules, _)| rules)
    }
}

/// Whether a stage with that window starts anew at each cut: cuts are made where windows end, but for a
/// window that the stream does not fill there is nothing to cut at.
fn restarts(window: Option<NonZeroU64>, len: u64) -> bool {
    window.is_some_and(|window| window.get() <= len)
}

/// A stream to be cut.
pub(super) struct Cut<'a> {
    pub(super) program: &'a Program,
    pub(super) initial: &'a Registers,
    pub(super) total: u64,
}

impl Cut<'_> {
    /// Cuts may be at multiples of this many bytes: at whole loop words, and at ends of windows.
    pub(super) fn unit(&self) -> Option<u64> {
        let composition = &self.program.composition;
        let windows = composition.stages.iter().filter_map(|stage| stage.window);
        let windows = windows.map(NonZeroU64::get).filter(|window| *window <= self.total);
        windows.into_iter().try_fold(composition.gauge() as u64, lcm)
    }

    /// Bytes of each part but the last, if there is more than one.
    pub(super) fn part_bytes(&self, threads: usize, least: u64) -> Option<u64> {
        if threads <= 1 || self.total <= least {
            return None;
        }
        if self.program.rules(self.total).any(|rules| rules.is_err()) {
            return None;
        }
        let unit = self.unit()?;
        let aligned = lcm(unit, CACHE_LINE).filter(|aligned| *aligned <= least).unwrap_or(unit);
        let bytes = self.total.div_ceil(threads as u64).max(least).checked_next_multiple_of(aligned)?;
        (bytes < self.total).then_some(bytes)
    }

    /// The stages whose states pass over cuts: their place among the registers, and their rules.
    pub(super) fn stages(&self) -> impl Iterator<Item = (std::ops::Range<usize>, &Rules)> {
        let stages = self.program.composition.stages.iter().enumerate();
        let open = stages.filter(|(_, stage)| !restarts(stage.window, self.total));
        let rules = self.program.rules(self.total).flatten();
        open.map(|(index, _)| self.program.stage_registers(index)).zip(rules)
    }

    /// The registers of a part whose first byte is at offset `at`; `orbits` are those of [`Cut::stages`].
    ///
    /// # Safety
    /// The stream's first `at` bytes, unchanged, are readable at `src`.
    unsafe fn start(&self, src: *const u8, at: u64, orbits: &mut [Orbit]) -> Option<Registers> {
        let mut registers = self.initial.clone();
        if at == 0 {
            return Some(registers);
        }
        // Stages see what those before them made of the words, so their delays add up.
        let gauge = self.program.composition.gauge() as u64;
        let delay: u64 = self.stages().map(|(_, rules)| rules.delay_bytes().next_multiple_of(gauge)).sum();
        for ((range, rules), orbit) in self.stages().zip(&mut *orbits) {
            rules.start(&mut registers[range], at, orbit).ok()?;
        }
        if delay == 0 {
            return Some(registers);
        }
        let warm_up = delay.checked_next_multiple_of(self.unit()?).filter(|bytes| *bytes <= MAX_WARM_UP)?;
        let from = at.saturating_sub(warm_up);
        let mut before = self.initial.clone();
        if from != 0 {
            for ((range, rules), orbit) in self.stages().zip(orbits) {
                rules.start(&mut before[range], from, orbit).ok()?;
            }
        }
        let mut progress = Progress::resumed(self.program, before, self.initial, from);
        // SAFETY: `[from, at)` lies within what the caller promised.
        unsafe {
            let src = src.add(from as usize);
            progress.part(self.program, src, std::ptr::null_mut(), from, (at - from) as usize, false);
        }
        for (range, rules) in self.stages() {
            rules.take_delays(&mut registers[range.clone()], &progress.registers[range]);
        }
        Some(registers)
    }

    /// Where the last part has got, with the registers and windows of all.
    pub(super) fn joined(&self, parts: Vec<PartialRun>) -> Option<Progress> {
        let mut parts = parts.into_iter();
        let mut before = parts.next()?.progress;
        for PartialRun { len, mut progress, .. } in parts {
            for (range, rules) in self.stages() {
                let part = &mut progress.registers[range.clone()];
                rules.join(&before.registers[range], part, len as u64);
            }
            for (list, later) in before.windows.iter_mut().zip(&mut progress.windows) {
                list.append(later);
            }
            progress.windows = before.windows;
            before = progress;
        }
        Some(before)
    }
}

/// One part of the stream, on its way or done.
pub(super) struct PartialRun {
    src: *const u8,
    /// Null when nothing is written.
    dst: *mut u8,
    pub(super) at: u64,
    pub(super) len: usize,
    pub(super) progress: Progress,
}

impl PartialRun {
    /// One whose bytes are nowhere yet, and which writes nothing.
    pub(super) fn unread(at: u64, len: usize, progress: Progress) -> PartialRun {
        PartialRun { src: std::ptr::null(), dst: std::ptr::null_mut(), at, len, progress }
    }
}

// SAFETY: a part's bytes are borrowed by the call that all its threads end in, and no other part has them.
unsafe impl Send for PartialRun {}

/// Runs the parts of a stream of `total` bytes, the caller's thread among the `threads`; gives them in order.
fn run_all(program: &Program, parts: Vec<PartialRun>, threads: usize, total: u64) -> Vec<PartialRun> {
    // Whoever is free takes the next part: a thread that could not be started leaves its part to the others.
    let count = parts.len();
    let waiting = Mutex::new(parts.into_iter());
    let done = Mutex::new(Vec::with_capacity(count));
    let work = || {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(mut part) = next else { break };
            let last = part.at + part.len as u64 == total;
            // SAFETY: the caller of `parts` promised the bytes of the whole stream, of which these are one
            // part's.
            unsafe { part.progress.part(program, part.src, part.dst, part.at, part.len, last) };
            done.lock().unwrap_or_else(PoisonError::into_inner).push(part);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(count) {
            // Without memory for a thread, fewer do the work.
            let _ = std::thread::Builder::new().name("pipe".to_owned()).spawn_scoped(scope, work);
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|part| part.at);
    done
}

pub(super) fn lcm(a: u64, b: u64) -> Option<u64> {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x).checked_mul(b)
}

#[cfg(test)]
mod tests;
