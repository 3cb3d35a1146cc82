//! Devices against the real kernel, in a private user and network namespace, so without privileges: ARP and
//! ping, and a hand-made TCP connection that shows what the offloads do. Where namespaces or TAP devices are
//! refused, one line says so.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock, SystemTime};

use netstack::device::fault::{FaultDevice, Faults};
use netstack::device::packet::PacketDevice;
use netstack::device::pcap::{DEFAULT_SNAPLEN, PcapWriter, TraceDevice};
use netstack::device::ring::RingDevice;
use netstack::device::tap::TapDevice;
use netstack::device::xdp::XdpDevice;
use netstack::device::{Device, Received, TransmitError};
use netstack::handler::xdp::{XdpError, XdpFilter, XdpHook};
use netstack::sys::{link, netns};
use netstack::transmission::{Capabilities, ChecksumRequest, Offload, Payload, RxChecksum, Transmission};
use netstack::wire::ethernet::{self, EtherType, EthernetAddress};
use netstack::wire::tcp::{Flags, Options};
use netstack::wire::{Protocol, arp, icmpv4, ipv4, tcp};
use runtime::payload::Piece;
use runtime::time::Instant;

const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Payload of one direction: more than one super-segment.
const BULK: usize = 200_001;

/// A super-segment of ours.
const SUPER: usize = 40_001;

fn main() -> ExitCode {
    programs();
    if let Err(error) = netns::enter_private() {
        println!("kernel: skipped, no private namespace here ({error})");
        return ExitCode::SUCCESS;
    }
    netns::set_congestion_control("reno").expect("reno is always there");
    links();
    faulty_setup();
    if let Err(error) = TapDevice::open(None, true) {
        println!("kernel: TAP tests skipped, no TAP device here ({error})");
    } else {
        tap(true);
        tap(false);
        trace();
        drops();
        unreadable();
    }
    packet();
    partial_checksums_show();
    rings(true);
    rings(false);
    rings_follow_the_interface();
    println!("kernel: ok");
    ExitCode::SUCCESS
}

/// What loads programs into the kernel takes root's own rights, not those of a private user namespace.
fn programs() {
    let entered = netns::Namespace::current().and_then(|home| {
        netns::Namespace::new()?.enter()?;
        Ok(home)
    });
    let home = match entered {
        Err(error) => return println!("kernel: AF_XDP skipped, not root ({error})"),
        Ok(home) => home,
    };
    link::set_up("lo").expect("loopback");
    xdp(XdpHook::Driver, 1);
    xdp(XdpHook::Generic, 1);
    xdp(XdpHook::Driver, 2);
    heard_alone(false);
    heard_alone(true);
    home.enter().expect("enter");
}

