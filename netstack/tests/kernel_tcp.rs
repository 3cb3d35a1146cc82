//! Our TCP against the kernel's, over a TAP device in a private namespace: transfers both ways, all ways of
//! opening and closing, zero windows, loss. Where namespaces or TAP devices are refused, one line says so.

mod support;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant as Clock};

use netstack::application::{CloseReason, Key};
use netstack::device::Device;
use netstack::device::fault::{FaultDevice, Faults};
use netstack::device::tap::TapDevice;
use netstack::stack::{Config, Event, FastOpenConfig, Ipv6Config, Stack};
use netstack::sys::{link, netns};
use runtime::time::Instant;
use support::{TestApp, TestStream, byte_at};

const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
const KERNEL6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 78, 0, 0, 0, 1);
const OURS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 78, 0, 0, 0, 2);
const PORT: u16 = 80;

fn main() -> ExitCode {
    if let Err(error) = netns::enter_private() {
        println!("kernel_tcp: skipped, no private namespace here ({error})");
        return ExitCode::SUCCESS;
    }
    netns::set_congestion_control("reno").expect("reno is always there");
    if let Err(error) = TapDevice::open(None, true) {
        println!("kernel_tcp: skipped, no TAP device here ({error})");
        return ExitCode::SUCCESS;
    }
    for offload in [true, false] {
        for drop in [0.0, 0.02] {
            let begun = Clock::now();
            let net = || Net::new(offload, drop);
            download(net());
            upload(net());
            echo(net());
            slow_reader(net());
            active_open(net());
            over_ipv6(net(), drop);
            if drop == 0.0 {
                pings(net());
            }
            if drop == 0.0 {
                reset_by_kernel(net());
                refused(net());
                abort(net());
                many(net());
                fast_open(net());
            }
            println!("kernel_tcp: offload {offload}, {} % lost: {:.1?}", drop * 100.0, begun.elapsed());
        }
    }
    dhcp();
    autoconf();
    println!("kernel_tcp: ok");
    ExitCode::SUCCESS
}

/// `ping` of what needs fragments both ways, and of what just does not: all answered, each byte as it was.
fn pings(mut net: Net) {
    for size in ["56", "1472", "1473", "4000", "65000"] {
        // Of the longest, ping's own buffer holds two.
        let (count, interval) = if size == "65000" { ("3", "0.2") } else { ("5", "0.01") };
        let output = net.serve(
            || None,
            move || {
                let arguments = ["-n", "-c", count, "-i", interval, "-W", "5", "-s", size];
                Command::new("ping").args(arguments).arg(OURS.to_string()).output()
            },
        );
        let output = match output {
            Ok(output) => output,
            Err(error) => return println!("kernel_tcp: no ping here ({error})"),
        };
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(" 0% packet loss") && !text.contains("wrong"), "ping -s {size}: {text}");
    }
    let stats = net.stack.stats();
    assert_eq!((stats.reassembled, stats.fragments_dropped, stats.reassembly_timeouts), (13, 0, 0));
}

/// The kernel's neighbour discovery, echo and TCP in IPv6, both ways and both opens; the same listener as for
/// IPv4.
fn over_ipv6(mut net: Net, drop: f64) {
    let address = format!("{KERNEL6}/64");
    let added = Command::new("ip").args(["-6", "addr", "add", &address, "dev", "tcp0", "nodad"]).output();
    if !added.is_ok_and(|output| output.status.success()) {
        return println!("kernel_tcp: the kernel has no IPv6 here");
    }
    if drop == 0.0 {
        // The last two in fragments, both ways.
        for size in ["1400", "1453", "60000"] {
            let output = net.serve(
                || None,
                move || {
                    let arguments = ["-6", "-n", "-c", "5", "-i", "0.2", "-W", "5", "-s", size];
                    Command::new("ping").args(arguments).arg(OURS6.to_string()).output()
                },
            );
            if let Ok(output) = output {
                let text = String::from_utf8_lossy(&output.stdout);
                assert!(
                    text.contains(" 0% packet loss") && !text.contains("wrong"),
                    "ping -6 -s {size}: {text}"
                );
            }
        }
        let stats = net.stack.stats();
        assert_eq!((stats.reassembled, stats.fragments_dropped), (10, 0), "{stats:?}");
    }
    net.serve(
        || Some(TestStream::new(1, BULK)),
        || {
            let mut stream = TcpStream::connect((OURS6, PORT)).expect("connect");
            stream.set_read_timeout(Some(Duration::from_secs(50))).expect("timeout");
            stream.write_all(&bytes(0, BULK)).expect("write");
            stream.shutdown(Shutdown::Write).expect("FIN");
            expect_bytes(&mut stream, 1, BULK);
            assert_eq!(stream.read(&mut [0]).expect("FIN"), 0);
        },
    );
    let (reason, stream) = net.closed();
    assert_eq!((reason, stream.acknowledged, stream.received), (CloseReason::Finished, BULK, BULK));
    assert_eq!(stream.wrong_bytes, 0);

    let listener = TcpListener::bind((KERNEL6, 0)).expect("bind");
    let port = listener.local_addr().expect("bound").port();
    let now = net.now();
    let keep = |pcb| net.app.keep(pcb, TestStream::new(1, 1000));
    net.stack.connect(now, None, (KERNEL6, port).into(), keep).expect("a free port");
    net.serve(
        || None,
        move || {
            let (mut stream, peer) = listener.accept().expect("accept");
            assert_eq!(peer.ip(), OURS6);
            expect_bytes(&mut stream, 1, 1000);
        },
    );
}

