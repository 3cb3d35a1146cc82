//! The whole stack as one sans-IO state machine: frames and time go in, transmissions and time-outs come out.
//!
//! ```text
//!   handle_frame(now, frame, ..)   a frame arrived; calls the application
//!   poll_transmit(now, ..)         one thing to put on the wire, until it says there is none
//!   poll_timeout()                 when handle_timeout wants to be called next
//!   handle_timeout(now, ..)        retransmissions, delayed ACKs, TIME-WAIT...
//!   poll_event()                   what befell the stack itself, not one connection
//! ```
//!
//! It reads no clock and touches no descriptor. Connections are the application's ([`crate::application`]).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use runtime::time::Instant;

use crate::application::{Application, Key};
use crate::tcp;
use crate::tcp::pcb::Pcb;
use crate::transmission::{Capabilities, RxChecksum, Transmission};

/// Addresses and limits of one stack.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our Ethernet address.
    pub hardware_addr: [u8; 6],
    /// Our IPv4 address.
    pub ipv4_addr: Ipv4Addr,
    /// Length of the on-link prefix, 0 to 32.
    pub prefix_len: u8,
    /// Where everything off-link goes.
    pub gateway: Option<Ipv4Addr>,
    /// Largest IPv4 packet, in bytes.
    pub mtu: u16,
    /// Keys the initial sequence numbers (RFC 6528) and the hash tables; from the system's random source.
    pub secret: [u8; 16],
    /// Half-open connections kept at most; beyond, the oldest gives way.
    pub backlog: usize,
    /// TIME-WAIT records kept at most; beyond, the oldest gives way.
    pub time_wait_capacity: usize,
    /// How long a TIME-WAIT lasts (twice the MSL of RFC 9293 section 3.4.2, which nobody keeps at 2 minutes).
    pub time_wait: Duration,
    /// Out-of-order bytes kept over all connections at most.
    pub reassembly_bytes: usize,
    /// Per-connection behaviour.
    pub tcp: tcp::Config,
    /// Specialisations that can be switched off to measure their worth.
    pub features: Features,
}

impl Config {
    /// A configuration with the usual limits for these addresses.
    pub fn new(hardware_addr: [u8; 6], ipv4_addr: Ipv4Addr, prefix_len: u8) -> Config {
        Config {
            hardware_addr,
            ipv4_addr,
            prefix_len,
            gateway: None,
            mtu: 1500,
            secret: [0; 16],
            backlog: 4096,
            time_wait_capacity: 65536,
            time_wait: Duration::from_secs(10),
            reassembly_bytes: 64 << 20,
            tcp: tcp::Config::default(),
            features: Features::default(),
        }
    }
}

/// Specialisations, each on by default (`cheetah serve --without ...`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Let the device compute checksums and cut super-segments, where it can.
    pub offload: bool,
    /// FIN with the last data, ACKs on data: fewer packets. Off: each on its own.
    pub packet_merging: bool,
    /// Use the sums that the payload source has at hand.
    pub precomputed_checksums: bool,
}

impl Default for Features {
    fn default() -> Features {
        Features { offload: true, packet_merging: true, precomputed_checksums: true }
    }
}

/// Something that befell the stack and that an operator may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another host claims our address (RFC 5227 section 2.4).
    AddressConflict {
        /// The other's Ethernet address.
        hardware_addr: [u8; 6],
    },
    /// An on-link address does not answer ARP.
    Unreachable {
        /// The silent address.
        addr: Ipv4Addr,
    },
    /// The backlog was full and half-open connections were lost since the last such event.
    BacklogOverflow {
        /// How many.
        lost: u64,
    },
}

/// Why a port is not listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenError {
    /// Port 0 is no port.
    BadPort,
    /// Already listening there.
    InUse,
}

/// Why an active open did not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The remote address or port is no unicast TCP endpoint.
    BadAddress,
    /// Neither on-link nor a gateway.
    NoRoute,
    /// All ports to that peer are taken, or the given one is.
    PortInUse,
}

/// The TCP/IP stack of one interface.
#[derive(Debug)]
pub struct Stack {
    config: Config,
}

impl Stack {
    /// A stack with no listener and no connection.
    pub fn new(config: Config) -> Stack {
        Stack { config }
    }

    /// Accepts connections to `port` of our address.
    pub fn listen(&mut self, port: u16) -> Result<(), ListenError> {
        if port == 0 { Err(ListenError::BadPort) } else { Ok(()) }
    }

    /// Stops accepting on `port`; connections already accepted live on. Whether it was listened on.
    pub fn unlisten(&mut self, port: u16) -> bool {
        let _ = port;
        false
    }

    /// Begins an active open to `remote`, from `local_port` or a free one. The application puts the PCB into its
    /// record under `key` at once; `Stream::established` or `Application::closed` follows.
    pub fn connect(
        &mut self,
        now: Instant,
        local_port: Option<u16>,
        remote: SocketAddrV4,
        key: Key,
    ) -> Result<Pcb, ConnectError> {
        let _ = (now, local_port, remote, key);
        Err(ConnectError::NoRoute)
    }

    /// Takes in one frame (from the Ethernet header on, without FCS). Whatever it holds, no panic and no unbounded
    /// work comes of it; what is not for us is ignored.
    pub fn handle_frame<A: Application>(
        &mut self,
        now: Instant,
        frame: &[u8],
        checksum: RxChecksum,
        app: &mut A,
    ) {
        let _ = (now, frame, checksum, app);
    }

    /// Makes the next transmission and hands it to `emit`, borrowed from the stack and the application. `None` when
    /// there is nothing to send now. What `emit` fails to send counts as lost on the wire: TCP recovers, so call this
    /// only when the device has room.
    pub fn poll_transmit<A: Application, R>(
        &mut self,
        now: Instant,
        device: &Capabilities,
        app: &mut A,
        emit: impl FnOnce(&Transmission<'_>) -> R,
    ) -> Option<R> {
        let _ = (now, device, app, emit);
        None
    }

    /// When [`Stack::handle_timeout`] wants to be called; `None` while no timer runs. May be early, never late.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Runs all timers due at `now`.
    pub fn handle_timeout<A: Application>(&mut self, now: Instant, app: &mut A) {
        let _ = (now, app);
    }

    /// The next event of the stack itself.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// Tells that something changed in the connection's stream outside of the stack's calls: more to send, a larger
    /// window, a new deadline, an abort.
    pub fn wake(&mut self, key: Key) {
        let _ = key;
    }

    /// Aborts a connection: RST to the peer, `Application::closed` with `Aborted` before this returns.
    pub fn abort<A: Application>(&mut self, now: Instant, key: Key, app: &mut A) {
        let _ = (now, key, app);
    }

    /// What the stack was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }
}
