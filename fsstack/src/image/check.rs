//! Checks an open image whole: everything that opening leaves to the first use, and what no use would notice.
//!
//! Opening has proved the metadata sound. Here every byte of contents, application areas and partial sums is
//! compared with its checksum, runs of bytes that two owners claim are found, and the superblock's copy is
//! compared.

use crate::format::BadImage;
use crate::format::layout::BLOCK_BYTES;
use crate::format::page_sums::{self, PAGE_BYTES};
use crate::format::sums::ContentSums;
use crate::fs::{Image, Inode, ReadError};
use std::collections::HashSet;

/// Problems beyond this many are only counted.
pub const MAX_PROBLEMS: usize = 100;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files seen.
    pub files: u64,
    /// Directories seen, the root included.
    pub directories: u64,
    /// Bytes of contents read.
    pub content_bytes: u64,
    /// What is wrong, in the order of the inodes; at most 100.
    pub problems: Vec<BadImage>,
    /// Problems found beyond those.
    pub more_problems: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty() && self.more_problems == 0
    }

    fn count(&self) -> u64 {
        self.problems.len() as u64 + self.more_problems
    }

    fn add(&mut self, problem: BadImage) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.more_problems += 1;
        }
    }
}

/// Checks the whole image. `progress` is told the bytes of contents read so far, of
/// [`crate::format::superblock::Superblock::content_bytes`], after each file.
pub fn check(image: &Image, mut progress: impl FnMut(u64)) -> Report {
    let mut report = Report::default();
    check_copy(image, &mut report);
    // (start, end, owner) of everything in the data region.
    let mut runs: Vec<(u64, u64, u32)> = Vec::new();
    // Owners of which something is wrong.
    let mut told: HashSet<u32> = HashSet::new();
    for inode in image.inodes() {
        let before = report.count();
        if inode.is_directory() {
            report.directories += 1;
        } else {
            report.files += 1;
            if inode.first_name().id() != inode.id() {
                // Read by that name, and owned by it.
                continue;
            }
            check_contents(image, inode, &mut report);
            report.content_bytes += inode.size();
            progress(report.content_bytes);
        }
        if let Err(ReadError::Bad(problem)) = inode.app() {
            report.add(problem);
        }
        let owner = inode.id().index() as u32;
        if report.count() > before {
            told.insert(owner);
        }
        runs.extend(inode.extents().iter().map(|extent| (extent.offset, extent.offset + extent.len, owner)));
        let (aux_offset, aux_bytes) = inode.aux_run();
        if aux_bytes > 0 {
            runs.push((aux_offset, aux_offset + aux_bytes, owner));
        }
    }
    check_pages(image, &runs, &told, &mut report);
    check_overlap(image, runs, &mut report);
    report
}

