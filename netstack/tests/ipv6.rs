//! IPv6: two stacks over a wire, and frames made by hand: questions for our address, reports of too large
//! packets, echoes, and whatever else may come in.

mod support;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use netstack::application::CloseReason;
use netstack::device::fault::Faults;
use netstack::device::{Device, wire};
use netstack::stack::{Config, ConnectError, Event, Ipv6Config};
use netstack::transmission::{Capabilities, RxChecksum, Transmission};
use netstack::wire::{EtherType, EthernetAddress, Protocol, ethernet, icmpv6, ipv6};
use runtime::time::Instant;
use support::{Host, PORT, Pair, STRANGER, TestApp, TestStream};

const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// A third host on the link.
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);

/// Both stacks speak IPv6 too, at the address that ends as their other one does.
fn dual_stack(config: &mut Config) {
    let addr = if config.ipv4_addr == support::CLIENT { CLIENT6 } else { SERVER6 };
    config.ipv6 = Some(Ipv6Config { addr, prefix_len: 64, gateway: None });
}

fn frame(
    to: EthernetAddress,
    src_addr: Ipv6Addr,
    dst_addr: Ipv6Addr,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = vec![0; 54];
    ethernet::Repr { src_addr: STRANGER, dst_addr: to, ethertype: EtherType::Ipv6 }
        .emit(&mut ethernet::Frame::new_unchecked(&mut frame[..]));
    let (protocol, payload_len) = (Protocol::Icmpv6, payload.len());
    ipv6::Repr { src_addr, dst_addr, protocol, payload_len, hop_limit }
        .emit(&mut ipv6::Packet::new_unchecked(&mut frame[14..]));
    frame.extend_from_slice(payload);
    frame
}

fn message(repr: &icmpv6::Repr<'_>, src: Ipv6Addr, dst: Ipv6Addr) -> Vec<u8> {
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(src, dst, &mut bytes);
    bytes
}

/// Everything that the host has to send, as frames.
fn sent(host: &mut Host, now: Instant) -> Vec<Vec<u8>> {
    let emit = |t: &Transmission<'_>| {
        let mut frame = t.headers.to_vec();
        frame.extend(t.payload_to_vec());
        frame
    };
    std::iter::from_fn(|| host.stack.poll_transmit(now, &Capabilities::default(), &mut host.app, emit))
        .collect()
}

#[test]
fn connections_of_both_families_meet_one_listener() {
    for seed in 0..8 {
        let faults = Faults { drop: 0.02, duplicate: 0.01, reorder: 0.02, ..Faults::NONE };
        let offloads =
            Capabilities { checksum: true, segmentation: Some(65_536), gather: true, datagrams: false };
        let capabilities = if seed % 2 == 0 { Capabilities::default() } else { offloads };
        let wire = wire::Config { faults, capabilities, ..wire::Config::default() };
        let server = TestApp::new(|_| Some(TestStream::new(1, 300_000)));
        let mut pair = Pair::new(wire, seed, &dual_stack, server);
        for remote in [IpAddr::from(SERVER6), IpAddr::from(support::SERVER)] {
            let client = &mut pair.client;
            let keep = |pcb| client.app.keep(pcb, TestStream::new(0, 100_000));
            client.stack.connect(pair.now, None, (remote, PORT).into(), keep).expect("a port");
        }
        let limit = Instant::from_millis(600_000);
        assert!(
            pair.run_until(limit, |pair| pair.client.app.closed_count + pair.server.app.closed_count == 4)
        );
        for (reason, stream) in pair.client.app.closed.iter().chain(&pair.server.app.closed) {
            assert_eq!((*reason, stream.wrong_bytes), (CloseReason::Finished, 0), "seed {seed}");
        }
        assert!(pair.client.app.closed.iter().all(|(_, stream)| stream.received == 300_000));
    }
}

