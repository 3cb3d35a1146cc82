//! A TCP segment as the state machine sees it: numbers from a header that is already checked, and a borrowed
//! payload.
//!
//! Bytes on the wire are [`crate::wire::tcp`]'s matter.

use crate::tcp::seq::SeqNumber;
use crate::wire::tcp::{Flags, Options, Repr};

/// A segment that arrived (RFC 9293 section 3.3.1, "current segment variables").
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    /// SEG.SEQ.
    pub seq: SeqNumber,
    /// SEG.ACK; counts only with the ACK flag.
    pub ack: SeqNumber,
    /// Control bits.
    pub flags: Flags,
    /// SEG.WND as in the header, not scaled.
    pub window: u16,
    /// The urgent pointer as in the header; counts only with the URG flag.
    pub urgent: u16,
    /// Options.
    pub options: Options,
    /// Text.
    pub payload: &'a [u8],
    /// A router has marked its packet: congestion experienced (RFC 3168 section 5).
    pub is_congested: bool,
}

impl<'a> Segment<'a> {
    /// A segment from its parsed header and its payload.
    pub(crate) fn new(header: &Repr, urgent: u16, payload: &'a [u8], is_congested: bool) -> Segment<'a> {
        Segment {
            seq: SeqNumber(header.seq_number),
            ack: SeqNumber(header.ack_number),
            flags: header.flags,
            window: header.window,
            urgent,
            options: header.options,
            payload,
            is_congested,
        }
    }

    /// SEG.UP, the sequence number behind the last byte of urgent data (RFC 9293 section 3.8.5), if there are
    /// any.
    pub(crate) fn urgent_end(&self) -> Option<SeqNumber> {
        let is_urgent = self.flags.contains(Flags::URG) && self.urgent > 0;
        is_urgent.then(|| self.seq + u32::from(self.urgent))
    }

    /// SEG.LEN: sequence numbers that the segment takes, SYN and FIN counted.
    pub(crate) fn len(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.flags.syn()) + u32::from(self.flags.fin())
    }

    /// Whether the segment takes no sequence number (a bare ACK, a reset).
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sequence number after the segment's last.
    pub(crate) fn end(&self) -> SeqNumber {
        self.seq + self.len()
    }
}

/// A segment to be sent; its payload stays with the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// SEG.SEQ.
    pub seq: SeqNumber,
    /// SEG.ACK; zero without the ACK flag.
    pub ack: SeqNumber,
    /// Control bits. FIN and PSH belong to the last segment if the device cuts this one up.
    pub flags: Flags,
    /// SEG.WND as in the header, scaled.
    pub window: u16,
    /// Options.
    pub options: Options,
    /// Offset in the stream of the first payload byte.
    pub offset: u64,
    /// Payload bytes; more than `mss` only if the device segments.
    pub len: u32,
    /// Largest payload of a single segment on the wire with these options.
    pub mss: u16,
    /// Whether routers may cut its packets: the path carries less than the smallest segment that we go down
    /// to.
    pub may_fragment: bool,
    /// Whether routers may mark its packets in place of dropping some (RFC 3168 section 5: ECT(0)).
    pub may_mark: bool,
}

impl Outgoing {
    /// A segment without payload, window or options: the form of resets.
    pub(crate) const fn bare(seq: SeqNumber, ack: SeqNumber, flags: Flags) -> Outgoing {
        Outgoing {
            seq,
            ack,
            flags,
            window: 0,
            options: Options::NONE,
            offset: 0,
            len: 0,
            mss: 0,
            may_fragment: false,
            may_mark: false,
        }
    }
}
