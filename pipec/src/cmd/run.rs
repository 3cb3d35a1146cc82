//! `pipec run`: bytes through a pipeline.
//!
//! A stream goes through in chunks, so that neither a big file nor an endless standard input has to fit in
//! memory. Only several threads, which take a part each, need the input as a whole.

use super::{Outcome, Status};
use crate::files::LibraryArgs;
use crate::parse;
use crate::progress::Progress;
use anyhow::{Context as _, bail};
use pipe_lib::{
    Backend, CompileOptions, Engine, ExportInfo, ExportValue, Features, Imports, RegisterInfo, Run, RunError,
    Stream,
};
use serde::ser::{Serialize, Serializer};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Run bytes through a pipeline and print what it exports
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The pipeline
    pipeline: String,
    /// Read from a file instead of the standard input
    #[arg(short, long, value_name = "IN")]
    input: Option<PathBuf>,
    /// Write the data to a file, `-` for the standard output; without it no data is written
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Start a register from another value than its initial one; INST may be left out where one instance
    /// alone has REG
    #[arg(long = "set", value_name = "[INST.]REG=VALUE", value_parser = parse::assignment)]
    set: Vec<(String, parse::Setting)>,
    /// Where the code comes from
    #[arg(long, default_value = "auto", value_parser = parse::backend)]
    backend: Backend,
    /// Which instructions the native backend may use, as in `avx2,gfni`; all that the processor has, without
    #[arg(long, value_name = "NAMES", value_parser = parse::features)]
    features: Option<Features>,
    /// One word after the other, as written: what vectors and rewrites are compared with
    #[arg(long)]
    serial: bool,
    /// Most bytes read at a time, with K, M or G for powers of 1024
    #[arg(long, value_name = "BYTES", default_value = "256K", value_parser = parse::chunk)]
    chunk: usize,
    /// Read the whole input into memory and run over it on so many threads; 0 is one for each processor
    #[arg(short, long, value_name = "N", default_value = "1")]
    jobs: usize,
    /// Hold each window of a frame at the start back until its fields were found to be good: nothing of a bad
    /// one is written
    #[arg(long)]
    hold_back: bool,
    /// Print the result as a JSON object: `bytes` read, `written`, the `exports` by name as unsigned integers
    /// (of a stage with windows a list), and those of 64 bits once more in `hex`, as text, for readers that
    /// would round them
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    library: LibraryArgs,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let Some(pipeline) = args.library.pipeline(&args.pipeline)? else { return Ok(Status::Refused) };
    let options = CompileOptions::from(args.backend).features(args.features).serial(args.serial);
    let engine = pipeline.compile_with(&options)?;
    let mut imports = engine.imports();
    for (name, value) in &args.set {
        let RegisterInfo { name, ty, .. } = register(&engine, name)?;
        let Some(value) = value.of_type(*ty) else {
            bail!("register `{name}` is {ty}, which has no such value");
        };
        imports.set(name, value)?;
    }
    let input = Input::open(args.input.as_deref())?;
    let composition = engine.composition();
    // With layouts and frames there is nothing to gain from several threads.
    let ends =
        composition.source.is_some() || composition.sink.is_some() || composition.frames().count() != 0;
    let report = if args.jobs != 1 && !ends {
        parallel(args, &engine, &imports, input)?
    } else {
        chunks(args, &engine, &imports, input)?
    };
    report.print(args.json, args.output.as_deref() == Some(Path::new("-")))?;
    Ok(Status::Fine)
}

/// The register `INST.REG`, or `REG` where one instance alone has it.
fn register<'e>(engine: &'e Engine, name: &str) -> anyhow::Result<&'e RegisterInfo> {
    let registers = engine.registers();
    // No instance has an empty name, so that a full name is never a register's own.
    let own = |full: &str| full.rsplit_once('.').is_some_and(|(_, own)| own == name);
    let exact = registers.iter().find(|register| register.name == name);
    let found: Vec<_> = exact.map_or_else(
        || registers.iter().filter(|register| own(&register.name)).collect(),
        |register| vec![register],
    );
    let list = |registers: &mut dyn Iterator<Item = &RegisterInfo>| {
        registers.map(|register| format!("`{}`", register.name)).collect::<Vec<_>>().join(", ")
    };
    match *found {
        [register] => Ok(register),
        [] if registers.is_empty() => bail!("no register `{name}`: the pipeline has none at all"),
        [] => bail!("no register `{name}`: there is {}", list(&mut registers.iter())),
        _ => bail!("`{name}` may be one of several: write one of {}", list(&mut found.iter().copied())),
    }
}

