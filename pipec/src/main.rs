//! Command line of the pipe compiler.
//!
//! Exit status: 0 fine, 1 the input was refused or a check failed, 2 wrong usage. Errors go to stderr; a
//! closed pipe is no error.

mod args;
mod cmd;
mod digest;
mod files;
mod parse;
mod progress;
mod render;

use clap::Parser;
use cmd::Status;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Wrong usage ends here with status 2, `--help` with 0.
    let args = args::Args::parse_from(std::env::args_os().map(not_an_option));
    if let Err(error) = pipe_lib::Features::check_cap() {
        eprintln!("pipec: {}: {error}", pipe_lib::Features::CAP);
        return ExitCode::from(2);
    }
    match args.command.run() {
        Ok(Status::Fine) => ExitCode::SUCCESS,
        Ok(Status::Refused) => ExitCode::from(1),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pipec: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// A pipeline that begins with a layout at its end (`-> gapped`: a plain copy) is no option: with a space in
/// front of it, it does not look like one.
fn not_an_option(arg: OsString) -> OsString {
    if !arg.as_encoded_bytes().starts_with(b"->") {
        return arg;
    }
    let mut spaced = OsString::from(" ");
    spaced.push(arg);
    spaced
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
