//! Sockets for tasks, in simulated time: two networks on a wire from a seed, and an executor that looks at a
//! task only if it was woken. A wake-up that is lost leaves nothing to do, which is an error here.

mod support;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::{AsyncReadExt, AsyncWriteExt};
use netstack::device::Device;
use netstack::device::fault::{Faults, Random};
use netstack::device::wire::{self, WireDevice};
use netstack::sockets::{Network, SocketLimits, Sockets, TcpListener, TcpStream};
use netstack::stack::{Config, Stack};
use proptest::prelude::*;
use runtime::time::Instant;
use support::{CLIENT, PORT, SERVER, byte_at};

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Flag>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
struct Executor {
    tasks: BTreeMap<u64, (Arc<Flag>, Task)>,
    next: u64,
    polls: u64,
}

impl Executor {
    fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        self.tasks.insert(self.next, (flag, Box::pin(task)));
        self.next += 1;
    }

    /// Looks at those that were woken; whether there were any.
    fn turn(&mut self) -> bool {
        let mut any = false;
        self.tasks.retain(|_, (flag, task)| {
            if !flag.0.swap(false, Ordering::SeqCst) {
                return true;
            }
            any = true;
            self.polls += 1;
            let waker = Waker::from(Arc::clone(flag));
            task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
        });
        any
    }
}

struct Side {
    network: Network,
    sockets: Sockets,
    stack: Stack,
    device: WireDevice,
}

impl Side {
    fn new(device: WireDevice, addr: std::net::Ipv4Addr, limits: SocketLimits) -> Side {
        let mut config = Config::new(device.hardware_addr(), addr, 24, [addr.octets()[3]; 16]);
        config.mtu = device.mtu();
        let (network, sockets) = Network::apart(limits);
        Side { network, sockets, stack: Stack::new(config), device }
    }

    fn step(&mut self, now: Instant) {
        self.sockets.obey(now, &mut self.stack);
        while let Some(frame) = self.device.receive(now).unwrap() {
            self.stack.handle_frame(now, frame.bytes, frame.checksum, &mut self.sockets);
        }
        if self.stack.poll_timeout().is_some_and(|at| at <= now) {
            self.stack.handle_timeout(now, &mut self.sockets);
        }
        let capabilities = self.device.capabilities();
        while let Some(result) =
            self.stack.poll_transmit(now, &capabilities, &mut self.sockets, |t| self.device.transmit(now, t))
        {
            result.unwrap();
        }
    }
}

/// Two networks, and tasks that use them.
struct World {
    client: Side,
    server: Side,
    executor: Executor,
    now: Instant,
}

impl World {
    fn new(wire: wire::Config, seed: u64, limits: SocketLimits) -> World {
        let (a, b) = wire::pair(wire, seed);
        World {
            client: Side::new(a, CLIENT, limits),
            server: Side::new(b, SERVER, limits),
            executor: Executor::default(),
            now: Instant::from_millis(1),
        }
    }

    /// Until all tasks are done.
    fn run(&mut self, limit: Duration) {
        let limit = self.now + limit;
        loop {
            let mut any = self.executor.turn();
            self.client.step(self.now);
            self.server.step(self.now);
            any |= self.executor.turn();
            if self.executor.tasks.is_empty() {
                return;
            }
            if any {
                continue;
            }
            let next = [&self.client, &self.server]
                .into_iter()
                .flat_map(|side| [side.stack.poll_timeout(), side.device.next_arrival()])
                .flatten()
                .min();
            let next = next.unwrap_or_else(|| panic!("{} tasks sleep for ever", self.executor.tasks.len()));
            self.now = self.now.max(next);
            assert!(self.now < limit, "{} tasks hang", self.executor.tasks.len());
        }
    }

    /// Connections that neither side has forgotten, in a while.
    fn left(&mut self, after: Duration) -> usize {
        let until = self.now + after;
        while self.now < until {
            self.client.step(self.now);
            self.server.step(self.now);
            self.now = self.now + Duration::from_millis(100);
        }
        self.client.sockets.len() + self.server.sockets.len()
    }
}

