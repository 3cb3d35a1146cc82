//! The protocol control block of one connection (RFC 9293 section 3.3.1), kept by the application in its own
//! record.
//!
//! ```text
//!   Send sequence space                       offset in the stream = una_offset + (seq - SND.UNA)
//!        SND.UNA              SND.NXT = snd_max        SND.UNA + SND.WND
//!   --------|--------------------|-------------------------|--------
//!    acked       in flight            may be sent                not yet
//!
//!   Receive sequence space
//!        RCV.NXT                  RCV.NXT + RCV.WND = rcv_adv
//!   --------|-------------------------|--------
//!    delivered        welcome             not yet
//! ```
//!
//! SND.NXT never goes back: retransmissions are `tcp::retransmit`'s. Segments come in by
//! `Pcb::segment_arrives` (rules in [`crate::tcp::state`]), go out by `Pcb::poll_transmit` (rules in
//! [`crate::tcp::output`]).

mod path_size;
mod time_outs;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use runtime::time::Instant;
use runtime::timer_wheel::TimerId;

use crate::iface::arp_cache::Hop;
use crate::tcp::assembler::Assembler;
use crate::tcp::congestion::Controller;
use crate::tcp::ecn::Ecn;
use crate::tcp::in_flight::Outstanding;
use crate::tcp::prr::Prr;
use crate::tcp::retransmit::{Verdict, View};
use crate::tcp::rtt::RttEstimator;
use crate::tcp::segment::{Outgoing, Segment};
use crate::tcp::seq::SeqNumber;
use crate::tcp::state::{Disposition, Established, State, SynSent, syn_sent, synchronized};
use crate::tcp::time_wait;
use crate::tcp::timers::{Timer, Timers};
use crate::tcp::undo::Reduction;
use crate::tcp::window_growth::WindowGrowth;
use crate::tcp::{Config, Stream};
use crate::tuple::FourTuple;
use crate::wire::tcp::{Flags, Options, TIMESTAMPS_LEN, Timestamps};

/// One connection's protocol state. It owns no payload: what it sends stays with the application's
/// [`runtime::payload::PayloadSource`] until it is acknowledged.
#[derive(Debug)]
pub struct Pcb {
    pub(crate) tuple: FourTuple,
    pub(crate) state: State,
    pub(crate) snd: Send,
    pub(crate) rcv: Receive,
    pub(crate) timestamps: TimestampClock,
    pub(crate) sack_permitted: bool,
    pub(crate) rtt: RttEstimator,
    pub(crate) congestion: Controller,
    pub(crate) ecn: Ecn,
    /// Of what is in flight, while something is.
    pub(crate) outstanding: Outstanding,
    pub(crate) timers: Timers,
    pub(crate) due: Due,
    /// When the peer was last heard.
    pub(crate) last_received: Instant,
    /// Retransmissions, or probes, since the peer last gave a sign of progress, or of life.
    pub(crate) unanswered: u8,
    /// How often the probing interval was doubled.
    pub(crate) persist_backoff: u8,
    /// The last challenge ACK (RFC 5961 section 7), in milliseconds modulo 2^32.
    pub(crate) last_challenge_ms: Option<NonZeroU32>,
    pub(crate) link: Link,
}

/// Send sequence variables.
#[derive(Debug)]
pub(crate) struct Send {
    /// SND.UNA.
    pub(crate) una: SeqNumber,
    /// SND.NXT, the highest ever: SND.MAX of the BSDs.
    pub(crate) max: SeqNumber,
    /// Offset in the stream of the byte at `una`.
    pub(crate) una_offset: u64,
    /// SND.WND, scaled to bytes.
    pub(crate) wnd: u32,
    /// MAX.SND.WND (RFC 5961 section 5).
    pub(crate) max_wnd: u32,
    /// Max(SND.WND) of silly window avoidance, an estimate of the peer's buffer: what was offered since the
    /// override timer last found the window small. A peer may have got a smaller buffer for good.
    pub(crate) usual_wnd: u32,
    /// SND.WL1.
    pub(crate) wl1: SeqNumber,
    /// SND.WL2.
    pub(crate) wl2: SeqNumber,
    /// Shift of the windows that we receive.
    pub(crate) scale: u8,
    /// Largest payload of a segment without options: the peer's MSS, or our link's, or the path's, whichever
    /// is smallest.
    pub(crate) mss: u16,
    /// The same without the path's, while a router's report makes it smaller; and when that report came, in
    /// seconds.
    pub(crate) mss_before_path: Option<Box<(u16, u32)>>,
    /// Routers may fragment what we send: a report told of a path below [`MIN_PATH_MTU`].
    pub(crate) may_fragment: bool,
    /// When data were last sent.
    pub(crate) last_sent: Instant,
    /// Since when the peer owes progress, in milliseconds modulo 2^32: it acknowledged something, or nothing
    /// was owed before.
    pub(crate) owed_since_ms: u32,
    /// Where the next hop's hardware address stands.
    pub(crate) hop: Hop,
}

