//! What SYN-RECEIVED and all synchronised states do with a segment: RFC 9293 section 3.10.7.4, its steps in
//! its order, with RFC 5961 (resets, SYNs and ACKs out of nowhere) and RFC 7323 (timestamps) where they
//! belong.

use std::time::Duration;

use runtime::time::Instant;

use crate::tcp::congestion::Acked;
use crate::tcp::pcb::Pcb;
use crate::tcp::prr::RecoveryProgress;
use crate::tcp::retransmit::{News, Phase, Verdict};
use crate::tcp::segment::{Outgoing, Segment};
use crate::tcp::send_records::Micros;
use crate::tcp::seq::SeqNumber;
use crate::tcp::state::{Disposition, Established, Next, State};
use crate::tcp::timers::Timer;
use crate::tcp::window_growth::WindowGrowth;
use crate::tcp::{CloseReason, Config, Stream};
use crate::wire::tcp::Flags;

/// A segment arrives in SYN-RECEIVED or later.
pub(crate) fn segment_arrives<S: Stream>(
    pcb: &mut Pcb,
    now: Instant,
    segment: &Segment<'_>,
    stream: &mut S,
    config: &Config,
) -> Disposition {
    let flags = segment.flags;
    // RFC 7323 section 3.2: once agreed on, timestamps are in every segment but resets; without, it is
    // forged, or of another time. A SYN may be of a peer that forgot the connection, and is challenged below.
    if pcb.timestamps.enabled && segment.options.timestamps.is_none() && !flags.rst() && !flags.syn() {
        return Disposition::Continue;
    }
    // First, RFC 7323 section 5.3 R1: PAWS. A reset is exempt.
    if is_old_duplicate(pcb, now, segment) && !flags.rst() {
        refuse(pcb, now, segment);
        return Disposition::Continue;
    }
    // First: sequence number.
    if !is_acceptable(pcb, segment) {
        if !flags.rst() {
            refuse(pcb, now, segment);
        }
        return Disposition::Continue;
    }
    // Second: RST, by RFC 5961 section 3.2 only at exactly RCV.NXT.
    if flags.rst() {
        if segment.seq == pcb.rcv.nxt {
            let refused = matches!(pcb.state, State::SynReceived(_));
            return Disposition::Closed(if refused { CloseReason::Refused } else { CloseReason::Reset });
        }
        pcb.challenge(now);
        return Disposition::Continue;
    }
    // Fourth: SYN, by RFC 5961 section 4.2: challenge, whatever its number.
    if flags.syn() {
        pcb.challenge(now);
        return Disposition::Continue;
    }
    // Fifth: ACK.
    if !flags.ack() {
        return Disposition::Continue;
    }
    pcb.last_received = now;
    if let State::SynReceived(_) = pcb.state {
        if segment.ack.le(pcb.snd.una) || segment.ack.gt(pcb.snd.max) {
            return Disposition::Reply(Outgoing::bare(segment.ack, SeqNumber(0), Flags::RST));
        }
        our_syn_is_acknowledged(pcb, now, segment, stream);
    }
    // RFC 5961 section 5.2: only ACKs in [SND.UNA - MAX.SND.WND, SND.NXT] count; others are answered, and
    // dropped.
    if segment.ack.gt(pcb.snd.max) || segment.ack.lt(pcb.snd.una - pcb.snd.max_wnd) {
        pcb.challenge(now);
        return Disposition::Continue;
    }
    update_ts_recent(pcb, segment);
    let has_text = !segment.payload.is_empty();
    pcb.due.ack_now |= pcb.ecn.arrived(segment.flags, segment.is_congested, has_text);
    match acknowledgment(pcb, now, segment, stream, config) {
        Next::State(state) => pcb.state = state,
        Next::TimeWait => return Disposition::TimeWait,
        Next::Closed => return Disposition::Closed(CloseReason::Finished),
    }
    // Sixth: URG.
    if let Some(end) = segment.urgent_end()
        && pcb.state.may_receive()
    {
        urgent_until(pcb, now, end, stream);
    }
    text_and_fin(pcb, now, segment, stream, config)
}

/// RFC 9293 section 3.8.5: the application is told of urgent data when there were none, and when they reach
/// further. They stay in line (RFC 6093 section 6).
fn urgent_until<S: Stream>(pcb: &mut Pcb, now: Instant, end: SeqNumber, stream: &mut S) {
    let known = pcb.rcv.up.max(pcb.rcv.nxt);
    if end.gt(known) {
        pcb.rcv.up = end;
        stream.urgent(now, end - pcb.rcv.nxt);
    }
}

