//! A generation: a tree as one commit left it, for readers.

use super::journal;
use super::node::{Node, Source};
use super::posix::{Posix, Special};
use super::segment::{Blob, JOURNAL, Segment, SegmentKind};
use super::superblock::{Place, Superblock};
use super::tree::Tree;
use crate::cache::{BlockPart, BlockReader, FileCache};
use crate::device::{Device, FileDevice, RangeLock};
use crate::format::BadImage;
use crate::fs::{Access, Image, Inode, OpenError, OpenOptions, ReadError};
use crate::image::build::Mtime;
use crate::image::check::{self, Report};
use runtime::buffer::Slice;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Logs up to this size are read into memory, if nothing else is asked for; larger ones by blocks.
const AUTO_COPY_BYTES: u64 = 64 << 20;

/// How often a reader begins anew because a commit came between.
const TRIES: usize = 64;

/// A tree that never changes. Its segments stay as long as it does, or any file of it that somebody reads.
#[derive(Clone, Debug)]
pub struct Generation {
    pub(super) number: u64,
    pub(super) tree: Tree,
    /// Oldest first.
    pub(super) segments: Vec<Arc<Segment>>,
    /// Whether the oldest is packed: a tree, laid out as whoever packed it wished.
    pub(super) is_packed: bool,
}

/// What `fsck` finds.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Files of the tree.
    pub files: u64,
    /// Directories of the tree, the root included.
    pub directories: u64,
    /// Bytes of the files of the tree.
    pub content_bytes: u64,
    /// Segments, each checked to its last byte.
    pub segments: u64,
    /// What is wrong.
    pub problems: Vec<BadImage>,
    /// Problems beyond those.
    pub more_problems: u64,
}

impl Generation {
    /// Opens the newest generation of a log, or a plain image as its only generation.
    ///
    /// # Errors
    /// If the file cannot be read or is not sound.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Generation, OpenError> {
        let file = File::open(path)?;
        if is_log_file(&file)? {
            return Generation::of_log(&Arc::new(file), options).map(|(_, generation)| generation);
        }
        Ok(Generation::of_image(Image::from_file(file, options)?))
    }

    /// The only generation of a plain image.
    pub fn of_image(image: Image) -> Generation {
        let segment = Segment::whole(image);
        Generation { number: 0, tree: packed_tree(&segment), segments: vec![segment], is_packed: true }
    }

    pub(super) fn of_log(
        file: &Arc<File>,
        options: &OpenOptions,
    ) -> Result<(Superblock, Generation), OpenError> {
        let (superblock, pins) = pinned(file)?;
        let options = settle(&with_cache(options), superblock.total_bytes());
        let mut left = options.max_metadata_bytes;
        let mut segments = Vec::with_capacity(pins.len());
        for (place, pin) in superblock.segments.iter().zip(pins) {
            let options = OpenOptions { max_metadata_bytes: left, ..options.clone() };
            let segment = Segment::open(file, place, pin, &options)?;
            let sections = &segment.image.superblock().sections;
            left = left.saturating_sub(sections.iter().map(|section| section.len).sum());
            segments.push(segment);
        }
        let generation = Generation::of_segments(superblock.generation, &superblock, segments)?;
        Ok((superblock, generation))
    }

    pub(super) fn of_segments(
        number: u64,
        superblock: &Superblock,
        segments: Vec<Arc<Segment>>,
    ) -> Result<Generation, OpenError> {
        let is_packed = superblock.begins_packed();
        Ok(Generation { number, tree: build_tree(superblock, &segments)?, segments, is_packed })
    }

    /// Its number: one more with each commit; 0 of a plain image.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Files and directories, the root included.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Never: there is a root.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// How the packed segment is laid out, if there is one.
    pub(super) fn packed_image_of_log(&self) -> Option<&Image> {
        self.segments.first().filter(|_| self.is_packed).map(|segment| &*segment.image)
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// What stands at a path: names joined by `/`, one leading slash allowed; a trailing one asks for a
    /// directory.
    pub fn find(&self, path: impl AsRef<[u8]>) -> Option<Entry<'_>> {
        let path = path.as_ref();
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let (path, directory) = match path.strip_suffix(b"/") {
            Some([]) => return None,
            Some(stripped) => (stripped, true),
            None => (path, false),
        };
        let (path, node) = self.tree.get(path)?;
        (!directory || node.is_directory()).then_some(Entry { generation: self, path, node })
    }

    /// Everything, each directory before what is in it.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.tree.iter().map(|(path, node)| Entry { generation: self, path, node })
    }

    /// Whether the contents of all segments are in memory.
    pub fn is_resident(&self) -> bool {
        self.segments.iter().all(|segment| segment.image.is_resident())
    }

    /// Whether `image` is one of the segments: what lies in another one is not of this generation any more.
    pub fn has_segment(&self, image: &Arc<Image>) -> bool {
        self.segments.iter().any(|segment| Arc::ptr_eq(&segment.image, image))
    }

    /// Checks every segment to its last byte. `progress` is told the bytes read so far, of
    /// [`Generation::segment_bytes`].
    pub fn check(&self, mut progress: impl FnMut(u64)) -> Checked {
        let mut checked = Checked { segments: self.segments.len() as u64, ..Checked::default() };
        let mut before = 0;
        for segment in &self.segments {
            let Report { problems, more_problems, .. } =
                check::check(&segment.image, |bytes| progress(before + bytes));
            before += segment.image.superblock().content_bytes;
            let room = check::MAX_PROBLEMS.saturating_sub(checked.problems.len());
            checked.more_problems += more_problems + problems.len().saturating_sub(room) as u64;
            checked.problems.extend(problems.into_iter().take(room));
        }
        for entry in self.entries() {
            if entry.is_directory() {
                checked.directories += 1;
            } else if entry.is_file() {
                checked.files += 1;
                checked.content_bytes += entry.size();
            }
        }
        checked
    }

    /// Bytes of contents in all segments, those included that no file has any more.
    pub fn segment_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.image.superblock().content_bytes).sum()
    }

    /// The image of a plain one, or of a log that is packed.
    pub fn packed_image(&self) -> Option<&Image> {
        match &self.segments[..] {
            [segment] => Some(&segment.image),
            _ => None,
        }
    }
}

