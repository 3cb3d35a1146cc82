//! `cheetah mkdir SITE.img PATH`: makes a folder in an image.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context;
use cheetah::site::pack;

use super::image::{open_to_change, plain};

/// Make a folder in an image, which is made if it is not there
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The image file
    image: PathBuf,
    /// The folder's path in the image
    path: String,
    /// Those above it, too, and it is no error if it is there
    #[arg(short, long)]
    parents: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut log = open_to_change(&arguments.image, true)?;
    let mtime = pack::mtime(SystemTime::now());
    let path = plain(&arguments.path);
    let mut make = || -> Result<(), fsstack::log::LogError> {
        if arguments.parents {
            log.make_parents(path, mtime)?;
            if log.latest().find(path).is_some_and(|entry| entry.is_directory()) {
                return log.sync().map(drop);
            }
        }
        log.mkdir(path, mtime)?;
        log.sync().map(drop)
    };
    make().with_context(|| format!("`{}`", arguments.path))
}
