//! From a folder to an image that can be served: which files, their media types, validators and response
//! heads.

use std::cell::RefCell;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fsstack::device::DeviceMut;
use fsstack::image::build::{Mtime, Summary};
use fsstack::log::Generation;
use fsstack::{BuildError, BuildOptions, Builder, OpenOptions};
use rustc_hash::{FxHashMap, FxHashSet};
use walkdir::WalkDir;

use super::compress;
use super::layout::{self, LayoutName};
use crate::http::coding::Coding;
use crate::http::conditional::Validators;
use crate::http::content_type::{self, TextCheck};
use crate::http::dictionary::DictionaryUse;
use crate::http::head_facts;
use crate::http::headers::{self, Facts};
use crate::store::Dotfiles;

/// A file or folder that will go into an image.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where it lies.
    pub source: PathBuf,
    /// Its path in the image.
    pub path: Vec<u8>,
    /// Whether it is a folder.
    pub is_directory: bool,
    /// Its size in bytes when it was found.
    pub size: u64,
    mtime: Mtime,
    /// When contents or attributes last changed, in seconds and nanoseconds since 1970.
    changed: (i64, i64),
    /// Device and inode: names of one file have the same. So may two files, one after the other.
    identity: (u64, u64),
    /// Whether it was reached by a link, or has several names: only then may another item be the same file.
    has_other_ways: bool,
}

impl Item {
    /// Whether both are names of one file. The inode of one that was replaced while they were found another
    /// may have.
    fn is_one_with(&self, other: &Item) -> bool {
        let facts = |item: &Item| (item.identity, item.size, item.mtime, item.changed);
        facts(self) == facts(other) && (self.has_other_ways || other.has_other_ways)
    }
}

/// What a folder holds, in a stable order, and what of it was left out.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Everything that goes into the image.
    pub items: Vec<Item>,
    /// Path and reason of everything that does not.
    pub left_out: Vec<(PathBuf, &'static str)>,
}

impl Tree {
    /// Bytes of all files.
    pub fn content_bytes(&self) -> u64 {
        self.items.iter().map(|item| item.size).sum()
    }

    /// A hash of all that an image of it depends on, as far as it can be told without reading the files: as
    /// long as it is the same, so is the image. `None` if something changed within two seconds of `now`: a
    /// later change might not show.
    pub fn fingerprint(&self, options: &PackOptions, now: SystemTime) -> Option<String> {
        let now = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        let mut hash = blake3::Hasher::new();
        hash.update(format!("{} {options:?}", env!("CARGO_PKG_VERSION")).as_bytes());
        for item in &self.items {
            if item.changed.0 >= now - 2 {
                return None;
            }
            let Item { path, is_directory, size, mtime, changed, .. } = item;
            hash.update(format!("{path:?} {is_directory} {size} {mtime:?} {changed:?}\n").as_bytes());
        }
        Some(hash.finalize().to_hex().to_string())
    }

    /// The files, and their places in [`Tree::items`].
    pub fn files(&self) -> impl Iterator<Item = (usize, &Item)> {
        self.items.iter().enumerate().filter(|(_, item)| !item.is_directory)
    }

    /// Number of files.
    pub fn file_count(&self) -> usize {
        self.files().count()
    }

    /// The places of files in [`Tree::items`], by their paths.
    pub fn places(&self) -> FxHashMap<&[u8], usize> {
        self.files().map(|(place, item)| (&item.path[..], place)).collect()
    }
}

