//! Groups and broadcasts of UDP, and sockets at any of our addresses: frame by frame, and against the
//! kernel's over a TAP device in a namespace of the test's own, which needs root, or says so.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as Kernels};
use std::thread;
use std::time::{Duration, Instant as Clock};

use netstack::application::{Application, CloseReason, Datagrams, Key, Pcb, UdpSocket};
use netstack::buffered::{Buffered, Handler};
use netstack::device::tap::TapDevice;
use netstack::driver::{self, Driver};
use netstack::send_buffer::SendBuffer;
use netstack::stack::{BindError, Config, GroupError, Ipv6Config, SendError, Stack};
use netstack::sys::{link, netns};
use netstack::transmission::{Capabilities, RxChecksum, Transmission};
use netstack::wire::{EtherType, EthernetAddress, Protocol, ethernet, igmp, ipv4, ipv6, mld, udp};
use runtime::buffer::{Aggregate, Shared, Slice};
use runtime::time::Instant;
use support::{CLIENT as PEER, SERVER as OURS, STRANGER};

const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0, 0x77);
const OURS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 2);
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);
const PORT: u16 = 5353;

struct Nothing;

impl Handler for Nothing {
    fn receive(&mut self, _out: &mut SendBuffer, _bytes: &[u8]) {}
}

/// Remembers what came, and answers it with the same.
#[derive(Default)]
struct Echo {
    got: Vec<(UdpSocket, SocketAddr, Vec<u8>)>,
    refused: Vec<UdpSocket>,
}

impl Application for Echo {
    type Stream<'a> = &'a mut Buffered<Nothing>;

    fn accept(&mut self, _now: Instant, _pcb: Pcb) -> Option<Key> {
        None
    }

    fn connection(&mut self, _key: Key) -> Option<(&mut Pcb, &mut Buffered<Nothing>)> {
        None
    }

    fn closed(&mut self, _now: Instant, _key: Key, _reason: CloseReason) {}

    fn datagram(
        &mut self,
        _now: Instant,
        socket: UdpSocket,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Datagrams,
    ) {
        self.got.push((socket, from, bytes.to_vec()));
        out.send(socket, from, aggregate(bytes)).expect("room");
    }

    fn datagram_refused(&mut self, _now: Instant, socket: UdpSocket, _to: SocketAddr) {
        self.refused.push(socket);
    }
}

fn aggregate(bytes: &[u8]) -> Aggregate {
    Aggregate::from(Slice::from(Shared::from(bytes.to_vec())))
}

fn stack() -> Stack {
    let mut config = Config::new(HARDWARE, OURS, 24, [7; 16]);
    config.more_ipv4 = vec![(OTHER, 24)];
    config.ipv6 = Some(Ipv6Config { addr: OURS6, prefix_len: 64, gateway: None });
    config.more_ipv6 = vec![(OTHER6, 64)];
    Stack::new(config)
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// What the stack sends by `now`, frame by frame, after what is due.
fn sent(stack: &mut Stack, app: &mut Echo, now: Instant) -> Vec<Vec<u8>> {
    stack.handle_timeout(now, app);
    let mut frames = Vec::new();
    let emit = |t: &Transmission<'_>| {
        let mut frame = t.headers.to_vec();
        frame.extend(t.payload_to_vec());
        frame
    };
    while let Some(frame) = stack.poll_transmit(now, &Capabilities::default(), app, emit) {
        frames.push(frame);
    }
    frames
}

fn frame(to: EthernetAddress, ethertype: EtherType, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER_LEN];
    ethernet::Repr { src_addr: STRANGER, dst_addr: to, ethertype }
        .emit(&mut ethernet::Frame::new_unchecked(&mut frame[..]));
    frame.extend_from_slice(packet);
    frame
}

fn packet4(src_addr: Ipv4Addr, dst_addr: Ipv4Addr, protocol: Protocol, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; ipv4::HEADER_LEN];
    let payload_len = payload.len();
    ipv4::Repr { src_addr, dst_addr, protocol, payload_len, ttl: 1, ident: 0, ecn: 0 }
        .emit(&mut ipv4::Packet::new_unchecked(&mut packet[..]));
    packet.extend_from_slice(payload);
    packet
}

