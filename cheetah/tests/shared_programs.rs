//! Programs that answer out of memory which they share with the server: no copy, and no fault of theirs is
//! the server's.
//!
//! The programs are this very test program, started again ([`as_a_program`]) with what to do in its
//! environment.

mod support;

#[path = "../../examples/programs/pages.rs"]
#[allow(unreachable_pub, reason = "a program of its own, too")]
mod pages;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cheetah::programs::{self, Limits, Route, Start, Target};
use cheetah::server::{Config, Server};
use cheetah_program::wire::{self, FromProgram, FromServer, Name};
use cheetah_program::{Memory, Program};
use netstack::stack::Features;
use runtime::stats::work::Quantity;
use support::in_namespace;
use support::servers::{connect, on_device_with, on_kernel, tap};

/// Not a test, but what the tests start as a program: does nothing unless it is told what.
#[test]
fn as_a_program() {
    let Ok(what) = std::env::var("CHEETAH_TEST_PROGRAM") else { return };
    if what == "pages" {
        pages::main().unwrap();
    } else {
        misbehave(&what);
    }
    std::process::exit(0);
}

fn command(what: &str) -> Start {
    let exe = std::env::current_exe().unwrap();
    let words =
        ["/usr/bin/env", &format!("CHEETAH_TEST_PROGRAM={what}"), exe.to_str().unwrap(), "as_a_program"];
    Start::Command(
        [&words[..], &["--exact", "--nocapture"]].concat().iter().map(ToString::to_string).collect(),
    )
}

fn config(what: &str, timeout: Duration) -> Config {
    let route = Route::new("/app", Target::Shared(command(what))).unwrap();
    let limits = Limits { timeout, ..Limits::default() };
    let programs = programs::Config { routes: vec![route], params: Vec::new(), limits, ..Default::default() };
    Config { programs: Arc::new(programs), ..Config::default() }
}

const PATIENT: Duration = Duration::from_secs(20);

fn server(what: &str, timeout: Duration) -> Server {
    on_kernel(support::site(), &config(what, timeout))
}

/// Status and content; content that is not whole is an error.
fn ask(stream: &mut TcpStream, path: &str, content: &[u8]) -> (u16, Result<Vec<u8>, Vec<u8>>) {
    write!(stream, "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", content.len()).unwrap();
    stream.write_all(content).unwrap();
    let mut all = Vec::new();
    let mut part = vec![0; 1 << 16];
    loop {
        if let Some((head, rest)) =
            all.windows(4).position(|w| w == b"\r\n\r\n").map(|at| all.split_at(at + 4))
        {
            let head = String::from_utf8(head.to_vec()).unwrap();
            let status = head[9..12].parse().unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let done = match length {
                Some(length) => rest.len() >= length.parse().unwrap(),
                None => rest.ends_with(b"0\r\n\r\n"),
            };
            if done {
                let body = if length.is_some() { rest.to_vec() } else { unchunk(rest) };
                return (status, Ok(body));
            }
        }
        match stream.read(&mut part) {
            Ok(len @ 1..) => all.extend_from_slice(&part[..len]),
            _ => {
                return (
                    all.get(9..12).map_or(0, |code| String::from_utf8_lossy(code).parse().unwrap()),
                    Err(all),
                );
            }
        }
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|window| window == b"\r\n").unwrap();
        let len = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        if len == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[line + 2..line + 2 + len]);
        bytes = &bytes[line + 2 + len + 2..];
    }
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| b'a' + (i % 23) as u8).collect()
}

