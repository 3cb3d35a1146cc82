//! A file, or a window of one, as a device.

use super::{Device, DeviceMut, RangeLock};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// An open file, or the part of one that has an image in it.
#[derive(Debug)]
pub struct FileDevice {
    file: Arc<File>,
    /// Where the device begins in the file.
    base: u64,
    /// How long it is, if it is a window.
    window_bytes: Option<u64>,
    /// Held as long as the device is.
    _pin: Option<RangeLock>,
}

impl FileDevice {
    /// The device that `file` is.
    pub fn new(file: File) -> FileDevice {
        FileDevice::from(Arc::new(file))
    }

    /// The `len` bytes of `file` from `base` on, kept from whoever asks by `pin`.
    pub fn window(file: Arc<File>, base: u64, len: u64, pin: Option<RangeLock>) -> FileDevice {
        FileDevice { file, base, window_bytes: Some(len), _pin: pin }
    }

    /// The same once more, which does not keep others from it.
    pub(crate) fn window_again(&self) -> FileDevice {
        let FileDevice { file, base, window_bytes, _pin } = self;
        FileDevice { file: Arc::clone(file), base: *base, window_bytes: *window_bytes, _pin: None }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where in the file the device begins.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The same file once more, to be read past the kernel's cache.
    ///
    /// # Errors
    /// If its file system does not do that.
    pub fn open_direct(&self) -> io::Result<File> {
        use rustix::fs::{Mode, OFlags, open};
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        Ok(open(path, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty())?.into())
    }

    /// Where in the file `len` bytes at `offset` of the device lie.
    ///
    /// # Errors
    /// If the device does not have them.
    pub fn place(&self, offset: u64, len: usize) -> io::Result<u64> {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| self.window_bytes.is_some_and(|window| end > window)) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.base.checked_add(offset).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl From<Arc<File>> for FileDevice {
    /// The device that a file is which others have, too.
    fn from(file: Arc<File>) -> FileDevice {
        FileDevice { file, base: 0, window_bytes: None, _pin: None }
    }
}

impl Device for FileDevice {
    fn len_bytes(&self) -> io::Result<u64> {
        let rest = self.file.metadata()?.len().saturating_sub(self.base);
        Ok(self.window_bytes.map_or(rest, |window| window.min(rest)))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, self.place(offset, buf.len())?)
    }
}

impl DeviceMut for FileDevice {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.place(offset, bytes.len())?)
    }

    fn sync(&mut self) -> io::Result<()> {
        // The length is part of what this makes durable; only times are not.
        self.file.sync_data()
    }

    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&*self.file, flags, self.base + offset, len) {
            // A file system that has no holes keeps the space until it is written again.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        let end = self.base.saturating_add(len);
        if self.window_bytes.is_none() && self.file.metadata()?.len() > end {
            self.file.set_len(end)?;
        }
        Ok(())
    }

    fn again(&self) -> Option<Box<dyn DeviceMut + Send>> {
        Some(Box::new(self.window_again()))
    }

    fn whole_file(&self) -> Option<Arc<File>> {
        let is_whole = self.base == 0 && self.window_bytes.is_none();
        is_whole.then(|| Arc::clone(&self.file))
    }
}
