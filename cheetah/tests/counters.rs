//! What the documents say of bytes, copies and system calls, asserted by the counters of a running server, a
//! transport after the other. Our own TCP/IP needs root, or the tests say so.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cheetah::report::Report;
use cheetah::server::{Config, Server};
use cheetah::store::{Copied, Store};
use cheetah::transport::device::{DeviceOptions, Interface};
use cheetah::transport::kernel::SocketCalls;
use netstack::stack::Features;
use runtime::stats::work::Quantity;
use support::gated::Gated;
use support::servers::{self, connect};
use support::{in_namespace, read_response};

const FETCHES: u64 = 20;

fn on_kernel() -> Server {
    servers::on_kernel(support::site(), &Config::default())
}

/// Fetches a megabyte several times and gives what the server did for it.
fn fetch(server: Server) -> Report {
    let mut stream = connect(server.addr());
    for _ in 0..FETCHES {
        stream.write_all(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(read_response(&mut stream, false).body == support::noise(1_000_003));
    }
    drop(stream);
    let report = server.finish().unwrap();
    assert_eq!(report.stats.total_responses(), FETCHES);
    // All that was queued was sent, and hardly any of it twice.
    let sent = report.work[Quantity::BytesSent];
    assert!(sent >= report.stats.bytes && sent < report.stats.bytes * 11 / 10, "{report}");
    report
}

/// Bytes copied, summed, touched and handed over by address, each relative to those sent.
fn shares(report: &Report) -> [f64; 4] {
    use Quantity::{BytesCopied, BytesReferenced, BytesSummed, BytesTouched};
    let sent = report.work[Quantity::BytesSent] as f64;
    [BytesCopied, BytesSummed, BytesTouched, BytesReferenced]
        .map(|quantity| report.work[quantity] as f64 / sent)
}

/// Long bodies of an image in memory are copied by nobody on this side; heads are.
#[test]
fn the_kernels_sockets_send_long_bodies_from_where_they_lie() {
    let report = fetch(on_kernel());
    let by_reference = report.work[Quantity::BytesByReference];
    assert_eq!(by_reference, FETCHES * 1_000_003, "{report}");
    let heads = report.work[Quantity::BytesSent] - by_reference;
    assert_eq!(report.work[Quantity::BytesReferenced], heads);
    assert_shares(&report, [0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn the_kernels_sockets_get_addresses_and_we_touch_nothing() {
    let mut config = Config::default();
    config.http.zero_copy = false;
    let report = fetch(servers::on_kernel(support::site(), &config));
    assert_eq!(shares(&report), [0.0, 0.0, 0.0, 1.0], "{report}");
    assert_eq!(report.device, Default::default());
}

/// What the kernel refers to is what was asked for, also after the site was replaced by another and let go
/// of.
#[test]
fn what_goes_by_reference_outlives_its_site() {
    let server = on_kernel();
    let mut stream = connect(server.addr());
    stream.write_all(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    server.replace_site(Arc::new(support::site_of(&[("big.bin", vec![7; 1_000_003])])));
    std::thread::sleep(Duration::from_millis(50));
    let mut rest = Vec::new();
    while !rest.ends_with(&support::noise(1_000_003)[900_000..]) {
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0);
        rest.extend_from_slice(&buffer[..n]);
    }
    let body = rest.len() - 1_000_003;
    assert!(rest[body..] == support::noise(1_000_003)[..]);
    drop(stream);
    server.finish().unwrap();
}

#[test]
fn without_pinning_all_is_copied_once_by_us() {
    let store = Arc::new(Copied::new(support::site()));
    let report = fetch(servers::on_kernel(store, &Config::default()));
    assert_shares(&report, [1.0, 0.0, 1.0, 1.0]);
}

fn on_kernel_by(calls: SocketCalls) -> Server {
    servers::on_kernel(support::site(), &Config { calls, ..Config::default() })
}

#[test]
fn a_request_on_a_kept_connection_costs_three_calls() {
    let server = on_kernel_by(SocketCalls::Epoll);
    let mut stream = connect(server.addr());
    let mut ask = |times: u64| {
        for _ in 0..times {
            stream.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert_eq!(read_response(&mut stream, false).status, 200);
        }
        server.report().work
    };
    let before = ask(1);
    let done = ask(200).since(&before);
    // Wait, receive, send. The report itself costs a wait.
    assert!(done.calls() <= 3 * 200 + 2, "{} calls", done.calls());
    assert_eq!((done[Quantity::CallsToSend], done[Quantity::CallsToReceive]), (200, 200));
}

/// By io_uring what came needs no call; of requests that come together, all that is to be sent is one.
#[test]
fn requests_that_come_together_are_answered_together() {
    if let Err(error) = SocketCalls::probe() {
        eprintln!("skipped: there is no io_uring ({error})");
        return;
    }
    let store = Gated::new(support::site());
    let config = Config { calls: SocketCalls::Uring, ..Config::default() };
    let server = servers::on_kernel(Arc::clone(&store) as Arc<dyn Store>, &config);
    let mut holder = connect(server.addr());
    let mut streams: Vec<TcpStream> = (0..32).map(|_| connect(server.addr())).collect();
    let request = b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    // All are known, and wait.
    for stream in streams.iter_mut().chain([&mut holder]) {
        stream.write_all(request).unwrap();
        assert_eq!(read_response(stream, false).status, 200);
    }
    let before = server.report().work;
    // They ask while the loop is at work for another one.
    let gate = store.shut();
    holder.write_all(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    store.until_held();
    for stream in &mut streams {
        stream.write_all(request).unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    drop(gate);
    assert_eq!(read_response(&mut holder, false).status, 404);
    for stream in &mut streams {
        assert_eq!(read_response(stream, false).status, 200);
    }
    let done = server.report().work.since(&before);
    assert_eq!(done[Quantity::CallsToReceive], 0, "{} calls to receive", done[Quantity::CallsToReceive]);
    let [sends, waits] = [Quantity::CallsToSend, Quantity::CallsToWait].map(|quantity| done[quantity]);
    // One, and some more: the kernel may tell of no more than twenty at a time.
    assert!(sends <= 8 && waits <= 12, "{sends} calls to send, {waits} to wait");
    // One after the other they are at least as few as by epoll.
    let mut alone = streams.swap_remove(0);
    let before = server.report().work;
    for _ in 0..200 {
        alone.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(read_response(&mut alone, false).status, 200);
    }
    let done = server.report().work.since(&before);
    assert!(done.calls() <= 2 * 200 + 4, "{} calls", done.calls());
}

#[test]
fn connections_that_do_nothing_wake_no_loop() {
    let server = on_kernel();
    let idle: Vec<TcpStream> = (0..50).map(|_| connect(server.addr())).collect();
    // Taken and looked at.
    support::until("all are taken", || server.report().open == 50);
    let before = server.report().work;
    std::thread::sleep(Duration::from_secs(3));
    let done = server.report().work.since(&before);
    // The report, for which the ring and the loop are looked at, and the hands of the timer wheel as they
    // come near the half minute at which connections end.
    assert!(done[Quantity::CallsToWait] <= 4, "{} waits", done[Quantity::CallsToWait]);
    drop(idle);
}

#[test]
fn what_nobody_takes_is_held() {
    let server = on_kernel();
    let mut stream = connect(server.addr());
    for _ in 0..30 {
        stream.write_all(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    let patience = Instant::now() + Duration::from_secs(10);
    while server.report().held_bytes < 10_000_000 {
        assert!(Instant::now() < patience, "{}", server.report());
    }
    stream.read_exact(&mut [0; 100]).unwrap();
    drop(stream);
    assert_eq!(server.finish().unwrap().held_bytes, 0);
}

/// Serves by our own TCP/IP in a namespace of the test's own and gives what `fetch` does; `None`, told, where
/// there is no such device.
fn on_device(options: &DeviceOptions, offload: bool) -> Option<Report> {
    let features = Features { offload, stored_sums: false, cached_sums: false, ..Features::default() };
    on_device_with(options, features)
}

fn on_device_with(options: &DeviceOptions, features: Features) -> Option<Report> {
    servers::on_device(support::site(), options, features).map(fetch)
}

fn tap(offload: bool) -> DeviceOptions {
    DeviceOptions { offload, ..servers::tap() }
}

/// A ring on one end of a veth pair whose other end is the kernel's.
fn ring(offload: bool) -> Option<DeviceOptions> {
    servers::veth()?;
    Some(DeviceOptions { offload, ..DeviceOptions::new(Interface::Ring { name: "ours".into() }) })
}

fn assert_shares(report: &Report, expected: [f64; 4]) {
    for (found, expected) in shares(report).into_iter().zip(expected) {
        assert!((found - expected).abs() < 0.001, "{report}");
    }
}

#[test]
fn tap_with_offloads_touches_nothing() {
    in_namespace(|| {
        let Some(report) = on_device(&tap(true), true) else { return };
        assert_shares(&report, [0.0, 0.0, 0.0, 1.0]);
        // Super-segments: a megabyte is far fewer frames than it has segments.
        assert!(report.work[Quantity::FramesSent] < FETCHES * 300, "{report}");
    });
}

/// One on its own: stored sums leave the edges of 512-byte blocks to be read, remembered ones nothing but the
/// first time.
#[test]
fn tap_without_offloads_copies_nothing_that_has_a_sum() {
    in_namespace(|| {
        let features =
            Features { offload: false, stored_sums: true, cached_sums: false, ..Features::default() };
        let Some(report) = on_device_with(&tap(false), features) else { return };
        let [copied, summed, touched, referenced] = shares(&report);
        assert_eq!((copied, referenced, summed), (0.0, 1.0, touched), "{report}");
        assert!(summed > 0.2 && summed < 0.5, "{report}");
        let known = report.work[Quantity::BytesOfKnownSum] as f64 / report.work[Quantity::BytesSent] as f64;
        assert!((known + summed - 1.0).abs() < 1e-9, "{report}");
    });
}

#[test]
fn a_remembered_sum_is_not_made_again() {
    in_namespace(|| {
        let features =
            Features { offload: false, stored_sums: false, cached_sums: true, ..Features::default() };
        let Some(report) = on_device_with(&tap(false), features) else { return };
        let [copied, summed, touched, _] = shares(&report);
        assert_eq!(summed, touched, "{report}");
        // Each head has its own date, and no name: it is summed where it lies, or in the loop that copies its
        // segment.
        assert!(copied < 0.01 && summed < 0.2, "{report}");
    });
}

#[test]
fn tap_without_offloads_copies_once_and_touches_once() {
    in_namespace(|| {
        let Some(report) = on_device(&tap(false), false) else { return };
        assert_shares(&report, [1.0, 1.0, 1.0, 0.0]);
        // A call a frame.
        assert_eq!(report.work[Quantity::CallsToSend], report.work[Quantity::FramesSent]);
    });
}

#[test]
fn jumbo_frames_carry_six_times_as_much() {
    in_namespace(|| {
        let options = DeviceOptions {
            interface: Interface::Tap {
                name: None,
                host_addr: Some((servers::KERNELS, 24)),
                mtu: Some(9000),
            },
            ..tap(false)
        };
        let Some(report) = on_device(&options, false) else { return };
        assert_shares(&report, [1.0, 1.0, 1.0, 0.0]);
        // A megabyte is 112 segments of 8,948 bytes.
        assert!(report.work[Quantity::FramesSent] < FETCHES * 130, "{report}");
    });
}

#[test]
fn separate_passes_touch_twice() {
    in_namespace(|| {
        let Some(report) = on_device(&DeviceOptions { fused_loops: false, ..tap(false) }, false) else {
            return;
        };
        assert_shares(&report, [1.0, 1.0, 2.0, 0.0]);
    });
}

#[test]
fn a_ring_with_offloads_copies_once_and_sums_nothing() {
    in_namespace(|| {
        let Some(report) = ring(true).and_then(|options| on_device(&options, true)) else { return };
        assert_shares(&report, [1.0, 0.0, 1.0, 0.0]);
    });
}

#[test]
fn a_ring_without_offloads_copies_and_sums_in_one_touch() {
    in_namespace(|| {
        let Some(report) = ring(false).and_then(|options| on_device(&options, false)) else { return };
        assert_shares(&report, [1.0, 1.0, 1.0, 0.0]);
        // Bursts: fewer calls than frames.
        assert!(report.work[Quantity::CallsToSend] < report.work[Quantity::FramesSent], "{report}");
    });
}

#[test]
fn an_emulated_adapter_copies_once_more() {
    in_namespace(|| {
        let options = DeviceOptions { nic: Some("lance".into()), ..tap(false) };
        let Some(report) = on_device(&options, false) else { return };
        let [copied, summed, touched, referenced] = shares(&report);
        // Headers go through the loop, too, and the adapter reads its buffer back.
        assert!((2.0..2.15).contains(&copied) && touched == copied && referenced == 0.0, "{report}");
        assert!((1.0..1.1).contains(&summed), "{report}");
    });
}
