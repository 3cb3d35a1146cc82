//! Writes an image as a stream: contents first, in the order in which they are given, then the metadata, and
//! the superblock last of all.
//!
//! Equal calls give equal bytes. What is given together lies together: a file's application area and sums end
//! where its contents begin, so that one reading brings what is sent first and what follows it; of files that
//! are not looked through before they are written ([`MAX_AHEAD_BYTES`]) they follow. Small files are packed
//! cache line by cache line. The order of the calls is the layout on the disk.

use super::groups::Groups;
use crate::device::{DeviceMut, MemoryDevice};
use crate::format::extent::{self, Extent};
use crate::format::index;
use crate::format::inode::{self, Kind, Record};
use crate::format::layout::{BLOCK_BYTES, LARGE_FILE_BYTES, SMALL_ALIGN_BYTES, align_up};
use crate::format::page_sums::PageSummer;
use crate::format::sums::{ContentSums, KnownSums, crc32c};
use crate::format::superblock::{self, SUM_BLOCK_BYTES, Section, SectionKind, Superblock};
use crate::path::{self, PathError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};

pub use crate::format::mtime::Mtime;

/// Choices of who builds an image.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Larger is newer; not looked at by this crate.
    pub generation: u64,
    /// Bytes of content for each partial Internet checksum: a power of two from 64 to 65,536, or 0 for none.
    pub sum_block_bytes: u32,
}

impl Default for BuildOptions {
    /// Generation 0 and sums of 512 bytes, which cost 0.8 % of space.
    fn default() -> BuildOptions {
        BuildOptions { generation: 0, sum_block_bytes: 512 }
    }
}

/// Files from this size on are written as they are read, before their application area is known.
pub const MAX_AHEAD_BYTES: u64 = 256 << 10;

/// All that is done to so many bytes is done while they are in the second-level cache.
const PIECE_BYTES: usize = 64 << 10;

/// What is known of a file once its contents have gone by: enough for validators and a response header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Length in bytes.
    pub size: u64,
    /// CRC32C of the contents.
    pub crc: u32,
    /// Modification time as given.
    pub mtime: Mtime,
}

/// What was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Number of files.
    pub files: u64,
    /// Number of directories, the root included.
    pub directories: u64,
    /// Bytes of all contents.
    pub content_bytes: u64,
    /// Length of the image.
    pub image_bytes: u64,
}

/// Why an image could not be built. The device then holds no image.
#[derive(Debug)]
pub enum BuildError {
    /// The device refused.
    Device(io::Error),
    /// The contents of a file could not be read.
    Source {
        /// Path in the image.
        path: Vec<u8>,
        /// What the reader said.
        error: io::Error,
    },
    /// A path that cannot stand in an image.
    Path {
        /// The path as given.
        path: Vec<u8>,
        /// The rule it breaks.
        error: PathError,
    },
    /// The same path twice, or a file where a directory is needed.
    Clash {
        /// The path as given.
        path: Vec<u8>,
    },
    /// An option or a count beyond the format's limits.
    Limit(&'static str),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Device(error) => write!(f, "the image cannot be written: {error}"),
            BuildError::Source { path, error } => {
                write!(f, "`{}` cannot be read: {error}", String::from_utf8_lossy(path))
            }
            BuildError::Path { path, error } => {
                write!(f, "`{}` cannot stand in an image: {error}", String::from_utf8_lossy(path))
            }
            BuildError::Clash { path } => {
                write!(f, "`{}` is there already, or lies below a file", String::from_utf8_lossy(path))
            }
            BuildError::Limit(what) => write!(f, "beyond a limit of the format: {what}"),
        }
    }
}

impl core::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            BuildError::Device(error) | BuildError::Source { error, .. } => Some(error),
            BuildError::Path { error, .. } => Some(error),
            BuildError::Clash { .. } | BuildError::Limit(_) => None,
        }
    }
}

