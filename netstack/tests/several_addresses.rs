//! Several addresses on one stack, of both families: each is answered for and from, defended by itself, and
//! listened at.

mod support;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use netstack::application::CloseReason;
use netstack::device::{Device, wire};
use netstack::stack::{AddressDetection, Config, Event, Ipv6Config, ListenError};
use netstack::transmission::{Capabilities, RxChecksum};
use netstack::wire::{EtherType, EthernetAddress, Protocol, arp, ethernet, icmpv4, ipv4};
use runtime::time::Instant;
use support::{CLIENT, Host, PORT, Pair, SERVER, STRANGER, TestApp, TestStream};

/// In the first's network, and in one of its own.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const THIRD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn adjust(config: &mut Config) {
    let is_server = config.ipv4_addr == SERVER;
    let host = if is_server { 2 } else { 1 };
    let addr = format!("2001:db8::{host}").parse().expect("an address");
    config.ipv6 = Some(Ipv6Config { addr, prefix_len: 64, gateway: None });
    config.more_ipv6 = vec![(format!("2001:db8:1::{host}").parse().expect("an address"), 64)];
    config.more_ipv4 = if is_server { vec![(SECOND, 24), (THIRD, 24)] } else { vec![(FAR, 24)] };
}

/// One connection to each: the server speaks from the address that was asked, the client from its own in that
/// network.
#[test]
fn each_address_is_spoken_to_and_from() {
    let seen: Rc<RefCell<Vec<(IpAddr, IpAddr)>>> = Rc::default();
    let accepted = Rc::clone(&seen);
    let server = TestApp::new(move |pcb| {
        accepted.borrow_mut().push((pcb.remote().ip(), pcb.local().ip()));
        Some(TestStream::new(1, 20_000))
    });
    let mut pair = Pair::new(wire::Config::default(), 5, &adjust, server);
    let pairs = [
        (IpAddr::V4(CLIENT), IpAddr::V4(SERVER)),
        (IpAddr::V4(CLIENT), IpAddr::V4(SECOND)),
        (IpAddr::V4(FAR), IpAddr::V4(THIRD)),
        (ip("2001:db8::1"), ip("2001:db8::2")),
        (ip("2001:db8:1::1"), ip("2001:db8:1::2")),
    ];
    for (_, to) in pairs {
        let (client, stream) = (&mut pair.client, TestStream::new(0, 5_000));
        let keep = |pcb| client.app.keep(pcb, stream);
        client.stack.connect(pair.now, None, (to, PORT).into(), keep).expect("a free port");
    }
    let limit = Instant::from_millis(60_000);
    assert!(
        pair.run_until(limit, |pair| pair.client.app.closed_count == 5 && pair.server.app.closed_count == 5)
    );
    for (reason, stream) in &pair.client.app.closed {
        assert_eq!((*reason, stream.received, stream.wrong_bytes), (CloseReason::Finished, 20_000, 0));
    }
    let mut seen = seen.borrow().clone();
    seen.sort_unstable();
    let mut expected = pairs.to_vec();
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

/// What the host sends now, frame by frame.
fn sent(host: &mut Host, now: Instant) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let emit = |t: &netstack::transmission::Transmission<'_>| {
        let mut frame = t.headers.to_vec();
        frame.extend(t.payload_to_vec());
        frame
    };
    while let Some(frame) = host.stack.poll_transmit(now, &Capabilities::default(), &mut host.app, emit) {
        frames.push(frame);
    }
    frames
}

fn arp_frame(sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let packet = arp::Repr {
        operation: arp::Operation::Request,
        sender_hardware: STRANGER,
        sender_protocol: sender,
        target_hardware: EthernetAddress::default(),
        target_protocol: target,
    };
    let mut frame = vec![0; ethernet::HEADER_LEN + arp::PACKET_LEN];
    ethernet::Repr { src_addr: STRANGER, dst_addr: EthernetAddress::BROADCAST, ethertype: EtherType::Arp }
        .emit(&mut ethernet::Frame::new_unchecked(&mut frame[..]));
    packet.emit(&mut arp::Packet::new_unchecked(&mut frame[ethernet::HEADER_LEN..]));
    frame
}