/// A file or directory of a generation.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    generation: &'a Generation,
    path: &'a Arc<[u8]>,
    node: &'a Node,
}

impl<'a> Entry<'a> {
    /// Whole path, without slashes at its ends; empty for the root.
    pub fn path(self) -> &'a [u8] {
        self.path
    }

    /// Last name of the path; empty for the root.
    pub fn name(self) -> &'a [u8] {
        crate::path::split_parent(self.path).map_or(&[], |(_, name)| name)
    }

    /// How many names a file has (hard links); 1 of a directory.
    pub fn name_count(self) -> usize {
        self.generation.tree.name_count(self.path)
    }

    /// All paths of a file that has several, this one included; nothing if it has one.
    pub fn names(self) -> impl Iterator<Item = &'a [u8]> {
        let tree = &self.generation.tree;
        tree.several(self.path).into_iter().flat_map(|id| tree.names(id)).map(|path| &path[..])
    }

    /// Whether it is a file.
    pub fn is_file(self) -> bool {
        self.node.is_file()
    }

    /// What it is, if it is neither file nor directory.
    pub fn special(self) -> Option<&'a Special> {
        match self.node {
            Node::Special(_, special) => Some(special),
            Node::Directory(_) | Node::Whole(_) | Node::Runs(_) => None,
        }
    }

    /// What the system keeps of it, if that is not as of all others.
    pub fn posix(self) -> Option<&'a Posix> {
        self.generation.tree.posix(self.path)
    }

    /// Whether it is a directory.
    pub fn is_directory(self) -> bool {
        self.node.is_directory()
    }

    /// Length of the contents in bytes, or of a symbolic link's target; 0 for a directory.
    pub fn size(self) -> u64 {
        self.node.size()
    }

    /// Modification time.
    pub fn mtime(self) -> Mtime {
        self.node.mtime()
    }

    /// The application area; that of a file whose contents were changed in part is empty.
    ///
    /// # Errors
    /// If it does not have its checksum.
    pub fn app(self) -> Result<&'a [u8], ReadError> {
        self.node.app()
    }

    /// What a directory holds, by name.
    pub fn children(self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let generation = self.generation;
        let children = generation.tree.children(self.path);
        children.map(move |(path, node)| Entry { generation, path, node })
    }

    /// Bytes from `offset` on, at most `len`: as many as lie together, and nothing from the end of the file
    /// on. May wait for the device.
    ///
    /// # Errors
    /// If this is a directory, or the bytes cannot be read.
    pub fn fetch(self, offset: u64, len: usize) -> Result<Slice, ReadError> {
        self.node.fetch(offset, len)
    }

    /// The image and the inode in it that the file is, if it lies whole in one segment with its time and
    /// application area.
    pub fn packed(self) -> Option<(&'a Arc<Image>, Inode<'a>)> {
        match self.node {
            Node::Whole(blob) => Some((&blob.segment.image, blob.inode())),
            Node::Directory(_) | Node::Special(..) | Node::Runs(_) => None,
        }
    }

    /// Number of pieces that the contents lie in.
    pub fn pieces(self) -> usize {
        match self.node {
            Node::Directory(_) | Node::Special(..) => 0,
            Node::Whole(blob) => blob.inode().extents().len(),
            Node::Runs(runs) => runs.map.size(),
        }
    }

    /// The file by itself, without the rest of the generation; `None` for what is no file.
    pub fn to_file(self) -> Option<OpenFile> {
        self.is_file().then(|| OpenFile { node: self.node.clone() })
    }
}

