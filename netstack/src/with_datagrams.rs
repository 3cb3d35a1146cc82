//! An application that takes datagrams as well as connections: another one, and beside it what is done with
//! them.

use std::fmt;
use std::net::SocketAddr;

use runtime::time::Instant;

use crate::application::{Application, CloseReason, Datagrams, Key, Pcb, UdpSocket};

/// `connections`, and who takes datagrams. What they answer goes by the last argument.
pub struct WithDatagrams<A, F> {
    connections: A,
    take: F,
}

impl<A, F: FnMut(UdpSocket, SocketAddr, &[u8], &mut Datagrams)> WithDatagrams<A, F> {
    /// Both.
    pub fn new(connections: A, take: F) -> WithDatagrams<A, F> {
        WithDatagrams { connections, take }
    }

    /// The other application.
    pub fn connections(&mut self) -> &mut A {
        &mut self.connections
    }
}

impl<A: Application, F: FnMut(UdpSocket, SocketAddr, &[u8], &mut Datagrams)> Application
    for WithDatagrams<A, F>
{
    type Stream<'a>
        = A::Stream<'a>
    where
        Self: 'a;

    fn accept(&mut self, now: Instant, pcb: Pcb) -> Option<Key> {
        self.connections.accept(now, pcb)
    }

    fn connection(&mut self, key: Key) -> Option<(&mut Pcb, A::Stream<'_>)> {
        self.connections.connection(key)
    }

    fn closed(&mut self, now: Instant, key: Key, reason: CloseReason) {
        self.connections.closed(now, key, reason);
    }

    fn datagram(
        &mut self,
        _now: Instant,
        socket: UdpSocket,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Datagrams,
    ) {
        (self.take)(socket, from, bytes, out);
    }
}

impl<A: fmt::Debug, F> fmt::Debug for WithDatagrams<A, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithDatagrams").field("connections", &self.connections).finish_non_exhaustive()
    }
}
