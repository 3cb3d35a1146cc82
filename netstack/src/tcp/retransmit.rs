//! What is lost and what to send again. With SACK by RACK (`tcp::rack`) and tail loss probes (RFC 8985);
//! without, by counting duplicate ACKs (RFC 5681 section 3.2, RFC 6582); after a time-out by both (RFC 6298,
//! RFC 8985 section 6.3).
//!
//! However a loss is found, it is a mark on the records of what is in flight (`tcp::send_records`), and what
//! is marked is sent again, lowest first, as the congestion window has room. *pipe* (RFC 6675), the bytes
//! believed to be in the network, is what is neither SACKed nor marked. Without SACK each duplicate ACK
//! stands for one segment that left the network.
//!
//! ```text
//!   Open --loss found--> Fast --all acknowledged that was out then--> Open
//!     '-----time-out---> TimedOut ----------------"-----------------> Open
//!     '--PTO: nothing heard for two round trips--> a probe (no phase): its ACK tells the loss, or that there was none
//! ```

use runtime::time::Instant;

use crate::tcp::prr::Prr;
use crate::tcp::rack::{Rack, RackPath};
use crate::tcp::send_records::{Micros, SendRecords};
use crate::tcp::seq::SeqNumber;
use crate::wire::tcp::SackBlocks;

/// Duplicate ACKs that mean a loss (RFC 5681 section 3.2; RFC 8985 DupThresh).
const DUP_THRESH: u32 = 3;

/// How a connection is recovering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No loss known.
    Open,
    /// Fast recovery, until `recover` is acknowledged.
    Fast,
    /// After a time-out, until `recover` is acknowledged.
    TimedOut,
}

/// What the retransmission timer stands at: RFC 8985 section 8, "an implementation can use one timer".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The retransmission time-out (RFC 6298).
    #[default]
    TimeOut,
    /// The end of the reordering window of what may be lost (RFC 8985 section 6.2 step 5).
    Reordering,
    /// A probe of the tail (RFC 8985 section 7.2, PTO).
    Probe,
}

/// A tail loss probe that is out (RFC 8985 section 7.1, TLP.end_seq and TLP.is_retrans).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// SND.NXT when it was sent.
    end: SeqNumber,
    /// What it repairs, if anything, nobody else has noticed.
    may_hide_loss: bool,
}

/// Loss bookkeeping of one connection.
#[derive(Clone, Debug)]
pub(crate) struct LossRecovery {
    /// Negotiated: the receiver's SACK option tells what arrived, not the count of duplicates.
    sack_permitted: bool,
    phase: Phase,
    pub(crate) waiting: Waiting,
    /// The first retransmission of a recovery goes out whatever pipe says (RFC 5681 section 3.2 step 3).
    first_is_due: bool,
    /// In fast recovery: something was lost that was sent after it began.
    lost_after_recover: bool,
    /// SND.MAX when the loss was noticed (RFC 6582 "recover", RFC 6675 RecoveryPoint).
    recover: SeqNumber,
    dup_acks: u32,
    /// Without SACK: bytes that duplicate ACKs report to have left the network.
    dup_bytes: u32,
    pub(crate) records: SendRecords,
    rack: Rack,
    probe: Option<Probe>,
    /// Bytes that the last ACK has reported, for the first time.
    pub(crate) newly_delivered: u32,
    /// How much may be sent in fast recovery, with SACK.
    pub(crate) prr: Option<Box<Prr>>,
}

/// A moment of the connection, as loss recovery sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) now: Instant,
    /// SND.UNA.
    pub(crate) una: SeqNumber,
    /// SND.MAX.
    pub(crate) max: SeqNumber,
    pub(crate) smss: u32,
    /// Smoothed round trip in microseconds; zero before the first sample.
    pub(crate) srtt_us: u32,
}

/// What an ACK tells of single segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Bytes SACKed for the first time.
    pub(crate) sacked: u32,
    /// The option reports a segment received twice (RFC 2883); where it ended, and its bytes.
    pub(crate) duplicate: Option<SeqNumber>,
    pub(crate) duplicate_bytes: u32,
    /// How long the earliest segment took that this ACK acknowledges, SND.UNA moving; none if any part was
    /// sent more than once, or had arrived before (Karn, RFC 6298 section 3).
    pub(crate) rtt_us: Option<u32>,
}

