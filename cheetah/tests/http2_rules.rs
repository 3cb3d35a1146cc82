//! What HTTP/2 asks of clients, section by section, and what no client may have more of than is allowed.

mod support;

use std::time::Duration;

use cheetah::http::abuse::Abuse;
use cheetah::http2::{ErrorCode, PREFACE};
use runtime::payload::PayloadSource as _;
use support::http2::*;
use support::http2_pair::*;

/// The connection ends by an error of that code.
fn ends_by(code: ErrorCode, bytes: &[u8]) {
    let mut pair = Pair::new();
    pair.say(bytes);
    assert_eq!(pair.code(), Some(code), "{bytes:?}");
    assert!(pair.channel.is_finished());
    assert_eq!(pair.service.stats.http2.errors, 1);
    // Nothing is answered any more.
    pair.say(&get(101, "/hello.txt"));
    assert!(!pair.reader.answers.contains_key(&101));
}

/// The stream 1 ends by an error of that code, and others go on.
fn resets(code: ErrorCode, bytes: &[u8]) {
    let mut pair = Pair::new();
    pair.say(bytes);
    assert_eq!((pair.answer(1).reset, pair.code()), (Some(code.0), None), "{bytes:?}");
    pair.say(&get(101, "/hello.txt"));
    assert_eq!(pair.answer(101).status(), 200);
}

/// By the sections of RFC 9113.
#[test]
fn against_the_rules_of_connections() {
    use ErrorCode as Code;
    let open = headers(0, 1, &fields("POST", "/hello.txt", &[("expect", "x")]));
    let get1 = get(1, "/hello.txt");
    // 4.1, 4.2: lengths.
    ends_by(Code::FRAME_SIZE_ERROR, &frame(DATA, 0, 1, &[0; 16_385])[..9]);
    ends_by(Code::FRAME_SIZE_ERROR, &frame(SETTINGS, 0, 0, &[0; 3]));
    ends_by(Code::FRAME_SIZE_ERROR, &frame(SETTINGS, ACK, 0, &[0; 6]));
    ends_by(Code::FRAME_SIZE_ERROR, &frame(PING, 0, 0, &[0; 6]));
    ends_by(Code::FRAME_SIZE_ERROR, &frame(WINDOW_UPDATE, 0, 0, &[0; 3]));
    ends_by(Code::FRAME_SIZE_ERROR, &[&get1[..], &frame(RST_STREAM, 0, 1, &[0; 3])].concat());
    ends_by(Code::FRAME_SIZE_ERROR, &frame(GOAWAY, 0, 0, &[0; 7]));
    ends_by(Code::FRAME_SIZE_ERROR, &frame(PRIORITY_UPDATE, 0, 0, &[0; 3]));
    // 4.3: heads that cannot be decoded, or are interrupted.
    ends_by(Code::COMPRESSION_ERROR, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x80]));
    let half = frame(HEADERS, END_STREAM, 1, &block(&fields("GET", "/", &[])));
    ends_by(Code::PROTOCOL_ERROR, &[&half[..], &frame(PING, 0, 0, &[0; 8])].concat());
    ends_by(Code::PROTOCOL_ERROR, &[&half[..], &frame(CONTINUATION, END_HEADERS, 3, &[])].concat());
    ends_by(Code::PROTOCOL_ERROR, &[&half[..], &get(3, "/")].concat());
    // 5.1: streams that were not begun.
    for kind in [DATA, RST_STREAM, WINDOW_UPDATE] {
        ends_by(Code::PROTOCOL_ERROR, &frame(kind, 0, 1, &[0, 0, 0, 1]));
    }
    // 5.1.1: numbers.
    ends_by(Code::PROTOCOL_ERROR, &headers(END_STREAM, 2, &fields("GET", "/", &[])));
    ends_by(Code::PROTOCOL_ERROR, &[get(5, "/"), get(3, "/")].concat());
    // 6: frames of the connection and of streams, padding.
    for kind in [DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION] {
        ends_by(
            Code::PROTOCOL_ERROR,
            &frame(kind, END_HEADERS, 0, &[0; 5][..if kind == RST_STREAM { 4 } else { 5 }]),
        );
    }
    for kind in [SETTINGS, PING, GOAWAY, PRIORITY_UPDATE] {
        let len = if kind == SETTINGS { 6 } else { 8 };
        ends_by(Code::PROTOCOL_ERROR, &[&get1[..], &frame(kind, 0, 1, &[0; 8][..len])].concat());
    }
    ends_by(Code::PROTOCOL_ERROR, &[&open[..], &frame(DATA, PADDED, 1, &[5, 0, 0])].concat());
    ends_by(Code::PROTOCOL_ERROR, &frame(HEADERS, PADDED | END_HEADERS, 1, &[5, 0, 0]));
    ends_by(Code::PROTOCOL_ERROR, &frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 8]));
    // 6.5.2: values.
    ends_by(Code::PROTOCOL_ERROR, &settings(&[(2, 2)]));
    ends_by(Code::FLOW_CONTROL_ERROR, &settings(&[(4, 1 << 31)]));
    ends_by(Code::PROTOCOL_ERROR, &settings(&[(5, 16_383)]));
    ends_by(Code::PROTOCOL_ERROR, &settings(&[(5, 1 << 24)]));
    // 6.9: windows.
    ends_by(Code::PROTOCOL_ERROR, &window_update(0, 0));
    ends_by(Code::FLOW_CONTROL_ERROR, &window_update(0, 1));
    let fresh = settings(&[(4, 1)]);
    let larger = [&get(1, "/big.bin")[..], &fresh, &window_update(1, (1 << 31) - 2), &settings(&[(4, 9)])];
    ends_by(Code::FLOW_CONTROL_ERROR, &larger.concat());
    // A preface that is none, where HTTP/2 was agreed on, or that settings do not follow.
    for rest in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, ACK, 0, &[]), get(1, "/")] {
        let mut pair = Pair::with(service(), &[&PREFACE[..], &rest].concat());
        pair.take_all();
        assert_eq!(pair.code(), Some(Code::PROTOCOL_ERROR));
    }
}