/// What is for our address does not reach the kernel's own IP on the interface, if that was asked for; what
/// is for the kernel's own address does, even if it was given as ours; and all of it once the device is gone.
fn heard_alone(by_rings: bool) {
    let home = netns::Namespace::current().expect("namespace");
    let other = netns::Namespace::new().expect("namespace");
    link::create_veth("kern0", "user0").expect("veth");
    link::set_tx_offload("kern0", false).expect("ethtool");
    link::add_address("kern0", KERNEL, 24).expect("address");
    link::set_up("kern0").expect("up");
    link::move_to("user0", std::os::fd::AsFd::as_fd(&other)).expect("move");
    let theirs = Ipv4Addr::new(10, 77, 0, 3);
    other.enter().expect("enter");
    link::add_address("user0", theirs, 24).expect("address");
    link::set_up("user0").expect("up");
    let socket = std::net::UdpSocket::bind((theirs, 0)).expect("socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("time-out");
    let mut before = kernels_packets();
    let mut seen = || {
        let now = kernels_packets();
        now - std::mem::replace(&mut before, now)
    };
    // First as it comes, then alone, then as it comes again.
    for alone in [false, true, false] {
        let addrs = [OURS.into(), theirs.into()];
        let asked = |result: std::io::Result<bool>| match result {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS))
                    || (error.raw_os_error() == Some(libc::EINVAL) && !knows_the_hook()) =>
            {
                println!("kernel: what is heard alone skipped, no such programs here ({error})");
                false
            }
            result => {
                assert!(result.expect("attached"), "the address is ours alone");
                true
            }
        };
        let mut device: Box<dyn Device> = if by_rings {
            let mut ring = RingDevice::open("user0", false).expect("packet rings");
            if alone && !asked(ring.hear_alone(&addrs)) {
                break;
            }
            Box::new(ring)
        } else {
            let mut packet = PacketDevice::open("user0").expect("packet socket");
            if alone && !asked(packet.hear_alone(&addrs)) {
                break;
            }
            Box::new(packet)
        };
        seen();
        home.enter().expect("enter");
        converse(&mut device, false);
        // Of what a ring sends only the first header lies in one piece.
        let mut beside = RingDevice::open("kern0", false).expect("packet rings");
        let mut frame = vec![0; ethernet::HEADER_LEN + ipv4::HEADER_LEN];
        frame[..6].copy_from_slice(&device.hardware_addr().0);
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[30..34].copy_from_slice(&OURS.octets());
        send(&mut beside, &frame, &[], None, Offload::default());
        beside.flush(Instant::ZERO).expect("flush");
        other.enter().expect("enter");
        let of_ours = seen();
        assert!(if alone { of_ours == 0 } else { of_ours > 10 }, "alone: {alone}, the kernel saw {of_ours}");
        let to = socket.local_addr().expect("address");
        home.enter().expect("enter");
        std::net::UdpSocket::bind((KERNEL, 0)).and_then(|from| from.send_to(b"x", to)).expect("send");
        other.enter().expect("enter");
        assert_eq!(socket.recv(&mut [0; 4]).expect("the kernel's own address is the kernel's"), 1);
    }
    home.enter().expect("enter");
    link::delete("kern0").expect("delete");
}

/// Whether the kernel is one that has the hook for programs on what comes in: Linux 6.6.
fn knows_the_hook() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split(['.', '-']).map_while(|number| number.trim().parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(6))
}

/// IPv4 packets that the kernel has taken in, in the thread's namespace.
fn kernels_packets() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").expect("counters");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let names = lines.next().unwrap_or_default().split(' ');
    let values = lines.next().unwrap_or_default().split(' ');
    let counter = names.zip(values).find(|(name, _)| *name == "InReceives").expect("InReceives");
    counter.1.parse().expect("a number")
}

/// Interfaces can be made, seen, changed and deleted.
fn links() {
    assert_eq!(link::get("nosuch").unwrap_err().raw_os_error(), Some(19), "ENODEV");
    link::create_veth("a0", "a1").expect("veth");
    assert_eq!(link::create_veth("a0", "a2").unwrap_err().raw_os_error(), Some(17), "EEXIST");
    let before = link::get("a0").expect("just made");
    assert!(!before.is_up && before.mtu == 1500 && before.hardware_addr.is_some());
    link::set_mtu("a0", 9000).expect("mtu");
    let address = EthernetAddress([2, 0, 0, 0, 0, 9]);
    link::set_hardware_addr("a0", address).expect("address");
    link::set_up("a0").expect("up");
    let after = link::get("a0").expect("still there");
    assert_eq!((after.is_up, after.mtu, after.hardware_addr), (true, 9000, Some(address)));
    link::add_address("a0", Ipv4Addr::new(10, 78, 0, 1), 24).expect("ipv4");
    let other = netns::Namespace::new().expect("namespace");
    link::move_to("a1", std::os::fd::AsFd::as_fd(&other)).expect("move");
    assert!(link::get("a1").is_err());
    let home = netns::Namespace::current().expect("namespace");
    other.enter().expect("enter");
    assert!(link::get("a1").is_ok());
    home.enter().expect("enter");
    link::delete("a0").expect("delete");
    assert!(link::get("a0").is_err());
}