/// RFC 4861 section 7.2: who asks is answered, and learnt; forwarded questions, and those for others, are
/// not.
#[test]
fn questions_for_our_address_are_answered() {
    let mut pair = Pair::new(wire::Config::default(), 1, &dual_stack, TestApp::new(|_| None));
    let (now, host) = (pair.now, &mut pair.server);
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 2);
    let group_hardware = EthernetAddress([0x33, 0x33, 0xff, 0, 0, 2]);
    let question = |target| icmpv6::Repr::NeighborSolicitation { target, source: Some(STRANGER) };
    let asked = |host: &mut Host, src, target, hop_limit, repr: &icmpv6::Repr<'_>| {
        let _ = target;
        let bytes = frame(group_hardware, src, group, hop_limit, &message(repr, src, group));
        host.stack.handle_frame(now, &bytes, RxChecksum::Unknown, &mut host.app);
        sent(host, now)
    };
    let answers = asked(host, PEER6, SERVER6, 255, &question(SERVER6));
    let hardware_addr = Some(host.device.hardware_addr());
    let advertisement = icmpv6::Repr::NeighborAdvertisement {
        target: SERVER6,
        solicited: true,
        replace: true,
        hardware_addr,
    };
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0], {
        let mut expected = frame(STRANGER, SERVER6, PEER6, 255, &message(&advertisement, SERVER6, PEER6));
        expected[6..12].copy_from_slice(&host.device.hardware_addr().0);
        expected
    });
    // An echo is answered at once now: the asker is known.
    let ping = icmpv6::Repr::EchoRequest { ident: 1, sequence: 2, data: b"ping" };
    let bytes = frame(host.device.hardware_addr(), PEER6, SERVER6, 64, &message(&ping, PEER6, SERVER6));
    host.stack.handle_frame(now, &bytes, RxChecksum::Unknown, &mut host.app);
    let reply = sent(host, now);
    let pong = icmpv6::Repr::EchoReply { ident: 1, sequence: 2, data: b"ping" };
    assert_eq!(reply[0][54..], message(&pong, SERVER6, PEER6));

    // A host that is looking whether the address is free hears that it is not (RFC 4862 section 5.4.3).
    let probe = icmpv6::Repr::NeighborSolicitation { target: SERVER6, source: None };
    let answers = asked(host, Ipv6Addr::UNSPECIFIED, SERVER6, 255, &probe);
    assert_eq!(answers[0][..6], [0x33, 0x33, 0, 0, 0, 1], "told to all nodes");

    assert!(asked(host, PEER6, SERVER6, 254, &question(SERVER6)).is_empty(), "forwarded");
    assert!(asked(host, PEER6, PEER6, 255, &question(PEER6)).is_empty(), "not ours");
    let anonymous = question(SERVER6);
    assert!(asked(host, Ipv6Addr::UNSPECIFIED, SERVER6, 255, &anonymous).is_empty(), "it contradicts itself");
}

/// RFC 8201: what did not fit goes again in smaller packets, but never in smaller ones than 1,280 bytes.
#[test]
fn too_large_packets_go_again_in_smaller_ones() {
    let server = TestApp::new(|_| Some(TestStream::new(1, 50_000)));
    let mut pair = Pair::new(wire::Config::default(), 1, &dual_stack, server);
    let client = &mut pair.client;
    let keep = |pcb| client.app.keep(pcb, TestStream::new(0, 10));
    client.stack.connect(pair.now, None, (SERVER6, PORT).into(), keep).expect("a port");
    assert!(pair.run_until(Instant::from_millis(1000), |pair| pair.server.app.records.len() == 1));
    // The server has sent what it may by now: it is on the wire.
    let later = pair.now + Duration::from_secs(1);
    let first: Vec<_> = std::iter::from_fn(|| {
        pair.client.device.receive(later).expect("a wire does not fail").map(|frame| frame.bytes.to_vec())
    })
    .collect();
    let (now, host) = (pair.now, &mut pair.server);
    assert_eq!(host.app.records[0].pcb.mss(), 1440);
    let large = first.iter().find(|frame| frame.len() == 1514).expect("a full packet");
    let sequence = |frame: &[u8]| frame[58..62].to_vec();
    for (mtu, mss) in [(1400, 1340), (1280, 1220), (68, 1220), (9000, 1220)] {
        let report = icmpv6::Repr::PacketTooBig { mtu, original: &large[14..1014] };
        let bytes = message(&report, PEER6, SERVER6);
        let bytes = frame(host.device.hardware_addr(), PEER6, SERVER6, 64, &bytes);
        host.stack.handle_frame(now, &bytes, RxChecksum::Unknown, &mut host.app);
        assert_eq!(host.app.records[0].pcb.mss(), mss, "{mtu}");
        let again = sent(host, now);
        let is_news = mtu == 1400 || mtu == 1280;
        assert_eq!(
            again.iter().any(|frame| sequence(frame) == sequence(large)),
            is_news,
            "{mtu}: it goes again"
        );
        for frame in again {
            assert!(frame.len() <= 14 + 60 + usize::from(mss), "{mtu}: {}", frame.len());
        }
    }
    // One that quotes what is not in flight is nobody's.
    let mut forged = large[14..1014].to_vec();
    forged[44] ^= 0x55;
    let before = host.stack.stats().ignored;
    let report = icmpv6::Repr::PacketTooBig { mtu: 1300, original: &forged };
    let bytes = frame(host.device.hardware_addr(), PEER6, SERVER6, 64, &message(&report, PEER6, SERVER6));
    host.stack.handle_frame(now, &bytes, RxChecksum::Unknown, &mut host.app);
    assert_eq!(host.stack.stats().ignored, before + 1);
}

