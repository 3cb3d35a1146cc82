//! The driver: runs the passes of a plan over a transfer.
//!
//! What it does for the code of a pass: cuts stretches at the ends of windows, holds leftover bytes back
//! until their word is complete or the stream ends, runs several passes over L1-sized blocks, and joins words
//! that straddle the pieces of a gather or scatter list. It keeps the contract of [`PassCode`], and assumes
//! that lengths and overlaps were checked.

use crate::backend::{self, MAX_CALL_BYTES};
use crate::digest::DigestState;
use crate::ends::{PieceCursor, Pieces, Sink, Source};
use crate::program::{DigestPass, PassRun, Program};
use crate::registers::Registers;
use crate::run::{WindowList, WindowLists};
use smallvec::SmallVec;
use std::mem::MaybeUninit;

/// Bytes of a block when there are several passes: a source and a destination block fit in the first-level
/// cache.
pub(crate) const BLOCK: usize = 4096;

/// The same with digests of other crates among them: some fill their vectors with so many only.
pub(crate) const DIGEST_BLOCK: usize = 16 << 10;

/// Bytes of a staging area: a block, and what the passes of the longest pipeline may hold back (less than one
/// loop word of 8 bytes each).
pub(crate) const STAGING: usize = BLOCK + 8 * crate::compose::MAX_STAGES;

/// Fewest bytes in one place that are worth a call of their own.
const DIRECT: usize = 256;

/// A stretch of memory seen through offsets in the stream: byte `x` of the stream lies at `ptr + (x -
/// origin)`.
#[derive(Clone, Copy)]
struct View {
    /// Null when there is nothing to write to.
    ptr: *mut u8,
    origin: u64,
}

impl View {
    const NONE: View = View { ptr: std::ptr::null_mut(), origin: 0 };

    fn at(self, offset: u64) -> *mut u8 {
        if self.ptr.is_null() { self.ptr } else { self.ptr.wrapping_add((offset - self.origin) as usize) }
    }
}

/// The registers and how far each pass has got.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) registers: Registers,
    /// The digests of other crates, by their index.
    digests: Vec<DigestState>,
    /// What windows start from; left empty when there are none.
    initial: Registers,
    /// Offset in the stream up to which each pass is done.
    done: SmallVec<[u64; 4]>,
    pub(crate) windows: WindowLists,
    /// Whether the transfer is one that the caches do not hold: what is written then goes around them.
    streams: bool,
}

impl Progress {
    pub(crate) fn new(program: &Program, initial: &Registers) -> Progress {
        Progress {
            registers: initial.clone(),
            digests: program.digests().map(|pass| pass.start(initial)).collect(),
            initial: if program.windowed { initial.clone() } else { Registers::default() },
            done: smallvec::smallvec![0; program.passes.len()],
            windows: match program.windowed {
                true => program.exports.iter().map(|_| WindowList::new()).collect(),
                false => WindowLists::new(),
            },
            streams: false,
        }
    }

    /// For a transfer of `len` bytes in all, of which this may be a part: stretches of a big one are written
    /// around the caches, short as they may be.
    pub(crate) fn of_transfer(self, program: &Program, len: usize) -> Progress {
        Progress { streams: len >= program.streaming_from && program.passes.len() == 1, ..self }
    }

    /// All passes at offset `at` of a stream, which is a multiple of their gauges, with `registers` as they
    /// are there.
    pub(crate) fn resumed(program: &Program, registers: Registers, initial: &Registers, at: u64) -> Progress {
        let mut progress = Progress { registers, ..Progress::new(program, initial) };
        progress.done.fill(at);
        progress
    }

