//! What changes a log: in memory, until a commit.

use super::super::commit::{Change, blob_name};
use super::super::error::{ChangeError, LogError};
use super::super::node::{Contents, MAX_FILE_BYTES, Node, Run, Runs, Source};
use super::super::posix::{MODE_BITS, Posix, Special};
use super::super::segment::{Blob, SegmentKind};
use super::super::tree::Gone;
use super::{Log, Receipt};
use crate::format::sums::crc32c;
use crate::fs::InodeId;
use crate::image::build::{BuildError, Content, Mtime};
use crate::path;
use runtime::buffer::Slice;
use std::io::Read;
use std::sync::Arc;

/// A file of at least this many bytes gets a segment of its own while it is read.
const OWN_SEGMENT_BYTES: usize = 8 << 20;

/// A file with so many names gets no more: a change of it is told by each. One that is there, in an image
/// that was packed, may have them.
const MAX_NAMES: usize = 65_000;

/// Room for a segment whose length is not known: behind all others.
const UNKNOWN_BYTES: u64 = 1 << 62;

impl Log {
    /// Puts a file at a path, in place of one that may be there.
    ///
    /// # Errors
    /// If it cannot stand there. If contents had to be written ahead: what the device says.
    pub fn put(
        &mut self,
        path: &[u8],
        mtime: Mtime,
        contents: Contents,
        app: &[u8],
    ) -> Result<Receipt, LogError> {
        let len = contents.len();
        let node = Node::Runs(Arc::new(Runs::of(contents, mtime, app.into())));
        self.put_node(path, node)?;
        self.memory_bytes += len;
        self.write_ahead()?;
        Ok(self.receipt())
    }

    /// Puts what `source` gives at a path; a big file is written while it is read. `app` makes its
    /// application area.
    ///
    /// # Errors
    /// As [`Log::put`], or if the source cannot be read.
    pub fn put_from(
        &mut self,
        path: &[u8],
        mtime: Mtime,
        source: &mut dyn Read,
        app: impl FnOnce(&Content) -> Vec<u8>,
    ) -> Result<Receipt, LogError> {
        self.check_place(path)?;
        let mut first = Vec::new();
        source
            .take(OWN_SEGMENT_BYTES as u64)
            .read_to_end(&mut first)
            .map_err(|error| LogError::Build(BuildError::Source { path: path.into(), error }))?;
        if first.len() < OWN_SEGMENT_BYTES {
            let content = Content { size: first.len() as u64, crc: crc32c(0, &first), mtime };
            let app = app(&content);
            return self.put(path, mtime, Contents::from(first), &app);
        }
        let mut source = first.chain(source);
        if !self.has_room_to_stage() {
            return Err(BuildError::Limit("2046 segments a log: make what was changed durable first").into());
        }
        let (segment, _) = self.stream(SegmentKind::Contents, UNKNOWN_BYTES, |builder| {
            builder.file(blob_name(0).as_bytes(), mtime, &mut source, app)?;
            Ok(())
        })?;
        self.put_node(path, Node::Whole(Blob { segment, id: InodeId::from_number(1) }))?;
        Ok(self.receipt())
    }

