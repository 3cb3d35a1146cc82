//! A response on its way out: a head, a text, a body, and where in the stream of responses they lie.

use std::sync::Arc;

use runtime::buffer::Slice;
use runtime::payload::Piece;
use runtime::time::Instant;

use crate::access_log::Line;
use crate::body::Body;
use crate::http::response::Status;
use crate::store::Document;

/// A response that is queued. On the wire: the document's ready-made head, the text, the body.
#[derive(Debug)]
pub(crate) struct Response {
    /// Keeps what the response was begun with.
    pub(crate) document: Option<Arc<dyn Document>>,
    /// The status of the ready-made head.
    pub(crate) ready_head: Option<Status>,
    /// When its request came; `None` of what is no answer.
    pub(crate) began: Option<Instant>,
    pub(crate) text: Slice,
    /// Written down when it has gone out.
    pub(crate) line: Option<Box<Line>>,
    pub(crate) body: Body,
    /// Offsets in the stream of all responses.
    pub(crate) start: u64,
    pub(crate) body_start: u64,
    pub(crate) end: u64,
}

impl Response {
    pub(crate) fn ready_head(&self) -> Option<Piece<'_>> {
        self.document.as_ref()?.ready_head(self.ready_head?)
    }

    /// Visits what is at hand of the bytes between `*at`, which moves on, and `end`; whether `visit` wants
    /// more.
    pub(crate) fn visit<'a>(
        &'a self,
        at: &mut u64,
        end: u64,
        visit: &mut impl FnMut(Piece<'a>) -> bool,
    ) -> bool {
        let mut part_start = self.start;
        let text = (!self.text.is_empty()).then(|| self.text.piece(0..self.text.len()));
        for part in [self.ready_head(), text].into_iter().flatten() {
            let part_end = part_start + part.bytes.len() as u64;
            if *at < part_end && *at < end {
                let until = part_end.min(end);
                let bytes = &part.bytes[(*at - part_start) as usize..(until - part_start) as usize];
                *at = until;
                if !visit(Piece { bytes, ..part }) {
                    return false;
                }
            }
            part_start = part_end;
        }
        if *at >= end {
            return true;
        }
        let mut more = true;
        let range = *at - self.body_start..end - self.body_start;
        self.body.visit(self.document.as_deref(), range, |piece| {
            *at += piece.bytes.len() as u64;
            more = visit(piece);
            more
        });
        more
    }
}
