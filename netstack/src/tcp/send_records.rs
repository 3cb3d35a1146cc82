//! What is in flight, segment by segment: when each was last sent, whether more than once, and what became of
//! it (the per-segment variables of RFC 8985 section 5.1).
//!
//! ```text
//!   SND.UNA                                                             SND.MAX
//!   ---|  sent 3 ms ago, twice |  SACKed  |  lost  |  sent 1 ms ago, once  |---
//! ```
//!
//! A record is a range of sequence numbers with one history. Segments that went out at the same time share
//! one, so a burst or a super-segment costs a single record; an acknowledgment of a part splits it, and
//! SACKed neighbours grow together. There is no record while nothing is in flight. Each sequence number in
//! flight is in one of three states: on its way, SACKed, or lost (and then still to be sent again, which puts
//! it on its way once more).

use smallvec::SmallVec;

use crate::tcp::seq::SeqNumber;

/// Records kept at most. Beyond, SACK blocks that would split one are not believed, and new data join the
/// last one: what is bounded is the work for each ACK of a peer that reports every other byte.
const MAX_RECORDS: usize = 1024;

/// Kept inside of the PCB: what an answer needs that leaves in one burst, and its retransmission.
const INLINE: usize = 2;

/// A clock of microseconds, modulo 2^32: 71 minutes, while nothing is in flight for longer than the
/// retransmissions of it last. Compared on the circle, like sequence numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Micros(pub(crate) u32);

impl Micros {
    /// The time on this clock.
    pub(crate) fn of(now: runtime::time::Instant) -> Micros {
        Micros((now.as_nanos() / 1000) as u32)
    }

    /// Microseconds from `earlier` on; zero if that is later.
    pub(crate) fn since(self, earlier: Micros) -> u32 {
        let elapsed = self.0.wrapping_sub(earlier.0);
        if (elapsed as i32) < 0 { 0 } else { elapsed }
    }

    /// Whether `self` is later than `other`.
    pub(crate) fn gt(self, other: Micros) -> bool {
        (other.0.wrapping_sub(self.0) as i32) < 0
    }
}

/// What is known of the segments of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    OnItsWay,
    Sacked,
    Lost,
}

/// A range of sequence numbers, up to `end` from the end of the record before, that has one history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    end: SeqNumber,
    /// When last sent. Without meaning once SACKed.
    sent: Micros,
    delivery: Delivery,
    /// Sent more than once.
    resent: bool,
}

/// Segments that an ACK reports to have arrived, for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// Just past the last of them.
    pub(crate) end: SeqNumber,
    /// When they were last sent.
    pub(crate) sent: Micros,
    /// They were sent more than once.
    pub(crate) resent: bool,
}

/// All that is in flight.
#[derive(Clone, Debug)]
pub(crate) struct SendRecords {
    /// SND.UNA.
    start: SeqNumber,
    /// Ascending, without gaps; the last one ends at SND.MAX.
    records: SmallVec<[Record; INLINE]>,
    sacked_bytes: u32,
    lost_bytes: u32,
}

impl SendRecords {
    /// Nothing in flight; `start` is what will be sent first.
    pub(crate) fn new(start: SeqNumber) -> SendRecords {
        SendRecords { start, records: SmallVec::new(), sacked_bytes: 0, lost_bytes: 0 }
    }

    /// New data went out, up to `end`.
    pub(crate) fn sent(&mut self, end: SeqNumber, now: Micros) {
        let full = self.records.len() >= MAX_RECORDS;
        if let Some(last) = self.records.last_mut()
            && last.delivery == Delivery::OnItsWay
            && !last.resent
            && (last.sent == now || full)
        {
            last.end = end;
            last.sent = now;
        } else {
            self.records.push(Record { end, sent: now, delivery: Delivery::OnItsWay, resent: false });
        }
    }

    /// `[from, end)`, which is in flight, went out again.
    pub(crate) fn resent(&mut self, from: SeqNumber, end: SeqNumber, now: Micros) {
        let (first, last) = self.cut(from, end);
        for at in first..last {
            if self.count_out(at).is_none() {
                continue;
            }
            let record = &mut self.records[at];
            *record = Record { sent: now, delivery: Delivery::OnItsWay, resent: true, ..*record };
        }
        self.join(first, last);
    }

