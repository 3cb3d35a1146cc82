//! What a connection costs in memory: idle, and after it has asked for something.

mod support;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cheetah::server::{Config, Server};
use netstack::stack::Features;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::secured::{self, Certificate, Client};
use support::servers::{connect, on_device, on_kernel, tap};
use support::{in_namespace, noise, read_response};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that are allocated now, by all threads.
fn allocated() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// Tables that double are nearly full with so many.
const CONNECTIONS: usize = 1000;

/// What a connection may own more when it has been served, and waits again.
const MORE_WHEN_SERVED: isize = 16;

/// What the first ones bring about is there for all.
const FIRST: usize = 10;

fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut response = [0; 1024];
    let mut len = 0;
    while !response[..len].ends_with(b"hello, world\n") {
        let n = stream.read(&mut response[len..]).unwrap();
        assert!(n > 0);
        len += n;
    }
}

/// Bytes a connection before its first request, and how many more after two of them.
fn cost(server: &Server) -> (isize, isize) {
    let mut streams: Vec<TcpStream> = Vec::with_capacity(FIRST + CONNECTIONS);
    streams.extend((0..FIRST).map(|_| connect(server.addr())));
    streams.iter_mut().for_each(ask);
    let settled = || {
        let patience = Instant::now() + Duration::from_secs(20);
        // All that was sent is acknowledged: held is nothing.
        while server.report().held_bytes > 0 {
            assert!(Instant::now() < patience);
            std::thread::sleep(Duration::from_millis(20));
        }
        allocated()
    };
    let before = settled();
    streams.extend((0..CONNECTIONS).map(|_| connect(server.addr())));
    support::until("all connections", || server.report().open == (FIRST + CONNECTIONS) as u64);
    let idle = settled();
    for _ in 0..2 {
        streams[FIRST..].iter_mut().for_each(ask);
    }
    let each = |bytes: isize| bytes / CONNECTIONS as isize;
    // What was in flight is given back when the timer for it comes.
    let patience = Instant::now() + Duration::from_secs(10);
    let mut served = settled();
    while each(served - idle) > MORE_WHEN_SERVED && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(20));
        served = settled();
    }
    (each(idle - before), each(served - idle))
}

/// Two that count at a time would count each other.
static ALONE: Mutex<()> = Mutex::new(());

/// Of what a secured connection has sent, or may send at once, no sealed byte is held on our own TCP/IP.
#[test]
fn megabytes_on_their_way_by_tls_take_little_memory() {
    let _alone = ALONE.lock();
    let held = in_flight(true);
    let Some((bytes, memory)) = held else { return };
    println!("{bytes} bytes on their way: {memory} bytes of memory");
    assert!(memory < 64 * 1024, "{bytes} bytes take {memory}");
    let Some((bytes, _)) = in_flight(false) else { return };
    assert!(bytes < 200_000, "what is held has to be little, so no more than {bytes} are on their way");
}

/// Of the 8 MB that are asked for; the client has room for one at most, and 4 MB are planned at once.
const MANY_BYTES: u64 = 3_000_000;

/// Bytes that a client does not take, and what memory they cost: many, when each goes into its frame at once.
fn in_flight(into_frames: bool) -> Option<(u64, isize)> {
    let measured = Arc::new(Mutex::new(None));
    let result = Arc::clone(&measured);
    in_namespace(move || {
        let certificate = Certificate::new(&["localhost"]);
        let mut acceptor = certificate.acceptor();
        acceptor.into_frames = into_frames;
        if !acceptor.own_records {
            return eprintln!("skipped: records are not ours on this processor");
        }
        let Some(server) = secured::on_device(acceptor, &tap(), Features::default()) else { return };
        // In this namespace: what the client's kernel finds out by itself depends on how busy the machine is.
        if std::fs::write("/proc/sys/net/ipv4/tcp_rmem", "4096 1048576 1048576").is_err() {
            server.shut_down().unwrap();
            return eprintln!("skipped: the client's memory cannot be set here");
        }
        let mut stream = Client::new(&certificate.der, None).connect(&server);
        let request = b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request).unwrap();
        assert!(read_response(&mut stream, false).body == noise(1_000_003));
        let settled = || {
            std::thread::sleep(Duration::from_millis(100));
            (server.report().held_bytes, allocated())
        };
        let (_, before) = settled();
        for _ in 0..8 {
            stream.write_all(request).unwrap();
        }
        let patience = Instant::now() + Duration::from_secs(20);
        // A pause is not yet the end.
        let least = if into_frames { MANY_BYTES } else { 1 };
        let (mut now, mut looks_alike) = (settled(), 0);
        while looks_alike < 5 || now.0 < least {
            assert!(Instant::now() < patience, "no more than {} bytes are on their way", now.0);
            let last = now;
            now = settled();
            looks_alike = if last.0 == now.0 { looks_alike + 1 } else { 0 };
        }
        *result.lock().unwrap() = Some((now.0, now.1 - before));
        drop(stream);
        server.shut_down().unwrap();
    });
    measured.lock().unwrap().take()
}

/// A connection after a request is no bigger than one before it, in either world; what the loop itself takes
/// with its first responses is a little more for all together.
#[test]
fn a_connection_that_was_served_owns_no_more_than_one_that_waits() {
    let _alone = ALONE.lock();
    in_namespace(|| {
        let server = on_kernel(support::site(), &Config::default());
        let (idle, more) = cost(&server);
        println!("kernel: {idle} bytes idle, {more} more after two requests");
        assert!(idle > 200, "nothing was measured");
        assert!(idle + more <= 500 && more <= MORE_WHEN_SERVED, "kernel: {idle} idle, {more} more served");
        server.shut_down().unwrap();
        let Some(server) = on_device(support::site(), &tap(), Features::default()) else { return };
        let (idle, more) = cost(&server);
        println!("own TCP: {idle} bytes idle, {more} more after two requests");
        assert!(idle <= 600 && more <= MORE_WHEN_SERVED, "own TCP: {idle} idle, {more} more served");
        server.shut_down().unwrap();
    });
}
