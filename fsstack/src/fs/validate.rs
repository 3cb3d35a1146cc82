//! Reads the metadata of an image and checks it whole, so that everything after is total.
//!
//! The format is rigid, which makes the check short: paths stand in the order of the inodes without gaps, so
//! do the extents, and the runs of children tile the inode table in the order of their directories. Such a
//! table can only be a tree. The work is linear in the metadata, and so is the memory.

use super::OpenError;
use crate::device::Device;
use crate::format::BadImage;
use crate::format::extent::{self, Extent};
use crate::format::index::{self, Slot};
use crate::format::inode::{self, Kind, Record};
use crate::format::layout::BLOCK_BYTES;
use crate::format::page_sums;
use crate::format::sums::crc32c;
use crate::format::superblock::{self, SectionKind, Superblock, Unchecked};
use crate::path;
use std::sync::Arc;

/// Most extents of a file: a read walks them.
const MAX_EXTENTS: u32 = 256;

/// The metadata, decoded and sound.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) superblock: Superblock,
    pub(crate) inodes: Vec<Record>,
    pub(crate) extents: Vec<Extent>,
    pub(crate) paths: Vec<u8>,
    pub(crate) index: Vec<u8>,
    /// Of an image of version 2 or later.
    pub(crate) page_sums: Option<Arc<[u8]>>,
}

impl Metadata {
    /// Reads and checks the metadata on `device`.
    pub(crate) fn load(device: &dyn Device, max_bytes: u64) -> Result<Metadata, OpenError> {
        let superblock = load_superblock(device)?;
        let found = superblock.sections.iter().map(|section| section.len).sum();
        if found > max_bytes {
            return Err(OpenError::TooMuchMetadata { found, limit: max_bytes });
        }
        let section = |kind| read_section(device, &superblock, kind);
        let inodes = section(SectionKind::Inodes)?;
        let extents = section(SectionKind::Extents)?;
        let paths = section(SectionKind::Paths)?;
        let index = section(SectionKind::Index)?;
        let page_sums =
            if superblock.version < 2 { None } else { Some(load_page_sums(device, &superblock)?) };
        let extents = extents.as_chunks::<{ extent::BYTES }>().0.iter().map(|record| Extent::decode(record));
        let meta = Metadata {
            inodes: check_links(&superblock, decode_inodes(&superblock, &inodes)?)?,
            extents: extents.collect(),
            superblock,
            paths,
            index,
            page_sums,
        };
        meta.check_inodes()?;
        meta.check_tree()?;
        meta.check_index()?;
        Ok(meta)
    }

    /// The path of an inode whose bounds have been checked.
    pub(crate) fn path(&self, record: &Record) -> &[u8] {
        &self.paths[record.path_offset as usize..][..record.path_bytes as usize]
    }

    /// Each inode on its own: its path, extents and application area lie where they must.
    fn check_inodes(&self) -> Result<(), BadImage> {
        let (mut path_at, mut extent_at, mut content_bytes, mut aux_bytes) = (0u64, 0u64, 0u64, 0u64);
        let data_end = self.superblock.data_end();
        for (i, record) in self.inodes.iter().enumerate() {
            let bad =
                |what: &str, expected: String, found: String| Err(self.bad_inode(i, what, expected, found));
            let path_bytes = u64::from(record.path_bytes);
            if record.path_offset != path_at {
                return bad("path offset", path_at.to_string(), record.path_offset.to_string());
            }
            if path_bytes > (self.paths.len() as u64 - path_at).min(path::PATH_MAX_BYTES as u64) {
                let expected = format!("at most {} and within the path heap", path::PATH_MAX_BYTES);
                return bad("path length", expected, path_bytes.to_string());
            }
            path_at += path_bytes;

            check_record(&self.superblock, i, record)?;
            match record.kind {
                Kind::Directory => {}
                // All of it was compared with what is said of the first name.
                Kind::File if record.same_as.is_some() => continue,
                Kind::File => {
                    if u64::from(record.first) != extent_at {
                        return bad("first extent", extent_at.to_string(), record.first.to_string());
                    }
                    let rest = &self.extents[extent_at as usize..];
                    let Some(extents) = rest.get(..record.count as usize) else {
                        return bad("extents", format!("at most {}", rest.len()), record.count.to_string());
                    };
                    let sum = check_extents(&self.superblock, extent_at, extents)?;
                    if sum != record.size {
                        return bad(
                            "size",
                            format!("{sum}, the sum of its extents"),
                            record.size.to_string(),
                        );
                    }
                    extent_at += u64::from(record.count);
                }
            }
            content_bytes = content_bytes.saturating_add(record.size);
            aux_bytes = aux_bytes.saturating_add(record.aux_bytes());
        }
        // Only names of one file share anything, so all runs together fit: what reads each of them once is
        // linear in the image.
        let (all, room) = (content_bytes.saturating_add(aux_bytes), data_end - BLOCK_BYTES);
        if all > room {
            let expected = format!("at most {room}, the data region");
            return Err(BadImage::new(0, "bytes of all runs", expected, all.to_string()));
        }
        let section = |kind| self.superblock.section(kind);
        let end_of = |kind, what: &str, expected: u64, found: usize| {
            Err(BadImage::new(section(kind).offset, what, format!("{expected} in use"), found.to_string()))
        };
        if path_at != self.paths.len() as u64 {
            return end_of(SectionKind::Paths, "bytes of the path heap", path_at, self.paths.len());
        }
        if extent_at != self.extents.len() as u64 {
            return end_of(
                SectionKind::Extents,
                "records of the extent table",
                extent_at,
                self.extents.len(),
            );
        }
        if content_bytes != self.superblock.content_bytes {
            let found = self.superblock.content_bytes.to_string();
            return Err(BadImage::new(
                0,
                "superblock, bytes of all contents",
                content_bytes.to_string(),
                found,
            ));
        }
        Ok(())
    }