    /// Runs over a contiguous stream of `len` bytes. `dst` is null for reading only, or `src` for in place.
    ///
    /// # Safety
    /// `src` is readable and a `dst` that is not null writable for `len` bytes; they do not overlap in part.
    pub(crate) unsafe fn contiguous(&mut self, program: &Program, src: *const u8, dst: *mut u8, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.part(program, src, dst, 0, len, true) };
    }

    /// Runs over the `len` bytes from offset `at` of a stream, as far as which all passes have got; unless
    /// they are the `last`, they end with whole words of all passes. `src` and `dst` are the addresses of the
    /// byte at `at`.
    ///
    /// # Safety
    /// As for [`Progress::contiguous`].
    pub(crate) unsafe fn part(
        &mut self,
        program: &Program,
        src: *const u8,
        dst: *mut u8,
        at: u64,
        len: usize,
        last: bool,
    ) {
        let source = View { ptr: src.cast_mut(), origin: at };
        let sink = View { ptr: dst, origin: at };
        let total = at + len as u64;
        match &*program.passes {
            [] => {
                if !dst.is_null() && !std::ptr::eq(src, dst) && len != 0 {
                    // SAFETY: the caller's promise; not in part and not equal means not at all.
                    unsafe { std::ptr::copy_nonoverlapping(src, dst, len) };
                }
            }
            // SAFETY: the caller's promise.
            [pass] if pass.digest.is_none() => unsafe {
                self.advance(program, 0, source, sink, total, last);
            },
            _ if dst.is_null() && program.modifies => {
                let mut source = PieceCursor::new([crate::ends::Piece { ptr: src.cast_mut(), len }]);
                // SAFETY: the caller's promise.
                unsafe { self.staged_part(program, &mut source, None, at, len, last) };
            }
            _ => {
                let mut end = at;
                while end < total {
                    end = total.min(end + program.block as u64);
                    // SAFETY: the caller's promise.
                    unsafe { self.block(program, source, sink, end, last && end == total) };
                }
            }
        }
        self.settle();
    }

    /// What was written around the caches is there for other threads before anything that is written from now
    /// on.
    fn settle(&self) {
        if self.streams {
            backend::settle();
        }
    }

    /// All passes as far as `end`: the first from `source` to `sink`, the others in place. Digests in front
    /// of it look at the source.
    ///
    /// # Safety
    /// The bytes between what is done and `end` are readable in `source` and writable in a `sink` that is not
    /// null.
    unsafe fn block(&mut self, program: &Program, source: View, sink: View, end: u64, last: bool) {
        let mut end = end;
        let mut from = source;
        for pass in 0..program.passes.len() {
            let to = if pass < program.copies { View::NONE } else { sink };
            // SAFETY: the caller's promise; a pass goes no further than the one before it has got.
            unsafe { self.advance(program, pass, from, to, end, last) };
            end = self.done[pass];
            if !to.ptr.is_null() {
                from = sink;
            }
        }
    }

    /// One pass as far as `end`, or by less than a loop word short of it unless this is the `last` stretch.
    ///
    /// # Safety
    /// The bytes between what is done and `end` are readable in `from` and writable in a `to` that is not
    /// null.
    unsafe fn advance(
        &mut self,
        program: &Program,
        index: usize,
        from: View,
        to: View,
        end: u64,
        last: bool,
    ) {
        let pass = &program.passes[index];
        let gauge = pass.gauge as u64;
        // In place and nothing to write: reading is enough.
        let to = if from.ptr == to.ptr && !pass.modifies { View::NONE } else { to };
        let mut at = self.done[index];
        while at < end {
            let boundary = pass.to_boundary(at);
            let limit = boundary.min(end - at);
            // Leftover bytes are run over where a window or the stream ends, and wait for the rest of their
            // word elsewhere.
            let is_complete = limit == boundary || last;
            let stop = at + if is_complete { limit } else { limit - limit % gauge };
            while at < stop {
                let n = (stop - at).min(MAX_CALL_BYTES as u64);
                // SAFETY: `[at, at + n)` lies within what the caller promised; `n` is a multiple of the gauge
                // but at the end of the stream or of a window.
                unsafe { self.run(pass, pass.pos(at), from.at(at), to.at(at), n as usize) };
                at += n;
            }
            if !is_complete && !limit.is_multiple_of(gauge) {
                break;
            }
            self.close_windows(program, pass, at, false);
        }
        self.done[index] = at;
    }

    /// # Safety
    /// The contract of [`PassCode::run`].
    unsafe fn run(&mut self, pass: &PassRun, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        if let Some(digest) = &pass.digest {
            let state = &mut self.digests[digest.index];
            // SAFETY: the caller's promise; source and destination are apart, since in place there is nothing
            // to write.
            unsafe {
                for at in (0..len).step_by(DIGEST_BLOCK) {
                    let (from, n) = (src.add(at), DIGEST_BLOCK.min(len - at));
                    if !dst.is_null() && !std::ptr::eq(src, dst) {
                        std::ptr::copy_nonoverlapping(from, dst.add(at), n);
                    }
                    state.update(std::slice::from_raw_parts(from, n));
                }
            }
            return;
        }
        let registers = self.registers.as_mut_ptr().wrapping_add(pass.base);
        // SAFETY: the pass's registers start at `base`; the rest is the caller's promise.
        unsafe {
            if self.streams {
                pass.code.run_streaming(registers, pos, src, dst, len);
            } else {
                pass.code.run(registers, pos, src, dst, len);
            }
        }
    }

    /// Takes down what windows that the end of the stream cuts short come to, and the digests of a stream
    /// without. Called once, after the last byte.
    pub(crate) fn finish(&mut self, program: &Program) {
        for pass in program.passes.iter().filter(|pass| pass.windows.is_empty()) {
            if let Some(digest) = &pass.digest {
                self.take_digest(digest, digest.start(&self.registers));
            }
        }
        if program.windowed {
            for (index, pass) in program.passes.iter().enumerate() {
                self.close_windows(program, pass, self.done[index], true);
            }
        }
    }

    /// Takes down the exports of the windows that end at `at` (`is_cut`: those that are cut short there), and
    /// starts their registers anew.
    fn close_windows(&mut self, program: &Program, pass: &PassRun, at: u64, is_cut: bool) {
        for window in &pass.windows {
            if at.is_multiple_of(window.bytes) == is_cut {
                continue;
            }
            if let Some(digest) = &pass.digest {
                self.take_digest(digest, digest.start(&self.initial));
            }
            for (index, export) in program.exports.iter().enumerate() {
                match &pass.digest {
                    _ if !window.stages.contains(&export.stage) => {}
                    Some(digest) => {
                        self.windows[index].extend_from_slice(&self.registers[digest.value.clone()])
                    }
                    None => self.windows[index].push(program.export_exprs[index].value(&self.registers)),
                }
            }
            for &stage in &window.stages {
                let range = program.stage_registers(stage);
                self.registers[range.clone()].copy_from_slice(&self.initial[range]);
            }
        }
    }

    /// Puts the value of a digest into its registers; the `next` one begins.
    fn take_digest(&mut self, pass: &DigestPass, next: DigestState) {
        let state = std::mem::replace(&mut self.digests[pass.index], next);
        state.finish().to_words(&mut self.registers[pass.value.clone()]);
    }

    /// [`Progress::part`] of a stream of zeros.
    ///
    /// # Safety
    /// `dst` is writable for `len` bytes.
    pub(crate) unsafe fn zeros(&mut self, program: &Program, dst: *mut u8, at: u64, len: usize, last: bool) {
        let mut sink = PieceCursor::new([crate::ends::Piece { ptr: dst, len }]);
        // SAFETY: the caller's promise.
        unsafe { self.staged_part(program, &mut crate::ends::Zeros, Some(&mut sink), at, len, last) };
    }

    /// Runs over `len` bytes of a source through a staging area, in L1-sized blocks, to a sink (if any).
    ///
    /// # Safety
    /// The source has and the sink takes `len` bytes.
    pub(crate) unsafe fn staged(
        &mut self,
        program: &Program,
        source: &mut dyn Source,
        sink: Option<&mut dyn Sink>,
        len: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe { self.staged_part(program, source, sink, 0, len, true) };
    }

    /// The same for the part of a stream that begins at offset `at`: see [`Progress::part`].
    ///
    /// # Safety
    /// The source has and the sink takes `len` bytes.
    unsafe fn staged_part(
        &mut self,
        program: &Program,
        source: &mut dyn Source,
        sink: Option<&mut dyn Sink>,
        at: u64,
        len: usize,
        last: bool,
    ) {
        let mut area = [const { MaybeUninit::<u8>::uninit() }; STAGING];
        let mut staging = Staging { origin: at, end: at };
        // SAFETY: the caller's promise.
        unsafe { staging.feed(self, program, area.as_mut_ptr().cast(), source, sink, len, last) };
    }

    /// A single pass over lists of pieces, without staging except of words that straddle pieces. Stops short
    /// of a last incomplete word unless the stream ends (`last`); gives the number of bytes run over.
    ///
    /// # Safety
    /// The engine has one pass. The source, and the sink if there is one, have `len` bytes, and do not
    /// overlap except that they may be the same pieces.
    pub(crate) unsafe fn pieces<S: Pieces, D: Pieces>(
        &mut self,
        program: &Program,
        source: &mut PieceCursor<S>,
        mut sink: Option<&mut PieceCursor<D>>,
        len: usize,
        last: bool,
    ) -> usize {
        let pass = &program.passes[0];
        let gauge = pass.gauge;
        let mut left = len;
        while left != 0 {
            let at = self.done[0];
            let boundary = usize::try_from(pass.to_boundary(at)).unwrap_or(usize::MAX);
            let from = source.stretch();
            let to = sink.as_mut().map(|sink| sink.stretch());
            let contiguous = from.len.min(to.map_or(usize::MAX, |to| to.len));
            let limit = left.min(boundary).min(contiguous).min(MAX_CALL_BYTES);
            let is_complete = limit == boundary || (last && limit == left);
            let here = if is_complete { limit } else { limit - limit % gauge };
            let n = if here != 0 {
                let to = to.map_or(std::ptr::null_mut(), |to| to.ptr);
                let to = if from.ptr == to && !pass.modifies { std::ptr::null_mut() } else { to };
                // SAFETY: both stretches are at least `here` bytes long; leftover bytes end the stream or a
                // window.
                unsafe { self.run(pass, pass.pos(at), from.ptr, to, here) };
                source.advance(here);
                if let Some(sink) = &mut sink {
                    sink.advance(here);
                }
                here
            } else {
                let n = gauge.min(left).min(boundary);
                if n < gauge && n != boundary && !last {
                    break;
                }
                let mut word = [0; 16];
                let ptr = word.as_mut_ptr();
                // SAFETY: the source has, and the sink takes, `n <= left` more bytes; `word` has room for the
                // longest gauge.
                unsafe {
                    source.take(ptr, n);
                    self.run(pass, pass.pos(at), ptr, ptr, n);
                    if let Some(sink) = &mut sink {
                        sink.put(ptr, n);
                    }
                }
                n
            };
            left -= n;
            self.done[0] = at + n as u64;
            self.close_windows(program, pass, self.done[0], false);
        }
        self.settle();
        len - left
    }
}