/// What must be right in either world.
fn serves(addr: SocketAddr) {
    let mut stream = connect(addr);
    for _ in 0..3 {
        let (status, body) = ask(&mut stream, "/app/hello", b"");
        assert_eq!((status, body.unwrap().starts_with(b"hello, 1")), (200, true));
        for len in [0, 1, 50_000, 65_536, 300_001] {
            for what in ["kept", "fresh"] {
                let (status, body) = ask(&mut stream, &format!("/app/{what}/{len}"), b"");
                assert!(status == 200 && body == Ok(content(len)), "{what} {len}: {status}");
            }
        }
        let sent: Vec<u8> = support::noise(200_000);
        assert!(ask(&mut stream, "/app/echo", &sent) == (200, Ok(sent.clone())));
        assert_eq!(ask(&mut stream, "/app/nothing", b"").0, 404);
    }
    // More than all of its memory, so that buffers must have come back: 32 MiB.
    let len = 40 << 20;
    assert!(ask(&mut stream, &format!("/app/fresh/{len}"), b"") == (200, Ok(content(len))));
    // A client that goes in the middle: the buffers come back, too.
    for _ in 0..3 {
        let mut gone = connect(addr);
        write!(gone, "GET /app/fresh/{len} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        gone.read_exact(&mut [0; 1000]).unwrap();
    }
    assert!(ask(&mut stream, &format!("/app/fresh/{len}"), b"") == (200, Ok(content(len))));
}

#[test]
fn a_program_answers_out_of_shared_memory_on_the_kernels_sockets() {
    let server = server("pages", PATIENT);
    serves(server.addr());
    server.shut_down().unwrap();
}

#[test]
fn a_program_answers_out_of_shared_memory_by_our_own_tcp() {
    in_namespace(|| {
        let config = config("pages", PATIENT);
        let Some(server) = on_device_with(support::site(), &tap(), Features::default(), &config) else {
            return;
        };
        serves(server.addr());
        server.shut_down().unwrap();
    });
}

/// The content of answers is never copied by us; and without the device's help, what is kept is summed for
/// its first answer and not again.
#[test]
fn no_copy_between_program_and_frame_and_one_sum_of_what_is_kept() {
    const LEN: u64 = 50_000;
    const TIMES: u64 = 20;
    let copied_and_summed = |server: &Server, path: &str| {
        let mut stream = connect(server.addr());
        assert!(ask(&mut stream, path, b"") == (200, Ok(content(LEN as usize))));
        let before = server.report().work;
        for _ in 0..TIMES {
            assert!(ask(&mut stream, path, b"") == (200, Ok(content(LEN as usize))));
        }
        let after = server.report().work;
        [Quantity::BytesCopied, Quantity::BytesSummed]
            .map(|quantity| (after[quantity] - before[quantity]) / TIMES)
    };
    let kernel = server("pages", PATIENT);
    assert_eq!(copied_and_summed(&kernel, "/app/kept/50000"), [0, 0]);
    assert_eq!(copied_and_summed(&kernel, "/app/fresh/50000"), [0, 0]);
    kernel.shut_down().unwrap();
    in_namespace(move || {
        let config = config("pages", PATIENT);
        let mut options = tap();
        options.offload = false;
        let features = Features { offload: false, ..Features::default() };
        let Some(server) = on_device_with(support::site(), &options, features, &config) else { return };
        let [copied, summed] = copied_and_summed(&server, "/app/kept/50000");
        assert!(copied < LEN / 20 && summed < LEN / 5, "kept: {copied} copied, {summed} summed");
        let [copied, summed] = copied_and_summed(&server, "/app/fresh/50000");
        assert!(copied < LEN / 20 && summed < LEN * 11 / 10, "fresh: {copied} copied, {summed} summed");
        server.shut_down().unwrap();
    });
}

/// Programs that do what they should not.
fn misbehave(what: &str) {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let say = |bytes: &[u8]| {
        let _ = rustix::io::write(&socket, bytes);
    };
    let mut message = vec![0; wire::MAX_MESSAGE];
    let mut next = || match rustix::io::read(&socket, &mut message) {
        Ok(len @ 1..) => match FromServer::parse(&message[..len]).unwrap() {
            FromServer::Request { request, .. } => Some(request),
            _ => Some(u32::MAX),
        },
        _ => None,
    };
    let name = Name { id: 1, generation: 1 };
    let good = wire::Range { name, buffer_offset: 0, buffer_len: 4096, start: 0, len: 10, flags: 0 };
    let answer = |request, range: wire::Range| {
        FromProgram::Answer { request, more: false, head: b"Content-Length: 10\n", ranges: vec![range] }
            .to_bytes()
    };
    if let "no-memory" | "silent-start" | "ends" = what {
        match what {
            "no-memory" => say(&FromProgram::Hello.to_bytes()),
            "ends" => return,
            _ => {}
        }
        while next().is_some() {}
        return;
    }
    // The usual beginning; then the same socket by hand.
    let _program =
        Program::on(socket.try_clone().unwrap(), Memory { buffer_bytes: 4096, buffers: 4 }).unwrap();
    let mut leaves_lying = what == "forgets";
    while let Some(request) = next() {
        if request == u32::MAX || std::mem::take(&mut leaves_lying) {
            continue;
        }
        let range = match what {
            "beyond" => wire::Range { buffer_offset: 4 * 4096 - 1, ..good },
            "far-beyond" => wire::Range { buffer_offset: u64::MAX - 5, ..good },
            "longer-than-its-buffer" => wire::Range { start: 4095, ..good },
            "wraps" => wire::Range { start: u32::MAX, len: u32::MAX, ..good },
            _ => good,
        };
        match what {
            "dies" => std::process::exit(1),
            "hangs" => std::thread::sleep(Duration::from_secs(3600)),
            "nonsense" => say(&[9; 40]),
            "hello-twice" => say(&FromProgram::Hello.to_bytes()),
            "too-long" => say(&vec![2; wire::MAX_MESSAGE + 100]),
            "not-asked" => {
                say(&answer(request.wrapping_add(7), good));
                say(&answer(request, good));
            }
            "moved" => {
                let head = b"Content-Length: 10\n";
                let moved = wire::Range { buffer_offset: 4096, ..good };
                let ranges = vec![wire::Range { len: 5, ..good }, wire::Range { len: 5, ..moved }];
                say(&FromProgram::Answer { request, more: false, head, ranges }.to_bytes());
            }
            "too-short" => say(&answer(request, wire::Range { len: 9, ..good })),
            "bad-head" => {
                say(&FromProgram::Answer { request, more: false, head: b"oh\n", ranges: vec![] }.to_bytes());
            }
            "dies-late" => {
                let head = b"Content-Length: 100\n";
                say(&FromProgram::Answer { request, more: true, head, ranges: vec![good] }.to_bytes());
                std::thread::sleep(Duration::from_millis(200));
                std::process::exit(1);
            }
            _ => say(&answer(request, range)),
        }
    }
}

#[test]
fn what_is_wrong_with_a_program_fails_its_requests_and_not_the_server() {
    for (what, status) in [
        ("no-memory", 502),
        ("ends", 502),
        ("silent-start", 504),
        ("beyond", 502),
        ("far-beyond", 502),
        ("longer-than-its-buffer", 502),
        ("wraps", 502),
        ("dies", 502),
        ("hangs", 504),
        ("nonsense", 502),
        ("hello-twice", 502),
        ("too-long", 502),
        ("moved", 502),
        ("too-short", 502),
        ("bad-head", 502),
        ("not-asked", 200),
        ("good", 200),
    ] {
        let server = server(what, Duration::from_millis(if status == 504 { 700 } else { 20_000 }));
        let mut stream = connect(server.addr());
        let (got, body) = ask(&mut stream, "/app/x", b"abc");
        assert_eq!(got, status, "{what}: {body:?}");
        assert!(body.is_ok(), "{what}");
        // The connection and the server live on.
        write!(stream, "GET /hello.txt HTTP/1.0\r\n\r\n").unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.ends_with(b"hello, world\n"), "{what}");
        server.shut_down().unwrap();
    }
    let server = server("dies-late", PATIENT);
    let (status, body) = ask(&mut connect(server.addr()), "/app/x", b"");
    assert!(status == 200 && body.is_err(), "half an answer is seen to be half");
    server.shut_down().unwrap();
}

