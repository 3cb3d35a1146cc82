//! Where the contents of an open image come from: memory of our own, blocks that are read when they are
//! wanted, or the kernel's pages. Holds the one `unsafe` of the crate.

use super::validate::Metadata;
use super::{InodeId, OpenError, OpenOptions};
use crate::cache::reads::{Damage, Lasting};
use crate::cache::{BlockPart, BlockReader, BlockSource, FileCache, FileNumber, Wanted};
use crate::device::{Device, FileDevice};
use crate::format::extent::Extent;
use crate::format::inode::Record;
use crate::format::page_sums::{self, PAGE_BYTES};
use runtime::buffer::{Shared, Slice};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Images up to this size are copied by [`Access::Auto`].
const AUTO_COPY_BYTES: u64 = 64 << 20;

/// Images from this size on that are in memory lie in a file there, which the kernel can send from without a
/// copy.
const MIN_FILE_BYTES: usize = 64 << 10;

/// What is kept of an image that is read by blocks, if nothing else is said.
pub(super) const OWN_CACHE_BYTES: u64 = 64 << 20;

/// What is in no group is read whole up to this size, and of longer files so much of the beginning.
const ONE_READING_BYTES: u64 = 64 << 10;

/// How an image's contents are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Copies images up to 64 MiB, reads larger ones by blocks.
    #[default]
    Auto,
    /// Reads the whole image into memory.
    Copy,
    /// Reads application areas and sums into memory, and blocks of the contents when they are wanted.
    Blocks,
    /// Maps the file.
    Map,
}

/// The bytes of an image whose length has been checked.
#[derive(Debug)]
pub(super) struct Data {
    /// The whole image; read by blocks, the application areas and sums of all inodes, one behind the other.
    bytes: Shared,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A copy of the image.
    Copied,
    /// The file that is mapped.
    Mapped(FileDevice),
    /// With where the application area of each inode begins.
    Blocks(Blocks, Box<[u64]>),
}

/// An image that is read by blocks, which a cache keeps.
#[derive(Debug)]
pub(super) struct Blocks {
    source: Arc<dyn BlockSource>,
    image: Arc<ImageBlocks>,
    cache: Arc<FileCache>,
    number: FileNumber,
    /// Whether more is read than was asked for.
    groups: bool,
}

/// Whose bytes are read, for who decides what to read beside them and what to keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    /// The inode.
    pub(super) number: u64,
    /// Its length.
    pub(super) bytes: u64,
    /// Up to where it lies together, from what is read on.
    pub(super) end: u64,
    /// Up to where lies what is wanted with it; 0 if nothing is.
    pub(super) group_end: u64,
}

impl Owner {
    /// A file, of whose first extent or another something is read. What is wanted with it lies behind its
    /// beginning: its group, and of itself so much as is one reading.
    pub(super) fn file(number: u32, record: &Record, extent: &Extent) -> Owner {
        let wanted = record.group_bytes.max(extent.len.min(ONE_READING_BYTES));
        Owner {
            number: number.into(),
            bytes: record.size,
            end: extent.offset.saturating_add(extent.len),
            group_end: extent.offset.saturating_add(wanted),
        }
    }

    /// What is no file's, of so many bytes.
    pub(super) const fn nobody(bytes: u64) -> Owner {
        Owner { number: u64::MAX, bytes, end: 0, group_end: 0 }
    }
}

/// Where they come from.
#[derive(Debug)]
struct ImageBlocks {
    file: FileDevice,
    /// The same file, to be read past the kernel's cache.
    direct: Option<File>,
    image_bytes: u64,
    block_bytes: u64,
    /// What pages are compared with, if they are, and from which offset on.
    page_sums: Option<(Arc<[u8]>, u64)>,
    lasting: Lasting,
}

impl Data {
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Data {
        let in_file = (bytes.len() >= MIN_FILE_BYTES).then(|| {
            Shared::in_memory_file(bytes.len(), |to| {
                to.copy_from_slice(&bytes);
                Ok(())
            })
        });
        let bytes = match in_file {
            Some(Ok(file)) => file,
            // Sending it costs a copy then.
            Some(Err(_)) | None => Shared::from(bytes),
        };
        Data { bytes, kind: Kind::Copied }
    }

    /// The file is as long as `meta` says, or was when its superblock was checked.
    pub(super) fn from_file(
        file: FileDevice,
        meta: &Metadata,
        options: &OpenOptions,
    ) -> Result<Data, OpenError> {
        let len = meta.superblock.image_bytes;
        if options.verify {
            return Data::blocks(file, meta, options);
        }
        match options.access {
            Access::Copy => Ok(Data::copied(&file, len)?),
            Access::Auto if len <= AUTO_COPY_BYTES => Ok(Data::copied(&file, len)?),
            Access::Auto | Access::Blocks => Data::blocks(file, meta, options),
            Access::Map => Ok(Data::mapped(file, len)?),
        }
    }

