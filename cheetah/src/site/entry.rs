//! What is kept in memory for each file and directory of a site, beside the image.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use fsstack::cache::{BlockPart, BlockReader};
use fsstack::{Image, Inode, InodeId, ReadError};
use runtime::buffer::Shared;
use runtime::payload::{Piece, StoredSums};

use crate::http::conditional::Validators;
use crate::http::content_type;
use crate::http::dictionary::DictionaryUse;
use crate::http::head_facts;
use crate::http::headers::{self, Area, Facts};
use crate::http::response::Status;
use crate::store::{Document, INDEX_NAME};

/// A directory's index file, or what is known of a file.
#[derive(Debug)]
pub(super) enum Entry {
    /// A directory, with its index file.
    Directory(Option<InodeId>),
    /// A file.
    File(Arc<PackedFile>),
}

/// A file of an image.
#[derive(Debug)]
pub struct PackedFile {
    image: Arc<Image>,
    id: InodeId,
    /// Where things lie in the application area.
    area: Area,
    /// The area itself, if the image has it without heads, or none that is usable.
    made: Option<Shared>,
}

impl Entry {
    /// Reads the application area of `inode`, or makes one.
    ///
    /// # Errors
    /// If the area does not have its checksum.
    pub(super) fn new(image: &Arc<Image>, inode: Inode<'_>) -> Result<Entry, ReadError> {
        if inode.is_directory() {
            let index = inode.child(INDEX_NAME).filter(|child| child.is_file()).map(Inode::id);
            return Ok(Entry::Directory(index));
        }
        Ok(Entry::File(Arc::new(PackedFile::new(image, inode)?)))
    }
}

/// Where things lie in the application area of a file of `size` bytes; if it has but what its heads say, in
/// that with the heads, which comes along. `None` if it is none of ours.
pub(super) fn area_of(app: &[u8], size: u64) -> Option<(Area, Option<Shared>)> {
    if let Some(area) = Area::decode(app, size) {
        return Some((area, None));
    }
    let made = headers::encode(&head_facts::decode(app, size)?);
    Some((Area::decode(&made, size)?, Some(made.into())))
}

/// The entity tag in the application area of a file of `size` bytes, for which no heads are made; `None` if
/// [`area_of`] has none.
pub(super) fn etag_of(app: &[u8], size: u64) -> Option<&[u8]> {
    match Area::decode(app, size) {
        Some(area) => app.get(area.etag),
        None => Some(head_facts::decode(app, size)?.validators.etag),
    }
}

/// The application area of a file that has none, with heads by its name, and where things lie in it.
pub(super) fn made_area(name: &[u8], size: u64, etag: &str, last_modified: u64) -> (Area, Shared) {
    let coded = content_type::coding(name);
    let stem = coded.as_ref().map_or(name, |(_, stem)| stem);
    let bytes = headers::encode(&Facts {
        content_type: content_type::content_type(stem, None).as_bytes(),
        coding: coded.as_ref().map(|(coding, _)| *coding),
        varies: false,
        dictionary: DictionaryUse::None,
        size,
        validators: Validators { etag: etag.as_bytes(), last_modified },
    });
    (Area::decode(&bytes, size).unwrap_or_default(), bytes.into())
}

/// An entity tag of contents whose hash nobody took: their CRC, length and time must do.
pub(super) fn etag_without_hash(crc: u32, size: u64, last_modified: u64) -> String {
    format!("\"{crc:08x}-{size:x}-{last_modified:x}\"")
}

/// What a client's connection is told.
pub(super) fn io_error(error: ReadError) -> io::Error {
    match error {
        ReadError::Device(kind) => kind.into(),
        other => io::Error::other(other),
    }
}

impl PackedFile {
    /// Reads the application area of `inode`, a file of `image`, or makes one.
    ///
    /// # Errors
    /// If the area does not have its checksum.
    pub(super) fn new(image: &Arc<Image>, inode: Inode<'_>) -> Result<PackedFile, ReadError> {
        let (image, id) = (Arc::clone(image), inode.id());
        if let Some((area, made)) = area_of(inode.app()?, inode.size()) {
            return Ok(PackedFile { image, id, area, made });
        }
        let last_modified = u64::try_from(inode.mtime().seconds).unwrap_or(0);
        let etag = etag_without_hash(inode.content_crc(), inode.size(), last_modified);
        let (area, made) = made_area(inode.name(), inode.size(), &etag, last_modified);
        Ok(PackedFile { image, id, area, made: Some(made) })
    }

    fn inode(&self) -> Inode<'_> {
        self.image.inode(self.id)
    }

    /// Part of the application area. Sums were checked when the site was opened, and checked areas are not
    /// checked again, so there is no error.
    fn of_area(&self, range: Range<usize>) -> Piece<'_> {
        match &self.made {
            Some(made) => Piece { hold: Some(made), ..Piece::new(&made[range]) },
            None => self.inode().app_piece(range).unwrap_or(Piece::new(&[])),
        }
    }
}

impl Document for PackedFile {
    fn facts(&self) -> Facts<'_> {
        let inode = self.inode();
        let area = match &self.made {
            Some(made) => made,
            None => inode.app().unwrap_or_default(),
        };
        self.area.facts(inode.size(), |range| area.get(range).unwrap_or_default())
    }

    fn ready_head(&self, status: Status) -> Option<Piece<'_>> {
        self.area.head(status).map(|range| self.of_area(range))
    }

    fn ready_block(&self, status: Status) -> Option<Piece<'_>> {
        self.area.block(status).map(|range| self.of_area(range))
    }

    fn is_resident(&self) -> bool {
        self.image.is_resident()
    }

    fn resident(&self, offset: u64, len: usize) -> Option<Piece<'_>> {
        // A file never turns into a directory, and its sums have been checked with the application area.
        self.inode().piece(offset, len).ok().flatten()
    }

    fn read(&self, offset: u64, reader: &BlockReader) -> io::Result<BlockPart> {
        self.inode().fetch_by(offset, usize::MAX, reader).map_err(io_error)
    }

    fn stored_sums(&self, offset: u64) -> Option<StoredSums<'_>> {
        self.inode().stored_sums(offset).ok().flatten()
    }
}
