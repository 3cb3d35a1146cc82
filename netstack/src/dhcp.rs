//! A DHCP client (RFC 2131 section 4.4) as a state machine: messages and time go in, messages and leases come
//! out. It knows nothing of packets; the stack sends what it says, and takes the address that it has got.
//!
//! ```text
//!            DISCOVER            OFFER: REQUEST              ACK
//!   Selecting ------> Selecting --------------> Requesting -------> Bound --T1--> Renewing --T2--> Rebinding
//!       ^                                            | NAK            ^   (asks its server)  (asks all)   |
//!       '--------------------------------------------+----------------+-------ACK------------'------------'
//!       '------------------------------- NAK, or the lease is over: the address is gone -------------------'
//! ```
//!
//! The first offer that can be used is taken. Whatever a server says, the machine sends no more than a
//! message in four seconds, but for the answer to an offer.

use std::net::Ipv4Addr;
use std::time::Duration;

use runtime::time::Instant;

use crate::device::fault::Random;
use crate::wire::EthernetAddress;
use crate::wire::dhcpv4::{DhcpKind, DhcpMessage};

/// Section 4.1: the first wait for an answer, doubled up to the last, each give or take a second.
const FIRST_WAIT: Duration = Duration::from_secs(4);
const LAST_WAIT: Duration = Duration::from_secs(64);

/// Requests for an offered address before another is looked for.
const REQUESTS: u8 = 4;

/// Section 4.4.5: no request to renew sooner than this after the last.
const RENEWAL_WAIT: Duration = Duration::from_secs(60);

/// After a refusal, or an address that somebody else has (section 3.1, step 5: ten seconds at least).
const REFUSED_WAIT: Duration = Duration::from_secs(10);

/// A lease below this is a nuisance or an attack: it is taken for as long.
const LEAST_LEASE_S: u32 = 60;

/// An address, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Ours.
    pub addr: Ipv4Addr,
    /// Length of its network's prefix.
    pub prefix_len: u8,
    /// The way out.
    pub router: Option<Ipv4Addr>,
    /// Who gave it.
    pub server: Ipv4Addr,
    /// When it ends; `None`: never.
    pub expires: Option<Instant>,
}

/// Something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// The message.
    pub message: DhcpMessage,
    /// To whom; the broadcast address to all.
    pub to: Ipv4Addr,
}

/// What an answer, or the time, has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// The address is ours, or goes on being.
    Leased(Lease),
    /// It is ours no more.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaseState {
    Selecting,
    Requesting { offer: Lease, sent: u8 },
    Bound { lease: Lease, renew: Instant, rebind: Instant },
    Renewing { lease: Lease, rebind: Instant },
    Rebinding { lease: Lease },
}

/// The client of one interface.
#[derive(Clone, Debug)]
pub struct DhcpClient {
    hardware_addr: EthernetAddress,
    state: LeaseState,
    transaction: u32,
    began: Instant,
    /// When something is to be done next.
    due: Instant,
    wait: Duration,
    random: Random,
}

impl DhcpClient {
    /// Begins with the first [`DhcpClient::poll`], which is due at once. `random` is another for each host.
    pub const fn new(hardware_addr: EthernetAddress, random: u64) -> DhcpClient {
        let (state, began, due) = (LeaseState::Selecting, Instant::ZERO, Instant::ZERO);
        let random = Random::new(random);
        DhcpClient { hardware_addr, state, transaction: 0, began, due, wait: FIRST_WAIT, random }
    }

    /// When [`DhcpClient::poll`] has something to do.
    pub const fn poll_timeout(&self) -> Instant {
        self.due
    }

    /// The lease that is held.
    pub const fn lease(&self) -> Option<Lease> {
        match self.state {
            LeaseState::Selecting | LeaseState::Requesting { .. } => None,
            LeaseState::Bound { lease, .. }
            | LeaseState::Renewing { lease, .. }
            | LeaseState::Rebinding { lease } => Some(lease),
        }
    }

