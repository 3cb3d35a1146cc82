//! Sockets for threads: over a TAP device against the kernel's in a namespace of the test's own (needs root,
//! or says so), and between two networks that lose frames.

mod support;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{
    Ipv4Addr, Shutdown, SocketAddr, TcpListener as KernelListener, TcpStream as KernelStream,
    UdpSocket as KernelSocket,
};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant as Clock};

use netstack::device::fault::Random;
use netstack::device::tap::TapDevice;
use netstack::device::{Device, Received, TransmitError};
use netstack::driver;
use netstack::sockets::{Network, SocketLimits, TcpListener, TcpStream};
use netstack::stack::{Config, Stack};
use netstack::sys::{link, netns};
use netstack::transmission::{Capabilities, RxChecksum, Transmission};
use netstack::wire::EthernetAddress;
use runtime::time::Instant;
use support::byte_at;

const KERNELS: Ipv4Addr = Ipv4Addr::new(10, 81, 0, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 81, 0, 2);

/// What nothing here takes, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `test` with a network on a TAP device, in a namespace of its own.
fn with_tap(limits: SocketLimits, test: impl FnOnce(Network) + Send + 'static) {
    let run = move || {
        let made = netns::Namespace::new().and_then(|namespace| {
            namespace.enter()?;
            let tap = TapDevice::open(Some("tap0"), true)?;
            link::add_address("tap0", KERNELS, 24)?;
            link::set_up("tap0")?;
            Ok(tap)
        });
        let tap = match made {
            Ok(tap) => tap,
            Err(error) => return eprintln!("skipped: no TAP device in a namespace ({error})"),
        };
        let stack = Stack::new(driver::config(&tap, OURS, 24).unwrap());
        test(Network::start_with(tap, stack, limits).unwrap());
    };
    thread::spawn(run).join().unwrap();
}

fn small() -> SocketLimits {
    let mut limits = SocketLimits::default();
    (limits.receive_bytes, limits.send_bytes) = (20_000, 20_000);
    limits
}

fn bytes(tag: u32, len: u64) -> Vec<u8> {
    (0..len).map(|offset| byte_at(tag, offset)).collect()
}

