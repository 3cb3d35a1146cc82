//! Blocks to be read together: where from, where to, and what is done then.

use super::{BlockOutcome, BlockRead, BlockSource};
use crate::cache::Fill;
use crate::cache::file_cache::{BlockId, FileCache};
use runtime::buffer::Shared;
use runtime::stats::work::{Quantity, count};
use smallvec::SmallVec;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// What direct reads begin at, in memory and in the file: more than any device asks for.
const ALIGNMENT: usize = 4096;

/// The duty to read a block, or several that lie behind each other. Dropped, it is an error of who waits.
pub struct ReadOrder {
    cache: Arc<FileCache>,
    source: Arc<dyn BlockSource>,
    /// What is not done. All but the last are whole blocks.
    parts: SmallVec<[Part; 1]>,
    /// Where the first of them begins in the file.
    offset: u64,
    /// Bytes that are there, of all of them together.
    filled: usize,
    is_direct: bool,
}

/// A block.
struct Part {
    index: u64,
    read: BlockRead,
    room: Room,
    /// Bytes that have to be there.
    wanted: usize,
}

/// Where the bytes go.
pub(in crate::cache) enum Room {
    /// To a frame of the cache.
    Frame(Fill<BlockId>),
    /// Beside it, for who asked.
    Own(Box<[u8]>),
}

impl Room {
    fn bytes(&mut self) -> &mut [u8] {
        match self {
            Room::Frame(fill) => fill.buffer_to_fill(),
            Room::Own(bytes) => bytes,
        }
    }

    /// What was read is a block of so many bytes, and zeros.
    fn zero_behind(&mut self, block: usize) {
        // As far as a direct read writes.
        let written = block.next_multiple_of(ALIGNMENT);
        match self {
            Room::Frame(fill) => fill.zero_behind(block, written),
            Room::Own(bytes) => bytes[block..].fill(0),
        }
    }
}

impl Part {
    fn has_aligned_room(&mut self) -> bool {
        self.room.bytes().as_ptr().addr().is_multiple_of(ALIGNMENT)
    }
}

impl ReadOrder {
    /// An order for block `index` of `source`, which `read` is told of. What is wrong with the place is an
    /// error of that.
    pub(in crate::cache) fn new(
        cache: Arc<FileCache>,
        source: Arc<dyn BlockSource>,
        index: u64,
        read: BlockRead,
        mut room: Room,
    ) -> Option<ReadOrder> {
        let place = source.place(index);
        let (offset, wanted) = *place.as_ref().unwrap_or(&(0, 0));
        let wanted = wanted.min(room.bytes().len());
        let mut part = Part { index, read, room, wanted };
        let is_direct = source.direct_file().is_some()
            && part.has_aligned_room()
            && offset.is_multiple_of(ALIGNMENT as u64);
        let parts = SmallVec::from_iter([part]);
        let mut order = ReadOrder { cache, source, parts, offset, filled: 0, is_direct };
        match place {
            Ok(_) => Some(order),
            Err(error) => {
                order.end(Err(error));
                None
            }
        }
    }

    /// Has the next block read, too, which `read` is told of; if that cannot be done in the same reading, it
    /// is an error of that.
    pub(in crate::cache) fn extend(&mut self, read: BlockRead, room: Room) {
        let Some(last) = self.parts.last_mut() else { return };
        let block_bytes = last.room.bytes().len();
        let is_whole = last.wanted == block_bytes;
        let index = last.index + 1;
        let end = self.offset + (self.parts.len() * block_bytes) as u64;
        let place = self
            .source
            .place(index)
            .ok()
            .filter(|&(offset, wanted)| is_whole && offset == end && (1..=block_bytes).contains(&wanted));
        let wanted = place.map_or(0, |(_, wanted)| wanted);
        let mut part = Part { index, read, room, wanted };
        if place.is_some() && (!self.is_direct || part.has_aligned_room()) {
            self.parts.push(part);
        } else {
            self.settle(part, Err(io::Error::other("it does not lie behind the one before")));
        }
    }

    /// Where it is read from.
    pub(super) fn source(&self) -> &Arc<dyn BlockSource> {
        &self.source
    }

    /// Whose frames it is read to, unless it is read beside them.
    pub(super) fn cache(&self) -> &Arc<FileCache> {
        &self.cache
    }

    /// Whether it is read past the kernel's cache.
    pub(super) fn is_direct(&self) -> bool {
        self.is_direct
    }

