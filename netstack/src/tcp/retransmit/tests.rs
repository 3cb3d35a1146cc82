use super::*;

const SMSS: u32 = 100;
const MS: u64 = 1_000_000;

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

/// A sender of which `max` bytes went out at time 0, looked at `ms` later.
struct Sender {
    recovery: LossRecovery,
    una: u32,
    max: u32,
    ms: u64,
}

impl Sender {
    fn new(sack_permitted: bool, max: u32) -> Sender {
        let mut recovery = LossRecovery::new(seq(0) - 1, seq(0), sack_permitted, RackPath::default());
        recovery.records.sent(seq(max), Micros(0));
        Sender { recovery, una: 0, max, ms: 0 }
    }

    fn view(&self) -> View {
        let now = Instant::from_nanos(self.ms * MS);
        View { now, una: seq(self.una), max: seq(self.max), smss: SMSS, srtt_us: 10_000 }
    }

    /// An ACK with SACK blocks: the news, and what came of them.
    fn sack(&mut self, ranges: &[(u32, u32)]) -> (u32, Verdict, u32) {
        let view = self.view();
        let news = self.recovery.read_ack(&view, seq(self.una), &blocks(ranges), None);
        let (verdict, wait_us) = self.recovery.detect(&view);
        (news.sacked, verdict, wait_us)
    }

    fn ack(&mut self, to: u32) -> Verdict {
        let view = self.view();
        self.recovery.read_ack(&view, seq(to), &SackBlocks::NONE, None);
        let acked = to - self.una;
        self.una = to;
        let view = self.view();
        self.recovery.advanced(&view, acked)
    }

    fn duplicate(&mut self) -> Verdict {
        let view = self.view();
        self.recovery.duplicate(&view)
    }

    fn resend(&mut self, from: u32, end: u32) {
        let now = self.view().now;
        self.recovery.retransmitted(seq(from), seq(end), now);
    }

    fn hole(&self) -> Option<(u32, u32)> {
        self.recovery.next_hole().map(|(start, len)| (start - seq(0), len))
    }

    fn pipe(&self) -> u32 {
        self.recovery.pipe(seq(self.una), seq(self.max))
    }
}

#[test]
fn third_duplicate_marks_one_segment_lost_without_sack() {
    let mut s = Sender::new(false, 1000);
    assert_eq!(s.duplicate(), Verdict::Ordinary);
    assert_eq!(s.pipe(), 900, "limited transmit, RFC 3042");
    assert_eq!(s.duplicate(), Verdict::Ordinary);
    assert_eq!(s.hole(), None);
    assert_eq!(s.duplicate(), Verdict::EnteredFast);
    assert_eq!(s.hole(), Some((0, 100)));
    assert!(s.recovery.first_is_due());
    s.resend(0, 100);
    assert_eq!(s.hole(), None);
    assert_eq!(s.pipe(), 700);
    // Partial ACK: 300 bytes arrived, the next segment is lost too.
    assert_eq!(s.ack(300), Verdict::PartialAck);
    assert_eq!(s.hole(), Some((300, 100)));
    s.resend(300, 400);
    assert_eq!(s.pipe(), 600);
    assert_eq!(s.ack(1000), Verdict::Recovered(Phase::Fast));
    assert_eq!(s.pipe(), 0);
}

#[test]
fn fast_retransmit_still_works_half_the_sequence_space_later() {
    let mut s = Sender::new(false, 1 << 28);
    for step in 1..=9 {
        s.ack(step << 28);
        s.max = (step + 1) << 28;
        s.recovery.records.sent(seq(s.max), Micros(0));
    }
    s.duplicate();
    s.duplicate();
    assert_eq!(s.duplicate(), Verdict::EnteredFast);
}

#[test]
fn no_second_fast_retransmit_for_the_window_just_recovered() {
    let mut s = Sender::new(false, 500);
    let view = s.view();
    s.recovery.timed_out(&view);
    assert_eq!(s.ack(500), Verdict::Recovered(Phase::TimedOut));
    s.max = 900;
    s.recovery.records.sent(seq(900), Micros(0));
    for _ in 0..5 {
        assert_eq!(s.duplicate(), Verdict::Ordinary);
    }
}

#[test]
fn time_out_sends_all_again_whose_time_is_over_but_what_is_sacked() {
    let mut s = Sender::new(true, 500);
    s.ms = 10;
    assert_eq!(s.sack(&[(200, 300)]).0, 100);
    s.ms = 200;
    let view = s.view();
    s.recovery.timed_out(&view);
    assert_eq!(s.pipe(), 0);
    assert_eq!(s.hole(), Some((0, 200)));
    s.resend(0, 100);
    assert_eq!(s.pipe(), 100);
    assert_eq!(s.hole(), Some((100, 100)));
    s.resend(100, 200);
    assert_eq!(s.hole(), Some((300, 200)));
    assert_eq!(s.ack(400), Verdict::PartialAck);
    assert_eq!(s.hole(), Some((400, 100)));
}