/// An image in the making.
///
/// ```
/// use fsstack::image::build::{BuildOptions, Builder, Mtime};
/// use fsstack::{Image, OpenOptions};
///
/// let mut builder = Builder::in_memory(&BuildOptions::default())?;
/// builder.file(b"docs/a.txt", Mtime::default(), &mut &b"hello"[..], |content| {
///     format!("Content-Length: {}\r\n", content.size).into_bytes()
/// })?;
/// let (device, _summary) = builder.finish()?;
/// let image = Image::from_bytes(device.into_bytes(), &OpenOptions::default())?;
/// let file = image.lookup(b"docs/a.txt").unwrap();
/// assert_eq!(file.read(0, 100)?, b"hello");
/// assert_eq!(file.app()?, b"Content-Length: 5\r\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Builder<D> {
    out: Writer<D>,
    generation: u64,
    sum_block_bytes: u32,
    /// By path. Byte order of whole paths is not breadth-first order; `finish` sorts that out.
    entries: BTreeMap<Vec<u8>, Entry>,
    summary: Summary,
    groups: Groups,
    has_links: bool,
    chunk: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    extent: Option<Extent>,
    /// Of another name of a file: the path by which it was given.
    same_as: Option<Vec<u8>>,
    /// A directory that only follows from the path of something below it, and may still be given.
    implied: bool,
}

/// The metadata, numbered breadth-first.
struct Tables {
    /// In the order of the inodes.
    paths: Vec<Vec<u8>>,
    inodes: Vec<u8>,
    extents: Vec<u8>,
}

impl Builder<MemoryDevice> {
    /// An image in a byte vector.
    ///
    /// # Errors
    /// If an option is out of bounds.
    pub fn in_memory(options: &BuildOptions) -> Result<Builder<MemoryDevice>, BuildError> {
        Builder::new(MemoryDevice::new(), options)
    }
}

impl<D: DeviceMut> Builder<D> {
    /// Starts an image at offset 0 of an empty device.
    ///
    /// # Errors
    /// If an option is out of bounds.
    pub fn new(device: D, options: &BuildOptions) -> Result<Builder<D>, BuildError> {
        let sum_block_bytes = options.sum_block_bytes;
        let sums_fine = sum_block_bytes.is_power_of_two() && SUM_BLOCK_BYTES.contains(&sum_block_bytes);
        if sum_block_bytes != 0 && !sums_fine {
            return Err(BuildError::Limit("partial sums are of a power of two from 64 to 65536 bytes, or 0"));
        }
        let mut builder = Builder {
            out: Writer {
                device,
                at: BLOCK_BYTES,
                buffer: Vec::with_capacity(Writer::<D>::BUFFER_BYTES),
                pages: PageSummer::default(),
            },
            generation: options.generation,
            sum_block_bytes,
            entries: BTreeMap::new(),
            summary: Summary::default(),
            groups: Groups::default(),
            has_links: false,
            chunk: vec![0; MAX_AHEAD_BYTES as usize],
        };
        builder.insert_directory(Vec::new(), true)?;
        Ok(builder)
    }

    /// Adds a directory, or gives its time and application area to one that so far follows only from the
    /// paths below it.
    ///
    /// # Errors
    /// If the path breaks a rule or stands there already, or the device refuses.
    pub fn directory(&mut self, path: &[u8], mtime: Mtime, app: &[u8]) -> Result<(), BuildError> {
        check_path(path)?;
        match self.entries.get(path) {
            Some(entry) if !entry.implied => return Err(BuildError::Clash { path: path.into() }),
            Some(_) => {}
            None => {
                self.parents(path)?;
                self.insert_directory(path.into(), false)?;
            }
        }
        let (aux_offset, aux_crc) = self.aux(app, &[])?;
        if let Some(entry) = self.entries.get_mut(path) {
            entry.implied = false;
            let record = &mut entry.record;
            (record.mtime_s, record.mtime_ns) = (mtime.seconds, nanoseconds(mtime)?);
            (record.aux_offset, record.aux_crc, record.app_bytes) = (aux_offset, aux_crc, app_bytes(app)?);
        }
        Ok(())
    }

    /// Adds a file: reads `source` to its end, then asks `app` for the application area. Directories above it
    /// that are not there yet are made, with time 0.
    ///
    /// # Errors
    /// If the path breaks a rule or stands there already, the source cannot be read, or the device refuses.
    pub fn file(
        &mut self,
        path: &[u8],
        mtime: Mtime,
        source: &mut dyn Read,
        app: impl FnOnce(&Content) -> Vec<u8>,
    ) -> Result<Content, BuildError> {
        check_path(path)?;
        if self.entries.contains_key(path) {
            return Err(BuildError::Clash { path: path.into() });
        }
        self.parents(path)?;
        nanoseconds(mtime)?;
        let mut chunk = std::mem::take(&mut self.chunk);
        let added = self.file_through(&mut chunk, path, mtime, source, app);
        self.chunk = chunk;
        added
    }