    /// SND.UNA moved to `una`: calls `visit` for what had not been SACKed before, in order. Whether any of
    /// what was acknowledged had been sent more than once.
    pub(crate) fn acknowledged(&mut self, una: SeqNumber, mut visit: impl FnMut(Delivered)) -> bool {
        let mut any_resent = false;
        let mut gone = 0;
        while let Some(record) = self.records.get(gone).copied() {
            let end = record.end.min(una);
            let len = end.since(self.start);
            if len == 0 {
                break;
            }
            any_resent |= record.resent;
            match record.delivery {
                Delivery::Sacked => self.sacked_bytes -= len,
                other => {
                    if other == Delivery::Lost {
                        self.lost_bytes -= len;
                    }
                    visit(Delivered { end, sent: record.sent, resent: record.resent });
                }
            }
            self.start = end;
            if end != record.end {
                break;
            }
            gone += 1;
        }
        self.records.drain(..gone);
        if self.records.is_empty() {
            // What a burst of losses took of memory is not kept by a connection that is idle.
            self.records = SmallVec::new();
            self.start = una;
        }
        any_resent
    }

    /// The peer has `[left, right)`, which lies above SND.UNA and in flight: calls `visit` for what is news,
    /// in order. How many bytes are.
    pub(crate) fn sacked(
        &mut self,
        left: SeqNumber,
        right: SeqNumber,
        mut visit: impl FnMut(Delivered),
    ) -> u32 {
        if self.records.len() + 2 > MAX_RECORDS {
            return 0;
        }
        // What is known already needs no splitting.
        let at = self.records.partition_point(|record| record.end.le(left));
        if self.records.get(at).is_some_and(|record| {
            record.delivery == Delivery::Sacked && self.start_of(at).le(left) && right.le(record.end)
        }) {
            return 0;
        }
        let (first, last) = self.cut(left, right);
        let mut news = 0;
        for at in first..last {
            let Some(len) = self.count_out(at) else { continue };
            let record = &mut self.records[at];
            record.delivery = Delivery::Sacked;
            news += len;
            visit(Delivered { end: record.end, sent: record.sent, resent: record.resent });
        }
        self.sacked_bytes += news;
        self.join(first, last);
        news
    }

    /// `[from, end)` is lost, as far as it was on its way. How many bytes became so.
    pub(crate) fn lost(&mut self, from: SeqNumber, end: SeqNumber) -> u32 {
        let (first, last) = self.cut(from, end);
        let mut news = 0;
        for at in first..last {
            news += self.lose(at);
        }
        self.join(first, last);
        news
    }

    /// Everything on its way is lost that was sent before (`at`, `end`) and for which `remaining` says that
    /// its time is over: `None`, or else how many microseconds it has left. Gives the bytes lost, the end of
    /// the last of them, and the longest time left.
    pub(crate) fn lost_before(
        &mut self,
        at: Micros,
        end: SeqNumber,
        remaining: impl Fn(Micros) -> Option<u32>,
    ) -> Losses {
        let mut losses = Losses::default();
        let mut index = 0;
        while index < self.records.len() {
            let record = self.records[index];
            let is_later = record.sent.gt(at);
            if is_later && !record.resent && record.delivery == Delivery::OnItsWay {
                // Sent once, and later; so what follows was sent later still.
                break;
            }
            // Of one burst the part before `end` counts as sent before it (RFC 8985 section 6.2,
            // RACK_sent_after).
            let before = if is_later { self.start_of(index) } else { record.end };
            let before = if record.sent == at { before.min(end) } else { before };
            let len = before.since(self.start_of(index));
            if record.delivery == Delivery::OnItsWay && len > 0 {
                match remaining(record.sent) {
                    Some(left_us) => losses.wait_us = losses.wait_us.max(left_us),
                    None => {
                        if before != record.end {
                            self.split(index, before);
                        }
                        losses.bytes += self.lose(index);
                        losses.end = Some(before);
                    }
                }
            }
            index += 1;
        }
        let last = self.records.len();
        self.join(0, last);
        losses
    }

    /// Believes no SACK any more: the receiver has taken one back (RFC 2018 section 8).
    pub(crate) fn forget_sacks(&mut self) {
        for record in &mut self.records {
            if record.delivery == Delivery::Sacked {
                record.delivery = Delivery::OnItsWay;
                record.resent = true;
            }
        }
        self.sacked_bytes = 0;
    }

