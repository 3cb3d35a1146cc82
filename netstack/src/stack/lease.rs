//! An IPv4 address by DHCP ([`crate::dhcp`]): the client's messages in packets, and what a lease makes of the
//! stack.
//!
//! Without an address the stack sends and takes nothing else in IPv4. One that is got is used as
//! [`super::Config`] says of any: at once, or when nobody has claimed it (then a claim is told to the server,
//! and another address looked for).

use std::net::Ipv4Addr;

use runtime::time::Instant;

use super::queue::Control;
use super::{Application, Event, Stack};
use crate::dhcp::{DhcpClient, Lease, LeaseChange, OutgoingMessage};
use crate::iface::acd::Detector;
use crate::iface::route::{Prefix, Routes};
use crate::transmission::RxChecksum;
use crate::wire::dhcpv4::{CLIENT_PORT, DhcpMessage, MESSAGE_LEN, SERVER_PORT};
use crate::wire::{Protocol, ipv4, udp};

/// A message of ours in a datagram.
const DATAGRAM_LEN: usize = udp::HEADER_LEN + MESSAGE_LEN;

impl Stack {
    /// A datagram, before anything is looked at but its header: an answer comes to an address that we do not
    /// have yet, or to all. Whether it was one.
    pub(super) fn dhcp_input<A: Application>(
        &mut self,
        now: Instant,
        ip: &ipv4::Repr,
        bytes: &[u8],
        checksum: RxChecksum,
        app: &mut A,
    ) -> bool {
        let is_udp = ip.protocol == Protocol::Udp && bytes.get(2..4) == Some(&CLIENT_PORT.to_be_bytes());
        if !is_udp || self.dhcp.is_none() {
            return false;
        }
        let (src, dst) = (ip.src_addr.into(), ip.dst_addr.into());
        let Ok((header, payload)) = udp::Repr::parse(bytes, src, dst, checksum != RxChecksum::Unknown) else {
            return false;
        };
        let Ok(message) = DhcpMessage::parse(payload) else { return false };
        let Some(client) = self.dhcp.as_mut().filter(|_| header.src_port == SERVER_PORT) else {
            return false;
        };
        if let Some(change) = client.answered(now, &message) {
            self.lease_changed(now, change, app);
        }
        true
    }

    /// Sends what the client has to say, and notices that a lease is over.
    pub(super) fn poll_dhcp<A: Application>(&mut self, now: Instant, app: &mut A) {
        if self.detector.is_refused()
            && let Some(outgoing) = self.dhcp.as_mut().and_then(|client| client.decline(now))
        {
            self.send_dhcp(&outgoing);
            self.lease_changed(now, LeaseChange::Lost, app);
        }
        while let Some(client) = &mut self.dhcp {
            match client.poll(now) {
                (None, None) => break,
                (outgoing, change) => {
                    if let Some(outgoing) = outgoing {
                        self.send_dhcp(&outgoing);
                    }
                    if let Some(change) = change {
                        self.lease_changed(now, change, app);
                    }
                }
            }
        }
    }

    /// The address by DHCP, while there is one.
    pub fn lease(&self) -> Option<Lease> {
        self.dhcp.as_ref().and_then(DhcpClient::lease)
    }

    fn lease_changed<A: Application>(&mut self, now: Instant, change: LeaseChange, app: &mut A) {
        let (addr, prefix_len, router) = match change {
            LeaseChange::Leased(lease) => (lease.addr, lease.prefix_len, lease.router),
            LeaseChange::Lost => (Ipv4Addr::UNSPECIFIED, 32, None),
        };
        let is_new = addr != self.config.ipv4_addr;
        self.routes = Routes::new(addr, prefix_len);
        for &(addr, prefix_len) in &self.config.more_ipv4 {
            self.routes.add_address(addr, prefix_len);
        }
        if let Some(router) = router {
            self.routes.add(Prefix::DEFAULT, router);
        }
        self.arp.forget_hops();
        (self.config.ipv4_addr, self.config.prefix_len, self.config.gateway) = (addr, prefix_len, router);
        if !is_new {
            return;
        }
        self.event(match change {
            LeaseChange::Leased(lease) => Event::Leased { lease },
            LeaseChange::Lost => Event::LeaseLost,
        });
        // Its neighbours were asked for from another address, or by nobody; what waits for them would wait
        // for ever.
        for key in self.queues.give_up_ipv4() {
            if let Some((pcb, _)) = app.connection(key) {
                self.lost_before_the_wire(now, key, pcb);
            }
        }
        self.arp.clear();
        if let LeaseChange::Leased(_) = change {
            let random = self.secret.hash(&super::own_tuple(addr), 3);
            self.detector = Detector::new(self.config.address_detection, random);
        }
        self.close_connections(now, true, app);
    }

    fn send_dhcp(&mut self, outgoing: &OutgoingMessage) {
        self.queues.push(Control::Dhcp(Box::new(*outgoing)));
    }

    /// The datagram of such a message, and from where it goes.
    pub(super) fn dhcp_datagram(outgoing: &OutgoingMessage) -> (Ipv4Addr, [u8; DATAGRAM_LEN]) {
        let src = outgoing.message.client_addr;
        let message = outgoing.message.emit();
        let repr = udp::Repr { src_port: CLIENT_PORT, dst_port: SERVER_PORT, payload_len: message.len() };
        let mut header = [0; udp::HEADER_LEN];
        repr.emit(&mut header, src.into(), outgoing.to.into(), crate::wire::checksum::sum(&message));
        let mut bytes = [0; DATAGRAM_LEN];
        bytes[..header.len()].copy_from_slice(&header);
        bytes[header.len()..].copy_from_slice(&message);
        (src, bytes)
    }
}