/// RFC 8985 section 6.3: "the first unacknowledged segment, and those whose time is over"; what was sent just
/// now is not.
#[test]
fn a_time_out_spares_what_was_sent_just_now() {
    let mut s = Sender::new(true, 500);
    s.ms = 10;
    s.sack(&[(200, 300)]);
    s.recovery.records.sent(seq(600), Micros(205_000));
    s.max = 600;
    s.ms = 210;
    let view = s.view();
    s.recovery.timed_out(&view);
    assert_eq!(s.pipe(), 100);
}

#[test]
fn a_receiver_that_reneges_is_not_believed() {
    let mut s = Sender::new(true, 500);
    s.ms = 10;
    s.sack(&[(100, 500)]);
    assert_eq!(s.ack(100), Verdict::PartialAck);
    let view = s.view();
    s.recovery.timed_out(&view);
    assert_eq!(s.hole(), Some((100, 100)), "its SACK of what it does not acknowledge was taken back");
}

#[test]
fn sack_finds_all_holes_in_one_round_trip() {
    let mut s = Sender::new(true, 1000);
    s.ms = 10;
    // Segments 0 and 3 of ten are lost. Nothing is certain before DupThresh or the reordering window.
    let (news, verdict, wait_us) = s.sack(&[(100, 200)]);
    assert_eq!((news, verdict, wait_us), (100, Verdict::Ordinary, 2500), "a quarter of the round trip");
    assert_eq!(s.sack(&[(100, 300)]).1, Verdict::Ordinary);
    assert_eq!(s.sack(&[(400, 500), (100, 300)]).1, Verdict::EnteredFast);
    assert_eq!(s.hole(), Some((0, 100)));
    assert_eq!(s.pipe(), 1000 - 300 - 200, "both holes were sent before what arrived");
    s.resend(0, 100);
    assert_eq!(s.hole(), Some((300, 100)));
    s.resend(300, 400);
    assert_eq!(s.pipe(), 700);
    assert_eq!(s.hole(), None);
    // Segment 0's retransmission is lost as well: that of 3, sent with it, arrives.
    s.ms = 20;
    assert_eq!(s.sack(&[(100, 1000)]).0, 600);
    assert_eq!(s.hole(), Some((0, 100)), "RFC 8985: a lost retransmission is found by time");
}

#[test]
fn a_loss_of_what_was_sent_during_a_recovery_begins_another() {
    let mut s = Sender::new(true, 400);
    s.ms = 10;
    assert_eq!(s.sack(&[(100, 400)]).1, Verdict::EnteredFast);
    s.resend(0, 100);
    s.recovery.records.sent(seq(600), Micros::of(s.view().now));
    s.max = 600;
    s.ms = 20;
    // 400 to 500 is lost; what was sent with it has arrived.
    assert_eq!(s.sack(&[(500, 600), (100, 400)]).1, Verdict::Ordinary);
    assert_eq!(s.ack(400), Verdict::Recovered(Phase::Fast));
    let view = s.view();
    assert_eq!(s.recovery.detect(&view).0, Verdict::EnteredFast);
    assert_eq!(s.hole(), Some((400, 100)));
}

#[test]
fn forged_and_duplicate_blocks_are_ignored() {
    let mut s = Sender::new(true, 1000);
    assert_eq!(s.sack(&[(0, 100), (900, 1100), (300, 200), (500, 500)]).0, 0);
}

#[test]
fn duplicates_are_told_from_the_first_block() {
    let ack = seq(500);
    assert_eq!(
        reported_duplicate(&blocks(&[(300, 400)]), ack),
        Some((seq(300), seq(400))),
        "below the acknowledgment"
    );
    assert_eq!(
        reported_duplicate(&blocks(&[(600, 700), (600, 900)]), ack),
        Some((seq(600), seq(700))),
        "within the second"
    );
    assert_eq!(reported_duplicate(&blocks(&[(600, 700), (800, 900)]), ack), None);
    assert_eq!(reported_duplicate(&blocks(&[(700, 600), (600, 900)]), ack), None);
    assert_eq!(reported_duplicate(&SackBlocks::NONE, ack), None);
}

/// RFC 8985 section 7.4.
#[test]
fn a_probes_ack_tells_what_became_of_the_tail() {
    let probed = |may_hide_loss| {
        let mut s = Sender::new(true, 500);
        s.recovery.probed(seq(500), may_hide_loss);
        assert!(!s.recovery.may_probe(), "one at a time");
        s.recovery
    };
    let mut r = probed(true);
    assert!(!r.probe_acknowledged(seq(400), None, true), "not yet");
    assert!(!r.probe_acknowledged(seq(500), None, false), "the first ACK may be of the original");
    assert!(r.probe.is_some());
    assert!(
        r.probe_acknowledged(seq(600), None, false),
        "more is acknowledged and no duplicate was: it repaired a loss"
    );
    let mut r = probed(true);
    assert!(!r.probe_acknowledged(seq(500), Some(seq(500)), false), "a D-SACK: nothing was lost");
    assert!(r.may_probe());
    let mut r = probed(true);
    assert!(!r.probe_acknowledged(seq(500), None, true), "a second ACK without SACK");
    assert!(r.may_probe());
    let mut r = probed(false);
    assert!(!r.probe_acknowledged(seq(500), None, false), "a recovery has reduced the window");
    assert!(r.may_probe());
}
