//! VLAN tags: two stacks over interfaces of the kernel's, both in one of the networks on the link, or in
//! different ones; and the kernel's own VLAN interface as peer, where its kernel has such. In a private
//! namespace.

mod support;

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant as Clock};

use netstack::application::CloseReason;
use netstack::device::packet::PacketDevice;
use netstack::device::ring::RingDevice;
use netstack::device::tap::TapDevice;
use netstack::device::vlan::VlanId;
use netstack::device::{Device, TransmitError};
use netstack::stack::{Config, Stack};
use netstack::sys::{link, netns};
use netstack::transmission::{Offload, Payload, RxChecksum, Transmission};
use runtime::time::Instant;
use support::{CLIENT, PORT, SERVER, TestApp, TestStream};

const BULK: u64 = 300_000;
const FIVE: Option<VlanId> = VlanId::new(5);
const SIX: Option<VlanId> = VlanId::new(6);

type AnyDevice = Box<dyn Device>;

fn main() -> ExitCode {
    if let Err(error) = netns::enter_private() {
        println!("vlan: skipped, no private namespace here ({error})");
        return ExitCode::SUCCESS;
    }
    if TapDevice::open(None, true).is_err() {
        println!("vlan: skipped, no TAP device here");
        return ExitCode::SUCCESS;
    }
    link::create_veth("va", "vb").expect("veth");
    for name in ["va", "vb"] {
        link::set_up(name).expect("up");
    }
    for offload in [true, false] {
        for name in ["va", "vb"] {
            link::set_tx_offload(name, offload).expect("ethtool");
        }
        let ring = |name: &str, vlan| ring(name, vlan, offload);
        for vlan in [None, FIVE] {
            one_network(ring("va", vlan), ring("vb", vlan), offload);
            one_network(tap(vlan, offload), ring("vt", vlan), offload);
        }
        for (a, b) in [(FIVE, SIX), (FIVE, None), (None, FIVE)] {
            different_networks(ring("va", a), ring("vb", b));
            different_networks(tap(a, offload), ring("vt", b));
            // Into the TAP device.
            let tap = tap(a, offload);
            different_networks(ring("vt", b), tap);
        }
    }
    let packet = |name: &str, vlan| -> AnyDevice {
        Box::new(PacketDevice::open_in(name, vlan).expect("packet socket"))
    };
    one_network(packet("va", FIVE), packet("vb", FIVE), false);
    one_network(packet("va", FIVE), ring("vb", FIVE, false), false);
    different_networks(packet("va", FIVE), packet("vb", SIX));
    different_networks(packet("va", FIVE), packet("vb", None));
    others_are_handed_up_as_nothing();
    the_kernels();
    println!("vlan: ok");
    ExitCode::SUCCESS
}

fn ring(name: &str, vlan: Option<VlanId>, offload: bool) -> AnyDevice {
    Box::new(RingDevice::open_in(name, offload, vlan).expect("rings"))
}

/// A new TAP device whose kernel's end is up.
fn tap(vlan: Option<VlanId>, offload: bool) -> AnyDevice {
    let mut device = TapDevice::open(Some("vt"), offload).expect("TAP");
    link::set_up(device.name()).expect("up");
    device.set_vlan(vlan);
    Box::new(device)
}

struct End {
    device: AnyDevice,
    stack: Stack,
    app: TestApp,
    /// The longest frame that came in, and whether any was of an unfinished checksum.
    longest: usize,
    was_partial: bool,
    /// Frames of ARP, which the kernel sends none of here.
    asked: u64,
}

impl End {
    fn new(device: AnyDevice, addr: Ipv4Addr) -> End {
        let mut config = Config::new(device.hardware_addr(), addr, 24, [addr.octets()[3]; 16]);
        config.mtu = device.mtu();
        let mut stack = Stack::new(config);
        stack.listen(PORT).expect("a fresh stack");
        let app = TestApp::new(|_| Some(TestStream::new(1, BULK)));
        End { device, stack, app, longest: 0, was_partial: false, asked: 0 }
    }

    fn turn(&mut self, now: Instant) {
        while let Some(frame) = self.device.receive(now).expect("device") {
            self.longest = self.longest.max(frame.bytes.len());
            self.asked += u64::from(frame.bytes.get(12..14) == Some(&[8, 6]));
            self.was_partial |= frame.checksum == RxChecksum::Partial;
            self.stack.handle_frame(now, frame.bytes, frame.checksum, &mut self.app);
        }
        if self.stack.poll_timeout().is_some_and(|at| at <= now) {
            self.stack.handle_timeout(now, &mut self.app);
        }
        let capabilities = self.device.capabilities();
        while let Some(result) =
            self.stack.poll_transmit(now, &capabilities, &mut self.app, |t| self.device.transmit(now, t))
        {
            match result {
                Ok(()) => {}
                Err(TransmitError::Device(error)) => panic!("{error}"),
                Err(other) => panic!("{other}"),
            }
        }
        self.device.flush(now).expect("device");
    }
}

