//! Bytes that arrived ahead of a gap, kept until the gap is filled (RFC 9293 section 3.10.7.4, "segments with
//! higher beginning sequence numbers SHOULD be held for later processing").
//!
//! ```text
//!            RCV.NXT      block 0          block 1
//!   ---------|............|=======|........|=========|......> sequence space
//!             missing               missing            window
//! ```
//!
//! Blocks are disjoint, not adjacent, and ascending. In-order data never come here: they go to the
//! application straight from the frame. Both the bytes and the blocks are bounded, so a hostile peer can hold
//! only a fixed amount of memory.

use crate::tcp::seq::SeqNumber;
use crate::wire::tcp::SackBlocks;

/// Most blocks kept. One-byte islands must not grow a list that each insertion walks.
pub(super) const MAX_BLOCKS: usize = 64;

/// The out-of-order bytes of one connection.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    blocks: Vec<Block>,
    len_bytes: usize,
    /// Start of the block that changed last: the first of a SACK option (RFC 2018 section 4).
    latest: SeqNumber,
    /// Sequence number of a FIN that came ahead of a gap.
    fin: Option<SeqNumber>,
}

#[derive(Debug)]
struct Block {
    start: SeqNumber,
    bytes: Vec<u8>,
}

impl Block {
    fn end(&self) -> SeqNumber {
        self.start + self.bytes.len() as u32
    }
}

impl Assembler {
    /// Keeps `bytes` at `seq`; parts that are here already are not copied again. Whether anything is kept:
    /// not when `limit_bytes` or [`MAX_BLOCKS`] would be passed; the peer will send it again.
    pub(crate) fn insert(&mut self, seq: SeqNumber, bytes: &[u8], limit_bytes: usize) -> bool {
        let end = seq + bytes.len() as u32;
        // Blocks [first, last) touch or overlap [seq, end).
        let first = self.blocks.partition_point(|block| block.end().lt(seq));
        let last = first + self.blocks[first..].partition_point(|block| block.start.le(end));
        let overlapped: usize = self.blocks[first..last].iter().map(|block| block.bytes.len()).sum();
        let new_start = if first < last { seq.min(self.blocks[first].start) } else { seq };
        let new_end = if first < last { end.max(self.blocks[last - 1].end()) } else { end };
        let merged = (new_end - new_start) as usize;
        if self.len_bytes - overlapped + merged > limit_bytes {
            return false;
        }
        if first == last {
            if bytes.is_empty() || self.blocks.len() >= MAX_BLOCKS {
                return false;
            }
            self.blocks.insert(first, Block { start: seq, bytes: bytes.to_vec() });
        } else {
            self.merge(first, last, seq, bytes);
        }
        self.len_bytes = self.len_bytes - overlapped + merged;
        self.latest = new_start;
        true
    }

    /// The first stretch of `[seq, seq + len)` that is here already: where it begins, and its length.
    pub(crate) fn overlap(&self, seq: SeqNumber, len: usize) -> Option<(SeqNumber, u32)> {
        let end = seq + len as u32;
        let block = &self.blocks[self.blocks.partition_point(|block| block.end().le(seq))..].first()?;
        let (start, end) = (block.start.max(seq), block.end().min(end));
        start.lt(end).then(|| (start, end - start))
    }

    /// Joins blocks `[first, last)` and `bytes` at `seq` into block `first`.
    fn merge(&mut self, first: usize, last: usize, seq: SeqNumber, bytes: &[u8]) {
        if seq.lt(self.blocks[first].start) {
            let ahead = (self.blocks[first].start - seq) as usize;
            self.blocks[first].bytes.splice(0..0, bytes[..ahead].iter().copied());
            self.blocks[first].start = seq;
        }
        let mut followers = self.blocks.drain(first + 1..last).collect::<Vec<_>>().into_iter();
        let block = &mut self.blocks[first];
        let end = seq + bytes.len() as u32;
        loop {
            let follower = followers.next();
            let gap_end = follower.as_ref().map_or(end, |next| next.start.min(end));
            if block.end().lt(gap_end) {
                let from = (block.end() - seq) as usize;
                let to = (gap_end - seq) as usize;
                block.bytes.extend_from_slice(&bytes[from..to]);
            }
            match follower {
                // Blocks are disjoint, so the follower lies wholly after what is joined so far.
                Some(next) => block.bytes.extend_from_slice(&next.bytes),
                None => break,
            }
        }
    }

    /// Notes a FIN at `seq`, ahead of a gap.
    pub(crate) fn note_fin(&mut self, seq: SeqNumber) {
        self.fin = Some(seq);
    }

