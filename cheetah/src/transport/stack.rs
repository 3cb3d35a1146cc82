//! Our own TCP/IP: one thread, one device, one [`Stack`], and all its connections.
//!
//! The loop polls the device's descriptor and the stack's timers. A turn takes in a batch of frames, lets the timers that are due
//! run, and sends until neither stack nor device has more. Responses are never gathered anywhere: the stack asks the
//! connection for the bytes of each segment, and these are slices of the image.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use netstack::device::Device;
use netstack::stack::{self, Event, Stack};
use runtime::event_loop::EventLoop;
use runtime::poller::{Interest, Token, Trigger};
use runtime::stats::work::Work;
use runtime::time::Instant;

use super::control::{Order, Orders, Shared};
use super::unix_now;
use super::web::Web;
use crate::report::Report;
use crate::service::Service;

/// Frames taken in before what they caused is sent.
const RECEIVE_BATCH: usize = 64;

/// Transmissions before arrivals are looked at again.
const TRANSMIT_BATCH: usize = 256;

const DEVICE: Token = Token(0);
const ORDERS: Token = Token(1);

/// Addresses of a stack.
#[derive(Clone, Debug)]
pub struct Addressing {
    /// Our address and the prefix length of its network.
    pub addr: (Ipv4Addr, u8),
    /// The way out of that network.
    pub gateway: Option<Ipv4Addr>,
    /// The port to listen on.
    pub port: u16,
}

/// One event loop over a device.
#[derive(Debug)]
pub struct Worker<D> {
    device: D,
    stack: Stack,
    port: u16,
    web: Web,
    events: EventLoop,
    orders: Orders,
    shared: Arc<Shared>,
    drain_limit: Duration,
    drain_until: Option<Instant>,
    waits_for_room: bool,
}

impl<D: Device> Worker<D> {
    /// A loop that serves on `device`. `features` are the stack's specialisations.
    ///
    /// # Errors
    /// If the system has no more descriptors or random bytes, or port 0 was asked for.
    pub fn new(
        device: D,
        addressing: &Addressing,
        features: stack::Features,
        orders: Orders,
        shared: Arc<Shared>,
        service: Service,
        drain_limit: Duration,
    ) -> io::Result<Worker<D>> {
        let (addr, prefix_len) = addressing.addr;
        let mut secret = [0; 16];
        rustix::rand::getrandom(&mut secret[..], rustix::rand::GetRandomFlags::empty())?;
        let mut config = stack::Config::new(device.hardware_addr(), addr, prefix_len, secret);
        config.gateway = addressing.gateway;
        config.mtu = device.mtu();
        config.features = features;
        let mut stack = Stack::new(config);
        stack
            .listen(addressing.port)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "port 0 cannot be listened on"))?;
        let events = EventLoop::new()?;
        if let Some(descriptor) = device.descriptor() {
            events.add(&descriptor, DEVICE, Interest::READ, Trigger::Level)?;
        }
        events.add(&orders, ORDERS, Interest::READ, Trigger::Level)?;
        let web = Web::new(service);
        Ok(Worker {
            device,
            stack,
            port: addressing.port,
            web,
            events,
            orders,
            shared,
            drain_limit,
            drain_until: None,
            waits_for_room: false,
        })
    }

    /// Serves until ordered to drain and nothing is left to do. Gives the device back.
    ///
    /// # Errors
    /// If the device became useless, or waiting for it.
    pub fn run(mut self) -> io::Result<D> {
        let mut more = false;
        loop {
            self.wait(more)?;
            let now = self.events.now();
            self.web.service.set_time(now, unix_now());
            more = self.receive(now)?;
            if self.stack.poll_timeout().is_some_and(|due| due <= now) {
                self.stack.handle_timeout(now, &mut self.web);
            }
            more |= self.transmit(now)?;
            while let Some(event) = self.stack.poll_event() {
                tell(event);
            }
            if self.drain_until.is_some_and(|until| self.web.is_idle() || now >= until) && !more {
                break;
            }
        }
        if let Some(log) = &mut self.web.service.log {
            log.flush();
        }
        self.shared.end(&self.report());
        Ok(self.device)
    }

    /// Waits for a frame, a timer or an order; only looks when there is `more` to do.
    fn wait(&mut self, more: bool) -> io::Result<()> {
        let deadline = if more {
            Some(Instant::ZERO)
        } else {
            if let Some(log) = &mut self.web.service.log {
                log.flush();
            }
            [self.stack.poll_timeout(), self.device.next_arrival(), self.drain_until]
                .into_iter()
                .flatten()
                .min()
        };
        let ordered = self.events.turn(deadline)?.iter().any(|event| event.token == ORDERS);
        if ordered {
            self.obey();
        }
        Ok(())
    }

    /// Takes in a batch; whether there may be more.
    fn receive(&mut self, now: Instant) -> io::Result<bool> {
        for _ in 0..RECEIVE_BATCH {
            match self.device.receive(now)? {
                Some(frame) => self.stack.handle_frame(now, frame.bytes, frame.checksum, &mut self.web),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Sends what there is to send; whether there may be more that the device has room for.
    fn transmit(&mut self, now: Instant) -> io::Result<bool> {
        let capabilities = self.device.capabilities();
        let mut more = true;
        let mut has_room = true;
        for _ in 0..TRANSMIT_BATCH {
            has_room = self.device.can_transmit();
            if !has_room {
                break;
            }
            let device = &mut self.device;
            let send =
                |transmission: &netstack::transmission::Transmission<'_>| device.transmit(now, transmission);
            match self.stack.poll_transmit(now, &capabilities, &mut self.web, send) {
                Some(sent) => sent?,
                None => {
                    more = false;
                    break;
                }
            }
        }
        self.device.flush(now)?;
        if has_room == self.waits_for_room {
            self.waits_for_room = !has_room;
            let interest = if has_room { Interest::READ } else { Interest::BOTH };
            if let Some(descriptor) = self.device.descriptor() {
                self.events.modify(&descriptor, DEVICE, interest, Trigger::Level)?;
            }
        }
        Ok(more && has_room)
    }

    fn report(&self) -> Report {
        Report {
            stats: self.web.service.stats.clone(),
            device: self.device.stats(),
            work: Work::of_this_thread(),
            open: self.web.connections() as u64,
            held_bytes: self.web.held_bytes(),
        }
    }

    fn obey(&mut self) {
        while let Some(order) = self.orders.next() {
            match order {
                Order::Reload => self.web.service.site = self.shared.site(),
                Order::Report => self.shared.answer(self.report()),
                Order::Drain if self.drain_until.is_some() => {}
                Order::Drain => {
                    self.stack.unlisten(self.port);
                    self.drain_until = Some(self.events.now() + self.drain_limit);
                    for key in self.web.drain() {
                        self.stack.wake(key);
                    }
                }
            }
        }
    }
}

/// Where a stack listens.
pub fn listen_addr(addressing: &Addressing) -> SocketAddr {
    SocketAddrV4::new(addressing.addr.0, addressing.port).into()
}

fn tell(event: Event) {
    match event {
        Event::AddressConflict { hardware_addr } => {
            tracing::warn!("another host claims our address: {hardware_addr:02x?}");
        }
        Event::Unreachable { addr } => tracing::debug!("{addr} does not answer ARP"),
        Event::BacklogOverflow { lost } => {
            tracing::debug!("the backlog is full: {lost} SYNs answered by cookies")
        }
    }
}
