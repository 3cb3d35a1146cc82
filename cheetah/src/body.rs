//! The bodies of responses: part of a document, buffers, or what is made while it is sent.
//!
//! A document of a packed image is in memory, and its pieces point there. Of any other, the blocks between
//! what the peer has acknowledged and some way ahead are held here, each from when it was asked for until it
//! is acknowledged:
//!
//! ```text
//!   range.start                                                              range.end
//!   |------------------|=========|=========|.........|.........|--------------|
//!     acknowledged,      blocks held:        being read           not asked for
//!     let go of          given when asked                         yet
//! ```

pub(crate) mod parts;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use fsstack::cache::{BlockPart, BlockReader};
use runtime::buffer::{Aggregate, Shared, Slice};
use runtime::payload::Piece;

use crate::http::date::Persistence;
use crate::http::foreign::ForeignHead;
use crate::http::response::Status;
use crate::live::{ConnectionWaker, End, Receiver};
use crate::store::Document;
pub use parts::PartsBody;

/// What follows a response's head.
#[derive(Debug, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes of the response's document.
    File(FileBody),
    /// Several parts of it, with a head each.
    Parts(Box<PartsBody>),
    /// Buffers that others may share.
    Shared(Aggregate),
    /// What is made while it is sent.
    Live(Box<LiveBody>),
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
    /// What was asked for from there on: the first of it is being read.
    ahead: VecDeque<BlockPart>,
}

impl Body {
    /// Whether more may come.
    pub fn is_open(&self) -> bool {
        matches!(self, Body::Live(live) if live.ended.is_none())
    }

    /// Whether it ended before it was whole.
    pub fn is_broken(&self) -> bool {
        matches!(self, Body::Live(live) if live.ended == Some(End::Broken))
    }