    /// As [`Builder::file`], by way of `chunk`, of a path that may be added.
    fn file_through(
        &mut self,
        chunk: &mut [u8],
        path: &[u8],
        mtime: Mtime,
        source: &mut dyn Read,
        app: impl FnOnce(&Content) -> Vec<u8>,
    ) -> Result<Content, BuildError> {
        let mut sums = ContentSums::new(self.sum_block_bytes);
        let source_error = |error| BuildError::Source { path: path.into(), error };
        let mut read_piece = |piece: &mut [u8], sums: &mut ContentSums| {
            let filled = read_full(source, piece).map_err(source_error)?;
            sums.update(&piece[..filled]);
            Ok::<_, BuildError>(filled)
        };
        let mut filled = 0;
        for piece in chunk.chunks_mut(PIECE_BYTES) {
            let read = read_piece(piece, &mut sums)?;
            filled += read;
            if read < piece.len() {
                break;
            }
        }
        if filled < chunk.len() {
            let sums = sums.into_sums();
            let app = app(&Content { size: sums.len, crc: sums.crc, mtime });
            return self.whole_file(path, mtime, [&chunk[..filled]].into_iter(), &sums, &app);
        }
        let offset = self.out.align(BLOCK_BYTES)?;
        self.out.write(chunk)?;
        while filled > 0 {
            filled = read_piece(&mut chunk[..PIECE_BYTES], &mut sums)?;
            self.out.write(&chunk[..filled])?;
        }
        let sums = sums.into_sums();
        let app = app(&Content { size: sums.len, crc: sums.crc, mtime });
        let (aux_offset, aux_crc) = self.aux(&app, &sums.prefix)?;
        self.insert_file(path, mtime, (offset, aux_offset, aux_crc), &sums, &app)
    }