/// Why a folder could not be packed.
#[derive(Debug)]
pub enum PackError {
    /// The folder cannot be walked.
    Walk(walkdir::Error),
    /// A file cannot be read, or the folder not found.
    Read(PathBuf, io::Error),
    /// The image cannot be built.
    Build(BuildError),
    /// What the layout depends on cannot be read.
    Layout(io::Error),
    /// The image before cannot be read.
    Previous(PathBuf, String),
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackError::Walk(error) => error.fmt(f),
            PackError::Read(path, error) => write!(f, "{}: {error}", path.display()),
            PackError::Build(error) => error.fmt(f),
            PackError::Layout(error) => write!(f, "what lies together cannot be told: {error}"),
            PackError::Previous(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl core::error::Error for PackError {}

impl From<BuildError> for PackError {
    fn from(error: BuildError) -> PackError {
        PackError::Build(error)
    }
}

/// Walks `root`. Symbolic links are followed as long as they stay inside it, and lead to nothing that would
/// not be seen by its own name; what is neither file nor folder is left out.
///
/// # Errors
/// If `root` cannot be read. What cannot be below it is left out.
pub fn walk(root: &Path, dotfiles: Dotfiles) -> Result<Tree, PackError> {
    let home = fs::canonicalize(root).map_err(|error| PackError::Read(root.into(), error))?;
    let mut tree = Tree::default();
    // How deep the folder is that was reached by a link, while what is in it is walked.
    let mut linked_folder: Option<usize> = None;
    let mut walker = WalkDir::new(root).min_depth(1).follow_links(true).sort_by_file_name().into_iter();
    while let Some(found) = walker.next() {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let Some(path) = error.path().map(Path::to_path_buf) else {
                    // Looking where a link leads, whose name is not told.
                    tree.left_out.push((root.into(), "a link in it leads to a folder that cannot be opened"));
                    continue;
                };
                let is_link = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink());
                match error.io_error() {
                    None => tree.left_out.push((path, "a link that leads back up")),
                    Some(_) if is_link => tree.left_out.push((path, "a link that leads nowhere")),
                    Some(_) if path != root => tree.left_out.push((path, "it cannot be read")),
                    Some(_) => return Err(PackError::Walk(error)),
                }
                continue;
            }
        };
        let source = found.path();
        let is_directory = found.file_type().is_dir();
        if let Some(reason) = unfit(&found, root, &home, dotfiles) {
            tree.left_out.push((source.into(), reason));
            if is_directory {
                walker.skip_current_dir();
            }
            continue;
        }
        if !is_directory && !found.file_type().is_file() {
            tree.left_out.push((source.into(), "neither a file nor a folder"));
            continue;
        }
        linked_folder = linked_folder.filter(|&depth| found.depth() > depth);
        if is_directory && found.path_is_symlink() {
            linked_folder = linked_folder.or(Some(found.depth()));
        }
        let meta = found.metadata().map_err(PackError::Walk)?;
        let path = source.strip_prefix(root).unwrap_or(source).as_os_str().as_bytes().to_vec();
        tree.items.push(Item {
            source: source.into(),
            path,
            is_directory,
            size: if is_directory { 0 } else { meta.len() },
            mtime: mtime(meta.modified().unwrap_or(UNIX_EPOCH)),
            changed: (meta.ctime(), meta.ctime_nsec()),
            identity: (meta.dev(), meta.ino()),
            has_other_ways: meta.nlink() > 1 || found.path_is_symlink() || linked_folder.is_some(),
        });
    }
    Ok(tree)
}

/// Why what was found is not for everyone, if it is not.
fn unfit(found: &walkdir::DirEntry, root: &Path, home: &Path, dotfiles: Dotfiles) -> Option<&'static str> {
    if !dotfiles.allow(found.path().strip_prefix(root).unwrap_or(found.path())) {
        return Some("its name begins with a dot (`--dotfiles` takes it in)");
    }
    if !found.path_is_symlink() {
        return None;
    }
    let target = fs::canonicalize(found.path()).ok();
    match target.as_deref().map(|target| target.strip_prefix(home)) {
        Some(Ok(inside)) if dotfiles.allow(inside) => None,
        Some(Ok(_)) => Some("a link to what has a name with a dot in front (`--dotfiles` takes it in)"),
        _ => Some("a link out of the folder"),
    }
}

/// How a folder is packed.
#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// Of the image.
    pub build: BuildOptions,
    /// Put a shorter version beside each file that has one, in Brotli, Zstandard and gzip, unless there is
    /// one in the folder.
    pub compress: bool,
    /// Offer what gets shorter by a coding as the dictionary of its next version (RFC 9842).
    pub dictionaries: bool,
    /// Then put beside it what has changed since this image, for clients that have its contents there.
    pub previous: Option<PathBuf>,
    /// What lies together.
    pub layout: LayoutName,
    /// Store what heads say in place of the heads ([`head_facts`]).
    pub short_heads: bool,
}

