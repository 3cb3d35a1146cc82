//! Changes that are asked for, and what became of them.

use std::os::fd::BorrowedFd;

use fsstack::log::Contents;

use crate::http::conditional::KeptConditions;

/// What a change came to.
pub type Outcome = Result<ChangeMade, NotMade>;

/// The one who makes changes.
pub trait ChangeWriter: Send {
    /// Makes changes one after the other and waits until they are on the disk, all together; then everyone
    /// sees them. What a change came to is told in its place.
    fn commit(&mut self, changes: &[WantedChange]) -> Vec<Outcome>;

    /// Begins to do the same. What changes came to that were begun before is told first; `None` is to be told
    /// by [`ChangeWriter::finished`]. Who cannot but wait does so here.
    fn begin(&mut self, changes: Vec<WantedChange>) -> Option<Vec<Outcome>> {
        Some(self.commit(&changes))
    }

    /// What was begun and is over, in the order in which it began.
    fn finished(&mut self) -> Vec<Vec<Outcome>> {
        Vec::new()
    }

    /// Becomes readable when what was begun may be over, until that is asked.
    fn bell(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What is to become of a path.
#[derive(Clone, Debug)]
pub enum Wish {
    /// A file with these contents is to be there.
    Put(Contents),
    /// Nothing is: a file, or a folder with nothing in it.
    Delete,
}

/// A change that is asked for. The path has no slashes at its ends.
#[derive(Clone, Debug)]
pub struct WantedChange {
    /// Where.
    pub path: Vec<u8>,
    /// What.
    pub wish: Wish,
    /// On which conditions.
    pub conditions: Option<Box<KeptConditions>>,
}

/// A change that is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeMade {
    /// Whether there was nothing at the path before.
    pub is_new: bool,
    /// The entity tag of the file that was put; empty if none was.
    pub etag: Vec<u8>,
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMade {
    /// The conditions are not those.
    Precondition,
    /// There is nothing to delete.
    Nothing,
    /// A folder is in the way, or a file where a folder is needed, or the folder to delete is not empty.
    Conflict,
    /// It cannot have that name.
    Name,
    /// There is no room for it.
    Full,
    /// The disk failed, or what is there cannot be read.
    Failed,
}
