//! HTTP/2 as a state machine, without a socket: the same answers as by HTTP/1.1, in any cut of the bytes,
//! within windows, by priorities, and no more of anything than is allowed.

mod support;

use std::sync::Arc;
use std::time::Duration;

use cheetah::channel::Channel;
use cheetah::conn::Conn;
use cheetah::http2::{ErrorCode, PREFACE};
use cheetah::service::Options;
use cheetah::store::Copied;
use proptest::prelude::*;
use runtime::payload::{PayloadSource, Pieces};
use support::http2::*;
use support::http2_pair::*;
use support::{CASES, Case, files, hello_etag, split_response};

fn file(name: &str) -> &'static [u8] {
    &files().iter().find(|(other, _)| *other == name).unwrap().1
}

/// Fields and content of a request.
type Asked = (Vec<(String, String)>, Option<Vec<u8>>);

/// A request of HTTP/1.1 as HTTP/2 has it, if it has the like.
fn as_fields(case: &Case, etag: &str) -> Option<Asked> {
    let text = case.request.replace("$ETAG", etag);
    let (head, content) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let line: Vec<&str> = lines.next()?.split(' ').collect();
    let [method, path, "HTTP/1.1"] = line[..] else { return None };
    let mut fields = vec![
        (":method".to_owned(), method.to_owned()),
        (":scheme".to_owned(), "http".to_owned()),
        (":path".to_owned(), path.to_owned()),
    ];
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let name = name.to_ascii_lowercase();
        let is_other = ["connection", "transfer-encoding", "expect"].contains(&&name[..]);
        if is_other || name.contains(' ') {
            return None;
        }
        fields.push((name, value.trim().to_owned()));
    }
    // Of a length that does not come there is nothing like it.
    let length = fields.iter().find(|(name, _)| name == "content-length");
    if length.is_some_and(|(_, length)| length.parse() != Ok(content.len())) && !content.is_empty() {
        return None;
    }
    if length.is_some_and(|(_, length)| length != "0") && content.is_empty() {
        return None;
    }
    let is_path = path.starts_with('/') || (path == "*" && method == "OPTIONS");
    (is_path && !path.is_empty())
        .then(|| (fields, (!content.is_empty()).then(|| content.as_bytes().to_vec())))
}

fn by_http1(request: &[u8], to_head: bool) -> Option<support::Response> {
    let mut service = service();
    let mut conn = Conn::new(&mut service, None);
    conn.on_bytes(&mut service, request);
    let mut all = Vec::new();
    while conn.end() > conn.acknowledged_end() {
        let mut pieces = Pieces::new();
        conn.pieces(conn.acknowledged_end(), usize::MAX, &mut pieces);
        all.extend(pieces.iter().flat_map(|piece| piece.bytes));
        drop(pieces);
        conn.acknowledged(all.len() as u64);
        conn.resume(&mut service);
    }
    split_response(&all, to_head).map(|(response, _)| response)
}

#[test]
fn answers_are_those_of_http_1() {
    let etag = hello_etag();
    for precomputed_headers in [true, false] {
        let mut compared = 0;
        for case in CASES {
            let Some((fields, content)) = as_fields(case, &etag) else { continue };
            let expected = by_http1(&case.bytes(&etag), case.is_head()).unwrap();
            let options = Options { precomputed_headers, ..Options::default() };
            let mut pair = Pair::with(service_with(options), &preface());
            let fields: Vec<(&str, &str)> =
                fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            let flags = END_HEADERS | if content.is_none() { END_STREAM } else { 0 };
            pair.say_only(&frame(HEADERS, flags, 1, &block(&fields)));
            if let Some(content) = content {
                pair.say_only(&frame(DATA, END_STREAM, 1, &content));
            }
            pair.take_all();
            let answer = pair.answer(1);
            if answer.reset == Some(1) {
                // What is malformed is told otherwise.
                assert_eq!(expected.status, 400, "{}", case.request);
                continue;
            }
            assert_eq!(answer.status(), expected.status, "{}", case.request);
            assert!(answer.is_whole, "{}", case.request);
            assert!(answer.body == expected.body, "{}", case.request);
            let lines = expected.head.lines().skip(1).filter_map(|line| line.split_once(": "));
            let lines = lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
            let lines: Vec<_> = lines.filter(|(name, _)| name != "connection").collect();
            assert_eq!(answer.fields[1..], lines, "{}", case.request);
            compared += 1;
            assert_eq!(pair.service.stats.total_responses(), 1);
        }
        assert!(compared > 40, "{compared}");
    }
}

