//! `cheetah check FILE`: whether `serve --config FILE` would serve.

use std::path::PathBuf;

/// Check a configuration file: its keys and values, and whether what it names can be served
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The file, as `serve --config` takes it
    file: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let hosts = super::serve::check(&arguments.file)?;
    let hosts = if hosts == 1 { "one site".to_owned() } else { format!("{hosts} sites") };
    println!("{}: fine, {hosts}", arguments.file.display());
    Ok(())
}
