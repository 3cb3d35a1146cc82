//! Servers in the test's own process: on the kernel's sockets, and on our own TCP/IP against the kernel's.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use cheetah::server::{Config, Server};
use cheetah::store::Store;
use cheetah::transport::device::{self, DeviceOptions, Interface};
use cheetah::transport::kernel::SocketCalls;
use cheetah::transport::stack::StackOptions;
use netstack::sharing::Sharing;
use netstack::stack::Features;
use netstack::sys::link;

pub const OURS: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 2);
pub const KERNELS: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);

/// On the kernel's sockets, one loop, any port. All tests have theirs by io_uring if `CHEETAH_TEST_IO_URING`
/// is set.
pub fn on_kernel(store: Arc<dyn Store>, config: &Config) -> Server {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = config.clone();
    if std::env::var_os("CHEETAH_TEST_IO_URING").is_some() {
        match SocketCalls::probe() {
            Ok(()) => config.calls = SocketCalls::Uring,
            Err(error) => eprintln!("skipped: there is no io_uring ({error}); what follows is by epoll"),
        }
    }
    Server::on_kernel(store, any, 1, &config).unwrap()
}

/// A TAP device in the test's namespace, with offloads.
pub fn tap() -> DeviceOptions {
    let host_addr = Some((KERNELS, 24));
    DeviceOptions::new(Interface::Tap { name: Some("tap0".into()), host_addr, mtu: None })
}

/// A veth pair, `ours` and the kernel's, which is up. `None`, told, where it cannot be made.
pub fn veth() -> Option<()> {
    let made = link::create_veth("ours", "kernels")
        .and_then(|()| link::add_address("kernels", KERNELS, 24))
        .and_then(|()| link::set_up("ours"))
        .and_then(|()| link::set_up("kernels"));
    made.inspect_err(|error| eprintln!("skipped: no veth pair ({error})")).ok()
}

/// By our own TCP/IP on the device that `options` describe. `None`, told, where it cannot be had.
pub fn on_device(store: Arc<dyn Store>, options: &DeviceOptions, features: Features) -> Option<Server> {
    on_device_with(store, options, features, &Config::default())
}

/// The same, with all of a server's configuration.
pub fn on_device_with(
    store: Arc<dyn Store>,
    options: &DeviceOptions,
    features: Features,
    config: &Config,
) -> Option<Server> {
    let opened = match device::open(options) {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("skipped: {error}");
            return None;
        }
    };
    let filter = opened.filter;
    let stack = StackOptions { features, filter, ..StackOptions::new((OURS, 24), 80) };
    Some(Server::on_device(store, opened.device, &stack, config).unwrap())
}

/// By our own TCP/IP in several threads, each with a queue of the device. `None`, told, where it cannot be
/// had.
pub fn on_queues(store: Arc<dyn Store>, options: &DeviceOptions, workers: usize) -> Option<Server> {
    let parts = Sharing::among(workers).unwrap();
    let shares: Vec<_> = parts.iter().map(Sharing::share).collect();
    let opened =
        device::open_shared(options, &shares).inspect_err(|error| eprintln!("skipped: {error}")).ok()?;
    let filter = opened[0].filter.clone();
    let devices = opened.into_iter().map(|opened| opened.device).zip(parts.into_iter().map(Some)).collect();
    let stack = StackOptions { filter, ..StackOptions::new((OURS, 24), 80) };
    Some(Server::on_devices(store, devices, &stack, &Config::default()).unwrap())
}

/// A connection that waits for neither side longer than a test can.
pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(20)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A connection whose receiver takes little ahead.
pub fn connect_narrow(addr: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, 32 * 1024).unwrap();
    connect(&socket, &addr).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}
