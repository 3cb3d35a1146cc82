//! What waits to be sent: small packets that the stack makes itself, connections that have something to send, and those
//! of both kinds that wait for ARP. All bounded: a packet that finds no room is lost as on a wire.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use crate::application::Key;
use crate::tcp::pcb::Pcb;
use crate::tcp::segment::Outgoing;
use crate::tuple::FourTuple;
use crate::wire::EthernetAddress;

/// Small packets queued at most. Those beyond are answers to a flood, mostly.
const MAX_CONTROL: usize = 4096;

/// ICMP replies queued at most: they carry data.
const MAX_ECHO: usize = 64;

/// Small packets that wait for ARP at most.
const MAX_WAITING: usize = 256;

/// A packet that the stack makes itself.
#[derive(Debug)]
pub(super) enum Control {
    /// A segment without payload.
    Tcp { tuple: FourTuple, segment: Outgoing },
    /// Who has `addr`? Broadcast without `to`.
    ArpRequest { addr: Ipv4Addr, to: Option<EthernetAddress> },
    /// We have our address.
    ArpReply { addr: Ipv4Addr, to: EthernetAddress },
    /// An ICMP message, finished.
    Icmp { to: Ipv4Addr, message: Box<[u8]> },
}

#[derive(Debug, Default)]
pub(super) struct Queues {
    control: VecDeque<Control>,
    echoes: usize,
    /// Connections that may have something to send; each at most once (`Link::queued`).
    ready: VecDeque<Key>,
    woken: VecDeque<Key>,
    /// Waiting for the hardware address of a next hop.
    waiting_control: VecDeque<(Ipv4Addr, Control)>,
    waiting: VecDeque<(Ipv4Addr, Key)>,
}

impl Queues {
    pub(super) fn push(&mut self, control: Control) {
        if self.control.len() >= MAX_CONTROL {
            return;
        }
        if let Control::Icmp { .. } = control {
            if self.echoes >= MAX_ECHO {
                return;
            }
            self.echoes += 1;
        }
        self.control.push_back(control);
    }

    pub(super) fn next_control(&mut self) -> Option<Control> {
        let control = self.control.pop_front()?;
        if let Control::Icmp { .. } = control {
            self.echoes -= 1;
        }
        Some(control)
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
    pub(super) fn wait_control(&mut self, next_hop: Ipv4Addr, control: Control) {
        if self.waiting_control.len() >= MAX_WAITING {
            self.waiting_control.pop_front();
        }
        self.waiting_control.push_back((next_hop, control));
    }

    /// The connection's next hop is being asked for. It stays marked as queued, so it is here at most once.
    pub(super) fn wait(&mut self, next_hop: Ipv4Addr, key: Key) {
        self.waiting.push_back((next_hop, key));
    }

    /// `addr` answered: what waited for it may go.
    pub(super) fn resolved(&mut self, addr: Ipv4Addr) {
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

    /// `addr` does not answer: its packets are lost; the connections that waited.
    pub(super) fn give_up(&mut self, addr: Ipv4Addr) -> Vec<Key> {
        self.waiting_control.retain(|(hop, _)| *hop != addr);
        let given_up = self.waiting.iter().filter(|(hop, _)| *hop == addr).map(|&(_, key)| key).collect();
        self.waiting.retain(|(hop, _)| *hop != addr);
        given_up
    }
}
