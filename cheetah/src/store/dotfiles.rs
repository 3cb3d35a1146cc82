//! Which files of a folder are for everyone.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whether names that begin with a dot are for everyone. Most are not meant to be: `.git`, `.env`,
/// `.htpasswd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dotfiles {
    /// None is, but `.well-known` at the root (RFC 8615).
    #[default]
    LeaveOut,
    /// All are.
    TakeIn,
}

impl Dotfiles {
    /// As [`Dotfiles::allow`], of a path in bytes.
    pub fn allow_name(self, path: &[u8]) -> bool {
        self.allow(Path::new(std::ffi::OsStr::from_bytes(path)))
    }

    /// Whether `path`, relative to the root, may be seen. Every name on the way counts.
    pub fn allow(self, path: &Path) -> bool {
        let mut names = path.components().map(|name| name.as_os_str().as_bytes()).peekable();
        // Only the first name: a `.well-known` further down means nothing.
        names.next_if(|&name| name == b".well-known");
        self == Dotfiles::TakeIn || names.all(|name| !name.starts_with(b"."))
    }
}
