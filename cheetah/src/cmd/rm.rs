//! `cheetah rm SITE.img PATH`: removes a file or folder of an image.

use std::path::PathBuf;

use anyhow::Context;

use super::image::{open_to_change, plain};

/// Remove files or folders of an image; on the disk when the command ends, all or none of them
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The image file
    image: PathBuf,
    /// What to remove
    #[arg(required = true)]
    paths: Vec<String>,
    /// Folders with all that is in them, too
    #[arg(short, long)]
    recursive: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut log = open_to_change(&arguments.image, false)?;
    for path in &arguments.paths {
        let plain = plain(path);
        let done = if arguments.recursive { log.remove_all(plain) } else { log.remove(plain) };
        done.with_context(|| format!("`{path}`"))?;
    }
    log.sync()?;
    Ok(())
}
