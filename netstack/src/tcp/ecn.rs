//! Explicit congestion notification (RFC 3168, section 6.1): routers mark packets where they would have to
//! drop some, and the receiver tells the sender, who answers as to a loss, without one.
//!
//! ```text
//!   sender --ECT(0)--> router --CE--> receiver
//!          <-- ECE on every ACK ----'              until CWR
//!   window reduced, CWR with the next new data --> no ECE any more
//! ```

use crate::tcp::seq::SeqNumber;
use crate::wire::tcp::Flags;

/// Whether connections use explicit congestion notification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EcnUse {
    /// Neither asked for nor agreed to.
    Off,
    /// Agreed to where the peer asks.
    #[default]
    Passive,
    /// Asked for, too.
    Active,
}

/// What a SYN that asks for it carries, and of that what a SYN-ACK that agrees does.
const SETUP: Flags = Flags::ECE.with(Flags::CWR);

impl EcnUse {
    /// The flags that a SYN has beside (section 6.1.1); one that is sent again has none (6.1.1.1), for there
    /// are firewalls that drop what they do not know.
    pub(crate) fn syn_flags(self, is_first: bool) -> Flags {
        if self == EcnUse::Active && is_first { SETUP } else { Flags::NONE }
    }

    /// Whether to agree to what a SYN with these flags asks for.
    pub(crate) fn agrees_to(self, syn: Flags) -> bool {
        self != EcnUse::Off && syn.contains(SETUP)
    }
}

/// Whether a SYN-ACK with these flags agrees to what we asked for. With CWR it is a reflection.
pub(crate) fn is_agreed(syn_ack: Flags) -> bool {
    syn_ack.contains(Flags::ECE) && !syn_ack.contains(Flags::CWR)
}

/// Both halves of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ecn {
    is_agreed: bool,
    /// A mark has arrived, and the peer has not said yet that it answered.
    is_marked: bool,
    /// The window was reduced: the next new data tell.
    cwr_is_due: bool,
    /// SND.NXT when it was reduced last: what is told of earlier data tells of the same congestion.
    reduced_at: SeqNumber,
}

impl Ecn {
    /// What a handshake agreed on; `iss` is our initial sequence number.
    pub(crate) fn new(is_agreed: bool, iss: SeqNumber) -> Ecn {
        Ecn { is_agreed, is_marked: false, cwr_is_due: false, reduced_at: iss }
    }

    /// Section 6.1.3: an acceptable segment has arrived, with the router's mark or without. Whether the peer
    /// should hear of it at once.
    pub(crate) fn arrived(&mut self, flags: Flags, is_congested: bool, has_text: bool) -> bool {
        if !self.is_agreed || !has_text {
            return false;
        }
        if flags.contains(Flags::CWR) {
            self.is_marked = false;
        }
        let is_new = is_congested && !self.is_marked;
        self.is_marked |= is_congested;
        is_new
    }

    /// Section 6.1.2: whether an ACK with these flags is no reason to enlarge the window.
    pub(crate) fn is_told(&self, flags: Flags) -> bool {
        self.is_agreed && flags.contains(Flags::ECE)
    }

    /// Whether it is one to reduce it: once for the data of a round trip.
    pub(crate) fn must_reduce(&mut self, flags: Flags, ack: SeqNumber) -> bool {
        if self.is_told(flags) {
            return ack.gt(self.reduced_at);
        }
        // It must not fall half a circle behind, or it would seem to lie ahead.
        self.reduced_at = self.reduced_at.max(ack - 1);
        false
    }

    /// The window was reduced, for whatever reason; `max` is SND.NXT.
    pub(crate) fn reduced(&mut self, max: SeqNumber) {
        self.cwr_is_due = self.is_agreed;
        self.reduced_at = max;
    }

    /// Whether the next new data are to carry CWR.
    pub(crate) fn cwr_is_due(&self) -> bool {
        self.cwr_is_due
    }

    /// New data with those flags go out: whether they may be marked on their way. Not so what is sent again,
    /// and what has no data (sections 6.1.4 to 6.1.6).
    pub(crate) fn sent_new(&mut self) -> bool {
        self.cwr_is_due = false;
        self.is_agreed
    }

    /// Flags that every segment carries beside.
    pub(crate) fn echo(&self) -> Flags {
        if self.is_marked { Flags::ECE } else { Flags::NONE }
    }
}
