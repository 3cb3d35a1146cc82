//! Lists of digests, checked: what is printed and what counts as a failure is as with coreutils.

use super::{Digested, Failure, Reading, Session, digest, order};
use crate::cmd::{Outcome, Status};
use crate::digest::list::{self, Entry, Line, Parser};
use crate::digest::{Algorithm, Pass, name, read};
use crate::progress::Progress;
use anyhow::Context as _;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

pub(super) fn run(session: &Session<'_>, named: &[Algorithm]) -> Outcome {
    let mut checker = Checker {
        session,
        parser: Parser { library: session.library, named },
        progress: session.progress(),
        out: io::BufWriter::new(io::stdout()),
        files: 0,
        failed: false,
    };
    for path in session.files {
        match read::open(path) {
            Ok(list) => checker.list(path, BufReader::new(list))?,
            Err(error) => {
                checker.failed = true;
                eprintln!("pipec: {}: {}", path.display(), Failure::Read(error));
            }
        }
    }
    checker.finish()
}

struct Checker<'a> {
    session: &'a Session<'a>,
    parser: Parser<'a>,
    progress: Mutex<Progress>,
    out: io::BufWriter<io::Stdout>,
    /// Files told in JSON.
    files: u64,
    failed: bool,
}

/// How lines of one list went.
#[derive(Default)]
struct Counts {
    proper: u64,
    improper: u64,
    unread: u64,
    wrong: u64,
    matched: u64,
}

/// Entries for one file that follow each other: it is read once for all of them.
struct Group {
    entries: Vec<Entry>,
}

/// What reading a group's file came to.
struct Checked {
    group: Group,
    pass: Option<Pass>,
    result: anyhow::Result<Result<Digested, Failure>>,
}

/// Most lines of one group: a list of nothing but one name is checked in pieces.
const GROUP: usize = 64;

impl<'a> Checker<'a> {
    fn list(&mut self, path: &Path, from: impl BufRead + Send) -> anyhow::Result<()> {
        let (session, parser, progress) = (self.session, &self.parser, &self.progress);
        let counts = Mutex::new(Counts::default());
        let unreadable = Mutex::new(None);
        let groups = groups(path, from, session, parser, &counts, &unreadable);
        // Lists name the same digests line after line: the last set is kept.
        let last: Mutex<Option<Pass>> = Mutex::new(None);
        let work = |group: Group| {
            let pass = set_of(&group, session, &last);
            match pass {
                Ok(pass) => {
                    let reading = Reading { threads: 1, direct: session.args.direct, progress };
                    let result = digest(&group.entries[0].path, &pass, reading);
                    Checked { group, pass: Some(pass), result: Ok(result) }
                }
                Err(error) => Checked { group, pass: None, result: Err(error) },
            }
        };
        let (out, files) = (&mut self.out, &mut self.files);
        let tell = |checked: Checked| tell(session, out, files, &counts, checked);
        order::in_order(session.jobs(), groups, work, tell)?;
        self.out.flush().context("cannot write")?;
        if let Some(error) = unreadable.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.failed = true;
            eprintln!("pipec: {}: {}", path.display(), Failure::Read(error));
        }
        self.summary(path, &counts.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// What a list came to, on stderr.
    fn summary(&mut self, path: &Path, counts: &Counts) {
        let args = self.session.args;
        let Counts { proper, improper, unread, wrong, matched } = *counts;
        if proper == 0 {
            self.failed = true;
            eprintln!("pipec: {}: no properly formatted checksum lines found", path.display());
            return;
        }
        let none = args.ignore_missing && matched == 0;
        self.failed |= unread != 0 || wrong != 0 || none || args.strict && improper != 0;
        if args.status {
            return;
        }
        let say = |count: u64, one: &str, many: &str| {
            if count != 0 {
                eprintln!("pipec: WARNING: {count} {}", if count == 1 { one } else { many });
            }
        };
        say(improper, "line is improperly formatted", "lines are improperly formatted");
        say(unread, "listed file could not be read", "listed files could not be read");
        say(wrong, "computed checksum did NOT match", "computed checksums did NOT match");
        if none {
            eprintln!("pipec: {}: no file was verified", path.display());
        }
    }

    fn finish(mut self) -> Outcome {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).finish();
        if self.session.args.json {
            writeln!(self.out, "{}]", if self.files == 0 { "[" } else { "" }).context("cannot write")?;
        }
        self.out.flush().context("cannot write")?;
        Ok(if self.failed { Status::Refused } else { Status::Fine })
    }
}

