//! Our own TCP/IP: one thread, one device, one [`Stack`], and all its connections.
//!
//! The stack and the device are turned by netstack's [`Driver`]; what is added here are the orders of the server, and the
//! time of day. Responses are never gathered anywhere: the stack asks the
//! connection for the bytes of each segment, and these are slices of the image.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use netstack::device::Device;
use netstack::driver::{self, Driver};
use netstack::stack::{self, Event, Stack};
use runtime::poller::{Interest, Token, Trigger};
use runtime::stats::work::Work;
use runtime::time::Instant;

use super::control::{Order, Orders, Shared};
use super::unix_now;
use super::web::Web;
use crate::report::Report;
use crate::service::Service;

const ORDERS: Token = Token(0);

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
    driver: Driver<D, Web>,
    port: u16,
    orders: Orders,
    shared: Arc<Shared>,
    drain_limit: Duration,
    drain_until: Option<Instant>,
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
        let mut config = driver::config(&device, addr, prefix_len)?;
        config.gateway = addressing.gateway;
        config.features = features;
        if !features.time_wait_records {
            // What is kept in TIME-WAIT counts among the connections here: it must leave room for new ones.
            config.time_wait_capacity = service.options.max_connections / 2;
        }
        let mut stack = Stack::new(config);
        stack
            .listen(addressing.port)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "port 0 cannot be listened on"))?;
        let driver = Driver::new(device, stack, Web::new(service))?;
        driver.events().add(&orders, ORDERS, Interest::READ, Trigger::Level)?;
        driver.app().service.wakes.set_loop(driver.events().waker());
        Ok(Worker { driver, port: addressing.port, orders, shared, drain_limit, drain_until: None })
    }

    /// Serves until ordered to drain and nothing is left to do. Gives the device back.
    ///
    /// # Errors
    /// If the device became useless, or waiting for it.
    pub fn run(mut self) -> io::Result<D> {
        loop {
            if !self.driver.has_more()
                && let Some(log) = &mut self.driver.app_mut().service.log
            {
                log.flush();
            }
            let ready = self.driver.wait(self.drain_until)?;
            if ready.iter().any(|event| event.token == ORDERS) {
                self.obey();
            }
            let now = self.driver.now();
            self.driver.app_mut().service.set_time(now, unix_now());
            let (stack, web) = self.driver.parts();
            for key in web.woken() {
                stack.wake(key);
            }
            self.driver.work()?;
            while let Some(event) = self.driver.stack_mut().poll_event() {
                tell(event);
            }
            let is_over = |until| self.driver.stack().connections() == 0 || now >= until;
            if self.drain_until.is_some_and(is_over) && !self.driver.has_more() {
                break;
            }
        }
        if let Some(log) = &mut self.driver.app_mut().service.log {
            log.flush();
        }
        // Whose block is only kept for TIME-WAIT is over.
        let in_time_wait = self.driver.app().connections() - self.driver.stack().connections();
        self.driver.app_mut().service.stats.closed += in_time_wait as u64;
        self.shared.end(&self.report());
        let (device, ..) = self.driver.into_parts();
        Ok(device)
    }

    fn report(&self) -> Report {
        let web = self.driver.app();
        Report {
            stats: web.service.stats.clone(),
            device: self.driver.device().stats(),
            work: Work::of_this_thread(),
            open: self.driver.stack().connections() as u64,
            held_bytes: web.held_bytes(),
        }
    }

    fn obey(&mut self) {
        while let Some(order) = self.orders.next() {
            match order {
                Order::Reload => self.driver.app_mut().service.site = self.shared.site(),
                Order::Report => self.shared.answer(self.report()),
                Order::Drain if self.drain_until.is_some() => {}
                Order::Drain => {
                    self.drain_until = Some(self.driver.now() + self.drain_limit);
                    let (stack, web) = self.driver.parts();
                    stack.unlisten(self.port);
                    for key in web.drain() {
                        stack.wake(key);
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
        other => tracing::debug!("{other:?}"),
    }
}
