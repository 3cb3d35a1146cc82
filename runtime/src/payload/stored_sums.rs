//! Sums that were made when the bytes were stored, of any stretch.
//!
//! S1 ("Server Operating Systems", section 4.3) keeps with a file the checksums of its packets. Packets begin
//! wherever a response's head ends, so what is kept here is the sum of the first block, of the first two, and
//! so on: the blocks that a stretch covers whole are one subtraction, and only its two edges are read.
//!
//! ```text
//!   blocks      |       |       |       |       |       |
//!   stretch          [-----------------------------)
//!   edges read       ===                         ==
//! ```

use crate::transfer::OnesSum;

/// The prefix sums of some contents, and where in them a piece begins.
#[derive(Clone, Copy, Debug)]
pub struct StoredSums<'a> {
    prefix: &'a [[u8; 4]],
    block_bytes: usize,
    start: u64,
}

/// Longest stretch whose sum of 16-bit words always fits 32 bits: 65,536 words of at most 65,535.
const MAX_BYTES: usize = 128 * 1024;

impl<'a> StoredSums<'a> {
    /// Entry `i` of `prefix`, little-endian, is the plain sum modulo 2^32 of the big-endian 16-bit words of
    /// the first `i + 1` blocks of `block_bytes`, an even number; the piece begins `start` bytes into the
    /// contents. `None` if there are no blocks.
    pub fn new(prefix: &'a [[u8; 4]], block_bytes: u32, start: u64) -> Option<StoredSums<'a>> {
        let block_bytes = usize::try_from(block_bytes).ok().filter(|bytes| *bytes > 0 && bytes % 2 == 0)?;
        Some(StoredSums { prefix, block_bytes, start })
    }

    /// The sum of `bytes`, which stand where the piece begins, and how many of them were read for it by
    /// `read`, which gives a stretch's own sum. All of them are if they cover no whole block, or more than
    /// 128 KiB.
    pub fn sum(&self, bytes: &[u8], read: impl Fn(&[u8]) -> u16) -> (u16, usize) {
        let into_block = (self.start % self.block_bytes as u64) as usize;
        let head = if into_block == 0 { 0 } else { self.block_bytes - into_block };
        let whole = bytes.len().saturating_sub(head) / self.block_bytes * self.block_bytes;
        let first = (self.start + head as u64) / self.block_bytes as u64;
        let blocks = (whole / self.block_bytes) as u64;
        let stored = if whole == 0 || whole > MAX_BYTES { None } else { self.blocks(first, first + blocks) };
        let Some(stored) = stored else { return (read(bytes), bytes.len()) };
        let (head, rest) = bytes.split_at(head);
        let tail = &rest[whole..];
        let mut sum = OnesSum::new();
        if !head.is_empty() {
            sum.append(read(head), head.len());
        }
        sum.append(stored, whole);
        if !tail.is_empty() {
            sum.append(read(tail), tail.len());
        }
        (sum.value(), head.len() + tail.len())
    }

    /// The sum of the blocks `[first, end)`; `None` if there are not as many.
    fn blocks(&self, first: u64, end: u64) -> Option<u16> {
        let prefix = |blocks: u64| match blocks.checked_sub(1) {
            None => Some(0),
            Some(i) => Some(u32::from_le_bytes(*self.prefix.get(usize::try_from(i).ok()?)?)),
        };
        let sum = prefix(end)?.wrapping_sub(prefix(first)?);
        let folded = (sum & 0xffff) + (sum >> 16);
        Some(((folded & 0xffff) + (folded >> 16)) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = OnesSum::new();
        bytes.iter().for_each(|&byte| sum.append(u16::from(byte) << 8, 1));
        sum.value()
    }

    /// What is stored of `bytes`, by the definition.
    fn prefix(bytes: &[u8], block: usize) -> Vec<[u8; 4]> {
        (1..=bytes.len().div_ceil(block))
            .map(|blocks| {
                let words = bytes[..bytes.len().min(blocks * block)].chunks(2);
                let word = |w: &[u8]| u32::from(w[0]) << 8 | w.get(1).map_or(0, |&low| u32::from(low));
                words.fold(0u32, |sum, w| sum.wrapping_add(word(w))).to_le_bytes()
            })
            .collect()
    }

    proptest! {
        #[test]
        fn any_stretch_has_its_sum_and_only_edges_are_read(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..3000),
                prop::collection::vec(Just(0xffu8), 0..3000),
                prop::collection::vec(Just(0u8), 0..300),
            ],
            block in (5u32..10).prop_map(|bits| 1 << bits),
            cut in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let (a, b) = (cut.0.index(bytes.len() + 1), cut.1.index(bytes.len() + 1));
            let (from, to) = (a.min(b), a.max(b));
            let prefix = prefix(&bytes, block as usize);
            let stored = StoredSums::new(&prefix, block, from as u64).unwrap();
            let touched = std::cell::Cell::new(0);
            let (sum, read) = stored.sum(&bytes[from..to], |edge| {
                touched.set(touched.get() + edge.len());
                naive(edge)
            });
            prop_assert_eq!(sum, naive(&bytes[from..to]));
            prop_assert_eq!(read, touched.get());
            prop_assert!(read < 2 * block as usize, "{} bytes read of {}", read, to - from);
        }
    }

    #[test]
    fn sums_that_are_not_there_are_made() {
        let bytes = [7; 256];
        let short = StoredSums::new(&[[0; 4]], 64, 64).unwrap();
        assert_eq!(short.sum(&bytes, naive), (naive(&bytes), 256));
        assert!(StoredSums::new(&[], 0, 0).is_none());
        assert!(StoredSums::new(&[], 3, 0).is_none());
    }
}
