//! IPv4 fragments at the stack: what comes in parts is answered, in parts if need be; floods of them cost
//! bounded work.

mod support;

use std::time::Duration;

use netstack::device::{Device, wire};
use netstack::stack::Config;
use netstack::transmission::{Capabilities, RxChecksum};
use netstack::wire::tcp::{Flags, Options};
use netstack::wire::{EtherType, Protocol, checksum, ethernet, icmpv4, ipv4, tcp};
use proptest::prelude::*;
use runtime::time::Instant;
use support::{CLIENT, Host, PORT, Pair, SERVER, STRANGER, TestApp, TestStream, byte_at};

/// One host that knows its neighbour.
fn host(adjust: &dyn Fn(&mut Config)) -> Host {
    let server = TestApp::new(|_| Some(TestStream::new(1, 10)));
    let mut pair = Pair::new(wire::Config::default(), 1, adjust, server);
    pair.server.stack.add_neighbor(pair.now, CLIENT, STRANGER);
    pair.server
}

/// A datagram from the client, in frames of at most `room` bytes of payload each.
fn frames(to: &Host, protocol: Protocol, ident: u16, datagram: &[u8], room: usize) -> Vec<Vec<u8>> {
    let room = room & !7;
    let mut frames = Vec::new();
    for (number, part) in datagram.chunks(room).enumerate() {
        let mut frame = vec![0; 34 + part.len()];
        ethernet::Repr {
            src_addr: STRANGER,
            dst_addr: to.device.hardware_addr(),
            ethertype: EtherType::Ipv4,
        }
        .emit(&mut ethernet::Frame::new_unchecked(&mut frame[..]));
        let ip = ipv4::Repr {
            src_addr: CLIENT,
            dst_addr: SERVER,
            protocol,
            payload_len: part.len(),
            ttl: 64,
            ident,
            ecn: 0,
        };
        let mut packet = ipv4::Packet::new_unchecked(&mut frame[14..]);
        ip.emit(&mut packet);
        packet.set_fragment(number * room, number * room + part.len() < datagram.len());
        frame[34..].copy_from_slice(part);
        frames.push(frame);
    }
    frames
}

/// What the host sends now: each packet's IPv4 bytes.
fn sent(host: &mut Host, now: Instant) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    while host
        .stack
        .poll_transmit(now, &Capabilities::default(), &mut host.app, |transmission| {
            let mut bytes = transmission.headers[14..].to_vec();
            bytes.extend(transmission.payload_to_vec());
            packets.push(bytes);
        })
        .is_some()
    {}
    packets
}

fn echo_request(len: usize) -> (Vec<u8>, Vec<u8>) {
    let data: Vec<u8> = (0..len as u64).map(|at| byte_at(9, at)).collect();
    let repr = icmpv4::Repr::EchoRequest { ident: 5, sequence: 6, data: &data };
    let mut message = vec![0; repr.buffer_len()];
    repr.emit(&mut icmpv4::Packet::new_unchecked(&mut message[..]));
    (data, message)
}

/// The payload of fragments in order, each of which must be a valid packet within the MTU.
fn put_together(packets: &[Vec<u8>], mtu: usize) -> Vec<u8> {
    let mut whole = Vec::new();
    for (number, bytes) in packets.iter().enumerate() {
        let packet = ipv4::Packet::new_checked(&bytes[..]).expect("a packet");
        assert!(packet.verify_checksum() && packet.total_len() <= mtu && packet.total_len() == bytes.len());
        assert!(!packet.dont_fragment() || packets.len() == 1);
        assert_eq!(packet.ident(), ipv4::Packet::new_unchecked(&packets[0][..]).ident());
        assert_eq!(packet.fragment_offset(), whole.len());
        assert_eq!(packet.more_fragments(), number + 1 < packets.len());
        whole.extend_from_slice(packet.payload());
    }
    whole
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn echoes_of_any_length_come_back_whole(
        len in prop_oneof![0usize..5000, 60_000usize..65_500],
        room in prop_oneof![Just(1480usize), 8usize..1480],
        mtu in 68u16..4000,
        order in any::<u64>(),
    ) {
        // Enough for one holey datagram.
        let room = room.max(len / 200);
        let mut host = host(&|config| config.mtu = mtu);
        let (data, message) = echo_request(len);
        let mut frames = frames(&host, Protocol::Icmp, 77, &message, room);
        let turn = (order % frames.len() as u64) as usize;
        frames.rotate_left(turn);
        if order % 3 == 0 {
            frames.reverse();
        }
        let now = Instant::from_millis(5);
        for frame in &frames {
            host.stack.handle_frame(now, frame, RxChecksum::Unknown, &mut host.app);
        }
        prop_assert_eq!(host.stack.fragment_bytes(), 0);
        let packets = sent(&mut host, now);
        let reply = put_together(&packets, usize::from(mtu));
        let packet = icmpv4::Packet::new_checked(&reply[..]).expect("an ICMP message");
        let expected = icmpv4::Repr::EchoReply { ident: 5, sequence: 6, data: &data };
        prop_assert_eq!(icmpv4::Repr::parse(&packet), Ok(expected));
    }

    /// Random fragments of few datagrams, TCP's among them: no panic, and never more bytes than configured.
    #[test]
    fn random_fragments_are_bounded(
        fragments in prop::collection::vec((0u16..40, 0usize..8192, any::<bool>(), 0usize..1500, any::<bool>()), 1..300)
    ) {
        let mut host = host(&|config| config.fragment_bytes = 100_000);
        let mut now = Instant::from_millis(5);
        for (ident, offset, more, len, is_tcp) in fragments {
            let protocol = if is_tcp { Protocol::Tcp } else { Protocol::Icmp };
            let mut frame = frames(&host, protocol, ident, &vec![ident as u8; len.max(1)], 1504).remove(0);
            ipv4::Packet::new_unchecked(&mut frame[14..]).set_fragment((offset % 8192) * 8, more);
            host.stack.handle_frame(now, &frame, RxChecksum::Unknown, &mut host.app);
            prop_assert!(host.stack.fragment_bytes() <= 100_000);
            now = now + Duration::from_millis(20);
            host.stack.handle_timeout(now, &mut host.app);
            sent(&mut host, now);
        }
        host.stack.handle_timeout(now + Duration::from_secs(31), &mut host.app);
        prop_assert_eq!(host.stack.fragment_bytes(), 0);
    }
}