/// Packs `tree` into an image on `device`, telling `progress` of every file: its path and the bytes it had.
/// Files that lie beside others with the suffix of a coding are these in that coding. A file that has several
/// names is packed once, and gets other names where its heads would be the same.
///
/// # Errors
/// If a file cannot be read or the device refuses.
pub fn pack<D: DeviceMut>(
    tree: &Tree,
    device: D,
    options: &PackOptions,
    mut progress: impl FnMut(&[u8], u64),
) -> Result<(D, Summary), PackError> {
    let mut builder = Builder::new(device, &options.build)?;
    let now = mtime(SystemTime::now());
    let files = Files::of(tree);
    let previous = options.previous.as_deref().map(Previous::open).transpose()?;
    // Of files that are there in a coding, too: theirs is the same. A name comes before those that it begins.
    let mut types: FxHashMap<&[u8], String> = FxHashMap::default();
    // Files by which others are named, with what was made of them in codings.
    let mut packed: FxHashMap<(u64, u64), FirstName<'_>> = FxHashMap::default();
    let groups = options.layout.layout().groups(tree).map_err(PackError::Layout)?;
    for placed in layout::order(tree, groups) {
        let item = &tree.items[placed.item];
        if item.is_directory {
            builder.directory(&item.path, item.mtime, &[])?;
            continue;
        }
        let is_alone = files.is_alone(&item.path) && !(options.dictionaries && is_fit(item));
        let first = packed.get(&item.identity).filter(|first| is_alone && first.item.is_one_with(item));
        if let Some(FirstName { item: Item { path: first, .. }, made }) = first
            && is_typed_alike(first, &item.path)
        {
            builder.link(first, &item.path)?;
            for suffix in made.iter().map(|coding| coding.suffix().as_bytes()) {
                builder.link(&[first, suffix].concat(), &[&item.path, suffix].concat())?;
            }
            progress(&item.path, item.size);
            if let Some(first) = placed.ends_group_of {
                builder.group(&tree.items[first].path);
            }
            continue;
        }
        let mut file = match File::open(&item.source) {
            Ok(file) => file,
            // Gone since it was found, or another's: the rest can be served.
            Err(error) => {
                tracing::warn!("{} is left out: {error}", item.source.display());
                continue;
            }
        };
        // A modification in the future must not be told (RFC 9110 section 8.8.2.1).
        let mtime = item.mtime.min(now);
        let mut kind = Kind { has_short_heads: options.short_heads, ..Kind::by_name(&item.path) };
        let codings = if options.compress { files.codings_to_make(item) } else { Vec::new() };
        let is_dictionary = options.dictionaries && is_fit(item);
        if let Some(plain) = files.without_coding(&item.path) {
            kind = Kind { content_type: types.get(plain).cloned(), varies: true, ..kind };
            add_as(&mut builder, &item.path, mtime, file, &kind)?;
        } else if codings.is_empty() && !is_dictionary {
            kind.varies = files.are_beside(&item.path);
            let content_type = add_as(&mut builder, &item.path, mtime, file, &kind)?;
            if is_alone {
                packed.insert(item.identity, FirstName { item, made: Vec::new() });
            }
            if kind.varies {
                types.insert(&item.path, content_type);
            }
        } else {
            let mut contents = Vec::new();
            file.read_to_end(&mut contents).map_err(|error| PackError::Read(item.source.clone(), error))?;
            let mut made = compress::shorter(&contents, codings.into_iter());
            let are_there = [Coding::Dcz, Coding::Dcb].iter().any(|coding| files.has(&item.path, *coding));
            if is_dictionary && !are_there {
                kind.dictionary = DictionaryUse::Offered;
                let old = match &previous {
                    Some(previous) => previous.contents(&item.path)?,
                    None => None,
                };
                let deltas = old.map_or(Vec::new(), |old| compress::deltas(&contents, &old, &made));
                if !deltas.is_empty() {
                    kind.dictionary = DictionaryUse::Delta;
                    made.extend(deltas);
                }
            }
            kind.varies = !made.is_empty() || files.are_beside(&item.path);
            let content_type = add_as(&mut builder, &item.path, mtime, &contents[..], &kind)?;
            if is_alone {
                let made = made.iter().map(|(coding, _)| *coding).collect();
                packed.insert(item.identity, FirstName { item, made });
            }
            for (coding, bytes) in made {
                let path = [&item.path, coding.suffix().as_bytes()].concat();
                let (content_type, coding) = (Some(content_type.clone()), Some(coding));
                let kind = Kind { content_type, coding, varies: true, ..kind };
                add_as(&mut builder, &path, mtime, &bytes[..], &kind)?;
            }
            types.insert(&item.path, content_type);
        }
        progress(&item.path, item.size);
        if let Some(first) = placed.ends_group_of {
            builder.group(&tree.items[first].path);
        }
    }
    Ok(builder.finish()?)
}

