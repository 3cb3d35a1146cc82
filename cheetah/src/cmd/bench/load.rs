//! The client: requests from a handful of connections on the kernel's TCP, by one thread, as cheaply as may
//! be.
//!
//! Bytes that come are thrown away unread (`MSG_TRUNC`), or, of HTTPS, once they are opened; what a response
//! is, byte for byte, is looked at once before.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use runtime::event_loop::EventLoop;
use runtime::poller::{Interest, Token, Trigger};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with, sockopt,
};

use rustls::ClientConnection;

use super::sealed::{self, Came, Dialler};

/// Read at once, at most.
const READ_BYTES: usize = 1 << 20;

/// Nothing at all for so long, and the measurement is void.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked for, how, by how many clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// As it is called in tables.
    pub(super) name: &'static str,
    /// Before the file's name in its path, with a slash at its end.
    pub(super) folder: &'static str,
    /// Bytes of the file, which is called by this number.
    pub(super) size: usize,
    /// So many files, asked for in turn.
    pub(super) files: usize,
    /// Many requests on a connection, or a connection each.
    pub(super) keep: bool,
    /// Connections at once.
    pub(super) clients: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// Bytes of responses, those under way at the end included.
    pub(super) bytes: u64,
    /// How long it took.
    pub(super) seconds: f64,
    /// Seconds of a processor that the client took.
    pub(super) cpu_s: f64,
}

impl Load {
    /// Whether bytes are what counts, not requests.
    pub(super) fn is_bulk(&self) -> bool {
        self.size >= 100_000
    }

    /// The file's name.
    pub(super) fn file(&self, i: usize) -> String {
        if self.files == 1 { format!("{}.bin", self.size) } else { format!("{}-{i}.bin", self.size) }
    }

    /// The file's contents.
    pub(super) fn contents(&self, i: usize) -> Vec<u8> {
        contents(self.size, i)
    }

    fn request(&self, i: usize) -> Vec<u8> {
        let connection = if self.keep { "" } else { "Connection: close\r\n" };
        let (folder, file) = (self.folder, self.file(i));
        format!("GET {folder}{file} HTTP/1.1\r\nHost: bench\r\n{connection}\r\n").into_bytes()
    }
}

/// The contents of file `i`, of that many bytes.
pub(super) fn contents(bytes: usize, i: usize) -> Vec<u8> {
    let first = i as u32;
    (first..first + bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Fetches the load's last file once and compares it; gives the length of the whole response.
pub(super) fn check(addr: SocketAddr, dialler: Option<&Dialler>, load: &Load) -> anyhow::Result<usize> {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).context("no connection")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    match dialler {
        Some(dialler) => check_stream(rustls::StreamOwned::new(dialler.connection()?, stream), load),
        None => check_stream(stream, load),
    }
}

fn check_stream(mut stream: impl Read + Write, load: &Load) -> anyhow::Result<usize> {
    stream.write_all(&load.request(load.files - 1))?;
    let contents = load.contents(load.files - 1);
    let mut received = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = stream.read(&mut buffer).context("no response")?;
        received.extend_from_slice(&buffer[..n]);
        let head = received.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        let is_whole = head.is_some_and(|head| received.len() >= head + contents.len());
        if !is_whole && n > 0 {
            continue;
        }
        ensure!(received.starts_with(b"HTTP/1.") && received[8..].starts_with(b" 200 "), "no good response");
        let head = head.context("a response without an end of its head")?;
        ensure!(received[head..] == contents[..], "the file came damaged");
        return Ok(received.len());
    }
}

/// What all clients have done.
#[derive(Default)]
struct SoFar {
    asked: usize,
    answered: u64,
    bytes: u64,
}

struct Client {
    socket: OwnedFd,
    tls: Option<Box<ClientConnection>>,
    asked: bool,
    /// Of the response under way.
    left: usize,
}