    /// Whether a noted FIN is next.
    pub(crate) fn fin_is_at(&self, rcv_nxt: SeqNumber) -> bool {
        self.fin == Some(rcv_nxt)
    }

    /// The kept bytes that begin at `rcv_nxt`, if the gap before them is filled. Blocks wholly before it are
    /// dropped.
    pub(crate) fn front(&mut self, rcv_nxt: SeqNumber) -> Option<&[u8]> {
        while self.blocks.first().is_some_and(|block| block.end().le(rcv_nxt)) {
            let block = self.blocks.remove(0);
            self.len_bytes -= block.bytes.len();
        }
        let block = self.blocks.first()?;
        if block.start.le(rcv_nxt) { Some(&block.bytes[(rcv_nxt - block.start) as usize..]) } else { None }
    }

    /// Kept bytes.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Whether nothing is kept, not even a FIN.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.fin.is_none()
    }

    /// The SACK option to send, behind the blocks that are in `sack`: the block that changed last, then the
    /// others from the highest down (RFC 2018 section 4).
    pub(crate) fn sack_blocks(&self, mut sack: SackBlocks) -> SackBlocks {
        if let Some(block) = self.blocks.iter().find(|block| block.start == self.latest) {
            sack.push(block.start.0, block.end().0);
        }
        for block in self.blocks.iter().rev().filter(|block| block.start != self.latest) {
            if !sack.push(block.start.0, block.end().0) {
                break;
            }
        }
        sack
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seq(n: u32) -> SeqNumber {
        SeqNumber(u32::MAX - 40) + n
    }

    #[test]
    fn fills_a_gap_across_the_wrap() {
        let mut a = Assembler::default();
        assert!(a.insert(seq(10), b"klmno", 100));
        assert!(a.insert(seq(60), b"zz", 100));
        assert_eq!(a.front(seq(0)), None);
        assert!(a.insert(seq(5), b"fghij", 100));
        assert_eq!(a.len_bytes(), 12);
        assert_eq!(a.front(seq(5)), Some(&b"fghijklmno"[..]));
        assert_eq!(a.front(seq(8)), Some(&b"ijklmno"[..]));
        assert_eq!(a.front(seq(15)), None);
        assert_eq!(a.front(seq(60)), Some(&b"zz"[..]));
        assert_eq!(a.front(seq(62)), None);
        assert!(a.is_empty());
    }

    #[test]
    fn bounds_hold() {
        let mut a = Assembler::default();
        assert!(a.insert(seq(10), b"0123456789", 10));
        assert!(!a.insert(seq(100), b"x", 10));
        assert!(a.insert(seq(12), b"23", 10), "already here: costs nothing");
        for i in 0..200 {
            a.insert(seq(1000 + 2 * i), b"x", 1 << 20);
        }
        assert!(a.blocks.len() <= MAX_BLOCKS);
    }

    #[test]
    fn sack_names_the_latest_block_first() {
        let mut a = Assembler::default();
        a.insert(seq(10), b"aa", 100);
        a.insert(seq(20), b"bb", 100);
        a.insert(seq(30), b"cc", 100);
        a.insert(seq(22), b"dd", 100);
        let sack = a.sack_blocks(SackBlocks::NONE);
        let expected = [(20, 24), (30, 32), (10, 12)].map(|(l, r)| (seq(l).0, seq(r).0));
        assert_eq!(sack.as_slice(), expected);
    }

    proptest! {
        #[test]
        fn agrees_with_a_byte_map(segments in proptest::collection::vec((0u32..200, 0usize..40), 1..40)) {
            let content: Vec<u8> = (0..=255).collect();
            let mut a = Assembler::default();
            let mut map = [false; 256];
            for (start, len) in segments {
                let bytes = &content[start as usize..start as usize + len];
                if a.insert(seq(start), bytes, 150) {
                    map[start as usize..start as usize + len].fill(true);
                }
                prop_assert_eq!(a.len_bytes(), map.iter().filter(|&&here| here).count());
                prop_assert!(a.len_bytes() <= 150);
                for pair in a.blocks.windows(2) {
                    prop_assert!(pair[0].end().lt(pair[1].start));
                }
            }
            for at in 0..256usize {
                let run = map[at..].iter().take_while(|&&here| here).count();
                let front = a.front(seq(at as u32)).map(<[u8]>::to_vec);
                prop_assert_eq!(front, (run > 0).then(|| content[at..at + run].to_vec()));
            }
        }
    }
}
