//! Streams that arrive in chunks: resumable at any byte, also in the middle of a word.

use crate::drive::{Progress, STAGING, Staging};
use crate::ends::{Cursor, Piece, Sink};
use crate::engine::Engine;
use crate::run::{Imports, Run, RunError};
use std::fmt;
use std::sync::Arc;

/// A stream under way through an engine.
///
/// A pipeline that writes can give a word only when all of its bytes are there, so up to a few bytes are held back
/// between chunks: [`Stream::push`] says how many it wrote, and [`Stream::finish`] gives the last ones. A pipeline that
/// modifies nothing holds nothing back.
#[derive(Clone)]
pub struct Stream {
    engine: Engine,
    progress: Progress,
    read: u64,
    written: u64,
    hold: Hold,
}

/// Bytes that wait for the rest of their word.
#[derive(Clone)]
enum Hold {
    /// A single pass (or none): fewer than 8 bytes.
    Word { bytes: [u8; 8], len: usize },
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
    rest: smallvec::SmallVec<[u8; 16]>,
}

impl StreamEnd {
    /// The last bytes of the output, held back until now.
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
    /// A stream that starts from the registers' initial values. Layouts are refused, by the stream's methods.
    pub fn stream(&self) -> Stream {
        Stream::new(self, &self.inner.initial)
    }

    /// A stream that starts from imports.
    pub fn stream_with(&self, imports: &Imports) -> Result<Stream, RunError> {
        self.with(imports)?;
        Ok(Stream::new(self, &imports.registers))
    }
}

impl Stream {
    fn new(engine: &Engine, initial: &crate::registers::Registers) -> Stream {
        let hold = if engine.inner.passes.len() <= 1 {
            Hold::Word { bytes: [0; 8], len: 0 }
        } else {
            Hold::Staged { area: vec![0; STAGING].into(), staging: Staging::default() }
        };
        let progress = Progress::new(&engine.inner, initial);
        Stream { engine: engine.clone(), progress, read: 0, written: 0, hold }
    }

    /// Bytes held back: taken in, but not given out yet.
    pub fn held(&self) -> usize {
        (self.read - self.written) as usize
    }

    /// Bytes of the stream pushed so far.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Takes the next bytes of the stream and writes what is ready to the start of `out`, which has room for
    /// [`Stream::held`] bytes and the chunk. Gives the number of bytes written.
    ///
    /// On an error nothing was written and the stream is where it was before.
    pub fn push(&mut self, chunk: &[u8], out: &mut [u8]) -> Result<usize, RunError> {
        self.engine.inner.refuse_layouts("streaming")?;
        let needed = self.waiting().checked_add(chunk.len()).ok_or(RunError::TooLong)?;
        if out.len() < needed {
            return Err(RunError::ShortDestination { needed, have: out.len() });
        }
        let written = self.feed(chunk, Some(out));
        self.written = self.read - self.waiting() as u64;
        Ok(written)
    }

