//! What the subcommands that look into images share.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use fsstack::image::build::Mtime;
use fsstack::{Image, Inode, OpenOptions};

/// Opens an image; an error names the file.
pub(super) fn open(path: &Path) -> anyhow::Result<Image> {
    Image::open(path, &OpenOptions::default()).with_context(|| path.display().to_string())
}

/// Finds a path in an image.
pub(super) fn resolve<'a>(image: &'a Image, path: &str) -> anyhow::Result<Inode<'a>> {
    image.lookup(path).with_context(|| format!("there is no `{path}` in the image"))
}

/// A file or folder, for programs. Bytes of a path that are not UTF-8 are replaced.
#[derive(Debug, serde::Serialize)]
pub(super) struct Entry {
    path: String,
    kind: &'static str,
    size: u64,
    mtime: String,
}

impl Entry {
    /// What is known of an inode.
    pub(super) fn of(inode: Inode<'_>) -> Entry {
        Entry {
            path: String::from_utf8_lossy(inode.path()).into_owned(),
            kind: if inode.is_file() { "file" } else { "folder" },
            size: inode.size(),
            mtime: time(inode.mtime()),
        }
    }
}

/// A time as HTTP writes it, or in seconds where that format has no year for it.
pub(super) fn time(mtime: Mtime) -> String {
    const YEAR_10000: u64 = 253_402_300_800;
    match u64::try_from(mtime.seconds) {
        Ok(seconds @ 0..YEAR_10000) => {
            httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        }
        _ => format!("{} s from 1970", mtime.seconds),
    }
}
