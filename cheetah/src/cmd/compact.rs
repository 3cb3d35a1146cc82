//! `cheetah compact SITE.img`: packs what an image holds into one piece.

use std::path::PathBuf;

use anyhow::Context;
use cheetah::site::change;
use fsstack::device::{AtomicFile, DeviceMut};
use fsstack::{BuildOptions, Builder};

use super::image::open_to_change;

/// Pack what an image holds into one piece, as `pack` lays it out, and give back the space of all else
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The image file
    image: PathBuf,
    /// Write a packed image instead, and leave the one that there is
    #[arg(short, long, value_name = "PACKED.img")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut log = open_to_change(&arguments.image, false)?;
    change::make_missing_heads(&mut log)?;
    let Some(output) = &arguments.output else {
        let summary = log.compact(&[]).with_context(|| arguments.image.display().to_string())?;
        println!("{}: {} files in {} bytes", arguments.image.display(), summary.files, summary.image_bytes);
        return Ok(());
    };
    let latest = log.latest();
    let lost = latest.entries().filter(|entry| entry.special().is_some() || entry.posix().is_some()).count();
    if lost > 0 {
        tracing::warn!(
            "a packed image has no modes and owners, symbolic links, pipes, sockets and devices: \
             those of {lost} paths are left out"
        );
    }
    let cannot = || format!("cannot write {}", output.display());
    let file = AtomicFile::create(output).with_context(cannot)?;
    let mut builder = Builder::new(file, &BuildOptions::default())?;
    latest.pack(&[], &mut builder)?;
    let (mut file, summary) = builder.finish()?;
    file.sync().with_context(cannot)?;
    file.publish().with_context(cannot)?;
    println!("{}: {} files in {} bytes", output.display(), summary.files, summary.image_bytes);
    Ok(())
}
