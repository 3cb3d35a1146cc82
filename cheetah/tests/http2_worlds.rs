//! HTTP/2 on the kernel's sockets and by our own TCP/IP, in the clear and over TLS: files byte for byte, what
//! clients put, what programs answer, and the end of a server.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cheetah::programs::{self, Address, Route, Target};
use cheetah::server::{Config, Server};
use cheetah::site::writable::SiteWriter;
use cheetah::transport::device::DeviceOptions;
use cheetah::upload::{Committer, Tokens, UploadLimits, Uploads};
use fsstack::OpenOptions;
use netstack::stack::Features;
use support::http2::*;
use support::secured::{self, Certificate, Client};
use support::servers::{connect, on_kernel, tap};
use support::{files, in_namespace, noise};

/// A client and its server, over whatever carries bytes.
struct Talk<S> {
    stream: S,
    reader: Reader,
}

impl<S: Read + Write> Talk<S> {
    fn new(stream: S) -> Talk<S> {
        let mut talk = Talk { stream, reader: Reader::default() };
        talk.say(&preface());
        talk
    }

    fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// Reads until that is so.
    #[track_caller]
    fn until(&mut self, is_so: impl Fn(&Reader) -> bool) -> &Reader {
        let mut bytes = vec![0; 1 << 16];
        while !is_so(&self.reader) {
            let read = self.stream.read(&mut bytes);
            let Ok(len) = read else {
                let summary = self.reader.answers.iter().map(|(stream, answer)| {
                    let Answer { body, is_whole, reset, .. } = answer;
                    format!("{stream}: {} {} {is_whole} {reset:?}", answer.status(), body.len())
                });
                panic!("nothing comes: {:?}", summary.collect::<Vec<_>>());
            };
            assert!(len > 0, "ended early: {:?}", self.reader.goaways);
            self.reader.take(&bytes[..len]);
        }
        &self.reader
    }

    #[track_caller]
    fn until_whole(&mut self, stream: u32) -> &Answer {
        self.until(|reader| reader.answers.get(&stream).is_some_and(|answer| answer.is_whole));
        &self.reader.answers[&stream]
    }
}

/// All files at once, as often as that, compared.
fn mirrors<S: Read + Write>(stream: S, rounds: u32) {
    let mut talk = Talk::new(stream);
    let count = files().len() as u32;
    for round in 0..rounds {
        let number = |file: u32| 2 * (round * count + file) + 1;
        let mut all = Vec::new();
        for (file, (path, _)) in (0..).zip(files()) {
            let path = format!("/{}", path.replace(' ', "%20"));
            let more: &[(&str, &str)] = if file % 2 == 0 { &[("priority", "i")] } else { &[] };
            all.extend(request(number(file), "GET", &path, more, None));
        }
        talk.say(&all);
        for (file, (path, contents)) in (0..).zip(files()) {
            let answer = talk.until_whole(number(file));
            assert_eq!(answer.status(), 200, "{path}");
            assert_eq!(answer.field("content-length"), Some(&contents.len().to_string()[..]));
            assert!(answer.body == *contents, "{path}");
        }
    }
}

/// A client that offers HTTP/2.
fn http2_client(certificate: &Certificate) -> Client {
    let mut client = Client::new(&certificate.der, None);
    Arc::make_mut(&mut client.config).alpn_protocols = vec![b"h2".to_vec()];
    client
}

#[test]
fn on_the_kernels_sockets() {
    let certificate = Certificate::new(&["localhost"]);
    let server = secured::on_kernel(certificate.acceptor());
    mirrors(connect(server.addr()), 3);
    let mut stream = http2_client(&certificate).connect(&server);
    stream.flush().unwrap();
    mirrors(stream, 3);
    let stats = server.shut_down().unwrap();
    assert_eq!((stats.http2.connections, stats.http2.streams), (2, 48));
    assert_eq!(stats.total_responses(), 48);
}

fn over_our_own(options: &DeviceOptions, features: Features) {
    let certificate = Certificate::new(&["localhost"]);
    let Some(server) = secured::on_device(certificate.acceptor(), options, features) else { return };
    mirrors(connect(server.addr()), 3);
    mirrors(http2_client(&certificate).connect(&server), 3);
    assert_eq!(server.shut_down().unwrap().http2.streams, 48);
}

#[test]
fn by_our_own_tcp() {
    in_namespace(|| over_our_own(&tap(), Features::default()));
}

#[test]
fn by_our_own_tcp_without_offloads_and_with_losses() {
    in_namespace(|| {
        let options = DeviceOptions { faults: Some("drop=2%,reorder=2%,seed=5".parse().unwrap()), ..tap() };
        over_our_own(&options, Features { offload: false, ..Features::default() });
    });
}