#[test]
fn a_neighbour_that_does_not_answer_ends_the_open() {
    let mut pair = Pair::new(wire::Config::default(), 1, &dual_stack, TestApp::new(|_| None));
    let client = &mut pair.client;
    let mut connect = |remote: Ipv6Addr| {
        let keep = |pcb| client.app.keep(pcb, TestStream::new(0, 10));
        client.stack.connect(pair.now, None, (remote, PORT).into(), keep)
    };
    connect(PEER6).expect("it begins");
    for (remote, error) in [
        (CLIENT6, ConnectError::BadAddress),
        (Ipv6Addr::LOCALHOST, ConnectError::BadAddress),
        (support::SERVER.to_ipv6_mapped(), ConnectError::BadAddress),
        (Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1), ConnectError::NoRoute),
    ] {
        assert_eq!(connect(remote), Err(error), "{remote}");
    }
    assert!(pair.run_until(Instant::from_millis(60_000), |pair| pair.client.app.closed_count == 1));
    assert_eq!(pair.client.app.closed[0].0, CloseReason::Unreachable);
    assert!(pair.now < Instant::ZERO + Duration::from_secs(10), "after three questions");
    assert_eq!(pair.client.stack.poll_event(), Some(Event::Unreachable { addr: PEER6.into() }));
    pair.client.assert_empty();
}

/// Frames that were right once, with bytes changed, cut and stretched: no panic, and nothing answered without
/// bound.
#[test]
fn hostile_frames_do_no_harm() {
    let mut pair = Pair::new(wire::Config::default(), 1, &dual_stack, TestApp::new(|_| None));
    let (now, host) = (pair.now, &mut pair.server);
    let to = host.device.hardware_addr();
    let mut random = netstack::device::fault::Random::new(5);
    let ping = icmpv6::Repr::EchoRequest { ident: 1, sequence: 2, data: &[7; 100] };
    let question = icmpv6::Repr::NeighborSolicitation { target: SERVER6, source: Some(STRANGER) };
    let report = icmpv6::Repr::PacketTooBig { mtu: 1300, original: &[0x60; 60] };
    let mut answers = 0;
    for number in 0..100_000 {
        let repr = [ping, question, report][number % 3];
        let mut bytes = frame(to, PEER6, SERVER6, 255, &message(&repr, PEER6, SERVER6));
        for _ in 0..random.below(4) {
            let at = 14 + random.below(bytes.len() as u64 - 14) as usize;
            bytes[at] = random.below(256) as u8;
        }
        // Extension headers, of lengths that may lie.
        if random.below(2) == 0 {
            let kinds = [0, 43, 44, 51, 60, 59];
            bytes[20] = kinds[random.below(6) as usize];
        }
        if random.below(2) == 0 {
            bytes.truncate(bytes.len() - random.below(60) as usize);
        }
        host.stack.handle_frame(now, &bytes, RxChecksum::Valid, &mut host.app);
        // One each; but echoes to who is not known yet wait for a question of theirs, and then go with its
        // answer.
        answers += sent(host, now).len();
        assert!(answers <= number + 1, "{answers} answers to {} frames", number + 1);
    }
    assert!(answers > 1000, "{answers}: the frames do reach what is tested");
}

