//! Heads good, bad, torn and random.

use super::*;
use proptest::prelude::*;

fn status(head: &str) -> Option<Status> {
    match parse(head.as_bytes(), &Limits::default()) {
        Parsed::Refused(status) => Some(status),
        Parsed::Complete { len, .. } => {
            assert_eq!(len, head.len(), "{head:?}");
            None
        }
        Parsed::Partial => panic!("partial: {head:?}"),
    }
}

#[test]
fn refusals() {
    use Status::*;
    for (head, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET / HTTP/1.0\r\n\r\n", None),
        ("\r\n\r\nGET / HTTP/1.0\r\n\r\n", None),
        ("GET / HTTP/1.1\nHost: a\n\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", Some(BadRequest)),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: [::ffff:1.2.3.4]\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: [v1.a:b]\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a.example:\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a%20b:8080\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: [1.2.3.4]\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: [v.a]\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: []\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a:b:c\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a:-1\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a,b:1,2\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a%2\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Some(VersionNotSupported)),
        ("GET / HTTP/3.0\r\n\r\n", Some(VersionNotSupported)),
        ("GET / HTCPCP/1.0\r\n\r\n", Some(BadRequest)),
        ("GET /\r\n\r\n", Some(BadRequest)),
        ("GET  HTTP/1.1\r\n\r\n", Some(BadRequest)),
        ("GET / / HTTP/1.1\r\n\r\n", Some(BadRequest)),
        ("G\x01T / HTTP/1.1\r\n\r\n", Some(BadRequest)),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Some(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", Some(BadRequest)),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            Some(BadRequest),
        ),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Some(BadRequest)),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", Some(BadRequest)),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", Some(BadRequest)),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", Some(BadRequest)),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip, chunked\r\n\r\n", Some(BadRequest)),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n", Some(NotImplemented)),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
            Some(NotImplemented),
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n", Some(ExpectationFailed)),
    ] {
        assert_eq!(status(head), expected, "{head:?}");
    }
}

#[test]
fn limits() {
    let limits = Limits::default();
    let long_line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(limits.request_line));
    assert!(matches!(parse(long_line.as_bytes(), &limits), Parsed::Refused(Status::UriTooLong)));
    // No end of line in sight, and it is too long already.
    let endless = format!("GET /{}", "a".repeat(limits.request_line));
    assert!(matches!(parse(endless.as_bytes(), &limits), Parsed::Refused(Status::UriTooLong)));
    let big = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(limits.head));
    assert!(matches!(parse(big.as_bytes(), &limits), Parsed::Refused(Status::FieldsTooLarge)));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(MAX_FIELDS));
    assert!(matches!(parse(many.as_bytes(), &limits), Parsed::Refused(Status::FieldsTooLarge)));
    let most = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(MAX_FIELDS - 1));
    assert!(matches!(parse(most.as_bytes(), &limits), Parsed::Complete { .. }));
}

#[test]
fn persistence() {
    for (head, keep_alive) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: TE , Close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", true),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false),
    ] {
        let Parsed::Complete { request, .. } = parse(head.as_bytes(), &Limits::default()) else {
            panic!("{head:?}")
        };
        assert_eq!(request.keep_alive, keep_alive, "{head:?}");
    }
}

#[test]
fn a_field_sent_twice_that_may_come_once_says_nothing() {
    let head =
        b"GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\nRange: bytes=2-3\r\nIf-None-Match: \"a\"\r\n\
                 If-None-Match: \"b\"\r\n\r\n";
    let Parsed::Complete { request, .. } = parse(head, &Limits::default()) else { panic!() };
    assert_eq!(request.range, None);
    assert_eq!(request.conditions.if_none_match.len(), 2);
}

proptest! {
    /// The watcher says "seen" for a prefix exactly when parsing that prefix is no longer partial or will
    /// refuse it.
    #[test]
    fn the_watcher_never_misses_an_end(
        lines in proptest::collection::vec("[A-Za-z: ]{0,6}", 0..6),
        crlf in proptest::collection::vec(any::<bool>(), 8),
        cuts in proptest::collection::vec(1usize..9, 1..40),
    ) {
        let mut text = b"GET / HTTP/1.0\r\n".to_vec();
        for (line, crlf) in lines.iter().zip(&crlf) {
            text.extend_from_slice(line.as_bytes());
            text.extend_from_slice(if *crlf { b"\r\n" } else { b"\n" });
        }
        // Naive: an empty line somewhere after the first line's end.
        let naive = |t: &[u8]| t.windows(2).any(|w| w == b"\n\n") || t.windows(3).any(|w| w == b"\n\r\n");
        let mut watcher = HeadEnd::default();
        let (mut at, mut seen) = (0, false);
        for cut in cuts.iter().cycle() {
            at = (at + cut).min(text.len());
            seen = seen || watcher.seen(&text[..at]);
            prop_assert_eq!(seen, naive(&text[..at]), "{:?}", String::from_utf8_lossy(&text[..at]));
            if at == text.len() { break; }
        }
        if !seen {
            // So nothing was lost by not parsing: it would have been partial, or refused now rather than
            // later.
            let is_complete = matches!(parse(&text, &Limits::default()), Parsed::Complete { .. });
            prop_assert!(!is_complete);
        }
    }

    #[test]
    fn random_bytes_are_refused_or_partial_or_complete_within_bounds(
        text in proptest::collection::vec(any::<u8>(), 0..200)
    ) {
        if let Parsed::Complete { len, .. } = parse(&text, &Limits::default()) {
            prop_assert!(len <= text.len());
        }
    }

    /// A prefix of a good head is partial, never refused; what follows the head is not looked at.
    #[test]
    fn prefixes_are_partial(
        path in "/[a-z0-9/._%-]{0,20}", name in "[A-Za-z-]{1,12}", value in "[ -~]{0,30}", junk: Vec<u8>
    ) {
        let head = format!("GET {path} HTTP/1.0\r\nX-{name}: {value}\r\n\r\n");
        for at in 0..head.len() {
            let is_partial = matches!(parse(&head.as_bytes()[..at], &Limits::default()), Parsed::Partial);
            prop_assert!(is_partial, "{}", &head[..at]);
        }
        let mut with_junk = head.clone().into_bytes();
        with_junk.extend_from_slice(&junk);
        let Parsed::Complete { len, .. } = parse(&with_junk, &Limits::default()) else {
            return Err(TestCaseError::fail(head));
        };
        prop_assert_eq!(len, head.len());
    }
}
