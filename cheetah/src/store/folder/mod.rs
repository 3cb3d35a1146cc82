//! A folder as it lies, with nothing packed: the first stage of a server of S1 ("Server Operating Systems",
//! section 4).
//!
//! Each request opens its file, so what changed is seen at once. A file is known by where it lies, its size
//! and its times; as long as these are the same, the blocks that were read of it are kept
//! ([`fsstack::cache::FileCache`]), and its response heads. A file that changes while it is sent is an error
//! of that response: nothing of the new contents is sent under the old head.
//!
//! ```text
//!   path ── openat2, below the folder, through no link ──► descriptor ── fstat ──► version ──► blocks, heads
//! ```
//!
//! A block that is not kept is read by the loop's [`BlockReader`], at most 256 KiB ahead of what a peer has
//! acknowledged. Opening a file, and asking for its times, wait for the device.

mod beneath;
mod version;
mod writer;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use fsstack::cache::reads::Damage;
use fsstack::cache::{BlockPart, BlockReader, BlockSource, FileCache, FileNumber};
use runtime::buffer::Shared;
use runtime::payload::Piece;
use runtime::stats::work::{Quantity, count};
use rustc_hash::FxHashMap;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Document, Dotfiles, Found, INDEX_NAME, Listed, MAX_LISTED, Store, status_of};
use crate::http::conditional::Validators;
use crate::http::content_type;
use crate::http::dictionary::DictionaryUse;
use crate::http::headers::{self, Area, Facts};
use crate::http::response::Status;
use beneath::Beneath;
use version::Version;
pub use writer::FolderWriter;

/// Files whose heads are remembered. When there are as many, all are forgotten and learned again.
const MAX_KNOWN: usize = 1 << 16;

/// Files that are being learned at once. When there are as many, the rest begins anew.
const MAX_LEARNING: usize = 1024;

/// A folder that is served.
#[derive(Debug)]
pub struct Folder {
    beneath: Beneath,
    dotfiles: Dotfiles,
    cache: Arc<FileCache>,
    known: Mutex<FxHashMap<Version, Arc<Known>>>,
    /// Of versions of which the first block is being read.
    learning: Mutex<FxHashMap<Version, FileNumber>>,
}

/// What was learned of a version of a file.
#[derive(Debug)]
struct Known {
    /// The name that the media type was guessed by.
    name: Box<[u8]>,
    number: FileNumber,
    /// As a packed file's, with the ready-made heads.
    area: Shared,
    places: Area,
    /// The file itself, while a response is sent from it.
    open: Mutex<Weak<OpenFile>>,
}

/// A file, held open while something is sent from it.
#[derive(Debug)]
struct OpenFile {
    source: Arc<dyn BlockSource>,
    version: Version,
    known: Arc<Known>,
    cache: Arc<FileCache>,
    /// It changed just now, so the kernel has it in memory: each request knows it by another number, and does
    /// not come back.
    is_fresh: bool,
}

/// A file whose bytes are those of a version, or cannot be had.
#[derive(Debug)]
struct FileOfVersion {
    file: File,
    version: Version,
    block_bytes: u64,
}

