//! What to send next, and whether to: RFC 9293 section 3.8.6, with RFC 5681's window, silly window avoidance
//! on both sides, and RFC 6298's timer.
//!
//! `Pcb::poll_transmit` gives one segment (or super-segment) a call, in this order: SYN; what was lost; new
//! data, with FIN if they are the last; a probe; an ACK that found no company.
//!
//! How much may be sent is decided first, then the source is asked for it. It may have less at hand: then
//! that goes out, without FIN, and the connection rests until it is woken. What was sent before the source
//! always has.

use std::time::Duration;

use runtime::payload::{self, Pieces};
use runtime::time::Instant;

use crate::tcp::in_flight::InFlight;
use crate::tcp::pcb::{Pcb, syn_window, window_scale};
use crate::tcp::retransmit::{Phase, Waiting};
use crate::tcp::segment::Outgoing;
use crate::tcp::send_records::Micros;
use crate::tcp::seq::SeqNumber;
use crate::tcp::state::State;
use crate::tcp::timers::Timer;
use crate::tcp::{Config, Stream};
use crate::wire::tcp::{Flags, Options, SackBlocks};

/// RFC 8985 section 7.2: the probe timeout before any round trip was measured.
const NO_SRTT_PTO: Duration = Duration::from_secs(1);

/// What a probe waits beside two round trips: a tick of the timers' clock at both ends.
const PTO_MARGIN: Duration = Duration::from_millis(2);