fn datagram(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; udp::HEADER_LEN];
    let sum = netstack::wire::checksum::sum(payload);
    udp::Repr { src_port: src.port(), dst_port: dst.port(), payload_len: payload.len() }.emit(
        &mut header,
        src.ip(),
        dst.ip(),
        sum,
    );
    let mut datagram = header.to_vec();
    datagram.extend_from_slice(payload);
    match (src.ip(), dst.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => packet4(src, dst, Protocol::Udp, &datagram),
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
            let mut packet = vec![0; ipv6::HEADER_LEN];
            let (protocol, payload_len) = (Protocol::Udp, datagram.len());
            ipv6::Repr { src_addr, dst_addr, protocol, payload_len, hop_limit: 1 }
                .emit(&mut ipv6::Packet::new_unchecked(&mut packet[..]));
            packet.extend_from_slice(&datagram);
            packet
        }
        _ => panic!("of one family"),
    }
}

/// A frame for a group of IPv4.
fn to_group(group: Ipv4Addr) -> EthernetAddress {
    let [_, b, c, d] = group.octets();
    EthernetAddress([1, 0, 0x5e, b & 0x7f, c, d])
}

fn receive(stack: &mut Stack, app: &mut Echo, now: Instant, frame: &[u8]) -> usize {
    let before = app.got.len();
    stack.handle_frame(now, frame, RxChecksum::Unknown, app);
    app.got.len() - before
}

/// Reports of IPv4 among frames: kind of record and group of each record, in order.
fn reports(frames: &[Vec<u8>]) -> Vec<(u8, Ipv4Addr)> {
    let mut found = Vec::new();
    for frame in frames {
        let Ok(packet) = ipv4::Packet::new_checked(&frame[ethernet::HEADER_LEN..]) else { continue };
        if u8::from(packet.protocol()) != igmp::PROTOCOL {
            continue;
        }
        assert!(packet.verify_checksum());
        assert_eq!((packet.header_len(), packet.ttl(), packet.dst_addr()), (24, 1, igmp::ALL_ROUTERS));
        assert_eq!(frame[..6], to_group(igmp::ALL_ROUTERS).0);
        assert_eq!(frame[34..38], igmp::ROUTER_ALERT);
        assert_eq!(netstack::wire::checksum::sum(packet.payload()), 0xffff);
        found.extend(
            packet.payload()[8..]
                .chunks(8)
                .map(|record| (record[0], Ipv4Addr::new(record[4], record[5], record[6], record[7]))),
        );
    }
    found
}

