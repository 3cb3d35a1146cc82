//! A big packed site: opened without reading what it holds. A file is looked up when it is asked for, and
//! what was made of it is kept for the next who asks.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use fsstack::cache::{BlockPart, BlockReader};
use fsstack::fs::{LazyChild, LazyEntry, LazyFile, LazyImage};
use fsstack::{OpenOptions, ReadError};
use runtime::buffer::Shared;
use runtime::payload::{Piece, StoredSums};
use rustc_hash::FxHashMap;

use super::SiteError;
use super::entry::{area_of, etag_without_hash, io_error, made_area};
use crate::http::headers::{Area, Facts};
use crate::http::response::Status;
use crate::store::{self, Document, Found, INDEX_NAME, Listed, MAX_LISTED, Store};

/// Smaller images are better in memory whole.
const MIN_BYTES: u64 = 64 << 20;

/// Memory for documents that were asked for lately.
const RECENT_BYTES: usize = 32 << 20;

/// A site of which little is in memory. Shared between threads by `Arc`.
#[derive(Debug)]
pub struct LazySite {
    image: Arc<LazyImage>,
    recent: RwLock<Recent>,
}

/// What paths led to lately: at least the last so many bytes of it, at most twice that.
#[derive(Debug, Default)]
struct Recent {
    young: FxHashMap<Box<[u8]>, Known>,
    young_bytes: usize,
    old: FxHashMap<Box<[u8]>, Known>,
}

#[derive(Clone, Debug)]
enum Known {
    File(Arc<LazyDocument>),
    /// A directory with an index file.
    Directory,
}

/// A file of it.
#[derive(Debug)]
struct LazyDocument {
    file: LazyFile,
    area: Area,
    /// The area itself, if the image has it without heads, or none that is usable.
    made: Option<Shared>,
}

impl LazySite {
    /// Opens the image at `path`, if it is big enough to be better off so, and was made by a version that can
    /// be.
    ///
    /// # Errors
    /// If it cannot be read, or its superblock is not sound. What else is not shows when it is used.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Option<LazySite>, SiteError> {
        if std::fs::metadata(path).is_ok_and(|meta| meta.len() < MIN_BYTES) {
            return Ok(None);
        }
        LazySite::open_any(path, options)
    }

    /// As [`LazySite::open`], however small it is.
    ///
    /// # Errors
    /// As [`LazySite::open`].
    pub fn open_any(path: &Path, options: &OpenOptions) -> Result<Option<LazySite>, SiteError> {
        let image = LazyImage::open(path, options).map_err(SiteError::Open)?;
        Ok(image.map(|image| LazySite { image: Arc::new(image), recent: RwLock::default() }))
    }

    /// Whether the image says what is wanted together.
    pub fn has_groups(&self) -> bool {
        self.image.superblock().has_groups()
    }

    /// Finds out what a path without its leading slash leads to.
    fn look(&self, path: &[u8], reader: &BlockReader) -> Result<Option<Known>, ReadError> {
        let index_of = |directory: &[u8]| [directory, INDEX_NAME].concat();
        if path.is_empty() || path.ends_with(b"/") {
            return self.file(&index_of(path), reader);
        }
        match self.image.look_up(path, reader)? {
            None => Ok(None),
            Some(LazyEntry::File(file)) => Ok(Some(Known::of(path, file))),
            Some(LazyEntry::Directory(_)) => {
                let index = self.file(&index_of(&[path, b"/"].concat()), reader)?;
                Ok(index.map(|_| Known::Directory))
            }
        }
    }

    fn file(&self, path: &[u8], reader: &BlockReader) -> Result<Option<Known>, ReadError> {
        Ok(match self.image.look_up(path, reader)? {
            Some(LazyEntry::File(file)) => Some(Known::of(path, file)),
            Some(LazyEntry::Directory(_)) | None => None,
        })
    }
}

