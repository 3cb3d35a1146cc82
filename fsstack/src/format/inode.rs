//! One record a file or directory.
//!
//! Inodes stand in breadth-first order: the children of a directory are one contiguous run, sorted by name,
//! and the runs follow each other in the order of their directories. So a directory is two numbers, listing
//! is a slice, and a component is found by binary search.

use super::layout::{get_i64, get_u16, get_u32, get_u64, put_i64, put_u16, put_u32, put_u64};

/// Size of a record.
pub const BYTES: usize = 80;

// Offsets within the record.
const OFF_KIND: usize = 0;
const OFF_NAME_BYTES: usize = OFF_KIND + size_of::<u16>();
const OFF_PARENT: usize = OFF_NAME_BYTES + size_of::<u16>();
const OFF_FIRST: usize = OFF_PARENT + size_of::<u32>();
const OFF_COUNT: usize = OFF_FIRST + size_of::<u32>();
const OFF_SIZE: usize = OFF_COUNT + size_of::<u32>();
const OFF_MTIME_S: usize = OFF_SIZE + size_of::<u64>();
const OFF_MTIME_NS: usize = OFF_MTIME_S + size_of::<i64>();
const OFF_CONTENT_CRC: usize = OFF_MTIME_NS + size_of::<u32>();
const OFF_AUX_OFFSET: usize = OFF_CONTENT_CRC + size_of::<u32>();
const OFF_APP_BYTES: usize = OFF_AUX_OFFSET + size_of::<u64>();
const OFF_SUM_COUNT: usize = OFF_APP_BYTES + size_of::<u32>();
const OFF_AUX_CRC: usize = OFF_SUM_COUNT + size_of::<u32>();
const OFF_PATH_BYTES: usize = OFF_AUX_CRC + size_of::<u32>();
const OFF_PATH_OFFSET: usize = OFF_PATH_BYTES + size_of::<u32>();
const OFF_GROUP_BYTES: usize = OFF_PATH_OFFSET + size_of::<u64>();

const _: () = assert!(OFF_GROUP_BYTES + size_of::<u64>() == BYTES);

/// Stored as the kind of what is another name of a file; the last field has the inode of the first one then.
const ANOTHER_NAME: u16 = 3;

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Contents, in extents.
    File,
    /// Children, in a run of inodes.
    Directory,
}

impl Kind {
    const fn code(self) -> u16 {
        match self {
            Kind::File => 1,
            Kind::Directory => 2,
        }
    }
}

/// A record, decoded. The fields are as found: [`crate::fs::Image::open`] checks them against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// File or directory.
    pub kind: Kind,
    /// Bytes of the last name of the path; 0 for the root.
    pub name_bytes: u16,
    /// Inode of the directory that holds this one; the root's is itself.
    pub parent: u32,
    /// A file's first extent, or a directory's first child.
    pub first: u32,
    /// Number of extents or children.
    pub count: u32,
    /// Length of a file in bytes; 0 for a directory.
    pub size: u64,
    /// Modification time: seconds from 1970-01-01T00:00:00Z.
    pub mtime_s: i64,
    /// Nanoseconds within the second, below 10^9.
    pub mtime_ns: u32,
    /// CRC32C of a file's contents; 0 for a directory.
    pub content_crc: u32,
    /// Offset in the image of the application area, which the partial sums follow (4-byte words).
    pub aux_offset: u64,
    /// Length of the application area.
    pub app_bytes: u32,
    /// Number of partial sums.
    pub sum_count: u32,
    /// CRC32C of application area and partial sums together.
    pub aux_crc: u32,
    /// Length of the path.
    pub path_bytes: u32,
    /// Offset of the path in the path heap.
    pub path_offset: u64,
    /// Who asks for this file will ask for what lies from its contents on, up to so many bytes; 0 if nothing
    /// is known of it. Not stored with another name of a file: it has that of the file.
    pub group_bytes: u64,
    /// Of another name of a file (a hard link): the inode of its first name, which says the same of the
    /// contents.
    pub same_as: Option<u32>,
}

