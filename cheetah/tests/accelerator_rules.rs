//! `cheetah accelerate`: what is kept of an origin's answers, for how long and for whom (RFC 9111), case by
//! case.

mod support;

use cheetah::http::date;
use support::accelerated::{get, server, status_of};
use support::origin::{Origin, Say};

/// What a client sees of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sees {
    /// The answer of the origin to that step, counted from 1, sent without asking it.
    Kept(usize),
    /// The origin's own answer to this step.
    Asked,
    /// The answer to that step, after the origin has said that it is still right.
    Validated(usize),
    /// Another status.
    Status(u16),
}

/// A case: what is asked for in turn with which fields, what the origin would answer, and what the client
/// sees.
type Case = (&'static str, &'static [(&'static str, &'static str, Sees)]);

use Sees::{Asked, Kept, Status, Validated};

/// In replies, fields are parted by `|`, and `{-5}` is the date five seconds ago; a number in front is the
/// status.
const CASES: &[Case] = &[
    ("fresh by max-age", &[("", "Cache-Control: max-age=3600", Asked), ("", "", Kept(1))]),
    ("fresh by s-maxage alone", &[("", "Cache-Control: max-age=0, s-maxage=3600", Asked), ("", "", Kept(1))]),
    ("s-maxage is shorter", &[("", "Cache-Control: max-age=3600, s-maxage=0", Asked), ("", "", Asked)]),
    ("fresh by Expires", &[("", "Expires: {3600}|Date: {0}", Asked), ("", "", Kept(1))]),
    ("Expires is past", &[("", "Expires: {-3600}|Date: {0}", Asked), ("", "", Asked)]),
    ("Expires is no date", &[("", "Expires: 0|Date: {0}", Asked), ("", "", Asked)]),
    (
        "max-age before Expires",
        &[("", "Expires: {-3600}|Cache-Control: max-age=3600", Asked), ("", "", Kept(1))],
    ),
    ("max-age=0 before Expires", &[("", "Expires: {3600}|Cache-Control: max-age=0", Asked), ("", "", Asked)]),
    ("nothing said", &[("", "", Asked), ("", "", Asked)]),
    ("guessed from Last-Modified", &[("", "Last-Modified: {-100000}|Date: {0}", Asked), ("", "", Kept(1))]),
    ("older than it may be", &[("", "Cache-Control: max-age=60|Age: 61", Asked), ("", "", Asked)]),
    ("as old as its date", &[("", "Cache-Control: max-age=60|Date: {-61}", Asked), ("", "", Asked)]),
    (
        "quoted and in any case",
        &[("", "cache-control: foo=\"max-age=0\", MAX-AGE=3600", Asked), ("", "", Kept(1))],
    ),
    ("no-store", &[("", "Cache-Control: max-age=60, no-store", Asked), ("", "", Asked)]),
    ("private", &[("", "Cache-Control: max-age=60, private", Asked), ("", "", Asked)]),
    (
        "no-cache is asked about each time",
        &[
            ("", "Cache-Control: no-cache, max-age=60|ETag: \"a\"", Asked),
            ("", "304", Validated(1)),
            ("", "304", Validated(1)),
        ],
    ),
    (
        "stale, and still right",
        &[
            ("", "Cache-Control: max-age=0|ETag: \"a\"", Asked),
            ("", "304 Cache-Control: max-age=60", Validated(1)),
            ("", "", Kept(1)),
        ],
    ),
    (
        "stale, right by its date",
        &[("", "Cache-Control: max-age=0|Last-Modified: {-100}", Asked), ("", "304", Validated(1))],
    ),
    (
        "stale, and changed",
        &[
            ("", "Cache-Control: max-age=0|ETag: \"a\"", Asked),
            ("", "Cache-Control: max-age=60", Asked),
            ("", "", Kept(2)),
        ],
    ),
    (
        "the client's condition is told by what is kept",
        &[
            ("", "Cache-Control: max-age=60|ETag: W/\"a\"", Asked),
            ("If-None-Match: \"x\", \"a\"", "", Status(304)),
        ],
    ),
    (
        "the client's date, too",
        &[
            ("", "Cache-Control: max-age=60|Last-Modified: {-100}", Asked),
            ("If-Modified-Since: {-50}", "", Status(304)),
            ("If-Modified-Since: {-150}", "", Kept(1)),
        ],
    ),
    (
        "without a date nothing is unchanged since",
        &[("", "Cache-Control: max-age=60", Asked), ("If-Modified-Since: {-50}", "", Kept(1))],
    ),
    (
        "a condition goes on where nothing is kept",
        &[("If-None-Match: \"a\"", "304 ETag: \"a\"", Status(304)), ("", "Cache-Control: max-age=60", Asked)],
    ),
    (
        "stale, right, and the client has it",
        &[("", "Cache-Control: max-age=0|ETag: \"a\"", Asked), ("If-None-Match: \"a\"", "304", Status(304))],
    ),
    (
        "Vary, the same",
        &[("Foo: 1", "Cache-Control: max-age=60|Vary: Foo", Asked), ("Foo:  1 ", "", Kept(1))],
    ),
    (
        "Vary, another",
        &[
            ("Foo: 1", "Cache-Control: max-age=60|Vary: Foo", Asked),
            ("Foo: 2", "Cache-Control: max-age=60|Vary: Foo", Asked),
            ("Foo: 1", "", Kept(1)),
            ("Foo: 2", "", Kept(2)),
        ],
    ),
    ("Vary, none", &[("Foo: 1", "Cache-Control: max-age=60|Vary: Foo", Asked), ("", "", Asked)]),
    ("Vary by all", &[("", "Cache-Control: max-age=60|Vary: *", Asked), ("", "", Asked)]),
    (
        "Vary in two lines",
        &[("A: 1|B: 1", "Cache-Control: max-age=60|Vary: A|Vary: B", Asked), ("A: 1|B: 2", "", Asked)],
    ),
    (
        "who is known",
        &[("Authorization: x", "Cache-Control: max-age=60", Asked), ("Authorization: x", "", Asked)],
    ),
    (
        "who is known, for all",
        &[("Authorization: x", "Cache-Control: max-age=60, public", Asked), ("", "", Kept(1))],
    ),
    (
        "a cookie is one client's",
        &[("", "Cache-Control: max-age=60|Set-Cookie: a=b", Asked), ("", "", Asked)],
    ),
    (
        "the client wants it validated",
        &[
            ("", "Cache-Control: max-age=60|ETag: \"a\"", Asked),
            ("Cache-Control: no-cache", "304", Validated(1)),
        ],
    ),
    (
        "the client wants it young",
        &[("", "Cache-Control: max-age=60|Age: 30", Asked), ("Cache-Control: max-age=10", "", Asked)],
    ),
    ("Pragma", &[("", "Cache-Control: max-age=60", Asked), ("Pragma: no-cache", "", Asked)]),
    (
        "the client does not want it kept",
        &[("Cache-Control: no-store", "Cache-Control: max-age=60", Asked), ("", "", Asked)],
    ),
    (
        "the client takes it stale",
        &[("", "Cache-Control: max-age=0|ETag: \"a\"", Asked), ("Cache-Control: max-stale=100", "", Kept(1))],
    ),
    ("only what is kept", &[("Cache-Control: only-if-cached", "", Status(504))]),
    (
        "only what is kept, and there is something",
        &[("", "Cache-Control: max-age=60", Asked), ("Cache-Control: only-if-cached", "", Kept(1))],
    ),
    (
        "a 404 is kept",
        &[("", "404 Cache-Control: max-age=60", Status(404)), ("", "Cache-Control: max-age=60", Status(404))],
    ),
    (
        "a 301 is kept",
        &[("", "301 Cache-Control: max-age=60|Location: /x", Status(301)), ("", "", Status(301))],
    ),
    (
        "stale where the origin fails",
        &[("", "Cache-Control: max-age=0, stale-if-error=60|ETag: \"a\"", Asked), ("", "503", Kept(1))],
    ),
    (
        "not where it must be asked",
        &[
            ("", "Cache-Control: max-age=0, stale-if-error=60, must-revalidate", Asked),
            ("", "503", Status(503)),
        ],
    ),
    ("what failed is not kept", &[("", "500", Status(500)), ("", "Cache-Control: max-age=60", Asked)]),
    (
        "a cookie with a 304 is one client's",
        &[
            ("", "Cache-Control: max-age=0|ETag: \"a\"", Asked),
            ("", "304 Cache-Control: max-age=60|Set-Cookie: a=b", Validated(1)),
            ("", "304", Validated(1)),
        ],
    ),
    (
        "a 304 that is one client's",
        &[
            ("", "Cache-Control: max-age=0|ETag: \"a\"", Asked),
            ("", "304 Cache-Control: private, max-age=60", Validated(1)),
            ("", "304", Validated(1)),
        ],
    ),
    (
        "what the origin does not see is no reason for what it says",
        &[
            ("Connection: Foo|Foo: 1", "Cache-Control: max-age=60|Vary: Foo", Asked),
            ("Foo: 1", "Cache-Control: max-age=60|Vary: Foo", Asked),
            ("Foo: 1", "", Kept(2)),
        ],
    ),
    (
        "fields of a 304 take the place of kept ones",
        &[
            ("", "Cache-Control: max-age=0|ETag: \"a\"|X-A: 1", Asked),
            ("", "304 X-A: 2|Cache-Control: max-age=60", Validated(1)),
            ("", "", Kept(1)),
        ],
    ),
];