/// Nonsense is refused with an error.
fn faulty_setup() {
    assert!(TapDevice::open(Some("a-name-that-is-too-long"), true).is_err());
    assert!(TapDevice::open(Some("a/b"), true).is_err());
    assert!(PacketDevice::open("nosuch").is_err());
    assert!(PacketDevice::open("lo").is_err(), "loopback has no hardware address");
    assert!(link::create_veth("", "x").is_err());
    assert!(link::add_address("lo", KERNEL, 33).is_err());
}

fn open_tap(offload: bool) -> TapDevice {
    let device = TapDevice::open(Some("test0"), offload).expect("TAP");
    link::add_address(device.name(), KERNEL, 24).expect("address");
    link::set_up(device.name()).expect("up");
    device
}

fn tap(offload: bool) {
    let mut device = open_tap(offload);
    let mtu = usize::from(device.mtu());
    let sizes = converse(&mut device, offload);
    if offload {
        assert!(
            sizes.iter().any(|len| *len > mtu + ethernet::HEADER_LEN),
            "no super-segment came in: {sizes:?}"
        );
    } else {
        assert!(
            sizes.iter().all(|len| *len <= mtu + ethernet::HEADER_LEN),
            "a frame over the MTU: {sizes:?}"
        );
    }
    let stats = device.stats();
    assert!(stats.rx_frames > 0 && stats.tx_frames > 0 && stats.tx_dropped == 0, "{stats:?}");
}

/// What passes a TAP device with offloads, written down, has no bad checksum in the eyes of `tshark`.
fn trace() {
    let path = std::env::temp_dir().join(format!("netstack-kernel-{}.pcap", std::process::id()));
    let file = std::fs::File::create(&path).expect("temporary file");
    let writer = PcapWriter::new(file, DEFAULT_SNAPLEN, SystemTime::now()).expect("header");
    let mut device = TraceDevice::new(open_tap(true), writer);
    converse(&mut device, true);
    device.into_writer().expect("flush");
    let fields = "-o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -T fields -e ip.checksum.status -e tcp.checksum.status";
    let output = std::process::Command::new("tshark").arg("-r").arg(&path).args(fields.split(' ')).output();
    match output {
        Err(error) => println!("kernel: trace not verified, no tshark here ({error})"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let verdicts: Vec<&str> = text.split_whitespace().collect();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(verdicts.len() > 20, "{text}");
            assert!(
                verdicts.iter().all(|verdict| *verdict == "1"),
                "bad checksum (0) or unverified (2): {text}"
            );
        }
    }
    std::fs::remove_file(&path).expect("just made");
}

/// A fault device drops what it is told to, by its seed.
fn drops() {
    let faults = Faults { drop: 0.5, ..Faults::NONE };
    let mut device = FaultDevice::new(open_tap(true), faults, 42);
    let hardware_addr = device.hardware_addr();
    let asked = 100;
    let mut answered = 0;
    for _ in 0..asked {
        send(&mut device, &arp_request(hardware_addr), &[], None, Offload::default());
        answered += usize::from(wait_for(&mut device, Duration::from_millis(10), arp_reply).is_some());
    }
    // Each of request and reply is lost half of the time.
    assert!((10..45).contains(&answered), "{answered} of {asked}");
}

fn packet() {
    link::create_veth("kern0", "user0").expect("veth");
    link::set_tx_offload("kern0", false).expect("ethtool");
    link::add_address("kern0", KERNEL, 24).expect("address");
    link::set_up("kern0").expect("up");
    link::set_up("user0").expect("up");
    let mut device = PacketDevice::open("user0").expect("packet socket");
    let sizes = converse(&mut device, false);
    assert!(sizes.iter().all(|len| *len <= 1514), "a frame over the MTU: {sizes:?}");
}

