//! Where the contents of an open image come from: memory of our own, or the kernel's pages. Holds the one
//! `unsafe` of the crate.

use crate::device::{Device, FileDevice};
use runtime::buffer::Shared;
use std::io;

/// Images up to this size are copied by [`Access::Auto`].
const AUTO_COPY_BYTES: u64 = 64 << 20;

/// How an image's contents are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Copies images up to 64 MiB, maps larger ones.
    #[default]
    Auto,
    /// Reads the whole image into memory.
    Copy,
    /// Maps the file.
    Map,
}

/// The bytes of an image whose length has been checked: one buffer, wherever they are.
#[derive(Debug)]
pub(super) struct Data {
    bytes: Shared,
    /// What is mapped, held open.
    mapped: Option<FileDevice>,
}

impl Data {
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Data {
        Data { bytes: Shared::from(bytes), mapped: None }
    }

    /// The file has `len` bytes, or had when its superblock was checked.
    pub(super) fn from_file(file: FileDevice, len: u64, access: Access) -> io::Result<Data> {
        let bytes_len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let copy = match access {
            Access::Auto => len <= AUTO_COPY_BYTES,
            Access::Copy => true,
            Access::Map => false,
        };
        if copy {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(bytes_len).map_err(|_| io::ErrorKind::OutOfMemory)?;
            bytes.resize(bytes_len, 0);
            file.read_at(0, &mut bytes)?;
            return Ok(Data::from_bytes(bytes));
        }
        if file.len_bytes()? != len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file changed while it was opened"));
        }
        // SAFETY: the mapping is read-only and lives as long as `Mmap`. Rust's rule that the bytes behind a
        // shared slice do not change is kept by convention, as for every mapped file: images are replaced by
        // renaming, never written in place (`AtomicFile`). No metadata is read through the mapping, so a
        // changed byte can only change contents, never an index or a length. A file that shrinks raises
        // SIGBUS on access to the lost pages, which ends the process but breaks no memory.
        let map = unsafe { memmap2::MmapOptions::new().len(bytes_len).map(file.file())? };
        Ok(Data { bytes: Shared::from_owner(map), mapped: Some(file) })
    }

    pub(super) fn is_mapped(&self) -> bool {
        self.mapped.is_some()
    }

    pub(super) fn is_intact(&self) -> io::Result<bool> {
        match &self.mapped {
            None => Ok(true),
            Some(file) => Ok(file.len_bytes()? == self.bytes.len() as u64),
        }
    }

    /// The buffer that every slice is a part of.
    pub(super) fn buffer(&self) -> &Shared {
        &self.bytes
    }

    /// Bytes whose bounds were checked against the image's length when it was opened.
    pub(super) fn slice(&self, offset: u64, len: u64) -> &[u8] {
        &self.bytes[offset as usize..(offset + len) as usize]
    }
}
