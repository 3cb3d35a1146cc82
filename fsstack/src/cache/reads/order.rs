//! One block to be read: where from, where to, and what is done then.

use super::{BlockOutcome, BlockRead, BlockSource};
use crate::cache::Fill;
use crate::cache::file_cache::{BlockId, FileCache};
use runtime::buffer::Shared;
use runtime::stats::work::{Quantity, count};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// What direct reads begin at, in memory and in the file: more than any device asks for.
const ALIGNMENT: usize = 4096;

/// The duty to read a block. Dropped, it is an error of who waits.
pub struct ReadOrder {
    cache: Arc<FileCache>,
    source: Arc<dyn BlockSource>,
    index: u64,
    read: BlockRead,
    /// `None` once it is done.
    room: Option<Room>,
    offset: u64,
    /// Bytes that have to be there.
    wanted: usize,
    filled: usize,
    is_direct: bool,
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
}

impl ReadOrder {
    /// An order for block `index` of `source`, which `read` is told of. What is wrong with the place is an error of that.
    pub(in crate::cache) fn new(
        cache: Arc<FileCache>,
        source: Arc<dyn BlockSource>,
        index: u64,
        read: BlockRead,
        mut room: Room,
    ) -> Option<ReadOrder> {
        let place = source.place(index);
        let bytes = room.bytes();
        let is_direct = source.direct_file().is_some()
            && bytes.as_ptr().addr().is_multiple_of(ALIGNMENT)
            && place.as_ref().is_ok_and(|(offset, _)| offset.is_multiple_of(ALIGNMENT as u64));
        let limit = bytes.len();
        let (offset, wanted) = *place.as_ref().unwrap_or(&(0, 0));
        let wanted = wanted.min(limit);
        let room = Some(room);
        let order = ReadOrder { cache, source, index, read, room, offset, wanted, filled: 0, is_direct };
        match place {
            Ok(_) => Some(order),
            Err(error) => {
                order.end(Err(error));
                None
            }
        }
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

    /// Where in the file to go on, and where to put what is there: as much of it as comes.
    pub fn rest(&mut self) -> (u64, &mut [u8]) {
        let from = self.from();
        let (wanted, is_direct) = (self.wanted, self.is_direct);
        // Always so until the order is done, and then nobody has it.
        let bytes = self.room.as_mut().map_or(&mut [][..], Room::bytes);
        // Past the file's end a direct read comes back short.
        let end = if is_direct { bytes.len() } else { wanted };
        (self.offset + from as u64, bytes.get_mut(from..end).unwrap_or_default())
    }

    /// Direct reads go on at a place where they may begin.
    fn from(&self) -> usize {
        if self.is_direct { self.filled / ALIGNMENT * ALIGNMENT } else { self.filled }
    }

    /// Takes what came of reading the rest. If there is more to read, the order comes back; else it is done.
    pub fn advance(mut self, outcome: io::Result<usize>) -> Option<ReadOrder> {
        match outcome {
            Ok(0) if self.filled < self.wanted => self.end(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => {
                let filled = self.from() + n;
                if filled < self.wanted && filled <= self.filled {
                    // The same bytes again, and none behind them.
                    self.end(Err(io::ErrorKind::UnexpectedEof.into()));
                    return None;
                }
                self.filled = filled;
                if filled < self.wanted {
                    return Some(self);
                }
                self.end(Ok(()));
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
            let (source, is_direct) = (Arc::clone(&rest.source), rest.is_direct);
            let (offset, buffer) = rest.rest();
            let outcome = match source.direct_file().filter(|_| is_direct) {
                Some(file) => rustix::io::pread(file, buffer, offset).map_err(io::Error::from),
                None => source.read_at(offset, buffer),
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
        let source = Arc::clone(&self.source);
        let (offset, buffer) = self.rest();
        match preadv2(source.file(), &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
            Ok(0) | Err(_) => Some(self),
            Ok(n) => self.advance(Ok(n)),
        }
    }

    fn end(mut self, outcome: io::Result<()>) {
        if let Some(room) = self.room.take() {
            self.settle(room, outcome);
        }
    }

    fn settle(&mut self, mut room: Room, outcome: io::Result<()>) {
        let wanted = self.wanted;
        let bytes = room.bytes();
        let checked = outcome.and_then(|()| {
            bytes[wanted..].fill(0);
            self.source.check(self.index, &bytes[..wanted])
        });
        let outcome = match checked {
            Ok(damages) if damages.is_empty() => BlockOutcome::Sound(match room {
                Room::Frame(fill) => self.cache.complete(fill),
                Room::Own(bytes) => Shared::from(bytes.into_vec()),
            }),
            Ok(damages) => {
                let bytes = Shared::from(bytes.to_vec());
                self.give_back(room);
                BlockOutcome::Damaged(bytes, damages.into())
            }
            Err(error) => {
                self.give_back(room);
                BlockOutcome::Failed(Arc::new(error))
            }
        };
        self.read.end(outcome);
    }

    fn give_back(&self, room: Room) {
        if let Room::Frame(fill) = room {
            self.cache.abandon(fill);
        }
    }
}

impl Drop for ReadOrder {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            self.settle(room, Err(io::Error::other("its reading was given up")));
        }
    }
}

impl fmt::Debug for ReadOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReadOrder { source, index, filled, wanted, .. } = self;
        f.debug_struct("ReadOrder")
            .field("source", source)
            .field("index", index)
            .field("filled", filled)
            .field("wanted", wanted)
            .finish_non_exhaustive()
    }
}