    /// Length in bytes, so far.
    pub fn len(&self) -> u64 {
        match self {
            Body::Live(live) => live.end,
            Body::Empty => 0,
            Body::File(file) => file.len(),
            Body::Parts(parts) => parts.len(),
            Body::Shared(bytes) => bytes.len() as u64,
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Visits the bytes `range` of the body as far as they can be had now, until `visit` says no; `document`
    /// is what [`FileBody::new`] was given.
    pub fn visit<'a>(
        &'a self,
        document: Option<&'a dyn Document>,
        range: Range<u64>,
        visit: impl FnMut(Piece<'a>) -> bool,
    ) {
        match (self, document) {
            (Body::File(file), Some(document)) => file.visit(document, range, visit),
            (Body::Parts(parts), Some(document)) => parts.visit(document, range, visit),
            (Body::Shared(bytes), _) => visit_aggregate(bytes, range, visit),
            (Body::Live(live), _) => {
                let from_base = |at: u64| at.saturating_sub(live.base);
                visit_aggregate(&live.bytes, from_base(range.start)..from_base(range.end), visit);
            }
            _ => {}
        }
    }

    /// Whether blocks have to be read as the peer takes what there is.
    pub fn is_read(&self) -> bool {
        match self {
            Body::File(file) => file.is_read(),
            Body::Parts(parts) => parts.is_read(),
            Body::Empty | Body::Shared(_) | Body::Live(_) => false,
        }
    }

    /// Has `document` read by `reader` until the first `len` bytes of the body have been had, or all, or are
    /// being read.
    ///
    /// # Errors
    /// As [`Document::read`]; with it comes how many bytes of the body have been had, and are still there.
    pub fn fetch(
        &mut self,
        document: &dyn Document,
        len: u64,
        reader: &BlockReader,
    ) -> Result<(), (u64, io::Error)> {
        match self {
            Body::File(file) => file.fetch(document, len, reader).map_err(|error| (file.fetched(), error)),
            Body::Parts(parts) => parts.fetch(document, len, reader),
            Body::Empty | Body::Shared(_) | Body::Live(_) => Ok(()),
        }
    }

    /// How many bytes from the start of the body on have been had so far.
    pub fn fetched(&self) -> u64 {
        match self {
            Body::File(file) => file.fetched(),
            Body::Parts(parts) => parts.fetched(),
            Body::Empty | Body::Shared(_) | Body::Live(_) => self.len(),
        }
    }

    /// Lets go of what lies before the byte `len` of the body, where it is held for this body alone.
    pub fn release(&mut self, len: u64) {
        match self {
            Body::File(file) => file.release(len),
            Body::Parts(parts) => parts.release(len),
            Body::Live(live) => live.release(len),
            Body::Empty | Body::Shared(_) => {}
        }
    }
}

/// A body that grows. On the wire it is cut into chunks (RFC 9112 section 7.1), or ended by the end of the
/// connection.
#[derive(Debug)]
pub struct LiveBody {
    receiver: Receiver,
    chunked: bool,
    /// What has come and is not acknowledged, framing included.
    bytes: Aggregate,
    /// Where in the body that begins, and ends.
    base: u64,
    end: u64,
    ended: Option<End>,
    /// The head is made by whoever makes the body, and has not come.
    awaited: Option<Awaited>,
}

/// What has to be known of a request to answer it when the head has come.
#[derive(Clone, Copy, Debug)]
pub struct Awaited {
    /// How the connection goes on.
    pub persistence: Persistence,
    /// Whether content is sent: not to a HEAD.
    pub with_body: bool,
    /// Whether it may be sent in chunks: not to a client of HTTP/1.0.
    pub may_chunk: bool,
}

/// A head that has come.
#[derive(Debug)]
pub struct Come {
    /// It, or the status to answer with instead.
    pub head: Result<Box<ForeignHead>, Status>,
    /// What the request was like.
    pub asked: Awaited,
    /// The length of the content, where it is known.
    pub length: Option<u64>,
}

impl LiveBody {
    /// What `receiver` gives.
    pub fn new(receiver: Receiver, chunked: bool) -> LiveBody {
        LiveBody { receiver, chunked, bytes: Aggregate::new(), base: 0, end: 0, ended: None, awaited: None }
    }

    /// What `receiver` gives, the head first.
    pub fn with_head(receiver: Receiver, asked: Awaited) -> LiveBody {
        LiveBody { awaited: Some(asked), ..LiveBody::new(receiver, false) }
    }

    /// Whether the head has still to come.
    pub fn awaits_head(&self) -> bool {
        self.awaited.is_some()
    }

    /// Takes the head if it has come. What follows it is then in chunks unless its length is known.
    pub fn take_head(&mut self) -> Option<Come> {
        let asked = self.awaited?;
        let head = self.receiver.take_head()?;
        self.awaited = None;
        let mut length = None;
        if let Ok(head) = &head {
            let whole = || self.receiver.whole_len().filter(|_| asked.with_body && head.may_have_content());
            length = head.length.or_else(whole);
            self.chunked = asked.with_body && asked.may_chunk && head.may_have_content() && length.is_none();
        } else {
            self.ended = Some(End::Finished);
        }
        Some(Come { head, asked, length })
    }

    /// Bytes that have come so far, framing included.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Whom to wake when there is more.
    pub fn wake_by(&self, waker: ConnectionWaker) {
        self.receiver.wake_by(waker);
    }

    /// Whether the end has come, and which.
    pub fn ended(&self) -> Option<End> {
        self.ended
    }

    /// Takes what has come, unless `limit` bytes wait for their acknowledgement.
    pub fn take(&mut self, limit: u64) {
        if self.ended.is_some() || self.awaited.is_some() || self.end - self.base >= limit {
            return;
        }
        let (more, ended) = self.receiver.take();
        let before = self.bytes.len();
        if !self.chunked {
            self.bytes.append(more);
        } else {
            if !more.is_empty() {
                self.bytes.push(text(format!("{:x}\r\n", more.len())));
                self.bytes.append(more);
                self.bytes.push(text("\r\n".to_owned()));
            }
            if ended == Some(End::Finished) {
                self.bytes.push(text("0\r\n\r\n".to_owned()));
            }
        }
        self.ended = ended;
        self.end += (self.bytes.len() - before) as u64;
    }

    /// Lets go of what lies before the byte `len` of the body.
    pub fn release(&mut self, len: u64) {
        let gone = len.min(self.end).saturating_sub(self.base);
        self.bytes.split_to(gone as usize);
        self.base += gone;
    }
}

fn text(text: String) -> Slice {
    Slice::from(Shared::from(text.into_bytes()))
}

impl FileBody {
    /// The bytes `range` of `document`, which is not empty and lies within it. Has its first block read, so
    /// that what cannot be read at all is known before there is a head.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn new(document: &dyn Document, range: Range<u64>, reader: &BlockReader) -> io::Result<FileBody> {
        let mut body = FileBody::unread(document, range);
        body.fetch(document, 1, reader)?;
        Ok(body)
    }

    /// As [`FileBody::new`], with nothing read yet.
    fn unread(document: &dyn Document, range: Range<u64>) -> FileBody {
        let mut window = None;
        if !document.is_resident() {
            let (blocks, ahead) = (VecDeque::with_capacity(1), VecDeque::new());
            window = Some(Box::new(Window { start: range.start, end: range.start, blocks, ahead }));
        }
        FileBody { range, window }
    }

    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Whether blocks have to be read as the peer takes what there is.
    pub fn is_read(&self) -> bool {
        self.window.is_some()
    }

    /// How many bytes from the start of the body on have been had so far.
    pub fn fetched(&self) -> u64 {
        self.window.as_ref().map_or(self.range.end, |window| window.end) - self.range.start
    }

    /// Has blocks read by `reader` until the first `len` bytes of the body have been had, or all, or are
    /// being read.
    ///
    /// # Errors
    /// As [`Document::read`]. What was had before is still there.
    pub fn fetch(&mut self, document: &dyn Document, len: u64, reader: &BlockReader) -> io::Result<()> {
        let Some(window) = &mut self.window else { return Ok(()) };
        let until = self.range.end.min(self.range.start.saturating_add(len));
        while let Some(part) = window.ahead.pop_front() {
            let awaited = window.left(&part, self.range.end);
            let had = match part {
                BlockPart::Coming(part) if !part.has_ended() => {
                    window.ahead.push_front(BlockPart::Coming(part));
                    break;
                }
                BlockPart::Coming(part) => {
                    reader.hold(part);
                    window.take(document.read(window.end, reader)?, self.range.end)?
                }
                here @ BlockPart::Here(_) => window.take(here, self.range.end)?,
            };
            if had < awaited {
                // What is behind it is damaged.
                window.ahead.clear();
            }
        }
        let mut asked = window.end + window.ahead.iter().map(|part| part.len() as u64).sum::<u64>();
        while asked < until {
            match document.read(asked, reader) {
                Ok(here @ BlockPart::Here(_)) if window.ahead.is_empty() => {
                    asked += window.take(here, self.range.end)?;
                }
                Ok(part) if !part.is_empty() => {
                    asked += part.len() as u64;
                    window.ahead.push_back(part);
                }
                // Of what lies before it, at least, all is well so far: told in its turn.
                _ if !window.ahead.is_empty() => break,
                Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Lets go of blocks that lie before the byte `len` of the body.
    pub fn release(&mut self, len: u64) {
        let Some(window) = &mut self.window else { return };
        let until = self.range.start.saturating_add(len);
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

impl Window {
    /// How many bytes of the body `part` is to be.
    fn left(&self, part: &BlockPart, range_end: u64) -> u64 {
        (part.len() as u64).min(range_end - self.end)
    }

    /// Takes a block that is there, or what of it lies before `range_end`. Gives its length.
    fn take(&mut self, part: BlockPart, range_end: u64) -> io::Result<u64> {
        let mut block = part.here()?;
        if block.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let left = range_end - self.end;
        if block.len() as u64 > left {
            block.truncate(left as usize);
        }
        let len = block.len() as u64;
        self.end += len;
        self.blocks.push_back(block);
        Ok(len)
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