/// Requests of several kinds, on one connection.
fn conversation() -> Vec<u8> {
    [
        preface(),
        get(1, "/hello.txt"),
        frame(PING, 0, 0, b"12345678"),
        request(3, "HEAD", "/big.bin", &[("accept-encoding", "gzip")], None),
        frame(HEADERS, 0, 5, &block(&fields("POST", "/hello.txt", &[]))[..7]),
        frame(CONTINUATION, END_HEADERS, 5, &block(&fields("POST", "/hello.txt", &[]))[7..]),
        frame(DATA, PADDED, 5, b"\x03some content\0\0\0"),
        frame(DATA, END_STREAM | PADDED, 5, b"\x02more\0\0"),
        frame(0x77, 0x55, 9, b"unknown"),
        frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x09u=1"),
        request(7, "GET", "/noindex/file.bin", &[("range", "bytes=10-19")], None),
        get(9, "/big.bin"),
        get(11, "/nothing"),
    ]
    .concat()
}

fn check_conversation(pair: &Pair) {
    let reader = &pair.reader;
    assert!(reader.goaways.is_empty(), "{:?}", reader.goaways);
    let settings = reader.settings.as_ref().unwrap();
    assert_eq!((settings[&3], settings[&6], settings[&9]), (128, 16_384, 1));
    assert_eq!((reader.settings_acks, &reader.pongs[..]), (1, &[b"12345678".to_vec()][..]));
    let statuses: Vec<u16> = reader.answers.values().map(Answer::status).collect();
    assert_eq!(statuses, [200, 200, 405, 206, 200, 404]);
    assert!(reader.answers.values().all(|answer| answer.is_whole));
    assert_eq!(pair.answer(1).body, b"hello, world\n");
    assert_eq!(pair.answer(3).field("content-length"), Some("1000003"));
    assert!(pair.answer(3).body.is_empty());
    assert_eq!(pair.answer(7).body, file("noindex/file.bin")[10..20]);
    assert!(pair.answer(9).body == file("big.bin"));
    assert_eq!(pair.service.stats.http2.streams, 6);
}

#[test]
fn a_conversation() {
    let mut pair = Pair::with(service(), &[]);
    pair.say(&conversation());
    check_conversation(&pair);
}

#[test]
fn bytes_may_be_cut_anywhere() {
    let bytes = conversation();
    for cut in 1..bytes.len() {
        let mut pair = Pair::with(service(), &bytes[..cut]);
        pair.say(&bytes[cut..]);
        check_conversation(&pair);
    }
    let mut pair = Pair::with(service(), &[]);
    bytes.iter().for_each(|byte| pair.say_only(&[*byte]));
    pair.take_all();
    check_conversation(&pair);
}

