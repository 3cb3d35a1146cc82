//! What a commit writes: contents that were in memory only, and a journal of what changed.

use super::error::LogError;
use super::journal::{JournalWriter, StoredRun};
use super::node::{Node, Run, Runs, Source};
use super::segment::{Blob, JOURNAL, Segment};
use super::tree::{SeveralId, Tree};
use crate::device::MemoryDevice;
use crate::fs::{InodeId, ReadError};
use crate::image::build::{BuildError, BuildOptions, Builder, Content, Mtime};
use runtime::buffer::Slice;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, Read};
use std::sync::Arc;

/// Files in more runs than this are copied into one piece.
pub(super) const MAX_RUNS: usize = 1 << 16;

/// What became of a path since the last commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is what it is, whatever it was.
    Full,
    /// Its contents were overwritten here and there, and so many bytes of the old ones were never cut off.
    Patch { kept: u64 },
}

/// What a journal has to say.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    /// Paths of the last generation that are gone, of each subtree its top.
    pub(super) removed: BTreeSet<Arc<[u8]>>,
    pub(super) changed: BTreeMap<Arc<[u8]>, Change>,
    /// Of what modes, owners and the like were changed, or not: said again.
    pub(super) posix: BTreeSet<Arc<[u8]>>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.changed.is_empty() && self.posix.is_empty()
    }

    /// Bytes of contents that the changed files have in memory, each file once, whatever names it has.
    pub(super) fn memory_bytes(&self, tree: &Tree) -> u64 {
        let mut links = HashSet::new();
        let runs = self.changed.keys().filter_map(|path| match tree.node(path) {
            Some(Node::Runs(runs)) => {
                let is_first = tree.several(path).is_none_or(|file| links.insert(file));
                is_first.then(|| runs.memory_bytes())
            }
            _ => None,
        });
        runs.sum()
    }

    /// What of `tree` no packed image has.
    pub(super) fn beside_packed(tree: &Tree) -> Changes {
        let mut changes = Changes::default();
        for (path, node) in tree.iter() {
            if matches!(node, Node::Special(..)) {
                changes.changed.insert(Arc::clone(path), Change::Full);
            }
            if tree.posix(path).is_some() {
                changes.posix.insert(Arc::clone(path));
            }
        }
        changes
    }

    /// All that makes `packed`, or an empty root, into `tree`.
    pub(super) fn between(packed: Option<&Segment>, tree: &Tree) -> Changes {
        let mut changes = Changes::beside_packed(tree);
        let image = packed.map(|segment| &segment.image);
        let mut is_gone = vec![false; image.map_or(1, |image| image.inode_count())];
        for inode in image.iter().flat_map(|image| image.inodes()).skip(1) {
            let stays =
                tree.node(inode.path()).is_some_and(|node| node.is_directory() == inode.is_directory());
            let above = is_gone[inode.parent().id().index()];
            is_gone[inode.id().index()] = above || !stays;
            if !stays && !above {
                changes.removed.insert(inode.path().into());
            }
        }
        for (path, node) in tree.iter() {
            let old = image.and_then(|image| image.lookup(&**path));
            let same = match (node, old) {
                (Node::Directory(mtime), Some(old)) => old.is_directory() && old.mtime() == *mtime,
                (Node::Directory(mtime), None) => path.is_empty() && *mtime == Mtime::default(),
                (Node::Whole(blob), Some(old)) => {
                    packed.is_some_and(|packed| packed.number == blob.segment.number)
                        && blob.id == old.first_name().id()
                }
                (Node::Whole(_), None) | (Node::Runs(_) | Node::Special(..), _) => false,
            };
            if !same {
                changes.changed.insert(Arc::clone(path), Change::Full);
            }
        }
        changes
    }
}

/// A segment in the making, in memory.
pub(super) struct SegmentBuilder {
    builder: Builder<MemoryDevice>,
    number: u64,
    blobs: u32,
    /// What nodes become once the segment is there.
    replaced: Vec<(Arc<[u8]>, Replaced)>,
}

enum Replaced {
    /// A file of the segment.
    Whole(InodeId),
    /// Runs, of which those that were in memory are in a file of the segment.
    Runs(Runs, Vec<(u64, StoredRun)>),
}