/// RFC 9293 section 3.10.7.4, table 6, with text trimmed to what is new later on.
fn is_acceptable(pcb: &Pcb, segment: &Segment<'_>) -> bool {
    let window = pcb.rcv.adv.since(pcb.rcv.nxt);
    let len = segment.len();
    let nxt = pcb.rcv.nxt;
    match (len, window) {
        (0, 0) => segment.seq == nxt,
        (0, _) => segment.seq.in_window(nxt, window),
        // "If the RCV.WND is zero, special allowance should be made to accept valid ACKs": the text is
        // dropped later.
        (_, 0) => segment.seq == nxt,
        (_, _) => {
            segment.seq.in_window(nxt, window) || (segment.end() - 1).in_window(nxt, window) || {
                // A super-segment may begin before and end after the window.
                segment.seq.lt(nxt) && segment.end().gt(nxt + window)
            }
        }
    }
}

/// How long TS.Recent means something: half of the circle of a clock of milliseconds, less a margin (RFC 7323
/// section 5.5).
const TS_RECENT_LIFETIME: Duration = Duration::from_secs(24 * 24 * 3600);

/// RFC 7323 section 5.2: a timestamp older than TS.Recent marks a segment from a former turn of the sequence
/// numbers. Unless the peer was silent for so long that its clock may have gone half around (section 5.5).
fn is_old_duplicate(pcb: &Pcb, now: Instant, segment: &Segment<'_>) -> bool {
    match segment.options.timestamps {
        Some(timestamps)
            if pcb.timestamps.enabled && now.saturating_since(pcb.last_received) < TS_RECENT_LIFETIME =>
        {
            (timestamps.value.wrapping_sub(pcb.timestamps.recent) as i32) < 0
        }
        _ => false,
    }
}

/// RFC 7323 section 4.3: TS.Recent follows the segment that spans the last ACK sent.
fn update_ts_recent(pcb: &mut Pcb, segment: &Segment<'_>) {
    if let Some(timestamps) = segment.options.timestamps
        && pcb.timestamps.enabled
        && segment.seq.le(pcb.rcv.last_ack_sent)
    {
        pcb.timestamps.recent = timestamps.value;
    }
}

/// "If an incoming segment is not acceptable, an acknowledgment should be sent in reply". At once if it
/// carries something (the peer may have lost our ACK), but a bare ACK only now and then: two ends that
/// disagree would answer each other for ever.
fn refuse(pcb: &mut Pcb, now: Instant, segment: &Segment<'_>) {
    let text_end = segment.seq + segment.payload.len() as u32;
    if !segment.payload.is_empty() && text_end.le(pcb.rcv.nxt) {
        pcb.note_duplicate(segment.seq, segment.payload.len() as u32);
    }
    if segment.is_empty() { pcb.answer_bare(now) } else { pcb.due.ack_now = true }
}

/// Simultaneous open, last step: SYN-RECEIVED to ESTABLISHED.
fn our_syn_is_acknowledged<S: Stream>(pcb: &mut Pcb, now: Instant, segment: &Segment<'_>, stream: &mut S) {
    pcb.snd.una += 1;
    pcb.snd.wnd = u32::from(segment.window) << pcb.snd.scale;
    pcb.snd.max_wnd = pcb.snd.max_wnd.max(pcb.snd.wnd);
    pcb.snd.usual_wnd = pcb.snd.usual_wnd.max(pcb.snd.wnd);
    pcb.snd.wl1 = segment.seq;
    pcb.snd.wl2 = segment.ack;
    pcb.unanswered = 0;
    pcb.due.syn = false;
    pcb.timers.stop(Timer::Retransmit);
    pcb.state = State::Established(Established);
    stream.established(now);
}

