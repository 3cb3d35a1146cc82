//! `cheetah accelerate`: requests go to another server, what it answers is kept by the rules of RFC 9111, and
//! whatever it does is one response's fault. The origin says what is written down here, byte for byte.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cheetah::accelerator;
use cheetah::programs;
use cheetah::server::Config;
use netstack::stack::Features;
use support::accelerated::*;
use support::origin::{Origin, Say};
use support::program::Program;
use support::servers::{connect, on_device_with, on_kernel, tap};
use support::{in_namespace, noise, read_response, until};

/// Longer than a purge takes, shorter than an origin may be silent.
const LATE: Duration = Duration::from_millis(400);

/// What must be right in either world.
fn forwards_and_keeps(addr: SocketAddr, origin: &Origin) {
    let big = noise(300_000);
    origin.script("/big", vec![ok("Cache-Control: max-age=60\r\nETag: \"b\"\r\nX-Own: 1", &big)]);
    origin.script("/plain", vec![ok("Server: theirs", b"one"), ok("", b"two")]);
    let chunks = b"HTTP/1.1 200 OK\r\nCache-Control: s-maxage=60\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n8;x=y\r\n, world!\r\n0\r\nX: y\r\n\r\n";
    origin.script("/chunked", vec![Say::Raw(chunks.to_vec())]);
    origin.script(
        "/until-end",
        vec![Say::Last(b"HTTP/1.0 200 OK\r\nCache-Control: max-age=60\r\n\r\nto the end".to_vec())],
    );
    origin.script("/post", vec![ok("", b"done")]);
    let mut stream = connect(addr);
    for round in 0..2 {
        let got = ask(&mut stream, "GET", "/plain", "");
        assert_eq!(got.body, if round == 0 { &b"one"[..] } else { b"two" });
        assert!(got.field("Via") == Some("1.1 cheetah") && got.field("Date").is_some(), "{got:?}");
        assert_eq!(got.field("Server"), if round == 0 { Some("theirs") } else { None });
        for (path, content) in
            [("/big", &big[..]), ("/chunked", b"hello, world!"), ("/until-end", b"to the end")]
        {
            let got = ask(&mut stream, "GET", path, "");
            assert!(got.body == content, "{path} {round}");
            assert_eq!(is_hit(&got), round > 0, "{path} {round}: {got:?}");
            assert_eq!(got.field("Age").is_some(), round > 0);
        }
        let got = ask(&mut stream, "HEAD", "/big", "");
        assert!(is_hit(&got) && got.field("Content-Length") == Some("300000"), "{got:?}");
        assert_eq!((got.field("X-Own"), got.field("Date").is_some()), (Some("1"), true));
        let got = ask(&mut stream, "GET", "/big", "If-None-Match: \"a\", \"b\"\r\n");
        assert!(
            got.head.starts_with("HTTP/1.1 304") && got.field("ETag") == Some("\"b\"") && is_hit(&got),
            "{got:?}"
        );
        let got = ask(&mut stream, "GET", "/big", "Range: bytes=70000-140000\r\n");
        assert!(
            got.head.starts_with("HTTP/1.1 206") && got.body == big[70_000..=140_000] && is_hit(&got),
            "{}",
            got.head
        );
        assert_eq!(got.field("Content-Range"), Some("bytes 70000-140000/300000"));
        let got = ask(&mut stream, "GET", "/big", "Range: bytes=300000-\r\n");
        assert!(got.head.starts_with("HTTP/1.1 416"), "{}", got.head);
        write!(
            stream,
            "POST /post HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        .unwrap();
        assert_eq!(read_response(&mut stream, false).body, b"done");
    }
    // A HEAD that has something validated gets no content, and the next response is where it should be.
    origin.script("/validated", vec![ok("Cache-Control: max-age=0\r\nETag: \"a\"", b"one"), not_modified()]);
    for (method, content) in [("GET", &b"one"[..]), ("HEAD", b""), ("GET", b"one")] {
        assert_eq!(ask(&mut stream, method, "/validated", "").body, content);
    }
    assert_eq!(ask(&mut stream, "GET", "/chunked", "").body, b"hello, world!");
    assert_eq!((origin.asked("/big"), origin.asked("/chunked"), origin.asked("/until-end")), (1, 1, 1));
    assert_eq!(origin.contents("/post"), [b"abc", b"abc"]);
    let head = &origin.heads("/post")[0];
    assert!(head.contains("Content-Length: 3\r\n") && !head.contains("Transfer-Encoding"), "{head}");
    assert!(origin.connections() <= 3, "connections are kept: {}", origin.connections());
}

#[test]
fn an_origin_is_asked_and_kept_on_the_kernels_sockets() {
    let origin = Origin::start();
    let server = server(&origin);
    forwards_and_keeps(server.addr(), &origin);
    server.shut_down().unwrap();
}

#[test]
fn an_origin_is_asked_and_kept_by_our_own_tcp() {
    in_namespace(|| {
        let origin = Origin::start();
        let Some(server) = on_device_with(support::site(), &tap(), Features::default(), &config(&origin))
        else {
            return;
        };
        forwards_and_keeps(server.addr(), &origin);
        server.shut_down().unwrap();
    });
}

#[test]
fn who_asks_meanwhile_gets_the_same_as_it_comes() {
    let origin = Origin::start();
    let server = server(&origin);
    let head =
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst \r\n"
            .to_vec();
    let rest = b"6\r\nsecond\r\n0\r\n\r\n".to_vec();
    origin.script("/slow", vec![Say::Slowly(vec![head, rest], Duration::from_millis(300))]);
    let addr = server.addr();
    let mut clients: Vec<TcpStream> = (0..8).map(|_| connect(addr)).collect();
    for client in &mut clients {
        write!(client, "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    // The first half comes before the second one is said.
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"first ") {
        clients[7].read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    // Who comes late gets the first half, too.
    let mut late = connect(addr);
    write!(late, "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    for client in clients[..7].iter_mut().chain([&mut late]) {
        assert_eq!(read_response(client, false).body, b"first second");
    }
    assert_eq!(origin.asked("/slow"), 1);
    // What is one client's is asked for by each.
    let own = b"HTTP/1.1 200 OK\r\nCache-Control: private\r\nContent-Length: 3\r\n\r\nown".to_vec();
    origin.script("/own", vec![Say::Slowly(vec![own], Duration::from_millis(100))]);
    for client in &mut clients[..7] {
        write!(client, "GET /own HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    for client in &mut clients[..7] {
        assert_eq!(read_response(client, false).body, b"own");
    }
    assert_eq!(origin.asked("/own"), 7);
    server.shut_down().unwrap();
}

#[test]
fn what_is_stale_is_used_while_it_is_validated() {
    let origin = Origin::start();
    let server = server(&origin);
    let said = "Cache-Control: max-age=0, stale-while-revalidate=60\r\nETag: \"a\"";
    let fresh = b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\n\r\n".to_vec();
    origin.script("/swr", vec![ok(said, b"one"), Say::Slowly(vec![fresh], Duration::from_millis(50))]);
    assert_eq!(get(server.addr(), "/swr", "").body, b"one");
    let got = get(server.addr(), "/swr", "");
    assert!(
        is_hit(&got) && status_of(&got).contains("ttl=-") || status_of(&got).contains("ttl=0"),
        "{got:?}"
    );
    until("the origin was asked", || origin.asked("/swr") == 2);
    until("it is fresh again", || {
        let status = status_of(&get(server.addr(), "/swr", ""));
        status.contains("ttl=6") || status.contains("ttl=5")
    });
    assert_eq!(origin.asked("/swr"), 2);
    server.shut_down().unwrap();
}

#[test]
fn what_changes_something_has_it_forgotten() {
    let origin = Origin::start();
    let server = server(&origin);
    origin.script("/a", vec![ok("Cache-Control: max-age=60", b"a")]);
    origin.script("/b", vec![ok("Cache-Control: max-age=60", b"b")]);
    let mut stream = connect(server.addr());
    let mut fill = |path: &str| {
        ask(&mut stream, "GET", path, "");
        assert!(is_hit(&ask(&mut stream, "GET", path, "")), "{path}");
    };
    fill("/a");
    fill("/b");
    let mut stream = connect(server.addr());
    origin.script("/a", vec![Say::Sized("HTTP/1.1 403 No".into(), vec![])]);
    assert!(ask(&mut stream, "DELETE", "/a", "").head.starts_with("HTTP/1.1 403"));
    assert!(is_hit(&ask(&mut stream, "GET", "/a", "")), "it was not done");
    let made = "Cache-Control: max-age=60\r\nLocation: /b";
    origin.script("/a", vec![Say::Sized(format!("HTTP/1.1 201 Made\r\n{made}"), vec![])]);
    assert!(ask(&mut stream, "POST", "/a", "Content-Length: 0\r\n").head.starts_with("HTTP/1.1 201"));
    assert!(!is_hit(&ask(&mut stream, "GET", "/a", "")) && !is_hit(&ask(&mut stream, "GET", "/b", "")));
    assert!(is_hit(&ask(&mut stream, "GET", "/b", "")));
    for (fields, code) in [
        (String::new(), 401),
        ("Authorization: Bearer nonsense-nonsense\r\n".to_owned(), 401),
        (format!("Authorization: Bearer {TOKEN}\r\n"), 204),
        (format!("Authorization: Bearer {TOKEN}\r\n"), 404),
    ] {
        let got = ask(&mut stream, "PURGE", "/b", &fields);
        assert!(got.head.starts_with(&format!("HTTP/1.1 {code} ")), "{}", got.head);
    }
    assert!(!is_hit(&ask(&mut stream, "GET", "/b", "")));
    assert!(origin.heads("/b").iter().all(|head| head.starts_with("GET")), "nobody else hears of it");
    server.shut_down().unwrap();
}

#[test]
fn whatever_an_origin_does_is_one_responses_fault() {
    let origin = Origin::start();
    let server = server(&origin);
    let fresh = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n";
    let raw = |text: String| vec![Say::Last(text.into_bytes())];
    for (path, says, code) in [
        ("/dies", raw(String::new()), 502),
        ("/garbage", raw("garbage\r\n\r\n".into()), 502),
        ("/half-head", raw("HTTP/1.1 200 OK\r\nA: b".into()), 502),
        ("/endless-head", raw(format!("{fresh}{}", "A: b\r\n".repeat(5000))), 502),
        ("/two-lengths", raw(format!("{fresh}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")), 502),
        (
            "/length-and-chunks",
            raw(format!("{fresh}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
            502,
        ),
        ("/switches", raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".into()), 502),
        ("/interims", raw("HTTP/1.1 103 Early\r\n\r\n".repeat(20)), 502),
        ("/split", raw(format!("{fresh}X: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n")), 502),
        ("/silent", vec![Say::Silence(Duration::from_secs(3))], 504),
    ] {
        origin.script(path, says);
        let got = get(server.addr(), path, "");
        assert!(got.head.starts_with(&format!("HTTP/1.1 {code} ")), "{path}: {}", got.head);
        origin.script(path, vec![ok("", b"fine")]);
        assert_eq!(get(server.addr(), path, "").body, b"fine", "{path}: nothing of it is kept");
    }
    // Half a response is no whole one, and is not kept.
    for (path, half) in [
        ("/short", "Content-Length: 10\r\n\r\nhalf"),
        ("/half-chunk", "Transfer-Encoding: chunked\r\n\r\n9\r\nhalf"),
        ("/bad-chunk", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nz\r\n"),
    ] {
        origin.script(path, raw(format!("{fresh}{half}")));
        let mut stream = connect(server.addr());
        write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let text = String::from_utf8_lossy(&all);
        assert!(
            text.starts_with("HTTP/1.1 502")
                || !text.ends_with("0\r\n\r\n") && text.ends_with("half")
                || text.ends_with("half\r\n"),
            "{path}: {text}"
        );
        origin.script(path, vec![ok("", b"fine")]);
        assert_eq!(get(server.addr(), path, "").body, b"fine", "{path}: nothing of it is kept");
    }
    // What follows a response that nobody asked for is no answer to the next request.
    origin.script(
        "/surplus",
        vec![Say::Raw(
            format!("{fresh}Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
                .into_bytes(),
        )],
    );
    origin.script("/next", vec![ok("", b"fine")]);
    let mut stream = connect(server.addr());
    assert_eq!(ask(&mut stream, "GET", "/surplus", "").body, b"ok");
    assert_eq!(ask(&mut stream, "GET", "/next", "").body, b"fine");
    // Interim heads are passed over.
    origin.script(
        "/hints",
        vec![Say::Raw(
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                .to_vec(),
        )],
    );
    let got = ask(&mut stream, "GET", "/hints", "");
    assert!(got.body == b"ok" && got.field("Link").is_none(), "{got:?}");
    server.shut_down().unwrap();
}

/// What one party takes for the end of a request and another not never reaches the origin.
/// Content that ends with the connection is whole only if that ends in order.
#[test]
fn what_was_broken_off_is_not_kept() {
    let origin = Origin::start();
    let server = server(&origin);
    let half = b"HTTP/1.0 200 OK\r\nCache-Control: max-age=60\r\n\r\nhalf".to_vec();
    origin.script("/", vec![Say::Reset(half), ok("Cache-Control: max-age=60", b"whole")]);
    let mut stream = connect(server.addr());
    write!(stream, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    assert!(all.ends_with(b"half\r\n"), "not the end of its chunks: {}", String::from_utf8_lossy(&all));
    assert_eq!(get(server.addr(), "/", "").body, b"whole");
    server.shut_down().unwrap();
}

/// What was forgotten while the origin was asked about it does not come back.
#[test]
fn what_was_purged_stays_away() {
    let origin = Origin::start();
    let server = server(&origin);
    let late =
        Say::Slowly(vec![b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\n\r\n".to_vec()], LATE);
    origin.script("/", vec![ok("Cache-Control: max-age=0\r\nETag: \"a\"", b"old"), late, ok("", b"new")]);
    assert_eq!(get(server.addr(), "/", "").body, b"old");
    let addr = server.addr();
    let asks = std::thread::spawn(move || get(addr, "/", "").body);
    until("it is asked about", || origin.asked("/") == 2);
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    assert!(ask(&mut connect(addr), "PURGE", "/", &token).head.starts_with("HTTP/1.1 204"));
    assert_eq!(asks.join().unwrap(), b"old");
    assert_eq!(get(addr, "/", "").body, b"new");
    server.shut_down().unwrap();
}

/// Who follows and is slower than who leads is not forgotten when the response turns out to be too long to be
/// kept.
#[test]
fn who_is_behind_goes_on() {
    let origin = Origin::start();
    let limits = accelerator::Limits { bytes: 1 << 20, object: 100_000 };
    let server = on_kernel(support::site(), &config_with(&origin, limits));
    let content = noise(8_000_000);
    let mut parts = vec![b"HTTP/1.0 200 OK\r\nCache-Control: max-age=60\r\n\r\n".to_vec()];
    parts.extend(content.chunks(90_000).map(<[u8]>::to_vec));
    origin.script("/", vec![Say::Slowly(parts, Duration::from_millis(3)), ok("", b"again")]);
    let addr = server.addr();
    let read = |slowly: bool| {
        std::thread::spawn(move || {
            let mut stream = connect(addr);
            write!(stream, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
            if slowly {
                std::thread::sleep(Duration::from_secs(1));
            }
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            all.len()
        })
    };
    let leads = read(false);
    until("somebody leads", || origin.asked("/") == 1);
    let follows = read(true);
    let (leads, follows) = (leads.join().unwrap(), follows.join().unwrap());
    assert!(leads > 8_000_000, "{leads}");
    assert!(follows > 8_000_000 || origin.asked("/") > 1, "{follows}");
    server.shut_down().unwrap();
}

#[test]
fn requests_are_not_smuggled() {
    let origin = Origin::start();
    let server = server(&origin);
    origin.script("/", vec![ok("", b"fine")]);
    origin.script("/evil", vec![ok("", b"evil")]);
    for request in [
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 0\r\n\r\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\n\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\nHost: h\n\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n X: y\r\n\r\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        let mut stream = connect(server.addr());
        stream.write_all(request.as_bytes()).unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let text = String::from_utf8_lossy(&all);
        assert!(text.starts_with("HTTP/1.1 4") || text.starts_with("HTTP/1.1 5"), "{request:?}: {text}");
    }
    assert_eq!((origin.asked("/"), origin.asked("/evil")), (0, 0));
    // Content of a request is the origin's content, whatever it looks like.
    let mut stream = connect(server.addr());
    let content = "GET /evil HTTP/1.1\r\nHost: h\r\n\r\n";
    write!(stream, "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{content}", content.len())
        .unwrap();
    assert_eq!(read_response(&mut stream, false).body, b"fine");
    assert_eq!((origin.contents("/"), origin.asked("/evil")), (vec![content.as_bytes().to_vec()], 0));
    // Many origins take both spellings for one field.
    let fields =
        "X_Forwarded_For: 6.6.6.6\r\nx-real_ip: 6.6.6.6\r\nTransfer_Encoding: chunked\r\nX_Own: 1\r\n";
    get(server.addr(), "/", fields);
    let head = origin.heads("/").pop().unwrap();
    assert!(!head.contains("6.6.6.6") && !head.contains("chunked") && head.contains("X_Own: 1"), "{head}");
    server.shut_down().unwrap();
}

/// What is asked for though nobody waits holds its connection no longer than it is of use.
#[test]
fn a_revalidation_that_does_not_end_gives_its_connection_back() {
    let origin = Origin::start();
    let config = config(&origin);
    let mut programs = programs::Config::clone(&config.programs);
    programs.limits.max_links = 1;
    let server = on_kernel(support::site(), &Config { programs: Arc::new(programs), ..config });
    let stale = ok("Cache-Control: max-age=0, stale-while-revalidate=600\r\nETag: \"a\"", b"one");
    let endless = |fields: &str| {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: 1000000\r\n\r\n").into_bytes();
        let parts = std::iter::once(head).chain(std::iter::repeat_n(b"x".to_vec(), 100)).collect();
        Say::Slowly(parts, Duration::from_millis(100))
    };
    origin.script("/other", vec![ok("", b"other")]);
    for (path, fields, longest) in [
        // Not for others, and of no use to anybody as soon as that is known.
        ("/own", "Cache-Control: no-store", Duration::from_millis(650)),
        // To be kept, if it ever were whole.
        ("/kept", "Cache-Control: max-age=60", Duration::from_secs(6)),
    ] {
        origin.script(path, vec![stale.clone(), endless(fields)]);
        assert_eq!(get(server.addr(), path, "").body, b"one");
        let got = get(server.addr(), path, "");
        assert!(got.body == b"one" && is_hit(&got), "{got:?}");
        let asked = Instant::now();
        loop {
            let got = get(server.addr(), "/other", "");
            if got.body == b"other" {
                break;
            }
            // Requests wait for the one connection, and are told so after a while.
            assert!(
                got.head.starts_with("HTTP/1.1 504") && asked.elapsed() < longest,
                "{path}: {}",
                got.head
            );
        }
        assert!(asked.elapsed() < longest, "{path}: {:?}", asked.elapsed());
    }
    server.shut_down().unwrap();
}

#[test]
fn what_is_kept_is_bounded() {
    let origin = Origin::start();
    let limits = accelerator::Limits { bytes: 300_000, object: 100_000 };
    let config = config_with(&origin, limits);
    let server = on_kernel(support::site(), &config);
    let cache = config.programs.cache.as_ref().unwrap();
    let content = noise(150_000);
    let parts = content.chunks(10_000).flat_map(|part| {
        [format!("{:x}\r\n", part.len()).into_bytes(), part.to_vec(), b"\r\n".to_vec()].concat()
    });
    let chunked = [
        &b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
        &parts.collect::<Vec<u8>>(),
        b"0\r\n\r\n",
    ]
    .concat();
    origin.script("/sized", vec![ok("Cache-Control: max-age=60", &content)]);
    origin.script("/chunked", vec![Say::Raw(chunked)]);
    for path in ["/sized", "/chunked", "/sized", "/chunked"] {
        let got = get(server.addr(), path, "");
        assert!(got.body == content && !is_hit(&got), "{path}");
    }
    assert_eq!(cache.size(), (0, 0));
    for number in 0..20 {
        origin.script(&format!("/{number}"), vec![ok("Cache-Control: max-age=60", &content[..50_000])]);
        assert!(get(server.addr(), &format!("/{number}"), "").body == content[..50_000]);
        let (resources, bytes) = cache.size();
        assert!(bytes <= 300_000 && resources <= 6, "{resources} {bytes}");
    }
    assert!(cache.size().0 >= 4);
    server.shut_down().unwrap();
}

/// The program itself before Python's server, asked by curl in the clear, by HTTP/2 and over TLS; what it
/// does is told in its counters.
#[test]
fn the_program_before_another_ones_server() {
    let site = tempfile::tempdir().unwrap();
    let content = noise(200_000);
    std::fs::write(site.path().join("big.bin"), &content).unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(1_000_000);
    let file = std::fs::File::options().write(true).open(site.path().join("big.bin")).unwrap();
    file.set_modified(old).unwrap();
    let spawned = Command::new("python3")
        .args([
            "-u",
            "-m",
            "http.server",
            "0",
            "--bind",
            "127.0.0.1",
            "--directory",
            site.path().to_str().unwrap(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut python) = spawned.inspect_err(|error| eprintln!("skipped: python3: {error}")) else { return };
    let mut line = String::new();
    BufReader::new(python.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.split(' ').skip_while(|word| *word != "port").nth(1).unwrap_or_else(|| panic!("{line}"));
    let certificate = support::secured::Certificate::new(&["localhost"]);
    let (cert, key) = (certificate.files.cert.to_str().unwrap(), certificate.files.key.to_str().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    let mut arguments = vec!["accelerate".to_owned(), format!("http://127.0.0.1:{port}")];
    arguments
        .extend(["--tls-cert", cert, "--tls-key", key, "--tls-listen", "127.0.0.1:0"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut served = Program::start_by(command.stderr(Stdio::piped()), &arguments);
    let secured =
        format!("https://{}/big.bin", served.https.as_ref().unwrap()).replace("127.0.0.1", "localhost");
    let plain = format!("{}big.bin", served.url);
    for (url, how) in [(&plain, "--http1.1"), (&plain, "--http2-prior-knowledge"), (&secured, "--http2")] {
        for round in 0..2 {
            let arguments = ["-s", how, "--cacert", cert, "-D", "-", "-o"];
            let to = site.path().join("got");
            let out = Command::new("curl").args(arguments).arg(&to).arg(url).output();
            let Ok(out) = out.inspect_err(|error| eprintln!("skipped: curl: {error}")) else { break };
            let head = String::from_utf8_lossy(&out.stdout).to_lowercase();
            assert!(std::fs::read(&to).unwrap() == content, "{how} {url}: {head}");
            // By HTTP/2 in the clear it is what HTTP/1.1 got, over TLS a response of its own.
            let was_kept = round == 1 || (url == &plain && how != "--http1.1");
            assert_eq!(head.contains("cache-status: cheetah; hit; ttl="), was_kept, "{how} {round}: {head}");
            assert!(head.contains("via: ") && head.contains("last-modified: "), "{head}");
        }
    }
    let mut errors = served.take_errors().unwrap();
    served.signal("-USR1");
    let mut told = String::new();
    while !told.contains("kept of origins") {
        assert!(errors.read_line(&mut told).unwrap() > 0, "{told}");
    }
    assert!(told.contains("hits") && told.contains("forwarded"), "{told}");
    assert_eq!(served.end(), Some(0));
    python.kill().unwrap();
    python.wait().unwrap();
    for (arguments, what) in [
        (&["accelerate", "127.0.0.1:80"][..], "http://127.0.0.1"),
        (&["accelerate", "https://127.0.0.1"], "not secured"),
        (&["accelerate", "http://127.0.0.1/x"], "no path"),
        (&["serve", "--origin", "/x=ftp://127.0.0.1"], "http://HOST"),
        (&["accelerate", "http://127.0.0.1", "--purge-tokens", "/nowhere"], "/nowhere"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_cheetah")).args(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(what), "{arguments:?}: {told}");
    }
}
