//! Through layouts: whole buffers, lists of pieces, and streams whose chunks and windows are cut anywhere.

use super::{Case, Cuts, GUARD, GUARD_BYTE, Verdict, difference, split};
use crate::backend::oracle;
use crate::error::RunError;
use crate::ir::Layout;
use crate::stream::Stream;

impl Case<'_> {
    /// The source as the device's buffer holds it, 8-byte aligned, and what a destination must come to.
    pub(super) fn with_layouts(&mut self) -> Verdict {
        let source = self.source_buffer();
        let len = self.stream.len();
        let how = || "through layouts".to_owned();
        if source.len() != self.engine.source_len(len).unwrap_or(usize::MAX) {
            return Err((how(), "source_len".to_owned()));
        }
        let room = self.engine.written_len(len).expect("a short stream");
        let (expected, wants) = self.sink_buffer(room);
        let mut out = Aligned::new(room + GUARD);
        let prepared = self.engine.with(&self.imports).expect("imports of this engine");
        let source = Aligned::of(&source);
        // A buffer read by accesses of a width holds whole ones: a stream that ends within one has to give
        // its length.
        let holds = self.engine.stream_len(source.bytes().len()) == len;
        let result = if holds && self.rng.chance(1, 2) {
            prepared.run(source.bytes(), &mut out.bytes_mut()[..room])
        } else {
            // SAFETY: `source` is as long as `source_len` demands, `out` longer than `written_len`.
            unsafe { prepared.run_raw(source.bytes().as_ptr(), len, out.bytes_mut().as_mut_ptr()) }
        };
        let written = result.as_ref().map_or(wants, |run| run.written);
        self.compare(result, None).map_err(|what| (how(), what))?;
        if written != wants || room != wants {
            return Err((how(), format!("wrote {written} bytes, needs {room}, should be {wants}")));
        }
        if out.bytes()[..room + GUARD] != expected[..] {
            return Err((how(), difference(&expected, out.bytes())));
        }
        if room != 0 && holds && self.expected.is_ok() {
            let mut short = Aligned::new(room - 1);
            let result = prepared.run(source.bytes(), short.bytes_mut());
            let untouched = Aligned::new(room - 1);
            if !matches!(result, Err(RunError::ShortDestination { .. })) || short.bytes() != untouched.bytes()
            {
                return Err((how(), "a short destination was not refused before the first byte".to_owned()));
            }
        }
        // SAFETY: as above; null is reading only.
        let result = unsafe { prepared.run_raw(source.bytes().as_ptr(), len, std::ptr::null_mut()) };
        self.compare(result, None).map_err(|what| ("read only through layouts".to_owned(), what))
    }

    pub(super) fn vectored_with_layouts(&mut self) -> Verdict {
        let composition = self.engine.composition();
        if composition.source.is_some() {
            return Ok(());
        }
        let cuts = self.cuts(self.stream.len());
        let room = self.engine.written_len(self.stream.len()).expect("a short stream");
        let (expected, _) = self.sink_buffer(room);
        let mut out = Aligned::new(room + GUARD);
        let sources = split(self.stream, &cuts);
        let prepared = self.engine.with(&self.imports).expect("imports of this engine");
        let result = prepared.run_vectored(&sources, &mut [&mut out.bytes_mut()[..room]]);
        let how = || format!("gather {} into a layout", Cuts(&cuts));
        self.compare(result, None).map_err(|what| (how(), what))?;
        if out.bytes()[..room + GUARD] != expected[..] {
            return Err((how(), difference(&expected, out.bytes())));
        }
        Ok(())
    }

    /// The device's buffer that holds the stream, up to the last byte that is read.
    fn source_buffer(&mut self) -> Vec<u8> {
        let Some(layout) = &self.engine.composition().source else {
            return self.stream.to_vec();
        };
        let mut buffer = vec![0x5a; 16 + self.stream.len() * 64];
        let layout = crate::ir::Layout { pad: 0, ..(**layout).clone() };
        let end = oracle::scatter(&layout, self.stream, &mut buffer);
        buffer.truncate(end);
        buffer
    }

    /// What the destination must look like, and how many bytes of it are written.
    fn sink_buffer(&self, room: usize) -> (Vec<u8>, usize) {
        let mut expected = vec![GUARD_BYTE; room + GUARD];
        let Ok(outcome) = self.expected else { return (expected, room) };
        match &self.engine.composition().sink {
            None => {
                expected[..outcome.output.len()].copy_from_slice(&outcome.output);
                (expected, outcome.output.len())
            }
            Some(layout) => {
                let end = oracle::scatter(layout, &outcome.output, &mut expected);
                (expected, end)
            }
        }
    }

    /// As a stream in random chunks.
    pub(super) fn chunks_with_layouts(&mut self) -> Verdict {
        let take = self.take();
        let output = match (&self.engine.composition().sink, self.rng.below(4)) {
            (_, 0) => StreamOutput::Unwanted,
            (Some(layout), 1) if !layout.fixed && take == Take::Chunks => StreamOutput::Picture,
            _ => StreamOutput::Device,
        };
        let mut source = self.source_buffer();
        if take == Take::Chunks {
            self.append_nothing(&mut source);
        }
        let mut cuts = self.cuts(if take == Take::Addresses { self.stream.len() } else { source.len() });
        if cuts.is_empty() {
            cuts.push(0); // What is pushed first decides whether the output is wanted.
        }
        self.stream_with_layouts(&source, &cuts, take, output)
    }

    /// As a stream in two chunks, cut at every place.
    pub(super) fn every_split_with_layouts(&mut self) -> Verdict {
        let take = if self.holds() { Take::Chunks } else { Take::Addresses };
        let source = self.source_buffer();
        let len = if take == Take::Addresses { self.stream.len() } else { source.len() };
        (0..=len)
            .try_for_each(|at| self.stream_with_layouts(&source, &[at, len - at], take, StreamOutput::Device))
    }

    /// Whether the stream is all that a buffer can hold: one that ends within an access has to give its
    /// length.
    fn holds(&self) -> bool {
        let store = self.engine.composition().source.as_ref().and_then(|layout| layout.store);
        self.stream.len().is_multiple_of(usize::from(store.unwrap_or(1)))
    }

    fn take(&mut self) -> Take {
        if self.holds() && self.rng.chance(2, 3) { Take::Chunks } else { Take::Addresses }
    }

    /// What may follow in a source's buffer without being of the stream: a hole, and a part of an access.
    fn append_nothing(&mut self, source: &mut Vec<u8>) {
        let Some(layout) = &self.engine.composition().source else { return };
        let (store, len) = (usize::from(layout.store.unwrap_or(1)), self.stream.len());
        let more = match layout.stripe {
            Some(stripe) if len > 0 && len.is_multiple_of(stripe.data as usize) => stripe.gap as usize,
            _ => 0,
        };
        let more =
            if self.rng.chance(1, 2) { more + self.rng.below(store) } else { self.rng.below(more + 1) };
        source.resize(source.len() + more, 0x5a);
    }

    fn stream_with_layouts(
        &self,
        source: &[u8],
        cuts: &[usize],
        take: Take,
        output: StreamOutput,
    ) -> Verdict {
        let how = || format!("through layouts by {take:?} {}, output {output:?}", Cuts(cuts));
        let composition = self.engine.composition();
        let is_register =
            |layout: &Option<std::sync::Arc<Layout>>| layout.as_ref().is_some_and(|layout| layout.fixed);
        let room = self.engine.written_len(self.stream.len()).expect("a short stream");
        let (mut expected, wants) = self.sink_buffer(room);
        let mut out = Aligned::new(room + GUARD);
        let mut picture = Vec::new();
        let source = Aligned::of(source);
        let mut stream = self.engine.stream_with(&self.imports).expect("imports of this engine");
        let (mut from, mut to) = (0, 0);
        for &n in cuts {
            let written =
                self.push(&mut stream, &source, (from, n), take, output, (&mut out, to, room), &mut picture);
            to += written.map_err(|error| (how(), error.to_string()))?;
            from = match take {
                Take::Chunks => from + n,
                Take::Addresses => stream.source_offset() as usize,
            };
            let offsets = (stream.source_offset() as usize, stream.sink_offset() as usize);
            let behind = (if is_register(&composition.source) { 0 } else { from }, to);
            if output != StreamOutput::Unwanted && offsets != behind {
                return Err((how(), format!("offsets are {offsets:?}, should be {behind:?}")));
            }
        }
        let end = match output {
            StreamOutput::Device => stream.finish_into(&mut out.bytes_mut()[to..room]),
            StreamOutput::Picture | StreamOutput::Unwanted => stream.finish(),
        };
        let wrote = end.as_ref().map_or(wants, |end| end.run.written);
        if let Ok(end) = &end {
            picture.extend_from_slice(end.rest());
        }
        let is_refused = end.is_err();
        self.compare(end.map(|end| end.run), None).map_err(|what| (how(), what))?;
        let wants = if output == StreamOutput::Unwanted { 0 } else { wants };
        if wrote != wants && !is_refused {
            return Err((how(), format!("wrote {wrote} bytes, should be {wants}")));
        }
        match output {
            // Of a stream that is refused at the end, what came before is written.
            _ if is_refused => {}
            StreamOutput::Device => {}
            StreamOutput::Unwanted => expected.fill(GUARD_BYTE),
            StreamOutput::Picture => {
                expected.fill(0);
                expected.truncate(room);
                if let (Some(layout), Ok(outcome)) = (&composition.sink, self.expected) {
                    oracle::scatter(layout, &outcome.output, &mut expected);
                }
                if picture != expected {
                    return Err((how(), difference(&expected, &picture)));
                }
                expected = vec![GUARD_BYTE; room + GUARD];
            }
        }
        let from = if is_refused { room } else { 0 };
        if out.bytes()[from..room + GUARD] != expected[from..] {
            return Err((how(), difference(&expected, out.bytes())));
        }
        Ok(())
    }

    /// Pushes the `n` bytes from offset `from` of the source's buffer; they are the stream's if it is read by
    /// address.
    #[allow(clippy::too_many_arguments)]
    fn push(
        &self,
        stream: &mut Stream,
        source: &Aligned,
        (from, n): (usize, usize),
        take: Take,
        output: StreamOutput,
        (out, to, room): (&mut Aligned, usize, usize),
        picture: &mut Vec<u8>,
    ) -> Result<usize, RunError> {
        let window = &mut out.bytes_mut()[to..room];
        if take == Take::Addresses {
            let dst = match output {
                StreamOutput::Unwanted => std::ptr::null_mut(),
                StreamOutput::Device | StreamOutput::Picture => window.as_mut_ptr(),
            };
            let src = source.bytes()[from..].as_ptr();
            // SAFETY: the source has whole accesses for the stream, and the window is what the buffer has
            // left for it.
            return unsafe { stream.push_raw(src, n, dst) };
        }
        let chunk = &source.bytes()[from..from + n];
        match output {
            StreamOutput::Unwanted => stream.push_read_only(chunk).map(|()| 0),
            StreamOutput::Picture => stream.push_to(chunk, picture),
            StreamOutput::Device => {
                // One byte less than is needed, and nothing happens.
                let needed = stream.room(n).expect("a short stream");
                if let Some(less) = needed.checked_sub(1) {
                    let before = window.to_vec();
                    let result = stream.push(chunk, &mut window[..less]);
                    if !matches!(result, Err(RunError::ShortDestination { .. })) || *window != before {
                        return Err(RunError::ShortDestination { needed, have: less });
                    }
                }
                stream.push(chunk, &mut window[..needed])
            }
        }
    }
}

/// How a stream reads its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Take {
    Chunks,
    Addresses,
}

/// What a stream writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamOutput {
    Device,
    /// What the device's buffer would look like, in memory.
    Picture,
    Unwanted,
}

/// Bytes at an address that is a multiple of 8, as devices with an access width demand.
struct Aligned {
    buffer: Vec<u8>,
    at: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Aligned {
        let buffer = vec![GUARD_BYTE; len + 8];
        let at = buffer.as_ptr().align_offset(8);
        Aligned { buffer, at, len }
    }

    fn of(bytes: &[u8]) -> Aligned {
        let mut aligned = Aligned::new(bytes.len());
        aligned.bytes_mut().copy_from_slice(bytes);
        aligned
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.at..self.at + self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.at..self.at + self.len]
    }
}