/// The same over mapped rings: with offloads super-segments pass whole and nobody sums; without, all is as on
/// a wire.
fn rings(offload: bool) {
    link::create_veth("kern0", "user0").expect("veth");
    link::set_tx_offload("kern0", offload).expect("ethtool");
    link::add_address("kern0", KERNEL, 24).expect("address");
    link::set_up("kern0").expect("up");
    link::set_up("user0").expect("up");
    let mut device = RingDevice::open("user0", offload).expect("packet rings");
    let sizes = converse(&mut device, offload);
    // Some of them longer than a slot.
    assert_eq!(sizes.iter().any(|len| *len > 16 << 10), offload, "{sizes:?}");
    assert_eq!(sizes.iter().any(|len| *len > 1514), offload, "{sizes:?}");
    // Once around both rings, and no slot is lost.
    for _ in 0..20 {
        converse(&mut device, offload);
    }
    let stats = device.stats();
    assert!(stats.tx_dropped == 0 && stats.rx_dropped == 0 && stats.rx_frames > 150, "{stats:?}");
    link::delete("kern0").expect("delete");
}

/// The same over AF_XDP, with the program in the driver and behind it. Only what is for our address comes to
/// us, the kernel keeps the rest; and all of it once the device is gone.
fn xdp(hook: XdpHook, queues: u32) {
    link::create_veth_with_queues("kern0", "user0", queues).expect("veth");
    link::set_tx_offload("kern0", false).expect("ethtool");
    assert_eq!(link::receive_queues("user0").expect("ethtool"), queues);
    link::add_address("kern0", KERNEL, 24).expect("address");
    link::set_up("kern0").expect("up");
    link::set_up("user0").expect("up");
    let mut filter = match XdpFilter::to_sockets(OURS, None, &[], queues) {
        Err(XdpError::Kernel(error)) => {
            println!("kernel: AF_XDP skipped, no programs here ({error})");
            return link::delete("kern0").expect("delete");
        }
        result => result.expect("filter"),
    };
    filter.attach_to("user0", hook).expect("attach");
    let filter = Arc::new(filter);
    let mut device = XdpDevice::open("user0", Arc::clone(&filter)).expect("AF_XDP");
    assert!(XdpDevice::open("user0", Arc::clone(&filter)).is_err(), "the queue is taken");
    let mut kernels = PacketDevice::open("user0").expect("packet socket");
    assert_eq!(device.queues(), queues as usize);
    for _ in 0..40 {
        let sizes = converse(&mut device, false);
        assert!(sizes.iter().all(|len| *len <= 1514), "a frame over the MTU: {sizes:?}");
    }
    let stats = device.stats();
    // More than there are frames in the pools: each goes round.
    assert!(stats.tx_dropped == 0 && stats.rx_dropped == 0 && stats.rx_frames > 1200, "{stats:?}");
    assert!(stats.tx_frames > 2100, "{stats:?}");
    assert_eq!(
        wait_for(&mut kernels, Duration::from_millis(20), to_us),
        None,
        "the kernel sees none of ours"
    );

    // A question for another host's address is the kernel's.
    let other = Ipv4Addr::new(10, 77, 0, 9);
    let ask = |addr: Ipv4Addr| {
        let socket = std::net::UdpSocket::bind((KERNEL, 0)).expect("socket");
        socket.send_to(b"x", (addr, 9)).expect("send");
    };
    let asked_for = |received: Received<'_>, addr| {
        let frame = ethernet::Frame::new_checked(received.bytes).ok()?;
        let packet = arp::Packet::new_checked(frame.payload()).ok()?;
        let repr = arp::Repr::parse(&packet).ok()?;
        (frame.ethertype() == EtherType::Arp && repr.target_protocol == addr).then_some(())
    };
    ask(other);
    let patience = Duration::from_secs(2);
    assert!(wait_for(&mut kernels, patience, |received| asked_for(received, other)).is_some());
    assert!(
        wait_for(&mut device, Duration::from_millis(20), |received| asked_for(received, other)).is_none()
    );
    let counted = filter.stats().expect("counters");
    let [pass, _, kernel, ..] = counted[0].verdicts;
    assert!(pass >= stats.rx_frames && kernel >= 1, "{counted:?}");

    // The program goes with the device.
    drop((device, filter));
    ask(OURS);
    assert!(wait_for(&mut kernels, patience, to_us).is_some(), "the kernel has all again");
    link::delete("kern0").expect("delete");
}

