//! What a secured connection has to send and its peer has not acknowledged: sealed bytes, and records that
//! are sealed when they are sent.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Range;

use netstack::wire::checksum;
use pipe_lib::OnesSum;
use runtime::buffer::Slice;
use runtime::payload::Piece;
use runtime::stats::work::{Quantity, count};

use super::planned::{Plain, Planned};

/// Records on their way out, by their offsets in the stream.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    queue: VecDeque<Entry>,
    acknowledged: u64,
    end: u64,
    /// A record was planned: from then on bytes are made, not referred to.
    is_made: bool,
    is_spoilt: Cell<bool>,
}

/// One of them, and where it ends.
#[derive(Debug)]
struct Entry {
    end: u64,
    record: Record,
    /// Where its content ends in the stream of responses, if that is of interest.
    plain_end: Option<u64>,
}

#[derive(Debug)]
enum Record {
    Sealed(Slice),
    Planned(Planned),
}

impl Entry {
    fn range(&self) -> Range<u64> {
        let len = match &self.record {
            Record::Sealed(bytes) => bytes.len(),
            Record::Planned(planned) => planned.sealed_len(),
        };
        self.end - len as u64..self.end
    }
}

impl Outgoing {
    pub(super) fn push(&mut self, bytes: Slice) {
        self.end += bytes.len() as u64;
        self.queue.push_back(Entry { end: self.end, record: Record::Sealed(bytes), plain_end: None });
    }

    pub(super) fn plan(&mut self, planned: Planned) {
        self.is_made = true;
        self.end += planned.sealed_len() as u64;
        let plain_end = Some(planned.plain_end());
        self.queue.push_back(Entry { end: self.end, record: Record::Planned(planned), plain_end });
    }

    /// The content of the last record ends there in the stream of responses.
    pub(super) fn last_ends_at(&mut self, plain_end: Option<u64>) {
        if let Some(last) = self.queue.back_mut() {
            last.plain_end = plain_end;
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn acknowledged_end(&self) -> u64 {
        self.acknowledged
    }

    /// Bytes that are not acknowledged.
    pub(super) fn held(&self) -> u64 {
        self.end - self.acknowledged
    }

    /// Lets go of records of which the peer has all; gives where the content of the last of them ends in the
    /// stream of responses, if that is of interest.
    pub(super) fn acknowledged(&mut self, offset: u64) -> Option<u64> {
        self.acknowledged = self.acknowledged.max(offset.min(self.end));
        let mut plain_end = None;
        while let Some(first) = self.queue.front()
            && first.end <= self.acknowledged
        {
            plain_end = first.plain_end.or(plain_end);
            self.queue.pop_front();
        }
        if self.queue.is_empty() {
            // A connection that waits owns as little as can be.
            self.queue = VecDeque::new();
        }
        plain_end
    }

    /// The records from that with the byte at `offset` on.
    fn from(&self, offset: u64) -> impl Iterator<Item = &Entry> {
        let first = self.queue.partition_point(|entry| entry.end <= offset);
        self.queue.range(first..)
    }

    /// Visits the sealed bytes `[offset, offset + len)` piece by piece until `visit` says no, or they are not
    /// sealed yet.
    pub(super) fn for_each_piece<'a>(
        &'a self,
        offset: u64,
        len: usize,
        mut visit: impl FnMut(Piece<'a>) -> bool,
    ) {
        let end = self.end.min(offset.saturating_add(len as u64));
        for entry in self.from(offset) {
            let Record::Sealed(bytes) = &entry.record else { return };
            let Range { start, end: until } = entry.range();
            if start >= end {
                return;
            }
            let part = (offset.max(start) - start) as usize..(end.min(until) - start) as usize;
            if !visit(bytes.piece(part)) {
                return;
            }
        }
    }

    /// Writes the bytes from `offset` on over all of `to`, sealed there and then from `plain`; gives their
    /// sum, if that is wanted. Whether all of it was sound is not known before the end of each record: see
    /// [`Outgoing::is_spoilt`].
    pub(super) fn make(&self, offset: u64, to: &mut [u8], wants_sum: bool, plain: &dyn Plain) -> Option<u16> {
        let mut sum = wants_sum.then(OnesSum::new);
        let (mut at, mut to) = (offset, to);
        for entry in self.from(offset) {
            if to.is_empty() {
                break;
            }
            let Range { start, end } = entry.range();
            let len = to.len().min((end - at) as usize);
            let (now, later) = std::mem::take(&mut to).split_at_mut(len);
            let from = (at - start) as usize;
            match &entry.record {
                Record::Sealed(bytes) => {
                    now.copy_from_slice(&bytes.bytes()[from..from + len]);
                    count(Quantity::BytesCopied, len);
                    count(Quantity::BytesTouched, len);
                    if let Some(sum) = &mut sum {
                        count(Quantity::BytesSummed, len);
                        count(Quantity::BytesTouched, len);
                        sum.append(checksum::sum(now), len);
                    }
                }
                Record::Planned(planned) => {
                    planned.make(from, now, sum.as_mut(), plain);
                    self.is_spoilt.set(self.is_spoilt.get() || planned.is_spoilt());
                }
            }
            (at, to) = (at + len as u64, later);
        }
        debug_assert!(to.is_empty(), "beyond the end");
        sum.map(OnesSum::value)
    }

    /// Whether bytes are to be had by [`Outgoing::make`] alone.
    pub(super) fn is_made(&self) -> bool {
        self.is_made
    }

    /// Whether a record that was on its way can never be accepted.
    pub(super) fn is_spoilt(&self) -> bool {
        self.is_spoilt.get()
    }

    /// Where the record that the byte at `offset` lies in ends.
    pub(super) fn part_end(&self, offset: u64) -> Option<u64> {
        self.from(offset).next().map(|entry| entry.end)
    }
}
