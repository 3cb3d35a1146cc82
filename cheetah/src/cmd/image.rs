//! What the subcommands that look into images share.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use fsstack::OpenOptions;
use fsstack::image::build::Mtime;
use fsstack::log::{self, Generation, Log, LogError, Special};

/// Opens an image, as packed or changed since; an error names the file.
pub(super) fn open(path: &Path) -> anyhow::Result<Generation> {
    Generation::open(path, &OpenOptions::default()).with_context(|| path.display().to_string())
}

/// Whether the file at a path is an image that was changed since it was packed.
pub(super) fn is_log(path: &Path) -> bool {
    let mut first = [0; 8];
    File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok() && log::is_log(&first)
}

/// Opens an image to change it. A packed one is made one that changes; one that is not there is made if
/// `create` says so.
pub(super) fn open_to_change(path: &Path, create: bool) -> anyhow::Result<Log> {
    let options = OpenOptions::default();
    let opened = if create && !path.try_exists().unwrap_or(true) {
        Log::create(path, &options)
    } else {
        match Log::open(path, &options) {
            Err(LogError::NotALog) => Log::convert(path, &options),
            other => other,
        }
    };
    opened.with_context(|| path.display().to_string())
}

/// Finds a path in an image.
pub(super) fn resolve<'a>(image: &'a Generation, path: &str) -> anyhow::Result<log::Entry<'a>> {
    image.find(path).with_context(|| format!("there is no `{path}` in the image"))
}

/// A path as images have it: no slash at its ends.
pub(super) fn plain(path: &str) -> &[u8] {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.strip_suffix('/').unwrap_or(path).as_bytes()
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
    /// What is known of it.
    pub(super) fn of(inode: log::Entry<'_>) -> Entry {
        Entry {
            path: String::from_utf8_lossy(inode.path()).into_owned(),
            kind: kind(inode),
            size: inode.size(),
            mtime: time(inode.mtime()),
        }
    }
}

/// In a word.
fn kind(entry: log::Entry<'_>) -> &'static str {
    match entry.special() {
        Some(Special::Symlink(_)) => "symbolic link",
        Some(Special::Fifo) => "pipe",
        Some(Special::Socket) => "socket",
        Some(Special::CharDevice(_) | Special::BlockDevice(_)) => "device",
        None if entry.is_directory() => "folder",
        None => "file",
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
