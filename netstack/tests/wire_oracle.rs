//! Our wire formats against `pnet_packet`, which was written by others: what one writes, the other reads, and
//! both agree on every checksum. And hostile bytes: no accessor panics on what `new_checked` let through.

use std::net::Ipv4Addr;

use netstack::wire::ethernet::{self, EtherType, EthernetAddress};
use netstack::wire::tcp::{FAST_OPEN_COOKIE_LEN, FastOpen, Flags, Options, SackBlocks, Timestamps};
use netstack::wire::{Protocol, arp, checksum, icmpv4, ipv4, tcp};
use pnet::packet::Packet as _;
use pnet::packet::arp::{ArpHardwareTypes, ArpOperation, ArpPacket, MutableArpPacket};
use pnet::packet::ethernet::{EtherTypes, EthernetPacket};
use pnet::packet::icmp::{self, IcmpPacket, echo_request::EchoRequestPacket};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv4::{self as pnet_ipv4, Ipv4Packet, MutableIpv4Packet};
use pnet::packet::tcp::{
    self as pnet_tcp, MutableTcpPacket, TcpOption, TcpOptionNumber, TcpOptionNumbers, TcpPacket,
};
use pnet::util::MacAddr;
use proptest::prelude::*;

fn address() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from_bits)
}

fn hardware_address() -> impl Strategy<Value = EthernetAddress> {
    any::<[u8; 6]>().prop_map(EthernetAddress)
}

fn mac(address: EthernetAddress) -> MacAddr {
    MacAddr::from(address.0)
}

fn options() -> impl Strategy<Value = Options> {
    let timestamps = prop::option::of((any::<u32>(), any::<u32>()));
    let sack = prop::collection::vec((any::<u32>(), any::<u32>()), 0..=4);
    let fast_open = prop::option::of(prop_oneof![
        Just(FastOpen::Request),
        any::<[u8; FAST_OPEN_COOKIE_LEN]>().prop_map(FastOpen::Cookie),
    ]);
    let mss = prop::option::of(any::<u16>());
    (mss, prop::option::of(0u8..=14), any::<bool>(), timestamps, sack, fast_open).prop_map(
        |(mss, window_scale, sack_permitted, timestamps, blocks, fast_open)| {
            let mut sack = SackBlocks::NONE;
            for (left, right) in blocks {
                assert!(sack.push(left, right));
            }
            let timestamps = timestamps.map(|(value, echo_reply)| Timestamps { value, echo_reply });
            Options { mss, window_scale, sack_permitted, sack, timestamps, fast_open }
        },
    )
}

fn segment() -> impl Strategy<Value = tcp::Repr> {
    (1u16.., 1u16.., any::<u32>(), any::<u32>(), any::<u8>(), any::<u16>(), options()).prop_map(
        |(src_port, dst_port, seq_number, ack_number, flags, window, options)| tcp::Repr {
            src_port,
            dst_port,
            seq_number,
            ack_number,
            flags: Flags(flags),
            window,
            options,
        },
    )
}

/// RFC 1071 as its section 4.1 says it, sixteen bits at a time.
fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