    /// As [`Builder::file`], of contents in memory whose sums were made when they came: nothing is read but
    /// to be written. Sums that are not theirs make an image that `fsck` complains of.
    ///
    /// # Errors
    /// As [`Builder::file`].
    pub fn summed_file<'a>(
        &mut self,
        path: &[u8],
        mtime: Mtime,
        parts: impl Iterator<Item = &'a [u8]>,
        sums: &KnownSums,
        app: &[u8],
    ) -> Result<Content, BuildError> {
        let parts: Vec<&[u8]> = parts.collect();
        let size: usize = parts.iter().map(|part| part.len()).sum();
        if sums.block_bytes != self.sum_block_bytes || sums.len != size as u64 {
            return self.file(path, mtime, &mut &parts.concat()[..], |_| app.to_vec());
        }
        check_path(path)?;
        if self.entries.contains_key(path) {
            return Err(BuildError::Clash { path: path.into() });
        }
        self.parents(path)?;
        nanoseconds(mtime)?;
        self.whole_file(path, mtime, parts.into_iter(), sums, app)
    }

    /// Gives the file at `existing` another name, which stores no contents: a hard link.
    ///
    /// # Errors
    /// If the new path breaks a rule or stands there already, or there is no file at `existing`.
    pub fn link(&mut self, existing: &[u8], path: &[u8]) -> Result<(), BuildError> {
        check_path(path)?;
        let same_as = match self.entries.get(existing) {
            Some(Entry { same_as: Some(first), .. }) => first.clone(),
            Some(entry) if entry.record.kind == Kind::File => existing.to_vec(),
            _ => return Err(BuildError::Clash { path: existing.into() }),
        };
        if self.entries.contains_key(path) {
            return Err(BuildError::Clash { path: path.into() });
        }
        self.parents(path)?;
        let Some(Entry { record, .. }) = self.entries.get(&same_as) else {
            return Err(BuildError::Clash { path: existing.into() });
        };
        let entry = Entry { record: *record, extent: None, same_as: Some(same_as), implied: false };
        self.entries.insert(path.into(), entry);
        self.summary.files += 1;
        self.has_links = true;
        Ok(())
    }

    /// Writes application area and sums, so that they end where the contents begin, and these.
    fn whole_file<'a>(
        &mut self,
        path: &[u8],
        mtime: Mtime,
        mut parts: impl Iterator<Item = &'a [u8]>,
        sums: &KnownSums,
        app: &[u8],
    ) -> Result<Content, BuildError> {
        let align = if sums.len >= LARGE_FILE_BYTES { BLOCK_BYTES } else { SMALL_ALIGN_BYTES };
        self.out.align(8)?;
        let aux_bytes = (app.len() + 4 * sums.prefix.len()) as u64;
        let before = self.out.position().checked_add(aux_bytes).and_then(|end| align_up(end, align));
        let offset = before.ok_or(BuildError::Limit("2^64 bytes an image"))?;
        self.out.skip_to((offset - aux_bytes) & !7)?;
        let (aux_offset, aux_crc) = self.aux(app, &sums.prefix)?;
        self.out.skip_to(offset)?;
        parts.try_for_each(|part| self.out.write(part))?;
        self.insert_file(path, mtime, (offset, aux_offset, aux_crc), sums, app)
    }

    /// Says that who asks for the file at `path` will ask for what was given from it on, up to now: for
    /// readers that bring it all by one reading. Who asks for one of the others will ask for those behind it.
    /// A file that is not there, or is empty, has no such group.
    pub fn group(&mut self, path: &[u8]) {
        let first = self.entries.get(path).and_then(|entry| entry.same_as.clone());
        let path = first.as_deref().unwrap_or(path);
        let Some(Entry { record, extent: Some(extent), .. }) = self.entries.get_mut(path) else { return };
        let end = self.out.position();
        record.group_bytes = end - extent.offset;
        self.groups.add(extent.offset, end);
    }

    /// Takes in a file whose contents were written at `offset`.
    fn insert_file(
        &mut self,
        path: &[u8],
        mtime: Mtime,
        (offset, aux_offset, aux_crc): (u64, u64, u32),
        sums: &KnownSums,
        app: &[u8],
    ) -> Result<Content, BuildError> {
        let mtime_ns = nanoseconds(mtime)?;
        let KnownSums { crc: content_crc, len: size, prefix, .. } = sums;
        let (content_crc, size) = (*content_crc, *size);
        let record = Record {
            kind: Kind::File,
            name_bytes: 0,
            parent: 0,
            first: 0,
            count: u32::from(size > 0),
            size,
            mtime_s: mtime.seconds,
            mtime_ns,
            content_crc,
            aux_offset,
            app_bytes: app_bytes(app)?,
            sum_count: u32::try_from(prefix.len())
                .map_err(|_| BuildError::Limit("2^32 partial sums a file"))?,
            aux_crc,
            path_bytes: 0,
            path_offset: 0,
            group_bytes: 0,
            same_as: None,
        };
        let extent = (size > 0).then_some(Extent { offset, len: size });
        self.entries.insert(path.into(), Entry { record, extent, same_as: None, implied: false });
        self.summary.files += 1;
        self.summary.content_bytes += size;
        Ok(Content { size, crc: content_crc, mtime })
    }

    /// Writes the metadata, syncs, and only then writes the superblock and syncs again.
    ///
    /// # Errors
    /// If there are 2^32 - 1 inodes or more, or the device refuses.
    pub fn finish(mut self) -> Result<(D, Summary), BuildError> {
        let Tables { paths, inodes, extents } = self.breadth_first()?;
        let path_slices: Vec<&[u8]> = paths.iter().map(|path| &path[..]).collect();
        let (index, hash_seed, max_probe) = index::build(&path_slices);
        let heap = paths.concat();

        let mut sections = [Section::default(); 5];
        let mut id = [path::hash(1, &[]), path::hash(2, &[])];
        let tables = [
            (SectionKind::Inodes, inodes),
            (SectionKind::Extents, extents),
            (SectionKind::Paths, heap),
            (SectionKind::Index, index),
            (SectionKind::PageSums, Vec::new()),
        ];
        for (kind, mut bytes) in tables {
            let align = match kind {
                SectionKind::Inodes | SectionKind::PageSums => BLOCK_BYTES,
                _ => SMALL_ALIGN_BYTES,
            };
            let offset = self.out.align(align)?;
            if kind == SectionKind::PageSums {
                // All before it are whole pages now.
                bytes = std::mem::take(&mut self.out.pages).finish();
            }
            let bytes = &bytes[..];
            self.out.write(bytes)?;
            sections[kind as usize] = Section { offset, len: bytes.len() as u64, crc: crc32c(0, bytes) };
            id = id.map(|half| path::hash(half, bytes));
        }
        let copy_at = self.out.align(BLOCK_BYTES)?;
        let mut image_id = [0; 16];
        image_id[..8].copy_from_slice(&id[0].to_le_bytes());
        image_id[8..].copy_from_slice(&id[1].to_le_bytes());
        let superblock = Superblock {
            version: superblock::VERSION,
            features: if self.groups.is_empty() { 0 } else { superblock::GROUPS }
                | if self.has_links { superblock::LINKS } else { 0 },
            image_id,
            generation: self.generation,
            image_bytes: copy_at + BLOCK_BYTES,
            content_bytes: self.summary.content_bytes,
            hash_seed,
            sum_block_bytes: self.sum_block_bytes,
            max_probe,
            sections,
        };
        let block = superblock.encode();
        self.out.write(&block[..])?;
        self.out.flush()?;
        let mut device = self.out.device;
        device.sync().map_err(BuildError::Device)?;
        device.write_at(0, &block[..]).map_err(BuildError::Device)?;
        device.sync().map_err(BuildError::Device)?;
        self.summary.image_bytes = superblock.image_bytes;
        Ok((device, self.summary))
    }

    /// Numbers the entries breadth-first, children by name, and encodes the inode and extent tables.
    fn breadth_first(&mut self) -> Result<Tables, BuildError> {
        let count = u32::try_from(self.entries.len()).ok().filter(|&count| count < index::EMPTY);
        let count = count.ok_or(BuildError::Limit("2^32 - 1 files and directories"))?;
        // By depth, then by parent, then by name: just breadth-first order, since parents are in that order
        // themselves (paths of equal depth compare like their parents' paths, name by name).
        let mut order: Vec<(Vec<u8>, Entry)> = std::mem::take(&mut self.entries).into_iter().collect();
        let depth =
            |path: &[u8]| if path.is_empty() { 0 } else { 1 + path.iter().filter(|&&b| b == b'/').count() };
        order.sort_by(|(a, _), (b, _)| {
            let names = |path| <[u8]>::split(path, |&byte| byte == b'/');
            depth(a).cmp(&depth(b)).then_with(|| names(a).cmp(names(b)))
        });
        let numbers: BTreeMap<&[u8], u32> =
            (0..count).zip(&order).map(|(i, (path, _))| (&path[..], i)).collect();

        let mut children = vec![0u32; order.len()];
        let mut parents = vec![0u32; order.len()];
        for (i, (path, _)) in order.iter().enumerate() {
            if let Some((parent, _)) = path::split_parent(path) {
                // Every parent was inserted with, or before, what lies below it.
                let parent = numbers.get(parent).copied().ok_or(BuildError::Clash { path: path.clone() })?;
                parents[i] = parent;
                children[parent as usize] += 1;
            }
        }

        let mut inodes = vec![0; order.len() * inode::BYTES];
        let mut extents = Vec::new();
        let (mut next_child, mut path_offset) = (1u32, 0u64);
        // Of files with several names, by the path that contents were given by: the inode that comes first.
        let several: BTreeSet<&[u8]> =
            order.iter().filter_map(|(_, entry)| entry.same_as.as_deref()).collect();
        let mut first_names: BTreeMap<&[u8], (u32, u32)> = BTreeMap::new();
        for (i, (path, entry)) in order.iter().enumerate() {
            let given_by = entry.same_as.as_deref().unwrap_or(path);
            // What another is a name of was there before it, and nothing is taken away.
            let given = match &entry.same_as {
                None => entry,
                Some(given_by) => match numbers.get(&given_by[..]) {
                    Some(&number) => &order[number as usize].1,
                    None => return Err(BuildError::Clash { path: path.clone() }),
                },
            };
            let mut record = given.record;
            record.parent = parents[i];
            record.name_bytes = path::split_parent(path).map_or(0, |(_, name)| name.len() as u16);
            (record.path_offset, record.path_bytes) = (path_offset, path.len() as u32);
            path_offset += path.len() as u64;
            match record.kind {
                Kind::Directory => {
                    (record.first, record.count) = (next_child, children[i]);
                    next_child += children[i];
                }
                Kind::File if first_names.contains_key(given_by) => {
                    let (number, first_extent) = first_names[given_by];
                    (record.first, record.same_as) = (first_extent, Some(number));
                }
                Kind::File => {
                    record.first = (extents.len() / extent::BYTES) as u32;
                    if several.contains(given_by) {
                        first_names.insert(given_by, (i as u32, record.first));
                    }
                    if let Some(extent) = given.extent {
                        let group_end = self.groups.end(extent.offset).unwrap_or(0);
                        if record.group_bytes == 0 && group_end > extent.offset + extent.len {
                            record.group_bytes = group_end - extent.offset;
                        }
                        let mut bytes = [0; extent::BYTES];
                        extent.encode(&mut bytes);
                        extents.extend_from_slice(&bytes);
                    }
                }
            }
            record.encode(&mut inodes[i * inode::BYTES..][..inode::BYTES]);
        }
        let paths = order.into_iter().map(|(path, _)| path).collect();
        Ok(Tables { paths, inodes, extents })
    }

    /// Makes the directories above `path` that are not there yet.
    fn parents(&mut self, path: &[u8]) -> Result<(), BuildError> {
        let mut missing = Vec::new();
        let mut at = path;
        while let Some((parent, _)) = path::split_parent(at) {
            match self.entries.get(parent) {
                Some(entry) if entry.record.kind == Kind::Directory => break,
                Some(_) => return Err(BuildError::Clash { path: path.into() }),
                None => missing.push(parent.to_vec()),
            }
            at = parent;
        }
        missing.into_iter().rev().try_for_each(|parent| self.insert_directory(parent, true))
    }

    fn insert_directory(&mut self, path: Vec<u8>, implied: bool) -> Result<(), BuildError> {
        let record = Record {
            kind: Kind::Directory,
            name_bytes: 0,
            parent: 0,
            first: 0,
            count: 0,
            size: 0,
            mtime_s: 0,
            mtime_ns: 0,
            content_crc: 0,
            aux_offset: BLOCK_BYTES,
            app_bytes: 0,
            sum_count: 0,
            aux_crc: 0,
            path_bytes: 0,
            path_offset: 0,
            group_bytes: 0,
            same_as: None,
        };
        self.entries.insert(path, Entry { record, extent: None, same_as: None, implied });
        self.summary.directories += 1;
        Ok(())
    }

    /// Writes an application area and the sums behind it; gives offset and CRC32C.
    fn aux(&mut self, app: &[u8], prefix: &[u32]) -> Result<(u64, u32), BuildError> {
        if app.is_empty() && prefix.is_empty() {
            return Ok((BLOCK_BYTES, 0));
        }
        let offset = self.out.align(8)?;
        let mut bytes = Vec::with_capacity(app.len() + 4 * prefix.len());
        bytes.extend_from_slice(app);
        bytes.extend(prefix.iter().flat_map(|sum| sum.to_le_bytes()));
        self.out.write(&bytes)?;
        Ok((offset, crc32c(0, &bytes)))
    }
}

