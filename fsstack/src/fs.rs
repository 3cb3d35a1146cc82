//! An open image: look-ups that neither wait for a device nor fail, and reads that do where the contents are
//! not in memory.
//!
//! [`Image::open`] reads the metadata into memory of its own and checks it whole (`validate`), so nothing
//! that later happens to the file can break an invariant. For the contents there is a choice:
//!
//! * [`Access::Copy`]: the image is read into memory. Immune to whatever happens to the file.
//! * [`Access::Blocks`]: they are read when they are wanted, by blocks that a cache keeps. Reading waits for
//!   the file, and a file that was cut, or cannot be read, is an error of that read. Application areas and
//!   sums are in memory.
//! * [`Access::Map`]: pages come from the kernel's page cache on demand, and a page that is not there makes
//!   whoever touches it wait. A replaced image (renamed over, as `pack` does) stays whole for who has it
//!   open. But someone who *truncates* the very file pulls pages away, and touching one raises SIGBUS: map
//!   only images that nobody cuts. [`Image::is_intact`] tells whether the length is still the one that was
//!   checked.
//! * [`Access::Auto`] copies small images and reads large ones by blocks.

mod data;
mod error;
mod lazy;
pub(crate) mod validate;

pub use data::Access;
pub use error::{OpenError, ReadError};
pub use lazy::{LazyChild, LazyDirectory, LazyEntry, LazyFile, LazyImage};

use crate::cache::{BlockPart, BlockReader, FileCache};
use crate::device::{FileDevice, MemoryDevice};
use crate::format::BadImage;
use crate::format::extent::Extent;
use crate::format::index::{self, Slot};
use crate::format::inode::{Kind, Record};
use crate::format::mtime::Mtime;
use crate::format::sums;
use crate::format::superblock::Superblock;
use data::{Data, Owner};
use runtime::buffer::{Shared, Slice};
use runtime::payload::{Piece, StoredSums};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use validate::Metadata;

/// Choices of who opens an image.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Where the contents are read from.
    pub access: Access,
    /// Refuse images with more metadata than this, application areas and sums included if the contents are
    /// read by blocks: what opening may allocate, but for the contents.
    pub max_metadata_bytes: u64,
    /// Compare every page of the contents with its checksum before anyone gets a byte of it: once each time
    /// it is read from the file, so all access is by blocks. For images of version 2 and later. A page that
    /// does not have its sum is an error of the reads that need it. Not for [`Image::from_bytes`].
    pub verify: bool,
    /// Read blocks past the kernel's cache (`O_DIRECT`), for [`Access::Blocks`]: what is kept twice is in the
    /// way of something else. The file system must do that, and [`FileCache::aligned`] keep them.
    pub direct: bool,
    /// Where the image says what is wanted together, read all of it by one reading, for [`Access::Blocks`].
    pub groups: bool,
    /// Where blocks are kept, for [`Access::Blocks`]; a cache of 64 MiB for this image alone if there is
    /// none.
    pub cache: Option<Arc<FileCache>>,
}

impl Default for OpenOptions {
    /// [`Access::Auto`] and at most 1 GiB of metadata (some six million files).
    fn default() -> OpenOptions {
        OpenOptions {
            access: Access::Auto,
            max_metadata_bytes: 1 << 30,
            verify: false,
            direct: false,
            groups: true,
            cache: None,
        }
    }
}

/// Number of a file or directory within one image. The root is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(u32);

impl InodeId {
    /// The root directory.
    pub const ROOT: InodeId = InodeId(0);

    /// The number.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) const fn from_number(number: u32) -> InodeId {
        InodeId(number)
    }

    pub(crate) const fn number(self) -> u32 {
        self.0
    }
}

/// An image whose metadata have been checked. Shared between threads by `Arc`.
#[derive(Debug)]
pub struct Image {
    meta: Metadata,
    data: Data,
    /// One bit an inode: its application area and sums were compared with their checksum.
    aux_checked: Box<[AtomicU64]>,
}