fn ping(hardware: EthernetAddress, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let message = icmpv4::Repr::EchoRequest { ident: 1, sequence: 1, data: b"ping" };
    let mut frame = vec![0; ethernet::HEADER_LEN + ipv4::HEADER_LEN + message.buffer_len()];
    ethernet::Repr { src_addr: STRANGER, dst_addr: hardware, ethertype: EtherType::Ipv4 }
        .emit(&mut ethernet::Frame::new_unchecked(&mut frame[..]));
    let payload_len = message.buffer_len();
    ipv4::Repr {
        src_addr: from,
        dst_addr: to,
        protocol: Protocol::Icmp,
        payload_len,
        ttl: 64,
        ident: 1,
        ecn: 0,
    }
    .emit(&mut ipv4::Packet::new_unchecked(&mut frame[14..]));
    message.emit(&mut icmpv4::Packet::new_unchecked(&mut frame[34..]));
    frame
}

/// The ARP packets among `frames`.
fn arps(frames: &[Vec<u8>]) -> Vec<arp::Repr> {
    let frames = frames.iter().filter_map(|frame| {
        let frame = ethernet::Frame::new_checked(&frame[..]).ok()?;
        (frame.ethertype() == EtherType::Arp).then(|| frame.payload().to_vec())
    });
    frames.map(|bytes| arp::Repr::parse(&arp::Packet::new_checked(&bytes[..]).unwrap()).unwrap()).collect()
}

#[test]
fn each_address_answers_arp_and_echo_as_itself() {
    let mut pair = Pair::new(wire::Config::default(), 6, &adjust, TestApp::new(|_| None));
    let (now, server) = (Instant::from_millis(10), &mut pair.server);
    let hardware = server.device.hardware_addr();
    for (asker, asked) in [(CLIENT, SERVER), (CLIENT, SECOND), (FAR, THIRD)] {
        let frame = arp_frame(asker, asked);
        server.stack.handle_frame(now, &frame, RxChecksum::Unknown, &mut server.app);
        let answers = arps(&sent(server, now));
        let expected = arp::Repr {
            operation: arp::Operation::Reply,
            sender_hardware: hardware,
            sender_protocol: asked,
            target_hardware: STRANGER,
            target_protocol: asker,
        };
        assert_eq!(answers, [expected]);
        let frame = ping(hardware, asker, asked);
        server.stack.handle_frame(now, &frame, RxChecksum::Unknown, &mut server.app);
        let frames = sent(server, now);
        let packet = ipv4::Packet::new_checked(&frames[0][14..]).expect("a packet");
        assert_eq!((packet.src_addr(), packet.dst_addr(), frames.len()), (asked, asker, 1));
    }
    // One of nobody's gets neither.
    let nobody = Ipv4Addr::new(10, 0, 0, 8);
    for frame in [arp_frame(CLIENT, nobody), ping(hardware, CLIENT, nobody)] {
        server.stack.handle_frame(now, &frame, RxChecksum::Unknown, &mut server.app);
    }
    assert!(sent(server, now).is_empty());
}

/// RFC 5227 for each by itself: who claims one has no say in the others.
#[test]
fn each_address_is_asked_for_and_defended_by_itself() {
    let probing = |config: &mut Config| {
        adjust(config);
        config.address_detection = AddressDetection::Probe;
    };
    let mut pair = Pair::new(wire::Config::default(), 7, &probing, TestApp::new(|_| None));
    let (mut now, server) = (Instant::from_millis(10), &mut pair.server);
    let hardware = server.device.hardware_addr();
    server.stack.handle_timeout(now, &mut server.app);
    // Somebody has the second.
    server.stack.handle_frame(now, &arp_frame(SECOND, CLIENT), RxChecksum::Unknown, &mut server.app);
    assert_eq!(
        server.stack.poll_event(),
        Some(Event::AddressRefused { addr: SECOND, hardware_addr: STRANGER })
    );
    let mut probed = Vec::new();
    let mut announced = Vec::new();
    while now < Instant::from_millis(12_000) {
        now = now + Duration::from_millis(20);
        server.stack.handle_timeout(now, &mut server.app);
        for packet in arps(&sent(server, now)) {
            let list = if packet.sender_protocol.is_unspecified() { &mut probed } else { &mut announced };
            list.push(packet.target_protocol);
        }
    }
    for (list, times) in [(&mut probed, 3), (&mut announced, 2)] {
        list.sort_unstable();
        assert_eq!(
            *list,
            [[SERVER; 3], [THIRD; 3]].iter().flat_map(|all| &all[..times]).copied().collect::<Vec<_>>()
        );
    }
    assert!(server.stack.may_use_address());
    for (asked, answers) in [(SERVER, 1), (SECOND, 0), (THIRD, 1)] {
        let asker = if asked == THIRD { FAR } else { CLIENT };
        for frame in [arp_frame(asker, asked), ping(hardware, asker, asked)] {
            server.stack.handle_frame(now, &frame, RxChecksum::Unknown, &mut server.app);
        }
        assert_eq!(sent(server, now).len(), 2 * answers, "{asked}");
    }
    // And somebody claims the third, which is defended.
    server.stack.handle_frame(now, &arp_frame(THIRD, CLIENT), RxChecksum::Unknown, &mut server.app);
    let conflict = Event::AddressConflict { addr: THIRD, hardware_addr: STRANGER };
    assert_eq!(server.stack.poll_event(), Some(conflict));
    assert_eq!(arps(&sent(server, now)).iter().map(|arp| arp.sender_protocol).collect::<Vec<_>>(), [THIRD]);
}

