//! Packs a generation into one image, in a segment or elsewhere.

use super::commit::NodeReader;
use super::error::LogError;
use super::generation::Generation;
use super::node::Node;
use super::tree::Tree;
use crate::device::{Device, DeviceMut};
use crate::format::layout::{BLOCK_BYTES, LARGE_FILE_BYTES};
use crate::image::build::{Builder, Mtime};
use std::collections::HashSet;
use std::io;

impl Generation {
    /// Packs the tree: files in the order of `paths`, then by name.
    ///
    /// # Errors
    /// If a file cannot be read, or the builder's device refuses.
    pub fn pack<D: DeviceMut>(&self, paths: &[Vec<u8>], builder: &mut Builder<D>) -> Result<(), LogError> {
        pack(&self.tree, paths, builder)
    }
}

/// Packs a tree: files in the order of `paths`, then by name.
pub(super) fn pack<D: DeviceMut>(
    tree: &Tree,
    paths: &[Vec<u8>],
    builder: &mut Builder<D>,
) -> Result<(), LogError> {
    let mut done: HashSet<&[u8]> = HashSet::new();
    let first = paths.iter().filter_map(|path| tree.get(path));
    for (path, node) in first.chain(tree.iter()) {
        match node {
            Node::Directory(mtime) if path.is_empty() && *mtime == Mtime::default() => {}
            Node::Directory(mtime) => {
                if done.insert(path) {
                    builder.directory(path, *mtime, &[])?;
                }
            }
            Node::Whole(_) | Node::Runs(_) if done.insert(path) => {
                let app = node.app()?.to_vec();
                let mut reader = NodeReader { node, at: 0, error: None };
                let built = builder.file(path, node.mtime(), &mut reader, |_| app);
                if let Some(error) = reader.error {
                    return Err(error.into());
                }
                built?;
            }
            Node::Whole(_) | Node::Runs(_) => {}
        }
    }
    Ok(())
}

/// No less than a tree has when it is packed.
pub(super) fn packed_bytes(tree: &Tree) -> Result<u64, LogError> {
    let mut bytes = 16 * BLOCK_BYTES;
    for (path, node) in tree.iter() {
        let contents = node.size() + node.size() / 128 + node.size() / 1024 + node.app()?.len() as u64;
        // An inode, an extent, slots of the index, a page's sum; and what alignment takes.
        let around =
            path.len() as u64 + 256 + if node.size() >= LARGE_FILE_BYTES { BLOCK_BYTES } else { 128 };
        bytes += contents + around;
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
