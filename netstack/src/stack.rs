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
//! It reads no clock and touches no descriptor. Connections are the application's ([`crate::application`]);
//! the stack keeps a map from socket pairs to the application's keys, and small records of what is no
//! connection yet (backlog) or no longer (TIME-WAIT). Everything it keeps is bounded.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use runtime::time::Instant;
use runtime::timer_wheel::TimerWheel;

use crate::dhcp;
use crate::iface::acd::Detector;
use crate::iface::arp_cache::ArpCache;
use crate::iface::demux::Demux;
use crate::iface::groups::Memberships;
use crate::iface::ipv6::Ipv6Interface;
use crate::iface::reassembly::Reassembly;
use crate::iface::route::{Prefix, Routes};
use crate::sums::{self, SumCache};
use crate::tcp::Pcb;
use crate::tcp::challenge::Challenges;
use crate::tcp::isn::Secret;
use crate::tcp::listener::Backlog;
use crate::tcp::segment::Outgoing;
use crate::tcp::state::{Disposition, State, synchronized};
use crate::tcp::time_wait::TimeWait;
use crate::tcp::timers::{TICK_SHIFT, ticks};
use crate::tcp::{self, CloseReason, Stream};
use crate::tuple::FourTuple;

mod application;
mod config;
mod groups;
mod icmp;
mod input;
mod ipv6;
mod lease;
mod opening;
mod queue;
mod time_outs;
mod transmit;
mod udp;

pub use crate::iface::acd::AddressDetection;
pub use crate::iface::ipv6::Ipv6Config;
pub use application::{Application, Key};
pub use config::{Config, ConnectError, Event, FastOpenConfig, Features, ListenError};
pub use groups::GroupError;
pub use udp::{BindError, Datagrams, SendError, UdpSocket};

use queue::{Control, Queues};

/// Counters since the stack was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// TCP segments taken in, well-formed and for our address. A merged super-segment counts once.
    pub segments_in: u64,
    /// TCP segments (or super-segments) sent.
    pub segments_out: u64,
    /// Payload bytes sent, retransmissions included.
    pub payload_out: u64,
    /// Payload bytes sent again.
    pub payload_retransmitted: u64,
    /// Payload bytes that were copied to where they stay and verified by one loop ([`Stream::place`]).
    pub payload_placed: u64,
    /// Packets with a wrong checksum.
    pub bad_checksums: u64,
    /// Frames and packets that were malformed, not for us, or of no use.
    pub ignored: u64,
    /// Fragments for us.
    pub fragments_in: u64,
    /// Of these, those of no use: malformed, copies, or of a datagram whose fragments overlap.
    pub fragments_dropped: u64,
    /// Datagrams put together.
    pub reassembled: u64,
    /// Datagrams of which a part never came.
    pub reassembly_timeouts: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Of these, those that began with their SYN (TCP Fast Open).
    pub fast_opened: u64,
    /// Resets sent.
    pub resets_out: u64,
    /// Datagrams of UDP that somebody listened for.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Frames that arrived by its queue and were another stack's, which got them.
    pub passed_on: u64,
}

impl Stats {
    /// Adds another stack's counters.
    pub fn add(&mut self, other: &Stats) {
        self.segments_in += other.segments_in;
        self.segments_out += other.segments_out;
        self.payload_out += other.payload_out;
        self.payload_retransmitted += other.payload_retransmitted;
        self.payload_placed += other.payload_placed;
        self.bad_checksums += other.bad_checksums;
        self.ignored += other.ignored;
        self.fragments_in += other.fragments_in;
        self.fragments_dropped += other.fragments_dropped;
        self.reassembled += other.reassembled;
        self.reassembly_timeouts += other.reassembly_timeouts;
        self.accepted += other.accepted;
        self.fast_opened += other.fast_opened;
        self.resets_out += other.resets_out;
        self.datagrams_in += other.datagrams_in;
        self.datagrams_out += other.datagrams_out;
        self.passed_on += other.passed_on;
    }
}