impl Store for LazySite {
    fn list(&self, path: &[u8]) -> io::Result<Option<Vec<Listed>>> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let Some(LazyEntry::Directory(folder)) = self.image.find(path).map_err(io_error)? else {
            return Ok(None);
        };
        let listed = |child: LazyChild| Listed {
            name: child.name,
            is_directory: child.is_directory,
            size: child.size,
            modified: u64::try_from(child.mtime.seconds).unwrap_or(0),
        };
        let children = folder.children(MAX_LISTED + 1).map_err(io_error)?;
        Ok(Some(children.into_iter().map(listed).collect()))
    }

    /// Of what was asked for lately, one look-up in memory.
    fn look_up(&self, path: &[u8], reader: &BlockReader) -> Found {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let found = recent.young.get(path).cloned();
        let was_old = if found.is_none() { recent.old.get(path).cloned() } else { None };
        drop(recent);
        if let Some(known) = found {
            return known.found();
        }
        let known = match was_old {
            Some(known) => known,
            None => match self.look(path, reader) {
                Ok(Some(known)) => known,
                Ok(None) => return Found::Nothing,
                Err(ReadError::Device(io::ErrorKind::WouldBlock)) if reader.is_blocked() => {
                    return Found::Later;
                }
                Err(error) => {
                    tracing::error!("`{}` cannot be looked up: {error}", String::from_utf8_lossy(path));
                    return Found::Failed(store::status_of(&io_error(error)));
                }
            },
        };
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        recent.remember(path, known.clone());
        known.found()
    }
}

impl Recent {
    fn remember(&mut self, path: &[u8], known: Known) {
        let bytes = path.len() + known.held_bytes();
        if self.young_bytes + bytes > RECENT_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(path.into(), known).is_none() {
            self.young_bytes += bytes;
        }
    }
}

impl Known {
    fn of(path: &[u8], file: LazyFile) -> Known {
        Known::File(Arc::new(LazyDocument::of(path, file)))
    }

    fn found(self) -> Found {
        match self {
            Known::File(document) => Found::File(document),
            Known::Directory => Found::Directory,
        }
    }

    fn held_bytes(&self) -> usize {
        /// Of the table and of what is allocated.
        const OVERHEAD: usize = 128;
        match self {
            Known::Directory => OVERHEAD,
            Known::File(document) => {
                let made = document.made.as_ref().map_or(0, |made| made.len());
                OVERHEAD + size_of::<LazyDocument>() + document.file.held_bytes() + made
            }
        }
    }
}

impl LazyDocument {
    fn of(path: &[u8], file: LazyFile) -> LazyDocument {
        if let Some((area, made)) = area_of(file.app(), file.size()) {
            return LazyDocument { file, area, made };
        }
        let last_modified = u64::try_from(file.mtime().seconds).unwrap_or(0);
        let etag = etag_without_hash(file.content_crc(), file.size(), last_modified);
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let (area, made) = made_area(name, file.size(), &etag, last_modified);
        LazyDocument { file, area, made: Some(made) }
    }

    fn of_area(&self, range: Range<usize>) -> Piece<'_> {
        match &self.made {
            Some(made) => Piece { hold: Some(made), ..Piece::new(made.get(range).unwrap_or_default()) },
            None => self.file.app_piece(range),
        }
    }
}

impl Document for LazyDocument {
    fn facts(&self) -> Facts<'_> {
        self.area.facts(self.file.size(), |range| self.of_area(range).bytes)
    }

    fn ready_head(&self, status: Status) -> Option<Piece<'_>> {
        self.area.head(status).map(|range| self.of_area(range))
    }

    fn ready_block(&self, status: Status) -> Option<Piece<'_>> {
        self.area.block(status).map(|range| self.of_area(range))
    }

    fn is_resident(&self) -> bool {
        false
    }

    fn resident(&self, _offset: u64, _len: usize) -> Option<Piece<'_>> {
        None
    }

    fn read(&self, offset: u64, reader: &BlockReader) -> io::Result<BlockPart> {
        self.file.read(offset, usize::MAX, reader).map_err(io_error)
    }

    fn stored_sums(&self, offset: u64) -> Option<StoredSums<'_>> {
        self.file.stored_sums(offset)
    }
}
