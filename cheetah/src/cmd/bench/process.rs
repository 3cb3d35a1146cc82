//! A server as they were when the papers were written: a process a request, which opens, reads and writes the
//! file.
//!
//! It is what NCSA's did in its standalone mode before it kept a pool: `accept`, `fork`, and in the child the
//! request read into a buffer, the head printed, the file copied in pieces of 8 KB by `read` and `write`,
//! `exit`. HTTP/1.0: one request a connection. Only here, as the stage that the others are compared with;
//! nothing is served to anyone else by it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use cheetah::http::date;
use rustix::process::{WaitOptions, wait};

/// Bytes of the file in one `read` and `write`.
const COPY_BYTES: usize = 8 << 10;

/// Longest request that is read.
const MAX_REQUEST: usize = 8 << 10;

/// Serves the files of `dir` until killed.
pub(super) fn serve(dir: &Path, addr: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(addr).with_context(|| format!("cannot listen on {addr}"))?;
    println!("listening on http://{}/", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept()?;
        if fork()? == Process::Child {
            // A client that asks nothing keeps this process, which must not keep the port when the other has
            // ended.
            drop(listener);
            // Whatever goes wrong is this request's alone.
            let _ = answer(dir, stream);
            std::process::exit(0);
        }
        drop(stream);
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    }
}

fn answer(dir: &Path, mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut request = Vec::new();
    let mut buffer = [0; COPY_BYTES];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        let n = stream.read(&mut buffer)?;
        request.extend_from_slice(&buffer[..n]);
        if n == 0 || request.len() > MAX_REQUEST {
            return Ok(());
        }
    }
    let line = String::from_utf8_lossy(request.split(|&byte| byte == b'\r').next().unwrap_or_default());
    let name = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    // Plain names only: it serves the files of the measurement.
    let file = (!name.contains('/') && !name.starts_with('.')).then(|| File::open(dir.join(name)));
    let Some(Ok(mut file)) = file else {
        return stream.write_all(b"HTTP/1.0 404 Not Found\r\n\r\n");
    };
    let meta = file.metadata()?;
    let seconds =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let [now, modified] = [SystemTime::now(), meta.modified()?].map(|time| date::format(seconds(time)));
    let head = format!(
        "HTTP/1.0 200 OK\r\nDate: {}\r\nServer: plain\r\nContent-Type: application/octet-stream\r\nLast-Modified: {}\r\n\
         Content-Length: {}\r\n\r\n",
        String::from_utf8_lossy(&now),
        String::from_utf8_lossy(&modified),
        meta.len()
    );
    stream.write_all(head.as_bytes())?;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n])?;
    }
}

#[derive(PartialEq, Eq)]
enum Process {
    Parent,
    Child,
}

#[allow(unsafe_code, reason = "no safe wrapper of fork exists")]
fn fork() -> io::Result<Process> {
    // SAFETY: this process has a single thread (`serve` is run instead of everything else), so no lock is
    // held by a thread that the child lacks, and whatever the parent may do, the child may.
    match unsafe { libc::fork() } {
        ..0 => Err(io::Error::last_os_error()),
        0 => Ok(Process::Child),
        1.. => Ok(Process::Parent),
    }
}
