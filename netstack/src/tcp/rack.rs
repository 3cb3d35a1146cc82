//! RACK, loss detection by time (RFC 8985 section 6): a segment is lost if another that was sent later has
//! arrived, and a round trip and the reordering window have passed since it was sent. That finds lost
//! retransmissions, and losses near the end of a flight, which counting duplicates cannot.

use crate::tcp::send_records::{Delivered, Losses, Micros, SendRecords};
use crate::tcp::seq::SeqNumber;

/// Recoveries for which a widened reordering window is kept (RFC 8985 section 6.2, RACK.reo_wnd_persist).
const PERSIST: u8 = 16;

/// A round trip's minimum is forgotten after this many seconds (as in Linux): paths change.
const MIN_RTT_LIFETIME_S: u32 = 300;

/// RACK's per-connection variables (RFC 8985 section 5.2), times in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Rack {
    /// RACK.xmit_ts and RACK.end_seq: the segment sent last of those that arrived.
    sent: Micros,
    end: SeqNumber,
    /// RACK.rtt: how long that one took.
    rtt_us: u32,
    path: RackPath,
    /// RACK.fack: the highest that arrived.
    fack: SeqNumber,
    /// RACK.dsack_round: where the round trip of a D-SACK ends; those within it tell the same.
    dsack_round: Option<SeqNumber>,
    /// Something has arrived.
    is_valid: bool,
}

/// Of these, what concerns the path and not what is in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RackPath {
    /// RACK.min_RTT, and when it was taken, in seconds.
    min_rtt_us: u32,
    min_rtt_at_s: u32,
    /// RACK.reo_wnd_mult: how many times a quarter of the minimum round trip.
    window_mult: u8,
    /// RACK.reo_wnd_persist.
    window_persist: u8,
    /// Reordering was seen on this path.
    reordering_seen: bool,
}

impl Default for RackPath {
    fn default() -> RackPath {
        RackPath {
            min_rtt_us: 0,
            min_rtt_at_s: 0,
            window_mult: 1,
            window_persist: PERSIST,
            reordering_seen: false,
        }
    }
}

impl Rack {
    /// Nothing has arrived of what lies behind `before`, on a path of which that is known.
    pub(crate) fn new(before: SeqNumber, path: RackPath) -> Rack {
        Rack {
            sent: Micros(0),
            end: before,
            rtt_us: 0,
            path,
            fack: before,
            dsack_round: None,
            is_valid: false,
        }
    }

    /// What is known of the path.
    pub(crate) fn path(&self) -> RackPath {
        self.path
    }

    /// Steps 1 to 3 for segments that an ACK reports for the first time; call in the order of their numbers.
    /// `echoed` is when what the ACK answers was sent, by the timestamps option, as a bound from above.
    pub(crate) fn delivered(&mut self, now: Micros, now_s: u32, segment: Delivered, echoed: Option<Micros>) {
        let rtt_us = now.since(segment.sent).max(1);
        // The ACK may be of the first transmission: then it says nothing of when this one arrived.
        let is_ambiguous = segment.resent
            && (echoed.is_some_and(|echoed| segment.sent.gt(echoed)) || rtt_us < self.path.min_rtt_us);
        let is_stale = now_s.wrapping_sub(self.path.min_rtt_at_s) > MIN_RTT_LIFETIME_S;
        if !segment.resent && (self.path.min_rtt_us == 0 || rtt_us <= self.path.min_rtt_us || is_stale) {
            self.path.min_rtt_us = rtt_us;
            self.path.min_rtt_at_s = now_s;
        }
        let is_later = segment.sent.gt(self.sent) || (segment.sent == self.sent && segment.end.gt(self.end));
        if !is_ambiguous && (!self.is_valid || is_later) {
            self.sent = segment.sent;
            self.end = segment.end;
            self.rtt_us = rtt_us;
            self.is_valid = true;
        }
        if segment.end.gt(self.fack) {
            self.fack = segment.end;
        } else if segment.end.lt(self.fack) && !segment.resent {
            self.path.reordering_seen = true;
        }
    }

    /// Step 4's adaption: a D-SACK says that something was sent again in vain, so the window was too narrow.
    /// `una` and `max` are SND.UNA and SND.NXT.
    pub(crate) fn duplicate_reported(&mut self, max: SeqNumber) {
        if self.dsack_round.is_none() {
            self.dsack_round = Some(max);
            self.path.window_mult = self.path.window_mult.saturating_add(1);
            self.path.window_persist = PERSIST;
        }
    }

    /// SND.UNA is `una` now.
    pub(crate) fn advanced(&mut self, una: SeqNumber) {
        if self.dsack_round.is_some_and(|round| una.ge(round)) {
            self.dsack_round = None;
        }
        // It must not fall half a circle behind, or it would seem to lie ahead.
        self.fack = self.fack.max(una);
    }

    /// A recovery is over.
    pub(crate) fn recovered(&mut self) {
        self.path.window_persist = self.path.window_persist.saturating_sub(1);
        if self.path.window_persist == 0 {
            self.path.window_mult = 1;
        }
    }

