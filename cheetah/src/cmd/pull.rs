//! `cheetah pull URL SITE.img`: the published image, once.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use cheetah::depot::{self, Pulled};

/// Fetch the image that is published there now: what the file has already is not fetched again
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where from: file:///FOLDER, or s3://BUCKET/PREFIX in a build with `--features s3`
    url: String,
    /// The file that becomes that image, in one step
    #[arg(value_name = "SITE.img")]
    image: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let depot = depot::open(&arguments.url).with_context(|| arguments.url.clone())?;
    let pulled = depot::pull(&*depot, &arguments.image, &AtomicBool::new(false));
    let Pulled { image, bytes, fetched_bytes, is_new } = pulled.with_context(|| arguments.url.clone())?;
    let what = if is_new { "is now" } else { "is already" };
    println!("{} {what} {image}: {bytes} bytes, {fetched_bytes} of them fetched", arguments.image.display());
    Ok(())
}
