//! Where files come from: what the server asks of whoever keeps them, and nothing more.
//!
//! ```text
//!   look_up(path)   a Document, or that there is none
//!                     facts          type, length, validators
//!                     ready_head     the response head made beforehand, where there is one
//!                     resident       bytes that are in memory for good          (a packed image)
//!                     read           or a block of them, to be held until sent  (a folder, a big image)
//! ```
//!
//! What is not in memory is read by the [`BlockReader`] of the loop that asks, which need not wait for it.
//! The image of [`crate::site::Site`] has everything at hand; a store that reads when it is asked may fail
//! then, and what fails is the one response.

mod challenges;
mod change;
mod copied;
mod dotfiles;
mod folder;
mod listing;
mod made;
mod ruled;
mod status;

use std::fmt;
use std::io;
use std::sync::Arc;

pub use challenges::{CHALLENGES, Proofs, WithChallenges};
pub use change::{ChangeMade, ChangeWriter, NotMade, Outcome, WantedChange, Wish};
pub use copied::Copied;
pub use dotfiles::Dotfiles;
pub use folder::{Folder, FolderWriter};
pub use listing::{Listed, MAX_LISTED, WithListings};
pub use made::Made;
pub use ruled::WithRules;
pub use status::{Feed, WithStatus};

use fsstack::cache::{BlockPart, BlockReader};
use runtime::buffer::Slice;
use runtime::payload::{Piece, StoredSums};

use crate::http::headers::Facts;
use crate::http::response::Status;
use crate::live::Receiver;
use crate::rules::Rules;

/// The file that stands for its directory.
pub const INDEX_NAME: &[u8] = b"index.html";

/// What a path leads to.
#[derive(Debug)]
pub enum Found {
    /// A file: by its own path, or its directory's with a slash.
    File(Arc<dyn Document>),
    /// Something that is made while it is sent.
    Growing(Arc<dyn Growing>),
    /// A directory named without its slash.
    Directory,
    /// Nothing to send.
    Nothing,
    /// Something that cannot be had, and what the client is told.
    Failed(Status),
    /// Nobody knows yet: what tells is being read. Who asked will be woken, to ask again.
    Later,
}

/// Files by their paths. Shared between threads.
pub trait Store: fmt::Debug + Send + Sync {
    /// Looks for a canonical path, as [`crate::http::target::resolve`] gives it: a leading slash, no empty or
    /// dot segments, a slash at the end of a directory's. What has to be read for it is read by `reader`.
    fn look_up(&self, path: &[u8], reader: &BlockReader) -> Found;

    /// The same, and waits.
    fn find(&self, path: &[u8]) -> Found {
        self.look_up(path, &BlockReader::in_place())
    }

    /// What the folder at a canonical path that ends in a slash holds, in any order; it may stop beyond
    /// [`MAX_LISTED`]. `None` if there is no folder, or it is not told.
    ///
    /// # Errors
    /// Whatever the system says.
    fn list(&self, path: &[u8]) -> io::Result<Option<Vec<Listed>>> {
        let _ = path;
        Ok(None)
    }

    /// What the site says of itself.
    fn rules(&self) -> &Rules {
        Rules::none()
    }
}

/// A file as it was when it was found: its bytes do not change under this name, or [`Document::read`] fails.
pub trait Document: fmt::Debug + Send + Sync {
    /// What response heads say of it.
    fn facts(&self) -> Facts<'_>;

    /// The head of a response of that status, up to where `Date` goes, if it was made beforehand; what
    /// [`crate::http::headers::write`] would make of the facts.
    fn ready_head(&self, status: Status) -> Option<Piece<'_>>;

    /// The same head as a block of HPACK, for HTTP/2.
    fn ready_block(&self, status: Status) -> Option<Piece<'_>> {
        let _ = status;
        None
    }

    /// Whether all bytes are in memory as long as the document is: then they are asked for by
    /// [`Document::resident`], else by [`Document::read`].
    fn is_resident(&self) -> bool;

    /// The bytes from `offset` on that lie together, at most `len`, which is not 0; `None` beyond the end,
    /// and always of a document that is not resident.
    fn resident(&self, offset: u64, len: usize) -> Option<Piece<'_>>;

    /// At least one byte, from `offset`, which lies within the document, to the end of its block: read by
    /// `reader` if need be.
    ///
    /// # Errors
    /// If the bytes cannot be had, or are not those that were found any more.
    fn read(&self, offset: u64, reader: &BlockReader) -> io::Result<BlockPart>;

    /// The same, and waits.
    ///
    /// # Errors
    /// As [`Document::read`].
    fn fetch(&self, offset: u64) -> io::Result<Slice> {
        self.read(offset, &BlockReader::in_place())?.here()
    }

    /// Sums for a piece that begins at `offset` and was fetched, where they are known.
    fn stored_sums(&self, offset: u64) -> Option<StoredSums<'_>> {
        let _ = offset;
        None
    }
}

/// What has no length and no version: each who asks for it gets what is made from then on.
pub trait Growing: fmt::Debug + Send + Sync {
    /// Its media type.
    fn content_type(&self) -> &str;

    /// A body for one response.
    fn open(&self) -> Receiver;
}

/// What the client is told of an error: that it may come back, where the lack is a passing one of ours.
pub fn status_of(error: &io::Error) -> Status {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN) => Status::ServiceUnavailable,
        Some(Errno::ACCESS | Errno::PERM) => Status::Forbidden,
        _ => Status::InternalServerError,
    }
}