    /// Nothing is lost: what was thought to be is on its way.
    pub(crate) fn forget_losses(&mut self) {
        for record in &mut self.records {
            if record.delivery == Delivery::Lost {
                record.delivery = Delivery::OnItsWay;
            }
        }
        self.lost_bytes = 0;
    }

    /// The first lost range that is still to be sent again: its start and length.
    pub(crate) fn first_lost(&self) -> Option<(SeqNumber, u32)> {
        if self.lost_bytes == 0 {
            return None;
        }
        let first = self.records.iter().position(|record| record.delivery == Delivery::Lost)?;
        let after = self.records[first..].iter().take_while(|record| record.delivery == Delivery::Lost);
        let (start, end) = (self.start_of(first), after.last()?.end);
        Some((start, end - start))
    }

    /// When what lies at SND.UNA was last sent.
    pub(crate) fn first_sent(&self) -> Option<Micros> {
        self.records.first().map(|record| record.sent)
    }

    /// Whether the peer reports as received what lies at SND.UNA, which it does not acknowledge.
    pub(crate) fn first_is_sacked(&self) -> bool {
        self.records.first().is_some_and(|record| record.delivery == Delivery::Sacked)
    }

    /// Bytes SACKed.
    pub(crate) fn sacked_bytes(&self) -> u32 {
        self.sacked_bytes
    }

    /// Ranges SACKed.
    pub(crate) fn sacked_ranges(&self) -> usize {
        self.records.iter().filter(|record| record.delivery == Delivery::Sacked).count()
    }

    /// Bytes lost and not sent again.
    pub(crate) fn lost_bytes(&self) -> u32 {
        self.lost_bytes
    }

    fn lose(&mut self, at: usize) -> u32 {
        if self.records[at].delivery != Delivery::OnItsWay {
            return 0;
        }
        self.records[at].delivery = Delivery::Lost;
        let len = self.len_of(at);
        self.lost_bytes += len;
        len
    }

    /// Takes a record that is about to change out of the count of what is lost. Its length; `None` if it is
    /// SACKed, which is for good.
    fn count_out(&mut self, at: usize) -> Option<u32> {
        let len = self.len_of(at);
        match self.records[at].delivery {
            Delivery::Sacked => return None,
            Delivery::Lost => self.lost_bytes -= len,
            Delivery::OnItsWay => {}
        }
        Some(len)
    }

    fn start_of(&self, at: usize) -> SeqNumber {
        if at == 0 { self.start } else { self.records[at - 1].end }
    }

    fn len_of(&self, at: usize) -> u32 {
        self.records[at].end - self.start_of(at)
    }

    /// Makes `from` and `end` borders of records. The records between them.
    fn cut(&mut self, from: SeqNumber, end: SeqNumber) -> (usize, usize) {
        let border = |records: &mut SendRecords, seq: SeqNumber| {
            let at = records.records.partition_point(|record| record.end.le(seq));
            if at < records.records.len() && records.start_of(at).lt(seq) {
                records.split(at, seq);
                return at + 1;
            }
            at
        };
        let first = border(self, from);
        (first, border(self, end).max(first))
    }

    fn split(&mut self, at: usize, seq: SeqNumber) {
        let head = Record { end: seq, ..self.records[at] };
        self.records.insert(at, head);
    }

    /// Joins what has become alike among the records `[first, last)` and their neighbours.
    fn join(&mut self, first: usize, last: usize) {
        let from = first.saturating_sub(1);
        let until = (last + 1).min(self.records.len());
        let mut kept = from;
        for at in from + 1..until {
            let (before, record) = (self.records[kept], self.records[at]);
            let both_sacked = before.delivery == Delivery::Sacked && record.delivery == Delivery::Sacked;
            let alike = before.sent == record.sent
                && before.delivery == record.delivery
                && before.resent == record.resent;
            if both_sacked || alike {
                self.records[kept] =
                    Record { end: record.end, resent: before.resent | record.resent, ..before };
            } else {
                kept += 1;
                self.records[kept] = record;
            }
        }
        if until > from {
            self.records.drain(kept + 1..until);
        }
    }
}

/// What [`SendRecords::lost_before`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Bytes newly lost.
    pub(crate) bytes: u32,
    /// End of the last of them.
    pub(crate) end: Option<SeqNumber>,
    /// How long the last of those that are not lost yet has time, in microseconds; zero without such.
    pub(crate) wait_us: u32,
}

#[cfg(test)]
mod tests;
