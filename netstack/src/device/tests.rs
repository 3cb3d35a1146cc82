//! Devices that need no kernel: the wire and its faults, frame building, capture files.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use runtime::payload::Piece;

use pipe_lib::ir::{Layout, Stripe};
use runtime::transfer::Transfers;

use super::fault::{FaultDevice, Faults, Random};
use super::frame::{FrameBuilder, finish_partial};
use super::layout::LayoutDevice;
use super::pcap::{PcapWriter, TraceDevice};
use super::wire::{Config, WireDevice, pair};
use super::*;
use crate::transmission::{ChecksumRequest, Offload, Payload};
use crate::wire::{EtherType, Protocol, checksum, ethernet, ipv4, ipv6, tcp, udp};

fn ms(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn send_bytes(device: &mut impl Device, now: Instant, bytes: &[u8]) {
    let transmission = Transmission {
        headers: bytes,
        payload: Payload::NONE,
        payload_len: 0,
        tcp_start: None,
        offload: Offload::default(),
    };
    device.transmit(now, &transmission).expect("a wire takes everything");
}

/// All frames that have arrived by `now`.
fn drain(device: &mut impl Device, now: Instant) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some(received) = device.receive(now).expect("a wire does not break") {
        frames.push(received.bytes.to_vec());
    }
    frames
}

/// What comes out when a thousand numbered frames go through, one a millisecond.
fn fate(faults: Faults, seed: u64) -> Vec<Vec<u8>> {
    let (mut a, mut b) =
        pair(Config { faults, jitter: Duration::from_micros(300), ..Config::default() }, seed);
    let mut out = Vec::new();
    for i in 0..1000u32 {
        send_bytes(&mut a, ms(u64::from(i)), &i.to_be_bytes());
        out.extend(drain(&mut b, ms(u64::from(i))));
    }
    out.extend(drain(&mut b, ms(10_000)));
    assert_eq!(b.next_arrival(), None);
    out
}

#[test]
fn a_good_wire_keeps_everything_in_order() {
    let expected: Vec<Vec<u8>> = (0..1000u32).map(|i| i.to_be_bytes().to_vec()).collect();
    assert_eq!(fate(Faults::NONE, 1), expected);
}

#[test]
fn a_bad_wire_does_the_same_again() {
    let faults = Faults {
        drop: 0.1,
        duplicate: 0.1,
        corrupt: 0.1,
        reorder: 0.1,
        reorder_delay: Duration::from_micros(2500),
    };
    let first = fate(faults, 7);
    assert_eq!(first, fate(faults, 7));
    assert_ne!(first, fate(faults, 8));
    let lost = fate(Faults { drop: 0.1, ..Faults::NONE }, 7).len();
    assert!((850..950).contains(&lost), "{lost}");
    let doubled = fate(Faults { duplicate: 0.1, ..Faults::NONE }, 7).len();
    assert!((1050..1150).contains(&doubled), "{doubled}");
    let damaged = fate(Faults { corrupt: 0.1, ..Faults::NONE }, 7);
    let wrong = damaged.iter().zip(0u32..).filter(|(frame, i)| frame[..] != i.to_be_bytes()).count();
    assert!(damaged.len() == 1000 && (50..150).contains(&wrong), "{wrong}");
    let mixed = fate(Faults { reorder: 0.1, reorder_delay: Duration::from_micros(2500), ..Faults::NONE }, 7);
    let mut sorted = mixed.clone();
    sorted.sort();
    assert!(mixed.len() == 1000 && mixed != sorted);
}

#[test]
fn a_wire_takes_its_time() {
    let config =
        Config { delay: Duration::from_millis(5), ns_per_byte: 1000, queue_len: 2, ..Config::default() };
    let (mut a, mut b) = pair(config, 1);
    for _ in 0..3 {
        send_bytes(&mut a, ms(0), &[0; 1000]); // a millisecond each
    }
    assert_eq!(a.stats().tx_dropped, 1, "the queue holds two");
    assert_eq!(b.next_arrival(), Some(ms(6)));
    assert!(drain(&mut b, Instant::from_nanos(5_999_999)).is_empty());
    assert_eq!(drain(&mut b, ms(6)).len(), 1);
    assert_eq!(b.next_arrival(), Some(ms(7)));
    assert!(drain(&mut a, ms(100)).is_empty(), "the other direction is another wire");
}

