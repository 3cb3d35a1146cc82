//! The bodies of responses: part of a document, or buffers.
//!
//! A document of a packed image is in memory, and its pieces point there. Of any other, the blocks between what the peer
//! has acknowledged and some way ahead are held here, each from when it was read until it is acknowledged:
//!
//! ```text
//!   range.start                                                              range.end
//!   |------------------|=========|=========|=========|------------------------|
//!     acknowledged,      blocks held: given again when asked       not read yet
//!     let go of
//! ```

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use runtime::buffer::{Aggregate, Slice};
use runtime::payload::Piece;

use crate::store::Document;

/// What follows a response's head.
#[derive(Debug, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes of the response's document.
    File(FileBody),
    /// Buffers that others may share.
    Shared(Aggregate),
}

/// Part of a document.
#[derive(Debug)]
pub struct FileBody {
    range: Range<u64>,
    /// Of a document that is not in memory.
    window: Option<Box<Window>>,
}

/// The blocks that are held.
#[derive(Debug)]
struct Window {
    /// Where in the document the first block begins.
    start: u64,
    /// And where the last one ends.
    end: u64,
    blocks: VecDeque<Slice>,
}

impl Body {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Body::Empty => 0,
            Body::File(file) => file.range.end - file.range.start,
            Body::Shared(bytes) => bytes.len() as u64,
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Visits the bytes `range` of the body as far as they can be had now, until `visit` says no; `document` is what
    /// [`FileBody::new`] was given.
    pub fn visit<'a>(
        &'a self,
        document: Option<&'a dyn Document>,
        range: Range<u64>,
        visit: impl FnMut(Piece<'a>) -> bool,
    ) {
        match (self, document) {
            (Body::File(file), Some(document)) => file.visit(document, range, visit),
            (Body::Shared(bytes), _) => visit_aggregate(bytes, range, visit),
            _ => {}
        }
    }
}

impl FileBody {
    /// The bytes `range` of `document`, which is not empty and lies within it. Reads its first block, so that what cannot
    /// be read at all is known before there is a head.
    ///
    /// # Errors
    /// As [`Document::fetch`].
    pub fn new(document: &dyn Document, range: Range<u64>) -> io::Result<FileBody> {
        let mut window = None;
        if !document.is_resident() {
            let blocks = VecDeque::with_capacity(1);
            window = Some(Box::new(Window { start: range.start, end: range.start, blocks }));
        }
        let mut body = FileBody { range, window };
        body.fetch(document, 1)?;
        Ok(body)
    }

    /// Whether blocks have to be read as the peer takes what there is.
    pub fn is_read(&self) -> bool {
        self.window.is_some()
    }

    /// How many bytes from the start of the body on have been had so far.
    pub fn fetched(&self) -> u64 {
        self.window.as_ref().map_or(self.range.end, |window| window.end) - self.range.start
    }

    /// Reads until the first `len` bytes of the body have been had, or all.
    ///
    /// # Errors
    /// As [`Document::fetch`]. What was had before is still there.
    pub fn fetch(&mut self, document: &dyn Document, len: u64) -> io::Result<()> {
        let Some(window) = &mut self.window else { return Ok(()) };
        let until = self.range.end.min(self.range.start.saturating_add(len));
        while window.end < until {
            let mut block = document.fetch(window.end)?;
            if block.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let left = self.range.end - window.end;
            if block.len() as u64 > left {
                block.truncate(left as usize);
            }
            window.end += block.len() as u64;
            window.blocks.push_back(block);
        }
        Ok(())
    }

    /// Lets go of blocks that lie before the byte `len` of the body.
    pub fn release(&mut self, len: u64) {
        let Some(window) = &mut self.window else { return };
        let until = self.range.start + len;
        while let Some(block) = window.blocks.front()
            && window.start + block.len() as u64 <= until
        {
            window.start += block.len() as u64;
            window.blocks.pop_front();
        }
    }

    fn visit<'a>(
        &'a self,
        document: &'a dyn Document,
        range: Range<u64>,
        mut visit: impl FnMut(Piece<'a>) -> bool,
    ) {
        let (mut at, end) =
            (self.range.start + range.start, self.range.end.min(self.range.start + range.end));
        let Some(window) = &self.window else {
            while at < end {
                let len = usize::try_from(end - at).unwrap_or(usize::MAX);
                let Some(piece) = document.resident(at, len) else { return };
                at += piece.bytes.len() as u64;
                if !visit(piece) {
                    return;
                }
            }
            return;
        };
        let mut start = window.start;
        for block in &window.blocks {
            let block_end = start + block.len() as u64;
            if at >= end {
                return;
            }
            if at < block_end {
                // Within a block, so within memory.
                let part = (at - start) as usize..(end.min(block_end) - start) as usize;
                let piece = Piece { stored: document.stored_sums(at), ..block.piece(part) };
                at = end.min(block_end);
                if !visit(piece) {
                    return;
                }
            }
            start = block_end;
        }
    }
}

fn visit_aggregate<'a>(bytes: &'a Aggregate, range: Range<u64>, mut visit: impl FnMut(Piece<'a>) -> bool) {
    let mut start = 0;
    for slice in bytes.slices() {
        let end = start + slice.len() as u64;
        if range.start < end && start < range.end {
            let from = range.start.max(start) - start;
            let to = range.end.min(end) - start;
            if !visit(slice.piece(from as usize..to as usize)) {
                return;
            }
        }
        start = end;
    }
}
