//! What a server may say, rightly and wrongly, frame by frame.

use proptest::prelude::*;

use super::super::Url;
use super::*;
use crate::http::hpack;

const NOW: Instant = Instant::ZERO;

fn targets() -> Targets {
    let url: Url = "http://127.0.0.1:8080/".parse().unwrap();
    Targets::over_http2(&url, &["/a".into(), "/b".into()]).unwrap()
}

fn asked(target: usize) -> Asked {
    Asked { target, due: NOW, tries: 0 }
}

fn framed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&FrameHeader { len: payload.len(), kind, flags, stream }.bytes()[..], payload].concat()
}

fn settings(streams: u32) -> Vec<u8> {
    let payload = [&setting::MAX_CONCURRENT_STREAMS.to_be_bytes()[..], &streams.to_be_bytes()].concat();
    framed(kind::SETTINGS, 0, 0, &payload)
}

fn block(status: &str, len: Option<usize>) -> Vec<u8> {
    let mut block = Vec::new();
    hpack::status(status.as_bytes(), &mut block);
    if let Some(len) = len {
        hpack::field(b"content-length", len.to_string().as_bytes(), &mut block);
    }
    block
}

fn head(stream: u32, status: &str, len: Option<usize>) -> Vec<u8> {
    framed(kind::HEADERS, flag::END_HEADERS, stream, &block(status, len))
}

fn content(stream: u32, bytes: &[u8]) -> Vec<u8> {
    framed(kind::DATA, flag::END_STREAM, stream, bytes)
}

/// A client that asks for `/a` and `/b` in turn, `count` times, and what a server has heard of that.
fn client(count: usize) -> Multiplexed {
    let mut client = Multiplexed::new();
    (0..count).for_each(|i| client.ask(NOW, asked(i % 2), &targets()));
    client
}

/// What comes of `said`, behind the settings.
fn hears(client: &mut Multiplexed, said: &[u8]) -> (Standing, Vec<Told>) {
    let (mut first, mut told): (FirstAnswers, _) = (vec![None; 2].into(), Vec::new());
    let verifier = Verifier::new();
    let mut standing = client.on_bytes(&settings(100), &targets(), &mut first, Some(&verifier), &mut told);
    if standing.takes_more {
        standing = client.on_bytes(said, &targets(), &mut first, Some(&verifier), &mut told);
    }
    (standing, told)
}

const GOES_ON: Standing = Standing { takes_more: true, is_over: false };
const OVER: Standing = Standing { takes_more: false, is_over: true };

/// The numbers of streams whose heads are in what is to be sent, behind the preface.
fn streams_asked(client: &mut Multiplexed) -> Vec<u32> {
    let mut bytes = client.unsent();
    let len = bytes.len();
    bytes = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
    let mut streams = Vec::new();
    while let Some(header) = FrameHeader::parse(bytes) {
        if header.kind == kind::HEADERS {
            streams.push(header.stream);
        }
        bytes = &bytes[HEADER_BYTES + header.len..];
    }
    assert!(bytes.is_empty());
    client.handed_over(len);
    streams
}

#[test]
fn answers_come_in_any_order() {
    let mut client = client(3);
    assert_eq!(streams_asked(&mut client), [1, 3, 5]);
    let said = [
        head(5, "200", Some(3)),
        head(1, "200", None),
        framed(kind::DATA, flag::PADDED, 5, b"\x02onxx"),
        content(1, b"one"),
        framed(kind::PING, 0, 0, b"12345678"),
        content(5, b"e"),
        // An interim answer, fields behind the content, and a head in three parts.
        head(3, "103", None),
        framed(kind::HEADERS, 0, 3, &block("200", Some(1))[..1]),
        framed(kind::CONTINUATION, 0, 3, &block("200", Some(1))[1..3]),
        framed(kind::CONTINUATION, flag::END_HEADERS, 3, &block("200", Some(1))[3..]),
        framed(kind::DATA, 0, 3, b"2"),
        framed(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, &[]),
        // Of a kind that nobody knows.
        framed(99, 255, 7, b"what"),
    ]
    .concat();
    let (standing, told) = hears(&mut client, &said);
    assert_eq!(standing, GOES_ON);
    // Those for one target are the same byte by byte, however they were cut.
    let expected = [(0, 3), (0, 3), (1, 1)].map(|(target, len)| Told::Over(asked(target), Ok(len)));
    assert_eq!(told, expected);
    let acknowledgements =
        [framed(kind::SETTINGS, flag::ACK, 0, &[]), framed(kind::PING, flag::ACK, 0, b"12345678")];
    assert_eq!(client.unsent(), acknowledgements.concat());
    assert_eq!(client.waits_since(), None);
}