fn check_path(path: &[u8]) -> Result<(), BuildError> {
    path::check_path(path).map_err(|error| BuildError::Path { path: path.into(), error })
}

fn nanoseconds(mtime: Mtime) -> Result<u32, BuildError> {
    match mtime.nanoseconds {
        ns @ 0..1_000_000_000 => Ok(ns),
        _ => Err(BuildError::Limit("a modification time has less than 10^9 nanoseconds within the second")),
    }
}

fn app_bytes(app: &[u8]) -> Result<u32, BuildError> {
    u32::try_from(app.len()).map_err(|_| BuildError::Limit("4 GiB of application area a file"))
}

/// Reads until `buf` is full or the source ends; gives the number of bytes.
fn read_full(source: &mut dyn Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match source.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Gathers small writes; the device sees ascending offsets.
#[derive(Debug)]
struct Writer<D> {
    device: D,
    /// Offset in the image of the buffer's first byte.
    at: u64,
    buffer: Vec<u8>,
    pages: PageSummer,
}

impl<D: DeviceMut> Writer<D> {
    const BUFFER_BYTES: usize = 1 << 20;

    fn position(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    /// Writes zeros up to a multiple of `align` and gives that offset.
    fn align(&mut self, align: u64) -> Result<u64, BuildError> {
        let position = self.position();
        let target = align_up(position, align).ok_or(BuildError::Limit("2^64 bytes an image"))?;
        self.skip_to(target)?;
        Ok(target)
    }

    /// Writes zeros up to an offset, which is at most a block ahead.
    fn skip_to(&mut self, target: u64) -> Result<(), BuildError> {
        const ZEROS: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];
        let missing = target.saturating_sub(self.position()).min(BLOCK_BYTES);
        self.write(&ZEROS[..missing as usize])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), BuildError> {
        self.pages.update(bytes);
        if self.buffer.len() + bytes.len() > Self::BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() >= Self::BUFFER_BYTES {
            self.device.write_at(self.at, bytes).map_err(BuildError::Device)?;
            self.at += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BuildError> {
        self.device.write_at(self.at, &self.buffer).map_err(BuildError::Device)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