/// Which part of the stream a staging area holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Staging {
    /// Offset of the first byte that not every pass has taken.
    origin: u64,
    /// Offset behind the last byte.
    end: u64,
}

impl Staging {
    /// Bytes held back.
    pub(crate) fn held(&self) -> usize {
        (self.end - self.origin) as usize
    }

    /// Takes `len` bytes of the source through all passes; those that are done go to the sink. When the
    /// stream ends (`last`) all are.
    ///
    /// # Safety
    /// `area` has [`STAGING`] bytes, the same at every call. The source has `len` bytes, the sink takes them
    /// and those held back.
    #[allow(clippy::too_many_arguments)]
    pub(crate) unsafe fn feed(
        &mut self,
        progress: &mut Progress,
        program: &Program,
        area: *mut u8,
        source: &mut dyn Source,
        mut sink: Option<&mut dyn Sink>,
        len: usize,
        last: bool,
    ) {
        let mut left = len;
        loop {
            let view = View { ptr: area, origin: self.origin };
            // Nothing held, and enough bytes where they lie: the first pass moves them into the area itself.
            let direct = source.stretch().filter(|piece| {
                self.held() == 0
                    && !program.passes.is_empty()
                    && piece.len.min(left) >= DIRECT.min(left).max(1)
            });
            let n = left.min(BLOCK).min(direct.map_or(usize::MAX, |piece| piece.len));
            self.end += n as u64;
            left -= n;
            let ends = last && left == 0;
            if let Some(piece) = direct {
                let from = View { ptr: piece.ptr, origin: self.origin };
                // SAFETY: the piece has `n` bytes, the area room for a block; what the first pass leaves for
                // the next time moves into the area as well.
                unsafe {
                    progress.block(program, from, view, self.end, ends);
                    let done = progress.done[program.copies];
                    let rest = (self.end - done) as usize;
                    std::ptr::copy_nonoverlapping(from.at(done), view.at(done), rest);
                }
                source.skip(n);
            } else {
                // SAFETY: fewer than `STAGING - BLOCK` bytes are held back, so a block fits behind them; then
                // the area holds all bytes that some pass has not taken, up to `end`.
                unsafe {
                    source.take(view.at(self.end - n as u64), n);
                    progress.block(program, view, view, self.end, ends);
                }
            }
            let done = progress.done.last().copied().unwrap_or(self.end);
            let ready = (done - self.origin) as usize;
            // SAFETY: `ready` bytes at the start of the area are done; the rest moves to the start, within
            // the area.
            unsafe {
                if let Some(sink) = &mut sink {
                    sink.put(area, ready);
                }
                self.origin = done;
                std::ptr::copy(area.add(ready), area, self.held());
            }
            if left == 0 {
                break;
            }
        }
        if last && let Some(sink) = sink {
            // SAFETY: the caller's promise.
            unsafe { sink.end() };
        }
    }
}
