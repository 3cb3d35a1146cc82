//! What several test programs use: a small site, requests with what they must give, and a reader of
//! responses.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

pub mod accelerated;
pub mod authority;
pub mod browser;
pub mod fastcgi;
pub mod gated;
pub mod http2;
pub mod http2_pair;
pub mod origin;
pub mod program;
pub mod proof;
pub mod secured;
pub mod servers;

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use cheetah::site::Site;
use cheetah::site::pack;
use cheetah::store::{Found, Store as _};
use fsstack::image::build::Mtime;
use fsstack::{BuildOptions, Builder};
use netstack::sys::netns;

/// 06 Nov 1994 08:49:37 GMT
pub const MODIFIED: i64 = 784_111_777;

/// Runs `test` in a thread that has a network namespace of its own; threads it starts are in it, too.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if let Err(error) = netns::in_new(test) {
        eprintln!("skipped: no network namespace ({error})");
    }
}

/// Waits for what another thread or process does; `what` is told if that takes more than 20 seconds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < patience, "not seen: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Puts a copy of a program where it is run from, with these rights. Another process writes it: what this
/// one has open for writing, a child of another test's may have as well until it runs its own program, and
/// is busy as long.
pub fn install(from: &Path, to: &Path, mode: u32) {
    let status = Command::new("install").arg(format!("--mode={mode:o}")).args([from, to]).status().unwrap();
    assert!(status.success(), "{status}: {}", to.display());
}

/// Bytes that differ from place to place.
pub fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// The files of the test site.
pub fn files() -> &'static [(&'static str, Vec<u8>)] {
    static FILES: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| {
        vec![
            ("index.html", b"<!doctype html><title>home</title>".to_vec()),
            ("hello.txt", b"hello, world\n".to_vec()),
            ("empty", Vec::new()),
            ("a b/c&d.txt", b"odd name\n".to_vec()),
            ("docs/index.html", b"<h1>docs</h1>".to_vec()),
            ("docs/deep/er/file.css", b"p { margin: 0 }\n".to_vec()),
            ("noindex/file.bin", noise(3000)),
            ("big.bin", noise(1_000_003)),
        ]
    });
    &FILES
}

/// A site of these files.
pub fn site_of(files: &[(&str, Vec<u8>)]) -> Site {
    let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
    for (path, contents) in files {
        let mtime = Mtime { seconds: MODIFIED, nanoseconds: 5 };
        pack::add(&mut builder, path.as_bytes(), mtime, &contents[..]).unwrap();
    }
    let (device, _) = builder.finish().unwrap();
    Site::from_bytes(device.into_bytes()).unwrap()
}

/// The test site.
pub fn site() -> Arc<Site> {
    static SITE: LazyLock<Arc<Site>> = LazyLock::new(|| Arc::new(site_of(files())));
    Arc::clone(&SITE)
}

/// What a response's body must be.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// The file of that name.
    File(&'static str),
    /// These bytes of the file of that name.
    Part(&'static str, usize, usize),
    /// These parts of the file of that name, each with its head, between lines of the boundary that the head
    /// gives.
    Parts(&'static str, &'static [(usize, usize)]),
    /// Nothing.
    Empty,
    /// A page that says the status.
    Page,
}

/// A request and what must come of it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub request: &'static str,
    pub status: u16,
    /// Lines that the head must hold.
    pub has: &'static [&'static str],
    /// Names of fields that it must not hold.
    pub lacks: &'static [&'static str],
    pub body: Body,
    /// Whether the server closes after it.
    pub closes: bool,
}

const fn case(request: &'static str, status: u16, body: Body) -> Case {
    Case { request, status, has: &[], lacks: &[], body, closes: false }
}

