//! The system's questions, passed on to the volume.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fsstack::log::Special;
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::volume::{Attributes, Creator, Volume, Wanted};

/// How long the system may remember what it was told: nothing changes but by its wish.
const TTL: Duration = Duration::from_secs(60);

/// The same number is never given to another file.
const GENERATION: Generation = Generation(0);

/// A volume that the system and who makes it durable share.
#[derive(Clone)]
pub(crate) struct Mounted {
    pub(crate) volume: Arc<Mutex<Volume>>,
}

impl Mounted {
    /// The volume. Who panicked while changing it left a tree that is whole: changes are done or not.
    pub(crate) fn volume(&self) -> MutexGuard<'_, Volume> {
        self.volume.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, found: Result<Attributes, Errno>, reply: ReplyEntry) {
        match found {
            Ok(found) => reply.entry(&TTL, &attr(found), GENERATION),
            Err(error) => reply.error(error),
        }
    }
}

fn attr(of: Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(of.number),
        size: of.size,
        blocks: of.size.div_ceil(512),
        atime: of.atime(),
        mtime: of.mtime,
        ctime: of.ctime(),
        crtime: of.mtime,
        kind: of.kind,
        perm: of.posix.mode,
        nlink: of.links,
        uid: of.posix.uid,
        gid: of.posix.gid,
        rdev: of.device,
        blksize: 4096,
        flags: 0,
    }
}

/// Who asks for something to be made.
fn creator(request: &Request, mode: u32) -> Creator {
    Creator { mode, uid: request.uid(), gid: request.gid() }
}

fn empty(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Mounted {
    fn destroy(&mut self) {
        if let Err(error) = self.volume().sync() {
            // Who would read it may be gone.
            let code = error.code();
            let _ = writeln!(io::stderr(), "fsstack-mount: the last changes were not written: error {code}");
        }
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.volume().lookup(parent.0, name.as_bytes());
        self.entry(found, reply);
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.volume().attributes(number.0) {
            Ok(found) => reply.attr(&TTL, &attr(found)),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let time = |time: TimeOrNow| match time {
            TimeOrNow::SpecificTime(time) => time,
            TimeOrNow::Now => SystemTime::now(),
        };
        let (mtime, atime) = (mtime.map(time), atime.map(time));
        match self.volume().set_attributes(number.0, Wanted { mode, uid, gid, size, mtime, atime }) {
            Ok(found) => reply.attr(&TTL, &attr(found)),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        match self.volume().target(number.0) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        use rustix::fs::FileType as Type;
        let (mut volume, name, creator) = (self.volume(), name.as_bytes(), creator(request, mode));
        let special = match Type::from_raw_mode(mode) {
            Type::RegularFile => return self.entry(volume.create(parent.0, name, creator), reply),
            Type::Fifo => Special::Fifo,
            Type::Socket => Special::Socket,
            Type::CharacterDevice => Special::CharDevice(device),
            Type::BlockDevice => Special::BlockDevice(device),
            _ => return reply.error(Errno::EPERM),
        };
        self.entry(volume.make_special(parent.0, name, special, creator), reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.volume().mkdir(parent.0, name.as_bytes(), creator(request, mode));
        self.entry(made, reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (name, target) = (name.as_bytes(), target.as_os_str().as_bytes());
        let made = self.volume().symlink(parent.0, name, target, creator(request, 0o777));
        self.entry(made, reply);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.volume().remove(parent.0, name.as_bytes(), false), reply);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.volume().remove(parent.0, name.as_bytes(), true), reply);
    }

    fn link(
        &self,
        _request: &Request,
        number: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let linked = self.volume().link(number.0, new_parent.0, new_name.as_bytes());
        self.entry(linked, reply);
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.intersects(RenameFlags::RENAME_EXCHANGE | RenameFlags::RENAME_WHITEOUT) {
            return reply.error(Errno::EINVAL);
        }
        let keep = flags.contains(RenameFlags::RENAME_NOREPLACE);
        let (from, to) = ((parent.0, name.as_bytes()), (new_parent.0, new_name.as_bytes()));
        empty(self.volume().rename(from, to, keep), reply);
    }

    fn open(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.volume().opened(number.0);
        // What the system has in memory is right: nobody else changes it.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut volume = self.volume();
        match volume.create(parent.0, name.as_bytes(), creator(request, mode)) {
            Ok(made) => {
                volume.opened(made.number);
                let attr = attr(made);
                reply.created(&TTL, &attr, GENERATION, FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.volume().read(number.0, offset, size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.volume().write(number.0, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn flush(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Closing promises nothing; `fsync` does.
        reply.ok();
    }

    fn release(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.volume().closed(number.0);
        reply.ok();
    }

    fn fsync(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        empty(self.volume().sync(), reply);
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        empty(self.volume().sync(), reply);
    }

    fn opendir(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.volume().open_listing(number.0) {
            Ok(listing) => reply.opened(FileHandle(listing), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        match self.volume().listing(number.0, handle.0, from) {
            Ok(list) => {
                for (at, listed) in (offset + 1..).zip(list) {
                    let name = OsStr::from_bytes(&listed.name);
                    if reply.add(INodeNo(listed.number), at, listed.kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }

    fn releasedir(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.volume().close_listing(handle.0);
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _number: INodeNo, reply: ReplyStatfs) {
        let volume = self.volume();
        match volume.room() {
            Ok((bytes, blocks, free)) => {
                let bytes = u32::try_from(bytes).unwrap_or(4096);
                reply.statfs(blocks, free, free, volume.count(), u64::from(u32::MAX), bytes, 255, bytes);
            }
            Err(error) => reply.error(Errno::from(error)),
        }
    }
}
