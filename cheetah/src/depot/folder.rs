//! A depot in a folder: one that several machines mount, or that is copied to where it is wanted.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use fsstack::device::{AtomicFile, DeviceMut as _};
use rustix::fs::FlockOperation;

use super::{Depot, MAX_POINTER_BYTES, Pointer, Stored};

/// Files below a folder, which is made when something is put there.
#[derive(Clone, Debug)]
pub struct FolderDepot {
    folder: PathBuf,
}

impl FolderDepot {
    /// The depot in `folder`, which need not be there yet.
    pub fn open(folder: &Path) -> FolderDepot {
        FolderDepot { folder: folder.into() }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        let mut file = AtomicFile::create(&path)?;
        file.write_at(0, bytes)?;
        file.publish()
    }
}

impl Depot for FolderDepot {
    fn get(&self, name: &str, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.folder.join(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        file.take(max_bytes + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max_bytes {
            return Err(ErrorKind::FileTooLarge.into());
        }
        Ok(Some(bytes))
    }

    fn has(&self, name: &str) -> io::Result<bool> {
        fs::exists(self.folder.join(name))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write(name, bytes)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Stored>> {
        let entries = match fs::read_dir(self.folder.join(folder)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut stored = Vec::new();
        for entry in entries {
            let entry = entry?;
            let facts = match entry.metadata() {
                // Gone since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                other => other?,
            };
            if let (true, Ok(name)) = (facts.is_file(), entry.file_name().into_string()) {
                stored.push(Stored { name, modified: facts.modified()?, bytes: facts.len() });
            }
        }
        Ok(stored)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn pointer(&self) -> io::Result<Option<Pointer>> {
        let bytes = self.get("current", MAX_POINTER_BYTES)?;
        Ok(bytes.map(|bytes| Pointer { bytes, version: None }))
    }

    fn set_pointer(&self, bytes: &[u8], old: Option<&Pointer>) -> io::Result<bool> {
        fs::create_dir_all(&self.folder)?;
        // Whoever else replaces it waits.
        let lock = File::create(self.folder.join(".current.lock"))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        if self.pointer()?.as_ref() != old {
            return Ok(false);
        }
        self.write("current", bytes)?;
        Ok(true)
    }
}
