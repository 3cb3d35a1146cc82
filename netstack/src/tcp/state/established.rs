//! ESTABLISHED: data flow both ways. Holds nothing of its own; all is in the PCB's send and receive
//! variables.

use crate::tcp::seq::SeqNumber;
use crate::tcp::state::{CloseWait, FinWait1, State};

/// Data flow both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Established;

impl Established {
    /// The peer closed first.
    pub(crate) fn fin_received(self) -> State {
        State::CloseWait(CloseWait)
    }

    /// We close first. RFC 9293 enters FIN-WAIT-1 when the user calls CLOSE and queues the FIN; here the call
    /// is the source's `is_finished()`, and nothing depends on it before the FIN has its number.
    pub(crate) fn fin_sent(self, fin: SeqNumber) -> State {
        State::FinWait1(FinWait1 { fin })
    }
}