/// The TCP/IP stack of one interface.
#[derive(Debug)]
pub struct Stack {
    config: Config,
    tcp: tcp::Config,
    /// The same, for when the out-of-order bytes of all connections are at their limit.
    tcp_in_order: tcp::Config,
    secret: Secret,
    routes: Routes,
    arp: ArpCache<Ipv4Addr>,
    ipv6: Option<Ipv6Interface>,
    ports: Vec<u16>,
    /// Ports listened on at one of our addresses alone.
    places: Vec<SocketAddr>,
    demux: Demux<Key>,
    backlog: Backlog,
    /// SYNs answered by a cookie since the last event of it, and until when one may come back.
    cookies_sent: u64,
    cookies_until: Option<Instant>,
    challenges: Challenges,
    detector: Detector,
    /// Of our other addresses.
    detectors: Vec<(Ipv4Addr, Detector)>,
    dhcp: Option<dhcp::DhcpClient>,
    time_wait: TimeWait,
    /// Connections that are in TIME-WAIT with their block ([`Features::time_wait_records`] off).
    blocks_in_time_wait: usize,
    /// One entry for each connection, whose own timers are in its PCB.
    wheel: TimerWheel<Key>,
    /// Of half-open ones, by socket pair and the record's number. Apart, for there are many of the others.
    half_open_wheel: TimerWheel<(FourTuple, u64)>,
    queues: Queues,
    events: VecDeque<Event>,
    reassembly_bytes: usize,
    fragments: Reassembly,
    /// Datagrams put together here that belong to another stack ([`crate::sharing`]).
    strays: VecDeque<Vec<u8>>,
    sums: SumCache,
    datagrams: Datagrams,
    /// What sockets of UDP listen to beside.
    groups: Memberships<UdpSocket>,
    ip_ident: u16,
    /// Packets sent in fragments of IPv6.
    fragmented: u32,
    ephemeral: u16,
    /// Whose the last transmission handed out was.
    last_transmitted: Option<Key>,
    stats: Stats,
}

/// Stands for this host where a socket pair is hashed.
fn own_tuple(addr: Ipv4Addr) -> FourTuple {
    let own = SocketAddrV4::new(addr, 0);
    FourTuple::ipv4(own, own)
}

/// Events kept until polled; older ones give way.
const MAX_EVENTS: usize = 64;

/// Ports for the active side: more than IANA's, as RFC 6056 section 3.2 recommends.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=65_535;

impl Stack {
    /// A stack with no listener and no connection.
    pub fn new(config: Config) -> Stack {
        let mut routes = Routes::new(config.ipv4_addr, config.prefix_len);
        for &(addr, prefix_len) in &config.more_ipv4 {
            routes.add_address(addr, prefix_len);
        }
        if let Some(gateway) = config.gateway {
            routes.add(Prefix::DEFAULT, gateway);
        }
        let tcp = tcp::Config {
            packet_merging: config.features.packet_merging && config.tcp.packet_merging,
            header_merging: config.features.header_merging && config.tcp.header_merging,
            ..config.tcp
        };
        let secret = Secret::new(config.secret);
        let own = own_tuple(config.ipv4_addr);
        // What is got by DHCP is asked for when it is there.
        let detection = if config.dhcp { AddressDetection::None } else { config.address_detection };
        let dhcp = config.dhcp.then(|| {
            let [a, b, c, d, e, f] = config.hardware_addr.0;
            let number = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
            dhcp::DhcpClient::new(config.hardware_addr, secret.hash(&own, 7) ^ number)
        });
        let random = secret.hash(&own, 8);
        let others = config.more_ipv4.iter();
        let detectors = others
            .map(|&(addr, _)| {
                (addr, Detector::new(config.address_detection, secret.hash(&own_tuple(addr), 3)))
            })
            .collect();
        let mut ipv6 = match config.ipv6 {
            Some(given) => Some(Ipv6Interface::new(given, config.hardware_addr)),
            None => config.ipv6_autoconf.then(|| Ipv6Interface::autoconfigured(config.hardware_addr, random)),
        };
        for &(addr, prefix_len) in &config.more_ipv6 {
            if let Some(ipv6) = &mut ipv6 {
                ipv6.add_address(addr, prefix_len);
            }
        }
        let speaks_ipv6 = ipv6.is_some();
        Stack {
            tcp,
            tcp_in_order: tcp::Config { reassembly_bytes: 0, ..tcp },
            secret,
            routes,
            arp: ArpCache::default(),
            ipv6,
            ports: Vec::new(),
            places: Vec::new(),
            demux: Demux::new(config.secret),
            backlog: Backlog::new(config.secret, config.backlog),
            cookies_sent: 0,
            cookies_until: None,
            challenges: Challenges::new(config.challenges_per_second),
            detector: Detector::new(detection, secret.hash(&own, 3)),
            detectors,
            dhcp,
            time_wait: TimeWait::new(config.secret, config.time_wait_capacity, config.time_wait),
            blocks_in_time_wait: 0,
            wheel: TimerWheel::with_tick_shift(Instant::ZERO, TICK_SHIFT),
            half_open_wheel: TimerWheel::with_tick_shift(Instant::ZERO, TICK_SHIFT),
            queues: Queues::default(),
            events: VecDeque::new(),
            reassembly_bytes: 0,
            fragments: Reassembly::new(config.fragment_bytes),
            strays: VecDeque::new(),
            sums: SumCache::new(sums::CAPACITY),
            datagrams: Datagrams::new(speaks_ipv6),
            groups: Memberships::default(),
            fragmented: 0,
            ip_ident: config.share.index() as u16,
            ephemeral: 0,
            last_transmitted: None,
            stats: Stats::default(),
            config,
        }
    }

