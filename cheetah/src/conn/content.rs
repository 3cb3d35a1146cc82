//! What a request that is not answered yet has: what takes its content in, if that is not thrown away, or
//! what is read for it. One word of a connection, whichever it is.

use fsstack::cache::reads::BlockRead;

use super::asking::Asking;
use crate::upload::Upload;

/// An upload, a request for a program, or one that waits for the disk.
#[derive(Debug, Default)]
pub(super) struct Content(Option<Box<Kind>>);

#[derive(Debug)]
enum Kind {
    Upload(Box<Upload>),
    Asking(Asking),
    Parked(Vec<BlockRead>),
}

impl Content {
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    /// What the last request puts or deletes, until it is answered.
    pub(super) fn set_upload(&mut self, upload: Box<Upload>) {
        self.0 = Some(Box::new(Kind::Upload(upload)));
    }

    /// A request for a program, whose content comes.
    pub(super) fn set_asking(&mut self, asking: Asking) {
        self.0 = Some(Box::new(Kind::Asking(asking)));
    }

    pub(super) fn upload(&self) -> Option<&Upload> {
        match self.0.as_deref()? {
            Kind::Upload(upload) => Some(upload),
            Kind::Asking(_) | Kind::Parked(_) => None,
        }
    }

    pub(super) fn upload_mut(&mut self) -> Option<&mut Upload> {
        match self.0.as_deref_mut()? {
            Kind::Upload(upload) => Some(upload),
            Kind::Asking(_) | Kind::Parked(_) => None,
        }
    }

    pub(super) fn asking_mut(&mut self) -> Option<&mut Asking> {
        match self.0.as_deref_mut()? {
            Kind::Asking(asking) => Some(asking),
            Kind::Upload(_) | Kind::Parked(_) => None,
        }
    }

    pub(super) fn is_asking(&self) -> bool {
        matches!(self.0.as_deref(), Some(Kind::Asking(_)))
    }

    pub(super) fn take_upload(&mut self) -> Option<Box<Upload>> {
        match *self.0.take()? {
            Kind::Upload(upload) => Some(upload),
            other => {
                self.0 = Some(Box::new(other));
                None
            }
        }
    }

    pub(super) fn take_asking(&mut self) -> Option<Asking> {
        match *self.0.take()? {
            Kind::Asking(asking) => Some(asking),
            other => {
                self.0 = Some(Box::new(other));
                None
            }
        }
    }

    /// The request is answered when these have been read.
    pub(super) fn set_parked(&mut self, reads: Vec<BlockRead>) {
        self.0 = Some(Box::new(Kind::Parked(reads)));
    }

    /// Whether the request waits for the disk, or has just been woken.
    pub(super) fn is_parked(&self) -> bool {
        matches!(self.0.as_deref(), Some(Kind::Parked(_)))
    }

    /// Whether there is something that it still waits for.
    pub(super) fn is_blocked(&self) -> bool {
        match self.0.as_deref() {
            Some(Kind::Parked(reads)) => reads.iter().any(|read| read.outcome().is_none()),
            _ => false,
        }
    }

    /// What was read for it; nothing if it was never parked.
    pub(super) fn take_parked(&mut self) -> Vec<BlockRead> {
        match self.0.take().map(|kind| *kind) {
            Some(Kind::Parked(reads)) => reads,
            other => {
                self.0 = other.map(Box::new);
                Vec::new()
            }
        }
    }
}