impl Folder {
    /// The folder at `path`, of which at most so many bytes are kept in memory.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path, dotfiles: Dotfiles, cache_bytes: u64) -> io::Result<Folder> {
        Folder::with_lookup(path, dotfiles, FileCache::new(cache_bytes), false)
    }

    /// As [`Folder::open`], with what was read kept in `cache`, whose policy is its own.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open_with(path: &Path, dotfiles: Dotfiles, cache: FileCache) -> io::Result<Folder> {
        Folder::with_lookup(path, dotfiles, cache, false)
    }

    /// As [`Folder::open`], without `openat2`: for who wants to see that nothing else depends on it.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open_walking(path: &Path, dotfiles: Dotfiles, cache_bytes: u64) -> io::Result<Folder> {
        Folder::with_lookup(path, dotfiles, FileCache::new(cache_bytes), true)
    }

    fn with_lookup(path: &Path, dotfiles: Dotfiles, cache: FileCache, walks: bool) -> io::Result<Folder> {
        use rustix::fs::{Mode, OFlags, open};
        let root = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Folder {
            beneath: Beneath::new(root, walks),
            dotfiles,
            cache: Arc::new(cache),
            known: Mutex::default(),
            learning: Mutex::default(),
        })
    }

    /// What became of look-ups of blocks so far.
    pub fn cache_stats(&self) -> fsstack::cache::Stats {
        self.cache.stats()
    }

    /// The file at a path below the folder; `None` if it is something else.
    fn file(&self, path: &[u8], reader: &BlockReader) -> io::Result<Option<Arc<OpenFile>>> {
        self.file_of(self.beneath.open(path)?, path, reader)
    }

    fn file_of(
        &self,
        opened: OwnedFd,
        path: &[u8],
        reader: &BlockReader,
    ) -> io::Result<Option<Arc<OpenFile>>> {
        count(Quantity::OtherCalls, 2);
        let stat = rustix::fs::fstat(&opened)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let version = Version::of(&stat);
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let found = self.known().get(&version).cloned();
        let known = found.filter(|known| *known.name == *name);
        if let Some(open) = known.as_ref().and_then(|known| known.open().upgrade()) {
            return Ok(Some(open));
        }
        let block_bytes = self.cache.block_bytes() as u64;
        let source: Arc<dyn BlockSource> =
            Arc::new(FileOfVersion { file: File::from(opened), version, block_bytes });
        let is_fresh = !version.is_settled();
        let known = match known {
            Some(known) => known,
            None if is_fresh => self.learn(&source, version, name, &BlockReader::in_place())?,
            None => self.learn(&source, version, name, reader)?,
        };
        let open = Arc::new(OpenFile { source, version, known, cache: Arc::clone(&self.cache), is_fresh });
        *open.known.open() = Arc::downgrade(&open);
        Ok(Some(open))
    }

    fn learn(
        &self,
        source: &Arc<dyn BlockSource>,
        version: Version,
        name: &[u8],
        reader: &BlockReader,
    ) -> io::Result<Arc<Known>> {
        let number = self.number(version);
        // Whether it is text is told by its first block. Looked at only where it matters.
        let coded = content_type::coding(name);
        let is_text = if coded.is_none() && content_type::text_matters(name) {
            let len = version.size.min(self.cache.block_bytes() as u64) as usize;
            let wanted = version.block(number, 0, self.cache.block_bytes());
            let block = self.cache.read(&wanted, source, reader).part(0..len)?.here()?;
            Some(content_type::begins_like_text(block.bytes(), block.len() as u64 == version.size))
        } else {
            None
        };
        let area = Shared::from(headers::encode(&Facts {
            content_type: content_type::content_type(coded.as_ref().map_or(name, |(_, stem)| stem), is_text)
                .as_bytes(),
            coding: coded.as_ref().map(|(coding, _)| *coding),
            varies: false,
            dictionary: DictionaryUse::None,
            size: version.size,
            validators: Validators {
                etag: version.etag().as_bytes(),
                last_modified: version.last_modified(),
            },
        }));
        self.learning.lock().unwrap_or_else(PoisonError::into_inner).remove(&version);
        let places = Area::decode(&area, version.size).ok_or(io::ErrorKind::InvalidData)?;
        let known = Arc::new(Known { name: name.into(), number, area, places, open: Mutex::default() });
        // Of a file that changed just now, another change may leave the times as they are: it is learned anew
        // each time.
        if version.is_settled() {
            let mut all = self.known();
            if all.len() >= MAX_KNOWN {
                all.clear();
            }
            all.insert(version, Arc::clone(&known));
        }
        Ok(known)
    }

    /// What the cache knows the version by. Of one that is being learned the same as before, or what is read
    /// for that would be read again.
    fn number(&self, version: Version) -> FileNumber {
        if !version.is_settled() {
            return self.cache.number();
        }
        let mut learning = self.learning.lock().unwrap_or_else(PoisonError::into_inner);
        if learning.len() >= MAX_LEARNING {
            learning.clear();
        }
        *learning.entry(version).or_insert_with(|| self.cache.number())
    }

    fn known(&self) -> MutexGuard<'_, FxHashMap<Version, Arc<Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, path: &[u8], reader: &BlockReader) -> io::Result<Found> {
        let below = path.strip_prefix(b"/").unwrap_or(path);
        let is_unfinished =
            || below.split(|&byte| byte == b'/').any(|name| name.starts_with(writer::UNFINISHED));
        if !self.dotfiles.allow(Path::new(std::ffi::OsStr::from_bytes(below))) || is_unfinished() {
            return Ok(Found::Nothing);
        }
        if below.is_empty() || below.ends_with(b"/") {
            let index = self.file(&[below, INDEX_NAME].concat(), reader)?;
            return Ok(index.map_or(Found::Nothing, |file| Found::File(file)));
        }
        if let Some(file) = self.file(below, reader)? {
            return Ok(Found::File(file));
        }
        // Most likely a folder: it is one with a slash behind it if it has an index.
        let index = self.file(&[below, b"/", INDEX_NAME].concat(), reader)?;
        Ok(if index.is_some() { Found::Directory } else { Found::Nothing })
    }
}