/// Asks again and again for as long as `duration`, or longer until there were as many answers as there are
/// clients: what a server has made ready for those that go away, some 128 KB of records each, is no answer,
/// and must not weigh where it is told what was done for a byte of one.
pub(super) fn run(
    addr: SocketAddr,
    dialler: Option<&Dialler>,
    load: &Load,
    response_len: usize,
    duration: Duration,
) -> anyhow::Result<Outcome> {
    let mut events = EventLoop::new()?;
    let requests: Vec<_> = (0..load.files).map(|i| load.request(i)).collect();
    let mut buffer = vec![0; READ_BYTES];
    let mut clients = Vec::new();
    for i in 0..load.clients {
        clients.push(open(addr, dialler, &events, i, response_len)?);
    }
    let mut so_far = SoFar::default();
    let cpu_before = thread_cpu_s();
    let began = Instant::now();
    let mut last_came = began;
    let mut ready = Vec::new();
    let seconds = loop {
        let elapsed = began.elapsed();
        if elapsed >= duration && so_far.answered >= load.clients as u64 {
            break elapsed.as_secs_f64();
        }
        if last_came.elapsed() > PATIENCE {
            bail!("nothing came for {} s", PATIENCE.as_secs());
        }
        let until = events.now() + Duration::from_millis(50);
        ready.clear();
        ready.extend(events.turn(Some(until))?.iter().map(|event| event.token.0 as usize));
        for &i in &ready {
            let Some(client) = clients.get_mut(i) else { continue };
            let before = so_far.bytes;
            let is_over = turn(client, load, &requests, response_len, &mut buffer, &mut so_far)?;
            if so_far.bytes > before {
                last_came = Instant::now();
            }
            if is_over {
                *client = open(addr, dialler, &events, i, response_len)?;
            }
        }
    };
    Ok(Outcome { bytes: so_far.bytes, seconds, cpu_s: thread_cpu_s() - cpu_before })
}

fn thread_cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn open(
    addr: SocketAddr,
    dialler: Option<&Dialler>,
    events: &EventLoop,
    i: usize,
    response_len: usize,
) -> anyhow::Result<Client> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &addr) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error).context("no connection"),
    }
    events.add(&socket, Token(i as u64), Interest::BOTH, Trigger::Edge)?;
    let tls = dialler.map(Dialler::connection).transpose()?.map(Box::new);
    Ok(Client { socket, tls, asked: false, left: response_len })
}

/// Asks and takes until nothing more comes; whether the connection is over.
fn turn(
    client: &mut Client,
    load: &Load,
    requests: &[Vec<u8>],
    response_len: usize,
    buffer: &mut [u8],
    so_far: &mut SoFar,
) -> anyhow::Result<bool> {
    loop {
        if !client.asked {
            match client.ask(&requests[so_far.asked % requests.len()]) {
                Ok(true) => so_far.asked += 1,
                // Not connected yet.
                Ok(false) => return Ok(false),
                // It served one request, and has closed before this one.
                Err(error) if is_gone(&error) && so_far.answered > 0 => return Ok(true),
                Err(error) => return Err(error).context("a request"),
            }
            client.asked = true;
            client.left = response_len;
        }
        match client.take(buffer) {
            Ok(Came::End) => {
                // Between two responses it may.
                ensure!(client.left == response_len || client.left == 0, "a response was cut short");
                return Ok(true);
            }
            Ok(Came::Bytes(n)) => {
                ensure!(n <= client.left, "a response is longer than the one before");
                client.left -= n;
                so_far.bytes += n as u64;
                if client.left == 0 {
                    so_far.answered += 1;
                    // A connection each: only its end is still to come.
                    client.asked = !load.keep;
                }
            }
            Ok(Came::Nothing) => return Ok(false),
            Err(error) if is_gone(&error) && client.left == response_len && so_far.answered > 0 => {
                return Ok(true);
            }
            Err(error) => return Err(error).context("a response"),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl Client {
    /// Whether the request is on its way.
    fn ask(&mut self, request: &[u8]) -> io::Result<bool> {
        if let Some(tls) = &mut self.tls {
            // Kept by the connection until the handshake is done; it goes with the last message of ours.
            tls.writer().write_all(request)?;
            sealed::send_all(tls, &self.socket)?;
            return Ok(true);
        }
        match send(&self.socket, request, SendFlags::NOSIGNAL) {
            Ok(n) if n == request.len() => Ok(true),
            Ok(_) => Err(io::Error::other("a request did not fit into an empty socket")),
            Err(Errno::AGAIN | Errno::NOTCONN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What has come since.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<Came> {
        if let Some(tls) = &mut self.tls {
            sealed::send_all(tls, &self.socket)?;
            return sealed::receive(tls, &self.socket);
        }
        match recv(&self.socket, buffer, RecvFlags::TRUNC) {
            Ok((0, _)) => Ok(Came::End),
            Ok((n, _)) => Ok(Came::Bytes(n)),
            Err(Errno::AGAIN) => Ok(Came::Nothing),
            Err(error) => Err(error.into()),
        }
    }
}