    /// No connection gets a larger receive window than `most`, whatever [`tcp::Config`] says. For before the
    /// first begins.
    pub(crate) fn limit_windows(&mut self, most: u32) {
        for tcp in [&mut self.tcp, &mut self.tcp_in_order] {
            tcp.max_window = tcp.max_window.min(most);
        }
    }

    /// Whether packets wait that are no connection's: datagrams, rests of them, answers; for their turn, or
    /// for a neighbour's address.
    pub fn has_queued(&self) -> bool {
        self.has_datagrams() || self.queues.has_control()
    }

    /// Whether datagrams wait for their turn.
    pub(crate) fn has_datagrams(&self) -> bool {
        self.datagrams.waiting() > 0
    }

    /// Nobody answers ARP for `addr`: active opens through it fail; for others what they had to send is lost
    /// like a segment on the wire, and tried again by the same timer.
    fn unreachable<A: Application>(&mut self, now: Instant, addr: IpAddr, app: &mut A) {
        self.event(Event::Unreachable { addr });
        for key in self.queues.give_up(addr) {
            let Some((pcb, mut stream)) = app.connection(key) else { continue };
            if !matches!(pcb.state, State::SynSent(_)) {
                self.lost_before_the_wire(now, key, pcb);
                continue;
            }
            let closed = Disposition::Closed(CloseReason::Unreachable);
            let closed = self.settle(now, key, pcb, &mut stream, closed);
            drop(stream);
            if let Some(reason) = closed {
                app.closed(now, key, reason);
            }
        }
    }

    /// `addr` is asked for no more: what waited for it is lost, and each connection tries again by its timer.
    fn lost_for_want_of_a_hop<A: Application>(&mut self, now: Instant, addr: IpAddr, app: &mut A) {
        for key in self.queues.give_up(addr) {
            if let Some((pcb, _)) = app.connection(key) {
                self.lost_before_the_wire(now, key, pcb);
            }
        }
    }

    /// The connection is not waiting to send any more; what it would have sent is lost like a segment on the
    /// wire.
    fn lost_before_the_wire(&mut self, now: Instant, key: Key, pcb: &mut Pcb) {
        pcb.link.queued = false;
        pcb.lost_before_the_wire(now, &self.tcp);
        self.arm(now, key, pcb);
    }

