//! The examples, as they stand, against the kernel's TCP over a TAP device in a private namespace. Where
//! namespaces or TAP devices are refused, one line says so.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use netstack::device::tap::TapDevice;
use netstack::sys::{link, netns};

fn main() -> ExitCode {
    if let Err(error) = netns::enter_private() {
        println!("examples: skipped, no private namespace here ({error})");
        return ExitCode::SUCCESS;
    }
    // By which the kernel reaches its own address: servers behind the proxy are there.
    link::set_up("lo").expect("the loopback of a namespace of our own");
    if let Err(error) = TapDevice::open(None, true) {
        println!("examples: skipped, no TAP device here ({error})");
        return ExitCode::SUCCESS;
    }
    for (name, most) in
        [("hello", 40), ("echo", 40), ("discard", 40), ("chargen", 40), ("proxy", 60), ("get", 60)]
    {
        let text = std::fs::read_to_string(format!("{}/examples/{name}.rs", env!("CARGO_MANIFEST_DIR")))
            .expect(name);
        assert!(text.lines().count() <= most, "{name} grows: {} lines", text.lines().count());
    }
    hello();
    echo();
    discard();
    chargen();
    proxy();
    get();
    println!("examples: ok");
    ExitCode::SUCCESS
}

/// A running example, ended with the value.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where cargo puts examples: beside the folder of this test. A run of this test alone does not build them.
fn path(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("a path");
    path.pop();
    path.pop();
    path.push("examples");
    path.push(name);
    assert!(path.exists(), "{} is not built: `cargo build -p netstack --examples` first", path.display());
    path
}

fn start(name: &str) -> Example {
    start_with(name, &[])
}

fn start_with(name: &str, more: &[&str]) -> Example {
    Example(Command::new(path(name)).arg(name).args(more).stdin(Stdio::null()).spawn().expect(name))
}

fn connect(port: u16) -> TcpStream {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpStream::connect_timeout(&([10, 77, 0, 2], port).into(), Duration::from_secs(2)) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < limit, "port {port}: {error}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn hello() {
    let _running = start("hello");
    for _ in 0..3 {
        let mut text = String::new();
        connect(7).read_to_string(&mut text).expect("read");
        assert_eq!(text, "hello\n");
    }
}

/// More than all buffers hold, so that the window closes and opens again.
fn echo() {
    let _running = start("echo");
    let sent = bytes(3_000_000);
    let mut stream = connect(7);
    let mut writer = stream.try_clone().expect("clone");
    let copy = sent.clone();
    let thread = thread::spawn(move || {
        writer.write_all(&copy).expect("write");
        writer.shutdown(Shutdown::Write).expect("half-close");
    });
    thread::sleep(Duration::from_millis(300));
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("read");
    thread.join().expect("written");
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());

    let socket = UdpSocket::bind("10.77.0.1:0").expect("bind");
    socket.connect("10.77.0.2:7").expect("connect");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("time-out");
    for len in [0, 1, 1472, 1473, 9000, 65_507] {
        socket.send(&sent[..len]).expect("send");
        let mut received = vec![0; 70_000];
        let n = socket.recv(&mut received).expect("receive");
        assert!(received[..n] == sent[..len], "{n} of {len} bytes");
    }
    let text = Command::new("sh").args(["-c", "echo by nc | nc -u -w 1 10.77.0.2 7"]).output();
    match text {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => {
            assert_eq!(output.stdout, b"by nc\n");
        }
        _ => println!("examples: no nc here, or it did not wait"),
    }
}

fn discard() {
    let _running = start("discard");
    let mut stream = connect(9);
    stream.write_all(&bytes(2_000_000)).expect("write");
    stream.shutdown(Shutdown::Write).expect("half-close");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("read");
    assert!(received.is_empty());
}

fn chargen() {
    let _running = start("chargen");
    let mut stream = connect(19);
    let mut received = vec![0; 5_000_000];
    stream.read_exact(&mut received).expect("read");
    let line = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789\r\n";
    assert!(received.iter().eq(line.iter().cycle().take(received.len())));
}

/// Our own TCP on one side, the kernel's on the other; each direction ends for itself, and what breaks on one
/// side breaks on the other.
fn proxy() {
    let server = TcpListener::bind("0.0.0.0:0").expect("bind");
    let port = server.local_addr().expect("bound").port();
    let _running = start_with("proxy", &[&format!("10.77.0.1:{port}")]);
    let sent = bytes(2_000_000);
    let mut client = connect(80);
    let (mut behind, _) = server.accept().expect("the proxy comes");
    let copy = sent.clone();
    let echo = thread::spawn(move || {
        let mut got = Vec::new();
        behind.read_to_end(&mut got).expect("read");
        assert!(got == copy, "{} bytes", got.len());
        behind.write_all(&got).expect("write");
    });
    client.write_all(&sent).expect("write");
    client.shutdown(Shutdown::Write).expect("half-close");
    let mut received = Vec::new();
    client.read_to_end(&mut received).expect("read");
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    echo.join().expect("echoed");

    drop(server);
    let mut client = connect(80);
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("time-out");
    let error = client.read(&mut [0; 1]).expect_err("nobody is behind it");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// A big file, whole; one that breaks off, and one that is not there.
fn get() {
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("file");
    let file = bytes(20_000_000);
    let server = TcpListener::bind("0.0.0.0:0").expect("bind");
    let port = server.local_addr().expect("bound").port();
    let copy = file.clone();
    let serving = thread::spawn(move || {
        let answers: [(&str, &[u8]); 5] = [
            ("HTTP/1.1 200 OK", &copy),
            ("HTTP/1.0 200 OK", &copy),
            ("HTTP/1.1 200 OK", &copy[..1000]),
            ("HTTP/1.1 404 Not Found", b""),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b""),
        ];
        for (status, body) in answers {
            let (mut stream, _) = server.accept().expect("the client comes");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a head");
                head.extend(byte);
            }
            assert!(head.starts_with(b"GET /file HTTP/1.0\r\n"), "{}", String::from_utf8_lossy(&head));
            write!(stream, "{status}\r\nContent-Length: {}\r\n\r\n", copy.len()).expect("write");
            stream.write_all(body).expect("write");
        }
    });
    let run = || {
        let output = Command::new(path("get"))
            .args(["get", &format!("10.77.0.1:{port}"), "/file"])
            .arg(&to)
            .output()
            .expect("get");
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    for _ in 0..2 {
        assert_eq!(run(), (true, "20000000 bytes\n".to_owned()));
        assert!(std::fs::read(&to).expect("written") == file, "another file");
    }
    let (is_whole, text) = run();
    assert!(!is_whole && text.contains("1000 bytes came of 20000000"), "{text}");
    let (is_there, text) = run();
    assert!(!is_there && text.contains("404"), "{text}");
    let (is_taken, text) = run();
    assert!(!is_taken && text.contains("Transfer-Encoding"), "{text}");
    serving.join().expect("served");
}