#[test]
fn groups_are_heard_by_those_who_joined_and_reported_to_routers() {
    let (mut stack, mut app) = (stack(), Echo::default());
    stack.add_neighbor(at(0), PEER, STRANGER);
    let socket = stack.bind_udp(Some(PORT)).unwrap();
    let deaf = stack.bind_udp(Some(PORT + 1)).unwrap();
    let peer: SocketAddr = (PEER, 9).into();
    let packet = |port| datagram(peer, (GROUP, port).into(), b"to all");
    let frame_to = |port| frame(to_group(GROUP), EtherType::Ipv4, &packet(port));
    assert_eq!(receive(&mut stack, &mut app, at(1), &frame_to(PORT)), 0, "nobody joined");
    stack.join_group(socket, GROUP.into()).unwrap();
    assert_eq!(reports(&sent(&mut stack, &mut app, at(1))), [(4, GROUP)]);
    let again = stack.poll_timeout().expect("once more");
    assert_eq!(reports(&sent(&mut stack, &mut app, again.max(at(1)))), [(4, GROUP)]);
    assert_eq!(receive(&mut stack, &mut app, at(2000), &frame_to(PORT)), 1);
    assert_eq!(app.got.pop(), Some((socket, peer, b"to all".to_vec())));
    assert_eq!(receive(&mut stack, &mut app, at(2000), &frame_to(PORT + 1)), 0, "that one did not join");
    let other = Ipv4Addr::new(239, 129, 2, 3);
    assert_eq!(to_group(other), to_group(GROUP), "another group may have the same frames");
    let strange = frame(to_group(other), EtherType::Ipv4, &datagram(peer, (other, PORT).into(), b"x"));
    assert_eq!(receive(&mut stack, &mut app, at(2000), &strange), 0);
    for nonsense in [GROUP, Ipv4Addr::BROADCAST, OURS, Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST] {
        let packet = datagram((nonsense, 9).into(), (GROUP, PORT).into(), b"x");
        let frame = frame(to_group(GROUP), EtherType::Ipv4, &packet);
        assert_eq!(receive(&mut stack, &mut app, at(2000), &frame), 0, "from {nonsense}");
    }
    let mut damaged = frame_to(PORT);
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(receive(&mut stack, &mut app, at(2000), &damaged), 0);
    // Nobody is told that nobody listens (RFC 1122 section 4.1.3.1): all there is is the answer to the one
    // that was heard.
    let frames = sent(&mut stack, &mut app, at(2000));
    let protocols: Vec<u8> =
        frames.iter().filter(|frame| frame[12..14] == [8, 0]).map(|frame| frame[23]).collect();
    assert_eq!(protocols, [17], "{frames:x?}");
    // Routers of all versions are answered, once.
    let mut query = [0x11, 100, 0, 0, 0, 0, 0, 0];
    let sum = netstack::wire::checksum::sum(&query);
    query[2..4].copy_from_slice(&(!sum).to_be_bytes());
    for src in [PEER, Ipv4Addr::UNSPECIFIED] {
        let asked = packet4(src, igmp::ALL_HOSTS, igmp::PROTOCOL.into(), &query);
        receive(&mut stack, &mut app, at(3000), &frame(to_group(igmp::ALL_HOSTS), EtherType::Ipv4, &asked));
    }
    assert_eq!(reports(&sent(&mut stack, &mut app, at(13_001))), [(2, GROUP)]);
    assert!(stack.leave_group(socket, GROUP.into()) && !stack.leave_group(socket, GROUP.into()));
    assert_eq!(reports(&sent(&mut stack, &mut app, at(14_000))), [(3, GROUP)]);
    assert_eq!(receive(&mut stack, &mut app, at(14_000), &frame_to(PORT)), 0);
    // Who is closed listens no more.
    stack.join_group(deaf, GROUP.into()).unwrap();
    assert!(stack.close_udp(deaf));
    assert_eq!(stack.join_group(deaf, GROUP.into()), Err(GroupError::Closed));
    assert_eq!(receive(&mut stack, &mut app, at(14_000), &frame_to(PORT + 1)), 0);
}

#[test]
fn groups_of_ipv6_are_heard_and_reported_too() {
    let (mut stack, mut app) = (stack(), Echo::default());
    let socket = stack.bind_udp(Some(PORT)).unwrap();
    sent(&mut stack, &mut app, at(0));
    sent(&mut stack, &mut app, at(2000));
    let hardware = EthernetAddress([0x33, 0x33, 0, 0, 0, 0x77]);
    let packet = datagram((PEER6, 9).into(), (GROUP6, PORT).into(), b"six");
    let frame = frame(hardware, EtherType::Ipv6, &packet);
    assert_eq!(receive(&mut stack, &mut app, at(2000), &frame), 0);
    let joined = |frames: &[Vec<u8>], kind: u8| {
        let record: Vec<u8> = [&[kind, 0, 0, 0], &GROUP6.octets()[..]].concat();
        let is_it = |frame: &&Vec<u8>| frame.windows(record.len()).any(|bytes| bytes == record);
        frames.iter().filter(is_it).count()
    };
    stack.join_group(socket, GROUP6.into()).unwrap();
    let frames = sent(&mut stack, &mut app, at(2000));
    assert_eq!(joined(&frames, mld::ReportReason::Joined as u8), 1);
    assert_eq!(receive(&mut stack, &mut app, at(2000), &frame), 1);
    assert_eq!(app.got.pop(), Some((socket, (PEER6, 9).into(), b"six".to_vec())));
    sent(&mut stack, &mut app, at(4000));
    assert!(stack.leave_group(socket, GROUP6.into()));
    let frames = sent(&mut stack, &mut app, at(4000));
    assert_eq!(joined(&frames, mld::ReportReason::Left as u8), 1);
    assert_eq!(receive(&mut stack, &mut app, at(4000), &frame), 0);
}