/// `dnsmasq`, until it is dropped.
struct DhcpServer {
    server: std::process::Child,
    /// Goes when it does.
    _leases: tempfile::TempDir,
}

impl DhcpServer {
    fn start(more: &[&str]) -> io::Result<DhcpServer> {
        let folder = tempfile::tempdir()?;
        let leases = format!("--dhcp-leasefile={}", folder.path().join("leases").display());
        let arguments = [
            "--no-daemon",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--user=root",
            "--port=0",
            "--interface=tcp0",
            "--bind-interfaces",
            "--dhcp-authoritative",
            "--no-ping",
            "--dhcp-range=10.78.0.50,10.78.0.60,255.255.255.0,120",
        ];
        let quiet = std::process::Stdio::null;
        let mut server = Command::new("dnsmasq");
        let server = server.args(arguments).args(more).arg(leases).stdout(quiet()).stderr(quiet()).spawn()?;
        Ok(DhcpServer { server, _leases: folder })
    }
}

impl Drop for DhcpServer {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// An address from a server of other hands: got, used, renewed, and lost when nobody renews it.
fn dhcp() {
    let mut net = Net::with(true, 0.0, |config| config.dhcp = true);
    let server = match DhcpServer::start(&[]) {
        Ok(server) => server,
        Err(error) => return println!("kernel_tcp: no dnsmasq here ({error})"),
    };
    net.turn_until("a lease", |net| net.stack.lease().is_some());
    let lease = net.stack.lease().expect("just seen");
    assert_eq!(lease.addr.octets()[..3], [10, 78, 0]);
    assert_eq!((lease.prefix_len, lease.server, lease.router), (24, KERNEL, Some(KERNEL)));
    assert!(net.stack.may_use_address());
    let addr = lease.addr;
    net.serve(
        || Some(TestStream::new(1, 100_000)),
        move || {
            let mut stream = TcpStream::connect(SocketAddrV4::new(addr, PORT)).expect("connect");
            stream.set_read_timeout(Some(Duration::from_secs(50))).expect("timeout");
            expect_bytes(&mut stream, 1, 100_000);
        },
    );
    // A little more than half of the lease goes by, and the server is asked.
    net.origin -= Duration::from_secs(61);
    net.turn_until("a renewal", |net| net.stack.lease().is_some_and(|later| later.expires > lease.expires));
    assert_eq!(net.stack.lease().map(|lease| lease.addr), Some(addr));
    drop(server);
    net.origin -= Duration::from_secs(130);
    net.turn_until("the end of it", |net| net.stack.lease().is_none());
    assert!(!net.stack.may_use_address());
    let events: Vec<Event> = std::iter::from_fn(|| net.stack.poll_event()).collect();
    assert!(matches!(events[..], [Event::Leased { .. }, Event::LeaseLost]), "{events:?}");
}

/// A router of other hands: its prefix makes our address, which nobody has, and the kernel speaks to it.
fn autoconf() {
    let mut net = Net::with(true, 0.0, |config| (config.ipv6, config.ipv6_autoconf) = (None, true));
    let address = format!("{KERNEL6}/64");
    let added = Command::new("ip").args(["-6", "addr", "add", &address, "dev", "tcp0", "nodad"]).output();
    if !added.is_ok_and(|output| output.status.success()) {
        return println!("kernel_tcp: the kernel has no IPv6 here");
    }
    let _router = match DhcpServer::start(&["--enable-ra", "--dhcp-range=fd00:0:0:4e::,ra-only,64,3600"]) {
        Ok(router) => router,
        Err(error) => return println!("kernel_tcp: no dnsmasq here ({error})"),
    };
    net.turn_until("an address", |net| net.stack.ipv6_addr().is_some());
    let addr = net.stack.ipv6_addr().expect("just seen");
    assert_eq!(addr.segments()[..4], KERNEL6.segments()[..4]);
    net.serve(
        || Some(TestStream::new(1, 100_000)),
        move || {
            let mut stream = TcpStream::connect((addr, PORT)).expect("connect");
            stream.set_read_timeout(Some(Duration::from_secs(50))).expect("timeout");
            expect_bytes(&mut stream, 1, 100_000);
        },
    );
    assert_eq!(net.app.closed.pop().map(|(reason, _)| reason), Some(CloseReason::Finished));
    assert_eq!(net.stack.poll_event(), Some(Event::Ipv6Changed { addr: Some(addr) }));
}

/// The kernel's Fast Open: it asks for a cookie with the first SYN, and the next one brings it, with text,
/// for each of several connections; all bytes are there once.
fn fast_open(mut net: Net) {
    let mut first = 0;
    for number in 0..3 {
        net.serve(
            || Some(TestStream::new(1, 20_000)),
            || {
                use rustix::net::{AddressFamily, SendFlags, SocketType, sendto, socket};
                /// `MSG_FASTOPEN` of Linux: connects, and what is sent goes with the SYN if there is a
                /// cookie.
                const FAST_OPEN: SendFlags = SendFlags::from_bits_retain(0x2000_0000);
                let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("socket");
                let text = bytes(0, 1000);
                let sent = sendto(&socket, &text, FAST_OPEN, &SocketAddrV4::new(OURS, PORT)).expect("sendto");
                let mut stream = TcpStream::from(socket);
                stream.set_read_timeout(Some(Duration::from_secs(50))).expect("timeout");
                stream.write_all(&text[sent..]).expect("write");
                stream.shutdown(Shutdown::Write).expect("FIN");
                expect_bytes(&mut stream, 1, 20_000);
                assert_eq!(stream.read(&mut [0]).expect("FIN"), 0);
            },
        );
        let (reason, stream) = net.app.closed.pop().expect("a connection");
        assert_eq!((reason, stream.acknowledged, stream.received), (CloseReason::Finished, 20_000, 1000));
        assert_eq!(stream.wrong_bytes, 0);
        // A cookie of the last network's is as good: then even the first one has its text in the SYN.
        first = if number == 0 { net.stack.stats().fast_opened } else { first };
        assert_eq!(net.stack.stats().fast_opened, first + number, "connection {number}");
        assert_eq!(net.stack.half_open(), 0);
    }
}

/// Our stack on a TAP device, driven by the thread that holds it.
struct Net {
    stack: Stack,
    app: TestApp,
    device: FaultDevice<TapDevice>,
    origin: Clock,
}

impl Net {
    fn new(offload: bool, drop: f64) -> Net {
        Net::with(offload, drop, |_| ())
    }

