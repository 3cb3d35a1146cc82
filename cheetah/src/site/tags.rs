//! Contents against the entity tags that packing gave them. A tag has 160 bits of the BLAKE3 of what it is
//! of: unlike a checksum, nobody makes other contents that have it.

use fsstack::ReadError;
use fsstack::image::check::MAX_PROBLEMS;
use fsstack::log::{Entry, Generation};

use super::entry::etag_of;
use super::pack;

/// What comparing found. A file is counted by each of its names, and read once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Files of the image.
    pub files: u64,
    /// Those of them that have a tag of that kind, and were read to the end.
    pub compared: u64,
    /// A sentence for each file whose contents are not those that its tag is of, or that cannot be read; at
    /// most 100.
    pub problems: Vec<String>,
    /// Problems beyond those.
    pub more_problems: u64,
}

impl Compared {
    fn add(&mut self, path: &[u8], problem: &str) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(format!("`{}`: {problem}", String::from_utf8_lossy(path)));
        } else {
            self.more_problems += 1;
        }
    }
}

/// Compares all files of an image, packed or changed since. `progress` is told how many bytes of contents it
/// is past, read or not.
pub fn compare(image: &Generation, mut progress: impl FnMut(u64)) -> Compared {
    let (mut found, mut read) = (Compared::default(), 0);
    let is_first = |entry: &Entry<'_>| entry.names().next().is_none_or(|first| first == entry.path());
    for entry in image.entries().filter(|entry| entry.is_file() && is_first(entry)) {
        let names = entry.name_count() as u64;
        found.files += names;
        match tags_of(entry, |bytes| progress(read + bytes)) {
            Ok(None) => {}
            Ok(Some((has, is))) => {
                found.compared += names;
                if has != is.as_bytes() {
                    let has = String::from_utf8_lossy(has);
                    found.add(entry.path(), &format!("its contents have the tag {is}, and it has {has}"));
                }
            }
            Err(error) => found.add(entry.path(), &format!("cannot be compared with its tag: {error}")),
        }
        read += entry.size();
        progress(read);
    }
    found
}

/// The tag that a file has, and that which its contents have; `None` if it has none of that kind.
fn tags_of<'a>(
    entry: Entry<'a>,
    mut progress: impl FnMut(u64),
) -> Result<Option<(&'a [u8], String)>, ReadError> {
    let has = etag_of(entry.app()?, entry.size()).unwrap_or_default();
    if !pack::is_etag_of_hash(has) {
        return Ok(None);
    }
    let (mut hasher, mut at) = (blake3::Hasher::new(), 0);
    while at < entry.size() {
        let bytes = entry.fetch(at, 1 << 20)?;
        hasher.update(bytes.bytes());
        at += bytes.len() as u64;
        progress(at);
    }
    Ok(Some((has, pack::etag(&hasher.finalize()))))
}