/// Receive sequence variables.
#[derive(Debug)]
pub(crate) struct Receive {
    /// RCV.NXT.
    pub(crate) nxt: SeqNumber,
    /// Right edge of the window announced, RCV.NXT + RCV.WND; never moves left.
    pub(crate) adv: SeqNumber,
    /// Last.ACK.sent (RFC 7323 section 4.3).
    pub(crate) last_ack_sent: SeqNumber,
    /// RCV.UP; once passed, some later RCV.NXT.
    pub(crate) up: SeqNumber,
    /// Shift of the windows that we send.
    pub(crate) scale: u8,
    /// Bytes from `duplicate` on that came a second time, to be told of by the next ACK (RFC 2883); zero:
    /// none.
    pub(crate) duplicate_len: u16,
    pub(crate) duplicate: SeqNumber,
    /// Out-of-order data, while there are any.
    pub(crate) assembler: Option<Box<Assembler>>,
    /// While there is something to measure, or a larger window than others have.
    pub(crate) growth: Option<Box<WindowGrowth>>,
}

/// Timestamps (RFC 7323 section 3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimestampClock {
    /// Negotiated, or being offered.
    pub(crate) enabled: bool,
    /// TS.Recent.
    pub(crate) recent: u32,
    /// What our clock of milliseconds starts from.
    pub(crate) offset: u32,
}

impl TimestampClock {
    /// SMSS of RFC 5681 section 2, which counts no options, where `mss` is the largest payload without any:
    /// so the window is whole segments, as they are sent.
    pub(crate) fn smss(&self, mss: u16) -> u16 {
        mss - if self.enabled { TIMESTAMPS_LEN } else { 0 }
    }

    pub(crate) fn value(&self, now: Instant) -> u32 {
        (now.as_millis() as u32).wrapping_add(self.offset)
    }

    pub(crate) fn option(&self, now: Instant) -> Option<Timestamps> {
        self.enabled.then(|| Timestamps { value: self.value(now), echo_reply: self.recent })
    }
}

/// What is to be sent beside data.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Due {
    /// An ACK at once.
    pub(crate) ack_now: bool,
    /// An ACK in answer to what may be forged: at once, if the stack has not sent too many of those.
    pub(crate) challenge: bool,
    /// An ACK with the next segment, or when the timer fires.
    pub(crate) ack_delayed: bool,
    /// The SYN (or SYN-ACK) of an active open.
    pub(crate) syn: bool,
    /// A probe of the window, or of the peer's being alive.
    pub(crate) probe: bool,
    /// A probe of the tail of what is in flight (RFC 8985 section 7.3).
    pub(crate) loss_probe: bool,
    /// The timer against silly windows fired: send what fits, however small.
    pub(crate) override_sws: bool,
}

/// The stack's own bookkeeping, kept here so that it costs no table.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// In the stack's queue of connections with something to send.
    pub(crate) queued: bool,
    /// The entry in the timer wheel and its tick, modulo 2^32.
    pub(crate) armed: Option<(TimerId, u32)>,
    /// The handshake is not complete: its record is in the backlog (`tcp::fast_open`).
    pub(crate) early: bool,
    /// Counted by the stack among the blocks in TIME-WAIT.
    pub(crate) in_time_wait: bool,
    /// Out-of-order bytes last counted by the stack.
    pub(crate) reassembly_bytes: u32,
}