/// Fifth step in ESTABLISHED and later: SND.UNA, the send window, congestion and loss.
fn acknowledgment<S: Stream>(
    pcb: &mut Pcb,
    now: Instant,
    segment: &Segment<'_>,
    stream: &mut S,
    config: &Config,
) -> Next {
    let ack = segment.ack;
    let una = pcb.snd.una;
    let advanced = ack.gt(una);
    // Before this ACK, which may both advance and tell of a loss.
    let flight = pcb.flight();
    let view = pcb.view(now);
    let echoed = echoed_at(pcb, now, segment);
    let news = pcb.outstanding.get_mut().map_or_else(News::default, |held| {
        let news = held.recovery.read_ack(&view, ack, &segment.options.sack, echoed);
        held.delivered_in_batch = held.delivered_in_batch.saturating_add(held.recovery.newly_delivered);
        news
    });
    look_for_undo(pcb, segment, &news, echoed, stream);
    let window_changed = update_send_window(pcb, segment);
    pcb.unanswered = if advanced || pcb.snd.max == una { 0 } else { pcb.unanswered };

    let next = if advanced {
        advance(pcb, now, segment, &news, stream, config)
    } else {
        // RFC 5681 section 2: the definition of a duplicate ACK. With SACK, what counts is the news that it
        // brings.
        let duplicate = !pcb.sack_permitted && segment.is_empty() && ack == una && !window_changed;
        if duplicate
            && pcb.snd.max != una
            && let Some(held) = pcb.outstanding.get_mut()
            && held.recovery.duplicate(&view) == Verdict::EnteredFast
        {
            pcb.enter_recovery(flight);
        }
        Next::State(pcb.state)
    };
    let lost_before = pcb.outstanding.lost_bytes();
    let reordering_us = pcb.detect_losses(now, flight);
    reduce_in_proportion(pcb, advanced && pcb.outstanding.lost_bytes() <= lost_before);
    let is_plain = ack == una && segment.is_empty() && !window_changed && segment.options.sack.is_empty();
    if let Some(held) = pcb.outstanding.get_mut()
        && held.recovery.probe_acknowledged(ack, news.duplicate, is_plain)
        && held.recovery.phase() == Phase::Open
    {
        // RFC 8985 section 7.4.1: the probe has hidden a loss, which is a sign of congestion all the same.
        let window = pcb.congestion.window();
        pcb.reduce_window(window);
    }
    if pcb.ecn.must_reduce(segment.flags, ack) {
        // RFC 3168 section 6.1.2: as if a packet had been lost.
        pcb.reduce_window(flight);
    }
    if advanced || news.sacked > 0 || reordering_us > 0 {
        pcb.arm_after_ack(now, advanced, reordering_us, config);
    }
    next
}

/// RFC 9937 section 6: what this ACK allows to be sent in a recovery with SACK; `is_safe` if it moved SND.UNA
/// and told of no further loss.
fn reduce_in_proportion(pcb: &mut Pcb, is_safe: bool) {
    let Some(recovery) = pcb.outstanding.get_mut().map(|held| &mut held.recovery) else { return };
    let progress = RecoveryProgress {
        delivered: recovery.newly_delivered,
        is_safe,
        in_flight: recovery.pipe(pcb.snd.una, pcb.snd.max),
        ssthresh: pcb.congestion.window(),
        smss: u32::from(pcb.timestamps.smss(pcb.snd.mss)),
    };
    if let Some(prr) = &mut recovery.prr {
        prr.acknowledged(&progress);
    }
}

/// What would be in flight as well, had its pace let it go.
fn bytes_held_back<S: Stream>(pcb: &Pcb, stream: &S) -> u32 {
    if !pcb.timers.is_set(Timer::Pacing) {
        return 0;
    }
    let unsent = stream.end().saturating_sub(pcb.offset_of(pcb.snd.max));
    u32::try_from(unsent).unwrap_or(u32::MAX).min(pcb.window_room(pcb.snd.max))
}

/// Whether this ACK tells that what was thought lost was not (`tcp::undo`), before it is counted.
fn look_for_undo<S: Stream>(
    pcb: &mut Pcb,
    segment: &Segment<'_>,
    news: &News,
    echoed: Option<Micros>,
    stream: &S,
) {
    let ack = segment.ack;
    let is_duplicate = news.sacked > 0 || !pcb.sack_permitted && segment.is_empty();
    let may_send = pcb.has_data(stream) && pcb.window_room(pcb.snd.max) > 0;
    let window = pcb.snd.max - pcb.snd.una;
    let held = pcb.outstanding.get_mut().and_then(|held| held.reduction.as_mut());
    let Some(reduction) = held else { return };
    let mut was_none = news.duplicate.is_some_and(|end| reduction.duplicated(end, news.duplicate_bytes));
    if ack.gt(pcb.snd.una) {
        was_none |= reduction.advanced(ack, echoed, may_send);
    } else if is_duplicate {
        reduction.stalled();
    }
    if was_none {
        pcb.undo();
    } else if reduction.is_over(ack, window) {
        pcb.forget_reduction();
    }
}