    fn copied(file: &FileDevice, len: u64) -> io::Result<Data> {
        let bytes_len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if bytes_len >= MIN_FILE_BYTES
            && let Ok(bytes) = Shared::in_memory_file(bytes_len, |bytes| file.read_at(0, bytes))
        {
            return Ok(Data { bytes, kind: Kind::Copied });
        }
        let mut bytes = zeros(len)?;
        file.read_at(0, &mut bytes)?;
        Ok(Data { bytes: Shared::from(bytes), kind: Kind::Copied })
    }

    fn blocks(file: FileDevice, meta: &Metadata, options: &OpenOptions) -> Result<Data, OpenError> {
        let page_sums = match (options.verify, &meta.page_sums) {
            (false, _) => None,
            (true, Some(sums)) => Some((Arc::clone(sums), 0)),
            (true, None) => return Err(OpenError::NoPageSums),
        };
        let of_their_own = |record: &&Record| record.same_as.is_none();
        let found = meta.inodes.iter().filter(of_their_own).map(Record::aux_bytes).sum();
        if found > options.max_metadata_bytes {
            return Err(OpenError::TooMuchMetadata { found, limit: options.max_metadata_bytes });
        }
        let mut bytes = zeros(found)?;
        let mut rest = &mut bytes[..];
        let mut at = 0;
        let mut aux_at = Vec::with_capacity(meta.inodes.len());
        for record in &meta.inodes {
            if let Some(first) = record.same_as {
                // It stands before this one.
                aux_at.push(aux_at[first as usize]);
                continue;
            }
            // All of them together have a length that fits memory.
            let (area, after) = std::mem::take(&mut rest).split_at_mut(record.aux_bytes() as usize);
            if !area.is_empty() {
                file.read_at(record.aux_offset, area)?;
            }
            rest = after;
            aux_at.push(at);
            at += record.aux_bytes();
        }
        let blocks = Blocks::new(file, meta.superblock.image_bytes, options, page_sums)?;
        Ok(Data { bytes: Shared::from(bytes), kind: Kind::Blocks(blocks, aux_at.into()) })
    }

