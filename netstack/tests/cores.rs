//! Several stacks with one address, a thread and a queue of the interface each, against the kernel's clients:
//! each connection is served, by the stack that it belongs to, and nobody resets what is another's. Needs
//! root, or says so.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use netstack::buffered::{Buffered, Handler};
use netstack::connections::Connections;
use netstack::device::Device;
use netstack::device::packet::PacketDevice;
use netstack::device::ring::RingDevice;
use netstack::device::tap::TapDevice;
use netstack::device::xdp::XdpDevice;
use netstack::driver::{self, Driver};
use netstack::handler::xdp::XdpFilter;
use netstack::send_buffer::SendBuffer;
use netstack::sharing::Sharing;
use netstack::stack::{Ipv6Config, Stack, Stats};
use netstack::sys::{link, netns};
use netstack::with_datagrams::WithDatagrams;
use runtime::buffer::{Aggregate, Shared, Slice};

const KERNELS: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 2);
const OURS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 79, 0, 0, 0, 2);
const PORT: u16 = 7;
const CONNECTIONS: u64 = 160;
const DATAGRAMS: u64 = 40;
const OVER_IPV6: u64 = 30;

struct Echo;

impl Handler for Echo {
    fn receive(&mut self, out: &mut SendBuffer, bytes: &[u8]) {
        out.push(bytes);
    }
}

/// Runs `test` in a network namespace of its own.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if let Err(error) = netns::in_new(test) {
        eprintln!("skipped: no network namespace ({error})");
    }
}

/// A veth pair of so many queues, `ours` and the kernel's. `None`, told, where it cannot be made.
fn veth(queues: u32) -> Option<()> {
    let made = link::create_veth_with_queues("ours", "kernels", queues)
        .and_then(|()| link::add_address("kernels", KERNELS, 24))
        .and_then(|()| link::set_up("ours"))
        .and_then(|()| link::set_up("kernels"))
        .and_then(|()| link::set_tx_offload("kernels", false));
    made.inspect_err(|error| eprintln!("skipped: no veth pair ({error})")).ok()
}

/// A driver each, until it is told to end; what its stack has counted then.
fn serve<D: Device + Send + 'static>(
    devices: Vec<D>,
    parts: Vec<Sharing>,
    ended: &Arc<AtomicBool>,
) -> Vec<thread::JoinHandle<Stats>> {
    let run = |device: D, part: Sharing, ended: Arc<AtomicBool>| {
        let mut config = driver::config(&device, OURS, 24).unwrap();
        config.share = part.share();
        config.ipv6 = Some(Ipv6Config { addr: OURS6, prefix_len: 64, gateway: None });
        let mut stack = Stack::new(config);
        stack.listen(PORT).unwrap();
        stack.bind_udp(Some(PORT)).unwrap();
        let app = WithDatagrams::new(
            Connections::new(|_| Some(Buffered::new(Echo))),
            |socket, from, bytes, out| {
                out.send(socket, from, Aggregate::from(Slice::from(Shared::from(bytes.to_vec())))).unwrap();
            },
        );
        let mut driver = Driver::new(device, stack, app).unwrap();
        driver.share(part).unwrap();
        while !ended.load(Ordering::Relaxed) {
            let soon = driver.events().clock().now() + Duration::from_millis(20);
            driver.turn(Some(soon)).unwrap();
        }
        *driver.stack().stats()
    };
    let start = |(device, part)| {
        let ended = Arc::clone(ended);
        thread::spawn(move || run(device, part, ended))
    };
    devices.into_iter().zip(parts).map(start).collect()
}