/// A file of a generation: holds the segments that it lies in, and no others.
#[derive(Clone, Debug)]
pub struct OpenFile {
    node: Node,
}

impl OpenFile {
    /// Length of the contents in bytes.
    pub fn size(&self) -> u64 {
        self.node.size()
    }

    /// As [`Entry::fetch`].
    ///
    /// # Errors
    /// If the bytes cannot be read.
    pub fn fetch(&self, offset: u64, len: usize) -> Result<Slice, ReadError> {
        self.node.fetch(offset, len)
    }

    /// As [`Entry::fetch`], by `reader`: they may be still to come.
    ///
    /// # Errors
    /// If the bytes cannot be read.
    pub fn fetch_by(&self, offset: u64, len: usize, reader: &BlockReader) -> Result<BlockPart, ReadError> {
        self.node.fetch_by(offset, len, reader)
    }

    /// A name for these very contents: where they lie, mixed into one number.
    pub fn version(&self) -> u64 {
        let mix = |hash: u64, number: u64| crate::path::hash(hash, &number.to_le_bytes());
        let blob = |hash: u64, blob: &Blob| {
            let image_id = &blob.segment.image.superblock().image_id;
            let hash = mix(crate::path::hash(hash, image_id), blob.segment.number);
            mix(hash, blob.id.index() as u64)
        };
        match &self.node {
            Node::Directory(_) | Node::Special(..) => 0,
            Node::Whole(whole) => blob(0, whole),
            Node::Runs(runs) => runs.map.iter().fold(mix(0, runs.size), |hash, (at, run)| {
                let hash = mix(mix(hash, *at), run.len);
                match &run.source {
                    Source::Stored(stored, from) => mix(blob(hash, stored), *from),
                    Source::Memory(slice) => crate::path::hash(hash, slice.bytes()),
                }
            }),
        }
    }
}

/// The newest superblock of a log, whose segments' bytes are kept from being used again.
pub(super) fn pinned(file: &Arc<File>) -> Result<(Superblock, Vec<Option<RangeLock>>), OpenError> {
    let device = FileDevice::from(Arc::clone(file));
    let mut superblock = Superblock::load(&device)?;
    for _ in 0..TRIES {
        let pins = superblock.segments.iter().map(|place| pin(file, place)).collect::<Result<Vec<_>, _>>()?;
        let again = Superblock::load(&device)?;
        if again == superblock {
            return Ok((superblock, pins));
        }
        superblock = again;
    }
    Err(std::io::Error::from(std::io::ErrorKind::WouldBlock).into())
}

