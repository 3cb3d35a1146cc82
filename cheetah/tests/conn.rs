//! The connection's state machine, without a socket: what it answers, in which order, within which bounds and
//! times.

mod support;

use std::sync::Arc;
use std::time::Duration;

use cheetah::conn::Conn;
use cheetah::hosts::{Host, Hosts};
use cheetah::service::{Options, Service};
use cheetah::site::Site;
use cheetah::store::Found;
use cheetah::store::{Copied, Store};
use proptest::prelude::*;
use runtime::payload::{PayloadSource, Pieces};
use runtime::time::Instant;
use support::{CASES, Case, hello_etag, split_response};

const NOW_UNIX: u64 = 1_700_000_000;

fn service() -> Service {
    service_of(support::site())
}

fn service_of(site: Arc<Site>) -> Service {
    let mut service = Service::new(site, Options::default());
    service.set_time(Instant::from_millis(1000), NOW_UNIX);
    service
}

/// The bytes `[from, from + len)` of what the connection has to send.
fn part(conn: &Conn, from: u64, len: usize) -> Vec<u8> {
    let mut pieces = Pieces::new();
    conn.pieces(from, len, &mut pieces);
    assert!(pieces.iter().all(|piece| !piece.bytes.is_empty()));
    let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes).copied().collect();
    assert_eq!(bytes.len(), len);
    bytes
}

/// All that the connection has to send and was not acknowledged.
fn outstanding(conn: &Conn) -> Vec<u8> {
    let from = conn.acknowledged_end();
    part(conn, from, (conn.end() - from) as usize)
}

/// Takes everything, as often as more comes of it.
fn take_all(conn: &mut Conn, service: &mut Service) -> Vec<u8> {
    let mut all = Vec::new();
    while conn.end() > conn.acknowledged_end() {
        all.extend(outstanding(conn));
        conn.acknowledged(conn.end());
        conn.resume(service);
    }
    all
}

fn answer(request: &[u8]) -> Vec<u8> {
    let mut service = service();
    let mut conn = Conn::new(&mut service, None);
    assert_eq!(conn.on_bytes(&mut service, request), request.len());
    take_all(&mut conn, &mut service)
}

#[test]
fn every_case_whole() {
    let etag = hello_etag();
    for case in CASES {
        let mut service = service();
        let mut conn = Conn::new(&mut service, None);
        conn.on_bytes(&mut service, &case.bytes(&etag));
        let sent = take_all(&mut conn, &mut service);
        let (response, rest) = split_response(&sent, case.is_head()).expect(case.request);
        assert!(rest.is_empty(), "{}", case.request);
        case.check(&response, &etag);
        assert_eq!(conn.is_finished(), case.closes, "{}", case.request);
        assert_eq!(service.stats.total_responses(), 1);
        assert_eq!(service.stats.bytes, sent.len() as u64, "{}", case.request);
    }
}

/// Switching a specialisation off changes no byte, wherever requests are cut.
#[test]
fn every_case_with_specialisations_off() {
    let etag = hello_etag();
    let all: Vec<u8> = CASES.iter().filter(|case| !case.closes).flat_map(|case| case.bytes(&etag)).collect();
    let sent = |store: Arc<dyn Store>, options: Options, cut: usize| {
        let mut service = Service::new(store, options);
        service.set_time(Instant::from_millis(1000), NOW_UNIX);
        let mut conn = Conn::new(&mut service, None);
        let (mut sent, mut rest) = (Vec::<u8>::new(), &all[..]);
        while !rest.is_empty() {
            let taken = conn.on_bytes(&mut service, &rest[..cut.min(rest.len())]);
            rest = &rest[taken..];
            // As much as is at hand, which of copied files is not all.
            while conn.end() > conn.acknowledged_end() {
                let mut pieces = Pieces::new();
                let given = conn.pieces(conn.acknowledged_end(), usize::MAX, &mut pieces);
                sent.extend(pieces.iter().flat_map(|piece| piece.bytes));
                drop(pieces);
                assert!(given > 0);
                conn.acknowledged(conn.acknowledged_end() + given as u64);
                conn.resume(&mut service);
            }
        }
        sent
    };
    let expected = sent(support::site(), Options::default(), all.len());
    assert!(expected.len() > 100_000);
    for options in [
        Options { precomputed_headers: false, ..Options::default() },
        Options { date_cache: false, ..Options::default() },
        Options { in_place_parse: false, ..Options::default() },
        Options {
            precomputed_headers: false,
            date_cache: false,
            in_place_parse: false,
            ..Options::default()
        },
    ] {
        for cut in [all.len(), 1, 40, 333] {
            assert!(sent(support::site(), options, cut) == expected, "{options:?}, {cut} bytes at once");
            let copied = Arc::new(Copied::new(support::site()));
            assert!(sent(copied, options, cut) == expected, "{options:?}, {cut} bytes at once, copied");
        }
    }
}

