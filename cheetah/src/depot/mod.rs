//! Where images are published, and pulled from by the servers that serve them: a folder that all can reach,
//! or a bucket.
//!
//! ```text
//!   parts/5f/5f1c…    a part of an image, named by its BLAKE3
//!   images/9a03…      which parts an image has, named by its own BLAKE3: that is the image's name
//!   current           the name of the image that is served now: the one object that is ever replaced
//! ```
//!
//! Images are cut where their contents say, so that two that are much alike have most parts in common: a
//! publisher sends, and a server fetches, what is not there yet. Whatever has another hash than its name is
//! no part. The pointer is replaced only if it is still what the publisher found ([`Depot::set_pointer`]), so
//! of two who publish at once one is told. What no image needs is removed by [`collect()`], which says so by
//! an object `collecting`.

mod collect;
mod folder;
mod manifest;
mod publish;
mod pull;
#[cfg(feature = "s3")]
mod s3;

use std::fmt;
use std::io;
use std::path::Path;
use std::time::SystemTime;

pub use collect::{Collected, MIN_GRACE, collect};
pub use folder::FolderDepot;
pub use manifest::{Manifest, ManifestError, Part};
pub use publish::{Published, publish};
pub use pull::{Pulled, Puller, pull};

/// The longest pointer that is read.
const MAX_POINTER_BYTES: u64 = 4096;

/// What the pointer begins with.
const POINTER_MAGIC: &str = "cheetah-current 1\n";

/// Objects by name. Those below `parts/` and `images/` never change: whoever puts one puts the same bytes.
pub trait Depot: fmt::Debug + Send + Sync {
    /// The object `name`, if it is there.
    ///
    /// # Errors
    /// If it cannot be read, or has more than `max_bytes`.
    fn get(&self, name: &str, max_bytes: u64) -> io::Result<Option<Vec<u8>>>;

    /// Whether it is there.
    ///
    /// # Errors
    /// If that cannot be told.
    fn has(&self, name: &str) -> io::Result<bool>;

    /// Puts it there, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// What lies in `folder`, as in `parts/5f`; nothing if there is none.
    ///
    /// # Errors
    /// If that cannot be told.
    fn list(&self, folder: &str) -> io::Result<Vec<Stored>>;

    /// Removes the object `name`, if it is there.
    ///
    /// # Errors
    /// If it cannot be removed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The pointer, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    fn pointer(&self) -> io::Result<Option<Pointer>>;

    /// Replaces the pointer if it is still `old`, or is still not there; whether it was.
    ///
    /// # Errors
    /// If it cannot be written.
    fn set_pointer(&self, bytes: &[u8], old: Option<&Pointer>) -> io::Result<bool>;
}

/// An object of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name, without that of the folder.
    pub name: String,
    /// When it was put there last, by the clock of whoever keeps it.
    pub modified: SystemTime,
    /// Its length.
    pub bytes: u64,
}

/// The pointer as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// What it says.
    pub bytes: Vec<u8>,
    /// By which the depot knows it again.
    pub version: Option<String>,
}

impl Pointer {
    /// The name of the image that it leads to.
    ///
    /// # Errors
    /// If it is none of ours.
    pub fn image(&self) -> io::Result<String> {
        let text = std::str::from_utf8(&self.bytes).ok();
        let rest = text.and_then(|text| text.strip_prefix(POINTER_MAGIC));
        let name = rest.and_then(|rest| rest.strip_prefix("image ")?.strip_suffix('\n'));
        let hash = name.and_then(|name| blake3::Hash::from_hex(name).ok());
        let wrong =
            || io::Error::other("`current` there is none of cheetah's: is it another's folder or bucket?");
        hash.map(|hash| hash.to_hex().to_string()).ok_or_else(wrong)
    }

    fn bytes_to(image: &str) -> Vec<u8> {
        format!("{POINTER_MAGIC}image {image}\n").into_bytes()
    }
}

/// The depot at `file:///FOLDER` or, with the cargo feature `s3`, `s3://BUCKET/PREFIX`.
///
/// # Errors
/// If it is at no such address, or cannot be opened.
pub fn open(url: &str) -> io::Result<Box<dyn Depot>> {
    let wrong = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if let Some(path) = url.strip_prefix("file://") {
        if !path.starts_with('/') {
            return wrong("give a whole path, as in file:///srv/published");
        }
        return Ok(Box::new(FolderDepot::open(Path::new(path))));
    }
    if url.starts_with("s3://") {
        #[cfg(feature = "s3")]
        return Ok(Box::new(s3::S3Depot::open(url)?));
        #[cfg(not(feature = "s3"))]
        return wrong("this cheetah was built without S3: build it with `--features s3`");
    }
    wrong("give file:///FOLDER or s3://BUCKET/PREFIX")
}

fn part_name(hash: &blake3::Hash) -> String {
    let hex = hash.to_hex();
    format!("parts/{}/{hex}", &hex[..2])
}

fn image_name(image: &str) -> String {
    format!("images/{image}")
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
