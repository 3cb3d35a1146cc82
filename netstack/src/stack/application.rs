//! The owner of the connections, as the stack sees it. How an application is written is told in
//! [`crate::application`].

use std::net::SocketAddr;

use runtime::time::Instant;

use super::udp::{Datagrams, UdpSocket};
use crate::tcp::{CloseReason, Pcb, Stream};

/// The application's name for one of its connections: chosen by it, opaque to the stack. May be reused after
/// [`Application::closed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u32);

/// The owner of all connections.
pub trait Application {
    /// One connection's byte streams, borrowed from the record that also holds the PCB. A `&mut Conn`, or a
    /// small struct of references when the connection needs shared state beside its own.
    type Stream<'a>: Stream
    where
        Self: 'a;

    /// A connection that came in is complete. Keep `pcb` in a record and return the record's key, which must
    /// not be in use; `None` refuses (the peer gets RST).
    fn accept(&mut self, now: Instant, pcb: Pcb) -> Option<Key>;

    /// The record under `key`, as its two halves. `None` only if the application forgot the connection
    /// without telling the stack; the stack then forgets it too.
    fn connection(&mut self, key: Key) -> Option<(&mut Pcb, Self::Stream<'_>)>;

    /// The connection is over. The stack will not mention `key` again until the application uses it anew.
    fn closed(&mut self, now: Instant, key: Key, reason: CloseReason);

    /// A datagram has come for `socket` ([`super::Stack::bind_udp`]). Answers go by `out`.
    fn datagram(
        &mut self,
        now: Instant,
        socket: UdpSocket,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Datagrams,
    ) {
        let _ = (now, socket, from, bytes, out);
    }

    /// What `socket` has sent to `to` got to nobody, says the peer or a router. Anybody can say so.
    fn datagram_refused(&mut self, now: Instant, socket: UdpSocket, to: SocketAddr) {
        let _ = (now, socket, to);
    }
}