proptest! {
    #[test]
    fn sums(bytes in prop::collection::vec(any::<u8>(), 0..300), cuts in prop::collection::vec(0usize..300, 0..4)) {
        prop_assert_eq!(checksum::sum(&bytes), naive_sum(&bytes));
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut start = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            pieces.push(&bytes[start..cut]);
            start = cut;
        }
        prop_assert_eq!(checksum::sum_pieces(pieces), naive_sum(&bytes));
    }

    #[test]
    fn sum_of_all_ones_and_zeros(len in 0usize..3000, byte in prop::sample::select(vec![0u8, 0xff])) {
        let bytes = vec![byte; len];
        prop_assert_eq!(checksum::sum(&bytes), naive_sum(&bytes));
    }

    #[test]
    fn ethernet_header(src_addr in hardware_address(), dst_addr in hardware_address(), ethertype: u16) {
        let repr = ethernet::Repr { src_addr, dst_addr, ethertype: ethertype.into() };
        let mut bytes = [0xaa; 20];
        repr.emit(&mut ethernet::Frame::new_unchecked(&mut bytes[..]));
        let theirs = EthernetPacket::new(&bytes).unwrap();
        prop_assert_eq!(theirs.get_source(), mac(src_addr));
        prop_assert_eq!(theirs.get_destination(), mac(dst_addr));
        prop_assert_eq!(theirs.get_ethertype().0, ethertype);
        let ours = ethernet::Frame::new_checked(&bytes[..]).unwrap();
        prop_assert_eq!(ethernet::Repr::parse(&ours), repr);
        prop_assert_eq!(ours.payload(), theirs.payload());
    }

    #[test]
    fn arp_packet(
        request: bool,
        sender_hardware in hardware_address(), sender_protocol in address(),
        target_hardware in hardware_address(), target_protocol in address(),
    ) {
        let operation = if request { arp::Operation::Request } else { arp::Operation::Reply };
        let repr = arp::Repr { operation, sender_hardware, sender_protocol, target_hardware, target_protocol };
        let mut bytes = [0xaa; arp::PACKET_LEN];
        repr.emit(&mut arp::Packet::new_unchecked(&mut bytes[..]));
        let theirs = ArpPacket::new(&bytes).unwrap();
        prop_assert_eq!(theirs.get_hardware_type(), ArpHardwareTypes::Ethernet);
        prop_assert_eq!(theirs.get_protocol_type(), EtherTypes::Ipv4);
        prop_assert_eq!(theirs.get_operation(), ArpOperation(if request { 1 } else { 2 }));
        prop_assert_eq!(theirs.get_sender_hw_addr(), mac(sender_hardware));
        prop_assert_eq!(theirs.get_sender_proto_addr(), sender_protocol);
        prop_assert_eq!(theirs.get_target_hw_addr(), mac(target_hardware));
        prop_assert_eq!(theirs.get_target_proto_addr(), target_protocol);

        let mut written = [0u8; arp::PACKET_LEN];
        let mut theirs = MutableArpPacket::new(&mut written).unwrap();
        theirs.set_hardware_type(ArpHardwareTypes::Ethernet);
        theirs.set_protocol_type(EtherTypes::Ipv4);
        theirs.set_hw_addr_len(6);
        theirs.set_proto_addr_len(4);
        theirs.set_operation(ArpOperation(if request { 1 } else { 2 }));
        theirs.set_sender_hw_addr(mac(sender_hardware));
        theirs.set_sender_proto_addr(sender_protocol);
        theirs.set_target_hw_addr(mac(target_hardware));
        theirs.set_target_proto_addr(target_protocol);
        let ours = arp::Packet::new_checked(&written[..]).unwrap();
        prop_assert_eq!(arp::Repr::parse(&ours), Ok(repr));
    }

    #[test]
    fn ipv4_header(
        src_addr in address(), dst_addr in address(), protocol: u8, ttl: u8, ident: u16, ecn in 0u8..4,
        payload in prop::collection::vec(any::<u8>(), 0..64), padding in 0usize..20, new_ident: u16,
    ) {
        let repr =
            ipv4::Repr { src_addr, dst_addr, protocol: protocol.into(), payload_len: payload.len(), ttl, ident, ecn };
        let mut bytes = vec![0xaa; ipv4::HEADER_LEN];
        repr.emit(&mut ipv4::Packet::new_unchecked(&mut bytes));
        bytes.extend(&payload);
        bytes.resize(bytes.len() + padding, 0x55);

        let theirs = Ipv4Packet::new(&bytes).unwrap();
        prop_assert_eq!(theirs.get_checksum(), pnet_ipv4::checksum(&theirs));
        prop_assert_eq!((theirs.get_source(), theirs.get_destination()), (src_addr, dst_addr));
        prop_assert_eq!((theirs.get_ttl(), theirs.get_next_level_protocol().0), (ttl, protocol));
        prop_assert_eq!((theirs.get_identification(), theirs.get_ecn(), theirs.get_flags()), (ident, ecn, 2));
        prop_assert_eq!(theirs.payload(), &payload[..]);
        let ours = ipv4::Packet::new_checked(&bytes[..]).unwrap();
        prop_assert_eq!(ipv4::Repr::parse(&ours), Ok(repr));
        prop_assert_eq!(ours.payload(), &payload[..]);
        prop_assert!(!ours.is_fragment() && ours.dont_fragment());

        // RFC 1624: incremental updates leave a checksum that holds.
        let mut packet = ipv4::Packet::new_unchecked(&mut bytes[..]);
        packet.set_ident(new_ident);
        prop_assert!(packet.verify_checksum());
        packet.set_total_len(20);
        prop_assert!(packet.verify_checksum());
        prop_assert_eq!((packet.ident(), packet.total_len()), (new_ident, 20));
    }

    #[test]
    fn ipv4_options_and_fragments(words in 0u8..=10, flags in 0u8..8, offset in 0u16..8192, payload_len in 0usize..40) {
        let header_len = 20 + 4 * usize::from(words);
        let mut bytes = vec![1u8; header_len + payload_len];
        let mut theirs = MutableIpv4Packet::new(&mut bytes).unwrap();
        theirs.set_version(4);
        theirs.set_header_length(5 + words);
        theirs.set_total_length((header_len + payload_len) as u16);
        theirs.set_flags(flags);
        theirs.set_fragment_offset(offset);
        let sum = pnet_ipv4::checksum(&theirs.to_immutable());
        theirs.set_checksum(sum);
        let ours = ipv4::Packet::new_checked(&bytes[..]).unwrap();
        prop_assert!(ours.verify_checksum());
        prop_assert_eq!(ours.payload().len(), payload_len);
        prop_assert_eq!(ours.is_fragment(), flags & 1 != 0 || offset != 0);
    }

    #[test]
    fn icmp_echo(ident: u16, sequence: u16, data in prop::collection::vec(any::<u8>(), 0..80), reply: bool) {
        let repr = if reply {
            icmpv4::Repr::EchoReply { ident, sequence, data: &data }
        } else {
            icmpv4::Repr::EchoRequest { ident, sequence, data: &data }
        };
        let mut bytes = vec![0xaa; repr.buffer_len()];
        repr.emit(&mut icmpv4::Packet::new_unchecked(&mut bytes));
        let theirs = IcmpPacket::new(&bytes).unwrap();
        prop_assert_eq!(theirs.get_checksum(), icmp::checksum(&theirs));
        prop_assert_eq!(theirs.get_icmp_type().0, if reply { 0 } else { 8 });
        let echo = EchoRequestPacket::new(&bytes).unwrap();
        prop_assert_eq!((echo.get_identifier(), echo.get_sequence_number()), (ident, sequence));
        prop_assert_eq!(echo.payload(), &data[..]);
        let ours = icmpv4::Packet::new_checked(&bytes[..]).unwrap();
        prop_assert_eq!(icmpv4::Repr::parse(&ours), Ok(repr));
    }

    #[test]
    fn tcp_segment(
        repr in segment(), src in address(), dst in address(), payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let header_len = repr.header_len();
        prop_assert!(header_len.is_multiple_of(4) && header_len <= tcp::MAX_HEADER_LEN);
        let mut bytes = vec![0xaa; header_len];
        let mut packet = tcp::Packet::new_unchecked(&mut bytes);
        repr.emit(&mut packet);
        packet.fill_checksum(src, dst, checksum::sum(&payload), payload.len());
        bytes.extend(&payload);

        let theirs = TcpPacket::new(&bytes).unwrap();
        prop_assert_eq!(theirs.get_checksum(), pnet_tcp::ipv4_checksum(&theirs, &src, &dst));
        prop_assert_eq!((theirs.get_source(), theirs.get_destination()), (repr.src_port, repr.dst_port));
        prop_assert_eq!((theirs.get_sequence(), theirs.get_acknowledgement()), (repr.seq_number, repr.ack_number));
        prop_assert_eq!((theirs.get_flags(), theirs.get_window()), (repr.flags.0, repr.window));
        prop_assert_eq!(theirs.payload(), &payload[..]);
        for option in theirs.get_options_iter() {
            let value = option.payload();
            match option.get_number() {
                TcpOptionNumbers::MSS => prop_assert_eq!(value, &repr.options.mss.unwrap().to_be_bytes()[..]),
                TcpOptionNumbers::WSCALE => prop_assert_eq!(value, &[repr.options.window_scale.unwrap()][..]),
                TcpOptionNumbers::SACK_PERMITTED => prop_assert!(repr.options.sack_permitted),
                TcpOptionNumbers::TIMESTAMPS => {
                    let timestamps = repr.options.timestamps.unwrap();
                    prop_assert_eq!(&value[..4], &timestamps.value.to_be_bytes()[..]);
                    prop_assert_eq!(&value[4..], &timestamps.echo_reply.to_be_bytes()[..]);
                }
                TcpOptionNumbers::SACK => prop_assert_eq!(value.len() % 8, 0),
                TcpOptionNumbers::NOP => {}
                TcpOptionNumber(34) => match repr.options.fast_open {
                    Some(FastOpen::Cookie(cookie)) => prop_assert_eq!(value, &cookie[..]),
                    _ => prop_assert!(value.is_empty()),
                },
                other => prop_assert!(false, "unexpected option {:?}", other),
            }
        }

        let ours = tcp::Packet::new_checked(&bytes[..]).unwrap();
        prop_assert!(ours.verify_checksum(src, dst));
        prop_assert_eq!(ours.payload(), &payload[..]);
        let mut expected = repr;
        expected.options.sack.truncate(ours.options().sack.as_slice().len());
        prop_assert_eq!(tcp::Repr::parse(&ours), Ok(expected));
        // No block is left out without need.
        let dropped = repr.options.sack.as_slice().len() - expected.options.sack.as_slice().len();
        let next = if expected.options.sack.is_empty() { 12 } else { 8 };
        prop_assert!(dropped == 0 || header_len + next > tcp::MAX_HEADER_LEN);

        // A partial checksum, completed over the whole segment as a device does, gives the same field.
        let full = ours.checksum();
        let mut packet = tcp::Packet::new_unchecked(&mut bytes[..]);
        packet.fill_partial_checksum(src, dst, payload.len());
        let completed = !checksum::sum(&bytes);
        prop_assert_eq!(completed, full);
    }

    #[test]
    fn tcp_options_written_by_others(mss: u16, scale in 0u8..=255, val: u32, ecr: u32, left: u32, right: u32, nops in 0usize..3) {
        let mut list = vec![TcpOption::nop(); nops];
        list.extend([
            TcpOption::mss(mss), TcpOption::sack_perm(), TcpOption::wscale(scale), TcpOption::timestamp(val, ecr),
            TcpOption::selective_ack(&[left, right]),
        ]);
        let mut bytes = vec![0u8; 60];
        let mut theirs = MutableTcpPacket::new(&mut bytes).unwrap();
        theirs.set_data_offset(15);
        theirs.set_options(&list);
        let options = tcp::Packet::new_checked(&bytes[..]).unwrap().options();
        prop_assert_eq!(options.mss, Some(mss));
        prop_assert_eq!(options.window_scale, Some(scale.min(14)));
        prop_assert!(options.sack_permitted);
        prop_assert_eq!(options.timestamps, Some(Timestamps { value: val, echo_reply: ecr }));
        prop_assert_eq!(options.sack.as_slice(), &[(left, right)][..]);
    }

    /// Every packet that `new_checked` lets through can be read in full, whatever it says.
    #[test]
    fn hostile_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..120), plausible: bool) {
        if plausible && bytes.len() > 47 {
            // Past the first gates: an IPv4 header of a likely length and a TCP header with options.
            bytes[12..14].copy_from_slice(&[8, 0]);
            bytes[14] = 0x40 | (5 + bytes[14] % 4);
            bytes[16] = 0;
        }
        if let Ok(frame) = ethernet::Frame::new_checked(&bytes[..]) {
            let _ = ethernet::Repr::parse(&frame);
            read_everything(frame.payload());
        }
        read_everything(&bytes);
    }

    #[test]
    fn hostile_tcp_options(list in prop::collection::vec(prop_oneof![0u8..=8, any::<u8>()], 0..=40)) {
        let options = Options::parse(&list);
        prop_assert!(options.len() <= 40);
        prop_assert!(options.window_scale.is_none_or(|scale| scale <= 14));
    }
}

