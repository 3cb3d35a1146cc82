//! A site whose image was changed since it was packed: a generation of a log. Most of its files lie whole in
//! one segment, with heads, validators and sums as packed ones have; one that was overwritten in part lies in
//! runs, and gets its heads when the site is opened.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use fsstack::cache::{BlockPart, BlockReader};
use fsstack::log::{self, Generation, OpenFile};
use fsstack::path::split_parent;
use fsstack::{OpenOptions, ReadError};
use runtime::buffer::Shared;
use runtime::payload::Piece;
use rustc_hash::FxHashMap;

use super::SiteError;
use super::entry::{PackedFile, area_of, made_area};
use crate::http::headers::{Area, Facts};
use crate::http::response::Status;
use crate::store::{Document, Found, INDEX_NAME, Listed, MAX_LISTED, Store};

/// Paths of what folders hold, by the folders' own.
type InFolders = FxHashMap<Box<[u8]>, Vec<Box<[u8]>>>;

/// One generation of a log, open for serving: what is written afterwards is in the next one that is opened.
#[derive(Debug)]
pub struct ChangedSite {
    /// By whole path, without a slash at the ends.
    entries: FxHashMap<Box<[u8]>, Entry>,
    is_resident: bool,
    /// The paths of what each folder holds: made when a folder is listed, and anew after a change.
    in_folders: OnceLock<InFolders>,
}

#[derive(Debug)]
enum Entry {
    /// A directory, with its index file.
    Directory(Option<Arc<dyn Document>>),
    File(Arc<dyn Document>),
}

/// A file in runs.
#[derive(Debug)]
struct FileInRuns {
    file: OpenFile,
    area: Area,
    area_bytes: Shared,
}

impl ChangedSite {
    /// Opens the newest generation of the log at `path`, and keeps its segments from being used again.
    ///
    /// # Errors
    /// If it cannot be read or is not sound.
    pub fn open_with(path: &Path, options: &OpenOptions) -> Result<ChangedSite, SiteError> {
        ChangedSite::new(&Generation::open(path, options).map_err(SiteError::Open)?)
    }

    /// Prepares a generation for serving: reads every application area once.
    ///
    /// # Errors
    /// If one of them does not have its checksum.
    pub fn new(generation: &Generation) -> Result<ChangedSite, SiteError> {
        ChangedSite::of(generation).map_err(SiteError::Read)
    }

    pub(super) fn of(generation: &Generation) -> Result<ChangedSite, ReadError> {
        let mut entries = FxHashMap::default();
        // A directory comes before what is in it, so its index file is given to it afterwards. Symbolic
        // links, pipes and devices are for who mounts the image: as in a folder, no link is followed.
        for found in generation.entries().filter(|found| found.special().is_none()) {
            let entry = match document(found)? {
                None => Entry::Directory(None),
                Some(document) => {
                    if found.name() == INDEX_NAME {
                        let above = found.path().len() - INDEX_NAME.len();
                        let directory = &found.path()[..above.saturating_sub(1)];
                        entries.insert(directory.into(), Entry::Directory(Some(Arc::clone(&document))));
                    }
                    Entry::File(document)
                }
            };
            entries.insert(found.path().into(), entry);
        }
        Ok(ChangedSite { entries, is_resident: generation.is_resident(), in_folders: OnceLock::new() })
    }

    /// Shows a file at `path`, a folder (`Some(None)`), or that nothing is there any more.
    pub(super) fn set(&mut self, path: &[u8], found: Option<Option<Arc<dyn Document>>>) {
        self.in_folders = OnceLock::new();
        let (parent, name) = split_parent(path).unwrap_or_default();
        let index = match &found {
            Some(Some(document)) => Some(Arc::clone(document)),
            Some(None) | None => None,
        };
        match found {
            None => {
                self.entries.remove(path);
            }
            Some(None) => {
                self.entries.entry(path.into()).or_insert(Entry::Directory(None));
            }
            Some(Some(document)) => {
                self.make_directories(parent);
                self.entries.insert(path.into(), Entry::File(document));
            }
        }
        if name == INDEX_NAME
            && let Some(Entry::Directory(current)) = self.entries.get_mut(parent)
        {
            *current = index;
        }
    }

    /// Shows the folder at `path`, and those above it.
    fn make_directories(&mut self, mut path: &[u8]) {
        while !self.entries.contains_key(path) {
            self.entries.insert(path.into(), Entry::Directory(None));
            path = split_parent(path).unwrap_or_default().0;
        }
    }