    /// The next event of the stack itself.
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.cookies_sent > 0 {
            return Some(Event::BacklogOverflow { lost: std::mem::take(&mut self.cookies_sent) });
        }
        self.events.pop_front()
    }

    fn event(&mut self, event: Event) {
        if self.events.back() == Some(&event) {
            return;
        }
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Tells that something changed in the connection's stream outside of the stack's calls: more to send, a
    /// larger window, a new deadline, an abort. Takes effect at the next [`Stack::poll_transmit`].
    pub fn wake(&mut self, key: Key) {
        self.queues.wake(key);
    }

    /// Looks after the connections that were woken.
    fn handle_woken<A: Application>(&mut self, now: Instant, app: &mut A) {
        while let Some(key) = self.queues.next_woken() {
            let Some((pcb, mut stream)) = app.connection(key) else { continue };
            let mut disposition = Disposition::Continue;
            if pcb.rcv.assembler.is_some() {
                // The application takes again what it left in the reassembly buffer.
                disposition = synchronized::resume(pcb, now, &mut stream);
            }
            let closed = self.settle(now, key, pcb, &mut stream, disposition);
            drop(stream);
            if let Some(reason) = closed {
                app.closed(now, key, reason);
            }
        }
    }

    /// Aborts a connection: RST to the peer, `Application::closed` with `Aborted` before this returns.
    pub fn abort<A: Application>(&mut self, now: Instant, key: Key, app: &mut A) {
        self.end(now, key, CloseReason::Aborted, app);
    }

    fn end<A: Application>(&mut self, now: Instant, key: Key, reason: CloseReason, app: &mut A) {
        let Some((pcb, mut stream)) = app.connection(key) else { return };
        if let Some(segment) = pcb.abort() {
            self.queues.push(Control::Tcp { tuple: pcb.tuple, segment });
        }
        self.settle(now, key, pcb, &mut stream, Disposition::Closed(reason));
        drop(stream);
        app.closed(now, key, reason);
    }

    /// The transmission that [`Stack::poll_transmit`] handed out last could not be sent, nor ever will be,
    /// since its payload cannot be read ([`crate::device::TransmitError::PayloadUnreadable`]): its connection
    /// is reset, and closed with [`CloseReason::PayloadLost`].
    pub fn payload_unreadable<A: Application>(&mut self, now: Instant, app: &mut A) {
        if let Some(key) = self.last_transmitted.take() {
            self.end(now, key, CloseReason::PayloadLost, app);
        }
    }

    /// After any event of a connection: acts on its disposition, counts what it holds, queues it and arms its
    /// timer. The reason if it is over: then the stack has forgotten it and the caller tells the application.
    fn settle<S: Stream>(
        &mut self,
        now: Instant,
        key: Key,
        pcb: &mut Pcb,
        stream: &mut S,
        mut disposition: Disposition,
    ) -> Option<CloseReason> {
        if matches!(disposition, Disposition::Continue | Disposition::Reply(_))
            && !pcb.link.in_time_wait
            && stream.is_aborted()
        {
            if let Some(segment) = pcb.abort() {
                self.queues.push(Control::Tcp { tuple: pcb.tuple, segment });
            }
            disposition = Disposition::Closed(CloseReason::Aborted);
        }
        self.count_reassembly(pcb);
        if std::mem::take(&mut pcb.due.challenge) {
            pcb.due.ack_now |= self.challenges.may_send(now, &self.secret, &pcb.tuple);
        }
        match disposition {
            Disposition::Continue => {}
            Disposition::Reply(segment) => self.queues.push(Control::Tcp { tuple: pcb.tuple, segment }),
            Disposition::TimeWait => {
                if pcb.due.ack_now {
                    self.queues.push(Control::Tcp { tuple: pcb.tuple, segment: pcb.final_ack(now) });
                }
                if self.config.features.time_wait_records {
                    self.time_wait.insert(now, pcb.tuple, pcb.time_wait_record(now));
                } else if self.blocks_in_time_wait < self.config.time_wait_capacity {
                    self.blocks_in_time_wait += 1;
                    pcb.link.in_time_wait = true;
                    pcb.enter_time_wait(now, now + self.config.time_wait);
                    self.arm(now, key, pcb);
                    return None;
                }
                self.forget(pcb);
                return Some(CloseReason::Finished);
            }
            Disposition::Closed(reason) => {
                self.forget(pcb);
                return Some(reason);
            }
        }
        if pcb.link.in_time_wait {
            // Nothing moves any more, and the stream has no further say.
            self.arm(now, key, pcb);
            return None;
        }
        pcb.update_deadline(now, stream);
        pcb.update_fin_wait_2(now, stream, &self.tcp);
        self.queues.enqueue(key, pcb);
        self.arm(now, key, pcb);
        None
    }

    /// The wheel's entry is only ever moved forward in time: a deadline that moved back finds out when the
    /// entry fires. That spares the wheel two operations for each segment.
    fn arm(&mut self, now: Instant, key: Key, pcb: &mut Pcb) {
        let Some(next) = pcb.timers.next(now) else { return };
        let tick = ticks(next) as u32;
        match pcb.link.armed {
            Some((_, at)) if at.wrapping_sub(tick) as i32 <= 0 => {}
            Some((id, _)) => {
                self.wheel.reschedule(id, next);
                pcb.link.armed = Some((id, tick));
            }
            None => pcb.link.armed = Some((self.wheel.schedule(next, key), tick)),
        }
    }

    fn forget(&mut self, pcb: &mut Pcb) {
        self.demux.remove(&pcb.tuple);
        pcb.state = State::Closed;
        pcb.link.queued = false;
        if std::mem::take(&mut pcb.link.early) {
            self.drop_half_open(&pcb.tuple);
        }
        if std::mem::take(&mut pcb.link.in_time_wait) {
            self.blocks_in_time_wait -= 1;
        }
        if let Some((id, _)) = pcb.link.armed.take() {
            self.wheel.cancel(id);
        }
        self.count_reassembly(pcb);
    }

    fn count_reassembly(&mut self, pcb: &mut Pcb) {
        let held = pcb.reassembly_bytes() as u32;
        if held != pcb.link.reassembly_bytes {
            self.reassembly_bytes =
                (self.reassembly_bytes + held as usize).saturating_sub(pcb.link.reassembly_bytes as usize);
            pcb.link.reassembly_bytes = held;
        }
    }

    /// Queues a segment that belongs to no connection, or to one that is no more.
    fn send_bare(&mut self, tuple: FourTuple, segment: Outgoing) {
        self.queues.push(Control::Tcp { tuple, segment });
    }

    /// Largest TCP payload without options that one packet of our link carries.
    fn link_mss(&self, tuple: &FourTuple) -> u16 {
        self.config.mtu.saturating_sub(tuple.headers_len()).max(88)
    }

    /// Whether our address may be used: not before there is one ([`Config::dhcp`]), with
    /// [`AddressDetection::Probe`] not before it was asked for, and never if another host has it.
    pub fn may_use_address(&self) -> bool {
        self.detector.is_usable() && !self.config.ipv4_addr.is_unspecified()
    }

    /// Connections of an address that is ours no more are over; nothing is sent, since it would come from
    /// another.
    fn close_connections<A: Application>(&mut self, now: Instant, of_ipv4: bool, app: &mut A) {
        for half_open in self.backlog.take(of_ipv4) {
            if let Some(id) = half_open.timer {
                self.half_open_wheel.cancel(id);
            }
        }
        let keys: Vec<Key> = self.demux.values(of_ipv4).copied().collect();
        for key in keys {
            let Some((pcb, mut stream)) = app.connection(key) else { continue };
            let closed = Disposition::Closed(CloseReason::AddressLost);
            let closed = self.settle(now, key, pcb, &mut stream, closed);
            drop(stream);
            if let Some(reason) = closed {
                app.closed(now, key, reason);
            }
        }
    }

    /// What the stack was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Connections that the stack knows a key for, without those in TIME-WAIT.
    pub fn connections(&self) -> usize {
        self.demux.len() - self.blocks_in_time_wait
    }

    /// Half-open connections.
    pub fn half_open(&self) -> usize {
        self.backlog.len()
    }

    /// Connections in TIME-WAIT.
    pub fn in_time_wait(&self) -> usize {
        self.time_wait.len() + self.blocks_in_time_wait
    }

    /// Timers that run, one at most for each connection and half-open connection.
    pub fn timers(&self) -> usize {
        self.wheel.len() + self.half_open_wheel.len()
    }

    pub(crate) fn count_passed_on(&mut self, frames: u64) {
        self.stats.passed_on = frames;
    }

    /// Bytes of incomplete datagrams held.
    pub fn fragment_bytes(&self) -> usize {
        self.fragments.bytes()
    }

    /// Out-of-order bytes held over all connections.
    pub fn reassembly_bytes(&self) -> usize {
        self.reassembly_bytes
    }
}
