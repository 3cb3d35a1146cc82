//! Opening a path below a folder, without ever leaving it.
//!
//! `openat2` (Linux 5.6) does it in one call. Where the kernel lacks it, or a sandbox forbids it, the path is
//! walked name by name; no name is `.` or `..`, and none may be a link, so a walk cannot leave either.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use runtime::stats::work::{Quantity, count};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// A folder, held open.
#[derive(Debug)]
pub(super) struct Beneath {
    root: OwnedFd,
    /// There is no `openat2`.
    walks: AtomicBool,
}

/// A name that was found is a file that nobody waits for: not a FIFO without a writer, nor a terminal.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::NOFOLLOW);

/// How often a path is looked up again that somebody renamed at that moment.
const ATTEMPTS: usize = 8;

impl Beneath {
    pub(super) fn new(root: OwnedFd, walks: bool) -> Beneath {
        Beneath { root, walks: AtomicBool::new(walks) }
    }

    /// Opens what `path` names, relative and without empty or dot names; the folder itself if it is empty.
    ///
    /// # Errors
    /// Whatever the system says: `LOOP` or `NOTDIR` where a name is a link.
    pub(super) fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        // `openat2` takes an absolute path for one that leaves; `openat` would follow it.
        if path.split(|&byte| byte == b'/').any(|name| matches!(name, b"" | b"." | b"..")) {
            return if path.is_empty() { self.open_at(&self.root, b".", FILE) } else { Err(Errno::NOENT) };
        }
        if !self.walks.load(Ordering::Relaxed) {
            match self.open_at_once(path) {
                Err(Errno::NOSYS | Errno::PERM) => self.walks.store(true, Ordering::Relaxed),
                result => return result,
            }
        }
        let mut names = path.split(|&byte| byte == b'/').peekable();
        let mut folder: Option<OwnedFd> = None;
        loop {
            let Some(name) = names.next() else { return Err(Errno::NOENT) };
            let at = folder.as_ref().unwrap_or(&self.root);
            if names.peek().is_none() {
                return self.open_at(at, name, FILE);
            }
            let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            folder = Some(self.open_at(at, name, through)?);
        }
    }

    fn open_at_once(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let mut result = Err(Errno::AGAIN);
        for _ in 0..ATTEMPTS {
            count(Quantity::OtherCalls, 1);
            result = openat2(&self.root, path, FILE, Mode::empty(), resolve);
            if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        result
    }

    fn open_at(&self, folder: &impl AsFd, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        count(Quantity::OtherCalls, 1);
        openat(folder, name, flags, Mode::empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    /// The two ways find the same, and nothing outside.
    #[test]
    fn nothing_outside_is_opened_at_once_or_by_walking() {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), "inside").unwrap();
        fs::write(top.path().join("secret"), "outside").unwrap();
        symlink("../secret", root.join("link")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("a", root.join("inner")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let absolute = top.path().join("secret");
        symlink(&absolute, root.join("absolute")).unwrap();
        for walks in [false, true] {
            let beneath = Beneath::new(fs::File::open(&root).unwrap().into(), walks);
            let read = |path: &str| {
                let mut text = String::new();
                fs::File::from(beneath.open(path.as_bytes())?).read_to_string(&mut text).unwrap();
                Ok::<_, Errno>(text)
            };
            assert_eq!(read("a/b/file").unwrap(), "inside");
            assert!(beneath.open(b"").is_ok() && beneath.open(b"a").is_ok(), "folders can be opened");
            let long = "x".repeat(300);
            for path in [
                "link",
                "up/secret",
                "inner/b/file",
                "loop",
                "absolute",
                "../secret",
                "a/../../secret",
                absolute.to_str().unwrap(),
                "/a/b/file",
                "a//b/file",
                "a/./b/file",
                "a/b/file/",
                "a/b/file/x",
                "missing",
                &long,
                "a\0b",
            ] {
                assert!(read(path).is_err(), "{path} with walks: {walks}");
            }
            assert_eq!(
                beneath.walks.load(Ordering::Relaxed),
                walks,
                "no error was taken for a lack of the call"
            );
        }
    }
}
