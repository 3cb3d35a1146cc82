//! `cheetah cat SITE.img PATH`: the contents of a file of an image.

use std::io::Write;
use std::path::PathBuf;

use super::image::{open, resolve};

/// Write a file of an image to the standard output
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The image file
    image: PathBuf,
    /// A file in it
    path: String,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let image = open(&arguments.image)?;
    let file = resolve(&image, &arguments.path)?;
    anyhow::ensure!(!file.is_directory(), "`{}` is a folder", arguments.path);
    anyhow::ensure!(file.is_file(), "`{}` is no file", arguments.path);
    let mut out = std::io::stdout().lock();
    let mut offset = 0;
    while offset < file.size() {
        let bytes = file.fetch(offset, usize::MAX)?;
        out.write_all(bytes.bytes())?;
        offset += bytes.len() as u64;
    }
    Ok(out.flush()?)
}
