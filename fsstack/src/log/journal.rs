//! What a commit changed, as records (`docs/log-format.md`, journal).

use super::node::{MAX_FILE_BYTES, Node, Run, Runs, Source};
use super::posix::{MODE_BITS, Posix, Special};
use super::segment::{Blob, Segment};
use super::tree::Tree;
use crate::format::BadImage;
use crate::fs::InodeId;
use crate::image::build::Mtime;
use std::collections::HashMap;
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"CHJRNL1\n";

const REMOVED: u8 = 1;
const DIRECTORY: u8 = 2;
const WHOLE: u8 = 3;
const RUNS: u8 = 4;
const PATCH: u8 = 5;
const LINK: u8 = 6;
const POSIX: u8 = 7;
const SPECIAL: u8 = 8;

/// What a record of kind [`POSIX`] says, and what follows: these, and then those times.
const HAS_MODE: u8 = 1;
const HAS_CTIME: u8 = 2;
const HAS_ATIME: u8 = 4;

// Kinds of what is neither file nor directory.
const SYMLINK: u8 = 1;
const FIFO: u8 = 2;
const SOCKET: u8 = 3;
const CHAR_DEVICE: u8 = 4;
const BLOCK_DEVICE: u8 = 5;

/// Bytes of a run's record.
const RUN_BYTES: usize = 36;

/// A journal in the making.
#[derive(Debug)]
pub(super) struct JournalWriter {
    bytes: Vec<u8>,
}

impl JournalWriter {
    pub(super) fn new() -> JournalWriter {
        JournalWriter { bytes: MAGIC.to_vec() }
    }

    pub(super) fn removed(&mut self, path: &[u8]) {
        self.begin(REMOVED, path);
    }

    pub(super) fn directory(&mut self, path: &[u8], mtime: Mtime) {
        self.begin(DIRECTORY, path);
        self.mtime(mtime);
    }

    pub(super) fn whole(&mut self, path: &[u8], segment: u64, id: InodeId) {
        self.begin(WHOLE, path);
        self.bytes.extend_from_slice(&segment.to_le_bytes());
        self.bytes.extend_from_slice(&id.number().to_le_bytes());
    }