/// A file that was packed and may have other names.
struct FirstName<'a> {
    item: &'a Item,
    /// The codings that it was put beside itself in.
    made: Vec<Coding>,
}

/// The image that clients have files of.
struct Previous<'a> {
    path: &'a Path,
    image: Generation,
}

impl<'a> Previous<'a> {
    fn open(path: &'a Path) -> Result<Previous<'a>, PackError> {
        let image = Generation::open(path, &OpenOptions::default());
        let image = image.map_err(|error| PackError::Previous(path.into(), error.to_string()))?;
        Ok(Previous { path, image })
    }

    /// What a file held, if it was there and is not too long.
    fn contents(&self, path: &[u8]) -> Result<Option<Vec<u8>>, PackError> {
        let file = self.image.find(path).filter(|file| file.is_file() && file.size() <= compress::MAX_BYTES);
        let Some(file) = file else { return Ok(None) };
        let mut contents = Vec::new();
        while (contents.len() as u64) < file.size() {
            let block = file.fetch(contents.len() as u64, usize::MAX);
            let block = block.map_err(|error| PackError::Previous(self.path.into(), error.to_string()))?;
            contents.extend_from_slice(block.bytes());
        }
        Ok(Some(contents))
    }
}

/// Whether a file may get shorter by a coding.
fn is_fit(item: &Item) -> bool {
    (compress::MIN_BYTES..=compress::MAX_BYTES).contains(&item.size)
        && content_type::is_worth_coding(name(&item.path))
}

/// The files of a tree by their paths: which of them are others in a coding.
struct Files<'a>(FxHashSet<&'a [u8]>);

impl<'a> Files<'a> {
    fn of(tree: &'a Tree) -> Files<'a> {
        Files(tree.files().map(|(_, item)| &item.path[..]).collect())
    }

    fn has(&self, path: &[u8], coding: Coding) -> bool {
        self.0.contains(&[path, coding.suffix().as_bytes()].concat()[..])
    }

    /// Whether the file at `path` is there in a coding, too.
    fn are_beside(&self, path: &[u8]) -> bool {
        content_type::coding(name(path)).is_none()
            && Coding::ALL
                .into_iter()
                .any(|coding| self.has(path, coding) && content_type::is_worth_coding(name(path)))
    }

    /// Whether the file at `path` is in no coding, and none is it in one.
    fn is_alone(&self, path: &[u8]) -> bool {
        content_type::coding(name(path)).is_none()
            && !Coding::ALL.into_iter().any(|coding| self.has(path, coding))
    }

    /// The path of the file that the one at `path` is in a coding.
    fn without_coding(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let (coding, _) = content_type::coding(name(path))?;
        path.strip_suffix(coding.suffix().as_bytes()).filter(|plain| self.0.contains(plain))
    }

    /// The codings that a file lacks and may get shorter by.
    fn codings_to_make(&self, item: &Item) -> Vec<Coding> {
        compress::MADE.into_iter().filter(|&coding| is_fit(item) && !self.has(&item.path, coding)).collect()
    }
}

/// What heads say of a file beside what its bytes tell.
struct Kind {
    /// By name and contents, unless it is known.
    content_type: Option<String>,
    coding: Option<Coding>,
    varies: bool,
    dictionary: DictionaryUse,
    /// Whether the heads are left to be made.
    has_short_heads: bool,
}

impl Kind {
    fn by_name(path: &[u8]) -> Kind {
        let coded = content_type::coding(name(path));
        let content_type = coded.as_ref().map(|(_, stem)| content_type::content_type(stem, None));
        Kind {
            content_type,
            coding: coded.map(|(coding, _)| coding),
            varies: false,
            dictionary: DictionaryUse::None,
            has_short_heads: false,
        }
    }
}

pub(super) fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&b| b == b'/').next().unwrap_or_default()
}

