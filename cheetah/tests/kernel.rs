//! The server on the kernel's sockets, over raw sockets: every case, torn requests, many connections,
//! replaced sites, draining.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cheetah::server::{Config, Server};
use cheetah::service::Timeouts;
use cheetah::store::Store;
use cheetah::transport::kernel::SocketCalls;
use runtime::stats::work::Quantity;
use support::gated::Gated;
use support::{CASES, hello_etag, read_response, split_response};

fn server(calls: SocketCalls) -> Server {
    server_with(&config(calls), 1)
}

fn config(calls: SocketCalls) -> Config {
    Config { calls, ..Config::default() }
}

/// Each of these once by epoll, and once by io_uring where there is some.
macro_rules! both_ways {
    ($($name:ident)*) => {
        mod by_epoll {
            $(#[test] fn $name() { super::$name(super::SocketCalls::Epoll) })*
        }
        mod by_io_uring {
            $(#[test] fn $name() {
                match super::SocketCalls::probe() {
                    Ok(()) => super::$name(super::SocketCalls::Uring),
                    Err(error) => eprintln!("skipped: there is no io_uring ({error})"),
                }
            })*
        }
    };
}

both_ways! {
    every_case
    every_case_torn
    pipelined_requests_are_answered_in_order
    a_slow_reader_gets_everything
    random_bytes_are_refused_and_the_server_lives_on
    an_answer_to_a_refused_upload_is_seen
    two_thousand_connections_at_once
    workers_share_a_port
    a_replaced_site_is_taken_up_without_dropping_a_connection
    draining_finishes_what_was_begun
    who_has_asked_before_draining_is_answered
    who_is_slow_or_idle_is_closed_on_time
    connections_beyond_the_bound_wait_for_one_to_end
    urgent_data_holds_no_request_up
    a_request_in_parts_is_acknowledged
    who_has_ended_is_not_looked_at_again
    who_reads_nothing_is_not_read_without_end
    the_end_of_a_connection_costs_no_segment_of_its_own
}

