//! UDP against the kernel's, over a TAP device in a namespace of the test's own. Needs root, or says so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as Kernels};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant as Clock};

use netstack::application::{Application, CloseReason, Datagrams, Key, Pcb, UdpSocket};
use netstack::buffered::{Buffered, Handler};
use netstack::connections::Connections;
use netstack::device::Device;
use netstack::device::ring::RingDevice;
use netstack::device::tap::TapDevice;
use netstack::driver::{self, Driver};
use netstack::send_buffer::SendBuffer;
use netstack::stack::{BindError, ConnectError, Ipv6Config, SendError, Stack};
use netstack::sys::{link, netns};
use runtime::buffer::{Aggregate, Shared, Slice};
use runtime::time::Instant;

const KERNELS: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 2);
const KERNELS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 80, 0, 0, 0, 1);
const OURS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 80, 0, 0, 0, 2);
const PORT: u16 = 53;

struct Nothing;

impl Handler for Nothing {
    fn receive(&mut self, _out: &mut SendBuffer, _bytes: &[u8]) {}
}

type Connected = Connections<Buffered<Nothing>, fn(&Pcb) -> Option<Buffered<Nothing>>>;

/// Answers each datagram with its length and itself, in two pieces, and remembers what it was told.
struct Answers {
    connections: Connected,
    got: Vec<(UdpSocket, SocketAddr, Vec<u8>)>,
    refused: Vec<(UdpSocket, SocketAddr)>,
}

fn aggregate(bytes: &[u8]) -> Aggregate {
    Aggregate::from(Slice::from(Shared::from(bytes.to_vec())))
}

impl Application for Answers {
    type Stream<'a> = &'a mut Buffered<Nothing>;

    fn accept(&mut self, now: Instant, pcb: Pcb) -> Option<Key> {
        self.connections.accept(now, pcb)
    }

    fn connection(&mut self, key: Key) -> Option<(&mut Pcb, &mut Buffered<Nothing>)> {
        self.connections.connection(key)
    }

    fn closed(&mut self, now: Instant, key: Key, reason: CloseReason) {
        self.connections.closed(now, key, reason);
    }

    fn datagram(
        &mut self,
        _now: Instant,
        socket: UdpSocket,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Datagrams,
    ) {
        self.got.push((socket, from, bytes.to_vec()));
        let mut answer = aggregate(bytes.len().to_string().as_bytes());
        answer.append(aggregate(bytes));
        let _ = out.send(socket, from, answer);
    }

    fn datagram_refused(&mut self, _now: Instant, socket: UdpSocket, to: SocketAddr) {
        self.refused.push((socket, to));
    }
}

type Net = Driver<TapDevice, Answers>;

/// A stack on `device`.
fn net<D: Device>(device: D) -> Driver<D, Answers> {
    let mut config = driver::config(&device, OURS, 24).unwrap();
    config.ipv6 = Some(Ipv6Config { addr: OURS6, prefix_len: 64, gateway: None });
    let connections: Connected = Connections::new(|_| None);
    let app = Answers { connections, got: Vec::new(), refused: Vec::new() };
    Driver::new(device, Stack::new(config), app).unwrap()
}

/// Runs `test` with a stack on a TAP device, in a namespace of its own.
fn with_tap(test: impl FnOnce(Net) + Send + 'static) {
    let run = move || {
        let made = netns::Namespace::new().and_then(|namespace| {
            namespace.enter()?;
            let tap = TapDevice::open(Some("tap0"), true)?;
            link::add_address("tap0", KERNELS, 24)?;
            link::set_up("tap0")?;
            Ok(tap)
        });
        let tap = match made {
            Ok(tap) => tap,
            Err(error) => return eprintln!("skipped: no TAP device in a namespace ({error})"),
        };
        test(net(tap));
    };
    thread::spawn(run).join().unwrap();
}

/// The same with rings on one end of a pair of interfaces.
fn with_rings(test: impl FnOnce(Driver<RingDevice, Answers>) + Send + 'static) {
    let run = move || {
        let made = netns::Namespace::new().and_then(|namespace| {
            namespace.enter()?;
            link::create_veth("ours", "kernels")?;
            link::add_address("kernels", KERNELS, 24)?;
            link::set_up("ours")?;
            link::set_up("kernels")?;
            RingDevice::open("ours", true)
        });
        match made {
            Ok(rings) => test(net(rings)),
            Err(error) => eprintln!("skipped: no rings in a namespace ({error})"),
        }
    };
    thread::spawn(run).join().unwrap();
}

