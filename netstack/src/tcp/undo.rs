//! Undoing what a loss that was none has cost: the window is what it was, and what was thought lost is on its
//! way. That nothing was lost shows in three ways:
//!
//! * what comes back after a time-out answers the first transmission, by its timestamp (Eifel, RFC 3522);
//! * after a time-out and one retransmission, two ACKs acknowledge more and more, though only new data were
//!   sent in between (F-RTO, RFC 5682 sections 2.1 and 3.1);
//! * all that was sent again has arrived twice, says the receiver (D-SACK, RFC 2883; RFC 3708 in spirit).

use std::ops::Range;

use crate::tcp::congestion::Controller;
use crate::tcp::send_records::Micros;
use crate::tcp::seq::SeqNumber;

/// How far the test of a time-out is (RFC 5682 section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeOutTest {
    /// There is none.
    None,
    /// Step 1: the first segment went again, and nothing else until an ACK comes.
    AwaitsFirst,
    /// Step 2 b: it came, and acknowledged something; new data go out, nothing again, until the next.
    AwaitsSecond,
}

/// A reduction of the window that may have to be taken back.
#[derive(Clone, Debug)]
pub(crate) struct Reduction {
    /// The window before.
    congestion: Controller,
    /// When something was sent again first.
    resent_at: Option<Micros>,
    /// Bytes sent again of which the receiver has not said that they arrived twice.
    resent: u32,
    /// SND.UNA when it began: what lies before was not sent again for it.
    start: SeqNumber,
    /// What was in flight then ended here; two windows later nobody will tell any more.
    end: SeqNumber,
    test: TimeOutTest,
}

impl Reduction {
    /// For a loss that shows now, with the window as it is before; in flight is what lies from SND.UNA to
    /// SND.NXT.
    pub(crate) fn new(congestion: &Controller, in_flight: Range<SeqNumber>, is_time_out: bool) -> Reduction {
        let test = if is_time_out { TimeOutTest::AwaitsFirst } else { TimeOutTest::None };
        let Range { start, end } = in_flight;
        Reduction { congestion: congestion.clone(), resent_at: None, resent: 0, start, end, test }
    }

    /// `bytes` went out again.
    pub(crate) fn resent(&mut self, bytes: u32, now: Micros) {
        self.resent_at.get_or_insert(now);
        self.resent = self.resent.saturating_add(bytes);
    }

    /// Whether what is lost has to wait until it is certain that it is.
    pub(crate) fn holds(&self) -> bool {
        self.test == TimeOutTest::AwaitsSecond
    }

    /// An ACK that acknowledges more, below what was in flight or not, which answers what was sent at
    /// `echoed` or before; whether there are new data that may be sent. Whether nothing was lost.
    pub(crate) fn advanced(&mut self, ack: SeqNumber, echoed: Option<Micros>, may_send: bool) -> bool {
        let test = std::mem::replace(&mut self.test, TimeOutTest::None);
        match test {
            TimeOutTest::None => false,
            TimeOutTest::AwaitsFirst => {
                let answers_first = |echoed: Micros| self.resent_at.is_some_and(|resent| resent.gt(echoed));
                if echoed.is_some_and(answers_first) {
                    return true;
                }
                if ack.lt(self.end) && may_send {
                    self.test = TimeOutTest::AwaitsSecond;
                }
                false
            }
            // Step 3 b: of data that were not sent again.
            TimeOutTest::AwaitsSecond => true,
        }
    }

    /// An ACK that acknowledges nothing more: step 2 a or 3 a, as without the test.
    pub(crate) fn stalled(&mut self) {
        self.test = TimeOutTest::None;
    }

    /// The receiver has got `bytes` before `end` twice. Whether that is all that was sent again; older data
    /// tell nothing.
    pub(crate) fn duplicated(&mut self, end: SeqNumber, bytes: u32) -> bool {
        if end.le(self.start) {
            return false;
        }
        let bytes = bytes.min(end - self.start);
        let was = self.resent;
        self.resent = was.saturating_sub(bytes);
        was > 0 && self.resent == 0
    }

    /// Whether nothing more will tell: all is acknowledged that was sent while it ran, and a window more.
    pub(crate) fn is_over(&self, una: SeqNumber, window: u32) -> bool {
        una.gt(self.end + window)
    }

    /// The window as it was.
    pub(crate) fn into_congestion(self) -> Controller {
        self.congestion
    }
}