    fn mapped(file: FileDevice, len: u64) -> io::Result<Data> {
        let bytes_len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if file.len_bytes()? != len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file changed while it was opened"));
        }
        // SAFETY: the mapping is read-only and lives as long as `Mmap`. Rust's rule that the bytes behind a
        // shared slice do not change is kept by convention, as for every mapped file: images are replaced by
        // renaming, never written in place (`AtomicFile`). No metadata is read through the mapping, so a
        // changed byte can only change contents, never an index or a length. A file that shrinks raises
        // SIGBUS on access to the lost pages, which ends the process but breaks no memory.
        let map = unsafe { memmap2::MmapOptions::new().offset(file.base()).len(bytes_len).map(file.file())? };
        Ok(Data { bytes: Shared::from_owner(map), kind: Kind::Mapped(file) })
    }

    /// Takes what `owner` has from `offset` on to the cache, out of the bytes of the whole image.
    pub(super) fn keep(&self, (offset, len): (u64, u64), owner: (u64, u64), image: &[u8]) {
        let Kind::Blocks(blocks, _) = &self.kind else { return };
        let block_bytes = blocks.cache.block_bytes() as u64;
        if len == 0 || !blocks.cache.is_small(image.len() as u64) {
            return;
        }
        for index in offset / block_bytes..(offset + len).div_ceil(block_bytes) {
            let start = (index * block_bytes) as usize;
            let end = image.len().min(start + block_bytes as usize);
            if let Some(block) = image.get(start..end) {
                blocks.cache.keep(blocks.number, index, owner, block);
            }
        }
    }

    pub(super) fn is_mapped(&self) -> bool {
        matches!(self.kind, Kind::Mapped(_))
    }

    pub(super) fn is_resident(&self) -> bool {
        !matches!(self.kind, Kind::Blocks(..))
    }

    pub(super) fn is_intact(&self) -> io::Result<bool> {
        match &self.kind {
            Kind::Copied => Ok(true),
            Kind::Mapped(file) => Ok(file.len_bytes()? == self.bytes.len() as u64),
            Kind::Blocks(blocks, _) => Ok(blocks.image.file.len_bytes()? == blocks.image.image_bytes),
        }
    }

    /// The buffer that [`Data::aux`] and, of a resident image, [`Data::slice`] give parts of.
    pub(super) fn buffer(&self) -> &Shared {
        &self.bytes
    }

    /// Application area and sums of an inode, whose bounds were checked when the image was opened.
    pub(super) fn aux(&self, id: InodeId, record: &Record) -> &[u8] {
        let at = match &self.kind {
            Kind::Blocks(_, aux_at) => aux_at[id.index()],
            Kind::Copied | Kind::Mapped(_) => record.aux_offset,
        };
        &self.bytes[at as usize..(at + record.aux_bytes()) as usize]
    }

    /// Bytes of a resident image, whose bounds were checked against its length when it was opened; `None` if
    /// it is read by blocks.
    pub(super) fn slice(&self, offset: u64, len: u64) -> Option<&[u8]> {
        self.is_resident().then(|| &self.bytes[offset as usize..(offset + len) as usize])
    }

    /// From 1 to `len` bytes, not 0, from `offset` on, within the bounds that were checked: all of them, or
    /// up to the end of a block.
    pub(super) fn read(
        &self,
        (offset, len): (u64, u64),
        owner: &Owner,
        reader: &BlockReader,
    ) -> io::Result<BlockPart> {
        if let Kind::Blocks(blocks, _) = &self.kind {
            return blocks.read((offset, len), owner, reader);
        }
        let range = offset as usize..(offset + len) as usize;
        let slice = Slice::new(self.bytes.clone(), range);
        slice.map(BlockPart::Here).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Blocks {
    /// Pages are compared with sums, if there are, from an offset on.
    ///
    /// # Errors
    /// If the file cannot be opened to be read past the kernel's cache, as was asked for.
    pub(super) fn new(
        file: FileDevice,
        image_bytes: u64,
        options: &OpenOptions,
        page_sums: Option<(Arc<[u8]>, u64)>,
    ) -> io::Result<Blocks> {
        let cache = options.cache.clone().unwrap_or_else(|| Arc::new(FileCache::new(OWN_CACHE_BYTES)));
        let direct = if options.direct { Some(file.open_direct()?) } else { None };
        let block_bytes = cache.block_bytes() as u64;
        let lasting = Lasting::default();
        let image = Arc::new(ImageBlocks { file, direct, image_bytes, block_bytes, page_sums, lasting });
        let (source, number) = (image.clone(), cache.number());
        Ok(Blocks { source, image, cache, number, groups: options.groups })
    }

    /// As [`Data::read`].
    pub(super) fn read(
        &self,
        (offset, len): (u64, u64),
        owner: &Owner,
        reader: &BlockReader,
    ) -> io::Result<BlockPart> {
        // A constant: nothing is divided.
        let block_bytes = self.cache.block_bytes() as u64;
        let index = offset / block_bytes;
        let within = (offset % block_bytes) as usize;
        let end = (within as u64).saturating_add(len).min(block_bytes) as usize;
        let block_end = |at: u64| at.min(self.image.image_bytes).div_ceil(block_bytes);
        let wanted = Wanted {
            file: self.number,
            index,
            group_end: if self.groups { block_end(owner.group_end) } else { 0 },
            owner: owner.number,
            owner_bytes: owner.bytes,
            owner_end: block_end(owner.end),
        };
        self.cache.read(&wanted, &self.source, reader).part(within..end)
    }
}

impl BlockSource for ImageBlocks {
    fn file(&self) -> BorrowedFd<'_> {
        self.file.file().as_fd()
    }

    fn direct_file(&self) -> Option<BorrowedFd<'_>> {
        self.direct.as_ref().map(AsFd::as_fd)
    }

    fn lasting(&self) -> Option<&Lasting> {
        Some(&self.lasting)
    }

    fn place(&self, index: u64) -> io::Result<(u64, usize)> {
        let start = index.checked_mul(self.block_bytes).filter(|&start| start < self.image_bytes);
        let start = start.ok_or(io::ErrorKind::UnexpectedEof)?;
        let len = (self.image_bytes - start).min(self.block_bytes) as usize;
        Ok((self.file.place(start, len)?, len))
    }

    /// Compares pages with their sums, if that was asked for, while they are in the first-level cache.
    fn check(&self, index: u64, bytes: &[u8]) -> io::Result<Vec<Damage>> {
        let Some((sums, from)) = &self.page_sums else { return Ok(Vec::new()) };
        let start = index * self.block_bytes;
        // Both are the beginnings of pages.
        let skip = usize::try_from(from.saturating_sub(start)).unwrap_or(usize::MAX);
        let Some(checked) = bytes.get(skip..) else { return Ok(Vec::new()) };
        Ok(page_sums::damages(sums, start + skip as u64, checked)
            .map(|what| {
                let page = (what.offset - start) as usize;
                Damage { within: page..page + PAGE_BYTES as usize, what }
            })
            .collect())
    }
}

fn zeros(len: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    bytes.resize(len, 0);
    Ok(bytes)
}
