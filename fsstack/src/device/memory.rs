//! A byte vector as a device.

use super::{Device, DeviceMut};
use std::io;

/// An image in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryDevice {
    bytes: Vec<u8>,
}

impl MemoryDevice {
    /// An empty device.
    pub fn new() -> MemoryDevice {
        MemoryDevice::default()
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl From<Vec<u8>> for MemoryDevice {
    fn from(bytes: Vec<u8>) -> MemoryDevice {
        MemoryDevice { bytes }
    }
}

impl Device for MemoryDevice {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).ok().filter(|&from| from <= self.bytes.len());
        match from.and_then(|from| self.bytes[from..].get(..buf.len())) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl DeviceMut for MemoryDevice {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let end = from.checked_add(bytes.len()).ok_or(io::ErrorKind::OutOfMemory)?;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[from..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