    /// The inodes as a tree: runs of children tile the table, names are sorted, and paths are the parent's
    /// path and a name.
    fn check_tree(&self) -> Result<(), BadImage> {
        let Some(root) = self.inodes.first() else {
            let at = self.superblock.section(SectionKind::Inodes).offset;
            return Err(BadImage::new(at, "inode table", "a root directory", "no inode"));
        };
        if root.kind != Kind::Directory || root.parent != 0 || root.path_bytes != 0 || root.name_bytes != 0 {
            let expected = "a directory with an empty path, its own parent".into();
            return Err(self.bad_inode(0, "root", expected, format!("{root:?}")));
        }
        let total = self.inodes.len() as u64;
        let mut next = 1u64;
        for (i, record) in self.inodes.iter().enumerate() {
            let bad =
                |what: &str, expected: String, found: String| Err(self.bad_inode(i, what, expected, found));
            // An inode that no run before it covers has no parent: only a run that comes later could hold it,
            // or itself.
            if i as u64 >= next {
                return bad("place", "among the children of an earlier directory".into(), "an orphan".into());
            }
            if record.kind == Kind::File {
                continue;
            }
            if u64::from(record.first) != next {
                return bad("first child", next.to_string(), record.first.to_string());
            }
            if u64::from(record.count) > total - next {
                return bad("children", format!("at most {}", total - next), record.count.to_string());
            }
            let run = record.first as usize..record.first as usize + record.count as usize;
            let mut previous: &[u8] = &[];
            for child in run {
                previous = self.check_child(i, child, previous)?;
            }
            next += u64::from(record.count);
        }
        // `next` cannot fall short: the last inode would have been an orphan.
        debug_assert_eq!(next, total);
        Ok(())
    }

    /// One child against its directory and the name before it. Gives its name.
    fn check_child(&self, directory: usize, child: usize, previous: &[u8]) -> Result<&[u8], BadImage> {
        let record = &self.inodes[child];
        let text = |bytes: &[u8]| format!("`{}`", String::from_utf8_lossy(bytes));
        let bad =
            |what: &str, expected: String, found: String| Err(self.bad_inode(child, what, expected, found));
        if record.parent as usize != directory {
            return bad("parent", directory.to_string(), record.parent.to_string());
        }
        let path = self.path(record);
        let parent_path = self.path(&self.inodes[directory]);
        let Some((found_parent, name)) = path::split_parent(path) else {
            return bad("path", format!("below {}", text(parent_path)), "the root's".into());
        };
        if found_parent != parent_path {
            return bad("path", format!("below {}", text(parent_path)), text(path));
        }
        if let Err(error) = path::check_name(name) {
            return bad(
                "name",
                "a name that can stand in a directory".into(),
                format!("{}: {error}", text(name)),
            );
        }
        if usize::from(record.name_bytes) != name.len() {
            return bad("name length", name.len().to_string(), record.name_bytes.to_string());
        }
        if name <= previous {
            return bad("name", format!("one sorted after {}", text(previous)), text(name));
        }
        Ok(name)
    }

