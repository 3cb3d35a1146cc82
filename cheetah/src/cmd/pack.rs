//! `cheetah pack DIR -o SITE.img`: builds an image that can be served.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cheetah::rules::Rules;
use cheetah::site::layout::LayoutName;
use cheetah::site::pack::{self, PackOptions, Tree};
use cheetah::store::{Dotfiles, Folder};
use fsstack::device::{AtomicFile, DeviceMut};
use fsstack::image::build::Summary;

use super::{Usage, progress};

/// Build an image from a folder: contents, response heads, validators, checksums
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The folder to pack
    dir: PathBuf,
    /// The image file to write; appears whole or not at all
    #[arg(short, long, value_name = "SITE.img")]
    output: PathBuf,
    /// Take in names that begin with a dot, too; without it only `.well-known` is
    #[arg(long)]
    dotfiles: bool,
    /// Put Brotli, Zstandard and gzip versions beside the files that get shorter by it, for clients that take
    /// them; those that lie in the folder (`x.html.br`, `.zst`, `.gz`) are used in any case
    #[arg(long)]
    compress: bool,
    /// Have clients keep files as dictionaries of their next versions (RFC 9842)
    #[arg(long)]
    dictionaries: bool,
    /// Then put what has changed since this image beside each file, for clients that have the file of then
    #[arg(long, value_name = "OLD.img", requires = "dictionaries")]
    previous: Option<PathBuf>,
    /// What lies together: files of a folder (name, the default), a page with what it embeds, which is read
    /// with it (html), small files (size), or what an access log of this server says is asked for most
    /// (log=FILE)
    #[arg(long, value_name = "LAYOUT", default_value = "name")]
    layout: LayoutName,
    /// Store what response heads say in place of the heads, some 450 bytes a file less: they are made when a
    /// file is looked up, of an image of 64 MiB and more, and of a smaller or changed one when it is opened
    #[arg(long)]
    short_heads: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let dir = &arguments.dir;
    if !fs::metadata(dir).with_context(|| dir.display().to_string())?.is_dir() {
        bail!(Usage(format!("{} is no folder: give the folder that holds it", dir.display())));
    }
    let tree = walk(dir, dotfiles(arguments.dotfiles))?;
    // Who packs learns of a line that is no rule, not who serves.
    let folder = Folder::open(dir, Dotfiles::LeaveOut, 0).with_context(|| dir.display().to_string())?;
    Rules::of_store(&folder).with_context(|| dir.display().to_string())?;
    let layout = arguments.layout.clone();
    let options = PackOptions {
        compress: arguments.compress,
        dictionaries: arguments.dictionaries,
        previous: arguments.previous.clone(),
        layout,
        short_heads: arguments.short_heads,
        ..PackOptions::default()
    };
    let file = AtomicFile::create(&arguments.output)
        .with_context(|| format!("cannot write {}", arguments.output.display()))?;
    let (file, summary) = pack_with_progress(&tree, file, &options)?;
    file.publish().with_context(|| format!("cannot write {}", arguments.output.display()))?;
    println!(
        "packed {} files and {} folders, {} bytes, into {} ({} bytes)",
        summary.files,
        summary.directories,
        summary.content_bytes,
        arguments.output.display(),
        summary.image_bytes
    );
    Ok(())
}

/// What `--dotfiles` says.
pub(super) fn dotfiles(taken_in: bool) -> Dotfiles {
    if taken_in { Dotfiles::TakeIn } else { Dotfiles::LeaveOut }
}

/// Walks `dir` and tells on stderr what is left out of it.
pub(super) fn walk(dir: &Path, dotfiles: Dotfiles) -> anyhow::Result<Tree> {
    let tree = pack::walk(dir, dotfiles)?;
    for (path, reason) in &tree.left_out {
        tracing::warn!("{} is left out: {reason}", path.display());
    }
    Ok(tree)
}

/// Packs `tree`, with a progress bar if it is big.
pub(super) fn pack_with_progress<D: DeviceMut>(
    tree: &Tree,
    device: D,
    options: &PackOptions,
) -> anyhow::Result<(D, Summary)> {
    let bar = progress::bar(tree.content_bytes());
    let packed = pack::pack(tree, device, options, |path, bytes| {
        bar.inc(bytes);
        if !bar.is_hidden() {
            bar.set_message(String::from_utf8_lossy(path).into_owned());
        }
    });
    bar.finish_and_clear();
    Ok(packed?)
}