/// New data, or our FIN, are acknowledged.
fn advance<S: Stream>(
    pcb: &mut Pcb,
    now: Instant,
    segment: &Segment<'_>,
    news: &News,
    stream: &mut S,
    config: &Config,
) -> Next {
    let ack = segment.ack;
    let acked = ack - pcb.snd.una;
    let flight_before = pcb.flight();
    let fin_acked = pcb.state.fin().is_some_and(|fin| ack.gt(fin) && pcb.snd.una.le(fin));

    take_rtt_sample(pcb, now, segment, news, config);
    pcb.snd.una = ack;
    if let Some(held) = pcb.outstanding.get_mut() {
        held.acked_in_batch = held.acked_in_batch.saturating_add(acked);
    }
    pcb.snd.una_offset += u64::from(acked - u32::from(fin_acked));
    pcb.snd.owed_since_ms = now.as_millis() as u32;

    let view = pcb.view(now);
    let verdict = pcb.outstanding.get_mut().map(|held| held.recovery.advanced(&view, acked));
    match verdict.unwrap_or(Verdict::Ordinary) {
        // With SACK the window is what pipe kept to all the while: there is no burst to prevent (RFC 6675
        // section 5.1).
        Verdict::Recovered(Phase::Fast) if pcb.sack_permitted => {}
        Verdict::Recovered(Phase::Fast) => pcb.congestion.leave_recovery(pcb.snd.max - ack),
        Verdict::PartialAck if pcb.outstanding.phase() == Phase::Fast => {}
        _ if pcb.ecn.is_told(segment.flags) => {}
        _ => {
            // RFC 7661's point, simply: a window that was not used is no reason to enlarge it.
            let held_back = bytes_held_back(pcb, stream);
            if pcb.congestion.is_used(flight_before.saturating_add(held_back)) {
                let (una, max, srtt_us) = (view.una, view.max, view.srtt_us);
                let ack = Acked { now, bytes: acked, rtt_us: news.rtt_us, srtt_us, una, max };
                pcb.congestion.acknowledged(&ack);
            } else {
                pcb.congestion.unused();
            }
        }
    }
    stream.acknowledged(pcb.snd.una_offset);
    if fin_acked { pcb.state.fin_acknowledged() } else { Next::State(pcb.state) }
}

/// RFC 6298 section 3: a sample a round trip, of what was sent but once; from the timestamp that comes back
/// (RFC 7323 section 4) where something was sent twice.
fn take_rtt_sample(pcb: &mut Pcb, now: Instant, segment: &Segment<'_>, news: &News, config: &Config) {
    let Some(held) = pcb.outstanding.get_mut() else { return };
    if let Some(rtt_us) = news.rtt_us {
        if segment.ack.gt(held.timed_until) {
            held.timed_until = pcb.snd.max;
            pcb.rtt.sample(Duration::from_micros(u64::from(rtt_us)), config);
        }
        return;
    }
    // It must not fall half a circle behind, or it would seem to lie ahead.
    held.timed_until = held.timed_until.max(pcb.snd.una);
    if let Some(elapsed_ms) = echo_age_ms(pcb, now, segment) {
        pcb.rtt.sample(Duration::from_millis(u64::from(elapsed_ms.max(1))), config);
    }
}

/// How long ago the segment was sent that this one answers, by its timestamps. An echo that we cannot have
/// sent within a minute is none.
fn echo_age_ms(pcb: &Pcb, now: Instant, segment: &Segment<'_>) -> Option<u32> {
    let timestamps = segment.options.timestamps.filter(|_| pcb.timestamps.enabled)?;
    Some(pcb.timestamps.value(now).wrapping_sub(timestamps.echo_reply)).filter(|&age_ms| age_ms < 60_000)
}

/// The same as a time: the end of the millisecond in which it was.
fn echoed_at(pcb: &Pcb, now: Instant, segment: &Segment<'_>) -> Option<Micros> {
    let sent_ms = now.as_millis().saturating_sub(u64::from(echo_age_ms(pcb, now, segment)?));
    Some(Micros((sent_ms * 1000 + 999) as u32))
}