/// Anything for our address.
fn to_us(received: Received<'_>) -> Option<()> {
    let is_ours = ipv4_packet(received.bytes).is_some_and(|packet| packet.dst_addr() == OURS);
    is_ours.then_some(())
}

/// What the interface does not do is not asked of it, and switching it is noticed.
fn rings_follow_the_interface() {
    link::create_veth("kern0", "user0").expect("veth");
    link::add_address("kern0", KERNEL, 24).expect("address");
    link::set_up("kern0").expect("up");
    link::set_up("user0").expect("up");
    link::set_tx_offload("user0", false).expect("ethtool");
    link::set_tx_offload("kern0", false).expect("ethtool");
    let mut device = RingDevice::open("user0", true).expect("packet rings");
    let plain = Capabilities { gather: true, ..Capabilities::default() };
    assert_eq!(device.capabilities(), plain);
    converse(&mut device, false);
    link::set_tx_offload("user0", true).expect("ethtool");
    device.flush(Instant::from_millis(1)).expect("flush");
    assert_eq!(device.capabilities(), plain, "not asked again at once");
    device.flush(Instant::from_millis(200)).expect("flush");
    assert!(device.capabilities().checksum && device.capabilities().segmentation.is_some());
    link::set_tx_offload("kern0", true).expect("ethtool");
    converse(&mut device, true);
    link::set_tx_offload("kern0", false).expect("ethtool");
    link::set_tx_offload("user0", false).expect("ethtool");
    device.flush(Instant::from_millis(400)).expect("flush");
    assert_eq!(device.capabilities(), plain);
    converse(&mut device, false);
    link::delete("kern0").expect("delete");
}

/// A page of the payload is lost, since its file was cut: that transmission fails and says why, and the
/// device goes on.
fn unreadable() {
    let mut device = open_tap(true);
    let file = tempfile::tempfile().expect("temporary file");
    file.set_len(8192).expect("grow");
    // SAFETY: nobody else has the file, and no byte of the mapping is read by this process after the file is
    // cut.
    let map = unsafe { memmap2::Mmap::map(&file) }.expect("map");
    file.set_len(0).expect("cut");
    let hardware_addr = device.hardware_addr();
    let headers = ip_headers(hardware_addr, EthernetAddress::BROADCAST, Protocol::Udp, map.len());
    let payload = [Piece::new(&map)];
    let transmission = Transmission {
        headers: &headers,
        payload: Payload::Pieces(&payload),
        payload_len: map.len(),
        tcp_start: None,
        offload: Offload::default(),
    };
    let error = device.transmit(Instant::ZERO, &transmission).expect_err("its page is gone");
    assert!(matches!(error, TransmitError::PayloadUnreadable), "{error}");
    converse(&mut device, true);
}