fn read_everything(bytes: &[u8]) {
    if let Ok(packet) = arp::Packet::new_checked(bytes) {
        let _ = arp::Repr::parse(&packet);
    }
    if let Ok(packet) = ipv4::Packet::new_checked(bytes) {
        let _ = ipv4::Repr::parse(&packet);
        let _ = (packet.is_fragment(), packet.payload().len(), packet.dscp());
        transport(packet.payload());
    }
    transport(bytes);
}

fn transport(bytes: &[u8]) {
    if let Ok(packet) = tcp::Packet::new_checked(bytes) {
        let _ = tcp::Repr::parse(&packet);
        let _ = (packet.payload().len(), packet.verify_checksum(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST));
    }
    if let Ok(packet) = icmpv4::Packet::new_checked(bytes) {
        let _ = icmpv4::Repr::parse(&packet);
        let _ = packet.payload();
    }
}

/// RFC 1071 section 3's example: the four words sum up to ddf2.
#[test]
fn rfc1071_example() {
    assert_eq!(checksum::sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
}

#[test]
fn lengths_that_lie() {
    let mut bytes = [0u8; 40];
    bytes[0] = 0x45;
    for (total, ok) in [(0u16, false), (19, false), (20, true), (40, true), (41, false), (65535, false)] {
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        assert_eq!(ipv4::Packet::new_checked(&bytes[..]).is_ok(), ok, "{total}");
    }
    bytes[2..4].copy_from_slice(&40u16.to_be_bytes());
    for (first, ok) in
        [(0x44, false), (0x40, false), (0x4a, true), (0x4b, false), (0x65, false), (0x05, false)]
    {
        bytes[0] = first;
        assert_eq!(ipv4::Packet::new_checked(&bytes[..]).is_ok(), ok, "{first:#x}");
    }
    let mut segment = [0u8; 24];
    for (words, ok) in [(0u8, false), (4, false), (5, true), (6, true), (7, false), (15, false)] {
        segment[12] = words << 4;
        assert_eq!(tcp::Packet::new_checked(&segment[..]).is_ok(), ok, "{words}");
    }
    // A zero-length option would make a naive reader loop for ever; a length of one, too.
    for len in [0, 1] {
        assert_eq!(Options::parse(&[3, 3, 7, 99, len, 2, 4, 5, 180]).mss, None);
        assert_eq!(Options::parse(&[3, 3, 7, 99, len, 2, 4, 5, 180]).window_scale, Some(7));
    }
    assert_eq!(Options::parse(&[2, 4, 5]), Options::NONE);
    assert_eq!(Options::parse(&[2]), Options::NONE);
}

#[test]
fn protocol_numbers() {
    assert_eq!(u8::from(Protocol::Tcp), IpNextHeaderProtocols::Tcp.0);
    assert_eq!(u8::from(Protocol::Icmp), IpNextHeaderProtocols::Icmp.0);
    assert_eq!(u8::from(Protocol::Udp), IpNextHeaderProtocols::Udp.0);
    for number in 0..=255 {
        assert_eq!(u8::from(Protocol::from(number)), number);
    }
    for number in 0..=u16::MAX {
        assert_eq!(u16::from(EtherType::from(number)), number);
    }
}