/// What was asked for once is given the same again, in any part, whatever was queued since.
#[test]
fn bytes_stay_what_they_are_until_they_are_acknowledged() {
    for copied in [false, true] {
        let mut service = service();
        if copied {
            service.site = Arc::new(Copied::new(support::site()));
        }
        let mut pair = Pair::with(service, &[preface(), get(1, "/big.bin"), get(3, "/hello.txt")].concat());
        let mut stream = 5;
        pair.say_only(&get(stream, "/big.bin"));
        while pair.channel.end() > pair.channel.acknowledged_end() {
            let (from, end) = (pair.channel.acknowledged_end(), pair.channel.end());
            let mut pieces = Pieces::new();
            pair.channel.pieces(from, (end - from) as usize, &mut pieces);
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes).copied().collect();
            drop(pieces);
            if stream < 21 {
                stream += 2;
                pair.say_only(&request(stream, "GET", "/noindex/file.bin", &[("priority", "u=0")], None));
            }
            for (at, len) in [(0, 9), (1, 30), (8, 20_000), (all.len() / 2, 100), (all.len() - 1, 1)] {
                let len = len.min(all.len() - at);
                let mut pieces = Pieces::new();
                pair.channel.pieces(from + at as u64, len, &mut pieces);
                let part: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes).copied().collect();
                assert!(part == all[at..at + len], "{at} {len}");
            }
            pair.take_some(7001);
        }
        for stream in [1, 5] {
            assert!(pair.answer(stream).body == file("big.bin"));
        }
        for stream in (7..=21).step_by(2) {
            assert!(pair.answer(stream).is_whole && pair.answer(stream).body == file("noindex/file.bin"));
        }
    }
}

#[test]
fn no_more_is_sent_than_windows_allow() {
    // 65,535 bytes of the connection, 100 of each stream.
    let mut pair = Pair::with(service(), &[&PREFACE[..], &settings(&[(4, 100)])].concat());
    pair.say(&[get(1, "/big.bin"), get(3, "/noindex/file.bin")].concat());
    assert_eq!((pair.answer(1).body.len(), pair.answer(3).body.len()), (100, 100));
    pair.say(&window_update(1, 50));
    assert_eq!((pair.answer(1).body.len(), pair.answer(3).body.len()), (150, 100));
    // A new first window counts for streams that are there, too; one may be left with less than nothing.
    pair.say(&settings(&[(4, 40)]));
    pair.say(&window_update(3, 60));
    assert_eq!((pair.answer(1).body.len(), pair.answer(3).body.len()), (150, 100));
    pair.say(&window_update(3, 1));
    assert_eq!(pair.answer(3).body.len(), 101);
    pair.say(&settings(&[(4, 1_000_000)]));
    assert!(pair.answer(3).is_whole || pair.answer(1).body.len() > 60_000);
    let all = |pair: &Pair| pair.answer(1).body.len() + pair.answer(3).body.len();
    assert_eq!(all(&pair), 65_535);
    pair.say(&window_update(0, 1));
    assert_eq!(all(&pair), 65_536);
    pair.say(&[window_update(0, 2_000_000), window_update(1, 1000)].concat());
    assert!(pair.answer(1).body == file("big.bin") && pair.answer(3).body == file("noindex/file.bin"));
    assert!(pair.answer(1).is_whole && pair.answer(3).is_whole);
}