/// Whether a file has the same media type by either of two paths, whatever it holds.
pub(super) fn is_typed_alike(one: &[u8], other: &[u8]) -> bool {
    let (one, other) = (name(one), name(other));
    let of_text = [None, Some(true), Some(false)];
    let by = content_type::content_type;
    of_text.into_iter().all(|is_text| by(one, is_text) == by(other, is_text))
        && content_type::coding(one).is_none()
        && content_type::coding(other).is_none()
}

/// Adds one file with its ready-made heads.
///
/// # Errors
/// If it cannot be read, or the builder refuses it.
pub fn add<D: DeviceMut>(
    builder: &mut Builder<D>,
    path: &[u8],
    mtime: Mtime,
    contents: impl Read,
) -> Result<(), PackError> {
    add_as(builder, path, mtime, contents, &Kind::by_name(path)).map(drop)
}

/// As [`add`], as what it is said to be; gives its media type.
fn add_as<D: DeviceMut>(
    builder: &mut Builder<D>,
    path: &[u8],
    mtime: Mtime,
    contents: impl Read,
    kind: &Kind,
) -> Result<String, PackError> {
    // The area is made after the contents have gone by; the two share what was observed.
    let seen = RefCell::new(Seen::default());
    let mut reader = Observed { inner: contents, seen: &seen };
    let mut content_type = String::new();
    builder.file(path, mtime, &mut reader, |content| {
        let seen = seen.borrow();
        content_type = kind.content_type.clone().unwrap_or_else(|| seen.content_type(path));
        seen.area(kind, &content_type, content.size, mtime)
    })?;
    Ok(content_type)
}

/// A time as images keep it.
pub fn mtime(time: SystemTime) -> Mtime {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Mtime {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: since.subsec_nanos(),
        },
        // Before 1970: nobody needs the nanoseconds.
        Err(before) => Mtime {
            seconds: i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
            nanoseconds: 0,
        },
    }
}

/// A strong entity tag: half of the hash and a bit more, so that it takes some 2^80 tries to make two
/// contents with one tag.
pub(super) fn etag(hash: &blake3::Hash) -> String {
    format!("\"{}\"", &hash.to_hex()[..ETAG_DIGITS])
}

/// Whether a tag is of that kind.
pub(super) fn is_etag_of_hash(tag: &[u8]) -> bool {
    let digits = tag.strip_prefix(b"\"").and_then(|tag| tag.strip_suffix(b"\"")).unwrap_or_default();
    digits.len() == ETAG_DIGITS && digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// In hexadecimal: 20 bytes.
const ETAG_DIGITS: usize = 40;

/// What was learned of contents that went by.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    hash: blake3::Hasher,
    text: TextCheck,
}

impl Seen {
    /// Takes the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.text.push(bytes);
    }

    /// The media type of the file at `path` whose contents these were.
    fn content_type(&self, path: &[u8]) -> String {
        content_type::content_type(name(path), Some(self.text.is_whole()))
    }

    /// The application area of the file that comes alone to `path`, of whose contents nothing but this is
    /// known.
    pub(super) fn area_at(&self, path: &[u8], size: u64, mtime: Mtime) -> Vec<u8> {
        let kind = Kind::by_name(path);
        let content_type = kind.content_type.clone().unwrap_or_else(|| self.content_type(path));
        self.area(&kind, &content_type, size, mtime)
    }

    /// The application area of the file whose contents these were.
    fn area(&self, kind: &Kind, content_type: &str, size: u64, mtime: Mtime) -> Vec<u8> {
        let etag = etag(&self.hash.finalize());
        let last_modified = u64::try_from(mtime.seconds).unwrap_or(0);
        let facts = Facts {
            content_type: content_type.as_bytes(),
            coding: kind.coding,
            varies: kind.varies,
            dictionary: kind.dictionary,
            size,
            validators: Validators { etag: etag.as_bytes(), last_modified },
        };
        let short = if kind.has_short_heads { head_facts::encode(&facts) } else { None };
        short.unwrap_or_else(|| headers::encode(&facts))
    }
}

