//! A file as a device.

use super::{Device, DeviceMut};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// An open file.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
}

impl FileDevice {
    /// The device that `file` is.
    pub fn new(file: File) -> FileDevice {
        FileDevice { file }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Device for FileDevice {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
}

impl DeviceMut for FileDevice {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}