/// What a handshake agreed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreed {
    pub(crate) iss: SeqNumber,
    pub(crate) irs: SeqNumber,
    /// SND.WND as announced by the peer, in bytes.
    pub(crate) snd_wnd: u32,
    pub(crate) mss: u16,
    /// Shifts for windows sent to us and by us; both zero unless both sides offered the option.
    pub(crate) snd_scale: u8,
    pub(crate) rcv_scale: u8,
    pub(crate) sack_permitted: bool,
    /// Whether timestamps are on, and the peer's last one.
    pub(crate) timestamps: bool,
    pub(crate) ts_recent: u32,
    pub(crate) ts_offset: u32,
    /// Explicit congestion notification (RFC 3168 section 6.1.1).
    pub(crate) ecn: bool,
    /// The handshake took a retransmission (RFC 5681 section 3.1, RFC 6298 rule 5.7).
    pub(crate) syn_was_lost: bool,
    /// How long SYN-ACK and its ACK took.
    pub(crate) rtt: Option<Duration>,
}

impl Pcb {
    /// An active open: the SYN is due (RFC 9293 section 3.10.1).
    pub(crate) fn syn_sent(
        tuple: FourTuple,
        iss: SeqNumber,
        ts_offset: u32,
        link_mss: u16,
        now: Instant,
        config: &Config,
    ) -> Pcb {
        let agreed = Agreed {
            iss,
            irs: SeqNumber(0),
            snd_wnd: 0,
            mss: link_mss,
            snd_scale: 0,
            rcv_scale: window_scale(config),
            sack_permitted: config.sack,
            timestamps: config.timestamps,
            ts_recent: 0,
            ts_offset,
            ecn: false,
            syn_was_lost: false,
            rtt: None,
        };
        let mut pcb = Pcb::established(tuple, &agreed, now, config);
        pcb.state = State::SynSent(SynSent { iss });
        pcb.snd.una = iss;
        pcb.snd.max = iss;
        pcb.due = Due { syn: true, ..Due::default() };
        pcb
    }

    /// A connection whose handshake is complete.
    pub(crate) fn established(tuple: FourTuple, agreed: &Agreed, now: Instant, config: &Config) -> Pcb {
        let (snd_nxt, rcv_nxt) = (agreed.iss + 1, agreed.irs + 1);
        let timestamps =
            TimestampClock { enabled: agreed.timestamps, recent: agreed.ts_recent, offset: agreed.ts_offset };
        let mut pcb = Pcb {
            tuple,
            state: State::Established(Established),
            snd: Send {
                una: snd_nxt,
                max: snd_nxt,
                una_offset: 0,
                wnd: agreed.snd_wnd,
                max_wnd: agreed.snd_wnd,
                usual_wnd: agreed.snd_wnd,
                wl1: agreed.irs,
                wl2: agreed.iss,
                scale: agreed.snd_scale,
                mss: agreed.mss,
                mss_before_path: None,
                may_fragment: false,
                last_sent: now,
                owed_since_ms: now.as_millis() as u32,
                hop: Hop::NONE,
            },
            rcv: Receive {
                nxt: rcv_nxt,
                adv: rcv_nxt + u32::from(syn_window(config)),
                last_ack_sent: rcv_nxt,
                up: rcv_nxt,
                scale: agreed.rcv_scale,
                duplicate_len: 0,
                duplicate: rcv_nxt,
                assembler: None,
                growth: None,
            },
            timestamps,
            sack_permitted: agreed.sack_permitted,
            rtt: RttEstimator::new(config),
            congestion: Controller::new(
                config.congestion,
                timestamps.smss(agreed.mss),
                u32::from(config.initial_window_segments),
            ),
            ecn: Ecn::new(agreed.ecn, agreed.iss),
            outstanding: Outstanding::default(),
            timers: Timers::default(),
            due: Due::default(),
            last_received: now,
            unanswered: 0,
            persist_backoff: 0,
            last_challenge_ms: None,
            link: Link::default(),
        };
        if agreed.syn_was_lost {
            pcb.congestion.syn_was_lost();
            pcb.rtt.syn_was_retransmitted();
        } else if let Some(rtt) = agreed.rtt {
            pcb.rtt.sample(rtt, config);
        }
        if let Some(idle) = config.keep_alive {
            pcb.timers.set(now, Timer::KeepAlive, now + idle);
        }
        pcb
    }

