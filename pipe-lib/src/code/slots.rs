//! Which pages of a chunk are free: arithmetic, no memory.

use std::ops::Range;

/// Pages of a chunk.
pub(super) const CHUNK_PAGES: usize = 64;

/// The states of the pages of a chunk: *taken* by somebody's code; *stale*, free, but as the last owner left
/// them; or *clean*, free and ready to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots {
    /// A bit for each page. No page is both.
    taken: u64,
    stale: u64,
}

impl Slots {
    /// Takes the first `count` clean pages in a row, if there are so many; gives the number of the first of
    /// them.
    pub(super) fn take(&mut self, count: usize) -> Option<usize> {
        let first = first_run(!(self.taken | self.stale), count)?;
        self.taken |= mask(&(first..first + count));
        Some(first)
    }

    /// Takes the `count` pages from `first` on, of which there is one at least, if all are there and clean.
    pub(super) fn take_at(&mut self, first: usize, count: usize) -> bool {
        if count > CHUNK_PAGES - first.min(CHUNK_PAGES) {
            return false;
        }
        let wanted = mask(&(first..first + count));
        let is_clean = (self.taken | self.stale) & wanted == 0;
        if is_clean {
            self.taken |= wanted;
        }
        is_clean
    }

    /// Gives taken pages back: they are stale.
    pub(super) fn release(&mut self, pages: &Range<usize>) {
        debug_assert_eq!(self.taken & mask(pages), mask(pages));
        self.taken &= !mask(pages);
        self.stale |= mask(pages);
    }

    /// Stale pages were made ready to be written.
    pub(super) fn clean(&mut self, pages: &Range<usize>) {
        debug_assert_eq!(self.stale & mask(pages), mask(pages));
        self.stale &= !mask(pages);
    }

    /// The first stale pages in a row, at or behind page `from`.
    pub(super) fn stale_from(&self, from: usize) -> Option<Range<usize>> {
        let rest = self.stale & u64::MAX.checked_shl(from as u32).unwrap_or(0);
        let first = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
        Some(first..first + (rest >> first).trailing_ones() as usize)
    }

    /// Number of stale pages.
    pub(super) fn stale(&self) -> usize {
        self.stale.count_ones() as usize
    }

    /// Whether `count` pages in a row would be clean if none were stale.
    pub(super) fn could_take(&self, count: usize) -> bool {
        first_run(!self.taken, count).is_some()
    }

    /// Whether nobody has any of the pages.
    pub(super) fn is_unused(&self) -> bool {
        self.taken == 0
    }
}

/// Number of the lowest bit at which `count` bits in a row are set; a `count` of 1 to [`CHUNK_PAGES`].
fn first_run(bits: u64, count: usize) -> Option<usize> {
    // A bit stays as long as it and the `length - 1` bits above are set.
    let (mut starts, mut length) = (bits, 1);
    while length < count && starts != 0 {
        let more = length.min(count - length);
        starts &= starts >> more;
        length += more;
    }
    (starts != 0).then(|| starts.trailing_zeros() as usize)
}

/// The bits of `pages`, of which there is one at least.
fn mask(pages: &Range<usize>) -> u64 {
    (u64::MAX >> (CHUNK_PAGES - pages.len())) << pages.start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Page {
        Taken,
        Stale,
        Clean,
    }

    /// The first `count` pages in a row that are all `wanted`.
    fn find(pages: &[Page], count: usize, wanted: impl Fn(Page) -> bool) -> Option<usize> {
        (0..=pages.len() - count).find(|&at| pages[at..at + count].iter().all(|page| wanted(*page)))
    }

    /// Random operations on a chunk and on a list of pages.
    #[test]
    fn agrees_with_a_list_of_pages() {
        let (mut taken, mut refused, mut recycled) = (0, 0, 0);
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let mut slots = Slots::default();
            let mut pages = [Page::Clean; CHUNK_PAGES];
            let mut live: Vec<Range<usize>> = Vec::new();
            let most = *rng.pick(&[1, 3, 20, CHUNK_PAGES]);
            for _ in 0..200 {
                let count = rng.between(1, most);
                match rng.below(9) {
                    8 => {
                        let first = rng.below(CHUNK_PAGES + 1);
                        let wanted = first..first + count;
                        let expected = pages
                            .get(wanted.clone())
                            .is_some_and(|pages| pages.iter().all(|page| *page == Page::Clean));
                        assert_eq!(slots.take_at(first, count), expected);
                        if expected {
                            pages[wanted.clone()].fill(Page::Taken);
                            live.push(wanted);
                        }
                    }
                    0..=3 => {
                        let expected = find(&pages, count, |page| page == Page::Clean);
                        assert_eq!(slots.take(count), expected);
                        if let Some(first) = expected {
                            pages[first..first + count].fill(Page::Taken);
                            live.push(first..first + count);
                            taken += 1;
                        } else {
                            refused += 1;
                        }
                    }
                    4..=6 if !live.is_empty() => {
                        let range = live.swap_remove(rng.below(live.len()));
                        slots.release(&range);
                        pages[range].fill(Page::Stale);
                    }
                    _ => {
                        let mut from = 0;
                        while let Some(range) = slots.stale_from(from) {
                            let is_run = pages[range.clone()].iter().all(|page| *page == Page::Stale);
                            assert!(is_run && pages.get(range.end) != Some(&Page::Stale));
                            assert!(!pages[from..range.start].contains(&Page::Stale));
                            from = range.end;
                            slots.clean(&range);
                            pages[range].fill(Page::Clean);
                            recycled += 1;
                        }
                        assert!(!pages.contains(&Page::Stale));
                    }
                }
                assert_eq!(slots.stale(), pages.iter().filter(|page| **page == Page::Stale).count());
                assert_eq!(slots.is_unused(), !pages.contains(&Page::Taken));
                assert_eq!(
                    slots.could_take(count),
                    find(&pages, count, |page| page != Page::Taken).is_some()
                );
            }
        }
        assert!(taken > 5000 && refused > 1000 && recycled > 1000, "{taken} {refused} {recycled}");
    }
}