#[test]
fn against_the_rules_of_streams() {
    use ErrorCode as Code;
    let open = headers(0, 1, &fields("POST", "/hello.txt", &[]));
    let malformed = |more: &[(&str, &str)]| headers(END_STREAM, 1, &fields("GET", "/", more));
    resets(Code::PROTOCOL_ERROR, &malformed(&[("Upper", "x")]));
    resets(Code::PROTOCOL_ERROR, &malformed(&[("connection", "close")]));
    resets(Code::PROTOCOL_ERROR, &malformed(&[("te", "gzip")]));
    resets(Code::PROTOCOL_ERROR, &malformed(&[(":path", "/")]));
    resets(Code::PROTOCOL_ERROR, &malformed(&[("content-length", "5")]));
    resets(Code::PROTOCOL_ERROR, &malformed(&[("a", "b\r\nx: y")]));
    resets(Code::PROTOCOL_ERROR, &headers(END_STREAM, 1, &[(":method", "GET"), (":scheme", "http")]));
    // 5.3.1 of RFC 7540: a stream that depends on itself.
    let itself = [&[0, 0, 0, 1, 0][..], &block(&fields("GET", "/", &[]))].concat();
    resets(Code::PROTOCOL_ERROR, &frame(HEADERS, 0x20 | END_HEADERS | END_STREAM, 1, &itself));
    resets(Code::PROTOCOL_ERROR, &frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0]));
    resets(Code::FRAME_SIZE_ERROR, &frame(PRIORITY, 0, 1, &[0; 4]));
    // 6.9: windows of a stream.
    let get1 = get(1, "/big.bin");
    let narrow = [&settings(&[(4, 1)])[..], &get1].concat();
    resets(Code::PROTOCOL_ERROR, &[&narrow[..], &window_update(1, 0)].concat());
    resets(
        Code::FLOW_CONTROL_ERROR,
        &[&narrow[..], &window_update(1, (1 << 31) - 1), &window_update(1, 2)].concat(),
    );
    // 5.1: content behind the end; what is over is answered by an error of the stream.
    resets(Code::STREAM_CLOSED, &[&narrow[..], &frame(DATA, 0, 1, b"x")].concat());
    resets(Code::STREAM_CLOSED, &[&narrow[..], &open].concat());
}

/// RFC 9113 section 5.1, "closed": what comes then is by how it was closed.
#[test]
fn what_comes_of_a_stream_that_is_over() {
    let late =
        [frame(DATA, END_STREAM, 1, b"x"), get(1, "/hello.txt"), headers(0, 1, &fields("PUT", "/", &[]))];
    let reset = frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    for late in late {
        let mut pair = Pair::new();
        pair.say(&get(1, "/hello.txt"));
        pair.say(&late);
        assert_eq!((pair.answer(1).reset, pair.code()), (None, Some(ErrorCode::STREAM_CLOSED)), "by both");
        let mut pair = Pair::new();
        pair.say(&[&headers(0, 1, &fields("PUT", "/x", &[]))[..], &reset, &late].concat());
        assert_eq!(
            (pair.answer(1).reset, pair.code()),
            (Some(ErrorCode::STREAM_CLOSED.0), None),
            "by the peer"
        );
        // Not in frames that are on their way, and not when it is forgotten.
        for reads in [false, true] {
            let mut pair = Pair::new();
            pair.say_only(&headers(END_STREAM, 1, &[(":method", "GET")]));
            if reads {
                pair.take_all();
            }
            pair.say_only(&late);
            pair.take_all();
            assert_eq!(
                (pair.answer(1).reset, pair.code()),
                (Some(ErrorCode::PROTOCOL_ERROR.0), None),
                "by us"
            );
        }
    }
}

