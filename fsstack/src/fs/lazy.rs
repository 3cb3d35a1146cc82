//! An image that is opened without reading its metadata: what a look-up needs is read when it is made, by
//! blocks that the cache keeps, and checked where it is used.
//!
//! ```text
//!   open     superblock, and the sums of pages          4 bytes for each 4096: the only work that grows with the image
//!   find     slots of the path index ─▶ inode ─▶ its path, extents, application area
//!            each page against its sum when it is read; each record against what it is used for
//! ```
//!
//! For images of version 3 and later, whose page sums cover the metadata. [`super::Image`] proves that the
//! whole is a tree, and is what changes, lists and checks images; this serves them. A hostile image can give
//! any of its bytes as any file's, which is all that its maker could do anyhow: no record leads out of the
//! image, to more memory than [`MAX_AREA_BYTES`], or to more than a few reads.

use super::data::{Blocks, Owner};
use super::validate;
use super::{OpenError, OpenOptions, ReadError};
use crate::cache::{BlockPart, BlockReader};
use crate::device::FileDevice;
use crate::format::BadImage;
use crate::format::extent::{self, Extent};
use crate::format::index::{self, Slot};
use crate::format::inode::{self, Kind, Record};
use crate::format::mtime::Mtime;
use crate::format::sums::crc32c;
use crate::format::superblock::{SectionKind, Superblock};
use runtime::buffer::{Shared, Slice};
use runtime::payload::{Piece, StoredSums};
use smallvec::SmallVec;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Larger areas are not read: their files have no heads made beforehand and no stored sums. Enough for files
/// of 2 GiB.
const MAX_AREA_BYTES: u64 = 16 << 20;

/// Whose the metadata are, for the cache: nobody's, and small, so that they stay.
const METADATA: Owner = Owner::nobody(4096);

/// An image, of which the superblock and the sums of pages are in memory. Shared between threads by `Arc`.
#[derive(Debug)]
pub struct LazyImage {
    superblock: Superblock,
    blocks: Blocks,
}

/// What a path leads to.
#[derive(Debug)]
pub enum LazyEntry {
    /// A directory.
    Directory(LazyDirectory),
    /// A file.
    File(LazyFile),
}

/// A directory.
#[derive(Clone, Debug)]
pub struct LazyDirectory {
    image: Arc<LazyImage>,
    record: Record,
}

/// What a directory says of something in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LazyChild {
    /// Its name.
    pub name: Vec<u8>,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Length of a file in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Mtime,
}

/// A file, with all that was said of it.
#[derive(Clone, Debug)]
pub struct LazyFile {
    image: Arc<LazyImage>,
    number: u32,
    record: Record,
    /// Most files lie in one piece.
    extents: SmallVec<[Extent; 1]>,
    /// Application area and partial sums; empty if they are too long.
    area: Shared,
}

