//! Contents that a commit has moved, from memory or from segments that are to go: where they are now in a
//! tree that was changed while the commit was on its way.

use super::node::{Node, Run, Runs, Source};
use super::segment::Blob;
use super::tree::Tree;
use runtime::buffer::Slice;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Where contents lie now, by where they lay.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Files that are what they were: what they are now.
    files: HashMap<FileKey, Node>,
    /// By address. Whoever has this has what stood there, too, so nothing else does.
    memory: BTreeMap<usize, Piece>,
    /// By segment, number of the file, and offset in it.
    stored: BTreeMap<(u64, usize, u64), Piece>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FileKey {
    Whole(u64, usize),
    /// By the address of its runs.
    Runs(usize),
}

#[derive(Clone, Debug)]
struct Piece {
    len: u64,
    blob: Blob,
    at: u64,
}

fn key(node: &Node) -> Option<FileKey> {
    match node {
        Node::Directory(_) | Node::Special(..) => None,
        Node::Whole(blob) => Some(FileKey::Whole(blob.segment.number, blob.id.index())),
        Node::Runs(runs) => Some(FileKey::Runs(Arc::as_ptr(runs).addr())),
    }
}

fn address(slice: &Slice) -> usize {
    slice.bytes().as_ptr().addr()
}

impl Moved {
    /// Notes that `old` became `new`. `old` must be kept as long as this is.
    pub(super) fn note(&mut self, old: &Node, new: &Node) {
        if let Some(key) = key(old) {
            self.files.insert(key, new.clone());
        }
        let whole;
        let runs = match old {
            Node::Directory(_) | Node::Special(..) => return,
            Node::Runs(runs) => &**runs,
            Node::Whole(_) => match old.to_runs() {
                Some(runs) => {
                    whole = runs;
                    &whole
                }
                None => return,
            },
        };
        for (&offset, run) in runs.map.iter() {
            let Some((blob, at)) = place_of(new, offset, run.len) else { continue };
            let piece = Piece { len: run.len, blob, at };
            match &run.source {
                Source::Memory(slice) => longest(&mut self.memory, address(slice), piece),
                Source::Stored(blob, at) if blob.segment.number != piece.blob.segment.number => {
                    longest(&mut self.stored, (blob.segment.number, blob.id.index(), *at), piece);
                }
                Source::Stored(..) => {}
            }
        }
    }

    /// What a file of the changed tree is now; `None` if nothing of it was moved.
    fn now(&self, node: &Node) -> Option<Node> {
        if let Some(now) = key(node).and_then(|key| self.files.get(&key)) {
            return Some(now.clone());
        }
        let Node::Runs(runs) = node else { return None };
        let mut now: Option<Runs> = None;
        for (&offset, run) in runs.map.iter() {
            let mut done = 0;
            while done < run.len {
                let Some((len, piece)) = self.piece(run, done) else { break };
                now.get_or_insert_with(|| (**runs).clone()).lay(offset + done, Run { len, source: piece });
                done += len;
            }
        }
        now.map(|runs| Node::Runs(Arc::new(runs)))
    }

    /// Where the bytes of a run from `skip` on lie now, and how many of them lie there together.
    fn piece(&self, run: &Run, skip: u64) -> Option<(u64, Source)> {
        let (into, piece) = match &run.source {
            Source::Memory(slice) => {
                let address = address(slice) + usize::try_from(skip).ok()?;
                let (start, piece) = self.memory.range(..=address).next_back()?;
                ((address - start) as u64, piece)
            }
            Source::Stored(blob, at) => {
                let (number, id, at) = (blob.segment.number, blob.id.index(), at + skip);
                let (start, piece) = self.stored.range((number, id, 0)..=(number, id, at)).next_back()?;
                (at - start.2, piece)
            }
        };
        let len = piece.len.checked_sub(into).filter(|&len| len > 0)?.min(run.len - skip);
        Some((len, Source::Stored(piece.blob.clone(), piece.at + into)))
    }

    /// Has the files at `paths` of a tree lie where they are now. Names of a file that may be there by some
    /// of them only are all to be among them.
    pub(super) fn apply<'a>(&self, paths: impl IntoIterator<Item = &'a Arc<[u8]>>, tree: &mut Tree) {
        let mut done = HashSet::new();
        for path in paths {
            if tree.several(path).is_some_and(|id| !done.insert(id)) {
                continue;
            }
            if let Some(now) = tree.node(path).and_then(|node| self.now(node)) {
                // A file in the place of a file, as it was.
                let _ = tree.update(Arc::clone(path), now);
            }
        }
    }
}

/// Of pieces that begin at one place the longest counts: they are of the same bytes.
fn longest<K: Ord>(pieces: &mut BTreeMap<K, Piece>, at: K, piece: Piece) {
    let is_longer = pieces.get(&at).is_none_or(|known| known.len < piece.len);
    if is_longer {
        pieces.insert(at, piece);
    }
}

/// Where `len` bytes of a file lie, if they lie together in a segment.
fn place_of(node: &Node, offset: u64, len: u64) -> Option<(Blob, u64)> {
    match node {
        Node::Directory(_) | Node::Special(..) => None,
        Node::Whole(blob) => Some((blob.clone(), offset)),
        Node::Runs(runs) => {
            let (start, run) = runs.map.range(..=offset).next_back()?;
            let skip = offset - start;
            match &run.source {
                Source::Stored(blob, at) if run.len >= skip.checked_add(len)? => {
                    Some((blob.clone(), at + skip))
                }
                Source::Stored(..) | Source::Memory(_) => None,
            }
        }
    }
}
