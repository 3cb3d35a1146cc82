//! `cheetah publish SITE.img URL`: lets all servers that serve from there have the image.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use cheetah::depot;

use super::{image, progress};

/// Publish an image for servers that serve from there (`serve --from URL`)
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The image, made by `cheetah pack`
    #[arg(value_name = "SITE.img")]
    image: PathBuf,
    /// Where to: file:///FOLDER, or s3://BUCKET/PREFIX in a build with `--features s3`
    url: String,
    /// Then remove parts there that no image needs: what was served before stays for the time of grace
    #[arg(long)]
    collect: bool,
    /// How long what is not needed any more stays, in hours
    #[arg(long, value_name = "HOURS", default_value_t = 24, requires = "collect", value_parser = clap::value_parser!(u64).range(1..=87_600))]
    grace: u64,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { image: path, url, collect, grace } = arguments;
    if image::is_log(path) {
        bail!(
            "{}: it was changed since it was packed; `cheetah compact -o` makes a packed image of it",
            path.display()
        );
    }
    // Nobody is to pull what cannot be served.
    drop(image::open(path)?);
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let bytes = file.metadata()?.len();
    let depot = depot::open(url).with_context(|| url.clone())?;
    let bar = progress::bar(bytes);
    let published = depot::publish(&file, &*depot, &|bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let published = published.with_context(|| url.clone())?;
    println!(
        "published {}: {} parts, {} bytes; {} parts, {} bytes of them were not there",
        published.image, published.parts, published.bytes, published.new_parts, published.new_bytes
    );
    if *collect {
        let grace = Duration::from_secs(grace * 3600);
        let collected = depot::collect(&*depot, grace).with_context(|| url.clone())?;
        let more = if collected.is_cut_short { "; there is more for the next time" } else { "" };
        println!(
            "removed {} parts, {} bytes, and {} lists of parts{more}",
            collected.parts, collected.bytes, collected.images
        );
    }
    Ok(())
}
