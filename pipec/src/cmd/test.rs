//! `pipec test`: the `test` items of files (of the standard library without any), on every backend.

use super::{Outcome, Status};
use crate::{files, parse, render};
use pipe_lib::{Backend, CompileError, Library};
use std::io::Write as _;
use std::path::PathBuf;

/// Run the tests of files, or of the standard library, on every backend
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Files with tests; the standard library's without any
    #[arg(value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Run on one backend only
    #[arg(long, value_parser = parse::backend)]
    backend: Option<Backend>,
    /// Say of every test how it went, not only of those that failed
    #[arg(short, long)]
    verbose: bool,
}

/// What became of the tests on one backend.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    /// Pipelines that the backend does not take.
    skipped: usize,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let mut out = std::io::stdout().lock();
    let backends = match args.backend {
        Some(backend) => vec![backend],
        None => vec![Backend::Interp, Backend::Cranelift, Backend::Native, Backend::Auto],
    };
    let mut tallies = vec![Tally::default(); backends.len()];
    let mut tests = 0;
    let Some(libraries) = libraries(&args.paths)? else { return Ok(Status::Refused) };
    for (library, names) in libraries {
        for test in library.tests().filter(|test| names.is_empty() || names.contains(&test.file)) {
            tests += 1;
            for (&backend, tally) in backends.iter().zip(&mut tallies) {
                let failures = match test.pipeline.compile_with(&backend.into()) {
                    Ok(engine) => test.run(&engine).err().unwrap_or_default(),
                    Err(CompileError::Unsupported(error)) => {
                        tally.skipped += 1;
                        if args.verbose {
                            writeln!(out, "skipped  {} ({error})", test.title)?;
                        }
                        continue;
                    }
                    Err(error) => vec![error.to_string()],
                };
                if failures.is_empty() {
                    tally.passed += 1;
                    if args.verbose {
                        writeln!(out, "passed   {} ({backend})", test.title)?;
                    }
                } else {
                    tally.failed += 1;
                    let line = library.sources().get(test.span.file);
                    let line = line.map_or(1, |source| source.line_column(test.span.start as usize).0);
                    writeln!(out, "FAILED   {} ({backend}) at {}:{line}", test.title, test.file)?;
                    for failure in &failures {
                        writeln!(out, "         {failure}")?;
                    }
                }
            }
        }
    }
    for (backend, tally) in backends.iter().zip(&tallies) {
        let Tally { passed, failed, skipped } = tally;
        let not_taken =
            if *skipped == 0 { String::new() } else { format!(", {skipped} not taken by this backend") };
        let name = backend.name();
        writeln!(out, "{name:>9}: {passed} of {tests} passed, {failed} failed{not_taken}")?;
    }
    if tests == 0 {
        writeln!(out, "there are no tests")?;
    }
    Ok(if tallies.iter().any(|tally| tally.failed != 0) { Status::Refused } else { Status::Fine })
}

/// A library, and the files whose tests are meant: all of them if none is named.
type Loaded = (Library, Vec<String>);

/// A library for each file, which stands on its own; `None` after an error was shown.
fn libraries(paths: &[PathBuf]) -> anyhow::Result<Option<Vec<Loaded>>> {
    if paths.is_empty() {
        return Ok(Some(vec![(Library::standard(), Vec::new())]));
    }
    let mut libraries = Vec::new();
    let mut refused = false;
    for path in paths {
        let mut library = Library::standard();
        match files::load_file(&mut library, path)? {
            Ok(warnings) => {
                render::to_stderr(&warnings)?;
                libraries.push((library, vec![path.display().to_string()]));
            }
            Err(diagnostics) => {
                render::to_stderr(&diagnostics)?;
                refused = true;
            }
        }
    }
    Ok((!refused).then_some(libraries))
}
