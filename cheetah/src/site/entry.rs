//! What is kept in memory for each file and directory of a site, beside the image.

use fsstack::{Inode, InodeId, ReadError};

use super::headers::{self, Area};
use super::{INDEX_NAME, pack};

/// A file's or directory's part of the server's memory.
#[derive(Debug)]
pub struct Entry {
    /// Where things lie in the application area.
    pub area: Area,
    /// The area itself, if the image had none that is usable.
    pub made: Option<Box<[u8]>>,
    /// A directory's index file.
    pub index: Option<InodeId>,
}

impl Entry {
    /// Reads the application area of `inode`, or makes one.
    ///
    /// # Errors
    /// If the area does not have its checksum.
    pub fn new(inode: Inode<'_>) -> Result<Entry, ReadError> {
        if inode.is_directory() {
            let index = inode.child(INDEX_NAME).filter(|child| child.is_file()).map(Inode::id);
            return Ok(Entry { area: Area::default(), made: None, index });
        }
        if let Some(area) = Area::decode(inode.app()?, inode.size()) {
            return Ok(Entry { area, made: None, index: None });
        }
        let last_modified = u64::try_from(inode.mtime().seconds).unwrap_or(0);
        // Without the contents' hash, their CRC, length and time must do.
        let etag = format!("\"{:08x}-{:x}-{:x}\"", inode.content_crc(), inode.size(), last_modified);
        let content_type = pack::content_type(inode.name(), None);
        let bytes = headers::encode(&headers::Facts {
            content_type: content_type.as_bytes(),
            size: inode.size(),
            validators: crate::http::conditional::Validators { etag: etag.as_bytes(), last_modified },
        });
        let area = Area::decode(&bytes, inode.size()).unwrap_or_default();
        Ok(Entry { area, made: Some(bytes.into()), index: None })
    }
}
