//! TIME-WAIT as a compact record in a table of its own: the application's record and the PCB are free as soon
//! as both FINs are through (Faber, Touch, Yue, *The TIME-WAIT State in TCP and Its Effect on Busy Servers*,
//! 1999).
//!
//! All records last equally long, so they expire in the order in which they came: a queue, no timers.

use std::collections::VecDeque;
use std::time::Duration;

use runtime::time::Instant;

use crate::iface::demux::Demux;
use crate::tcp::segment::{Outgoing, Segment};
use crate::tcp::seq::SeqNumber;
use crate::tcp::state::closed;
use crate::tuple::FourTuple;
use crate::wire::tcp::{Flags, Options, Timestamps};

/// What is left of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// SND.NXT.
    pub snd_nxt: SeqNumber,
    /// RCV.NXT.
    pub rcv_nxt: SeqNumber,
    /// TS.Recent and our timestamp clock's offset, if timestamps were on.
    pub timestamps: Option<(u32, u32)>,
    /// The window last announced, as in the header.
    pub window: u16,
}

/// What a segment for a connection in TIME-WAIT calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing.
    Nothing,
    /// This segment.
    Send(Outgoing),
    /// This segment, and TIME-WAIT begins anew: what came is the peer's FIN once more.
    Restart(Outgoing),
    /// The peer begins a new connection: treat the SYN as in LISTEN, with an initial sequence number after
    /// this one.
    Reopen {
        /// The old connection's SND.NXT.
        after: SeqNumber,
    },
}

/// All connections in TIME-WAIT.
#[derive(Debug)]
pub(crate) struct TimeWait {
    records: Demux<Entry>,
    /// By expiry. A tuple's place is void when its entry has another number (reopened, or restarted by a
    /// FIN).
    queue: VecDeque<(Instant, u64, FourTuple)>,
    numbers: u64,
    capacity: usize,
    duration: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    record: Record,
    number: u64,
}

impl TimeWait {
    /// An empty table for at most `capacity` records that last `duration`.
    pub(crate) fn new(secret: [u8; 16], capacity: usize, duration: Duration) -> TimeWait {
        TimeWait { records: Demux::new(secret), queue: VecDeque::new(), numbers: 0, capacity, duration }
    }

    /// Begins (or restarts) a TIME-WAIT. A full table forgets its oldest.
    pub(crate) fn insert(&mut self, now: Instant, tuple: FourTuple, record: Record) {
        if self.capacity == 0 {
            return;
        }
        while self.records.len() >= self.capacity && !self.records.contains(&tuple) {
            let Some((_, number, oldest)) = self.queue.pop_front() else { break };
            self.forget(number, &oldest);
        }
        self.numbers += 1;
        self.records.insert(tuple, Entry { record, number: self.numbers });
        self.queue.push_back((now + self.duration, self.numbers, tuple));
        // Restarts leave void places behind. Each live record has one live place, so this bounds the queue.
        if self.queue.len() > 2 * self.records.len() + 64 {
            let records = &self.records;
            self.queue.retain(|(_, number, tuple)| records.get(tuple).is_some_and(|e| e.number == *number));
        }
    }

    /// A segment arrives. `None`: this connection is not in TIME-WAIT.
    pub(crate) fn segment_arrives(
        &mut self,
        now: Instant,
        tuple: &FourTuple,
        segment: &Segment<'_>,
    ) -> Option<Answer> {
        let Entry { record, .. } = *self.records.get(tuple)?;
        let answer = record.segment_arrives(now, segment);
        match answer {
            Answer::Restart(_) => self.insert(now, *tuple, record),
            Answer::Reopen { .. } => {
                self.records.remove(tuple);
            }
            Answer::Nothing | Answer::Send(_) => {}
        }
        Some(answer)
    }

    /// Ends what has lasted long enough.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.queue.front().is_some_and(|&(at, ..)| at <= now) {
            if let Some((_, number, tuple)) = self.queue.pop_front() {
                self.forget(number, &tuple);
            }
        }
    }

    /// When [`TimeWait::expire`] has something to do.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.queue.front().map(|&(at, ..)| at)
    }

    /// Whether the connection is in TIME-WAIT.
    pub(crate) fn contains(&self, tuple: &FourTuple) -> bool {
        self.records.contains(tuple)
    }

    /// Number of records.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    fn forget(&mut self, number: u64, tuple: &FourTuple) {
        if self.records.get(tuple).is_some_and(|entry| entry.number == number) {
            self.records.remove(tuple);
        }
    }
}

