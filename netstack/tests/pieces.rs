//! Frames of several chunks over AF_XDP, with the program in the driver and behind it, against the kernel on
//! a link of 9,000 bytes: datagrams of every length about the ends of chunks, more of them than there are
//! chunks, and connections. Needs root, or says so.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use netstack::buffered::{Buffered, Handler};
use netstack::connections::Connections;
use netstack::device::xdp::XdpDevice;
use netstack::device::{self, Device};
use netstack::driver::{self, Driver};
use netstack::handler::xdp::{XdpFilter, XdpHook};
use netstack::handler::{Binding, load};
use netstack::send_buffer::SendBuffer;
use netstack::stack::Stack;
use netstack::sys::{link, netns};
use netstack::with_datagrams::WithDatagrams;
use runtime::buffer::{Aggregate, Shared, Slice};

const KERNELS: Ipv4Addr = Ipv4Addr::new(10, 81, 0, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 81, 0, 2);
const PORT: u16 = 7;
const MTU: usize = 9000;

/// Bytes of a datagram's headers in a frame, and in a packet.
const FRAME_HEADERS: usize = 14 + 20 + 8;
const PACKET_HEADERS: usize = 20 + 8;

struct Echo;

impl Handler for Echo {
    fn receive(&mut self, out: &mut SendBuffer, bytes: &[u8]) {
        out.push(bytes);
    }
}

/// A stack on the end `ours` of a veth pair that echoes, while `test` runs; what its device has counted then.
/// `None`, told, where there is none.
fn beside(hook: XdpHook, handlers: &[&str], test: impl FnOnce(&XdpFilter)) -> Option<device::Stats> {
    let made = link::create_veth("ours", "kernels")
        .and_then(|()| link::add_address("kernels", KERNELS, 24))
        .and_then(|()| link::set_mtu("ours", MTU as u32))
        .and_then(|()| link::set_mtu("kernels", MTU as u32))
        .and_then(|()| link::set_up("ours"))
        .and_then(|()| link::set_up("kernels"))
        .and_then(|()| link::set_tx_offload("kernels", false));
    made.inspect_err(|error| eprintln!("skipped: no veth pair ({error})")).ok()?;
    let bindings = [("addr", OURS.to_bits().into()), ("http_port", 80), ("https_port", 443)]
        .map(|(name, value)| Binding { name, value });
    let handlers: Vec<_> = handlers.iter().map(|name| load(name, &bindings).unwrap()).collect();
    let mut filter = XdpFilter::to_sockets(OURS, None, &handlers, 1)
        .inspect_err(|error| eprintln!("skipped: no programs here ({error})"))
        .ok()?;
    if let Err(error) = filter.attach_to("ours", hook) {
        eprintln!("skipped: no programs for frames in pieces here ({error})");
        return None;
    }
    let filter = Arc::new(filter);
    let device = XdpDevice::open("ours", Arc::clone(&filter)).unwrap();
    if device.is_cut_short() {
        eprintln!("skipped: this kernel has no frames of several chunks");
        return None;
    }
    assert_eq!(usize::from(device.mtu()), MTU);
    let ended = Arc::new(AtomicBool::new(false));
    let server = thread::spawn({
        let ended = Arc::clone(&ended);
        move || serve(device, &ended)
    });
    test(&filter);
    ended.store(true, Ordering::Relaxed);
    let stats = server.join().unwrap();
    link::delete("ours").unwrap();
    Some(stats)
}

fn serve(device: XdpDevice, ended: &AtomicBool) -> device::Stats {
    let mut stack = Stack::new(driver::config(&device, OURS, 24).unwrap());
    stack.listen(PORT).unwrap();
    stack.bind_udp(Some(PORT)).unwrap();
    let app =
        WithDatagrams::new(Connections::new(|_| Some(Buffered::new(Echo))), |socket, from, bytes, out| {
            out.send(socket, from, Aggregate::from(Slice::from(Shared::from(bytes.to_vec())))).unwrap();
        });
    let mut driver = Driver::new(device, stack, app).unwrap();
    while !ended.load(Ordering::Relaxed) {
        let soon = driver.events().clock().now() + Duration::from_millis(20);
        driver.turn(Some(soon)).unwrap();
    }
    driver.device().stats()
}

/// A socket of the kernel's that sends whole packets, and what comes back to it is right.
struct Peer(UdpSocket);