fn server_with(config: &Config, workers: usize) -> Server {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Server::on_kernel(support::site(), any, workers, config).unwrap()
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn ends(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
}

fn every_case(calls: SocketCalls) {
    let (server, etag) = (server(calls), hello_etag());
    let mut kept = connect(&server);
    for case in CASES {
        kept.write_all(&case.bytes(&etag)).unwrap();
        case.check(&read_response(&mut kept, case.is_head()), &etag);
        if case.closes {
            kept.shutdown(Shutdown::Write).unwrap();
            assert!(ends(&mut kept), "{}", case.request);
            kept = connect(&server);
        }
    }
    drop(kept);
    let stats = server.shut_down().unwrap();
    assert_eq!(stats.total_responses(), CASES.len() as u64);
    assert_eq!(stats.connections, stats.closed);
}

fn every_case_torn(calls: SocketCalls) {
    let (server, etag) = (server(calls), hello_etag());
    for case in CASES.iter().filter(|case| case.request.len() < 90) {
        let mut stream = connect(&server);
        let request = case.bytes(&etag);
        for chunk in request.chunks(7) {
            // A refusal may come before all of the request is sent.
            if stream.write_all(chunk).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        case.check(&read_response(&mut stream, case.is_head()), &etag);
    }
}

fn pipelined_requests_are_answered_in_order(calls: SocketCalls) {
    let server = server(calls);
    let mut stream = connect(&server);
    let count = 2000;
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        for i in 0..count {
            let path = if i % 100 == 7 { "big.bin" } else { "hello.txt" };
            write!(writer, "GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    sender.join().unwrap();
    let mut rest = &all[..];
    for i in 0..count {
        let (response, after) = split_response(rest, false).unwrap();
        let expected: usize = if i % 100 == 7 { 1_000_003 } else { 13 };
        assert_eq!((response.status, response.body.len()), (200, expected), "{i}");
        rest = after;
    }
    assert!(rest.is_empty());
}

fn a_slow_reader_gets_everything(calls: SocketCalls) {
    let server = server(calls);
    let mut stream = connect(&server);
    stream.write_all(b"GET /big.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = Vec::new();
    let mut chunk = [0; 30_000];
    loop {
        let n = stream.read(&mut chunk).unwrap();
        if n == 0 {
            break;
        }
        all.extend_from_slice(&chunk[..n]);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(split_response(&all, false).unwrap().0.body == support::noise(1_000_003));
}

fn random_bytes_are_refused_and_the_server_lives_on(calls: SocketCalls) {
    let server = server(calls);
    let noise = support::noise(200_000);
    for (i, chunk) in noise.chunks(1000).enumerate() {
        let mut stream = connect(&server);
        // The answer may come, and the connection end, while we still write.
        let _ = stream.write_all(chunk);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let sane =
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.1 5");
        assert!(sane, "{i}: {:?}", String::from_utf8_lossy(&answer));
    }
    let mut stream = connect(&server);
    stream.write_all(b"GET /hello.txt HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream, false).body, b"hello, world\n");
}

fn an_answer_to_a_refused_upload_is_seen(calls: SocketCalls) {
    let server = server(calls);
    for _ in 0..20 {
        let mut stream = connect(&server);
        let head = b"POST /hello.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 150000\r\n\r\n";
        stream.write_all(head).unwrap();
        // More than was said to be skipped, less than what is thrown away: without lingering this is a reset.
        stream.write_all(&[b'x'; 150_000]).unwrap();
        assert_eq!(read_response(&mut stream, false).status, 405);
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(ends(&mut stream));
    }
}

fn two_thousand_connections_at_once(calls: SocketCalls) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted);
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    if allowed < 4500 {
        eprintln!("skipped: only {allowed} descriptors are allowed");
        return;
    }
    let server = server(calls);
    let mut streams: Vec<TcpStream> = (0..2000).map(|_| connect(&server)).collect();
    for round in 0..2 {
        for stream in &mut streams {
            stream.write_all(b"GET /noindex/file.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        }
        for (i, stream) in streams.iter_mut().enumerate() {
            assert_eq!(read_response(stream, false).body.len(), 3000, "{i} in round {round}");
        }
    }
    drop(streams);
    let stats = server.shut_down().unwrap();
    assert_eq!((stats.connections, stats.total_responses()), (2000, 4000));
}

fn workers_share_a_port(calls: SocketCalls) {
    let server = server_with(&config(calls), 3);
    for _ in 0..60 {
        let mut stream = connect(&server);
        stream.write_all(b"GET /hello.txt HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!(read_response(&mut stream, false).body, b"hello, world\n");
    }
    assert_eq!(server.shut_down().unwrap().total_responses(), 60);
}

fn a_replaced_site_is_taken_up_without_dropping_a_connection(calls: SocketCalls) {
    let server = server(calls);
    let mut kept = connect(&server);
    kept.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut kept, false).body, b"hello, world\n");
    // One response is under way while the site changes.
    let mut slow = connect(&server);
    slow.write_all(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    slow.read_exact(&mut [0; 100]).unwrap();
    server.replace_site(Arc::new(support::site_of(&[("hello.txt", b"new\n".to_vec())])));
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        kept.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let body = read_response(&mut kept, false).body;
        if body == b"new\n" {
            break;
        }
        assert!(Instant::now() < patience, "{body:?}");
    }
    slow.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(&support::noise(1_000_003)[900_000..]));
}

fn draining_finishes_what_was_begun(calls: SocketCalls) {
    let server = server(calls);
    let addr = server.addr();
    // It has asked once: who has not may not have been taken yet, and is not told.
    let mut idle = connect(&server);
    idle.write_all(b"HEAD /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut idle, true).status, 200);
    let mut busy = connect(&server);
    busy.write_all(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    busy.read_exact(&mut [0; 100]).unwrap();
    let mut torn = connect(&server);
    torn.write_all(b"GET /hello.txt HT").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let draining = std::thread::spawn(move || server.shut_down().unwrap());
    assert!(ends(&mut idle));
    assert!(TcpStream::connect(addr).is_err(), "still listening");
    torn.write_all(b"TP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let response = read_response(&mut torn, false);
    assert_eq!(response.field("connection"), Some("close"));
    let mut rest = Vec::new();
    busy.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(&support::noise(1_000_003)[900_000..]));
    assert_eq!(draining.join().unwrap().total_responses(), 3);
}

/// Also who has not been taken yet, or only just.
fn who_has_asked_before_draining_is_answered(calls: SocketCalls) {
    let store = Gated::new(support::site());
    let mut config = config(calls);
    config.http.deferred_accept = false;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::on_kernel(Arc::clone(&store) as Arc<dyn Store>, any, 1, &config).unwrap();
    let gate = store.shut();
    let mut holder = connect(&server);
    holder.write_all(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    store.until_held();
    // The loop finds them all at once, with the order to drain.
    let mut streams: Vec<TcpStream> = (0..20).map(|_| connect(&server)).collect();
    for stream in &mut streams {
        stream.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    let draining = std::thread::spawn(move || server.shut_down().unwrap());
    std::thread::sleep(Duration::from_millis(200));
    drop(gate);
    assert_eq!(read_response(&mut holder, false).status, 404);
    for stream in &mut streams {
        assert_eq!(read_response(stream, false).status, 200);
        assert!(ends(stream));
    }
    drop(holder);
    assert_eq!(draining.join().unwrap().total_responses(), 21);
}

#[test]
fn an_address_in_use_is_an_error() {
    let server = server(SocketCalls::Epoll);
    let error = Server::on_kernel(support::site(), server.addr(), 1, &Config::default()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

fn who_is_slow_or_idle_is_closed_on_time(calls: SocketCalls) {
    let mut config = config(calls);
    let ms = Duration::from_millis;
    config.http.timeouts = Timeouts { idle: ms(2000), head: ms(300), send: ms(600), linger: ms(100) };
    // Who asks nothing would be taken, and its time begin, a second later.
    config.http.deferred_accept = false;
    let server = server_with(&config, 1);
    let began = Instant::now();
    let (mut idle, mut torn, mut stuck) = (connect(&server), connect(&server), connect(&server));
    // The deadline of a head is nearer than the one that was set when the connection came.
    torn.write_all(b"GET /hello.txt HT").unwrap();
    // More than fits the buffers of both ends, and nobody reads.
    for _ in 0..30 {
        stuck.write_all(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    assert_eq!(read_response(&mut torn, false).status, 408);
    let took = began.elapsed();
    assert!(took >= ms(300) && took < ms(2000), "a torn head: {took:?}");
    assert!(ends(&mut idle));
    let took = began.elapsed();
    assert!(took >= ms(2000), "an idle connection: {took:?}");
    // Asking again puts the end off.
    let mut asking = connect(&server);
    for _ in 0..6 {
        std::thread::sleep(ms(400));
        asking.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(read_response(&mut asking, false).status, 200);
    }
    // What nobody took is not left to the kernel: a reset, and not the rest and a FIN once somebody reads.
    let mut chunk = vec![0; 1 << 16];
    let end = loop {
        match stuck.read(&mut chunk) {
            Ok(0) => break None,
            Ok(_) => {}
            Err(error) => break Some(error.kind()),
        }
    };
    assert_eq!(end, Some(std::io::ErrorKind::ConnectionReset));
    drop((asking, stuck));
    let stats = server.shut_down().unwrap();
    // The torn head once more: its peer saw the refusal and never closed.
    assert_eq!(stats.timed_out, 4);
}

fn connections_beyond_the_bound_wait_for_one_to_end(calls: SocketCalls) {
    let mut config = config(calls);
    config.http.max_connections = 2;
    let server = server_with(&config, 1);
    let hello = b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut open = [connect(&server), connect(&server)];
    for stream in &mut open {
        stream.write_all(hello).unwrap();
        assert_eq!(read_response(stream, false).status, 200);
    }
    let mut waiting = connect(&server);
    waiting.write_all(hello).unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    let error = waiting.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    // Taken as soon as there is room, not only when the loop looks again: at least once of some times.
    waiting.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut open = std::collections::VecDeque::from(open);
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        drop(open.pop_front());
        let began = Instant::now();
        assert_eq!(read_response(&mut waiting, false).status, 200);
        fastest = fastest.min(began.elapsed());
        open.push_back(std::mem::replace(&mut waiting, connect(&server)));
        waiting.write_all(hello).unwrap();
    }
    assert!(fastest < Duration::from_millis(300), "taken only by looking again");
    drop((open, waiting));
    server.shut_down().unwrap();
}

/// A read ends where urgent data does, short as it may be; what lies behind it raises no event of its own.
fn urgent_data_holds_no_request_up(calls: SocketCalls) {
    use rustix::net::{SendFlags, send};
    for deferred_accept in [true, false] {
        let mut config = config(calls);
        config.http.deferred_accept = deferred_accept;
        let server = server_with(&config, 1);
        // Nothing is read before the second part is there, and the mark between the two.
        for wait in [Duration::ZERO, Duration::from_millis(1)] {
            for _ in 0..20 {
                let mut stream = connect(&server);
                for round in 0..2 {
                    assert_eq!(send(&stream, b"GET /hello.txt HTTP/1.1\r\nHo", SendFlags::OOB), Ok(27));
                    std::thread::sleep(wait);
                    stream.write_all(b"st: a\r\n\r\n").unwrap();
                    assert_eq!(read_response(&mut stream, false).status, 200, "{round}");
                }
            }
        }
    }
}

/// Accept, receive, send, close, and a wait for many: nothing is registered that has not to be waited for.
#[test]
fn a_connection_of_one_request_costs_four_calls() {
    let calls = |deferred_accept: bool| {
        let mut config = config(SocketCalls::Epoll);
        config.http.deferred_accept = deferred_accept;
        let server = server_with(&config, 1);
        const CONNECTIONS: u64 = 200;
        for _ in 0..CONNECTIONS {
            let mut stream = connect(&server);
            stream.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            assert!(all.ends_with(b"\r\n\r\nhello, world\n"));
        }
        let work = server.report().work;
        assert_eq!(server.shut_down().unwrap().total_responses(), CONNECTIONS);
        work.calls() - work[Quantity::CallsToWait] - CONNECTIONS * 4
    };
    // One after another each costs a look whether there are more as well, and there are those at the start.
    let (deferred, at_once) = (calls(true), calls(false));
    assert!(deferred <= 200 + 10, "{deferred}");
    assert!(at_once >= 2 * 200, "{at_once}");
}

/// What comes of a request in parts is acknowledged, for the rest may wait for that (Nagle's algorithm): a
/// tenth of the time that Linux would hold the acknowledgement back is far more than it takes.
fn a_request_in_parts_is_acknowledged(calls: SocketCalls) {
    let server = server(calls);
    let mut fastest = Duration::MAX;
    for _ in 0..20 {
        let mut stream = connect(&server);
        stream.set_nodelay(false).unwrap();
        let began = Instant::now();
        stream.write_all(b"GET /hello.txt HTTP/1.1\r\n").unwrap();
        stream.write_all(b"Host: a\r\n\r\n").unwrap();
        assert_eq!(read_response(&mut stream, false).status, 200);
        fastest = fastest.min(began.elapsed());
    }
    assert!(fastest < Duration::from_millis(20), "{fastest:?}");
}

/// A peer that has said its last word, but takes its answer slowly, wakes no loop by that.
fn who_has_ended_is_not_looked_at_again(calls: SocketCalls) {
    let server = server(calls);
    let mut stream = connect(&server);
    for _ in 0..30 {
        stream.write_all(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let before = server.report().work;
    std::thread::sleep(Duration::from_millis(500));
    let done = server.report().work.since(&before);
    assert!(done.calls() < 20, "{} calls", done.calls());
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert!(all.len() > 30 * 1_000_003 && all.ends_with(&support::noise(1_000_003)[900_000..]));
}

/// Who asks and asks, and takes nothing: what is read of it is bounded, and is answered in the end.
fn who_reads_nothing_is_not_read_without_end(calls: SocketCalls) {
    let server = server(calls);
    let stream = connect(&server);
    let mut writer = stream.try_clone().unwrap();
    const ASKED: usize = 20_000;
    let sender = std::thread::spawn(move || {
        let request = b"GET /noindex/file.bin HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
        (0..ASKED / 100).for_each(|_| writer.write_all(&request).unwrap());
        writer.shutdown(Shutdown::Write).unwrap();
    });
    std::thread::sleep(Duration::from_millis(300));
    let before = server.report();
    // Of two megabytes of requests some are in buffers of the kernel's; those that are answered fill its
    // other buffers.
    assert!(before.stats.total_responses() < ASKED as u64, "{before}");
    std::thread::sleep(Duration::from_millis(300));
    let done = server.report().work.since(&before.work);
    assert!(done.calls() < 20, "{} calls", done.calls());
    // Others are served meanwhile.
    let mut other = connect(&server);
    other.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut other, false).body, b"hello, world\n");
    let mut all = Vec::new();
    (&stream).read_to_end(&mut all).unwrap();
    sender.join().unwrap();
    let mut rest = &all[..];
    for i in 0..ASKED {
        let (response, after) = split_response(rest, false).unwrap();
        assert_eq!((response.status, response.body.len()), (200, 3000), "{i}");
        rest = after;
    }
    assert!(rest.is_empty());
}

/// The FIN rides on the last data, the body on the head, the acknowledgement of the request on its answer:
/// counted by the kernel, in a namespace where nothing else is sent. Switched off, each costs a segment, and
/// every byte is the same.
fn the_end_of_a_connection_costs_no_segment_of_its_own(calls: SocketCalls) {
    let count = || -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let column = lines.next().unwrap().split(' ').position(|name| name == "OutSegs").unwrap();
        lines.next().unwrap().split(' ').nth(column).unwrap().parse().unwrap()
    };
    const CONNECTIONS: u64 = 100;
    let exchange = move |config: &Config| {
        let server = server_with(config, 1);
        let before = count();
        for _ in 0..CONNECTIONS {
            let mut stream = connect(&server);
            stream.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            assert!(all.ends_with(b"\r\n\r\nhello, world\n"));
        }
        count() - before
    };
    let test = move || {
        let mut config = config(calls);
        let segments = exchange(&config);
        // SYN, SYN and ACK, ACK; request; response with FIN; its ACK, or with the FIN in one; FIN, its ACK.
        assert!(segments <= 8 * CONNECTIONS + 20, "{segments} segments for {CONNECTIONS} connections");
        config.http.pcb_pool = false;
        config.http.packet_merging = false;
        let apart = exchange(&config);
        assert!(apart > segments + CONNECTIONS * 3 / 2, "{apart} with FIN and ACK apart, {segments}");
        config.http.header_merging = false;
        let all_apart = exchange(&config);
        assert!(all_apart > apart + CONNECTIONS / 2, "{all_apart} with head and body apart, too, {apart}");
    };
    support::in_namespace(test);
}
