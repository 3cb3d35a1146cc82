//! What falls due: retransmissions of connections and of half-open ones, probes for addresses, and all else
//! that waits.

use std::net::Ipv4Addr;

use runtime::time::Instant;

use super::queue::Control;
use super::{Application, Key, Stack};
use crate::dhcp;
use crate::iface::acd::{self, Detector};
use crate::iface::arp_cache::Action;
use crate::tcp::CloseReason;
use crate::tcp::state::Disposition;
use crate::tuple::FourTuple;

impl Stack {
    /// When [`Stack::handle_timeout`] wants to be called; `None` while no timer runs. May be early, never
    /// late.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.wheel.next_expiry(),
            self.half_open_wheel.next_expiry(),
            self.time_wait.next_expiry(),
            self.arp.poll_timeout(),
            self.fragments.next_expiry(),
            self.groups.poll_timeout(),
            self.detector.poll_timeout(),
            self.detectors.iter().filter_map(|(_, own)| own.poll_timeout()).min(),
            self.dhcp.as_ref().map(dhcp::DhcpClient::poll_timeout),
            self.ipv6.as_ref().and_then(|own| own.neighbors.poll_timeout()),
            self.ipv6.as_ref().and_then(|own| own.reports.poll_timeout()),
            self.ipv6.as_ref().and_then(|own| own.autoconf.as_ref()?.poll_timeout()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Runs all timers due at `now`.
    pub fn handle_timeout<A: Application>(&mut self, now: Instant, app: &mut A) {
        while let Some((_, key)) = self.wheel.expire(now) {
            self.connection_timeout(now, key, app);
        }
        while let Some((_, (tuple, number))) = self.half_open_wheel.expire(now) {
            self.half_open_timeout(now, tuple, number, app);
        }
        self.time_wait.expire(now);
        while let Some(incomplete) = self.fragments.expire(now) {
            self.reassembly_timed_out(incomplete);
        }
        self.detect_conflicts(now, app);
        self.poll_dhcp(now, app);
        self.poll_autoconf(now, app);
        self.report_groups(now);
        self.report_memberships(now);
        while let Some(action) = self.arp.poll(now) {
            match action {
                Action::Request(addr) => self.queues.push(Control::ArpRequest { addr, to: None }),
                Action::Probe(addr, to) => self.queues.push(Control::ArpRequest { addr, to: Some(to) }),
                Action::Unreachable(addr) => self.unreachable(now, addr.into(), app),
                Action::PushedOut(addr) => self.lost_for_want_of_a_hop(now, addr.into(), app),
            }
        }
        while let Some(action) = self.ipv6.as_mut().and_then(|own| own.neighbors.poll(now)) {
            match action {
                Action::Request(addr) => self.solicit(addr, None),
                Action::Probe(addr, to) => self.solicit(addr, Some(to)),
                Action::Unreachable(addr) => self.unreachable(now, addr.into(), app),
                Action::PushedOut(addr) => self.lost_for_want_of_a_hop(now, addr.into(), app),
            }
        }
    }

    /// Who looks whether others have that address, which is ours.
    pub(super) fn detector_of(&mut self, addr: Ipv4Addr) -> &mut Detector {
        let other = self.detectors.iter_mut().find(|(other, _)| *other == addr);
        other.map_or(&mut self.detector, |(_, detector)| detector)
    }

    /// What is due for our addresses (RFC 5227).
    pub(super) fn detect_conflicts<A: Application>(&mut self, now: Instant, app: &mut A) {
        for (addr, detector) in &mut self.detectors {
            match detector.poll(now) {
                Some(acd::Action::Probe) => self.queues.push(Control::ArpProbe(*addr)),
                Some(acd::Action::Announce) => self.queues.push(Control::ArpAnnouncement(*addr)),
                // Nothing was begun from it.
                None | Some(acd::Action::GiveUp) => {}
            }
        }
        match self.detector.poll(now) {
            None => {}
            Some(acd::Action::Probe) => self.queues.push(Control::ArpProbe(self.config.ipv4_addr)),
            Some(acd::Action::Announce) => {
                self.queues.push(Control::ArpAnnouncement(self.config.ipv4_addr));
            }
            Some(acd::Action::GiveUp) => {
                while let Some(key) = self.queues.next_ready() {
                    let Some((pcb, mut stream)) = app.connection(key) else { continue };
                    let closed = Disposition::Closed(CloseReason::Unreachable);
                    let closed = self.settle(now, key, pcb, &mut stream, closed);
                    drop(stream);
                    if let Some(reason) = closed {
                        app.closed(now, key, reason);
                    }
                }
            }
        }
    }

    pub(super) fn connection_timeout<A: Application>(&mut self, now: Instant, key: Key, app: &mut A) {
        let Some((pcb, mut stream)) = app.connection(key) else { return };
        pcb.link.armed = None;
        let disposition = pcb.handle_timeout(now, &mut stream, &self.tcp);
        let closed = self.settle(now, key, pcb, &mut stream, disposition);
        drop(stream);
        if let Some(reason) = closed {
            app.closed(now, key, reason);
        }
    }

    pub(super) fn half_open_timeout<A: Application>(
        &mut self,
        now: Instant,
        tuple: FourTuple,
        number: u64,
        app: &mut A,
    ) {
        let Some(half_open) = self.backlog.get_mut(&tuple).filter(|record| record.number == number) else {
            return;
        };
        match half_open.retransmit(now, &self.tcp) {
            Some((segment, interval)) => {
                half_open.timer = Some(self.half_open_wheel.schedule(now + interval, (tuple, number)));
                self.queues.push(Control::Tcp { tuple, segment });
            }
            None => {
                let record = self.backlog.remove(&tuple);
                if record.is_some_and(|record| record.early.is_some())
                    && let Some(&key) = self.demux.get(&tuple)
                {
                    self.end(now, key, CloseReason::TimedOut, app);
                }
            }
        }
    }
}
