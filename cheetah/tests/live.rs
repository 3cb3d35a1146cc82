//! Bodies that grow while they are sent: sources that have less than they are asked for, and wake later, on
//! the kernel's sockets and by our own TCP.

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cheetah::live::{self, SendError, Sender};
use cheetah::server::{Config, Server};
use cheetah::store::{Found, Growing, Store};
use fsstack::cache::BlockReader;
use netstack::stack::Features;
use runtime::buffer::{Shared, Slice};
use runtime::stats::work::Quantity;
use support::secured::{self, Certificate, Client};
use support::servers::{connect, connect_narrow, on_device, on_kernel, tap};
use support::{in_namespace, read_response};

/// A site, and at `/live` whatever the test sends.
#[derive(Debug)]
struct Source {
    senders: Mutex<mpsc::Sender<Sender>>,
}

#[derive(Debug)]
struct Site(Arc<Source>);

impl Growing for Source {
    fn content_type(&self) -> &str {
        "text/plain"
    }

    fn open(&self) -> live::Receiver {
        let (sender, receiver) = live::channel(100_000);
        self.senders.lock().unwrap().send(sender).unwrap();
        receiver
    }
}

impl Store for Site {
    fn look_up(&self, path: &[u8], _reader: &BlockReader) -> Found {
        if path == b"/live" { Found::Growing(self.0.clone()) } else { support::site().find(path) }
    }
}

fn source() -> (Arc<Site>, Receiver<Sender>) {
    let (senders, opened) = mpsc::channel();
    (Arc::new(Site(Arc::new(Source { senders: Mutex::new(senders) }))), opened)
}

fn slice(bytes: &[u8]) -> Slice {
    Slice::from(Shared::from(bytes.to_vec()))
}

/// Sends all of `bytes` in pieces of many sizes, waiting where the peer is behind.
fn send_all(sender: &Sender, mut bytes: &[u8]) {
    for size in [1, 10, 3000, 70_000, 1, 20_000].into_iter().cycle() {
        let piece = &bytes[..bytes.len().min(size)];
        while sender.send(slice(piece)) == Err(SendError::Full) {
            std::thread::sleep(Duration::from_millis(1));
        }
        bytes = &bytes[piece.len()..];
        if bytes.is_empty() {
            return;
        }
        if size == 10 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Takes chunks (RFC 9112 section 7.1) off the front of what follows; the whole body, if its end is there.
fn unchunk(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|window| window == b"\r\n")?;
        let len = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        let chunk = bytes.get(line + 2..)?;
        body.extend_from_slice(chunk.get(..len)?);
        bytes = chunk.get(len..)?.strip_prefix(b"\r\n")?;
        if len == 0 {
            return Some((body, bytes));
        }
    }
}

/// Reads until `done` is content with it; the rest of the time it is asked again.
fn read_until<T>(stream: &mut impl Read, all: &mut Vec<u8>, done: impl Fn(&[u8]) -> Option<T>) -> T {
    let mut chunk = vec![0; 65_536];
    loop {
        if let Some(result) = done(all) {
            return result;
        }
        let n = stream.read(&mut chunk).unwrap();
        assert!(n > 0, "ended early: {:?}", String::from_utf8_lossy(all));
        all.extend_from_slice(&chunk[..n]);
    }
}

fn head_of(all: &[u8]) -> Option<usize> {
    Some(all.windows(4).position(|window| window == b"\r\n\r\n")? + 4)
}

