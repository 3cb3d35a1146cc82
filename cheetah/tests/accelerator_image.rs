//! `--origin-image`: what is kept of an origin's responses is there after a restart, whatever ended the server, whole or not
//! at all, and is sent as a packed file is.

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cheetah::accelerator::{self, ArchiveOptions, Archivist};
use cheetah::server::Config;
use netstack::stack::Features;
use support::accelerated::*;
use support::origin::{Origin, Say};
use support::program::Program;
use support::servers::{connect, on_device_with, on_kernel, tap};
use support::{in_namespace, noise};

/// What an address has, as long and as much itself as its number says.
fn content(number: usize) -> Vec<u8> {
    let mut bytes = noise(number * number * 37 % 250_000);
    bytes.extend_from_slice(format!("the end of {number}").as_bytes());
    bytes
}

fn path(number: usize) -> String {
    format!("/{number}")
}

fn script(origin: &Origin, count: usize) {
    for number in 0..count {
        let fields = format!("Cache-Control: max-age=3600\r\nETag: \"{number}\"\r\nX-Own: {number}");
        origin.script(&path(number), vec![ok(&fields, &content(number))]);
    }
}

fn start(origin: &Origin, image: &Path) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    let url = origin.url();
    let tokens = image.with_extension("tokens");
    std::fs::write(&tokens, TOKEN).unwrap();
    let arguments = [
        "accelerate",
        &url,
        "--origin-image",
        image.to_str().unwrap(),
        "--purge-tokens",
        tokens.to_str().unwrap(),
    ];
    Program::start_by(command.stderr(Stdio::null()), &arguments)
}

fn addr(program: &Program) -> SocketAddr {
    program.addr.parse().unwrap()
}

#[test]
fn after_a_restart_the_origin_is_not_asked() {
    const COUNT: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("kept.img");
    let origin = Origin::start();
    script(&origin, COUNT);
    let program = start(&origin, &image);
    for number in 0..COUNT {
        assert!(get(addr(&program), &path(number), "").body == content(number));
    }
    assert_eq!(program.end(), Some(0));
    let program = start(&origin, &image);
    let mut stream = connect(addr(&program));
    for number in 0..COUNT {
        let got = ask(&mut stream, "GET", &path(number), "");
        assert!(got.body == content(number) && is_hit(&got), "{number}: {}", got.head);
        assert_eq!(got.field("X-Own"), Some(number.to_string().as_str()));
        assert!(got.field("Age").is_some() && got.field("Date").is_some(), "{}", got.head);
        assert_eq!(origin.asked(&path(number)), 1);
    }
    assert_eq!(program.end(), Some(0));
}

/// What must be right in either world, of what was never in this server's memory.
fn serves_what_lies_in_the_image(addr: SocketAddr) {
    let mut stream = connect(addr);
    for number in [39, 3, 0] {
        let whole = content(number);
        let got = ask(&mut stream, "HEAD", &path(number), "");
        assert!(is_hit(&got) && got.field("Content-Length") == Some(&whole.len().to_string()), "{got:?}");
        let got = ask(&mut stream, "GET", &path(number), "");
        assert!(got.body == whole && is_hit(&got), "{number}");
        let got = ask(&mut stream, "GET", &path(number), &format!("If-None-Match: \"{number}\"\r\n"));
        assert!(got.head.starts_with("HTTP/1.1 304") && is_hit(&got), "{got:?}");
        let got = ask(&mut stream, "GET", &path(number), "Range: bytes=-7\r\n");
        assert!(got.head.starts_with("HTTP/1.1 206") && got.body == whole[whole.len() - 7..], "{got:?}");
    }
}

/// A configuration that keeps in the image at `path`.
fn kept_at(origin: &Origin, path: &Path) -> (Config, Archivist) {
    let config = config_with(origin, accelerator::Limits::default());
    let options = ArchiveOptions { path: path.to_owned(), bytes: 64 << 20, origins: "this one's".to_owned() };
    let cache = config.programs.cache.as_ref().unwrap();
    let archivist = Archivist::start(cache, &options).unwrap();
    (config, archivist)
}

fn filled(origin: &Origin, image: &Path) {
    script(origin, 40);
    let (config, archivist) = kept_at(origin, image);
    let server = on_kernel(support::site(), &config);
    for number in [39, 3, 0] {
        assert!(get(server.addr(), &path(number), "").body == content(number));
    }
    server.shut_down().unwrap();
    archivist.finish().unwrap();
}

#[test]
fn it_is_sent_on_the_kernels_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("kept.img");
    let origin = Origin::start();
    filled(&origin, &image);
    let (config, archivist) = kept_at(&origin, &image);
    let server = on_kernel(support::site(), &config);
    serves_what_lies_in_the_image(server.addr());
    assert_eq!([39, 3, 0].map(|number| origin.asked(&path(number))), [1, 1, 1]);
    server.shut_down().unwrap();
    archivist.finish().unwrap();
}

#[test]
fn it_is_sent_by_our_own_tcp() {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("kept.img");
        let origin = Origin::start();
        filled(&origin, &image);
        let (config, archivist) = kept_at(&origin, &image);
        let Some(server) = on_device_with(support::site(), &tap(), Features::default(), &config) else {
            return;
        };
        serves_what_lies_in_the_image(server.addr());
        assert_eq!([39, 3, 0].map(|number| origin.asked(&path(number))), [1, 1, 1]);
        server.shut_down().unwrap();
        archivist.finish().unwrap();
    });
}

