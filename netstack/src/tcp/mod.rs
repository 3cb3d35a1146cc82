//! The Transmission Control Protocol, RFC 9293, as pure state machines: segments and time in, segments out.

use std::time::Duration;

pub(crate) mod seq;

pub(crate) mod isn;
pub(crate) mod segment;
mod stream;

pub(crate) mod listener;
pub(crate) mod pcb;
pub(crate) mod state;
pub(crate) mod syn_cookie;
pub(crate) mod time_wait;

mod assembler;
pub(crate) mod challenge;
mod congestion;
mod ecn;
pub(crate) mod fast_open;
mod in_flight;
mod output;
mod pacing;
mod prr;
mod rack;
mod retransmit;
mod rtt;
mod send_records;
pub(crate) mod timers;
mod undo;
mod window_growth;

pub use congestion::Algorithm;
pub use ecn::EcnUse;
pub use pcb::Pcb;
pub use stream::{CloseReason, Stream};

/// How connections behave; shared by all of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// First retransmission time-out (RFC 6298 rule 2.1: 1 s).
    pub initial_rto: Duration,
    /// Smallest retransmission time-out. RFC 6298 rule 2.4 says 1 s; all current stacks go lower.
    pub min_rto: Duration,
    /// Largest retransmission time-out (RFC 6298 rule 2.5: at least 60 s).
    pub max_rto: Duration,
    /// How long a peer may keep back the ACK of a single segment: what a probe for it waits beside two round
    /// trips (RFC 8985 section 7.2, TLP.max_ack_delay: 200 ms where nothing is known). All stacks of today
    /// acknowledge within 40 ms or 50; one that does not gets a segment twice now and then.
    pub max_ack_delay: Duration,
    /// Retransmissions of the same data before the connection is given up (RFC 9293 section 3.8.3, R2).
    pub max_retransmissions: u8,
    /// How long data, or a shut window, may go without progress before the connection is given up, whatever
    /// the count of retransmissions (RFC 9293 section 3.8.3, the user time-out); `None`: the count alone
    /// decides.
    pub user_timeout: Option<Duration>,
    /// Retransmissions of a SYN or SYN-ACK before it is given up.
    pub max_syn_retransmissions: u8,
    /// How long an ACK may wait for company (RFC 9293 section 3.8.6.3: less than 0.5 s).
    pub delayed_ack: Duration,
    /// Silence after which the peer is probed (RFC 9293 section 3.8.4); `None`: never.
    pub keep_alive: Option<Duration>,
    /// Time between keep-alive probes.
    pub keep_alive_interval: Duration,
    /// Unanswered keep-alive probes before the connection is given up.
    pub keep_alive_probes: u8,
    /// How long FIN-WAIT-2 waits for a peer that neither sends nor closes, when nobody reads any more
    /// ([`crate::application::Stream::reads_no_more`]).
    pub fin_wait_2: Duration,
    /// Coalesce small segments (Nagle's algorithm in Minshall's form: wait only for a small segment in
    /// flight). Off, a response's last piece leaves at once.
    pub nagle: bool,
    /// Send FIN with the last data and let ACKs wait for data to ride on. Off, each goes at once, in a packet
    /// of its own.
    pub packet_merging: bool,
    /// Let a segment go beyond the end of a message's head, or of its body. Off, [`Stream::part_end`] ends
    /// it.
    pub header_merging: bool,
    /// Offer and use timestamps (RFC 7323 section 3).
    pub timestamps: bool,
    /// Offer and use selective acknowledgments (RFC 2018).
    pub sack: bool,
    /// Receive window that a connection begins with, in bytes, if [`Config::max_window`] is not less. A SYN
    /// announces as much of it as 16 bits can say.
    pub usual_window: u32,
    /// Largest receive window that is ever announced, in bytes: that of a connection whose stream takes as
    /// much in a round trip. Decides the window scale (RFC 7323 section 2.2).
    pub max_window: u32,
    /// Out-of-order bytes kept per connection at most; never more than its window.
    pub reassembly_bytes: u32,
    /// Which congestion control.
    pub congestion: Algorithm,
    /// Explicit congestion notification (RFC 3168).
    pub ecn: EcnUse,
    /// Initial congestion window in segments (RFC 6928: 10).
    pub initial_window_segments: u8,
    /// Let what the congestion window allows go out over the round trip. Off, it goes at once.
    pub pacing: bool,
}

impl Config {
    /// The receive window that a connection begins with.
    pub(crate) fn first_window(&self) -> u32 {
        self.usual_window.min(self.max_window)
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            initial_rto: Duration::from_secs(1),
            min_rto: Duration::from_millis(200),
            max_rto: Duration::from_secs(60),
            max_ack_delay: Duration::from_millis(50),
            max_retransmissions: 10,
            user_timeout: None,
            max_syn_retransmissions: 5,
            delayed_ack: Duration::from_millis(40),
            keep_alive: None,
            keep_alive_interval: Duration::from_secs(15),
            keep_alive_probes: 4,
            fin_wait_2: Duration::from_secs(30),
            nagle: false,
            packet_merging: true,
            header_merging: true,
            timestamps: true,
            sack: true,
            usual_window: 256 * 1024,
            max_window: 4_000_000,
            reassembly_bytes: 4_000_000,
            congestion: Algorithm::default(),
            ecn: EcnUse::default(),
            initial_window_segments: 10,
            pacing: true,
        }
    }
}