    /// What is due at `now`: something to send, and whether the lease is over. Call until neither.
    pub fn poll(&mut self, now: Instant) -> (Option<OutgoingMessage>, Option<LeaseChange>) {
        if now < self.due {
            return (None, None);
        }
        if self.lease().is_some_and(|lease| lease.expires.is_some_and(|at| at <= now)) {
            self.begin_again(now);
            return (None, Some(LeaseChange::Lost));
        }
        let message = match self.state {
            LeaseState::Selecting => {
                if self.wait == FIRST_WAIT {
                    (self.transaction, self.began) = (self.random.next_u64() as u32, now);
                }
                self.due = now + self.next_wait();
                self.message(now, DhcpKind::Discover)
            }
            LeaseState::Requesting { sent: REQUESTS, .. } => {
                self.begin_again(now);
                return (None, None);
            }
            LeaseState::Requesting { offer, sent } => {
                self.state = LeaseState::Requesting { offer, sent: sent + 1 };
                self.due = now + self.next_wait();
                self.request_offered(now, &offer)
            }
            LeaseState::Bound { lease, rebind, .. } => {
                self.state = LeaseState::Renewing { lease, rebind };
                (self.transaction, self.began) = (self.random.next_u64() as u32, now);
                return self.poll(now);
            }
            LeaseState::Renewing { lease, rebind } if rebind <= now => {
                self.state = LeaseState::Rebinding { lease };
                return self.poll(now);
            }
            LeaseState::Renewing { lease, rebind } => {
                self.due = half_way(now, rebind);
                let message = DhcpMessage { client_addr: lease.addr, ..self.message(now, DhcpKind::Request) };
                return (Some(OutgoingMessage { message, to: lease.server }), None);
            }
            LeaseState::Rebinding { lease } => {
                self.due = half_way(now, lease.expires.unwrap_or(now + LAST_WAIT));
                DhcpMessage { client_addr: lease.addr, ..self.message(now, DhcpKind::Request) }
            }
        };
        (Some(OutgoingMessage { message, to: Ipv4Addr::BROADCAST }), None)
    }

    /// A server's message has come. Answers that are not asked for, or not to be used, change nothing.
    pub fn answered(&mut self, now: Instant, answer: &DhcpMessage) -> Option<LeaseChange> {
        if answer.transaction != self.transaction || answer.hardware_addr != self.hardware_addr {
            return None;
        }
        match (self.state, answer.kind) {
            (LeaseState::Selecting, DhcpKind::Offer) => {
                let offer = lease_of(now, answer)?;
                self.state = LeaseState::Requesting { offer, sent: 0 };
                (self.wait, self.due) = (FIRST_WAIT, now);
                None
            }
            (LeaseState::Requesting { offer, .. }, DhcpKind::Ack) => {
                let lease = lease_of(now, answer).filter(|lease| lease.addr == offer.addr)?;
                self.bind(now, lease, answer)
            }
            (LeaseState::Requesting { offer, .. }, DhcpKind::Nak) if answer.server == Some(offer.server) => {
                self.begin_again(now);
                None
            }
            (LeaseState::Renewing { lease, .. } | LeaseState::Rebinding { lease }, DhcpKind::Ack) => {
                let renewed = lease_of(now, answer).filter(|renewed| renewed.addr == lease.addr)?;
                self.bind(now, renewed, answer)
            }
            (LeaseState::Renewing { .. } | LeaseState::Rebinding { .. }, DhcpKind::Nak) => {
                self.begin_again(now);
                Some(LeaseChange::Lost)
            }
            _ => None,
        }
    }

    /// Somebody else has the address: the server is told, and another is looked for (section 3.1, step 5).
    pub fn decline(&mut self, now: Instant) -> Option<OutgoingMessage> {
        let lease = self.lease()?;
        let message = DhcpMessage {
            requested: Some(lease.addr),
            server: Some(lease.server),
            ..self.message(now, DhcpKind::Decline)
        };
        self.begin_again(now);
        Some(OutgoingMessage { message, to: Ipv4Addr::BROADCAST })
    }