/// The groups of a stack are reported when it begins, twice, and when a router asks (RFC 3810); with a hop
/// limit of one, for all routers to look at.
#[test]
fn groups_are_reported() {
    let mut config =
        Config::new(EthernetAddress([2, 0, 0, 0, 0, 1]), support::SERVER, 24, *b"only for testing");
    config.ipv6 = Some(Ipv6Config { addr: SERVER6, prefix_len: 64, gateway: None });
    let mut app = TestApp::new(|_| None);
    let mut stack = netstack::stack::Stack::new(config);
    let reports = |stack: &mut netstack::stack::Stack, app: &mut TestApp, from_ms: u64, to_ms: u64| {
        let mut reports = Vec::new();
        for ms in from_ms..to_ms {
            let now = Instant::from_millis(ms);
            stack.handle_timeout(now, app);
            let emit = |t: &Transmission<'_>| [t.headers, &t.payload_to_vec()[..]].concat();
            while let Some(frame) = stack.poll_transmit(now, &Capabilities::default(), app, emit) {
                reports.push(frame);
            }
        }
        reports
    };
    let joined = reports(&mut stack, &mut app, 1, 1200);
    assert_eq!(joined.len(), 2);
    for frame in &joined {
        assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 0x16]);
        let packet = ipv6::Packet::new_checked(&frame[14..]).expect("a packet");
        assert_eq!((packet.next_header(), packet.hop_limit()), (0, 1));
        assert_eq!(packet.dst_addr(), netstack::wire::mld::ALL_ROUTERS);
        assert!(packet.src_addr().is_unicast_link_local());
        // Router alert, then two groups, each left out of nothing.
        assert_eq!(frame[54..62], [58, 0, 5, 2, 0, 0, 1, 0]);
        assert_eq!((frame[62], &frame[68..70], frame[70], frame[90]), (143, &[0, 2][..], 4, 4));
        assert_eq!(frame.len(), 110);
    }
    let question = |group: Ipv6Addr, hop_limit, src: Ipv6Addr| {
        let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let mut bytes = vec![0; 28];
        bytes[0] = 130;
        bytes[4..6].copy_from_slice(&500u16.to_be_bytes());
        bytes[8..24].copy_from_slice(&group.octets());
        let pseudo = netstack::wire::checksum::pseudo_header(src, all, Protocol::Icmpv6, 28);
        let sum = netstack::wire::checksum::add(pseudo, netstack::wire::checksum::sum(&bytes));
        bytes[2..4].copy_from_slice(&(!sum).to_be_bytes());
        frame(EthernetAddress([0x33, 0x33, 0, 0, 0, 1]), src, all, hop_limit, &bytes)
    };
    let router: Ipv6Addr = "fe80::99".parse().expect("an address");
    let ours = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 2);
    let mut at = 2000;
    for (group, hop_limit, src, answers) in [
        (Ipv6Addr::UNSPECIFIED, 1, router, 1),
        (ours, 1, router, 1),
        ("ff02::1:ff00:77".parse().expect("an address"), 1, router, 0),
        (Ipv6Addr::UNSPECIFIED, 64, router, 0),
        (Ipv6Addr::UNSPECIFIED, 1, PEER6, 0),
    ] {
        for _ in 0..3 {
            let bytes = question(group, hop_limit, src);
            stack.handle_frame(Instant::from_millis(at), &bytes, RxChecksum::Unknown, &mut app);
        }
        let sent = reports(&mut stack, &mut app, at, at + 600);
        assert_eq!(sent.len(), answers, "{group} {hop_limit} {src}");
        assert!(sent.iter().all(|frame| frame[70] == 2), "asked, not joined");
        at += 1000;
    }
}