fn limits(receive: usize, send: usize) -> SocketLimits {
    let mut limits = SocketLimits::default();
    (limits.receive_bytes, limits.send_bytes) = (receive, send);
    limits
}

/// Writes `len` bytes of `tag`, in pieces of any size.
async fn write_all(mut stream: TcpStream, tag: u32, len: u64, mut random: Random) {
    let mut at = 0;
    while at < len {
        let part = (1 + random.below(5000)).min(len - at);
        let bytes: Vec<u8> = (at..at + part).map(|offset| byte_at(tag, offset)).collect();
        stream.write_all(&bytes).await.unwrap();
        at += part;
    }
    stream.close().await.unwrap();
}

/// Reads to the end, in pieces of any size; how much, all of it right.
async fn read_all(mut stream: TcpStream, tag: u32, mut random: Random) -> u64 {
    let mut at = 0;
    loop {
        let mut buffer = vec![0; 1 + random.below(5000) as usize];
        let len = stream.read(&mut buffer).await.unwrap();
        if len == 0 {
            return at;
        }
        assert!(buffer[..len].iter().zip(at..).all(|(byte, at)| *byte == byte_at(tag, at)), "wrong at {at}");
        at += len as u64;
    }
}

/// Bytes that arrived, looks at tasks, and how long it took.
type Run = (u64, u64, Instant);

