//! Sockets for threads, in the manner of `std::net`: what cannot go on waits.
//!
//! ```no_run
//! use std::io::{Read, Write};
//!
//! use netstack::sockets::Network;
//!
//! # fn main() -> std::io::Result<()> {
//! let network = Network::on_tap("tap0", [10, 77, 0, 1].into(), [10, 77, 0, 2].into(), 24)?;
//! let mut stream = network.connect(([10, 77, 0, 1], 80).into())?;
//! stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
//! let mut answer = String::new();
//! stream.read_to_string(&mut answer)?;
//! # Ok(()) }
//! ```

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant as Clock};

use crate::sockets::{Answer, Patience, block};
pub use crate::sockets::{Network, TcpListener, TcpStream, UdpChannel};
use crate::stack::{BindError, ListenError, Stats};

/// Waits as long as `limit` says: [`io::ErrorKind::WouldBlock`] when that is over, as of the kernel's
/// sockets.
fn wait<T>(
    patience: Patience,
    limit: Option<Duration>,
    poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
) -> io::Result<T> {
    // A time that no clock can say is never.
    let deadline = match patience.none {
        true => Some(Clock::now()),
        false => limit.and_then(|limit| Clock::now().checked_add(limit)),
    };
    block(deadline, poll).unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
}

fn answer_of<T>(answer: &Answer<T>) -> io::Result<T> {
    wait(Patience::default(), None, |cx| answer.poll(cx))
}

fn not_zero(limit: Option<Duration>) -> io::Result<Option<Duration>> {
    match limit {
        Some(limit) if limit.is_zero() => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "a time-out of nothing: None is no time-out"))
        }
        limit => Ok(limit),
    }
}

impl From<ListenError> for io::Error {
    fn from(error: ListenError) -> io::Error {
        let kind = match error {
            ListenError::BadPort => io::ErrorKind::InvalidInput,
            ListenError::InUse => io::ErrorKind::AddrInUse,
            ListenError::NotOurs => io::ErrorKind::AddrNotAvailable,
        };
        io::Error::new(kind, error)
    }
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> io::Error {
        let kind = match error {
            BindError::PortInUse => io::ErrorKind::AddrInUse,
            BindError::NotOurs => io::ErrorKind::AddrNotAvailable,
            BindError::Peer(_) => io::ErrorKind::InvalidInput,
        };
        io::Error::new(kind, error)
    }
}

impl Network {
    /// Opens a connection to `remote`.
    ///
    /// # Errors
    /// Of the kinds that `std::net::TcpStream::connect` has.
    pub fn connect(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.begin_connect(remote);
        wait(Patience::default(), None, |cx| stream.poll_open(cx))?;
        Ok(stream)
    }

    /// The same within `limit`.
    ///
    /// # Errors
    /// As [`Network::connect`]; [`io::ErrorKind::TimedOut`].
    pub fn connect_timeout(&self, remote: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        let limit = not_zero(Some(limit))?;
        let stream = self.begin_connect(remote);
        wait(Patience::default(), limit, |cx| stream.poll_open(cx)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => error,
        })?;
        Ok(stream)
    }

    /// Takes in connections to `port` of all addresses.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] if somebody does, [`io::ErrorKind::InvalidInput`] for port 0.
    pub fn listen_on(&self, port: u16) -> io::Result<TcpListener> {
        answer_of(&self.listen(port))?
    }

    /// A UDP socket that gets what anybody sends to `port`, or to a free one.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] if somebody has it, or there is none.
    pub fn bind(&self, port: Option<u16>) -> io::Result<UdpChannel> {
        answer_of(&self.bind_udp(port, None))?
    }

    /// A UDP socket, of `port` or a free one, that speaks to `remote` alone.
    ///
    /// # Errors
    /// As [`Network::bind`]; [`io::ErrorKind::InvalidInput`] if the peer cannot be spoken to.
    pub fn bind_to(&self, port: Option<u16>, remote: SocketAddr) -> io::Result<UdpChannel> {
        answer_of(&self.bind_udp(port, Some(remote)))?
    }

    /// The stack's counters.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] if the network has ended.
    pub fn stats(&self) -> io::Result<Stats> {
        answer_of(&self.ask_stack(|stack| *stack.stats()))
    }
}

