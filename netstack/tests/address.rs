//! Others that claim our address: asked for before it is used, reported and answered, but no oftener than
//! they could be a nuisance (RFC 5227). Neighbours that do not answer: whatever waits for them ends.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use netstack::application::{CloseReason, Key};
use netstack::device::{Device, wire};
use netstack::iface::arp_cache::DEFAULT_CAPACITY;
use netstack::stack::{AddressDetection, Config, ConnectError, Event};
use netstack::transmission::{Capabilities, RxChecksum};
use netstack::wire::{EtherType, EthernetAddress, Protocol, arp, ethernet, icmpv4, ipv4};
use runtime::time::Instant;
use support::{CLIENT, Pair, SERVER, STRANGER, TestApp, TestStream};

fn arp_frame(packet: &arp::Repr) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER_LEN + arp::PACKET_LEN];
    ethernet::Repr { src_addr: STRANGER, dst_addr: EthernetAddress::BROADCAST, ethertype: EtherType::Arp }
        .emit(&mut ethernet::Frame::new_unchecked(&mut frame[..]));
    packet.emit(&mut arp::Packet::new_unchecked(&mut frame[ethernet::HEADER_LEN..]));
    frame
}

fn claim() -> Vec<u8> {
    arp_frame(&arp::Repr {
        operation: arp::Operation::Reply,
        sender_hardware: STRANGER,
        sender_protocol: SERVER,
        target_hardware: EthernetAddress::BROADCAST,
        target_protocol: CLIENT,
    })
}

fn ping(target: EthernetAddress) -> Vec<u8> {
    let message = icmpv4::Repr::EchoRequest { ident: 1, sequence: 1, data: b"ping" };
    let ip = ipv4::Repr {
        src_addr: CLIENT,
        dst_addr: SERVER,
        protocol: Protocol::Icmp,
        payload_len: message.buffer_len(),
        ttl: 64,
        ident: 1,
        ecn: 0,
    };
    let mut frame = vec![0; ethernet::HEADER_LEN + ipv4::HEADER_LEN + message.buffer_len()];
    ethernet::Repr { src_addr: STRANGER, dst_addr: target, ethertype: EtherType::Ipv4 }
        .emit(&mut ethernet::Frame::new_unchecked(&mut frame[..]));
    ip.emit(&mut ipv4::Packet::new_unchecked(&mut frame[14..]));
    message.emit(&mut icmpv4::Packet::new_unchecked(&mut frame[34..]));
    frame
}

#[test]
fn a_flood_of_claims_is_reported_once_in_ten_seconds() {
    let mut pair = Pair::new(wire::Config::default(), 1, &|_| {}, TestApp::new(|_| None));
    let frame = claim();
    let server = &mut pair.server;
    assert_ne!(server.device.hardware_addr(), STRANGER);
    let mut reports = 0;
    let start = Instant::from_millis(1);
    for ms in 0..25_000 {
        let now = start + Duration::from_millis(ms);
        server.stack.handle_frame(now, &frame, RxChecksum::Unknown, &mut server.app);
        while let Some(event) = server.stack.poll_event() {
            assert_eq!(event, Event::AddressConflict { addr: SERVER, hardware_addr: STRANGER });
            reports += 1;
        }
    }
    assert_eq!(reports, 3, "at 0, 10 and 20 s");
    let sent: Vec<arp::Repr> = arp_sent(server, start + Duration::from_secs(25)).collect();
    assert_eq!(
        sent,
        [announcement(server.device.hardware_addr()); 3],
        "defended as often (RFC 5227 section 2.4)"
    );
}

/// What the host has to send of ARP.
fn arp_sent(host: &mut support::Host, now: Instant) -> impl Iterator<Item = arp::Repr> {
    std::iter::from_fn(move || {
        let emit = |t: &netstack::transmission::Transmission<'_>| t.headers.to_vec();
        let frame = host.stack.poll_transmit(now, &Capabilities::default(), &mut host.app, emit)?;
        let frame = ethernet::Frame::new_checked(&frame[..]).expect("a frame");
        assert_eq!((frame.ethertype(), frame.dst_addr()), (EtherType::Arp, EthernetAddress::BROADCAST));
        let packet = arp::Packet::new_checked(frame.payload()).expect("a packet");
        Some(arp::Repr::parse(&packet).expect("ARP"))
    })
}

fn announcement(hardware_addr: EthernetAddress) -> arp::Repr {
    arp::Repr {
        operation: arp::Operation::Request,
        sender_hardware: hardware_addr,
        sender_protocol: SERVER,
        target_hardware: EthernetAddress::default(),
        target_protocol: SERVER,
    }
}

/// A stack that probes first, not yet begun, with a connection that waits to be opened.
fn probing() -> support::Host {
    let adjust = |config: &mut Config| config.address_detection = AddressDetection::Probe;
    let pair = Pair::new(wire::Config::default(), 9, &adjust, TestApp::new(|_| None));
    let mut host = pair.server;
    let stream = TestStream::new(0, 10);
    let keep = |pcb| host.app.keep(pcb, stream);
    host.stack.connect(pair.now, None, (CLIENT, 80).into(), keep).expect("a port");
    host
}