impl SegmentBuilder {
    pub(super) fn new(number: u64, generation: u64) -> Result<SegmentBuilder, LogError> {
        let builder = Builder::in_memory(&BuildOptions { generation, ..BuildOptions::default() })?;
        Ok(SegmentBuilder { builder, number, blobs: 0, replaced: Vec::new() })
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.blobs == 0
    }

    /// Takes in the contents of a node that are in memory only, or all of one that lies in segments that are
    /// not `kept`. Gives what the journal refers to.
    pub(super) fn take(
        &mut self,
        path: &Arc<[u8]>,
        node: &Node,
        kept: &HashSet<u64>,
    ) -> Result<Taken, LogError> {
        let whole = match node {
            Node::Directory(_) | Node::Special(..) => return Ok(Taken::AsItIs),
            Node::Whole(blob) if kept.contains(&blob.segment.number) => return Ok(Taken::AsItIs),
            Node::Whole(_) => true,
            Node::Runs(runs) => {
                let goes = |run: &Run| match &run.source {
                    Source::Stored(blob, _) => !kept.contains(&blob.segment.number),
                    Source::Memory(_) => false,
                };
                let memory = runs.memory_bytes();
                if memory == runs.size || runs.map.size() > MAX_RUNS || runs.map.values().any(goes) {
                    true
                } else if memory == 0 {
                    return Ok(Taken::AsItIs);
                } else {
                    false
                }
            }
        };
        if whole {
            let summed = match node {
                Node::Runs(runs) => runs.sums.as_ref().map(|sums| (runs, sums)),
                Node::Directory(_) | Node::Special(..) | Node::Whole(_) => None,
            };
            let id = match summed {
                Some((runs, sums)) => {
                    let parts = runs.map.values().filter_map(|run| Some(memory(&run.source)?.bytes()));
                    self.add(|builder, name| builder.summed_file(name, runs.mtime, parts, sums, &runs.app))?
                }
                None => {
                    let mut contents = NodeReader { node, at: 0, error: None };
                    self.blob(node.mtime(), node.app()?, &mut contents)?
                }
            };
            self.replaced.push((Arc::clone(path), Replaced::Whole(id)));
            return Ok(Taken::Whole(id));
        }
        let Node::Runs(runs) = node else { return Ok(Taken::AsItIs) };
        // All that is new in one file, one piece behind the other.
        let parts: Vec<&Slice> = runs.map.values().filter_map(|run| memory(&run.source)).collect();
        let id = self.blob(runs.mtime, &[], &mut PartsReader { parts: &parts, at: 0 })?;
        let (mut at, mut stored) = (0, Vec::<(u64, StoredRun)>::new());
        for (offset, run) in runs.map.iter().filter(|(_, run)| memory(&run.source).is_some()) {
            match stored.last_mut() {
                Some((start, last)) if *start + last.len == *offset => last.len += run.len,
                _ => stored.push((*offset, StoredRun { len: run.len, segment: self.number, id, at })),
            }
            at += run.len;
        }
        self.replaced.push((Arc::clone(path), Replaced::Runs((**runs).clone(), stored.clone())));
        Ok(Taken::Runs(stored))
    }

    fn blob(&mut self, mtime: Mtime, app: &[u8], source: &mut dyn Read) -> Result<InodeId, LogError> {
        self.add(|builder, name| builder.file(name, mtime, source, |_| app.to_vec()))
    }

    /// Has `add` build the next file.
    fn add(
        &mut self,
        add: impl FnOnce(&mut Builder<MemoryDevice>, &[u8]) -> Result<Content, BuildError>,
    ) -> Result<InodeId, LogError> {
        add(&mut self.builder, blob_name(self.blobs).as_bytes())?;
        self.blobs += 1;
        // Behind the root, in the order of the names; the journal's comes last.
        Ok(InodeId::from_number(self.blobs))
    }

    /// The segment's bytes, and what nodes become.
    pub(super) fn finish(mut self, journal: Option<Vec<u8>>) -> Result<(Vec<u8>, Replacements), LogError> {
        if let Some(journal) = journal {
            self.builder.file(JOURNAL, Mtime::default(), &mut &journal[..], |_| Vec::new())?;
        }
        let (device, _) = self.builder.finish()?;
        Ok((device.into_bytes(), Replacements { replaced: self.replaced }))
    }
}