/// RFC 9293 section 3.10.7.4: "if SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK), set
/// SND.WND". Whether the window changed.
fn update_send_window(pcb: &mut Pcb, segment: &Segment<'_>) -> bool {
    let fresh = pcb.snd.wl1.lt(segment.seq) || (pcb.snd.wl1 == segment.seq && pcb.snd.wl2.le(segment.ack));
    if !fresh || segment.ack.lt(pcb.snd.una) {
        return false;
    }
    let window = u32::from(segment.window) << pcb.snd.scale;
    let changed = window != pcb.snd.wnd;
    pcb.snd.wnd = window;
    pcb.snd.max_wnd = pcb.snd.max_wnd.max(window);
    pcb.snd.usual_wnd = pcb.snd.usual_wnd.max(window);
    pcb.snd.wl1 = segment.seq;
    pcb.snd.wl2 = segment.ack;
    if window > 0 && changed {
        // Open, or still silly: either way what is sent next decides anew whether to probe.
        pcb.timers.stop(Timer::Persist);
        pcb.persist_backoff = 0;
    }
    changed
}

/// Seventh and eighth step: text, then FIN.
pub(crate) fn text_and_fin<S: Stream>(
    pcb: &mut Pcb,
    now: Instant,
    segment: &Segment<'_>,
    stream: &mut S,
    config: &Config,
) -> Disposition {
    if segment.is_empty() {
        return Disposition::Continue;
    }
    if !pcb.state.may_receive() {
        // CLOSE-WAIT and later: "this should not occur, since a FIN has been received"; a retransmitted FIN
        // is acknowledged.
        pcb.due.ack_now = true;
        return Disposition::Continue;
    }
    let rcv_nxt_before = pcb.rcv.nxt;
    let filling_gap = pcb.rcv.assembler.is_some();
    let (seq, text) = trim(pcb, segment);
    if seq != segment.seq && !segment.payload.is_empty() {
        pcb.note_duplicate(segment.seq, (seq - segment.seq).min(segment.payload.len() as u32));
    } else if let Some((start, len)) =
        pcb.rcv.assembler.as_ref().and_then(|held| held.overlap(seq, text.len()))
    {
        pcb.note_duplicate(start, len);
    }
    let fin = segment.flags.fin() && segment.seq + segment.payload.len() as u32 == seq + text.len() as u32;
    let fin_seq = seq + text.len() as u32;

    if seq != pcb.rcv.nxt {
        hold(pcb, seq, text, fin.then_some(fin_seq), config);
        // RFC 5681 section 4.2: out of order, ACK at once, so that the sender sees the gap.
        pcb.due.ack_now = true;
        return Disposition::Continue;
    }
    if !text.is_empty() {
        let taken = stream.receive(now, text).min(text.len());
        pcb.rcv.nxt += taken as u32;
        if taken < text.len() {
            pcb.due.ack_now = true;
        }
    } else if !segment.payload.is_empty() {
        // Only what is here already, or a probe of our closed window.
        pcb.due.ack_now = true;
    }
    if filling_gap {
        drain(pcb, now, stream);
        pcb.due.ack_now = true;
    }
    if pcb.rcv.nxt != rcv_nxt_before {
        // So that it never lies half a circle behind.
        pcb.rcv.up = pcb.rcv.up.max(pcb.rcv.nxt);
        measure_window(pcb, now, segment, rcv_nxt_before, config);
        pcb.due.ack_delayed = true;
        // Data put it off: it is set anew after each event.
        pcb.timers.stop(Timer::FinWait2);
    }
    let held_fin = release(pcb);
    if (fin && fin_seq == pcb.rcv.nxt) || held_fin {
        return fin_arrives(pcb, now, stream);
    }
    schedule_ack(pcb, now, config);
    Disposition::Continue
}

