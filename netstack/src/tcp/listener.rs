//! LISTEN and the passive half of SYN-RECEIVED: the backlog of half-open connections.
//!
//! A SYN costs one small record, never a PCB and never a call of the application: those come with the ACK
//! that proves the peer's address. The backlog is bounded; when it is full, SYNs are answered by cookies
//! (`tcp::syn_cookie`), so a flood of forged SYNs neither grows memory nor keeps anyone out (RFC 4987).

use std::num::NonZeroU32;
use std::time::Duration;

use runtime::time::Instant;
use runtime::timer_wheel::TimerId;

use crate::iface::demux::Demux;
use crate::tcp::Config;
use crate::tcp::pcb::{Agreed, challenge_is_due, syn_window, window_scale};
use crate::tcp::segment::{Outgoing, Segment};
use crate::tcp::seq::SeqNumber;
use crate::tcp::state::closed;
use crate::tcp::state::syn_sent::effective_mss;
use crate::tuple::FourTuple;
use crate::wire::tcp::{FAST_OPEN_COOKIE_LEN, FastOpen, Flags, Options, SackBlocks, Timestamps};

/// A connection in SYN-RECEIVED.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HalfOpen {
    iss: SeqNumber,
    irs: SeqNumber,
    /// What the peer offered, cut to what we take.
    mss: u16,
    window_scale: Option<u8>,
    sack_permitted: bool,
    timestamps: bool,
    ts_recent: u32,
    ts_offset: u32,
    /// Explicit congestion notification (RFC 3168 section 6.1.1).
    ecn: bool,
    /// The Fast Open cookie that the SYN-ACK gives.
    pub(crate) cookie: Option<[u8; FAST_OPEN_COOKIE_LEN]>,
    /// Bytes of the SYN that were taken, of a connection that is there already (`tcp::fast_open`).
    pub(crate) early: Option<u32>,
    /// SYN-ACKs sent again.
    retransmissions: u8,
    /// The last challenge ACK, as of a connection ([`challenge_is_due`]).
    last_challenge_ms: Option<NonZeroU32>,
    first_sent: Instant,
    /// Our link's largest payload, offered in the SYN-ACK.
    link_mss: u16,
    /// The stack's timer for the next retransmission.
    pub(crate) timer: Option<TimerId>,
    /// Tells this record from later ones of the same tuple.
    pub(crate) number: u64,
}

/// What a segment for a half-open connection calls for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// Nothing.
    Nothing,
    /// This segment.
    Send(Outgoing),
    /// This ACK, unless too many went out lately (RFC 5961 section 10).
    Challenge(Outgoing),
    /// The record is to go.
    Drop,
    /// The handshake is complete: make a PCB, then give it the segment.
    Complete(Agreed),
}

impl HalfOpen {
    /// LISTEN receives a SYN (RFC 9293 section 3.10.7.2). The segment is checked by [`on_listen`].
    pub(crate) fn new(
        now: Instant,
        segment: &Segment<'_>,
        iss: SeqNumber,
        ts_offset: u32,
        link_mss: u16,
        config: &Config,
    ) -> HalfOpen {
        let offered = &segment.options;
        HalfOpen {
            iss,
            irs: segment.seq,
            mss: effective_mss(offered.mss).min(link_mss),
            window_scale: offered.window_scale,
            sack_permitted: offered.sack_permitted && config.sack,
            timestamps: offered.timestamps.is_some() && config.timestamps,
            ts_recent: offered.timestamps.map_or(0, |timestamps| timestamps.value),
            ts_offset,
            ecn: config.ecn.agrees_to(segment.flags),
            cookie: None,
            early: None,
            retransmissions: 0,
            last_challenge_ms: None,
            first_sent: now,
            link_mss,
            timer: None,
            number: 0,
        }
    }

    /// `<SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>` with the options that the peer offered too.
    pub(crate) fn syn_ack(&self, now: Instant, config: &Config) -> Outgoing {
        let mut flags = Flags::SYN.with(Flags::ACK);
        if self.ecn {
            flags |= Flags::ECE;
        }
        Outgoing {
            options: Options {
                mss: Some(self.link_mss),
                window_scale: self.window_scale.map(|_| window_scale(config)),
                sack_permitted: self.sack_permitted,
                sack: SackBlocks::NONE,
                timestamps: self.timestamps(now),
                fast_open: self.cookie.map(FastOpen::Cookie),
            },
            window: syn_window(config),
            ..Outgoing::bare(self.iss, self.irs + 1 + self.early.unwrap_or(0), flags)
        }
    }