/// A reader that hashes what goes by, and looks whether it is text: while the builder's chunk is in the
/// second-level cache.
pub(super) struct Observed<'a, R> {
    pub(super) inner: R,
    pub(super) seen: &'a RefCell<Seen>,
}

impl<R: Read> Read for Observed<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.seen.borrow_mut().update(&buf[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fsstack::Image;
    use fsstack::device::MemoryDevice;

    #[test]
    fn a_file_with_the_inode_that_another_had_is_no_other_name_of_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.html"), "one").unwrap();
        fs::write(dir.path().join("b.html"), "two").unwrap();
        let packed = |tree: &Tree| {
            let packed = pack(tree, MemoryDevice::new(), &PackOptions::default(), |_, _| {}).unwrap();
            let image = Image::from_bytes(packed.0.into_bytes(), &OpenOptions::default()).unwrap();
            let read = |path: &str| image.lookup(path).unwrap().read(0, 9).unwrap();
            [read("a.html"), read("b.html")].map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        };
        let mut tree = walk(dir.path(), Dotfiles::LeaveOut).unwrap();
        // `a.html` was found, and replaced by another file; `b.html` is new, and has the inode that it had.
        tree.items[1].identity = tree.items[0].identity;
        tree.items[1].changed = tree.items[0].changed;
        tree.items[1].mtime = tree.items[0].mtime;
        assert_eq!(packed(&tree), ["one", "two"]);
        tree.items[1].has_other_ways = true;
        tree.items[1].changed.1 ^= 1;
        assert_eq!(packed(&tree), ["one", "two"]);
    }

    #[test]
    fn a_file_is_packed_once_whichever_way_it_was_reached() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("m")).unwrap();
        fs::write(dir.path().join("m/f.bin"), "file").unwrap();
        // One link before what it leads to, one behind it, and one to the file alone.
        for (target, name) in [("m", "a"), ("m", "z"), ("m/f.bin", "c.bin")] {
            std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("other.bin"), "file").unwrap();
        let tree = walk(dir.path(), Dotfiles::LeaveOut).unwrap();
        let ways: Vec<_> = tree.files().map(|(_, item)| (&item.path[..], item.has_other_ways)).collect();
        let expected: [(&[u8], bool); 5] = [
            (b"a/f.bin", true),
            (b"c.bin", true),
            (b"m/f.bin", false),
            (b"other.bin", false),
            (b"z/f.bin", true),
        ];
        assert_eq!(ways, expected);
        let packed = pack(&tree, MemoryDevice::new(), &PackOptions::default(), |_, _| {}).unwrap();
        let generation = Image::from_bytes(packed.0.into_bytes(), &OpenOptions::default()).unwrap();
        let generation = Generation::of_image(generation);
        assert_eq!(generation.find("m/f.bin").unwrap().name_count(), 4);
        assert_eq!(generation.find("other.bin").unwrap().name_count(), 1);
    }

    #[test]
    fn the_tag_is_of_blake3() {
        // From the test vectors of BLAKE3: no bytes, and 0, 1, 2 ... 250 repeated to 1,024.
        let tag = |bytes: &[u8]| {
            let seen = RefCell::new(Seen::default());
            io::copy(&mut Observed { inner: bytes, seen: &seen }, &mut io::sink()).unwrap();
            etag(&seen.into_inner().hash.finalize())
        };
        assert_eq!(tag(b""), "\"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9\"");
        let bytes: Vec<u8> = (0..1024).map(|i| (i % 251) as u8).collect();
        assert_eq!(tag(&bytes), "\"42214739f095a406f3fc83deb889744ac00df831\"");
    }
}
