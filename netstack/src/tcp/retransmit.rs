//! What is lost, what is on its way, and what to send again: fast retransmit and fast recovery without SACK (RFC 5681
//! section 3.2, RFC 6582) and with it (RFC 6675), and go-back-N after a time-out. One mechanism serves all:
//!
//! ```text
//!   SND.UNA        high_rxt       lost_until                    SND.MAX
//!   ---|==============|~~~~~~~~~~~~~~|....[sacked]....[sacked]....|---
//!      sent again     lost, still to be   on its way
//!                     sent again
//! ```
//!
//! All that is not SACKed between SND.UNA and `lost_until` counts as lost; of that, what lies below `high_rxt` has been
//! sent again. How far `lost_until` reaches is all that differs: to the end after a time-out, over one segment for
//! NewReno, and as far as RFC 6675's IsLost says with SACK.
//!
//! *pipe*, the bytes believed to be in the network, is then everything between SND.UNA and SND.MAX that is neither
//! SACKed nor lost-and-not-sent-again. Without SACK each duplicate ACK stands for one segment that left the network.

use crate::tcp::seq::SeqNumber;
use crate::wire::tcp::SackBlocks;

/// Duplicate ACKs that mean a loss (RFC 5681 section 3.2; RFC 6675 DupThresh).
const DUP_THRESH: u32 = 3;

/// Most SACKed ranges remembered. Each is at least one segment at the peer, who bounds them too.
const MAX_RANGES: usize = 64;

/// How a connection is recovering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No loss known.
    Open,
    /// Fast recovery, until `recover` is acknowledged.
    Fast,
    /// After a time-out, until `recover` is acknowledged.
    TimedOut,
}

/// Loss bookkeeping of one connection.
#[derive(Clone, Debug)]
pub struct LossRecovery {
    phase: Phase,
    /// Negotiated: the receiver's SACK option tells what arrived, not the count of duplicates.
    sack_permitted: bool,
    /// SND.MAX when the loss was noticed (RFC 6582 "recover", RFC 6675 RecoveryPoint).
    recover: SeqNumber,
    high_rxt: SeqNumber,
    lost_until: SeqNumber,
    dup_acks: u32,
    /// Without SACK: bytes that duplicate ACKs report to have left the network.
    dup_bytes: u32,
    /// With SACK: disjoint ascending ranges `[left, right)` above SND.UNA.
    sacked: Vec<(SeqNumber, SeqNumber)>,
    sacked_bytes: u32,
    /// The first retransmission of a recovery goes out whatever pipe says (RFC 5681 section 3.2 step 3).
    first_is_due: bool,
}

/// What an ACK meant for loss recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing out of the ordinary.
    Ordinary,
    /// A loss has shown: fast recovery began.
    EnteredFast,
    /// Fast recovery goes on; the next hole is due.
    PartialAck,
    /// The recovery is over; it was of this kind.
    Recovered(Phase),
}

impl LossRecovery {
    /// Nothing lost; `iss` is the initial sequence number.
    pub fn new(iss: SeqNumber, sack_permitted: bool) -> LossRecovery {
        LossRecovery {
            phase: Phase::Open,
            sack_permitted,
            recover: iss,
            high_rxt: iss,
            lost_until: iss,
            dup_acks: 0,
            dup_bytes: 0,
            sacked: Vec::new(),
            sacked_bytes: 0,
            first_is_due: false,
        }
    }

    /// SND.UNA moved to `una` by `acked` bytes.
    pub fn advanced(&mut self, una: SeqNumber, acked: u32, smss: u32) -> Verdict {
        self.dup_acks = 0;
        self.high_rxt = self.high_rxt.max(una);
        self.lost_until = self.lost_until.max(una);
        self.drop_ranges_below(una);
        if self.phase == Phase::Open {
            // It must not fall half a circle behind, or it would seem to lie ahead.
            self.recover = self.recover.max(una - 1);
            self.dup_bytes = 0;
            return Verdict::Ordinary;
        }
        if una.ge(self.recover) {
            let phase = self.phase;
            self.phase = Phase::Open;
            self.dup_bytes = 0;
            self.lost_until = una;
            self.first_is_due = false;
            return Verdict::Recovered(phase);
        }
        if self.phase == Phase::Fast && !self.sack_permitted {
            // RFC 6582 section 3.2 step 3, partial acknowledgment: the next segment is lost too; deflate by what was
            // acknowledged, and add back one segment.
            self.dup_bytes = self.dup_bytes.saturating_sub(acked.saturating_sub(smss));
            self.lost_until = una + smss;
            self.high_rxt = una;
            self.first_is_due = true;
        }
        if self.phase == Phase::Fast && self.sack_permitted {
            self.update_lost(smss);
        }
        Verdict::PartialAck
    }

