//! The ways to run an engine on a stream: copy, in place, read only, in pieces, in chunks, through layouts;
//! each with random alignments and cuts, and each compared with what the oracle says.

mod frames;
mod layouts;

use super::rng::Rng;
use crate::backend::oracle::Outcome;
use crate::engine::Engine;
use crate::error::RunError;
use crate::run::{ExportValue, Imports, Run};
use std::fmt;

/// Bytes around a destination that must stay as they are.
const GUARD: usize = 80;
const GUARD_BYTE: u8 = 0xa5;

/// How it ran and what differs.
pub(super) type Verdict = Result<(), (String, String)>;

/// One engine on one stream.
pub(super) struct Case<'a> {
    pub(super) engine: &'a Engine,
    pub(super) imports: Imports,
    pub(super) expected: &'a Result<Outcome, RunError>,
    pub(super) stream: &'a [u8],
    /// Decides on alignments, pieces and chunks.
    pub(super) rng: Rng,
}

impl Case<'_> {
    /// Runs in up to `most` of the ways that there are, chosen at random.
    pub(super) fn run(&mut self, most: usize) -> Verdict {
        let composition = self.engine.composition();
        let frames = composition.frames().next().is_some();
        let ways: &[fn(&mut Self) -> Verdict] = if frames {
            &[
                Self::framed,
                Self::framed_in_place,
                Self::framed_chunks,
                Self::framed_read_only,
                Self::tampered,
            ]
        } else {
            match composition.source.is_some() || composition.sink.is_some() {
                true => &[Self::with_layouts, Self::vectored_with_layouts, Self::chunks_with_layouts],
                false => &[
                    Self::copy,
                    Self::in_place,
                    Self::read_only,
                    Self::threads,
                    Self::pieces,
                    Self::pieces_in_place,
                    Self::pieces_read_only,
                    Self::chunks,
                    Self::chunks_read_only,
                ],
            }
        };
        let mut left = most;
        for (done, way) in ways.iter().enumerate() {
            // Each of the rest is as likely to be among the chosen.
            if left >= ways.len() - done || self.rng.chance(left, ways.len() - done) {
                way(self)?;
                left -= 1;
            }
        }
        Ok(())
    }

    /// As a stream of two chunks, cut at every place.
    pub(super) fn every_split(&mut self) -> Verdict {
        let composition = self.engine.composition();
        if composition.source.is_some() || composition.sink.is_some() {
            return self.every_split_with_layouts();
        }
        if composition.frames().next().is_some() {
            return self.every_split_framed();
        }
        let len = self.stream.len();
        (0..=len).try_for_each(|at| self.stream_of(&[at, len - at]))
    }

    /// The stream at a random alignment.
    fn place(&mut self, bytes: &[u8]) -> (Vec<u8>, usize) {
        let at = self.rng.below(64);
        let mut buffer = vec![0x5a; at];
        buffer.extend_from_slice(bytes);
        buffer.extend_from_slice(&[0x5a; 3]);
        (buffer, at)
    }

    fn copy(&mut self) -> Verdict {
        let len = self.stream.len();
        let (source, from) = self.place(self.stream);
        let at = GUARD + self.rng.below(64);
        let mut buffer = vec![GUARD_BYTE; at + len + GUARD];
        let how = || format!("copy from address {from} to {at} modulo 64");
        let more = self.rng.below(3);
        let prepared = self.engine.with(&self.imports).expect("imports of this engine");
        let result = prepared.run(&source[from..from + len], &mut buffer[at..at + len + more]);
        self.compare(result, Some(&buffer[at..at + len])).map_err(|what| (how(), what))?;
        let kept = if self.expected.is_ok() { len } else { 0 };
        let intact = buffer[..at].iter().chain(&buffer[at + kept..]).all(|&byte| byte == GUARD_BYTE);
        if intact { Ok(()) } else { Err((how(), "bytes outside of the destination were written".into())) }
    }

    fn in_place(&mut self) -> Verdict {
        let (mut buffer, at) = self.place(self.stream);
        let end = at + self.stream.len();
        let prepared = self.engine.with(&self.imports).expect("imports of this engine");
        let result = prepared.run_in_place(&mut buffer[at..end]);
        let how = || format!("in place at {at} modulo 64");
        self.compare(result, Some(&buffer[at..end])).map_err(|what| (how(), what))?;
        if self.expected.is_err() && buffer[at..end] != *self.stream {
            return Err((how(), "refused, but bytes were written".into()));
        }
        let intact = buffer[..at].iter().chain(&buffer[end..]).all(|&byte| byte == 0x5a);
        if intact { Ok(()) } else { Err((how(), "bytes outside of the buffer were written".into())) }
    }

    fn read_only(&mut self) -> Verdict {
        let (source, from) = self.place(self.stream);
        let prepared = self.engine.with(&self.imports).expect("imports of this engine");
        let result = prepared.run_read_only(&source[from..from + self.stream.len()]);
        self.compare(result, None).map_err(|what| (format!("read only at {from} modulo 64"), what))
    }

    /// In parts far smaller than those that a thread is worth.
    fn threads(&mut self) -> Verdict {
        let len = self.stream.len();
        let (threads, least) = (self.rng.between(2, 8), self.rng.between(1, len / 2 + 1));
        let prepared = self.engine.with(&self.imports).expect("imports of this engine");
        let form = *self.rng.pick(&["copied", "in place", "read only"]);
        let mut buffer = if form == "copied" { vec![GUARD_BYTE; len] } else { self.stream.to_vec() };
        let result = match form {
            "copied" => prepared.run_parts(self.stream, &mut buffer, threads, least),
            "in place" => prepared.run_parts_in_place(&mut buffer, threads, least),
            _ => prepared.run_parts_read_only(self.stream, threads, least),
        };
        self.compare(result, (form != "read only").then_some(&buffer[..])).map_err(|what| {
            (format!("{form}, in parts of at least {least} bytes on {threads} threads"), what)
        })
    }

    /// Lengths of random pieces that sum up to `len`; some empty.
    fn cuts(&mut self, len: usize) -> Vec<usize> {
        let most = *self.rng.pick(&[1, 2, 7, 9, 40, 5000]);
        let mut cuts = Vec::new();
        let mut left = len;
        while left != 0 {
            let n = self.rng.between(0, most).min(left);
            cuts.push(n);
            left -= n;
        }
        cuts
    }

    fn pieces(&mut self) -> Verdict {
        let len = self.stream.len();
        let (from, to) = (self.cuts(len), self.cuts(len));
        let mut out = vec![GUARD_BYTE; len];
        let sources = split(self.stream, &from);
        let mut sinks = split_mut(&mut out, &to);
        let prepared = self.engine.with(&self.imports).expect("imports of this engine");
        let result = prepared.run_vectored(&sources, &mut sinks);
        let how = || format!("gather {} scatter {}", Cuts(&from), Cuts(&to));
        self.compare(result, Some(&out)).map_err(|what| (how(), what))?;
        if self.expected.is_err() && out.iter().any(|&byte| byte != GUARD_BYTE) {
            return Err((how(), "refused, but bytes were written".into()));
        }
        Ok(())
    }

    fn pieces_in_place(&mut self) -> Verdict {
        let cuts = self.cuts(self.stream.len());
        let mut buffer = self.stream.to_vec();
        let mut pieces = split_mut(&mut buffer, &cuts);
        let prepared = self.engine.with(&self.imports).expect("imports of this engine");
        let result = prepared.run_vectored_in_place(&mut pieces);
        self.compare(result, Some(&buffer))
            .map_err(|what| (format!("in place in pieces {}", Cuts(&cuts)), what))
    }

    fn pieces_read_only(&mut self) -> Verdict {
        let cuts = self.cuts(self.stream.len());
        let prepared = self.engine.with(&self.imports).expect("imports of this engine");
        let result = prepared.run_vectored_read_only(&split(self.stream, &cuts));
        self.compare(result, None).map_err(|what| (format!("read only in pieces {}", Cuts(&cuts)), what))
    }

    fn chunks(&mut self) -> Verdict {
        let cuts = self.cuts(self.stream.len());
        self.stream_of(&cuts)
    }

    fn stream_of(&self, cuts: &[usize]) -> Verdict {
        let how = || format!("stream in chunks {}", Cuts(cuts));
        let mut stream = self.engine.stream_with(&self.imports).expect("imports of this engine");
        let mut out = Vec::new();
        for chunk in split(self.stream, cuts) {
            stream.push_to(chunk, &mut out).map_err(|error| (how(), error.to_string()))?;
            if out.len() + stream.held() != stream.read() as usize {
                return Err((how(), "bytes went missing".into()));
            }
        }
        let end = stream.finish();
        if let Ok(end) = &end {
            out.extend_from_slice(end.rest());
        }
        self.compare(end.map(|end| end.run), Some(&out)).map_err(|what| (how(), what))
    }

    fn chunks_read_only(&mut self) -> Verdict {
        let cuts = self.cuts(self.stream.len());
        let how = || format!("read-only stream in chunks {}", Cuts(&cuts));
        let mut stream = self.engine.stream_with(&self.imports).expect("imports of this engine");
        for chunk in split(self.stream, &cuts) {
            stream.push_read_only(chunk).map_err(|error| (how(), error.to_string()))?;
        }
        self.compare(stream.finish().map(|end| end.run), None).map_err(|what| (how(), what))
    }

    /// Compares registers, exports and, if given, output.
    fn compare(&self, result: Result<Run<'_>, RunError>, output: Option<&[u8]>) -> Result<(), String> {
        let (run, expected) = match (result, self.expected) {
            (Ok(run), Ok(expected)) => (run, expected),
            (Err(error), Err(expected)) if error == *expected => return Ok(()),
            (Err(error), Err(expected)) => return Err(format!("refused with `{error}`, not `{expected}`")),
            (Err(error), Ok(_)) => return Err(format!("refused: {error}")),
            (Ok(_), Err(expected)) => return Err(format!("not refused: {expected}")),
        };
        if run.read != self.stream.len() {
            return Err(format!("read {} bytes of {}", run.read, self.stream.len()));
        }
        if let Some(output) = output
            && *output != expected.output[..]
        {
            return Err(difference(&expected.output, output));
        }
        let composition = self.engine.composition();
        let states = composition.stages.iter().flat_map(|stage| {
            let shown = stage.pipe.digest_states().map_or(usize::MAX, |(_, key, _)| key.end);
            stage
                .pipe
                .states
                .iter()
                .enumerate()
                .map(move |(number, state)| (number < shown, format!("{}.{}", stage.name, state.name)))
        });
        for ((shown, name), expected) in states.zip(&expected.registers) {
            // Where a digest's value is, is no register that can be asked for.
            if !shown {
                continue;
            }
            let value = run.register(&name).map_err(|error| error.to_string())?;
            if value != *expected {
                return Err(format!("register {name} is {value:x}, should be {expected:x}"));
            }
        }
        for ((info, value), expected) in run.exports().zip(&expected.exports) {
            let same = match value {
                ExportValue::One(value) => [value] == expected[..],
                ExportValue::Windows(values) => values == &expected[..],
                ExportValue::Digest(value) => {
                    let mut words = vec![0; expected.len()];
                    value.to_words(&mut words);
                    words == expected[..]
                }
                ExportValue::Digests(list) => list.words() == &expected[..],
            };
            if !same {
                return Err(format!("export {} is {value:x?}, should be {expected:x?}", info.name));
            }
        }
        Ok(())
    }
}

/// The first lengths of a list.
struct Cuts<'a>(&'a [usize]);

impl fmt::Display for Cuts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(12)];
        write!(f, "{shown:?}{}", if shown.len() < self.0.len() { ".." } else { "" })
    }
}

fn difference(expected: &[u8], got: &[u8]) -> String {
    match expected.iter().zip(got).position(|(a, b)| a != b) {
        Some(at) => {
            let end = (at + 8).min(expected.len()).min(got.len());
            format!(
                "output differs at byte {at}: {:02x?}, should be {:02x?}",
                &got[at..end],
                &expected[at..end]
            )
        }
        None => format!("output has {} bytes, should have {}", got.len(), expected.len()),
    }
}

fn split<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    cuts.iter().map(|&n| rest.split_off(..n).unwrap_or_default()).collect()
}

fn split_mut<'a>(bytes: &'a mut [u8], cuts: &[usize]) -> Vec<&'a mut [u8]> {
    let mut rest = bytes;
    cuts.iter().map(|&n| rest.split_off_mut(..n).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests;
