//! A file that appears under its name whole, or not at all.

use super::{Device, DeviceMut, FileDevice};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// A temporary file beside `target`; [`AtomicFile::publish`] gives it that name in one step.
///
/// Whoever has the old file open (or mapped) keeps the old bytes: a published image is never written again.
/// Dropped without `publish`, it is removed.
#[derive(Debug)]
pub struct AtomicFile {
    device: FileDevice,
    temporary: PathBuf,
    target: PathBuf,
    published: bool,
}

impl AtomicFile {
    /// Creates the temporary file, empty, in the folder of `target`.
    ///
    /// # Errors
    /// If `target` has no file name, or the folder cannot be written.
    pub fn create(target: &Path) -> io::Result<AtomicFile> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut attempt = 0u32;
        loop {
            let mut temporary_name = OsString::from(".");
            temporary_name.push(name);
            temporary_name.push(format!(".{}.{attempt}.tmp", std::process::id()));
            let temporary = target.with_file_name(temporary_name);
            match OpenOptions::new().read(true).write(true).create_new(true).open(&temporary) {
                Ok(file) => {
                    let device = FileDevice::new(file);
                    return Ok(AtomicFile { device, temporary, target: target.into(), published: false });
                }
                // Left behind by a process of the same id, or used by another thread of this one.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The temporary file.
    pub fn file(&self) -> &File {
        self.device.file()
    }

    /// Makes the bytes durable, then the name.
    ///
    /// # Errors
    /// If syncing or renaming fails; the target is then untouched, unless only the folder's own sync failed.
    pub fn publish(mut self) -> io::Result<()> {
        self.device.sync()?;
        fs::rename(&self.temporary, &self.target)?;
        self.published = true;
        let folder = match self.target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(folder)?.sync_all()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.published {
            // Nothing to tell anyone: the caller already has the error that led here.
            let _ = fs::remove_file(&self.temporary);
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