#[test]
fn wrong_answers_are_told_apart() {
    let of = |said: &[Vec<u8>]| hears(&mut client(2), &said.concat()).1;
    let one = |failure| [Told::Over(asked(0), Err(failure))];
    assert_eq!(of(&[head(1, "404", None), content(1, b"")]), one(Failure::Status));
    assert_eq!(of(&[head(1, "200", Some(4)), content(1, b"abc")]), one(Failure::Malformed));
    let reset = |code: ErrorCode| of(&[framed(kind::RST_STREAM, 0, 1, &code.0.to_be_bytes())]);
    assert_eq!(reset(ErrorCode::INTERNAL_ERROR), one(Failure::Cut));
    let mut client = client(3);
    let said = [head(1, "200", None), content(1, b"one"), head(5, "200", None), content(5, b"two")];
    assert_eq!(
        hears(&mut client, &said.concat()).1,
        [Told::Over(asked(0), Ok(3)), Told::Over(asked(0), Err(Failure::Contents))]
    );
}

#[test]
fn as_many_are_asked_for_at_once_as_the_server_allows() {
    let mut client = client(150);
    assert_eq!(streams_asked(&mut client).len(), FIRST_STREAMS);
    let (mut first, mut told): (FirstAnswers, _) = (vec![None; 2].into(), Vec::new());
    client.on_bytes(&settings(99), &targets(), &mut first, None, &mut told);
    assert!(streams_asked(&mut client).is_empty());
    // One answer makes no room yet, two make room for one.
    for (stream, expected) in [(1, None), (3, Some(201))] {
        let said = [head(stream, "200", None), content(stream, b"")].concat();
        let standing = client.on_bytes(&said, &targets(), &mut first, None, &mut told);
        assert_eq!(standing, GOES_ON);
        assert_eq!(streams_asked(&mut client), Vec::from_iter(expected));
    }
}

/// What the server has not looked at is asked for elsewhere; what it has is still answered.
#[test]
fn a_server_goes() {
    let mut client = client(4);
    let goes = framed(kind::GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]);
    let (standing, told) = hears(&mut client, &[goes, head(1, "200", None), content(1, b"a")].concat());
    assert_eq!(standing, Standing { takes_more: false, is_over: false });
    let again = [Told::Again(asked(0)), Told::Again(asked(1))];
    assert_eq!(told, [&again[..], &[Told::Over(asked(0), Ok(1))]].concat());
    let (mut first, mut told): (FirstAnswers, _) = (vec![None; 2].into(), Vec::new());
    let last = [head(3, "200", None), content(3, b"b")].concat();
    assert_eq!(client.on_bytes(&last, &targets(), &mut first, None, &mut told), OVER);
    assert_eq!(told, [Told::Over(asked(1), Ok(1))]);
}

fn refuses(stream: u32) -> Vec<u8> {
    framed(kind::RST_STREAM, 0, stream, &ErrorCode::REFUSED_STREAM.0.to_be_bytes())
}

fn goes(last: u32, code: ErrorCode) -> Vec<u8> {
    framed(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), code.0.to_be_bytes()].concat())
}

/// What was one too many before the server had said how many there can be is asked for again on the same
/// connection, once; what is refused later is not.
#[test]
fn who_refuses_is_not_asked_again() {
    let mut client = client(2);
    assert_eq!(streams_asked(&mut client), [1, 3]);
    let (standing, told) = hears(&mut client, &refuses(1));
    assert_eq!((standing, &told[..], streams_asked(&mut client)), (GOES_ON, &[][..], vec![5]));
    // It has answered something, so that it is believed; what is under way is still answered.
    let said = [head(5, "200", None), content(5, b"a")].concat();
    let (standing, told) = hears(&mut client, &said);
    assert_eq!((standing, &told[..]), (GOES_ON, &[Told::Over(asked(0), Ok(1))][..]));
    client.ask(NOW, asked(0), &targets());
    let (standing, told) = hears(&mut client, &refuses(7));
    assert_eq!(standing, Standing { takes_more: false, is_over: false });
    assert_eq!(told, [Told::Again(asked(0))]);
    let (mut first, mut told): (FirstAnswers, _) = (vec![None; 2].into(), Vec::new());
    let last = [head(3, "200", None), content(3, b"b")].concat();
    assert_eq!(client.on_bytes(&last, &targets(), &mut first, None, &mut told), OVER);
    assert_eq!(told, [Told::Over(asked(1), Ok(1))]);
    assert!(!client.is_turned_away());
}

