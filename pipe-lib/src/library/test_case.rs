//! `test` items: a pipeline, bytes that go in, and what should come out.

use super::{Inner, resolve};
use crate::check::table::{TableBudget, repeat_count, unfold};
use crate::check::{Findings, literal_bits};
use crate::diagnostic::{Code, Diagnostic};
use crate::digest::DigestKind;
use crate::engine::Engine;
use crate::error::RunError;
use crate::ir::Ty;
use crate::limits;
use crate::pipeline::Pipeline;
use crate::run::{Imports, Run};
use crate::source::Span;
use crate::syntax::ast::{self, Bytes, Expected, Expr, Name, Repeated, Spanned, TestClause};
use std::fmt;

/// A test that can be run on any backend.
#[derive(Clone, Debug)]
pub struct TestCase {
    /// What is tested, as written: `crc32c "CRC catalogue check value"`.
    pub title: String,
    /// Name of the file that it stands in.
    pub file: String,
    /// Where it stands.
    pub span: Span,
    /// What is run.
    pub pipeline: Pipeline,
    /// The bytes that go in.
    pub input: TestBytes,
    /// States that start from another value: `instance.state` and the value.
    pub imports: Vec<(String, u64)>,
    /// Exports and what they should be: `instance.name`.
    pub exports: Vec<(String, Expectation)>,
    /// The bytes that should be written (a device's buffer as it is, holes zero, when the pipeline ends in a
    /// layout).
    pub output: Option<TestBytes>,
    /// The input should be refused: for its length, before anything is written, or for a field of a frame.
    pub refused: bool,
}

/// What an export should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Of a stage without window.
    One(u64),
    /// One entry a window.
    Windows(Vec<u64>),
    /// A digest's bytes; of several windows, one behind the other.
    Bytes(Vec<u8>),
}

/// Bytes with repetitions, unfolded when they are needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestBytes {
    pieces: Vec<(Vec<u8>, u64)>,
}