/// RFC 5227: who asks where a host is claims the address that it asks from, so that is none that another host
/// has.
#[test]
fn an_address_that_is_anothers_asks_for_nobody() {
    let probing = |config: &mut Config| {
        adjust(config);
        config.address_detection = AddressDetection::Probe;
    };
    let mut pair = Pair::new(wire::Config::default(), 9, &probing, TestApp::new(|_| None));
    let (mut now, server) = (Instant::from_millis(10), &mut pair.server);
    server.stack.handle_timeout(now, &mut server.app);
    let claim = arp_frame(THIRD, CLIENT);
    server.stack.handle_frame(now, &claim, RxChecksum::Unknown, &mut server.app);
    let (app, stream) = (&mut server.app, TestStream::new(0, 10));
    let keep = |pcb| app.keep(pcb, stream);
    server.stack.connect(now, None, (FAR, PORT).into(), keep).expect("a free port");
    let mut asked_from = Vec::new();
    // The first address is probed for meanwhile, for seven seconds at most.
    while now < Instant::from_millis(12_000) {
        now = now + Duration::from_millis(20);
        server.stack.handle_timeout(now, &mut server.app);
        let asked = arps(&sent(server, now)).into_iter().filter(|packet| packet.target_protocol == FAR);
        asked_from.extend(asked.map(|packet| packet.sender_protocol));
    }
    assert!(!asked_from.is_empty());
    assert!(asked_from.iter().all(|addr| *addr == SERVER), "{asked_from:?}");
}

/// RFC 9293 MUST-43: a passive open can name its address.
#[test]
fn a_port_can_be_listened_on_at_one_address_alone() {
    let mut pair =
        Pair::new(wire::Config::default(), 8, &adjust, TestApp::new(|_| Some(TestStream::new(1, 10))));
    let stack = &mut pair.server.stack;
    let at = |addr: IpAddr, port| SocketAddr::new(addr, port);
    assert_eq!(stack.listen_at(at(CLIENT.into(), 81)), Err(ListenError::NotOurs));
    assert_eq!(stack.listen_at(at(SECOND.into(), 0)), Err(ListenError::BadPort));
    assert_eq!(stack.listen_at(at(SECOND.into(), PORT)), Err(ListenError::InUse), "at all of them");
    for place in [at(SECOND.into(), 81), at(ip("2001:db8:1::2"), 81)] {
        assert_eq!(stack.listen_at(place), Ok(()));
        assert_eq!(stack.listen_at(place), Err(ListenError::InUse));
    }
    assert_eq!(stack.listen(81), Err(ListenError::InUse));
    assert!(stack.listen_at(at(THIRD.into(), 82)).is_ok() && stack.unlisten_at(at(THIRD.into(), 82)));
    let mut expected = Vec::new();
    for (to, port, reason) in [
        (SECOND.into(), 81, CloseReason::Finished),
        (ip("2001:db8:1::2"), 81, CloseReason::Finished),
        (SERVER.into(), 81, CloseReason::Refused),
        (ip("2001:db8::2"), 81, CloseReason::Refused),
        (THIRD.into(), 82, CloseReason::Refused),
    ] {
        let (client, stream) = (&mut pair.client, TestStream::new(0, 10));
        let keep = |pcb| client.app.keep(pcb, stream);
        client.stack.connect(pair.now, None, at(to, port), keep).expect("a free port");
        expected.push(reason);
        let over = expected.len() as u64;
        assert!(pair.run_until(Instant::from_millis(60_000), |pair| pair.client.app.closed_count == over));
        let reasons: Vec<_> = pair.client.app.closed.iter().map(|(reason, _)| *reason).collect();
        assert_eq!(reasons, expected, "{to}");
    }
}
