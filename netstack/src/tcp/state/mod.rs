//! The states of a connection (RFC 9293 section 3.3.2), one file each: what a state holds beside the common
//! variables of the PCB, and where it goes. What all synchronised states do with a segment is in
//! [`synchronized`], in the order of RFC 9293 section 3.10.7.4.
//!
//! ```text
//!                 listener.rs                        (passive opens live in the backlog until their last ACK)
//!   SYN-SENT --> SYN-RECEIVED --> ESTABLISHED --> CLOSE-WAIT --> LAST-ACK --> (closed)
//!                                    |  FIN sent         FIN received
//!                                    v
//!                                FIN-WAIT-1 --> FIN-WAIT-2 --> time_wait.rs (a record of its own)
//!                                    |                             ^
//!                                    +--------> CLOSING -----------+
//! ```
//!
//! LISTEN is the listener's, CLOSED is the absence of a PCB ([`closed`]) and TIME-WAIT a compact record: none
//! of the three is a state of a PCB. (But TIME-WAIT is one where
//! [`crate::stack::Features::time_wait_records`] is off.)

pub(crate) mod close_wait;
pub(crate) mod closed;
pub(crate) mod closing;
pub(crate) mod established;
pub(crate) mod fin_wait_1;
pub(crate) mod fin_wait_2;
pub(crate) mod last_ack;
pub(crate) mod syn_received;
pub(crate) mod syn_sent;
pub(crate) mod synchronized;

pub(crate) use close_wait::CloseWait;
pub(crate) use closing::Closing;
pub(crate) use established::Established;
pub(crate) use fin_wait_1::FinWait1;
pub(crate) use fin_wait_2::FinWait2;
pub(crate) use last_ack::LastAck;
pub(crate) use syn_received::SynReceived;
pub(crate) use syn_sent::SynSent;

use crate::tcp::CloseReason;
use crate::tcp::segment::Outgoing;
use crate::tcp::seq::SeqNumber;

/// The state of a PCB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Our SYN is out.
    SynSent(SynSent),
    /// Both SYNs crossed (simultaneous open).
    SynReceived(SynReceived),
    /// Data flow both ways.
    Established(Established),
    /// Our FIN is out.
    FinWait1(FinWait1),
    /// Our FIN is acknowledged; the peer may still send.
    FinWait2(FinWait2),
    /// The peer's FIN is in; we may still send.
    CloseWait(CloseWait),
    /// Both FINs crossed; ours is not acknowledged.
    Closing(Closing),
    /// The peer closed first, our FIN is out.
    LastAck(LastAck),
    /// Both FINs are through and acknowledged; the block is kept in case the last ACK was lost.
    TimeWait,
    /// Over. Only between the last event and the application's notice of it.
    Closed,
}

/// What became of a connection through an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Disposition {
    /// It goes on; there may be something to send.
    Continue,
    /// It goes on, and this (a reset) answers the segment.
    Reply(Outgoing),
    /// It is over but for TIME-WAIT.
    TimeWait,
    /// It is over.
    Closed(CloseReason),
}

/// Where a FIN, or its acknowledgment, leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// To another state.
    State(State),
    /// To TIME-WAIT: the PCB may go.
    TimeWait,
    /// To CLOSED.
    Closed,
}

impl State {
    /// The sequence number of our FIN, once sent.
    pub(crate) fn fin(&self) -> Option<SeqNumber> {
        match *self {
            State::FinWait1(FinWait1 { fin })
            | State::Closing(Closing { fin })
            | State::LastAck(LastAck { fin }) => Some(fin),
            State::FinWait2(FinWait2 { fin }) => Some(fin),
            _ => None,
        }
    }

    /// Whether new data (or a FIN) may be sent.
    pub(crate) fn may_send(&self) -> bool {
        matches!(self, State::Established(_) | State::CloseWait(_))
    }

    /// Whether the peer may still send data.
    pub(crate) fn may_receive(&self) -> bool {
        matches!(self, State::Established(_) | State::FinWait1(_) | State::FinWait2(_))
    }

    /// Whether both sides know each other's sequence numbers.
    pub(crate) fn is_synchronized(&self) -> bool {
        !matches!(self, State::SynSent(_) | State::SynReceived(_) | State::Closed)
    }

    /// The state after our FIN went out at `fin`; only from a state that [may send](State::may_send).
    pub(crate) fn fin_sent(self, fin: SeqNumber) -> State {
        match self {
            State::Established(state) => state.fin_sent(fin),
            State::CloseWait(state) => state.fin_sent(fin),
            other => other,
        }
    }

    /// After the peer's FIN, all before it received (RFC 9293 section 3.10.7.4, eighth step).
    pub(crate) fn fin_received(self) -> Next {
        match self {
            State::Established(state) => Next::State(state.fin_received()),
            State::FinWait1(state) => Next::State(state.fin_received()),
            State::FinWait2(state) => state.fin_received(),
            other => Next::State(other),
        }
    }

    /// After our FIN was acknowledged (RFC 9293 section 3.10.7.4, fifth step).
    pub(crate) fn fin_acknowledged(self) -> Next {
        match self {
            State::FinWait1(state) => Next::State(state.fin_acknowledged()),
            State::Closing(state) => state.fin_acknowledged(),
            State::LastAck(state) => state.fin_acknowledged(),
            other => Next::State(other),
        }
    }

    /// The RFC's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            State::SynSent(_) => "SYN-SENT",
            State::SynReceived(_) => "SYN-RECEIVED",
            State::Established(_) => "ESTABLISHED",
            State::FinWait1(_) => "FIN-WAIT-1",
            State::FinWait2(_) => "FIN-WAIT-2",
            State::CloseWait(_) => "CLOSE-WAIT",
            State::Closing(_) => "CLOSING",
            State::LastAck(_) => "LAST-ACK",
            State::TimeWait => "TIME-WAIT",
            State::Closed => "CLOSED",
        }
    }
}