impl TestBytes {
    /// All bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (piece, count) in &self.pieces {
            for _ in 0..*count {
                bytes.extend_from_slice(piece);
            }
        }
        bytes
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|(piece, count)| piece.len() as u64 * count).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl TestCase {
    /// Runs the test: from one buffer to another, as a stream cut into small chunks and, without layouts, in
    /// place.
    ///
    /// # Errors
    /// What came out otherwise than it should, one sentence each.
    pub fn run(&self, engine: &Engine) -> Result<(), Vec<String>> {
        let input = self.input.to_vec();
        let composition = self.pipeline.composition();
        let mut failures = Vec::new();
        let mut imports = engine.imports();
        for (name, value) in &self.imports {
            if let Err(error) = imports.set(name, *value) {
                return Err(vec![error.to_string()]);
            }
        }
        let room = engine.written_len(engine.stream_len(input.len())).unwrap_or(0);
        let mut out = vec![0; room];
        match engine.run_with(&imports, &input, &mut out) {
            Ok(run) => self.compare("", &out[..run.written], &run, &mut failures),
            Err(error) => self.judge_error("", &error, &mut failures),
        }
        let has_layouts = composition.source.is_some() || composition.sink.is_some();
        if has_layouts && !failures.is_empty() {
            return Err(failures);
        }
        let has_frames = composition.frames().next().is_some();
        if has_frames {
            self.in_frames(engine, &imports, &input, &mut failures);
        }
        if !has_layouts && !has_frames {
            let mut buffer = input.clone();
            match engine.with(&imports).and_then(|prepared| prepared.run_in_place(&mut buffer)) {
                Ok(run) => self.compare("in place: ", &buffer, &run, &mut failures),
                Err(error) => self.judge_error("in place: ", &error, &mut failures),
            }
        }
        let streamed = (|| {
            let (mut stream, mut out) = (engine.stream_with(&imports)?, Vec::new());
            let is_register = composition.sink.as_ref().is_some_and(|layout| layout.fixed);
            // As wide as any register, and aligned so.
            let mut register = [0; 16];
            let register_at = register.as_ptr().align_offset(8);
            let register = &mut register[register_at..register_at + 8];
            // Chunks of 1, 2, 3, .. bytes: every word is cut at every place.
            let mut rest = &input[..];
            for size in (1..=13).cycle() {
                let (chunk, after) = rest.split_at(size.min(rest.len()));
                if chunk.is_empty() {
                    break;
                }
                if is_register {
                    stream.push(chunk, register)?;
                } else {
                    stream.push_to(chunk, &mut out)?;
                }
                rest = after;
            }
            if is_register {
                let end = stream.finish_into(register)?;
                return Ok((register[..end.run.written].to_vec(), end.run));
            }
            let end = stream.finish()?;
            out.extend_from_slice(end.rest());
            Ok((out, end.run))
        })();
        match streamed {
            Ok((out, run)) => self.compare("streamed: ", &out, &run, &mut failures),
            Err(error) => self.judge_error("streamed: ", &error, &mut failures),
        }
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }

    /// In place: data lie between the fields of a frame already.
    fn in_frames(&self, engine: &Engine, imports: &Imports, input: &[u8], failures: &mut Vec<String>) {
        let composition = self.pipeline.composition();
        let mut buffer = match (&composition.source_frame, &composition.sink_frame) {
            (Some(source), Some(sink)) if !source.same_places(sink) => return,
            (None, Some(sink)) => {
                let mut buffer = vec![0; engine.written_len(input.len()).unwrap_or(0)];
                for (at, byte) in input.iter().enumerate() {
                    buffer[sink.offset(at as u64) as usize] = *byte;
                }
                buffer
            }
            _ => input.to_vec(),
        };
        let is_whole = composition.sink_frame.is_some();
        match engine.with(imports).and_then(|prepared| prepared.run_in_place(&mut buffer)) {
            // Without a frame at the end, the output lies where the data did.
            Ok(run) if is_whole => self.compare("in place: ", &buffer, &run, failures),
            Ok(run) => {
                let place = |at: usize| {
                    composition.source_frame.as_ref().map_or(at, |f| f.offset(at as u64) as usize)
                };
                let output: Vec<u8> = (0..run.read).map(|at| buffer[place(at)]).collect();
                self.compare("in place: ", &output, &run, failures);
            }
            Err(error) => self.judge_error("in place: ", &error, failures),
        }
    }

    fn judge_error(&self, how: &str, error: &RunError, failures: &mut Vec<String>) {
        let refused =
            matches!(error, RunError::Leftover { .. } | RunError::FrameLength { .. } | RunError::Mismatch(_));
        if !(self.refused && refused) {
            failures.push(format!("{how}refused: {error}"));
        }
    }

    fn compare(&self, how: &str, out: &[u8], run: &Run<'_>, failures: &mut Vec<String>) {
        if self.refused {
            failures.push(format!("{how}the input was taken, though it should be refused"));
            return;
        }
        for (name, expected) in &self.exports {
            let found = match expected {
                Expectation::One(_) => run.export(name).map(Expectation::One),
                Expectation::Windows(_) => {
                    run.windows(name).map(|values| Expectation::Windows(values.to_vec()))
                }
                Expectation::Bytes(_) => match run.digest(name) {
                    Err(RunError::Windowed { .. }) => {
                        run.digests(name).map(|list| list.iter().flat_map(|value| value.to_vec()).collect())
                    }
                    one => one.map(|value| value.to_vec()),
                }
                .map(Expectation::Bytes),
            };
            match found {
                Ok(found) if found == *expected => {}
                Ok(found) => failures.push(format!("{how}{name} is {found}, not {expected}")),
                Err(error) => failures.push(format!("{how}{error}")),
            }
        }
        let Some(expected) = self.output.as_ref().map(TestBytes::to_vec) else { return };
        if out.len() != expected.len() {
            failures.push(format!("{how}{} bytes of output, not {}", out.len(), expected.len()));
        } else if let Some(at) = (0..out.len()).find(|&at| out[at] != expected[at]) {
            failures.push(format!(
                "{how}byte {at} of the output is {:#04x}, not {:#04x}: {} instead of {}",
                out[at],
                expected[at],
                excerpt(out, at),
                excerpt(&expected, at)
            ));
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expectation::One(value) => write!(f, "{value:#x}"),
            Expectation::Windows(values) => {
                let values: Vec<String> = values.iter().map(|value| format!("{value:#x}")).collect();
                write!(f, "[{}]", values.join(", "))
            }
            Expectation::Bytes(bytes) => {
                f.write_str("x\"")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("\"")
            }
        }
    }
}

/// Sixteen bytes around a place, as a hexadecimal string.
fn excerpt(bytes: &[u8], at: usize) -> String {
    let from = at / 8 * 8;
    let shown = &bytes[from..bytes.len().min(from + 16)];
    let digits: Vec<String> = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("x\"{}\"", digits.join(" "))
}