/// What comes in.
struct Input {
    from: Box<dyn Read>,
    /// Bytes that will come, where that is known beforehand.
    len: Option<u64>,
    /// The file, if it is one.
    file: Option<File>,
}

/// What the shell has made standard input, to compare it with the output.
#[cfg(unix)]
fn stdin_file() -> Option<File> {
    use std::os::fd::AsFd as _;
    io::stdin().as_fd().try_clone_to_owned().ok().map(File::from)
}

#[cfg(not(unix))]
fn stdin_file() -> Option<File> {
    None
}

impl Input {
    fn open(path: Option<&Path>) -> anyhow::Result<Input> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return Ok(Input { from: Box::new(io::stdin().lock()), len: None, file: stdin_file() });
        };
        let cannot = || format!("cannot read {}", path.display());
        let file = File::open(path).with_context(cannot)?;
        let metadata = file.metadata().with_context(cannot)?;
        if metadata.is_dir() {
            bail!("{} is a folder", path.display());
        }
        let len = metadata.is_file().then_some(metadata.len());
        Ok(Input { from: Box::new(file.try_clone().with_context(cannot)?), len, file: Some(file) })
    }

    /// The bytes that are there, at most a buffer of them; none at the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.from.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// Where the data goes: a file, the standard output, or nowhere.
fn open_output(path: Option<&Path>, input: &Input) -> anyhow::Result<Option<Box<dyn Write>>> {
    let Some(path) = path else { return Ok(None) };
    if path == Path::new("-") {
        return Ok(Some(Box::new(io::stdout().lock())));
    }
    let cannot = || format!("cannot write {}", path.display());
    if is_same_file(path, input) {
        bail!("{} is the input as well", path.display());
    }
    Ok(Some(Box::new(File::create(path).with_context(cannot)?)))
}

/// Whether creating `path` would truncate the input.
#[cfg(unix)]
fn is_same_file(path: &Path, input: &Input) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let output = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(identity);
    let input = input.file.as_ref().and_then(|file| file.metadata().ok()).map(identity);
    output.is_some() && output == input
}

#[cfg(not(unix))]
fn is_same_file(path: &Path, input: &Input) -> bool {
    input.file.is_some() && path.exists()
}

