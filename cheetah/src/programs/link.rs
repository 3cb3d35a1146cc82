//! A connection to a program, whatever it speaks, and what all of one loop share.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;

use runtime::buffer::{Aggregate, Buffer, Pool, Shared, Slice};
use runtime::stats::work::{Quantity, count};
use runtime::time::Instant;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, sendmsg,
    socket_with, sockopt,
};

use super::ask::Ask;
use super::output::Output;
use super::route::{Address, Limits};
use crate::http::response::Status;

/// Bytes read at once, and the size of a buffer that is given on to clients as it is.
const BUFFER_BYTES: usize = 64 * 1024;

/// Buffers of one loop that are with clients at once. When all are, programs are not read until one is back.
const MAX_BUFFERS: usize = 1024;

/// What is no longer than this is copied out, so that it does not keep a whole buffer.
const SMALL_BYTES: usize = 4096;

/// Slices in one call.
const MAX_SLICES: usize = 64;

/// A request and its response under way.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) ask: Ask,
    pub(super) output: Output,
    /// It was given to a connection that turned out to be dead.
    pub(super) retried: bool,
}

/// What becomes of a link after its turn.
#[derive(Debug)]
pub(super) enum Fate {
    /// It lives.
    Keep,
    /// It is over.
    Close,
    /// It is over, and had died before it took the request that it was given.
    Retry(Box<Exchange>),
}

/// A connection to a program.
pub(super) trait Link: fmt::Debug + Send {
    /// Takes a request. Only called while there is [`Link::room`]; a turn follows.
    fn give(&mut self, exchange: Exchange, now: Instant);

    /// How many requests more it takes now.
    fn room(&self) -> usize;

    /// Since when it has had a request without the program ever having said a byte on this connection.
    fn silent_since(&self) -> Option<Instant>;

    /// Its descriptor has become ready.
    fn on_ready(&mut self, readable: bool, writable: bool);

    /// Goes as far as it can.
    fn turn(&mut self, tools: &mut Tools) -> Fate;

    /// When it wants a turn at the latest.
    fn deadline(&self, limits: &Limits) -> Option<Instant>;

    /// What is waited for.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// The process behind it, if it is ours: for who closes the link.
    fn take_child(&mut self) -> Option<Child> {
        None
    }

    /// The server ends: what is under way fails.
    fn give_up(self: Box<Self>);
}

/// What the links of a loop use in turn.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) now: Instant,
    /// Seconds since 1970.
    pub(super) unix: u64,
    pub(super) limits: Limits,
    buffers: Pool,
    /// For the next read.
    spare: Option<Buffer>,
    /// A read was put off, for all buffers are with clients.
    pub(super) short: bool,
    /// The link could go on, but others are to have their turn.
    pub(super) again: bool,
}

/// What a read gave.
#[derive(Debug)]
pub(super) enum Read {
    /// Bytes.
    Bytes(Slice),
    /// Nothing yet.
    Nothing,
    /// There is no memory for them now.
    NoBuffer,
    /// The end.
    End,
    /// An error: a reset, most of all. What has come may not be all.
    Broken,
}

impl Tools {
    pub(super) fn new(limits: Limits) -> Tools {
        let buffers = Pool::new(BUFFER_BYTES, MAX_BUFFERS);
        Tools { now: Instant::ZERO, unix: 0, limits, buffers, spare: None, short: false, again: false }
    }

    /// Reads what there is, up to 64 KiB.
    pub(super) fn read(&mut self, fd: impl AsFd) -> Read {
        let Some(mut buffer) = self.spare.take().or_else(|| self.buffers.take()) else {
            self.short = true;
            return Read::NoBuffer;
        };
        count(Quantity::CallsToReceive, 1);
        let read = loop {
            match rustix::io::read(&fd, &mut buffer[..]) {
                Err(Errno::INTR) => {}
                read => break read,
            }
        };
        match read {
            Ok(len @ 1..) if len > SMALL_BYTES => {
                let mut slice = Slice::from(buffer.freeze());
                slice.truncate(len);
                Read::Bytes(slice)
            }
            other => {
                let read = match other {
                    Ok(0) => Read::End,
                    Ok(len) => {
                        count(Quantity::BytesCopied, len);
                        Read::Bytes(Slice::from(Shared::from(buffer[..len].to_vec())))
                    }
                    Err(Errno::AGAIN) => Read::Nothing,
                    Err(_) => Read::Broken,
                };
                self.spare = Some(buffer);
                read
            }
        }
    }
}

/// Writes what the socket takes of `bytes` and takes it off them. Whether the socket may take more.
///
/// # Errors
/// If nobody reads there any more.
pub(super) fn write(socket: &OwnedFd, bytes: &mut Aggregate) -> io::Result<bool> {
    while !bytes.is_empty() {
        let slices = bytes.slices().iter().take(MAX_SLICES);
        let slices: Vec<io::IoSlice<'_>> = slices.map(|slice| io::IoSlice::new(slice.bytes())).collect();
        count(Quantity::CallsToSend, 1);
        match sendmsg(socket, &slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL) {
            Ok(len) => drop(bytes.split_to(len)),
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// A connection that was begun.
pub(super) struct Begun {
    pub(super) socket: OwnedFd,
    /// It stands only when the socket can be written.
    pub(super) is_pending: bool,
}

/// Begins to connect, without waiting.
///
/// # Errors
/// `AGAIN` if the program's queue is full, else whatever the system says.
pub(super) fn begin_connect(address: &Address) -> rustix::io::Result<Begun> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    count(Quantity::OtherCalls, 2);
    let (socket, connected) = match address {
        Address::Unix(path) => {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            let connected = connect(&socket, &SocketAddrUnix::new(path)?);
            (socket, connected)
        }
        Address::Tcp(addr) => {
            let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = socket_with(family, SocketType::STREAM, flags, None)?;
            sockopt::set_tcp_nodelay(&socket, true)?;
            let connected = connect(&socket, addr);
            (socket, connected)
        }
    };
    match connected {
        Ok(()) => Ok(Begun { socket, is_pending: false }),
        Err(Errno::INPROGRESS) => Ok(Begun { socket, is_pending: true }),
        Err(error) => Err(error),
    }
}

impl Exchange {
    /// There is no more of it, and why.
    pub(super) fn fail(self, status: Status, why: &str) {
        self.output.fail(status, why);
    }
}
