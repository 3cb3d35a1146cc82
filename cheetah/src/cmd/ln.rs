//! `cheetah ln SITE.img EXISTING NEW`: gives a file of an image another name.

use std::path::PathBuf;

use anyhow::Context;
use cheetah::site::change;

use super::image::{open_to_change, plain};

/// Give a file of an image another name, where nothing is yet
///
/// Both are names of one file then (a hard link): what is written by one shows by the other, and it goes with
/// the last of them. It is served with the head that was made for its first name, its media type included.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The image file
    image: PathBuf,
    /// A path that it has
    existing: String,
    /// The new one
    new: String,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut log = open_to_change(&arguments.image, false)?;
    let linked = change::link(&mut log, plain(&arguments.existing), plain(&arguments.new));
    linked.with_context(|| format!("`{}` as `{}`", arguments.new, arguments.existing))?;
    log.sync()?;
    Ok(())
}