    fn names(&self) -> &InFolders {
        self.in_folders.get_or_init(|| {
            let mut folders = InFolders::default();
            for path in self.entries.keys().filter(|path| !path.is_empty()) {
                let parent = split_parent(path).unwrap_or_default().0;
                folders.entry(parent.into()).or_default().push(path.clone());
            }
            folders
        })
    }

    /// Whether all contents are in memory.
    pub fn is_resident(&self) -> bool {
        self.is_resident
    }
}

/// What is served of a file; `None` for a directory.
pub(super) fn document(entry: log::Entry<'_>) -> Result<Option<Arc<dyn Document>>, ReadError> {
    if let Some((image, inode)) = entry.packed() {
        return Ok(Some(Arc::new(PackedFile::new(image, inode)?)));
    }
    let Some(file) = entry.to_file() else { return Ok(None) };
    if let Some((area, made)) = area_of(entry.app()?, entry.size()) {
        let area_bytes = match made {
            Some(made) => made,
            None => Shared::from(entry.app()?.to_vec()),
        };
        return Ok(Some(Arc::new(FileInRuns { file, area, area_bytes })));
    }
    let last_modified = u64::try_from(entry.mtime().seconds).unwrap_or(0);
    // Which bytes of which segments it is made of is what tells it from what it was.
    let etag = format!("\"{:016x}-{:x}-{last_modified:x}\"", file.version(), entry.size());
    let (area, area_bytes) = made_area(entry.name(), entry.size(), &etag, last_modified);
    Ok(Some(Arc::new(FileInRuns { file, area, area_bytes })))
}

impl Store for ChangedSite {
    fn list(&self, path: &[u8]) -> io::Result<Option<Vec<Listed>>> {
        let plain = path.strip_prefix(b"/").unwrap_or(path);
        let plain = plain.strip_suffix(b"/").unwrap_or(plain);
        if !matches!(self.entries.get(plain), Some(Entry::Directory(_))) {
            return Ok(None);
        }
        let names = self.names().get(plain).map_or(&[][..], Vec::as_slice);
        let listed = |path: &[u8]| {
            let name = split_parent(path).map_or(path, |(_, name)| name).to_vec();
            match self.entries.get(path)? {
                Entry::Directory(_) => Some(Listed { name, is_directory: true, size: 0, modified: 0 }),
                Entry::File(file) => {
                    let Facts { size, validators, .. } = file.facts();
                    Some(Listed { name, is_directory: false, size, modified: validators.last_modified })
                }
            }
        };
        Ok(Some(names.iter().filter_map(|path| listed(path)).take(MAX_LISTED + 1).collect()))
    }

    fn look_up(&self, path: &[u8], _reader: &BlockReader) -> Found {
        let plain = path.strip_prefix(b"/").unwrap_or(path);
        let plain = plain.strip_suffix(b"/").unwrap_or(plain);
        match self.entries.get(plain) {
            Some(Entry::File(file)) if !path.ends_with(b"/") => Found::File(Arc::clone(file)),
            Some(Entry::Directory(Some(index))) if path.ends_with(b"/") => Found::File(Arc::clone(index)),
            Some(Entry::Directory(Some(_))) => Found::Directory,
            Some(Entry::Directory(None) | Entry::File(_)) | None => Found::Nothing,
        }
    }
}

impl FileInRuns {
    fn of_area(&self, range: Range<usize>) -> Piece<'_> {
        let bytes = self.area_bytes.get(range).unwrap_or_default();
        Piece { hold: Some(&self.area_bytes), ..Piece::new(bytes) }
    }
}

impl Document for FileInRuns {
    fn facts(&self) -> Facts<'_> {
        self.area.facts(self.file.size(), |range| self.of_area(range).bytes)
    }

    fn ready_head(&self, status: Status) -> Option<Piece<'_>> {
        self.area.head(status).map(|range| self.of_area(range))
    }

    fn ready_block(&self, status: Status) -> Option<Piece<'_>> {
        self.area.block(status).map(|range| self.of_area(range))
    }

    /// Its runs may be, but no sums go with them.
    fn is_resident(&self) -> bool {
        false
    }

    fn resident(&self, _offset: u64, _len: usize) -> Option<Piece<'_>> {
        None
    }

    fn read(&self, offset: u64, reader: &BlockReader) -> io::Result<BlockPart> {
        self.file.fetch_by(offset, usize::MAX, reader).map_err(super::entry::io_error)
    }
}