#[test]
fn every_case_byte_by_byte() {
    let etag = hello_etag();
    for case in CASES {
        let request = case.bytes(&etag);
        let mut service = service();
        let mut conn = Conn::new(&mut service, None);
        for byte in &request {
            assert_eq!(conn.on_bytes(&mut service, std::slice::from_ref(byte)), 1);
        }
        assert_eq!(take_all(&mut conn, &mut service), answer(&request), "{}", case.request);
    }
}

#[test]
fn heads_written_anew_are_the_same_as_the_ready_ones() {
    let etag = hello_etag();
    for case in CASES {
        let request = case.bytes(&etag);
        let mut service = service();
        service.options.precomputed_headers = false;
        let mut conn = Conn::new(&mut service, None);
        conn.on_bytes(&mut service, &request);
        assert_eq!(take_all(&mut conn, &mut service), answer(&request), "{}", case.request);
    }
}

/// Requests that keep the connection, and the answer to all of them.
fn pipelined(etag: &str, which: &[usize]) -> (Vec<u8>, Vec<u8>) {
    let cases: Vec<&Case> =
        CASES.iter().filter(|case| !case.closes && !case.request.contains("/big.bin")).collect();
    let (mut requests, mut answers) = (Vec::new(), Vec::new());
    for &i in which {
        let request = cases[i % cases.len()].bytes(etag);
        answers.extend(answer(&request));
        requests.extend(request);
    }
    (requests, answers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However requests are cut and answers acknowledged, the stream is the same; and any part of it that is
    /// not acknowledged can be had again.
    #[test]
    fn pipelining_torn_and_acknowledged_anyhow(
        which in proptest::collection::vec(0usize..1000, 1..80),
        cuts in proptest::collection::vec(1usize..400, 1..50),
        acks in proptest::collection::vec(0u64..3000, 1..50),
    ) {
        let etag = hello_etag();
        let (requests, expected) = pipelined(&etag, &which);
        let mut service = service();
        let mut conn = Conn::new(&mut service, None);
        let (mut fed, mut cuts, mut acks) = (0, cuts.iter().cycle(), acks.iter().cycle());
        while conn.acknowledged_end() < expected.len() as u64 {
            let room = conn.window(&service);
            let end = (fed + room.min(*cuts.next().unwrap())).min(requests.len());
            prop_assert_eq!(conn.on_bytes(&mut service, &requests[fed..end]), end - fed);
            fed = end;
            let from = conn.acknowledged_end();
            let sent = outstanding(&conn);
            prop_assert!(expected[from as usize..].starts_with(&sent));
            // Any part again, as a retransmission would ask for it.
            let (skip, len) = (sent.len() / 3, sent.len() / 2);
            prop_assert_eq!(&part(&conn, from + skip as u64, len)[..], &sent[skip..skip + len]);
            conn.acknowledged((from + acks.next().unwrap() + 1).min(conn.end()));
            conn.resume(&mut service);
        }
        prop_assert_eq!(conn.end(), expected.len() as u64);
        prop_assert!(!conn.is_finished());
    }

    #[test]
    fn nonsense_is_refused_or_waited_for(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..20)
    ) {
        let mut service = service();
        let mut conn = Conn::new(&mut service, None);
        for chunk in &chunks {
            conn.on_bytes(&mut service, chunk);
        }
        let sent = take_all(&mut conn, &mut service);
        prop_assert!(sent.is_empty() || (sent.starts_with(b"HTTP/1.1 4") || sent.starts_with(b"HTTP/1.1 5")));
        prop_assert_eq!(conn.is_finished(), !sent.is_empty());
    }

    /// Requests with random damage: always whole responses, never a panic.
    #[test]
    fn damaged_requests(which: usize, at: usize, byte: u8, cut: usize) {
        let etag = hello_etag();
        let mut request = CASES[which % CASES.len()].bytes(&etag);
        let len = request.len();
        request[at % len] = byte;
        request.truncate(1 + cut % len);
        let sent = answer(&request);
        prop_assert!(sent.is_empty() || sent.starts_with(b"HTTP/1.1 "));
    }
}

