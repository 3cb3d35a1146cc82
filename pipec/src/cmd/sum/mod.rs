//! `pipec sum`: one read, every digest.
//!
//! `compute` prints digests of files, `check` compares those of lists, `order` runs both over several files
//! at a time and tells in order.

mod check;
mod compute;
mod order;

use super::Outcome;
use crate::digest::{Algorithm, Pass, read};
use crate::files::LibraryArgs;
use crate::parse;
use crate::progress::Progress;
use pipe_lib::{Backend, CompileOptions, Features, Library, RunError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Print digests of files, any number of them from one read, or check lists of them
///
/// Exit status 1 if a file could not be read or a digest is not what a list says.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Which digests: `pipec sum --list` names them. Without, crc32c; with --check, what the list says, and of
    /// values without a tag these ones first
    #[arg(short, long = "algorithm", value_name = "NAME,...", value_delimiter = ',')]
    algorithms: Vec<String>,
    /// The files, folders with all that is in them; the standard input without, or as `-`
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The files are lists: check what they say. Lines as of coreutils, BSD, RHash and SFV are known
    #[arg(short, long)]
    check: bool,
    /// So many files at a time, or parts of one big file whose digests are pipes; 0 is one for each processor
    #[arg(short, long, value_name = "N", default_value = "1")]
    jobs: usize,
    /// Read past the page cache (O_DIRECT): what is there of other files stays, and what is there of these is
    /// not used. Not of the standard input
    #[arg(long)]
    direct: bool,
    /// Print the names of all digests
    #[arg(long, exclusive = true)]
    list: bool,
    /// Print lines without a tag, as `sha256sum`, `cksum` and `sum` do; of one digest
    #[arg(long, conflicts_with_all = ["json", "check"])]
    untagged: bool,
    /// Print digests in base64, as S3's headers have them, most significant byte first
    #[arg(long, conflicts_with = "check")]
    base64: bool,
    /// End each line with a NUL byte, and write names as they are
    #[arg(short, long, conflicts_with_all = ["json", "check"])]
    zero: bool,
    /// Print a list of JSON objects, one a file: its name, its bytes, its digests or its error
    #[arg(long)]
    json: bool,
    /// With --check: do not fail for files that are not there
    #[arg(long, requires = "check")]
    ignore_missing: bool,
    /// With --check: say nothing of files that are as they should be
    #[arg(long, requires = "check")]
    quiet: bool,
    /// With --check: say nothing at all, the exit status tells
    #[arg(long, requires = "check", conflicts_with = "json")]
    status: bool,
    /// With --check: lines that are no checksums count as failures
    #[arg(long, requires = "check")]
    strict: bool,
    /// With --check: name the lines that are no checksums
    #[arg(short, long, requires = "check")]
    warn: bool,
    /// Where the code of pipes comes from
    #[arg(long, default_value = "auto", value_parser = parse::backend)]
    backend: Backend,
    /// Which instructions the native backend may use, as in `avx2,gfni`
    #[arg(long, value_name = "NAMES", value_parser = parse::features)]
    features: Option<Features>,
    #[command(flatten)]
    library: LibraryArgs,
}

pub(crate) fn run(args: &Args) -> Outcome {
    if args.list {
        use std::io::Write as _;
        for name in crate::digest::algorithm::names() {
            writeln!(io::stdout(), "{name}")?;
        }
        return Ok(super::Status::Fine);
    }
    let Some(library) = args.library.load()? else { return Ok(super::Status::Refused) };
    let mut algorithms: Vec<Algorithm> = Vec::new();
    for name in &args.algorithms {
        let algorithm = Algorithm::named(name, &library).map_err(anyhow::Error::msg)?;
        if !algorithms.contains(&algorithm) {
            algorithms.push(algorithm);
        }
    }
    let here = PathBuf::from("-");
    let files = if args.files.is_empty() { std::slice::from_ref(&here) } else { &*args.files };
    let session = Session { args, library: &library, files };
    if args.check { check::run(&session, &algorithms) } else { compute::run(&session, algorithms) }
}

