//! A site: an image whose files carry ready-made response heads, and the look-up from path to file.
//!
//! The image is checked when the site is opened, so no look-up can fail afterwards, nor a read of an image in
//! memory. A file without a usable application area (an image built by another program) gets its heads made
//! at opening time.

pub mod change;
mod changed;
mod compress;
mod entry;
pub mod layout;
mod lazy;
pub mod pack;
pub mod tags;
pub mod writable;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use fsstack::cache::BlockReader;
use fsstack::{Image, Inode, InodeId, OpenError, OpenOptions};

pub use changed::ChangedSite;
pub use entry::PackedFile;
pub use lazy::LazySite;

use crate::store::{Document, Found, Listed, MAX_LISTED, Store};
use entry::Entry;

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
    image: Arc<Image>,
    /// By inode number.
    entries: Box<[Entry]>,
}

impl Site {
    /// Opens the image file at `path`: in memory if it is small, else by blocks. An image that is cut while
    /// it is served is an error of the responses that lack its bytes, never a SIGBUS.
    ///
    /// # Errors
    /// If it cannot be read or is not sound.
    pub fn open(path: &Path) -> Result<Site, SiteError> {
        Site::open_with(path, &OpenOptions::default())
    }

    /// As [`Site::open`], with a choice of how contents are read, and where blocks are kept.
    ///
    /// # Errors
    /// If it cannot be read or is not sound.
    pub fn open_with(path: &Path, options: &OpenOptions) -> Result<Site, SiteError> {
        Site::new(Image::open(path, options).map_err(SiteError::Open)?)
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
        let image = Arc::new(image);
        let entries = image
            .inodes()
            .map(|inode| Entry::new(&image, inode))
            .collect::<Result<_, _>>()
            .map_err(SiteError::Read)?;
        Ok(Site { image, entries })
    }

    /// The image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Every file that can be asked for, with its path (a leading slash, not escaped).
    pub fn files(&self) -> impl Iterator<Item = (Arc<dyn Document>, Vec<u8>)> + '_ {
        self.image.inodes().filter_map(|inode| Some((self.file(inode.id())?, [b"/", inode.path()].concat())))
    }

    fn file(&self, id: InodeId) -> Option<Arc<dyn Document>> {
        match &self.entries[id.index()] {
            Entry::File(file) => Some(file.clone()),
            Entry::Directory(_) => None,
        }
    }
}

impl Store for Site {
    fn list(&self, path: &[u8]) -> io::Result<Option<Vec<Listed>>> {
        let Some(folder) = self.image.lookup(path).filter(|inode| inode.is_directory()) else {
            return Ok(None);
        };
        let listed = |inode: Inode<'_>| Listed {
            name: inode.name().to_vec(),
            is_directory: inode.is_directory(),
            size: inode.size(),
            modified: u64::try_from(inode.mtime().seconds).unwrap_or(0),
        };
        Ok(Some(folder.children().take(MAX_LISTED + 1).map(listed).collect()))
    }

    /// One probe of the image's path index.
    fn look_up(&self, path: &[u8], _reader: &BlockReader) -> Found {
        let Some(inode) = self.image.lookup(path) else { return Found::Nothing };
        match &self.entries[inode.id().index()] {
            Entry::File(file) => Found::File(file.clone()),
            Entry::Directory(Some(index)) if path.ends_with(b"/") => {
                self.file(*index).map_or(Found::Nothing, Found::File)
            }
            Entry::Directory(Some(_)) => Found::Directory,
            Entry::Directory(None) => Found::Nothing,
        }
    }
}
