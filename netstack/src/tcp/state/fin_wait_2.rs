//! FIN-WAIT-2: our direction is closed for good; the peer may still send, for as long as somebody reads.

use crate::tcp::seq::SeqNumber;
use crate::tcp::state::Next;

/// Our FIN is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FinWait2 {
    /// Sequence number of our FIN.
    pub fin: SeqNumber,
}

impl FinWait2 {
    /// RFC 9293 section 3.10.7.4, eighth step: "FIN-WAIT-2: enter the TIME-WAIT state".
    pub(crate) fn fin_received(self) -> Next {
        Next::TimeWait
    }
}