pub(super) fn check_test(
    inner: &Inner,
    test: &ast::Test,
    span: Span,
    (budget, lists): (&mut usize, &mut TableBudget),
    findings: &mut Findings,
) -> Option<TestCase> {
    let pipeline = resolve::resolve_with(inner, &test.pipeline.node, test.pipeline.span, budget, findings)?;
    let before = findings.errors();
    let (mut input, mut output, mut refused) = (None, None, false);
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    for clause in &test.clauses {
        let twice = match &clause.node {
            TestClause::Input(pieces) => input.replace(test_bytes(pieces, findings)).is_some(),
            TestClause::Output(pieces) => output.replace(test_bytes(pieces, findings)).is_some(),
            TestClause::Refused => std::mem::replace(&mut refused, true),
            TestClause::Set { path, value } => {
                let Some((name, ty)) = find_state(&pipeline, path, findings) else { continue };
                let Some(bits) = literal_bits(value, ty, findings) else { continue };
                imports.push((name, bits));
                imports.len() > 1
                    && imports[..imports.len() - 1]
                        .iter()
                        .any(|(other, _)| *other == imports[imports.len() - 1].0)
            }
            TestClause::Expect { path, value } => {
                let Some(export) = find_export(&pipeline, path, findings) else { continue };
                let Some(expectation) = expectation(&export, value, lists, findings) else { continue };
                let twice = exports.iter().any(|(other, _)| *other == export.name);
                exports.push((export.name, expectation));
                twice
            }
        };
        if twice {
            findings.push(Diagnostic::new(Code::BadTest, clause.span, "this is said twice in one test"));
        }
    }
    if input.is_none() {
        let diagnostic = Diagnostic::new(Code::BadTest, test.pipeline.span, "a test without input");
        findings.push(diagnostic.help("write `input \"..\"`; an empty string is an input too"));
    }
    if output.is_none() && exports.is_empty() && !refused && findings.errors() == before {
        let diagnostic = Diagnostic::new(Code::BadTest, test.pipeline.span, "a test that expects nothing");
        findings.push(diagnostic.help("write `expect name = value`, `output \"..\"` or `refused`"));
    }
    if refused && (output.is_some() || !exports.is_empty()) {
        let diagnostic = Diagnostic::new(
            Code::BadTest,
            test.pipeline.span,
            "a refused input gives no output and no exports",
        );
        findings.push(diagnostic);
    }
    if findings.errors() > before {
        return None;
    }
    let mut title = inner.sources.text(test.pipeline.span).trim().to_string();
    if let Some(text) = &test.title {
        title = format!("{title} {}", text.node.text);
    }
    Some(TestCase {
        title,
        file: inner.sources.get(span.file).map_or(String::new(), |source| source.name.clone()),
        span,
        pipeline,
        input: input.flatten().unwrap_or_default(),
        imports,
        exports,
        output: output.flatten(),
        refused,
    })
}

fn test_bytes(pieces: &[Repeated<Bytes>], findings: &mut Findings) -> Option<TestBytes> {
    let mut bytes = TestBytes::default();
    let mut total = 0u64;
    for repeated in pieces {
        let piece = &repeated.item.node.bytes;
        let count = repeat_count(repeated.count.as_ref(), findings)?;
        total = total.saturating_add((piece.len() as u64).saturating_mul(count));
        if total > limits::TEST_BYTES {
            let message = format!("more than {} bytes in a test", limits::TEST_BYTES);
            findings.push(Diagnostic::new(Code::Limit, repeated.item.span, message));
            return None;
        }
        if !piece.is_empty() {
            bytes.pieces.push((piece.clone(), count));
        }
    }
    Some(bytes)
}

fn path_text(path: &[Name]) -> String {
    path.iter().map(|name| name.node.as_str()).collect::<Vec<_>>().join(".")
}

fn path_span(path: &[Name]) -> Span {
    let first = path.first().map(|name| name.span);
    let last = path.last().map(|name| name.span);
    match (first, last) {
        (Some(first), Some(last)) => first.to(last),
        _ => Span::new(crate::source::FileId(0), 0, 0),
    }
}

struct FoundExport {
    name: String,
    ty: Ty,
    digest: Option<DigestKind>,
    windowed: bool,
}

