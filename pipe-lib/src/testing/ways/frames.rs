//! The ways to run between frames, against fields put in as plainly as can be; and fields that are wrong.

use super::{Case, Cuts, GUARD_BYTE, Verdict, difference, split};
use crate::backend::oracle;
use crate::compose::frames::End;
use crate::error::RunError;
use crate::ir::{Field, Frame};

/// What a run between frames reads, and what it should write.
struct FramedCase {
    input: Vec<u8>,
    output: Vec<u8>,
    /// Why it should be refused for its length, if for that.
    refused: bool,
}

impl Case<'_> {
    /// Other values for the frames' parameters, the streams' bytes with fields.
    fn frames(&mut self) -> FramedCase {
        let composition = self.engine.composition();
        let mut values = [Vec::new(), Vec::new()];
        let ends = [(&composition.source_frame, End::Source), (&composition.sink_frame, End::Sink)];
        for ((frame, _), values) in ends.iter().zip(&mut values) {
            for param in frame.iter().flat_map(|frame| &frame.params) {
                let value = self.rng.edge() & param.ty.mask();
                let name = format!("{}.{}", frame.as_ref().map_or("", |frame| &frame.name), param.name);
                self.imports.set(&name, value).expect("a parameter of a frame can be set");
                values.push(value);
            }
        }
        let is_cut = |frame: &Frame| {
            frame.whole && !(self.stream.len() as u64).is_multiple_of(frame.data.map_or(1, Into::into))
        };
        let refused = composition.frames().any(|frame| is_cut(frame));
        // What is refused has no results: any will do.
        let nothing = oracle::Outcome::default();
        let outcome = self.expected.as_ref().unwrap_or(&nothing);
        let framed = |(frame, end): (&Option<std::sync::Arc<Frame>>, End), values: &[u64], stream: &[u8]| {
            let Some(frame) = frame else { return stream.to_vec() };
            match self.expected {
                Ok(outcome) => {
                    oracle::frame(composition, (frame, end), &outcome.exports, values, stream, GUARD_BYTE)
                }
                Err(_) => vec![0x5a; frame.framed_len(stream.len() as u64).expect("a short stream") as usize],
            }
        };
        let input = framed(ends[0], &values[0], self.stream);
        let output = if refused { Vec::new() } else { framed(ends[1], &values[1], &outcome.output) };
        FramedCase { input, output, refused }
    }

    /// Whether a run went as it should, output apart.
    fn judge_framed(
        &self,
        framed: &FramedCase,
        result: Result<crate::run::Run<'_>, RunError>,
        output: Option<(&[u8], &[u8])>,
    ) -> Result<(), String> {
        if framed.refused {
            return match result {
                Err(RunError::FrameLength { .. }) => Ok(()),
                // A stream of that length would be refused whatever the window: either reason will do.
                Err(RunError::Leftover { .. }) if self.expected.is_err() => Ok(()),
                other => {
                    Err(format!("a window that is not whole was taken: {:?}", other.map(|run| run.read)))
                }
            };
        }
        self.compare(result, None)?;
        match output {
            Some((got, expected)) if self.expected.is_ok() && got != expected => {
                Err(difference(expected, got))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn framed(&mut self) -> Verdict {
        let framed = self.frames();
        let prepared = self.engine.with(&self.imports).expect("imports of this engine");
        let room = self.engine.written_len(self.stream.len()).expect("a short stream");
        let mut out = vec![GUARD_BYTE; room + 16];
        let result = prepared.run(&framed.input, &mut out[..room]);
        let mut expected = framed.output.clone();
        expected.resize(room + 16, GUARD_BYTE);
        let how = || "between frames".to_owned();
        self.judge_framed(&framed, result, Some((&out, &expected))).map_err(|what| (how(), what))?;
        if !framed.refused && self.expected.is_ok() && room > 0 {
            let short = prepared.run(&framed.input, &mut out[..room - 1]);
            if !matches!(short, Err(RunError::ShortDestination { .. })) {
                return Err((how(), "a short destination was not refused".to_owned()));
            }
        }
        Ok(())
    }

    pub(super) fn framed_read_only(&mut self) -> Verdict {
        let framed = self.frames();
        // What goes nowhere need not be whole.
        let prepared = self.engine.with(&self.imports).expect("imports of this engine");
        let result = prepared.run_read_only(&framed.input);
        self.judge_framed(&framed, result, None).map_err(|what| ("read only from a frame".to_owned(), what))
    }

    pub(super) fn framed_in_place(&mut self) -> Verdict {
        let framed = self.frames();
        let composition = self.engine.composition();
        let (source, sink) = (&composition.source_frame, &composition.sink_frame);
        if let (Some(source), Some(sink)) = (source, sink)
            && !source.same_places(sink)
        {
            return Ok(());
        }
        let Some(frame) = source.as_ref().or(sink.as_ref()) else { return Ok(()) };
        let place = |at: usize| frame.offset(at as u64) as usize;
        let room = frame.framed_len(self.stream.len() as u64).expect("a short stream") as usize;
        let mut buffer = vec![GUARD_BYTE; room];
        if source.is_some() {
            buffer.copy_from_slice(&framed.input);
        } else {
            self.stream.iter().enumerate().for_each(|(at, byte)| buffer[place(at)] = *byte);
        }
        let mut expected = if sink.is_some() { framed.output.clone() } else { framed.input.clone() };
        // What nobody touches stays as the frame at the start has it, be that a field there.
        if let (Some(_), Some(sink)) = (source, sink) {
            for at in places(sink, expected.len(), true) {
                expected[at] = framed.input[at];
            }
        }
        if sink.is_none()
            && let Ok(outcome) = self.expected
        {
            outcome.output.iter().enumerate().for_each(|(at, byte)| expected[place(at)] = *byte);
        }
        let prepared = self.engine.with(&self.imports).expect("imports of this engine");
        let result = prepared.run_in_place(&mut buffer);
        self.judge_framed(&framed, result, Some((&buffer, &expected)))
            .map_err(|what| ("in place between frames".to_owned(), what))
    }

    pub(super) fn framed_chunks(&mut self) -> Verdict {
        let framed = self.frames();
        let cuts = self.cuts(framed.input.len());
        let hold_back = self.rng.chance(1, 2);
        self.stream_framed(&framed, &cuts, hold_back)
    }

    pub(super) fn every_split_framed(&mut self) -> Verdict {
        let framed = self.frames();
        let len = framed.input.len();
        (0..=len).try_for_each(|at| self.stream_framed(&framed, &[at, len - at], at % 2 == 0))
    }

    fn stream_framed(&mut self, framed: &FramedCase, cuts: &[usize], hold_back: bool) -> Verdict {
        let how = || format!("stream between frames in chunks {}, hold back: {hold_back}", Cuts(cuts));
        // Without results, fields are wrong before the length is.
        if self.expected.is_err() && self.engine.composition().source_frame.is_some() {
            return Ok(());
        }
        let mut out = Vec::new();
        let run = self.push_framed(&framed.input, cuts, hold_back, &mut out);
        // A gap of an output in memory is zero.
        let mut expected = framed.output.clone();
        self.clear_gaps(&mut expected);
        self.judge_framed(framed, run, Some((&out, &expected))).map_err(|what| (how(), what))
    }

    fn push_framed(
        &self,
        input: &[u8],
        cuts: &[usize],
        hold_back: bool,
        out: &mut Vec<u8>,
    ) -> Result<crate::run::Run<'static>, RunError> {
        let mut stream = self.engine.stream_with(&self.imports).expect("imports of this engine");
        if hold_back {
            stream = stream.hold_back();
        }
        for chunk in split(input, cuts) {
            stream.push_to(chunk, out)?;
        }
        let end = stream.finish()?;
        out.extend_from_slice(end.rest());
        Ok(end.run)
    }

    fn clear_gaps(&self, output: &mut [u8]) {
        let Some(frame) = &self.engine.composition().sink_frame else { return };
        for at in places(frame, output.len(), true) {
            output[at] = 0;
        }
    }

    /// A byte of a field is another: the window is named, and nothing of it delivered.
    pub(super) fn tampered(&mut self) -> Verdict {
        let mut framed = self.frames();
        let Some(frame) = self.engine.composition().source_frame.clone() else { return Ok(()) };
        let fields = places(&frame, framed.input.len(), false);
        if framed.refused || self.expected.is_err() || fields.is_empty() {
            return Ok(());
        }
        let at = *self.rng.pick(&fields);
        framed.input[at] ^= 1 << self.rng.below(8);
        let period = frame.head_bytes() + frame.foot_bytes() + frame.data.map_or(u64::MAX / 2, Into::into);
        let window = at as u64 / period;
        let good = window * frame.data.map_or(0, u64::from);
        let how = || format!("with a wrong byte at {at}, in window {window}");
        let named = |error: RunError| match error {
            RunError::Mismatch(found) if (found.window, found.good) == (window, good) => Ok(()),
            other => Err((how(), format!("refused with `{other}`"))),
        };
        let prepared = self.engine.with(&self.imports).expect("imports of this engine");
        let room = self.engine.written_len(self.stream.len()).expect("a short stream");
        let mut out = vec![GUARD_BYTE; room];
        let taken = || Err((how(), "taken".to_owned()));
        match prepared.run(&framed.input, &mut out) {
            Ok(_) => return taken(),
            Err(error) => named(error)?,
        }
        let plain = self.engine.composition().sink_frame.is_none();
        if plain {
            let end = self
                .stream
                .len()
                .min(good as usize + frame.data.map_or(usize::MAX / 2, |n| n.get() as usize));
            if out[..good as usize] != framed.output[..good as usize]
                || out[good as usize..end].iter().any(|b| *b != 0)
            {
                return Err((how(), "the bad window was delivered, or a good one was not".to_owned()));
            }
        }
        match prepared.run_read_only(&framed.input) {
            Ok(_) => return taken(),
            Err(error) => named(error)?,
        }
        let cuts = self.cuts(framed.input.len());
        let mut out = Vec::new();
        match self.push_framed(&framed.input, &cuts, true, &mut out) {
            Ok(_) => return taken(),
            Err(error) => named(error)?,
        }
        self.clear_gaps(&mut framed.output);
        if !framed.output.starts_with(&out) || (plain && out.len() as u64 != good) {
            let what = format!("{} bytes were delivered, {good} are good", out.len());
            return Err((format!("{}, in chunks {}", how(), Cuts(&cuts)), what));
        }
        Ok(())
    }
}

/// The places of a frame's gaps (`gaps`), or of its other fields, in `len` bytes.
fn places(frame: &Frame, len: usize, gaps: bool) -> Vec<usize> {
    let fields = (frame.head_bytes() + frame.foot_bytes()) as usize;
    let data = frame.data.map_or(len.saturating_sub(fields), |data| data.get() as usize);
    let mut places = Vec::new();
    let mut start = 0;
    while start < len {
        let data = data.min((len - start).saturating_sub(fields));
        let mut at = start;
        for (place, between) in [(&frame.head, data), (&frame.foot, 0)] {
            for field in place {
                let bytes = field.bytes() as usize;
                if matches!(field, Field::Gap(_)) == gaps {
                    places.extend(at..at + bytes);
                }
                at += bytes;
            }
            at += between;
        }
        start += data + fields;
    }
    places
}
