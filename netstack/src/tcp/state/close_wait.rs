//! CLOSE-WAIT: the peer has closed its direction; we send until the source is finished.

use crate::tcp::seq::SeqNumber;
use crate::tcp::state::{LastAck, State};

/// The peer's FIN is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CloseWait;

impl CloseWait {
    /// RFC 9293 section 3.10.4, CLOSE in CLOSE-WAIT: send the FIN, enter LAST-ACK.
    pub(crate) fn fin_sent(self, fin: SeqNumber) -> State {
        State::LastAck(LastAck { fin })
    }
}