impl Image {
    /// Opens the image file at `path`.
    ///
    /// # Errors
    /// If the file cannot be read, or is not a sound image: then the error names the offset.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Image, OpenError> {
        Image::from_file(File::open(path)?, options)
    }

    /// Opens an image file that is open already.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn from_file(file: File, options: &OpenOptions) -> Result<Image, OpenError> {
        Image::from_device(FileDevice::new(file), options)
    }

    /// Opens the image that a file, or a window of one, is.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn from_device(device: FileDevice, options: &OpenOptions) -> Result<Image, OpenError> {
        let meta = Metadata::load(&device, options.max_metadata_bytes)?;
        let data = Data::from_file(device, &meta, options)?;
        Ok(Image::assemble(meta, data))
    }

    /// Opens an image in memory, as [`crate::Builder::in_memory`] makes it.
    ///
    /// # Errors
    /// If the bytes are not a sound image: then the error names the offset.
    pub fn from_bytes(bytes: Vec<u8>, options: &OpenOptions) -> Result<Image, OpenError> {
        let device = MemoryDevice::from(bytes);
        let meta = Metadata::load(&device, options.max_metadata_bytes)?;
        Ok(Image::assemble(meta, Data::from_bytes(device.into_bytes())))
    }

    fn assemble(meta: Metadata, data: Data) -> Image {
        let words = meta.inodes.len().div_ceil(64);
        Image { meta, data, aux_checked: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.meta.superblock
    }

    /// Number of files and directories; every [`InodeId`] is below.
    pub fn inode_count(&self) -> usize {
        self.meta.inodes.len()
    }

    /// The sums of the pages of the data region; see [`crate::format::page_sums`].
    pub(crate) fn page_sums(&self) -> Option<&[u8]> {
        self.meta.page_sums.as_deref()
    }

    /// Whether contents are in memory, or mapped to it: else they are there for [`Inode::fetch`] only.
    pub fn is_resident(&self) -> bool {
        self.data.is_resident()
    }

    /// Whether contents are mapped (and not copied into memory).
    pub fn is_mapped(&self) -> bool {
        self.data.is_mapped()
    }

    /// Whether the file under an image still has the length that was checked; true for a copied one. A
    /// system call.
    ///
    /// # Errors
    /// If the length cannot be read.
    pub fn is_intact(&self) -> std::io::Result<bool> {
        self.data.is_intact()
    }

    /// The root directory.
    pub fn root(&self) -> Inode<'_> {
        self.inode(InodeId::ROOT)
    }

    /// The number of an inode, if there is one of that number.
    pub(crate) fn id(&self, number: u32) -> Option<InodeId> {
        ((number as usize) < self.meta.inodes.len()).then_some(InodeId(number))
    }

    /// The file or directory of that number.
    ///
    /// # Panics
    /// If the number is of another, larger image.
    pub fn inode(&self, id: InodeId) -> Inode<'_> {
        Inode { image: self, record: &self.meta.inodes[id.index()], id }
    }

    /// Every file and directory, directories before what they hold.
    pub fn inodes(&self) -> impl Iterator<Item = Inode<'_>> {
        (0..self.meta.inodes.len() as u32).map(|i| self.inode(InodeId(i)))
    }

    /// Finds a whole path in constant time: names joined by `/`, one leading slash allowed. A trailing slash
    /// asks for a directory. `.`, `..` and empty names are never found.
    pub fn lookup(&self, path: impl AsRef<[u8]>) -> Option<Inode<'_>> {
        let path = path.as_ref();
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let (path, directory) = match path.strip_suffix(b"/") {
            Some([]) => return None,
            Some(stripped) => (stripped, true),
            None => (path, path.is_empty()),
        };
        let inode = self.inode(self.meta.find(path)?);
        (!directory || inode.is_directory()).then_some(inode)
    }

    /// Bytes of the image itself, within its length.
    pub(crate) fn raw(&self, offset: u64, len: u64) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            let at = bytes.len() as u64;
            let reader = BlockReader::in_place();
            let part = self.data.read((offset + at, len - at), &Owner::nobody(len), &reader)?;
            bytes.extend_from_slice(part.here()?.bytes());
        }
        Ok(bytes)
    }

    /// Takes the contents of files to the cache, if they are read by way of one, of an image that was just
    /// written: `bytes` are all of it. Not if so much would push others out.
    pub(crate) fn keep(&self, bytes: &[u8], is_wanted: impl Fn(Inode<'_>) -> bool) {
        for inode in self.inodes().filter(|&inode| inode.is_file() && is_wanted(inode)) {
            for extent in inode.extents() {
                let owner = (inode.id.0.into(), inode.size());
                self.data.keep((extent.offset, extent.len), owner, bytes);
            }
        }
    }

    fn aux_is_checked(&self, id: InodeId) -> bool {
        self.aux_checked[id.index() / 64].load(Ordering::Relaxed) >> (id.0 % 64) & 1 == 1
    }
}