#[test]
fn what_is_stale_is_validated_and_sent_from_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("kept.img");
    let origin = Origin::start();
    let bytes = noise(200_000);
    let first = ok("Cache-Control: max-age=0\r\nETag: \"v\"", &bytes);
    let fresh = Say::Raw(b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=600\r\n\r\n".to_vec());
    origin.script("/v", vec![first, fresh]);
    let program = start(&origin, &image);
    assert!(get(addr(&program), "/v", "").body == bytes);
    assert_eq!(program.end(), Some(0));
    for asked in [2, 2, 2] {
        let program = start(&origin, &image);
        assert!(get(addr(&program), "/v", "").body == bytes);
        let got = get(addr(&program), "/v", "Range: bytes=70000-70009\r\n");
        assert!(got.body == bytes[70_000..70_010] && is_hit(&got), "{}", got.head);
        assert_eq!(origin.asked("/v"), asked);
        assert!(origin.heads("/v")[1].contains("If-None-Match: \"v\""));
        assert_eq!(program.end(), Some(0));
    }
}

/// The server is killed again and again while many clients fill it. What is there afterwards is right to the
/// last byte, and what was taken away stays away.
#[test]
fn killed_while_it_is_filled_it_has_nothing_by_half() {
    const COUNT: usize = 150;
    const ROUNDS: usize = 6;
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("kept.img");
    let origin = Origin::start();
    script(&origin, COUNT);
    // Half a response, and then nothing for long.
    let half =
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nContent-Length: 100000\r\n\r\nhalf".to_vec();
    origin.script(
        "/half",
        vec![Say::Slowly(vec![half, Vec::new()], Duration::from_millis(20)), ok("", b"whole")],
    );
    let mut seed = 7usize;
    let mut restored = 0;
    for round in 0..ROUNDS {
        let program = start(&origin, &image);
        let at = addr(&program);
        // What was there is right.
        for number in 0..COUNT {
            let mut stream = connect(at);
            let got = ask(&mut stream, "GET", &path(number), "Cache-Control: only-if-cached\r\n");
            if is_hit(&got) {
                assert!(got.body == content(number), "{round} {number}: {}", got.head);
                restored += 1;
            }
        }
        let gone = path(round);
        let got = ask(&mut connect(at), "PURGE", &gone, &format!("Authorization: Bearer {TOKEN}\r\n"));
        assert!(got.head.starts_with("HTTP/1.1 204") || got.head.starts_with("HTTP/1.1 404"), "{}", got.head);
        let mut stream = connect(at);
        write!(stream, "GET /half HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
                std::thread::spawn(move || {
                    let mut number = client * 31 + round * 17;
                    let Ok(mut stream) = std::net::TcpStream::connect(at) else { return };
                    while !stop.load(Ordering::Relaxed) {
                        number = (number * 5 + 13) % COUNT;
                        if path(number) == path(round) {
                            continue;
                        }
                        let line = format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", path(number));
                        // The server may be killed at any moment.
                        if stream.write_all(line.as_bytes()).is_err() || !drained(&mut stream) {
                            return;
                        }
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait = Duration::from_millis(300 + (seed >> 33) as u64 % 900);
        let until = Instant::now() + wait;
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        // By SIGKILL.
        drop(program);
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
        assert!(asked.load(Ordering::Relaxed) > 0);
        let program = start(&origin, &image);
        let got = ask(&mut connect(addr(&program)), "GET", &gone, "Cache-Control: only-if-cached\r\n");
        assert!(!is_hit(&got), "{round}: what was purged is there again");
        let got = ask(&mut connect(addr(&program)), "GET", "/half", "Cache-Control: only-if-cached\r\n");
        assert!(!is_hit(&got), "{round}: half of it");
        assert_eq!(program.end(), Some(0));
    }
    assert!(restored > 0, "nothing was ever kept");
}

/// Reads a response, whatever it is. Whether it was whole.
fn drained(stream: &mut std::net::TcpStream) -> bool {
    use std::io::Read;
    let mut bytes = Vec::new();
    let mut buffer = [0; 65536];
    loop {
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            let Some(length) = length.and_then(|length| length.parse::<usize>().ok()) else { return false };
            if bytes.len() >= head + 4 + length {
                return true;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return false,
            Ok(len) => bytes.extend_from_slice(&buffer[..len]),
        }
    }
}

#[test]
fn what_cannot_be_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let letter = dir.path().join("letter");
    std::fs::write(&letter, "a letter").unwrap();
    let letter = letter.to_str().unwrap();
    for (arguments, what) in [
        (&["serve", "examples", "--origin-image", "x.img"][..], "--origin"),
        (
            &["accelerate", "http://127.0.0.1", "--origin-cache", "0", "--origin-image", "x"],
            "--origin-cache 0",
        ),
        (&["accelerate", "http://127.0.0.1", "--origin-image-size", "1G"], "--origin-image"),
        (
            &["accelerate", "http://127.0.0.1", "--origin-image", "x", "--origin-image-size", "1M"],
            "64M or more",
        ),
        (
            &["accelerate", "http://127.0.0.1", "--listen", "127.0.0.1:0", "--origin-image", letter],
            "name another",
        ),
        (&["accelerate", "http://127.0.0.1", "--origin-image", "/nowhere/x"], "/nowhere/x"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_cheetah")).args(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(what), "{arguments:?}: {told}");
    }
}