    /// Every path is found, at its own inode, and nothing else stands in the index.
    fn check_index(&self) -> Result<(), BadImage> {
        let at = self.superblock.section(SectionKind::Index).offset;
        let slots = self.index.len() / index::SLOT_BYTES;
        if !slots.is_power_of_two() {
            return Err(BadImage::new(at, "slots of the path index", "a power of two", slots.to_string()));
        }
        let mut used = 0;
        for (i, slot) in self.index.as_chunks::<{ index::SLOT_BYTES }>().0.iter().enumerate() {
            let slot = Slot::decode(slot);
            let fine = if slot.inode == index::EMPTY {
                slot.tag == 0
            } else {
                (slot.inode as usize) < self.inodes.len()
            };
            if !fine {
                let at = at + (i * index::SLOT_BYTES) as u64;
                let expected = "an empty slot or an inode of the table";
                return Err(BadImage::new(
                    at,
                    format!("path index, slot {i}"),
                    expected,
                    format!("{slot:?}"),
                ));
            }
            used += usize::from(slot.inode != index::EMPTY);
        }
        if used != self.inodes.len() {
            let expected = format!("{}, one an inode", self.inodes.len());
            return Err(BadImage::new(at, "slots in use of the path index", expected, used.to_string()));
        }
        for (i, record) in self.inodes.iter().enumerate() {
            let path = self.path(record);
            match self.find(path) {
                Some(found) if found.index() == i => {}
                _ => {
                    let what = format!("path index, `{}`", String::from_utf8_lossy(path));
                    return Err(BadImage::new(at, what, format!("found as inode {i}"), "not there"));
                }
            }
        }
        Ok(())
    }

    fn bad_inode(&self, i: usize, what: &str, expected: String, found: String) -> BadImage {
        bad_inode(&self.superblock, i, what, expected, found)
    }
}

/// What is wrong with an inode.
pub(super) fn bad_inode(
    superblock: &Superblock,
    i: usize,
    what: &str,
    expected: String,
    found: String,
) -> BadImage {
    let at = superblock.section(SectionKind::Inodes).offset + (i * inode::BYTES) as u64;
    BadImage::new(at, format!("inode {i}, {what}"), expected, found)
}

/// The superblock of the image that a device is.
pub(crate) fn load_superblock(device: &dyn Device) -> Result<Superblock, OpenError> {
    let image_bytes = device.len_bytes()?;
    if image_bytes < 2 * BLOCK_BYTES {
        let expected = format!("at least {} bytes", 2 * BLOCK_BYTES);
        return Err(BadImage::new(image_bytes, "end of the image", expected, image_bytes.to_string()).into());
    }
    let mut block = [0; superblock::BYTES];
    device.read_at(0, &mut block)?;
    Ok(Unchecked::new(&block, 0).check(image_bytes)?)
}

/// What can be said of an inode by itself: its application area lies in the data region, its sums are as many
/// as they must be, it has no more extents than a file may have.
pub(super) fn check_record(superblock: &Superblock, i: usize, record: &Record) -> Result<(), BadImage> {
    let bad =
        |what: &str, expected: String, found: String| Err(bad_inode(superblock, i, what, expected, found));
    let data_end = superblock.data_end();
    let aux_end = record.aux_offset.checked_add(record.aux_bytes()).filter(|&end| end <= data_end);
    if record.aux_offset < BLOCK_BYTES || aux_end.is_none() {
        let found = format!("{} + {}", record.aux_offset, record.aux_bytes());
        return bad("application area", format!("within {BLOCK_BYTES} to {data_end}"), found);
    }
    let sums = match u64::from(superblock.sum_block_bytes) {
        0 => 0,
        block => record.size.div_ceil(block),
    };
    if u64::from(record.sum_count) != sums {
        return bad("number of partial sums", sums.to_string(), record.sum_count.to_string());
    }
    if record.same_as.is_some() && !superblock.has_links() {
        return bad("kind", "1 or 2: files have one name each".into(), "3".into());
    }
    if record.group_bytes != 0 && (record.kind == Kind::Directory || !superblock.has_groups()) {
        return bad("bytes of its group", "0".into(), record.group_bytes.to_string());
    }
    match record.kind {
        Kind::Directory if record.size != 0 => bad("size", "0".into(), record.size.to_string()),
        Kind::File if record.count > MAX_EXTENTS => {
            bad("extents", format!("at most {MAX_EXTENTS}"), record.count.to_string())
        }
        Kind::Directory | Kind::File => Ok(()),
    }
}