    /// A duplicate ACK (RFC 5681 section 2), or one with news in its SACK option; call after [`LossRecovery::sack`].
    /// `flight_end` is SND.MAX.
    pub fn duplicate(&mut self, una: SeqNumber, flight_end: SeqNumber, smss: u32) -> Verdict {
        self.dup_acks = self.dup_acks.saturating_add(1);
        if !self.sack_permitted && self.phase != Phase::TimedOut {
            self.dup_bytes = (self.dup_bytes + smss).min(flight_end - una);
        }
        if self.phase != Phase::Open {
            return Verdict::Ordinary;
        }
        let lost = if self.sack_permitted {
            self.dup_acks >= DUP_THRESH || self.is_lost_boundary(smss).is_some_and(|until| until.gt(una))
        } else {
            // RFC 6582 section 3.2 step 1: not again for losses of the window that was just recovered.
            self.dup_acks >= DUP_THRESH && una.gt(self.recover)
        };
        if !lost {
            return Verdict::Ordinary;
        }
        self.phase = Phase::Fast;
        self.recover = flight_end;
        self.high_rxt = una;
        let first_end = self.sacked.first().map_or(flight_end, |&(left, _)| left);
        self.lost_until = (una + smss).min(first_end).min(flight_end);
        self.first_is_due = true;
        self.update_lost(smss);
        Verdict::EnteredFast
    }

    /// The retransmission timer fired: all that is not SACKed is lost (RFC 5681 section 3.1; RFC 6675 section 5.1).
    pub fn timed_out(&mut self, una: SeqNumber, flight_end: SeqNumber) {
        self.phase = Phase::TimedOut;
        self.recover = flight_end;
        self.high_rxt = una;
        self.lost_until = flight_end;
        self.dup_acks = 0;
        self.dup_bytes = 0;
        self.first_is_due = true;
        // A receiver that SACKs what it should acknowledge has reneged (RFC 2018 section 8): believe nothing it said.
        if self.sacked.first().is_some_and(|&(left, _)| left.le(una)) {
            self.sacked.clear();
            self.sacked_bytes = 0;
        }
    }

    /// Takes in a SACK option. Returns how many bytes are news. Blocks outside of `(una, flight_end]` are ignored:
    /// duplicate-SACK (RFC 2883), old, or forged.
    pub fn sack(&mut self, blocks: &SackBlocks, una: SeqNumber, flight_end: SeqNumber, smss: u32) -> u32 {
        let before = self.sacked_bytes;
        for &(left, right) in blocks.as_slice() {
            let (left, right) = (SeqNumber(left), SeqNumber(right));
            if left.gt(una) && left.lt(right) && right.le(flight_end) {
                self.insert_range(left, right);
            }
        }
        let news = self.sacked_bytes - before;
        if news > 0 && self.phase == Phase::Fast {
            self.update_lost(smss);
        }
        news
    }

    fn insert_range(&mut self, mut left: SeqNumber, mut right: SeqNumber) {
        let first = self.sacked.partition_point(|&(_, r)| r.lt(left));
        let last = first + self.sacked[first..].partition_point(|&(l, _)| l.le(right));
        if first == last {
            if self.sacked.len() < MAX_RANGES {
                self.sacked.insert(first, (left, right));
                self.sacked_bytes += right - left;
            }
            return;
        }
        left = left.min(self.sacked[first].0);
        right = right.max(self.sacked[last - 1].1);
        let joined: u32 = self.sacked[first..last].iter().map(|&(l, r)| r - l).sum();
        self.sacked[first] = (left, right);
        self.sacked.drain(first + 1..last);
        self.sacked_bytes = self.sacked_bytes - joined + (right - left);
    }

    fn drop_ranges_below(&mut self, una: SeqNumber) {
        let gone = self.sacked.partition_point(|&(_, right)| right.le(una));
        for (left, right) in self.sacked.drain(..gone) {
            self.sacked_bytes -= right - left;
        }
        if let Some(first) = self.sacked.first_mut()
            && first.0.lt(una)
        {
            self.sacked_bytes -= una - first.0;
            first.0 = una;
        }
    }

