//! A program behind Cheetah, in Rust: `cheetah serve site --program /pages=target/release/examples/pages`.
//!
//! * `/pages/hello` is made for who asks, into a buffer of its own.
//! * `/pages/kept/N` is N bytes that are made once, and then sent again and again out of the same buffers.
//! * `/pages/fresh/N` is N bytes that are made each time.
//! * `/pages/echo` gives back what was sent.
//!
//! Started with the name of a socket it gives the same answers by FastCGI there, and as a CGI program by its standard output, to
//! compare the ways.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::net::{UnixListener, UnixStream};

use cheetah_program::{Memory, Program, Request};
use runtime::buffer::Shared;

const BUFFER_BYTES: usize = 64 * 1024;

/// Runs as the command line says.
///
/// # Errors
/// If the server cannot be reached.
pub fn main() -> io::Result<()> {
    match std::env::args().nth(1) {
        _ if std::env::var_os("GATEWAY_INTERFACE").is_some() => by_cgi(),
        Some(socket) if socket.starts_with('/') => by_fastcgi(&socket),
        _ => by_shared_memory(),
    }
}

fn by_shared_memory() -> io::Result<()> {
    let mut program = Program::start(Memory { buffer_bytes: BUFFER_BYTES, buffers: 512 })?;
    let mut kept: HashMap<usize, Vec<Shared>> = HashMap::new();
    while let Some(request) = program.next()? {
        let path = request.param("PATH_INFO");
        let (what, len) = split(&path);
        let head = head(len);
        match what {
            "hello" => {
                let text = format!("hello, {}\n", request.param("REMOTE_ADDR"));
                let buffers = fill(&mut program, text.as_bytes())?;
                program.answer(&request, "Content-Type: text/plain\n", &whole(&buffers, text.len()))?;
            }
            "kept" if kept.contains_key(&len) => {
                program.answer(&request, &head, &whole(&kept[&len], len))?;
            }
            // What is kept may not take all of the memory.
            "kept" if kept.len() < 16 && len <= 1_000_000 => {
                let buffers = fill(&mut program, &content(len))?;
                buffers.iter().for_each(|buffer| program.keep(buffer));
                program.answer(&request, &head, &whole(&buffers, len))?;
                kept.insert(len, buffers);
            }
            "fresh" => in_parts(&mut program, &request, &head, len, |range, out| make(range.start, out))?,
            "echo" => {
                let bytes = &request.content;
                in_parts(
                    &mut program,
                    &request,
                    "Content-Type: application/octet-stream\n",
                    bytes.len(),
                    |range, out| {
                        out.copy_from_slice(&bytes[range]);
                    },
                )?;
            }
            _ => program.answer(&request, "Status: 404\nContent-Type: text/plain\n", &[])?,
        }
    }
    Ok(())
}

/// Answers with `len` bytes, however many that are, a buffer at a time: each goes out while the next is made.
fn in_parts(
    program: &mut Program,
    request: &Request,
    head: &str,
    len: usize,
    make: impl Fn(Range<usize>, &mut [u8]),
) -> io::Result<()> {
    let mut at = 0;
    loop {
        let part = at..len.min(at + BUFFER_BYTES);
        let mut buffer = program.buffer()?;
        let filled = part.len();
        make(part, &mut buffer[..filled]);
        let buffer = buffer.freeze();
        let head = if at == 0 { head } else { "" };
        at += filled;
        program.answer_part(request, head, &[(&buffer, 0..filled)], at < len)?;
        if at >= len || program.is_cancelled(request) {
            return Ok(());
        }
    }
}

/// Buffers with these bytes.
fn fill(program: &mut Program, bytes: &[u8]) -> io::Result<Vec<Shared>> {
    let mut buffers = Vec::new();
    for part in bytes.chunks(BUFFER_BYTES) {
        let mut buffer = program.buffer()?;
        buffer[..part.len()].copy_from_slice(part);
        buffers.push(buffer.freeze());
    }
    Ok(buffers)
}

/// The first `len` bytes of them.
fn whole(buffers: &[Shared], len: usize) -> Vec<(&Shared, Range<usize>)> {
    let parts = buffers.iter().enumerate();
    parts.map(|(i, buffer)| (buffer, 0..(len - i * BUFFER_BYTES).min(BUFFER_BYTES))).collect()
}

/// `/kept/50000` is `kept` and 50000.
fn split(path: &str) -> (&str, usize) {
    let mut names = path.trim_start_matches('/').split('/');
    (names.next().unwrap_or_default(), names.next().and_then(|text| text.parse().ok()).unwrap_or(0))
}