    /// [`Stream::push`] onto the end of a vector.
    pub fn push_to(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<usize, RunError> {
        let start = out.len();
        out.resize(start + self.waiting() + chunk.len(), 0);
        let result = self.push(chunk, &mut out[start..]);
        out.truncate(start + *result.as_ref().unwrap_or(&0));
        result
    }

    /// Takes the next bytes of a stream whose output nobody wants. Such a stream is read only from start to end: after
    /// this, [`Stream::push`] would leave a gap, and needs room for up to a loop word more than [`Stream::held`] says.
    pub fn push_read_only(&mut self, chunk: &[u8]) -> Result<(), RunError> {
        self.engine.inner.refuse_layouts("streaming")?;
        self.feed(chunk, None);
        self.written = self.read;
        Ok(())
    }

    /// Ends the stream: tail rules, last windows, exports. A length that a tail rule rejects is refused here, with the
    /// bytes already pushed written.
    pub fn finish(mut self) -> Result<StreamEnd, RunError> {
        let engine = self.engine.clone();
        let inner = &*engine.inner;
        inner.refuse_layouts("streaming")?;
        inner.check_length(self.read)?;
        let held = self.held();
        let mut rest: smallvec::SmallVec<[u8; 16]> = smallvec::smallvec![0; STAGING.min(held.max(8))];
        let to = [Piece { ptr: rest.as_mut_ptr(), len: rest.len() }];
        match &mut self.hold {
            Hold::Word { bytes, len } => {
                let from = [Piece { ptr: bytes.as_mut_ptr(), len: *len }];
                if !inner.passes.is_empty() {
                    let (mut source, mut sink) = (Cursor::new(from), Cursor::new(to));
                    // SAFETY: `bytes` holds `len` bytes and `rest` has room for 8.
                    unsafe { self.progress.pieces(inner, &mut source, Some(&mut sink), *len, true) };
                }
            }
            Hold::Staged { area, staging } => {
                let (mut source, mut sink) = (Cursor::new([Piece { len: 0, ..to[0] }]), Cursor::new(to));
                let sink: Option<&mut dyn Sink> =
                    if inner.modifies && held != 0 { Some(&mut sink) } else { None };
                let area = area.as_mut_ptr();
                // SAFETY: `area` has `STAGING` bytes; nothing is taken, and `rest` has room for what is held back.
                unsafe { staging.feed(&mut self.progress, inner, area, &mut source, sink, 0, true) };
            }
        }
        rest.truncate(held);
        self.progress.finish(inner);
        let Progress { registers, windows, .. } = self.progress;
        let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let (read, written) = (bytes(self.read), bytes(self.written + held as u64));
        let run = Run::shared(Arc::clone(&engine.inner), read, written, registers, windows);
        Ok(StreamEnd { run, rest })
    }

    /// Bytes of output that wait in the hold, whether or not somebody wanted them.
    fn waiting(&self) -> usize {
        match &self.hold {
            _ if !self.engine.inner.modifies => 0,
            Hold::Word { len, .. } => *len,
            Hold::Staged { staging, .. } => staging.held(),
        }
    }

    /// Runs the passes over what is held and the chunk. `out`, if any, has room for both; gives the bytes written to it.
    fn feed(&mut self, chunk: &[u8], out: Option<&mut [u8]>) -> usize {
        let inner = &*self.engine.inner;
        self.read += chunk.len() as u64;
        let out = match out {
            // What nobody modifies need not wait.
            Some(out) if !inner.modifies => {
                out[..chunk.len()].copy_from_slice(chunk);
                None
            }
            out => out,
        };
        let passes_through = out.is_none();
        let chunk_piece = Piece { ptr: chunk.as_ptr().cast_mut(), len: chunk.len() };
        let out_piece = out.map(|out| Piece { ptr: out.as_mut_ptr(), len: out.len() });
        let written = match &mut self.hold {
            Hold::Word { .. } if inner.passes.is_empty() => 0,
            Hold::Word { bytes, len } => {
                let mut word = *bytes;
                let total = *len + chunk.len();
                let mut source = Cursor::new([Piece { ptr: word.as_mut_ptr(), len: *len }, chunk_piece]);
                let mut sink = out_piece.map(|piece| Cursor::new([piece]));
                // SAFETY: the source has `total` bytes, and so has a sink; neither overlaps the other.
                let done = unsafe { self.progress.pieces(inner, &mut source, sink.as_mut(), total, false) };
                let left = total - done;
                let mut rest = [0; 8];
                // SAFETY: fewer bytes than one loop word, so at most 7, are left in the source.
                unsafe { crate::ends::Source::take(&mut source, rest.as_mut_ptr(), left) };
                (*bytes, *len) = (rest, left);
                done
            }
            Hold::Staged { area, staging } => {
                let held = staging.held();
                let (mut source, mut sink) =
                    (Cursor::new([chunk_piece]), out_piece.map(|piece| Cursor::new([piece])));
                let sink = sink.as_mut().map(|sink| sink as &mut dyn Sink);
                let area = area.as_mut_ptr();
                // SAFETY: `area` has `STAGING` bytes, the source those of the chunk; a sink has room for all.
                unsafe {
                    staging.feed(&mut self.progress, inner, area, &mut source, sink, chunk.len(), false)
                };
                held + chunk.len() - staging.held()
            }
        };
        if passes_through { chunk.len() } else { written }
    }
}