/// With the peer's offloads on, a packet socket sees unfinished checksums, and verification tells.
fn partial_checksums_show() {
    link::set_tx_offload("kern0", true).expect("ethtool");
    let mut device = PacketDevice::open("user0").expect("packet socket");
    let listener = TcpListener::bind((KERNEL, 0)).expect("listen");
    let port = listener.local_addr().expect("bound").port();
    let hardware_addr = device.hardware_addr();
    let peer = resolve(&mut device, hardware_addr);
    let link = Segments { ours: hardware_addr, peer, port, finish: true };
    link.send(&mut device, Flags::SYN, 1, 0, &[]);
    let verified = wait_for(&mut device, Duration::from_secs(1), |received| {
        let (repr, _) = parse_tcp(received.bytes)?;
        let packet = ipv4_packet(received.bytes)?;
        let segment = tcp::Packet::new_checked(packet.payload()).ok()?;
        repr.flags.syn().then(|| segment.verify_checksum(packet.src_addr(), packet.dst_addr()))
    });
    assert_eq!(verified, Some(false), "an unfinished checksum must not verify");
    link::delete("kern0").expect("delete");
}

/// ARP, ping, and a TCP connection with bulk data both ways. Returns the lengths of the data frames received.
fn converse<D: Device>(device: &mut D, offload: bool) -> Vec<usize> {
    let hardware_addr = device.hardware_addr();
    let peer = resolve(device, hardware_addr);
    ping(device, hardware_addr, peer);
    exchange(device, hardware_addr, peer, offload)
}

fn resolve<D: Device>(device: &mut D, hardware_addr: EthernetAddress) -> EthernetAddress {
    // An interface that was just set up may lose the first ones, as a real one does.
    for _ in 0..20 {
        send(device, &arp_request(hardware_addr), &[], None, Offload::default());
        if let Some(reply) = wait_for(device, Duration::from_millis(200), arp_reply) {
            return reply.sender_hardware;
        }
    }
    panic!("the kernel does not answer ARP")
}

fn ping<D: Device>(device: &mut D, hardware_addr: EthernetAddress, peer: EthernetAddress) {
    let data: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
    let request = icmpv4::Repr::EchoRequest { ident: 7, sequence: 8, data: &data };
    let mut bytes = ip_headers(hardware_addr, peer, Protocol::Icmp, request.buffer_len());
    let start = bytes.len();
    bytes.resize(start + request.buffer_len(), 0);
    request.emit(&mut icmpv4::Packet::new_unchecked(&mut bytes[start..]));
    send(device, &bytes, &[], None, Offload::default());
    let answered = wait_for(device, Duration::from_secs(2), |received| {
        let packet = ipv4_packet(received.bytes)?;
        let message = icmpv4::Packet::new_checked(packet.payload()).ok()?;
        let reply = icmpv4::Repr::parse(&message).ok()?;
        (reply == icmpv4::Repr::EchoReply { ident: 7, sequence: 8, data: &data }).then_some(())
    });
    assert!(answered.is_some(), "the kernel answers ping");
}