/// Who has answered nothing is believed if it goes in friendship, and is left alone for a while in any case.
#[test]
fn who_answers_nothing_is_not_believed() {
    let cut = Told::Over(asked(0), Err(Failure::Cut));
    let again = Told::Again(asked(0));
    for (said, expected) in [
        (goes(0, ErrorCode::PROTOCOL_ERROR), cut),
        (goes(0, ErrorCode::ENHANCE_YOUR_CALM), cut),
        (goes(0, ErrorCode::NO_ERROR), again),
    ] {
        let mut client = client(1);
        let (standing, told) = hears(&mut client, &said);
        assert_eq!((standing, &told[..], client.is_turned_away()), (OVER, &[expected][..], true), "{said:?}");
    }
    let mut stubborn = client(1);
    assert_eq!(hears(&mut stubborn, &refuses(1)), (GOES_ON, vec![]));
    assert_eq!((hears(&mut stubborn, &refuses(3)), stubborn.is_turned_away()), ((OVER, vec![cut]), true));
    let mut client = client(3);
    let said = [head(1, "200", None), content(1, b"a"), goes(3, ErrorCode::ENHANCE_YOUR_CALM)].concat();
    let (standing, told) = hears(&mut client, &said);
    assert_eq!(standing, Standing { takes_more: false, is_over: false });
    assert_eq!(told, [Told::Over(asked(0), Ok(1)), again]);
    assert!(!client.is_turned_away());
}

/// A connection that ends has cut what was sent short, and not what was not.
#[test]
fn what_was_never_sent_is_not_cut() {
    for says_nonsense in [false, true] {
        let mut client = client(3);
        let (mut first, mut told): (FirstAnswers, _) = (vec![None; 2].into(), Vec::new());
        let one_at_a_time = settings(1);
        client.on_bytes(&one_at_a_time, &targets(), &mut first, None, &mut told);
        let said: Vec<u8> = [1, 3, 5].iter().flat_map(|&stream| refuses(stream)).collect();
        client.on_bytes(&said, &targets(), &mut first, None, &mut told);
        assert_eq!((&told[..], client.open.len(), client.waiting.len()), (&[][..], 1, 2));
        let sent = client.open[0].asked;
        let failure = if says_nonsense { Failure::Malformed } else { Failure::Cut };
        if says_nonsense {
            let nonsense = framed(kind::PING, 0, 0, &[0; 7]);
            assert_eq!(client.on_bytes(&nonsense, &targets(), &mut first, None, &mut told), OVER);
        } else {
            client.end(Failure::Cut, &mut told);
        }
        assert_eq!(told[0], Told::Over(sent, Err(failure)));
        assert!(told.len() == 3 && told[1..].iter().all(|told| matches!(told, Told::Again(_))), "{told:?}");
    }
}

#[test]
fn what_is_no_http_2() {
    for said in [
        head(7, "200", None), // a stream that nobody has begun
        head(2, "200", None), // one of the server's
        content(1, b"before its head"),
        [head(1, "200", None), head(1, "200", None)].concat(), // two heads
        framed(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block("100", None)),
        framed(kind::HEADERS, flag::END_HEADERS, 1, &[0xff; 9]), // no block
        framed(kind::HEADERS, flag::END_HEADERS | flag::PADDED, 1, &[200]),
        [framed(kind::HEADERS, 0, 1, &[]), framed(kind::PING, 0, 0, &[0; 8])].concat(),
        framed(kind::CONTINUATION, flag::END_HEADERS, 1, &[]),
        framed(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0, 0, 0, 2]),
        framed(kind::SETTINGS, 0, 0, &[0; 5]),
        framed(kind::SETTINGS, flag::ACK, 0, &[0; 6]),
        framed(kind::PING, 0, 0, &[0; 7]),
        framed(kind::GOAWAY, 0, 0, &[0; 7]),
        framed(kind::RST_STREAM, 0, 1, &[0; 3]),
        framed(kind::WINDOW_UPDATE, 0, 0, &[0; 4]),
        framed(kind::DATA, 0, 1, &[0; MAX_FRAME + 1]),
    ] {
        let (standing, told) = hears(&mut client(1), &said);
        let wrong = [Told::Over(asked(0), Err(Failure::Malformed))];
        assert_eq!((standing, &told[..]), (OVER, &wrong[..]), "{said:?}");
    }
    // Settings are the first thing that a server says; HTTP/1.1 is something else.
    for said in [framed(kind::PING, 0, 0, &[0; 8]), b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()] {
        let (mut first, mut told): (FirstAnswers, _) = (vec![None; 2].into(), Vec::new());
        assert_eq!(client(1).on_bytes(&said, &targets(), &mut first, None, &mut told), OVER);
    }
    // Who has us answer for ever without taking it is cut off.
    let pings = framed(kind::PING, 0, 0, &[0; 8]).repeat(MAX_OUT / 16);
    assert_eq!(hears(&mut client(1), &pings).0, OVER);
}

