//! What becomes of what a network keeps, seen from inside.

use std::net::Ipv4Addr;
use std::sync::Arc;

use runtime::time::Instant;

use super::*;
use crate::stack::Config;
use crate::transmission::Capabilities;
use crate::wire::EthernetAddress;

const PEER: Ipv4Addr = Ipv4Addr::new(10, 83, 0, 2);

/// A network without a wire: what it sends is lost.
struct Alone {
    network: Network,
    sockets: Sockets,
    stack: Stack,
}

impl Alone {
    fn new() -> Alone {
        let own = EthernetAddress([2, 0, 0, 0, 0, 1]);
        let (network, sockets) = Network::apart(SocketLimits::default());
        let stack = Stack::new(Config::new(own, Ipv4Addr::new(10, 83, 0, 1), 24, [7; 16]));
        Alone { network, sockets, stack }
    }

    fn turn(&mut self) {
        let now = Instant::from_millis(1);
        self.sockets.obey(now, &mut self.stack);
        let capabilities = Capabilities::default();
        while self.stack.poll_transmit(now, &capabilities, &mut self.sockets, |_| ()).is_some() {}
    }
}

/// Of a connection that was opened and is over nothing is kept.
#[test]
fn a_connection_that_is_over_is_forgotten() {
    let mut alone = Alone::new();
    for turns in [0, 1] {
        let duplex = alone.network.open((PEER, 80).into());
        let weak = Arc::downgrade(&duplex);
        (0..turns).for_each(|_| alone.turn());
        drop(TcpStream::new(alone.network.clone(), duplex));
        alone.turn();
        assert!(alone.sockets.is_empty(), "after {turns}");
        assert!(weak.upgrade().is_none(), "kept after {turns}");
    }
    // Nor of one that could not begin, or that nobody was there to begin.
    let refused = alone.network.open((PEER, 0).into());
    let weak = Arc::downgrade(&refused);
    drop(TcpStream::new(alone.network.clone(), refused));
    alone.turn();
    assert!(weak.upgrade().is_none());
    let waiting = alone.network.open((PEER, 80).into());
    let weak = Arc::downgrade(&waiting);
    drop(alone.sockets);
    drop(waiting);
    assert!(weak.upgrade().is_none());
}