/// Turns until `client`, in a thread of its own, is done.
fn serve<D: Device, T: Send + 'static>(
    net: &mut Driver<D, Answers>,
    client: impl FnOnce() -> T + Send + 'static,
) -> T {
    let client = thread::spawn(client);
    let limit = Clock::now() + Duration::from_secs(30);
    while !client.is_finished() {
        assert!(Clock::now() < limit, "hangs");
        turn(net);
    }
    client.join().unwrap()
}

fn turn<D: Device>(net: &mut Driver<D, Answers>) {
    let soon = net.events().clock().now() + Duration::from_millis(5);
    net.turn(Some(soon)).unwrap();
}

fn kernels(addr: impl Into<IpAddr>) -> Kernels {
    let socket = Kernels::bind((addr.into(), 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn ask(socket: &Kernels, to: impl Into<IpAddr>, len: usize) {
    let sent = bytes(len);
    socket.send_to(&sent, (to.into(), PORT)).unwrap();
    let mut got = vec![0; 70_000];
    let n = socket.recv(&mut got).unwrap();
    let expected = [len.to_string().as_bytes(), &sent].concat();
    assert!(got[..n] == expected, "{n} for {len}");
}

/// Of all lengths, over both families; the longest in fragments, both ways.
#[test]
fn datagrams_go_both_ways() {
    with_tap(|mut net| {
        let socket = net.stack_mut().bind_udp(Some(PORT)).unwrap();
        assert_eq!((socket.port(), socket.remote()), (PORT, None));
        serve(&mut net, || {
            let client = kernels(KERNELS);
            for len in [0, 1, 2, 1000, 1470, 1472, 1473, 2953, 9000, 65_502] {
                ask(&client, OURS, len);
            }
        });
        assert_eq!(net.app().got.len(), 10);
        let stats = *net.stack().stats();
        assert_eq!((stats.datagrams_in, stats.datagrams_out, stats.bad_checksums), (10, 10, 0));

        let address = format!("{KERNELS6}/64");
        let added = Command::new("ip").args(["-6", "addr", "add", &address, "dev", "tap0", "nodad"]).output();
        if !added.is_ok_and(|output| output.status.success()) {
            return eprintln!("skipped: the kernel has no IPv6 here");
        }
        serve(&mut net, || {
            let client = kernels(KERNELS6);
            for len in [0, 1, 1000, 1448, 1449, 1453, 9000, 65_502] {
                ask(&client, OURS6, len);
            }
        });
        assert_eq!(net.app().got.len(), 18);
    });
}

/// RFC 1122 section 4.1.3.1: who sends to where nobody listens hears of it, and so do we; each second so
/// often only.
#[test]
fn who_is_not_heard_is_told() {
    with_tap(|mut net| {
        let refused = serve(&mut net, || {
            let client = kernels(KERNELS);
            client.connect((OURS, 9)).unwrap();
            client.send(b"anybody?").unwrap();
            client.recv(&mut [0; 10]).unwrap_err().kind()
        });
        assert_eq!(refused, std::io::ErrorKind::ConnectionRefused);

        // A port of the kernel's that was free a moment ago.
        let to = kernels(KERNELS).local_addr().unwrap();
        let socket = net.stack_mut().connect_udp(None, to).unwrap();
        net.stack_mut().datagrams().send(socket, to, aggregate(b"anybody?")).unwrap();
        while net.app().refused.is_empty() {
            turn(&mut net);
        }
        assert_eq!(net.app().refused, [(socket, to)]);
    });
}

/// A socket that is connected gets its peer's, and one that is bound the others'.
#[test]
fn the_connected_comes_before_the_bound() {
    with_tap(|mut net| {
        let (first, second) = (kernels(KERNELS), kernels(KERNELS));
        let peer = first.local_addr().unwrap();
        let bound = net.stack_mut().bind_udp(Some(PORT)).unwrap();
        let connected = net.stack_mut().connect_udp(Some(PORT), peer).unwrap();
        assert_eq!(net.stack_mut().bind_udp(Some(PORT)), Err(BindError::PortInUse));
        let (first, second) = serve(&mut net, || {
            ask(&first, OURS, 100);
            ask(&second, OURS, 100);
            (first, second)
        });
        let sockets: Vec<UdpSocket> = net.app().got.iter().map(|(socket, ..)| *socket).collect();
        assert_eq!(sockets, [connected, bound]);

        let other = second.local_addr().unwrap();
        let datagrams = net.stack_mut().datagrams();
        assert_eq!(datagrams.send(connected, other, aggregate(b"x")), Err(SendError::BadAddress));
        assert_eq!(datagrams.send(bound, other, aggregate(&[0; 65_508])), Err(SendError::TooLong));
        let other6 = SocketAddr::from((KERNELS6, 9));
        assert_eq!(datagrams.send(bound, other6, aggregate(&[0; 65_508])), Err(SendError::TooLong));
        assert!(net.stack_mut().close_udp(connected) && !net.stack_mut().close_udp(connected));
        let datagrams = net.stack_mut().datagrams();
        assert_eq!(datagrams.send(connected, peer, aggregate(b"x")), Err(SendError::Closed));
        serve(&mut net, move || ask(&first, OURS, 10));
        let last = net.app().got.last().unwrap();
        assert_eq!((last.0, last.1), (bound, peer), "nobody is connected any more");
        let datagrams = net.stack_mut().datagrams();
        let full = (0..5000).find_map(|_| datagrams.send(bound, peer, aggregate(&[0; 1400])).err());
        assert_eq!((full, datagrams.waiting()), (Some(SendError::Full), 1024));

        let none = net.stack_mut().connect_udp(None, SocketAddr::from(([10, 80, 0, 2], 9)));
        assert_eq!(none, Err(BindError::Peer(ConnectError::BadAddress)), "our own");
        let ports: Vec<u16> = (0..100).map(|_| net.stack_mut().bind_udp(None).unwrap().port()).collect();
        assert!(ports.iter().all(|port| *port >= 32_768));
        assert!(ports.windows(2).filter(|pair| pair[1] == pair[0] + 1).count() < 5, "in a row: {ports:?}");
    });
}

/// What a socket of the kernel's sends as datagrams of so many bytes.
fn set_segments(socket: &Kernels, bytes: libc::c_int) -> bool {
    const UDP_SEGMENT: libc::c_int = 103;
    let (len, fd) = (size_of::<libc::c_int>() as libc::socklen_t, std::os::fd::AsRawFd::as_raw_fd(socket));
    // SAFETY: the option is one `int`, which outlives the call.
    unsafe { libc::setsockopt(fd, libc::SOL_UDP, UDP_SEGMENT, (&raw const bytes).cast(), len) == 0 }
}

/// Many datagrams in one frame, both ways, where the kernel can; each the same as if it had come by itself.
#[test]
fn many_datagrams_go_in_one_frame() {
    with_tap(|net| {
        let can = net.device().capabilities().datagrams;
        many_datagrams(net, can);
    });
}

/// By rings as well, while the interface cuts datagrams; and as single ones as soon as it does not.
#[test]
fn many_datagrams_go_in_one_slot() {
    with_rings(|net| {
        let features = link::tx_features("ours").unwrap();
        let told = Command::new("ethtool").args(["-k", "ours"]).output();
        if let Ok(told) = told {
            let told = String::from_utf8_lossy(&told.stdout).contains("tx-udp-segmentation: on");
            assert!(told || !features.datagrams, "it does not");
            assert!(features.datagrams || !told || !kernel_is_6_2(), "it does");
        }
        assert_eq!(net.device().capabilities().datagrams, features.datagrams && features.checksum);
        if kernel_is_6_2() {
            many_datagrams(net, features.datagrams);
        } else {
            // Older kernels hand on no super-datagrams to packet sockets, and drop what is sent so.
            many_datagrams_out(net, features.datagrams);
        }
    });
    with_rings(|net| {
        let off = Command::new("ethtool").args(["-K", "ours", "tx-udp-segmentation", "off"]).status();
        if !off.is_ok_and(|status| status.success()) {
            return eprintln!("skipped: no ethtool, or a feature that stays");
        }
        assert!(!link::tx_features("ours").unwrap().datagrams);
        drop(net);
        let rings = self::net(RingDevice::open("ours", true).unwrap());
        assert!(!rings.device().capabilities().datagrams);
        many_datagrams_out(rings, false);
    });
}

fn kernel_is_6_2() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map_while(|text| text.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(2))
}

/// Out, then in.
fn many_datagrams<D: Device>(net: Driver<D, Answers>, can: bool) {
    let (mut net, client) = many_datagrams_out(net, can);
    if !set_segments(&client, 1000) {
        return eprintln!("skipped: the kernel's sockets have no super-datagrams");
    }
    let before = net.app().got.len();
    let frames = net.device().stats().rx_frames;
    let sent = bytes(40_500);
    client.send_to(&sent, (OURS, PORT)).unwrap();
    let limit = Clock::now() + Duration::from_secs(30);
    while net.app().got.len() < before + 41 {
        assert!(Clock::now() < limit, "{} of 41", net.app().got.len() - before);
        turn(&mut net);
    }
    let got = net.app().got[before..].iter().map(|(.., bytes)| bytes.as_slice());
    assert!(got.eq(sent.chunks(1000)));
    let frames = net.device().stats().rx_frames - frames;
    assert!(if can { frames <= 4 } else { frames >= 41 }, "{frames} frames");
}

fn many_datagrams_out<D: Device>(mut net: Driver<D, Answers>, can: bool) -> (Driver<D, Answers>, Kernels) {
    let socket = net.stack_mut().bind_udp(Some(PORT)).unwrap();
    let client = kernels(KERNELS);
    let to = client.local_addr().unwrap();
    // One each way first, so that both know the other's address.
    serve(&mut net, {
        let client = client.try_clone().unwrap();
        move || ask(&client, OURS, 10)
    });
    for (total, segment) in
        [(40_000, 1000), (40_001, 1000), (1472, 1472), (65_000, 1450), (2000, 900), (64, 1)]
    {
        let sent = bytes(total);
        let parts = total.div_ceil(usize::from(segment));
        let frames = net.device().stats().tx_frames;
        let payload = aggregate(&sent);
        net.stack_mut().datagrams().send_segments(socket, to, payload, segment).unwrap();
        let got = serve(&mut net, receiving(&client, parts));
        assert!(got.iter().map(Vec::as_slice).eq(sent.chunks(segment.into())), "{total} by {segment}");
        let frames = net.device().stats().tx_frames - frames;
        assert!(if can { frames <= 3 } else { frames >= parts as u64 }, "{frames} frames for {parts}");
    }
    let datagrams = net.stack_mut().datagrams();
    assert_eq!(datagrams.send_segments(socket, to, aggregate(&[0; 65]), 1), Err(SendError::TooLong), "65");
    (net, client)
}

/// What takes so many datagrams from a socket of the kernel's.
fn receiving(client: &Kernels, count: usize) -> impl FnOnce() -> Vec<Vec<u8>> + use<> {
    let client = client.try_clone().unwrap();
    move || {
        let mut buffer = vec![0; 70_000];
        (0..count).map(|_| client.recv(&mut buffer).map(|len| buffer[..len].to_vec()).unwrap()).collect()
    }
}

/// Without such a device the stack takes them apart, in fragments where each is longer than the link takes.
#[test]
fn many_datagrams_go_one_by_one_elsewhere() {
    with_tap(|mut net| {
        let socket = net.stack_mut().bind_udp(Some(PORT)).unwrap();
        let client = kernels(KERNELS);
        let to = client.local_addr().unwrap();
        for (total, segment) in [(20_000, 3000), (5001, 2500)] {
            let sent = bytes(total);
            net.stack_mut().datagrams().send_segments(socket, to, aggregate(&sent), segment).unwrap();
            let parts = total.div_ceil(usize::from(segment));
            let got = serve(&mut net, receiving(&client, parts));
            assert!(got.iter().map(Vec::as_slice).eq(sent.chunks(segment.into())), "{total} by {segment}");
        }
        assert_eq!(net.stack().stats().datagrams_out, 7 + 3);
    });
}
