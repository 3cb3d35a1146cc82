//! The image format: where every field stands, and how each record is read and written.
//!
//! All numbers are little-endian; offsets of fields are named and each is the sum of the previous field's
//! offset and size. `docs/image-format.md` shows the same as tables. Nothing here does IO.

pub mod copy_sums;
pub mod extent;
pub mod index;
pub mod inode;
pub mod layout;
pub mod mtime;
pub mod page_sums;
pub mod sums;
pub mod superblock;

use std::fmt;

/// What is wrong with an image, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadImage {
    /// Byte offset in the image of the field or region at fault.
    pub offset: u64,
    /// The field or region, for people.
    pub what: String,
    /// What should stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl BadImage {
    /// A complaint about the field or region `what` at `offset`.
    pub fn new(
        offset: u64,
        what: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> BadImage {
        BadImage { offset, what: what.into(), expected: expected.into(), found: found.into() }
    }
}

impl fmt::Display for BadImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadImage { offset, what, expected, found } = self;
        write!(f, "bad image at offset {offset} ({offset:#x}): {what}: expected {expected}, found {found}")
    }
}

impl core::error::Error for BadImage {}