impl Pcb {
    /// The next segment to send, if one may be sent now, and its payload in `pieces`, which is empty before.
    /// `segmentation` is the largest payload that the device cuts up by itself, zero if it does not. The
    /// segment counts as sent.
    pub(crate) fn poll_transmit<'a, S: Stream>(
        &mut self,
        now: Instant,
        stream: &'a S,
        segmentation: u32,
        config: &Config,
        pieces: &mut Pieces<'a>,
    ) -> Option<Outgoing> {
        match self.state {
            State::SynSent(_) | State::SynReceived(_) => return self.next_syn(now, config),
            State::Closed | State::TimeWait => return None,
            _ => {}
        }
        if let Some(held) = self.outstanding.get_mut() {
            (held.acked_in_batch, held.delivered_in_batch) = (0, 0);
            if let Some(prr) = &mut held.recovery.prr {
                prr.batch_is_over();
            }
        }
        self.open_window(stream, config);
        if let Some(segment) = self.next_retransmission(now, stream, segmentation, config, pieces) {
            return Some(segment);
        }
        if self.due.loss_probe {
            let probe = self.next_loss_probe(now, stream, config, pieces);
            self.due.loss_probe = false;
            if let Some(segment) = probe {
                return Some(self.stamp(segment));
            }
        }
        let owes_ack = self.due.ack_now || self.due.ack_delayed;
        if owes_ack && !config.packet_merging {
            // The specialisation is off: the ACK has a packet of its own, before the data's, and waits for
            // nothing.
            let segment = self.bare(now, self.snd.max);
            return Some(self.stamp(segment));
        }
        if let Some(segment) = self.next_data(now, stream, segmentation, config, pieces) {
            return Some(self.stamp(segment));
        }
        if self.due.probe {
            // RFC 9293 section 3.8.4: a sequence number just left of the window asks for an ACK that tells
            // RCV.NXT and RCV.WND. It carries no byte, so nothing has to be taken back if the window stays
            // shut.
            self.due.probe = false;
            let segment = self.bare(now, self.snd.una - 1);
            return Some(self.stamp(segment));
        }
        if self.due.ack_now {
            let segment = self.bare(now, self.snd.max);
            return Some(self.stamp(segment));
        }
        None
    }

    /// The SYN of an active open, or the SYN-ACK of a simultaneous one (RFC 9293 section 3.5).
    fn next_syn(&mut self, now: Instant, config: &Config) -> Option<Outgoing> {
        if !self.due.syn {
            return None;
        }
        self.due.syn = false;
        let crossed = matches!(self.state, State::SynReceived(_));
        self.snd.last_sent = now;
        if self.unanswered == 0 {
            self.snd.owed_since_ms = now.as_millis() as u32;
        }
        self.snd.max = self.snd.una + 1;
        let offer_scale = !crossed || self.rcv.scale > 0 || self.snd.scale > 0;
        let options = Options {
            mss: Some(self.snd.mss),
            window_scale: offer_scale.then(|| window_scale(config)),
            sack_permitted: self.sack_permitted,
            sack: SackBlocks::NONE,
            fast_open: None,
            timestamps: self.timestamps.option(now),
        };
        let at = self.within_user_timeout(now, now + self.rtt.rto(config), config);
        self.timers.set(now, Timer::Retransmit, at);
        let asks = config.ecn.syn_flags(self.unanswered == 0);
        Some(Outgoing {
            seq: self.snd.una,
            ack: if crossed { self.rcv.nxt } else { SeqNumber(0) },
            flags: if crossed { Flags::SYN.with(Flags::ACK) } else { Flags::SYN | asks },
            window: syn_window(config),
            options,
            offset: 0,
            len: 0,
            mss: self.snd.mss,
            may_fragment: false,
            may_mark: false,
        })
    }

    /// Something lost, if it may be sent again now.
    fn next_retransmission<'a, S: Stream>(
        &mut self,
        now: Instant,
        stream: &'a S,
        segmentation: u32,
        config: &Config,
        pieces: &mut Pieces<'a>,
    ) -> Option<Outgoing> {
        let held = self.outstanding.get()?;
        if held.reduction.as_ref().is_some_and(|reduction| reduction.holds()) {
            return None;
        }
        let (start, hole) = held.recovery.next_hole()?;
        let first_is_due = held.recovery.first_is_due();
        let (_, mss) = self.data_options(now);
        // A device that segments may send several lost segments at once, but only whole ones.
        let most = if segmentation > mss { segmentation - segmentation % mss } else { mss };
        let pace_room = self.pace_room(now, config);
        let mut span = if first_is_due {
            hole.min(mss)
        } else {
            let pipe = self.outstanding.pipe(self.snd.una, self.snd.max);
            let room = self.send_limit().saturating_sub(pipe).min(self.window_room(start));
            if room < hole.min(mss) {
                return None;
            }
            if pace_room == 0 {
                self.wait_for_pace(now);
                return None;
            }
            hole.min(most).min(room).min(pace_room.max(mss))
        };
        if span < hole && span > mss {
            span -= span % mss;
        }
        let segment = self.again(now, start, span, stream, config, pieces)?;
        self.arm_after_sending(now, config);
        Some(self.stamp(segment))
    }

    /// RFC 8985 section 7.3: the last segment once more. Not new data, even if there are any, as the RFC has
    /// it: if all that was lost is an ACK, a duplicate is acknowledged at once, but a new segment by itself
    /// only after the peer's delay. In fast recovery (where the RFC leaves all to the RTO, and RFC 9002
    /// section 6.2 does not) it is the first segment, whose retransmission is the one that was lost.
    fn next_loss_probe<'a, S: Stream>(
        &mut self,
        now: Instant,
        stream: &'a S,
        config: &Config,
        pieces: &mut Pieces<'a>,
    ) -> Option<Outgoing> {
        let flight = self.snd.max - self.snd.una;
        if flight == 0 || !self.outstanding.may_probe() {
            return None;
        }
        let (_, mss) = self.data_options(now);
        let span = flight.min(mss);
        let in_recovery = self.outstanding.phase() == Phase::Fast;
        let start = if in_recovery { self.snd.una } else { self.snd.max - span };
        let segment = self.again(now, start, span, stream, config, pieces)?;
        if let Some(held) = self.outstanding.get_mut() {
            held.recovery.probed(self.snd.max, !in_recovery);
        }
        Some(segment)
    }

    /// `[start, start + span)`, which is in flight, once more. `None` if the source lost what it had to keep:
    /// then the retransmission timer asks again, and gives up in the end.
    fn again<'a, S: Stream>(
        &mut self,
        now: Instant,
        start: SeqNumber,
        mut span: u32,
        stream: &'a S,
        config: &Config,
        pieces: &mut Pieces<'a>,
    ) -> Option<Outgoing> {
        let (options, mss) = self.data_options(now);
        // The FIN is the last number of the sequence space in flight.
        let mut with_fin = self.state.fin().is_some_and(|fin| fin.in_window(start, span));
        let wanted = span - u32::from(with_fin);
        let len = gather(stream, self.offset_of(start), wanted, pieces);
        if len < wanted {
            if len == 0 {
                return None;
            }
            (span, with_fin) = (len, false);
        }
        if let Some(held) = self.outstanding.get_mut() {
            held.recovery.retransmitted(start, start + span, now);
            if let Some(reduction) = &mut held.reduction {
                reduction.resent(span, Micros::of(now));
            }
        }
        self.paced(now, span, false, config);
        self.snd.last_sent = now;
        let mut flags = Flags::ACK;
        if with_fin {
            flags |= Flags::FIN;
        }
        if len > 0 && self.offset_of(start) + u64::from(len) == stream.end() {
            flags |= Flags::PSH;
        }
        Some(Outgoing {
            seq: start,
            flags,
            options,
            offset: self.offset_of(start),
            len,
            mss: mss as u16,
            ..self.bare(now, start)
        })
    }

    pub(crate) fn has_data<S: Stream>(&self, stream: &S) -> bool {
        self.state.may_send() && (stream.end() > self.offset_of(self.snd.max) || stream.is_finished())
    }

    /// New data, and the FIN with the last of them.
    fn next_data<'a, S: Stream>(
        &mut self,
        now: Instant,
        stream: &'a S,
        segmentation: u32,
        config: &Config,
        pieces: &mut Pieces<'a>,
    ) -> Option<Outgoing> {
        if !self.state.may_send() {
            return None;
        }
        let offset = self.offset_of(self.snd.max);
        let unsent = stream.end().saturating_sub(offset);
        let finished = stream.is_finished();
        if unsent == 0 && !finished {
            return None;
        }
        let mut remaining = u32::try_from(unsent).unwrap_or(u32::MAX);
        let mut is_end = u64::from(remaining) == unsent;
        if !config.header_merging
            && let Some(end) = stream.part_end(offset)
            && end > offset
            && end - offset < u64::from(remaining)
        {
            // The specialisation is off: what follows begins a segment of its own.
            remaining = (end - offset) as u32;
            is_end = false;
        }
        let in_flight = self.snd.max != self.snd.una;
        if !in_flight && now.saturating_since(self.snd.last_sent) > self.rtt.rto(config) {
            self.congestion.restart_after_idle(u32::from(config.initial_window_segments));
        }
        self.try_larger_path(now);
        let (options, mss) = self.data_options(now);
        let window_room = self.window_room(self.snd.max);
        let pipe = self.outstanding.pipe(self.snd.una, self.snd.max);
        let congestion_room = self.send_limit().saturating_sub(pipe);
        let pace_room = self.pace_room(now, config);
        // A device that cuts would repeat CWR in each piece.
        let segmentation = if self.ecn.cwr_is_due() { mss } else { segmentation.min(pace_room).max(mss) };
        let mut len = remaining.min(window_room).min(congestion_room).min(segmentation);

        if len < remaining {
            if len >= mss {
                len -= len % mss;
            } else if congestion_room < window_room.min(mss) {
                // ACKs of what is in flight will make room for a whole segment.
                return None;
            } else if !self.small_segment_is_due(len, in_flight) {
                self.wait_for_window(now, in_flight, config);
                return None;
            }
        } else if self.nagle_holds(len % mss, finished, config) {
            if len < mss {
                return None;
            }
            len -= len % mss;
        }

        if len > 0 && pace_room == 0 {
            self.wait_for_pace(now);
            return None;
        }
        let resident = gather(stream, offset, len, pieces);
        let is_short = resident < len;
        if is_short {
            // What is there goes: the source may not get on with the rest before this is acknowledged. A
            // small segment may still have to wait for an earlier one.
            let held = if self.nagle_holds(resident % mss, false, config) { resident % mss } else { 0 };
            len = resident - held;
            payload::truncate(pieces, len as usize);
            if len == 0 {
                return None;
            }
        }

        let last = finished && is_end && len == remaining;
        let with_fin = last && window_room > len && (config.packet_merging || len == 0);
        if len == 0 && !with_fin {
            // Only the FIN is left, and the window has no room even for it.
            if last {
                self.wait_for_window(now, in_flight, config);
            }
            return None;
        }
        let seq = self.snd.max;
        let mut flags = Flags::ACK;
        if len > 0 && (len == remaining || is_short) {
            flags |= Flags::PSH;
        }
        if with_fin {
            flags |= Flags::FIN;
            self.state = self.state.fin_sent(seq + len);
        }
        let mut may_mark = false;
        if len > 0 {
            if self.ecn.cwr_is_due() {
                flags |= Flags::CWR;
            }
            may_mark = self.ecn.sent_new();
        }
        self.note_sent(now, seq, len, with_fin, mss, config);
        Some(Outgoing { flags, options, offset, len, mss: mss as u16, may_mark, ..self.bare(now, seq) })
    }

    /// New data went out.
    fn note_sent(&mut self, now: Instant, seq: SeqNumber, len: u32, fin: bool, mss: u32, config: &Config) {
        let from_nothing = self.snd.max == self.snd.una;
        if from_nothing {
            self.snd.owed_since_ms = now.as_millis() as u32;
        }
        self.snd.max = seq + len + u32::from(fin);
        let held = self.outstanding.in_use(seq, self.sack_permitted);
        if let Some(prr) = &mut held.recovery.prr {
            prr.sent(len);
        }
        if !len.is_multiple_of(mss) {
            held.small_end = self.snd.max;
        }
        held.recovery.records.sent(self.snd.max, Micros::of(now));
        self.paced(now, len, from_nothing, config);
        self.snd.last_sent = now;
        self.due.override_sws = false;
        self.timers.stop(Timer::Persist);
        self.persist_backoff = 0;
        self.arm_after_sending(now, config);
    }

    /// RFC 6298 rule 5.1; and each new transmission puts off the probe of the tail (RFC 8985 section 7.2).
    fn arm_after_sending(&mut self, now: Instant, config: &Config) {
        if !self.timers.is_set(Timer::Retransmit) {
            self.await_time_out(now, now + self.rtt.rto(config), config);
        }
        if self.outstanding.waiting() != Waiting::Reordering && self.outstanding.may_probe() {
            self.await_probe(now, self.time_out_at(now, config), config);
        }
    }

    /// RFC 6298 rules 5.2 and 5.3, and RFC 8985 section 8: what an ACK makes of the timer. `reordering_us`,
    /// if not zero, is when to look for losses again.
    pub(crate) fn arm_after_ack(
        &mut self,
        now: Instant,
        advanced: bool,
        reordering_us: u32,
        config: &Config,
    ) {
        let waiting = self.outstanding.waiting();
        if self.snd.una == self.snd.max {
            if waiting != Waiting::TimeOut || advanced {
                self.outstanding.set_waiting(Waiting::TimeOut);
                self.timers.stop(Timer::Retransmit);
            }
        } else if reordering_us > 0 {
            self.outstanding.set_waiting(Waiting::Reordering);
            self.timers.set(now, Timer::Retransmit, now + Duration::from_micros(u64::from(reordering_us)));
        } else if self.outstanding.may_probe() {
            let time_out = if advanced { now + self.rtt.rto(config) } else { self.time_out_at(now, config) };
            self.await_probe(now, time_out, config);
        } else if advanced {
            self.await_time_out(now, now + self.rtt.rto(config), config);
        } else if waiting != Waiting::TimeOut {
            self.await_time_out(now, self.time_out_at(now, config), config);
        }
    }

    /// The retransmission timer is one again, at `at`, or when the application waits no longer.
    pub(crate) fn await_time_out(&mut self, now: Instant, at: Instant, config: &Config) {
        self.outstanding.set_waiting(Waiting::TimeOut);
        self.timers.set(now, Timer::Retransmit, self.within_user_timeout(now, at, config).max(now));
    }

    /// RFC 8985 section 7.2, TLP_calc_PTO; never later than the time-out.
    fn await_probe(&mut self, now: Instant, time_out: Instant, config: &Config) {
        let mut wait = self.rtt.srtt().map_or(NO_SRTT_PTO, |srtt| 2 * srtt + PTO_MARGIN);
        // A FIN is acknowledged at once, and so is what fills a gap.
        let is_lone = self.snd.max - self.snd.una <= self.data_options(now).1;
        if is_lone && self.state.fin().is_none() && self.outstanding.phase() == Phase::Open {
            wait += config.max_ack_delay;
        }
        self.outstanding.set_waiting(Waiting::Probe);
        self.timers.set(now, Timer::Retransmit, (now + wait).min(time_out));
    }

    /// When what lies at SND.UNA has waited for the time-out.
    pub(crate) fn time_out_at(&self, now: Instant, config: &Config) -> Instant {
        let first_sent = self.outstanding.get().and_then(|held| held.recovery.records.first_sent());
        let elapsed_us = first_sent.map_or(0, |sent| Micros::of(now).since(sent));
        now + self.rtt.rto(config).saturating_sub(Duration::from_micros(u64::from(elapsed_us)))
    }

    /// RFC 9293 section 3.8.6.2.1, sender's silly window avoidance, for data that the window cuts short: at
    /// least half of the largest window that the peer offered, or the override time has passed.
    fn small_segment_is_due(&self, len: u32, in_flight: bool) -> bool {
        len > 0 && (len >= self.snd.usual_wnd / 2 || (self.due.override_sws && !in_flight))
    }

    /// The window is too small and nothing in flight will bring news of it: RFC 9293 section 3.8.6.1.
    fn wait_for_window(&mut self, now: Instant, in_flight: bool, config: &Config) {
        if in_flight || self.timers.is_set(Timer::Persist) || self.due.probe {
            return;
        }
        let interval = self.rtt.rto(config) * (1 << self.persist_backoff.min(10));
        if self.persist_backoff == 0 {
            self.snd.owed_since_ms = now.as_millis() as u32;
        }
        let at = self.within_user_timeout(now, now + interval.min(config.max_rto), config);
        self.timers.set(now, Timer::Persist, at);
    }

    /// Minshall's form of Nagle's algorithm: a small segment waits only for an earlier small one in flight.
    fn nagle_holds(&self, small_part: u32, finished: bool, config: &Config) -> bool {
        let is_small = |held: &InFlight| held.small_end.gt(self.snd.una);
        config.nagle && small_part != 0 && !finished && self.outstanding.get().is_some_and(is_small)
    }

    /// Bytes of the peer's window from `seq` on.
    pub(crate) fn window_room(&self, seq: SeqNumber) -> u32 {
        (self.snd.una + self.snd.wnd).since(seq)
    }

    /// Options of a data segment, and the payload that fits beside them.
    fn data_options(&self, now: Instant) -> (Options, u32) {
        let options = self.options(now);
        (options, u32::from(self.snd.mss).saturating_sub(options.len() as u32).max(1))
    }

    fn options(&self, now: Instant) -> Options {
        let mut sack = SackBlocks::NONE;
        if self.rcv.duplicate_len > 0 {
            // RFC 2883 section 4: the first block, once.
            let end = self.rcv.duplicate + u32::from(self.rcv.duplicate_len);
            sack.push(self.rcv.duplicate.0, end.0);
        }
        if let Some(held) = &self.rcv.assembler
            && self.sack_permitted
        {
            sack = held.sack_blocks(sack);
        }
        Options { timestamps: self.timestamps.option(now), sack, ..Options::NONE }
    }

    /// A segment without payload.
    fn bare(&self, now: Instant, seq: SeqNumber) -> Outgoing {
        let (options, may_fragment) = (self.options(now), self.snd.may_fragment);
        Outgoing { options, may_fragment, ..Outgoing::bare(seq, self.rcv.nxt, Flags::ACK) }
    }

    /// Fills in acknowledgment and window, which every segment carries, and so no ACK is owed any more.
    fn stamp(&mut self, segment: Outgoing) -> Outgoing {
        self.rcv.last_ack_sent = self.rcv.nxt;
        self.rcv.duplicate_len = 0;
        self.due.ack_now = false;
        self.due.ack_delayed = false;
        self.timers.stop(Timer::DelayedAck);
        let window = self.rcv.adv.since(self.rcv.nxt) >> self.rcv.scale;
        let flags = segment.flags | self.ecn.echo();
        Outgoing { ack: self.rcv.nxt, window: window.min(0xffff) as u16, flags, ..segment }
    }

    /// What was received so far is acknowledged by the SYN-ACK that the backlog sends.
    pub(crate) fn acknowledged_by_syn_ack(&mut self) {
        self.rcv.last_ack_sent = self.rcv.nxt;
        self.due.ack_now = false;
        self.due.ack_delayed = false;
        self.timers.stop(Timer::DelayedAck);
    }

    /// Receiver's silly window avoidance (RFC 9293 section 3.8.6.2.2): the right edge moves only by a
    /// worthwhile step, and never back. When the peer may be waiting for it, it is told.
    fn open_window<S: Stream>(&mut self, stream: &S, config: &Config) {
        if !self.state.may_receive() {
            return;
        }
        let limit = self.rcv.growth.as_ref().map_or(config.first_window(), |growth| growth.limit());
        let limit = limit.min(u32::try_from(stream.capacity()).unwrap_or(u32::MAX));
        let free = u32::try_from(stream.window()).unwrap_or(u32::MAX).min(limit);
        // What the header can say, so that the edge does not seem to move back by rounding.
        let sayable = (0xffff << self.rcv.scale).min(free >> self.rcv.scale << self.rcv.scale);
        let edge = self.rcv.nxt + sayable;
        let step = edge.since(self.rcv.adv);
        let current = self.rcv.adv.since(self.rcv.nxt);
        let mss = u32::from(self.snd.mss);
        if step == 0 || (step < mss && step < limit / 2) {
            return;
        }
        self.rcv.adv = edge;
        if current < 2 * mss && step >= (2 * mss).min(limit / 2) {
            self.due.ack_now = true;
        }
    }
}

/// Asks `stream` for `len` bytes from `offset` on; gives how many it had.
fn gather<'a, S: Stream>(stream: &'a S, offset: u64, len: u32, pieces: &mut Pieces<'a>) -> u32 {
    if len == 0 || stream.maker().is_some() {
        // All that it has said there is, it can make.
        return len;
    }
    let given = stream.pieces(offset, len as usize, pieces);
    debug_assert_eq!(
        pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>(),
        given,
        "as many as it says"
    );
    debug_assert!(given <= len as usize, "the source gave more than it was asked for");
    (given as u32).min(len)
}