    fn with(offload: bool, drop: f64, change: impl Fn(&mut Config)) -> Net {
        let tap = TapDevice::open(Some("tcp0"), offload).expect("TAP");
        link::add_address(tap.name(), KERNEL, 24).expect("address");
        link::set_up(tap.name()).expect("up");
        let device = FaultDevice::new(tap, Faults { drop, ..Faults::NONE }, 11);
        let mut config = Config::new(device.hardware_addr(), OURS, 24, *b"only for testing");
        config.mtu = device.mtu();
        config.time_wait = Duration::from_secs(1);
        config.features.offload = offload;
        config.fast_open = Some(FastOpenConfig { pending: 4, key: *b"cookies of tests" });
        config.ipv6 = Some(Ipv6Config { addr: OURS6, prefix_len: 64, gateway: None });
        change(&mut config);
        let mut stack = Stack::new(config);
        stack.listen(PORT).expect("a fresh stack");
        Net { stack, app: TestApp::new(|_| None), device, origin: Clock::now() }
    }

    fn now(&self) -> Instant {
        // Not zero, so that nothing hides in special cases of the origin.
        Instant::from_nanos(self.origin.elapsed().as_nanos() as u64 + 1_000_000)
    }

    /// Runs the stack until `client`, in a thread of its own, is done, and then until our connections are
    /// too.
    fn serve<T: Send + 'static>(
        &mut self,
        make: impl FnMut() -> Option<TestStream> + 'static,
        client: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let mut make = make;
        self.app.make = Box::new(move |_| make());
        let thread = thread::spawn(client);
        let limit = Clock::now() + Duration::from_secs(60);
        while !thread.is_finished() || !self.app.records.is_empty() {
            if Clock::now() > limit {
                let left: Vec<_> = self.app.records.iter().map(|(_, record)| &record.pcb).collect();
                panic!("hangs, client finished: {}, connections: {left:#?}", thread.is_finished());
            }
            self.turn();
        }
        thread.join().expect("the client's checks hold")
    }

