//! Congestion control: how many bytes may be on their way (RFC 5681). What is lost and what to send again is
//! `tcp::retransmit`'s matter; the two meet in "pipe", the bytes believed to be in the network.

use std::fmt;

pub(super) mod new_reno;

pub(super) use new_reno::NewReno;

/// The window of one connection, in bytes, as events move it. Whatever decides on it, these are all it is told.
pub(crate) trait CongestionControl: fmt::Debug {
    /// cwnd: bytes that may be in the network.
    fn window(&self) -> u32;

    /// Whether `flight` bytes in flight make use of the window; one that is not used is no reason to enlarge it.
    fn is_used(&self, flight: u32) -> bool;

    /// New data acknowledged outside of fast recovery, while the window was in fact used.
    fn acknowledged(&mut self, bytes: u32);

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
    fn set_smss(&mut self, smss: u32);
}

/// Which algorithm connections use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// RFC 5681 and 6582.
    #[default]
    NewReno,
}

/// A connection's algorithm and its state, kept in the PCB.
#[derive(Clone, Debug)]
pub(crate) enum Controller {
    NewReno(NewReno),
}

impl Controller {
    pub(crate) fn new(algorithm: Algorithm, smss: u32, initial_segments: u32) -> Controller {
        match algorithm {
            Algorithm::NewReno => Controller::NewReno(NewReno::new(smss, initial_segments)),
        }
    }
}

impl std::ops::Deref for Controller {
    type Target = dyn CongestionControl;

    fn deref(&self) -> &(dyn CongestionControl + 'static) {
        match self {
            Controller::NewReno(control) => control,
        }
    }
}

impl std::ops::DerefMut for Controller {
    fn deref_mut(&mut self) -> &mut (dyn CongestionControl + 'static) {
        match self {
            Controller::NewReno(control) => control,
        }
    }
}