#[test]
fn a_thousand_pipelined_requests_are_bounded_and_all_answered() {
    let mut service = service();
    let mut conn = Conn::new(&mut service, None);
    let request = b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    let all = request.repeat(1000);
    let one = answer(request);
    let mut fed = 0;
    // Until it asks for no more.
    while conn.window(&service) > 0 {
        fed += conn.on_bytes(&mut service, &all[fed..fed + 500]);
    }
    assert!(fed < all.len());
    assert_eq!(conn.end(), (one.len() * service.options.max_queued) as u64);
    // A transport that delivers more all the same, because its window was announced before, is taken from
    // within bounds.
    let taken = conn.on_bytes(&mut service, &all[fed..]);
    assert!(taken <= service.options.max_input);
    fed += taken;
    let mut sent = Vec::new();
    while sent.len() < one.len() * 1000 {
        sent.extend(outstanding(&conn));
        conn.acknowledged(conn.end());
        conn.resume(&mut service);
        let end = (fed + conn.window(&service)).min(all.len());
        fed += conn.on_bytes(&mut service, &all[fed..end]);
    }
    assert!(sent == one.repeat(1000));
}

#[test]
fn the_peers_end_lets_answers_go_out_first() {
    let mut service = service();
    let mut conn = Conn::new(&mut service, None);
    let request = b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut all = request.repeat(100);
    all.extend_from_slice(b"GET /hel");
    assert_eq!(conn.on_bytes(&mut service, &all), all.len());
    conn.on_end(&mut service);
    assert!(!conn.is_finished(), "requests still wait for room");
    assert!(take_all(&mut conn, &mut service) == answer(request).repeat(100));
    assert!(conn.is_finished() && !conn.lingers());
}

fn at(service: &mut Service, ms: u64) {
    service.set_time(Instant::from_millis(ms), NOW_UNIX + ms / 1000);
}

#[test]
fn an_idle_connection_ends_quietly() {
    let mut service = service();
    let mut conn = Conn::new(&mut service, None);
    let deadline = conn.deadline(&service).unwrap();
    assert_eq!(deadline, Instant::from_millis(1000) + service.options.timeouts.idle);
    at(&mut service, deadline.as_millis() - 1);
    assert!(!conn.on_timeout(&mut service));
    at(&mut service, deadline.as_millis());
    assert!(conn.on_timeout(&mut service));
    assert!(conn.is_finished() && conn.end() == 0 && !conn.is_aborted());
    assert_eq!(service.stats.timed_out, 1);
}

#[test]
fn a_head_that_drips_is_cut_off_however_steadily_it_drips() {
    let mut service = service();
    let mut conn = Conn::new(&mut service, None);
    let mut dripped = 0;
    conn.on_bytes(&mut service, b"GET / HTTP/1.1\r\n");
    for second in 2.. {
        at(&mut service, second * 1000);
        if conn.on_timeout(&mut service) {
            break;
        }
        conn.on_bytes(&mut service, b"X: y\r\n");
        dripped += 1;
        assert!(dripped < 1000);
    }
    assert_eq!(Duration::from_secs(dripped + 1), service.options.timeouts.head);
    let sent = take_all(&mut conn, &mut service);
    assert!(sent.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&sent));
    assert!(conn.is_finished() && conn.lingers());
    // It neither closes nor stops sending: then it is cut.
    let deadline = conn.deadline(&service).unwrap();
    at(&mut service, deadline.as_millis());
    assert!(conn.on_timeout(&mut service));
    assert!(conn.is_aborted());
}

#[test]
fn blank_lines_do_not_keep_a_connection_alive() {
    let mut service = service();
    let mut conn = Conn::new(&mut service, None);
    let deadline = conn.deadline(&service);
    at(&mut service, 2000);
    assert_eq!(conn.on_bytes(&mut service, &b"\r\n".repeat(20_000)), 40_000);
    assert_eq!(conn.deadline(&service), deadline);
    assert_eq!(conn.end(), 0);
}