    fn turn_until(&mut self, what: &str, is_so: impl Fn(&Net) -> bool) {
        let limit = Clock::now() + Duration::from_secs(30);
        while !is_so(self) {
            assert!(Clock::now() < limit, "no sign of {what}");
            self.turn();
        }
    }

    fn turn(&mut self) {
        let now = self.now();
        for _ in 0..64 {
            match self.device.receive(now).expect("device") {
                Some(frame) => self.stack.handle_frame(now, frame.bytes, frame.checksum, &mut self.app),
                None => break,
            }
        }
        if self.stack.poll_timeout().is_some_and(|at| at <= now) {
            self.stack.handle_timeout(now, &mut self.app);
        }
        let capabilities = self.device.capabilities();
        while let Some(result) =
            self.stack.poll_transmit(now, &capabilities, &mut self.app, |t| self.device.transmit(now, t))
        {
            result.expect("device");
        }
        let next = self.stack.poll_timeout().into_iter().chain(self.device.next_arrival()).min();
        let wait = next.map_or(Duration::from_millis(20), |at| at.saturating_since(self.now()));
        let wait = wait.min(Duration::from_millis(20));
        let timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: wait.as_nanos() as _ };
        let fd = self.device.descriptor().expect("TAP has one");
        let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&timespec)).expect("poll");
    }

    fn connect(&mut self, port: u16, stream: TestStream) -> Key {
        let now = self.now();
        let remote = (KERNEL, port).into();
        self.stack.connect(now, None, remote, |pcb| self.app.keep(pcb, stream)).expect("a free port")
    }

    /// The only connection so far is over, for this reason.
    fn closed(&mut self) -> (CloseReason, TestStream) {
        assert_eq!(self.app.closed.len(), 1);
        assert_eq!(self.stack.connections(), 0);
        assert_eq!(self.stack.timers(), 0);
        self.app.closed.remove(0)
    }
}

fn kernel_connects() -> TcpStream {
    let stream = TcpStream::connect(SocketAddrV4::new(OURS, PORT)).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(50))).expect("timeout");
    stream
}

/// The reset may come before or after `connect` returns.
fn connect_and_read_error() -> io::Error {
    TcpStream::connect(SocketAddrV4::new(OURS, PORT))
        .and_then(|mut stream| stream.read_exact(&mut [0; 100]))
        .expect_err("a reset")
}

/// Reads `len` bytes of the stream with `tag` and checks them.
fn expect_bytes(stream: &mut impl Read, tag: u32, len: u64) {
    let mut buffer = vec![0; 65_536];
    let mut at = 0;
    while at < len {
        let want = buffer.len().min((len - at) as usize);
        let got = stream.read(&mut buffer[..want]).expect("read");
        assert!(got > 0, "end after {at} of {len} bytes");
        for (i, &byte) in buffer[..got].iter().enumerate() {
            assert_eq!(byte, byte_at(tag, at + i as u64), "byte {}", at + i as u64);
        }
        at += got as u64;
    }
}

fn bytes(tag: u32, len: u64) -> Vec<u8> {
    (0..len).map(|offset| byte_at(tag, offset)).collect()
}

const BULK: u64 = 3_000_001;

/// We close first, with the last data.
fn download(mut net: Net) {
    net.serve(
        || Some(TestStream::new(1, BULK)),
        || {
            let mut stream = kernel_connects();
            expect_bytes(&mut stream, 1, BULK);
            assert_eq!(stream.read(&mut [0]).expect("FIN"), 0);
        },
    );
    let (reason, stream) = net.closed();
    assert_eq!((reason, stream.acknowledged), (CloseReason::Finished, BULK));
    assert_eq!(net.stack.in_time_wait(), 1, "who closes first waits");
}

/// The kernel closes first; half-closed, it reads our answer.
fn upload(mut net: Net) {
    net.serve(
        || {
            let mut stream = TestStream::new(1, 1000);
            stream.finish_after_peer = true;
            Some(stream)
        },
        || {
            let mut stream = kernel_connects();
            stream.write_all(&bytes(0, BULK)).expect("write");
            stream.shutdown(Shutdown::Write).expect("shutdown");
            expect_bytes(&mut stream, 1, 1000);
            assert_eq!(stream.read(&mut [0]).expect("FIN"), 0);
        },
    );
    let (reason, stream) = net.closed();
    assert_eq!((reason, stream.received, stream.wrong_bytes), (CloseReason::Finished, BULK, 0));
    assert_eq!(net.stack.in_time_wait(), 0, "the kernel waits");
}

