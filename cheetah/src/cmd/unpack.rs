//! `cheetah unpack SITE.img DIR`: writes the files of an image into a folder.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use cheetah::site::change::FileContents;
use fsstack::image::build::Mtime;
use fsstack::log::Special;

use super::image::open;
use super::progress;

/// Write the files of an image into a new folder
///
/// A file with several names is written once, and gets them all (hard links), unless the file system takes no
/// more of them: then it is written again. Of an image that was mounted and changed, symbolic links and the
/// modes that were given are there, too; owners, and pipes, sockets and devices, are not.
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
    // Last of all, links first and folders after what is in them: nothing is written through a link, or to a
    // folder that nobody may write to.
    let (mut links, mut modes) = (Vec::new(), Vec::new());
    for entry in image.entries().filter(|entry| !entry.path().is_empty()) {
        // Names of an image are neither `..` nor have a slash.
        let target = arguments.dir.join(OsStr::from_bytes(entry.path()));
        if let Some(special) = entry.special() {
            match special {
                Special::Symlink(to) => links.push((target, OsStr::from_bytes(to))),
                Special::Fifo | Special::Socket | Special::CharDevice(_) | Special::BlockDevice(_) => {
                    tracing::warn!("left out, for it is a pipe, a socket or a device: {}", target.display());
                }
            }
            continue;
        }
        if let Some(posix) = entry.posix() {
            // Whoever unpacks gives nobody his own rights.
            modes.push((target.clone(), u32::from(posix.mode) & 0o777));
        }
        // Nobody else's until it is known whose.
        let others = if entry.posix().is_some() { 0 } else { 0o777 };
        let Some(file) = entry.to_file() else {
            let made = DirBuilder::new().mode(0o700 | others).create(&target);
            made.with_context(|| target.display().to_string())?;
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
            let mode = 0o600 | others & 0o666;
            let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(&target)?;
            bar.inc(io::copy(&mut FileContents::of(file), &mut out)?);
            time(entry.mtime()).map_or(Ok(()), |time| out.set_modified(time))
        };
        write().with_context(|| target.display().to_string())?;
    }
    for (link, to) in links {
        std::os::unix::fs::symlink(to, &link).with_context(|| link.display().to_string())?;
    }
    for (path, mode) in modes.into_iter().rev() {
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .with_context(|| path.display().to_string())?;
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