/// The examples in C and Python, as they are given.
#[test]
fn the_examples_in_c_and_python_work() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let dir = tempfile::tempdir().unwrap();
    let compiled = dir.path().join("hello");
    let include = root.join("cheetah/program/include");
    let compiler = std::process::Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-I"])
        .args([&include, std::path::Path::new("-o"), &compiled, &root.join("examples/programs/hello.c")])
        .status();
    let python = root.join("examples/programs/hello.py");
    let mut commands = Vec::new();
    match compiler {
        Ok(status) => {
            assert!(status.success(), "the example in C does not compile");
            commands.push(compiled.to_str().unwrap().to_owned());
        }
        Err(error) => eprintln!("skipped: no C compiler ({error})"),
    }
    match std::process::Command::new("python3").arg("--version").output() {
        Ok(_) => commands.push(format!("python3 {}", python.display())),
        Err(error) => eprintln!("skipped: no Python ({error})"),
    }
    for command in commands {
        let route = Route::new("/app", Target::Shared(Start::parse(&command).unwrap())).unwrap();
        let programs = programs::Config { routes: vec![route], ..programs::Config::default() };
        let server =
            on_kernel(support::site(), &Config { programs: Arc::new(programs), ..Config::default() });
        let mut stream = connect(server.addr());
        // More lines than its memory holds: 4 MiB.
        for count in [1, 10, 1_000_000, 3] {
            let lines: String = (1..=count).map(|n| format!("line {n}\n")).collect();
            let (status, body) = ask(&mut stream, &format!("/app/{count}"), b"");
            assert!(status == 200 && body == Ok(lines.into_bytes()), "{command}: {count} lines");
        }
        for len in [1, 70_000, 1_000_000] {
            let sent = support::noise(len);
            assert!(ask(&mut stream, "/app/", &sent) == (200, Ok(sent)), "{command}: {len} bytes");
        }
        // Several clients at once, while it waits for buffers.
        let addr = server.addr();
        let clients: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(move || ask(&mut connect(addr), "/app/600000", b"").1.unwrap().len()))
            .collect();
        let lens: Vec<usize> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        assert!(lens.iter().all(|&len| len == lens[0] && len > 6_000_000), "{command}: {lens:?}");
        server.shut_down().unwrap();
    }
}

/// A program that answers others all the time has its time for each all the same.
#[test]
fn a_request_that_a_busy_program_leaves_lying_times_out() {
    let server = server("forgets", Duration::from_millis(700));
    let addr = server.addr();
    let forgotten = std::thread::spawn(move || ask(&mut connect(addr), "/app/x", b"").0);
    std::thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    while !forgotten.is_finished() {
        assert_eq!(ask(&mut connect(addr), "/app/x", b"").0, 200);
        assert!(begun.elapsed() < Duration::from_secs(10), "it waits for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(forgotten.join().unwrap(), 504);
    server.shut_down().unwrap();
}

/// A program that died is started again, though not more than once a second.
#[test]
fn a_program_that_died_is_started_again() {
    let server = server("dies", PATIENT);
    let addr = server.addr();
    let begun = Instant::now();
    let mut refused_at_once = 0;
    while begun.elapsed() < Duration::from_millis(1500) {
        assert_eq!(ask(&mut connect(addr), "/app/x", b"").0, 502);
        refused_at_once += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(refused_at_once > 5);
    server.shut_down().unwrap();
}