/// A request whose SYN, ACK and data come in parts is answered like any other.
#[test]
fn segments_in_fragments_arrive() {
    let mut host = host(&|_| {});
    let now = Instant::from_millis(5);
    let segment = |flags: Flags, seq: u32, ack: u32, payload: &[u8]| {
        let repr = tcp::Repr {
            src_port: 5000,
            dst_port: PORT,
            seq_number: seq,
            ack_number: ack,
            flags,
            window: 60_000,
            options: Options::NONE,
        };
        let mut bytes = vec![0; repr.header_len()];
        let mut packet = tcp::Packet::new_unchecked(&mut bytes[..]);
        repr.emit(&mut packet);
        packet.fill_checksum(CLIENT, SERVER, checksum::sum(payload), payload.len());
        bytes.extend_from_slice(payload);
        bytes
    };
    let give = |host: &mut Host, ident, bytes: &[u8]| {
        for frame in frames(host, Protocol::Tcp, ident, bytes, 16).iter().rev() {
            host.stack.handle_frame(now, frame, RxChecksum::Unknown, &mut host.app);
        }
        sent(host, now)
    };
    let answer = give(&mut host, 1, &segment(Flags::SYN, 100, 0, &[]));
    let packet = ipv4::Packet::new_checked(&answer[0][..]).expect("a packet");
    let syn_ack =
        tcp::Repr::parse(&tcp::Packet::new_checked(packet.payload()).expect("a segment")).expect("valid");
    let request: Vec<u8> = (0..333).map(|at| byte_at(0, at)).collect();
    give(&mut host, 2, &segment(Flags::ACK, 101, syn_ack.seq_number + 1, &request));
    let (_, record) = host.app.records.iter().next().expect("a connection");
    assert_eq!((record.stream.received, record.stream.wrong_bytes), (333, 0));
    assert_eq!((host.stack.stats().reassembled, host.stack.stats().bad_checksums), (2, 0));
    // One with a byte changed on its way is found out: the checksum is looked at, whatever the device says of
    // its frames.
    let mut bad = segment(Flags::ACK, 434, syn_ack.seq_number + 1, b"xyz");
    bad[20] ^= 1;
    for frame in frames(&host, Protocol::Tcp, 3, &bad, 16) {
        host.stack.handle_frame(now, &frame, RxChecksum::Valid, &mut host.app);
    }
    assert_eq!(host.stack.stats().bad_checksums, 1);
}

/// RFC 1122 section 3.3.2: whoever sent the beginning hears that the rest did not come in time.
#[test]
fn what_stays_incomplete_is_reported_to_its_sender() {
    let mut host = host(&|_| {});
    let now = Instant::from_millis(5);
    let (_, message) = echo_request(4000);
    let frames = frames(&host, Protocol::Icmp, 9, &message, 1480);
    host.stack.handle_frame(now, &frames[0], RxChecksum::Unknown, &mut host.app);
    host.stack.handle_frame(now, &frames[2], RxChecksum::Unknown, &mut host.app);
    let at = host.stack.poll_timeout().expect("a timer");
    assert!(at <= now + Duration::from_secs(30));
    let late = now + Duration::from_secs(30);
    host.stack.handle_timeout(late, &mut host.app);
    let packets = sent(&mut host, late);
    let report = put_together(&packets, 1500);
    let packet = icmpv4::Packet::new_checked(&report[..]).expect("an ICMP message");
    let original = &frames[0][14..14 + 28];
    let code = icmpv4::CODE_REASSEMBLY_TIME;
    assert_eq!(icmpv4::Repr::parse(&packet), Ok(icmpv4::Repr::TimeExceeded { code, original }));
    assert_eq!((host.stack.stats().reassembly_timeouts, host.stack.fragment_bytes()), (1, 0));
}
