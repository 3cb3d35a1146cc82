//! What a connection has to send, on the side of the stack's thread: the blocks in which the application
//! wrote it, taken over without a copy, short ones put together.

use std::collections::VecDeque;

use runtime::payload::{Piece, Pieces};

/// Bytes of the blocks that are written to.
pub(super) const BLOCK_BYTES: usize = 64 << 10;

/// A block below this is copied to the one before, if there is room: many short writes are not as many
/// blocks.
const SHORT: usize = 4 << 10;

/// Blocks that were written and are not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// With the offset in the stream at which each begins.
    blocks: VecDeque<(u64, Vec<u8>)>,
    end: u64,
}

impl Outgoing {
    /// Appends a block.
    pub(super) fn push(&mut self, block: Vec<u8>) {
        let start = self.end;
        self.end += block.len() as u64;
        if block.len() < SHORT
            && let Some((_, last)) = self.blocks.back_mut()
        {
            let together = last.len() + block.len();
            if together <= BLOCK_BYTES {
                if together > last.capacity() {
                    // Twice as much each time, so that few bytes hold few and each is moved about once.
                    let capacity = (2 * last.capacity()).clamp(together, BLOCK_BYTES);
                    last.reserve_exact(capacity - last.len());
                }
                last.extend_from_slice(&block);
                return;
            }
        }
        self.blocks.push_back((start, block));
    }

    /// Offset behind the last byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Appends `[offset, offset + len)` to `out`, as far as it is here.
    pub(super) fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>) -> usize {
        let mut at = self.blocks.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        let (mut offset, mut left) = (offset, len);
        while left > 0
            && let Some((start, block)) = self.blocks.get(at)
        {
            let skip = usize::try_from(offset - start).unwrap_or(usize::MAX).min(block.len());
            let bytes = &block[skip..block.len().min(skip.saturating_add(left))];
            if !bytes.is_empty() {
                out.push(Piece::new(bytes));
            }
            offset += bytes.len() as u64;
            left -= bytes.len();
            at += 1;
        }
        len - left
    }

    /// Lets go of all that lies before `offset`.
    pub(super) fn release(&mut self, offset: u64) {
        while self.blocks.front().is_some_and(|(start, block)| start + block.len() as u64 <= offset) {
            self.blocks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_part_can_be_had_until_it_is_let_go_of(
            steps in prop::collection::vec((0usize..9000, 0usize..20_000, any::<u16>()), 1..40),
        ) {
            let (mut outgoing, mut all, mut gone) = (Outgoing::default(), Vec::new(), 0usize);
            for (len, release, at) in steps {
                let block: Vec<u8> = (0..len).map(|i| (all.len() + i * 7) as u8).collect();
                all.extend_from_slice(&block);
                outgoing.push(block);
                prop_assert_eq!(outgoing.end(), all.len() as u64);
                gone = (gone + release).min(all.len());
                outgoing.release(gone as u64);
                let from = gone + usize::from(at) % (all.len() - gone + 1);
                let mut pieces = Pieces::new();
                let given = outgoing.pieces(from as u64, usize::from(at), &mut pieces);
                let got: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes).copied().collect();
                prop_assert_eq!(given, usize::from(at).min(all.len() - from));
                prop_assert_eq!(&got[..], &all[from..from + given]);
            }
        }
    }

    /// Each byte written for itself costs no block of its own.
    #[test]
    fn short_writes_are_put_together() {
        let mut outgoing = Outgoing::default();
        for i in 0..200_000u32 {
            outgoing.push(vec![i as u8]);
        }
        assert!(outgoing.blocks.len() < 6, "{} blocks", outgoing.blocks.len());
    }

    /// Nor memory that is not of its size: a short block after a full one, again and again, and one alone.
    #[test]
    fn short_blocks_hold_little() {
        let mut outgoing = Outgoing::default();
        let held = |outgoing: &Outgoing| -> usize {
            outgoing.blocks.iter().map(|(_, block)| block.capacity()).sum()
        };
        outgoing.push(vec![0; 10]);
        assert!(held(&outgoing) <= 20, "{} bytes for 10", held(&outgoing));
        for _ in 0..100 {
            outgoing.push(vec![0; BLOCK_BYTES]);
            outgoing.push(vec![0; 10]);
        }
        let len = outgoing.end() as usize;
        assert!(held(&outgoing) <= len + len / 10, "{} bytes for {len}", held(&outgoing));
    }
}
