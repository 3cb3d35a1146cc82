//! Diagnostics with the lines of source that they are about.

use codespan_reporting::diagnostic as cs;
use codespan_reporting::files::{Error, Files, line_starts};
use codespan_reporting::term;
use codespan_reporting::term::termcolor::{ColorChoice, StandardStream};
use pipe_lib::Diagnostics;
use pipe_lib::diagnostic::{Diagnostic, Severity};
use pipe_lib::source::{FileId, Sources, Span};
use std::io::IsTerminal as _;
use std::ops::Range;

/// Bytes beyond which a line of source is not shown.
const LONG_LINE: usize = 500;

/// Shows diagnostics on stderr, in colour on a terminal.
pub(crate) fn to_stderr(diagnostics: &Diagnostics) -> anyhow::Result<()> {
    let plain =
        !std::io::stderr().is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let mut writer = StandardStream::stderr(if plain { ColorChoice::Never } else { ColorChoice::Auto });
    let full = term::Config::default();
    let brief = term::Config { display_style: term::DisplayStyle::Medium, ..term::Config::default() };
    let files = Shown::new(diagnostics.sources());
    for diagnostic in diagnostics {
        let long = diagnostic.labels.iter().any(|label| files.is_on_long_line(label.span));
        let config = if long { &brief } else { &full };
        term::emit_to_write_style(&mut writer, config, &files, &convert(diagnostic))?;
    }
    Ok(())
}

/// Diagnostics as JSON: one object each, places as file, line and column from 1.
pub(crate) fn to_json(diagnostics: &Diagnostics) -> serde_json::Value {
    let place = |span: Span| {
        let source = diagnostics.sources().get(span.file);
        let (line, column) = source.map_or((1, 1), |source| source.line_column(span.start as usize));
        let (end_line, end_column) = source.map_or((1, 1), |source| source.line_column(span.end as usize));
        serde_json::json!({
            "file": source.map_or("", |source| &source.name),
            "start": span.start, "end": span.end,
            "line": line, "column": column, "end_line": end_line, "end_column": end_column,
        })
    };
    diagnostics
        .iter()
        .map(|diagnostic| {
            let labels: Vec<_> = diagnostic
                .labels
                .iter()
                .map(|label| {
                    let mut value = place(label.span);
                    value["text"] = label.text.clone().into();
                    value
                })
                .collect();
            serde_json::json!({
                "code": diagnostic.code.name(),
                "severity": match diagnostic.severity() { Severity::Error => "error", Severity::Warning => "warning" },
                "message": diagnostic.message,
                "labels": labels,
                "notes": diagnostic.notes,
                "help": diagnostic.help,
            })
        })
        .collect()
}

fn convert(diagnostic: &Diagnostic) -> cs::Diagnostic<FileId> {
    let severity = match diagnostic.severity() {
        Severity::Error => cs::Severity::Error,
        Severity::Warning => cs::Severity::Warning,
    };
    let labels = diagnostic.labels.iter().enumerate().map(|(at, label)| {
        let style = if at == 0 { cs::LabelStyle::Primary } else { cs::LabelStyle::Secondary };
        cs::Label::new(style, label.span.file, label.span.range()).with_message(&label.text)
    });
    let mut notes: Vec<String> = diagnostic.notes.iter().map(|note| format!("note: {note}")).collect();
    notes.extend(diagnostic.help.iter().map(|help| format!("help: {help}")));
    cs::Diagnostic::new(severity)
        .with_code(diagnostic.code.name())
        .with_message(&diagnostic.message)
        .with_labels(labels.collect())
        .with_notes(notes)
}

/// The sources as the renderer wants them.
struct Shown<'a> {
    sources: &'a Sources,
    /// Starts of lines, file by file, found once.
    lines: Vec<Vec<usize>>,
}

impl<'a> Shown<'a> {
    fn new(sources: &'a Sources) -> Shown<'a> {
        let lines = sources.iter().map(|(_, source)| line_starts(&source.text).collect()).collect();
        Shown { sources, lines }
    }

    /// Whether a place is on a line too long to be shown: nobody reads it, and drawing it takes long.
    fn is_on_long_line(&self, span: Span) -> bool {
        let length = |byte: u32| {
            let line = self.line_index(span.file, byte as usize).ok()?;
            self.line_range(span.file, line).ok().map(|range| range.len())
        };
        [span.start, span.end].into_iter().filter_map(length).any(|length| length > LONG_LINE)
    }

    fn lines(&self, id: FileId) -> Result<&[usize], Error> {
        self.lines.get(id.0 as usize).map(Vec::as_slice).ok_or(Error::FileMissing)
    }
}

impl<'a> Files<'a> for Shown<'a> {
    type FileId = FileId;
    type Name = &'a str;
    type Source = &'a str;

    fn name(&'a self, id: FileId) -> Result<&'a str, Error> {
        self.sources.get(id).map(|source| &*source.name).ok_or(Error::FileMissing)
    }

    fn source(&'a self, id: FileId) -> Result<&'a str, Error> {
        self.sources.get(id).map(|source| &*source.text).ok_or(Error::FileMissing)
    }

    fn line_index(&'a self, id: FileId, byte: usize) -> Result<usize, Error> {
        Ok(self.lines(id)?.partition_point(|start| *start <= byte).saturating_sub(1))
    }

    fn line_range(&'a self, id: FileId, line: usize) -> Result<Range<usize>, Error> {
        let (lines, end) = (self.lines(id)?, self.source(id)?.len());
        let too_large = Error::LineTooLarge { given: line, max: lines.len().saturating_sub(1) };
        let start = *lines.get(line).ok_or(too_large)?;
        Ok(start..lines.get(line + 1).copied().unwrap_or(end))
    }
}
