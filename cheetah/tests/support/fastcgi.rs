//! A FastCGI program in the test's own process, that does what the path says: right and wrong.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::noise;

/// What the program has seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub connections: AtomicU64,
    pub requests: AtomicU64,
    /// Bytes of responses written.
    pub written: AtomicU64,
    /// Connections that were closed on it while it wrote.
    pub cut: AtomicU64,
}

/// Serves at a socket in `dir`, a thread a connection (or all in one thread, one connection after the other).
pub fn serve(dir: &Path, one_at_a_time: bool) -> (PathBuf, Arc<Seen>) {
    let path = dir.join("program.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let seen = Arc::new(Seen::default());
    let told = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let seen = Arc::clone(&told);
            seen.connections.fetch_add(1, Ordering::Relaxed);
            let run = move || connection(&mut stream.unwrap(), &seen);
            if one_at_a_time {
                run();
            } else {
                std::thread::spawn(run);
            }
        }
    });
    (path, seen)
}

struct Request {
    params: BTreeMap<String, String>,
    content: Vec<u8>,
}

fn read_record(stream: &mut UnixStream) -> Option<(u8, Vec<u8>)> {
    let mut header = [0; 8];
    stream.read_exact(&mut header).ok()?;
    assert_eq!((header[0], header[2], header[3]), (1, 0, 1));
    let mut content = vec![0; usize::from(u16::from_be_bytes([header[4], header[5]]))];
    stream.read_exact(&mut content).ok()?;
    stream.read_exact(&mut vec![0; usize::from(header[6])]).ok()?;
    Some((header[1], content))
}

fn length(bytes: &mut &[u8]) -> usize {
    let (value, used) = match bytes[0] {
        short @ 0..128 => (usize::from(short), 1),
        long => {
            let four = [long & 0x7f, bytes[1], bytes[2], bytes[3]];
            (u32::from_be_bytes(four) as usize, 4)
        }
    };
    *bytes = &bytes[used..];
    value
}

fn request(stream: &mut UnixStream) -> Option<Request> {
    let (kind, begin) = read_record(stream)?;
    assert_eq!((kind, &begin[..3]), (1, &[0, 1, 1][..]), "a responder, and the connection is kept");
    let (mut params, mut content) = (Vec::new(), Vec::new());
    loop {
        match read_record(stream)? {
            (4, part) => params.extend(part),
            (5, part) if part.is_empty() => break,
            (5, part) => content.extend(part),
            other => panic!("{other:?}"),
        }
    }
    let (mut map, mut rest) = (BTreeMap::new(), &params[..]);
    while !rest.is_empty() {
        let (name_len, value_len) = (length(&mut rest), length(&mut rest));
        let (name, after) = rest.split_at(name_len);
        let (value, after) = after.split_at(value_len);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        map.insert(text(name), text(value));
        rest = after;
    }
    Some(Request { params: map, content })
}

fn record(stream: &mut UnixStream, kind: u8, content: &[u8]) -> std::io::Result<()> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    let padding = (8 - content.len() % 8) % 8;
    let mut bytes = vec![1, kind, 0, 1, high, low, padding as u8, 0];
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + padding, 0);
    stream.write_all(&bytes)
}

fn out(stream: &mut UnixStream, seen: &Seen, bytes: &[u8]) -> std::io::Result<()> {
    for part in bytes.chunks(30_000) {
        record(stream, 6, part)?;
        seen.written.fetch_add(part.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

fn connection(stream: &mut UnixStream, seen: &Seen) {
    while let Some(request) = request(stream) {
        seen.requests.fetch_add(1, Ordering::Relaxed);
        match answer(stream, seen, &request) {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => {
                seen.cut.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
}

/// Whether the connection goes on.
fn answer(stream: &mut UnixStream, seen: &Seen, request: &Request) -> std::io::Result<bool> {
    let path = request.params["PATH_INFO"].as_str();
    let mut parts = path.trim_start_matches('/').split('/');
    let what = parts.next().unwrap();
    let number = parts.next().and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let status = parts.next().map_or(String::new(), |status| format!("Status: {status}\r\n"));
    let end = |stream: &mut UnixStream, status: u8| record(stream, 3, &[0, 0, 0, 0, status, 0, 0, 0]);
    match what {
        "echo" => {
            let mut text = b"Content-Type: text/plain\r\n\r\n".to_vec();
            for (name, value) in &request.params {
                text.extend_from_slice(format!("{name}={value}\n").as_bytes());
            }
            text.extend_from_slice(b"\n");
            text.extend_from_slice(&request.content);
            out(stream, seen, &text)?;
        }
        "length" => {
            let head = format!("{status}Content-Length: {number}\nContent-Type: a/b\n\n");
            out(stream, seen, head.as_bytes())?;
            out(stream, seen, &noise(number))?;
        }
        "stream" => {
            out(stream, seen, format!("{status}Content-Type: a/b\n\n").as_bytes())?;
            out(stream, seen, &noise(number)[..number / 2])?;
            std::thread::sleep(Duration::from_millis(20));
            out(stream, seen, &noise(number)[number / 2..])?;
        }
        "endless" => {
            out(stream, seen, b"Content-Type: a/b\n\n")?;
            loop {
                out(stream, seen, &[b'x'; 30_000])?;
            }
        }
        "short" => out(stream, seen, b"Content-Length: 100\n\nonly this")?,
        "long" => out(stream, seen, b"Content-Length: 4\n\nonly this")?,
        "dies" => return Ok(false),
        "dies-late" => {
            out(stream, seen, b"Content-Length: 100\n\nhalf of it")?;
            std::thread::sleep(Duration::from_millis(100));
            return Ok(false);
        }
        "hangs" => std::thread::sleep(Duration::from_secs(3600)),
        "hangs-late" => {
            out(stream, seen, b"Content-Type: a/b\n\nhalf of it")?;
            std::thread::sleep(Duration::from_secs(3600));
        }
        "garbage" => stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?,
        "bad-head" => out(stream, seen, b"this is no field\n\n")?,
        "no-head" => {}
        "endless-head" => out(stream, seen, &b"A: b\n".repeat(10_000))?,
        "complains" => {
            record(stream, 7, b"something is odd\nvery")?;
            out(stream, seen, b"Content-Type: a/b\n\nfine")?;
        }
        "overloaded" => {
            end(stream, 2)?;
            return Ok(true);
        }
        other => panic!("{other}"),
    }
    end(stream, 0)?;
    // What closes behind an answer has been kept too long for the next request.
    Ok(!request.params["QUERY_STRING"].contains("last"))
}
