//! Ports that are listened on, and connections that are opened: from which address and port of ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use runtime::time::Instant;

use super::{ConnectError, EPHEMERAL, Key, ListenError, Stack};
use crate::iface::ipv6 as interface6;
use crate::tcp::Pcb;
use crate::tuple::FourTuple;
#[cfg(doc)]
use {super::Application, crate::tcp::Stream};

impl Stack {
    /// Accepts connections to `port` of our address.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn listen(&mut self, port: u16) -> Result<(), ListenError> {
        if port == 0 {
            return Err(ListenError::BadPort);
        }
        if self.ports.contains(&port) || self.places.iter().any(|place| place.port() == port) {
            return Err(ListenError::InUse);
        }
        self.ports.push(port);
        Ok(())
    }

    /// Accepts connections to that port of that address of ours alone.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn listen_at(&mut self, place: SocketAddr) -> Result<(), ListenError> {
        let is_ours = match place.ip() {
            IpAddr::V4(addr) => self.routes.is_ours(addr),
            IpAddr::V6(addr) => self.ipv6.as_ref().is_some_and(|own| own.is_ours(addr)),
        };
        if place.port() == 0 {
            return Err(ListenError::BadPort);
        }
        if !is_ours {
            return Err(ListenError::NotOurs);
        }
        let place = SocketAddr::new(place.ip(), place.port());
        if self.ports.contains(&place.port()) || self.places.contains(&place) {
            return Err(ListenError::InUse);
        }
        self.places.push(place);
        Ok(())
    }

    /// Stops accepting at that place ([`Stack::listen_at`]); whether it was listened at.
    pub fn unlisten_at(&mut self, place: SocketAddr) -> bool {
        let before = self.places.len();
        self.places.retain(|other| *other != place);
        self.places.len() != before
    }

    /// Stops accepting on `port`; connections already accepted live on. Whether it was listened on.
    pub fn unlisten(&mut self, port: u16) -> bool {
        let before = self.ports.len();
        self.ports.retain(|&other| other != port);
        self.ports.len() != before
    }

    /// Begins an active open to `remote`, from `local_port` or a free one. As in [`Application::accept`],
    /// `keep` puts the PCB into the application's record and gives the record's key, which must not be in
    /// use, or `None` if there is no room; [`Stream::established`] or [`Application::closed`] follows.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing has begun then.
    pub fn connect(
        &mut self,
        now: Instant,
        local_port: Option<u16>,
        remote: SocketAddr,
        keep: impl FnOnce(Pcb) -> Option<Key>,
    ) -> Result<Key, ConnectError> {
        if remote.port() == 0 {
            return Err(ConnectError::BadAddress);
        }
        let local = match remote.ip() {
            IpAddr::V4(addr) => self.own_addr(addr)?.into(),
            IpAddr::V6(addr) => self.own_addr6(addr)?.into(),
        };
        let tuple = self.free_tuple(local, local_port, remote).ok_or(ConnectError::PortInUse)?;
        let iss = self.secret.initial_seq(&tuple, now);
        let ts_offset = self.secret.timestamp_offset(&tuple);
        let mut pcb = Pcb::syn_sent(tuple, iss, ts_offset, self.link_mss(&tuple), now, &self.tcp);
        pcb.link.queued = true;
        let key = keep(pcb).ok_or(ConnectError::NotKept)?;
        self.demux.insert(tuple, key);
        self.queues.again(key);
        Ok(key)
    }

    /// Which address of ours speaks to `remote`.
    pub(super) fn own_addr(&self, remote: Ipv4Addr) -> Result<Ipv4Addr, ConnectError> {
        if !self.routes.is_unicast(remote) || self.routes.is_ours(remote) {
            return Err(ConnectError::BadAddress);
        }
        if self.detector.is_refused() || self.config.ipv4_addr.is_unspecified() {
            return Err(ConnectError::AddressRefused);
        }
        let next_hop = self.routes.next_hop(remote).ok_or(ConnectError::NoRoute)?;
        Ok(self.source_for(next_hop))
    }

    /// Which address of ours speaks to `next_hop`: not one that is still probed for, or that another host
    /// has.
    pub(super) fn source_for(&self, next_hop: Ipv4Addr) -> Ipv4Addr {
        let source = self.routes.source_for(next_hop);
        let is_usable = self.detectors.iter().all(|(addr, own)| *addr != source || own.is_usable());
        if is_usable { source } else { self.config.ipv4_addr }
    }

    /// The same in IPv6.
    pub(super) fn own_addr6(&self, remote: Ipv6Addr) -> Result<Ipv6Addr, ConnectError> {
        let own = self.ipv6.as_ref().ok_or(ConnectError::Ipv6)?;
        if !interface6::is_unicast(remote) || own.is_ours(remote) {
            return Err(ConnectError::BadAddress);
        }
        let is_configured = !own.addr().is_unspecified();
        let next_hop = own.next_hop(remote).filter(|_| is_configured);
        next_hop.map(|next_hop| own.source_for(next_hop)).ok_or(ConnectError::NoRoute)
    }

    /// A socket pair that is in no use: RFC 6056 algorithm 3, a per-peer offset and a common counter.
    pub(super) fn free_tuple(
        &mut self,
        local: IpAddr,
        local_port: Option<u16>,
        remote: SocketAddr,
    ) -> Option<FourTuple> {
        let pair = |port| FourTuple::new(SocketAddr::new(local, port), remote);
        let is_free = |tuple: &FourTuple| {
            self.config.share.has(tuple) && !self.demux.contains(tuple) && !self.time_wait.contains(tuple)
        };
        if let Some(port) = local_port {
            return Some(pair(port)).filter(|tuple| port != 0 && is_free(tuple));
        }
        let span = u32::from(EPHEMERAL.end() - EPHEMERAL.start()) + 1;
        let offset = self.secret.hash(&pair(0), 2) as u32;
        for _ in 0..span {
            self.ephemeral = self.ephemeral.wrapping_add(1);
            let step = offset.wrapping_add(u32::from(self.ephemeral)) % span;
            let tuple = pair(EPHEMERAL.start() + step as u16);
            let is_listened_on = self.ports.contains(&tuple.local_port())
                || self.places.iter().any(|place| place.port() == tuple.local_port());
            if is_free(&tuple) && !is_listened_on {
                return Some(tuple);
            }
        }
        None
    }
}
