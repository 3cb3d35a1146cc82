//! FIN-WAIT-1: our FIN is out and not acknowledged; the peer may still send.

use crate::tcp::seq::SeqNumber;
use crate::tcp::state::{Closing, FinWait2, State};

/// Our FIN is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FinWait1 {
    /// Sequence number of our FIN.
    pub fin: SeqNumber,
}

impl FinWait1 {
    /// RFC 9293 section 3.10.7.4, fifth step: "if the FIN segment is now acknowledged, then enter
    /// FIN-WAIT-2".
    pub(crate) fn fin_acknowledged(self) -> State {
        State::FinWait2(FinWait2 { fin: self.fin })
    }

    /// RFC 9293 section 3.10.7.4, eighth step: FIN received, ours not acknowledged: the FINs crossed. (Were
    /// ours acknowledged by this very segment, the fifth step would have led to FIN-WAIT-2 first.)
    pub(crate) fn fin_received(self) -> State {
        State::Closing(Closing { fin: self.fin })
    }
}