impl Peer {
    fn new() -> Peer {
        let socket = UdpSocket::bind((KERNELS, 0)).unwrap();
        socket.connect((OURS, PORT)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Peer(socket)
    }

    /// Sends as many as it has lengths, then reads as many.
    fn echo(&self, lens: &[usize]) {
        let sent: Vec<Vec<u8>> =
            lens.iter().map(|len| (0..*len).map(|at| (at * 31 / 7 + len) as u8).collect()).collect();
        sent.iter().for_each(|bytes| assert_eq!(self.0.send(bytes).unwrap(), bytes.len()));
        let mut got = vec![0; 65536];
        for bytes in &sent {
            let len = self.0.recv(&mut got).unwrap_or_else(|error| panic!("{lens:?}: {error}"));
            assert!(got[..len] == bytes[..], "{} bytes came back as {len} others", bytes.len());
        }
    }
}

/// All lengths at which the number of chunks changes, either way: 3,840 bytes of an arriving frame lie in a
/// chunk, of which 4,096 of one that is sent.
fn about_the_ends() -> Vec<usize> {
    let ends = [1, 2].into_iter().flat_map(|chunks| [3840 * chunks, 4096 * chunks]);
    let about = ends.flat_map(|end| [end - 1, end, end + 1]).map(|frame| frame - FRAME_HEADERS);
    let longest = MTU - PACKET_HEADERS;
    about.chain([0, 1, 1472, longest - 1, longest, longest + 1, 3 * longest]).collect()
}

/// Connections that echo what takes many full segments.
fn connections() {
    let sent: Vec<u8> = (0..3_000_000u32).map(|at| (at * 7 / 8) as u8).collect();
    let mut stream = TcpStream::connect((OURS, PORT)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut out = stream.try_clone().unwrap();
    let writer = thread::spawn({
        let sent = sent.clone();
        move || out.write_all(&sent).unwrap()
    });
    let mut got = vec![0; sent.len()];
    stream.read_exact(&mut got).unwrap();
    writer.join().unwrap();
    assert!(got == sent);
}

fn with_program_at(hook: XdpHook) {
    let ran = netns::in_new(move || {
        let mut sent = 0;
        let stats = beside(hook, &[], |_| {
            let peer = Peer::new();
            // The first one waits for an address, the second may be dropped meanwhile.
            peer.echo(&[1]);
            let lens = about_the_ends();
            lens.iter().for_each(|len| peer.echo(&[*len]));
            // More chunks than there are, some frames at once.
            for round in 0..250 {
                let lens = [MTU - PACKET_HEADERS, 60 + round * 33, 4096 - FRAME_HEADERS, 8192, 1, 4097];
                peer.echo(&lens);
                sent += lens.len() as u64;
            }
            connections();
        });
        let Some(stats) = stats else { return };
        assert!(stats.rx_frames > sent && stats.tx_frames > sent && stats.rx_dropped == 0, "{stats:?}");
    });
    if let Err(error) = ran {
        eprintln!("skipped: no network namespace ({error})");
    }
}

#[test]
fn in_the_driver() {
    with_program_at(XdpHook::Driver);
}

#[test]
fn behind_the_driver() {
    with_program_at(XdpHook::Generic);
}

/// Handlers that answer get frames in one piece, from the kernel's generic hook; what they pass is given to
/// us in several.
#[test]
fn behind_handlers_that_answer() {
    let ran = netns::in_new(|| {
        let stats = beside(XdpHook::Generic, &["echo", "healthz"], |filter| {
            assert!(!filter.takes_pieces());
            let peer = Peer::new();
            peer.echo(&[1]);
            about_the_ends().iter().for_each(|len| peer.echo(&[*len]));
            let len = (MTU - PACKET_HEADERS).to_string();
            let arguments = ["-c", "3", "-i", "0.05", "-W", "5", "-s", &len, &OURS.to_string()];
            let Ok(output) = Command::new("ping").args(arguments).output() else {
                return eprintln!("no ping here");
            };
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains("3 received") && !said.contains("wrong data"), "{said}");
            let echo = &filter.stats().unwrap()[1];
            assert!(echo.verdicts[3] >= 3, "the handler answers the whole of it: {echo:?}");
        });
        assert!(stats.is_none_or(|stats| stats.rx_dropped == 0), "{stats:?}");
    });
    if let Err(error) = ran {
        eprintln!("skipped: no network namespace ({error})");
    }
}
