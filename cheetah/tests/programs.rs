//! FastCGI programs behind the server: what is right of them arrives whole, what is wrong is one response's
//! fault, on the kernel's sockets and by our own TCP.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cheetah::programs::{self, Address, Limits, Route, Target};
use cheetah::server::{Config, Server};
use netstack::stack::Features;
use support::fastcgi::{self, Seen};
use support::servers::{connect, connect_narrow, on_device_with, on_kernel, tap};
use support::{in_namespace, noise};

fn config(path: &Path, limits: Limits) -> Config {
    let route = Route::new("/app", Target::FastCgi(Address::Unix(path.into()))).unwrap();
    let programs = programs::Config {
        routes: vec![route],
        params: vec![("APP".into(), "x y".into())],
        limits,
        ..Default::default()
    };
    Config { programs: Arc::new(programs), ..Config::default() }
}

fn quick() -> Limits {
    Limits { timeout: Duration::from_millis(600), ..Limits::default() }
}

/// A server with a program at `/app`.
struct Lab {
    server: Server,
    seen: Arc<Seen>,
    _dir: tempfile::TempDir,
}

fn lab(limits: Limits, one_at_a_time: bool) -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let (path, seen) = fastcgi::serve(dir.path(), one_at_a_time);
    Lab { server: on_kernel(support::site(), &config(&path, limits)), seen, _dir: dir }
}

/// A response: head, body as it was meant, and whether it came to its end.
struct Got {
    head: String,
    body: Vec<u8>,
    whole: bool,
}

impl Got {
    fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    fn has(&self, line: &str) -> bool {
        self.head.lines().any(|other| other.eq_ignore_ascii_case(line))
    }
}

fn send(stream: &mut TcpStream, method: &str, path: &str, content: &[u8]) {
    let length =
        if content.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", content.len()) };
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: h\r\n{length}\r\n").unwrap();
    stream.write_all(content).unwrap();
}

/// Reads the one response that is next, in chunks, by length, or to the end of the connection.
fn receive(stream: &mut TcpStream, is_head: bool) -> Got {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return Got { head: String::from_utf8(all).unwrap(), body: Vec::new(), whole: false };
        }
        all.push(byte[0]);
    }
    let head = String::from_utf8(all).unwrap();
    let value = |name: &str| {
        head.lines()
            .find_map(|line| line.to_lowercase().strip_prefix(name).map(|value| value.trim().to_owned()))
    };
    let (mut body, mut whole) = (Vec::new(), true);
    if is_head || head.starts_with("HTTP/1.1 304") || head.starts_with("HTTP/1.1 100") {
    } else if let Some(length) = value("content-length:") {
        let length: u64 = length.parse().unwrap();
        let _ = stream.take(length).read_to_end(&mut body);
        whole = body.len() as u64 == length;
    } else if value("transfer-encoding:").is_some() {
        whole = loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                line.push(byte[0]);
            }
            let Ok(len) = u64::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16) else {
                break false;
            };
            let before = body.len() as u64;
            let _ = stream.take(len + 2).read_to_end(&mut body);
            if body.len() as u64 != before + len + 2 {
                break false;
            }
            body.truncate(body.len() - 2);
            if len == 0 {
                break true;
            }
        };
    } else {
        let _ = stream.read_to_end(&mut body);
    }
    Got { head, body, whole }
}

fn get(addr: SocketAddr, path: &str) -> Got {
    let mut stream = connect(addr);
    send(&mut stream, "GET", path, b"");
    receive(&mut stream, false)
}

