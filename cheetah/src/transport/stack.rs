//! Our own TCP/IP: a thread with a device, a [`Stack`], and all its connections. Several share an address by
//! [`netstack::sharing`], and nothing else.
//!
//! The stack and the device are turned by netstack's [`Driver`]; what is added here are the orders of the
//! server, and the time of day. Responses are never gathered anywhere: the stack asks the connection for the
//! bytes of each segment, and these are slices of the image.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use netstack::device::Device;
use netstack::driver::{self, Driver};
use netstack::handler::xdp::XdpFilter;
use netstack::handler::{Handlers, NamedHandler};
use netstack::sharing::Sharing;
use netstack::stack::{self, AddressDetection, Stack};

use netstack::tcp;
use runtime::poller::{Event, Interest, Token, Trigger};
use runtime::stats::work::Work;
use runtime::time::Instant;
use smallvec::SmallVec;

use super::control::{self, Order, Orders, Shared};
use super::web::Web;
use crate::clock::unix_now;
use crate::programs::Programs;
use crate::report::Report;
use crate::service::Service;

const ORDERS: Token = Token(0);

/// What a stack is to be like: its addresses, and how it behaves.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// Our address and the prefix length of its network.
    pub addr: (Ipv4Addr, u8),
    /// Further addresses of ours, of either family, with their prefixes' lengths.
    pub more_addrs: Vec<(IpAddr, u8)>,
    /// Both, and the gateway, come from a DHCP server; those given count for nothing.
    pub dhcp: bool,
    /// The way out of that network.
    pub gateway: Option<Ipv4Addr>,
    /// The same in IPv6, if it is spoken.
    pub ipv6: Option<stack::Ipv6Config>,
    /// The same had from a router, where none is given.
    pub ipv6_autoconf: bool,
    /// Ask whether another host has the address, before it is used.
    pub probe_addr: bool,
    /// The port to listen on.
    pub port: u16,
    /// The port whose connections are secured, where there are certificates.
    pub tls_port: Option<u16>,
    /// Who decides how much may be under way.
    pub congestion: tcp::Algorithm,
    /// Whether routers may mark in place of dropping.
    pub ecn: tcp::EcnUse,
    /// Let what may be under way leave over the round trip.
    pub pacing: bool,
    /// Answers of what clients ask in their SYNs (RFC 7413), if at all.
    pub fast_open: Option<stack::FastOpenConfig>,
    /// The specialisations.
    pub features: stack::Features,
    /// What sees frames before the stack, in that order.
    pub handlers: Vec<NamedHandler>,
    /// What sees them in the kernel already: its counters are told with ours.
    pub filter: Option<Arc<XdpFilter>>,
}

impl StackOptions {
    /// A stack at this address, with nothing out of the ordinary.
    pub fn new(addr: (Ipv4Addr, u8), port: u16) -> StackOptions {
        let (features, congestion) = (stack::Features::default(), tcp::Algorithm::default());
        StackOptions {
            addr,
            more_addrs: Vec::new(),
            dhcp: false,
            gateway: None,
            ipv6: None,
            ipv6_autoconf: false,
            probe_addr: false,
            port,
            tls_port: None,
            congestion,
            ecn: tcp::EcnUse::default(),
            pacing: true,
            fast_open: None,
            features,
            handlers: Vec::new(),
            filter: None,
        }
    }
}

/// One event loop over a device.
#[derive(Debug)]
pub struct Worker<D> {
    driver: Driver<D, Web>,
    filter: Option<Arc<XdpFilter>>,
    ports: [Option<u16>; 2],
    orders: Orders,
    shared: Arc<Shared>,
    drain_limit: Duration,
    drain_until: Option<Instant>,
}