#[test]
fn what_is_urgent_goes_first() {
    let mut pair = Pair::new();
    pair.say_only(&get(1, "/big.bin"));
    pair.take_some(20_000);
    pair.say_only(&request(3, "GET", "/noindex/file.bin", &[("priority", "u=1")], None));
    pair.take_all();
    let at = pair.reader.order.iter().position(|stream| *stream == 3).unwrap();
    // Behind what was in frames already, and ahead of what was not.
    assert!(at <= 12 && pair.reader.order.len() > 50, "{at} of {}", pair.reader.order.len());
    // Two that share, and one that is told to be less urgent later.
    let mut pair = Pair::new();
    let incremental = [("priority", "i")];
    let three = [
        frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x05u=0, i"),
        request(1, "GET", "/big.bin", &incremental, None),
        request(3, "GET", "/big.bin", &incremental, None),
        request(5, "GET", "/big.bin", &[], None),
    ];
    pair.say_only(&three.concat());
    pair.take_some(150_000);
    pair.say_only(&frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x05u=7"));
    pair.take_all();
    let order = &pair.reader.order;
    let last = |stream: u32| order.iter().rposition(|other| *other == stream).unwrap();
    assert!(last(5) > last(1).max(last(3)), "{order:?}");
    let shared: Vec<u32> = order[20..80].iter().copied().filter(|stream| *stream != 5).collect();
    assert!(shared.windows(2).all(|pair| pair[0] != pair[1]), "they take turns: {shared:?}");
}

/// What is queued for a client that does not read is bounded, and so is its time.
#[test]
fn a_client_that_does_not_read() {
    let mut pair = Pair::new();
    let mut stream = 1;
    let mut told = 0;
    while pair.channel.window(&pair.service) > 0 && told < 100_000 {
        pair.say_only(&get(stream, "/empty"));
        stream += 2;
        told += 1;
    }
    assert!(told < 5000, "{told}");
    let bytes = pair.channel.end() - pair.channel.acknowledged_end();
    assert!(bytes < 1 << 20, "{bytes}");
    // Once it does, all goes on.
    pair.take_all();
    assert!(pair.channel.window(&pair.service) > 0);
    assert!((1..stream).step_by(2).all(|stream| pair.answer(stream).is_whole));
    // Of big files no more lies in frames than is of use.
    let mut pair = Pair::new();
    (0..50).for_each(|number| pair.say_only(&get(2 * number + 1, "/big.bin")));
    let bytes = pair.channel.end() - pair.channel.acknowledged_end();
    assert!(bytes < 256 << 10, "{bytes}");
    pair.set_time(Duration::from_secs(59));
    assert!(!pair.channel.on_timeout(&mut pair.service));
    pair.set_time(Duration::from_secs(61));
    assert!(pair.channel.on_timeout(&mut pair.service) && pair.channel.is_aborted());
    assert_eq!(pair.service.stats.timed_out, 1);
}

#[test]
fn a_client_that_gives_no_window() {
    let mut pair = Pair::with(service(), &[&PREFACE[..], &settings(&[(4, 10)])].concat());
    pair.say(&get(1, "/big.bin"));
    pair.set_time(Duration::from_secs(61));
    assert!(pair.channel.on_timeout(&mut pair.service));
    pair.take_all();
    assert_eq!(pair.code(), Some(ErrorCode::ENHANCE_YOUR_CALM));
    assert!(pair.channel.is_finished());
}

#[test]
fn times_of_a_connection() {
    // No preface.
    let mut pair = Pair::with(service(), &PREFACE[..10]);
    pair.set_time(Duration::from_secs(9));
    assert!(!pair.channel.on_timeout(&mut pair.service));
    pair.set_time(Duration::from_secs(11));
    assert!(pair.channel.on_timeout(&mut pair.service));
    // Idle: told, and over.
    let mut pair = Pair::new();
    pair.say(&get(1, "/hello.txt"));
    pair.set_time(Duration::from_secs(29));
    pair.say(&frame(PING, 0, 0, &[0; 8]));
    assert!(!pair.channel.on_timeout(&mut pair.service));
    pair.set_time(Duration::from_secs(62));
    assert!(pair.channel.on_timeout(&mut pair.service));
    pair.take_all();
    assert_eq!(pair.reader.goaways, [(1, 0)]);
    assert!(pair.channel.is_finished() && pair.channel.lingers());
    // A head that is not whole.
    let mut pair = Pair::new();
    pair.say(&frame(HEADERS, END_STREAM, 1, b""));
    pair.set_time(Duration::from_secs(11));
    assert!(pair.channel.on_timeout(&mut pair.service));
    pair.take_all();
    assert!(pair.channel.is_finished());
}

#[test]
fn a_server_that_goes_down_names_the_last_stream() {
    let mut pair = Pair::new();
    pair.say_only(&get(1, "/big.bin"));
    pair.take_some(30_000);
    pair.service.draining = true;
    pair.channel.drain(&mut pair.service);
    pair.take_all();
    // What is on its way is still answered, until the client has heard.
    assert_eq!(pair.reader.goaways, [((1 << 31) - 1, 0)]);
    pair.say(&get(3, "/hello.txt"));
    assert!(pair.answer(1).body == file("big.bin") && pair.answer(3).is_whole);
    assert!(!pair.channel.is_finished());
    let ping = pair.reader.pings[0].clone();
    pair.say(&[frame(PING, ACK, 0, &ping), get(5, "/hello.txt")].concat());
    assert_eq!(pair.reader.goaways.last(), Some(&(3, 0)));
    assert!(!pair.reader.answers.contains_key(&5));
    assert!(pair.channel.is_finished());
    // Who does not answer is not waited for without end.
    let mut pair = Pair::new();
    pair.service.draining = true;
    pair.channel.drain(&mut pair.service);
    pair.take_all();
    pair.set_time(Duration::from_secs(3));
    assert!(pair.channel.on_timeout(&mut pair.service));
    pair.take_all();
    assert!(pair.channel.is_finished());
}

#[test]
fn http_2_can_be_switched_off() {
    let mut service = service_with(Options { http2: false, ..Options::default() });
    let mut channel = Channel::new(&mut service, None, false);
    channel.on_bytes(&mut service, &preface());
    let mut pieces = Pieces::new();
    channel.pieces(0, 20, &mut pieces);
    assert!(pieces[0].bytes.starts_with(b"HTTP/1.1 505"));
}

/// Frames of a hostile client: mostly sound ones, in any order, some spoiled.
fn hostile(seed: &[u8]) -> Vec<u8> {
    let mut bytes = preface();
    let mut stream = 1_u32;
    for chunk in seed.chunks(4) {
        let &[what, a, b, c] = chunk else { break };
        let old = 2 * (u32::from(a) % (stream.div_ceil(2) + 1)) + 1;
        let more = match what % 16 {
            0..=3 => {
                stream += 2;
                get(stream, ["/big.bin", "/hello.txt", "/", "/x"][usize::from(b % 4)])
            }
            4 => {
                stream += 2;
                headers(0, stream, &fields("PUT", "/x", &[]))
            }
            5 => frame(DATA, b & 9, old, &vec![c; usize::from(b) * 8]),
            6 => frame(RST_STREAM, 0, old, &u32::from(b).to_be_bytes()),
            7 => window_update(old, u32::from(b) << (c % 24)),
            8 => window_update(0, u32::from(b)),
            9 => settings(&[(u16::from(b % 8), u32::from_be_bytes([0, a, b, c]))]),
            10 => frame(PING, b & 1, 0, &[c; 8]),
            11 => frame(PRIORITY_UPDATE, 0, 0, &[0, 0, 0, a | 1, b'u', b'=', b'0' + b % 8]),
            12 => frame(HEADERS, b, old, &[c; 20]),
            13 => frame(CONTINUATION, b, old, &[c; 20]),
            14 => vec![a, b, c],
            _ => frame(a, b, u32::from(c), &[b; 10]),
        };
        bytes.extend(more);
    }
    bytes
}

/// What a fuzzer calls: whatever comes, in whatever cut, nothing panics, and what is queued and kept is
/// bounded.
fn anything(seed: &[u8], cut: usize) {
    let mut pair = Pair::with(service(), &[]);
    for part in hostile(seed).chunks(cut.max(1)) {
        if pair.channel.window(&pair.service) > 0 && !pair.channel.is_aborted() {
            pair.say_only(part);
            pair.take_some(10_000);
        }
        let held = pair.channel.end() - pair.channel.acknowledged_end();
        assert!(held < 2 << 20, "{held}");
    }
    pair.take_all();
    pair.channel.on_end(&mut pair.service);
    pair.take_all();
    assert!(pair.channel.is_finished());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn hostile_clients(seed in proptest::collection::vec(any::<u8>(), 0..400), cut in 1usize..3000) {
        anything(&seed, cut);
    }

    #[test]
    fn nonsense(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut pair = Pair::new();
        pair.say(&bytes);
    }
}