/// What an event meant for loss recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing out of the ordinary.
    Ordinary,
    /// A loss has shown: fast recovery began.
    EnteredFast,
    /// A recovery goes on.
    PartialAck,
    /// The recovery is over; it was of this kind.
    Recovered(Phase),
}

impl LossRecovery {
    /// Nothing lost, nothing in flight; `start` is what is sent next, `before` what lies before it, and
    /// `path` what is known from what was in flight earlier.
    pub(crate) fn new(
        before: SeqNumber,
        start: SeqNumber,
        sack_permitted: bool,
        path: RackPath,
    ) -> LossRecovery {
        LossRecovery {
            sack_permitted,
            phase: Phase::Open,
            waiting: Waiting::TimeOut,
            first_is_due: false,
            lost_after_recover: false,
            recover: before,
            dup_acks: 0,
            dup_bytes: 0,
            records: SendRecords::new(start),
            rack: Rack::new(before, path),
            probe: None,
            newly_delivered: 0,
            prr: None,
        }
    }

    /// Reads acknowledgment `ack` and its SACK option into the records, before SND.UNA moves. `echoed` is
    /// when what the ACK answers was sent, at the latest, if timestamps tell. Blocks outside of what is in
    /// flight are ignored: old, or forged; the first may report a duplicate.
    pub(crate) fn read_ack(
        &mut self,
        view: &View,
        ack: SeqNumber,
        blocks: &SackBlocks,
        echoed: Option<Micros>,
    ) -> News {
        let mut news = News::default();
        let (now, now_s) = (Micros::of(view.now), (view.now.as_millis() / 1000) as u32);
        let rack = &mut self.rack;
        self.newly_delivered = 0;
        if ack.gt(view.una) {
            let mut first = None;
            let sacked_before = self.records.sacked_bytes();
            let any_resent = self.records.acknowledged(ack, |segment| {
                first.get_or_insert(segment.sent);
                rack.delivered(now, now_s, segment, echoed);
            });
            news.rtt_us = first.filter(|_| !any_resent).map(|sent| now.since(sent));
            let known = sacked_before - self.records.sacked_bytes();
            self.newly_delivered = (ack - view.una).saturating_sub(known);
        }
        if !self.sack_permitted || blocks.is_empty() {
            return news;
        }
        let una = view.una.max(ack);
        if let Some((left, right)) = reported_duplicate(blocks, una) {
            (news.duplicate, news.duplicate_bytes) = (Some(right), right - left);
        }
        let mut sorted = blocks.as_slice().iter().map(|&(l, r)| (SeqNumber(l), SeqNumber(r)));
        let mut ranges = [(una, una); 4];
        let mut count = 0;
        for range in &mut ranges {
            let Some((left, right)) = sorted.next() else { break };
            if left.gt(una) && left.lt(right) && right.le(view.max) {
                *range = (left, right);
            }
            count += 1;
        }
        // In the order of their numbers, or they would look reordered.
        let ranges = &mut ranges[..count];
        ranges.sort_unstable_by_key(|(left, _)| *left - una);
        for &(left, right) in ranges.iter().filter(|(left, right)| left != right) {
            news.sacked +=
                self.records.sacked(left, right, |segment| rack.delivered(now, now_s, segment, echoed));
        }
        self.newly_delivered = self.newly_delivered.saturating_add(news.sacked);
        if news.duplicate.is_some() {
            self.rack.duplicate_reported(view.max);
        }
        news
    }

    /// SND.UNA moved to `view.una` by `acked` bytes; after [`LossRecovery::read_ack`].
    pub(crate) fn advanced(&mut self, view: &View, acked: u32) -> Verdict {
        self.dup_acks = 0;
        self.rack.advanced(view.una);
        if self.phase == Phase::Fast {
            // Progress: the next silence may be probed again.
            self.probe = None;
        }
        if self.phase == Phase::Open {
            // It must not fall half a circle behind, or it would seem to lie ahead.
            self.recover = self.recover.max(view.una - 1);
            self.dup_bytes = 0;
            return Verdict::Ordinary;
        }
        if view.una.ge(self.recover) {
            let phase = self.phase;
            self.phase = Phase::Open;
            self.prr = None;
            self.dup_bytes = 0;
            self.first_is_due = false;
            self.rack.recovered();
            return Verdict::Recovered(phase);
        }
        if self.phase == Phase::Fast && !self.sack_permitted {
            // RFC 6582 section 3.2 step 3, partial acknowledgment: the next segment is lost too; deflate by
            // what was acknowledged, and add back one segment.
            self.dup_bytes = self.dup_bytes.saturating_sub(acked.saturating_sub(view.smss));
            self.records.lost(view.una, (view.una + view.smss).min(view.max));
            self.first_is_due = true;
        }
        Verdict::PartialAck
    }

