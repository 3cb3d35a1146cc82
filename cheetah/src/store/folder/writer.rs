//! Changes of a folder that is served as it lies: a file is written beside the one that it replaces, and
//! takes its name when all of it is on the disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use fsstack::log::Contents;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::Folder;
use crate::http::coding::Coding;
use crate::store::{ChangeMade, ChangeWriter, Found, NotMade, Store, WantedChange, Wish};

/// Names of files that are not whole begin so, and are never served. A crash may leave one.
pub(super) const UNFINISHED: &[u8] = b".cheetah-put-";

/// The one who changes a folder.
#[derive(Debug)]
pub struct FolderWriter {
    folder: Arc<Folder>,
    /// The folder again, as what can be synced and made files in.
    root: OwnedFd,
    begun: u64,
}

/// Folders that are kept open to be synced together, at most.
const MAX_TOUCHED: usize = 64;

/// A folder that something was changed in.
type Touched = BTreeMap<Vec<u8>, OwnedFd>;

impl FolderWriter {
    /// Changes `folder`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn new(folder: Arc<Folder>) -> io::Result<FolderWriter> {
        let root = folder.beneath.open(b"")?;
        Ok(FolderWriter { folder, root, begun: 0 })
    }

    fn make(&mut self, change: &WantedChange, touched: &mut Touched) -> Result<ChangeMade, NotMade> {
        let WantedChange { path, wish, conditions } = change;
        let (above, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], &path[..]),
        };
        if path.split(|&byte| byte == b'/').any(|name| name.starts_with(UNFINISHED)) {
            return Err(NotMade::Name);
        }
        if let Some(conditions) = conditions {
            let document = match self.folder.find(&[b"/", &path[..]].concat()) {
                Found::File(document) => Some(document),
                Found::Failed(_) => return Err(NotMade::Failed),
                _ => None,
            };
            if !conditions.allow_change(document.as_ref().map(|document| document.facts().validators)) {
                return Err(NotMade::Precondition);
            }
        }
        let told = |error| not_made(error, path);
        let folder = self.descend(above, matches!(wish, Wish::Put(_))).map_err(told)?;
        let there = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(told(error)),
        };
        let kind = there.as_ref().map(|stat| FileType::from_raw_mode(stat.st_mode));
        match (wish, kind) {
            (Wish::Put(contents), None | Some(FileType::RegularFile)) => {
                // Not to run as somebody else: the contents are a client's.
                let mode = there.map(|stat| Mode::from_raw_mode(stat.st_mode & 0o777));
                self.put(&folder, name, contents, mode).map_err(told)?;
                // Versions in codings are of what was there.
                for coding in Coding::ALL {
                    let _ =
                        unlinkat(&folder, &[name, coding.suffix().as_bytes()].concat()[..], AtFlags::empty());
                }
            }
            (Wish::Delete, None) => return Err(NotMade::Nothing),
            (Wish::Delete, Some(FileType::RegularFile)) => {
                unlinkat(&folder, name, AtFlags::empty()).map_err(told)?;
            }
            (Wish::Delete, Some(FileType::Directory)) => {
                let remove = || unlinkat(&folder, name, AtFlags::REMOVEDIR);
                let removed = match remove() {
                    Err(Errno::NOTEMPTY) => remove_unfinished(&folder, name).and_then(|()| remove()),
                    removed => removed,
                };
                removed.map_err(told)?;
            }
            // A folder, a link or a device is nothing that a client may replace.
            _ => return Err(NotMade::Conflict),
        }
        touched.insert(above.to_vec(), folder);
        // Now, as the next change may be one of the same path.
        let etag = match (wish, self.folder.find(&[b"/", &path[..]].concat())) {
            (Wish::Put(_), Found::File(document)) => document.facts().validators.etag.to_vec(),
            _ => Vec::new(),
        };
        Ok(ChangeMade { is_new: kind.is_none(), etag })
    }

    /// The folder at `path`, through no link; made, with those above it, if that is wanted.
    fn descend(&self, path: &[u8], is_made: bool) -> Result<OwnedFd, Errno> {
        const FOLDER: OFlags =
            OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
        let mut at = openat(&self.root, ".", FOLDER, Mode::empty())?;
        let mut from = 0;
        while from < path.len() {
            let end = path[from..].iter().position(|&byte| byte == b'/').map_or(path.len(), |len| from + len);
            let name = &path[from..end];
            at = match openat(&at, name, FOLDER, Mode::empty()) {
                Err(Errno::NOENT) if is_made => {
                    mkdirat(&at, name, Mode::from_raw_mode(0o777))?;
                    // At once: a path may have more folders than there are descriptors.
                    rustix::fs::fsync(&at)?;
                    openat(&at, name, FOLDER, Mode::empty())?
                }
                opened => opened?,
            };
            from = end + 1;
        }
        Ok(at)
    }

    /// Puts a file in the place of what has its name, whose rights it keeps.
    fn put(
        &mut self,
        folder: &OwnedFd,
        name: &[u8],
        contents: &Contents,
        mode: Option<Mode>,
    ) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Never wider than what it is to have.
        let rights = mode.unwrap_or(Mode::from_raw_mode(0o666));
        let (unfinished, opened) = loop {
            self.begun += 1;
            let name = format!("{}-{}", std::process::id(), self.begun);
            let name = [UNFINISHED, name.as_bytes()].concat();
            match openat(folder, &name[..], flags, rights) {
                // Left by a process of the same number, as in a container.
                Err(Errno::EXIST) => {}
                opened => break (name, opened?),
            }
        };
        let mut file = File::from(opened);
        let mut write = || -> io::Result<()> {
            contents.parts().iter().try_for_each(|part| file.write_all(part.bytes()))?;
            if let Some(mode) = mode {
                rustix::fs::fchmod(&file, mode)?;
            }
            file.sync_all()
        };
        let written = write().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
        let named = written.and_then(|()| renameat(folder, &unfinished[..], folder, name));
        if named.is_err() {
            let _ = unlinkat(folder, &unfinished[..], AtFlags::empty());
        }
        named
    }
}

