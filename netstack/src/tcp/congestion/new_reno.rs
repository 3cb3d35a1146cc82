//! Slow start, congestion avoidance and the window's part in fast recovery: RFC 5681, RFC 6582, with the
//! initial window of RFC 6928, HyStart++ (RFC 9406) and appropriate byte counting (RFC 3465, with the limit
//! L = 8 of RFC 9406 section 4.2 for unpaced senders: receivers that merge segments acknowledge many
//! at once).
//!
//! RFC 6582 inflates cwnd by one SMSS per duplicate ACK. Here the duplicate ACKs are taken off "pipe" instead
//! (`tcp::retransmit`), which is the same inequality with the same numbers, and serves SACK (RFC 6675) too.
//! So cwnd during recovery is just ssthresh.

use crate::tcp::congestion::hystart::{self, Growth, HyStart};
use crate::tcp::congestion::{Acked, CongestionControl, MAX_CWND, initial_window, window_is_used};

/// cwnd and ssthresh of one connection, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct NewReno {
    cwnd: u32,
    ssthresh: u32,
    /// Bytes acknowledged since cwnd last grew in congestion avoidance.
    acked_in_avoidance: u32,
    smss: u16,
    hystart: HyStart,
}

impl NewReno {
    pub(crate) fn new(smss: u16, initial_segments: u32) -> NewReno {
        let cwnd = initial_window(smss, initial_segments);
        NewReno { cwnd, ssthresh: MAX_CWND, acked_in_avoidance: 0, smss, hystart: HyStart::new() }
    }

    fn smss(&self) -> u32 {
        u32::from(self.smss)
    }

    /// RFC 5681 equation 4, in whole segments: what is left of one would never be sent, but have to be
    /// acknowledged before the window grows.
    fn half_of(&self, flight: u32) -> u32 {
        let half = flight / 2;
        (half - half % self.smss()).max(2 * self.smss())
    }
}

impl CongestionControl for NewReno {
    fn window(&self) -> u32 {
        self.cwnd
    }

    fn is_used(&self, flight: u32) -> bool {
        window_is_used(self.cwnd, self.ssthresh, flight, self.smss())
    }

    fn is_in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh / 2
    }

    fn acknowledged(&mut self, ack: &Acked) {
        let bytes = ack.bytes;
        if self.ssthresh == MAX_CWND {
            // RFC 9406 section 4.2: HyStart++ is for the first slow start.
            match self.hystart.acknowledged(ack, self.smss) {
                Growth::Bytes(bytes) => self.cwnd = (self.cwnd + bytes).min(MAX_CWND),
                Growth::Over => self.ssthresh = self.cwnd,
            }
        } else if self.cwnd < self.ssthresh {
            self.cwnd = (self.cwnd + hystart::plain_growth(bytes, self.smss)).min(MAX_CWND);
        } else {
            // RFC 3465 section 2.1: one SMSS per cwnd of acknowledged bytes.
            self.acked_in_avoidance = self.acked_in_avoidance.saturating_add(bytes);
            if self.acked_in_avoidance >= self.cwnd {
                self.acked_in_avoidance -= self.cwnd;
                self.cwnd = (self.cwnd + self.smss()).min(MAX_CWND);
            }
        }
    }

    fn unused(&mut self) {}

    /// RFC 5681 section 3.2 step 2, RFC 6675 section 5 step 4.2.
    fn enter_recovery(&mut self, flight: u32) {
        self.ssthresh = self.half_of(flight);
        self.cwnd = self.ssthresh;
        self.acked_in_avoidance = 0;
    }

    /// RFC 6582 section 3.2 step 3, first alternative: no burst.
    fn leave_recovery(&mut self, flight: u32) {
        self.cwnd = self.ssthresh.min(flight.max(self.smss()) + self.smss());
    }

    /// RFC 5681 equation 4 and section 3.1: back to one segment. ssthresh is halved only for the first
    /// time-out of the same data.
    fn timed_out(&mut self, flight: u32, first: bool) {
        if first {
            self.ssthresh = self.half_of(flight);
        }
        self.cwnd = self.smss();
        self.acked_in_avoidance = 0;
    }

    /// RFC 5681 section 3.1: begin with one segment.
    fn syn_was_lost(&mut self) {
        self.cwnd = self.smss();
    }

    /// RFC 5681 section 4.1.
    fn restart_after_idle(&mut self, initial_segments: u32) {
        self.cwnd = self.cwnd.min(initial_window(self.smss, initial_segments));
    }

    fn set_smss(&mut self, smss: u16) {
        self.smss = smss;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::seq::SeqNumber;
    use runtime::time::Instant;

    fn acknowledge(cc: &mut NewReno, bytes: u32) {
        let (una, max) = (SeqNumber(0), SeqNumber(u32::MAX / 4));
        cc.acknowledged(&Acked { now: Instant::ZERO, bytes, rtt_us: None, srtt_us: 0, una, max });
    }

    #[test]
    fn initial_window_follows_rfc_6928() {
        assert_eq!(NewReno::new(1460, 10).window(), 14_600);
        assert_eq!(NewReno::new(536, 10).window(), 5_360);
        assert_eq!(NewReno::new(9000, 10).window(), 18_000);
    }

    #[test]
    fn slow_start_doubles_then_avoidance_adds_one_segment_per_window() {
        let mut cc = NewReno::new(1000, 10);
        for _ in 0..10 {
            acknowledge(&mut cc, 1000);
        }
        assert_eq!(cc.window(), 20_000);
        cc.enter_recovery(20_000);
        assert_eq!((cc.window(), cc.ssthresh), (10_000, 10_000));
        cc.leave_recovery(10_000);
        for _ in 0..9 {
            acknowledge(&mut cc, 1000);
        }
        assert_eq!(cc.window(), 10_000);
        acknowledge(&mut cc, 1000);
        assert_eq!(cc.window(), 11_000);
    }

    #[test]
    fn one_ack_for_much_data_opens_by_eight_segments_at_most() {
        let mut cc = NewReno::new(1000, 10);
        acknowledge(&mut cc, 10_000);
        assert_eq!(cc.window(), 18_000);
    }

    #[test]
    fn time_out_goes_back_to_one_segment_and_halves_once() {
        let mut cc = NewReno::new(1000, 10);
        cc.timed_out(10_000, true);
        assert_eq!((cc.window(), cc.ssthresh), (1000, 5000));
        cc.timed_out(1000, false);
        assert_eq!((cc.window(), cc.ssthresh), (1000, 5000));
    }

    /// Eleven segments leave five, and five acknowledged make them six.
    #[test]
    fn half_a_window_is_whole_segments() {
        let mut cc = NewReno::new(1448, 10);
        cc.enter_recovery(11 * 1448);
        assert_eq!(cc.window(), 5 * 1448);
        acknowledge(&mut cc, 5 * 1448);
        assert_eq!(cc.window(), 6 * 1448);
    }

    #[test]
    fn full_ack_does_not_burst() {
        let mut cc = NewReno::new(1000, 10);
        cc.enter_recovery(20_000);
        cc.leave_recovery(0);
        assert_eq!(cc.window(), 2000);
    }
}
