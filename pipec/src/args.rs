//! What can be said on the command line. Each subcommand's own arguments stand with it.

use crate::cmd::{self, Outcome};
use clap::{Parser, Subcommand};

/// Composes pipes at run time into one copy loop: checks, formats, explains, runs and measures them.
#[derive(Debug, Parser)]
#[command(name = "pipec", version, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(cmd::check::Args),
    Fmt(cmd::fmt::Args),
    List(cmd::list::Args),
    Explain(cmd::explain::Args),
    Inspect(cmd::inspect::Args),
    Emit(cmd::emit::Args),
    Run(cmd::run::Args),
    Sum(cmd::sum::Args),
    Bench(cmd::bench::Args),
    Test(cmd::test::Args),
    Fuzz(cmd::fuzz::Args),
}

impl Command {
    pub(crate) fn run(&self) -> Outcome {
        match self {
            Command::Check(args) => cmd::check::run(args),
            Command::Fmt(args) => cmd::fmt::run(args),
            Command::List(args) => cmd::list::run(args),
            Command::Explain(args) => cmd::explain::run(args),
            Command::Inspect(args) => cmd::inspect::run(args),
            Command::Emit(args) => cmd::emit::run(args),
            Command::Run(args) => cmd::run::run(args),
            Command::Sum(args) => cmd::sum::run(args),
            Command::Bench(args) => cmd::bench::run(args),
            Command::Test(args) => cmd::test::run(args),
            Command::Fuzz(args) => cmd::fuzz::run(args),
        }
    }
}