impl ChangeWriter for FolderWriter {
    /// One file after the other is seen as it is whole; the folders that have their names are synced at the
    /// end.
    fn commit(&mut self, changes: &[WantedChange]) -> Vec<Result<ChangeMade, NotMade>> {
        let mut touched = Touched::new();
        let sync =
            |touched: &Touched| touched.values().try_for_each(|folder| rustix::fs::fsync(folder.as_fd()));
        let mut synced: Result<(), Errno> = Ok(());
        let mut outcomes = Vec::with_capacity(changes.len());
        for change in changes {
            outcomes.push(self.make(change, &mut touched));
            if touched.len() >= MAX_TOUCHED {
                synced = synced.and(sync(&touched));
                touched.clear();
            }
        }
        let synced = synced.and(sync(&touched));
        if let Err(error) = synced {
            tracing::error!("changes may not be on the disk: {error}");
            outcomes
                .iter_mut()
                .filter(|outcome| outcome.is_ok())
                .for_each(|outcome| *outcome = Err(NotMade::Failed));
            return outcomes;
        }
        outcomes
    }
}

/// Takes away what a crash has left of files that were not whole, in the folder of that name.
fn remove_unfinished(above: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(above, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        if entry.file_name().to_bytes().starts_with(UNFINISHED) {
            unlinkat(&folder, entry.file_name(), AtFlags::empty())?;
        }
    }
    Ok(())
}

fn not_made(error: Errno, path: &[u8]) -> NotMade {
    match error {
        Errno::NOENT => NotMade::Nothing,
        Errno::NOTDIR | Errno::ISDIR | Errno::LOOP | Errno::EXIST | Errno::NOTEMPTY => NotMade::Conflict,
        Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => NotMade::Name,
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => NotMade::Full,
        _ => {
            tracing::error!("{} is not changed: {error}", String::from_utf8_lossy(path));
            NotMade::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Dotfiles;

    #[test]
    fn each_is_told_the_tag_of_what_it_put() {
        let there = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(there.path(), Dotfiles::default(), 1 << 20).unwrap());
        let mut writer = FolderWriter::new(Arc::clone(&folder)).unwrap();
        let change = |wish| WantedChange { path: b"d/a".to_vec(), wish, conditions: None };
        let put = |content: &str| change(Wish::Put(Contents::from(content.as_bytes().to_vec())));
        let changes = [put("one"), put("two, longer"), change(Wish::Delete), put("the third")];
        let made: Vec<ChangeMade> = writer.commit(&changes).into_iter().map(Result::unwrap).collect();
        assert_eq!(made.iter().map(|made| made.is_new).collect::<Vec<_>>(), [true, false, false, true]);
        let tags: Vec<&[u8]> = made.iter().map(|made| &made.etag[..]).collect();
        assert!(!tags[0].is_empty() && tags[0] != tags[1] && tags[1] != tags[3], "{tags:?}");
        assert!(tags[2].is_empty());
        let Found::File(document) = folder.find(b"/d/a") else { panic!("it is there") };
        assert_eq!(document.facts().validators.etag, tags[3]);
    }
}