/// A field with dates in it, as it is said now.
fn fields(text: &str, now: u64) -> String {
    let line = |field: &str| match field.split_once('{') {
        Some((name, offset)) => {
            let offset: i64 = offset.trim_end_matches('}').parse().unwrap();
            let date = date::format(now.saturating_add_signed(offset));
            format!("{name}{}", std::str::from_utf8(&date).unwrap())
        }
        None => field.to_owned(),
    };
    text.split('|').filter(|field| !field.is_empty()).map(line).collect::<Vec<_>>().join("\r\n")
}

#[test]
fn what_is_kept_goes_by_the_rules() {
    let origin = Origin::start();
    let server = server(&origin);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for (number, (name, steps)) in CASES.iter().enumerate() {
        let path = format!("/case/{number}");
        let mut script = Vec::new();
        for (step, (_, reply, sees)) in steps.iter().enumerate() {
            if matches!(sees, Kept(_)) && !reply.starts_with("503") {
                continue;
            }
            let (status, rest) = match reply.split_at_checked(3) {
                Some((status, rest)) if status.bytes().all(|b| b.is_ascii_digit()) => {
                    (status, rest.trim_start())
                }
                _ => ("200", *reply),
            };
            let fields = fields(rest, now);
            let end = if fields.is_empty() { "" } else { "\r\n" };
            script.push(match status {
                "304" => Say::Raw(format!("HTTP/1.1 304 Not Modified{end}{fields}\r\n\r\n").into_bytes()),
                _ => Say::Sized(
                    format!("HTTP/1.1 {status} X{end}{fields}"),
                    format!("step {}", step + 1).into_bytes(),
                ),
            });
        }
        origin.script(&path, script);
        let mut asked = 0;
        for (step, (request, reply, sees)) in steps.iter().enumerate() {
            let request = fields(request, now);
            let end = if request.is_empty() { "" } else { "\r\n" };
            let got = get(server.addr(), &path, &format!("{request}{end}"));
            let context = format!("{name}, step {}: {got:?}", step + 1);
            let body = String::from_utf8_lossy(&got.body);
            match *sees {
                Kept(from) => {
                    assert_eq!(body, format!("step {from}"), "{context}");
                    assert!(status_of(&got).contains("hit"), "{context}");
                    assert!(got.field("Age").is_some(), "{context}");
                    asked += usize::from(reply.starts_with("503"));
                }
                Asked => {
                    assert_eq!(body, format!("step {}", step + 1), "{context}");
                    assert!(status_of(&got).contains("fwd="), "{context}");
                    asked += 1;
                }
                Validated(from) => {
                    assert_eq!(body, format!("step {from}"), "{context}");
                    assert!(status_of(&got).contains("fwd-status=304"), "{context}");
                    asked += 1;
                    let head = &origin.heads(&path)[asked - 1];
                    assert!(
                        head.contains("\r\nIf-None-Match: ") || head.contains("\r\nIf-Modified-Since: "),
                        "{head}"
                    );
                }
                Status(code) => {
                    assert!(got.head.starts_with(&format!("HTTP/1.1 {code} ")), "{context}");
                    asked = origin.asked(&path);
                }
            }
            assert_eq!(origin.asked(&path), asked, "{context}");
        }
    }
    let fresh = CASES.iter().position(|(name, _)| name.starts_with("fields of a 304")).unwrap();
    let got = get(server.addr(), &format!("/case/{fresh}"), "");
    assert_eq!((got.field("X-A"), got.field("ETag")), (Some("2"), Some("\"a\"")), "{got:?}");
    server.shut_down().unwrap();
}