impl TcpStream {
    /// How long a read may wait; without, for ever.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a time of nothing.
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        let limit = not_zero(limit)?;
        self.set_patience(|patience| patience.read = limit);
        Ok(())
    }

    /// How long a write may wait for room; without, for ever.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a time of nothing.
    pub fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        let limit = not_zero(limit)?;
        self.set_patience(|patience| patience.write = limit);
        Ok(())
    }

    /// Whether nothing waits: what would is [`io::ErrorKind::WouldBlock`].
    pub fn set_nonblocking(&self, nonblocking: bool) {
        self.set_patience(|patience| patience.none = nonblocking);
    }

    /// Copies what has come to `buffer` and leaves it to be read.
    ///
    /// # Errors
    /// As reading.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let patience = self.patience();
        wait(patience, patience.read, |cx| self.poll_peek(cx, &mut [IoSliceMut::new(buffer)]))
    }

    /// Waits until the peer has acknowledged all that was written.
    ///
    /// # Errors
    /// Why it never will; [`io::ErrorKind::WouldBlock`] after the time-out of writes.
    pub fn wait_acknowledged(&self) -> io::Result<()> {
        let patience = self.patience();
        wait(patience, patience.write, |cx| self.poll_acknowledged(cx))
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buffer)])
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let patience = self.patience();
        wait(patience, patience.read, |cx| self.poll_read(cx, buffers))
    }
}

impl Write for &TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let patience = self.patience();
        wait(patience, patience.write, |cx| self.poll_write(cx, buffers))
    }

    /// Nothing waits here to be sent: it goes as soon as the peer and the network take it.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TcpListener {
    /// Waits for the next connection.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] if the network has ended.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let stream = wait(Patience::default(), None, |cx| self.poll_accept(cx))?;
        let peer = stream.peer_addr()?;
        Ok((stream, peer))
    }

    /// Connections as they come, until the network ends.
    pub fn incoming(&self) -> impl Iterator<Item = TcpStream> + '_ {
        std::iter::from_fn(|| self.accept().ok().map(|(stream, _)| stream))
    }
}

impl UdpChannel {
    /// How long receiving may wait; without, for ever.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a time of nothing.
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        let limit = not_zero(limit)?;
        self.set_patience(|patience| patience.read = limit);
        Ok(())
    }

    /// Waits for a datagram: how much was copied to `buffer`, and whose it is. What does not fit is lost.
    ///
    /// # Errors
    /// As [`UdpChannel::poll_receive`]; [`io::ErrorKind::WouldBlock`] after the time-out.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let patience = self.patience();
        let (len, _, from) = wait(patience, patience.read, |cx| self.poll_receive(cx, buffer))?;
        Ok((len, from))
    }

    /// Sends a datagram to `to`; waits while there is no room for it.
    ///
    /// # Errors
    /// As [`UdpChannel::poll_send`].
    pub fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        wait(self.patience(), None, |cx| self.poll_send(cx, bytes, 0, to))
    }

    /// Sends datagrams of `segment` bytes each but the last to `to`, 64 at most: in one frame where the
    /// device can.
    ///
    /// # Errors
    /// As [`UdpChannel::poll_send`].
    pub fn send_segments_to(&self, bytes: &[u8], segment: u16, to: SocketAddr) -> io::Result<usize> {
        wait(self.patience(), None, |cx| self.poll_send(cx, bytes, segment, to))
    }

    /// Sends a datagram to the peer that it is connected to.
    ///
    /// # Errors
    /// As [`UdpChannel::poll_send`]; [`io::ErrorKind::NotConnected`] of one that is not.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send_to(bytes, self.socket().remote().ok_or(io::ErrorKind::NotConnected)?)
    }
}