/// Name of the contents of that number in a segment.
pub(super) fn blob_name(number: u32) -> String {
    format!("{number:08x}")
}

/// What a journal says of a node's contents.
pub(super) enum Taken {
    /// They lie where they lay.
    AsItIs,
    /// They are a file of the new segment.
    Whole(InodeId),
    /// The new ones are runs in the new segment.
    Runs(Vec<(u64, StoredRun)>),
}

/// What nodes become when the segment with their contents is there.
pub(super) struct Replacements {
    replaced: Vec<(Arc<[u8]>, Replaced)>,
}

impl Replacements {
    /// What stands at which path then.
    pub(super) fn nodes(self, segment: &Arc<Segment>) -> Vec<(Arc<[u8]>, Node)> {
        let node = |replaced| match replaced {
            Replaced::Whole(id) => Node::Whole(Blob { segment: Arc::clone(segment), id }),
            Replaced::Runs(mut runs, stored) => {
                for (offset, run) in stored {
                    let blob = Blob { segment: Arc::clone(segment), id: run.id };
                    runs.lay(offset, Run { len: run.len, source: Source::Stored(blob, run.at) });
                }
                Node::Runs(Arc::new(runs))
            }
        };
        self.replaced.into_iter().map(|(path, replaced)| (path, node(replaced))).collect()
    }

    pub(super) fn apply(self, segment: &Arc<Segment>, tree: &mut Tree) -> Result<(), LogError> {
        for (path, node) in self.nodes(segment) {
            tree.update(path, node)?;
        }
        Ok(())
    }
}

/// Says in `journal` what became of a path, and gives whether it said all of it, as of a file that begins
/// anew. `old` are the segments that the last generation has.
fn record(
    journal: &mut JournalWriter,
    (path, node, change): (&[u8], &Node, Change),
    taken: Taken,
    number: u64,
    old: &HashSet<u64>,
) -> bool {
    let runs = match (node, &taken) {
        (_, Taken::Whole(id)) => {
            journal.whole(path, number, *id);
            return true;
        }
        (Node::Directory(mtime), _) => {
            journal.directory(path, *mtime);
            return true;
        }
        (Node::Special(mtime, special), _) => {
            journal.special(path, *mtime, special);
            return true;
        }
        (Node::Whole(blob), _) => {
            journal.whole(path, blob.segment.number, blob.id);
            return true;
        }
        (Node::Runs(runs), _) => runs,
    };
    let mut places: BTreeMap<u64, StoredRun> = match taken {
        Taken::Runs(stored) => stored.into_iter().collect(),
        Taken::AsItIs | Taken::Whole(_) => BTreeMap::new(),
    };
    for (offset, run) in runs.map.iter() {
        if let Source::Stored(Blob { segment, id }, at) = &run.source
            && (change == Change::Full || !old.contains(&segment.number))
        {
            places.insert(*offset, StoredRun { len: run.len, segment: segment.number, id: *id, at: *at });
        }
    }
    let places: Vec<(u64, StoredRun)> = places.into_iter().collect();
    match change {
        Change::Full => journal.runs(path, runs, &places),
        Change::Patch { kept } => journal.patch(path, kept, runs, &places),
    }
    change == Change::Full
}

/// Has a journal say all of `changes`; contents that are in memory only, or lie in segments that are not
/// `kept`, go to `builder`. `old` are the segments that the last generation has.
pub(super) fn tell(
    (tree, changes): (&Tree, &Changes),
    builder: &mut SegmentBuilder,
    kept: &HashSet<u64>,
    old: &HashSet<u64>,
) -> Result<Vec<u8>, LogError> {
    let mut journal = JournalWriter::new();
    changes.removed.iter().for_each(|path| journal.removed(path));
    let mut links = LinkTeller::default();
    // What begins anew has none of it.
    let mut posix: BTreeSet<&Arc<[u8]>> = changes.posix.iter().collect();
    for (path, &change) in &changes.changed {
        let Some(node) = tree.node(path) else { continue };
        if !links.tells(tree, changes, path) {
            continue;
        }
        let taken = builder.take(path, node, kept)?;
        if record(&mut journal, (path, node, change), taken, builder.number, old) {
            links.told_anew(tree, path);
            if tree.posix(path).is_some() {
                posix.insert(path);
            }
        }
    }
    links.finish(&mut journal);
    let mut told = HashSet::new();
    for path in posix.into_iter().filter(|path| tree.node(path).is_some()) {
        if tree.several(path).is_none_or(|id| told.insert(id)) {
            journal.posix(path, tree.posix(path));
        }
    }
    Ok(journal.finish())
}