    fn bind(&mut self, now: Instant, lease: Lease, answer: &DhcpMessage) -> Option<LeaseChange> {
        let far = now + Duration::from_secs(u32::MAX.into());
        let at = |seconds: u32| now + Duration::from_secs(seconds.into());
        let (renew, rebind) = match lease.expires {
            None => (far, far),
            Some(expires) => {
                let whole_s = expires.saturating_since(now).as_secs() as u32;
                // Section 4.4.5: T1 before T2 before the end, or what is usual.
                let t2 = answer.rebinding_s.filter(|&t2| t2 < whole_s).unwrap_or(whole_s / 8 * 7);
                let t1 = answer.renewal_s.filter(|&t1| t1 < t2).unwrap_or(t2.min(whole_s / 2));
                (at(t1.max(LEAST_LEASE_S / 2)), at(t2.max(LEAST_LEASE_S / 2)))
            }
        };
        self.state = LeaseState::Bound { lease, renew, rebind };
        self.due = renew;
        Some(LeaseChange::Leased(lease))
    }

    fn begin_again(&mut self, now: Instant) {
        self.state = LeaseState::Selecting;
        (self.wait, self.due) = (FIRST_WAIT, now + REFUSED_WAIT);
        // What is still under way belongs to the exchange before.
        self.transaction = self.random.next_u64() as u32;
    }

    fn message(&self, now: Instant, kind: DhcpKind) -> DhcpMessage {
        let seconds = now.saturating_since(self.began).as_secs().min(u16::MAX.into()) as u16;
        DhcpMessage { seconds, ..DhcpMessage::new(kind, self.transaction, self.hardware_addr) }
    }

    fn request_offered(&self, now: Instant, offer: &Lease) -> DhcpMessage {
        let (requested, server) = (Some(offer.addr), Some(offer.server));
        DhcpMessage { requested, server, ..self.message(now, DhcpKind::Request) }
    }

    /// How long to wait for an answer now, and twice as long the next time.
    fn next_wait(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (2 * wait).min(LAST_WAIT);
        wait - Duration::from_secs(1) + Duration::from_millis(self.random.next_u64() % 2000)
    }
}

/// Section 4.4.5: half of the time that is left, but a minute at least; not beyond the end.
fn half_way(now: Instant, end: Instant) -> Instant {
    let left = end.saturating_since(now);
    now + (left / 2).max(RENEWAL_WAIT).min(left).max(Duration::from_secs(1))
}

/// What an offer or its confirmation gives, if it can be used: one host's address, a network, a server, a
/// time.
fn lease_of(now: Instant, answer: &DhcpMessage) -> Option<Lease> {
    let (addr, server) = (answer.your_addr, answer.server?);
    let prefix_len = answer.prefix_len.filter(|len| (1..=32).contains(len))?;
    let is_host = |addr: Ipv4Addr| {
        let first = addr.octets()[0];
        first != 0 && first != 127 && first < 224
    };
    let mask = u32::MAX << (32 - prefix_len);
    let host_bits = addr.to_bits() & !mask;
    let names_the_net = prefix_len < 31 && (host_bits == 0 || host_bits == !mask);
    if !is_host(addr) || !is_host(server) || names_the_net {
        return None;
    }
    let is_near = |router: &Ipv4Addr| router.to_bits() & mask == addr.to_bits() & mask && *router != addr;
    let expires = match answer.lease_s? {
        0 => return None,
        u32::MAX => None,
        seconds => Some(now + Duration::from_secs(seconds.max(LEAST_LEASE_S).into())),
    };
    Some(Lease { addr, prefix_len, router: answer.router.filter(is_near), server, expires })
}

#[cfg(test)]
mod tests;