/// In chunks, of any length.
fn chunks(args: &Args, engine: &Engine, imports: &Imports, mut input: Input) -> anyhow::Result<Report> {
    // Where the length is known, a tail rule or a frame refuses it before anything is written.
    if let Some(len) = input.len {
        match usize::try_from(len) {
            Ok(len) if engine.composition().frames().count() != 0 => drop(engine.out_len(len)?),
            _ => engine.check_length(stream_len(engine, len))?,
        }
    }
    let sink = engine.composition().sink.as_deref();
    if engine.composition().source.as_ref().is_some_and(|layout| layout.fixed) {
        engine.run_read_only(&[])?; // refused: a register is no input
    }
    let mut output = open_output(args.output.as_deref(), &input)?;
    let mut stream = engine.stream_with(imports)?;
    if args.hold_back {
        stream = stream.hold_back();
    }
    let mut chunk = Aligned::new(args.chunk);
    let mut register = Aligned::new(ACCESS);
    // Passes may hold a few bytes back; they come out with the next chunk.
    let mut out = Vec::new();
    let mut progress = Progress::new(input.len);
    loop {
        let place = chunk.at(stream.source_offset());
        let n = input.read(place).context("cannot read the input")?;
        if n == 0 {
            break;
        }
        let mut rest = &place[..n];
        match (&mut output, sink) {
            (None, _) => stream.push_read_only(rest)?,
            (Some(_), Some(layout)) if layout.fixed => {
                stream.push(rest, register.at(0))?;
            }
            (Some(output), sink) => {
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(fitting(&stream, rest.len()));
                    let written = if sink.is_some() {
                        out.clear();
                        stream.push_to(piece, &mut out)?
                    } else {
                        let room = stream.room(piece.len()).ok_or(RunError::TooLong)?;
                        if out.len() < room {
                            out.resize(room, 0);
                        }
                        let before = stream.sink_offset();
                        let pushed = stream.push(piece, &mut out);
                        // What came before a window that is bad is good.
                        if let Err(error @ RunError::Mismatch(_)) = pushed {
                            let good = usize::try_from(stream.sink_offset() - before).unwrap_or(0);
                            let written = output.write_all(&out[..good]).and_then(|()| output.flush());
                            written.context("cannot write the output")?;
                            return Err(error.into());
                        }
                        pushed?
                    };
                    output.write_all(&out[..written]).context("cannot write the output")?;
                    rest = after;
                }
                // Whoever sends through a pipe may wait for the answer before sending more.
                if input.len.is_none() {
                    output.flush().context("cannot write the output")?;
                }
            }
        }
        progress.advance(n as u64);
    }
    progress.finish();
    let Some(output) = &mut output else { return Ok(Report::new(&stream.finish()?.run, false)) };
    let end = if sink.is_some_and(|layout| layout.fixed) {
        let end = stream.finish_into(register.at(0))?;
        // What a register shows is what was stored last.
        output.write_all(&register.at(0)[..end.run.written]).context("cannot write the output")?;
        end
    } else {
        let end = stream.room_at_end().ok_or(RunError::TooLong)?;
        anyhow::ensure!(
            end <= MAX_END,
            "the layout's padding, holes and all, comes to {end} bytes; at most {MAX_END} are made"
        );
        stream.finish()?
    };
    output.write_all(end.rest()).and_then(|()| output.flush()).context("cannot write the output")?;
    Ok(Report::new(&end.run, true))
}

/// Bytes of the stream that an input of `len` bytes holds.
fn stream_len(engine: &Engine, len: u64) -> u64 {
    let Some(layout) = &engine.composition().source else { return len };
    let len = engine.stream_len(usize::try_from(len).unwrap_or(usize::MAX)) as u64;
    // Only whole accesses count.
    len - len % u64::from(layout.store.unwrap_or(1))
}

/// Most bytes of output to make at a time, unless it is of one byte of the input: holes may be longer than
/// what is between.
const MAX_OUTPUT: usize = 4 << 20;

/// Most bytes of padding behind the stream, which are made at once.
const MAX_END: usize = 256 << 20;

/// Bytes of a chunk of `len` to push at a time, so that the output fits in memory, holes and all.
fn fitting(stream: &Stream, len: usize) -> usize {
    let mut len = len;
    while len > 1 && stream.room(len).is_none_or(|room| room > MAX_OUTPUT) {
        len /= 2;
    }
    len
}

/// Bytes of the widest access.
const ACCESS: usize = 8;

/// A buffer that is aligned to every width of access.
struct Aligned {
    bytes: Vec<u8>,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Aligned {
        Aligned { bytes: vec![0; len + 2 * ACCESS], len }
    }

    /// The buffer as the part of a device's that begins at `offset` would be aligned.
    fn at(&mut self, offset: u64) -> &mut [u8] {
        let start = self.bytes.as_ptr().align_offset(ACCESS) + (offset % ACCESS as u64) as usize;
        &mut self.bytes[start..start + self.len]
    }
}

/// As a whole, on several threads.
fn parallel(args: &Args, engine: &Engine, imports: &Imports, mut input: Input) -> anyhow::Result<Report> {
    if let Some(len) = input.len {
        engine.check_length(len)?;
    }
    let mut data = Vec::new();
    input.from.read_to_end(&mut data).context("cannot read the input")?;
    if let Some(why) = engine.serial_because(data.len() as u64) {
        eprintln!("pipec: running on one thread: {why}");
    }
    let threads = match args.jobs {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        jobs => jobs,
    };
    let prepared = engine.with(imports)?;
    if args.output.is_none() {
        return Ok(Report::new(&prepared.run_parallel_read_only(&data, threads)?, false));
    }
    let run = prepared.run_parallel_in_place(&mut data, threads)?;
    if let Some(mut output) = open_output(args.output.as_deref(), &input)? {
        output.write_all(&data).and_then(|()| output.flush()).context("cannot write the output")?;
    }
    Ok(Report::new(&run, true))
}