fn kernel_listener() -> (KernelListener, SocketAddr) {
    let listener = KernelListener::bind((KERNELS, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// The next connection; a failure is no hang.
fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Unpark>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let until = Clock::now() + PATIENCE;
    loop {
        if let Poll::Ready(stream) = listener.poll_accept(&mut Context::from_waker(&waker)) {
            let stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap();
            return (stream, peer);
        }
        let left = until.saturating_duration_since(Clock::now());
        assert!(!left.is_zero(), "nobody connects");
        thread::park_timeout(left);
    }
}

fn kernel_connects(port: u16) -> KernelStream {
    let stream = KernelStream::connect_timeout(&(OURS, port).into(), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// More than all buffers hold, both ways at once, with the kernel at the other end.
#[test]
fn both_ways_against_the_kernel() {
    with_tap(small(), |network| {
        let listener = network.listen_on(80).unwrap();
        let in_use = network.listen_on(80).unwrap_err();
        assert_eq!(in_use.kind(), ErrorKind::AddrInUse);
        assert_eq!(network.listen_on(0).unwrap_err().kind(), ErrorKind::InvalidInput);
        let (theirs, addr) = kernel_listener();
        let kernel = thread::spawn(move || {
            let (up, down) = (bytes(1, 1_500_000), bytes(2, 1_500_000));
            for stream in [theirs.accept().unwrap().0, kernel_connects(80)] {
                thread::scope(|scope| {
                    scope.spawn(|| {
                        (&stream).write_all(&down).unwrap();
                        stream.shutdown(Shutdown::Write).unwrap();
                    });
                    let mut got = Vec::new();
                    (&stream).read_to_end(&mut got).unwrap();
                    assert!(got == up, "{} of {} bytes", got.len(), up.len());
                });
            }
        });
        let both_ways = |stream: TcpStream| {
            let copy = stream.clone();
            let writer = thread::spawn(move || {
                (&copy).write_all(&bytes(1, 1_500_000)).unwrap();
                copy.shutdown(Shutdown::Write).unwrap();
                copy.wait_acknowledged().unwrap();
            });
            let mut got = Vec::new();
            (&stream).read_to_end(&mut got).unwrap();
            assert!(got == bytes(2, 1_500_000), "{} bytes", got.len());
            writer.join().unwrap();
        };
        let stream = network.connect_timeout(addr, PATIENCE).unwrap();
        assert_eq!((stream.peer_addr().unwrap(), stream.local_addr().unwrap().ip()), (addr, OURS.into()));
        both_ways(stream);
        let (stream, peer) = accept(&listener);
        assert_eq!(peer.ip(), KERNELS);
        both_ways(stream);
        kernel.join().unwrap();
        drop(listener);
        assert!(network.stats().unwrap().payload_out >= 3_000_000);
        assert!(network.finish(PATIENCE).unwrap(), "nothing is left");
    });
}

#[test]
fn what_takes_too_long_says_so() {
    with_tap(small(), |network| {
        let (theirs, addr) = kernel_listener();
        let mut ours = network.connect_timeout(addr, PATIENCE).unwrap();
        let (mut theirs, _) = theirs.accept().unwrap();
        let soon = Some(Duration::from_millis(50));
        ours.set_read_timeout(soon).unwrap();
        assert_eq!(ours.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::InvalidInput);
        let began = Clock::now();
        assert_eq!(ours.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(began.elapsed() >= Duration::from_millis(50));
        ours.set_nonblocking(true);
        assert_eq!(ours.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        ours.set_nonblocking(false);
        ours.set_read_timeout(None).unwrap();
        // A peer that does not read stops us, and then goes on where it was.
        ours.set_write_timeout(soon).unwrap();
        let all = bytes(3, 40 << 20);
        let mut written = 0;
        let error = loop {
            match ours.write(&all[written..]) {
                Ok(len) => written += len,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        ours.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).unwrap();
        assert!(got == all[..written], "{} of {written} bytes", got.len());
        // Reading what is there, twice.
        theirs.write_all(b"peeked").unwrap();
        let mut six = [0; 6];
        while ours.peek(&mut six).unwrap() < 6 {}
        ours.read_exact(&mut six).unwrap();
        assert_eq!(&six, b"peeked");
        assert!(network.connect_timeout(addr, Duration::ZERO).is_err());
    });
}

#[test]
fn errors_are_of_their_kinds() {
    with_tap(SocketLimits::default(), |network| {
        let (listener, addr) = kernel_listener();
        // Reset: the kernel does that where something was not read.
        let mut ours = network.connect(addr).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        ours.write_all(b"never read").unwrap();
        ours.wait_acknowledged().unwrap();
        theirs.write_all(b"last words").unwrap();
        drop(theirs);
        let mut words = Vec::new();
        let error = ours.read_to_end(&mut words).unwrap_err();
        assert_eq!((error.kind(), &words[..]), (ErrorKind::ConnectionReset, &b"last words"[..]));
        assert_eq!(ours.write(b"x").unwrap_err().kind(), ErrorKind::ConnectionReset);
        // And so does ours.
        let ours = network.connect(addr).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        theirs.write_all(b"never read").unwrap();
        while ours.peek(&mut [0; 1]).unwrap() == 0 {}
        drop(ours);
        assert_eq!(theirs.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        // Nobody listens there; nobody is there; no host's address.
        drop(listener);
        assert_eq!(network.connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let silent = SocketAddr::from(([10, 81, 0, 99], 80));
        let error = network.connect_timeout(silent, Duration::from_millis(20)).unwrap_err();
        // On a machine that stood still the network is the first to know.
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::HostUnreachable), "{error}");
        assert_eq!(network.connect(silent).unwrap_err().kind(), ErrorKind::HostUnreachable);
        let nowhere = SocketAddr::from(([192, 0, 2, 1], 80));
        assert_eq!(network.connect(nowhere).unwrap_err().kind(), ErrorKind::NetworkUnreachable);
        let group = SocketAddr::from(([224, 0, 0, 1], 80));
        assert_eq!(network.connect(group).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn datagrams_both_ways() {
    with_tap(SocketLimits::default(), |network| {
        let kernel = KernelSocket::bind((KERNELS, 0)).unwrap();
        kernel.set_read_timeout(Some(PATIENCE)).unwrap();
        let to = kernel.local_addr().unwrap();
        let ours = network.bind(Some(53)).unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        for len in [0, 1, 1472, 1473, 9000, 65_507] {
            let sent = bytes(9, len);
            assert_eq!(ours.send_to(&sent, to).unwrap(), sent.len());
            let mut got = vec![0; 70_000];
            let (n, from) = kernel.recv_from(&mut got).unwrap();
            assert!(got[..n] == sent && from == (OURS, 53).into(), "{n} of {len} from {from}");
            kernel.send_to(&sent, from).unwrap();
            let (n, from) = ours.receive(&mut got).unwrap();
            assert!(got[..n] == sent && from == to, "{n} of {len} from {from}");
        }
        let sent = bytes(8, 10_001);
        assert_eq!(ours.send_segments_to(&sent, 1000, to).unwrap(), 10_001);
        for part in sent.chunks(1000) {
            let mut got = vec![0; 2000];
            let n = kernel.recv(&mut got).unwrap();
            assert!(got[..n] == *part, "{n}");
        }
        assert_eq!(ours.send_to(&[0; 65_508], to).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(ours.send(b"x").unwrap_err().kind(), ErrorKind::NotConnected);
        let connected = network.bind_to(None, to).unwrap();
        drop(kernel);
        connected.send(b"anybody?").unwrap();
        connected.set_read_timeout(Some(PATIENCE)).unwrap();
        let error = connected.receive(&mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        connected.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        assert_eq!(connected.receive(&mut [0; 10]).unwrap_err().kind(), ErrorKind::WouldBlock, "told once");
    });
}

/// A network ends with the last that has something of it, and not before what was written is out.
#[test]
fn the_end_of_a_network() {
    with_tap(SocketLimits::default(), |network| {
        let (listener, addr) = kernel_listener();
        let mut ours = network.connect(addr).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        ours.write_all(&bytes(5, 2_000_000)).unwrap();
        drop((ours, network));
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).unwrap();
        assert!(got == bytes(5, 2_000_000), "{} bytes", got.len());
    });
    with_tap(SocketLimits::default(), |network| {
        let (listener, addr) = kernel_listener();
        let ours = network.connect(addr).unwrap();
        let theirs = listener.accept().unwrap();
        let waiting = {
            let mut ours = ours.clone();
            thread::spawn(move || ours.read(&mut [0; 1]).unwrap_err().kind())
        };
        let again = network.clone();
        assert!(!network.finish(Duration::from_millis(50)).unwrap(), "somebody still reads");
        assert_eq!(waiting.join().unwrap(), ErrorKind::NotConnected);
        assert_eq!(again.listen_on(81).unwrap_err().kind(), ErrorKind::NotConnected);
        assert_eq!(again.connect(addr).unwrap_err().kind(), ErrorKind::NotConnected);
        assert_eq!(again.finish(Duration::ZERO).unwrap_err().kind(), ErrorKind::NotConnected);
        drop(theirs);
    });
}

/// Frames on their way, and a bell that can be polled while there are any.
#[derive(Default)]
struct Way {
    frames: VecDeque<Vec<u8>>,
    /// Bells that rang and were not heard.
    is_rung: bool,
}

/// More frames than ever wait here: what came beyond would be lost.
const MAX_FRAMES: usize = 1 << 16;

/// One end of a cable that loses frames, as two threads need it: with a descriptor.
struct Cable {
    /// To the other end and from there.
    to: Arc<Mutex<Way>>,
    from: Arc<Mutex<Way>>,
    bell: UnixStream,
    number: u8,
    random: Random,
    loss: f64,
    rx: Vec<u8>,
}

impl fmt::Debug for Cable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cable")
    }
}

impl Device for Cable {
    fn capabilities(&self) -> Capabilities {
        Capabilities { checksum: true, segmentation: None, gather: true, datagrams: false }
    }

    fn mtu(&self) -> u16 {
        1500
    }

    fn hardware_addr(&self) -> EthernetAddress {
        EthernetAddress([2, 0, 0, 0, 1, self.number])
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.bell.as_fd())
    }

    fn transmit(&mut self, _now: Instant, transmission: &Transmission<'_>) -> Result<(), TransmitError> {
        let frame = [transmission.headers, &transmission.payload_to_vec()].concat();
        if self.random.unit() >= self.loss {
            let mut way = self.to.lock().unwrap();
            assert!(way.frames.len() < MAX_FRAMES, "too many frames wait");
            way.frames.push_back(frame);
            if !std::mem::replace(&mut way.is_rung, true) {
                // The other end may be gone.
                let _ = (&self.bell).write(&[1]);
            }
        }
        Ok(())
    }

    fn receive(&mut self, _now: Instant) -> io::Result<Option<Received<'_>>> {
        let mut way = self.from.lock().unwrap();
        let Some(frame) = way.frames.pop_front() else {
            if std::mem::take(&mut way.is_rung) {
                (&self.bell).read_exact(&mut [0])?;
            }
            return Ok(None);
        };
        drop(way);
        self.rx = frame;
        Ok(Some(Received { bytes: &self.rx, checksum: RxChecksum::Valid }))
    }

    fn stats(&self) -> netstack::device::Stats {
        netstack::device::Stats::default()
    }
}

fn cable(loss: f64, limits: SocketLimits) -> (Network, Network) {
    let (bell_a, bell_b) = UnixStream::pair().unwrap();
    let (there, back) = (Arc::<Mutex<Way>>::default(), Arc::<Mutex<Way>>::default());
    let start = |bell: UnixStream, to: &Arc<Mutex<Way>>, from: &Arc<Mutex<Way>>, number: u8| {
        let (to, from) = (Arc::clone(to), Arc::clone(from));
        let device =
            Cable { to, from, bell, number, random: Random::new(number.into()), loss, rx: Vec::new() };
        let addr = Ipv4Addr::new(10, 82, 0, number);
        let config = Config::new(device.hardware_addr(), addr, 24, [number; 16]);
        Network::start_with(device, Stack::new(config), limits).unwrap()
    };
    (start(bell_a, &there, &back, 1), start(bell_b, &back, &there, 2))
}

/// Many threads with buffers so small that each waits all the time: whoever slept through a wake-up would
/// hang here.
#[test]
fn many_threads_lose_no_wake_up() {
    let mut limits = SocketLimits::default();
    (limits.receive_bytes, limits.send_bytes) = (3000, 1000);
    let (here, there) = cable(0.005, limits);
    let listener = there.listen_on(7).unwrap();
    let server = thread::spawn(move || {
        let mut peers = HashSet::new();
        let threads: Vec<_> = (0..16)
            .map(|_| {
                let (stream, peer) = accept(&listener);
                peers.insert(peer);
                thread::spawn(move || io::copy(&mut &stream, &mut &stream).unwrap())
            })
            .collect();
        assert_eq!(peers.len(), 16);
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
    });
    let clients: Vec<_> = (0..16u32)
        .map(|number| {
            let here = here.clone();
            thread::spawn(move || {
                let stream = here.connect_timeout(([10, 82, 0, 2], 7).into(), PATIENCE).unwrap();
                let copy = stream.clone();
                let writer = thread::spawn(move || {
                    let mut random = Random::new(number.into());
                    let all = bytes(number, 40_000);
                    let mut left = &all[..];
                    while !left.is_empty() {
                        let (now, later) = left.split_at(left.len().min(1 + random.below(2500) as usize));
                        (&copy).write_all(now).unwrap();
                        left = later;
                    }
                    copy.shutdown(Shutdown::Write).unwrap();
                });
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut random = Random::new(!u64::from(number));
                let (mut got, mut buffer) = (Vec::new(), vec![0; 2500]);
                loop {
                    let len = 1 + random.below(2500) as usize;
                    match (&stream).read(&mut buffer[..len]).expect("no wake-up is lost") {
                        0 => break,
                        len => got.extend_from_slice(&buffer[..len]),
                    }
                }
                writer.join().unwrap();
                assert!(got == bytes(number, 40_000), "{} bytes of {number}", got.len());
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(server.join().unwrap(), 16 * 40_000);
    assert!(here.finish(PATIENCE).unwrap());
    drop(there);
}

/// Several threads that read one connection get each byte once.
#[test]
fn one_connection_for_many_threads() {
    let (here, there) = cable(0.0, small());
    let listener = there.listen_on(9).unwrap();
    let stream = here.connect_timeout(([10, 82, 0, 2], 9).into(), PATIENCE).unwrap();
    let (theirs, _) = accept(&listener);
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let mut theirs = theirs.clone();
            thread::spawn(move || {
                let (mut counts, mut buffer) = ([0u64; 256], [0; 777]);
                loop {
                    match theirs.read(&mut buffer).unwrap() {
                        0 => return counts,
                        len => buffer[..len].iter().for_each(|byte| counts[usize::from(*byte)] += 1),
                    }
                }
            })
        })
        .collect();
    let writers: Vec<_> = (0..4u8)
        .map(|number| {
            let mut stream = stream.clone();
            thread::spawn(move || stream.write_all(&vec![number; 100_000]).unwrap())
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    stream.shutdown(Shutdown::Write).unwrap();
    let mut counts = [0; 256];
    for reader in readers {
        let of_one = reader.join().unwrap();
        counts.iter_mut().zip(of_one).for_each(|(count, more)| *count += more);
    }
    assert_eq!(counts[..5], [100_000, 100_000, 100_000, 100_000, 0]);
}

/// A time that no clock can say is never, and no panic.
#[test]
fn the_longest_time() {
    let (here, there) = cable(0.0, small());
    let listener = there.listen_on(9).unwrap();
    let mut stream = here.connect_timeout(([10, 82, 0, 2], 9).into(), Duration::MAX).unwrap();
    let (mut theirs, _) = accept(&listener);
    stream.set_read_timeout(Some(Duration::MAX)).unwrap();
    stream.set_write_timeout(Some(Duration::MAX)).unwrap();
    theirs.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream.write_all(b"y").unwrap();
    drop((stream, theirs, listener));
    assert!(here.finish(Duration::MAX).unwrap());
}

/// What was written goes out before a network says that it is finished, however much of it waits: for the
/// peer's address, and for room in the stack. A socket is closed, and nothing else comes that could wake the
/// network.
#[test]
fn no_datagram_is_left_behind() {
    let mut limits = SocketLimits::default();
    limits.datagram_bytes = 64 << 20;
    for number in [1u32, 100, 5000] {
        let (here, there) = cable(0.0, limits);
        let theirs = there.bind(Some(9)).unwrap();
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        let to = SocketAddr::from(([10, 82, 0, 2], 9));
        let ours = here.bind(None).unwrap();
        if number > 64 {
            // Of datagrams that wait for an address few are kept, as everywhere.
            ours.send_to(b"first", to).unwrap();
            theirs.receive(&mut [0; 8]).unwrap();
        }
        for number in 0..number {
            ours.send_to(&[&number.to_be_bytes()[..], &[7; 1000]].concat(), to).unwrap();
        }
        drop(ours);
        assert!(here.finish(PATIENCE).unwrap());
        for number in 0..number {
            let mut got = [0; 4];
            theirs.receive(&mut got).unwrap();
            assert_eq!(got, number.to_be_bytes());
        }
    }
}

/// Nothing begins in a network that ends.
#[test]
fn nothing_begins_while_it_ends() {
    let (here, there) = cable(0.0, small());
    let listener = there.listen_on(9).unwrap();
    let stream = here.connect_timeout(([10, 82, 0, 2], 9).into(), PATIENCE).unwrap();
    let theirs = accept(&listener);
    let clone = here.clone();
    let ending = thread::spawn(move || here.finish(PATIENCE).unwrap());
    // Until it is told, it takes in.
    while clone.listen_on(10).map(drop).is_ok() {}
    assert_eq!(clone.bind(None).map(drop).unwrap_err().kind(), ErrorKind::NotConnected);
    let error = clone.connect(([10, 82, 0, 2], 9).into()).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert!(!ending.is_finished(), "a connection stands");
    drop((stream, theirs));
    assert!(ending.join().unwrap());
}