    /// Step 4, the reordering window. None while no reordering was ever seen and either a recovery runs or as
    /// much is SACKed as DupThresh asks for.
    fn reordering_window_us(&self, srtt_us: u32, is_certain: bool) -> u32 {
        if !self.path.reordering_seen && is_certain {
            return 0;
        }
        (u32::from(self.path.window_mult).saturating_mul(self.path.min_rtt_us / 4)).min(srtt_us)
    }

    /// Step 5: marks what is lost by now.
    pub(crate) fn detect(
        &self,
        now: Micros,
        srtt_us: u32,
        is_certain: bool,
        records: &mut SendRecords,
    ) -> Losses {
        if !self.is_valid {
            return Losses::default();
        }
        let limit_us = self.rtt_us.saturating_add(self.reordering_window_us(srtt_us, is_certain));
        records.lost_before(self.sent, self.end, |sent| {
            let left = limit_us.saturating_sub(now.since(sent));
            (left > 0).then_some(left)
        })
    }

    /// RFC 8985 section 6.3, RACK_mark_losses_on_RTO: what lies at SND.UNA is lost, and all whose time is
    /// over.
    pub(crate) fn mark_timed_out(
        &self,
        now: Micros,
        srtt_us: u32,
        first_end: SeqNumber,
        una: SeqNumber,
        max: SeqNumber,
        records: &mut SendRecords,
    ) {
        if !self.is_valid {
            records.lost(una, max);
            return;
        }
        records.lost(una, first_end);
        let limit_us = self.rtt_us.saturating_add(self.reordering_window_us(srtt_us, false));
        // Everything was sent before a moment to come.
        let later = Micros(now.0.wrapping_add(1));
        records.lost_before(later, max, |sent| {
            let left = limit_us.saturating_sub(now.since(sent));
            (left > 0).then_some(left)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISS: SeqNumber = SeqNumber(u32::MAX - 100);

    fn seq(offset: u32) -> SeqNumber {
        ISS + 1 + offset
    }

    fn arrive(rack: &mut Rack, now: u32, end: u32, sent: u32, resent: bool) {
        rack.delivered(Micros(now), 0, Delivered { end: seq(end), sent: Micros(sent), resent }, None);
    }

    #[test]
    fn what_was_sent_before_what_arrived_is_lost_after_the_window() {
        let mut records = SendRecords::new(seq(0));
        records.sent(seq(100), Micros(0));
        records.sent(seq(200), Micros(10));
        records.sent(seq(300), Micros(20));
        let mut rack = Rack::new(ISS, RackPath::default());
        records.sacked(seq(100), seq(200), |segment| rack.delivered(Micros(1010), 0, segment, None));
        let losses = rack.detect(Micros(1010), 1000, false, &mut records);
        // Sent at 0, a round trip of 1000 and a window of 250: 240 are left. What was sent later is not even
        // waited for.
        assert_eq!((losses.bytes, losses.wait_us), (0, 240));
        let losses = rack.detect(Micros(1250), 1000, false, &mut records);
        assert_eq!((losses.bytes, losses.end, losses.wait_us), (100, Some(seq(100)), 0));
        assert_eq!(records.first_lost(), Some((seq(0), 100)));
    }

    #[test]
    fn with_dupthresh_there_is_no_window_unless_reordering_was_seen() {
        let mut rack = Rack::new(ISS, RackPath::default());
        arrive(&mut rack, 1000, 300, 0, false);
        assert_eq!(rack.reordering_window_us(5000, true), 0);
        assert_eq!(rack.reordering_window_us(5000, false), 250);
        arrive(&mut rack, 1000, 100, 0, false);
        assert_eq!(rack.reordering_window_us(5000, true), 250, "100 arrived after 300, sent but once");
    }

    #[test]
    fn a_d_sack_widens_the_window_once_a_round_trip_and_sixteen_recoveries_narrow_it() {
        let mut rack = Rack::new(ISS, RackPath::default());
        arrive(&mut rack, 400, 100, 0, false);
        rack.duplicate_reported(seq(500));
        rack.duplicate_reported(seq(500));
        assert_eq!(rack.reordering_window_us(5000, false), 200);
        rack.advanced(seq(500));
        rack.duplicate_reported(seq(900));
        assert_eq!(rack.reordering_window_us(5000, false), 300);
        assert_eq!(rack.reordering_window_us(120, false), 120, "SRTT bounds it");
        for _ in 0..PERSIST {
            rack.recovered();
        }
        assert_eq!(rack.reordering_window_us(5000, false), 100);
    }

    #[test]
    fn an_ack_of_the_first_transmission_says_nothing_of_the_second() {
        let mut rack = Rack::new(ISS, RackPath::default());
        arrive(&mut rack, 1000, 100, 0, false);
        // Sent again at 5000, acknowledged 50 later: that was the first one.
        arrive(&mut rack, 5050, 200, 5000, true);
        assert_eq!((rack.sent, rack.rtt_us), (Micros(0), 1000));
        let segment = Delivered { end: seq(200), sent: Micros(5000), resent: true };
        rack.delivered(Micros(7000), 0, segment, Some(Micros(4000)));
        assert_eq!(rack.sent, Micros(0), "the echoed timestamp is older");
        rack.delivered(Micros(7000), 0, segment, Some(Micros(5000)));
        assert_eq!((rack.sent, rack.rtt_us), (Micros(5000), 2000));
    }
}
