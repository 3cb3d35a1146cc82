//! `cheetah ls SITE.img [PATH]`: what a folder of an image holds.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use fsstack::log::Entry;

use super::image::{self, open, resolve};

/// List a folder of an image
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The image file
    image: PathBuf,
    /// A folder or file in it (default: the root)
    #[arg(default_value = "")]
    path: String,
    /// Size and time too
    #[arg(short)]
    long: bool,
    /// Everything below, by whole paths
    #[arg(short = 'R')]
    recursive: bool,
    /// Print a JSON list
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let image = open(&arguments.image)?;
    let at = resolve(&image, &arguments.path)?;
    let entries: Vec<Entry<'_>> = match (!at.is_directory(), arguments.recursive) {
        (true, _) => vec![at],
        (false, false) => at.children().collect(),
        (false, true) => below(at),
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    if arguments.json {
        let entries: Vec<image::Entry> = entries.into_iter().map(image::Entry::of).collect();
        writeln!(out, "{}", serde_json::to_string(&entries)?)?;
        return Ok(out.flush()?);
    }
    for entry in entries {
        if arguments.long {
            write!(out, "{:>12}  {}  ", entry.size(), image::time(entry.mtime()))?;
        }
        out.write_all(if arguments.recursive { entry.path() } else { entry.name() })?;
        out.write_all(if entry.is_directory() { b"/\n" } else { b"\n" })?;
    }
    Ok(out.flush()?)
}

/// Everything below a folder, each folder before what it holds. Not by recursion: a tree may be 2,000 folders
/// deep.
fn below<'a>(root: Entry<'a>) -> Vec<Entry<'a>> {
    let backwards = |entry: Entry<'a>| {
        let mut children: Vec<Entry<'a>> = entry.children().collect();
        children.reverse();
        children
    };
    let mut found = Vec::new();
    let mut pending = backwards(root);
    while let Some(entry) = pending.pop() {
        found.push(entry);
        pending.extend(backwards(entry));
    }
    found
}