/// A response that is whole before its request is asks for no more of that (RFC 9113 section 8.1), when the
/// client has had time to see it.
#[test]
fn content_that_nobody_wants() {
    let content = |bytes: &[u8]| frame(DATA, END_STREAM, 1, bytes);
    let trailers = |flags: u8, name: &str| headers(flags, 1, &[(name, "x")]);
    let bad = Some(ErrorCode::PROTOCOL_ERROR.0);
    for (later, reset) in [
        (content(b"abc"), None),
        (content(b"ab"), bad),
        (content(b"abcd"), bad),
        ([&frame(DATA, 0, 1, b"abc")[..], &trailers(END_STREAM, "x")].concat(), None),
        ([&frame(DATA, 0, 1, b"abc")[..], &trailers(END_STREAM, ":method")].concat(), bad),
        (trailers(0, "x"), bad),
        (frame(DATA, 0, 1, b"a"), Some(ErrorCode::NO_ERROR.0)),
        (Vec::new(), Some(ErrorCode::NO_ERROR.0)),
    ] {
        let mut pair = Pair::new();
        pair.say(&headers(0, 1, &fields("PUT", "/x", &[("content-length", "3")])));
        let answer = pair.answer(1);
        assert_eq!((answer.status(), answer.reset, answer.is_whole), (405, None, true));
        pair.say(&later);
        pair.set_time(Duration::from_millis(1900));
        assert!(!pair.channel.on_timeout(&mut pair.service));
        pair.set_time(Duration::from_millis(2100));
        let is_due = reset == Some(ErrorCode::NO_ERROR.0);
        assert_eq!(pair.channel.on_timeout(&mut pair.service), is_due);
        pair.take_all();
        assert_eq!((pair.answer(1).reset, pair.code()), (reset, None), "{later:?}");
        // The connection goes on.
        pair.say(&get(3, "/hello.txt"));
        assert!(pair.answer(3).is_whole);
    }
    // What comes all the same opens the window of the connection again, not that of the stream.
    let mut pair = Pair::new();
    for number in 0..100 {
        let stream = 2 * number + 1;
        let mut bytes = headers(0, stream, &fields("PUT", "/x", &[]));
        (0..4).for_each(|_| bytes.extend(frame(DATA, 0, stream, &[0; 16_000])));
        pair.say(&bytes);
    }
    assert_eq!(pair.code(), None);
    let given = pair.reader.windows[&0];
    assert!(given > 6_400_000 && given < 6_400_000 + (1 << 20), "{given}");
    assert_eq!(pair.reader.windows.len(), 1);
}

#[test]
fn more_content_than_windows_allow() {
    // A stream that waits for its response keeps its window.
    let mut pair = Pair::with(service(), &[&PREFACE[..], &settings(&[(4, 0)])].concat());
    pair.say(&headers(0, 1, &fields("PUT", "/x", &[])));
    for _ in 0..16 {
        pair.say(&frame(DATA, 0, 1, &[0; 16_384]));
    }
    assert_eq!((pair.answer(1).reset, pair.code()), (None, None));
    pair.say(&frame(DATA, 0, 1, b"x"));
    assert_eq!(pair.answer(1).reset, Some(ErrorCode::FLOW_CONTROL_ERROR.0));
}