impl LazyImage {
    /// Opens the image file at `path`; `None` if it is of a version without the sums that this needs.
    ///
    /// # Errors
    /// If it cannot be read, or superblock or sums are not sound.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Option<LazyImage>, OpenError> {
        LazyImage::from_device(FileDevice::new(File::open(path)?), options)
    }

    /// As [`LazyImage::open`], of the image that a file, or a window of one, is.
    ///
    /// # Errors
    /// As [`LazyImage::open`].
    pub fn from_device(device: FileDevice, options: &OpenOptions) -> Result<Option<LazyImage>, OpenError> {
        let superblock = validate::load_superblock(&device)?;
        if !superblock.sums_cover_metadata() {
            return Ok(None);
        }
        let found = superblock.section(SectionKind::PageSums).len;
        if found > options.max_metadata_bytes {
            return Err(OpenError::TooMuchMetadata { found, limit: options.max_metadata_bytes });
        }
        let page_sums = validate::load_page_sums(&device, &superblock)?;
        let slots = superblock.section(SectionKind::Index).len / index::SLOT_BYTES as u64;
        if !slots.is_power_of_two() {
            let at = superblock.section(SectionKind::Index).offset;
            return Err(
                BadImage::new(at, "slots of the path index", "a power of two", slots.to_string()).into()
            );
        }
        let checked_from = if options.verify { 0 } else { superblock.data_end() };
        let blocks = Blocks::new(device, superblock.image_bytes, options, Some((page_sums, checked_from)))?;
        Ok(Some(LazyImage { superblock, blocks }))
    }

    /// The superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Finds a path: names joined by `/`, without slashes at its ends. May wait for the file.
    ///
    /// # Errors
    /// If what was needed cannot be read, or is not sound.
    pub fn find(self: &Arc<Self>, path: &[u8]) -> Result<Option<LazyEntry>, ReadError> {
        self.look_up(path, &BlockReader::in_place())
    }

    /// As [`LazyImage::find`], as far as it gets by `reader`.
    ///
    /// # Errors
    /// As [`LazyImage::find`]; [`io::ErrorKind::WouldBlock`] if something is needed that is being read: ask
    /// again when woken.
    pub fn look_up(
        self: &Arc<Self>,
        path: &[u8],
        reader: &BlockReader,
    ) -> Result<Option<LazyEntry>, ReadError> {
        let index = self.superblock.section(SectionKind::Index);
        let slots = index.len as usize / index::SLOT_BYTES;
        let (tag, probes) = index::probe(self.superblock.hash_seed, path, slots, self.superblock.max_probe);
        for at in probes {
            let mut slot = [0; index::SLOT_BYTES];
            self.read(index.offset + (at * index::SLOT_BYTES) as u64, &mut slot, reader)?;
            let slot = Slot::decode(&slot);
            if slot.inode == index::EMPTY {
                return Ok(None);
            }
            if slot.tag != tag {
                continue;
            }
            let record = self.record(slot.inode.into(), reader)?;
            if record.path_bytes as usize == path.len() && self.is_path(slot.inode, &record, path, reader)? {
                return self.entry(slot.inode, record, reader).map(Some);
            }
        }
        Ok(None)
    }

    fn record(&self, number: u64, reader: &BlockReader) -> Result<Record, ReadError> {
        let mut bytes = [0; inode::BYTES];
        self.read_entry(SectionKind::Inodes, number, &mut bytes, reader)?;
        let section = self.superblock.section(SectionKind::Inodes);
        let record = Record::decode(&bytes).map_err(|(field, what, expected, found)| {
            let at = section.offset + number * inode::BYTES as u64 + field as u64;
            BadImage::new(at, format!("inode {number}, {what}"), expected, found.to_string())
        })?;
        Ok(record)
    }

    fn is_path(
        &self,
        number: u32,
        record: &Record,
        path: &[u8],
        reader: &BlockReader,
    ) -> Result<bool, ReadError> {
        let heap = self.superblock.section(SectionKind::Paths);
        let end = record.path_offset.checked_add(path.len() as u64).filter(|&end| end <= heap.len);
        if end.is_none() {
            let found = format!("{} + {}", record.path_offset, record.path_bytes);
            let expected = format!("within the {} bytes of the path heap", heap.len);
            return Err(
                validate::bad_inode(&self.superblock, number as usize, "path", expected, found).into()
            );
        }
        let mut found = vec![0; path.len()];
        self.read(heap.offset + record.path_offset, &mut found, reader)?;
        Ok(found == path)
    }

    fn entry(
        self: &Arc<Self>,
        number: u32,
        record: Record,
        reader: &BlockReader,
    ) -> Result<LazyEntry, ReadError> {
        validate::check_record(&self.superblock, number as usize, &record)?;
        let record = self.first_name(number, record, reader)?;
        if record.kind == Kind::Directory {
            return Ok(LazyEntry::Directory(LazyDirectory { image: Arc::clone(self), record }));
        }
        let mut extents = SmallVec::with_capacity(record.count as usize);
        for i in 0..u64::from(record.count) {
            let mut bytes = [0; extent::BYTES];
            self.read_entry(SectionKind::Extents, u64::from(record.first) + i, &mut bytes, reader)?;
            extents.push(Extent::decode(&bytes));
        }
        let sum = validate::check_extents(&self.superblock, record.first.into(), &extents)?;
        if sum != record.size {
            let expected = format!("{sum}, the sum of its extents");
            let found = record.size.to_string();
            return Err(
                validate::bad_inode(&self.superblock, number as usize, "size", expected, found).into()
            );
        }
        if let Some(first) = extents.first() {
            // The area lies before or among what is wanted with the file: all of it by one reading. What
            // cannot be read of the contents is told by who wants these.
            let is_before =
                first.offset.checked_sub(record.aux_offset).is_some_and(|gap| gap <= MAX_AREA_BYTES);
            let from = if is_before { record.aux_offset } else { first.offset };
            if is_before || record.group_bytes > 0 {
                let _ = self.blocks.read((from, 1), &Owner::file(number, &record, first), reader);
            }
        }
        let mut area = Vec::new();
        if record.aux_bytes() <= MAX_AREA_BYTES {
            area.resize(record.aux_bytes() as usize, 0);
            self.read(record.aux_offset, &mut area, reader)?;
            let found = crc32c(0, &area);
            if found != record.aux_crc {
                let what = format!("application area of inode {number}");
                let expected = format!("CRC32C {:#010x}", record.aux_crc);
                let found = format!("{found:#010x}");
                return Err(BadImage::new(record.aux_offset, what, expected, found).into());
            }
        }
        let file = LazyFile { image: Arc::clone(self), number, record, extents, area: area.into() };
        Ok(LazyEntry::File(file))
    }

    /// What is said of another name of a file, with what only the first name has.
    fn first_name(&self, number: u32, record: Record, reader: &BlockReader) -> Result<Record, ReadError> {
        let Some(first) = record.same_as else { return Ok(record) };
        let found = self.record(first.into(), reader)?;
        if found.same_as.is_some() || !found.is_same_file(&record) {
            let expected = "a file of the same contents and attributes".into();
            let found = first.to_string();
            return Err(validate::bad_inode(
                &self.superblock,
                number as usize,
                "first name",
                expected,
                found,
            )
            .into());
        }
        Ok(Record { group_bytes: found.group_bytes, ..record })
    }

    /// Reads an entry of a table.
    fn read_entry(
        &self,
        kind: SectionKind,
        number: u64,
        to: &mut [u8],
        reader: &BlockReader,
    ) -> Result<(), ReadError> {
        let section = self.superblock.section(kind);
        let count = section.len / to.len() as u64;
        if number >= count {
            let what = format!("number of an entry of the {}", kind.name());
            return Err(BadImage::new(
                section.offset,
                what,
                format!("less than {count}"),
                number.to_string(),
            )
            .into());
        }
        self.read(section.offset + number * to.len() as u64, to, reader)
    }

    /// Reads bytes that lie within the image. Of what is not there, all that is needed is asked for at once.
    fn read(&self, offset: u64, to: &mut [u8], reader: &BlockReader) -> Result<(), ReadError> {
        let mut filled = 0;
        let mut is_whole = true;
        while filled < to.len() {
            let (at, left) = (offset + filled as u64, to.len() - filled);
            let part = self.blocks.read((at, left as u64), &METADATA, reader)?;
            let len = part.len();
            match part {
                BlockPart::Here(part) => to[filled..filled + len].copy_from_slice(part.bytes()),
                BlockPart::Coming(_) => is_whole = false,
            }
            if len == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            filled += len;
        }
        if is_whole { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WouldBlock).into()) }
    }
}