/// What must be right in either world.
fn serves(addr: SocketAddr, seen: &Seen) {
    let mut stream = connect(addr);
    for round in 0..2 {
        send(&mut stream, "GET", "/hello.txt", b"");
        assert_eq!(receive(&mut stream, false).body, b"hello, world\n");
        send(&mut stream, "GET", "/app/length/200000/201%20Made", b"");
        let got = receive(&mut stream, false);
        assert!(got.head.starts_with("HTTP/1.1 201 Made\r\n"), "{}", got.head);
        assert!(
            got.has("Content-Length: 200000") && got.has("Content-Type: a/b") && got.has("Server: cheetah")
        );
        assert!(got.body == noise(200_000));
        send(&mut stream, "GET", "/app/stream/300000", b"");
        let got = receive(&mut stream, false);
        assert!(got.has("Transfer-Encoding: chunked"), "{}", got.head);
        assert!(got.whole && got.body == noise(300_000), "round {round}");
        send(&mut stream, "POST", "/app/echo/a%20b?q=1", &noise(70_000));
        let got = receive(&mut stream, false);
        let text = String::from_utf8_lossy(&got.body);
        for line in [
            "PATH_INFO=/echo/a b",
            "SCRIPT_NAME=/app",
            "QUERY_STRING=q=1",
            "REQUEST_METHOD=POST",
            "CONTENT_LENGTH=70000",
            "APP=x y",
            "SERVER_NAME=h",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in {text:.2000}");
        }
        assert!(got.body.ends_with(&noise(70_000)));
        send(&mut stream, "HEAD", "/app/length/5000", b"");
        let got = receive(&mut stream, true);
        assert!(got.has("Content-Length: 5000"), "{}", got.head);
        send(&mut stream, "GET", "/app/length/0/304", b"");
        assert_eq!(receive(&mut stream, false).status(), 304);
    }
    assert_eq!(seen.connections.load(Ordering::Relaxed), 1, "one connection was kept for all");
    // Pipelined: answered in order.
    for path in ["/app/stream/1000", "/hello.txt", "/app/length/10", "/app/length/20"] {
        send(&mut stream, "GET", path, b"");
    }
    for len in [1000, 13, 10, 20] {
        assert_eq!(receive(&mut stream, false).body.len(), len);
    }
}

#[test]
fn programs_answer_on_the_kernels_sockets() {
    let lab = lab(Limits::default(), false);
    serves(lab.server.addr(), &lab.seen);
    lab.server.shut_down().unwrap();
}

#[test]
fn programs_answer_by_our_own_tcp() {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let (path, seen) = fastcgi::serve(dir.path(), false);
        let config = config(&path, Limits::default());
        let Some(server) = on_device_with(support::site(), &tap(), Features::default(), &config) else {
            return;
        };
        serves(server.addr(), &seen);
        server.shut_down().unwrap();
    });
}

#[test]
fn what_is_wrong_with_a_program_is_one_response() {
    let lab = lab(quick(), false);
    let addr = lab.server.addr();
    let mut kept = connect(addr);
    for (path, status) in [
        ("/app/dies", 502),
        ("/app/garbage", 502),
        ("/app/bad-head", 502),
        ("/app/no-head", 502),
        ("/app/endless-head", 502),
        ("/app/length/10/99", 502),
        ("/app/length/10/1000", 502),
        ("/app/overloaded", 503),
        ("/app/hangs", 504),
    ] {
        // On one connection: it lives on.
        send(&mut kept, "GET", path, b"");
        let got = receive(&mut kept, false);
        assert_eq!(got.status(), status, "{path}: {}", got.head);
        assert!(got.whole && String::from_utf8_lossy(&got.body).contains(&status.to_string()), "{path}");
        send(&mut kept, "GET", "/app/length/10", b"");
        assert_eq!(receive(&mut kept, false).body, noise(10), "after {path}");
    }
    let got = get(addr, "/app/long");
    assert_eq!((got.status(), &got.body[..], got.whole), (200, &b"only"[..], true));
    // Less than was announced: whether the head had gone out by then is a matter of time.
    let got = get(addr, "/app/short");
    assert!(matches!((got.status(), got.whole), (502, true) | (200, false)), "{}", got.head);
    for path in ["/app/dies-late", "/app/hangs-late"] {
        let got = get(addr, path);
        assert_eq!((got.status(), got.whole, &got.body[..]), (200, false, &b"half of it"[..]), "{path}");
    }
    assert_eq!(get(addr, "/app/complains").body, b"fine");
    assert_eq!(get(addr, "/hello.txt").status(), 200);
    // The others are gone as soon as the server sees that.
    support::until("`kept` alone", || lab.server.report().open == 1);
    lab.server.shut_down().unwrap();
}

#[test]
fn a_program_that_is_not_there_is_a_502_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program.sock");
    let server = on_kernel(support::site(), &config(&path, quick()));
    assert_eq!(get(server.addr(), "/app/length/1").status(), 502);
    let (_, _seen) = fastcgi::serve(dir.path(), false);
    assert_eq!(get(server.addr(), "/app/length/1").status(), 200);
    server.shut_down().unwrap();
}

#[test]
fn a_kept_connection_that_died_is_replaced_for_who_may_ask_twice() {
    let lab = lab(quick(), false);
    let addr = lab.server.addr();
    for round in 0..3 {
        // The program closes behind its answer; the next request may be written before that is seen.
        assert_eq!(get(addr, "/app/length/10?last").status(), 200, "round {round}");
    }
    assert_eq!(lab.seen.requests.load(Ordering::Relaxed), 3);
    lab.server.shut_down().unwrap();
}