impl<D: Device> Worker<D> {
    /// A loop that serves on `device`.
    ///
    /// # Errors
    /// If the system has no more descriptors or random bytes, port 0 was asked for, or another host has the
    /// address.
    pub fn new(
        device: D,
        sharing: Option<Sharing>,
        options: &StackOptions,
        orders: Orders,
        shared: Arc<Shared>,
        service: Service,
        drain_limit: Duration,
    ) -> io::Result<Worker<D>> {
        let (addr, prefix_len) = options.addr;
        let mut config = driver::config(&device, addr, prefix_len)?;
        config.dhcp = options.dhcp;
        for &(addr, prefix_len) in &options.more_addrs {
            match addr {
                IpAddr::V4(addr) => config.more_ipv4.push((addr, prefix_len)),
                IpAddr::V6(addr) => config.more_ipv6.push((addr, prefix_len)),
            }
        }
        config.gateway = options.gateway;
        config.ipv6 = options.ipv6;
        config.ipv6_autoconf = options.ipv6_autoconf;
        if options.probe_addr {
            config.address_detection = AddressDetection::Probe;
        }
        config.share = sharing.as_ref().map(Sharing::share).unwrap_or_default();
        if !config.share.is_first() {
            config.address_detection = AddressDetection::None;
        }
        config.features = options.features;
        config.tcp.congestion = options.congestion;
        config.tcp.ecn = options.ecn;
        config.tcp.pacing = options.pacing;
        config.fast_open = options.fast_open;
        if !options.features.time_wait_records {
            // What is kept in TIME-WAIT counts among the connections here: it must leave room for new ones.
            config.time_wait_capacity = service.options.max_connections / 2;
        }
        let mut stack = Stack::new(config);
        stack
            .listen(options.port)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "port 0 cannot be listened on"))?;
        if let Some(port) = options.tls_port {
            let why = "the port of --tls-listen cannot be listened on: give another than --listen's, not 0";
            stack.listen(port).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        }
        let mut web = Web::new(service);
        web.tls_port = options.tls_port;
        let mut driver = Driver::new(device, stack, web)?;
        driver.set_handlers(Handlers::new(&options.handlers));
        sharing.map_or(Ok(()), |sharing| driver.share(sharing))?;
        await_address(&mut driver, options.dhcp)?;
        driver.events().add(&orders, ORDERS, Interest::READ, Trigger::Level)?;
        let registrar = driver.events().registrar();
        let waker = driver.events().waker();
        driver.app_mut().service.attach(registrar, waker)?;
        let ports = [Some(options.port), options.tls_port];
        let filter = options.filter.clone();
        Ok(Worker { driver, filter, ports, orders, shared, drain_limit, drain_until: None })
    }

    /// The address that it serves at.
    pub fn addr(&self) -> Ipv4Addr {
        self.driver.stack().config().ipv4_addr
    }

    /// Serves until ordered to drain and nothing is left to do. Gives the device back.
    ///
    /// # Errors
    /// If the device became useless, or waiting for it.
    pub fn run(mut self) -> io::Result<D> {
        loop {
            if self.driver.app().service.latency.is_due() {
                let now = self.driver.events().clock().now();
                self.driver.app_mut().service.latency.end_turn(now);
            }
            if !self.driver.has_more() {
                self.driver.app_mut().service.logs.flush();
            }
            self.driver.app_mut().service.turn_reads();
            let service = &self.driver.app().service;
            let now = service.has_work().then_some(Instant::ZERO);
            let until = [now, self.drain_until, service.programs_deadline()].into_iter().flatten().min();
            let ready = self.driver.wait(until)?;
            let of_programs: SmallVec<[Event; 16]> =
                ready.iter().filter(|event| Programs::owns(event.token)).copied().collect();
            let has_orders = ready.iter().any(|event| event.token == ORDERS);
            let now = self.driver.now();
            self.driver.app_mut().service.set_time(now, unix_now());
            if has_orders {
                self.obey();
            }
            let service = &mut self.driver.app_mut().service;
            of_programs.iter().for_each(|event| service.on_program(event));
            service.turn_programs();
            service.turn_reads();
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
        self.driver.app_mut().give_up();
        self.driver.app_mut().service.logs.flush();
        // Whose block is only kept for TIME-WAIT is over.
        let in_time_wait = self.driver.app().connections() - self.driver.stack().connections();
        self.driver.app_mut().service.stats.closed += in_time_wait as u64;
        self.shared.end(&self.report());
        let (device, ..) = self.driver.into_parts();
        Ok(device)
    }

    fn report(&self) -> Report {
        let web = self.driver.app();
        let mut handlers: Vec<_> = self.driver.handlers().stats().cloned().collect();
        if let Some(filter) = &self.filter {
            match filter.stats() {
                Ok(stats) => handlers.extend(stats),
                Err(error) => tracing::warn!("the XDP program's counters cannot be read: {error}"),
            }
        }
        Report {
            stats: web.service.stats.clone(),
            latency: web.service.latency.clone(),
            device: self.driver.device().stats(),
            stack: *self.driver.stack().stats(),
            handlers,
            work: Work::of_this_thread(),
            open: self.driver.stack().connections() as u64,
            held_bytes: web.held_bytes(),
            cache: web.service.programs.as_ref().and_then(|programs| programs.cache()),
        }
    }

    fn obey(&mut self) {
        while let Some(order) = self.orders.next() {
            match order {
                Order::Reload => control::take_up(&mut self.driver.app_mut().service, &self.shared),
                Order::ReopenLog => self.driver.app_mut().service.logs.reopen(),
                Order::Report => self.shared.answer(self.report()),
                Order::Drain if self.drain_until.is_some() => {}
                Order::Drain => {
                    self.drain_until = Some(self.driver.now() + self.drain_limit);
                    let (stack, web) = self.driver.parts();
                    for port in self.ports.into_iter().flatten() {
                        stack.unlisten(port);
                    }
                    for key in web.drain() {
                        stack.wake(key);
                    }
                }
            }
        }
    }
}