fn pairs(seed: u64, faults: Faults, limits: SocketLimits, connections: u64) -> Run {
    let wire = wire::Config { faults, ..wire::Config::default() };
    let mut world = World::new(wire, seed, limits);
    let mut random = Random::new(seed ^ 0x5eed);
    let lens: Vec<(u64, u64)> =
        (0..connections).map(|_| (random.below(60_000), random.below(60_000))).collect();
    let done = Rc::new(RefCell::new(0));
    let (server, client) = (world.server.network.clone(), world.client.network.clone());
    let total = Rc::clone(&done);
    let expected = lens.clone();
    world.executor.spawn(async move {
        let listener = server.listen_async(PORT).await.unwrap();
        let mut clients = Vec::new();
        for (number, (up, down)) in lens.into_iter().enumerate() {
            let (client, total) = (client.clone(), Rc::clone(&total));
            clients.push(async move {
                let stream = client.connect_async((SERVER, PORT).into()).await.unwrap();
                assert_eq!(stream.peer_addr().unwrap(), (SERVER, PORT).into());
                let random = |way| Random::new(seed ^ way ^ (number as u64) << 8);
                let mut first = stream.clone();
                first.write_all(&(number as u64).to_be_bytes()).await.unwrap();
                let write = write_all(stream.clone(), 2 * number as u32, up, random(1));
                let read = read_all(stream, 2 * number as u32 + 1, random(2));
                let ((), read) = futures_util::future::join(write, read).await;
                assert_eq!(read, down);
                *total.borrow_mut() += read;
            });
        }
        let serve = async {
            let mut tasks = Vec::new();
            for _ in 0..connections {
                let (mut stream, _) = listener.accept_async().await.unwrap();
                let (lens, total) = (expected.clone(), Rc::clone(&total));
                tasks.push(async move {
                    let mut number = [0; 8];
                    stream.read_exact(&mut number).await.unwrap();
                    let number = u64::from_be_bytes(number);
                    let (up, down) = lens[number as usize];
                    let random = |way| Random::new(seed ^ way ^ number << 8);
                    let write = write_all(stream.clone(), 2 * number as u32 + 1, down, random(3));
                    let read = read_all(stream, 2 * number as u32, random(4));
                    let ((), read) = futures_util::future::join(write, read).await;
                    assert_eq!(read, up);
                    *total.borrow_mut() += read;
                });
            }
            futures_util::future::join_all(tasks).await;
        };
        futures_util::future::join(serve, futures_util::future::join_all(clients)).await;
    });
    world.run(Duration::from_secs(600));
    let run = (*done.borrow(), world.executor.polls, world.now);
    assert_eq!(world.left(Duration::from_secs(90)), 0, "connections that nobody has are forgotten");
    run
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the wire does and however small the buffers are, each byte arrives, and nobody sleeps for
    /// ever.
    #[test]
    fn all_bytes_arrive_and_no_wake_up_is_lost(
        seed in any::<u64>(),
        receive in 600usize..30_000,
        send in 1usize..30_000,
        loss in 0u32..8,
    ) {
        let faults = Faults {
            drop: f64::from(loss) / 100.0,
            duplicate: 0.02,
            reorder: 0.05,
            reorder_delay: Duration::from_micros(200),
            ..Faults::NONE
        };
        pairs(seed, faults, limits(receive, send), 4);
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let faults = Faults { drop: 0.03, ..Faults::NONE };
    let run = |seed| pairs(seed, faults, limits(8000, 8000), 8);
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

/// A connection that is dropped is closed as the kernel does it.
#[test]
fn what_is_dropped_is_closed_or_reset() {
    let mut world = World::new(wire::Config::default(), 1, limits(10_000, 10_000));
    let (server, client) = (world.server.network.clone(), world.client.network.clone());
    world.executor.spawn(async move {
        let listener = server.listen_async(PORT).await.unwrap();
        let remote = (SERVER, PORT).into();
        // What was written arrives all the same, and then the end.
        let mut ours = client.connect_async(remote).await.unwrap();
        let (mut theirs, _) = listener.accept_async().await.unwrap();
        ours.write_all(&[7; 9000]).await.unwrap();
        drop(ours);
        let mut got = Vec::new();
        assert_eq!(theirs.read_to_end(&mut got).await.unwrap(), 9000);
        // What was not read is lost, and the peer is told so.
        let ours = client.connect_async(remote).await.unwrap();
        let (mut theirs, _) = listener.accept_async().await.unwrap();
        theirs.write_all(b"never read").await.unwrap();
        std::future::poll_fn(|cx| theirs.poll_acknowledged(cx)).await.unwrap();
        drop(ours);
        assert_eq!(theirs.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(theirs.write(&[0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        // So is what comes when nobody is there to read it.
        let ours = client.connect_async(remote).await.unwrap();
        let (mut theirs, _) = listener.accept_async().await.unwrap();
        drop(ours);
        assert_eq!(theirs.read(&mut [0; 1]).await.unwrap(), 0, "the end");
        theirs.write_all(b"too late").await.unwrap();
        std::future::poll_fn(|cx| theirs.poll_acknowledged(cx)).await.unwrap_err();
        // Shut down for reading: taken, and thrown away.
        let mut ours = client.connect_async(remote).await.unwrap();
        let (mut theirs, _) = listener.accept_async().await.unwrap();
        ours.shutdown(Shutdown::Read).unwrap();
        theirs.write_all(&[1; 100_000]).await.unwrap();
        theirs.close().await.unwrap();
        assert_eq!(ours.read(&mut [0; 1]).await.unwrap(), 0);
        ours.write_all(b"still here").await.unwrap();
        ours.close().await.unwrap();
        assert_eq!(ours.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        got.clear();
        assert_eq!(theirs.read_to_end(&mut got).await.unwrap(), 10);
        // Aborted by one side.
        let mut ours = client.connect_async(remote).await.unwrap();
        let (mut theirs, _) = listener.accept_async().await.unwrap();
        ours.abort();
        assert_eq!(ours.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(theirs.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        // A listener that goes takes along what nobody has accepted.
        let mut ours = client.connect_async(remote).await.unwrap();
        drop(listener);
        assert_eq!(ours.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let refused = client.connect_async(remote).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
    world.run(Duration::from_secs(60));
    assert_eq!(world.left(Duration::from_secs(90)), 0);
}

/// A peer that takes nothing any more holds a connection that nobody has for so long, and no longer.
#[test]
fn what_lingers_is_given_up() {
    let mut given = limits(10_000, 10_000);
    given.linger = Duration::from_secs(20);
    let mut world = World::new(wire::Config::default(), 2, given);
    let (server, client) = (world.server.network.clone(), world.client.network.clone());
    let kept = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&kept);
    world.executor.spawn(async move {
        let listener = server.listen_async(PORT).await.unwrap();
        let mut ours = client.connect_async((SERVER, PORT).into()).await.unwrap();
        let (theirs, _) = listener.accept_async().await.unwrap();
        // As much as both sides hold: the window is shut.
        ours.write_all(&[1; 20_000]).await.unwrap();
        *keep.borrow_mut() = Some((theirs, listener));
    });
    world.run(Duration::from_secs(60));
    assert_eq!(world.left(Duration::from_secs(15)), 2);
    assert_eq!(world.left(Duration::from_secs(30)), 0);
    let (mut theirs, _listener) = kept.borrow_mut().take().unwrap();
    world.executor.spawn(async move {
        let mut got = vec![0; 10_000];
        theirs.read_exact(&mut got).await.unwrap();
        assert_eq!(theirs.read(&mut got).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
    world.run(Duration::from_secs(1));
}

/// Of an open that is given up nothing stays, whenever that is.
#[test]
fn an_open_that_is_dropped_is_given_up() {
    let mut seen = HashSet::new();
    for steps in 0..12 {
        let mut world = World::new(wire::Config::default(), 3, limits(1000, 1000));
        let (server, client) = (world.server.network.clone(), world.client.network.clone());
        let kept = Rc::new(RefCell::new(None));
        let keep = Rc::clone(&kept);
        world.executor.spawn(async move {
            *keep.borrow_mut() = Some(server.listen_async(PORT).await.unwrap());
        });
        world.run(Duration::from_secs(1));
        let stream = client.begin_connect((SERVER, PORT).into());
        for _ in 0..steps {
            world.client.step(world.now);
            world.server.step(world.now);
            world.now = world.now + Duration::from_micros(50);
        }
        let (sent, accepted) = (world.client.stack.stats().segments_out, world.server.stack.stats().accepted);
        seen.insert((sent > 0, accepted > 0));
        drop(stream);
        // What was complete is closed as any connection: the other side has it until its listener goes.
        let left = world.left(Duration::from_secs(1));
        assert!(left == 0 || steps > 4, "after {steps}");
        drop(kept.borrow_mut().take());
        assert_eq!(world.left(Duration::from_secs(30)), 0, "after {steps}");
    }
    assert_eq!(seen.len(), 3, "before the SYN, before the answer, and after: {seen:?}");
}

/// Datagrams wait for room on their way out, are dropped on their way in, and refusals are told once.
#[test]
fn datagrams_by_tasks() {
    let mut given = SocketLimits::default();
    given.datagram_bytes = 20_000;
    let mut world = World::new(wire::Config::default(), 4, given);
    let (server, client) = (world.server.network.clone(), world.client.network.clone());
    let kept = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&kept);
    world.executor.spawn(async move {
        let ours = client.bind_async(None, Some((SERVER, 53).into())).await.unwrap();
        ours.send_to_async(b"anybody?", (SERVER, 53).into()).await.unwrap();
        let mut buffer = vec![0; 2000];
        let refused = ours.receive_async(&mut buffer).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let theirs = server.bind_async(Some(53), None).await.unwrap();
        let taken = server.bind_async(Some(53), None).await.unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        let other = ours.send_to_async(b"x", (SERVER, 54).into()).await.unwrap_err();
        assert_eq!(other.kind(), ErrorKind::InvalidInput);
        // More than either side holds; nobody reads meanwhile.
        for number in 0..200u8 {
            ours.send_to_async(&[number; 1000], (SERVER, 53).into()).await.unwrap();
        }
        *keep.borrow_mut() = Some((ours, theirs));
    });
    world.run(Duration::from_secs(60));
    world.left(Duration::from_secs(1));
    let (ours, theirs) = kept.borrow_mut().take().unwrap();
    let kept = 200 - theirs.dropped();
    assert_eq!(kept, 20_000 / 1064, "what has room");
    world.executor.spawn(async move {
        let mut buffer = vec![0; 2000];
        for number in 0..kept as u8 {
            let (len, from) = theirs.receive_async(&mut buffer).await.unwrap();
            assert_eq!((len, from.port(), buffer[999]), (1000, ours.socket().port(), number));
        }
        theirs.send_to_async(b"", (CLIENT, ours.socket().port()).into()).await.unwrap();
        assert_eq!(ours.receive_async(&mut buffer).await.unwrap(), (0, (SERVER, 53).into()));
    });
    world.run(Duration::from_secs(1));
}

/// Whoever waits when the network ends is told so.
#[test]
fn the_end_of_a_network_is_told() {
    let mut world = World::new(wire::Config::default(), 5, limits(1000, 1000));
    let (server, client) = (world.server.network.clone(), world.client.network.clone());
    let results = Rc::new(RefCell::new(Vec::new()));
    let waiting = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&waiting);
    world.executor.spawn(async move {
        let listener = server.listen_async(PORT).await.unwrap();
        let ours = client.connect_async((SERVER, PORT).into()).await.unwrap();
        let (theirs, _) = listener.accept_async().await.unwrap();
        *keep.borrow_mut() = Some((ours, theirs, listener, client, server));
    });
    world.run(Duration::from_secs(1));
    let (mut ours, mut theirs, listener, client, server) = waiting.borrow_mut().take().unwrap();
    let mut udp = {
        let server = server.clone();
        Box::pin(async move { server.bind_async(None, None).await })
    };
    let noop = Waker::noop();
    assert!(udp.as_mut().poll(&mut Context::from_waker(noop)).is_pending());
    let push = |results: &Rc<RefCell<Vec<ErrorKind>>>, error: std::io::Error| {
        results.borrow_mut().push(error.kind());
    };
    let all = Rc::clone(&results);
    world.executor.spawn(async move { push(&all, ours.read(&mut [0; 1]).await.unwrap_err()) });
    let all = Rc::clone(&results);
    world.executor.spawn(async move { push(&all, theirs.read(&mut [0; 1]).await.unwrap_err()) });
    let all = Rc::clone(&results);
    world.executor.spawn(async move { push(&all, listener.accept_async().await.unwrap_err()) });
    let all = Rc::clone(&results);
    world.executor.spawn(async move { push(&all, udp.await.map(drop).unwrap_err()) });
    let all = Rc::clone(&results);
    world.executor.spawn(async move {
        let remote = (SERVER, PORT).into();
        push(&all, client.connect_async(remote).await.map(drop).unwrap_err());
    });
    world.executor.turn();
    let World { client: a, server: b, mut executor, .. } = world;
    drop((a.sockets, b.sockets));
    while executor.turn() {}
    assert!(executor.tasks.is_empty(), "{} still wait", executor.tasks.len());
    assert_eq!(*results.borrow(), [ErrorKind::NotConnected; 5]);
    executor.spawn(async move {
        let error = server.listen_async(PORT + 1).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
    });
    while executor.turn() {}
    assert!(executor.tasks.is_empty());
}

/// A ready answer is had at once: nothing is waited for that is there.
#[test]
fn what_is_there_is_ready() {
    let mut world = World::new(wire::Config::default(), 6, limits(1000, 1000));
    let (server, client) = (world.server.network.clone(), world.client.network.clone());
    world.executor.spawn(async move {
        let listener = server.listen_async(PORT).await.unwrap();
        let mut ours = client.connect_async((SERVER, PORT).into()).await.unwrap();
        let (mut theirs, _) = listener.accept_async().await.unwrap();
        ours.write_all(b"abc").await.unwrap();
        let mut one = [0; 1];
        theirs.read_exact(&mut one).await.unwrap();
        let mut rest = [0; 8];
        let mut read = Box::pin(theirs.read(&mut rest));
        let Poll::Ready(read) = read.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("two bytes are here");
        };
        assert_eq!(read.unwrap(), 2);
    });
    world.run(Duration::from_secs(1));
}

/// One connection that is open, from a client to a server, and the listener.
fn open_pair(world: &mut World) -> (TcpStream, TcpListener) {
    let (server, client) = (world.server.network.clone(), world.client.network.clone());
    let kept = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&kept);
    world.executor.spawn(async move {
        let listener = server.listen_async(PORT).await.unwrap();
        let ours = client.connect_async((SERVER, PORT).into()).await.unwrap();
        *keep.borrow_mut() = Some((ours, listener));
    });
    world.run(Duration::from_secs(1));
    kept.borrow_mut().take().unwrap()
}

/// Buffers below a segment, and far more bytes than a window that nobody keeps would let through; nothing
/// that is sent finds no room, and nobody waits for a timer each time.
#[test]
fn windows_below_a_segment() {
    for receive in [300, 700, 1400, 2000, 5000] {
        let mut world = World::new(wire::Config::default(), 9, limits(receive, 4000));
        let (ours, listener) = open_pair(&mut world);
        world.executor.spawn(write_all(ours, 1, 210_000, Random::new(1)));
        world.executor.spawn(async move {
            let (theirs, _) = listener.accept_async().await.unwrap();
            assert_eq!(read_all(theirs, 1, Random::new(2)).await, 210_000);
        });
        world.run(Duration::from_secs(120));
        let stats = world.client.stack.stats();
        assert_eq!(stats.payload_retransmitted, 0, "with {receive} bytes");
    }
}

/// Who is not accepted has little kept, whatever the limits say; who is read gets more, and all together no
/// more than is said.
#[test]
fn a_window_grows_by_what_is_read() {
    let first = 65_536;
    for grown in [0, 100_000, 1 << 28] {
        let mut given = limits(1 << 20, 1 << 20);
        given.grown_bytes = grown;
        let mut world = World::new(wire::Config::default(), 10, given);
        let (mut ours, listener) = open_pair(&mut world);
        let mut writer = ours.clone();
        world.executor.spawn(async move { writer.write_all(&vec![1; 1 << 20]).await.unwrap() });
        world.run(Duration::from_secs(1));
        world.left(Duration::from_secs(10));
        let once = |world: &World| {
            let stats = world.client.stack.stats();
            stats.payload_out - stats.payload_retransmitted
        };
        let sent = once(&world);
        assert!((60_000..=first).contains(&sent), "{sent} bytes for nobody");
        let kept = Rc::new(RefCell::new(None));
        let keep = Rc::clone(&kept);
        world.executor.spawn(async move {
            let (mut theirs, _) = listener.accept_async().await.unwrap();
            theirs.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
            *keep.borrow_mut() = Some((theirs, listener));
        });
        world.run(Duration::from_secs(60));
        let before = once(&world);
        world.executor.spawn(async move {
            ours.write_all(&vec![1; 1 << 20]).await.unwrap();
            std::future::pending::<()>().await;
        });
        world.executor.turn();
        world.left(Duration::from_secs(10));
        let sent = once(&world) - before;
        let most = (first + grown as u64).min(1 << 20);
        assert!(sent <= most && sent >= most.min(200_000) - 5000, "{sent} of {most} bytes");
    }
}

/// A future that is dropped leaves the port free, whenever that is.
#[test]
fn a_port_that_nobody_waits_for_is_free() {
    for steps in 0..3 {
        let mut world = World::new(wire::Config::default(), 11, limits(1000, 1000));
        let network = world.server.network.clone();
        let mut listen = Box::pin(network.listen_async(PORT));
        let mut bind = Box::pin(network.bind_async(Some(PORT), None));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(listen.as_mut().poll(&mut cx).is_pending());
        assert!(bind.as_mut().poll(&mut cx).is_pending());
        (0..steps).for_each(|_| world.server.step(world.now));
        drop((listen, bind));
        world.executor.spawn(async move {
            network.listen_async(PORT).await.unwrap();
            network.bind_async(Some(PORT), None).await.unwrap();
        });
        world.run(Duration::from_secs(1));
    }
}
