//! The content of an upload as it comes: out of its framing into blocks, summed on the way.

use fsstack::format::sums::ContentSums;
use fsstack::log::Contents;
use runtime::buffer::{Buffer, Pool, Slice};

use super::BLOCK_BYTES;
use crate::http::chunked::{ChunkedEnd, Fed};
use crate::http::response::Status;

/// Content for each partial sum, as packed files have it.
const SUM_BLOCK_BYTES: u32 = 512;

/// Framing that chunks may have in all, beside a part of the content: small ones have more of it than content.
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
        let received = Received { limit, len: 0, blocks, full: Contents::new(), current: None, sums };
        Content { framing, received }
    }

    pub(super) fn len(&self) -> u64 {
        self.received.len
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self.framing, Framing::Over)
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