    /// All of a file.
    pub(super) fn runs(&mut self, path: &[u8], runs: &Runs, places: &[(u64, StoredRun)]) {
        self.begin(RUNS, path);
        self.bytes.extend_from_slice(&runs.size.to_le_bytes());
        self.mtime(runs.mtime);
        self.bytes.extend_from_slice(&(runs.app.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(places.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&runs.app);
        self.places(places);
    }

    /// What became of a file of which the first `kept` bytes were kept.
    pub(super) fn patch(&mut self, path: &[u8], kept: u64, runs: &Runs, places: &[(u64, StoredRun)]) {
        self.begin(PATCH, path);
        self.bytes.extend_from_slice(&kept.to_le_bytes());
        self.bytes.extend_from_slice(&runs.size.to_le_bytes());
        self.mtime(runs.mtime);
        self.bytes.extend_from_slice(&(places.len() as u32).to_le_bytes());
        self.places(places);
    }

    /// Another name of the file that is at `existing` when all else is done.
    pub(super) fn link(&mut self, path: &[u8], existing: &[u8]) {
        self.begin(LINK, path);
        // At most 4096.
        self.bytes.extend_from_slice(&(existing.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(existing);
    }

    /// What the system keeps of what is at a path when all else is done.
    pub(super) fn posix(&mut self, path: &[u8], posix: Option<&Posix>) {
        self.begin(POSIX, path);
        let Some(&Posix { mode, uid, gid, ctime, atime }) = posix else { return self.bytes.push(0) };
        let flag = |time: Option<Mtime>, flag| if time.is_some() { flag } else { 0 };
        self.bytes.push(HAS_MODE | flag(ctime, HAS_CTIME) | flag(atime, HAS_ATIME));
        self.bytes.extend_from_slice(&mode.to_le_bytes());
        self.bytes.extend_from_slice(&uid.to_le_bytes());
        self.bytes.extend_from_slice(&gid.to_le_bytes());
        [ctime, atime].into_iter().flatten().for_each(|time| self.mtime(time));
    }

    /// What is neither file nor directory.
    pub(super) fn special(&mut self, path: &[u8], mtime: Mtime, special: &Special) {
        self.begin(SPECIAL, path);
        self.mtime(mtime);
        let (kind, device) = match special {
            Special::Symlink(target) => {
                self.bytes.push(SYMLINK);
                // At most 4095.
                self.bytes.extend_from_slice(&(target.len() as u16).to_le_bytes());
                return self.bytes.extend_from_slice(target);
            }
            Special::Fifo => (FIFO, 0),
            Special::Socket => (SOCKET, 0),
            Special::CharDevice(device) => (CHAR_DEVICE, *device),
            Special::BlockDevice(device) => (BLOCK_DEVICE, *device),
        };
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&device.to_le_bytes());
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn begin(&mut self, kind: u8, path: &[u8]) {
        self.bytes.push(kind);
        // At most 4096.
        self.bytes.extend_from_slice(&(path.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(path);
    }

    fn mtime(&mut self, mtime: Mtime) {
        self.bytes.extend_from_slice(&mtime.seconds.to_le_bytes());
        self.bytes.extend_from_slice(&mtime.nanoseconds.to_le_bytes());
    }

    fn places(&mut self, places: &[(u64, StoredRun)]) {
        for (offset, run) in places {
            for number in [*offset, run.len, run.segment] {
                self.bytes.extend_from_slice(&number.to_le_bytes());
            }
            self.bytes.extend_from_slice(&run.id.number().to_le_bytes());
            self.bytes.extend_from_slice(&run.at.to_le_bytes());
        }
    }
}

/// Where a run lies, by numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredRun {
    pub(super) len: u64,
    pub(super) segment: u64,
    pub(super) id: InodeId,
    pub(super) at: u64,
}

/// Does what a journal says to `tree`.
///
/// # Errors
/// The first record that cannot be, with its offset in the journal.
pub(super) fn replay(
    journal: &[u8],
    segments: &HashMap<u64, Arc<Segment>>,
    tree: &mut Tree,
) -> Result<(), BadImage> {
    let Some(rest) = journal.strip_prefix(MAGIC) else {
        return Err(BadImage::new(
            0,
            "journal",
            "its magic",
            journal.len().min(8).to_string() + " other bytes",
        ));
    };
    let mut reader = Reader { rest, len: journal.len(), record: 0, segments };
    while !reader.rest.is_empty() {
        reader.record = journal.len() - reader.rest.len();
        let kind = reader.array::<1>()?[0];
        let path_bytes = usize::from(u16::from_le_bytes(reader.array()?));
        let path: Arc<[u8]> = reader.take(path_bytes)?.into();
        let node = match kind {
            REMOVED if path.is_empty() => return Err(reader.bad("removal", "a path", "the root")),
            REMOVED => {
                if tree.remove(&path).is_empty() {
                    return Err(reader.bad("removal", "something that is there", &text(&path)));
                }
                continue;
            }
            DIRECTORY => Node::Directory(reader.mtime()?),
            WHOLE => Node::Whole(reader.blob()?),
            RUNS => {
                let size = reader.size()?;
                let mtime = reader.mtime()?;
                let (app_bytes, count) = (reader.u32()? as usize, reader.u32()?);
                let app = reader.take(app_bytes)?.into();
                let mut runs = Runs { size: 0, mtime, app, map: Default::default(), sums: None };
                reader.lay(&mut runs, size, count)?;
                Node::Runs(Arc::new(runs))
            }
            PATCH => {
                let (kept, size, mtime) = (reader.size()?, reader.size()?, reader.mtime()?);
                let count = reader.u32()?;
                let Some(mut runs) = tree.node(&path).and_then(Node::to_runs) else {
                    return Err(reader.bad("change of a file", "a file that is there", &text(&path)));
                };
                if kept > runs.size {
                    return Err(reader.bad(
                        "bytes kept",
                        &format!("at most {}", runs.size),
                        &kept.to_string(),
                    ));
                }
                (runs.mtime, runs.app) = (mtime, Arc::new([]));
                runs.truncate(kept);
                reader.lay(&mut runs, size, count)?;
                Node::Runs(Arc::new(runs))
            }
            LINK => {
                let existing_bytes = usize::from(u16::from_le_bytes(reader.array()?));
                let existing = reader.take(existing_bytes)?;
                if let Err(error) = tree.link(existing, Arc::clone(&path)) {
                    let found = format!("{} of {}: {error}", text(&path), text(existing));
                    return Err(reader.bad("another name", "one of a file that is there", &found));
                }
                continue;
            }
            POSIX => {
                let posix = reader.posix()?;
                if !tree.set_posix(&path, posix) {
                    return Err(reader.bad("mode and owner", "of something that is there", &text(&path)));
                }
                continue;
            }
            SPECIAL => Node::Special(reader.mtime()?, reader.special()?),
            other => return Err(reader.bad("kind of a record", "1 to 8", &other.to_string())),
        };
        // What was changed in part was so under all its names; all else begins as a file of its own.
        let done = match kind {
            PATCH => tree.update(Arc::clone(&path), node),
            _ => tree.insert(Arc::clone(&path), node).map(drop),
        };
        if let Err(error) = done {
            return Err(reader.bad("record", "one that fits the tree", &format!("{}: {error}", text(&path))));
        }
    }
    Ok(())
}

fn text(path: &[u8]) -> String {
    format!("`{}`", String::from_utf8_lossy(path))
}

struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
    /// Where the record begins.
    record: usize,
    segments: &'a HashMap<u64, Arc<Segment>>,
}

impl<'a> Reader<'a> {
    fn bad(&self, what: &str, expected: &str, found: &str) -> BadImage {
        BadImage::new(self.record as u64, format!("journal, {what}"), expected, found)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], BadImage> {
        let Some((now, later)) = self.rest.split_at_checked(len) else {
            return Err(self.bad(
                "record",
                &format!("{len} more bytes"),
                &format!("the end, at {}", self.len),
            ));
        };
        self.rest = later;
        Ok(now)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadImage> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, BadImage> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, BadImage> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn size(&mut self) -> Result<u64, BadImage> {
        let size = self.u64()?;
        if size > MAX_FILE_BYTES {
            return Err(self.bad("size", &format!("at most {MAX_FILE_BYTES}"), &size.to_string()));
        }
        Ok(size)
    }

    fn mtime(&mut self) -> Result<Mtime, BadImage> {
        let seconds = i64::from_le_bytes(self.array()?);
        let nanoseconds = self.u32()?;
        if nanoseconds >= 1_000_000_000 {
            return Err(self.bad("nanoseconds", "less than 10^9", &nanoseconds.to_string()));
        }
        Ok(Mtime { seconds, nanoseconds })
    }

    fn posix(&mut self) -> Result<Option<Posix>, BadImage> {
        let flags = self.array::<1>()?[0];
        if flags == 0 {
            return Ok(None);
        }
        if flags & HAS_MODE == 0 || flags & !(HAS_MODE | HAS_CTIME | HAS_ATIME) != 0 {
            return Err(self.bad("what is known of mode and owner", "0, 1, 3, 5 or 7", &flags.to_string()));
        }
        let mode = u16::from_le_bytes(self.array()?);
        if mode & !MODE_BITS != 0 {
            return Err(self.bad("mode", "at most 0o7777", &format!("{mode:#o}")));
        }
        let (uid, gid) = (self.u32()?, self.u32()?);
        let ctime = if flags & HAS_CTIME != 0 { Some(self.mtime()?) } else { None };
        let atime = if flags & HAS_ATIME != 0 { Some(self.mtime()?) } else { None };
        Ok(Some(Posix { mode, uid, gid, ctime, atime }))
    }

    fn special(&mut self) -> Result<Special, BadImage> {
        let kind = self.array::<1>()?[0];
        if kind == SYMLINK {
            let len = usize::from(u16::from_le_bytes(self.array()?));
            let target = self.take(len)?;
            return Special::symlink(target)
                .map_err(|error| self.bad("target of a symbolic link", &error.to_string(), &text(target)));
        }
        let device = self.u32()?;
        match (kind, device) {
            (FIFO, 0) => Ok(Special::Fifo),
            (SOCKET, 0) => Ok(Special::Socket),
            (CHAR_DEVICE, _) => Ok(Special::CharDevice(device)),
            (BLOCK_DEVICE, _) => Ok(Special::BlockDevice(device)),
            _ => {
                let found = format!("{kind} with number {device}");
                Err(self.bad("what is no file", "1 to 5, with a number if it is a device", &found))
            }
        }
    }

    /// A file of a segment that is there.
    fn blob(&mut self) -> Result<Blob, BadImage> {
        let (number, inode) = (self.u64()?, self.u32()?);
        let Some(segment) = self.segments.get(&number) else {
            return Err(self.bad("segment", "one that the superblock names", &number.to_string()));
        };
        let id = segment.image.id(inode).filter(|&id| segment.image.inode(id).is_file());
        let Some(id) = id else {
            return Err(self.bad("inode", &format!("a file of segment {number}"), &inode.to_string()));
        };
        Ok(Blob { segment: Arc::clone(segment), id })
    }

    /// Lays `count` runs over a file, which then has `size` bytes.
    fn lay(&mut self, runs: &mut Runs, size: u64, count: u32) -> Result<(), BadImage> {
        if u64::from(count) > (self.rest.len() / RUN_BYTES) as u64 {
            return Err(self.bad("number of runs", "as many as there are", &count.to_string()));
        }
        runs.truncate(size);
        for _ in 0..count {
            let (offset, len) = (self.u64()?, self.u64()?);
            let blob = self.blob()?;
            let at = self.u64()?;
            let within = |at: u64, whole| at.checked_add(len).is_some_and(|end| end <= whole);
            if len == 0 || !within(offset, size) || !within(at, blob.inode().size()) {
                let found = format!("{len} at {offset}, from {at}");
                return Err(self.bad("run", "one within the file and its contents, not empty", &found));
            }
            runs.lay(offset, Run { len, source: Source::Stored(blob, at) });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn journal() -> Vec<u8> {
        let runs = Runs {
            size: 9,
            mtime: Mtime::default(),
            app: Arc::new([1, 2]),
            map: Default::default(),
            sums: None,
        };
        let mut journal = JournalWriter::new();
        journal.directory(b"a", Mtime::default());
        journal.runs(b"a/b", &runs, &[]);
        journal.patch(b"a/b", 4, &runs, &[]);
        journal.link(b"a/c", b"a/b");
        journal.link(b"d", b"a/c");
        journal.special(b"l", Mtime::default(), &Special::symlink(b"a/c").unwrap());
        journal.special(b"n", Mtime::default(), &Special::CharDevice(5));
        let posix = Posix { mode: 0o4711, uid: 1, gid: 2, ctime: Some(Mtime::default()), atime: None };
        journal.posix(b"d", Some(&posix));
        journal.posix(b"l", Some(&Posix { atime: posix.ctime, ctime: None, ..posix }));
        journal.posix(b"n", None);
        journal.removed(b"a/b");
        journal.finish()
    }

    #[test]
    fn what_was_written_is_done() {
        let mut tree = Tree::new();
        replay(&journal(), &HashMap::new(), &mut tree).unwrap();
        assert_eq!((tree.len(), tree.name_count(b"a/c"), tree.name_count(b"d")), (6, 2, 2));
        assert_eq!(tree.posix(b"a/c"), tree.posix(b"d"), "of the file, whichever its name");
        assert_eq!(tree.posix(b"a/c").unwrap().mode, 0o4711);
        assert_eq!(tree.posix(b"l").unwrap().atime, Some(Mtime::default()));
        assert_eq!(tree.posix(b"n"), None);
        assert!(matches!(tree.node(b"n"), Some(Node::Special(_, Special::CharDevice(5)))));
    }

    #[test]
    fn records_that_cannot_be_are_refused_with_their_offset() {
        let refused = |write: &dyn Fn(&mut JournalWriter)| {
            let mut journal = JournalWriter::new();
            write(&mut journal);
            replay(&journal.finish(), &HashMap::new(), &mut Tree::new()).unwrap_err()
        };
        assert_eq!(refused(&|j| j.removed(b"x")).offset, 8);
        assert!(refused(&|j| j.removed(b"")).found.contains("root"));
        assert!(refused(&|j| j.directory(b"a/b", Mtime::default())).found.contains("a/b"));
        assert!(refused(&|j| j.directory(b"../b", Mtime::default())).found.contains("../b"));
        assert!(refused(&|j| j.whole(b"a", 7, InodeId::from_number(1))).what.contains("segment"));
        assert!(refused(&|j| j.link(b"a", b"b")).what.contains("another name"));
        assert!(refused(&|j| j.link(b"a", b"")).found.contains("folder"));
        assert!(refused(&|j| j.posix(b"a", None)).what.contains("mode"));
        let wrong = Posix { mode: 0o10000, uid: 0, gid: 0, ctime: None, atime: None };
        assert!(refused(&|j| j.posix(b"", Some(&wrong))).found.contains("0o10000"));
        for target in [&b""[..], b"a\0b", &[b'x'; 4096]] {
            let link = Special::Symlink(target.into());
            assert!(refused(&|j| j.special(b"l", Mtime::default(), &link)).what.contains("target"));
        }
        let runs =
            Runs { size: 9, mtime: Mtime::default(), app: Arc::new([]), map: Default::default(), sums: None };
        assert!(refused(&|j| j.patch(b"a", 0, &runs, &[])).what.contains("change of a file"));
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_it_ends_without_a_panic(
            at in any::<prop::sample::Index>(), value: u8, cut in any::<prop::sample::Index>(),
            more in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = journal();
            let place = at.index(bytes.len());
            bytes[place] = value;
            bytes.truncate(cut.index(bytes.len()) + 1);
            bytes.extend(more);
            let mut tree = Tree::new();
            let _ = replay(&bytes, &HashMap::new(), &mut tree);
            prop_assert!(tree.len() < 12);
        }
    }
}