#[test]
fn a_peer_that_takes_nothing_is_cut_and_one_that_takes_little_is_not() {
    let mut service = service();
    let mut conn = Conn::new(&mut service, None);
    conn.on_bytes(&mut service, b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    let send_ms = service.options.timeouts.send.as_millis() as u64;
    let mut now = 1000;
    for step in 1..10 {
        now += send_ms - 1;
        at(&mut service, now);
        assert!(!conn.on_timeout(&mut service));
        conn.acknowledged(step);
        conn.resume(&mut service);
    }
    at(&mut service, now + send_ms);
    assert!(conn.on_timeout(&mut service));
    assert!(conn.is_aborted());
}

#[test]
fn after_a_refusal_only_so_much_is_thrown_away() {
    let mut service = service();
    let mut conn = Conn::new(&mut service, None);
    conn.on_bytes(&mut service, b"GET / HTTP/1.1\r\n\r\n");
    assert!(conn.is_finished());
    let mut thrown_away = 0;
    while !conn.is_aborted() {
        thrown_away += conn.on_bytes(&mut service, &[b'x'; 10_000]);
        assert!(thrown_away < 10_000_000);
    }
}

/// What comes in chunks is dropped and the next request found; where the end cannot be found there is no next
/// request.
#[test]
fn content_in_chunks_ends_where_it_says_or_ends_the_connection() {
    let head = "POST /hello.txt HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let next = "GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    let large = format!("{:x}\r\n{}\r\n", 30_000, "x".repeat(30_000));
    for (content, answers) in [
        ("0\r\n\r\n".to_owned(), 2),
        (format!("{large}{large}0\r\n\r\n"), 2),
        // More than 64 KiB is not read for the sake of what follows.
        (format!("{large}{large}{large}0\r\n\r\n"), 1),
        ("5\r\nhello!\r\n0\r\n\r\n".to_owned(), 1),
        ("5\nhello\n0\n\n".to_owned(), 1),
    ] {
        let mut service = service();
        let mut conn = Conn::new(&mut service, None);
        let all = format!("{head}{content}{next}");
        for part in all.as_bytes().chunks(10_000) {
            assert_eq!(conn.on_bytes(&mut service, part), part.len());
        }
        let sent = take_all(&mut conn, &mut service);
        let (first, rest) = split_response(&sent, false).unwrap();
        assert!(first.head.starts_with("HTTP/1.1 405 "), "{}", first.head);
        assert_eq!(service.stats.total_responses(), answers, "{:?}", &content[..content.len().min(20)]);
        assert_eq!((rest.is_empty(), conn.is_finished()), (answers == 1, answers == 1));
        assert!(!conn.is_aborted());
    }
}

#[test]
fn a_peer_that_never_takes_the_end_is_cut() {
    // All responses are acknowledged, but a shut window keeps the end of the stream from going out.
    let mut service = service();
    let mut conn = Conn::new(&mut service, None);
    conn.on_bytes(&mut service, b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n");
    conn.on_end(&mut service);
    take_all(&mut conn, &mut service);
    assert!(conn.is_finished() && !conn.lingers());
    let deadline = conn.deadline(&service).expect("a bound on the end, too");
    assert_eq!(deadline, Instant::from_millis(1000) + service.options.timeouts.send);
    at(&mut service, deadline.as_millis());
    assert!(conn.on_timeout(&mut service));
    assert!(conn.is_aborted());
}

#[test]
fn draining() {
    let mut service = service();
    let mut idle = Conn::new(&mut service, None);
    let mut busy = Conn::new(&mut service, None);
    let mut torn = Conn::new(&mut service, None);
    busy.on_bytes(&mut service, b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    torn.on_bytes(&mut service, b"GET /hello.txt HT");
    service.draining = true;
    for conn in [&mut idle, &mut busy, &mut torn] {
        conn.drain();
    }
    assert!(idle.is_finished() && idle.end() == 0);
    assert!(!torn.is_finished());
    torn.on_bytes(&mut service, b"TP/1.1\r\nHost: a\r\n\r\n");
    let sent = take_all(&mut torn, &mut service);
    assert!(String::from_utf8_lossy(&sent).contains("\r\nConnection: close\r\n"));
    assert!(torn.is_finished() && torn.lingers(), "a next request may be on its way");
    let sent = take_all(&mut busy, &mut service);
    assert!(split_response(&sent, false).unwrap().0.body == support::noise(1_000_003));
    assert!(busy.is_finished(), "nothing more to wait for");
}

#[test]
fn a_replaced_site_serves_the_next_request_and_not_the_current_one() {
    // A site of its own, so that the count of its users is right.
    let mut service = service_of(Arc::new(support::site_of(support::files())));
    let mut conn = Conn::new(&mut service, None);
    let request = b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    conn.on_bytes(&mut service, request);
    let Found::File(file) = service.site.find(b"/hello.txt") else { panic!() };
    let old = Arc::downgrade(&file);
    drop(file);
    let fresh = Arc::new(support::site_of(&[("hello.txt", b"new".to_vec())]));
    service.take_up(Arc::new(Hosts::one(Host::new(fresh)))).unwrap();
    assert!(old.upgrade().is_some());
    conn.on_bytes(&mut service, request);
    let sent = take_all(&mut conn, &mut service);
    let (first, rest) = split_response(&sent, false).unwrap();
    let (second, _) = split_response(rest, false).unwrap();
    assert_eq!((&first.body[..], &second.body[..]), (&b"hello, world\n"[..], &b"new"[..]));
    assert!(old.upgrade().is_none(), "nobody needs the old file any more");
}

#[test]
fn a_recycled_connection_is_as_good_as_new() {
    let mut service = service();
    let mut conn = Conn::new(&mut service, None);
    conn.on_bytes(&mut service, b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\nGET /big.bin HTTP/1.1\r\nHo");
    conn.acknowledged(10);
    conn.retire(&mut service);
    conn.reset(&mut service, None);
    let request = b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    conn.on_bytes(&mut service, request);
    assert_eq!(take_all(&mut conn, &mut service), answer(request));
}
