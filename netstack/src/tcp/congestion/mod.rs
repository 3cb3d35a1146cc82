//! Congestion control: how many bytes may be on their way (RFC 5681). What is lost and what to send again is
//! `tcp::retransmit`'s matter; the two meet in "pipe", the bytes believed to be in the network.

use std::fmt;

use runtime::time::Instant;

use crate::tcp::seq::SeqNumber;

mod cubic;
mod hystart;
mod new_reno;

use cubic::Cubic;
use new_reno::NewReno;

/// More than any receiver's window; keeps sums far from overflow. A threshold that no loss has set yet.
const MAX_CWND: u32 = 1 << 30;

/// RFC 6928 section 2: IW = min (10*MSS, max (2*MSS, 14600)).
fn initial_window(smss: u16, segments: u32) -> u32 {
    let smss = u32::from(smss);
    (segments * smss).min((2 * smss).max(14_600))
}

/// Whether `flight` bytes make use of `cwnd`. Half of it does in slow start, where it would double anyway
/// before they came back.
fn window_is_used(cwnd: u32, ssthresh: u32, flight: u32, smss: u32) -> bool {
    if cwnd < ssthresh { flight >= cwnd / 2 } else { flight + 2 * smss >= cwnd }
}

/// An ACK of new data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    pub(crate) now: Instant,
    /// How many.
    pub(crate) bytes: u32,
    /// The round trip of the earliest segment acknowledged, if it was sent but once; in microseconds.
    pub(crate) rtt_us: Option<u32>,
    /// The smoothed round trip; zero before the first sample.
    pub(crate) srtt_us: u32,
    /// SND.UNA, after it, and SND.NXT: when what is sent next is acknowledged, a round is over.
    pub(crate) una: SeqNumber,
    pub(crate) max: SeqNumber,
}

/// The window of one connection, in bytes, as events move it. Whatever decides on it, these are all it is
/// told.
pub(crate) trait CongestionControl: fmt::Debug {
    /// cwnd: bytes that may be in the network.
    fn window(&self) -> u32;

    /// Whether `flight` bytes in flight make use of the window; one that is not used is no reason to enlarge
    /// it.
    fn is_used(&self, flight: u32) -> bool;

    /// Whether the window is far below what stands for the path, and about to double.
    fn is_in_slow_start(&self) -> bool;

    /// New data acknowledged outside of fast recovery, while the window was in fact used.
    fn acknowledged(&mut self, ack: &Acked);

    /// New data acknowledged while the window was not used.
    fn unused(&mut self);

    /// A loss has shown with `flight` bytes in flight: fast recovery begins.
    fn enter_recovery(&mut self, flight: u32);

    /// Fast recovery is over; `flight` bytes are in flight.
    fn leave_recovery(&mut self, flight: u32);

    /// Retransmission time-out; `first` for the first of the same data.
    fn timed_out(&mut self, flight: u32, first: bool);

    /// The SYN or SYN-ACK was lost.
    fn syn_was_lost(&mut self);

    /// Nothing was sent for longer than an RTO, so what the window says is stale.
    fn restart_after_idle(&mut self, initial_segments: u32);

    /// The path's largest segment is another.
    fn set_smss(&mut self, smss: u16);
}

/// Which algorithm connections use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// RFC 5681 and 6582, with RFC 9406.
    #[default]
    NewReno,
    /// RFC 9438, with RFC 9406.
    Cubic,
}

/// A connection's algorithm and its state, kept in the PCB.
#[derive(Clone, Debug)]
pub(crate) enum Controller {
    NewReno(NewReno),
    Cubic(Cubic),
}

impl Controller {
    pub(crate) fn new(algorithm: Algorithm, smss: u16, initial_segments: u32) -> Controller {
        match algorithm {
            Algorithm::NewReno => Controller::NewReno(NewReno::new(smss, initial_segments)),
            Algorithm::Cubic => Controller::Cubic(Cubic::new(smss, initial_segments)),
        }
    }
}

impl std::ops::Deref for Controller {
    type Target = dyn CongestionControl;

    fn deref(&self) -> &(dyn CongestionControl + 'static) {
        match self {
            Controller::NewReno(control) => control,
            Controller::Cubic(control) => control,
        }
    }
}

impl std::ops::DerefMut for Controller {
    fn deref_mut(&mut self) -> &mut (dyn CongestionControl + 'static) {
        match self {
            Controller::NewReno(control) => control,
            Controller::Cubic(control) => control,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is part of every connection, most of which are idle.
    #[test]
    fn a_connections_congestion_control_stays_small() {
        assert!(size_of::<Controller>() <= 44, "{}", size_of::<Controller>());
    }
}
