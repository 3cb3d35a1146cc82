//! What a connection keeps only while something of it is in flight: loss recovery, the pace, what a batch of
//! ACKs has told. Most connections of a server are idle most of the time, so it is no part of their blocks.
//! It is made with new data, and given back when one of the connection's timers finds nothing in flight; not
//! with the last ACK, for who is asked for more at once keeps it, and a timer that was set for what was in
//! flight comes anyway (`Stack::arm`).
//!
//! ```text
//!   (none) --new data--> in use --all acknowledged--> in use --a timer--> (none)
//!                           ^--------new data-----------'
//! ```
//!
//! What RACK has learnt of the path outlives it.

use crate::tcp::pacing::Pacer;
use crate::tcp::rack::RackPath;
use crate::tcp::retransmit::{LossRecovery, Phase, Waiting};
use crate::tcp::seq::SeqNumber;
use crate::tcp::undo::Reduction;

/// What is known of what is in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) recovery: LossRecovery,
    /// What the last loss has cost, as long as it may turn out to be none.
    pub(crate) reduction: Option<Box<Reduction>>,
    /// The round trip is measured next by an ACK beyond this (RFC 6298 section 3: once a round trip).
    pub(crate) timed_until: SeqNumber,
    /// Bytes acknowledged since segments were last asked for: a device brings ACKs in batches, and what they
    /// made room for could not be sent in between.
    pub(crate) acked_in_batch: u32,
    /// The same of all that ACKs report, by SACK or in order, for the first time.
    pub(crate) delivered_in_batch: u32,
    pub(crate) pacer: Pacer,
    /// End of the last segment smaller than the MSS (Minshall's SND.SML).
    pub(crate) small_end: SeqNumber,
}

/// [`InFlight`] while there is one, and what is kept of it.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    state: Option<Box<InFlight>>,
    path: RackPath,
}

impl Outstanding {
    /// Something is about to be sent from `next` on, which is SND.UNA if there is no record yet.
    #[inline]
    pub(crate) fn in_use(&mut self, next: SeqNumber, sack_permitted: bool) -> &mut InFlight {
        let path = self.path;
        self.state.get_or_insert_with(|| {
            Box::new(InFlight {
                recovery: LossRecovery::new(next - 1, next, sack_permitted, path),
                reduction: None,
                timed_until: next,
                acked_in_batch: 0,
                delivered_in_batch: 0,
                pacer: Pacer::default(),
                small_end: next,
            })
        })
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&InFlight> {
        self.state.as_deref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self) -> Option<&mut InFlight> {
        self.state.as_deref_mut()
    }

    /// Nothing is in flight, up to SND.UNA, and a timer has come since: gives back what is not wanted, unless
    /// something may still be told of what was in flight.
    pub(crate) fn rest(&mut self, una: SeqNumber) {
        let is_over = |held: &mut Box<InFlight>| held.reduction.is_none() && held.recovery.is_at_rest(una);
        if let Some(held) = self.state.take_if(is_over) {
            self.path = held.recovery.path();
        }
    }

    /// The connection is over.
    pub(crate) fn clear(&mut self) {
        self.state = None;
    }

    /// How the connection is recovering.
    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.get().map_or(Phase::Open, |held| held.recovery.phase())
    }

    /// What the retransmission timer stands at.
    #[inline]
    pub(crate) fn waiting(&self) -> Waiting {
        self.get().map_or(Waiting::TimeOut, |held| held.recovery.waiting)
    }

    /// The same; it has run out.
    pub(crate) fn take_waiting(&mut self) -> Waiting {
        self.get_mut().map(|held| std::mem::take(&mut held.recovery.waiting)).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn set_waiting(&mut self, waiting: Waiting) {
        if let Some(held) = self.get_mut() {
            held.recovery.waiting = waiting;
        }
    }

    /// Whether a probe may be waited for ([`LossRecovery::may_probe`]).
    #[inline]
    pub(crate) fn may_probe(&self) -> bool {
        self.get().is_some_and(|held| held.recovery.may_probe())
    }

    /// Bytes believed to be in the network, of those from SND.UNA to SND.NXT.
    #[inline]
    pub(crate) fn pipe(&self, una: SeqNumber, max: SeqNumber) -> u32 {
        self.get().map_or(max - una, |held| held.recovery.pipe(una, max))
    }

    /// Bytes acknowledged since segments were last asked for.
    #[inline]
    pub(crate) fn acked_in_batch(&self) -> u32 {
        self.get().map_or(0, |held| held.acked_in_batch)
    }

    /// Bytes lost and not sent again.
    #[inline]
    pub(crate) fn lost_bytes(&self) -> u32 {
        self.get().map_or(0, |held| held.recovery.records.lost_bytes())
    }
}

#[cfg(test)]
mod tests {
    use runtime::time::Instant;