/// Finds `instance.name`, or `name` where only one instance has it.
fn find<T>(
    what: &str,
    path: &[Name],
    all: Vec<(String, String, T)>,
    findings: &mut Findings,
) -> Option<(String, T)> {
    let text = path_text(path);
    let names: Vec<String> = all.iter().map(|(instance, name, _)| format!("`{instance}.{name}`")).collect();
    let mut found: Vec<(String, T)> = all
        .into_iter()
        .map(|(instance, name, value)| (format!("{instance}.{name}"), name, value))
        .filter(|(full, name, _)| *full == text || *name == text)
        .map(|(full, _, value)| (full, value))
        .collect();
    if found.len() == 1 {
        return found.pop();
    }
    let (message, note) = match found.len() {
        0 if names.is_empty() => {
            (format!("no {what} `{text}`"), format!("the pipeline has no {what} at all"))
        }
        0 => (format!("no {what} `{text}`"), format!("there is {}", names.join(", "))),
        _ => {
            let names: Vec<String> = found.iter().map(|(full, _)| format!("`{full}`")).collect();
            (format!("`{text}` may be one of several"), format!("write one of {}", names.join(", ")))
        }
    };
    findings.push(Diagnostic::new(Code::BadTest, path_span(path), message).note(note));
    None
}

fn find_export(pipeline: &Pipeline, path: &[Name], findings: &mut Findings) -> Option<FoundExport> {
    let mut all = Vec::new();
    for stage in &pipeline.composition().stages {
        for export in &stage.pipe.exports {
            let found = (stage.pipe.finish.ty(export.value), stage.pipe.digest, stage.window.is_some());
            all.push((stage.name.clone(), export.name.clone(), found));
        }
    }
    let (name, (ty, digest, windowed)) = find("export", path, all, findings)?;
    Some(FoundExport { name, ty, digest, windowed })
}

fn find_state(pipeline: &Pipeline, path: &[Name], findings: &mut Findings) -> Option<(String, Ty)> {
    let mut all = Vec::new();
    for stage in &pipeline.composition().stages {
        let shown = stage.pipe.digest_states().map_or(usize::MAX, |(_, key, _)| key.end);
        for state in stage.pipe.states.iter().take(shown) {
            all.push((stage.name.clone(), state.name.clone(), state.ty));
        }
    }
    for frame in pipeline.composition().frames() {
        for param in &frame.params {
            all.push((frame.name.clone(), param.name.clone(), param.ty));
        }
    }
    find("state", path, all, findings)
}

fn expectation(
    export: &FoundExport,
    value: &Spanned<Expected>,
    lists: &mut TableBudget,
    findings: &mut Findings,
) -> Option<Expectation> {
    match (&value.node, export.windowed) {
        (Expected::Bytes(pieces), windowed) => {
            let Some(kind) = export.digest else {
                let message = format!("`{}` is a number, no digest", export.name);
                findings.push(Diagnostic::new(Code::DigestBytes, value.span, message).help("write `= 1`"));
                return None;
            };
            let bytes = test_bytes(pieces, findings)?;
            let (have, each) = (bytes.len(), kind.bytes() as u64);
            if !(windowed || have == each) || !have.is_multiple_of(each) || have == 0 {
                let message = format!("{} has {each} bytes, not {have}", kind.title());
                findings.push(Diagnostic::new(Code::DigestBytes, value.span, message));
                return None;
            }
            // Words, like the elements of lists.
            lists.take(have.div_ceil(8), value.span, findings)?;
            Some(Expectation::Bytes(bytes.to_vec()))
        }
        _ if export.digest.is_some() => {
            let message = format!("`{}` is bytes, no number", export.name);
            let help = "write `= x\"00 ff ..\"`; of several windows, one string behind the other";
            findings.push(Diagnostic::new(Code::DigestBytes, value.span, message).help(help));
            None
        }
        (Expected::One(one), false) => {
            let literal: Spanned<Expr> = Spanned { node: one.clone(), span: value.span };
            literal_bits(&literal, export.ty, findings).map(Expectation::One)
        }
        (Expected::List(list), true) => unfold(list, export.ty, lists, findings).map(Expectation::Windows),
        (Expected::One(_), true) => {
            let message = format!("`{}` is a list, one entry a window", export.name);
            findings.push(Diagnostic::new(Code::BadTest, value.span, message).help("write `[1, 2]`"));
            None
        }
        (Expected::List(_), false) => {
            let message = format!("`{}` is one number: its stage has no window", export.name);
            findings.push(Diagnostic::new(Code::BadTest, value.span, message));
            None
        }
    }
}
