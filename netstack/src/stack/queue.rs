//! What waits to be sent: small packets that the stack makes itself, connections that have something to send,
//! and those of both kinds that wait for ARP. All bounded: a packet that finds no room is lost as on a wire.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use runtime::buffer::Aggregate;

use super::Key;
use crate::dhcp;
use crate::tcp::Pcb;
use crate::tcp::segment::Outgoing;
use crate::tuple::FourTuple;
use crate::wire::EthernetAddress;

/// Small packets queued at most. Those beyond are answers to a flood, mostly.
const MAX_CONTROL: usize = 4096;

/// Messages that carry data queued at most, and their bytes: of ICMP, and of UDP those that waited for ARP.
const MAX_DATA: usize = 64;
const MAX_DATA_BYTES: usize = 256 << 10;

/// Small packets that wait for ARP at most.
const MAX_WAITING: usize = 256;

/// A packet that the stack makes itself.
#[derive(Debug)]
pub(super) enum Control {
    /// A segment without payload.
    Tcp { tuple: FourTuple, segment: Outgoing },
    /// Who has `addr`? Broadcast without `to`.
    ArpRequest { addr: Ipv4Addr, to: Option<EthernetAddress> },
    /// Has anybody this address of ours? (RFC 5227 section 1.1, ARP Probe.)
    ArpProbe(Ipv4Addr),
    /// We have it, everybody (ARP Announcement).
    ArpAnnouncement(Ipv4Addr),
    /// We have the address `own`.
    ArpReply { own: Ipv4Addr, addr: Ipv4Addr, to: EthernetAddress },
    /// A report of groups of IPv4, finished.
    Igmp(Box<[u8]>),
    /// An ICMP message, or what is still to be sent of it.
    Icmp(Icmp),
    /// An ICMP message for IPv6.
    Icmpv6(Icmpv6),
    /// A message of the DHCP client's.
    Dhcp(Box<dhcp::OutgoingMessage>),
    /// An application's datagram, or what is still to be sent of it.
    Udp(Udp),
}

/// An ICMP message, finished, and how much of it has gone out in fragments.
#[derive(Debug)]
pub(super) struct Icmp {
    /// Which of our addresses it comes from; the first, if none is given.
    pub(super) from: Option<Ipv4Addr>,
    pub(super) to: Ipv4Addr,
    pub(super) message: Box<[u8]>,
    pub(super) sent: usize,
    /// The identification of the fragments, once there are such.
    pub(super) ident: u16,
}

/// A datagram, and how much of it, its header included, has gone out in fragments.
#[derive(Debug)]
pub(super) struct Udp {
    /// Which of our addresses it comes from; the first, if none is given.
    pub(super) from: Option<IpAddr>,
    pub(super) src_port: u16,
    pub(super) to: SocketAddr,
    /// Whether that may be everybody on the link.
    pub(super) may_broadcast: bool,
    pub(super) payload: Aggregate,
    /// It is several of so many bytes each but the last, which the device takes apart; 0: one.
    pub(super) segment: u16,
    pub(super) sent: usize,
    /// The identification of the fragments.
    pub(super) ident: u32,
}

/// An ICMPv6 message, finished, and how much of it has gone out in fragments.
#[derive(Debug)]
pub(super) struct Icmpv6 {
    pub(super) from: Ipv6Addr,
    pub(super) to: Ipv6Addr,
    /// Where the frame goes, if that is known.
    pub(super) hardware_addr: Option<EthernetAddress>,
    pub(super) hop_limit: u8,
    /// Routers on its way shall look at it.
    pub(super) router_alert: bool,
    pub(super) message: Box<[u8]>,
    pub(super) sent: usize,
    /// The identification of the fragments, once there are such.
    pub(super) ident: u32,
}

impl Icmpv6 {
    pub(super) fn new(from: Ipv6Addr, to: Ipv6Addr, message: Box<[u8]>) -> Icmpv6 {
        let (hardware_addr, hop_limit) = (None, super::ipv6::HOP_LIMIT);
        Icmpv6 { from, to, hardware_addr, hop_limit, router_alert: false, message, sent: 0, ident: 0 }
    }
}

impl Control {
    /// Bytes of a message of any length: an answer to as many of a stranger's, or an application's.
    fn data_len(&self) -> Option<usize> {
        match self {
            Control::Icmp(icmp) => Some(icmp.message.len()),
            Control::Icmpv6(icmp) if icmp.hardware_addr.is_none() => Some(icmp.message.len()),
            Control::Udp(udp) => Some(udp.payload.len()),
            _ => None,
        }
    }
}

impl Icmp {
    pub(super) fn new(to: Ipv4Addr, message: Box<[u8]>) -> Icmp {
        Icmp { from: None, to, message, sent: 0, ident: 0 }
    }
}