    /// Without SACK: a duplicate ACK (RFC 5681 section 2).
    pub(crate) fn duplicate(&mut self, view: &View) -> Verdict {
        self.dup_acks = self.dup_acks.saturating_add(1);
        if self.phase != Phase::TimedOut {
            self.dup_bytes = (self.dup_bytes + view.smss).min(view.max - view.una);
        }
        // RFC 6582 section 3.2 step 1: not again for losses of the window that was just recovered.
        if self.phase != Phase::Open || self.dup_acks < DUP_THRESH || view.una.le(self.recover) {
            return Verdict::Ordinary;
        }
        self.records.lost(view.una, (view.una + view.smss).min(view.max));
        self.enter_fast(view)
    }

    /// With SACK: marks what is lost by now (RFC 8985 section 6.2 step 5). How long to wait for what may be
    /// lost soon, in microseconds; zero for nothing of the kind.
    pub(crate) fn detect(&mut self, view: &View) -> (Verdict, u32) {
        if !self.sack_permitted {
            return (Verdict::Ordinary, 0);
        }
        let now = Micros::of(view.now);
        let is_certain = self.phase != Phase::Open || self.sacked_enough(view.smss);
        let losses = self.rack.detect(now, view.srtt_us, is_certain, &mut self.records);
        if self.phase == Phase::Fast && losses.end.is_some_and(|end| end.gt(self.recover)) {
            self.lost_after_recover = true;
        }
        let verdict =
            if self.phase == Phase::Open && (self.records.lost_bytes() > 0 || self.lost_after_recover) {
                self.enter_fast(view)
            } else {
                Verdict::Ordinary
            };
        (verdict, losses.wait_us)
    }

    /// As many segments SACKed as DupThresh asks for: ranges, or bytes (RFC 6675 section 4, IsLost).
    fn sacked_enough(&self, smss: u32) -> bool {
        self.records.sacked_bytes() > (DUP_THRESH - 1) * smss
            || self.records.sacked_ranges() >= DUP_THRESH as usize
    }

    fn enter_fast(&mut self, view: &View) -> Verdict {
        self.phase = Phase::Fast;
        self.recover = view.max;
        self.lost_after_recover = false;
        self.first_is_due = self.records.lost_bytes() > 0;
        self.probe = None;
        Verdict::EnteredFast
    }

    /// The retransmission timer fired (RFC 6298 rule 5.4; RFC 8985 section 6.3).
    pub(crate) fn timed_out(&mut self, view: &View) {
        // A receiver that SACKs what it should acknowledge has reneged (RFC 2018 section 8): believe nothing
        // it said.
        if self.records.first_is_sacked() {
            self.records.forget_sacks();
        }
        if self.sack_permitted {
            let first_end = (view.una + view.smss).min(view.max);
            let now = Micros::of(view.now);
            self.rack.mark_timed_out(now, view.srtt_us, first_end, view.una, view.max, &mut self.records);
        } else {
            self.records.lost(view.una, view.max);
        }
        self.enter_timed_out(view);
    }

    /// Everything in flight goes again: a router said that it was too large.
    pub(crate) fn all_lost(&mut self, view: &View) {
        self.records.lost(view.una, view.max);
        self.enter_timed_out(view);
    }

    /// Nothing was lost.
    pub(crate) fn undo(&mut self) {
        self.records.forget_losses();
        self.phase = Phase::Open;
        self.prr = None;
        self.first_is_due = false;
        self.lost_after_recover = false;
        self.dup_bytes = 0;
    }