impl Record {
    /// Whether this says of contents and attributes what `other` says.
    pub fn is_same_file(&self, other: &Record) -> bool {
        let said = |record: &Record| Record {
            name_bytes: 0,
            parent: 0,
            path_bytes: 0,
            path_offset: 0,
            group_bytes: 0,
            same_as: None,
            ..*record
        };
        said(self) == said(other)
    }

    /// Bytes of application area and partial sums together.
    pub fn aux_bytes(&self) -> u64 {
        u64::from(self.app_bytes) + 4 * u64::from(self.sum_count)
    }

    /// Writes the record.
    ///
    /// # Panics
    /// If `record` is not [`BYTES`] long.
    pub fn encode(&self, record: &mut [u8]) {
        record.fill(0);
        put_u16(record, OFF_KIND, if self.same_as.is_some() { ANOTHER_NAME } else { self.kind.code() });
        put_u16(record, OFF_NAME_BYTES, self.name_bytes);
        put_u32(record, OFF_PARENT, self.parent);
        put_u32(record, OFF_FIRST, self.first);
        put_u32(record, OFF_COUNT, self.count);
        put_u64(record, OFF_SIZE, self.size);
        put_i64(record, OFF_MTIME_S, self.mtime_s);
        put_u32(record, OFF_MTIME_NS, self.mtime_ns);
        put_u32(record, OFF_CONTENT_CRC, self.content_crc);
        put_u64(record, OFF_AUX_OFFSET, self.aux_offset);
        put_u32(record, OFF_APP_BYTES, self.app_bytes);
        put_u32(record, OFF_SUM_COUNT, self.sum_count);
        put_u32(record, OFF_AUX_CRC, self.aux_crc);
        put_u32(record, OFF_PATH_BYTES, self.path_bytes);
        put_u64(record, OFF_PATH_OFFSET, self.path_offset);
        put_u64(record, OFF_GROUP_BYTES, self.same_as.map_or(self.group_bytes, u64::from));
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The offset within the record, the field's name, what was expected and what stands there, if the kind
    /// or the nanoseconds make no sense.
    ///
    /// # Panics
    /// If `record` is not [`BYTES`] long.
    pub fn decode(record: &[u8]) -> Result<Record, (usize, &'static str, &'static str, u64)> {
        let code = get_u16(record, OFF_KIND);
        let kind = match code {
            1 | ANOTHER_NAME => Kind::File,
            2 => Kind::Directory,
            code => {
                return Err((OFF_KIND, "kind", "1 (file), 2 (directory) or 3 (another name)", code.into()));
            }
        };
        let last = get_u64(record, OFF_GROUP_BYTES);
        let (group_bytes, same_as) = match (code, u32::try_from(last)) {
            (ANOTHER_NAME, Ok(first)) => (0, Some(first)),
            (ANOTHER_NAME, Err(_)) => return Err((OFF_GROUP_BYTES, "first name", "an inode", last)),
            _ => (last, None),
        };
        let mtime_ns = get_u32(record, OFF_MTIME_NS);
        if mtime_ns >= 1_000_000_000 {
            return Err((OFF_MTIME_NS, "nanoseconds", "less than 1000000000", mtime_ns.into()));
        }
        Ok(Record {
            kind,
            name_bytes: get_u16(record, OFF_NAME_BYTES),
            parent: get_u32(record, OFF_PARENT),
            first: get_u32(record, OFF_FIRST),
            count: get_u32(record, OFF_COUNT),
            size: get_u64(record, OFF_SIZE),
            mtime_s: get_i64(record, OFF_MTIME_S),
            mtime_ns,
            content_crc: get_u32(record, OFF_CONTENT_CRC),
            aux_offset: get_u64(record, OFF_AUX_OFFSET),
            app_bytes: get_u32(record, OFF_APP_BYTES),
            sum_count: get_u32(record, OFF_SUM_COUNT),
            aux_crc: get_u32(record, OFF_AUX_CRC),
            path_bytes: get_u32(record, OFF_PATH_BYTES),
            path_offset: get_u64(record, OFF_PATH_OFFSET),
            group_bytes,
            same_as,
        })
    }
}
