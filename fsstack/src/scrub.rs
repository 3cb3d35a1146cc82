//! Looks for damage where nobody reads: all pages of an image or of a log's segments, some at a time,
//! compared with their sums.

use crate::device::{Device, FileDevice};
use crate::format::BadImage;
use crate::format::page_sums::{self, PAGE_BYTES};
use crate::format::superblock::SectionKind;
use crate::fs::{Access, Image, OpenError, OpenOptions, validate};
use crate::log::{self, generation};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Names that are told of a damaged page.
const MAX_NAMES: usize = 4;

/// Once through all pages of a file that have sums.
#[derive(Debug)]
pub struct Scrub {
    parts: Vec<Part>,
    /// Which of them, and where in it.
    part: usize,
    at: u64,
    buffer: Vec<u8>,
    /// Where in it lies what devices can write to.
    aligned: usize,
}

/// An image: the file, or a segment of it, which is kept from being used again.
#[derive(Debug)]
struct Part {
    device: FileDevice,
    /// The same past the kernel's cache, which would show what was read before, not what is on the disk.
    direct: Option<File>,
    sums: Arc<[u8]>,
    /// Where pages with sums end.
    end: u64,
}

/// What a step found.
#[derive(Debug, Default)]
pub struct Step {
    /// Bytes that were compared.
    pub bytes: u64,
    /// Pages that do not have their sums, with the files that they are of.
    pub damages: Vec<BadImage>,
}

impl Scrub {
    /// Read at a step, at most.
    pub const STEP_BYTES: u64 = 256 << 10;

    /// Begins with the image or log at `path` as it is now. An image of version 1 has no sums, and none of
    /// its pages are looked at.
    ///
    /// # Errors
    /// If it cannot be read, or what tells about its pages is not sound.
    pub fn begin(path: &Path) -> Result<Scrub, OpenError> {
        let file = Arc::new(File::open(path)?);
        let devices =
            if generation::is_log_file(&file)? { log::windows(&file)? } else { vec![FileDevice::from(file)] };
        let parts = devices.into_iter().map(Part::open).collect::<Result<Vec<_>, _>>()?;
        let buffer = vec![0; (Scrub::STEP_BYTES + PAGE_BYTES) as usize];
        let aligned = buffer.as_ptr().align_offset(PAGE_BYTES as usize).min(PAGE_BYTES as usize);
        let parts = parts.into_iter().flatten().collect();
        Ok(Scrub { parts, part: 0, at: PAGE_BYTES, buffer, aligned })
    }

    /// Compares some more pages; `None` at the end.
    ///
    /// # Errors
    /// If they cannot be read. The next step goes on behind them.
    pub fn step(&mut self) -> io::Result<Option<Step>> {
        let (part, len) = loop {
            let Some(part) = self.parts.get(self.part) else { return Ok(None) };
            let len = Scrub::STEP_BYTES.min(part.end.saturating_sub(self.at));
            if len > 0 {
                break (part, len);
            }
            (self.part, self.at) = (self.part + 1, PAGE_BYTES);
        };
        let at = self.at;
        self.at += len;
        let pages = &mut self.buffer[self.aligned..][..len as usize];
        part.read(at, pages)?;
        let mut damages: Vec<BadImage> = page_sums::damages(&part.sums, at, pages).collect();
        if !damages.is_empty() {
            part.name(&mut damages);
        }
        Ok(Some(Step { bytes: len, damages }))
    }
}

impl Part {
    /// Nothing of an image without sums.
    fn open(device: FileDevice) -> Result<Option<Part>, OpenError> {
        let superblock = validate::load_superblock(&device)?;
        if superblock.section(SectionKind::PageSums).len == 0 {
            return Ok(None);
        }
        let sums = validate::load_page_sums(&device, &superblock)?;
        let direct = device.open_direct().ok();
        Ok(Some(Part { device, direct, sums, end: superblock.summed_end() }))
    }

    fn read(&self, at: u64, pages: &mut [u8]) -> io::Result<()> {
        if let Some(direct) = &self.direct
            && direct.read_exact_at(pages, self.device.place(at, pages.len())?).is_ok()
        {
            return Ok(());
        }
        self.device.read_at(at, pages)
    }

    /// Says of each damage which files it is in, if the tables can still be read.
    fn name(&self, damages: &mut [BadImage]) {
        let options = OpenOptions { access: Access::Blocks, ..OpenOptions::default() };
        let Ok(image) = Image::from_device(self.device.window_again(), &options) else { return };
        for bad in damages {
            let page = bad.offset..bad.offset + PAGE_BYTES;
            let is_in = |start: u64, len: u64| start < page.end && page.start < start + len;
            let mut names = image.inodes().filter(|inode| {
                let (aux_offset, aux_bytes) = inode.aux_run();
                is_in(aux_offset, aux_bytes)
                    || inode.extents().iter().any(|extent| is_in(extent.offset, extent.len))
            });
            let told: Vec<String> = names
                .by_ref()
                .take(MAX_NAMES)
                .map(|inode| format!("`{}`", inode.path().escape_ascii()))
                .collect();
            let more = if names.next().is_some() { " and others" } else { "" };
            if !told.is_empty() {
                bad.what = format!("{}, of {}{more}", bad.what, told.join(", "));
            }
        }
    }
}
