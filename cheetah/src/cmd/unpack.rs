//! `cheetah unpack SITE.img DIR`: writes the files of an image into a folder.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use cheetah::site::change::FileContents;
use fsstack::image::build::Mtime;

use super::image::open;
use super::progress;

/// Write the files of an image into a new folder
///
/// A file with several names is written once, and gets them all (hard links), unless the file system takes no
/// more of them: then it is written again.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The image file
    image: PathBuf,
    /// The folder to make
    dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let image = open(&arguments.image)?;
    // A new one, so that no link in it leads elsewhere.
    fs::create_dir(&arguments.dir).with_context(|| arguments.dir.display().to_string())?;
    let bar = progress::bar(image.entries().map(|entry| entry.size()).sum());
    // Of files with several names, by the first of these: where they were written.
    let mut written: HashMap<&[u8], PathBuf> = HashMap::new();
    for entry in image.entries().filter(|entry| !entry.path().is_empty()) {
        // Names of an image are neither `..` nor have a slash.
        let target = arguments.dir.join(OsStr::from_bytes(entry.path()));
        let Some(file) = entry.to_file() else {
            fs::create_dir(&target).with_context(|| target.display().to_string())?;
            continue;
        };
        if let Some(first) = entry.names().next() {
            let linked = written.get(first).map(|first| fs::hard_link(first, &target));
            match linked {
                Some(Ok(())) => {
                    bar.inc(entry.size());
                    continue;
                }
                Some(Err(error)) if !takes_no_link(&error) => {
                    return Err(error).with_context(|| target.display().to_string());
                }
                // Of the names that follow it gets those that the other could not have.
                Some(Err(_)) | None => written.insert(first, target.clone()),
            };
        }
        let write = || -> io::Result<()> {
            let mut out = File::create_new(&target)?;
            bar.inc(io::copy(&mut FileContents::of(file), &mut out)?);
            time(entry.mtime()).map_or(Ok(()), |time| out.set_modified(time))
        };
        write().with_context(|| target.display().to_string())?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Whether a file system has no hard links, or no more of a file.
fn takes_no_link(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMLINK | libc::EPERM | libc::EOPNOTSUPP))
}

/// The time, if the system has it.
fn time(mtime: Mtime) -> Option<SystemTime> {
    let whole = Duration::from_secs(mtime.seconds.unsigned_abs());
    let seconds =
        if mtime.seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    seconds?.checked_add(Duration::from_nanos(mtime.nanoseconds.into()))
}