impl Metadata {
    /// The inode of a path without slashes at its ends.
    fn find(&self, path: &[u8]) -> Option<InodeId> {
        let slots = self.index.len() / index::SLOT_BYTES;
        let (tag, probes) = index::probe(self.superblock.hash_seed, path, slots, self.superblock.max_probe);
        for at in probes {
            let slot = Slot::decode(self.index.get(at * index::SLOT_BYTES..)?.get(..index::SLOT_BYTES)?);
            if slot.inode == index::EMPTY {
                return None;
            }
            if slot.tag == tag && self.inodes.get(slot.inode as usize).is_some_and(|r| self.path(r) == path) {
                return Some(InodeId(slot.inode));
            }
        }
        None
    }
}

/// A file or directory of an open image.
#[derive(Clone, Copy, Debug)]
pub struct Inode<'a> {
    image: &'a Image,
    record: &'a Record,
    id: InodeId,
}

impl<'a> Inode<'a> {
    /// Its number: keep this beside an `Arc<Image>`.
    pub fn id(self) -> InodeId {
        self.id
    }

    /// File or directory.
    pub fn kind(self) -> Kind {
        self.record.kind
    }

    /// Whether it is a file.
    pub fn is_file(self) -> bool {
        self.record.kind == Kind::File
    }

    /// Whether it is a directory.
    pub fn is_directory(self) -> bool {
        self.record.kind == Kind::Directory
    }