/// Runs the host's timers until `until`; all ARP that it sends. It sends nothing else.
fn run(host: &mut support::Host, now: &mut Instant, until: Instant) -> Vec<(Duration, arp::Repr)> {
    let mut sent = Vec::new();
    while let Some(due) = host.stack.poll_timeout().filter(|&due| due <= until) {
        // The wheel's own deadlines may be early.
        *now = (*now).max(due) + Duration::from_micros(10);
        host.stack.handle_timeout(*now, &mut host.app);
        let since = now.saturating_since(Instant::ZERO);
        sent.extend(arp_sent(host, *now).map(|arp| (since, arp)));
    }
    *now = until;
    sent
}

/// RFC 5227 section 2.1.1 and 2.3: three probes that claim nothing, two announcements, and before the first
/// of these the address neither speaks nor listens.
#[test]
fn an_address_is_probed_for_before_it_is_used() {
    let mut host = probing();
    let hardware_addr = host.device.hardware_addr();
    let mut now = Instant::from_millis(1);
    let probes = run(&mut host, &mut now, Instant::from_millis(3_000));
    assert!(!probes.is_empty() && !host.stack.may_use_address());
    let mut probe = announcement(hardware_addr);
    probe.sender_protocol = Ipv4Addr::UNSPECIFIED;
    host.stack.handle_frame(now, &ping(hardware_addr), RxChecksum::Unknown, &mut host.app);
    let mut asked = announcement(STRANGER);
    (asked.sender_protocol, asked.target_protocol) = (CLIENT, SERVER);
    host.stack.handle_frame(now, &arp_frame(&asked), RxChecksum::Unknown, &mut host.app);
    assert_eq!(arp_sent(&mut host, now).next(), None, "no answer to a ping, nor to a question");
    let mut sent = probes;
    sent.extend(run(&mut host, &mut now, Instant::from_millis(7_100)));
    assert!(host.stack.may_use_address());
    let said: Vec<arp::Repr> = sent.iter().map(|&(_, arp)| arp).collect();
    assert_eq!(said[..3], [probe; 3]);
    assert_eq!(said[3], announcement(hardware_addr));
    // The open that had waited asks for its peer now.
    let asks = arp::Repr { target_protocol: CLIENT, ..announcement(hardware_addr) };
    assert!(said[4..].contains(&asks), "{said:?}");
    host.stack.handle_frame(now, &arp_frame(&asked), RxChecksum::Unknown, &mut host.app);
    assert!(host.stack.poll_transmit(now, &Capabilities::default(), &mut host.app, |_| ()).is_some());
}

/// Who has it, and who wants it at the same time: neither gets it, and what waited to use it ends.
#[test]
fn an_address_that_another_host_has_or_wants_is_not_used() {
    let has = arp::Repr { target_hardware: STRANGER, ..announcement(STRANGER) };
    let wants = arp::Repr { sender_protocol: Ipv4Addr::UNSPECIFIED, ..announcement(STRANGER) };
    for theirs in [has, wants] {
        let mut host = probing();
        let mut now = Instant::from_millis(1);
        assert!(!run(&mut host, &mut now, Instant::from_millis(2_000)).is_empty());
        host.stack.handle_frame(now, &arp_frame(&theirs), RxChecksum::Unknown, &mut host.app);
        assert_eq!(
            host.stack.poll_event(),
            Some(Event::AddressRefused { addr: SERVER, hardware_addr: STRANGER })
        );
        assert_eq!(run(&mut host, &mut now, Instant::from_millis(60_000)), []);
        assert!(!host.stack.may_use_address());
        assert_eq!(host.app.closed[0].0, CloseReason::Unreachable);
        host.assert_empty();
        let remote = (CLIENT, 80).into();
        let refused = host.stack.connect(now, None, remote, |_| unreachable!("it cannot begin"));
        assert_eq!(refused, Err(ConnectError::AddressRefused));
    }
}

