//! `cheetah df SITE.img`: where the space of an image is.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use fsstack::OpenOptions;
use fsstack::log::Usage;

/// Show where the space of an image is
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The image file
    image: PathBuf,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let usage = Usage::of(&arguments.image, &OpenOptions::default());
    let usage = usage.with_context(|| arguments.image.display().to_string())?;
    let rows = [
        ("files", usage.files),
        ("content_bytes", usage.content_bytes),
        ("segments", usage.segments),
        ("segment_bytes", usage.segment_bytes),
        ("dead_bytes", usage.dead_bytes),
        ("free_bytes", usage.free_bytes),
        ("file_bytes", usage.file_bytes),
    ];
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let object: serde_json::Map<_, _> =
            rows.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect();
        return Ok(writeln!(out, "{}", serde_json::Value::Object(object))?);
    }
    for (name, value) in rows {
        writeln!(out, "{name:>14}: {value}")?;
    }
    Ok(())
}