fn head(len: usize) -> String {
    format!("Content-Type: text/plain\nContent-Length: {len}\n")
}

/// Bytes `at..` of the text.
fn make(at: usize, out: &mut [u8]) {
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = b'a' + ((at + i) % 23) as u8;
    }
}

fn content(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    make(0, &mut bytes);
    bytes
}

/// The same answers as a CGI program, one a process.
fn by_cgi() -> io::Result<()> {
    let path = std::env::var("PATH_INFO").unwrap_or_default();
    let mut out = io::stdout().lock();
    match split(&path) {
        ("kept" | "fresh", len) => out.write_all(&[head(len).as_bytes(), b"\n", &content(len)].concat()),
        ("echo", _) => {
            out.write_all(b"Content-Type: application/octet-stream\n\n")?;
            io::copy(&mut io::stdin(), &mut out).map(drop)
        }
        _ => out.write_all(b"Status: 404\nContent-Type: text/plain\n\n"),
    }
}

/// The same answers by FastCGI, a thread a connection; no more of it than Cheetah and nginx speak.
fn by_fastcgi(socket: &str) -> io::Result<()> {
    let _ = std::fs::remove_file(socket);
    for stream in UnixListener::bind(socket)?.incoming() {
        let mut stream = stream?;
        std::thread::spawn(move || while answer_by_fastcgi(&mut stream).is_ok_and(|goes_on| goes_on) {});
    }
    Ok(())
}

/// Answers one request; whether the connection goes on.
fn answer_by_fastcgi(stream: &mut UnixStream) -> io::Result<bool> {
    let (mut params, mut body, mut keeps) = (Vec::new(), Vec::new(), false);
    loop {
        let mut header = [0; 8];
        stream.read_exact(&mut header)?;
        let mut bytes =
            vec![0; usize::from(u16::from_be_bytes([header[4], header[5]])) + usize::from(header[6])];
        stream.read_exact(&mut bytes)?;
        bytes.truncate(usize::from(u16::from_be_bytes([header[4], header[5]])));
        match header[1] {
            1 => keeps = bytes.get(2).is_some_and(|flags| flags & 1 != 0),
            4 => params.extend(bytes),
            5 if bytes.is_empty() => break,
            _ => body.extend(bytes),
        }
    }
    let path = String::from_utf8_lossy(param(&params, b"PATH_INFO")).into_owned();
    let (what, len) = split(&path);
    match what {
        // What is kept is kept as it is written.
        "kept" => {
            thread_local! {
                static KEPT: RefCell<HashMap<usize, Vec<u8>>> = RefCell::default();
            }
            KEPT.with_borrow_mut(|kept| {
                let message = kept.entry(len).or_insert_with(|| message(&head(len), &content(len)));
                stream.write_all(message)
            })?;
        }
        "fresh" => stream.write_all(&message(&head(len), &content(len)))?,
        "echo" => stream.write_all(&message("Content-Type: application/octet-stream\n", &body))?,
        _ => stream.write_all(&message("Status: 404\n", b""))?,
    }
    Ok(keeps)
}

/// The value of a FastCGI parameter.
fn param<'a>(mut params: &'a [u8], name: &[u8]) -> &'a [u8] {
    let mut next = || {
        let mut lens = [0; 2];
        for len in &mut lens {
            let (value, used) = match *params {
                [short @ ..=127, ..] => (usize::from(short), 1),
                [a, b, c, d, ..] => (u32::from_be_bytes([a & 0x7f, b, c, d]) as usize, 4),
                _ => return None,
            };
            (*len, params) = (value, &params[used..]);
        }
        let (name, rest) = params.split_at_checked(lens[0])?;
        let (value, rest) = rest.split_at_checked(lens[1])?;
        params = rest;
        Some((name, value))
    };
    std::iter::from_fn(&mut next).find(|(other, _)| *other == name).map_or(&[], |(_, value)| value)
}

/// An answer in records.
fn message(head: &str, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 256);
    record(&mut out, 6, &[head.as_bytes(), b"\n"].concat());
    content.chunks(65_528).for_each(|part| record(&mut out, 6, part));
    record(&mut out, 3, &[0; 8]);
    out
}

fn record(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    let [high, low] = (content.len() as u16).to_be_bytes();
    out.extend_from_slice(&[1, kind, 0, 1, high, low, 0, 0]);
    out.extend_from_slice(content);
}