/// A TCP connection to the kernel by hand: no retransmission, no window beyond the default, one connection.
fn exchange<D: Device>(
    device: &mut D,
    hardware_addr: EthernetAddress,
    peer: EthernetAddress,
    offload: bool,
) -> Vec<usize> {
    let listener = TcpListener::bind((KERNEL, 0)).expect("listen");
    let port = listener.local_addr().expect("bound").port();
    let link = Segments { ours: hardware_addr, peer, port, finish: !offload };
    let mut seq = 1000;
    link.send(device, Flags::SYN, seq, 0, &[]);
    seq += 1;
    let (mut ack, checksum) = wait_for(device, Duration::from_secs(2), |received| {
        let (repr, _) = parse_tcp(received.bytes)?;
        (repr.flags == Flags::SYN | Flags::ACK).then(|| (repr.seq_number.wrapping_add(1), received.checksum))
    })
    .expect("the kernel answers SYN");
    assert_eq!(checksum, if offload { RxChecksum::Partial } else { RxChecksum::Unknown });
    link.send(device, Flags::ACK, seq, ack, &[]);
    let (mut socket, _) = listener.accept().expect("handshake complete");
    socket.set_nonblocking(true).expect("socket");

    // To the kernel: one super-segment, or segments of our own cutting.
    let data: Vec<u8> = (0..BULK as u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let chunk = if offload { SUPER } else { 1460 };
    let mut got = Vec::new();
    for part in data.chunks(chunk) {
        link.send(device, Flags::ACK, seq, ack, part);
        seq += part.len() as u32;
        read_available(&mut socket, &mut got, seq.wrapping_sub(1001) as usize);
    }
    assert!(got == data, "the kernel got something else: {} of {BULK} bytes", got.len());

    // From the kernel.
    let mut unsent = &data[..];
    let mut back: Vec<u8> = Vec::new();
    let mut sizes = Vec::new();
    while back.len() < BULK {
        if let Ok(taken) = socket.write(unsent) {
            unsent = &unsent[taken..];
        }
        let segment = wait_for(device, Duration::from_secs(2), |received| {
            let (repr, payload) = parse_tcp(received.bytes)?;
            let packet = ipv4_packet(received.bytes)?;
            let bytes = tcp::Packet::new_checked(packet.payload()).ok()?;
            let verified = bytes.verify_checksum(packet.src_addr(), packet.dst_addr());
            assert!(verified || received.checksum == RxChecksum::Partial, "a bad checksum from the kernel");
            (!payload.is_empty()).then(|| (repr.seq_number, payload.to_vec(), received.bytes.len()))
        });
        let (at, payload, len) = segment.expect("the kernel sends");
        sizes.push(len);
        if at == ack {
            back.extend(&payload);
            ack = ack.wrapping_add(payload.len() as u32);
        }
        link.send(device, Flags::ACK, seq, ack, &[]);
    }
    assert!(back == data, "something else came from the kernel");
    link.send(device, Flags::RST | Flags::ACK, seq, ack, &[]);
    sizes
}

fn read_available(socket: &mut TcpStream, got: &mut Vec<u8>, until: usize) {
    let deadline = Clock::now() + Duration::from_secs(2);
    let mut buffer = [0; 65536];
    while got.len() < until && Clock::now() < deadline {
        match socket.read(&mut buffer) {
            Ok(0) => return,
            Ok(len) => got.extend(&buffer[..len]),
            Err(_) => std::thread::sleep(Duration::from_micros(200)),
        }
    }
}

/// What all our segments have in common.
struct Segments {
    ours: EthernetAddress,
    peer: EthernetAddress,
    port: u16,
    /// Checksums are ours to finish.
    finish: bool,
}

impl Segments {
    fn send<D: Device>(&self, device: &mut D, flags: Flags, seq: u32, ack: u32, payload: &[u8]) {
        let options = Options { mss: flags.syn().then_some(1460), ..Options::NONE };
        let repr = tcp::Repr {
            src_port: 4321,
            dst_port: self.port,
            seq_number: seq,
            ack_number: ack,
            flags,
            window: 65535,
            options,
        };
        let header_len = repr.header_len();
        let mut headers = ip_headers(self.ours, self.peer, Protocol::Tcp, header_len + payload.len());
        let start = headers.len();
        headers.resize(start + header_len, 0);
        let mut packet = tcp::Packet::new_unchecked(&mut headers[start..]);
        repr.emit(&mut packet);
        packet.fill_partial_checksum(OURS, KERNEL, payload.len());
        let mut offload = Offload::default();
        if !self.finish {
            let offset = tcp::CHECKSUM_OFFSET as u16;
            offload.checksum = Some(ChecksumRequest { start: start as u16, offset });
            offload.segment_size = (payload.len() > 1460).then_some(1460);
        }
        // Odd pieces: the sum must follow the bytes, not the pieces.
        let (a, b) = payload.split_at(payload.len().min(333));
        let pieces: Vec<Piece<'_>> = [a, b].into_iter().filter(|p| !p.is_empty()).map(Piece::new).collect();
        send(device, &headers, &pieces, Some(start as u16), offload);
    }
}

fn send<D: Device>(
    device: &mut D,
    headers: &[u8],
    payload: &[Piece<'_>],
    tcp_start: Option<u16>,
    offload: Offload,
) {
    let payload_len = payload.iter().map(|piece| piece.bytes.len()).sum();
    let transmission =
        Transmission { headers, payload: Payload::Pieces(payload), payload_len, tcp_start, offload };
    device.transmit(Instant::ZERO, &transmission).expect("transmit");
    device.flush(Instant::ZERO).expect("flush");
}

fn wait_for<D: Device, R>(
    device: &mut D,
    patience: Duration,
    mut accept: impl FnMut(Received<'_>) -> Option<R>,
) -> Option<R> {
    let deadline = Clock::now() + patience;
    while Clock::now() < deadline {
        match device.receive(Instant::ZERO).expect("receive") {
            Some(received) => {
                if let Some(result) = accept(received) {
                    return Some(result);
                }
            }
            None => std::thread::sleep(Duration::from_micros(100)),
        }
    }
    None
}

fn ethernet_header(src_addr: EthernetAddress, dst_addr: EthernetAddress, ethertype: EtherType) -> Vec<u8> {
    let mut bytes = vec![0; ethernet::HEADER_LEN];
    ethernet::Repr { src_addr, dst_addr, ethertype }.emit(&mut ethernet::Frame::new_unchecked(&mut bytes));
    bytes
}

fn ip_headers(
    ours: EthernetAddress,
    peer: EthernetAddress,
    protocol: Protocol,
    payload_len: usize,
) -> Vec<u8> {
    let mut bytes = ethernet_header(ours, peer, EtherType::Ipv4);
    bytes.resize(ethernet::HEADER_LEN + ipv4::HEADER_LEN, 0);
    let repr =
        ipv4::Repr { src_addr: OURS, dst_addr: KERNEL, protocol, payload_len, ttl: 64, ident: 0, ecn: 0 };
    repr.emit(&mut ipv4::Packet::new_unchecked(&mut bytes[ethernet::HEADER_LEN..]));
    bytes
}

fn arp_request(hardware_addr: EthernetAddress) -> Vec<u8> {
    let mut bytes = ethernet_header(hardware_addr, EthernetAddress::BROADCAST, EtherType::Arp);
    bytes.resize(ethernet::HEADER_LEN + arp::PACKET_LEN, 0);
    let repr = arp::Repr {
        operation: arp::Operation::Request,
        sender_hardware: hardware_addr,
        sender_protocol: OURS,
        target_hardware: EthernetAddress::default(),
        target_protocol: KERNEL,
    };
    repr.emit(&mut arp::Packet::new_unchecked(&mut bytes[ethernet::HEADER_LEN..]));
    bytes
}

fn arp_reply(received: Received<'_>) -> Option<arp::Repr> {
    let frame = ethernet::Frame::new_checked(received.bytes).ok()?;
    if frame.ethertype() != EtherType::Arp {
        return None;
    }
    let repr = arp::Repr::parse(&arp::Packet::new_checked(frame.payload()).ok()?).ok()?;
    (repr.operation == arp::Operation::Reply && repr.sender_protocol == KERNEL).then_some(repr)
}

fn ipv4_packet(frame: &[u8]) -> Option<ipv4::Packet<&[u8]>> {
    let frame = ethernet::Frame::new_checked(frame).ok()?;
    if frame.ethertype() != EtherType::Ipv4 {
        return None;
    }
    let packet = ipv4::Packet::new_checked(frame.payload()).ok()?;
    ipv4::Repr::parse(&packet).ok()?;
    Some(packet)
}

fn parse_tcp(frame: &[u8]) -> Option<(tcp::Repr, &[u8])> {
    let packet = ipv4_packet(frame)?;
    if packet.protocol() != Protocol::Tcp || packet.src_addr() != KERNEL {
        return None;
    }
    let segment = tcp::Packet::new_checked(packet.payload()).ok()?;
    Some((tcp::Repr::parse(&segment).ok()?, segment.payload()))
}
