//! `cheetah stat SITE.img [PATH]`: what is known of an image, or of a file or folder in it.

use std::io::Write;
use std::path::PathBuf;

use fsstack::format::superblock::Superblock;
use fsstack::log::Special;

use super::image::{self, open, resolve};

/// Show what an image keeps of itself, or of a file in it
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The image file
    image: PathBuf,
    /// A file or folder in it (default: the image itself)
    path: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let image = open(&arguments.image)?;
    let value = match &arguments.path {
        None => match image.packed_image().filter(|_| image.number() == 0) {
            Some(image) => serde_json::to_value(Whole::of(image.superblock(), image.inode_count()))?,
            None => serde_json::json!({
                "generation": image.number(), "segments": image.segments(), "inodes": image.len(),
            }),
        },
        Some(path) => {
            let inode = resolve(&image, path)?;
            let mut value = serde_json::to_value(image::Entry::of(inode))?;
            if inode.is_file() {
                value["names"] = inode.name_count().into();
            }
            if let Some(posix) = inode.posix() {
                value["mode"] = format!("{:04o}", posix.mode).into();
                value["owner"] = format!("{}:{}", posix.uid, posix.gid).into();
            }
            if let Some(Special::Symlink(target)) = inode.special() {
                value["target"] = String::from_utf8_lossy(target).into();
            }
            value["application_bytes"] = inode.app()?.len().into();
            value["pieces"] = inode.pieces().into();
            if let Some((_, inode)) = inode.packed() {
                let extents: Vec<[u64; 2]> = inode.extents().iter().map(|e| [e.offset, e.len]).collect();
                value["crc32c"] = format!("{:#010x}", inode.content_crc()).into();
                value["extents"] = serde_json::to_value(extents)?;
            }
            value
        }
    };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        return Ok(writeln!(out, "{value}")?);
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        match value.as_str() {
            Some(text) => writeln!(out, "{name:>18}: {text}")?,
            None => writeln!(out, "{name:>18}: {value}")?,
        }
    }
    Ok(())
}

#[derive(Debug, serde::Serialize)]
struct Whole {
    version: u32,
    image_id: String,
    generation: u64,
    image_bytes: u64,
    content_bytes: u64,
    metadata_bytes: u64,
    inodes: usize,
    sum_block_bytes: u32,
}

impl Whole {
    fn of(superblock: &Superblock, inodes: usize) -> Whole {
        Whole {
            version: superblock.version,
            image_id: superblock.image_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            generation: superblock.generation,
            image_bytes: superblock.image_bytes,
            content_bytes: superblock.content_bytes,
            metadata_bytes: superblock.sections.iter().map(|section| section.len).sum(),
            inodes,
            sum_block_bytes: superblock.sum_block_bytes,
        }
    }
}
