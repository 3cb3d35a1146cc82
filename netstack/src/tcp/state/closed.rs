//! CLOSED: no connection, hence no PCB. All that is left to do is to refuse (RFC 9293 section 3.10.7.1).

use crate::tcp::segment::{Outgoing, Segment};
use crate::tcp::seq::SeqNumber;
use crate::wire::tcp::Flags;

/// The reset that answers a segment for no connection; `None` for a reset, which is never answered.
///
/// RFC 9293 section 3.10.7.1: with ACK `<SEQ=SEG.ACK><CTL=RST>`, without
/// `<SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>`.
pub(crate) fn reset_for(segment: &Segment<'_>) -> Option<Outgoing> {
    if segment.flags.rst() {
        None
    } else if segment.flags.ack() {
        Some(Outgoing::bare(segment.ack, SeqNumber(0), Flags::RST))
    } else {
        Some(Outgoing::bare(SeqNumber(0), segment.end(), Flags::RST.with(Flags::ACK)))
    }
}
