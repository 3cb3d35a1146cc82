//! A file that appears under its name whole, or not at all.

use super::{Device, DeviceMut, FileDevice};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

/// A file on its way to the name `target`; [`AtomicFile::publish`] gives it that name in one step.
///
/// Until then it has no name at all where the file system can do that (`O_TMPFILE`), so that nothing is left
/// of it however the process ends; elsewhere a temporary one, which goes when this is dropped. Whoever has
/// the old file open (or mapped) keeps the old bytes: a published image is never written again.
#[derive(Debug)]
pub struct AtomicFile {
    device: FileDevice,
    /// Its name so far, if it has one.
    temporary: Option<PathBuf>,
    target: PathBuf,
}

impl AtomicFile {
    /// Creates the file, empty, in the folder of `target`.
    ///
    /// # Errors
    /// If `target` has no file name, or the folder cannot be written.
    pub fn create(target: &Path) -> io::Result<AtomicFile> {
        AtomicFile::nameless(target).or_else(|_| AtomicFile::named(target))
    }

    fn nameless(target: &Path) -> io::Result<AtomicFile> {
        target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(folder(target), flags, Mode::from_raw_mode(0o666))?);
        Ok(AtomicFile { device: FileDevice::new(file), temporary: None, target: target.into() })
    }

    fn named(target: &Path) -> io::Result<AtomicFile> {
        let create = |name: &Path| OpenOptions::new().read(true).write(true).create_new(true).open(name);
        let (temporary, file) = with_free_name(target, create)?;
        Ok(AtomicFile { device: FileDevice::new(file), temporary: Some(temporary), target: target.into() })
    }

    /// The file.
    pub fn file(&self) -> &File {
        self.device.file()
    }

    /// Makes the bytes durable, then the name.
    ///
    /// # Errors
    /// If syncing or naming fails; the target is then untouched, unless only the folder's own sync failed.
    pub fn publish(mut self) -> io::Result<()> {
        self.device.sync()?;
        let temporary = match self.temporary.take() {
            Some(temporary) => temporary,
            // A name can be given to a nameless file only where there is none.
            None => {
                let own = format!("/proc/self/fd/{}", self.device.file().as_raw_fd());
                let link =
                    |name: &Path| Ok(rustix::fs::linkat(CWD, &own, CWD, name, AtFlags::SYMLINK_FOLLOW)?);
                with_free_name(&self.target, link)?.0
            }
        };
        fs::rename(self.temporary.insert(temporary), &self.target)?;
        self.temporary = None;
        File::open(folder(&self.target))?.sync_all()
    }
}

/// Calls `make` with names beside `target` until it finds one that nothing has.
fn with_free_name<T>(target: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(PathBuf, T)> {
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut attempt = 0u32;
    loop {
        let mut temporary_name = OsString::from(".");
        temporary_name.push(name);
        temporary_name.push(format!(".{}.{attempt}.tmp", std::process::id()));
        let temporary = target.with_file_name(temporary_name);
        match make(&temporary) {
            Ok(made) => return Ok((temporary, made)),
            // Left behind by a process of the same id, or used by another thread of this one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

fn folder(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nothing to tell anyone: the caller already has the error that led here.
            let _ = fs::remove_file(temporary);
        }
    }
}

impl Device for AtomicFile {
    fn len_bytes(&self) -> io::Result<u64> {
        self.device.len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.device.read_at(offset, buf)
    }
}

impl DeviceMut for AtomicFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.device.write_at(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.device.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<OsString> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn it_appears_whole_or_not_at_all_with_a_name_or_without() {
        for create in [AtomicFile::named, AtomicFile::nameless] {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("image");
            fs::write(&target, "old").unwrap();
            let made = match create(&target) {
                Ok(made) => made,
                Err(error) => {
                    eprintln!("skipped: this file system has no nameless files: {error}");
                    continue;
                }
            };
            drop(made);
            assert_eq!(
                (names(dir.path()).len(), fs::read_to_string(&target).unwrap()),
                (1, "old".to_owned())
            );
            let mut made = create(&target).unwrap();
            made.write_at(0, b"new").unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), "old");
            made.publish().unwrap();
            assert_eq!(
                (names(dir.path()).len(), fs::read_to_string(&target).unwrap()),
                (1, "new".to_owned())
            );
            assert!(!fs::metadata(&target).unwrap().permissions().readonly());
        }
    }
}
