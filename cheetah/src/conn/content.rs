//! What takes the content of a request in, if it is not thrown away: one word of a connection, whichever it is.

use super::asking::Asking;
use crate::upload::Upload;

/// An upload, or a request for a program.
#[derive(Debug, Default)]
pub(super) struct Content(Option<Box<Kind>>);

#[derive(Debug)]
enum Kind {
    Upload(Box<Upload>),
    Asking(Asking),
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
            Kind::Asking(_) => None,
        }
    }

    pub(super) fn upload_mut(&mut self) -> Option<&mut Upload> {
        match self.0.as_deref_mut()? {
            Kind::Upload(upload) => Some(upload),
            Kind::Asking(_) => None,
        }
    }

    pub(super) fn asking_mut(&mut self) -> Option<&mut Asking> {
        match self.0.as_deref_mut()? {
            Kind::Asking(asking) => Some(asking),
            Kind::Upload(_) => None,
        }
    }

    pub(super) fn is_asking(&self) -> bool {
        matches!(self.0.as_deref(), Some(Kind::Asking(_)))
    }

    pub(super) fn take_upload(&mut self) -> Option<Box<Upload>> {
        match *self.0.take()? {
            Kind::Upload(upload) => Some(upload),
            asking @ Kind::Asking(_) => {
                self.0 = Some(Box::new(asking));
                None
            }
        }
    }

    pub(super) fn take_asking(&mut self) -> Option<Asking> {
        match *self.0.take()? {
            Kind::Asking(asking) => Some(asking),
            upload @ Kind::Upload(_) => {
                self.0 = Some(Box::new(upload));
                None
            }
        }
    }
}