    fn timestamps(&self, now: Instant) -> Option<Timestamps> {
        self.timestamps.then(|| Timestamps {
            value: (now.as_millis() as u32).wrapping_add(self.ts_offset),
            echo_reply: self.ts_recent,
        })
    }

    /// An ACK of the peer's SYN: what SYN-RECEIVED answers to a segment that it cannot accept.
    fn ack(&self, now: Instant, config: &Config) -> Outgoing {
        Outgoing {
            options: Options { timestamps: self.timestamps(now), ..Options::NONE },
            window: syn_window(config),
            ..Outgoing::bare(self.iss + 1, self.irs + 1, Flags::ACK)
        }
    }

    /// That ACK, unless this record had one lately.
    fn challenge(&mut self, now: Instant, config: &Config) -> Answer {
        if challenge_is_due(&mut self.last_challenge_ms, now) {
            Answer::Challenge(self.ack(now, config))
        } else {
            Answer::Nothing
        }
    }

    /// The SYN-ACK is due again, doubled in time: the segment and when to come back; `None` when it is time
    /// to give up (RFC 9293 section 3.8.3).
    pub(crate) fn retransmit(&mut self, now: Instant, config: &Config) -> Option<(Outgoing, Duration)> {
        if self.retransmissions >= config.max_syn_retransmissions {
            return None;
        }
        self.retransmissions += 1;
        let interval = (config.initial_rto * (1 << self.retransmissions.min(16))).min(config.max_rto);
        Some((self.syn_ack(now, config), interval))
    }

    /// A segment arrives in SYN-RECEIVED (RFC 9293 section 3.10.7.4, the parts for a passive open).
    pub(crate) fn segment_arrives(&mut self, now: Instant, segment: &Segment<'_>, config: &Config) -> Answer {
        let rcv_nxt = self.irs + 1;
        let window = u32::from(syn_window(config));
        let flags = segment.flags;
        // The peer did not get our SYN-ACK: its SYN again, which is also the fourth step's exception.
        if flags.syn() && !flags.ack() && !flags.rst() && segment.seq == self.irs {
            // RFC 3168 section 6.1.1.1: it may have given up asking.
            self.ecn &= config.ecn.agrees_to(flags);
            return Answer::Send(self.syn_ack(now, config));
        }
        // RFC 7323 section 3.2.
        if self.timestamps && segment.options.timestamps.is_none() && !flags.rst() && !flags.syn() {
            return Answer::Nothing;
        }
        // RFC 7323 section 5.3 R1.
        let old = self.timestamps
            && segment
                .options
                .timestamps
                .is_some_and(|timestamps| (timestamps.value.wrapping_sub(self.ts_recent) as i32) < 0);
        // First: sequence number.
        let acceptable = segment.seq.in_window(rcv_nxt, window);
        if !acceptable || (old && !flags.rst()) {
            return if flags.rst() { Answer::Nothing } else { self.challenge(now, config) };
        }
        // Second: RST. "If this connection was initiated with a passive OPEN, return to LISTEN", by RFC 5961
        // only at exactly RCV.NXT.
        if flags.rst() {
            return if segment.seq == rcv_nxt { Answer::Drop } else { Answer::Nothing };
        }
        // Fourth: SYN: challenge (RFC 5961 section 4.2).
        if flags.syn() {
            return self.challenge(now, config);
        }
        // Fifth: ACK: "if SND.UNA < SEG.ACK =< SND.NXT then enter ESTABLISHED; if not acceptable, form a
        // reset".
        if !flags.ack() {
            return Answer::Nothing;
        }
        if segment.ack != self.iss + 1 {
            return closed::reset_for(segment).map_or(Answer::Nothing, Answer::Send);
        }
        Answer::Complete(self.agreed(
            now,
            u32::from(segment.window) << self.window_scale.unwrap_or(0),
            config,
        ))
    }

