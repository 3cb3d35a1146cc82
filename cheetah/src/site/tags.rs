//! Contents against the entity tags that packing gave them. A tag has 160 bits of the BLAKE3 of what it is
//! of: unlike a checksum, nobody makes other contents that have it.

use fsstack::ReadError;
use fsstack::log::{Entry, Generation};

use super::entry::area_of;
use super::pack;

/// The files whose contents are not those that their tags are of, with what they are; and how many had a tag
/// of that kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Files that were compared, each by its first name.
    pub files: u64,
    /// What is wrong, a sentence for each file.
    pub problems: Vec<String>,
}

/// Compares all files of an image, packed or changed since. `progress` is told how many bytes were read.
///
/// # Errors
/// If one cannot be read.
pub fn compare(image: &Generation, mut progress: impl FnMut(u64)) -> Result<Compared, ReadError> {
    let (mut compared, mut read) = (Compared::default(), 0);
    let is_first = |entry: &Entry<'_>| entry.names().next().is_none_or(|first| first == entry.path());
    for entry in image.entries().filter(|entry| entry.is_file() && is_first(entry)) {
        let app = entry.app()?;
        let Some((area, made)) = area_of(app, entry.size()) else { continue };
        let tag = made.as_deref().unwrap_or(app).get(area.etag).unwrap_or_default();
        if !pack::is_etag_of_hash(tag) {
            continue;
        }
        let (mut hasher, mut at) = (blake3::Hasher::new(), 0);
        while at < entry.size() {
            let bytes = entry.fetch(at, 1 << 20)?;
            hasher.update(bytes.bytes());
            at += bytes.len() as u64;
            progress(read + at);
        }
        read += at;
        compared.files += 1;
        let found = pack::etag(&hasher.finalize());
        if found.as_bytes() != tag {
            let (path, tag) = (String::from_utf8_lossy(entry.path()), String::from_utf8_lossy(tag));
            compared.problems.push(format!("`{path}`: its contents have the tag {found}, and it has {tag}"));
        }
    }
    Ok(compared)
}