/// Text was taken, up to RCV.NXT: whether the window is what limits the sender (`tcp::window_growth`).
fn measure_window(
    pcb: &mut Pcb,
    now: Instant,
    segment: &Segment<'_>,
    nxt_before: SeqNumber,
    config: &Config,
) {
    let usual = config.first_window();
    let is_full = segment.payload.len() >= usize::from(pcb.timestamps.smss(pcb.snd.mss));
    if usual == config.max_window || (pcb.rcv.growth.is_none() && !is_full) {
        return;
    }
    let echo_age_us = echo_age_ms(pcb, now, segment).map(|ms| ms * 1000);
    let srtt_us = pcb.rtt.srtt().map(|srtt| u32::try_from(srtt.as_micros()).unwrap_or(u32::MAX));
    let (now, nxt) = (Micros::of(now), pcb.rcv.nxt);
    let growth = pcb.rcv.growth.get_or_insert_with(|| Box::new(WindowGrowth::new(usual, nxt_before, now)));
    if growth.taken(now, nxt, echo_age_us, srtt_us, (usual, config.max_window)) {
        pcb.rcv.growth = None;
    }
}

/// Cuts off what was received already and what lies beyond the window.
fn trim<'a>(pcb: &Pcb, segment: &Segment<'a>) -> (SeqNumber, &'a [u8]) {
    let mut seq = segment.seq;
    let mut text = segment.payload;
    if seq.lt(pcb.rcv.nxt) {
        let known = ((pcb.rcv.nxt - seq) as usize).min(text.len());
        text = &text[known..];
        seq = pcb.rcv.nxt;
    }
    let room = pcb.rcv.adv.since(seq) as usize;
    (seq, &text[..text.len().min(room)])
}

/// Keeps out-of-order text, within bounds.
fn hold(pcb: &mut Pcb, seq: SeqNumber, text: &[u8], fin: Option<SeqNumber>, config: &Config) {
    let held = pcb.rcv.assembler.get_or_insert_default();
    held.insert(seq, text, config.reassembly_bytes as usize);
    if let Some(fin) = fin {
        held.note_fin(fin);
    }
    if held.is_empty() {
        pcb.rcv.assembler = None;
    }
}

/// Lets the reassembly buffer go when it is empty. Whether a held FIN is next.
fn release(pcb: &mut Pcb) -> bool {
    let Some(held) = &pcb.rcv.assembler else { return false };
    let fin = held.fin_is_at(pcb.rcv.nxt);
    if fin || held.is_empty() {
        pcb.rcv.assembler = None;
    }
    fin
}

/// The application may take what it left in the reassembly buffer.
pub(crate) fn resume<S: Stream>(pcb: &mut Pcb, now: Instant, stream: &mut S) -> Disposition {
    let before = pcb.rcv.nxt;
    drain(pcb, now, stream);
    if pcb.rcv.nxt != before {
        pcb.due.ack_now = true;
    }
    if release(pcb) { fin_arrives(pcb, now, stream) } else { Disposition::Continue }
}

/// Hands over held text that has come into order.
fn drain<S: Stream>(pcb: &mut Pcb, now: Instant, stream: &mut S) {
    let Some(held) = pcb.rcv.assembler.as_mut() else { return };
    while let Some(text) = held.front(pcb.rcv.nxt) {
        let taken = stream.receive(now, text).min(text.len());
        let all = taken == text.len();
        pcb.rcv.nxt += taken as u32;
        if !all {
            break;
        }
    }
}

/// Eighth step: everything before the FIN has been received.
fn fin_arrives<S: Stream>(pcb: &mut Pcb, now: Instant, stream: &mut S) -> Disposition {
    pcb.rcv.nxt += 1;
    pcb.rcv.adv = pcb.rcv.adv.max(pcb.rcv.nxt);
    pcb.due.ack_now = true;
    stream.receive_finished(now);
    match pcb.state.fin_received() {
        Next::State(state) => {
            pcb.state = state;
            Disposition::Continue
        }
        Next::TimeWait => Disposition::TimeWait,
        Next::Closed => Disposition::Closed(CloseReason::Finished),
    }
}

/// RFC 9293 section 3.8.6.3: an ACK for at least every second full segment, and never later than the delay.
fn schedule_ack(pcb: &mut Pcb, now: Instant, config: &Config) {
    if !pcb.due.ack_delayed || pcb.due.ack_now {
        return;
    }
    // Full segments are shorter by the timestamps that they carry.
    let full = u32::from(pcb.timestamps.smss(pcb.snd.mss));
    if pcb.rcv.nxt - pcb.rcv.last_ack_sent >= 2 * full {
        pcb.due.ack_now = true;
    } else if !pcb.timers.is_set(Timer::DelayedAck) {
        pcb.timers.set(now, Timer::DelayedAck, now + config.delayed_ack);
    }
}
