//! What applications hold: connections, listeners, UDP sockets. Whatever may have to wait is a `poll` here,
//! for threads and tasks alike.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use super::wait::lock;
use super::{Accepting, Duplex, Mailbox, Network};
use crate::application::UdpSocket;
use crate::wire::udp;

/// How threads wait for a socket. Of clones it is the same.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    pub(crate) read: Option<Duration>,
    pub(crate) write: Option<Duration>,
    pub(crate) none: bool,
}

/// A connection. Clones ([`TcpStream::clone`]) are the same one, which is closed with the last.
#[derive(Clone, Debug)]
pub struct TcpStream {
    held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    network: Network,
    duplex: Arc<Duplex>,
    patience: Mutex<Patience>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.network.tell(self.duplex.release(), &self.duplex);
    }
}

impl TcpStream {
    pub(crate) fn new(network: Network, duplex: Arc<Duplex>) -> TcpStream {
        TcpStream { held: Arc::new(Held { network, duplex, patience: Mutex::default() }) }
    }

    /// Whether a connection that was begun ([`Network::begin_connect`]) is open, or why not.
    ///
    /// # Errors
    /// What the peer, or a router, or nobody, said.
    pub fn poll_open(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.held.duplex.poll_open(cx)
    }

    /// Copies what has come to `buffers`, one after the other, and gives how much that was; 0 is the end.
    /// Every task that finds nothing is woken when there is something.
    ///
    /// # Errors
    /// Why the connection is over, once all that came before has been read.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        self.held.duplex.poll_read(cx, buffers, false).map_ok(|(len, tell)| self.told(len, tell))
    }

    /// As [`TcpStream::poll_read`], but what was read is there to be read again.
    ///
    /// # Errors
    /// As [`TcpStream::poll_read`].
    pub fn poll_peek(&self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        self.held.duplex.poll_read(cx, buffers, true).map_ok(|(len, tell)| self.told(len, tell))
    }

    /// Takes as much of `buffers` as there is room for, and gives how much that was.
    ///
    /// # Errors
    /// Why the connection is over; [`io::ErrorKind::BrokenPipe`] after it was shut down for writing.
    pub fn poll_write(&self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.held.duplex.poll_write(cx, buffers).map_ok(|(len, tell)| self.told(len, tell))
    }

    /// Whether the peer has acknowledged all that was written: more than `flush` says, which waits for
    /// nothing.
    ///
    /// # Errors
    /// Why it never will.
    pub fn poll_acknowledged(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.held.duplex.poll_flushed(cx)
    }

    fn told(&self, len: usize, tell: super::wait::Tell) -> usize {
        self.held.network.tell(tell, &self.held.duplex);
        len
    }

    /// Closes one direction, or both. After [`Shutdown::Write`] what was written still goes out, and the peer
    /// sees the end; after [`Shutdown::Read`] what comes is taken and thrown away.
    ///
    /// # Errors
    /// None today.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            let tell = self.held.duplex.shut_reads();
            self.held.network.tell(tell, &self.held.duplex);
        }
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            let tell = self.held.duplex.shut_writes();
            self.held.network.tell(tell, &self.held.duplex);
        }
        Ok(())
    }

    /// Resets the connection.
    pub fn abort(&self) {
        self.held.network.tell(self.held.duplex.abort(), &self.held.duplex);
    }

    /// Our address.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] before there is one.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.held.duplex.addrs().map(|(local, _)| local)
    }

    /// The peer's.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] before it is known.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.held.duplex.addrs().map(|(_, remote)| remote)
    }

    pub(crate) fn patience(&self) -> Patience {
        *lock(&self.held.patience)
    }

    pub(crate) fn set_patience(&self, change: impl FnOnce(&mut Patience)) {
        change(&mut lock(&self.held.patience));
    }
}

impl Network {
    /// Begins to open a connection to `remote`: [`TcpStream::poll_open`] says how it goes. Dropped before
    /// that, it is given up.
    pub fn begin_connect(&self, remote: SocketAddr) -> TcpStream {
        TcpStream::new(self.clone(), self.open(remote))
    }
}

/// Takes connections in. Dropped, it resets those that nobody has accepted.
#[derive(Debug)]
pub struct TcpListener {
    network: Network,
    accepting: Arc<Accepting>,
    port: u16,
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.network.unlisten(self.port);
    }
}

impl TcpListener {
    pub(super) fn new(network: Network, accepting: Arc<Accepting>, port: u16) -> TcpListener {
        TcpListener { network, accepting, port }
    }

    /// The next connection that came in. Every task that finds none is woken when there is one.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] if the network has ended.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        self.accepting.poll_accept(cx).map_ok(|duplex| TcpStream::new(self.network.clone(), duplex))
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A UDP socket.
#[derive(Debug)]
pub struct UdpChannel {
    network: Network,
    socket: UdpSocket,
    mailbox: Arc<Mailbox>,
    patience: Mutex<Patience>,
}

impl Drop for UdpChannel {
    fn drop(&mut self) {
        self.network.close_udp(self.socket);
    }
}

impl UdpChannel {
    pub(super) fn new(network: Network, socket: UdpSocket, mailbox: Arc<Mailbox>) -> UdpChannel {
        UdpChannel { network, socket, mailbox, patience: Mutex::default() }
    }

    /// Copies the next datagram to `buffer`; what does not fit is lost. How much was copied, how long it was,
    /// and whose.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`], of one that is connected, if something that was sent got to
    /// nobody; [`io::ErrorKind::InvalidInput`] if it was for an address that is not spoken to; both told
    /// once.
    pub fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, usize, SocketAddr)>> {
        self.mailbox.poll_receive(cx, buffer)
    }

    /// Takes a datagram for `to` to be sent, when there is room; several of `segment` bytes each but the
    /// last, unless that is 0 ([`crate::stack::Datagrams::send_segments`]).
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if it is too long, or is for another than the peer that it is
    /// connected to; those of [`UdpChannel::poll_receive`].
    pub fn poll_send(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        segment: u16,
        to: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let other = self.socket.remote().is_some_and(|remote| remote != to);
        if bytes.len() > udp::MAX_PAYLOAD_LEN || other || to.port() == 0 {
            let why = "a datagram that is too long, or not for an address that the socket speaks to";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        self.mailbox.poll_send(cx, to, bytes, segment).map_ok(|tell| {
            self.network.tell_of_datagrams(tell, self.socket);
            bytes.len()
        })
    }

    /// The socket as the stack knows it.
    pub fn socket(&self) -> UdpSocket {
        self.socket
    }

    /// Datagrams that came when there was no room for them.
    pub fn dropped(&self) -> u64 {
        self.mailbox.dropped()
    }

    pub(crate) fn patience(&self) -> Patience {
        *lock(&self.patience)
    }

    pub(crate) fn set_patience(&self, change: impl FnOnce(&mut Patience)) {
        change(&mut lock(&self.patience));
    }
}
