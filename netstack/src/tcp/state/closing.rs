//! CLOSING: both FINs crossed; only the acknowledgment of ours is missing.

use crate::tcp::seq::SeqNumber;
use crate::tcp::state::Next;

/// Both FINs are out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    /// Sequence number of our FIN.
    pub fin: SeqNumber,
}

impl Closing {
    /// RFC 9293 section 3.10.7.4, fifth step: "if the ACK acknowledges our FIN, then enter the TIME-WAIT
    /// state".
    pub(crate) fn fin_acknowledged(self) -> Next {
        Next::TimeWait
    }
}