/// An echo in fragments, in any order, is answered in fragments that any path takes; overlapping ones, and
/// neighbour discovery in fragments (RFC 6980), are not.
#[test]
fn fragments_are_put_together_and_made() {
    let data: Vec<u8> = (0..4000u32).map(|i| (i * 7) as u8).collect();
    let ping = icmpv6::Repr::EchoRequest { ident: 9, sequence: 1, data: &data };
    let whole = message(&ping, PEER6, SERVER6);
    let cut = |whole: &[u8], ident: u32, to: EthernetAddress| -> Vec<Vec<u8>> {
        let parts: Vec<&[u8]> = whole.chunks(1232).collect();
        (0..parts.len())
            .map(|at| {
                let (offset, more) = (1232 * at, at + 1 < parts.len());
                let header =
                    ipv6::Ipv6Fragment { next_header: 58, ident, offset, more, payload: &[] }.header();
                let mut bytes = frame(to, PEER6, SERVER6, 255, &[&header, parts[at]].concat());
                bytes[20] = 44;
                bytes
            })
            .collect()
    };
    let mut pair = Pair::new(wire::Config::default(), 1, &dual_stack, TestApp::new(|_| None));
    let (now, host) = (pair.now, &mut pair.server);
    host.stack.add_neighbor(now, PEER6, STRANGER);
    let to = host.device.hardware_addr();
    for (ident, order) in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]].into_iter().enumerate() {
        let fragments = cut(&whole, ident as u32, to);
        for at in order {
            host.stack.handle_frame(now, &fragments[at], RxChecksum::Unknown, &mut host.app);
        }
        let sent = sent(host, now);
        assert_eq!(sent.len(), 4);
        let mut put_together = Vec::new();
        let mut idents = Vec::new();
        for (number, bytes) in sent.iter().enumerate() {
            assert!(bytes.len() <= 14 + 1280);
            let packet = ipv6::Packet::new_checked(&bytes[14..]).expect("a packet");
            let Ok(ipv6::Ipv6Content::Fragment(part)) = packet.content() else { panic!("no fragment") };
            assert_eq!((part.offset, part.more), (put_together.len(), number < 3));
            put_together.extend_from_slice(part.payload);
            idents.push(part.ident);
        }
        idents.dedup();
        assert_eq!(idents.len(), 1);
        let reply = icmpv6::Repr::EchoReply { ident: 9, sequence: 1, data: &data };
        assert_eq!(put_together, message(&reply, SERVER6, PEER6));
    }
    // A fragment that overlaps ends its packet.
    let mut fragments = cut(&whole, 100, to);
    fragments[1][14 + 40 + 3] -= 8;
    for fragment in &fragments {
        host.stack.handle_frame(now, fragment, RxChecksum::Unknown, &mut host.app);
    }
    assert!(sent(host, now).is_empty());
    // Discovery never needs any.
    let ask = icmpv6::Repr::NeighborSolicitation { target: SERVER6, source: Some(STRANGER) };
    let ask = message(&ask, PEER6, SERVER6);
    for (at, more) in [(0, true), (16, false)] {
        let header =
            ipv6::Ipv6Fragment { next_header: 58, ident: 7, offset: at, more, payload: &[] }.header();
        let part = if more { &ask[..16] } else { &ask[16..] };
        let mut bytes = frame(to, PEER6, SERVER6, 255, &[&header, part].concat());
        bytes[20] = 44;
        host.stack.handle_frame(now, &bytes, RxChecksum::Unknown, &mut host.app);
    }
    assert!(sent(host, now).is_empty());
}

/// A stack that makes its own addresses, beside one of IPv4, and what it sends within some time.
struct Autoconfigured {
    stack: netstack::stack::Stack,
    app: TestApp,
    now_ms: u64,
}

impl Autoconfigured {
    const HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
    const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x00ff, 0xfe00, 1);
    const NEIGHBOR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

    fn new() -> Autoconfigured {
        let mut config = Config::new(Self::HARDWARE, support::SERVER, 24, *b"only for testing");
        config.ipv6_autoconf = true;
        let mut stack = netstack::stack::Stack::new(config);
        stack.listen(PORT).expect("a port");
        Autoconfigured { stack, app: TestApp::new(|_| None), now_ms: 1 }
    }

    fn until(&mut self, end_ms: u64) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while self.now_ms < end_ms {
            self.now_ms += 10;
            let now = Instant::from_millis(self.now_ms);
            self.stack.handle_timeout(now, &mut self.app);
            let emit = |t: &Transmission<'_>| [t.headers, &t.payload_to_vec()[..]].concat();
            while let Some(frame) =
                self.stack.poll_transmit(now, &Capabilities::default(), &mut self.app, emit)
            {
                frames.push(frame);
            }
        }
        frames
    }

    fn arrives(&mut self, bytes: &[u8]) {
        let now = Instant::from_millis(self.now_ms);
        self.stack.handle_frame(now, bytes, RxChecksum::Valid, &mut self.app);
    }

    fn advertised(&mut self) {
        self.advertised_by(Self::NEIGHBOR, 1800);
    }

    /// By a router that may be used for so many seconds.
    fn advertised_by(&mut self, router: Ipv6Addr, lifetime: u16) {
        let mut bytes = vec![134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0];
        bytes[6..8].copy_from_slice(&lifetime.to_be_bytes());
        bytes.extend([0, 0, 28, 32, 0, 0, 28, 32, 0, 0, 0, 0]);
        bytes.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).octets());
        let len = bytes.len() as u32;
        let pseudo = netstack::wire::checksum::pseudo_header(router, Self::ALL_NODES, Protocol::Icmpv6, len);
        let sum = netstack::wire::checksum::add(pseudo, netstack::wire::checksum::sum(&bytes));
        bytes[2..4].copy_from_slice(&(!sum).to_be_bytes());
        let to = EthernetAddress([0x33, 0x33, 0, 0, 0, 1]);
        self.arrives(&frame(to, router, Self::ALL_NODES, 255, &bytes));
    }
}