#[test]
fn broadcasts_are_for_those_who_asked_for_them() {
    let (mut stack, mut app) = (stack(), Echo::default());
    let socket = stack.bind_udp(Some(PORT)).unwrap();
    let heard = |stack: &mut Stack, app: &mut Echo| {
        [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::new(192, 0, 2, 255)].map(|to| {
            let packet = datagram((PEER, 9).into(), (to, PORT).into(), b"all");
            receive(stack, app, at(1), &frame(EthernetAddress::BROADCAST, EtherType::Ipv4, &packet))
        })
    };
    assert_eq!(heard(&mut stack, &mut app), [0; 3]);
    let everybody = (Ipv4Addr::BROADCAST, 9).into();
    let refused = stack.datagrams().send(socket, everybody, aggregate(b"x"));
    assert_eq!(refused, Err(SendError::BadAddress));
    stack.datagrams().send(socket, (Ipv4Addr::new(10, 0, 0, 255), 9).into(), aggregate(b"x")).unwrap();
    let is_broadcast = |frame: &Vec<u8>| frame[..6] == [0xff; 6] && frame[12..14] == [8, 0];
    assert!(!sent(&mut stack, &mut app, at(1)).iter().any(is_broadcast), "not asked for");
    stack.join_group(socket, Ipv4Addr::BROADCAST.into()).unwrap();
    assert_eq!(heard(&mut stack, &mut app), [1; 3]);
    assert!(reports(&sent(&mut stack, &mut app, at(1))).is_empty(), "no router is told of that");
    for to in [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 0, 0, 255)] {
        stack.datagrams().send(socket, (to, 9).into(), aggregate(b"x")).unwrap();
        let frames = sent(&mut stack, &mut app, at(1));
        assert_eq!(frames.iter().filter(|frame| is_broadcast(frame)).count(), 1, "{to}");
    }
    assert!(stack.leave_group(socket, Ipv4Addr::BROADCAST.into()));
    assert_eq!(heard(&mut stack, &mut app), [0; 3]);
}

#[test]
fn what_is_no_group_and_more_than_there_is_room_for_is_refused() {
    let mut stack = stack();
    let socket = stack.bind_udp(Some(PORT)).unwrap();
    for addr in ["10.0.0.9", "10.0.0.255", "0.0.0.0", "fd00::9", "::", "ff01::77", "ff00::77"] {
        let joined = stack.join_group(socket, addr.parse().unwrap());
        assert_eq!(joined, Err(GroupError::NotAGroup), "{addr}");
    }
    let joined = (0..=255).filter(|&n| stack.join_group(socket, Ipv4Addr::new(239, 0, 0, n).into()).is_ok());
    assert_eq!(joined.count(), 32);
    assert_eq!(stack.join_group(socket, GROUP6.into()), Err(GroupError::TooMany));
    let config = Config::new(HARDWARE, OURS, 24, [7; 16]);
    let mut plain = Stack::new(config);
    let socket = plain.bind_udp(Some(PORT)).unwrap();
    assert_eq!(plain.join_group(socket, GROUP6.into()), Err(GroupError::Ipv6));
}

/// The one that is never reported, and no others.
#[test]
fn all_hosts_are_a_group_that_is_heard() {
    let (mut stack, mut app) = (stack(), Echo::default());
    let socket = stack.bind_udp(Some(PORT)).unwrap();
    let packet = datagram((PEER, 9).into(), (igmp::ALL_HOSTS, PORT).into(), b"all");
    let frame = frame(to_group(igmp::ALL_HOSTS), EtherType::Ipv4, &packet);
    assert_eq!(receive(&mut stack, &mut app, at(1), &frame), 0);
    stack.join_group(socket, igmp::ALL_HOSTS.into()).unwrap();
    assert_eq!(receive(&mut stack, &mut app, at(1), &frame), 1);
    assert!(reports(&sent(&mut stack, &mut app, at(1))).is_empty());
}

