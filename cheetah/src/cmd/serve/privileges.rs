//! Root's rights are given up once sockets, devices and logs are open.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use anyhow::{Context, bail};
use nix::unistd::{Gid, Uid, User, setgid, setgroups, setuid};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::cmd::Usage;

/// Whom the server becomes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    uid: Uid,
    gid: Gid,
}

/// The account called `name`.
pub(super) fn find(name: &str) -> anyhow::Result<Account> {
    match User::from_name(name)? {
        Some(user) => Ok(Account { uid: user.uid, gid: user.gid }),
        None => bail!(Usage(format!("--user {name}: there is no such account on this machine"))),
    }
}

/// The account called `name`; only root can become another.
pub(super) fn account(name: &str) -> anyhow::Result<Account> {
    let account = find(name)?;
    if !Uid::effective().is_root() {
        bail!(Usage(format!("--user {name}: only root can become somebody else; leave it out")));
    }
    Ok(account)
}

impl Account {
    /// Makes a folder and its file `name` its own, and nobody else's. The account may have written there
    /// before, and root must not give away what it has put in the way: no link is followed, and no second
    /// name of a file.
    pub(super) fn own(self, folder: &Path, name: &str) -> io::Result<()> {
        // A FIFO does not keep us waiting.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let folder = File::from(openat(CWD, folder, flags | OFlags::DIRECTORY, Mode::empty())?);
        let file = File::from(openat(&folder, name, flags, Mode::empty())?);
        let meta = file.metadata()?;
        if !meta.is_file() || meta.nlink() != 1 {
            return Err(io::Error::other(format!("{name} is no file of this folder alone: take it away")));
        }
        let (uid, gid) = (Some(self.uid.as_raw()), Some(self.gid.as_raw()));
        fchown(&file, uid, gid)?;
        fchown(&folder, uid, gid)
    }

    /// Becomes it in all threads (the C library sees to that), with no other groups, for good.
    pub(super) fn assume(self) -> anyhow::Result<()> {
        setgroups(&[self.gid]).context("cannot leave root's groups")?;
        setgid(self.gid).context("cannot change the group")?;
        setuid(self.uid).context("cannot change the user")?;
        if !self.uid.is_root() && setuid(Uid::from_raw(0)).is_ok() {
            bail!("root's rights could be taken back");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_leads_elsewhere_is_not_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let (state, other) = (dir.path().join("state"), dir.path().join("other"));
        fs::create_dir(&state).unwrap();
        fs::write(&other, "root's").unwrap();
        let before = fs::metadata(&other).unwrap();
        // As root somebody else; otherwise there is nobody to give a file to.
        let is_root = Uid::effective().is_root();
        let account = match is_root {
            true => Account { uid: Uid::from_raw(65_534), gid: Gid::from_raw(65_534) },
            false => Account { uid: Uid::effective(), gid: Gid::effective() },
        };
        let file = state.join("certificate.pem");
        let refused = || account.own(&state, "certificate.pem").is_err();
        assert!(refused());
        symlink(&other, &file).unwrap();
        assert!(refused());
        fs::remove_file(&file).unwrap();
        fs::hard_link(&other, &file).unwrap();
        assert!(refused());
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(refused());
        fs::remove_dir(&file).unwrap();
        fs::write(&file, "a certificate").unwrap();
        let link = dir.path().join("link");
        symlink(&state, &link).unwrap();
        assert!(account.own(&link, "certificate.pem").is_err());
        account.own(&state, "certificate.pem").unwrap();
        for path in [&state, &file] {
            assert_eq!(fs::metadata(path).unwrap().uid(), account.uid.as_raw());
        }
        let after = fs::metadata(&other).unwrap();
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
    }
}