/// RFC 9293 section 3.8.1's timer covers what never left this host, too: with the neighbour gone for longer
/// than ARP asks, data that were pushed meanwhile wait for it and go out, or the connection is given up in
/// the end.
#[test]
fn what_was_pushed_while_the_neighbour_was_gone_is_sent_when_it_is_back() {
    for back in [true, false] {
        let server = TestApp::new(|_| {
            let mut stream = TestStream::new(1, 0);
            stream.finish = false;
            Some(stream)
        });
        let mut pair = Pair::new(wire::Config::default(), 5, &|_| {}, server);
        let mut stream = TestStream::new(0, 0);
        stream.finish = false;
        pair.client.connect(pair.now, stream);
        assert!(pair.run_until(Instant::from_millis(1000), |pair| pair.server.app.records.len() == 1));
        // Beyond the age at which the peer's entry is doubted: it is asked for again once there is something
        // to send.
        let gone = pair.now + Duration::from_secs(70);
        let server = &mut pair.server;
        let key = Key(0);
        let mut now = gone;
        let mut reports = 0;
        let silent = |server: &mut support::Host, now: Instant| {
            // The link is down: what is sent is lost, and nothing comes in.
            if server.stack.poll_timeout().is_some_and(|at| at <= now) {
                server.stack.handle_timeout(now, &mut server.app);
            }
            let caps = server.device.capabilities();
            while server.stack.poll_transmit(now, &caps, &mut server.app, |_| ()).is_some() {}
        };
        let hardware_addr = server.device.hardware_addr();
        server.stack.handle_frame(gone, &ping(hardware_addr), RxChecksum::Unknown, &mut server.app);
        while now < gone + Duration::from_secs(20) {
            silent(server, now);
            while let Some(event) = server.stack.poll_event() {
                reports += u32::from(matches!(event, Event::Unreachable { .. }));
            }
            let record = server.app.records.get_mut(0).expect("it stands");
            if reports == 1 && record.stream.len == 0 {
                record.stream.extend(10);
                server.stack.wake(key);
            }
            now = now + Duration::from_millis(5);
        }
        assert!(reports > 1, "ARP gave up");
        // Nothing is in flight: that is the case where no retransmission timer runs by itself.
        let record = server.app.records.get_mut(0).expect("it stands");
        assert_eq!((record.stream.len, record.stream.acknowledged, record.pcb.in_flight()), (10, 0, 0));
        let limit = now + Duration::from_secs(if back { 200 } else { 2000 });
        pair.now = now;
        if back {
            let done = pair.run_until(limit, |pair| {
                pair.server.app.records.get(0).is_some_and(|record| record.stream.acknowledged == 10)
            });
            assert!(done, "the pushed bytes were never sent again");
        } else {
            while now < limit && pair.server.app.closed.is_empty() {
                let next = pair.server.stack.poll_timeout().expect("a timer runs");
                now = now.max(next) + Duration::from_millis(1);
                silent(&mut pair.server, now);
            }
            assert_eq!(pair.server.app.closed.len(), 1, "it is given up in the end");
        }
    }
}

/// More neighbours that do not answer than the ARP table has places: who lost its place waits no longer than
/// the others.
#[test]
fn connections_whose_question_was_pushed_out_are_given_up_like_others() {
    let adjust = |config: &mut Config| config.prefix_len = 8;
    let mut pair = Pair::new(wire::Config::default(), 6, &adjust, TestApp::new(|_| None));
    let host = &mut pair.client;
    let mut now = pair.now;
    let total = DEFAULT_CAPACITY + 500;
    for number in 0..total {
        let remote = (Ipv4Addr::new(10, 7, (number >> 8) as u8, number as u8), 80).into();
        let stream = TestStream::new(0, 10);
        host.stack.connect(now, None, remote, |pcb| host.app.keep(pcb, stream)).expect("a port");
    }
    let capabilities = host.device.capabilities();
    while host.app.closed.len() < total {
        while host.stack.poll_transmit(now, &capabilities, &mut host.app, |_| ()).is_some() {}
        while host.stack.poll_event().is_some() {}
        let Some(next) = host.stack.poll_timeout() else {
            panic!("{} of {total} wait for ever", total - host.app.closed.len());
        };
        now = now.max(next);
        host.stack.handle_timeout(now, &mut host.app);
    }
    assert!(now < Instant::from_millis(200_000), "{now:?}");
    for (reason, _) in &host.app.closed {
        assert!(matches!(reason, CloseReason::Unreachable | CloseReason::TimedOut), "{reason:?}");
    }
    host.assert_empty();
}

/// What cannot begin leaves nothing behind, and says why.
#[test]
fn opens_that_cannot_begin_are_refused() {
    let mut pair = Pair::new(wire::Config::default(), 7, &|_| {}, TestApp::new(|_| None));
    let host = &mut pair.client;
    let mut refused = |remote: (IpAddr, u16), expected: ConnectError| {
        let keep = |pcb| host.app.keep(pcb, TestStream::new(0, 10));
        assert_eq!(host.stack.connect(pair.now, None, remote.into(), keep), Err(expected), "{remote:?}");
    };
    refused((Ipv6Addr::LOCALHOST.into(), 80), ConnectError::Ipv6);
    refused(("fd00::1".parse().expect("an address"), 80), ConnectError::Ipv6);
    refused((SERVER.into(), 0), ConnectError::BadAddress);
    refused((CLIENT.into(), 80), ConnectError::BadAddress);
    refused((Ipv4Addr::BROADCAST.into(), 80), ConnectError::BadAddress);
    refused((Ipv4Addr::new(192, 0, 2, 1).into(), 80), ConnectError::NoRoute);
    let full = host.stack.connect(pair.now, None, (SERVER, 80).into(), |_| None);
    assert_eq!(full, Err(ConnectError::NotKept));
    host.assert_empty();
    let mut sent = 0;
    let capabilities = host.device.capabilities();
    while host.stack.poll_transmit(pair.now, &capabilities, &mut host.app, |_| sent += 1).is_some() {}
    assert_eq!(sent, 0);
}