    /// RFC 6675 section 4, IsLost: below this, un-SACKed bytes have DupThresh SACKed ranges, or more than
    /// (DupThresh - 1) * SMSS SACKed bytes, above them.
    fn is_lost_boundary(&self, smss: u32) -> Option<SeqNumber> {
        let (mut count, mut bytes) = (0, 0);
        for &(left, right) in self.sacked.iter().rev() {
            count += 1;
            bytes += right - left;
            if count >= DUP_THRESH || bytes > (DUP_THRESH - 1) * smss {
                return Some(left);
            }
        }
        None
    }

    fn update_lost(&mut self, smss: u32) {
        if let Some(until) = self.is_lost_boundary(smss) {
            self.lost_until = self.lost_until.max(until);
        }
    }

    /// The first lost range that is still to be sent again: start and length in sequence numbers.
    pub fn next_hole(&self, una: SeqNumber) -> Option<(SeqNumber, u32)> {
        let mut start = self.high_rxt.max(una);
        for &(left, right) in &self.sacked {
            if left.gt(start) {
                break;
            }
            start = start.max(right);
        }
        if start.ge(self.lost_until) {
            return None;
        }
        let next = self.sacked.iter().find(|&&(left, _)| left.gt(start)).map(|&(left, _)| left);
        let end = next.map_or(self.lost_until, |left| left.min(self.lost_until));
        Some((start, end - start))
    }

    /// Everything lost before `end` has been sent again.
    pub fn retransmitted(&mut self, end: SeqNumber) {
        self.high_rxt = self.high_rxt.max(end);
        self.first_is_due = false;
    }

    /// Whether the next retransmission may ignore the congestion window.
    pub fn first_is_due(&self) -> bool {
        self.first_is_due
    }

    /// Bytes believed to be in the network.
    pub fn pipe(&self, una: SeqNumber, flight_end: SeqNumber) -> u32 {
        let flight = flight_end - una;
        if self.phase == Phase::Open && self.dup_bytes == 0 && self.sacked_bytes == 0 {
            return flight;
        }
        let from = self.high_rxt.max(una);
        let lost = if from.lt(self.lost_until) {
            let sacked: u32 = self
                .sacked
                .iter()
                .map(|&(left, right)| right.min(self.lost_until).since(left.max(from)))
                .sum();
            (self.lost_until - from).saturating_sub(sacked)
        } else {
            0
        };
        flight.saturating_sub(self.sacked_bytes).saturating_sub(self.dup_bytes).saturating_sub(lost)
    }

