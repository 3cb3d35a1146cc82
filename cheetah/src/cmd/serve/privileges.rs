//! Root's rights are given up once sockets, devices and logs are open.

use std::path::Path;

use anyhow::{Context, bail};
use nix::unistd::{Gid, Uid, User, setgid, setgroups, setuid};

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
    /// Makes a file or folder its own, and nobody else's.
    pub(super) fn own(self, path: &Path) -> std::io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
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
