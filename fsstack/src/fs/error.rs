//! Why an image cannot be opened or read.

use crate::format::BadImage;
use std::fmt;
use std::io;

/// Why an image cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The device refused.
    Io(io::Error),
    /// The bytes are not a sound image.
    Bad(BadImage),
    /// [`super::OpenOptions::verify`], and an image of version 1, which has no sums of pages.
    NoPageSums,
    /// More metadata than [`super::OpenOptions::max_metadata_bytes`] allows.
    TooMuchMetadata {
        /// Bytes that the image has.
        found: u64,
        /// Bytes allowed.
        limit: u64,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io(error) => write!(f, "the image cannot be read: {error}"),
            OpenError::Bad(bad) => bad.fmt(f),
            OpenError::NoPageSums => {
                f.write_str("the image is of version 1, which has no sums to verify pages by: pack it again")
            }
            OpenError::TooMuchMetadata { found, limit } => {
                write!(f, "the image has {found} bytes of metadata, more than the {limit} allowed")
            }
        }
    }
}

impl core::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            OpenError::Io(error) => error.source(),
            OpenError::Bad(bad) => bad.source(),
            OpenError::NoPageSums | OpenError::TooMuchMetadata { .. } => None,
        }
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> OpenError {
        OpenError::Io(error)
    }
}

impl From<BadImage> for OpenError {
    fn from(bad: BadImage) -> OpenError {
        OpenError::Bad(bad)
    }
}

/// Why a file of an open image cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// A directory has no contents.
    IsDirectory,
    /// So has what is neither file nor directory.
    NoContents,
    /// The image is read by blocks: its contents can be fetched, and are not in memory.
    NotResident,
    /// The file under the image cannot be read, or is shorter than it was.
    Device(io::ErrorKind),
    /// Bytes that do not have their checksum.
    Bad(BadImage),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::NoContents => {
                f.write_str("a symbolic link, a pipe, a socket or a device has no contents")
            }
            ReadError::IsDirectory => f.write_str("a directory has no contents"),
            ReadError::NotResident => f.write_str("the contents are not in memory: fetch them"),
            ReadError::Device(kind) => write!(f, "the image cannot be read: {kind}"),
            ReadError::Bad(bad) => bad.fmt(f),
        }
    }
}

impl core::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    /// What a verifying read found is told whole.
    fn from(error: io::Error) -> ReadError {
        let bad = error.get_ref().and_then(|inner| inner.downcast_ref::<BadImage>()).cloned();
        bad.map_or(ReadError::Device(error.kind()), ReadError::Bad)
    }
}

impl From<BadImage> for ReadError {
    fn from(bad: BadImage) -> ReadError {
        ReadError::Bad(bad)
    }
}
