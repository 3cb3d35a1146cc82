//! What a connection has to send and its peer has not acknowledged: frames, by their offsets in the stream of
//! bytes. Of a response only what is made for it lies here; heads of packed files, and contents, lie in their
//! pages:
//!
//! ```text
//!   HEADERS   9 bytes | the file's block, in its page | date        DATA   9 bytes | bytes of the body, in their page
//! ```

use std::cell::Cell;
use std::collections::VecDeque;

use runtime::buffer::Slice;
use runtime::payload::Piece;
use slab::Slab;

use super::stream::Stream;
use crate::http::frame::HEADER_BYTES;
use crate::http::response::Status;

/// The longest of the frames that are kept where they were made: `PING` and `GOAWAY`.
pub(super) const SHORT_BYTES: usize = HEADER_BYTES + 8;

/// One or more frames, or a part of one.
#[derive(Debug)]
pub(super) enum Part {
    /// A short frame.
    Short([u8; SHORT_BYTES], u8),
    /// Frames as they are.
    Made(Slice),
    /// The frame of a head that lies ready: its header, perhaps a byte of HPACK, the block of the document of
    /// the stream that is kept there, the end of the head.
    ReadyHead { start: [u8; HEADER_BYTES + 1], start_len: u8, stream: usize, status: Status, tail: Slice },
    /// A frame of content: its header, then `len` bytes of a body.
    Content { header: [u8; HEADER_BYTES], stream: usize, from: u64, len: u32 },
}

/// A part and where it ends.
#[derive(Debug)]
struct Segment {
    end: u64,
    part: Part,
}

/// What is queued.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    queue: VecDeque<Segment>,
    acknowledged: u64,
    end: u64,
    /// How far the transport has looked.
    seen: Cell<u64>,
}

impl Outgoing {
    /// Appends a part of `len` bytes.
    pub(super) fn push(&mut self, part: Part, len: usize) {
        self.end += len as u64;
        self.queue.push_back(Segment { end: self.end, part });
    }

    pub(super) fn acknowledged(&mut self, offset: u64) {
        self.acknowledged = self.acknowledged.max(offset.min(self.end));
    }

    /// The first part, if all of it was acknowledged.
    pub(super) fn pop_acknowledged(&mut self) -> Option<Part> {
        let is_done = self.queue.front().is_some_and(|segment| segment.end <= self.acknowledged);
        let segment = self.queue.pop_front_if(|_| is_done)?;
        Some(segment.part)
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn acknowledged_end(&self) -> u64 {
        self.acknowledged
    }

    /// Bytes that are not acknowledged.
    pub(super) fn held(&self) -> u64 {
        self.end - self.acknowledged
    }

    /// Bytes that the transport has not asked for yet.
    pub(super) fn ahead(&self) -> u64 {
        self.end - self.seen.get().max(self.acknowledged)
    }

    /// Parts that are not acknowledged.
    pub(super) fn parts(&self) -> usize {
        self.queue.len()
    }

    fn from(&self, offset: u64) -> impl Iterator<Item = &Segment> {
        let first = self.queue.partition_point(|segment| segment.end <= offset);
        self.queue.range(first..)
    }

    /// Visits the bytes `[offset, offset + len)` piece by piece, until `visit` says no.
    pub(super) fn for_each_piece<'a>(
        &'a self,
        streams: &'a Slab<Stream>,
        offset: u64,
        len: usize,
        mut visit: impl FnMut(Piece<'a>) -> bool,
    ) {
        let end = self.end.min(offset.saturating_add(len as u64));
        let mut at = offset;
        for segment in self.from(offset) {
            let until = segment.end.min(end);
            if at >= until {
                break;
            }
            let more = segment.visit(streams, &mut at, until, &mut visit);
            if !more || at < until {
                break;
            }
        }
        self.seen.set(self.seen.get().max(at));
    }

    /// Where the part that the byte at `offset` belongs to ends.
    pub(super) fn part_end(&self, offset: u64) -> Option<u64> {
        self.from(offset).next().map(|segment| segment.end)
    }

    /// Streams whose content lies in `[offset, end)`.
    pub(super) fn streams_of(&self, offset: u64, end: u64) -> impl Iterator<Item = usize> {
        let mut start = offset;
        let touched = self.from(offset).take_while(move |segment| {
            let is_touched = start < end;
            start = segment.end;
            is_touched
        });
        touched.filter_map(|segment| match segment.part {
            Part::Content { stream, .. } => Some(stream),
            _ => None,
        })
    }
}

impl Segment {
    /// Visits what lies between `*at`, which moves on, and `end`; whether `visit` wants more.
    fn visit<'a>(
        &'a self,
        streams: &'a Slab<Stream>,
        at: &mut u64,
        end: u64,
        visit: &mut impl FnMut(Piece<'a>) -> bool,
    ) -> bool {
        match &self.part {
            Part::Short(bytes, len) => {
                let start = self.end - u64::from(*len);
                part_of(Piece::new(&bytes[..usize::from(*len)]), start, at, end, visit)
            }
            Part::Made(bytes) => {
                let start = self.end - bytes.len() as u64;
                part_of(bytes.piece(0..bytes.len()), start, at, end, visit)
            }
            Part::ReadyHead { start: header, start_len, stream, status, tail } => {
                let header = Piece::new(&header[..usize::from(*start_len)]);
                let Some(block) = streams.get(*stream).and_then(|stream| stream.ready_block(*status)) else {
                    return false;
                };
                let tail = tail.piece(0..tail.bytes().len());
                let len = header.bytes.len() + block.bytes.len() + tail.bytes.len();
                let mut start = self.end - len as u64;
                for piece in [header, block, tail] {
                    let len = piece.bytes.len() as u64;
                    if !part_of(piece, start, at, end, visit) {
                        return false;
                    }
                    start += len;
                }
                true
            }
            Part::Content { header, stream, from, len } => {
                let body_start = self.end - u64::from(*len);
                let header_start = body_start - HEADER_BYTES as u64;
                if !part_of(Piece::new(header), header_start, at, end, visit) {
                    return false;
                }
                let Some(stream) = streams.get(*stream) else { return false };
                if *at >= end {
                    return true;
                }
                let mut more = true;
                let range = *from + (*at - body_start)..*from + (end - body_start);
                stream.body.visit(stream.document.as_deref(), range, |piece| {
                    *at += piece.bytes.len() as u64;
                    more = visit(piece);
                    more
                });
                more
            }
        }
    }
}

/// Visits the part of `piece`, which begins at `start`, between `*at`, which moves on, and `end`, if there is
/// any.
fn part_of<'a>(
    piece: Piece<'a>,
    start: u64,
    at: &mut u64,
    end: u64,
    visit: &mut impl FnMut(Piece<'a>) -> bool,
) -> bool {
    let until = end.min(start + piece.bytes.len() as u64);
    if *at >= until {
        return true;
    }
    let bytes = &piece.bytes[(*at - start) as usize..(until - start) as usize];
    *at = until;
    let is_whole = bytes.len() == piece.bytes.len();
    visit(Piece { bytes, sum: piece.sum.filter(|_| is_whole), stored: None, ..piece })
}
