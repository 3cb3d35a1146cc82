//! Subcommands, one a file, and how they end: 0 fine, 1 refused or failed, 2 wrong usage.

mod accelerate;
mod bench;
mod cat;
mod check;
mod compact;
mod demo;
mod devices;
mod df;
mod features;
mod fsck;
mod image;
mod ln;
mod ls;
mod manual;
mod mkdir;
mod mv;
mod pack;
mod progress;
mod publish;
mod pull;
mod put;
mod rm;
mod serve;
mod source;
mod stat;
mod swamp;
mod unpack;

use std::fmt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// An HTTP server on the kernel's sockets or on its own TCP/IP, with copy loops composed at run time.
#[derive(Debug, Parser)]
#[command(name = "cheetah", version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Pack(pack::Arguments),
    #[command(visible_alias = "scrub")]
    Fsck(fsck::Arguments),
    Ls(ls::Arguments),
    Cat(cat::Arguments),
    Stat(stat::Arguments),
    Put(put::Arguments),
    Rm(rm::Arguments),
    Ln(ln::Arguments),
    Mv(mv::Arguments),
    Mkdir(mkdir::Arguments),
    Df(df::Arguments),
    Compact(compact::Arguments),
    Unpack(unpack::Arguments),
    Publish(publish::Arguments),
    Pull(pull::Arguments),
    Serve(Box<serve::Arguments>),
    Accelerate(accelerate::Arguments),
    Check(check::Arguments),
    Demo(demo::Arguments),
    Bench(bench::Arguments),
    Swamp(Box<swamp::Arguments>),
    Completions(manual::Completions),
    Manual(manual::Manual),
}

/// Wrong usage that only shows after parsing: exit status 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Usage {}

/// Runs what was asked for.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let wanted = std::env::var("CHEETAH_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let level = wanted.unwrap_or_else(|| Targets::new().with_default(tracing::Level::INFO));
    tracing_subscriber::registry().with(lines).with(level).init();
    let result = match arguments.command {
        Command::Pack(arguments) => pack::run(&arguments),
        Command::Serve(_) => serve::run(&std::env::args_os().skip(2).collect::<Vec<_>>()),
        Command::Accelerate(arguments) => accelerate::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Fsck(arguments) => fsck::run(&arguments),
        Command::Ls(arguments) => ls::run(&arguments),
        Command::Cat(arguments) => cat::run(&arguments),
        Command::Stat(arguments) => stat::run(&arguments),
        Command::Put(arguments) => put::run(&arguments),
        Command::Rm(arguments) => rm::run(&arguments),
        Command::Ln(arguments) => ln::run(&arguments),
        Command::Mv(arguments) => mv::run(&arguments),
        Command::Mkdir(arguments) => mkdir::run(&arguments),
        Command::Df(arguments) => df::run(&arguments),
        Command::Compact(arguments) => compact::run(&arguments),
        Command::Unpack(arguments) => unpack::run(&arguments),
        Command::Publish(arguments) => publish::run(&arguments),
        Command::Pull(arguments) => pull::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Swamp(arguments) => swamp::run(&arguments),
        Command::Completions(arguments) => manual::completions(&arguments),
        Command::Manual(arguments) => manual::manual(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// Whether whoever read our output had enough of it: no error.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}
