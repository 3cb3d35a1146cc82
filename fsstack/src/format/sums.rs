//! Checksums of the format: CRC32C of the metadata and of contents, and prefix sums for the Internet
//! checksum.

use std::sync::LazyLock;

use pipe_lib::{Engine, Library};

/// The loop that computes CRC32C: made once a process, like every other loop over bytes here.
static CRC32C: LazyLock<Engine> = LazyLock::new(|| {
    let pipeline = Library::standard().pipeline("crc32c").expect("`crc32c` is a standard pipe");
    pipeline.compile().expect("the interpreter takes every pipe")
});

/// CRC32C (RFC 3720, appendix B.4) of what `crc` covers followed by `bytes`; start with 0.
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    let mut imports = CRC32C.imports();
    imports.set("crc32c.crc", u64::from(!crc)).expect("the register of the standard pipe");
    let prepared = CRC32C.with(&imports).expect("the engine's own imports");
    let run = prepared.run_read_only(bytes).expect("single bytes are whole words at any length");
    run.value(CRC32C.exports()[0].id()) as u32
}

/// Folds a sum of 16-bit words with end-around carry (RFC 1071). Zero only for zero.
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The plain sum of the big-endian 16-bit words of `bytes`, an odd last byte padded by zero. Not folded.
pub fn word_sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let sum: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    sum + rest.first().map_or(0, |&byte| u64::from(byte) << 8)
}

/// Accumulates what the format keeps of a file's contents, from chunks of any length.
///
/// Entry `i` of the prefix sums is the plain sum, modulo 2^32, of the big-endian 16-bit words of the first
/// `(i + 1) * block_bytes` bytes (of all bytes, for the last entry). The sum over any run of whole blocks of
/// at most 128 KiB is then one subtraction, exact, and folding it gives the Internet checksum of the run.
#[derive(Clone, Debug)]
pub struct ContentSums {
    pub(super) crc: u32,
    pub(super) len: u64,
    pub(super) block_bytes: u64,
    pub(super) sum: u32,
    pub(super) prefix: Vec<u32>,
}

/// The sums of contents that nobody has to read again for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownSums {
    /// CRC32C of all.
    pub crc: u32,
    /// Length in bytes.
    pub len: u64,
    /// Bytes for each partial sum.
    pub block_bytes: u32,
    /// The partial sums, as [`ContentSums`] has them.
    pub prefix: Vec<u32>,
}

impl ContentSums {
    /// Nothing seen yet. `block_bytes` is even, or 0 for no prefix sums.
    pub fn new(block_bytes: u32) -> ContentSums {
        ContentSums { crc: 0, len: 0, block_bytes: block_bytes.into(), sum: 0, prefix: Vec::new() }
    }

    /// Takes the next bytes of the contents.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.crc = crc32c(self.crc, bytes);
        if self.block_bytes == 0 {
            self.len += bytes.len() as u64;
            return;
        }
        while !bytes.is_empty() {
            let room = self.block_bytes - self.len % self.block_bytes;
            let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            // A chunk that starts inside a word gives the low half of that word first.
            let (head, body) = if self.len % 2 == 1 { now.split_at(1) } else { now.split_at(0) };
            let head = head.first().map_or(0, |&byte| u64::from(byte));
            self.sum = self.sum.wrapping_add((head + word_sum(body)) as u32);
            self.len += now.len() as u64;
            if self.len.is_multiple_of(self.block_bytes) {
                self.prefix.push(self.sum);
            }
            bytes = later;
        }
    }

    /// CRC32C, length and prefix sums of all that was seen.
    pub fn finish(mut self) -> (u32, u64, Vec<u32>) {
        if self.block_bytes != 0 && !self.len.is_multiple_of(self.block_bytes) {
            self.prefix.push(self.sum);
        }
        (self.crc, self.len, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn crc32c_matches_published_vectors() {
        // CRC catalogue check value, and RFC 3720 B.4.
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(0, &[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(0, &ascending), 0x46dd_794e);
    }

    #[test]
    fn the_example_of_rfc_1071_sums_as_printed() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(word_sum(&bytes), 0x2_ddf0);
        assert_eq!(fold(0x2_ddf0), 0xddf2);
    }

    proptest! {
        #[test]
        fn chunks_of_any_length_give_the_same_sums(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
        ) {
            let whole: Vec<u8> = chunks.concat();
            let mut sums = ContentSums::new(64);
            chunks.iter().for_each(|chunk| sums.update(chunk));
            let (crc, len, prefix) = sums.finish();
            prop_assert_eq!(crc, crc32c(0, &whole));
            prop_assert_eq!(len, whole.len() as u64);
            prop_assert_eq!(prefix.len(), whole.len().div_ceil(64));
            for (i, entry) in prefix.iter().enumerate() {
                let end = whole.len().min(64 * (i + 1));
                prop_assert_eq!(u64::from(*entry), word_sum(&whole[..end]));
            }
        }
    }
}