/// What a journal says of files with several names: the contents by one of these, and then which others it
/// has.
#[derive(Debug, Default)]
pub(super) struct LinkTeller<'a> {
    /// By which name each is told, and what of it.
    by: HashMap<SeveralId, (&'a Arc<[u8]>, Option<Change>)>,
    /// Other names, with the one that they are of.
    links: BTreeMap<&'a Arc<[u8]>, &'a Arc<[u8]>>,
}

impl<'a> LinkTeller<'a> {
    /// Whether the contents of the changed file at `path` are to be told by that name.
    pub(super) fn tells(&mut self, tree: &'a Tree, changes: &Changes, path: &'a Arc<[u8]>) -> bool {
        let Some(id) = tree.several(path) else { return true };
        let (by, change) = *self.by.entry(id).or_insert_with(|| {
            // A name by which it was there and was changed in part; else one by which it is as it was; else
            // any.
            let change_of = |name: &'a Arc<[u8]>| (name, changes.changed.get(name).copied());
            let rank = |&(_, change): &(_, Option<Change>)| match change {
                Some(Change::Patch { .. }) => 0,
                None => 1,
                Some(Change::Full) => 2,
            };
            tree.names(id).map(change_of).min_by_key(rank).unwrap_or((path, Some(Change::Full)))
        });
        if by == path {
            return true;
        }
        if changes.changed.get(path) == Some(&Change::Full) && change != Some(Change::Full) {
            self.links.insert(path, by);
        }
        false
    }

    /// All of a file was told at `path`: its other names are to be told again.
    pub(super) fn told_anew(&mut self, tree: &'a Tree, path: &'a Arc<[u8]>) {
        let Some(id) = tree.several(path) else { return };
        self.links.extend(tree.names(id).filter(|&name| name != path).map(|name| (name, path)));
    }

    /// Tells them.
    pub(super) fn finish(self, journal: &mut JournalWriter) {
        self.links.into_iter().for_each(|(path, existing)| journal.link(path, existing));
    }
}

/// How many bytes of each segment files have.
pub(super) fn live_bytes(tree: &Tree) -> HashMap<u64, u64> {
    let mut live = HashMap::new();
    for (_, node) in tree.each_once() {
        match node {
            Node::Directory(_) | Node::Special(..) => {}
            // An empty file has its segment, too.
            Node::Whole(blob) => *live.entry(blob.segment.number).or_insert(0) += blob.inode().size().max(1),
            Node::Runs(runs) => {
                for run in runs.map.values() {
                    if let Source::Stored(blob, _) = &run.source {
                        *live.entry(blob.segment.number).or_insert(0) += run.len;
                    }
                }
            }
        }
    }
    live
}

fn memory(source: &Source) -> Option<&Slice> {
    match source {
        Source::Memory(slice) => Some(slice),
        Source::Stored(..) => None,
    }
}

/// A node's contents from front to back.
pub(super) struct NodeReader<'a> {
    pub(super) node: &'a Node,
    pub(super) at: u64,
    /// What could not be read.
    pub(super) error: Option<ReadError>,
}

impl Read for NodeReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.node.fetch(self.at, buf.len()).map_err(|error| {
            self.error = Some(error.clone());
            io::Error::other(error)
        })?;
        buf[..bytes.len()].copy_from_slice(bytes.bytes());
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}

/// Pieces of memory one behind the other.
struct PartsReader<'a> {
    parts: &'a [&'a Slice],
    /// Offset in the first of them.
    at: usize,
}

impl Read for PartsReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some((first, later)) = self.parts.split_first() {
            let rest = &first.bytes()[self.at..];
            if rest.is_empty() {
                (self.parts, self.at) = (later, 0);
                continue;
            }
            let len = rest.len().min(buf.len());
            buf[..len].copy_from_slice(&rest[..len]);
            self.at += len;
            return Ok(len);
        }
        Ok(0)
    }
}
