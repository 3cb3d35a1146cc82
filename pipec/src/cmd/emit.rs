//! `pipec emit`: code for others to run: an object file for C and Rust, an arrival handler for the Linux
//! kernel.

use super::inspect::write_out;
use super::{Outcome, Status};
use crate::files::LibraryArgs;
use anyhow::Context as _;
use clap::ValueEnum;
use pipe_lib::emit::{EmitOptions, EmitTarget, emit};
use pipe_lib::handler::{Handler, HandlerError, XdpProgram};
use pipe_lib::{Composition, Features};
use std::path::{Path, PathBuf};

/// Emit code for other programs: an object file to link, with a C header or a Rust module; a handler as an
/// XDP program
#[derive(clap::Args, Debug)]
#[command(after_help = KINDS_HELP)]
pub(crate) struct Args {
    /// The pipeline
    pipeline: String,
    /// What to make of it
    #[arg(long, value_enum)]
    kind: Kind,
    /// Where to write it. An object has to be given a place; texts and listings go to the standard output
    /// without. Of XDP, a file gets instructions of 8 bytes, and the places of the counters' map hold zero:
    /// the listing names them
    #[arg(short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The function's name, the same for object and header [default: the output's, without its ending]
    #[arg(long)]
    name: Option<String>,
    /// Sets of instructions to have code for, the best first, each a list as `avx2,pclmul`; `none` for
    /// portable code alone [default: those of Ice Lake, Alder Lake and Haswell, and what came after each]
    #[arg(long, value_name = "NAMES")]
    features: Vec<String>,
    /// The machines that an object is for: `x86_64` or `aarch64`, as ELF; another kind than this machine's
    /// takes a build with `--features cross` [default: this machine's kind and system]
    #[arg(long)]
    target: Option<EmitTarget>,
    #[command(flatten)]
    library: LibraryArgs,
}

const KINDS_HELP: &str = "The object needs no library. It has the loop as portable code and for each set of \
instructions; `cpuid` chooses at the first call. The header says what the function takes. Object and header \
are made by two commands with the same --name. A layout, a frame, values of 128 bits and secret states \
are refused: they need the library. See docs/emit.md.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// An object file of this machine's format, with --target an ELF one
    Object,
    /// How C and C++ call it
    Header,
    /// How Rust calls it: a module with a safe function
    Rust,
    /// eBPF for the kernel's XDP hook
    Xdp,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let Some(pipeline) = args.library.pipeline(&args.pipeline)? else { return Ok(Status::Refused) };
    match args.kind {
        Kind::Xdp => xdp(args, pipeline.composition()),
        Kind::Object | Kind::Header | Kind::Rust => linked(args, pipeline.composition()),
    }
}

/// An object, or what is said of it.
fn linked(args: &Args, composition: &Composition) -> Outcome {
    if args.kind == Kind::Object && args.output.is_none() {
        anyhow::bail!("an object file goes to a file: write -o FILE.o");
    }
    let name = match (&args.name, &args.output) {
        (Some(name), _) => name.clone(),
        (None, Some(output)) => {
            stem(output).context("the output has no name to call the function by: write --name NAME")?
        }
        (None, None) => anyhow::bail!("the function has to be called something: write --name NAME"),
    };
    let refused = |error: &dyn std::fmt::Display| {
        eprintln!("pipec: {error}");
        Ok(Status::Refused)
    };
    let mut options = match EmitOptions::new(&name) {
        Ok(options) => options,
        Err(error) => return refused(&error),
    };
    if let Some(target) = args.target {
        options = options.target(target);
    }
    if !args.features.is_empty() {
        let sets = args.features.iter().filter(|names| *names != "none");
        match sets.map(|names| Features::of_machine(names)).collect() {
            Ok(machines) => options = options.machines(machines),
            Err(error) => return refused(&error),
        }
    }
    let emitted = match emit(composition, &options) {
        Ok(emitted) => emitted,
        Err(error) => return refused(&error),
    };
    let output = args.output.as_deref();
    match args.kind {
        Kind::Header => write_out(output, emitted.c_header().as_bytes())?,
        Kind::Rust => write_out(output, emitted.rust_module().as_bytes())?,
        Kind::Object | Kind::Xdp => {
            write_out(output, emitted.object())?;
            emitted.codes().iter().for_each(|line| println!("{name}: {line}"));
        }
    }
    Ok(Status::Fine)
}

fn stem(path: &Path) -> Option<String> {
    Some(path.file_stem()?.to_str()?.to_owned())
}

fn xdp(args: &Args, composition: &Composition) -> Outcome {
    let given = [
        (args.name.is_some(), "--name"),
        (!args.features.is_empty(), "--features"),
        (args.target.is_some(), "--target"),
    ];
    for (given, option) in given {
        anyhow::ensure!(!given, "{option} says nothing to --kind xdp: leave it out");
    }
    let made = || -> Result<(Handler, XdpProgram), HandlerError> {
        let handler = Handler::new(composition)?;
        let program = XdpProgram::new(&[&handler])?;
        Ok((handler, program))
    };
    match made() {
        Ok((_, program)) if args.output.is_some() => {
            write_out(args.output.as_deref(), &program.with_maps(0, 0))?;
            Ok(Status::Fine)
        }
        Ok((handler, program)) => {
            let commented: String = handler.to_string().lines().map(|line| format!("; {line}\n")).collect();
            let map = format!("; counters: an array map of one value of {} bytes\n", program.map_bytes());
            write_out(None, format!("{commented}{map}{}", program.listing()).as_bytes())?;
            Ok(Status::Fine)
        }
        Err(error) => {
            eprintln!("pipec: {error}");
            Ok(Status::Refused)
        }
    }
}
