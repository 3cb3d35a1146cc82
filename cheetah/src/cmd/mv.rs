//! `cheetah mv SITE.img FROM TO`: moves a file or folder within an image.

use std::path::PathBuf;

use anyhow::Context;
use cheetah::site::change;

use super::image::{open_to_change, plain};

/// Move a file or folder within an image, in place of a file that may be there
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The image file
    image: PathBuf,
    /// Its path
    from: String,
    /// Its new path
    to: String,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut log = open_to_change(&arguments.image, false)?;
    let moved = change::rename(&mut log, plain(&arguments.from), plain(&arguments.to));
    moved.with_context(|| format!("`{}` to `{}`", arguments.from, arguments.to))?;
    log.sync()?;
    Ok(())
}