#[test]
fn a_flood_of_each_kind_ends_the_connection() {
    let ping = || frame(PING, 0, 0, &[0; 8]);
    let reset = |number: u32| {
        let stream = 2 * number + 1;
        [get(stream, "/big.bin"), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    let open = headers(0, 1, &fields("PUT", "/x", &[]));
    let narrow = [&settings(&[(4, 0)])[..], &get(1, "/big.bin")].concat();
    type Make<'a> = &'a dyn Fn(u32) -> Vec<u8>;
    let floods: [(Abuse, &[u8], Make<'_>); 10] = [
        (Abuse::Pings, b"", &|_| ping()),
        (Abuse::Settings, b"", &|_| settings(&[(1, 0)])),
        (Abuse::Resets, b"", &reset),
        // What makes us reset is no better.
        (Abuse::Resets, b"", &|number| headers(END_STREAM, 2 * number + 1, &[(":method", "GET")])),
        (Abuse::EmptyFrames, &[&settings(&[(4, 0)])[..], &open].concat(), &|_| frame(DATA, 0, 1, b"")),
        (Abuse::WindowUpdates, &narrow, &|_| window_update(1, 1)),
        (Abuse::Priorities, &narrow, &|_| frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0])),
        (Abuse::Priorities, b"", &|_| frame(PRIORITY_UPDATE, 0, 0, &[0, 0, 0, 1, b'i'])),
        (Abuse::Useless, b"", &|_| frame(0x99, 0, 0, b"?")),
        (Abuse::Continuations, &frame(HEADERS, END_STREAM, 1, b""), &|_| frame(CONTINUATION, 0, 1, b"")),
    ];
    for (abuse, first, make) in floods {
        let mut pair = Pair::with(service(), &[preface(), first.to_vec()].concat());
        pair.take_all();
        let mut sent = 0;
        while pair.code().is_none() && sent < 10_000 {
            // No time goes by, and the client reads all.
            pair.say(&make(sent));
            sent += 1;
        }
        assert_eq!(pair.code(), Some(ErrorCode::ENHANCE_YOUR_CALM), "{abuse:?}");
        let most = abuse.burst() + 16;
        assert!(sent <= most && sent + 4 >= abuse.burst().min(4096), "{abuse:?}: {sent}");
        assert_eq!(pair.service.stats.http2.abuses[abuse as usize], 1, "{abuse:?}");
        assert!(pair.channel.is_finished());
    }
}

/// The same kinds within what is allowed do no harm.
#[test]
fn what_happens_now_and_then_is_no_flood() {
    let mut pair = Pair::new();
    for second in 0..100_u32 {
        pair.set_time(Duration::from_secs(second.into()));
        let stream = 64 * second + 1;
        let mut bytes = [frame(PING, 0, 0, &[0; 8]), settings(&[(1, 4096)])].concat();
        for number in 0..16 {
            let stream = stream + 2 * number;
            bytes.extend(get(stream, "/big.bin"));
            bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        pair.say(&bytes);
        assert_eq!(pair.code(), None, "{second}");
    }
    assert_eq!(pair.service.stats.http2.resets, 1600);
}

#[test]
fn more_streams_than_allowed_are_refused() {
    // Windows of nothing keep all open.
    let mut pair = Pair::with(service(), &[&PREFACE[..], &settings(&[(4, 0)])].concat());
    for number in 0..130 {
        pair.say(&get(2 * number + 1, "/hello.txt"));
    }
    let refused: Vec<u32> = (0..130)
        .map(|number| 2 * number + 1)
        .filter(|stream| pair.answer(*stream).reset == Some(7))
        .collect();
    assert_eq!(refused, [257, 259]);
    assert_eq!(pair.service.stats.http2.refused, 2);
    pair.say(&settings(&[(4, 100)]));
    assert!((0..128).all(|number| pair.answer(2 * number + 1).body == b"hello, world\n"));
    pair.say(&get(301, "/hello.txt"));
    assert!(pair.answer(301).is_whole);
}

#[test]
fn heads_are_bounded() {
    let long = "x".repeat(9_000);
    let mut pair = Pair::new();
    pair.say(&headers(END_STREAM, 1, &fields("GET", "/", &[("a", &long[..]), ("b", &long[..])])));
    assert_eq!(pair.answer(1).status(), 431);
    // A few bytes that stand for very many: each index of the table for four thousand.
    let mut bomb = vec![0x40, 1, b'a'];
    bomb.extend([0x7f, 0xc1, 0x1d]);
    bomb.extend([b'y'; 3904]);
    let first = bomb.len();
    bomb.extend([0xbe; 12_000]);
    pair.say(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &bomb));
    assert!(first < 4000 && pair.answer(3).status() == 431);
    pair.say(&get(5, "/hello.txt"));
    assert_eq!(pair.answer(5).status(), 200);
    // Several frames of one head, within the bounds and beyond.
    let head = block(&fields("GET", "/hello.txt", &[("a", &long[..]), ("b", &long[..])]));
    let mut pair = Pair::new();
    pair.say_only(&frame(HEADERS, END_STREAM, 1, &[]));
    for part in [&head[..], &[0x80; 16_000], &[0x80; 16_000]] {
        pair.say_only(&frame(CONTINUATION, 0, 1, part));
    }
    pair.take_all();
    assert_eq!(pair.code(), Some(ErrorCode::ENHANCE_YOUR_CALM));
}