/// What a run came to, for people or for programs.
#[derive(serde::Serialize)]
struct Report {
    bytes: u64,
    written: u64,
    /// Numbers, exact for a reader that has integers of 64 bits.
    exports: Exports,
    /// Those of more bits than a double holds, once more: readers whose numbers are doubles would round them.
    #[serde(skip_serializing_if = "Hex::is_empty")]
    hex: Hex,
}

/// Bits of an integer that a double holds exactly.
const DOUBLE_BITS: u32 = 53;

/// Names and values in stream order.
struct Exports(Vec<(ExportInfo, Value)>);

/// The wide ones among the exports, as hexadecimal text with a `0x` and all digits of the type.
struct Hex(Vec<(String, HexValue)>);

/// One value, or one a window.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Value {
    One(u64),
    Windows(Vec<u64>),
    /// A digest's, as hexadecimal digits.
    Bytes(String),
    BytesOfWindows(Vec<String>),
}

#[derive(serde::Serialize)]
#[serde(untagged)]
enum HexValue {
    One(String),
    Windows(Vec<String>),
}

impl Serialize for Exports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(info, value)| (&info.name, value)))
    }
}

impl Hex {
    fn of(exports: &Exports) -> Hex {
        let wide = exports.0.iter().filter(|(info, _)| info.ty.bits() > DOUBLE_BITS);
        let hex = wide.filter_map(|(info, value)| {
            let value = match value {
                Value::Bytes(_) | Value::BytesOfWindows(_) => return None,
                Value::One(value) => HexValue::One(hex(info, *value)),
                Value::Windows(values) => {
                    HexValue::Windows(values.iter().map(|value| hex(info, *value)).collect())
                }
            };
            Some((info.name.clone(), value))
        });
        Hex(hex.collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// As many digits as the type has: sums are compared by eye.
fn hex(info: &ExportInfo, value: u64) -> String {
    let digits = (info.ty.bits() as usize).div_ceil(4) + 2;
    format!("{value:#0digits$x}")
}

impl Report {
    fn new(run: &Run<'_>, has_output: bool) -> Report {
        let exports = run.exports().map(|(info, value)| {
            let value = match value {
                ExportValue::One(value) => Value::One(value),
                ExportValue::Windows(values) => Value::Windows(values.to_vec()),
                ExportValue::Digest(value) => Value::Bytes(value.to_string()),
                ExportValue::Digests(list) => {
                    Value::BytesOfWindows(list.iter().map(|value| value.to_string()).collect())
                }
            };
            (info.clone(), value)
        });
        let exports = Exports(exports.collect());
        let written = if has_output { run.written as u64 } else { 0 };
        Report { bytes: run.read as u64, written, hex: Hex::of(&exports), exports }
    }

    fn print(&self, json: bool, data_on_stdout: bool) -> anyhow::Result<()> {
        let to: &mut dyn Write =
            if data_on_stdout { &mut io::stderr().lock() } else { &mut io::stdout().lock() };
        let mut to = io::BufWriter::new(to);
        if json {
            serde_json::to_writer(&mut to, self).map_err(io::Error::from)?;
            writeln!(to)?;
        } else {
            for (info, value) in &self.exports.0 {
                match value {
                    Value::One(value) => writeln!(to, "{} = {}", info.name, hex(info, *value))?,
                    Value::Windows(values) => {
                        for (window, value) in values.iter().enumerate() {
                            writeln!(to, "{}[{window}] = {}", info.name, hex(info, *value))?;
                        }
                    }
                    Value::Bytes(digits) => writeln!(to, "{} = {digits}", info.name)?,
                    Value::BytesOfWindows(list) => {
                        for (window, digits) in list.iter().enumerate() {
                            writeln!(to, "{}[{window}] = {digits}", info.name)?;
                        }
                    }
                }
            }
        }
        to.flush()?;
        Ok(())
    }
}