    /// How the connection is recovering.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Duplicate ACKs in a row.
    pub fn dup_acks(&self) -> u32 {
        self.dup_acks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMSS: u32 = 100;

    fn seq(n: u32) -> SeqNumber {
        SeqNumber(u32::MAX - 150) + n
    }

    fn blocks(ranges: &[(u32, u32)]) -> SackBlocks {
        let mut sack = SackBlocks::NONE;
        for &(left, right) in ranges {
            assert!(sack.push(seq(left).0, seq(right).0));
        }
        sack
    }

    #[test]
    fn third_duplicate_marks_one_segment_lost_without_sack() {
        let mut r = LossRecovery::new(seq(0) - 1, false);
        assert_eq!(r.duplicate(seq(0), seq(1000), SMSS), Verdict::Ordinary);
        assert_eq!(r.pipe(seq(0), seq(1000)), 900, "limited transmit, RFC 3042");
        assert_eq!(r.duplicate(seq(0), seq(1000), SMSS), Verdict::Ordinary);
        assert_eq!(r.next_hole(seq(0)), None);
        assert_eq!(r.duplicate(seq(0), seq(1000), SMSS), Verdict::EnteredFast);
        assert_eq!(r.next_hole(seq(0)), Some((seq(0), 100)));
        assert!(r.first_is_due());
        r.retransmitted(seq(100));
        assert_eq!(r.next_hole(seq(0)), None);
        assert_eq!(r.pipe(seq(0), seq(1000)), 700);
        // Partial ACK: 300 bytes arrived, the next segment is lost too.
        assert_eq!(r.advanced(seq(300), 300, SMSS), Verdict::PartialAck);
        assert_eq!(r.next_hole(seq(300)), Some((seq(300), 100)));
        r.retransmitted(seq(400));
        assert_eq!(r.pipe(seq(300), seq(1000)), 600);
        assert_eq!(r.advanced(seq(1000), 700, SMSS), Verdict::Recovered(Phase::Fast));
        assert_eq!(r.pipe(seq(1000), seq(1000)), 0);
    }

    #[test]
    fn fast_retransmit_still_works_half_the_sequence_space_later() {
        let mut r = LossRecovery::new(seq(0) - 1, false);
        for step in 1..=9 {
            r.advanced(seq(step << 28), 1 << 28, SMSS);
        }
        let una = seq(9 << 28);
        r.duplicate(una, una + 1000, SMSS);
        r.duplicate(una, una + 1000, SMSS);
        assert_eq!(r.duplicate(una, una + 1000, SMSS), Verdict::EnteredFast);
    }

    #[test]
    fn no_second_fast_retransmit_for_the_window_just_recovered() {
        let mut r = LossRecovery::new(seq(0) - 1, false);
        r.timed_out(seq(0), seq(500));
        assert_eq!(r.advanced(seq(500), 500, SMSS), Verdict::Recovered(Phase::TimedOut));
        for _ in 0..5 {
            assert_eq!(r.duplicate(seq(500), seq(900), SMSS), Verdict::Ordinary);
        }
    }

    #[test]
    fn time_out_sends_all_again_but_what_is_sacked() {
        let mut r = LossRecovery::new(seq(0) - 1, true);
        assert_eq!(r.sack(&blocks(&[(200, 300)]), seq(0), seq(500), SMSS), 100);
        r.timed_out(seq(0), seq(500));
        assert_eq!(r.pipe(seq(0), seq(500)), 0);
        assert_eq!(r.next_hole(seq(0)), Some((seq(0), 200)));
        r.retransmitted(seq(100));
        assert_eq!(r.pipe(seq(0), seq(500)), 100);
        assert_eq!(r.next_hole(seq(0)), Some((seq(100), 100)));
        r.retransmitted(seq(200));
        assert_eq!(r.next_hole(seq(0)), Some((seq(300), 200)));
        assert_eq!(r.advanced(seq(400), 400, SMSS), Verdict::PartialAck);
        assert_eq!(r.next_hole(seq(400)), Some((seq(400), 100)));
    }

    #[test]
    fn sack_finds_all_holes_in_one_round_trip() {
        let mut r = LossRecovery::new(seq(0) - 1, true);
        // Segments 0 and 3 of ten are lost.
        r.sack(&blocks(&[(100, 200)]), seq(0), seq(1000), SMSS);
        assert_eq!(r.duplicate(seq(0), seq(1000), SMSS), Verdict::Ordinary);
        r.sack(&blocks(&[(100, 300)]), seq(0), seq(1000), SMSS);
        assert_eq!(r.duplicate(seq(0), seq(1000), SMSS), Verdict::Ordinary);
        r.sack(&blocks(&[(400, 500), (100, 300)]), seq(0), seq(1000), SMSS);
        assert_eq!(r.duplicate(seq(0), seq(1000), SMSS), Verdict::EnteredFast);
        assert_eq!(r.next_hole(seq(0)), Some((seq(0), 100)));
        r.retransmitted(seq(100));
        assert_eq!(r.next_hole(seq(0)), None, "300..400 has only 100 bytes SACKed above it");
        r.sack(&blocks(&[(400, 700), (100, 300)]), seq(0), seq(1000), SMSS);
        assert_eq!(r.next_hole(seq(0)), Some((seq(300), 100)));
        assert_eq!(r.pipe(seq(0), seq(1000)), 1000 - 500 - 100);
        r.retransmitted(seq(400));
        assert_eq!(r.pipe(seq(0), seq(1000)), 1000 - 500);
    }

    #[test]
    fn forged_and_duplicate_blocks_are_ignored() {
        let mut r = LossRecovery::new(seq(0) - 1, true);
        let forged = blocks(&[(0, 100), (900, 1100), (300, 200), (500, 500)]);
        assert_eq!(r.sack(&forged, seq(0), seq(1000), SMSS), 0);
        for i in 0..500 {
            r.sack(&blocks(&[(10 + 4 * i, 12 + 4 * i)]), seq(0), seq(1 << 20), SMSS);
        }
        assert!(r.sacked.len() <= MAX_RANGES);
        assert_eq!(r.sacked_bytes, 2 * MAX_RANGES as u32);
    }
}
