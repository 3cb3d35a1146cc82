//! An image that is mounted: what the system asks for by inode numbers, done on a tree of paths.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fsstack::format::mtime::Mtime;
use fsstack::log::{
    ChangeError, Contents, Entry, Generation, Log, LogError, MODE_BITS, Posix, Special, TARGET_MAX_BYTES,
};
use fsstack::path::PathError;
use fsstack::{OpenError, OpenOptions, ReadError};
use fuser::{Errno, FileType};
use runtime::buffer::{Shared, Slice};

use crate::names::{Names, ROOT};
use crate::orphan::{Orphan, gather};

/// Of modes: what is made in such a directory is of its group.
const SET_GROUP: u16 = 0o2000;

/// What is said of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    pub(crate) number: u64,
    pub(crate) kind: FileType,
    /// Number of a device.
    pub(crate) device: u32,
    pub(crate) size: u64,
    pub(crate) mtime: SystemTime,
    pub(crate) posix: Posix,
    /// How many names it has; none if it is only open still.
    pub(crate) links: u32,
}

impl Attributes {
    pub(crate) fn ctime(&self) -> SystemTime {
        self.posix.ctime.map_or(self.mtime, to_system)
    }

    pub(crate) fn atime(&self) -> SystemTime {
        self.posix.atime.map_or(self.mtime, to_system)
    }
}

/// What is to be changed of a file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) mtime: Option<SystemTime>,
    pub(crate) atime: Option<SystemTime>,
}

/// Who makes something, and with which mode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Creator {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A name in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) number: u64,
    pub(crate) kind: FileType,
    pub(crate) name: Vec<u8>,
}

/// What an entry is to the system.
fn kind_of(entry: Entry<'_>) -> FileType {
    match entry.special() {
        Some(Special::Symlink(_)) => FileType::Symlink,
        Some(Special::Fifo) => FileType::NamedPipe,
        Some(Special::Socket) => FileType::Socket,
        Some(Special::CharDevice(_)) => FileType::CharDevice,
        Some(Special::BlockDevice(_)) => FileType::BlockDevice,
        None if entry.is_directory() => FileType::Directory,
        None => FileType::RegularFile,
    }
}

/// An image, and what the system has of it.
pub(crate) struct Volume {
    /// `None` if it is mounted to be read only.
    log: Option<Log>,
    /// The tree with all changes.
    tree: Generation,
    /// The image's file.
    path: PathBuf,
    names: Names,
    /// How often each file is open.
    open: HashMap<u64, u64>,
    orphans: HashMap<u64, Orphan>,
    listings: HashMap<u64, Vec<Listed>>,
    next_listing: u64,
    is_dirty: bool,
    /// How many folders are in those that were asked for.
    folders: HashMap<Vec<u8>, u32>,
    /// Whose everything is that the image says nothing of.
    owner: (u32, u32),
}

/// Why a change did not come to be, as the system says it.
fn of_log(error: LogError) -> Errno {
    match error {
        LogError::Change(error) => match error {
            ChangeError::NotFound | ChangeError::NoParent | ChangeError::BadTarget => Errno::ENOENT,
            ChangeError::NotDirectory => Errno::ENOTDIR,
            ChangeError::IsDirectory => Errno::EISDIR,
            ChangeError::NotEmpty => Errno::ENOTEMPTY,
            ChangeError::Exists => Errno::EEXIST,
            ChangeError::TooLarge => Errno::EFBIG,
            ChangeError::TooManyNames => Errno::EMLINK,
            ChangeError::Path(PathError::NameTooLong | PathError::PathTooLong) => Errno::ENAMETOOLONG,
            ChangeError::Impossible | ChangeError::NoContents | ChangeError::Path(_) => Errno::EINVAL,
        },
        error if error.is_full() => Errno::ENOSPC,
        error => {
            eprintln!("fsstack-mount: {error}");
            Errno::EIO
        }
    }
}

