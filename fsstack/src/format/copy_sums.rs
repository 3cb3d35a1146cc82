//! Contents that are copied to where they stay, and summed in the same loop: what a network brings is read
//! once.

use std::sync::LazyLock;

use pipe_lib::{Engine, ExportId, Library};
use runtime::stats::work::{Quantity, count};

use super::sums::{ContentSums, KnownSums, fold};

/// Bytes of content for each partial sum that the loop makes; sums of others take a pass of their own.
const BLOCK_BYTES: u64 = 512;

/// The sum of the words of a block as the format keeps it: exact, and not folded.
const WORD_SUM: &str = "
/// The plain sum of 16-bit words in network order.
pipe word_sum : u16be tail zero {
    state sum: u32 = 0
    in x
    zext t, x
    add sum, sum, t
    export sum
}
";

/// Copy, CRC32C, and a sum for each block.
struct CopyLoop {
    engine: Engine,
    crc: ExportId,
}

static COPY: LazyLock<CopyLoop> = LazyLock::new(|| {
    let mut library = Library::standard();
    library.load("word_sum.pipe", WORD_SUM).expect("the pipe is well-formed");
    let text = format!("crc32c | word_sum per {BLOCK_BYTES}");
    let pipeline = library.pipeline(&text).expect("both pipes are there");
    let engine = pipeline.compile().expect("the interpreter takes every pipe");
    let crc = engine.export_id("crc32c.crc").expect("the export of the standard pipe");
    CopyLoop { engine, crc }
});

/// Where contents were, to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SumsMark {
    crc: u32,
    len: u64,
    sum: u32,
    blocks: usize,
}

impl ContentSums {
    /// What was seen so far, for [`ContentSums::go_back`].
    pub fn mark(&self) -> SumsMark {
        SumsMark { crc: self.crc, len: self.len, sum: self.sum, blocks: self.prefix.len() }
    }

    /// Forgets what came after `mark`, which was set by this before.
    pub fn go_back(&mut self, mark: SumsMark) {
        (self.crc, self.len, self.sum) = (mark.crc, mark.len, mark.sum);
        self.prefix.truncate(mark.blocks);
    }

    /// The Internet sum (RFC 1071, folded, not complemented) of what came after `mark`, 128 KiB at most, from
    /// the partial sums: as of bytes that begin at an even offset. `None` without those.
    pub fn internet_sum_since(&self, mark: SumsMark) -> Option<u16> {
        if self.block_bytes == 0 || self.len - mark.len > 128 << 10 {
            return None;
        }
        let sum = fold(self.sum.wrapping_sub(mark.sum).into());
        // What began in the midst of a word has its bytes in the other halves.
        Some(if mark.len % 2 == 1 { sum.swap_bytes() } else { sum })
    }

    /// Copies the next bytes of the contents to `to`, which is as long, and takes them in.
    pub fn copy(&mut self, bytes: &[u8], to: &mut [u8]) {
        count(Quantity::BytesCopied, bytes.len());
        count(Quantity::BytesSummed, bytes.len());
        // Up to the end of the block that was begun: less than a block, in two passes.
        let begun = match self.block_bytes {
            BLOCK_BYTES => (BLOCK_BYTES - self.len % BLOCK_BYTES) % BLOCK_BYTES,
            _ => bytes.len() as u64,
        };
        let (head, body) = bytes.split_at((begun as usize).min(bytes.len()));
        let (head_to, body_to) = to.split_at_mut(head.len());
        head_to.copy_from_slice(head);
        count(Quantity::BytesTouched, head.len());
        self.update(head);
        if body.is_empty() {
            return;
        }
        let CopyLoop { engine, crc } = &*COPY;
        let mut imports = engine.imports();
        imports.set("crc32c.crc", u64::from(!self.crc)).expect("the register of the standard pipe");
        let prepared = engine.with(&imports).expect("the engine's own imports");
        let run = prepared.run(body, body_to).expect("as long, and single bytes are whole words");
        count(Quantity::BytesTouched, body.len());
        self.crc = run.value(*crc) as u32;
        let blocks = run.windows("word_sum.sum").expect("the export of the pipe above");
        for (i, sum) in blocks.iter().enumerate() {
            self.sum = self.sum.wrapping_add(*sum as u32);
            let left = body.len() as u64 - i as u64 * BLOCK_BYTES;
            if left >= BLOCK_BYTES {
                self.prefix.push(self.sum);
            }
        }
        self.len += body.len() as u64;
    }

    /// What was seen so far, for who writes it.
    pub fn into_sums(self) -> KnownSums {
        let block_bytes = self.block_bytes as u32;
        let (crc, len, prefix) = self.finish();
        KnownSums { crc, len, block_bytes, prefix }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sums::{crc32c, word_sum};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_one_loop() {
        assert_eq!(COPY.engine.passes(), 1);
    }

    proptest! {
        #[test]
        fn however_it_comes_it_is_copied_and_has_its_sums(
            cuts in prop::collection::vec(prop_oneof![0usize..40, 400usize..1600, Just(512), Just(4096)], 0..12),
            seed: u8, block_bytes in prop_oneof![Just(512u32), Just(64), Just(0)],
        ) {
            let total: usize = cuts.iter().sum();
            let bytes: Vec<u8> = (0..total as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 19) as u8 ^ seed).collect();
            let mut copy = vec![0; total];
            let mut sums = ContentSums::new(block_bytes);
            let mut at = 0;
            for cut in cuts {
                let mark = sums.mark();
                // What turns out to be wrong leaves nothing behind.
                sums.copy(&vec![seed; cut / 2], &mut copy[at..at + cut / 2]);
                sums.go_back(mark);
                sums.copy(&bytes[at..at + cut], &mut copy[at..at + cut]);
                let expected = (block_bytes > 0).then(|| super::super::sums::fold(word_sum(&bytes[at..at + cut])));
                prop_assert_eq!(sums.internet_sum_since(mark), expected);
                at += cut;
            }
            prop_assert_eq!(&copy, &bytes);
            let KnownSums { crc, len, prefix, .. } = sums.into_sums();
            prop_assert_eq!((crc, len), (crc32c(0, &bytes), total as u64));
            let blocks = if block_bytes == 0 { 0 } else { total.div_ceil(block_bytes as usize) };
            prop_assert_eq!(prefix.len(), blocks);
            for (i, entry) in prefix.iter().enumerate() {
                let end = total.min(block_bytes as usize * (i + 1));
                prop_assert_eq!(u64::from(*entry), word_sum(&bytes[..end]));
            }
        }
    }
}