    /// Whole path, without slashes at its ends; empty for the root.
    pub fn path(self) -> &'a [u8] {
        self.image.meta.path(self.record)
    }

    /// What has the first name of this file: itself, unless it has several (hard links).
    pub fn first_name(self) -> Inode<'a> {
        self.record.same_as.map_or(self, |first| self.image.inode(InodeId(first)))
    }

    /// Last name of the path; empty for the root.
    pub fn name(self) -> &'a [u8] {
        let path = self.path();
        &path[path.len() - usize::from(self.record.name_bytes)..]
    }

    /// Length of the contents in bytes; 0 for a directory.
    pub fn size(self) -> u64 {
        self.record.size
    }

    /// Modification time.
    pub fn mtime(self) -> Mtime {
        Mtime { seconds: self.record.mtime_s, nanoseconds: self.record.mtime_ns }
    }

    /// CRC32C of the contents, as the builder saw them; 0 for a directory.
    pub fn content_crc(self) -> u32 {
        self.record.content_crc
    }

    /// The directory that holds this; the root's is itself.
    pub fn parent(self) -> Inode<'a> {
        self.image.inode(InodeId(self.record.parent))
    }

    /// What a directory holds, sorted by name (bytewise); nothing for a file.
    pub fn children(self) -> impl ExactSizeIterator<Item = Inode<'a>> + DoubleEndedIterator + use<'a> {
        let image = self.image;
        self.child_range().map(move |i| image.inode(InodeId(i)))
    }

    /// The entry of that name in a directory, by binary search.
    pub fn child(self, name: &[u8]) -> Option<Inode<'a>> {
        let range = self.child_range();
        let records = &self.image.meta.inodes[range.start as usize..range.end as usize];
        let name_of = |record: &Record| {
            let path = self.image.meta.path(record);
            &path[path.len() - usize::from(record.name_bytes)..]
        };
        let i = records.binary_search_by(|record| name_of(record).cmp(name)).ok()?;
        Some(self.image.inode(InodeId(range.start + i as u32)))
    }

    fn child_range(self) -> std::ops::Range<u32> {
        match self.record.kind {
            Kind::Directory => self.record.first..self.record.first + self.record.count,
            Kind::File => 0..0,
        }
    }

    /// Who asks for this file will ask for what lies from its contents on, up to so many bytes; 0 if nothing
    /// is known of it.
    pub fn group_bytes(self) -> u64 {
        self.record.group_bytes
    }

    /// Where the contents lie in the image, in order.
    pub fn extents(self) -> &'a [Extent] {
        match self.record.kind {
            Kind::File => {
                &self.image.meta.extents[self.record.first as usize..][..self.record.count as usize]
            }
            Kind::Directory => &[],
        }
    }

    /// The application area, as the builder was given it. Compared with its checksum the first time.
    ///
    /// # Errors
    /// If the bytes do not have their checksum.
    #[inline]
    pub fn app(self) -> Result<&'a [u8], ReadError> {
        Ok(&self.aux()?[..self.record.app_bytes as usize])
    }

    /// Part of the application area as payload, held by the image's buffer; nothing if it does not have that
    /// part.
    ///
    /// # Errors
    /// As [`Inode::app`].
    #[inline]
    pub fn app_piece(self, range: std::ops::Range<usize>) -> Result<Piece<'a>, ReadError> {
        let bytes = self.app()?.get(range).unwrap_or_default();
        Ok(Piece { hold: Some(self.image.data.buffer()), ..Piece::new(bytes) })
    }

    /// Bytes of a resident image from `offset` on, at most `len`: as much of that as lies together in it, so
    /// less than `len` at the end of an extent, and nothing from the end of the file on. Never waits, except
    /// for the kernel to fetch a mapped page.
    ///
    /// # Errors
    /// If this is a directory, or the image is read by blocks.
    pub fn read(self, offset: u64, len: usize) -> Result<&'a [u8], ReadError> {
        let Some((at, len)) = self.place(offset, len as u64)? else { return Ok(&[]) };
        self.image.data.slice(at, len).ok_or(ReadError::NotResident)
    }

    /// Bytes from `offset` on, at most `len`, however the image is read: as much of that as lies together, so
    /// less than `len` at the end of a block, and nothing from the end of the file on. May wait for the file.
    ///
    /// # Errors
    /// If this is a directory, or the file cannot be read.
    pub fn fetch(self, offset: u64, len: usize) -> Result<Slice, ReadError> {
        let part = self.fetch_by(offset, len, &BlockReader::in_place())?;
        part.here().map_err(|error| self.read_error(error))
    }

    /// As [`Inode::fetch`], by `reader`: they may be still to come.
    ///
    /// # Errors
    /// As [`Inode::fetch`].
    pub fn fetch_by(self, offset: u64, len: usize, reader: &BlockReader) -> Result<BlockPart, ReadError> {
        match self.place(offset, u64::MAX)? {
            Some((at, left)) if len > 0 => {
                let owner = self.owner(at, left);
                let read = self.image.data.read((at, left.min(len as u64)), &owner, reader);
                read.map_err(|error| self.read_error(error))
            }
            _ => Ok(BlockPart::Here(Slice::from(Shared::from(Vec::new())))),
        }
    }

    /// Whose the `left` bytes from `at` on are: what is wanted with the file is so with its first extent.
    fn owner(self, at: u64, left: u64) -> Owner {
        let first = self.extents().first();
        match first.filter(|extent| (extent.offset..extent.offset + extent.len).contains(&at)) {
            Some(first) => Owner::file(self.id.0, self.record, first),
            None => Owner { end: at + left, number: self.id.0.into(), ..Owner::nobody(self.size()) },
        }
    }

    fn read_error(self, error: std::io::Error) -> ReadError {
        match error.into() {
            ReadError::Bad(mut bad) => {
                let path = String::from_utf8_lossy(self.path());
                bad.what = format!("contents of `{path}`, {}", bad.what);
                ReadError::Bad(bad)
            }
            other => other,
        }
    }

    /// Where in the image the bytes from `offset` on lie, and how many of `len` lie together; `None` if that
    /// is none.
    fn place(self, offset: u64, len: u64) -> Result<Option<(u64, u64)>, ReadError> {
        if self.is_directory() {
            return Err(ReadError::IsDirectory);
        }
        let mut start = 0;
        for extent in self.extents() {
            // The sum of all lengths was checked to be the size: no overflow.
            if offset < start + extent.len {
                let skip = offset - start;
                let len = (extent.len - skip).min(len);
                return Ok((len > 0).then_some((extent.offset + skip, len)));
            }
            start += extent.len;
        }
        Ok(None)
    }

    /// What [`Inode::read`] gives as payload: held by the image's buffer, with the stored sums, which are
    /// good for any part of it. `None` where there is nothing more.
    ///
    /// # Errors
    /// As [`Inode::read`], or if the sums do not have their checksum.
    pub fn piece(self, offset: u64, len: usize) -> Result<Option<Piece<'a>>, ReadError> {
        let bytes = self.read(offset, len)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let hold = Some(self.image.data.buffer());
        Ok(Some(Piece { bytes, sum: None, stored: self.stored_sums(offset)?, hold }))
    }

    /// The sums that were stored for the contents, for a piece of them that begins at `offset`; `None` if
    /// there are none.
    ///
    /// # Errors
    /// If they do not have their checksum.
    pub fn stored_sums(self, offset: u64) -> Result<Option<StoredSums<'a>>, ReadError> {
        if self.record.sum_count == 0 {
            return Ok(None);
        }
        let block_bytes = self.image.meta.superblock.sum_block_bytes;
        Ok(StoredSums::new(self.prefix_sums()?, block_bytes, offset))
    }

    /// The stored prefix sums; see [`crate::format::sums::ContentSums`].
    pub(crate) fn prefix_sums(self) -> Result<&'a [[u8; 4]], ReadError> {
        Ok(self.aux()?[self.record.app_bytes as usize..].as_chunks().0)
    }

    /// Offset and length in the image of application area and sums.
    pub(crate) fn aux_run(self) -> (u64, u64) {
        (self.record.aux_offset, self.record.aux_bytes())
    }

    /// Application area and sums, checked once.
    #[inline]
    fn aux(self) -> Result<&'a [u8], ReadError> {
        let bytes = self.image.data.aux(self.id, self.record);
        if !self.image.aux_is_checked(self.id) {
            self.check_aux(bytes)?;
        }
        Ok(bytes)
    }

    /// Compares them with their checksum, once.
    #[cold]
    fn check_aux(self, bytes: &[u8]) -> Result<(), ReadError> {
        let (record, found) = (self.record, sums::crc32c(0, bytes));
        if found != record.aux_crc {
            let what = format!("application area of `{}`", String::from_utf8_lossy(self.path()));
            let expected = format!("CRC32C {:#010x}", record.aux_crc);
            return Err(BadImage::new(record.aux_offset, what, expected, format!("{found:#010x}")).into());
        }
        let bit = 1 << (self.id.0 % 64);
        self.image.aux_checked[self.id.index() / 64].fetch_or(bit, Ordering::Relaxed);
        Ok(())
    }
}