fn connect(to: impl Into<IpAddr>) -> TcpStream {
    let stream = TcpStream::connect_timeout(&(to.into(), PORT).into(), Duration::from_secs(20)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Closes, and sees the other side do so.
fn end(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

fn echo(stream: &mut TcpStream, byte: u8) {
    let (sent, mut got) = (vec![byte; 3000], vec![0; 3000]);
    stream.write_all(&sent).unwrap();
    stream.read_exact(&mut got).unwrap();
    assert_eq!(sent, got);
}

/// From many ports, short ones and such as come in fragments, which only the first stack puts together.
fn datagrams() {
    for i in 0..DATAGRAMS as usize {
        let socket = UdpSocket::bind((KERNELS, 0)).unwrap();
        socket.connect((OURS, PORT)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        for len in [i, 4000 + i] {
            let sent: Vec<u8> = (0..len).map(|byte| (byte * 7 + i) as u8).collect();
            socket.send(&sent).unwrap();
            let mut got = vec![0; 10_000];
            let n = socket.recv(&mut got).unwrap();
            assert!(got[..n] == sent, "{i}: {n} of {len}");
        }
    }
}

/// Some connections more, if the kernel speaks it. How many.
fn over_ipv6() -> u64 {
    let has_address = ["tap0", "kernels"].into_iter().any(|device| {
        let arguments = ["-6", "addr", "add", "fd00:0:0:4f::1/64", "dev", device, "nodad"];
        Command::new("ip").args(arguments).output().is_ok_and(|output| output.status.success())
    });
    if !has_address {
        eprintln!("skipped: the kernel has no IPv6 here");
        return 0;
    }
    for _ in 0..OVER_IPV6 {
        let mut stream = connect(OURS6);
        echo(&mut stream, 6);
        end(stream);
    }
    OVER_IPV6
}

/// Clients one after another and all at once. What each stack counted.
fn exercise<D: Device + Send + 'static>(devices: Vec<D>, parts: Vec<Sharing>) -> Vec<Stats> {
    let ended = Arc::new(AtomicBool::new(false));
    let drivers = serve(devices, parts, &ended);
    let mut kept: Vec<TcpStream> = (0..CONNECTIONS / 2).map(|_| connect(OURS)).collect();
    for round in 0..2 {
        kept.iter_mut().for_each(|stream| echo(stream, round));
    }
    for _ in 0..CONNECTIONS / 2 {
        let mut stream = connect(OURS);
        echo(&mut stream, 7);
        end(stream);
    }
    // Nobody listens: refused by whose it would be.
    for _ in 0..20 {
        assert!(TcpStream::connect_timeout(&(OURS, 9).into(), Duration::from_secs(5)).is_err());
    }
    if let Ok(output) =
        Command::new("ping").args(["-n", "-c", "3", "-i", "1", "-s", "4000", "10.79.0.2"]).output()
    {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("3 received") && !text.contains("DUP") && !text.contains("wrong"), "{text}");
    }
    kept.into_iter().for_each(end);
    datagrams();
    let over_ipv6 = over_ipv6();
    ended.store(true, Ordering::Relaxed);
    let all: Vec<Stats> = drivers.into_iter().map(|driver| driver.join().unwrap()).collect();
    let accepted: Vec<u64> = all.iter().map(|stats| stats.accepted).collect();
    assert_eq!(accepted.iter().sum::<u64>(), CONNECTIONS + over_ipv6);
    // Even, but for chance: of 160, fewer than 30 on one of two is one in 10^15.
    let even = CONNECTIONS / all.len() as u64;
    assert!(accepted.iter().all(|accepted| *accepted * 5 > even * 2), "{accepted:?}");
    assert!(all.iter().all(|stats| stats.datagrams_in > 2), "{all:?}");
    all
}

/// The kernel learns from what is sent by which queue: only a flow's first frames come to the wrong one.
#[test]
fn tap_queues() {
    in_namespace(|| {
        let first = match TapDevice::open_queue(Some("tap0"), true, None) {
            Ok(first) => first,
            Err(error) => return eprintln!("skipped: no TAP device ({error})"),
        };
        let addr = Some(first.hardware_addr());
        let mut devices = vec![first];
        devices.extend((0..2).map(|_| TapDevice::open_queue(Some("tap0"), true, addr).unwrap()));
        link::add_address("tap0", KERNELS, 24).unwrap();
        link::set_up("tap0").unwrap();
        let all = exercise(devices, Sharing::among(3).unwrap());
        let passed: u64 = all.iter().map(|stats| stats.passed_on).sum();
        let segments: u64 = all.iter().map(|stats| stats.segments_in).sum();
        assert!(passed > 0 && passed < segments / 2, "{passed} of {segments}");
    });
}

#[test]
fn the_kernel_gives_a_ring_its_flows() {
    in_namespace(|| {
        let Some(()) = veth(1) else { return };
        let parts = Sharing::among(2).unwrap();
        let open = |part: &Sharing| {
            let ring = RingDevice::open("ours", true)?;
            ring.join_group(77, &part.share()).map(|()| ring)
        };
        let devices: Vec<RingDevice> = match parts.iter().map(open).collect() {
            Ok(devices) => devices,
            Err(error) => return eprintln!("skipped: no rings ({error})"),
        };
        only_arp_is_passed(&exercise(devices, parts));
    });
}

#[test]
fn the_kernel_gives_a_packet_socket_its_flows() {
    in_namespace(|| {
        let Some(()) = veth(1) else { return };
        let parts = Sharing::among(2).unwrap();
        let open = |part: &Sharing| {
            let packet = PacketDevice::open("ours")?;
            packet.join_group(78, &part.share()).map(|()| packet)
        };
        let devices: Vec<PacketDevice> = match parts.iter().map(open).collect() {
            Ok(devices) => devices,
            Err(error) => return eprintln!("skipped: no packet sockets ({error})"),
        };
        only_arp_is_passed(&exercise(devices, parts));
    });
}

/// The program in the kernel and ours agree whose a flow is, and each answers who was refused.
fn only_arp_is_passed(all: &[Stats]) {
    // A client that waits for a second asks again; if each stack answered, there would be twice as many.
    let resets = all.iter().map(|stats| stats.resets_out).sum::<u64>();
    assert!((20..40).contains(&resets), "{all:?}");
    let passed: u64 = all.iter().map(|stats| stats.passed_on).sum();
    // And neighbour discovery, and what was put together of fragments, which are the first one's.
    assert!(passed < 30 + DATAGRAMS, "{all:?}");
}

/// Whose queue a frame comes by is its sender's choice: all the same each connection has one stack.
#[test]
fn af_xdp_queues() {
    in_namespace(|| {
        let Some(()) = veth(2) else { return };
        let filter = XdpFilter::to_sockets(OURS, Some(OURS6), &[], 2).and_then(|mut filter| {
            filter.attach_first("ours")?;
            Ok(Arc::new(filter))
        });
        let filter = match filter {
            Ok(filter) => filter,
            Err(error) => return eprintln!("skipped: no XDP here ({error})"),
        };
        let open = |index| XdpDevice::open_part("ours", Arc::clone(&filter), index, 2).unwrap();
        let all = exercise(vec![open(0), open(1)], Sharing::among(2).unwrap());
        let used = all.iter().filter(|stats| stats.passed_on > 0).count();
        assert!(used > 0, "{all:?}");
        let few = XdpDevice::open_part("ours", Arc::clone(&filter), 0, 3).unwrap_err();
        assert!(few.to_string().contains("has 2 queues only"), "{few}");
    });
}
