//! What is wanted together, as it is told while an image is written: so that each file, and not the first
//! alone, can say how much of its group lies from it on. Whichever is asked for first, what lies from
//! it on and is missing, up to 2 MiB, a quarter of the cache, or a block that is there, is one reading then.

use std::ops::Range;

/// Parts of the data region.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// By their beginnings; none lies within another.
    spans: Vec<Range<u64>>,
}

impl Groups {
    /// All from `start` to `end`, which is where the image ends as yet. Groups within it are parts of it.
    pub(super) fn add(&mut self, start: u64, end: u64) {
        while self.spans.last().is_some_and(|inner| start <= inner.start) {
            self.spans.pop();
        }
        self.spans.push(start..end);
    }

    /// Up to where the group reaches in which there is something at `offset`; of two, that which begins
    /// later.
    pub(super) fn end(&self, offset: u64) -> Option<u64> {
        let after = self.spans.partition_point(|span| span.start <= offset);
        let span = self.spans[..after].last()?;
        span.contains(&offset).then_some(span.end)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_group_counts() {
        let mut groups = Groups::default();
        assert!(groups.is_empty() && groups.end(0).is_none());
        for (start, end) in [(10, 20), (32, 34), (34, 36), (30, 40), (35, 50)] {
            groups.add(start, end);
        }
        let ends = [9, 10, 19, 20, 30, 33, 34, 35, 49, 50].map(|offset| groups.end(offset));
        let (first, second, third) = (Some(20), Some(40), Some(50));
        assert_eq!(ends, [None, first, first, None, second, second, second, third, third, None]);
        assert_eq!(groups.spans.len(), 3);
    }
}
