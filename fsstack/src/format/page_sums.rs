//! A CRC32C of each page of the data region, and since version 3 of the metadata, so that any part of it can
//! be checked when it is read, padding included.
//!
//! Entry `i` is of the 4096 bytes from `(i + 1) * 4096` on: the data region begins with the second block. The
//! table stands apart from the pages, so a page that was written to another's place does not have its sum
//! there.

use super::BadImage;
use super::layout::{BLOCK_BYTES, get_u32};
use super::sums::crc32c;

/// Size of an entry.
pub const BYTES: usize = 4;

/// Bytes of a page.
pub const PAGE_BYTES: u64 = BLOCK_BYTES;

/// Entries for pages that end at `end`, a multiple of the page size: see
/// [`super::superblock::Superblock::summed_end`].
pub const fn count(end: u64) -> u64 {
    (end / PAGE_BYTES).saturating_sub(1)
}

/// Sums pages as the bytes of a data region go by.
#[derive(Clone, Debug, Default)]
pub struct PageSummer {
    sums: Vec<u8>,
    crc: u32,
    filled: usize,
}

impl PageSummer {
    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PAGE_BYTES as usize - self.filled;
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.crc = crc32c(self.crc, now);
            self.filled += now.len();
            if self.filled == PAGE_BYTES as usize {
                self.sums.extend_from_slice(&self.crc.to_le_bytes());
                (self.crc, self.filled) = (0, 0);
            }
            bytes = later;
        }
    }

    /// The table, of all pages that were whole.
    pub fn finish(self) -> Vec<u8> {
        self.sums
    }
}

/// Checks whole pages of an image, which stand at `offset`, a multiple of the page size, against `table`.
/// Pages that have no entry are passed over.
///
/// # Errors
/// The first page that does not have its sum.
pub fn check(table: &[u8], offset: u64, pages: &[u8]) -> Result<(), BadImage> {
    damages(table, offset, pages).next().map_or(Ok(()), Err)
}

/// As [`check`], all pages that do not have their sum.
pub fn damages(table: &[u8], offset: u64, pages: &[u8]) -> impl Iterator<Item = BadImage> {
    let first = offset / PAGE_BYTES;
    (first..).zip(pages.chunks_exact(PAGE_BYTES as usize)).filter_map(|(number, page)| {
        let entry = number.checked_sub(1).and_then(|i| usize::try_from(i).ok()?.checked_mul(BYTES))?;
        let entry = table.get(entry..)?.get(..BYTES)?;
        let (expected, found) = (get_u32(entry, 0), crc32c(0, page));
        (expected != found).then(|| {
            let what = format!("page {number}");
            let expected = format!("CRC32C {expected:#010x}");
            BadImage::new(number * PAGE_BYTES, what, expected, format!("{found:#010x}"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_the_chunks_each_page_has_its_sum_and_no_other_has_it(
            cuts in prop::collection::vec(1usize..9000, 1..12),
            flip in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let total = cuts.iter().sum::<usize>().next_multiple_of(4096);
            let mut bytes: Vec<u8> = (0..total as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 21) as u8).collect();
            let mut summer = PageSummer::default();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                summer.update(now);
                rest = later;
            }
            summer.update(rest);
            let table = summer.finish();
            prop_assert_eq!(table.len() as u64, 4 * count(4096 + total as u64));
            let naive: Vec<u8> = bytes.chunks(4096).flat_map(|page| crc32c(0, page).to_le_bytes()).collect();
            prop_assert_eq!(&table, &naive);
            prop_assert_eq!(check(&table, 4096, &bytes), Ok(()));
            let at = flip.index(total);
            bytes[at] ^= 1 << bit;
            let bad = check(&table, 4096, &bytes).unwrap_err();
            prop_assert_eq!(bad.offset, 4096 + at as u64 / 4096 * 4096);
        }
    }

    #[test]
    fn what_has_no_entry_is_passed_over() {
        assert_eq!(check(&[], 0, &[7; 8192]), Ok(()));
        assert_eq!(check(&[1], u64::MAX / 4096 * 4096, &[7; 4096]), Ok(()));
        assert!(check(&[0; 4], 0, &[7; 8192]).is_err());
    }
}
