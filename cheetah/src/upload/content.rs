//! The content of an upload as it comes: out of its framing into blocks, summed on the way.

use fsstack::format::copy_sums::SumsMark;
use fsstack::format::sums::ContentSums;
use fsstack::log::Contents;
use runtime::buffer::{Buffer, Pool, Slice};

use super::BLOCK_BYTES;
use crate::http::chunked::{ChunkedEnd, Fed};
use crate::http::response::Status;

/// Content for each partial sum, as packed files have it.
const SUM_BLOCK_BYTES: u32 = 512;

/// Framing that chunks may have in all, beside a part of the content: small ones have more of it than
/// content.
const FRAMING_BYTES: u64 = 256 << 10;

/// How far content has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All bytes belong to it, and more will come.
    More,
    /// It ends behind so many of them.
    Whole(usize),
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    /// So many bytes are to come.
    Length(u64),
    Chunks(ChunkedEnd),
    Over,
}

/// Content, as far as it has come.
#[derive(Debug)]
pub(super) struct Content {
    framing: Framing,
    received: Received,
}

/// Its bytes.
#[derive(Debug)]
struct Received {
    limit: u64,
    len: u64,
    blocks: Pool,
    full: Contents,
    /// The block that is being filled, and how far.
    current: Option<(Buffer, usize)>,
    sums: ContentSums,
    placed: Option<Placed>,
}

/// Bytes that are in the current block and in the sums, but may be wrong: they count when they are taken.
#[derive(Clone, Copy, Debug)]
struct Placed {
    /// Where they were copied from. They are taken from there, or are others.
    from: (usize, usize),
    mark: SumsMark,
}

impl Content {
    /// Nothing yet of `length` bytes, or of chunks with at most `limit`.
    pub(super) fn new(length: Option<u64>, limit: u64, blocks: Pool) -> Content {
        let framing = match length {
            Some(0) => Framing::Over,
            Some(length) => Framing::Length(length),
            None => {
                let room = limit.saturating_add(limit / 8).saturating_add(FRAMING_BYTES);
                Framing::Chunks(ChunkedEnd::new(room))
            }
        };
        let sums = ContentSums::new(SUM_BLOCK_BYTES);
        let received =
            Received { limit, len: 0, blocks, full: Contents::new(), current: None, sums, placed: None };
        Content { framing, received }
    }

    pub(super) fn len(&self) -> u64 {
        self.received.len
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self.framing, Framing::Over)
    }

    /// Bytes that are known to come, as far as there is room for them. Of chunks nobody knows how many
    /// follow.
    pub(super) fn room(&self) -> usize {
        let Framing::Length(left) = self.framing else { return 0 };
        let received = &self.received;
        let begun = received.current.as_ref().map_or(0, |(_, filled)| BLOCK_BYTES - filled);
        let free = received.blocks.available().saturating_mul(BLOCK_BYTES).saturating_add(begun);
        usize::try_from(left).unwrap_or(usize::MAX).min(free)
    }

    /// Copies bytes that come next, if they are right, to where they stay; their Internet sum, made by that
    /// loop. `None` if they are to be verified before.
    pub(super) fn place(&mut self, bytes: &[u8]) -> Option<u16> {
        match self.framing {
            Framing::Length(left) if left >= bytes.len() as u64 => self.received.place(bytes),
            _ => None,
        }
    }

    /// What was placed and not taken was never here.
    pub(super) fn forget_placed(&mut self) {
        self.received.forget_placed();
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Taken, Status> {
        let used = match &mut self.framing {
            Framing::Over => 0,
            Framing::Length(left) => {
                let now = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                self.received.add(&bytes[..now])?;
                *left -= now as u64;
                if *left > 0 {
                    return Ok(Taken::More);
                }
                now
            }
            Framing::Chunks(chunks) => {
                let mut added = Ok(());
                let fed = chunks.feed_to(bytes, |data| {
                    if added.is_ok() {
                        added = self.received.add(data);
                    }
                });
                added?;
                match fed {
                    Fed::More => return Ok(Taken::More),
                    Fed::End(used) => used,
                    Fed::Bad => return Err(Status::BadRequest),
                }
            }
        };
        self.framing = Framing::Over;
        Ok(Taken::Whole(used))
    }

    /// All of it, with its sums.
    pub(super) fn finish(&mut self) -> Contents {
        let received = &mut self.received;
        received.close_block();
        let sums = std::mem::replace(&mut received.sums, ContentSums::new(SUM_BLOCK_BYTES));
        std::mem::take(&mut received.full).with_sums(sums.into_sums())
    }
}