    /// The handshake of a connection that began before it was complete, is.
    pub(crate) fn handshake_completed(&mut self, agreed: &Agreed, config: &Config) {
        match agreed.rtt {
            Some(rtt) => self.rtt.sample(rtt, config),
            None => self.rtt.syn_was_retransmitted(),
        }
    }

    /// Takes in a segment for this connection (RFC 9293 section 3.10.7).
    pub(crate) fn segment_arrives<S: Stream>(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        stream: &mut S,
        config: &Config,
    ) -> Disposition {
        let disposition = match self.state {
            State::Closed | State::TimeWait => Disposition::Continue,
            State::SynSent(state) => syn_sent::segment_arrives(self, state, now, segment, stream, config),
            _ => synchronized::segment_arrives(self, now, segment, stream, config),
        };
        if matches!(disposition, Disposition::TimeWait | Disposition::Closed(_)) {
            self.close();
        }
        disposition
    }

    /// FlightSize (RFC 5681 section 2), as congestion control wants to know it: what was in flight when
    /// segments could last be sent, of which the same batch of ACKs may have taken some off. Without that, a
    /// loss that shows at the end of a batch would seem to be one of a small window, and what the batch
    /// acknowledged one that was not used.
    pub(crate) fn flight(&self) -> u32 {
        (self.snd.max - self.snd.una).saturating_add(self.outstanding.acked_in_batch())
    }

    /// Marks what is lost by now and begins to recover, if something is, from `flight` bytes in flight. How
    /// many microseconds to wait for more.
    pub(crate) fn detect_losses(&mut self, now: Instant, flight: u32) -> u32 {
        let view = self.view(now);
        let Some(held) = self.outstanding.get_mut() else { return 0 };
        let (verdict, wait_us) = held.recovery.detect(&view);
        if verdict == Verdict::EnteredFast {
            self.enter_recovery(flight);
        }
        wait_us
    }

    /// A loss has shown with `flight` bytes in flight.
    pub(crate) fn enter_recovery(&mut self, flight: u32) {
        let reduction = Reduction::new(&self.congestion, self.snd.una..self.snd.max, false);
        self.reduce_window(flight);
        let Some(held) = self.outstanding.get_mut() else { return };
        held.reduction = Some(Box::new(reduction));
        if self.sack_permitted {
            // What earlier ACKs of the batch reported was in the network when segments could last be sent.
            let before = held.delivered_in_batch.saturating_sub(held.recovery.newly_delivered);
            let outstanding = (self.snd.max - self.snd.una) - held.recovery.records.sacked_bytes();
            let recover_fs = outstanding.saturating_add(held.delivered_in_batch);
            let pipe = held.recovery.pipe(self.snd.una, self.snd.max);
            held.recovery.prr = Some(Box::new(Prr::new(recover_fs, before, pipe)));
        }
    }

    /// Nothing was lost: the window is what it was, and all that was thought lost is on its way.
    pub(crate) fn undo(&mut self) {
        let Some(held) = self.outstanding.get_mut() else { return };
        let Some(reduction) = held.reduction.take() else { return };
        held.recovery.undo();
        let before = reduction.into_congestion();
        if before.window() > self.congestion.window() {
            self.congestion = before;
            // The path may have become larger since.
            self.congestion.set_smss(self.timestamps.smss(self.snd.mss));
        }
    }

    /// Congestion has shown with `flight` bytes in flight. What an earlier loss has cost is not taken back
    /// any more: the window from before both would come back.
    pub(crate) fn reduce_window(&mut self, flight: u32) {
        self.forget_reduction();
        self.congestion.enter_recovery(flight);
        self.ecn.reduced(self.snd.max);
    }

    /// What the last loss has cost is not taken back any more.
    pub(crate) fn forget_reduction(&mut self) {
        if let Some(held) = self.outstanding.get_mut() {
            held.reduction = None;
        }
    }

    pub(crate) fn view(&self, now: Instant) -> View {
        View {
            now,
            una: self.snd.una,
            max: self.snd.max,
            smss: u32::from(self.snd.mss),
            srtt_us: self.srtt_us(),
        }
    }

