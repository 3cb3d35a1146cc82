//! Digests of files, printed.

use super::{Digested, Failure, Reading, Session, digest, order};
use crate::cmd::{Outcome, Status};
use crate::digest::algorithm::Classic;
use crate::digest::{Algorithm, name};
use anyhow::{Context as _, bail};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use walkdir::WalkDir;

/// What is taken without a name.
const DEFAULT: &str = "crc32c";

pub(super) fn run(session: &Session<'_>, mut algorithms: Vec<Algorithm>) -> Outcome {
    let args = session.args;
    if algorithms.is_empty() {
        algorithms.push(Algorithm::named(DEFAULT, session.library).map_err(anyhow::Error::msg)?);
    }
    if args.untagged && algorithms.len() > 1 {
        bail!("--untagged lines name no digest: ask for one with -a, or leave the tags");
    }
    let pass = session.pass(&algorithms)?;
    let progress = session.progress();
    let mut printer = Printer::new(session);
    // One file has all threads to itself, and several one each.
    let (files, threads) = match session.files {
        [only] if only.is_file() => (1, session.jobs()),
        _ => (session.jobs(), 1),
    };
    let reading = Reading { threads, direct: args.direct, progress: &progress };
    let work = |found: Found| {
        let result = found.error.map_or_else(|| digest(&found.path, &pass, reading), |e| Err(e.into()));
        (found.path, result)
    };
    order::in_order(files, found(session.files), work, |(path, result)| {
        printer.file(&path, &algorithms, result)
    })?;
    progress.lock().unwrap_or_else(PoisonError::into_inner).finish();
    printer.finish()
}

/// A file to read, or why there is none.
struct Found {
    path: PathBuf,
    error: Option<io::Error>,
}

/// The files named, and all regular ones in folders named, by name; links in folders are not followed.
fn found(files: &[PathBuf]) -> impl Iterator<Item = Found> + Send {
    files.iter().flat_map(|path| -> Box<dyn Iterator<Item = Found> + Send> {
        if path == Path::new("-") || !path.is_dir() {
            return Box::new(std::iter::once(Found { path: path.clone(), error: None }));
        }
        let entries = WalkDir::new(path).sort_by_file_name().into_iter();
        Box::new(entries.filter_map(|entry| match entry {
            Ok(entry) if entry.file_type().is_file() => Some(Found { path: entry.into_path(), error: None }),
            Ok(_) => None,
            Err(error) => {
                let path = error.path().unwrap_or(Path::new("")).to_owned();
                let error = error.into_io_error().unwrap_or_else(|| io::Error::other("a loop of links"));
                Some(Found { path, error: Some(error) })
            }
        }))
    })
}

struct Printer<'a> {
    session: &'a Session<'a>,
    out: io::BufWriter<io::Stdout>,
    failed: bool,
    files: u64,
}

impl<'a> Printer<'a> {
    fn new(session: &'a Session<'a>) -> Printer<'a> {
        Printer { session, out: io::BufWriter::new(io::stdout()), failed: false, files: 0 }
    }

    fn file(
        &mut self,
        path: &Path,
        algorithms: &[Algorithm],
        result: Result<Digested, Failure>,
    ) -> anyhow::Result<()> {
        let args = self.session.args;
        self.files += 1;
        if let Err(failure) = &result {
            self.failed = true;
            eprintln!("pipec: {}: {failure}", path.display());
        }
        if args.json {
            return self.json(path, algorithms, &result);
        }
        let Ok(digested) = result else { return Ok(()) };
        for (algorithm, value) in algorithms.iter().zip(&digested.values) {
            let text = value.text(algorithm, args.base64);
            self.line(path, algorithm, &text, digested.bytes)?;
        }
        // Whoever reads a list as it comes sees a file's lines when they are whole.
        self.out.flush().context("cannot write")
    }

    fn line(&mut self, path: &Path, algorithm: &Algorithm, text: &str, bytes: u64) -> anyhow::Result<()> {
        let args = self.session.args;
        let (name, is_escaped) = match args.zero {
            true => (name::bytes(path.as_os_str()), false),
            false => name::escaped(path),
        };
        let mut line = Vec::with_capacity(name.len() + text.len() + 16);
        if is_escaped {
            line.push(b'\\');
        }
        match algorithm.classic.filter(|_| args.untagged && !args.base64) {
            _ if !args.untagged => {
                write!(line, "{} (", algorithm.tag)?;
                line.extend(name);
                write!(line, ") = {text}")?;
            }
            None => {
                write!(line, "{text}  ")?;
                line.extend(name);
            }
            Some(classic) => {
                match classic {
                    Classic::Cksum => write!(line, "{text} {bytes}")?,
                    Classic::Bsd => write!(line, "{text:0>5} {:5}", bytes.div_ceil(1024))?,
                    Classic::Sysv => write!(line, "{text} {}", bytes.div_ceil(512))?,
                }
                // The old tools name no file that nobody has named.
                if !self.session.args.files.is_empty() {
                    line.push(b' ');
                    line.extend(name);
                }
            }
        }
        line.push(if args.zero { 0 } else { b'\n' });
        self.out.write_all(&line).context("cannot write")
    }

    fn json(
        &mut self,
        path: &Path,
        algorithms: &[Algorithm],
        result: &Result<Digested, Failure>,
    ) -> anyhow::Result<()> {
        let base64 = self.session.args.base64;
        let mut object = serde_json::json!({ "file": path.to_string_lossy() });
        match result {
            Ok(digested) => {
                let texts = algorithms.iter().zip(&digested.values).map(|(algorithm, value)| {
                    let text = if base64 { value.text(algorithm, true) } else { value.hex() };
                    (algorithm.name.clone(), text.into())
                });
                object["bytes"] = digested.bytes.into();
                object["digests"] = serde_json::Value::Object(texts.collect());
            }
            Err(failure) => object["error"] = failure.to_string().into(),
        }
        write!(self.out, "{}{object}", if self.files == 1 { "[" } else { ",\n " }).context("cannot write")
    }

    fn finish(mut self) -> Outcome {
        if self.session.args.json {
            writeln!(self.out, "{}]", if self.files == 0 { "[" } else { "" }).context("cannot write")?;
        }
        self.out.flush().context("cannot write")?;
        Ok(if self.failed { Status::Refused } else { Status::Fine })
    }
}