/// Keeps a segment's bytes from being used again.
pub(super) fn pin(file: &Arc<File>, place: &Place) -> Result<Option<RangeLock>, OpenError> {
    match RangeLock::shared(file, place.offset, place.len.max(1)) {
        Ok(lock) => Ok(lock),
        // A file system without locks: nobody can be asked to wait.
        Err(error) if error.raw_os_error() == Some(libc::ENOLCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// One cache for all segments.
pub(super) fn with_cache(options: &OpenOptions) -> OpenOptions {
    let cache = options.cache.clone().unwrap_or_else(|| Arc::new(FileCache::new(AUTO_COPY_BYTES)));
    OpenOptions { cache: Some(cache), ..options.clone() }
}

/// How a segment is read in a log whose segments have `total` bytes.
pub(super) fn settle(options: &OpenOptions, total: u64) -> OpenOptions {
    let access = match options.access {
        Access::Auto | Access::Map if total > AUTO_COPY_BYTES => Access::Blocks,
        Access::Auto | Access::Map => Access::Copy,
        other => other,
    };
    OpenOptions { access, ..options.clone() }
}

/// The tree that a packed image is.
fn packed_tree(segment: &Arc<Segment>) -> Tree {
    let mut tree = Tree::new();
    for inode in segment.image.inodes() {
        let first = inode.first_name();
        if first.id() != inode.id() {
            // It stands before this one.
            let linked = tree.link(first.path(), inode.path().into());
            debug_assert!(matches!(linked, Ok(None)));
            continue;
        }
        let node = if inode.is_directory() {
            Node::Directory(inode.mtime())
        } else {
            Node::Whole(Blob { segment: Arc::clone(segment), id: inode.id() })
        };
        // A sound image is a tree, and directories come before what is in them.
        let inserted = tree.insert(inode.path().into(), node);
        debug_assert!(inserted.is_ok());
    }
    tree
}

fn build_tree(superblock: &Superblock, segments: &[Arc<Segment>]) -> Result<Tree, OpenError> {
    let by_number: HashMap<u64, Arc<Segment>> =
        segments.iter().map(|segment| (segment.number, Arc::clone(segment))).collect();
    let mut tree = Tree::new();
    for (place, segment) in superblock.segments.iter().zip(segments) {
        match place.kind {
            SegmentKind::Packed => tree = packed_tree(segment),
            SegmentKind::Contents => {}
            SegmentKind::Changes => {
                let journal = segment.image.lookup(JOURNAL).filter(|inode| inode.is_file());
                let Some(journal) = journal else {
                    let what = format!("segment {}", segment.number);
                    return Err(BadImage::new(place.offset, what, "a journal", "none").into());
                };
                let bytes = read_whole(journal)?;
                journal::replay(&bytes, &by_number, &mut tree).map_err(|mut bad| {
                    bad.what = format!("segment {} at {}, {}", place.number, place.offset, bad.what);
                    bad
                })?;
            }
        }
    }
    Ok(tree)
}

/// All of a journal, compared with its checksum: contents are not checked when they are read.
fn read_whole(inode: Inode<'_>) -> Result<Vec<u8>, OpenError> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < inode.size() {
        let part = inode.fetch(bytes.len() as u64, usize::MAX).map_err(|error| match error {
            ReadError::Bad(bad) => OpenError::Bad(bad),
            ReadError::Device(kind) => OpenError::Io(kind.into()),
            ReadError::IsDirectory | ReadError::NoContents | ReadError::NotResident => {
                OpenError::Io(std::io::ErrorKind::InvalidData.into())
            }
        })?;
        bytes.extend_from_slice(part.bytes());
    }
    let found = crate::format::sums::crc32c(0, &bytes);
    if found != inode.content_crc() {
        let expected = format!("CRC32C {:#010x}", inode.content_crc());
        return Err(BadImage::new(0, "journal", expected, format!("{found:#010x}")).into());
    }
    Ok(bytes)
}

/// Whether a file begins as logs do.
pub(crate) fn is_log_file(file: &File) -> std::io::Result<bool> {
    let mut first = [0; 8];
    Ok(file.read_at(&mut first, 0)? == first.len() && super::is_log(&first))
}

/// Where a device ends now.
pub(super) fn len_of(file: &Arc<File>) -> std::io::Result<u64> {
    FileDevice::from(Arc::clone(file)).len_bytes()
}