/// What was agreed on is kept to: HTTP/1.1 where that was, and no other beginning where it was HTTP/2.
#[test]
fn tls_agrees_on_the_version() {
    let certificate = Certificate::new(&["localhost"]);
    let server = secured::on_kernel(certificate.acceptor());
    let mut client = http2_client(&certificate);
    let mut talk = Talk { stream: client.connect(&server), reader: Reader::default() };
    talk.say(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(talk.until(|reader| !reader.goaways.is_empty()).goaways, [(0, 1)]);
    for (offered, agreed) in
        [(&["h2", "http/1.1"][..], "h2"), (&["http/1.1", "h2"], "h2"), (&["http/1.1"], "http/1.1")]
    {
        let offered = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::make_mut(&mut client.config).alpn_protocols = offered;
        let mut stream = client.connect(&server);
        stream.write_all(b"").unwrap();
        stream.conn.complete_io(&mut stream.sock).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(agreed.as_bytes()));
    }
    let mut acceptor = certificate.acceptor();
    acceptor.offer_http2(false);
    let server = secured::on_kernel(acceptor);
    Arc::make_mut(&mut client.config).alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut stream = client.connect(&server);
    stream.conn.complete_io(&mut stream.sock).unwrap();
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
}

const TOKEN: &str = "a-token-for-tests-0123";

#[test]
fn files_are_put() {
    let folder = tempfile::tempdir().unwrap();
    let writer = SiteWriter::open(&folder.path().join("a.img"), &OpenOptions::default()).unwrap();
    let site = writer.site();
    let committer = Committer::start(writer).unwrap();
    let tokens = Tokens::parse(TOKEN.as_bytes()).unwrap();
    let limits = UploadLimits { file_bytes: 3 << 20, ..UploadLimits::default() };
    let uploads = Arc::new(Uploads::new(&committer, tokens, limits));
    let server = on_kernel(site, &Config { uploads: Some(uploads), ..Config::default() });
    let mut talk = Talk::new(connect(server.addr()));
    let bearer = format!("Bearer {TOKEN}");
    let put = |stream: u32, path: &str, more: &[(&str, &str)]| {
        let more = [&[("authorization", &bearer[..])], more].concat();
        frame(HEADERS, END_HEADERS, stream, &block(&fields("PUT", path, &more)))
    };
    // Two at once, frame by frame, as far as windows go; one says its length.
    let contents = noise(2_000_000);
    let length = contents.len().to_string();
    talk.say(&[put(1, "/one.bin", &[]), put(3, "/two.bin", &[("content-length", &length)])].concat());
    talk.until(|reader| reader.settings.is_some());
    let (mut sent, mut left) = ([0; 2], [contents.len(); 2]);
    while left != [0, 0] {
        for which in 0..2 {
            let stream = 2 * which as u32 + 1;
            let given = |reader: &Reader, stream: u32, first: u64| {
                first + reader.windows.get(&stream).copied().unwrap_or(0)
            };
            let len = left[which].min(10_000);
            talk.until(|reader| {
                let all: usize = sent.iter().sum();
                given(reader, stream, 262_144) >= (sent[which] + len) as u64
                    && given(reader, 0, 65_535) >= (all + len) as u64
            });
            let flags = if left[which] == len { END_STREAM } else { 0 };
            if len > 0 {
                talk.say(&frame(DATA, flags, stream, &contents[sent[which]..sent[which] + len]));
            }
            sent[which] += len;
            left[which] -= len;
        }
    }
    assert_eq!((talk.until_whole(1).status(), talk.until_whole(3).status()), (201, 201));
    talk.say(&[get(5, "/one.bin"), get(7, "/two.bin")].concat());
    assert!(talk.until_whole(5).body == contents && talk.until_whole(7).body == contents);
    // More or less than was said, more than is taken, nobody's, after a question.
    let data = |stream: u32, flags: u8, content: &[u8]| frame(DATA, flags, stream, content);
    let three = [("content-length", "3")];
    talk.say(&[put(9, "/x", &three), data(9, END_STREAM, b"ab")].concat());
    talk.say(&[put(11, "/x", &three), data(11, 0, b"abcd")].concat());
    talk.say(&put(13, "/x", &[("content-length", "4000000")]));
    talk.say(&request(15, "PUT", "/x", &[], Some(b"abc")));
    talk.say(&put(17, "/asked", &[("expect", "100-continue")]));
    talk.until(|reader| reader.answers.get(&17).is_some_and(|answer| answer.interim == ["100"]));
    // With fields behind it.
    talk.say(&data(17, 0, b"yes"));
    talk.say(&frame(HEADERS, END_HEADERS | END_STREAM, 17, &block(&[("x-sum", "1")])));
    assert_eq!(talk.until_whole(17).status(), 201);
    assert_eq!(talk.until_whole(13).status(), 413);
    assert_eq!(talk.until_whole(15).status(), 401);
    let reader = talk.until(|reader| [9, 11].iter().all(|stream| reader.answers.contains_key(stream)));
    assert_eq!((reader.answers[&9].reset, reader.answers[&11].reset), (Some(1), Some(1)));
    talk.say(&[get(19, "/asked"), get(21, "/x")].concat());
    assert_eq!(talk.until_whole(19).body, b"yes");
    assert_eq!(talk.until_whole(21).status(), 404);
    server.shut_down().unwrap();
    committer.finish().unwrap();
}