    /// Smoothed round trip in microseconds; zero before the first sample.
    pub(crate) fn srtt_us(&self) -> u32 {
        self.rtt.srtt().map_or(0, |srtt| u32::try_from(srtt.as_micros()).unwrap_or(u32::MAX))
    }

    /// How much may be in the network now: the congestion window, or what proportional rate reduction makes
    /// of it.
    pub(crate) fn send_limit(&self) -> u32 {
        let prr = self.outstanding.get().and_then(|held| held.recovery.prr.as_ref());
        prr.map_or(self.congestion.window(), |prr| prr.window())
    }

    /// What was to be sent got no further than this host: nobody answers for the next hop. It counts as a
    /// lost segment: the retransmission timer tries it again, and gives up in the end.
    pub(crate) fn lost_before_the_wire(&mut self, now: Instant, config: &Config) {
        if !matches!(self.state, State::Closed) && !self.timers.is_set(Timer::Retransmit) {
            if self.unanswered == 0 {
                self.snd.owed_since_ms = now.as_millis() as u32;
            }
            self.timers.set(now, Timer::Retransmit, now + self.rtt.rto(config));
        }
    }

    /// Takes over the stream's deadline. One that has passed comes a little later, not at once: a stream that
    /// leaves it where it was must not keep the stack busy.
    pub(crate) fn update_deadline<S: Stream>(&mut self, now: Instant, stream: &S) {
        match stream.deadline() {
            Some(at) => self.timers.set(now, Timer::Application, at.max(now + DEADLINE_GRANULARITY)),
            None => self.timers.stop(Timer::Application),
        }
    }

    /// Bounds the wait for the peer's FIN from when nobody reads any more (Linux: from when the socket is an
    /// orphan).
    pub(crate) fn update_fin_wait_2<S: Stream>(&mut self, now: Instant, stream: &S, config: &Config) {
        if !matches!(self.state, State::FinWait2(_)) || !stream.reads_no_more() {
            self.timers.stop(Timer::FinWait2);
        } else if !self.timers.is_set(Timer::FinWait2) {
            self.timers.set(now, Timer::FinWait2, now + config.fin_wait_2);
        }
    }

    /// Ends the connection; the reset to send, if the peer knows of the connection (RFC 9293 section 3.10.5).
    pub(crate) fn abort(&mut self) -> Option<Outgoing> {
        let known = !matches!(self.state, State::SynSent(_) | State::TimeWait | State::Closed);
        self.close();
        known.then(|| Outgoing::bare(self.snd.max, self.rcv.nxt, Flags::RST.with(Flags::ACK)))
    }

    /// An ACK of all that was received, for when the PCB goes into TIME-WAIT before it could send it.
    pub(crate) fn final_ack(&self, now: Instant) -> Outgoing {
        let window = (self.rcv.adv.since(self.rcv.nxt) >> self.rcv.scale).min(0xffff) as u16;
        let options = Options { timestamps: self.timestamps.option(now), ..Options::NONE };
        Outgoing { window, options, ..Outgoing::bare(self.snd.max, self.rcv.nxt, Flags::ACK) }
    }

    /// What TIME-WAIT needs to know, once both FINs are through.
    pub(crate) fn time_wait_record(&self, now: Instant) -> time_wait::Record {
        let last = self.final_ack(now);
        let TimestampClock { enabled, recent, offset } = self.timestamps;
        time_wait::Record {
            snd_nxt: last.seq,
            rcv_nxt: last.ack,
            timestamps: enabled.then_some((recent, offset)),
            window: last.window,
        }
    }

    /// The block itself stays in TIME-WAIT until then.
    pub(crate) fn enter_time_wait(&mut self, now: Instant, until: Instant) {
        self.state = State::TimeWait;
        self.timers.set(now, Timer::FinWait2, until);
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.timers.stop_all();
        self.rcv.assembler = None;
        self.outstanding.clear();
    }

    /// Asks for an ACK in answer to a reset, a SYN or an ACK that may be forged, unless one went out lately.
    /// Whether it goes out is the stack's to say, which bounds those of all connections (RFC 5961 section
    /// 10).
    pub(crate) fn challenge(&mut self, now: Instant) {
        self.due.challenge |= challenge_is_due(&mut self.last_challenge_ms, now);
    }

