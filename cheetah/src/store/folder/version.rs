//! What tells one version of a file from another, without reading it.

use std::time::{SystemTime, UNIX_EPOCH};

use fsstack::cache::{FileNumber, Wanted};
use rustix::fs::Stat;

/// Times of files may be this coarse, so that a second change in between shows in none of them.
const COARSENESS_NS: i128 = 2_000_000_000;

/// Where a file lies, its size, when it was written, and when anything of it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Version {
    device: u64,
    inode: u64,
    pub(super) size: u64,
    modified: Time,
    changed: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Time {
    seconds: i64,
    nanoseconds: u64,
}

impl Time {
    fn total_ns(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds)
    }
}

impl Version {
    pub(super) fn of(stat: &Stat) -> Version {
        Version {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec },
            changed: Time { seconds: stat.st_ctime, nanoseconds: stat.st_ctime_nsec },
        }
    }

    /// Block `index` of it, for who reads it.
    pub(super) fn block(&self, file: FileNumber, index: u64, block_bytes: usize) -> Wanted {
        let owner_end = self.size.div_ceil(block_bytes as u64);
        Wanted { file, index, group_end: 0, owner: self.inode, owner_bytes: self.size, owner_end }
    }

    /// Whether the contents are as they were. Other names, owners or rights do not matter.
    pub(super) fn is_unchanged(&self, stat: &Stat) -> bool {
        let now = Version::of(stat);
        (now.size, now.modified) == (self.size, self.modified)
    }

    /// Whether the last change is so long ago that another one would show.
    pub(super) fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128);
        let last = self.modified.total_ns().max(self.changed.total_ns());
        now - last > COARSENESS_NS
    }

    /// A strong entity tag, as far as the file system's clock tells changes apart.
    pub(super) fn etag(&self) -> String {
        let Time { seconds, nanoseconds } = self.modified;
        format!("\"{:x}-{:x}-{seconds:x}.{nanoseconds:x}\"", self.inode, self.size)
    }

    /// Seconds since 1970, not in the future (RFC 9110 section 8.8.2.1).
    pub(super) fn last_modified(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        u64::try_from(self.modified.seconds).unwrap_or(0).min(now)
    }
}