/// The extents of one file: not empty, within the data region. Gives the sum of their lengths.
pub(super) fn check_extents(
    superblock: &Superblock,
    first: u64,
    extents: &[Extent],
) -> Result<u64, BadImage> {
    let data_end = superblock.data_end();
    let mut sum = 0u64;
    for (i, extent) in extents.iter().enumerate() {
        let end = extent.offset.checked_add(extent.len).filter(|&end| end <= data_end);
        if extent.offset < BLOCK_BYTES || extent.len == 0 || end.is_none() {
            let at =
                superblock.section(SectionKind::Extents).offset + (first + i as u64) * extent::BYTES as u64;
            let found = format!("{} + {}", extent.offset, extent.len);
            let expected = format!("a run within {BLOCK_BYTES} to {data_end}, not empty");
            return Err(BadImage::new(at, format!("extent {}", first + i as u64), expected, found));
        }
        sum = sum.saturating_add(extent.len);
    }
    Ok(sum)
}

/// The sums of pages, of an image that has them.
pub(crate) fn load_page_sums(device: &dyn Device, superblock: &Superblock) -> Result<Arc<[u8]>, OpenError> {
    let table = read_section(device, superblock, SectionKind::PageSums)?;
    check_page_sums(superblock, &table)?;
    Ok(table.into())
}

/// One entry for each page that is to have one; they are whole.
fn check_page_sums(superblock: &Superblock, table: &[u8]) -> Result<(), BadImage> {
    let at = superblock.section(SectionKind::PageSums).offset;
    for (what, end) in [
        ("end of the data region", superblock.data_end()),
        ("end of the pages with sums", superblock.summed_end()),
    ] {
        if !end.is_multiple_of(page_sums::PAGE_BYTES) {
            let expected = format!("a multiple of {}", page_sums::PAGE_BYTES);
            return Err(BadImage::new(0, what, expected, end.to_string()));
        }
    }
    let (expected, found) = (page_sums::count(superblock.summed_end()), table.len() / page_sums::BYTES);
    if found as u64 != expected {
        return Err(BadImage::new(at, "sums of pages", expected.to_string(), found.to_string()));
    }
    Ok(())
}

/// Other names of files, each against the first one: that stands before it, and they say the same.
fn check_links(superblock: &Superblock, mut inodes: Vec<Record>) -> Result<Vec<Record>, BadImage> {
    for i in 0..inodes.len() {
        let Some(first) = inodes[i].same_as else { continue };
        let (before, after) = inodes.split_at_mut(i);
        let record = &mut after[0];
        let found = before.get(first as usize);
        let found = found.filter(|found| found.same_as.is_none() && found.is_same_file(record));
        let Some(found) = found else {
            let expected = "an earlier file of the same contents and attributes".into();
            return Err(bad_inode(superblock, i, "first name", expected, first.to_string()));
        };
        record.group_bytes = found.group_bytes;
    }
    Ok(inodes)
}

/// One table, if it has its checksum.
fn read_section(
    device: &dyn Device,
    superblock: &Superblock,
    kind: SectionKind,
) -> Result<Vec<u8>, OpenError> {
    let section = superblock.section(kind);
    let len =
        usize::try_from(section.len).map_err(|_| std::io::Error::from(std::io::ErrorKind::OutOfMemory))?;
    let mut bytes = vec![0; len];
    device.read_at(section.offset, &mut bytes)?;
    let found = crc32c(0, &bytes);
    if found != section.crc {
        let what = format!("{} ({} bytes)", kind.name(), section.len);
        let expected = format!("CRC32C {:#010x}", section.crc);
        return Err(BadImage::new(section.offset, what, expected, format!("{found:#010x}")).into());
    }
    Ok(bytes)
}

fn decode_inodes(superblock: &Superblock, bytes: &[u8]) -> Result<Vec<Record>, BadImage> {
    let at = superblock.section(SectionKind::Inodes).offset;
    let records = bytes.as_chunks::<{ inode::BYTES }>().0;
    let mut inodes = Vec::with_capacity(records.len());
    for (i, record) in records.iter().enumerate() {
        let record = Record::decode(record).map_err(|(field, what, expected, found)| {
            let at = at + (i * inode::BYTES + field) as u64;
            BadImage::new(at, format!("inode {i}, {what}"), expected, found.to_string())
        })?;
        inodes.push(record);
    }
    Ok(inodes)
}