#[derive(Debug, Default)]
pub(super) struct Queues {
    control: VecDeque<Control>,
    data: usize,
    data_bytes: usize,
    /// Connections that may have something to send; each at most once (`Link::queued`).
    ready: VecDeque<Key>,
    woken: VecDeque<Key>,
    /// Waiting for the hardware address of a next hop.
    waiting_control: VecDeque<(IpAddr, Control)>,
    waiting: VecDeque<(IpAddr, Key)>,
}

impl Queues {
    pub(super) fn push(&mut self, control: Control) {
        if self.control.len() >= MAX_CONTROL {
            return;
        }
        if let Some(len) = control.data_len() {
            if self.data >= MAX_DATA || self.data_bytes + len > MAX_DATA_BYTES {
                return;
            }
            self.data += 1;
            self.data_bytes += len;
        }
        self.control.push_back(control);
    }

    pub(super) fn next_control(&mut self) -> Option<Control> {
        let control = self.control.pop_front()?;
        if let Some(len) = control.data_len() {
            self.data -= 1;
            self.data_bytes -= len;
        }
        Some(control)
    }

    /// The rest of a message whose first fragment has just gone out: it is next.
    pub(super) fn go_on(&mut self, rest: Control) {
        self.data += 1;
        self.data_bytes += rest.data_len().unwrap_or(0);
        self.control.push_front(rest);
    }

    /// Whether packets of the stack's own wait, for their turn or for a neighbour.
    pub(super) fn has_control(&self) -> bool {
        !self.control.is_empty() || !self.waiting_control.is_empty()
    }

    pub(super) fn enqueue(&mut self, key: Key, pcb: &mut Pcb) {
        if !pcb.link.queued {
            pcb.link.queued = true;
            self.ready.push_back(key);
        }
    }

    /// The connection sent something and may have more: to the end of the queue, so that all take turns.
    pub(super) fn again(&mut self, key: Key) {
        self.ready.push_back(key);
    }

    pub(super) fn next_ready(&mut self) -> Option<Key> {
        self.ready.pop_front()
    }

    pub(super) fn wake(&mut self, key: Key) {
        if self.woken.back() != Some(&key) {
            self.woken.push_back(key);
        }
    }

    pub(super) fn next_woken(&mut self) -> Option<Key> {
        self.woken.pop_front()
    }

    /// The packet's next hop is being asked for.
    pub(super) fn wait_control(&mut self, next_hop: IpAddr, control: Control) {
        let data_len_of = |control: &Control| control.data_len().unwrap_or(0);
        let len = data_len_of(&control);
        let waiting = || self.waiting_control.iter().map(|(_, control)| data_len_of(control)).sum::<usize>();
        if len > 0 && len + waiting() > MAX_DATA_BYTES {
            return;
        }
        if self.waiting_control.len() >= MAX_WAITING {
            self.waiting_control.pop_front();
        }
        self.waiting_control.push_back((next_hop, control));
    }

    /// The connection's next hop is being asked for. It stays marked as queued, so it is here at most once.
    pub(super) fn wait(&mut self, next_hop: IpAddr, key: Key) {
        self.waiting.push_back((next_hop, key));
    }

    /// `addr` answered: what waited for it may go.
    pub(super) fn resolved(&mut self, addr: IpAddr) {
        for _ in 0..self.waiting_control.len() {
            match self.waiting_control.pop_front() {
                Some((hop, control)) if hop == addr => self.push(control),
                Some(other) => self.waiting_control.push_back(other),
                None => break,
            }
        }
        for _ in 0..self.waiting.len() {
            match self.waiting.pop_front() {
                Some((hop, key)) if hop == addr => self.ready.push_back(key),
                Some(other) => self.waiting.push_back(other),
                None => break,
            }
        }
    }

    /// No neighbour of IPv4 is asked for any more: what waited for them is lost; the connections that waited.
    pub(super) fn give_up_ipv4(&mut self) -> Vec<Key> {
        self.waiting_control.retain(|(hop, _)| !hop.is_ipv4());
        let given_up = self.waiting.iter().filter(|(hop, _)| hop.is_ipv4()).map(|&(_, key)| key).collect();
        self.waiting.retain(|(hop, _)| !hop.is_ipv4());
        given_up
    }

    /// `addr` does not answer: its packets are lost; the connections that waited.
    pub(super) fn give_up(&mut self, addr: IpAddr) -> Vec<Key> {
        self.waiting_control.retain(|(hop, _)| *hop != addr);
        let given_up = self.waiting.iter().filter(|(hop, _)| *hop == addr).map(|&(_, key)| key).collect();
        self.waiting.retain(|(hop, _)| *hop != addr);
        given_up
    }
}
