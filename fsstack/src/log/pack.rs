//! Packs a generation into one image, in a segment or elsewhere: laid out as it was when it was packed
//! before, as far as what lay there is there still.

use super::commit::NodeReader;
use super::error::LogError;
use super::generation::Generation;
use super::node::Node;
use super::tree::{SeveralId, Tree};
use crate::device::{Device, DeviceMut};
use crate::format::layout::{BLOCK_BYTES, LARGE_FILE_BYTES};
use crate::fs::{Image, Inode};
use crate::image::build::{Builder, Mtime};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

impl Generation {
    /// Packs the tree: files in the order of `paths`, then as they were packed before, those that were wanted
    /// together still being so, and then by name.
    ///
    /// # Errors
    /// If a file cannot be read, or the builder's device refuses.
    pub fn pack<D: DeviceMut>(&self, paths: &[Vec<u8>], builder: &mut Builder<D>) -> Result<(), LogError> {
        let mut packer = Packer { tree: &self.tree, builder, done: HashSet::new(), several: HashMap::new() };
        for path in paths {
            packer.add(path)?;
        }
        let layout = self.packed_image_of_log().map(|image| packer.before(image)).unwrap_or_default();
        for Relaid { path, ends_group_of } in layout {
            packer.add(path)?;
            ends_group_of.into_iter().for_each(|first| packer.builder.group(first));
        }
        for (path, _) in self.tree.iter() {
            packer.add(path)?;
        }
        Ok(())
    }
}

/// A tree on its way into an image.
struct Packer<'a, D> {
    tree: &'a Tree,
    builder: &'a mut Builder<D>,
    done: HashSet<&'a [u8]>,
    /// Of files with several names, by which they were packed.
    several: HashMap<SeveralId, &'a [u8]>,
}

impl<D: DeviceMut> Packer<'_, D> {
    /// Adds what is at a path, if something is and it is not there yet.
    fn add(&mut self, path: &[u8]) -> Result<(), LogError> {
        let Some((path, node)) = self.tree.get(path) else { return Ok(()) };
        match node {
            Node::Directory(mtime) if path.is_empty() && *mtime == Mtime::default() => {}
            Node::Directory(mtime) => {
                if self.done.insert(path) {
                    self.builder.directory(path, *mtime, &[])?;
                }
            }
            Node::Whole(_) | Node::Runs(_) if self.done.insert(path) => {
                if let Some(id) = self.tree.several(path) {
                    if let Some(first) = self.several.get(&id) {
                        self.builder.link(first, path)?;
                        return Ok(());
                    }
                    self.several.insert(id, path);
                }
                let app = node.app()?.to_vec();
                let mut reader = NodeReader { node, at: 0, error: None };
                let built = self.builder.file(path, node.mtime(), &mut reader, |_| app);
                if let Some(error) = reader.error {
                    return Err(error.into());
                }
                built?;
            }
            // Journals say what these are.
            Node::Special(..) => {}
            Node::Whole(_) | Node::Runs(_) => {}
        }
        Ok(())
    }

    /// The files that were packed before and are there still, whatever they hold now, in the order in which
    /// they lay. Those that were added already lie elsewhere, so they are of no group: what is left of it
    /// begins with its next file.
    fn before<'a>(&self, image: &'a Image) -> Vec<Relaid<'a>> {
        let mut lay: Vec<(u64, Inode<'a>)> = (image.inodes())
            .filter(|inode| inode.first_name().id() == inode.id())
            .filter_map(|inode| Some((inode.extents().first()?.offset, inode)))
            .collect();
        lay.sort_unstable_by_key(|(offset, _)| *offset);
        // Two files that were packed may be one now.
        let mut several = HashSet::new();
        let mut stays = |path: &[u8]| {
            let id = self.tree.several(path);
            let is_first = id.is_none_or(|id| several.insert(id) && !self.several.contains_key(&id));
            is_first && !self.done.contains(path) && self.tree.node(path).is_some_and(Node::is_file)
        };
        let mut placed: Vec<Relaid<'a>> = Vec::with_capacity(lay.len());
        let mut open = OpenGroups::new();
        for (offset, inode) in lay {
            close(&mut placed, &mut open, offset);
            if stays(inode.path()) {
                if inode.group_bytes() > 0 {
                    let end = offset.saturating_add(inode.group_bytes());
                    open.entry(end).or_insert((placed.len(), inode.path()));
                }
                placed.push(Relaid { path: inode.path(), ends_group_of: Vec::new() });
            }
        }
        close(&mut placed, &mut open, u64::MAX);
        placed
    }
}

/// A file in its place.
struct Relaid<'a> {
    path: &'a [u8],
    /// The files that were wanted together with all behind them up to this one.
    ends_group_of: Vec<&'a [u8]>,
}

/// Groups that are not at their ends: by these, the place of the first file, and its path. The others of a
/// group reach to the same end.
type OpenGroups<'a> = BTreeMap<u64, (usize, &'a [u8])>;

/// Ends the groups that reach no farther than `offset` with the file that was placed last, if that is not
/// their first.
fn close<'a>(placed: &mut [Relaid<'a>], open: &mut OpenGroups<'a>, offset: u64) {
    let count = placed.len();
    // Each is looked at once: an image may say that all of its files ask for all behind them.
    while open.first_key_value().is_some_and(|(end, _)| *end <= offset) {
        let Some((_, (place, first))) = open.pop_first() else { break };
        if let Some(last) = placed.last_mut().filter(|_| count > place + 1) {
            last.ends_group_of.push(first);
        }
    }
}

/// No less than a tree has when it is packed.
pub(super) fn packed_bytes(tree: &Tree) -> Result<u64, LogError> {
    let mut bytes = 16 * BLOCK_BYTES;
    for (path, node) in tree.each_once() {
        let contents = node.size() + node.size() / 128 + node.size() / 1024 + node.app()?.len() as u64;
        // An inode, an extent, slots of the index, a page's sum; and what alignment takes.
        let around =
            path.len() as u64 + 256 + if node.size() >= LARGE_FILE_BYTES { BLOCK_BYTES } else { 128 };
        let other_names = tree.several(path).into_iter().flat_map(|id| tree.names(id)).skip(1);
        bytes += contents + around + other_names.map(|path| path.len() as u64 + 256).sum::<u64>();
    }
    Ok(bytes)
}

/// The part of the log's device that a segment is written to.
pub(super) struct Window<'a> {
    device: &'a mut (dyn DeviceMut + Send),
    base: u64,
    /// The segment's first block, which is written last.
    first: Vec<u8>,
}

impl<'a> Window<'a> {
    /// The part from `base` on.
    pub(super) fn new(device: &'a mut (dyn DeviceMut + Send), base: u64) -> Window<'a> {
        Window { device, base, first: Vec::new() }
    }

    /// The segment's first block, once it was written.
    pub(super) fn first_block(&self) -> &[u8] {
        &self.first
    }
}

impl Device for Window<'_> {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.device.len_bytes()?.saturating_sub(self.base))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.device.read_at(self.base + offset, buf)
    }
}

impl DeviceMut for Window<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset == 0 {
            self.first = bytes[..bytes.len().min(BLOCK_BYTES as usize)].to_vec();
        }
        self.device.write_at(self.base + offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.device.sync()
    }
}