/// A program that writes without end to a client that does not read is stopped by its own socket; when the
/// client goes, it is told so.
#[test]
fn a_program_is_read_no_faster_than_its_client() {
    let lab = lab(quick(), false);
    let mut client = connect_narrow(lab.server.addr());
    send(&mut client, "GET", "/app/endless", b"");
    let written = || lab.seen.written.load(Ordering::Relaxed);
    let mut before = u64::MAX;
    let begun = Instant::now();
    while before != written() {
        before = written();
        std::thread::sleep(Duration::from_millis(150));
        assert!(begun.elapsed() < Duration::from_secs(20), "it is read for ever: {before} bytes");
    }
    // Buffers of two sockets at each end, and what waits here: a few megabytes, whatever the machine's
    // defaults.
    assert!(before < 12 << 20, "{before} bytes were read");
    // Longer than a program may be silent: it is not it who is.
    std::thread::sleep(Duration::from_millis(700));
    let mut part = vec![0; 4 << 20];
    client.read_exact(&mut part).unwrap();
    drop(client);
    let begun = Instant::now();
    while lab.seen.cut.load(Ordering::Relaxed) == 0 {
        std::thread::sleep(Duration::from_millis(5));
        assert!(begun.elapsed() < Duration::from_secs(10), "nobody tells the program");
    }
    lab.server.shut_down().unwrap();
}

/// It accepts a second connection only when the first one ends, which is kept.
#[test]
fn a_program_of_one_connection_serves_many_clients() {
    let lab = lab(Limits { timeout: Duration::from_secs(10), ..Limits::default() }, true);
    let addr = lab.server.addr();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                (0..3).for_each(|_| assert_eq!(get(addr, "/app/stream/2000").body, noise(2000)));
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    lab.server.shut_down().unwrap();
}

#[test]
fn more_requests_than_connections_wait_for_their_turn() {
    let lab = lab(Limits { max_links: 2, max_waiting: 4, ..quick() }, false);
    let addr = lab.server.addr();
    let mut clients: Vec<TcpStream> = (0..6).map(|_| connect(addr)).collect();
    for client in &mut clients {
        send(client, "GET", "/app/stream/1000", b"");
    }
    assert!(clients.iter_mut().all(|client| receive(client, false).status() == 200));
    assert_eq!(lab.seen.connections.load(Ordering::Relaxed), 2);
    // Two hang, four wait, one is too many.
    let mut clients: Vec<TcpStream> = (0..7).map(|_| connect(addr)).collect();
    for client in &mut clients {
        send(client, "GET", "/app/hangs", b"");
    }
    let mut statuses: Vec<u16> = clients.iter_mut().map(|client| receive(client, false).status()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses[0], 503);
    assert_eq!(statuses[1..], [504; 6]);
    lab.server.shut_down().unwrap();
}

