//! The sealed bytes of a connection that its peer has not acknowledged.

use std::collections::VecDeque;

use runtime::buffer::Slice;
use runtime::payload::Piece;

/// Records on their way out, by their offsets in the stream.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    queue: VecDeque<Slice>,
    /// Where the first of `queue` begins.
    start: u64,
    acknowledged: u64,
    end: u64,
}

impl Outgoing {
    pub(super) fn push(&mut self, bytes: Slice) {
        self.end += bytes.len() as u64;
        self.queue.push_back(bytes);
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn acknowledged_end(&self) -> u64 {
        self.acknowledged
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> u64 {
        self.end - self.acknowledged
    }

    pub(super) fn acknowledged(&mut self, offset: u64) {
        self.acknowledged = self.acknowledged.max(offset.min(self.end));
        while let Some(first) = self.queue.front()
            && self.start + first.len() as u64 <= self.acknowledged
        {
            self.start += first.len() as u64;
            self.queue.pop_front();
        }
        if self.queue.is_empty() {
            // A connection that waits owns as little as can be.
            self.queue = VecDeque::new();
        }
    }

    /// Visits the bytes `[offset, offset + len)` piece by piece until `visit` says no.
    pub(super) fn for_each_piece<'a>(
        &'a self,
        offset: u64,
        len: usize,
        mut visit: impl FnMut(Piece<'a>) -> bool,
    ) {
        let end = self.end.min(offset.saturating_add(len as u64));
        let mut start = self.start;
        for slice in &self.queue {
            let until = start + slice.len() as u64;
            if start >= end {
                return;
            }
            if offset < until {
                let part = (offset.max(start) - start) as usize..(end.min(until) - start) as usize;
                if !visit(slice.piece(part)) {
                    return;
                }
            }
            start = until;
        }
    }

    /// Where the record that the byte at `offset` lies in ends.
    pub(super) fn part_end(&self, offset: u64) -> Option<u64> {
        let mut end = self.start;
        self.queue.iter().find_map(|slice| {
            end += slice.len() as u64;
            (offset < end).then_some(end)
        })
    }
}