fn of_read(error: ReadError) -> Errno {
    eprintln!("fsstack-mount: {error}");
    Errno::EIO
}

fn to_system(mtime: Mtime) -> SystemTime {
    let seconds = Duration::from_secs(mtime.seconds.unsigned_abs());
    let whole = match mtime.seconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(seconds),
        _ => SystemTime::UNIX_EPOCH.checked_sub(seconds),
    };
    let nanoseconds = Duration::from_nanos(mtime.nanoseconds.into());
    whole.and_then(|time| time.checked_add(nanoseconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn from_system(time: SystemTime) -> Mtime {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => Mtime { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() },
        Err(error) => {
            let before = error.duration();
            let (seconds, nanoseconds) = (before.as_secs() as i64, before.subsec_nanos());
            match nanoseconds {
                0 => Mtime { seconds: -seconds, nanoseconds: 0 },
                _ => Mtime { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
            }
        }
    }
}

fn now() -> Mtime {
    from_system(SystemTime::now())
}

impl Volume {
    /// Of an image, packed or changed since, that stays as it is.
    pub(crate) fn fixed(path: &Path) -> Result<Volume, OpenError> {
        let tree = Generation::open(path, &OpenOptions::default())?;
        Ok(Volume::new(path, None, tree))
    }

    /// Of an image that is to be changed. A packed one becomes one that changes.
    pub(crate) fn writable(path: &Path) -> Result<Volume, LogError> {
        let options = OpenOptions::default();
        let log = match Log::open(path, &options) {
            Err(LogError::NotALog) => Log::convert(path, &options),
            other => other,
        }?;
        let tree = log.latest();
        Ok(Volume::new(path, Some(log), tree))
    }

    fn new(path: &Path, log: Option<Log>, tree: Generation) -> Volume {
        Volume {
            log,
            tree,
            path: path.to_owned(),
            names: Names::new(),
            open: HashMap::new(),
            orphans: HashMap::new(),
            listings: HashMap::new(),
            next_listing: 0,
            is_dirty: false,
            folders: HashMap::new(),
            owner: (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
        }
    }

    /// Of what the image says nothing.
    fn default_posix(&self, kind: FileType) -> Posix {
        let mode = match kind {
            FileType::Directory => 0o755,
            FileType::Symlink => 0o777,
            _ => 0o644,
        };
        let (uid, gid) = self.owner;
        Posix { mode, uid, gid, ctime: None, atime: None }
    }

    /// Changes what the system keeps of what is at a path; without any other wish, that it was changed now.
    /// All of it is said from then on, whatever it is: whose what was not said is depends on who mounts.
    fn change_posix(&mut self, path: &[u8], change: impl FnOnce(&mut Posix)) -> Result<(), Errno> {
        let entry = self.entry(path)?;
        let (kind, mtime, before) = (kind_of(entry), entry.mtime(), entry.posix().copied());
        let mut posix = before.unwrap_or_else(|| self.default_posix(kind));
        posix.ctime = Some(now());
        change(&mut posix);
        // It moves with the modification time. That of the last access stays where it was set, if that is the
        // same, too.
        posix.ctime = posix.ctime.filter(|time| *time != mtime);
        if before == Some(posix) {
            return Ok(());
        }
        self.change(|log| log.set_posix(path, Some(posix)).map(drop))
    }

    /// What was just made at a path is who made it's, and its folder has changed.
    fn made(&mut self, parent: u64, path: &[u8], creator: Creator) -> Result<Attributes, Errno> {
        let folder = self.entry(&self.path_of(parent)?)?;
        let above = folder.posix().copied().unwrap_or_else(|| self.default_posix(FileType::Directory));
        let is_directory = self.entry(path)?.is_directory();
        self.change_posix(path, |posix| {
            *posix =
                Posix { mode: creator.mode as u16 & MODE_BITS, uid: creator.uid, gid: creator.gid, ..*posix };
            (posix.ctime, posix.atime) = (None, None);
            if above.mode & SET_GROUP != 0 {
                // As elsewhere: what is made there is of the folder's group, and so on below.
                posix.gid = above.gid;
                posix.mode |= if is_directory { SET_GROUP } else { 0 };
            }
        })?;
        self.touch(parent)?;
        self.attributes_at(path)
    }

    fn path_of(&self, number: u64) -> Result<std::sync::Arc<[u8]>, Errno> {
        self.names.path(number).ok_or(Errno::ESTALE)
    }

    fn child(&self, parent: u64, name: &[u8]) -> Result<Vec<u8>, Errno> {
        if name.len() > fsstack::path::NAME_MAX_BYTES {
            return Err(Errno::ENAMETOOLONG);
        }
        let parent = self.path_of(parent)?;
        let slash: &[u8] = if parent.is_empty() { b"" } else { b"/" };
        Ok([&parent[..], slash, name].concat())
    }

    fn entry(&self, path: &[u8]) -> Result<Entry<'_>, Errno> {
        self.tree.find(path).ok_or(Errno::ENOENT)
    }

    /// One change of the tree.
    fn change<T>(&mut self, change: impl FnOnce(&mut Log) -> Result<T, LogError>) -> Result<T, Errno> {
        let log = self.log.as_mut().ok_or(Errno::EROFS)?;
        let result = change(log).map_err(of_log);
        self.tree = log.latest();
        self.is_dirty = true;
        result
    }

    /// A directory whose names have changed.
    fn touch(&mut self, parent: u64) -> Result<(), Errno> {
        let path = self.path_of(parent)?;
        if path.is_empty() {
            // The root's time is the image's.
            return Ok(());
        }
        self.change(|log| log.set_attributes(&path, now(), &[]).map(drop))
    }

    fn attributes_at(&mut self, path: &[u8]) -> Result<Attributes, Errno> {
        let entry = self.entry(path)?;
        let (kind, size, mtime) = (kind_of(entry), entry.size(), to_system(entry.mtime()));
        let device = match entry.special() {
            Some(Special::CharDevice(device) | Special::BlockDevice(device)) => *device,
            _ => 0,
        };
        let posix = entry.posix().copied().unwrap_or_else(|| self.default_posix(kind));
        let links = match kind {
            // Its own name, its `.`, and the `..` of those in it.
            FileType::Directory => self.folders_in(path).saturating_add(2),
            _ => u32::try_from(entry.name_count()).unwrap_or(u32::MAX),
        };
        Ok(Attributes { number: self.number(path), kind, device, size, mtime, posix, links })
    }

    /// How many folders are in one: counted once, until one is moved or removed.
    fn folders_in(&mut self, path: &[u8]) -> u32 {
        if let Some(&count) = self.folders.get(path) {
            return count;
        }
        let children = self.tree.find(path).into_iter().flat_map(Entry::children);
        let count = children.filter(|child| child.is_directory()).count();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.folders.insert(path.to_vec(), count);
        count
    }

    /// The number of what is at a path, by whatever name the system knows it.
    fn number(&mut self, path: &[u8]) -> u64 {
        if let Some(number) = self.names.known(path) {
            return number;
        }
        let other = self.tree.find(path).and_then(|entry| {
            let mut names = entry.names();
            names.find_map(|name| self.names.known(name))
        });
        match other {
            Some(number) => {
                self.names.link(path, number);
                number
            }
            None => self.names.number(path),
        }
    }

    /// A name of what is at a path that is another one.
    fn other_name(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.tree.find(path)?.names().find(|&name| name != path).map(<[u8]>::to_vec)
    }

    /// What was at a path is gone from there, and is still at `other`, if that is a path: the system may know
    /// it by that alone.
    fn forget_name(&mut self, path: &[u8], other: Option<Vec<u8>>) {
        if let (Some(number), Some(other)) = (self.names.remove(path), other)
            && self.names.path(number).is_none()
        {
            self.names.link(&other, number);
        }
    }

    pub(crate) fn lookup(&mut self, parent: u64, name: &[u8]) -> Result<Attributes, Errno> {
        let path = self.child(parent, name)?;
        self.attributes_at(&path)
    }

    pub(crate) fn attributes(&mut self, number: u64) -> Result<Attributes, Errno> {
        if let Some(orphan) = self.orphans.get(&number) {
            let (size, mtime, posix) = (orphan.size(), to_system(orphan.mtime), orphan.posix);
            let kind = FileType::RegularFile;
            return Ok(Attributes { number, kind, device: 0, size, mtime, posix, links: 0 });
        }
        let path = self.path_of(number)?;
        self.attributes_at(&path)
    }

    pub(crate) fn set_attributes(&mut self, number: u64, wanted: Wanted) -> Result<Attributes, Errno> {
        let before = self.attributes(number)?;
        let settle = |posix: &mut Posix| {
            posix.mode = wanted.mode.map_or(posix.mode, |mode| mode as u16 & MODE_BITS);
            posix.uid = wanted.uid.unwrap_or(posix.uid);
            posix.gid = wanted.gid.unwrap_or(posix.gid);
            posix.atime = wanted.atime.map_or(posix.atime, |time| Some(from_system(time)));
        };
        if let Some(orphan) = self.orphans.get_mut(&number) {
            if let Some(size) = wanted.size
                && !orphan.truncate(size).map_err(of_read)?
            {
                return Err(Errno::EFBIG);
            }
            if let Some(time) = wanted.mtime {
                orphan.mtime = from_system(time);
            } else if wanted.size.is_some() {
                orphan.mtime = now();
            }
            orphan.posix.ctime = Some(now());
            settle(&mut orphan.posix);
            return self.attributes(number);
        }
        let path = self.path_of(number)?;
        if let Some(size) = wanted.size {
            if before.kind == FileType::Directory {
                return Err(Errno::EISDIR);
            }
            self.change(|log| log.truncate(&path, size, now()).map(drop))?;
        }
        // The root's time is the image's.
        if let Some(time) = wanted.mtime.filter(|_| number != ROOT) {
            let app = self.entry(&path)?.app().map_err(of_read)?.to_vec();
            self.change(|log| log.set_attributes(&path, from_system(time), &app).map(drop))?;
        }
        let Wanted { mode, uid, gid, mtime, atime, .. } = wanted;
        if mode.is_some() || uid.is_some() || gid.is_some() || mtime.is_some() || atime.is_some() {
            self.change_posix(&path, settle)?;
        }
        self.attributes(number)
    }

    pub(crate) fn create(&mut self, parent: u64, name: &[u8], creator: Creator) -> Result<Attributes, Errno> {
        let path = self.child(parent, name)?;
        if self.tree.find(&path).is_some() {
            return Err(Errno::EEXIST);
        }
        self.change(|log| log.put(&path, now(), Contents::new(), &[]).map(drop))?;
        self.made(parent, &path, creator)
    }

    pub(crate) fn mkdir(&mut self, parent: u64, name: &[u8], creator: Creator) -> Result<Attributes, Errno> {
        let path = self.child(parent, name)?;
        self.change(|log| log.mkdir(&path, now()).map(drop))?;
        let above = self.path_of(parent)?;
        if let Some(count) = self.folders.get_mut(&above[..]) {
            *count = count.saturating_add(1);
        }
        self.made(parent, &path, creator)
    }

    /// Makes what is neither file nor directory.
    pub(crate) fn make_special(
        &mut self,
        parent: u64,
        name: &[u8],
        special: Special,
        creator: Creator,
    ) -> Result<Attributes, Errno> {
        let path = self.child(parent, name)?;
        self.change(|log| log.make_special(&path, now(), special).map(drop))?;
        self.made(parent, &path, creator)
    }

    pub(crate) fn symlink(
        &mut self,
        parent: u64,
        name: &[u8],
        target: &[u8],
        creator: Creator,
    ) -> Result<Attributes, Errno> {
        if target.len() > TARGET_MAX_BYTES {
            return Err(Errno::ENAMETOOLONG);
        }
        let special = Special::symlink(target).map_err(|error| of_log(error.into()))?;
        self.make_special(parent, name, special, creator)
    }

    pub(crate) fn target(&self, number: u64) -> Result<Vec<u8>, Errno> {
        match self.entry(&self.path_of(number)?)?.special() {
            Some(Special::Symlink(target)) => Ok(target.to_vec()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// What is at a path, as it will be without one: if it is open, it stays until it is closed.
    fn orphan_of(&self, path: &[u8]) -> Option<(u64, Orphan)> {
        let number = self.names.known(path).filter(|number| self.open.contains_key(number))?;
        let entry = self.tree.find(path).filter(|entry| entry.name_count() == 1)?;
        let posix = entry.posix().copied().unwrap_or_else(|| self.default_posix(FileType::RegularFile));
        let posix = Posix { ctime: Some(now()), ..posix };
        Some((number, Orphan::new(entry.to_file()?, entry.mtime(), posix)))
    }

    pub(crate) fn remove(&mut self, parent: u64, name: &[u8], directory: bool) -> Result<(), Errno> {
        let path = self.child(parent, name)?;
        match (self.entry(&path)?.is_directory(), directory) {
            (true, false) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            _ => {}
        }
        let (orphan, other) = (self.orphan_of(&path), self.other_name(&path));
        self.change(|log| log.remove(&path).map(drop))?;
        if directory {
            self.folders.clear();
        }
        self.orphans.extend(orphan);
        self.forget_name(&path, other.clone());
        if let Some(other) = other {
            self.change_posix(&other, |_| {})?;
        }
        self.touch(parent)
    }

    /// Gives a file another name.
    pub(crate) fn link(&mut self, number: u64, parent: u64, name: &[u8]) -> Result<Attributes, Errno> {
        if self.orphans.contains_key(&number) {
            // It has no name in the image that it could get another for.
            return Err(Errno::ENOENT);
        }
        let (existing, path) = (self.path_of(number)?, self.child(parent, name)?);
        self.change(|log| log.link(&existing, &path).map(drop))?;
        self.names.link(&path, number);
        self.change_posix(&path, |_| {})?;
        self.touch(parent)?;
        self.attributes_at(&path)
    }

    pub(crate) fn rename(
        &mut self,
        (from_parent, from_name): (u64, &[u8]),
        (to_parent, to_name): (u64, &[u8]),
        keep: bool,
    ) -> Result<(), Errno> {
        let (from, to) = (self.child(from_parent, from_name)?, self.child(to_parent, to_name)?);
        let is_there = self.tree.find(&to).is_some();
        if is_there && keep {
            return Err(Errno::EEXIST);
        }
        let entry = self.entry(&from)?;
        if from == to || entry.names().any(|name| name == to) {
            return Ok(());
        }
        let is_directory = entry.is_directory();
        let (orphan, other) = (self.orphan_of(&to), self.other_name(&to));
        self.change(|log| log.rename(&from, &to).map(drop))?;
        if is_directory {
            self.folders.clear();
        }
        self.orphans.extend(orphan);
        self.forget_name(&to, other.clone());
        self.names.rename(&from, &to);
        // A name of it has changed, and of what it took the place of one is gone.
        for changed in std::iter::once(to).chain(other) {
            self.change_posix(&changed, |_| {})?;
        }
        self.touch(from_parent)?;
        self.touch(to_parent)
    }

    /// A file is open once more.
    pub(crate) fn opened(&mut self, number: u64) {
        *self.open.entry(number).or_default() += 1;
    }

    /// And once less.
    pub(crate) fn closed(&mut self, number: u64) {
        if let Some(count) = self.open.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&number);
                self.orphans.remove(&number);
            }
        }
    }

    pub(crate) fn read(&self, number: u64, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        if let Some(orphan) = self.orphans.get(&number) {
            return orphan.read(offset, len).map_err(of_read);
        }
        let path = self.path_of(number)?;
        let entry = self.entry(&path)?;
        gather(offset, len, |offset, len| entry.fetch(offset, len)).map_err(of_read)
    }

    pub(crate) fn write(&mut self, number: u64, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        if let Some(orphan) = self.orphans.get_mut(&number) {
            orphan.mtime = now();
            orphan.posix.ctime = None;
            return if orphan.write(offset, bytes).map_err(of_read)? { Ok(()) } else { Err(Errno::EFBIG) };
        }
        let path = self.path_of(number)?;
        let slice = Slice::from(Shared::from(bytes.to_vec()));
        self.change(|log| log.write(&path, offset, slice, now()).map(drop))
    }

    /// The number of a list of a directory, which is made when it is first read.
    pub(crate) fn open_listing(&mut self, number: u64) -> Result<u64, Errno> {
        let path = self.path_of(number)?;
        self.entry(&path)?;
        self.next_listing += 1;
        self.listings.insert(self.next_listing, Vec::new());
        Ok(self.next_listing)
    }

    /// The list from a place on; from the start it is made anew.
    pub(crate) fn listing(&mut self, number: u64, listing: u64, from: usize) -> Result<&[Listed], Errno> {
        // One that is made has two names at least.
        let is_new = self.listings.get(&listing).ok_or(Errno::EBADF)?.is_empty();
        if from == 0 || is_new {
            let made = self.list(number)?;
            self.listings.insert(listing, made);
        }
        let list = self.listings.get(&listing).ok_or(Errno::EBADF)?;
        Ok(&list[from.min(list.len())..])
    }

    pub(crate) fn close_listing(&mut self, listing: u64) {
        self.listings.remove(&listing);
    }

    fn list(&mut self, number: u64) -> Result<Vec<Listed>, Errno> {
        let path = self.path_of(number)?;
        let parent = path.iter().rposition(|&byte| byte == b'/').map_or(&b""[..], |at| &path[..at]);
        let parent = self.number(parent);
        let kind = FileType::Directory;
        let directory = |number, name: &[u8]| Listed { number, kind, name: name.to_vec() };
        let mut list = vec![directory(number, b"."), directory(parent, b"..")];
        let tree = self.tree.clone();
        for entry in tree.find(&path[..]).ok_or(Errno::ENOENT)?.children() {
            list.push(Listed {
                number: self.number(entry.path()),
                kind: kind_of(entry),
                name: entry.name().to_vec(),
            });
        }
        Ok(list)
    }

    /// Makes all changes durable.
    pub(crate) fn sync(&mut self) -> Result<(), Errno> {
        let Some(log) = self.log.as_mut().filter(|_| self.is_dirty) else { return Ok(()) };
        let synced = log.sync().map(drop);
        // A tree that is held keeps the space of what it has.
        self.tree = log.latest();
        let reclaimed = synced.and_then(|()| log.reclaim());
        self.is_dirty = reclaimed.is_err();
        reclaimed.map_err(of_log)
    }

    /// Room in the file system that the image's file is in: bytes of a block, blocks in all, and free ones.
    pub(crate) fn room(&self) -> io::Result<(u64, u64, u64)> {
        let room = rustix::fs::statvfs(&self.path)?;
        Ok((room.f_frsize, room.f_blocks, room.f_bavail))
    }

    /// Files and directories.
    pub(crate) fn count(&self) -> u64 {
        self.tree.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_there_and_back() {
        for (seconds, nanoseconds) in [(0, 0), (1_700_000_000, 5), (-1, 999_999_999), (-1, 0), (-7, 1)] {
            let mtime = Mtime { seconds, nanoseconds };
            assert_eq!(from_system(to_system(mtime)), mtime);
        }
    }
}