    use super::*;
    use crate::tcp::congestion::{Algorithm, Controller};
    use crate::tcp::retransmit::View;
    use crate::tcp::send_records::Micros;
    use crate::wire::tcp::SackBlocks;

    const START: SeqNumber = SeqNumber(u32::MAX - 50);

    fn view(ms: u64, una: SeqNumber, max: SeqNumber) -> View {
        View { now: Instant::from_millis(ms), una, max, smss: 100, srtt_us: 10_000 }
    }

    /// 300 bytes went out at 1,000 ms; what `ack_to` says of them came 10 ms later.
    fn sent(ack_to: u32) -> Outstanding {
        let mut outstanding = Outstanding::default();
        let end = START + 300;
        let held = outstanding.in_use(START, true);
        held.recovery.records.sent(end, Micros(1_000_000));
        held.recovery.read_ack(&view(1010, START, end), START + ack_to, &SackBlocks::NONE, None);
        held.recovery.advanced(&view(1010, START + ack_to, end), ack_to);
        outstanding
    }

    #[test]
    fn what_rack_has_learnt_of_the_path_outlives_what_was_in_flight() {
        let mut outstanding = sent(300);
        let path = outstanding.get().unwrap().recovery.path();
        outstanding.rest(START + 300);
        assert!(outstanding.get().is_none());
        assert_eq!((outstanding.pipe(START, START), outstanding.acked_in_batch()), (0, 0));
        assert_eq!((outstanding.phase(), outstanding.may_probe()), (Phase::Open, false));
        let held = outstanding.in_use(START + 300, true);
        assert_eq!(format!("{:?}", held.recovery.path()), format!("{path:?}"));
        assert_ne!(format!("{path:?}"), format!("{:?}", RackPath::default()), "a round trip was measured");
        assert_eq!(held.recovery.pipe(START + 300, START + 300), 0);
    }

    /// The next ACK tells whether the window owes a reduction (RFC 8985 section 7.4.2).
    #[test]
    fn what_a_probe_has_repaired_is_not_forgotten() {
        for (may_hide_loss, is_kept) in [(true, true), (false, false)] {
            let mut outstanding = Outstanding::default();
            let end = START + 300;
            let held = outstanding.in_use(START, true);
            held.recovery.records.sent(end, Micros(1_000_000));
            held.recovery.probed(end, may_hide_loss);
            held.recovery.read_ack(&view(1010, START, end), end, &SackBlocks::NONE, None);
            held.recovery.advanced(&view(1010, end, end), 300);
            assert!(!held.recovery.probe_acknowledged(end, None, false));
            // Of no more than one is known.
            if may_hide_loss {
                outstanding.rest(end);
            }
            assert!(outstanding.get().is_some());
            let held = outstanding.in_use(end, true);
            held.recovery.records.sent(end + 100, Micros(2_000_000));
            assert_eq!(held.recovery.probe_acknowledged(end + 100, None, false), is_kept);
        }
    }

    #[test]
    fn what_may_still_be_told_of_is_kept() {
        // The receiver may say yet that all of it arrived twice.
        let mut outstanding = sent(300);
        let congestion = Controller::new(Algorithm::NewReno, 100, 10);
        let reduction = Reduction::new(&congestion, START..START + 300, false);
        outstanding.get_mut().unwrap().reduction = Some(Box::new(reduction));
        outstanding.rest(START + 300);
        assert!(outstanding.get().is_some());
        // Duplicate ACKs at the end of a recovery begin none (RFC 6582 section 3.2 step 1).
        let mut outstanding = sent(100);
        let held = outstanding.get_mut().unwrap();
        held.recovery.timed_out(&view(2000, START + 100, START + 300));
        held.recovery.read_ack(&view(2010, START + 100, START + 300), START + 300, &SackBlocks::NONE, None);
        held.recovery.advanced(&view(2010, START + 300, START + 300), 200);
        outstanding.rest(START + 300);
        assert!(outstanding.get().is_some(), "that was SND.NXT when it began");
        let held = outstanding.in_use(START + 300, true);
        held.recovery.records.sent(START + 400, Micros(3_000_000));
        held.recovery.read_ack(&view(3010, START + 300, START + 400), START + 400, &SackBlocks::NONE, None);
        held.recovery.advanced(&view(3010, START + 400, START + 400), 100);
        outstanding.rest(START + 400);
        assert!(outstanding.get().is_none());
    }
}
