//! The program behind the server: the same bytes out of memory that it shares with the server, and by FastCGI
//! through a socket, kept from one answer to the next or made anew for each.
//!
//! Made anew is copied from elsewhere, so that what is compared is how output travels and not how it comes
//! about.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use cheetah_program::{Memory, Program, Request};
use runtime::buffer::Shared;

use super::load::contents;

/// Where it is, as the server's routes have it.
pub(super) const PREFIX: &str = "/program";

/// Most bytes of an answer, which lie in one buffer.
const MAX_BYTES: usize = 64 << 10;

/// Content of a FastCGI record that keeps the next one aligned.
const RECORD_BYTES: usize = 65_528;

/// What is asked for: `/kept/50000.bin`, `/fresh/50000.bin`.
fn asked(path: &str) -> Option<(bool, usize)> {
    let (how, name) = path.trim_start_matches('/').split_once('/')?;
    let len = name.strip_suffix(".bin")?.parse().ok().filter(|len| (1..=MAX_BYTES).contains(len))?;
    match how {
        "kept" => Some((true, len)),
        "fresh" => Some((false, len)),
        _ => None,
    }
}

fn head(len: usize) -> String {
    format!("Content-Type: application/octet-stream\nContent-Length: {len}\n")
}

/// Answers the server that has started it, until that ends.
pub(super) fn by_shared_memory() -> io::Result<()> {
    let mut program = Program::start(Memory { buffer_bytes: MAX_BYTES, buffers: 256 })?;
    let mut texts: HashMap<usize, Vec<u8>> = HashMap::new();
    let mut kept: HashMap<usize, Shared> = HashMap::new();
    while let Some(request) = program.next()? {
        let Some((keeps, len)) = asked(&request.param("PATH_INFO")) else {
            program.answer(&request, "Status: 404\n", &[])?;
            continue;
        };
        match kept.get(&len) {
            Some(buffer) if keeps => answer(&mut program, &request, buffer, len)?,
            _ => {
                let text = texts.entry(len).or_insert_with(|| contents(len, 0));
                let mut buffer = program.buffer()?;
                buffer[..len].copy_from_slice(text);
                let buffer = buffer.freeze();
                if keeps {
                    program.keep(&buffer);
                }
                answer(&mut program, &request, &buffer, len)?;
                if keeps {
                    kept.insert(len, buffer);
                }
            }
        }
    }
    Ok(())
}

fn answer(program: &mut Program, request: &Request, buffer: &Shared, len: usize) -> io::Result<()> {
    let part: (&Shared, Range<usize>) = (buffer, 0..len);
    program.answer(request, &head(len), &[part])
}

/// Answers whoever connects to the socket, a thread a connection, until killed.
pub(super) fn by_fastcgi(socket: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    println!("listening on {}", socket.display());
    for stream in listener.incoming() {
        let mut stream = stream?;
        std::thread::spawn(move || {
            let mut kept = HashMap::new();
            let mut text = HashMap::new();
            while answer_by_fastcgi(&mut stream, &mut kept, &mut text).is_ok_and(|goes_on| goes_on) {}
        });
    }
    Ok(())
}

/// Answers one request; whether the connection goes on.
fn answer_by_fastcgi(
    stream: &mut UnixStream,
    kept: &mut HashMap<usize, Vec<u8>>,
    texts: &mut HashMap<usize, Vec<u8>>,
) -> io::Result<bool> {
    let (mut params, mut keeps_connection) = (Vec::new(), false);
    loop {
        let mut header = [0; 8];
        stream.read_exact(&mut header)?;
        let content_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let mut bytes = vec![0; content_len + usize::from(header[6])];
        stream.read_exact(&mut bytes)?;
        bytes.truncate(content_len);
        match header[1] {
            1 => keeps_connection = bytes.get(2).is_some_and(|flags| flags & 1 != 0),
            4 => params.extend(bytes),
            5 if bytes.is_empty() => break,
            _ => {}
        }
    }
    match asked(&path_info(&params)) {
        Some((true, len)) => {
            stream.write_all(kept.entry(len).or_insert_with(|| message(&head(len), &contents(len, 0))))?;
        }
        Some((false, len)) => {
            let text = texts.entry(len).or_insert_with(|| contents(len, 0));
            stream.write_all(&message(&head(len), text))?;
        }
        None => stream.write_all(&message("Status: 404\n", b""))?,
    }
    Ok(keeps_connection)
}

/// Of FastCGI parameters, `PATH_INFO`, whose length and name's are a byte each.
fn path_info(params: &[u8]) -> String {
    const NAME: &[u8] = b"PATH_INFO";
    let at = memchr::memmem::find(params, NAME).filter(|&at| at >= 2 && params[at - 2] == NAME.len() as u8);
    let value = at.and_then(|at| params.get(at + NAME.len()..)?.get(..usize::from(params[at - 1])));
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

/// An answer in records.
fn message(head: &str, content: &[u8]) -> Vec<u8> {
    const STDOUT: u8 = 6;
    const END: u8 = 3;
    let mut out = Vec::with_capacity(content.len() + 256);
    record(&mut out, STDOUT, &[head.as_bytes(), b"\n"].concat());
    content.chunks(RECORD_BYTES).for_each(|part| record(&mut out, STDOUT, part));
    record(&mut out, END, &[0; 8]);
    out
}

fn record(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    let [high, low] = (content.len() as u16).to_be_bytes();
    out.extend_from_slice(&[1, kind, 0, 1, high, low, 0, 0]);
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_is_asked_for() {
        assert_eq!(asked("/kept/50000.bin"), Some((true, 50_000)));
        assert_eq!(asked("/fresh/1.bin"), Some((false, 1)));
        for path in ["", "/", "/kept", "/kept/0.bin", "/kept/99999.bin", "/other/1.bin", "/kept/1"] {
            assert_eq!(asked(path), None, "{path}");
        }
    }

    #[test]
    fn the_path_is_found_among_parameters() {
        let params = b"\x0e\x03REQUEST_METHODGET\x09\x0f/bad\x09\x0fPATH_INFO/kept/50000.bin";
        assert_eq!(path_info(params), "/kept/50000.bin");
        assert_eq!(path_info(b"\x09\xffPATH_INFO/k"), "");
        assert_eq!(path_info(b"PATH_INFO"), "");
    }
}
