//! `pipec emit`: ahead-of-time code for other programs. Not there yet, and says so.

use super::{Outcome, Status};
use crate::files::LibraryArgs;
use clap::ValueEnum;
use std::path::PathBuf;

/// Write a pipeline as code for other programs (not implemented yet)
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The pipeline
    pipeline: String,
    /// What to write
    #[arg(long, value_enum)]
    kind: Kind,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    library: LibraryArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// An object file
    Object,
    /// Its C header
    Header,
    /// C source
    C,
    /// Rust source
    Rust,
}

pub(crate) fn run(args: &Args) -> Outcome {
    if args.library.pipeline(&args.pipeline)?.is_none() {
        return Ok(Status::Refused);
    }
    let kind = args.kind.to_possible_value().map_or(String::new(), |kind| kind.get_name().to_owned());
    anyhow::bail!(
        "`emit --kind {kind}` is not implemented yet; {} was not written\n\
         A Rust program composes at run time instead: `pipe_lib::Library::standard().pipeline(TEXT)?.compile()?`.\n\
         Other programs send their bytes through `pipec run PIPELINE -o -`; `pipec inspect PIPELINE --emit asm` shows the code.",
        args.output.display()
    )
}