/// The entries of a list, those of one file together.
fn groups<'l>(
    path: &'l Path,
    from: impl BufRead + Send + 'l,
    session: &'l Session<'_>,
    parser: &'l Parser<'_>,
    counts: &'l Mutex<Counts>,
    unreadable: &'l Mutex<Option<io::Error>>,
) -> impl Iterator<Item = Group> + Send + 'l {
    let mut number = 0_u64;
    let mut lines = list::lines(from);
    let mut next = move || {
        loop {
            number += 1;
            let line = match lines.next()? {
                Ok(line) => line,
                Err(error) => {
                    *unreadable.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return None;
                }
            };
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            match parser.line(&line) {
                Line::Nothing => {}
                Line::Improper => {
                    counts.improper += 1;
                    if session.args.warn {
                        eprintln!("pipec: {}: {number}: improperly formatted checksum line", path.display());
                    }
                }
                Line::Entry(entry) => {
                    counts.proper += 1;
                    return Some(entry);
                }
            }
        }
    };
    let mut waiting: Option<Entry> = None;
    std::iter::from_fn(move || {
        let mut entries = vec![waiting.take().or_else(&mut next)?];
        while entries.len() < GROUP {
            let Some(entry) = next() else { break };
            if entry.path != entries[0].path {
                waiting = Some(entry);
                break;
            }
            entries.push(entry);
        }
        Some(Group { entries })
    })
}

/// All digests that a group's lines name.
fn set_of(group: &Group, session: &Session<'_>, last: &Mutex<Option<Pass>>) -> anyhow::Result<Pass> {
    let mut algorithms: Vec<Algorithm> = Vec::new();
    for (algorithm, _) in group.entries.iter().flat_map(|entry| &entry.expected) {
        if !algorithms.contains(algorithm) {
            algorithms.push(algorithm.clone());
        }
    }
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pass) = last.as_ref().filter(|pass| *pass.algorithms() == *algorithms) {
        return Ok(pass.clone());
    }
    let pass = session.pass(&algorithms)?;
    *last = Some(pass.clone());
    Ok(pass)
}

/// Prints what a group came to, and counts it.
fn tell(
    session: &Session<'_>,
    out: &mut impl Write,
    files: &mut u64,
    counts: &Mutex<Counts>,
    checked: Checked,
) -> anyhow::Result<()> {
    let args = session.args;
    let Checked { group, pass, result } = checked;
    let result = result?;
    let is_missing = |failure: &Failure| {
        args.ignore_missing
            && matches!(failure, Failure::Read(error) if error.kind() == io::ErrorKind::NotFound)
    };
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    for Entry { path, expected } in &group.entries {
        let (name, is_escaped) = name::escaped(path);
        let mut object = serde_json::json!({ "file": path.to_string_lossy() });
        let verdict = match &result {
            Err(failure) if is_missing(failure) => continue,
            Err(failure) => {
                counts.unread += 1;
                if !args.status {
                    eprintln!("pipec: {}: {failure}", path.display());
                }
                object["error"] = failure.to_string().into();
                "FAILED open or read"
            }
            Ok(digested) => {
                let algorithms = pass.as_ref().map_or(&[][..], Pass::algorithms);
                let mut all = true;
                object["digests"] = serde_json::json!({});
                for (algorithm, value) in expected {
                    let at = algorithms.iter().position(|known| known == algorithm);
                    let matches = at.is_some_and(|at| digested.values[at] == *value);
                    object["digests"][&algorithm.name] = matches.into();
                    all &= matches;
                }
                if all {
                    counts.matched += 1;
                    "OK"
                } else {
                    counts.wrong += 1;
                    "FAILED"
                }
            }
        };
        if args.json {
            *files += 1;
            write!(out, "{}{object}", if *files == 1 { "[" } else { ",\n " }).context("cannot write")?;
        } else if !(args.status || args.quiet && verdict == "OK") {
            let mut line = Vec::from(if is_escaped { &b"\\"[..] } else { b"" });
            line.extend(name);
            writeln!(line, ": {verdict}")?;
            out.write_all(&line).and_then(|()| out.flush()).context("cannot write")?;
        }
    }
    Ok(())
}