/// What counts is what the server has us say and has not taken, wherever that lies.
#[test]
fn what_is_not_taken_has_a_limit() {
    let pings = framed(kind::PING, 0, 0, &[0; 8]).repeat(MAX_OUT / 40);
    let takes = |taken: fn(&mut Multiplexed, usize)| {
        // As many requests as there can be, at once: they do not count.
        let mut client = client(1);
        let (mut first, mut told): (FirstAnswers, _) = (vec![None; 2].into(), Vec::new());
        client.on_bytes(&settings(u32::MAX), &targets(), &mut first, None, &mut told);
        while client.unsent().len() <= MAX_OUT {
            client.ask(NOW, asked(0), &targets());
        }
        (0..20)
            .take_while(|_| {
                let standing = client.on_bytes(&pings, &targets(), &mut first, None, &mut told);
                let unsent = client.unsent().len();
                taken(&mut client, unsent);
                assert!(client.out.len() <= 2 * client.unsent().len());
                standing == GOES_ON
            })
            .count()
    };
    assert_eq!(takes(|_, _| {}), 2);
    assert_eq!(takes(|client, unsent| client.handed_over(unsent)), 20);
    assert_eq!(
        takes(|client, unsent| {
            client.handed_over(unsent);
            client.still_held(client.held + unsent);
        }),
        2
    );
    assert_eq!(
        takes(|client, unsent| {
            client.handed_over(unsent);
            client.still_held(0);
        }),
        20
    );
    // A part of each: nothing that was sent is kept for long.
    assert_eq!(takes(|client, unsent| client.handed_over(unsent - 10)), 20);
}

/// Windows are given back before they are used up, of streams and of all together.
#[test]
fn windows_are_given_back() {
    let mut owed = 0;
    let steps = (0..100).filter(|_| take_back(&mut owed, 10, 200).then(|| owed = 0).is_some()).count();
    assert_eq!((steps, owed), (10, 0));
    let mut client = client(1);
    client.owed = WINDOW / 2 - 1;
    streams_asked(&mut client);
    hears(&mut client, &[head(1, "200", None), framed(kind::DATA, 0, 1, b"x")].concat());
    let mut expected = framed(kind::SETTINGS, flag::ACK, 0, &[]);
    give(&mut expected, 0, WINDOW / 2);
    assert_eq!(client.unsent(), expected);
}

proptest! {
    /// Cut anywhere, the same comes of it.
    #[test]
    fn frames_are_cut_anywhere(cuts in proptest::collection::vec(prop_oneof![1..40_usize, 1..9000_usize], 1..60)) {
        let targets = targets();
        let big = vec![7; MAX_FRAME];
        let said = [
            settings(10), head(1, "200", None), framed(kind::DATA, 0, 1, &big), head(3, "200", Some(2)),
            content(1, b"end"), content(3, b"ab"),
        ].concat();
        let mut client = client(2);
        let (mut first, mut told): (FirstAnswers, _) = (vec![None; 2].into(), Vec::new());
        let mut rest = &said[..];
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            prop_assert_eq!(client.on_bytes(now, &targets, &mut first, None, &mut told), GOES_ON);
            rest = later;
        }
        prop_assert_eq!(told, [Told::Over(asked(0), Ok(MAX_FRAME as u64 + 3)), Told::Over(asked(1), Ok(2))]);
    }

    /// Whatever is said, every request is told of once or still under way, and little is kept.
    #[test]
    fn no_server_does_harm(
        frames in proptest::collection::vec(
            (0..10_u8, any::<u8>(), 0..8_u32, proptest::collection::vec(any::<u8>(), 0..40)), 0..40,
        ),
        tail in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut said: Vec<u8> = frames.iter().flat_map(|(kind, flags, stream, payload)| {
            framed(*kind, *flags, *stream, payload)
        }).collect();
        said.extend(tail);
        let mut client = client(4);
        let (_, mut told) = hears(&mut client, &said);
        told.extend(client.give_up().map(|(asked, _)| Told::Again(asked)));
        prop_assert_eq!(told.len(), 4);
        prop_assert!(client.input.len() < HEADER_BYTES + MAX_FRAME && client.out.len() < MAX_OUT + 64);
    }
}