fn chunks_come_as_they_are_made(addr: SocketAddr, opened: &Receiver<Sender>) {
    let contents = support::noise(3_000_000);
    let mut stream = connect(addr);
    // The next request is there already, and is answered behind it.
    stream
        .write_all(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\nGET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let sender = opened.recv_timeout(Duration::from_secs(10)).unwrap();
    let mut all = Vec::new();
    let head = read_until(&mut stream, &mut all, head_of);
    let text = String::from_utf8(all[..head].to_vec()).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("\r\nTransfer-Encoding: chunked\r\n"),
        "{text}"
    );
    assert!(!text.contains("Content-Length"), "{text}");
    // Each piece arrives before there is another.
    for i in 0..20u8 {
        let began = Instant::now();
        sender.send(slice(&[i; 5])).unwrap();
        let len = head + usize::from(i + 1) * (3 + 5 + 2);
        read_until(&mut stream, &mut all, |all| (all.len() >= len).then_some(()));
        assert!(began.elapsed() < Duration::from_secs(2), "it was not woken");
    }
    let expected: Vec<u8> = (0..20u8).flat_map(|i| [i; 5]).chain(contents.iter().copied()).collect();
    let (body, rest) = std::thread::scope(|scope| {
        scope.spawn(|| {
            send_all(&sender, &contents);
            sender.finish();
        });
        read_until(&mut stream, &mut all, |all| {
            let (body, rest) = unchunk(&all[head..])?;
            rest.ends_with(b"hello, world\n").then(|| (body, rest.to_vec()))
        })
    });
    assert!(body == expected);
    assert!(rest.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

fn an_old_client_gets_it_until_the_end(addr: SocketAddr, opened: &Receiver<Sender>) {
    let contents = support::noise(300_000);
    let mut stream = connect(addr);
    stream.write_all(b"GET /live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();
    let sender = opened.recv_timeout(Duration::from_secs(10)).unwrap();
    let sent = contents.clone();
    let thread = std::thread::spawn(move || {
        send_all(&sender, &sent);
        sender.finish();
    });
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    thread.join().unwrap();
    let head = head_of(&all).unwrap();
    assert!(String::from_utf8_lossy(&all[..head]).contains("\r\nConnection: close\r\n"));
    assert!(all[head..] == contents);
}

fn a_broken_body_is_not_taken_for_a_whole_one(addr: SocketAddr, opened: &Receiver<Sender>) {
    let mut stream = connect(addr);
    stream.write_all(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let sender = opened.recv_timeout(Duration::from_secs(10)).unwrap();
    sender.send(slice(b"half")).unwrap();
    let mut all = Vec::new();
    read_until(&mut stream, &mut all, |all| all.ends_with(b"half\r\n").then_some(()));
    drop(sender);
    let _ = stream.read_to_end(&mut all);
    assert!(all.ends_with(b"half\r\n"), "no last chunk");
}

fn who_takes_nothing_holds_up_the_source(addr: SocketAddr, opened: &Receiver<Sender>) {
    let mut stream = connect_narrow(addr);
    stream.write_all(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let sender = opened.recv_timeout(Duration::from_secs(10)).unwrap();
    let piece = slice(&[7; 50_000]);
    let (mut sent, mut full_since) = (0, Instant::now());
    while full_since.elapsed() < Duration::from_millis(300) {
        match sender.send(piece.clone()) {
            Ok(()) => (sent, full_since) = (sent + piece.len(), Instant::now()),
            Err(SendError::Full) => std::thread::sleep(Duration::from_millis(1)),
            Err(SendError::Gone) => panic!("it reads on"),
        }
        assert!(sent < 64 << 20, "nothing bounds it");
    }
    drop(stream);
    let patience = Instant::now() + Duration::from_secs(20);
    while !sender.is_gone() {
        let _ = sender.send(slice(b"x"));
        assert!(Instant::now() < patience, "the peer is gone, and nobody tells the source");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn all(server: Server, opened: &Receiver<Sender>) {
    let addr = server.addr();
    chunks_come_as_they_are_made(addr, opened);
    an_old_client_gets_it_until_the_end(addr, opened);
    a_broken_body_is_not_taken_for_a_whole_one(addr, opened);
    who_takes_nothing_holds_up_the_source(addr, opened);
    let mut stream = connect(addr);
    stream.write_all(b"HEAD /live HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream, true).field("transfer-encoding"), Some("chunked"));
    drop(stream);
    let stats = server.shut_down().unwrap();
    assert_eq!(stats.connections, stats.closed);
}

#[test]
fn on_the_kernels_sockets() {
    let (store, opened) = source();
    all(on_kernel(store, &Config::default()), &opened);
}

#[test]
fn by_our_own_tcp() {
    in_namespace(|| {
        for offload in [true, false] {
            let (store, opened) = source();
            let features = Features { offload, ..Features::default() };
            let options = cheetah::transport::device::DeviceOptions { offload, ..tap() };
            let Some(server) = on_device(store, &options, features) else { return };
            all(server, &opened);
        }
    });
}

#[test]
fn the_program_streams_its_counters() {
    use support::program::Program;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "x").unwrap();
    let serving = Program::start(&[dir.path().to_str().unwrap(), "--status", "/status", "--workers", "2"]);
    let mut stream = connect(serving.addr.parse().unwrap());
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut all = Vec::new();
    let events = |all: &[u8]| String::from_utf8_lossy(all).matches("data: {").count();
    read_until(&mut stream, &mut all, |all| (events(all) == 1).then_some(()));
    for _ in 0..5 {
        assert_eq!(serving.get("/a").0, 200);
    }
    read_until(&mut stream, &mut all, |all| (events(all) == 3).then_some(()));
    let text = String::from_utf8_lossy(&all).into_owned();
    let event = text.rsplit("data: ").next().unwrap().lines().next().unwrap();
    let report: serde_json::Value = serde_json::from_str(event).unwrap();
    assert_eq!(report["responses"]["200"], 6, "{report}");
    // The end of the server is the end of the stream, as it should be.
    let ended = std::thread::spawn(move || serving.end());
    let head = head_of(&all).unwrap();
    read_until(&mut stream, &mut all, |all| unchunk(&all[head..]).map(drop));
    drop(stream);
    assert_eq!(ended.join().unwrap(), Some(0));
}

/// What may lie in memory that somebody can write to is sealed once, not again for what is lost; files are.
#[test]
fn a_growing_body_is_sealed_once() {
    in_namespace(|| {
        let (site, opened) = source();
        let certificate = Certificate::new(&["localhost"]);
        let mut options = tap();
        options.faults = Some("drop=3%,seed=3".parse().unwrap());
        let acceptor = certificate.acceptor();
        let own_records = acceptor.own_records;
        let server = secured::on_device_of(site, acceptor, &options, Features::default());
        let Some(server) = server else { return };
        let mut stream = Client::new(&certificate.der, None).connect(&server);
        let contents = support::noise(1_000_003);
        for _ in 0..2 {
            stream.write_all(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert!(read_response(&mut stream, false).body == contents);
            stream.write_all(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            stream.flush().unwrap();
            let bytes = contents.clone();
            let sender = opened.recv().unwrap();
            let sending = std::thread::spawn(move || {
                send_all(&sender, &bytes);
                sender.finish();
            });
            let mut all = Vec::new();
            let head = read_until(&mut stream, &mut all, head_of);
            let body = read_until(&mut stream, &mut all, |all| Some(unchunk(&all[head..])?.0));
            assert!(body == contents);
            sending.join().unwrap();
        }
        drop(stream);
        let work = server.finish().unwrap().work;
        if own_records {
            // Files once into the frame, and again if it was lost; bodies that grow into a record, then into
            // frames.
            let (copied, sealed) = (work[Quantity::BytesCopied], work[Quantity::BytesSealed]);
            assert!(copied > sealed * 14 / 10 && copied < sealed * 16 / 10, "{copied} of {sealed}");
        }
    });
}