#[test]
fn programs_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (path, seen) = support::fastcgi::serve(dir.path(), false);
    let route = Route::new("/app", Target::FastCgi(Address::Unix(path))).unwrap();
    let limits = programs::Limits { timeout: Duration::from_secs(1), ..programs::Limits::default() };
    let programs = programs::Config { routes: vec![route], limits, ..programs::Config::default() };
    let server = on_kernel(support::site(), &Config { programs: Arc::new(programs), ..Config::default() });
    let mut talk = Talk::new(connect(server.addr()));
    let content = noise(9_000);
    // All at once: one that streams, one with a length, errors of all kinds, files between them.
    let all = [
        get(1, "/app/stream/300000"),
        get(3, "/app/length/200000/201%20Made"),
        request(5, "POST", "/app/echo/a%20b?q=1", &[("cookie", "a=b"), ("cookie", "c=d")], Some(&content)),
        get(7, "/app/dies"),
        get(9, "/app/dies-late"),
        get(11, "/app/short"),
        get(13, "/app/bad-head"),
        request(15, "HEAD", "/app/length/1000", &[], None),
        get(17, "/hello.txt"),
        get(19, "/app/hangs"),
    ];
    talk.say(&all.concat());
    assert!(talk.until_whole(1).body == noise(300_000));
    let made = talk.until_whole(3);
    assert!(made.status() == 201 && made.body == noise(200_000));
    let echo = talk.until_whole(5);
    assert_eq!((echo.status(), echo.field("transfer-encoding")), (200, None));
    let text = String::from_utf8_lossy(&echo.body);
    for line in
        ["SERVER_PROTOCOL=HTTP/2.0", "HTTP_COOKIE=a=b; c=d", "CONTENT_LENGTH=9000", "QUERY_STRING=q=1"]
    {
        assert!(text.contains(&format!("{line}\n")), "{line}");
    }
    assert!(echo.body.ends_with(&content));
    for stream in [7, 13] {
        assert_eq!(talk.until_whole(stream).status(), 502, "{stream}");
    }
    // Less than was announced: whether the head had gone out by then is a matter of time.
    let reader =
        talk.until(|reader| reader.answers.get(&11).is_some_and(|it| it.is_whole || it.reset.is_some()));
    let short = &reader.answers[&11];
    assert!(matches!(
        (short.status(), short.is_whole, short.reset),
        (502, true, None) | (200, false, Some(2))
    ));
    let head = talk.until_whole(15);
    assert!(head.status() == 200 && head.body.is_empty());
    assert_eq!(talk.until_whole(17).body, b"hello, world\n");
    assert_eq!(talk.until_whole(19).status(), 504);
    // What ends too early is not taken for whole.
    let reader = talk.until(|reader| reader.answers[&9].reset.is_some());
    assert_eq!((reader.answers[&9].reset, reader.answers[&9].is_whole), (Some(2), false));
    // A client that resets is no longer written for.
    talk.say(&get(21, "/app/endless"));
    talk.until(|reader| reader.answers.get(&21).is_some_and(|answer| answer.body.len() > 100_000));
    talk.say(&frame(RST_STREAM, 0, 21, &8_u32.to_be_bytes()));
    let until = Instant::now() + Duration::from_secs(10);
    while seen.cut.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        assert!(Instant::now() < until, "the program still writes");
        // What was on its way has to be taken.
        talk.say(&frame(PING, 0, 0, &[0; 8]));
        let pongs = talk.reader.pongs.len();
        talk.until(|reader| reader.pongs.len() > pongs);
        std::thread::sleep(Duration::from_millis(10));
    }
    // Each whole response has its time, a program's as a file's: those of 1, 3, 5, 7, 13, 15, 17 and 19, and
    // that of 11 if it is an error's.
    talk.say(&get(23, "/hello.txt"));
    talk.until_whole(23);
    let counted = || server.report().latency.count();
    support::until("all have their times", || counted() >= 9);
    assert!(counted() <= 10);
    server.shut_down().unwrap();
}

/// What was asked for is answered, and the client knows what was not.
#[test]
fn a_server_ends() {
    let server: Server = on_kernel(support::site(), &Config::default());
    let mut talk = Talk::new(connect(server.addr()));
    let mut idle: Talk<TcpStream> = Talk::new(connect(server.addr()));
    talk.say(&get(1, "/big.bin"));
    talk.until(|reader| reader.answers.contains_key(&1));
    idle.until(|reader| reader.settings_acks > 0);
    let ending = std::thread::spawn(move || server.shut_down().unwrap());
    for talk in [&mut talk, &mut idle] {
        talk.until(|reader| !reader.pings.is_empty());
        let ping = talk.reader.pings[0].clone();
        talk.say(&frame(PING, ACK, 0, &ping));
        talk.until(|reader| reader.goaways.len() == 2);
    }
    assert!(talk.until_whole(1).body == files().iter().find(|(name, _)| *name == "big.bin").unwrap().1);
    let goaways = [talk.reader.goaways.clone(), idle.reader.goaways.clone()];
    assert_eq!(goaways, [[(0x7fff_ffff, 0), (1, 0)], [(0x7fff_ffff, 0), (0, 0)]]);
    drop((talk, idle));
    assert_eq!(ending.join().unwrap().http2.errors, 0);
}
