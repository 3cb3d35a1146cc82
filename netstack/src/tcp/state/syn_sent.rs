//! SYN-SENT: our SYN is out (RFC 9293 section 3.10.7.3, steps in its order).

use runtime::time::Instant;

use crate::tcp::congestion::Controller;
use crate::tcp::ecn::{self, Ecn, EcnUse};
use crate::tcp::pcb::Pcb;
use crate::tcp::segment::{Outgoing, Segment};
use crate::tcp::seq::SeqNumber;
use crate::tcp::state::{Disposition, Established, State, SynReceived, synchronized};
use crate::tcp::timers::Timer;
use crate::tcp::{CloseReason, Config, Stream};
use crate::wire::tcp::Flags;

/// Our SYN is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SynSent {
    /// ISS.
    pub iss: SeqNumber,
}

/// A segment arrives in SYN-SENT.
pub(crate) fn segment_arrives<S: Stream>(
    pcb: &mut Pcb,
    state: SynSent,
    now: Instant,
    segment: &Segment<'_>,
    stream: &mut S,
    config: &Config,
) -> Disposition {
    // First, the ACK bit: "if SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset, unless the RST bit is set".
    let acknowledged = segment.flags.ack();
    if acknowledged && (segment.ack.le(state.iss) || segment.ack.gt(pcb.snd.max)) {
        return if segment.flags.rst() {
            Disposition::Continue
        } else {
            Disposition::Reply(Outgoing::bare(segment.ack, SeqNumber(0), Flags::RST))
        };
    }
    // Second, RST: refused if it acknowledges our SYN, else (RFC 5961 section 3.2's spirit) forged or stray.
    if segment.flags.rst() {
        return if acknowledged { Disposition::Closed(CloseReason::Refused) } else { Disposition::Continue };
    }
    // Fourth, SYN; fifth, neither SYN nor RST: drop.
    if !segment.flags.syn() {
        return Disposition::Continue;
    }
    negotiate(pcb, segment, config);
    pcb.last_received = now;
    pcb.rcv.nxt = segment.seq + 1;
    pcb.rcv.last_ack_sent = pcb.rcv.nxt;
    pcb.rcv.up = pcb.rcv.nxt;
    pcb.rcv.adv = pcb.rcv.nxt + u32::from(crate::tcp::pcb::syn_window(config));
    pcb.snd.wnd = u32::from(segment.window);
    pcb.snd.max_wnd = pcb.snd.wnd;
    pcb.snd.usual_wnd = pcb.snd.wnd;
    pcb.snd.wl1 = segment.seq;
    pcb.snd.wl2 = segment.ack;
    pcb.due.syn = false;
    if !acknowledged {
        // Simultaneous open: "enter SYN-RECEIVED, form a SYN,ACK segment". SYN_RECEIVED announces no other
        // window.
        pcb.snd.wl2 = state.iss;
        pcb.state = State::SynReceived(SynReceived);
        pcb.due.syn = true;
        return Disposition::Continue;
    }
    // Our SYN is acknowledged: ESTABLISHED, and the ACK that tells so rides with the first data, or goes now.
    if pcb.unanswered == 0 {
        pcb.rtt.sample(now.saturating_since(pcb.snd.last_sent), config);
    }
    pcb.snd.una = segment.ack;
    pcb.unanswered = 0;
    pcb.timers.stop(Timer::Retransmit);
    pcb.state = State::Established(Established);
    pcb.due.ack_now = true;
    stream.established(now);
    if segment.payload.is_empty() && !segment.flags.fin() {
        return Disposition::Continue;
    }
    // Text or FIN with the SYN: RFC 9293 lets it wait for retransmission, but it is in order, so take it.
    let rest = Segment { seq: segment.seq + 1, flags: segment.flags.without(Flags::SYN), ..*segment };
    synchronized::text_and_fin(pcb, now, &rest, stream, config)
}

/// Takes over what the peer's SYN offers.
fn negotiate(pcb: &mut Pcb, segment: &Segment<'_>, config: &Config) {
    let offered = &segment.options;
    pcb.snd.mss = pcb.snd.mss.min(effective_mss(offered.mss));
    match offered.window_scale {
        Some(scale) => pcb.snd.scale = scale,
        None => {
            pcb.snd.scale = 0;
            pcb.rcv.scale = 0;
        }
    }
    pcb.sack_permitted &= offered.sack_permitted;
    match offered.timestamps {
        Some(timestamps) if pcb.timestamps.enabled => pcb.timestamps.recent = timestamps.value,
        _ => pcb.timestamps.enabled = false,
    }
    let lost = pcb.unanswered > 0;
    // Of two SYNs that cross, each may ask, and neither has agreed.
    let agreed =
        segment.flags.ack() && !lost && config.ecn == EcnUse::Active && ecn::is_agreed(segment.flags);
    pcb.ecn = Ecn::new(agreed, pcb.snd.una);
    pcb.congestion = Controller::new(
        config.congestion,
        pcb.timestamps.smss(pcb.snd.mss),
        u32::from(config.initial_window_segments),
    );
    if lost {
        pcb.rtt.syn_was_retransmitted();
        pcb.congestion.syn_was_lost();
    }
}

/// The least that is believed of a peer's MSS: with less, headers would be all that we send (CVE-2019-11479;
/// Linux has the same floor, RFC 9293 none).
pub(crate) const MIN_MSS: u16 = 48;

/// The peer's MSS option: 536 without one (RFC 9293 section 3.7.1), and not so small that it becomes a
/// burden.
pub(crate) fn effective_mss(offered: Option<u16>) -> u16 {
    offered.unwrap_or(536).max(MIN_MSS)
}