/// RFC 1122 section 3.2.2: no error is sent about what was for many.
#[test]
fn of_what_was_for_many_and_never_came_whole_nobody_is_told() {
    let (mut stack, mut app) = (stack(), Echo::default());
    stack.add_neighbor(at(0), PEER, STRANGER);
    let socket = stack.bind_udp(Some(PORT)).unwrap();
    stack.join_group(socket, GROUP.into()).unwrap();
    sent(&mut stack, &mut app, at(1));
    for (ms, to, hardware, errors) in [(1000, GROUP, to_group(GROUP), 0), (50_000, OURS, HARDWARE, 1)] {
        let mut packet = datagram((PEER, 9).into(), (to, PORT).into(), &[7; 16]);
        let mut first = ipv4::Packet::new_unchecked(&mut packet[..]);
        first.set_fragment(0, true);
        first.fill_checksum();
        receive(&mut stack, &mut app, at(ms), &frame(hardware, EtherType::Ipv4, &packet));
        let frames = sent(&mut stack, &mut app, at(ms + 31_000));
        let told = frames.iter().filter(|frame| frame[12..14] == [8, 0] && frame[23] == 1).count();
        assert_eq!(told, errors, "for {to}");
    }
    assert_eq!(stack.stats().reassembly_timeouts, 2);
}

/// A group that an address of ours is in is not left with the last socket.
#[test]
fn what_an_address_is_in_is_not_left() {
    let (mut stack, mut app) = (stack(), Echo::default());
    let socket = stack.bind_udp(Some(PORT)).unwrap();
    let solicited: Ipv6Addr = "ff02::1:ff00:2".parse().unwrap();
    sent(&mut stack, &mut app, at(0));
    stack.join_group(socket, solicited.into()).unwrap();
    sent(&mut stack, &mut app, at(2000));
    sent(&mut stack, &mut app, at(4000));
    assert!(stack.leave_group(socket, solicited.into()));
    let record: Vec<u8> = [&[mld::ReportReason::Left as u8, 0, 0, 0], &solicited.octets()[..]].concat();
    let frames = sent(&mut stack, &mut app, at(6000));
    assert!(!frames.iter().any(|frame| frame.windows(record.len()).any(|bytes| bytes == record)));
}

/// Sockets at other addresses than the first are spoken to and from there.
#[test]
fn sockets_are_at_any_address_of_ours() {
    let (mut stack, mut app) = (stack(), Echo::default());
    let first = stack.bind_udp(Some(PORT)).unwrap();
    let second = stack.bind_udp_at(OTHER.into(), Some(PORT)).unwrap();
    let third = stack.bind_udp_at(OTHER6.into(), Some(PORT)).unwrap();
    assert_eq!(stack.bind_udp_at(OTHER.into(), Some(PORT)), Err(BindError::PortInUse));
    assert_eq!(stack.bind_udp_at(FAR.into(), Some(PORT)), Err(BindError::NotOurs));
    let cases: [(SocketAddr, SocketAddr, UdpSocket); 4] = [
        ((PEER, 9).into(), (OURS, PORT).into(), first),
        ((FAR, 9).into(), (OTHER, PORT).into(), second),
        ((PEER6, 9).into(), (OURS6, PORT).into(), first),
        ((PEER6, 9).into(), (OTHER6, PORT).into(), third),
    ];
    for (from, to, socket) in cases {
        let ethertype = if from.is_ipv4() { EtherType::Ipv4 } else { EtherType::Ipv6 };
        let frame = frame(HARDWARE, ethertype, &datagram(from, to, b"here"));
        assert_eq!(receive(&mut stack, &mut app, at(1), &frame), 1, "{to}");
        assert_eq!(app.got.pop(), Some((socket, from, b"here".to_vec())));
    }
    // Nobody is at that port there, and who says so is who was asked.
    stack.add_neighbor(at(1), FAR, STRANGER);
    sent(&mut stack, &mut app, at(1));
    let closed = datagram((FAR, 9).into(), (OTHER, PORT + 9).into(), b"?");
    assert_eq!(receive(&mut stack, &mut app, at(1), &frame(HARDWARE, EtherType::Ipv4, &closed)), 0);
    let frames = sent(&mut stack, &mut app, at(1));
    let told: Vec<&[u8]> = frames
        .iter()
        .filter(|frame| frame[12..14] == [8, 0] && frame[23] == 1)
        .map(|frame| &frame[26..34])
        .collect();
    assert_eq!(told, [[OTHER.octets(), FAR.octets()].concat()]);
    let connected = stack.connect_udp(None, (FAR, 9).into()).unwrap();
    assert_eq!(connected.local(), Some(OTHER.into()));
    assert_eq!(
        stack.datagrams().send(second, (PEER6, 9).into(), aggregate(b"x")),
        Err(SendError::BadAddress)
    );
}