/// Where a connection's next segment goes is kept with it, but no longer than the route: a router that
/// withdraws is left by who has sent by it, though it still answers.
#[test]
fn connections_follow_the_routers() {
    const OTHER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 10);
    let (first, second) = (EthernetAddress([2, 0, 0, 0, 0, 0x21]), EthernetAddress([2, 0, 0, 0, 0, 0x22]));
    let mut host = Autoconfigured::new();
    host.until(3000);
    host.advertised();
    host.until(6000);
    assert!(host.stack.ipv6_addr().is_some());
    let now = Instant::from_millis(host.now_ms);
    host.stack.add_neighbor(now, Autoconfigured::NEIGHBOR, first);
    host.stack.add_neighbor(now, OTHER, second);
    let remote = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 9);
    let app = &mut host.app;
    let keep = |pcb| app.keep(pcb, TestStream::new(0, 1000));
    host.stack.connect(now, None, (IpAddr::from(remote), PORT).into(), keep).expect("a port");
    // The question, and what asks again for an answer that does not come.
    let went_to = |host: &mut Autoconfigured, end_ms| {
        let frames = host.until(end_ms);
        let of_tcp = frames.iter().filter(|frame| frame[20] == 6);
        of_tcp.map(|frame| EthernetAddress(frame[..6].try_into().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(went_to(&mut host, 6500), [first]);
    host.advertised_by(Autoconfigured::NEIGHBOR, 0);
    host.advertised_by(OTHER, 1800);
    assert_eq!(went_to(&mut host, 7900), [second]);
}

/// RFC 4861 section 7.1.1: with no address but that of the link, neighbours are asked from that one, and
/// echoes to all nodes answered from it.
#[test]
fn the_address_of_the_link_speaks_while_there_is_no_other() {
    let mut host = Autoconfigured::new();
    host.until(3000);
    let (ours, theirs) = (Autoconfigured::LINK_LOCAL, Autoconfigured::NEIGHBOR);
    let ask = icmpv6::Repr::NeighborSolicitation { target: ours, source: Some(STRANGER) };
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
    let group_hardware = EthernetAddress([0x33, 0x33, 0xff, 0, 0, 1]);
    host.arrives(&frame(group_hardware, theirs, group, 255, &message(&ask, theirs, group)));
    assert_eq!(host.until(3100).len(), 1, "the neighbour is known by now");
    let ping = icmpv6::Repr::EchoRequest { ident: 1, sequence: 2, data: b"ping" };
    let all = Autoconfigured::ALL_NODES;
    // Doubted after a minute: used, and asked for again.
    for (at_ms, questions) in [(4000, 0), (70_000, 1)] {
        host.until(at_ms);
        let to = EthernetAddress([0x33, 0x33, 0, 0, 0, 1]);
        host.arrives(&frame(to, theirs, all, 64, &message(&ping, theirs, all)));
        let sent = host.until(at_ms + 500);
        let kinds = |kind: u8| sent.iter().filter(|frame| frame[54] == kind).count();
        assert_eq!((kinds(129), kinds(135)), (1, questions), "{at_ms}");
        for frame in &sent {
            let packet = ipv6::Packet::new_checked(&frame[14..]).expect("a packet");
            assert_eq!(packet.src_addr(), ours, "{at_ms}");
        }
    }
}

/// An address of IPv6 that comes does not end what begins in IPv4.
#[test]
fn half_open_connections_of_the_other_family_stay() {
    let mut host = Autoconfigured::new();
    host.until(3000);
    let mut syn =
        vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0x77, 8, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0];
    syn.extend(support::CLIENT.octets());
    syn.extend(support::SERVER.octets());
    let sum = !netstack::wire::checksum::sum(&syn[14..34]);
    syn[24..26].copy_from_slice(&sum.to_be_bytes());
    syn.extend(5000u16.to_be_bytes());
    syn.extend(PORT.to_be_bytes());
    syn.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    host.arrives(&syn);
    assert_eq!(host.stack.half_open(), 1);
    host.advertised();
    host.until(4500);
    assert!(host.stack.ipv6_addr().is_some());
    assert_eq!((host.stack.half_open(), host.stack.timers()), (1, 1));
}
