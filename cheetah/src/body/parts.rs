//! Several parts of a document in one body, `multipart/byteranges` (RFC 9110 section 14.6):
//!
//! ```text
//!   --b CRLF Content-Type: t CRLF Content-Range: bytes 0-9/5000 CRLF CRLF      bytes 0 to 9
//!   CRLF --b CRLF ... Content-Range: bytes 700-799/5000 CRLF CRLF              bytes 700 to 799
//!   CRLF --b-- CRLF
//! ```

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::Range;
use std::sync::LazyLock;

use fsstack::cache::BlockReader;
use runtime::buffer::{Shared, Slice};
use runtime::payload::Piece;

use super::FileBody;
use crate::http::response;
use crate::store::Document;

/// The parts of a document with their heads. Blocks are read part by part, as the peer takes them.
#[derive(Debug)]
pub struct PartsBody {
    parts: Vec<Part>,
    /// The line that ends the last part.
    close: Slice,
    /// Where in the body that line begins.
    close_start: u64,
}

#[derive(Debug)]
struct Part {
    head: Slice,
    /// Where in the body the head begins, and the bytes.
    start: u64,
    file_start: u64,
    file: FileBody,
}

impl PartsBody {
    /// The bytes `ranges` of `document`, each not empty and within it, between lines of `boundary`. Has the
    /// first block of the first read, so that what cannot be read at all is known before there is a head.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn new(
        document: &dyn Document,
        ranges: &[Range<u64>],
        boundary: &str,
        reader: &BlockReader,
    ) -> io::Result<PartsBody> {
        let facts = document.facts();
        let mut parts = Vec::with_capacity(ranges.len());
        let mut at = 0;
        for range in ranges {
            let mut head = Vec::with_capacity(160);
            if at > 0 {
                head.extend_from_slice(b"\r\n");
            }
            response::line(&mut head, format_args!("--{boundary}"));
            response::field(&mut head, "Content-Type", facts.content_type);
            response::content_range(&mut head, range, facts.size);
            head.extend_from_slice(b"\r\n");
            let file = FileBody::unread(document, range.clone());
            let (start, file_start) = (at, at + head.len() as u64);
            at = file_start + file.len();
            parts.push(Part { head: Slice::from(Shared::from(head)), start, file_start, file });
        }
        let close = Slice::from(Shared::from(format!("\r\n--{boundary}--\r\n").into_bytes()));
        let mut body = PartsBody { parts, close, close_start: at };
        if let Some(first) = body.parts.first_mut() {
            first.file.fetch(document, 1, reader)?;
        }
        Ok(body)
    }

    pub(super) fn len(&self) -> u64 {
        self.close_start + self.close.len() as u64
    }

    pub(super) fn is_read(&self) -> bool {
        self.parts.iter().any(|part| part.file.is_read())
    }

    pub(super) fn fetched(&self) -> u64 {
        let short = self.parts.iter().find(|part| part.file.fetched() < part.file.len());
        short.map_or(self.len(), |part| part.file_start + part.file.fetched())
    }

    pub(super) fn fetch(
        &mut self,
        document: &dyn Document,
        len: u64,
        reader: &BlockReader,
    ) -> Result<(), (u64, io::Error)> {
        for part in self.parts.iter_mut().take_while(|part| part.file_start < len) {
            let fetched = part.file.fetch(document, len - part.file_start, reader);
            fetched.map_err(|error| (part.file_start + part.file.fetched(), error))?;
        }
        Ok(())
    }

    pub(super) fn release(&mut self, len: u64) {
        for part in self.parts.iter_mut().take_while(|part| part.file_start < len) {
            part.file.release(len - part.file_start);
        }
    }

    pub(super) fn visit<'a>(
        &'a self,
        document: &'a dyn Document,
        range: Range<u64>,
        mut visit: impl FnMut(Piece<'a>) -> bool,
    ) {
        let (mut at, end) = (range.start, range.end.min(self.len()));
        for part in &self.parts {
            if at >= end || !visit_text(&part.head, part.start, &mut at, end, &mut visit) {
                return;
            }
            let until = end.min(part.file_start + part.file.len());
            if at < until {
                let mut more = true;
                part.file.visit(document, at - part.file_start..until - part.file_start, |piece| {
                    at += piece.bytes.len() as u64;
                    more = visit(piece);
                    more
                });
                if !more || at < until {
                    return;
                }
            }
        }
        visit_text(&self.close, self.close_start, &mut at, end, &mut visit);
    }
}

/// Visits what lies between `*at`, which moves on, and `end` of a text that begins at `start`; whether
/// `visit` wants more.
fn visit_text<'a>(
    text: &'a Slice,
    start: u64,
    at: &mut u64,
    end: u64,
    visit: &mut impl FnMut(Piece<'a>) -> bool,
) -> bool {
    let until = end.min(start + text.len() as u64);
    if *at >= until {
        return true;
    }
    let piece = text.piece((*at - start) as usize..(until - start) as usize);
    *at = until;
    visit(piece)
}

/// A line that no part contains, but by a chance of 2^-64 a place: nobody who writes a file knows this
/// process's key.
pub(crate) fn boundary(etag: &[u8]) -> String {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    format!("part-{:016x}", KEY.hash_one(etag))
}