#[test]
fn content_is_bounded_and_may_come_in_chunks() {
    let lab = lab(Limits { max_content: 1000, ..quick() }, false);
    let addr = lab.server.addr();
    let mut client = connect(addr);
    send(&mut client, "POST", "/app/echo", &[b'x'; 1000]);
    assert_eq!(receive(&mut client, false).status(), 200);
    let chunks = "5\r\nhello\r\n6;x=y\r\n, you.\r\n0\r\n\r\n";
    write!(client, "POST /app/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
        .unwrap();
    let got = receive(&mut client, false);
    assert!(got.body.ends_with(b"\nhello, you."), "{}", String::from_utf8_lossy(&got.body));
    assert!(String::from_utf8_lossy(&got.body).contains("\nCONTENT_LENGTH=11\n"));
    // Who waits to be told is told.
    write!(client, "POST /app/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    assert_eq!(receive(&mut client, false).status(), 100);
    client.write_all(b"abc").unwrap();
    assert!(receive(&mut client, false).body.ends_with(b"\nabc"));
    send(&mut client, "POST", "/app/echo", &[b'x'; 1001]);
    assert_eq!(receive(&mut client, false).status(), 413);
    let mut client = connect(addr);
    write!(client, "POST /app/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let _ = client.write_all(format!("7d0\r\n{}\r\n0\r\n\r\n", "x".repeat(2000)).as_bytes());
    assert_eq!(receive(&mut client, false).status(), 413);
    let mut client = connect(addr);
    write!(client, "POST /app/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
        .unwrap();
    assert_eq!(receive(&mut client, false).status(), 400);
    assert_eq!(lab.seen.requests.load(Ordering::Relaxed), 3, "what was refused did not reach it");
    lab.server.shut_down().unwrap();
}

#[test]
fn old_clients_get_all_until_the_end() {
    let lab = lab(quick(), false);
    let mut client = connect(lab.server.addr());
    write!(client, "GET /app/stream/100000 HTTP/1.0\r\n\r\n").unwrap();
    let got = receive(&mut client, false);
    assert!(!got.has("Transfer-Encoding: chunked") && got.has("Connection: close"), "{}", got.head);
    assert!(got.body == noise(100_000));
    lab.server.shut_down().unwrap();
}

/// Programs that are started for each request, right and wrong.
#[test]
fn a_program_a_request() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str, mode: u32| {
        let written = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(written.path(), format!("#!/bin/sh\n{text}\n")).unwrap();
        support::install(written.path(), &dir.path().join(name), mode);
    };
    let head = "printf 'Content-Type: text/plain\\n\\n'";
    script(
        "says",
        &format!("{head}; echo \"$SCRIPT_NAME|$PATH_INFO|$QUERY_STRING|$HTTP_X|$APP\"; cat"),
        0o755,
    );
    script("big", &format!("{head}; head -c 3000000 /dev/zero"), 0o755);
    script("fails", "exit 3", 0o755);
    script("sleeps", &format!("echo $$ > {}/pid; exec sleep 3600", dir.path().display()), 0o755);
    script("plain", head, 0o644);
    script(".hidden", head, 0o755);
    symlink("says", dir.path().join("link")).unwrap();
    let route = Route::new("/cgi", Target::Cgi(dir.path().into())).unwrap();
    let programs = programs::Config {
        routes: vec![route],
        params: vec![("APP".into(), "a".into())],
        limits: quick(),
        ..Default::default()
    };
    let server = on_kernel(support::site(), &Config { programs: Arc::new(programs), ..Config::default() });
    let mut client = connect(server.addr());
    send(&mut client, "POST", "/cgi/says/more%20of/it?q", b"the content");
    let got = receive(&mut client, false);
    assert_eq!(
        got.body,
        b"/cgi/says|/more of/it|q||a\nthe content",
        "{}",
        String::from_utf8_lossy(&got.body)
    );
    send(&mut client, "GET", "/cgi/big", b"");
    assert!(receive(&mut client, false).body == vec![0; 3_000_000]);
    for (path, status) in [
        ("/cgi", 404),
        ("/cgi/", 404),
        ("/cgi/missing", 404),
        ("/cgi/plain", 404),
        ("/cgi/.hidden", 404),
        ("/cgi/link", 404),
        ("/cgi/fails", 502),
        ("/cgi/sleeps", 504),
        ("/cgi/says", 200),
    ] {
        send(&mut client, "GET", path, b"");
        assert_eq!(receive(&mut client, false).status(), status, "{path}");
    }
    // What was silent for too long is no more, and nobody is left to be waited for.
    let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
    let begun = Instant::now();
    while Path::new(&format!("/proc/{}", pid.trim())).exists() {
        std::thread::sleep(Duration::from_millis(10));
        assert!(begun.elapsed() < Duration::from_secs(10), "it lives on");
    }
    server.shut_down().unwrap();
}

/// The command line: what is given twice, or is nothing, is refused with what to write.
#[test]
fn options_that_make_no_sense_are_refused() {
    for (arguments, why) in [
        (&["--fastcgi", "/a"][..], "/PREFIX=ADDRESS"),
        (&["--fastcgi", "a=unix:/s"], "as in /app"),
        (&["--fastcgi", "/a=/s"], "unix:/PATH or tcp:HOST:PORT"),
        (&["--fastcgi", "/a=unix:/s", "--program", "/a/=x"], "two programs"),
        (&["--fastcgi", "/a=unix:/s", "--program", "/a=x"], "two programs"),
        (&["--program", "/a= "], "a command"),
        (&["--cgi", "/a=/nowhere/at/all"], "No such file"),
        (&["--program-param", "A B=c"], "no name"),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cheetah"));
        let site = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/site");
        let done = command.args(["serve", site, "--listen", "127.0.0.1:0"]).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.code() == Some(2) && said.contains(why), "{arguments:?}: {said}");
    }
}
