//! `pipec emit`: code for others to run. So far arrival handlers, for the Linux kernel.

use super::inspect::write_out;
use super::{Outcome, Status};
use crate::files::LibraryArgs;
use clap::ValueEnum;
use pipe_lib::handler::{Handler, HandlerError, XdpProgram};
use std::path::PathBuf;

/// Emit code for other programs: a handler as an XDP program
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The pipeline
    pipeline: String,
    /// What to make of it
    #[arg(long, value_enum)]
    kind: Kind,
    /// Write instructions of 8 bytes to a file, instead of a listing to the standard output. The places of
    /// the counters' map hold zero: the listing names them
    #[arg(short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    library: LibraryArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// eBPF for the kernel's XDP hook
    Xdp,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let Kind::Xdp = args.kind;
    let Some(pipeline) = args.library.pipeline(&args.pipeline)? else { return Ok(Status::Refused) };
    let made = || -> Result<(Handler, XdpProgram), HandlerError> {
        let handler = Handler::new(pipeline.composition())?;
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
