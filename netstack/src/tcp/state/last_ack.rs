//! LAST-ACK: the peer closed first and our FIN is out; its acknowledgment ends the connection. The peer is
//! the one that keeps TIME-WAIT.

use crate::tcp::seq::SeqNumber;
use crate::tcp::state::Next;

/// Our FIN, the second, is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastAck {
    /// Sequence number of our FIN.
    pub fin: SeqNumber,
}

impl LastAck {
    /// RFC 9293 section 3.10.7.4, fifth step: "if our FIN is now acknowledged, delete the TCB, enter the
    /// CLOSED state".
    pub(crate) fn fin_acknowledged(self) -> Next {
        Next::Closed
    }
}
