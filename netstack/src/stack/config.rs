//! What a stack is made with, what it reports, and why it refuses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::dhcp::Lease;
use crate::iface::acd::AddressDetection;
use crate::iface::flow_share::FlowShare;
use crate::iface::ipv6::Ipv6Config;
use crate::tcp;
use crate::wire::EthernetAddress;

/// Addresses and limits of one stack.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Our Ethernet address.
    pub hardware_addr: EthernetAddress,
    /// Our IPv4 address; unspecified while [`Config::dhcp`] has got none.
    pub ipv4_addr: Ipv4Addr,
    /// Length of the on-link prefix, 0 to 32.
    pub prefix_len: u8,
    /// Where everything off-link goes.
    pub gateway: Option<Ipv4Addr>,
    /// Further addresses of ours in IPv4, with the lengths of their on-link prefixes: TCP and echo, which
    /// answer from the address that was asked. What [`Config::address_detection`] says is done for each.
    pub more_ipv4: Vec<(Ipv4Addr, u8)>,
    /// Our addresses in IPv6, if it is spoken; listeners are for both.
    pub ipv6: Option<Ipv6Config>,
    /// Further ones, likewise.
    pub more_ipv6: Vec<(Ipv6Addr, u8)>,
    /// Where [`Config::ipv6`] gives nothing: address, prefix and gateway are had from a router (RFC 4862),
    /// and asked for before they are used.
    pub ipv6_autoconf: bool,
    /// Address, prefix and gateway are had from a DHCP server ([`crate::dhcp`]); the ones given count for
    /// nothing.
    pub dhcp: bool,
    /// What is done about `ipv4_addr` before it is used: whether another host has it already.
    pub address_detection: AddressDetection,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Keys the initial sequence numbers (RFC 6528) and the hash tables; from the system's random source.
    pub secret: [u8; 16],
    /// Half-open connections kept at most; SYNs beyond are answered by cookies (RFC 4987 section 3.6).
    pub backlog: usize,
    /// TCP Fast Open (RFC 7413); `None`: it is off, and no cookies are given.
    pub fast_open: Option<FastOpenConfig>,
    /// ACKs a second, about, that answer what may be forged, over all connections (RFC 5961 section 10).
    pub challenges_per_second: u32,
    /// TIME-WAIT records kept at most; beyond, the oldest gives way. (Without
    /// [`Features::time_wait_records`], blocks of the application's that are kept at most; beyond, a
    /// connection ends without TIME-WAIT.)
    pub time_wait_capacity: usize,
    /// How long a TIME-WAIT lasts (twice the MSL of RFC 9293 section 3.4.2, which nobody keeps at 2 minutes).
    pub time_wait: Duration,
    /// Out-of-order bytes kept over all connections at most.
    pub reassembly_bytes: usize,
    /// Bytes of incomplete datagrams kept at most; zero: fragments are dropped.
    pub fragment_bytes: usize,
    /// Which flows are this stack's, where several have the address ([`crate::sharing`]).
    pub share: FlowShare,
    /// Per-connection behaviour.
    pub tcp: tcp::Config,
    /// Specialisations that can be switched off to measure their worth.
    pub features: Features,
}

impl Config {
    /// A configuration with the usual limits for these addresses. Whoever knows `secret` can forge segments,
    /// so it comes from the system's random source, and is another one each time.
    pub fn new(
        hardware_addr: EthernetAddress,
        ipv4_addr: Ipv4Addr,
        prefix_len: u8,
        secret: [u8; 16],
    ) -> Config {
        Config {
            hardware_addr,
            ipv4_addr,
            prefix_len,
            gateway: None,
            more_ipv4: Vec::new(),
            ipv6: None,
            more_ipv6: Vec::new(),
            ipv6_autoconf: false,
            dhcp: false,
            address_detection: AddressDetection::None,
            mtu: 1500,
            secret,
            backlog: 4096,
            fast_open: None,
            challenges_per_second: 1000,
            time_wait_capacity: 65536,
            time_wait: Duration::from_secs(10),
            reassembly_bytes: 64 << 20,
            fragment_bytes: 256 << 10,
            share: FlowShare::WHOLE,
            tcp: tcp::Config::default(),
            features: Features::default(),
        }
    }
}

/// TCP Fast Open at a server. Text of a SYN may come twice, so what is asked by it must do no harm then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastOpenConfig {
    /// Connections that may begin before their handshakes are complete, at once; beyond, a SYN's text is not
    /// taken.
    pub pending: usize,
    /// Makes the cookies; from the system's random source. Several stacks with one address share it.
    pub key: [u8; 16],
}