/// How long a DHCP server may take. It is asked five times meanwhile.
const DHCP_LIMIT: Duration = Duration::from_secs(60);

/// Turns until the stack may use its address, which takes up to seven seconds if it is probed for, and as
/// long as a DHCP server takes, if it comes from one.
fn await_address<D: Device>(driver: &mut Driver<D, Web>, by_dhcp: bool) -> io::Result<()> {
    let limit = by_dhcp.then(|| driver.events().clock().now() + DHCP_LIMIT);
    while !driver.stack().may_use_address() {
        if limit.is_some_and(|limit| driver.now() >= limit) {
            let why = "no DHCP server gave us an address in a minute: give one by --addr IP/PREFIX";
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        driver.turn(limit)?;
        while let Some(event) = driver.stack_mut().poll_event() {
            // Of an address by DHCP the server is told, and another is asked for.
            if let stack::Event::AddressRefused { addr, hardware_addr } = event
                && !by_dhcp
            {
                let why = format!("{hardware_addr} has the address {addr} already: give another");
                return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
            }
            if let stack::Event::Leased { lease } = event
                && kernel_has(lease.addr.into())
            {
                let why = format!(
                    "the DHCP server {} gives us {}, which the kernel of this host has already: \
                     give another address by --addr IP/PREFIX",
                    lease.server, lease.addr
                );
                return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
            }
            tell(event);
        }
    }
    Ok(())
}

/// Whether the kernel answers for `addr` as well, which would reset our connections. It lets sockets be bound
/// only to its own addresses; unless it lets them be bound to any, then nobody knows.
fn kernel_has(addr: IpAddr) -> bool {
    let is_bound = |addr: IpAddr| UdpSocket::bind((addr, 0)).is_ok();
    let nobodys: IpAddr = match addr {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 251).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0xffff, 0, 0, 0, 0xfb).into(),
    };
    is_bound(addr) && !is_bound(nobodys)
}

/// Where a stack listens.
pub fn listen_addr(options: &StackOptions) -> SocketAddr {
    SocketAddrV4::new(options.addr.0, options.port).into()
}

fn tell_if_kernels(addr: IpAddr) {
    if kernel_has(addr) {
        tracing::error!(
            "the kernel of this host has {addr}, too, and resets our connections: give another address"
        );
    }
}

fn tell(event: stack::Event) {
    match event {
        stack::Event::AddressConflict { addr, hardware_addr } => {
            tracing::warn!("{hardware_addr} claims our address {addr}, which is defended");
        }
        stack::Event::AddressRefused { addr, hardware_addr } => {
            tracing::warn!("{hardware_addr} has the address {addr} already: we do not use it");
        }
        stack::Event::Leased { lease } => {
            tracing::info!("the DHCP server {} gives us {}/{}", lease.server, lease.addr, lease.prefix_len);
            if lease.router.is_none() {
                tracing::warn!("it names no router on our network: only this network is reached");
            }
            tell_if_kernels(lease.addr.into());
        }
        stack::Event::LeaseLost => {
            tracing::warn!(
                "our address is ours no more: its lease ran out, or was taken back; asking for another"
            );
        }
        stack::Event::Ipv6Changed { addr: Some(addr) } => {
            tracing::info!("our address in IPv6 is {addr}");
            tell_if_kernels(addr.into());
        }
        stack::Event::Ipv6Changed { addr: None } => tracing::warn!("we have no address in IPv6 any more"),
        stack::Event::Ipv6Refused { addr } => {
            tracing::warn!(
                "another host has {addr}, which the routers' prefix would give us: it is not used"
            );
        }
        stack::Event::Unreachable { addr } => tracing::debug!("{addr} does not say where it is"),
        stack::Event::BacklogOverflow { lost } => {
            tracing::debug!("the backlog is full: {lost} SYNs answered by cookies")
        }
        other => tracing::debug!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_kernels_are_known() {
        assert!(kernel_has(Ipv4Addr::LOCALHOST.into()));
        assert!(!kernel_has(Ipv4Addr::new(203, 0, 113, 9).into()));
        assert!(!kernel_has(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9).into()));
    }
}
