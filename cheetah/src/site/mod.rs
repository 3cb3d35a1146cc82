//! A site: an image whose files carry ready-made response heads, and the look-up from path to file.
//!
//! The image is checked when the site is opened, so nothing here can fail afterwards. A file without a usable
//! application area (an image built by another program) gets its heads made at opening time.

pub mod entry;
pub mod headers;
pub mod pack;

use std::fmt;
use std::ops::Range;
use std::path::Path;

use fsstack::{Image, InodeId, OpenError, OpenOptions};
use runtime::payload::Piece;

use crate::http::conditional::Validators;
use crate::http::response::Status;
use entry::Entry;

/// The file that stands for its directory.
pub const INDEX_NAME: &[u8] = b"index.html";

/// A file of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId(InodeId);

impl Default for FileId {
    /// The root directory's number, which no file bears.
    fn default() -> FileId {
        FileId(InodeId::ROOT)
    }
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A file: by its own path, or its directory's with a slash.
    File(FileId),
    /// A directory named without its slash.
    Directory,
    /// Nothing to send.
    Nothing,
}

/// Why an image cannot be served.
#[derive(Debug)]
pub enum SiteError {
    /// It cannot be opened.
    Open(OpenError),
    /// A checksum inside it is wrong.
    Read(fsstack::ReadError),
}

impl fmt::Display for SiteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SiteError::Open(error) => error.fmt(f),
            SiteError::Read(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SiteError {}

/// An open site. Shared between threads by `Arc`.
#[derive(Debug)]
pub struct Site {
    image: Image,
    /// By inode number.
    entries: Box<[Entry]>,
}

impl Site {
    /// Opens the image file at `path`.
    ///
    /// # Errors
    /// If it cannot be read or is not sound.
    pub fn open(path: &Path) -> Result<Site, SiteError> {
        Site::new(Image::open(path, &OpenOptions::default()).map_err(SiteError::Open)?)
    }

    /// Opens an image in memory.
    ///
    /// # Errors
    /// If it is not sound.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Site, SiteError> {
        Site::new(Image::from_bytes(bytes, &OpenOptions::default()).map_err(SiteError::Open)?)
    }

    /// Prepares `image` for serving: reads every application area once.
    ///
    /// # Errors
    /// If one of them does not have its checksum.
    pub fn new(image: Image) -> Result<Site, SiteError> {
        let entries = image.inodes().map(Entry::new).collect::<Result<_, _>>().map_err(SiteError::Read)?;
        Ok(Site { image, entries })
    }

    /// The image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Finds a canonical path, as [`crate::http::target::resolve`] gives it: one probe of the image's path index.
    pub fn find(&self, path: &[u8]) -> Found {
        let Some(inode) = self.image.lookup(path) else { return Found::Nothing };
        if inode.is_file() {
            return Found::File(FileId(inode.id()));
        }
        match self.entries[inode.id().index()].index {
            Some(index) if path.ends_with(b"/") => Found::File(FileId(index)),
            Some(_) => Found::Directory,
            None => Found::Nothing,
        }
    }

    /// Every file that can be asked for, with its path (a leading slash, not escaped).
    pub fn files(&self) -> impl Iterator<Item = (FileId, Vec<u8>)> + '_ {
        self.image
            .inodes()
            .filter(|inode| inode.is_file())
            .map(|inode| (FileId(inode.id()), [b"/", inode.path()].concat()))
    }

    /// Length of a file in bytes.
    pub fn len(&self, file: FileId) -> u64 {
        self.image.inode(file.0).size()
    }

    /// Whether there is nothing at all in it.
    pub fn is_empty(&self) -> bool {
        !self.image.inodes().any(|inode| inode.is_file())
    }

    /// Entity tag and modification time.
    pub fn validators(&self, file: FileId) -> Validators<'_> {
        let (entry, area) = self.entry(file);
        Validators { etag: &area[entry.area.etag.clone()], last_modified: entry.area.last_modified }
    }

    /// The media type, as it stands in `Content-Type`.
    pub fn content_type(&self, file: FileId) -> &[u8] {
        let (entry, area) = self.entry(file);
        &area[entry.area.content_type.clone()]
    }

    /// The ready-made head of a 200 for this file, up to where `Date` goes.
    pub fn ready_head(&self, file: FileId) -> &[u8] {
        let (entry, area) = self.entry(file);
        &area[entry.area.whole.clone()]
    }

    /// The ready-made head of a 304 for this file, up to where `Date` goes.
    pub fn ready_not_modified_head(&self, file: FileId) -> &[u8] {
        let (entry, area) = self.entry(file);
        &area[entry.area.not_modified.clone()]
    }

    /// Writes what [`Site::ready_head`] or [`Site::ready_not_modified_head`] would give, formatting it anew.
    pub fn write_head(&self, status: Status, file: FileId, out: &mut Vec<u8>) {
        let facts = headers::Facts {
            content_type: self.content_type(file),
            size: self.len(file),
            validators: self.validators(file),
        };
        headers::write(status, &facts, out);
    }

    /// Writes the fields `ETag`, `Last-Modified` and `Accept-Ranges`.
    pub fn write_validators(&self, file: FileId, out: &mut Vec<u8>) {
        headers::write_validators(&self.validators(file), out);
        headers::write_accept_ranges(out);
    }

    /// Visits the bytes `range` of a file, as they lie in the image, until `visit` says no.
    pub fn for_each_piece<'a>(
        &'a self,
        file: FileId,
        range: Range<u64>,
        mut visit: impl FnMut(Piece<'a>) -> bool,
    ) {
        let inode = self.image.inode(file.0);
        let mut at = range.start;
        while at < range.end {
            let len = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            // A file never turns into a directory, and `range` lies within it, so there always is something.
            // Sums have been checked with the application area when the site was opened.
            let Ok(Some(piece)) = inode.piece(at, len) else { return };
            at += piece.bytes.len() as u64;
            if !visit(piece) {
                return;
            }
        }
    }

    fn entry(&self, file: FileId) -> (&Entry, &[u8]) {
        let entry = &self.entries[file.0.index()];
        let area = match &entry.made {
            Some(made) => made,
            // Checked when the site was opened, and checked areas are not checked again.
            None => self.image.inode(file.0).app().unwrap_or_default(),
        };
        (entry, area)
    }
}
