//! When a file was last changed.

/// A modification time: seconds from 1970-01-01T00:00:00Z, and nanoseconds (below 10^9) within the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtime {
    /// Seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanoseconds: u32,
}