    /// A segment arrives for a connection that began before its handshake was complete; `snd_max` is what it
    /// has sent. `None`: it is the connection's, as any other.
    pub(crate) fn early_segment_arrives(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        snd_max: SeqNumber,
        config: &Config,
    ) -> Option<Answer> {
        let flags = segment.flags;
        if flags.syn() && !flags.ack() && !flags.rst() && segment.seq == self.irs {
            return Some(Answer::Send(self.syn_ack(now, config)));
        }
        if flags.rst() || !flags.ack() {
            return None;
        }
        if segment.ack.gt(self.iss) && segment.ack.le(snd_max) {
            return Some(Answer::Complete(self.agreed(now, 0, config)));
        }
        Some(closed::reset_for(segment).map_or(Answer::Nothing, Answer::Send))
    }

    /// What the handshake agreed on, or will have.
    pub(crate) fn agreed(&self, now: Instant, snd_wnd: u32, config: &Config) -> Agreed {
        let lost = self.retransmissions > 0;
        Agreed {
            iss: self.iss,
            irs: self.irs,
            snd_wnd,
            mss: self.mss,
            snd_scale: self.window_scale.unwrap_or(0),
            rcv_scale: if self.window_scale.is_some() { window_scale(config) } else { 0 },
            sack_permitted: self.sack_permitted,
            timestamps: self.timestamps,
            ts_recent: self.ts_recent,
            ts_offset: self.ts_offset,
            ecn: self.ecn,
            syn_was_lost: lost,
            rtt: (!lost).then(|| now.saturating_since(self.first_sent)),
        }
    }
}

/// LISTEN receives a segment (RFC 9293 section 3.10.7.2): whether it is a SYN to answer, and the reset if it
/// is not.
pub(crate) fn on_listen(segment: &Segment<'_>) -> Result<(), Option<Outgoing>> {
    let flags = segment.flags;
    if flags.rst() {
        // First: "an incoming RST should be ignored".
        Err(None)
    } else if flags.ack() {
        // Second: "any acknowledgment is bad if it arrives on a connection still in the LISTEN state".
        Err(closed::reset_for(segment))
    } else if flags.syn() && !flags.fin() {
        // Third: SYN. One with FIN is a scan's, not a client's.
        Ok(())
    } else {
        Err(None)
    }
}

/// The half-open connections of a stack, bounded.
#[derive(Debug)]
pub(crate) struct Backlog {
    records: Demux<HalfOpen>,
    numbers: u64,
    capacity: usize,
    early: usize,
}

impl Backlog {
    pub(crate) fn new(secret: [u8; 16], capacity: usize) -> Backlog {
        Backlog { records: Demux::new(secret), numbers: 0, capacity, early: 0 }
    }

    /// Whether the next SYN must do without a record.
    pub(crate) fn is_full(&self) -> bool {
        self.records.len() >= self.capacity
    }

    /// Adds a record, unless the backlog [is full](Backlog::is_full). Returns its number, which tells it from
    /// later ones of the same tuple.
    pub(crate) fn insert(&mut self, tuple: FourTuple, mut record: HalfOpen) -> u64 {
        debug_assert!(!self.is_full());
        self.numbers += 1;
        record.number = self.numbers;
        self.early += usize::from(record.early.is_some());
        self.records.insert(tuple, record);
        self.numbers
    }

    pub(crate) fn get_mut(&mut self, tuple: &FourTuple) -> Option<&mut HalfOpen> {
        self.records.get_mut(tuple)
    }

    pub(crate) fn remove(&mut self, tuple: &FourTuple) -> Option<HalfOpen> {
        let record = self.records.remove(tuple)?;
        self.early -= usize::from(record.early.is_some());
        Some(record)
    }

    /// Takes out all records of IPv4, or of IPv6.
    pub(crate) fn take(&mut self, of_ipv4: bool) -> Vec<HalfOpen> {
        let taken = self.records.take(of_ipv4);
        self.early -= taken.iter().filter(|record| record.early.is_some()).count();
        taken
    }

    /// How many are of connections that are there already.
    pub(crate) fn early(&self) -> usize {
        self.early
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }
}