impl Received {
    /// Copies bytes to where they stay until they are on the disk.
    fn add(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        self.len += bytes.len() as u64;
        if self.len > self.limit {
            return Err(Status::ContentTooLarge);
        }
        if self.placed.is_some_and(|placed| placed.from == (bytes.as_ptr() as usize, bytes.len())) {
            self.placed = None;
            if let Some((_, filled)) = &mut self.current {
                *filled += bytes.len();
                if *filled == BLOCK_BYTES {
                    self.close_block();
                }
            }
            return Ok(());
        }
        self.forget_placed();
        while !bytes.is_empty() {
            let (mut block, filled) = match self.current.take() {
                Some(current) => current,
                // All memory for this is in use: others will have it soon.
                None => (self.blocks.take().ok_or(Status::ServiceUnavailable)?, 0),
            };
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - filled));
            self.sums.copy(now, &mut block[filled..filled + now.len()]);
            self.current = Some((block, filled + now.len()));
            if filled + now.len() == BLOCK_BYTES {
                self.close_block();
            }
            bytes = later;
        }
        Ok(())
    }

    fn place(&mut self, bytes: &[u8]) -> Option<u16> {
        self.forget_placed();
        if self.len + bytes.len() as u64 > self.limit {
            return None;
        }
        if self.current.is_none() {
            self.current = Some((self.blocks.take()?, 0));
        }
        let (block, filled) = self.current.as_mut()?;
        // What goes on in another block is verified by itself.
        let to = block.get_mut(*filled..*filled + bytes.len())?;
        let mark = self.sums.mark();
        self.sums.copy(bytes, to);
        self.placed = Some(Placed { from: (bytes.as_ptr() as usize, bytes.len()), mark });
        self.sums.internet_sum_since(mark)
    }

    fn forget_placed(&mut self) {
        if let Some(placed) = self.placed.take() {
            self.sums.go_back(placed.mark);
        }
    }

    fn close_block(&mut self) {
        if let Some((block, filled)) = self.current.take() {
            let mut slice = Slice::from(block.freeze());
            slice.truncate(filled);
            self.full.push(slice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(contents: &Contents) -> Vec<u8> {
        contents.parts().iter().flat_map(|part| part.bytes()).copied().collect()
    }

    #[test]
    fn what_comes_in_pieces_is_what_was_sent() {
        let sent: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        let pool = Pool::new(BLOCK_BYTES, 4);
        let mut content = Content::new(Some(100_000), 100_000, pool.clone());
        for piece in sent.chunks(1448) {
            assert!(!content.is_whole());
            content.take(piece).unwrap();
        }
        assert_eq!(content.take(b"next").unwrap(), Taken::Whole(0));
        let contents = content.finish();
        assert_eq!((bytes_of(&contents) == sent, contents.len(), pool.in_use()), (true, 100_000, 4));
        drop((content, contents));
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn there_is_room_for_what_is_to_come_and_fits_memory() {
        let pool = Pool::new(BLOCK_BYTES, 3);
        let mut content = Content::new(Some(70_000), 70_000, pool.clone());
        assert_eq!(content.room(), 70_000);
        content.take(&[0; 1000]).unwrap();
        assert_eq!(content.room(), 69_000);
        let others = [pool.take(), pool.take()];
        assert_eq!(content.room(), BLOCK_BYTES - 1000, "what is left of the block that was begun");
        drop(others);
        assert_eq!(content.take(&[0; 69_000]), Ok(Taken::Whole(69_000)));
        assert_eq!(content.room(), 0);
        assert_eq!(Content::new(None, 70_000, Pool::new(BLOCK_BYTES, 3)).room(), 0);
    }

    /// Placed and taken, placed and forgotten, or placed and something else taken: the same content, and the
    /// sums that a receiver verifies by.
    #[test]
    fn what_is_placed_counts_when_it_is_taken() {
        let sent: Vec<u8> = (0..200_001u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        let pool = Pool::new(BLOCK_BYTES, 7);
        let mut content = Content::new(Some(sent.len() as u64), 1 << 20, pool);
        let (mut at, mut placed) = (0, 0);
        for (turn, len) in [1448, 1447, 700, 1448, 9000, 31_000, 1].into_iter().cycle().enumerate() {
            if at == sent.len() {
                break;
            }
            let bytes = &sent[at..sent.len().min(at + len)];
            if turn % 4 == 1 {
                let mut damaged = bytes.to_vec();
                damaged[0] ^= 1;
                content.place(&damaged);
                content.forget_placed();
            }
            if turn % 4 != 3
                && let Some(sum) = content.place(bytes)
            {
                assert_eq!(
                    sum,
                    fsstack::format::sums::fold(fsstack::format::sums::word_sum(bytes)),
                    "at {at}"
                );
                placed += 1;
            }
            // Now and then only a part is taken after all.
            let part = if turn % 5 == 4 { bytes.len().div_ceil(2) } else { bytes.len() };
            content.take(&bytes[..part]).unwrap();
            content.forget_placed();
            at += part;
        }
        assert!(placed >= 20 && content.is_whole(), "{placed}");
        let mut plain = Content::new(Some(sent.len() as u64), 1 << 20, Pool::new(BLOCK_BYTES, 7));
        plain.take(&sent).unwrap();
        let sums = |content: &Content| content.received.sums.clone().into_sums();
        assert_eq!(sums(&content), sums(&plain));
        assert!(bytes_of(&content.finish()) == sent);
    }

    #[test]
    fn chunks_are_taken_apart() {
        let mut content = Content::new(None, 100, Pool::new(BLOCK_BYTES, 1));
        assert_eq!(content.take(b"5;x=y\r\nhel"), Ok(Taken::More));
        assert_eq!(content.take(b"lo\r\n6\r\n world\r\n0\r\nA: b\r\n\r\nPUT"), Ok(Taken::Whole(26)));
        let contents = content.finish();
        assert_eq!(bytes_of(&contents), b"hello world");
    }

    #[test]
    fn too_much_and_nonsense_are_refused() {
        let pool = Pool::new(BLOCK_BYTES, 1);
        let mut content = Content::new(None, 7, pool.clone());
        assert_eq!(content.take(b"5\r\nhello\r\n5\r\n"), Ok(Taken::More));
        assert_eq!(content.take(b"world\r\n"), Err(Status::ContentTooLarge));
        drop(content);
        let mut content = Content::new(None, 7, pool.clone());
        assert_eq!(content.take(b"x"), Err(Status::BadRequest));
        drop(content);
        // One block is all the memory there is.
        let mut first = Content::new(Some(2), 7, pool.clone());
        assert_eq!(first.take(b"a"), Ok(Taken::More));
        assert_eq!(Content::new(Some(1), 7, pool.clone()).take(b"a"), Err(Status::ServiceUnavailable));
        drop(first);
        assert_eq!(Content::new(Some(1), 7, pool).take(b"a"), Ok(Taken::Whole(1)));
    }
}