/// Requests of all kinds. `$ETAG` stands for the entity tag of `hello.txt`.
pub const CASES: &[Case] = &[
    Case {
        has: &[
            "Content-Type: text/html; charset=utf-8",
            "Content-Length: 34",
            "Accept-Ranges: bytes",
            "Server: cheetah",
        ],
        lacks: &["Connection"],
        ..case("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, Body::File("index.html"))
    },
    Case {
        has: &["Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Content-Type: text/plain; charset=utf-8"],
        ..case("GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n", 200, Body::File("hello.txt"))
    },
    Case {
        has: &["Content-Length: 13"],
        ..case("HEAD /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n", 200, Body::Empty)
    },
    Case { has: &["Content-Length: 0"], ..case("GET /empty HTTP/1.1\r\nHost: a\r\n\r\n", 200, Body::Empty) },
    case("GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n", 200, Body::File("big.bin")),
    case("GET /a%20b/c%26d.txt HTTP/1.1\r\nHost: a\r\n\r\n", 200, Body::File("a b/c&d.txt")),
    case("GET /docs/../hello.txt HTTP/1.1\r\nHost: a\r\n\r\n", 200, Body::File("hello.txt")),
    case(
        "GET //docs/./deep//er/file.css?v=1 HTTP/1.1\r\nHost: a\r\n\r\n",
        200,
        Body::File("docs/deep/er/file.css"),
    ),
    case("GET http://a/hello.txt HTTP/1.1\r\nHost: a\r\n\r\n", 200, Body::File("hello.txt")),
    case("GET /docs/ HTTP/1.1\r\nHost: a\r\n\r\n", 200, Body::File("docs/index.html")),
    Case { has: &["Location: /docs/"], ..case("GET /docs HTTP/1.1\r\nHost: a\r\n\r\n", 301, Body::Page) },
    Case {
        has: &["Location: /docs/?x=%22&y"],
        ..case("GET //docs?x=%22&y HTTP/1.1\r\nHost: a\r\n\r\n", 301, Body::Page)
    },
    // A folder without an index gives nothing away.
    case("GET /noindex HTTP/1.1\r\nHost: a\r\n\r\n", 404, Body::Page),
    case("GET /noindex/ HTTP/1.1\r\nHost: a\r\n\r\n", 404, Body::Page),
    case("GET /noindex/file.bin HTTP/1.1\r\nHost: a\r\n\r\n", 200, Body::File("noindex/file.bin")),
    case("GET /hello.txt/ HTTP/1.1\r\nHost: a\r\n\r\n", 404, Body::Page),
    case("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404, Body::Page),
    case("HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404, Body::Empty),
    case("GET /../hello.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400, Body::Page),
    case("GET /%2e%2e/hello.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400, Body::Page),
    case("GET /hello%00.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400, Body::Page),
    case("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, Body::Page),
    // Versions and persistence.
    Case {
        has: &["Connection: close"],
        closes: true,
        ..case("GET /hello.txt HTTP/1.0\r\n\r\n", 200, Body::File("hello.txt"))
    },
    Case {
        has: &["Connection: keep-alive"],
        ..case("GET /hello.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, Body::File("hello.txt"))
    },
    Case {
        has: &["Connection: close"],
        closes: true,
        ..case(
            "GET /hello.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            200,
            Body::File("hello.txt"),
        )
    },
    Case { closes: true, ..case("GET / HTTP/1.1\r\n\r\n", 400, Body::Page) },
    Case { closes: true, ..case("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, Body::Page) },
    Case { closes: true, ..case("nonsense\r\n\r\n", 400, Body::Page) },
    // Methods and content.
    Case {
        has: &["Allow: GET, HEAD, OPTIONS"],
        ..case("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, Body::Page)
    },
    Case {
        has: &["Allow: GET, HEAD, OPTIONS"],
        ..case("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /", 405, Body::Page)
    },
    Case {
        has: &["Allow: GET, HEAD, OPTIONS"],
        lacks: &["Content-Length", "Content-Type"],
        ..case("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 204, Body::Empty)
    },
    Case {
        has: &["Allow: GET, HEAD, OPTIONS"],
        ..case("OPTIONS /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n", 204, Body::Empty)
    },
    Case {
        has: &["Allow: GET, HEAD, OPTIONS"],
        ..case("OPTIONS /docs HTTP/1.1\r\nHost: a\r\n\r\n", 204, Body::Empty)
    },
    case("OPTIONS /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404, Body::Page),
    case("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, Body::Page),
    case("GET /hello.txt#x HTTP/1.1\r\nHost: a\r\n\r\n", 400, Body::Page),
    // What one party takes for two lines another takes for one.
    Case { closes: true, ..case("GET /hello.txt HTTP/1.1\nHost: a\n\n", 400, Body::Page) },
    Case { closes: true, ..case("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, Body::Page) },
    Case {
        closes: true,
        ..case("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, Body::Page)
    },
    Case {
        has: &["Location: /docs/?x=%C3%A9"],
        ..case("GET /docs?x=\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 301, Body::Page)
    },
    case("BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", 501, Body::Page),
    case("GET /hello.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 200, Body::File("hello.txt")),
    Case {
        closes: true,
        ..case("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413, Body::Page)
    },
    Case {
        closes: true,
        ..case("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413, Body::Empty)
    },
    case(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n",
        405,
        Body::Page,
    ),
    case(
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
        200,
        Body::File("hello.txt"),
    ),
    Case {
        closes: true,
        ..case(
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
            405,
            Body::Page,
        )
    },
    // Conditions.
    Case {
        has: &["ETag: $ETAG"],
        lacks: &["Content-Length", "Content-Type"],
        ..case(
            "GET /hello.txt HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\", W/$ETAG\r\n\r\n",
            304,
            Body::Empty,
        )
    },
    case(
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\"\r\n\
         If-Modified-Since: Sun, 06 Nov 2094 08:49:37 GMT\r\n\r\n",
        200,
        Body::File("hello.txt"),
    ),
    case(
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
        304,
        Body::Empty,
    ),
    case(
        "HEAD /hello.txt HTTP/1.1\r\nHost: a\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n\r\n",
        200,
        Body::Empty,
    ),
    case("GET /hello.txt HTTP/1.1\r\nHost: a\r\nIf-Match: \"x\"\r\n\r\n", 412, Body::Page),
    case(
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\nIf-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n\r\n",
        412,
        Body::Page,
    ),
    // Ranges.
    Case {
        has: &["Content-Range: bytes 7-11/13", "Content-Length: 5", "ETag: $ETAG"],
        ..case(
            "GET /hello.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=7-11\r\n\r\n",
            206,
            Body::Part("hello.txt", 7, 12),
        )
    },
    Case {
        has: &["Content-Range: bytes 999000-1000002/1000003"],
        ..case(
            "GET /big.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=-1003\r\n\r\n",
            206,
            Body::Part("big.bin", 999_000, 1_000_003),
        )
    },
    Case {
        has: &["Content-Range: bytes */13"],
        ..case("GET /hello.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=13-\r\n\r\n", 416, Body::Page)
    },
    // What lies closer than another head is long is one part.
    Case {
        has: &["Content-Range: bytes 0-4/13", "Content-Type: text/plain; charset=utf-8"],
        ..case(
            "GET /hello.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1,3-4\r\n\r\n",
            206,
            Body::Part("hello.txt", 0, 5),
        )
    },
    Case {
        lacks: &["Content-Range"],
        ..case(
            "GET /big.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=-1,0-399999,2000000-,500000-999000\r\n\r\n",
            206,
            Body::Parts("big.bin", &[(1_000_002, 1_000_003), (0, 400_000), (500_000, 999_001)]),
        )
    },
    Case {
        has: &["Content-Range: bytes 0-4/13", "Content-Length: 5"],
        ..case(
            "GET /hello.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=20-29,0-4\r\n\r\n",
            206,
            Body::Part("hello.txt", 0, 5),
        )
    },
    case("GET /empty HTTP/1.1\r\nHost: a\r\nRange: bytes=-1\r\n\r\n", 200, Body::Empty),
    case("HEAD /hello.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n", 200, Body::Empty),
    case(
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\nIf-Range: $ETAG\r\n\r\n",
        206,
        Body::Part("hello.txt", 0, 2),
    ),
    case(
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\nIf-Range: \"x\"\r\n\r\n",
        200,
        Body::File("hello.txt"),
    ),
];

/// The entity tag of `hello.txt`.
pub fn hello_etag() -> String {
    let site = site();
    let Found::File(file) = site.find(b"/hello.txt") else { panic!("no hello.txt") };
    String::from_utf8(file.facts().validators.etag.to_vec()).unwrap()
}

impl Case {
    /// The request's bytes.
    pub fn bytes(&self, etag: &str) -> Vec<u8> {
        self.request.replace("$ETAG", etag).into_bytes()
    }

    /// Whether the request is a HEAD.
    pub fn is_head(&self) -> bool {
        self.request.starts_with("HEAD ")
    }

    /// Complains about whatever is wrong with `response`.
    pub fn check(&self, response: &Response, etag: &str) {
        let context = || format!("{:?}\n{}", self.request, response.head);
        assert_eq!(response.status, self.status, "{}", context());
        assert!(response.head.contains("\r\nDate: "), "{}", context());
        for line in self.has {
            let line = format!("\r\n{}\r\n", line.replace("$ETAG", etag));
            assert!(response.head.contains(&line), "{line:?} is missing: {}", context());
        }
        for name in self.lacks {
            assert_eq!(response.field(name), None, "{}", context());
        }
        let says_close = response.field("connection").is_some_and(|value| value == "close");
        assert_eq!(says_close, self.closes, "{}", context());
        let files = files();
        let contents = |name: &str| &files.iter().find(|(file, _)| *file == name).unwrap().1;
        match self.body {
            Body::File(name) => assert!(response.body == *contents(name), "{}", context()),
            Body::Part(name, from, to) => assert!(response.body == contents(name)[from..to], "{}", context()),
            Body::Parts(name, parts) => {
                let contents = contents(name);
                let kind = response.field("content-type").unwrap();
                let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
                let mut wanted = Vec::new();
                for &(from, to) in parts {
                    let (last, size) = (to - 1, contents.len());
                    let head = format!(
                        "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\
                         Content-Range: bytes {from}-{last}/{size}\r\n\r\n"
                    );
                    wanted.extend_from_slice(head.as_bytes());
                    wanted.extend_from_slice(&contents[from..to]);
                }
                wanted.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
                // The line break ahead of a boundary is the boundary's; the first needs none.
                assert!(response.body == wanted[2..], "{}", context());
            }
            Body::Empty => assert!(response.body.is_empty(), "{}", context()),
            Body::Page => {
                let title = format!("<title>{} ", self.status);
                assert!(String::from_utf8_lossy(&response.body).contains(&title), "{}", context());
            }
        }
    }
}

/// A response as read from a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Splits one response off the front of `bytes`; `None` if it is not all there.
pub fn split_response(bytes: &[u8], to_head: bool) -> Option<(Response, &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut words = head.split(' ');
    assert_eq!(words.next(), Some("HTTP/1.1"), "{head}");
    let status = words.next().unwrap().parse().unwrap();
    let mut response = Response { status, head, body: Vec::new() };
    let has_body = !to_head && !matches!(status, 204 | 304);
    let rest = &bytes[end..];
    if has_body && response.field("transfer-encoding").is_some() {
        let rest = take_chunks(rest, &mut response.body)?;
        return Some((response, rest));
    }
    let len = if has_body { response.field("content-length").unwrap().parse().unwrap() } else { 0 };
    response.body = rest.get(..len)?.to_vec();
    Some((response, &rest[len..]))
}

/// What is in the chunks at the front of `bytes`, and what follows them; `None` if they are not all there.
fn take_chunks<'a>(bytes: &'a [u8], content: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut rest = bytes;
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        let data = &rest[end + 2..];
        content.extend_from_slice(data.get(..len)?);
        rest = data.get(len + 2..)?;
        if len == 0 {
            return Some(rest);
        }
    }
}

/// Reads one response from a socket.
pub fn read_response(stream: &mut impl Read, to_head: bool) -> Response {
    let mut bytes = Vec::new();
    let mut chunk = [0; 65536];
    loop {
        if let Some((response, rest)) = split_response(&bytes, to_head) {
            assert!(rest.is_empty(), "more than one response: {:?}", String::from_utf8_lossy(rest));
            return response;
        }
        let n = stream.read(&mut chunk).unwrap();
        assert!(n > 0, "ended early: {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..n]);
    }
}