#[test]
fn fault_device_is_deterministic_both_ways() {
    let run = |seed| {
        let (a, mut b) = pair(Config::default(), 0);
        let faults = Faults { drop: 0.2, duplicate: 0.2, reorder: 0.2, corrupt: 0.2, ..Faults::NONE };
        let mut a = FaultDevice::new(a, faults, seed);
        let (mut there, mut back) = (Vec::new(), Vec::new());
        for i in 0..500u32 {
            let now = ms(u64::from(i));
            send_bytes(&mut a, now, &i.to_be_bytes());
            send_bytes(&mut b, now, &i.to_le_bytes());
            there.extend(drain(&mut b, now));
            back.extend(drain(&mut a, now));
        }
        while let Some(next) = a.next_arrival() {
            back.extend(drain(&mut a, next));
        }
        there.extend(drain(&mut b, ms(10_000)));
        (there, back, a.stats())
    };
    let (there, back, stats) = run(3);
    assert_eq!((there.clone(), back.clone(), stats), run(3));
    assert_ne!(there, run(4).0);
    for frames in [&there, &back] {
        assert!((400..600).contains(&frames.len()), "{}", frames.len());
    }
    assert!(stats.tx_dropped > 60 && stats.rx_dropped > 60, "{stats:?}");
}

#[test]
fn random_numbers_are_splitmix64() {
    // Published first outputs of the reference implementation for seed 1234567.
    let mut random = Random::new(1_234_567);
    let numbers = [(); 3].map(|()| random.next_u64());
    assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    assert!(
        (0..1000)
            .all(|_| (0.0..1.0).contains(&random.unit()) && random.below(10) < 10 && random.below(0) == 0)
    );
}

const SRC: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 0, 1);
const DST: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 0, 2);

/// Ethernet, IPv4 and TCP headers with a partial checksum, and where TCP starts.
fn headers(payload_len: usize) -> (Vec<u8>, u16) {
    let mut bytes = vec![0; ethernet::HEADER_LEN + ipv4::HEADER_LEN + tcp::HEADER_LEN];
    let (src_addr, dst_addr) = (EthernetAddress([2; 6]), EthernetAddress([4; 6]));
    ethernet::Repr { src_addr, dst_addr, ethertype: EtherType::Ipv4 }
        .emit(&mut ethernet::Frame::new_unchecked(&mut bytes));
    let ip = ipv4::Repr {
        src_addr: SRC,
        dst_addr: DST,
        protocol: Protocol::Tcp,
        payload_len: tcp::HEADER_LEN + payload_len,
        ttl: 64,
        ident: 1,
        ecn: 0,
    };
    ip.emit(&mut ipv4::Packet::new_unchecked(&mut bytes[14..]));
    let repr = tcp::Repr {
        src_port: 80,
        dst_port: 8080,
        seq_number: 1,
        ack_number: 2,
        flags: tcp::Flags::ACK,
        window: 3,
        options: tcp::Options::NONE,
    };
    let mut packet = tcp::Packet::new_unchecked(&mut bytes[34..]);
    repr.emit(&mut packet);
    packet.fill_partial_checksum(SRC, DST, payload_len);
    (bytes, 34)
}

fn holds(frame: &[u8]) -> bool {
    let frame = ethernet::Frame::new_checked(frame).expect("frame");
    let packet = ipv4::Packet::new_checked(frame.payload()).expect("packet");
    tcp::Packet::new_checked(packet.payload()).expect("segment").verify_checksum(SRC, DST)
}