    /// Asks for an ACK in answer to a bare one that is not acceptable, unless one went out lately: that must
    /// not become half of an endless exchange. Keep-alives and probes of a window are such: whether a live
    /// peer gets its answer must not depend on what strangers do with the bound of all connections.
    pub(crate) fn answer_bare(&mut self, now: Instant) {
        self.due.ack_now |= challenge_is_due(&mut self.last_challenge_ms, now);
    }

    /// Bytes at `seq` came a second time: the next ACK tells so (RFC 2883 section 4), if the peer understands
    /// it. Of several before that ACK it tells the first.
    pub(crate) fn note_duplicate(&mut self, seq: SeqNumber, len: u32) {
        if self.sack_permitted && self.rcv.duplicate_len == 0 {
            self.rcv.duplicate = seq;
            self.rcv.duplicate_len = len.min(u16::MAX.into()) as u16;
        }
    }

    /// The offset in the stream of the byte at `seq`, which is not before SND.UNA.
    pub(crate) fn offset_of(&self, seq: SeqNumber) -> u64 {
        self.snd.una_offset + u64::from(seq - self.snd.una)
    }

    /// The state, by the RFC's name (`ESTABLISHED`).
    pub fn state_name(&self) -> &'static str {
        self.state.name()
    }

    /// Addresses and ports.
    pub fn tuple(&self) -> &FourTuple {
        &self.tuple
    }

    /// Our end.
    pub fn local(&self) -> SocketAddr {
        self.tuple.local()
    }

    /// The peer's end.
    pub fn remote(&self) -> SocketAddr {
        self.tuple.remote()
    }

    /// Bytes of the stream that the peer has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.snd.una_offset
    }

    /// Sequence numbers sent and not acknowledged.
    pub fn in_flight(&self) -> u32 {
        self.flight()
    }

    /// Congestion window in bytes.
    pub fn congestion_window(&self) -> u32 {
        self.congestion.window()
    }

    /// The peer's window in bytes.
    pub fn send_window(&self) -> u32 {
        self.snd.wnd
    }

    /// Largest payload of a segment without options, in bytes.
    pub fn mss(&self) -> u16 {
        self.snd.mss
    }

    /// Smoothed round-trip time, once measured.
    pub fn round_trip_time(&self) -> Option<Duration> {
        self.rtt.srtt()
    }

    /// When the peer was last heard.
    pub fn last_received(&self) -> Instant {
        self.last_received
    }

    /// Out-of-order bytes held.
    pub fn reassembly_bytes(&self) -> usize {
        self.rcv.assembler.as_ref().map_or(0, |assembler| assembler.len_bytes())
    }
}

/// An idle connection is mostly this: what is added is added a million times.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Pcb>() <= 328);

const DEADLINE_GRANULARITY: Duration = Duration::from_millis(2);

/// At most one challenge ACK per connection, or half-open one, in this time.
const CHALLENGE_INTERVAL_MS: u32 = 50;

/// Whether a connection whose last challenge went out at `last_ms` may have another (RFC 5961 section 7); it
/// is noted.
pub(crate) fn challenge_is_due(last_ms: &mut Option<NonZeroU32>, now: Instant) -> bool {
    // A millisecond of 49 days is taken for the next.
    let now_ms = NonZeroU32::new(now.as_millis() as u32).unwrap_or(NonZeroU32::MIN);
    let is_due = last_ms.is_none_or(|last| now_ms.get().wrapping_sub(last.get()) >= CHALLENGE_INTERVAL_MS);
    if is_due {
        *last_ms = Some(now_ms);
    }
    is_due
}

/// RFC 7323 section 2.2: the shift that lets 16 bits say the largest window.
pub(crate) fn window_scale(config: &Config) -> u8 {
    let mut scale = 0;
    while scale < crate::wire::tcp::MAX_WINDOW_SCALE && config.max_window >> scale > 0xffff {
        scale += 1;
    }
    scale
}

/// The window in a SYN, never scaled (RFC 7323 section 2.2).
pub(crate) fn syn_window(config: &Config) -> u16 {
    config.first_window().min(0xffff) as u16
}