impl Record {
    /// A segment arrives (RFC 9293 section 3.10.7.4, the TIME-WAIT parts; RFC 6191 and RFC 9293 section 3.6.1
    /// for SYNs).
    pub(crate) fn segment_arrives(&self, now: Instant, segment: &Segment<'_>) -> Answer {
        let flags = segment.flags;
        if flags.rst() {
            // RFC 1337: a reset must not end TIME-WAIT; it would let old duplicates in.
            return Answer::Nothing;
        }
        if flags.syn() && !flags.ack() {
            let newer = match (segment.options.timestamps, self.timestamps) {
                (Some(theirs), Some((recent, _))) if theirs.value != recent => {
                    theirs.value.wrapping_sub(recent) as i32 > 0
                }
                _ => segment.seq.gt(self.rcv_nxt),
            };
            if newer {
                return Answer::Reopen { after: self.snd_nxt };
            }
        }
        if flags.ack() && segment.ack.gt(self.snd_nxt) {
            return closed::reset_for(segment).map_or(Answer::Nothing, Answer::Send);
        }
        if segment.is_empty() {
            return Answer::Nothing;
        }
        // "The only thing that can arrive in this state is a retransmission of the remote FIN. Acknowledge
        // it, and restart the 2 MSL timeout."
        if flags.fin() { Answer::Restart(self.ack(now)) } else { Answer::Send(self.ack(now)) }
    }

    fn ack(&self, now: Instant) -> Outgoing {
        let timestamps = self.timestamps.map(|(recent, offset)| Timestamps {
            value: (now.as_millis() as u32).wrapping_add(offset),
            echo_reply: recent,
        });
        Outgoing {
            window: self.window,
            options: Options { timestamps, ..Options::NONE },
            ..Outgoing::bare(self.snd_nxt, self.rcv_nxt, Flags::ACK)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    fn tuple(port: u16) -> FourTuple {
        FourTuple::ipv4(
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80),
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), port),
        )
    }

    const RECORD: Record =
        Record { snd_nxt: SeqNumber(1000), rcv_nxt: SeqNumber(5000), timestamps: None, window: 100 };

    fn segment(seq: u32, ack: u32, flags: Flags) -> Segment<'static> {
        Segment {
            seq: SeqNumber(seq),
            ack: SeqNumber(ack),
            flags,
            window: 0,
            urgent: 0,
            options: Options::NONE,
            payload: &[],
            is_congested: false,
        }
    }

    fn table(capacity: usize) -> TimeWait {
        TimeWait::new([1; 16], capacity, Duration::from_secs(10))
    }

    #[test]
    fn a_retransmitted_fin_is_acknowledged_and_restarts_the_time() {
        let mut table = table(8);
        table.insert(Instant::ZERO, tuple(1), RECORD);
        let fin = segment(4999, 1000, Flags::FIN.with(Flags::ACK));
        let answer = table.segment_arrives(Instant::from_millis(6000), &tuple(1), &fin);
        let ack = Outgoing { window: 100, ..Outgoing::bare(SeqNumber(1000), SeqNumber(5000), Flags::ACK) };
        assert_eq!(answer, Some(Answer::Restart(ack)));
        table.expire(Instant::from_millis(10_000));
        assert_eq!(table.len(), 1);
        table.expire(Instant::from_millis(16_000));
        assert!(table.len() == 0 && table.next_expiry().is_none());
    }

    #[test]
    fn resets_do_not_assassinate() {
        let mut table = table(8);
        table.insert(Instant::ZERO, tuple(1), RECORD);
        let rst = segment(5000, 1000, Flags::RST.with(Flags::ACK));
        assert_eq!(table.segment_arrives(Instant::ZERO, &tuple(1), &rst), Some(Answer::Nothing));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn only_a_newer_syn_reopens() {
        let mut table = table(8);
        table.insert(Instant::ZERO, tuple(1), RECORD);
        let old = segment(4000, 0, Flags::SYN);
        assert!(matches!(table.segment_arrives(Instant::ZERO, &tuple(1), &old), Some(Answer::Send(_))));
        let new = segment(5001, 0, Flags::SYN);
        assert_eq!(
            table.segment_arrives(Instant::ZERO, &tuple(1), &new),
            Some(Answer::Reopen { after: SeqNumber(1000) })
        );
        assert_eq!(table.segment_arrives(Instant::ZERO, &tuple(1), &new), None);
    }

    #[test]
    fn bounded_in_records_and_in_places() {
        let mut table = table(4);
        for port in 1..100 {
            table.insert(Instant::ZERO, tuple(port), RECORD);
        }
        assert_eq!(table.len(), 4);
        assert!(table.contains(&tuple(99)) && !table.contains(&tuple(95)));
        let fin = segment(4999, 1000, Flags::FIN.with(Flags::ACK));
        for ms in 0..10_000 {
            table.segment_arrives(Instant::from_millis(ms), &tuple(99), &fin);
            assert!(table.queue.len() <= 2 * 4 + 64 + 1);
        }
    }
}