    /// Overwrites part of a file; beyond its end it becomes longer, by zeros if need be.
    ///
    /// # Errors
    /// If there is no such file. If contents had to be written ahead: what the device says.
    pub fn write(
        &mut self,
        path: &[u8],
        offset: u64,
        bytes: Slice,
        mtime: Mtime,
    ) -> Result<Receipt, LogError> {
        let len = bytes.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > MAX_FILE_BYTES) {
            return Err(ChangeError::TooLarge.into());
        }
        self.change_file(path, |runs| {
            runs.mtime = mtime;
            if len == 0 {
                return 0;
            }
            runs.lay(offset, Run { len, source: Source::Memory(bytes) })
        })?;
        self.memory_bytes += len;
        self.write_ahead()?;
        Ok(self.receipt())
    }

    /// Appends to a file.
    ///
    /// # Errors
    /// As [`Log::write`].
    pub fn append(&mut self, path: &[u8], bytes: Slice, mtime: Mtime) -> Result<Receipt, LogError> {
        let size = self.tree.node(path).ok_or(ChangeError::NotFound)?.size();
        self.write(path, size, bytes, mtime)
    }

    /// Makes a file that long, by zeros if it was shorter.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn truncate(&mut self, path: &[u8], size: u64, mtime: Mtime) -> Result<Receipt, LogError> {
        if size > MAX_FILE_BYTES {
            return Err(ChangeError::TooLarge.into());
        }
        self.change_file(path, |runs| {
            runs.mtime = mtime;
            runs.truncate(size)
        })?;
        for path in self.all_names(path) {
            if let Some(Change::Patch { kept }) = self.changes.changed.get_mut(&path) {
                *kept = (*kept).min(size);
            }
        }
        Ok(self.receipt())
    }

    /// Makes what is neither file nor directory.
    ///
    /// # Errors
    /// If it cannot stand there, or something does.
    pub fn make_special(&mut self, path: &[u8], mtime: Mtime, special: Special) -> Result<Receipt, LogError> {
        if self.tree.node(path).is_some() {
            return Err(ChangeError::Exists.into());
        }
        self.put_node(path, Node::Special(mtime, special))?;
        Ok(self.receipt())
    }

    /// Says what the system keeps of what is at a path, or that this is as of all others. Contents, time and
    /// application area stay.
    ///
    /// # Errors
    /// If there is nothing there.
    ///
    /// # Panics
    /// If the mode has bits that modes have not.
    pub fn set_posix(&mut self, path: &[u8], posix: Option<Posix>) -> Result<Receipt, LogError> {
        assert!(posix.is_none_or(|posix| posix.mode & !MODE_BITS == 0), "{posix:?}");
        if !self.tree.set_posix(path, posix) {
            return Err(ChangeError::NotFound.into());
        }
        let names = self.all_names(path);
        self.changes.posix.extend(names);
        Ok(self.receipt())
    }

    /// Something of what is at a path was changed: now, by its modification time, whatever was said before.
    fn changes_now(&mut self, path: &[u8]) {
        if let Some(posix) = self.tree.posix(path).copied().filter(|posix| posix.ctime.is_some()) {
            self.tree.set_posix(path, Some(Posix { ctime: None, ..posix }));
            let names = self.all_names(path);
            self.changes.posix.extend(names);
        }
    }

    /// Gives a file or directory another time, and a file another application area.
    ///
    /// # Errors
    /// If there is nothing there.
    pub fn set_attributes(&mut self, path: &[u8], mtime: Mtime, app: &[u8]) -> Result<Receipt, LogError> {
        let node = self.tree.node(path).ok_or(ChangeError::NotFound)?;
        let is_same_time = node.mtime() == mtime;
        let node = match (node, node.to_runs()) {
            (Node::Special(_, special), _) => Node::Special(mtime, special.clone()),
            (_, None) => Node::Directory(mtime),
            (_, Some(runs)) => Node::Runs(Arc::new(Runs { mtime, app: app.into(), ..runs })),
        };
        self.tree.update(path.into(), node)?;
        // An application area is nothing that the system knows of.
        if !is_same_time {
            self.changes_now(path);
        }
        for path in self.all_names(path) {
            self.changes.changed.insert(path, Change::Full);
        }
        Ok(self.receipt())
    }

    /// Gives a file another name, of which it then is no less than of the first (a hard link).
    ///
    /// # Errors
    /// If there is no file at `existing`, or something stands at `path`, or nothing can.
    pub fn link(&mut self, existing: &[u8], path: &[u8]) -> Result<Receipt, LogError> {
        if self.tree.node(path).is_some() {
            return Err(ChangeError::Exists.into());
        }
        if self.tree.name_count(existing) >= MAX_NAMES {
            return Err(ChangeError::TooManyNames.into());
        }
        self.tree.link(existing, path.into())?;
        self.changes.changed.insert(path.into(), Change::Full);
        Ok(self.receipt())
    }

    /// Makes a directory; the one above must be there.
    ///
    /// # Errors
    /// If it cannot stand there, or something does.
    pub fn mkdir(&mut self, path: &[u8], mtime: Mtime) -> Result<Receipt, LogError> {
        if self.tree.node(path).is_some() {
            return Err(ChangeError::Exists.into());
        }
        self.tree.insert(path.into(), Node::Directory(mtime))?;
        self.changes.changed.insert(path.into(), Change::Full);
        Ok(self.receipt())
    }

    /// Makes the directories above `path` that are missing.
    ///
    /// # Errors
    /// If something on the way is a file.
    pub fn make_parents(&mut self, path: &[u8], mtime: Mtime) -> Result<(), LogError> {
        path::check_path(path).map_err(ChangeError::from)?;
        for (i, _) in path.iter().enumerate().filter(|&(_, &byte)| byte == b'/') {
            match self.tree.node(&path[..i]) {
                Some(Node::Directory(_)) => {}
                Some(_) => return Err(ChangeError::NotDirectory.into()),
                None => self.mkdir(&path[..i], mtime).map(|_| ())?,
            }
        }
        Ok(())
    }

    /// Removes a file or an empty directory.
    ///
    /// # Errors
    /// If there is nothing there, or something in it.
    pub fn remove(&mut self, path: &[u8]) -> Result<Receipt, LogError> {
        if !path.is_empty() && self.tree.has_children(path) {
            return Err(ChangeError::NotEmpty.into());
        }
        self.remove_all(path)
    }

    /// Removes whatever is at a path, and everything below it.
    ///
    /// # Errors
    /// If there is nothing there, or it is the root.
    pub fn remove_all(&mut self, path: &[u8]) -> Result<Receipt, LogError> {
        if path.is_empty() {
            return Err(ChangeError::Impossible.into());
        }
        let gone = self.take_out(path);
        if gone.is_empty() {
            return Err(ChangeError::NotFound.into());
        }
        for gone in &gone {
            self.forget(gone.node.as_ref());
        }
        Ok(self.receipt())
    }

    /// Moves a file or directory. A file takes the place of a file, a directory that of an empty one. Between
    /// two names of one file it does nothing.
    ///
    /// # Errors
    /// If there is nothing at `from`, or it cannot stand at `to`.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<Receipt, LogError> {
        if from == to {
            return self.tree.node(from).map(|_| Receipt(self.change)).ok_or(ChangeError::NotFound.into());
        }
        let inside = to.len() > from.len() && to.starts_with(from) && to[from.len()] == b'/';
        if from.is_empty() || to.is_empty() || inside {
            return Err(ChangeError::Impossible.into());
        }
        path::check_path(to).map_err(ChangeError::from)?;
        let node = self.tree.node(from).ok_or(ChangeError::NotFound)?;
        let replaced = match (node.is_directory(), self.tree.node(to)) {
            (_, None) => false,
            (true, Some(Node::Directory(_))) if self.tree.has_children(to) => {
                return Err(ChangeError::NotEmpty.into());
            }
            (true, Some(Node::Directory(_))) => true,
            (true, Some(_)) => return Err(ChangeError::NotDirectory.into()),
            (false, Some(Node::Directory(_))) => return Err(ChangeError::IsDirectory.into()),
            (false, Some(_)) => true,
        };
        if self.tree.several(from).is_some_and(|id| self.tree.several(to) == Some(id)) {
            return Ok(Receipt(self.change));
        }
        // Everything is checked before anything is done.
        match path::split_parent(to).and_then(|(parent, _)| self.tree.node(parent)) {
            Some(Node::Directory(_)) => {}
            Some(_) => return Err(ChangeError::NotDirectory.into()),
            None => return Err(ChangeError::NoParent.into()),
        }
        let moved = |path: &[u8]| [to, &path[from.len()..]].concat();
        for path in self.tree.below(from) {
            path::check_path(&moved(&path)).map_err(ChangeError::from)?;
        }
        if replaced {
            for gone in self.take_out(to) {
                self.forget(gone.node.as_ref());
            }
        }
        self.note_removal(from);
        for path in self.tree.move_all(from, to) {
            self.changes.changed.remove(&[from, &path[to.len()..]].concat()[..]);
            self.changes.changed.insert(path, Change::Full);
        }
        Ok(self.receipt())
    }

    fn receipt(&mut self) -> Receipt {
        self.change += 1;
        Receipt(self.change)
    }

    fn check_place(&self, path: &[u8]) -> Result<(), ChangeError> {
        path::check_path(path)?;
        if path.is_empty() || self.tree.node(path).is_some_and(Node::is_directory) {
            return Err(ChangeError::IsDirectory);
        }
        Ok(())
    }

    fn put_node(&mut self, path: &[u8], node: Node) -> Result<(), LogError> {
        self.check_place(path)?;
        let old = self.tree.insert(path.into(), node)?;
        self.forget(old.as_ref());
        self.changes.changed.insert(path.into(), Change::Full);
        Ok(())
    }

    /// Changes a file in part; `change` gives the bytes of memory that are needed no more.
    fn change_file(&mut self, path: &[u8], change: impl FnOnce(&mut Runs) -> u64) -> Result<(), LogError> {
        let (key, node) = self.tree.get(path).ok_or(ChangeError::NotFound)?;
        let (key, size) = (Arc::clone(key), node.size());
        let no_file = if node.is_directory() { ChangeError::IsDirectory } else { ChangeError::NoContents };
        let mut runs = node.to_runs().ok_or(no_file)?;
        let freed = change(&mut runs);
        // Heads, validators and sums were of other contents.
        (runs.app, runs.sums) = (Arc::new([]), None);
        self.memory_bytes = self.memory_bytes.saturating_sub(freed);
        self.tree.update(Arc::clone(&key), Node::Runs(Arc::new(runs)))?;
        self.changes_now(&key);
        for name in self.all_names(&key) {
            self.changes.changed.entry(name).or_insert(Change::Patch { kept: size });
        }
        Ok(())
    }

    /// All names of the file at `path`.
    fn all_names(&self, path: &[u8]) -> Vec<Arc<[u8]>> {
        match self.tree.several(path) {
            Some(id) => self.tree.names(id).map(Arc::clone).collect(),
            None => vec![path.into()],
        }
    }

    /// Takes a path and all below out of the tree, and says so.
    fn take_out(&mut self, path: &[u8]) -> Vec<Gone> {
        let gone = self.tree.remove(path);
        for gone in &gone {
            self.changes.changed.remove(&gone.path);
        }
        self.note_removal(path);
        gone
    }

    /// Says that a path and all below are gone.
    fn note_removal(&mut self, path: &[u8]) {
        let is_below = |other: &Arc<[u8]>| other.starts_with(path) && other.get(path.len()) == Some(&b'/');
        self.changes.removed.retain(|other| !is_below(other));
        let mut at = path;
        let mut above = self.changes.removed.contains(path);
        while let Some((parent, _)) = path::split_parent(at) {
            above |= self.changes.removed.contains(parent);
            at = parent;
        }
        if !above && self.base().node(path).is_some() {
            self.changes.removed.insert(path.into());
        }
    }
}