/// Specialisations, each on by default (`cheetah serve --without ...`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Let the device compute checksums and cut super-segments, where it can.
    pub offload: bool,
    /// FIN with the last data, ACKs that wait for data to ride on: fewer packets. Off: each at once and on
    /// its own.
    pub packet_merging: bool,
    /// The head of a message and its body in the same segments. Off: each begins a segment of its own, as if
    /// written by separate calls ([`crate::application::Stream::part_end`]).
    pub header_merging: bool,
    /// What is in TIME-WAIT is a small record, and the application's block is free at once. Off: the block is
    /// kept for that time, as the BSDs did.
    pub time_wait_records: bool,
    /// Where the device does not sum: use the sums that were stored with the payload.
    pub stored_sums: bool,
    /// Where the device does not sum: remember the sums of what was sent from named buffers.
    pub cached_sums: bool,
    /// Where the device does not verify what comes: let streams that can copy text to where it stays and
    /// verify it by one loop ([`crate::application::Stream::place`]).
    pub placed_input: bool,
}

impl Default for Features {
    fn default() -> Features {
        Features {
            offload: true,
            packet_merging: true,
            header_merging: true,
            time_wait_records: true,
            stored_sums: true,
            cached_sums: true,
            placed_input: true,
        }
    }
}

/// Something that befell the stack and that an operator may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Another host claims our address. It was defended by an announcement (RFC 5227 section 2.4); reported
    /// no oftener than that is done, once in ten seconds.
    AddressConflict {
        /// Which of ours.
        addr: Ipv4Addr,
        /// The other's Ethernet address.
        hardware_addr: EthernetAddress,
    },
    /// Another host has our address, or wants it too: it was probed for, and is not used (RFC 5227 section
    /// 2.1.1).
    AddressRefused {
        /// Which of ours.
        addr: Ipv4Addr,
        /// The other's Ethernet address.
        hardware_addr: EthernetAddress,
    },
    /// An address was got by DHCP. It may be used when [`crate::stack::Stack::may_use_address`] says so.
    Leased {
        /// The address, and for how long.
        lease: Lease,
    },
    /// It is ours no more: the lease ran out, or the server took it back. Another is looked for.
    LeaseLost,
    /// Our address in IPv6, had from a router, is this one now; or there is none any more.
    Ipv6Changed {
        /// The address.
        addr: Option<Ipv6Addr>,
    },
    /// Another host has an address in IPv6 that we have asked for: it is not used.
    Ipv6Refused {
        /// The address.
        addr: Ipv6Addr,
    },
    /// A neighbour does not answer.
    Unreachable {
        /// The silent address.
        addr: IpAddr,
    },
    /// The backlog was full: SYNs were answered by cookies instead of records since the last such event.
    BacklogOverflow {
        /// How many records were not made. The connections are not lost: the cookies stand for them.
        lost: u64,
    },
}

/// Why a port is not listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenError {
    /// Port 0 is no port.
    BadPort,
    /// Already listening there.
    InUse,
    /// Not one of our addresses.
    NotOurs,
}

/// Why an active open did not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The stack has no address in IPv6 ([`Config::ipv6`]).
    Ipv6,
    /// The remote address or port is no unicast TCP endpoint.
    BadAddress,
    /// Another host has our own address ([`Event::AddressRefused`]), or there is none yet ([`Config::dhcp`]).
    AddressRefused,
    /// Neither on-link nor a gateway.
    NoRoute,
    /// All ports to that peer are taken, or the given one is.
    PortInUse,
    /// The application had no room for the connection.
    NotKept,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListenError::BadPort => "port 0 cannot be listened on",
            ListenError::InUse => "the port is listened on already",
            ListenError::NotOurs => "not an address of this stack",
        })
    }
}

impl core::error::Error for ListenError {}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectError::Ipv6 => "the stack has no IPv6 address: give it one, or connect to an IPv4 address",
            ConnectError::NotKept => "the application keeps no more connections",
            ConnectError::BadAddress => "not the address and port of one host",
            ConnectError::AddressRefused => "we have no address, or another host has it",
            ConnectError::NoRoute => "no route to the host",
            ConnectError::PortInUse => "no local port is free for this peer",
        })
    }
}

impl core::error::Error for ConnectError {}