    fn enter_timed_out(&mut self, view: &View) {
        self.phase = Phase::TimedOut;
        self.prr = None;
        self.recover = view.max;
        self.lost_after_recover = false;
        self.dup_acks = 0;
        self.dup_bytes = 0;
        self.first_is_due = true;
        self.probe = None;
    }

    /// The first lost range that is still to be sent again: start and length in sequence numbers.
    pub(crate) fn next_hole(&self) -> Option<(SeqNumber, u32)> {
        self.records.first_lost()
    }

    /// `[from, end)` went out again.
    pub(crate) fn retransmitted(&mut self, from: SeqNumber, end: SeqNumber, now: Instant) {
        self.records.resent(from, end, Micros::of(now));
        self.first_is_due = false;
        if let Some(prr) = &mut self.prr {
            prr.sent(end - from);
        }
    }

    /// Whether the next retransmission may ignore the congestion window.
    pub(crate) fn first_is_due(&self) -> bool {
        self.first_is_due
    }

    /// Bytes believed to be in the network.
    pub(crate) fn pipe(&self, una: SeqNumber, max: SeqNumber) -> u32 {
        (max - una)
            .saturating_sub(self.records.sacked_bytes())
            .saturating_sub(self.records.lost_bytes())
            .saturating_sub(self.dup_bytes)
    }

    /// Whether, with nothing in flight up to SND.UNA, it is as a new one would be: no ACK can be one of the
    /// last recovery any more, and none is to tell what a probe has repaired.
    pub(crate) fn is_at_rest(&self, una: SeqNumber) -> bool {
        let may_owe = self.probe.as_ref().is_some_and(|probe| probe.may_hide_loss);
        self.phase == Phase::Open && una.gt(self.recover) && !may_owe
    }

    /// What outlives it.
    pub(crate) fn path(&self) -> RackPath {
        self.rack.path()
    }

    /// How the connection is recovering.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether a probe may be waited for: none is out, and nothing is thought to be lost (RFC 8985 section
    /// 7.2), or it is being recovered and all may depend on one retransmission.
    pub(crate) fn may_probe(&self) -> bool {
        let is_quiet = self.records.sacked_bytes() == 0 && self.records.lost_bytes() == 0;
        self.sack_permitted
            && self.probe.is_none()
            && match self.phase {
                Phase::Open => is_quiet,
                Phase::Fast => true,
                Phase::TimedOut => false,
            }
    }

    /// A probe went out (RFC 8985 section 7.3); `may_hide_loss` unless a recovery has reduced the window
    /// already.
    pub(crate) fn probed(&mut self, max: SeqNumber, may_hide_loss: bool) {
        self.probe = Some(Probe { end: max, may_hide_loss });
    }

    /// RFC 8985 section 7.4.2, TLP_process_ack. Whether the probe has repaired a loss that nothing else told
    /// of, so that the congestion window owes a reduction. `is_plain` is an ACK without data, without news
    /// and without a new window.
    pub(crate) fn probe_acknowledged(
        &mut self,
        ack: SeqNumber,
        duplicate: Option<SeqNumber>,
        is_plain: bool,
    ) -> bool {
        let Some(Probe { end, may_hide_loss }) = self.probe.filter(|probe| ack.ge(probe.end)) else {
            return false;
        };
        if !may_hide_loss || duplicate == Some(end) {
            // A recovery sees to it; or both the segment and its probe arrived.
            self.probe = None;
            return false;
        }
        if ack.gt(end) {
            self.probe = None;
            return true;
        }
        if is_plain {
            // A second ACK of the same: both arrived.
            self.probe = None;
        }
        false
    }
}

/// RFC 2883 section 4: the first block reports a duplicate if it lies below the acknowledgment, or within the
/// second.
fn reported_duplicate(blocks: &SackBlocks, ack: SeqNumber) -> Option<(SeqNumber, SeqNumber)> {
    let (&(left, right), rest) = blocks.as_slice().split_first()?;
    let (left, right) = (SeqNumber(left), SeqNumber(right));
    if !left.lt(right) {
        return None;
    }
    let within = |&(l, r): &(u32, u32)| left.ge(SeqNumber(l)) && right.le(SeqNumber(r));
    (right.le(ack) || rest.first().is_some_and(within)).then_some((left, right))
}

#[cfg(test)]
mod tests;