/// Runs `test` with a stack on a TAP device whose kernel's side has PEER's addresses.
fn with_tap(test: impl FnOnce(Driver<TapDevice, Echo>) + Send + 'static) {
    let run = move || {
        let made = netns::Namespace::new().and_then(|namespace| {
            namespace.enter()?;
            let tap = TapDevice::open(Some("tap0"), true)?;
            link::add_address("tap0", PEER, 24)?;
            link::add_address("tap0", FAR, 24)?;
            link::set_up("tap0")?;
            Ok(tap)
        });
        let tap = match made {
            Ok(tap) => tap,
            Err(error) => return eprintln!("skipped: no TAP device in a namespace ({error})"),
        };
        let mut config = driver::config(&tap, OURS, 24).unwrap();
        config.more_ipv4 = vec![(OTHER, 24)];
        test(Driver::new(tap, Stack::new(config), Echo::default()).unwrap());
    };
    thread::spawn(run).join().unwrap();
}

/// Turns until `done` gives something, for ten seconds at most.
fn turn<R>(
    net: &mut Driver<TapDevice, Echo>,
    mut done: impl FnMut(&mut Driver<TapDevice, Echo>) -> Option<R>,
) -> R {
    let patience = Clock::now() + Duration::from_secs(10);
    loop {
        if let Some(result) = done(net) {
            return result;
        }
        assert!(Clock::now() < patience, "nothing came in ten seconds");
        let until = net.now() + Duration::from_millis(5);
        net.turn(Some(until)).unwrap();
    }
}

#[test]
fn the_kernels_groups_broadcasts_and_addresses_are_ours() {
    with_tap(|mut net| {
        let first = net.stack_mut().bind_udp(Some(PORT)).unwrap();
        let second = net.stack_mut().bind_udp_at(OTHER.into(), Some(PORT)).unwrap();
        net.stack_mut().join_group(first, GROUP.into()).unwrap();
        net.stack_mut().join_group(first, Ipv4Addr::BROADCAST.into()).unwrap();
        // With that source the kernel needs no route to a group.
        let kernels = Kernels::bind((PEER, PORT)).unwrap();
        let listener = Kernels::bind((Ipv4Addr::UNSPECIFIED, PORT + 1)).unwrap();
        kernels.set_nonblocking(true).unwrap();
        kernels.set_broadcast(true).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener.join_multicast_v4(&GROUP, &PEER).unwrap();
        let mut buffer = [0; 4096];
        for (to, socket, answered_by) in [
            (OURS, first, OURS),
            (OTHER, second, OTHER),
            (GROUP, first, OURS),
            (Ipv4Addr::new(10, 0, 0, 255), first, OURS),
        ] {
            // In fragments, too.
            for len in [20, 3000] {
                let bytes = vec![len as u8; len];
                kernels.send_to(&bytes, (to, PORT)).unwrap();
                let got = turn(&mut net, |net| net.app_mut().got.pop());
                assert_eq!((got.0, got.2.len()), (socket, len), "to {to}");
                let (len, from) = turn(&mut net, |_| kernels.recv_from(&mut buffer).ok());
                assert_eq!((&buffer[..len], from), (&bytes[..], (answered_by, PORT).into()), "to {to}");
            }
        }
        for (to, from) in [(GROUP, OURS), (Ipv4Addr::BROADCAST, OURS), (Ipv4Addr::new(10, 0, 0, 255), OURS)] {
            for len in [20, 3000] {
                let bytes = vec![3; len];
                net.stack_mut().datagrams().send(first, (to, PORT + 1).into(), aggregate(&bytes)).unwrap();
                let (got, whose) = turn(&mut net, |_| listener.recv_from(&mut buffer).ok());
                assert_eq!((&buffer[..got], whose), (&bytes[..], (from, PORT).into()), "to {to}");
            }
        }
        // Who is not there says so from where it was asked.
        let connected = net.stack_mut().connect_udp(None, (FAR, 99).into()).unwrap();
        net.stack_mut().datagrams().send(connected, (FAR, 99).into(), aggregate(b"?")).unwrap();
        assert_eq!(turn(&mut net, |net| net.app_mut().refused.pop()), connected);
    });
}
