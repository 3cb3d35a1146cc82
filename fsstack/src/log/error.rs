//! Why a change is refused, or a log cannot be had.

use crate::fs::{OpenError, ReadError};
use crate::image::build::BuildError;
use crate::path::PathError;
use std::fmt;
use std::io;

/// Why a change of the tree is refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// A path that cannot stand in an image.
    Path(PathError),
    /// There is nothing of that name.
    NotFound,
    /// The directory that it would stand in is not there.
    NoParent,
    /// What stands there is no directory, or something on the way is none.
    NotDirectory,
    /// A directory stands there.
    IsDirectory,
    /// The directory has something in it.
    NotEmpty,
    /// Something stands there already.
    Exists,
    /// The root cannot be removed or renamed, and nothing be moved into itself.
    Impossible,
    /// More than a file can hold.
    TooLarge,
    /// More names than a file can have.
    TooManyNames,
    /// What stands there has no contents.
    NoContents,
    /// A symbolic link cannot have this target.
    BadTarget,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChangeError::Path(error) => return error.fmt(f),
            ChangeError::NotFound => "there is no such file or folder",
            ChangeError::NoParent => "the folder that it would stand in is not there: make it first",
            ChangeError::NotDirectory => "it is a file, or lies below one",
            ChangeError::IsDirectory => "it is a folder",
            ChangeError::NotEmpty => "the folder is not empty",
            ChangeError::Exists => "it is there already",
            ChangeError::Impossible => "the root stays, and nothing can be moved into itself",
            ChangeError::TooManyNames => "a file cannot have so many names",
            ChangeError::NoContents => "it is a symbolic link, a pipe, a socket or a device",
            ChangeError::BadTarget => "a symbolic link's target has 1 to 4095 bytes, none of them zero",
            ChangeError::TooLarge => "a file cannot be as long as that",
        })
    }
}

impl core::error::Error for ChangeError {}

impl From<PathError> for ChangeError {
    fn from(error: PathError) -> ChangeError {
        ChangeError::Path(error)
    }
}

/// Why a log cannot be opened or written.
#[derive(Debug)]
pub enum LogError {
    /// It cannot be read, or is not sound.
    Open(OpenError),
    /// Another process writes it.
    Busy,
    /// It is a plain image.
    NotALog,
    /// A change was refused.
    Change(ChangeError),
    /// The device refused.
    Device(io::Error),
    /// A segment could not be built.
    Build(BuildError),
    /// Contents that had to be copied could not be read.
    Read(ReadError),
    /// A superblock could not be written, and nobody knows whether it was: open the log anew.
    Lost,
    /// The changes were taken back before they were durable.
    Reverted,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Open(error) => error.fmt(f),
            LogError::Busy => f.write_str("another process writes to it: wait, or stop that one"),
            LogError::NotALog => f.write_str("it is a packed image, which does not change"),
            LogError::Change(error) => error.fmt(f),
            LogError::Device(error) => write!(f, "the image cannot be written: {error}"),
            LogError::Build(error) => error.fmt(f),
            LogError::Read(error) => error.fmt(f),
            LogError::Lost => {
                f.write_str("whether the last changes were written is not known: open the image again")
            }
            LogError::Reverted => f.write_str("the changes were taken back before they were durable"),
        }
    }
}

impl LogError {
    /// Whether there was no room for it.
    pub fn is_full(&self) -> bool {
        match self {
            LogError::Device(error) | LogError::Build(BuildError::Device(error)) => {
                matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
                )
            }
            _ => false,
        }
    }
}

impl core::error::Error for LogError {}

macro_rules! from {
    ($($error:ty => $variant:ident),+) => { $(
        impl From<$error> for LogError {
            fn from(error: $error) -> LogError {
                LogError::$variant(error)
            }
        }
    )+ };
}

from!(OpenError => Open, ChangeError => Change, io::Error => Device, BuildError => Build, ReadError => Read);