impl LazyDirectory {
    /// What it holds, by name; at most `most` of it. May wait for the file.
    ///
    /// # Errors
    /// If it cannot be read, or is not sound.
    pub fn children(&self, most: usize) -> Result<Vec<LazyChild>, ReadError> {
        let LazyDirectory { image, record } = self;
        let reader = &BlockReader::in_place();
        let count = (record.count as usize).min(most);
        let mut children = Vec::new();
        for i in 0..count as u64 {
            let child = image.record(u64::from(record.first) + i, reader)?;
            let mut name = vec![0; usize::from(child.name_bytes)];
            let heap = image.superblock.section(SectionKind::Paths);
            let end = child.path_offset.checked_add(child.path_bytes.into()).filter(|&end| end <= heap.len);
            let start = end.and_then(|end| end.checked_sub(name.len() as u64));
            let Some(start) = start.filter(|&start| start >= child.path_offset) else {
                let found = format!("{} + {}", child.path_offset, child.path_bytes);
                let expected = format!("within the {} bytes of the path heap", heap.len);
                return Err(BadImage::new(heap.offset, "path of an inode", expected, found).into());
            };
            image.read(heap.offset + start, &mut name, reader)?;
            children.push(LazyChild {
                name,
                is_directory: child.kind == Kind::Directory,
                size: child.size,
                mtime: Mtime { seconds: child.mtime_s, nanoseconds: child.mtime_ns },
            });
        }
        Ok(children)
    }
}

