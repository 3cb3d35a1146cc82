//! Sockets for tasks of any executor, by the traits of `futures-io`. Nothing here runs anything: who waits is
//! woken by the network's thread, and that is all that is asked of an executor.
//!
//! ```no_run
//! use futures_util::{AsyncReadExt, AsyncWriteExt};
//! use netstack::sockets::Network;
//!
//! # async fn get(network: Network) -> std::io::Result<()> {
//! let mut stream = network.connect_async(([10, 77, 0, 1], 80).into()).await?;
//! stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
//! let mut answer = String::new();
//! stream.read_to_string(&mut answer).await?;
//! # Ok(()) }
//! ```

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use crate::sockets::{Network, TcpListener, TcpStream, UdpChannel};

impl Network {
    /// Opens a connection to `remote`. A future that is dropped gives it up.
    ///
    /// # Errors
    /// Of the kinds that `std::net::TcpStream::connect` has.
    pub async fn connect_async(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.begin_connect(remote);
        poll_fn(|cx| stream.poll_open(cx)).await?;
        Ok(stream)
    }

    /// As [`Network::listen_on`]. A future that is dropped leaves the port free.
    ///
    /// # Errors
    /// As [`Network::listen_on`].
    pub async fn listen_async(&self, port: u16) -> io::Result<TcpListener> {
        let answer = self.listen(port);
        poll_fn(|cx| answer.poll(cx)).await?
    }

    /// As [`Network::bind`], or [`Network::bind_to`] where there is a `remote`. A future that is dropped
    /// leaves the port free.
    ///
    /// # Errors
    /// As those.
    pub async fn bind_async(&self, port: Option<u16>, remote: Option<SocketAddr>) -> io::Result<UdpChannel> {
        let answer = self.bind_udp(port, remote);
        poll_fn(|cx| answer.poll(cx)).await?
    }
}

impl TcpListener {
    /// The next connection. No connection is lost with a future that is dropped.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] if the network has ended.
    pub async fn accept_async(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let stream = poll_fn(|cx| self.poll_accept(cx)).await?;
        let peer = stream.peer_addr()?;
        Ok((stream, peer))
    }
}

impl UdpChannel {
    /// As [`UdpChannel::receive`]. No datagram is lost with a future that is dropped.
    ///
    /// # Errors
    /// As [`UdpChannel::poll_receive`].
    pub async fn receive_async(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, _, from) = poll_fn(|cx| self.poll_receive(cx, buffer)).await?;
        Ok((len, from))
    }

    /// As [`UdpChannel::send_to`].
    ///
    /// # Errors
    /// As [`UdpChannel::poll_send`].
    pub async fn send_to_async(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        poll_fn(|cx| self.poll_send(cx, bytes, 0, to)).await
    }
}

impl AsyncRead for &TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        TcpStream::poll_read(&self, cx, &mut [IoSliceMut::new(buffer)])
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        TcpStream::poll_read(&self, cx, buffers)
    }
}

impl AsyncWrite for &TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        TcpStream::poll_write(&self, cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        TcpStream::poll_write(&self, cx, buffers)
    }

    /// Nothing waits here to be sent: it goes as soon as the peer and the network take it.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The peer sees the end behind what was written; reading goes on.
    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown(Shutdown::Write))
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read(cx, buffer)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read_vectored(cx, buffers)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write_vectored(cx, buffers)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_close(cx)
    }
}
