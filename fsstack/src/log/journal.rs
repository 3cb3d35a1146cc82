//! What a commit changed, as records (`docs/log-format.md`, journal).

use super::node::{MAX_FILE_BYTES, Node, Run, Runs, Source};
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
            other => return Err(reader.bad("kind of a record", "1 to 6", &other.to_string())),
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
        journal.removed(b"a/b");
        journal.finish()
    }

    #[test]
    fn what_was_written_is_done() {
        let mut tree = Tree::new();
        replay(&journal(), &HashMap::new(), &mut tree).unwrap();
        assert_eq!((tree.len(), tree.name_count(b"a/c"), tree.name_count(b"d")), (4, 2, 2));
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