impl LazyFile {
    /// Its number within the image.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Length of the contents in bytes.
    pub fn size(&self) -> u64 {
        self.record.size
    }

    /// Modification time.
    pub fn mtime(&self) -> Mtime {
        Mtime { seconds: self.record.mtime_s, nanoseconds: self.record.mtime_ns }
    }

    /// CRC32C of the contents, as the builder saw them.
    pub fn content_crc(&self) -> u32 {
        self.record.content_crc
    }

    /// Bytes of memory that it holds.
    pub fn held_bytes(&self) -> usize {
        size_of::<LazyFile>() + self.area.len() + size_of_val(&*self.extents)
    }

    /// The application area; empty if it is too long to be kept.
    pub fn app(&self) -> &[u8] {
        self.area.get(..self.record.app_bytes as usize).unwrap_or_default()
    }

    /// Part of the application area as payload; nothing if it does not have that part.
    pub fn app_piece(&self, range: Range<usize>) -> Piece<'_> {
        Piece { hold: Some(&self.area), ..Piece::new(self.app().get(range).unwrap_or_default()) }
    }

    /// The sums that were stored for the contents, for a piece of them that begins at `offset`.
    pub fn stored_sums(&self, offset: u64) -> Option<StoredSums<'_>> {
        let sums = self.area.get(self.record.app_bytes as usize..).filter(|sums| !sums.is_empty())?;
        StoredSums::new(sums.as_chunks().0, self.image.superblock.sum_block_bytes, offset)
    }

    /// Bytes from `offset` on, at most `len`: as many as lie together, and nothing from the end on. May wait
    /// for the file.
    ///
    /// # Errors
    /// If they cannot be read, or, verified, are not those that were packed.
    pub fn fetch(&self, offset: u64, len: usize) -> Result<Slice, ReadError> {
        Ok(self.read(offset, len, &BlockReader::in_place())?.here()?)
    }

    /// As [`LazyFile::fetch`], by `reader`: they may be still to come.
    ///
    /// # Errors
    /// As [`LazyFile::fetch`].
    pub fn read(&self, offset: u64, len: usize, reader: &BlockReader) -> Result<BlockPart, ReadError> {
        let mut start = 0;
        for extent in &self.extents {
            // The sum of all lengths was checked to be the size: no overflow.
            if offset < start + extent.len {
                let skip = offset - start;
                let len = (extent.len - skip).min(len as u64);
                if len == 0 {
                    break;
                }
                let mut owner = Owner::file(self.number, &self.record, extent);
                if start > 0 {
                    owner.group_end = 0;
                }
                return Ok(self.image.blocks.read((extent.offset + skip, len), &owner, reader)?);
            }
            start += extent.len;
        }
        Ok(BlockPart::Here(Slice::from(Shared::from(Vec::new()))))
    }
}