    /// The file to read from.
    pub fn file(&self) -> BorrowedFd<'_> {
        let direct = self.source.direct_file().filter(|_| self.is_direct);
        direct.unwrap_or_else(|| self.source.file())
    }

    /// The same file by way of the kernel's cache, for who reads to a place and a length of its own.
    pub fn buffered_file(&self) -> BorrowedFd<'_> {
        self.source.file()
    }

    /// Where in the file it begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.parts.len()
    }

    /// Where in the file to go on, and where to put what is there, up to the end of a block: as much of it as
    /// comes.
    pub fn rest(&mut self) -> (u64, &mut [u8]) {
        let (offset, mut rooms) = self.rests();
        // Never empty until the order is done, and then nobody has it.
        let first = if rooms.is_empty() { &mut [][..] } else { std::mem::take(&mut rooms[0]) };
        (offset, first)
    }

    /// As [`ReadOrder::rest`], for all blocks.
    pub fn rests(&mut self) -> (u64, SmallVec<[&mut [u8]; 4]>) {
        let (mut skip, is_direct) = (self.from(), self.is_direct);
        let offset = self.offset + skip as u64;
        let mut rooms = SmallVec::new();
        for part in &mut self.parts {
            let wanted = part.wanted;
            let bytes = part.room.bytes();
            // Past the file's end a direct read comes back short.
            let whole = wanted.next_multiple_of(ALIGNMENT).min(bytes.len());
            let end = if is_direct { whole } else { wanted };
            let from = skip.min(end);
            skip -= from;
            if from < end {
                rooms.push(&mut bytes[from..end]);
            }
        }
        (offset, rooms)
    }

    /// Direct reads go on at a place where they may begin.
    fn from(&self) -> usize {
        if self.is_direct { self.filled / ALIGNMENT * ALIGNMENT } else { self.filled }
    }

    fn wanted(&self) -> usize {
        self.parts.iter().map(|part| part.wanted).sum()
    }

    /// Takes what came of reading the rest. If there is more to read, the order comes back; else it is done.
    pub fn advance(mut self, outcome: io::Result<usize>) -> Option<ReadOrder> {
        match outcome {
            Ok(n) => {
                let filled = self.from() + n;
                // Nothing more, or directly the same bytes again.
                let is_stuck = filled <= self.filled;
                self.filled = self.filled.max(filled);
                if self.filled >= self.wanted() {
                    self.end(Ok(()));
                } else if is_stuck {
                    self.end(Err(io::ErrorKind::UnexpectedEof.into()));
                } else {
                    return Some(self);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Some(self),
            Err(error) => self.end(Err(error)),
        }
        None
    }

    /// Reads, and waits for it.
    pub fn read_here(self) {
        let mut order = Some(self);
        while let Some(mut rest) = order {
            count(Quantity::OtherCalls, 1);
            let outcome = if rest.is_direct || rest.parts.len() > 1 {
                rest.read_vectors(|file, rooms, offset| rustix::io::preadv(file, rooms, offset))
            } else {
                let source = Arc::clone(&rest.source);
                let (offset, buffer) = rest.rest();
                source.read_at(offset, buffer)
            };
            order = rest.advance(outcome);
        }
    }

    /// Takes what the kernel has in memory. If that is not all, the order comes back.
    pub(super) fn try_now(mut self) -> Option<ReadOrder> {
        use rustix::io::{ReadWriteFlags, preadv2};
        if self.is_direct {
            return Some(self);
        }
        count(Quantity::OtherCalls, 1);
        let nowait = ReadWriteFlags::NOWAIT;
        match self.read_vectors(|file, rooms, offset| preadv2(file, rooms, offset, nowait)) {
            Ok(0) | Err(_) => Some(self),
            Ok(n) => self.advance(Ok(n)),
        }
    }

    fn read_vectors(
        &mut self,
        read: impl FnOnce(BorrowedFd<'_>, &mut [IoSliceMut<'_>], u64) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let (source, is_direct) = (Arc::clone(&self.source), self.is_direct);
        let file = source.direct_file().filter(|_| is_direct).unwrap_or_else(|| source.file());
        let (offset, rooms) = self.rests();
        let mut rooms: SmallVec<[IoSliceMut<'_>; 4]> = rooms.into_iter().map(IoSliceMut::new).collect();
        Ok(read(file, &mut rooms, offset)?)
    }

    /// Each block that is there is; of the others `outcome` tells.
    fn end(&mut self, outcome: io::Result<()>) {
        let error = outcome.err().map(Arc::new);
        let mut left = self.filled;
        for part in std::mem::take(&mut self.parts) {
            // Without a place nothing is wanted, and nothing there.
            let is_there = part.wanted > 0 && left >= part.wanted;
            left = left.saturating_sub(part.wanted);
            let outcome = match &error {
                Some(error) if !is_there => Err(super::same_error(error)),
                _ => Ok(()),
            };
            self.settle(part, outcome);
        }
    }

    fn settle(&self, part: Part, outcome: io::Result<()>) {
        let Part { index, read, mut room, wanted } = part;
        let checked = outcome.and_then(|()| self.source.check(index, &room.bytes()[..wanted]));
        let outcome = match checked {
            Ok(damages) if damages.is_empty() => {
                room.zero_behind(wanted);
                BlockOutcome::Sound(match room {
                    Room::Frame(fill) => self.cache.complete(fill),
                    Room::Own(bytes) => Shared::from(bytes.into_vec()),
                })
            }
            Ok(damages) => {
                room.zero_behind(wanted);
                let bytes = Shared::from(room.bytes().to_vec());
                self.give_back(room);
                BlockOutcome::Damaged(bytes, damages.into())
            }
            Err(error) => {
                self.give_back(room);
                BlockOutcome::Failed(Arc::new(error))
            }
        };
        read.end(outcome);
    }

    fn give_back(&self, room: Room) {
        if let Room::Frame(fill) = room {
            self.cache.abandon(fill);
        }
    }
}

impl Drop for ReadOrder {
    fn drop(&mut self) {
        if !self.parts.is_empty() {
            self.end(Err(io::Error::other("its reading was given up")));
        }
    }
}

impl fmt::Debug for ReadOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReadOrder { source, parts, offset, filled, .. } = self;
        f.debug_struct("ReadOrder")
            .field("source", source)
            .field("blocks", &parts.len())
            .field("offset", offset)
            .field("filled", filled)
            .finish_non_exhaustive()
    }
}
