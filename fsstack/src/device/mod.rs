//! What images stand on: anything that can be read, written and synced at byte offsets.
//!
//! Files, byte vectors, and in tests devices that fail or lose unsynced writes, are just implementations.

mod atomic_file;
mod file;
mod going;
mod lock;
mod memory;

pub use atomic_file::AtomicFile;
pub use file::FileDevice;
pub(crate) use going::{Going, Sealed, Sealer, SealingBlock};
pub use lock::RangeLock;
pub use memory::MemoryDevice;

use std::fs::File;
use std::io;
use std::sync::Arc;

/// Something that holds bytes and can be read at any offset.
pub trait Device {
    /// Length in bytes, now.
    ///
    /// # Errors
    /// Whatever the device says.
    fn len_bytes(&self) -> io::Result<u64>;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the device ends before, else whatever the device says.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

/// A device that can be written.
pub trait DeviceMut: Device {
    /// Writes all of `bytes` at `offset`, extending the device by zeros as needed.
    ///
    /// # Errors
    /// Whatever the device says; then any part of the bytes may have been written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything written before is on stable storage.
    ///
    /// # Errors
    /// Whatever the device says; then nothing is known about any write since the last sync.
    fn sync(&mut self) -> io::Result<()>;

    /// Gives back the space of bytes that nobody will read again; what stands there afterwards is zeros, or
    /// as before.
    ///
    /// # Errors
    /// Whatever the device says.
    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let _ = (offset, len);
        Ok(())
    }

    /// Cuts the device to `len` bytes, if it is longer and can be cut.
    ///
    /// # Errors
    /// Whatever the device says.
    fn cut(&mut self, len: u64) -> io::Result<()> {
        let _ = len;
        Ok(())
    }

    /// The same device once more, to be flushed by a thread while this one is used; `None` if there is no
    /// other way to it: then who syncs it waits.
    fn again(&self) -> Option<Box<dyn DeviceMut + Send>> {
        None
    }

    /// The file that it is all of, if what is written to that needs nobody else's notice: then the system is
    /// told to flush it.
    fn whole_file(&self) -> Option<Arc<File>> {
        None
    }
}