/// Both directions at once.
fn echo(mut net: Net) {
    const LEN: u64 = 1_000_003;
    net.serve(
        || {
            let mut stream = TestStream::new(1, LEN);
            stream.finish_after_peer = true;
            Some(stream)
        },
        || {
            let mut stream = kernel_connects();
            let mut writer = stream.try_clone().expect("clone");
            let thread = thread::spawn(move || {
                writer.write_all(&bytes(0, LEN)).expect("write");
                writer.shutdown(Shutdown::Write).expect("shutdown");
            });
            expect_bytes(&mut stream, 1, LEN);
            assert_eq!(stream.read(&mut [0]).expect("FIN"), 0);
            thread.join().expect("writer");
        },
    );
    let (reason, stream) = net.closed();
    assert_eq!((reason, stream.received, stream.wrong_bytes), (CloseReason::Finished, LEN, 0));
}

/// The kernel's window closes and opens again.
fn slow_reader(mut net: Net) {
    const LEN: u64 = 8_000_000;
    net.serve(
        || Some(TestStream::new(1, LEN)),
        || {
            let mut stream = kernel_connects();
            for _ in 0..3 {
                thread::sleep(Duration::from_millis(400));
            }
            expect_bytes(&mut stream, 1, LEN);
            assert_eq!(stream.read(&mut [0]).expect("FIN"), 0);
        },
    );
    assert_eq!(net.closed().0, CloseReason::Finished);
}

/// We connect to the kernel.
fn active_open(mut net: Net) {
    let listener = TcpListener::bind(SocketAddrV4::new(KERNEL, 0)).expect("bind");
    let port = listener.local_addr().expect("bound").port();
    net.connect(port, TestStream::new(1, BULK));
    net.serve(
        || None,
        move || {
            let (mut stream, peer) = listener.accept().expect("accept");
            assert_eq!(peer.ip(), OURS);
            expect_bytes(&mut stream, 1, BULK);
            assert_eq!(stream.read(&mut [0]).expect("FIN"), 0);
            stream.write_all(&bytes(0, 100_000)).expect("write");
        },
    );
    let (reason, stream) = net.closed();
    assert!(stream.established && stream.peer_finished);
    assert_eq!((reason, stream.received, stream.wrong_bytes), (CloseReason::Finished, 100_000, 0));
}

/// Unread data at close: the kernel sends RST.
fn reset_by_kernel(mut net: Net) {
    net.serve(
        || {
            let mut stream = TestStream::new(1, 100_000);
            stream.finish = false;
            Some(stream)
        },
        || {
            let mut stream = kernel_connects();
            expect_bytes(&mut stream, 1, 1000);
        },
    );
    assert_eq!(net.closed().0, CloseReason::Reset);
}

fn refused(mut net: Net) {
    // Nobody listens at our end.
    let error = net.serve(
        || None,
        || TcpStream::connect(SocketAddrV4::new(OURS, PORT + 1)).expect_err("nobody listens there"),
    );
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    // The application does not want the connection.
    let error = net.serve(|| None, connect_and_read_error);
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    // Nobody listens at the kernel's end.
    net.connect(9, TestStream::new(1, 10));
    net.serve(|| None, || ());
    assert_eq!(net.closed().0, CloseReason::Refused);
}

/// The stream asks for a reset.
fn abort(mut net: Net) {
    let error = net.serve(
        || {
            let mut stream = TestStream::new(1, 10);
            stream.abort = true;
            Some(stream)
        },
        connect_and_read_error,
    );
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(net.closed().0, CloseReason::Aborted);
}

/// Some at once, many in sequence.
fn many(mut net: Net) {
    net.app.forget_closed = true;
    net.serve(
        || Some(TestStream::new(1, 10_000)),
        || {
            let streams: Vec<_> = (0..300).map(|_| kernel_connects()).collect();
            for mut stream in streams {
                expect_bytes(&mut stream, 1, 10_000);
                assert_eq!(stream.read(&mut [0]).expect("FIN"), 0);
            }
            for _ in 0..2000 {
                let mut stream = kernel_connects();
                stream.write_all(&bytes(0, 100)).expect("write");
                expect_bytes(&mut stream, 1, 10_000);
                assert_eq!(stream.read(&mut [0]).expect("FIN"), 0);
            }
        },
    );
    assert_eq!((net.app.closed_count, net.app.closed_badly), (2300, 0));
    assert_eq!((net.stack.connections(), net.stack.timers()), (0, 0));
}