/// What both ways need to know.
struct Session<'a> {
    args: &'a Args,
    library: &'a Library,
    files: &'a [PathBuf],
}

impl Session<'_> {
    fn jobs(&self) -> usize {
        match self.args.jobs {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            jobs => jobs,
        }
    }

    fn pass(&self, algorithms: &[Algorithm]) -> anyhow::Result<Pass> {
        let options = CompileOptions::from(self.args.backend).features(self.args.features);
        Pass::new(algorithms, self.library, &options)
    }

    /// A bar for all files together, if their sizes are known.
    fn progress(&self) -> Mutex<Progress> {
        let size = |path: &PathBuf| std::fs::metadata(path).ok().filter(|m| m.is_file()).map(|m| m.len());
        let total = if self.args.check { None } else { self.files.iter().map(size).sum() };
        Mutex::new(Progress::new(total))
    }
}

/// Why there are no digests of a file.
enum Failure {
    Read(io::Error),
    Run(RunError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Read(error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        Failure::Run(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // As the system has it, without Rust's number behind it.
            Failure::Read(error) => match error.to_string().split(" (os error").next() {
                Some("is a directory") | None => f.write_str("Is a directory"),
                Some(text) => f.write_str(text),
            },
            Failure::Run(error) => error.fmt(f),
        }
    }
}

/// What one read of a file came to.
struct Digested {
    bytes: u64,
    values: Vec<crate::digest::Value>,
}

/// Fewest bytes of a file that several threads read.
const PARALLEL_FROM: u64 = 8 << 20;

/// How files are read.
#[derive(Clone, Copy)]
struct Reading<'a> {
    /// Threads for one file.
    threads: usize,
    direct: bool,
    progress: &'a Mutex<Progress>,
}

/// Reads a file once, for all digests of `pass`.
fn digest(path: &Path, pass: &Pass, reading: Reading<'_>) -> Result<Digested, Failure> {
    if let Some(digested) = digest_in_parts(path, pass, reading) {
        return digested;
    }
    let mut running = pass.start();
    let mut bytes = 0;
    read::read_path(path, reading.direct, |block| {
        running.update(block)?;
        bytes += block.len() as u64;
        reading.advance(block.len() as u64);
        Ok::<_, Failure>(())
    })?;
    Ok(Digested { bytes, values: running.finish()? })
}

impl Reading<'_> {
    fn advance(&self, bytes: u64) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).advance(bytes);
    }
}

/// A big file whose digests can be put together, on several threads; `None` if it is none, or was changed
/// meanwhile: then it is read from its start to its end.
#[cfg(unix)]
fn digest_in_parts(path: &Path, pass: &Pass, reading: Reading<'_>) -> Option<Result<Digested, Failure>> {
    if reading.threads < 2 || path == Path::new("-") {
        return None;
    }
    let metadata = std::fs::metadata(path).ok().filter(|metadata| metadata.is_file())?;
    let len = metadata.len();
    if len < PARALLEL_FROM {
        return None;
    }
    let file = match read::open_file(path, reading.direct) {
        Ok(file) => file,
        Err(error) => return Some(Err(error.into())),
    };
    let shorter = std::sync::atomic::AtomicBool::new(false);
    let values = pass.of_parts(len, reading.threads, |at, piece| {
        let wanted = (len - at).min(piece.len() as u64);
        if (read::read_at(&file, at, piece, wanted as usize)? as u64) < wanted {
            shorter.store(true, std::sync::atomic::Ordering::Relaxed);
            return Err(Failure::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        reading.advance(wanted);
        Ok(())
    })?;
    if shorter.into_inner() || file.metadata().map_or(true, |now| now.len() != len) {
        return None;
    }
    Some(values.map(|values| Digested { bytes: len, values }))
}

#[cfg(not(unix))]
fn digest_in_parts(_path: &Path, _pass: &Pass, _reading: Reading<'_>) -> Option<Result<Digested, Failure>> {
    None
}
