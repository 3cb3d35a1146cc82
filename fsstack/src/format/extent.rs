//! Where the contents of files lie: runs of bytes in the data region.

use super::layout::{get_u64, put_u64};

/// Size of a record.
pub const BYTES: usize = 16;

const OFF_OFFSET: usize = 0;
const OFF_LEN: usize = OFF_OFFSET + size_of::<u64>();

/// A run of bytes of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the image.
    pub offset: u64,
    /// Length in bytes; not 0.
    pub len: u64,
}

impl Extent {
    /// Writes the record.
    ///
    /// # Panics
    /// If `record` is not [`BYTES`] long.
    pub fn encode(&self, record: &mut [u8]) {
        put_u64(record, OFF_OFFSET, self.offset);
        put_u64(record, OFF_LEN, self.len);
    }

    /// Reads a record.
    ///
    /// # Panics
    /// If `record` is not [`BYTES`] long.
    pub fn decode(record: &[u8]) -> Extent {
        Extent { offset: get_u64(record, OFF_OFFSET), len: get_u64(record, OFF_LEN) }
    }
}