/// A client and a server, turn by turn, until `is_over` or for `limit`.
fn run(client: &mut End, server: &mut End, limit: Duration, is_over: impl Fn(&End, &End) -> bool) -> bool {
    let origin = Clock::now();
    while !is_over(client, server) {
        if origin.elapsed() > limit {
            return false;
        }
        let now = Instant::from_nanos(origin.elapsed().as_nanos() as u64 + 1_000_000);
        client.turn(now);
        server.turn(now);
    }
    true
}

fn connect(client: &mut End) {
    let keep = |pcb| client.app.keep(pcb, TestStream::new(0, BULK));
    client.stack.connect(Instant::from_millis(1), None, (SERVER, PORT).into(), keep).expect("a free port");
}

/// Both are in the same: each byte arrives, both ways; with offloads in super-segments that nobody sums, as
/// without tags.
fn one_network(client: AnyDevice, server: AnyDevice, offload: bool) {
    let (mut client, mut server) = (End::new(client, CLIENT), End::new(server, SERVER));
    connect(&mut client);
    let both = |client: &End, server: &End| client.app.closed_count + server.app.closed_count == 2;
    assert!(run(&mut client, &mut server, Duration::from_secs(60), both), "it hangs");
    for end in [&client, &server] {
        let (reason, stream) = &end.app.closed[0];
        assert_eq!((*reason, stream.received, stream.wrong_bytes), (CloseReason::Finished, BULK, 0));
        assert_eq!(end.longest > 1514, offload, "{}", end.longest);
        assert_eq!(end.was_partial, offload);
        assert_eq!(end.stack.stats().bad_checksums, 0);
    }
}

/// Each is in another: nothing of the client's gets to the server's stack.
fn different_networks(client: AnyDevice, server: AnyDevice) {
    let (mut client, mut server) = (End::new(client, CLIENT), End::new(server, SERVER));
    connect(&mut client);
    let asked_thrice = |client: &End, _: &End| client.device.stats().tx_frames >= 3;
    run(&mut client, &mut server, Duration::from_secs(20), asked_thrice);
    assert!(client.device.stats().tx_frames >= 3, "it has not even asked for the server");
    run(&mut client, &mut server, Duration::from_millis(50), |_, _| false);
    assert_eq!((server.asked, server.stack.stats().segments_in), (0, 0));
    assert_eq!(server.device.stats().tx_frames, 0);
}

/// What is of another network ends each call of `receive` on a TAP device, so that who takes frames can stop.
fn others_are_handed_up_as_nothing() {
    const COUNT: usize = 5;
    let mut device = tap(FIVE, false);
    let mut other = ring("vt", SIX, false);
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&[0xff; 6]);
    frame[6..12].copy_from_slice(&[2; 6]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    let transmission = Transmission {
        headers: &frame,
        payload: Payload::NONE,
        payload_len: 0,
        tcp_start: None,
        offload: Offload::default(),
    };
    let now = Instant::from_millis(1);
    let (origin, mut got) = (Clock::now(), 0);
    // The kernel's own frames, without a tag, are of another network, too.
    while got < COUNT {
        assert!(origin.elapsed() < Duration::from_secs(20), "{got} came");
        let Some(received) = device.receive(now).expect("device") else {
            other.transmit(now, &transmission).expect("device");
            other.flush(now).expect("device");
            continue;
        };
        assert!(received.bytes.is_empty());
        got += 1;
    }
    let stats = device.stats();
    assert_eq!((stats.rx_dropped, stats.rx_frames), (got as u64, 0));
}

/// A VLAN interface of the kernel's over a TAP device: its TCP, both ways.
fn the_kernels() {
    for offload in [true, false] {
        let device = tap(FIVE, offload);
        let commands = [
            "link add link vt name vt.5 type vlan id 5",
            "addr add 10.0.0.1/24 dev vt.5",
            "link set vt.5 up",
        ];
        for command in commands {
            let output = Command::new("ip").args(command.split(' ')).output();
            let done = output.as_ref().is_ok_and(|output| output.status.success());
            if !done {
                return println!("vlan: no VLAN interface of this kernel's (`ip {command}`)");
            }
        }
        let mut server = End::new(device, SERVER);
        let client = std::thread::spawn(|| {
            let mut stream = TcpStream::connect((SERVER, PORT)).expect("it answers");
            let mut reader = stream.try_clone().expect("descriptors");
            let writer = std::thread::spawn(move || {
                let data: Vec<u8> = (0..BULK).map(|at| support::byte_at(0, at)).collect();
                stream.write_all(&data).expect("it takes them");
                stream.shutdown(std::net::Shutdown::Write).expect("open");
            });
            let mut got = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut got).expect("all of it");
            writer.join().expect("checks hold");
            got
        });
        let origin = Clock::now();
        while !client.is_finished() {
            assert!(origin.elapsed() < Duration::from_secs(60), "it hangs");
            server.turn(Instant::from_nanos(origin.elapsed().as_nanos() as u64 + 1_000_000));
        }
        let got = client.join().expect("checks hold");
        assert!(got.iter().enumerate().all(|(at, byte)| *byte == support::byte_at(1, at as u64)));
        assert_eq!(got.len() as u64, BULK);
        assert_eq!(server.longest > 1514, offload, "{}", server.longest);
    }
}
