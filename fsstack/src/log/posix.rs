//! What only a system wants that mounts an image: modes, owners and times beside that of the contents, and
//! what is neither file nor directory. Journals say it; packed images have none of it, and servers do not
//! ask.

use super::error::ChangeError;
use crate::image::build::Mtime;
use std::sync::Arc;

/// Longest target of a symbolic link, as the system has it.
pub const TARGET_MAX_BYTES: usize = 4095;

/// Bits of a mode: who may read, write and execute, set-user-ID, set-group-ID, sticky.
pub const MODE_BITS: u16 = 0o7777;

/// What the system keeps of a file or directory beside its contents. What has none is as whoever mounts wants
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posix {
    /// Of [`MODE_BITS`].
    pub mode: u16,
    /// Whose it is.
    pub uid: u32,
    /// Which group's.
    pub gid: u32,
    /// When any of this, or its names, last changed; as the modification time if that is `None`.
    pub ctime: Option<Mtime>,
    /// When it was last said to be read; as the modification time if nobody said.
    pub atime: Option<Mtime>,
}

/// What is neither file nor directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Special {
    /// A symbolic link to this.
    Symlink(Arc<[u8]>),
    /// A pipe with a name.
    Fifo,
    /// A socket with a name.
    Socket,
    /// A device of characters, by its number.
    CharDevice(u32),
    /// A device of blocks.
    BlockDevice(u32),
}

impl Special {
    /// A symbolic link.
    ///
    /// # Errors
    /// If nothing can have that target: one of no bytes, more than [`TARGET_MAX_BYTES`], or with a zero.
    pub fn symlink(target: &[u8]) -> Result<Special, ChangeError> {
        match target.len() {
            1..=TARGET_MAX_BYTES if !target.contains(&0) => Ok(Special::Symlink(target.into())),
            _ => Err(ChangeError::BadTarget),
        }
    }

    /// As the system counts it: that of a link's target.
    pub(super) fn size(&self) -> u64 {
        match self {
            Special::Symlink(target) => target.len() as u64,
            _ => 0,
        }
    }
}