proptest! {
    #[test]
    fn built_frames_are_right(
        lens in prop::collection::vec(1usize..700, 0..5), known in any::<[bool; 5]>(), prefix in 0usize..12, fill: u8,
    ) {
        let data: Vec<Vec<u8>> =
            lens.iter().map(|len| (0..*len).map(|i| (i as u8).wrapping_mul(31) ^ fill).collect()).collect();
        let pieces: Vec<Piece<'_>> = data
            .iter()
            .zip(known)
            .map(|(bytes, known)| Piece { sum: known.then(|| checksum::sum(bytes)), ..Piece::new(bytes) })
            .collect();
        let payload_len = lens.iter().sum();
        let (headers, tcp_start) = headers(payload_len);
        let transmission = Transmission {
            headers: &headers,
            payload: Payload::Pieces(&pieces),
            payload_len,
            tcp_start: Some(tcp_start),
            offload: Offload::default(),
        };
        for mut builder in [FrameBuilder::new(), FrameBuilder::fused().expect("some backend takes it")] {
        builder.build(&[9; 700], &transmission); // leaves bytes of an earlier frame behind
        let frame = builder.build(&vec![7; prefix], &transmission);
        prop_assert_eq!(&frame[..prefix], &vec![7; prefix][..]);
        let frame = &frame[prefix..];
        prop_assert_eq!(&frame[headers.len()..], &data.concat()[..]);
        prop_assert!(holds(frame));
        }
        let mut builder = FrameBuilder::new();
        let frame = builder.build(&[], &transmission);

        // The same, finished after the fact.
        let mut bare = [&headers[..], &data.concat()].concat();
        prop_assert!(!holds(&bare));
        finish_partial(&mut bare);
        prop_assert_eq!(&bare[..], frame);
    }

    /// Whatever the adapter's buffer looks like, the same frame reaches the wire.
    #[test]
    fn layouts_do_not_show_on_the_wire(
        lens in prop::collection::vec(1usize..400, 0..4), stripe in prop::option::of((1u32..40, 0u32..40)),
        store in prop::sample::select(vec![None, Some(1), Some(2), Some(4), Some(8)]), pad in 0u64..100, fill: u8,
    ) {
        // Accesses may not straddle a hole.
        let stripe = stripe.map(|(data, gap)| (data * u32::from(store.unwrap_or(1)), gap * u32::from(store.unwrap_or(1))));
        let data: Vec<Vec<u8>> =
            lens.iter().map(|len| (0..*len).map(|i| (i as u8).wrapping_mul(31) ^ fill).collect()).collect();
        let pieces: Vec<Piece<'_>> = data.iter().map(|bytes| Piece::new(bytes)).collect();
        let payload_len = lens.iter().sum();
        let (headers, tcp_start) = headers(payload_len);
        let transmission = Transmission {
            headers: &headers,
            payload: Payload::Pieces(&pieces),
            payload_len,
            tcp_start: Some(tcp_start),
            offload: Offload::default(),
        };
        let layout = Arc::new(Layout {
            name: "test".to_owned(),
            doc: String::new(),
            stripe: stripe.map(|(data, gap)| Stripe { data, gap }),
            store,
            fixed: false,
            pad,
        });
        let (a, mut b) = pair(Config::default(), 1);
        let mut a = LayoutDevice::new(a, &layout, &mut Transfers::default()).expect("layout");
        a.transmit(ms(0), &transmission).expect("wire");
        let received = b.receive(ms(1)).expect("wire").expect("arrived").bytes;
        let mut expected = FrameBuilder::new().build(&[], &transmission).to_vec();
        expected.resize(expected.len().max(pad as usize), 0);
        prop_assert_eq!(received, &expected[..]);
    }

    #[test]
    fn finishing_nonsense_does_nothing_bad(mut bytes in prop::collection::vec(any::<u8>(), 0..100), plausible: bool) {
        if plausible && bytes.len() > 40 {
            bytes[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
            bytes[16] = 0;
            bytes[20..22].copy_from_slice(&[0, 0]);
            bytes[23] = 6;
        }
        finish_partial(&mut bytes);
    }
}

#[test]
fn capture_files_are_as_the_draft_says() {
    let origin = UNIX_EPOCH + Duration::new(1_000_000, 5);
    let mut writer = PcapWriter::new(Vec::new(), 3, origin).expect("memory");
    writer.write(Instant::from_nanos(2_000_000_001), &[1, 2, 3, 4]).expect("memory");
    writer.write(Instant::ZERO, &[5]).expect("memory");
    #[rustfmt::skip]
    let expected = [
        0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0,
        0x42, 0x42, 0x0f, 0, 6, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3,
        0x40, 0x42, 0x0f, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 5,
    ];
    assert_eq!(writer.into_inner(), expected);
}

#[test]
fn traces_show_finished_checksums_in_both_directions() {
    let capabilities =
        Capabilities { checksum: true, segmentation: Some(65_000), gather: true, datagrams: false };
    let (a, mut b) = pair(Config { capabilities, ..Config::default() }, 1);
    let writer = PcapWriter::new(Vec::new(), 65_535, UNIX_EPOCH).expect("memory");
    let mut a = TraceDevice::new(a, writer);
    let data = [7; 1001];
    let (headers, tcp_start) = headers(data.len());
    let transmission = Transmission {
        headers: &headers,
        payload: Payload::Pieces(&[Piece::new(&data)]),
        payload_len: data.len(),
        tcp_start: Some(tcp_start),
        offload: Offload {
            checksum: Some(ChecksumRequest { start: tcp_start, offset: tcp::CHECKSUM_OFFSET as u16 }),
            segment_size: None,
        },
    };
    a.transmit(ms(0), &transmission).expect("wire");
    b.transmit(ms(0), &transmission).expect("wire");
    let received = b.receive(ms(1)).expect("wire").expect("arrived");
    assert_eq!(received.checksum, RxChecksum::Partial);
    assert!(!holds(received.bytes), "what passes the wire is unfinished");
    assert_eq!(a.receive(ms(1)).expect("wire").expect("arrived").checksum, RxChecksum::Partial);
    let file = a.into_writer().expect("no error").into_inner();
    let len = headers.len() + data.len();
    assert_eq!(file.len(), 24 + 2 * (16 + len));
    assert!(holds(&file[40..40 + len]) && holds(&file[56 + len..]));
}

/// A wire that gives everything as datagrams of 100 bytes under one header.
#[derive(Debug)]
struct DatagramWire(WireDevice);

impl Device for DatagramWire {
    fn capabilities(&self) -> Capabilities {
        Capabilities { datagrams: true, ..self.0.capabilities() }
    }

    fn mtu(&self) -> u16 {
        self.0.mtu()
    }

    fn hardware_addr(&self) -> EthernetAddress {
        self.0.hardware_addr()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn transmit(&mut self, now: Instant, transmission: &Transmission<'_>) -> Result<(), TransmitError> {
        self.0.transmit(now, transmission)
    }

    fn receive(&mut self, now: Instant) -> io::Result<Option<Received<'_>>> {
        let checksum = RxChecksum::PartialDatagrams(std::num::NonZeroU16::new(100).expect("not zero"));
        Ok(self.0.receive(now)?.map(|received| Received { checksum, ..received }))
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }
}

#[test]
fn traces_show_finished_checksums_of_datagrams_in_both_directions() {
    let src6 = std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    let dst6 = std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    let data = [7; 301];
    let datagram_len = udp::HEADER_LEN + data.len();
    for (src, dst) in [(IpAddr::V4(SRC), IpAddr::V4(DST)), (src6.into(), dst6.into())] {
        let (ethertype, ip_len) = match src {
            IpAddr::V4(_) => (EtherType::Ipv4, ipv4::HEADER_LEN),
            IpAddr::V6(_) => (EtherType::Ipv6, ipv6::HEADER_LEN),
        };
        let start = ethernet::HEADER_LEN + ip_len;
        let mut headers = vec![0; start + udp::HEADER_LEN];
        let (src_addr, dst_addr) = (EthernetAddress([2; 6]), EthernetAddress([4; 6]));
        ethernet::Repr { src_addr, dst_addr, ethertype }
            .emit(&mut ethernet::Frame::new_unchecked(&mut headers));
        if src.is_ipv4() {
            let ip = ipv4::Repr {
                src_addr: SRC,
                dst_addr: DST,
                protocol: Protocol::Udp,
                payload_len: datagram_len,
                ttl: 64,
                ident: 1,
                ecn: 0,
            };
            ip.emit(&mut ipv4::Packet::new_unchecked(&mut headers[14..]));
        } else {
            headers[14] = 0x60;
            headers[18..20].copy_from_slice(&(datagram_len as u16).to_be_bytes());
            headers[20] = Protocol::Udp.into();
            headers[22..38].copy_from_slice(&src6.octets());
            headers[38..54].copy_from_slice(&dst6.octets());
        }
        let header = &mut headers[start..];
        header[1] = 9;
        header[3] = 9;
        header[4..6].copy_from_slice(&(datagram_len as u16).to_be_bytes());
        let pseudo = checksum::pseudo_header(src, dst, Protocol::Udp, datagram_len as u32);
        header[6..8].copy_from_slice(&pseudo.to_be_bytes());
        let transmission = Transmission {
            headers: &headers,
            payload: Payload::Pieces(&[Piece::new(&data)]),
            payload_len: data.len(),
            tcp_start: None,
            offload: Offload {
                checksum: Some(ChecksumRequest { start: start as u16, offset: udp::CHECKSUM_OFFSET as u16 }),
                segment_size: Some(100),
            },
        };
        let holds = |frame: &[u8]| udp::Repr::parse(&frame[start..], src, dst, false).is_ok();
        let (a, mut b) = pair(Config::default(), 1);
        let writer = PcapWriter::new(Vec::new(), 65_535, UNIX_EPOCH).expect("memory");
        let mut a = TraceDevice::new(DatagramWire(a), writer);
        a.transmit(ms(0), &transmission).expect("wire");
        b.transmit(ms(0), &transmission).expect("wire");
        let received = a.receive(ms(1)).expect("wire").expect("arrived");
        assert!(received.checksum.is_partial() && !holds(received.bytes), "what comes in stays unfinished");
        let file = a.into_writer().expect("no error").into_inner();
        let len = headers.len() + data.len();
        assert_eq!(file.len(), 24 + 2 * (16 + len));
        assert!(holds(&file[40..40 + len]) && holds(&file[56 + len..]), "{src}");
    }
}

#[test]
fn a_full_disk_ends_the_trace_not_the_traffic() {
    #[derive(Debug)]
    struct Full(usize);
    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (a, mut b) = pair(Config::default(), 1);
    let writer = PcapWriter::new(Full(60), 100, UNIX_EPOCH).expect("room for the header");
    let mut a: TraceDevice<WireDevice, Full> = TraceDevice::new(a, writer);
    for i in 0..5 {
        send_bytes(&mut a, ms(i), &[1; 20]);
    }
    assert_eq!(drain(&mut b, ms(10)).len(), 5);
    assert_eq!(a.take_error().map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
    assert!(a.take_error().is_none());
}
