//! From a folder to an image that can be served: which files, their media types, validators and response heads.

use std::cell::RefCell;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fsstack::device::DeviceMut;
use fsstack::image::build::{Content, Mtime, Summary};
use fsstack::{BuildError, BuildOptions, Builder};
use walkdir::WalkDir;

use crate::http::conditional::Validators;
use crate::http::content_type::{TextCheck, content_type};
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

    /// Number of files.
    pub fn file_count(&self) -> usize {
        self.items.iter().filter(|item| !item.is_directory).count()
    }
}

/// Why a folder could not be packed.
#[derive(Debug)]
pub enum PackError {
    /// The folder cannot be walked.
    Walk(walkdir::Error),
    /// A file cannot be opened.
    Open(PathBuf, io::Error),
    /// The image cannot be built.
    Build(BuildError),
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackError::Walk(error) => error.fmt(f),
            PackError::Open(path, error) => write!(f, "{}: {error}", path.display()),
            PackError::Build(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PackError {}

impl From<BuildError> for PackError {
    fn from(error: BuildError) -> PackError {
        PackError::Build(error)
    }
}

/// Walks `root`. Symbolic links are followed as long as they stay inside it, and lead to nothing that would not be seen by
/// its own name; what is neither file nor folder is left out.
///
/// # Errors
/// If a folder cannot be read.
pub fn walk(root: &Path, dotfiles: Dotfiles) -> Result<Tree, PackError> {
    let home = fs::canonicalize(root).map_err(|error| PackError::Open(root.into(), error))?;
    let mut tree = Tree::default();
    let mut walker = WalkDir::new(root).min_depth(1).follow_links(true).sort_by_file_name().into_iter();
    while let Some(found) = walker.next() {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let path = error.path().unwrap_or(root).to_path_buf();
                let is_link = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink());
                match error.io_error() {
                    None => tree.left_out.push((path, "a link that leads back up")),
                    Some(_) if is_link => tree.left_out.push((path, "a link that leads nowhere")),
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
        let meta = found.metadata().map_err(PackError::Walk)?;
        let path = source.strip_prefix(root).unwrap_or(source).as_os_str().as_bytes().to_vec();
        tree.items.push(Item {
            source: source.into(),
            path,
            is_directory,
            size: if is_directory { 0 } else { meta.len() },
            mtime: mtime(meta.modified().unwrap_or(UNIX_EPOCH)),
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

/// Packs `tree` into an image on `device`, telling `progress` of every file: its path and the bytes it had.
///
/// # Errors
/// If a file cannot be read or the device refuses.
pub fn pack<D: DeviceMut>(
    tree: &Tree,
    device: D,
    options: &BuildOptions,
    mut progress: impl FnMut(&[u8], u64),
) -> Result<(D, Summary), PackError> {
    let mut builder = Builder::new(device, options)?;
    let now = mtime(SystemTime::now());
    for item in &tree.items {
        if item.is_directory {
            builder.directory(&item.path, item.mtime, &[])?;
            continue;
        }
        let file = File::open(&item.source).map_err(|error| PackError::Open(item.source.clone(), error))?;
        // A modification in the future must not be told (RFC 9110 section 8.8.2.1).
        add(&mut builder, &item.path, item.mtime.min(now), file)?;
        progress(&item.path, item.size);
    }
    Ok(builder.finish()?)
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
) -> Result<Content, PackError> {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    // The area is made after the contents have gone by; the two share what was observed.
    let seen = RefCell::new(Seen::default());
    let mut reader = Observed { inner: contents, seen: &seen };
    let content = builder.file(path, mtime, &mut reader, |content| {
        let seen = seen.borrow();
        let is_text = seen.text.is_whole();
        let etag = etag(&seen.hash.finalize());
        let last_modified = u64::try_from(content.mtime.seconds).unwrap_or(0);
        headers::encode(&Facts {
            content_type: content_type(name, Some(is_text)).as_bytes(),
            size: content.size,
            validators: Validators { etag: etag.as_bytes(), last_modified },
        })
    })?;
    Ok(content)
}

fn mtime(time: SystemTime) -> Mtime {
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

/// A strong entity tag: half of the hash and a bit more, so that it takes some 2^80 tries to make two contents with one tag.
fn etag(hash: &blake3::Hash) -> String {
    const BYTES: usize = 20;
    format!("\"{}\"", &hash.to_hex()[..2 * BYTES])
}
/// What was learned of contents that went by.
#[derive(Clone, Debug, Default)]
struct Seen {
    hash: blake3::Hasher,
    text: TextCheck,
}

/// A reader that hashes what goes by, and looks whether it is text: while the builder's chunk is in the second-level cache.
struct Observed<'a, R> {
    inner: R,
    seen: &'a RefCell<Seen>,
}

impl<R: Read> Read for Observed<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        let mut seen = self.seen.borrow_mut();
        seen.hash.update(&buf[..n]);
        seen.text.push(&buf[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