impl Store for Folder {
    fn list(&self, path: &[u8]) -> io::Result<Option<Vec<Listed>>> {
        let below = path.strip_prefix(b"/").unwrap_or(path);
        self.entries(below).or_else(|error| match Errno::from_io_error(&error) {
            Some(
                Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG | Errno::INVAL,
            ) => Ok(None),
            _ => Err(error),
        })
    }

    fn look_up(&self, path: &[u8], reader: &BlockReader) -> Found {
        match self.look(path, reader) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && reader.is_blocked() => Found::Later,
            Err(error) => match Errno::from_io_error(&error) {
                // Not there, behind something that is no folder, a link, or nothing that can be read like a
                // file.
                Some(
                    Errno::NOENT
                    | Errno::NOTDIR
                    | Errno::LOOP
                    | Errno::XDEV
                    | Errno::NAMETOOLONG
                    | Errno::NXIO
                    | Errno::INVAL,
                ) => Found::Nothing,
                _ => {
                    let path = String::from_utf8_lossy(path);
                    tracing::warn!("{path} cannot be opened: {error}");
                    Found::Failed(status_of(&error))
                }
            },
        }
    }
}

impl Folder {
    /// What a folder holds that could be asked for: files and folders, through no link.
    fn entries(&self, below: &[u8]) -> io::Result<Option<Vec<Listed>>> {
        use rustix::fs::{AtFlags, Dir, statat};
        let below = below.strip_suffix(b"/").unwrap_or(below);
        if !self.dotfiles.allow(Path::new(std::ffi::OsStr::from_bytes(below))) {
            return Ok(None);
        }
        let folder = self.beneath.open(below)?;
        count(Quantity::OtherCalls, 2);
        if FileType::from_raw_mode(rustix::fs::fstat(&folder)?.st_mode) != FileType::Directory {
            return Ok(None);
        }
        let mut listed = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let path = [below, b"/", name].concat();
            let path = path.strip_prefix(b"/").unwrap_or(&path);
            if matches!(name, b"." | b"..")
                || name.starts_with(writer::UNFINISHED)
                || !self.dotfiles.allow(Path::new(std::ffi::OsStr::from_bytes(path)))
            {
                continue;
            }
            count(Quantity::OtherCalls, 1);
            // It may be gone meanwhile.
            let Ok(stat) = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let is_directory = match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => false,
                FileType::Directory => true,
                _ => continue,
            };
            let (size, modified) = (stat.st_size as u64, u64::try_from(stat.st_mtime).unwrap_or(0));
            listed.push(Listed { name: name.to_vec(), is_directory, size, modified });
            if listed.len() > MAX_LISTED {
                break;
            }
        }
        Ok(Some(listed))
    }
}

impl Known {
    fn open(&self) -> MutexGuard<'_, Weak<OpenFile>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Document for OpenFile {
    fn facts(&self) -> Facts<'_> {
        let Known { area, places, .. } = &*self.known;
        places.facts(self.version.size, |range| &area[range])
    }

    fn ready_head(&self, status: Status) -> Option<Piece<'_>> {
        let Known { area, places, .. } = &*self.known;
        places.head(status).map(|range| Piece { hold: Some(area), ..Piece::new(&area[range]) })
    }

    fn ready_block(&self, status: Status) -> Option<Piece<'_>> {
        let Known { area, places, .. } = &*self.known;
        places.block(status).map(|range| Piece { hold: Some(area), ..Piece::new(&area[range]) })
    }

    fn is_resident(&self) -> bool {
        false
    }

    fn resident(&self, _offset: u64, _len: usize) -> Option<Piece<'_>> {
        None
    }

    fn read(&self, offset: u64, reader: &BlockReader) -> io::Result<BlockPart> {
        let block_bytes = self.cache.block_bytes() as u64;
        let index = offset / block_bytes;
        let end = (self.version.size - index * block_bytes).min(block_bytes);
        let range = (offset % block_bytes) as usize..end as usize;
        let wanted = self.version.block(self.known.number, index, self.cache.block_bytes());
        let in_place = BlockReader::in_place();
        let reader = if self.is_fresh { &in_place } else { reader };
        self.cache.read(&wanted, &self.source, reader).part(range)
    }
}

impl BlockSource for FileOfVersion {
    fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn place(&self, index: u64) -> io::Result<(u64, usize)> {
        let start = index.checked_mul(self.block_bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok((start, self.version.size.saturating_sub(start).min(self.block_bytes) as usize))
    }

    /// Looked at after the reading, so nothing was written before that this does not tell.
    fn check(&self, _index: u64, _bytes: &[u8]) -> io::Result<Vec<Damage>> {
        count(Quantity::OtherCalls, 1);
        if !self.version.is_unchanged(&rustix::fs::fstat(&self.file)?) {
            return Err(io::Error::other("it changed while it was sent"));
        }
        Ok(Vec::new())
    }
}