/// What no file's own checksums cover, or no file has told: padding, and bytes of several owners.
fn check_pages(image: &Image, runs: &[(u64, u64, u32)], told: &HashSet<u32>, report: &mut Report) {
    let Some(sums) = image.page_sums() else { return };
    let mut known: Vec<(u64, u64)> =
        runs.iter().filter(|run| told.contains(&run.2)).map(|run| (run.0, run.1)).collect();
    known.sort_unstable();
    for page in 1..=page_sums::count(image.superblock().summed_end()) {
        let (start, end) = (page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
        let found = match image.raw(start, PAGE_BYTES).map_err(ReadError::from) {
            Ok(bytes) => page_sums::check(sums, start, &bytes),
            // The image is one that verifies.
            Err(ReadError::Bad(bad)) => Err(bad),
            // What cannot be read is told with the file that it is of.
            Err(_) => continue,
        };
        if let Err(bad) = found
            && !known.iter().any(|&(from, to)| from < end && start < to)
        {
            report.add(bad);
        }
    }
}

fn check_copy(image: &Image, report: &mut Report) {
    let expected = image.superblock().encode();
    let at = image.superblock().image_bytes - BLOCK_BYTES;
    // What cannot be read is nothing.
    let found = image.raw(at, BLOCK_BYTES).unwrap_or_default();
    if let Some(i) = (0..expected.len()).find(|&i| found.get(i) != Some(&expected[i])) {
        let (expected, found) =
            (expected[i].to_string(), found.get(i).map_or("nothing".into(), u8::to_string));
        report.add(BadImage::new(at + i as u64, "copy of the superblock", expected, found));
    }
}

fn check_contents(image: &Image, inode: Inode<'_>, report: &mut Report) {
    let mut sums = ContentSums::new(image.superblock().sum_block_bytes);
    let mut offset = 0;
    while offset < inode.size() {
        match inode.fetch(offset, 1 << 20) {
            Ok(bytes) if !bytes.is_empty() => {
                sums.update(bytes.bytes());
                offset += bytes.len() as u64;
            }
            // The extents add up to the size, so the file cannot be read or was cut. What is missing is told
            // below.
            _ => break,
        }
    }
    let (crc, len, prefix) = sums.finish();
    let at = inode.extents().first().map_or(BLOCK_BYTES, |extent| extent.offset);
    let name = String::from_utf8_lossy(inode.path());
    if len != inode.size() || crc != inode.content_crc() {
        let expected = format!("{} bytes with CRC32C {:#010x}", inode.size(), inode.content_crc());
        report.add(BadImage::new(
            at,
            format!("contents of `{name}`"),
            expected,
            format!("{len} bytes with {crc:#010x}"),
        ));
        return;
    }
    // Sums that have their checksum but are not those of the contents would send wrong packets.
    if let Ok(stored) = inode.prefix_sums()
        && !stored.iter().map(|word| u32::from_le_bytes(*word)).eq(prefix.iter().copied())
    {
        let (at, _) = inode.aux_run();
        let expected = format!("{} sums of the contents", prefix.len());
        report.add(BadImage::new(at, format!("partial sums of `{name}`"), expected, "others"));
    }
}

fn check_overlap(image: &Image, mut runs: Vec<(u64, u64, u32)>, report: &mut Report) {
    runs.sort_unstable();
    // The run that reaches farthest so far.
    let mut reach: Option<(u64, u32)> = None;
    for (start, end, owner) in runs {
        if let Some((reach_end, other)) = reach
            && start < reach_end
        {
            let name = |i: u32| {
                let inode = image.inodes().nth(i as usize);
                inode.map_or_else(String::new, |inode| format!("`{}`", String::from_utf8_lossy(inode.path())))
            };
            let expected = format!("bytes of one owner, {}", name(other));
            report.add(BadImage::new(
                start,
                "data region",
                expected,
                format!("claimed by {} too", name(owner)),
            ));
        }
        if reach.is_none_or(|(reach_end, _)| end > reach_end) {
            reach = Some((end, owner));
        }
    }
}

/// Whether the last block of an image is a sound superblock of an image of that length: what remains to be
/// said of an image whose first block is damaged.
pub fn copy_is_sound(device: &dyn crate::device::Device) -> std::io::Result<bool> {
    use crate::format::superblock::{BYTES, Unchecked};
    let len = device.len_bytes()?;
    let Some(at) = len.checked_sub(BLOCK_BYTES) else { return Ok(false) };
    let mut block = [0; BYTES];
    device.read_at(at, &mut block)?;
    Ok(Unchecked::new(&block, at).check(len).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OpenOptions;
    use crate::format::sums::crc32c;
    use crate::format::superblock::SectionKind;
    use crate::image::build::{BuildOptions, Builder, Mtime};

    fn sample() -> Vec<u8> {
        let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
        for (path, len) in [("a", 700usize), ("b", 5)] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            builder.file(path.as_bytes(), Mtime::default(), &mut &bytes[..], |_| b"app".to_vec()).unwrap();
        }
        builder.finish().unwrap().0.into_bytes()
    }

    /// Changes the metadata and gives them valid checksums again.
    fn forge(mut bytes: Vec<u8>, change: impl FnOnce(&mut [u8], [u64; 5])) -> Image {
        let image = Image::from_bytes(bytes.clone(), &OpenOptions::default()).unwrap();
        let mut superblock = image.superblock().clone();
        change(&mut bytes, superblock.sections.map(|section| section.offset));
        for section in &mut superblock.sections {
            section.crc = crc32c(0, &bytes[section.offset as usize..][..section.len as usize]);
        }
        let block = superblock.encode();
        let copy_at = bytes.len() - block.len();
        bytes[..block.len()].copy_from_slice(&block[..]);
        bytes[copy_at..].copy_from_slice(&block[..]);
        Image::from_bytes(bytes, &OpenOptions::default()).unwrap()
    }

    #[test]
    fn a_fresh_image_is_clean() {
        let image = Image::from_bytes(sample(), &OpenOptions::default()).unwrap();
        let mut seen = 0;
        let report = check(&image, |bytes| seen = bytes);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.files, report.directories, report.content_bytes, seen), (2, 1, 705, 705));
    }

    #[test]
    fn a_forged_extent_that_another_file_owns_is_found() {
        // The second file now starts where the first one does.
        let image = forge(sample(), |bytes, sections| {
            let extents = sections[SectionKind::Extents as usize] as usize;
            bytes.copy_within(extents..extents + 8, extents + 16);
        });
        let report = check(&image, |_| {});
        assert!(report.problems.iter().any(|problem| problem.what == "data region"), "{report:?}");
    }

    #[test]
    fn a_damaged_copy_of_the_superblock_is_found() {
        let mut bytes = sample();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(!copy_is_sound(&crate::device::MemoryDevice::from(bytes.clone())).unwrap());
        let last = bytes.len() as u64 - 1;
        let image = Image::from_bytes(bytes, &OpenOptions::default()).unwrap();
        assert_eq!(check(&image, |_| {}).problems[0].offset, last);
        assert!(copy_is_sound(&crate::device::MemoryDevice::from(sample())).unwrap());
    }
}
